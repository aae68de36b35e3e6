/* SPDX-License-Identifier: GPL-2.0-only */
/* The registers a kprobe program is given, the kernel's struct pt_regs
 * (arch/x86/include/asm/ptrace.h, arch/arm64/include/uapi/asm/ptrace.h). */
#ifndef TWTRACE_REGISTERS_H
#define TWTRACE_REGISTERS_H

#if defined(__aarch64__) || defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	u64 regs[31];
	u64 sp;
	u64 pc;
	u64 pstate;
};
struct pt_regs {
	struct user_pt_regs user_regs;
};
#else
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8;
	unsigned long ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};
#endif

#endif
