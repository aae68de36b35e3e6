/* SPDX-License-Identifier: GPL-2.0-only */
/* Why a mini-socket's timer is cancelled, or why it ends: read off the kernel
 * stack, for what no argument tells. */
#ifndef TWTRACE_HOOKS_CAUSES_H
#define TWTRACE_HOOKS_CAUSES_H

#include "stack.h"

enum cause {
	CAUSE_REARMED = 0x100, /* or an enum reason */
	CAUSE_EXPIRING = 0x101,
	CAUSE_MOVED = 0x102, /* to another CPU */
};

/* What one return address says, 0 if nothing. */
static __always_inline int cause_of_frame(u64 ip, struct inet_timewait_sock *tw)
{
	if (WITHIN(ip, mod_timer) || WITHIN(ip, mod_timer_pending) || WITHIN(ip, __mod_timer))
		return CAUSE_REARMED;
	if (WITHIN(ip, timers_dead_cpu))
		return CAUSE_MOVED;
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
static __always_inline int cause_of_end(void *ctx, struct inet_timewait_sock *tw)
{
	int i, cause = cause_of_frame(end_of_trail(ctx), tw);
	struct stack *stack;

	if (cause)
		return cause;
	stack = read_stack(ctx, LANE_OTHERS);
	if (!stack)
		return REASON_UNKNOWN;
	for (i = 0; i < STACK_FRAMES; i++) {
		cause = cause_of_frame(stack->ip[i], tw);
		stack->frame = i;
		stack->cause = cause;
		if (cause)
			break;
	}
	cause = stack->cause;
	if (cause && cause < CAUSE_REARMED)
		learn_trail(stack);
	return cause;
}

#endif
