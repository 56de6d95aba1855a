#include "client/core/private.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

/* ---- What the env tells us ---- */

static bool is_mon(const struct client *c, const struct net_session *session)
{
    return session->user == &c->mon;
}

static void on_opened(void *ctx, struct net_session *session)
{
    struct client *c = ctx;
    if (is_mon(c, session))
        mon_link_opened(c);
    else
        osd_link_opened(session->user);
}

static void osd_received(struct client *c, struct osd_link *osd, struct message *message)
{
    osd_link_received(osd);
    /* A ping's reply has done its work by arriving. */
    if (message->type == MSG_OSD_OP_REPLY)
        op_reply(c, osd, message);
    else if (message->type == MSG_WATCH_EVENT)
        watch_received(c, osd, message);
}

static void on_received(void *ctx, struct net_session *session, struct message *message)
{
    struct client *c = ctx;
    if (is_mon(c, session))
        mon_link_received(c, message);
    else
        osd_received(c, session->user, message);
}

static struct buf_slice on_place(void *ctx, struct net_session *session,
                                 const struct net_arrival *arrival)
{
    struct client *c = ctx;
    return is_mon(c, session) ? BUF_SLICE_EMPTY : op_place(c, session->user, arrival);
}

static void on_disconnected(void *ctx, struct net_session *session)
{
    struct client *c = ctx;
    if (!is_mon(c, session))
        watch_disconnected(c, session->user);
}

/* Operations that were held back, because the session had too much to carry, may go now. */
static void on_drained(void *ctx, struct net_session *session)
{
    struct client *c = ctx;
    if (!is_mon(c, session))
        client_schedule(c, true);
}

static void on_closed(void *ctx, struct net_session *session, int error)
{
    struct client *c = ctx;
    if (is_mon(c, session))
        mon_link_closed(c, error);
    else
        osd_link_closed(session->user, error);
}

static const struct net_handlers handlers = {
    .opened = on_opened,
    .received = on_received,
    .place = on_place,
    .disconnected = on_disconnected,
    .closed = on_closed,
    .drained = on_drained,
};

/* ---- The task ---- */

static void run_waits(struct client *c)
{
    uint64_t epoch = c->map != NULL ? c->map->epoch : 0;
    struct client_wait_list due = TAILQ_HEAD_INITIALIZER(due);
    for (struct client_wait *wait = TAILQ_FIRST(&c->waits), *next; wait != NULL; wait = next) {
        next = TAILQ_NEXT(wait, link);
        if (wait->epoch > epoch)
            continue;
        TAILQ_REMOVE(&c->waits, wait, link);
        TAILQ_INSERT_TAIL(&due, wait, link);
    }
    for (struct client_wait *wait; (wait = TAILQ_FIRST(&due)) != NULL;) {
        TAILQ_REMOVE(&due, wait, link);
        wait->done(wait);
    }
}

static void run_task(struct env_timer *timer)
{
    struct client *c = container_of(timer, struct client, task);
    target_drop_revoked(c);
    watch_end_fenced(c);
    if (c->kick) {
        c->kick = false;
        target_kick(c);
    }
    watch_check_links(c);
    op_admit(c);
    run_waits(c);
    command_run_finished(c);
    op_run_finished(c);
}

void client_schedule(struct client *c, bool kick)
{
    c->kick |= kick;
    if (!c->task.armed)
        env_timer_after(c->env, &c->task, 0);
}

/* ---- Connecting ---- */

void client_connected(struct client *c, int error)
{
    env_timer_stop(c->env, &c->connect_timer);
    void (*done)(void *, int) = c->connect_done;
    if (done == NULL)
        return;
    c->connect_done = NULL;
    if (error != 0) {
        mon_link_describe(c);
        mon_link_stop(c);
    }
    done(c->connect_ctx, error);
}

static void connect_timed_out(struct env_timer *timer)
{
    struct client *c = container_of(timer, struct client, connect_timer);
    client_connected(c, -ETIMEDOUT);
}

void client_connect(struct client *c, void (*done)(void *ctx, int error), void *ctx)
{
    assert(c->connect_done == NULL && done != NULL);
    assert(c->map == NULL);
    c->connect_done = done;
    c->connect_ctx = ctx;
    env_timer_after(c->env, &c->connect_timer, c->options.connect_timeout_ns);
    mon_link_start(c);
}

const char *client_connect_error(const struct client *c)
{
    return c->connect_error;
}

/* ---- Looking and waiting ---- */

const struct cluster_map *client_map(const struct client *c)
{
    return c->map;
}

const struct auth_provider *client_auth(struct client *c)
{
    return &c->auth;
}

const struct client_counters *client_counters(const struct client *c)
{
    return &c->counters;
}

void client_wait_map(struct client *c, struct client_wait *wait)
{
    TAILQ_INSERT_TAIL(&c->waits, wait, link);
    if (c->map != NULL && c->map->epoch >= wait->epoch)
        client_schedule(c, false);
    else
        mon_link_busy(c);
}

/* ---- Creation and the end ---- */

struct client *client_create(struct env *env, const struct client_options *options)
{
    assert(options->n_mons <= MAP_MONS_MAX);
    struct client *c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    c->env = env;
    c->options = *options;
    if (c->options.connect_timeout_ns == 0)
        c->options.connect_timeout_ns = CLIENT_CONNECT_TIMEOUT;
    if (c->options.max_bytes_in_flight == 0)
        c->options.max_bytes_in_flight = CLIENT_BYTES_IN_FLIGHT;
    if (c->options.max_ops_in_flight == 0)
        c->options.max_ops_in_flight = CLIENT_OPS_IN_FLIGHT_MAX;
    c->fsid = options->fsid;
    TAILQ_INIT(&c->commands);
    TAILQ_INIT(&c->commands_finished);
    TAILQ_INIT(&c->waits);
    TAILQ_INIT(&c->waiting);
    TAILQ_INIT(&c->finished);
    TAILQ_INIT(&c->doubt.ops);
    TAILQ_INIT(&c->active);
    c->connect_timer.fire = connect_timed_out;
    c->task.fire = run_task;
    c->limit.fire = op_limit_fired;
    c->late.fire = target_ask_late;
    mon_link_init(c);
    ticket_init(c);
    net_handlers_set(env, &handlers, c);
    return c;
}

void client_destroy(struct client *c)
{
    if (c == NULL)
        return;
    c->connect_done = NULL;
    c->closing = true;
    env_timer_stop(c->env, &c->connect_timer);
    mon_link_stop(c);
    command_fail_all(c, -ECANCELED);
    op_fail_all(c, -ECANCELED);
    watch_fini(c);
    ticket_fini(c);
    target_fini(c);
    env_timer_stop(c->env, &c->task);
    env_timer_stop(c->env, &c->limit);
    env_timer_stop(c->env, &c->late);
    map_destroy(c->map);
    assert(HASH_COUNT(c->by_tid) == 0 && c->ops_in_flight == 0 && c->bytes_in_flight == 0);
    sodium_memzero(&c->options.secret, sizeof c->options.secret);
    free(c);
}
