#include "common/codec.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ENCODER_FIRST_CAPACITY = 128 };

void encoder_init_fixed(struct encoder *e, void *memory, size_t capacity)
{
    *e = (struct encoder){.data = memory, .capacity = capacity};
}

void encoder_init(struct encoder *e)
{
    *e = (struct encoder){.owned = true};
}

void encoder_fini(struct encoder *e)
{
    if (e->owned)
        free(e->data);
    *e = (struct encoder){.failed = true};
}

void encoder_reset(struct encoder *e)
{
    e->len = 0;
    e->failed = false;
}

void *encoder_take(struct encoder *e, size_t *len)
{
    assert(e->owned);
    void *data = NULL;
    *len = 0;
    if (!e->failed) {
        data = e->data != NULL ? e->data : malloc(1);
        *len = data != NULL ? e->len : 0;
        e->data = NULL;
    }
    encoder_fini(e);
    return data;
}

static bool grow(struct encoder *e, size_t len)
{
    if (!e->owned || len > SIZE_MAX / 2 - e->len)
        return false;
    size_t capacity = e->capacity > 0 ? e->capacity : ENCODER_FIRST_CAPACITY;
    while (capacity < e->len + len)
        capacity *= 2;
    uint8_t *data = realloc(e->data, capacity);
    if (data == NULL)
        return false;
    e->data = data;
    e->capacity = capacity;
    return true;
}

void *encode_reserve(struct encoder *e, size_t len)
{
    if (e->failed)
        return NULL;
    if (e->capacity - e->len < len || e->data == NULL) {
        if (!grow(e, len)) {
            e->failed = true;
            return NULL;
        }
    }
    void *at = e->data + e->len;
    e->len += len;
    return at;
}

void encode_bytes(struct encoder *e, const void *data, size_t len)
{
    if (len == 0)
        return;
    void *at = encode_reserve(e, len);
    if (at != NULL)
        memcpy(at, data, len);
}

void encode_u8(struct encoder *e, uint8_t value)
{
    encode_bytes(e, &value, sizeof value);
}

void encode_u16(struct encoder *e, uint16_t value)
{
    value = htole16(value);
    encode_bytes(e, &value, sizeof value);
}

void encode_u32(struct encoder *e, uint32_t value)
{
    value = htole32(value);
    encode_bytes(e, &value, sizeof value);
}

void encode_u64(struct encoder *e, uint64_t value)
{
    value = htole64(value);
    encode_bytes(e, &value, sizeof value);
}

void encode_string16(struct encoder *e, const void *data, size_t len)
{
    if (len > UINT16_MAX) {
        e->failed = true;
        return;
    }
    encode_u16(e, (uint16_t)len);
    encode_bytes(e, data, len);
}

void encode_string32(struct encoder *e, const void *data, size_t len)
{
    if (len > UINT32_MAX) {
        e->failed = true;
        return;
    }
    encode_u32(e, (uint32_t)len);
    encode_bytes(e, data, len);
}

void decoder_init(struct decoder *d, const void *data, size_t len)
{
    *d = (struct decoder){.data = data, .len = len};
}

size_t decoder_left(const struct decoder *d)
{
    return d->len - d->at;
}

const void *decode_bytes(struct decoder *d, size_t len)
{
    assert(d->at <= d->len);
    if (d->failed || len > d->len - d->at) {
        d->failed = true;
        return NULL;
    }
    /* An empty range of no memory at all still is a success, which NULL would deny. */
    const void *at = d->data != NULL ? (const void *)(d->data + d->at) : "";
    d->at += len;
    return at;
}

uint8_t decode_u8(struct decoder *d)
{
    const uint8_t *at = decode_bytes(d, 1);
    return at != NULL ? *at : 0;
}

uint16_t decode_u16(struct decoder *d)
{
    uint16_t value = 0;
    const void *at = decode_bytes(d, sizeof value);
    if (at != NULL)
        memcpy(&value, at, sizeof value);
    return le16toh(value);
}

uint32_t decode_u32(struct decoder *d)
{
    uint32_t value = 0;
    const void *at = decode_bytes(d, sizeof value);
    if (at != NULL)
        memcpy(&value, at, sizeof value);
    return le32toh(value);
}

uint64_t decode_u64(struct decoder *d)
{
    uint64_t value = 0;
    const void *at = decode_bytes(d, sizeof value);
    if (at != NULL)
        memcpy(&value, at, sizeof value);
    return le64toh(value);
}

const void *decode_string16(struct decoder *d, uint16_t *len)
{
    uint16_t n = decode_u16(d);
    const void *at = decode_bytes(d, n);
    *len = at != NULL ? n : 0;
    return at;
}

const void *decode_string32(struct decoder *d, uint32_t *len)
{
    uint32_t n = decode_u32(d);
    const void *at = decode_bytes(d, n);
    *len = at != NULL ? n : 0;
    return at;
}

int decoder_end(const struct decoder *d)
{
    return d->failed || d->at != d->len ? -EBADMSG : 0;
}
