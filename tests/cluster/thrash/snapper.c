/*
 * thrash-snapper: a client that takes and removes snapshots of a pool while it writes, and reads
 * them.
 *
 *     thrash-snapper --pool NAME --seed N          until SIGTERM, which lets it finish
 *
 * Each object is written by one thread, which waits for each of its writes: it knows what the
 * object has been, and when. So a snapshot must show one of the contents that the object had
 * between the call that made it and that call's return, and always the same.
 *
 * In the end all that is left of the snapshots is read, they are removed, and the objects are
 * compared with what they must be. It prints how many there are. The first mistake ends it.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/limpet.h"
#include "client/limpet/object.h"
#include "program.h"
#include "tests/sim/history.h"
#include "tests/sim/random.h"

enum {
    THREADS = 3,
    OBJECTS_OF_THREAD = 4,
    OBJECTS = THREADS * OBJECTS_OF_THREAD,
    SIZE_MAX_BYTES = 128 * 1024,
    PIECE_MAX = 16 * 1024,
    STATES = 16384, /* Of an object; older ones are forgotten, long after their snapshots are. */
    SNAPS = 8,
    THINK_MS = 10,
};

/* What an object is from one write to the next. */
struct state {
    uint64_t called;   /* The write may have happened since. */
    uint64_t returned; /* It has; 0: it is under way. */
    int64_t size;      /* -1: there is no object. */
    uint64_t hash;
};

struct object {
    char name[16];
    pthread_mutex_t lock; /* Of its states. */
    struct state states[STATES];
    size_t n;
    uint8_t *data; /* Its thread's. */
    int64_t size;
};

struct snap {
    char name[24];
    uint64_t id, called, returned;
    bool seen[OBJECTS];
    struct state shown[OBJECTS]; /* What the first read has shown. */
};

static struct {
    struct limpet_cluster *cluster;
    const char *pool_name;
    uint64_t seed;
    struct limpet_pool *pool;
    struct limpet_pool *past; /* Reads snapshots. */
    atomic_bool stopping;
    atomic_uint_fast64_t writes, serial;
    struct object objects[OBJECTS];
    struct snap snaps[SNAPS];
    size_t n_snaps;
    uint64_t snaps_made, reads;
} run;

/* ---- Writing ---- */

static struct state *begin_state(struct object *object, int64_t size, const uint8_t *data)
{
    pthread_mutex_lock(&object->lock);
    if (object->n == STATES) {
        memmove(object->states, object->states + STATES / 2, STATES / 2 * sizeof *object->states);
        object->n = STATES / 2;
    }
    struct state *state = &object->states[object->n++];
    *state = (struct state){.called = now_ns(), .size = size};
    if (size > 0)
        state->hash = content_hash(data, (size_t)size);
    pthread_mutex_unlock(&object->lock);
    return state;
}

/* A write that was refused has not happened, so that its state never was. */
static void end_state(struct object *object, struct state *state, bool happened)
{
    pthread_mutex_lock(&object->lock);
    if (happened)
        state->returned = now_ns();
    else
        object->n--;
    pthread_mutex_unlock(&object->lock);
}

struct change {
    enum history_kind kind;
    uint64_t offset, len;
};

static struct change choose_change(const struct object *object, uint64_t *random)
{
    static const enum history_kind kinds[] = {
        HISTORY_WRITE_FULL, HISTORY_WRITE_AT, HISTORY_WRITE_AT, HISTORY_WRITE_AT,
        HISTORY_APPEND,     HISTORY_TRUNCATE, HISTORY_REMOVE,
    };
    uint64_t size = object->size > 0 ? (uint64_t)object->size : 0;
    struct change change = {.kind = kinds[random_split(random) % (sizeof kinds / sizeof kinds[0])]};
    change.len = 1 + random_split(random) % PIECE_MAX;
    if (object->size < 0 || size + PIECE_MAX > SIZE_MAX_BYTES - PIECE_MAX)
        change.kind = HISTORY_WRITE_FULL;
    else if (change.kind == HISTORY_APPEND)
        change.offset = size;
    else if (change.kind == HISTORY_WRITE_AT || change.kind == HISTORY_TRUNCATE)
        change.offset = random_split(random) % (size + PIECE_MAX);
    return change;
}

/* What becomes of `data` of `size`; returns the new size. */
static int64_t foretell(struct change change, uint8_t *data, int64_t size)
{
    uint64_t old = size > 0 ? (uint64_t)size : 0;
    uint64_t end = change.offset + change.len;
    if (change.kind == HISTORY_REMOVE)
        return -1;
    if (change.kind == HISTORY_TRUNCATE)
        end = change.offset;
    if (end > old)
        memset(data + old, 0, end - old);
    if (change.kind != HISTORY_TRUNCATE)
        serial_fill(atomic_fetch_add(&run.serial, 1), 0, data + change.offset, change.len);
    return (int64_t)(change.kind == HISTORY_WRITE_AT && old > end ? old : end);
}

static int submit(const struct object *object, struct change change, const uint8_t *data)
{
    switch (change.kind) {
    case HISTORY_WRITE_FULL:
        return limpet_write_full(run.pool, object->name, data, change.len);
    case HISTORY_WRITE_AT:
        return limpet_write(run.pool, object->name, data + change.offset, change.len,
                            change.offset);
    case HISTORY_APPEND:
        return limpet_append(run.pool, object->name, data + change.offset, change.len);
    case HISTORY_TRUNCATE:
        return limpet_truncate(run.pool, object->name, change.offset);
    default:
        return limpet_remove(run.pool, object->name);
    }
}

static void change_object(struct object *object, uint64_t *random, uint8_t *scratch)
{
    struct change change = choose_change(object, random);
    memcpy(scratch, object->data, SIZE_MAX_BYTES);
    int64_t size = foretell(change, scratch, object->size);
    struct state *state = begin_state(object, size, scratch);
    int error = submit(object, change, scratch);
    if (error < 0 && error != -ENOSPC)
        give_up("%s %s: %s", change.kind == HISTORY_REMOVE ? "removing" : "changing", object->name,
                limpet_error_text(error));
    end_state(object, state, error == 0);
    if (error == 0) {
        memcpy(object->data, scratch, SIZE_MAX_BYTES);
        object->size = size;
    }
    atomic_fetch_add(&run.writes, 1);
}

static void *writer_main(void *arg)
{
    struct object *mine = arg;
    uint64_t random = run.seed * THREADS + (uint64_t)(mine - run.objects);
    uint8_t *scratch = malloc(SIZE_MAX_BYTES);
    if (!scratch)
        give_up("out of memory");
    while (!atomic_load(&run.stopping)) {
        change_object(mine + random_split(&random) % OBJECTS_OF_THREAD, &random, scratch);
        think(&random, THINK_MS);
    }
    free(scratch);
    return NULL;
}

/* ---- Snapshots ---- */

static void find_id(struct snap *snap)
{
    struct limpet_snap *list;
    size_t n;
    int error = limpet_snap_list(run.pool, &list, &n);
    if (error < 0)
        give_up("the list of snapshots: %s", limpet_error_text(error));
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i].name, snap->name) == 0)
            snap->id = list[i].id;
    }
    limpet_free(list);
    if (snap->id == 0)
        give_up("snapshot %s was made, and is not listed", snap->name);
}

static void make_snap(void)
{
    struct snap *snap = &run.snaps[run.n_snaps++];
    memset(snap, 0, sizeof *snap);
    snprintf(snap->name, sizeof snap->name, "%" PRIu64 ".%" PRIu64, run.seed, run.snaps_made++);
    snap->called = now_ns();
    int error = limpet_snap_create(run.pool, snap->name);
    snap->returned = now_ns();
    if (error < 0)
        give_up("snapshot %s: %s", snap->name, limpet_error_text(error));
    find_id(snap);
}

static void remove_snap(size_t index)
{
    int error = limpet_snap_remove(run.pool, run.snaps[index].name);
    if (error < 0)
        give_up("removal of snapshot %s: %s", run.snaps[index].name, limpet_error_text(error));
    run.snaps[index] = run.snaps[--run.n_snaps];
}

static bool equal(const struct state *a, const struct state *b)
{
    return a->size == b->size && a->hash == b->hash;
}

/* The object was this at some moment of the time in which the snapshot was made. */
static bool was_then(struct object *object, const struct snap *snap, const struct state *shown)
{
    bool found = false;
    pthread_mutex_lock(&object->lock);
    for (size_t i = 0; i < object->n && !found; i++) {
        const struct state *state = &object->states[i];
        const struct state *next = i + 1 < object->n ? state + 1 : NULL;
        bool over = next && next->returned != 0 && next->returned < snap->called;
        found = !over && state->called < snap->returned && equal(state, shown);
    }
    pthread_mutex_unlock(&object->lock);
    return found;
}

static struct state read_at(struct object *object, uint64_t snap, uint8_t *data)
{
    int error = limpet_pool_set_snap_read(run.past, snap);
    if (error < 0)
        give_up("snapshot %" PRIu64 ": %s", snap, limpet_error_text(error));
    ssize_t size = limpet_read(run.past, object->name, data, SIZE_MAX_BYTES, 0);
    if (size < 0 && size != -ENOENT)
        give_up("%s at snapshot %" PRIu64 ": %s", object->name, snap, limpet_error_text((int)size));
    run.reads++;
    struct state shown = {.size = size < 0 ? -1 : size};
    if (size > 0)
        shown.hash = content_hash(data, (size_t)size);
    return shown;
}

static void check_snap(struct snap *snap, size_t index, uint8_t *data)
{
    struct object *object = &run.objects[index];
    struct state shown = read_at(object, snap->id, data);
    if (snap->seen[index] && !equal(&shown, &snap->shown[index]))
        give_up("%s at snapshot %" PRIu64 " has changed", object->name, snap->id);
    if (!snap->seen[index] && !was_then(object, snap, &shown))
        give_up("%s at snapshot %" PRIu64 " shows what it was not then: %" PRId64 " bytes",
                object->name, snap->id, shown.size);
    snap->seen[index] = true;
    snap->shown[index] = shown;
}

static void *snapper_main(void *arg)
{
    uint64_t random = ~run.seed;
    uint8_t *data = arg;
    while (!atomic_load(&run.stopping)) {
        uint64_t dice = random_split(&random) % 40;
        if (run.n_snaps == 0 || (dice == 0 && run.n_snaps < SNAPS))
            make_snap();
        else if (dice == 1)
            remove_snap(random_split(&random) % run.n_snaps);
        else
            check_snap(&run.snaps[random_split(&random) % run.n_snaps],
                       random_split(&random) % OBJECTS, data);
        think(&random, THINK_MS);
    }
    return NULL;
}

/* ---- Begin and end ---- */

/* What a round before has left is no part of this one. */
static void prepare(void)
{
    for (size_t i = 0; i < OBJECTS; i++) {
        struct object *object = &run.objects[i];
        snprintf(object->name, sizeof object->name, "snap.%zu", i);
        pthread_mutex_init(&object->lock, NULL);
        object->data = calloc(1, SIZE_MAX_BYTES);
        if (!object->data)
            give_up("out of memory");
        object->size = -1;
        int error = limpet_remove(run.pool, object->name);
        if (error < 0 && error != -ENOENT)
            give_up("%s: %s", object->name, limpet_error_text(error));
        end_state(object, begin_state(object, -1, NULL), true);
    }
}

static size_t check_all(uint8_t *data)
{
    size_t there = 0;
    for (size_t i = 0; i < OBJECTS; i++) {
        for (size_t s = 0; s < run.n_snaps; s++)
            check_snap(&run.snaps[s], i, data);
    }
    while (run.n_snaps > 0)
        remove_snap(0);
    for (size_t i = 0; i < OBJECTS; i++) {
        const struct object *object = &run.objects[i];
        struct state shown = read_at(&run.objects[i], 0, data);
        if (!equal(&shown, &object->states[object->n - 1]))
            give_up("%s is not what was written last", object->name);
        there += shown.size >= 0;
    }
    return there;
}

static void parse_options(int argc, char **argv)
{
    static const struct option known[] = {
        {"pool", required_argument, NULL, 'p'}, {"seed", required_argument, NULL, 's'}, {0}};
    int c;
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (c == 'p')
            run.pool_name = optarg;
        else if (c == 's')
            run.seed = parse_number(optarg);
        else
            give_up("see the top of snapper.c for the options");
    }
    if (!run.pool_name || optind < argc)
        give_up("--pool is needed, and nothing but options");
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS + 1];
    int number;
    sigset_t ends;
    block_ends(&ends);
    parse_options(argc, argv);
    run.cluster = connect_to_cluster();
    run.pool = open_pool(run.cluster, run.pool_name);
    run.past = open_pool(run.cluster, run.pool_name);
    uint8_t *data = malloc(SIZE_MAX_BYTES);
    if (!data)
        give_up("out of memory");
    prepare();
    bool failed = pthread_create(&threads[THREADS], NULL, snapper_main, data) != 0;
    for (size_t i = 0; i < THREADS; i++)
        failed |= pthread_create(&threads[i], NULL, writer_main,
                                 &run.objects[i * OBJECTS_OF_THREAD]) != 0;
    if (failed)
        give_up("cannot start a thread");
    while (sigwait(&ends, &number) != 0)
        continue;
    atomic_store(&run.stopping, true);
    for (size_t i = 0; i <= THREADS; i++)
        pthread_join(threads[i], NULL);
    size_t there = check_all(data);
    printf("%zu objects, %" PRIu64 " snapshots, %" PRIu64 " writes, %" PRIu64 " reads\n", there,
           run.snaps_made, (uint64_t)atomic_load(&run.writes), run.reads);
    limpet_pool_close(run.past);
    limpet_pool_close(run.pool);
    limpet_cluster_destroy(run.cluster);
    return 0;
}
