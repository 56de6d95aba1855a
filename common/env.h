/*
 * The injected world.
 *
 * All protocol logic (monitors, OSDs, client core) is code that reacts to events and reaches the
 * world only through struct env: clock, timers, random numbers, messages to peers, small files,
 * helper threads. Two worlds exist: the real one (common/env_real.c: libuv, TCP, files) and the
 * simulated one (tests/sim), where a seed decides everything and the same seed gives the same run.
 *
 * One env belongs to one process (or simulated process) and one event loop. Every call and every
 * callback happens on that loop, except env_work.run. Callbacks are never made from inside the call
 * that asks for them. Handles are allocated by the caller and may be reused once they have fired or
 * were stopped.
 */
#ifndef LIMPET_COMMON_ENV_H
#define LIMPET_COMMON_ENV_H

#include <bsd/sys/queue.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/buf.h"
#include "common/entity.h"
#include "common/error.h"
#include "common/message.h"

struct env;

#define container_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))
#define MSEC_NS                             UINT64_C(1000000)
#define SEC_NS                              UINT64_C(1000000000)

/* ---- Timers and deferred work ---- */

/* Zero-initialize, set fire, arm. Fires once. */
struct env_timer {
    void (*fire)(struct env_timer *timer);
    uint64_t deadline_ns; /* Of env_now(); valid while armed. */
    bool armed;
    uint32_t heap_index; /* Private to the world. */
    uint64_t order;      /* Private to the world: ties fire in the order they were armed. */
};

/* Runs once, after the current turn's messages have left for the network. */
struct env_task {
    void (*run)(struct env_task *task);
    bool queued;
    STAILQ_ENTRY(env_task) link;
};

/*
 * run() blocks on a helper thread and touches only what the owner set aside for it; then done() is
 * called on the loop. In the simulated world run() is executed on the loop after a delay.
 */
struct env_work {
    void (*run)(struct env_work *work);
    void (*done)(struct env_work *work);
    void *impl[2]; /* Private to the world. */
};

/* ---- Messages to peers ---- */

/*
 * A session with one peer process, mutually authenticated. Messages arrive in order, each once, as
 * long as the session lives: a broken connection is re-established and what was not acknowledged is
 * sent again, unseen by the user. The session ends (closed()) when that is impossible.
 */
struct net_session;

struct net_peer {
    struct entity_name name;
    uint64_t instance;          /* Random number that the peer process chose at its start. */
    struct net_address address; /* Where it was reached, or where it connected from. */
    struct caps caps;           /* At this service, as the monitors granted them. */
};

/* Whom an outbound session must find at the address. */
struct net_expect {
    struct entity_name name;
    uint64_t instance; /* 0: any. Otherwise closed(-ELIMPET_RESET) if another answers. */
};

/* A message of which the payload is still to come. */
struct net_arrival {
    uint16_t type;
    const void *body;
    size_t body_len;
    size_t payload_len;
};

struct net_handlers {
    /* The session is authenticated (first time only), outbound or inbound. */
    void (*opened)(void *ctx, struct net_session *session);
    /* The handler borrows the message; message_ref() keeps it. */
    void (*received)(void *ctx, struct net_session *session, struct message *message);
    /*
     * Where the payload is to be received: lent memory (buf_slice_lend()) of its length, or the
     * empty slice for memory of the env's. Optional, and not asked for each message. Nothing of the
     * arrival is authenticated yet: it may choose among places that wait for bytes, and no more.
     * When the memory is revoked first, the message comes again in the env's.
     */
    struct buf_slice (*place)(void *ctx, struct net_session *session,
                              const struct net_arrival *arrival);
    /*
     * The connection under a session broke; it may come back by itself. Optional. For an inbound
     * session this is the first sign that the peer died.
     */
    void (*disconnected)(void *ctx, struct net_session *session);
    /*
     * The session is over and the pointer invalid after return. Messages sent may be lost. Errors:
     * -ECONNREFUSED nobody listens at the address; -ELIMPET_RESET the peer is another process, or
     * has forgotten the session; -EACCES authentication failed; -ETIMEDOUT it could not be reached;
     * -EPROTO the peer broke the protocol; -ECONNRESET the peer closed the session; -EXDEV it is of
     * another cluster; -EPROTONOSUPPORT it is too old or too new. -ETIMEDOUT also ends a session
     * whose user has queued four times NET_QUEUE_LIMIT.
     */
    void (*closed)(void *ctx, struct net_session *session, int error);
    /* What was queued for the session has fallen below half of its limit. Optional. */
    void (*drained)(void *ctx, struct net_session *session);
};

/* ---- The function table of a world ---- */

struct env_file;

struct env_ops {
    uint64_t (*now_ns)(struct env *env);
    uint64_t (*clock_ns)(struct env *env);
    uint64_t (*wall_ns)(struct env *env);
    void (*random)(struct env *env, void *out, size_t len);
    void (*timer_arm)(struct env *env, struct env_timer *timer, uint64_t deadline_ns);
    void (*timer_stop)(struct env *env, struct env_timer *timer);
    void (*defer)(struct env *env, struct env_task *task);
    void (*work)(struct env *env, struct env_work *work);

    void (*net_handlers)(struct env *env, const struct net_handlers *handlers, void *ctx);
    int (*net_listen)(struct env *env, const struct net_address *want, struct net_address *bound);
    int (*net_open)(struct env *env, const struct net_address *to, const struct net_expect *expect,
                    void *user, struct net_session **out);
    void (*net_send)(struct env *env, struct net_session *session, struct message *message);
    void (*net_close)(struct env *env, struct net_session *session);
    void (*net_drop)(struct env *env, struct net_session *session);
    void (*net_pause)(struct env *env, struct net_session *session, bool paused);
    uint64_t (*net_heard_ns)(struct env *env, struct net_session *session);

    int (*file_open)(struct env *env, const char *path, int flags, struct env_file **out);
    void (*file_close)(struct env *env, struct env_file *file);
    ssize_t (*file_read)(struct env *env, struct env_file *file, void *data, size_t len,
                         uint64_t offset);
    int (*file_write)(struct env *env, struct env_file *file, const void *data, size_t len,
                      uint64_t offset);
    int (*file_truncate)(struct env *env, struct env_file *file, uint64_t size);
    int (*file_sync)(struct env *env, struct env_file *file);
    int64_t (*file_size)(struct env *env, struct env_file *file);
    int (*file_rename)(struct env *env, const char *from, const char *to);
    int (*file_remove)(struct env *env, const char *path);
    int (*dir_sync)(struct env *env, const char *path);

    void (*log)(struct env *env, int level, const char *line);
};

struct env {
    const struct env_ops *ops;
    uint64_t instance; /* This process: random, never 0. */
    uint32_t log_mask; /* See common/log.h. */
};

/* The first members of every session in every world: what its user may read. */
struct net_session {
    void *user; /* The owner's; NULL on a new inbound session. */
    struct net_peer peer;
    bool outbound;
    bool open;           /* opened() was called. */
    size_t queued_bytes; /* Sent, and not yet acknowledged by the peer. */
    /*
     * env_clock(): since when an inbound session is without a connection because the peer's system
     * ended it: its process is gone, or has given the connection up and knows. 0: it has one, or
     * lost it otherwise, such as by silence.
     */
    uint64_t hung_up_ns;
};

/* Queued bytes of a session above which a well-behaved sender stops until drained(). */
#define NET_QUEUE_LIMIT (64u * 1024 * 1024)

/* Monotonic, nanoseconds from an arbitrary start. The same within one turn of the loop. */
static inline uint64_t env_now(struct env *env)
{
    return env->ops->now_ns(env);
}

/*
 * For leases: how much time has really passed. Monotonic, from another start than env_now(); read
 * anew by each call, so that a process that slept in the middle of a turn sees it at once; and it
 * goes on while the machine is suspended.
 */
static inline uint64_t env_clock(struct env *env)
{
    return env->ops->clock_ns(env);
}

/* Wall clock, nanoseconds since 1970 UTC. For showing to people, never for protocol decisions. */
static inline uint64_t env_wall(struct env *env)
{
    return env->ops->wall_ns(env);
}

static inline void env_random(struct env *env, void *out, size_t len)
{
    env->ops->random(env, out, len);
}

static inline uint64_t env_random_u64(struct env *env)
{
    uint64_t value;
    env->ops->random(env, &value, sizeof value);
    return value;
}

/* Arms, or moves an armed timer to another deadline. */
static inline void env_timer_arm(struct env *env, struct env_timer *timer, uint64_t deadline_ns)
{
    env->ops->timer_arm(env, timer, deadline_ns);
}

static inline void env_timer_after(struct env *env, struct env_timer *timer, uint64_t delay_ns)
{
    env->ops->timer_arm(env, timer, env->ops->now_ns(env) + delay_ns);
}

/* Harmless on a timer that is not armed. */
static inline void env_timer_stop(struct env *env, struct env_timer *timer)
{
    env->ops->timer_stop(env, timer);
}

/* Queues the task; harmless when it is queued already. */
static inline void env_defer(struct env *env, struct env_task *task)
{
    env->ops->defer(env, task);
}

static inline void env_work(struct env *env, struct env_work *work)
{
    env->ops->work(env, work);
}

/*
 * Once, before listening or opening. The handlers and ctx stay valid for the env's life, or until
 * the handlers are set to NULL: then listeners and sessions are closed, as by net_close(), and no
 * callback is made any more.
 */
static inline void net_handlers_set(struct env *env, const struct net_handlers *handlers, void *ctx)
{
    env->ops->net_handlers(env, handlers, ctx);
}

/* Listens; port 0 picks a free one. `bound` (may be NULL) gets the address. -EADDRINUSE and others.
 */
static inline int MUST_CHECK net_listen(struct env *env, const struct net_address *want,
                                        struct net_address *bound)
{
    return env->ops->net_listen(env, want, bound);
}

/*
 * Starts an outbound session. It may be sent to at once; messages wait until it is authenticated.
 * Failures to connect arrive by closed(). Returns -ENOMEM or -EINVAL only.
 */
static inline int MUST_CHECK net_open(struct env *env, const struct net_address *to,
                                      const struct net_expect *expect, void *user,
                                      struct net_session **out)
{
    return env->ops->net_open(env, to, expect, user, out);
}

/*
 * Sends, taking over the caller's reference. It leaves with everything else for that peer at the
 * end of this turn of the loop.
 */
static inline void net_send(struct env *env, struct net_session *session, struct message *message)
{
    env->ops->net_send(env, session, message);
}

/* Ends a session without a closed() call. What was sent in this turn still goes out if it can. */
static inline void net_close(struct env *env, struct net_session *session)
{
    env->ops->net_close(env, session);
}

/*
 * The same, but nothing that was sent leaves this machine any more. What the peer's machine has by
 * now may still be received.
 */
static inline void net_drop(struct env *env, struct net_session *session)
{
    env->ops->net_drop(env, session);
}

/* Stops or resumes taking messages from the peer: back-pressure through TCP's window. */
static inline void net_pause(struct env *env, struct net_session *session, bool paused)
{
    env->ops->net_pause(env, session, paused);
}

/*
 * When the peer's machine gave its last sign of life, on the clock of env_now(): not a message
 * only, but any piece of one, and the acknowledgement of what we sent by its kernel. A peer that
 * has told us to send nothing for now lives. 0: no such sign is known, there is no connection. For
 * whoever suspects that the path is cut: something must have been sent, or there is nothing to
 * acknowledge.
 */
static inline uint64_t MUST_CHECK net_heard_ns(struct env *env, struct net_session *session)
{
    return env->ops->net_heard_ns(env, session);
}

/*
 * Small synchronous files, for a monitor's log and a daemon's identity: not for the data path.
 * Flags are open(2)'s. Names are relative to the process's data directory or absolute. All return a
 * negative errno on failure; file_write writes all or fails; file_read is short only at the end of
 * the file. After a failed file_sync nothing about the file may be assumed: stop the daemon.
 */
static inline int MUST_CHECK env_file_open(struct env *env, const char *path, int flags,
                                           struct env_file **out)
{
    return env->ops->file_open(env, path, flags, out);
}
static inline void env_file_close(struct env *env, struct env_file *file)
{
    env->ops->file_close(env, file);
}
static inline ssize_t MUST_CHECK env_file_read(struct env *env, struct env_file *file, void *data,
                                               size_t len, uint64_t offset)
{
    return env->ops->file_read(env, file, data, len, offset);
}
static inline int MUST_CHECK env_file_write(struct env *env, struct env_file *file,
                                            const void *data, size_t len, uint64_t offset)
{
    return env->ops->file_write(env, file, data, len, offset);
}
static inline int MUST_CHECK env_file_truncate(struct env *env, struct env_file *file,
                                               uint64_t size)
{
    return env->ops->file_truncate(env, file, size);
}
static inline int MUST_CHECK env_file_sync(struct env *env, struct env_file *file)
{
    return env->ops->file_sync(env, file);
}
static inline int64_t MUST_CHECK env_file_size(struct env *env, struct env_file *file)
{
    return env->ops->file_size(env, file);
}
static inline int MUST_CHECK env_file_rename(struct env *env, const char *from, const char *to)
{
    return env->ops->file_rename(env, from, to);
}
static inline int MUST_CHECK env_file_remove(struct env *env, const char *path)
{
    return env->ops->file_remove(env, path);
}
static inline int MUST_CHECK env_dir_sync(struct env *env, const char *path)
{
    return env->ops->dir_sync(env, path);
}

#endif
