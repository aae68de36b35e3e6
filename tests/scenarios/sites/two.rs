// SPDX-License-Identifier: BSD-3-Clause
//! The same as two.c, in Rust; client and server are one process.
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

#[inline(never)]
fn finish(connection: TcpStream) {
    drop(connection); // mark: finish
    black_box(0);
}

#[inline(never)]
fn give_up(connection: TcpStream) {
    finish(connection); // mark: give_up
    black_box(0);
}

#[inline(never)]
fn serve(mut connection: TcpStream, number: usize) {
    connection.read_exact(&mut [0]).unwrap();
    if number % 10 < 3 {
        give_up(connection); // mark: serve gives up
    } else {
        finish(connection); // mark: serve finishes
    }
    black_box(0);
}

fn ask(address: SocketAddr) {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.write_all(b"x").unwrap();
    let _ = connection.read(&mut [0]).unwrap();
}

fn main() {
    let count: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = std::thread::spawn(move || (0..count).for_each(|_| ask(address)));
    for number in 0..count {
        serve(listener.accept().unwrap().0, number);
    }
    client.join().unwrap();
}
