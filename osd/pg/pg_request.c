/*
 * Client requests on their way: held while the group does not serve, in line for their object,
 * running, or waiting for a commit that makes their answer true.
 */
#include "osd/pg/pg_impl.h"

#include <errno.h>

#include "common/planted.h"
#include "common/witness.h"
#include "osd/pg/pg_watch.h"

static struct pg_request_list *list_of(struct pg *pg, enum request_place place)
{
    switch (place) {
    case REQUEST_HELD:
        return &pg->held;
    case REQUEST_QUEUED:
        return &pg->queued;
    case REQUEST_UNLEASED:
        return &pg->unleased;
    case REQUEST_RUNNING:
    case REQUEST_WRITING:
        return &pg->running;
    case REQUEST_WAITING:
        return &pg->waiting;
    case REQUEST_NOTIFYING:
        return &pg->notifying;
    case REQUEST_NOWHERE:
        break;
    }
    return NULL;
}

void pg_request_place(struct pg_request *request, enum request_place place)
{
    struct pg *pg = request->pg;
    struct pg_request_list *from = list_of(pg, (enum request_place)request->place);
    struct pg_request_list *to = list_of(pg, place);
    if (from)
        TAILQ_REMOVE(from, request, link);
    if (to)
        TAILQ_INSERT_TAIL(to, request, link);
    request->place = (uint8_t)place;
}

static void leave_window(struct pg_request *request)
{
    assert(request->pg->window_bytes >= request->window_bytes);
    request->pg->window_bytes -= request->window_bytes;
    request->window_bytes = 0;
}

/* Lets go of whatever the request was waiting for. */
static void detach(struct pg_request *request)
{
    pg_object_leave(&request->waiter);
    if (request->place == REQUEST_UNLEASED)
        pg_lease_leave(request);
    else if (request->place == REQUEST_RUNNING && request->ops.list)
        pg_list_disown(request);
    else if (request->place == REQUEST_RUNNING)
        pg_run_disown(request);
    else if (request->place == REQUEST_WRITING)
        ((struct pg_write *)request->operation)->request = NULL;
    else if (request->place == REQUEST_NOTIFYING && request->operation)
        pg_notify_disown(request);
    request->operation = NULL;
    leave_window(request);
    pg_request_place(request, REQUEST_NOWHERE);
}

void pg_request_finish(struct pg_request *request, const struct ops_result *result,
                       const struct wire_op_result *steps, struct buf_slice data)
{
    struct pg *pg = request->pg;
    struct ops_result answer = *result;
    answer.epoch = pg_epoch(pg);
    answer.fenced = request->ops.head.epoch < pg->fenced_epoch;
    bool counted = request->place != REQUEST_NOWHERE && request->place != REQUEST_HELD &&
                   request->place != REQUEST_NOTIFYING;
    if (counted && !request->ops.list)
        pg_throttle_client_end(&pg->world->turns.throttle, request->begun_ns,
                               env_now(pg->world->env));
    detach(request);
    if (request->ops.write && answer.version.sequence > 0 && !request->own)
        witness_pg(pg, PG_MOMENT_ACKNOWLEDGES,
                   &(struct pg_testimony){.version = answer.version,
                                          .client = request->ops.head.client,
                                          .tid = request->ops.head.tid});
    if (request->own) {
        buf_slice_drop(&data);
        pg_own_request_done(request);
        return;
    }
    struct message *reply = ops_reply(&request->ops.head, &answer, steps, data);
    pg->world->ops->request_done(pg->world->ctx, request, reply);
}

void pg_request_answer(struct pg_request *request, const struct ops_result *result,
                       const void *answer, size_t answer_len)
{
    struct wire_op_result steps[WIRE_OPS_MAX];
    struct buf_slice data;
    struct ops_result outcome = *result;
    if (answer_len == 0) {
        pg_request_finish(request, result, NULL, BUF_SLICE_EMPTY);
        return;
    }
    int error =
        ops_answer_parse(answer, answer_len, request->ops.head.n_ops, &outcome, steps, &data);
    if (error)
        outcome.result = error == -EBADMSG ? -EINVAL : error;
    pg_request_finish(request, &outcome, error ? NULL : steps, data);
}

bool pg_request_is_blocked(const struct pg_request *request)
{
    const struct cluster_map *map = request->pg->world->map;
    return map->n_blocked > 0 && !request->own &&
           map_blocks(map, request->caller.instance, request->caller.peer);
}

void pg_request_fail(struct pg_request *request, int error)
{
    struct ops_result result = {.result = error};
    pg_request_finish(request, &result, NULL, BUF_SLICE_EMPTY);
}

void pg_request_orphan(struct pg_request *request)
{
    struct pg *pg = request->pg;
    detach(request);
    pg->world->ops->request_done(pg->world->ctx, request, NULL);
    pg_requests_admit(pg);
}

/* ---- Admission ---- */

static void object_ready(struct object_waiter *waiter, struct pg_object *object, int error)
{
    struct pg_request *request = container_of(waiter, struct pg_request, waiter);
    if (error) {
        log_error(request->pg->world->env, "object unreadable", "pg=%s name=%.*s error=\"%s\"",
                  pg_text(request->pg), (int)object->id.name_len, (const char *)object->id.name,
                  error_text(error));
        pg_request_fail(request, -EIO);
    } else if (pg_request_is_blocked(request)) {
        pg_request_fail(request, -ESHUTDOWN);
    } else if (request->ops.write) {
        pg_write_start(request, object);
    } else {
        pg_read_start(request, object);
    }
}

static void start(struct pg_request *request)
{
    if (request->ops.list && pg_request_is_blocked(request)) {
        pg_request_fail(request, -ESHUTDOWN);
        return;
    }
    if (request->ops.list) {
        pg_list_start(request);
        return;
    }
    pg_request_place(request, REQUEST_QUEUED);
    request->waiter.writes = request->ops.write;
    request->waiter.ready = object_ready;
    if (!TAILQ_EMPTY(&request->pg->fills))
        pg_fill_wanted(request->pg, request->ops.id, request->ops.id_len);
    if (pg_object_enter(request->pg, request->ops.id, request->ops.id_len, &request->waiter))
        pg_request_fail(request, -ENOMEM);
}

/* The window bounds by how much copies can differ when a primary fails. */
static bool fits_window(const struct pg *pg, const struct pg_request *request, uint32_t *bytes)
{
    *bytes = 0;
    if (!request->ops.write)
        return true;
    *bytes = (uint32_t)sizeof(struct pg_entry_layout) + request->ops.id_len + PG_ENTRY_EXTENTS;
    if (request->ops.answers)
        *bytes += PG_ANSWER_MAX;
    return pg->window_bytes + *bytes <= PG_WINDOW_BYTES;
}

void pg_requests_admit(struct pg *pg)
{
    if (pg->admitting)
        return;
    pg->admitting = true;
    struct pg_request *request;
    uint32_t bytes;
    /* With too few members they wait until one was added: a new configuration. */
    while (pg->serving && pg->view.active && (request = TAILQ_FIRST(&pg->held)) &&
           fits_window(pg, request, &bytes)) {
        request->begun_ns = env_now(pg->world->env);
        pg_throttle_client_begin(&pg->world->turns.throttle, request->begun_ns);
        request->window_bytes = bytes;
        pg->window_bytes += bytes;
        start(request);
    }
    pg->admitting = false;
}

void pg_request(struct pg *pg, struct pg_request *request)
{
    assert(request->place == REQUEST_NOWHERE);
    request->pg = pg;
    /*
     * A client's requests have an order. What was sent under a map from before our time may have
     * had others before it that were refused, here or elsewhere, and are on their way again: it
     * must not overtake them. Its sender sends all of them again when it knows the map.
     */
    bool overtakes =
        request->ops.head.epoch < pg->primary_since && !planted(PLANTED_OVERTAKE_REFUSED);
    if (!pg_is_primary(pg) || overtakes) {
        pg_request_fail(request, -ELIMPET_NOT_PRIMARY);
        return;
    }
    pg_request_place(request, REQUEST_HELD);
    pg_requests_admit(pg);
}

/* ---- When the group stops serving ---- */

/* To the front of those that are held. */
static void hold(struct pg_request *request)
{
    detach(request);
    TAILQ_INSERT_HEAD(&request->pg->held, request, link);
    request->place = REQUEST_HELD;
}

/* Backwards, each to the front: the order in which they came to their objects stays. */
static void hold_all(struct pg_request_list *list)
{
    struct pg_request *request;
    while ((request = TAILQ_LAST(list, pg_request_list)))
        hold(request);
}

/*
 * Writes that look at their objects have not happened yet, nor have readers seen anything that
 * still wait for a clone: they begin again, before others.
 */
static void withdraw_looking(struct pg *pg)
{
    struct pg_request *request, *before;
    for (request = TAILQ_LAST(&pg->running, pg_request_list); request; request = before) {
        before = TAILQ_PREV(request, pg_request_list, link);
        if (request->place != REQUEST_RUNNING || request->ops.list ||
            (!request->ops.write && !pg_run_waits(request)))
            continue;
        hold(request);
    }
}

void pg_requests_withdraw(struct pg *pg)
{
    pg->serving = false;
    pg_trim_stop(pg);
    hold_all(&pg->queued);
    hold_all(&pg->unleased);
    hold_all(&pg->notifying);
    withdraw_looking(pg);
    pg_watch_end(pg);
}

void pg_request_hold_again(struct pg_request *request)
{
    struct pg *pg = request->pg;
    /* Those in line for its object came after it. */
    if (!planted(PLANTED_HELD_AGAIN_LAST))
        hold_all(&pg->queued);
    hold(request);
    /* The group may have begun to serve anew meanwhile. */
    pg_requests_admit(pg);
}

void pg_requests_refuse(struct pg *pg)
{
    assert(!pg->serving);
    struct pg_request_list *lists[] = {&pg->running, &pg->waiting, &pg->unleased,
                                       &pg->queued,  &pg->held,    &pg->notifying};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        struct pg_request *request;
        while ((request = TAILQ_FIRST(lists[i])))
            pg_request_fail(request, -ELIMPET_NOT_PRIMARY);
    }
}

void pg_requests_answer_waiting(struct pg *pg)
{
    struct pg_request *request, *next;
    for (request = TAILQ_FIRST(&pg->waiting); request; request = next) {
        next = TAILQ_NEXT(request, link);
        if (request->wait_sequence <= pg->committed)
            pg_write_answer(request, pg_log_get(&pg->log, request->wait_sequence));
    }
}
