/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The mini-socket's life, whichever source it is told by (hooks/).  The kernel
 * keeps no owner in it, so its full socket hands one over: the birth comes first
 * (inside tcp_time_wait()), then the full socket's → CLOSE, which finds it.
 */
#ifndef TWTRACE_TIMEWAIT_H
#define TWTRACE_TIMEWAIT_H

#include "filter.h"
#include "output.h"
#include "table.h"

struct tw_info {
	u64 conn;    /* 0 until its full socket is known */
	u64 born;    /* ns */
	u64 birth;   /* its key in births */
	u64 turned;  /* ns: FIN_WAIT2 became TIME_WAIT; 0: not seen */
	u64 due;     /* jiffies: when the timer wheel fires; hooks/timer.h alone */
	u64 expires; /* jiffies: as last seen armed; hooks/timer.h alone */
	struct process_id owner;
	struct endpoints ep;
	u32 rearmed; /* since TIME_WAIT */
	u8 family;
	u8 substate;   /* at birth */
	u8 maybe_gone; /* cancelled when already due, see hooks/timer.h */
};

struct birth {
	u64 tw;
	u64 substate;
};

/* tw → what we know of it.  Inserted: tw_born().  Updated: link_time_wait(),
 * tw_rearmed().  Deleted: tw_ended().  The kernel frees none before its end. */
BPF_F_TABLE("hash", u64, struct tw_info, tws, MAX_TWS, BIG_MAP_FLAGS);

/* Mini-sockets whose full socket has yet to go to CLOSE, by what both have in
 * common, birth_of().
 * Inserted: tw_born().  Deleted: link_time_wait(), moments later; or
 * tw_ended(), if that transition was never seen. */
BPF_HASH(births, u64, struct birth, 4096);

/* Of one that is not followed: whether that is due to the filter by namespace. */
static __always_inline bool in_other_netns(struct inet_timewait_sock *tw)
{
#ifdef FILTER_NETNS
	struct net *net = READ(tw, __tw_common.skc_net);

	return !netns_passes(READ(net, ns.inum));
#else
	return false;
#endif
}

/* Reads what a mini-socket is about; false if the filters leave it out. */
static __always_inline bool read_time_wait(struct tw_info *info, struct inet_timewait_sock *tw)
{
	struct time_wait_copy copy;
	struct inet_timewait_sock *seen = copy_time_wait(&copy, tw);
	struct net *net = LOAD(seen, __tw_common.skc_net);

	info->ep.netns = READ(net, ns.inum);
	if (!netns_passes(info->ep.netns))
		return false;
	info->family =
		read_endpoints(&info->ep, &seen->__tw_common, bpf_ntohs(LOAD(seen, tw_sport)));
	info->birth = birth_of_copy(seen);
	info->substate = LOAD(seen, tw_substate);
	info->expires = LOAD(seen, tw_timer.expires);
	return endpoints_pass(&info->ep, info->family);
}

static __always_inline void send_tw_end(const struct tw_info *info, u64 now, u8 flags, u8 reason,
					const struct process_id *by)
{
	struct event *ev = new_event(EV_TW_END, now, COUNT_LOST_TW_END);

	if (!ev)
		return;
	ev->conn = info->conn;
	name_ends(ev, &info->ep, info->family, ROLE_UNKNOWN);
	ev->alike.closer = info->owner;
	ev->alike.by = *by;
	ev->alike.old = info->substate;
	ev->alike.reason = reason;
	ev->rearmed = info->rearmed;
	ev->alike.flags = flags;
	if (!info->conn && !(flags & EVF_PREEXISTING)) {
		ev->alike.flags |= EVF_UNLINKED;
		ev->conn = new_conn(LANE_OTHERS);
	}
	if (info->turned) {
		ev->alike.flags |= EVF_TURNED;
		ev->span_us = (now - info->turned) / 1000;
	}
	ev->dwell.fin_wait2 = ((info->turned ? info->turned : now) - info->born) / 1000;
	send_event(ev);
}

/* The end was not seen, but another lives at its address now. */
static __always_inline void tw_replaced(const struct tw_info *info, u64 key)
{
	const struct process_id nobody = {};

	send_tw_end(info, bpf_ktime_get_ns(), 0, REASON_UNKNOWN, &nobody);
	count(COUNT_TW_ENDED);
	tws.delete(&key);
}

static __always_inline void tw_born(struct inet_timewait_sock *tw, u64 due)
{
	struct tw_info info = {};
	struct birth birth = { .tw = (u64)tw };
	u64 tw_key = (u64)tw, birth_key;
	struct tw_info *last = tws.lookup(&tw_key);

	if (last)
		tw_replaced(last, tw_key);
	if (!read_time_wait(&info, tw))
		return;
	count(COUNT_TW_BORN);
	info.born = bpf_ktime_get_ns();
	if (info.substate == TCP_TIME_WAIT)
		info.turned = info.born;
	info.due = due;
	birth_key = info.birth;
	birth.substate = info.substate;
	births.update(&birth_key, &birth);
	if (tws.update(&tw_key, &info))
		count(COUNT_LOST_TWS);
}

#define CANNOT_TELL -1

/* Called at a full socket's → CLOSE.  Returns the substate of the mini-socket
 * that took its place, 0 if none did, or CANNOT_TELL; it is followed if there was room.  A birth that the kernel did not show
 * is made up for here. */
static __always_inline int link_time_wait(struct sock *sk, u64 birth_key, u64 conn,
					  const struct process_id *owner, u8 old, bool *followed)
{
	struct inet_timewait_sock *tw;
	struct birth *shown;
	struct tw_info *info;
	u64 key;
	int substate;

	if (old != TCP_FIN_WAIT2 && old != TCP_CLOSING)
		return 0;
	shown = births.lookup(&birth_key);
	if (shown) {
		key = shown->tw;
		substate = shown->substate;
	} else {
		if (!find_time_wait(&tw, READ(sk, __sk_common.skc_net), birth_key))
			return CANNOT_TELL;
		if (!tw)
			return 0;
		key = (u64)tw;
		substate = READ(tw, tw_substate);
		info = tws.lookup(&key);
		if (!info || info->conn || info->birth != birth_key) /* else births was full */
			tw_born(tw, READ(tw, tw_timer.expires));
	}
	births.delete(&birth_key);
	info = tws.lookup(&key);
	*followed = info;
	if (info) {
		info->conn = conn;
		info->owner = *owner;
	}
	return substate;
}

static __always_inline void tw_rearmed(struct tw_info *info, struct inet_timewait_sock *tw)
{
	if (info->turned)
		info->rearmed++;
	else if (READ(tw, tw_substate) == TCP_TIME_WAIT)
		info->turned = bpf_ktime_get_ns();
}

/* The end of a mini-socket whose memory is still its own.  Without `known` it
 * is older than us: user space knows it from the socket dump. */
static __always_inline void tw_ended(struct inet_timewait_sock *tw, u64 key,
				     const struct tw_info *known, u8 reason,
				     const struct process_id *by)
{
	u64 now = bpf_ktime_get_ns();
	struct tw_info info = {};
	u64 birth;

	if (!known) {
		if (!read_time_wait(&info, tw))
			return;
		info.born = now;
		send_tw_end(&info, now, EVF_PREEXISTING, reason, by);
		return;
	}
	send_tw_end(known, now, 0, reason, by);
	count(COUNT_TW_ENDED);
	if (!known->conn) {
		birth = known->birth;
		births.delete(&birth);
	}
	tws.delete(&key);
}

#endif
