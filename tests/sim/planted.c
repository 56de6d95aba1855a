#include "tests/sim/planted.h"

#include <string.h>

enum planted_bug planted_bug = PLANTED_NONE;

static const struct {
    const char *name;
    const char *meaning;
} bugs[PLANTED_END] = {
    [PLANTED_NONE] = {"none", "no planted bug"},
    [PLANTED_ACK_BEFORE_MEMBERS] = {"ack-before-members",
                                    "the primary answers before the other members committed"},
    [PLANTED_ACCEPT_OLD_CONFIG] = {"accept-old-config",
                                   "a member takes part in a configuration that is over"},
    [PLANTED_SKIP_RECONCILE] = {"skip-reconcile",
                                "a new primary does not make the members equal to itself"},
    [PLANTED_ADD_UNFILLED] = {"add-unfilled", "a learner is added before it was filled"},
    [PLANTED_RUN_DUPLICATE] = {"run-duplicate", "a repeated request is executed again"},
    [PLANTED_READ_WITHOUT_LEASE] = {"read-without-lease", "primaries read without leases"},
    [PLANTED_LEASE_WAIT_SKIPPED] = {"lease-wait-skipped",
                                    "a new primary does not wait for the leases of former ones"},
    [PLANTED_LEASE_OF_NEWER_MAP] = {"lease-of-newer-map",
                                    "leases count that were granted under a newer map"},
    [PLANTED_LEASE_WITHOUT_LEARNER] = {"lease-without-learner",
                                       "no lease is needed of a learner that is being added"},
    [PLANTED_LEASE_NOT_INHERITED] = {"lease-not-inherited",
                                     "a process forgets the leases that the one before granted"},
    [PLANTED_MEMBER_ACK_EARLY] = {"member-ack-early",
                                  "a member acknowledges what is not durable yet"},
    [PLANTED_REPAIR_FROM_BAD] = {"repair-from-bad",
                                 "a scrub believes the copy that the fewest agree with"},
    [PLANTED_SCRUB_IGNORE_DATA] = {"scrub-ignore-data", "a scrub compares no sizes and data"},
    [PLANTED_SCRUB_IGNORE_MISSING] = {"scrub-ignore-missing",
                                      "a scrub does not notice that an object is missing"},
    [PLANTED_REPAIR_WITHOUT_HOLD] = {"repair-without-hold",
                                     "an object is repaired while it is written"},
    [PLANTED_NO_READ_REPAIR] = {"no-read-repair", "a read error goes to the client"},
    [PLANTED_VOTE_NOT_DURABLE] = {"vote-not-durable", "a monitor's term and vote are not written"},
    [PLANTED_APPEND_NOT_DURABLE] = {"append-not-durable",
                                    "a monitor acknowledges log entries that are not flushed"},
    [PLANTED_CLIENT_NO_RESEND] = {"client-no-resend",
                                  "a client forgets what was under way when a session closes"},
    [PLANTED_ACK_ALL_BUT_ONE] = {"ack-all-but-one",
                                 "the primary answers when all members but one committed"},
    [PLANTED_ACK_WITHOUT_LEARNER] = {"ack-without-learner",
                                     "the primary answers without a learner that is being added"},
    [PLANTED_COMMITTED_TOO_HIGH] = {"committed-too-high",
                                    "a member takes all that it has for committed"},
    [PLANTED_SERVE_BEFORE_EQUAL] = {"serve-before-equal",
                                    "a new primary serves when one member is equal to it"},
    [PLANTED_PUSH_UNLOCKED] = {"push-unlocked",
                               "an object is written while it is pushed to a learner"},
    [PLANTED_REMOVE_EARLY] = {"remove-early", "a copy is removed though it is still a member"},
    [PLANTED_SKIP_INCREMENT] = {"skip-increment", "an OSD skips an increment of the map"},
    [PLANTED_CONFIG_NOT_RAISED] = {"config-not-raised",
                                   "a set that loses a member keeps its number"},
    [PLANTED_ADD_ANY_CONFIG] = {"add-any-config",
                                "a member is added whatever configuration the primary knew"},
    [PLANTED_COMMAND_TWICE] = {"command-twice", "a late copy of a command is executed again"},
    [PLANTED_LEADER_FORGETS] = {"leader-forgets",
                                "a leader that steps down forgets commands of other monitors"},
    [PLANTED_SNAPSHOT_NOT_DURABLE] = {"snapshot-not-durable",
                                      "a monitor's snapshot is used before it is durable"},
    [PLANTED_STORE_ACK_BEHIND_HOLE] =
        {"store-ack-behind-hole", "a group is acknowledged though one before it is not durable"},
    [PLANTED_STORE_DIRECT_BESIDE] = {"store-direct-beside",
                                     "a group with data writes is under way beside others"},
    [PLANTED_STORE_SKIP_FLUSH] = {"store-skip-flush", "a group is acknowledged without a flush"},
    [PLANTED_STORE_APPLY_BEFORE_DURABLE] =
        {"store-apply-before-durable", "blocks are put in place before their record is durable"},
    [PLANTED_STORE_TRIM_EARLY] = {"store-trim-early",
                                  "the journal is trimmed without flushing the index"},
    [PLANTED_STORE_SUPERSEDE_EARLY] = {"store-supersede-early",
                                       "the journal is trimmed while it alone has some content"},
    [PLANTED_STORE_FORGET_CHECKSUM] = {"store-forget-checksum", "reads compare no checksums"},
    [PLANTED_STORE_TRUST_SECOND_READ] =
        {"store-trust-second-read", "replay puts in place what it read again without a look at it"},
    [PLANTED_STORE_IGNORE_SHORT_WRITE] = {"store-ignore-short-write",
                                          "a failed or short write is taken for a good one"},
    [PLANTED_STORE_IGNORE_FLUSH_ERROR] = {"store-ignore-flush-error",
                                          "a failed flush is taken for a good one"},
    [PLANTED_STORE_REUSE_FREED_EARLY] = {"store-reuse-freed-early",
                                         "freed blocks are given out at once"},
    [PLANTED_STORE_SKIP_REPLAY_PLACE] = {"store-skip-replay-place",
                                         "replay puts no payload in place"},
    [PLANTED_STORE_TRUST_DIRECT] = {"store-trust-direct",
                                    "replay does not check data written to new places"},
    [PLANTED_DUP_FORGOTTEN_AT_TRIM] = {"dup-forgotten-at-trim",
                                       "results leave with their entries of the log"},
    [PLANTED_DUP_NOT_FILLED] = {"dup-not-filled", "a filled copy lacks results that left the log"},
    [PLANTED_DUP_FORGOTTEN_CLIENT] = {"dup-forgotten-client",
                                      "a forgotten client is taken for a new one"},
    [PLANTED_ACK_GAP] = {"ack-gap", "a member acknowledges what comes after an entry it lacks"},
    [PLANTED_DELETE_STRAYS_EARLY] = {"delete-strays-early",
                                     "a stray copy is removed before the group is clean"},
    [PLANTED_FORGET_ENTRY_AT_TRIM] = {"forget-entry-at-trim",
                                      "an entry too many is removed when the log is cut"},
    [PLANTED_LOSE_CLONE] = {"lose-clone", "an object is not cloned"},
    [PLANTED_STORE_FORGET_PAIRS] = {"store-forget-pairs",
                                    "a checkpoint loses pairs that only memory has"},
    [PLANTED_STORE_FORGET_NAME] = {"store-forget-name", "the filter of names lacks some"},
    [PLANTED_STORE_SAME_HOLE] = {"store-same-hole",
                                 "a hole of one object is taken for the same in another one"},
    [PLANTED_STORE_LIST_OLD] = {"store-list-old", "a listing lacks new objects"},
    [PLANTED_PAGE_SKIPS] = {"page-skips", "after a full page of a namespace objects are left out"},
    [PLANTED_LOOK_UNLOCKED] = {"look-unlocked", "readers go between a write's look and its change"},
    [PLANTED_LOOK_EARLY] = {"look-early", "a write looks before the writes before it are stored"},
    [PLANTED_ANSWER_FORGOTTEN] = {"answer-forgotten", "a repeated write gives nothing"},
    [PLANTED_PUSH_WITHOUT_MAP] = {"push-without-map", "copies are filled without maps"},
    [PLANTED_OVERTAKE_REFUSED] = {"overtake-refused", "requests overtake refused ones"},
    [PLANTED_CLONE_FORGOTTEN] = {"clone-forgotten", "a write after a snapshot makes no clone"},
    [PLANTED_CLONE_NOT_SENT] = {"clone-not-sent", "copies catch up without clones"},
    [PLANTED_TRIM_ALIVE] = {"trim-alive", "a snapshot is trimmed that was not removed"},
    [PLANTED_SNAP_READS_HEAD] = {"snap-reads-head",
                                 "who reads a snapshot sees the object as it is"},
    [PLANTED_NOTIFY_NOT_REPEATED] = {"notify-not-repeated",
                                     "who watches again is not told of notifies that wait"},
    [PLANTED_WATCH_EVICTED_EARLY] = {"watch-evicted-early",
                                     "a watch is evicted before its time-out"},
    [PLANTED_WATCH_FAILOVER_FORGETS] = {"watch-failover-forgets",
                                        "a new primary evicts whoever has not come to it yet"},
    [PLANTED_WATCH_FROM_ANSWER] = {"watch-from-answer",
                                   "a watch counts from when it was confirmed"},
    [PLANTED_WATCH_IGNORES_LIFE] = {"watch-ignores-life",
                                    "signs of life count whoever answers them"},
    [PLANTED_WATCH_NEVER_LOST] = {"watch-never-lost", "an owner does not look at the time"},
    [PLANTED_STORE_IGNORE_SHARED] = {"store-ignore-shared", "an overwrite changes shared blocks"},
    [PLANTED_STORE_NO_RESERVE] = {"store-no-reserve", "growth takes the reserve as well"},
    [PLANTED_FORGET_ZERO] = {"forget-zero",
                             "blocks that were made zero are not noted for copies that lack them"},
    [PLANTED_FORGET_EXTENT] = {"forget-extent",
                               "some changed blocks are not noted for copies that lack them"},
    [PLANTED_EQUAL_TOO_EARLY] = {"equal-too-early",
                                 "a member is equal before its change-over is durable"},
    [PLANTED_ACTIVATE_WITHOUT_REPAIR] = {"activate-without-repair",
                                         "a new primary does not make good what members lack"},
    [PLANTED_CATCH_UP_UNCOMMON] = {"catch-up-uncommon",
                                   "a learner is caught up from a point that is not common"},
};

const char *planted_name(enum planted_bug bug)
{
    return bugs[bug].name;
}

const char *planted_meaning(enum planted_bug bug)
{
    return bugs[bug].meaning;
}

enum planted_bug planted_by_name(const char *name)
{
    for (int bug = PLANTED_NONE; bug < PLANTED_END; bug++) {
        if (strcmp(bugs[bug].name, name) == 0)
            return (enum planted_bug)bug;
    }
    return PLANTED_END;
}
