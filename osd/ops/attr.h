/*
 * Attributes as clients name them, and comparisons; for steps and methods.
 */
#ifndef LIMPET_OSD_OPS_ATTR_H
#define LIMPET_OSD_OPS_ATTR_H

#include "osd/ops/view.h"

enum {
    OPS_ATTR_PREFIX = '_', /* In the store, before names of clients. */
    OPS_ATTR_NAME_MAX = STORE_ATTR_NAME_MAX - 1,
};

/* Returns its length. */
uint16_t attr_stored_name(const void *name, size_t len, uint8_t out[STORE_ATTR_NAME_MAX]);

/* -ENODATA. */
int attr_get(struct object_view *view, const void *name, size_t len,
             struct view_bytes *out) MUST_CHECK;
/* The value is borrowed until the end of the run. -ENAMETOOLONG, -EFBIG, -E2BIG. */
int attr_set(struct object_view *view, const void *name, size_t len, const void *value,
             size_t value_len) MUST_CHECK;
int attr_remove(struct object_view *view, const void *name, size_t len) MUST_CHECK;

/* Whether it is one of enum wire_compare, but for the flag. */
bool compare_is_known(uint64_t comparison);
/* Whether a is ... b. */
bool compare_bytes(unsigned comparison, struct view_bytes a, struct view_bytes b);

static inline struct view_bytes view_bytes_of(const void *data, size_t len)
{
    return (struct view_bytes){data, (uint32_t)len};
}

#endif
