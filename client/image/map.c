/*
 * The object map: four bytes for each object, little-endian, in chunk objects of the data pool.
 *
 *     0                                it was never written
 *     (ordinal + 1) << 1               it exists, and was written first after snapshot `ordinal`
 *     (ordinal + 1) << 1 | MAP_REMOVED it was removed after that one
 *
 *  M1  An entry says that an object exists before the first write to it is submitted; and with the
 *      newest snapshot's ordinal before the first write since that one is.
 *  M2  It says that one was removed only after it was.
 *
 * So it may say that there is something where nothing is, after a crash, but not the reverse. The
 * chunk objects are written with the image's snapshot context: at a snapshot they are the map of
 * the snapshot.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/image/image.h"
#include "common/planted.h"

enum {
    CHUNK_ENTRIES = 1 << 20,
    OBJECTS_MAX = 1 << 25, /* Beyond that its memory would be too much: it is not used. */
};

/* An entry that is being written. */
struct map_update {
    struct limpet_image *image;
    struct object_map *map;
    uint64_t object;
    uint32_t before, value;
    struct limpet_op *op;
    TAILQ_HEAD(, map_waiter) waiters;
    TAILQ_ENTRY(map_update) link;
};

struct object_map {
    uint64_t n;
    uint64_t loaded;   /* Of these; what follows was beyond the end, and may have been removed. */
    uint32_t *entries; /* Those that are being written, too. */
    TAILQ_HEAD(, map_update) updates;
};

static void chunk_name(const char *id, uint64_t chunk, char out[IMAGE_OBJECT_NAME_MAX])
{
    snprintf(out, IMAGE_OBJECT_NAME_MAX, IMAGE_MAP_PREFIX "%.32s.%08llx", id,
             (unsigned long long)chunk);
}

/* ---- Reading ---- */

int map_read(struct limpet_pool *data, const char *id, uint64_t snap, uint64_t first, uint64_t end,
             uint32_t **entries)
{
    char name[IMAGE_OBJECT_NAME_MAX];
    if (end > OBJECTS_MAX)
        return -EOPNOTSUPP;
    uint32_t *all = calloc(end - first + 1, sizeof *all);
    if (all == NULL)
        return -ENOMEM;
    int rc = limpet_pool_set_snap_read(data, snap);
    for (uint64_t at = first, n; at < end && rc == 0; at += n) {
        n = CHUNK_ENTRIES - at % CHUNK_ENTRIES;
        n = n < end - at ? n : end - at;
        chunk_name(id, at / CHUNK_ENTRIES, name);
        ssize_t got = limpet_read(data, name, all + (at - first), n * sizeof *all,
                                  at % CHUNK_ENTRIES * sizeof *all);
        rc = got < 0 && got != -ENOENT ? (int)got : 0;
    }
    if (rc != 0) {
        free(all);
        return rc;
    }
    *entries = all;
    return 0;
}

int map_write(struct limpet_image *image, const uint32_t *entries, uint64_t objects)
{
    char name[IMAGE_OBJECT_NAME_MAX];
    int rc = objects <= OBJECTS_MAX ? 0 : -EOPNOTSUPP;
    for (uint64_t at = 0; at < objects && rc == 0; at += CHUNK_ENTRIES) {
        uint64_t n = objects - at < CHUNK_ENTRIES ? objects - at : CHUNK_ENTRIES;
        chunk_name(image->id, at / CHUNK_ENTRIES, name);
        rc = limpet_write_full(image->data, name, entries + at, n * sizeof *entries);
    }
    return rc;
}

int map_remove(struct limpet_pool *data, const char *id, uint64_t objects)
{
    char name[IMAGE_OBJECT_NAME_MAX];
    int rc = 0;
    /* One that has become too large for a map may have one of the time before. */
    if (objects > OBJECTS_MAX)
        objects = OBJECTS_MAX;
    for (uint64_t at = 0; at < objects && rc == 0; at += CHUNK_ENTRIES) {
        chunk_name(id, at / CHUNK_ENTRIES, name);
        rc = limpet_remove(data, name);
        rc = rc == -ENOENT ? 0 : rc;
    }
    return rc;
}

bool map_reaches(uint64_t objects)
{
    return objects <= OBJECTS_MAX;
}

void map_outgrown(struct image_core *core)
{
    struct stripe stripe = {
        .order = core->order, .unit = core->stripe_unit, .count = core->stripe_count};
    if ((core->features & LIMPET_IMAGE_OBJECT_MAP) != 0 &&
        !map_reaches(stripe_objects(&stripe, core->extent)))
        core->flags |= LIMPET_IMAGE_OBJECT_MAP_INVALID | LIMPET_IMAGE_FAST_DIFF_INVALID;
}

static bool is_used(const struct image_core *core, uint64_t objects)
{
    return (core->features & LIMPET_IMAGE_OBJECT_MAP) != 0 &&
           (core->flags & LIMPET_IMAGE_OBJECT_MAP_INVALID) == 0 && objects <= OBJECTS_MAX;
}

int map_load(struct limpet_image *image)
{
    pthread_mutex_lock(&image->lock);
    uint64_t objects = stripe_objects(&image->stripe, image->header.core.extent);
    bool used = is_used(&image->header.core, objects);
    bool loaded = image->map != NULL;
    pthread_mutex_unlock(&image->lock);
    if (!used || loaded)
        return 0;
    struct object_map *map = calloc(1, sizeof *map);
    if (map == NULL)
        return -ENOMEM;
    map->n = map->loaded = objects;
    TAILQ_INIT(&map->updates);
    int rc = map_read(image->bare, image->id, 0, 0, objects, &map->entries);
    if (rc != 0) {
        free(map);
        return rc;
    }
    pthread_mutex_lock(&image->lock);
    image->map = map;
    pthread_mutex_unlock(&image->lock);
    return 0;
}

static void map_free(struct object_map *map)
{
    assert(TAILQ_EMPTY(&map->updates));
    free(map->entries);
    free(map);
}

void map_drop(struct limpet_image *image)
{
    pthread_mutex_lock(&image->lock);
    /* Writes of a lease that was lost may still be under way. */
    while (image->map != NULL && !TAILQ_EMPTY(&image->map->updates))
        pthread_cond_wait(&image->changed, &image->lock);
    struct object_map *map = image->map;
    image->map = NULL;
    pthread_mutex_unlock(&image->lock);
    if (map != NULL)
        map_free(map);
}

void map_resize(struct limpet_image *image)
{
    struct object_map *map = image->map;
    if (map == NULL)
        return;
    uint64_t objects = stripe_objects(&image->stripe, image->header.core.extent);
    if (objects <= map->n)
        return;
    /* What it does not reach is unknown, and it is not valid any more: map_outgrown(). */
    if (objects > OBJECTS_MAX)
        return;
    uint32_t *more = realloc(map->entries, objects * sizeof *more);
    /* What is written there would be in no map, which the next owner believes. */
    if (more == NULL) {
        image->dead = -ENOMEM;
        return;
    }
    /* Objects that have been beyond the end have entries of their own in the chunks: unless they
     * were never written, they say that they were removed. */
    memset(more + map->n, 0, (objects - map->n) * sizeof *more);
    map->entries = more;
    map->n = objects;
}

/* ---- Asking ---- */

static bool says_exists(uint32_t entry)
{
    return entry != 0 && (entry & MAP_REMOVED) == 0;
}

enum map_answer map_ask(struct limpet_image *image, uint64_t object)
{
    enum map_answer answer = MAP_UNKNOWN;
    pthread_mutex_lock(&image->lock);
    /* Without a lease that is good now, others may have made the object meanwhile. */
    if (image->map != NULL && image->snap == 0 && object < image->map->n &&
        image->lease == LEASE_HELD &&
        (image_lease_is_valid(image) || planted(PLANTED_IMAGE_MAP_BELIEVED)))
        answer = says_exists(image->map->entries[object]) ? MAP_EXISTS : MAP_ABSENT;
    pthread_mutex_unlock(&image->lock);
    return answer;
}

bool map_changed_since(struct limpet_image *image, uint64_t object, uint32_t ordinal)
{
    bool changed = true;
    pthread_mutex_lock(&image->lock);
    if (image->map != NULL && object < image->map->loaded)
        changed = image->map->entries[object] >> 1 > ordinal;
    pthread_mutex_unlock(&image->lock);
    return changed;
}

/* ---- Noting ---- */

static void update_end(struct map_update *update, int error)
{
    struct limpet_image *image = update->image;
    struct map_waiter *waiter;
    pthread_mutex_lock(&image->lock);
    TAILQ_REMOVE(&update->map->updates, update, link);
    if (error != 0 && update->map->entries[update->object] == update->value)
        update->map->entries[update->object] = update->before;
    pthread_cond_broadcast(&image->changed);
    pthread_mutex_unlock(&image->lock);
    while ((waiter = TAILQ_FIRST(&update->waiters)) != NULL) {
        TAILQ_REMOVE(&update->waiters, waiter, link);
        waiter->done(waiter, error);
    }
    limpet_op_destroy(update->op);
    free(update);
}

static void was_written(struct limpet_completion *completion, void *arg)
{
    update_end(arg, (int)limpet_completion_result(completion));
}

static void write_entry(struct map_update *update)
{
    char name[IMAGE_OBJECT_NAME_MAX];
    struct limpet_completion *completion;
    chunk_name(update->image->id, update->object / CHUNK_ENTRIES, name);
    update->op = limpet_op_create();
    int rc = update->op != NULL
                 ? limpet_op_write(update->op, &update->value, sizeof update->value,
                                   update->object % CHUNK_ENTRIES * sizeof update->value)
                 : -ENOMEM;
    if (rc == 0)
        rc = limpet_completion_create(was_written, update, &completion);
    if (rc == 0) {
        limpet_op_full_try(update->op);
        rc = limpet_aio_operate(update->image->data, name, completion, update->op);
        limpet_completion_release(completion);
    }
    if (rc != 0)
        update_end(update, rc);
}

/* With the lock: the last update of the object that is under way. */
static struct map_update *find_update(struct object_map *map, uint64_t object)
{
    struct map_update *update, *found = NULL;
    TAILQ_FOREACH(update, &map->updates, link)
    {
        if (update->object == object)
            found = update;
    }
    return found;
}

/* With the lock, which it unlocks. */
static bool note(struct limpet_image *image, uint64_t object, bool exists,
                 struct map_waiter *waiter)
{
    struct object_map *map = image->map;
    if (map == NULL || object >= map->n) {
        pthread_mutex_unlock(&image->lock);
        return false;
    }
    uint32_t value = (image->header.core.snap_ordinal + 1) << 1 | (exists ? 0 : MAP_REMOVED);
    struct map_update *update = find_update(map, object);
    bool wait = update != NULL && update->value == value;
    if (wait)
        TAILQ_INSERT_TAIL(&update->waiters, waiter, link);
    if (wait || (update == NULL && map->entries[object] == value)) {
        pthread_mutex_unlock(&image->lock);
        return wait;
    }
    update = calloc(1, sizeof *update);
    if (update != NULL) {
        *update = (struct map_update){.image = image,
                                      .map = map,
                                      .object = object,
                                      .before = map->entries[object],
                                      .value = value};
        TAILQ_INIT(&update->waiters);
        TAILQ_INSERT_TAIL(&update->waiters, waiter, link);
        TAILQ_INSERT_TAIL(&map->updates, update, link);
        map->entries[object] = value;
    }
    pthread_mutex_unlock(&image->lock);
    if (update == NULL)
        waiter->done(waiter, -ENOMEM);
    else
        write_entry(update);
    return true;
}

bool map_note(struct limpet_image *image, uint64_t object, struct map_waiter *waiter)
{
    pthread_mutex_lock(&image->lock);
    return note(image, object, true, waiter);
}

/* With the lock: whether another write may make the object again, without noting it. */
static bool is_wanted(const struct limpet_image *image, uint64_t object, const struct io *io)
{
    uint64_t run, from = stripe_image_offset(&image->stripe, object, 0, &run);
    const struct io *other;
    TAILQ_FOREACH(other, &image->running, run_link)
    {
        if (other != io && (image->stripe.count > 1 ||
                            (other->offset < from + run && other->offset + other->len > from)))
            return true;
    }
    return false;
}

bool map_note_removed(struct limpet_image *image, uint64_t object, const struct io *io,
                      struct map_waiter *waiter)
{
    pthread_mutex_lock(&image->lock);
    if (io != NULL && is_wanted(image, object, io)) {
        pthread_mutex_unlock(&image->lock);
        return false;
    }
    return note(image, object, false, waiter);
}
