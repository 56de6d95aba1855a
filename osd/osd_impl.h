/*
 * The inside of an OSD process: shared by osd/osd*.c, private to them.
 */
#ifndef LIMPET_OSD_OSD_IMPL_H
#define LIMPET_OSD_OSD_IMPL_H

#include <uthash.h>

#include "common/limpet.pb-c.h"
#include "common/log.h"
#include "osd/osd.h"
#include "osd/pg/pg.h"

enum {
    OSD_SERVICE_KEYS_MAX = 8,
    /* Messages of OSDs whose map is newer than ours. */
    OSD_HELD_MAX = 8192,
    OSD_HELD_BYTES_MAX = 64 * 1024 * 1024,
    /* Requests of clients under way: bytes of one session and of all, and what each counts at
     * least. Reading from clients stops above. */
    OSD_SESSION_BYTES_MAX = 32 * 1024 * 1024,
    OSD_CLIENT_BYTES_MAX = 96 * 1024 * 1024,
    OSD_REQUEST_BYTES_MIN = 1024,
    /* Replies with data: being read; and, sent but not yet taken in, of one session and of all.
     * Beyond the last only small reads of those who take in what they get go on. */
    OSD_READING_BYTES_MAX = 128 * 1024 * 1024,
    OSD_REPLIES_SESSION_MAX = NET_QUEUE_LIMIT / 2,
    OSD_REPLIES_BYTES_MAX = 256 * 1024 * 1024,
    OSD_REPLY_SMALL = 1024 * 1024,
    OSD_FREE_REQUESTS = 1024,
    OSD_HEARTBEATS_MIN = 8, /* Peers to watch, when there are as many. */
    OSD_LOADS_MAX = 8,      /* Placement groups read at the same time at the start. */
    OSD_STEPS_MAX = 16,     /* Increments that are shown to the groups one by one. */
    OSD_STATS_PGS_MAX = 2000,
    OSD_STATS_BYTES_MAX = 200 * 1024,
    OSD_RIVALS_MAX = 3,
};

#define OSD_HEARTBEAT_NS (500 * MSEC_NS)
#define OSD_GRACE_NS     (2 * SEC_NS)
/* Shorter than the grace period: whoever is reported as silent has no leases of the reporter. */
#define OSD_LEASE_NS            (1600 * MSEC_NS)
#define OSD_LEASE_MARGIN        20 /* One part in as many: what clocks differ in speed. */
#define OSD_PING_MAX_NS         (700 * MSEC_NS) /* Leases must not run out between two pings. */
#define OSD_READS_NS            (10 * MSEC_NS)
#define OSD_REPLIES_COUNT_NS    MSEC_NS
#define OSD_STATS_NS            (5 * SEC_NS)
#define OSD_STATS_BUSY_NS       (1 * SEC_NS)
#define OSD_STATS_SOON_NS       (50 * MSEC_NS)
#define OSD_COMPLAINT_NS        (30 * SEC_NS)
#define OSD_REPEAT_NS           (1 * SEC_NS)
#define OSD_MON_ATTEMPT_NS      (2 * SEC_NS)
#define OSD_MON_PAUSE_NS        (100 * MSEC_NS)
#define OSD_MON_PAUSE_MAX_NS    (1 * SEC_NS)
#define OSD_MON_SILENCE_NS      (4 * SEC_NS)
#define OSD_MON_PATIENCE_NS     (4 * SEC_NS)
#define OSD_MON_LAG_NS          (1 * SEC_NS)
#define OSD_MON_VAIN_NS         (30 * SEC_NS)
#define OSD_REFUSED_PATIENCE_NS (15 * SEC_NS)
#define OSD_PEER_RETRY_NS       (50 * MSEC_NS)
#define OSD_PEER_RETRY_MAX_NS   (500 * MSEC_NS)
/* A leader that was replaced does not know it for longer. */
#define OSD_DENIED_NS      (3 * SEC_NS)
#define OSD_RIVAL_NS       (60 * SEC_NS)
#define OSD_SCRUB_FIRST_NS (60 * SEC_NS)
#define OSD_STOP_NS        (3 * SEC_NS)
#define OSD_STOP_POLL_NS   (10 * MSEC_NS)
#define OSD_STOP_GONE_NS   (1 * SEC_NS)

/* The first member of whatever a session's user pointer leads to. */
enum session_kind { SESSION_OF_MON, SESSION_OF_PEER, SESSION_OF_GUEST };

/* ---- Sessions that others opened ---- */

struct osd_request {
    struct pg_request pg;
    struct osd_guest *guest;
    size_t bytes;
    uint64_t came_ns;       /* env_now() */
    uint64_t reading_bytes; /* Of its reply. */
    bool waits_for_map;     /* In osd->waiting. */
    TAILQ_ENTRY(osd_request) guest_link;
    TAILQ_ENTRY(osd_request) waiting_link;
    SLIST_ENTRY(osd_request) free_link;
};
TAILQ_HEAD(osd_request_list, osd_request);

struct osd_guest {
    enum session_kind kind;
    struct net_session *session;
    size_t bytes; /* Of requests under way. */
    bool paused;
    char address[NET_ADDRESS_TEXT_MAX]; /* Of the peer. */
    struct osd_request_list requests;   /* By when they came. */
    TAILQ_ENTRY(osd_guest) link;
};

/* ---- Requests that take too long ---- */

enum { OSD_WAITS_MAX = 160 };

struct osd_slow {
    uint32_t n;
    uint64_t oldest_ns;        /* How long it has waited, ... */
    char waits[OSD_WAITS_MAX]; /* ... and for what. */
};

/* Looks for them, and writes into the log. */
void osd_slow_look(struct osd *osd);

/* ---- Other OSDs ---- */

struct osd_peer {
    enum session_kind kind;
    struct osd *osd;
    UT_hash_handle hh;
    int32_t id;
    uint64_t instance; /* The process that the map names. */
    struct net_address address;
    struct net_session *session;
    bool opened;
    bool lost;   /* The session ended: a new one after a while, and then groups begin again. */
    bool wanted; /* While the map is followed. */
    uint32_t failures;
    uint64_t lease_until_ns; /* env_clock(): it has granted us a lease. 0: none. */
    uint64_t newer_until_ns; /* One that it granted under a map which we do not have, or 0, */
    uint64_t newer_epoch;    /* and that map. */
    uint64_t heard_ns;
    uint32_t report; /* Limpet__Wire__OsdFailure__Kind; 0: none. */
    uint64_t reported_ns;
    struct env_timer retry;
};

/* The lease that we granted a process last. */
struct osd_grant {
    UT_hash_handle hh;
    int32_t id;
    uint64_t instance;
    uint64_t until_ns; /* env_clock() */
};

/* ---- Placement groups ---- */

struct osd_pg {
    UT_hash_handle hh;
    struct pg_id id; /* The key: no padding, since calloc'd and copied by member. */
    struct pg *pg;
    bool stat_due;
    uint64_t told_sequence; /* Head of its log when it was told last. */
};

/* A message that waits for a map. */
struct osd_held {
    struct net_session *session;
    int32_t from;
    struct message *message;
    TAILQ_ENTRY(osd_held) link;
};
TAILQ_HEAD(osd_held_list, osd_held);

/* ---- The monitor that we talk to ---- */

struct osd_mon {
    enum session_kind kind;
    struct net_session *session;
    bool live;
    uint32_t current;
    uint32_t tried; /* In this round. */
    uint32_t rounds;
    uint64_t heard_ns;
    uint64_t pinged_ns;
    uint64_t refused_since_ns; /* 0: not refused. */
    uint64_t booted_ns;        /* When we last said that we are here. */
    uint64_t boot_since_ns;    /* Since when we have been saying so in vain; 0: not. */
    uint64_t denied_since_ns; /* Since when the leader says that our number is another's; 0: not. */
    uint64_t subscribed_ns;
    bool want_full;
    struct env_timer timer; /* An attempt, or a pause between rounds. */
};

struct osd_service_key {
    uint64_t id;
    uint8_t key[32];
};

struct osd {
    struct env *env;
    struct store *store;
    struct osd_options options;
    struct net_address address; /* Where we listen. */
    struct cluster_map *map;
    struct pg_world world;
    struct osd_pg *pgs;
    bool steps_missed; /* Groups were not shown a map, which was none of ours. */
    bool stopping;
    bool closing; /* The store is: nothing may be sent or submitted any more. */
    bool failed;
    bool was_up;     /* The map showed this process as up. */
    uint32_t rivals; /* How often, since then, it named another one after us. */
    uint64_t rival_since_ns;

    /* Loading: groups before us have been read. */
    bool loaded;
    uint32_t n_load;
    uint32_t next_load;
    uint32_t loading;
    struct pg_id *load;

    struct osd_mon mon;
    struct auth_provider auth;
    struct auth_ticket ticket;
    uint64_t ticket_tid;
    uint64_t ticket_asked_ns;
    uint64_t ticket_renew_ns;
    bool keys_wanted;
    uint32_t n_keys;
    struct osd_service_key keys[OSD_SERVICE_KEYS_MAX];
    uint64_t next_tid;

    uint64_t wanted_epoch; /* Somebody knows this map, or says so. */
    uint64_t wanted_since_ns;
    uint32_t wanted_tries;    /* Monitors that were left because they did not have it. */
    uint64_t wanted_again_ns; /* None had it: nobody is believed before this. */

    struct osd_peer *peers;
    struct osd_grant *grants;
    TAILQ_HEAD(, osd_guest) guests;
    uint32_t n_guests;
    size_t client_bytes;
    uint64_t reading_bytes;              /* Of all requests. */
    const struct osd_request *overdraws; /* Reads beyond the limit, so that it ends; NULL: none. */
    uint64_t replies_bytes;              /* Queued for all guests when counted, and sent since. */
    uint64_t replies_counted_ns;
    struct env_timer reads_timer;
    struct osd_request_list waiting; /* For a map. */
    uint32_t n_free_requests;
    SLIST_HEAD(, osd_request) free_requests;
    struct osd_held_list held;
    uint32_t n_held;
    size_t held_bytes;

    uint64_t heartbeat_ns, grace_ns, stats_ns;
    struct env_timer tick;
    uint64_t tick_due_ns;
    struct env_timer stats_timer;
    uint64_t stats_complete_ns; /* When all groups were told last. */
    bool stats_all;             /* All groups are to be told the next time. */
    bool stats_soon;
    uint64_t stats_told_ns;
    uint64_t stats_writes; /* Counter of writes when they were told last. */

    uint64_t complaint_ns;
    struct osd_slow slow;  /* When it was looked last. */
    uint64_t slow_told_ns; /* To the log; 0: there were none. */

    struct env_timer stop_timer;
    uint64_t stop_ns;
    void (*stopped)(void *ctx);
    void *stopped_ctx;
};

/* ---- osd.c ---- */

void osd_fatal(struct osd *osd, int error, const char *why);
struct osd_pg *osd_pg_find(const struct osd *osd, struct pg_id id);
/* The map shows this very process as up. */
bool osd_is_up(const struct osd *osd);

/* ---- osd_auth.c ---- */

void osd_auth_init(struct osd *osd);
void osd_auth_fini(struct osd *osd);
/* Asks for a ticket and keys when they are needed. */
void osd_auth_refresh(struct osd *osd);
void osd_auth_answered(struct osd *osd, const struct message *message);
bool osd_auth_ready(const struct osd *osd);

/* ---- osd_mon.c ---- */

void osd_mon_init(struct osd *osd);
void osd_mon_fini(struct osd *osd);
void osd_mon_hunt(struct osd *osd);
void osd_mon_opened(struct osd *osd);
void osd_mon_closed(struct osd *osd, int error);
void osd_mon_received(struct osd *osd, struct message *message);
void osd_mon_tick(struct osd *osd);
/* Packs and sends; nothing happens while no monitor is there. */
void osd_mon_send(struct osd *osd, uint16_t type, const ProtobufCMessage *proto);
void osd_mon_boot(struct osd *osd);
void osd_mon_failure(struct osd *osd, int32_t id, uint64_t instance,
                     Limpet__Wire__OsdFailure__Kind kind, uint64_t silent_ns);
void osd_want_map(struct osd *osd, uint64_t epoch);

/* ---- osd_map.c ---- */

void osd_map_received(struct osd *osd, const struct message *message);
/* Shows the map that came while groups were still being loaded. */
void osd_map_show(struct osd *osd);
/* Groups that have nothing to do any more are forgotten. */
void osd_pgs_collect(struct osd *osd);
int osd_pg_add(struct osd *osd, struct pg_id id, bool in_store) MUST_CHECK;

/* ---- osd_peer.c ---- */

/* Forgets processes that the map does not name any more. */
void osd_peers_follow_map(struct osd *osd);
/* Decides whom to watch: partners of placement groups, and a few more. */
void osd_peers_choose(struct osd *osd);
void osd_peers_fini(struct osd *osd, bool close);
void osd_peers_tick(struct osd *osd, bool slept);
void osd_peer_send(struct osd *osd, int32_t id, struct message *message);
void osd_peer_opened(struct osd_peer *peer);
void osd_peer_closed(struct osd_peer *peer, int error);
void osd_peer_received(struct osd_peer *peer, struct message *message);

/* ---- osd_lease.c ---- */

/* Grants the process at the other end a lease, of as long from now on; 0: none. */
uint64_t osd_lease_grant(struct osd *osd, const struct net_session *session);
/* The peer answered a ping of ours. */
void osd_lease_taken(struct osd_peer *peer, const struct wire_ping *reply);
/* For pg_world_ops. */
uint64_t osd_lease_until(void *ctx, int32_t id);
uint64_t osd_granted_until(void *ctx, int32_t id, uint64_t instance);
/* More leases count than before: for reads that wait for them. */
void osd_leases_renewed(struct osd *osd);
void osd_leases_tick(struct osd *osd);
void osd_leases_fini(struct osd *osd);

/* ---- osd_guest.c ---- */

void osd_guest_opened(struct osd *osd, struct net_session *session);
void osd_guest_closed(struct osd *osd, struct net_session *session);
void osd_guest_received(struct osd *osd, struct net_session *session, struct message *message);
void osd_guest_drained(struct osd *osd, struct net_session *session);
void osd_guests_close(struct osd *osd, bool close);
void osd_request_done(void *ctx, struct pg_request *request, struct message *reply);
bool osd_may_read(void *ctx, struct pg_request *request, uint64_t bytes);
void osd_reads_fire(struct env_timer *timer);
/* A message about a placement group, from an OSD. */
void osd_group_message(struct osd *osd, struct net_session *session, int32_t from,
                       struct message *message);
/* The map is newer: what waited for it is looked at again. */
void osd_requests_retry(struct osd *osd);
void osd_held_retry(struct osd *osd);
void osd_held_drop(struct osd *osd, const struct net_session *session); /* NULL: all */

/* ---- osd_stats.c ---- */

void osd_stats_init(struct osd *osd);
void osd_stats_due(struct osd *osd, struct osd_pg *entry);
void osd_stats_complete(struct osd *osd);
/* Twice a second: tells about writes, but not more often than once a second. */
void osd_stats_tick(struct osd *osd);
void osd_space_check(struct osd *osd);

/* ---- osd_stop.c ---- */

/* Frees everything; the store is closed, or must not be touched. */
void osd_free(struct osd *osd);

#endif
