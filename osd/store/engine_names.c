/*
 * Which objects there may be: a Bloom filter of all names in the index, in memory.
 *
 * Most objects that a write asks for are new. The index would find that out from the filters of a
 * dozen files, at more cost than all else that the write needs of it; this answers with one line of
 * the processor's cache.
 *
 *  F1  A name is here before the index learns of it, so what the filter lacks the index lacks.
 *  F2  Names are never taken out. An object that was removed costs a question to the index.
 *  F3  Only a clean stop stores the filter; every other mount walks through all objects anyway, to
 *      derive the allocator's state, and makes it anew.
 *
 * Its size is a share of the memory target. With more objects than that is for, or after so many
 * came and went, it says "maybe" more often, and the index decides as it would without. A clean
 * stop does not store one of which most names are gone, so the next mount makes it anew.
 */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <isa-l.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/planted.h"
#include "osd/store/engine.h"

enum {
    NAMES_SHARE = 64,  /* Of the memory target. */
    LINE_WORDS = 8,    /* One line of the processor's cache. */
    LINE_BIT_BITS = 9, /* The number of a bit of it. */
    LINE_BITS = 1 << LINE_BIT_BITS,
    NAME_BITS = 6,   /* Bits of one name. */
    NAME_ROOM = 8,   /* Bits of the filter a name, with which it is wrong for 2 % of others. */
    GONE_FACTOR = 2, /* So many names an object: making it anew is worth a walk. */
    HUGE_BYTES = 2 * 1024 * 1024,
};

/* What a stored one may have at most: that of a memory target of 1 TiB. */
static const uint64_t stored_bytes_max = UINT64_C(1) << 34;

struct name_place {
    uint64_t *line;
    uint64_t bits; /* NAME_BITS times LINE_BIT_BITS, from the lowest on. */
};

static int allocate(struct names *names, size_t bytes)
{
    names->words = aligned_alloc(bytes < HUGE_BYTES ? BLOCK_BYTES : HUGE_BYTES, bytes);
    if (!names->words)
        return -ENOMEM;
    if (bytes >= HUGE_BYTES)
        (void)madvise(names->words, bytes, MADV_HUGEPAGE); /* Only faster with it. */
    memset(names->words, 0, bytes);
    names->bytes = bytes;
    return 0;
}

int names_init(struct engine *e)
{
    size_t bytes = ALLOCATOR_PART_BYTES;
    if (e->options.memory_target == 0)
        return 0; /* A tool that looks for no names. */
    while (bytes * 2 <= e->options.memory_target / NAMES_SHARE)
        bytes *= 2;
    return allocate(&e->names, bytes);
}

void names_fini(struct engine *e)
{
    free(e->names.words);
}

static struct name_place place_of(const struct names *names, const uint8_t *key, size_t len)
{
    uint64_t lines = names->bytes / (LINE_WORDS * sizeof(uint64_t));
    uint64_t crc = crc32_iscsi((unsigned char *)(uintptr_t)key, (int)len, 0);
    uint64_t mixed = (crc + 1) * UINT64_C(0x9e3779b97f4a7c15);
    uint64_t bits = (mixed ^ (mixed >> 29)) * UINT64_C(0xbf58476d1ce4e5b9);
    return (struct name_place){.line = names->words + ((mixed >> 32) & (lines - 1)) * LINE_WORDS,
                               .bits = bits >> (64 - NAME_BITS * LINE_BIT_BITS)};
}

void names_add(struct engine *e, const uint8_t *key, size_t len)
{
    if (!e->names.words)
        return;
    struct name_place p = place_of(&e->names, key, len);
    if (planted(PLANTED_STORE_FORGET_NAME) && p.bits % 8 == 0)
        return;
    bool fresh = false;
    for (uint32_t i = 0; i < NAME_BITS; i++, p.bits >>= LINE_BIT_BITS) {
        uint64_t bit = UINT64_C(1) << (p.bits % 64), *word = &p.line[p.bits % LINE_BITS / 64];
        fresh |= !(*word & bit);
        *word |= bit;
    }
    e->names.count += fresh;
}

bool names_lack(const struct engine *e, const uint8_t *key, size_t len)
{
    if (!e->names.complete)
        return false;
    struct name_place p = place_of(&e->names, key, len);
    for (uint32_t i = 0; i < NAME_BITS; i++, p.bits >>= LINE_BIT_BITS)
        if (!((p.line[p.bits % LINE_BITS / 64] >> (p.bits % 64)) & 1))
            return true;
    return false;
}

/* ---- Across a clean stop ---- */

static bool is_zero(const uint8_t *bytes, size_t len)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

/*
 * Whether it is full of names whose objects are gone. One that is full because there are so many
 * objects would become no better, and costs each clean mount a walk through all of them.
 */
static bool is_stale(const struct engine *e)
{
    uint64_t objects = 0;
    for (const struct pool_stat *p = e->pools; p; p = p->hh.next)
        objects += p->value.objects;
    return e->names.count > e->names.bytes * 8 / NAME_ROOM &&
           e->names.count / GONE_FACTOR > objects;
}

int names_save(struct engine *e)
{
    const struct names *names = &e->names;
    const uint8_t from = KEY_NAMES, to = KEY_NAMES + 1;
    struct names_layout layout = {.bytes = names->bytes, .count = names->count};
    struct encoder batch;
    int error = 0;
    encoder_init(&batch);
    index_batch_remove_range(&batch, &from, 1, &to, 1);
    bool save = names->complete && !is_stale(e);
    for (size_t at = 0; error == 0 && save && at < names->bytes; at += ALLOCATOR_PART_BYTES) {
        const uint8_t *part = (const uint8_t *)names->words + at;
        uint8_t key[5] = {KEY_NAMES};
        uint32_t number = htobe32((uint32_t)(at / ALLOCATOR_PART_BYTES));
        if (is_zero(part, ALLOCATOR_PART_BYTES))
            continue;
        memcpy(key + 1, &number, 4);
        index_batch_put(&batch, key, sizeof key, part, ALLOCATOR_PART_BYTES);
        layout.parts++;
        error = batch.failed ? -ENOMEM : index_apply(e->index, &batch);
        encoder_reset(&batch);
    }
    if (error == 0 && save)
        index_batch_put(&batch, &from, 1, &layout, sizeof layout);
    if (error == 0)
        error = batch.failed ? -ENOMEM : batch.len > 0 ? index_apply(e->index, &batch) : 0;
    encoder_fini(&batch);
    return error;
}

/* One pair of what was stored. False: it does not fit. */
static bool take_part(struct names *names, struct names_layout *layout, const uint8_t *key,
                      size_t key_len, const void *value, size_t len)
{
    uint32_t number;
    if (key_len == 1 && len == sizeof *layout) {
        memcpy(layout, value, len);
        names->count = layout->count;
        return layout->bytes == names->bytes;
    }
    if (key_len != 5 || len != ALLOCATOR_PART_BYTES || layout->parts == 0 || !names->words)
        return false;
    memcpy(&number, key + 1, 4);
    size_t at = (size_t)be32toh(number) * ALLOCATOR_PART_BYTES;
    if (at >= names->bytes)
        return false;
    memcpy((uint8_t *)names->words + at, value, len);
    layout->parts--;
    return true;
}

static int load_stored(struct engine *e)
{
    const uint8_t from = KEY_NAMES, to = KEY_NAMES + 1;
    struct names_layout layout = {0};
    struct index_iter *iter;
    const void *key, *value;
    size_t key_len, len;
    bool fits = false;
    int error = index_iterate(e->index, &from, 1, &to, 1, false, true, &iter);
    if (error < 0)
        return error;
    while ((error = index_next(e->index, iter, &key, &key_len, &value, &len)) > 0) {
        fits = take_part(&e->names, &layout, key, key_len, value, len);
        if (!fits)
            break;
    }
    e->index->ops->iter_free(iter);
    e->names.complete = error == 0 && fits && layout.parts == 0;
    return error < 0 ? error : 0;
}

int names_load(struct engine *e)
{
    const uint8_t from = KEY_OBJECT, to = KEY_OBJECT + 1;
    struct index_iter *iter;
    const void *key, *value;
    size_t key_len, len;
    if (!e->names.words)
        return 0;
    int error = load_stored(e);
    if (error < 0 || e->names.complete)
        return error;
    memset(e->names.words, 0, e->names.bytes);
    e->names.count = 0;
    error = index_iterate(e->index, &from, 1, &to, 1, false, true, &iter);
    if (error < 0)
        return error;
    while ((error = index_next(e->index, iter, &key, &key_len, &value, &len)) > 0)
        names_add(e, key, key_len);
    e->index->ops->iter_free(iter);
    e->names.complete = error == 0;
    return error;
}

int names_load_any(struct engine *e)
{
    const uint8_t key = KEY_NAMES;
    struct names_layout layout = {0};
    struct encoder value;
    assert(!e->names.words);
    encoder_init(&value);
    int found = index_get(e->index, &key, 1, &value, true);
    bool fits = found > 0 && value.len == sizeof layout;
    if (fits)
        memcpy(&layout, value.data, sizeof layout);
    encoder_fini(&value);
    if (found <= 0)
        return found;
    uint64_t bytes = layout.bytes;
    if (!fits || bytes < ALLOCATOR_PART_BYTES || bytes > stored_bytes_max ||
        (bytes & (bytes - 1)) != 0)
        return -ELIMPET_CORRUPT;
    int error = allocate(&e->names, bytes);
    if (error == 0)
        error = load_stored(e);
    return error < 0 ? error : e->names.complete ? 0 : -ELIMPET_CORRUPT;
}
