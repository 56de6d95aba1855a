/*
 * The inside of liblimpet: the client core, and the threads around it.
 *
 *   cluster.c   clusters: configuration, connecting, commands, the end
 *   loop.c      the real world; which thread turns its event loop, and how others wait
 *   pool.c      pools
 *   object.c    operations on objects
 *   op.c        their steps beyond contents
 *   vector.c    vectors of memory, and buffers that are handed over
 *   list.c      walks over the objects of a pool
 *   scrub.c     what scrubs found
 *   snap.c      snapshots
 *   app.c       what pools are used for
 *   watch.c     watches, notifies, leases
 *   lock.c      advisory locks
 *   busy_poll.c for how long an answer is looked for before sleeping
 *
 * Invariants:
 *
 *  L1  cluster->lock protects everything in struct limpet_cluster, the env, the client core and all
 *      that hangs on them. Whoever holds it may call the core and take a non-blocking turn of the
 *      loop. Nobody blocks while holding it, except on a condition variable.
 *  L2  At most one thread at a time is the poller: it waits, without the lock, until the loop's
 *      file descriptor has something to do. Every thread that waits for a request is the poller or
 *      stands in `blocked`; when the poller leaves, it wakes one of these, or the driver thread.
 *  L3  What asynchronous requests of many at a time wait for is a turn, not the lock: they stand in
 *      `queued`, protected by queue_lock, while the driver is going to look there before it blocks
 *      (`queue_taker`). Whoever takes the lock submits them first, so requests of a thread keep
 *      their order. A thread that polls for its own request closes the queue, as it may be the
 *      driver in a callback, or the driver's callback may last. queue_lock may be taken with the
 *      lock held, and not the other way round.
 *  L4  Callbacks of users are made by the driver thread alone, without the lock, and without it
 *      being the poller.
 *  L5  Callbacks that only serve threads which wait (`by_waiter`) are made, without the lock, by a
 *      thread that polls for its own request, which remains the poller meanwhile: the queue stays
 *      closed, others take turns and leave him word, and what the callbacks have submitted leaves
 *      in his next turn, before he sleeps. So they may submit and wake, but neither wait nor call
 *      what is the user's. When no such thread polls they are the driver's. Who waits for a
 *      callback says so (`wait_called`) before he looks whether it has returned, and whoever calls
 *      back tells that it has before he looks whether somebody waits.
 *  L6  With `wait_follows` a thread submits without a turn and without telling anybody: it takes
 *      the turn in the loop_wait() that follows, and does not block in between but in another
 *      loop_wait(), which does the same.
 *  L7  When threads have waited for asynchronous requests several times in a row, and no callback
 *      of a user came in between, these are left to them: who submits leaves it to the turn of his
 *      next wait, and the driver leaves the poller's place. It sleeps 4 ms at a time meanwhile, or
 *      long (`driver_rests`) while nothing is under way, or while a thread polls, which then wakes
 *      it when it leaves; who leaves something to waits wakes it from that. If nobody has waited
 *      for 4 ms it takes the place, and counting begins anew.
 *  L8  A thread that serves (loop_serve()) polls the loop and descriptors of its program, again and
 *      again. It has the poller's place while it sleeps, if that was free, and the driver rests; in
 *      between the place is free for threads that wait, and nobody is woken for it, as it comes
 *      back at once. When another thread has the place it polls beside that one, and takes turns
 *      when something comes, as anybody may (L1); whoever leaves the place wakes it, so that it
 *      takes it and learns of timers. What it submits in between leaves with its next turn (L6).
 *      Callbacks by waiters are its part, not the driver's, even while it does not sleep.
 *  L9  The poller looks for an answer for a while before it sleeps, if only one request at a time
 * has been under way (`busy_poll`, which is his who has the place). Others see no difference.
 */
#ifndef LIMPET_CLIENT_OBJECT_PRIVATE_H
#define LIMPET_CLIENT_OBJECT_PRIVATE_H

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "client/core/client.h"
#include "client/limpet.h"
#include "client/limpet/object.h"
#include "client/object/inside.h"
#include "common/config.h"
#include "common/env_real.h"

enum { CLUSTER_ERROR_MAX = 2560, REQUEST_NAME_INLINE = 128 };

/* A thread that waits while another one polls. */
struct blocked_thread {
    struct waiter *waiter;
    pthread_cond_t wake;
    TAILQ_ENTRY(blocked_thread) link;
};
TAILQ_HEAD(blocked_list, blocked_thread);

/* Where the results of a step go. */
struct step_out {
    void *data; /* Memory for `len` bytes, or n_iov vectors of it. */
    size_t len;
    int n_iov;
    struct limpet_buffer **buffer; /* Instead of memory: what has come is handed over. */
    size_t *got;
    struct limpet_stat *stat;
    int *result;
    /* Of what is neither: takes what the step has given. 0, -EPROTO, -ENOMEM. */
    int (*take)(struct step_out *out, const void *data, size_t len);
    void *to; /* For take(), as the two that follow. */
    size_t *got_copy;
    bool *more;
};

/* Steps that have no room in the request itself. */
struct request_more {
    struct client_step steps[LIMPET_OP_STEPS_MAX - CLIENT_STEPS_INLINE];
    struct step_out outs[LIMPET_OP_STEPS_MAX - CLIENT_STEPS_INLINE];
};

struct request {
    struct client_op op;
    struct step_out outs[CLIENT_STEPS_INLINE];
    struct request_more *more; /* Of further steps; of a limpet_op only. */
    struct limpet_cluster *cluster;
    struct limpet_completion *completion; /* NULL: a thread waits for it. */
    const struct limpet_pool *pool;       /* The object's. */
    uint64_t *snaps;                      /* A copy of the pool handle's; NULL: there are none. */
    struct waiter waiter;
    bool returns_bytes; /* Its result is what its first step has read. */
    ssize_t result;
    STAILQ_ENTRY(request) queued_link;
    uint64_t cost; /* Bytes in the budget. */
    char *names;   /* Copies of what names the object; of an asynchronous request. */
    char names_inline[REQUEST_NAME_INLINE];
};

struct limpet_buffer {
    struct buf_slice slice;
    /* Whose lock protects the memory's count: it came over the network. NULL: it is the user's. */
    struct limpet_cluster *cluster;
};

struct limpet_op {
    struct request request;
    bool used;
};

struct limpet_completion {
    atomic_uint refs; /* The user's, and the request's until its callback has returned. */
    limpet_callback callback;
    void *arg;
    atomic_bool used;
    atomic_bool revoked; /* What was not passed on yet never will be. */
    atomic_bool done;
    struct request *request; /* While it is under way. */
    struct limpet_cluster *cluster;
    ssize_t result;
    struct wire_version version;
    struct waiter called;    /* The callback has returned. */
    atomic_bool wait_called; /* Somebody waits for that. */
    bool by_waiter;          /* Its callback is made by a thread that waits, if one polls. */
    TAILQ_ENTRY(limpet_completion) link;
    struct request own; /* For calls without a limpet_op. */
};
TAILQ_HEAD(completion_list, limpet_completion);

struct budget_waiter {
    struct waiter waiter;
    TAILQ_ENTRY(budget_waiter) link;
};
TAILQ_HEAD(budget_list, budget_waiter);

struct limpet_pool {
    struct limpet_cluster *cluster;
    uint64_t id;
    char name[LIMPET_POOL_NAME_MAX + 1];
    char space[LIMPET_OBJECT_SPACE_MAX + 1];
    char locator[LIMPET_OBJECT_LOCATOR_MAX + 1];
    bool revoke_late;
    uint64_t snap_read; /* 0: the objects as they are. */
    /* The snap context of writes. It may change meanwhile: who changes it has both locks. */
    uint64_t snap_seq;
    uint16_t n_snaps;
    uint64_t *snaps;
};

/* Who submits what is queued. */
enum queue_taker {
    QUEUE_NOBODY,  /* Nothing may be queued. */
    QUEUE_AWAKE,   /* The driver, before it blocks again; nobody else polls. */
    QUEUE_POLLING, /* The driver, when an answer comes, or the timer of later_fd. */
};
STAILQ_HEAD(queued_list, request);

/* How long to look before sleeping. */
struct busy_poll {
    int64_t max_ns;          /* 0: never. */
    int64_t ns;              /* As it was learnt. */
    atomic_uint waits_alone; /* Since two requests were under way. */
    unsigned waits_kept;     /* In so many the processor is not offered to others. */
};

enum driver_state { DRIVER_NONE, DRIVER_BUSY, DRIVER_POLLING, DRIVER_SLEEPING };

struct limpet_cluster {
    struct entity_name name;
    struct config *config;
    char error[CLUSTER_ERROR_MAX];

    pthread_mutex_t lock;
    struct env *env;
    struct client *client; /* NULL while it is not connected. */
    uint64_t command_timeout_ns;

    /* The loop (L2). */
    bool polling;
    struct waiter *poller_waits_for; /* NULL: the driver polls. */
    struct waiter server;            /* What who serves (L8) waits for: it never happens. */
    unsigned servers;                /* Threads that do. */
    unsigned beside;                 /* Of them, asleep while another thread has the place. */
    int64_t poll_deadline_ms;        /* When the poller wakes by itself. */
    struct busy_poll busy_poll;
    int later_fd; /* A timer that wakes him, too; -1: there is none. */
    struct blocked_list blocked;
    int64_t last_sync_ms; /* A thread waited for something then. */

    /* The driver (L3). */
    enum driver_state driver;
    pthread_t driver_thread;
    pthread_cond_t driver_wake;
    bool driver_rests; /* It sleeps for long, though there may be watches. */
    bool stopping;
    unsigned waits_in_row; /* Of threads for asynchronous requests, without a user's callback. */
    bool unsent;           /* Submitted without a turn, and none was taken since: one will be. */
    struct completion_list finished; /* Callbacks that are due. */
    struct completion_list finished_by_waiter;

    /* The budget. */
    uint64_t bytes_max;
    uint64_t ops_max;
    _Atomic uint64_t bytes_pending; /* Read without the lock, as ops_pending. */
    _Atomic uint64_t ops_pending;
    uint64_t async_pending;
    LIST_HEAD(, limpet_watch) left; /* They end by themselves: watch_end_lease(). */
    uint64_t watches; /* Or begun: the driver polls, unless a thread does that waits. */
    struct budget_list budget_waiters;

    /* The queue (L3). */
    pthread_mutex_t queue_lock;
    enum queue_taker queue_taker;
    atomic_uint n_queued;
    struct queued_list queued;
};

enum { NAMES_BYTES = OBJECT_STRINGS_MAX + 3 };
/* Moves the id's strings to memory of NAMES_BYTES, each with a zero after it (list.c). */
void names_terminate(struct object_id *id, char *memory);

/* What callers see of an error. */
int public_error(int error) MUST_CHECK;

/*
 * loop.c. All but loop_init and loop_fini are called with the lock held. The simulator has another
 * implementation of these.
 */
int loop_init(struct limpet_cluster *cluster) MUST_CHECK;
void loop_fini(struct limpet_cluster *cluster);
/* Makes cluster->env; ends it, when there is one. */
int loop_make_env(struct limpet_cluster *cluster) MUST_CHECK;
void loop_end_env(struct limpet_cluster *cluster);
/* Who we are for others. */
void loop_set_auth(struct limpet_cluster *cluster, const struct auth_provider *provider);
/* The completion's callback is due. */
void loop_call_back(struct limpet_cluster *cluster, struct limpet_completion *completion);
/* Sends what was submitted, and tells the poller and the driver what they must know. */
void loop_flush(struct limpet_cluster *cluster);
/* The same, but what callbacks submit leaves together, when the driver is through with them, and so
 * does what threads submit while much is under way. */
void loop_submitted(struct limpet_cluster *cluster);
/* Until waiter->done; lets go of the lock meanwhile. */
void loop_wait(struct limpet_cluster *cluster, struct waiter *waiter);
/* For an asynchronous request, which may be one of many. */
void loop_wait_for_async(struct limpet_cluster *cluster, struct waiter *waiter);
/* What this thread submits next it waits for: it takes the turn itself. Until loop_wait(). */
void loop_wait_follows(void);
/*
 * Takes turns and sleeps for descriptors, too (L8). How many are ready; 0 also when callbacks were
 * made; a negative errno. Ends when the same thread says so.
 */
int loop_serve(struct limpet_cluster *cluster, struct pollfd *fds, unsigned n,
               int timeout_ms) MUST_CHECK;
void loop_serve_end(struct limpet_cluster *cluster);
/* From a callback of the core. */
void loop_done(struct limpet_cluster *cluster, struct waiter *waiter);
/* watch.c: those that have not ended with the client. */
void watch_forget_left(struct limpet_cluster *cluster);
/* From a callback of a completion. */
void loop_done_by_callback(struct limpet_cluster *cluster, struct waiter *waiter);
int loop_start_driver(struct limpet_cluster *cluster) MUST_CHECK;
/* Makes the callbacks that are due, ends the driver. */
void loop_stop_driver(struct limpet_cluster *cluster);
bool loop_on_driver(const struct limpet_cluster *cluster);
/* Whether the caller is a callback: on the driver, or made by a thread that waits. */
bool loop_calls_back(const struct limpet_cluster *cluster);
/* Without the lock. False: nobody would take it now, and it is to be submitted with the lock. */
bool loop_queue(struct limpet_cluster *cluster, struct request *request) MUST_CHECK;
/* Nobody queues in between, nor looks at what a pool handle says. */
void loop_queue_shut(struct limpet_cluster *cluster);
void loop_queue_open(struct limpet_cluster *cluster);

/* busy_poll.c. `max_ns`: for how long at most. */
void busy_poll_init(struct busy_poll *busy, uint64_t max_ns);
/* There are as many requests now. */
void busy_poll_submitted(struct busy_poll *busy, uint64_t under_way);
/* As poll(2), by the poller. */
int busy_poll(struct busy_poll *busy, struct pollfd *fds, nfds_t n, int timeout_ms);

/* object.c. Submits what is queued; the lock is held. */
void requests_take_queued(struct limpet_cluster *cluster);
/* Every part of the library but loop.c takes and leaves the lock by these. */
static inline void cluster_lock(struct limpet_cluster *c)
{
    pthread_mutex_lock(&c->lock);
    if (atomic_load_explicit(&c->n_queued, memory_order_relaxed) > 0)
        requests_take_queued(c);
}

static inline void cluster_unlock(struct limpet_cluster *c)
{
    pthread_mutex_unlock(&c->lock);
}

/* cluster.c */
int cluster_fail(struct limpet_cluster *cluster, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* What is left of limpet_cluster_connect() when the configuration was read. The lock is held. */
int cluster_connect(struct limpet_cluster *cluster,
                    const struct client_options *options) MUST_CHECK;
/* Follows the map to what the leading monitor knows now. */
int cluster_latest_map(struct limpet_cluster *cluster) MUST_CHECK;

/* object.c */
/* What a request of this handle looks at, and knows of snapshots, as the handle says it now. */
int request_take_snaps(struct request *request, const struct limpet_pool *pool) MUST_CHECK;
void request_init(struct request *request);
/* Releases what further steps took; not their data. */
void request_fini(struct request *request);
/* -E2BIG, -ENOMEM; the step is then request_step(). */
int request_add(struct request *request, uint16_t code, uint64_t offset,
                uint64_t length) MUST_CHECK;
/* The step that was added last, and where its results go; there is one. */
struct client_step *request_step(struct request *request);
struct step_out *request_out(struct request *request);
int request_add_data(struct request *request, uint16_t code, uint64_t offset, const void *data,
                     size_t len) MUST_CHECK;
/* Reads into memory, vectors or a buffer, as `out` says; -E2BIG. */
int request_add_read(struct request *request, struct step_out out, uint64_t offset) MUST_CHECK;
/* Takes over the slice. */
int request_add_slice(struct request *request, uint16_t code, uint64_t offset,
                      struct buf_slice slice) MUST_CHECK;
/* Submits, or gives up what the request holds. */
int request_run_async(struct limpet_pool *pool, const char *name,
                      struct limpet_completion *completion, struct request *request) MUST_CHECK;
/* vector.c. What a reading step has given; the slice may be taken over. 0, -ENOMEM. */
int read_give(struct limpet_cluster *cluster, struct step_out *out, struct buf_slice *data);
/* Takes lock and budget, submits, waits. Returns its result. */
ssize_t request_run(struct request *request, struct limpet_cluster *cluster) MUST_CHECK;
/* Takes over the data of the steps. -EROFS: a write, and the handle looks at a snapshot. */
ssize_t request_run_on(struct limpet_pool *pool, const char *name, struct request *r) MUST_CHECK;
/* The last reference to a completion frees it. */
void completion_unref(struct limpet_completion *completion);

#endif
