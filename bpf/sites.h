/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where in its program a process closes or opens a connection: the registers it entered
 * the kernel with and the top of its stack, for user space to unwind.  Debian's programs
 * keep no frame pointers, so the kernel could not.
 */
#ifndef TWTRACE_SITES_H
#define TWTRACE_SITES_H

#include "owner.h"

#ifdef WITH_SITES

#ifdef bpf_target_x86
#define USER_SP 152 /* of struct pt_regs, arch/x86/include/asm/ptrace.h */
#define REGISTERS_BYTES 168
#else
#define USER_SP 248 /* of struct user_pt_regs, arch/arm64/include/uapi/asm/ptrace.h */
#define REGISTERS_BYTES 272
#endif

#define STACK_PIECE 1024
#define STACK_PIECES (STACK_BYTES / STACK_PIECE)

/* A ring of its own, with records of one size.  Inserted: take_site().  Consumed:
 * tracer/kernel/sites.py. */
BPF_RINGBUF_OUTPUT(sites, SITE_RING_PAGES);

/* Of a process, or of a place in it. */
struct place {
	u32 pid;
	u32 what;
	u64 word; /* on top of the stack: in a plain system call the return address; 0: any */
};

struct allowance {
	u64 since; /* ns */
	u64 taken;
};

/* What was taken of it lately.  Inserted and updated: take_site().  Deleted: least
 * recently used first. */
BPF_TABLE("lru_hash", struct place, struct allowance, allowances, 16384);

/* bpf_task_pt_regs(), dd6e10fbd9fb "bpf: Add bpf_task_pt_regs() helper" (v5.15) */
static struct pt_regs *(*user_registers)(struct task_struct *task) = (void *)175;

#define SECOND_NS 1000000000ULL

static __always_inline bool is_allowed(const struct place *place, u64 most, u64 now)
{
	struct allowance *known = allowances.lookup((struct place *)place);
	struct allowance fresh = { .since = now, .taken = 1 };

	if (known && now - known->since < SECOND_NS) {
		known->taken++; /* a lost count is one more stack */
		return known->taken <= most;
	}
	allowances.update((struct place *)place, &fresh);
	return true;
}

static __always_inline bool is_wanted(u32 pid, u32 what, u64 sp, u64 now)
{
#ifdef SITES_ALL
	return true;
#else
	struct place place = { .pid = pid, .what = what };

	if (bpf_probe_read_user(&place.word, sizeof(place.word), (void *)sp))
		return false;
	if (!is_allowed(&place, SITES_OF_A_PLACE, now))
		return false;
	/* what lies there may be anything: then each is a place of its own */
	place.word = 0;
	return is_allowed(&place, SITES_OF_A_PROCESS, now);
#endif
}

/* To be called in the context of `who`, with what it is doing. */
static __always_inline void take_site(u64 conn, const struct process_id *who, u32 what)
{
	struct pt_regs *registers = user_registers(current_task());
	u64 sp = 0, now = bpf_ktime_get_ns();
	struct site_event *event;
	int i;

	bpf_probe_read_kernel(&sp, sizeof(sp), (void *)registers + USER_SP);
	if (!sp || !is_wanted(who->pid, what, sp, now))
		return;
	event = sites.ringbuf_reserve(sizeof(struct site_event));
	if (!event) {
		count(COUNT_LOST_SITES);
		return;
	}
	event->ts = now;
	event->conn = conn;
	event->process = *who;
	event->what = what;
	bpf_probe_read_kernel(event->registers, REGISTERS_BYTES, registers);
	/* in pieces, since the stack may end before; each of an untorn program is there or not */
#pragma unroll
	for (i = 0; i < STACK_PIECES; i++)
		if (bpf_probe_read_user(event->stack + i * STACK_PIECE, STACK_PIECE,
					(void *)sp + i * STACK_PIECE))
			break;
	event->length = i * STACK_PIECE;
	sites.ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

#else

static __always_inline void take_site(u64 conn, const struct process_id *who, u32 what)
{
}

#endif

#endif
