/* Vectors of memory, and buffers: memory that is handed over instead of copied. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/limpet/object.h"
#include "client/object/private.h"

/* ---- Buffers ---- */

struct limpet_buffer *limpet_buffer_create(size_t len)
{
    struct limpet_buffer *buffer = calloc(1, sizeof *buffer);
    if (buffer == NULL || buf_slice_alloc(len, &buffer->slice) != 0) {
        free(buffer);
        return NULL;
    }
    return buffer;
}

void *limpet_buffer_data(struct limpet_buffer *buffer)
{
    return buffer->slice.data;
}

size_t limpet_buffer_len(const struct limpet_buffer *buffer)
{
    return buffer->slice.len;
}

void limpet_buffer_trim(struct limpet_buffer *buffer, size_t len)
{
    if (len < buffer->slice.len)
        buffer->slice.len = len;
}

void limpet_buffer_skip(struct limpet_buffer *buffer, size_t len)
{
    len = len < buffer->slice.len ? len : buffer->slice.len;
    buffer->slice.data += len;
    buffer->slice.len -= len;
}

size_t buffer_memory(const struct limpet_buffer *buffer)
{
    const struct buf *buf = buffer->slice.buf;
    return sizeof *buffer + (buf != NULL ? sizeof *buf + buf->capacity : 0);
}

void limpet_buffer_destroy(struct limpet_buffer *buffer)
{
    if (buffer == NULL)
        return;
    struct limpet_cluster *c = buffer->cluster;
    if (c != NULL)
        cluster_lock(c);
    buf_slice_drop(&buffer->slice);
    if (c != NULL)
        cluster_unlock(c);
    free(buffer);
}

/* Handed over in any case. */
static int add_buffer(struct limpet_op *op, uint16_t code, uint64_t offset,
                      struct limpet_buffer *buffer)
{
    struct buf_slice slice = BUF_SLICE_EMPTY;
    /* What came over the network may share its memory with other messages of its loop. */
    int rc = 0;
    if (buffer->cluster != NULL && buffer->slice.len > 0)
        rc = buf_slice_copy(buffer->slice.data, buffer->slice.len, &slice);
    if (buffer->cluster == NULL && buffer->slice.len > 0) {
        slice = buffer->slice;
        buffer->slice = BUF_SLICE_EMPTY;
    }
    limpet_buffer_destroy(buffer);
    if (rc != 0)
        return rc;
    return request_add_slice(&op->request, code, offset, slice);
}

int limpet_op_write_buffer(struct limpet_op *op, struct limpet_buffer *buffer, uint64_t offset)
{
    return add_buffer(op, WIRE_OP_CODE_WRITE_AT, offset, buffer);
}

int limpet_op_write_full_buffer(struct limpet_op *op, struct limpet_buffer *buffer)
{
    return add_buffer(op, WIRE_OP_CODE_WRITE_FULL, 0, buffer);
}

int limpet_op_append_buffer(struct limpet_op *op, struct limpet_buffer *buffer)
{
    return add_buffer(op, WIRE_OP_CODE_APPEND, 0, buffer);
}

int limpet_op_read_buffer(struct limpet_op *op, size_t len, uint64_t offset,
                          struct limpet_buffer **out, int *result)
{
    *out = NULL;
    return request_add_read(&op->request,
                            (struct step_out){.buffer = out, .len = len, .result = result}, offset);
}

/* ---- Vectors ---- */

/* -EINVAL, -EFBIG: they have more than an object can. */
static int total_of(const struct iovec *iov, int n, size_t *total)
{
    *total = 0;
    if (n < 0)
        return -EINVAL;
    for (int i = 0; i < n; i++) {
        if (iov[i].iov_len > LIMPET_OBJECT_SIZE_MAX - *total)
            return -EFBIG;
        *total += iov[i].iov_len;
    }
    return 0;
}

/* The one copy that data of a write are, whatever they come from. */
static int gather(const struct iovec *iov, int n, struct buf_slice *out)
{
    size_t total, at = 0;
    int rc = total_of(iov, n, &total);
    *out = BUF_SLICE_EMPTY;
    if (rc != 0 || total == 0)
        return rc;
    rc = buf_slice_alloc(total, out);
    for (int i = 0; rc == 0 && i < n; i++) {
        if (iov[i].iov_len > 0)
            memcpy(out->data + at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    return rc;
}

static void scatter(const struct iovec *iov, int n, const uint8_t *data, size_t len)
{
    for (int i = 0; i < n && len > 0; i++) {
        size_t part = iov[i].iov_len < len ? iov[i].iov_len : len;
        if (part > 0)
            memcpy(iov[i].iov_base, data, part);
        data += part;
        len -= part;
    }
}

int read_give(struct limpet_cluster *cluster, struct step_out *out, struct buf_slice *data)
{
    if (out->buffer != NULL) {
        struct limpet_buffer *buffer = calloc(1, sizeof *buffer);
        if (buffer == NULL)
            return -ENOMEM;
        buffer->slice = *data;
        buffer->cluster = cluster;
        *data = BUF_SLICE_EMPTY;
        *out->buffer = buffer;
    } else if (out->n_iov > 0) {
        scatter(out->data, out->n_iov, data->data, data->len);
    } else if (data->len > 0 && data->data != out->data) { /* Else it was received there. */
        memcpy(out->data, data->data, data->len);
    }
    return 0;
}

static int add_gathered(struct request *r, const struct iovec *iov, int n, uint64_t offset)
{
    struct buf_slice slice;
    int rc = gather(iov, n, &slice);
    return rc == 0 ? request_add_slice(r, WIRE_OP_CODE_WRITE_AT, offset, slice) : rc;
}

static int add_scattered(struct request *r, const struct iovec *iov, int n, uint64_t offset,
                         size_t *got, int *result)
{
    struct step_out out = {
        .data = (void *)(uintptr_t)iov, .n_iov = n, .got = got, .result = result};
    int rc = total_of(iov, n, &out.len);
    if (rc == -EFBIG) {
        out.len = LIMPET_OBJECT_SIZE_MAX; /* It has no more. */
        rc = 0;
    }
    return rc == 0 ? request_add_read(r, out, offset) : rc;
}

int limpet_op_writev(struct limpet_op *op, const struct iovec *iov, int n, uint64_t offset)
{
    return add_gathered(&op->request, iov, n, offset);
}

int limpet_op_readv(struct limpet_op *op, const struct iovec *iov, int n, uint64_t offset,
                    size_t *got, int *result)
{
    return add_scattered(&op->request, iov, n, offset, got, result);
}

int limpet_writev(struct limpet_pool *pool, const char *name, const struct iovec *iov, int n,
                  uint64_t offset)
{
    struct request r;
    request_init(&r);
    int rc = add_gathered(&r, iov, n, offset);
    return rc == 0 ? (int)request_run_on(pool, name, &r) : rc;
}

ssize_t limpet_readv(struct limpet_pool *pool, const char *name, const struct iovec *iov, int n,
                     uint64_t offset)
{
    struct request r;
    request_init(&r);
    r.returns_bytes = true;
    int rc = add_scattered(&r, iov, n, offset, NULL, NULL);
    return rc == 0 ? request_run_on(pool, name, &r) : rc;
}

int limpet_aio_writev(struct limpet_pool *pool, const char *name,
                      struct limpet_completion *completion, const struct iovec *iov, int n,
                      uint64_t offset)
{
    int rc = add_gathered(&completion->own, iov, n, offset);
    return rc == 0 ? request_run_async(pool, name, completion, &completion->own) : rc;
}

int limpet_aio_readv(struct limpet_pool *pool, const char *name,
                     struct limpet_completion *completion, const struct iovec *iov, int n,
                     uint64_t offset)
{
    completion->own.returns_bytes = true;
    int rc = add_scattered(&completion->own, iov, n, offset, NULL, NULL);
    return rc == 0 ? request_run_async(pool, name, completion, &completion->own) : rc;
}
