/*
 * The client core: follows the map, sends each operation to the primary of its placement group,
 * and sends it again after failovers, in order per object. The caller sees latency, not errors.
 *
 * One loop, one thread, over struct env; liblimpet (client/object/) adds threads, waiting and the
 * public API. The simulator uses this header directly.
 */
#ifndef LIMPET_CLIENT_CORE_CLIENT_H
#define LIMPET_CLIENT_CORE_CLIENT_H

#include <bsd/sys/queue.h>
#include <uthash.h>

#include "common/auth.h"
#include "common/env.h"
#include "common/error.h"
#include "common/wire_layout.h"
#include "placement/map.h"

struct client;

struct client_options {
    struct entity_name name;   /* client.admin */
    struct auth_secret secret; /* The entity's own key. */
    struct uuid fsid;          /* Zero: take the cluster's. Otherwise another one is refused. */
    uint32_t n_mons;
    struct net_address mons[MAP_MONS_MAX];
    uint64_t connect_timeout_ns;  /* Until the first map; 0: 30 s. */
    uint64_t op_timeout_ns;       /* An operation fails with -ETIMEDOUT after this; 0: see below. */
    uint64_t max_bytes_in_flight; /* 0: default. More operations wait in line. */
    uint32_t max_ops_in_flight;   /* 0: default. */
};

/*
 * A write that was sent and has no answer after this fails with -ETIMEDOUT whatever the options
 * say, and is not sent again: OSDs remember for somewhat longer what they have executed, and after
 * that they could not tell a repetition from a new request.
 */
#define CLIENT_WRITE_LIMIT_NS (10 * 60 * SEC_NS)

/* Takes the env's message handlers. NULL when memory is short. */
struct client *client_create(struct env *env, const struct client_options *options) MUST_CHECK;
/*
 * Fails what is under way with -ECANCELED, then frees. Not to be called from a callback of the
 * client; callbacks made from inside it must not submit anything.
 */
void client_destroy(struct client *client);

/*
 * Calls done once: 0 when the first map is there, or -ETIMEDOUT, -EACCES, -EINVAL (wrong fsid).
 * From then on the client keeps a session with some monitor for ever, whatever happens to it. After
 * a failure it may be called again.
 */
void client_connect(struct client *client, void (*done)(void *ctx, int error), void *ctx);
/* After a failure: which monitors were tried and what each said; for a person. */
const char *client_connect_error(const struct client *client);

/* NULL before the first map. Valid until the next event. */
const struct cluster_map *client_map(const struct client *client);

/* One step of a request. The data of writing steps is given, of reading steps received. */
struct client_step {
    uint16_t code;  /* enum wire_op_code */
    uint16_t flags; /* enum wire_op_step_flags */
    uint64_t offset;
    uint64_t length;
    struct buf_slice data; /* In: taken over. Out: the result's; the caller drops it. */
    int32_t result;
    uint32_t input_len; /* Private: bytes of the payload that belong to this step. */
};

enum { CLIENT_STEPS_MAX = WIRE_OPS_MAX, CLIENT_STEPS_INLINE = 4 };

/* Whether a step of this kind may stand in a request that does not write; of CALL: some may. */
bool client_code_reads(uint16_t code);

struct client_pg;
struct osd_link;

enum client_op_state {
    CLIENT_OP_IDLE = 0, /* The caller's. */
    CLIENT_OP_WAITING,  /* In line for the budget, or for the first map. */
    CLIENT_OP_DOUBTFUL, /* Its pool is not in our map, which may be too old. */
    CLIENT_OP_UNSENT,   /* In its placement group's list, to be sent (again). */
    CLIENT_OP_SENT,     /* The primary has it, as far as we know. */
    CLIENT_OP_FINISHED, /* Its result stands; done() is about to be called. */
};

/* Zero-initialize; belongs to the client from submit until done. */
struct client_op {
    struct object_id object; /* hash is filled in by the client; strings valid until done. */
    uint32_t pg_seed;        /* For WIRE_OP_PG requests: the caller's choice. */
    bool pg_op;
    bool write;
    uint64_t mtime_ns; /* Of a write: the object's time; 0: the OSD's clock. */
    /*
     * Of a read: the snapshot that it looks at, 0: the object itself. Of a write: the newest
     * snapshot, and those that are alive, newest first, in memory that is valid until done.
     */
    uint64_t snap;
    const uint64_t *snaps;
    uint16_t n_snaps;
    /*
     * Of a request whose only step reads: its data may be received there, at most into_len bytes,
     * instead of in memory of step->data's own. NULL: no. Until done nobody else touches it.
     */
    void *into;
    size_t into_len;
    bool patient;    /* It may take long, and that is no sign that something is wrong. */
    bool tries_full; /* WIRE_OP_FULL_TRY */
    /* A write that ends by its time-out is revoked: it must not arrive later. */
    bool revoke_late;
    uint16_t n_steps;
    struct client_step steps[CLIENT_STEPS_INLINE]; /* The first; the usual request has no more. */
    struct client_step *more_steps;                /* Those after them; memory of the caller. */
    void (*done)(struct client_op *op);
    /*
     * 0, or the first failing step's negative errno, -ETIMEDOUT, -ECANCELED, -ENOENT (no pool),
     * -EFBIG (data beyond REQUEST_PAYLOAD_MAX), -ENOMEM, -EACCES (no ticket for this entity);
     * -ESTALE (a write was repeated, and the OSDs had too much to remember to know whether it has
     * happened).
     */
    int result;
    uint16_t n_results; /* Steps that an OSD has told of; 0: the result is the client's own. */
    struct wire_version version;
    /* Private. */
    struct client *client;
    uint64_t tid;
    uint64_t size_bytes; /* Its share of the budget. */
    uint64_t submitted_ns;
    uint64_t sent_ns; /* For the first time; 0: never. */
    uint32_t attempt;
    enum client_op_state state;
    struct osd_link *answered_by;
    struct osd_link *carrier; /* It was last sent over this link's session */
    uint64_t carried;         /* with this number. */
    bool pool_asked;          /* The leader is asked whether there is such a pool, */
    bool pool_checked;        /* and our map shows the answer. */
    struct client_pg *pg;
    struct buf_slice payload;
    struct buf *lent; /* `into`, while a reply is received there. */
    struct env_timer timer;
    TAILQ_ENTRY(client_op) link;
    TAILQ_ENTRY(client_op) write_link; /* Of writes, in its placement group. */
    UT_hash_handle hh;                 /* By tid. */
};
TAILQ_HEAD(client_op_list, client_op);

static inline struct client_step *client_step(struct client_op *op, uint16_t i)
{
    return i < CLIENT_STEPS_INLINE ? &op->steps[i] : &op->more_steps[i - CLIENT_STEPS_INLINE];
}

/*
 * Changes of one object are executed in the order of submission, and a read sees all that were
 * submitted before it; repeated after a failure it may also see later ones. done is never called
 * here.
 */
void client_submit(struct client *client, struct client_op *op);
/* done follows with -ECANCELED; a write may or may not have happened. */
void client_cancel(struct client *client, struct client_op *op);
/*
 * The same; and a session that it was sent over ends, so that it does not arrive later, but for
 * what the OSD's machine has by then.
 */
void client_revoke(struct client *client, struct client_op *op);
/* Whether something that was revoked, or has no answer, may still be executed, for all we know. */
bool client_is_late(const struct client *client);

/* A command to the monitors. Zero-initialize. */
struct client_command {
    const char *json;       /* Valid until done. */
    struct buf_slice input; /* Taken over. */
    uint64_t timeout_ns;    /* 0: the connect timeout */
    void (*done)(struct client_command *command);
    int result;
    char *status; /* One line for a person, or NULL; freed by client_command_fini. */
    struct buf_slice output;
    /* Private. */
    struct client *client;
    uint64_t tid;
    uint64_t epoch; /* Answered; done waits for the map that shows the effect. */
    uint32_t attempt;
    uint8_t state;
    struct env_timer timer;
    struct env_timer retry;
    TAILQ_ENTRY(client_command) link;
};
TAILQ_HEAD(client_command_list, client_command);

/*
 * Sends the command until a monitor answers it, to another one when a session breaks: it may be
 * executed twice. done is called when this client's map shows the effect.
 */
void client_command(struct client *client, struct client_command *command);
void client_command_fini(struct client_command *command);

/* Calls done when the client's map is at least this epoch. */
struct client_wait {
    uint64_t epoch;
    void (*done)(struct client_wait *wait);
    TAILQ_ENTRY(client_wait) link;
};
TAILQ_HEAD(client_wait_list, client_wait);
void client_wait_map(struct client *client, struct client_wait *wait);

/* For the env: how this client proves who it is. Valid as long as the client. */
const struct auth_provider *client_auth(struct client *client);

/* Counters since the start, for tests and the curious. */
struct client_counters {
    uint64_t ops_done;
    uint64_t ops_resent;
    uint64_t map_changes;
    uint64_t mon_sessions;
    uint64_t osd_sessions;
    uint64_t osds_silent; /* Sessions dropped because the path to the OSD was cut. */
};
const struct client_counters *client_counters(const struct client *client);

#endif
