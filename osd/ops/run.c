#include "osd/ops/run.h"

#include <assert.h>
#include <string.h>

#include "osd/ops/snap.h"

void run_init(struct ops_run *run, const struct ops_request *request, struct buf_slice payload,
              const struct object_state *state, struct store_txn *txn,
              const struct ops_caller *caller, const struct map_snaps *snaps, uint64_t wall_ns)
{
    memset(run, 0, offsetof(struct ops_run, results));
    memset(run->results, 0, request->head.n_ops * sizeof run->results[0]);
    run->request = request;
    run->caller = *caller;
    run->n_steps = request->head.n_ops;
    run->wall_ns = wall_ns;
    view_init(&run->view, state, txn, payload);
    run->view.records = request->looks;
    if (request->write && request->contents)
        run->context = ops_snap_context(request, snaps_ref(snaps));
}

static void drop_results(struct ops_run *run)
{
    for (uint16_t i = 0; i < run->n_steps; i++) {
        run->results[i].result = 0;
        buf_slice_drop(&run->results[i].data);
    }
    run->returned = 0;
    run->summed = 0;
}

void run_fini(struct ops_run *run)
{
    drop_results(run);
    view_fini(&run->view);
    snaps_unref(run->context.pool);
}

void run_take_snaps(struct ops_run *run, const struct map_snaps *snaps)
{
    if (!run->request->contents)
        return;
    snaps_unref(run->context.pool);
    run->context = ops_snap_context(run->request, snaps_ref(snaps));
}

/* ---- What steps return ---- */

static uint64_t returned_max(const struct ops_run *run)
{
    if (!run->request->write)
        return MESSAGE_PAYLOAD_MAX;
    return OPS_ANSWER_MAX - sizeof(uint16_t) - sizeof(struct wire_version) -
           run->n_steps * sizeof(struct wire_op_result);
}

int run_give(struct ops_run *run, struct buf_slice data)
{
    struct run_result *result = &run->results[run->step];
    assert(result->data.len == 0);
    if (data.len > returned_max(run) - run->returned) {
        buf_slice_drop(&data);
        return run->request->write ? -EOVERFLOW : -EFBIG;
    }
    run->returned += data.len;
    result->data = data;
    return 0;
}

int run_give_encoded(struct ops_run *run, struct encoder *e)
{
    struct buf_slice data = BUF_SLICE_EMPTY;
    int error = e->failed ? -ENOMEM : 0;
    if (!error && e->len > 0)
        error = buf_slice_copy(e->data, e->len, &data);
    encoder_fini(e);
    return error ? error : run_give(run, data);
}

void run_answer(const struct ops_run *run, struct encoder *out)
{
    uint16_t n = run->n_steps;
    bool plain = run->changed;
    for (uint16_t i = 0; i < n && plain; i++)
        plain = run->results[i].result == 0 && run->results[i].data.len == 0;
    if (plain)
        return;
    encode_u16(out, run->changed ? n : n | RUN_ANSWER_UNCHANGED);
    if (!run->changed)
        encode_bytes(out, &run->view.base.version, sizeof run->view.base.version);
    for (uint16_t i = 0; i < n; i++) {
        struct wire_op_result result = {
            .result = run->results[i].result,
            .data_len = (uint32_t)run->results[i].data.len,
        };
        encode_bytes(out, &result, sizeof result);
    }
    for (uint16_t i = 0; i < n; i++)
        if (run->results[i].data.len > 0)
            encode_bytes(out, run->results[i].data.data, run->results[i].data.len);
    assert(out->failed || out->len <= OPS_ANSWER_MAX);
}

/* ---- Running ---- */

static int run_step(struct ops_run *run, const struct wire_op *step)
{
    const struct step_kind *kind = step_kind(step->code);
    assert(kind);
    struct run_result *result = &run->results[run->step];
    size_t ops_len = run->view.txn->ops.len;
    /* Without any data there is no memory either. */
    const uint8_t *data = run->view.payload.data;
    int error = kind->run(run, step, data ? data + run->data_at : NULL);
    if (error == VIEW_MISS || run->view.failed)
        return run->view.failed ? run->view.failed : error;
    if (error < 0) {
        run->returned -= result->data.len;
        buf_slice_drop(&result->data);
    }
    result->result = error;
    /* A method may have changed it. */
    run->changed |= error >= 0 && (!(kind->flags & STEP_READS) || step->code == WIRE_OP_CODE_CALL);
    /* A step that has changed something before it failed (a method may) cannot be passed over. */
    if (error < 0 && step->flags & WIRE_STEP_FAIL_OK && run->view.txn->ops.len == ops_len)
        return 0;
    return error < 0 ? error : 0;
}

int ops_run(struct ops_run *run)
{
    struct store_txn *txn = run->view.txn;
    int error = 0;
    assert(txn->ops.len == 0);
    view_restart(&run->view);
    drop_results(run);
    run->saw_watchers = run->changed = false;
    run->data_at = 0;
    if (run->request->write) {
        txn_object(txn, &run->request->object);
        snap_before_steps(run);
    }
    size_t empty = txn->ops.len;
    for (run->step = 0; run->step < run->n_steps; run->step++) {
        struct wire_op step = ops_step(run->request, run->step);
        error = run_step(run, &step);
        if (!error && txn->ops.len > OPS_CHANGES_BYTES_MAX)
            error = -E2BIG;
        if (error)
            break;
        run->data_at += step.data_len;
    }
    if (!error && run->request->write && txn->ops.len > empty)
        error = snap_after_steps(run);
    if (!error && txn->ops.failed)
        error = -ENOMEM;
    /* A transaction that only names its object has nothing to do. */
    if (txn->ops.len > 0 && (error || txn->ops.len == empty))
        encoder_reset(&txn->ops);
    if (!error)
        assert(run->view.state.exists || run->view.state.size == 0);
    return error;
}
