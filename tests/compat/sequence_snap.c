/*
 * Snapshots: a pool's own, by name, or self-managed ones, by number. Numbers are other ones on each
 * cluster, so lines name the place where a snapshot stands in the round. What was removed is not
 * looked at any more, since it goes in the background.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/compat/sequence.h"

/* Other clients write with what the newest map says. */
static void follow_map(struct run *r)
{
    for (int i = 0; i < CLIENTS; i++)
        rados_wait_for_latest_osdmap(r->cluster[i]);
}

static const char *name_of(unsigned at)
{
    static const char *const names[SNAPS] = {"monday", "tuesday", "wednesday", "thursday"};
    return names[at];
}

/* What following writes keep: all that are alive, the newest first. */
static int tell_writers(struct run *r)
{
    rados_snap_t alive[SNAPS], newest = 0;
    int n = 0;
    for (unsigned i = 0; i < SNAPS; i++)
        newest = r->snaps[i] > newest ? r->snaps[i] : newest;
    for (rados_snap_t below_id = newest + 1; n < SNAPS;) {
        rados_snap_t next = 0;
        for (unsigned i = 0; i < SNAPS; i++)
            next = r->snaps[i] > next && r->snaps[i] < below_id ? r->snaps[i] : next;
        if (next == 0)
            break;
        alive[n++] = next;
        below_id = next;
    }
    return rados_ioctx_selfmanaged_snap_set_write_ctx(r->io[0], newest, alive, n);
}

static int make(struct run *r, unsigned at)
{
    int rc = r->mode == SNAPS_OWN ? rados_ioctx_snap_create(r->io[0], name_of(at))
                                  : rados_ioctx_selfmanaged_snap_create(r->io[0], &r->snaps[at]);
    follow_map(r);
    if (rc == 0 && r->mode == SNAPS_OWN)
        rc = rados_ioctx_snap_lookup(r->io[0], name_of(at), &r->snaps[at]);
    return rc;
}

static int drop(struct run *r, unsigned at)
{
    int rc = r->mode == SNAPS_OWN ? rados_ioctx_snap_remove(r->io[0], name_of(at))
                                  : rados_ioctx_selfmanaged_snap_remove(r->io[0], r->snaps[at]);
    follow_map(r);
    if (rc == 0)
        r->snaps[at] = 0;
    return rc;
}

void snaps_reset(struct run *r)
{
    for (unsigned i = 0; i < SNAPS; i++) {
        if (r->snaps[i] != 0 && drop(r, i) != 0)
            r->snaps[i] = 0;
    }
    if (r->mode == SNAPS_SELF)
        tell_writers(r);
}

static void change_snaps(struct run *r, unsigned at)
{
    if (r->snaps[at] == 0) {
        say("snapshot %u -> %d", at, make(r, at));
        if (r->mode == SNAPS_SELF)
            say(" context %d", tell_writers(r));
    } else if (r->mode == SNAPS_OWN && chance(50)) {
        say("snapshot %u again -> %d", at, rados_ioctx_snap_create(r->io[0], name_of(at)));
    } else {
        say("snapshot %u removed -> %d", at, drop(r, at));
        if (r->mode == SNAPS_SELF)
            say(" context %d", tell_writers(r));
    }
}

static void roll_back(struct run *r, const struct target *target, unsigned at)
{
    int rc = r->mode == SNAPS_OWN
                 ? rados_ioctx_snap_rollback(r->io[0], target->name, name_of(at))
                 : rados_ioctx_selfmanaged_snap_rollback(r->io[0], target->name, r->snaps[at]);
    say("%s rolled back to %u -> %d", target->label, at, rc);
}

/* Contents, size and attributes, as they were; and that nothing can be written there. */
static void look_back(struct run *r, const struct target *target, unsigned at)
{
    static char buf[DATA_MAX];
    uint64_t size = 7, offset = draw_offset();
    size_t len = 1 + draw_len() % DATA_MAX;
    time_t mtime;
    const char *attr = draw_attr();
    rados_ioctx_t io = r->io[0];
    rados_ioctx_snap_set_read(io, r->snaps[at]);
    int rc = rados_stat(io, target->name, &size, &mtime);
    say("%s at %u: stat %d size %llu", target->label, at, rc, (unsigned long long)size);
    rc = rados_read(io, target->name, buf, len, offset);
    say(" read %zu at %llu %d", len, (unsigned long long)offset, rc);
    if (rc > 0)
        say_data(buf, (size_t)rc);
    rc = rados_getxattr(io, target->name, attr, buf, sizeof buf);
    say(" %s %d", attr, rc);
    if (rc > 0)
        say_data(buf, (size_t)rc);
    say(" write %d", rados_write_full(io, target->name, "x", 1));
    rados_ioctx_snap_set_read(io, LIBRADOS_SNAP_HEAD);
}

static void list_own(struct run *r)
{
    rados_snap_t found[16];
    char name[64];
    int n = rados_ioctx_snap_list(r->io[0], found, 16);
    say("snapshots -> %d", n);
    for (int i = 0; i < n; i++) {
        int rc = rados_ioctx_snap_get_name(r->io[0], found[i], name, sizeof name);
        say(" %s", rc == 0 ? name : "?");
    }
}

void op_snap(struct run *r)
{
    unsigned at = (unsigned)below(SNAPS), kind = (unsigned)below(8);
    const struct target *target = aim(r, 0, (unsigned)below(TARGETS));
    if (kind == 0 || r->snaps[at] == 0)
        change_snaps(r, at);
    else if (kind == 1)
        roll_back(r, target, at);
    else if (kind == 2 && r->mode == SNAPS_OWN)
        list_own(r);
    else
        look_back(r, target, at);
}
