/* Which OSDs are taken for dead: each case of the table in mon/README.md. */
#include "tests/lib/test.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/mon/mon_world.h"

#define SILENT  LIMPET__WIRE__OSD_FAILURE__KIND__SILENT
#define REFUSED LIMPET__WIRE__OSD_FAILURE__KIND__REFUSED

enum { OSDS = 5 };

struct fixture {
    struct world *world;
    struct world_peer *admin;
    struct world_peer *osds[OSDS];
    bool asleep[OSDS];
};

/* Letters are hosts: "aabbc". */
static void setup(struct fixture *f, uint64_t seed, const char *hosts)
{
    memset(f, 0, sizeof *f);
    f->world = world_create(seed, 3, NULL);
    for (uint32_t i = 0; i < 3; i++)
        world_end(f->world, i, SIM_EXIT);
    f->world->options.flap_hold_ms = 4000;
    f->world->options.osd_beacon_grace_seconds = 600;
    for (uint32_t i = 0; i < 3; i++)
        world_start(f->world, i);
    world_await_leader(f->world, -1);
    f->admin = world_peer(f->world, "client.admin", 0);
    world_subscribe(f->admin, 0);
    for (int32_t i = 0; i < OSDS; i++) {
        char name[8];
        snprintf(name, sizeof name, "osd.%d", i);
        f->osds[i] = world_peer(f->world, name, (uint32_t)i % 3);
        f->osds[i]->bytes_used = UINT64_C(100) + (uint64_t)i;
        world_subscribe(f->osds[i], 0);
    }
    world_run_ms(f->world, 300);
    for (int32_t i = 0; i < OSDS; i++) {
        char host[2] = {hosts[i], '\0'};
        world_boot(f->osds[i], i, host);
    }
    world_run_ms(f->world, 300);
    for (int32_t i = 0; i < OSDS; i++) {
        assert_true(map_osd_up(f->admin->map, i));
        world_report(f->osds[i], i);
    }
    world_run_ms(f->world, 300);
}

static void teardown(struct fixture *f)
{
    world_destroy(f->world);
}

static bool up(const struct fixture *f, int32_t id)
{
    return map_osd_up(f->admin->map, id);
}

static void sleeps(struct fixture *f, int32_t id)
{
    sim_process_pause(f->osds[id]->node, sim_now(f->world->sim) + 3600 * SEC_NS);
    f->asleep[id] = true;
}

struct says {
    int32_t from;
    int32_t about;
};

/* They say so every half a second, until one of those they talk about is down; -1 after `ms`. */
static int32_t insist(struct fixture *f, const struct says *says, uint32_t n, uint64_t ms,
                      uint64_t *took_ms)
{
    for (*took_ms = 0; *took_ms < ms; *took_ms += 100) {
        for (uint32_t i = 0; i < n && *took_ms % 500 == 0; i++) {
            if (f->osds[says[i].from]->session != NULL && !f->asleep[says[i].from])
                world_fail(f->osds[says[i].from], says[i].about,
                           map_osd(f->admin->map, says[i].about)->instance, SILENT);
        }
        world_run_ms(f->world, 100);
        for (int32_t id = 0; id < OSDS; id++) {
            if (!up(f, id))
                return id;
        }
    }
    return -1;
}

/* Nobody asks what its report says when it is gone: the look of the monitors ends without it. */
static void a_witness_may_be_removed(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct fixture f;
        setup(&f, seed, "abcde");
        world_run_ms(f.world, 200 * seed);
        sleeps(&f, 3);
        for (int32_t i = 0; i < 3; i++)
            world_fail(f.osds[i], 3, f.osds[3]->env->instance, SILENT);
        for (int32_t i = 0; i < 2; i++) {
            char json[80];
            snprintf(json, sizeof json, "{\"prefix\": \"osd down\", \"ids\": [\"%d\"]}", i);
            assert_int_equal(world_command(f.admin, json), 0);
            snprintf(json, sizeof json, "{\"prefix\": \"osd rm\", \"ids\": [\"%d\"]}", i);
            assert_int_equal(world_command(f.admin, json), 0);
            world_run_ms(f.world, 20);
            assert_null(map_osd(f.admin->map, i));
        }
        world_run_ms(f.world, 1000);
        assert_int_not_equal(world_leader(f.world), -1);
        world_fail(f.osds[4], 3, f.osds[3]->env->instance, SILENT);
        world_run_ms(f.world, 1000);
        assert_false(up(&f, 3));
        teardown(&f);
    }
}

static void nothing_is_believed_without_a_look(void **state)
{
    struct fixture f;
    uint64_t instance;

    (void)state;
    setup(&f, 1, "aaaaa");
    instance = f.osds[3]->env->instance;
    /* About another process, in another's name, or untrue. */
    world_fail(f.osds[0], 3, instance + 1, SILENT);
    world_fail(f.osds[1], 3, instance + 1, SILENT);
    world_fail(f.osds[0], 3, instance, LIMPET__WIRE__OSD_FAILURE__KIND__GONE);
    world_fail(f.osds[0], 3, instance, REFUSED);
    world_fail(f.osds[0], 4, f.osds[4]->env->instance, SILENT);
    world_fail(f.osds[1], 4, f.osds[4]->env->instance, SILENT);
    world_run_ms(f.world, 4000);
    assert_true(up(&f, 3));
    assert_true(up(&f, 4));
    world_fail(f.osds[3], 3, instance, LIMPET__WIRE__OSD_FAILURE__KIND__GONE);
    world_run_ms(f.world, 200);
    assert_false(up(&f, 3));
    teardown(&f);
}

static void a_dead_process_is_known_at_once(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 2, "aaaaa");
    world_peer_kill(f.osds[2]);
    world_fail(f.osds[0], 2, map_osd(f.admin->map, 2)->instance, REFUSED);
    uint64_t begin = sim_now(f.world->sim);
    while (up(&f, 2))
        world_run_ms(f.world, 5);
    assert_true(sim_now(f.world->sim) - begin < 100 * MSEC_NS);
    teardown(&f);
}

/* Stopped, with its connections open: two witnesses and our own probe. */
static void a_hung_process_is_down_within_a_second_of_the_reports(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct fixture f;
        uint64_t took_ms;
        static const struct says says[] = {{0, 3}, {1, 3}};
        setup(&f, seed, "aaaaa");
        sleeps(&f, 3);
        world_run_ms(f.world, 2000);
        assert_int_equal(insist(&f, says, 2, 10000, &took_ms), 3);
        if (took_ms > 600)
            fail_msg("seed %" PRIu64 ": %" PRIu64 " ms", seed, took_ms);
        teardown(&f);
    }
}

static void one_witness_has_to_insist(void **state)
{
    struct fixture f;
    uint64_t took_ms;
    static const struct says says[] = {{0, 3}};

    (void)state;
    setup(&f, 4, "aaaaa");
    sleeps(&f, 3);
    assert_int_equal(insist(&f, says, 1, 20000, &took_ms), 3);
    assert_in_range(took_ms, 4900, 7000);
    teardown(&f);
}

static void osds_of_one_host_are_one_witness(void **state)
{
    struct fixture f;
    uint64_t took_ms;
    static const struct says one[] = {{0, 4}, {1, 4}};
    static const struct says two[] = {{0, 4}, {2, 4}};

    (void)state;
    setup(&f, 5, "aabbc");
    sleeps(&f, 4);
    assert_int_equal(insist(&f, one, 2, 3000, &took_ms), -1);
    assert_int_equal(insist(&f, two, 2, 3000, &took_ms), 4);
    assert_true(took_ms <= 600);
    teardown(&f);
}

/* Those who are silent themselves are no witnesses: the others of two hosts are enough. */
static void a_whole_host_goes_at_once(void **state)
{
    struct fixture f;
    uint64_t took_ms;
    static const struct says says[] = {{0, 2}, {1, 2}, {0, 3}, {1, 3}, {0, 4}, {1, 4}};

    (void)state;
    setup(&f, 6, "aabbb");
    for (int32_t id = 2; id < OSDS; id++)
        sleeps(&f, id);
    assert_true(insist(&f, says, 6, 10000, &took_ms) >= 2);
    assert_true(took_ms <= 600);
    world_run_ms(f.world, 500);
    for (int32_t id = 0; id < OSDS; id++)
        assert_int_equal(up(&f, id), id < 2);
    teardown(&f);
}

/* Both talk to the monitors: the one that carries less goes, and is held for a while. */
static void of_a_pair_that_cannot_talk_one_goes(void **state)
{
    struct fixture f;
    uint64_t took_ms;
    static const struct says says[] = {{1, 3}, {3, 1}};

    (void)state;
    setup(&f, 7, "aabbc");
    assert_int_equal(insist(&f, says, 2, 20000, &took_ms), 1);
    assert_in_range(took_ms, 4900, 8000);
    assert_true(up(&f, 3));
    world_boot(f.osds[1], 1, "a");
    world_run_ms(f.world, 1000);
    assert_false(up(&f, 1));
    assert_int_equal(f.osds[1]->notice, -EAGAIN);
    assert_non_null(strstr(f.osds[1]->status, "held down"));
    assert_int_equal(world_command(f.admin, "{\"prefix\": \"health\", \"detail\": \"detail\"}"), 0);
    assert_non_null(strstr(f.admin->output, "OSD_FLAPPING"));
    assert_non_null(strstr(f.admin->output, "cannot talk"));
    world_run_ms(f.world, 5000);
    world_boot(f.osds[1], 1, "a");
    world_run_ms(f.world, 500);
    assert_true(up(&f, 1));
    teardown(&f);
}

/* It hears nobody, and so reports everybody: the fault is its own. */
static void a_deaf_osd_takes_nobody_with_it(void **state)
{
    struct fixture f;
    uint64_t took_ms;
    static const struct says says[] = {{4, 0}, {4, 1}, {4, 2}, {4, 3}};

    (void)state;
    setup(&f, 8, "aaaaa");
    assert_int_equal(insist(&f, says, 4, 20000, &took_ms), 4);
    world_run_ms(f.world, 3000);
    for (int32_t id = 0; id < 4; id++)
        assert_true(up(&f, id));
    teardown(&f);
}

/* Alive for us, and not for its peers. */
static void an_osd_that_no_peer_reaches_goes_after_the_grace(void **state)
{
    struct fixture f;
    uint64_t took_ms;
    static const struct says says[] = {{0, 2}, {1, 2}, {3, 2}};

    (void)state;
    setup(&f, 9, "aaaaa");
    assert_int_equal(insist(&f, says, 3, 20000, &took_ms), 2);
    assert_in_range(took_ms, 4900, 8000);
    teardown(&f);
}

/* It does not answer the leader's probe, but its own reports come: no proof that it is dead. */
static void who_still_reports_is_not_dead(void **state)
{
    struct fixture f;
    static const struct says says[] = {{0, 3}, {1, 3}};

    (void)state;
    setup(&f, 10, "aaaaa");
    int leader = world_leader(f.world);
    int32_t other = (leader + 1) % 3;
    world_peer_connect(f.osds[3], (uint32_t)other);
    world_run_ms(f.world, 300);
    sim_partition(f.world->sim, f.osds[3]->node, f.world->mons[leader].node, true);
    for (int i = 0; i < 40; i++) {
        uint64_t took_ms;
        world_report(f.osds[3], 3);
        if (i < 30)
            assert_int_equal(insist(&f, says, 2, 100, &took_ms), -1);
    }
    assert_true(up(&f, 3));
    teardown(&f);
}

static void flapping_is_damped(void **state)
{
    struct fixture f;
    uint64_t took_ms;
    static const struct says says[] = {{0, 3}, {1, 3}};
    uint64_t held_ms = 0;

    (void)state;
    setup(&f, 11, "aaaaa");
    for (int i = 0; i < 5; i++) {
        sim_process_pause(f.osds[3]->node, sim_now(f.world->sim) + SEC_NS);
        f.asleep[3] = true;
        assert_int_equal(insist(&f, says, 2, 10000, &took_ms), 3);
        world_run_ms(f.world, 1500);
        f.asleep[3] = false;
        uint64_t begin = sim_now(f.world->sim);
        for (int tries = 0; !up(&f, 3) && tries < 400; tries++) {
            world_boot(f.osds[3], 3, "a");
            world_run_ms(f.world, 100);
        }
        uint64_t ms = (sim_now(f.world->sim) - begin) / MSEC_NS;
        if (i < 2)
            assert_true(ms < 500);
        else
            assert_in_range(ms, i == 2 ? 3500 : 2 * held_ms - 500,
                            i == 2 ? 4500 : 2 * held_ms + 500);
        held_ms = ms;
    }
    assert_int_equal(world_command(f.admin, "{\"prefix\": \"health\", \"detail\": \"detail\"}"), 0);
    assert_non_null(strstr(f.admin->output, "OSD_FLAPPING"));
    /* Another process, that somebody has started, need not wait. */
    sim_process_pause(f.osds[3]->node, sim_now(f.world->sim) + SEC_NS);
    f.asleep[3] = true;
    assert_int_equal(insist(&f, says, 2, 10000, &took_ms), 3);
    world_run_ms(f.world, 1500);
    world_boot(f.osds[3], 3, "a");
    world_run_ms(f.world, 300);
    assert_false(up(&f, 3));
    world_peer_kill(f.osds[3]);
    world_peer_restart(f.osds[3], 0);
    world_subscribe(f.osds[3], 0);
    world_run_ms(f.world, 300);
    world_boot(f.osds[3], 3, "a");
    world_run_ms(f.world, 300);
    assert_true(up(&f, 3));
    teardown(&f);
}

static void nodown_keeps_them_up(void **state)
{
    struct fixture f;
    uint64_t took_ms;
    static const struct says says[] = {{0, 3}, {1, 3}};

    (void)state;
    setup(&f, 12, "aaaaa");
    assert_int_equal(world_command(f.admin, "{\"prefix\": \"osd set\", \"key\": \"nodown\"}"), 0);
    sleeps(&f, 3);
    assert_int_equal(insist(&f, says, 2, 8000, &took_ms), -1);
    assert_int_equal(world_command(f.admin, "{\"prefix\": \"osd unset\", \"key\": \"nodown\"}"), 0);
    assert_int_equal(insist(&f, says, 2, 8000, &took_ms), 3);
    teardown(&f);
}

static bool health_tells(const struct fixture *f, const char *text)
{
    assert_int_equal(world_command(f->admin, "{\"prefix\": \"health\", \"detail\": \"detail\"}"),
                     0);
    return strstr(f->admin->output, text) != NULL;
}

/* Nobody is let in again for another one: who was blocked may still send. */
static void a_full_list_stays_as_it_is(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 14, "aabbc");
    for (uint64_t i = 1; i <= MAP_BLOCKED_MAX; i++) {
        char json[120];
        snprintf(json, sizeof json,
                 "{\"prefix\": \"osd blocklist add\", \"addr\": \"0.0.0.0:0/%" PRIu64
                 "\", \"expire\": 600}",
                 i);
        assert_int_equal(world_command(f.admin, json), 0);
        if (i == MAP_BLOCKED_MAX * 3 / 4 - 1)
            assert_false(health_tells(&f, "BLOCKLIST_FULL"));
        if (i == MAP_BLOCKED_MAX * 3 / 4)
            assert_true(health_tells(&f, "768 of 1024 places of the blocklist are taken"));
    }
    assert_int_equal(f.admin->map->n_blocked, MAP_BLOCKED_MAX);
    world_fence(f.osds[0], 4711);
    world_run_ms(f.world, 500);
    assert_false(map_blocks(f.admin->map, 4711, NULL));
    assert_int_equal(f.admin->map->n_blocked, MAP_BLOCKED_MAX);
    assert_int_equal(
        world_command(f.admin, "{\"prefix\": \"osd blocklist rm\", \"addr\": \"0.0.0.0:0/40\"}"),
        0);
    world_fence(f.osds[0], 4711);
    world_run_ms(f.world, 500);
    assert_true(map_blocks(f.admin->map, 4711, NULL));
    teardown(&f);
}

/* Somebody has blocked it for a minute: what it has sent before may come later than that. */
static void who_is_blocked_for_shorter_is_fenced_for_as_long(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 15, "aabbc");
    assert_int_equal(world_command(f.admin, "{\"prefix\": \"osd blocklist add\", \"addr\": "
                                            "\"0.0.0.0:0/4711\", \"expire\": 60}"),
                     0);
    world_fence(f.osds[0], 4711);
    world_run_ms(f.world, 500);
    uint64_t days = (f.admin->map->blocked[0].until_ns - env_wall(f.admin->env)) / SEC_NS / 86400;
    assert_in_range(days, 6, 7);
    teardown(&f);
}

/* Nor does somebody who blocks it once more for a minute let it in sooner. */
static void who_is_fenced_stays_so_when_blocked_for_shorter(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 16, "aabbc");
    world_fence(f.osds[0], 4711);
    world_run_ms(f.world, 500);
    assert_int_equal(world_command(f.admin, "{\"prefix\": \"osd blocklist add\", \"addr\": "
                                            "\"0.0.0.0:0/4711\", \"expire\": 60}"),
                     0);
    assert_non_null(strstr(f.admin->status, "already"));
    uint64_t days = (f.admin->map->blocked[0].until_ns - env_wall(f.admin->env)) / SEC_NS / 86400;
    assert_in_range(days, 6, 7);
    teardown(&f);
}

/* Whom an OSD had missed may be back by then: it asks again if not. */
static void nobody_is_fenced_for_what_was_asked_without_a_quorum(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 17, "aabbc");
    for (uint32_t i = 1; i < 3; i++)
        world_end(f.world, i, SIM_EXIT);
    world_run_ms(f.world, 10000);
    assert_int_equal(world_leader(f.world), -1);
    world_fence(f.osds[0], 4711);
    world_run_ms(f.world, 500);
    for (uint32_t i = 1; i < 3; i++)
        world_start(f.world, i);
    world_await_leader(f.world, -1);
    world_run_ms(f.world, 2000);
    assert_false(map_blocks(f.admin->map, 4711, NULL));
    world_fence(f.osds[0], 4711);
    world_run_ms(f.world, 500);
    assert_true(map_blocks(f.admin->map, 4711, NULL));
    teardown(&f);
}

/* Nor by an OSD whose place another process has, though it has the key. */
static void who_is_no_osd_of_the_map_fences_nobody(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 18, "aabbc");
    struct world_peer *other = world_peer(f.world, "osd.0", 1);
    world_run_ms(f.world, 300);
    world_fence(other, 4711);
    world_run_ms(f.world, 500);
    assert_false(map_blocks(f.admin->map, 4711, NULL));
    teardown(&f);
}

/* OSDs may have a client blocked; each of them asks until it knows the map. */
static void osds_have_clients_fenced(void **state)
{
    enum { CLIENT = 4711 };
    struct fixture f;

    (void)state;
    setup(&f, 13, "aabbc");
    uint64_t before = f.admin->map->epoch;
    world_fence(f.admin, CLIENT);
    world_run_ms(f.world, 500);
    assert_int_equal(f.admin->map->epoch, before);
    for (int32_t i = 0; i < OSDS; i++)
        world_fence(f.osds[i], CLIENT);
    world_run_ms(f.world, 500);
    assert_true(map_blocks(f.admin->map, CLIENT, NULL));
    assert_false(map_blocks(f.admin->map, CLIENT + 1, NULL));
    assert_int_equal(f.admin->map->epoch, before + 1);
    /* Longer than anybody would let its machine sleep, and not for ever. */
    uint64_t days = (f.admin->map->blocked[0].until_ns - env_wall(f.admin->env)) / SEC_NS / 86400;
    assert_in_range(days, 6, 7);
    world_fence(f.osds[0], CLIENT);
    world_run_ms(f.world, 500);
    assert_int_equal(f.admin->map->epoch, before + 1);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_believed_without_a_look),
        cmocka_unit_test(a_witness_may_be_removed),
        cmocka_unit_test(a_dead_process_is_known_at_once),
        cmocka_unit_test(a_hung_process_is_down_within_a_second_of_the_reports),
        cmocka_unit_test(one_witness_has_to_insist),
        cmocka_unit_test(osds_of_one_host_are_one_witness),
        cmocka_unit_test(a_whole_host_goes_at_once),
        cmocka_unit_test(of_a_pair_that_cannot_talk_one_goes),
        cmocka_unit_test(a_deaf_osd_takes_nobody_with_it),
        cmocka_unit_test(an_osd_that_no_peer_reaches_goes_after_the_grace),
        cmocka_unit_test(who_still_reports_is_not_dead),
        cmocka_unit_test(flapping_is_damped),
        cmocka_unit_test(nodown_keeps_them_up),
        cmocka_unit_test(osds_have_clients_fenced),
        cmocka_unit_test(who_is_blocked_for_shorter_is_fenced_for_as_long),
        cmocka_unit_test(who_is_fenced_stays_so_when_blocked_for_shorter),
        cmocka_unit_test(nobody_is_fenced_for_what_was_asked_without_a_quorum),
        cmocka_unit_test(who_is_no_osd_of_the_map_fences_nobody),
        cmocka_unit_test(a_full_list_stays_as_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
