#include "tests/sim/workload.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "osd/pg/pg_clients.h"
#include "placement/hash.h"
#include "tests/sim/snaps.h"
#include "tests/sim/steps.h"

enum { OBJECT_NAME_BYTES = 24, SWEEP_SLOTS = 2 };

/* A workload of the scenario, as this seed has it. */
struct part {
    const struct scenario_workload *plan;
    uint32_t first_object, n_objects;
    uint64_t think_ns;
    uint64_t grow_until;
    bool write_first;
    uint32_t mix[HISTORY_KINDS_END]; /* Weights. */
    uint32_t mix_sum;
    uint32_t take_snap, drop_snap; /* Weights, beside those. */
    bool snaps;                    /* Its objects have snapshots. */
};

/* One operation at a time. */
struct slot {
    struct workload *workload;
    const struct part *part; /* NULL: the administrator's. */
    struct cluster_client *client;
    struct client_op op;
    bool busy;
    uint32_t call; /* In the history. */
    uint64_t snaps[SNAPS_ALIVE_MAX];
    struct snaps_command command;
    struct env_timer next;
};

/* What a client does. */
struct worker {
    uint32_t n;
    struct slot slots[WORKLOAD_SLOTS_MAX];
};

/* What an object is named by, besides its name. */
enum { VARIANT_SPACE = 1, VARIANT_LOCATOR = 2, NAME_VARIANTS = 4 };

struct object {
    char name[OBJECT_NAME_BYTES];
    bool has_space, has_locator;
    char locator[OBJECT_NAME_BYTES];
    uint64_t pool;
    uint64_t size_seen; /* What the last answer suggests; a hint for choosing offsets. */
    uint64_t tag_seen;  /* Likewise, of its tag, */
    uint64_t holder;    /* and of who has its lock, */
    uint64_t member, member_cookie; /* or is among those who have the other one. */
    /* What was written last: bytes of a serial's data, from its beginning. */
    struct {
        uint64_t serial, at, len;
    } last;
    bool exists; /* As the last read of all found it. */
    const struct part *part;
};

/* The administrator goes through objects, one operation each. */
struct sweep {
    enum history_kind kind;
    uint64_t snap; /* HISTORY_READ_SNAP */
    uint32_t next, end;
};

struct workload {
    struct cluster *cluster;
    struct workload_options options;
    struct history history;
    uint32_t n_parts;
    struct part parts[SCENARIO_WORKLOADS_MAX];
    uint32_t n_objects;
    struct object *objects;
    struct worker workers[CLUSTER_CLIENTS_MAX + 1];
    uint64_t next_serial;
    uint32_t n_answered;
    uint64_t longest;
    bool started;
    bool stopped;
    struct sweep sweep;
    struct snaps snaps;
};

/* ---- Choosing ---- */

static uint64_t below(struct workload *w, uint64_t n)
{
    return sim_below(w->cluster->sim, n);
}

static uint64_t choose(struct workload *w, const struct scenario_value *value)
{
    return scenario_choose(value, w->cluster->sim);
}

static enum history_kind choose_kind(struct workload *w, const struct part *part, uint64_t size)
{
    uint64_t dice = below(w, part->mix_sum);
    int kind = 0;
    while (dice >= part->mix[kind])
        dice -= part->mix[kind++];
    if (kind == HISTORY_APPEND && size >= part->grow_until)
        return HISTORY_WRITE_FULL;
    return (enum history_kind)kind;
}

/* Mostly bytes that were written last; sometimes some more, and zeroes when nothing is known. */
static void choose_guarded(struct workload *w, const struct part *part, struct history_op *op)
{
    const struct object *object = &w->objects[op->object];
    op->len = 1 + choose(w, &part->plan->piece);
    if (object->last.len == 0) {
        op->offset = below(w, object->size_seen + 100);
        return;
    }
    op->expected = object->last.serial;
    op->expected_from = below(w, object->last.len);
    op->offset = object->last.at + op->expected_from;
    uint64_t left = object->last.len - op->expected_from + (below(w, 8) == 0 ? 50 : 0);
    if (op->len > left)
        op->len = left;
}

/* Short patterns and long ones; sometimes no length. */
static void choose_pattern(struct workload *w, struct history_op *op)
{
    static const uint64_t longest[] = {4, 300, 5000, 40000};
    op->offset = below(w, w->objects[op->object].size_seen + 5000);
    op->period = 1 + below(w, longest[below(w, sizeof longest / sizeof longest[0])]);
    op->len = op->period * below(w, op->period < 5000 ? 40 : 5);
}

/* Of the lock that several may have: mostly for less time than to the next operation or two. */
static void choose_team(struct workload *w, struct history_op *op)
{
    const struct object *object = &w->objects[op->object];
    bool joins = op->kind == HISTORY_SHARE || op->kind == HISTORY_SEIZE;
    op->expected = below(w, 4) == 0;
    if (joins && below(w, 6) > 0)
        op->len = MSEC_NS * (1 + below(w, UINT64_C(20) << below(w, 9)));
    if (joins)
        op->period = below(w, 4) == 0;
    else
        op->period = below(w, 4) == 0 ? HISTORY_TEAM_EXCLUSIVE : HISTORY_TEAM_SHARED;
    if (op->kind == HISTORY_EVICT) {
        op->offset = object->member;
        op->expected = object->member_cookie;
    }
}

static void choose_beside(struct workload *w, struct history_op *op)
{
    switch (op->kind) {
    case HISTORY_KEYS_SET:
        for (uint64_t n = 1 + below(w, 6); n > 0; n--)
            op->offset |= UINT64_C(1) << below(w, HISTORY_KEYS);
        break;
    case HISTORY_KEYS_CUT:
        op->offset = below(w, HISTORY_KEYS);
        op->len = below(w, 24);
        if (op->len > HISTORY_KEYS - op->offset)
            op->len = HISTORY_KEYS - op->offset;
        break;
    case HISTORY_KEYS_LIST:
        op->offset = below(w, 2 * HISTORY_KEY_GROUPS);
        op->len = below(w, 4) == 0 ? below(w, 10) : HISTORY_KEYS;
        break;
    case HISTORY_BREAK_LOCK:
        op->offset = w->objects[op->object].holder;
        break;
    case HISTORY_SAY:
        op->offset = below(w, 1000);
        break;
    default:
        break;
    }
}

static struct history_op choose_op(struct workload *w, const struct part *part)
{
    struct history_op op = {.object = part->first_object + (uint32_t)below(w, part->n_objects)};
    uint64_t size = w->objects[op.object].size_seen;
    op.kind = choose_kind(w, part, size);
    switch (op.kind) {
    case HISTORY_WRITE_AT:
    case HISTORY_ZERO:
        op.offset = below(w, size + 5000);
        op.len = choose(w, &part->plan->piece);
        break;
    case HISTORY_APPEND:
        op.len = choose(w, &part->plan->piece);
        break;
    case HISTORY_WRITE_FULL:
        op.len = choose(w, &part->plan->length);
        break;
    case HISTORY_TRUNCATE:
        op.offset = below(w, size + 100);
        break;
    case HISTORY_EXCHANGE_IF:
        op.offset = w->objects[op.object].tag_seen;
        break;
    case HISTORY_READ_SNAP:
    case HISTORY_ROLLBACK:
        op.offset = snaps_choose(&w->snaps, w->cluster->sim);
        if (op.offset == 0)
            op.kind = HISTORY_READ;
        break;
    case HISTORY_WRITE_SAME:
        choose_pattern(w, &op);
        break;
    case HISTORY_WRITE_IF:
        choose_guarded(w, part, &op);
        break;
    case HISTORY_SHARE:
    case HISTORY_SEIZE:
    case HISTORY_LEAVE:
    case HISTORY_EVICT:
    case HISTORY_RENAME:
    case HISTORY_HELD:
        choose_team(w, &op);
        break;
    default:
        choose_beside(w, &op);
        break;
    }
    return op;
}

/* ---- Running one ---- */

static bool kind_has_serial(enum history_kind kind)
{
    switch (kind) {
    case HISTORY_WRITE_FULL:
    case HISTORY_WRITE_AT:
    case HISTORY_APPEND:
    case HISTORY_WRITE_SAME:
    case HISTORY_WRITE_IF:
    case HISTORY_EXCHANGE:
    case HISTORY_EXCHANGE_IF:
        return true;
    default:
        return false;
    }
}

static bool kind_is_of_process(enum history_kind kind)
{
    switch (kind) {
    case HISTORY_LOCK:
    case HISTORY_UNLOCK:
    case HISTORY_SHARE:
    case HISTORY_SEIZE:
    case HISTORY_LEAVE:
    case HISTORY_RENAME:
    case HISTORY_HELD:
        return true;
    default:
        return false;
    }
}

static void slot_done(struct client_op *op);

/* Every incarnation of every client counts as a client of its own. */
static uint32_t client_number(const struct workload *w, const struct cluster_client *client)
{
    return (uint32_t)(client - w->cluster->clients) + 100 * client->incarnation;
}

/* Points to the object's strings. */
static struct object_id id_of(const struct object *object)
{
    struct object_id id = {
        .pool = object->pool,
        .snap = OBJECT_HEAD,
        .name = (const uint8_t *)object->name,
        .name_len = (uint16_t)strlen(object->name),
    };
    if (object->has_space) {
        id.space = (const uint8_t *)WORKLOAD_SPACE;
        id.space_len = sizeof WORKLOAD_SPACE - 1;
    }
    if (object->has_locator) {
        id.locator = (const uint8_t *)object->locator;
        id.locator_len = (uint16_t)strlen(object->locator);
    }
    id.hash = hash_object_id(&id);
    return id;
}

static void slot_submit(struct slot *slot, struct history_op choice)
{
    struct workload *w = slot->workload;
    const struct object *object = &w->objects[choice.object];
    choice.client = client_number(w, slot->client);
    choice.called = sim_now(w->cluster->sim);
    if (kind_is_of_process(choice.kind))
        choice.offset = sim_process(slot->client->member.node)->instance;
    if (kind_has_serial(choice.kind))
        choice.serial = ++w->next_serial;
    if (object->part->snaps && !history_reads(choice.kind))
        choice.snap = w->snaps.newest;
    if (object->part->snaps)
        choice.snaps = &w->snaps.table;
    slot->call = history_call(&w->history, &choice);
    struct client_op *op = &slot->op;
    memset(op, 0, sizeof *op);
    op->object = id_of(object);
    op->snap = choice.kind == HISTORY_READ_SNAP ? choice.offset : choice.snap;
    op->n_snaps = choice.snap > 0 ? snaps_context(&w->snaps, slot->snaps) : 0;
    op->snaps = slot->snaps;
    steps_fill(op, &choice);
    op->done = slot_done;
    slot->busy = true;
    client_submit(slot->client->client, op);
}

static bool forgets(const struct workload *w)
{
    uint32_t most = w->cluster->options.pg_clients;
    return most > 0 && most < PG_CLIENTS_MAX;
}

/*
 * What says nothing about the object: nobody waited for the answer, or, of a copy that is damaged,
 * the others did not answer in time, or a group may remember few clients, and has forgotten this
 * one.
 */
static bool result_is_forgiven(const struct workload *w, const struct history_op *call, int result)
{
    bool reads = call->kind == HISTORY_READ || call->kind == HISTORY_READ_SNAP ||
                 call->kind == HISTORY_CHECKSUM || call->kind == HISTORY_WRITE_IF;
    if (call->kind == HISTORY_READ_SNAP && call->snaps->removed[call->offset])
        return true;
    return result == -ECANCELED || result == -ETIMEDOUT ||
           (result == -EIO && reads && !w->stopped) ||
           (result == -ESTALE && forgets(w) && !history_reads(call->kind));
}

/* What the next choices go by. */
static void note_hints(struct object *object, const struct history_op *call)
{
    bool done = call->result == 0;
    switch (call->kind) {
    case HISTORY_READ:
    case HISTORY_STAT:
        object->size_seen = done ? call->size : 0;
        break;
    case HISTORY_APPEND:
        object->size_seen += call->len;
        break;
    case HISTORY_WRITE_FULL:
        object->size_seen = 0;
        /* fallthrough */
    case HISTORY_WRITE_AT:
    case HISTORY_WRITE_IF:
    case HISTORY_WRITE_SAME:
        if (done && call->kind != HISTORY_WRITE_SAME) {
            object->last.serial = call->serial;
            object->last.at = call->offset;
            object->last.len = call->len;
        }
        if (done && call->len > 0 && call->offset + call->len > object->size_seen)
            object->size_seen = call->offset + call->len;
        break;
    case HISTORY_TRUNCATE:
    case HISTORY_REMOVE:
    case HISTORY_CREATE:
        object->size_seen = call->kind == HISTORY_TRUNCATE ? call->offset : 0;
        break;
    case HISTORY_EXCHANGE:
    case HISTORY_EXCHANGE_IF:
    case HISTORY_LOOK:
        object->tag_seen = call->kind == HISTORY_LOOK ? call->hash : call->serial;
        break;
    case HISTORY_LOCK:
        object->holder = done ? call->offset : object->holder;
        break;
    case HISTORY_HOLDER:
        object->holder = call->hash;
        break;
    case HISTORY_TEAM:
        object->member = call->expected_from;
        object->member_cookie = call->expected;
        break;
    default:
        break;
    }
}

static void note_answer(struct workload *w, struct history_op *call, struct client_op *op)
{
    struct object *object = &w->objects[call->object];
    char why[STEPS_WHY_MAX];
    call->returned = sim_now(w->cluster->sim);
    call->result = op->result;
    call->version = op->version;
    if (!steps_take(call, op, why))
        cluster_fail(w->cluster, "object %u %s", call->object, why);
    note_hints(object, call);
    if (call->kind != HISTORY_READ_SNAP)
        object->exists = op->result == 0;
    w->n_answered++;
    if (call->returned - call->called > w->longest)
        w->longest = call->returned - call->called;
    sim_note(w->cluster->sim, call->hash ^ call->size ^ (uint64_t)call->result);
}

static void slot_continue(struct slot *slot);

static void slot_done(struct client_op *op)
{
    struct slot *slot = container_of(op, struct slot, op);
    struct workload *w = slot->workload;
    struct history_op *call = &w->history.ops[slot->call];
    bool known = steps_result_is_known(call, op);
    slot->busy = false;
    if (known)
        note_answer(w, call, op);
    else if (!result_is_forgiven(w, call, op->result))
        cluster_fail(w->cluster, "an operation (kind %d) on object %u fails with %d", call->kind,
                     call->object, op->result);
    for (uint16_t i = 0; i < op->n_steps; i++)
        buf_slice_drop(&op->steps[i].data);
    if (op->result != -ECANCELED || known)
        slot_continue(slot);
}

static void sweep_next(struct slot *slot)
{
    struct workload *w = slot->workload;
    struct sweep *sweep = &w->sweep;
    bool writes = sweep->kind == HISTORY_WRITE_FULL;
    bool snaps = sweep->kind == HISTORY_READ_SNAP;
    while (sweep->next < sweep->end && ((writes && !w->objects[sweep->next].part->write_first) ||
                                        (snaps && !w->objects[sweep->next].part->snaps)))
        sweep->next++;
    if (sweep->next == sweep->end)
        return;
    struct history_op op = {.object = sweep->next++, .kind = sweep->kind, .offset = sweep->snap};
    if (writes)
        op.len = choose(w, &w->objects[op.object].part->plan->first_length);
    slot_submit(slot, op);
}

static void slot_continue(struct slot *slot)
{
    struct workload *w = slot->workload;
    if (!slot->part) {
        sweep_next(slot);
        return;
    }
    if (w->stopped || !w->started)
        return;
    struct env *env = sim_process(slot->client->member.node);
    env_timer_after(env, &slot->next, below(w, 2 * slot->part->think_ns));
}

static void command_done(struct snaps_command *command)
{
    struct slot *slot = container_of(command, struct slot, command);
    slot->busy = false;
    /* A client that ends fails its commands, and must not be used. */
    if (slot->client->connected)
        slot_continue(slot);
}

/* Instead of an operation, now and then: a snapshot is taken or removed. */
static bool change_snaps(struct slot *slot)
{
    struct workload *w = slot->workload;
    const struct part *part = slot->part;
    if (!part->snaps)
        return false;
    uint64_t dice = below(w, part->mix_sum + part->take_snap + part->drop_snap);
    if (dice < part->mix_sum)
        return false;
    slot->command.snaps = &w->snaps;
    slot->command.done = command_done;
    struct client *client = slot->client->client;
    slot->busy = dice < part->mix_sum + part->take_snap
                     ? snaps_take(&slot->command, client)
                     : snaps_drop(&slot->command, client, snaps_choose(&w->snaps, w->cluster->sim),
                                  sim_now(w->cluster->sim));
    return slot->busy;
}

static void next_fire(struct env_timer *timer)
{
    struct slot *slot = container_of(timer, struct slot, next);
    if (!slot->workload->stopped && !change_snaps(slot))
        slot_submit(slot, choose_op(slot->workload, slot->part));
}

static void client_ready(struct cluster_client *client)
{
    struct worker *worker = client->user;
    for (uint32_t i = 0; i < worker->n; i++)
        slot_continue(&worker->slots[i]);
}

/* The process is gone. What it had asked for was cancelled, so nobody knows what became of it. */
static void client_gone(struct cluster_client *client)
{
    struct worker *worker = client->user;
    for (uint32_t i = 0; i < worker->n; i++) {
        assert(!worker->slots[i].busy);
        env_timer_stop(sim_process(client->member.node), &worker->slots[i].next);
    }
}

/* ---- The workload ---- */

static void add_slots(struct workload *w, const struct part *part, uint32_t i, uint64_t n)
{
    struct worker *worker = &w->workers[i];
    for (uint64_t j = 0; j < n && worker->n < WORKLOAD_SLOTS_MAX; j++) {
        struct slot *slot = &worker->slots[worker->n++];
        slot->workload = w;
        slot->part = part;
        slot->client = &w->cluster->clients[i];
        slot->next.fire = next_fire;
    }
}

static void set_mix(struct workload *w, struct part *part)
{
    const struct scenario_workload *plan = part->plan;
    const struct scenario_value *mix[] = {
        [HISTORY_READ] = &plan->read,
        [HISTORY_STAT] = &plan->stat,
        [HISTORY_WRITE_FULL] = &plan->write_full,
        [HISTORY_WRITE_AT] = &plan->write_at,
        [HISTORY_APPEND] = &plan->append,
        [HISTORY_TRUNCATE] = &plan->truncate,
        [HISTORY_REMOVE] = &plan->remove,
        [HISTORY_CREATE] = &plan->create,
        [HISTORY_EXCHANGE] = &plan->exchange,
        [HISTORY_EXCHANGE_IF] = &plan->exchange_if,
        [HISTORY_LOOK] = &plan->look,
        [HISTORY_READ_SNAP] = &plan->read_snap,
        [HISTORY_ROLLBACK] = &plan->rollback,
        [HISTORY_ZERO] = &plan->zero,
        [HISTORY_WRITE_SAME] = &plan->write_same,
        [HISTORY_WRITE_IF] = &plan->write_if,
        [HISTORY_CHECKSUM] = &plan->checksum,
        [HISTORY_HINT] = &plan->hint,
        [HISTORY_KEYS_SET] = &plan->keys_set,
        [HISTORY_KEYS_CUT] = &plan->keys_cut,
        [HISTORY_KEYS_LIST] = &plan->keys_list,
        [HISTORY_LOCK] = &plan->lock,
        [HISTORY_UNLOCK] = &plan->unlock,
        [HISTORY_BREAK_LOCK] = &plan->break_lock,
        [HISTORY_HOLDER] = &plan->holder,
        [HISTORY_GREET] = &plan->greet,
        [HISTORY_SAY] = &plan->say,
        [HISTORY_SHARE] = &plan->share,
        [HISTORY_SEIZE] = &plan->seize,
        [HISTORY_LEAVE] = &plan->leave,
        [HISTORY_EVICT] = &plan->evict,
        [HISTORY_RENAME] = &plan->rename,
        [HISTORY_HELD] = &plan->held,
        [HISTORY_TEAM] = &plan->team,
    };
    for (int kind = 0; kind < HISTORY_KINDS_END; kind++) {
        bool snaps = kind == HISTORY_READ_SNAP || kind == HISTORY_ROLLBACK;
        if (snaps && plan->take_snap.choices[0].high == 0)
            continue;
        /* Others draw no numbers for these, nor for taking snapshots. */
        if (kind >= HISTORY_GREET && mix[kind]->choices[0].high == 0)
            continue;
        part->mix[kind] = (uint32_t)choose(w, mix[kind]);
        if (w->options.no_reads && history_reads((enum history_kind)kind))
            part->mix[kind] = 0;
        part->mix_sum += part->mix[kind];
    }
    if (plan->take_snap.choices[0].high > 0) {
        part->take_snap = (uint32_t)choose(w, &plan->take_snap);
        part->drop_snap = (uint32_t)choose(w, &plan->drop_snap);
    }
    part->snaps = part->take_snap > 0;
}

/* Numbers of snapshots are those of one pool. */
static uint32_t n_pools_of(const struct workload *w, const struct part *part)
{
    return part->snaps ? 1 : w->options.n_pools;
}

static void add_objects(struct workload *w, const struct part *part)
{
    uint32_t n = part->first_object + part->n_objects;
    struct object *objects = reallocarray(w->objects, n, sizeof *objects);
    if (!objects)
        abort();
    w->objects = objects;
    for (uint32_t i = part->first_object; i < n; i++) {
        struct object *object = &objects[i];
        memset(object, 0, sizeof *object);
        /* Four objects of a pool share a name: their namespaces and locators tell them apart. */
        uint32_t n_pools = n_pools_of(w, part), at = i - part->first_object;
        uint32_t variant = at / n_pools % NAME_VARIANTS;
        uint32_t first = i - variant * n_pools;
        snprintf(object->name, sizeof object->name, "%.10s.%u", part->plan->name, first);
        object->has_space = variant & VARIANT_SPACE;
        object->has_locator = variant & VARIANT_LOCATOR;
        snprintf(object->locator, sizeof object->locator, "near.%u", first / 16);
        object->pool = w->options.pools[at % n_pools];
        object->part = part;
    }
    w->n_objects = n;
}

static void add_part(struct workload *w, const struct scenario_workload *plan)
{
    struct part *part = &w->parts[w->n_parts];
    if (below(w, 100) >= choose(w, &plan->percent))
        return;
    part->plan = plan;
    part->first_object = w->n_objects;
    part->n_objects = (uint32_t)choose(w, &plan->objects);
    part->think_ns = choose(w, &plan->think);
    part->grow_until = choose(w, &plan->grow);
    part->write_first = choose(w, &plan->first);
    set_mix(w, part);
    uint64_t n_slots = choose(w, &plan->slots), n_clients = choose(w, &plan->clients);
    if (part->mix_sum == 0 || w->n_objects + part->n_objects > WORKLOAD_OBJECTS_MAX)
        return;
    w->n_parts++;
    add_objects(w, part);
    if (n_clients == 0 || n_clients > w->cluster->options.n_clients)
        n_clients = w->cluster->options.n_clients;
    for (uint32_t i = 1; i <= n_clients; i++)
        add_slots(w, part, i, n_slots);
}

struct workload *workload_create(struct cluster *cluster, const struct workload_options *options)
{
    struct workload *w = calloc(1, sizeof *w);
    if (!w)
        abort();
    w->cluster = cluster;
    w->options = *options;
    w->snaps.pool = options->pools[0];
    add_slots(w, NULL, 0, SWEEP_SLOTS);
    for (uint32_t i = 0; i < options->scenario->n_workloads; i++)
        add_part(w, &options->scenario->workloads[i]);
    for (uint32_t i = 0; i <= cluster->options.n_clients; i++) {
        struct cluster_client *client = &cluster->clients[i];
        client->user = &w->workers[i];
        if (i == 0)
            continue;
        client->ready = client_ready;
        client->gone = client_gone;
    }
    return w;
}

void workload_start(struct workload *w)
{
    w->started = true;
    for (uint32_t i = 1; i <= w->cluster->options.n_clients; i++) {
        if (w->cluster->clients[i].connected)
            client_ready(&w->cluster->clients[i]);
    }
}

static void sweep(struct workload *w, enum history_kind kind, uint32_t first, uint32_t end)
{
    assert(workload_quiet(w) && w->sweep.next == w->sweep.end);
    w->sweep = (struct sweep){.kind = kind,
                              .snap = kind == HISTORY_READ_SNAP ? w->sweep.snap : 0,
                              .next = first,
                              .end = end};
    for (uint32_t i = 0; i < SWEEP_SLOTS; i++)
        sweep_next(&w->workers[0].slots[i]);
}

void workload_write_first(struct workload *w)
{
    sweep(w, HISTORY_WRITE_FULL, 0, w->n_objects);
}

void workload_destroy(struct workload *w)
{
    for (uint32_t i = 0; i <= w->cluster->options.n_clients; i++) {
        struct cluster_client *client = &w->cluster->clients[i];
        member_end(&client->member, SIM_CRASH, UINT64_MAX);
        client->ready = client->gone = NULL;
        client->user = NULL;
    }
    history_fini(&w->history);
    free(w->objects);
    free(w);
}

void workload_stop(struct workload *w)
{
    w->stopped = true;
}

bool workload_quiet(const struct workload *w)
{
    for (uint32_t i = 0; i <= w->cluster->options.n_clients; i++) {
        for (uint32_t j = 0; j < w->workers[i].n; j++) {
            if (w->workers[i].slots[j].busy)
                return false;
        }
    }
    return w->sweep.next == w->sweep.end;
}

struct snaps *workload_snaps(struct workload *w)
{
    return &w->snaps;
}

void workload_read_snap(struct workload *w, uint64_t snap)
{
    assert(w->stopped);
    w->sweep.snap = snap;
    sweep(w, HISTORY_READ_SNAP, 0, w->n_objects);
}

void workload_read_all(struct workload *w)
{
    assert(w->stopped);
    sweep(w, HISTORY_READ, 0, w->n_objects);
}

uint32_t workload_find(const struct workload *w, const struct object_id *id)
{
    /* Names end with the number of the first object that has them. */
    char text[OBJECT_NAME_BYTES];
    if (id->name_len >= sizeof text)
        return UINT32_MAX;
    memcpy(text, id->name, id->name_len);
    text[id->name_len] = '\0';
    const char *dot = strrchr(text, '.');
    uint32_t variant =
        (id->space_len > 0 ? VARIANT_SPACE : 0u) + (id->locator_len > 0 ? VARIANT_LOCATOR : 0u);
    unsigned long i = dot ? strtoul(dot + 1, NULL, 10) : UINT32_MAX;
    if (i >= w->n_objects)
        return UINT32_MAX;
    i += variant * n_pools_of(w, w->objects[i].part);
    if (i >= w->n_objects)
        return UINT32_MAX;
    struct object_id ours = id_of(&w->objects[i]);
    return object_compare(&ours, id) == 0 ? (uint32_t)i : UINT32_MAX;
}

bool workload_exists(const struct workload *w, const struct object_id *id)
{
    uint32_t i = workload_find(w, id);
    return i != UINT32_MAX && w->objects[i].exists;
}

bool workload_lasting(const struct workload *w, uint32_t i, struct object_id *id)
{
    const struct object *object = &w->objects[i];
    *id = id_of(object);
    return object->part->write_first && object->part->mix[HISTORY_REMOVE] == 0;
}

uint32_t workload_n_existing(const struct workload *w)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->n_objects; i++)
        n += w->objects[i].exists;
    return n;
}

const struct history *workload_history(const struct workload *w)
{
    return &w->history;
}

uint32_t workload_n_objects(const struct workload *w)
{
    return w->n_objects;
}

uint32_t workload_n_answered(const struct workload *w)
{
    return w->n_answered;
}

uint64_t workload_longest(const struct workload *w)
{
    return w->longest;
}
