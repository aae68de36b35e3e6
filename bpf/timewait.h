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
	u64 due;     /* jiffies: when the timer wheel fires; hooks/timer.h alone */
	u64 conn;    /* 0 until its full socket is known */
	u64 born;    /* ns */
	u64 birth;   /* what it has in common with its full socket: birth_of() */
	u64 turned;  /* ns: FIN_WAIT2 became TIME_WAIT; 0: not seen */
	u64 expires; /* jiffies: as last seen armed; hooks/timer.h alone */
	struct process_id owner;
	struct endpoints ep;
	u32 rearmed; /* since TIME_WAIT */
	u8 family;
	u8 substate;   /* at birth */
	u8 maybe_gone; /* cancelled when already due, see hooks/timer.h */
};

struct newborn {
	u64 tw;
	u64 birth;
};

/* tw → what we know of it.  Inserted: tw_born().  Updated: link_time_wait(),
 * tw_rearmed().  Deleted: tw_ended().  The kernel frees none before its end. */
BPF_F_TABLE("hash", u64, struct tw_info, tws, MAX_TWS, BIG_MAP_FLAGS);

/* Per CPU: the last birth.  Its full socket is next to go to CLOSE, in the same
 * call of tcp_time_wait(), unless that is interrupted by another's or goes on
 * elsewhere.  Updated: tw_born().  Never cleared: it only says where to look, tws
 * and the kernel's own table say what is true. */
BPF_PERCPU_ARRAY(newborns, struct newborn, 1);

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

/* `last` is what was known of another at that address. */
static __always_inline void tw_born(struct inet_timewait_sock *tw, u64 key,
				    const struct tw_info *last, u64 due)
{
	struct tw_info info = {};
	struct newborn *newborn;
	u32 zero = 0;

	if (last)
		tw_replaced(last, key);
	if (!read_time_wait(&info, tw))
		return;
	count(COUNT_TW_BORN);
	info.born = bpf_ktime_get_ns();
	if (info.substate == TCP_TIME_WAIT)
		info.turned = info.born;
	info.due = due;
	newborn = newborns.lookup(&zero);
	if (newborn) {
		newborn->tw = key;
		newborn->birth = info.birth;
	}
	if (tws.update(&key, &info))
		count(COUNT_LOST_TWS);
}

#define CANNOT_TELL -1

static __always_inline bool waits_for_its_owner(const struct tw_info *info, u64 birth)
{
	return info && info->birth == birth && !info->conn;
}

/* Called at a full socket's → CLOSE.  Returns the substate of the mini-socket that took
 * its place, 0 if none did, or CANNOT_TELL; it is followed if there was room for it.  A
 * birth that the kernel did not show is made up for here. */
static __always_inline int link_time_wait(struct sock *sk, u64 birth_key, u64 conn,
					  const struct process_id *owner, u8 old, bool *followed)
{
	struct inet_timewait_sock *tw;
	struct newborn *newborn;
	struct tw_info *info;
	u32 zero = 0;
	u64 key = 0;

	*followed = false;
	if (old != TCP_FIN_WAIT2 && old != TCP_CLOSING)
		return 0;
	newborn = newborns.lookup(&zero);
	if (newborn && newborn->birth == birth_key)
		key = newborn->tw;
	info = key ? tws.lookup(&key) : NULL;
	if (!waits_for_its_owner(info, birth_key)) {
		if (!find_time_wait(&tw, LOAD(sk, __sk_common.skc_net), birth_key))
			return CANNOT_TELL;
		if (!tw)
			return 0;
		if (key == (u64)tw) /* there was no room for it */
			return READ(tw, tw_substate);
		key = (u64)tw;
		info = tws.lookup(&key);
		if (!waits_for_its_owner(info, birth_key)) {
			tw_born(tw, key, info, READ(tw, tw_timer.expires));
			info = tws.lookup(&key);
			if (!info)
				return READ(tw, tw_substate);
		}
	}
	*followed = true;
	info->conn = conn;
	info->owner = *owner;
	return info->substate;
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

	if (!known) {
		if (!read_time_wait(&info, tw))
			return;
		info.born = now;
		send_tw_end(&info, now, EVF_PREEXISTING, reason, by);
		return;
	}
	send_tw_end(known, now, 0, reason, by);
	count(COUNT_TW_ENDED);
	tws.delete(&key);
}

#endif
