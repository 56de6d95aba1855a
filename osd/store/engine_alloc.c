/*
 * The allocator: one bit a block, and the number of free blocks of each part of 4,096.
 *
 * Large requests go round the disk (next fit) and take runs; single blocks are taken from where the
 * disk is used already, so that they fill holes instead of cutting runs. Nothing here is durable:
 * the bitmap is derived from the index at mount, or loaded after a clean stop.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "osd/store/engine.h"

enum {
    ALLOC_PART = 4096,
    ALLOC_WORDS = ALLOC_PART / 64,
    LOOK_AT_RUNS = 256, /* Then the longest so far is taken: a fragmented disk has millions. */
};

static bool bit_used(const struct allocator *a, uint32_t block)
{
    return (a->used[block / 64] >> (block % 64)) & 1;
}

int allocator_init(struct allocator *a, uint32_t n_blocks, uint32_t first)
{
    assert(first > 0 && first < n_blocks);
    memset(a, 0, sizeof *a);
    a->n_parts = (n_blocks + ALLOC_PART - 1) / ALLOC_PART;
    a->n_blocks = n_blocks;
    a->first = first;
    a->used = calloc((size_t)a->n_parts * ALLOC_WORDS, sizeof *a->used);
    a->part_free = calloc(a->n_parts, sizeof *a->part_free);
    if (!a->used || !a->part_free) {
        allocator_fini(a);
        return -ENOMEM;
    }
    for (uint32_t b = 0; b < a->n_parts * (uint32_t)ALLOC_PART; b++)
        if (b < first || b >= n_blocks)
            a->used[b / 64] |= UINT64_C(1) << (b % 64);
    a->large_at = first;
    a->small_at = first;
    allocator_recount(a);
    return 0;
}

void allocator_fini(struct allocator *a)
{
    free(a->used);
    free(a->part_free);
    memset(a, 0, sizeof *a);
}

void allocator_recount(struct allocator *a)
{
    a->n_free = 0;
    for (uint32_t p = 0; p < a->n_parts; p++) {
        uint32_t used = 0;
        for (uint32_t w = 0; w < ALLOC_WORDS; w++)
            used += (uint32_t)__builtin_popcountll(a->used[p * ALLOC_WORDS + w]);
        a->part_free[p] = (uint16_t)(ALLOC_PART - used);
        a->n_free += a->part_free[p];
    }
}

bool allocator_is_used(const struct allocator *a, uint32_t block)
{
    return block >= a->n_blocks || bit_used(a, block);
}

static void set_range(struct allocator *a, uint32_t block, uint32_t count, bool used)
{
    for (uint32_t b = block; b < block + count; b++) {
        assert(bit_used(a, b) != used);
        a->used[b / 64] ^= UINT64_C(1) << (b % 64);
        if (used)
            a->part_free[b / ALLOC_PART]--;
        else
            a->part_free[b / ALLOC_PART]++;
    }
    if (used)
        a->n_free -= count;
    else
        a->n_free += count;
}

bool allocator_mark(struct allocator *a, uint32_t block, uint32_t count)
{
    if (block < a->first || block >= a->n_blocks || count > a->n_blocks - block)
        return false;
    for (uint32_t b = block; b < block + count; b++)
        if (bit_used(a, b))
            return false;
    set_range(a, block, count, true);
    return true;
}

void allocator_release(struct allocator *a, uint32_t block, uint32_t count)
{
    assert(block >= a->first && count <= a->n_blocks - block);
    set_range(a, block, count, false);
}

/* The first free block at or after `from`, or n_blocks. */
static uint32_t next_free(const struct allocator *a, uint32_t from)
{
    uint32_t b = from;
    while (b < a->n_blocks) {
        if (b % ALLOC_PART == 0 && a->part_free[b / ALLOC_PART] == 0) {
            b += ALLOC_PART;
            continue;
        }
        uint64_t free_bits = ~a->used[b / 64] >> (b % 64);
        if (free_bits)
            return b + (uint32_t)__builtin_ctzll(free_bits);
        b = (b / 64 + 1) * 64;
    }
    return a->n_blocks;
}

/* Length of the free run at `block`, at most want. */
static uint32_t run_length(const struct allocator *a, uint32_t block, uint32_t want)
{
    uint32_t n = 0;
    while (n < want && block + n < a->n_blocks) {
        uint32_t b = block + n;
        uint64_t used_bits = a->used[b / 64] >> (b % 64);
        uint32_t here = used_bits ? (uint32_t)__builtin_ctzll(used_bits) : 64 - b % 64;
        if (here == 0)
            break;
        n += here;
        if (used_bits && b % 64 + here < 64)
            break;
    }
    return n < want ? n : want;
}

/*
 * Looks at runs in [from, to) for one of want blocks; remembers the longest. True when it is found,
 * or enough has been looked at.
 */
static bool find_run(const struct allocator *a, uint32_t from, uint32_t to, uint32_t want,
                     uint32_t *looked_at, uint32_t *block, uint32_t *len)
{
    uint32_t b = next_free(a, from);
    while (b < to) {
        uint32_t n = run_length(a, b, want);
        if (n > *len) {
            *block = b;
            *len = n;
        }
        if (n == want || ++*looked_at == LOOK_AT_RUNS)
            return true;
        b = next_free(a, b + n);
    }
    return false;
}

uint32_t allocator_take(struct allocator *a, uint32_t want, uint32_t *block)
{
    assert(want > 0);
    if (a->n_free == 0)
        return 0;
    uint32_t *at = want == 1 ? &a->small_at : &a->large_at;
    uint32_t len = 0, looked_at = 0;
    if (!find_run(a, *at, a->n_blocks, want, &looked_at, block, &len))
        (void)find_run(a, a->first, *at, want, &looked_at, block, &len);
    assert(len > 0);
    set_range(a, *block, len, true);
    *at = *block + len < a->n_blocks ? *block + len : a->first;
    return len;
}
