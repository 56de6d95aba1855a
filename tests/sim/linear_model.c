#include "tests/sim/linear_model.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void model_fini(struct model *state)
{
    for (uint32_t i = 0; i < state->n_records; i++)
        free(state->records[i].extents);
    free(state->records);
    free(state->extents);
    memset(state, 0, sizeof *state);
}

/* Appends an extent, joined with the last one if it continues it. */
static void state_push(struct model *state, struct model_extent extent)
{
    if (extent.len == 0 || extent.serial == 0)
        return;
    if (state->n > 0) {
        struct model_extent *last = &state->extents[state->n - 1];
        if (last->serial == extent.serial && last->period == extent.period &&
            last->at + last->len == extent.at && last->from + last->len == extent.from) {
            last->len += extent.len;
            return;
        }
    }
    state->extents[state->n++] = extent;
}

/* Copies those parts of the extents of `from` that lie in [begin, end). */
static void state_push_range(struct model *to, const struct model *from, uint64_t begin,
                             uint64_t end)
{
    for (uint32_t i = 0; i < from->n; i++) {
        struct model_extent extent = from->extents[i];
        uint64_t first = extent.at > begin ? extent.at : begin;
        uint64_t last = extent.at + extent.len < end ? extent.at + extent.len : end;
        if (first >= last)
            continue;
        extent.from += first - extent.at;
        extent.at = first;
        extent.len = last - first;
        state_push(to, extent);
    }
}

static struct model_extent *copy_extents(const struct model_extent *extents, uint32_t n)
{
    struct model_extent *copy = model_must(calloc(n + 1, sizeof *copy));
    if (n > 0)
        memcpy(copy, extents, n * sizeof *copy);
    return copy;
}

/* All that is about snapshots, with room for two more records. */
static void copy_snaps(struct model *to, const struct model *from)
{
    to->snap_low = from->snap_low;
    to->snap_high = from->snap_high;
    to->wild = from->wild;
    to->n_records = from->n_records;
    to->records = model_must(calloc(from->n_records + 2, sizeof *to->records));
    for (uint32_t i = 0; i < from->n_records; i++) {
        to->records[i] = from->records[i];
        to->records[i].extents = copy_extents(from->records[i].extents, from->records[i].n);
    }
}

/* The contents with [extent.at, extent.at + extent.len) replaced, cut to a size. */
static struct model state_replace(const struct model *old, struct model_extent extent,
                                  uint64_t size)
{
    struct model new = {.exists = true,
                        .size = size,
                        .tag = old->tag,
                        .keys = old->keys,
                        .holder = old->holder,
                        .team = old->team};
    copy_snaps(&new, old);
    new.extents = model_must(calloc(old->n + 3, sizeof *new.extents));
    state_push_range(&new, old, 0, extent.at < size ? extent.at : size);
    state_push(&new, extent);
    state_push_range(&new, old, extent.at + extent.len, size);
    return new;
}

static struct model state_change(const struct model *old, uint64_t offset, uint64_t len,
                                 uint64_t serial, uint64_t size)
{
    struct model_extent extent = {.at = offset, .len = len, .serial = serial};
    return state_replace(old, extent, size);
}

static struct model state_copy(const struct model *old)
{
    struct model new = *old;
    copy_snaps(&new, old);
    new.extents = copy_extents(old->extents, old->n);
    return new;
}

/* The bytes of an extent from `skip` on. */
static void extent_fill(const struct model_extent *e, uint64_t skip, uint8_t *out, uint64_t len)
{
    uint64_t from = e->from + skip;
    for (uint64_t part; len > 0; from += part, out += part, len -= part) {
        uint64_t at = e->period ? from % e->period : from;
        part = e->period && e->period - at < len ? e->period - at : len;
        serial_fill(e->serial, at, out, part);
    }
}

/* A part of the contents, to be freed; beyond the end there are zeroes. */
static uint8_t *state_bytes(const struct model *state, uint64_t begin, uint64_t len)
{
    uint8_t *data = model_must(calloc(1, len + 1));
    for (uint32_t i = 0; i < state->n; i++) {
        const struct model_extent *e = &state->extents[i];
        uint64_t first = e->at > begin ? e->at : begin;
        uint64_t last = e->at + e->len < begin + len ? e->at + e->len : begin + len;
        if (first < last)
            extent_fill(e, first - e->at, data + (first - begin), last - first);
    }
    return data;
}

static uint64_t state_content_hash(struct model *state)
{
    if (!state->hashed) {
        uint8_t *data = state_bytes(state, 0, state->size);
        state->hash = content_hash(data, state->size);
        state->hashed = true;
        free(data);
    }
    return state->hash;
}

static uint64_t state_checksum(const struct model *state)
{
    uint8_t *data = state_bytes(state, 0, state->size);
    uint64_t sum = content_crc32c(data, state->size);
    free(data);
    return sum;
}

static uint64_t records_key(const struct model *state)
{
    uint64_t key = model_mix(model_mix(state->snap_low, state->snap_high), state->wild);
    for (uint32_t i = 0; i < state->n_records; i++) {
        const struct model_record *record = &state->records[i];
        key = model_mix(model_mix(model_mix(key, record->first), record->last),
                        record->size + record->vague);
        for (uint32_t k = 0; k < record->n; k++)
            key = model_mix(model_mix(key, record->extents[k].at), record->extents[k].serial);
    }
    return key;
}

uint64_t model_key(const struct model *state)
{
    uint64_t key =
        model_mix(model_mix(model_mix(state->exists, state->size), state->tag), records_key(state));
    key = model_mix(model_mix(key, state->keys), state->holder);
    key = model_mix(key, model_team_key(&state->team));
    for (uint32_t i = 0; i < state->n; i++) {
        const struct model_extent *e = &state->extents[i];
        key = model_mix(model_mix(model_mix(model_mix(key, e->at), e->len), e->serial),
                        model_mix(e->from, e->period));
    }
    return key;
}

/* ---- What an operation does, and what it must have returned ---- */

/* A write of nothing extends an object, too. */
static uint64_t end_of(const struct model *state, uint64_t offset, uint64_t len)
{
    return offset + len > state->size ? offset + len : state->size;
}

/* ---- Snapshots ---- */

static const struct model_record *find_record(const struct model *state, uint64_t snap)
{
    for (uint32_t i = state->n_records; i-- > 0;)
        if (state->records[i].first <= snap && snap <= state->records[i].last)
            return &state->records[i];
    return NULL;
}

static bool is_clone(const struct model_record *record)
{
    return !record->vague;
}

static bool has_clones(const struct model *state)
{
    for (uint32_t i = 0; i < state->n_records; i++)
        if (is_clone(&state->records[i]))
            return true;
    return false;
}

/* Some snapshot of some clone is never removed. */
static bool keeps_clones(const struct model *state, const struct history_snaps *snaps)
{
    for (uint32_t i = 0; i < state->n_records; i++) {
        const struct model_record *record = &state->records[i];
        for (uint64_t snap = record->first; is_clone(record) && snap <= record->last; snap++)
            if (snaps && snaps->alive[snap])
                return true;
    }
    return false;
}

static void add_record(struct model *state, uint64_t first, uint64_t last, const struct model *as)
{
    state->records[state->n_records++] = (struct model_record){
        .first = first,
        .last = last,
        .vague = !as,
        .size = as ? as->size : 0,
        .n = as ? as->n : 0,
        .extents = as ? copy_extents(as->extents, as->n) : NULL,
    };
}

/* A change that has an effect: what was there before is kept for the snapshots since the last. */
static void take_snaps(const struct history_op *op, const struct model *old, struct model *new)
{
    uint64_t snap = op->snap;
    if (snap > old->snap_high && old->exists)
        add_record(new, old->snap_high + 1, snap, old);
    /* Whether the object remembers this much decides what a reader in between sees. */
    if (new->exists && old->snap_low < old->snap_high &&snap < old->snap_high)
        add_record(new, (snap > old->snap_low ? snap : old->snap_low) + 1, old->snap_high, NULL);
    if (snap > new->snap_high)
        new->snap_high = snap;
    new->snap_low = new->snap_high;
    if (new->exists)
        return;
    if (!has_clones(new))
        new->snap_low = new->snap_high = 0;
    else if (!keeps_clones(new, op->snaps))
        new->snap_low = 0;
}

static int roll_back(const struct history_op *op, const struct model *old, struct model *new)
{
    const struct model_record *record = find_record(old, op->offset);
    *new = state_copy(old);
    /* One that was removed before the answer may be gone, or not. */
    uint64_t removed = op->snaps ? op->snaps->removed[op->offset] : 0;
    if ((record && record->vague) || (removed > 0 && removed < op->returned))
        new->wild = true;
    if ((!record && (op->offset > old->snap_low || !old->exists)) || new->wild)
        return 0;
    free(new->extents);
    new->exists = record != NULL;
    new->hashed = false;
    new->tag = new->keys = new->holder = 0;
    new->team = (struct model_team){0};
    new->size = record ? record->size : 0;
    new->n = record ? record->n : 0;
    new->extents = copy_extents(record ? record->extents : NULL, new->n);
    take_snaps(op, old, new);
    return 0;
}

/* Whether a read of a snapshot has seen what it must. */
static bool explain_snap(const struct history_op *op, const struct model *old)
{
    const struct model_record *record = find_record(old, op->offset);
    if (record && record->vague)
        return true;
    struct model seen = {.exists = record != NULL};
    if (record) {
        seen.size = record->size;
        seen.n = record->n;
        seen.extents = copy_extents(record->extents, record->n);
    } else if (op->offset > old->snap_high) {
        seen = state_copy(old);
    }
    bool right = op->result == (seen.exists ? 0 : -ENOENT);
    if (right && seen.exists)
        right = op->size == seen.size && op->hash == state_content_hash(&seen);
    model_fini(&seen);
    return right;
}

static bool zero_changes(const struct history_op *op, const struct model *old)
{
    return old->exists && op->len > 0 && op->offset < old->size;
}

/* ---- Contents that are compared, keys, locks ---- */

static uint64_t guard_position(const struct history_op *op, const struct model *old)
{
    struct model_extent expected = {
        .len = op->len, .serial = op->expected, .from = op->expected_from};
    uint8_t *there = state_bytes(old, op->offset, op->len);
    uint8_t *wanted = model_must(calloc(1, op->len + 1));
    uint64_t at = 0;
    extent_fill(&expected, 0, wanted, op->len);
    while (at < op->len && there[at] == wanted[at])
        at++;
    free(there);
    free(wanted);
    return at;
}

static int write_if(const struct history_op *op, const struct model *old, struct model *new)
{
    uint64_t at = guard_position(op, old);
    if (at < op->len) {
        *new = state_copy(old);
        return -WIRE_MISMATCH - (int)at;
    }
    *new = state_change(old, op->offset, op->len, op->serial, end_of(old, op->offset, op->len));
    return 0;
}

static struct model write_same(const struct history_op *op, const struct model *old)
{
    struct model_extent extent = {
        .at = op->offset, .len = op->len, .serial = op->serial, .period = op->period};
    return op->len > 0 ? state_replace(old, extent, end_of(old, op->offset, op->len))
                       : state_copy(old);
}

/* On what there is beside the contents. */
static int change_beside(const struct history_op *op, const struct model *old, struct model *new)
{
    *new = state_copy(old);
    switch (op->kind) {
    case HISTORY_KEYS_SET:
        new->exists = true;
        new->keys |= op->offset;
        return 0;
    case HISTORY_KEYS_CUT:
        new->keys &= ~history_keys_range(op->offset, op->len);
        return old->exists ? 0 : -ENOENT;
    case HISTORY_LOCK:
        if (old->holder != 0)
            return old->holder == op->offset ? -EEXIST : -EBUSY;
        new->exists = true;
        new->holder = op->offset;
        return 0;
    case HISTORY_UNLOCK:
    case HISTORY_BREAK_LOCK:
        if (old->holder == 0 || old->holder != op->offset)
            return -ENOENT;
        new->holder = 0;
        return 0;
    default:
        abort();
    }
}

static int change_team(const struct history_op *op, const struct model *old, struct model *new)
{
    *new = state_copy(old);
    int result = model_team_run(op, &new->team);
    if (result == 0 && !history_reads(op->kind))
        new->exists = true;
    return result;
}

/* The result in this state; the state after it is written to *new. */
static int change_state(const struct history_op *op, const struct model *old, struct model *new)
{
    if (op->returned != HISTORY_NEVER && op->result == -ENOSPC) {
        *new = state_copy(old);
        return -ENOSPC; /* Whenever it likes: disks have nothing to do with the object. */
    }
    switch (op->kind) {
    case HISTORY_ROLLBACK:
        return roll_back(op, old, new);
    case HISTORY_READ_SNAP:
        *new = state_copy(old);
        return op->result;
    case HISTORY_WRITE_FULL:
        *new = state_change(old, 0, op->len, op->serial, op->len);
        return 0;
    case HISTORY_WRITE_AT:
        *new = state_change(old, op->offset, op->len, op->serial, end_of(old, op->offset, op->len));
        return 0;
    case HISTORY_APPEND:
        *new = state_change(old, old->size, op->len, op->serial, old->size + op->len);
        return 0;
    case HISTORY_TRUNCATE:
        *new = old->exists ? state_change(old, op->offset, 0, 0, op->offset) : state_copy(old);
        return 0;
    case HISTORY_ZERO:
        if (!zero_changes(op, old))
            *new = state_copy(old);
        else if (op->offset + op->len >= old->size)
            *new = state_change(old, op->offset, 0, 0, op->offset);
        else
            *new = state_change(old, op->offset, op->len, 0, old->size);
        return 0;
    case HISTORY_WRITE_SAME:
        *new = write_same(op, old);
        return 0;
    case HISTORY_WRITE_IF:
        return write_if(op, old, new);
    case HISTORY_HINT:
        *new = state_copy(old);
        new->exists = true;
        return 0;
    case HISTORY_KEYS_SET:
    case HISTORY_KEYS_CUT:
    case HISTORY_LOCK:
    case HISTORY_UNLOCK:
    case HISTORY_BREAK_LOCK:
        return change_beside(op, old, new);
    case HISTORY_SHARE:
    case HISTORY_SEIZE:
    case HISTORY_LEAVE:
    case HISTORY_EVICT:
    case HISTORY_RENAME:
        return change_team(op, old, new);
    case HISTORY_HELD: {
        int result = change_team(op, old, new);
        return old->exists ? result : -ENOENT;
    }
    case HISTORY_GREET:
        *new = old->exists ? state_copy(old)
                           : state_change(old, 0, strlen(history_greeting), SERIAL_GREETING,
                                          strlen(history_greeting));
        return old->exists ? -EEXIST : 0;
    case HISTORY_REMOVE:
        *new = (struct model){0};
        copy_snaps(new, old);
        return old->exists ? 0 : -ENOENT;
    case HISTORY_CREATE:
        *new = state_copy(old);
        new->exists = true;
        return old->exists ? -EEXIST : 0;
    case HISTORY_EXCHANGE_IF:
        if (!old->exists || old->tag != op->offset) {
            *new = state_copy(old);
            return old->exists ? -ECANCELED : -ENOENT;
        }
        /* fallthrough */
    case HISTORY_EXCHANGE:
        *new = state_copy(old);
        new->exists = true;
        new->tag = op->serial;
        return 0;
    case HISTORY_READ:
    case HISTORY_STAT:
    case HISTORY_LOOK:
    case HISTORY_CHECKSUM:
    case HISTORY_KEYS_LIST:
    case HISTORY_HOLDER:
    case HISTORY_SAY:
    case HISTORY_TEAM:
        *new = state_copy(old);
        return old->exists ? 0 : -ENOENT;
    case HISTORY_KINDS_END:
        break;
    }
    abort();
}

/* Whether it is a change that has an effect, which takes what snapshots want first. */
static bool has_effect(const struct history_op *op, const struct model *old, int result)
{
    switch (op->kind) {
    case HISTORY_ROLLBACK: /* Sees to it by itself. */
        return false;
    case HISTORY_TRUNCATE:
        return result == 0 && old->exists;
    case HISTORY_ZERO:
        return result == 0 && zero_changes(op, old);
    case HISTORY_WRITE_SAME:
        return result == 0 && op->len > 0;
    case HISTORY_HINT:
        return result == 0 && !old->exists;
    default:
        return result == 0 && model_changes(op);
    }
}

static int run_op(const struct history_op *op, const struct model *old, struct model *new)
{
    int result = change_state(op, old, new);
    if (has_effect(op, old, result))
        take_snaps(op, old, new);
    return result;
}

bool model_changes(const struct history_op *op)
{
    return !history_reads(op->kind);
}

/* The first `len` keys of those that were asked for; `size`: there are more of them. */
static bool explain_keys(const struct history_op *op, const struct model *old)
{
    uint64_t found = 0, left = old->keys & history_keys_group(op->offset);
    for (uint64_t i = 0; i < op->len && left; i++) {
        uint64_t lowest = left & (0 - left);
        found |= lowest;
        left ^= lowest;
    }
    return op->hash == found && op->size == (left != 0);
}

/* Whether an operation that succeeded, in this state, gave what it must. */
static bool explain_answer(const struct history_op *op, struct model *old)
{
    switch (op->kind) {
    case HISTORY_STAT:
        return op->size == old->size;
    case HISTORY_READ:
        return op->size == old->size && op->hash == state_content_hash(old);
    case HISTORY_CHECKSUM: /* Of nothing there is none. */
        return op->size == (old->size > 0) && op->hash == (old->size > 0 ? state_checksum(old) : 0);
    case HISTORY_EXCHANGE:
    case HISTORY_LOOK:
        return op->hash == old->tag;
    case HISTORY_KEYS_LIST:
        return explain_keys(op, old);
    case HISTORY_HOLDER:
        return op->hash == old->holder;
    case HISTORY_TEAM:
        return model_team_explain(op, &old->team, old->holder);
    default:
        return true;
    }
}

bool model_explain(const struct history_op *op, struct model *old, struct model *new)
{
    int result = run_op(op, old, new);
    if (op->returned == HISTORY_NEVER || old->wild)
        return true;
    bool right = result == op->result;
    if (right && op->kind == HISTORY_READ_SNAP)
        right = explain_snap(op, old);
    if (right && result == 0)
        right = explain_answer(op, old);
    if (!right)
        model_fini(new);
    return right;
}

void model_describe(FILE *out, struct model *state)
{
    fprintf(out, "  state: %s size=%" PRIu64 " hash=%" PRIx64, state->exists ? "exists" : "absent",
            state->size, state_content_hash(state));
    for (uint32_t i = 0; i < state->n; i++) {
        const struct model_extent *e = &state->extents[i];
        fprintf(out, " [%" PRIu64 "+%" PRIu64 " serial %" PRIu64 "+%" PRIu64 "]", e->at, e->len,
                e->serial, e->from);
    }
    if (state->tag || state->keys || state->holder)
        fprintf(out, " tag=%" PRIu64 " keys=%" PRIx64 " holder=%" PRIu64, state->tag, state->keys,
                state->holder);
    fputc('\n', out);
}
