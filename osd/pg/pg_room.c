/*
 * Space: what is refused before it is replicated.
 *
 * A write that the primary has begun must not fail on any member: its stores take it, from their
 * reserve if need be (store_txn.uses_reserve). So the primary looks first, at its own store and at
 * what members said of theirs with their last acknowledgements. FULL ends growth of objects while
 * some space is left, which overwrites of holes and recovery may still take; NO_ROOM, when only the
 * reserve is left, ends all that brings data. What removes, truncates and cuts is never refused.
 *
 * What only keeps account, of who watches or has something open, or of what is being removed, is
 * not refused either (WIRE_OP_FULL_TRY), since without it nothing could be looked at or removed. It
 * is small and makes no object larger, but there may be much of it: so it ends, with NO_TRY, at
 * half of the reserve, or when the index has no room. The other half is left to recovery and
 * removals.
 */
#include "osd/pg/pg_impl.h"

#include <errno.h>

#include "osd/store/txn.h"

uint32_t pg_room_flags(const struct pg_world *world)
{
    struct store_statfs fs;
    world->store->ops->statfs(world->store, &fs);
    bool full = world->full || fs.bytes_used >= fs.bytes_total / 100 * PG_FULL_PERCENT;
    bool low = fs.bytes_available == 0 && fs.bytes_reserve < fs.reserve_whole / 2;
    return (full ? WIRE_REP_ACK_FULL : 0u) | (fs.bytes_available == 0 ? WIRE_REP_ACK_NO_ROOM : 0u) |
           (low || fs.index_short ? WIRE_REP_ACK_NO_TRY : 0u);
}

void pg_room_heard(struct pg *pg, struct pg_peer *peer, uint32_t flags)
{
    peer->room_flags = flags;
    peer->room_heard_ns = env_now(pg->world->env);
}

/* What a member said long ago says nothing: other groups may have freed space there. */
static uint32_t members_flags(const struct pg *pg)
{
    uint64_t now = env_now(pg->world->env);
    uint32_t flags = 0;
    for (uint8_t i = 0; i < pg->n_peers; i++)
        if (pg->peers[i].room_flags && now - pg->peers[i].room_heard_ns < PG_ROOM_KNOWN_NS)
            flags |= pg->peers[i].room_flags;
    return flags;
}

static bool brings_data(const struct store_txn *txn, size_t data_len)
{
    struct txn_iterator it;
    struct txn_op op;
    txn_iterate(&it, txn->ops.data, txn->ops.len, data_len);
    while (txn_next(&it, &op) > 0)
        if ((op.code == TXN_WRITE && op.len > 0) || op.code == TXN_OMAP_SET ||
            (op.code == TXN_OMAP_HEADER && op.value_len > 0) ||
            (op.code == TXN_SET_ATTR && !pg_attr_is_ours(op.name, op.name_len)))
            return true;
    return false;
}

int pg_room_check(const struct pg *pg, bool grows, bool tries, const struct store_txn *txn,
                  size_t data_len)
{
    uint32_t flags = pg_room_flags(pg->world) | members_flags(pg);
    if (tries && !(flags & WIRE_REP_ACK_NO_TRY))
        return 0;
    if ((flags & WIRE_REP_ACK_FULL) && grows)
        return -ENOSPC;
    if ((flags & WIRE_REP_ACK_NO_ROOM) && (grows || brings_data(txn, data_len)))
        return -ENOSPC;
    return 0;
}
