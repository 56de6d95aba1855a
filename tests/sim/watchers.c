#include "tests/sim/watchers.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/core/watch.h"

enum {
    OBJECTS_MAX = 4,
    WATCHERS_EACH_MAX = CLUSTER_CLIENTS_MAX + 1,
    NAME_BYTES = 24,
    DEAF_PERCENT = 7, /* Of notifies and recalls that are not answered. */
};

/* So long after the last fault everybody has come back. */
#define BACK_NS (12 * SEC_NS)

enum slot_state { SLOT_RESTS, SLOT_BEGINS, SLOT_LIVES, SLOT_LOST, SLOT_ENDS };

/* A client and an object. */
struct slot {
    struct watchers *all;
    struct cluster_client *client;
    uint32_t object;
    bool lease;
    struct client_watch watch;
    enum slot_state state;
    uint64_t serial; /* Of its present watch. */
    int error;       /* With which the last one did not begin. */
    struct env_timer timer;
};

/* An answer to a notify that is on its way. */
struct ack {
    struct client_op op;
    bool busy;
};

/* Somebody who watched when a notify began. */
struct expected {
    struct slot *slot;
    uint64_t serial;
    uint64_t instance, cookie;
    bool told;
};

/* Notifies of a client, one at a time. */
struct notifier {
    struct watchers *all;
    struct cluster_client *client;
    struct client_op op;
    bool busy;
    bool last;         /* It must be answered by everybody. */
    uint64_t until_ns; /* Its time is not over before. */
    uint32_t object;
    uint32_t n;
    struct expected expected[WATCHERS_EACH_MAX];
    struct env_timer timer;
};

struct watchers {
    struct cluster *cluster;
    uint64_t pool;
    uint32_t n_objects, n_leases;
    uint64_t timeout_ns; /* Of watches, on average. */
    char names[2 * OBJECTS_MAX][NAME_BYTES];
    struct slot slots[WATCHERS_EACH_MAX][2 * OBJECTS_MAX]; /* Leases come last. */
    struct notifier notifiers[WATCHERS_EACH_MAX];
    struct ack acks[256];
    struct client_op admin;
    bool admin_busy;
    int admin_result;
    bool made, stopped, removed;
    uint64_t calm_ns; /* 0: not yet. */
    uint64_t serial;
    uint32_t n_done;
    struct env_timer look;
};

static uint64_t below(struct watchers *w, uint64_t n)
{
    return sim_below(w->cluster->sim, n);
}

static uint64_t now(const struct watchers *w)
{
    return sim_now(w->cluster->sim);
}

static struct env *env_of(const struct cluster_client *client)
{
    return sim_process(client->member.node);
}

static struct object_id object_of(const struct watchers *w, uint32_t i)
{
    return (struct object_id){.pool = w->pool,
                              .snap = OBJECT_HEAD,
                              .name = (const uint8_t *)w->names[i],
                              .name_len = (uint16_t)strlen(w->names[i])};
}

static uint32_t n_of(const struct watchers *w)
{
    return w->n_objects + w->n_leases;
}

static bool is_calm(const struct watchers *w)
{
    return w->calm_ns != 0 && now(w) - w->calm_ns > BACK_NS;
}

static void slot_wait(struct slot *slot, uint64_t most_ns)
{
    env_timer_after(env_of(slot->client), &slot->timer, below(slot->all, most_ns) + 1);
}

/* ---- Leases that do not agree ---- */

static bool holds(const struct slot *slot)
{
    return slot->lease && slot->client->client && slot->state == SLOT_LIVES &&
           client_watch_valid(&slot->watch);
}

static void check_leases(struct watchers *w)
{
    uint32_t n_clients = w->cluster->options.n_clients + 1;
    for (uint32_t o = w->n_objects; o < n_of(w); o++) {
        const struct slot *first = NULL;
        for (uint32_t i = 0; i < n_clients; i++) {
            const struct slot *slot = &w->slots[i][o];
            if (!holds(slot))
                continue;
            if (first && (first->watch.mode == WIRE_LEASE_EXCLUSIVE ||
                          slot->watch.mode == WIRE_LEASE_EXCLUSIVE))
                cluster_fail(w->cluster,
                             "lease-alone: clients %d and %d hold %s at once, modes %u and %u",
                             (int)(first->client - w->cluster->clients), (int)i, w->names[o],
                             first->watch.mode, slot->watch.mode);
            first = slot;
        }
    }
}

static void look_fire(struct env_timer *timer)
{
    struct watchers *w = container_of(timer, struct watchers, look);
    check_leases(w);
    env_timer_after(env_of(&w->cluster->clients[0]), timer, 10 * MSEC_NS);
}

/* ---- Watching ---- */

static void on_began(struct client_watch *watch, int error)
{
    struct slot *slot = container_of(watch, struct slot, watch);
    slot->all->n_done++;
    sim_note(slot->all->cluster->sim, watch->cookie ^ (uint64_t)error);
    if (slot->state != SLOT_BEGINS) {
        check_leases(slot->all);
        return; /* It was changed, or not, and perhaps lost meanwhile. */
    }
    slot->error = error;
    slot->state = error ? SLOT_RESTS : SLOT_LIVES;
    if (!error)
        slot->serial = ++slot->all->serial;
    check_leases(slot->all);
    slot_wait(slot, 8 * SEC_NS);
}

static void on_lost(struct client_watch *watch, int error)
{
    struct slot *slot = container_of(watch, struct slot, watch);
    struct watchers *w = slot->all;
    bool removed = w->removed && (error == -ENOENT || error == -ENOTCONN);
    if (!removed && is_calm(w) && now(w) - w->calm_ns > 30 * SEC_NS && !slot->lease &&
        w->cluster->options.op_timeout_ns == 0)
        cluster_fail(w->cluster, "watch-lost: client %d has lost %s (%d) though all is calm",
                     (int)(slot->client - w->cluster->clients), w->names[slot->object], error);
    slot->state = SLOT_LOST;
    slot_wait(slot, SEC_NS);
}

static void on_ended(struct client_watch *watch, int error)
{
    struct slot *slot = container_of(watch, struct slot, watch);
    (void)error;
    slot->state = SLOT_RESTS;
    slot_wait(slot, 4 * SEC_NS);
}

static void ack_done(struct client_op *op)
{
    struct ack *ack = container_of(op, struct ack, op);
    ack->busy = false;
    buf_slice_drop(&op->steps[0].data);
}

static void answer(struct slot *slot, const struct client_watch_event *event)
{
    struct watchers *w = slot->all;
    uint32_t i = 0;
    while (i < sizeof w->acks / sizeof w->acks[0] && w->acks[i].busy)
        i++;
    if (i == sizeof w->acks / sizeof w->acks[0])
        return;
    struct ack *ack = &w->acks[i];
    memset(ack, 0, sizeof *ack);
    if (client_ack_op(&ack->op, event->notifier, event->notify_id, slot->watch.cookie,
                      &event->notify_id, sizeof event->notify_id))
        abort();
    ack->busy = true;
    ack->op.object = object_of(w, slot->object);
    ack->op.done = ack_done;
    client_submit(slot->client->client, &ack->op);
}

static struct expected *expected_find(struct watchers *w, const struct slot *slot,
                                      const struct client_watch_event *event)
{
    for (uint32_t i = 0; i <= w->cluster->options.n_clients; i++) {
        struct notifier *notifier = &w->notifiers[i];
        if (!notifier->busy || notifier->op.tid != event->notify_id ||
            env_of(notifier->client)->instance != event->notifier)
            continue;
        for (uint32_t j = 0; j < notifier->n; j++)
            if (notifier->expected[j].slot == slot && notifier->expected[j].serial == slot->serial)
                return &notifier->expected[j];
    }
    return NULL;
}

static void on_event(struct client_watch *watch, const struct client_watch_event *event)
{
    struct slot *slot = container_of(watch, struct slot, watch);
    struct watchers *w = slot->all;
    bool deaf = below(w, 100) < DEAF_PERCENT && !w->stopped;
    if (event->recall) {
        /* Given back by the timer, or not at all. */
        if (!deaf && slot->state == SLOT_LIVES)
            slot_wait(slot, 400 * MSEC_NS);
        return;
    }
    struct expected *expected = expected_find(w, slot, event);
    if (expected)
        expected->told = true;
    if (!deaf)
        answer(slot, event);
}

static void slot_prepare(struct slot *slot)
{
    struct watchers *w = slot->all;
    struct client_watch *watch = &slot->watch;
    memset(watch, 0, sizeof *watch);
    watch->object = object_of(w, slot->object);
    watch->timeout_ms = (uint32_t)((w->timeout_ns / 2 + below(w, w->timeout_ns)) / MSEC_NS);
    watch->began = on_began;
    watch->lost = on_lost;
    watch->ended = on_ended;
    watch->event = on_event;
    if (slot->lease) {
        watch->mode = below(w, 3) ? WIRE_LEASE_EXCLUSIVE : WIRE_LEASE_SHARED;
        watch->patience_ns = below(w, 3) ? below(w, 20 * SEC_NS) : 0;
    }
}

static void slot_submit(struct slot *slot)
{
    slot->state = SLOT_BEGINS;
    client_watch(slot->client->client, &slot->watch);
}

static void slot_fire(struct env_timer *timer)
{
    struct slot *slot = container_of(timer, struct slot, timer);
    struct watchers *w = slot->all;
    bool stays = !slot->lease && (w->stopped || below(w, 3));
    switch (slot->state) {
    case SLOT_RESTS:
        if (!w->stopped) {
            slot_prepare(slot);
            slot_submit(slot);
        }
        break;
    case SLOT_LIVES:
        if (slot->watch.writing != WATCH_RESTS) {
            slot_wait(slot, SEC_NS);
        } else if (slot->lease && !w->stopped && below(w, 4) == 0) {
            client_watch_change(slot->client->client, &slot->watch, 1 + (uint32_t)below(w, 2));
            slot_wait(slot, 4 * SEC_NS);
        } else if (stays) {
            slot_wait(slot, 8 * SEC_NS);
        } else {
            slot->state = SLOT_ENDS;
            client_unwatch(slot->client->client, &slot->watch);
        }
        break;
    case SLOT_LOST:
        if (slot->watch.writing != WATCH_RESTS) {
            slot_wait(slot, SEC_NS);
            break;
        }
        slot->state = SLOT_ENDS;
        client_unwatch(slot->client->client, &slot->watch);
        break;
    case SLOT_BEGINS:
    case SLOT_ENDS:
        break;
    }
}

/* ---- Notifying ---- */

static bool in_list(struct decoder *d, uint32_t n, bool answers, const struct expected *expected)
{
    bool found = false;
    for (uint32_t i = 0; i < n && !d->failed; i++) {
        uint32_t len = 0;
        uint64_t instance = decode_u64(d), cookie = decode_u64(d);
        if (answers)
            decode_string32(d, &len);
        found |= instance == expected->instance && cookie == expected->cookie;
    }
    return found;
}

static void judge_one(struct notifier *notifier, const struct expected *expected)
{
    struct watchers *w = notifier->all;
    struct buf_slice data = notifier->op.steps[0].data;
    struct decoder d;
    /* It must have watched all the time; who has slept does not know yet that it has not. */
    if (expected->slot->state != SLOT_LIVES || expected->slot->serial != expected->serial ||
        !client_watch_valid(&expected->slot->watch))
        return;
    decoder_init(&d, data.data, data.len);
    bool answered = in_list(&d, decode_u32(&d), true, expected);
    bool missed = in_list(&d, decode_u32(&d), false, expected);
    int who = (int)(expected->slot->client - w->cluster->clients);
    const char *name = w->names[notifier->object];
    if (d.failed || decoder_end(&d))
        cluster_fail(w->cluster, "a notify of %s is answered with nonsense", name);
    else if (!answered && !missed)
        cluster_fail(w->cluster, "watch-named: a notify of %s does not name client %d", name, who);
    else if (answered && !expected->told)
        cluster_fail(w->cluster, "watch-told: client %d has answered a notify of %s untold", who,
                     name);
    else if (missed && !expected->told && w->calm_ns != 0 &&
             notifier->until_ns > w->calm_ns + BACK_NS)
        cluster_fail(w->cluster, "watch-told: client %d was not told of a notify of %s", who, name);
    else if (missed && notifier->last)
        cluster_fail(w->cluster, "watch-told: client %d has not answered the last notify of %s",
                     who, name);
}

static void notifier_done(struct client_op *op)
{
    struct notifier *notifier = container_of(op, struct notifier, op);
    struct watchers *w = notifier->all;
    w->n_done++;
    if (op->result == 0)
        for (uint32_t i = 0; i < notifier->n; i++)
            judge_one(notifier, &notifier->expected[i]);
    else if (notifier->last)
        cluster_fail(w->cluster, "the last notify of %s fails with %d", w->names[notifier->object],
                     op->result);
    sim_note(w->cluster->sim, op->steps[0].data.len ^ (uint64_t)op->result);
    buf_slice_drop(&op->steps[0].data);
    notifier->busy = false;
    if (!w->stopped && op->result != -ECANCELED)
        env_timer_after(env_of(notifier->client), &notifier->timer, below(w, 4 * SEC_NS));
}

static void notify(struct notifier *notifier, uint32_t object, uint32_t timeout_ms)
{
    struct watchers *w = notifier->all;
    struct buf_slice data;
    uint64_t text = now(w);
    notifier->object = object;
    notifier->n = 0;
    for (uint32_t i = 0; i <= w->cluster->options.n_clients; i++) {
        struct slot *slot = &w->slots[i][object];
        if (slot->state != SLOT_LIVES || !slot->client->client || !client_watch_valid(&slot->watch))
            continue;
        notifier->expected[notifier->n++] = (struct expected){
            .slot = slot,
            .serial = slot->serial,
            .instance = env_of(slot->client)->instance,
            .cookie = slot->watch.cookie,
        };
    }
    if (buf_slice_copy(&text, sizeof text, &data))
        abort();
    memset(&notifier->op, 0, sizeof notifier->op);
    notifier->op.object = object_of(w, object);
    notifier->op.done = notifier_done;
    client_notify_op(&notifier->op, timeout_ms, data);
    notifier->busy = true;
    notifier->until_ns = now(w) + timeout_ms * MSEC_NS;
    client_submit(notifier->client->client, &notifier->op);
}

static void notifier_fire(struct env_timer *timer)
{
    struct notifier *notifier = container_of(timer, struct notifier, timer);
    struct watchers *w = notifier->all;
    if (w->stopped || notifier->busy)
        return;
    notify(notifier, (uint32_t)below(w, w->n_objects), 1000 + (uint32_t)below(w, 24000));
}

/* ---- Clients come and go ---- */

static void client_ready(struct cluster_client *client)
{
    struct watchers *w = client->watch_user;
    uint32_t i = (uint32_t)(client - w->cluster->clients);
    if (!w->made || w->stopped)
        return;
    for (uint32_t o = 0; o < n_of(w); o++)
        slot_wait(&w->slots[i][o], 2 * SEC_NS);
    if (w->n_objects > 0)
        env_timer_after(env_of(client), &w->notifiers[i].timer, below(w, 4 * SEC_NS));
}

static void client_gone(struct cluster_client *client)
{
    struct watchers *w = client->watch_user;
    uint32_t i = (uint32_t)(client - w->cluster->clients);
    for (uint32_t o = 0; o < n_of(w); o++) {
        struct slot *slot = &w->slots[i][o];
        env_timer_stop(env_of(client), &slot->timer);
        memset(&slot->watch, 0, sizeof slot->watch);
        slot->state = SLOT_RESTS;
    }
    env_timer_stop(env_of(client), &w->notifiers[i].timer);
    assert(!w->notifiers[i].busy);
}

/* ---- The administrator ---- */

static void admin_done(struct client_op *op)
{
    struct watchers *w = container_of(op, struct watchers, admin);
    w->admin_busy = false;
    w->admin_result = op->result;
}

static bool admin_is_done(void *ctx)
{
    return !((struct watchers *)ctx)->admin_busy;
}

static bool administer(struct watchers *w, uint32_t object, uint16_t code)
{
    memset(&w->admin, 0, sizeof w->admin);
    w->admin.object = object_of(w, object);
    w->admin.write = true;
    w->admin.n_steps = 1;
    w->admin.steps[0].code = code;
    w->admin.done = admin_done;
    w->admin_busy = true;
    client_submit(w->cluster->clients[0].client, &w->admin);
    return cluster_run_until(w->cluster, admin_is_done, w, now(w) + 60 * SEC_NS,
                             "an object to watch is not made or removed");
}

struct watchers *watchers_create(struct cluster *cluster, const struct scenario *scenario,
                                 uint64_t pool)
{
    struct watchers *w = calloc(1, sizeof *w);
    if (!w)
        abort();
    w->cluster = cluster;
    w->pool = pool;
    w->n_objects = (uint32_t)scenario_choose(&scenario->watched, cluster->sim);
    w->n_leases = (uint32_t)scenario_choose(&scenario->leased, cluster->sim);
    w->timeout_ns = scenario_choose(&scenario->watch_timeout, cluster->sim);
    for (uint32_t o = 0; o < n_of(w); o++) {
        snprintf(w->names[o], NAME_BYTES, "%s.%u", o < w->n_objects ? "watched" : "leased", o);
        if (!administer(w, o, WIRE_OP_CODE_CREATE))
            return w;
    }
    for (uint32_t i = 0; i <= cluster->options.n_clients; i++) {
        struct cluster_client *client = &cluster->clients[i];
        w->notifiers[i] = (struct notifier){.all = w, .client = client};
        w->notifiers[i].timer.fire = notifier_fire;
        for (uint32_t o = 0; o < n_of(w); o++) {
            struct slot *slot = &w->slots[i][o];
            *slot =
                (struct slot){.all = w, .client = client, .object = o, .lease = o >= w->n_objects};
            slot->timer.fire = slot_fire;
        }
        if (i == 0)
            continue; /* The administrator only ends it all. */
        client->watch_user = w;
        client->watch_ready = client_ready;
        client->watch_gone = client_gone;
    }
    w->made = true;
    for (uint32_t i = 1; i <= cluster->options.n_clients && n_of(w) > 0; i++)
        if (cluster->clients[i].connected)
            client_ready(&cluster->clients[i]);
    w->look.fire = look_fire;
    if (w->n_leases > 0)
        env_timer_after(env_of(&cluster->clients[0]), &w->look, MSEC_NS);
    return w;
}

void watchers_destroy(struct watchers *w)
{
    for (uint32_t i = 1; i <= w->cluster->options.n_clients; i++)
        w->cluster->clients[i].watch_ready = w->cluster->clients[i].watch_gone = NULL;
    free(w);
}

void watchers_calm(struct watchers *w)
{
    w->calm_ns = now(w);
}

/* ---- The end ---- */

static bool no_notifies(void *ctx)
{
    const struct watchers *w = ctx;
    for (uint32_t i = 0; i <= w->cluster->options.n_clients; i++)
        if (w->notifiers[i].busy)
            return false;
    return true;
}

static bool no_leases(void *ctx)
{
    struct watchers *w = ctx;
    for (uint32_t i = 1; i <= w->cluster->options.n_clients; i++)
        for (uint32_t o = w->n_objects; o < n_of(w); o++)
            if (w->slots[i][o].client->client && w->slots[i][o].state != SLOT_RESTS)
                return false;
    return true;
}

static bool no_watches(void *ctx)
{
    struct watchers *w = ctx;
    for (uint32_t i = 0; i <= w->cluster->options.n_clients; i++)
        for (uint32_t o = 0; o < n_of(w); o++)
            if (w->slots[i][o].client->client && w->slots[i][o].state != SLOT_RESTS)
                return false;
    return true;
}

static bool none_begins(void *ctx)
{
    struct watchers *w = ctx;
    for (uint32_t i = 0; i <= w->cluster->options.n_clients; i++)
        for (uint32_t o = 0; o < n_of(w); o++)
            if (w->slots[i][o].state == SLOT_BEGINS)
                return false;
    return true;
}

static bool last_notifies(struct watchers *w)
{
    for (uint32_t o = 0; o < w->n_objects && !w->cluster->failed; o++) {
        w->notifiers[0].last = true;
        notify(&w->notifiers[0], o, 15000);
        if (!cluster_run_until(w->cluster, no_notifies, w, now(w) + 40 * SEC_NS,
                               "the last notifies are not answered"))
            return false;
    }
    return !w->cluster->failed;
}

static bool last_leases(struct watchers *w, uint64_t answer_ns)
{
    for (uint32_t o = w->n_objects; o < n_of(w); o++) {
        struct slot *slot = &w->slots[0][o];
        slot_prepare(slot);
        slot->watch.mode = WIRE_LEASE_EXCLUSIVE;
        slot->watch.patience_ns = answer_ns;
        slot_submit(slot);
        if (!cluster_run_until(w->cluster, none_begins, w, now(w) + 2 * answer_ns,
                               "lease-given: the last lease is not given"))
            return false;
        if (slot->error)
            cluster_fail(w->cluster, "lease-given: the last lease of %s is refused with %d",
                         w->names[o], slot->error);
    }
    return !w->cluster->failed;
}

bool watchers_finish(struct watchers *w, uint64_t answer_ns)
{
    w->stopped = true;
    if (n_of(w) == 0)
        return true;
    if (!cluster_run_until(w->cluster, no_notifies, w, now(w) + answer_ns + 30 * SEC_NS,
                           "notifies are not answered"))
        return false;
    if (!cluster_run_until(w->cluster, none_begins, w, now(w) + answer_ns + 30 * SEC_NS,
                           "watches do not begin") ||
        !last_notifies(w) || !last_leases(w, answer_ns) ||
        !cluster_run_until(w->cluster, no_leases, w, now(w) + answer_ns + 30 * SEC_NS,
                           "leases are not given back"))
        return false;
    w->removed = true;
    for (uint32_t o = 0; o < n_of(w); o++)
        if (!administer(w, o, WIRE_OP_CODE_REMOVE))
            return false;
    return cluster_run_until(w->cluster, no_watches, w, now(w) + answer_ns + 30 * SEC_NS,
                             "watch-lost: watches of removed objects do not end");
}

uint32_t watchers_count(const struct watchers *w)
{
    return w->n_done;
}
