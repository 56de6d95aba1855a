/*
 * Consensus alone, on a network that the test makes worse than sessions are: messages are lost,
 * late, repeated and overtake each other; processes crash and lose what was not flushed. Whatever
 * happens, all apply the same entries in the same order, and a proposal that was reported as
 * applied is among them.
 */
#include "tests/lib/test.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mon/consensus.h"
#include "mon/raft_codec.h"
#include "tests/sim/env_sim.h"

enum { NODES_MAX = 5, FLIGHTS_MAX = 4096, VALUES_MAX = 4096 };

struct world;

struct node {
    struct world *world;
    uint32_t index;
    struct sim_node *machine;
    struct consensus *consensus;
    bool leading;
    uint64_t in_flight; /* Value. */
    uint32_t n_applied;
    uint64_t applied[VALUES_MAX];
    bool failed;
    char why[128];
};

/* A message under way. */
struct flight {
    struct env_timer timer;
    struct world *world;
    struct message *message;
    uint32_t from;
    uint32_t to;
    bool busy;
};

struct world {
    struct sim *sim;
    uint64_t seed;
    uint32_t n;
    struct node nodes[NODES_MAX];
    struct map_mon list[NODES_MAX];
    bool cut[NODES_MAX][NODES_MAX];
    bool no_entries; /* Requests with entries are lost; all other messages arrive. */
    /* The next message to this node is kept for the test to deliver; -1: to none. */
    int32_t catch_to;
    struct message *caught;
    uint32_t caught_from;
    uint32_t loss; /* One message in so many is lost; 0: none. */
    uint64_t slow_ms;
    uint32_t repeat; /* One in so many arrives twice. */
    struct flight flights[FLIGHTS_MAX];
    uint64_t next_value;
    uint32_t n_acked;
    uint64_t acked[VALUES_MAX];
    uint32_t snapshots;
};

/* ---- The network ---- */

static void deliver(struct env_timer *timer)
{
    struct flight *flight = container_of(timer, struct flight, timer);
    struct world *world = flight->world;
    struct node *to = &world->nodes[flight->to];
    struct message *message = flight->message;
    uint32_t from = flight->from;
    bool lost = world->cut[from][flight->to];

    /* What is handled may launch the next message in this very place. */
    flight->busy = false;
    if (to->consensus != NULL && !to->failed && !lost)
        consensus_receive(to->consensus, from + 1, message);
    message_unref(message);
}

static void launch(struct world *world, uint32_t from, uint32_t to, struct message *message)
{
    for (int i = 0; i < FLIGHTS_MAX; i++) {
        struct flight *flight = &world->flights[i];
        if (flight->busy)
            continue;
        flight->busy = true;
        flight->world = world;
        flight->from = from;
        flight->to = to;
        flight->message = message;
        flight->timer.fire = deliver;
        uint64_t delay = 1000 + sim_below(world->sim, (1 + world->slow_ms) * MSEC_NS);
        sim_timer_arm(world->sim, &flight->timer, sim_now(world->sim) + delay);
        return;
    }
    message_unref(message);
}

static void on_send(void *ctx, uint64_t to, struct message *message)
{
    struct node *node = ctx;
    struct world *world = node->world;

    assert_in_range(to, 1, world->n);
    if ((int32_t)to - 1 == world->catch_to && message->payload.len > 0) {
        if (world->caught != NULL)
            message_unref(world->caught);
        world->caught = message;
        world->caught_from = node->index;
        return;
    }
    if (world->cut[node->index][to - 1] || (world->no_entries && message->payload.len > 0) ||
        (world->loss > 0 && sim_chance(world->sim, world->loss))) {
        message_unref(message);
        return;
    }
    if (world->repeat > 0 && sim_chance(world->sim, world->repeat))
        launch(world, node->index, (uint32_t)to - 1, message_ref(message));
    launch(world, node->index, (uint32_t)to - 1, message);
}

/* ---- The state machine: a list of numbers ---- */

static void compare(const struct node *node)
{
    for (uint32_t i = 0; i < node->world->n; i++) {
        const struct node *other = &node->world->nodes[i];
        uint32_t n = node->n_applied < other->n_applied ? node->n_applied : other->n_applied;
        if (memcmp(node->applied, other->applied, n * sizeof node->applied[0]) != 0) {
            sim_log_dump(node->world->sim);
            fail_msg("seed %" PRIu64 ": nodes %u and %u have applied different entries",
                     node->world->seed, node->index, i);
        }
    }
}

static int on_apply(void *ctx, const void *data, size_t len)
{
    struct node *node = ctx;

    assert_int_equal(len, sizeof node->applied[0]);
    assert_true(node->n_applied < VALUES_MAX);
    memcpy(&node->applied[node->n_applied++], data, len);
    compare(node);
    return 0;
}

static int on_snapshot(void *ctx, struct encoder *out)
{
    const struct node *node = ctx;

    node->world->snapshots++;
    encode_bytes(out, node->applied, node->n_applied * sizeof node->applied[0]);
    encode_u8(out, 0xee);
    return 0;
}

static int on_restore(void *ctx, const void *data, size_t len)
{
    struct node *node = ctx;

    assert_true(len % sizeof node->applied[0] == 1);
    node->n_applied = (uint32_t)(len / sizeof node->applied[0]);
    memcpy(node->applied, data, len - 1);
    compare(node);
    return 0;
}

static void on_leading(void *ctx, bool leading)
{
    struct node *node = ctx;
    struct consensus_state s;

    assert_true(node->leading != leading);
    consensus_state(node->consensus, &s);
    /* C6: nothing is left that it has not applied. */
    if (leading)
        assert_int_equal(s.applied, s.last_index);
    node->leading = leading;
}

static void on_leader_changed(void *ctx, uint64_t leader)
{
    (void)ctx;
    assert_in_range(leader, 0, NODES_MAX);
}

static void on_proposed(void *ctx, int result)
{
    struct node *node = ctx;
    struct world *world = node->world;

    if (result == 0) {
        /* Applied here, as the last one. */
        assert_true(node->n_applied > 0);
        assert_int_equal(node->applied[node->n_applied - 1], node->in_flight);
        world->acked[world->n_acked++] = node->in_flight;
    }
    node->in_flight = 0;
}

static void on_failed(void *ctx, int error, const char *why)
{
    struct node *node = ctx;

    (void)error;
    node->failed = true;
    snprintf(node->why, sizeof node->why, "%s", why);
}

static const struct consensus_ops ops = {
    .send = on_send,
    .apply = on_apply,
    .snapshot = on_snapshot,
    .restore = on_restore,
    .leading = on_leading,
    .leader_changed = on_leader_changed,
    .proposed = on_proposed,
    .failed = on_failed,
};

/* ---- Processes ---- */

static void node_start(struct node *node)
{
    struct world *world = node->world;
    struct consensus_options options = {.self = node->index + 1,
                                        .n_mons = world->n,
                                        .mons = world->list,
                                        .election_timeout_ms = 200,
                                        .heartbeat_ms = 50,
                                        .snapshot_entries = 20};
    char why[LOG_STORE_WHY_MAX] = "";
    struct env *env = sim_process_start(node->machine);

    node->n_applied = 0;
    node->leading = false;
    node->in_flight = 0;
    node->failed = false;
    int rc = consensus_create(env, &options, &ops, node, &node->consensus, why);
    if (rc != 0)
        fail_msg("seed %" PRIu64 ": node %u does not start: %s", world->seed, node->index, why);
}

static void node_end(struct node *node, enum sim_end how)
{
    if (node->consensus == NULL)
        return;
    sim_process_freeze(node->machine);
    consensus_destroy(node->consensus);
    node->consensus = NULL;
    node->leading = false;
    sim_process_end(node->machine, how);
}

static struct world *world_make(uint64_t seed, uint32_t n)
{
    struct world *world = calloc(1, sizeof *world);
    struct sim_options options = {.seed = seed, .trace = getenv("LIMPET_TEST_TRACE") != NULL};

    assert_non_null(world);
    world->seed = seed;
    world->n = n;
    world->catch_to = -1;
    world->sim = sim_create(&options);
    assert_non_null(world->sim);
    for (uint32_t i = 0; i < world->n; i++) {
        struct entity_name name = {.type = ENTITY_MON, .id = {(char)('a' + i)}};
        char label[16];
        snprintf(label, sizeof label, "node.%u", i);
        struct node *node = &world->nodes[i];
        node->world = world;
        node->index = i;
        node->machine = sim_node_create(world->sim, label, &name);
        world->list[i] = (struct map_mon){.id = i + 1, .name = {(char)('a' + i)}};
        world->list[i].address = sim_node_address(node->machine, 3300);
    }
    for (uint32_t i = 0; i < world->n; i++) {
        struct node *node = &world->nodes[i];
        struct env *env = sim_process_start(node->machine);
        assert_int_equal(consensus_mkfs(env, world->list, world->n), 0);
        sim_process_freeze(node->machine);
        sim_process_end(node->machine, SIM_EXIT);
        node_start(node);
    }
    return world;
}

static void world_free(struct world *world)
{
    for (uint32_t i = 0; i < world->n; i++)
        node_end(&world->nodes[i], SIM_EXIT);
    if (world->caught != NULL)
        message_unref(world->caught);
    for (int i = 0; i < FLIGHTS_MAX; i++) {
        if (world->flights[i].busy) {
            sim_timer_stop(world->sim, &world->flights[i].timer);
            message_unref(world->flights[i].message);
        }
    }
    sim_destroy(world->sim);
    free(world);
}

static void run_ms(struct world *world, uint64_t ms)
{
    sim_run(world->sim, sim_now(world->sim) + ms * MSEC_NS);
}

static struct node *leader_of(struct world *world)
{
    for (uint32_t i = 0; i < world->n; i++) {
        if (world->nodes[i].leading)
            return &world->nodes[i];
    }
    return NULL;
}

static struct node *await_leader(struct world *world, const struct node *except)
{
    for (int i = 0; i < 2000; i++) {
        for (uint32_t k = 0; k < world->n; k++) {
            if (world->nodes[k].leading && &world->nodes[k] != except)
                return &world->nodes[k];
        }
        run_ms(world, 5);
    }
    sim_log_dump(world->sim);
    fail_msg("seed %" PRIu64 ": no leader", world->seed);
    return NULL;
}

static void propose(struct node *node)
{
    uint64_t value = node->world->next_value + 1;

    if (value >= VALUES_MAX || consensus_propose(node->consensus, &value, sizeof value) != 0)
        return;
    node->in_flight = value;
    node->world->next_value = value;
}

static void cut_off(struct world *world, const struct node *node, bool out, bool in)
{
    for (uint32_t i = 0; i < world->n; i++) {
        world->cut[node->index][i] = out;
        world->cut[i][node->index] = in;
    }
}

/* ---- Scenes ---- */

static void proposals_reach_all(void **state)
{
    (void)state;
    struct world *world = world_make(1, 3);
    struct node *leader = await_leader(world, NULL);
    for (int i = 0; i < 100; i++) {
        propose(leader);
        run_ms(world, 10);
    }
    assert_int_equal(world->n_acked, 100);
    /* Followers are told of a commit at once, not by the next heartbeat. */
    for (uint32_t i = 0; i < world->n; i++)
        assert_int_equal(world->nodes[i].n_applied, 100);
    assert_true(world->snapshots > 3);
    world_free(world);
}

static void one_proposal_at_a_time(void **state)
{
    (void)state;
    struct world *world = world_make(2, 3);
    struct node *leader = await_leader(world, NULL);
    uint64_t value = 1;
    propose(leader);
    assert_true(consensus_in_flight(leader->consensus));
    assert_int_equal(consensus_propose(leader->consensus, &value, sizeof value), -EBUSY);
    for (uint32_t i = 0; i < world->n; i++) {
        if (&world->nodes[i] != leader)
            assert_int_equal(consensus_propose(world->nodes[i].consensus, &value, sizeof value),
                             -ELIMPET_NOT_LEADER);
    }
    world_free(world);
}

/* A request as that leader would send it; the entry before it is of the first term (or none). */
static struct message *request_make(struct world *world, const struct node *leader, uint64_t term,
                                    uint64_t prev, uint64_t commit, struct raft_entry *entries,
                                    unsigned n)
{
    static const struct uuid fsid;
    struct raft_message message = {.type = RAFT_IO_APPEND_ENTRIES,
                                   .append_entries = {.term = term,
                                                      .prev_log_index = prev,
                                                      .prev_log_term = prev > 0 ? term - 1 : 0,
                                                      .leader_commit = commit,
                                                      .entries = entries,
                                                      .n_entries = n}};
    struct message *out = raft_codec_encode(&message, leader->index + 1, &fsid);

    (void)world;
    assert_non_null(out);
    return out;
}

static struct node *role_of(struct world *world, const char *role, const struct node *except)
{
    for (uint32_t i = 0; i < world->n; i++) {
        struct consensus_state s;
        consensus_state(world->nodes[i].consensus, &s);
        if (&world->nodes[i] != except && strcmp(s.role, role) == 0)
            return &world->nodes[i];
    }
    return NULL;
}

static struct node *await_election(struct world *world, const struct node *except)
{
    for (int i = 0; i < 4000; i++) {
        struct node *node = role_of(world, "leader", except);
        if (node != NULL)
            return node;
        run_ms(world, 1);
    }
    fail_msg("seed %" PRIu64 ": nobody is elected", world->seed);
    return NULL;
}

/*
 * The old leader has an entry that nobody else has, at the index where the new leader's first entry
 * stands. It answers the new leader's first request, which has no entries, and gets no other: what
 * follows in its log must not be taken for the new leader's entry. C5
 */
static void an_old_leaders_log_counts_for_nothing(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct world *world = world_make(seed, 3);
        struct node *old = await_leader(world, NULL);
        propose(old);
        run_ms(world, 50);
        uint32_t before = old->n_applied;
        world->no_entries = true;
        /* It hears others, but others do not hear it. */
        cut_off(world, old, true, false);
        propose(old);
        struct node *new = await_election(world, old);
        cut_off(world, old, false, false);
        for (int i = 0; i < 2000; i++) {
            run_ms(world, 1);
            struct node *leading = leader_of(world);
            assert_true(leading == NULL || leading == old);
        }
        (void)new;
        world->no_entries = false;
        run_ms(world, 3000);
        assert_non_null(leader_of(world));
        for (uint32_t i = 0; i < world->n; i++)
            assert_true(world->nodes[i].n_applied >= before);
        world_free(world);
    }
}

/*
 * A follower gets an entry of the old leader and, before that is flushed, the first request of the
 * new one. What it answers after the flush must not count for the new leader. C3
 */
static void a_late_flush_counts_for_the_old_leader_only(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct world *world = world_make(seed, 5);
        struct node *old = await_leader(world, NULL);
        run_ms(world, 300);
        struct node *follower = &world->nodes[(old->index + 1) % world->n];
        /* The old leader's proposal reaches nobody; the one to the follower is kept. */
        world->no_entries = true;
        world->catch_to = (int32_t)follower->index;
        propose(old);
        struct message *entry = world->caught;
        uint32_t entry_from = world->caught_from;
        assert_non_null(entry);
        world->caught = NULL;
        world->catch_to = -1;
        /* The other three elect one of them; the follower hears nothing of it. */
        cut_off(world, old, true, true);
        cut_off(world, follower, true, true);
        struct node *new = await_election(world, old);
        assert_true(new != follower);
        struct consensus_state s;
        consensus_state(new->consensus, &s);
        struct message *first = request_make(world, new, s.term, s.last_index - 1, 0, NULL, 0);
        cut_off(world, follower, false, true);
        consensus_receive(follower->consensus, entry_from + 1, entry);
        consensus_receive(follower->consensus, new->index + 1, first);
        message_unref(entry);
        message_unref(first);
        /* With the follower's false witness and one honest one there would be three of five. */
        world->no_entries = false;
        for (uint32_t i = 0, honest = 0; i < world->n; i++) {
            struct node *node = &world->nodes[i];
            if (node == old || node == follower || node == new || honest++ == 0)
                continue;
            cut_off(world, node, true, true);
        }
        for (int i = 0; i < 300; i++) {
            run_ms(world, 1);
            assert_false(new->leading);
        }
        world_free(world);
    }
}

/* A request that begins before a follower's log does: it is cut to what is new. */
static void a_request_may_begin_before_the_log(void **state)
{
    (void)state;
    struct world *world = world_make(5, 3);
    struct node *leader = await_leader(world, NULL);
    for (int i = 0; i < 400; i++) {
        propose(leader);
        run_ms(world, 10);
    }
    struct node *follower = &world->nodes[(leader->index + 1) % world->n];
    assert_true(log_store_first(consensus_log(follower->consensus)) > 100);
    struct consensus_state s;
    consensus_state(follower->consensus, &s);
    assert_int_equal(s.applied, s.last_index);
    cut_off(world, leader, true, true);
    uint32_t n = (uint32_t)s.last_index + 1;
    uint64_t value = 4000;
    struct raft_entry *entries = calloc(n, sizeof *entries);
    for (uint32_t i = 0; i < n; i++)
        entries[i] = (struct raft_entry){
            .term = s.term, .type = RAFT_COMMAND, .buf = {.base = &value, .len = sizeof value}};
    struct message *request = request_make(world, leader, s.term, 0, n, entries, n);
    free(entries);
    consensus_receive(follower->consensus, leader->index + 1, request);
    message_unref(request);
    run_ms(world, 100);
    consensus_state(follower->consensus, &s);
    assert_int_equal(s.last_index, n);
    assert_int_equal(s.applied, n);
    assert_int_equal(follower->n_applied, 401);
    assert_int_equal(follower->applied[400], value);
    world_free(world);
}

static void a_follower_that_was_away_catches_up(void **state)
{
    (void)state;
    for (int by_snapshot = 0; by_snapshot < 2; by_snapshot++) {
        struct world *world = world_make(3, 3);
        struct node *leader = await_leader(world, NULL);
        struct node *away = &world->nodes[(leader->index + 1) % world->n];
        node_end(away, SIM_POWER_CUT);
        int n = by_snapshot ? 400 : 10;
        for (int i = 0; i < n; i++) {
            propose(leader);
            run_ms(world, 10);
        }
        node_start(away);
        run_ms(world, 3000);
        assert_int_equal(away->n_applied, n);
        if (by_snapshot)
            assert_true(log_store_first(consensus_log(away->consensus)) > 100);
        world_free(world);
    }
}

static void a_commit_costs_one_flush(void **state)
{
    (void)state;
    struct world *world = world_make(4, 3);
    struct node *leader = await_leader(world, NULL);
    uint64_t before[NODES_MAX] = {0};
    run_ms(world, 500);
    for (uint32_t i = 0; i < world->n; i++)
        before[i] = log_store_flushes(consensus_log(world->nodes[i].consensus));
    for (int i = 0; i < 10; i++) {
        propose(leader);
        run_ms(world, 10);
    }
    for (uint32_t i = 0; i < world->n; i++)
        assert_int_equal(log_store_flushes(consensus_log(world->nodes[i].consensus)),
                         before[i] + 10);
    world_free(world);
}

/* ---- Anything may happen ---- */

static void disturb(struct world *world)
{
    struct node *node = &world->nodes[sim_below(world->sim, world->n)];

    switch (sim_below(world->sim, 12)) {
    case 0:
        node_end(node, sim_chance(world->sim, 2) ? SIM_CRASH : SIM_POWER_CUT);
        break;
    case 1:
        cut_off(world, node, sim_chance(world->sim, 2), sim_chance(world->sim, 2));
        break;
    case 2:
    case 3:
        memset(world->cut, 0, sizeof world->cut);
        break;
    case 4:
        world->loss = (uint32_t)sim_below(world->sim, 10);
        break;
    case 5:
        world->slow_ms = sim_chance(world->sim, 3) ? sim_below(world->sim, 150) : 0;
        break;
    case 6:
        world->repeat = (uint32_t)sim_below(world->sim, 10);
        break;
    case 7:
        sim_node_disk(node->machine, sim_below(world->sim, 20) * MSEC_NS);
        break;
    case 8:
        if (node->consensus != NULL)
            consensus_peer_found(node->consensus, 1 + sim_below(world->sim, world->n));
        break;
    case 9:
        if (node->consensus != NULL)
            consensus_peer_dead(node->consensus, 1 + sim_below(world->sim, world->n));
        break;
    default:
        if (node->consensus == NULL)
            node_start(node);
        break;
    }
}

/* Returns how many entries were made. */
static uint32_t torture(uint64_t seed)
{
    struct world *world = world_make(seed, 3);

    for (int step = 0; step < 600; step++) {
        run_ms(world, 1 + sim_below(world->sim, 40));
        for (uint32_t i = 0; i < world->n; i++) {
            struct node *node = &world->nodes[i];
            if (node->failed)
                fail_msg("seed %" PRIu64 ": node %u failed: %s", seed, i, node->why);
            if (node->leading && !consensus_in_flight(node->consensus))
                propose(node);
        }
        if (sim_chance(world->sim, 8))
            disturb(world);
    }
    memset(world->cut, 0, sizeof world->cut);
    world->loss = world->repeat = 0;
    world->slow_ms = 0;
    for (uint32_t i = 0; i < world->n; i++) {
        if (world->nodes[i].consensus == NULL)
            node_start(&world->nodes[i]);
    }
    run_ms(world, 3000);
    struct node *leader = await_leader(world, NULL);
    for (int i = 0; i < 3; i++) {
        propose(leader);
        run_ms(world, 200);
    }
    run_ms(world, 2000);
    for (uint32_t i = 0; i < world->n; i++) {
        if (world->nodes[i].n_applied != leader->n_applied) {
            sim_log_dump(world->sim);
            fail_msg("seed %" PRIu64 ": node %u applied %u of %u", seed, i,
                     world->nodes[i].n_applied, leader->n_applied);
        }
    }
    uint32_t at = 0;
    bool found[VALUES_MAX] = {false};
    for (uint32_t i = 0; i < leader->n_applied; i++)
        found[leader->applied[i]] = true;
    for (at = 0; at < world->n_acked; at++) {
        if (!found[world->acked[at]])
            fail_msg("seed %" PRIu64 ": entry %" PRIu64 " was applied and is lost", seed,
                     world->acked[at]);
    }
    uint32_t n = world->n_acked;
    world_free(world);
    return n;
}

static void all_apply_the_same_whatever_happens(void **state)
{
    (void)state;
    const char *text = getenv("LIMPET_TEST_SEEDS");
    uint64_t seeds = text != NULL ? strtoull(text, NULL, 10) : 60;

    text = getenv("LIMPET_TEST_SEED");
    if (text != NULL) {
        torture(strtoull(text, NULL, 10));
        return;
    }
    uint64_t made = 0;
    for (uint64_t seed = 1; seed <= seeds; seed++)
        made += torture(seed);
    /* Disturbed as they were, they got somewhere. */
    assert_true(made > 20 * seeds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(proposals_reach_all),
        cmocka_unit_test(one_proposal_at_a_time),
        cmocka_unit_test(an_old_leaders_log_counts_for_nothing),
        cmocka_unit_test(a_late_flush_counts_for_the_old_leader_only),
        cmocka_unit_test(a_request_may_begin_before_the_log),
        cmocka_unit_test(a_follower_that_was_away_catches_up),
        cmocka_unit_test(a_commit_costs_one_flush),
        cmocka_unit_test(all_apply_the_same_whatever_happens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
