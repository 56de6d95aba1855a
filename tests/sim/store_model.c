/* The model of a store: see store_model.h. */
#include "tests/sim/store_model.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void model_fill(uint64_t seed, void *out, size_t len)
{
    struct random_stream r;
    random_seed(&r, seed);
    random_fill(&r, out, len);
}

void model_init(struct model *m, const struct model_shape *shape)
{
    memset(m, 0, sizeof *m);
    m->shape = shape;
    for (uint32_t n = 0; n < shape->objects; n++) {
        m->objects[n].data = calloc(1, shape->object_bytes);
        m->objects[n].omap = calloc(shape->omap_keys, sizeof(uint64_t));
        assert(m->objects[n].data && m->objects[n].omap);
    }
}

void model_fini(struct model *m)
{
    for (uint32_t n = 0; n < m->shape->objects; n++) {
        free(m->objects[n].data);
        free(m->objects[n].omap);
    }
}

static void object_copy(const struct model_shape *shape, struct model_object *to,
                        const struct model_object *from)
{
    uint8_t *data = to->data;
    uint64_t *omap = to->omap;
    *to = *from;
    to->data = data;
    to->omap = omap;
    memcpy(data, from->data, shape->object_bytes);
    memcpy(omap, from->omap, shape->omap_keys * sizeof *omap);
}

static void object_clear(const struct model_shape *shape, struct model_object *o)
{
    uint8_t *data = o->data;
    uint64_t *omap = o->omap;
    memset(data, 0, shape->object_bytes);
    memset(omap, 0, shape->omap_keys * sizeof *omap);
    *o = (struct model_object){.data = data, .omap = omap};
}

void model_copy(struct model *to, const struct model *from)
{
    memcpy(to->pairs, from->pairs, sizeof to->pairs);
    for (uint32_t n = 0; n < from->shape->objects; n++)
        object_copy(from->shape, &to->objects[n], &from->objects[n]);
}

/* ---- Steps ---- */

static bool apply_elsewhere(struct model *m, const struct model_step *s)
{
    struct model_object *o = &m->objects[s->object];
    struct model_object *to = &m->objects[s->other];
    switch (s->code) {
    case STEP_REMOVE:
        object_clear(m->shape, o);
        return true;
    case STEP_RENAME:
    case STEP_CLONE:
        if (!o->exists || o == to)
            return true;
        object_copy(m->shape, to, o);
        if (s->code == STEP_RENAME)
            object_clear(m->shape, o);
        return true;
    case STEP_PG_SET:
    case STEP_PG_REMOVE:
        for (uint64_t i = s->offset; i < s->offset + s->len; i++)
            m->pairs[s->object % MODEL_PGS][i] = s->code == STEP_PG_SET ? s->fill + i : 0;
        return true;
    default:
        return false;
    }
}

static void apply_content(struct model *m, struct model_object *o, const struct model_step *s,
                          uint64_t number)
{
    o->info = number;
    if (s->code == STEP_TRUNCATE || s->code == STEP_FULL) {
        uint64_t keep = s->code == STEP_FULL ? 0 : s->offset;
        memset(o->data + keep, 0, m->shape->object_bytes - keep);
        o->size = keep;
    }
    if (s->code == STEP_WRITE || s->code == STEP_FULL)
        model_fill(s->fill, o->data + s->offset, s->len);
    if (s->code == STEP_ZERO)
        memset(o->data + s->offset, 0, s->len);
    if (s->code != STEP_TRUNCATE && s->len > 0 && s->offset + s->len > o->size)
        o->size = s->offset + s->len;
}

static void apply_step(struct model *m, const struct model_step *s, uint64_t number)
{
    struct model_object *o = &m->objects[s->object];
    if (apply_elsewhere(m, s))
        return;
    if ((s->code == STEP_OMAP_REMOVE || s->code == STEP_ATTR_REMOVE) && !o->exists)
        return;
    o->exists = true;
    if (s->code == STEP_OMAP_SET || s->code == STEP_OMAP_REMOVE) {
        for (uint64_t i = s->offset; i < s->offset + s->len; i++)
            o->omap[i] = s->code == STEP_OMAP_SET ? s->fill + i : 0;
    } else if (s->code == STEP_ATTR_SET || s->code == STEP_ATTR_REMOVE) {
        o->attrs[s->offset] = (struct model_attr){
            .set = s->code == STEP_ATTR_SET, .len = (uint32_t)s->len, .fill = s->fill};
    } else {
        apply_content(m, o, s, number);
    }
}

void model_apply(struct model *m, const struct model_txn *txn)
{
    for (uint32_t i = 0; i < txn->n_steps; i++)
        apply_step(m, &txn->steps[i], txn->number);
}

static bool names_other(const struct model_step *s)
{
    return s->code == STEP_RENAME || s->code == STEP_CLONE;
}

void model_damage(struct model *m, const struct model_txn *txn)
{
    for (uint32_t i = 0; i < txn->n_steps; i++) {
        const struct model_step *s = &txn->steps[i];
        m->objects[s->object].damaged = true;
        if (names_other(s))
            m->objects[s->other].damaged = true;
    }
}

bool model_is_damaged(const struct model *m, const struct model_txn *txn)
{
    for (uint32_t i = 0; i < txn->n_steps; i++) {
        const struct model_step *s = &txn->steps[i];
        if (m->objects[s->object].damaged || (names_other(s) && m->objects[s->other].damaged))
            return true;
    }
    return false;
}

/* ---- Choosing ---- */

static void choose_range(const struct model_shape *shape, struct random_stream *r,
                         struct model_step *s)
{
    uint64_t kind = shape->growing ? 7 : random_below(r, 10);
    uint64_t bytes = shape->object_bytes;
    if (shape->covering) { /* Whole blocks of the first part, in a new place or in the journal. */
        bool large = random_below(r, 3) == 0;
        s->offset = large ? 0 : random_below(r, 2) * 4096;
        s->len = (large ? 16 + random_below(r, 16) : 8 + random_below(r, 7)) * 4096;
    } else if (shape->deferring) {
        s->len = (8 + random_below(r, 8)) * 4096;
        s->offset = random_below(r, bytes / 4096 - 16) * 4096;
    } else if (kind < 4) { /* Whole blocks, few. */
        s->offset = random_below(r, bytes / 4096 - 4) * 4096;
        s->len = (1 + random_below(r, 4)) * 4096;
    } else if (kind < 7) { /* Small and anywhere. */
        s->offset = random_below(r, bytes - 9000);
        s->len = 1 + random_below(r, 9000);
    } else { /* Large enough for a new place, often not aligned. */
        s->len = 65536 + random_below(r, bytes / 2);
        s->offset = random_below(r, bytes - s->len);
        if (random_below(r, 2) == 0) {
            s->offset = s->offset / 4096 * 4096;
            s->len = s->len / 4096 * 4096;
        }
    }
}

static void choose_small(const struct model_shape *shape, struct random_stream *r,
                         struct model_step *s, uint64_t kind)
{
    if (kind < 8) {
        s->code = kind < 6 ? STEP_OMAP_SET : STEP_OMAP_REMOVE;
        s->offset = random_below(r, shape->omap_keys);
        uint64_t most = shape->omap_keys - s->offset;
        s->len = 1 + random_below(r, random_below(r, 4) > 0 && most > 5 ? 5 : most);
    } else if (kind < 12) {
        s->code = kind < 11 ? STEP_ATTR_SET : STEP_ATTR_REMOVE;
        s->offset = random_below(r, MODEL_ATTRS);
        s->len = random_below(r, random_below(r, 8) > 0 ? 200 : 20000);
    } else {
        s->code = kind < 15 ? STEP_PG_SET : STEP_PG_REMOVE;
        s->offset = random_below(r, MODEL_PG_KEYS);
        s->len = 1 + random_below(r, MODEL_PG_KEYS - s->offset);
    }
}

static void choose_step(const struct model_shape *shape, struct random_stream *r,
                        struct model_step *s)
{
    bool writes = shape->covering || (shape->deferring && random_below(r, 8) > 0);
    uint64_t kind = random_below(r, writes ? 55 : 100);
    memset(s, 0, sizeof *s);
    s->object = (uint32_t)random_below(r, shape->objects);
    if (shape->deferring)
        s->object = s->object / 2 + shape->hot * (shape->objects / 2);
    s->other = s->object ^ 1;
    s->fill = random_next(r) | 1;
    if (kind < 60) {
        s->code = kind < 55 ? STEP_WRITE : STEP_FULL;
        choose_range(shape, r, s);
        if (s->code == STEP_FULL)
            s->offset = 0;
    } else if (kind < 66) {
        s->code = STEP_ZERO;
        choose_range(shape, r, s);
    } else if (kind < 71) {
        s->code = STEP_TRUNCATE;
        s->offset = random_below(r, shape->object_bytes);
    } else if (kind < 88) {
        choose_small(shape, r, s, kind - 71);
    } else if (kind < 92) {
        s->code = STEP_REMOVE;
    } else {
        s->code = kind < 95 ? STEP_RENAME : STEP_CLONE;
    }
}

/* A clone takes the map as it is in the index: nothing of it may change before, in its transaction;
 * and there is one in a transaction. */
static bool allowed(const struct model_txn *txn, const struct model_step *s)
{
    for (uint32_t i = 0; s->code == STEP_CLONE && i < txn->n_steps; i++)
        if (txn->steps[i].code == STEP_CLONE || txn->steps[i].code == STEP_OMAP_SET ||
            txn->steps[i].code == STEP_OMAP_REMOVE)
            return false;
    return true;
}

void model_choose(const struct model_shape *shape, struct random_stream *random,
                  struct model_txn *txn)
{
    uint32_t want =
        random_below(random, 3) > 0 ? 1 : 1 + (uint32_t)random_below(random, shape->steps);
    struct model_step step;
    txn->n_steps = 0;
    while (txn->n_steps < want) {
        choose_step(shape, random, &step);
        /* Steps on the same object are where transactions go wrong. */
        if (txn->n_steps > 0 && random_below(random, 3) > 0) {
            step.object = txn->steps[0].object ^ (random_below(random, 3) == 0);
            step.other = step.object ^ 1;
        }
        if (allowed(txn, &step))
            txn->steps[txn->n_steps++] = step;
    }
}

/* ---- Encoding ---- */

struct pg_id model_pg(uint32_t n)
{
    return (struct pg_id){.pool = MODEL_FIRST_POOL + n, .seed = n * 3};
}

size_t model_key(uint64_t n, char key[MODEL_KEY_BYTES])
{
    return (size_t)snprintf(key, MODEL_KEY_BYTES, "key-%06u", (unsigned)n);
}

struct object_id model_object_id(const struct model_shape *shape, uint32_t n)
{
    static uint8_t names[MODEL_OBJECTS_MAX][OBJECT_NAME_MAX + 2];
    static uint8_t locators[MODEL_OBJECTS_MAX][OBJECT_LOCATOR_MAX];
    static uint64_t made[MODEL_OBJECTS_MAX];
    static struct object_id ids[MODEL_OBJECTS_MAX];
    struct random_stream r;
    if (made[n] == shape->seed + 1)
        return ids[n];
    random_seed(&r, shape->seed * 64 + n / 2);
    uint32_t hash = (uint32_t)random_next(&r);
    uint64_t pool = MODEL_FIRST_POOL + random_below(&r, MODEL_POOLS);
    random_seed(&r, shape->seed * 64 + 32 + n);
    uint16_t len = (uint16_t)(shape->long_names ? random_below(&r, OBJECT_NAME_MAX - 1) : 8);
    random_fill(&r, names[n], len);
    for (uint16_t i = 0; i < len; i++)
        if (random_below(&r, 4) == 0)
            names[n][i] = random_below(&r, 2) ? 0 : 0xff;
    uint16_t locator_len = (uint16_t)(shape->long_names ? random_below(&r, OBJECT_LOCATOR_MAX) : 4);
    random_fill(&r, locators[n], locator_len);
    names[n][len++] = 'a';
    names[n][len++] = (uint8_t)('a' + n); /* Names differ. */
    ids[n] = (struct object_id){.pool = pool,
                                .hash = hash,
                                .space = (const uint8_t *)(n % 4 < 2 ? "" : "s\0\xff"),
                                .space_len = n % 4 < 2 ? 0 : 3,
                                .locator = locators[n],
                                .locator_len = n % 3 == 0 ? locator_len : 0,
                                .name = names[n],
                                .name_len = len,
                                .snap = OBJECT_HEAD};
    made[n] = shape->seed + 1;
    return ids[n];
}

static void encode_omap(const struct model_step *s, struct store_txn *txn)
{
    char key[MODEL_KEY_BYTES], end[MODEL_KEY_BYTES];
    for (uint64_t i = s->offset; s->code == STEP_OMAP_SET && i < s->offset + s->len; i++) {
        uint64_t value = s->fill + i;
        size_t n = model_key(i, key);
        txn_omap_set(txn, key, (uint16_t)n, &value, sizeof value);
    }
    if (s->code == STEP_OMAP_REMOVE) {
        size_t n = model_key(s->offset, key), m = model_key(s->offset + s->len, end);
        txn_omap_remove_range(txn, key, (uint16_t)n, end, (uint16_t)m);
    }
}

static void encode_pg(const struct model_step *s, struct store_txn *txn)
{
    char key[MODEL_KEY_BYTES], end[MODEL_KEY_BYTES];
    struct pg_id pg = model_pg(s->object % MODEL_PGS);
    for (uint64_t i = s->offset; s->code == STEP_PG_SET && i < s->offset + s->len; i++) {
        uint64_t value = s->fill + i;
        size_t n = model_key(i, key);
        txn_pg_set(txn, pg, key, (uint16_t)n, &value, sizeof value);
    }
    if (s->code == STEP_PG_REMOVE) {
        size_t n = model_key(s->offset, key), m = model_key(s->offset + s->len, end);
        txn_pg_remove_range(txn, pg, key, (uint16_t)n, end, (uint16_t)m);
    }
}

static void encode_attr(const struct model_step *s, struct store_txn *txn)
{
    char name = (char)('a' + s->offset);
    uint8_t value[20000];
    if (s->code == STEP_ATTR_REMOVE) {
        txn_remove_attr(txn, &name, 1);
        return;
    }
    model_fill(s->fill, value, s->len);
    txn_set_attr(txn, &name, 1, value, (uint32_t)s->len);
}

static void encode_step(const struct model_shape *shape, const struct model_step *s,
                        uint64_t number, uint64_t data_offset, struct store_txn *txn)
{
    struct object_id id = model_object_id(shape, s->object);
    struct object_id to = model_object_id(shape, s->other);
    txn_object(txn, &id);
    switch (s->code) {
    case STEP_FULL:
    case STEP_WRITE:
        if (s->code == STEP_FULL)
            txn_truncate(txn, 0);
        txn_write(txn, s->offset, s->len, data_offset);
        break;
    case STEP_ZERO:
        txn_zero(txn, s->offset, s->len);
        break;
    case STEP_TRUNCATE:
        txn_truncate(txn, s->offset);
        break;
    case STEP_REMOVE:
        txn_remove(txn);
        return;
    case STEP_RENAME:
        txn_rename(txn, &to);
        return;
    case STEP_CLONE:
        txn_clone(txn, &to);
        return;
    case STEP_OMAP_SET:
    case STEP_OMAP_REMOVE:
        encode_omap(s, txn);
        return;
    case STEP_ATTR_SET:
    case STEP_ATTR_REMOVE:
        encode_attr(s, txn);
        return;
    case STEP_PG_SET:
    case STEP_PG_REMOVE:
        encode_pg(s, txn);
        return;
    }
    txn_set_info(txn, &number, sizeof number);
}

void model_encode(const struct model_shape *shape, const struct model_txn *txn,
                  struct store_txn *out)
{
    uint64_t bytes = 0;
    /* Sometimes the data are not aligned in memory. */
    uint64_t at = txn->steps[0].fill & 2 ? 1 : 0;
    for (uint32_t i = 0; i < txn->n_steps; i++)
        if (txn->steps[i].code == STEP_WRITE || txn->steps[i].code == STEP_FULL)
            bytes += txn->steps[i].len;
    if (bytes > 0) {
        int error = buf_slice_alloc(bytes + at, &out->data);
        assert(error == 0);
    }
    for (uint32_t i = 0; i < txn->n_steps; i++) {
        const struct model_step *s = &txn->steps[i];
        encode_step(shape, s, txn->number, at, out);
        if (s->code == STEP_WRITE || s->code == STEP_FULL) {
            model_fill(s->fill, out->data.data + at, s->len);
            at += s->len;
        }
    }
    txn_pg_set(out, model_pg(MODEL_PGS), "number", 6, &txn->number, sizeof txn->number);
}
