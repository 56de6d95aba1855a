/*
 * A world for tests of placement groups: a few OSDs that have one group each, each with a store in
 * memory, and a switch that carries their messages. Time stands still until a test moves it, and a
 * test can stop the messages between two OSDs, drop them, or end their session.
 *
 * CRUSH wants OSDs 0, 1, 2 in some order (pool size 3, over single OSDs); who is in the in-sync
 * set is what the test says.
 */
#ifndef LIMPET_TESTS_UNIT_OSD_PG_WORLD_H
#define LIMPET_TESTS_UNIT_OSD_PG_WORLD_H

#include "tests/lib/test.h"

#include "common/timer_heap.h"
#include "osd/pg/pg.h"
#include "osd/store/store_memory.h"

enum { WORLD_OSDS = 3, WORLD_POOL = 1, WORLD_CLIENT = 77 };

struct flight {
    int32_t from, to;
    bool answer; /* On the session that `to` opened. */
    uint64_t session;
    struct message *message;
    TAILQ_ENTRY(flight) link;
};

struct link_state {
    struct net_session session; /* That `from` opened to `to`; as `to` sees it. */
    uint64_t number;
    bool stopped; /* Messages wait. */
    bool lossy;   /* Messages are lost, in both directions of the session. */
};

struct held_message {
    int32_t from;
    struct net_session *session;
    struct message *message;
    TAILQ_ENTRY(held_message) link;
};

struct node {
    struct env env;
    struct world *world;
    int32_t id;
    struct store_memory_disk *disk;
    struct store *store;
    struct pg_world pgs;
    struct pg *pg;
    uint64_t wants_epoch;
    uint32_t n_adds; /* Requests to add a member, and the last one. */
    uint64_t add_config;
    int32_t add_osd;
    uint32_t n_fences; /* Requests to block a client, and the last one. */
    uint64_t fenced;
    uint64_t lease_until_ns[WORLD_OSDS];   /* By others; for ever unless a test says otherwise. */
    uint64_t granted_until_ns[WORLD_OSDS]; /* To others; never. */
    bool fatal;
    TAILQ_HEAD(, held_message) held;
};

/* A request of the one client, and what became of it. */
struct asked {
    struct pg_request request;
    bool done;
    bool dropped; /* Without an answer. */
    struct wire_osd_op_reply reply;
    struct wire_op_result steps[4];
    struct buf_slice data;
};

/* A client that is told of what it watches: its session, which is open on all OSDs. */
enum { WORLD_GUESTS = 3 };
struct guest {
    struct net_session session;
    uint64_t instance; /* 0: there is none. */
    uint32_t n_events;
    struct wire_watch_event event; /* The last one. */
};

struct world {
    uint64_t now_ns;
    uint64_t random;
    struct timer_heap timers;
    struct cluster_map *map;
    struct pg_id pg;
    uint64_t latency_ns;
    uint64_t lease_ns; /* What an earlier process may have granted: 0 unless a test says so. */
    uint64_t next_tid;
    uint64_t client;    /* Who asks; 0: WORLD_CLIENT. */
    uint64_t epoch;     /* By which map; 0: the newest. */
    uint64_t age_ns;    /* Of requests that are repeated. */
    uint64_t oldest;    /* That the client says with each write; 0: nothing. */
    uint64_t snap;      /* The newest snapshot that writes know of, with all before it. */
    uint64_t read_snap; /* That reads look at; 0: the objects. */
    bool full_try;      /* Requests say that they keep account. */
    uint32_t log_keep;  /* Of processes that start; 0: the default. */
    uint64_t next_session;
    struct node nodes[WORLD_OSDS];
    struct link_state links[WORLD_OSDS][WORLD_OSDS];
    struct guest guests[WORLD_GUESTS];
    TAILQ_HEAD(, flight) flights;
    /* Sees every message that is delivered; may be NULL. */
    void (*watch)(struct world *world, const struct flight *flight);
    uint32_t delivered[128]; /* By message type. */
};

/* All OSDs up, the group's set as given, its processes started; nothing was delivered yet. */
void world_init(struct world *world, int32_t first, int32_t second, int32_t third);
void world_fini(struct world *world);

/* ---- The map ---- */

/* The next epoch, with this set (-1: no more); the configuration is that epoch. */
void world_set_members(struct world *world, int32_t first, int32_t second, int32_t third);
/* An OSD goes down or comes up (again); the set and configuration as given, in the same epoch. */
void world_set_up(struct world *world, int32_t osd, bool up, int32_t first, int32_t second,
                  int32_t third);
/* An OSD that is in no set goes down, or comes up as another process: no configuration changes. */
void world_set_down_only(struct world *world, int32_t osd);
void world_set_osd_only(struct world *world, int32_t osd);
/* The process of an OSD that is down is known to have ended. */
void world_set_ended(struct world *world, int32_t osd);
/* Flags of the map, enum map_flags. */
void world_set_flags(struct world *world, uint32_t flags);
/* The number of an OSD that is down is removed, and given to another store, whose process boots. */
void world_give_number(struct world *world, int32_t osd);
/* Of the pool: CRUSH wants another number of OSDs. */
void world_set_size(struct world *world, uint8_t size);
/* The pool has these snapshots from now on, and everybody sees it; the reference is taken over. */
void world_set_snaps(struct world *world, const struct map_snaps *snaps);
/* Forgets the entry, as for a clean group: the configuration number becomes the epoch. */
void world_rebase(struct world *world);
/* All OSDs come up, and the pool is a new one, whose members are those that CRUSH says. */
void world_begin_anew(struct world *world);
void world_remove_pool(struct world *world);
/* Shows the newest map to a process, or to all. Changes of the map show nothing by themselves. */
void world_show(struct world *world, int32_t osd);
void world_show_all(struct world *world);

/* ---- Processes ---- */

/* The process dies, with whatever its store had not made durable. */
void world_crash(struct world *world, int32_t osd);
/* Another process on the same disk; it has not seen the map yet, and the map not it. */
void world_start(struct world *world, int32_t osd);

/* ---- Time and messages ---- */

/* Delivers and fires until nothing happens any more. */
void world_settle(struct world *world);
/* The same, but no further than so much time from now, which passes. */
void world_settle_for(struct world *world, uint64_t ns);
/* One message, or one timer; false when there is nothing. */
bool world_step(struct world *world);
/* Moves time by half seconds, with a tick of each group and all that follows. */
void world_ticks(struct world *world, uint32_t n);
void world_stop_link(struct world *world, int32_t from, int32_t to, bool stopped);
/* The session that `from` opened to `to` ends: what is under way on it is lost, and a new one is
 * there. */
void world_reset_link(struct world *world, int32_t from, int32_t to);

/* ---- Requests ---- */

struct step {
    uint16_t code;
    uint64_t offset;
    uint64_t length;
    const void *data;
    size_t len;
    uint16_t flags;
};
/* Sends a request to an OSD's group. It is freed with ask_fini(). */
void ask(struct world *world, int32_t osd, struct asked *asked, const char *name,
         const struct step *steps, uint16_t n);
/* The same with a number of the caller's: a repetition when it was used before. */
void ask_again(struct world *world, int32_t osd, struct asked *asked, uint64_t tid,
               const char *name, const struct step *steps, uint16_t n);
void ask_fini(struct asked *asked);
/* Sends, settles, and returns the result. */
int ask_now(struct world *world, int32_t osd, const char *name, const struct step *steps,
            uint16_t n);
int write_full(struct world *world, int32_t osd, const char *name, const char *text);
int append(struct world *world, int32_t osd, const char *name, const char *text);
/* Reads the whole object, which must be exactly this; text NULL: it must not exist. */
void assert_reads(struct world *world, int32_t osd, const char *name, const char *text);

/* ---- Disks ---- */

/* The object on this OSD's disk is exactly this; text NULL: there is none. */
void assert_on_disk(struct world *world, int32_t osd, const char *name, const char *text);
/*
 * Gives the object on one disk attributes and pairs of a map, with values of so many bytes, and a
 * header of the map of at most that: no client can yet.
 */
struct beside {
    uint32_t n_attrs, n_pairs, len, header;
    uint8_t fill;
};
void put_beside(struct world *world, int32_t osd, const char *name, const struct beside *beside);

/* Objects and logs of the two are the same. */
void assert_equal_disks(struct world *world, int32_t a, int32_t b);
uint32_t objects_on_disk(struct world *world, int32_t osd);

struct object_id world_object(const char *name);

#endif
