/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * TIME_WAIT facts from the timer tracepoints, where neither fentry nor kprobes
 * may be used.  A mini-socket is the container of the timer whose function is
 * tw_timer_handler().
 *
 *   timer_start   its birth, or a re-arming
 *   timer_cancel  before each of: re-arming, expiry, an early end
 *   timer_expire_entry  its natural end
 *
 * What a cancellation was is read off the kernel stack (hooks/causes.h);
 * expiry, the common case, is told from the clock instead.
 */
#ifndef TWTRACE_HOOKS_TIMER_H
#define TWTRACE_HOOKS_TIMER_H

#include "hooks/causes.h"
#include "owner.h"
#include "stack.h"
#include "timewait.h"

/* Per CPU: the mini-socket not followed by us (it is older) that is just being
 * re-armed.  Updated: cancelled().  Cleared: started(), next in the same call
 * of mod_timer(), with interrupts off. */
BPF_PERCPU_ARRAY(rearming, u64, 1);

static __always_inline bool is_birth(u64 *ctx)
{
	struct stack *stack = read_stack(ctx, LANE_OTHERS);
	int i;

	if (!stack)
		return true;
	for (i = 0; i < STACK_FRAMES; i++)
		if (WITHIN(stack->ip[i], tcp_time_wait))
			return true;
	return false;
}

/* mod_timer() stays silent when the new expiry falls in the same wheel bucket,
 * but it does store it.  So a stored expiry that we have not seen tells that
 * the timer was started anew, the last time at expires - TCP_TIMEWAIT_LEN: what
 * is counted is a lower bound.  A FIN_WAIT2 mini-socket's timer is moved by
 * nothing but its turn to TIME_WAIT (tcp_timewait_state_process()), which leaves
 * the same expiry when it comes in the tick of the birth; `moving` when a move
 * that we do see is under way, perhaps just that. */
static __always_inline void catch_up(struct tw_info *info, struct inet_timewait_sock *tw,
				     bool moving)
{
	u64 stored = READ(tw, tw_timer.expires);
	u64 since = bpf_jiffies64() - (stored - TIMEWAIT_LEN_SECONDS * KERNEL_HZ);

	if (stored == info->expires &&
	    (info->turned || moving || READ(tw, tw_substate) != TCP_TIME_WAIT))
		return;
	info->expires = stored;
	if (info->turned) {
		info->rearmed++;
		return;
	}
	info->turned = bpf_ktime_get_ns() - since * (1000000000ULL / KERNEL_HZ);
	if (info->turned < info->born)
		info->turned = info->born;
}

static __always_inline void moved(struct tw_info *info, struct inet_timewait_sock *tw, u64 due)
{
	u64 expires = READ(tw, tw_timer.expires);

	if (!info->turned || expires != info->expires) /* else just to another CPU */
		tw_rearmed(info, tw);
	info->expires = expires;
	info->due = due;
	info->maybe_gone = 0;
}

/* All timers come by: nothing is done before this is asked. */
static __always_inline struct inet_timewait_sock *timewait_of(struct timer_list *timer)
{
	if (LOAD(timer, function) != START_tw_timer_handler)
		return NULL;
	return (void *)timer - OFFSET_inet_timewait_sock__tw_timer;
}

static __always_inline void started(u64 *ctx, struct inet_timewait_sock *tw)
{
	u64 key = (u64)tw;
	struct tw_info *info;
	u64 *old, due;
	u32 zero = 0;

#ifdef HAVE_BUCKET_EXPIRY
	/* since v6.8; before, the tracepoint passes (timer, expires, flags) */
	due = ctx[1];
#else
	due = READ(tw, tw_timer.expires);
#endif
	info = tws.lookup(&key);
	old = rearming.lookup(&zero);
	if (!old)
		return;
	if (*old == key) {
		*old = 0;
		if (info)
			moved(info, tw, due);
		return;
	}
	if (info && info->maybe_gone && !is_birth(ctx)) {
		moved(info, tw, due);
		return;
	}
	tw_born(tw, key, info, due);
}

static __always_inline void cancelled(u64 *ctx, struct inet_timewait_sock *tw)
{
	struct process_id by = {};
	struct tw_info *info;
	u64 key = (u64)tw;
	u64 *slot;
	u32 zero = 0;
	int cause;

	info = tws.lookup(&key);
	if (!info && in_other_netns(tw))
		return;
	if (info && (s64)(bpf_jiffies64() - info->due) >= 0) {
		/* The wheel is about to fire and timer_expire_entry to tell; only
		 * an end in these few milliseconds has to wait for the next use
		 * of this memory. */
		info->maybe_gone = 1;
		return;
	}
	cause = cause_of_end(ctx, tw);
	if (cause == CAUSE_EXPIRING)
		return;
	if (info) /* before mod_timer() stores a new expiry */
		catch_up(info, tw, cause == CAUSE_REARMED);
	if (cause == CAUSE_REARMED) {
		slot = rearming.lookup(&zero);
		if (slot)
			*slot = key;
		return;
	}
	if (cause == REASON_REUSED || cause == REASON_KILLED)
		current_process(&by);
	tw_ended(tw, key, info, cause, &by);
}

static __always_inline void expired(struct inet_timewait_sock *tw)
{
	const struct process_id nobody = {};
	struct tw_info *info;
	u64 key = (u64)tw;

	info = tws.lookup(&key);
	if (info)
		catch_up(info, tw, false);
	tw_ended(tw, key, info, REASON_EXPIRED, &nobody);
}

#endif
