/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Who is doing this.  Only to be asked in the context of a user of the socket:
 * in softirq `current` is whichever task was interrupted, on loopback the peer.
 */
#ifndef TWTRACE_OWNER_H
#define TWTRACE_OWNER_H

#include "kernel.h"
#include "output.h"

struct known_process {
	u64 start;
	struct comm comm;
	u32 pid;
	u32 pad;
};

/* pid → what we last reported of it.  Inserted and updated:
 * current_process(), when a process is new or has a new name (exec, prctl).
 * Deleted: least recently used first; such a process is reported again. */
BPF_TABLE("lru_hash", u32, struct known_process, reported, 16384);

#define LATELY 64

/* Per CPU, by the pid's last bits: one of those reported, to be found at less cost.
 * Updated: current_process().  Never deleted. */
BPF_PERCPU_ARRAY(lately, struct known_process, LATELY);

/* sk->sk_lock.owned is set while a task is inside lock_sock(); softirq leaves
 * such a socket alone and queues to its backlog, which that task then works
 * off.  So: owned means `current` is a user of this very socket, whatever the
 * preemption model, and no architecture's preempt_count has to be found. */
static __always_inline bool in_users_context(struct sock *sk)
{
	return LOAD(sk, sk_lock.owned) != 0;
}

#ifdef HAVE_TYPED_TASK
/* bpf_get_current_task_btf(), which the BCC of Debian 12 does not know by name */
static struct task_struct *(*current_task)(void) = (void *)158;
#define LOAD_OF_TASK LOAD
#else
#define current_task() ((struct task_struct *)bpf_get_current_task())
#define LOAD_OF_TASK READ
#endif

static __always_inline bool is_exiting(void)
{
	struct task_struct *task = current_task();

	return LOAD_OF_TASK(task, flags) & PF_EXITING;
}

static __always_inline bool is_known(const struct known_process *known,
				     const struct known_process *now)
{
	return known && known->pid == now->pid && known->start == now->start &&
	       known->comm.words[0] == now->comm.words[0] &&
	       known->comm.words[1] == now->comm.words[1];
}

static __always_inline void read_cmdline(struct process_event *pe, struct task_struct *leader)
{
	struct mm_struct *mm = READ(leader, mm);
	unsigned long start, length;

	/* No mm: a kernel thread, or past exit_mm(). */
	if (!mm)
		return;
	start = READ(mm, arg_start);
	length = READ(mm, arg_end) - start;
	if (length > CMDLINE_LEN - 1)
		length = CMDLINE_LEN - 1;
	if (!bpf_probe_read_user(pe->cmdline, length & (CMDLINE_LEN - 1), (void *)start))
		pe->cmdline_len = length;
}

/* Tells of a process; false if there was no room. */
static __always_inline bool report(const struct known_process *now, struct task_struct *leader)
{
	struct process_event *pe = processes.ringbuf_reserve(sizeof(struct process_event));

	if (!pe) {
		count(COUNT_LOST_PROCESS);
		return false;
	}
	pe->id.pid = now->pid;
	pe->id.pad = 0;
	pe->id.start = now->start;
	pe->cgroup = bpf_get_current_cgroup_id();
	pe->uid = bpf_get_current_uid_gid();
	pe->cmdline_len = 0;
	__builtin_memcpy(pe->comm, &now->comm, sizeof(pe->comm));
	read_cmdline(pe, leader);
	processes.ringbuf_submit(pe, BPF_RB_FORCE_WAKEUP);
	return true;
}

/* Names the current process: the thread group's leader, not the thread. */
static __always_inline void current_process(struct process_id *id)
{
	struct task_struct *task = current_task();
	struct task_struct *leader = LOAD_OF_TASK(task, group_leader);
	struct known_process now = {};
	struct known_process *last;
	u32 slot;

	now.pid = LOAD_OF_TASK(task, tgid);
	now.start = LOAD_OF_TASK(leader, start_boottime);
	now.comm = LOAD_OF_TASK(leader, comm);
	id->pid = now.pid;
	id->start = now.start;

	slot = now.pid % LATELY;
	last = lately.lookup(&slot);
	if (is_known(last, &now))
		return;
	if (!is_known(reported.lookup(&now.pid), &now)) {
		if (!report(&now, leader))
			return;
		reported.update(&now.pid, &now);
	}
	if (last)
		*last = now;
}

#endif
