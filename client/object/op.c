/*
 * Steps of operations beyond contents: attributes, maps, guards, methods; and locks, which are
 * methods. Their data are encoded here as common/wire_layout.h has it.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/limpet/object.h"
#include "client/object/private.h"
#include "common/method_names.h"

static_assert((int)LIMPET_EQUAL == (int)WIRE_COMPARE_EQUAL, "one order");
static_assert((int)LIMPET_LESS_EQUAL == (int)WIRE_COMPARE_LESS_EQUAL, "one order");
static_assert((int)LIMPET_CRC32C == (int)WIRE_CHECKSUM_CRC32C, "one order");

struct limpet_pairs {
    bool keys_only;
    struct decoder decoder;
    size_t len;
    uint8_t bytes[];
};

/* ---- Adding ---- */

/* The last step; NULL: there is none. */
static struct client_step *last_step(struct limpet_op *op)
{
    return op->request.op.n_steps > 0 ? request_step(&op->request) : NULL;
}

static struct step_out *last_out(struct limpet_op *op)
{
    return request_out(&op->request);
}

static int add_plain(struct limpet_op *op, uint16_t code, uint64_t offset, uint64_t length)
{
    return request_add(&op->request, code, offset, length);
}

/* Finishes the encoder. `length` stands in the step as it is. */
static int add_encoded(struct limpet_op *op, uint16_t code, uint64_t offset, uint64_t length,
                       struct encoder *e)
{
    int rc = e->failed ? -ENOMEM : 0;
    if (rc == 0)
        rc = request_add_data(&op->request, code, offset, e->data, e->len);
    if (rc == 0)
        last_step(op)->length = length;
    encoder_fini(e);
    return rc;
}

int limpet_op_allow_failure(struct limpet_op *op)
{
    struct client_step *step = last_step(op);
    if (step == NULL)
        return -EINVAL;
    step->flags |= WIRE_STEP_FAIL_OK;
    return 0;
}

void limpet_op_set_mtime(struct limpet_op *op, uint64_t mtime_ns)
{
    op->request.op.mtime_ns = mtime_ns;
}

/* ---- Results ---- */

/* *to: a copy, which the caller frees. */
static int take_copy(struct step_out *out, const void *data, size_t len)
{
    void **to = out->to;
    if (to == NULL)
        return 0;
    *to = malloc(len + 1);
    if (*to == NULL)
        return -ENOMEM;
    if (len > 0)
        memcpy(*to, data, len);
    if (out->got_copy != NULL)
        *out->got_copy = len;
    return 0;
}

static void expect_copy(struct limpet_op *op, void **out, size_t *out_len, int *result)
{
    struct step_out *place = last_out(op);
    place->take = take_copy;
    place->to = out;
    place->got_copy = out_len;
    place->result = result;
}

/* Whether it is a list of string16 key, string32 value. */
static bool is_list(const void *data, size_t len)
{
    struct decoder d;
    uint16_t key_len;
    uint32_t value_len;
    decoder_init(&d, data, len);
    while (decoder_left(&d) > 0 && !d.failed) {
        decode_string16(&d, &key_len);
        decode_string32(&d, &value_len);
    }
    return !d.failed;
}

static int make_pairs(struct step_out *out, const uint8_t *data, size_t len)
{
    struct limpet_pairs **to = out->to;
    if (!is_list(data, len))
        return -EPROTO;
    if (to == NULL)
        return 0;
    struct limpet_pairs *pairs = malloc(sizeof *pairs + len);
    if (pairs == NULL)
        return -ENOMEM;
    if (len > 0)
        memcpy(pairs->bytes, data, len);
    pairs->len = len;
    decoder_init(&pairs->decoder, pairs->bytes, len);
    *to = pairs;
    return 0;
}

static int take_pairs(struct step_out *out, const void *data, size_t len)
{
    return make_pairs(out, data, len);
}

/* After a byte that says whether there are more. */
static int take_page(struct step_out *out, const void *data, size_t len)
{
    const uint8_t *bytes = data;
    if (len < 1)
        return -EPROTO;
    if (out->more != NULL)
        *out->more = bytes[0] != 0;
    return make_pairs(out, bytes + 1, len - 1);
}

/* After their number. */
static int take_attrs(struct step_out *out, const void *data, size_t len)
{
    return len < sizeof(uint32_t)
               ? -EPROTO
               : make_pairs(out, (const uint8_t *)data + sizeof(uint32_t), len - sizeof(uint32_t));
}

static void expect_pairs(struct limpet_op *op,
                         int (*take)(struct step_out *out, const void *data, size_t len),
                         struct limpet_pairs **out, int *result)
{
    struct step_out *place = last_out(op);
    place->take = take;
    place->to = out;
    place->result = result;
}

int limpet_pairs_next(struct limpet_pairs *pairs, struct limpet_pair *out)
{
    uint16_t key_len;
    uint32_t value_len;
    if (decoder_left(&pairs->decoder) == 0)
        return -ENOENT;
    out->key = decode_string16(&pairs->decoder, &key_len);
    out->value = decode_string32(&pairs->decoder, &value_len);
    out->key_len = key_len;
    out->value_len = value_len;
    return 0;
}

size_t limpet_pairs_count(const struct limpet_pairs *pairs)
{
    struct decoder d;
    uint16_t key_len;
    uint32_t value_len;
    size_t n = 0;
    decoder_init(&d, pairs->bytes, pairs->len);
    for (; decoder_left(&d) > 0; n++) {
        decode_string16(&d, &key_len);
        decode_string32(&d, &value_len);
    }
    return n;
}

void limpet_pairs_destroy(struct limpet_pairs *pairs)
{
    free(pairs);
}

/* ---- Contents and existence ---- */

int limpet_op_write_same(struct limpet_op *op, const void *data, size_t len, uint64_t total,
                         uint64_t offset)
{
    if (len == 0 || total % len != 0)
        return -EINVAL;
    int rc = request_add_data(&op->request, WIRE_OP_CODE_WRITE_SAME, offset, data, len);
    if (rc == 0)
        last_step(op)->length = total;
    return rc;
}

int limpet_op_zero(struct limpet_op *op, uint64_t offset, uint64_t len)
{
    return add_plain(op, WIRE_OP_CODE_ZERO, offset, len);
}

int limpet_op_hint(struct limpet_op *op, uint64_t size, uint64_t write_size)
{
    return add_plain(op, WIRE_OP_CODE_HINT, size, write_size);
}

void limpet_op_full_try(struct limpet_op *op)
{
    op->request.op.tries_full = true;
}

int limpet_op_assert_exists(struct limpet_op *op)
{
    return add_plain(op, WIRE_OP_CODE_ASSERT_EXISTS, 0, 0);
}

int limpet_op_assert_version(struct limpet_op *op, uint64_t sequence)
{
    return add_plain(op, WIRE_OP_CODE_ASSERT_VERSION, sequence, 0);
}

int limpet_op_compare(struct limpet_op *op, const void *data, size_t len, uint64_t offset,
                      int *result)
{
    int rc = request_add_data(&op->request, WIRE_OP_CODE_COMPARE_EXTENT, offset, data, len);
    if (rc == 0)
        last_out(op)->result = result;
    return rc;
}

int limpet_op_checksum(struct limpet_op *op, enum limpet_checksum type, uint64_t init,
                       uint64_t offset, uint64_t len, uint32_t chunk, void **out, size_t *out_len,
                       int *result)
{
    struct wire_checksum checksum = {.type = (uint32_t)type, .chunk = chunk, .init = init};
    if (type > LIMPET_CRC32C || (chunk != 0 && len % chunk != 0))
        return -EINVAL;
    int rc =
        request_add_data(&op->request, WIRE_OP_CODE_CHECKSUM, offset, &checksum, sizeof checksum);
    if (rc != 0)
        return rc;
    last_step(op)->length = len;
    expect_copy(op, out, out_len, result);
    return 0;
}

/* Their number, offsets and lengths, and what is there. */
static int decode_extents(const void *data, size_t len, struct limpet_extents **out)
{
    struct decoder d;
    decoder_init(&d, data, len);
    uint32_t n = decode_u32(&d);
    if (d.failed || n > decoder_left(&d) / (2 * sizeof(uint64_t)))
        return -EPROTO;
    size_t data_len = decoder_left(&d) - n * 2 * sizeof(uint64_t);
    struct limpet_extents *extents =
        malloc(sizeof *extents + n * sizeof *extents->extents + data_len);
    if (extents == NULL)
        return -ENOMEM;
    struct limpet_extent *list = (struct limpet_extent *)(extents + 1);
    for (uint32_t i = 0; i < n; i++) {
        list[i].offset = decode_u64(&d);
        list[i].len = decode_u64(&d);
    }
    if (data_len > 0)
        memcpy(list + n, decode_bytes(&d, data_len), data_len);
    *extents =
        (struct limpet_extents){.n = n, .extents = list, .data = list + n, .data_len = data_len};
    *out = extents;
    return 0;
}

static int give_extents(struct step_out *out, struct limpet_extents *extents)
{
    struct limpet_extents **to = out->to;
    if (to != NULL)
        *to = extents;
    else
        free(extents);
    return 0;
}

static int take_extents(struct step_out *out, const void *data, size_t len)
{
    struct limpet_extents *extents;
    int rc = decode_extents(data, len, &extents);
    return rc != 0 ? rc : give_extents(out, extents);
}

static int take_sparse(struct step_out *out, const void *data, size_t len)
{
    struct limpet_extents *extents;
    int rc = decode_extents(data, len, &extents);
    if (rc != 0)
        return rc;
    uint64_t left = extents->data_len;
    bool fits = true;
    for (size_t i = 0; fits && i < extents->n; i++) {
        fits = extents->extents[i].len <= left;
        left -= fits ? extents->extents[i].len : 0;
    }
    if (!fits || left > 0) {
        free(extents);
        return -EPROTO;
    }
    return give_extents(out, extents);
}

static int add_extents(struct limpet_op *op, uint16_t code, uint64_t offset, uint64_t len,
                       int (*take)(struct step_out *out, const void *data, size_t len),
                       struct limpet_extents **out, int *result)
{
    int rc = add_plain(op, code, offset, len);
    if (rc != 0)
        return rc;
    struct step_out *place = last_out(op);
    place->take = take;
    place->to = out;
    place->result = result;
    return 0;
}

int limpet_op_extents(struct limpet_op *op, uint64_t offset, uint64_t len,
                      struct limpet_extents **out, int *result)
{
    return add_extents(op, WIRE_OP_CODE_EXTENTS, offset, len, take_extents, out, result);
}

int limpet_op_sparse_read(struct limpet_op *op, uint64_t offset, uint64_t len,
                          struct limpet_extents **out, int *result)
{
    return add_extents(op, WIRE_OP_CODE_SPARSE_READ, offset, len, take_sparse, out, result);
}

/* ---- Attributes ---- */

/* A step whose data are a name and a value, and that says how long the name is. */
static int add_named(struct limpet_op *op, uint16_t code, uint64_t offset, const char *name,
                     const void *value, size_t len)
{
    struct encoder e;
    size_t name_len = strlen(name);
    if (name_len > LIMPET_ATTR_NAME_MAX)
        return -ENAMETOOLONG;
    if (len > LIMPET_ATTR_VALUE_MAX)
        return -EFBIG;
    encoder_init(&e);
    encode_bytes(&e, name, name_len);
    if (len > 0)
        encode_bytes(&e, value, len);
    return add_encoded(op, code, offset, name_len, &e);
}

int limpet_op_attr_set(struct limpet_op *op, const char *name, const void *value, size_t len)
{
    return add_named(op, WIRE_OP_CODE_ATTR_SET, 0, name, value, len);
}

int limpet_op_attr_remove(struct limpet_op *op, const char *name)
{
    return add_named(op, WIRE_OP_CODE_ATTR_REMOVE, 0, name, NULL, 0);
}

int limpet_op_attr_compare(struct limpet_op *op, const char *name, enum limpet_compare comparison,
                           const void *value, size_t len, int *result)
{
    int rc = add_named(op, WIRE_OP_CODE_ATTR_COMPARE, (uint64_t)comparison, name, value, len);
    if (rc == 0)
        last_out(op)->result = result;
    return rc;
}

int limpet_op_attr_get(struct limpet_op *op, const char *name, void **out, size_t *out_len,
                       int *result)
{
    int rc = add_named(op, WIRE_OP_CODE_ATTR_GET, 0, name, NULL, 0);
    if (rc == 0)
        expect_copy(op, out, out_len, result);
    return rc;
}

int limpet_op_attr_list(struct limpet_op *op, struct limpet_pairs **out, int *result)
{
    int rc = add_plain(op, WIRE_OP_CODE_ATTR_LIST, 0, 0);
    if (rc == 0)
        expect_pairs(op, take_attrs, out, result);
    return rc;
}

/* ---- The map ---- */

/* What the encoding could not tell from another key. */
static int check_key(const struct limpet_pair *pair)
{
    if (pair->key_len == 0)
        return -EINVAL;
    return pair->key_len > LIMPET_OMAP_KEY_MAX ? -ENAMETOOLONG : 0;
}

int limpet_op_omap_set(struct limpet_op *op, const struct limpet_pair *pairs, size_t n)
{
    struct encoder e;
    int rc = 0;
    encoder_init(&e);
    for (size_t i = 0; i < n && rc == 0; i++) {
        rc = check_key(&pairs[i]);
        if (rc == 0 && pairs[i].value_len > LIMPET_OMAP_VALUE_MAX)
            rc = -EFBIG;
        encode_string16(&e, pairs[i].key, rc == 0 ? pairs[i].key_len : 0);
        encode_string32(&e, pairs[i].value, rc == 0 ? pairs[i].value_len : 0);
    }
    if (rc == 0)
        return add_encoded(op, WIRE_OP_CODE_OMAP_SET, 0, 0, &e);
    encoder_fini(&e);
    return rc;
}

int limpet_op_omap_set_header(struct limpet_op *op, const void *value, size_t len)
{
    if (len > LIMPET_OMAP_VALUE_MAX)
        return -EFBIG;
    return request_add_data(&op->request, WIRE_OP_CODE_OMAP_SET_HEADER, 0, value, len);
}

static int add_keys(struct limpet_op *op, uint16_t code, const struct limpet_pair *keys, size_t n)
{
    struct encoder e;
    encoder_init(&e);
    for (size_t i = 0; i < n; i++) {
        if (keys[i].key_len > LIMPET_OMAP_KEY_MAX) {
            encoder_fini(&e);
            return -ENAMETOOLONG;
        }
        encode_string16(&e, keys[i].key, keys[i].key_len);
    }
    return add_encoded(op, code, 0, 0, &e);
}

int limpet_op_omap_remove(struct limpet_op *op, const struct limpet_pair *keys, size_t n)
{
    return add_keys(op, WIRE_OP_CODE_OMAP_REMOVE, keys, n);
}

/* A step whose data are two keys. */
static int add_two(struct limpet_op *op, uint16_t code, uint64_t offset, uint64_t length,
                   const void *a, size_t a_len, const void *b, size_t b_len)
{
    struct encoder e;
    if (a_len > LIMPET_OMAP_KEY_MAX || b_len > LIMPET_OMAP_KEY_MAX)
        return -ENAMETOOLONG;
    encoder_init(&e);
    encode_string16(&e, a, a_len);
    encode_string16(&e, b, b_len);
    return add_encoded(op, code, offset, length, &e);
}

int limpet_op_omap_remove_range(struct limpet_op *op, const void *from, size_t from_len,
                                const void *to, size_t to_len)
{
    return add_two(op, WIRE_OP_CODE_OMAP_REMOVE_RANGE, 0, 0, from, from_len, to, to_len);
}

int limpet_op_omap_clear(struct limpet_op *op)
{
    return add_plain(op, WIRE_OP_CODE_OMAP_CLEAR, 0, 0);
}

int limpet_op_omap_compare(struct limpet_op *op, const struct limpet_pair *pair,
                           enum limpet_compare comparison, int *result)
{
    struct encoder e;
    int rc = check_key(pair);
    if (rc != 0)
        return rc;
    encoder_init(&e);
    encode_string16(&e, pair->key, pair->key_len);
    encode_u8(&e, (uint8_t)comparison);
    encode_string32(&e, pair->value, pair->value_len);
    rc = add_encoded(op, WIRE_OP_CODE_OMAP_COMPARE, 0, 0, &e);
    if (rc == 0)
        last_out(op)->result = result;
    return rc;
}

int limpet_op_omap_list(struct limpet_op *op, const void *after, size_t after_len,
                        const void *prefix, size_t prefix_len, uint64_t max,
                        struct limpet_pairs **out, bool *more, int *result)
{
    int rc = add_two(op, WIRE_OP_CODE_OMAP_LIST, 0, max, after, after_len, prefix, prefix_len);
    if (rc != 0)
        return rc;
    expect_pairs(op, take_page, out, result);
    last_out(op)->more = more;
    return 0;
}

int limpet_op_omap_get(struct limpet_op *op, const struct limpet_pair *keys, size_t n,
                       struct limpet_pairs **out, int *result)
{
    int rc = add_keys(op, WIRE_OP_CODE_OMAP_GET, keys, n);
    if (rc == 0)
        expect_pairs(op, take_pairs, out, result);
    return rc;
}

int limpet_op_omap_get_header(struct limpet_op *op, void **out, size_t *out_len, int *result)
{
    int rc = add_plain(op, WIRE_OP_CODE_OMAP_GET_HEADER, 0, 0);
    if (rc == 0)
        expect_copy(op, out, out_len, result);
    return rc;
}

/* ---- Methods ---- */

int limpet_op_call(struct limpet_op *op, const char *method, const void *input, size_t len,
                   void **out, size_t *out_len, int *result)
{
    struct encoder e;
    encoder_init(&e);
    encode_string16(&e, method, strlen(method));
    if (len > 0)
        encode_bytes(&e, input, len);
    int rc = add_encoded(op, WIRE_OP_CODE_CALL, 0, 0, &e);
    if (rc != 0)
        return rc;
    if (method_writes(method, strlen(method)))
        op->request.op.write = true;
    expect_copy(op, out, out_len, result);
    return 0;
}
