/*
 * Invariants:
 *  1. memory->live is the sum of `counted` over all payload buffers in use; lane->live is that over
 *     those of one session.
 *  2. Every block of the cache has its class's size, and cached_bytes is their sum. `n` of a class
 *     counts its blocks, and `least` is the smallest that `n` was since they were looked at.
 *  3. A lane lives as long as its session or one of its buffers; the memory as long as the
 *     messenger or one of its lanes.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "common/messenger_private.h"

struct receive_buf {
    struct buf base; /* First. */
    struct receive_lane *lane;
    size_t counted; /* In live: its capacity, or 0 after receive_lane_returned(). */
    unsigned class; /* Of the cache; RECEIVE_CLASSES: none. */
    SLIST_ENTRY(receive_buf) link;
};

/*
 * Fresh memory from the kernel costs a page fault for every 4 KiB, more than all else that is done
 * to a payload. So blocks are kept for reuse, in classes whose sizes are at most a quarter apart.
 */
static unsigned class_of(size_t len, size_t *rounded)
{
    size_t pages = (len + BUF_ALIGNMENT - 1) / BUF_ALIGNMENT;
    *rounded = pages * BUF_ALIGNMENT;
    if (pages > RECEIVE_CACHED_PAGES)
        return RECEIVE_CLASSES;
    if (pages < 8)
        return (unsigned)pages;
    unsigned power = 63 - (unsigned)__builtin_clzll(pages);
    size_t step = (size_t)1 << (power - 2);
    pages = (pages + step - 1) & ~(step - 1);
    power = 63 - (unsigned)__builtin_clzll(pages);
    *rounded = pages * BUF_ALIGNMENT;
    unsigned class = 8 + (power - 3) * 4 + (unsigned)(pages >> (power - 2)) - 4;
    assert(class < RECEIVE_CLASSES);
    return class;
}

struct receive_memory *receive_memory_create(uint64_t limit)
{
    struct receive_memory *memory = calloc(1, sizeof *memory);
    if (memory == NULL)
        return NULL;
    memory->refs = 1;
    memory->limit = limit;
    return memory;
}

static void free_block(struct receive_buf *r)
{
    if (r->base.data != (uint8_t *)(r + 1))
        free(r->base.data);
    free(r);
}

static struct receive_buf *take_cached(struct receive_memory *memory, struct receive_class *class)
{
    struct receive_buf *r = SLIST_FIRST(&class->blocks);
    if (r == NULL)
        return NULL;
    SLIST_REMOVE_HEAD(&class->blocks, link);
    assert(class->n > 0 && memory->cached_bytes >= r->base.capacity);
    class->n--;
    class->least = class->least < class->n ? class->least : class->n;
    memory->cached_bytes -= r->base.capacity;
    return r;
}

static void keep(struct receive_memory *memory, struct receive_class *class, struct receive_buf *r)
{
    SLIST_INSERT_HEAD(&class->blocks, r, link);
    class->n++;
    memory->cached_bytes += r->base.capacity;
}

/* Each class for itself: large blocks may lie idle for long while small ones come and go. */
void receive_memory_trim(struct receive_memory *memory)
{
    for (unsigned i = 0; i < RECEIVE_CLASSES; i++) {
        struct receive_class *class = &memory->classes[i];
        for (unsigned idle = class->least; idle > 0; idle--)
            free_block(take_cached(memory, class));
        class->least = class->n;
    }
}

void receive_memory_unref(struct receive_memory *memory)
{
    assert(memory->refs > 0);
    if (--memory->refs == 0) {
        assert(memory->live == 0);
        for (unsigned i = 0; i < RECEIVE_CLASSES; i++) {
            struct receive_buf *r;
            while ((r = take_cached(memory, &memory->classes[i])) != NULL)
                free_block(r);
        }
        assert(memory->cached_bytes == 0);
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

static void uncount(struct receive_buf *r)
{
    struct receive_lane *lane = r->lane;
    struct receive_memory *memory = lane->memory;
    assert(lane->live >= r->counted && memory->live >= r->counted);
    lane->live -= r->counted;
    memory->live -= r->counted;
    r->counted = 0;
    if (memory->wanted)
        memory->freed = true;
}

static void release(struct buf *buf)
{
    struct receive_buf *r = (struct receive_buf *)buf;
    struct receive_lane *lane = r->lane;
    struct receive_memory *memory = lane->memory;
    uncount(r);
    if (r->class < RECEIVE_CLASSES && memory->cached_bytes + buf->capacity <= RECEIVE_CACHE_BYTES)
        keep(memory, &memory->classes[r->class], r);
    else
        free_block(r);
    receive_lane_unref(lane);
}

/* A small payload and its struct are one block; larger ones are aligned for direct I/O. */
static struct receive_buf *new_block(size_t len)
{
    bool large = len >= BUF_ALIGNMENT;
    struct receive_buf *r = malloc(sizeof *r + (large ? 0 : len));
    if (r == NULL)
        return NULL;
    void *data = r + 1;
    if (large && posix_memalign(&data, BUF_ALIGNMENT, len) != 0) {
        free(r);
        return NULL;
    }
    r->base = (struct buf){.capacity = len, .data = data, .release = release};
    return r;
}

static struct receive_buf *take_block(struct receive_memory *memory, size_t len)
{
    if (len < BUF_ALIGNMENT) {
        struct receive_buf *r = new_block(len);
        if (r != NULL)
            r->class = RECEIVE_CLASSES;
        return r;
    }
    size_t rounded;
    unsigned class = class_of(len, &rounded);
    struct receive_buf *r = NULL;
    if (class < RECEIVE_CLASSES)
        r = take_cached(memory, &memory->classes[class]);
    if (r != NULL)
        return r;
    r = new_block(rounded);
    if (r != NULL)
        r->class = class;
    return r;
}

static bool may_receive(const struct receive_lane *lane, bool essential)
{
    return lane->memory->live < lane->memory->limit || (essential && lane->live == 0);
}

int receive_lane_alloc(struct receive_lane *lane, size_t len, bool essential, struct buf_slice *out)
{
    if (!may_receive(lane, essential))
        return -EAGAIN;
    struct receive_buf *r = take_block(lane->memory, len);
    if (r == NULL)
        return -ENOMEM;
    r->base.refs = 1;
    r->lane = lane;
    r->counted = r->base.capacity;
    lane->refs++;
    lane->live += r->counted;
    lane->memory->live += r->counted;
    *out = (struct buf_slice){.buf = &r->base, .data = r->base.data, .len = len};
    return 0;
}

void receive_lane_returned(struct receive_lane *lane, struct buf *buf)
{
    if (buf->release != release)
        return;
    struct receive_buf *r = (struct receive_buf *)buf;
    if (r->lane == lane)
        uncount(r);
}
