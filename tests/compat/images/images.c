/*
 * Applies sequences of random operations on block images to a cluster, Ceph's or ours: whichever
 * librbd.so.1 it is given. Prints a line for each; tests/compat/differential compares.
 *
 * Operations come in rounds. Each begins with a pool without images, so that a difference has no
 * consequences in later ones.
 */
#include "tests/compat/images/images.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

const char *const spaces[SPACES] = {"", "space"};
const struct target targets[IMAGES] = {
    {"a", 0}, {"b", 0}, {"c", 0}, {"d", 0}, {"long name, with spaces", 0}, {"a", 1},
};

/* ---- Images ---- */

unsigned draw_client(void)
{
    return chance(85) ? 0 : 1;
}

/* The first ones more often. */
unsigned draw_image(void)
{
    uint64_t limit = chance(60) ? 3 : IMAGES;
    return (unsigned)below(limit);
}

rados_ioctx_t io_of(struct run *r, unsigned client, unsigned image)
{
    return r->io[client][targets[image].space];
}

int no_progress(uint64_t done, uint64_t total, void *arg)
{
    (void)done;
    (void)total;
    (void)arg;
    return 0;
}

void say_rc(const char *what, long rc)
{
    say(" %s %ld", what, rc);
}

rbd_image_t use(struct run *r, unsigned client, unsigned image)
{
    rbd_image_t *at = &r->open[client][image];
    uint64_t size;
    if (*at != NULL) {
        (void)rbd_get_size(*at, &size); /* There it goes by what it knew, if nobody asks. */
        return *at;
    }
    int rc = rbd_open(io_of(r, client, image), targets[image].name, at, NULL);
    if (rc == -ENOENT) {
        say(" [");
        rc = make_image(r, client, image, true);
        say("]");
        if (rc == 0)
            rc = rbd_open(io_of(r, client, image), targets[image].name, at, NULL);
    }
    if (rc != 0) {
        say_rc("open", rc);
        *at = NULL;
    }
    return *at;
}

void leave(struct run *r, unsigned image)
{
    for (unsigned client = 0; client < CLIENTS; client++) {
        rbd_image_t *at = &r->open[client][image];
        int rc = *at != NULL ? rbd_close(*at) : 0;
        if (rc != 0)
            say_rc("close", rc);
        *at = NULL;
    }
}

void say_contents(rbd_image_t image)
{
    static char data[SIZE_MAX_BYTES];
    uint64_t size = 0;
    int rc = rbd_get_size(image, &size);
    if (rc != 0 || size > sizeof data) {
        say(" size %d %llu", rc, (unsigned long long)size);
        return;
    }
    ssize_t n = size > 0 ? rbd_read(image, 0, size, data) : 0;
    say(" all %zd of %llu", n, (unsigned long long)size);
    if (n > 0)
        say_data(data, (size_t)n);
}

/* ---- The program ---- */

static void fail(const char *what, int rc)
{
    fprintf(stderr, "images: %s: %s\n", what, strerror(-rc));
    exit(2);
}

static void check(const char *what, int rc)
{
    if (rc < 0)
        fail(what, rc);
}

/* Ceph's options that decide what can be seen. Ours has not got them: -ENOENT. */
static void configure(rados_t cluster)
{
    static const char *const options[][2] = {
        {"rbd_cache", "false"}, /* It knows nothing of the other client's writes. */
        {"rbd_skip_partial_discard", "false"},
        {"rbd_default_clone_format", "2"},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        (void)rados_conf_set(cluster, options[i][0], options[i][1]);
}

static void connect_to(struct run *r, const char *config, const char *pool)
{
    r->pool = pool;
    for (int i = 0; i < CLIENTS; i++) {
        check("create", rados_create(&r->cluster[i], "admin"));
        check(config, rados_conf_read_file(r->cluster[i], config));
        configure(r->cluster[i]);
        check("connect", rados_connect(r->cluster[i]));
        for (int space = 0; space < SPACES; space++) {
            check(pool, rados_ioctx_create(r->cluster[i], pool, &r->io[i][space]));
            rados_ioctx_set_namespace(r->io[i][space], spaces[space]);
        }
    }
    int rc = rbd_namespace_create(r->io[0][0], spaces[1]);
    if (rc != -EEXIST)
        check("namespace", rc);
}

static void disconnect(struct run *r)
{
    check("namespace", rbd_namespace_remove(r->io[0][0], spaces[1]));
    for (int i = 0; i < CLIENTS; i++) {
        for (int space = 0; space < SPACES; space++)
            rados_ioctx_destroy(r->io[i][space]);
        rados_shutdown(r->cluster[i]);
    }
}

/* What a snapshot's removal would not do: of one that is protected, or has clones. */
static void remove_snaps(rados_ioctx_t io, const char *name)
{
    rbd_snap_info_t snaps[64];
    rbd_image_t image;
    int max = 64, rc = rbd_open(io, name, &image, NULL);
    if (rc != 0)
        return;
    int n = rbd_snap_list(image, snaps, &max);
    for (int i = 0; i < n; i++)
        (void)rbd_snap_remove2(image, snaps[i].name, RBD_SNAP_REMOVE_FORCE, no_progress, NULL);
    if (n >= 0)
        rbd_snap_list_end(snaps);
    rbd_close(image);
}

/* The number of those that are left: one may need another one to go first. */
static size_t remove_images(rados_ioctx_t io, int *last)
{
    rbd_image_spec_t images[64];
    size_t n = 64;
    check("list", rbd_list2(io, images, &n));
    for (size_t i = 0; i < n; i++) {
        int rc = rbd_remove(io, images[i].name);
        if (rc == -ENOTEMPTY || rc == -EBUSY)
            remove_snaps(io, images[i].name);
        if (rc != 0)
            *last = rc;
    }
    rbd_image_spec_list_cleanup(images, n);
    return n;
}

static void remove_everything(struct run *r)
{
    int last = 0;
    for (unsigned image = 0; image < IMAGES; image++)
        leave(r, image);
    empty_spaces(r->io[0][0]);
    for (int turn = 0; turn < 20; turn++) {
        size_t n = 0;
        for (int space = 0; space < SPACES; space++) {
            empty_meta(r->io[0][space]);
            empty_groups(r->io[0][space]);
            empty_trash(r->io[0][space]);
            n += remove_images(r->io[0][space], &last);
        }
        if (n == 0)
            return;
    }
    fail("images cannot be removed", last);
}

static void run_operation(struct run *r)
{
    static void (*const kinds[])(struct run *) = {
        op_create,    op_look,      op_list,     op_resize,    op_remove,    op_rename, op_clone,
        op_clone,     op_flatten,   op_copy,     op_features,  op_bad_input, op_close,  op_write,
        op_write,     op_write,     op_write,    op_write,     op_write,     op_read,   op_read,
        op_diff,      op_diff,      op_diff,     op_snap,      op_snap,      op_snap,   op_snap,
        op_snap_more, op_snap_more, op_meta,     op_group,     op_group,     op_trash,  op_lock,
        op_space,     op_resize,    op_sparsify, op_snap_look, op_children,  op_clone,
    };
    PICK(kinds)(r);
}

int main(int argc, char **argv)
{
    static struct run r;
    if (argc != 7) {
        fprintf(stderr, "usage: images CONFIG POOL SEED FIRST-ROUND ROUNDS OPERATIONS\n");
        return 2;
    }
    uint64_t seed = strtoull(argv[3], NULL, 10), first = strtoull(argv[4], NULL, 10),
             rounds = strtoull(argv[5], NULL, 10), each = strtoull(argv[6], NULL, 10);
    setvbuf(stdout, NULL, _IOLBF, 1 << 16); /* What was reached is seen when it hangs. */
    connect_to(&r, argv[1], argv[2]);
    for (uint64_t round = first; round < first + rounds; round++) {
        remove_everything(&r);
        r.copied = false;
        for (uint64_t i = 0; i < each; i++) {
            lines_begin(seed, round, i);
            run_operation(&r);
            lines_end(round, i);
        }
    }
    remove_everything(&r);
    disconnect(&r);
    return fflush(stdout) == 0 ? 0 : 2;
}
