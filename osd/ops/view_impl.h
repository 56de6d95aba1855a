/*
 * The inside of an object's view: shared by view.c (what was loaded), view_look.c and
 * view_change.c, private to them.
 */
#ifndef LIMPET_OSD_OPS_VIEW_IMPL_H
#define LIMPET_OSD_OPS_VIEW_IMPL_H

#include "osd/ops/view.h"

struct view_piece {
    struct view_piece *next;
    enum view_need_kind kind; /* Data, extents, or what is the same. */
    uint64_t offset, len;
    uint64_t clone;
    struct buf_slice data;
    struct encoder extents;
};

struct view_attr {
    struct view_bytes name, value;
};

/* Keys from `from` up to, not including, `to` are these and no others. */
struct view_pairs {
    uint8_t *memory; /* Holds both keys. */
    struct view_bytes from, to;
    bool unbounded;
    struct encoder pairs;
    uint32_t n;
    struct view_attr *index; /* By key; points into pairs. */
};

enum view_change_kind {
    CHANGE_WRITE, /* The bytes of `value`, again and again. */
    CHANGE_ZERO,
    CHANGE_TRUNCATE, /* offset: the size. */
    CHANGE_REMOVE,   /* Everything. */
    CHANGE_ATTR,
    CHANGE_ATTR_GONE,
    CHANGE_PAIR,
    CHANGE_PAIRS_GONE, /* From name to value; an empty value: to the end. */
    CHANGE_HEADER,
};

struct view_change {
    enum view_change_kind kind;
    uint64_t offset, len;
    struct view_bytes name, value;
};

struct view_block {
    struct view_block *next;
    size_t used, size;
    uint8_t bytes[];
};

/* Notes what must be loaded; returns VIEW_MISS, or -ENOMEM. */
int view_want(struct object_view *view, const struct view_need *need) MUST_CHECK;
/* The loaded piece that covers the range; NULL. */
const struct view_piece *view_piece_of(const struct object_view *view, enum view_need_kind kind,
                                       uint64_t offset, uint64_t len);
/* The loaded range of the map that the key lies in; NULL. */
const struct view_pairs *view_pairs_of(const struct object_view *view, struct view_bytes key);
/* Index of the first entry that is not less than the key. */
uint32_t view_index_find(const struct view_attr *index, uint32_t n, struct view_bytes key);

static inline struct view_bytes view_bytes(const void *data, size_t len)
{
    return (struct view_bytes){data, (uint32_t)len};
}

static inline int view_bytes_compare(struct view_bytes a, struct view_bytes b)
{
    return view_compare(a.data, a.len, b.data, b.len);
}

/* Whether anything of the store still shows. */
static inline bool view_shows_base(const struct object_view *view)
{
    return view->base.exists && !view->renewed;
}

#endif
