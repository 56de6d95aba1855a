/*
 * Sequences of random operations through librados' C interface: what their files share. An
 * operation draws its parameters from numbers that depend on the seed, the round and its place
 * alone, never on what operations gave; so the same sequence runs on every cluster, and what it
 * prints can be compared.
 */
#ifndef LIMPET_TESTS_COMPAT_SEQUENCE_H
#define LIMPET_TESTS_COMPAT_SEQUENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rados/librados.h>

#include "tests/compat/lines.h"

enum { CLIENTS = 2, TARGETS = 8, SNAPS = 4, DATA_MAX = 70000 };

/* Whether the pool gets snapshots, and which; a pool has one kind. */
enum snaps_mode { SNAPS_NONE, SNAPS_OWN, SNAPS_SELF };

/* An object that operations are on, by all that names it. */
struct target {
    const char *label, *name, *space, *locator;
};
extern const struct target targets[TARGETS];

struct run {
    rados_t cluster[CLIENTS];
    rados_ioctx_t io[CLIENTS];
    uint64_t versions[TARGETS]; /* Of the last change that succeeded in this round; or 0. */
    enum snaps_mode mode;
    uint64_t round;
    rados_snap_t snaps[SNAPS]; /* Those alive; 0: none there. */
};

/* ---- Numbers ---- */

/* Mostly small, mostly overlapping, at times on or beyond a limit. */
size_t draw_len(void);
uint64_t draw_offset(void);
/* Bytes, valid until the program's end; mostly of one letter, so that comparisons find what they
 * seek. */
const char *draw_data(size_t len);
const char *draw_key(void);
const char *draw_attr(void);

/* ---- Objects ---- */

/* The round's own where there are snapshots: what they keep of an object outlives its round. */
const char *space_of(struct run *r, const char *space);
/*
 * Where there are snapshots, an object that was removed is made again: to some operations it is
 * there still on Ceph, as long as a snapshot shows it.
 */
void revive(struct run *r, rados_ioctx_t io, const char *name);
/* Points the context of a client at the object. */
const struct target *aim(struct run *r, unsigned client, unsigned at);
/* After a change, or a look: how the version that it told stands to the one that was noted. */
void say_version(struct run *r, unsigned at, int rc, bool changes, uint64_t version);
rados_completion_t make_completion(void);
/* Waits for a request and releases it; `rc` is what its submission gave. */
int await(rados_completion_t completion, int rc);
/* The same, and tells the object's version. */
int await_version(rados_completion_t completion, int rc, uint64_t *version);

/* ---- Kinds of operations ---- */

void op_simple(struct run *r);
void op_attribute(struct run *r);
void op_write(struct run *r);
void op_read(struct run *r);
void op_lock(struct run *r);
void op_list(struct run *r);
void op_bad_input(struct run *r);
void op_snap(struct run *r);
void op_watch(struct run *r);
/* Ends all watches; they have contexts of their own, which go at the end. */
void watches_reset(struct run *r);
void watches_end(void);
/* Removes all snapshots. */
void snaps_reset(struct run *r);

#endif
