/* Snapshots and their clones. */
#include "tests/compat/images/images.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { LIST_MAX = 64 };

const char *draw_snap(void)
{
    static const char *const names[] = {"s", "s", "s", "t", "t", "u"};
    return PICK(names);
}

/* Numbers and names of what the library has named itself are not the same anywhere. */
void say_snaps(rbd_image_t image)
{
    rbd_snap_info_t snaps[LIST_MAX];
    rbd_snap_namespace_type_t type;
    char original[256];
    int max = LIST_MAX, is_protected = 0;
    int n = rbd_snap_list(image, snaps, &max);
    say(" snaps %d", n);
    for (int i = 0; i < n; i++) {
        int rc = rbd_snap_get_namespace_type(image, snaps[i].id, &type);
        say(" %d.%d:%llu", rc, (int)type, (unsigned long long)snaps[i].size);
        if (rc == 0 && type == RBD_SNAP_NAMESPACE_TYPE_USER) {
            rc = rbd_snap_is_protected(image, snaps[i].name, &is_protected);
            say("%s.%d.%d", snaps[i].name, rc, is_protected);
        }
        original[0] = 0;
        rc = rbd_snap_get_trash_namespace(image, snaps[i].id, original, sizeof original);
        say(".%d%s", rc, original);
    }
    if (n >= 0)
        rbd_snap_list_end(snaps);
}

static rbd_image_t begin(struct run *r)
{
    unsigned client = draw_client(), at = draw_image();
    say("%s/%s", spaces[targets[at].space], targets[at].name);
    return use(r, client, at);
}

/* Here the map still names objects that are not there any more. */
static void roll_back(rbd_image_t image, const char *name)
{
    int rc = rbd_snap_rollback(image, name);
    say_rc("rollback", rc);
    if (rc == 0)
        (void)rbd_rebuild_object_map(image, no_progress, NULL);
}

void op_snap(struct run *r)
{
    unsigned client = draw_client(), at = draw_image();
    say("%s/%s", spaces[targets[at].space], targets[at].name);
    const char *name = draw_snap();
    unsigned kind = (unsigned)below(12);
    /* It is refused while another client has the exclusive lock, and what takes that differs. */
    if (kind == 8 || kind == 9)
        leave(r, at);
    rbd_image_t image = use(r, client, at);
    if (image == NULL)
        return;
    say("@%s", name);
    if (kind < 6)
        say_rc("snap", rbd_snap_create(image, name));
    else if (kind < 8)
        say_rc("remove", rbd_snap_remove(image, name));
    else if (kind < 10)
        roll_back(image, name);
    else if (kind == 10)
        say_rc("protect", rbd_snap_protect(image, name));
    else
        say_rc("unprotect", rbd_snap_unprotect(image, name));
    if (kind >= 6 && kind < 10)
        say_contents(image);
}

static void remove_by_id(rbd_image_t image, const char *name)
{
    uint64_t id = 0;
    int rc = rbd_snap_get_id(image, name, &id);
    say_rc("id", rc);
    say_rc("remove", rbd_snap_remove_by_id(image, rc == 0 ? id : UINT64_C(1) << 40));
}

static void set_limit(rbd_image_t image)
{
    static const uint64_t limits[] = {1, 1, 2, 3, 5, UINT64_MAX, UINT64_MAX};
    uint64_t limit = PICK(limits), now = 7;
    say(" limit %llu", (unsigned long long)limit);
    say_rc(":", rbd_snap_set_limit(image, limit));
    say_rc("get", rbd_snap_get_limit(image, &now));
    say(" %llu", (unsigned long long)now);
    /* What is beyond it is 0 at times there. */
    (void)rbd_snap_set_limit(image, UINT64_MAX);
}

void op_snap_more(struct run *r)
{
    rbd_image_t image = begin(r);
    const char *name = draw_snap(), *other = draw_snap();
    unsigned kind = (unsigned)below(7);
    bool exists = false;
    if (image == NULL)
        return;
    say("@%s", name);
    if (kind == 0) {
        say(" rename %s", other);
        say_rc(":", rbd_snap_rename(image, name, other));
    } else if (kind <= 2) {
        uint32_t flags = (uint32_t)below(4);
        say(" remove2 %u", flags);
        say_rc(":", rbd_snap_remove2(image, name, flags, no_progress, NULL));
    } else if (kind == 3) {
        remove_by_id(image, name);
    } else if (kind == 4) {
        set_limit(image);
    } else if (kind == 5) {
        say_rc("exists", rbd_snap_exists(image, name, &exists));
        say(" %d", exists);
    } else {
        say_rc("create2",
               rbd_snap_create2(image, name, RBD_SNAP_CREATE_SKIP_QUIESCE, no_progress, NULL));
    }
    say_snaps(image);
}

/* Looks at a snapshot; what would change it is refused. */
void op_snap_look(struct run *r)
{
    rbd_image_t image = begin(r);
    const char *name = draw_snap();
    uint64_t size = 0, features = 0;
    if (image == NULL)
        return;
    say("@%s", name);
    int rc = rbd_snap_set(image, name);
    say_rc("set", rc);
    if (rc != 0)
        return;
    say_rc("size", rbd_get_size(image, &size));
    say(" %llu", (unsigned long long)size);
    say_contents(image);
    (void)rbd_get_features(image, &features);
    say(" features %llu", (unsigned long long)features);
    if (size > 0 && chance(40)) {
        say_rc("write", rbd_write(image, 0, 4, "data"));
        say_rc("discard", rbd_discard(image, 0, 4096));
        say_rc("resize", rbd_resize(image, 4096));
    }
    say_rc("head", rbd_snap_set(image, NULL));
}

static int by_place(const void *a, const void *b)
{
    const rbd_linked_image_spec_t *x = a, *y = b;
    int space = strcmp(x->pool_namespace, y->pool_namespace);
    return space != 0 ? space : strcmp(x->image_name, y->image_name);
}

static void say_specs(int rc, rbd_linked_image_spec_t *specs, size_t n)
{
    say(" %d %zu", rc, n);
    if (rc != 0)
        return;
    qsort(specs, n, sizeof *specs, by_place);
    for (size_t i = 0; i < n; i++) {
        say(" %s/", specs[i].pool_namespace);
        say_text(specs[i].image_name);
        say("%s", specs[i].trash ? " trash" : "");
    }
    rbd_linked_image_spec_list_cleanup(specs, n);
}

void op_children(struct run *r)
{
    rbd_linked_image_spec_t specs[LIST_MAX];
    rbd_image_t image = begin(r);
    const char *name = chance(50) ? draw_snap() : NULL;
    size_t n = chance(90) ? LIST_MAX : 0;
    if (image == NULL)
        return;
    say("@%s children", name != NULL ? name : "");
    int rc = name != NULL ? rbd_snap_set(image, name) : 0;
    say_rc("set", rc);
    if (rc != 0)
        return;
    rc = rbd_list_children3(image, specs, &n);
    say_specs(rc, specs, n);
    n = LIST_MAX;
    rc = rbd_list_descendants(image, specs, &n);
    say(" descendants");
    say_specs(rc, specs, n);
    if (name != NULL)
        (void)rbd_snap_set(image, NULL);
}
