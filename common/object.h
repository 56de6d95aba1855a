/*
 * The identity of an object and of a placement group, as values.
 */
#ifndef LIMPET_COMMON_OBJECT_H
#define LIMPET_COMMON_OBJECT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/codec.h"

enum {
    OBJECT_NAME_MAX = 2048,
    OBJECT_NAMESPACE_MAX = 255,
    OBJECT_LOCATOR_MAX = 2048,
    /* Bytes of an encoded object_id. */
    OBJECT_ID_ENCODED_MAX =
        8 + 4 + 8 + 2 + OBJECT_NAMESPACE_MAX + 2 + OBJECT_LOCATOR_MAX + 2 + OBJECT_NAME_MAX,
    /* ... and of the strings of one. */
    OBJECT_STRINGS_MAX = OBJECT_NAMESPACE_MAX + OBJECT_LOCATOR_MAX + OBJECT_NAME_MAX,
};
#define OBJECT_SIZE_MAX (UINT64_C(128) * 1024 * 1024)
/* The snapshot number of the object itself, as opposed to one of its clones. */
#define OBJECT_HEAD UINT64_MAX
/* Numbers of snapshots begin with 1, and end here. */
#define OBJECT_SNAP_MAX (UINT64_C(1) << 62)

/*
 * Points to its strings, which may hold any byte and are not terminated.
 *
 * An object is placed by its name, or by a locator: objects of a namespace that have the same one
 * lie in the same placement group. The locator is part of the identity. One that is equal to the
 * name says nothing, and is never there: so that one object has one object_id, and one encoding.
 */
struct object_id {
    uint64_t pool;
    uint32_t hash; /* rjenkins of namespace and locator or name: placement/hash.h. */
    uint16_t space_len;
    uint16_t locator_len; /* 0: placed by its name. */
    uint16_t name_len;
    const uint8_t *space;
    const uint8_t *locator;
    const uint8_t *name;
    uint64_t snap;
};

struct pg_id {
    uint64_t pool;
    uint32_t seed; /* 0 .. pg_num - 1 */
};

enum { PG_ID_TEXT_MAX = 32 };

static inline bool pg_id_equal(struct pg_id a, struct pg_id b)
{
    return a.pool == b.pool && a.seed == b.seed;
}

/* "7.1f": pool in decimal, seed in hexadecimal, as Ceph prints it. */
const char *pg_id_format(struct pg_id pg, char text[PG_ID_TEXT_MAX]);

/*
 * The hash with its bits in reverse order: the order of listing. The objects of a placement group
 * lie next to each other in it, and still do when the group is split.
 */
uint32_t object_hash_reverse(uint32_t hash);

/* Order of listing: pool, reversed hash, namespace, locator, name, snap. */
int object_compare(const struct object_id *a, const struct object_id *b);

/* A locator that says nothing: it is to be left away. */
bool object_locator_is_name(const struct object_id *id);

void encode_object_id(struct encoder *e, const struct object_id *id);
/*
 * The strings point into the decoder's memory. Fails on strings that are too long, and on a locator
 * that is equal to the name.
 */
void decode_object_id(struct decoder *d, struct object_id *out);

/* A copy in one malloc'd block, to be freed with free(). NULL when memory is short. */
struct object_id *object_id_copy(const struct object_id *id) MUST_CHECK;

#endif
