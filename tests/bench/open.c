// SPDX-License-Identifier: BSD-3-Clause
/*
 * Connections that are open and idle, both ends here: open COUNT.  As many
 * processes as the limit of open files makes necessary.
 */
#include "load.h"

#define SPARE_FILES 64
#define MOST_EACH 9000

/* Both ends of a connection are files. */
static int most_each(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		die("getrlimit");
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		die("setrlimit");
	if (limit.rlim_max <= 2 + SPARE_FILES) {
		fputs("too few open files allowed\n", stderr);
		exit(1);
	}
	if (limit.rlim_max > 2 * MOST_EACH + SPARE_FILES)
		return MOST_EACH;
	return (limit.rlim_max - SPARE_FILES) / 2;
}

static void hold(int first, int count, int told)
{
	struct sockaddr_in address;
	int listener = listen_at(&address);
	char byte = 'x';

	for (int i = 0; i < count; i++) {
		connect_to(&address, first + i);
		if (accept(listener, NULL, NULL) < 0)
			die("accept");
	}
	if (write(told, &byte, 1) != 1)
		die("write");
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	int count = number_at(argc, argv, 1, 500), each = most_each(), told[2];
	char byte;

	bounded();
	if (pipe(told))
		die("pipe");
	for (int first = 0; first < count; first += each) {
		int some = count - first < each ? count - first : each;

		if (!start("bench-open"))
			hold(first, some, told[1]);
		if (read(told[0], &byte, 1) != 1)
			die("read");
	}
	ready(NULL);
	report(count, 0);
	return 0;
}
