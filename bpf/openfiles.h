/* SPDX-License-Identifier: GPL-2.0-only */
/* Who holds the sockets that were open before us: every process's files, in
 * every namespace, in one pass (iter/task_file). */
#ifndef TWTRACE_OPENFILES_H
#define TWTRACE_OPENFILES_H

#include "events.h"
#include "filter.h"
#include "iterator.h"
#include "kernel.h"

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	u32 fd;
	u32 pad;
	void *file;
};

/* bpf_sock_from_file, 4f19cab76136 "bpf: Add a bpf_sock_from_file helper" (v5.11) */
static struct socket *(*sock_from_file)(void *file) = (void *)162;

static __always_inline void report_open_file(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	void *file = ctx->file;
	struct open_socket found = {};
	struct socket *socket;
	struct comm comm;
	struct sock *sk;
	u16 family;

	if (!task || !file)
		return;
	socket = sock_from_file(file);
	if (!socket)
		return;
	sk = LOAD(socket, sk);
	if (!sk)
		return;
	family = LOAD(sk, __sk_common.skc_family);
	if ((family != AF_INET && family != AF_INET6) || LOAD(sk, sk_protocol) != IPPROTO_TCP)
		return;
	found.ep.netns = netns_of(&sk->__sk_common);
	if (!netns_passes(found.ep.netns))
		return;
	found.family = read_endpoints(&found.ep, &sk->__sk_common, bpf_ntohs(READ(sk, inet_sport)));
	found.state = LOAD(sk, __sk_common.skc_state);
	task = LOAD(task, group_leader);
	found.owner.pid = LOAD(task, tgid);
	found.owner.start = LOAD(task, start_boottime);
	comm = LOAD(task, comm);
	__builtin_memcpy(found.comm, &comm, sizeof(found.comm));
	seq_write(ctx->meta->seq, &found, sizeof(found));
}

#endif
