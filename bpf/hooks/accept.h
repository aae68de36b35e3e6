/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Who accepted, where a kprobe on inet_csk_accept() would hide whatever
 * interrupts it: told when accept() returns to its caller.  x86-64 alone.
 *
 * A socket that io_uring or a 32-bit program accepts has an owner from its
 * first use on.
 */
#ifndef TWTRACE_HOOKS_ACCEPT_H
#define TWTRACE_HOOKS_ACCEPT_H

#include "closing.h"

/* arch/x86/entry/syscalls/syscall_64.tbl */
#define NR_ACCEPT 43
#define NR_ACCEPT4 288
/* The number is one of syscall_32.tbl. */
#define TS_COMPAT 0x0002

/* The socket behind a descriptor of the current task; NULL if it is none.  Another
 * thread may just have given the number to another file. */
static __always_inline struct sock *socket_behind(struct task_struct *task, u32 fd)
{
	struct files_struct *files = READ(task, files);
	struct fdtable *table = READ(files, fdt);
	struct file **open = READ(table, fd);
	struct file *file = NULL;
	struct socket *socket;

	if (fd >= READ(table, max_fds))
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), &open[fd]);
	socket = READ(file, private_data);
	/* nothing but a socket points back to its file there */
	if (!file || READ(socket, file) != file)
		return NULL;
	return READ(socket, sk);
}

/* sys_exit: the end of a system call, of any.  The map of those that are followed
 * tells whether the socket is TCP. */
static __always_inline void system_call_ends(struct pt_regs *regs, long result)
{
	struct task_struct *task;
	unsigned long number;
	struct sock *sk;

	if (result < 0)
		return;
	number = LOAD(regs, orig_ax);
	if (number != NR_ACCEPT && number != NR_ACCEPT4)
		return;
	task = (struct task_struct *)bpf_get_current_task();
	if (READ(task, thread_info.status) & TS_COMPAT)
		return;
	sk = socket_behind(task, result);
	if (sk)
		name_user((u64)sk, SITE_ACCEPT);
}

#endif
