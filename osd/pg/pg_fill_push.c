/* The objects that a copy lacks: noted, pushed, and what becomes of writes to them meanwhile. */
#include "osd/pg/pg_fill.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/planted.h"

/* ---- Objects to be pushed ---- */

struct fill_object *fill_pending_find(struct pg_fill *fill, const uint8_t *bytes, uint16_t len)
{
    struct fill_object *object;
    HASH_FIND(hh, fill->pending, bytes, len, object);
    return object;
}

struct fill_object *fill_pending_add(struct pg_fill *fill, const uint8_t *bytes, uint16_t len,
                                     uint64_t size)
{
    struct fill_object *object = fill_pending_find(fill, bytes, len);
    if (object)
        return object;
    object = HASH_COUNT(fill->pending) < PG_DIRTY_MAX ? calloc(1, sizeof *object + len) : NULL;
    if (!object) {
        fill->spoiled = true;
        return NULL;
    }
    object->len = len;
    object->size = size;
    fill->pending_bytes += size;
    memcpy(object->bytes, bytes, len);
    HASH_ADD(hh, fill->pending, bytes, len, object);
    TAILQ_INSERT_TAIL(&fill->to_push, object, link);
    return object;
}

void fill_pending_remove(struct pg_fill *fill, struct fill_object *object)
{
    if (!object->started)
        TAILQ_REMOVE(&fill->to_push, object, link);
    assert(fill->pending_bytes >= object->size);
    fill->pending_bytes -= object->size;
    HASH_DEL(fill->pending, object);
    free(object);
}

/* A client wants it: it goes before the others. */
static void pending_hurry(struct pg_fill *fill, struct fill_object *object)
{
    struct pg_push *push;
    if (fill->phase != FILL_PUSHING)
        return;
    if (!object->started) {
        TAILQ_REMOVE(&fill->to_push, object, link);
        TAILQ_INSERT_HEAD(&fill->to_push, object, link);
        object->urgent = true;
        return;
    }
    TAILQ_FOREACH(push, &fill->pg->pushes, link)
    {
        if (push->osd == fill->osd && push->len == object->len &&
            memcmp(push->bytes, object->bytes, object->len) == 0)
            pg_turn_hurry(&fill->pg->world->turns, &push->turn);
    }
}

void pg_fill_wanted(struct pg *pg, const uint8_t *bytes, uint16_t len)
{
    struct pg_fill *fill;
    TAILQ_FOREACH(fill, &pg->fills, link)
    {
        struct fill_object *object = fill_pending_find(fill, bytes, len);
        if (object)
            pending_hurry(fill, object);
    }
}

bool fill_is_after(const struct object_id *id, const struct object_id *limit)
{
    return !limit || object_compare(id, limit) > 0;
}

/* After the batch, whose end is known. */
bool fill_is_beyond_batch(const struct pg_fill *fill, const struct object_id *id)
{
    return !fill->batch_ends && fill_is_after(id, fill->batch_upto);
}

static void note_clone(struct pg_fill *fill, const struct pg_object *object, uint64_t clone)
{
    uint8_t bytes[PG_OBJECT_ID_MAX];
    struct object_id id = object->id;
    id.snap = clone;
    if (clone == 0 || planted(PLANTED_CLONE_NOT_SENT) ||
        (fill->phase != FILL_LISTING && fill_is_beyond_batch(fill, &id)))
        return;
    pg_id_with_snap(object->bytes, object->len, clone, bytes);
    (void)fill_pending_add(fill, bytes, object->len, 0);
}

void fill_note_write(struct pg_fill *fill, const struct pg_object *object, uint64_t clone)
{
    if (fill->phase == FILL_LISTING || !fill_is_beyond_batch(fill, &object->id))
        (void)fill_pending_add(fill, object->bytes, object->len, 0);
    note_clone(fill, object, clone);
}

static bool clone_is_pending(struct pg_fill *fill, const struct pg_object *object, uint64_t clone)
{
    uint8_t bytes[PG_OBJECT_ID_MAX];
    if (clone == 0)
        return false;
    pg_id_with_snap(object->bytes, object->len, clone, bytes);
    return fill_pending_find(fill, bytes, object->len);
}

/* Whether the copy has, of the object and all that the write needs, what we have. */
static bool is_ready_for(struct pg_fill *fill, const struct pg_object *object,
                         const struct pg_write *write)
{
    return !fill_is_beyond_batch(fill, &object->id) &&
           !fill_pending_find(fill, object->bytes, object->len) &&
           !clone_is_pending(fill, object, write->clone) &&
           !clone_is_pending(fill, object, write->source);
}

enum fill_write pg_fill_write(struct pg_fill *fill, const struct pg_object *object,
                              const struct pg_write *write)
{
    switch (fill->phase) {
    case FILL_QUEUED:
    case FILL_BACKING_OFF:
    case FILL_PAUSED:
        return FILL_WRITE_NONE;
    case FILL_ASKING:
        return FILL_WRITE_NONE;
    case FILL_STARTING:
        return fill->attached ? FILL_WRITE_LOG_ONLY : FILL_WRITE_NONE;
    case FILL_LISTING:
    case FILL_COMPARING:
        /* Clones come before their object, so they are done, too. */
        if (!fill_is_after(&object->id, fill->done_upto))
            return FILL_WRITE_WHOLE;
        fill_note_write(fill, object, write->clone);
        return FILL_WRITE_LOG_ONLY;
    case FILL_PUSHING:
        if (is_ready_for(fill, object, write))
            return FILL_WRITE_WHOLE;
        fill_note_write(fill, object, write->clone);
        return FILL_WRITE_LOG_ONLY;
    case FILL_FINISHING:
    case FILL_ADDING:
        break;
    }
    return FILL_WRITE_WHOLE;
}

void fill_clear_batch(struct pg_fill *fill)
{
    struct fill_object *object, *next;
    HASH_ITER(hh, fill->pending, object, next)
    {
        fill_pending_remove(fill, object);
    }
    for (uint32_t i = 0; i < fill->n_batch; i++)
        free(fill->batch[i]);
    free(fill->batch);
    fill->batch = NULL;
    fill->n_batch = 0;
    free(fill->batch_upto);
    fill->batch_upto = NULL;
    fill->batch_ends = false;
}

/* ---- Pushing ---- */

static void batch_done(struct pg_fill *fill)
{
    bool ends = fill->batch_ends;
    assert(HASH_COUNT(fill->pending) == 0 && fill->pushes == 0);
    if (fill->spoiled) {
        fill_back_off(fill, "too many writes");
        return;
    }
    free(fill->done_upto);
    fill->done_upto = fill->batch_upto;
    fill->batch_upto = NULL;
    fill_clear_batch(fill);
    if (ends)
        fill_finish(fill);
    else
        fill_list_batch(fill);
}

static void push_sent(struct pg_push *push)
{
    struct pg_fill *fill = pg_fill_find(push->pg, push->osd);
    assert(fill && fill->phase == FILL_PUSHING);
    struct fill_object *object = fill_pending_find(fill, push->bytes, push->len);
    assert(object);
    fill_pending_remove(fill, object);
}

/* Its copy is not what the changes build upon. */
static bool push_whole(struct pg_fill *fill, const struct pg_push *push, int error)
{
    struct fill_object *object = fill_pending_find(fill, push->bytes, push->len);
    if (!object || error != -ESTALE || !push->partial)
        return false;
    object->started = false;
    object->whole = true;
    TAILQ_INSERT_HEAD(&fill->to_push, object, link);
    return true;
}

static void push_done(struct pg_push *push, int error)
{
    struct pg *pg = push->pg;
    struct pg_fill *fill = pg_fill_find(pg, push->osd);
    assert(fill && fill->phase == FILL_PUSHING && fill->pushes > 0);
    fill->pushes--;
    fill->silent_ticks = 0;
    pg->silent_ticks = 0;
    fill->sent_bytes += push->sent_bytes;
    fill->sent_objects += !error;
    pg->recovered_bytes += push->sent_bytes;
    pg->world->recovered_bytes += push->sent_bytes;
    if (error && !push_whole(fill, push, error)) {
        fill_back_off(fill, error_text(error));
        fill->full = error == -ENOSPC;
        return;
    }
    pg->recovered_objects += !error;
    pg->world->recovered_objects += !error;
    fill_push_next(fill);
}

/* Where the size is not known it comes in pieces, should it be large. */
static uint32_t piece_bytes(uint64_t size)
{
    if (size == 0)
        return PG_PUSH_PIECE_UNKNOWN;
    if (size >= PG_PUSH_PIECE)
        return PG_PUSH_PIECE;
    return (uint32_t)((size + PG_BLOCK - 1) / PG_BLOCK) * PG_BLOCK;
}

static bool push_create(struct pg_fill *fill, struct fill_object *object)
{
    struct pg_push *push = pg_push_create(fill->pg, fill->osd, object->bytes, object->len);
    if (!push)
        return false;
    TAILQ_REMOVE(&fill->to_push, object, link);
    object->started = true;
    push->done = push_done;
    push->sent = push_sent;
    if (fill->by_log && !object->whole)
        push->base = fill->from;
    push->turn.bytes = piece_bytes(object->size);
    push->urgent = object->urgent;
    fill->pushes++;
    pg_push_start(push, !fill->member);
    return true;
}

void fill_push_next(struct pg_fill *fill)
{
    struct fill_object *object;
    uint64_t attempt = fill->attempt;
    uint32_t most = fill->member ? PG_PUSHES_MAX : PG_FILL_PUSHES;
    while (fill->phase == FILL_PUSHING && fill->attempt == attempt && fill->pushes < most &&
           (object = TAILQ_FIRST(&fill->to_push))) {
        if (!push_create(fill, object)) {
            fill_back_off(fill, "no memory");
            return;
        }
    }
    if (fill->phase == FILL_PUSHING && fill->pushes == 0 && HASH_COUNT(fill->pending) == 0)
        batch_done(fill);
}

/*
 * By log, all that it lacks is one batch: what was noted since the entry at which it was whole, and
 * what entries of its own name.
 */
void fill_push_noted(struct pg_fill *fill)
{
    const struct pg_dirty *dirty = &fill->pg->dirty;
    const struct pg_dirty_object *object;
    bool reaches = pg_dirty_reaches(dirty, fill->from) ||
                   (planted(PLANTED_CATCH_UP_UNCOMMON) && dirty->tracking);
    if (!reaches || fill->spoiled) {
        /* Too much was written meanwhile to note it. */
        fill_clear_batch(fill);
        fill->spoiled = fill->by_log = false;
        if (fill_paused_by(fill, false))
            fill_pause(fill);
        else
            fill_list_batch(fill);
        return;
    }
    for (object = dirty->objects; object; object = object->hh.next) {
        if (object->last > fill->from.sequence)
            (void)fill_pending_add(fill, object->bytes, object->len, pg_dirty_bytes(object));
    }
    if (fill->spoiled) {
        fill_back_off(fill, "too many objects");
        return;
    }
    fill->batch_ends = true;
    fill->phase = FILL_PUSHING;
    fill_push_next(fill);
}
