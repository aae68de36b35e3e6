// SPDX-License-Identifier: BSD-3-Clause
/*
 * What the loads share.  Each sets itself up, prints "ready PORT", waits for a
 * line on stdin, runs, and prints "COUNT NANOSECONDS".  None outlives its
 * parent, or MOST_SECONDS.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST_SECONDS 300
#define SECOND 1000000000LL
#define BACKLOG 4096

/* 28,232 ports an address by default: one address for every 20,000. */
#define PER_ADDRESS 20000

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

static inline void die(const char *what)
{
	perror(what);
	exit(1);
}

static inline int number_at(int argc, char **argv, int index, int otherwise)
{
	return argc > index ? atoi(argv[index]) : otherwise;
}

static inline long long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * SECOND + now.tv_nsec;
}

static inline void bounded(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(MOST_SECONDS);
}

/* As fork(), for a child of that name. */
static inline pid_t start(const char *name)
{
	pid_t child = fork();

	if (child < 0)
		die("fork");
	if (!child) {
		bounded();
		prctl(PR_SET_NAME, name);
	}
	return child;
}

/* That child has ended well, or any if it is -1. */
static inline void finish(pid_t child)
{
	int status;

	if (waitpid(child, &status, 0) < 0 || status) {
		fputs("a child failed\n", stderr);
		exit(1);
	}
}

static inline void *shared(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		die("mmap");
	return memory;
}

/* A listening socket on a free port of the loopback. */
static inline int listen_at(struct sockaddr_in *address)
{
	socklen_t length = sizeof(*address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	*address = (struct sockaddr_in){ .sin_family = AF_INET };
	address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (void *)address, length) || listen(listener, BACKLOG) ||
	    getsockname(listener, (void *)address, &length))
		die("listen");
	return listener;
}

/* Connection number so and so to there. */
static inline int connect_to(const struct sockaddr_in *server, int number)
{
	struct sockaddr_in local = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	local.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + number / PER_ADDRESS);
	if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one)) ||
	    bind(fd, (void *)&local, sizeof(local)) ||
	    connect(fd, (const void *)server, sizeof(*server)))
		die("connect");
	return fd;
}

/* One byte there; the other end closes first. */
static inline void request(const struct sockaddr_in *server, int number)
{
	int fd = connect_to(server, number);
	char byte = 'x';

	if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 0)
		die("request");
	close(fd);
}

static inline void serve(int listener, int count)
{
	char byte;

	for (int i = 0; i < count; i++) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0 || read(fd, &byte, 1) != 1)
			die("accept, read");
		close(fd);
	}
	exit(0);
}

static inline void ready(const struct sockaddr_in *server)
{
	printf("ready %d\n", server ? ntohs(server->sin_port) : 0);
	fflush(stdout);
	if (getchar() == EOF)
		exit(0);
}

static inline void report(long long count, long long ns)
{
	printf("%lld %lld\n", count, ns);
	fflush(stdout);
}

#endif
