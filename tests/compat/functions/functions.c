/*
 * functions CONF POOL: the functions of librados that no program of the distribution imports, one
 * line for each call with what it gave. It runs on Ceph's library and on ours; README.md of the
 * folder above tells what for. POOL and POOL-self are new and empty.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rados/librados.h>

int rados_tmap_put(rados_ioctx_t io, const char *object, const char *buf, size_t len);
int rados_tmap_update(rados_ioctx_t io, const char *object, const char *buf, size_t len);
int rados_tmap_get(rados_ioctx_t io, const char *object, char *buf, size_t len);

enum { OBJECTS = 40 };

/* The call as it is written here, and its result. */
#define SAY(call) say(#call, (long long)(call))
/* An asynchronous one: also what its completion gave. */
#define SAY_LATER(call)                                                                            \
    do {                                                                                           \
        rados_aio_create_completion2(NULL, NULL, &done);                                           \
        SAY(call);                                                                                 \
        rados_aio_wait_for_safe_and_cb(done);                                                      \
        say("its result", rados_aio_get_return_value(done));                                       \
        rados_aio_release(done);                                                                   \
    } while (0)

static void say(const char *what, long long result)
{
    printf("%s -> %lld\n", what, result);
    fflush(stdout);
}

static void say_text(const char *text, size_t len)
{
    printf("  ");
    for (size_t i = 0; i < len; i++)
        printf(text[i] > ' ' && text[i] < 127 ? "%c" : "\\%02x", (unsigned char)text[i]);
    printf("\n");
}

/* ---- Contexts, and single calls ---- */

static void contexts(rados_ioctx_t io)
{
    char buf[16] = "";
    uint64_t auid = 7;
    SAY(rados_ioctx_get_namespace(io, buf, sizeof buf));
    rados_ioctx_set_namespace(io, "abc");
    SAY(rados_ioctx_get_namespace(io, buf, 3));
    SAY(rados_ioctx_get_namespace(io, buf, 4));
    say_text(buf, strlen(buf));
    rados_ioctx_set_namespace(io, "");
    SAY(rados_ioctx_pool_get_auid(io, &auid));
    SAY(auid);
    SAY(rados_ioctx_pool_set_auid(io, 1));
    SAY(rados_ioctx_pool_requires_alignment(io));
    SAY(rados_ioctx_pool_required_alignment(io));
    rados_set_osdmap_full_try(io);
    SAY(rados_write_full(io, "o", "hello world", 11));
    rados_unset_osdmap_full_try(io);
    SAY(rados_tmap_put(io, "o", "x", 1));
    SAY(rados_tmap_update(io, "o", "x", 1));
    SAY(rados_tmap_get(io, "o", buf, sizeof buf));
    SAY(rados_cache_pin(io, "o"));
    SAY(rados_cache_unpin(io, "none"));
    SAY(rados_set_alloc_hint(io, "hinted", 4096, 4096));
    SAY(rados_set_alloc_hint2(io, "hinted2", 1, 1, LIBRADOS_ALLOC_HINT_FLAG_IMMUTABLE));
    SAY(rados_remove(io, "hinted"));
    SAY(rados_remove(io, "hinted2"));
}

static void sums(rados_ioctx_t io)
{
    const char zero[8] = "", ones[4] = "\377\377\377\377";
    char buf[64] = "";
    rados_checksum_type_t crc = LIBRADOS_CHECKSUM_TYPE_CRC32C,
                          xx32 = LIBRADOS_CHECKSUM_TYPE_XXHASH32,
                          xx64 = LIBRADOS_CHECKSUM_TYPE_XXHASH64;
    SAY(rados_checksum(io, "o", crc, ones, 4, 11, 0, 0, buf, sizeof buf));
    say_text(buf, 8);
    SAY(rados_checksum(io, "o", xx32, zero, 4, 4, 3, 0, buf, sizeof buf));
    say_text(buf, 8);
    SAY(rados_checksum(io, "o", xx64, zero, 8, 10, 0, 5, buf, sizeof buf));
    say_text(buf, 20);
    SAY(rados_checksum(io, "o", crc, zero, 4, 11, 0, 0, buf, 7));
    SAY(rados_checksum(io, "o", crc, zero, 3, 11, 0, 0, buf, sizeof buf));
    SAY(rados_checksum(io, "o", crc, zero, 8, 11, 0, 0, buf, sizeof buf));
    SAY(rados_checksum(io, "o", crc, zero, 4, 11, 0, 4, buf, sizeof buf));
    SAY(rados_checksum(io, "none", crc, zero, 4, 11, 0, 0, buf, sizeof buf));
}

/* ---- Operations of several steps: keys hold zeroes ---- */

static const char *const keys[] = {"a", "b\0c", "d"}, *const values[] = {"1", "22", "333"};
static const size_t key_lens[] = {1, 3, 1}, value_lens[] = {1, 2, 3};

static void writing(rados_ioctx_t io)
{
    struct timespec mtime = {1000, 5};
    time_t got = 0;
    uint64_t size;
    int result = 5;
    rados_write_op_t op = rados_create_write_op();
    rados_write_op_omap_set2(op, keys, values, key_lens, value_lens, 3);
    rados_write_op_set_alloc_hint(op, 1, 1);
    rados_write_op_set_alloc_hint2(op, 1, 1, LIBRADOS_ALLOC_HINT_FLAG_RANDOM_READ);
    SAY(rados_write_op_operate2(op, io, "map", &mtime, 0));
    rados_release_write_op(op);
    SAY(rados_stat(io, "map", &size, &got));
    SAY(got);
    op = rados_create_write_op();
    rados_write_op_omap_cmp2(op, keys[1], LIBRADOS_CMPXATTR_OP_EQ, "23", 3, 2, &result);
    rados_write_op_omap_rm_keys2(op, keys, key_lens, 3);
    SAY(rados_write_op_operate2(op, io, "map", NULL, 0));
    SAY(result);
    rados_release_write_op(op);
    op = rados_create_write_op();
    rados_write_op_omap_cmp2(op, keys[1], LIBRADOS_CMPXATTR_OP_EQ, "22", 3, 2, &result);
    rados_write_op_omap_rm_keys2(op, keys + 2, key_lens + 2, 1);
    SAY(rados_write_op_operate2(op, io, "map", NULL, 0));
    SAY(result);
    rados_release_write_op(op);
}

static void say_pairs(rados_omap_iter_t iter)
{
    char *key = NULL, *value = NULL;
    size_t key_len = 0, len = 0;
    SAY(rados_omap_iter_size(iter));
    while (rados_omap_get_next2(iter, &key, &value, &key_len, &len) == 0 && key != NULL) {
        say_text(key, key_len);
        say_text(value, len);
    }
    SAY(rados_omap_iter_size(iter));
    SAY(key_len + len);
    rados_omap_get_end(iter);
}

static void reading(rados_ioctx_t io)
{
    rados_omap_iter_t vals, some, by_keys;
    int results[5] = {5, 5, 5, 5, 5};
    const char *const wanted[] = {"zz", "b\0c", "a", "b\0c"};
    const size_t wanted_lens[] = {2, 3, 1, 3};
    rados_read_op_t op = rados_create_read_op();
    rados_read_op_omap_cmp2(op, keys[1], LIBRADOS_CMPXATTR_OP_EQ, "22", 3, 2, &results[0]);
    rados_read_op_omap_get_vals(op, "", "", 10, &vals, &results[1]);
    rados_read_op_omap_get_keys(op, "a", 10, &some, &results[2]);
    rados_read_op_omap_get_vals_by_keys2(op, wanted, 4, wanted_lens, &by_keys, &results[3]);
    SAY(rados_read_op_operate(op, io, "map", 0));
    for (int i = 0; i < 4; i++)
        say("of a step", results[i]);
    say_pairs(vals);
    say_pairs(some);
    say_pairs(by_keys);
    rados_release_read_op(op);
    op = rados_create_read_op();
    rados_read_op_omap_cmp2(op, keys[1], LIBRADOS_CMPXATTR_OP_EQ, "22", 2, 2, &results[0]);
    SAY(rados_read_op_operate(op, io, "map", 0));
    SAY(results[0]);
    rados_release_read_op(op);
}

static void calling(rados_ioctx_t io, const char *object, const char *method)
{
    char sum[8] = "", user[32] = "", *out = NULL;
    const char zero[4] = "";
    size_t len = 5, used = 5, short_of = 5;
    int results[5] = {5, 5, 5, 5, 5};
    rados_read_op_t op = rados_create_read_op();
    rados_checksum_type_t crc = LIBRADOS_CHECKSUM_TYPE_CRC32C;
    rados_read_op_checksum(op, crc, zero, 4, 0, 11, 0, sum, 8, &results[0]);
    rados_read_op_checksum(op, crc, zero, 4, 0, 11, 0, sum, 6, &results[1]);
    rados_read_op_exec(op, "hello", method, "", 0, &out, &len, &results[2]);
    rados_read_op_exec_user_buf(op, "hello", method, "me", 2, user, 32, &used, &results[3]);
    rados_read_op_exec_user_buf(op, "hello", method, "me", 2, user, 4, &short_of, &results[4]);
    SAY(rados_read_op_operate(op, io, object, 0));
    for (int i = 0; i < 5; i++)
        say("of a step", results[i]);
    say_text(sum, 8);
    say_text(out != NULL ? out : "", len);
    say_text(user, used);
    SAY(short_of);
    rados_buffer_free(out);
    rados_release_read_op(op);
}

/* ---- Listings ---- */

static void make_objects(rados_ioctx_t io)
{
    char name[16];
    for (int i = 0; i < OBJECTS; i++) {
        snprintf(name, sizeof name, "object%d", i);
        if (rados_write_full(io, name, "x", 1) != 0)
            say(name, -1);
    }
    rados_ioctx_set_namespace(io, "space");
    rados_ioctx_locator_set_key(io, "key");
    rados_write_full(io, "far", "x", 1);
    rados_ioctx_locator_set_key(io, NULL);
}

static void walking(rados_ioctx_t io)
{
    rados_list_ctx_t list;
    rados_object_list_cursor first, later, begin = rados_object_list_begin(io);
    const char *name, *key, *space;
    size_t name_len, key_len, space_len;
    char seen[32] = "";
    int more = 0;
    SAY(rados_objects_list_open(io, &list));
    SAY(rados_nobjects_list_open(io, &list));
    SAY(rados_nobjects_list_get_pg_hash_position(list));
    SAY(rados_nobjects_list_get_cursor(list, &first));
    SAY(rados_object_list_cursor_cmp(io, first, begin));
    for (int i = 0; i < 5; i++)
        rados_nobjects_list_next(list, &name, NULL, NULL);
    snprintf(seen, sizeof seen, "%s", name);
    SAY(rados_nobjects_list_get_cursor(list, &later));
    SAY(rados_object_list_cursor_cmp(io, later, begin));
    rados_nobjects_list_next(list, &name, NULL, NULL);
    rados_nobjects_list_seek_cursor(list, later);
    rados_nobjects_list_next(list, &name, NULL, NULL);
    say("the same again", strcmp(name, seen) == 0);
    while (rados_nobjects_list_next(list, &name, NULL, NULL) == 0)
        more++;
    SAY(more);
    rados_object_list_cursor_free(io, later);
    SAY(rados_nobjects_list_get_cursor(list, &later));
    SAY(rados_object_list_is_end(io, later));
    SAY(rados_nobjects_list_seek(list, 0));
    for (more = 0; rados_nobjects_list_next(list, &name, NULL, NULL) == 0; more++)
        ;
    say("from the beginning", more);
    rados_nobjects_list_seek_cursor(list, first);
    for (more = 0; rados_nobjects_list_next(list, &name, NULL, NULL) == 0; more++)
        ;
    say("from the first place", more);
    rados_nobjects_list_close(list);
    rados_object_list_cursor_free(io, first);
    rados_object_list_cursor_free(io, later);
    rados_object_list_cursor_free(io, begin);
    rados_ioctx_set_namespace(io, "space");
    SAY(rados_nobjects_list_open(io, &list));
    SAY(rados_nobjects_list_next2(list, &name, &key, &space, &name_len, &key_len, &space_len));
    say_text(name, name_len);
    say_text(key, key_len);
    say_text(space, space_len);
    SAY(rados_nobjects_list_next2(list, &name, &key, &space, &name_len, &key_len, &space_len));
    rados_nobjects_list_close(list);
    rados_ioctx_set_namespace(io, "");
}

static void ranges(rados_ioctx_t io)
{
    rados_object_list_item items[OBJECTS + 10];
    rados_object_list_cursor begin = rados_object_list_begin(io), end = rados_object_list_end(io),
                             next = rados_object_list_begin(io), from = rados_object_list_begin(io),
                             to = rados_object_list_begin(io), none = rados_object_list_begin(io);
    int total = 0, calls = 0;
    SAY(rados_object_list_cursor_cmp(io, begin, end));
    SAY(rados_object_list_cursor_cmp(io, end, begin));
    SAY(rados_object_list_cursor_cmp(io, begin, next));
    SAY(rados_object_list_is_end(io, begin));
    SAY(rados_object_list(io, begin, end, 10, NULL, 0, items, &next));
    say("is NULL", items[0].nspace == NULL && items[0].locator == NULL);
    rados_object_list_free(10, items);
    SAY(rados_object_list(io, begin, next, OBJECTS + 10, NULL, 0, items, &to));
    rados_object_list_free(OBJECTS + 10, items);
    SAY(rados_object_list_cursor_cmp(io, to, next));
    for (total = 10; !rados_object_list_is_end(io, next); calls++) {
        int n = rados_object_list(io, next, end, 7, NULL, 0, items, &next);
        if (n < 0)
            break;
        total += n;
        rados_object_list_free(7, items);
    }
    SAY(total);
    for (size_t parts = 1, i = 0; parts <= 7; parts += 3) {
        for (i = 0, total = 0; i < parts; i++) {
            rados_object_list_slice(io, begin, end, i, parts, &from, &to);
            int n = rados_object_list(io, from, to, OBJECTS + 10, NULL, 0, items, &none);
            total += n;
            say("the slice ends", rados_object_list_cursor_cmp(io, none, to));
            rados_object_list_free(OBJECTS + 10, items);
        }
        say("objects of all slices", total);
        say("the last one ends", rados_object_list_is_end(io, to));
    }
    SAY(rados_object_list(io, begin, end, 10, "xx", 2, items, &next));
    SAY(rados_object_list(io, end, end, 10, NULL, 0, items, &next));
    SAY(rados_object_list(io, begin, end, 0, NULL, 0, items, &next));
    rados_ioctx_set_namespace(io, "space");
    SAY(rados_object_list(io, begin, end, 10, NULL, 0, items, &next));
    say_text(items[0].oid, items[0].oid_length);
    say_text(items[0].nspace, items[0].nspace_length);
    say_text(items[0].locator, items[0].locator_length);
    rados_object_list_free(10, items);
    rados_ioctx_set_namespace(io, "");
    rados_object_list_cursor all[] = {begin, end, next, from, to, none};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        rados_object_list_cursor_free(io, all[i]);
}

/* ---- Asynchronous requests ---- */

static void later(rados_ioctx_t io)
{
    rados_completion_t done;
    rados_xattrs_iter_t attrs = NULL;
    char buf[16] = "";
    const char *name = "", *value;
    size_t len = 0;
    rados_setxattr(io, "o", "at", "value", 5);
    SAY_LATER(rados_aio_getxattr(io, "o", done, "at", buf, sizeof buf));
    say_text(buf, strlen(buf));
    SAY_LATER(rados_aio_getxattr(io, "o", done, "at", buf, 3));
    SAY_LATER(rados_aio_getxattr(io, "o", done, "no", buf, sizeof buf));
    SAY_LATER(rados_aio_getxattr(io, "none", done, "at", buf, sizeof buf));
    SAY_LATER(rados_aio_getxattrs(io, "o", done, &attrs));
    SAY(rados_getxattrs_next(attrs, &name, &value, &len));
    say_text(name, strlen(name));
    say_text(value, len);
    rados_getxattrs_end(attrs);
    SAY_LATER(rados_aio_getxattrs(io, "none", done, &attrs));
    SAY_LATER(rados_aio_flush_async(io, done));
    SAY_LATER(rados_aio_unlock(io, "o", "lock", "cookie", done));
    SAY(rados_lock_exclusive(io, "o", "lock", "cookie", "", NULL, 0));
    SAY_LATER(rados_aio_unlock(io, "o", "lock", "cookie", done));
    SAY(rados_lock_exclusive(io, "o", "lock", "cookie", "", NULL, 0));
    rados_aio_create_completion2(NULL, NULL, &done);
    rados_aio_stat(io, "o", done, NULL, NULL);
    rados_aio_wait_for_complete(done);
    SAY(rados_aio_cancel(io, done));
    rados_aio_release(done);
}

struct told {
    rados_ioctx_t io;
    int times;
};

static void on_notify(void *arg, uint64_t id, uint64_t handle, uint64_t notifier, void *data,
                      size_t len)
{
    struct told *told = arg;
    (void)notifier;
    (void)data;
    told->times += len == 3;
    rados_notify_ack(told->io, "o", id, handle, NULL, 0);
}

static void watching(rados_t cluster, rados_ioctx_t io)
{
    rados_completion_t done;
    uint64_t handle = 0;
    struct told told = {io, 0};
    SAY(rados_aio_watch(io, "o", NULL, &handle, NULL, NULL, NULL));
    SAY_LATER(rados_aio_watch(io, "none", done, &handle, on_notify, NULL, &told));
    SAY_LATER(rados_aio_watch2(io, "o", done, &handle, on_notify, NULL, 20, &told));
    SAY(rados_notify2(io, "o", "hey", 3, 5000, NULL, NULL));
    SAY(told.times);
    SAY_LATER(rados_aio_watch_flush(cluster, done));
    SAY_LATER(rados_aio_unwatch(io, handle, done));
    SAY(rados_notify2(io, "o", "hey", 3, 5000, NULL, NULL));
    SAY(told.times);
}

static void snapshots(rados_ioctx_t io)
{
    rados_completion_t done;
    rados_snap_t snap = 0;
    rados_aio_create_completion2(NULL, NULL, &done);
    rados_aio_ioctx_selfmanaged_snap_create(io, &snap, done);
    rados_aio_wait_for_safe_and_cb(done);
    say("selfmanaged_snap_create", rados_aio_get_return_value(done));
    say("has a number", snap > 0);
    rados_aio_release(done);
    rados_aio_create_completion2(NULL, NULL, &done);
    rados_aio_ioctx_selfmanaged_snap_remove(io, snap, done);
    rados_aio_wait_for_safe_and_cb(done);
    say("selfmanaged_snap_remove", rados_aio_get_return_value(done));
    rados_aio_release(done);
}

int main(int argc, char **argv)
{
    rados_t cluster;
    rados_ioctx_t io, self;
    char value[16] = "", name[128];
    int8_t min = -1, required = -1;
    const char *args[] = {"program", "--no-such-option", "--rados_osd_op_timeout=70", "rest"};
    if (argc != 3) {
        fprintf(stderr, "usage: functions CONF POOL\n");
        return 2;
    }
    snprintf(name, sizeof name, "%s-self", argv[2]);
    SAY(rados_create(&cluster, "admin"));
    SAY(rados_conf_read_file(cluster, argv[1]));
    SAY(rados_conf_parse_argv(cluster, 4, args));
    SAY(rados_conf_get(cluster, "rados_osd_op_timeout", value, sizeof value));
    say_text(value, strlen(value));
    if (rados_connect(cluster) != 0 || rados_ioctx_create(cluster, argv[2], &io) != 0 ||
        rados_ioctx_create(cluster, name, &self) != 0) {
        fprintf(stderr, "functions: cannot open the pools %s and %s\n", argv[2], name);
        return 1;
    }
    SAY(rados_get_min_compatible_client(cluster, &min, &required));
    say("are releases", min >= 0 && min <= 16 && required >= 0 && required <= 16);
    SAY(rados_get_min_compatible_osd(cluster, &required));
    SAY(required);
    /* For C++ programs that bring Ceph's own headers: there is nothing to compare. */
    (void)rados_cct(cluster);
    (void)rados_ioctx_cct(io);
    contexts(io);
    sums(io);
    writing(io);
    reading(io);
    calling(io, "o", "say_hello");
    calling(io, "none", "say_hello");
    make_objects(io);
    rados_ioctx_set_namespace(io, "");
    walking(io);
    ranges(io);
    later(io);
    watching(cluster, io);
    snapshots(self);
    rados_ioctx_destroy(self);
    rados_ioctx_destroy(io);
    rados_shutdown(cluster);
    return 0;
}
