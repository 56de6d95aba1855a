#include "osd/ops/ops.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "placement/hash.h"

static bool code_writes(uint16_t code)
{
    switch (code) {
    case WIRE_OP_CODE_WRITE_AT:
    case WIRE_OP_CODE_WRITE_FULL:
    case WIRE_OP_CODE_APPEND:
    case WIRE_OP_CODE_TRUNCATE:
    case WIRE_OP_CODE_REMOVE:
    case WIRE_OP_CODE_CREATE:
        return true;
    default:
        return false;
    }
}

/* Whether the step carries data in the payload. */
static bool code_has_data(uint16_t code)
{
    return code == WIRE_OP_CODE_WRITE_AT || code == WIRE_OP_CODE_WRITE_FULL ||
           code == WIRE_OP_CODE_APPEND || code == WIRE_OP_CODE_LIST ||
           code == WIRE_OP_CODE_INCONSISTENT;
}

static bool code_fits(const struct ops_request *request, uint16_t code)
{
    if (request->write)
        return code_writes(code);
    if (request->list)
        return code == WIRE_OP_CODE_LIST || code == WIRE_OP_CODE_INCONSISTENT;
    return code == WIRE_OP_CODE_READ || code == WIRE_OP_CODE_STAT;
}

/* The checks of one step that need no object. */
static int check_step(const struct ops_request *request, const struct wire_op *step)
{
    if (!code_fits(request, step->code))
        return -EINVAL;
    if (step->data_len > 0 && !code_has_data(step->code))
        return -EINVAL;
    switch (step->code) {
    case WIRE_OP_CODE_WRITE_AT:
        if (step->offset > OBJECT_SIZE_MAX || step->data_len > OBJECT_SIZE_MAX - step->offset)
            return -EFBIG;
        return 0;
    case WIRE_OP_CODE_WRITE_FULL:
    case WIRE_OP_CODE_APPEND:
        return step->data_len > OBJECT_SIZE_MAX ? -EFBIG : 0;
    case WIRE_OP_CODE_TRUNCATE:
        return step->offset > OBJECT_SIZE_MAX ? -EFBIG : 0;
    default:
        return 0;
    }
}

static int check_object(const struct ops_request *request)
{
    const struct object_id *id = &request->object;
    if (id->pool != request->head.pool || id->snap != OBJECT_HEAD || id->name_len == 0)
        return -EINVAL;
    if (id->hash != hash_object(id->space, id->space_len, id->name, id->name_len))
        return -EINVAL;
    return 0;
}

static int check_steps(const struct ops_request *request, size_t payload_len)
{
    uint64_t data_len = 0;
    for (uint16_t i = 0; i < request->head.n_ops; i++) {
        struct wire_op step = ops_step(request, i);
        int error = check_step(request, &step);
        if (error)
            return error;
        data_len += step.data_len;
    }
    return data_len == payload_len ? 0 : -EINVAL;
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
    if (decoder_end(&d))
        return -EBADMSG;
    out->write = out->head.flags & WIRE_OP_WRITE;
    out->list = out->head.flags & WIRE_OP_PG;
    if (out->head.n_ops == 0 || out->head.n_ops > WIRE_OPS_MAX || (out->write && out->list))
        return -EINVAL;
    if (out->list && out->head.n_ops != 1)
        return -EINVAL;
    if (out->write && (out->head.oldest > out->head.tid || out->head.tid == UINT64_MAX))
        return -EINVAL;
    int error = out->list ? 0 : check_object(out);
    return error ? error : check_steps(out, message->payload.len);
}

struct wire_op ops_step(const struct ops_request *request, uint16_t index)
{
    assert(index < request->head.n_ops);
    struct wire_op step;
    memcpy(&step, request->steps + (size_t)index * sizeof step, sizeof step);
    return step;
}

static int execute_write(struct object_state *state, struct store_txn *txn, uint64_t offset,
                         uint64_t len, uint64_t data_offset)
{
    if (offset > OBJECT_SIZE_MAX || len > OBJECT_SIZE_MAX - offset)
        return -EFBIG;
    if (len == 0) {
        txn_touch(txn);
    } else {
        txn_write(txn, offset, len, data_offset);
        if (offset + len > state->size)
            state->size = offset + len;
    }
    state->exists = true;
    return 0;
}

/* The object keeps its attributes: it is emptied, not removed. */
static int execute_write_full(struct object_state *state, struct store_txn *txn, uint64_t len,
                              uint64_t data_offset)
{
    if (state->exists && state->size > 0) {
        txn_truncate(txn, 0);
        state->size = 0;
    }
    return execute_write(state, txn, 0, len, data_offset);
}

/* On an object that does not exist this does nothing, like RADOS. */
static int execute_truncate(struct object_state *state, struct store_txn *txn, uint64_t size)
{
    if (!state->exists)
        return 0;
    txn_truncate(txn, size);
    state->size = size;
    return 0;
}

static int execute_remove(struct object_state *state, struct store_txn *txn)
{
    if (!state->exists)
        return -ENOENT;
    txn_remove(txn);
    state->exists = false;
    state->size = 0;
    return 0;
}

static int execute_create(struct object_state *state, struct store_txn *txn, bool exclusive)
{
    if (state->exists && exclusive)
        return -EEXIST;
    txn_touch(txn);
    state->exists = true;
    return 0;
}

static int execute_step(const struct wire_op *step, struct object_state *state,
                        struct store_txn *txn, uint64_t data_offset)
{
    switch (step->code) {
    case WIRE_OP_CODE_WRITE_AT:
        return execute_write(state, txn, step->offset, step->data_len, data_offset);
    case WIRE_OP_CODE_WRITE_FULL:
        return execute_write_full(state, txn, step->data_len, data_offset);
    case WIRE_OP_CODE_APPEND:
        return execute_write(state, txn, state->size, step->data_len, data_offset);
    case WIRE_OP_CODE_TRUNCATE:
        return execute_truncate(state, txn, step->offset);
    case WIRE_OP_CODE_REMOVE:
        return execute_remove(state, txn);
    case WIRE_OP_CODE_CREATE:
        return execute_create(state, txn, step->length == 1);
    default:
        return -EINVAL;
    }
}

int ops_execute(const struct ops_request *request, struct object_state *state,
                struct store_txn *txn, uint16_t *failed_step)
{
    assert(request->write);
    uint64_t data_offset = 0;
    txn_object(txn, &request->object);
    for (uint16_t i = 0; i < request->head.n_ops; i++) {
        struct wire_op step = ops_step(request, i);
        int error = execute_step(&step, state, txn, data_offset);
        if (error) {
            *failed_step = i;
            return error;
        }
        data_offset += step.data_len;
    }
    assert(state->exists || state->size == 0);
    return 0;
}

bool ops_grows(const struct object_state *before, const struct object_state *after)
{
    return after->exists && (!before->exists || after->size > before->size);
}

struct message *ops_reply(const struct wire_osd_op *head, const struct ops_result *result,
                          const uint32_t *lens, struct buf_slice data)
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
        .version = result->version,
        .result = result->result,
        .n_ops = n,
    };
    memcpy(message->body, &reply, sizeof reply);
    uint8_t *at = message->body + sizeof reply;
    for (uint16_t i = 0; i < n; i++) {
        /* Steps after the one that failed, and all of a request that was refused, did not run. */
        struct wire_op_result step = {.data_len = lens ? lens[i] : 0};
        if (result->result != 0 && i >= result->failed_step)
            step.result = i == result->failed_step ? result->result : -ECANCELED;
        memcpy(at, &step, sizeof step);
        at += sizeof step;
    }
    message->payload = data;
    return message;
}
