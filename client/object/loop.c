/*
 * Which thread turns the event loop, and how others wait.
 *
 * A turn never blocks: a thread takes it with the lock held, at once after submitting a request,
 * so that the request leaves without waiting for another thread. Blocking is the poller's part
 * (L2): it waits on the loop's file descriptor without the lock, and takes a turn when something
 * is there. At depth 1 the waiting thread is the poller itself, and no other thread is involved.
 * When many requests are under way, further asynchronous ones are left to the next turn: whoever
 * takes it is woken for the first of them, and those that a thread submits one after the other
 * leave together. With more, an answer wakes him soon enough, and only a timer does if none comes.
 * They are queued, so that their threads need not wait for the end of a turn (L3).
 *
 * The driver thread exists once there was an asynchronous request. It is the poller while such
 * requests are under way, or there are watches, and nobody waits, and also when the cluster has
 * been left alone for a while, so that monitors hear from us. It leaves polling to threads that
 * wait one after the other: handing them their results would cost a wake-up each. For the same
 * reason a thread that waits and polls makes those callbacks itself that only serve such threads
 * (`by_waiter`); the driver makes all others, and these, too, when it polls.
 */
#include "client/object/private.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define DRIVER_REST_MS 1000
/* With watches, after a thread has waited: events are noticed so much later at the most. */
#define DRIVER_REST_WATCHING_MS 2

/* With as many requests under way, what a wake-up delays another one by does not count. */
enum { TOGETHER_MIN = 8 };

/*
 * And with as many, an answer is on its way to the poller, who takes along what was submitted since
 * he went to sleep. He is woken for it only if none comes for so long.
 */
enum { ANSWER_SOON_MIN = 24, ANSWER_SOON_NS = 200 * 1000 };

/*
 * A thread that has waited so often for asynchronous requests, one wait after the other and none of
 * them with a callback of the user, is going to wait again: it sends what it submits and polls
 * itself. If it does not do so for a while, the driver does.
 */
enum { WAITS_IN_ROW_MIN = 4, DRIVER_REST_WAITS_MS = 4 };

/* What may be queued: so much that the budget is not exceeded by more than that. */
enum { QUEUED_MAX = 256, QUEUED_COST_MAX = 64 * 1024 };

/* Whose driver this thread is, and whose callbacks it makes while it waits. */
static _Thread_local const struct limpet_cluster *driver_of;
static _Thread_local const struct limpet_cluster *calling_back;
static _Thread_local bool wait_follows;
/* In whose loop this thread polls for descriptors of its own. */
static _Thread_local const struct limpet_cluster *serves;

static int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- The world ---- */

int loop_make_env(struct limpet_cluster *c)
{
    const char *mode = config_get(c->config, "ms_mode");
    bool encrypted = mode != NULL && strcmp(mode, "encrypted") == 0;
    struct env_real_options options = {
        .mode = encrypted ? NET_MODE_ENCRYPTED : NET_MODE_INTEGRITY,
    };
    int rc = env_real_create(&options, &c->env);
    if (rc == 0)
        c->later_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    return rc;
}

void loop_end_env(struct limpet_cluster *c)
{
    if (c->env == NULL)
        return;
    env_real_destroy(c->env);
    c->env = NULL;
    if (c->later_fd >= 0)
        close(c->later_fd);
}

void loop_set_auth(struct limpet_cluster *c, const struct auth_provider *provider)
{
    env_real_set_auth(c->env, provider);
}

/* ---- The queue ---- */

static bool wake_later(struct limpet_cluster *c)
{
    const struct itimerspec once = {.it_value.tv_nsec = ANSWER_SOON_NS};
    return c->later_fd >= 0 && timerfd_settime(c->later_fd, 0, &once, NULL) == 0;
}

static void clear_later(const struct limpet_cluster *c)
{
    uint64_t times;
    ssize_t n = read(c->later_fd, &times, sizeof times);
    (void)n; /* Nothing to read: it was set anew meanwhile. */
}

static void set_taker(struct limpet_cluster *c, enum queue_taker taker)
{
    pthread_mutex_lock(&c->queue_lock);
    c->queue_taker = taker;
    pthread_mutex_unlock(&c->queue_lock);
}

/* The driver looks there again. While another thread sleeps as the poller, that is not enough. */
static void open_queue(struct limpet_cluster *c)
{
    if (!c->polling)
        set_taker(c, QUEUE_AWAKE);
}

/*
 * A thread becomes the poller for a request of its own. Only the driver changes the taker without
 * the lock, when it has polled, and now it does not: so the taker may be looked at.
 */
static void close_queue(struct limpet_cluster *c)
{
    if (c->queue_taker == QUEUE_NOBODY)
        return;
    set_taker(c, QUEUE_NOBODY);
    if (atomic_load_explicit(&c->n_queued, memory_order_relaxed) > 0)
        requests_take_queued(c);
}

/* The driver is about to block. False: there was something, and a turn shall send it first. */
static bool leave_queue(struct limpet_cluster *c, enum queue_taker taker)
{
    pthread_mutex_lock(&c->queue_lock);
    bool empty = STAILQ_EMPTY(&c->queued);
    if (empty)
        c->queue_taker = taker;
    pthread_mutex_unlock(&c->queue_lock);
    if (!empty)
        requests_take_queued(c);
    return empty;
}

static bool has_budget(const struct limpet_cluster *c, const struct request *r)
{
    return r->cost <= QUEUED_COST_MAX && c->ops_pending + QUEUED_MAX < c->ops_max &&
           c->bytes_pending + (uint64_t)QUEUED_MAX * QUEUED_COST_MAX < c->bytes_max;
}

void loop_queue_shut(struct limpet_cluster *c)
{
    pthread_mutex_lock(&c->queue_lock);
}

void loop_queue_open(struct limpet_cluster *c)
{
    pthread_mutex_unlock(&c->queue_lock);
}

bool loop_queue(struct limpet_cluster *c, struct request *r)
{
    uint64_t under_way = c->ops_pending;
    if (under_way < TOGETHER_MIN || !has_budget(c, r))
        return false;
    bool queued = false, later = false;
    pthread_mutex_lock(&c->queue_lock);
    unsigned n = atomic_load_explicit(&c->n_queued, memory_order_relaxed);
    bool taken = c->queue_taker == QUEUE_AWAKE ||
                 (c->queue_taker == QUEUE_POLLING && under_way >= ANSWER_SOON_MIN);
    if (taken && n < QUEUED_MAX && request_take_snaps(r, r->pool) == 0) {
        STAILQ_INSERT_TAIL(&c->queued, r, queued_link);
        atomic_store_explicit(&c->n_queued, n + 1, memory_order_relaxed);
        later = n == 0 && c->queue_taker == QUEUE_POLLING;
        queued = true;
    }
    pthread_mutex_unlock(&c->queue_lock);
    if (later && !wake_later(c))
        env_real_wake(c->env);
    return queued;
}

/* ---- Polling ---- */

static bool poller_should_return(const struct limpet_cluster *c)
{
    if (!TAILQ_EMPTY(&c->finished_by_waiter))
        return true;
    if (c->poller_waits_for != NULL)
        return atomic_load_explicit(&c->poller_waits_for->done, memory_order_relaxed);
    return !TAILQ_EMPTY(&c->finished) || c->stopping;
}

static void wake_driver(struct limpet_cluster *c)
{
    if (c->driver == DRIVER_SLEEPING)
        pthread_cond_signal(&c->driver_wake);
}

/* Callbacks that came up in a turn of another thread are the driver's to make. */
static void hand_on_callbacks(struct limpet_cluster *c)
{
    if (!TAILQ_EMPTY(&c->finished))
        wake_driver(c);
}

/* Threads that wait send and poll. */
static bool left_to_waits(const struct limpet_cluster *c)
{
    return c->servers == 0 && c->waits_in_row >= WAITS_IN_ROW_MIN && c->async_pending > 0;
}

/* How long the cluster is left to threads that wait one after the other, from when one has. */
static int rest_ms(const struct limpet_cluster *c)
{
    if (c->servers > 0)
        return DRIVER_REST_MS;
    if (left_to_waits(c))
        return DRIVER_REST_WAITS_MS;
    return c->watches > 0 ? DRIVER_REST_WATCHING_MS : DRIVER_REST_MS;
}

static bool waited_lately(const struct limpet_cluster *c)
{
    return now_ms() - c->last_sync_ms < rest_ms(c);
}

/* When nobody else polls. */
static bool driver_has_work(const struct limpet_cluster *c)
{
    if (c->servers > 0)
        return false;
    return (c->async_pending > 0 && (!left_to_waits(c) || c->driver_rests)) ||
           !TAILQ_EMPTY(&c->finished_by_waiter) || (c->watches > 0 && c->driver_rests);
}

/* Wakes those who wait for the end of these callbacks. */
static void wake_for_callbacks(struct limpet_cluster *c, struct completion_list *waited)
{
    struct limpet_completion *completion;
    bool polls = false;
    while ((completion = TAILQ_FIRST(waited)) != NULL) {
        TAILQ_REMOVE(waited, completion, link);
        polls |= c->polling && c->poller_waits_for == &completion->called;
        loop_done(c, &completion->called);
        completion_unref(completion);
    }
    /* He sleeps, unless it is he who has called back. */
    if (polls && calling_back != c)
        env_real_wake(c->env);
}

/* Those of a list, without the lock in between: threads that submit would only wait for it. */
static void make_callbacks(struct limpet_cluster *c, struct completion_list *due)
{
    struct limpet_completion *completion;
    struct completion_list waited = TAILQ_HEAD_INITIALIZER(waited);
    pthread_mutex_unlock(&c->lock);
    while ((completion = TAILQ_FIRST(due)) != NULL) {
        TAILQ_REMOVE(due, completion, link);
        completion->callback(completion, completion->arg);
        atomic_store(&completion->called.done, true);
        if (atomic_load(&completion->wait_called))
            TAILQ_INSERT_TAIL(&waited, completion, link);
        else
            completion_unref(completion);
    }
    pthread_mutex_lock(&c->lock);
    wake_for_callbacks(c, &waited);
}

/* Those that are for threads that wait, by one of them (L5). False: there are none. */
static bool make_callbacks_for_waiters(struct limpet_cluster *c)
{
    struct completion_list due = TAILQ_HEAD_INITIALIZER(due);
    if (TAILQ_EMPTY(&c->finished_by_waiter))
        return false;
    TAILQ_CONCAT(&due, &c->finished_by_waiter, link);
    calling_back = c;
    make_callbacks(c, &due);
    calling_back = NULL;
    return true;
}

static void take_turn(struct limpet_cluster *c)
{
    c->unsent = false;
    env_real_turn(c->env, false);
    hand_on_callbacks(c);
}

/* One turn; then, unless what we wait for has happened, blocks until there is something to do. */
static void turn_and_poll(struct limpet_cluster *c, struct waiter *waiter)
{
    assert(!c->polling);
    c->polling = true;
    c->poller_waits_for = waiter;
    if (waiter != NULL)
        close_queue(c);
    else if (atomic_load_explicit(&c->n_queued, memory_order_relaxed) > 0)
        requests_take_queued(c);
    take_turn(c);
    /* What they submit leaves with a further turn. */
    while (waiter != NULL && make_callbacks_for_waiters(c) && c->unsent)
        take_turn(c);
    if (!poller_should_return(c) && (waiter != NULL || leave_queue(c, QUEUE_POLLING))) {
        uv_loop_t *loop = env_real_loop(c->env);
        int timeout_ms = uv_backend_timeout(loop);
        struct pollfd fds[] = {{.fd = uv_backend_fd(loop), .events = POLLIN},
                               {.fd = c->later_fd, .events = POLLIN}};
        c->poll_deadline_ms = timeout_ms < 0 ? INT64_MAX : now_ms() + timeout_ms;
        pthread_mutex_unlock(&c->lock);
        busy_poll(&c->busy_poll, fds, 2, timeout_ms);
        if (waiter == NULL)
            set_taker(c, QUEUE_AWAKE);
        if (fds[1].revents & POLLIN)
            clear_later(c);
        pthread_mutex_lock(&c->lock);
    }
    c->polling = false;
}

void loop_flush(struct limpet_cluster *c)
{
    take_turn(c);
    if (!c->polling) {
        if (driver_has_work(c))
            wake_driver(c);
        return;
    }
    /* The poller sleeps: it must learn of what our turn has done, or of a timer before its own. */
    int timeout_ms = uv_backend_timeout(env_real_loop(c->env));
    bool earlier = timeout_ms >= 0 && now_ms() + timeout_ms < c->poll_deadline_ms;
    if (earlier || poller_should_return(c))
        env_real_wake(c->env);
}

void loop_submitted(struct limpet_cluster *c)
{
    if (!loop_calls_back(c) && !wait_follows && !(left_to_waits(c) && waited_lately(c))) {
        if (c->driver == DRIVER_NONE || c->ops_pending < TOGETHER_MIN) {
            loop_flush(c);
            return;
        }
        bool soon = c->ops_pending >= ANSWER_SOON_MIN;
        if (!c->unsent && c->polling && !(soon && wake_later(c)))
            env_real_wake(c->env);
        else if (!c->unsent && !c->polling)
            wake_driver(c);
    } else if (c->driver_rests && serves != c) {
        /* He looks after what is left to waits, and is asleep for long. Who serves comes back. */
        wake_driver(c);
    }
    c->unsent = true;
}

/*
 * The poller's place is free: somebody who waits takes it, or who polls beside us, else the driver
 * if it has work there.
 */
static void pass_on_polling(struct limpet_cluster *c)
{
    struct blocked_thread *next = TAILQ_FIRST(&c->blocked);
    if (next != NULL)
        pthread_cond_signal(&next->wake);
    else if (c->beside > 0)
        env_real_wake(c->env);
    else if (driver_has_work(c))
        wake_driver(c);
}

static void block(struct limpet_cluster *c, struct waiter *waiter)
{
    struct blocked_thread me = {.waiter = waiter, .wake = PTHREAD_COND_INITIALIZER};
    TAILQ_INSERT_TAIL(&c->blocked, &me, link);
    pthread_cond_wait(&me.wake, &c->lock);
    TAILQ_REMOVE(&c->blocked, &me, link);
    pthread_cond_destroy(&me.wake);
}

void loop_wait(struct limpet_cluster *c, struct waiter *waiter)
{
    bool polled = false;
    bool done = atomic_load_explicit(&waiter->done, memory_order_relaxed);
    /* It would hold the place of the poller, and wait for it. */
    assert(calling_back != c);
    c->last_sync_ms = now_ms();
    /* What was left to our turn must leave, though there may be none. */
    if (c->polling || (wait_follows && done && c->unsent))
        loop_flush(c);
    wait_follows = false;
    while (!atomic_load_explicit(&waiter->done, memory_order_relaxed)) {
        if (c->polling) {
            block(c, waiter);
        } else {
            polled = true;
            turn_and_poll(c, waiter);
            hand_on_callbacks(c);
        }
    }
    c->last_sync_ms = now_ms();
    /* Even one who never polled may have been woken for the place and not need it any more. */
    if (!c->polling && (polled || !TAILQ_EMPTY(&c->blocked) || driver_has_work(c)))
        pass_on_polling(c);
}

void loop_wait_for_async(struct limpet_cluster *c, struct waiter *waiter)
{
    if (c->waits_in_row < WAITS_IN_ROW_MIN &&
        !atomic_load_explicit(&waiter->done, memory_order_relaxed))
        c->waits_in_row++;
    /* The driver leaves its place as the poller. */
    if (c->polling && c->poller_waits_for == NULL && left_to_waits(c))
        env_real_wake(c->env);
    loop_wait(c, waiter);
}

void loop_done(struct limpet_cluster *c, struct waiter *waiter)
{
    atomic_store_explicit(&waiter->done, true, memory_order_release);
    struct blocked_thread *thread;
    TAILQ_FOREACH(thread, &c->blocked, link)
    {
        if (thread->waiter == waiter)
            pthread_cond_signal(&thread->wake);
    }
}

void loop_done_by_callback(struct limpet_cluster *c, struct waiter *waiter)
{
    loop_done(c, waiter);
    /* Not in a turn: who waits for it may be asleep as the poller, unless he is who calls back. */
    if (calling_back != c)
        loop_flush(c);
}

void loop_wait_follows(void)
{
    wait_follows = true;
}

void loop_call_back(struct limpet_cluster *c, struct limpet_completion *completion)
{
    /* hand_on_callbacks() follows the turn in which this came up. */
    if (completion->by_waiter) {
        TAILQ_INSERT_TAIL(&c->finished_by_waiter, completion, link);
    } else {
        TAILQ_INSERT_TAIL(&c->finished, completion, link);
        c->waits_in_row = 0;
    }
}

/* ---- Polling for others, too ---- */

enum { FDS_INLINE = 62 };

/* Tells whoever polls that this thread is going to. */
static void begin_serving(struct limpet_cluster *c)
{
    if (serves == c)
        return;
    serves = c;
    c->servers++;
    if (c->polling && c->poller_waits_for == NULL)
        env_real_wake(c->env);
}

void loop_serve_end(struct limpet_cluster *c)
{
    if (serves != c)
        return;
    serves = NULL;
    wait_follows = false;
    assert(c->servers > 0);
    c->servers--;
    if (c->unsent || c->polling)
        loop_flush(c);
    if (!c->polling)
        pass_on_polling(c);
    wake_driver(c);
}

/* The earlier one; -1: there is none. */
static int earlier(int a, int b)
{
    return a < 0 ? b : b < 0 || a < b ? a : b;
}

/* Without the lock in between. Whether the loop has something to do. */
static int sleep_for_fds(struct limpet_cluster *c, struct pollfd *fds, unsigned n, int timeout_ms,
                         bool has_place, bool *turn)
{
    uv_loop_t *loop = env_real_loop(c->env);
    struct pollfd few[FDS_INLINE + 2], *all = few;
    if (n > FDS_INLINE)
        all = malloc((n + 2) * sizeof *all);
    if (all == NULL)
        return -ENOMEM;
    all[0] = (struct pollfd){.fd = uv_backend_fd(loop), .events = POLLIN};
    all[1] = (struct pollfd){.fd = c->later_fd, .events = POLLIN};
    if (n > 0)
        memcpy(all + 2, fds, n * sizeof *fds);
    uv_update_time(loop);
    int own_ms = uv_backend_timeout(loop), until_ms = earlier(own_ms, timeout_ms);
    if (has_place)
        c->poll_deadline_ms = own_ms < 0 ? INT64_MAX : now_ms() + own_ms;
    pthread_mutex_unlock(&c->lock);
    int ready =
        has_place ? busy_poll(&c->busy_poll, all, n + 2, until_ms) : poll(all, n + 2, until_ms);
    int error = ready < 0 ? -errno : 0;
    /* Who only looks takes the turn of a timer when it is back. */
    *turn = (ready == 0 && until_ms != 0) || all[0].revents != 0 || all[1].revents != 0;
    for (unsigned i = 0; i < n; i++)
        fds[i].revents = error == 0 ? all[i + 2].revents : 0;
    if (error == 0 && all[1].revents & POLLIN)
        clear_later(c);
    pthread_mutex_lock(&c->lock);
    ready -= (all[0].revents != 0) + (all[1].revents != 0);
    if (all != few)
        free(all);
    return error != 0 ? error : ready;
}

/* What is due, and whether callbacks were among it. */
static bool serve_now(struct limpet_cluster *c, bool turn)
{
    bool called = false;
    if (turn || c->unsent)
        take_turn(c);
    while (make_callbacks_for_waiters(c)) {
        called = true;
        /* What they submit is not to wait for the program. */
        if (c->unsent)
            take_turn(c);
    }
    return called;
}

/* What turns of ours have done the poller may have slept through. */
static void tell_poller(struct limpet_cluster *c)
{
    if (c->polling && poller_should_return(c))
        env_real_wake(c->env);
}

int loop_serve(struct limpet_cluster *c, struct pollfd *fds, unsigned n, int timeout_ms)
{
    bool turn = false;
    begin_serving(c);
    wait_follows = false;
    /* While another thread polls for its own request we poll beside it: each takes turns (L8). */
    bool beside = c->polling;
    if (beside) {
        c->beside++;
    } else {
        c->polling = true;
        c->poller_waits_for = &c->server;
        close_queue(c);
    }
    for (unsigned i = 0; i < n; i++)
        fds[i].revents = 0;
    uv_update_time(env_real_loop(c->env));
    /* With callbacks it is back at once, but not blind: answers may keep coming for long. */
    if (serve_now(c, uv_backend_timeout(env_real_loop(c->env)) == 0))
        timeout_ms = 0;
    if (beside)
        tell_poller(c);
    int ready = sleep_for_fds(c, fds, n, timeout_ms, !beside, &turn);
    if (ready >= 0)
        serve_now(c, turn);
    if (beside) {
        c->beside--;
        tell_poller(c);
    } else {
        c->polling = false;
    }
    wait_follows = true;
    return ready;
}

/* ---- The driver ---- */

static bool has_callbacks(const struct limpet_cluster *c)
{
    /* A thread that polls makes the other ones. */
    bool ours = !c->polling && c->servers == 0;
    return !TAILQ_EMPTY(&c->finished) || (ours && !TAILQ_EMPTY(&c->finished_by_waiter));
}

static void make_all_callbacks(struct limpet_cluster *c)
{
    struct completion_list due = TAILQ_HEAD_INITIALIZER(due);
    /* A user's may take long, or wait for a thread that is blocked here: somebody must poll. */
    if (!c->polling && !TAILQ_EMPTY(&c->finished) && !TAILQ_EMPTY(&c->blocked))
        pass_on_polling(c);
    if (!c->polling && c->servers == 0)
        TAILQ_CONCAT(&due, &c->finished_by_waiter, link);
    TAILQ_CONCAT(&due, &c->finished, link);
    make_callbacks(c, &due);
    open_queue(c);
}

static struct timespec after_ms(int ms)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    ts.tv_sec += ms / 1000;
    ts.tv_nsec += ms % 1000 * 1000000L;
    if (ts.tv_nsec >= 1000000000L) {
        ts.tv_sec++;
        ts.tv_nsec -= 1000000000L;
    }
    return ts;
}

/* Until woken; at the latest after a while, to see whether the cluster is left alone. */
static void driver_sleep(struct limpet_cluster *c)
{
    if (!leave_queue(c, QUEUE_NOBODY))
        return;
    /* Who polls for long wakes the driver when he leaves; who does not is not to wake it each time.
     */
    c->driver_rests = rest_ms(c) == DRIVER_REST_MS || (c->polling && !waited_lately(c));
    struct timespec until = after_ms(c->driver_rests ? DRIVER_REST_MS : rest_ms(c));
    c->driver = DRIVER_SLEEPING;
    pthread_cond_timedwait(&c->driver_wake, &c->lock, &until);
    c->driver = DRIVER_BUSY;
    c->driver_rests = false;
    open_queue(c);
}

static bool driver_should_rest(const struct limpet_cluster *c)
{
    return c->polling || c->servers > 0 ||
           ((c->async_pending == 0 || left_to_waits(c)) && waited_lately(c));
}

static void *drive(void *arg)
{
    struct limpet_cluster *c = arg;
    driver_of = c;
    pthread_mutex_lock(&c->lock);
    open_queue(c);
    while (!c->stopping || has_callbacks(c) || !leave_queue(c, QUEUE_NOBODY)) {
        if (has_callbacks(c)) {
            make_all_callbacks(c);
        } else if (c->unsent && (c->polling || c->servers > 0)) {
            /* Whoever polls sleeps, and does not know. */
            loop_flush(c);
        } else if (c->unsent && left_to_waits(c) && waited_lately(c)) {
            take_turn(c);
        } else if (!c->unsent && driver_should_rest(c)) {
            driver_sleep(c);
        } else {
            /* They do not wait again, after all. */
            if (left_to_waits(c) && !waited_lately(c))
                c->waits_in_row = 0;
            c->driver = DRIVER_POLLING;
            turn_and_poll(c, NULL);
            c->driver = DRIVER_BUSY;
            if ((!TAILQ_EMPTY(&c->blocked) || c->beside > 0) && driver_should_rest(c))
                pass_on_polling(c);
        }
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

int loop_start_driver(struct limpet_cluster *c)
{
    if (c->driver != DRIVER_NONE)
        return 0;
    /* Signals are the program's business. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    c->driver = DRIVER_BUSY;
    int error = pthread_create(&c->driver_thread, NULL, drive, c);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        c->driver = DRIVER_NONE;
        return -error;
    }
    pthread_setname_np(c->driver_thread, "limpet");
    return 0;
}

void loop_stop_driver(struct limpet_cluster *c)
{
    if (c->driver == DRIVER_NONE)
        return;
    c->stopping = true;
    /* Who polled for others has no cluster to do it with any more. */
    c->servers = 0;
    if (serves == c)
        serves = NULL;
    wake_driver(c);
    env_real_wake(c->env);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->driver_thread, NULL);
    pthread_mutex_lock(&c->lock);
    c->driver = DRIVER_NONE;
    c->stopping = false;
}

bool loop_on_driver(const struct limpet_cluster *c)
{
    return driver_of == c;
}

bool loop_calls_back(const struct limpet_cluster *c)
{
    return calling_back == c || loop_on_driver(c);
}

int loop_init(struct limpet_cluster *c)
{
    pthread_condattr_t attr;
    int error = pthread_condattr_init(&attr);
    if (error != 0)
        return -error;
    error = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    if (error == 0)
        error = pthread_cond_init(&c->driver_wake, &attr);
    pthread_condattr_destroy(&attr);
    if (error != 0)
        return -error;
    error = pthread_mutex_init(&c->lock, NULL);
    if (error != 0) {
        pthread_cond_destroy(&c->driver_wake);
        return -error;
    }
    error = pthread_mutex_init(&c->queue_lock, NULL);
    if (error != 0) {
        pthread_mutex_destroy(&c->lock);
        pthread_cond_destroy(&c->driver_wake);
        return -error;
    }
    STAILQ_INIT(&c->queued);
    TAILQ_INIT(&c->blocked);
    TAILQ_INIT(&c->finished);
    TAILQ_INIT(&c->finished_by_waiter);
    TAILQ_INIT(&c->budget_waiters);
    return 0;
}

void loop_fini(struct limpet_cluster *c)
{
    assert(TAILQ_EMPTY(&c->blocked) && TAILQ_EMPTY(&c->finished));
    assert(TAILQ_EMPTY(&c->finished_by_waiter));
    pthread_mutex_destroy(&c->queue_lock);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->driver_wake);
}
