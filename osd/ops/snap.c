#include "osd/ops/snap.h"

#include <assert.h>
#include <string.h>

#include "common/planted.h"
#include "osd/ops/watch.h"

/* ---- Snap contexts ---- */

struct snap_context ops_snap_context(const struct ops_request *request,
                                     const struct map_snaps *pool)
{
    struct snap_context context = {.pool = pool};
    if (pool && pool->mode == SNAPS_POOL) {
        context.seq = pool->seq;
        context.of_pool = true;
    } else {
        context.seq = request->head.snap;
        context.n = request->head.n_snaps;
        context.snaps = request->snaps;
    }
    return context;
}

bool snap_context_next(const struct snap_context *context, uint32_t *at, uint64_t *snap)
{
    if (context->of_pool) {
        if (*at == context->pool->n_named)
            return false;
        *snap = context->pool->named[context->pool->n_named - 1 - (*at)++].id;
        return true;
    }
    while (*at < context->n) {
        memcpy(snap, context->snaps + (*at)++ * sizeof *snap, sizeof *snap);
        *snap = le64toh(*snap);
        if (!snaps_removed(context->pool, *snap))
            return true;
    }
    return false;
}

/* ---- Snapsets ---- */

int snapset_begin(struct decoder *d, const void *data, size_t len)
{
    decoder_init(d, data, len);
    return decode_u8(d) == SNAPSET_VERSION && !d->failed ? 0 : -ELIMPET_CORRUPT;
}

int snapset_next(struct decoder *d, struct snap_clone *out)
{
    if (decoder_left(d) == 0)
        return d->failed ? -ELIMPET_CORRUPT : 0;
    out->id = decode_u64(d);
    out->size = decode_u64(d);
    out->n = decode_u32(d);
    out->snaps = out->n <= SNAPS_REMOVED_MAX ? decode_bytes(d, out->n * sizeof(uint64_t)) : NULL;
    bool sound = out->snaps && out->n > 0 && out->size <= OBJECT_SIZE_MAX && !d->failed;
    return sound ? 1 : -ELIMPET_CORRUPT;
}

int snapset_find(const void *data, size_t len, uint64_t snap, struct snap_clone *out)
{
    struct decoder d;
    int rc = snapset_begin(&d, data, len);
    if (rc)
        return rc;
    while ((rc = snapset_next(&d, out)) > 0) {
        if (out->id < snap)
            continue;
        /* Between the oldest of its snapshots and the newest the object did not change. */
        return snap_at(out, out->n - 1) <= snap && snap <= snap_at(out, 0) ? 0 : -ENOENT;
    }
    return rc ? rc : -ENOENT;
}

static void encode_clone(struct encoder *out, const struct snap_clone *clone)
{
    encode_u64(out, clone->id);
    encode_u64(out, clone->size);
    encode_u32(out, clone->n);
    encode_bytes(out, clone->snaps, clone->n * sizeof(uint64_t));
}

int snapset_add(struct encoder *out, struct view_bytes old, const struct snap_clone *clone)
{
    if (old.len > 0)
        encode_bytes(out, old.data, old.len);
    else
        encode_u8(out, SNAPSET_VERSION);
    encode_clone(out, clone);
    if (out->failed)
        return -ENOMEM;
    return out->len <= STORE_ATTR_VALUE_MAX ? 0 : -E2BIG;
}

int snapset_remove(struct encoder *out, struct view_bytes old, uint64_t snap,
                   struct snapset_trim *trim)
{
    struct decoder d;
    struct snap_clone clone;
    memset(trim, 0, sizeof *trim);
    int rc = snapset_begin(&d, old.data, old.len);
    if (rc)
        return rc;
    encode_u8(out, SNAPSET_VERSION);
    while ((rc = snapset_next(&d, &clone)) > 0) {
        uint32_t at = 0;
        while (at < clone.n && snap_at(&clone, at) != snap)
            at++;
        if (at == clone.n) {
            encode_clone(out, &clone);
            trim->left++;
            continue;
        }
        trim->found = true;
        if (clone.n == 1) {
            trim->clone = clone.id;
            trim->clone_size = clone.size;
            continue;
        }
        encode_u64(out, clone.id);
        encode_u64(out, clone.size);
        encode_u32(out, clone.n - 1);
        encode_bytes(out, clone.snaps, at * sizeof(uint64_t));
        encode_bytes(out, clone.snaps + (at + 1) * sizeof(uint64_t),
                     (clone.n - at - 1) * sizeof(uint64_t));
        trim->left++;
    }
    return rc ? rc : out->failed ? -ENOMEM : 0;
}

/* ---- Before and after the steps ---- */

/* Snapshots that the object as it is was taken by: those of the context since its last clone. */
static bool is_taken(const struct ops_run *run)
{
    uint32_t at = 0;
    uint64_t newest;
    const struct object_state *base = &run->view.base;
    return base->exists && snap_context_next(&run->context, &at, &newest) &&
           newest > base->snap_seq && !planted(PLANTED_CLONE_FORGOTTEN);
}

static struct object_id clone_id(const struct ops_run *run, uint64_t snap)
{
    struct object_id id = run->request->object;
    id.snap = snap;
    return id;
}

static const char watchers_attr[] = WATCH_ATTR;

/* What a clone was made from had a snapset and watchers, which are the head's alone. */
static void leave_to_head(struct ops_run *run, const struct object_id *clone)
{
    struct store_txn *txn = run->view.txn;
    txn_object(txn, clone);
    txn_remove_attr(txn, watchers_attr, sizeof watchers_attr - 1);
    if (run->view.base.snap_seq > 0)
        txn_remove_attr(txn, SNAPSET_ATTR, SNAPSET_ATTR_LEN);
    txn_object(txn, &run->request->object);
    run->clones = true;
}

void snap_before_steps(struct ops_run *run)
{
    run->clones = false;
    run->source = 0;
    run->clone = (struct snap_clone){0};
    /* Rolling back moves the head instead: step_rollback(). */
    if (!is_taken(run) || run->request->rolls_back)
        return;
    struct object_id to = clone_id(run, run->context.seq);
    txn_clone(run->view.txn, &to);
    leave_to_head(run, &to);
}

/* The snapshots of the clone that is made, in memory of the view. */
static int describe_clone(struct ops_run *run)
{
    uint32_t at = 0, n = 0;
    uint64_t snap;
    size_t most = run->context.of_pool ? run->context.pool->n_named : run->context.n;
    uint8_t *snaps = view_alloc(&run->view, most * sizeof snap);
    if (!snaps)
        return -ENOMEM;
    while (snap_context_next(&run->context, &at, &snap) && snap > run->view.base.snap_seq) {
        snap = htole64(snap);
        memcpy(snaps + n++ * sizeof snap, &snap, sizeof snap);
    }
    run->clone = (struct snap_clone){
        .id = run->context.seq, .size = run->view.base.size, .n = n, .snaps = snaps};
    return 0;
}

static int put_snapset(struct ops_run *run)
{
    struct object_view *view = &run->view;
    struct view_bytes set = {0};
    struct encoder e;
    encoder_init(&e);
    int error =
        view->base.has_clones ? view_base_attr(view, SNAPSET_ATTR, SNAPSET_ATTR_LEN, &set) : 0;
    if (!error && run->clones)
        error = describe_clone(run);
    if (!error && run->clones) {
        error = snapset_add(&e, set, &run->clone);
        set = (struct view_bytes){e.data, (uint32_t)e.len};
    }
    if (!error) {
        txn_set_attr(view->txn, SNAPSET_ATTR, SNAPSET_ATTR_LEN, set.data, set.len);
        view->state.attrs_bytes += SNAPSET_ATTR_LEN + set.len;
    }
    encoder_fini(&e);
    return error == -ENODATA ? -ELIMPET_CORRUPT : error;
}

int snap_after_steps(struct ops_run *run)
{
    struct object_view *view = &run->view;
    struct object_state *state = &view->state;
    state->has_clones = view->base.has_clones || run->clones;
    if (run->context.seq > state->snap_seq)
        state->snap_seq = run->context.seq;
    state->whiteout = !state->exists && state->has_clones;
    if (run->clones && state->exists)
        view->grows = true;
    /* Whoever removed the object has removed its snapset, too. */
    return run->clones || (view->renewed && state->has_clones) ? put_snapset(run) : 0;
}

/* ---- Rolling back ---- */

/* The head gives way, and becomes a clone if it is to be one. */
static void move_head(struct ops_run *run)
{
    if (!is_taken(run))
        return;
    struct object_id to = clone_id(run, run->context.seq);
    txn_rename(run->view.txn, &to);
    leave_to_head(run, &to);
}

static int find_base(struct ops_run *run, uint64_t snap, struct snap_clone *clone)
{
    struct view_bytes set;
    if (!run->view.base.has_clones)
        return -ENOENT;
    int error = view_base_attr(&run->view, SNAPSET_ATTR, SNAPSET_ATTR_LEN, &set);
    return error ? error : snapset_find(set.data, set.len, snap, clone);
}

/* Whoever watches the object goes on, whatever becomes of its contents. -ENODATA: nobody does. */
static int load_watchers(struct object_view *view, struct view_bytes *out)
{
    if (!view->base.exists)
        return -ENODATA;
    return view_base_attr(view, watchers_attr, sizeof watchers_attr - 1, out);
}

/* The last step of its request: check_steps(). */
int step_rollback(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    (void)data;
    struct object_view *view = &run->view;
    struct snap_clone clone;
    struct view_bytes watchers = {0};
    /* It has not changed since. */
    if (step->offset > view->base.snap_seq)
        return 0;
    int error = find_base(run, step->offset, &clone);
    if (error && error != -ENOENT)
        return error;
    if (error && !view->base.exists)
        return 0;
    int unwatched = error ? -ENODATA : load_watchers(view, &watchers);
    if (unwatched && unwatched != -ENODATA)
        return unwatched;
    move_head(run);
    if (error) {
        view_remove(view);
        return 0;
    }
    struct object_id from = clone_id(run, clone.id);
    run->source = clone.id;
    view_copy(view, &from, &run->request->object, clone.size);
    if (watchers.len > 0)
        view_attr_set(view, watchers_attr, sizeof watchers_attr - 1, watchers.data, watchers.len);
    return 0;
}

/* ---- Telling ---- */

/* What the clone shares with the next newer one, which is `next`, or else with the object. */
static int encode_overlap(struct ops_run *run, const struct snap_clone *clone,
                          const struct snap_clone *next, struct encoder *out)
{
    struct view_bytes same = {0};
    uint64_t other = next ? next->id : OBJECT_HEAD;
    uint64_t other_size = next ? next->size : run->view.base.size;
    uint64_t len = clone->size < other_size ? clone->size : other_size;
    int error = len > 0 ? view_same(&run->view, clone->id, other, len, &same) : 0;
    if (error)
        return error;
    encode_u32(out, same.len / (2 * sizeof(uint64_t)));
    if (same.len > 0)
        encode_bytes(out, same.data, same.len);
    return 0;
}

/* All that is lacking is asked for before the step says so. */
static int encode_clones(struct ops_run *run, struct view_bytes set, struct encoder *out)
{
    struct decoder d;
    struct snap_clone clone, next;
    uint32_t n = 0;
    int missing = 0;
    size_t count_at = out->len;
    encode_u32(out, 0);
    int rc = snapset_begin(&d, set.data, set.len);
    if (!rc)
        rc = snapset_next(&d, &clone);
    for (; rc > 0; n++) {
        rc = snapset_next(&d, &next);
        encode_clone(out, &clone);
        int error = rc < 0 ? 0 : encode_overlap(run, &clone, rc > 0 ? &next : NULL, out);
        if (error == VIEW_MISS)
            missing = error;
        else if (error)
            return error;
        clone = next;
    }
    n = htole32(n);
    if (!out->failed)
        memcpy(out->data + count_at, &n, sizeof n);
    return rc ? rc : missing;
}

int step_list_snaps(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    (void)step;
    (void)data;
    const struct object_state *base = &run->view.base;
    struct view_bytes set = {0};
    struct encoder out;
    int error =
        base->has_clones ? view_base_attr(&run->view, SNAPSET_ATTR, SNAPSET_ATTR_LEN, &set) : 0;
    if (error)
        return error;
    encoder_init(&out);
    encode_u64(&out, base->snap_seq);
    encode_u8(&out, base->exists);
    encode_u64(&out, base->size);
    if (base->has_clones)
        error = encode_clones(run, set, &out);
    else
        encode_u32(&out, 0);
    if (!error)
        return run_give_encoded(run, &out);
    encoder_fini(&out);
    return error;
}
