#include "client/image/stream_format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/image/layout.h"
#include "common/codec.h"

static const char banner[] = "rbd diff v1\n";
enum { BANNER_LEN = sizeof banner - 1, VERSION_AT = BANNER_LEN - 2, SKIP_BYTES = 4096 };

/* ---- Reading ---- */

/* All of it, or it is cut off. */
static int take(const struct limpet_image_source *source, void *out, size_t len)
{
    uint8_t *at = out;
    while (len > 0) {
        ssize_t got = source->read(source->arg, at, len);
        if (got < 0)
            return (int)got;
        if (got == 0 || (size_t)got > len)
            return -EBADMSG;
        at += got;
        len -= (size_t)got;
    }
    return 0;
}

static int take_u64(const struct limpet_image_source *source, uint64_t *out)
{
    uint8_t bytes[sizeof *out];
    struct decoder d;
    int rc = take(source, bytes, sizeof bytes);
    decoder_init(&d, bytes, sizeof bytes);
    *out = rc == 0 ? decode_u64(&d) : 0;
    return rc;
}

static int take_u32(const struct limpet_image_source *source, uint32_t *out)
{
    uint8_t bytes[sizeof *out];
    struct decoder d;
    int rc = take(source, bytes, sizeof bytes);
    decoder_init(&d, bytes, sizeof bytes);
    *out = rc == 0 ? decode_u32(&d) : 0;
    return rc;
}

static int take_name(struct diff_reader *r, char out[LIMPET_IMAGE_NAME_MAX + 1])
{
    uint32_t len;
    int rc = take_u32(r->source, &len);
    if (rc == 0 && len > LIMPET_IMAGE_NAME_MAX)
        rc = -EBADMSG;
    if (rc != 0)
        return rc;
    rc = take(r->source, out, len);
    out[len] = 0;
    return rc == 0 && image_check_name(out) != 0 ? -EBADMSG : rc;
}

static int skip(const struct limpet_image_source *source, uint64_t len)
{
    uint8_t bytes[SKIP_BYTES];
    int rc = 0;
    while (len > 0 && rc == 0) {
        size_t n = len < sizeof bytes ? (size_t)len : sizeof bytes;
        rc = take(source, bytes, n);
        len -= n;
    }
    return rc;
}

int diff_read_begin(struct diff_reader *r, const struct limpet_image_source *source)
{
    char bytes[BANNER_LEN];
    *r = (struct diff_reader){.source = source};
    int rc = take(source, bytes, sizeof bytes);
    if (rc != 0)
        return rc;
    r->version = bytes[VERSION_AT] - '0';
    bytes[VERSION_AT] = banner[VERSION_AT];
    bool known = memcmp(bytes, banner, BANNER_LEN) == 0 && (r->version == 1 || r->version == 2);
    return known ? 0 : -EBADMSG;
}

static int take_fields(struct diff_reader *r, struct diff_record *out)
{
    int rc = 0;
    switch (out->kind) {
    case 'f':
    case 't':
        return take_name(r, out->name);
    case 'p': {
        uint8_t flag;
        rc = take(r->source, &flag, 1);
        out->is_protected = rc == 0 && flag != 0;
        return rc;
    }
    case 's':
        rc = take_u64(r->source, &out->size);
        return rc == 0 && out->size > LIMPET_IMAGE_SIZE_MAX ? -EBADMSG : rc;
    case 'w':
    case 'z':
        rc = take_u64(r->source, &out->offset);
        if (rc == 0)
            rc = take_u64(r->source, &out->len);
        if (rc == 0 &&
            (out->offset > LIMPET_IMAGE_SIZE_MAX || out->len > LIMPET_IMAGE_SIZE_MAX - out->offset))
            rc = -EBADMSG;
        if (rc == 0 && out->kind == 'w')
            r->data = out->len;
        return rc;
    default:
        return -EBADMSG;
    }
}

/* What follows the length of a record's rest must be as long as it says. */
static bool has_length(const struct diff_record *record, uint64_t rest)
{
    switch (record->kind) {
    case 'p': /* As rbd says; it is one byte. */
    case 's':
        return rest == 8;
    case 'w':
        return rest == 16 + record->len;
    case 'z':
        return rest == 16;
    default:
        return rest == 4 + strlen(record->name);
    }
}

int diff_read_next(struct diff_reader *r, struct diff_record *out)
{
    int rc = skip(r->source, r->data);
    r->data = 0;
    while (rc == 0) {
        uint64_t rest = 0;
        memset(out, 0, sizeof *out);
        rc = take(r->source, &out->kind, 1);
        if (rc != 0 || out->kind == 'e')
            return rc;
        if (r->version == 1)
            return take_fields(r, out);
        rc = take_u64(r->source, &rest);
        if (rc == 0 && out->kind != 0 && strchr("ftpswz", out->kind) != NULL) {
            rc = take_fields(r, out);
            return rc == 0 && !has_length(out, rest) ? -EBADMSG : rc;
        }
        if (rc == 0)
            rc = skip(r->source, rest);
    }
    return rc;
}

int diff_read_data(struct diff_reader *r, void *data, size_t len)
{
    if (len > r->data)
        return -EINVAL;
    r->data -= len;
    return take(r->source, data, len);
}

/* ---- Writing ---- */

int diff_write_begin(const struct limpet_image_sink *sink, int version)
{
    char bytes[BANNER_LEN];
    memcpy(bytes, banner, BANNER_LEN);
    bytes[VERSION_AT] = (char)('0' + version);
    return sink->write(sink->arg, bytes, BANNER_LEN);
}

static uint64_t rest_of(const struct diff_record *record)
{
    switch (record->kind) {
    case 'f':
    case 't':
        return 4 + strlen(record->name);
    case 'w':
        return 16 + record->len;
    case 'z':
        return 16;
    default:
        return 8;
    }
}

int diff_write_record(const struct limpet_image_sink *sink, int version,
                      const struct diff_record *record)
{
    uint8_t memory[32 + LIMPET_IMAGE_NAME_MAX];
    struct encoder e;
    encoder_init_fixed(&e, memory, sizeof memory);
    encode_u8(&e, (uint8_t)record->kind);
    if (version > 1 && record->kind != 'e')
        encode_u64(&e, rest_of(record));
    switch (record->kind) {
    case 'f':
    case 't':
        encode_string32(&e, record->name, strlen(record->name));
        break;
    case 'p':
        encode_u8(&e, record->is_protected);
        break;
    case 's':
        encode_u64(&e, record->size);
        break;
    case 'w':
    case 'z':
        encode_u64(&e, record->offset);
        encode_u64(&e, record->len);
        break;
    default:
        break;
    }
    return e.failed ? -EINVAL : sink->write(sink->arg, memory, e.len);
}

/* ---- Images with their snapshots ---- */

static const char image_banner[] = "rbd image v2\n", diffs_banner[] = "rbd image diffs v2\n";

static int take_banner(const struct limpet_image_source *source, const char *expected)
{
    char bytes[32];
    size_t len = strlen(expected);
    int rc = take(source, bytes, len);
    return rc == 0 && memcmp(bytes, expected, len) != 0 ? -EBADMSG : rc;
}

int image_read_begin(const struct limpet_image_source *source)
{
    return take_banner(source, image_banner);
}

int image_read_diffs(const struct limpet_image_source *source, uint64_t *n)
{
    int rc = take_banner(source, diffs_banner);
    return rc == 0 ? take_u64(source, n) : rc;
}

void image_record_fini(struct image_record *record)
{
    free(record->key);
    free(record->value);
    *record = (struct image_record){0};
}

static int take_text(const struct limpet_image_source *source, size_t most, char **out,
                     uint32_t *len)
{
    int rc = take_u32(source, len);
    if (rc == 0 && *len > most)
        rc = -EBADMSG;
    if (rc != 0)
        return rc;
    *out = malloc((size_t)*len + 1);
    if (*out == NULL)
        return -ENOMEM;
    (*out)[*len] = 0;
    return take(source, *out, *len);
}

static int take_pair(const struct limpet_image_source *source, uint64_t rest,
                     struct image_record *out)
{
    uint32_t key_len = 0, value_len = 0;
    int rc = take_text(source, LIMPET_IMAGE_META_KEY_MAX, &out->key, &key_len);
    if (rc == 0)
        rc = take_text(source, LIMPET_IMAGE_META_VALUE_MAX, &out->value, &value_len);
    out->value_len = value_len;
    bool fits = rest == (uint64_t)key_len + value_len + 8;
    if (rc == 0 && (!fits || key_len == 0 || strlen(out->key) != key_len))
        rc = -EBADMSG;
    return rc;
}

int image_read_next(const struct limpet_image_source *source, struct image_record *out)
{
    uint64_t rest;
    *out = (struct image_record){0};
    int rc = take(source, &out->kind, 1);
    if (rc != 0 || out->kind == 'E')
        return rc;
    rc = take_u64(source, &rest);
    if (rc == 0 && out->kind == 'M')
        rc = take_pair(source, rest, out);
    else if (rc == 0 && out->kind != 0 && strchr("OTUC", out->kind) != NULL)
        rc = rest == sizeof out->number ? take_u64(source, &out->number) : -EBADMSG;
    else if (rc == 0)
        rc = skip(source, rest);
    if (rc != 0)
        image_record_fini(out);
    return rc;
}

int image_write_begin(const struct limpet_image_sink *sink)
{
    return sink->write(sink->arg, image_banner, sizeof image_banner - 1);
}

int image_write_diffs(const struct limpet_image_sink *sink, uint64_t n)
{
    uint8_t memory[sizeof n];
    struct encoder e;
    encoder_init_fixed(&e, memory, sizeof memory);
    encode_u64(&e, n);
    int rc = sink->write(sink->arg, diffs_banner, sizeof diffs_banner - 1);
    return rc == 0 ? sink->write(sink->arg, memory, e.len) : rc;
}

int image_write_record(const struct limpet_image_sink *sink, const struct image_record *record)
{
    struct encoder e;
    encoder_init(&e);
    encode_u8(&e, (uint8_t)record->kind);
    if (record->kind == 'M') {
        encode_u64(&e, strlen(record->key) + record->value_len + 8);
        encode_string32(&e, record->key, strlen(record->key));
        encode_string32(&e, record->value, record->value_len);
    } else if (record->kind != 'E') {
        encode_u64(&e, sizeof record->number);
        encode_u64(&e, record->number);
    }
    int rc = e.failed ? -ENOMEM : sink->write(sink->arg, e.data, e.len);
    encoder_fini(&e);
    return rc;
}
