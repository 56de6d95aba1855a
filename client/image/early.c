/*
 * Writes that are answered before they have ended, with the option rbd_cache: a write-back cache
 * whose dirty data are the requests under way. It passes the gate first, so all that holds for
 * writes under way holds for it: a snapshot, a hand-over of the lock, a close wait for it.
 *
 * B1. It is answered early only by who has the exclusive lock, and for certain: nobody else writes.
 * B2. A request that overlaps one that was answered early begins when that has ended. What was
 *     submitted later than the request is under way together with it, and is not waited for.
 * B3. A flush ends when all before it have ended, and tells the first error of those that were
 *     answered early; until then every write waits for its end. What fails behind it is another
 *     flush's to tell. Who closes is told, too.
 * B4. At most rbd_cache_max_dirty bytes, and WRITES_MAX of them; those beyond are answered at their
 * end.
 */
#include <stdlib.h>

#include "client/image/image.h"
#include "client/object/inside.h"

enum { WRITES_MAX = 256 };

int early_load(struct limpet_image *image)
{
    struct image_early *b = &image->early;
    bool waits = true;
    int rc = cluster_bool(image->cluster, "rbd_cache", &b->allowed);
    if (rc == 0)
        rc = cluster_bool(image->cluster, "rbd_cache_writethrough_until_flush", &waits);
    if (rc == 0)
        rc = cluster_u64(image->cluster, "rbd_cache_max_dirty", &b->max);
    b->on = b->allowed && !waits;
    return rc;
}

struct io *early_answer(struct limpet_image *image, struct io *io)
{
    struct image_early *b = &image->early;
    if (!b->on || b->error != 0 || io->kind != IO_WRITE || io->through || io->inside ||
        io->len == 0 || b->n >= WRITES_MAX || b->bytes + io->len > b->max ||
        (image->header.core.features & LIMPET_IMAGE_EXCLUSIVE_LOCK) == 0 ||
        !image_lease_is_valid(image))
        return NULL;
    return calloc(1, sizeof *io);
}

void early_begin(struct io *io, struct io *answer)
{
    struct image_early *b = &io->image->early;
    *answer = (struct io){.image = io->image,
                          .kind = io->kind,
                          .len = io->len,
                          .callback = io->callback,
                          .arg = io->arg,
                          .waited = io->waited};
    io->early = true;
    io->callback = NULL;
    io->waited = false;
    io->dirty = io->len;
    b->bytes += io->len;
    b->n++;
    TAILQ_INSERT_TAIL(&b->writes, io, early_link);
}

void early_end(struct io *io)
{
    struct image_early *b = &io->image->early;
    TAILQ_REMOVE(&b->writes, io, early_link);
    b->bytes -= io->dirty;
    b->n--;
    /* Less than it was told: the image has become smaller, which it had to expect. */
    if (io->error == 0)
        return;
    bool only = b->error == 0;
    if (only || io->number < b->error_number) {
        b->error = (int)io->error;
        b->error_number = io->number;
    }
    if (only || io->number > b->error_last)
        b->error_last = io->number;
}

bool early_overlaps(const struct io *io)
{
    const struct io *write;
    TAILQ_FOREACH(write, &io->image->early.writes, early_link)
    {
        if (write->number <= io->after && write->offset < io->offset + io->len &&
            io->offset < write->offset + write->dirty)
            return true;
    }
    return false;
}

struct io *early_take_due(struct limpet_image *image)
{
    struct io *io;
    TAILQ_FOREACH(io, &image->early.waiting, link)
    {
        if (!early_overlaps(io)) {
            TAILQ_REMOVE(&image->early.waiting, io, link);
            return io;
        }
    }
    return NULL;
}

int early_error(struct limpet_image *image, uint64_t number)
{
    const struct image_early *b = &image->early;
    return b->error != 0 && number >= b->error_number ? b->error : 0;
}

void early_told(struct limpet_image *image, uint64_t number)
{
    struct image_early *b = &image->early;
    if (b->error_last > number)
        b->error_number = number + 1;
    else
        b->error = 0;
}

void early_settle(struct limpet_image *image)
{
    const struct io *first;
    pthread_mutex_lock(&image->lock);
    uint64_t upto = image->submitted;
    while ((first = TAILQ_FIRST(&image->early.writes)) != NULL && first->number <= upto)
        pthread_cond_wait(&image->changed, &image->lock);
    pthread_mutex_unlock(&image->lock);
}
