/* Steps on the contents of an object, and on its existence. */
#include "osd/ops/run.h"

#include <assert.h>
#include <isa-l/crc.h>
#include <string.h>

#include "osd/ops/xxhash.h"

/* Extents that lie closer to each other are read as one. */
enum { SPARSE_GAP = 64 * 1024 };

/* As librados' servers have it: also when nothing is to be written there. */
static int check_extent(uint64_t offset, uint64_t len)
{
    return offset >= OBJECT_SIZE_MAX || len > OBJECT_SIZE_MAX - offset ? -EFBIG : 0;
}

/* ---- Writing ---- */

static int write_at(struct ops_run *run, uint64_t offset, uint64_t len)
{
    struct object_view *view = &run->view;
    int error = check_extent(offset, len);
    if (error)
        return error;
    if (len > 0)
        view_write(view, offset, len, run->data_at);
    else if (offset > view->state.size)
        view_truncate(view, offset);
    else
        view_touch(view);
    return 0;
}

int step_write(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    (void)data;
    return write_at(run, step->offset, step->data_len);
}

/* The object keeps its attributes and its map: it is emptied, not removed. */
int step_write_full(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    (void)data;
    int error = check_extent(0, step->data_len);
    if (error)
        return error;
    if (run->view.state.exists && run->view.state.size > 0)
        view_truncate(&run->view, 0);
    return write_at(run, 0, step->data_len);
}

int step_append(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    (void)data;
    return write_at(run, run->view.state.size, step->data_len);
}

int check_write_same(const struct wire_op *step, const uint8_t *data)
{
    (void)data;
    if (step->length == 0)
        return 0;
    return step->data_len == 0 || step->length % step->data_len != 0 ? -EINVAL : 0;
}

int step_write_same(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    if (step->length == 0)
        return 0;
    int error = check_extent(step->offset, step->length);
    if (error)
        return error;
    if (step->data_len < VIEW_PATTERN_BYTES) {
        view_write_same(&run->view, step->offset, step->length, data, step->data_len);
        return 0;
    }
    for (uint64_t at = 0; at < step->length; at += step->data_len)
        view_write(&run->view, step->offset + at, step->data_len, run->data_at);
    return 0;
}

/*
 * Never makes an object larger, and none where there is none. What reaches to the end of the
 * object, or beyond, is cut off: this is what librados' servers do.
 */
int step_zero(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    (void)data;
    struct object_view *view = &run->view;
    int error = check_extent(step->offset, step->length);
    if (error)
        return error;
    if (step->length == 0 || step->offset >= view->state.size)
        return 0;
    if (step->offset + step->length >= view->state.size)
        view_truncate(view, step->offset);
    else
        view_zero(view, step->offset, step->length);
    return 0;
}

int step_truncate(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    (void)data;
    if (!run->view.state.exists)
        return 0;
    int error = check_extent(step->offset, 0);
    if (!error)
        view_truncate(&run->view, step->offset);
    return error;
}

int step_remove(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    (void)step;
    (void)data;
    if (!run->view.state.exists)
        return -ENOENT;
    view_remove(&run->view);
    return 0;
}

int step_create(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    (void)data;
    if (run->view.state.exists && step->length == 1)
        return -EEXIST;
    view_touch(&run->view);
    return 0;
}

/* There is nothing to be done with a hint, but that it makes the object. */
int step_hint(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    (void)step;
    (void)data;
    if (!run->view.state.exists)
        view_touch(&run->view);
    return 0;
}

/* ---- Looking ---- */

int step_read(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    (void)data;
    struct buf_slice out;
    uint64_t len = step->length == 0 ? OBJECT_SIZE_MAX : step->length;
    int error = view_read(&run->view, step->offset, len, &out);
    return error ? error : run_give(run, out);
}

int step_stat(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    (void)step;
    (void)data;
    const struct object_state *state = &run->view.state;
    struct wire_stat stat = {.size = state->size, .mtime_ns = state->mtime_ns};
    struct buf_slice out;
    if (!state->exists)
        return -ENOENT;
    int error = buf_slice_copy(&stat, sizeof stat, &out);
    return error ? error : run_give(run, out);
}

int step_assert_exists(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    (void)step;
    (void)data;
    return run->view.state.exists ? 0 : -ENOENT;
}

int step_assert_version(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    (void)data;
    /* What was removed has none, whatever its name had before. */
    uint64_t version = run->view.base.exists ? run->view.base.version.sequence : 0;
    if (step->offset == 0)
        return -EINVAL;
    if (step->offset < version)
        return -ERANGE;
    return step->offset > version ? -EOVERFLOW : 0;
}

/* ---- Sparse reads ---- */

struct extent {
    uint64_t offset, len;
};

/* Pairs of offset and length, with those that lie closer together than `gap` made one. */
static uint32_t join_extents(const struct encoder *pairs, uint64_t gap, struct extent *out)
{
    struct decoder d;
    uint32_t n = 0;
    decoder_init(&d, pairs->data, pairs->len);
    while (decoder_left(&d) > 0) {
        uint64_t offset = decode_u64(&d), len = decode_u64(&d);
        if (n > 0 && offset - (out[n - 1].offset + out[n - 1].len) < gap)
            out[n - 1].len = offset + len - out[n - 1].offset;
        else
            out[n++] = (struct extent){offset, len};
    }
    return n;
}

/* Where the object has something, in memory of the view. */
static int find_extents(struct ops_run *run, const struct wire_op *step, uint64_t gap,
                        struct extent **out, uint32_t *n)
{
    struct encoder pairs;
    uint64_t len = step->length == 0 ? OBJECT_SIZE_MAX : step->length;
    encoder_init(&pairs);
    int error = view_extents(&run->view, step->offset, len, &pairs);
    *out = error ? NULL : view_alloc(&run->view, pairs.len + sizeof **out);
    if (*out)
        *n = join_extents(&pairs, gap, *out);
    encoder_fini(&pairs);
    return error ? error : *out ? 0 : -ENOMEM;
}

static void encode_extents(struct encoder *out, const struct extent *extents, uint32_t n)
{
    encode_u32(out, n);
    for (uint32_t i = 0; i < n; i++) {
        encode_u64(out, extents[i].offset);
        encode_u64(out, extents[i].len);
    }
}

/* Asks for all that is not there before it says so. */
static int read_extents(struct ops_run *run, const struct extent *extents, uint32_t n,
                        struct encoder *out)
{
    int result = 0;
    encode_extents(out, extents, n);
    for (uint32_t i = 0; i < n; i++) {
        struct buf_slice piece;
        int error = view_read(&run->view, extents[i].offset, extents[i].len, &piece);
        if (error && error != VIEW_MISS)
            return error;
        if (error) {
            result = error;
            continue;
        }
        if (!result)
            encode_bytes(out, piece.data, piece.len);
        buf_slice_drop(&piece);
    }
    return result ? result : out->failed ? -ENOMEM : 0;
}

int step_sparse_read(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    (void)data;
    struct extent *extents;
    struct encoder out;
    uint32_t n;
    int error = find_extents(run, step, SPARSE_GAP, &extents, &n);
    if (error)
        return error;
    encoder_init(&out);
    error = read_extents(run, extents, n, &out);
    if (!error)
        return run_give_encoded(run, &out);
    encoder_fini(&out);
    return error;
}

int step_extents(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    (void)data;
    struct extent *extents;
    struct encoder out;
    uint32_t n;
    int error = find_extents(run, step, 1, &extents, &n);
    if (error)
        return error;
    encoder_init(&out);
    encode_extents(&out, extents, n);
    return run_give_encoded(run, &out);
}

/* ---- Comparing and summing ---- */

int step_compare_extent(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    struct buf_slice ours;
    int error = view_read(&run->view, step->offset, step->data_len, &ours);
    if (error)
        return error;
    uint64_t at = 0;
    /* Beyond the end there are zeroes, also of an object that does not exist. */
    while (at < step->data_len && data[at] == (at < ours.len ? ours.data[at] : 0))
        at++;
    buf_slice_drop(&ours);
    return at == step->data_len ? 0 : -WIRE_MISMATCH - (int)at;
}

static struct wire_checksum checksum_of(const uint8_t *data)
{
    struct wire_checksum checksum;
    memcpy(&checksum, data, sizeof checksum);
    return checksum;
}

int check_checksum(const struct wire_op *step, const uint8_t *data)
{
    if (step->data_len != sizeof(struct wire_checksum))
        return -EINVAL;
    struct wire_checksum checksum = checksum_of(data);
    if (checksum.type > WIRE_CHECKSUM_CRC32C)
        return -EINVAL;
    return checksum.chunk != 0 && step->length % checksum.chunk != 0 ? -EINVAL : 0;
}

static void encode_sum(struct encoder *out, const struct wire_checksum *checksum,
                       const uint8_t *data, size_t len)
{
    switch (checksum->type) {
    case WIRE_CHECKSUM_XXHASH32:
        encode_u32(out, xxhash32(data, len, (uint32_t)checksum->init));
        break;
    case WIRE_CHECKSUM_XXHASH64:
        encode_u64(out, xxhash64(data, len, checksum->init));
        break;
    default:
        encode_u32(out,
                   crc32_iscsi((uint8_t *)(uintptr_t)data, (int)len, (unsigned)checksum->init));
    }
}

/*
 * Whether a range is too much work for one request, or too many sums: a few bytes of request would
 * keep the OSD from all others. Looked at before anything is read.
 */
static int check_sums(struct ops_run *run, const struct wire_op *step, uint32_t chunk, uint64_t len)
{
    uint64_t size = run->view.state.exists ? run->view.state.size : 0;
    uint64_t there = step->offset < size ? size - step->offset : 0;
    if (there > len)
        there = len;
    if (chunk != 0 && there / chunk > OPS_SUMS_MAX)
        return -E2BIG;
    run->summed += there;
    return run->summed > OBJECT_SIZE_MAX ? -E2BIG : 0;
}

int step_checksum(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    struct wire_checksum checksum = checksum_of(data);
    struct buf_slice ours;
    struct encoder out;
    uint64_t len = step->length == 0 ? OBJECT_SIZE_MAX : step->length;
    int error = check_sums(run, step, checksum.chunk, len);
    if (!error)
        error = view_read(&run->view, step->offset, len, &ours);
    if (error)
        return error;
    size_t chunk = checksum.chunk != 0 ? checksum.chunk : ours.len;
    /* A sum of less than was asked for would be mistaken for one of all of it. */
    if (step->length != 0 && ours.len != step->length) {
        buf_slice_drop(&ours);
        return -EINVAL;
    }
    uint32_t n = chunk > 0 ? (uint32_t)(ours.len / chunk) : 0;
    encoder_init(&out);
    encode_u32(&out, n);
    for (uint32_t i = 0; i < n; i++)
        encode_sum(&out, &checksum, ours.data + i * chunk, chunk);
    buf_slice_drop(&ours);
    return run_give_encoded(run, &out);
}
