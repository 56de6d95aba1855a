/*
 * Watches and leases of a client: begun once, and then kept alive over lost connections, failovers
 * and other primaries, until their owner ends them or their time-out has passed.
 *
 * A lease is a watch with a mode. Its owner may act as its holder only while client_watch_valid(),
 * which it asks anew each time, with no callback or wait between asking and acting.
 */
#ifndef LIMPET_CLIENT_CORE_WATCH_H
#define LIMPET_CLIENT_CORE_WATCH_H

#include "client/core/client.h"

struct client_watch_event {
    bool recall;        /* Somebody wants a lease of this mode. Otherwise a notify. */
    uint32_t mode;      /* enum wire_lease */
    uint64_t notifier;  /* Instance of the process that notifies; with notify_id it names the */
    uint64_t notify_id; /* notify, which may come more than once. */
    const void *data;   /* Valid during the call. */
    size_t len;
};

struct watch_group;

enum watch_writing { WATCH_RESTS, WATCH_BEGINS, WATCH_RECALLS, WATCH_ENDS };
enum watch_link { WATCH_APART, WATCH_CONNECTING, WATCH_LIVE, WATCH_STALE, WATCH_LOST };

/* Zero-initialize; belongs to the client from begin until lost with no end, or ended. */
struct client_watch {
    struct object_id object; /* hash is filled in by the client; strings valid until it ends. */
    uint32_t timeout_ms;     /* 0: the default */
    uint32_t mode;           /* enum wire_lease */
    /*
     * Of a lease: how long to wait while others hold one that does not agree; they are asked to
     * give it back. 0: not at all.
     */
    uint64_t patience_ns;
    /* 0: it lives. -ENOENT: no such object; -EBUSY: a lease of somebody else; -EUSERS: too many. */
    void (*began)(struct client_watch *watch, int error);
    void (*event)(struct client_watch *watch, const struct client_watch_event *event);
    /* After began: -ENOTCONN: it has timed out, or was evicted; -ENOENT, -ESHUTDOWN. Once. */
    void (*lost)(struct client_watch *watch, int error);
    void (*ended)(struct client_watch *watch, int error);
    void *ctx;
    /* Filled in by begin: with the process's instance it names the watch. */
    uint64_t cookie;
    /* Private. */
    struct client *client;
    enum watch_writing writing;
    enum watch_link link_state;
    bool has_begun;
    bool again;                      /* It connects, and must do so once more. */
    bool ends_late;                  /* It is to be ended when nothing is late (C7). */
    struct watch_leftover *leftover; /* Of a fenced one: what ends it should that fail. */
    struct client_op write_op;       /* Begins, recalls, ends. */
    struct client_op link_op;        /* Connects. */
    uint32_t wanted_mode;            /* That is being written. */
    uint64_t wanted_until_ns;        /* env_now(): end of the patience. */
    uint64_t begun_ns;               /* env_clock() when the write or connection was submitted. */
    uint64_t linked_ns;
    uint64_t valid_until_ns; /* env_clock() */
    uint64_t life;           /* Of the group's service that it is connected to. */
    struct osd_link *osd;    /* Where, and over which session. */
    uint64_t session;
    struct watch_group *group;
    TAILQ_ENTRY(client_watch) link; /* In the group. */
    UT_hash_handle hh;              /* By cookie. */
};

void client_watch(struct client *client, struct client_watch *watch);
/* Another mode; began() tells. While the answer is out, the lesser of both is held. */
void client_watch_change(struct client *client, struct client_watch *watch, uint32_t mode);
/*
 * Allowed at any time but before began(); ended() follows when it is over, whatever the error. Of a
 * fenced lease, when nothing can be executed any more of what was revoked (client_revoke()); until
 * then it is kept alive.
 */
void client_unwatch(struct client *client, struct client_watch *watch);
/* Whether nobody can have taken it from us yet. */
bool client_watch_valid(const struct client_watch *watch);
/* env_clock(): until when; 0: it is not. */
uint64_t client_watch_until(const struct client_watch *watch);
/* Nanoseconds since the primary is known to have had it. */
uint64_t client_watch_age(const struct client_watch *watch);

/*
 * Makes a zeroed operation a notify, or an answer to one; its object is set by the caller, and the
 * data are taken over. The answer to a notify: see common/wire_layout.h.
 */
void client_notify_op(struct client_op *op, uint32_t timeout_ms, struct buf_slice data);
int client_ack_op(struct client_op *op, uint64_t notifier, uint64_t notify_id, uint64_t cookie,
                  const void *answer, size_t len) MUST_CHECK;

#endif
