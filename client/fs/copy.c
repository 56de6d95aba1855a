/*
 * Copying from one file to another inside of the cluster, or inside of one: contents go through
 * this client, and not through the program that asks. What a copy is told of is what a read would
 * be told of, and it is there like what was written.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/fs/fs.h"

enum { COPY_PIECE = 4 << 20, COPY_MAX = 64 << 20 }; /* Of one request: more is asked for again. */

struct copy {
    struct fs_call *call;
    size_t done, len;
};

static void copy_next(struct copy *copy);

static void copy_end(struct copy *copy, ssize_t error)
{
    struct fs_call *call = copy->call;
    ssize_t rc = copy->done > 0 || error == 0 ? (ssize_t)copy->done : error;
    free(copy);
    call_end(call, rc);
}

static void written(ssize_t rc, const struct limpet_fs_result *result, void *arg)
{
    struct copy *copy = arg;
    (void)result;
    if (rc <= 0) {
        copy_end(copy, rc);
        return;
    }
    copy->done += (size_t)rc;
    copy_next(copy);
}

static void was_read(ssize_t rc, const struct limpet_fs_result *result, void *arg)
{
    struct copy *copy = arg;
    const struct fs_call *call = copy->call;
    if (rc <= 0) {
        copy_end(copy, rc); /* With 0, the file ends here. */
        return;
    }
    struct limpet_fs_request rq = {.verb = LIMPET_FS_WRITE,
                                   .ino = call->rq.to_ino,
                                   .offset = call->rq.to_offset + copy->done,
                                   .flags = call->rq.flags & LIMPET_FS_KILL_PRIV,
                                   .len = (size_t)rc,
                                   .buffer = limpet_buffer_create((size_t)rc)};
    if (rq.buffer == NULL) {
        copy_end(copy, -ENOMEM);
        return;
    }
    memcpy(limpet_buffer_data(rq.buffer), result->data, (size_t)rc);
    limpet_fs_submit(call->fs, &rq, written, copy);
}

static void copy_next(struct copy *copy)
{
    const struct fs_call *call = copy->call;
    size_t left = copy->len - copy->done;
    if (left == 0) {
        copy_end(copy, 0);
        return;
    }
    struct limpet_fs_request rq = {.verb = LIMPET_FS_READ,
                                   .ino = call->rq.ino,
                                   .offset = call->rq.offset + copy->done,
                                   .len = left < COPY_PIECE ? left : COPY_PIECE};
    limpet_fs_submit(call->fs, &rq, was_read, copy);
}

static bool overlaps(const struct fs_call *call, size_t len)
{
    uint64_t from = call->rq.offset, to = call->rq.to_offset;
    return call->rq.ino == call->rq.to_ino && from < to + len && to < from + len;
}

void copy_begin(struct fs_call *call)
{
    size_t len = call->rq.len < COPY_MAX ? call->rq.len : COPY_MAX;
    int rc = 0;
    if (call->rq.offset > FS_SIZE_MAX - len || overlaps(call, len))
        rc = -EINVAL;
    else if (call->rq.to_offset > FS_SIZE_MAX - len)
        rc = -EFBIG;
    struct copy *copy = rc == 0 ? calloc(1, sizeof *copy) : NULL;
    if (copy == NULL) {
        call_end(call, rc != 0 ? rc : -ENOMEM);
        return;
    }
    *copy = (struct copy){.call = call, .len = len};
    copy_next(copy);
}
