#include "client/image/stream_format.h"

#include <errno.h>
#include <string.h>

#include "client/image/layout.h"
#include "common/codec.h"

static const char banner[] = "rbd diff v1\n";
enum { BANNER_LEN = sizeof banner - 1, VERSION_AT = BANNER_LEN - 2, SKIP_BYTES = 4096 };

/* ---- Reading ---- */

/* All of it, or it is cut off. */
static int take(struct diff_reader *r, void *out, size_t len)
{
    uint8_t *at = out;
    while (len > 0) {
        ssize_t got = r->source->read(r->source->arg, at, len);
        if (got < 0)
            return (int)got;
        if (got == 0 || (size_t)got > len)
            return -EBADMSG;
        at += got;
        len -= (size_t)got;
    }
    return 0;
}

static int take_u64(struct diff_reader *r, uint64_t *out)
{
    uint8_t bytes[sizeof *out];
    struct decoder d;
    int rc = take(r, bytes, sizeof bytes);
    decoder_init(&d, bytes, sizeof bytes);
    *out = rc == 0 ? decode_u64(&d) : 0;
    return rc;
}

static int take_name(struct diff_reader *r, char out[LIMPET_IMAGE_NAME_MAX + 1])
{
    uint8_t bytes[sizeof(uint32_t)];
    struct decoder d;
    int rc = take(r, bytes, sizeof bytes);
    if (rc != 0)
        return rc;
    decoder_init(&d, bytes, sizeof bytes);
    uint32_t len = decode_u32(&d);
    if (len > LIMPET_IMAGE_NAME_MAX)
        return -EBADMSG;
    rc = take(r, out, len);
    out[len] = 0;
    return rc == 0 && image_check_name(out) != 0 ? -EBADMSG : rc;
}

static int skip(struct diff_reader *r, uint64_t len)
{
    uint8_t bytes[SKIP_BYTES];
    int rc = 0;
    while (len > 0 && rc == 0) {
        size_t n = len < sizeof bytes ? (size_t)len : sizeof bytes;
        rc = take(r, bytes, n);
        len -= n;
    }
    return rc;
}

int diff_read_begin(struct diff_reader *r, const struct limpet_image_source *source)
{
    char bytes[BANNER_LEN];
    *r = (struct diff_reader){.source = source};
    int rc = take(r, bytes, sizeof bytes);
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
    case 's':
        rc = take_u64(r, &out->size);
        return rc == 0 && out->size > LIMPET_IMAGE_SIZE_MAX ? -EBADMSG : rc;
    case 'w':
    case 'z':
        rc = take_u64(r, &out->offset);
        if (rc == 0)
            rc = take_u64(r, &out->len);
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
    int rc = skip(r, r->data);
    r->data = 0;
    while (rc == 0) {
        uint64_t rest = 0;
        memset(out, 0, sizeof *out);
        rc = take(r, &out->kind, 1);
        if (rc != 0 || out->kind == 'e')
            return rc;
        if (r->version == 1)
            return take_fields(r, out);
        rc = take_u64(r, &rest);
        if (rc == 0 && out->kind != 0 && strchr("ftswz", out->kind) != NULL) {
            rc = take_fields(r, out);
            return rc == 0 && !has_length(out, rest) ? -EBADMSG : rc;
        }
        if (rc == 0)
            rc = skip(r, rest);
    }
    return rc;
}

int diff_read_data(struct diff_reader *r, void *data, size_t len)
{
    if (len > r->data)
        return -EINVAL;
    r->data -= len;
    return take(r, data, len);
}

/* ---- Writing ---- */

int diff_write_begin(const struct limpet_image_sink *sink)
{
    return sink->write(sink->arg, banner, BANNER_LEN);
}

int diff_write_record(const struct limpet_image_sink *sink, const struct diff_record *record)
{
    uint8_t memory[32 + LIMPET_IMAGE_NAME_MAX];
    struct encoder e;
    encoder_init_fixed(&e, memory, sizeof memory);
    encode_u8(&e, (uint8_t)record->kind);
    switch (record->kind) {
    case 'f':
    case 't':
        encode_string32(&e, record->name, strlen(record->name));
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
