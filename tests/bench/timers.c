// SPDX-License-Identifier: BSD-3-Clause
/*
 * Timers without closes, for SECONDS: request and response, and bulk transfers,
 * over connections that stay.  Each segment arms timers of TCP; each read that
 * waits arms the one of its time-out.  Counts round trips.
 */
#include "load.h"
#include <sys/time.h>

#define TALKING 32
#define BULK 4
#define CHUNK 65536

static void with_timeout(int fd)
{
	struct timeval limit = { .tv_sec = 10 };

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)))
		die("setsockopt");
}

static void echo(int fd)
{
	char byte;

	while (read(fd, &byte, 1) == 1 && write(fd, &byte, 1) == 1)
		;
	exit(0);
}

static void ask(int fd, volatile long long *trips)
{
	char byte = 'x';

	while (write(fd, &byte, 1) == 1 && read(fd, &byte, 1) == 1)
		++*trips;
	exit(0);
}

static void send_all(int fd)
{
	static char chunk[CHUNK];

	while (write(fd, chunk, sizeof(chunk)) > 0)
		;
	exit(0);
}

static void receive_all(int fd)
{
	static char chunk[CHUNK];

	while (read(fd, chunk, sizeof(chunk)) > 0)
		;
	exit(0);
}

/* Until the parent closes its end. */
static void wait_for(int go)
{
	char byte;

	if (read(go, &byte, 1) != 0)
		die("read");
}

static void pair_up(int number, int *near, int *far)
{
	struct sockaddr_in address;
	int listener = listen_at(&address);

	*near = connect_to(&address, number);
	*far = accept(listener, NULL, NULL);
	if (*far < 0)
		die("accept");
	close(listener);
	with_timeout(*near);
	with_timeout(*far);
}

static long long total(volatile long long *trips)
{
	long long sum = 0;

	for (int i = 0; i < TALKING; i++)
		sum += trips[i];
	return sum;
}

int main(int argc, char **argv)
{
	int seconds = number_at(argc, argv, 1, 1), near, far, go[2];
	volatile long long *trips = shared(TALKING * sizeof(*trips));
	long long began;

	bounded();
	if (pipe(go))
		die("pipe");
	for (int i = 0; i < TALKING + BULK; i++) {
		pair_up(i, &near, &far);
		if (!start("bench-far")) {
			close(go[1]);
			wait_for(go[0]);
			i < TALKING ? echo(far) : receive_all(far);
		}
		if (!start("bench-near")) {
			close(go[1]);
			wait_for(go[0]);
			i < TALKING ? ask(near, &trips[i]) : send_all(near);
		}
	}
	ready(NULL);
	began = now_ns();
	close(go[1]);
	sleep(seconds);
	report(total(trips), now_ns() - began);
	return 0;
}
