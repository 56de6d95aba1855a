/*
 * Copying up: the first write to an object of a clone makes it what the parent shows there. All who
 * want to write to it meanwhile wait for the one copy.
 *
 * The object is written without a snapshot context, so that the clone's earlier snapshots have it,
 * too; and made exclusively, so that nothing is overwritten. Earlier snapshots that show more of
 * the parent there, or less (the image was resized, and rolled back), must not have it: then the
 * context is the last of these and all before it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/image/image.h"
#include "common/env.h"
#include "common/planted.h"

struct copyup {
    struct limpet_image *image;
    uint64_t object;
    uint64_t len; /* What the parent shows of it. */
    struct limpet_buffer *buffer;
    struct limpet_op *op;
    size_t n_before; /* Snapshots that do not get it, newest first. */
    uint64_t *before;
    unsigned reads;
    int error;
    struct map_waiter map;
    TAILQ_HEAD(, copyup_waiter) waiters;
    TAILQ_ENTRY(copyup) link;
};

static void copyup_end(struct copyup *c, int error)
{
    struct copyup_waiter *waiter;
    pthread_mutex_lock(&c->image->lock);
    TAILQ_REMOVE(&c->image->copyups, c, link);
    pthread_mutex_unlock(&c->image->lock);
    while ((waiter = TAILQ_FIRST(&c->waiters)) != NULL) {
        TAILQ_REMOVE(&c->waiters, waiter, link);
        waiter->done(waiter, error);
    }
    limpet_buffer_destroy(c->buffer);
    if (c->op != NULL)
        limpet_op_destroy(c->op);
    free(c->before);
    free(c);
}

static void was_written(struct limpet_completion *completion, void *arg)
{
    int rc = (int)limpet_completion_result(completion);
    copyup_end(arg, rc == -EEXIST ? 0 : rc);
}

static bool is_zero(const uint8_t *data, size_t len)
{
    return len == 0 || (data[0] == 0 && memcmp(data, data + 1, len - 1) == 0);
}

/* With the lock: which snapshots show another part of the parent there, and those before them. */
static int find_before(struct copyup *c)
{
    const struct header *header = &c->image->header;
    size_t n = header->n_snaps;
    while (n > 0 && stripe_object_bytes(&c->image->stripe, c->object,
                                        header->snaps[n - 1].overlap) == c->len)
        n--;
    if (n == 0 || planted(PLANTED_IMAGE_COPYUP_EVERYWHERE))
        return 0;
    c->before = calloc(n, sizeof *c->before);
    if (c->before == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        c->before[i] = header->snaps[n - 1 - i].id;
    c->n_before = n;
    return 0;
}

static int operate(struct copyup *c, struct limpet_completion *completion)
{
    struct limpet_pool *pool = NULL;
    char name[IMAGE_OBJECT_NAME_MAX];
    image_data_name(c->image, c->object, name);
    if (c->n_before == 0)
        return limpet_aio_operate(c->image->bare, name, completion, c->op);
    int rc = pool_again(c->image->bare, &pool);
    if (rc == 0)
        rc = limpet_pool_set_snap_context(pool, c->before[0], c->before, c->n_before);
    if (rc == 0)
        rc = limpet_aio_operate(pool, name, completion, c->op);
    limpet_pool_close(pool);
    return rc;
}

static int write_object(struct copyup *c)
{
    struct limpet_completion *completion;
    struct limpet_buffer *buffer = c->buffer;
    c->op = limpet_op_create();
    if (c->op == NULL)
        return -ENOMEM;
    int rc = limpet_op_create_object(c->op, true);
    if (rc == 0) {
        c->buffer = NULL;
        rc = limpet_op_write_buffer(c->op, buffer, 0);
    }
    if (rc == 0)
        rc = limpet_completion_create(was_written, c, &completion);
    if (rc != 0)
        return rc;
    rc = operate(c, completion);
    limpet_completion_release(completion);
    return rc;
}

static void noted(struct map_waiter *waiter, int error)
{
    struct copyup *c = container_of(waiter, struct copyup, map);
    if (error == 0)
        error = write_object(c);
    if (error != 0)
        copyup_end(c, error);
}

static void read_all(struct copyup *c)
{
    int rc = c->error;
    /* Zeroes are what is read where nothing is. */
    if (rc != 0 || is_zero(limpet_buffer_data(c->buffer), c->len)) {
        copyup_end(c, rc);
        return;
    }
    c->map.done = noted;
    if (!map_note(c->image, c->object, &c->map))
        noted(&c->map, 0);
}

static void read_ended(struct copyup *c, int error)
{
    pthread_mutex_lock(&c->image->lock);
    if (error != 0)
        c->error = error;
    bool last = --c->reads == 0;
    pthread_mutex_unlock(&c->image->lock);
    if (last)
        read_all(c);
}

static void was_read(ssize_t result, void *arg)
{
    read_ended(arg, result < 0 ? (int)result : 0);
}

/* Of each run of bytes that lie together in the image. */
static void read_parent(struct copyup *c)
{
    uint8_t *data = limpet_buffer_data(c->buffer);
    c->reads = 1;
    for (uint64_t at = 0; at < c->len;) {
        uint64_t run, offset = stripe_image_offset(&c->image->stripe, c->object, at, &run);
        run = run < c->len - at ? run : c->len - at;
        pthread_mutex_lock(&c->image->lock);
        c->reads++;
        pthread_mutex_unlock(&c->image->lock);
        int rc = image_read_inside(c->image->parent, data + at, run, offset, false, was_read, c);
        if (rc != 0)
            read_ended(c, rc);
        at += run;
    }
    read_ended(c, 0);
}

void copyup(struct limpet_image *image, uint64_t object, struct copyup_waiter *waiter)
{
    struct copyup *c;
    pthread_mutex_lock(&image->lock);
    TAILQ_FOREACH(c, &image->copyups, link)
    {
        if (c->object == object)
            break;
    }
    if (c != NULL) {
        TAILQ_INSERT_TAIL(&c->waiters, waiter, link);
        pthread_mutex_unlock(&image->lock);
        return;
    }
    uint64_t len = stripe_object_bytes(&image->stripe, object, image->overlap);
    c = len > 0 ? calloc(1, sizeof *c) : NULL;
    if (c != NULL) {
        c->len = len;
        c->image = image;
        c->object = object;
        c->buffer = limpet_buffer_create(len);
    }
    if (c == NULL || c->buffer == NULL || find_before(c) != 0) {
        pthread_mutex_unlock(&image->lock);
        if (c != NULL)
            limpet_buffer_destroy(c->buffer);
        free(c);
        waiter->done(waiter, len > 0 ? -ENOMEM : 0);
        return;
    }
    TAILQ_INIT(&c->waiters);
    TAILQ_INSERT_TAIL(&c->waiters, waiter, link);
    TAILQ_INSERT_TAIL(&image->copyups, c, link);
    pthread_mutex_unlock(&image->lock);
    read_parent(c);
}

/* ---- Waiting for it ---- */

struct one_copyup {
    struct copyup_waiter waiter;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool done;
    int error;
};

static void copied_up(struct copyup_waiter *waiter, int error)
{
    struct one_copyup *one = (struct one_copyup *)waiter;
    pthread_mutex_lock(&one->lock);
    one->done = true;
    one->error = error;
    pthread_cond_signal(&one->ended);
    pthread_mutex_unlock(&one->lock);
}

int copyup_and_wait(struct limpet_image *image, uint64_t object)
{
    struct one_copyup one = {.waiter = {.done = copied_up},
                             .lock = PTHREAD_MUTEX_INITIALIZER,
                             .ended = PTHREAD_COND_INITIALIZER};
    copyup(image, object, &one.waiter);
    pthread_mutex_lock(&one.lock);
    while (!one.done)
        pthread_cond_wait(&one.ended, &one.lock);
    pthread_mutex_unlock(&one.lock);
    return one.error;
}
