/*
 * Objects in use on the primary: what is known of them, uncommitted writes included, and who waits
 * for them. A context exists while somebody needs it, and then idles in a cache that all groups of
 * the OSD share.
 */
#include "osd/pg/pg_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_unused(const struct pg_object *object)
{
    return object->refs == 0 && TAILQ_EMPTY(&object->waiters);
}

static void object_free(struct pg_object *object)
{
    assert(is_unused(object) && !object->idle && !object->pg);
    free(object);
}

static void take_from_idle(struct pg_world *world, struct pg_object *object)
{
    if (!object->idle)
        return;
    TAILQ_REMOVE(&world->idle_objects, object, idle_link);
    world->n_objects--;
    object->idle = false;
}

/* Takes it out of its pg; it lives on as long as it has references. */
static void forget(struct pg_object *object)
{
    struct pg *pg = object->pg;
    take_from_idle(pg->world, object);
    HASH_DEL(pg->objects, object);
    object->pg = NULL;
    if (is_unused(object))
        object_free(object);
}

/* Nobody needs it now: it stays in the cache, and an older one may have to go. */
static void make_idle(struct pg_object *object)
{
    struct pg_world *world = object->pg->world;
    if (!object->loaded) {
        forget(object);
        return;
    }
    TAILQ_INSERT_TAIL(&world->idle_objects, object, idle_link);
    object->idle = true;
    world->n_objects++;
    if (world->n_objects > PG_OBJECTS_CACHED)
        forget(TAILQ_FIRST(&world->idle_objects));
}

static void settle(struct pg_object *object)
{
    if (!is_unused(object) || object->idle)
        return;
    if (object->pg)
        make_idle(object);
    else
        object_free(object);
}

static void unref(struct pg_object *object)
{
    assert(object->refs > 0);
    object->refs--;
    settle(object);
}

/* ---- Loading ---- */

static bool may_go(const struct pg_object *object, const struct object_waiter *waiter)
{
    if (object->error)
        return true;
    if (!object->loaded || waiter->activates)
        return object->loaded;
    if (object->looked_at)
        return false;
    return waiter->writes ? object->readers == 0 : object->writers == 0;
}

/* Lets waiters go in order. The caller holds a reference, since they may release the object. */
static void run_waiters(struct pg_object *object)
{
    struct object_waiter *waiter;
    assert(object->refs > 0);
    while (object->pg && (waiter = TAILQ_FIRST(&object->waiters)) &&
           (object->pg->serving || waiter->activates) && may_go(object, waiter)) {
        TAILQ_REMOVE(&object->waiters, waiter, link);
        waiter->queued = false;
        waiter->object = NULL;
        waiter->ready(waiter, object, object->error);
    }
}

static void take_stat(struct pg_object *object, const struct store_read *read)
{
    struct object_info_layout info;
    object->error = 0;
    if (read->error == -ENOENT) {
        object->loaded = true;
    } else if (read->error) {
        object->error = read->error;
    } else if (object_info_parse(read->stat.info, read->stat.info_len, &info)) {
        object->error = -ELIMPET_CORRUPT;
    } else {
        object->loaded = true;
        object->state.exists = true;
        object->state.size = read->stat.size;
        object->state.version = info.version;
        object->state.mtime_ns = info.mtime_ns;
        object->state.attrs_bytes = info.attrs_bytes;
    }
}

static void load_done(struct store_read *read)
{
    struct pg_object *object = container_of(read, struct pg_object, load);
    pg_async_end(&object->async);
    buf_slice_drop(&read->data);
    encoder_fini(&read->attrs);
    object->loading = false;
    if (object->pg) {
        take_stat(object, read);
        run_waiters(object);
        object->error = 0; /* Whoever comes next tries again. */
    }
    unref(object);
}

static void load_drop(struct pg_async *async)
{
    struct pg_object *object = container_of(async, struct pg_object, async);
    object->loading = false;
    unref(object);
}

static void load(struct pg_object *object)
{
    struct pg *pg = object->pg;
    object->loading = true;
    object->refs++;
    memset(&object->load, 0, sizeof object->load);
    object->load.object = object->id;
    object->load.done = load_done;
    pg_async_begin(pg, &object->async, load_drop);
    store_read(pg->world->store, &object->load);
}

/* ---- The line of an object ---- */

static struct pg_object *object_create(struct pg *pg, const uint8_t *id, uint16_t len)
{
    struct pg_object *object = calloc(1, sizeof *object + len);
    if (!object)
        return NULL;
    object->pg = pg;
    object->len = len;
    memcpy(object->bytes, id, len);
    TAILQ_INIT(&object->waiters);
    struct decoder d;
    decoder_init(&d, object->bytes, len);
    decode_object_id(&d, &object->id);
    assert(decoder_end(&d) == 0);
    HASH_ADD(hh, pg->objects, bytes, len, object);
    return object;
}

int pg_object_enter(struct pg *pg, const uint8_t *id, uint16_t len, struct object_waiter *waiter)
{
    assert(!waiter->queued);
    struct pg_object *object;
    HASH_FIND(hh, pg->objects, id, len, object);
    if (!object)
        object = object_create(pg, id, len);
    if (!object)
        return -ENOMEM;
    take_from_idle(pg->world, object);
    TAILQ_INSERT_TAIL(&object->waiters, waiter, link);
    waiter->queued = true;
    waiter->object = object;
    if (!object->loaded && !object->loading)
        load(object);
    object->refs++;
    run_waiters(object);
    unref(object);
    return 0;
}

void pg_object_leave(struct object_waiter *waiter)
{
    if (!waiter->queued)
        return;
    struct pg_object *object = waiter->object;
    TAILQ_REMOVE(&object->waiters, waiter, link);
    waiter->queued = false;
    waiter->object = NULL;
    /* Those behind it may have waited for nothing else. */
    object->refs++;
    run_waiters(object);
    unref(object);
}

void pg_object_hold(struct pg_object *object, bool writes)
{
    object->refs++;
    if (writes)
        object->writers++;
    else
        object->readers++;
}

/* Whoever waits for the last write may look at the store now. */
static void settled(struct pg_object *object)
{
    struct pg_run *run = object->settling;
    if (!run || object->writers > 0)
        return;
    object->settling = NULL;
    pg_run_settled(run);
}

void pg_object_release(struct pg_object *object, bool writes)
{
    if (writes) {
        assert(object->writers > 0);
        object->writers--;
        settled(object);
    } else {
        assert(object->readers > 0);
        object->readers--;
    }
    run_waiters(object);
    unref(object);
}

void pg_objects_forget(struct pg *pg)
{
    struct pg_object *object, *next;
    HASH_ITER(hh, pg->objects, object, next)
    {
        assert(TAILQ_EMPTY(&object->waiters));
        forget(object);
    }
    assert(!pg->objects);
}
