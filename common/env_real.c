/*
 * The real world on a libuv loop.
 *
 * A turn of the loop: timers, [prepare], wait and handle what came, [check]. What callbacks leave
 * behind (messages, deferred tasks, the next timer) is taken up by finish_turn(), once in prepare,
 * for what timers did or what was called between turns, and once in check.
 *
 * Invariants:
 *  1. The loop never waits while a task is queued or the messenger wants a turn: `idle` is active.
 *  2. The loop never waits longer than until the earliest timer of the heap.
 *  3. An idle process wakes up for nothing but its timers: no handle is active that fires by
 *     itself.
 *  4. env_real_turn() does not wait any more once it has called its user, who may have got what he
 *     waits for.
 */
#include "common/env_real.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/env_real_private.h"
#include "common/log.h"

enum { RECEIVE_LIMIT_DEFAULT = 256 * 1024 * 1024 };
/* For peers to hear of the end of their sessions, when the process does not wait for them. */
enum { GOODBYE_MS = 100 };

static_assert((int)NET_MODE_INTEGRITY == (int)AUTH_MODE_INTEGRITY, "one set of values");
static_assert((int)NET_MODE_ENCRYPTED == (int)AUTH_MODE_ENCRYPTED, "one set of values");

/* ---- Clock and timers ---- */

static uint64_t real_now_ns(struct env *env)
{
    struct real_env *r = real_env(env);
    if (!r->in_loop)
        return uv_hrtime();
    if (r->now_ns == 0)
        r->now_ns = uv_hrtime();
    return r->now_ns;
}

static uint64_t real_clock_ns(struct env *env)
{
    (void)env;
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * SEC_NS + (uint64_t)now.tv_nsec;
}

static uint64_t real_wall_ns(struct env *env)
{
    (void)env;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * SEC_NS + (uint64_t)now.tv_nsec;
}

static void real_random(struct env *env, void *out, size_t len)
{
    (void)env;
    randombytes_buf(out, len);
}

static void real_timer_arm(struct env *env, struct env_timer *timer, uint64_t deadline_ns)
{
    timer_heap_arm(&real_env(env)->timers, timer, deadline_ns);
}

static void real_timer_stop(struct env *env, struct env_timer *timer)
{
    timer_heap_stop(&real_env(env)->timers, timer);
}

static void on_timer(uv_timer_t *handle)
{
    struct real_env *r = handle->data;
    if (r->destroying)
        return;
    uint64_t limit = r->timers.next_order;
    uint64_t now_ns = real_now_ns(&r->env);
    struct env_timer *timer;
    while ((timer = timer_heap_pop(&r->timers, now_ns, limit)) != NULL) {
        r->callbacks++;
        timer->fire(timer);
    }
}

/* libuv's clock is the same in whole milliseconds, so rounding up never fires early. */
static void follow_first_timer(struct real_env *r)
{
    const struct env_timer *first = timer_heap_first(&r->timers);
    if (r->destroying)
        return;
    if (first == NULL) {
        uv_timer_stop(&r->timer);
        return;
    }
    uint64_t at_ms = first->deadline_ns / MSEC_NS + (first->deadline_ns % MSEC_NS != 0);
    if (uv_is_active((uv_handle_t *)&r->timer) && r->timer_ms == at_ms)
        return;
    uint64_t now_ms = uv_now(&r->loop);
    int rc = uv_timer_start(&r->timer, on_timer, at_ms > now_ms ? at_ms - now_ms : 0, 0);
    assert(rc == 0);
    r->timer_ms = at_ms;
}

/* ---- The end of a turn ---- */

static void real_defer(struct env *env, struct env_task *task)
{
    if (task->queued)
        return;
    task->queued = true;
    STAILQ_INSERT_TAIL(&real_env(env)->tasks, task, link);
}

/* Tasks that these queue wait for the next turn. */
static void run_tasks(struct real_env *r)
{
    struct env_task_list now = STAILQ_HEAD_INITIALIZER(now);
    STAILQ_CONCAT(&now, &r->tasks);
    struct env_task *task;
    while ((task = STAILQ_FIRST(&now)) != NULL) {
        STAILQ_REMOVE_HEAD(&now, link);
        task->queued = false;
        r->callbacks++;
        task->run(task);
    }
}

static void on_idle(uv_idle_t *handle)
{
    (void)handle;
}

static void finish_turn(struct real_env *r)
{
    messenger_turn(r->messenger);
    if (!STAILQ_EMPTY(&r->tasks) && !r->destroying) {
        run_tasks(r);
        messenger_turn(r->messenger);
    }
    follow_first_timer(r);
    bool tasks = !STAILQ_EMPTY(&r->tasks) && !r->destroying;
    if (tasks || messenger_wants_turn(r->messenger))
        uv_idle_start(&r->idle, on_idle);
    else
        uv_idle_stop(&r->idle);
}

static uint64_t calls_so_far(const struct real_env *r)
{
    return r->callbacks + messenger_calls(r->messenger);
}

static void on_prepare(uv_prepare_t *handle)
{
    struct real_env *r = handle->data;
    finish_turn(r);
    if (r->single && calls_so_far(r) != r->calls_before)
        uv_idle_start(&r->idle, on_idle);
    r->now_ns = 0;
}

static void on_check(uv_check_t *handle)
{
    struct real_env *r = handle->data;
    finish_turn(r);
    r->now_ns = 0;
}

static void on_wake(uv_async_t *handle)
{
    struct real_env *r = handle->data;
    if (atomic_load(&r->stopping))
        uv_stop(&r->loop);
}

/* ---- Helper threads ---- */

struct real_work {
    uv_work_t request;
    struct real_env *r;
    struct env_work *work;
    struct real_work *next;
};

static void work_run(uv_work_t *request)
{
    struct real_work *w = request->data;
    w->work->run(w->work);
}

static void work_done(uv_work_t *request, int status)
{
    struct real_work *w = request->data;
    struct real_env *r = w->r;
    struct env_work *work = w->work;
    assert(status == 0);
    w->next = r->spare_works;
    r->spare_works = w;
    if (r->destroying)
        return;
    r->callbacks++;
    work->done(work);
}

static void real_work(struct env *env, struct env_work *work)
{
    struct real_env *r = real_env(env);
    struct real_work *w = r->spare_works;
    if (w != NULL) {
        r->spare_works = w->next;
    } else {
        w = malloc(sizeof *w);
        if (w == NULL) {
            fprintf(stderr, "out of memory for work\n");
            abort();
        }
        w->r = r;
    }
    w->work = work;
    w->request.data = w;
    int rc = uv_queue_work(&r->loop, &w->request, work_run, work_done);
    assert(rc == 0);
}

/* ---- Messages ---- */

static void real_net_handlers(struct env *env, const struct net_handlers *handlers, void *ctx)
{
    if (handlers == NULL)
        messenger_stop(real_env(env)->messenger);
    else
        messenger_set_handlers(real_env(env)->messenger, handlers, ctx);
}

static int real_net_listen(struct env *env, const struct net_address *want,
                           struct net_address *bound)
{
    return messenger_listen(real_env(env)->messenger, want, bound);
}

static int real_net_open(struct env *env, const struct net_address *to,
                         const struct net_expect *expect, void *user, struct net_session **out)
{
    return messenger_open(real_env(env)->messenger, to, expect, user, out);
}

static void real_net_send(struct env *env, struct net_session *session, struct message *message)
{
    messenger_send(real_env(env)->messenger, session, message);
}

static void real_net_close(struct env *env, struct net_session *session)
{
    messenger_close(real_env(env)->messenger, session);
}

static void real_net_drop(struct env *env, struct net_session *session)
{
    messenger_abandon(real_env(env)->messenger, session);
}

static void real_net_pause(struct env *env, struct net_session *session, bool paused)
{
    messenger_pause(real_env(env)->messenger, session, paused);
}

static uint64_t real_net_heard_ns(struct env *env, struct net_session *session)
{
    return messenger_heard_ns(real_env(env)->messenger, session);
}

static void real_log(struct env *env, int level, const char *line)
{
    (void)env;
    log_sink_line(level, line);
}

static const struct env_ops real_ops = {
    .now_ns = real_now_ns,
    .clock_ns = real_clock_ns,
    .wall_ns = real_wall_ns,
    .random = real_random,
    .timer_arm = real_timer_arm,
    .timer_stop = real_timer_stop,
    .defer = real_defer,
    .work = real_work,
    .net_handlers = real_net_handlers,
    .net_listen = real_net_listen,
    .net_open = real_net_open,
    .net_send = real_net_send,
    .net_close = real_net_close,
    .net_drop = real_net_drop,
    .net_pause = real_net_pause,
    .net_heard_ns = real_net_heard_ns,
    .file_open = real_file_open,
    .file_close = real_file_close,
    .file_read = real_file_read,
    .file_write = real_file_write,
    .file_truncate = real_file_truncate,
    .file_sync = real_file_sync,
    .file_size = real_file_size,
    .file_rename = real_file_rename,
    .file_remove = real_file_remove,
    .dir_sync = real_dir_sync,
    .log = real_log,
};

/* ---- Life ---- */

/* None of these fails but for the loop and the waker, which need descriptors. */
static int init_loop(struct real_env *r)
{
    int rc = uv_loop_init(&r->loop);
    if (rc < 0)
        return rc;
    rc = uv_async_init(&r->loop, &r->wake, on_wake);
    if (rc < 0) {
        uv_loop_close(&r->loop);
        return rc;
    }
    uv_prepare_init(&r->loop, &r->prepare);
    uv_check_init(&r->loop, &r->check);
    uv_idle_init(&r->loop, &r->idle);
    uv_timer_init(&r->loop, &r->timer);
    r->wake.data = r->prepare.data = r->check.data = r->idle.data = r->timer.data = r;
    uv_prepare_start(&r->prepare, on_prepare);
    uv_check_start(&r->check, on_check);
    return 0;
}

static void close_handle(uv_handle_t *handle, void *ctx)
{
    (void)ctx;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

/* Also closes what a main program has left on the loop. Waits for helper threads. */
static void fini_loop(struct real_env *r)
{
    uv_walk(&r->loop, close_handle, NULL);
    uv_run(&r->loop, UV_RUN_DEFAULT);
    int rc = uv_loop_close(&r->loop);
    assert(rc == 0);
    while (r->spare_works != NULL) {
        struct real_work *w = r->spare_works;
        r->spare_works = w->next;
        free(w);
    }
}

static int open_data_dir(const char *path)
{
    if (path == NULL)
        return AT_FDCWD;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static void close_data_dir(struct real_env *r)
{
    if (r->dir_fd >= 0)
        close(r->dir_fd);
}

int env_real_create(const struct env_real_options *options, struct env **out)
{
    struct real_env *r = calloc(1, sizeof *r);
    if (r == NULL)
        return -ENOMEM;
    int rc = sodium_init() < 0 ? -ENOSYS : 0;
    if (rc < 0)
        goto fail;
    r->env.ops = &real_ops;
    r->env.log_mask = LOG_MASK_DEFAULT;
    r->env.instance = options->instance;
    while (r->env.instance == 0)
        randombytes_buf(&r->env.instance, sizeof r->env.instance);
    STAILQ_INIT(&r->tasks);
    timer_heap_init(&r->timers);
    r->dir_fd = open_data_dir(options->data_dir);
    if (r->dir_fd < 0 && r->dir_fd != AT_FDCWD) {
        rc = r->dir_fd;
        goto fail;
    }
    rc = init_loop(r);
    if (rc < 0)
        goto fail_dir;
    struct messenger_options messenger = {
        .mode = options->mode == NET_MODE_ENCRYPTED ? AUTH_MODE_ENCRYPTED : AUTH_MODE_INTEGRITY,
        .receive_limit =
            options->receive_limit != 0 ? options->receive_limit : RECEIVE_LIMIT_DEFAULT,
    };
    rc = messenger_create(&r->env, &r->loop, &messenger, &r->messenger);
    if (rc < 0)
        goto fail_loop;
    *out = &r->env;
    return 0;
fail_loop:
    fini_loop(r);
fail_dir:
    close_data_dir(r);
fail:
    free(r);
    return rc;
}

void env_real_set_auth(struct env *env, const struct auth_provider *provider)
{
    messenger_set_auth(real_env(env)->messenger, provider);
}

uv_loop_t *env_real_loop(struct env *env)
{
    return &real_env(env)->loop;
}

static void enter_loop(struct real_env *r, uv_run_mode mode)
{
    assert(!r->in_loop);
    r->in_loop = true;
    r->now_ns = 0;
    uv_run(&r->loop, mode);
    /* In some modes timers fire last, and leave something behind. */
    finish_turn(r);
    r->in_loop = false;
}

void env_real_run(struct env *env)
{
    struct real_env *r = real_env(env);
    while (!atomic_load(&r->stopping))
        enter_loop(r, UV_RUN_DEFAULT);
    atomic_store(&r->stopping, false);
}

void env_real_stop(struct env *env)
{
    struct real_env *r = real_env(env);
    atomic_store(&r->stopping, true);
    uv_async_send(&r->wake);
}

void env_real_turn(struct env *env, bool wait)
{
    struct real_env *r = real_env(env);
    r->single = true;
    r->calls_before = calls_so_far(r);
    enter_loop(r, wait ? UV_RUN_ONCE : UV_RUN_NOWAIT);
    r->single = false;
}

void env_real_wake(struct env *env)
{
    uv_async_send(&real_env(env)->wake);
}

static void on_goodbye_over(uv_timer_t *handle)
{
    uv_stop(handle->loop);
    handle->data = NULL;
}

/* Sends what sessions still have and lets their peers close, but not for long. */
static void say_goodbye(struct real_env *r)
{
    messenger_stop(r->messenger);
    uv_timer_start(&r->timer, on_goodbye_over, GOODBYE_MS, 0);
    r->in_loop = true;
    while (!messenger_quiet(r->messenger) && r->timer.data != NULL) {
        r->now_ns = 0;
        uv_run(&r->loop, UV_RUN_ONCE);
    }
    r->in_loop = false;
    messenger_drop(r->messenger);
}

void env_real_destroy(struct env *env)
{
    struct real_env *r = real_env(env);
    assert(!r->in_loop);
    r->destroying = true;
    say_goodbye(r);
    fini_loop(r);
    messenger_destroy(r->messenger);
    /* Timers that are still armed may stand in memory that was freed: they are not touched. */
    r->timers.n = 0;
    timer_heap_fini(&r->timers);
    close_data_dir(r);
    free(r);
}
