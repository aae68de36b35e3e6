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
#include "registers.h"

#define STACK_FRAMES 20

struct stack {
	u64 ip[STACK_FRAMES];
	/* which frame told what: in memory, the verifier need not try every pair */
	volatile u64 frame;
	volatile u64 cause;
	volatile u64 if_closed;
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
	if (bpf_get_stack(ctx, stack->ip, sizeof(stack->ip), 0) <= 0)
		return NULL;
	return stack;
}

/*
 * To unwind a frame costs 150 ns, and those between us and the one that tells are
 * nearly always the same.  So it is learnt where on the stack their return addresses
 * lie.  If each place has its address again, the frames are the same again: the first
 * is where it always is, its address gives away the function it returns to and so
 * the size of that one's frame, and so on; no function here has one that varies.  Then
 * the last place has the address of whoever called them.
 */
#define TRAIL_PLACES 8
#define TRAIL_WORDS 64

/* From where on return addresses are looked for, and how many of the frames that
 * bpf_get_stack() gives lie before it. */
#ifdef HOOKS_KPROBE
#define TRAIL_START(ctx) PT_REGS_SP((struct pt_regs *)(ctx))
#define FRAMES_BEFORE_TRAIL 1 /* where the probe is */
#else
#define TRAIL_START(ctx) ((u64)(ctx))
#define FRAMES_BEFORE_TRAIL 2 /* the program, and who runs it: `ctx` is in its frame */
#endif

/* Much is volatile, in memory: else the verifier tries every value. */
struct trail {
	u64 ip[TRAIL_PLACES];
	u64 at[TRAIL_PLACES]; /* bytes from the start */
	volatile u64 places;  /* 0: not learnt yet */
	volatile u64 start;
	volatile u64 found; /* learn_trail()'s own from here on */
	volatile u64 times;
	volatile u64 place;
	volatile u64 last;
	u64 words[TRAIL_WORDS];
};

/* Per CPU, for programs that nothing interrupts.  Updated: learn_trail().  Never
 * deleted. */
BPF_PERCPU_ARRAY(trails, struct trail, 1);

/* Whoever called those on the trail; 0: the stack is another. */
static __always_inline u64 end_of_trail(void *ctx)
{
	u32 zero = 0;
	struct trail *trail = trails.lookup(&zero);
	u64 start, ip;
	int i;

	if (!trail)
		return 0;
	trail->start = TRAIL_START(ctx);
	start = trail->start;
	for (i = 0; i < TRAIL_PLACES; i++) {
		if (i >= trail->places)
			return 0;
		if (bpf_probe_read_kernel(&ip, sizeof(ip), (void *)(start + trail->at[i])))
			return 0;
		if (i + 1 == trail->places)
			return ip;
		if (ip != trail->ip[i])
			return 0;
	}
	return 0;
}

/* Up to the frame that told.  An address that lies there twice may be left over
 * from another call: nothing is learnt. */
static __always_inline void learn_trail(const struct stack *stack)
{
	u32 zero = 0;
	struct trail *trail = trails.lookup(&zero);
	u64 ip, found, place;
	int i, j;

	if (!trail)
		return;
	trail->places = 0;
	trail->found = 0;
	if (bpf_probe_read_kernel(trail->words, sizeof(trail->words), (void *)trail->start))
		return;
	for (i = 0; i < FRAMES_BEFORE_TRAIL + TRAIL_PLACES; i++) {
		ip = stack->ip[i];
		trail->times = 0;
		for (j = 0; j < TRAIL_WORDS; j++) {
			if (trail->words[j] != ip)
				continue;
			trail->times++;
			trail->place = j * sizeof(ip);
		}
		if (trail->times != (i >= FRAMES_BEFORE_TRAIL))
			return;
		if (i < FRAMES_BEFORE_TRAIL)
			continue;
		found = trail->found;
		place = trail->place;
		if (found >= TRAIL_PLACES || (found && place <= trail->last))
			return;
		trail->last = place;
		trail->ip[found] = ip;
		trail->at[found] = place;
		trail->found = found + 1;
		if (i == stack->frame) {
			trail->places = found + 1;
			return;
		}
	}
}

#endif
