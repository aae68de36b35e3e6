/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * TIME_WAIT facts from the timewait functions themselves, by fentry/fexit or by
 * kprobes: the two differ in how an argument is got at, and in that a kprobe at
 * a return has none.  kernel.md has the functions, version by version.
 *
 * Every end goes through inet_twsk_kill(); why, is what came just before it.
 */
#ifndef TWTRACE_HOOKS_FUNCTIONS_H
#define TWTRACE_HOOKS_FUNCTIONS_H

#ifdef HOOKS_KPROBE
#include <uapi/linux/ptrace.h>
#endif

#include "closing.h"
#include "owner.h"
#include "timewait.h"

/* AT_RETURN(n, kept): argument n in a program at the return; a kprobe takes
 * `kept`, which its program at the entry has put aside. */
#ifdef HOOKS_FENTRY
#define ENTRY(function) int kfunc__##function(u64 *ctx)
#define RETURN(function) int kretfunc__##function(u64 *ctx)
#define ARGUMENT(n) ctx[n]
#define RETURNED(function) ctx[ARGUMENTS_##function]
#define AT_RETURN(n, kept) ((void *)ctx[n])
#else
#define ENTRY(function) int entry__##function(struct pt_regs *ctx)
#define RETURN(function) int return__##function(struct pt_regs *ctx)
#define PARAMETER_0 PT_REGS_PARM1
#define PARAMETER_1 PT_REGS_PARM2
#define PARAMETER_2 PT_REGS_PARM3
#define ARGUMENT(n) PARAMETER_##n(ctx)
#define RETURNED(function) PT_REGS_RC(ctx)
#define AT_RETURN(n, kept) (kept)
#endif

/* enum tcp_tw_status, include/net/tcp.h */
#define TCP_TW_RST 1
#define TCP_TW_SYN 3

/* What is about to happen to which mini-socket. */
struct intent {
	u64 tw;	  /* 0: none; for an errand: any */
	u64 born; /* of this one alone, if not 0: the kill may yet not come */
	struct process_id by;
	u64 reason;
};

/* Per CPU: from here to inet_twsk_kill() bottom halves stay off.  Updated: by
 * all that may end one below, but errands; taken back by killed(), since the
 * next mini-socket may have that address.  Never deleted. */
BPF_PERCPU_ARRAY(intents, struct intent, 1);

/* Task → what it is about, where it may be preempted in between.  Inserted:
 * abort_begins(), purge_begins().  Deleted: purge_ends(); least recently used
 * first. */
BPF_TABLE("lru_hash", u64, struct intent, errands, 1024);

static __always_inline void intend(struct inet_timewait_sock *tw, u64 reason,
				   const struct process_id *by)
{
	u32 zero = 0;
	struct intent *intent = intents.lookup(&zero);

	if (!intent)
		return;
	intent->tw = (u64)tw;
	intent->born = 0;
	intent->reason = reason;
	intent->by = *by;
}

/* Where a listener may be missing, or the timer be faster on another CPU. */
static __always_inline void intend_this_one(struct intent *intent, u64 reason)
{
	u64 key = intent->tw;
	struct tw_info *info = tws.lookup(&key);

	intent->born = info ? info->born : 0;
	intent->reason = reason;
}

static __always_inline void born(struct inet_timewait_sock *tw, struct sock *sk)
{
	u64 key = (u64)tw, sk_key = (u64)sk;
	struct tw_info *info = tws.lookup(&key);
	struct sock_info *full = socks.lookup(&sk_key);

	/* DCCP had them too, until v6.16 */
	if (READ(sk, sk_protocol) != IPPROTO_TCP)
		return;
	if (info)
		tw_replaced(info, key);
	if (full)
		full->waits = 0;
	tw_born(tw, sk_key, 0);
}

/* Anew, since v7.3 or so only if rearm: the first time is inlined there. */
static __always_inline void scheduled(struct inet_timewait_sock *tw, bool rearm)
{
	u64 key = (u64)tw;
	struct tw_info *info;

	if (!rearm)
		return;
	info = tws.lookup(&key);
	if (info)
		tw_rearmed(info, tw);
}

static __always_inline void killed(struct inet_timewait_sock *tw)
{
	u64 key = (u64)tw;
	struct tw_info *info = tws.lookup(&key);
	struct process_id by = {};
	struct intent *intent;
	u64 task = bpf_get_current_pid_tgid();
	u64 reason = REASON_UNKNOWN;
	u32 zero = 0;

	intent = intents.lookup(&zero);
	if (intent && intent->tw == key) {
		intent->tw = 0;
		if (!intent->born || (info && info->born == intent->born)) {
			reason = intent->reason;
			by = intent->by;
		}
	}
	if (reason == REASON_UNKNOWN) {
		intent = errands.lookup(&task);
		if (intent && (!intent->tw || intent->tw == key))
			reason = intent->reason;
		if (reason == REASON_KILLED)
			current_process(&by);
	}
	tw_ended(tw, key, info, reason, &by);
}

static __always_inline void timer_fires(struct timer_list *timer)
{
	const struct process_id nobody = {};

	intend((void *)timer - OFFSET_inet_timewait_sock__tw_timer, REASON_EXPIRED, &nobody);
}

/* A mini-socket that is killed before the verdict has got a reset. */
static __always_inline void segment_comes(struct inet_timewait_sock *tw)
{
	const struct process_id nobody = {};

	intend(tw, REASON_RESET, &nobody);
}

static __always_inline void segment_judged(int verdict)
{
	u32 zero = 0;
	struct intent *intent = intents.lookup(&zero);

	if (!intent)
		return;
	if (verdict == TCP_TW_SYN)
		intend_this_one(intent, REASON_REPLACED);
	else if (verdict == TCP_TW_RST)
		intend_this_one(intent, REASON_RESET_SENT);
	else
		intent->tw = 0;
}

static __always_inline void reuse_allowed(struct inet_timewait_sock *tw)
{
	struct process_id me = {};
	u32 zero = 0;
	struct intent *intent = intents.lookup(&zero);

	current_process(&me);
	intend(tw, REASON_REUSED, &me);
	if (intent)
		intend_this_one(intent, REASON_REUSED);
}

/* Its own end is not awaited: where it is refused (5.10, 5.15) the mini-socket
 * lives on, and this task does not come back to it. */
static __always_inline void abort_begins(struct sock *sk)
{
	struct intent intent = { .tw = (u64)sk, .reason = REASON_KILLED };
	u64 task = bpf_get_current_pid_tgid();

	if (READ(sk, __sk_common.skc_state) == TCP_TIME_WAIT)
		errands.update(&task, &intent);
}

static __always_inline void purge_begins(void)
{
	struct intent intent = { .reason = REASON_NETNS_EXIT };
	u64 task = bpf_get_current_pid_tgid();

	errands.update(&task, &intent);
}

static __always_inline void purge_ends(void)
{
	u64 task = bpf_get_current_pid_tgid();

	errands.delete(&task);
}

/* tcp_time_wait(): if no mini-socket comes of it, there were too many. */
static __always_inline void wants_to_wait(struct sock *sk)
{
	u64 key = (u64)sk;
	struct sock_info *info = socks.lookup(&key);

	if (info)
		info->waits = 1;
}

#ifdef HOOKS_KPROBE

/* Per CPU: the mini-socket that tcp_twsk_unique() is asked about, with bottom
 * halves off.  Updated: reuse_considered().  Never deleted. */
BPF_PERCPU_ARRAY(candidates, u64, 1);

static __always_inline void reuse_considered(struct inet_timewait_sock *tw)
{
	u32 zero = 0;
	u64 *candidate = candidates.lookup(&zero);

	if (candidate)
		*candidate = (u64)tw;
}

static __always_inline void *considered(void)
{
	u32 zero = 0;
	u64 *candidate = candidates.lookup(&zero);

	return candidate ? (void *)*candidate : NULL;
}

#endif

#endif
