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
#include "timewait.h"

#define STACK_FRAMES 20

struct stack {
	u64 ip[STACK_FRAMES];
};

/* Per CPU: the mini-socket not followed by us (it is older) that is just being
 * re-armed.  Updated: cancelled().  Cleared: started(), next in the same call
 * of mod_timer(), with interrupts off. */
BPF_PERCPU_ARRAY(rearming, u64, 1);

#define WITHIN(ip, symbol) ((ip) >= START_##symbol && (ip) < END_##symbol)

enum cause {
	CAUSE_REARMED = 0x100, /* or an enum reason */
	CAUSE_EXPIRING = 0x101,
};

/* What one return address says, 0 if nothing.  The loader gives the range of
 * each symbol, an empty one where the kernel has no such symbol. */
static __always_inline int cause_of_frame(u64 ip)
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
	return 0;
}

/* Innermost frame first, so that a caller further out (softirq runs on top of
 * whatever it interrupted) cannot be taken for the cause. */
static __always_inline int cancel_cause(struct bpf_raw_tracepoint_args *ctx)
{
	struct stack stack = {};
	int i, cause;

	if (bpf_get_stack(ctx, &stack, sizeof(stack), 0) <= 0)
		return REASON_UNKNOWN;
	for (i = 0; i < STACK_FRAMES; i++) {
		cause = cause_of_frame(stack.ip[i]);
		if (cause)
			return cause;
		/* SYN or reset sent: which one, the stack does not say */
		if (WITHIN(stack.ip[i], tcp_v4_rcv) || WITHIN(stack.ip[i], tcp_v6_rcv))
			return REASON_UNKNOWN;
	}
	return REASON_UNKNOWN;
}

static __always_inline bool is_birth(struct bpf_raw_tracepoint_args *ctx)
{
	struct stack stack = {};
	int i;

	if (bpf_get_stack(ctx, &stack, sizeof(stack), 0) <= 0)
		return true;
	for (i = 0; i < STACK_FRAMES; i++)
		if (WITHIN(stack.ip[i], tcp_time_wait))
			return true;
	return false;
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
			tw_rearmed(info, tw, due);
		return;
	}
	if (info) {
		if (info->maybe_gone && !is_birth(ctx)) {
			tw_rearmed(info, tw, due);
			return;
		}
		tw_replaced(info, key);
	}
	tw_born(tw, due);
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
	cause = cancel_cause(ctx);
	if (cause == CAUSE_EXPIRING)
		return;
	if (cause == CAUSE_REARMED) {
		if (info) /* before mod_timer() stores the new one */
			catch_up(info, READ(tw, tw_timer.expires), bpf_ktime_get_ns());
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
	u64 key = (u64)tw;

	if (tw)
		tw_ended(tw, key, tws.lookup(&key), REASON_EXPIRED, &nobody);
}

#endif
