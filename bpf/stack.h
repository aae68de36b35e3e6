/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the kernel is in the middle of, read off its own stack; for the rare
 * cases that no argument tells.  The loader gives each function's range as
 * START_<function> and END_<function>, an empty one where the kernel has no
 * such symbol.
 */
#ifndef TWTRACE_STACK_H
#define TWTRACE_STACK_H

#include "events.h"

#define STACK_FRAMES 20

struct stack {
	u64 ip[STACK_FRAMES];
};

/* Per CPU and enum lane, since a program may interrupt one of another lane.
 * Updated: read_stack().  Never deleted. */
BPF_PERCPU_ARRAY(stacks, struct stack, LANES);

#define WITHIN(ip, function) ((ip) >= START_##function && (ip) < END_##function)

/* Whether the call that is to return to `ip` was to `function`.  It may have
 * gone on to another by a jump, and left no frame.  Only a near call on x86-64
 * is understood: five bytes, e8 and the distance; its target may be the padding
 * before the function (call depth tracking, __pfx_). */
#define CALLS(ip, function) \
	(WITHIN(call_target(ip), function) || WITHIN(call_target(ip), __pfx_##function))

static __always_inline u64 call_target(u64 ip)
{
#ifdef bpf_target_x86
	u64 before = 0;

	bpf_probe_read_kernel(&before, sizeof(before), (void *)(ip - sizeof(before)));
	if ((before >> 24 & 0xff) == 0xe8)
		return ip + (s64)(s32)(before >> 32);
#endif
	return 0;
}

/* Innermost frame first; NULL if the kernel gives none.  `ctx` is the program's. */
static __always_inline struct stack *read_stack(void *ctx, u32 lane)
{
	struct stack *stack = stacks.lookup(&lane);

	if (!stack)
		return NULL;
	__builtin_memset(stack, 0, sizeof(*stack));
	if (bpf_get_stack(ctx, stack, sizeof(*stack), 0) <= 0)
		return NULL;
	return stack;
}

#endif
