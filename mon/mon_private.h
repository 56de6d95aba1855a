/*
 * The monitor's process: what its files share.
 *
 * session.c   who is connected; which message goes where
 * publish.c   maps and increments for those who subscribe
 * forward.c   what only the leader can do, from its arrival to its answer
 * leader.c    the leader's queue: requests become log entries, a batch at a time
 * leader_osd.c  what OSDs report; time-outs
 * stats.c     what OSDs say about themselves and their placement groups
 * access.c    authentication: the provider for the world, tickets
 * command*.c  commands; health.c, status.c: the reports
 */
#ifndef LIMPET_MON_MON_PRIVATE_H
#define LIMPET_MON_MON_PRIVATE_H

#include <bsd/sys/queue.h>
#include <jansson.h>

#include "common/auth.h"
#include "common/env.h"
#include "common/limpet.pb-c.h"
#include "mon/consensus.h"
#include "mon/machine.h"
#include "mon/mon.h"
#include "mon/state.h"
#include "mon/stats.h"

enum {
    MON_SESSIONS_MAX = 65536,
    MON_INCREMENTS_KEPT = 500,
    MON_INCREMENTS_KEPT_BYTES = 4 * 1024 * 1024,
    MON_PENDING_MAX = 8192,
    MON_PENDING_SESSION_MAX = 256,
    MON_REQUESTS_MAX = 65536,
    MON_BATCH_MAX = 512,
    MON_PEER_RETRY_MS = 200,
    MON_FORWARD_RETRY_MS = 250,
    MON_OSD_DOWN_OUT_S = 600,
    MON_OSD_BEACON_GRACE_S = 20,
    MON_OSD_PROBE_TIMEOUT_MS = 400,
    MON_OSD_LOST_PROBE_MS = 5000, /* Of one whose session broke, and that nobody has reported. */
    MON_PROBE_LATE_MS = 100,
    MON_OSD_PARTIAL_GRACE_MS = 5000,
    MON_OSD_FLAP_COUNT = 3,
    MON_OSD_FLAP_WINDOW_MS = 600 * 1000,
    MON_OSD_FLAP_HOLD_MS = 30 * 1000,
    MON_STATUS_MAX = 512,
    MON_COMMAND_JSON_MAX = 64 * 1024,
};

struct mon;

/* What net_session.user points to. */
enum endpoint_kind { ENDPOINT_SESSION, ENDPOINT_PEER, ENDPOINT_PROBE };
struct endpoint {
    enum endpoint_kind kind;
};

/* Somebody who connected to us. */
struct mon_session {
    struct endpoint endpoint;
    LIST_ENTRY(mon_session) link;
    struct net_session *net;
    uint64_t mon_id;                  /* Raft id, when it is another monitor; else 0. */
    int32_t osd;                      /* Number, when it is an OSD; else -1. */
    char version[LIMPET_VERSION_MAX]; /* Of another monitor; empty: it has not told yet. */
    bool subscribed;
    bool lagging;      /* Its queue is full: it gets the rest when that has drained. */
    uint64_t sent;     /* Highest epoch that was sent; 0: none. */
    uint32_t pendings; /* Of forward.c. */
    uint64_t boot_token;
    bool wants_ticket; /* Before there was a first map. */
    struct message *ticket_request;
};

/* Another monitor, and our session to it. */
struct mon_peer {
    struct endpoint endpoint;
    struct mon *mon;
    struct map_mon info;
    struct net_session *out; /* NULL: waiting for the retry timer. */
    bool broken;             /* The connection under it is: nothing is queued. */
    bool refused;            /* It did not believe us, or we not it, and the log says so. */
    struct env_timer retry;
};

/* Finds out whether an OSD whose session broke, or that others report, still answers. */
enum probe_result { PROBE_NONE, PROBE_LIVES, PROBE_REFUSED, PROBE_SILENT };

struct probe {
    struct endpoint endpoint;
    LIST_ENTRY(probe) link;
    struct mon *mon;
    struct net_session *net;
    struct env_timer timer;
    bool extended; /* The timer was late: what came meanwhile has to be looked at first. */
    int32_t osd;
    uint64_t instance;
};

/* A message that waits for the leader, or for its answer. */
struct pending {
    TAILQ_ENTRY(pending) link;
    uint64_t token;
    struct mon_session *session;
    struct message *message;
    bool one_way;     /* Forgotten once it was handed to a leader. */
    uint64_t sent_to; /* Raft id of the leader that has it; 0: none. */
};

/* The increments that led to the present map, oldest first. */
struct kept_increment {
    uint64_t epoch;
    struct buf_slice bytes;
};

struct leader;

struct mon {
    struct env *env;
    struct mon_options options;
    struct mon_identity identity;
    struct map_mon self;
    struct mon_state state;
    struct consensus *consensus;
    struct auth_provider auth;
    uint64_t started_ns;
    bool stopping;
    bool failed;

    uint32_t n_peers;
    struct mon_peer peers[MAP_MONS_MAX];
    LIST_HEAD(, mon_session) sessions;
    uint32_t n_sessions;
    LIST_HEAD(, probe) probes;

    uint32_t kept_first; /* Ring. */
    uint32_t n_kept;
    size_t kept_bytes;
    struct kept_increment kept[MON_INCREMENTS_KEPT];
    uint64_t full_epoch; /* Of the encoded map below. */
    struct buf_slice full;

    TAILQ_HEAD(, pending) pendings;
    uint32_t n_pendings;
    uint64_t next_token;
    struct env_timer forward_timer;

    struct stats *stats;
    struct leader *leader; /* Exists always; works while we lead. */

    struct env_timer stop_timer;
    void (*stopped)(void *ctx);
    void *stopped_ctx;
};

/* ---- session.c ---- */

extern const struct net_handlers session_handlers;
void session_connect_peers(struct mon *mon);
void session_close_all(struct mon *mon, bool quietly);
/* What another monitor, by its Raft id, has told of its program; NULL: it is not connected. */
const char *session_version(const struct mon *mon, uint64_t id);
/* Takes over the message; drops it when that monitor cannot be reached. */
void session_send_peer(struct mon *mon, uint64_t id, struct message *message);
struct mon_peer *session_peer(struct mon *mon, uint64_t id);
/* Packs and sends; the payload's reference is taken over. */
void session_send(struct mon *mon, struct mon_session *session, uint16_t type,
                  const ProtobufCMessage *body, struct buf_slice payload);
/* MonCommandReply. text may be NULL. */
void session_reply(struct mon *mon, struct mon_session *session, uint64_t tid, int result,
                   const char *status, uint64_t epoch, struct buf_slice payload);
/* Hands a message with this content to the session, as its answer. */
void session_deliver(struct mon *mon, struct mon_session *session, uint16_t type, const void *body,
                     size_t len, struct buf_slice payload);
/* Orders the OSD to scrub a group, through whichever monitor has its session. Nothing is repeated:
 * whether the order arrived is seen in the OSD's reports. */
void session_order_scrub(struct mon *mon, struct pg_id pg, int32_t osd, bool deep);
/* One at a time for an OSD: of two, the sooner time-out counts. The leader is told the outcome. */
void session_probe(struct mon *mon, int32_t osd, uint64_t timeout_ms);

/* ---- publish.c ---- */

void publish_subscribe(struct mon *mon, struct mon_session *session, uint64_t have);
/* After the map went on by one increment. */
void publish_increment(struct mon *mon, const void *increment, size_t len);
/* After the map was replaced. */
void publish_reset(struct mon *mon);
void publish_catch_up(struct mon *mon, struct mon_session *session);
void publish_fini(struct mon *mon);
/* The encoded map; a reference that the caller drops. -ENOMEM */
int publish_full(struct mon *mon, struct buf_slice *out) MUST_CHECK;
/* The encoded increment to `epoch`; NULL when it is not kept. */
const struct buf_slice *publish_kept(const struct mon *mon, uint64_t epoch);

/* ---- forward.c ---- */

void forward_init(struct mon *mon);
void forward_fini(struct mon *mon);
/* A message of a session that only the leader can handle; borrowed. */
void forward_submit(struct mon *mon, struct mon_session *session, struct message *message,
                    bool one_way);
/* Leadership is another than before, or the session to the leader is: hand out again. */
void forward_restart(struct mon *mon);
/* Hands what waits to the leader, if there is one. */
void forward_dispatch(struct mon *mon);
void forward_session_gone(struct mon *mon, struct mon_session *session);
/* The leader's answer. type MSG_NONE: it does not lead. */
void forward_answer(struct mon *mon, uint64_t token, uint16_t type, const void *body, size_t len,
                    struct buf_slice payload);
/*
 * What came by that session (NULL: to us) under that token was not done, or nobody knows: whoever
 * keeps it shall hand it out again.
 */
void forward_decline(struct mon *mon, struct mon_session *via, uint64_t token);
/* Another monitor passes something on to us. */
void forward_received(struct mon *mon, struct mon_session *via, const struct message *message);
void forward_reply_received(struct mon *mon, const struct message *message);

/* ---- access.c ---- */

void access_init(struct mon *mon);
void access_ticket(struct mon *mon, struct mon_session *session, struct message *message);
/* The first map is there: answers tickets that were asked for before. */
void access_answer_waiting(struct mon *mon);
const struct keyring_entry *access_find(const struct mon *mon, const struct entity_name *name);

/* ---- mon.c ---- */

void mon_fail(struct mon *mon, int error, const char *why);

#endif
