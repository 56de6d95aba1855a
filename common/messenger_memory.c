/*
 * Invariants:
 *  1. memory->live is the sum of `counted` over all payload buffers in existence; lane->live is
 *     that over the buffers of one session.
 *  2. A lane lives as long as its session or one of its buffers; the memory as long as the
 *     messenger or one of its lanes.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "common/messenger_private.h"

struct receive_buf {
    struct buf base; /* First. */
    struct receive_lane *lane;
    size_t counted;
};

struct receive_memory *receive_memory_create(uint64_t limit)
{
    struct receive_memory *memory = calloc(1, sizeof *memory);
    if (memory == NULL)
        return NULL;
    memory->refs = 1;
    memory->limit = limit;
    return memory;
}

void receive_memory_unref(struct receive_memory *memory)
{
    assert(memory->refs > 0);
    if (--memory->refs == 0) {
        assert(memory->live == 0);
        free(memory);
    }
}

struct receive_lane *receive_lane_create(struct receive_memory *memory)
{
    struct receive_lane *lane = calloc(1, sizeof *lane);
    if (lane == NULL)
        return NULL;
    lane->refs = 1;
    lane->memory = memory;
    memory->refs++;
    return lane;
}

void receive_lane_unref(struct receive_lane *lane)
{
    assert(lane->refs > 0);
    if (--lane->refs > 0)
        return;
    assert(lane->live == 0);
    receive_memory_unref(lane->memory);
    free(lane);
}

static void release(struct buf *buf)
{
    struct receive_buf *r = (struct receive_buf *)buf;
    struct receive_lane *lane = r->lane;
    struct receive_memory *memory = lane->memory;
    assert(lane->live >= r->counted && memory->live >= r->counted);
    lane->live -= r->counted;
    memory->live -= r->counted;
    if (memory->wanted)
        memory->freed = true;
    if (buf->data != (uint8_t *)(r + 1))
        free(buf->data);
    free(r);
    receive_lane_unref(lane);
}

static bool may_receive(const struct receive_lane *lane, bool essential)
{
    return lane->memory->live < lane->memory->limit || (essential && lane->live == 0);
}

/* As buf_create() does it: small payloads in one block, larger ones aligned for direct I/O. */
int receive_lane_alloc(struct receive_lane *lane, size_t len, bool essential, struct buf_slice *out)
{
    if (!may_receive(lane, essential))
        return -EAGAIN;
    bool large = len >= BUF_ALIGNMENT;
    struct receive_buf *r = malloc(sizeof *r + (large ? 0 : len));
    if (r == NULL)
        return -ENOMEM;
    void *data = r + 1;
    if (large && posix_memalign(&data, BUF_ALIGNMENT, len) != 0) {
        free(r);
        return -ENOMEM;
    }
    r->base = (struct buf){.refs = 1, .capacity = len, .data = data, .release = release};
    r->lane = lane;
    r->counted = len;
    lane->refs++;
    lane->live += len;
    lane->memory->live += len;
    *out = (struct buf_slice){.buf = &r->base, .data = data, .len = len};
    return 0;
}
