/* Making, copying, removing images; what they are. */
#include "tests/compat/images/images.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { LIST_MAX = 64 };

static void say_target(unsigned image)
{
    say("%s/%s", spaces[targets[image].space], targets[image].name);
}

/* ---- Options ---- */

static uint64_t draw_size(void)
{
    static const uint64_t small[] = {0, 1, 4096, 65536, 100000};
    static const uint64_t large[] = {300000, 524288, 1 << 20, (1 << 20) + 512, 2 << 20};
    return chance(20) ? PICK(small) : PICK(large);
}

static uint64_t draw_features(bool valid)
{
    static const uint64_t good[] = {RBD_FEATURE_LAYERING,
                                    RBD_FEATURE_LAYERING,
                                    0,
                                    61,
                                    61,
                                    61,
                                    RBD_FEATURE_LAYERING | RBD_FEATURE_EXCLUSIVE_LOCK,
                                    29,
                                    13,
                                    RBD_FEATURE_LAYERING | RBD_FEATURE_DEEP_FLATTEN};
    static const uint64_t bad[] = {RBD_FEATURE_OBJECT_MAP,
                                   RBD_FEATURE_FAST_DIFF,
                                   RBD_FEATURE_EXCLUSIVE_LOCK | RBD_FEATURE_FAST_DIFF,
                                   RBD_FEATURE_OPERATIONS,
                                   UINT64_C(1) << 20,
                                   UINT64_MAX};
    return valid ? PICK(good) : PICK(bad);
}

static uint64_t draw_order(bool valid)
{
    static const uint64_t good[] = {12, 13, 14, 16, 16, 18, 22};
    static const uint64_t bad[] = {1, 11, 26, 32, 64, 255};
    return valid ? PICK(good) : PICK(bad);
}

/*
 * Tells what it sets; what is wrong is one thing of them. `stripes`: what stripes there are is set
 * with an order, since otherwise they are those of another image there, which may be too large.
 */
static rbd_image_options_t draw_options(bool valid, bool stripes)
{
    rbd_image_options_t options;
    unsigned wrong = valid ? 9 : (unsigned)below(stripes ? 3 : 4);
    rbd_image_options_create(&options);
    if (chance(80) || wrong == 0) {
        uint64_t order = draw_order(wrong != 0);
        say(" order %llu", (unsigned long long)order);
        (void)rbd_image_options_set_uint64(options, RBD_IMAGE_OPTION_ORDER, order);
        if (wrong != 0 && wrong != 2 && order < 23 && (stripes || (wrong > 3 && chance(40)))) {
            uint64_t unit = UINT64_C(1) << (order - below(3)), count = 1 + below(4);
            say(" stripe %llu %llu", (unsigned long long)unit, (unsigned long long)count);
            (void)rbd_image_options_set_uint64(options, RBD_IMAGE_OPTION_STRIPE_UNIT, unit);
            (void)rbd_image_options_set_uint64(options, RBD_IMAGE_OPTION_STRIPE_COUNT, count);
        }
    }
    if (chance(80) || wrong == 1) {
        uint64_t features = draw_features(wrong != 1);
        say(" features %llu", (unsigned long long)features);
        (void)rbd_image_options_set_uint64(options, RBD_IMAGE_OPTION_FEATURES, features);
    }
    if (wrong == 2) {
        static const uint64_t units[] = {0, 1, 511, 5000, 1 << 23};
        uint64_t unit = PICK(units), count = below(3);
        say(" stripe %llu %llu", (unsigned long long)unit, (unsigned long long)count);
        (void)rbd_image_options_set_uint64(options, RBD_IMAGE_OPTION_STRIPE_UNIT, unit);
        (void)rbd_image_options_set_uint64(options, RBD_IMAGE_OPTION_STRIPE_COUNT, count);
    }
    if (wrong == 3) {
        say(" data pool");
        (void)rbd_image_options_set_string(options, RBD_IMAGE_OPTION_DATA_POOL, "no such pool");
    }
    return options;
}

int make_image(struct run *r, unsigned client, unsigned image, bool valid)
{
    uint64_t size = draw_size();
    say("create %llu", (unsigned long long)size);
    rbd_image_options_t options = draw_options(valid, false);
    int rc = rbd_create4(io_of(r, client, image), targets[image].name, size, options);
    rbd_image_options_destroy(options);
    say_rc(":", rc);
    return rc;
}

void op_create(struct run *r)
{
    unsigned client = draw_client(), image = draw_image(), kind = (unsigned)below(6);
    bool valid = chance(60);
    say_target(image);
    say(" ");
    if (kind > 2) {
        (void)make_image(r, client, image, valid);
        return;
    }
    int order = (int)draw_order(valid);
    uint64_t features = draw_features(chance(90)), size = draw_size();
    if (chance(20))
        order = 0;
    say("create%u %llu order %d features %llu", kind, (unsigned long long)size, order,
        (unsigned long long)features);
    rados_ioctx_t io = io_of(r, client, image);
    int rc = kind == 0   ? rbd_create2(io, targets[image].name, size, features, &order)
             : kind == 1 ? rbd_create3(io, targets[image].name, size, features, &order, 4096, 2)
                         : rbd_create3(io, targets[image].name, size, features, &order, 0, 0);
    say_rc(":", rc);
    say(" order %d", order);
}

/* ---- What an image is ---- */

static void say_parent(rbd_image_t image)
{
    rbd_linked_image_spec_t parent;
    rbd_snap_spec_t snap;
    uint64_t overlap = 0;
    int rc = rbd_get_parent(image, &parent, &snap);
    if (rc != 0) {
        say_rc("parent", rc);
        return;
    }
    (void)rbd_get_overlap(image, &overlap);
    say(" parent %s/", parent.pool_namespace);
    say_text(parent.image_name);
    say("@%s type %d%s overlap %llu",
        snap.namespace_type == RBD_SNAP_NAMESPACE_TYPE_TRASH ? "" : snap.name,
        (int)snap.namespace_type, parent.trash ? " trash" : "", (unsigned long long)overlap);
    rbd_linked_image_spec_cleanup(&parent);
    rbd_snap_spec_cleanup(&snap);
}

static void say_group(rbd_image_t image)
{
    rbd_group_info_t group = {0};
    int rc = rbd_get_group(image, &group, sizeof group);
    say(" group %d %s", rc, rc == 0 && group.name != NULL ? group.name : "");
    if (rc == 0)
        rbd_group_info_cleanup(&group, sizeof group);
}

void op_look(struct run *r)
{
    unsigned client = draw_client(), at = draw_image();
    rbd_image_info_t info;
    uint64_t features = 0, op_features = 0, flags = 0, unit = 0, count = 0, limit = 0;
    char name[256] = "";
    size_t len = chance(80) ? sizeof name : 1;
    uint8_t old = 9;
    say_target(at);
    say(" look");
    rbd_image_t image = use(r, client, at);
    if (image == NULL)
        return;
    say_rc("stat", rbd_stat(image, &info, sizeof info));
    say(" %llu %llu %llu %d", (unsigned long long)info.size, (unsigned long long)info.obj_size,
        (unsigned long long)info.num_objs, info.order);
    say_rc("features", rbd_get_features(image, &features));
    say_rc("op", rbd_get_op_features(image, &op_features));
    say_rc("flags", rbd_get_flags(image, &flags));
    say_rc("unit", rbd_get_stripe_unit(image, &unit));
    say_rc("count", rbd_get_stripe_count(image, &count));
    say_rc("old", rbd_get_old_format(image, &old));
    say(" %llu %llu %llu %llu %llu %u", (unsigned long long)features,
        (unsigned long long)op_features, (unsigned long long)flags, (unsigned long long)unit,
        (unsigned long long)count, old);
    say_rc("name", rbd_get_name(image, name, &len));
    say(" %zu ", len);
    say_text(name);
    say_rc("limit", rbd_snap_get_limit(image, &limit));
    say(" %llu", (unsigned long long)limit);
    say_parent(image);
    say_group(image);
    say_snaps(image);
    say_contents(image);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const rbd_image_spec_t *)a)->name, ((const rbd_image_spec_t *)b)->name);
}

void op_list(struct run *r)
{
    unsigned space = (unsigned)below(SPACES);
    rbd_image_spec_t images[LIST_MAX];
    size_t n = chance(70) ? LIST_MAX : below(3);
    say("%s/ list %zu", spaces[space], n);
    int rc = rbd_list2(r->io[0][space], images, &n);
    say_rc(":", rc);
    say(" %zu", n);
    if (rc != 0)
        return;
    qsort(images, n, sizeof *images, by_name);
    for (size_t i = 0; i < n; i++) {
        say(" ");
        say_text(images[i].name);
    }
    rbd_image_spec_list_cleanup(images, n);
}

/* ---- Changing it ---- */

void op_resize(struct run *r)
{
    unsigned client = draw_client(), at = draw_image();
    say_target(at);
    say(" resize");
    rbd_image_t image = use(r, client, at);
    if (image == NULL)
        return;
    uint64_t size = chance(70) ? draw_size() : below(1 << 20);
    unsigned kind = (unsigned)below(3);
    say(" %llu kind %u", (unsigned long long)size, kind);
    int rc = kind == 0 ? rbd_resize(image, size)
                       : rbd_resize2(image, size, kind == 1, no_progress, NULL);
    say_rc(":", rc);
    say_contents(image);
}

static bool has_snaps(rbd_image_t image)
{
    rbd_snap_info_t snaps[LIST_MAX];
    int max = LIST_MAX, n = rbd_snap_list(image, snaps, &max);
    if (n >= 0)
        rbd_snap_list_end(snaps);
    return n != 0;
}

void op_flatten(struct run *r)
{
    unsigned client = draw_client(), at = draw_image();
    say_target(at);
    say(" flatten");
    rbd_image_t image = use(r, client, at);
    if (image == NULL)
        return;
    /* There, without deep-flatten, snapshots keep the parent; here they never do. */
    uint64_t features = 0;
    (void)rbd_get_features(image, &features);
    if (has_snaps(image) && (features & RBD_FEATURE_DEEP_FLATTEN) == 0)
        return;
    say_rc(":", rbd_flatten(image));
    say_contents(image);
    say_parent(image);
}

void op_features(struct run *r)
{
    static const uint64_t bits[] = {
        RBD_FEATURE_EXCLUSIVE_LOCK,
        RBD_FEATURE_OBJECT_MAP,
        RBD_FEATURE_FAST_DIFF,
        RBD_FEATURE_OBJECT_MAP | RBD_FEATURE_FAST_DIFF,
        RBD_FEATURE_EXCLUSIVE_LOCK | RBD_FEATURE_OBJECT_MAP | RBD_FEATURE_FAST_DIFF,
        RBD_FEATURE_DEEP_FLATTEN,
        RBD_FEATURE_LAYERING,
        RBD_FEATURE_STRIPINGV2,
        RBD_FEATURE_OPERATIONS,
        UINT64_C(1) << 30,
        0,
    };
    unsigned client = draw_client(), at = draw_image();
    uint64_t features = PICK(bits), now = 0;
    bool enable = chance(50);
    say_target(at);
    say(" features %llu %s", (unsigned long long)features, enable ? "on" : "off");
    rbd_image_t image = use(r, client, at);
    if (image == NULL)
        return;
    say_rc(":", rbd_update_features(image, features, enable));
    /* Whether there are clones is told by the header; there by what the handle knew. */
    (void)rbd_get_features(image, &now);
    say(" %llu", (unsigned long long)(now & ~(uint64_t)RBD_FEATURE_OPERATIONS));
    if (chance(20))
        say_rc("rebuild", rbd_rebuild_object_map(image, no_progress, NULL));
}

void op_close(struct run *r)
{
    unsigned at = draw_image();
    say_target(at);
    say(" close");
    leave(r, at);
}

/* ---- Names ---- */

void op_remove(struct run *r)
{
    unsigned client = draw_client(), at = draw_image();
    say_target(at);
    say(" remove");
    if (chance(80))
        leave(r, at);
    say_rc(":", rbd_remove(io_of(r, client, at), targets[at].name));
}

void op_rename(struct run *r)
{
    unsigned client = draw_client(), at = draw_image(), to = draw_image();
    say_target(at);
    say(" rename ");
    say_text(targets[to].name);
    /* A handle knows the slot that it is in by its name; and there, its parent by the name that it
     * had when it was opened. */
    for (unsigned image = 0; image < IMAGES; image++)
        leave(r, image);
    say_rc(":", rbd_rename(io_of(r, client, at), targets[at].name, targets[to].name));
}

/* ---- Clones, copies ---- */

void op_clone(struct run *r)
{
    unsigned client = draw_client(), parent = draw_image(), child = draw_image();
    const char *snap = draw_snap();
    bool prepare = chance(60), protect = chance(50);
    unsigned format = (unsigned)below(3), kind = (unsigned)below(4);
    say_target(parent);
    say("@%s clone ", snap);
    say_target(child);
    if (prepare) {
        rbd_image_t image = use(r, client, parent);
        if (image == NULL)
            return;
        say_rc("snap", rbd_snap_create(image, snap));
        if (protect)
            say_rc("protect", rbd_snap_protect(image, snap));
    }
    int rc, order = chance(50) ? 0 : (int)draw_order(chance(90));
    if (kind == 0) {
        uint64_t features = draw_features(chance(90));
        say(" order %d features %llu", order, (unsigned long long)features);
        rc = rbd_clone2(io_of(r, client, parent), targets[parent].name, snap,
                        io_of(r, client, child), targets[child].name, features, &order, 0, 0);
    } else {
        rbd_image_options_t options = draw_options(chance(95), true);
        if (format != 0)
            (void)rbd_image_options_set_uint64(options, RBD_IMAGE_OPTION_CLONE_FORMAT, format);
        say(" format %u", format);
        rc = rbd_clone3(io_of(r, client, parent), targets[parent].name, snap,
                        io_of(r, client, child), targets[child].name, options);
        rbd_image_options_destroy(options);
    }
    say_rc(":", rc);
    rbd_image_t image = rc == 0 ? use(r, client, child) : NULL;
    if (image != NULL) {
        say_parent(image);
        say_contents(image);
    }
}

void op_copy(struct run *r)
{
    unsigned client = draw_client(), at = draw_image(), to = draw_image();
    bool deep = chance(50), flatten = chance(50);
    const char *snap = chance(30) ? draw_snap() : NULL;
    say_target(at);
    say(" %scopy ", deep ? "deep " : "");
    say_target(to);
    rbd_image_t image = use(r, client, at);
    int rc = image != NULL && snap != NULL ? rbd_snap_set(image, snap) : 0;
    if (image == NULL || rc != 0) {
        say_rc("set", rc);
        return;
    }
    rbd_image_options_t options = draw_options(chance(90), true);
    if (deep && flatten) {
        say(" flatten");
        (void)rbd_image_options_set_uint64(options, RBD_IMAGE_OPTION_FLATTEN, 1);
    }
    rados_ioctx_t io = io_of(r, client, to);
    rc = deep ? rbd_deep_copy(image, io, targets[to].name, options)
              : rbd_copy3(image, io, targets[to].name, options);
    rbd_image_options_destroy(options);
    r->copied |= rc == 0;
    say("%s%s", snap != NULL ? " @" : "", snap != NULL ? snap : "");
    say_rc(":", rc);
    if (snap != NULL)
        (void)rbd_snap_set(image, NULL);
    rbd_image_t copy = rc == 0 ? use(r, client, to) : NULL;
    if (copy != NULL) {
        say_parent(copy);
        say_snaps(copy);
        say_contents(copy);
    }
}

/* ---- What is refused ---- */

void op_bad_input(struct run *r)
{
    static char too_long[4097];
    static const char *const names[] = {"", "a/b", "a@b", "none", too_long};
    const char *name = PICK(names);
    unsigned kind = (unsigned)below(10);
    rados_ioctx_t io = r->io[0][0];
    rbd_image_t image = NULL;
    uint64_t size = 0;
    int order = 16, rc = 0;
    memset(too_long, 'n', 300);
    say("bad %u %.10s", kind, name);
    switch (kind) {
    case 0:
        rc = rbd_open(io, name, &image, NULL);
        break;
    case 1:
        rc = rbd_open(io, targets[0].name, &image, "none");
        break;
    case 2:
        rc = rbd_open_by_id(io, name, &image, NULL);
        break;
    case 3:
        rc = rbd_remove(io, "none");
        break;
    case 4:
        rc = rbd_rename(io, "none", targets[0].name);
        break;
    case 5:
        rc = rbd_rename(io, "none", "none2");
        break;
    case 7:
        rc = rbd_clone(io, "none", "s", io, "none2", 1, &order);
        break;
    case 8:
        rc = rbd_open_read_only(io, targets[1].name, &image, NULL);
        break;
    default:
        rc = rbd_trash_remove(io, "0123456789abcdef", false);
        break;
    }
    say_rc(":", rc);
    if (image == NULL || rc != 0)
        return;
    (void)rbd_get_size(image, &size);
    if (size > 0)
        say_rc("write", rbd_write(image, 0, 4, "data"));
    say_rc("snap", rbd_snap_create(image, "s"));
    say_rc("resize", rbd_resize(image, 1 << 20));
    say_rc("meta", rbd_metadata_set(image, "k", "v"));
    say_rc("flatten", rbd_flatten(image));
    say_rc("close", rbd_close(image));
}
