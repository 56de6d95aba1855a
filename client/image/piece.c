/*
 * One piece of a request: what it asks one object.
 *
 *     read    asks the object; where there is none, the parent
 *     write   notes the object in the map; asks the object, which must exist if the parent shows
 *             through; where there is none, copies it up, and asks again
 *
 * Each arrow is a callback on the library's thread, or on the one that waits for the request; the
 * first step is the caller's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/image/image.h"
#include "client/object/inside.h"
#include "common/env.h"
#include "common/planted.h"

struct piece {
    struct io *io;
    struct stripe_piece where;
    uint64_t io_offset;
    uint8_t *memory; /* Its bytes, together; inside of the request's, `own` or `buffer`. */
    uint8_t *own;    /* NULL: they are the request's. */
    struct limpet_buffer *buffer; /* What is written, to be handed over with the operation. */
    bool copied_up;               /* The object is there. */
    bool must_exist;              /* What was asked wants it to be there. */
    struct limpet_op *op;
    struct copyup_waiter copyup;
    struct map_waiter map;
};

static void piece_end(struct piece *p, ssize_t error)
{
    struct io *io = p->io;
    if (p->op != NULL)
        limpet_op_destroy(p->op);
    limpet_buffer_destroy(p->buffer);
    free(p->own);
    free(p);
    io_piece_ended(io, error);
}

/* Whether the parent shows something where this object is not there. */
static bool is_shared(const struct piece *p)
{
    uint64_t run;
    return p->io->overlap > 0 &&
           stripe_image_offset(&p->io->image->stripe, p->where.object, 0, &run) < p->io->overlap;
}

/* ---- Memory ---- */

/* Which of the request's vectors holds an offset, and where in it. */
static int vector_at(const struct io *io, uint64_t *offset)
{
    int i = 0;
    while (*offset >= io->iov[i].iov_len)
        *offset -= io->iov[i++].iov_len;
    return i;
}

/* Between the piece's own memory and the vectors. */
static void copy_vectors(struct piece *p, bool to_vectors)
{
    uint64_t offset = p->io_offset, left = p->where.len;
    uint8_t *own = p->memory;
    for (int i = vector_at(p->io, &offset); left > 0; i++) {
        uint8_t *base = (uint8_t *)p->io->iov[i].iov_base + offset;
        uint64_t n = p->io->iov[i].iov_len - offset;
        n = n < left ? n : left;
        if (to_vectors)
            memcpy(base, own, n);
        else
            memcpy(own, base, n);
        own += n;
        left -= n;
        offset = 0;
    }
}

/* Sets `memory`; `keep`: it must stay when the caller's call returns. */
static int take_memory(struct piece *p, bool keep)
{
    struct io *io = p->io;
    uint64_t offset = p->io_offset;
    if (io->kind == IO_DISCARD || io->kind == IO_WRITE_SAME)
        return 0;
    int i = vector_at(io, &offset);
    keep = keep && io_writes(io) && io->owned == NULL;
    if (!keep && io->iov[i].iov_len - offset >= p->where.len) {
        p->memory = (uint8_t *)io->iov[i].iov_base + offset;
        return 0;
    } /* An operation that may be repeated, after a copy from the parent, needs its data again. */
    if (io->kind == IO_WRITE && !is_shared(p)) {
        p->buffer = limpet_buffer_create(p->where.len);
        p->memory = p->buffer != NULL ? limpet_buffer_data(p->buffer) : NULL;
    } else {
        p->own = malloc(p->where.len);
        p->memory = p->own;
    }
    if (p->memory == NULL)
        return -ENOMEM;
    if (io_writes(io))
        copy_vectors(p, false);
    return 0;
}

static int create_completion(struct piece *p, limpet_callback callback,
                             struct limpet_completion **completion)
{
    int rc = limpet_completion_create(callback, p, completion);
    if (rc == 0 && p->io->waited)
        limpet_completion_call_by_waiters(*completion);
    return rc;
}

/* ---- Reading ---- */

static void read_end(struct piece *p, ssize_t error)
{
    if (error >= 0 && p->own != NULL)
        copy_vectors(p, true);
    piece_end(p, error);
}

static void parent_was_read(ssize_t result, void *arg)
{
    read_end(arg, result);
}

static void read_parent(struct piece *p)
{
    struct io *io = p->io;
    uint64_t offset = io->offset + p->io_offset, shown = 0;
    if (offset < io->overlap)
        shown = io->overlap - offset < p->where.len ? io->overlap - offset : p->where.len;
    memset(p->memory + shown, 0, p->where.len - shown);
    if (shown == 0) {
        read_end(p, 0);
        return;
    }
    int rc = image_read_inside(io->image->parent, p->memory, shown, offset, io->waited,
                               parent_was_read, p);
    if (rc != 0)
        read_end(p, rc);
}

static void object_was_read(struct limpet_completion *completion, void *arg)
{
    struct piece *p = arg;
    ssize_t got = limpet_completion_result(completion);
    if (got == -ENOENT) {
        read_parent(p);
        return;
    }
    if (got >= 0)
        memset(p->memory + got, 0, p->where.len - (uint64_t)got);
    read_end(p, got);
}

static void piece_read(struct piece *p)
{
    struct limpet_image *image = p->io->image;
    char name[IMAGE_OBJECT_NAME_MAX];
    struct limpet_completion *completion;
    int rc = take_memory(p, false);
    if (rc == 0 && map_ask(image, p->where.object) == MAP_ABSENT) {
        read_parent(p);
        return;
    }
    if (rc == 0)
        rc = create_completion(p, object_was_read, &completion);
    if (rc == 0) {
        image_data_name(image, p->where.object, name);
        rc = limpet_aio_read(image->view, name, completion, p->memory, p->where.len,
                             p->where.offset);
        limpet_completion_release(completion);
    }
    if (rc != 0)
        piece_end(p, rc);
}

/* ---- Writing ---- */

/*
 * Whether it is all that the object may hold. Where others may write, too, the image may have grown
 * without our knowing it yet.
 */
static bool is_whole(const struct piece *p)
{
    const struct limpet_image *image = p->io->image;
    bool alone = (image->header.core.features & LIMPET_IMAGE_EXCLUSIVE_LOCK) != 0;
    uint64_t all = alone ? stripe_object_bytes(&image->stripe, p->where.object, p->io->size)
                         : UINT64_C(1) << image->stripe.order;
    return p->where.offset == 0 && p->where.len == all;
}

static int add_compare_zeroes(struct piece *p)
{
    uint8_t *zeroes = calloc(1, p->where.len);
    if (zeroes == NULL)
        return -ENOMEM;
    int rc = limpet_op_compare(p->op, zeroes, p->where.len, p->where.offset, NULL);
    free(zeroes);
    return rc;
}

static int add_discard(struct piece *p)
{
    int compare = p->io->if_zero ? add_compare_zeroes(p) : 0;
    if (compare != 0)
        return compare;
    if (!is_whole(p))
        return limpet_op_zero(p->op, p->where.offset, p->where.len);
    if (!is_shared(p))
        return limpet_op_remove(p->op);
    /* One without contents hides the parent. */
    int rc = limpet_op_create_object(p->op, false);
    return rc == 0 ? limpet_op_truncate(p->op, 0) : rc;
}

static int add_write_same(struct piece *p)
{
    const struct io *io = p->io;
    const uint8_t *pattern = io->iov[0].iov_base;
    size_t n = io->pattern, phase = (size_t)(p->io_offset % n);
    uint64_t len = p->where.len;
    if (phase == 0 && len % n == 0)
        return limpet_op_write_same(p->op, pattern, n, len, p->where.offset);
    uint8_t *bytes = malloc(len);
    if (bytes == NULL)
        return -ENOMEM;
    for (uint64_t i = 0; i < len; i++)
        bytes[i] = pattern[(phase + i) % n];
    int rc = limpet_op_write(p->op, bytes, len, p->where.offset);
    free(bytes);
    return rc;
}

static int add_steps(struct piece *p)
{
    const struct io *io = p->io;
    uint64_t len = p->where.len, offset = p->where.offset;
    int rc = 0;
    switch (io->kind) {
    case IO_WRITE:
        if (p->buffer != NULL) {
            struct limpet_buffer *buffer = p->buffer;
            p->buffer = NULL;
            return limpet_op_write_buffer(p->op, buffer, offset);
        }
        return limpet_op_write(p->op, p->memory, len, offset);
    case IO_DISCARD:
        return add_discard(p);
    case IO_WRITE_SAME:
        return add_write_same(p);
    case IO_COMPARE_AND_WRITE:
        rc = limpet_op_compare(p->op, io->expected, len, offset, NULL);
        return rc == 0 ? limpet_op_write(p->op, p->memory, len, offset) : rc;
    default:
        return -EINVAL;
    }
}

static int compared(struct piece *p, int result)
{
    if (result > -LIMPET_MISMATCH)
        return result;
    if (p->io->mismatch != NULL)
        *p->io->mismatch = (uint64_t) - (result + LIMPET_MISMATCH);
    return -EILSEQ;
}

static void ask(struct piece *p);

static void was_copied_up(struct copyup_waiter *waiter, int error)
{
    struct piece *p = container_of(waiter, struct piece, copyup);
    p->copied_up = true;
    if (error != 0)
        piece_end(p, error);
    else
        ask(p);
}

static void was_noted_as_gone(struct map_waiter *waiter, int error)
{
    piece_end(container_of(waiter, struct piece, map), error);
}

static void was_written(struct limpet_completion *completion, void *arg)
{
    struct piece *p = arg;
    struct io *io = p->io;
    int rc = (int)limpet_completion_result(completion);
    /* They are no zeroes, or there is nothing to give back. */
    if (io->if_zero && (rc == -ENOENT || rc <= -LIMPET_MISMATCH)) {
        piece_end(p, 0);
        return;
    }
    if (rc == -ENOENT && p->must_exist) {
        p->copyup.done = was_copied_up;
        copyup(io->image, p->where.object, &p->copyup);
        return;
    }
    if (io->kind == IO_COMPARE_AND_WRITE)
        rc = compared(p, rc);
    if (io->kind == IO_DISCARD && rc == -ENOENT)
        rc = 0;
    p->map.done = was_noted_as_gone;
    if (planted(PLANTED_IMAGE_MAP_LATE) && rc == 0 && map_note(io->image, p->where.object, &p->map))
        return;
    if (io->kind == IO_DISCARD && rc == 0 && is_whole(p) && !is_shared(p) &&
        map_note_removed(io->image, p->where.object, io, &p->map))
        return;
    piece_end(p, rc);
}

static int make_op(struct piece *p)
{
    if (p->op != NULL)
        limpet_op_destroy(p->op);
    p->op = limpet_op_create();
    if (p->op == NULL)
        return -ENOMEM;
    int rc = p->must_exist ? limpet_op_assert_exists(p->op) : 0;
    return rc == 0 ? add_steps(p) : rc;
}

static bool needs_object(const struct piece *p)
{
    if (p->io->if_zero)
        return true;
    if (p->copied_up || !is_shared(p))
        return false;
    return p->io->kind != IO_DISCARD || !is_whole(p);
}

/* What it wants of the object, in one operation. */
static void ask(struct piece *p)
{
    struct limpet_image *image = p->io->image;
    char name[IMAGE_OBJECT_NAME_MAX];
    struct limpet_completion *completion;
    p->must_exist = needs_object(p);
    int rc = create_completion(p, was_written, &completion);
    if (rc != 0) {
        piece_end(p, rc);
        return;
    }
    image_data_name(image, p->where.object, name);
    if (p->io->kind == IO_WRITE && !p->must_exist && p->buffer == NULL) {
        rc = limpet_aio_write(image->data, name, completion, p->memory, p->where.len,
                              p->where.offset);
    } else {
        rc = make_op(p);
        if (rc == 0)
            rc = limpet_aio_operate(image->data, name, completion, p->op);
    }
    limpet_completion_release(completion);
    if (rc != 0)
        piece_end(p, rc);
}

static void was_noted(struct map_waiter *waiter, int error)
{
    struct piece *p = container_of(waiter, struct piece, map);
    if (error != 0)
        piece_end(p, error);
    else
        ask(p);
}

static void piece_write(struct piece *p)
{
    struct limpet_image *image = p->io->image;
    bool removes = p->io->kind == IO_DISCARD && !is_shared(p);
    enum map_answer known = map_ask(image, p->where.object);
    if ((removes || p->io->if_zero) && known == MAP_ABSENT) {
        piece_end(p, 0);
        return;
    } /* Features do not change while a write is under way. */
    bool has_map = (image->header.core.features & LIMPET_IMAGE_OBJECT_MAP) != 0;
    int rc = take_memory(p, has_map || is_shared(p));
    if (rc != 0) {
        piece_end(p, rc);
        return;
    }
    p->map.done = was_noted;
    if (planted(PLANTED_IMAGE_MAP_LATE) || !map_note(image, p->where.object, &p->map))
        ask(p);
}

void piece_start(struct io *io, struct stripe_piece where, uint64_t io_offset)
{
    struct piece *p = calloc(1, sizeof *p);
    if (p == NULL) {
        io_piece_ended(io, -ENOMEM);
        return;
    }
    p->io = io;
    p->where = where;
    p->io_offset = io_offset;
    if (io->kind == IO_READ)
        piece_read(p);
    else
        piece_write(p);
}
