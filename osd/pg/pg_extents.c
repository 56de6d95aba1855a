#include "osd/pg/pg_extents.h"

#include <string.h>

#include "common/planted.h"
#include "osd/store/txn.h"

/* One more than fits, until two of them are joined. */
struct range {
    uint32_t first, end;
};

static uint32_t insert(struct range *ranges, uint32_t n, struct range new)
{
    uint32_t at = 0, after;
    while (at < n && ranges[at].end < new.first)
        at++;
    for (after = at; after < n && ranges[after].first <= new.end; after++) {
        if (ranges[after].first < new.first)
            new.first = ranges[after].first;
        if (ranges[after].end > new.end)
            new.end = ranges[after].end;
    }
    memmove(&ranges[at + 1], &ranges[after], (n - after) * sizeof new);
    ranges[at] = new;
    return n - (after - at) + 1;
}

static uint32_t join_closest(struct range *ranges, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i + 1 < n; i++) {
        if (ranges[i + 1].first - ranges[i].end < ranges[best + 1].first - ranges[best].end)
            best = i;
    }
    ranges[best].end = ranges[best + 1].end;
    memmove(&ranges[best + 1], &ranges[best + 2], (n - best - 2) * sizeof *ranges);
    return n - 1;
}

void pg_extents_add(struct pg_extents *extents, uint32_t first, uint32_t end)
{
    struct range ranges[PG_EXTENTS_MAX + 1];
    if (extents->n == PG_EXTENTS_WHOLE || first >= end)
        return;
    assert(end <= PG_BLOCKS_MAX && extents->n <= PG_EXTENTS_MAX);
    for (uint8_t i = 0; i < extents->n; i++)
        ranges[i] = (struct range){extents->extents[i].first, extents->extents[i].end};
    uint32_t n = insert(ranges, extents->n, (struct range){first, end});
    if (n > PG_EXTENTS_MAX)
        n = join_closest(ranges, n);
    extents->n = (uint8_t)n;
    for (uint32_t i = 0; i < n; i++)
        extents->extents[i] =
            (struct pg_extent_layout){(uint16_t)ranges[i].first, (uint16_t)ranges[i].end};
}

static void add_bytes(struct pg_extents *extents, uint64_t offset, uint64_t len)
{
    if (len > 0)
        pg_extents_add(extents, (uint32_t)(offset / PG_BLOCK),
                       (uint32_t)((offset + len + PG_BLOCK - 1) / PG_BLOCK));
}

/* Returns false when it cannot be told by extents. */
static bool add_operation(struct pg_extents *extents, const struct txn_op *op)
{
    switch (op->code) {
    case TXN_PG_SET:
    case TXN_PG_REMOVE_RANGE:
        return true;
    case TXN_CLONE:
        /* The object stays what it is, unless it is the copy. */
        return op->to.snap != OBJECT_HEAD;
    default:
        break;
    }
    /* What is done to its clones. */
    if (op->object.snap != OBJECT_HEAD)
        return true;
    switch (op->code) {
    case TXN_TOUCH:
    case TXN_SET_INFO:
    case TXN_SET_ATTR:
        return true;
    case TXN_ZERO:
        if (planted(PLANTED_FORGET_ZERO))
            return true;
        /* fallthrough */
    case TXN_WRITE:
        add_bytes(extents, op->offset, op->len);
        return true;
    case TXN_TRUNCATE:
        /* What is cut off may grow again, with zeros in the place of what a copy still has. */
        pg_extents_add(extents, (uint32_t)(op->offset / PG_BLOCK), PG_BLOCKS_MAX);
        return true;
    default:
        return false;
    }
}

void pg_extents_of(const struct encoder *ops, size_t data_len, bool existed, struct pg_extents *out)
{
    struct txn_iterator it;
    struct txn_op op;
    int rc = 0;
    memset(out, 0, sizeof *out);
    txn_iterate(&it, ops->data, ops->len, data_len);
    while (existed && (rc = txn_next(&it, &op)) > 0) {
        if (!add_operation(out, &op))
            existed = false;
    }
    if (!existed || rc < 0)
        out->n = PG_EXTENTS_WHOLE;
}
