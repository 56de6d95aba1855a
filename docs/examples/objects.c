/*
 * Objects through Ceph's C library, on a cluster of Limpet or of Ceph:
 *
 *     cc objects.c -o objects -lrados
 *     LD_LIBRARY_PATH=build/lib/compat CEPH_CONF=/etc/limpet/limpet.conf ./objects POOL
 *
 * Counts how often it was run, in an object's map, so that two of them at once count both.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rados/librados.h>

static void fail(const char *what, int rc)
{
    fprintf(stderr, "objects: %s: %s\n", what, strerror(-rc));
    exit(1);
}

/* What the map has under "runs"; an empty text if there is nothing yet. */
static int read_count(rados_ioctx_t io, const char *object, char *out, size_t size)
{
    const char *wanted[] = {"runs"};
    char *key, *value;
    size_t len;
    rados_omap_iter_t pairs;
    int result;
    rados_read_op_t op = rados_create_read_op();
    rados_read_op_omap_get_vals_by_keys(op, wanted, 1, &pairs, &result);
    int rc = rados_read_op_operate(op, io, object, 0);
    out[0] = 0;
    if (rc == 0 && rados_omap_get_next(pairs, &key, &value, &len) == 0 && key != NULL)
        snprintf(out, size, "%.*s", (int)len, value);
    rados_omap_get_end(pairs);
    rados_release_read_op(op);
    return rc == -ENOENT ? 0 : rc;
}

/* Everything happens, or nothing: -ECANCELED when another one has counted meanwhile. */
static int count_one(rados_ioctx_t io, const char *object, const char *before, const char *after)
{
    const char *keys[] = {"runs"}, *values[] = {after};
    size_t lens[] = {strlen(after)};
    int result;
    rados_write_op_t op = rados_create_write_op();
    if (before[0] == 0)
        rados_write_op_create(op, LIBRADOS_CREATE_EXCLUSIVE, NULL);
    else
        rados_write_op_omap_cmp(op, "runs", LIBRADOS_CMPXATTR_OP_EQ, before, strlen(before),
                                &result);
    rados_write_op_omap_set(op, keys, values, lens, 1);
    rados_write_op_write_full(op, "Counts in its map.", 18);
    rados_write_op_setxattr(op, "kind", "counter", 7);
    int rc = rados_write_op_operate(op, io, object, NULL, 0);
    rados_release_write_op(op);
    return rc;
}

static void count(rados_ioctx_t io, const char *object)
{
    char before[32], after[32];
    int rc;
    do {
        rc = read_count(io, object, before, sizeof before);
        if (rc != 0)
            fail("read the count", rc);
        snprintf(after, sizeof after, "%ld", strtol(before, NULL, 10) + 1);
        rc = count_one(io, object, before, after);
    } while (rc == -ECANCELED || rc == -EEXIST);
    if (rc != 0)
        fail("write the count", rc);
    printf("run %s\n", after);
}

int main(int argc, char **argv)
{
    rados_t cluster;
    rados_ioctx_t io;
    if (argc != 2) {
        fprintf(stderr, "usage: objects POOL\n");
        return 2;
    }
    int rc = rados_create(&cluster, "admin");
    if (rc == 0)
        rc = rados_conf_read_file(cluster, NULL);
    if (rc == 0)
        rc = rados_connect(cluster);
    if (rc != 0)
        fail("connect", rc);
    rc = rados_ioctx_create(cluster, argv[1], &io);
    if (rc != 0)
        fail(argv[1], rc);
    count(io, "example-counter");
    rados_ioctx_destroy(io);
    rados_shutdown(cluster);
    return 0;
}
