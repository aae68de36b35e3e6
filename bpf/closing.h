/* SPDX-License-Identifier: GPL-2.0-only */
/* A full socket from its first transition to CLOSE: who, in which states for
 * how long, and how it ended. */
#ifndef TWTRACE_CLOSING_H
#define TWTRACE_CLOSING_H

#include "filter.h"
#include "owner.h"
#include "sites.h"
#include "socks.h"
#include "stack.h"
#include "timewait.h"

static __always_inline void add_dwell(struct dwell *d, u8 state, u64 us)
{
	switch (state) {
	case TCP_ESTABLISHED:
		d->established += us;
		break;
	case TCP_CLOSE_WAIT:
		d->close_wait += us;
		break;
	case TCP_FIN_WAIT2:
		d->fin_wait2 += us;
		break;
	case TCP_SYN_SENT:
		d->syn_sent += us;
		break;
	case TCP_SYN_RECV:
		d->syn_recv += us;
		break;
	case TCP_FIN_WAIT1:
		d->fin_wait1 += us;
		break;
	case TCP_LAST_ACK:
		d->last_ack += us;
		break;
	case TCP_CLOSING:
		d->closing += us;
		break;
	}
}

/* skc_num is 0 once the port was given back; the verifier takes inet_sport to be
 * outside of a struct sock. */
static __always_inline u16 source_port(struct sock *sk)
{
	u16 number = LOAD(sk, __sk_common.skc_num);

	return number ? number : bpf_ntohs(READ(sk, inet_sport));
}

static __always_inline void fill_endpoints(struct sock_info *info, struct sock *sk)
{
	info->family = read_endpoints(&info->ep, &sk->__sk_common, source_port(sk));
	info->hash = LOAD(sk, __sk_common.skc_hash);
}

/* connect() sets SYN_SENT before it has picked a port, and a child is set to
 * SYN_RECV while it still is a copy of its listener. */
static __always_inline bool endpoints_pending(u8 new)
{
	return new == TCP_SYN_SENT || new == TCP_SYN_RECV;
}

/* A FIN or a reset in another user's name is no first use. */
static __always_inline bool is_ending(u8 new)
{
	return new == TCP_FIN_WAIT1 || new == TCP_LAST_ACK || new == TCP_CLOSE;
}

/* Whether it is of interest which process this transition is by. */
static __always_inline bool names_somebody(const struct sock_info *info, u8 new)
{
	if (new == TCP_CLOSE)
		return !info->closer.pid;
	return is_ending(new) || !info->opener.pid;
}

/* What being in a state says of who sent the first FIN. */
static __always_inline u8 first_fin(u8 known, u8 state)
{
	switch (state) {
	case TCP_FIN_WAIT1:
	case TCP_FIN_WAIT2:
		return FIRST_LOCAL;
	case TCP_CLOSE_WAIT:
	case TCP_LAST_ACK:
		return FIRST_REMOTE;
	case TCP_CLOSING:
		return FIRST_BOTH;
	default:
		return known;
	}
}

/* What a socket's first transition tells of it; false if the filters leave it out. */
static __always_inline bool meet(struct sock_info *info, struct sock *sk, u8 old, u8 new)
{
	info->ep.netns = netns_of(&sk->__sk_common);
	if (!netns_passes(info->ep.netns))
		return false;
	if (!endpoints_pending(new)) {
		fill_endpoints(info, sk);
		if (!endpoints_pass(&info->ep, info->family))
			return false;
	}
	if (old == TCP_CLOSE && new == TCP_SYN_SENT) {
		info->role = ROLE_CLIENT;
		/* inet_hash_connect() comes later */
		info->bound = LOAD(sk, __sk_common.skc_num) != 0;
	} else if (old == TCP_LISTEN && new == TCP_SYN_RECV) {
		info->role = ROLE_SERVER;
	} else if (new == TCP_LISTEN || old == TCP_LISTEN) {
		info->role = ROLE_LISTENER;
	}
	if (old != TCP_CLOSE && old != TCP_LISTEN) {
		info->flags |= EVF_PREEXISTING;
		info->first = first_fin(FIRST_NONE, old);
	}
	info->old = old;
	return true;
}

static __always_inline void describe(struct event *ev, const struct sock_info *info)
{
	ev->conn = info->conn;
	name_ends(ev, &info->ep, info->family, info->role);
	ev->alike.opener = info->opener;
	ev->alike.closer = info->closer;
	ev->alike.first = info->first;
	ev->alike.via = info->via;
	ev->alike.flags = info->flags;
}

#ifdef WITH_STATES
/* `since`: when the old state was entered, 0 if that is not known */
static __always_inline void send_state(const struct sock_info *info, u8 old, u8 new, u64 now,
				       u64 since, bool process)
{
	struct event *ev = new_event(EV_STATE, now, COUNT_LOST_STATE);

	if (!ev)
		return;
	describe(ev, info);
	ev->alike.old = old;
	ev->alike.new = new;
	if (since) {
		ev->alike.flags |= EVF_DWELL;
		ev->span_us = (now - since) / 1000;
	}
	if (process)
		ev->alike.flags |= EVF_PROCESS;
	send_event(ev);
}
#endif

/* close() drops the last reference before it gets to TCP; shutdown() holds
 * one, and so does connect(AF_UNSPEC). */
static __always_inline bool descriptor_is_open(struct sock *sk)
{
	struct socket *sock = LOAD(sk, sk_socket);
	struct file *file;

	if (!sock)
		return false;
	file = LOAD(sock, file);
	/* none: a kernel socket */
	return file && LOAD(file, references) > NO_REFERENCE;
}

/* By which call the process ended it. */
static __always_inline void name_closer(struct sock_info *info, struct sock *sk,
					const struct process_id *me, u8 if_open)
{
	info->closer = *me;
	if (is_exiting()) {
		info->via = VIA_EXIT;
		return;
	}
	info->via = descriptor_is_open(sk) ? if_open : VIA_CLOSE;
	take_site(info->conn, me, SITE_CLOSE);
}

static __always_inline bool is_reset_error(int err)
{
	/* tcp_reset() in net/ipv4/tcp_input.c */
	return err == ECONNRESET || err == EPIPE || err == ECONNREFUSED;
}

/* tcp_reset() acts on a reset that came, and on data that comes after close()
 * and is answered with one: sk_err is the same, the caller is not. */
static __always_inline u8 reset_by_whom(u64 *ctx, u32 lane)
{
	struct stack *stack = read_stack(ctx, lane);
	int i;

	if (!stack || !START_tcp_validate_incoming)
		return HOW_UNKNOWN;
	stack->cause = HOW_UNKNOWN;
	for (i = 0; i < STACK_FRAMES; i++) {
		if (WITHIN(stack->ip[i], tcp_validate_incoming))
			stack->cause = HOW_RESET_RECEIVED;
		else if (WITHIN(stack->ip[i], tcp_rcv_state_process))
			stack->cause = HOW_RESET_SENT;
		if (stack->cause != HOW_UNKNOWN)
			break;
	}
	return stack->cause;
}

/* tcp_time_wait() may have gone on to tcp_done() by a jump.  Where the call before
 * it cannot be read, only info->waits tells. */
#ifdef HOOKS_FENTRY
#define IF_NOT_IN_TIME_WAIT HOW_RESET_SENT
#else
#define IF_NOT_IN_TIME_WAIT HOW_UNKNOWN
#endif
#define NOTHING_YET 0xff

/* FIN_WAIT2 → CLOSE without a mini-socket and without an error: there are too
 * many of those already (HOW_FIN), or we sent a reset: for a negative
 * TCP_LINGER2, for data after close(), or because FIN_WAIT2 took too long. */
static __always_inline u8 without_time_wait(u64 *ctx, struct sock *sk, u32 lane)
{
	struct tcp_sock *tp = (void *)sk;
	struct stack *stack;
	int i;

	if (READ(tp, linger2) < 0)
		return HOW_RESET_SENT;
	stack = read_stack(ctx, lane);
	if (!stack)
		return HOW_UNKNOWN;
	/* without tcp_done(): out of memory, see tcp_check_oom() */
	stack->if_closed = HOW_RESET_SENT;
	stack->cause = NOTHING_YET;
	for (i = 0; i < STACK_FRAMES; i++) {
		if (WITHIN(stack->ip[i], tcp_time_wait) || WITHIN(stack->ip[i], tcp_fin) ||
		    CALLS(stack->ip[i], tcp_time_wait))
			stack->cause = HOW_FIN;
		else if (CALLS(stack->ip[i], tcp_done))
			stack->cause = HOW_RESET_SENT;
		else if (WITHIN(stack->ip[i], tcp_rcv_state_process) ||
			 WITHIN(stack->ip[i], tcp_keepalive_timer))
			stack->cause = IF_NOT_IN_TIME_WAIT;
		else if (WITHIN(stack->ip[i], tcp_done))
			stack->if_closed = HOW_FIN;
		else if (WITHIN(stack->ip[i], __tcp_close))
			stack->cause = stack->if_closed;
		if (stack->cause != NOTHING_YET)
			return stack->cause;
	}
	return HOW_UNKNOWN;
}

/* How a socket reached CLOSE.  sk_err is set before the transition by
 * tcp_reset(), tcp_write_err() and tcp_abort(), not by tcp_disconnect(). */
static __always_inline u8 classify(u64 *ctx, struct sock *sk, const struct sock_info *info, u8 old,
				   bool process, u32 lane)
{
	int err = LOAD(sk, sk_err);
	bool closing;

	if (info->waits)
		return HOW_FIN;
	if (old == TCP_SYN_SENT)
		return HOW_FAILED;
	if (err == ECONNABORTED && process)
		return HOW_RESET_SENT;
	if (is_reset_error(err) && (old == TCP_FIN_WAIT1 || old == TCP_FIN_WAIT2) &&
	    LOAD(sk, sk_shutdown) & RCV_SHUTDOWN)
		return reset_by_whom(ctx, lane);
	if (is_reset_error(err))
		return HOW_RESET_RECEIVED;
	closing = process && LOAD(sk, sk_socket) && !descriptor_is_open(sk);
	/* tcp_write_err() passes on what ICMP said, if it did; what close() finds
	 * in sk_err is older */
	if (err == ETIMEDOUT || (err && !closing))
		return HOW_TIMEOUT;
	if (old == TCP_LAST_ACK || old == TCP_CLOSING)
		return HOW_FIN;
	if (old == TCP_FIN_WAIT2 && !closing)
		return without_time_wait(ctx, sk, lane);
	/* SO_LINGER 0, unread data, connect(AF_UNSPEC) */
	if (process)
		return HOW_RESET_SENT;
	/* never accepted, and its listener closed: inet_csk_listen_stop() */
	if (old == TCP_ESTABLISHED || old == TCP_CLOSE_WAIT)
		return HOW_RESET_SENT;
	return HOW_UNKNOWN;
}

/* SYN_SENT → CLOSE inside connect(), with no SYN sent and no error but what
 * connect() returns: inet_hash_connect() found no port, or the bound one taken. */
static __always_inline u8 why_not_connected(struct sock *sk, const struct sock_info *info,
					    bool process)
{
	struct tcp_sock *tp = (void *)sk;

	if (!process || LOAD(sk, sk_err) || READ(tp, packets_out) || !descriptor_is_open(sk))
		return FAILED_NOT;
	return info->ep.sport ? FAILED_CONFLICT : FAILED_EXHAUSTED;
}

/* A socket that has come to CLOSE.  What is in memory here, the same wherever the socket is
 * kept, is to the verifier any value: else it tries each way to here with each from here. */
struct ending {
	struct sock_info info;
	volatile int substate; /* of the mini-socket that took its place, see link_time_wait() */
	volatile bool followed;
	volatile bool process;
};

/* Per CPU and enum lane, as `stacks`.  Updated: finish().  Never deleted. */
BPF_PERCPU_ARRAY(endings, struct ending, LANES);

static __always_inline void finish(u64 *ctx, const struct sock_info *kept, struct sock *sk, u8 old,
				   u64 now, bool process, u32 lane, const struct process_id *me)
{
	bool may_wait = old == TCP_FIN_WAIT2 || old == TCP_CLOSING;
	struct ending *ending = endings.lookup(&lane);
	struct sock_info *info;
	struct event *ev;
	u8 how = HOW_FIN;
	bool followed = false;
	int substate;

	if (!ending)
		return;
	info = &ending->info;
	*info = *kept;
	ending->substate = 0;
	ending->process = process;
	if (lane != LANE_PACKET)
		process = ending->process;
	if (may_wait) {
		struct tw_info wait = {
			.conn = info->conn,
			.born = now,
			.owner = info->closer.pid ? info->closer : info->opener,
			.ep = info->ep,
			.hash = info->hash,
			.family = info->family,
			.role = info->role,
		};

		ending->substate = link_time_wait(&wait, sk, &followed);
		ending->followed = followed;
	}
	substate = ending->substate;
	if (substate <= 0) {
		how = classify(ctx, sk, info, old, process, lane);
		if (how == HOW_FIN && may_wait) {
			if (substate == CANNOT_TELL) {
				count(COUNT_LOST_BIRTHS);
			} else {
				info->flags |= EVF_OVERFLOW;
				count(COUNT_TW_OVERFLOWED);
			}
		}
		if (process && how == HOW_RESET_SENT && !info->closer.pid) {
			name_closer(info, sk, me, VIA_ABORT);
			if (LOAD(sk, sk_err) == ECONNABORTED) {
				info->via = VIA_ABORT;
				info->flags |= EVF_KILLED;
			}
		}
	}

	count(COUNT_CLOSES);
	ev = new_event(EV_CLOSE, now, COUNT_LOST_CLOSE);
	if (!ev)
		return;
	describe(ev, info);
	ev->span_us = (now - info->tracked) / 1000;
	ev->dwell = info->dwell;
	ev->alike.seen = info->dwell.seen;
	ev->alike.how = how;
	ev->alike.bound = info->bound;
	ev->alike.new = TCP_CLOSE;
	if (old == TCP_SYN_SENT)
		ev->alike.failed = why_not_connected(sk, info, process);
	if (substate > 0) {
		ev->alike.flags |= EVF_TIME_WAIT;
		ev->alike.unfollowed = !ending->followed;
		ev->alike.old = substate;
	}
	send_event(ev);
}

/* Whether no other copy of the program comes after this one. */
static __always_inline bool is_last(u32 lane)
{
	return lane == LANE_PACKET || lane == TASK_COPIES;
}

/* Notes the new state, and who first made use of the socket. */
static __always_inline void note(struct sock_info *info, u8 old, u8 new, u64 now, bool process,
				 struct process_id *me)
{
	if (process && names_somebody(info, new))
		current_process(me);
	if (info->state != old)
		count(COUNT_LOST_STEPS);
	/* in this order, see report_half_closed() */
	LOAD(info, since) = now;
	LOAD(info, state) = new;
	if (!info->opener.pid && !is_ending(new))
		info->opener = *me;
}

/* From now on it is followed.  NULL if there is no more to be done: it is not, or was
 * first met in a state that says little. */
static __always_inline struct sock_place *follow(struct sock_place *slot, struct sock *sk, u8 old,
						 u8 new, u64 now, bool process, u32 lane,
						 struct process_id *me)
{
	struct sock_place met = {}, *place;

	if (!all_is_shown() || !meet(&met.info, sk, old, new))
		return NULL;
	if (process)
		current_process(me);
	if (!is_ending(new))
		met.info.opener = *me;
	met.info.conn = new_conn(lane);
	met.info.state = new;
	met.info.tracked = now;
	met.info.since = now;
	place = keep(slot, (u64)sk, &met);
	if (place) {
		if (process && new == TCP_SYN_SENT)
			take_site(met.info.conn, me, SITE_CONNECT);
		return endpoints_pending(new) ? NULL : place;
	}
	/* Until its end there may be room again: it is told as an older one then. */
	if (is_last(lane) && new == TCP_CLOSE && old != TCP_LISTEN && old != TCP_SYN_RECV)
		count(COUNT_LOST_SOCKS);
	return NULL;
}

/* Whether nothing but a segment, or a timer of the socket's, brings that about. */
static __always_inline bool is_by_segment(struct sock *sk, u8 old, u8 new)
{
	switch (new) {
	case TCP_ESTABLISHED:
	case TCP_CLOSE_WAIT:
	case TCP_FIN_WAIT2:
		return true;
	case TCP_CLOSE:
		return (old == TCP_LAST_ACK || old == TCP_FIN_WAIT2) && !LOAD(sk, sk_err);
	default:
		return false;
	}
}

/* When this is.  Of what a segment brings about TCP has just looked at the clock itself
 * (tcp_mstamp_refresh(), the same clock); to do it again costs 50 ns. */
static __always_inline u64 moment(struct sock *sk, const struct sock_info *info, u8 old, u8 new,
				  u32 lane)
{
	struct tcp_sock *tp = (void *)sk;
	u64 seen;

	if (lane == LANE_PACKET && is_by_segment(sk, old, new)) {
		seen = READ(tp, tcp_clock_cache);
		if (seen && (!info || seen >= info->since))
			return seen;
	}
	return bpf_ktime_get_ns();
}

struct transition {
	u64 sk;
	u64 state;
};

/* Per CPU: what transition_packet() sees to.  Updated: by it.  Cleared: by the last of the
 * other programs, next in the same call of the tracepoint, with bottom halves off all the
 * while; what is left where that one's run was dropped comes no second time. */
BPF_PERCPU_ARRAY(seen_to, struct transition, 1);

static __always_inline void see_to(u64 key, u8 new)
{
	u32 zero = 0;
	struct transition *last = seen_to.lookup(&zero);

	if (!last)
		return;
	last->sk = key;
	last->state = new;
}

static __always_inline bool is_seen_to(u64 key, u8 new, u32 lane)
{
	u32 zero = 0;
	struct transition *last = seen_to.lookup(&zero);

	if (!last || last->sk != key || last->state != new)
		return false;
	if (is_last(lane))
		last->sk = 0;
	return true;
}

/* One transition of a full socket.
 *
 * The kernel drops a raw tracepoint's run that interrupts the same program on the
 * same CPU (05b24ff9b2cf "bpf: Prevent bpf program recursion for raw tracepoint
 * probes", v6.1): a close() interrupted by a packet is just that.  So what a task
 * does to a socket that it owns is seen to by one program, all else by another.  All
 * else is done with bottom halves off, so none of it interrupts another; and a
 * transition is under the socket's lock, so both see the same `owned`.  A packet may
 * come just when the packets' program finds that a task's is none of its business: then
 * its run is dropped, and the tasks' program, which is free, sees to that too.
 *
 * Since tracepoints may be preempted (a46023d5616e "tracing: Guard
 * __DECLARE_TRACE() use of __DO_TRACE_CALL() with SRCU-fast", v7.0) a task's may
 * interrupt another task's.  So the tasks' program has copies then, called in turn: the
 * first that is free sees to the transition, the others find it done. */
static __always_inline void on_transition(u64 *ctx, u32 lane)
{
	struct sock *sk = (void *)ctx[0];
	u8 old = ctx[1], new = ctx[2];
	struct sock_place *slot, *place;
	struct process_id me = {};
	struct sock_info *info;
	u64 key = (u64)sk;
	bool process = in_users_context(sk);
	bool dwell_known;
	u64 now, since;

	if (process ? lane == LANE_PACKET : lane != LANE_PACKET && is_seen_to(key, new, lane))
		return;
	if (lane == LANE_PACKET) {
		see_to(key, new);
		process = false;
	}
	if (LOAD(sk, sk_protocol) != IPPROTO_TCP || old == new)
		return;
	slot = slot_of(key);
	if (!slot)
		return;
	place = find(slot, key);
	info = place ? &place->info : NULL;
	if (lane > LANE_TASK && info && info->state == new) {
		if (new == TCP_CLOSE && is_last(lane))
			forget(slot, key);
		return;
	}

	if (info && (old == TCP_CLOSE || old == TCP_LISTEN) && new != TCP_CLOSE) {
		/* another socket at this address: the end of the last one was not shown */
		if (info->role != ROLE_LISTENER && info->state != TCP_CLOSE)
			count(COUNT_LOST_ENDS);
		forget(slot, key);
		info = NULL;
	}
	now = moment(sk, info, old, new, lane);
	dwell_known = info && info->state == old;
	since = info ? info->since : now;
	if (info) {
		note(info, old, new, now, process, &me);
	} else {
		place = follow(slot, sk, old, new, now, process, lane, &me);
		if (!place)
			return;
		info = &place->info;
	}
	if (endpoints_pending(new))
		return;

	if (!info->family) {
		fill_endpoints(info, sk);
		if (!endpoints_pass(&info->ep, info->family)) {
			forget(slot, key);
			return;
		}
		info->dwell.seen |= 1 << old;
#ifdef WITH_STATES
		send_state(info, info->old, old, since, 0, info->role == ROLE_CLIENT);
#endif
	}
	if (dwell_known)
		add_dwell(&info->dwell, old, (now - since) / 1000);
	info->dwell.seen |= 1 << new;

	info->first = first_fin(info->first, new);
	if (process && (new == TCP_FIN_WAIT1 || new == TCP_LAST_ACK))
		name_closer(info, sk, &me, VIA_SHUTDOWN);

#ifdef WITH_STATES
	send_state(info, old, new, now, dwell_known ? since : 0, process);
#endif
	if (new == TCP_CLOSE) {
		/* a child that never got to ESTABLISHED was never a connection */
		if (info->role != ROLE_LISTENER && old != TCP_SYN_RECV)
			finish(ctx, info, sk, old, now, process, lane, &me);
		if (is_last(lane))
			forget(slot, key);
	}
}

/* A read or write names the user of an accepted socket; connect() has already
 * named the others. */
static __always_inline void name_user(u64 key, u32 what)
{
	struct sock_info *info = known(key);

	if (!info || info->opener.pid)
		return;
	current_process(&info->opener);
	take_site(info->conn, &info->opener, what);
}

#endif
