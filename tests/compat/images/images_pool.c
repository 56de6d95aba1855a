/* Groups, the trash, metadata, locks, namespaces. */
#include "tests/compat/images/images.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { LIST_MAX = 64, TEXT_MAX = 4096 };

/* ---- Groups ---- */

static const char *draw_group(void)
{
    static const char *const names[] = {"g", "g", "g", "g", "g", "h"};
    return PICK(names);
}

static void say_names(const char *names, size_t len)
{
    for (size_t at = 0; at < len; at += strlen(names + at) + 1) {
        say(" ");
        say_text(names + at);
    }
}

static int by_group_image(const void *a, const void *b)
{
    return strcmp(((const rbd_group_image_info_t *)a)->name,
                  ((const rbd_group_image_info_t *)b)->name);
}

static void list_group(rados_ioctx_t io, const char *group)
{
    rbd_group_image_info_t images[LIST_MAX];
    rbd_group_snap_info_t snaps[LIST_MAX];
    size_t n = LIST_MAX;
    int rc = rbd_group_image_list(io, group, images, sizeof *images, &n);
    say(" images %d", rc);
    if (rc >= 0) {
        qsort(images, n, sizeof *images, by_group_image);
        for (size_t i = 0; i < n; i++) {
            say(" ");
            say_text(images[i].name);
            say(".%d", (int)images[i].state);
        }
        rbd_group_image_list_cleanup(images, sizeof *images, n);
    }
    n = LIST_MAX;
    rc = rbd_group_snap_list(io, group, snaps, sizeof *snaps, &n);
    say(" snaps %d", rc);
    for (size_t i = 0; rc >= 0 && i < n; i++)
        say(" %s.%d", snaps[i].name, (int)snaps[i].state);
    if (rc >= 0)
        rbd_group_snap_list_cleanup(snaps, sizeof *snaps, n);
}

static void list_groups(rados_ioctx_t io)
{
    char names[TEXT_MAX];
    size_t len = chance(80) ? sizeof names : 1;
    int rc = rbd_group_list(io, names, &len);
    say(" list %d %zu", rc, rc != 0 ? len : 0);
    if (rc > 0)
        say_names(names, (size_t)rc);
}

static bool is_in_group(rados_ioctx_t io, const char *group, const char *image)
{
    rbd_group_image_info_t images[LIST_MAX];
    size_t n = LIST_MAX;
    bool found = false;
    if (rbd_group_image_list(io, group, images, sizeof *images, &n) < 0)
        return false;
    for (size_t i = 0; i < n && !found; i++)
        found = strcmp(images[i].name, image) == 0;
    rbd_group_image_list_cleanup(images, sizeof *images, n);
    return found;
}

/* Of an image that is in no group it is nothing there, and an error here. */
static void take_out(struct run *r, rados_ioctx_t io, const char *group, unsigned at)
{
    if (is_in_group(io, group, targets[at].name))
        say_rc("take out", rbd_group_image_remove(io, group, io_of(r, 0, at), targets[at].name));
}

static void change_group(struct run *r, rados_ioctx_t io, const char *group, const char *snap)
{
    unsigned kind = (unsigned)below(14), at = draw_image();
    rados_ioctx_t image_io = io_of(r, 0, at);
    const char *to = draw_group(), *snap_to = draw_snap();
    if (kind <= 1 || kind == 13)
        say_rc("create", rbd_group_create(io, group));
    else if (kind == 2)
        say_rc("remove", rbd_group_remove(io, group));
    else if (kind == 3)
        say_rc(to, rbd_group_rename(io, group, to));
    else if (kind <= 6)
        say_rc("add", rbd_group_image_add(io, group, image_io, targets[at].name));
    else if (kind == 7)
        take_out(r, io, group, at);
    else if (kind <= 9)
        say_rc("snap", rbd_group_snap_create(io, group, snap));
    else if (kind == 10)
        say_rc("snap remove", rbd_group_snap_remove(io, group, snap));
    else if (kind == 11)
        say_rc("snap rename", rbd_group_snap_rename(io, group, snap, snap_to));
    else
        say_rc("rollback", rbd_group_snap_rollback(io, group, snap));
    say(" %u", at);
}

void op_group(struct run *r)
{
    unsigned space = chance(80) ? 0 : 1;
    const char *group = draw_group(), *snap = draw_snap();
    rados_ioctx_t io = r->io[draw_client()][space];
    say("%s/ group %s@%s", spaces[space], group, snap);
    if (chance(10))
        list_groups(io);
    else
        change_group(r, io, group, snap);
    list_group(io, group);
}

static void empty_group(rados_ioctx_t io, const char *group)
{
    rbd_group_snap_info_t snaps[LIST_MAX];
    size_t n = LIST_MAX;
    if (rbd_group_snap_list(io, group, snaps, sizeof *snaps, &n) >= 0) {
        for (size_t i = 0; i < n; i++)
            (void)rbd_group_snap_remove(io, group, snaps[i].name);
        rbd_group_snap_list_cleanup(snaps, sizeof *snaps, n);
    }
    (void)rbd_group_remove(io, group);
}

void empty_groups(rados_ioctx_t io)
{
    char names[TEXT_MAX];
    size_t len = sizeof names;
    int rc = rbd_group_list(io, names, &len);
    for (size_t at = 0; rc > 0 && at < (size_t)rc; at += strlen(names + at) + 1)
        empty_group(io, names + at);
}

/* ---- The trash ---- */

/* The number of the image of this name that is in the trash. */
static bool find_trash(rados_ioctx_t io, const char *name, char id[64])
{
    rbd_trash_image_info_t entries[LIST_MAX];
    size_t n = LIST_MAX;
    bool found = false;
    if (rbd_trash_list(io, entries, &n) < 0)
        return false;
    for (size_t i = 0; i < n && !found; i++) {
        found = strcmp(entries[i].name, name) == 0;
        if (found)
            snprintf(id, 64, "%s", entries[i].id);
    }
    rbd_trash_list_cleanup(entries, n);
    return found;
}

static time_t deferment(const rbd_trash_image_info_t *entry)
{
    return entry->deferment_end_time - entry->deletion_time;
}

/* Of the same name: by deferment, as numbers of images are drawn. */
static int by_trash_name(const void *a, const void *b)
{
    const rbd_trash_image_info_t *x = a, *y = b;
    int name = strcmp(x->name, y->name);
    time_t difference = deferment(x) - deferment(y);
    return name != 0 ? name : (difference > 0) - (difference < 0);
}

static void list_trash(rados_ioctx_t io)
{
    rbd_trash_image_info_t entries[LIST_MAX];
    size_t n = LIST_MAX;
    int rc = rbd_trash_list(io, entries, &n);
    say(" trash %d %zu", rc, n);
    if (rc < 0)
        return;
    qsort(entries, n, sizeof *entries, by_trash_name);
    for (size_t i = 0; i < n; i++) {
        say(" ");
        say_text(entries[i].name);
        say(".%d.%lld", (int)entries[i].source, (long long)deferment(&entries[i]));
    }
    rbd_trash_list_cleanup(entries, n);
}

static bool is_grouped(rados_ioctx_t io, const char *name)
{
    rbd_group_info_t group = {0};
    rbd_image_t image;
    if (rbd_open_read_only(io, name, &image, NULL) != 0)
        return false;
    bool is = rbd_get_group(image, &group, sizeof group) == 0 && group.name[0] != 0;
    if (group.name != NULL)
        rbd_group_info_cleanup(&group, sizeof group);
    (void)rbd_close(image);
    return is;
}

void op_trash(struct run *r)
{
    unsigned at = draw_image(), kind = (unsigned)below(6);
    rados_ioctx_t io = io_of(r, 0, at);
    char id[64] = "0123456789ab";
    uint64_t delay = chance(50) ? 0 : 3600;
    say("%s/%s trash", spaces[targets[at].space], targets[at].name);
    bool found = kind > 2 && find_trash(io, targets[at].name, id);
    if (kind <= 2) {
        bool grouped = is_grouped(io, targets[at].name);
        leave(r, at); /* Here it is refused while it is open, there not always; */
        say(" delay %llu%s", (unsigned long long)delay, grouped ? " grouped" : "");
        if (!grouped) /* and while it is in a group. */
            say_rc("move", rbd_trash_move(io, targets[at].name, delay));
    } else if (kind == 3) {
        leave(r, at);
        const char *name = chance(50) ? "" : targets[at].name;
        say_rc("restore", rbd_trash_restore(io, id, name));
    } else if (kind == 4) {
        bool force = chance(50);
        say(" %s%s", found ? "found" : "none", force ? " force" : "");
        say_rc("remove", rbd_trash_remove(io, id, force));
    } else {
        say_rc("purge", rbd_trash_purge(io, 0, -1));
    }
    list_trash(io);
}

void empty_trash(rados_ioctx_t io)
{
    rbd_trash_image_info_t entries[LIST_MAX];
    char name[64];
    size_t n = LIST_MAX;
    if (rbd_trash_list(io, entries, &n) < 0)
        return;
    for (size_t i = 0; i < n; i++) {
        snprintf(name, sizeof name, "restored-%zu", i);
        (void)rbd_trash_restore(io, entries[i].id, name);
    }
    rbd_trash_list_cleanup(entries, n);
}

/* ---- Metadata ---- */

static const char *const meta_keys[] = {"k", "key", "a", "m/x", "conf_rbd_qos_iops_limit", "z z"};

void empty_meta(rados_ioctx_t io)
{
    for (size_t i = 0; i < sizeof meta_keys / sizeof *meta_keys; i++)
        (void)rbd_pool_metadata_remove(io, meta_keys[i]);
}

static void list_meta(rados_ioctx_t io, rbd_image_t image)
{
    static const char *const starts[] = {"", "", "k", "m", "zz"};
    char keys[TEXT_MAX], values[TEXT_MAX];
    const char *start = PICK(starts);
    uint64_t max = below(4);
    size_t keys_len = chance(90) ? sizeof keys : 2, values_len = sizeof values;
    int rc = image != NULL
                 ? rbd_metadata_list(image, start, max, keys, &keys_len, values, &values_len)
                 : rbd_pool_metadata_list(io, start, max, keys, &keys_len, values, &values_len);
    say(" list %s %llu: %d %zu %zu", start, (unsigned long long)max, rc, keys_len, values_len);
    if (rc != 0)
        return;
    say_names(keys, keys_len);
    say_names(values, values_len);
}

void op_meta(struct run *r)
{
    static const char *const values[] = {"v", "", "100", "a longer value"};
    unsigned client = draw_client(), at = draw_image(), kind = (unsigned)below(5);
    bool of_pool = chance(30);
    const char *key = PICK(meta_keys), *value = PICK(values);
    char got[64] = "";
    size_t len = chance(80) ? sizeof got : 1;
    say("%s/%s meta", spaces[targets[at].space], of_pool ? "" : targets[at].name);
    rados_ioctx_t io = io_of(r, client, at);
    rbd_image_t image = of_pool ? NULL : use(r, client, at);
    if (image == NULL && !of_pool)
        return;
    say(" %s", key);
    if (kind <= 1) {
        say(" = %s", value);
        say_rc(":", of_pool ? rbd_pool_metadata_set(io, key, value)
                            : rbd_metadata_set(image, key, value));
    } else if (kind == 2) {
        say_rc("get", of_pool ? rbd_pool_metadata_get(io, key, got, &len)
                              : rbd_metadata_get(image, key, got, &len));
        say(" %zu %s", len, got);
    } else if (kind == 3) {
        say_rc("remove",
               of_pool ? rbd_pool_metadata_remove(io, key) : rbd_metadata_remove(image, key));
    } else {
        list_meta(io, image);
    }
}

/* ---- Locks ---- */

enum { LOCKERS_MAX = 16 };

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Through a new handle: others know what there was when they read the header. By cookie, since they
 * are in the order of their clients' numbers. */
static void list_lockers(rados_ioctx_t io, const char *name)
{
    char tag[256] = "", clients[TEXT_MAX], cookies[TEXT_MAX], addrs[TEXT_MAX];
    size_t tag_len = sizeof tag, clients_len = TEXT_MAX, cookies_len = TEXT_MAX,
           addrs_len = TEXT_MAX;
    int exclusive = 7;
    rbd_image_t image;
    if (rbd_open_read_only(io, name, &image, NULL) != 0)
        return;
    ssize_t n = rbd_list_lockers(image, &exclusive, tag, &tag_len, clients, &clients_len, cookies,
                                 &cookies_len, addrs, &addrs_len);
    say(" lockers %zd", n);
    if (n > 0)
        say(" %d %s", exclusive, tag);
    const char *sorted[LOCKERS_MAX];
    size_t found = 0;
    for (size_t at = 0; n > 0 && at < cookies_len && found < LOCKERS_MAX;
         at += strlen(cookies + at) + 1)
        sorted[found++] = strncmp(cookies + at, "auto ", 5) == 0 ? "auto" : cookies + at;
    qsort(sorted, found, sizeof sorted[0], by_text);
    for (size_t i = 0; i < found; i++)
        say(" %s", sorted[i]);
    (void)rbd_close(image);
}

static void say_owners(rbd_image_t image)
{
    rbd_lock_mode_t mode = 7;
    char *owners[4];
    size_t n = 4;
    int rc = rbd_lock_get_owners(image, &mode, owners, &n), owner = 7;
    say(" owners %d %zu", rc, rc == 0 ? n : 0);
    if (rc == 0) {
        say(" %d", (int)mode);
        rbd_lock_get_owners_cleanup(owners, n);
    }
    rc = rbd_is_exclusive_lock_owner(image, &owner);
    say(" mine %d %d", rc, owner);
}

/* Which operations take the exclusive lock is nobody's business: only what was taken is told. */
static void exclusive_lock(rados_ioctx_t io, rbd_image_t image, const char *name)
{
    int rc = rbd_lock_acquire(image, RBD_LOCK_MODE_EXCLUSIVE);
    say_rc("acquire", rc);
    if (rc != 0)
        return;
    say_owners(image);
    list_lockers(io, name);
    if (chance(30))
        return;
    say_rc("release", rbd_lock_release(image));
    say_owners(image);
}

void op_lock(struct run *r)
{
    static const char *const cookies[] = {"x", "x", "y"};
    unsigned client = draw_client(), at = draw_image(), kind = (unsigned)below(8);
    const char *cookie = PICK(cookies), *tag = chance(70) ? "tag" : "other";
    uint64_t features = 0;
    say("%s/%s lock", spaces[targets[at].space], targets[at].name);
    rbd_image_t image = use(r, client, at);
    if (image == NULL)
        return;
    say(" %s %s", cookie, tag);
    if (kind <= 2) {
        exclusive_lock(io_of(r, client, at), image, targets[at].name);
        leave(r, at); /* Who keeps it does what others ask for there, but not here. */
        return;
    }
    if (kind == 7) {
        say_rc("acquire shared", rbd_lock_acquire(image, RBD_LOCK_MODE_SHARED));
        leave(r, at);
        return;
    }
    (void)rbd_get_features(image, &features);
    if (features & RBD_FEATURE_EXCLUSIVE_LOCK) /* Ceph has but one lock on an image. */
        return;
    if (kind == 3)
        say_rc("exclusive", rbd_lock_exclusive(image, cookie));
    else if (kind == 4)
        say_rc("shared", rbd_lock_shared(image, cookie, tag));
    else if (kind == 5)
        say_rc("unlock", rbd_unlock(image, cookie));
    else
        say_rc("break", rbd_break_lock(image, "client.1", cookie));
    list_lockers(io_of(r, client, at), targets[at].name);
}

/* ---- Namespaces ---- */

static const char *const names[] = {"other", "other", "space", "none", ""};

void empty_spaces(rados_ioctx_t io)
{
    (void)rbd_namespace_remove(io, "other");
    (void)rbd_namespace_remove(io, "none");
}

void op_space(struct run *r)
{
    rados_ioctx_t io = r->io[draw_client()][chance(90) ? 0 : 1];
    const char *name = PICK(names);
    unsigned kind = (unsigned)below(4);
    char text[TEXT_MAX];
    size_t len = chance(80) ? sizeof text : 3;
    bool exists = false;
    say("space '%s'", name);
    if (kind == 0) {
        say_rc("create", rbd_namespace_create(io, name));
    } else if (kind == 1 && strcmp(name, "space") != 0) {
        say_rc("remove", rbd_namespace_remove(io, name));
    } else if (kind == 2) {
        say_rc("exists", rbd_namespace_exists(io, name, &exists));
        say(" %d", exists);
    } else {
        int rc = rbd_namespace_list(io, text, &len);
        say(" list %d %zu", rc, rc != 0 ? len : 0);
        if (rc > 0)
            say_names(text, len);
    }
}
