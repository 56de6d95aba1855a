/*
 * Headers of images and directories of pools: reading them, and changing them at once (H1 in
 * README.md). Everything here waits, but for what says otherwise.
 */
#ifndef LIMPET_CLIENT_IMAGE_HEADER_H
#define LIMPET_CLIENT_IMAGE_HEADER_H

#include "client/image/layout.h"
#include "client/limpet/object.h"
#include "common/error.h"

/* A header as it was at some time. */
struct header {
    struct image_core core;
    size_t core_len; /* Its bytes, which changes compare. */
    uint8_t *core_bytes;
    size_t n_snaps;
    struct image_snap *snaps; /* By number. */
    size_t n_owners;
    struct image_owner *owners;
};

void header_fini(struct header *header);
int header_copy(const struct header *from, struct header *out) MUST_CHECK;

/* What it cannot read is not looked at, so that it can be removed: -EBADMSG, -ENOEXEC. */
int header_read(struct limpet_pool *pool, const char *id, struct header *out) MUST_CHECK;

/* Reading as an operation of the caller's. */
struct header_reading {
    struct limpet_pairs *core, *snaps, *owners;
};
int header_reading_steps(struct limpet_op *op, struct header_reading *reading) MUST_CHECK;
/* After the operation's success. Destroys what was read. */
int header_reading_end(struct header_reading *reading, struct header *out) MUST_CHECK;

/*
 * Makes `next`, a copy of the header, what it shall be, and may add steps to the operation that
 * writes it, which are executed with it. Called again with a newer header when somebody else was
 * faster. An error ends it, and nothing has happened; HEADER_SAME: there is nothing to do.
 */
#define HEADER_SAME 1
typedef int (*header_changer)(struct header *next, struct limpet_op *op, void *arg);

/* *header is what is known (core_bytes NULL: nothing); then what was written. */
int header_change(struct limpet_pool *pool, const char *id, struct header *header,
                  header_changer change, void *arg) MUST_CHECK;

/* Its position; n_snaps: there is none. */
size_t header_snap(const struct header *header, uint64_t id);
size_t header_snap_named(const struct header *header, const char *name);
/* It has room for one more, which is zeroes. */
struct image_snap *header_snap_add(struct header *next);
void header_snap_remove(struct header *next, size_t at);

void header_object(const char *id, char out[IMAGE_OBJECT_NAME_MAX]);
/* 16 random hexadecimal digits. */
void image_new_id(char out[LIMPET_IMAGE_ID_MAX + 1]);
/* Since 1970 UTC. */
uint64_t image_now_ns(void);

/* ---- Directories: objects with pairs n/NAME -> id and i/ID -> name ---- */

/* -EEXIST */
int directory_add(struct limpet_pool *pool, const char *object, const char *name,
                  const char *id) MUST_CHECK;
/* -ENOENT: the name is gone, or another id's. */
int directory_remove(struct limpet_pool *pool, const char *object, const char *name,
                     const char *id) MUST_CHECK;
int directory_rename(struct limpet_pool *pool, const char *object, const char *name, const char *to,
                     const char *id) MUST_CHECK;
int directory_id(struct limpet_pool *pool, const char *object, const char *name,
                 char out[LIMPET_IMAGE_ID_MAX + 1]) MUST_CHECK;
int directory_name(struct limpet_pool *pool, const char *object, const char *id,
                   char out[LIMPET_IMAGE_NAME_MAX + 1]) MUST_CHECK;
int directory_list(struct limpet_pool *pool, const char *object, struct limpet_image_entry **out,
                   size_t *n) MUST_CHECK;

/* ---- Maps of objects ---- */

/* Release *value with free(). -ENOENT */
int omap_get(struct limpet_pool *pool, const char *object, const char *key, char **value,
             size_t *len) MUST_CHECK;
int omap_remove(struct limpet_pool *pool, const char *object, const void *key,
                size_t key_len) MUST_CHECK;
/* Not 0 ends the walk. An object that is not there has no pairs. */
typedef int (*omap_visitor)(const struct limpet_pair *pair, void *arg);
int omap_walk(struct limpet_pool *pool, const char *object, const char *prefix, omap_visitor visit,
              void *arg) MUST_CHECK;

#endif
