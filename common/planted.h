/*
 * Planted bugs: what the simulator must be able to find.
 *
 * Each names a mistake that the protocols must not make. The simulator is linked with its own build
 * of the cores, in which one of them can be chosen at run time (limpet-sim --planted NAME); in
 * every other build planted() is false at compile time. See tests/sim/README.md.
 */
#ifndef LIMPET_COMMON_PLANTED_H
#define LIMPET_COMMON_PLANTED_H

#include <stdbool.h>

enum planted_bug {
    PLANTED_NONE = 0,
    /* OSD: the primary answers the client before the other members have committed. */
    PLANTED_ACK_BEFORE_MEMBERS,
    /* OSD: a member takes part in a configuration older than the one it knows. */
    PLANTED_ACCEPT_OLD_CONFIG,
    /* OSD: a new primary serves without making the members equal to itself. */
    PLANTED_SKIP_RECONCILE,
    /* OSD: a learner is added to the set before it was filled. */
    PLANTED_ADD_UNFILLED,
    /* OSD: a repeated request is executed again. */
    PLANTED_RUN_DUPLICATE,
    /* OSD: a primary serves reads without looking at its leases. */
    PLANTED_READ_WITHOUT_LEASE,
    /* OSD: a new primary does not wait for the leases of the one before. */
    PLANTED_LEASE_WAIT_SKIPPED,
    /* OSD: leases count that were granted under a newer map. */
    PLANTED_LEASE_OF_NEWER_MAP,
    /* OSD: no lease is needed of a learner that is being added. */
    PLANTED_LEASE_WITHOUT_LEARNER,
    /* OSD: a new process does not think of the leases that the one before it granted. */
    PLANTED_LEASE_NOT_INHERITED,
    /* OSD: a member acknowledges what is not durable yet. */
    PLANTED_MEMBER_ACK_EARLY,
    /* OSD: a scrub takes the copy that the fewest agree with for the good one. */
    PLANTED_REPAIR_FROM_BAD,
    /* OSD: a scrub does not compare sizes and data. */
    PLANTED_SCRUB_IGNORE_DATA,
    /* OSD: a scrub does not notice that a copy lacks an object, or has one too many. */
    PLANTED_SCRUB_IGNORE_MISSING,
    /* OSD: what differs is repaired without looking again while no write runs. */
    PLANTED_REPAIR_WITHOUT_HOLD,
    /* OSD: a read error goes to the client. */
    PLANTED_NO_READ_REPAIR,
    /* Monitor: term and vote are remembered, but not written. */
    PLANTED_VOTE_NOT_DURABLE,
    /* Monitor: log entries are acknowledged without flushing them. */
    PLANTED_APPEND_NOT_DURABLE,
    /* Client: operations under way are forgotten when their session closes. */
    PLANTED_CLIENT_NO_RESEND,
    /* OSD: the primary answers when all members but one have committed. */
    PLANTED_ACK_ALL_BUT_ONE,
    /* OSD: the primary answers without a learner that it has asked to add. */
    PLANTED_ACK_WITHOUT_LEARNER,
    /* OSD: a member takes all that it has for committed. */
    PLANTED_COMMITTED_TOO_HIGH,
    /* OSD: a new primary serves when one member is equal to it, not all. */
    PLANTED_SERVE_BEFORE_EQUAL,
    /* OSD: writes of an object go on while it is pushed to a learner. */
    PLANTED_PUSH_UNLOCKED,
    /* OSD: a copy is removed when it is not wanted, though it is still a member. */
    PLANTED_REMOVE_EARLY,
    /* OSD: an increment of the map is skipped. */
    PLANTED_SKIP_INCREMENT,
    /* Monitor: a set that loses a member keeps its configuration number. */
    PLANTED_CONFIG_NOT_RAISED,
    /* Monitor: a member is added whatever configuration the primary knew. */
    PLANTED_ADD_ANY_CONFIG,
    /* Monitor: a late copy of a command that was executed is executed again. */
    PLANTED_COMMAND_TWICE,
    /* Monitor: a leader that steps down does not say so to who passed commands on to it. */
    PLANTED_LEADER_FORGETS,
    /* Monitor: a snapshot replaces log entries before it is durable. */
    PLANTED_SNAPSHOT_NOT_DURABLE,
    /* Store: a group is acknowledged without a flush. */
    PLANTED_STORE_SKIP_FLUSH,
    /* Store: a group is acknowledged though one before it is not durable yet. */
    PLANTED_STORE_ACK_BEHIND_HOLE,
    /* Store: a group with data writes is under way beside others. */
    PLANTED_STORE_DIRECT_BESIDE,
    /* Store: deferred blocks are put in place before their record is durable. */
    PLANTED_STORE_APPLY_BEFORE_DURABLE,
    /* Store: the journal is trimmed without flushing the index. */
    PLANTED_STORE_TRIM_EARLY,
    /* Store: the journal is trimmed while superseded blocks are in it only. */
    PLANTED_STORE_SUPERSEDE_EARLY,
    /* Store: what a disk returns is not compared with its checksum. */
    PLANTED_STORE_FORGET_CHECKSUM,
    /* Store: a failed or short write is taken for a good one. */
    PLANTED_STORE_IGNORE_SHORT_WRITE,
    /* Store: a failed flush is taken for a good one. */
    PLANTED_STORE_IGNORE_FLUSH_ERROR,
    /* Store: a freed block is given out before the journal has forgotten it. */
    PLANTED_STORE_REUSE_FREED_EARLY,
    /* Store: replay applies records, but puts no payload in place. */
    PLANTED_STORE_SKIP_REPLAY_PLACE,
    /* Store: what replay reads a second time is not compared with its checksum. */
    PLANTED_STORE_TRUST_SECOND_READ,
    /* Store: what the system remembers of a block is not compared with its checksum. */
    PLANTED_STORE_TRUST_REMEMBERED,
    /* Store: replay believes that data written to new places have arrived. */
    PLANTED_STORE_TRUST_DIRECT,
    /* Store: a checkpoint does not give the index the pairs that are in memory only. */
    PLANTED_STORE_FORGET_PAIRS,
    /* Store: the journal's tail passes blocks that only its ring has. */
    PLANTED_STORE_RING_PASSED,
    /* Store: the journal's ring is written again where somebody reads it. */
    PLANTED_STORE_RING_REUSE_READ,
    /* Store: a block is taken for placed as soon as it is being written there. */
    PLANTED_STORE_RING_PLACED_EARLY,
    /* Store: what is read from the ring is put in place without a look at its checksum. */
    PLANTED_STORE_RING_UNCHECKED,
    /* Store: a block is read where it belongs though the ring has its content. */
    PLANTED_STORE_RING_IGNORED,
    /* Store: some names of objects do not get into the filter of them. */
    PLANTED_STORE_FORGET_NAME,
    /* Store: a listing does not tell the index of new objects first. */
    PLANTED_STORE_LIST_OLD,
    /* Store: an overwrite does not look whether its block is shared. */
    PLANTED_STORE_IGNORE_SHARED,
    /* Store: a hole of one object is taken for the same in another one. */
    PLANTED_STORE_SAME_HOLE,
    /* Store: growth takes the reserve as well. */
    PLANTED_STORE_NO_RESERVE,
    /* OSD: some of the changed blocks of a write are not noted for copies that lack it. */
    PLANTED_FORGET_EXTENT,
    /* OSD: blocks that were made zero are not noted for copies that lack it. */
    PLANTED_FORGET_ZERO,
    /* OSD: a learner is caught up from the head of its own log, though it is not part of ours. */
    PLANTED_CATCH_UP_UNCOMMON,
    /* OSD: results of requests are forgotten when their entries leave the log. */
    PLANTED_DUP_FORGOTTEN_AT_TRIM,
    /* OSD: a copy that is filled is not told of results whose entries have left the log. */
    PLANTED_DUP_NOT_FILLED,
    /* OSD: a client that was forgotten is taken for one that has never written. */
    PLANTED_DUP_FORGOTTEN_CLIENT,
    /* OSD: a member that misses an entry acknowledges those that come after it. */
    PLANTED_ACK_GAP,
    /* OSD: a stray copy is removed before the group is clean without it. */
    PLANTED_DELETE_STRAYS_EARLY,
    /* OSD: an entry more than the log knows of leaves the store when the log is cut. */
    PLANTED_FORGET_ENTRY_AT_TRIM,
    /* OSD: a member calls itself equal while a change-over is on its way to its store. */
    PLANTED_EQUAL_TOO_EARLY,
    /* OSD: a new primary makes nothing good that it cannot read, and members lack. */
    PLANTED_ACTIVATE_WITHOUT_REPAIR,
    /* Store in memory: a clone is not made. */
    PLANTED_LOSE_CLONE,
    /* OSD: readers have their turn while a writer looks at the object that it will change. */
    PLANTED_LOOK_UNLOCKED,
    /* OSD: the page after a full one of a namespace begins behind all that was looked at. */
    PLANTED_PAGE_SKIPS,
    /* OSD: a writer looks at its object before the store has what the writes before it wrote. */
    PLANTED_LOOK_EARLY,
    /* OSD: what the steps of a write gave is not kept for a repetition. */
    PLANTED_ANSWER_FORGOTTEN,
    /* OSD: a copy that is filled gets objects without their maps. */
    PLANTED_PUSH_WITHOUT_MAP,
    /* OSD: requests are taken that were sent before the primary became it. */
    PLANTED_OVERTAKE_REFUSED,
    /* OSD: a write after a snapshot makes no clone. */
    PLANTED_CLONE_FORGOTTEN,
    /* OSD: copies that lack an entry get its object, and not the clone that came with it. */
    PLANTED_CLONE_NOT_SENT,
    /* OSD: a snapshot is trimmed that was not removed. */
    PLANTED_TRIM_ALIVE,
    /* OSD: who reads a snapshot sees the object as it is. */
    PLANTED_SNAP_READS_HEAD,
    /* OSD: a watcher that connects again is not told of notifies that it may have missed. */
    PLANTED_NOTIFY_NOT_REPEATED,
    /* OSD: a watch is evicted before its time-out. */
    PLANTED_WATCH_EVICTED_EARLY,
    /* OSD: a fenced lease is taken from a silent owner who is not blocked. */
    PLANTED_WATCH_UNFENCED,
    /* OSD: the leases of who is blocked are over before it knows. */
    PLANTED_WATCH_BLOCKED_AT_ONCE,
    PLANTED_WATCH_DEAF_TIME,
    /* Client: a fenced lease is ended while what was revoked may still be executed. */
    PLANTED_WATCH_ENDS_EARLY,
    /* Client: it goes on without the map by which somebody was blocked, or ended a fenced lease. */
    PLANTED_WATCH_MAP_IGNORED,
    /* OSD: a new primary takes watchers that have not come to it yet for long silent. */
    PLANTED_WATCH_FAILOVER_FORGETS,
    /* Client: a watch counts from when it was confirmed, not from when that was asked. */
    PLANTED_WATCH_FROM_ANSWER,
    /* Client: signs of life count whatever life of the service has answered them. */
    PLANTED_WATCH_IGNORES_LIFE,
    /* Client: a watch whose time is over is not given up. */
    PLANTED_WATCH_NEVER_LOST,
    /* Client: a watch whose connection has ended is trusted as if it had not. */
    PLANTED_WATCH_CUT_IGNORED,
    /* Image: a write passes without looking whether the lease is still good. */
    PLANTED_IMAGE_LEASE_IGNORED,
    /* Image: an owner that is gone is not blocked by the next one. */
    PLANTED_IMAGE_NOT_BLOCKED,
    /* Image: the entry of a lost lease goes while requests are under way. */
    PLANTED_IMAGE_ENTRY_EARLY,
    /* Image: a changed header is not told to those who have the image open. */
    PLANTED_IMAGE_UNTOLD,
    /* Image: the object map has an entry after the write, not before it. */
    PLANTED_IMAGE_MAP_LATE,
    /* Image: what is copied up appears in all earlier snapshots. */
    PLANTED_IMAGE_COPYUP_EVERYWHERE,
    /* Image: a snapshot's number is given back though the header may have it. */
    PLANTED_IMAGE_SNAP_GIVEN_BACK,
    /* Image: flattening forgets the parent though a snapshot needs it. */
    PLANTED_IMAGE_FLATTEN_ALL,
    /* Image: a flush does not wait for writes that were answered early. */
    PLANTED_IMAGE_FLUSH_EARLY,
    /* Image: reads believe the object map without a good lease. */
    PLANTED_IMAGE_MAP_BELIEVED,
    /* Image: a rollback goes on when the lease was lost. */
    PLANTED_IMAGE_HOLD_BLINDLY,
    /* OSD: who has a lock whose time is over still has it. */
    PLANTED_LOCK_OUTLIVES,
    /* OSD: an exclusive lock is given though somebody shares it. */
    PLANTED_LOCK_OF_TWO,
    /* OSD: a write that begins again runs after those that were in line behind it. */
    PLANTED_HELD_AGAIN_LAST,
    /* OSD: a primary activates before its own change-over is durable. */
    PLANTED_ACTIVATE_TOO_EARLY,
    /* OSD: of a session that ends, requests are let go before those in line behind them. */
    PLANTED_ORPHANS_OVERTAKE,
    /* Files: batches of changes are sent without waiting for those that they go after. */
    PLANTED_FS_OUT_OF_ORDER,
    /* Files: what is made in a new directory does not wait for its name. */
    PLANTED_FS_NAME_LATE,
    /* Files: what was begun in a directory whose name was lost goes on in it. */
    PLANTED_FS_UNFOUND_USED,
    /* Files: an intent does not wait for the name of the directory that it leads to. */
    PLANTED_FS_INTENT_EARLY,
    /* Files: records are believed though their lease is over. */
    PLANTED_FS_LEASE_OVER,
    /* Files: a batch does not assert the lease of its shard. */
    PLANTED_FS_UNGUARDED,
    /* Files: a shard takes changes after it was written back. */
    PLANTED_FS_CHANGES_LATE,
    /* Files: nobody is told of changes that could not be written back. */
    PLANTED_FS_LOSS_UNTOLD,
    /* Files: who completes what a client has left takes the mark of what is done away. */
    PLANTED_FS_MARK_EARLY,
    /* Files: an intent of a dead client goes without what it stands for. */
    PLANTED_FS_INTENT_DROPPED,
    /* Files: who completes what a client has left does not have it blocked. */
    PLANTED_FS_UNFENCED,
    /* Files: a living client does not clear what it has lost the end of. */
    PLANTED_FS_LEFT_FORGOTTEN,
    /* Files: locks that were given back in a batch that was lost stay at the OSD. */
    PLANTED_FS_LOCKS_LEFT,
    /* Files: the bytes that a truncation cuts off stay. */
    PLANTED_FS_CUT_LOST,
    /* Files: a record's size covers bytes that have not arrived. */
    PLANTED_FS_SIZE_EARLY,
    /* Files: a record's size leaves out what has arrived, when a write before its end is on its
       way. */
    PLANTED_FS_SIZE_LATE,
    /* Files: what is on its way when a lease is lost goes on. */
    PLANTED_FS_WRITES_LATE,
    /* Files: bytes are sent before the record that makes room for them. */
    PLANTED_FS_ROOM_LATE,
    PLANTED_END
};

#ifdef LIMPET_PLANTED
extern enum planted_bug planted_bug;
static inline bool planted(enum planted_bug which)
{
    return planted_bug == which;
}
#else
static inline bool planted(enum planted_bug which)
{
    (void)which;
    return false;
}
#endif

#endif
