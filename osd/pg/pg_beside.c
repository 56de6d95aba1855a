/*
 * What objects have beside their contents, on its way to another copy: attributes, and the map
 * with its header. In pages that fit a message, after the contents; the attributes that fit come
 * with the first piece of these. Values of the map may be large: they are the page's payload.
 */
#include "osd/pg/pg_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    PAGE_ATTRS_BYTES = 96 * 1024, /* And one more attribute. */
    PAGE_OMAP_PAIRS = 512,
    PAGE_OMAP_BYTES = 64 * 1024, /* And one more pair. */
    PAGE_BYTES_MAX = MESSAGE_BODY_MAX - 16 * 1024,
    /* Of the map: what a page takes beside its header. */
    PAGE_PAIRS_BYTES_MAX = PAGE_OMAP_BYTES + STORE_OMAP_VALUE_MAX + STORE_OMAP_KEY_MAX + 8,
};
static_assert(PAGE_ATTRS_BYTES + STORE_ATTR_VALUE_MAX + STORE_ATTR_NAME_MAX < PAGE_BYTES_MAX,
              "page");
static_assert(PAGE_OMAP_BYTES + STORE_OMAP_KEY_MAX + PAGE_OMAP_PAIRS * 16 < PAGE_BYTES_MAX, "page");

/* ---- Sending ---- */

/* How many attributes a page takes from `at` on, and where they end. */
static size_t attrs_that_fit(const struct encoder *attrs, size_t at, size_t *end)
{
    struct decoder d;
    size_t n = 0;
    uint16_t name_len;
    uint32_t value_len;
    *end = at;
    if (at >= attrs->len)
        return 0;
    decoder_init(&d, attrs->data + at, attrs->len - at);
    while (decoder_left(&d) > 0 && *end - at < PAGE_ATTRS_BYTES) {
        decode_string16(&d, &name_len);
        decode_string32(&d, &value_len);
        if (d.failed)
            break;
        *end = at + d.at;
        n++;
    }
    return n;
}

size_t pg_attrs_end(const struct encoder *attrs, size_t at)
{
    size_t end;
    (void)attrs_that_fit(attrs, at, &end);
    return end;
}

int pg_piece_attrs(const struct encoder *attrs, size_t at, Limpet__Wire__PgPush *out)
{
    struct decoder d;
    size_t end, n = attrs_that_fit(attrs, at, &end);
    uint16_t name_len;
    uint32_t value_len;
    if (n == 0)
        return at < attrs->len ? -ELIMPET_CORRUPT : 0;
    out->attr_names = calloc(n, sizeof *out->attr_names);
    out->attr_values = calloc(n, sizeof *out->attr_values);
    if (!out->attr_names || !out->attr_values)
        return -ENOMEM;
    decoder_init(&d, attrs->data + at, end - at);
    for (size_t i = 0; i < n; i++) {
        const void *name = decode_string16(&d, &name_len);
        const void *value = decode_string32(&d, &value_len);
        out->attr_names[i] = (ProtobufCBinaryData){name_len, (uint8_t *)(uintptr_t)name};
        out->attr_values[i] = (ProtobufCBinaryData){value_len, (uint8_t *)(uintptr_t)value};
    }
    out->n_attr_names = out->n_attr_values = n;
    return 0;
}

void pg_omap_ask(struct store_omap_read *read, const struct object_id *id, const uint8_t *from,
                 uint16_t from_len)
{
    memset(read, 0, sizeof *read);
    read->object = *id;
    read->from = from;
    read->from_len = from_len;
    read->max = PAGE_OMAP_PAIRS;
    read->max_bytes = PAGE_OMAP_BYTES;
    read->want_header = from_len == 0;
}

/* Keys go to the list, values to the payload from `at` on. */
static int take_pairs(const struct store_omap_read *read, Limpet__Wire__PgPush *out, uint8_t *at)
{
    struct decoder d;
    uint16_t key_len;
    uint32_t value_len;
    decoder_init(&d, read->pairs.data, read->pairs.len);
    for (size_t i = 0; i < read->n; i++) {
        const void *key = decode_string16(&d, &key_len);
        const void *value = decode_string32(&d, &value_len);
        if (d.failed)
            return -ELIMPET_CORRUPT;
        out->omap_keys[i] = (ProtobufCBinaryData){key_len, (uint8_t *)(uintptr_t)key};
        out->omap_value_lens[i] = value_len;
        assert(at || value_len == 0); /* values_bytes() counted the same pairs. */
        if (value_len > 0)
            memcpy(at, value, value_len);
        at += value_len;
    }
    out->n_omap_keys = out->n_omap_value_lens = read->n;
    return decoder_end(&d) ? -ELIMPET_CORRUPT : 0;
}

/* Bytes of all values of what was read. */
static size_t values_bytes(const struct store_omap_read *read)
{
    struct decoder d;
    size_t bytes = 0;
    uint16_t key_len;
    uint32_t value_len;
    decoder_init(&d, read->pairs.data, read->pairs.len);
    while (decoder_left(&d) > 0 && !d.failed) {
        decode_string16(&d, &key_len);
        decode_string32(&d, &value_len);
        bytes += d.failed ? 0 : value_len;
    }
    return bytes;
}

int pg_piece_omap(const struct store_omap_read *read, Limpet__Wire__PgPush *out,
                  struct buf_slice *payload, bool *ends)
{
    size_t header = read->want_header ? read->header.len : 0;
    /* A header comes alone when the pairs that were read are many: the next page has them. */
    bool fits = read->header.len + read->pairs.len <= PAGE_PAIRS_BYTES_MAX;
    uint32_t n = fits ? read->n : 0;
    size_t bytes = header + (n > 0 ? values_bytes(read) : 0);
    *ends = fits && read->end;
    if (bytes > 0 && buf_slice_alloc(bytes, payload))
        return -ENOMEM;
    if (header > 0) {
        out->has_omap_header_len = true;
        out->omap_header_len = (uint32_t)header;
        memcpy(payload->data, read->header.data, header);
    }
    if (n == 0)
        return 0;
    out->omap_keys = calloc(n, sizeof *out->omap_keys);
    out->omap_value_lens = calloc(n, sizeof *out->omap_value_lens);
    if (!out->omap_keys || !out->omap_value_lens)
        return -ENOMEM;
    return take_pairs(read, out, bytes > 0 ? payload->data + header : NULL);
}

void pg_piece_free_lists(Limpet__Wire__PgPush *piece)
{
    free(piece->attr_names);
    free(piece->attr_values);
    free(piece->omap_keys);
    free(piece->omap_value_lens);
}

/* ---- Where the next page begins ---- */

void pg_beside_fini(struct pg_beside *beside)
{
    free(beside->omap_from);
    memset(beside, 0, sizeof *beside);
}

int pg_beside_follow(struct pg_beside *beside, const Limpet__Wire__PgPush *piece)
{
    for (size_t i = 0; i < piece->n_attr_names; i++)
        beside->attrs_from += sizeof(uint16_t) + piece->attr_names[i].len + sizeof(uint32_t) +
                              piece->attr_values[i].len;
    const ProtobufCBinaryData *last =
        piece->n_omap_keys > 0 ? &piece->omap_keys[piece->n_omap_keys - 1] : NULL;
    if (!last && !piece->has_omap_header_len)
        return 0;
    /* The key after the last one: itself and a zero byte. After a header alone, the first. */
    uint16_t len = last ? (uint16_t)(last->len + 1) : 1;
    uint8_t *from = calloc(1, len);
    if (!from)
        return -ENOMEM;
    if (last && last->len > 0)
        memcpy(from, last->data, last->len);
    free(beside->omap_from);
    beside->omap_from = from;
    beside->omap_from_len = len;
    return 0;
}

/* ---- Receiving ---- */

static bool lists_fit(size_t n_names, const ProtobufCBinaryData *names, size_t n_values,
                      const ProtobufCBinaryData *values, size_t name_max, size_t value_max)
{
    if (n_names != n_values)
        return false;
    for (size_t i = 0; i < n_names; i++)
        if (names[i].len == 0 || names[i].len > name_max || values[i].len > value_max)
            return false;
    return true;
}

/* The map's part of a page: the payload is the header and the values, and nothing else. */
static bool omap_fits(const Limpet__Wire__PgPush *piece, size_t payload_len)
{
    uint64_t total = piece->has_omap_header_len ? piece->omap_header_len : 0;
    if (piece->n_omap_keys != piece->n_omap_value_lens || total > STORE_OMAP_VALUE_MAX)
        return false;
    for (size_t i = 0; i < piece->n_omap_keys; i++) {
        if (piece->omap_keys[i].len == 0 || piece->omap_keys[i].len > STORE_OMAP_KEY_MAX ||
            piece->omap_value_lens[i] > STORE_OMAP_VALUE_MAX)
            return false;
        total += piece->omap_value_lens[i];
    }
    return total == payload_len;
}

int pg_beside_check(const Limpet__Wire__PgPush *piece, size_t payload_len)
{
    if (!lists_fit(piece->n_attr_names, piece->attr_names, piece->n_attr_values, piece->attr_values,
                   STORE_ATTR_NAME_MAX, STORE_ATTR_VALUE_MAX))
        return -EBADMSG;
    if (piece->beside)
        return omap_fits(piece, payload_len) ? 0 : -EBADMSG;
    bool has_omap =
        piece->n_omap_keys > 0 || piece->n_omap_value_lens > 0 || piece->has_omap_header_len;
    return has_omap ? -EBADMSG : 0;
}

void pg_beside_put(struct pg *pg, struct store_txn *txn, const Limpet__Wire__PgPush *piece,
                   const struct object_id *id, struct buf_slice payload)
{
    const uint8_t *at = payload.data;
    for (size_t i = 0; i < piece->n_attr_names; i++) {
        const ProtobufCBinaryData *name = &piece->attr_names[i], *value = &piece->attr_values[i];
        pg_snap_take_attr(pg, txn, id, name->data, name->len, value->data, value->len);
        txn_set_attr(txn, name->data, (uint16_t)name->len, value->data, (uint32_t)value->len);
    }
    if (piece->has_omap_header_len) {
        txn_omap_header(txn, at, piece->omap_header_len);
        at += piece->omap_header_len;
    }
    for (size_t i = 0; i < piece->n_omap_keys; i++) {
        txn_omap_set(txn, piece->omap_keys[i].data, (uint16_t)piece->omap_keys[i].len, at,
                     piece->omap_value_lens[i]);
        at += piece->omap_value_lens[i];
    }
}
