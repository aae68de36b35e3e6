/* SPDX-License-Identifier: GPL-2.0-only */
/* The kernel's own table of connections, in which tcp_time_wait() puts the mini-socket. */
#ifndef TWTRACE_TABLE_H
#define TWTRACE_TABLE_H

#include "events.h"
#include "kernel.h"

/* What is declared of a mini-socket, to LOAD() from. */
struct time_wait_copy {
	struct inet_timewait_sock tw;
} __attribute__((aligned(8)));

static __always_inline struct inet_timewait_sock *copy_time_wait(struct time_wait_copy *copy,
								 const void *tw)
{
	bpf_probe_read_kernel(&copy->tw, sizeof(copy->tw), tw);
	return &copy->tw;
}

static __always_inline struct inet_hashinfo *table_of(struct net *net)
{
#ifdef DEATH_ROW_APART
	struct inet_timewait_death_row *row = LOAD(net, ipv4.tcp_death_row);

	return LOAD(row, hashinfo);
#else
	return LOAD(net, ipv4.tcp_death_row.hashinfo);
#endif
}

/* The mini-socket of that namespace, hash and ports, with a copy of it; NULL if there is
 * none; false if that cannot be told.  Others come and go while we look: who strays into
 * another chain finds that one's number at its end. */
static __always_inline bool find_time_wait(struct inet_timewait_sock **found,
					   struct time_wait_copy *copy, struct net *net, u32 hash,
					   const struct endpoints *ep)
{
	struct inet_hashinfo *table = table_of(net);
	struct inet_ehash_bucket *buckets = READ(table, ehash);
	u32 slot = hash & LOAD(table, ehash_mask);
	struct hlist_nulls_node *node = READ(&buckets[slot], chain.first);
	struct inet_timewait_sock *tw, *seen;
	int i;

	*found = NULL;
	for (i = 0; i < LONGEST_CHAIN; i++) {
		if ((u64)node & 1)
			return (u64)node >> 1 == slot;
		tw = (void *)node - OFFSET_sock_common__skc_nulls_node;
		seen = copy_time_wait(copy, tw);
		if (LOAD(seen, __tw_common.skc_hash) == hash &&
		    LOAD(seen, __tw_common.skc_state) == TCP_TIME_WAIT &&
		    bpf_ntohs(LOAD(seen, tw_sport)) == ep->sport &&
		    bpf_ntohs(LOAD(seen, __tw_common.skc_dport)) == ep->dport &&
		    LOAD(seen, __tw_common.skc_net) == net) {
			*found = tw;
			return true;
		}
		node = LOAD(seen, __tw_common.skc_nulls_node.next);
	}
	return false;
}

#endif
