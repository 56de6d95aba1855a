#include "common/buf.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A small buf and its memory are one block; or the memory is lent. */
static void release_small(struct buf *buf)
{
    free(buf);
}

static void release_large(struct buf *buf)
{
    free(buf->data);
    free(buf);
}

struct buf *buf_create(size_t len)
{
    bool large = len >= BUF_ALIGNMENT;
    size_t inline_len = large ? 0 : len;
    struct buf *buf = malloc(sizeof *buf + inline_len);
    if (buf == NULL)
        return NULL;
    buf->refs = 1;
    buf->capacity = len;
    buf->revoked = false;
    if (!large) {
        buf->data = (uint8_t *)(buf + 1);
        buf->release = release_small;
        return buf;
    }
    void *memory = NULL;
    if (posix_memalign(&memory, BUF_ALIGNMENT, len) != 0) {
        free(buf);
        return NULL;
    }
    buf->data = memory;
    buf->release = release_large;
    return buf;
}

int buf_slice_alloc(size_t len, struct buf_slice *out)
{
    struct buf *buf = buf_create(len);
    if (buf == NULL)
        return -ENOMEM;
    *out = (struct buf_slice){.buf = buf, .data = buf->data, .len = len};
    return 0;
}

int buf_slice_lend(void *data, size_t len, struct buf_slice *out)
{
    struct buf *buf = malloc(sizeof *buf);
    if (buf == NULL)
        return -ENOMEM;
    *buf = (struct buf){.refs = 1, .capacity = len, .data = data, .release = release_small};
    *out = (struct buf_slice){.buf = buf, .data = buf->data, .len = len};
    return 0;
}

int buf_slice_copy(const void *data, size_t len, struct buf_slice *out)
{
    int rc = buf_slice_alloc(len, out);
    if (rc == 0 && len > 0)
        memcpy(out->data, data, len);
    return rc;
}

struct buf *buf_ref(struct buf *buf)
{
    assert(buf->refs > 0 && buf->refs < UINT32_MAX);
    buf->refs++;
    return buf;
}

void buf_unref(struct buf *buf)
{
    if (buf == NULL)
        return;
    assert(buf->refs > 0);
    if (--buf->refs == 0)
        buf->release(buf);
}

struct buf_slice buf_slice_ref(struct buf_slice slice)
{
    if (slice.buf != NULL)
        buf_ref(slice.buf);
    return slice;
}

struct buf_slice buf_slice_sub(struct buf_slice slice, size_t offset, size_t len)
{
    assert(offset <= slice.len && len <= slice.len - offset);
    if (slice.buf == NULL)
        return BUF_SLICE_EMPTY;
    return (struct buf_slice){.buf = buf_ref(slice.buf), .data = slice.data + offset, .len = len};
}

void buf_slice_drop(struct buf_slice *slice)
{
    buf_unref(slice->buf);
    *slice = BUF_SLICE_EMPTY;
}
