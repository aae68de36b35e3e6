// SPDX-License-Identifier: BSD-3-Clause
/*
 * A server that closes first, from two places: two COUNT.  Of ten connections three are
 * given up and seven finished; the client runs in a process of its own.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))
/* so that no call is a jump */
#define STAY __asm__ volatile("" ::: "memory")

NOINLINE void finish(int fd)
{
	close(fd); /* mark: finish */
	STAY;
}

NOINLINE void give_up(int fd)
{
	finish(fd); /* mark: give_up */
	STAY;
}

NOINLINE void serve(int fd, int number)
{
	char byte;

	if (read(fd, &byte, 1) != 1)
		exit(1);
	if (number % 10 < 3)
		give_up(fd); /* mark: serve gives up */
	else
		finish(fd); /* mark: serve finishes */
	STAY;
}

static void ask(struct sockaddr_in *server)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	char byte = 'x';

	if (connect(fd, (void *)server, sizeof(*server)) || write(fd, &byte, 1) != 1 || read(fd, &byte, 1))
		exit(1);
	close(fd);
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 100, listener = socket(AF_INET, SOCK_STREAM, 0), status;
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t length = sizeof(address);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (void *)&address, length) || listen(listener, 128) ||
	    getsockname(listener, (void *)&address, &length))
		return 1;
	if (!fork()) {
		for (int i = 0; i < count; i++)
			ask(&address);
		return 0;
	}
	for (int i = 0; i < count; i++)
		serve(accept(listener, NULL, NULL), i);
	return wait(&status) < 0 || status;
}
