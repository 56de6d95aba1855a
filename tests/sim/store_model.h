/*
 * What the store should hold: objects, attributes, maps and pairs of placement groups, and random
 * transactions that change them.
 *
 * A transaction is recorded as steps, so that the model can be taken to any point of the history.
 */
#ifndef LIMPET_TESTS_SIM_STORE_MODEL_H
#define LIMPET_TESTS_SIM_STORE_MODEL_H

#include "osd/store/store.h"
#include "tests/sim/random.h"

enum {
    MODEL_OBJECTS_MAX = 16,
    MODEL_ATTRS = 4,
    MODEL_PGS = 3,
    MODEL_PG_KEYS = 24,
    MODEL_POOLS = 3,
    MODEL_FIRST_POOL = 7,
    MODEL_STEPS_MAX = 4,
    MODEL_KEY_BYTES = 16,
};

/* How large everything is: decided by the seed, the same for its whole life. */
struct model_shape {
    uint64_t seed;
    uint32_t objects;
    uint32_t object_bytes;
    uint32_t omap_keys;
    uint32_t steps; /* Of a transaction, at most. */
    bool growing;   /* Mostly large writes. */
    bool deferring; /* Mostly writes that are just small enough for the journal; of a half. */
    bool hot;       /* Which half. */
    bool covering;  /* Large writes, and small ones over what they have just written. */
    bool long_names;
};

struct model_attr {
    bool set;
    uint32_t len;
    uint64_t fill;
};

struct model_object {
    bool exists;
    uint64_t size;
    uint64_t info;
    struct model_attr attrs[MODEL_ATTRS];
    uint64_t *omap; /* 0: no such key. */
    uint8_t *data;
    bool damaged; /* Of its blocks some may be unreadable, since they could not be read before. */
};

struct model {
    const struct model_shape *shape;
    struct model_object objects[MODEL_OBJECTS_MAX];
    uint64_t pairs[MODEL_PGS][MODEL_PG_KEYS];
};

struct model_step {
    enum step_code {
        STEP_WRITE,
        STEP_FULL,
        STEP_ZERO,
        STEP_TRUNCATE,
        STEP_REMOVE,
        STEP_RENAME,
        STEP_CLONE,
        STEP_OMAP_SET,
        STEP_OMAP_REMOVE,
        STEP_ATTR_SET,
        STEP_ATTR_REMOVE,
        STEP_PG_SET,
        STEP_PG_REMOVE,
    } code;
    uint32_t object, other;
    uint64_t offset, len;
    uint64_t fill; /* Seed of the data. */
};

struct model_txn {
    uint64_t number;
    uint32_t n_steps;
    bool uses_reserve;
    struct model_step steps[MODEL_STEPS_MAX];
};

void model_init(struct model *m, const struct model_shape *shape);
void model_fini(struct model *m);
void model_copy(struct model *to, const struct model *from);
void model_apply(struct model *m, const struct model_txn *txn);
/* The transaction changed parts of blocks whose rest could not be read. After model_apply(). */
void model_damage(struct model *m, const struct model_txn *txn);
/* Whether an object that the transaction names is damaged already. */
bool model_is_damaged(const struct model *m, const struct model_txn *txn);

void model_choose(const struct model_shape *shape, struct random_stream *random,
                  struct model_txn *txn);
/* The transaction for the store; it also sets the number in a placement group of its own. */
void model_encode(const struct model_shape *shape, const struct model_txn *txn,
                  struct store_txn *out);

/* Names with any byte in them; neighbours have the same pool and hash, so that they can be renamed.
 * The strings are in static memory, one for each object. */
struct object_id model_object_id(const struct model_shape *shape, uint32_t n);
struct pg_id model_pg(uint32_t n);
size_t model_key(uint64_t n, char key[MODEL_KEY_BYTES]);
void model_fill(uint64_t seed, void *out, size_t len);

#endif
