/* SPDX-License-Identifier: GPL-2.0-only */
/* What leaves the kernel: the rings and the counters. */
#ifndef TWTRACE_OUTPUT_H
#define TWTRACE_OUTPUT_H

#include "events.h"

/* Inserted: every program here.  Consumed: tracer/kernel/ring.py. */
BPF_RINGBUF_OUTPUT(events, EVENT_RING_PAGES);

/* A ring of its own, so that every record in either has one size.  Inserted:
 * current_process().  Consumed: before the events that refer to it, see
 * tracer/kernel/ring.py. */
BPF_RINGBUF_OUTPUT(processes, PROCESS_RING_PAGES);

/* Updated: count().  Read: tracer/kernel/loader.py.  Never deleted. */
BPF_PERCPU_ARRAY(counters, u64, COUNTERS);

/* Atomic although per CPU: a packet may interrupt a program in process context,
 * and its programs count as well. */
static __always_inline u64 count(u32 which)
{
	u64 *value = counters.lookup(&which);

	if (!value)
		return 0;
	__sync_fetch_and_add(value, 1);
	return *value;
}

/* A number of our own for each connection, from open to the end of TIME_WAIT:
 * the socket cookie is 0 in most (kernel.md section 5).  Within a CPU's lane no
 * number is taken while another is, so that none comes twice.  Below 2^53 for
 * 2047 CPUs and 2^39 connections in each lane. */
static __always_inline u64 new_conn(u32 lane)
{
	u64 cpu = bpf_get_smp_processor_id();

	return (cpu << 3 | lane) << 39 | count(COUNT_CONNS + lane);
}

static __always_inline struct event *new_event(u8 type, u64 now, u32 lost_counter)
{
	struct event *ev = events.ringbuf_reserve(sizeof(struct event));

	if (!ev) {
		count(lost_counter);
		return NULL;
	}
	__builtin_memset(ev, 0, sizeof(*ev));
	ev->ts = now;
	ev->alike.type = type;
	return ev;
}

static __always_inline void name_ends(struct event *ev, const struct endpoints *ep, u8 family,
				      u8 role)
{
	bool serves = role == ROLE_SERVER;

	__builtin_memcpy(ev->alike.saddr, ep->saddr, sizeof(ep->saddr));
	__builtin_memcpy(ev->alike.daddr, ep->daddr, sizeof(ep->daddr));
	ev->alike.netns = ep->netns;
	ev->alike.family = family;
	ev->alike.role = role;
	ev->alike.service = serves ? ep->sport : ep->dport;
	ev->port = serves ? ep->dport : ep->sport;
}

/* The reader looks in by itself several times a second; between that each CPU
 * wakes it by every so many of its records, before the ring is a quarter full. */
static __always_inline void send_event(struct event *ev)
{
	bool wake = count(COUNT_SENT) % EVENTS_PER_WAKEUP == 0;

	events.ringbuf_submit(ev, wake ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
}

#endif
