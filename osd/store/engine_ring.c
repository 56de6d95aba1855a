/*
 * What the journal's ring has for the disk: deferred blocks whose group is durable and that are not
 * in place yet.
 *
 * Each block of the ring has a slot, which says for which block of the disk it holds the newest
 * content, if it does, and the checksum of that. A table finds the slot of a block. A slot is set
 * when its group is done, and emptied when the block is in place, or its content is needed no more
 * since a later record overwrites or frees the block (C3). So
 *
 *     the content of a block is in its slot if it has one, and in its place if not,
 *
 * and memory needs to hold no copy of it. Slots and table take 16 to 24 bytes for each block of the
 * ring, 0.6 % of it at most.
 *
 * Who reads the ring says so (ring_read_begin()), and its space is not written again meanwhile
 * (E10).
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "osd/store/engine.h"

int ring_init(struct engine *e)
{
    struct ring *ring = &e->ring;
    uint32_t bits = 1;
    ring->n_slots = (uint32_t)(e->journal.bytes / BLOCK_BYTES);
    while ((UINT32_C(1) << bits) < 2 * ring->n_slots)
        bits++;
    ring->shift = 32 - bits;
    ring->mask = (UINT32_C(1) << bits) - 1;
    ring->slots = calloc(ring->n_slots, sizeof *ring->slots);
    ring->table = calloc((size_t)ring->mask + 1, sizeof *ring->table);
    ring->end = e->journal.tail;
    LIST_INIT(&ring->reads);
    return ring->slots && ring->table ? 0 : -ENOMEM;
}

void ring_fini(struct engine *e)
{
    free(e->ring.slots);
    free(e->ring.table);
}

/* ---- The table: open addressing; entries are slots plus one, 0 for none ---- */

static uint32_t home_of(const struct ring *ring, uint32_t block)
{
    return (block * UINT32_C(0x9e3779b1)) >> ring->shift;
}

/* Where the block's entry is, or would be. */
static uint32_t entry_of(const struct ring *ring, uint32_t block)
{
    uint32_t at = home_of(ring, block);
    while (ring->table[at] != 0 && ring->slots[ring->table[at] - 1].block != block)
        at = (at + 1) & ring->mask;
    return at;
}

/* Those behind it move up, unless that would take them before their home. */
static void entry_remove(struct ring *ring, uint32_t hole)
{
    uint32_t at = hole;
    for (;;) {
        at = (at + 1) & ring->mask;
        if (ring->table[at] == 0)
            break;
        uint32_t home = home_of(ring, ring->slots[ring->table[at] - 1].block);
        if (((at - home) & ring->mask) < ((at - hole) & ring->mask))
            continue;
        ring->table[hole] = ring->table[at];
        hole = at;
    }
    ring->table[hole] = 0;
}

/* ---- Slots ---- */

uint32_t ring_slot_at(const struct engine *e, uint64_t position)
{
    return (uint32_t)(position % e->journal.bytes / BLOCK_BYTES);
}

bool ring_find(const struct engine *e, uint32_t block, uint32_t *slot)
{
    const struct ring *ring = &e->ring;
    if (ring->n == 0)
        return false;
    uint32_t entry = ring->table[entry_of(ring, block)];
    if (entry == 0)
        return false;
    *slot = entry - 1;
    return true;
}

void ring_forget(struct engine *e, uint32_t block)
{
    struct ring *ring = &e->ring;
    if (ring->n == 0)
        return;
    uint32_t at = entry_of(ring, block);
    if (ring->table[at] == 0)
        return;
    struct ring_slot *slot = &ring->slots[ring->table[at] - 1];
    entry_remove(ring, at);
    slot->block = BLOCK_NONE;
    ring->n--;
}

static void add(struct engine *e, uint64_t position, uint32_t block, uint32_t crc)
{
    struct ring *ring = &e->ring;
    uint32_t number = ring_slot_at(e, position);
    struct ring_slot *slot = &ring->slots[number];
    uint32_t at = entry_of(ring, block);
    assert(slot->block == BLOCK_NONE); /* The tail passes nothing that is not in place. */
    assert(ring->table[at] == 0);      /* The record that brought it has taken the old one away. */
    *slot = (struct ring_slot){.block = block, .crc = crc};
    ring->table[at] = number + 1;
    ring->n++;
}

void ring_take(struct engine *e, const struct group *g)
{
    uint64_t position = g->end - (uint64_t)g->n_payload * BLOCK_BYTES;
    for (uint32_t i = 0; i < g->n_payload; i++, position += BLOCK_BYTES) {
        struct cblock *c = g->payload[i];
        if (c->state != CBLOCK_DIRTY)
            continue; /* Superseded before it was durable. */
        add(e, position, c->block, c->crc);
        cache_durable(e, c);
    }
    e->ring.end = g->end;
}

/* ---- Reading it ---- */

void ring_read_begin(struct engine *e, struct ring_read *read, uint32_t slot)
{
    const struct journal *j = &e->journal;
    uint64_t lap = j->tail - j->tail % j->bytes;
    read->position = lap + (uint64_t)slot * BLOCK_BYTES;
    if (read->position < j->tail)
        read->position += j->bytes;
    assert(read->position < j->head);
    LIST_INSERT_HEAD(&e->ring.reads, read, link);
}

void ring_read_end(struct engine *e, struct ring_read *read)
{
    assert(read->position >= e->journal.tail); /* Nobody may have written there (E10). */
    LIST_REMOVE(read, link);
    journal_release(e);
}

uint64_t ring_reads_from(const struct engine *e)
{
    const struct ring_read *read;
    uint64_t oldest = UINT64_MAX;
    LIST_FOREACH(read, &e->ring.reads, link)
    if (read->position < oldest)
        oldest = read->position;
    return oldest;
}
