/* Objects: names, sizes, attributes, operations, locks, completions. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "tests/compat/misuse/misuse.h"

enum { MIB = 1024 * 1024 };

static void names(rados_ioctx_t io)
{
    char text[64];
    rados_list_ctx_t list;
    say(rados_write_full(io, letters(2048), "x", 1), "a name of 2048 bytes: write_full");
    say(rados_remove(io, letters(2048)), "a name of 2048 bytes: remove");
    say(rados_write_full(io, letters(2049), "x", 1), "a name of 2049 bytes: write_full");
    say(rados_read(io, letters(2049), text, 1, 0), "a name of 2049 bytes: read");
    rados_ioctx_set_namespace(io, letters(256));
    say(rados_write_full(io, "a", "x", 1), "a namespace of 256 bytes: write_full");
    rados_ioctx_set_namespace(io, letters(257));
    say(rados_write_full(io, "a", "x", 1), "a namespace of 257 bytes: write_full");
    rados_ioctx_locator_set_key(io, "k");
    rados_ioctx_set_namespace(io, "");
    rados_ioctx_locator_set_key(io, letters(2048));
    say(rados_write_full(io, "a", "x", 1), "a locator of 2048 bytes: write_full");
    rados_ioctx_locator_set_key(io, letters(2049));
    say(rados_write_full(io, "a", "x", 1), "a locator of 2049 bytes: write_full");
    rados_ioctx_set_namespace(io, "");
    say(rados_write_full(io, "a", "x", 1), "a locator of 2049 bytes, another namespace");
    rados_ioctx_locator_set_key(io, NULL);
    say(rados_write_full(io, "a", "x", 1), "no locator: write_full");
    say(rados_ioctx_get_pool_name(io, text, 2), "ioctx_get_pool_name to 2 bytes");
    say(rados_nobjects_list_open(io, &list), "nobjects_list_open");
    rados_nobjects_list_close(list);
}

static void sizes(rados_ioctx_t io)
{
    char text[64];
    uint64_t size;
    time_t mtime;
    char *large = calloc(1, 91 * MIB);
    say(rados_write(io, "a", large, UINT_MAX / 2 + UINT64_C(1), 0), "write of 2 GiB");
    say(rados_write_full(io, "a", large, UINT_MAX / 2 + UINT64_C(1)), "write_full of 2 GiB");
    say(rados_append(io, "a", large, UINT_MAX / 2 + UINT64_C(1)), "append of 2 GiB");
    say(rados_writesame(io, "a", large, 4, UINT_MAX / 2 + UINT64_C(1), 0), "writesame of 2 GiB");
    say(rados_read(io, "a", text, UINT_MAX / 2 + UINT64_C(1), 0), "read of 2 GiB");
    say(rados_write(io, "a", large, 91 * MIB, 0), "write of 91 MiB");
    say(rados_write(io, "a", large, 90 * MIB + 1, 0), "write of a byte more than 90 MiB");
    say(rados_write(io, "a", large, 90 * MIB, 0), "write of 90 MiB");
    say(rados_write(io, "a", "x", 1, 128 * MIB), "write behind 128 MiB");
    say(rados_write(io, "a", "x", 1, 128 * MIB - 1), "write of the last byte");
    say(rados_write(io, "a", "x", 1, UINT64_MAX), "write at the end of all numbers");
    say(rados_write(io, "a", "xy", 2, UINT64_MAX), "write across the end of all numbers");
    say(rados_append(io, "a", "x", 1), "append to the largest object");
    say(rados_trunc(io, "a", 128 * MIB + 1), "trunc to more than 128 MiB");
    say(rados_trunc(io, "a", UINT64_MAX), "trunc to the largest number");
    say(rados_trunc(io, "a", 3), "trunc");
    say(rados_stat(io, "a", &size, &mtime), "stat");
    say((long long)size, "size");
    say(rados_stat(io, "a", NULL, NULL), "stat to nowhere");
    say(rados_writesame(io, "a", "ab", 2, 3, 0), "writesame of 3 by 2");
    say(rados_writesame(io, "a", "ab", 0, 3, 0), "writesame of 3 by 0");
    say(rados_writesame(io, "a", "ab", 2, 0, 0), "writesame of 0");
    say(rados_read(io, "a", text, 10, UINT64_MAX - 1), "read at the end of all numbers");
    say(rados_cmpext(io, "a", "xyz", 3, UINT64_MAX - 1), "cmpext at the end of all numbers");
    say(rados_cmpext(io, "none", "\0\0", 2, 0), "cmpext of none with zeroes");
    say(rados_write(io, "b", "", 0, 0), "write of nothing");
    say(rados_stat(io, "b", &size, NULL), "stat of what was written with nothing");
    say(rados_append(io, "b", "", 0), "append of nothing");
    free(large);
}

void misuse_objects(rados_t cluster, rados_ioctx_t io)
{
    char text[64];
    (void)cluster;
    names(io);
    sizes(io);
    say(rados_remove(io, "none"), "remove of none");
    say(rados_trunc(io, "none", 0), "trunc of none");
    say(rados_stat(io, "none", NULL, NULL), "stat of none");
    say(rados_exec(io, "a", "none", "such", "", 0, text, sizeof text), "exec of no class");
    say(rados_exec(io, "a", "hello", "none", "", 0, text, sizeof text), "exec of no method");
    say(rados_exec(io, "a", "", "", "", 0, text, sizeof text), "exec of nothing");
    say(rados_exec(io, "a", "hello", "say_hello", "you", 3, text, 2), "exec to 2 bytes");
    say(rados_exec(io, "a", "hello", "say_hello", "you", 3, text, sizeof text), "exec");
    say(rados_exec(io, "a", "hello", "say_hello", letters(101), 101, text, sizeof text),
        "exec with too much input");
    say(rados_exec(io, "a", letters(300), "m", "", 0, text, sizeof text),
        "exec of a class of 300 letters");
}

/* ---- Attributes ---- */

void misuse_attributes(rados_ioctx_t io)
{
    char text[64];
    rados_xattrs_iter_t iter;
    char *value = calloc(1, MIB);
    say(rados_setxattr(io, "x", "k", "value", 5), "setxattr");
    say(rados_getxattr(io, "x", "k", text, 2), "getxattr to 2 bytes");
    say(rados_getxattr(io, "x", "k", NULL, 0), "getxattr to nothing");
    say(rados_getxattr(io, "x", "k", text, sizeof text), "getxattr");
    say(rados_getxattr(io, "x", "none", text, sizeof text), "getxattr of none");
    say(rados_getxattr(io, "none", "k", text, sizeof text), "getxattr of no object");
    say(rados_rmxattr(io, "x", "none"), "rmxattr of none");
    say(rados_rmxattr(io, "none", "k"), "rmxattr of no object");
    say(rados_getxattrs(io, "none", &iter), "getxattrs of no object");
    say(rados_setxattr(io, "x", "", "v", 1), "setxattr without a name");
    say(rados_setxattr(io, "x", letters(100), "v", 1), "setxattr with a name of 100 bytes");
    say(rados_setxattr(io, "x", letters(300), "v", 1), "setxattr with a name of 300 bytes");
    say(rados_setxattr(io, "x", "large", value, 65536), "setxattr of 64 KiB");
    say(rados_setxattr(io, "x", "larger", value, 65537), "setxattr of 64 KiB and a byte");
    say(rados_setxattr(io, "x", "k", NULL, 0), "setxattr of nothing");
    say(rados_getxattr(io, "x", "k", text, sizeof text), "getxattr of nothing");
    free(value);
}

/* ---- Operations ---- */

static void writing(rados_ioctx_t io, const char *what, rados_write_op_t op, int *told)
{
    say(rados_write_op_operate(op, io, "o", NULL, 0), "operate %s", what);
    if (told != NULL)
        say(*told, "of the step of %s", what);
    rados_release_write_op(op);
}

#define WRITING(io, what, told, ...)                                                               \
    do {                                                                                           \
        rados_write_op_t op = rados_create_write_op();                                             \
        __VA_ARGS__;                                                                               \
        writing(io, what, op, told);                                                               \
    } while (0)

static void maps(rados_ioctx_t io)
{
    const char *keys[] = {"k"}, *values[] = {"v"};
    size_t lens[] = {1};
    int told = 777;
    char *large = calloc(1, 2 * MIB);
    const char *larges[] = {large};
    WRITING(io, "omap_set", NULL, rados_write_op_omap_set(op, keys, values, lens, 1));
    WRITING(io, "omap_set of nothing", NULL, rados_write_op_omap_set(op, keys, values, lens, 0));
    lens[0] = MIB;
    WRITING(io, "omap_set of 1 MiB", NULL, rados_write_op_omap_set(op, keys, larges, lens, 1));
    lens[0] = MIB + 1;
    WRITING(io, "omap_set of 1 MiB and a byte", NULL,
            rados_write_op_omap_set(op, keys, larges, lens, 1));
    lens[0] = 1;
    keys[0] = letters(4096);
    WRITING(io, "omap_set with a key of 4 KiB", NULL,
            rados_write_op_omap_set(op, keys, values, lens, 1));
    keys[0] = letters(5000);
    WRITING(io, "omap_set with a key of 5,000 bytes", NULL,
            rados_write_op_omap_set(op, keys, values, lens, 1));
    keys[0] = "none";
    WRITING(io, "omap_rm_keys of none", NULL, rados_write_op_omap_rm_keys(op, keys, 1));
    WRITING(io, "omap_cmp, no such comparison", &told,
            rados_write_op_omap_cmp(op, "none", 9, "v", 1, &told));
    WRITING(io, "omap_cmp of none with something", &told,
            rados_write_op_omap_cmp(op, "none", LIBRADOS_CMPXATTR_OP_EQ, "v", 1, &told));
    WRITING(io, "omap_rm_range2 the other way round", NULL,
            rados_write_op_omap_rm_range2(op, "z", 1, "a", 1));
    free(large);
}

void misuse_operations(rados_ioctx_t io)
{
    int told = 777;
    rados_remove(io, "o");
    WRITING(io, "nothing", NULL, (void)op);
    WRITING(io, "assert_exists of none", NULL, rados_write_op_assert_exists(op));
    WRITING(io, "assert_version 1 of none", NULL, rados_write_op_assert_version(op, 1));
    WRITING(io, "remove of none", NULL, rados_write_op_remove(op));
    WRITING(io, "truncate of none", NULL, rados_write_op_truncate(op, 0));
    WRITING(io, "zero of none", NULL, rados_write_op_zero(op, 0, 1));
    WRITING(io, "exec of no class", &told, rados_write_op_exec(op, "none", "such", "", 0, &told));
    WRITING(io, "cmpext of none", &told, rados_write_op_cmpext(op, "x", 1, 0, &told));
    WRITING(io, "create", NULL, rados_write_op_create(op, LIBRADOS_CREATE_EXCLUSIVE, NULL));
    WRITING(io, "create again", NULL, rados_write_op_create(op, LIBRADOS_CREATE_EXCLUSIVE, NULL));
    WRITING(io, "create again, if it is not there", NULL,
            rados_write_op_create(op, LIBRADOS_CREATE_IDEMPOTENT, NULL));
    WRITING(io, "assert_version 0", NULL, rados_write_op_assert_version(op, 0));
    WRITING(io, "assert_version of the future", NULL,
            rados_write_op_assert_version(op, UINT64_MAX));
    WRITING(io, "truncate to too much", NULL, rados_write_op_truncate(op, UINT64_MAX));
    WRITING(io, "zero of too much", NULL, rados_write_op_zero(op, 0, UINT64_MAX));
    WRITING(io, "write behind all", NULL, rados_write_op_write(op, "x", 1, UINT64_MAX));
    WRITING(io, "writesame of 3 by 2", NULL, rados_write_op_writesame(op, "xy", 2, 3, 0));
    WRITING(io, "setxattr with a name of 300 bytes", NULL,
            rados_write_op_setxattr(op, letters(300), "v", 1));
    WRITING(io, "cmpxattr, no such comparison", NULL, rados_write_op_cmpxattr(op, "k", 9, "v", 1));
    WRITING(io, "a step that may fail, and one that cannot", &told, {
        rados_write_op_cmpext(op, "x", 1, 0, &told);
        rados_write_op_set_flags(op, LIBRADOS_OP_FLAG_FAILOK);
        rados_write_op_assert_version(op, UINT64_MAX);
    });
    maps(io);
    rados_read_op_t op = rados_create_read_op();
    say(rados_read_op_operate(op, io, "none", 0), "operate nothing on none, reading");
    rados_release_read_op(op);
    op = rados_create_read_op();
    rados_read_op_assert_version(op, UINT64_MAX);
    say(rados_read_op_operate(op, io, "o", 0), "operate assert_version of the future, reading");
    rados_release_read_op(op);
}

/* ---- Locks ---- */

void misuse_locks(rados_ioctx_t io)
{
    struct timeval day = {86400, 0};
    int exclusive;
    char tag[16], clients[256], cookies[256], addresses[256];
    size_t tag_len = sizeof tag, clients_len = sizeof clients, cookies_len = sizeof cookies,
           addresses_len = sizeof addresses;
    say(rados_unlock(io, "none", "l", "c"), "unlock of no object");
    say(rados_lock_exclusive(io, "l", "", "c", "", NULL, 0), "lock without a name");
    say(rados_lock_exclusive(io, "l", "l", "c", "text", &day, 0), "lock_exclusive");
    say(rados_lock_exclusive(io, "l", "l", "c", "text", &day, 0), "lock_exclusive again");
    say(rados_lock_exclusive(io, "l", "l", "other", "", NULL, 0), "lock_exclusive, other cookie");
    say(rados_lock_shared(io, "l", "l", "c", "t", "", NULL, 0), "lock_shared of an exclusive one");
    say(rados_lock_exclusive(io, "l", "l", "c", "", NULL, 9), "lock_exclusive, no such flags");
    say(rados_lock_exclusive(io, "l", "l", "c", "", NULL, LIBRADOS_LOCK_FLAG_RENEW),
        "lock_exclusive, renewed");
    say(rados_unlock(io, "l", "l", "other"), "unlock, other cookie");
    say(rados_unlock(io, "l", "other", "c"), "unlock, other lock");
    say(rados_list_lockers(io, "l", "l", &exclusive, tag, &tag_len, clients, &clients_len, cookies,
                           &cookies_len, addresses, &addresses_len),
        "list_lockers");
    say(exclusive, "exclusive");
    clients_len = 2;
    say(rados_list_lockers(io, "l", "l", &exclusive, tag, &tag_len, clients, &clients_len, cookies,
                           &cookies_len, addresses, &addresses_len),
        "list_lockers to 2 bytes");
    clients_len = sizeof clients;
    say(rados_list_lockers(io, "l", "none", &exclusive, tag, &tag_len, clients, &clients_len,
                           cookies, &cookies_len, addresses, &addresses_len),
        "list_lockers of none");
    say(rados_list_lockers(io, "none", "l", &exclusive, tag, &tag_len, clients, &clients_len,
                           cookies, &cookies_len, addresses, &addresses_len),
        "list_lockers of no object");
    say(rados_break_lock(io, "l", "l", "nobody", "c"), "break_lock of nobody");
    say(rados_break_lock(io, "l", "l", "client.4711", "c"), "break_lock of another");
    say(rados_unlock(io, "l", "l", "c"), "unlock");
    say(rados_unlock(io, "l", "l", "c"), "unlock again");
    say(rados_lock_shared(io, "l", "l", "c", "t", "", NULL, LIBRADOS_LOCK_FLAG_MUST_RENEW),
        "lock_shared that must renew");
    say(rados_lock_shared(io, "l", "l", "c", "t", "", NULL, 0), "lock_shared");
    say(rados_lock_shared(io, "l", "l", "d", "other", "", NULL, 0), "lock_shared, other tag");
    say(rados_unlock(io, "l", "l", "c"), "unlock");
}

/* ---- Completions ---- */

void misuse_asynchronous(rados_ioctx_t io)
{
    rados_completion_t c;
    char text[64];
    rados_aio_create_completion2(NULL, NULL, &c);
    say(rados_aio_is_complete(c), "aio_is_complete before");
    say(rados_aio_get_return_value(c), "aio_get_return_value before");
    say(rados_aio_read(io, "none", c, text, sizeof text, 0), "aio_read of none");
    say(rados_aio_wait_for_complete_and_cb(c), "aio_wait_for_complete_and_cb");
    say(rados_aio_is_complete_and_cb(c), "aio_is_complete_and_cb");
    say(rados_aio_get_return_value(c), "aio_get_return_value");
    rados_aio_release(c);
    rados_aio_create_completion2(NULL, NULL, &c);
    say(rados_aio_write(io, "a", c, text, UINT_MAX / 2 + UINT64_C(1), 0), "aio_write of 2 GiB");
    say(rados_aio_append(io, "a", c, text, UINT_MAX / 2 + UINT64_C(1)), "aio_append of 2 GiB");
    say(rados_aio_write_full(io, "a", c, text, UINT_MAX / 2 + UINT64_C(1)),
        "aio_write_full of 2 GiB");
    say(rados_aio_writesame(io, "a", c, text, 4, UINT_MAX / 2 + UINT64_C(1), 0),
        "aio_writesame of 2 GiB");
    say(rados_aio_read(io, "a", c, text, UINT_MAX / 2 + UINT64_C(1), 0), "aio_read of 2 GiB");
    rados_aio_release(c);
    rados_aio_create_completion2(NULL, NULL, &c);
    say(rados_aio_writesame(io, "a", c, "ab", 2, 3, 0), "aio_writesame of 3 by 2");
    rados_aio_release(c);
    rados_aio_create_completion2(NULL, NULL, &c);
    say(rados_aio_exec(io, "a", c, "none", "such", "", 0, text, sizeof text), "aio_exec");
    rados_aio_wait_for_complete(c);
    say(rados_aio_get_return_value(c), "aio_exec of no class");
    rados_aio_release(c);
    say(rados_aio_flush(io), "aio_flush of nothing");
}
