/*
 * Groups: images whose snapshots are taken together.
 *
 * A group's object has a pair for each image (the key of a clone's entry, with 0 for the snapshot)
 * and one for each snapshot, "s/ID". An image's header names its group. Joining: pair, then header;
 * leaving: header, then pair. So an image that believes to be in a group is found there.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/image/manage.h"
#include "client/image/snap.h"

struct group {
    struct limpet_pool *pool;
    struct image_link link;
    char object[IMAGE_OBJECT_NAME_MAX];
};

static int find_group(struct limpet_pool *pool, const char *name, struct group *out)
{
    memset(out, 0, sizeof *out);
    out->pool = pool;
    out->link.pool = limpet_pool_id(pool);
    snprintf(out->link.space, sizeof out->link.space, "%s", limpet_pool_namespace(pool));
    int rc = directory_id(pool, IMAGE_GROUP_DIRECTORY, name, out->link.id);
    snprintf(out->object, sizeof out->object, IMAGE_GROUP_PREFIX "%.32s", out->link.id);
    return rc;
}

static int set_pair(const struct group *group, const char *key, size_t key_len, const void *value,
                    size_t len)
{
    struct limpet_pair pair = {.key = key, .key_len = key_len, .value = value, .value_len = len};
    struct limpet_op *op = limpet_op_create();
    int rc = op != NULL ? limpet_op_assert_exists(op) : -ENOMEM;
    if (rc == 0)
        rc = limpet_op_omap_set(op, &pair, 1);
    if (op != NULL)
        limpet_op_full_try(op);
    if (rc == 0)
        rc = limpet_operate(group->pool, group->object, op, NULL);
    if (op != NULL)
        limpet_op_destroy(op);
    return rc;
}

/* ---- Groups of a pool ---- */

int limpet_group_create(struct limpet_pool *pool, const char *name)
{
    struct group group;
    char id[LIMPET_IMAGE_ID_MAX + 1];
    int rc = image_check_name(name);
    if (rc == 0)
        rc = image_check_space(pool);
    if (rc != 0)
        return rc;
    image_new_id(id);
    rc = directory_add(pool, IMAGE_GROUP_DIRECTORY, name, id);
    if (rc == 0)
        rc = find_group(pool, name, &group);
    return rc == 0 ? limpet_create(pool, group.object, false) : rc;
}

int limpet_group_rename(struct limpet_pool *pool, const char *name, const char *to)
{
    struct group group;
    int rc = image_check_name(to);
    if (rc == 0)
        rc = find_group(pool, name, &group);
    return rc == 0 ? directory_rename(pool, IMAGE_GROUP_DIRECTORY, name, to, group.link.id) : rc;
}

int limpet_group_list(struct limpet_pool *pool, struct limpet_image_entry **out, size_t *n)
{
    return directory_list(pool, IMAGE_GROUP_DIRECTORY, out, n);
}

/* ---- Images of a group ---- */

struct members {
    struct image_link *list;
    size_t n;
};

static int add_member(const struct limpet_pair *pair, void *arg)
{
    struct members *members = arg;
    uint64_t zero;
    struct image_link *more = realloc(members->list, (members->n + 1) * sizeof *more);
    if (more == NULL)
        return -ENOMEM;
    members->list = more;
    if (members->n == IMAGE_GROUP_IMAGES_MAX)
        return -E2BIG;
    return image_child_key_decode(pair->key, pair->key_len, &zero, &more[members->n++]);
}

static int list_members(const struct group *group, struct members *out)
{
    memset(out, 0, sizeof *out);
    int rc = omap_walk(group->pool, group->object, IMAGE_KEY_CHILD, add_member, out);
    if (rc != 0) {
        free(out->list);
        out->list = NULL;
    }
    return rc;
}

static bool same_link(const struct image_link *a, const struct image_link *b)
{
    return a->pool == b->pool && strcmp(a->space, b->space) == 0 && strcmp(a->id, b->id) == 0;
}

/* -ENOENT: it was removed. */
static int is_member(const struct group *group, const struct image_link *link, bool *yes)
{
    struct header header = {0};
    struct limpet_pool *pool;
    int rc = pool_of_link(limpet_pool_cluster(group->pool), link, &pool);
    if (rc != 0)
        return rc;
    rc = header_read(pool, link->id, &header);
    *yes = rc == 0 && header.core.has_group && same_link(&header.core.group, &group->link);
    header_fini(&header);
    limpet_pool_close(pool);
    return rc;
}

/*
 * Those whose headers say so, too: joining begins with the entry here and leaving ends with it, and
 * somebody may have died in between. Entries of images that were removed then go.
 */
static int list_true_members(const struct group *group, struct members *out)
{
    char key[IMAGE_KEY_MAX];
    size_t kept = 0;
    int rc = list_members(group, out);
    for (size_t i = 0; i < out->n && rc == 0; i++) {
        struct image_link link = out->list[i];
        bool yes = false;
        rc = is_member(group, &link, &yes);
        if (rc == -ENOENT)
            rc = omap_remove(group->pool, group->object, key, image_child_key(key, 0, &link));
        if (yes)
            out->list[kept++] = link;
    }
    out->n = kept;
    if (rc != 0) {
        free(out->list);
        *out = (struct members){0};
    }
    return rc;
}

struct membership {
    const struct group *group;
    bool joins;
};

static int change_membership(struct header *next, struct limpet_op *op, void *arg)
{
    const struct membership *m = arg;
    struct image_core *core = &next->core;
    (void)op;
    bool ours = core->has_group && same_link(&core->group, &m->group->link);
    if (core->has_group && !ours)
        return m->joins ? -EEXIST : -EINVAL;
    if (m->joins == ours)
        return HEADER_SAME;
    core->has_group = m->joins;
    core->group = m->group->link;
    if (m->joins)
        core->op_features |= LIMPET_IMAGE_OP_GROUP;
    else
        core->op_features &= ~(uint64_t)LIMPET_IMAGE_OP_GROUP;
    return 0;
}

static int set_membership(struct limpet_pool *pool, const struct group *group, const char *id,
                          bool joins)
{
    struct membership m = {.group = group, .joins = joins};
    struct header header = {0};
    int rc = header_change(pool, id, &header, change_membership, &m);
    header_fini(&header);
    return rc == 0 ? image_tell(pool, id, NULL) : rc;
}

static void link_of_id(struct limpet_pool *pool, const char *id, struct image_link *out)
{
    memset(out, 0, sizeof *out);
    out->pool = limpet_pool_id(pool);
    snprintf(out->space, sizeof out->space, "%s", limpet_pool_namespace(pool));
    snprintf(out->id, sizeof out->id, "%.32s", id);
}

int limpet_group_add(struct limpet_pool *pool, const char *name, struct limpet_pool *image_pool,
                     const char *image)
{
    struct group group;
    struct header header = {0};
    struct image_link link;
    char id[LIMPET_IMAGE_ID_MAX + 1], key[IMAGE_KEY_MAX];
    int rc = find_group(pool, name, &group);
    if (rc == 0)
        rc = directory_id(image_pool, IMAGE_DIRECTORY, image, id);
    if (rc == 0)
        rc = header_read(image_pool, id, &header);
    /* An image of another group leaves no trace in this one; one of this group is in it. */
    bool ours = rc == 0 && header.core.has_group && same_link(&header.core.group, &group.link);
    if (rc == 0 && header.core.has_group && !ours)
        rc = -EEXIST;
    header_fini(&header);
    if (rc != 0)
        return rc;
    link_of_id(image_pool, id, &link);
    size_t len = image_child_key(key, 0, &link);
    /* Also of one that is in it: who took it out meanwhile may have removed the pair. */
    rc = set_pair(&group, key, len, "1", 1);
    return rc == 0 && !ours ? set_membership(image_pool, &group, id, true) : rc;
}

static int take_out(const struct group *group, const struct image_link *link)
{
    struct limpet_pool *pool;
    char key[IMAGE_KEY_MAX];
    int rc = pool_of_link(limpet_pool_cluster(group->pool), link, &pool);
    if (rc == 0) {
        rc = set_membership(pool, group, link->id, false);
        limpet_pool_close(pool);
    }
    size_t len = image_child_key(key, 0, link);
    /* It is gone, or another group's. */
    if (rc == -ENOENT || rc == -EINVAL)
        rc = 0;
    if (rc == 0)
        rc = omap_remove(group->pool, group->object, key, len);
    /* Somebody may have put it in again before the pair went. */
    bool again = false;
    if (rc == 0 && is_member(group, link, &again) == 0 && again)
        rc = set_pair(group, key, len, "1", 1);
    return rc;
}

int limpet_group_take_out_id(struct limpet_pool *pool, const char *name,
                             struct limpet_pool *image_pool, const char *id)
{
    struct group group;
    struct image_link link;
    struct members members;
    bool found = false;
    int rc = find_group(pool, name, &group);
    if (rc == 0 && !image_is_id(id))
        rc = -ENOENT;
    if (rc == 0)
        rc = list_members(&group, &members);
    if (rc != 0)
        return rc;
    link_of_id(image_pool, id, &link);
    for (size_t i = 0; i < members.n; i++)
        found = found || same_link(&members.list[i], &link);
    free(members.list);
    /* Its header counts, should the pair be missing. */
    if (!found)
        rc = is_member(&group, &link, &found);
    if (rc != 0)
        return rc;
    return found ? take_out(&group, &link) : -ENOENT;
}

int limpet_group_take_out(struct limpet_pool *pool, const char *name,
                          struct limpet_pool *image_pool, const char *image)
{
    struct group group;
    char id[LIMPET_IMAGE_ID_MAX + 1];
    int rc = find_group(pool, name, &group);
    if (rc == 0)
        rc = directory_id(image_pool, IMAGE_DIRECTORY, image, id);
    return rc == 0 ? limpet_group_take_out_id(pool, name, image_pool, id) : rc;
}

int limpet_group_images(struct limpet_pool *pool, const char *name, struct limpet_image_spec **out,
                        size_t *n)
{
    struct group group;
    struct members members = {0};
    int rc = find_group(pool, name, &group);
    if (rc == 0)
        rc = list_true_members(&group, &members);
    struct limpet_image_spec *list = rc == 0 ? calloc(members.n + 1, sizeof *list) : NULL;
    if (rc == 0 && list == NULL)
        rc = -ENOMEM;
    for (size_t i = 0; i < members.n && rc == 0; i++)
        image_describe(limpet_pool_cluster(pool), &members.list[i], &list[i]);
    if (rc == 0) {
        *out = list;
        *n = members.n;
    }
    free(members.list);
    return rc;
}

int limpet_image_group(struct limpet_image *image, struct limpet_image_spec *out)
{
    struct limpet_pool *pool;
    pthread_mutex_lock(&image->lock);
    bool has_group = image->header.core.has_group;
    struct image_link link = image->header.core.group;
    pthread_mutex_unlock(&image->lock);
    memset(out, 0, sizeof *out);
    if (!has_group)
        return -ENOENT;
    out->pool = link.pool;
    memcpy(out->space, link.space, sizeof out->space);
    memcpy(out->id, link.id, sizeof out->id);
    int rc = pool_of_link(image->cluster, &link, &pool);
    if (rc != 0)
        return rc;
    rc = directory_name(pool, IMAGE_GROUP_DIRECTORY, link.id, out->name);
    limpet_pool_close(pool);
    return rc;
}

/* ---- Snapshots of a group ---- */

static size_t snap_key(const char *id, char key[IMAGE_KEY_MAX])
{
    return (size_t)snprintf(key, IMAGE_KEY_MAX, IMAGE_KEY_SNAP "%.32s", id);
}

static int put_snap(const struct group *group, const char *id, const struct image_group_snap *snap)
{
    char key[IMAGE_KEY_MAX];
    struct encoder e;
    encoder_init(&e);
    image_group_snap_encode(&e, snap);
    size_t len = snap_key(id, key);
    int rc = e.failed ? -ENOMEM : set_pair(group, key, len, e.data, e.len);
    encoder_fini(&e);
    return rc;
}

struct finding {
    const char *name;
    char id[LIMPET_IMAGE_ID_MAX + 1];
    struct image_group_snap snap; /* Of that name. */
    struct limpet_group_snap *list;
    size_t n;
};

static int look_at_snap(const struct limpet_pair *pair, void *arg)
{
    struct finding *f = arg;
    struct image_group_snap snap;
    size_t id_len = pair->key_len - 2;
    if (id_len > LIMPET_IMAGE_ID_MAX)
        return -EBADMSG;
    int rc = image_group_snap_decode(pair->value, pair->value_len, &snap);
    if (rc != 0)
        return rc;
    if (f->name != NULL && strcmp(snap.name, f->name) == 0) {
        memcpy(f->id, (const char *)pair->key + 2, id_len);
        f->snap = snap;
        return 1;
    }
    if (f->name == NULL) {
        struct limpet_group_snap *more = realloc(f->list, (f->n + 1) * sizeof *more);
        if (more != NULL) {
            struct limpet_group_snap *last = &more[f->n++];
            f->list = more;
            *last = (struct limpet_group_snap){.complete = snap.complete};
            memcpy(last->id, (const char *)pair->key + 2, id_len);
            memcpy(last->name, snap.name, sizeof snap.name);
        } else {
            rc = -ENOMEM;
        }
    }
    image_group_snap_fini(&snap);
    return rc;
}

/* image_group_snap_fini(&f->snap) after success. */
static int find_snap(const struct group *group, const char *name, struct finding *f)
{
    *f = (struct finding){.name = name};
    int rc = omap_walk(group->pool, group->object, IMAGE_KEY_SNAP, look_at_snap, f);
    return rc == 1 ? 0 : rc == 0 ? -ENOENT : rc;
}

int limpet_group_snap_list(struct limpet_pool *pool, const char *name,
                           struct limpet_group_snap **out, size_t *n)
{
    struct group group;
    struct finding f = {0};
    int rc = find_group(pool, name, &group);
    if (rc == 0)
        rc = omap_walk(pool, group.object, IMAGE_KEY_SNAP, look_at_snap, &f);
    if (rc != 0) {
        free(f.list);
        return rc;
    }
    *out = f.list;
    *n = f.n;
    return 0;
}

static int open_member(const struct group *group, const struct image_link *link,
                       struct limpet_image **out)
{
    return image_open_id(limpet_pool_cluster(group->pool), link->pool, link->space, link->id, 0,
                         false, out);
}

/* The image's part of a group's snapshot; 0: it has none. */
static uint64_t part_of_snap(struct limpet_image *image, const struct group *group, const char *id)
{
    uint64_t found = 0;
    pthread_mutex_lock(&image->lock);
    for (size_t i = 0; i < image->header.n_snaps; i++) {
        const struct image_snap *snap = &image->header.snaps[i];
        if (snap->kind == LIMPET_IMAGE_SNAP_GROUP && same_link(&snap->group, &group->link) &&
            strcmp(snap->group_snap, id) == 0)
            found = snap->id;
    }
    pthread_mutex_unlock(&image->lock);
    return found;
}

/*
 * Removes what there is of it. Whoever made it may have died before it could write down which
 * snapshots it had made, but these say themselves what they are.
 */
static int drop_snap(const struct group *group, const char *id, const struct image_group_snap *snap)
{
    char key[IMAGE_KEY_MAX];
    int rc = 0;
    for (uint32_t i = 0; i < snap->n && rc == 0; i++) {
        struct limpet_image *image;
        rc = open_member(group, &snap->images[i], &image);
        if (rc == 0) {
            uint64_t part = part_of_snap(image, group, id);
            rc = part != 0 ? limpet_image_snap_remove_id(image, part) : 0;
            int closed = limpet_image_close(image);
            rc = rc == 0 ? closed : rc;
        }
        rc = rc == -ENOENT ? 0 : rc;
    }
    size_t len = snap_key(id, key);
    return rc == 0 ? omap_remove(group->pool, group->object, key, len) : rc;
}

/* Images that stand still: the lease is held, the gate is shut. */
static int still(struct limpet_image *image)
{
    int rc = image_hold(image);
    if (rc == 0)
        image_shut_gate(image);
    return rc;
}

static void move_again(struct limpet_image *image)
{
    image_open_gate(image);
    image_unhold(image);
}

static int snap_all(const struct group *group, const char *id, struct image_group_snap *snap,
                    struct limpet_image **images)
{
    char name[LIMPET_IMAGE_NAME_MAX + 1];
    struct snap_creation c = {
        .name = name, .kind = LIMPET_IMAGE_SNAP_GROUP, .group = &group->link, .group_snap = id};
    uint32_t n_still = 0;
    int rc = 0;
    snprintf(name, sizeof name, ".group.%" PRIu64 "_%.32s_%.32s", group->link.pool, group->link.id,
             id);
    for (uint32_t i = 0; i < snap->n && rc == 0; i++) {
        rc = still(images[i]);
        n_still += rc == 0;
    }
    if (rc == -EROFS)
        rc = -EBUSY;
    for (uint32_t i = 0; i < snap->n && rc == 0; i++) {
        rc = snap_create(images[i], &c);
        snap->snaps[i] = rc == 0 ? c.snap : 0;
    }
    for (uint32_t i = 0; i < n_still; i++)
        move_again(images[i]);
    return rc;
}

static int snap_members(const struct group *group, const char *id, struct image_group_snap *snap)
{
    struct limpet_image **images = calloc((size_t)snap->n + 1, sizeof *images);
    uint32_t n = 0;
    int rc = images != NULL ? 0 : -ENOMEM;
    for (; n < snap->n && rc == 0; n++) {
        rc = open_member(group, &snap->images[n], &images[n]);
        if (rc != 0)
            break;
    }
    if (rc == 0)
        rc = snap_all(group, id, snap, images);
    while (n > 0) {
        int closed = limpet_image_close(images[--n]);
        rc = rc == 0 ? closed : rc;
    }
    free(images);
    return rc;
}

int limpet_group_snap_create(struct limpet_pool *pool, const char *name, const char *snap_name)
{
    struct group group;
    struct members members = {0};
    struct finding f;
    char id[LIMPET_IMAGE_ID_MAX + 1];
    int rc = image_check_name(snap_name);
    if (rc == 0)
        rc = find_group(pool, name, &group);
    if (rc != 0)
        return rc;
    rc = find_snap(&group, snap_name, &f);
    if (rc == 0) {
        image_group_snap_fini(&f.snap);
        return -EEXIST;
    }
    if (rc == -ENOENT)
        rc = list_true_members(&group, &members);
    if (rc != 0)
        return rc;
    struct image_group_snap snap = {.n = (uint32_t)members.n, .images = members.list};
    snprintf(snap.name, sizeof snap.name, "%s", snap_name);
    snap.snaps = calloc(members.n + 1, sizeof *snap.snaps);
    image_new_id(id);
    rc = snap.snaps != NULL ? put_snap(&group, id, &snap) : -ENOMEM;
    if (rc == 0) {
        rc = snap_members(&group, id, &snap);
        snap.complete = rc == 0;
        if (rc == 0)
            rc = put_snap(&group, id, &snap);
        /* The error is what matters; what is left can be removed. */
        else if (drop_snap(&group, id, &snap) != 0)
            snap.complete = false;
    }
    image_group_snap_fini(&snap);
    return rc;
}

int limpet_group_snap_remove(struct limpet_pool *pool, const char *name, const char *snap)
{
    struct group group;
    struct finding f;
    int rc = find_group(pool, name, &group);
    if (rc == 0)
        rc = find_snap(&group, snap, &f);
    if (rc != 0)
        return rc;
    /* Who dies now leaves one that nobody rolls back to. */
    if (f.snap.complete) {
        f.snap.complete = false;
        rc = put_snap(&group, f.id, &f.snap);
    }
    if (rc == 0)
        rc = drop_snap(&group, f.id, &f.snap);
    image_group_snap_fini(&f.snap);
    return rc;
}

int limpet_group_snap_rename(struct limpet_pool *pool, const char *name, const char *snap,
                             const char *to)
{
    struct group group;
    struct finding f, taken;
    int rc = image_check_name(to);
    if (rc == 0 && strcmp(snap, to) == 0)
        rc = -EEXIST;
    if (rc == 0)
        rc = find_group(pool, name, &group);
    if (rc == 0)
        rc = find_snap(&group, snap, &f);
    if (rc != 0)
        return rc;
    rc = find_snap(&group, to, &taken);
    if (rc == 0) {
        image_group_snap_fini(&taken.snap);
        rc = -EEXIST;
    } else if (rc == -ENOENT) {
        snprintf(f.snap.name, sizeof f.snap.name, "%s", to);
        rc = put_snap(&group, f.id, &f.snap);
    }
    image_group_snap_fini(&f.snap);
    return rc;
}

int limpet_group_snap_rollback(struct limpet_pool *pool, const char *name, const char *snap,
                               limpet_image_progress progress, void *arg)
{
    struct group group;
    struct finding f;
    int rc = find_group(pool, name, &group);
    if (rc == 0)
        rc = find_snap(&group, snap, &f);
    if (rc != 0)
        return rc;
    rc = f.snap.complete ? 0 : -EINVAL;
    for (uint32_t i = 0; i < f.snap.n && rc == 0; i++) {
        struct limpet_image *image;
        rc = open_member(&group, &f.snap.images[i], &image);
        if (rc == 0) {
            rc = snap_roll_back(image, f.snap.snaps[i], NULL, NULL);
            int closed = limpet_image_close(image);
            rc = rc == 0 ? closed : rc;
        }
        if (rc == 0 && progress != NULL)
            rc = progress(i + 1, f.snap.n, arg);
    }
    image_group_snap_fini(&f.snap);
    return rc;
}

/* ---- Removing a group ---- */

int limpet_group_remove(struct limpet_pool *pool, const char *name)
{
    struct group group;
    struct members members = {0};
    struct limpet_group_snap *snaps = NULL;
    size_t n = 0;
    int rc = find_group(pool, name, &group);
    if (rc == 0)
        rc = limpet_group_snap_list(pool, name, &snaps, &n);
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = limpet_group_snap_remove(pool, name, snaps[i].name);
    limpet_free(snaps);
    if (rc == 0)
        rc = list_members(&group, &members);
    for (size_t i = 0; i < members.n && rc == 0; i++)
        rc = take_out(&group, &members.list[i]);
    free(members.list);
    if (rc == 0)
        rc = limpet_remove(pool, group.object);
    if (rc == 0 || rc == -ENOENT)
        rc = directory_remove(pool, IMAGE_GROUP_DIRECTORY, name, group.link.id);
    return rc;
}
