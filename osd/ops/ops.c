#include "osd/ops/ops.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "osd/ops/run.h"
#include "placement/hash.h"

static bool step_is_of_watchers(uint16_t code)
{
    return code >= WIRE_OP_CODE_WATCH && code <= WIRE_OP_CODE_WATCH_EVICT;
}

/* The checks of one step that need no object. */
static int check_step(struct ops_request *request, const struct wire_op *step, const uint8_t *data)
{
    bool of_group = step->code == WIRE_OP_CODE_LIST || step->code == WIRE_OP_CODE_INCONSISTENT ||
                    step->code == WIRE_OP_CODE_WATCH_PING;
    if (request->list || of_group) {
        uint64_t known = step->code == WIRE_OP_CODE_LIST ? WIRE_LIST_ONE_SPACE | WIRE_LIST_KEPT : 0;
        return request->list && of_group && (step->offset & ~known) == 0 ? 0 : -EINVAL;
    }
    const struct step_kind *kind = step_kind(step->code);
    if (!kind)
        return -EOPNOTSUPP;
    /* What it rolls back is the object as the store has it, and nothing looks at it afterwards. */
    if (request->rolls_back || (step->code == WIRE_OP_CODE_ROLLBACK && request->changes))
        return -EINVAL;
    request->rolls_back = step->code == WIRE_OP_CODE_ROLLBACK;
    request->changes |= !(kind->flags & STEP_READS);
    request->lists_snaps &= step->code == WIRE_OP_CODE_LIST_SNAPS;
    if (request->write ? kind->flags & STEP_ONLY_READS : !(kind->flags & STEP_READS))
        return -EINVAL;
    if (kind->flags & STEP_ALONE && request->head.n_ops != 1)
        return -EINVAL;
    if (step->data_len > 0 && !(kind->flags & STEP_DATA))
        return -EINVAL;
    if (kind->flags & STEP_LOOKS)
        request->looks = true;
    request->watches |= step_is_of_watchers(step->code);
    request->contents |= !step_is_of_watchers(step->code);
    if (request->write && (kind->flags & STEP_READS || step->flags & WIRE_STEP_FAIL_OK))
        request->answers = true;
    return kind->check ? kind->check(step, data) : 0;
}

static int check_object(const struct ops_request *request)
{
    const struct object_id *id = &request->object;
    if (id->pool != request->head.pool || id->snap != OBJECT_HEAD || id->name_len == 0)
        return -EINVAL;
    if (id->hash != hash_object_id(id))
        return -EINVAL;
    return 0;
}

static int check_snaps(const struct ops_request *request)
{
    uint64_t before = request->head.snap;
    if (before > OBJECT_SNAP_MAX || request->head.n_snaps > WIRE_SNAPS_MAX ||
        (request->head.n_snaps > 0 && !request->write) || (request->list && before > 0))
        return -EINVAL;
    for (uint16_t i = 0; i < request->head.n_snaps; i++) {
        uint64_t snap;
        memcpy(&snap, request->snaps + i * sizeof snap, sizeof snap);
        snap = le64toh(snap);
        if (snap == 0 || snap > before || (i > 0 && snap == before))
            return -EINVAL;
        before = snap;
    }
    return 0;
}

static int check_steps(struct ops_request *request, struct buf_slice payload)
{
    size_t at = 0;
    request->lists_snaps = true;
    for (uint16_t i = 0; i < request->head.n_ops; i++) {
        struct wire_op step = ops_step(request, i);
        if (step.data_len > payload.len - at)
            return -EINVAL;
        int error = check_step(request, &step, payload.data ? payload.data + at : NULL);
        if (error)
            return error;
        at += step.data_len;
    }
    /* Watchers are the object's, and no snapshot has any. */
    if (request->watches && !request->write && request->head.snap > 0)
        return -EINVAL;
    return at == payload.len ? 0 : -EINVAL;
}

int ops_decode(const struct message *message, struct ops_request *out)
{
    memset(out, 0, sizeof *out);
    struct decoder d;
    decoder_init(&d, message->body, message->body_len);
    const void *head = decode_bytes(&d, sizeof out->head);
    if (!head)
        return -EBADMSG;
    memcpy(&out->head, head, sizeof out->head);
    size_t id_at = d.at;
    decode_object_id(&d, &out->object);
    out->id = message->body + id_at;
    out->id_len = (uint16_t)(d.at - id_at);
    out->steps = decode_bytes(&d, (size_t)out->head.n_ops * sizeof(struct wire_op));
    out->snaps = decode_bytes(&d, (size_t)out->head.n_snaps * sizeof(uint64_t));
    if (decoder_end(&d))
        return -EBADMSG;
    out->write = out->head.flags & WIRE_OP_WRITE;
    out->list = out->head.flags & WIRE_OP_PG;
    if (message->payload.len > REQUEST_PAYLOAD_MAX || out->head.n_ops == 0 ||
        out->head.n_ops > WIRE_OPS_MAX || (out->write && out->list))
        return -EINVAL;
    if (out->list && out->head.n_ops != 1)
        return -EINVAL;
    if (out->write && (out->head.oldest > out->head.tid || out->head.tid == UINT64_MAX))
        return -EINVAL;
    int error = out->list ? 0 : check_object(out);
    if (!error)
        error = check_snaps(out);
    return error ? error : check_steps(out, message->payload);
}

struct wire_op ops_step(const struct ops_request *request, uint16_t index)
{
    assert(index < request->head.n_ops);
    struct wire_op step;
    memcpy(&step, request->steps + (size_t)index * sizeof step, sizeof step);
    return step;
}

bool ops_grows(const struct object_view *view)
{
    const struct object_state *before = &view->base, *after = &view->state;
    return after->exists && (!before->exists || after->size > before->size || view->grows);
}

bool ops_tries_full(const struct ops_request *request, const struct object_view *view)
{
    const struct object_state *before = &view->base, *after = &view->state;
    bool of_watchers = request->watches && !request->contents;
    size_t bytes = view->txn->ops.len + view->payload.len + view->more.len;
    return (of_watchers || (request->head.flags & WIRE_OP_FULL_TRY)) && before->exists &&
           (!after->exists || after->size <= before->size) && bytes <= OPS_FULL_TRY_MAX;
}

struct message *ops_reply(const struct wire_osd_op *head, const struct ops_result *result,
                          const struct wire_op_result *steps, struct buf_slice data)
{
    uint16_t n = head->n_ops <= WIRE_OPS_MAX ? head->n_ops : 0;
    size_t len = sizeof(struct wire_osd_op_reply) + n * sizeof(struct wire_op_result);
    struct message *message = message_create(MSG_OSD_OP_REPLY, len);
    if (!message) {
        buf_slice_drop(&data);
        return NULL;
    }
    struct wire_osd_op_reply reply = {
        .tid = head->tid,
        .epoch = result->epoch,
        .version = result->unchanged ? result->kept : result->version,
        .result = result->result,
        .n_ops = n,
        .flags = result->fenced ? WIRE_REPLY_FENCED : 0,
    };
    memcpy(message->body, &reply, sizeof reply);
    uint8_t *at = message->body + sizeof reply;
    for (uint16_t i = 0; i < n; i++) {
        /* Steps after the one that failed, and all of a request that was refused, did not run. */
        struct wire_op_result step = {0};
        if (steps)
            step = steps[i];
        if (result->result != 0 && i >= result->failed_step)
            step.result = i == result->failed_step ? result->result : -ECANCELED;
        memcpy(at, &step, sizeof step);
        at += sizeof step;
    }
    message->payload = data;
    return message;
}

int ops_answer_parse(const void *answer, size_t len, uint16_t n_ops, struct ops_result *result,
                     struct wire_op_result steps[WIRE_OPS_MAX], struct buf_slice *data)
{
    struct decoder d;
    uint64_t data_len = 0;
    memset(steps, 0, WIRE_OPS_MAX * sizeof *steps);
    *data = BUF_SLICE_EMPTY;
    if (len == 0)
        return 0;
    decoder_init(&d, answer, len);
    uint16_t n = decode_u16(&d);
    if (n & RUN_ANSWER_UNCHANGED) {
        const void *kept = decode_bytes(&d, sizeof result->kept);
        if (!kept)
            return -EBADMSG;
        memcpy(&result->kept, kept, sizeof result->kept);
        result->unchanged = true;
        n &= (uint16_t)~RUN_ANSWER_UNCHANGED;
    }
    const void *bytes =
        n == n_ops && n <= WIRE_OPS_MAX ? decode_bytes(&d, n * sizeof *steps) : NULL;
    if (!bytes)
        return -EBADMSG;
    memcpy(steps, bytes, n * sizeof *steps);
    for (uint16_t i = 0; i < n; i++)
        data_len += steps[i].data_len;
    if (data_len != decoder_left(&d))
        return -EBADMSG;
    return data_len > 0 ? buf_slice_copy(decode_bytes(&d, data_len), data_len, data) : 0;
}
