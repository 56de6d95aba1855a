/*
 * Opening, closing, and following the header.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/image/crypt.h"
#include "client/object/inside.h"
#include "common/planted.h"

/* ---- Pools ---- */

static int pool_open(struct limpet_cluster *cluster, uint64_t id, const char *space,
                     struct limpet_pool **out)
{
    int rc = limpet_pool_open_id(cluster, id, out);
    if (rc == 0) {
        pool_revoke_late(*out); /* L2: who gives the lease back has no writes on their way. */
        rc = limpet_pool_set_namespace(*out, space);
    }
    if (rc != 0) {
        limpet_pool_close(*out);
        *out = NULL;
    }
    return rc;
}

int pool_again(struct limpet_pool *pool, struct limpet_pool **out)
{
    *out = NULL;
    return pool_open(limpet_pool_cluster(pool), limpet_pool_id(pool), limpet_pool_namespace(pool),
                     out);
}

int pool_of_link(struct limpet_cluster *cluster, const struct image_link *link,
                 struct limpet_pool **out)
{
    *out = NULL;
    return pool_open(cluster, link->pool, link->space, out);
}

void object_name(const char *prefix, uint64_t object, char out[IMAGE_OBJECT_NAME_MAX])
{
    static const char hex[] = "0123456789abcdef";
    size_t len = strlen(prefix);
    memcpy(out, prefix, len);
    out[len++] = '.';
    for (int i = 0; i < 16; i++)
        out[len + (size_t)i] = hex[object >> (60 - 4 * i) & 15];
    out[len + 16] = 0;
}

void image_data_name(const struct limpet_image *image, uint64_t object,
                     char out[IMAGE_OBJECT_NAME_MAX])
{
    object_name(image->prefix, object, out);
}

/* ---- The header that the handle knows ---- */

/* With the lock: what it looks at. */
static void set_view(struct limpet_image *image)
{
    const struct image_core *core = &image->header.core;
    image->size = core->size;
    image->overlap = core->has_parent ? core->overlap : 0;
    image->snap_lost = false;
    if (image->snap == 0)
        return;
    size_t at = header_snap(&image->header, image->snap);
    image->snap_lost = at == image->header.n_snaps;
    if (image->snap_lost)
        return;
    image->size = image->header.snaps[at].size;
    image->overlap = core->has_parent ? image->header.snaps[at].overlap : 0;
}

/* With the lock: what writes know of snapshots. */
static int set_snap_context(struct limpet_image *image)
{
    uint64_t snaps[LIMPET_SNAPS_MAX];
    const struct header *header = &image->header;
    size_t n = header->n_snaps;
    if (image->data == NULL)
        return 0;
    for (size_t i = 0; i < n && i < LIMPET_SNAPS_MAX; i++)
        snaps[i] = header->snaps[n - 1 - i].id;
    return limpet_pool_set_snap_context(image->data, header->core.snap_seq, snaps, n);
}

/* Whether requests that are under way would see a difference. */
static bool must_wait(const struct limpet_image *image, const struct header *next)
{
    const struct image_core *core = &image->header.core;
    if (image->passed == 0 || image->header.core_bytes == NULL)
        return false;
    return core->snap_seq != next->core.snap_seq || image->header.n_snaps != next->n_snaps ||
           core->size != next->core.size || core->overlap != next->core.overlap;
}

static void answer(struct limpet_image *image, int error);

/* With the lock. */
static void set_header(struct limpet_image *image, struct header *header)
{
    struct header old = image->header;
    image->header = *header;
    memset(header, 0, sizeof *header);
    header_fini(&old);
    set_view(image);
    /* Writing without knowing the snapshots would change them. */
    if (set_snap_context(image) != 0)
        image->dead = -EIO;
    map_resize(image);
}

void image_take_next(struct limpet_image *image)
{
    if (image->next.core_bytes == NULL)
        return;
    set_header(image, &image->next);
    if (!image->refreshing)
        answer(image, 0);
    pthread_cond_broadcast(&image->changed);
}

/* With the lock: the newest that is known. */
static const struct image_core *newest(const struct limpet_image *image)
{
    return image->next.core_bytes != NULL ? &image->next.core : &image->header.core;
}

/* Whose watcher this thread is calling: that may end its own watch. */
static _Thread_local const struct limpet_image *telling;

void image_take_header(struct limpet_image *image, struct header *header)
{
    void (*changed)(void *arg) = NULL;
    void *arg = NULL;
    const struct limpet_image *outer = telling;
    pthread_mutex_lock(&image->lock);
    bool first = image->header.core_bytes == NULL;
    if (first || header->core.generation >= newest(image)->generation) {
        if (!first && header->core.generation > newest(image)->generation) {
            changed = image->user_changed;
            arg = image->user_arg;
            image->user_calls += changed != NULL;
        }
        if (must_wait(image, header)) {
            header_fini(&image->next);
            image->next = *header;
            memset(header, 0, sizeof *header);
        } else {
            header_fini(&image->next);
            set_header(image, header);
        }
    }
    pthread_mutex_unlock(&image->lock);
    header_fini(header);
    if (changed == NULL)
        return;
    telling = image;
    changed(arg);
    telling = outer;
    pthread_mutex_lock(&image->lock);
    image->user_calls--;
    pthread_cond_broadcast(&image->changed);
    pthread_mutex_unlock(&image->lock);
}

void image_wait_header(struct limpet_image *image)
{
    pthread_mutex_lock(&image->lock);
    while (image->next.core_bytes != NULL)
        pthread_cond_wait(&image->changed, &image->lock);
    pthread_mutex_unlock(&image->lock);
}

int image_refresh(struct limpet_image *image)
{
    struct header header;
    struct header_reading reading;
    struct limpet_pairs *options = NULL;
    if (cluster_calls_back(image->cluster))
        return -EDEADLK;
    struct limpet_op *op = limpet_op_create();
    int rc = op != NULL ? header_reading_steps(op, &reading) : -ENOMEM;
    if (rc == 0)
        rc = qos_reading_step(op, &options);
    if (rc == 0)
        rc = limpet_operate(image->meta, image->header_name, op, NULL);
    if (op != NULL)
        limpet_op_destroy(op);
    if (rc == 0)
        rc = header_reading_end(&reading, &header);
    if (rc != 0) {
        limpet_pairs_destroy(options);
        return rc;
    }
    image_take_header(image, &header);
    image_wait_header(image);
    pthread_mutex_lock(&image->lock);
    qos_take_options(image, options);
    pthread_mutex_unlock(&image->lock);
    return 0;
}

int limpet_image_refresh(struct limpet_image *image)
{
    return image_refresh(image);
}

/* ---- Refreshing on the library's thread ---- */

struct refresh {
    struct limpet_image *image;
    struct limpet_op *op;
    struct header_reading reading;
    struct limpet_pairs *options;
};

static void begin_refresh(struct limpet_image *image);

/* With the lock: whoever waits for this may go on. */
static void answer(struct limpet_image *image, int error)
{
    struct pending_ack *ack;
    while ((ack = image->acks_now) != NULL) {
        image->acks_now = ack->next;
        /* Who has not read it, and may write, does not say that it has: it is blocked then. */
        bool read = error == 0 || error == -ENOENT;
        if (read && ack->watch == image->watch &&
            limpet_notify_ack(ack->watch, ack->notifier, ack->id, NULL, 0) != 0)
            image->lease_until_ns = 0;
        free(ack);
    }
}

static void refreshed(struct limpet_completion *completion, void *arg)
{
    struct refresh *refresh = arg;
    struct limpet_image *image = refresh->image;
    struct header header;
    int rc = (int)limpet_completion_result(completion);
    if (rc == 0)
        rc = header_reading_end(&refresh->reading, &header);
    if (rc == 0)
        image_take_header(image, &header);
    limpet_op_destroy(refresh->op);
    pthread_mutex_lock(&image->lock);
    if (rc == 0)
        qos_take_options(image, refresh->options);
    else
        limpet_pairs_destroy(refresh->options);
    pthread_mutex_unlock(&image->lock);
    free(refresh);
    pthread_mutex_lock(&image->lock);
    if (rc != 0 || image->next.core_bytes == NULL)
        answer(image, rc);
    image->refreshing = false;
    if (image->refresh_again)
        begin_refresh(image);
    pthread_cond_broadcast(&image->changed);
    pthread_mutex_unlock(&image->lock);
}

/* With the lock. What fails is not answered. */
static void begin_refresh(struct limpet_image *image)
{
    struct limpet_completion *completion = NULL;
    struct refresh *refresh = calloc(1, sizeof *refresh);
    image->refresh_again = false;
    /* Those who wait for the end of what is under way wait for this, too. */
    struct pending_ack **end = &image->acks_now;
    while (*end != NULL)
        end = &(*end)->next;
    *end = image->acks;
    image->acks = NULL;
    int rc = refresh != NULL ? 0 : -ENOMEM;
    if (rc == 0) {
        refresh->image = image;
        refresh->op = limpet_op_create();
        rc = refresh->op != NULL ? header_reading_steps(refresh->op, &refresh->reading) : -ENOMEM;
    }
    if (rc == 0)
        rc = qos_reading_step(refresh->op, &refresh->options);
    if (rc == 0)
        rc = limpet_completion_create(refreshed, refresh, &completion);
    if (rc == 0)
        rc = limpet_aio_operate(image->meta, image->header_name, completion, refresh->op);
    limpet_completion_release(completion);
    image->refreshing = rc == 0;
    if (rc == 0)
        return;
    answer(image, rc);
    if (refresh != NULL && refresh->op != NULL)
        limpet_op_destroy(refresh->op);
    free(refresh);
}

void image_refresh_later(struct limpet_image *image)
{
    if (image->refreshing)
        image->refresh_again = true;
    else
        begin_refresh(image);
}

/* ---- Telling others ---- */

/* A watcher has not answered: if it may have requests under way, they must not come any more. */
static int block_watcher(struct limpet_pool *meta, const char *id, const struct header *header,
                         const struct limpet_answer *watcher)
{
    char key[IMAGE_KEY_MAX], object[IMAGE_OBJECT_NAME_MAX];
    for (size_t i = 0; i < header->n_owners; i++) {
        const struct image_owner *owner = &header->owners[i];
        if (owner->instance != watcher->watcher || owner->cookie != watcher->cookie)
            continue;
        struct limpet_cluster *cluster = limpet_pool_cluster(meta);
        if (owner->instance == limpet_cluster_instance(cluster))
            return -EIO;
        int rc = image_block(cluster, owner->instance);
        header_object(id, object);
        size_t len = image_owner_key(key, owner->instance, owner->cookie);
        return rc == 0 ? omap_remove(meta, object, key, len) : rc;
    }
    return 0;
}

static int block_missed(struct limpet_pool *meta, const char *id, struct limpet_answers *answers)
{
    struct header header;
    struct limpet_answer answer;
    int rc = header_read(meta, id, &header);
    if (rc != 0)
        return rc == -ENOENT ? 0 : rc;
    while (rc == 0 && limpet_answers_next(answers, &answer) == 0) {
        if (answer.missed)
            rc = block_watcher(meta, id, &header, &answer);
    }
    header_fini(&header);
    return rc;
}

int image_tell(struct limpet_pool *meta, const char *id, const char *renamed)
{
    char object[IMAGE_OBJECT_NAME_MAX];
    struct limpet_answers *answers = NULL;
    header_object(id, object);
    size_t len = renamed != NULL ? strlen(renamed) : 0;
    int rc = limpet_notify(meta, object, renamed, len, IMAGE_NOTIFY_MS, &answers);
    if (rc == -ETIMEDOUT && answers != NULL)
        rc = block_missed(meta, id, answers);
    limpet_answers_destroy(answers);
    return rc == -ENOENT ? 0 : rc;
}

int image_block_lost(struct limpet_pool *meta, const char *id)
{
    char object[IMAGE_OBJECT_NAME_MAX];
    struct header header;
    struct limpet_watcher *watchers = NULL;
    size_t n = 0;
    uint64_t me = limpet_cluster_instance(limpet_pool_cluster(meta));
    int rc = header_read(meta, id, &header);
    if (rc != 0)
        return rc == -ENOENT ? 0 : rc;
    header_object(id, object);
    for (size_t i = 0; i < header.n_owners && rc == 0; i++) {
        const struct image_owner *owner = &header.owners[i];
        struct limpet_answer lost = {.watcher = owner->instance, .cookie = owner->cookie};
        bool alive = false;
        if (owner->instance == me)
            continue;
        if (watchers == NULL)
            rc = limpet_watchers(meta, object, &watchers, &n);
        for (size_t j = 0; j < n && rc == 0; j++)
            alive = alive || (watchers[j].instance == owner->instance &&
                              watchers[j].cookie == owner->cookie);
        if (rc == 0 && !alive)
            rc = block_watcher(meta, id, &header, &lost);
    }
    limpet_free(watchers);
    header_fini(&header);
    return rc;
}

int image_change(struct limpet_image *image, header_changer change, void *arg)
{
    struct header header;
    if (cluster_calls_back(image->cluster))
        return -EDEADLK;
    pthread_mutex_lock(&image->lock);
    int rc = header_copy(image->next.core_bytes != NULL ? &image->next : &image->header, &header);
    pthread_mutex_unlock(&image->lock);
    if (rc != 0)
        return rc;
    uint64_t before = header.core.generation, seq = header.core.snap_seq;
    rc = header_change(image->meta, image->id, &header, change, arg);
    bool changed = rc == 0 && header.core.generation != before;
    bool snapped = rc == 0 && header.core.snap_seq != seq;
    /* Who decides anew decides by what was read. */
    if (header.core_bytes != NULL) {
        image_take_header(image, &header);
        image_wait_header(image);
    }
    if (changed && !planted(PLANTED_IMAGE_UNTOLD))
        rc = image_tell(image->meta, image->id, NULL);
    /* A snapshot does not change any more from now on. */
    return rc == 0 && snapped ? image_block_lost(image->meta, image->id) : rc;
}

/* ---- Opening ---- */

static void image_free(struct limpet_image *image)
{
    limpet_pool_close(image->meta);
    limpet_pool_close(image->data);
    limpet_pool_close(image->bare);
    limpet_pool_close(image->view);
    header_fini(&image->header);
    header_fini(&image->next);
    crypt_destroy(image->crypt);
    while (image->acks != NULL) {
        struct pending_ack *ack = image->acks;
        image->acks = ack->next;
        free(ack);
    }
    pthread_cond_destroy(&image->changed);
    pthread_mutex_destroy(&image->lock);
    free(image);
}

static struct limpet_image *image_new(struct limpet_cluster *cluster, const char *id,
                                      bool read_only)
{
    struct limpet_image *image = calloc(1, sizeof *image);
    if (image == NULL)
        return NULL;
    image->cluster = cluster;
    image->read_only = read_only;
    snprintf(image->id, sizeof image->id, "%s", id);
    header_object(id, image->header_name);
    pthread_mutex_init(&image->lock, NULL);
    pthread_cond_init(&image->changed, NULL);
    TAILQ_INIT(&image->waiting);
    TAILQ_INIT(&image->flushing);
    TAILQ_INIT(&image->running);
    TAILQ_INIT(&image->copyups);
    TAILQ_INIT(&image->qos.line);
    TAILQ_INIT(&image->early.writes);
    TAILQ_INIT(&image->early.waiting);
    return image;
}

static int open_data(struct limpet_image *image, const char *space)
{
    const struct image_core *core = &image->header.core;
    uint64_t pool = core->has_data_pool ? core->data_pool : limpet_pool_id(image->meta);
    image_data_prefix(image->id, core->has_data_pool, limpet_pool_id(image->meta), image->prefix);
    image->stripe = (struct stripe){
        .order = core->order, .unit = core->stripe_unit, .count = core->stripe_count};
    int rc = pool_open(image->cluster, pool, space, &image->data);
    if (rc == 0)
        rc = pool_open(image->cluster, pool, space, &image->bare);
    if (rc == 0)
        rc = pool_open(image->cluster, pool, space, &image->view);
    return rc;
}

enum open_mode { OPEN_TO_READ, OPEN_TO_WRITE, OPEN_UNFINISHED };

static int open_at(struct limpet_cluster *cluster, uint64_t pool, const char *space, const char *id,
                   uint64_t snap, enum open_mode mode, unsigned depth, struct limpet_image **out);

static int open_parent(struct limpet_image *image, unsigned depth)
{
    const struct image_core *core = &image->header.core;
    if (!core->has_parent)
        return 0;
    if (depth == LIMPET_IMAGE_DEPTH_MAX)
        return -EMLINK;
    return open_at(image->cluster, core->parent.pool, core->parent.space, core->parent.id,
                   core->parent_snap, OPEN_TO_READ, depth + 1, &image->parent);
}

static int check_core(const struct image_core *core, bool making)
{
    if (core->state != IMAGE_READY && !(making && core->state == IMAGE_CREATING))
        return -ENOENT;
    return (core->features & ~(uint64_t)LIMPET_IMAGE_FEATURES_ALL &
            ~(uint64_t)LIMPET_IMAGE_OPERATIONS) != 0
               ? -ENOEXEC
               : 0;
}

/* What it looks at: the snapshot must be there. */
static int look_at(struct limpet_image *image, uint64_t snap)
{
    pthread_mutex_lock(&image->lock);
    uint64_t before = image->snap;
    image->snap = snap;
    set_view(image);
    int rc = image->snap_lost ? -ENOENT : 0;
    if (rc == 0)
        rc = limpet_pool_set_snap_read(image->view, snap);
    if (rc != 0) {
        image->snap = before;
        set_view(image);
    }
    pthread_mutex_unlock(&image->lock);
    return rc;
}

static int open_steps(struct limpet_image *image, uint64_t pool, const char *space, uint64_t snap,
                      unsigned depth)
{
    int rc = pool_open(image->cluster, pool, space, &image->meta);
    /* Watching comes first: no change after it is missed. */
    if (rc == 0 && !image->read_only)
        rc = image_watch_begin(image);
    if (rc == 0)
        rc = image_refresh(image);
    if (rc == 0)
        rc = check_core(&image->header.core, image->making);
    if (rc == 0)
        rc = open_data(image, space);
    /* What was told since the watch began may be newer: take the context of what is known now. */
    if (rc == 0) {
        pthread_mutex_lock(&image->lock);
        rc = set_snap_context(image);
        pthread_mutex_unlock(&image->lock);
    }
    if (rc == 0)
        rc = open_parent(image, depth);
    return rc == 0 ? look_at(image, snap) : rc;
}

static int open_at(struct limpet_cluster *cluster, uint64_t pool, const char *space, const char *id,
                   uint64_t snap, enum open_mode mode, unsigned depth, struct limpet_image **out)
{
    struct limpet_image *image = image_new(cluster, id, mode == OPEN_TO_READ);
    *out = NULL;
    if (image == NULL)
        return -ENOMEM;
    image->making = mode == OPEN_UNFINISHED;
    int rc = open_steps(image, pool, space, snap, depth);
    if (rc == 0) {
        *out = image;
        return 0;
    }
    if (image->watch != NULL)
        image_watch_end(image);
    int closed = limpet_image_close(image->parent);
    image_free(image);
    return rc != 0 ? rc : closed;
}

int image_open_id(struct limpet_cluster *cluster, uint64_t pool, const char *space, const char *id,
                  uint64_t snap, bool read_only, struct limpet_image **out)
{
    return open_at(cluster, pool, space, id, snap, read_only ? OPEN_TO_READ : OPEN_TO_WRITE, 0,
                   out);
}

int image_open_unfinished(struct limpet_pool *pool, const char *id, struct limpet_image **out)
{
    return open_at(limpet_pool_cluster(pool), limpet_pool_id(pool), limpet_pool_namespace(pool), id,
                   0, OPEN_UNFINISHED, 0, out);
}

int limpet_image_open(struct limpet_pool *pool, const char *name, const char *snap, unsigned flags,
                      struct limpet_image **out)
{
    char id[LIMPET_IMAGE_ID_MAX + 1];
    struct limpet_image *image = NULL;
    bool by_id = (flags & LIMPET_IMAGE_BY_ID) != 0;
    int rc = 0;
    *out = NULL;
    if (by_id) {
        if (!image_is_id(name))
            return -ENOENT;
        snprintf(id, sizeof id, "%s", name);
    } else {
        rc = directory_id(pool, IMAGE_DIRECTORY, name, id);
    }
    if (rc == 0)
        rc = image_open_id(limpet_pool_cluster(pool), limpet_pool_id(pool),
                           limpet_pool_namespace(pool), id, 0,
                           (flags & LIMPET_IMAGE_READ_ONLY) != 0, &image);
    if (rc != 0)
        return rc;
    if (!by_id)
        snprintf(image->name, sizeof image->name, "%.255s", name);
    else if (directory_name(pool, IMAGE_DIRECTORY, id, image->name) != 0)
        image->name[0] = 0;
    if (snap != NULL)
        rc = limpet_image_set_snap(image, snap);
    if (rc == 0)
        rc = qos_load_pool(image);
    if (rc == 0 && (flags & LIMPET_IMAGE_WRITE_BACK) != 0)
        rc = early_load(image);
    if (rc == 0) {
        *out = image;
        return 0;
    }
    int closed = limpet_image_close(image);
    return rc != 0 ? rc : closed;
}

int limpet_image_close(struct limpet_image *image)
{
    if (image == NULL)
        return 0;
    if (cluster_calls_back(image->cluster))
        return -EDEADLK;
    pthread_mutex_lock(&image->lock);
    while (image->ios > 0)
        pthread_cond_wait(&image->changed, &image->lock);
    int lost = early_error(image, image->submitted);
    pthread_mutex_unlock(&image->lock);
    image_watch_end(image);
    int rc = limpet_image_close(image->parent);
    image_free(image);
    return lost != 0 ? lost : rc;
}

/* ---- Opening and closing without waiting ---- */

struct opening {
    struct limpet_pool *pool;
    char *name, *snap; /* NULL: the head. */
    unsigned flags;
    struct limpet_image **out;
    struct limpet_image *image; /* To be closed. */
    limpet_image_callback callback;
    void *arg;
};

static void opening_free(struct opening *o)
{
    limpet_pool_close(o->pool);
    free(o->name);
    free(o->snap);
    free(o);
}

static void open_task(void *arg)
{
    struct opening *o = arg;
    int rc = limpet_image_open(o->pool, o->name, o->snap, o->flags, o->out);
    o->callback(rc, o->arg);
    opening_free(o);
}

static void close_task(void *arg)
{
    struct opening *o = arg;
    int rc = limpet_image_close(o->image);
    o->callback(rc, o->arg);
    free(o);
}

int limpet_image_aio_open(struct limpet_pool *pool, const char *name, const char *snap,
                          unsigned flags, struct limpet_image **out, limpet_image_callback callback,
                          void *arg)
{
    struct opening *o = calloc(1, sizeof *o);
    if (o == NULL)
        return -ENOMEM;
    o->flags = flags;
    o->out = out;
    o->callback = callback;
    o->arg = arg;
    o->name = strdup(name);
    o->snap = snap != NULL ? strdup(snap) : NULL;
    int rc = o->name != NULL && (snap == NULL || o->snap != NULL) ? 0 : -ENOMEM;
    if (rc == 0)
        rc = pool_again(pool, &o->pool);
    if (rc == 0)
        rc = task_run(NULL, open_task, o);
    if (rc != 0)
        opening_free(o);
    return rc;
}

int limpet_image_aio_close(struct limpet_image *image, limpet_image_callback callback, void *arg)
{
    struct opening *o = calloc(1, sizeof *o);
    if (o == NULL)
        return -ENOMEM;
    o->image = image;
    o->callback = callback;
    o->arg = arg;
    int rc = task_run(NULL, close_task, o);
    if (rc != 0)
        free(o);
    return rc;
}

/* ---- What it is ---- */

int limpet_image_set_snap_id(struct limpet_image *image, uint64_t snap)
{
    early_settle(image);
    return look_at(image, snap);
}

int limpet_image_set_snap(struct limpet_image *image, const char *snap)
{
    early_settle(image);
    if (snap == NULL)
        return look_at(image, 0);
    pthread_mutex_lock(&image->lock);
    size_t at = header_snap_named(&image->header, snap);
    uint64_t id = at < image->header.n_snaps ? image->header.snaps[at].id : 0;
    pthread_mutex_unlock(&image->lock);
    return id != 0 ? look_at(image, id) : -ENOENT;
}

/* What is true now: the header remembers also what was. */
static uint64_t operations(const struct header *header)
{
    uint64_t bits = header->core.op_features;
    bool trash = false;
    for (size_t i = 0; i < header->n_snaps; i++)
        trash |= header->snaps[i].kind == LIMPET_IMAGE_SNAP_TRASH;
    if (!trash)
        bits &= ~(uint64_t)LIMPET_IMAGE_OP_SNAP_TRASH;
    if (!header->core.has_parent)
        bits &= ~(uint64_t)LIMPET_IMAGE_OP_CLONE_CHILD;
    return bits;
}

int limpet_image_info(struct limpet_image *image, struct limpet_image_info *out)
{
    memset(out, 0, sizeof *out);
    pthread_mutex_lock(&image->lock);
    const struct image_core *core = &image->header.core;
    uint64_t op_features = operations(&image->header);
    *out = (struct limpet_image_info){
        .size = crypt_shown_size(image),
        .order = core->order,
        .object_size = UINT64_C(1) << core->order,
        .objects = stripe_objects(&image->stripe, image->size),
        .stripe_unit = core->stripe_unit,
        .stripe_count = core->stripe_count,
        .features = core->features | (op_features != 0 ? LIMPET_IMAGE_OPERATIONS : 0),
        .op_features = op_features,
        .flags = core->flags,
        .snaps = image->header.n_snaps,
        .snap = image->snap,
        .pool = limpet_pool_id(image->meta),
        .data_pool = limpet_pool_id(image->data),
        .created_ns = core->created_ns,
        .accessed_ns = core->accessed_ns,
        .modified_ns = core->modified_ns,
        .overlap = image->overlap,
        .has_parent = core->has_parent && image->overlap > 0,
        .snap_lost = image->snap_lost || core->state == IMAGE_REMOVING,
        .read_only = image->read_only || image->snap != 0,
    };
    memcpy(out->id, image->id, sizeof out->id);
    memcpy(out->name, image->name, sizeof out->name);
    memcpy(out->prefix, image->prefix, sizeof out->prefix);
    pthread_mutex_unlock(&image->lock);
    return 0;
}

int limpet_image_watch(struct limpet_image *image, void (*changed)(void *arg), void *arg,
                       uint64_t *cookie)
{
    pthread_mutex_lock(&image->lock);
    int rc = image->user_changed == NULL ? 0 : -EBUSY;
    if (rc == 0) {
        image->user_changed = changed;
        image->user_arg = arg;
        *cookie = ++image->user_cookie;
    }
    pthread_mutex_unlock(&image->lock);
    return rc;
}

int limpet_image_unwatch(struct limpet_image *image, uint64_t cookie)
{
    pthread_mutex_lock(&image->lock);
    int rc = image->user_changed != NULL && image->user_cookie == cookie ? 0 : -EINVAL;
    if (rc == 0)
        image->user_changed = NULL;
    /* What it uses may go when this returns. */
    while (rc == 0 && image->user_calls > (telling == image))
        pthread_cond_wait(&image->changed, &image->lock);
    pthread_mutex_unlock(&image->lock);
    return rc;
}
