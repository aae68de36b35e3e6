// SPDX-License-Identifier: BSD-3-Clause
/*
 * SIZE connections opened, then closed all at once by the clients, TIMES times
 * with a pause after each: bursts SIZE TIMES.  The pauses are not in the time.
 */
#include "load.h"
#include <pthread.h>

#define PAIRS 4
#define PAUSE_US 1000000

static int *room_for(int count)
{
	int *fds = calloc(count, sizeof(*fds));

	if (!fds)
		die("calloc");
	return fds;
}

static void client(const struct sockaddr_in *server, int pair, int count, int times,
		   pthread_barrier_t *all)
{
	int *fds = room_for(count);

	for (int burst = 0; burst < times; burst++) {
		pthread_barrier_wait(all);
		for (int i = 0; i < count; i++)
			fds[i] = connect_to(server, (burst * PAIRS + pair) * count + i);
		pthread_barrier_wait(all);
		for (int i = 0; i < count; i++)
			close(fds[i]);
		pthread_barrier_wait(all);
	}
	exit(0);
}

static void server(int listener, int count, int times, pthread_barrier_t *all)
{
	int *fds = room_for(count);
	char byte;

	for (int burst = 0; burst < times; burst++) {
		pthread_barrier_wait(all);
		for (int i = 0; i < count; i++) {
			fds[i] = accept(listener, NULL, NULL);
			if (fds[i] < 0)
				die("accept");
		}
		pthread_barrier_wait(all);
		for (int i = 0; i < count; i++) {
			if (read(fds[i], &byte, 1) != 0)
				die("read");
			close(fds[i]);
		}
		pthread_barrier_wait(all);
	}
	exit(0);
}

int main(int argc, char **argv)
{
	int each = number_at(argc, argv, 1, 4000) / PAIRS, times = number_at(argc, argv, 2, 1);
	pthread_barrier_t *all = shared(sizeof(*all));
	pthread_barrierattr_t attributes;
	struct sockaddr_in address;
	long long spent = 0;

	bounded();
	pthread_barrierattr_init(&attributes);
	pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(all, &attributes, 2 * PAIRS + 1);
	for (int pair = 0; pair < PAIRS; pair++) {
		int listener = listen_at(&address);

		if (!start("bench-server"))
			server(listener, each, times, all);
		close(listener);
		if (!start("bench-client"))
			client(&address, pair, each, times, all);
	}
	ready(&address);
	for (int burst = 0; burst < times; burst++) {
		long long began;

		pthread_barrier_wait(all);
		began = now_ns();
		pthread_barrier_wait(all);
		pthread_barrier_wait(all);
		spent += now_ns() - began;
		usleep(PAUSE_US);
	}
	for (int i = 0; i < 2 * PAIRS; i++)
		finish(-1);
	report((long long)PAIRS * each * times, spent);
	return 0;
}
