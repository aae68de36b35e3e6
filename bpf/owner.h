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
};

/* pid → what we last reported of it.  Inserted and updated:
 * current_process(), when a process is new or has a new name (exec, prctl).
 * Deleted: least recently used first; such a process is reported again. */
BPF_TABLE("lru_hash", u32, struct known_process, reported, 16384);

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

static __always_inline bool same_comm(const struct comm *a, const struct comm *b)
{
	return a->words[0] == b->words[0] && a->words[1] == b->words[1];
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

/* Names the current process: the thread group's leader, not the thread. */
static __always_inline void current_process(struct process_id *id)
{
	struct task_struct *task = current_task();
	struct task_struct *leader = LOAD_OF_TASK(task, group_leader);
	struct known_process now = {};
	struct known_process *known;
	struct process_event *pe;
	u32 pid = LOAD_OF_TASK(task, tgid);

	now.start = LOAD_OF_TASK(leader, start_boottime);
	now.comm = LOAD_OF_TASK(leader, comm);
	id->pid = pid;
	id->start = now.start;

	known = reported.lookup(&pid);
	if (known && known->start == now.start && same_comm(&known->comm, &now.comm))
		return;

	pe = processes.ringbuf_reserve(sizeof(struct process_event));
	if (!pe) {
		count(COUNT_LOST_PROCESS);
		return;
	}
	pe->id.pid = pid;
	pe->id.pad = 0;
	pe->id.start = now.start;
	pe->cgroup = bpf_get_current_cgroup_id();
	pe->uid = bpf_get_current_uid_gid();
	pe->cmdline_len = 0;
	__builtin_memcpy(pe->comm, &now.comm, sizeof(pe->comm));
	read_cmdline(pe, leader);
	processes.ringbuf_submit(pe, BPF_RB_FORCE_WAKEUP);
	reported.update(&pid, &now);
}

#endif
