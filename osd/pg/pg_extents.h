/*
 * The blocks that a write changes, for its log entry: few ranges, and never too few.
 */
#ifndef LIMPET_OSD_PG_PG_EXTENTS_H
#define LIMPET_OSD_PG_PG_EXTENTS_H

#include "osd/pg/pg_layout.h"
#include "osd/store/store.h"

struct pg_extents {
    uint8_t n; /* Or PG_EXTENTS_WHOLE. */
    struct pg_extent_layout extents[PG_EXTENTS_MAX];
};

/* Adds blocks. When the ranges are too many, those closest to each other become one. */
void pg_extents_add(struct pg_extents *extents, uint32_t first, uint32_t end);

/*
 * What a transaction of one object changes of its data. Whole, if the object did not exist before,
 * or if more changes than data, the info blob and values of attributes: a copy that gets only these
 * blocks, the attributes and the size is the same afterwards.
 */
void pg_extents_of(const struct encoder *ops, size_t data_len, bool existed,
                   struct pg_extents *out);

#endif
