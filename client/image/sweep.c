/* Doing the same with many objects. */
#include <errno.h>
#include <stdlib.h>

#include "client/image/image.h"

struct sweeping {
    const struct sweep *sweep;
    struct image_view view;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned under_way;
    int error;
};

static void count_end(struct sweeping *s, int result)
{
    /* Who waits for the end may go on, and free all of this, when it is counted. */
    if (s->sweep->image != NULL)
        image_held_end(s->sweep->image);
    pthread_mutex_lock(&s->lock);
    if (result < 0 && s->error == 0)
        s->error = result;
    s->under_way--;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static void swept_free(struct swept *swept)
{
    if (swept->op != NULL)
        limpet_op_destroy(swept->op);
    free(swept->memory);
    free(swept);
}

static void end(struct swept *swept, int result, int counted)
{
    struct sweeping *s = swept->sweeping;
    if (s->sweep->ended != NULL)
        s->sweep->ended(swept, result);
    swept_free(swept);
    count_end(s, counted);
}

void swept_end(struct swept *swept, int result)
{
    end(swept, result, result);
}

static void was_done(struct limpet_completion *completion, void *arg)
{
    int result = (int)limpet_completion_result(completion);
    end(arg, result, result == -ENOENT ? 0 : result);
}

int swept_completion(struct swept *swept, struct limpet_completion **out)
{
    return limpet_completion_create(was_done, swept, out);
}

int swept_submitted(struct limpet_completion *completion, int rc)
{
    limpet_completion_release(completion);
    return rc;
}

static int start(struct sweeping *s, uint64_t object)
{
    struct swept *swept = calloc(1, sizeof *swept);
    if (swept == NULL)
        return -ENOMEM;
    swept->sweeping = s;
    swept->object = object;
    swept->arg = s->sweep->arg;
    int held = s->sweep->image != NULL ? image_held_begin(s->sweep->image, &s->view) : 0;
    if (held != 0) {
        free(swept);
        return held;
    }
    pthread_mutex_lock(&s->lock);
    s->under_way++;
    pthread_mutex_unlock(&s->lock);
    int rc = s->sweep->start(swept);
    if (rc != 0) {
        swept_free(swept);
        count_end(s, 0);
    }
    return rc == SWEEP_SKIP ? 0 : rc;
}

/* Until there is room for another one, or all have ended. */
static int wait_for(struct sweeping *s, unsigned most)
{
    pthread_mutex_lock(&s->lock);
    while (s->under_way > most)
        pthread_cond_wait(&s->changed, &s->lock);
    int rc = s->error;
    pthread_mutex_unlock(&s->lock);
    return rc;
}

/* Others get the lease who want it, and what they do with it is seen afterwards. */
static int breathe(struct sweeping *s)
{
    struct limpet_image *image = s->sweep->image;
    if (!image_is_recalled(image))
        return 0;
    int rc = wait_for(s, 0);
    if (rc == 0)
        rc = image_breathe(image);
    if (rc != 0)
        return rc;
    pthread_mutex_lock(&image->lock);
    s->view = image_view(image);
    pthread_mutex_unlock(&image->lock);
    return s->view.generation == s->sweep->view.generation ? 0 : -EAGAIN;
}

int sweep(const struct sweep *sweep)
{
    struct sweeping s = {.sweep = sweep,
                         .view = sweep->view,
                         .lock = PTHREAD_MUTEX_INITIALIZER,
                         .changed = PTHREAD_COND_INITIALIZER};
    int rc = 0;
    for (uint64_t object = sweep->first; object < sweep->end && rc == 0; object++) {
        rc = wait_for(&s, IMAGE_SIDE_BY_SIDE - 1);
        if (rc == 0 && sweep->breathes)
            rc = breathe(&s);
        if (rc == 0)
            rc = start(&s, sweep->list != NULL ? sweep->list[object] : object);
        if (rc == 0 && sweep->progress != NULL)
            rc = sweep->progress(object - sweep->first + 1, sweep->end - sweep->first,
                                 sweep->progress_arg);
    }
    int last = wait_for(&s, 0);
    return rc != 0 ? rc : last;
}

int sweep_what_exists(struct sweep *sweep, bool kept, struct exist *exist)
{
    struct limpet_image *image = sweep->image;
    /* A map that is in memory may reach but the first of them. */
    if (sweep->first >= sweep->end || map_ask(image, sweep->end - 1) != MAP_UNKNOWN ||
        !exist_is_cheaper(image->bare, sweep->end - sweep->first))
        return 0;
    int rc = exist_list(image->bare, image->prefix, sweep->first, sweep->end, kept, exist);
    sweep->list = exist->list;
    sweep->first = 0;
    sweep->end = exist->n;
    return rc;
}
