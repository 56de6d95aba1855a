/*
 * limpet rbd: requests on an image that are under way together, each with a slot and its memory.
 * The slots belong to the thread that submits; ends are noted by the library's thread, with the
 * lock.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "client/cli/rbd.h"

struct rbd_queue {
    struct limpet_image *image;
    struct rbd_slot *slots;
    unsigned n, next;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    uint64_t n_ended;
    int error; /* The first one. */
};

struct rbd_queue *rbd_queue_create(struct limpet_image *image, unsigned slots, size_t size)
{
    struct rbd_queue *q = calloc(1, sizeof *q);
    if (q == NULL || (q->slots = calloc(slots, sizeof *q->slots)) == NULL)
        fail(ENOMEM, "out of memory");
    q->image = image;
    q->n = slots;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->ended, NULL);
    for (unsigned i = 0; i < slots; i++) {
        q->slots[i] = (struct rbd_slot){.queue = q, .data = malloc(size)};
        if (q->slots[i].data == NULL)
            fail(ENOMEM, "out of memory");
    }
    return q;
}

static void wait_slot(struct rbd_queue *q, struct rbd_slot *slot)
{
    pthread_mutex_lock(&q->lock);
    while (slot->busy)
        pthread_cond_wait(&q->ended, &q->lock);
    pthread_mutex_unlock(&q->lock);
}

int rbd_queue_destroy(struct rbd_queue *q)
{
    for (unsigned i = 0; i < q->n; i++) {
        wait_slot(q, &q->slots[i]);
        free(q->slots[i].data);
    }
    int error = q->error;
    pthread_mutex_destroy(&q->lock);
    pthread_cond_destroy(&q->ended);
    free(q->slots);
    free(q);
    return error;
}

struct rbd_slot *rbd_queue_slot(struct rbd_queue *q, uint64_t number)
{
    struct rbd_slot *slot = &q->slots[number % q->n];
    wait_slot(q, slot);
    return slot;
}

struct rbd_slot *rbd_queue_free_slot(struct rbd_queue *q)
{
    struct rbd_slot *slot = NULL;
    pthread_mutex_lock(&q->lock);
    while (slot == NULL && q->error == 0) {
        for (unsigned i = 0; slot == NULL && i < q->n; i++) {
            struct rbd_slot *candidate = &q->slots[(q->next + i) % q->n];
            if (!candidate->busy)
                slot = candidate;
        }
        if (slot == NULL)
            pthread_cond_wait(&q->ended, &q->lock);
    }
    q->next++;
    pthread_mutex_unlock(&q->lock);
    return slot;
}

uint64_t rbd_queue_ended(struct rbd_queue *q)
{
    pthread_mutex_lock(&q->lock);
    uint64_t n = q->n_ended;
    pthread_mutex_unlock(&q->lock);
    return n;
}

static void slot_ended(ssize_t result, void *arg)
{
    struct rbd_slot *slot = arg;
    struct rbd_queue *q = slot->queue;
    pthread_mutex_lock(&q->lock);
    slot->result = result;
    slot->busy = false;
    q->n_ended++;
    if (result < 0 && q->error == 0)
        q->error = (int)result;
    pthread_cond_broadcast(&q->ended);
    pthread_mutex_unlock(&q->lock);
}

static int begin(struct rbd_slot *slot, uint64_t offset, size_t len)
{
    slot->offset = offset;
    slot->len = len;
    slot->busy = true;
    return 0;
}

static int begun(struct rbd_slot *slot, int rc)
{
    if (rc != 0)
        slot_ended(rc, slot);
    return rc;
}

int rbd_slot_read(struct rbd_slot *slot, uint64_t offset, size_t len)
{
    begin(slot, offset, len);
    return begun(slot, limpet_image_aio_read(slot->queue->image, slot->data, len, offset, 0,
                                             slot_ended, slot));
}

int rbd_slot_write(struct rbd_slot *slot, uint64_t offset, size_t len)
{
    begin(slot, offset, len);
    return begun(slot, limpet_image_aio_write(slot->queue->image, slot->data, len, offset, 0,
                                              slot_ended, slot));
}
