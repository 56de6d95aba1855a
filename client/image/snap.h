/* Parts of making and removing snapshots, for clones and groups. */
#ifndef LIMPET_CLIENT_IMAGE_SNAP_H
#define LIMPET_CLIENT_IMAGE_SNAP_H

#include "client/image/image.h"
#include "common/env.h"

struct snap_creation {
    const char *name;
    enum limpet_image_snap_kind kind;
    const struct image_link *group; /* Of a group's snapshot, else NULL. */
    const char *group_snap;
    uint64_t snap; /* Out. */
    bool asked;    /* The header was to be changed: it may have the snapshot. */
};
int snap_create(struct limpet_image *image, struct snap_creation *creation) MUST_CHECK;

int snap_roll_back(struct limpet_image *image, uint64_t snap, limpet_image_progress progress,
                   void *arg) MUST_CHECK;

/*
 * Whether a clone that an entry names is there, and its version (0: it cannot be told). A clone's
 * header is written before its entry and goes after it: without one the entry is what somebody who
 * died has left, and goes; -ENOENT.
 */
int snap_check_child(struct limpet_pool *meta, const char *header_name,
                     const struct limpet_pair *pair, unsigned *format) MUST_CHECK;
int snap_has_children(struct limpet_pool *meta, const char *header_name, uint64_t snap,
                      bool *has_children) MUST_CHECK;
/* Whether any of its snapshots has a clone of version 2. */
int snap_has_clones(struct limpet_pool *meta, const char *header_name, bool *has_clones) MUST_CHECK;
/* The last clone of it is gone; nothing happens if that is not so. */
int snap_remove_from_trash(struct limpet_image *image, uint64_t snap) MUST_CHECK;

#endif
