/* Reading, writing, differences. */
#include "tests/compat/images/images.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { DATA_MAX = 200000, EXTENTS_MAX = 8192, EXTENTS_SHOWN = 40 };

/* ---- What, and where ---- */

static size_t draw_len(void)
{
    static const size_t most[] = {512, 4096, 4097, 10000, 65536, 65536, DATA_MAX};
    if (chance(2))
        return 0;
    size_t len = 1 + below(PICK(most));
    return chance(60) ? (len + 511) / 512 * 512 % DATA_MAX : len;
}

/* Now and then beyond the end. */
static uint64_t draw_offset(void)
{
    static const uint64_t most[] = {4096, 65536, 300000, 1 << 20};
    if (chance(1))
        return chance(50) ? UINT64_MAX - 511 : UINT64_C(1) << 40;
    uint64_t offset = below(PICK(most));
    return chance(60) ? offset / 512 * 512 : offset;
}

static const char *draw_bytes(size_t len)
{
    static char data[2][DATA_MAX];
    static unsigned turn;
    char *out = data[turn++ % 2];
    if (chance(80)) {
        memset(out, "\0aab"[below(4)], len);
        return out;
    }
    for (size_t i = 0; i < len; i++)
        out[i] = (char)(draw() & 255);
    return out;
}

/* ---- Requests ---- */

static rbd_completion_t begin(void)
{
    rbd_completion_t made = NULL;
    if (rbd_aio_create_completion(NULL, NULL, &made) != 0)
        abort();
    return made;
}

static ssize_t await(rbd_completion_t c, ssize_t rc)
{
    if (rc == 0) {
        rbd_aio_wait_for_complete(c);
        rc = rbd_aio_get_return_value(c);
    }
    rbd_aio_release(c);
    return rc;
}

/* ---- Writing ---- */

static void write_data(rbd_image_t image, uint64_t offset, size_t len, bool aio)
{
    const char *data = draw_bytes(len);
    rbd_completion_t c;
    say("write %zu at %llu", len, (unsigned long long)offset);
    say_data(data, len);
    if (!aio) {
        say_rc(":", rbd_write(image, offset, len, data));
        return;
    }
    struct iovec iov[2] = {{(char *)data, len / 3}, {(char *)data + len / 3, len - len / 3}};
    c = begin();
    bool vector = chance(50);
    ssize_t rc = vector ? rbd_aio_writev(image, iov, 2, offset, c)
                        : rbd_aio_write2(image, offset, len, data, c, 0);
    say_rc(vector ? "vector:" : "aio:", await(c, rc));
}

static void discard(rbd_image_t image, uint64_t offset, size_t len, bool aio)
{
    rbd_completion_t c;
    say("discard %zu at %llu", len, (unsigned long long)offset);
    if (!aio) {
        say_rc(":", rbd_discard(image, offset, len));
        return;
    }
    c = begin();
    say_rc("aio:", await(c, rbd_aio_discard(image, offset, len, c)));
}

static void write_zeroes(rbd_image_t image, uint64_t offset, size_t len, bool aio)
{
    int flags = chance(30) ? RBD_WRITE_ZEROES_FLAG_THICK_PROVISION : 0;
    rbd_completion_t c;
    uint64_t size = 0;
    if (chance(3))
        flags = 6;
    /* Cut off at the end, there only -EINVAL. */
    (void)rbd_get_size(image, &size);
    if (flags == RBD_WRITE_ZEROES_FLAG_THICK_PROVISION && offset + len > size)
        flags = 0;
    say("zeroes %zu at %llu flags %d", len, (unsigned long long)offset, flags);
    if (!aio) {
        say_rc(":", rbd_write_zeroes(image, offset, len, flags, 0));
        return;
    }
    c = begin();
    say_rc("aio:", await(c, rbd_aio_write_zeroes(image, offset, len, c, flags, 0)));
}

static void write_same(rbd_image_t image, uint64_t offset, size_t len, bool aio)
{
    static const size_t units[] = {1, 512, 4096, 3000};
    size_t unit = PICK(units);
    rbd_completion_t c;
    if (chance(90))
        len = (len + unit - 1) / unit * unit;
    const char *data = draw_bytes(unit);
    say("same %zu of %zu at %llu", len, unit, (unsigned long long)offset);
    say_data(data, unit);
    if (!aio) {
        say_rc(":", rbd_writesame(image, offset, len, data, unit, 0));
        return;
    }
    c = begin();
    say_rc("aio:", await(c, rbd_aio_writesame(image, offset, len, data, unit, c, 0)));
}

static void compare_and_write(rbd_image_t image, uint64_t offset, size_t len, bool aio)
{
    static char expected[DATA_MAX];
    const char *data;
    uint64_t mismatch = 0;
    rbd_completion_t c;
    /* There it is within a sector. */
    len = 1 + len % 512;
    offset = offset / 512 * 512;
    bool right = chance(60);
    const char *other = draw_bytes(len);
    memcpy(expected, other, len);
    /* Where nothing was written Ceph has nothing to compare with. */
    other = draw_bytes(len);
    (void)!rbd_write(image, offset, len, other);
    if (right)
        memcpy(expected, other, len);
    data = draw_bytes(len);
    say("compare %zu at %llu %s", len, (unsigned long long)offset, right ? "right" : "any");
    ssize_t rc;
    if (aio) {
        c = begin();
        rc = rbd_aio_compare_and_write(image, offset, len, expected, data, c, &mismatch, 0);
        rc = await(c, rc);
    } else {
        rc = rbd_compare_and_write(image, offset, len, expected, data, &mismatch, 0);
    }
    say_rc(":", rc); /* What it says of the place is that of the object there. */
}

void op_write(struct run *r)
{
    static void (*const kinds[])(rbd_image_t, uint64_t, size_t, bool) = {
        write_data, write_data, write_data, write_data,        discard,
        discard,    discard,    write_same, compare_and_write, write_zeroes,
    };
    unsigned client = draw_client(), at = draw_image();
    say("%s/%s ", spaces[targets[at].space], targets[at].name);
    rbd_image_t image = use(r, client, at);
    if (image == NULL)
        return;
    uint64_t offset = draw_offset();
    size_t len = draw_len();
    bool aio = chance(30);
    PICK(kinds)(image, offset, len, aio);
    if (chance(10))
        say_rc("flush", rbd_flush(image));
    if (chance(40))
        say_contents(image);
}

void op_sparsify(struct run *r)
{
    static const size_t units[] = {4096, 4096, 16384, 65536, 4194304, 0, 512, 5000};
    unsigned client = draw_client(), at = draw_image();
    say("%s/%s sparsify", spaces[targets[at].space], targets[at].name);
    rbd_image_t image = use(r, client, at);
    if (image == NULL)
        return;
    size_t unit = PICK(units);
    say(" %zu", unit);
    say_rc(":", rbd_sparsify(image, unit));
    say_contents(image);
}

/* ---- Reading ---- */

void op_read(struct run *r)
{
    static char data[DATA_MAX];
    unsigned client = draw_client(), at = draw_image();
    say("%s/%s ", spaces[targets[at].space], targets[at].name);
    rbd_image_t image = use(r, client, at);
    if (image == NULL)
        return;
    uint64_t offset = draw_offset();
    size_t len = draw_len();
    unsigned kind = (unsigned)below(4);
    struct iovec iov[2] = {{data, len / 2}, {data + len / 2, len - len / 2}};
    ssize_t rc;
    rbd_completion_t c;
    say("read %zu at %llu kind %u", len, (unsigned long long)offset, kind);
    if (kind <= 1) {
        rc = kind == 0 ? rbd_read(image, offset, len, data)
                       : rbd_read2(image, offset, len, data, LIBRADOS_OP_FLAG_FADVISE_RANDOM);
    } else {
        c = begin();
        rc = kind == 2 ? rbd_aio_read(image, offset, len, data, c)
                       : rbd_aio_readv(image, iov, 2, offset, c);
        rc = await(c, rc);
    }
    say_rc(":", rc);
    if (rc > 0)
        say_data(data, (size_t)rc);
}

/* ---- Differences ---- */

struct extent {
    uint64_t offset, len;
    int exists;
};

struct extents {
    struct extent at[EXTENTS_MAX];
    size_t n;
};

static int take_extent(uint64_t offset, size_t len, int exists, void *arg)
{
    struct extents *e = arg;
    if (e->n == EXTENTS_MAX)
        return -EOVERFLOW;
    e->at[e->n++] = (struct extent){offset, len, exists};
    return 0;
}

static int by_offset(const void *a, const void *b)
{
    uint64_t x = ((const struct extent *)a)->offset, y = ((const struct extent *)b)->offset;
    return x < y ? -1 : x > y;
}

/* Those that touch are one: how they are cut is nobody's business. */
static void merge(struct extents *e)
{
    size_t n = 0;
    qsort(e->at, e->n, sizeof *e->at, by_offset);
    for (size_t i = 0; i < e->n; i++) {
        struct extent *last = n > 0 ? &e->at[n - 1] : NULL;
        if (last != NULL && last->exists == e->at[i].exists &&
            last->offset + last->len == e->at[i].offset)
            last->len += e->at[i].len;
        else
            e->at[n++] = e->at[i];
    }
    e->n = n;
}

/*
 * Since a snapshot, or (NULL) since there was nothing: there are told the bytes that were written,
 * also zeroes where there were none before; here blocks of 4 KiB that are not shared any more. So
 * only that nothing is missing, and that what is said to be gone is zeroes.
 */
static void say_changes(rbd_image_t image, const char *from, const char *end, struct extents *e)
{
    static char before[SIZE_MAX_BYTES], after[SIZE_MAX_BYTES];
    static bool told[SIZE_MAX_BYTES];
    uint64_t size = 0, wrong = 0;
    ssize_t n = rbd_read(image, 0, sizeof after, after);
    memset(before, 0, sizeof before);
    if (n < 0 || rbd_get_size(image, &size) != 0 ||
        (from != NULL && rbd_snap_set(image, from) != 0)) {
        say_rc("look", n);
        return;
    }
    if (from != NULL)
        (void)!rbd_read(image, 0, sizeof before, before);
    (void)rbd_snap_set(image, end);
    memset(told, 0, sizeof told);
    for (size_t i = 0; i < e->n; i++) {
        for (uint64_t at = e->at[i].offset; at < e->at[i].offset + e->at[i].len && at < size;
             at++) {
            told[at] = true;
            wrong += !e->at[i].exists && after[at] != 0;
        }
    }
    for (uint64_t at = 0; at < size; at++)
        wrong += !told[at] && before[at] != after[at];
    say(" wrong %llu", (unsigned long long)wrong);
}

static void say_extents(const struct extents *e)
{
    say(" %zu extents", e->n);
    for (size_t i = 0; i < e->n && i < EXTENTS_SHOWN; i++)
        say(" %s%llu+%llu", e->at[i].exists ? "" : "-", (unsigned long long)e->at[i].offset,
            (unsigned long long)e->at[i].len);
    say_data((const char *)e->at, e->n * sizeof *e->at);
}

void op_diff(struct run *r)
{
    static struct extents e;
    unsigned client = draw_client(), at = draw_image();
    say("%s/%s diff", spaces[targets[at].space], targets[at].name);
    rbd_image_t image = use(r, client, at);
    if (image == NULL)
        return;
    const char *end = chance(40) ? draw_snap() : NULL;
    const char *from = chance(60) ? draw_snap() : NULL;
    bool include_parent = chance(50), whole = chance(50), part = chance(20);
    uint64_t offset = part ? draw_offset() : 0, len = part ? draw_len() : SIZE_MAX_BYTES;
    say(" %s..%s %s%s %llu+%llu", from != NULL ? from : "", end != NULL ? end : "",
        include_parent ? "parent " : "", whole ? "whole" : "", (unsigned long long)offset,
        (unsigned long long)len);
    e.n = 0;
    int rc = end != NULL ? rbd_snap_set(image, end) : 0;
    if (rc != 0) {
        say_rc("set", rc);
        return;
    }
    uint64_t size = 0;
    (void)rbd_get_size(image, &size);
    if (!part)
        len = size;
    rc = rbd_diff_iterate2(image, from, offset, len, include_parent, whole, take_extent, &e);
    say_rc(":", rc);
    merge(&e);
    if (rc == 0 && from == NULL && !r->copied)
        say_extents(&e);
    else if (rc == 0 && !part)
        say_changes(image, from, end, &e);
    if (end != NULL)
        (void)rbd_snap_set(image, NULL);
}
