// SPDX-License-Identifier: BSD-3-Clause
/* PROCESSES clients that start at once, with EACH connections: processes PROCESSES EACH. */
#include "load.h"

#define SERVERS 4

static void client(const struct sockaddr_in *server, int first, int count, int go)
{
	char byte;

	/* End of file is the signal. */
	if (read(go, &byte, 1) != 0)
		die("read");
	for (int i = 0; i < count; i++)
		request(server, first + i);
	exit(0);
}

int main(int argc, char **argv)
{
	int processes = number_at(argc, argv, 1, 100), each = number_at(argc, argv, 2, 10);
	struct sockaddr_in addresses[SERVERS];
	int go[2];
	long long began;

	bounded();
	for (int i = 0; i < SERVERS; i++) {
		int clients = processes / SERVERS + (i < processes % SERVERS);
		int listener = listen_at(&addresses[i]);

		if (!start("bench-server"))
			serve(listener, clients * each);
		close(listener);
	}
	if (pipe(go))
		die("pipe");
	for (int i = 0; i < processes; i++) {
		char name[32];

		snprintf(name, sizeof(name), "bench-%d", i);
		if (!start(name)) {
			close(go[1]);
			client(&addresses[i % SERVERS], i * each, each, go[0]);
		}
	}
	ready(&addresses[0]);
	began = now_ns();
	close(go[1]);
	for (int i = 0; i < SERVERS + processes; i++)
		finish(-1);
	report((long long)processes * each, now_ns() - began);
	return 0;
}
