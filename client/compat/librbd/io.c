/*
 * Reading and writing, completions, and events: an end of a request is told by its callback, to who
 * waits for its completion, and by a descriptor that becomes readable.
 */
#include "client/compat/librbd/librbd.h"

#include <unistd.h>

typedef void (*rbd_callback_t)(void *completion, void *arg);

enum { EVENT_TYPE_PIPE = 1, EVENT_TYPE_EVENTFD = 2, ZEROES_THICK_PROVISION = 1 };

struct rbd_completion {
    atomic_uint refs; /* The user's, the request's, and that of the list of ended ones. */
    atomic_bool released;
    rbd_callback_t callback;
    void *arg;
    struct rbd_handle *handle;
    bool used, reads;
    /* Of an opening or closing. */
    struct rbd_handle *opens;
    void **opened;

    pthread_mutex_t lock;
    pthread_cond_t ended;
    ssize_t result;
    bool done, called;
    struct rbd_completion *next; /* In the list of ended ones. */
};

struct rbd_events {
    int fd, type;
    pthread_mutex_t lock;
    struct rbd_completion *first, **last;
};

/* ---- Completions ---- */

EXPORT int rbd_aio_create_completion(void *arg, rbd_callback_t callback, void **out)
{
    struct rbd_completion *c = out != NULL ? calloc(1, sizeof *c) : NULL;
    if (c == NULL)
        return out != NULL ? -ENOMEM : -EINVAL;
    c->refs = 1;
    c->arg = arg;
    c->callback = callback;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->ended, NULL);
    *out = c;
    return 0;
}

static void unref(struct rbd_completion *c)
{
    if (atomic_fetch_sub(&c->refs, 1) > 1)
        return;
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->ended);
    free(c);
}

EXPORT void rbd_aio_release(void *completion)
{
    struct rbd_completion *c = completion;
    if (c == NULL)
        return;
    atomic_store(&c->released, true);
    unref(c);
}

EXPORT void *rbd_aio_get_arg(void *completion)
{
    return completion != NULL ? ((struct rbd_completion *)completion)->arg : NULL;
}

EXPORT int rbd_aio_is_complete(void *completion)
{
    struct rbd_completion *c = completion;
    if (c == NULL)
        return -EINVAL;
    pthread_mutex_lock(&c->lock);
    bool done = c->done;
    pthread_mutex_unlock(&c->lock);
    return done;
}

/* Also for its callback. */
EXPORT int rbd_aio_wait_for_complete(void *completion)
{
    struct rbd_completion *c = completion;
    if (c == NULL)
        return -EINVAL;
    pthread_mutex_lock(&c->lock);
    while (!c->called)
        pthread_cond_wait(&c->ended, &c->lock);
    pthread_mutex_unlock(&c->lock);
    return 0;
}

EXPORT ssize_t rbd_aio_get_return_value(void *completion)
{
    struct rbd_completion *c = completion;
    if (c == NULL)
        return -EINVAL;
    pthread_mutex_lock(&c->lock);
    ssize_t result = c->result;
    pthread_mutex_unlock(&c->lock);
    return result;
}

int rbd_completion_begin(struct rbd_completion *c, struct rbd_handle *handle, bool reads)
{
    if (c == NULL || handle == NULL || c->used)
        return -EINVAL; /* A completion serves one request. */
    c->used = true;
    c->handle = handle;
    c->reads = reads;
    atomic_fetch_add(&c->refs, 1);
    return 0;
}

int rbd_completion_submitted(struct rbd_completion *c, int rc)
{
    if (rc != 0) {
        c->used = false;
        c->opens = NULL;
        unref(c);
    }
    return rc;
}

void rbd_completion_opens(struct rbd_completion *c, struct rbd_handle *handle, void **out)
{
    c->opens = handle;
    c->opened = out;
}

/* ---- Events ---- */

static void push_event(struct rbd_events *e, struct rbd_completion *c)
{
    static const uint64_t one = 1;
    atomic_fetch_add(&c->refs, 1);
    pthread_mutex_lock(&e->lock);
    c->next = NULL;
    *e->last = c;
    e->last = &c->next;
    pthread_mutex_unlock(&e->lock);
    /* A pipe that is full has woken its reader already. */
    ssize_t n = write(e->fd, &one, e->type == EVENT_TYPE_PIPE ? 1 : sizeof one);
    (void)n;
}

EXPORT int rbd_set_image_notification(void *image, int fd, int type)
{
    struct rbd_handle *h = image;
    if (h == NULL || fd < 0 || (type != EVENT_TYPE_PIPE && type != EVENT_TYPE_EVENTFD) ||
        h->events != NULL)
        return -EINVAL;
    struct rbd_events *e = calloc(1, sizeof *e);
    if (e == NULL)
        return -ENOMEM;
    e->fd = fd;
    e->type = type;
    e->last = &e->first;
    pthread_mutex_init(&e->lock, NULL);
    h->events = e;
    return 0;
}

EXPORT int rbd_poll_io_events(void *image, void **completions, int max)
{
    struct rbd_handle *h = image;
    if (h == NULL || h->events == NULL || completions == NULL || max < 0)
        return -EINVAL;
    struct rbd_events *e = h->events;
    int n = 0;
    pthread_mutex_lock(&e->lock);
    while (n < max && e->first != NULL) {
        struct rbd_completion *c = e->first;
        e->first = c->next;
        if (e->first == NULL)
            e->last = &e->first;
        /* Who has released it does not want to see it any more. */
        if (!atomic_load(&c->released))
            completions[n++] = c;
        unref(c);
    }
    pthread_mutex_unlock(&e->lock);
    return n;
}

void rbd_events_destroy(struct rbd_events *e)
{
    if (e == NULL)
        return;
    while (e->first != NULL) {
        struct rbd_completion *c = e->first;
        e->first = c->next;
        unref(c);
    }
    pthread_mutex_destroy(&e->lock);
    free(e);
}

/* ---- The end of a request ---- */

static ssize_t end_opening(struct rbd_completion *c, ssize_t result)
{
    struct rbd_handle *h = c->opens;
    if (c->opened != NULL && result >= 0)
        *c->opened = h;
    else
        rbd_handle_destroy(h);
    c->opens = NULL;
    return result;
}

void rbd_completion_ended(ssize_t result, void *arg)
{
    struct rbd_completion *c = arg;
    struct rbd_events *events = c->opens == NULL ? c->handle->events : NULL;
    if (c->opens != NULL)
        result = end_opening(c, result);
    pthread_mutex_lock(&c->lock);
    /* Only reads tell how many bytes. */
    c->result = result > 0 && !c->reads ? 0 : result;
    c->done = true;
    pthread_mutex_unlock(&c->lock);
    if (c->callback != NULL)
        c->callback(c, c->arg);
    if (events != NULL)
        push_event(events, c);
    pthread_mutex_lock(&c->lock);
    c->called = true;
    pthread_cond_broadcast(&c->ended);
    pthread_mutex_unlock(&c->lock);
    unref(c);
}

/* ---- Asynchronous requests ---- */

#define SUBMIT(image, completion, reads, ...)                                                      \
    do {                                                                                           \
        struct rbd_handle *h = (image);                                                            \
        struct rbd_completion *c = (completion);                                                   \
        int rc = rbd_completion_begin(c, h, reads);                                                \
        return rc == 0 ? rbd_completion_submitted(c, __VA_ARGS__) : rc;                            \
    } while (0)

EXPORT int rbd_aio_read(void *image, uint64_t offset, size_t len, char *buf, void *completion)
{
    SUBMIT(image, completion, true,
           buf == NULL && len > 0
               ? -EINVAL
               : limpet_image_aio_read(h->image, buf, len, offset, 0, rbd_completion_ended, c));
}

EXPORT int rbd_aio_read2(void *image, uint64_t offset, size_t len, char *buf, void *completion,
                         int flags)
{
    (void)flags;
    return rbd_aio_read(image, offset, len, buf, completion);
}

/* LIBRADOS_OP_FLAG_FADVISE_FUA; all other advice is ignored. */
static unsigned write_flags(int flags)
{
    return (flags & 0x80) != 0 ? LIMPET_IMAGE_FUA : 0;
}

EXPORT int rbd_aio_write2(void *image, uint64_t offset, size_t len, const char *buf,
                          void *completion, int flags)
{
    SUBMIT(image, completion, false,
           buf == NULL && len > 0
               ? -EINVAL
               : limpet_image_aio_write(h->image, buf, len, offset, write_flags(flags),
                                        rbd_completion_ended, c));
}

EXPORT int rbd_aio_write(void *image, uint64_t offset, size_t len, const char *buf,
                         void *completion)
{
    return rbd_aio_write2(image, offset, len, buf, completion, 0);
}

static bool are_vectors(const struct iovec *iov, int n)
{
    bool good = iov != NULL && n > 0;
    for (int i = 0; i < n && good; i++)
        good = iov[i].iov_base != NULL || iov[i].iov_len == 0;
    return good;
}

EXPORT int rbd_aio_readv(void *image, const struct iovec *iov, int n, uint64_t offset,
                         void *completion)
{
    SUBMIT(image, completion, true,
           !are_vectors(iov, n)
               ? -EINVAL
               : limpet_image_aio_readv(h->image, iov, n, offset, 0, rbd_completion_ended, c));
}

EXPORT int rbd_aio_writev(void *image, const struct iovec *iov, int n, uint64_t offset,
                          void *completion)
{
    SUBMIT(image, completion, false,
           !are_vectors(iov, n)
               ? -EINVAL
               : limpet_image_aio_writev(h->image, iov, n, offset, 0, rbd_completion_ended, c));
}

EXPORT int rbd_aio_discard(void *image, uint64_t offset, uint64_t len, void *completion)
{
    SUBMIT(image, completion, false,
           limpet_image_aio_discard(h->image, len, offset, rbd_completion_ended, c));
}

static bool are_zero_flags(int flags)
{
    return flags == 0 || flags == ZEROES_THICK_PROVISION;
}

EXPORT int rbd_aio_write_zeroes(void *image, uint64_t offset, size_t len, void *completion,
                                int zero_flags, int flags)
{
    (void)flags;
    SUBMIT(image, completion, false,
           !are_zero_flags(zero_flags)
               ? -EINVAL
               : limpet_image_aio_write_zeroes(h->image, len, offset,
                                               zero_flags != 0 ? LIMPET_IMAGE_ZEROES_WRITTEN : 0,
                                               rbd_completion_ended, c));
}

/* Zeroes are not written again and again: what is there goes. */
static bool is_zero(const char *data, size_t len)
{
    return data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

EXPORT int rbd_aio_writesame(void *image, uint64_t offset, size_t len, const char *buf,
                             size_t data_len, void *completion, int flags)
{
    (void)flags;
    if (buf == NULL || data_len == 0 || len % data_len != 0)
        return -EINVAL;
    if (is_zero(buf, data_len))
        return rbd_aio_discard(image, offset, len, completion);
    SUBMIT(image, completion, false,
           limpet_image_aio_write_same(h->image, buf, data_len, len, offset, 0,
                                       rbd_completion_ended, c));
}

EXPORT ssize_t rbd_aio_compare_and_write(void *image, uint64_t offset, size_t len,
                                         const char *expected, const char *buf, void *completion,
                                         uint64_t *mismatch, int flags)
{
    (void)flags;
    SUBMIT(image, completion, false,
           expected == NULL || buf == NULL
               ? -EINVAL
               : limpet_image_aio_compare_and_write(h->image, expected, buf, len, offset, mismatch,
                                                    rbd_completion_ended, c));
}

EXPORT int rbd_aio_flush(void *image, void *completion)
{
    SUBMIT(image, completion, false, limpet_image_aio_flush(h->image, rbd_completion_ended, c));
}

/* ---- Waiting for the result ---- */

EXPORT ssize_t rbd_read(void *image, uint64_t offset, size_t len, char *buf)
{
    struct rbd_handle *h = image;
    return h != NULL && (buf != NULL || len == 0) ? limpet_image_read(h->image, buf, len, offset, 0)
                                                  : -EINVAL;
}

EXPORT ssize_t rbd_read2(void *image, uint64_t offset, size_t len, char *buf, int flags)
{
    (void)flags;
    return rbd_read(image, offset, len, buf);
}

EXPORT ssize_t rbd_write2(void *image, uint64_t offset, size_t len, const char *buf, int flags)
{
    struct rbd_handle *h = image;
    return h != NULL && (buf != NULL || len == 0)
               ? limpet_image_write(h->image, buf, len, offset, write_flags(flags))
               : -EINVAL;
}

EXPORT ssize_t rbd_write(void *image, uint64_t offset, size_t len, const char *buf)
{
    return rbd_write2(image, offset, len, buf, 0);
}

/* The result is an int, so that more than 2 GiB cannot be told. */
EXPORT int rbd_discard(void *image, uint64_t offset, uint64_t len)
{
    struct rbd_handle *h = image;
    return h != NULL && len <= INT32_MAX ? (int)limpet_image_discard(h->image, len, offset)
                                         : -EINVAL;
}

EXPORT ssize_t rbd_write_zeroes(void *image, uint64_t offset, size_t len, int zero_flags, int flags)
{
    struct rbd_handle *h = image;
    (void)flags;
    if (h == NULL || !are_zero_flags(zero_flags))
        return -EINVAL;
    return limpet_image_write_zeroes(h->image, len, offset,
                                     zero_flags != 0 ? LIMPET_IMAGE_ZEROES_WRITTEN : 0);
}

EXPORT ssize_t rbd_writesame(void *image, uint64_t offset, size_t len, const char *buf,
                             size_t data_len, int flags)
{
    struct rbd_handle *h = image;
    (void)flags;
    if (h == NULL || buf == NULL || data_len == 0 || len % data_len != 0)
        return -EINVAL;
    return is_zero(buf, data_len)
               ? limpet_image_write_zeroes(h->image, len, offset, 0)
               : limpet_image_write_same(h->image, buf, data_len, len, offset, 0);
}

EXPORT ssize_t rbd_compare_and_write(void *image, uint64_t offset, size_t len, const char *expected,
                                     const char *buf, uint64_t *mismatch, int flags)
{
    struct rbd_handle *h = image;
    (void)flags;
    return h != NULL && expected != NULL && buf != NULL
               ? limpet_image_compare_and_write(h->image, expected, buf, len, offset, mismatch)
               : -EINVAL;
}

EXPORT int rbd_flush(void *image)
{
    struct rbd_handle *h = image;
    return h != NULL ? limpet_image_flush(h->image) : -EINVAL;
}

/* There is no cache. */
EXPORT int rbd_invalidate_cache(void *image)
{
    return rbd_flush(image);
}

/* ---- What has changed ---- */

typedef int (*rbd_extent_t)(uint64_t offset, size_t len, int exists, void *arg);

struct diff {
    rbd_extent_t extent;
    void *arg;
};

static int give_extent(uint64_t offset, uint64_t len, bool exists, void *arg)
{
    const struct diff *d = arg;
    return d->extent(offset, len, exists, d->arg);
}

EXPORT int rbd_diff_iterate2(void *image, const char *from, uint64_t offset, uint64_t len,
                             uint8_t include_parent, uint8_t whole_object, rbd_extent_t extent,
                             void *arg)
{
    struct rbd_handle *h = image;
    struct diff d = {extent, arg};
    struct limpet_image_info info;
    if (h == NULL || extent == NULL)
        return -EINVAL;
    int rc = limpet_image_info(h->image, &info);
    if (rc == 0 && len > 0 && offset >= info.size)
        rc = -EINVAL;
    return rc != 0 ? rc
                   : limpet_image_diff(h->image, from, offset, len, include_parent != 0,
                                       whole_object != 0, give_extent, &d);
}

EXPORT int rbd_diff_iterate(void *image, const char *from, uint64_t offset, uint64_t len,
                            rbd_extent_t extent, void *arg)
{
    return rbd_diff_iterate2(image, from, offset, len, 1, 0, extent, arg);
}
