/*
 * Requests of clients: ops_decode(), running the steps against an object, and the reply. The first
 * byte makes the object, two more give the length of the payload, which is taken from the end; the
 * rest is the body. Whatever the steps want to look at is made up.
 */
#include <stdlib.h>
#include <string.h>

#include "osd/ops/run.h"
#include "osd/ops/snap.h"
#include "osd/ops/watch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SNAPSET_BYTES = 93 };

/* The list of watchers, and the snapset: the end of the input. */
static const uint8_t *watchers;
static size_t watchers_len;

static void must(bool condition)
{
    if (!condition)
        abort();
}

/* ---- What the store would have ---- */

static void give_pairs(struct object_view *view, const struct view_need *need)
{
    struct encoder pairs, header;
    bool end = true;
    encoder_init(&pairs);
    encoder_init(&header);
    /* The key that is asked for, and one after it. */
    if (need->max > 0 && need->from_len > 0 && need->from_len <= STORE_OMAP_KEY_MAX) {
        encode_string16(&pairs, need->from, need->from_len);
        encode_string32(&pairs, "value", 5);
    }
    if (need->to_len == 0 && need->max > 1 && need->from_len < 3) {
        static const uint8_t last[] = {255, 255, 255, 255};
        encode_string16(&pairs, last, sizeof last);
        encode_string32(&pairs, "", 0);
        end = false;
    }
    encode_bytes(&header, "header", 6);
    must(view_give_omap(view, need, &pairs, end, &header) == 0);
    encoder_fini(&pairs);
    encoder_fini(&header);
}

static void give_attrs(struct object_view *view)
{
    static const char *const names[] = {"_z", "_a", "own", "_lock.l", "_"};
    struct encoder attrs;
    encoder_init(&attrs);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        encode_string16(&attrs, names[i], strlen(names[i]));
        encode_string32(&attrs, "\1\1\0\0\0\0\0\0\0", 9);
    }
    encode_string16(&attrs, WATCH_ATTR, strlen(WATCH_ATTR));
    encode_string32(&attrs, watchers, watchers_len);
    /* A length that a snapset can have. */
    size_t skipped = watchers_len > SNAPSET_BYTES ? watchers_len - SNAPSET_BYTES : 0;
    encode_string16(&attrs, SNAPSET_ATTR, SNAPSET_ATTR_LEN);
    encode_string32(&attrs, watchers + skipped, watchers_len - skipped);
    must(view_give_attrs(view, &attrs) == 0);
}

static void give(struct object_view *view, const struct view_need *need)
{
    struct buf_slice slice;
    struct encoder extents;
    switch (need->kind) {
    case VIEW_NEEDS_DATA:
        must(need->len > 0 && need->offset + need->len <= view->base.size);
        must(buf_slice_alloc(need->len, &slice) == 0);
        memset(slice.data, 'o', need->len);
        must(view_give_data(view, need->offset, need->len, slice) == 0);
        return;
    case VIEW_NEEDS_EXTENTS:
    case VIEW_NEEDS_SAME:
        encoder_init(&extents);
        encode_u64(&extents, need->offset);
        encode_u64(&extents, 1);
        must(view_give_extents(view, need, &extents) == 0);
        return;
    case VIEW_NEEDS_ATTRS:
        give_attrs(view);
        return;
    case VIEW_NEEDS_OMAP:
        give_pairs(view, need);
        return;
    }
}

/* ---- The request ---- */

static int run_steps(struct ops_run *run)
{
    int result, runs = 0;
    while ((result = ops_run(run)) == VIEW_MISS) {
        must(run->view.n_needs > 0 && ++runs < 10000);
        for (uint32_t i = 0; i < run->view.n_needs; i++)
            give(&run->view, &run->view.needs[i]);
    }
    return result;
}

/* What we send to members they must accept, and what we keep for a repetition must be read. */
static void check_write(struct ops_run *run, const struct ops_request *request,
                        const struct store_txn *txn)
{
    struct buf_slice data, given;
    struct encoder answer;
    struct wire_op_result steps[WIRE_OPS_MAX];
    must(run->view.state.size <= OBJECT_SIZE_MAX);
    must(view_take_data(&run->view, &data) == 0);
    must(txn_check(txn->ops.data, txn->ops.len, data.len, &request->object.pool) == 0);
    struct ops_result result = {0};
    encoder_init(&answer);
    run_answer(run, &answer);
    must(answer.len <= OPS_ANSWER_MAX);
    must(ops_answer_parse(answer.data, answer.len, request->head.n_ops, &result, steps, &given) ==
         0);
    buf_slice_drop(&given);
    buf_slice_drop(&data);
    encoder_fini(&answer);
}

static void run(const struct message *message, struct object_state state)
{
    struct ops_request request;
    if (ops_decode(message, &request))
        return;
    must(request.head.n_ops > 0 && request.head.n_ops <= WIRE_OPS_MAX);
    must(request.id_len > 0 && request.id + request.id_len <= message->body + message->body_len);
    struct ops_result result = {0};
    if (!request.list) {
        static const struct ops_caller caller = {.instance = 7, .address = "here"};
        struct ops_run steps;
        struct store_txn txn;
        txn_init(&txn);
        run_init(&steps, &request, message->payload, &state, &txn, &caller, NULL, 1000);
        result.result = run_steps(&steps);
        result.failed_step = result.result ? steps.step : 0;
        must(result.failed_step < request.head.n_ops);
        must(request.write || txn.ops.len == 0);
        if (result.result == 0 && request.write)
            check_write(&steps, &request, &txn);
        run_fini(&steps);
        txn_fini(&txn);
    }
    message_unref(ops_reply(&request.head, &result, NULL, BUF_SLICE_EMPTY));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    watchers_len = size < 96 ? size : 96;
    watchers = data + size - watchers_len;
    uint16_t payload_len;
    struct object_state state = {0};
    if (size < 3)
        return 0;
    state.exists = data[0] & 1;
    if (state.exists)
        state.size = data[0] & 2 ? OBJECT_SIZE_MAX - (data[0] >> 2) : data[0] >> 2;
    /* Nobody has the patience to read all of a large one. */
    if (state.exists && data[0] & 2 && data[0] & 64)
        state.size = 100000;
    /* One with clones; removed, it is kept for them. */
    state.has_clones = data[0] & 128;
    state.whiteout = state.has_clones && !state.exists;
    state.snap_seq = state.has_clones ? 5 : 0;
    memcpy(&payload_len, data + 1, sizeof payload_len);
    data += 3;
    size -= 3;
    if (payload_len > size)
        payload_len = (uint16_t)size;
    struct message *message = message_create(MSG_OSD_OP, size - payload_len);
    if (!message)
        return 0;
    if (size > payload_len)
        memcpy(message->body, data, size - payload_len);
    if (payload_len > 0)
        must(buf_slice_copy(data + size - payload_len, payload_len, &message->payload) == 0);
    run(message, state);
    message_unref(message);
    return 0;
}
