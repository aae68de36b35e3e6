/* SPDX-License-Identifier: GPL-2.0-only */
/* The full sockets that are followed, found by their addresses. */
#ifndef TWTRACE_SOCKS_H
#define TWTRACE_SOCKS_H

#include "events.h"
#include "kernel.h"

struct sock_info {
	u8 state;  /* the last that was seen to */
	u8 family; /* 0 until the endpoints are complete */
	u8 old;	   /* the transition that could not be told without them */
	u8 role;
	u8 first;
	u8 via;
	u8 flags;
	u8 waits;  /* it is in tcp_time_wait(); with fentry alone */
	u64 since; /* ns: when the present state was entered */
	struct process_id opener;
	struct process_id closer;
	struct dwell dwell;
	u64 conn;
	u64 tracked; /* ns: when the entry was made */
	struct endpoints ep;
	u32 hash;
	u8 bound; /* bind() gave the port, connect() did not */
};

struct sock_place {
	u64 sk;	    /* whose it is; 0: nobody's */
	u64 others; /* a slot's: how many that would be here are in `socks` */
	struct sock_info info;
};

#define BEING_TAKEN 1 /* is no socket's address */

/* By the address's hash: what we know of the first socket that wanted that place.  Inserted:
 * keep(), at the first transition that is seen.  Updated: on_transition(), name_user().
 * Deleted: forget(), at → CLOSE, which every socket passes before it is freed, by the last
 * that looks at it, or when its memory is another's; if it connects again it is a new
 * connection.  In a hash map all that took 0.8 us more a connection. */
BPF_ARRAY(slots, struct sock_place, 1 << SLOT_BITS);

/* sk → the same, of those whose slot is taken.  Inserted, updated, deleted: as in `slots`.
 * Entries are allocated at start: on demand each costs 100 ns more, and cold memory. */
BPF_TABLE("hash", u64, struct sock_place, socks, MAX_SOCKS);

/* Not 0 while programs are attached one by one.  Updated: tracer/kernel/loader.py. */
BPF_ARRAY(attaching, u32, 1);

/* Whether a socket that is met can be followed.  While some of its transitions are not shown its
 * end may be one of them, and what is known of it be taken for the next one's at its address. */
static __always_inline bool all_is_shown(void)
{
	u32 zero = 0, *some_are_not = attaching.lookup(&zero);

	return some_are_not && !*some_are_not;
}

/* The verifier allows no arithmetic with an address, but its half in a 32-bit register is a
 * number.  The compiler has no such registers here, so the one it chose is told by its name. */
static __always_inline u32 low_half(u64 address)
{
	asm volatile(".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\n"
		     ".ifc %0, r\\n\n"
		     "w\\n = w\\n\n"
		     ".endif\n"
		     ".endr"
		     : "+r"(address));
	return address;
}

static __always_inline struct sock_place *slot_of(u64 sk)
{
	u32 slot = (low_half(sk) >> 6) * 0x9e3779b1U >> (32 - SLOT_BITS);

	return slots.lookup(&slot);
}

/* NULL if that socket is not followed. */
static __always_inline struct sock_place *find(struct sock_place *slot, u64 sk)
{
	if (slot->sk == sk)
		return slot;
	return slot->others ? socks.lookup(&sk) : NULL;
}

/* For those that have nothing to do with its place. */
static __always_inline struct sock_info *known(u64 sk)
{
	struct sock_place *slot = slot_of(sk), *place = slot ? find(slot, sk) : NULL;

	return place ? &place->info : NULL;
}

/* Under the socket's lock.  NULL if there is no room. */
static __always_inline struct sock_place *keep(struct sock_place *slot, u64 sk,
					       struct sock_place *met)
{
#ifdef HAVE_CMPXCHG
	if (!slot->sk && !__sync_val_compare_and_swap(&slot->sk, 0, BEING_TAKEN)) {
		slot->info = met->info;
		LOAD(slot, sk) = sk;
		return slot;
	}
#endif
	met->sk = sk;
	__sync_fetch_and_add(&slot->others, 1);
	if (!socks.update(&sk, met))
		return socks.lookup(&sk);
	__sync_fetch_and_add(&slot->others, -1);
	return NULL;
}

/* Under the socket's lock, and it is followed. */
static __always_inline void forget(struct sock_place *slot, u64 sk)
{
	if (slot->sk == sk) {
		LOAD(slot, sk) = 0;
		return;
	}
	socks.delete(&sk);
	__sync_fetch_and_add(&slot->others, -1);
}

#endif
