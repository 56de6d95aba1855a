/*
 * The inside of the client core. Its parts, each in a file of its own:
 *
 *   client.c    creation, the env's callbacks, waiting for maps, the end
 *   mon_link.c  the session with one monitor: hunting, subscription, signs of life
 *   map.c       taking in maps, and what follows from a new one
 *   ticket.c    credentials: the entity's key for monitors, tickets for OSDs
 *   command.c   commands to the monitors
 *   doubt.c     operations on pools that are not in the map
 *   op.c        operations: budget, encoding, time-outs, completion
 *   reply.c     decoding of replies
 *   watch.c     watches and leases, kept alive
 *   target.c    placement groups and sessions with OSDs: where operations go, and go again
 *
 * Invariants:
 *
 *  C1  Operations of one placement group are sent in the order of submission. Those sent form a
 *      prefix of the group's list; when one must be sent again, all of the group are, in order.
 *      (A primary refuses requests made under a map older than the configuration in which it
 *      became the primary, so that one that came late cannot overtake another that was refused.)
 *  C2  An operation is completed only by a reply on the session over which it was last sent, by
 *      its time-out, by cancellation, or because its pool is gone.
 *  C3  Nothing is sent to an OSD whose address or instance differs from the map's.
 *  C5  Operations of a placement group are in the order of their tids, and a write that has left
 *      its group's list for good is never sent again. So the first write in the list is the
 *      `oldest` that OSDs are told: they may forget results before it, and refuse requests before
 *      it (osd/pg/pg_clients.h).
 *  C4  done callbacks are made with no list of ours half changed, and never from inside a call of
 *      the API except client_destroy().
 *  C6  What was sent of a write that is revoked, or that is to be (`revoke_late`) and took too
 *      long, is dropped with its session before done is called: it arrives later only if the OSD's
 *      machine has it by then.
 *  C7  A fenced lease is ended only when nothing that was sent before, and is not under way any
 *      more, can be executed later: not while there are OSDs whose session ended with writes
 *      without an answer (`late`), and that we have not heard of over another one since, with which
 *      they take nothing of the one before (osd/osd_guest.c); nor are they others by the map, which
 *      whoever gets the lease has to know then (osd/pg/pg_watch.c, W7). They are asked until then.
 *  C8  When an answer says that it relies on a map that we do not know, nothing is sent before we
 *      do.
 */
#ifndef LIMPET_CLIENT_CORE_PRIVATE_H
#define LIMPET_CLIENT_CORE_PRIVATE_H

#include "client/core/client.h"
#include "client/core/watch.h"

enum {
    CLIENT_OPS_IN_FLIGHT_MAX = 1024,
    CLIENT_PGS_CACHED_MAX = 65536,
    CLIENT_MONS_MAX = 2 * MAP_MONS_MAX, /* Configured ones, and those of the map. */
    CLIENT_CONNECT_ERROR_MAX = 2048,
};
#define CLIENT_BYTES_IN_FLIGHT (64u * 1024 * 1024)
#define CLIENT_CONNECT_TIMEOUT (30 * SEC_NS)
#define CLIENT_READ_SIZE_GUESS (1024u * 1024) /* Budget of a read of unknown length. */
#define MON_ATTEMPT_NS         (3 * SEC_NS)   /* For a monitor to authenticate and send a map. */
#define MON_ROUND_DELAY_MIN_NS (100 * MSEC_NS)
#define MON_ROUND_DELAY_MAX_NS (2 * SEC_NS)
#define MON_PING_BUSY_NS       (2 * SEC_NS) /* Something waits for the monitors. */
#define MON_PING_IDLE_NS       (10 * SEC_NS)
#define MON_PING_ANSWER_NS     (4 * SEC_NS)
#define COMMAND_RETRY_MIN_NS   (50 * MSEC_NS)
#define COMMAND_RETRY_MAX_NS   (1 * SEC_NS)
#define TICKET_RETRY_NS        (1 * SEC_NS)
#define OSD_RETRY_MIN_NS       (250 * MSEC_NS)
#define OSD_RETRY_MAX_NS       (1 * SEC_NS)
#define OSD_SILENCE_NS         (2 * SEC_NS) /* Then it is asked; and so long it has to answer. */
#define OSD_DEAF_NS            (3 * SEC_NS) /* Its machine, too, has said nothing. */
#define WRITE_LIMIT_CHECK_NS   (5 * SEC_NS)
#define PG_RETRY_MIN_NS        (10 * MSEC_NS)
#define PG_RETRY_MAX_NS        (1 * SEC_NS)

/* ---- Monitors ---- */

struct mon_candidate {
    struct entity_name name; /* Empty ID: not known yet. */
    struct net_address address;
    int error; /* Of the last attempt; 0: none yet. */
};

/*
 *   IDLE --client_connect()--> TRYING --opened, map--> LIVE
 *   TRYING --failed--> TRYING (the next one), or after the last one PAUSED --timer--> TRYING
 *   LIVE --closed or silent--> TRYING;   first connect given up: any --> IDLE
 */
enum mon_link_state { MON_LINK_IDLE, MON_LINK_TRYING, MON_LINK_PAUSED, MON_LINK_LIVE };

struct mon_link {
    enum mon_link_state state;
    struct net_session *session;
    uint32_t n;
    struct mon_candidate candidates[CLIENT_MONS_MAX];
    uint32_t current;
    uint32_t tried;         /* In this round. */
    uint32_t rounds;        /* Without success. */
    struct env_timer timer; /* TRYING: gives up this one; PAUSED: ends the pause; LIVE: pings. */
    uint64_t heard_ns;      /* Last sign of life. */
    bool ping_out;
    uint64_t stalled_since_ns; /* Operations take strangely long; 0: none do. */
    uint32_t stalls;           /* Monitors left for that reason, in a row. */
};

/* ---- Tickets ---- */

struct client_ticket {
    struct auth_ticket ticket; /* len 0: none. */
    bool wanted;
    uint64_t tid; /* Of the request under way; 0: none. */
    uint64_t asked_ns;
    struct env_timer timer; /* Renewal, or the next attempt. */
};

/* ---- OSDs and placement groups ---- */

struct osd_link {
    struct client *client;
    int32_t id;
    struct net_session *session;
    bool revoked; /* It may have requests that must not arrive any more. */
    bool late;    /* C7: its last session ended with writes that may still be executed. */
    uint64_t instance;
    struct net_address address;
    uint64_t opened_ns;
    uint64_t n_sessions;    /* Counts those that ended. */
    uint32_t failures;      /* In a row: attempts, and sessions that ended as soon as they began. */
    struct env_timer retry; /* Armed: no session before it fires. */
    struct env_timer watch; /* Armed while something is outstanding: looks for silence. */
    uint64_t heard_ns;      /* Its last message, or when the watch began. */
    uint64_t asked_ns;      /* The last ping; answered when something was heard later. */
    UT_hash_handle hh;
};

/* A padded pg_id would make a bad hash key. */
struct pg_key {
    uint64_t pool;
    uint64_t seed;
};

struct client_pg {
    struct client *client;
    struct pg_key key;
    uint64_t epoch;       /* Of the map that the next two follow; 0: of none. */
    int32_t primary;      /* Whom the map lets serve now, or -1. */
    uint64_t interval;    /* A number for the present membership and its members' processes. */
    struct osd_link *osd; /* Where the sent ones are. */
    struct client_op_list ops;
    struct client_op_list writes; /* Those of ops that write. */
    struct client_op *unsent;     /* The first that is not sent; all after it are not either. */
    uint64_t wait_epoch;          /* The primary refused and told us to have this map first. */
    uint32_t refusals;            /* In a row. */
    struct env_timer retry;       /* Armed: nothing is sent before it fires. */
    bool active;                  /* In client->active, because ops is not empty. */
    TAILQ_ENTRY(client_pg) link;
    UT_hash_handle hh;
};
TAILQ_HEAD(client_pg_list, client_pg);

struct client_doubt {
    struct client *client;
    struct client_op_list ops;
    struct client_command command;
    bool asked;
};

struct client {
    struct env *env;
    struct client_options options;
    struct auth_provider auth;
    struct client_counters counters;
    struct cluster_map *map; /* NULL before the first. */
    struct uuid fsid;        /* auth.fsid points here once it is known. */
    struct mon_link mon;
    void (*connect_done)(void *ctx, int error);
    void *connect_ctx;
    struct env_timer connect_timer;
    char connect_error[CLIENT_CONNECT_ERROR_MAX];

    struct client_ticket ticket;

    uint64_t next_tid;
    struct client_command_list commands;
    struct client_command_list commands_finished;
    struct client_wait_list waits;

    struct client_op *by_tid;       /* Operations in a placement group's list. */
    struct client_op_list waiting;  /* Not admitted yet. */
    struct client_op_list finished; /* done() is called by the task. */
    struct client_doubt doubt;
    uint64_t bytes_in_flight;
    uint32_t ops_in_flight;

    struct client_pg *pgs;
    struct client_pg_list active;
    struct osd_link *osds;
    /*
     * Armed for at once: calls done of what is finished, and with `kick` sends what can be sent.
     * A timer rather than an env_task, because only a timer can be taken back at the end.
     */
    struct env_timer task;
    bool kick;
    bool closing;
    uint64_t fenced_epoch; /* C8: nothing is sent before we know this map. */
    uint32_t n_late;       /* C7: OSDs. */
    uint32_t n_late_ends;  /* Leases that are to be ended when there are none. */
    struct env_timer late; /* Armed while there are some: they are asked. */
    uint64_t next_cookie;
    bool watch_links_lost; /* Some session ended: watches look whether it was theirs. */
    struct client_watch *watches;
    struct watch_group *watch_groups;
    struct env_timer limit; /* Armed while operations are under way: looks for writes too old. */
};

/* client.c */
/* Completions and sending follow in this turn, outside of any handler. */
void client_schedule(struct client *client, bool kick);
void client_connected(struct client *client, int error);

/* mon_link.c */
void mon_link_init(struct client *client);
void mon_link_start(struct client *client);
void mon_link_stop(struct client *client);
void mon_link_opened(struct client *client);
void mon_link_closed(struct client *client, int error);
void mon_link_received(struct client *client, struct message *message);
/* What each candidate said, for a person, into connect_error. */
void mon_link_describe(struct client *client);
/* This monitor is of no use: go to the next. */
void mon_link_next(struct client *client, int error);
/* The first map came by this session. */
void mon_link_live(struct client *client);
/* Sends, or drops the message when there is no live session: whoever needs it sends it again. */
void mon_link_send(struct client *client, uint16_t type, const ProtobufCMessage *proto,
                   struct buf_slice payload);
void mon_link_subscribe(struct client *client);
/* Somebody waits for the monitors: look after their health more often. */
void mon_link_busy(struct client *client);

/* map.c */
/* -EBADMSG when it is no valid answer, -EXDEV when it is of another cluster. */
int client_map_received(struct client *client, struct message *message) MUST_CHECK;

/* ticket.c */
void ticket_init(struct client *client);
void ticket_fini(struct client *client);
/* True when there is a ticket; otherwise one is asked for, and client_schedule() follows. */
bool ticket_ready(struct client *client);
void ticket_mon_live(struct client *client);
void ticket_received(struct client *client, struct message *message);
/* An OSD did not accept it. */
void ticket_drop(struct client *client);

/* command.c */
void command_mon_live(struct client *client);
void command_map_changed(struct client *client);
void command_received(struct client *client, struct message *message);
void command_run_finished(struct client *client);
void command_fail_all(struct client *client, int error);
bool command_pending(const struct client *client);

/* doubt.c */
/* Takes an operation out of the line whose pool may be newer than our map. */
bool doubt_take(struct client *client, struct client_op *op) MUST_CHECK;
void doubt_remove(struct client *client, struct client_op *op);
void doubt_map_changed(struct client *client);

/* op.c */
/* Puts the op's result on record; done() follows by the task. */
void op_finish_later(struct client *client, struct client_op *op, int result);
/* Calls done(); the last thing that a handler does. */
void op_finish_now(struct client *client, struct client_op *op, int result);
/*
 * It took too long. One with `revoke_late` goes as if it were revoked: whoever is told may let
 * others change the same bytes. done() follows when its session has been dropped.
 */
void op_give_up(struct client *client, struct client_op *op);
void op_run_finished(struct client *client);
void op_fail_all(struct client *client, int error);
void op_admit(struct client *client);
/* Of client->limit. */
void op_limit_fired(struct env_timer *timer);
struct message *op_message(struct client *client, struct client_op *op) MUST_CHECK;
void op_reply(struct client *client, struct osd_link *osd, struct message *message);
/* Where the payload of a reply that has not come as a whole may be received; see net_handlers. */
struct buf_slice op_place(struct client *client, struct osd_link *osd,
                          const struct net_arrival *arrival);

/* reply.c */
struct op_reply {
    uint64_t tid;
    uint64_t epoch;
    struct wire_version version;
    int32_t result;
    uint16_t n_ops;
    bool fenced; /* WIRE_REPLY_FENCED */
};
int reply_decode(const struct message *message, struct op_reply *out) MUST_CHECK;
/* Gives every step its result and a slice of the payload. */
int reply_take_results(const struct message *message, const struct op_reply *reply,
                       struct client_op *op) MUST_CHECK;

/* watch.c */
void watch_received(struct client *client, struct osd_link *osd, const struct message *message);
void watch_check_links(struct client *client);
/* The session, or only its connection, has ended. */
void watch_cut(struct client *client, const struct osd_link *osd);
void watch_disconnected(struct client *client, const struct osd_link *osd);
void watch_map_changed(struct client *client);
/* Nothing is late any more (C7). */
void watch_end_fenced(struct client *client);
void watch_fini(struct client *client);

/* target.c */
/* A number for the membership of a group and the processes behind it; 0: there is no such group. */
uint64_t target_interval(const struct client *client, uint64_t pool, uint32_t seed);
/* Appends the op to its group's list and sends it if possible. -ENOENT: no such pool or group. */
int target_add(struct client *client, struct client_op *op) MUST_CHECK;
void target_remove(struct client *client, struct client_op *op);
/* An answer relies on that map. */
void target_fenced(struct client *client, uint64_t epoch);
void target_refused(struct client *client, struct client_op *op, uint64_t epoch);
void target_answered(struct client_pg *pg);
void target_kick(struct client *client);
/* What was sent of it is not to arrive any more: see client_revoke(). */
void target_revoke(struct client *client, const struct client_op *op);
/* Whether it was sent over a session that is still there, and has no answer. */
bool op_is_carried(const struct client_op *op);
void target_drop_revoked(struct client *client);
void target_ask_late(struct env_timer *timer);
void target_map_changed(struct client *client);
/* Ends writes that were sent too long ago (CLIENT_WRITE_LIMIT_NS). */
void target_end_old_writes(struct client *client);
bool target_stalled(const struct client *client);
/* Fails what waits for a ticket that the monitors do not grant. */
void target_no_ticket(struct client *client, int error);
void target_fini(struct client *client);
void osd_link_opened(struct osd_link *osd);
void osd_link_received(struct osd_link *osd);
void osd_link_closed(struct osd_link *osd, int error);

#endif
