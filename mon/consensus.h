/*
 * Consensus: an ordered log of entries that all monitors apply alike.
 *
 * This is the only file that knows libraft. The storage and transport that libraft asks for are our
 * log store (log_store.h) and the monitors' sessions. libraft's core is the published algorithm
 * (D. Ongaro, "Consensus: Bridging Theory and Practice", 2014); the rules that our side must keep:
 *
 *  C1  Term and vote are durable before the call that changes them returns; an entry is durable
 *      before it is acknowledged, to the leader or to ourselves.
 *  C2  Appends of one turn are made durable together, by one flush, after the messages of the turn
 *      have left: so leader and followers flush in parallel, and a commit costs one flush and one
 *      round trip. Nothing waits for a timer.
 *  C3  Before an event of another leader or term reaches libraft, the appends that wait are flushed
 *      and answered: libraft answers a late flush in the name of its current term and to its
 *      current leader, which would claim entries that this leader may not have.
 *  C4  A leader counts replicas only for entries of its own term (section 3.6.2). libraft 0.15
 *      counts them for its last entry whatever that is; so each new leader appends a barrier in the
 *      turn of its election, and no acknowledgement reaches libraft before it is durable here.
 *  C5  A follower acknowledges no entry beyond those that the request covers: what follows in its
 *      log may stem from another leader. libraft 0.15 answers with the end of its log.
 *  C6  A leader makes entries only after everything before them is applied: after its barrier.
 *  C7  One entry is in flight at a time. When leadership is lost meanwhile, its fate is unknown.
 */
#ifndef LIMPET_MON_CONSENSUS_H
#define LIMPET_MON_CONSENSUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/codec.h"
#include "common/env.h"
#include "common/error.h"
#include "mon/log_store.h"
#include "placement/map.h"

enum {
    CONSENSUS_ELECTION_TIMEOUT_MS = 600,
    CONSENSUS_HEARTBEAT_MS = 150,
    CONSENSUS_SNAPSHOT_ENTRIES = 500,
    CONSENSUS_TRAILING_ENTRIES = 128,
    CONSENSUS_ENTRY_MAX = 32 * 1024 * 1024,
};

struct consensus;

struct consensus_ops {
    /* Sends to another monitor, taking over the message; dropping it is allowed. */
    void (*send)(void *ctx, uint64_t to, struct message *message);
    /* Applies the next committed entry. A failure ends the monitor. */
    int (*apply)(void *ctx, const void *data, size_t len);
    /* Writes the whole state, and replaces it. */
    int (*snapshot)(void *ctx, struct encoder *out);
    int (*restore)(void *ctx, const void *data, size_t len);
    /* We may propose from now on (all earlier entries are applied), or no longer. */
    void (*leading)(void *ctx, bool leading);
    /* Another monitor leads, or (0) none is known. */
    void (*leader_changed)(void *ctx, uint64_t leader);
    /* What became of the entry in flight: 0, applied here; -ELIMPET_NOT_LEADER, nobody knows. */
    void (*proposed)(void *ctx, int result);
    /* Consensus cannot go on: the process must end. */
    void (*failed)(void *ctx, int error, const char *why);
};

struct consensus_options {
    struct uuid fsid;
    uint64_t self;
    uint32_t n_mons;
    const struct map_mon *mons;
    uint32_t election_timeout_ms; /* 0: default */
    uint32_t heartbeat_ms;
    uint32_t snapshot_entries;
};

/* Makes the files of a new monitor whose first quorum are these monitors. */
int consensus_mkfs(struct env *env, const struct map_mon *mons, uint32_t n) MUST_CHECK;

/*
 * Loads the log and starts. Calls of ops (restore, apply) are made before this returns; ctx must be
 * ready for them. ops stays valid as long as the consensus.
 */
int consensus_create(struct env *env, const struct consensus_options *options,
                     const struct consensus_ops *ops, void *ctx, struct consensus **out,
                     char why[LOG_STORE_WHY_MAX]) MUST_CHECK;
/* Frees. No call of ops is made by it. */
void consensus_destroy(struct consensus *consensus);
/* A flush is queued in the env: it must run before consensus_destroy(), unless the env ends too. */
bool consensus_busy(const struct consensus *consensus);

/* A MSG_RAFT message of the monitor with raft id `from`. */
void consensus_receive(struct consensus *consensus, uint64_t from, const struct message *message);

/* Nobody listens at that monitor's address: if it is the leader, an election starts at once. */
void consensus_peer_dead(struct consensus *consensus, uint64_t id);
/* That monitor can be reached now: if there is no leader, an election starts soon. */
void consensus_peer_found(struct consensus *consensus, uint64_t id);

/*
 * Appends an entry. -ELIMPET_NOT_LEADER unless leading; -EBUSY while one is in flight; -EMSGSIZE.
 * ops.proposed() follows when it returned 0, never from inside the call.
 */
int consensus_propose(struct consensus *consensus, const void *data, size_t len) MUST_CHECK;

bool consensus_leading(const struct consensus *consensus);
bool consensus_in_flight(const struct consensus *consensus);
/* Raft id of the leader, as far as known; 0: none. */
uint64_t consensus_leader(const struct consensus *consensus);
/*
 * Whether a monitor took part lately: it is ourselves, or has sent us a message of consensus within
 * two election timeouts.
 */
bool consensus_heard(const struct consensus *consensus, uint64_t id);

struct consensus_state {
    const char *role; /* "leader", "follower", "candidate" */
    uint64_t term;
    uint64_t leader;
    uint64_t last_index;
    uint64_t applied;
};
void consensus_state(const struct consensus *consensus, struct consensus_state *out);

/* The log below, for its counters. */
const struct log_store *consensus_log(const struct consensus *consensus);

#endif
