/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the kernel side can decide by itself: namespace, ports, family.  The
 * loader defines FILTER_* for the filters given; without any, nothing is
 * compared.  tracer/filters.py applies the same and the rest to every line.
 */
#ifndef TWTRACE_FILTER_H
#define TWTRACE_FILTER_H

#include "events.h"
#include "kernel.h"

static __always_inline u32 netns_of(struct sock_common *skc)
{
	struct net *net = LOAD(skc, skc_net);

	return LOAD(net, ns.inum);
}

static __always_inline bool netns_passes(u32 netns)
{
#ifdef FILTER_NETNS
	return netns == FILTER_NETNS;
#else
	return true;
#endif
}

static __always_inline bool endpoints_pass(const struct endpoints *ep, u8 family)
{
#ifdef FILTER_LOCAL_PORTS
	if (!(FILTER_LOCAL_PORTS(ep->sport)))
		return false;
#endif
#ifdef FILTER_REMOTE_PORTS
	if (!(FILTER_REMOTE_PORTS(ep->dport)))
		return false;
#endif
#ifdef FILTER_FAMILY
	if (family != FILTER_FAMILY)
		return false;
#endif
	return true;
}

static __always_inline void map_ipv4(u8 *to, __be32 addr)
{
	__be32 words[4] = { 0, 0, bpf_htonl(0xffff), addr };

	/* aligned as in struct endpoints; else it goes byte by byte */
	__builtin_memcpy(__builtin_assume_aligned(to, sizeof(u32)), words, sizeof(words));
}

static __always_inline bool is_mapped_ipv4(const u8 *addr)
{
	u64 high;
	u32 low;

	__builtin_memcpy(&high, addr, sizeof(high));
	__builtin_memcpy(&low, addr + 8, sizeof(low));
	return !high && low == bpf_htonl(0xffff);
}

/* Full socket and mini-socket share struct sock_common, so one path reads
 * both; the source port is the caller's.  Returns the family: 4 or 6, and 4 for
 * a mapped peer. */
static __always_inline u8 read_endpoints(struct endpoints *ep, struct sock_common *skc, u16 sport)
{
	ep->sport = sport;
	ep->dport = bpf_ntohs(LOAD(skc, skc_dport));
	if (LOAD(skc, skc_family) == AF_INET) {
		map_ipv4(ep->saddr, LOAD(skc, skc_rcv_saddr));
		map_ipv4(ep->daddr, LOAD(skc, skc_daddr));
		return 4;
	}
	bpf_probe_read_kernel(ep->saddr, sizeof(ep->saddr), &skc->skc_v6_rcv_saddr);
	bpf_probe_read_kernel(ep->daddr, sizeof(ep->daddr), &skc->skc_v6_daddr);
	return is_mapped_ipv4(ep->daddr) ? 4 : 6;
}

#endif
