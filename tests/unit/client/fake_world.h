/*
 * A world for tests of the client core: time stands still until a test moves it, and every message
 * waits until the test looks at it. A small cluster of made-up monitors and OSDs stands beside it:
 * the monitors answer by themselves when a test lets them, the OSDs never do.
 */
#ifndef LIMPET_TESTS_UNIT_CLIENT_FAKE_WORLD_H
#define LIMPET_TESTS_UNIT_CLIENT_FAKE_WORLD_H

#include "tests/lib/test.h"

#include "client/core/client.h"
#include "common/timer_heap.h"

enum { FAKE_SESSIONS_MAX = 256, FAKE_SENT_MAX = 4096, FAKE_OSDS = 4, FAKE_MONS = 3 };

struct fake_session {
    struct net_session base;
    struct net_address to;
    struct net_expect expect;
    bool over;
    bool dropped;      /* By net_drop(). */
    uint64_t heard_ns; /* What net_heard_ns() says. */
    uint32_t n_sent;
    uint32_t n_taken; /* The test has looked at those before. */
    struct message *sent[FAKE_SENT_MAX];
};

struct fake_world {
    struct env env;
    struct timer_heap timers;
    uint64_t now_ns;
    uint64_t random;
    const struct net_handlers *handlers;
    void *ctx;
    uint32_t n_sessions;
    struct fake_session *sessions[FAKE_SESSIONS_MAX];
    struct env_task *task;

    /* The made-up cluster. */
    struct cluster_map *map;
    struct auth_secret secret; /* The client's own key. */
    bool mons_serve;           /* Open sessions, answer subscriptions and ticket requests. */
    uint64_t ticket_seconds;
    int ticket_result;
    uint32_t tickets_given;
    uint16_t reply_flags; /* Of the replies of OSDs. */
};

void fake_world_init(struct fake_world *w);
void fake_world_fini(struct fake_world *w);

/* Moves time, firing timers on the way and letting monitors serve. */
void fake_advance(struct fake_world *w, uint64_t ns);
/* Fires what is due now and lets monitors serve until nothing happens any more. */
void fake_settle(struct fake_world *w);

struct net_address fake_mon_address(uint32_t i);
struct net_address fake_osd_address(int32_t id);
/* The latest session to this address that is not over; NULL when there is none. */
struct fake_session *fake_session_to(struct fake_world *w, struct net_address address);
struct fake_session *fake_osd(struct fake_world *w, int32_t id);
struct fake_session *fake_mon(struct fake_world *w);

void fake_session_open(struct fake_world *w, struct fake_session *s);
void fake_session_close(struct fake_world *w, struct fake_session *s, int error);
/* Hands a message to the client; takes it over. */
void fake_deliver(struct fake_world *w, struct fake_session *s, struct message *m);
/* The next message that the client sent on it and nobody has looked at; NULL: none. Borrowed. */
struct message *fake_take(struct fake_session *s);
/* The next one of a type; others are skipped. */
struct message *fake_take_type(struct fake_session *s, uint16_t type);

/* ---- Maps ---- */

/* Changes the cluster's map; a serving monitor pushes it. */
void fake_map_osd(struct fake_world *w, int32_t id, bool up, uint64_t instance);
void fake_map_pg(struct fake_world *w, uint64_t pool, uint32_t seed, uint8_t n,
                 const int32_t *members);
/* Like pool 1, but for its number. */
void fake_map_add_pool(struct fake_world *w, uint64_t pool);
void fake_map_remove_pool(struct fake_world *w, uint64_t pool);
void fake_map_flags(struct fake_world *w, uint32_t flags);
void fake_map_pg_num(struct fake_world *w, uint64_t pool, uint32_t pg_num);
/* An increment that changes nothing of interest. */
void fake_map_touch(struct fake_world *w);
void fake_push_full_map(struct fake_world *w, struct fake_session *s, const struct uuid *fsid);

/* ---- Clients and operations ---- */

struct client *fake_client(struct fake_world *w, const struct client_options *options);
/* A client with its first map. Monitors serve. */
struct client *fake_connected_client(struct fake_world *w, const struct client_options *options);

struct fake_op {
    struct client_op op;
    bool done;
    uint32_t order; /* Of completion, from 1. */
    char name[64];
};
extern uint32_t fake_op_completions;
void fake_op_write(struct fake_op *o, uint64_t pool, const char *name, const char *data);
void fake_op_read(struct fake_op *o, uint64_t pool, const char *name, uint64_t length);

/* What an OSD found in a request. */
struct fake_request {
    struct wire_osd_op head;
    struct object_id object;
    uint16_t first_code;
    struct wire_op first;
};
/* The next request at this OSD; fails the test when there is none. */
struct fake_request fake_request(struct fake_world *w, int32_t osd);
bool fake_no_request(struct fake_world *w, int32_t osd);
/* Opens the session with the OSD, if the client wants one. */
void fake_osd_accept(struct fake_world *w, int32_t osd);
void fake_reply(struct fake_world *w, int32_t osd, uint64_t tid, int result, uint64_t epoch,
                const char *data);

#endif
