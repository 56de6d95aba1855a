/* Operations of one step: contents, attributes, locks, listings, and what is refused. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "tests/compat/sequence.h"

/* ---- Contents ---- */

static void write_data(rados_ioctx_t io, const char *name, bool aio)
{
    size_t len = draw_len();
    uint64_t offset = draw_offset();
    const char *data = draw_data(len);
    rados_completion_t c = aio ? make_completion() : NULL;
    int rc = 0;
    switch (below(4)) {
    case 0:
        say("write %zu at %llu", len, (unsigned long long)offset);
        rc = aio ? rados_aio_write(io, name, c, data, len, offset)
                 : rados_write(io, name, data, len, offset);
        break;
    case 1:
        len += len == 0; /* Of nothing, where there is nothing: no change there. */
        say("write_full %zu", len);
        rc = aio ? rados_aio_write_full(io, name, c, data, len)
                 : rados_write_full(io, name, data, len);
        break;
    case 2:
        say("append %zu", len);
        rc = aio ? rados_aio_append(io, name, c, data, len) : rados_append(io, name, data, len);
        break;
    default: {
        size_t pattern = chance(70) ? 1 + len / 8 : draw_len();
        data = draw_data(pattern);
        len = chance(80) ? pattern * 5 : len + (len == 0); /* Of nothing: no change there. */
        say("writesame %zu of %zu at %llu", len, pattern, (unsigned long long)offset);
        rc = aio ? rados_aio_writesame(io, name, c, data, pattern, len, offset)
                 : rados_writesame(io, name, data, pattern, len, offset);
    }
    }
    rc = aio ? await(c, rc) : rc;
    say(" -> %d", rc);
}

static void remove_or_cut(rados_ioctx_t io, const char *name, bool aio)
{
    if (chance(50)) {
        uint64_t size = draw_offset();
        say("trunc %llu -> %d", (unsigned long long)size, rados_trunc(io, name, size));
        return;
    }
    rados_completion_t c = aio ? make_completion() : NULL;
    say("remove -> %d", aio ? await(c, rados_aio_remove(io, name, c)) : rados_remove(io, name));
}

static void look(rados_ioctx_t io, const char *name, bool aio)
{
    static char buf[DATA_MAX];
    size_t len = chance(30) ? sizeof buf : draw_len();
    uint64_t offset = draw_offset(), size = 7;
    const char *data = draw_data(len);
    time_t mtime = 7;
    rados_completion_t c = aio ? make_completion() : NULL;
    int rc = 0;
    switch (below(4)) {
    case 0:
        rc = aio ? await(c, rados_aio_stat(io, name, c, &size, &mtime))
                 : rados_stat(io, name, &size, &mtime);
        say("stat -> %d size %llu", rc, (unsigned long long)size);
        /* Only operations that gave a time made it that small. */
        say(" mtime %s", mtime > 1000000000 ? "now" : mtime == 7 ? "not told" : "given");
        break;
    case 1:
        say("cmpext %zu at %llu", len, (unsigned long long)offset);
        rc = aio ? await(c, rados_aio_cmpext(io, name, c, data, len, offset))
                 : rados_cmpext(io, name, data, len, offset);
        say(" -> %d", rc);
        break;
    default:
        len += len == 0; /* Ceph takes nothing for everything, and then has no room for it. */
        memset(buf, '?', sizeof buf);
        say("read %zu at %llu", len, (unsigned long long)offset);
        rc = aio ? await(c, rados_aio_read(io, name, c, buf, len, offset))
                 : rados_read(io, name, buf, len, offset);
        say(" -> %d", rc);
        if (rc >= 0)
            say_data(buf, (size_t)rc);
    }
}

void op_simple(struct run *r)
{
    unsigned at = (unsigned)below(TARGETS);
    const struct target *target = aim(r, 0, at);
    bool aio = chance(40);
    say("%s %s", target->label, aio ? "aio " : "");
    switch (below(8)) {
    case 0:
    case 1:
    case 2:
        write_data(r->io[0], target->name, aio);
        break;
    case 3:
        remove_or_cut(r->io[0], target->name, aio);
        break;
    default:
        look(r->io[0], target->name, aio);
    }
}

/* ---- Attributes ---- */

static void list_attributes(rados_ioctx_t io, const char *name)
{
    rados_xattrs_iter_t iter;
    const char *key, *value;
    size_t len;
    int rc = rados_getxattrs(io, name, &iter);
    say("getxattrs -> %d", rc);
    if (rc != 0)
        return;
    while ((rc = rados_getxattrs_next(iter, &key, &value, &len)) == 0 && key != NULL) {
        if (strncmp(key, "lock.", 5) == 0)
            continue; /* Locks are attributes there; here they are apart. */
        say(" ");
        say_text(key);
        say_data(value, len);
    }
    say(" end %d", rc);
    rados_getxattrs_end(iter);
}

void op_attribute(struct run *r)
{
    static char buf[DATA_MAX];
    const struct target *target = aim(r, 0, (unsigned)below(TARGETS));
    rados_ioctx_t io = r->io[0];
    const char *attr = draw_attr();
    bool aio = chance(40);
    size_t len = below(chance(10) ? 65536 : 100), room = chance(20) ? len : sizeof buf;
    const char *data = draw_data(len);
    int rc;
    say("%s %s", target->label, aio ? "aio " : "");
    rados_completion_t c = aio ? make_completion() : NULL;
    switch (below(6)) {
    case 0:
    case 1:
        rc = aio ? await(c, rados_aio_setxattr(io, target->name, c, attr, data, len))
                 : rados_setxattr(io, target->name, attr, data, len);
        say("setxattr %s %zu -> %d", attr, len, rc);
        return;
    case 2:
        rc = aio ? await(c, rados_aio_rmxattr(io, target->name, c, attr))
                 : rados_rmxattr(io, target->name, attr);
        say("rmxattr %s -> %d", attr, rc);
        return;
    case 3:
        list_attributes(io, target->name);
        break;
    default:
        rc = rados_getxattr(io, target->name, attr, buf, room);
        say("getxattr %s of %zu -> %d", attr, room, rc);
        if (rc > 0)
            say_data(buf, (size_t)rc);
    }
    if (aio)
        rados_aio_release(c);
}

/* ---- Locks ---- */

static int compare_texts(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* The names of both clients are other ones in each cluster, and so is their order. */
static void say_holders(struct run *r, const char *clients, const char *cookies, ssize_t n)
{
    char holders[16][64];
    memset(holders, 0, sizeof holders);
    for (ssize_t i = 0; i < n && i < 16; i++) {
        for (int k = 0; k < CLIENTS; k++) {
            char name[64];
            snprintf(name, sizeof name, "client.%llu",
                     (unsigned long long)rados_get_instance_id(r->cluster[k]));
            if (strcmp(name, clients) == 0)
                snprintf(holders[i], sizeof holders[i], "client%d:%.40s", k, cookies);
        }
        clients += strlen(clients) + 1;
        cookies += strlen(cookies) + 1;
    }
    qsort(holders, 16, sizeof holders[0], compare_texts);
    for (int i = 0; i < 16; i++)
        say("%s%s", holders[i][0] != 0 ? " " : "", holders[i]);
}

static void list_lockers(struct run *r, rados_ioctx_t io, const char *name, const char *lock)
{
    char tag[64], clients[512], cookies[512], addresses[1024];
    size_t tag_len = sizeof tag, clients_len = sizeof clients, cookies_len = sizeof cookies,
           addresses_len = sizeof addresses;
    int exclusive = 7;
    tag[0] = 0;
    ssize_t n = rados_list_lockers(io, name, lock, &exclusive, tag, &tag_len, clients, &clients_len,
                                   cookies, &cookies_len, addresses, &addresses_len);
    say("list_lockers %s -> %zd", lock, n);
    if (n < 0)
        return;
    /* Of one that nobody holds any more Ceph remembers kind and tag, mostly. */
    if (n > 0)
        say(" exclusive %d tag %s", exclusive, tag);
    say_holders(r, clients, cookies, n);
}

void op_lock(struct run *r)
{
    static const char *const locks[] = {"lock", "other"}, *const cookies[] = {"c", "c", "d", ""},
                             *const tags[] = {"t", "t", "u"};
    static const uint8_t all_flags[] = {0, 0, 0, 1, 2, 3};
    unsigned client = (unsigned)below(CLIENTS), other = (unsigned)below(CLIENTS);
    const struct target *target = aim(r, client, (unsigned)below(TARGETS));
    rados_ioctx_t io = r->io[client];
    const char *lock = PICK(locks), *cookie = PICK(cookies), *tag = PICK(tags);
    struct timeval hour = {3600, 5}, *duration = chance(50) ? &hour : NULL;
    uint8_t flags = PICK(all_flags);
    char owner[64];
    int rc;
    say("%s client%u ", target->label, client);
    switch (below(7)) {
    case 0:
    case 1:
        rc = rados_lock_exclusive(io, target->name, lock, cookie, "text", duration, flags);
        say("lock_exclusive %s %s flags %u -> %d", lock, cookie, flags, rc);
        break;
    case 2:
    case 3:
        rc = rados_lock_shared(io, target->name, lock, cookie, tag, "text", duration, flags);
        say("lock_shared %s %s %s flags %u -> %d", lock, cookie, tag, flags, rc);
        break;
    case 4:
        say("unlock %s %s -> %d", lock, cookie, rados_unlock(io, target->name, lock, cookie));
        break;
    case 5:
        snprintf(owner, sizeof owner, "client.%llu",
                 (unsigned long long)rados_get_instance_id(r->cluster[other]));
        rc = rados_break_lock(io, target->name, lock, owner, cookie);
        say("break_lock %s %s of client%u -> %d", lock, cookie, other, rc);
        break;
    default:
        list_lockers(r, io, target->name, lock);
    }
}

/* ---- Listings ---- */

/* In which order objects come depends on how many placement groups there are. */
void op_list(struct run *r)
{
    /* Ceph lists what snapshots keep of removed objects, until it is trimmed. */
    if (r->mode != SNAPS_NONE) {
        op_snap(r);
        return;
    }
    static const char *const spaces[] = {"", "space", "none", LIBRADOS_ALL_NSPACES};
    const char *space = PICK(spaces), *name, *key, *in;
    static char found[4 * TARGETS][256];
    size_t n = 0;
    rados_list_ctx_t list;
    rados_ioctx_locator_set_key(r->io[0], NULL);
    rados_ioctx_set_namespace(r->io[0], space[0] == 1 ? space : space_of(r, space));
    int rc = rados_nobjects_list_open(r->io[0], &list);
    say("list '%s' -> %d", space[0] == 1 ? "*" : space, rc);
    if (rc != 0)
        return;
    while (n < 4 * TARGETS && (rc = rados_nobjects_list_next(list, &name, &key, &in)) == 0)
        snprintf(found[n++], sizeof found[0], "%s/%.20s@%s", in, name, key != NULL ? key : "");
    rados_nobjects_list_close(list);
    qsort(found, n, sizeof found[0], compare_texts);
    for (size_t i = 0; i < n; i++)
        say(" %s", found[i]);
    say(" end %d", rc);
}

/* ---- What is refused ---- */

static void bad_names(struct run *r)
{
    static char name[2050], space[400];
    char buf[8];
    memset(name, 'x', sizeof name - 1);
    memset(space, 's', 300);
    bool long_space = chance(50), writes = chance(50);
    aim(r, 0, 0);
    if (long_space)
        rados_ioctx_set_namespace(r->io[0], space);
    const char *object = long_space ? "a" : name;
    say("too long %s: %s -> %d", long_space ? "namespace" : "name", writes ? "write" : "read",
        writes ? rados_write_full(r->io[0], object, "x", 1)
               : rados_read(r->io[0], object, buf, sizeof buf, 0));
    rados_ioctx_set_namespace(r->io[0], "");
}

static void bad_calls(struct run *r)
{
    static const char *const calls[][2] = {
        {"none", "none"}, {"hello", "none"}, {"hello", "say_hello"}, {"hello", "say_hello"}};
    char buf[200];
    const char *const *call = PICK(calls);
    const struct target *target = aim(r, 0, (unsigned)below(TARGETS));
    size_t room = chance(30) ? 3 : sizeof buf, len = below(100);
    const char *data = draw_data(len);
    int rc = rados_exec(r->io[0], target->name, call[0], call[1], data, len, buf, room);
    say("%s exec %s.%s %zu room %zu -> %d", target->label, call[0], call[1], len, room, rc);
    if (rc > 0)
        say_data(buf, (size_t)rc);
}

void op_bad_input(struct run *r)
{
    static char attr[400];
    const struct target *target = aim(r, 0, (unsigned)below(TARGETS));
    memset(attr, 'x', 300);
    switch (below(4)) {
    case 0:
        bad_names(r);
        break;
    case 1:
        say("%s too long attribute: setxattr -> %d", target->label,
            rados_setxattr(r->io[0], target->name, attr, "x", 1));
        break;
    default:
        bad_calls(r);
    }
}
