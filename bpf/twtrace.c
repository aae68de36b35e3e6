// SPDX-License-Identifier: GPL-2.0-only
/* Probe stubs only, one per hook: what they do is in the headers. */

#include "events.h"
#include "kernel.h"
#include "output.h"
#include "filter.h"
#include "owner.h"
#include "timewait.h"
#include "sites.h"
#include "closing.h"
#include "halfclosed.h"
#include "openfiles.h"
#include "hooks/causes.h"
#ifdef HOOKS_TIMER
#include "hooks/timer.h"
#else
#include "hooks/functions.h"
#endif
#ifdef WITH_SYS_EXIT
#include "hooks/accept.h"
#endif

/* inet_sock_set_state, see on_transition(). */
int transition_packet(u64 *ctx)
{
	on_transition(ctx, LANE_PACKET);
	return 0;
}

int transition_task(u64 *ctx)
{
	on_transition(ctx, LANE_TASK);
	return 0;
}

#if TASK_COPIES > 1
int transition_task_2(u64 *ctx)
{
	on_transition(ctx, LANE_TASK_2);
	return 0;
}

int transition_task_3(u64 *ctx)
{
	on_transition(ctx, LANE_TASK_3);
	return 0;
}
#endif

/* tcp_rcv_space_adjust: inside tcp_recvmsg(), or a kernel reader in softirq */
int tcp_read(u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];

	if (in_users_context(sk))
		name_user((u64)sk, SITE_USE);
	return 0;
}

/* sock_send_length, sock_recv_length: at the end of a system call's send or
 * receive, when the socket is unlocked again but the caller is still here */
int socket_sent(u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];

	if (LOAD(sk, sk_protocol) == IPPROTO_TCP)
		name_user((u64)sk, SITE_USE);
	return 0;
}

int socket_received(u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];

	if (LOAD(sk, sk_protocol) == IPPROTO_TCP)
		name_user((u64)sk, SITE_USE);
	return 0;
}

#ifdef HOOKS_TIMER

int timer_cancelled(u64 *ctx)
{
	struct timer_list *timer = (void *)ctx[0];
	struct inet_timewait_sock *tw = timewait_of(timer);

	if (tw)
		cancelled(ctx, timer, tw);
	return 0;
}

int timer_expired(u64 *ctx)
{
	struct timer_list *timer = (void *)ctx[0];
	struct inet_timewait_sock *tw = timewait_of(timer);

	if (tw)
		expired(timer, tw);
	return 0;
}

#else

/* The birth or, if the third argument says so, a re-arming. */
ENTRY(__inet_twsk_schedule)
{
	if ((u8)ARGUMENT(2))
		rearmed((void *)ARGUMENT(0));
	return 0;
}

/* Every end comes by here, once. */
ENTRY(inet_twsk_kill)
{
	killed(ctx, (void *)ARGUMENT(0));
	return 0;
}

ENTRY(tw_timer_handler)
{
	timer_fires((void *)ARGUMENT(0));
	return 0;
}

#ifdef HOOKS_FENTRY
ENTRY(tcp_time_wait)
{
	wants_to_wait((void *)ARGUMENT(0));
	return 0;
}

RETURN(inet_csk_accept)
{
	struct sock *sk = (void *)RETURNED(inet_csk_accept);

	if (sk)
		name_user((u64)sk, SITE_ACCEPT);
	return 0;
}
#endif

#ifdef WITH_SYS_EXIT
/* sys_exit */
int system_call(u64 *ctx)
{
	system_call_ends((void *)ctx[0], ctx[1]);
	return 0;
}
#endif

#endif

int bpf_iter__task_file(struct bpf_iter__task_file *ctx)
{
	report_open_file(ctx);
	return 0;
}

int bpf_iter__bpf_map_elem(struct bpf_iter__bpf_map_elem *ctx)
{
	report_half_closed(ctx);
	return 0;
}
