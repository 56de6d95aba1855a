/* Steps on the map of an object. */
#include "osd/ops/run.h"

#include <assert.h>
#include <string.h>

#include "osd/ops/attr.h"

/* Of a listing, at most; more are asked for by another. */
enum { OMAP_LIST_MAX = 16384, OMAP_LIST_BYTES = 4 * 1024 * 1024 };

/* ---- Data of steps ---- */

static struct view_bytes take16(struct decoder *d)
{
    uint16_t len;
    const void *bytes = decode_string16(d, &len);
    return view_bytes_of(bytes, len);
}

static struct view_bytes take32(struct decoder *d)
{
    uint32_t len;
    const void *bytes = decode_string32(d, &len);
    return view_bytes_of(bytes, len);
}

static struct decoder decoder_of(const struct wire_op *step, const uint8_t *data)
{
    struct decoder d;
    decoder_init(&d, data, step->data_len);
    return d;
}

static int check_ends(const struct decoder *d)
{
    return decoder_end(d) ? -EINVAL : 0;
}

int check_omap_keys(const struct wire_op *step, const uint8_t *data)
{
    struct decoder d = decoder_of(step, data);
    while (decoder_left(&d) > 0 && !d.failed)
        take16(&d);
    return check_ends(&d);
}

int check_omap_pairs(const struct wire_op *step, const uint8_t *data)
{
    struct decoder d = decoder_of(step, data);
    while (decoder_left(&d) > 0 && !d.failed) {
        take16(&d);
        take32(&d);
    }
    return check_ends(&d);
}

int check_omap_compare(const struct wire_op *step, const uint8_t *data)
{
    struct decoder d = decoder_of(step, data);
    while (decoder_left(&d) > 0 && !d.failed) {
        take16(&d);
        decode_u8(&d);
        take32(&d);
    }
    return check_ends(&d);
}

/* Two keys: a range, or where a listing begins and what its keys begin with. */
int check_omap_range(const struct wire_op *step, const uint8_t *data)
{
    struct decoder d = decoder_of(step, data);
    take16(&d);
    take16(&d);
    return check_ends(&d);
}

int check_omap_list(const struct wire_op *step, const uint8_t *data)
{
    return check_omap_range(step, data);
}

/* What can be a key in the store. */
static int key_error(struct view_bytes key)
{
    if (key.len == 0)
        return -EINVAL;
    return key.len > STORE_OMAP_KEY_MAX ? -ENAMETOOLONG : 0;
}

/* ---- Looking ---- */

static bool has_prefix(struct view_bytes key, struct view_bytes prefix)
{
    return key.len >= prefix.len &&
           (prefix.len == 0 || memcmp(key.data, prefix.data, prefix.len) == 0);
}

/* A key and a zero byte: the next that there can be. NULL when memory is short. */
static bool key_after(struct object_view *view, struct view_bytes key, struct view_bytes *out)
{
    uint8_t *memory = view_alloc(view, (size_t)key.len + 1);
    if (!memory)
        return false;
    if (key.len > 0)
        memcpy(memory, key.data, key.len);
    memory[key.len] = 0;
    *out = view_bytes_of(memory, (size_t)key.len + 1);
    return true;
}

struct listing {
    struct view_bytes from, prefix;
    uint32_t max;
    bool keys_only;
    bool more; /* Out. */
};

static int list_pairs(struct object_view *view, struct listing *listing, struct encoder *out)
{
    struct view_bytes at = listing->from, key, value;
    int error = 0;
    for (uint32_t n = 0; !error; n++) {
        /* One more than is wanted tells whether there are more. */
        error = view_omap_next(view, at.data, (uint16_t)at.len, listing->max - n + 1, &key, &value);
        if (error)
            break;
        if (!has_prefix(key, listing->prefix))
            return 0;
        if (n == listing->max || out->len >= OMAP_LIST_BYTES) {
            listing->more = true;
            return 0;
        }
        encode_string16(out, key.data, key.len);
        if (!listing->keys_only)
            encode_string32(out, value.data, value.len);
        error = key_after(view, key, &at) ? 0 : -ENOMEM;
    }
    return error == -ENODATA ? 0 : error;
}

static int listing_from(struct object_view *view, const struct wire_op *step, const uint8_t *data,
                        struct listing *out)
{
    struct decoder d = decoder_of(step, data);
    struct view_bytes after = take16(&d);
    out->prefix = take16(&d);
    out->from = after;
    out->max = step->length > OMAP_LIST_MAX ? OMAP_LIST_MAX : (uint32_t)step->length;
    out->keys_only = step->offset & WIRE_OMAP_KEYS_ONLY;
    out->more = false;
    if (after.len > STORE_OMAP_KEY_MAX || out->prefix.len > STORE_OMAP_KEY_MAX)
        return -ENAMETOOLONG;
    /* The empty key is none, and so begins the listing. */
    if (after.len > 0 && !key_after(view, after, &out->from))
        return -ENOMEM;
    if (view_compare(out->from.data, out->from.len, out->prefix.data, out->prefix.len) < 0)
        out->from = out->prefix;
    return 0;
}

int step_omap_list(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    struct listing listing;
    struct encoder out;
    int error = listing_from(&run->view, step, data, &listing);
    if (error)
        return error;
    encoder_init(&out);
    encode_u8(&out, 0);
    error = list_pairs(&run->view, &listing, &out);
    if (error) {
        encoder_fini(&out);
        return error;
    }
    if (!out.failed)
        out.data[0] = listing.more;
    return run_give_encoded(run, &out);
}

int step_omap_get(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    struct decoder d = decoder_of(step, data);
    struct encoder out;
    int result = 0;
    encoder_init(&out);
    while (decoder_left(&d) > 0) {
        struct view_bytes key = take16(&d), value;
        int error =
            key_error(key) ? -ENODATA : view_omap(&run->view, key.data, (uint16_t)key.len, &value);
        if (error == -ENODATA)
            continue;
        /* All that is lacking is asked for at once. */
        if (error && error != VIEW_MISS) {
            encoder_fini(&out);
            return error;
        }
        if (error)
            result = error;
        if (result)
            continue;
        encode_string16(&out, key.data, key.len);
        encode_string32(&out, value.data, value.len);
    }
    if (!result)
        return run_give_encoded(run, &out);
    encoder_fini(&out);
    return result;
}

int step_omap_get_header(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    (void)step;
    (void)data;
    struct view_bytes header;
    struct buf_slice out = BUF_SLICE_EMPTY;
    int error = view_omap_header(&run->view, &header);
    if (!error && header.len > 0)
        error = buf_slice_copy(header.data, header.len, &out);
    return error ? error : run_give(run, out);
}

/* A key that is not there has an empty value. */
int step_omap_compare(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    struct decoder d = decoder_of(step, data);
    if (!run->view.state.exists)
        return -ENOENT;
    int result = 0;
    while (decoder_left(&d) > 0) {
        struct view_bytes key = take16(&d), ours = {0};
        unsigned comparison = decode_u8(&d);
        struct view_bytes given = take32(&d);
        int error =
            key_error(key) ? -ENODATA : view_omap(&run->view, key.data, (uint16_t)key.len, &ours);
        if (error == -ENODATA)
            ours = view_bytes_of(NULL, 0);
        else if (error == VIEW_MISS)
            result = error;
        else if (error)
            return error;
        if (result)
            continue;
        if (comparison != WIRE_COMPARE_EQUAL && comparison != WIRE_COMPARE_LESS &&
            comparison != WIRE_COMPARE_GREATER)
            return -EINVAL;
        if (!compare_bytes(comparison, ours, given))
            return -ECANCELED;
    }
    return result;
}

/* ---- Changing ---- */

/* All are looked at before one is set: a step that fails has changed nothing. */
static int pairs_error(const struct wire_op *step, const uint8_t *data)
{
    struct decoder d = decoder_of(step, data);
    int error = 0;
    while (decoder_left(&d) > 0 && !error) {
        error = key_error(take16(&d));
        if (take32(&d).len > STORE_OMAP_VALUE_MAX && !error)
            error = -EFBIG;
    }
    return error;
}

int step_omap_set(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    struct decoder d = decoder_of(step, data);
    int error = step->data_len > OPS_CHANGES_BYTES_MAX ? -E2BIG : pairs_error(step, data);
    if (error)
        return error;
    view_touch(&run->view);
    while (decoder_left(&d) > 0) {
        struct view_bytes key = take16(&d), value = take32(&d);
        view_omap_set(&run->view, key.data, (uint16_t)key.len, value.data, value.len);
    }
    return 0;
}

int step_omap_set_header(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    if (step->data_len > STORE_OMAP_VALUE_MAX)
        return -EFBIG;
    view_omap_set_header(&run->view, data, step->data_len);
    return 0;
}

int step_omap_remove(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    struct decoder d = decoder_of(step, data);
    if (!run->view.state.exists)
        return -ENOENT;
    while (decoder_left(&d) > 0) {
        struct view_bytes key = take16(&d), to;
        if (key_error(key))
            continue;
        if (!key_after(&run->view, key, &to))
            return -ENOMEM;
        view_omap_remove(&run->view, key.data, (uint16_t)key.len, to.data, (uint16_t)to.len);
    }
    return 0;
}

int step_omap_remove_range(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    struct decoder d = decoder_of(step, data);
    struct view_bytes from = take16(&d), to = take16(&d);
    if (!run->view.state.exists)
        return -ENOENT;
    if (from.len > STORE_OMAP_KEY_MAX || to.len > STORE_OMAP_KEY_MAX)
        return -ENAMETOOLONG;
    /* An empty end is the smallest of all keys here, not the end of the map. */
    if (view_compare(from.data, from.len, to.data, to.len) < 0)
        view_omap_remove(&run->view, from.data, (uint16_t)from.len, to.data, (uint16_t)to.len);
    return 0;
}

int step_omap_clear(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    (void)step;
    (void)data;
    if (!run->view.state.exists)
        return -ENOENT;
    view_omap_remove(&run->view, NULL, 0, NULL, 0);
    view_omap_set_header(&run->view, NULL, 0);
    return 0;
}
