/* SPDX-License-Identifier: GPL-2.0-only */
/* The kernel's own table of connections, in which tcp_time_wait() puts the mini-socket. */
#ifndef TWTRACE_TABLE_H
#define TWTRACE_TABLE_H

#include "kernel.h"

static __always_inline u64 birth_of(u32 hash, u16 sport, u16 dport)
{
	return (u64)hash << 32 | (u32)sport << 16 | dport;
}

static __always_inline u64 birth_of_copy(struct inet_timewait_sock *tw)
{
	return birth_of(LOAD(tw, __tw_common.skc_hash), bpf_ntohs(LOAD(tw, tw_sport)),
			bpf_ntohs(LOAD(tw, __tw_common.skc_dport)));
}

static __always_inline struct inet_hashinfo *table_of(struct net *net)
{
#ifdef DEATH_ROW_APART
	struct inet_timewait_death_row *row = READ(net, ipv4.tcp_death_row);

	return READ(row, hashinfo);
#else
	return READ(net, ipv4.tcp_death_row.hashinfo);
#endif
}

/* The mini-socket of that namespace, hash and ports, NULL if there is none; false if that
 * cannot be told.  Others come and go while we look: who strays into another chain
 * finds that one's number at its end. */
static __always_inline bool find_time_wait(struct inet_timewait_sock **found, struct net *net,
					   u64 birth)
{
	struct inet_hashinfo *table = table_of(net);
	struct inet_ehash_bucket *buckets = READ(table, ehash);
	u32 slot = birth >> 32 & READ(table, ehash_mask);
	struct hlist_nulls_node *node = READ(&buckets[slot], chain.first);
	struct inet_timewait_sock *tw, *seen;
	struct time_wait_copy copy;
	int i;

	*found = NULL;
	for (i = 0; i < LONGEST_CHAIN; i++) {
		if ((u64)node & 1)
			return (u64)node >> 1 == slot;
		tw = (void *)node - OFFSET_sock_common__skc_nulls_node;
		seen = copy_time_wait(&copy, tw);
		if (LOAD(seen, __tw_common.skc_state) == TCP_TIME_WAIT &&
		    birth_of_copy(seen) == birth && LOAD(seen, __tw_common.skc_net) == net) {
			*found = tw;
			return true;
		}
		node = LOAD(seen, __tw_common.skc_nulls_node.next);
	}
	return false;
}

#endif
