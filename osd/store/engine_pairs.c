/*
 * Pairs that the index does not have yet.
 *
 * A placement group writes a log entry with each transaction and removes it some seconds later.
 * Most would die in the index's memory, at the price of an insertion and a part of a range removal
 * each. So durable changes of pairs stay here, and the index gets by a checkpoint what is left of
 * them; the journal has them until then. Readers of pairs have them saved first.
 *
 *  P1  Only changes of durable groups are here, so all of it may be saved at any time.
 *  P2  A family is its removed ranges, and then its pairs: what it makes of the index when the
 *      ranges are removed first and the pairs are put then is what its group made.
 *  P3  The list is in order of `since`, the first record whose changes the index may lack. A
 *      checkpoint saves every family with one before its target.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/planted.h"
#include "osd/store/engine.h"

enum {
    PREFIX_MAX = 13, /* KEY_PG, pool and seed; other keys have families of their own. */
    KEY_BYTES_MAX = PREFIX_MAX + STORE_PG_KEY_MAX,
    PAIRS_FIRST = 16,  /* Capacity of a family. */
    SAVE_PAIRS = 64,   /* So many, and a family whole, are saved in one turn of the loop. */
    PAIR_BEGIN = 10,   /* Numbered keys of a placement group are shorter. */
    PAIR_REMOVED = -1, /* A length: the pair is not there any more. */
};

/*
 * One key, the family's prefix left out. When it leaves, seconds after it came, its bytes are in no
 * cache: what is asked of it is beside the others'.
 */
struct pair {
    uint8_t *bytes; /* The key, then the value. */
    int32_t len;    /* Of the value. */
    uint16_t key_len;
    uint8_t begin[PAIR_BEGIN]; /* Of the key, then zeroes. */
};
static_assert(sizeof(struct pair) == 24, "pair");

/* Removed keys: from the first, without the last; the family's prefix left out. */
struct pair_range {
    uint16_t from_len, to_len;
    uint8_t *bytes;
};

struct family {
    UT_hash_handle hh;
    TAILQ_ENTRY(family) link;
    uint64_t since;
    uint32_t first, n, capacity; /* pairs[first .. first + n - 1], ascending. */
    struct pair *pairs;
    uint32_t n_ranges;
    struct pair_range *ranges; /* Apart from each other. */
    uint8_t prefix_len;
    uint8_t prefix[PREFIX_MAX];
};

static size_t prefix_of(const uint8_t *key, size_t len)
{
    return key[0] == KEY_PG && len >= PREFIX_MAX ? PREFIX_MAX : len;
}

static int order(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
    int by_bytes = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return by_bytes ? by_bytes : (a_len > b_len) - (a_len < b_len);
}

static int pair_order(const struct pair *p, const uint8_t *key, size_t len)
{
    const uint8_t *bytes = p->key_len <= PAIR_BEGIN ? p->begin : p->bytes;
    return order(bytes, p->key_len, key, len);
}

/* ---- Families ---- */

static uint64_t pair_memory(const struct pair *p)
{
    return sizeof *p + p->key_len + (p->len > 0 ? (uint32_t)p->len : 0);
}

static void pair_free(struct engine *e, struct pair *p)
{
    e->pairs.memory -= pair_memory(p);
    free(p->bytes);
}

static void family_free(struct engine *e, struct family *f)
{
    assert(e->pairs.families);
    for (uint32_t i = 0; i < f->n; i++)
        pair_free(e, &f->pairs[f->first + i]);
    for (uint32_t i = 0; i < f->n_ranges; i++)
        free(f->ranges[i].bytes);
    TAILQ_REMOVE(&e->pairs.unsaved, f, link);
    HASH_DEL(e->pairs.families, f);
    free(f->pairs);
    free(f->ranges);
    free(f);
}

static struct family *family_get(struct engine *e, const uint8_t *key, size_t prefix_len,
                                 uint64_t record)
{
    struct family *f;
    HASH_FIND(hh, e->pairs.families, key, prefix_len, f);
    if (f)
        return f;
    f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->since = record;
    f->prefix_len = (uint8_t)prefix_len;
    memcpy(f->prefix, key, prefix_len);
    HASH_ADD_KEYPTR(hh, e->pairs.families, f->prefix, prefix_len, f);
    if (!TABLE_TOOK(f)) {
        free(f);
        return NULL;
    }
    TAILQ_INSERT_TAIL(&e->pairs.unsaved, f, link);
    return f;
}

/*
 * The place of the first pair whose key is not smaller. New keys are near the end, mostly, so the
 * search widens from there.
 */
static uint32_t place_of(const struct family *f, const uint8_t *key, size_t len)
{
    const struct pair *pairs = f->pairs + f->first;
    uint32_t low = 0, high = f->n;
    for (uint32_t step = 1; high > 0; step *= 2) {
        uint32_t probe = high > step ? high - step : 0;
        if (pair_order(&pairs[probe], key, len) < 0) {
            low = probe + 1;
            break;
        }
        high = probe;
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (pair_order(&pairs[middle], key, len) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Room for one pair more behind the last. */
static bool family_room(struct family *f)
{
    if (f->first + f->n < f->capacity)
        return true;
    if (f->first > f->n) {
        memmove(f->pairs, f->pairs + f->first, f->n * sizeof *f->pairs);
        f->first = 0;
        return true;
    }
    uint32_t capacity = f->capacity ? f->capacity * 2 : PAIRS_FIRST;
    struct pair *grown = realloc(f->pairs, capacity * sizeof *grown);
    if (!grown)
        return false;
    f->pairs = grown;
    f->capacity = capacity;
    return true;
}

/* Sets a pair, or notes that it is not there (value NULL). */
static int set_pair(struct engine *e, struct family *f, const uint8_t *key, size_t key_len,
                    const void *value, size_t len)
{
    struct pair p = {
        .bytes = malloc(key_len + len + 1),
        .len = value ? (int32_t)len : PAIR_REMOVED,
        .key_len = (uint16_t)key_len,
    };
    if (!p.bytes || !family_room(f)) {
        free(p.bytes);
        return -ENOMEM;
    }
    memcpy(p.bytes, key, key_len);
    memcpy(p.begin, key, key_len < PAIR_BEGIN ? key_len : PAIR_BEGIN);
    if (value && len > 0)
        memcpy(p.bytes + key_len, value, len);
    e->pairs.memory += pair_memory(&p);
    uint32_t at = place_of(f, key, key_len);
    struct pair *place = f->pairs + f->first + at;
    if (at < f->n && pair_order(place, key, key_len) == 0) {
        pair_free(e, place);
    } else {
        memmove(place + 1, place, (f->n - at) * sizeof *place);
        f->n++;
    }
    *place = p;
    return 0;
}

/* ---- Ranges ---- */

static const uint8_t *range_to(const struct pair_range *range)
{
    return range->bytes + range->from_len;
}

static int range_copy(struct pair_range *out, const uint8_t *from, size_t from_len,
                      const uint8_t *to, size_t to_len)
{
    out->bytes = malloc(from_len + to_len + 1);
    if (!out->bytes)
        return -ENOMEM;
    out->from_len = (uint16_t)from_len;
    out->to_len = (uint16_t)to_len;
    memcpy(out->bytes, from, from_len);
    memcpy(out->bytes + from_len, to, to_len);
    return 0;
}

/* Remembers the range; those that it overlaps or touches become one with it. */
static int add_range(struct family *f, const uint8_t *from, size_t from_len, const uint8_t *to,
                     size_t to_len)
{
    struct pair_range *grown = realloc(f->ranges, (f->n_ranges + 1) * sizeof *grown);
    struct pair_range all;
    if (!grown)
        return -ENOMEM;
    f->ranges = grown;
    if (range_copy(&all, from, from_len, to, to_len) < 0)
        return -ENOMEM;
    for (uint32_t i = 0; i < f->n_ranges;) {
        struct pair_range *r = &f->ranges[i], sum;
        if (order(range_to(r), r->to_len, all.bytes, all.from_len) < 0 ||
            order(range_to(&all), all.to_len, r->bytes, r->from_len) < 0) {
            i++;
            continue;
        }
        const struct pair_range *low =
            order(r->bytes, r->from_len, all.bytes, all.from_len) < 0 ? r : &all;
        const struct pair_range *high =
            order(range_to(r), r->to_len, range_to(&all), all.to_len) > 0 ? r : &all;
        int error = range_copy(&sum, low->bytes, low->from_len, range_to(high), high->to_len);
        if (error < 0) {
            free(all.bytes);
            return error;
        }
        free(all.bytes);
        free(r->bytes);
        all = sum;
        *r = f->ranges[--f->n_ranges];
    }
    f->ranges[f->n_ranges++] = all;
    return 0;
}

static int remove_range(struct engine *e, struct family *f, const uint8_t *from, size_t from_len,
                        const uint8_t *to, size_t to_len)
{
    uint32_t first = place_of(f, from, from_len), end = place_of(f, to, to_len);
    struct pair *pairs = f->pairs + f->first;
    for (uint32_t i = first; i < end; i++)
        pair_free(e, &pairs[i]);
    if (first == 0) {
        f->first += end;
    } else if (end > first) {
        memmove(pairs + first, pairs + end, (f->n - end) * sizeof *pairs);
    }
    f->n -= end > first ? end - first : 0;
    return add_range(f, from, from_len, to, to_len);
}

/* ---- What others see ---- */

void pairs_init(struct engine *e)
{
    TAILQ_INIT(&e->pairs.unsaved);
}

void pairs_fini(struct engine *e)
{
    struct family *f;
    while ((f = TAILQ_FIRST(&e->pairs.unsaved)) != NULL)
        family_free(e, f);
}

int pairs_change(struct engine *e, const struct encoder *batch, uint64_t record)
{
    struct index_change c;
    struct decoder d;
    int more;
    decoder_init(&d, batch->data, batch->len);
    while ((more = index_batch_next(&d, &c)) > 0) {
        const uint8_t *key = c.key;
        size_t prefix = prefix_of(key, c.key_len);
        assert(prefix <= PREFIX_MAX && c.key_len <= KEY_BYTES_MAX);
        struct family *f = family_get(e, key, prefix, record);
        int error = -ENOMEM;
        if (f && c.op == INDEX_REMOVE_RANGE)
            error = remove_range(e, f, key + prefix, c.key_len - prefix,
                                 (const uint8_t *)c.value + prefix, c.len - prefix);
        else if (f)
            error = set_pair(e, f, key + prefix, c.key_len - prefix,
                             c.op == INDEX_PUT ? c.value : NULL, c.len);
        if (error < 0)
            return error;
    }
    return more;
}

/* Everything of the family goes into the batch, and the family ends. */
static uint32_t family_save(struct engine *e, struct family *f, struct encoder *batch)
{
    uint8_t key[KEY_BYTES_MAX], to[KEY_BYTES_MAX];
    uint32_t n = f->n + f->n_ranges;
    memcpy(key, f->prefix, f->prefix_len);
    memcpy(to, f->prefix, f->prefix_len);
    for (uint32_t i = 0; i < f->n_ranges; i++) {
        const struct pair_range *r = &f->ranges[i];
        memcpy(key + f->prefix_len, r->bytes, r->from_len);
        memcpy(to + f->prefix_len, range_to(r), r->to_len);
        index_batch_remove_range(batch, key, f->prefix_len + (size_t)r->from_len, to,
                                 f->prefix_len + (size_t)r->to_len);
    }
    for (uint32_t i = 0; i < f->n; i++) {
        const struct pair *p = &f->pairs[f->first + i];
        size_t key_len = f->prefix_len + (size_t)p->key_len;
        memcpy(key + f->prefix_len, p->bytes, p->key_len);
        if (p->len == PAIR_REMOVED)
            index_batch_remove(batch, key, key_len);
        else
            index_batch_put(batch, key, key_len, p->bytes + p->key_len, (size_t)p->len);
    }
    if (planted(PLANTED_STORE_FORGET_PAIRS))
        encoder_reset(batch);
    family_free(e, f);
    return n;
}

int pairs_save(struct engine *e, uint64_t before, bool all, bool *more)
{
    struct encoder batch;
    struct family *f;
    uint32_t saved = 0;
    encoder_init(&batch);
    while ((f = TAILQ_FIRST(&e->pairs.unsaved)) != NULL && f->since < before &&
           (all || saved < SAVE_PAIRS))
        saved += family_save(e, f, &batch);
    *more = f && f->since < before;
    int error = batch.failed ? -ENOMEM : batch.len > 0 ? index_apply(e->index, &batch) : 0;
    encoder_fini(&batch);
    return error;
}
