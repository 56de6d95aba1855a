/*
 * Requests: from the call to the callback.
 *
 *     call --> clipped --> gate (writes) --> pieces, at most IMAGE_PIECES_MAX at a time -->
 * callback
 *
 * A request's pieces are made by whoever finds that there is room for another one: the caller
 * first, then the callbacks of pieces that have ended; one at a time (`splitting`).
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/image/crypt.h"
#include "client/object/inside.h"
#include "common/planted.h"
#include "common/witness.h"

bool io_writes(const struct io *io)
{
    return io->kind != IO_READ && io->kind != IO_FLUSH;
}

static void io_free(struct io *io)
{
    free(io->vectors);
    free(io->owned);
    free(io);
}

/* ---- The end ---- */

static ssize_t result_of(const struct io *io)
{
    if (io->error != 0)
        return io->error;
    return io->kind == IO_FLUSH ? 0 : (ssize_t)io->len;
}

/* On the library's thread, or any but the caller's. */
static void call_back(struct io *io)
{
    struct limpet_image *image = io->image;
    /* NULL: it was answered early. */
    if (io->callback != NULL)
        io->callback(result_of(io), io->arg);
    io_free(io);
    /* Only now may the image be closed. */
    pthread_mutex_lock(&image->lock);
    image->ios--;
    pthread_cond_broadcast(&image->changed);
    pthread_mutex_unlock(&image->lock);
}

static void call_back_later(struct limpet_completion *completion, void *arg)
{
    (void)completion;
    call_back(arg);
}

static void call_back_task(void *arg)
{
    call_back(arg);
}

/* Flushes whose writes have all ended. With the lock. */
static void take_flushed(struct limpet_image *image, struct io_list *out)
{
    const struct io *first = TAILQ_FIRST(&image->running);
    struct io *flush;
    while (first != NULL && first->early && planted(PLANTED_IMAGE_FLUSH_EARLY))
        first = TAILQ_NEXT(first, link);
    uint64_t told = 0;
    while ((flush = TAILQ_FIRST(&image->flushing)) != NULL &&
           (first == NULL || first->number > flush->number)) {
        TAILQ_REMOVE(&image->flushing, flush, link);
        TAILQ_INSERT_TAIL(out, flush, link);
        flush->error = early_error(image, flush->number);
        if (flush->error != 0)
            told = flush->number;
    }
    if (told > 0)
        early_told(image, told);
}

/* in_call: one that a callback may have made. */
static void end_all(struct io_list *list, bool in_call)
{
    struct io *io;
    while ((io = TAILQ_FIRST(list)) != NULL) {
        TAILQ_REMOVE(list, io, link);
        /* A request that ends inside of its call must not call back there, nor on a thread that
         * waits for another one; but who waits for this one may be told anywhere. */
        bool here = (!in_call || io->inside) && cluster_calls_users_back(io->image->cluster);
        if (io->waited || io->callback == NULL || here)
            call_back(io);
        else if (cluster_call(io->image->cluster, call_back_later, io) != 0 &&
                 task_run(NULL, call_back_task, io) != 0)
            call_back(io);
    }
}

static void pass(struct io *io, struct io_list *ended);

/* With the lock, of which it may let go at its end: it is in no list any more. */
static void finish(struct io *io, bool passed, struct io_list *ended)
{
    struct limpet_image *image = io->image;
    bool early = io->early;
    if (early)
        early_end(io);
    TAILQ_INSERT_TAIL(ended, io, link);
    if (passed)
        image->passed--;
    if (passed && io_writes(io))
        image->writes--;
    if (io_writes(io)) {
        TAILQ_REMOVE(&image->running, io, run_link);
        take_flushed(image, ended);
    }
    if (image->passed == 0)
        image_take_next(image);
    if (image->writes == 0)
        pthread_cond_broadcast(&image->changed);
    while (early && (io = early_take_due(image)) != NULL)
        pass(io, ended);
}

/* With the lock. */
static bool may_pass(struct limpet_image *image, const struct io *io)
{
    return io_writes(io) ? image_gate_open(image) : image->next.core_bytes == NULL;
}

/* With the lock: the first one before the gate that may pass. */
static struct io *next_to_pass(struct limpet_image *image)
{
    struct io *io;
    TAILQ_FOREACH(io, &image->waiting, link)
    {
        if (may_pass(image, io))
            return io;
    }
    return NULL;
}

/* ---- Running ---- */

static bool has_more(const struct io *io)
{
    return io->at < io->len && io->error == 0;
}

/* With the lock; it lets go of it while a piece is started. */
static void split(struct io *io)
{
    struct limpet_image *image = io->image;
    io->splitting = true;
    while (has_more(io) && io->pieces < IMAGE_PIECES_MAX) {
        uint64_t at = io->at;
        struct stripe_piece piece = stripe_first(&image->stripe, io->offset + at, io->len - at);
        io->at += piece.len;
        io->pieces++;
        pthread_mutex_unlock(&image->lock);
        piece_start(io, piece, at);
        pthread_mutex_lock(&image->lock);
    }
    io->splitting = false;
}

/* With the lock. */
static void go_on(struct io *io, struct io_list *ended)
{
    if (io->splitting)
        return;
    split(io);
    if (io->pieces == 0 && !has_more(io))
        finish(io, true, ended);
}

void io_piece_ended(struct io *io, ssize_t error)
{
    struct io_list ended = TAILQ_HEAD_INITIALIZER(ended);
    struct limpet_image *image = io->image;
    pthread_mutex_lock(&image->lock);
    if (error < 0 && io->error == 0)
        io->error = error;
    io->pieces--;
    go_on(io, &ended);
    bool waiting = image->next.core_bytes == NULL && !TAILQ_EMPTY(&image->waiting);
    int dead = image->dead;
    bool none = TAILQ_EMPTY(&ended);
    pthread_mutex_unlock(&image->lock);
    /* What has ended keeps the image from being closed until it has called back. */
    if (waiting && !none)
        io_release(image, dead);
    end_all(&ended, false);
}

/* With the lock: it has passed the gate. */
static void run(struct io *io, struct io_list *ended)
{
    struct limpet_image *image = io->image;
    image->passed++;
    if (io_writes(io)) {
        image->writes++;
        witness_image(image->id, IMAGE_MOMENT_PASSES, io->arg);
    }
    io->size = image->size;
    io->overlap = image->overlap;
    /* The image may have shrunk while it waited. */
    if (io->offset + io->len > io->size)
        io->len = io->offset < io->size ? io->size - io->offset : 0;
    go_on(io, ended);
}

/* With the lock: it runs, or waits for what it cannot run beside, or before. */
static void pass(struct io *io, struct io_list *ended)
{
    struct limpet_image *image = io->image;
    if (image->dead != 0) {
        io->error = image->dead;
        finish(io, false, ended);
    } else if (early_overlaps(io)) {
        TAILQ_INSERT_TAIL(&image->early.waiting, io, link);
    } else if (may_pass(image, io)) {
        run(io, ended);
    } else {
        TAILQ_INSERT_TAIL(&image->waiting, io, link);
    }
}

/* What the caller may take back when the call returns. */
static int own_data(struct io *io)
{
    if (!io_writes(io) || io->owned != NULL || io->n_iov == 0)
        return 0;
    uint64_t len = io->kind == IO_WRITE_SAME ? io->pattern : io->len;
    uint64_t all = io->kind == IO_COMPARE_AND_WRITE ? 2 * len : len;
    uint8_t *copy = malloc(all + 1), *to = copy;
    if (copy == NULL)
        return -ENOMEM;
    for (uint64_t left = len, i = 0; left > 0; i++) {
        uint64_t n = io->iov[i].iov_len < left ? io->iov[i].iov_len : left;
        memcpy(to, io->iov[i].iov_base, n);
        to += n;
        left -= n;
    }
    if (io->kind == IO_COMPARE_AND_WRITE) {
        memcpy(copy + len, io->expected, len);
        io->expected = copy + len;
    }
    io->owned = copy;
    io->one = (struct iovec){.iov_base = copy, .iov_len = len};
    io->iov = &io->one;
    io->n_iov = 1;
    return 0;
}

void io_release(struct limpet_image *image, int error)
{
    struct io_list ended = TAILQ_HEAD_INITIALIZER(ended);
    struct io *io;
    pthread_mutex_lock(&image->lock);
    while ((io = error != 0 ? TAILQ_FIRST(&image->waiting) : next_to_pass(image)) != NULL) {
        TAILQ_REMOVE(&image->waiting, io, link);
        if (error == 0) {
            run(io, &ended);
        } else {
            io->error = error;
            finish(io, false, &ended);
        }
    }
    pthread_mutex_unlock(&image->lock);
    end_all(&ended, false);
}

/* ---- Submitting ---- */

static int check(const struct io *io)
{
    const struct limpet_image *image = io->image;
    if (image->dead != 0)
        return image->dead;
    if (image->snap_lost)
        return -ENOENT;
    if (io_writes(io) && (image->read_only || image->snap != 0))
        return -EROFS;
    if (io->kind == IO_FLUSH)
        return 0;
    return io->offset >= image->size && io->len > 0 ? -EINVAL : 0;
}

/* With the lock. */
static void clip(struct io *io)
{
    if (io->len > 0 && io->len > io->image->size - io->offset)
        io->len = io->image->size - io->offset;
}

/* With the lock. */
static int start(struct io *io, struct io_list *ended)
{
    struct limpet_image *image = io->image;
    io->after = image->submitted;
    bool admitted = io->kind == IO_FLUSH || qos_admit(image, io);
    bool now = admitted && (io->kind == IO_FLUSH || (!early_overlaps(io) && may_pass(image, io)));
    struct io *answer = now ? early_answer(image, io) : NULL;
    /* What is compared with, or repeated, is looked at later, too. */
    bool at_once = io->len <= IMAGE_PIECES_MAX * image->stripe.unit && io->kind != IO_WRITE_SAME &&
                   io->kind != IO_COMPARE_AND_WRITE;
    int rc = now && at_once && answer == NULL ? 0 : own_data(io);
    if (rc != 0) {
        free(answer);
        return rc;
    }
    image->ios++;
    if (io->kind == IO_FLUSH) {
        image->early.on = image->early.allowed;
        io->number = image->submitted;
        TAILQ_INSERT_TAIL(&image->flushing, io, link);
        take_flushed(image, ended);
        return 0;
    }
    if (io_writes(io)) {
        io->number = ++image->submitted;
        TAILQ_INSERT_TAIL(&image->running, io, run_link);
    }
    if (answer != NULL) {
        early_begin(io, answer);
        image->ios++;
        TAILQ_INSERT_TAIL(ended, answer, link);
    }
    if (now)
        run(io, ended);
    else if (admitted || !qos_line_up(image, io))
        pass(io, ended);
    return 0;
}

void io_admitted(struct io *io)
{
    struct io_list ended = TAILQ_HEAD_INITIALIZER(ended);
    struct limpet_image *image = io->image;
    pthread_mutex_lock(&image->lock);
    pass(io, &ended);
    pthread_mutex_unlock(&image->lock);
    end_all(&ended, false);
}

static int submit(struct io *io)
{
    struct io_list ended = TAILQ_HEAD_INITIALIZER(ended);
    struct limpet_image *image = io->image;
    /* A full handle is waited for, but not by those without whom nothing ends. */
    bool may_wait = !io->inside && !cluster_calls_back(image->cluster);
    pthread_mutex_lock(&image->lock);
    while (may_wait && image->ios >= LIMPET_IMAGE_IOS_MAX)
        pthread_cond_wait(&image->changed, &image->lock);
    int rc = check(io);
    if (rc == 0 && io->kind != IO_FLUSH)
        clip(io);
    if (rc == 0)
        rc = start(io, &ended);
    pthread_mutex_unlock(&image->lock);
    end_all(&ended, true);
    if (rc != 0)
        io_free(io);
    return rc;
}

/* ---- Waiting for the result ---- */

struct waiting {
    struct limpet_cluster *cluster; /* NULL: not by polling. */
    struct waiter waiter;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool done;
    ssize_t result;
};

#define WAITING_INIT                                                                               \
    {                                                                                              \
        .lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER                       \
    }

static void wake(ssize_t result, void *arg)
{
    struct waiting *waiting = arg;
    if (waiting->cluster != NULL) {
        waiting->result = result;
        cluster_wake(waiting->cluster, &waiting->waiter);
        return;
    }
    pthread_mutex_lock(&waiting->lock);
    waiting->result = result;
    waiting->done = true;
    pthread_cond_signal(&waiting->ended);
    pthread_mutex_unlock(&waiting->lock);
}

/* Whether a thread waits for it, which makes the callbacks that it takes. */
static bool is_waited_for(limpet_image_callback callback, const void *arg)
{
    const struct waiting *waiting = arg;
    return callback == wake && waiting->cluster != NULL;
}

/* Before the submission. Callbacks of encrypted images take too long to be made by others. */
static void choose_how_to_wait(const struct limpet_image *image, struct waiting *waiting)
{
    if (image->crypt == NULL && cluster_may_poll(image->cluster))
        waiting->cluster = image->cluster;
}

static ssize_t wait_for(struct waiting *waiting, int rc)
{
    if (waiting->cluster != NULL) {
        /* Also when nothing was submitted: what follows is another call's. */
        if (rc != 0)
            atomic_store(&waiting->waiter.done, true);
        cluster_wait(waiting->cluster, &waiting->waiter);
        return rc != 0 ? rc : waiting->result;
    }
    pthread_mutex_lock(&waiting->lock);
    while (rc == 0 && !waiting->done)
        pthread_cond_wait(&waiting->ended, &waiting->lock);
    pthread_mutex_unlock(&waiting->lock);
    return rc != 0 ? rc : waiting->result;
}

/* A callback that waits for what only further callbacks can end would wait for ever. */
#define WAIT_FOR(image, waiting, submission)                                                       \
    (cluster_calls_back((image)->cluster)                                                          \
         ? -EDEADLK                                                                                \
         : (choose_how_to_wait(image, waiting), wait_for(waiting, submission)))

/* ---- Requests ---- */

void limpet_image_call_by_waiters(struct limpet_image *image)
{
    image->call_by_waiters = true;
}

static struct io *io_new(struct limpet_image *image, enum io_kind kind, uint64_t len,
                         uint64_t offset, limpet_image_callback callback, void *arg)
{
    struct io *io = calloc(1, sizeof *io);
    if (io == NULL)
        return NULL;
    io->image = image;
    io->kind = kind;
    io->len = len;
    io->offset = offset;
    io->callback = callback;
    io->arg = arg;
    io->waited = is_waited_for(callback, arg) || (image->call_by_waiters && image->crypt == NULL);
    return io;
}

static void set_data(struct io *io, const void *data, size_t len)
{
    io->one = (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    io->iov = &io->one;
    io->n_iov = 1;
}

static int submit_data(struct limpet_image *image, enum io_kind kind, const void *data, size_t len,
                       uint64_t offset, unsigned flags, limpet_image_callback callback, void *arg)
{
    struct io *io = io_new(image, kind, len, offset, callback, arg);
    if (io == NULL)
        return -ENOMEM;
    io->through = (flags & LIMPET_IMAGE_FUA) != 0;
    set_data(io, data, len);
    return submit(io);
}

/* Their sum; UINT64_MAX: too much. */
static uint64_t vectors_len(const struct iovec *iov, int n)
{
    uint64_t len = 0;
    for (int i = 0; i < n; i++) {
        if (iov[i].iov_len > (uint64_t)LIMPET_IMAGE_SIZE_MAX - len)
            return UINT64_MAX;
        len += iov[i].iov_len;
    }
    return len;
}

static int submit_vectors(struct limpet_image *image, enum io_kind kind, const struct iovec *iov,
                          int n, uint64_t offset, unsigned flags, limpet_image_callback callback,
                          void *arg)
{
    uint64_t len = n > 0 ? vectors_len(iov, n) : 0;
    if (n < 0 || len == UINT64_MAX)
        return -EINVAL;
    struct io *io = io_new(image, kind, len, offset, callback, arg);
    if (io == NULL)
        return -ENOMEM;
    io->vectors = malloc((size_t)n * sizeof *iov + 1);
    if (io->vectors == NULL) {
        io_free(io);
        return -ENOMEM;
    }
    if (n > 0)
        memcpy(io->vectors, iov, (size_t)n * sizeof *iov);
    io->iov = io->vectors;
    io->n_iov = n;
    io->through = (flags & LIMPET_IMAGE_FUA) != 0;
    return submit(io);
}

int image_read_inside(struct limpet_image *image, void *data, uint64_t len, uint64_t offset,
                      bool waited, limpet_image_callback callback, void *arg)
{
    struct io *io = io_new(image, IO_READ, len, offset, callback, arg);
    if (io == NULL)
        return -ENOMEM;
    io->inside = true;
    io->waited = waited;
    set_data(io, data, len);
    return submit(io);
}

/* ---- Raw requests ---- */

int raw_read(struct limpet_image *image, void *data, uint64_t len, uint64_t offset,
             limpet_image_callback callback, void *arg)
{
    return submit_data(image, IO_READ, data, len, offset, 0, callback, arg);
}

int raw_write(struct limpet_image *image, const void *data, uint64_t len, uint64_t offset,
              unsigned flags, limpet_image_callback callback, void *arg)
{
    return submit_data(image, IO_WRITE, data, len, offset, flags, callback, arg);
}

int raw_discard(struct limpet_image *image, uint64_t len, uint64_t offset,
                limpet_image_callback callback, void *arg)
{
    struct io *io = io_new(image, IO_DISCARD, len, offset, callback, arg);
    return io != NULL ? submit(io) : -ENOMEM;
}

int raw_compare_and_write(struct limpet_image *image, const void *expected, const void *data,
                          uint64_t len, uint64_t offset, uint64_t *mismatch,
                          limpet_image_callback callback, void *arg)
{
    if (len == 0 || offset > LIMPET_IMAGE_SIZE_MAX ||
        stripe_first(&image->stripe, offset, len).len < len)
        return -EINVAL;
    struct io *io = io_new(image, IO_COMPARE_AND_WRITE, len, offset, callback, arg);
    if (io == NULL)
        return -ENOMEM;
    set_data(io, data, len);
    io->expected = expected;
    io->mismatch = mismatch;
    return submit(io);
}

int raw_flush(struct limpet_image *image, limpet_image_callback callback, void *arg)
{
    struct io *io = io_new(image, IO_FLUSH, 0, 0, callback, arg);
    return io != NULL ? submit(io) : -ENOMEM;
}

/* ---- The interface ---- */

/* To a handle that is decrypted. */
static int submit_crypt(struct limpet_image *image, enum crypt_kind kind, const void *data,
                        size_t data_len, uint64_t len, uint64_t offset, unsigned flags,
                        limpet_image_callback callback, void *arg)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = data_len};
    struct crypt_request request = {.kind = kind,
                                    .iov = &iov,
                                    .n_iov = 1,
                                    .offset = offset,
                                    .len = len,
                                    .flags = flags,
                                    .callback = callback,
                                    .arg = arg};
    return crypt_submit(image, &request);
}

int limpet_image_aio_read(struct limpet_image *image, void *data, size_t len, uint64_t offset,
                          unsigned flags, limpet_image_callback callback, void *arg)
{
    return image->crypt != NULL
               ? submit_crypt(image, CRYPT_READ, data, len, len, offset, flags, callback, arg)
               : raw_read(image, data, len, offset, callback, arg);
}

int limpet_image_aio_write(struct limpet_image *image, const void *data, size_t len,
                           uint64_t offset, unsigned flags, limpet_image_callback callback,
                           void *arg)
{
    return image->crypt != NULL
               ? submit_crypt(image, CRYPT_WRITE, data, len, len, offset, flags, callback, arg)
               : raw_write(image, data, len, offset, flags, callback, arg);
}

static int aio_vectors(struct limpet_image *image, bool writes, const struct iovec *iov, int n,
                       uint64_t offset, unsigned flags, limpet_image_callback callback, void *arg)
{
    if (image->crypt == NULL)
        return submit_vectors(image, writes ? IO_WRITE : IO_READ, iov, n, offset, flags, callback,
                              arg);
    uint64_t len = n > 0 ? vectors_len(iov, n) : 0;
    if (n < 0 || len == UINT64_MAX)
        return -EINVAL;
    struct crypt_request request = {.kind = writes ? CRYPT_WRITE : CRYPT_READ,
                                    .iov = iov,
                                    .n_iov = n,
                                    .offset = offset,
                                    .len = len,
                                    .flags = flags,
                                    .callback = callback,
                                    .arg = arg};
    return crypt_submit(image, &request);
}

int limpet_image_aio_readv(struct limpet_image *image, const struct iovec *iov, int n,
                           uint64_t offset, unsigned flags, limpet_image_callback callback,
                           void *arg)
{
    return aio_vectors(image, false, iov, n, offset, flags, callback, arg);
}

int limpet_image_aio_writev(struct limpet_image *image, const struct iovec *iov, int n,
                            uint64_t offset, unsigned flags, limpet_image_callback callback,
                            void *arg)
{
    return aio_vectors(image, true, iov, n, offset, flags, callback, arg);
}

int limpet_image_aio_discard(struct limpet_image *image, uint64_t len, uint64_t offset,
                             limpet_image_callback callback, void *arg)
{
    return image->crypt != NULL
               ? submit_crypt(image, CRYPT_ZERO, NULL, 0, len, offset, 0, callback, arg)
               : raw_discard(image, len, offset, callback, arg);
}

int limpet_image_aio_write_zeroes(struct limpet_image *image, uint64_t len, uint64_t offset,
                                  unsigned flags, limpet_image_callback callback, void *arg)
{
    static const uint8_t zeroes[4096];
    /* The largest power of two that fits. */
    uint64_t unit = len & -len;
    unit = unit < sizeof zeroes ? unit : sizeof zeroes;
    if ((flags & LIMPET_IMAGE_ZEROES_WRITTEN) != 0 && len > 0)
        return limpet_image_aio_write_same(image, zeroes, unit, len, offset, 0, callback, arg);
    return limpet_image_aio_discard(image, len, offset, callback, arg);
}

int limpet_image_aio_write_same(struct limpet_image *image, const void *data, size_t len,
                                uint64_t total, uint64_t offset, unsigned flags,
                                limpet_image_callback callback, void *arg)
{
    (void)flags;
    if (len == 0 || total % len != 0)
        return -EINVAL;
    if (image->crypt != NULL)
        return submit_crypt(image, CRYPT_SAME, data, len, total, offset, flags, callback, arg);
    struct io *io = io_new(image, IO_WRITE_SAME, total, offset, callback, arg);
    if (io == NULL)
        return -ENOMEM;
    set_data(io, data, len);
    io->pattern = len;
    return submit(io);
}

int limpet_image_aio_compare_and_write(struct limpet_image *image, const void *expected,
                                       const void *data, size_t len, uint64_t offset,
                                       uint64_t *mismatch, limpet_image_callback callback,
                                       void *arg)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    if (image->crypt == NULL)
        return raw_compare_and_write(image, expected, data, len, offset, mismatch, callback, arg);
    struct crypt_request request = {.kind = CRYPT_COMPARE,
                                    .iov = &iov,
                                    .n_iov = 1,
                                    .offset = offset,
                                    .len = len,
                                    .expected = expected,
                                    .mismatch = mismatch,
                                    .callback = callback,
                                    .arg = arg};
    return len > 0 ? crypt_submit(image, &request) : -EINVAL;
}

int limpet_image_aio_flush(struct limpet_image *image, limpet_image_callback callback, void *arg)
{
    return image->crypt != NULL ? crypt_flush(image, callback, arg)
                                : raw_flush(image, callback, arg);
}

/* ---- Calls that wait ---- */

ssize_t raw_read_and_wait(struct limpet_image *image, void *data, uint64_t len, uint64_t offset)
{
    struct waiting w = WAITING_INIT;
    return WAIT_FOR(image, &w, raw_read(image, data, len, offset, wake, &w));
}

ssize_t raw_write_and_wait(struct limpet_image *image, const void *data, uint64_t len,
                           uint64_t offset)
{
    struct waiting w = WAITING_INIT;
    return WAIT_FOR(image, &w, raw_write(image, data, len, offset, 0, wake, &w));
}

ssize_t limpet_image_read(struct limpet_image *image, void *data, size_t len, uint64_t offset,
                          unsigned flags)
{
    struct waiting w = WAITING_INIT;
    return WAIT_FOR(image, &w, limpet_image_aio_read(image, data, len, offset, flags, wake, &w));
}

ssize_t limpet_image_write(struct limpet_image *image, const void *data, size_t len,
                           uint64_t offset, unsigned flags)
{
    struct waiting w = WAITING_INIT;
    return WAIT_FOR(image, &w, limpet_image_aio_write(image, data, len, offset, flags, wake, &w));
}

ssize_t limpet_image_discard(struct limpet_image *image, uint64_t len, uint64_t offset)
{
    struct waiting w = WAITING_INIT;
    return WAIT_FOR(image, &w, limpet_image_aio_discard(image, len, offset, wake, &w));
}

ssize_t limpet_image_write_zeroes(struct limpet_image *image, uint64_t len, uint64_t offset,
                                  unsigned flags)
{
    struct waiting w = WAITING_INIT;
    return WAIT_FOR(image, &w, limpet_image_aio_write_zeroes(image, len, offset, flags, wake, &w));
}

ssize_t limpet_image_write_same(struct limpet_image *image, const void *data, size_t len,
                                uint64_t total, uint64_t offset, unsigned flags)
{
    struct waiting w = WAITING_INIT;
    return WAIT_FOR(image, &w,
                    limpet_image_aio_write_same(image, data, len, total, offset, flags, wake, &w));
}

ssize_t limpet_image_compare_and_write(struct limpet_image *image, const void *expected,
                                       const void *data, size_t len, uint64_t offset,
                                       uint64_t *mismatch)
{
    struct waiting w = WAITING_INIT;
    return WAIT_FOR(
        image, &w,
        limpet_image_aio_compare_and_write(image, expected, data, len, offset, mismatch, wake, &w));
}

ssize_t image_discard_zeroes(struct limpet_image *image, uint64_t offset, uint64_t len)
{
    struct waiting w = WAITING_INIT;
    struct io *io = io_new(image, IO_DISCARD, len, offset, wake, &w);
    if (io == NULL)
        return -ENOMEM;
    io->if_zero = true;
    return WAIT_FOR(image, &w, submit(io));
}

int limpet_image_flush(struct limpet_image *image)
{
    struct waiting w = WAITING_INIT;
    return (int)WAIT_FOR(image, &w, limpet_image_aio_flush(image, wake, &w));
}
