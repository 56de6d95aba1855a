/*
 * Requests to a handle that is decrypted. Each is a chain of raw requests, of which one is under
 * way at a time:
 *
 *     read     whole sectors, then decrypted
 *     write    where whole sectors are written: encrypted, and written
 *              a sector that is written in part: read; then compared and written, so that nobody's
 *              change of it in between is lost; if it was changed: again
 *     discard  whole sectors are discarded; those in part are written
 *
 * The first raw request is submitted by the caller, the others by the callback of the one before.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/image/crypt.h"

enum { CHUNK = 4 << 20 }; /* Bytes of a raw request at most; but discards. */

struct crypt_io {
    struct limpet_image *image;
    struct crypt *crypt;
    bool flush;
    enum crypt_kind kind;
    unsigned flags;
    uint64_t offset, len, at; /* Of what is shown; bytes done. */
    struct iovec *iov;        /* Of reads: where to. */
    int n_iov;
    uint8_t *data; /* What is written; of CRYPT_COMPARE what is expected follows. */
    size_t data_len;
    uint64_t *mismatch;
    limpet_image_callback callback;
    void *arg;
    /* The raw request that is under way: whole sectors, of which `n` bytes at `skip` are ours. */
    uint64_t from, span, skip, n;
    uint8_t *buffer, *before; /* Of a sector in part: as it shall be, and as it is. */
    bool direct;              /* It reads to where the caller wants it. */
    TAILQ_ENTRY(crypt_io) link;
};
TAILQ_HEAD(crypt_list, crypt_io);

struct crypt {
    struct sector_cipher *cipher;
    unsigned sector;
    uint64_t data_offset;
    pthread_mutex_t lock;
    struct crypt_list running; /* Writes and flushes, in order. */
    struct crypt *older;
};

int crypt_create(struct sector_cipher *cipher, unsigned sector, uint64_t data_offset,
                 struct crypt **out)
{
    struct crypt *c = calloc(1, sizeof *c);
    if (c == NULL)
        return -ENOMEM;
    c->cipher = cipher;
    c->sector = sector;
    c->data_offset = data_offset;
    pthread_mutex_init(&c->lock, NULL);
    TAILQ_INIT(&c->running);
    *out = c;
    return 0;
}

void crypt_destroy(struct crypt *crypt)
{
    while (crypt != NULL) {
        struct crypt *older = crypt->older;
        cipher_destroy(crypt->cipher);
        pthread_mutex_destroy(&crypt->lock);
        free(crypt);
        crypt = older;
    }
}

void crypt_set(struct limpet_image *image, struct crypt *crypt)
{
    pthread_mutex_lock(&image->lock);
    crypt->older = image->crypt;
    image->crypt = crypt;
    pthread_mutex_unlock(&image->lock);
}

uint64_t crypt_data_offset(const struct crypt *crypt)
{
    return crypt != NULL ? crypt->data_offset : 0;
}

uint64_t crypt_shown_size(const struct limpet_image *image)
{
    const struct crypt *crypt = image->crypt;
    if (crypt == NULL)
        return image->size;
    uint64_t size = image->size > crypt->data_offset ? image->size - crypt->data_offset : 0;
    return size - size % crypt->sector;
}

/* ---- The end ---- */

static void io_free(struct crypt_io *io)
{
    free(io->iov);
    free(io->data);
    free(io->buffer);
    free(io->before);
    free(io);
}

static void flush_now(struct crypt_io *io)
{
    int rc = raw_flush(io->image, io->callback, io->arg);
    if (rc != 0)
        io->callback(rc, io->arg);
    io_free(io);
}

/* Flushes that have no write before them any more go on. */
static void leave(struct crypt_io *io)
{
    struct crypt *crypt = io->crypt;
    struct crypt_list due = TAILQ_HEAD_INITIALIZER(due);
    struct crypt_io *first;
    if (io->kind == CRYPT_READ)
        return;
    pthread_mutex_lock(&crypt->lock);
    TAILQ_REMOVE(&crypt->running, io, link);
    while ((first = TAILQ_FIRST(&crypt->running)) != NULL && first->flush) {
        TAILQ_REMOVE(&crypt->running, first, link);
        TAILQ_INSERT_TAIL(&due, first, link);
    }
    pthread_mutex_unlock(&crypt->lock);
    while ((first = TAILQ_FIRST(&due)) != NULL) {
        TAILQ_REMOVE(&due, first, link);
        flush_now(first);
    }
}

static void end(struct crypt_io *io, ssize_t result)
{
    limpet_image_callback callback = io->callback;
    void *arg = io->arg;
    leave(io);
    io_free(io);
    callback(result, arg);
}

/* The image has become smaller meanwhile: as without encryption, what was done before counts. */
static void end_early(struct crypt_io *io, int error)
{
    end(io, error == -EINVAL && io->at > 0 ? (ssize_t)io->at : error);
}

static int step(struct crypt_io *io) MUST_CHECK;

/* What is under way has ended well. */
static void next(struct crypt_io *io)
{
    io->at += io->n;
    free(io->buffer);
    free(io->before);
    io->buffer = io->before = NULL;
    if (io->at == io->len) {
        end(io, (ssize_t)io->len);
        return;
    }
    /* Once it is submitted it may be over. */
    int rc = step(io);
    if (rc != 0)
        end_early(io, rc);
}

/* ---- Reading ---- */

/* Bytes of the request to where the caller wants them. */
static void scatter(struct crypt_io *io, const uint8_t *from, uint64_t len)
{
    uint64_t skip = io->at;
    for (int i = 0; i < io->n_iov && len > 0; i++) {
        if (skip >= io->iov[i].iov_len) {
            skip -= io->iov[i].iov_len;
            continue;
        }
        uint64_t n = io->iov[i].iov_len - skip;
        n = n < len ? n : len;
        memcpy((uint8_t *)io->iov[i].iov_base + skip, from, n);
        from += n;
        len -= n;
        skip = 0;
    }
}

static uint8_t *direct_memory(const struct crypt_io *io)
{
    return (uint8_t *)io->iov[0].iov_base + io->at;
}

static void was_read(ssize_t result, void *arg)
{
    struct crypt_io *io = arg;
    uint8_t *data = io->direct ? direct_memory(io) : io->buffer;
    int rc = result < 0 ? (int)result : result < (ssize_t)io->span ? -EINVAL : 0;
    if (rc == 0)
        rc = cipher_decrypt(io->crypt->cipher, data, io->span, io->from);
    if (rc != 0) {
        end_early(io, rc);
        return;
    }
    if (!io->direct)
        scatter(io, data + io->skip, io->n);
    next(io);
}

static int read_step(struct crypt_io *io)
{
    io->direct = io->n_iov == 1 && io->skip == 0 && io->n == io->span;
    if (!io->direct)
        io->buffer = malloc(io->span);
    if (!io->direct && io->buffer == NULL)
        return -ENOMEM;
    return raw_read(io->image, io->direct ? direct_memory(io) : io->buffer, io->span,
                    io->crypt->data_offset + io->from, was_read, io);
}

/* ---- Writing ---- */

/* What is written, from byte `at` of the request. */
static void fill(const struct crypt_io *io, uint8_t *to, uint64_t at, uint64_t len)
{
    if (io->kind == CRYPT_ZERO) {
        memset(to, 0, len);
        return;
    }
    while (len > 0) {
        uint64_t within = at % io->data_len, n = io->data_len - within;
        n = n < len ? n : len;
        memcpy(to, io->data + within, n);
        to += n;
        at += n;
        len -= n;
    }
}

static void was_written(ssize_t result, void *arg)
{
    struct crypt_io *io = arg;
    if (result < 0)
        end_early(io, (int)result);
    else if (result < (ssize_t)io->span)
        end(io, (ssize_t)io->at + result); /* The image has become smaller meanwhile. */
    else
        next(io);
}

static int write_sectors(struct crypt_io *io)
{
    uint64_t raw = io->crypt->data_offset + io->from;
    if (io->kind == CRYPT_ZERO)
        return raw_discard(io->image, io->span, raw, was_written, io);
    uint8_t *data = io->data + io->at;
    if (io->kind == CRYPT_SAME) {
        data = io->buffer = malloc(io->span);
        if (data == NULL)
            return -ENOMEM;
        fill(io, data, io->at, io->span);
    }
    int rc = cipher_encrypt(io->crypt->cipher, data, io->span, io->from);
    return rc == 0 ? raw_write(io->image, data, io->span, raw, io->flags, was_written, io) : rc;
}

/* ---- Sectors in part ---- */

static int change_sectors(struct crypt_io *io) MUST_CHECK;

static void was_changed(ssize_t result, void *arg)
{
    struct crypt_io *io = arg;
    /* Somebody else was faster: with what there is now. */
    int rc = result == -EILSEQ ? change_sectors(io) : result < 0 ? (int)result : 0;
    if (rc != 0)
        end_early(io, rc);
    else if (result >= 0)
        next(io);
}

/* Whether the caller's comparison holds. */
static bool is_as_expected(struct crypt_io *io)
{
    const uint8_t *expected = io->data + io->data_len, *there = io->buffer + io->skip;
    for (uint64_t i = 0; i < io->n; i++) {
        if (expected[i] != there[i]) {
            if (io->mismatch != NULL)
                *io->mismatch = i;
            return false;
        }
    }
    return true;
}

static void was_read_before(ssize_t result, void *arg)
{
    struct crypt_io *io = arg;
    int rc = result < 0 ? (int)result : result < (ssize_t)io->span ? -EINVAL : 0;
    if (rc == 0) {
        memcpy(io->buffer, io->before, io->span);
        rc = cipher_decrypt(io->crypt->cipher, io->buffer, io->span, io->from);
    }
    if (rc == 0 && io->kind == CRYPT_COMPARE && !is_as_expected(io))
        rc = -EILSEQ;
    if (rc == 0) {
        fill(io, io->buffer + io->skip, io->at, io->n);
        rc = cipher_encrypt(io->crypt->cipher, io->buffer, io->span, io->from);
    }
    if (rc == 0)
        rc = raw_compare_and_write(io->image, io->before, io->buffer, io->span,
                                   io->crypt->data_offset + io->from, NULL, was_changed, io);
    if (rc != 0)
        end_early(io, rc);
}

static int change_sectors(struct crypt_io *io)
{
    if (io->buffer == NULL)
        io->buffer = malloc(io->span);
    if (io->before == NULL)
        io->before = malloc(io->span);
    if (io->buffer == NULL || io->before == NULL)
        return -ENOMEM;
    return raw_read(io->image, io->before, io->span, io->crypt->data_offset + io->from,
                    was_read_before, io);
}

/* ---- Steps ---- */

/* Which sectors come next: `n` bytes of the request, at `skip` of `span` bytes. */
static void aim(struct crypt_io *io)
{
    uint64_t sector = io->crypt->sector, begin = io->offset + io->at, left = io->len - io->at;
    io->skip = begin % sector;
    io->from = begin - io->skip;
    io->n = left;
    if (io->kind == CRYPT_COMPARE)
        ;
    else if (io->kind == CRYPT_READ)
        io->n = left < CHUNK - io->skip ? left : CHUNK - io->skip;
    else if (io->skip > 0 || left < sector)
        io->n = left < sector - io->skip ? left : sector - io->skip;
    else if (io->kind == CRYPT_ZERO || left < CHUNK)
        io->n = left - left % sector;
    else
        io->n = CHUNK;
    io->span = (io->skip + io->n + sector - 1) / sector * sector;
}

static int step(struct crypt_io *io)
{
    uint64_t raw = io->crypt->data_offset;
    aim(io);
    if (io->kind == CRYPT_READ)
        return read_step(io);
    if (io->kind == CRYPT_COMPARE &&
        stripe_first(&io->image->stripe, raw + io->from, io->span).len < io->span)
        return -EINVAL;
    if (io->kind == CRYPT_COMPARE || io->n < io->span)
        return change_sectors(io);
    return write_sectors(io);
}

/* ---- Beginning ---- */

static uint8_t *copy_data(const struct crypt_request *r, uint64_t len)
{
    uint8_t *copy = malloc((r->kind == CRYPT_COMPARE ? 2 * len : len) + 1);
    uint64_t at = 0;
    for (int i = 0; copy != NULL && i < r->n_iov && at < len; i++) {
        uint64_t n = r->iov[i].iov_len < len - at ? r->iov[i].iov_len : len - at;
        memcpy(copy + at, r->iov[i].iov_base, n);
        at += n;
    }
    if (copy != NULL && r->kind == CRYPT_COMPARE)
        memcpy(copy + len, r->expected, len);
    return copy;
}

static int take_memory(struct crypt_io *io, const struct crypt_request *r)
{
    if (r->kind == CRYPT_READ) {
        io->iov = malloc((size_t)r->n_iov * sizeof *r->iov + 1);
        io->n_iov = r->n_iov;
        if (io->iov != NULL && r->n_iov > 0)
            memcpy(io->iov, r->iov, (size_t)r->n_iov * sizeof *r->iov);
        return io->iov != NULL ? 0 : -ENOMEM;
    }
    if (r->kind == CRYPT_ZERO)
        return 0;
    io->data_len = r->kind == CRYPT_SAME ? r->iov[0].iov_len : io->len;
    io->data = copy_data(r, io->data_len);
    return io->data != NULL ? 0 : -ENOMEM;
}

/* One that was not begun is an error of the call. */
static int begin(struct crypt_io *io)
{
    struct crypt *crypt = io->crypt;
    if (io->kind != CRYPT_READ) {
        pthread_mutex_lock(&crypt->lock);
        TAILQ_INSERT_TAIL(&crypt->running, io, link);
        pthread_mutex_unlock(&crypt->lock);
    }
    int rc = step(io);
    if (rc != 0) {
        leave(io);
        io_free(io);
    }
    return rc;
}

int crypt_submit(struct limpet_image *image, const struct crypt_request *r)
{
    pthread_mutex_lock(&image->lock);
    struct crypt *crypt = image->crypt;
    uint64_t size = crypt_shown_size(image);
    bool fixed = image->read_only || image->snap != 0;
    pthread_mutex_unlock(&image->lock);
    if (r->kind != CRYPT_READ && fixed)
        return -EROFS;
    if (r->len > 0 && r->offset >= size)
        return -EINVAL;
    if (r->len == 0)
        return raw_read(image, NULL, 0, 0, r->callback, r->arg);
    struct crypt_io *io = calloc(1, sizeof *io);
    if (io == NULL)
        return -ENOMEM;
    io->image = image;
    io->crypt = crypt;
    io->kind = r->kind;
    io->offset = r->offset;
    io->len = r->len < size - r->offset ? r->len : size - r->offset;
    io->flags = r->flags;
    io->mismatch = r->mismatch;
    io->callback = r->callback;
    io->arg = r->arg;
    int rc = take_memory(io, r);
    if (rc != 0) {
        io_free(io);
        return rc;
    }
    return begin(io);
}

/* Behind writes, if there are any. */
static bool line_up(struct crypt *crypt, struct crypt_io *io)
{
    pthread_mutex_lock(&crypt->lock);
    bool waits = !TAILQ_EMPTY(&crypt->running);
    if (waits)
        TAILQ_INSERT_TAIL(&crypt->running, io, link);
    pthread_mutex_unlock(&crypt->lock);
    return waits;
}

int crypt_flush(struct limpet_image *image, limpet_image_callback callback, void *arg)
{
    struct crypt *crypt = image->crypt;
    struct crypt_io *io = calloc(1, sizeof *io);
    if (io == NULL)
        return -ENOMEM;
    *io = (struct crypt_io){.image = image,
                            .crypt = crypt,
                            .flush = true,
                            .kind = CRYPT_WRITE,
                            .callback = callback,
                            .arg = arg};
    if (line_up(crypt, io))
        return 0;
    io_free(io);
    return raw_flush(image, callback, arg);
}
