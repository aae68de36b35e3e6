// SPDX-License-Identifier: BSD-3-Clause
/*
 * One server process and one client process, closing connections as fast as
 * they can: churn COUNT.  The server closes first.  Prints the two pids.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* 28,232 ports an address by default: one address for every 20,000. */
#define PER_ADDRESS 20000

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void serve(int listener, int count)
{
	char byte;

	prctl(PR_SET_NAME, "churn-server");
	for (int i = 0; i < count; i++) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0 || read(fd, &byte, 1) != 1)
			die("accept, read");
		close(fd);
	}
	exit(0);
}

static void request(struct sockaddr_in *server, int number)
{
	struct sockaddr_in local = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	char byte = 'x';

	local.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + number / PER_ADDRESS);
	if (setsockopt(fd, IPPROTO_IP, 24 /* IP_BIND_ADDRESS_NO_PORT */, &one, sizeof(one)) ||
	    bind(fd, (void *)&local, sizeof(local)) || connect(fd, (void *)server, sizeof(*server)))
		die("connect");
	if (write(fd, &byte, 1) != 1)
		die("write");
	if (read(fd, &byte, 1) != 0)
		die("read");
	close(fd);
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	int count = argc > 1 ? atoi(argv[1]) : 1000, status = 0;
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	pid_t server;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (void *)&address, sizeof(address)) || listen(listener, 128) ||
	    getsockname(listener, (void *)&address, &length))
		die("listen");
	server = fork();
	if (!server)
		serve(listener, count);
	close(listener);
	prctl(PR_SET_NAME, "churn-client");
	for (int i = 0; i < count; i++)
		request(&address, i);
	if (waitpid(server, &status, 0) != server || status)
		die("server");
	printf("%d %d\n", server, getpid());
	return 0;
}
