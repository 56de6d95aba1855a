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

#include "tests/sim/linear_model.h"

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
    struct model state; /* Before it. */
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
    struct model state;
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
    memory->keys = model_must(calloc(memory->capacity, sizeof *memory->keys));
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
            model_changes(other->op))
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
    struct event **calls = model_must(calloc((size_t)s->n_ops + 1, sizeof *calls));
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_events; i++) {
        struct event *event = &s->events[i];
        bool versioned = event->is_call && !event->unknown && model_changes(event->op) &&
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
    s->events = model_must(calloc(2 * (size_t)s->n_ops + 1, sizeof *s->events));
    s->stack = model_must(calloc((size_t)s->n_ops + 1, sizeof *s->stack));
    for (uint32_t i = 0; i < history->n; i++) {
        const struct history_op *op = &history->ops[i];
        bool unknown = op->returned == HISTORY_NEVER;
        /* A read without an answer says nothing. */
        if (op->object != object || (unknown && !model_changes(op)))
            continue;
        s->events[s->n_events++] = (struct event){.op = op,
                                                  .time = op->called,
                                                  .is_call = true,
                                                  .unknown = unknown,
                                                  .token = model_mix(i, 0x746f6b656e)};
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
        model_fini(&s->stack[--s->depth].state);
    model_fini(&s->state);
    free(s->stack);
    free(s->events);
    free(s->memory.keys);
    free(s->deepest_text);
}

/* Lets the operation happen now, if L1 allows it and it leads to something new. */
static bool try_call(struct search *s, struct event *call)
{
    struct model new;
    if ((call->before && !call->before->done) || (call->lower && !call->lower->done))
        return false;
    if (call->unknown && s->row == s->max_row) {
        s->limited = true;
        return false;
    }
    uint32_t row = call->unknown ? s->row + 1 : 0;
    s->steps++;
    if (!model_explain(call->op, &s->state, &new))
        return false;
    uint64_t set = s->set ^ call->token;
    if (!memory_insert(&s->memory, model_mix(model_mix(set, row), model_key(&new)))) {
        model_fini(&new);
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
        model_fini(&s->state);
        s->state = choice->state;
        s->set = choice->set;
        s->row = choice->row;
        call->done = false;
        if (call->match) {
            relink_event(call->match);
            s->n_known_left++;
        }
        relink_event(call);
    } while (!model_changes(call->op) && s->depth > 0);
    return model_changes(call->op) ? candidate(s, call->next) : NULL;
}

/* ---- Explanation ---- */

/* The last operations before the place where the search was stuck, and those that it had left. */
static void remember_deepest(struct search *s)
{
    if (s->n_known_left >= s->fewest_left)
        return;
    s->fewest_left = s->n_known_left;
    free(s->deepest_text);
    size_t size;
    FILE *out = model_must(open_memstream(&s->deepest_text, &size));
    char line[HISTORY_LINE_BYTES];
    fprintf(out, "explained %u of %u operations; the last ones:\n", s->depth, s->n_ops);
    for (uint32_t i = s->depth > 12 ? s->depth - 12 : 0; i < s->depth; i++) {
        history_format(s->stack[i].call->op, line, sizeof line);
        fprintf(out, "  %s\n", line);
    }
    model_describe(out, &s->state);
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
    return op->object == object && op->returned != HISTORY_NEVER && op->result == 0 &&
           model_changes(op);
}

bool versions_check(const struct history *history, uint32_t object, const struct history_op **a,
                    const struct history_op **b)
{
    const struct history_op **ops = model_must(calloc((size_t)history->n + 1, sizeof *ops));
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
