/*
 * Watches: what is durable of one is written once; then it is connected to the primary, again and
 * again, by reading requests, and signs of life are sent for all watches of a placement group.
 *
 *   writing:  RESTS --client_watch()--> BEGINS --0--> RESTS --client_unwatch()--> ENDS --> gone
 *                     BEGINS --a lease is in the way--> RECALLS --answered--> BEGINS
 *   link:     APART --begun--> CONNECTING --0--> LIVE
 *             LIVE --session lost, other primary or life of the service, doubt--> CONNECTING
 *             CONNECTING --some error--> STALE --timer--> CONNECTING, once it has begun
 *             CONNECTING --no such watch--> LOST;   any but APART --time-out--> LOST
 *
 *  V1  A watch is valid until its time-out, less one part in twenty for clocks that differ in
 *      speed, has passed since the last request was submitted whose answer says that the primary
 *      had the watch when it executed it: the write that began it, a connection, or a sign of life
 *      that was answered by the life of the service to which it is connected. When the connection
 *      breaks or is given up, until WIRE_WATCH_HUNG_UP_MS, less as much, later, if that is earlier.
 *  V2  What ends the trust in a sign of life arrives before its answer: doubt is sent on the same
 *      session, and another life of the service has another number.
 *  V3  The primary has the last word on whether a watch exists only while that is not past; after
 *      that it is lost, whatever a late connection says.
 *  V4  A fenced lease of which nobody knows whether it is in the list, since beginning or ending it
 *      has failed, is ended for as long as it takes: whoever wants the object would have this
 *      process blocked for it. While it may not be ended yet (C7) it is kept alive.
 */
#include "client/core/watch.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "client/core/private.h"
#include "common/log.h"
#include "common/planted.h"
#include "placement/hash.h"

enum {
    WATCH_MARGIN = 20, /* One part in as many: what clocks differ in speed. */
    WATCH_PINGS = 4,   /* In one time-out. */
    WATCH_RECALL_MS = 2000,
    WATCH_AGAIN_MS = 100,
};

/* Watches of a placement group: they share signs of life. */
struct watch_group {
    struct client *client;
    struct pg_key key;
    uint64_t interval; /* Its membership: target_interval(). */
    TAILQ_HEAD(, client_watch) watches;
    struct client_op ping;
    bool pinging;
    bool moved;         /* The newest map says so. */
    uint64_t pinged_ns; /* env_clock() when it was submitted. */
    struct env_timer timer;
    UT_hash_handle hh;
};

static uint64_t clock_of(const struct client *c)
{
    return env_clock(c->env);
}

static uint64_t timeout_ns(const struct client_watch *watch)
{
    uint64_t ms = watch->timeout_ms != 0 ? watch->timeout_ms : WIRE_WATCH_TIMEOUT_MS;
    if (ms < WIRE_WATCH_TIMEOUT_MIN_MS)
        ms = WIRE_WATCH_TIMEOUT_MIN_MS;
    if (ms > WIRE_WATCH_TIMEOUT_MAX_MS)
        ms = WIRE_WATCH_TIMEOUT_MAX_MS;
    return ms * MSEC_NS;
}

/* V4. Its memory is there from the beginning. */
struct watch_leftover {
    struct client_op op;
    struct client *client;
    uint64_t cookie;
    struct object_id object;
    uint8_t names[];
};

static const uint8_t *copy_name(uint8_t **to, const uint8_t *name, size_t len)
{
    uint8_t *at = *to;
    if (len > 0)
        memcpy(at, name, len);
    *to += len;
    return at;
}

static int prepare_leftover(struct client_watch *watch)
{
    const struct object_id *id = &watch->object;
    size_t len = (size_t)id->name_len + id->space_len + id->locator_len;
    struct watch_leftover *left = calloc(1, sizeof *left + len);
    uint8_t *names = left != NULL ? left->names : NULL;
    if (left == NULL)
        return -ENOMEM;
    left->client = watch->client;
    left->cookie = watch->cookie;
    left->object = *id;
    left->object.name = copy_name(&names, id->name, id->name_len);
    left->object.space = copy_name(&names, id->space, id->space_len);
    left->object.locator = copy_name(&names, id->locator, id->locator_len);
    watch->leftover = left;
    return 0;
}

static void forget_leftover(struct client_watch *watch)
{
    free(watch->leftover);
    watch->leftover = NULL;
}

static void end_leftover(struct watch_leftover *left);

static void leftover_ended(struct client_op *op)
{
    struct watch_leftover *left = container_of(op, struct watch_leftover, op);
    struct client *c = left->client;
    buf_slice_drop(&op->steps[0].data);
    if ((op->result == -ETIMEDOUT || op->result == -ESTALE) && !c->closing) {
        end_leftover(left);
        return;
    }
    if (op->result != 0 && !c->closing)
        log_info(c->env, "lease left behind", "cookie=%" PRIu64 " error=%d", left->cookie,
                 op->result);
    free(left);
}

static void end_leftover(struct watch_leftover *left)
{
    memset(&left->op, 0, sizeof left->op);
    left->op.object = left->object;
    left->op.write = true;
    left->op.n_steps = 1;
    left->op.steps[0].code = WIRE_OP_CODE_UNWATCH;
    left->op.steps[0].length = left->cookie;
    left->op.done = leftover_ended;
    client_submit(left->client, &left->op);
}

/* With the error by which it failed. */
static void leave_over(struct client_watch *watch, int error)
{
    struct watch_leftover *left = watch->leftover;
    bool certain = error == 0 || error == -EBUSY || error == -ENOENT || error == -ESHUTDOWN;
    if (left == NULL)
        return;
    if (certain || watch->client->closing) {
        forget_leftover(watch);
        return;
    }
    watch->leftover = NULL;
    end_leftover(left);
}

static bool is_linked(const struct client_watch *watch)
{
    return watch->link_state == WATCH_LIVE || watch->link_state == WATCH_CONNECTING ||
           watch->link_state == WATCH_STALE;
}

/* V1: something that was submitted then shows that it exists. */
static void prolong(struct client_watch *watch, uint64_t submitted_ns)
{
    uint64_t span = timeout_ns(watch);
    if (planted(PLANTED_WATCH_FROM_ANSWER))
        submitted_ns = clock_of(watch->client);
    uint64_t until = submitted_ns + span - span / WATCH_MARGIN;
    if (until > watch->valid_until_ns)
        watch->valid_until_ns = until;
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t client_watch_until(const struct client_watch *watch)
{
    return watch->has_begun && is_linked(watch) ? watch->valid_until_ns : 0;
}

uint64_t client_watch_age(const struct client_watch *watch)
{
    uint64_t span = timeout_ns(watch), now = clock_of(watch->client);
    uint64_t confirmed = watch->valid_until_ns - (span - span / WATCH_MARGIN);
    return now > confirmed ? now - confirmed : 0;
}

bool client_watch_valid(const struct client_watch *watch)
{
    if (planted(PLANTED_WATCH_NEVER_LOST))
        return watch->has_begun && is_linked(watch);
    return clock_of(watch->client) < client_watch_until(watch);
}

/* ---- Groups ---- */

static void group_timer_arm(struct watch_group *group);
static void group_fired(struct env_timer *timer);
static void watch_connect(struct client_watch *watch);
static void watch_lose(struct client_watch *watch, int error);

static struct watch_group *group_get(struct client *c, uint64_t pool, uint32_t seed)
{
    struct pg_key key = {.pool = pool, .seed = seed};
    struct watch_group *group;
    /* NOLINTNEXTLINE(clang-analyzer-core.*): the analyzer does not follow uthash. */
    HASH_FIND(hh, c->watch_groups, &key, sizeof key, group);
    if (group != NULL)
        return group;
    group = calloc(1, sizeof *group);
    if (group == NULL)
        return NULL;
    group->client = c;
    group->key = key;
    group->interval = target_interval(c, pool, seed);
    group->timer.fire = group_fired;
    group->pinged_ns = clock_of(c);
    TAILQ_INIT(&group->watches);
    HASH_ADD(hh, c->watch_groups, key, sizeof group->key, group);
    return group;
}

static void group_settle(struct watch_group *group)
{
    struct client *c = group->client;
    if (!TAILQ_EMPTY(&group->watches) || group->pinging)
        return;
    env_timer_stop(c->env, &group->timer);
    HASH_DELETE(hh, c->watch_groups, group);
    free(group);
}

static void group_leave(struct client_watch *watch)
{
    struct watch_group *group = watch->group;
    if (group == NULL)
        return;
    TAILQ_REMOVE(&group->watches, watch, link);
    watch->group = NULL;
    group_settle(group);
}

/* By the map of now: a pool may have got more groups. */
static void group_join(struct client_watch *watch)
{
    struct client *c = watch->client;
    const struct map_pool *pool = map_pool(c->map, watch->object.pool);
    uint32_t seed = pool != NULL ? map_object_pg(pool, watch->object.hash).seed : 0;
    if (watch->group != NULL && watch->group->key.seed == seed)
        return;
    group_leave(watch);
    struct watch_group *group = group_get(c, watch->object.pool, seed);
    if (group == NULL)
        return; /* It is not kept alive, and so it is lost. */
    watch->group = group;
    TAILQ_INSERT_TAIL(&group->watches, watch, link);
}

/* ---- Signs of life ---- */

static void ping_done(struct client_op *op)
{
    struct watch_group *group = container_of(op, struct watch_group, ping);
    struct client_watch *watch, *next;
    struct client_step *step = &op->steps[0];
    uint64_t life = 0;
    bool answered = op->result == 0 && step->data.len == sizeof life;
    if (answered)
        memcpy(&life, step->data.data, sizeof life);
    buf_slice_drop(&step->data);
    group->pinging = false;
    if (op->result == -ECANCELED) {
        group_settle(group);
        return;
    }
    for (watch = TAILQ_FIRST(&group->watches); answered && watch != NULL; watch = next) {
        next = TAILQ_NEXT(watch, link);
        if (watch->link_state != WATCH_LIVE)
            continue;
        if (watch->life == life || planted(PLANTED_WATCH_IGNORES_LIFE))
            prolong(watch, group->pinged_ns);
        else
            watch_connect(watch);
    }
    if (TAILQ_EMPTY(&group->watches))
        group_settle(group);
    else
        group_timer_arm(group);
}

static void group_ping(struct watch_group *group)
{
    struct client *c = group->client;
    struct client_op *op = &group->ping;
    memset(op, 0, sizeof *op);
    op->object.pool = group->key.pool;
    op->pg_op = true;
    op->pg_seed = (uint32_t)group->key.seed;
    op->n_steps = 1;
    op->steps[0].code = WIRE_OP_CODE_WATCH_PING;
    op->done = ping_done;
    group->pinging = true;
    group->pinged_ns = clock_of(c);
    client_submit(c, op);
}

/* After this much of what is left a link that failed is tried again. */
static uint64_t again_ns(uint64_t left_ns)
{
    return left_ns / 4 > WATCH_AGAIN_MS * MSEC_NS ? left_ns / 4 : WATCH_AGAIN_MS * MSEC_NS;
}

/*
 * The next sign of life, or the end of a watch, whichever comes first. It counts from the last one:
 * watches that begin again and again do not put it off.
 */
static void group_timer_arm(struct watch_group *group)
{
    struct client *c = group->client;
    uint64_t now = clock_of(c), since = now - group->pinged_ns, wait = UINT64_MAX;
    const struct client_watch *watch;
    TAILQ_FOREACH(watch, &group->watches, link)
    {
        uint64_t ping = timeout_ns(watch) / WATCH_PINGS;
        uint64_t left = watch->valid_until_ns > now ? watch->valid_until_ns - now : 0;
        wait = sooner(wait, since < ping ? ping - since : 0);
        if (watch->has_begun)
            wait = sooner(wait, left);
        if (watch->has_begun && watch->link_state == WATCH_STALE)
            wait = sooner(wait, again_ns(left));
    }
    if (wait != UINT64_MAX)
        env_timer_after(c->env, &group->timer, wait > MSEC_NS ? wait : MSEC_NS);
}

static void group_fired(struct env_timer *timer)
{
    struct watch_group *group = container_of(timer, struct watch_group, timer);
    struct client *c = group->client;
    struct client_watch *watch, *next;
    uint64_t now = clock_of(c);
    /* It must be there when the last of its watches is lost. */
    bool pinging = group->pinging;
    group->pinging = true;
    for (watch = TAILQ_FIRST(&group->watches); watch != NULL; watch = next) {
        next = TAILQ_NEXT(watch, link);
        bool over = watch->has_begun && now >= watch->valid_until_ns;
        if (over && !planted(PLANTED_WATCH_NEVER_LOST))
            watch_lose(watch, -ENOTCONN);
        else if (watch->link_state == WATCH_STALE)
            watch_connect(watch);
    }
    group->pinging = pinging;
    if (TAILQ_EMPTY(&group->watches)) {
        group_settle(group);
        return;
    }
    if (!group->pinging)
        group_ping(group);
    group_timer_arm(group);
}

/* ---- The link ---- */

static void watch_lose(struct client_watch *watch, int error)
{
    struct client *c = watch->client;
    watch->link_state = WATCH_LOST;
    group_leave(watch);
    client_cancel(c, &watch->link_op);
    log_debug(c->env, "watch lost", "cookie=%" PRIu64 " error=%d", watch->cookie, error);
    if (watch->writing == WATCH_ENDS)
        return;
    if (watch->has_begun) {
        watch->lost(watch, error);
    } else {
        HASH_DELETE(hh, c->watches, watch);
        leave_over(watch, error);
        watch->began(watch, error);
    }
}

static bool is_final(int error)
{
    return error == -ENOTCONN || error == -ENOENT || error == -ESHUTDOWN || error == -EACCES;
}

static void watch_finish_end(struct client_watch *watch);
static void write_watch(struct client_watch *watch);

static void linked(struct client_watch *watch, const struct client_step *step)
{
    bool first = !watch->has_begun;
    watch->link_state = WATCH_LIVE;
    watch->osd = watch->link_op.answered_by;
    watch->session = watch->osd->n_sessions;
    memcpy(&watch->life, step->data.data, sizeof watch->life);
    prolong(watch, watch->linked_ns);
    group_timer_arm(watch->group);
    watch->has_begun = true;
    if (watch->again)
        watch_connect(watch);
    if (first && watch->writing == WATCH_RESTS)
        watch->began(watch, 0);
}

/* It took so long to get there that it was evicted before it was connected. */
static void begin_again(struct client_watch *watch)
{
    watch->link_state = WATCH_APART;
    /* Should it fail now, its memory is its owner's again. */
    group_leave(watch);
    write_watch(watch);
}

static void stale(struct client_watch *watch)
{
    watch->link_state = WATCH_STALE;
    group_timer_arm(watch->group);
}

static void link_done(struct client_op *op)
{
    struct client_watch *watch = container_of(op, struct client_watch, link_op);
    struct client_step *step = &op->steps[0];
    int error = op->result;
    if (watch->link_state != WATCH_CONNECTING || watch->client->closing) {
        buf_slice_drop(&step->data);
        watch_finish_end(watch);
        return;
    }
    bool good = error == 0 && step->data.len == sizeof watch->life && watch->group != NULL;
    struct client_step answer = *step;
    step->data = BUF_SLICE_EMPTY;
    if (good && watch->has_begun && clock_of(watch->client) >= watch->valid_until_ns)
        watch_lose(watch, -ENOTCONN); /* V3 */
    else if (!watch->has_begun && error == -ENOTCONN)
        begin_again(watch);
    else if (good)
        linked(watch, &answer);
    else if (is_final(error) || watch->group == NULL)
        watch_lose(watch, error != 0 ? error : -ENOMEM);
    else if (!watch->has_begun) /* As if the write had failed. The object forgets it by itself. */
        watch_lose(watch, error != 0 ? error : -EPROTO);
    else
        stale(watch);
    buf_slice_drop(&answer.data);
}

static void op_prepare(struct client_watch *watch, struct client_op *op, uint16_t code, bool write,
                       void (*done)(struct client_op *op))
{
    memset(op, 0, sizeof *op);
    op->object = watch->object;
    op->write = write;
    op->n_steps = 1;
    op->steps[0].code = code;
    op->steps[0].length = watch->cookie;
    op->done = done;
}

static void watch_connect(struct client_watch *watch)
{
    struct client *c = watch->client;
    if (watch->link_op.state != CLIENT_OP_IDLE) {
        watch->again = true;
        return;
    }
    watch->again = false;
    watch->link_state = WATCH_CONNECTING;
    group_join(watch);
    op_prepare(watch, &watch->link_op, WIRE_OP_CODE_WATCH_CONNECT, false, link_done);
    watch->linked_ns = clock_of(c);
    client_submit(c, &watch->link_op);
}

/* ---- Writing ---- */

static void begin_failed(struct client_watch *watch, int error)
{
    watch->writing = WATCH_RESTS;
    if (!watch->has_begun) {
        HASH_DELETE(hh, watch->client->watches, watch);
        leave_over(watch, error);
    }
    watch->began(watch, error);
}

static void recall_done(struct client_op *op)
{
    struct client_watch *watch = container_of(op, struct client_watch, write_op);
    int error = op->result;
    buf_slice_drop(&op->steps[0].data);
    if (watch->client->closing)
        return;
    if (error != 0 && is_final(error))
        begin_failed(watch, error);
    else
        write_watch(watch);
}

/* Whoever holds what is in our way is asked to give it back; the answer comes when all have. */
static void recall(struct client_watch *watch)
{
    struct client *c = watch->client;
    struct client_op *op = &watch->write_op;
    struct wire_recall wire = {.cookie = watch->cookie, .mode = watch->wanted_mode};
    uint64_t now = env_now(c->env);
    struct buf_slice data;
    if (now >= watch->wanted_until_ns || buf_slice_copy(&wire, sizeof wire, &data) != 0) {
        begin_failed(watch, -EBUSY);
        return;
    }
    uint64_t left_ms = (watch->wanted_until_ns - now) / MSEC_NS + 1;
    watch->writing = WATCH_RECALLS;
    op_prepare(watch, op, WIRE_OP_CODE_NOTIFY, false, recall_done);
    op->patient = true;
    op->steps[0].offset = WIRE_RECALL;
    op->steps[0].length = left_ms < WATCH_RECALL_MS ? left_ms : WATCH_RECALL_MS;
    op->steps[0].data = data;
    client_submit(c, op);
}

static void write_done(struct client_op *op)
{
    struct client_watch *watch = container_of(op, struct client_watch, write_op);
    int error = op->result;
    buf_slice_drop(&op->steps[0].data);
    if (watch->client->closing)
        return;
    if (error == -EBUSY && watch->patience_ns > 0) {
        recall(watch);
        return;
    }
    if (error != 0) {
        begin_failed(watch, error);
        return;
    }
    watch->writing = WATCH_RESTS;
    watch->mode = watch->wanted_mode;
    if (watch->has_begun) {
        watch->began(watch, 0);
        return;
    }
    prolong(watch, watch->begun_ns);
    watch_connect(watch);
}

static void write_watch(struct client_watch *watch)
{
    struct client *c = watch->client;
    struct wire_watch wire = {.timeout_ms = (uint32_t)(timeout_ns(watch) / MSEC_NS),
                              .mode = watch->wanted_mode};
    struct client_op *op = &watch->write_op;
    struct buf_slice data;
    if (buf_slice_copy(&wire, sizeof wire, &data) != 0) {
        begin_failed(watch, -ENOMEM);
        return;
    }
    watch->writing = WATCH_BEGINS;
    op_prepare(watch, op, WIRE_OP_CODE_WATCH, true, write_done);
    op->steps[0].data = data;
    watch->begun_ns = clock_of(c);
    client_submit(c, op);
}

void client_watch(struct client *c, struct client_watch *watch)
{
    assert(watch->writing == WATCH_RESTS && watch->link_state == WATCH_APART);
    watch->client = c;
    watch->cookie = ++c->next_cookie;
    watch->object.hash = hash_object_id(&watch->object);
    watch->wanted_until_ns = env_now(c->env) + watch->patience_ns;
    watch->wanted_mode = watch->mode;
    watch->valid_until_ns = 0;
    HASH_ADD(hh, c->watches, cookie, sizeof watch->cookie, watch);
    if (watch->mode == WIRE_LEASE_FENCED && prepare_leftover(watch) != 0)
        begin_failed(watch, -ENOMEM);
    else
        write_watch(watch);
}

void client_watch_change(struct client *c, struct client_watch *watch, uint32_t mode)
{
    assert(watch->has_begun && watch->writing == WATCH_RESTS);
    assert((mode == WIRE_LEASE_FENCED) == (watch->mode == WIRE_LEASE_FENCED)); /* C7 */
    watch->wanted_mode = mode;
    watch->wanted_until_ns = env_now(c->env) + watch->patience_ns;
    if (mode < watch->mode)
        watch->mode = mode;
    write_watch(watch);
}

/* ---- The end ---- */

static void watch_finish_end(struct client_watch *watch)
{
    if (watch->writing != WATCH_ENDS || watch->ends_late ||
        watch->write_op.state != CLIENT_OP_IDLE || watch->link_op.state != CLIENT_OP_IDLE ||
        watch->client->closing)
        return;
    HASH_DELETE(hh, watch->client->watches, watch);
    watch->writing = WATCH_RESTS;
    watch->link_state = WATCH_APART;
    watch->has_begun = false;
    leave_over(watch, watch->write_op.result);
    watch->ended(watch, watch->write_op.result);
}

static void end_done(struct client_op *op)
{
    buf_slice_drop(&op->steps[0].data);
    watch_finish_end(container_of(op, struct client_watch, write_op));
}

static void end_now(struct client_watch *watch)
{
    struct client *c = watch->client;
    watch->ends_late = false;
    watch->link_state = WATCH_LOST;
    group_leave(watch);
    client_cancel(c, &watch->link_op);
    op_prepare(watch, &watch->write_op, WIRE_OP_CODE_UNWATCH, true, end_done);
    client_submit(c, &watch->write_op);
}

void client_unwatch(struct client *c, struct client_watch *watch)
{
    assert(watch->has_begun && watch->writing == WATCH_RESTS);
    watch->writing = WATCH_ENDS;
    watch->ends_late =
        watch->mode == WIRE_LEASE_FENCED && c->n_late > 0 && !planted(PLANTED_WATCH_ENDS_EARLY);
    c->n_late_ends += watch->ends_late;
    if (!watch->ends_late)
        end_now(watch);
}

void watch_end_fenced(struct client *c)
{
    struct client_watch *watch, *next;
    if (c->n_late > 0 || c->n_late_ends == 0)
        return;
    c->n_late_ends = 0;
    HASH_ITER(hh, c->watches, watch, next)
    {
        if (watch->ends_late)
            end_now(watch);
    }
}

/* ---- What happens around ---- */

void watch_received(struct client *c, struct osd_link *osd, const struct message *message)
{
    struct wire_watch_event wire;
    struct client_watch *watch;
    if (message->body_len != sizeof wire) {
        log_warn(c->env, "malformed event", "osd=%d", osd->id);
        return;
    }
    memcpy(&wire, message->body, sizeof wire);
    HASH_FIND(hh, c->watches, &wire.cookie, sizeof wire.cookie, watch);
    if (watch == NULL || !is_linked(watch))
        return;
    /* Who has slept hears late of what was said to it, and of what became of its watch. */
    if (watch->has_begun && clock_of(c) >= watch->valid_until_ns &&
        !planted(PLANTED_WATCH_NEVER_LOST)) {
        watch_lose(watch, -ENOTCONN);
        return;
    }
    struct client_watch_event event = {
        .recall = wire.kind == WIRE_WATCH_RECALLED,
        .mode = wire.mode,
        .notifier = wire.notifier,
        .notify_id = wire.notify_id,
        .data = message->payload.data,
        .len = message->payload.len,
    };
    switch (wire.kind) {
    case WIRE_WATCH_NOTIFIED:
    case WIRE_WATCH_RECALLED:
        if (watch->writing != WATCH_ENDS)
            watch->event(watch, &event);
        break;
    case WIRE_WATCH_DOUBTFUL:
        watch_connect(watch);
        break;
    default:
        break;
    }
}

/* The connection has ended: the primary may take us for dead soon, unless it hears of us. */
void watch_cut(struct client *c, const struct osd_link *osd)
{
    struct client_watch *watch, *next;
    uint64_t span = WIRE_WATCH_HUNG_UP_MS * MSEC_NS;
    uint64_t until = clock_of(c) + span - span / WATCH_MARGIN;
    if (planted(PLANTED_WATCH_CUT_IGNORED) || c->closing)
        return;
    HASH_ITER(hh, c->watches, watch, next)
    {
        if (watch->osd != osd || !is_linked(watch))
            continue;
        watch->valid_until_ns = sooner(watch->valid_until_ns, until);
        if (watch->group != NULL)
            group_timer_arm(watch->group);
    }
}

/* The session lives, and carries a sign of life as soon as it has another connection. */
void watch_disconnected(struct client *c, const struct osd_link *osd)
{
    struct watch_group *group, *next;
    watch_cut(c, osd);
    HASH_ITER(hh, c->watch_groups, group, next)
    {
        const struct client_watch *watch = TAILQ_FIRST(&group->watches);
        if (watch != NULL && watch->osd == osd && !group->pinging && !c->closing)
            group_ping(group);
    }
}

/* Sessions were lost, or others are in their place. */
void watch_check_links(struct client *c)
{
    struct client_watch *watch, *next;
    if (!c->watch_links_lost || c->closing)
        return;
    c->watch_links_lost = false;
    HASH_ITER(hh, c->watches, watch, next)
    {
        if (watch->link_state == WATCH_LIVE && watch->osd->n_sessions != watch->session)
            watch_connect(watch);
    }
}

/* The group of a watch may be another one, or have another primary. */
void watch_map_changed(struct client *c)
{
    struct client_watch *watch, *next;
    struct watch_group *group, *next_group;
    HASH_ITER(hh, c->watch_groups, group, next_group)
    {
        uint64_t interval = target_interval(c, group->key.pool, (uint32_t)group->key.seed);
        group->moved = interval != group->interval;
        group->interval = interval;
    }
    HASH_ITER(hh, c->watches, watch, next)
    {
        const struct map_pool *pool = map_pool(c->map, watch->object.pool);
        if (watch->link_state != WATCH_LIVE || watch->group == NULL)
            continue;
        if (watch->group->moved || pool == NULL ||
            map_object_pg(pool, watch->object.hash).seed != watch->group->key.seed)
            watch_connect(watch);
    }
}

/* All operations were cancelled. */
void watch_fini(struct client *c)
{
    struct client_watch *watch, *next;
    struct watch_group *group, *next_group;
    HASH_ITER(hh, c->watches, watch, next)
    {
        HASH_DELETE(hh, c->watches, watch);
        watch->group = NULL;
        forget_leftover(watch);
    }
    HASH_ITER(hh, c->watch_groups, group, next_group)
    {
        env_timer_stop(c->env, &group->timer);
        /* NOLINTNEXTLINE(clang-analyzer-core.*): the analyzer does not follow uthash. */
        HASH_DELETE(hh, c->watch_groups, group);
        free(group);
    }
}

/* ---- Notifies ---- */

void client_notify_op(struct client_op *op, uint32_t timeout_ms, struct buf_slice data)
{
    op->n_steps = 1;
    op->patient = true;
    op->steps[0] = (struct client_step){
        .code = WIRE_OP_CODE_NOTIFY,
        .offset = WIRE_NOTIFY,
        .length = timeout_ms != 0 ? timeout_ms : WIRE_NOTIFY_TIMEOUT_MS,
        .data = data,
    };
}

int client_ack_op(struct client_op *op, uint64_t notifier, uint64_t notify_id, uint64_t cookie,
                  const void *answer, size_t len)
{
    struct wire_notify_ack ack = {.notifier = notifier, .notify_id = notify_id, .cookie = cookie};
    struct buf_slice data;
    if (len > WIRE_NOTIFY_ANSWER_MAX)
        return -EFBIG;
    if (buf_slice_alloc(sizeof ack + len, &data) != 0)
        return -ENOMEM;
    memcpy(data.data, &ack, sizeof ack);
    if (len > 0)
        memcpy(data.data + sizeof ack, answer, len);
    op->n_steps = 1;
    op->steps[0] = (struct client_step){.code = WIRE_OP_CODE_NOTIFY_ACK, .data = data};
    return 0;
}
