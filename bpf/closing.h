/* SPDX-License-Identifier: GPL-2.0-only */
/* A full socket from its first transition to CLOSE: who, in which states for
 * how long, and how it ended. */
#ifndef TWTRACE_CLOSING_H
#define TWTRACE_CLOSING_H

#include "filter.h"
#include "owner.h"
#include "timewait.h"

struct sock_info {
	u64 conn;
	u64 tracked; /* ns: when the entry was made */
	u64 since;   /* ns: when the present state was entered */
	struct endpoints ep;
	struct process_id opener;
	struct process_id closer;
	struct dwell dwell;
	u32 hash;
	u8 family; /* 0 until the endpoints are complete */
	u8 old;	   /* the transition that could not be told without them */
	u8 role;
	u8 first;
	u8 via;
	u8 flags;
};

/* sk → what we know of it.  Inserted: track(), at the first transition seen.
 * Updated: by every later transition and by first use.  Deleted: at → CLOSE,
 * which every socket passes before it is freed; if it connects again it is a
 * new connection. */
BPF_F_TABLE("hash", u64, struct sock_info, socks, MAX_SOCKS, BIG_MAP_FLAGS);

/* sk → one that is half-closed.  Inserted: on_transition() into such a state.
 * Updated: on_use().  Deleted: on_transition() out of it.  Read: tracer/kernel/held.py, whose work
 * so grows with what hangs and not with what passes through. */
BPF_F_TABLE("hash", u64, struct held_socket, held, MAX_SOCKS, BIG_MAP_FLAGS);

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

static __always_inline void fill_endpoints(struct sock_info *info, struct sock *sk)
{
	info->family = read_endpoints(&info->ep, &sk->__sk_common, READ(sk, inet_sport));
	info->hash = READ(sk, __sk_common.skc_hash);
}

/* connect() sets SYN_SENT before it has picked a port, and a child is set to
 * SYN_RECV while it still is a copy of its listener. */
static __always_inline bool endpoints_pending(u8 new)
{
	return new == TCP_SYN_SENT || new == TCP_SYN_RECV;
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

static __always_inline struct sock_info *track(struct sock *sk, u64 key, u8 old, u8 new, u64 now,
					       bool process)
{
	struct sock_info info = {};

	info.ep.netns = netns_of(&sk->__sk_common);
	if (!netns_passes(info.ep.netns))
		return NULL;
	if (!endpoints_pending(new)) {
		fill_endpoints(&info, sk);
		if (!endpoints_pass(&info.ep, info.family))
			return NULL;
	}
	if (old == TCP_CLOSE && new == TCP_SYN_SENT)
		info.role = ROLE_CLIENT;
	else if (old == TCP_LISTEN && new == TCP_SYN_RECV)
		info.role = ROLE_SERVER;
	else if (new == TCP_LISTEN || old == TCP_LISTEN)
		info.role = ROLE_LISTENER;
	if (old != TCP_CLOSE && old != TCP_LISTEN) {
		info.flags |= EVF_PREEXISTING;
		info.first = first_fin(FIRST_NONE, old);
	}
	info.conn = new_conn(process ? LANE_PROCESS : LANE_SOFTIRQ);
	info.tracked = now;
	info.since = now;
	info.old = old;
	if (socks.update(&key, &info)) {
		count(COUNT_LOST_SOCKS);
		return NULL;
	}
	return socks.lookup(&key);
}

static __always_inline void describe(struct event *ev, const struct sock_info *info)
{
	ev->conn = info->conn;
	ev->ep = info->ep;
	ev->family = info->family;
	ev->opener = info->opener;
	ev->closer = info->closer;
	ev->role = info->role;
	ev->first = info->first;
	ev->via = info->via;
	ev->flags = info->flags;
}

#ifdef WITH_STATES
static __always_inline void send_state(const struct sock_info *info, u8 old, u8 new, u64 now,
				       bool dwell_known, bool process)
{
	struct event *ev = new_event(EV_STATE, now, COUNT_LOST_STATE);

	if (!ev)
		return;
	describe(ev, info);
	ev->old = old;
	ev->new = new;
	if (dwell_known) {
		ev->flags |= EVF_DWELL;
		ev->span_us = (now - info->since) / 1000;
	}
	if (process)
		ev->flags |= EVF_PROCESS;
	send_event(ev);
}
#endif

/* close() drops the last reference before it gets to TCP; shutdown() holds
 * one, and so does connect(AF_UNSPEC). */
static __always_inline bool descriptor_is_open(struct sock *sk)
{
	struct socket *sock = READ(sk, sk_socket);
	struct file *file;

	if (!sock)
		return false;
	file = READ(sock, file);
	/* none: a kernel socket */
	return file && READ(file, references) > NO_REFERENCE;
}

/* By which call the process ended it. */
static __always_inline void name_closer(struct sock_info *info, struct sock *sk,
					const struct process_id *me, u8 if_open)
{
	info->closer = *me;
	if (is_exiting())
		info->via = VIA_EXIT;
	else
		info->via = descriptor_is_open(sk) ? if_open : VIA_CLOSE;
}

static __always_inline bool is_reset_error(int err)
{
	/* tcp_reset() in net/ipv4/tcp_input.c */
	return err == ECONNRESET || err == EPIPE || err == ECONNREFUSED;
}

/* How a socket reached CLOSE.  sk_err is set before the transition by
 * tcp_reset(), tcp_write_err() and tcp_abort(), not by tcp_disconnect(). */
static __always_inline u8 classify(struct sock *sk, u8 old, bool process)
{
	int err = READ(sk, sk_err);

	if (old == TCP_SYN_SENT)
		return HOW_FAILED;
	if (err == ECONNABORTED && process)
		return HOW_RESET_SENT;
	/* After we closed, data that still comes is answered with a reset, by way
	 * of tcp_reset(): sk_err does not tell that from one received. */
	if (is_reset_error(err) && (old == TCP_FIN_WAIT1 || old == TCP_FIN_WAIT2) &&
	    READ(sk, sk_shutdown) & RCV_SHUTDOWN)
		return HOW_UNKNOWN;
	if (is_reset_error(err))
		return HOW_RESET_RECEIVED;
	if (err == ETIMEDOUT)
		return HOW_TIMEOUT;
	if (old == TCP_LAST_ACK || old == TCP_CLOSING)
		return HOW_FIN;
	/* Without a mini-socket: the table overflowed, or TCP_LINGER2 < 0; but for
	 * a close() on its way that has not orphaned the socket yet. */
	if (old == TCP_FIN_WAIT2 && !(process && READ(sk, sk_socket) && !descriptor_is_open(sk)))
		return HOW_UNKNOWN;
	/* SO_LINGER 0, unread data, connect(AF_UNSPEC) */
	if (process)
		return HOW_RESET_SENT;
	if (err)
		return HOW_TIMEOUT;
	/* never accepted, and its listener closed: inet_csk_listen_stop() */
	if (old == TCP_ESTABLISHED || old == TCP_CLOSE_WAIT)
		return HOW_RESET_SENT;
	return HOW_UNKNOWN;
}

static __always_inline void finish(struct sock_info *info, struct sock *sk, u8 old, u64 now,
				   bool process, const struct process_id *me)
{
	struct event *ev;
	u8 how = HOW_FIN;
	int substate;

	substate = link_time_wait(info->hash, &info->ep, info->conn,
				  info->closer.pid ? &info->closer : &info->opener, old);
	if (!substate) {
		how = classify(sk, old, process);
		if (process && how == HOW_RESET_SENT && !info->closer.pid) {
			name_closer(info, sk, me, VIA_ABORT);
			if (READ(sk, sk_err) == ECONNABORTED) {
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
	ev->how = how;
	ev->new = TCP_CLOSE;
	if (substate) {
		ev->flags |= EVF_TIME_WAIT;
		ev->old = substate;
	}
	send_event(ev);
}

static __always_inline void hold(const struct sock_info *info, u64 key, u8 state, u64 now)
{
	struct held_socket entry = {
		.conn = info->conn,
		.since = now,
		.opener = info->opener,
		.ep = info->ep,
		.family = info->family,
		.state = state,
		.flags = info->flags,
		.role = info->role,
	};

	if (held.update(&key, &entry))
		count(COUNT_LOST_HELD);
}

/* Per CPU: the softirq transition that the first of two programs has handled.
 * Updated: in_softirq().  Never deleted. */
BPF_PERCPU_ARRAY(handled, u64, 1);

/* One transition of a full socket, for the program of its context.
 *
 * inet_sock_set_state has three: the kernel drops a raw tracepoint's run that
 * interrupts the same program on the same CPU (05b24ff9b2cf "bpf: Prevent bpf
 * program recursion for raw tracepoint probes", v6.1), and a close()
 * interrupted by a packet is just that.  So process and softirq context have a
 * program each; and softirq has a second, for when the first was interrupted
 * while it found that a transition in process context is none of its own. */
static __always_inline void on_transition(struct sock *sk, u8 old, u8 new, bool process)
{
	struct process_id me = {};
	struct sock_info *info;
	u64 key = (u64)sk;
	bool dwell_known, ends, half_closed;
	u64 now;

	if (READ(sk, sk_protocol) != IPPROTO_TCP || old == new)
		return;

	now = bpf_ktime_get_ns();
	info = socks.lookup(&key);
	if (info && (old == TCP_CLOSE || old == TCP_LISTEN) && new != TCP_CLOSE) {
		/* another socket at this address: the end of the last one was not shown */
		if (info->role != ROLE_LISTENER)
			count(COUNT_LOST_ENDS);
		socks.delete(&key);
		held.delete(&key);
		info = NULL;
	}
	dwell_known = info;
	if (!info) {
		info = track(sk, key, old, new, now, process);
		if (!info)
			return;
	}
	/* a FIN or a reset in another user's name is no first use */
	ends = new == TCP_FIN_WAIT1 || new == TCP_LAST_ACK || new == TCP_CLOSE;
	if (process && (ends || !info->opener.pid))
		current_process(&me);
	if (!ends && !info->opener.pid)
		info->opener = me;
	if (endpoints_pending(new))
		return;

	if (!info->family) {
		fill_endpoints(info, sk);
		if (!endpoints_pass(&info->ep, info->family)) {
			socks.delete(&key);
			return;
		}
		info->dwell.seen |= 1 << old;
#ifdef WITH_STATES
		send_state(info, info->old, old, info->since, false, info->role == ROLE_CLIENT);
#endif
	}
	if (dwell_known)
		add_dwell(&info->dwell, old, (now - info->since) / 1000);
	info->dwell.seen |= 1 << new;

	info->first = first_fin(info->first, new);
	if (process && (new == TCP_FIN_WAIT1 || new == TCP_LAST_ACK))
		name_closer(info, sk, &me, VIA_SHUTDOWN);

#ifdef WITH_STATES
	send_state(info, old, new, now, dwell_known, process);
#endif
	if (old == TCP_CLOSE_WAIT || old == TCP_FIN_WAIT2)
		held.delete(&key);
	if (new == TCP_CLOSE) {
		/* a child that never got to ESTABLISHED was never a connection */
		if (info->role != ROLE_LISTENER && old != TCP_SYN_RECV)
			finish(info, sk, old, now, process, &me);
		socks.delete(&key);
		return;
	}
	half_closed = new == TCP_CLOSE_WAIT;
	if (new == TCP_FIN_WAIT2)
		half_closed = READ(sk, sk_socket);
	if (half_closed)
		hold(info, key, new, now);
	info->since = now;
}

static __always_inline void in_softirq(struct sock *sk, u8 old, u8 new, bool second)
{
	u64 which = (u64)sk << 8 | new;
	u32 zero = 0;
	u64 *done;

	if (in_users_context(sk))
		return;
	done = handled.lookup(&zero);
	if (!done || (second && *done == which))
		return;
	*done = second ? 0 : which;
	on_transition(sk, old, new, false);
}

/* A read or write names the user of an accepted socket; connect() has already
 * named the others. */
static __always_inline void on_use(struct sock *sk)
{
	u64 key = (u64)sk;
	struct sock_info *info = socks.lookup(&key);
	struct held_socket *listed;

	if (!info || info->opener.pid)
		return;
	current_process(&info->opener);
	listed = held.lookup(&key);
	if (listed)
		listed->opener = info->opener;
}

#endif
