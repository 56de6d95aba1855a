/*
 * Watches, notifies, leases.
 *
 * What the core tells of a watch becomes a completion of its own, so that the driver makes the
 * callback (L4). Each holds a reference to the watch, as its user does.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/core/watch.h"
#include "client/object/inside.h"
#include "client/object/private.h"

static_assert((int)LIMPET_LEASE_NONE == (int)WIRE_LEASE_NONE, "one order");
static_assert((int)LIMPET_LEASE_SHARED == (int)WIRE_LEASE_SHARED, "one order");
static_assert((int)LIMPET_LEASE_EXCLUSIVE == (int)WIRE_LEASE_EXCLUSIVE, "one order");
static_assert((int)LIMPET_LEASE_FENCED == (int)WIRE_LEASE_FENCED, "one order");

struct limpet_watch {
    struct client_watch core;
    struct limpet_cluster *cluster;
    struct limpet_watch_calls calls;
    void *arg;
    atomic_uint refs;
    struct waiter waiter; /* Of who begins, changes or ends it. */
    int result;
    bool ended;                    /* No callback any more. */
    int lost;                      /* The error; 0: it is not. */
    LIST_ENTRY(limpet_watch) link; /* Of those that were left. */
    bool left;
    char names[];
};

static void watch_unref(struct limpet_watch *watch)
{
    if (atomic_fetch_sub(&watch->refs, 1) == 1)
        free(watch);
}

static struct limpet_watch *watch_of(struct client_watch *core)
{
    return container_of(core, struct limpet_watch, core);
}

/* ---- Callbacks ---- */

struct watch_call {
    struct limpet_watch *watch;
    int lost; /* 0: an event. */
    struct client_watch_event event;
    uint8_t data[];
};

static void make_call(struct limpet_completion *completion, void *arg)
{
    struct watch_call *call = arg;
    struct limpet_watch *watch = call->watch;
    const struct limpet_watch_calls *calls = &watch->calls;
    (void)completion;
    cluster_lock(watch->cluster);
    bool ended = watch->ended;
    cluster_unlock(watch->cluster);
    if (!ended && call->lost != 0 && calls->lost != NULL)
        calls->lost(watch, watch->arg, call->lost);
    else if (!ended && call->lost == 0 && call->event.recall && calls->recalled != NULL)
        calls->recalled(watch, watch->arg, call->event.mode);
    else if (!ended && call->lost == 0 && !call->event.recall && calls->notified != NULL)
        calls->notified(watch, watch->arg, call->event.notifier, call->event.notify_id, call->data,
                        call->event.len);
    watch_unref(watch);
    free(call);
}

/* With the lock held. */
static void queue(struct limpet_cluster *c, limpet_callback callback, void *arg)
{
    struct limpet_completion *completion;
    if (limpet_completion_create(callback, arg, &completion) != 0)
        abort(); /* Nobody could be told that something was lost. */
    completion->used = true;
    loop_call_back(c, completion);
}

static void queue_call(struct limpet_watch *watch, int lost, const struct client_watch_event *event)
{
    size_t len = event != NULL ? event->len : 0;
    struct watch_call *call = calloc(1, sizeof *call + len);
    if (call == NULL)
        abort();
    call->watch = watch;
    call->lost = lost;
    if (event != NULL)
        call->event = *event;
    if (len > 0)
        memcpy(call->data, event->data, len);
    atomic_fetch_add(&watch->refs, 1);
    queue(watch->cluster, make_call, call);
}

/* ---- What the core tells ---- */

static void finish(struct limpet_watch *watch, int error)
{
    watch->result = error;
    loop_done(watch->cluster, &watch->waiter);
}

static void on_began(struct client_watch *core, int error)
{
    finish(watch_of(core), error);
}

static void left_over(struct limpet_watch *watch)
{
    LIST_REMOVE(watch, link);
    watch->cluster->watches--;
    watch_unref(watch);
}

static void on_ended(struct client_watch *core, int error)
{
    struct limpet_watch *watch = watch_of(core);
    if (watch->left)
        left_over(watch);
    else
        finish(watch, error);
}

static void on_event(struct client_watch *core, const struct client_watch_event *event)
{
    queue_call(watch_of(core), 0, event);
}

static void on_lost(struct client_watch *core, int error)
{
    struct limpet_watch *watch = watch_of(core);
    /* That it was removed is noticed in two ways, which are one to the owner. */
    watch->lost = error == -ENOENT ? -ENOTCONN : public_error(error);
    queue_call(watch, watch->lost, NULL);
}

/* ---- Beginning and ending ---- */

static struct limpet_watch *watch_create(struct limpet_pool *pool, const char *name)
{
    const char *locator = strcmp(pool->locator, name) == 0 ? "" : pool->locator;
    /* With the zeros at their ends. */
    size_t name_len = strlen(name) + 1, space_len = strlen(pool->space) + 1;
    size_t locator_len = strlen(locator) + 1;
    struct limpet_watch *watch = calloc(1, sizeof *watch + name_len + space_len + locator_len);
    if (watch == NULL)
        return NULL;
    memcpy(watch->names, name, name_len);
    memcpy(watch->names + name_len, pool->space, space_len);
    memcpy(watch->names + name_len + space_len, locator, locator_len);
    atomic_init(&watch->refs, 1);
    watch->cluster = pool->cluster;
    watch->core.object = (struct object_id){
        .pool = pool->id,
        .snap = OBJECT_HEAD,
        .name = (const uint8_t *)watch->names,
        .name_len = (uint16_t)(name_len - 1),
        .space = (const uint8_t *)watch->names + name_len,
        .space_len = (uint16_t)(space_len - 1),
        .locator = (const uint8_t *)watch->names + name_len + space_len,
        .locator_len = (uint16_t)(locator_len - 1),
    };
    watch->core.began = on_began;
    watch->core.ended = on_ended;
    watch->core.event = on_event;
    watch->core.lost = on_lost;
    return watch;
}

/* With the lock held: the core does something, and finish() follows. */
static int wait_for(struct limpet_watch *watch)
{
    loop_wait(watch->cluster, &watch->waiter);
    atomic_store(&watch->waiter.done, false);
    return public_error(watch->result);
}

static int begin(struct limpet_watch *watch)
{
    struct limpet_cluster *c = watch->cluster;
    cluster_lock(c);
    int rc = c->client != NULL ? loop_start_driver(c) : -ENOTCONN;
    if (rc == 0) {
        c->watches++;
        client_watch(c->client, &watch->core);
        rc = wait_for(watch);
        if (rc != 0)
            c->watches--;
        else
            loop_flush(c);
    }
    cluster_unlock(c);
    return rc;
}

static int check_name(const char *name)
{
    size_t len = strnlen(name, OBJECT_NAME_MAX + 1);
    return len == 0 ? -EINVAL : len > OBJECT_NAME_MAX ? -ENAMETOOLONG : 0;
}

static int begin_new(struct limpet_pool *pool, const char *name, uint32_t mode, uint32_t timeout_ms,
                     uint32_t patience_ms, const struct limpet_watch_calls *calls, void *arg,
                     struct limpet_watch **out)
{
    int rc = check_name(name);
    struct limpet_watch *watch = rc == 0 ? watch_create(pool, name) : NULL;
    if (watch == NULL)
        return rc != 0 ? rc : -ENOMEM;
    if (calls != NULL)
        watch->calls = *calls;
    watch->arg = arg;
    watch->core.mode = mode;
    watch->core.timeout_ms = timeout_ms;
    watch->core.patience_ns = patience_ms * MSEC_NS;
    /* Callbacks may come before this returns. */
    *out = watch;
    rc = begin(watch);
    if (rc != 0) {
        *out = NULL;
        watch_unref(watch);
    }
    return rc;
}

int limpet_watch(struct limpet_pool *pool, const char *name, uint32_t timeout_ms,
                 const struct limpet_watch_calls *calls, void *arg, struct limpet_watch **out)
{
    return begin_new(pool, name, WIRE_LEASE_NONE, timeout_ms, 0, calls, arg, out);
}

int limpet_unwatch(struct limpet_watch *watch)
{
    struct limpet_cluster *c = watch->cluster;
    int rc = -ENOTCONN;
    cluster_lock(c);
    watch->ended = true;
    if (c->client != NULL) {
        client_unwatch(c->client, &watch->core);
        rc = wait_for(watch);
        c->watches--;
    }
    cluster_unlock(c);
    watch_unref(watch);
    return rc == -ENOENT ? 0 : rc;
}

void watch_end_lease(struct limpet_watch *lease)
{
    struct limpet_cluster *c = lease->cluster;
    cluster_lock(c);
    bool late = c->client != NULL && client_is_late(c->client);
    if (late) {
        lease->ended = lease->left = true;
        LIST_INSERT_HEAD(&c->left, lease, link);
        client_unwatch(c->client, &lease->core);
        loop_submitted(c);
    }
    cluster_unlock(c);
    if (late)
        return;
    int rc = limpet_unwatch(lease);
    (void)rc; /* The core goes on with it (V4), or others wait for its time-out. */
}

void watch_forget_left(struct limpet_cluster *c)
{
    struct limpet_watch *watch;
    while ((watch = LIST_FIRST(&c->left)) != NULL)
        left_over(watch);
}

void limpet_watch_release(struct limpet_watch *watch)
{
    watch_unref(watch);
}

uint64_t limpet_watch_cookie(const struct limpet_watch *watch)
{
    return watch->core.cookie;
}

int64_t limpet_watch_check(struct limpet_watch *watch)
{
    struct limpet_cluster *c = watch->cluster;
    cluster_lock(c);
    int64_t result = watch->lost != 0 ? watch->lost : -ENOTCONN;
    if (c->client != NULL && client_watch_valid(&watch->core))
        result = (int64_t)(client_watch_age(&watch->core) / MSEC_NS);
    cluster_unlock(c);
    return result;
}

int cluster_call(struct limpet_cluster *c, limpet_callback callback, void *arg)
{
    cluster_lock(c);
    int rc = c->client != NULL ? loop_start_driver(c) : -ENOTCONN;
    if (rc == 0) {
        queue(c, callback, arg);
        loop_submitted(c);
    }
    cluster_unlock(c);
    return rc;
}

bool cluster_calls_back(struct limpet_cluster *c)
{
    return loop_calls_back(c);
}

bool cluster_calls_users_back(struct limpet_cluster *c)
{
    return loop_on_driver(c);
}

bool cluster_may_poll(struct limpet_cluster *c)
{
    cluster_lock(c);
    /* With more under way the library's thread is awake, and needs not be told who polls next. */
    bool may = c->client != NULL && c->ops_pending == 0 && !loop_calls_back(c);
    if (may)
        loop_wait_follows();
    cluster_unlock(c);
    return may;
}

void cluster_wait(struct limpet_cluster *c, struct waiter *waiter)
{
    cluster_lock(c);
    loop_wait_for_async(c, waiter);
    cluster_unlock(c);
}

void cluster_wake(struct limpet_cluster *c, struct waiter *waiter)
{
    cluster_lock(c);
    loop_done_by_callback(c, waiter);
    cluster_unlock(c);
}

struct flush {
    struct limpet_cluster *cluster;
    struct waiter waiter;
};

static void flushed(struct limpet_completion *completion, void *arg)
{
    struct flush *flush = arg;
    struct limpet_cluster *c = flush->cluster;
    (void)completion;
    cluster_lock(c);
    loop_done_by_callback(c, &flush->waiter);
    cluster_unlock(c);
}

int limpet_watch_flush(struct limpet_cluster *c)
{
    struct flush flush = {.cluster = c};
    int rc = 0;
    cluster_lock(c);
    if (loop_calls_back(c))
        rc = -EDEADLK;
    else if (c->driver != DRIVER_NONE && c->client != NULL) {
        queue(c, flushed, &flush);
        loop_flush(c);
        loop_wait(c, &flush.waiter);
    }
    cluster_unlock(c);
    return rc;
}

/* ---- Notifies ---- */

struct limpet_answers {
    uint32_t answered, missed; /* That were not given yet. */
    bool in_missed;
    struct decoder decoder;
    uint8_t bytes[];
};

static bool is_outcome(const void *data, size_t len, uint32_t *answered, uint32_t *missed)
{
    struct decoder d;
    uint32_t answer_len;
    decoder_init(&d, data, len);
    *answered = decode_u32(&d);
    for (uint32_t i = 0; i < *answered && !d.failed; i++) {
        decode_u64(&d);
        decode_u64(&d);
        decode_string32(&d, &answer_len);
    }
    *missed = decode_u32(&d);
    decode_bytes(&d, (size_t)*missed * 2 * sizeof(uint64_t));
    return decoder_end(&d) == 0;
}

static int take_answers(struct step_out *out, const void *data, size_t len)
{
    struct limpet_answers **to = out->to;
    uint32_t answered, missed;
    if (!is_outcome(data, len, &answered, &missed))
        return -EPROTO;
    struct limpet_answers *answers = malloc(sizeof *answers + len);
    if (answers == NULL)
        return -ENOMEM;
    *answers = (struct limpet_answers){.answered = answered, .missed = missed};
    memcpy(answers->bytes, data, len);
    decoder_init(&answers->decoder, answers->bytes, len);
    decode_u32(&answers->decoder);
    *to = answers;
    return 0;
}

int limpet_answers_next(struct limpet_answers *answers, struct limpet_answer *out)
{
    struct decoder *d = &answers->decoder;
    uint32_t len;
    memset(out, 0, sizeof *out);
    if (answers->answered > 0) {
        answers->answered--;
        out->watcher = decode_u64(d);
        out->cookie = decode_u64(d);
        out->data = decode_string32(d, &len);
        out->len = len;
        return 0;
    }
    if (answers->missed == 0)
        return -ENOENT;
    if (!answers->in_missed)
        decode_u32(d);
    answers->in_missed = true;
    answers->missed--;
    out->missed = true;
    out->watcher = decode_u64(d);
    out->cookie = decode_u64(d);
    return 0;
}

void limpet_answers_destroy(struct limpet_answers *answers)
{
    free(answers);
}

static int add_notify(struct limpet_op *op, enum wire_notify kind, const void *data, size_t len,
                      uint32_t timeout_ms, struct limpet_answers **out, int *result)
{
    *out = NULL;
    int rc = request_add_data(&op->request, WIRE_OP_CODE_NOTIFY, kind, data, len);
    if (rc != 0)
        return rc;
    request_step(&op->request)->length = timeout_ms != 0 ? timeout_ms : WIRE_NOTIFY_TIMEOUT_MS;
    op->request.op.patient = true;
    request_out(&op->request)->take = take_answers;
    request_out(&op->request)->to = out;
    request_out(&op->request)->result = result;
    return 0;
}

int limpet_op_notify(struct limpet_op *op, const void *data, size_t len, uint32_t timeout_ms,
                     struct limpet_answers **out, int *result)
{
    *out = NULL;
    if (len > WIRE_NOTIFY_BYTES_MAX)
        return -EFBIG;
    return add_notify(op, WIRE_NOTIFY, data, len, timeout_ms, out, result);
}

/* Waits. -ETIMEDOUT: some have not answered. */
static int notify(struct limpet_pool *pool, const char *name, enum wire_notify kind,
                  const void *data, size_t len, uint32_t timeout_ms, struct limpet_answers **out)
{
    struct limpet_answers *answers = NULL;
    struct limpet_op *op = limpet_op_create();
    int rc = op != NULL ? add_notify(op, kind, data, len, timeout_ms, &answers, NULL) : -ENOMEM;
    if (rc == 0)
        rc = limpet_operate(pool, name, op, NULL);
    limpet_op_destroy(op);
    if (rc == 0 && answers != NULL && answers->missed > 0)
        rc = -ETIMEDOUT;
    if (out != NULL)
        *out = answers;
    else
        free(answers);
    return rc;
}

int limpet_notify(struct limpet_pool *pool, const char *name, const void *data, size_t len,
                  uint32_t timeout_ms, struct limpet_answers **out)
{
    if (len > WIRE_NOTIFY_BYTES_MAX) {
        if (out != NULL)
            *out = NULL;
        return -EFBIG;
    }
    return notify(pool, name, WIRE_NOTIFY, data, len, timeout_ms, out);
}

struct ack {
    struct client_op op;
    struct limpet_watch *watch; /* Whose names it uses. */
};

static void ack_done(struct client_op *op)
{
    struct ack *ack = container_of(op, struct ack, op);
    buf_slice_drop(&op->steps[0].data);
    watch_unref(ack->watch);
    free(ack);
}

int limpet_notify_ack(struct limpet_watch *watch, uint64_t notifier, uint64_t id, const void *data,
                      size_t len)
{
    struct limpet_cluster *c = watch->cluster;
    struct ack *ack = calloc(1, sizeof *ack);
    if (ack == NULL)
        return -ENOMEM;
    cluster_lock(c);
    int rc = c->client == NULL
                 ? -ENOTCONN
                 : client_ack_op(&ack->op, notifier, id, watch->core.cookie, data, len);
    if (rc == 0) {
        ack->watch = watch;
        atomic_fetch_add(&watch->refs, 1);
        ack->op.object = watch->core.object;
        ack->op.done = ack_done;
        client_submit(c->client, &ack->op);
        loop_submitted(c);
    }
    cluster_unlock(c);
    if (rc != 0)
        free(ack);
    return rc;
}

/* ---- Watchers ---- */

struct watcher_list {
    struct limpet_watcher *list;
    size_t n;
};

static int decode_watcher(struct decoder *d, struct limpet_watcher *out)
{
    uint8_t address_len;
    memset(out, 0, sizeof *out);
    out->instance = decode_u64(d);
    out->cookie = decode_u64(d);
    out->timeout_ms = decode_u32(d);
    out->mode = decode_u8(d);
    address_len = decode_u8(d);
    decode_u16(d);
    const void *address = decode_bytes(d, address_len);
    if (address == NULL || address_len >= sizeof out->address)
        return -EPROTO;
    memcpy(out->address, address, address_len);
    return 0;
}

static int take_watchers(struct step_out *out, const void *data, size_t len)
{
    struct watcher_list *to = out->to;
    struct decoder d;
    decoder_init(&d, data, len);
    uint32_t n = decode_u32(&d);
    if (d.failed || n > len)
        return -EPROTO;
    to->list = calloc(n + 1, sizeof *to->list);
    if (to->list == NULL)
        return -ENOMEM;
    for (to->n = 0; to->n < n; to->n++) {
        int rc = decode_watcher(&d, &to->list[to->n]);
        if (rc != 0)
            return rc;
    }
    return decoder_end(&d) == 0 ? 0 : -EPROTO;
}

int limpet_watchers(struct limpet_pool *pool, const char *name, struct limpet_watcher **out,
                    size_t *n)
{
    struct watcher_list list = {0};
    struct limpet_op *op = limpet_op_create();
    int rc = op == NULL ? -ENOMEM : request_add(&op->request, WIRE_OP_CODE_WATCH_LIST, 0, 0);
    if (rc == 0) {
        request_out(&op->request)->take = take_watchers;
        request_out(&op->request)->to = &list;
        rc = limpet_operate(pool, name, op, NULL);
    }
    limpet_op_destroy(op);
    if (rc != 0) {
        free(list.list);
        return rc;
    }
    *out = list.list;
    *n = list.n;
    return 0;
}

/* ---- Blocking ---- */

int limpet_block_address(struct limpet_cluster *c, const char *address, uint32_t seconds)
{
    char json[192];
    /* What is in an address; anything else would have to be quoted. */
    if (strspn(address, "0123456789abcdefABCDEF.:[]/") != strlen(address) || strlen(address) > 96)
        return -EINVAL;
    snprintf(json, sizeof json,
             "{\"prefix\": \"osd blocklist add\", \"addr\": \"%s\", \"expire\": %u}", address,
             seconds);
    return limpet_command(c, json, NULL, 0, 0, NULL, NULL, NULL);
}

int limpet_block(struct limpet_cluster *c, uint64_t instance, uint32_t seconds)
{
    char address[40];
    if (instance == 0)
        return -EINVAL;
    snprintf(address, sizeof address, "0.0.0.0:0/%" PRIu64, instance);
    return limpet_block_address(c, address, seconds);
}

/* ---- Leases ---- */

static bool is_lease(enum limpet_lease_mode mode)
{
    return mode >= LIMPET_LEASE_SHARED && mode <= LIMPET_LEASE_FENCED;
}

int limpet_lease(struct limpet_pool *pool, const char *name, enum limpet_lease_mode mode,
                 uint32_t timeout_ms, uint32_t patience_ms, const struct limpet_watch_calls *calls,
                 void *arg, struct limpet_watch **out)
{
    if (!is_lease(mode))
        return -EINVAL;
    return begin_new(pool, name, (uint32_t)mode, timeout_ms, patience_ms, calls, arg, out);
}

uint64_t limpet_lease_valid(const struct limpet_watch *lease)
{
    struct limpet_cluster *c = lease->cluster;
    cluster_lock(c);
    uint64_t until = c->client != NULL ? client_watch_until(&lease->core) : 0;
    uint64_t now = c->client != NULL ? env_clock(c->env) : 0;
    cluster_unlock(c);
    return until > now ? until - now : 0;
}

int limpet_lease_change(struct limpet_watch *lease, enum limpet_lease_mode mode,
                        uint32_t patience_ms)
{
    struct limpet_cluster *c = lease->cluster;
    if (mode != LIMPET_LEASE_NONE && !is_lease(mode))
        return -EINVAL;
    if (mode == LIMPET_LEASE_FENCED || lease->core.mode == WIRE_LEASE_FENCED)
        return -EINVAL;
    cluster_lock(c);
    int rc = c->client == NULL ? -ENOTCONN : lease->lost;
    if (rc == 0) {
        lease->core.patience_ns = patience_ms * MSEC_NS;
        client_watch_change(c->client, &lease->core, (uint32_t)mode);
        rc = wait_for(lease);
    }
    cluster_unlock(c);
    return rc;
}

int limpet_recall(struct limpet_pool *pool, const char *name, enum limpet_lease_mode mode,
                  uint64_t own, uint32_t timeout_ms)
{
    const struct wire_recall recall = {.cookie = own, .mode = (uint32_t)mode};
    if (!is_lease(mode))
        return -EINVAL;
    return notify(pool, name, WIRE_RECALL, &recall, sizeof recall, timeout_ms, NULL);
}

int limpet_op_assert_lease(struct limpet_op *op, const struct limpet_watch *lease,
                           enum limpet_lease_mode mode)
{
    return request_add(&op->request, WIRE_OP_CODE_WATCH_ASSERT, (uint64_t)mode, lease->core.cookie);
}
