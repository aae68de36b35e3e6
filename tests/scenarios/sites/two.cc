// SPDX-License-Identifier: BSD-3-Clause
// The same as two.c, in C++: a member function, and a template in a namespace.
#include <arpa/inet.h>
#include <cstdlib>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))
#define STAY __asm__ volatile("" ::: "memory")

namespace shop
{
struct Till {
	NOINLINE void finish(int fd)
	{
		close(fd); /* mark: finish */
		STAY;
	}
};

template <typename Where> NOINLINE void give_up(Where &where, int fd)
{
	where.finish(fd); /* mark: give_up */
	STAY;
}

NOINLINE void serve(Till &till, int fd, int number)
{
	char byte;

	if (read(fd, &byte, 1) != 1)
		exit(1);
	if (number % 10 < 3)
		give_up(till, fd); /* mark: serve gives up */
	else
		till.finish(fd); /* mark: serve finishes */
	STAY;
}
} // namespace shop

static void ask(sockaddr_in *server)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	char byte = 'x';

	if (connect(fd, (sockaddr *)server, sizeof(*server)) || write(fd, &byte, 1) != 1 || read(fd, &byte, 1))
		exit(1);
	close(fd);
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 100, listener = socket(AF_INET, SOCK_STREAM, 0), status;
	sockaddr_in address = {};
	socklen_t length = sizeof(address);
	shop::Till till;

	address.sin_family = AF_INET;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (sockaddr *)&address, length) || listen(listener, 128) ||
	    getsockname(listener, (sockaddr *)&address, &length))
		return 1;
	if (!fork()) {
		for (int i = 0; i < count; i++)
			ask(&address);
		return 0;
	}
	for (int i = 0; i < count; i++)
		shop::serve(till, accept(listener, nullptr, nullptr), i);
	return wait(&status) < 0 || status;
}
