/*
 * Requests of clients: ops_decode(), execution against an object, and the reply. The first byte
 * makes the object, two more give the length of the payload, the rest is the body.
 */
#include <stdlib.h>
#include <string.h>

#include "osd/ops/ops.h"
#include "osd/store/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void run(const struct message *message, struct object_state state)
{
    struct ops_request request;
    if (ops_decode(message, &request))
        return;
    must(request.head.n_ops > 0 && request.head.n_ops <= WIRE_OPS_MAX);
    must(request.id_len > 0 && request.id + request.id_len <= message->body + message->body_len);
    struct ops_result result = {0};
    if (request.write) {
        struct store_txn txn;
        txn_init(&txn);
        result.result = ops_execute(&request, &state, &txn, &result.failed_step);
        must(result.failed_step < request.head.n_ops);
        must(state.size <= OBJECT_SIZE_MAX || result.result != 0);
        /* What we send to members they must accept. */
        if (result.result == 0)
            must(txn_check(txn.ops.data, txn.ops.len, message->payload.len, &request.object.pool) ==
                 0);
        txn_fini(&txn);
    }
    message_unref(ops_reply(&request.head, &result, NULL, BUF_SLICE_EMPTY));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint16_t payload_len;
    struct object_state state = {0};
    if (size < 3)
        return 0;
    state.exists = data[0] & 1;
    if (state.exists)
        state.size = data[0] & 2 ? OBJECT_SIZE_MAX - (data[0] >> 2) : data[0] >> 2;
    memcpy(&payload_len, data + 1, sizeof payload_len);
    struct message *message = message_create(MSG_OSD_OP, size - 3);
    if (!message)
        return 0;
    if (size > 3)
        memcpy(message->body, data + 3, size - 3);
    if (payload_len > 0 && buf_slice_alloc(payload_len, &message->payload) == 0)
        memset(message->payload.data, 'x', payload_len);
    run(message, state);
    message_unref(message);
    return 0;
}
