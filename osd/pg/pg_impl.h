/*
 * The inside of a placement group: shared by the files of osd/pg, private to them.
 */
#ifndef LIMPET_OSD_PG_PG_IMPL_H
#define LIMPET_OSD_PG_PG_IMPL_H

#include <inttypes.h>
#include <uthash.h>

#include "common/log.h"
#include "osd/pg/pg.h"
#include "osd/pg/pg_dirty.h"
#include "osd/pg/pg_layout.h"
#include "osd/pg/pg_log.h"
#include "osd/pg/pg_scrub.h"

enum {
    /*
     * Encoded log entries of writes that were admitted and are not committed: bounds the window in
     * which copies can differ, so that it fits a message when copies are compared.
     */
    PG_WINDOW_BYTES = 64 * 1024,
    /* Entries that travel in one PgActivate or PgInfo. */
    PG_ENTRIES_BYTES = 200 * 1024,
    PG_ENTRIES_MAX = 4096,
    /* Objects being received before activation, at most: more than the window can name. */
    PG_STAGED_MAX = 4096,
    PG_FORMERS_MAX = 8,
    PG_PUSH_PIECE = 4 * 1024 * 1024,
    PG_PUSH_PIECE_SMALL = 512 * 1024, /* When clients are active. */
    PG_PUSH_PIECE_UNKNOWN = 256 * 1024,
    PG_PIECE_EXTENTS = 256,
    PG_ROOM_SHARE = 16,  /* Of its store that a copy leaves free when it is filled. */
    PG_READ_GAP = 16,    /* Unchanged blocks between changed ones that are read along with them. */
    PG_PUSHES_MAX = 4,   /* Objects on their way to one member. */
    PG_FILL_PUSHES = 32, /* And to a copy that is filled; how many really, turns decide. */
    PG_FILLS_MAX = 4,    /* Copies that an OSD fills at the same time. */
    PG_SCAN_OBJECTS = 256,
    PG_SCAN_BYTES = 128 * 1024,
    PG_DIRTY_MAX = 32768, /* Objects written during one comparison; more restart the filling. */
    PG_LEARNER_LIST = 256,
    PG_REMOVE_OBJECTS = 64,
    PG_REMOVE_BYTES = 64 * 1024 * 1024, /* Of objects in one step, which may share their blocks. */
    PG_ROOM_KNOWN_NS = 500000000,       /* How long what a member said of its space counts. */
    PG_OBJECTS_CACHED = 4096,           /* Idle object contexts of an OSD. */
    PG_FREE_WRITES = 1024,
    /* Ticks without progress until activation, or a filling, is tried again. */
    PG_PATIENCE_TICKS = 6,
    PG_FILL_PATIENCE_TICKS = 20,
    PG_HOLD_PATIENCE_TICKS = 4, /* While a client waits for an object that is held for a copy. */
    PG_ADD_REPEAT_TICKS = 2,
    PG_FULL_PATIENCE_TICKS = 10,
    PG_SURVEYS_MAX = 8, /* Of an OSD: chunks of scrubs, its own and those of others. */
    PG_PULL_READS_MAX = 16,
    PG_SCRUB_PATIENCE_TICKS = 20,
    PG_REPAIR_PATIENCE_TICKS = 6,
    PG_SCRUB_FAILURES = 10, /* Chunks that were tried again, before it is put off. */
    PG_SUSPECTS_MAX = 64,
    PG_INCONSISTENT_MAX = 1024,
    PG_INCONSISTENT_TOLD = 64,         /* In one answer. */
    PG_INCONSISTENT_WORLD_MAX = 16384, /* Of all groups of an OSD. */
};

/* ---- What is under way in the store ---- */

/* Anything that the store will call back about; known to the pg so that it can be dropped. */
struct pg_async {
    struct pg *pg;
    void (*drop)(struct pg_async *async); /* Frees it; the store will not call back. */
    TAILQ_ENTRY(pg_async) link;
};
TAILQ_HEAD(pg_async_list, pg_async);

void pg_async_begin(struct pg *pg, struct pg_async *async, void (*drop)(struct pg_async *async));
void pg_async_end(struct pg_async *async);

/* A change of state in the store that is no client's write. */
struct pg_step {
    struct pg_async async;
    struct store_txn txn;
    void (*done)(struct pg_step *step); /* Durable; may be NULL. */
    uint64_t generation;                /* pg->generation when it was submitted. */
    uint64_t sequence;                  /* Head of the log with it. */
    uint64_t attempt;                   /* The primary's, for the answer. */
    uint32_t answers;
    uint64_t tid;
};

/* ---- A write under way ---- */

struct pg_write {
    struct pg_async async;
    struct store_txn txn;
    uint64_t sequence;
    uint64_t generation;
    bool durable;
    /* The rest is for a primary. */
    bool listed;                /* In pg->writes. */
    struct pg_request *request; /* NULL: nobody waits. */
    struct pg_object *object;
    uint64_t clone;  /* Of the object: made by this, or removed; 0: none. */
    uint64_t source; /* That the object was rolled back to; 0: it was not. */
    uint32_t window_bytes;
    struct message *replicate;
    struct message *log_only; /* Created when a learner needs it. */
    TAILQ_ENTRY(pg_write) link;
    SLIST_ENTRY(pg_write) free_link;
};
TAILQ_HEAD(pg_write_list, pg_write);

/* ---- An object in use ---- */

/* Whoever has had his turn as a writer, and waits until the store has what those before him wrote.
 */
struct object_settler {
    void (*settled)(struct object_settler *settler);
};

struct pg_object {
    struct pg *pg; /* NULL once the pg has forgotten it. */
    UT_hash_handle hh;
    uint32_t refs; /* Readers, writers and a load; waiters do not count. */
    bool loaded;
    bool loading;
    bool idle; /* In world->idle_objects. */
    int error;
    struct object_state state;
    uint32_t readers;
    uint32_t writers;                /* Not yet committed. */
    struct object_settler *settling; /* Goes on when there are none. */
    bool looked_at;                  /* By a writer, before it writes: nobody else may go. */
    struct object_waiter_list waiters;
    /*
     * Of a clone: its object, which whoever holds, loads or waits for the clone holds as a reader.
     * So the object's line is the clone's, too, and no writer makes or removes it meanwhile.
     */
    struct pg_object *head;
    TAILQ_ENTRY(pg_object) idle_link;
    struct pg_async async; /* Of the load. */
    struct store_read load;
    struct object_id id; /* Points into bytes. */
    uint16_t len;
    uint8_t bytes[]; /* Encoded. */
};

struct pg_repair;
/* Somebody who waits until our copy of an object is good again. Holds the object meanwhile. */
struct repair_waiter {
    void (*done)(struct repair_waiter *waiter, int error);
    struct pg_repair *repair; /* NULL: it waits for nothing. */
    TAILQ_ENTRY(repair_waiter) link;
};

/* ---- An object on its way to another copy ---- */

struct pg_range {
    uint32_t first, end; /* Blocks. */
};

/* What goes into one message: pairs of offset and length, and the bytes of the extents. */
struct pg_piece {
    struct buf_slice data;
    size_t len;
    uint32_t n_extents, n_zeros;
    uint64_t extents[2 * PG_PIECE_EXTENTS];
    uint64_t zeros[2 * PG_PIECE_EXTENTS];
};

/* How far attributes and map were told. */
struct pg_beside {
    size_t attrs_from;  /* In their encoding. */
    uint8_t *omap_from; /* NULL: nothing of the map yet, nor its header. */
    uint16_t omap_from_len;
};

struct pg_push {
    struct pg_async async; /* Of the read. */
    struct store_read read;
    struct pg_turn turn;
    struct object_waiter waiter;
    bool urgent; /* Before others. */
    bool reading;
    bool cancelled;
    struct pg_object *locked; /* Held as a reader until everything was sent. */
    struct pg *pg;
    int32_t osd;
    uint64_t tid;
    /* The copy has the object as it was after this entry, or later: zero if that is not known. */
    struct wire_version base;
    bool partial; /* Only the ranges are sent. */
    /* What the first read told. */
    bool looked;
    bool exists;
    struct wire_version version;
    uint64_t size;
    uint16_t info_len;
    uint8_t info[STORE_INFO_MAX];
    /* What it has beside its contents; told after them. */
    struct encoder attrs;
    bool has_omap;
    bool more; /* This piece ends the contents, and more follows. */
    bool contents_sent;
    struct pg_beside beside;
    struct store_omap_read omap;
    bool last;
    uint64_t sent_bytes;
    /* The piece speaks of the object from `offset` to `next`. */
    uint64_t offset, next;
    uint32_t n_ranges, range; /* That change, and the one that is looked at. */
    struct pg_range *ranges;
    struct pg_range run; /* What is being read. */
    struct pg_piece *piece;
    bool repairs; /* Of a copy that is damaged; the owner holds the object. */
    uint64_t repair_after;
    bool repaired;   /* Our own copy, from which it is read, was damaged, and a member asked. */
    bool unreadable; /* Our own copy is damaged, and no member has helped. */
    struct repair_waiter repair;
    /* Called once, with 0 or an error; not after pg_push_cancel(). The push is freed then. */
    void (*done)(struct pg_push *push, int error);
    /*
     * Writes that follow may be sent as they are: all was sent, or, if the copy looks at what it
     * has first, taken. Optional.
     */
    void (*sent)(struct pg_push *push);
    TAILQ_ENTRY(pg_push) link;
    struct object_id id; /* Points into bytes. */
    uint16_t len;
    uint8_t bytes[];
};
TAILQ_HEAD(pg_push_list, pg_push);

/* ---- A member, seen by the primary ---- */

enum peer_phase {
    PEER_IDLE,      /* Nothing was asked yet. */
    PEER_ASKED,     /* PgActivate is out. */
    PEER_PUSHING,   /* It gets the objects in which it differs. */
    PEER_SWITCHING, /* It was told to take over our log. */
    PEER_FILLING,   /* Its log has no place in common with ours: it is filled like a learner. */
    PEER_EQUAL,
};

/* Objects that wait to be pushed. */
struct pg_name {
    TAILQ_ENTRY(pg_name) link;
    uint64_t size;
    uint16_t len;
    uint8_t bytes[];
};
TAILQ_HEAD(pg_name_list, pg_name);

struct pg_peer {
    int32_t osd;
    enum peer_phase phase;
    bool refused;           /* It knows another configuration: compare again with the next map. */
    bool failed;            /* An object that it lacks did not get there. */
    uint64_t acked;         /* It has everything up to here durable. */
    uint64_t common;        /* Where its log parted from ours. */
    uint32_t pushes;        /* Under way. */
    uint32_t room_flags;    /* enum wire_rep_ack_flags, as it said ... */
    uint64_t room_heard_ns; /* ... then. */
    struct pg_name_list to_push;
    struct pg_name_list unreadable; /* By us: they wait for a member that is equal. */
};

/*
 * A process that was the primary in an earlier configuration, and may not know that it is no
 * longer: it would still answer reads. See pg_lease.c.
 */
struct pg_former {
    int32_t osd;
    uint64_t instance;
    uint64_t up_from;
    uint64_t over_ns; /* env_clock(): the leases that we granted it before have run out then. */
    bool knows;       /* Its map is of this configuration. */
};

/* ---- A copy that is being filled, seen by the primary ---- */

enum fill_phase {
    FILL_QUEUED,      /* Others are being filled. */
    FILL_ASKING,      /* It tells what it has. */
    FILL_STARTING,    /* It takes over the log. */
    FILL_LISTING,     /* We list the next objects of ours. */
    FILL_COMPARING,   /* It compares them with its own. */
    FILL_PUSHING,     /* It gets those that differ. */
    FILL_FINISHING,   /* It was told that it is complete. */
    FILL_ADDING,      /* The monitors were asked to add it; its commits count already. */
    FILL_BACKING_OFF, /* Something went wrong; from the beginning at the next tick. */
    FILL_PAUSED,      /* An operator wants it so, by a flag of the map. */
};

/* By its encoded id. */
struct fill_object {
    UT_hash_handle hh;
    TAILQ_ENTRY(fill_object) link; /* In fill->to_push, until a push was created for it. */
    bool started;
    bool whole;    /* What it changed from is not known. */
    bool urgent;   /* A client wants it. */
    uint64_t size; /* Of what is to be sent, as far as known. */
    uint16_t len;
    uint8_t bytes[];
};

TAILQ_HEAD(fill_object_list, fill_object);

struct fill_listing;

struct pg_fill {
    struct pg *pg;
    int32_t osd;
    uint64_t instance; /* Of its process, and its boot, when the filling began. */
    uint64_t up_from;
    bool member;  /* Of the set already: part of activation. */
    bool queued;  /* In world->waiting_fills. */
    bool running; /* Counted in world->n_fills. */
    bool spoiled; /* More was written than we could note: begin again. */
    bool asked;   /* The monitors, to add it. */
    bool refused; /* It missed something while being added: send it again. */
    enum fill_phase phase;
    uint32_t silent_ticks;
    uint64_t attempt;
    bool attached;            /* It gets every new entry. */
    uint64_t chunk;           /* Last entry of the log that was sent while starting. */
    uint64_t acked;           /* It has everything up to here durable. */
    uint64_t finish_sequence; /* Head when it was told that it is complete. */
    uint64_t tid;             /* Of the comparison. */
    struct fill_listing *listing;
    struct object_id *done_upto;  /* Everything up to here is equal; NULL: nothing yet. */
    struct object_id *batch_upto; /* End of what is compared now. */
    bool batch_ends;              /* There is nothing of ours after the batch. */
    uint32_t n_batch;
    struct pg_name **batch;          /* What it was told of, by index. */
    struct fill_object *pending;     /* To be pushed; while listing and comparing: written since. */
    struct fill_object_list to_push; /* Those without a push; the next one first. */
    uint64_t pending_bytes;
    bool resumable;                    /* By log, and again so if this fails. */
    bool by_log;                       /* Only what was noted is pushed; nothing is compared. */
    bool full;                         /* It had no room when it backed off. */
    bool must_compare;                 /* When it was paused. */
    struct wire_version from;          /* By log: it was whole at this entry. */
    uint64_t sent_objects, sent_bytes; /* Since it was created. */
    uint64_t compared, differing;      /* Objects of earlier batches, and those that were pushed. */
    uint32_t pushes;                   /* Under way. */
    TAILQ_ENTRY(pg_fill) link;         /* In pg->fills. */
    TAILQ_ENTRY(pg_fill) world_link;   /* In world->waiting_fills. */
};

/* ---- Received before a switch ---- */

struct pg_staged {
    TAILQ_ENTRY(pg_staged) link;
    bool remove;
    bool whole;
    uint64_t received; /* Bytes so far. */
    uint64_t number;   /* Of the temporary object's pair. */
    struct object_id *id;
};
TAILQ_HEAD(pg_staged_list, pg_staged);

/* ---- Scrub and repair ---- */

/* A part of our copy that is being read for its digests. */
struct pg_survey {
    struct pg_async async;
    struct store_list list;
    struct store_read read;
    struct store_omap_read omap;
    struct pg *pg;
    bool cancelled;
    bool listed;  /* In pg->surveys. */
    bool counted; /* As a job of another OSD. */
    bool deep;
    bool only; /* One object: the one entry of the map. */
    uint64_t tid;
    struct object_id *after, *last; /* The range begins after it; last one that was looked at. */
    uint32_t next;                  /* In the listing. */
    uint64_t offset;                /* Of the current object. */
    uint64_t bytes;                 /* Read so far. */
    uint8_t *omap_from;
    uint16_t omap_from_len;
    struct scrub_map map;
    /* Called once, unless it was cancelled. The survey is freed then; the map may be taken. */
    void (*done)(struct pg_survey *survey, int error);
    TAILQ_ENTRY(pg_survey) link;
};
TAILQ_HEAD(pg_survey_list, pg_survey);

TAILQ_HEAD(pg_repair_list, pg_repair);

/* What the last scrub, or a client's read, found of an object. */
struct pg_inconsistent {
    TAILQ_ENTRY(pg_inconsistent) link;
    uint32_t errors, shard_errors;
    int32_t selected; /* The OSD whose copy is good; -1: none is. */
    bool repaired;
    uint64_t scrub; /* Number of the scrub that found it. */
    struct wire_version version;
    uint8_t n_shards;
    struct {
        int32_t osd;
        uint32_t errors;
        struct wire_version version;
        uint64_t size;
        uint32_t omap_digest, data_digest;
    } shards[PG_SIZE_MAX];
    uint16_t len;
    uint8_t bytes[];
};
TAILQ_HEAD(pg_inconsistent_list, pg_inconsistent);

struct pg_scrub;
struct pg_trim;
struct pg_watched;

/* ---- The group ---- */

TAILQ_HEAD(pg_request_list, pg_request);

enum request_place {
    REQUEST_NOWHERE,
    REQUEST_HELD,      /* pg->held: the group does not serve, or its window is full. */
    REQUEST_QUEUED,    /* Waits for its object. */
    REQUEST_UNLEASED,  /* pg->unleased: it needs leases; `operation` is its object, held. */
    REQUEST_RUNNING,   /* pg->running: its steps run, and the store reads for them; `operation` is
                          the pg_async of its pg_run or pg_list. */
    REQUEST_WRITING,   /* pg->running: `operation` is the pg_write that will answer it. */
    REQUEST_WAITING,   /* pg->waiting: its outcome is known and waits for a commit. */
    REQUEST_NOTIFYING, /* pg->notifying: watchers were told; `operation` is its pg_notify. */
};

struct member_life {
    uint64_t instance;
    uint64_t up_from;
    bool up;
};

struct pg {
    struct pg_world *world;
    struct pg_id id;
    enum pg_state state;

    /* The map's view. */
    bool seen; /* A map was followed. */
    bool gone; /* The pool does not exist any more. */
    bool self_live;
    struct pg_view view;
    uint64_t config_first;   /* Oldest configuration number with this set and these processes. */
    uint64_t primary_since;  /* Number under which we became the primary that we still are. */
    uint64_t fenced_epoch;   /* Map by which we took a fenced lease from its owner (W7); 0: none. */
    uint64_t followed_epoch; /* Newest map by which a primary has told us what to do. */
    struct member_life lives[PG_SIZE_MAX];
    uint8_t n_formers; /* Primaries since one is known to have served; the oldest first. */
    struct pg_former formers[PG_FORMERS_MAX];
    /*
     * Others may have been primary, unseen, before this map; their leases have run out at this
     * time (env_clock()).
     */
    uint64_t unseen_epoch;
    uint64_t unseen_over_ns;
    struct env_timer fence_timer; /* Looks again when leases of formers have run out. */
    bool range_known;
    uint32_t hash_first, hash_last;

    /* The copy. */
    struct pg_log log;
    struct pg_dirty dirty; /* What absent members lack. */
    bool complete;
    struct wire_version fill_from; /* While it is not complete; see pg_state_layout. */
    bool persisted;                /* The store has our state, or is about to. */
    bool recorded;                 /* It has it durably. */
    bool recording;
    uint64_t durable;    /* Entries up to here are durable in our store. */
    uint64_t committed;  /* And on all members, as far as we know. */
    uint64_t generation; /* Counts the times that entries were taken back from the log. */
    uint32_t switches;   /* Change-overs, and ends of fillings, on their way to the store. */
    uint64_t temporary_next;
    struct pg_async_list asyncs;
    struct pg_write_list writes;

    /* As a primary. */
    uint64_t attempt; /* Numbers activations; fills have numbers of their own. */
    uint64_t fill_attempt;
    uint64_t next_tid;
    bool activation_due;    /* It starts when our own store has caught up. */
    uint64_t clock_base_ns; /* Of the log's clock, */
    uint64_t clock_from_ns; /* and of ours, when we began to serve. */
    bool lacks_commits;     /* A member has acknowledged writes that we do not have. */
    bool unreadable;        /* We cannot read what a member needs, nor did another one help. */
    bool compare_again;     /* A member refused: activate anew at the next tick or map. */
    uint32_t silent_ticks;
    uint8_t n_peers;
    struct pg_peer peers[PG_SIZE_MAX];
    struct pg_fill_list fills;
    struct pg_push_list pushes;
    uint64_t recovered_objects, recovered_bytes; /* Sent to copies that were filled. */
    uint64_t reads, bytes_read;                  /* Since the newest entry of the log. */
    struct pg_object *objects;
    struct pg_request_list held;
    struct pg_request_list queued;
    struct pg_request_list unleased;
    struct pg_request_list running;
    struct pg_request_list waiting;
    struct pg_request_list notifying;
    uint32_t window_bytes;
    bool serving; /* Waiters for objects may go. */
    /* Until then (env_clock()) we hold the leases of all whose consent reads need. */
    uint64_t lease_until_ns;
    bool admitting;             /* Guards against recursion. */
    struct pg_watched *watched; /* Objects with watches: pg_watch.c. */
    uint64_t watch_life;        /* Names this service of the group. */
    uint64_t watch_since_ns;    /* env_clock(): when it began. */
    uint64_t watch_ticked_ns;
    uint64_t watch_woke_ns; /* env_clock(): when the process had slept; 0: never. */

    /* As a member or learner. */
    struct net_session *upstream; /* Where the primary's messages come from. */
    /* The one on which it began to activate or to fill us: what belongs to that must come on it. */
    struct net_session *bound;
    uint64_t upstream_config;  /* That it named last. */
    uint64_t upstream_attempt; /* Of its activation, and of its filling of us. */
    uint64_t upstream_fill;
    struct pg_staged_list staged;
    uint32_t n_staged;
    struct learn_scan *scan; /* The comparison that runs. */
    bool by_log;             /* The primary pushes changes since an entry that it named. */

    uint64_t removal; /* Counts how often removal was begun. */

    /* Scrub and repair. */
    uint64_t scrub_stamp_ns, deep_stamp_ns; /* Wall clock. */
    uint64_t scrub_due_ns, deep_due_ns;     /* Wall clock; 0: not chosen yet. */
    uint64_t scrub_retry_ns;                /* Put off until then. */
    bool scrub_ordered, deep_ordered;
    uint64_t scrub_number;
    struct pg_scrub *scrub;        /* That runs, or waits for its turn. */
    struct pg_trim *trim;          /* Likewise. */
    const struct map_snaps *snaps; /* Of the pool, by the map that was followed last. */
    uint64_t trimmed_epoch;        /* All snapshots that were removed by then are trimmed. */
    struct pg_survey_list surveys;
    uint32_t n_pull_reads;
    struct pg_repair_list repairs;
    struct pg_name_list suspects;              /* Objects of which some copy could not be read. */
    struct pg_inconsistent_list inconsistents; /* In order of objects. */
    uint32_t n_inconsistents;                  /* In the list. */
    uint32_t n_unlisted;                       /* Found by the last scrub, without room for it. */
    bool scrub_known;                          /* A scrub has ended since we became the primary. */

    void (*loaded)(void *ctx, struct pg *pg);
    void *loaded_ctx;
};

/* ---- pg.c ---- */

void pg_set_state(struct pg *pg, enum pg_state state);
bool pg_is_member(const struct pg *pg, int32_t osd);
/* What the store must hold so that a restart finds the current state. */
void pg_put_state(struct pg *pg, struct store_txn *txn);
struct pg_step *pg_step_create(struct pg *pg) MUST_CHECK;
void pg_step_submit(struct pg_step *step);
void pg_step_discard(struct pg_step *step); /* One that was not submitted. */
void pg_fatal(struct pg *pg, int error, const char *why);
struct pg_peer *pg_peer_find(struct pg *pg, int32_t osd);
/* Frees a packed-protobuf message's worth: packs and sends to an OSD. */
void pg_send_proto(struct pg *pg, int32_t osd, uint16_t type, const ProtobufCMessage *proto);
/* Answers on the session that the primary's messages come from. */
void pg_answer_proto(struct pg *pg, uint16_t type, const ProtobufCMessage *proto);
void pg_answer(struct pg *pg, struct message *message);
void pg_encode_id(const struct object_id *id, struct encoder *e, uint8_t memory[PG_OBJECT_ID_MAX]);
int pg_decode_id(const struct pg *pg, const void *data, size_t len,
                 struct object_id *out) MUST_CHECK;
uint64_t pg_epoch(const struct pg *pg);
/* For a primary: what keeps it from serving, or from being clean. Static memory; NULL: nothing. */
const char *pg_why_waiting(const struct pg *pg);
const char *pg_text(const struct pg *pg);

/* ---- pg_snap.c ---- */

/* Kept under another name while it is being received. */
bool pg_is_temporary(const struct object_id *id);
struct object_id pg_temporary_of(const struct object_id *id);

/* The index from snapshots to objects, as part of transactions. Any id of the object will do. */
void pg_snap_key(uint64_t snap, const struct object_id *object, uint8_t out[PG_SNAP_KEY_LEN]);
void pg_snap_put(struct pg *pg, struct store_txn *txn, uint64_t snap,
                 const struct object_id *object);
/* What an entry, which the encoded id follows, does to the index of whoever takes it. */
void pg_snap_entry_put(struct pg *pg, struct store_txn *txn, const struct pg_entry_layout *head);
/* An attribute of an object that another copy sent: if it is a snapset, the index gets its pairs.
 */
void pg_snap_take_attr(struct pg *pg, struct store_txn *txn, const struct object_id *object,
                       const void *name, size_t name_len, const void *value, size_t len);
/* Encoded attributes have nothing that clients set. */
bool pg_attrs_are_ours(const struct encoder *attrs);
bool pg_attr_is_ours(const void *name, size_t len);

/* The map may be another one; every_step: the next. */
void pg_snaps_follow(struct pg *pg, bool every_step);
/* Those of the pool, as the map has them; NULL: none. */
const struct map_snaps *pg_snaps(const struct pg *pg);

/* ---- pg_catchup.c ---- */

/* Appends to the log, and notes what it changes; as pg_log_append(). */
struct pg_entry *pg_entry_add(struct pg *pg, const void *data, size_t len) MUST_CHECK;
/* After each map: whether there may be copies that lack something. */
void pg_dirty_follow(struct pg *pg, bool first_map);
/*
 * Whether the learner that told this can be caught up from the log, and from which entry on.
 * `common`: where its log parts from ours. Entries after that are of its own.
 */
bool pg_catchup_from(struct pg *pg, const Limpet__Wire__PgInfo *info, struct wire_version *from,
                     uint64_t *common);

/*
 * What changed in an object since an entry: what was noted, or, where that says too much, what the
 * log itself says, collected in `memory` (stop it afterwards). NULL: it is not known.
 */
const struct pg_dirty_object *pg_changes_since(struct pg *pg, struct wire_version from,
                                               const uint8_t *id, uint16_t len,
                                               struct pg_dirty *memory);

/* ---- pg_object.c ---- */

/* What the object's info says. */
struct object_state pg_state_of(const struct object_info_layout *info, uint64_t size);
/*
 * Puts the waiter in line for the object, and calls ready() now or later. The id of a clone must
 * stay valid until then. -ENOMEM.
 */
int pg_object_enter(struct pg *pg, const uint8_t *id, uint16_t len,
                    struct object_waiter *waiter) MUST_CHECK;
void pg_object_leave(struct object_waiter *waiter);
/* A clone of an object that the caller holds as a reader: likewise. `id` as in a waiter. */
int pg_object_enter_clone(struct pg_object *object, const uint8_t *id, uint16_t len,
                          struct object_waiter *waiter) MUST_CHECK;
/* A write makes or removes the clone: what we know of it is not true any more. */
void pg_object_forget_clone(struct pg_object *object, uint64_t snap);
void pg_object_hold(struct pg_object *object, bool writes);
void pg_object_release(struct pg_object *object, bool writes);
/* Forgets all objects: they may change behind our back. No waiters may be left. */
void pg_objects_forget(struct pg *pg);

/* ---- pg_request.c ---- */

void pg_requests_admit(struct pg *pg);
/* Answers a request. */
void pg_request_finish(struct pg_request *request, const struct ops_result *result,
                       const struct wire_op_result *steps, struct buf_slice data);
/* With what its steps gave, as the log has it. */
void pg_request_answer(struct pg_request *request, const struct ops_result *result,
                       const void *answer, size_t answer_len);
void pg_request_fail(struct pg_request *request, int error);
/* The map says that its client must not do anything any more. Asked when it is about to begin. */
bool pg_request_is_blocked(const struct pg_request *request);
void pg_request_place(struct pg_request *request, enum request_place place);
/* Takes everything that has not run out of the lines of objects, back to the held ones. */
void pg_requests_withdraw(struct pg *pg);
/* Refuses all requests: another OSD is the primary, or the pool is gone. */
void pg_requests_refuse(struct pg *pg);
void pg_requests_answer_waiting(struct pg *pg);
/* A read that could not go on: it runs again, before others, when the group serves. */
void pg_request_hold_again(struct pg_request *request);

/* ---- pg_lease.c ---- */

/* Whether a read may be executed now. */
bool pg_lease_holds(struct pg *pg);
/* Until when reads may be executed, if nobody grants any more; 0: never. For a witness. */
uint64_t pg_lease_end(const struct pg *pg);
/* One more must consent from now on, or the set is another one. */
static inline void pg_lease_forget(struct pg *pg)
{
    pg->lease_until_ns = 0;
}
/* The read waits for leases, in the place of its object's reader (NULL: a listing). */
void pg_lease_wait(struct pg_request *request, struct pg_object *object);
/* Leaves that place. */
void pg_lease_leave(struct pg_request *request);

/* The configuration ends: its primary may go on without knowing. */
void pg_formers_note(struct pg *pg);
/* Primaries before the world's map may be unknown to us. */
void pg_formers_unseen(struct pg *pg);
/* Asks those that can be asked. */
void pg_formers_ask(struct pg *pg);
void pg_former_asked_again(struct pg *pg, int32_t osd);
void pg_former_knows(struct pg *pg, int32_t osd);
/* G9. False: pg_activate_check() is called when that changes by time. */
bool pg_formers_are_over(struct pg *pg);
bool pg_formers_wait(const struct pg *pg);

/* ---- pg_run.c, pg_list.c ---- */

void pg_read_start(struct pg_request *request, struct pg_object *object);
/* A writing request that looks at its object. pg_write_ran() follows, or the write is abandoned. */
void pg_run_write(struct pg_request *request, struct pg_object *object, struct pg_write *write);
void pg_list_start(struct pg_request *request);
/* Nobody waits for the result any more. */
void pg_run_disown(struct pg_request *request);
/* It waits in an object's line, though it runs. */
bool pg_run_waits(const struct pg_request *request);
/* What it waits for, in words. */
const char *pg_run_why(const struct pg_request *request);
void pg_list_disown(struct pg_request *request);

/* ---- pg_write.c ---- */

void pg_write_start(struct pg_request *request, struct pg_object *object);
/* The steps have run: the write goes to the log and to everybody, or its failure does. */
void pg_write_ran(struct pg_request *request, struct pg_object *object, struct pg_write *write,
                  struct ops_run *run, int error);
/* From the pool. NULL when memory is short. */
struct pg_write *pg_write_alloc(struct pg_world *world) MUST_CHECK;
/* What trimming an object of one snapshot comes to; its operations are in the write already. */
struct pg_trimmed {
    uint64_t snap;
    uint64_t clone, clone_size; /* That is removed; 0: none. */
    uint32_t left;              /* Clones. */
};
/* The object, on which the caller has its turn as a writer, is trimmed. -ENOMEM: it is not. */
int pg_write_trim(struct pg_object *object, struct pg_write *write,
                  const struct pg_trimmed *trimmed) MUST_CHECK;
/* A write that comes to nothing. */
void pg_write_abandon(struct pg_world *world, struct pg_write *write);
/* Answers a request from its entry, which is committed. */
void pg_write_answer(struct pg_request *request, const struct pg_entry *entry);
void pg_write_drop_pool(struct pg_world *world);
/* Computes what is committed, answers what can be answered. */
void pg_advance(struct pg *pg);
/* The writes are no longer ours to answer. */
void pg_writes_disown(struct pg *pg);
/* Sends a member everything again that it has not acknowledged. */
void pg_writes_resend(struct pg *pg, int32_t osd, uint64_t acked);
void pg_rep_txn(struct pg *pg, const struct pg_incoming *in);
/* Answers the message that upstream sent. */
void pg_rep_refuse(struct pg *pg, const struct wire_rep_txn *rep, int error);
/* The store's record of a client becomes what it is now, as part of a transaction. */
void pg_client_put(struct pg *pg, struct store_txn *txn, const struct pg_client *client);
/* Packs entries into runs, and shortens a log that has become too long, as part of a transaction.
 */
void pg_log_tidy(struct pg *pg, struct store_txn *txn);
void pg_rep_ack(struct pg *pg, int32_t from, const struct wire_rep_ack *ack);
void pg_log_entry_put(struct pg *pg, struct store_txn *txn, const struct pg_entry *entry);
/* Our own store has more than before. */
void pg_durable_advance(struct pg *pg, uint64_t generation, uint64_t sequence);

/* ---- pg_room.c ---- */

/* What our store has to say of its space. */
uint32_t pg_room_flags(const struct pg_world *world);
/* What a member said. */
void pg_room_heard(struct pg *pg, struct pg_peer *peer, uint32_t flags);
/* -ENOSPC when a transaction, which makes its object grow or not, must not be begun. `tries`: it
 * may take space of the reserve. */
int pg_room_check(const struct pg *pg, bool grows, bool tries, const struct store_txn *txn,
                  size_t data_len) MUST_CHECK;

/* ---- pg_activate.c: the primary ---- */

void pg_activate_start(struct pg *pg);
/* Our store has done something: an activation that waited for that begins. */
void pg_activate_caught_up(struct pg *pg);
void pg_activate_stop(struct pg *pg);
void pg_activate_ask(struct pg *pg, struct pg_peer *peer);
/* PgActivate, first step, to a member or to a former primary. */
void pg_activate_send_ask(struct pg *pg, int32_t osd);
/* Something that activation waits for may have come. */
void pg_activate_check(struct pg *pg);
void pg_activate_tick(struct pg *pg);
/* The map is another one of the same configuration. */
void pg_activate_follow_map(struct pg *pg);
/* The session with an OSD is a new one. */
void pg_activate_peer_reset(struct pg *pg, int32_t osd);
/* Members refused us: compare with all of them again. */
void pg_activate_again(struct pg *pg, const char *why);
void pg_info(struct pg *pg, int32_t from, const Limpet__Wire__PgInfo *info);
/* What another copy said about its log is well-formed: -EBADMSG if not. */
int pg_info_check(const struct pg *pg, const Limpet__Wire__PgInfo *info) MUST_CHECK;

/* ---- pg_follow.c: the member's side of activation ---- */

void pg_activated_by(struct pg *pg, const Limpet__Wire__PgActivate *activate);
/* Forgets what was received; with `discard` the store does, too. */
void pg_staged_clear(struct pg *pg, bool discard);
struct pg_staged *pg_staged_find(struct pg *pg, const struct object_id *id);
struct pg_staged *pg_staged_add(struct pg *pg, const struct object_id *id) MUST_CHECK;
void pg_staged_free(struct pg *pg, struct pg_staged *staged);
/* The same, and what the store has of it is removed. */
void pg_staged_discard(struct pg *pg, struct store_txn *txn, struct pg_staged *staged);
/* The object takes its place, or leaves it. */
void pg_staged_put(struct pg *pg, struct store_txn *txn, const struct pg_staged *staged);
void pg_send_info(struct pg *pg, uint64_t attempt, uint32_t answers, int result);
/* Unpacks repeated entries; -EBADMSG unless they continue `after` without a gap. */
int pg_entries_check(const struct pg *pg, size_t n, const ProtobufCBinaryData *entries,
                     uint64_t after) MUST_CHECK;

/* ---- pg_push.c ---- */

/* exclusive: waits for the object's writes, and holds back new ones until it has been sent. */
struct pg_push *pg_push_create(struct pg *pg, int32_t osd, const uint8_t *id,
                               uint16_t len) MUST_CHECK;
void pg_push_start(struct pg_push *push, bool exclusive);
void pg_push_cancel(struct pg_push *push);
void pg_pushes_cancel(struct pg *pg, int32_t osd); /* -1: all */
void pg_push_reply(struct pg *pg, int32_t from, const Limpet__Wire__PgPushReply *reply);
void pg_push_receive(struct pg *pg, const struct pg_incoming *in);

/* ---- pg_fill.c: the primary ---- */

void pg_fills_follow_map(struct pg *pg);
/* keep_adding: those that the monitors were asked to add stay, since they may become members. */
void pg_fills_stop(struct pg *pg, bool keep_adding);
void pg_fill_peer_reset(struct pg *pg, int32_t osd);
void pg_fill_info(struct pg *pg, int32_t from, const Limpet__Wire__PgInfo *info);
void pg_fill_scan_reply(struct pg *pg, int32_t from, const Limpet__Wire__PgScanReply *reply);
void pg_fill_ack(struct pg *pg, struct pg_fill *fill, uint64_t sequence, int result);
struct pg_fill *pg_fill_find(struct pg *pg, int32_t osd);
/* Begins to fill a member whose log has nothing in common with ours. */
void pg_fill_member(struct pg *pg, struct pg_peer *peer);
void pg_fill_tick(struct pg *pg);
/* What is left to do and why it waits, for the statistics. */
void pg_fills_stat(const struct pg *pg, Limpet__Wire__PgStat *out);
const char *pg_fills_waiting(const struct pg *pg);
void pg_fill_check_add(struct pg *pg);

/* A client reads or writes the object: copies that lack it get it first. */
void pg_fill_wanted(struct pg *pg, const uint8_t *bytes, uint16_t len);

enum fill_write { FILL_WRITE_NONE, FILL_WRITE_LOG_ONLY, FILL_WRITE_WHOLE };
/* How a write to this object is to be told to the copy; notes that it was written. */
enum fill_write pg_fill_write(struct pg_fill *fill, const struct pg_object *object,
                              const struct pg_write *write);

/* ---- pg_learn.c: the copy that is being filled ---- */

void pg_learn_start(struct pg *pg, const Limpet__Wire__PgActivate *activate);
/* The primary wants to know what we have. */
void pg_learn_tell(struct pg *pg, const Limpet__Wire__PgActivate *activate);
void pg_learn_filled(struct pg *pg, const Limpet__Wire__PgActivate *activate);
void pg_learn_scan(struct pg *pg, const struct pg_incoming *in);
void pg_learn_stop(struct pg *pg);

/* Checks a pushed piece, and turns it into operations: aside, or in place. */
int pg_piece_check(const struct pg *pg, const Limpet__Wire__PgPush *push, size_t payload_len,
                   struct object_id *id) MUST_CHECK;
int pg_piece_put(struct pg *pg, struct store_txn *txn, const Limpet__Wire__PgPush *push,
                 const struct object_id *id, struct buf_slice data) MUST_CHECK;

/* ---- pg_beside.c: attributes and maps, page by page ---- */

/*
 * The lists of a piece, freed by pg_piece_free_lists(); they point into what they are made from.
 * Attributes from a byte of their encoding on, as many as fit; and pairs that were read, whose
 * values go to the payload (empty before; the caller drops it).
 */
int pg_piece_attrs(const struct encoder *attrs, size_t at, Limpet__Wire__PgPush *out) MUST_CHECK;
int pg_piece_omap(const struct store_omap_read *read, Limpet__Wire__PgPush *out,
                  struct buf_slice *payload, bool *ends) MUST_CHECK;
void pg_piece_free_lists(Limpet__Wire__PgPush *piece);
/* Where a page of attributes that begins there ends. */
size_t pg_attrs_end(const struct encoder *attrs, size_t at);
/* A page of the map; done() is the caller's. */
void pg_omap_ask(struct store_omap_read *read, const struct object_id *id, const uint8_t *from,
                 uint16_t from_len);
/* The piece was told: the next page begins after it. */
int pg_beside_follow(struct pg_beside *beside, const Limpet__Wire__PgPush *piece) MUST_CHECK;
void pg_beside_fini(struct pg_beside *beside);
int pg_beside_check(const Limpet__Wire__PgPush *piece, size_t payload_len) MUST_CHECK;
void pg_beside_put(struct pg *pg, struct store_txn *txn, const Limpet__Wire__PgPush *piece,
                   const struct object_id *id, struct buf_slice payload);

/* ---- pg_scrub_member.c ---- */

/* NULL when memory is short, or enough of them run. One of the two that follow starts it. */
struct pg_survey *pg_survey_create(struct pg *pg, bool deep) MUST_CHECK;
void pg_survey_range(struct pg_survey *survey);
/* -ENOMEM: it is gone. */
int pg_survey_object(struct pg_survey *survey, const void *bytes, size_t len) MUST_CHECK;
/* One that was not started. */
void pg_survey_discard(struct pg_survey *survey);
void pg_survey_cancel(struct pg_survey *survey);
void pg_surveys_stop(struct pg *pg);
void pg_scrub_asked(struct pg *pg, const Limpet__Wire__PgScrub *scrub);

/* ---- pg_scrub.c: the primary ---- */

void pg_scrub_tick(struct pg *pg);
void pg_scrub_stop(struct pg *pg);
/* 0: none runs; 1: a light one; 2: a deep one. */
uint32_t pg_scrub_level(const struct pg *pg);
void pg_scrub_peer_reset(struct pg *pg, int32_t osd);
void pg_scrub_reply(struct pg *pg, int32_t from, const Limpet__Wire__PgScrubReply *reply);

/* ---- pg_scrub_state.c: what is remembered ---- */

int pg_scrub_load(struct pg *pg, const void *value, size_t len) MUST_CHECK;
void pg_scrub_save(struct pg *pg);
void pg_scrub_stat(const struct pg *pg, Limpet__Wire__PgStat *out);
/* For a primary: some copy of the object is damaged. It is looked at soon, and made good. */
void pg_suspect(struct pg *pg, const uint8_t *bytes, uint16_t len);
void pg_suspect_entry(struct pg *pg, uint64_t sequence); /* The object of an entry of the log. */
void pg_suspects_clear(struct pg *pg);
void pg_inconsistents_clear(struct pg *pg);
/* Replaces what is known of the object. NULL when memory is short, or too many are. */
struct pg_inconsistent *pg_inconsistent_note(struct pg *pg, const uint8_t *bytes, uint16_t len);
/* The scrub with this number is over: what it did not find again is forgotten. */
void pg_inconsistents_expire(struct pg *pg, uint64_t number, bool deep);
/* Answers a client that asks for them. */
void pg_inconsistent_start(struct pg_request *request, const struct object_id *after);
/* A client could not read it, and no good copy was found. */
void pg_inconsistent_unreadable(struct pg *pg, const struct pg_object *object);

/* ---- pg_trim.c ---- */

void pg_trim_tick(struct pg *pg);
/* More is committed. */
void pg_trim_advance(struct pg *pg);
void pg_trim_stop(struct pg *pg);

/* ---- pg_repair.c: our copy from a member's ---- */

/*
 * Our copy of the object, which the caller holds, is written anew from the copy of a member:
 * `source`, or of any that has a good one of our version (-1). waiter->done() is called later.
 */
int pg_repair_ask(struct pg *pg, struct pg_object *object, int32_t source,
                  struct repair_waiter *waiter) MUST_CHECK;
void pg_repair_leave(struct repair_waiter *waiter);
void pg_repairs_stop(struct pg *pg);
void pg_repair_tick(struct pg *pg);
void pg_repair_peer_reset(struct pg *pg, int32_t osd);
void pg_pull_asked(struct pg *pg, const Limpet__Wire__PgPull *pull);
void pg_pull_reply(struct pg *pg, int32_t from, const struct pg_incoming *in);
/* An error that another copy may help against. Counts it. */
bool pg_is_read_error(struct pg *pg, int error);

/* ---- pg_remove.c ---- */

void pg_remove_start(struct pg *pg);
/* Drops entries of the log and records of clients in the store; part of a transaction. */
void pg_log_remove_all(struct pg *pg, struct store_txn *txn);

#endif
