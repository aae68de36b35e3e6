/* SPDX-License-Identifier: GPL-2.0-only */
/* Which of the sockets that we follow are half-closed: found when user space looks
 * (iter/bpf_map_elem), so that those that just pass through cost nothing. */
#ifndef TWTRACE_HALFCLOSED_H
#define TWTRACE_HALFCLOSED_H

#include "closing.h"
#include "iterator.h"

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	void *map;
	void *key;
	struct sock_place *value;
};

/* It changes meanwhile: on_transition() stores the state last. */
static __always_inline void report_half_closed(struct bpf_iter__bpf_map_elem *ctx)
{
	struct sock_place *place = ctx->value;
	struct held_socket found = {};
	struct sock_info *info;
	struct sock *sk;

	if (!place || place->sk <= BEING_TAKEN)
		return;
	info = &place->info;
	found.state = LOAD(info, state);
	if (found.state != TCP_CLOSE_WAIT && found.state != TCP_FIN_WAIT2)
		return;
	sk = (void *)place->sk;
	/* behind no descriptor it is the kernel's alone, and not for long */
	if (found.state == TCP_FIN_WAIT2 && !READ(sk, sk_socket))
		return;
	found.conn = info->conn;
	found.since = LOAD(info, since);
	found.opener = info->opener;
	found.ep = info->ep;
	found.family = info->family;
	found.flags = info->flags;
	found.role = info->role;
	seq_write(ctx->meta->seq, &found, sizeof(found));
}

#endif
