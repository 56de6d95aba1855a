/*
 * Clones: making them, and ending what they share with their parents.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/image/manage.h"
#include "client/image/snap.h"
#include "common/planted.h"

enum {
    FEATURE_NAMES = 11, /* limpet_image_feature_name() */
    SHOWN_FROM = 4096,  /* Objects: where flattening looks first at what the parent has. */
};

void image_link_of(const struct limpet_image *image, struct image_link *out)
{
    memset(out, 0, sizeof *out);
    out->pool = limpet_pool_id(image->meta);
    memcpy(out->space, limpet_pool_namespace(image->meta),
           strlen(limpet_pool_namespace(image->meta)) + 1);
    memcpy(out->id, image->id, sizeof out->id);
}

/* ---- Making ---- */

struct adoption {
    uint64_t snap;
    const struct image_link *child;
    unsigned format;
};

static int add_child(struct header *next, struct limpet_op *op, void *arg)
{
    const struct adoption *a = arg;
    char key[IMAGE_KEY_MAX];
    size_t at = header_snap(next, a->snap);
    if (at == next->n_snaps || next->core.state != IMAGE_READY ||
        next->snaps[at].kind == LIMPET_IMAGE_SNAP_TRASH)
        return -ENOENT;
    if (a->format == 1 && !next->snaps[at].is_protected)
        return -EINVAL;
    if (a->format != 1)
        next->core.op_features |= LIMPET_IMAGE_OP_CLONE_PARENT;
    size_t len = image_child_key(key, a->snap, a->child);
    struct limpet_pair pair = {.key = key, .key_len = len, .value = "", .value_len = 0};
    return limpet_op_omap_set(op, &pair, 1);
}

/* Its parent knows it from now on. */
static int join_parent(struct limpet_image *parent, struct limpet_pool *pool, const char *id,
                       const struct image_core *core, unsigned format)
{
    struct image_link me = {.pool = limpet_pool_id(pool)};
    struct header header = {0};
    struct adoption adoption = {.snap = core->parent_snap, .child = &me, .format = format};
    memcpy(me.space, limpet_pool_namespace(pool), strlen(limpet_pool_namespace(pool)) + 1);
    memcpy(me.id, id, strlen(id) + 1);
    int rc = header_change(parent->meta, parent->id, &header, add_child, &adoption);
    header_fini(&header);
    /* That it has clones is among its features from now on. */
    if (rc == 0 && format != 1 &&
        (parent->header.core.op_features & LIMPET_IMAGE_OP_CLONE_PARENT) == 0)
        rc = image_tell(parent->meta, parent->id, NULL);
    return rc;
}

/* What is wrong is said before anything is made. */
static int clone_core(struct limpet_image *parent, struct limpet_pool *pool,
                      const struct limpet_image_options *options, struct image_core *core)
{
    struct limpet_image_options o = image_options_from(&parent->header.core, options);
    size_t at = header_snap(&parent->header, parent->snap);
    if ((parent->header.core.features & LIMPET_IMAGE_LAYERING) == 0)
        return -ENOSYS;
    if (o.clone_format == 1 && !parent->header.snaps[at].is_protected)
        return -EINVAL;
    if ((o.features & LIMPET_IMAGE_LAYERING) == 0)
        return -ENOSYS;
    int rc = image_new_core(pool, parent->size, &o, core);
    if (rc != 0)
        return rc;
    core->state = IMAGE_CREATING;
    core->clone_format = options->clone_format == 1 ? 1 : 2;
    core->has_parent = true;
    image_link_of(parent, &core->parent);
    core->parent_snap = parent->snap;
    core->overlap = parent->size;
    if (core->clone_format == 2)
        core->op_features |= LIMPET_IMAGE_OP_CLONE_CHILD;
    return 0;
}

/* `whole`: it is all that shall be made. */
static int clone_from(struct limpet_image *parent, struct limpet_pool *pool, const char *name,
                      const struct limpet_image_options *options, bool whole,
                      char id[LIMPET_IMAGE_ID_MAX + 1])
{
    struct image_core core;
    int rc = clone_core(parent, pool, options, &core);
    /* Nothing would be shared. */
    if (rc == 0 && parent->size == 0)
        rc = image_exists_or(pool, name, -EINVAL);
    if (rc != 0)
        return rc;
    image_new_id(id);
    rc = image_make(pool, name, id, &core);
    if (rc != 0)
        return rc;
    rc = join_parent(parent, pool, id, &core, core.clone_format);
    if (rc == 0 && whole)
        rc = image_finish(pool, id);
    if (rc != 0)
        image_unmake(pool, name, id);
    return rc;
}

static int clone_at(struct limpet_pool *parent_pool, const char *parent, const char *snap,
                    struct limpet_pool *pool, const char *name,
                    const struct limpet_image_options *options, bool whole,
                    char id[LIMPET_IMAGE_ID_MAX + 1])
{
    struct limpet_image *image = NULL;
    int rc = image_check_name(name);
    if (rc == 0)
        rc = snap != NULL ? image_check_space(pool) : -EINVAL;
    /* What has no name at all is told before what cannot be chosen. */
    if (rc == 0 && options->features != LIMPET_IMAGE_FEATURES_SOURCE &&
        options->features >> FEATURE_NAMES != 0)
        rc = -ENOSYS;
    if (rc == 0 && options->clone_format > 2)
        rc = -EINVAL;
    /* That is told before whether there is such a snapshot, but not before whether there is an
     * image. */
    if (rc == 0 && options->clone_format == 1 &&
        strcmp(limpet_pool_namespace(pool), limpet_pool_namespace(parent_pool)) != 0) {
        rc = limpet_image_id_of(parent_pool, parent, id);
        return rc != 0 ? rc : -EXDEV;
    }
    if (rc == 0)
        rc = limpet_image_open(parent_pool, parent, snap, LIMPET_IMAGE_READ_ONLY, &image);
    if (rc == 0)
        rc = clone_from(image, pool, name, options, whole, id);
    int closed = limpet_image_close(image);
    return rc != 0 ? rc : closed;
}

int limpet_image_clone(struct limpet_pool *parent_pool, const char *parent, const char *snap,
                       struct limpet_pool *pool, const char *name,
                       const struct limpet_image_options *options)
{
    char id[LIMPET_IMAGE_ID_MAX + 1];
    return clone_at(parent_pool, parent, snap, pool, name, options, true, id);
}

int image_clone_unfinished(struct limpet_pool *parent_pool, const char *parent, const char *snap,
                           struct limpet_pool *pool, const char *name,
                           const struct limpet_image_options *options,
                           char id[LIMPET_IMAGE_ID_MAX + 1])
{
    return clone_at(parent_pool, parent, snap, pool, name, options, false, id);
}

/* ---- The entry at the parent ---- */

/* That it has clones of version 2 is no feature of it any more, unless there are others. */
static int forget_clones(struct header *next, struct limpet_op *op, void *arg)
{
    struct limpet_image *parent = arg;
    bool has_clones = true;
    (void)op;
    if ((next->core.op_features & LIMPET_IMAGE_OP_CLONE_PARENT) == 0)
        return HEADER_SAME;
    int rc = snap_has_clones(parent->meta, parent->header_name, &has_clones);
    if (rc != 0)
        return rc;
    if (has_clones)
        return HEADER_SAME;
    next->core.op_features &= ~(uint64_t)LIMPET_IMAGE_OP_CLONE_PARENT;
    return 0;
}

/* Of version 2, the snapshot may have waited for this in the trash. */
static int parent_may_go(struct limpet_cluster *cluster, const struct image_core *core)
{
    struct limpet_image *parent;
    int rc = image_open_id(cluster, core->parent.pool, core->parent.space, core->parent.id, 0,
                           false, &parent);
    if (rc != 0)
        return rc == -ENOENT ? 0 : rc;
    size_t at = header_snap(&parent->header, core->parent_snap);
    if (at < parent->header.n_snaps && parent->header.snaps[at].kind == LIMPET_IMAGE_SNAP_TRASH)
        rc = snap_remove_from_trash(parent, core->parent_snap);
    if (rc == 0)
        rc = image_change(parent, forget_clones, parent);
    int closed = limpet_image_close(parent);
    return rc != 0 ? rc : closed;
}

int image_forget_child(struct limpet_cluster *cluster, const struct image_core *core,
                       const struct image_link *child)
{
    struct limpet_pool *pool;
    char key[IMAGE_KEY_MAX], object[IMAGE_OBJECT_NAME_MAX];
    if (!core->has_parent)
        return 0;
    int rc = pool_of_link(cluster, &core->parent, &pool);
    if (rc != 0)
        return rc == -ENOENT ? 0 : rc;
    header_object(core->parent.id, object);
    size_t len = image_child_key(key, core->parent_snap, child);
    rc = omap_remove(pool, object, key, len);
    limpet_pool_close(pool);
    if (rc == -ENOENT)
        return 0;
    return rc == 0 ? parent_may_go(cluster, core) : rc;
}

/* ---- Flattening ---- */

static void copied_up(struct copyup_waiter *waiter, int error)
{
    swept_end(container_of(waiter, struct swept, copyup), error);
}

static void begin_copyup(struct swept *swept)
{
    swept->copyup.done = copied_up;
    copyup(swept->arg, swept->object, &swept->copyup);
}

static void was_looked_for(struct limpet_completion *completion, void *arg)
{
    int rc = (int)limpet_completion_result(completion);
    if (rc == -ENOENT)
        begin_copyup(arg);
    else
        swept_end(arg, rc);
}

/* That the object map names it does not say that it is there. */
static int look_for(struct swept *swept)
{
    struct limpet_image *image = swept->arg;
    char name[IMAGE_OBJECT_NAME_MAX];
    struct limpet_completion *completion;
    struct limpet_stat *stat = malloc(sizeof *stat);
    swept->memory = stat;
    image_data_name(image, swept->object, name);
    int rc = stat != NULL ? limpet_completion_create(was_looked_for, swept, &completion) : -ENOMEM;
    return rc == 0
               ? swept_submitted(completion, limpet_aio_stat(image->bare, name, completion, stat))
               : rc;
}

static int start_copyup(struct swept *swept)
{
    struct limpet_image *image = swept->arg;
    uint64_t run;
    if (stripe_image_offset(&image->stripe, swept->object, 0, &run) >= image->overlap)
        return SWEEP_SKIP;
    if (map_ask(image, swept->object) != MAP_ABSENT)
        return look_for(swept);
    begin_copyup(swept);
    return 0;
}

/* What a snapshot shows of the parent, when everything was copied up that the head shows. */
struct flat_snap {
    uint64_t id, overlap;
    bool needs; /* Some object is not there that the parent has. */
};

struct flattening {
    uint64_t overlap;       /* That was copied, */
    struct image_view view; /* of the image as it was then. */
    struct exist shown;     /* Objects in which the parent has anything; unless they are few. */
    size_t n_snaps;
    struct flat_snap *snaps;
    bool orphaned;
    struct image_core before;
};

/* With the lock: those that may need no parent any more. */
static int take_snaps(const struct limpet_image *image, struct flattening *f)
{
    const struct header *header = &image->header;
    free(f->snaps);
    f->n_snaps = 0;
    f->snaps = calloc(header->n_snaps + 1, sizeof *f->snaps);
    for (size_t i = 0; i < header->n_snaps && f->snaps != NULL; i++) {
        uint64_t overlap = header->snaps[i].overlap;
        if (overlap > 0 && overlap <= f->overlap)
            f->snaps[f->n_snaps++] =
                (struct flat_snap){.id = header->snaps[i].id, .overlap = overlap};
    }
    return f->snaps != NULL ? 0 : -ENOMEM;
}

/* Whether the parent has nothing but zeroes in the first `len` bytes of an object. */
static int parent_is_zero(struct limpet_image *image, uint64_t object, uint64_t len, bool *zero)
{
    uint8_t *data = malloc(len);
    if (data == NULL)
        return -ENOMEM;
    ssize_t rc = 0;
    *zero = true;
    for (uint64_t at = 0; at < len && rc >= 0 && *zero;) {
        uint64_t run, offset = stripe_image_offset(&image->stripe, object, at, &run);
        run = run < len - at ? run : len - at;
        rc = limpet_image_read(image->parent, data, run, offset, 0);
        if (rc > 0)
            *zero = data[0] == 0 && memcmp(data, data + 1, (size_t)rc - 1) == 0;
        at += run;
    }
    free(data);
    return rc < 0 ? (int)rc : 0;
}

static int check_object(struct limpet_image *image, uint64_t object, struct flattening *f)
{
    char name[IMAGE_OBJECT_NAME_MAX];
    struct limpet_snapset *set = NULL, none = {0};
    image_data_name(image, object, name);
    int rc = limpet_list_snaps(image->bare, name, &set);
    if (rc == -ENOENT)
        rc = 0;
    for (size_t i = 0; i < f->n_snaps && rc == 0; i++) {
        struct flat_snap *snap = &f->snaps[i];
        uint64_t len = stripe_object_bytes(&image->stripe, object, snap->overlap);
        bool zero = true;
        if (len == 0 || snap->needs ||
            object_version_at(set != NULL ? set : &none, snap->id) != OBJECT_NO_VERSION)
            continue;
        rc = parent_is_zero(image, object, len, &zero);
        snap->needs = !zero && !planted(PLANTED_IMAGE_FLATTEN_ALL);
    }
    limpet_snapset_destroy(set);
    return rc;
}

/*
 * Which snapshots still need the parent. Objects that are copied up appear in earlier snapshots,
 * but not in those that are older than a former object of that name: one that a rollback removed.
 */
static int check_snaps(struct limpet_image *image, struct flattening *f)
{
    pthread_mutex_lock(&image->lock);
    int rc = take_snaps(image, f);
    pthread_mutex_unlock(&image->lock);
    uint64_t n = f->shown.known ? f->shown.n : stripe_objects(&image->stripe, f->overlap);
    for (uint64_t i = 0; i < n && rc == 0 && f->n_snaps > 0; i++)
        rc = check_object(image, f->shown.known ? f->shown.list[i] : i, f);
    return rc;
}

struct showing {
    const struct stripe *stripe;
    struct exist *shown;
};

static int add_shown(uint64_t offset, uint64_t len, bool exists, void *arg)
{
    struct showing *s = arg;
    uint64_t period = s->stripe->count << s->stripe->order;
    uint64_t end = (offset + len - 1) / period * s->stripe->count + s->stripe->count;
    int rc = 0;
    for (uint64_t object = offset / period * s->stripe->count; exists && object < end && rc == 0;
         object++) {
        if (s->shown->n == 0 || s->shown->list[s->shown->n - 1] < object)
            rc = exist_add(s->shown, object);
    }
    return rc;
}

/* Of a large parent that has little in it, what it has is found first. */
static int find_shown(struct limpet_image *image, struct flattening *f)
{
    struct showing s = {&image->stripe, &f->shown};
    exist_fini(&f->shown);
    if (stripe_objects(&image->stripe, f->overlap) <= SHOWN_FROM)
        return 0;
    f->shown.known = true;
    return image_diff_parent(image, 0, f->overlap, true, add_shown, &s);
}

static const struct flat_snap *find_flat(const struct flattening *f, uint64_t id)
{
    for (size_t i = 0; i < f->n_snaps; i++) {
        if (f->snaps[i].id == id)
            return &f->snaps[i];
    }
    return NULL;
}

static int forget_parent(struct header *next, struct limpet_op *op, void *arg)
{
    struct flattening *f = arg;
    bool needed = false;
    (void)op;
    if (!next->core.has_parent)
        return HEADER_SAME;
    /* It may have been rolled back meanwhile: to when it showed more, or less was copied. */
    if (next->core.generation != f->view.generation)
        return -EAGAIN;
    f->before = next->core;
    next->core.overlap = 0;
    for (size_t i = 0; i < next->n_snaps; i++) {
        struct image_snap *snap = &next->snaps[i];
        const struct flat_snap *flat = find_flat(f, snap->id);
        if (snap->overlap > f->overlap || (flat != NULL && flat->needs)) {
            needed = true;
        } else if (snap->overlap > 0) {
            snap->overlap = 0;
            /* It has objects now that were copied up later, of which its map does not know. */
            snap->flags |= LIMPET_IMAGE_OBJECT_MAP_INVALID | LIMPET_IMAGE_FAST_DIFF_INVALID;
        }
    }
    next->core.has_parent = needed;
    f->orphaned = !needed;
    return 0;
}

static int flatten(struct limpet_image *image, limpet_image_progress progress, void *arg)
{
    struct flattening f = {0};
    int rc;
    do {
        rc = image_breathe(image);
        if (rc != 0)
            break;
        pthread_mutex_lock(&image->lock);
        f.overlap = image->overlap;
        f.view = image_view(image);
        pthread_mutex_unlock(&image->lock);
        rc = find_shown(image, &f);
        if (rc != 0)
            continue;
        struct sweep s = {.image = image,
                          .view = f.view,
                          .breathes = true,
                          .end =
                              f.shown.known ? f.shown.n : stripe_objects(&image->stripe, f.overlap),
                          .list = f.shown.list,
                          .start = start_copyup,
                          .arg = image,
                          .progress = progress,
                          .progress_arg = arg};
        rc = sweep(&s);
        if (rc == 0)
            rc = check_snaps(image, &f);
        if (rc == 0)
            rc = image_change(image, forget_parent, &f);
    } while (rc == -EAGAIN);
    exist_fini(&f.shown);
    free(f.snaps);
    if (rc == 0 && f.orphaned) {
        struct image_link me;
        image_link_of(image, &me);
        rc = image_forget_child(image->cluster, &f.before, &me);
    }
    return rc;
}

int limpet_image_flatten(struct limpet_image *image, limpet_image_progress progress, void *arg)
{
    int rc = image_hold(image);
    if (rc != 0)
        return rc;
    pthread_mutex_lock(&image->lock);
    bool has_parent = image->header.core.has_parent;
    pthread_mutex_unlock(&image->lock);
    rc = has_parent ? flatten(image, progress, arg) : -EINVAL;
    image_unhold(image);
    return rc;
}

/* ---- Looking ---- */

void image_describe(struct limpet_cluster *cluster, const struct image_link *link,
                    struct limpet_image_spec *out)
{
    struct limpet_pool *pool;
    memset(out, 0, sizeof *out);
    out->pool = link->pool;
    memcpy(out->space, link->space, sizeof out->space);
    memcpy(out->id, link->id, sizeof out->id);
    if (pool_of_link(cluster, link, &pool) != 0)
        return;
    if (directory_name(pool, IMAGE_DIRECTORY, link->id, out->name) != 0) {
        struct limpet_image_trash trash;
        out->name[0] = 0;
        out->trash = limpet_image_trash_get(pool, link->id, &trash) == 0;
        if (out->trash)
            memcpy(out->name, trash.name, sizeof out->name);
    }
    limpet_pool_close(pool);
}

int limpet_image_parent(struct limpet_image *image, struct limpet_image_spec *out)
{
    pthread_mutex_lock(&image->lock);
    const struct image_core *core = &image->header.core;
    struct image_link link = core->parent;
    uint64_t snap = core->parent_snap;
    bool has_parent = core->has_parent && image->overlap > 0;
    struct limpet_image *parent = image->parent;
    pthread_mutex_unlock(&image->lock);
    if (!has_parent || parent == NULL)
        return -ENOENT;
    image_describe(image->cluster, &link, out);
    out->snap = snap;
    pthread_mutex_lock(&parent->lock);
    size_t at = header_snap(&parent->header, snap);
    if (at < parent->header.n_snaps)
        memcpy(out->snap_name, parent->header.snaps[at].name, sizeof out->snap_name);
    pthread_mutex_unlock(&parent->lock);
    return 0;
}

struct children {
    struct limpet_image *image;
    struct limpet_image_spec *list;
    size_t n;
};

static int add_spec(const struct limpet_pair *pair, void *arg)
{
    struct children *children = arg;
    struct image_link link;
    uint64_t snap;
    unsigned format;
    int rc = snap_check_child(children->image->meta, children->image->header_name, pair, &format);
    if (rc == 0)
        rc = image_child_key_decode(pair->key, pair->key_len, &snap, &link);
    if (rc != 0)
        return rc == -ENOENT ? 0 : rc;
    struct limpet_image_spec *more =
        realloc(children->list, (children->n + 1) * sizeof *children->list);
    if (more == NULL)
        return -ENOMEM;
    children->list = more;
    image_describe(children->image->cluster, &link, &more[children->n]);
    more[children->n++].snap = snap;
    return 0;
}

int limpet_image_children(struct limpet_image *image, struct limpet_image_spec **out, size_t *n)
{
    char prefix[IMAGE_KEY_MAX] = IMAGE_KEY_CHILD;
    struct children children = {.image = image};
    if (image->snap != 0)
        image_snap_key(prefix, IMAGE_KEY_CHILD, image->snap);
    int rc = omap_walk(image->meta, image->header_name, prefix, add_spec, &children);
    if (rc != 0) {
        free(children.list);
        return rc;
    }
    *out = children.list;
    *n = children.n;
    return 0;
}
