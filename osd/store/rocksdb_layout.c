#include "osd/store/rocksdb_layout.h"

#include <string.h>

static uint8_t *put32(uint8_t *at, uint32_t value)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        *at++ = (uint8_t)(value >> shift);
    return at;
}

static uint8_t *put64(uint8_t *at, uint64_t value)
{
    return put32(put32(at, (uint32_t)(value >> 32)), (uint32_t)value);
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static uint64_t get64(const uint8_t *at)
{
    return (uint64_t)get32(at) << 32 | get32(at + 4);
}

static uint8_t *put_escaped(uint8_t *at, const uint8_t *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        *at++ = text[i];
        if (text[i] == 0)
            *at++ = 0xff;
    }
    *at++ = 0;
    *at++ = 0;
    return at;
}

/* Reads an escaped string of at most max bytes; returns what follows it, or NULL. */
static const uint8_t *get_escaped(const uint8_t *at, const uint8_t *end, uint8_t *out, size_t max,
                                  uint16_t *len)
{
    *len = 0;
    while (end - at >= 2) {
        uint8_t byte = *at++;
        if (byte == 0) {
            if (*at == 0)
                return at + 1;
            if (*at != 0xff)
                return NULL;
            at++;
        }
        if (*len == max)
            return NULL;
        out[(*len)++] = byte;
    }
    return NULL;
}

size_t rocks_object_key_first(uint64_t pool, uint32_t reversed_hash,
                              uint8_t key[ROCKS_OBJECT_KEY_MAX])
{
    key[0] = ROCKS_KEY_OBJECT;
    return (size_t)(put32(put64(key + 1, pool), reversed_hash) - key);
}

size_t rocks_object_key_end(uint64_t pool, uint32_t last, uint8_t key[ROCKS_OBJECT_KEY_MAX])
{
    if (last < UINT32_MAX)
        return rocks_object_key_first(pool, last + 1, key);
    if (pool < UINT64_MAX)
        return rocks_object_key_first(pool + 1, 0, key);
    key[0] = ROCKS_KEY_OBJECT + 1;
    return 1;
}

size_t rocks_object_key(const struct object_id *id, uint8_t key[ROCKS_OBJECT_KEY_MAX])
{
    uint8_t *at = key + rocks_object_key_first(id->pool, object_hash_reverse(id->hash), key);
    at = put_escaped(at, id->space, id->space_len);
    at = put_escaped(at, id->name, id->name_len);
    return (size_t)(put64(at, id->snap) - key);
}

int rocks_object_key_decode(const uint8_t *key, size_t len, struct rocks_object_names *names,
                            struct object_id *out)
{
    const uint8_t *end = key + len;
    *out = (struct object_id){.space = names->space, .name = names->name};
    if (len < 13 || key[0] != ROCKS_KEY_OBJECT)
        return -ELIMPET_CORRUPT;
    out->pool = get64(key + 1);
    out->hash = object_hash_reverse(get32(key + 9));
    const uint8_t *at =
        get_escaped(key + 13, end, names->space, OBJECT_NAMESPACE_MAX, &out->space_len);
    if (at)
        at = get_escaped(at, end, names->name, OBJECT_NAME_MAX, &out->name_len);
    if (!at || end - at != 8)
        return -ELIMPET_CORRUPT;
    out->snap = get64(at);
    return 0;
}

size_t rocks_data_key(uint64_t data, uint32_t chunk, uint8_t key[ROCKS_DATA_KEY_BYTES])
{
    key[0] = ROCKS_KEY_DATA;
    return (size_t)(put32(put64(key + 1, data), chunk) - key);
}

size_t rocks_attr_key(uint64_t data, const void *name, uint16_t name_len,
                      uint8_t key[ROCKS_ATTR_KEY_MAX])
{
    assert(name_len <= STORE_ATTR_NAME_MAX);
    key[0] = ROCKS_KEY_ATTR;
    uint8_t *at = put64(key + 1, data);
    if (name_len > 0)
        memcpy(at, name, name_len);
    return (size_t)(at - key) + name_len;
}

size_t rocks_pg_key(struct pg_id pg, const void *name, uint16_t name_len,
                    uint8_t key[ROCKS_PG_KEY_MAX])
{
    assert(name_len <= STORE_PG_KEY_MAX);
    key[0] = ROCKS_KEY_PG;
    uint8_t *at = put32(put64(key + 1, pg.pool), pg.seed);
    if (name_len > 0)
        memcpy(at, name, name_len);
    return (size_t)(at - key) + name_len;
}

struct pg_id rocks_pg_key_decode(const uint8_t *key)
{
    return (struct pg_id){.pool = get64(key + 1), .seed = get32(key + 9)};
}
