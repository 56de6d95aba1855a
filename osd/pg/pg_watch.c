/*
 * Watches, notifies and leases: what a primary knows of the watchers of its objects beyond the
 * durable list (osd/ops/watch.h), which says who they are and is changed by writes only.
 *
 *  W1  A watch is in the list from the commit of the write that began it until the commit of one
 *      that ends it: its owner's, one that removes the object, or an eviction by the primary.
 *      Whoever asks is told by the list, never by what stands here.
 *  W2  The primary evicts a watch only when it has not heard of its owner for the watch's time-out:
 *      by its own clock, counted from the last sign of life that came to it, or, of those that have
 *      not come to it yet, from when it began to serve. Signs of life are answered under read
 *      leases, so no earlier primary can have confirmed one after that. Time counts only while it
 *      can listen: not while this process sleeps, or may not read. Or at once, when the map says
 *      that the owner is blocked: then none of its requests is executed any more; but of a shared
 *      or a fenced lease, under which it may answer without asking anybody, no sign of life counts
 *      from then on. Or WIRE_WATCH_HUNG_UP_MS after the owner's system has ended the connection,
 *      if the session has not got another one: its process is dead, or has given the connection
 *      up before that, and trusts its watch no longer than we wait (W3). Silence is no such end.
 *
 *      A fenced lease is evicted only when its owner is blocked: of an owner that is gone in any
 *      other way the monitors are told as soon as another process waits for it (W7). Its own
 *      process ends what it has left behind (V4 of client/core/watch.c).
 *
 *  W3  The owner takes its watch for alive until the time-out, less a margin for clocks that differ
 *      in speed, has passed since it sent the last sign of life that was answered; when it loses
 *      its connection, until WIRE_WATCH_HUNG_UP_MS less that margin later, if that is earlier: by
 *      W2 that is over before anybody can evict it. (client/core/watch.c) What ends a connection
 *      for one side only, such as a router that resets it, is not thought of.
 *
 *  W4  Leases that do not agree are never in the list together (step_watch.c). With W3: nobody
 *      takes himself for the holder of a lease that somebody else was granted.
 *
 *  W5  A notify waits for all who are in the list when it begins, and tells those that are
 *      connected, and others as soon as they are. It ends when all have answered or are gone, or
 *      when its time is over; whoever has not answered and has not ended its watch is named.
 *
 *  W6  A connection belongs to a session and to one life of the group's service. Who connected in
 *      an earlier life learns by the answer to its next sign of life that there is another one. A
 *      process has one session with an OSD: what comes late of the one before is not executed
 *      (osd_guest.c), so no connection goes back to it.
 *  W7  Once a fenced lease has been taken from its owner, nothing that the owner has sent to any
 *      object is executed after what anybody does who has had an answer from here since: answers
 *      to requests of older maps say that the map is needed first (WIRE_REPLY_FENCED), and an OSD
 *      knows the map of a request, and so who is blocked, before it executes it. An owner that
 *      ends its lease knows the same of its map: what it has sent to OSDs that are others by it
 *      cannot be executed under it (C7 of client/core). A later primary
 *      need not say so: it takes no requests of maps from before its time, and its time began
 *      after any at which an earlier one could evict.
 *
 * A lease that was recalled and is not given back is not renewed any more after its time-out, and
 * so its owner counts as gone after another one. Of a fenced one that time is a minute at least:
 * its owner may have much to write back, to groups that do not serve at the moment, and would lose
 * all else that it has not written back.
 */
#include "osd/pg/pg_watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/planted.h"
#include "osd/ops/watch.h"

enum {
    WATCHES_MAX = 262144,     /* Of an OSD. */
    WATCH_EVICTIONS_MAX = 64, /* Of a group, in one tick. */
};

/* Later than this, and the process slept. */
#define WATCH_TICK_LATE_NS (2 * SEC_NS)
/* The monitors are told again. */
#define WATCH_FENCE_AGAIN_NS SEC_NS
/* All answers to a notify together. */
#define NOTIFY_ANSWERS_BYTES_MAX (8u * 1024 * 1024)

struct watch {
    TAILQ_ENTRY(watch) link;
    uint64_t instance, cookie;
    uint64_t timeout_ns;
    unsigned mode;
    struct net_session *session; /* NULL: it is not connected. */
    struct net_session *writer;  /* Of the request that began it; NULL: that is over. */
    uint64_t heard_ns;           /* env_clock() */
    uint64_t fenced_ns;          /* env_clock() when the monitors were told of it; 0: never. */
    uint64_t recalled_ns;        /* env_clock(): since when somebody waits for it; 0: nobody. */
    bool lapsed;                 /* It was recalled in vain, and is not renewed any more. */
    bool expired;                /* To be evicted. */
    bool evicting;               /* A request of ours is under way. */
};

/* Whom a notify waits for. */
struct target {
    uint64_t instance, cookie;
    bool answered;
    bool left; /* By itself: it is not waited for, nor named. */
    bool gone; /* Evicted: it is not waited for, but named. */
    struct buf_slice answer;
};

struct pg_notify {
    TAILQ_ENTRY(pg_notify) link;
    struct pg_watched *watched;
    struct pg_request *request;
    struct wire_version version; /* Of the object. */
    struct env_timer timer;
    bool recalls;
    struct wire_recall recall;
    size_t answers_bytes;
    uint32_t n;
    struct target targets[];
};

/* An object that is watched. */
struct pg_watched {
    UT_hash_handle hh;
    struct pg *pg;
    TAILQ_HEAD(, watch) watches;
    TAILQ_HEAD(, pg_notify) notifies;
    uint16_t len;
    uint8_t bytes[]; /* Its encoded id. */
};

/* ---- Memory ---- */

static struct pg_watched *watched_find(const struct pg *pg, const uint8_t *id, uint16_t len)
{
    struct pg_watched *watched;
    HASH_FIND(hh, pg->watched, id, len, watched);
    return watched;
}

static struct pg_watched *watched_get(struct pg *pg, const struct pg_object *object)
{
    struct pg_watched *watched = watched_find(pg, object->bytes, object->len);
    if (watched)
        return watched;
    watched = calloc(1, sizeof *watched + object->len);
    if (!watched) {
        pg_fatal(pg, -ENOMEM, "no memory for a watch");
        return NULL;
    }
    watched->pg = pg;
    watched->len = object->len;
    memcpy(watched->bytes, object->bytes, object->len);
    TAILQ_INIT(&watched->watches);
    TAILQ_INIT(&watched->notifies);
    HASH_ADD(hh, pg->watched, bytes, watched->len, watched);
    return watched;
}

static void watch_free(struct pg_watched *watched, struct watch *watch)
{
    TAILQ_REMOVE(&watched->watches, watch, link);
    watched->pg->world->n_watches--;
    free(watch);
}

static void watched_settle(struct pg_watched *watched)
{
    if (!TAILQ_EMPTY(&watched->watches) || !TAILQ_EMPTY(&watched->notifies))
        return;
    struct pg *pg = watched->pg;
    HASH_DEL(pg->watched, watched);
    free(watched);
}

static struct watch *watch_find(const struct pg_watched *watched, uint64_t instance,
                                uint64_t cookie)
{
    struct watch *watch;
    TAILQ_FOREACH(watch, &watched->watches, link)
    {
        if (watch->instance == instance && watch->cookie == cookie)
            return watch;
    }
    return NULL;
}

static uint64_t clock_of(const struct pg *pg)
{
    return env_clock(pg->world->env);
}

bool pg_watch_is_full(const struct pg_world *world)
{
    return world->n_watches >= WATCHES_MAX;
}

/* ---- Telling watchers ---- */

static void send_event(struct pg *pg, const struct watch *watch, struct wire_watch_event event,
                       struct buf_slice payload)
{
    if (!watch->session)
        return;
    struct message *message = message_create(MSG_WATCH_EVENT, sizeof event);
    if (!message)
        return; /* It is as if it had got lost: the notify runs into its time-out. */
    event.cookie = watch->cookie;
    memcpy(message->body, &event, sizeof event);
    message->payload = buf_slice_ref(payload);
    pg->world->ops->answer(pg->world->ctx, watch->session, message);
}

static void send_doubt(struct pg *pg, const struct watch *watch)
{
    struct wire_watch_event event = {.kind = WIRE_WATCH_DOUBTFUL};
    send_event(pg, watch, event, BUF_SLICE_EMPTY);
}

static void tell(const struct pg_notify *notify, const struct watch *watch)
{
    const struct pg_request *request = notify->request;
    struct wire_watch_event event = {
        .notifier = request->ops.head.client,
        .notify_id = request->ops.head.tid,
        .kind = notify->recalls ? WIRE_WATCH_RECALLED : WIRE_WATCH_NOTIFIED,
        .mode = notify->recalls ? notify->recall.mode : WIRE_LEASE_NONE,
    };
    send_event(request->pg, watch, event,
               notify->recalls ? BUF_SLICE_EMPTY : request->message->payload);
}

/* ---- Notifies ---- */

static struct target *target_find(struct pg_notify *notify, uint64_t instance, uint64_t cookie)
{
    for (uint32_t i = 0; i < notify->n; i++)
        if (notify->targets[i].instance == instance && notify->targets[i].cookie == cookie)
            return &notify->targets[i];
    return NULL;
}

static bool is_open(const struct target *target)
{
    return !target->answered && !target->left && !target->gone;
}

static bool is_settled(const struct pg_notify *notify)
{
    for (uint32_t i = 0; i < notify->n; i++)
        if (is_open(&notify->targets[i]))
            return false;
    return true;
}

static void notify_free(struct pg_notify *notify)
{
    struct pg_watched *watched = notify->watched;
    env_timer_stop(watched->pg->world->env, &notify->timer);
    TAILQ_REMOVE(&watched->notifies, notify, link);
    for (uint32_t i = 0; i < notify->n; i++)
        buf_slice_drop(&notify->targets[i].answer);
    free(notify);
    watched_settle(watched);
}

void pg_notify_disown(struct pg_request *request)
{
    notify_free(request->operation);
    request->operation = NULL;
}

/* The answers, and who has given none. */
static int encode_outcome(const struct pg_notify *notify, struct buf_slice *out)
{
    struct encoder e;
    uint32_t answered = 0, missed = 0;
    for (uint32_t i = 0; i < notify->n; i++) {
        answered += notify->targets[i].answered;
        missed += !notify->targets[i].answered && !notify->targets[i].left;
    }
    encoder_init(&e);
    encode_u32(&e, answered);
    for (uint32_t i = 0; i < notify->n; i++) {
        const struct target *target = &notify->targets[i];
        if (!target->answered)
            continue;
        encode_u64(&e, target->instance);
        encode_u64(&e, target->cookie);
        encode_string32(&e, target->answer.data, target->answer.len);
    }
    encode_u32(&e, missed);
    for (uint32_t i = 0; i < notify->n; i++) {
        const struct target *target = &notify->targets[i];
        if (target->answered || target->left)
            continue;
        encode_u64(&e, target->instance);
        encode_u64(&e, target->cookie);
    }
    int error = e.failed ? -ENOMEM : buf_slice_copy(e.data, e.len, out);
    encoder_fini(&e);
    return error;
}

static void notify_finish(struct pg_notify *notify)
{
    struct pg_request *request = notify->request;
    struct buf_slice data = BUF_SLICE_EMPTY;
    struct ops_result result = {.version = notify->version};
    result.result = encode_outcome(notify, &data);
    struct wire_op_result step = {.data_len = (uint32_t)data.len};
    pg_request_finish(request, &result, result.result ? NULL : &step, data);
}

static void notify_timed_out(struct env_timer *timer)
{
    notify_finish(container_of(timer, struct pg_notify, timer));
}

static void notify_check(struct pg_notify *notify)
{
    if (is_settled(notify))
        notify_finish(notify);
}

/* A finished one takes the object along when it was the last that is known of it. */
static void notifies_check(struct pg *pg, const struct pg_object *object)
{
    struct pg_watched *watched;
    struct pg_notify *notify, *next;
    bool again = true;
    while (again && (watched = watched_find(pg, object->bytes, object->len))) {
        again = false;
        for (notify = TAILQ_FIRST(&watched->notifies); notify && !again; notify = next) {
            next = TAILQ_NEXT(notify, link);
            again = is_settled(notify);
            if (again)
                notify_finish(notify);
        }
    }
}

static bool concerns(const struct pg_notify *notify, uint64_t notifier,
                     const struct watcher_layout *watcher)
{
    if (!notify->recalls)
        return true;
    bool own = watcher->instance == notifier && watcher->cookie == notify->recall.cookie;
    return !own && !leases_agree(watcher->mode, notify->recall.mode);
}

static uint64_t notify_timeout_ns(uint64_t ms)
{
    if (ms == 0)
        ms = WIRE_NOTIFY_TIMEOUT_MS;
    return (ms < WIRE_NOTIFY_TIMEOUT_MAX_MS ? ms : WIRE_NOTIFY_TIMEOUT_MAX_MS) * MSEC_NS;
}

/* The same one, under way: it came again after a refusal or a failover, and goes on. */
static struct pg_notify *notify_find(struct pg_watched *watched, uint64_t client, uint64_t tid)
{
    struct pg_notify *notify;
    TAILQ_FOREACH(notify, &watched->notifies, link)
    {
        const struct wire_osd_op *head = &notify->request->ops.head;
        if (head->client == client && head->tid == tid)
            return notify;
    }
    return NULL;
}

/* The copy that came first has nobody who waits for it. */
static void notify_supersede(struct pg_notify *notify, struct pg_request *request)
{
    struct pg_request *older = notify->request;
    older->operation = NULL;
    notify->request = request;
    pg_request_orphan(older);
}

/* A process does not wait for itself: what it has left of a fenced lease it ends (W2). */
static void note_recall(const struct pg_notify *notify, struct watch *watch, uint64_t now)
{
    bool own = watch->instance == notify->request->ops.head.client;
    if (notify->recalls && watch->recalled_ns == 0 && !(own && watch->mode == WIRE_LEASE_FENCED))
        watch->recalled_ns = now;
}

static void notify_tell_all(struct pg_notify *notify)
{
    struct watch *watch;
    uint64_t now = clock_of(notify->watched->pg);
    TAILQ_FOREACH(watch, &notify->watched->watches, link)
    {
        const struct target *target = target_find(notify, watch->instance, watch->cookie);
        if (!target)
            continue;
        note_recall(notify, watch, now);
        tell(notify, watch);
    }
}

static int notify_start(struct pg_request *request, struct pg_object *object,
                        const struct watchers *watchers)
{
    struct pg *pg = request->pg;
    struct wire_op step = ops_step(&request->ops, 0);
    const struct wire_osd_op *head = &request->ops.head;
    struct pg_watched *watched = watched_get(pg, object);
    struct pg_notify *notify = watched ? notify_find(watched, head->client, head->tid) : NULL;
    bool known = notify;
    if (!known && watched) {
        notify = calloc(1, sizeof *notify + watchers->n * sizeof notify->targets[0]);
        if (!notify)
            watched_settle(watched);
    }
    if (!notify)
        return -ENOMEM;
    pg_throttle_client_end(&pg->world->turns.throttle, request->begun_ns, env_now(pg->world->env));
    pg_request_place(request, REQUEST_NOTIFYING);
    request->operation = notify;
    if (known) {
        notify_supersede(notify, request);
        return WATCH_TAKEN;
    }
    notify->watched = watched;
    notify->request = request;
    notify->version = object->state.version;
    notify->recalls = step.offset == WIRE_RECALL;
    if (notify->recalls)
        memcpy(&notify->recall, request->message->payload.data, sizeof notify->recall);
    for (uint32_t i = 0; i < watchers->n; i++) {
        const struct watcher_layout *watcher = &watchers->list[i].head;
        if (concerns(notify, head->client, watcher))
            notify->targets[notify->n++] =
                (struct target){.instance = watcher->instance, .cookie = watcher->cookie};
    }
    TAILQ_INSERT_TAIL(&watched->notifies, notify, link);
    notify->timer.fire = notify_timed_out;
    env_timer_after(pg->world->env, &notify->timer, notify_timeout_ns(step.length));
    notify_tell_all(notify);
    notify_check(notify);
    return WATCH_TAKEN;
}

/* Of a notify that nobody waits for any more, or not yet: the watcher will be told of it again. */
static int take_ack(struct pg_request *request, struct pg_object *object)
{
    struct wire_notify_ack ack;
    struct buf_slice payload = request->message->payload;
    struct pg_watched *watched = watched_find(request->pg, object->bytes, object->len);
    memcpy(&ack, payload.data, sizeof ack);
    struct pg_notify *notify = watched ? notify_find(watched, ack.notifier, ack.notify_id) : NULL;
    struct target *target =
        notify ? target_find(notify, request->caller.instance, ack.cookie) : NULL;
    /* Who wants a lease waits for it, not for a word. */
    if (!target || target->answered || notify->recalls)
        return 0;
    size_t len = payload.len - sizeof ack;
    if (notify->answers_bytes + len > NOTIFY_ANSWERS_BYTES_MAX)
        return -EFBIG;
    int error = len > 0 ? buf_slice_copy(payload.data + sizeof ack, len, &target->answer) : 0;
    if (error)
        return error;
    notify->answers_bytes += len;
    target->answered = true;
    notify_check(notify);
    return 0;
}

/* ---- Following the durable list ---- */

static void note_end(struct pg_watched *watched, const struct watch *watch)
{
    struct pg_notify *notify;
    TAILQ_FOREACH(notify, &watched->notifies, link)
    {
        struct target *target = target_find(notify, watch->instance, watch->cookie);
        if (target && watch->expired)
            target->gone = true;
        else if (target)
            target->left = true;
    }
}

/* Whoever holds what is asked for may give it back by holding less. */
static void note_mode(struct pg_watched *watched, struct watch *watch,
                      const struct watcher_layout *watcher)
{
    struct pg_notify *notify;
    if (watch->mode == watcher->mode)
        return;
    watch->mode = watcher->mode;
    watch->recalled_ns = 0;
    watch->lapsed = false;
    TAILQ_FOREACH(notify, &watched->notifies, link)
    {
        struct target *target = target_find(notify, watch->instance, watch->cookie);
        if (target && !concerns(notify, notify->request->ops.head.client, watcher))
            target->left = true;
    }
}

static void add_watch(struct pg_watched *watched, const struct watcher_layout *watcher,
                      const struct pg_request *request, uint64_t heard_ns)
{
    struct pg *pg = watched->pg;
    struct watch *watch = calloc(1, sizeof *watch);
    if (!watch) {
        pg_fatal(pg, -ENOMEM, "no memory for a watch");
        return;
    }
    watch->instance = watcher->instance;
    watch->cookie = watcher->cookie;
    watch->mode = watcher->mode;
    watch->heard_ns = heard_ns;
    watch->timeout_ns = watcher->timeout_ms * MSEC_NS;
    if (request->caller.instance == watcher->instance)
        watch->writer = request->session;
    pg->world->n_watches++;
    TAILQ_INSERT_TAIL(&watched->watches, watch, link);
}

/* `heard_ns`: what is taken for the last sign of life of those that are new to us (W2). */
static void follow_list(struct pg_request *request, struct pg_object *object,
                        const struct watchers *watchers, uint64_t heard_ns)
{
    struct pg *pg = request->pg;
    struct pg_watched *watched = watched_find(pg, object->bytes, object->len);
    if (!watched && watchers->n == 0)
        return;
    if (!watched)
        watched = watched_get(pg, object);
    if (!watched)
        return;
    struct watch *watch, *next;
    for (watch = TAILQ_FIRST(&watched->watches); watch; watch = next) {
        next = TAILQ_NEXT(watch, link);
        if (watchers_find(watchers, watch->instance, watch->cookie) != WATCHERS_MAX)
            continue;
        note_end(watched, watch);
        send_doubt(pg, watch);
        watch_free(watched, watch);
    }
    for (uint32_t i = 0; i < watchers->n; i++) {
        const struct watcher_layout *watcher = &watchers->list[i].head;
        watch = watch_find(watched, watcher->instance, watcher->cookie);
        if (watch)
            watch->timeout_ns = watcher->timeout_ms * MSEC_NS;
        if (watch)
            note_mode(watched, watch, watcher);
        else
            add_watch(watched, watcher, request, heard_ns);
    }
    watched_settle(watched);
    notifies_check(pg, object);
}

static void follow_bytes(struct pg_request *request, struct pg_object *object,
                         struct view_bytes value, uint64_t heard_ns, struct watchers *watchers)
{
    if (watchers_decode(value, watchers) == 0)
        follow_list(request, object, watchers, heard_ns);
}

void pg_watch_wrote(struct pg_request *request, struct pg_object *object, struct ops_run *run)
{
    struct pg *pg = request->pg;
    struct view_bytes value;
    /* W7. The map of the owner who ended it, or of the eviction. */
    if (run->ended_fenced && request->ops.head.epoch > pg->fenced_epoch)
        pg->fenced_epoch = request->ops.head.epoch;
    if (!pg->watched && !run->request->watches)
        return;
    if (!watchers_after(run, &value))
        return;
    struct watchers *watchers = malloc(sizeof *watchers);
    if (!watchers) {
        pg_fatal(pg, -ENOMEM, "no memory for watchers");
        return;
    }
    follow_bytes(request, object, value, clock_of(pg), watchers);
    free(watchers);
}

/* ---- Connections ---- */

static int connect_watch(struct pg_request *request, struct pg_object *object, uint64_t cookie)
{
    struct pg *pg = request->pg;
    struct pg_watched *watched = watched_find(pg, object->bytes, object->len);
    struct watch *watch = watched ? watch_find(watched, request->caller.instance, cookie) : NULL;
    if (!watch || watch->lapsed)
        return -ENOTCONN;
    watch->session = request->session;
    watch->writer = NULL;
    watch->heard_ns = clock_of(pg);
    watch->expired = false;
    struct pg_notify *notify;
    TAILQ_FOREACH(notify, &watched->notifies, link)
    {
        struct target *target = target_find(notify, watch->instance, watch->cookie);
        if (!target || target->answered || planted(PLANTED_NOTIFY_NOT_REPEATED))
            continue;
        note_recall(notify, watch, watch->heard_ns);
        tell(notify, watch);
    }
    return 0;
}

int pg_watch_read(struct pg_request *request, struct pg_object *object, struct ops_run *run,
                  int error)
{
    struct pg *pg = request->pg;
    if (error)
        return error;
    struct wire_op first = ops_step(&request->ops, 0);
    if (first.code == WIRE_OP_CODE_NOTIFY_ACK)
        return take_ack(request, object);
    struct watchers *watchers = run->saw_watchers ? malloc(sizeof *watchers) : NULL;
    if (!watchers)
        return run->saw_watchers ? -ENOMEM : 0;
    follow_bytes(request, object, run->watchers, pg->watch_since_ns, watchers);
    if (first.code == WIRE_OP_CODE_NOTIFY)
        error = notify_start(request, object, watchers);
    for (uint16_t i = 0; i < run->n_steps && !error; i++) {
        struct wire_op step = ops_step(&request->ops, i);
        if (step.code == WIRE_OP_CODE_WATCH_CONNECT && run->results[i].result == 0)
            error = connect_watch(request, object, step.length);
    }
    free(watchers);
    return error;
}

void pg_watch_ping(struct pg_request *request)
{
    struct pg *pg = request->pg;
    struct pg_watched *watched, *next;
    struct watch *watch;
    struct buf_slice data = BUF_SLICE_EMPTY;
    uint64_t now = clock_of(pg);
    HASH_ITER(hh, pg->watched, watched, next)
    {
        TAILQ_FOREACH(watch, &watched->watches, link)
        {
            if (watch->session == request->session && !watch->lapsed && !watch->expired)
                watch->heard_ns = now;
        }
    }
    struct ops_result result = {.result =
                                    buf_slice_copy(&pg->watch_life, sizeof pg->watch_life, &data)};
    struct wire_op_result step = {.data_len = (uint32_t)data.len};
    pg_request_finish(request, &result, &step, data);
}

void pg_watch_session_closed(struct pg *pg, const struct net_session *session)
{
    struct pg_watched *watched, *next;
    struct watch *watch;
    HASH_ITER(hh, pg->watched, watched, next)
    {
        TAILQ_FOREACH(watch, &watched->watches, link)
        {
            if (watch->session == session)
                watch->session = NULL;
            if (watch->writer == session)
                watch->writer = NULL;
        }
    }
}

/* ---- Evictions ---- */

/* A request of our own, as if a client had sent it. */
static struct pg_request *own_request(struct pg_watched *watched, const struct wire_op *step)
{
    struct pg *pg = watched->pg;
    struct encoder e;
    struct wire_osd_op head = {
        .tid = ++pg->world->own_tid,
        .epoch = pg_epoch(pg),
        .pool = pg->id.pool,
        .pg_seed = pg->id.seed,
        .flags = WIRE_OP_WRITE,
        .n_ops = 1,
    };
    struct pg_request *request = calloc(1, sizeof *request);
    encoder_init(&e);
    encode_bytes(&e, &head, sizeof head);
    encode_bytes(&e, watched->bytes, watched->len);
    encode_bytes(&e, step, sizeof *step);
    struct message *message = e.failed ? NULL : message_create(MSG_OSD_OP, e.len);
    if (message)
        memcpy(message->body, e.data, e.len);
    encoder_fini(&e);
    if (!message || !request || ops_decode(message, &request->ops)) {
        message_unref(message);
        free(request);
        return NULL;
    }
    request->message = message;
    request->caller = (struct ops_caller){.address = ""};
    request->own = true;
    return request;
}

static struct watch *watch_of(const struct pg_request *request)
{
    const struct pg_watched *watched =
        watched_find(request->pg, request->ops.id, request->ops.id_len);
    struct wire_op step = ops_step(&request->ops, 0);
    return watched ? watch_find(watched, step.offset, step.length) : NULL;
}

bool pg_own_request_wanted(const struct pg_request *request)
{
    const struct watch *watch = watch_of(request);
    return watch && watch->expired;
}

void pg_own_request_done(struct pg_request *request)
{
    struct watch *watch = watch_of(request);
    if (watch)
        watch->evicting = false;
    message_unref(request->message);
    free(request);
}

static void evict(struct pg_watched *watched, struct watch *watch)
{
    struct pg *pg = watched->pg;
    struct wire_op step = {
        .code = WIRE_OP_CODE_WATCH_EVICT, .offset = watch->instance, .length = watch->cookie};
    struct pg_request *request = own_request(watched, &step);
    if (!request)
        return; /* At the next tick. */
    log_info(pg->world->env, "watch evicted", "pg=%s client=%" PRIx64 " cookie=%" PRIu64 " mode=%u",
             pg_text(pg), watch->instance, watch->cookie, watch->mode);
    watch->evicting = true;
    pg_request(pg, request);
}

/* ---- Time ---- */

/*
 * A process that was stopped has not heard those who spoke meanwhile, and one that may not read has
 * not listened to them: their signs of life wait.
 */
static uint64_t slept_ns(struct pg *pg, uint64_t now)
{
    uint64_t since = pg->watch_ticked_ns;
    bool listens = !pg->serving || pg_lease_holds(pg) || planted(PLANTED_WATCH_DEAF_TIME);
    pg->watch_ticked_ns = now;
    if (since == 0 || (now - since < WATCH_TICK_LATE_NS && listens))
        return 0;
    pg->watch_woke_ns = now;
    return now - since;
}

/* Who came again while we slept has not been listened to yet: it has all of its time once more. */
static bool has_hung_up(const struct pg *pg, const struct watch *watch, uint64_t now)
{
    const struct net_session *session = watch->session ? watch->session : watch->writer;
    if (!session || session->hung_up_ns == 0)
        return false;
    uint64_t since = session->hung_up_ns;
    if (since < pg->watch_woke_ns)
        since = pg->watch_woke_ns;
    return now > since && now - since > WIRE_WATCH_HUNG_UP_MS * MSEC_NS;
}

/* Since it was recalled. */
static uint64_t patience_ns(const struct watch *watch)
{
    uint64_t least = watch->mode == WIRE_LEASE_FENCED ? WIRE_FENCE_PATIENCE_MS * MSEC_NS : 0;
    return watch->timeout_ns > least ? watch->timeout_ns : least;
}

/* W2: its owner may answer from what it has, and not ask. */
static bool keeps_data(const struct watch *watch)
{
    bool keeps = watch->mode == WIRE_LEASE_SHARED || watch->mode == WIRE_LEASE_FENCED;
    return keeps && !planted(PLANTED_WATCH_BLOCKED_AT_ONCE);
}

static bool is_silent(const struct watch *watch, uint64_t now)
{
    uint64_t limit =
        planted(PLANTED_WATCH_EVICTED_EARLY) ? watch->timeout_ns / 2 : watch->timeout_ns;
    return now > watch->heard_ns && now - watch->heard_ns > limit;
}

/* Of one that is not blocked. */
static void owner_gone(struct pg *pg, struct watch *watch, uint64_t now)
{
    if (watch->mode != WIRE_LEASE_FENCED || planted(PLANTED_WATCH_UNFENCED)) {
        watch->expired = true;
    } else if (watch->recalled_ns != 0 &&
               (watch->fenced_ns == 0 || now - watch->fenced_ns >= WATCH_FENCE_AGAIN_NS)) {
        watch->fenced_ns = now;
        pg->world->ops->fence(pg->world->ctx, watch->instance);
    }
}

static void watch_check(struct pg *pg, struct watch *watch, uint64_t now)
{
    const struct cluster_map *map = pg->world->map;
    bool lease = watch->mode != WIRE_LEASE_NONE;
    if (lease && !watch->lapsed && watch->recalled_ns != 0 &&
        now - watch->recalled_ns > patience_ns(watch)) {
        watch->lapsed = true;
        send_doubt(pg, watch);
    }
    bool blocked = map->n_blocked > 0 && map_blocks(map, watch->instance, NULL);
    bool gone = has_hung_up(pg, watch, now) || is_silent(watch, now);
    if (blocked && (gone || !keeps_data(watch)))
        watch->expired = true;
    else if (gone)
        owner_gone(pg, watch, now);
}

/* One at a time, since an eviction may run at once, and change everything. */
static bool evict_next(struct pg *pg)
{
    struct pg_watched *watched, *next;
    struct watch *watch;
    HASH_ITER(hh, pg->watched, watched, next)
    {
        TAILQ_FOREACH(watch, &watched->watches, link)
        {
            if (!watch->expired || watch->evicting)
                continue;
            evict(watched, watch);
            return true;
        }
    }
    return false;
}

void pg_watch_tick(struct pg *pg)
{
    struct pg_watched *watched, *next;
    struct watch *watch;
    uint64_t now = clock_of(pg), slept = slept_ns(pg, now);
    if (!pg->serving || !pg->watched)
        return;
    HASH_ITER(hh, pg->watched, watched, next)
    {
        TAILQ_FOREACH(watch, &watched->watches, link)
        {
            watch->heard_ns += slept;
            watch_check(pg, watch, now);
        }
    }
    for (uint32_t i = 0; i < WATCH_EVICTIONS_MAX && pg->serving && evict_next(pg); i++)
        continue;
}

/* ---- Life of the service ---- */

void pg_watch_begin(struct pg *pg)
{
    assert(!pg->watched);
    /* Another number than any other life of any process has. */
    pg->watch_life =
        pg->world->env->instance ^ (++pg->world->n_lives * UINT64_C(0x9e3779b97f4a7c15));
    pg->watch_since_ns = planted(PLANTED_WATCH_FAILOVER_FORGETS) ? 0 : clock_of(pg);
    pg->watch_ticked_ns = clock_of(pg);
}

void pg_watch_end(struct pg *pg)
{
    struct pg_watched *watched, *next;
    struct watch *watch;
    HASH_ITER(hh, pg->watched, watched, next)
    {
        assert(TAILQ_EMPTY(&watched->notifies));
        while ((watch = TAILQ_FIRST(&watched->watches)))
            watch_free(watched, watch);
        watched_settle(watched);
    }
    assert(!pg->watched);
}
