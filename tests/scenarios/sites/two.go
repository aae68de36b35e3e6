// SPDX-License-Identifier: BSD-3-Clause

// The same as two.c, in Go; client and server are one process.
package main

import (
	"net"
	"os"
	"strconv"
)

var kept int

//go:noinline
func finish(connection net.Conn) {
	connection.Close() // mark: finish
	kept++
}

//go:noinline
func giveUp(connection net.Conn) {
	finish(connection) // mark: give_up
	kept++
}

//go:noinline
func serve(connection net.Conn, number int) {
	connection.Read(make([]byte, 1))
	if number%10 < 3 {
		giveUp(connection) // mark: serve gives up
	} else {
		finish(connection) // mark: serve finishes
	}
	kept++
}

func ask(address string) {
	connection, _ := net.Dial("tcp", address)
	connection.Write([]byte("x"))
	connection.Read(make([]byte, 1))
	connection.Close()
}

func main() {
	count, _ := strconv.Atoi(os.Args[1])
	listener, _ := net.Listen("tcp", "127.0.0.1:0")
	done := make(chan bool)
	go func() {
		for i := 0; i < count; i++ {
			ask(listener.Addr().String())
		}
		done <- true
	}()
	for i := 0; i < count; i++ {
		connection, _ := listener.Accept()
		serve(connection, i)
	}
	<-done
}
