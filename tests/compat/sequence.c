/*
 * Applies sequences of random operations to a cluster, Ceph's or ours: whichever librados.so.2 it
 * is given. Prints a line for each: its place, what it was, what it gave. tests/compat/differential
 * compares what it prints on two clusters.
 *
 * Operations come in rounds. Each begins with an empty pool, so that a difference has no
 * consequences in later ones.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/compat/sequence.h"

/* As long as a name may be. */
static char long_name[2048 + 1];

const struct target targets[TARGETS] = {
    {"a", "a", "", NULL},          {"b", "b", "", NULL},
    {"c", "c", "", NULL},          {"space/a", "a", "space", NULL},
    {"a@place", "a", "", "place"}, {"space/b@place", "b", "space", "place"},
    {"b@b", "b", "", "b"},         {"long", long_name, "", NULL},
};

/* ---- Numbers ---- */

size_t draw_len(void)
{
    static const size_t most[] = {16, 16, 100, 1000, 5000, 20000, DATA_MAX};
    return chance(3) ? 0 : 1 + below(PICK(most));
}

uint64_t draw_offset(void)
{
    static const uint64_t most[] = {16, 100, 5000, 20000, 70000};
    static const uint64_t limits[] = {(128 << 20) - 1, 128 << 20, (128 << 20) + 1, UINT64_MAX - 7};
    if (chance(1))
        return PICK(limits);
    return chance(40) ? 0 : below(PICK(most));
}

const char *draw_data(size_t len)
{
    static char data[8][DATA_MAX];
    static unsigned turn;
    char *out = data[turn++ % 8];
    if (chance(80)) {
        memset(out, "\0aab"[below(4)], len);
        return out;
    }
    /* Where less and greater matter, Ceph's servers take bytes for signed numbers. */
    uint64_t mask = len < 64 ? 127 : 255;
    for (size_t i = 0; i < len; i++)
        out[i] = (char)(draw() & mask);
    return out;
}

const char *draw_key(void)
{
    static const char *const keys[] = {"k", "k1", "k10", "k2", "l", "_", "zz", "\xff\x01"};
    return PICK(keys);
}

const char *draw_attr(void)
{
    static const char *const names[] = {"x", "y", "_z", "Long name, with spaces", "snapset"};
    return PICK(names);
}

/* ---- Objects ---- */

const char *space_of(struct run *r, const char *space)
{
    static char name[64];
    if (r->mode == SNAPS_NONE)
        return space;
    snprintf(name, sizeof name, "%s-%llu", space, (unsigned long long)r->round);
    return name;
}

void revive(struct run *r, rados_ioctx_t io, const char *name)
{
    uint64_t size;
    time_t mtime;
    if (r->mode != SNAPS_NONE && rados_stat(io, name, &size, &mtime) == -ENOENT)
        rados_write_full(io, name, "x", 1);
}

const struct target *aim(struct run *r, unsigned client, unsigned at)
{
    rados_ioctx_set_namespace(r->io[client], space_of(r, targets[at].space));
    rados_ioctx_locator_set_key(r->io[client], targets[at].locator);
    revive(r, r->io[client], targets[at].name);
    return &targets[at];
}

void say_version(struct run *r, unsigned at, int rc, bool changes, uint64_t version)
{
    uint64_t size;
    time_t mtime;
    /* When a snapshot of it is trimmed an object gets another version here, and there not. */
    if (r->mode != SNAPS_NONE)
        return;
    /* Of a change after which there is no object, each cluster tells what it likes. */
    if (rc < 0 || (changes && rados_stat(r->io[0], targets[at].name, &size, &mtime) != 0))
        return;
    uint64_t noted = r->versions[at];
    say(" version %s", version > noted ? "newer" : version == noted ? "same" : "older");
    if (changes)
        r->versions[at] = version;
}

rados_completion_t make_completion(void)
{
    rados_completion_t made = NULL;
    if (rados_aio_create_completion2(NULL, NULL, &made) != 0)
        abort();
    return made;
}

int await_version(rados_completion_t completion, int rc, uint64_t *version)
{
    if (rc == 0) {
        rados_aio_wait_for_complete(completion);
        rc = rados_aio_get_return_value(completion);
        *version = rados_aio_get_version(completion);
    }
    rados_aio_release(completion);
    return rc;
}

int await(rados_completion_t completion, int rc)
{
    uint64_t version;
    return await_version(completion, rc, &version);
}

/* ---- The program ---- */

static void fail(const char *what, int rc)
{
    fprintf(stderr, "sequence: %s: %s\n", what, strerror(-rc));
    exit(2);
}

static void check(const char *what, int rc)
{
    if (rc < 0)
        fail(what, rc);
}

static void remove_everything(struct run *r)
{
    const char *name, *key, *space;
    rados_list_ctx_t list;
    rados_ioctx_locator_set_key(r->io[0], NULL);
    rados_ioctx_set_namespace(r->io[0], LIBRADOS_ALL_NSPACES);
    check("list", rados_nobjects_list_open(r->io[0], &list));
    while (rados_nobjects_list_next(list, &name, &key, &space) == 0) {
        rados_ioctx_set_namespace(r->io[1], space);
        rados_ioctx_locator_set_key(r->io[1], key);
        int rc = rados_remove(r->io[1], name);
        if (rc != -ENOENT)
            check("remove", rc);
    }
    rados_nobjects_list_close(list);
}

/* So that every version has one before it: what is asserted may be one less. */
static void count_up(struct run *r)
{
    for (unsigned at = 0; at < TARGETS; at++) {
        const struct target *target = aim(r, 0, at);
        check("write", rados_write_full(r->io[0], target->name, "x", 1));
        check("remove", rados_remove(r->io[0], target->name));
    }
}

static void connect_to(struct run *r, const char *config, const char *pool)
{
    for (int i = 0; i < CLIENTS; i++) {
        check("create", rados_create(&r->cluster[i], "admin"));
        check(config, rados_conf_read_file(r->cluster[i], config));
        check("connect", rados_connect(r->cluster[i]));
        check(pool, rados_ioctx_create(r->cluster[i], pool, &r->io[i]));
    }
}

static void disconnect(struct run *r)
{
    for (int i = 0; i < CLIENTS; i++) {
        rados_ioctx_destroy(r->io[i]);
        rados_shutdown(r->cluster[i]);
    }
}

static void run_operation(struct run *r)
{
    static void (*const kinds[])(struct run *) = {
        op_simple, op_simple,    op_simple, op_simple, op_attribute, op_write, op_write,
        op_write,  op_read,      op_read,   op_lock,   op_list,      op_watch, op_watch,
        op_watch,  op_bad_input, op_snap,   op_snap,   op_snap,
    };
    size_t n = sizeof kinds / sizeof *kinds - (r->mode == SNAPS_NONE ? 3 : 0);
    kinds[below(n)](r);
}

int main(int argc, char **argv)
{
    static struct run r;
    if (argc < 7 || argc > 8) {
        fprintf(stderr,
                "usage: sequence CONFIG POOL SEED FIRST-ROUND ROUNDS OPERATIONS [own|self]\n");
        return 2;
    }
    if (argc == 8)
        r.mode = strcmp(argv[7], "own") == 0 ? SNAPS_OWN : SNAPS_SELF;
    uint64_t seed = strtoull(argv[3], NULL, 10), first = strtoull(argv[4], NULL, 10),
             rounds = strtoull(argv[5], NULL, 10), each = strtoull(argv[6], NULL, 10);
    setvbuf(stdout, NULL, _IOLBF, 1 << 16); /* What was reached is seen when it hangs. */
    memset(long_name, 'n', sizeof long_name - 1);
    connect_to(&r, argv[1], argv[2]);
    for (uint64_t round = first; round < first + rounds; round++) {
        r.round = round;
        watches_reset(&r);
        snaps_reset(&r);
        remove_everything(&r);
        count_up(&r);
        memset(r.versions, 0, sizeof r.versions);
        for (uint64_t i = 0; i < each; i++) {
            lines_begin(seed, round, i);
            run_operation(&r);
            lines_end(round, i);
        }
    }
    watches_reset(&r);
    snaps_reset(&r);
    remove_everything(&r);
    watches_end();
    disconnect(&r);
    return fflush(stdout) == 0 ? 0 : 2;
}
