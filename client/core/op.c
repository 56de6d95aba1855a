/*
 * Operations: admission within the budget, encoding, time-outs, completion.
 *
 *   IDLE --submit--> WAITING --budget, first map--> UNSENT --> SENT --reply--> FINISHED --> IDLE
 *   SENT --new membership, session lost, refused--> UNSENT
 *   WAITING --its pool is newer than our map--> DOUBTFUL --newer map, leader's answer--> WAITING
 *   any of WAITING, DOUBTFUL, UNSENT, SENT --time-out, cancel, pool gone--> FINISHED
 */
#include "client/core/private.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "placement/hash.h"

/* ---- Completion ---- */

/* The memory for the reply belongs to the caller again, even if an OSD is just filling it. */
static void take_back(struct client_op *op)
{
    if (op->lent == NULL)
        return;
    buf_revoke(op->lent);
    buf_unref(op->lent);
    op->lent = NULL;
}

static void detach(struct client *c, struct client_op *op)
{
    switch (op->state) {
    case CLIENT_OP_WAITING:
        TAILQ_REMOVE(&c->waiting, op, link);
        break;
    case CLIENT_OP_DOUBTFUL:
        doubt_remove(c, op);
        break;
    case CLIENT_OP_UNSENT:
    case CLIENT_OP_SENT:
        target_remove(c, op);
        HASH_DELETE(hh, c->by_tid, op);
        assert(c->ops_in_flight > 0 && c->bytes_in_flight >= op->size_bytes);
        c->ops_in_flight--;
        c->bytes_in_flight -= op->size_bytes;
        break;
    case CLIENT_OP_IDLE:
    case CLIENT_OP_FINISHED:
        /* An operation that is not under way cannot end. */
        assert(op->state == CLIENT_OP_WAITING);
    }
    env_timer_stop(c->env, &op->timer);
    buf_slice_drop(&op->payload);
    take_back(op);
    c->counters.ops_done++;
}

static void drop_results(struct client_op *op)
{
    for (uint16_t i = 0; i < op->n_steps; i++)
        buf_slice_drop(&client_step(op, i)->data);
}

void op_finish_later(struct client *c, struct client_op *op, int result)
{
    detach(c, op);
    op->result = result;
    op->state = CLIENT_OP_FINISHED;
    TAILQ_INSERT_TAIL(&c->finished, op, link);
    client_schedule(c, false);
}

void op_finish_now(struct client *c, struct client_op *op, int result)
{
    detach(c, op);
    op->result = result;
    op->state = CLIENT_OP_IDLE;
    op_admit(c);
    op->done(op);
}

void op_run_finished(struct client *c)
{
    struct client_op_list due = TAILQ_HEAD_INITIALIZER(due);
    TAILQ_CONCAT(&due, &c->finished, link);
    for (struct client_op *op; (op = TAILQ_FIRST(&due)) != NULL;) {
        TAILQ_REMOVE(&due, op, link);
        op->state = CLIENT_OP_IDLE;
        op->done(op);
    }
}

void op_fail_all(struct client *c, int error)
{
    struct client_op *op, *next;
    for (op = TAILQ_FIRST(&c->waiting); op != NULL; op = next) {
        next = TAILQ_NEXT(op, link);
        op_finish_later(c, op, error);
    }
    for (op = TAILQ_FIRST(&c->doubt.ops); op != NULL; op = next) {
        next = TAILQ_NEXT(op, link);
        op_finish_later(c, op, error);
    }
    struct client_op *tmp;
    HASH_ITER(hh, c->by_tid, op, tmp)
    {
        op_finish_later(c, op, error);
    }
    op_run_finished(c);
}

void op_give_up(struct client *c, struct client_op *op)
{
    if (op_is_carried(op) && op->revoke_late && op->write)
        target_revoke(c, op);
    op_finish_later(c, op, -ETIMEDOUT);
}

static void timed_out(struct env_timer *timer)
{
    struct client_op *op = container_of(timer, struct client_op, timer);
    op_give_up(op->client, op);
}

void op_limit_fired(struct env_timer *timer)
{
    struct client *c = container_of(timer, struct client, limit);
    target_end_old_writes(c);
    if (c->ops_in_flight > 0)
        env_timer_after(c->env, &c->limit, WRITE_LIMIT_CHECK_NS);
}

void client_cancel(struct client *c, struct client_op *op)
{
    if (op->state != CLIENT_OP_IDLE && op->state != CLIENT_OP_FINISHED)
        op_finish_later(c, op, -ECANCELED);
}

void client_revoke(struct client *c, struct client_op *op)
{
    if (op_is_carried(op))
        target_revoke(c, op);
    client_cancel(c, op);
}

/* ---- Admission ---- */

static bool within_budget(const struct client *c, const struct client_op *op)
{
    /* One that is larger than the whole budget goes alone. */
    if (c->ops_in_flight == 0)
        return true;
    return c->ops_in_flight < c->options.max_ops_in_flight &&
           c->bytes_in_flight + op->size_bytes <= c->options.max_bytes_in_flight;
}

static void start(struct client *c, struct client_op *op)
{
    c->ops_in_flight++;
    c->bytes_in_flight += op->size_bytes;
    op->state = CLIENT_OP_UNSENT;
    /* Here, so that a placement group gets its operations in the order of tids (C5). */
    op->tid = ++c->next_tid;
    if (!c->limit.armed)
        env_timer_after(c->env, &c->limit, WRITE_LIMIT_CHECK_NS);
    HASH_ADD(hh, c->by_tid, tid, sizeof op->tid, op);
    int rc = target_add(c, op);
    if (rc != 0)
        op_finish_later(c, op, rc);
}

void op_admit(struct client *c)
{
    struct client_op *op;
    while (c->map != NULL && (op = TAILQ_FIRST(&c->waiting)) != NULL && within_budget(c, op)) {
        TAILQ_REMOVE(&c->waiting, op, link);
        if (!doubt_take(c, op))
            start(c, op);
    }
}

/*
 * Moves the data of all steps into one payload. The usual operation has one step with data, whose
 * slice becomes the payload as it is.
 */
static int gather_payload(struct client_op *op)
{
    uint64_t total = 0;
    uint16_t n_data = 0;
    struct client_step *last = NULL;
    for (uint16_t i = 0; i < op->n_steps; i++) {
        struct client_step *step = client_step(op, i);
        if (step->data.len > REQUEST_PAYLOAD_MAX)
            return -EFBIG;
        step->input_len = (uint32_t)step->data.len;
        step->result = 0;
        total += step->data.len;
        if (step->data.len > 0) {
            n_data++;
            last = step;
        }
    }
    if (total > REQUEST_PAYLOAD_MAX)
        return -EFBIG;
    if (n_data == 1) {
        op->payload = last->data;
        last->data = BUF_SLICE_EMPTY;
        drop_results(op);
        return 0;
    }
    if (n_data > 0 && buf_slice_alloc(total, &op->payload) != 0)
        return -ENOMEM;
    size_t at = 0;
    for (uint16_t i = 0; i < op->n_steps; i++) {
        struct client_step *step = client_step(op, i);
        if (step->data.len > 0)
            memcpy(op->payload.data + at, step->data.data, step->data.len);
        at += step->data.len;
        buf_slice_drop(&step->data);
    }
    return 0;
}

static uint64_t op_cost(struct client_op *op)
{
    uint64_t cost = op->payload.len;
    for (uint16_t i = 0; i < op->n_steps; i++) {
        const struct client_step *step = client_step(op, i);
        if (step->code != WIRE_OP_CODE_READ && step->code != WIRE_OP_CODE_SPARSE_READ)
            continue;
        uint64_t length = step->length != 0 ? step->length : CLIENT_READ_SIZE_GUESS;
        cost += length < OBJECT_SIZE_MAX ? length : OBJECT_SIZE_MAX;
    }
    return cost;
}

/* Beyond the time that any operation has. */
static uint64_t patience_ns(const struct client_op *op)
{
    return op->patient && op->steps[0].length <= WIRE_NOTIFY_TIMEOUT_MAX_MS
               ? op->steps[0].length * MSEC_NS
               : 0;
}

void client_submit(struct client *c, struct client_op *op)
{
    assert(op->state == CLIENT_OP_IDLE && op->done != NULL);
    assert(op->n_steps > 0 && op->n_steps <= CLIENT_STEPS_MAX);
    assert(op->n_snaps <= WIRE_SNAPS_MAX);
    assert(op->object.name_len <= OBJECT_NAME_MAX && op->object.space_len <= OBJECT_NAMESPACE_MAX &&
           op->object.locator_len <= OBJECT_LOCATOR_MAX && !object_locator_is_name(&op->object));
    op->client = c;
    op->tid = 0;
    op->submitted_ns = env_now(c->env);
    op->sent_ns = 0;
    op->attempt = 0;
    op->result = 0;
    op->n_results = 0;
    op->pg = NULL;
    op->answered_by = NULL;
    op->carrier = NULL;
    op->lent = NULL;
    op->pool_asked = false;
    op->pool_checked = false;
    op->version = (struct wire_version){0};
    op->timer.fire = timed_out;
    op->state = CLIENT_OP_WAITING;
    TAILQ_INSERT_TAIL(&c->waiting, op, link);
    int rc = gather_payload(op);
    if (rc != 0) {
        op_finish_later(c, op, rc);
        drop_results(op);
        return;
    }
    if (!op->pg_op)
        op->object.hash = hash_object_id(&op->object);
    op->size_bytes = op_cost(op);
    if (c->options.op_timeout_ns != 0)
        env_timer_after(c->env, &op->timer, c->options.op_timeout_ns + patience_ns(op));
    op_admit(c);
}

bool client_code_reads(uint16_t code)
{
    switch (code) {
    case WIRE_OP_CODE_READ:
    case WIRE_OP_CODE_STAT:
    case WIRE_OP_CODE_LIST:
    case WIRE_OP_CODE_INCONSISTENT:
    case WIRE_OP_CODE_SPARSE_READ:
    case WIRE_OP_CODE_EXTENTS:
    case WIRE_OP_CODE_CHECKSUM:
    case WIRE_OP_CODE_COMPARE_EXTENT:
    case WIRE_OP_CODE_ASSERT_EXISTS:
    case WIRE_OP_CODE_ASSERT_VERSION:
    case WIRE_OP_CODE_ATTR_GET:
    case WIRE_OP_CODE_ATTR_LIST:
    case WIRE_OP_CODE_ATTR_COMPARE:
    case WIRE_OP_CODE_OMAP_LIST:
    case WIRE_OP_CODE_OMAP_GET:
    case WIRE_OP_CODE_OMAP_GET_HEADER:
    case WIRE_OP_CODE_OMAP_COMPARE:
    case WIRE_OP_CODE_CALL:
    case WIRE_OP_CODE_LIST_SNAPS:
    case WIRE_OP_CODE_WATCH_CONNECT:
    case WIRE_OP_CODE_WATCH_LIST:
    case WIRE_OP_CODE_WATCH_PING:
    case WIRE_OP_CODE_WATCH_ASSERT:
    case WIRE_OP_CODE_NOTIFY:
    case WIRE_OP_CODE_NOTIFY_ACK:
        return true;
    default:
        return false;
    }
}

/* ---- Encoding ---- */

enum {
    OP_BODY_MAX = sizeof(struct wire_osd_op) + OBJECT_ID_ENCODED_MAX +
                  CLIENT_STEPS_MAX * sizeof(struct wire_op) + WIRE_SNAPS_MAX * sizeof(uint64_t),
};

struct message *op_message(struct client *c, struct client_op *op)
{
    uint8_t memory[OP_BODY_MAX];
    struct encoder e;
    encoder_init_fixed(&e, memory, sizeof memory);
    struct wire_osd_op head = {
        .client = c->env->instance,
        .tid = op->tid,
        .oldest = op->write ? TAILQ_FIRST(&op->pg->writes)->tid : 0,
        .epoch = c->map->epoch,
        .pool = op->object.pool,
        .pg_seed = (uint32_t)op->pg->key.seed,
        .flags = (op->write ? WIRE_OP_WRITE : 0u) | (op->pg_op ? WIRE_OP_PG : 0u) |
                 (op->tries_full ? WIRE_OP_FULL_TRY : 0u),
        .attempt = op->attempt,
        .age_ns = op->sent_ns == 0 ? 0 : env_now(c->env) - op->sent_ns,
        .n_ops = op->n_steps,
        .mtime_ns = op->write ? op->mtime_ns : 0,
        .n_snaps = op->write ? op->n_snaps : 0,
        .snap = op->snap,
    };
    encode_bytes(&e, &head, sizeof head);
    encode_object_id(&e, &op->object);
    for (uint16_t i = 0; i < op->n_steps; i++) {
        const struct client_step *step = client_step(op, i);
        struct wire_op wire = {
            .code = step->code,
            .flags = step->flags,
            .data_len = step->input_len,
            .offset = step->offset,
            .length = step->length,
        };
        encode_bytes(&e, &wire, sizeof wire);
    }
    for (uint16_t i = 0; i < head.n_snaps; i++)
        encode_u64(&e, op->snaps[i]);
    assert(!e.failed);
    struct message *m = message_create(MSG_OSD_OP, e.len);
    if (m == NULL)
        return NULL;
    memcpy(m->body, memory, e.len);
    m->payload = buf_slice_ref(op->payload);
    return m;
}

/* ---- Replies ---- */

static bool is_refusal(int result)
{
    return result == -ELIMPET_NEWER_MAP || result == -ELIMPET_NOT_PRIMARY ||
           result == -ELIMPET_STALE_CONFIG || result == -EAGAIN;
}

/* Whether a reply of this OSD's may be received in the operation's own memory. */
static bool may_lend(struct client_op *op, const struct osd_link *osd, size_t len)
{
    if (op->state != CLIENT_OP_SENT || op->pg->osd != osd)
        return false;
    /* Another connection may be at it still. */
    if (op->lent != NULL && op->lent->refs == 1)
        take_back(op);
    return op->lent == NULL && op->into != NULL && len <= op->into_len;
}

struct buf_slice op_place(struct client *c, struct osd_link *osd, const struct net_arrival *arrival)
{
    struct wire_osd_op_reply head;
    struct buf_slice slice = BUF_SLICE_EMPTY;
    if (arrival->type != MSG_OSD_OP_REPLY || arrival->body_len < sizeof head)
        return slice;
    memcpy(&head, arrival->body, sizeof head);
    uint64_t tid = head.tid;
    struct client_op *op;
    HASH_FIND(hh, c->by_tid, &tid, sizeof tid, op);
    if (op != NULL && may_lend(op, osd, arrival->payload_len) &&
        buf_slice_lend(op->into, arrival->payload_len, &slice) == 0)
        op->lent = buf_ref(slice.buf);
    return slice;
}

void op_reply(struct client *c, struct osd_link *osd, struct message *message)
{
    struct op_reply reply;
    if (reply_decode(message, &reply) != 0) {
        log_warn(c->env, "malformed reply", "osd=%d", osd->id);
        return;
    }
    struct client_op *op;
    HASH_FIND(hh, c->by_tid, &reply.tid, sizeof reply.tid, op);
    /* Nobody waits any more, or another OSD has been asked in the meantime (C2). */
    if (op == NULL || op->state != CLIENT_OP_SENT || op->pg->osd != osd)
        return;
    if (is_refusal(reply.result)) {
        target_refused(c, op, reply.epoch);
        return;
    }
    target_answered(op->pg);
    if (reply.fenced)
        target_fenced(c, reply.epoch);
    op->answered_by = osd;
    int rc = reply_take_results(message, &reply, op);
    if (rc != 0) {
        log_warn(c->env, "reply does not fit its request", "osd=%d", osd->id);
        op_finish_now(c, op, rc);
        return;
    }
    op->version = reply.version;
    op_finish_now(c, op, reply.result);
}
