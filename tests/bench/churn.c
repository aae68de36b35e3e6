// SPDX-License-Identifier: BSD-3-Clause
/*
 * One client, one server that closes first: churn COUNT [RATE [NAME]], as fast
 * as they can or RATE a second.
 */
#include "load.h"

static void wait_until(long long ns)
{
	struct timespec then = { .tv_sec = ns / SECOND, .tv_nsec = ns % SECOND };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &then, NULL);
}

int main(int argc, char **argv)
{
	int count = number_at(argc, argv, 1, 1000), rate = number_at(argc, argv, 2, 0);
	const char *name = argc > 3 ? argv[3] : "bench-churn";
	struct sockaddr_in address;
	int listener = listen_at(&address);
	long long began;
	pid_t server;

	bounded();
	prctl(PR_SET_NAME, name);
	server = start(name);
	if (!server)
		serve(listener, count);
	close(listener);
	ready(&address);
	began = now_ns();
	for (int i = 0; i < count; i++) {
		if (rate)
			wait_until(began + i * SECOND / rate);
		request(&address, i);
	}
	finish(server);
	report(count, now_ns() - began);
	return 0;
}
