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
