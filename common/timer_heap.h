/*
 * The armed timers of a world, earliest first: a binary heap over the callers' struct env_timer.
 *
 * Order is by (deadline, order): of timers with the same deadline the one armed first fires first,
 * which makes the simulated world deterministic. Both worlds use it.
 */
#ifndef LIMPET_COMMON_TIMER_HEAP_H
#define LIMPET_COMMON_TIMER_HEAP_H

#include "common/env.h"

struct timer_heap {
    struct env_timer **timers;
    uint32_t n;
    uint32_t capacity;
    uint64_t next_order;
};

void timer_heap_init(struct timer_heap *heap);
/* Forgets all timers, which are then not armed any more, and frees the heap's memory. */
void timer_heap_fini(struct timer_heap *heap);

/*
 * Arms a timer, or moves an armed one, which then counts as armed just now. Ends the process when
 * not even the memory for one more pointer can be had: a world that forgets a timer would hang.
 */
void timer_heap_arm(struct timer_heap *heap, struct env_timer *timer, uint64_t deadline_ns);
/* Harmless on a timer that is not armed. */
void timer_heap_stop(struct timer_heap *heap, struct env_timer *timer);

/* The earliest timer; NULL when none is armed. */
static inline struct env_timer *timer_heap_first(const struct timer_heap *heap)
{
    return heap->n > 0 ? heap->timers[0] : NULL;
}

/*
 * Takes out and returns the earliest timer that is due at now_ns and was armed before order_limit
 * (a value of heap->next_order); NULL when there is none. The limit keeps a timer that arms itself
 * again for the past from firing for ever within one turn.
 */
struct env_timer *timer_heap_pop(struct timer_heap *heap, uint64_t now_ns, uint64_t order_limit);

#endif
