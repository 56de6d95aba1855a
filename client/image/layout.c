#include "client/image/layout.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

/* ---- Names ---- */

void image_data_prefix(const char *id, bool has_data_pool, uint64_t pool, char out[64])
{
    if (has_data_pool)
        snprintf(out, 64, IMAGE_DATA_PREFIX "%" PRIu64 ".%.32s", pool, id);
    else
        snprintf(out, 64, IMAGE_DATA_PREFIX "%.32s", id);
}

int image_check_name(const char *name)
{
    size_t len = strnlen(name, LIMPET_IMAGE_NAME_MAX + 1);
    if (len == 0)
        return -EINVAL;
    if (len > LIMPET_IMAGE_NAME_MAX)
        return -ENAMETOOLONG;
    for (const uint8_t *at = (const uint8_t *)name; *at != 0;) {
        size_t n = *at == '/' || *at == '@' ? 0 : utf8_character(at);
        if (n == 0)
            return -EINVAL;
        at += n;
    }
    return 0;
}

bool image_is_id(const char *id)
{
    size_t len = strnlen(id, LIMPET_IMAGE_ID_MAX + 1);
    if (len == 0 || len > LIMPET_IMAGE_ID_MAX)
        return false;
    return strspn(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == len;
}

/* ---- Records ---- */

enum { RECORD_HEAD = 6 };

static void encode_text(struct encoder *e, const char *text)
{
    encode_string16(e, text, strlen(text));
}

/* Returns where its length is to be written. */
static size_t record_begin(struct encoder *e, uint8_t version, uint8_t oldest)
{
    encode_u8(e, version);
    encode_u8(e, oldest);
    encode_u32(e, 0);
    return e->len;
}

static void record_end(struct encoder *e, size_t begin)
{
    if (e->failed)
        return;
    uint32_t len = (uint32_t)(e->len - begin);
    memcpy(e->data + begin - sizeof len, &len, sizeof len);
}

struct record {
    struct decoder fields;
    bool newer;
};

static int record_open(const void *data, size_t len, uint8_t version, struct record *out)
{
    struct decoder d;
    decoder_init(&d, data, len);
    uint8_t written = decode_u8(&d), oldest = decode_u8(&d);
    uint32_t bytes;
    const void *fields = decode_string32(&d, &bytes);
    if (decoder_end(&d) != 0 || written == 0)
        return -EBADMSG;
    if (oldest > version)
        return -ENOEXEC;
    decoder_init(&out->fields, fields, bytes);
    out->newer = written > version;
    return 0;
}

static int record_close(const struct record *record)
{
    if (record->fields.failed)
        return -EBADMSG;
    return record->newer ? 0 : decoder_end(&record->fields);
}

/* Zeroes inside would hide what follows them. */
static void decode_text(struct decoder *d, char *out, size_t size)
{
    uint16_t len;
    const char *text = decode_string16(d, &len);
    if (d->failed || len >= size || memchr(text, 0, len) != NULL) {
        d->failed = true;
        out[0] = 0;
        return;
    }
    if (len > 0)
        memcpy(out, text, len);
    out[len] = 0;
}

static bool decode_bool(struct decoder *d)
{
    uint8_t value = decode_u8(d);
    if (value > 1)
        d->failed = true;
    return value == 1;
}

static void encode_link(struct encoder *e, const struct image_link *link)
{
    encode_u64(e, link->pool);
    encode_text(e, link->space);
    encode_text(e, link->id);
}

static void decode_link(struct decoder *d, struct image_link *link)
{
    link->pool = decode_u64(d);
    decode_text(d, link->space, sizeof link->space);
    decode_text(d, link->id, sizeof link->id);
    if (!image_is_id(link->id))
        d->failed = true;
}

void image_core_encode(struct encoder *e, const struct image_core *core)
{
    size_t begin = record_begin(e, IMAGE_CORE_VERSION, 1);
    encode_u64(e, core->generation);
    encode_u8(e, core->state);
    encode_u8(e, core->order);
    encode_u8(e, core->clone_format);
    encode_u64(e, core->size);
    encode_u64(e, core->extent);
    encode_u64(e, core->stripe_unit);
    encode_u64(e, core->stripe_count);
    encode_u64(e, core->features);
    encode_u64(e, core->op_features);
    encode_u64(e, core->flags);
    encode_u8(e, core->has_data_pool);
    encode_u64(e, core->data_pool);
    encode_u64(e, core->created_ns);
    encode_u64(e, core->accessed_ns);
    encode_u64(e, core->modified_ns);
    encode_u64(e, core->snap_seq);
    encode_u32(e, core->snap_ordinal);
    encode_u64(e, core->snap_limit);
    encode_u8(e, core->has_parent);
    if (core->has_parent) {
        encode_link(e, &core->parent);
        encode_u64(e, core->parent_snap);
        encode_u64(e, core->overlap);
    }
    encode_u8(e, core->has_group);
    if (core->has_group)
        encode_link(e, &core->group);
    record_end(e, begin);
}

/* What the code relies on. */
static bool core_makes_sense(const struct image_core *core)
{
    uint64_t object_size = UINT64_C(1) << (core->order & 63);
    return core->state < IMAGE_STATES_END && core->order >= LIMPET_IMAGE_ORDER_MIN &&
           core->order <= LIMPET_IMAGE_ORDER_MAX && core->size <= core->extent &&
           core->extent <= LIMPET_IMAGE_SIZE_MAX && core->stripe_unit > 0 &&
           core->stripe_unit <= object_size && object_size % core->stripe_unit == 0 &&
           core->stripe_count > 0 && core->stripe_count <= IMAGE_STRIPES_MAX &&
           core->overlap <= core->size;
}

int image_core_decode(const void *data, size_t len, struct image_core *out)
{
    struct record record;
    int rc = record_open(data, len, IMAGE_CORE_VERSION, &record);
    if (rc != 0)
        return rc;
    struct decoder *d = &record.fields;
    memset(out, 0, sizeof *out);
    out->generation = decode_u64(d);
    out->state = decode_u8(d);
    out->order = decode_u8(d);
    out->clone_format = decode_u8(d);
    out->size = decode_u64(d);
    out->extent = decode_u64(d);
    out->stripe_unit = decode_u64(d);
    out->stripe_count = decode_u64(d);
    out->features = decode_u64(d);
    out->op_features = decode_u64(d);
    out->flags = decode_u64(d);
    out->has_data_pool = decode_bool(d);
    out->data_pool = decode_u64(d);
    out->created_ns = decode_u64(d);
    out->accessed_ns = decode_u64(d);
    out->modified_ns = decode_u64(d);
    out->snap_seq = decode_u64(d);
    out->snap_ordinal = decode_u32(d);
    out->snap_limit = decode_u64(d);
    out->has_parent = decode_bool(d);
    if (out->has_parent) {
        decode_link(d, &out->parent);
        out->parent_snap = decode_u64(d);
        out->overlap = decode_u64(d);
    }
    out->has_group = decode_bool(d);
    if (out->has_group)
        decode_link(d, &out->group);
    rc = record_close(&record);
    return rc == 0 && !core_makes_sense(out) ? -EBADMSG : rc;
}

void image_snap_encode(struct encoder *e, const struct image_snap *snap)
{
    size_t begin = record_begin(e, IMAGE_SNAP_VERSION, 1);
    encode_u32(e, snap->ordinal);
    encode_u8(e, snap->kind);
    encode_u8(e, snap->is_protected);
    encode_u64(e, snap->size);
    encode_u64(e, snap->overlap);
    encode_u64(e, snap->created_ns);
    encode_u64(e, snap->flags);
    encode_text(e, snap->name);
    encode_text(e, snap->original);
    if (snap->kind == LIMPET_IMAGE_SNAP_GROUP) {
        encode_link(e, &snap->group);
        encode_text(e, snap->group_snap);
    }
    record_end(e, begin);
}

int image_snap_decode(const void *data, size_t len, struct image_snap *out)
{
    struct record record;
    int rc = record_open(data, len, IMAGE_SNAP_VERSION, &record);
    if (rc != 0)
        return rc;
    struct decoder *d = &record.fields;
    memset(out, 0, sizeof *out);
    out->ordinal = decode_u32(d);
    out->kind = decode_u8(d);
    out->is_protected = decode_bool(d);
    out->size = decode_u64(d);
    out->overlap = decode_u64(d);
    out->created_ns = decode_u64(d);
    out->flags = decode_u64(d);
    decode_text(d, out->name, sizeof out->name);
    decode_text(d, out->original, sizeof out->original);
    if (out->kind == LIMPET_IMAGE_SNAP_GROUP) {
        decode_link(d, &out->group);
        decode_text(d, out->group_snap, sizeof out->group_snap);
    }
    rc = record_close(&record);
    bool sense = out->kind <= LIMPET_IMAGE_SNAP_TRASH && out->size <= LIMPET_IMAGE_SIZE_MAX &&
                 out->overlap <= out->size && out->ordinal > 0;
    return rc == 0 && !sense ? -EBADMSG : rc;
}

void image_owner_encode(struct encoder *e, const struct image_owner *owner)
{
    size_t begin = record_begin(e, IMAGE_OWNER_VERSION, 1);
    encode_u8(e, owner->mode);
    encode_u8(e, owner->kept);
    record_end(e, begin);
}

int image_owner_decode(const void *data, size_t len, struct image_owner *out)
{
    struct record record;
    int rc = record_open(data, len, IMAGE_OWNER_VERSION, &record);
    if (rc != 0)
        return rc;
    out->mode = decode_u8(&record.fields);
    out->kept = decode_bool(&record.fields);
    return record_close(&record);
}

void image_trash_encode(struct encoder *e, const struct image_trash *trash)
{
    size_t begin = record_begin(e, IMAGE_TRASH_VERSION, 1);
    encode_text(e, trash->name);
    encode_u64(e, trash->deleted_ns);
    encode_u64(e, trash->deferred_until_ns);
    record_end(e, begin);
}

int image_trash_decode(const void *data, size_t len, struct image_trash *out)
{
    struct record record;
    int rc = record_open(data, len, IMAGE_TRASH_VERSION, &record);
    if (rc != 0)
        return rc;
    decode_text(&record.fields, out->name, sizeof out->name);
    out->deleted_ns = decode_u64(&record.fields);
    out->deferred_until_ns = decode_u64(&record.fields);
    return record_close(&record);
}

void image_group_snap_encode(struct encoder *e, const struct image_group_snap *snap)
{
    size_t begin = record_begin(e, IMAGE_GROUP_SNAP_VERSION, 1);
    encode_text(e, snap->name);
    encode_u8(e, snap->complete);
    encode_u32(e, snap->n);
    for (uint32_t i = 0; i < snap->n; i++) {
        encode_link(e, &snap->images[i]);
        encode_u64(e, snap->snaps[i]);
    }
    record_end(e, begin);
}

void image_group_snap_fini(struct image_group_snap *snap)
{
    free(snap->images);
    free(snap->snaps);
    memset(snap, 0, sizeof *snap);
}

int image_group_snap_decode(const void *data, size_t len, struct image_group_snap *out)
{
    struct record record;
    int rc = record_open(data, len, IMAGE_GROUP_SNAP_VERSION, &record);
    if (rc != 0)
        return rc;
    struct decoder *d = &record.fields;
    memset(out, 0, sizeof *out);
    decode_text(d, out->name, sizeof out->name);
    out->complete = decode_bool(d);
    uint32_t n = decode_u32(d);
    if (d->failed || n > IMAGE_GROUP_IMAGES_MAX)
        return -EBADMSG;
    out->images = calloc((size_t)n + 1, sizeof *out->images);
    out->snaps = calloc((size_t)n + 1, sizeof *out->snaps);
    rc = out->images != NULL && out->snaps != NULL ? 0 : -ENOMEM;
    for (; out->n < n && rc == 0; out->n++) {
        decode_link(d, &out->images[out->n]);
        out->snaps[out->n] = decode_u64(d);
    }
    if (rc == 0)
        rc = record_close(&record);
    if (rc != 0)
        image_group_snap_fini(out);
    return rc;
}

/* ---- Keys ---- */

size_t image_snap_key(char out[IMAGE_KEY_MAX], const char *prefix, uint64_t snap)
{
    return (size_t)snprintf(out, IMAGE_KEY_MAX, "%.2s%016" PRIx64, prefix, snap);
}

size_t image_owner_key(char out[IMAGE_KEY_MAX], uint64_t instance, uint64_t cookie)
{
    return (size_t)snprintf(out, IMAGE_KEY_MAX, IMAGE_KEY_OWNER "%016" PRIx64 "%016" PRIx64,
                            instance, cookie);
}

size_t image_child_key(char out[IMAGE_KEY_MAX], uint64_t snap, const struct image_link *child)
{
    /* The namespace, which may hold anything, comes last. */
    return (size_t)snprintf(out, IMAGE_KEY_MAX, IMAGE_KEY_CHILD "%016" PRIx64 "%016" PRIx64 "%s/%s",
                            snap, child->pool, child->id, child->space);
}

/* 16 lower-case hexadecimal digits. */
static uint64_t decode_hex(struct decoder *d)
{
    const char *digits = decode_bytes(d, 16);
    uint64_t value = 0;
    for (int i = 0; i < 16 && digits != NULL; i++) {
        const char *hex = "0123456789abcdef";
        const char *digit = digits[i] != 0 ? strchr(hex, digits[i]) : NULL;
        if (digit == NULL) {
            d->failed = true;
            return 0;
        }
        value = value << 4 | (uint64_t)(digit - hex);
    }
    return value;
}

int image_snap_key_decode(const void *key, size_t len, uint64_t *snap)
{
    struct decoder d;
    decoder_init(&d, key, len);
    decode_u16(&d);
    *snap = decode_hex(&d);
    return decoder_end(&d);
}

int image_owner_key_decode(const void *key, size_t len, struct image_owner *out)
{
    struct decoder d;
    decoder_init(&d, key, len);
    decode_u16(&d);
    out->instance = decode_hex(&d);
    out->cookie = decode_hex(&d);
    return decoder_end(&d);
}

int image_child_key_decode(const void *key, size_t len, uint64_t *snap, struct image_link *out)
{
    struct decoder d;
    decoder_init(&d, key, len);
    decode_u16(&d);
    memset(out, 0, sizeof *out);
    *snap = decode_hex(&d);
    out->pool = decode_hex(&d);
    if (d.failed)
        return -EBADMSG;
    size_t left = decoder_left(&d);
    const char *id = decode_bytes(&d, left);
    const char *slash = left > 0 ? memchr(id, '/', left) : NULL;
    if (slash == NULL || (size_t)(slash - id) > LIMPET_IMAGE_ID_MAX)
        return -EBADMSG;
    size_t id_len = (size_t)(slash - id), space_len = left - id_len - 1;
    if (space_len > LIMPET_OBJECT_SPACE_MAX || memchr(slash + 1, 0, space_len) != NULL)
        return -EBADMSG;
    memcpy(out->id, id, id_len);
    memcpy(out->space, slash + 1, space_len);
    return image_is_id(out->id) ? 0 : -EBADMSG;
}
