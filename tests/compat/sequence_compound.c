/*
 * Operations of several steps. In one that changes something, steps that look come first: here they
 * see what the steps before them changed, on Ceph's servers they do not (osd/ops/README.md).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/compat/sequence.h"

enum { STEPS_MAX = 4, PAIRS_MAX = 3, UNTOLD = 777 };

static const uint8_t comparisons[] = {1, 1, 1, 2, 3, 4, 5, 6};
/* The map's values are equal, less or greater, and no more. */
static const uint8_t map_comparisons[] = {1, 1, 3, 5};

struct pairs {
    size_t n;
    const char *keys[PAIRS_MAX], *values[PAIRS_MAX];
    size_t lens[PAIRS_MAX];
};

static struct pairs draw_pairs(void)
{
    struct pairs pairs = {.n = below(PAIRS_MAX + 1)};
    for (size_t i = 0; i < pairs.n; i++) {
        pairs.keys[i] = draw_key();
        pairs.lens[i] = below(40);
        pairs.values[i] = draw_data(pairs.lens[i]);
    }
    return pairs;
}

static const struct pairs pairs_of_one = {1, {"k"}, {"v"}, {1}};

/* The noted version, or one beside it. */
static uint64_t draw_version(struct run *r, unsigned at)
{
    /* How many other changes there were in between is not the same on each cluster. */
    static const int64_t beside[] = {0, 0, 0, 1 << 24, -1};
    int64_t version = (int64_t)r->versions[at] + PICK(beside);
    return version < 0 ? 0 : (uint64_t)version;
}

/* ---- Changes ---- */

static void guard(struct run *r, rados_write_op_t op, unsigned at, int *result)
{
    size_t len = chance(50) ? below(20) : draw_len(), value_len = below(40);
    uint64_t offset = draw_offset(), version = draw_version(r, at);
    const char *data = draw_data(len), *value = draw_data(value_len), *key = draw_key(),
               *attr = draw_attr();
    uint8_t comparison = PICK(comparisons), of_map = PICK(map_comparisons);
    switch (below(5)) {
    case 0:
        say(" assert_exists");
        rados_write_op_assert_exists(op);
        break;
    case 1:
        say(" assert_version %+d", (int)(version - r->versions[at]));
        rados_write_op_assert_version(op, version);
        break;
    case 2:
        say(" cmpext %zu at %llu", len, (unsigned long long)offset);
        rados_write_op_cmpext(op, data, len, offset, result);
        break;
    case 3:
        say(" cmpxattr %s %u %zu", attr, comparison, value_len);
        rados_write_op_cmpxattr(op, attr, comparison, value, value_len);
        break;
    default:
        say(" omap_cmp ");
        say_text(key);
        say(" %u %zu", of_map, value_len);
        rados_write_op_omap_cmp(op, key, of_map, value, value_len, result);
    }
}

/* An object is removed once: there it may be left when it was made again in between. */
static void change_contents(rados_write_op_t op, bool *removed, int *kept_flags)
{
    size_t len = draw_len(), pattern = 1 + len / 7;
    uint64_t offset = draw_offset();
    const char *data = draw_data(len > pattern ? len : pattern);
    int exclusive = (int)below(2);
    switch (below(*removed ? 7 : 8)) {
    case 0:
        say(" create %d", exclusive);
        *kept_flags = exclusive ? LIBRADOS_OP_FLAG_EXCL : 0;
        rados_write_op_create(op, exclusive, NULL);
        break;
    case 1:
        len += len == 0; /* Nothing beyond the end, after an append: Ceph finds damage there. */
        say(" write %zu at %llu", len, (unsigned long long)offset);
        rados_write_op_write(op, data, len, offset);
        break;
    case 2:
        len += len == 0; /* Of nothing, where there is nothing: no change there. */
        say(" write_full %zu", len);
        rados_write_op_write_full(op, data, len);
        break;
    case 3:
        say(" writesame %zu at %llu", pattern, (unsigned long long)offset);
        rados_write_op_writesame(op, data, pattern, pattern * 4, offset);
        break;
    case 4:
        say(" append %zu", len);
        rados_write_op_append(op, data, len);
        break;
    case 5:
        say(" truncate %llu", (unsigned long long)offset);
        rados_write_op_truncate(op, offset);
        break;
    case 6:
        /* Ceph's OSDs assert that it is something; and if nothing is there it is no change. */
        len += len == 0;
        rados_write_op_write(op, data, len < 10 ? len : 10, offset);
        say(" write, zero %zu at %llu", len, (unsigned long long)offset);
        rados_write_op_zero(op, offset, len);
        break;
    default:
        say(" remove");
        rados_write_op_remove(op);
        *removed = true;
    }
}

/* A range is removed before anything is set: there what the operation has set stays. */
static void change_pairs(rados_write_op_t op, bool *set)
{
    struct pairs pairs = draw_pairs();
    const char *attr = draw_attr(), *from = draw_key(), *to = draw_key();
    size_t len = below(60);
    const char *data = draw_data(len);
    uint64_t kind = below(7);
    switch (kind == 4 && *set ? 5 : kind) {
    case 0:
    case 1:
        say(" setxattr %s %zu", attr, len);
        rados_write_op_setxattr(op, attr, data, len);
        return;
    case 2:
        say(" rmxattr %s", attr);
        rados_write_op_rmxattr(op, attr);
        return;
    case 3:
        /* Without a map it is no change there, and one here. */
        say(" omap_set k, omap_clear");
        rados_write_op_omap_set(op, pairs_of_one.keys, pairs_of_one.values, pairs_of_one.lens, 1);
        rados_write_op_omap_clear(op);
        *set = true;
        return;
    case 4:
        say(" omap_rm_range2 ");
        say_text(from);
        say(" ");
        say_text(to);
        rados_write_op_omap_rm_range2(op, from, strlen(from), to, strlen(to));
        return;
    case 5:
        say(" omap_rm_keys");
        rados_write_op_omap_rm_keys(op, pairs.keys, pairs.n);
        break;
    default:
        say(" omap_set");
        rados_write_op_omap_set(op, pairs.keys, pairs.values, pairs.lens, pairs.n);
        *set = true;
    }
    for (size_t i = 0; i < pairs.n; i++) {
        say(" ");
        say_text(pairs.keys[i]);
    }
}

void op_write(struct run *r)
{
    unsigned at = (unsigned)below(TARGETS), looks = (unsigned)below(4) / 2,
             changes = (unsigned)below(STEPS_MAX);
    const struct target *target = aim(r, 0, at);
    int results[STEPS_MAX];
    int kept_flags = 0; /* Of the last step: there they are replaced by those that are set. */
    bool aio = chance(30), fail_ok = chance(10), given = chance(20), removed = false, set = false;
    time_t mtime = (time_t)below(1000000000);
    rados_write_op_t op = rados_create_write_op();
    say("%s operate", target->label);
    for (unsigned i = 0; i < looks; i++) {
        results[i] = UNTOLD;
        guard(r, op, at, &results[i]);
    }
    for (unsigned i = 0; i < changes; i++) {
        kept_flags = 0;
        if (chance(60))
            change_contents(op, &removed, &kept_flags);
        else
            change_pairs(op, &set);
    }
    if (fail_ok && looks + changes > 0) {
        say(" fail_ok");
        rados_write_op_set_flags(op, LIBRADOS_OP_FLAG_FAILOK | kept_flags);
    }
    uint64_t version = 0;
    rados_completion_t c = aio ? make_completion() : NULL;
    int rc;
    if (aio)
        rc = rados_aio_write_op_operate(op, r->io[0], c, target->name, given ? &mtime : NULL, 0);
    else
        rc = rados_write_op_operate(op, r->io[0], target->name, given ? &mtime : NULL, 0);
    if (aio)
        rc = await_version(c, rc, &version);
    else
        version = rados_get_last_version(r->io[0]);
    say(" -> %d", rc);
    for (unsigned i = 0; i < looks; i++)
        say(" %d", results[i]);
    if (looks + changes > 0)
        say_version(r, at, rc, changes > 0, version);
    rados_release_write_op(op);
}

/* ---- Looks ---- */

struct looked {
    enum { NOTHING, DATA, STAT, PAIRS, ATTRS } kind;
    int result;
    char data[5000];
    size_t len;
    uint64_t size;
    time_t mtime;
    unsigned char more;
    rados_omap_iter_t pairs;
    rados_xattrs_iter_t attrs;
};

/* Returns whether other steps may follow: there the 1 that cmpxattr gives stays for some of them.
 */
static bool compare(struct run *r, rados_read_op_t op, unsigned at, struct looked *out)
{
    size_t len = chance(50) ? below(20) : draw_len(), value_len = below(40);
    uint64_t offset = draw_offset(), version = draw_version(r, at);
    const char *data = draw_data(len), *value = draw_data(value_len), *key = draw_key(),
               *attr = draw_attr();
    uint8_t comparison = PICK(comparisons), of_map = PICK(map_comparisons);
    switch (below(5)) {
    case 0:
        say(" assert_exists");
        rados_read_op_assert_exists(op);
        break;
    case 1:
        say(" assert_version %+d", (int)(version - r->versions[at]));
        rados_read_op_assert_version(op, version);
        break;
    case 2:
        say(" cmpext %zu at %llu", len, (unsigned long long)offset);
        rados_read_op_cmpext(op, data, len, offset, &out->result);
        break;
    case 3:
        say(" cmpxattr %s %u %zu", attr, comparison, value_len);
        rados_read_op_cmpxattr(op, attr, comparison, value, value_len);
        return false;
    default:
        say(" omap_cmp ");
        say_text(key);
        say(" %u %zu", of_map, value_len);
        rados_read_op_omap_cmp(op, key, of_map, value, value_len, &out->result);
    }
    return true;
}

static void look_at(rados_read_op_t op, struct looked *out)
{
    static const char *const beginnings[] = {"", "", "k", "k1", "z", "zzz"};
    const char *after = PICK(beginnings), *prefix = PICK(beginnings);
    struct pairs pairs = draw_pairs();
    uint64_t max = below(6), offset = draw_offset();
    size_t len = 1 + below(sizeof out->data);
    switch (below(6)) {
    case 0:
        say(" read %zu at %llu", len, (unsigned long long)offset);
        out->kind = DATA;
        rados_read_op_read(op, offset, len, out->data, &out->len, &out->result);
        break;
    case 1:
        say(" stat");
        out->kind = STAT;
        rados_read_op_stat(op, &out->size, &out->mtime, &out->result);
        break;
    case 2:
        say(" getxattrs");
        out->kind = ATTRS;
        rados_read_op_getxattrs(op, &out->attrs, &out->result);
        break;
    case 3:
        say(" omap_get_keys2 '%s' %llu", after, (unsigned long long)max);
        out->kind = PAIRS;
        rados_read_op_omap_get_keys2(op, after, max, &out->pairs, &out->more, &out->result);
        break;
    case 4:
        say(" omap_get_vals_by_keys %zu", pairs.n);
        out->kind = PAIRS;
        rados_read_op_omap_get_vals_by_keys(op, pairs.keys, pairs.n, &out->pairs, &out->result);
        break;
    default:
        say(" omap_get_vals2 '%s' '%s' %llu", after, prefix, (unsigned long long)max);
        out->kind = PAIRS;
        rados_read_op_omap_get_vals2(op, after, prefix, max, &out->pairs, &out->more, &out->result);
    }
}

static void say_pairs(struct looked *out)
{
    char *key, *value;
    size_t len;
    int rc;
    while ((rc = rados_omap_get_next(out->pairs, &key, &value, &len)) == 0 && key != NULL) {
        say(" ");
        say_text(key);
        say_data(value, len);
    }
    say(" end %d more %d", rc, out->more);
}

static void say_attributes(struct looked *out)
{
    const char *key, *value;
    size_t len;
    int rc;
    while ((rc = rados_getxattrs_next(out->attrs, &key, &value, &len)) == 0 && key != NULL) {
        if (strncmp(key, "lock.", 5) == 0)
            continue; /* Locks are attributes there; here they are apart. */
        say(" ");
        say_text(key);
        say_data(value, len);
    }
    say(" end %d", rc);
}

static void say_looked(struct looked *out, int rc)
{
    say(" [%d", out->result);
    if (rc == 0 && out->kind == DATA)
        say_data(out->data, out->len);
    if (rc == 0 && out->kind == STAT)
        say(" size %llu mtime %lld", (unsigned long long)out->size,
            out->mtime > 1000000000 ? -1 : (long long)out->mtime);
    if (rc == 0 && out->kind == PAIRS)
        say_pairs(out);
    if (rc == 0 && out->kind == ATTRS)
        say_attributes(out);
    say("]");
    if (out->kind == PAIRS)
        rados_omap_get_end(out->pairs);
    if (out->kind == ATTRS)
        rados_getxattrs_end(out->attrs);
}

void op_read(struct run *r)
{
    static struct looked looked[STEPS_MAX];
    unsigned at = (unsigned)below(TARGETS), n = (unsigned)below(STEPS_MAX);
    const struct target *target = aim(r, 0, at);
    bool aio = chance(30), fail_ok = chance(10);
    rados_read_op_t op = rados_create_read_op();
    say("%s read_operate", target->label);
    for (unsigned i = 0; i < n; i++) {
        looked[i] = (struct looked){.result = UNTOLD, .more = 7};
        if (!chance(30))
            look_at(op, &looked[i]);
        else if (!compare(r, op, at, &looked[i]))
            n = i + 1;
    }
    if (fail_ok && n > 0) {
        say(" fail_ok");
        rados_read_op_set_flags(op, LIBRADOS_OP_FLAG_FAILOK);
    }
    uint64_t version = 0;
    rados_completion_t c = aio ? make_completion() : NULL;
    int rc;
    if (aio)
        rc =
            await_version(c, rados_aio_read_op_operate(op, r->io[0], c, target->name, 0), &version);
    else
        rc = rados_read_op_operate(op, r->io[0], target->name, 0);
    version = aio ? version : rados_get_last_version(r->io[0]);
    say(" -> %d", rc);
    for (unsigned i = 0; i < n; i++)
        say_looked(&looked[i], rc);
    if (n > 0)
        say_version(r, at, rc, false, version);
    rados_release_read_op(op);
}
