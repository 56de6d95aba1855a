/*
 * A placement group on this OSD: replication by configuration number and in-sync set.
 *
 * A struct pg is a state machine that reacts to maps, messages, client requests and completions of
 * the store, and reaches everything else through struct pg_world. Its invariants and states stand
 * at the top of pg.c; the protocol is told in osd/pg/README.md.
 */
#ifndef LIMPET_OSD_PG_PG_H
#define LIMPET_OSD_PG_PG_H

#include <bsd/sys/queue.h>

#include "common/env.h"
#include "common/limpet.pb-c.h"
#include "osd/ops/ops.h"
#include "osd/ops/run.h"
#include "osd/pg/pg_turn.h"
#include "osd/store/store.h"
#include "placement/map.h"

struct pg;
struct pg_object;
struct pg_request;
struct pg_write;
struct pg_fill;
struct pg_run;

/* What a placement group asks of its OSD. None of these calls back into the pg. */
struct pg_world_ops {
    /* To another OSD's process, over our session with it. Takes over the message; drops it when
     * that OSD cannot be reached now (pg_peer_reset() follows when it can). */
    void (*send)(void *ctx, int32_t osd, struct message *message);
    /* On a session that the other side opened. Takes over the message. */
    void (*answer)(void *ctx, struct net_session *session, struct message *message);
    /* The request has been answered (reply, taken over) or dropped (NULL): frees it. */
    void (*request_done)(void *ctx, struct pg_request *request, struct message *reply);
    /*
     * A read of this many bytes is about to begin for the request. True: it may, and counts until
     * request_done(). False: it waits until pg_reads_resume() makes it ask again.
     */
    bool (*may_read)(void *ctx, struct pg_request *request, uint64_t bytes);
    /* To the monitors, once; the pg repeats it. */
    void (*add_member)(void *ctx, struct pg_id pg, uint64_t config, int32_t osd);
    /* To the monitors, once: this client is to be blocked; the pg repeats it. */
    void (*fence)(void *ctx, uint64_t client);
    /*
     * Until when (env_clock()) we hold a lease of that OSD's process, the one that our map names,
     * which it granted under no newer map than ours; 0: none.
     */
    uint64_t (*lease_until)(void *ctx, int32_t osd);
    /* Until when the leases are good that we have granted to this process so far. */
    uint64_t (*granted_until)(void *ctx, int32_t osd, uint64_t instance);
    /* Something that the statistics show is different now. */
    void (*changed)(void *ctx, struct pg *pg);
    /* Somebody knows this map. */
    void (*want_map)(void *ctx, uint64_t epoch);
    /* The OSD cannot go on. */
    void (*fatal)(void *ctx, int error, const char *why);
};

TAILQ_HEAD(pg_object_list, pg_object);
TAILQ_HEAD(pg_fill_list, pg_fill);
SLIST_HEAD(pg_write_pool, pg_write);
TAILQ_HEAD(pg_run_list, pg_run);

enum { PG_FULL_PERCENT = 95 /* Of a store: from there on nothing grows. */ };

/* When groups are scrubbed without being told to. 0: never. */
struct pg_scrub_options {
    uint64_t interval_ns; /* Digests of metadata, and sizes. */
    uint64_t deep_interval_ns;
    uint64_t first_ns; /* Not before the OSD has run for this long. */
};

/*
 * What all placement groups of an OSD share. Set up by pg_world_init(), which wants env and store
 * set.
 */
struct pg_world {
    struct env *env;
    struct pg_scrub_options scrub;
    struct store *store;
    const struct cluster_map *map; /* The OSD's; replaced when it changes. */
    int32_t self;
    bool full; /* The store is so full that only what frees space is allowed. */
    /* Others were told that this process ends, and count on it: it begins no reads any more. */
    bool retired;
    /* Leases: when this process started (env_clock()), and the longest that any of ours grants. */
    uint64_t started_ns;
    uint64_t lease_ns;
    uint32_t log_keep; /* Entries that a log is cut back to; set by pg_world_init(). */
    uint32_t clients;  /* Of which a group keeps records; likewise. */
    const struct pg_world_ops *ops;
    void *ctx;
    /* Counters for the statistics. */
    uint64_t write_ops, read_ops, write_bytes, read_bytes;
    uint64_t recovered_objects, recovered_bytes; /* Sent to copies that were filled. */
    uint64_t read_errors;                        /* Objects that our store could not read. */
    uint64_t repaired;        /* Objects of ours written anew from another copy. */
    uint64_t results_dropped; /* Of clients with too many, or too many clients: pg_clients.h. */
    uint64_t repeats_refused; /* Requests whose results may be among these. */
    struct pg_turns turns;    /* Of background jobs. */
    /* Private to osd/pg. */
    uint32_t n_unleased;  /* Reads that wait for leases. */
    uint32_t n_watches;   /* Of all groups. */
    uint64_t n_lives;     /* Of the service of groups, so far. */
    uint64_t own_tid;     /* Of the last request of our own. */
    struct pg *scrubbing; /* The one whose turn it is. */
    uint32_t n_surveys;
    uint32_t n_inconsistents; /* Remembered by all groups. */
    uint32_t n_objects;
    struct pg_object_list idle_objects; /* Of all groups: least recently used first. */
    size_t dirty_bytes;                 /* Of what absent members lack. */
    uint32_t n_fills;
    struct pg_fill_list waiting_fills;
    struct pg_run_list waiting_runs; /* For may_read(): oldest first. */
    uint32_t n_free_writes;
    struct pg_write_pool free_writes;
};

void pg_world_init(struct pg_world *world);
/* After all placement groups are gone. */
void pg_world_fini(struct pg_world *world);
/* Reads that had to wait ask again. */
void pg_reads_resume(struct pg_world *world);
static inline bool pg_reads_wait(const struct pg_world *world)
{
    return !TAILQ_EMPTY(&world->waiting_runs);
}

/*
 * Somebody who wants an object. Waiters are served in order. Writers run one after the other
 * without waiting for commits; a reader runs when all writes before it are committed, and holds
 * back the writers after it until it has read.
 */
struct object_waiter {
    bool writes;
    bool activates; /* Part of activation: nobody else is let to the object, and nothing commits. */
    bool queued;
    void (*ready)(struct object_waiter *waiter, struct pg_object *object, int error);
    const uint8_t *clone; /* Of the object, that it wants: its id. NULL: the object itself. */
    uint16_t clone_len;
    struct pg_object *object;
    TAILQ_ENTRY(object_waiter) link;
};
TAILQ_HEAD(object_waiter_list, object_waiter);

/* A client request. Allocated and zeroed by the OSD core, which fills in the first part. */
struct pg_request {
    struct message *message; /* Holds what `ops` points to. */
    struct ops_request ops;
    void *owner;                 /* The core's. */
    struct ops_caller caller;    /* Strings valid until request_done(). */
    struct net_session *session; /* On which it came, while that is open. */
    /* Private to osd/pg. */
    struct pg *pg;
    bool own;               /* The primary's: there is no client, and `owner` means nothing. */
    uint8_t place;          /* enum request_place */
    uint32_t window_bytes;  /* Reserved in the window of the log. */
    void *operation;        /* The read, listing or write that runs for it. */
    uint64_t begun_ns;      /* When it came. */
    uint64_t wait_sequence; /* Answered with this entry when it is committed. */
    struct object_waiter waiter;
    TAILQ_ENTRY(pg_request) link; /* In the list of its place. */
};

/* ---- Life ---- */

/*
 * in_store: the store has pairs of it, so pg_load() must be called before anything else. NULL when
 * memory is short.
 */
struct pg *pg_create(struct pg_world *world, struct pg_id id, bool in_store) MUST_CHECK;
/* Reads state and log; then calls loaded. Errors end the OSD by fatal(). */
void pg_load(struct pg *pg, void (*loaded)(void *ctx, struct pg *pg), void *ctx);
/* Does nothing more by itself, while the store finishes what was submitted. */
void pg_stop(struct pg *pg);
/* Frees at once; nothing of it may be under way in the store any more, or ever call back. */
void pg_destroy(struct pg *pg);

struct pg_id pg_id(const struct pg *pg);
/* The copy is gone from the store, or never was there, and the map gives it nothing to do. */
bool pg_is_disposable(const struct pg *pg);

/* ---- Events ---- */

/*
 * The world's map is another one. every_step: it is the successor of the one that the pg saw last;
 * otherwise changes in between may have gone unseen.
 */
void pg_follow_map(struct pg *pg, bool every_step);
/* Leases are better than before, or count now: reads that waited for them look again. */
void pg_lease_renewed(struct pg *pg);
/* Twice a second, for what must be repeated. */
void pg_tick(struct pg *pg);
/* Scrub it as soon as it may be. */
void pg_scrub_order(struct pg *pg, bool deep);
/* A client's request for this pg, valid for the world's map. It is answered by request_done(). */
void pg_request(struct pg *pg, struct pg_request *request);
/* The client is gone: nobody waits for the reply. What runs already is finished in silence. */
void pg_request_orphan(struct pg_request *request);

/* A message about a placement group, decoded. */
struct pg_incoming {
    struct message *message; /* Borrowed. */
    struct pg_id pg;
    uint64_t config;
    uint64_t epoch; /* 0: the message does not say. */
    union {
        ProtobufCMessage *proto;
        Limpet__Wire__PgActivate *activate;
        Limpet__Wire__PgInfo *info;
        Limpet__Wire__PgScan *scan;
        Limpet__Wire__PgScanReply *scan_reply;
        Limpet__Wire__PgPush *push;
        Limpet__Wire__PgPushReply *push_reply;
        Limpet__Wire__PgScrub *scrub;
        Limpet__Wire__PgScrubReply *scrub_reply;
        Limpet__Wire__PgPull *pull;
        Limpet__Wire__PgPullReply *pull_reply;
    };
    struct wire_rep_txn rep;
    struct wire_rep_ack ack;
};
/* -EBADMSG when it is malformed or of another type. */
int pg_incoming_decode(struct message *message, struct pg_incoming *out) MUST_CHECK;
void pg_incoming_fini(struct pg_incoming *in);

/* The answer to a primary's message about a group that we have no part in; NULL if none is needed.
 */
struct message *pg_refusal(const struct pg_incoming *in, uint64_t epoch) MUST_CHECK;

enum pg_verdict {
    PG_TAKEN, /* Handled or refused. */
    PG_HOLD,  /* The sender knows a newer map: offer the message again after the next one. */
};
/*
 * A message from another OSD. Requests (of a primary) come on that OSD's session, and replies go
 * there; replies (of members) are given only when they came on our current session with it.
 */
enum pg_verdict pg_receive(struct pg *pg, struct net_session *session, int32_t from,
                           const struct pg_incoming *in);
/* A session is over; the pointer is about to become invalid. */
void pg_session_closed(struct pg *pg, struct net_session *session);
/* We have a new session with that OSD's process: whatever the last one did not answer is lost. */
void pg_peer_reset(struct pg *pg, int32_t osd);

/* ---- Looking ---- */

enum pg_state {
    PG_STATE_LOADING,
    PG_STATE_STRAY,
    PG_STATE_REPLICA_WAITING,
    PG_STATE_REPLICA_ACTIVE,
    PG_STATE_LEARNER_WAITING,
    PG_STATE_FILLING,
    PG_STATE_FILLED,
    PG_STATE_PRIMARY_INACTIVE,
    PG_STATE_PRIMARY_ACTIVATING,
    PG_STATE_PRIMARY_ACTIVE,
    PG_STATE_REMOVING,
    PG_STATE_COUNT
};
enum pg_state pg_state(const struct pg *pg);
const char *pg_state_name(enum pg_state state);
bool pg_is_primary(const struct pg *pg);
/* The other OSDs that this pg works with. Returns how many. */
enum { PG_PARTNERS_MAX = 3 * PG_SIZE_MAX };
uint32_t pg_partners(const struct pg *pg, int32_t out[PG_PARTNERS_MAX]);
/* Something is going on that will change the statistics soon. */
bool pg_is_busy(const struct pg *pg);
/* Writes that are not yet durable here, or not yet acknowledged. */
bool pg_has_writes(const struct pg *pg);
/* Whether a request waits for watchers. */
bool pg_request_notifies(const struct pg_request *request);
/* What a request of the pg waits for, in words; returns out. */
enum { PG_WAITS_MAX = 128 };
const char *pg_request_waits(const struct pg_request *request, char out[PG_WAITS_MAX]);
/* For a primary. `waiting` points to static memory. */
void pg_stat(const struct pg *pg, Limpet__Wire__PgStat *out);
/*
 * For a primary: what scrubs and reads found, at most `max` objects after `after` (NULL: from the
 * beginning). Free it with limpet__wire__pg_inconsistent_list__free_unpacked(). NULL: -ENOMEM;
 * -ENODATA: nothing is known, since no scrub has ended since we became the primary.
 */
Limpet__Wire__PgInconsistentList *pg_inconsistent_list(const struct pg *pg,
                                                       const struct object_id *after, uint32_t max,
                                                       int *error) MUST_CHECK;

/* For tests. */
struct wire_version pg_head(const struct pg *pg);
uint64_t pg_committed(const struct pg *pg);
bool pg_complete(const struct pg *pg);

#endif
