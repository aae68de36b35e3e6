/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The mini-socket's life.  The kernel keeps no owner in it, so its full socket
 * hands one over: the birth comes first (inside tcp_time_wait()), then the full
 * socket's → CLOSE, which finds the birth by hash and ports.
 */
#ifndef TWTRACE_TIMEWAIT_H
#define TWTRACE_TIMEWAIT_H

#include "filter.h"
#include "output.h"

struct tw_info {
	u64 conn;    /* 0 until its full socket is known */
	u64 born;    /* ns */
	u64 turned;  /* ns: FIN_WAIT2 became TIME_WAIT; 0: not seen */
	u64 due;     /* jiffies: when the timer wheel fires */
	u64 expires; /* jiffies: as last seen armed */
	struct process_id owner;
	struct endpoints ep;
	u32 rearmed; /* since TIME_WAIT */
	u8 family;
	u8 substate;   /* at birth */
	u8 maybe_gone; /* cancelled when already due, see hooks/timer.h */
};

struct birth_key {
	u32 hash;
	u16 sport;
	u16 dport;
};

/* tw → what we know of it.  Inserted: tw_born().  Updated: link_time_wait(),
 * tw_rearmed().  Deleted: tw_ended().  The kernel frees none before its end. */
BPF_F_TABLE("hash", u64, struct tw_info, tws, MAX_TWS, BIG_MAP_FLAGS);

/* Mini-sockets whose full socket has yet to go to CLOSE.  Inserted: tw_born().
 * Deleted: link_time_wait(), moments later; or tw_ended(), if that transition
 * was never seen. */
BPF_HASH(births, struct birth_key, u64, 4096);

static __always_inline void birth_key_of(struct birth_key *key, struct inet_timewait_sock *tw)
{
	key->hash = READ(tw, __tw_common.skc_hash);
	key->sport = bpf_ntohs(READ(tw, tw_sport));
	key->dport = bpf_ntohs(READ(tw, __tw_common.skc_dport));
}

/* Reads what a mini-socket is about; false if the filters leave it out. */
static __always_inline bool read_time_wait(struct tw_info *info, struct inet_timewait_sock *tw)
{
	info->ep.netns = netns_of(&tw->__tw_common);
	if (!netns_passes(info->ep.netns))
		return false;
	info->family = read_endpoints(&info->ep, &tw->__tw_common, READ(tw, tw_sport));
	info->substate = READ(tw, tw_substate);
	info->expires = READ(tw, tw_timer.expires);
	return endpoints_pass(&info->ep, info->family);
}

static __always_inline void tw_born(struct inet_timewait_sock *tw, u64 due)
{
	struct tw_info info = {};
	struct birth_key key;
	u64 tw_key = (u64)tw;

	if (!read_time_wait(&info, tw))
		return;
	count(COUNT_TW_BORN);
	info.born = bpf_ktime_get_ns();
	if (info.substate == TCP_TIME_WAIT)
		info.turned = info.born;
	info.due = due;
	if (tws.update(&tw_key, &info)) {
		count(COUNT_LOST_TWS);
		return;
	}
	birth_key_of(&key, tw);
	births.update(&key, &tw_key);
}

/* Called at a full socket's → CLOSE.  Returns the substate of the mini-socket
 * that took its place, 0 if none did. */
static __always_inline int link_time_wait(u32 hash, const struct endpoints *ep, u64 conn,
					  const struct process_id *owner, u8 old)
{
	struct birth_key key = { .hash = hash, .sport = ep->sport, .dport = ep->dport };
	struct tw_info *info;
	u64 *found;
	u64 tw;

	if (old != TCP_FIN_WAIT2 && old != TCP_CLOSING)
		return 0;
	found = births.lookup(&key);
	if (!found)
		return 0;
	tw = *found;
	births.delete(&key);
	info = tws.lookup(&tw);
	if (!info)
		return 0;
	info->conn = conn;
	info->owner = *owner;
	return info->substate;
}

/* mod_timer() stays silent when the new expiry falls in the same wheel bucket,
 * but it does store it.  So a stored expiry that we have not seen tells that
 * the timer was started anew at expires - TCP_TIMEWAIT_LEN.  A FIN_WAIT2
 * mini-socket's timer is moved by nothing but its turn to TIME_WAIT
 * (tcp_timewait_state_process()). */
static __always_inline void catch_up(struct tw_info *info, u64 stored, u64 now)
{
	u64 armed = stored - TIMEWAIT_LEN_SECONDS * KERNEL_HZ;

	if (stored == info->expires)
		return;
	info->expires = stored;
	if (info->turned) {
		info->rearmed++;
		return;
	}
	info->turned = now - (bpf_jiffies64() - armed) * (1000000000ULL / KERNEL_HZ);
	if (info->turned < info->born)
		info->turned = info->born;
}

static __always_inline void tw_rearmed(struct tw_info *info, struct inet_timewait_sock *tw, u64 due)
{
	u64 expires = READ(tw, tw_timer.expires);
	bool moved = expires != info->expires; /* not just to another CPU */

	info->expires = expires;
	info->due = due;
	info->maybe_gone = 0;
	if (info->turned)
		info->rearmed += moved;
	else if (READ(tw, tw_substate) == TCP_TIME_WAIT)
		info->turned = bpf_ktime_get_ns();
}

static __always_inline void send_tw_end(const struct tw_info *info, u64 now, u8 flags, u8 reason,
					const struct process_id *by)
{
	struct event *ev = new_event(EV_TW_END, now, COUNT_LOST_TW_END);

	if (!ev)
		return;
	ev->ep = info->ep;
	ev->family = info->family;
	ev->conn = info->conn;
	ev->closer = info->owner;
	ev->by = *by;
	ev->old = info->substate;
	ev->reason = reason;
	ev->rearmed = info->rearmed;
	ev->flags = flags;
	if (!info->conn && !(flags & EVF_PREEXISTING)) {
		ev->flags |= EVF_UNLINKED;
		ev->conn = new_conn(LANE_TIMER);
	}
	if (info->turned) {
		ev->flags |= EVF_TURNED;
		ev->span_us = (now - info->turned) / 1000;
	}
	ev->dwell.fin_wait2 = ((info->turned ? info->turned : now) - info->born) / 1000;
	send_event(ev);
}

/* The end of a mini-socket whose memory is still its own.  Without `known` it
 * is older than us: user space knows it from the socket dump. */
static __always_inline void tw_ended(struct inet_timewait_sock *tw, u64 key,
				     const struct tw_info *known, u8 reason,
				     const struct process_id *by)
{
	u64 now = bpf_ktime_get_ns();
	struct tw_info info = {};
	struct birth_key birth;

	if (!known) {
		if (!read_time_wait(&info, tw))
			return;
		info.born = now;
		send_tw_end(&info, now, EVF_PREEXISTING, reason, by);
		return;
	}
	info = *known;
	catch_up(&info, READ(tw, tw_timer.expires), now);
	send_tw_end(&info, now, 0, reason, by);
	count(COUNT_TW_ENDED);
	if (!info.conn) {
		birth_key_of(&birth, tw);
		births.delete(&birth);
	}
	tws.delete(&key);
}

/* The end was not seen, but another lives at its address now. */
static __always_inline void tw_replaced(const struct tw_info *info, u64 key)
{
	const struct process_id nobody = {};

	send_tw_end(info, bpf_ktime_get_ns(), 0, REASON_UNKNOWN, &nobody);
	count(COUNT_TW_ENDED);
	tws.delete(&key);
}

#endif
