/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * TIME_WAIT facts from the timer tracepoints, where neither fentry nor kprobes
 * may be used.  A mini-socket is the container of the timer whose function is
 * tw_timer_handler().
 *
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
#include "timewait.h"

#define TIMEWAIT_JIFFIES (TIMEWAIT_LEN_SECONDS * KERNEL_HZ)

/* include/linux/timer.h, kernel/time/timer.c: a timer's flags tell its bucket, of which
 * a level has 64; each level is 8 times as coarse as the one before. */
#define TIMER_ARRAYSHIFT 22
#define WHEEL_LEVEL_BITS 6
#define WHEEL_CLOCK_SHIFT 3

/* When the timer wheel fires: calc_index() in kernel/time/timer.c, for the level of the
 * bucket that the timer is in. */
static __always_inline u64 due(struct timer_list *timer)
{
	u32 level = LOAD(timer, flags) >> TIMER_ARRAYSHIFT >> WHEEL_LEVEL_BITS;
	u32 shift = level * WHEEL_CLOCK_SHIFT & 63;

	return ((LOAD(timer, expires) >> shift) + 1) << shift;
}

/* mod_timer() stays silent when the new expiry falls in the same wheel bucket,
 * but it does store it.  So a stored expiry that we have not seen tells that
 * the timer was started anew, the last time at expires - TCP_TIMEWAIT_LEN: what
 * is counted is a lower bound.  A FIN_WAIT2 mini-socket's timer is moved by
 * nothing but its turn to TIME_WAIT (tcp_timewait_state_process()), which leaves
 * the same expiry when it comes in the tick of the birth; `moving` when a move
 * that we do see is under way, perhaps just that. */
static __always_inline void catch_up(struct tw_info *info, struct timer_list *timer,
				     struct inet_timewait_sock *tw, bool moving)
{
	u64 stored = LOAD(timer, expires);
	u64 since = bpf_jiffies64() - (stored - TIMEWAIT_JIFFIES);

	if ((s64)(stored - info->expires) <= 0 &&
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

/* Before mod_timer() stores the new expiry, which tcp_timewait_state_process() has computed:
 * no later one than this, but ticks may have passed since, many in a guest without time. */
static __always_inline void moved(struct tw_info *info, struct inet_timewait_sock *tw)
{
	tw_rearmed(info, tw);
	info->expires = bpf_jiffies64() + TIMEWAIT_JIFFIES;
}

/* All timers come by: nothing is done before this is asked. */
static __always_inline struct inet_timewait_sock *timewait_of(struct timer_list *timer)
{
	if (LOAD(timer, function) != START_tw_timer_handler)
		return NULL;
	return (void *)timer - OFFSET_inet_timewait_sock__tw_timer;
}

static __always_inline void cancelled(u64 *ctx, struct timer_list *timer,
				      struct inet_timewait_sock *tw)
{
	struct process_id by = {};
	struct tw_info *info;
	int cause;

	/* The wheel is about to fire and timer_expire_entry to tell; only an end in
	 * these few milliseconds has to wait for the next use of this memory. */
	if ((s64)(bpf_jiffies64() - due(timer)) >= 0)
		return;
	info = look_up_time_wait(tw);
	if (!info && in_other_netns(tw))
		return;
	cause = cause_of_end(ctx, tw);
	if (cause == CAUSE_EXPIRING || cause == CAUSE_MOVED)
		return;
	if (info)
		catch_up(info, timer, tw, cause == CAUSE_REARMED);
	if (cause == CAUSE_REARMED) {
		if (info)
			moved(info, tw);
		return;
	}
	if (cause == REASON_REUSED || cause == REASON_KILLED)
		current_process(&by);
	tw_ended(tw, info, cause, &by);
}

static __always_inline void expired(struct timer_list *timer, struct inet_timewait_sock *tw)
{
	const struct process_id nobody = {};
	struct tw_info *info = look_up_time_wait(tw);

	if (info)
		catch_up(info, timer, tw, false);
	tw_ended(tw, info, REASON_EXPIRED, &nobody);
}

#endif
