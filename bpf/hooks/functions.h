/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * TIME_WAIT facts from the timewait functions themselves, by fentry or by
 * kprobes: the two differ in how an argument is got at.  kernel.md has the
 * functions, version by version.
 *
 * Every end goes through inet_twsk_kill().  That its timer fired, the common
 * case, is noted just before; for the rest the kernel stack tells.
 *
 * While a kprobe's program runs, any other kprobe hit on that CPU is skipped;
 * while one of fentry's does, that same one.  So they sit only where bottom
 * halves are off and none can interrupt another; but for fentry's programs whose
 * dropped runs lose next to nothing.
 */
#ifndef TWTRACE_HOOKS_FUNCTIONS_H
#define TWTRACE_HOOKS_FUNCTIONS_H

#include "closing.h"
#include "hooks/causes.h"
#include "owner.h"
#include "timewait.h"

#ifdef HOOKS_FENTRY
#define ENTRY(function) int kfunc__##function(u64 *ctx)
#define RETURN(function) int kretfunc__##function(u64 *ctx)
#define ARGUMENT(n) ctx[n]
#define RETURNED(function) ctx[ARGUMENTS_##function]
#else
#define ENTRY(function) int entry__##function(struct pt_regs *ctx)
#define PARAMETER_0 PT_REGS_PARM1
#define PARAMETER_1 PT_REGS_PARM2
#define PARAMETER_2 PT_REGS_PARM3
#define ARGUMENT(n) PARAMETER_##n(ctx)
#endif

/* Per CPU: the mini-socket whose timer has fired; from there to
 * inet_twsk_kill() bottom halves stay off.  Updated: timer_fires().  Cleared:
 * killed(), since the next mini-socket may have that address. */
BPF_PERCPU_ARRAY(fired, u64, 1);

static __always_inline void rearmed(struct inet_timewait_sock *tw)
{
	struct tw_info *info = look_up_time_wait(tw);

	if (info)
		tw_rearmed(info, tw);
}

static __always_inline void timer_fires(struct timer_list *timer)
{
	u32 zero = 0;
	u64 *slot = fired.lookup(&zero);

	if (slot)
		*slot = (u64)timer - OFFSET_inet_timewait_sock__tw_timer;
}

/* A timer whose handler we were not shown is on the stack as well: where
 * trampolines are just being changed, calls pass them by (seen on v6.12), and a
 * kprobe that interrupts another is skipped. */
static __always_inline u8 why_killed(void *ctx, struct inet_timewait_sock *tw)
{
	u32 zero = 0;
	u64 *slot = fired.lookup(&zero);
	int cause;

	if (slot && *slot == (u64)tw) {
		*slot = 0;
		return REASON_EXPIRED;
	}
	cause = cause_of_end(ctx, tw);
	if (cause == CAUSE_EXPIRING)
		return REASON_EXPIRED;
	return cause < CAUSE_REARMED ? cause : REASON_UNKNOWN;
}

static __always_inline void killed(void *ctx, struct inet_timewait_sock *tw)
{
	struct process_id by = {};
	struct tw_info *info = look_up_time_wait(tw);
	u8 reason;

	if (!info && in_other_netns(tw))
		return;
	reason = why_killed(ctx, tw);
	if (reason == REASON_KILLED || reason == REASON_REUSED)
		current_process(&by);
	tw_ended(tw, info, reason, &by);
}

/* tcp_time_wait(): if no mini-socket comes of it, there were too many. */
static __always_inline void wants_to_wait(struct sock *sk)
{
	struct sock_info *info = known((u64)sk);

	if (info)
		info->waits = 1;
}

#endif
