/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Stands in for a kernel source tree.  BCC includes this file before all else
 * and its own headers expect the names below; nothing here describes a kernel,
 * so the same file serves every version.  Kernel structs are in kernel.h.
 */
#ifndef TWTRACE_KCONFIG_H
#define TWTRACE_KCONFIG_H

typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;

typedef __s8 s8;
typedef __u8 u8;
typedef __s16 s16;
typedef __u16 u16;
typedef __s32 s32;
typedef __u32 u32;
typedef __s64 s64;
typedef __u64 u64;

typedef __u16 __le16;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u16 __sum16;
typedef __u32 __wsum;
typedef __u64 __aligned_u64 __attribute__((aligned(8)));

typedef _Bool bool;
typedef int pid_t;
typedef __SIZE_TYPE__ size_t;
typedef __UINTPTR_TYPE__ uintptr_t;

#define true 1
#define false 0
#define NULL ((void *)0)
#define __always_inline inline __attribute__((always_inline))

#define CONFIG_BPF_SYSCALL 1
#define PAGE_SIZE 4096
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
/* BCC only compares it; raw tracepoints and iterators do not look at it. */
#define LINUX_VERSION_CODE KERNEL_VERSION(5, 10, 0)
/* BCC's ring buffer macro: the loader passes a power of two already. */
#define roundup_pow_of_two(n) (n)

#endif
