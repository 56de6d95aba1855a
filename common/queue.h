/*
 * A queue that is bounded by count and by bytes, intrusive and first in, first out.
 *
 * The bound is advice with teeth: pushing beyond it fails, so that whoever fills the queue must
 * stop (pause a session, make a caller wait). One item is always taken, however large, so that
 * nothing can wait for ever for a queue that is empty.
 */
#ifndef LIMPET_COMMON_QUEUE_H
#define LIMPET_COMMON_QUEUE_H

#include <bsd/sys/queue.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

/* Part of the owner's struct; reusable once it was popped. */
struct queue_item {
    size_t bytes;
    STAILQ_ENTRY(queue_item) link;
};

struct bounded_queue {
    const char *name; /* For logs and metrics. */
    uint32_t count;
    uint32_t count_limit;
    size_t bytes;
    size_t bytes_limit;
    uint64_t refused; /* Pushes that failed, since the start. */
    STAILQ_HEAD(queue_items, queue_item) items;
};

/* name stays valid as long as the queue. The limits are at least 1. */
void bounded_queue_init(struct bounded_queue *queue, const char *name, uint32_t count_limit,
                        size_t bytes_limit);
/* -ENOBUFS: it would exceed a limit, and was not queued. */
int bounded_queue_push(struct bounded_queue *queue, struct queue_item *item,
                       size_t bytes) MUST_CHECK;
/* The oldest item; NULL when there is none. */
struct queue_item *bounded_queue_peek(const struct bounded_queue *queue);
struct queue_item *bounded_queue_pop(struct bounded_queue *queue);
/* Below half of both limits: time to let a filler go on that was stopped. */
bool bounded_queue_low(const struct bounded_queue *queue);

#endif
