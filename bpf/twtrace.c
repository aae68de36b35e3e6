// SPDX-License-Identifier: GPL-2.0-only
/* Probe stubs only, one per hook: what they do is in the headers. */

#include "events.h"
#include "kernel.h"
#include "output.h"
#include "filter.h"
#include "owner.h"
#include "timewait.h"
#include "closing.h"
#include "hooks/timer.h"
#include "openfiles.h"

int transition_in_process(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (void *)ctx->args[0];

	if (in_users_context(sk))
		on_transition(sk, ctx->args[1], ctx->args[2], true);
	return 0;
}

int transition_in_softirq(struct bpf_raw_tracepoint_args *ctx)
{
	in_softirq((void *)ctx->args[0], ctx->args[1], ctx->args[2], false);
	return 0;
}

int transition_in_softirq_again(struct bpf_raw_tracepoint_args *ctx)
{
	in_softirq((void *)ctx->args[0], ctx->args[1], ctx->args[2], true);
	return 0;
}

/* tcp_rcv_space_adjust: inside tcp_recvmsg(), or a kernel reader in softirq */
int tcp_read(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (void *)ctx->args[0];

	if (in_users_context(sk))
		on_use(sk);
	return 0;
}

/* sock_send_length, sock_recv_length: at the end of a system call's send or
 * receive, when the socket is unlocked again but the caller is still here */
int socket_used(struct bpf_raw_tracepoint_args *ctx)
{
	on_use((void *)ctx->args[0]);
	return 0;
}

int timer_started(struct bpf_raw_tracepoint_args *ctx)
{
	started(ctx);
	return 0;
}

int timer_cancelled(struct bpf_raw_tracepoint_args *ctx)
{
	cancelled(ctx);
	return 0;
}

int timer_expired(struct bpf_raw_tracepoint_args *ctx)
{
	expired(ctx);
	return 0;
}

int bpf_iter__task_file(struct bpf_iter__task_file *ctx)
{
	report_open_file(ctx);
	return 0;
}
