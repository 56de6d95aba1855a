#include "mon/leader.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/planted.h"

#define LEADER_TICK_NS SEC_NS

static_assert((int)MON_STATUS_MAX == (int)EXECUTED_STATUS_MAX, "a status can be remembered");

static void run_fire(struct env_task *task);
static void tick_fire(struct env_timer *timer);

struct leader *leader_create(struct mon *mon)
{
    struct leader *leader = calloc(1, sizeof *leader);

    if (leader == NULL)
        return NULL;
    leader->mon = mon;
    leader->machine = machine_create();
    if (leader->machine == NULL) {
        free(leader);
        return NULL;
    }
    TAILQ_INIT(&leader->waiting);
    TAILQ_INIT(&leader->staged);
    leader->run_task.run = run_fire;
    leader->tick.fire = tick_fire;
    return leader;
}

/* ---- Requests ---- */

static void request_free(struct request *request)
{
    if (request->message != NULL)
        message_unref(request->message);
    if (request->args != NULL)
        json_decref(request->args);
    encoder_fini(&request->output);
    free(request);
}

static void waiting_add(struct leader *leader, struct request *request)
{
    encoder_init(&request->output);
    TAILQ_INSERT_TAIL(&leader->waiting, request, link);
    leader->n_waiting++;
    env_defer(leader->mon->env, &leader->run_task);
}

static struct request *waiting_take(struct leader *leader)
{
    struct request *request = TAILQ_FIRST(&leader->waiting);

    TAILQ_REMOVE(&leader->waiting, request, link);
    leader->n_waiting--;
    return request;
}

/* Reports that need no entry. True when it was one. */
static bool report_take(struct leader *leader, const struct request *request)
{
    if (request->message->type == MSG_OSD_STATS)
        leader_stats(leader, request);
    else if (request->message->type == MSG_OSD_FAILURE)
        leader_failure(leader, request);
    else
        return false;
    return true;
}

int leader_submit(struct leader *leader, struct message *message,
                  const struct request_origin *origin)
{
    if (consensus_leader(leader->mon->consensus) != leader->mon->self.id)
        return -ELIMPET_NOT_LEADER;
    if (leader->n_waiting >= MON_REQUESTS_MAX)
        return -EBUSY;
    struct request *request = calloc(1, sizeof *request);
    if (request == NULL)
        return -ENOMEM;
    request->kind = REQUEST_MESSAGE;
    request->message = message_ref(message);
    request->token = origin->token;
    request->via = origin->via;
    request->sender = origin->sender;
    request->instance = origin->instance;
    request->caps = origin->caps;
    if (leader->active && report_take(leader, request))
        request_free(request);
    else
        waiting_add(leader, request);
    return 0;
}

static bool list_has(const struct request_list *list, enum request_kind kind, int32_t osd,
                     uint64_t osd_instance, uint64_t pool)
{
    const struct request *request;

    TAILQ_FOREACH(request, list, link)
    {
        if (request->kind == kind && request->osd == osd && request->osd_instance == osd_instance &&
            request->pool == pool)
            return true;
    }
    return false;
}

void leader_request(struct leader *leader, enum request_kind kind, int32_t osd,
                    uint64_t osd_instance, uint64_t pool)
{
    if (!leader->active || list_has(&leader->waiting, kind, osd, osd_instance, pool) ||
        list_has(&leader->staged, kind, osd, osd_instance, pool))
        return;
    struct request *request = calloc(1, sizeof *request);
    if (request == NULL)
        return;
    request->kind = kind;
    request->osd = osd;
    request->osd_instance = osd_instance;
    request->pool = pool;
    waiting_add(leader, request);
}

/* ---- Answers ---- */

void leader_answer(struct leader *leader, const struct request *request, uint16_t type,
                   const ProtobufCMessage *body, struct buf_slice payload)
{
    struct message *message = message_pack(type, body);

    if (message == NULL) {
        buf_slice_drop(&payload);
        return;
    }
    if (request->via == NULL) {
        forward_answer(leader->mon, request->token, type, message->body, message->body_len,
                       payload);
    } else {
        Limpet__Wire__ForwardReply reply = LIMPET__WIRE__FORWARD_REPLY__INIT;
        reply.token = request->token;
        reply.type = type;
        reply.body.len = message->body_len;
        reply.body.data = message->body;
        session_send(leader->mon, request->via, MSG_FORWARD_REPLY, &reply.base, payload);
    }
    message_unref(message);
}

static void answer_command(struct leader *leader, struct request *request)
{
    Limpet__Wire__MonCommandReply reply = LIMPET__WIRE__MON_COMMAND_REPLY__INIT;
    struct buf_slice payload = BUF_SLICE_EMPTY;

    if (request->output.failed ||
        (request->output.len > 0 &&
         buf_slice_copy(request->output.data, request->output.len, &payload) != 0)) {
        request->result = -ENOMEM;
        snprintf(request->status, sizeof request->status, "the monitor is short of memory");
    }
    reply.tid = request->tid;
    reply.result = request->result;
    reply.status = request->status;
    reply.has_epoch = true;
    reply.epoch = leader->mon->state.map->epoch;
    leader_answer(leader, request, MSG_MON_COMMAND_REPLY, &reply.base, payload);
}

/*
 * Requests whose fate we shall not know. Whoever took a command from its sender hears of it: that
 * monitor does not see a leadership which is lost and won again as two, and would wait for ever.
 */
static void list_forget(struct leader *leader, struct request_list *list)
{
    struct request *request;

    while ((request = TAILQ_FIRST(list)) != NULL) {
        TAILQ_REMOVE(list, request, link);
        if (request->kind == REQUEST_MESSAGE && request->message->type == MSG_MON_COMMAND &&
            !planted(PLANTED_LEADER_FORGETS))
            forward_decline(leader->mon, request->via, request->token);
        request_free(request);
    }
}

/* What became of a request is decided. */
static void request_finish(struct leader *leader, struct request *request)
{
    const struct map_pool *pool;

    if (request->kind == REQUEST_MESSAGE && request->message->type == MSG_MON_COMMAND) {
        answer_command(leader, request);
    } else if (request->kind == REQUEST_COMPACT) {
        pool = map_pool(leader->mon->state.map, request->pool);
        if (pool != NULL)
            stats_compacted(leader->mon->stats, pool->id, pool->config_base);
    }
    request_free(request);
}

void leader_session_gone(struct leader *leader, const struct mon_session *session)
{
    struct request_list *lists[] = {&leader->waiting, &leader->staged};
    struct request *request;
    struct request *next;

    for (int i = 0; i < 2; i++) {
        TAILQ_FOREACH_SAFE(request, lists[i], link, next)
        {
            if (request->via != session)
                continue;
            TAILQ_REMOVE(lists[i], request, link);
            if (i == 0)
                leader->n_waiting--;
            request_free(request);
        }
    }
}

/* ---- Batches ---- */

/* 0, an error of this request, or -EINPROGRESS: it must wait for the next batch. */
static int request_stage(struct leader *leader, struct batch *batch, struct request *request)
{
    const struct map_osd *osd;

    switch (request->kind) {
    case REQUEST_INITIAL:
        return leader_stage_initial(leader, batch);
    case REQUEST_DOWN:
    case REQUEST_ENDED:
        osd = map_osd(change_map(batch->change), request->osd);
        if (osd == NULL || osd->instance != request->osd_instance ||
            (change_map(batch->change)->flags & MAP_NODOWN) != 0)
            return 0;
        return machine_osd_down(batch->change, request->osd, request->kind == REQUEST_ENDED);
    case REQUEST_AUTO_OUT:
        osd = map_osd(change_map(batch->change), request->osd);
        if (osd == NULL || osd->up)
            return 0;
        return machine_osd_out(batch->change, request->osd, true);
    case REQUEST_PURGE:
        return leader_stage_purge(leader, batch, request->pool);
    case REQUEST_COMPACT:
        return machine_pool_compact(batch->change, request->pool);
    case REQUEST_UNBLOCK:
        return machine_unblock_until(batch->change, env_wall(leader->mon->env));
    case REQUEST_MESSAGE:
        break;
    }
    switch (request->message->type) {
    case MSG_MON_COMMAND:
        return command_stage(leader, batch, request);
    case MSG_OSD_BOOT:
        return leader_stage_boot(leader, batch, request);
    case MSG_PG_ADD_MEMBER:
        return leader_stage_add_member(leader, batch, request);
    case MSG_OSD_FENCE:
        return leader_stage_fence(leader, batch, request);
    default:
        return 0;
    }
}

static int batch_propose(struct leader *leader, struct batch *batch)
{
    struct encoder e;
    int rc = 0;

    if (!change_empty(batch->change))
        rc = change_encode(batch->change, &batch->entry.increment);
    encoder_init(&e);
    if (rc == 0)
        rc = mon_entry_encode(&batch->entry, &e);
    if (rc == 0)
        rc = e.failed ? -ENOMEM : consensus_propose(leader->mon->consensus, e.data, e.len);
    encoder_fini(&e);
    return rc;
}

/* X2 and X3: a copy of a command that was executed, or one that its sender has given up. */
static bool answer_copy(struct leader *leader, const struct batch *batch, struct request *request)
{
    const struct executed *lists[] = {&leader->mon->state.executed, &batch->entry.executed};
    const struct executed_command *before = NULL;

    for (int i = 0; i < 2 && !planted(PLANTED_COMMAND_TWICE); i++) {
        enum executed_fate fate =
            executed_find(lists[i], &request->sender, request->instance, request->tid, &before);
        if (fate == EXECUTED_NOT)
            continue;
        if (fate == EXECUTED_GIVEN_UP) {
            request->result = -ESTALE;
            snprintf(request->status, sizeof request->status,
                     "the sender of this command has given it up");
        } else {
            request->result = before->result;
            snprintf(request->status, sizeof request->status, "%s", before->status);
            encode_bytes(&request->output, before->output, before->output_len);
        }
        /* What is in this entry counts when the entry does. */
        if (i == 0)
            request_finish(leader, request);
        else
            TAILQ_INSERT_TAIL(&leader->staged, request, link);
        return true;
    }
    return false;
}

/* X1. What a sender tries again by itself was not executed. */
static void note_executed(const struct leader *leader, struct batch *batch,
                          const struct request *request)
{
    struct executed_command command = {.sender = request->sender,
                                       .instance = request->instance,
                                       .tid = request->tid,
                                       .oldest = request->oldest,
                                       .result = request->result,
                                       .status = (char *)(uintptr_t)request->status,
                                       .output_len = request->output.len,
                                       .output = request->output.data};

    if (request->result == -EAGAIN || request->result == -ELIMPET_NOT_LEADER ||
        request->result == -ENOMEM || request->output.failed ||
        request->output.len > EXECUTED_OUTPUT_MAX)
        return;
    if (executed_add(&batch->entry.executed, &command) != 0)
        log_warn(leader->mon->env, "no memory to remember a command", "tid=%" PRIu64, request->tid);
}

/* Stages what waits, as far as it goes into one entry. */
static void batch_fill(struct leader *leader, struct batch *batch)
{
    for (unsigned n = 0; n < MON_BATCH_MAX && !TAILQ_EMPTY(&leader->waiting); n++) {
        struct request *request = waiting_take(leader);
        bool command =
            request->kind == REQUEST_MESSAGE && request->message->type == MSG_MON_COMMAND;
        if (command && request->command == NULL && !command_begin(leader, request)) {
            request_finish(leader, request);
            continue;
        }
        if (request->kind == REQUEST_MESSAGE && report_take(leader, request)) {
            request_free(request);
            continue;
        }
        if (command && answer_copy(leader, batch, request))
            continue;
        int rc = request_stage(leader, batch, request);
        if (rc == -EINPROGRESS) {
            TAILQ_INSERT_HEAD(&leader->waiting, request, link);
            leader->n_waiting++;
            return;
        }
        if (command) {
            request->result = rc;
            note_executed(leader, batch, request);
        }
        TAILQ_INSERT_TAIL(&leader->staged, request, link);
        if (change_broken(batch->change))
            return;
    }
}

static void staged_finish(struct leader *leader, int error)
{
    struct request *request;

    while ((request = TAILQ_FIRST(&leader->staged)) != NULL) {
        TAILQ_REMOVE(&leader->staged, request, link);
        if (error != 0 && request->result == 0) {
            request->result = error;
            snprintf(request->status, sizeof request->status, "the monitors could not do it: %s",
                     error_text(error));
        }
        request_finish(leader, request);
    }
}

static void batch_run(struct leader *leader)
{
    struct mon *mon = leader->mon;
    struct batch batch;

    mon_entry_init(&batch.entry);
    int rc = change_begin(leader->machine, mon->state.map, env_wall(mon->env), &batch.change);
    if (rc != 0) {
        log_error(mon->env, "no memory for a change", "error=%d", rc);
        env_timer_after(mon->env, &leader->tick, LEADER_TICK_NS);
        return;
    }
    batch_fill(leader, &batch);
    bool nothing =
        change_empty(batch.change) && mon_entry_empty(&batch.entry) && !change_broken(batch.change);
    if (!nothing)
        rc = batch_propose(leader, &batch);
    if (nothing || rc != 0) {
        if (rc != 0) {
            log_error(mon->env, "change not proposed", "error=%d", rc);
            machine_forget(leader->machine);
        }
        if (rc != -ELIMPET_NOT_LEADER)
            staged_finish(leader, rc);
    }
    change_end(batch.change);
    mon_entry_fini(&batch.entry);
}

static void run_fire(struct env_task *task)
{
    struct leader *leader = container_of(task, struct leader, run_task);

    if (leader->active && !leader->mon->failed && !consensus_in_flight(leader->mon->consensus) &&
        !TAILQ_EMPTY(&leader->waiting))
        batch_run(leader);
    /* What could not go into that batch, and nothing is in flight whose end would start it. */
    if (leader->active && !TAILQ_EMPTY(&leader->waiting) &&
        !consensus_in_flight(leader->mon->consensus))
        env_defer(leader->mon->env, &leader->run_task);
}

void leader_proposed(struct leader *leader, int result)
{
    if (result != 0) {
        machine_forget(leader->machine);
        list_forget(leader, &leader->staged);
        return;
    }
    staged_finish(leader, 0);
    if (!TAILQ_EMPTY(&leader->waiting))
        env_defer(leader->mon->env, &leader->run_task);
}

/* ---- Leadership ---- */

uint64_t leader_quorum(const struct leader *leader)
{
    const struct mon *mon = leader->mon;
    uint64_t mask = 0;

    for (uint32_t i = 0; i < mon->identity.n_mons; i++) {
        if (consensus_heard(mon->consensus, mon->identity.mons[i].id))
            mask |= UINT64_C(1) << i;
    }
    return mask;
}

void leader_begin(struct leader *leader)
{
    struct mon *mon = leader->mon;

    assert(!leader->active);
    leader->active = true;
    leader->since_ns = env_now(mon->env);
    leader->quorum_ns = leader->since_ns;
    leader->quorum_mask = leader_quorum(leader);
    leader->last_tick_ns = leader->since_ns;
    machine_forget(leader->machine);
    leader_watch_begin(leader);
    if (mon->state.map->epoch == 0)
        leader_request(leader, REQUEST_INITIAL, 0, 0, 0);
    env_defer(mon->env, &leader->run_task);
    env_timer_after(mon->env, &leader->tick, LEADER_TICK_NS);
}

void leader_end(struct leader *leader)
{
    leader->active = false;
    env_timer_stop(leader->mon->env, &leader->tick);
    list_forget(leader, &leader->waiting);
    list_forget(leader, &leader->staged);
    leader->n_waiting = 0;
    leader->n_reports = 0;
    machine_forget(leader->machine);
}

void leader_destroy(struct leader *leader)
{
    if (leader == NULL)
        return;
    leader_end(leader);
    machine_destroy(leader->machine);
    free(leader->reports);
    free(leader->watched);
    free(leader->pools);
    free(leader);
}

void leader_map_changed(struct leader *leader)
{
    if (!leader->active)
        return;
    leader_failure_map(leader);
    leader_watch_map(leader);
}

static void tick_fire(struct env_timer *timer)
{
    struct leader *leader = container_of(timer, struct leader, tick);
    uint64_t mask = leader_quorum(leader);

    env_timer_after(leader->mon->env, timer, LEADER_TICK_NS);
    if (mask != leader->quorum_mask) {
        leader->quorum_mask = mask;
        leader->quorum_ns = env_now(leader->mon->env);
    }
    leader_watch_tick(leader);
    leader->last_tick_ns = env_now(leader->mon->env);
    if (!TAILQ_EMPTY(&leader->waiting))
        env_defer(leader->mon->env, &leader->run_task);
}
