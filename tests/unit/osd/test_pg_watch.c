/* Watches, notifies and leases on whole groups: who is told, who is waited for, who is evicted
 * when. */
#include "tests/unit/osd/pg_world.h"

#include <errno.h>
#include <string.h>

#include "osd/ops/watch.h"
#include "osd/pg/pg_impl.h"

enum { ALICE = 101, BOB = 102, TIMEOUT_TICKS = 8, MINUTE_TICKS = 120 /* Of half a second. */ };

static struct world world;
static struct asked waiting;

static int start(void **state)
{
    (void)state;
    world_init(&world, 0, 1, 2);
    world.guests[0].instance = ALICE;
    world.guests[1].instance = BOB;
    memset(&waiting, 0, sizeof waiting);
    world_show_all(&world);
    world_settle(&world);
    assert_int_equal(write_full(&world, 0, "o", "x"), 0);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    ask_fini(&waiting);
    world_fini(&world);
    return 0;
}

static int as(uint64_t client, int32_t osd, struct step step)
{
    struct asked asked;
    world.client = client;
    ask(&world, osd, &asked, "o", &step, 1);
    world.client = 0;
    /* Not until nothing happens any more: a notify's time would be over then. */
    world_settle_for(&world, 50 * MSEC_NS);
    assert_true(asked.done);
    ask_fini(&asked);
    return asked.reply.result;
}

static int watch(uint64_t client, int32_t osd, unsigned mode)
{
    struct wire_watch wire = {.timeout_ms = TIMEOUT_TICKS * 500, .mode = mode};
    return as(
        client, osd,
        (struct step){.code = WIRE_OP_CODE_WATCH, .length = 1, .data = &wire, .len = sizeof wire});
}

static int link_watch(uint64_t client, int32_t osd)
{
    return as(client, osd, (struct step){.code = WIRE_OP_CODE_WATCH_CONNECT, .length = 1});
}

static int ping(uint64_t client, int32_t osd)
{
    return as(client, osd, (struct step){.code = WIRE_OP_CODE_WATCH_PING});
}

static int unwatch(uint64_t client, int32_t osd)
{
    return as(client, osd, (struct step){.code = WIRE_OP_CODE_UNWATCH, .length = 1});
}

static uint32_t n_watchers(int32_t osd)
{
    struct asked asked;
    uint32_t n;
    const struct step step = {.code = WIRE_OP_CODE_WATCH_LIST};
    ask(&world, osd, &asked, "o", &step, 1);
    world_settle(&world);
    assert_true(asked.done && asked.reply.result == 0 && asked.data.len >= sizeof n);
    memcpy(&n, asked.data.data, sizeof n);
    ask_fini(&asked);
    return n;
}

/* By Bob; it may go on waiting. */
static void notify(int32_t osd, uint64_t tid, uint64_t timeout_ms)
{
    const struct step step = {
        .code = WIRE_OP_CODE_NOTIFY, .length = timeout_ms, .data = "hello", .len = 5};
    world.client = BOB;
    ask_again(&world, osd, &waiting, tid, "o", &step, 1);
    world.client = 0;
    world_settle_for(&world, MSEC_NS);
}

static int acknowledge(uint64_t client, int32_t osd, uint64_t tid)
{
    struct wire_notify_ack ack = {.notifier = BOB, .notify_id = tid, .cookie = 1};
    return as(client, osd,
              (struct step){.code = WIRE_OP_CODE_NOTIFY_ACK, .data = &ack, .len = sizeof ack});
}

/* u32 answered, their answers (empty here), u32 missed. */
static void assert_outcome(uint32_t answered, uint32_t missed)
{
    uint32_t n;
    assert_true(waiting.done);
    assert_int_equal(waiting.reply.result, 0);
    memcpy(&n, waiting.data.data, sizeof n);
    assert_int_equal(n, answered);
    memcpy(&n, waiting.data.data + sizeof n + (size_t)answered * 20, sizeof n);
    assert_int_equal(n, missed);
}

static void golden_bytes_of_watchers(void **state)
{
    (void)state;
    static struct watchers watchers, again;
    struct encoder e;
    watchers.n = 2;
    watchers.list[0] = (struct watcher){.head = {.instance = 0x0102030405060708,
                                                 .cookie = 0x1112131415161718,
                                                 .timeout_ms = 0x21222324,
                                                 .mode = WIRE_LEASE_SHARED,
                                                 .address_len = 4},
                                        .address = (const uint8_t *)"host"};
    watchers.list[1].head.instance = 1;
    encoder_init(&e);
    watchers_encode(&watchers, &e);
    test_golden("watchers.hex", e.data, e.len);
    struct view_bytes bytes = {.data = e.data, .len = (uint32_t)e.len};
    assert_int_equal(watchers_decode(bytes, &again), 0);
    assert_int_equal(again.n, 2);
    assert_memory_equal(&again.list[0].head, &watchers.list[0].head, sizeof again.list[0].head);
    for (uint32_t len = 1; len < e.len; len++) {
        bytes.len = len;
        assert_int_equal(watchers_decode(bytes, &again), -EIO);
        assert_int_equal(again.n, 0);
    }
    encoder_fini(&e);
}

static void tells_who_is_connected_and_waits_for_its_answer(void **state)
{
    (void)state;
    assert_int_equal(as(ALICE, 0, (struct step){.code = WIRE_OP_CODE_WATCH_CONNECT, .length = 1}),
                     -ENOTCONN);
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_NONE), 0);
    assert_int_equal(link_watch(ALICE, 0), 0);
    notify(0, 900, 60000);
    assert_false(waiting.done);
    assert_int_equal(world.guests[0].n_events, 1);
    assert_int_equal(world.guests[0].event.notify_id, 900);
    assert_int_equal(acknowledge(BOB, 0, 900), 0);
    assert_false(waiting.done);
    assert_int_equal(acknowledge(ALICE, 0, 900), 0);
    assert_outcome(1, 0);
}

static void names_who_has_not_answered(void **state)
{
    (void)state;
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_NONE), 0);
    notify(0, 900, 300);
    assert_false(waiting.done);
    world_settle_for(&world, 400 * MSEC_NS);
    assert_outcome(0, 1);
}

static void who_connects_late_is_told(void **state)
{
    (void)state;
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_NONE), 0);
    notify(0, 900, 60000);
    assert_int_equal(world.guests[0].n_events, 0);
    assert_int_equal(link_watch(ALICE, 0), 0);
    assert_int_equal(world.guests[0].n_events, 1);
    assert_int_equal(unwatch(ALICE, 0), 0);
    assert_outcome(0, 0);
}

static void a_copy_of_a_notify_takes_its_place(void **state)
{
    (void)state;
    static struct asked first;
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_NONE), 0);
    assert_int_equal(link_watch(ALICE, 0), 0);
    const struct step step = {.code = WIRE_OP_CODE_NOTIFY, .length = 60000};
    world.client = BOB;
    ask_again(&world, 0, &first, 900, "o", &step, 1);
    world_settle_for(&world, MSEC_NS);
    notify(0, 900, 60000);
    assert_true(first.done && first.dropped);
    assert_int_equal(world.guests[0].n_events, 1);
    assert_int_equal(acknowledge(ALICE, 0, 900), 0);
    assert_outcome(1, 0);
}

/* Between the two halves of the notify the group ceases to serve, and serves again. */
static void a_notify_of_an_earlier_life_runs_again(void **state)
{
    (void)state;
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_NONE), 0);
    const struct step step = {.code = WIRE_OP_CODE_NOTIFY, .length = 60000};
    world.client = BOB;
    ask_again(&world, 0, &waiting, 900, "o", &step, 1);
    world.client = 0;
    world_crash(&world, 2);
    world_set_up(&world, 2, false, 0, 1, -1);
    world_set_ended(&world, 2);
    world_stop_link(&world, 0, 1, true);
    world_show_all(&world);
    world_settle_for(&world, 50 * MSEC_NS);
    assert_false(waiting.done);
    world_stop_link(&world, 0, 1, false);
    world_settle_for(&world, 50 * MSEC_NS);
    assert_false(waiting.done);
    assert_int_equal(link_watch(ALICE, 0), 0);
    assert_int_equal(world.guests[0].n_events, 1);
    assert_int_equal(acknowledge(ALICE, 0, 900), 0);
    assert_outcome(1, 0);
}

static void evicts_the_silent_after_their_time_out(void **state)
{
    (void)state;
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_NONE), 0);
    assert_int_equal(link_watch(ALICE, 0), 0);
    world_ticks(&world, TIMEOUT_TICKS - 1);
    assert_int_equal(ping(ALICE, 0), 0);
    world_ticks(&world, TIMEOUT_TICKS - 1);
    assert_int_equal(n_watchers(0), 1);
    world_ticks(&world, 3);
    assert_int_equal(n_watchers(0), 0);
    assert_int_equal(world.guests[0].event.kind, WIRE_WATCH_DOUBTFUL);
    assert_int_equal(link_watch(ALICE, 0), -ENOTCONN);
}

static void evicts_soon_who_has_hung_up_and_does_not_come_again(void **state)
{
    (void)state;
    uint32_t ticks = WIRE_WATCH_HUNG_UP_MS / 500;
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_NONE), 0);
    assert_int_equal(link_watch(ALICE, 0), 0);
    /* It has not come to be connected. */
    assert_int_equal(watch(BOB, 0, WIRE_LEASE_NONE), 0);
    world.guests[0].session.hung_up_ns = world.guests[1].session.hung_up_ns = world.now_ns;
    world_ticks(&world, ticks - 1);
    assert_int_equal(n_watchers(0), 2);
    world.guests[0].session.hung_up_ns = 0;
    world_ticks(&world, 2);
    assert_int_equal(n_watchers(0), 1);
    assert_int_equal(link_watch(BOB, 0), -ENOTCONN);
    assert_int_equal(link_watch(ALICE, 0), 0);
}

static void a_new_primary_gives_everybody_a_whole_time_out(void **state)
{
    (void)state;
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_NONE), 0);
    assert_int_equal(watch(BOB, 0, WIRE_LEASE_NONE), 0);
    world_ticks(&world, TIMEOUT_TICKS - 2);
    world_crash(&world, 0);
    world_set_up(&world, 0, false, 1, 2, -1);
    world_set_ended(&world, 0);
    world_show_all(&world);
    world_settle(&world);
    assert_int_equal(n_watchers(1), 2);
    world_ticks(&world, TIMEOUT_TICKS - 2);
    assert_int_equal(link_watch(ALICE, 1), 0);
    assert_int_equal(n_watchers(1), 2);
    world_ticks(&world, 4);
    assert_int_equal(n_watchers(1), 1);
    assert_int_equal(link_watch(BOB, 1), -ENOTCONN);
}

static void leases_that_do_not_agree_are_refused_and_recalled(void **state)
{
    (void)state;
    struct wire_recall recall = {.cookie = 1, .mode = WIRE_LEASE_EXCLUSIVE};
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_SHARED), 0);
    assert_int_equal(watch(BOB, 0, WIRE_LEASE_SHARED), 0);
    assert_int_equal(watch(BOB, 0, WIRE_LEASE_EXCLUSIVE), -EBUSY);
    assert_int_equal(link_watch(ALICE, 0), 0);
    const struct step step = {.code = WIRE_OP_CODE_NOTIFY,
                              .offset = WIRE_RECALL,
                              .length = 60000,
                              .data = &recall,
                              .len = sizeof recall};
    world.client = BOB;
    ask_again(&world, 0, &waiting, 900, "o", &step, 1);
    world_settle_for(&world, MSEC_NS);
    assert_false(waiting.done);
    assert_int_equal(world.guests[0].event.kind, WIRE_WATCH_RECALLED);
    assert_int_equal(world.guests[0].event.mode, WIRE_LEASE_EXCLUSIVE);
    assert_int_equal(unwatch(ALICE, 0), 0);
    assert_true(waiting.done);
    assert_int_equal(watch(BOB, 0, WIRE_LEASE_EXCLUSIVE), 0);
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_SHARED), -EBUSY);
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_NONE), 0);
    assert_int_equal(
        as(BOB, 0, (struct step){.code = WIRE_OP_CODE_WATCH_ASSERT, .length = 1, .offset = 2}), 0);
    assert_int_equal(
        as(ALICE, 0, (struct step){.code = WIRE_OP_CODE_WATCH_ASSERT, .length = 1, .offset = 1}),
        -ENOTCONN);
}

static void who_is_deaf_to_a_recall_is_not_renewed(void **state)
{
    (void)state;
    struct wire_recall recall = {.cookie = 1, .mode = WIRE_LEASE_SHARED};
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_EXCLUSIVE), 0);
    assert_int_equal(link_watch(ALICE, 0), 0);
    const struct step step = {.code = WIRE_OP_CODE_NOTIFY,
                              .offset = WIRE_RECALL,
                              .length = 300,
                              .data = &recall,
                              .len = sizeof recall};
    world.client = BOB;
    ask_again(&world, 0, &waiting, 900, "o", &step, 1);
    uint64_t begun_ns = world.now_ns;
    for (uint32_t ticks = 0; ticks < 4 * TIMEOUT_TICKS && n_watchers(0) > 0; ticks++) {
        world_ticks(&world, 1);
        assert_int_equal(ping(ALICE, 0), 0);
    }
    uint64_t ticks = (world.now_ns - begun_ns) / (500 * MSEC_NS);
    assert_in_range(ticks, 2 * TIMEOUT_TICKS - 1, 2 * TIMEOUT_TICKS + 3);
    assert_int_equal(watch(BOB, 0, WIRE_LEASE_SHARED), 0);
    assert_int_equal(link_watch(ALICE, 0), -ENOTCONN);
}

static void a_removed_object_has_no_watchers(void **state)
{
    (void)state;
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_NONE), 0);
    assert_int_equal(link_watch(ALICE, 0), 0);
    assert_int_equal(as(BOB, 0, (struct step){.code = WIRE_OP_CODE_REMOVE}), 0);
    assert_int_equal(world.guests[0].event.kind, WIRE_WATCH_DOUBTFUL);
    assert_int_equal(link_watch(ALICE, 0), -ENOENT);
    assert_int_equal(write_full(&world, 0, "o", "again"), 0);
    assert_int_equal(n_watchers(0), 0);
}

static void block(uint64_t client)
{
    struct map_blocked blocked = {.instance = client, .until_ns = UINT64_MAX};
    struct map_increment *inc = map_increment_create(world.map->epoch + 1);
    assert_non_null(inc);
    assert_int_equal(map_increment_set_blocked(inc, &blocked, 1), 0);
    assert_int_equal(map_apply(world.map, inc), 0);
    map_increment_destroy(inc);
    world_show_all(&world);
    world_settle(&world);
}

/* By this client, with its watch of this number. */
static void recall(uint64_t client, uint64_t cookie, uint64_t tid)
{
    struct wire_recall recall = {.cookie = cookie, .mode = WIRE_LEASE_FENCED};
    const struct step step = {.code = WIRE_OP_CODE_NOTIFY,
                              .offset = WIRE_RECALL,
                              .length = 300,
                              .data = &recall,
                              .len = sizeof recall};
    ask_fini(&waiting);
    memset(&waiting, 0, sizeof waiting);
    world.client = client;
    ask_again(&world, 0, &waiting, tid, "o", &step, 1);
    world.client = 0;
    world_settle_for(&world, MSEC_NS);
}

/* What the answer to a request of this map says. */
static bool is_fenced_for(int32_t osd, uint64_t epoch)
{
    struct asked asked;
    const struct step step = {.code = WIRE_OP_CODE_STAT};
    world.client = BOB;
    world.epoch = epoch;
    ask(&world, osd, &asked, "o", &step, 1);
    world.client = world.epoch = 0;
    world_settle_for(&world, 50 * MSEC_NS);
    assert_true(asked.done);
    assert_int_equal(asked.reply.result, 0);
    ask_fini(&asked);
    return (asked.reply.flags & WIRE_REPLY_FENCED) != 0;
}

static void a_fenced_lease_is_taken_when_its_owner_is_blocked(void **state)
{
    (void)state;
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_FENCED), 0);
    assert_int_equal(link_watch(ALICE, 0), 0);
    /* Nobody wants it: whatever becomes of its owner, nothing happens. */
    world_ticks(&world, 4 * TIMEOUT_TICKS);
    assert_int_equal(n_watchers(0), 1);
    assert_int_equal(world.nodes[0].n_fences, 0);
    recall(BOB, 1, 900);
    world_ticks(&world, 10);
    assert_in_range(world.nodes[0].n_fences, 2, 6);
    assert_int_equal(world.nodes[0].fenced, ALICE);
    assert_int_equal(watch(BOB, 0, WIRE_LEASE_FENCED), -EBUSY);
    assert_int_equal(watch(BOB, 0, WIRE_LEASE_SHARED), -EBUSY);
    uint64_t before = world.map->epoch;
    block(ALICE);
    world_ticks(&world, 1);
    assert_int_equal(watch(BOB, 0, WIRE_LEASE_FENCED), 0);
    uint32_t told = world.nodes[0].n_fences;
    world_ticks(&world, 10);
    assert_int_equal(world.nodes[0].n_fences, told);
    /* Who does not know yet that she is blocked is to know before it goes on. */
    assert_true(is_fenced_for(0, before));
    assert_false(is_fenced_for(0, world.map->epoch));
}

static void who_lives_is_not_fenced_but_for_being_deaf(void **state)
{
    (void)state;
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_FENCED), 0);
    assert_int_equal(link_watch(ALICE, 0), 0);
    recall(BOB, 1, 900);
    uint64_t begun_ns = world.now_ns;
    while (world.nodes[0].n_fences == 0 && world.now_ns - begun_ns < 120 * SEC_NS) {
        world_ticks(&world, 1);
        assert_int_equal(ping(ALICE, 0), 0);
    }
    uint64_t ticks = (world.now_ns - begun_ns) / (500 * MSEC_NS);
    assert_in_range(ticks, MINUTE_TICKS + TIMEOUT_TICKS - 1, MINUTE_TICKS + TIMEOUT_TICKS + 3);
    /* She may still give it back herself. */
    assert_int_equal(unwatch(ALICE, 0), 0);
    assert_int_equal(watch(BOB, 0, WIRE_LEASE_FENCED), 0);
}

/* It ends it by itself; not even its silence is a reason to block it for that. */
static void an_owner_does_not_wait_for_itself(void **state)
{
    (void)state;
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_FENCED), 0);
    assert_int_equal(link_watch(ALICE, 0), 0);
    recall(ALICE, 2, 900);
    world_ticks(&world, MINUTE_TICKS + 2 * TIMEOUT_TICKS);
    assert_int_equal(world.nodes[0].n_fences, 0);
    assert_int_equal(n_watchers(0), 1);
}

/* What is sent under it has no other end than the lease's. */
static void a_fenced_lease_becomes_no_other(void **state)
{
    (void)state;
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_FENCED), 0);
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_FENCED), 0);
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_SHARED), -EINVAL);
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_NONE), -EINVAL);
    assert_int_equal(watch(BOB, 0, WIRE_LEASE_NONE), 0);
    assert_int_equal(watch(BOB, 0, WIRE_LEASE_FENCED), -EBUSY);
    assert_int_equal(unwatch(ALICE, 0), 0);
    assert_int_equal(watch(BOB, 0, WIRE_LEASE_FENCED), -EINVAL);
}

/* It knows by its map that what it has sent elsewhere cannot be executed. */
static void who_ends_a_fenced_lease_has_others_know_its_map(void **state)
{
    (void)state;
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_FENCED), 0);
    uint64_t before = world.map->epoch;
    block(300);
    assert_false(is_fenced_for(0, before));
    assert_int_equal(unwatch(ALICE, 0), 0);
    assert_true(is_fenced_for(0, before));
    assert_false(is_fenced_for(0, world.map->epoch));
}

/* The list is all that it knows of the lease. */
static void so_does_a_new_primary(void **state)
{
    (void)state;
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_FENCED), 0);
    world_crash(&world, 0);
    world_set_up(&world, 0, false, 1, 2, -1);
    world_set_ended(&world, 0);
    world_show_all(&world);
    world_settle(&world);
    uint64_t before = world.map->epoch;
    block(300);
    assert_false(is_fenced_for(1, before));
    assert_int_equal(unwatch(ALICE, 1), 0);
    assert_true(is_fenced_for(1, before));
}

/* Who may answer from what it keeps does not hear of it at once. */
static void what_is_kept_is_trusted_until_its_time_is_over(void **state)
{
    (void)state;
    static const unsigned modes[] = {WIRE_LEASE_SHARED, WIRE_LEASE_FENCED};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        uint64_t client = ALICE + 100 * (i + 1);
        assert_int_equal(watch(client, 0, modes[i]), 0);
        assert_int_equal(link_watch(client, 0), 0);
        block(client);
        world_ticks(&world, TIMEOUT_TICKS - 2);
        assert_int_equal(n_watchers(0), 1);
        assert_int_equal(ping(client, 0), -ESHUTDOWN);
        world_ticks(&world, 4);
        assert_int_equal(n_watchers(0), 0);
    }
}

/* W2: signs of life are answered under read leases, and wait where there are none. */
static void time_without_read_leases_does_not_count(void **state)
{
    (void)state;
    struct node *node = &world.nodes[0];
    uint64_t leases[WORLD_OSDS];
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_EXCLUSIVE), 0);
    assert_int_equal(link_watch(ALICE, 0), 0);
    memcpy(leases, node->lease_until_ns, sizeof leases);
    memset(node->lease_until_ns, 0, sizeof node->lease_until_ns);
    pg_lease_forget(node->pg);
    world_ticks(&world, 3 * TIMEOUT_TICKS);
    memcpy(node->lease_until_ns, leases, sizeof leases);
    assert_int_equal(n_watchers(0), 1);
    world_ticks(&world, TIMEOUT_TICKS + 2);
    assert_int_equal(n_watchers(0), 0);
}

static void blocked_clients_are_refused_and_evicted(void **state)
{
    (void)state;
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_EXCLUSIVE), 0);
    block(ALICE);
    assert_int_equal(as(ALICE, 0, (struct step){.code = WIRE_OP_CODE_STAT}), -ESHUTDOWN);
    assert_int_equal(as(ALICE, 0, (struct step){.code = WIRE_OP_CODE_REMOVE}), -ESHUTDOWN);
    assert_int_equal(ping(ALICE, 0), -ESHUTDOWN);
    assert_int_equal(as(BOB, 0, (struct step){.code = WIRE_OP_CODE_STAT}), 0);
    world_ticks(&world, 1);
    assert_int_equal(watch(BOB, 0, WIRE_LEASE_EXCLUSIVE), 0);
}

static void only_the_primary_evicts(void **state)
{
    (void)state;
    struct asked asked;
    const struct step steps[] = {{.code = WIRE_OP_CODE_WRITE_AT, .data = "y", .len = 1},
                                 {.code = WIRE_OP_CODE_WATCH_EVICT, .offset = ALICE, .length = 1}};
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_NONE), 0);
    ask(&world, 0, &asked, "o", steps, 2);
    world_settle(&world);
    assert_int_equal(asked.reply.result, -EPERM);
    ask_fini(&asked);
    assert_int_equal(n_watchers(0), 1);
}

/* Reads at a snapshot never find watchers, and those of the object are not asked about so. */
static void snapshots_have_no_watchers(void **state)
{
    (void)state;
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_NONE), 0);
    assert_int_equal(link_watch(ALICE, 0), 0);
    /* Who watches changes nothing that a snapshot shows. */
    world.snap = 1;
    uint32_t before = objects_on_disk(&world, 0);
    assert_int_equal(watch(BOB, 0, WIRE_LEASE_NONE), 0);
    assert_int_equal(objects_on_disk(&world, 0), before);
    assert_int_equal(write_full(&world, 0, "o", "y"), 0);
    assert_int_equal(objects_on_disk(&world, 0), before + 1);
    world.read_snap = 1;
    assert_reads(&world, 0, "o", "x");
    assert_int_equal(link_watch(ALICE, 0), -EINVAL);
    world.read_snap = 0;
    assert_int_equal(n_watchers(0), 2);
    assert_equal_disks(&world, 0, 1);
}

static void a_rollback_keeps_watchers(void **state)
{
    (void)state;
    world.snap = 1;
    assert_int_equal(write_full(&world, 0, "o", "y"), 0);
    assert_int_equal(watch(ALICE, 0, WIRE_LEASE_EXCLUSIVE), 0);
    assert_int_equal(link_watch(ALICE, 0), 0);
    world.snap = 2;
    struct step back = {.code = WIRE_OP_CODE_ROLLBACK, .offset = 1};
    assert_int_equal(ask_now(&world, 0, "o", &back, 1), 0);
    assert_reads(&world, 0, "o", "x");
    assert_int_equal(n_watchers(0), 1);
    assert_int_equal(link_watch(ALICE, 0), 0);
    assert_int_equal(watch(BOB, 0, WIRE_LEASE_SHARED), -EBUSY);
    assert_equal_disks(&world, 0, 1);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_bytes_of_watchers),
        CASE(tells_who_is_connected_and_waits_for_its_answer),
        CASE(names_who_has_not_answered),
        CASE(who_connects_late_is_told),
        CASE(a_copy_of_a_notify_takes_its_place),
        CASE(a_notify_of_an_earlier_life_runs_again),
        CASE(evicts_the_silent_after_their_time_out),
        CASE(evicts_soon_who_has_hung_up_and_does_not_come_again),
        CASE(a_new_primary_gives_everybody_a_whole_time_out),
        CASE(leases_that_do_not_agree_are_refused_and_recalled),
        CASE(who_is_deaf_to_a_recall_is_not_renewed),
        CASE(a_removed_object_has_no_watchers),
        CASE(a_fenced_lease_is_taken_when_its_owner_is_blocked),
        CASE(who_lives_is_not_fenced_but_for_being_deaf),
        CASE(an_owner_does_not_wait_for_itself),
        CASE(a_fenced_lease_becomes_no_other),
        CASE(who_ends_a_fenced_lease_has_others_know_its_map),
        CASE(so_does_a_new_primary),
        CASE(what_is_kept_is_trusted_until_its_time_is_over),
        CASE(time_without_read_leases_does_not_count),
        CASE(blocked_clients_are_refused_and_evicted),
        CASE(only_the_primary_evicts),
        CASE(snapshots_have_no_watchers),
        CASE(a_rollback_keeps_watchers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
