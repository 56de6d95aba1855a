/*
 * Invariants:
 *  1. timers[0 .. n) are armed, and timers[i]->heap_index == i; no other timer is armed.
 *  2. No timer is earlier than its parent, that of index (i - 1) / 2.
 */
#include "common/timer_heap.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum { TIMER_HEAP_FIRST_CAPACITY = 64 };

static bool earlier(const struct env_timer *a, const struct env_timer *b)
{
    if (a->deadline_ns != b->deadline_ns)
        return a->deadline_ns < b->deadline_ns;
    return a->order < b->order;
}

static void put(struct timer_heap *heap, uint32_t index, struct env_timer *timer)
{
    heap->timers[index] = timer;
    timer->heap_index = index;
}

static void sift_up(struct timer_heap *heap, uint32_t index)
{
    struct env_timer *timer = heap->timers[index];
    while (index > 0) {
        uint32_t parent = (index - 1) / 2;
        if (!earlier(timer, heap->timers[parent]))
            break;
        put(heap, index, heap->timers[parent]);
        index = parent;
    }
    put(heap, index, timer);
}

static void sift_down(struct timer_heap *heap, uint32_t index)
{
    struct env_timer *timer = heap->timers[index];
    for (;;) {
        uint32_t child = 2 * index + 1;
        if (child >= heap->n)
            break;
        if (child + 1 < heap->n && earlier(heap->timers[child + 1], heap->timers[child]))
            child++;
        if (!earlier(heap->timers[child], timer))
            break;
        put(heap, index, heap->timers[child]);
        index = child;
    }
    put(heap, index, timer);
}

void timer_heap_init(struct timer_heap *heap)
{
    *heap = (struct timer_heap){0};
}

void timer_heap_fini(struct timer_heap *heap)
{
    for (uint32_t i = 0; i < heap->n; i++)
        heap->timers[i]->armed = false;
    free(heap->timers);
    *heap = (struct timer_heap){0};
}

static void grow(struct timer_heap *heap)
{
    uint32_t capacity = heap->capacity == 0 ? TIMER_HEAP_FIRST_CAPACITY : 2 * heap->capacity;
    struct env_timer **timers = realloc(heap->timers, capacity * sizeof(struct env_timer *));
    if (timers == NULL) {
        fprintf(stderr, "out of memory for timers=%u\n", capacity);
        abort();
    }
    heap->timers = timers;
    heap->capacity = capacity;
}

void timer_heap_arm(struct timer_heap *heap, struct env_timer *timer, uint64_t deadline_ns)
{
    if (timer->armed) {
        assert(timer->heap_index < heap->n && heap->timers[timer->heap_index] == timer);
    } else {
        if (heap->n == heap->capacity)
            grow(heap);
        put(heap, heap->n++, timer);
        timer->armed = true;
    }
    timer->deadline_ns = deadline_ns;
    timer->order = heap->next_order++;
    sift_up(heap, timer->heap_index);
    sift_down(heap, timer->heap_index);
}

void timer_heap_stop(struct timer_heap *heap, struct env_timer *timer)
{
    if (!timer->armed)
        return;
    uint32_t index = timer->heap_index;
    assert(index < heap->n && heap->timers[index] == timer);
    timer->armed = false;
    struct env_timer *last = heap->timers[--heap->n];
    if (last == timer)
        return;
    put(heap, index, last);
    sift_up(heap, index);
    sift_down(heap, last->heap_index);
}

struct env_timer *timer_heap_pop(struct timer_heap *heap, uint64_t now_ns, uint64_t order_limit)
{
    struct env_timer *timer = timer_heap_first(heap);
    if (timer == NULL || timer->deadline_ns > now_ns || timer->order >= order_limit)
        return NULL;
    timer_heap_stop(heap, timer);
    return timer;
}
