/*
 * client/object/loop.c for the simulator: the library's world is the simulated process in which it
 * is called, whose messages come and go by themselves. So nobody polls: who waits, waits, and the
 * driver is a fiber that makes the callbacks.
 */
#include "tests/sim/fiber_pthread.h"

#include "client/object/private.h"

#include <assert.h>
#include <errno.h>

#include "client/core/watch.h"
#include "tests/sim/client_loop.h"

int loop_init(struct limpet_cluster *c)
{
    TAILQ_INIT(&c->blocked);
    TAILQ_INIT(&c->finished);
    TAILQ_INIT(&c->budget_waiters);
    STAILQ_INIT(&c->queued);
    int error = pthread_mutex_init(&c->lock, NULL);
    if (error == 0)
        error = pthread_mutex_init(&c->queue_lock, NULL);
    return -error;
}

void loop_fini(struct limpet_cluster *c)
{
    assert(TAILQ_EMPTY(&c->finished));
    pthread_mutex_destroy(&c->queue_lock);
    pthread_mutex_destroy(&c->lock);
}

int loop_make_env(struct limpet_cluster *c)
{
    c->env = fiber_env();
    return 0;
}

void loop_end_env(struct limpet_cluster *c)
{
    /* The process may connect once more. */
    if (c->env != NULL)
        net_handlers_set(c->env, NULL, NULL);
    c->env = NULL;
}

void loop_set_auth(struct limpet_cluster *c, const struct auth_provider *provider)
{
    (void)c;
    sim_process_auth(fiber_node(), provider);
}

void loop_flush(struct limpet_cluster *c)
{
    (void)c;
}

/* Nobody does, and a fiber that holds the cluster's lock must not give way (F1). */
void loop_queue_shut(struct limpet_cluster *c)
{
    (void)c;
}

void loop_queue_open(struct limpet_cluster *c)
{
    (void)c;
}

bool loop_queue(struct limpet_cluster *c, struct request *request)
{
    (void)c;
    (void)request;
    return false;
}

void loop_submitted(struct limpet_cluster *c)
{
    (void)c;
}

void loop_wait(struct limpet_cluster *c, struct waiter *waiter)
{
    while (!waiter->done) {
        pthread_mutex_unlock(&c->lock);
        /* It cannot have been done meanwhile: unlocking gives no way. */
        fiber_wait(waiter);
        pthread_mutex_lock(&c->lock);
    }
}

void loop_wait_for_async(struct limpet_cluster *c, struct waiter *waiter)
{
    loop_wait(c, waiter);
}

void loop_done(struct limpet_cluster *c, struct waiter *waiter)
{
    /* What the world does for the process it does under this lock (L1). */
    assert(fiber_current() != NULL || fiber_mutex_is_free(&c->lock));
    waiter->done = true;
    fiber_wake(waiter, true);
}

void loop_done_by_callback(struct limpet_cluster *c, struct waiter *waiter)
{
    loop_done(c, waiter);
}

void loop_wait_follows(void) {}

/* No simulated program has descriptors. */
int loop_serve(struct limpet_cluster *c, struct pollfd *fds, unsigned n, int timeout_ms)
{
    (void)c, (void)fds, (void)n, (void)timeout_ms;
    return -EOPNOTSUPP;
}

void loop_serve_end(struct limpet_cluster *c)
{
    (void)c;
}

void loop_call_back(struct limpet_cluster *c, struct limpet_completion *completion)
{
    TAILQ_INSERT_TAIL(&c->finished, completion, link);
    fiber_wake(&c->driver_wake, true);
}

/* ---- The driver ---- */

static void make_callback(struct limpet_cluster *c)
{
    struct limpet_completion *completion = TAILQ_FIRST(&c->finished);
    TAILQ_REMOVE(&c->finished, completion, link);
    pthread_mutex_unlock(&c->lock);
    completion->callback(completion, completion->arg);
    pthread_mutex_lock(&c->lock);
    loop_done(c, &completion->called);
    completion_unref(completion);
}

static void *drive(void *arg)
{
    struct limpet_cluster *c = arg;
    pthread_mutex_lock(&c->lock);
    while (!c->stopping || !TAILQ_EMPTY(&c->finished)) {
        if (!TAILQ_EMPTY(&c->finished))
            make_callback(c);
        else
            pthread_cond_wait(&c->driver_wake, &c->lock);
    }
    c->driver = DRIVER_NONE;
    pthread_cond_broadcast(&c->driver_wake);
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

int loop_start_driver(struct limpet_cluster *c)
{
    if (c->driver == DRIVER_NONE) {
        c->driver = DRIVER_BUSY;
        return -pthread_create(&c->driver_thread, NULL, drive, c);
    }
    return 0;
}

void loop_stop_driver(struct limpet_cluster *c)
{
    c->stopping = true;
    pthread_cond_broadcast(&c->driver_wake);
    while (c->driver != DRIVER_NONE)
        pthread_cond_wait(&c->driver_wake, &c->lock);
    c->stopping = false;
}

bool loop_on_driver(const struct limpet_cluster *c)
{
    return c->driver != DRIVER_NONE && pthread_self() == c->driver_thread;
}

bool loop_calls_back(const struct limpet_cluster *c)
{
    return loop_on_driver(c);
}

/* ---- For whoever runs the process ---- */

int client_loop_connect(const struct client_options *options, struct limpet_cluster **out)
{
    struct limpet_cluster *c;
    int rc = limpet_cluster_create(&c, "client.admin");
    if (rc != 0)
        return rc;
    c->bytes_max = options->max_bytes_in_flight;
    c->ops_max = options->max_ops_in_flight;
    c->command_timeout_ns = 365 * 86400 * SEC_NS; /* "For ever", as the configuration has it. */
    *out = c;
    do {
        pthread_mutex_lock(&c->lock);
        rc = cluster_connect(c, options);
        pthread_mutex_unlock(&c->lock);
    } while (rc == -ETIMEDOUT);
    return rc;
}

void client_loop_abandon(struct limpet_cluster *c)
{
    struct client *client = c->client;
    c->client = NULL;
    if (client != NULL)
        client_destroy(client);
}

const struct cluster_map *client_loop_map(const struct limpet_cluster *c)
{
    return c->client != NULL ? client_map(c->client) : NULL;
}

uint64_t client_loop_lease_until(const struct limpet_watch *lease)
{
    /* It begins with the core's. */
    return client_watch_until((const struct client_watch *)lease);
}
