/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The mini-socket's life, whichever source it is told by (hooks/).  The kernel
 * keeps no owner in it, so its full socket hands one over: at its → CLOSE the
 * mini-socket is in the kernel's own table, tcp_time_wait() has just put it there.
 */
#ifndef TWTRACE_TIMEWAIT_H
#define TWTRACE_TIMEWAIT_H

#include "filter.h"
#include "output.h"
#include "table.h"

struct tw_info {
	u64 conn;
	u64 born;    /* ns */
	u64 turned;  /* ns: FIN_WAIT2 became TIME_WAIT; 0: not seen */
	u64 expires; /* jiffies: as last seen armed; hooks/timer.h alone */
	struct process_id owner;
	struct endpoints ep;
	u32 hash;    /* tells it from another at its address */
	u32 rearmed; /* since TIME_WAIT */
	u8 family;
	u8 substate; /* at birth */
	u8 role;
};

/* tw → what we know of it.  Inserted: link_time_wait().  Updated: tw_rearmed().
 * Deleted: tw_ended(), tw_replaced().  The kernel frees none before its end.  Entries are
 * allocated at start: on demand each costs 300 ns more, and an RCU callback later. */
BPF_TABLE("hash", u64, struct tw_info, tws, MAX_TWS);

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
	info->substate = LOAD(seen, tw_substate);
	return endpoints_pass(&info->ep, info->family);
}

static __always_inline void send_tw_end(const struct tw_info *info, u64 now, u8 flags, u8 reason,
					const struct process_id *by)
{
	struct event *ev = new_event(EV_TW_END, now, COUNT_LOST_TW_END);

	if (!ev)
		return;
	ev->conn = info->conn;
	name_ends(ev, &info->ep, info->family, info->role);
	ev->alike.closer = info->owner;
	ev->alike.by = *by;
	ev->alike.old = info->substate;
	ev->alike.reason = reason;
	ev->rearmed = info->rearmed;
	ev->alike.flags = flags;
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

/* What we know of a mini-socket; NULL if it is none of those that we follow. */
static __always_inline struct tw_info *look_up_time_wait(struct inet_timewait_sock *tw)
{
	u64 key = (u64)tw;
	struct tw_info *info = tws.lookup(&key);

	if (info && info->hash != READ(tw, __tw_common.skc_hash)) {
		tw_replaced(info, key);
		return NULL;
	}
	return info;
}

#define CANNOT_TELL -1

/* Returns the substate of the mini-socket that took a full socket's place, 0 if none
 * did, or CANNOT_TELL; it is followed if there was room for it. */
static __always_inline int link_time_wait(struct tw_info *info, struct sock *sk, bool *followed)
{
	struct inet_timewait_sock *tw, *seen;
	struct time_wait_copy copy;
	struct tw_info *last;
	long failed;
	u64 key;

	if (!find_time_wait(&tw, &copy, LOAD(sk, __sk_common.skc_net), info->hash, &info->ep))
		return CANNOT_TELL;
	if (!tw)
		return 0;
	seen = &copy.tw;
	info->substate = LOAD(seen, tw_substate);
	info->expires = LOAD(seen, tw_timer.expires);
	if (info->substate == TCP_TIME_WAIT)
		info->turned = info->born;
	count(COUNT_TW_BORN);
	key = (u64)tw;
	failed = tws.insert(&key, info);
	if (failed == -EEXIST) {
		last = tws.lookup(&key);
		if (last)
			tw_replaced(last, key);
		failed = tws.insert(&key, info);
	}
	if (failed)
		count(COUNT_LOST_TWS);
	*followed = !failed;
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
static __always_inline void tw_ended(struct inet_timewait_sock *tw, const struct tw_info *known,
				     u8 reason, const struct process_id *by)
{
	u64 key = (u64)tw, now = bpf_ktime_get_ns();
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
