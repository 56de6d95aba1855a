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

static void go_to_clone(struct pg_object *object, struct object_waiter *waiter);

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
        if (waiter->clone && !object->head && !object->error)
            go_to_clone(object, waiter);
        else
            waiter->ready(waiter, object, object->error);
        if (object->head)
            pg_object_release(object->head, false);
    }
}

struct object_state pg_state_of(const struct object_info_layout *info, uint64_t size)
{
    bool whiteout = info->flags & OBJECT_INFO_WHITEOUT;
    return (struct object_state){
        .exists = !whiteout,
        .whiteout = whiteout,
        .has_clones = info->flags & OBJECT_INFO_CLONES,
        .snap_seq = info->snap_seq,
        .size = size,
        .version = info->version,
        .mtime_ns = info->mtime_ns,
        .attrs_bytes = info->attrs_bytes,
    };
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
        object->state = pg_state_of(&info, read->stat.size);
    }
}

/* A load of a clone holds its object. */
static void load_over(struct pg_object *object)
{
    struct pg_object *head = object->head;
    unref(object);
    if (head)
        pg_object_release(head, false);
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
    load_over(object);
}

static void load_drop(struct pg_async *async)
{
    struct pg_object *object = container_of(async, struct pg_object, async);
    object->loading = false;
    load_over(object);
}

static void load(struct pg_object *object)
{
    struct pg *pg = object->pg;
    object->loading = true;
    object->refs++;
    if (object->head)
        pg_object_hold(object->head, false);
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

static struct pg_object *find_or_create(struct pg *pg, const uint8_t *id, uint16_t len)
{
    struct pg_object *object;
    HASH_FIND(hh, pg->objects, id, len, object);
    return object ? object : object_create(pg, id, len);
}

static void line_up(struct pg_object *object, struct object_waiter *waiter)
{
    take_from_idle(object->pg->world, object);
    TAILQ_INSERT_TAIL(&object->waiters, waiter, link);
    waiter->queued = true;
    waiter->object = object;
    object->refs++;
    if (!object->loaded && !object->loading)
        load(object);
    run_waiters(object);
    unref(object);
}

int pg_object_enter(struct pg *pg, const uint8_t *id, uint16_t len, struct object_waiter *waiter)
{
    uint8_t bytes[PG_OBJECT_ID_MAX];
    assert(!waiter->queued);
    waiter->clone = NULL;
    if (pg_id_snap(id, len) != OBJECT_HEAD) {
        assert(!waiter->writes);
        waiter->clone = id;
        waiter->clone_len = len;
        pg_id_with_snap(id, len, OBJECT_HEAD, bytes);
        id = bytes;
    }
    struct pg_object *object = find_or_create(pg, id, len);
    if (!object)
        return -ENOMEM;
    line_up(object, waiter);
    return 0;
}

/* ---- Clones ---- */

int pg_object_enter_clone(struct pg_object *object, const uint8_t *id, uint16_t len,
                          struct object_waiter *waiter)
{
    assert(object->readers > 0 && !object->head && object->pg);
    struct pg_object *clone = find_or_create(object->pg, id, len);
    if (!clone)
        return -ENOMEM;
    waiter->clone = id;
    waiter->clone_len = len;
    clone->head = object;
    pg_object_hold(object, false);
    line_up(clone, waiter);
    return 0;
}

/* The waiter has had its turn on the object; what it wants is a clone of that. */
static void go_to_clone(struct pg_object *object, struct object_waiter *waiter)
{
    pg_object_hold(object, false);
    if (pg_object_enter_clone(object, waiter->clone, waiter->clone_len, waiter))
        waiter->ready(waiter, object, -ENOMEM);
    pg_object_release(object, false);
}

void pg_object_forget_clone(struct pg_object *object, uint64_t snap)
{
    struct pg_object *clone;
    uint8_t bytes[PG_OBJECT_ID_MAX];
    pg_id_with_snap(object->bytes, object->len, snap, bytes);
    HASH_FIND(hh, object->pg->objects, bytes, object->len, clone);
    if (!clone)
        return;
    assert(is_unused(clone));
    forget(clone);
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
    struct pg_object *head = object->head;
    object->refs++;
    run_waiters(object);
    unref(object);
    if (head)
        pg_object_release(head, false);
}

void pg_object_hold(struct pg_object *object, bool writes)
{
    object->refs++;
    if (writes)
        object->writers++;
    else
        object->readers++;
    if (object->head)
        pg_object_hold(object->head, writes);
}

/* Whoever waits for the last write may look at the store now. */
static void settled(struct pg_object *object)
{
    struct object_settler *settler = object->settling;
    if (!settler || object->writers > 0)
        return;
    object->settling = NULL;
    settler->settled(settler);
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
    struct pg_object *head = object->head;
    run_waiters(object);
    unref(object);
    if (head)
        pg_object_release(head, writes);
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
