/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The records that cross to user space, and the numbers in them.  This is the
 * only definition; tracer/kernel/decode.py unpacks them and
 * tests/unit/test_decode.py compares the two, field by field.
 *
 * Both rings carry records of one size each, so that a reader can check all
 * headers and unpack all bodies in two strides.
 */
#ifndef TWTRACE_EVENTS_H
#define TWTRACE_EVENTS_H

enum event_type {
	EV_STATE = 1,  /* a transition, only with WITH_STATES */
	EV_CLOSE = 2,  /* the full socket is gone, perhaps into TIME_WAIT */
	EV_TW_END = 3, /* the mini-socket is gone */
};

enum event_flag {
	EVF_PROCESS = 1 << 0,	  /* ran in the context of a user of the socket */
	EVF_PREEXISTING = 1 << 1, /* open before we attached */
	EVF_DWELL = 1 << 2,	  /* EV_STATE: span_us is known */
	EVF_TIME_WAIT = 1 << 3,	  /* EV_CLOSE: a mini-socket was born, see old */
	EVF_TURNED = 1 << 4,	  /* EV_TW_END: it did reach TIME_WAIT */
	EVF_KILLED = 1 << 5,	  /* EV_CLOSE: by tcp_abort(): the closer is no user of it */
	EVF_OVERFLOW = 1 << 6,	  /* EV_CLOSE: no mini-socket, there are too many */
};

enum role { ROLE_UNKNOWN, ROLE_CLIENT, ROLE_SERVER, ROLE_LISTENER };

/* Who sent the first FIN. */
enum first { FIRST_NONE, FIRST_LOCAL, FIRST_REMOTE, FIRST_BOTH };

enum how {
	HOW_UNKNOWN,
	HOW_FIN,
	HOW_RESET_SENT,
	HOW_RESET_RECEIVED,
	HOW_TIMEOUT,
	HOW_FAILED,
};

enum via { VIA_UNKNOWN, VIA_CLOSE, VIA_SHUTDOWN, VIA_EXIT, VIA_ABORT };

enum reason {
	REASON_UNKNOWN,
	REASON_EXPIRED,
	REASON_REUSED,
	REASON_REPLACED,
	REASON_RESET,
	REASON_RESET_SENT,
	REASON_KILLED,
	REASON_NETNS_EXIT,
};

/* Why connect() gave EADDRNOTAVAIL. */
enum failed {
	FAILED_NOT,
	FAILED_EXHAUSTED, /* no automatic port left for this destination */
	FAILED_CONFLICT,  /* the bound port and this destination are in use together */
};

/* Time spent in each state, microseconds.  A 32-bit field is for a state that
 * the kernel's own timers end within minutes. */
struct dwell {
	u64 established;
	u64 close_wait;
	u64 fin_wait2;
	u32 syn_sent;
	u32 syn_recv;
	u32 fin_wait1;
	u32 last_ack;
	u32 closing;
	u32 seen; /* bit n: state n was entered under our eyes */
};

/* IPv4 stands as ::ffff:a.b.c.d; family says which it is (4 or 6). */
struct endpoints {
	u8 saddr[16];
	u8 daddr[16];
	u16 sport; /* host order, as dport */
	u16 dport;
	u32 netns; /* inode number */
};

/* A process: a pid comes back, a pid with its start time does not. */
struct process_id {
	u64 start; /* ns since boot; 0: not known */
	u32 pid;
	u32 pad;
};

/* What many events share: the reader takes in those alike at once, so all of it lies
 * together.  Which port the other end of a service has is no part of it. */
struct alike {
	u8 type;
	u8 family;
	u8 old; /* EV_CLOSE with EVF_TIME_WAIT, EV_TW_END: substate at birth */
	u8 new;
	u8 flags;
	u8 role;
	u8 first;
	u8 how;
	u8 via;
	u8 reason;
	u8 failed; /* EV_CLOSE: enum failed */
	u8 bound;  /* EV_CLOSE: the port was bound before connect() */
	u32 netns;
	u32 seen;    /* EV_CLOSE: as in its dwell */
	u16 service; /* host order: the local port of a server, else the remote one */
	u8 unfollowed; /* EV_CLOSE: no room for its TIME_WAIT, whose end will look like an older one's */
	u8 pad;
	u8 saddr[16];
	u8 daddr[16];
	struct process_id opener;
	struct process_id closer; /* EV_TW_END: its owner */
	struct process_id by;	  /* EV_TW_END: who reused or killed it */
};

struct event {
	u64 ts; /* ns, CLOCK_MONOTONIC */
	u64 conn;
	u64 span_us; /* EV_STATE: time in old; EV_CLOSE: age; EV_TW_END: life */
	struct dwell dwell;
	u32 rearmed;
	u16 port; /* host order: the one that is not the service's */
	u16 pad;
	struct alike alike;
};

#define COMM_LEN 16
#define CMDLINE_LEN 256

/* Once per process and name, before the first event that refers to it. */
struct process_event {
	struct process_id id;
	u64 cgroup;
	u32 uid;
	u32 cmdline_len;
	char comm[COMM_LEN];
	char cmdline[CMDLINE_LEN]; /* argv, NUL-separated, cut at CMDLINE_LEN - 1 */
};

/* What a process does at a site. */
enum site_what { SITE_CLOSE, SITE_ACCEPT, SITE_USE, SITE_CONNECT };

#define STACK_BYTES 16384

/* See sites.h; before the event that tells of it. */
struct site_event {
	u64 ts; /* ns, CLOCK_MONOTONIC */
	u64 conn;
	struct process_id process;
	u32 what;
	u32 length;	    /* of stack, bytes */
	u8 registers[272];  /* as the kernel's struct pt_regs lies; x86-64: the first 168 bytes */
	u8 stack[STACK_BYTES]; /* from the user's stack pointer upwards */
};

/* A half-closed full socket that a process still holds: CLOSE_WAIT, or
 * FIN_WAIT2 behind an open descriptor; written by an iterator. */
struct held_socket {
	u64 conn;
	u64 since; /* ns, CLOCK_MONOTONIC */
	struct process_id opener;
	struct endpoints ep;
	u8 family;
	u8 state;
	u8 flags;
	u8 role;
	u32 pad;
};

/* One found open file that is a TCP socket, written by the iterator. */
struct open_socket {
	struct process_id owner;
	struct endpoints ep;
	u8 family;
	u8 state;
	u16 pad[3];
	char comm[COMM_LEN];
};

/* The programs on transitions, and all others: within a lane no program is
 * interrupted by itself, see on_transition(). */
enum lane { LANE_PACKET, LANE_TASK, LANE_TASK_2, LANE_TASK_3, LANE_OTHERS, LANES };

/* Per-CPU counters: exact even when a ring is full. */
enum counter {
	COUNT_CLOSES,
	COUNT_TW_BORN,
	COUNT_TW_ENDED,
	COUNT_TW_OVERFLOWED,
	COUNT_SENT,
	COUNT_LOST_STATE, /* ring full, by record type */
	COUNT_LOST_CLOSE,
	COUNT_LOST_TW_END,
	COUNT_LOST_PROCESS,
	COUNT_LOST_SOCKS,  /* map full: a connection's end was not told */
	COUNT_LOST_TWS,	   /* map full: a TIME_WAIT was not followed */
	COUNT_LOST_STEPS,  /* a transition that the tracepoint did not show */
	COUNT_LOST_ENDS,   /* of those → CLOSE */
	COUNT_LOST_BIRTHS, /* a TIME_WAIT due, neither found nor known not to be */
	COUNT_LOST_SITES,  /* ring full */
	COUNT_CONNS,	   /* number the connections, by enum lane */
	COUNTERS = COUNT_CONNS + LANES,
};

#endif
