/*
 * The checker. Calls and returns stand in one list, by time. The search takes calls from the front
 * part of the list, up to the first return, since whatever has not happened before that return
 * cannot be what the returning operation waited for:
 *
 *  L1  An operation may come next when its call is before the first return that is left, when the
 *      same client's changes of the object that were called before it are done, and when the
 *      object's state explains its result. (A read may be repeated after a failure, and then see
 *      changes that were called after it.)
 *  L2  An operation whose outcome is unknown has no return: it may come at any place, or never. So
 *      it is tried where nothing else leads on.
 *  L3  All is explained when no operation with a known outcome is left.
 *  L4  A read that may come next, may come next: whatever order is found without it, there is one
 *      that begins with it. So nothing else is tried in its place.
 *  L5  Few operations with an unknown outcome are needed to explain what comes after them, since
 *      many overwrite each other. So the search is made with at most one in a row, then two, and
 *      so on, and with any number at last.
 *  L6  Changes that were answered with a version happened in the order of their versions. This is
 *      more than a history must satisfy, and what the OSDs promise; it leaves few orders to try.
 */
#include "tests/sim/linear.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/random.h"

/* ---- The object's state ---- */

struct extent {
    uint64_t at;
    uint64_t len;
    uint64_t serial;
    uint64_t from; /* Position in the serial's data. */
};

/*
 * The object as it was at some snapshots. `vague`: whether the object has kept it depends on when a
 * trimmer came by, so anything is right.
 */
struct record {
    uint64_t first, last;
    bool vague;
    uint64_t size;
    uint32_t n;
    struct extent *extents;
};

struct state {
    bool exists;
    bool hashed;
    uint64_t size;
    uint64_t hash; /* Of the contents; valid when hashed. */
    uint64_t tag;
    uint32_t n;
    struct extent *extents; /* By position; what they leave out is zero. */
    /*
     * The newest snapshot that a writer knew of. The object forgets it when it is removed with no
     * clone left; where that depends on a trimmer it is one of both.
     */
    uint64_t snap_low, snap_high;
    bool wild; /* Rolled back to what may not be there: nothing is known any more. */
    uint32_t n_records;
    struct record *records; /* In the order in which they came into being. */
};

static void *must(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

static void state_fini(struct state *state)
{
    for (uint32_t i = 0; i < state->n_records; i++)
        free(state->records[i].extents);
    free(state->records);
    free(state->extents);
    memset(state, 0, sizeof *state);
}

/* Appends an extent, joined with the last one if it continues it. */
static void state_push(struct state *state, struct extent extent)
{
    if (extent.len == 0 || extent.serial == 0)
        return;
    if (state->n > 0) {
        struct extent *last = &state->extents[state->n - 1];
        if (last->serial == extent.serial && last->at + last->len == extent.at &&
            last->from + last->len == extent.from) {
            last->len += extent.len;
            return;
        }
    }
    state->extents[state->n++] = extent;
}

/* Copies those parts of the extents of `from` that lie in [begin, end). */
static void state_push_range(struct state *to, const struct state *from, uint64_t begin,
                             uint64_t end)
{
    for (uint32_t i = 0; i < from->n; i++) {
        struct extent extent = from->extents[i];
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

static struct extent *copy_extents(const struct extent *extents, uint32_t n)
{
    struct extent *copy = must(calloc(n + 1, sizeof *copy));
    if (n > 0)
        memcpy(copy, extents, n * sizeof *copy);
    return copy;
}

/* All that is about snapshots, with room for two more records. */
static void copy_snaps(struct state *to, const struct state *from)
{
    to->snap_low = from->snap_low;
    to->snap_high = from->snap_high;
    to->wild = from->wild;
    to->n_records = from->n_records;
    to->records = must(calloc(from->n_records + 2, sizeof *to->records));
    for (uint32_t i = 0; i < from->n_records; i++) {
        to->records[i] = from->records[i];
        to->records[i].extents = copy_extents(from->records[i].extents, from->records[i].n);
    }
}

/* The contents with [offset, offset + len) replaced by a serial's data, cut to a size. */
static struct state state_change(const struct state *old, uint64_t offset, uint64_t len,
                                 uint64_t serial, uint64_t size)
{
    struct state new = {.exists = true, .size = size, .tag = old->tag};
    copy_snaps(&new, old);
    new.extents = must(calloc(old->n + 3, sizeof *new.extents));
    state_push_range(&new, old, 0, offset < size ? offset : size);
    state_push(&new, (struct extent){.at = offset, .len = len, .serial = serial});
    state_push_range(&new, old, offset + len, size);
    return new;
}

static struct state state_copy(const struct state *old)
{
    struct state new = *old;
    copy_snaps(&new, old);
    new.extents = copy_extents(old->extents, old->n);
    return new;
}

static uint64_t state_content_hash(struct state *state)
{
    if (!state->hashed) {
        uint8_t *data = must(calloc(1, state->size + 1));
        for (uint32_t i = 0; i < state->n; i++) {
            const struct extent *e = &state->extents[i];
            serial_fill(e->serial, e->from, data + e->at, e->len);
        }
        state->hash = content_hash(data, state->size);
        state->hashed = true;
        free(data);
    }
    return state->hash;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t z = random_split(&a) + b;
    return random_split(&z);
}

static uint64_t records_key(const struct state *state)
{
    uint64_t key = mix(mix(state->snap_low, state->snap_high), state->wild);
    for (uint32_t i = 0; i < state->n_records; i++) {
        const struct record *record = &state->records[i];
        key = mix(mix(mix(key, record->first), record->last), record->size + record->vague);
        for (uint32_t k = 0; k < record->n; k++)
            key = mix(mix(key, record->extents[k].at), record->extents[k].serial);
    }
    return key;
}

static uint64_t state_key(const struct state *state)
{
    uint64_t key = mix(mix(mix(state->exists, state->size), state->tag), records_key(state));
    for (uint32_t i = 0; i < state->n; i++) {
        const struct extent *e = &state->extents[i];
        key = mix(mix(mix(mix(key, e->at), e->len), e->serial), e->from);
    }
    return key;
}

/* ---- What an operation does, and what it must have returned ---- */

/* A write of nothing extends an object, too. */
static uint64_t end_of(const struct state *state, uint64_t offset, uint64_t len)
{
    return offset + len > state->size ? offset + len : state->size;
}

/* ---- Snapshots ---- */

static const struct record *find_record(const struct state *state, uint64_t snap)
{
    for (uint32_t i = state->n_records; i-- > 0;)
        if (state->records[i].first <= snap && snap <= state->records[i].last)
            return &state->records[i];
    return NULL;
}

static bool is_clone(const struct record *record)
{
    return !record->vague;
}

static bool has_clones(const struct state *state)
{
    for (uint32_t i = 0; i < state->n_records; i++)
        if (is_clone(&state->records[i]))
            return true;
    return false;
}

/* Some snapshot of some clone is never removed. */
static bool keeps_clones(const struct state *state, const struct history_snaps *snaps)
{
    for (uint32_t i = 0; i < state->n_records; i++) {
        const struct record *record = &state->records[i];
        for (uint64_t snap = record->first; is_clone(record) && snap <= record->last; snap++)
            if (snaps && snaps->alive[snap])
                return true;
    }
    return false;
}

static void add_record(struct state *state, uint64_t first, uint64_t last, const struct state *as)
{
    state->records[state->n_records++] = (struct record){
        .first = first,
        .last = last,
        .vague = !as,
        .size = as ? as->size : 0,
        .n = as ? as->n : 0,
        .extents = as ? copy_extents(as->extents, as->n) : NULL,
    };
}

/* A change that has an effect: what was there before is kept for the snapshots since the last. */
static void take_snaps(const struct history_op *op, const struct state *old, struct state *new)
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

static int roll_back(const struct history_op *op, const struct state *old, struct state *new)
{
    const struct record *record = find_record(old, op->offset);
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
    new->tag = 0;
    new->size = record ? record->size : 0;
    new->n = record ? record->n : 0;
    new->extents = copy_extents(record ? record->extents : NULL, new->n);
    take_snaps(op, old, new);
    return 0;
}

/* Whether a read of a snapshot has seen what it must. */
static bool explain_snap(const struct history_op *op, const struct state *old)
{
    const struct record *record = find_record(old, op->offset);
    if (record && record->vague)
        return true;
    struct state seen = {.exists = record != NULL};
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
    state_fini(&seen);
    return right;
}

static bool zero_changes(const struct history_op *op, const struct state *old)
{
    return old->exists && op->len > 0 && op->offset < old->size;
}

/* The result in this state; the state after it is written to *new. */
static int change_state(const struct history_op *op, const struct state *old, struct state *new)
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
    case HISTORY_REMOVE:
        *new = (struct state){0};
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
        *new = state_copy(old);
        return old->exists ? 0 : -ENOENT;
    case HISTORY_KINDS_END:
        break;
    }
    abort();
}

/* Whether it is a change that has an effect, which takes what snapshots want first. */
static bool has_effect(const struct history_op *op, const struct state *old, int result)
{
    switch (op->kind) {
    case HISTORY_READ:
    case HISTORY_STAT:
    case HISTORY_LOOK:
    case HISTORY_READ_SNAP:
    case HISTORY_ROLLBACK: /* Sees to it by itself. */
        return false;
    case HISTORY_TRUNCATE:
        return result == 0 && old->exists;
    case HISTORY_ZERO:
        return result == 0 && zero_changes(op, old);
    default:
        return result == 0;
    }
}

static int run_op(const struct history_op *op, const struct state *old, struct state *new)
{
    int result = change_state(op, old, new);
    if (has_effect(op, old, result))
        take_snaps(op, old, new);
    return result;
}

static bool changes(const struct history_op *op)
{
    return op->kind != HISTORY_READ_SNAP && op->kind != HISTORY_READ && op->kind != HISTORY_STAT &&
           op->kind != HISTORY_LOOK;
}

/* Whether the operation, run now, returns what it returned. */
static bool explain(const struct history_op *op, struct state *old, struct state *new)
{
    int result = run_op(op, old, new);
    if (op->returned == HISTORY_NEVER || old->wild)
        return true;
    bool right = result == op->result;
    if (right && op->kind == HISTORY_READ_SNAP)
        right = explain_snap(op, old);
    if (right && result == 0 && (op->kind == HISTORY_READ || op->kind == HISTORY_STAT)) {
        right = op->size == old->size;
        if (right && op->kind == HISTORY_READ)
            right = op->hash == state_content_hash(old);
    }
    if (right && result == 0 && (op->kind == HISTORY_EXCHANGE || op->kind == HISTORY_LOOK))
        right = op->hash == old->tag;
    if (!right)
        state_fini(new);
    return right;
}

/* ---- The search ---- */

struct event {
    struct event *prev, *next;
    struct event *match; /* Of a call: its return, or NULL. Of a return: NULL. */
    const struct history_op *op;
    struct event *before; /* The same client's call before this one; NULL: none. */
    struct event *lower;  /* The change with the next lower version; NULL: none. */
    uint64_t time;
    uint64_t token; /* Stands for the operation in the hash of a set. */
    bool is_call;
    bool unknown; /* Stands in the list of those without a return. */
    bool done;
};

struct choice {
    struct event *call;
    struct state state; /* Before it. */
    uint64_t set;
    uint32_t row;
};

/* Configurations that were visited: an open-addressing table of hashes. */
struct memory {
    uint64_t *keys;
    uint64_t n;
    uint64_t capacity;
};

struct search {
    struct event head; /* Before the first with a known outcome, */
    struct event tail; /* and after the last. */
    struct event unknown_head;
    struct event *events;
    uint32_t n_events;
    uint32_t n_ops;
    uint32_t n_known_left;
    struct state state;
    uint64_t set;
    uint32_t row; /* Operations with an unknown outcome, since the last with a known one. */
    uint32_t max_row;
    bool limited; /* The limit kept something from being tried. */
    struct choice *stack;
    uint32_t depth;
    struct memory memory;
    uint64_t steps;
    /* The furthest place, for the explanation. */
    uint32_t deepest;
    uint32_t fewest_left;
    char *deepest_text;
};

static bool memory_insert(struct memory *memory, uint64_t key);

static void memory_grow(struct memory *memory)
{
    struct memory old = *memory;
    memory->capacity = old.capacity ? 2 * old.capacity : 1024;
    memory->keys = must(calloc(memory->capacity, sizeof *memory->keys));
    memory->n = 0;
    for (uint64_t i = 0; i < old.capacity; i++) {
        if (old.keys[i])
            (void)memory_insert(memory, old.keys[i]);
    }
    free(old.keys);
}

/* False when it was there. */
static bool memory_insert(struct memory *memory, uint64_t key)
{
    if (2 * memory->n >= memory->capacity)
        memory_grow(memory);
    key |= 1;
    uint64_t i = key >> 8;
    for (;; i++) {
        uint64_t *slot = &memory->keys[i & (memory->capacity - 1)];
        if (*slot == key)
            return false;
        if (*slot == 0) {
            *slot = key;
            memory->n++;
            return true;
        }
    }
}

static int event_compare(const void *a, const void *b)
{
    const struct event *x = a, *y = b;
    if (x->time != y->time)
        return x->time < y->time ? -1 : 1;
    /* At the same instant, calls first: then the operations overlap. */
    if (x->is_call != y->is_call)
        return x->is_call ? -1 : 1;
    return x->op < y->op ? -1 : x->op > y->op;
}

static void unlink_event(struct event *event)
{
    event->prev->next = event->next;
    if (event->next)
        event->next->prev = event->prev;
}

static void relink_event(struct event *event)
{
    event->prev->next = event;
    if (event->next)
        event->next->prev = event;
}

static struct event *append_event(struct event *last, struct event *event)
{
    event->prev = last;
    event->next = NULL;
    last->next = event;
    return event;
}

static void find_relations(struct search *s, uint32_t i)
{
    struct event *event = &s->events[i];
    for (uint32_t j = i + 1; j < s->n_events && !event->match; j++) {
        if (s->events[j].op == event->op)
            event->match = &s->events[j];
    }
    for (uint32_t j = i; j > 0 && !event->before; j--) {
        struct event *other = &s->events[j - 1];
        /* One whose outcome is unknown may never happen, and nobody waits for it. */
        if (other->is_call && other->op->client == event->op->client && !other->unknown &&
            changes(other->op))
            event->before = other;
    }
}

static int version_order(struct wire_version a, struct wire_version b)
{
    if (a.config != b.config)
        return a.config < b.config ? -1 : 1;
    return (a.sequence > b.sequence) - (a.sequence < b.sequence);
}

static int by_version(const void *a, const void *b)
{
    const struct event *const *x = a, *const *y = b;
    return version_order((*x)->op->version, (*y)->op->version);
}

/* L6. Histories that tests make up may have no versions. */
static void link_versions(struct search *s)
{
    struct event **calls = must(calloc((size_t)s->n_ops + 1, sizeof *calls));
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_events; i++) {
        struct event *event = &s->events[i];
        bool versioned = event->is_call && !event->unknown && changes(event->op) &&
                         event->op->result == 0 && event->op->version.sequence > 0;
        if (versioned)
            calls[n++] = event;
    }
    qsort(calls, n, sizeof *calls, by_version);
    for (uint32_t i = 1; i < n; i++) {
        if (by_version(&calls[i - 1], &calls[i]) != 0)
            calls[i]->lower = calls[i - 1];
    }
    free(calls);
}

static void search_link(struct search *s)
{
    struct event *last = &s->head, *last_unknown = &s->unknown_head;
    for (uint32_t i = 0; i < s->n_events; i++) {
        struct event *event = &s->events[i];
        if (event->is_call)
            find_relations(s, i);
        if (event->unknown)
            last_unknown = append_event(last_unknown, event);
        else
            last = append_event(last, event);
    }
    s->tail.time = UINT64_MAX;
    append_event(last, &s->tail);
    link_versions(s);
}

static void search_init(struct search *s, const struct history *history, uint32_t object)
{
    memset(s, 0, sizeof *s);
    for (uint32_t i = 0; i < history->n; i++)
        s->n_ops += history->ops[i].object == object;
    s->events = must(calloc(2 * (size_t)s->n_ops + 1, sizeof *s->events));
    s->stack = must(calloc((size_t)s->n_ops + 1, sizeof *s->stack));
    for (uint32_t i = 0; i < history->n; i++) {
        const struct history_op *op = &history->ops[i];
        bool unknown = op->returned == HISTORY_NEVER;
        /* A read without an answer says nothing. */
        if (op->object != object || (unknown && !changes(op)))
            continue;
        s->events[s->n_events++] = (struct event){.op = op,
                                                  .time = op->called,
                                                  .is_call = true,
                                                  .unknown = unknown,
                                                  .token = mix(i, 0x746f6b656e)};
        if (unknown)
            continue;
        s->n_known_left++;
        s->events[s->n_events++] = (struct event){.op = op, .time = op->returned};
    }
    qsort(s->events, s->n_events, sizeof *s->events, event_compare);
    search_link(s);
    s->fewest_left = UINT32_MAX;
}

static void search_fini(struct search *s)
{
    while (s->depth > 0)
        state_fini(&s->stack[--s->depth].state);
    state_fini(&s->state);
    free(s->stack);
    free(s->events);
    free(s->memory.keys);
    free(s->deepest_text);
}

/* Lets the operation happen now, if L1 allows it and it leads to something new. */
static bool try_call(struct search *s, struct event *call)
{
    struct state new;
    if ((call->before && !call->before->done) || (call->lower && !call->lower->done))
        return false;
    if (call->unknown && s->row == s->max_row) {
        s->limited = true;
        return false;
    }
    uint32_t row = call->unknown ? s->row + 1 : 0;
    s->steps++;
    if (!explain(call->op, &s->state, &new))
        return false;
    uint64_t set = s->set ^ call->token;
    if (!memory_insert(&s->memory, mix(mix(set, row), state_key(&new)))) {
        state_fini(&new);
        return false;
    }
    s->stack[s->depth++] =
        (struct choice){.call = call, .state = s->state, .set = s->set, .row = s->row};
    s->state = new;
    s->set = set;
    s->row = row;
    call->done = true;
    unlink_event(call);
    if (call->match) {
        unlink_event(call->match);
        s->n_known_left--;
    }
    return true;
}

/* When the first operation that is left returned. */
static uint64_t first_return(const struct search *s)
{
    const struct event *event = s->head.next;
    while (event->is_call)
        event = event->next;
    return event->time;
}

/* The call to try when all those before `event`, of either list, were tried. NULL: none. */
static struct event *candidate(struct search *s, struct event *event)
{
    if (event && !event->unknown) {
        if (event->is_call)
            return event;
        event = s->unknown_head.next;
    }
    return event && event->time < first_return(s) ? event : NULL;
}

/* Takes the last choice back, and all before it that have no alternative. */
static struct event *take_back(struct search *s)
{
    struct event *call;
    do {
        struct choice *choice = &s->stack[--s->depth];
        call = choice->call;
        state_fini(&s->state);
        s->state = choice->state;
        s->set = choice->set;
        s->row = choice->row;
        call->done = false;
        if (call->match) {
            relink_event(call->match);
            s->n_known_left++;
        }
        relink_event(call);
    } while (!changes(call->op) && s->depth > 0);
    return changes(call->op) ? candidate(s, call->next) : NULL;
}

/* ---- Explanation ---- */

static void describe_state(FILE *out, struct state *state)
{
    fprintf(out, "  state: %s size=%" PRIu64 " hash=%" PRIx64, state->exists ? "exists" : "absent",
            state->size, state_content_hash(state));
    for (uint32_t i = 0; i < state->n; i++) {
        const struct extent *e = &state->extents[i];
        fprintf(out, " [%" PRIu64 "+%" PRIu64 " serial %" PRIu64 "+%" PRIu64 "]", e->at, e->len,
                e->serial, e->from);
    }
    fputc('\n', out);
}

/* The last operations before the place where the search was stuck, and those that it had left. */
static void remember_deepest(struct search *s)
{
    if (s->n_known_left >= s->fewest_left)
        return;
    s->fewest_left = s->n_known_left;
    free(s->deepest_text);
    size_t size;
    FILE *out = must(open_memstream(&s->deepest_text, &size));
    char line[320];
    fprintf(out, "explained %u of %u operations; the last ones:\n", s->depth, s->n_ops);
    for (uint32_t i = s->depth > 12 ? s->depth - 12 : 0; i < s->depth; i++) {
        history_format(s->stack[i].call->op, line, sizeof line);
        fprintf(out, "  %s\n", line);
    }
    describe_state(out, &s->state);
    fprintf(out, "none of these can come next:\n");
    for (struct event *event = candidate(s, s->head.next); event;
         event = candidate(s, event->next)) {
        history_format(event->op, line, sizeof line);
        fprintf(out, "  %s\n", line);
    }
    fclose(out);
}

static enum linear_verdict search_run(struct search *s, uint64_t max_steps)
{
    struct event *event = candidate(s, s->head.next);
    while (s->n_known_left > 0) {
        if (s->steps > max_steps)
            return LINEAR_UNDECIDED;
        if (event) {
            event = candidate(s, try_call(s, event) ? s->head.next : event->next);
            continue;
        }
        remember_deepest(s);
        if (s->depth == 0)
            return LINEAR_VIOLATED;
        event = take_back(s);
    }
    return LINEAR_OK;
}

enum linear_verdict linear_check(const struct history *history, uint32_t object, uint64_t max_steps,
                                 char **why)
{
    static const uint32_t rows[] = {1, 2, 3, 4, 6, UINT32_MAX};
    enum linear_verdict verdict = LINEAR_UNDECIDED;
    bool decided = false;
    *why = NULL;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && !decided; i++) {
        struct search s;
        search_init(&s, history, object);
        s.max_row = rows[i];
        verdict = search_run(&s, max_steps);
        decided = verdict == LINEAR_OK || (verdict == LINEAR_VIOLATED && !s.limited);
        free(*why);
        *why = NULL;
        if (verdict != LINEAR_OK) {
            *why = s.deepest_text;
            s.deepest_text = NULL;
        }
        search_fini(&s);
    }
    return verdict;
}

/* ---- Versions ---- */

static bool has_version(const struct history_op *op, uint32_t object)
{
    return op->object == object && op->returned != HISTORY_NEVER && op->result == 0 && changes(op);
}

bool versions_check(const struct history *history, uint32_t object, const struct history_op **a,
                    const struct history_op **b)
{
    const struct history_op **ops = must(calloc((size_t)history->n + 1, sizeof *ops));
    uint32_t n = 0;
    bool grow = true;
    for (uint32_t i = 0; i < history->n; i++) {
        if (has_version(&history->ops[i], object))
            ops[n++] = &history->ops[i];
    }
    for (uint32_t i = 0; i < n && grow; i++) {
        for (uint32_t j = 0; j < i && grow; j++) {
            if (ops[j]->returned >= ops[i]->called)
                continue;
            grow = version_order(ops[j]->version, ops[i]->version) < 0;
            *a = ops[j];
            *b = ops[i];
        }
    }
    free(ops);
    return grow;
}
