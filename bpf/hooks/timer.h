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
 * What a cancellation was is read off the kernel stack; expiry, the common
 * case, is told from the clock instead.
 */
#ifndef TWTRACE_HOOKS_TIMER_H
#define TWTRACE_HOOKS_TIMER_H

#include "owner.h"
#include "stack.h"
#include "timewait.h"

/* Per CPU: the mini-socket not followed by us (it is older) that is just being
 * re-armed.  Updated: cancelled().  Cleared: started(), next in the same call
 * of mod_timer(), with interrupts off. */
BPF_PERCPU_ARRAY(rearming, u64, 1);

enum cause {
	CAUSE_REARMED = 0x100, /* or an enum reason */
	CAUSE_EXPIRING = 0x101,
};

/* What one return address says, 0 if nothing. */
static __always_inline int cause_of_frame(u64 ip, struct inet_timewait_sock *tw)
{
	if (WITHIN(ip, mod_timer) || WITHIN(ip, mod_timer_pending) || WITHIN(ip, __mod_timer) ||
	    WITHIN(ip, timers_dead_cpu))
		return CAUSE_REARMED;
	/* which of them has a frame of its own depends on inlining and tail calls */
	if (WITHIN(ip, __run_timers) || WITHIN(ip, expire_timers) ||
	    WITHIN(ip, timer_expire_remote) || WITHIN(ip, run_timer_softirq))
		return CAUSE_EXPIRING;
	if (WITHIN(ip, tcp_timewait_state_process))
		return REASON_RESET;
	if (WITHIN(ip, __inet_hash_connect) || WITHIN(ip, __inet_check_established) ||
	    WITHIN(ip, __inet6_check_established))
		return REASON_REUSED;
	if (WITHIN(ip, tcp_abort))
		return REASON_KILLED;
	if (WITHIN(ip, inet_twsk_purge))
		return REASON_NETNS_EXIT;
	/* tcp_timewait_state_process() returned TCP_TW_RST, which it does in
	 * FIN_WAIT2 only, or TCP_TW_SYN, which it does in TIME_WAIT only */
	if (WITHIN(ip, tcp_v4_rcv) || WITHIN(ip, tcp_v6_rcv))
		return READ(tw, tw_substate) == TCP_FIN_WAIT2 ? REASON_RESET_SENT : REASON_REPLACED;
	return 0;
}

/* Innermost frame first, so that a caller further out (softirq runs on top of
 * whatever it interrupted) cannot be taken for the cause. */
static __always_inline int cancel_cause(struct bpf_raw_tracepoint_args *ctx,
					struct inet_timewait_sock *tw)
{
	struct stack *stack = read_stack(ctx, LANE_OTHERS);
	int i, cause;

	if (!stack)
		return REASON_UNKNOWN;
	for (i = 0; i < STACK_FRAMES; i++) {
		cause = cause_of_frame(stack->ip[i], tw);
		if (cause)
			return cause;
	}
	return REASON_UNKNOWN;
}

static __always_inline bool is_birth(struct bpf_raw_tracepoint_args *ctx)
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
 * nothing but its turn to TIME_WAIT (tcp_timewait_state_process()). */
static __always_inline void catch_up(struct tw_info *info, struct inet_timewait_sock *tw)
{
	u64 stored = READ(tw, tw_timer.expires);
	u64 since = bpf_jiffies64() - (stored - TIMEWAIT_LEN_SECONDS * KERNEL_HZ);

	if (stored == info->expires)
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

static __always_inline void born(struct inet_timewait_sock *tw, u64 due)
{
	u64 birth = birth_of(READ(tw, __tw_common.skc_hash), bpf_ntohs(READ(tw, tw_sport)),
			     bpf_ntohs(READ(tw, __tw_common.skc_dport)));

	tw_born(tw, birth, due);
}

static __always_inline struct inet_timewait_sock *timewait_of(struct timer_list *timer)
{
	if (READ(timer, function) != TW_TIMER_HANDLER)
		return NULL;
	return (void *)timer - OFFSET_inet_timewait_sock__tw_timer;
}

static __always_inline void started(struct bpf_raw_tracepoint_args *ctx)
{
	struct inet_timewait_sock *tw = timewait_of((void *)ctx->args[0]);
	u64 key = (u64)tw;
	struct tw_info *info;
	u64 *old, due;
	u32 zero = 0;

	if (!tw)
		return;
#ifdef HAVE_BUCKET_EXPIRY
	/* since v6.8; before, the tracepoint passes (timer, expires, flags) */
	due = ctx->args[1];
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
	if (info) {
		if (info->maybe_gone && !is_birth(ctx)) {
			moved(info, tw, due);
			return;
		}
		tw_replaced(info, key);
	}
	born(tw, due);
}

static __always_inline void cancelled(struct bpf_raw_tracepoint_args *ctx)
{
	struct inet_timewait_sock *tw = timewait_of((void *)ctx->args[0]);
	struct process_id by = {};
	struct tw_info *info;
	u64 key = (u64)tw;
	u64 *slot;
	u32 zero = 0;
	int cause;

	if (!tw || !netns_passes(netns_of(&tw->__tw_common)))
		return;
	info = tws.lookup(&key);
	if (info && (s64)(bpf_jiffies64() - info->due) >= 0) {
		/* The wheel is about to fire and timer_expire_entry to tell; only
		 * an end in these few milliseconds has to wait for the next use
		 * of this memory. */
		info->maybe_gone = 1;
		return;
	}
	cause = cancel_cause(ctx, tw);
	if (cause == CAUSE_EXPIRING)
		return;
	if (info) /* before mod_timer() stores a new expiry */
		catch_up(info, tw);
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

static __always_inline void expired(struct bpf_raw_tracepoint_args *ctx)
{
	struct inet_timewait_sock *tw = timewait_of((void *)ctx->args[0]);
	const struct process_id nobody = {};
	struct tw_info *info;
	u64 key = (u64)tw;

	if (!tw)
		return;
	info = tws.lookup(&key);
	if (info)
		catch_up(info, tw);
	tw_ended(tw, key, info, REASON_EXPIRED, &nobody);
}

#endif
