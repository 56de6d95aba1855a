#include "common/queue.h"

#include <assert.h>
#include <errno.h>

void bounded_queue_init(struct bounded_queue *queue, const char *name, uint32_t count_limit,
                        size_t bytes_limit)
{
    assert(count_limit > 0 && bytes_limit > 0);
    *queue = (struct bounded_queue){
        .name = name,
        .count_limit = count_limit,
        .bytes_limit = bytes_limit,
    };
    STAILQ_INIT(&queue->items);
}

static bool has_room(const struct bounded_queue *queue, size_t bytes)
{
    if (queue->count == 0)
        return true;
    return queue->count < queue->count_limit && queue->bytes <= queue->bytes_limit &&
           bytes <= queue->bytes_limit - queue->bytes;
}

int bounded_queue_push(struct bounded_queue *queue, struct queue_item *item, size_t bytes)
{
    if (!has_room(queue, bytes)) {
        queue->refused++;
        return -ENOBUFS;
    }
    item->bytes = bytes;
    queue->count++;
    queue->bytes += bytes;
    STAILQ_INSERT_TAIL(&queue->items, item, link);
    return 0;
}

struct queue_item *bounded_queue_peek(const struct bounded_queue *queue)
{
    return STAILQ_FIRST(&queue->items);
}

struct queue_item *bounded_queue_pop(struct bounded_queue *queue)
{
    struct queue_item *item = STAILQ_FIRST(&queue->items);
    if (item == NULL) {
        assert(queue->count == 0 && queue->bytes == 0);
        return NULL;
    }
    STAILQ_REMOVE_HEAD(&queue->items, link);
    assert(queue->count > 0 && queue->bytes >= item->bytes);
    queue->count--;
    queue->bytes -= item->bytes;
    return item;
}

bool bounded_queue_low(const struct bounded_queue *queue)
{
    return queue->count <= queue->count_limit / 2 && queue->bytes <= queue->bytes_limit / 2;
}
