/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The few kernel structs we read.  Each member lies where the running kernel's
 * BTF says: the loader passes OFFSET_<struct>__<member> for every member named
 * here.  No kernel header is included, ever: those are what breaks BCC tools on
 * new kernels.
 */
#ifndef TWTRACE_KERNEL_H
#define TWTRACE_KERNEL_H

#define MEMBER(offset, type, name)            \
	struct {                              \
		char __before_##name[offset]; \
		type name;                    \
	} __attribute__((packed))

/* A member of what the verifier knows the type of: an argument of a raw tracepoint,
 * and what its pointers lead to.  One load, of the size that BTF says; a fault reads
 * as 0.  Memory of our own is as good. */
#define LOAD(ptr, member) (*(volatile typeof((ptr)->member) *)(void *)&(ptr)->member)

/* The same of any other address, by a call: ten times as slow. */
#define READ(ptr, member)                                                         \
	({                                                                        \
		typeof((ptr)->member) __value;                                    \
		bpf_probe_read_kernel(&__value, sizeof(__value), &(ptr)->member); \
		__value;                                                          \
	})

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6

#define RCV_SHUTDOWN 1
#define PF_EXITING 0x00000004
#define TIMEWAIT_LEN_SECONDS 60

#define ECONNABORTED 103
#define ECONNRESET 104
#define ETIMEDOUT 110
#define ECONNREFUSED 111
#define EPIPE 32
#define EEXIST 17

/* include/net/tcp_states.h */
enum {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT,
	TCP_SYN_RECV,
	TCP_FIN_WAIT1,
	TCP_FIN_WAIT2,
	TCP_TIME_WAIT,
	TCP_CLOSE,
	TCP_CLOSE_WAIT,
	TCP_LAST_ACK,
	TCP_LISTEN,
	TCP_CLOSING,
	TCP_NEW_SYN_RECV,
};

struct in6_addr {
	u8 s6_addr[16];
};

/* TASK_COMM_LEN bytes, as words: they get compared, and BPF has no memcmp(). */
struct comm {
	u64 words[2];
};

struct ns_common {
	union {
		MEMBER(OFFSET_ns_common__inum, u32, inum);
	};
};

struct hlist_nulls_node {
	union {
		MEMBER(OFFSET_hlist_nulls_node__next, struct hlist_nulls_node *, next);
	};
};

struct hlist_nulls_head {
	union {
		MEMBER(OFFSET_hlist_nulls_head__first, struct hlist_nulls_node *, first);
	};
};

struct inet_ehash_bucket {
	union {
		MEMBER(OFFSET_inet_ehash_bucket__chain, struct hlist_nulls_head, chain);
	};
};

struct inet_hashinfo {
	union {
		MEMBER(OFFSET_inet_hashinfo__ehash, struct inet_ehash_bucket *, ehash);
		MEMBER(OFFSET_inet_hashinfo__ehash_mask, u32, ehash_mask);
	};
};

struct inet_timewait_death_row {
	union {
		MEMBER(OFFSET_inet_timewait_death_row__hashinfo, struct inet_hashinfo *, hashinfo);
	};
};

struct netns_ipv4 {
	union {
#ifdef DEATH_ROW_APART
		/* fbb8295248e1 "tcp: allocate tcp_death_row outside of struct netns_ipv4"
		 * (v5.18), undone by e9bd0cca09d1 (v6.1) */
		MEMBER(OFFSET_netns_ipv4__tcp_death_row, struct inet_timewait_death_row *,
		       tcp_death_row);
#else
		MEMBER(OFFSET_netns_ipv4__tcp_death_row, struct inet_timewait_death_row,
		       tcp_death_row);
#endif
	};
};

struct net {
	union {
		MEMBER(OFFSET_net__ns, struct ns_common, ns);
		MEMBER(OFFSET_net__ipv4, struct netns_ipv4, ipv4);
	};
};

struct sock_common {
	union {
		MEMBER(OFFSET_sock_common__skc_daddr, __be32, skc_daddr);
		MEMBER(OFFSET_sock_common__skc_rcv_saddr, __be32, skc_rcv_saddr);
		MEMBER(OFFSET_sock_common__skc_hash, u32, skc_hash);
		MEMBER(OFFSET_sock_common__skc_dport, __be16, skc_dport);
		MEMBER(OFFSET_sock_common__skc_num, u16, skc_num);
		MEMBER(OFFSET_sock_common__skc_family, u16, skc_family);
		MEMBER(OFFSET_sock_common__skc_state, u8, skc_state);
		MEMBER(OFFSET_sock_common__skc_net, struct net *, skc_net);
		MEMBER(OFFSET_sock_common__skc_v6_daddr, struct in6_addr, skc_v6_daddr);
		MEMBER(OFFSET_sock_common__skc_v6_rcv_saddr, struct in6_addr, skc_v6_rcv_saddr);
		MEMBER(OFFSET_sock_common__skc_nulls_node, struct hlist_nulls_node, skc_nulls_node);
	};
};

struct file {
	union {
#ifdef OFFSET_file__f_ref
		/* 90ee6ed776c0 "fs: port files to file_ref" (v6.13) */
		MEMBER(OFFSET_file__f_ref, long, references);
#define NO_REFERENCE -1L /* and below: FILE_REF_RELEASED, FILE_REF_DEAD */
#else
		MEMBER(OFFSET_file__f_count, long, references);
#define NO_REFERENCE 0L
#endif
		MEMBER(OFFSET_file__private_data, struct socket *, private_data);
	};
};

struct fdtable {
	union {
		MEMBER(OFFSET_fdtable__max_fds, u32, max_fds);
		MEMBER(OFFSET_fdtable__fd, struct file **, fd);
	};
};

struct files_struct {
	union {
		MEMBER(OFFSET_files_struct__fdt, struct fdtable *, fdt);
	};
};

struct socket {
	union {
		MEMBER(OFFSET_socket__file, struct file *, file);
		MEMBER(OFFSET_socket__sk, struct sock *, sk);
	};
};

typedef struct {
	union {
		MEMBER(OFFSET_socket_lock_t__owned, int, owned);
	};
} socket_lock_t;

struct sock {
	union {
		struct sock_common __sk_common;
		MEMBER(OFFSET_sock__sk_lock, socket_lock_t, sk_lock);
		MEMBER(OFFSET_sock__sk_err, int, sk_err);
		MEMBER(OFFSET_sock__sk_shutdown, u8, sk_shutdown);
		MEMBER(OFFSET_sock__sk_protocol, u16, sk_protocol);
		MEMBER(OFFSET_sock__sk_socket, struct socket *, sk_socket);
		MEMBER(OFFSET_inet_sock__inet_sport, __be16, inet_sport);
	};
};

struct tcp_sock {
	union {
		MEMBER(OFFSET_tcp_sock__linger2, int, linger2);
		MEMBER(OFFSET_tcp_sock__packets_out, u32, packets_out);
		MEMBER(OFFSET_tcp_sock__tcp_clock_cache, u64, tcp_clock_cache);
	};
};

struct timer_list {
	union {
		MEMBER(OFFSET_timer_list__expires, unsigned long, expires);
		MEMBER(OFFSET_timer_list__function, u64, function);
		MEMBER(OFFSET_timer_list__flags, u32, flags);
	};
};

struct inet_timewait_sock {
	union {
		struct sock_common __tw_common;
		MEMBER(OFFSET_inet_timewait_sock__tw_substate, u8, tw_substate);
		MEMBER(OFFSET_inet_timewait_sock__tw_sport, __be16, tw_sport);
		MEMBER(OFFSET_inet_timewait_sock__tw_timer, struct timer_list, tw_timer);
	};
};

struct mm_struct {
	union {
		MEMBER(OFFSET_mm_struct__arg_start, unsigned long, arg_start);
		MEMBER(OFFSET_mm_struct__arg_end, unsigned long, arg_end);
	};
};

#ifdef WITH_SYS_EXIT
struct thread_info {
	union {
		MEMBER(OFFSET_thread_info__status, u32, status);
	};
};
#endif

struct task_struct {
	union {
#ifdef WITH_SYS_EXIT
		MEMBER(OFFSET_task_struct__thread_info, struct thread_info, thread_info);
#endif
		MEMBER(OFFSET_task_struct__files, struct files_struct *, files);
		MEMBER(OFFSET_task_struct__flags, unsigned int, flags);
		MEMBER(OFFSET_task_struct__tgid, int, tgid);
		MEMBER(OFFSET_task_struct__group_leader, struct task_struct *, group_leader);
		MEMBER(OFFSET_task_struct__start_boottime, u64, start_boottime);
		MEMBER(OFFSET_task_struct__mm, struct mm_struct *, mm);
		MEMBER(OFFSET_task_struct__comm, struct comm, comm);
	};
};

#endif
