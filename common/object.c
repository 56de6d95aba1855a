#include "common/object.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *pg_id_format(struct pg_id pg, char text[PG_ID_TEXT_MAX])
{
    snprintf(text, PG_ID_TEXT_MAX, "%" PRIu64 ".%" PRIx32, pg.pool, pg.seed);
    return text;
}

uint32_t object_hash_reverse(uint32_t hash)
{
    hash = (hash & 0x55555555u) << 1 | ((hash >> 1) & 0x55555555u);
    hash = (hash & 0x33333333u) << 2 | ((hash >> 2) & 0x33333333u);
    hash = (hash & 0x0f0f0f0fu) << 4 | ((hash >> 4) & 0x0f0f0f0fu);
    return __builtin_bswap32(hash);
}

static int compare_u64(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int compare_strings(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
    size_t common = a_len < b_len ? a_len : b_len;
    int order = common > 0 ? memcmp(a, b, common) : 0;
    return order != 0 ? order : compare_u64(a_len, b_len);
}

int object_compare(const struct object_id *a, const struct object_id *b)
{
    int order = compare_u64(a->pool, b->pool);
    if (order == 0)
        order = compare_u64(object_hash_reverse(a->hash), object_hash_reverse(b->hash));
    if (order == 0)
        order = compare_strings(a->space, a->space_len, b->space, b->space_len);
    if (order == 0)
        order = compare_strings(a->locator, a->locator_len, b->locator, b->locator_len);
    if (order == 0)
        order = compare_strings(a->name, a->name_len, b->name, b->name_len);
    if (order == 0)
        order = compare_u64(a->snap, b->snap);
    return order;
}

bool object_locator_is_name(const struct object_id *id)
{
    return id->locator_len == id->name_len && id->name_len > 0 &&
           memcmp(id->locator, id->name, id->name_len) == 0;
}

void encode_object_id(struct encoder *e, const struct object_id *id)
{
    encode_u64(e, id->pool);
    encode_u32(e, id->hash);
    encode_u64(e, id->snap);
    encode_string16(e, id->space, id->space_len);
    encode_string16(e, id->locator, id->locator_len);
    encode_string16(e, id->name, id->name_len);
}

void decode_object_id(struct decoder *d, struct object_id *out)
{
    *out = (struct object_id){0};
    out->pool = decode_u64(d);
    out->hash = decode_u32(d);
    out->snap = decode_u64(d);
    out->space = decode_string16(d, &out->space_len);
    out->locator = decode_string16(d, &out->locator_len);
    out->name = decode_string16(d, &out->name_len);
    if (out->space_len > OBJECT_NAMESPACE_MAX || out->locator_len > OBJECT_LOCATOR_MAX ||
        out->name_len > OBJECT_NAME_MAX || (!d->failed && object_locator_is_name(out)))
        d->failed = true;
    /* Nobody who forgets to look at the decoder shall follow a pointer past its end. */
    if (d->failed)
        *out = (struct object_id){0};
}

struct object_id *object_id_copy(const struct object_id *id)
{
    struct object_id *copy = malloc(sizeof *copy + id->space_len + id->locator_len + id->name_len);
    if (copy == NULL)
        return NULL;
    *copy = *id;
    uint8_t *space = (uint8_t *)(copy + 1);
    uint8_t *locator = space + id->space_len;
    uint8_t *name = locator + id->locator_len;
    if (id->space_len > 0)
        memcpy(space, id->space, id->space_len);
    if (id->locator_len > 0)
        memcpy(locator, id->locator, id->locator_len);
    if (id->name_len > 0)
        memcpy(name, id->name, id->name_len);
    copy->space = space;
    copy->locator = locator;
    copy->name = name;
    return copy;
}
