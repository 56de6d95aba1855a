/*
 * Snapshots: numbers of the pool, records in the header.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/image/snap.h"
#include "common/planted.h"

/* ---- Making ---- */

static int add_snap(struct header *next, struct limpet_op *op, void *arg)
{
    struct snap_creation *c = arg;
    struct image_core *core = &next->core;
    (void)op;
    c->asked = false;
    if (core->state == IMAGE_REMOVING)
        return -ENOENT;
    if (header_snap_named(next, c->name) < next->n_snaps)
        return -EEXIST;
    if (next->n_snaps >= LIMPET_IMAGE_SNAPS_MAX || next->n_snaps >= core->snap_limit)
        return -EDQUOT;
    /* Somebody else's number was newer: objects may know of that one already. */
    if (c->snap <= core->snap_seq)
        return -EAGAIN;
    struct image_snap *snap = header_snap_add(next);
    if (snap == NULL)
        return -ENOMEM;
    core->snap_seq = c->snap;
    *snap = (struct image_snap){.id = c->snap,
                                .ordinal = ++core->snap_ordinal,
                                .kind = (uint8_t)c->kind,
                                .size = core->size,
                                .overlap = core->has_parent ? core->overlap : 0,
                                .created_ns = image_now_ns(),
                                .flags = core->flags};
    if ((core->features & LIMPET_IMAGE_OBJECT_MAP) == 0)
        snap->flags |= LIMPET_IMAGE_OBJECT_MAP_INVALID | LIMPET_IMAGE_FAST_DIFF_INVALID;
    snprintf(snap->name, sizeof snap->name, "%s", c->name);
    if (c->group != NULL) {
        snap->group = *c->group;
        snprintf(snap->group_snap, sizeof snap->group_snap, "%s", c->group_snap);
    }
    c->asked = true;
    return 0;
}

int snap_create(struct limpet_image *image, struct snap_creation *c)
{
    int rc;
    do {
        rc = limpet_self_snap_create(image->bare, &c->snap);
        if (rc != 0)
            return rc;
        c->asked = false;
        rc = image_change(image, add_snap, c);
        /*
         * What nobody knows is given back; it costs nothing if that fails. But an error does not
         * say that the header was not changed: a snapshot would lose what it shows.
         */
        if (planted(PLANTED_IMAGE_SNAP_GIVEN_BACK))
            c->asked = false;
        if (rc != 0 && !c->asked && limpet_self_snap_remove(image->bare, c->snap) != 0 &&
            rc == -EAGAIN)
            rc = -EIO;
    } while (rc == -EAGAIN);
    return rc;
}

static int check_writable(const struct limpet_image *image)
{
    return image->read_only || image->snap != 0 ? -EROFS : 0;
}

int limpet_image_snap_create(struct limpet_image *image, const char *name)
{
    struct snap_creation c = {.name = name, .kind = LIMPET_IMAGE_SNAP_USER};
    int rc = image_check_name(name);
    if (rc == 0)
        rc = check_writable(image);
    return rc == 0 ? snap_create(image, &c) : rc;
}

/* ---- Removing ---- */

struct child_search {
    struct limpet_pool *meta;
    const char *header_name;
    unsigned other; /* Those of this version do not count; 0: all do. */
    bool found;
};

static int found_child(const struct limpet_pair *pair, void *arg)
{
    struct child_search *search = arg;
    unsigned format = 0;
    int rc = snap_check_child(search->meta, search->header_name, pair, &format);
    search->found = rc == 0 && (search->other == 0 || format != search->other);
    return search->found ? 1 : rc == -ENOENT ? 0 : rc;
}

int snap_check_child(struct limpet_pool *meta, const char *header_name,
                     const struct limpet_pair *pair, unsigned *format)
{
    struct image_link link;
    struct limpet_pool *pool;
    struct header header = {0};
    uint64_t snap;
    int rc = image_child_key_decode(pair->key, pair->key_len, &snap, &link);
    if (rc == 0)
        rc = pool_of_link(limpet_pool_cluster(meta), &link, &pool);
    if (rc == 0) {
        rc = header_read(pool, link.id, &header);
        *format = rc == 0 ? header.core.clone_format : 0;
        header_fini(&header);
        limpet_pool_close(pool);
    }
    if (rc != -ENOENT)
        return rc == -EBADMSG || rc == -ENOEXEC ? 0 : rc;
    int removed = omap_remove(meta, header_name, pair->key, pair->key_len);
    return removed == 0 ? -ENOENT : removed;
}

/* snap 0: of any. A clone whose version cannot be told counts. */
static int find_children(struct limpet_pool *meta, const char *header_name, uint64_t snap,
                         unsigned other, bool *has_children)
{
    char prefix[IMAGE_KEY_MAX] = IMAGE_KEY_CHILD;
    if (snap != 0)
        image_snap_key(prefix, IMAGE_KEY_CHILD, snap);
    struct child_search search = {.meta = meta, .header_name = header_name, .other = other};
    int rc = omap_walk(meta, header_name, prefix, found_child, &search);
    *has_children = search.found;
    return rc == 1 ? 0 : rc;
}

int snap_has_children(struct limpet_pool *meta, const char *header_name, uint64_t snap,
                      bool *has_children)
{
    return find_children(meta, header_name, snap, 0, has_children);
}

int snap_has_clones(struct limpet_pool *meta, const char *header_name, bool *has_clones)
{
    return find_children(meta, header_name, 0, 1, has_clones);
}

struct snap_removal {
    struct limpet_image *image;
    const char *name; /* NULL: by number. */
    uint64_t snap;
    bool from_trash; /* Only when it has no children. */
    bool kept;       /* It went to the trash. */
    bool orphaned;   /* The image has no parent any more: */
    struct image_core before;
};

/* Whether anything still shows the parent. */
static bool needs_parent(const struct header *header)
{
    bool needs = header->core.overlap > 0;
    for (size_t i = 0; i < header->n_snaps; i++)
        needs = needs || header->snaps[i].overlap > 0;
    return needs;
}

static int add_dead(struct limpet_op *op, uint64_t snap)
{
    char key[IMAGE_KEY_MAX];
    size_t len = image_snap_key(key, IMAGE_KEY_DEAD, snap);
    struct limpet_pair pair = {.key = key, .key_len = len, .value = "", .value_len = 0};
    return limpet_op_omap_set(op, &pair, 1);
}

static void put_in_trash(struct header *next, struct image_snap *snap)
{
    memcpy(snap->original, snap->name, sizeof snap->original);
    snprintf(snap->name, sizeof snap->name, "%016" PRIx64, snap->id);
    snap->kind = LIMPET_IMAGE_SNAP_TRASH;
    next->core.op_features |= LIMPET_IMAGE_OP_SNAP_TRASH;
}

static int remove_snap(struct header *next, struct limpet_op *op, void *arg)
{
    struct snap_removal *r = arg;
    bool has_children;
    size_t at = r->name != NULL ? header_snap_named(next, r->name) : header_snap(next, r->snap);
    if (at == next->n_snaps)
        return -ENOENT;
    struct image_snap *snap = &next->snaps[at];
    if (r->name != NULL && snap->kind != LIMPET_IMAGE_SNAP_USER)
        return -ENOENT;
    if (r->from_trash && snap->kind != LIMPET_IMAGE_SNAP_TRASH)
        return HEADER_SAME;
    if (snap->is_protected)
        return -EBUSY;
    r->snap = snap->id;
    int rc = snap_has_children(r->image->meta, r->image->header_name, snap->id, &has_children);
    if (rc != 0)
        return rc;
    r->kept = has_children;
    if (has_children && snap->kind == LIMPET_IMAGE_SNAP_TRASH)
        return r->from_trash ? HEADER_SAME : -EBUSY;
    if (has_children) {
        put_in_trash(next, snap);
        return 0;
    }
    header_snap_remove(next, at);
    r->before = next->core;
    r->orphaned = next->core.has_parent && !needs_parent(next);
    if (r->orphaned)
        next->core.has_parent = false;
    return add_dead(op, r->snap);
}

static int run_removal(struct snap_removal *r)
{
    struct limpet_image *image = r->image;
    char key[IMAGE_KEY_MAX];
    int rc = check_writable(image);
    if (rc == 0)
        rc = image_change(image, remove_snap, r);
    if (rc != 0 || r->kept || r->snap == 0)
        return rc;
    rc = limpet_self_snap_remove(image->bare, r->snap);
    size_t len = image_snap_key(key, IMAGE_KEY_DEAD, r->snap);
    if (rc == 0 || rc == -ENOENT)
        rc = omap_remove(image->meta, image->header_name, key, len);
    if (rc == 0 && r->orphaned) {
        struct image_link me;
        image_link_of(image, &me);
        rc = image_forget_child(image->cluster, &r->before, &me);
    }
    return rc;
}

int limpet_image_snap_remove(struct limpet_image *image, const char *name,
                             limpet_image_progress progress, void *arg)
{
    struct snap_removal r = {.image = image, .name = name};
    int rc = run_removal(&r);
    return rc == 0 && progress != NULL ? progress(1, 1, arg) : rc;
}

int limpet_image_snap_remove_id(struct limpet_image *image, uint64_t snap)
{
    struct snap_removal r = {.image = image, .snap = snap};
    return run_removal(&r);
}

int snap_remove_from_trash(struct limpet_image *image, uint64_t snap)
{
    struct snap_removal r = {.image = image, .snap = snap, .from_trash = true};
    int rc = run_removal(&r);
    return rc == -ENOENT ? 0 : rc;
}

/* ---- Changing ---- */

struct snap_change {
    struct limpet_image *image;
    const char *name, *to;
    bool protect;
};

static int rename_snap(struct header *next, struct limpet_op *op, void *arg)
{
    const struct snap_change *c = arg;
    size_t at = header_snap_named(next, c->name);
    (void)op;
    if (at == next->n_snaps)
        return -ENOENT;
    if (header_snap_named(next, c->to) < next->n_snaps)
        return -EEXIST;
    if (next->snaps[at].kind != LIMPET_IMAGE_SNAP_USER)
        return -EINVAL;
    memset(next->snaps[at].name, 0, sizeof next->snaps[at].name);
    snprintf(next->snaps[at].name, sizeof next->snaps[at].name, "%s", c->to);
    return 0;
}

int limpet_image_snap_rename(struct limpet_image *image, const char *name, const char *to)
{
    struct snap_change c = {.image = image, .name = name, .to = to};
    int rc = image_check_name(to);
    if (rc == 0)
        rc = check_writable(image);
    return rc == 0 ? image_change(image, rename_snap, &c) : rc;
}

static int protect_snap(struct header *next, struct limpet_op *op, void *arg)
{
    const struct snap_change *c = arg;
    bool has_children = false;
    size_t at = header_snap_named(next, c->name);
    (void)op;
    if (c->protect && (next->core.features & LIMPET_IMAGE_LAYERING) == 0)
        return -ENOSYS;
    if (at == next->n_snaps)
        return -ENOENT;
    if (next->snaps[at].kind != LIMPET_IMAGE_SNAP_USER)
        return -EINVAL;
    if (next->snaps[at].is_protected == c->protect)
        return c->protect ? -EBUSY : -EINVAL;
    if (!c->protect) {
        int rc = find_children(c->image->meta, c->image->header_name, next->snaps[at].id, 2,
                               &has_children);
        if (rc != 0 || has_children)
            return rc != 0 ? rc : -EBUSY;
    }
    next->snaps[at].is_protected = c->protect;
    return 0;
}

static int set_protection(struct limpet_image *image, const char *name, bool protect)
{
    struct snap_change c = {.image = image, .name = name, .protect = protect};
    int rc = check_writable(image);
    return rc == 0 ? image_change(image, protect_snap, &c) : rc;
}

int limpet_image_snap_protect(struct limpet_image *image, const char *name)
{
    return set_protection(image, name, true);
}

int limpet_image_snap_unprotect(struct limpet_image *image, const char *name)
{
    return set_protection(image, name, false);
}

/* ---- Going back ---- */

struct rollback {
    struct limpet_image *image;
    struct image_snap snap;
};

static int roll_back_header(struct header *next, struct limpet_op *op, void *arg)
{
    struct rollback *r = arg;
    (void)op;
    if (header_snap(next, r->snap.id) == next->n_snaps)
        return -ENOENT;
    /* It may have been taken while the image was being shrunk: its last objects are trimmed, too.
     */
    uint64_t set = next->core.stripe_count << next->core.order;
    uint64_t end = (r->snap.size + set - 1) / set * set;
    end = end < (uint64_t)LIMPET_IMAGE_SIZE_MAX ? end : (uint64_t)LIMPET_IMAGE_SIZE_MAX;
    next->core.size = r->snap.size;
    if (next->core.extent < end)
        next->core.extent = end;
    map_outgrown(&next->core);
    if (next->core.has_parent)
        next->core.overlap = r->snap.overlap;
    return 0;
}

static int roll_back(struct swept *swept)
{
    struct rollback *r = swept->arg;
    char name[IMAGE_OBJECT_NAME_MAX];
    struct limpet_completion *completion;
    swept->op = limpet_op_create();
    int rc = swept->op != NULL ? limpet_op_rollback(swept->op, r->snap.id) : -ENOMEM;
    if (rc == 0)
        rc = swept_completion(swept, &completion);
    if (rc != 0)
        return rc;
    image_data_name(r->image, swept->object, name);
    return swept_submitted(completion,
                           limpet_aio_operate(r->image->data, name, completion, swept->op));
}

static void noted(struct map_waiter *waiter, int error)
{
    struct swept *swept = container_of(waiter, struct swept, map);
    if (error == 0)
        error = roll_back(swept);
    if (error != 0)
        swept_end(swept, error);
}

static int start_rollback(struct swept *swept)
{
    struct rollback *r = swept->arg;
    if (!map_changed_since(r->image, swept->object, r->snap.ordinal))
        return SWEEP_SKIP;
    swept->map.done = noted;
    return map_note(r->image, swept->object, &swept->map) ? 0 : roll_back(swept);
}

/* -EAGAIN: the lease was lost. */
static int roll_back_once(struct rollback *r, limpet_image_progress progress, void *arg)
{
    struct limpet_image *image = r->image;
    pthread_mutex_lock(&image->lock);
    struct image_view view = image_view(image);
    pthread_mutex_unlock(&image->lock);
    int rc = image_change(image, roll_back_header, r);
    if (rc != 0)
        return rc;
    struct sweep s = {.image = image,
                      .view = view,
                      .end = stripe_objects(&image->stripe, image->header.core.extent),
                      .start = start_rollback,
                      .arg = r,
                      .progress = progress,
                      .progress_arg = arg};
    struct exist exist = {0};
    rc = sweep_what_exists(&s, true, &exist);
    if (rc == 0)
        rc = sweep(&s);
    exist_fini(&exist);
    return rc;
}

static int run_rollback(struct rollback *r, limpet_image_progress progress, void *arg)
{
    int rc;
    do {
        rc = image_breathe(r->image);
        if (rc == 0)
            rc = roll_back_once(r, progress, arg);
    } while (rc == -EAGAIN);
    return rc;
}

/* By name, or by number. */
static int find_and_roll_back(struct limpet_image *image, const char *name, uint64_t snap,
                              limpet_image_progress progress, void *arg)
{
    struct rollback r = {.image = image};
    int rc = image_hold(image);
    if (rc != 0)
        return rc;
    image_shut_gate(image);
    /* It may have been made by others whom we have not heard of yet. */
    rc = image_refresh(image);
    pthread_mutex_lock(&image->lock);
    size_t at =
        name != NULL ? header_snap_named(&image->header, name) : header_snap(&image->header, snap);
    if (rc == 0 && at == image->header.n_snaps)
        rc = -ENOENT;
    if (rc == 0)
        r.snap = image->header.snaps[at];
    pthread_mutex_unlock(&image->lock);
    if (rc == 0)
        rc = run_rollback(&r, progress, arg);
    if (rc == 0)
        rc = image_check_shown(image, r.snap.id);
    image_open_gate(image);
    /* What lies beyond its end now. */
    if (rc == 0)
        rc = image_trim(image);
    image_unhold(image);
    return rc;
}

/* Who writes the image would not notice that it became another one. */
static int check_unowned(struct limpet_image *image, const char *name)
{
    struct limpet_image_owner owner;
    bool mine = false;
    int rc = image->read_only ? -EROFS : image_refresh(image);
    if (rc != 0)
        return rc;
    pthread_mutex_lock(&image->lock);
    bool exclusive = (image->header.core.features & LIMPET_IMAGE_EXCLUSIVE_LOCK) != 0;
    bool exists = header_snap_named(&image->header, name) < image->header.n_snaps;
    pthread_mutex_unlock(&image->lock);
    rc = exists || image->snap != 0 ? limpet_image_lock_is_owner(image, &mine) : -ENOENT;
    if (rc != 0 || !exclusive || mine)
        return rc;
    rc = limpet_image_lock_owner(image, &owner);
    return rc == 0 ? -EROFS : rc == -ENOENT ? 0 : rc;
}

int limpet_image_snap_rollback(struct limpet_image *image, const char *name,
                               limpet_image_progress progress, void *arg)
{
    int rc = check_unowned(image, name);
    return rc != 0 ? rc : find_and_roll_back(image, name, 0, progress, arg);
}

int snap_roll_back(struct limpet_image *image, uint64_t snap, limpet_image_progress progress,
                   void *arg)
{
    return find_and_roll_back(image, NULL, snap, progress, arg);
}

/* ---- Looking ---- */

int limpet_image_snap_list(struct limpet_image *image, struct limpet_image_snap **out, size_t *n)
{
    pthread_mutex_lock(&image->lock);
    const struct header *header = &image->header;
    struct limpet_image_snap *list = calloc(header->n_snaps + 1, sizeof *list);
    for (size_t i = 0; i < header->n_snaps && list != NULL; i++) {
        const struct image_snap *snap = &header->snaps[i];
        list[i] = (struct limpet_image_snap){.id = snap->id,
                                             .size = snap->size,
                                             .created_ns = snap->created_ns,
                                             .kind = (enum limpet_image_snap_kind)snap->kind,
                                             .is_protected = snap->is_protected};
        memcpy(list[i].name, snap->name, sizeof list[i].name);
        memcpy(list[i].original, snap->original, sizeof list[i].original);
    }
    *out = list;
    *n = list != NULL ? header->n_snaps : 0;
    pthread_mutex_unlock(&image->lock);
    return list != NULL ? 0 : -ENOMEM;
}

static int set_limit(struct header *next, struct limpet_op *op, void *arg)
{
    const uint64_t *limit = arg;
    (void)op;
    if (next->n_snaps > *limit)
        return -ERANGE;
    next->core.snap_limit = *limit;
    return 0;
}

int limpet_image_snap_limit(struct limpet_image *image, uint64_t *limit)
{
    pthread_mutex_lock(&image->lock);
    *limit = image->header.core.snap_limit;
    pthread_mutex_unlock(&image->lock);
    return 0;
}

int limpet_image_snap_set_limit(struct limpet_image *image, uint64_t limit)
{
    int rc = check_writable(image);
    return rc == 0 ? image_change(image, set_limit, &limit) : rc;
}
