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

/* Of a process, or of a CPU. */
struct sampled {
	u32 id;
	u32 what; /* enum site_what; ON_A_CPU */
};

#define ON_A_CPU 0xffff

struct sample {
	u64 since; /* ns: the present second's beginning */
	u32 seen;  /* in it */
	u32 before; /* in the one before */
};

/* How much there was to take lately.  Inserted and updated: is_sampled().  Deleted: least
 * recently used first. */
BPF_TABLE("lru_hash", struct sampled, struct sample, samples, 16384);

/* bpf_task_pt_regs(), dd6e10fbd9fb "bpf: Add bpf_task_pt_regs() helper" (v5.15) */
static struct pt_regs *(*user_registers)(struct task_struct *task) = (void *)175;

#define SECOND_NS 1000000000ULL

/* By chance, about `most` in a second; whatever the place, so that the shares of places
 * are those of all.  A count that two CPUs lose is one more or less. */
static __always_inline bool is_sampled(u32 id, u32 what, u32 most, u64 now)
{
	struct sampled key = { .id = id, .what = what };
	struct sample fresh = { .since = now, .seen = 1 };
	struct sample *known = samples.lookup(&key);
	u32 rate;

	if (!known) {
		samples.update(&key, &fresh);
		return true;
	}
	if (now - known->since >= SECOND_NS) {
		known->before = now - known->since < 2 * SECOND_NS ? known->seen : 0;
		known->seen = 0;
		known->since = now;
	}
	known->seen++;
	rate = known->seen > known->before ? known->seen : known->before;
	return rate <= most || (u64)bpf_get_prandom_u32() * rate < (u64)most << 32;
}

static __always_inline bool is_wanted(u32 pid, u32 what, u64 now)
{
#ifdef SITES_ALL
	return true;
#else
	return is_sampled(pid, what, SITES_OF_A_PROCESS, now) &&
	       is_sampled(bpf_get_smp_processor_id(), ON_A_CPU, SITES_OF_A_CPU, now);
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
	if (!sp || !is_wanted(who->pid, what, now))
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
