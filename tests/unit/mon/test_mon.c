/* Monitors as a whole: elections, commits, commands, subscriptions, OSDs, crashes. */
#include "tests/lib/test.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "mon/mon_private.h"
#include "mon/raft_codec.h"
#include "tests/unit/mon/mon_world.h"

static json_t *parse(const struct world_peer *peer)
{
    json_t *root = json_loadb(peer->output, peer->output_len, 0, NULL);

    if (root == NULL)
        fail_msg("no JSON: %s", peer->output);
    return root;
}

static const char *text_at(json_t *root, const char *a, const char *b)
{
    return json_string_value(json_object_get(json_object_get(root, a), b));
}

static int64_t number_at(json_t *root, const char *a, const char *b)
{
    return json_integer_value(json_object_get(json_object_get(root, a), b));
}

/* ---- Elections ---- */

static void fresh_monitors_elect_quickly(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world *world = world_create(seed, 3, NULL);
        world_await_leader(world, -1);
        uint64_t ms = sim_now(world->sim) / MSEC_NS;
        if (ms > 700)
            fail_msg("seed %" PRIu64 ": first map after %" PRIu64 " ms", seed, ms);
        world_destroy(world);
    }
}

static void one_monitor_leads_alone(void **state)
{
    (void)state;
    struct world *world = world_create(7, 1, NULL);
    assert_int_equal(world_await_leader(world, -1), 0);
    struct world_peer *admin = world_peer(world, "client.admin", 0);
    assert_int_equal(world_command(admin, "{\"prefix\": \"osd pool create\", \"pool\": \"p\"}"), 0);
    world_end(world, 0, SIM_POWER_CUT);
    world_start(world, 0);
    world_await_leader(world, -1);
    assert_non_null(map_pool_by_name(mon_map(world->mons[0].mon), "p"));
    world_destroy(world);
}

static void a_dead_leader_is_replaced(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world *world = world_create(seed, 3, NULL);
        world_await_leader(world, -1);
        world_run_ms(world, 2000);
        int first = world_leader(world);
        uint64_t begin = sim_now(world->sim);
        world_end(world, (uint32_t)first, SIM_CRASH);
        world_await_leader(world, first);
        uint64_t ms = (sim_now(world->sim) - begin) / MSEC_NS;
        if (ms > 1500)
            fail_msg("seed %" PRIu64 ": next leader after %" PRIu64 " ms", seed, ms);
        /* It comes back as a follower, with nothing lost. */
        world_start(world, (uint32_t)first);
        world_await_epoch(world, mon_map(world->mons[world_leader(world)].mon)->epoch);
        world_destroy(world);
    }
}

static void a_leader_that_hangs_is_replaced(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct world *world = world_create(seed, 3, NULL);
        world_await_leader(world, -1);
        world_run_ms(world, 2000);
        int first = world_leader(world);
        uint64_t begin = sim_now(world->sim);
        sim_process_pause(world->mons[first].node, begin + 10 * SEC_NS);
        struct mon *hung = world->mons[first].mon;
        world->mons[first].mon = NULL;
        world_await_leader(world, first);
        uint64_t ms = (sim_now(world->sim) - begin) / MSEC_NS;
        world->mons[first].mon = hung;
        if (ms > 2500)
            fail_msg("seed %" PRIu64 ": next leader after %" PRIu64 " ms", seed, ms);
        /* When it wakes up it follows. */
        world_run_ms(world, 12000);
        assert_int_not_equal(world_leader(world), -1);
        world_destroy(world);
    }
}

static void two_of_three_lost_means_no_commit(void **state)
{
    (void)state;
    struct world *world = world_create(3, 3, NULL);
    int leader = world_await_leader(world, -1);
    world_run_ms(world, 1000);
    struct world_peer *admin = world_peer(world, "client.admin", (uint32_t)leader);
    world_run_ms(world, 100);
    world_end(world, (uint32_t)(leader + 1) % 3, SIM_CRASH);
    world_end(world, (uint32_t)(leader + 2) % 3, SIM_CRASH);
    world_send_command(admin, "{\"prefix\": \"osd pool create\", \"pool\": \"p\"}");
    world_run_ms(world, 10000);
    assert_false(admin->replied);
    assert_null(map_pool_by_name(mon_map(world->mons[leader].mon), "p"));
    /* With one more, it is done and answered. */
    world_start(world, (uint32_t)(leader + 1) % 3);
    world_run_ms(world, 5000);
    assert_true(admin->replied);
    assert_int_equal(admin->result, 0);
    world_destroy(world);
}

/* A monitor that was cut off and has tried to be elected says so to the leader, which steps down.
 */
static void depose(struct world *world, uint32_t leader)
{
    struct mon *mon = world->mons[leader].mon;
    struct consensus_state now;

    consensus_state(mon->consensus, &now);
    struct raft_message refusal = {.type = RAFT_IO_APPEND_ENTRIES_RESULT,
                                   .append_entries_result = {.term = now.term + 1, .rejected = 1}};
    uint64_t from = (leader + 2) % 3 + 1;
    struct message *message = raft_codec_encode(&refusal, from, &world->fsid);
    assert_non_null(message);
    consensus_receive(mon->consensus, from, message);
    message_unref(message);
    assert_false(mon_is_leader(mon));
}

static bool has_proposed(void *ctx)
{
    const struct mon *mon = ctx;
    return consensus_in_flight(mon->consensus);
}

static bool was_declined(void *ctx)
{
    const struct mon *mon = ctx;
    return TAILQ_FIRST(&mon->pendings)->sent_to == 0;
}

/* Whoever passed them on may never see another leader: this one may be elected again first. */
static void a_leader_that_steps_down_gives_commands_back(void **state)
{
    (void)state;
    struct world *world = world_create(22, 3, NULL);
    uint32_t leader = (uint32_t)world_await_leader(world, -1), other = (leader + 1) % 3;
    struct mon *mon = world->mons[other].mon;
    struct world_peer *admin = world_peer(world, "client.admin", other);

    world_run_ms(world, 1000);
    world_send_command(admin, "{\"prefix\": \"osd pool create\", \"pool\": \"p\"}");
    assert_true(world_until(world, 1000, has_proposed, world->mons[leader].mon));
    assert_false(was_declined(mon));
    depose(world, leader);
    /* Sooner than any election. */
    assert_true(world_until(world, 500, was_declined, mon));
    assert_int_equal(consensus_leader(mon->consensus), world->list[leader].id);
    world_run_ms(world, 10000);
    assert_true(admin->replied);
    assert_int_equal(admin->result, 0);
    world_destroy(world);
}

/* ---- Repeated commands ---- */

#define GET_KEY "{\"prefix\": \"auth get-or-create\", \"entity\": \"client.x\"}"
#define RM_KEY  "{\"prefix\": \"auth rm\", \"entity\": \"client.x\"}"
#define SET_SIZE                                                                                   \
    "{\"prefix\": \"osd pool set\", \"pool\": \"p\", \"var\": \"size\", \"val\": \"2\"}"

static int send_again(struct world_peer *peer, uint64_t tid, const char *json)
{
    uint64_t last = peer->tid;
    peer->tid = tid - 1;
    int result = world_command(peer, json);
    peer->tid = last;
    return result;
}

/* The client has gone to another monitor, and the one it left wakes up. */
static void a_late_copy_of_a_command_is_not_executed(void **state)
{
    (void)state;
    struct world *world = world_create(23, 3, NULL);
    int leader = world_await_leader(world, -1);
    struct world_peer *admin = world_peer(world, "client.admin", 0);
    struct world_peer *other = world_peer(world, "client.admin", 1);
    char key[512];

    world_run_ms(world, 500);
    assert_int_equal(world_command(other, SET_SIZE), -ENOENT);
    assert_int_equal(world_command(admin, GET_KEY), 0);
    snprintf(key, sizeof key, "%.500s", admin->output);
    assert_int_equal(world_command(other, RM_KEY), 0);
    /* It is answered as before, and the key stays away; also when another monitor leads. */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(send_again(admin, 1, GET_KEY), 0);
        assert_string_equal(admin->output, key);
        assert_int_equal(world_command(other, "{\"prefix\": \"auth get\", \"entity\": "
                                              "\"client.x\"}"),
                         -ENOENT);
        if (i > 0)
            break;
        world_end(world, (uint32_t)leader, SIM_CRASH);
        world_await_leader(world, leader);
        world_start(world, (uint32_t)leader);
        world_run_ms(world, 2000);
        world_peer_connect(admin, 2);
        world_peer_connect(other, 2);
        world_run_ms(world, 200);
    }
    /* A failure stays one. */
    assert_int_equal(world_command(admin, "{\"prefix\": \"osd pool create\", \"pool\": \"p\"}"), 0);
    assert_int_equal(send_again(other, 1, SET_SIZE), -ENOENT);
    /* What was never executed, and its sender has given up, is not executed either. */
    admin->tid = admin->oldest = 20;
    assert_int_equal(world_command(admin, GET_KEY), 0);
    assert_int_equal(send_again(admin, 15, RM_KEY), -ESTALE);
    world_destroy(world);
}

/* ---- Commits ---- */

static void a_commit_waits_for_no_timer(void **state)
{
    (void)state;
    struct world *world = world_create(5, 3, NULL);
    int leader = world_await_leader(world, -1);
    struct world_peer *admin = world_peer(world, "client.admin", (uint32_t)leader);
    struct world_peer *other = world_peer(world, "client.reader", (uint32_t)(leader + 1) % 3);
    world_run_ms(world, 1000);
    world_subscribe(other, 0);
    world_run_ms(world, 100);
    for (int i = 0; i < 20; i++) {
        char json[128];
        uint64_t begin = sim_now(world->sim);
        snprintf(json, sizeof json, "{\"prefix\": \"osd pool create\", \"pool\": \"p%d\"}", i);
        assert_int_equal(world_command(admin, json), 0);
        uint64_t us = (sim_now(world->sim) - begin) / 1000;
        /* Two round trips at most (to the leader, to its followers) and one flush. */
        if (us > 20000)
            fail_msg("a commit took %" PRIu64 " us", us);
        /* Followers hear of it at once, and their subscribers too. */
        world_run_ms(world, 20);
        assert_int_equal(other->map->epoch, admin->reply_epoch);
    }
    assert_int_equal(other->full_maps, 1);
    world_destroy(world);
}

static void changes_made_meanwhile_share_an_entry(void **state)
{
    (void)state;
    struct world *world = world_create(6, 3, NULL);
    int leader = world_await_leader(world, -1);
    struct world_peer *admins[4];
    for (int i = 0; i < 4; i++)
        admins[i] = world_peer(world, "client.admin", (uint32_t)leader);
    world_run_ms(world, 1000);
    uint64_t before = mon_map(world->mons[leader].mon)->epoch;
    for (int i = 0; i < 4; i++) {
        char json[128];
        for (int k = 0; k < 5; k++) {
            snprintf(json, sizeof json, "{\"prefix\": \"osd pool create\", \"pool\": \"p%d.%d\"}",
                     i, k);
            world_send_command(admins[i], json);
        }
    }
    world_run_ms(world, 1000);
    const struct cluster_map *map = mon_map(world->mons[leader].mon);
    assert_int_equal(map->n_pools, 20);
    if (map->epoch - before > 10)
        fail_msg("20 changes took %" PRIu64 " entries", map->epoch - before);
    world_destroy(world);
}

/* ---- Commands ---- */

static void commands_work_at_every_monitor(void **state)
{
    (void)state;
    struct world *world = world_create(8, 3, NULL);
    world_await_leader(world, -1);
    world_run_ms(world, 1000);
    for (uint32_t i = 0; i < 3; i++) {
        struct world_peer *admin = world_peer(world, "client.admin", i);
        char json[128];
        snprintf(json, sizeof json, "{\"prefix\": \"osd pool create\", \"pool\": \"p%u\"}", i);
        assert_int_equal(world_command(admin, json), 0);
        assert_int_equal(world_command(admin, "{\"prefix\": \"osd pool ls\"}"), 0);
        snprintf(json, sizeof json, "p%u\n", i);
        assert_non_null(strstr(admin->output, json));
        assert_int_equal(world_command(admin, "{\"prefix\": \"status\", \"format\": \"json\"}"), 0);
        json_t *root = parse(admin);
        assert_string_equal(text_at(root, "health", "status"), "HEALTH_WARN");
        assert_int_equal(json_array_size(json_object_get(root, "quorum")), 3);
        assert_int_equal(json_array_size(json_object_get(root, "quorum_names")), 3);
        assert_int_equal(strlen(json_string_value(json_object_get(root, "quorum_leader_name"))), 1);
        json_decref(root);
    }
    world_destroy(world);
}

static void bad_commands_are_explained(void **state)
{
    (void)state;
    struct world *world = world_create(9, 1, NULL);
    world_await_leader(world, -1);
    struct world_peer *admin = world_peer(world, "client.admin", 0);
    struct world_peer *reader = world_peer(world, "client.reader", 0);

    assert_int_equal(world_command(admin, "{\"prefix\": \"osd pigeon\"}"), -EINVAL);
    assert_non_null(strstr(admin->status, "osd pigeon"));
    assert_int_equal(world_command(admin, "pigeon"), -EINVAL);
    assert_int_equal(world_command(admin, "[]"), -EINVAL);
    assert_int_equal(world_command(admin, "{\"prefix\": \"status\", \"format\": \"xml\"}"),
                     -EINVAL);
    assert_int_equal(world_command(admin, "{\"prefix\": \"osd pool create\"}"), -EINVAL);
    assert_int_equal(world_command(admin, "{\"prefix\": \"osd pool create\", \"pool\": \"a/b\"}"),
                     -EINVAL);
    assert_int_equal(world_command(admin, "{\"prefix\": \"osd pool get\", \"pool\": \"x\", "
                                          "\"var\": \"size\"}"),
                     -ENOENT);
    assert_non_null(strstr(admin->status, "'x'"));
    assert_int_equal(world_command(admin, "{\"prefix\": \"osd out\", \"ids\": [\"7\"]}"), -ENOENT);
    assert_int_equal(world_command(admin, "{\"prefix\": \"osd out\", \"ids\": [\"x\"]}"), -EINVAL);
    assert_int_equal(world_command(reader, "{\"prefix\": \"osd pool create\", \"pool\": \"p\"}"),
                     -EACCES);
    assert_int_equal(world_command(reader, "{\"prefix\": \"auth ls\"}"), -EACCES);
    assert_int_equal(world_command(reader, "{\"prefix\": \"status\"}"), 0);
    world_destroy(world);
}

static void pools_are_made_and_removed(void **state)
{
    (void)state;
    struct world *world = world_create(10, 3, NULL);
    world_await_leader(world, -1);
    struct world_peer *admin = world_peer(world, "client.admin", 0);

    assert_int_equal(world_command(admin, "{\"prefix\": \"osd pool create\", \"pool\": \"p\", "
                                          "\"pg_num\": 16, \"size\": 2}"),
                     0);
    assert_int_equal(world_command(admin, "{\"prefix\": \"osd pool create\", \"pool\": \"p\"}"), 0);
    assert_non_null(strstr(admin->status, "already exists"));
    assert_int_equal(world_command(admin, "{\"prefix\": \"osd pool set\", \"pool\": \"p\", "
                                          "\"var\": \"size\", \"val\": \"3\"}"),
                     0);
    assert_int_equal(world_command(admin, "{\"prefix\": \"osd pool get\", \"pool\": \"p\", "
                                          "\"var\": \"size\"}"),
                     0);
    assert_string_equal(admin->output, "size: 3\n");
    assert_int_equal(world_command(admin, "{\"prefix\": \"osd pool rm\", \"pool\": \"p\"}"),
                     -EPERM);
    assert_int_equal(
        world_command(admin, "{\"prefix\": \"osd pool rm\", \"pool\": \"p\", \"pool2\": \"q\", "
                             "\"yes_i_really_really_mean_it\": true}"),
        -EPERM);
    assert_int_equal(
        world_command(admin, "{\"prefix\": \"osd pool rm\", \"pool\": \"p\", \"pool2\": \"p\", "
                             "\"yes_i_really_really_mean_it\": true}"),
        0);
    assert_int_equal(world_command(admin, "{\"prefix\": \"osd pool ls\"}"), 0);
    assert_string_equal(admin->output, "");
    world_destroy(world);
}

static void entities_are_managed(void **state)
{
    (void)state;
    struct world *world = world_create(11, 3, NULL);
    world_await_leader(world, -1);
    struct world_peer *admin = world_peer(world, "client.admin", 1);

    assert_int_equal(world_command(admin, "{\"prefix\": \"auth get-or-create\", \"entity\": "
                                          "\"client.x\", \"caps\": [\"mon\", \"allow r\"]}"),
                     0);
    assert_non_null(strstr(admin->output, "[client.x]"));
    char first[512];
    snprintf(first, sizeof first, "%.500s", admin->output);
    assert_int_equal(
        world_command(admin, "{\"prefix\": \"auth get-or-create\", \"entity\": \"client.x\"}"), 0);
    assert_string_equal(admin->output, first);
    assert_int_equal(world_command(admin, "{\"prefix\": \"auth caps\", \"entity\": \"client.x\", "
                                          "\"caps\": [\"osd\", \"allow rw pool=p\"]}"),
                     0);
    assert_int_equal(world_command(admin, "{\"prefix\": \"auth get\", \"entity\": \"client.x\"}"),
                     0);
    assert_non_null(strstr(admin->output, "allow rw pool=p"));
    assert_int_equal(world_command(admin, "{\"prefix\": \"auth caps\", \"entity\": \"client.x\", "
                                          "\"caps\": [\"osd\", \"allow pigeons\"]}"),
                     -EINVAL);
    assert_int_equal(world_command(admin, "{\"prefix\": \"auth rm\", \"entity\": \"client.x\"}"),
                     0);
    assert_int_equal(world_command(admin, "{\"prefix\": \"auth get\", \"entity\": \"client.x\"}"),
                     -ENOENT);
    world_destroy(world);
}

/* ---- OSDs ---- */

/* osd.0 to osd.2, each at the monitor of its number. */
static void connect_osds(struct world *world, struct world_peer *osds[3])
{
    for (uint32_t i = 0; i < 3; i++) {
        char name[8];
        snprintf(name, sizeof name, "osd.%u", i);
        osds[i] = world_peer(world, name, i);
    }
}

static void reach_clean(struct world *world, struct world_peer **osds, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        world_subscribe(osds[i], 0);
    world_run_ms(world, 200);
    for (uint32_t i = 0; i < n; i++)
        world_boot(osds[i], (int32_t)i, "host");
    world_run_ms(world, 200);
}

static void osds_boot_serve_and_die(void **state)
{
    (void)state;
    struct world *world = world_create(12, 3, NULL);
    struct world_peer *osds[3];

    world->options.osd_down_out_seconds = 60;
    world_await_leader(world, -1);
    struct world_peer *admin = world_peer(world, "client.admin", 2);
    connect_osds(world, osds);
    reach_clean(world, osds, 3);
    assert_int_equal(world_command(admin, "{\"prefix\": \"osd pool create\", \"pool\": \"p\"}"), 0);
    world_run_ms(world, 100);
    for (uint32_t i = 0; i < 3; i++)
        world_report(osds[i], (int32_t)i);
    world_run_ms(world, 100);
    assert_int_equal(world_command(admin, "{\"prefix\": \"status\", \"format\": \"json\"}"), 0);
    json_t *root = parse(admin);
    assert_string_equal(text_at(root, "health", "status"), "HEALTH_OK");
    assert_int_equal(number_at(root, "osdmap", "num_up_osds"), 3);
    assert_int_equal(number_at(root, "pgmap", "num_pgs"), 64);
    assert_int_equal(number_at(root, "pgmap", "bytes_used"), INT64_C(3) << 30);
    json_decref(root);
    assert_int_equal(world_command(admin, "{\"prefix\": \"status\"}"), 0);
    assert_non_null(strstr(admin->output, "64 active+clean"));
    assert_non_null(strstr(admin->output, "health: HEALTH_OK"));
    assert_int_equal(world_command(admin, "{\"prefix\": \"osd tree\"}"), 0);
    assert_non_null(strstr(admin->output, "osd.2"));

    /* Its session breaks, and nobody listens any more: that is enough. */
    world_peer_kill(osds[1]);
    uint64_t begin = sim_now(world->sim);
    while (map_osd_up(mon_map(world->mons[world_leader(world)].mon), 1))
        world_run_ms(world, 10);
    assert_true(sim_now(world->sim) - begin < SEC_NS);
    assert_int_equal(world_command(admin, "{\"prefix\": \"health\", \"detail\": \"detail\"}"), 0);
    assert_non_null(strstr(admin->output, "OSD_DOWN"));
    assert_non_null(strstr(admin->output, "next:"));
    world_destroy(world);
}

static void a_number_belongs_to_one_store(void **state)
{
    (void)state;
    struct world *world = world_create(13, 3, NULL);
    world_await_leader(world, -1);
    struct world_peer *osd = world_peer(world, "osd.0", 0);
    struct world_peer *liar = world_peer(world, "osd.1", 1);

    world_run_ms(world, 500);
    world_boot_as(osd, 0, 7, "h");
    world_run_ms(world, 200);
    const struct cluster_map *map = mon_map(world->mons[0].mon);
    assert_true(map_osd_up(map, 0));
    /* Another store with that number is told so. */
    world_boot_as(osd, 0, 8, "h");
    world_run_ms(world, 200);
    assert_int_equal(osd->notice, -EEXIST);
    assert_non_null(strstr(osd->status, "osd.0"));
    /* An OSD speaks for itself only. */
    world_boot_as(liar, 2, 9, "h");
    world_run_ms(world, 200);
    assert_null(map_osd(mon_map(world->mons[0].mon), 2));
    world_destroy(world);
}

static void silent_osds_are_noticed_and_marked_out(void **state)
{
    (void)state;
    struct world *world = world_create(15, 3, NULL);
    struct world_peer *osds[3];

    for (uint32_t i = 0; i < 3; i++)
        world_end(world, i, SIM_EXIT);
    world->options.osd_down_out_seconds = 30;
    world->options.osd_beacon_grace_seconds = 5;
    for (uint32_t i = 0; i < 3; i++)
        world_start(world, i);
    world_await_leader(world, -1);
    for (uint32_t i = 0; i < 3; i++) {
        char name[8];
        snprintf(name, sizeof name, "osd.%u", i);
        osds[i] = world_peer(world, name, i % 3);
    }
    reach_clean(world, osds, 3);
    for (int s = 0; s < 10; s++) {
        world_report(osds[0], 0);
        world_report(osds[1], 1);
        world_run_ms(world, 1000);
    }
    assert_true(map_osd_up(osds[0]->map, 0));
    assert_false(map_osd_up(osds[0]->map, 2));
    for (int s = 0; s < 35; s++) {
        world_report(osds[0], 0);
        world_report(osds[1], 1);
        world_run_ms(world, 1000);
    }
    assert_int_equal(map_osd(osds[0]->map, 2)->weight, 0);
    assert_true(map_osd(osds[0]->map, 2)->auto_out);
    world_boot(osds[2], 2, "host");
    world_run_ms(world, 300);
    assert_int_equal(map_osd(osds[0]->map, 2)->weight, MAP_WEIGHT_ONE);
    world_destroy(world);
}

static void a_new_leader_hears_the_reports_again(void **state)
{
    (void)state;
    struct world *world = world_create(16, 3, NULL);
    struct world_peer *osds[3];

    world_await_leader(world, -1);
    world_run_ms(world, 1000);
    int leader = world_leader(world);
    uint32_t survivor = (uint32_t)(leader + 1) % 3;
    struct world_peer *admin = world_peer(world, "client.admin", survivor);
    for (uint32_t i = 0; i < 3; i++) {
        char name[8];
        snprintf(name, sizeof name, "osd.%u", i);
        osds[i] = world_peer(world, name, (uint32_t)(leader + 1 + (int)(i % 2)) % 3);
    }
    reach_clean(world, osds, 3);
    assert_int_equal(world_command(admin, "{\"prefix\": \"osd pool create\", \"pool\": \"p\"}"), 0);
    world_run_ms(world, 100);
    for (uint32_t i = 0; i < 3; i++)
        world_report(osds[i], (int32_t)i);
    world_run_ms(world, 100);
    world_end(world, (uint32_t)leader, SIM_CRASH);
    world_await_leader(world, leader);
    world_run_ms(world, 500);
    assert_int_equal(world_command(admin, "{\"prefix\": \"pg stat\"}"), 0);
    assert_string_equal(admin->output, "64 pgs: 64 active+clean\n");
    world_destroy(world);
}

static void check_scrub_order(struct world_peer *admin, struct world_peer *osds[3],
                              const char *what, bool deep)
{
    struct pg_view view;
    struct pg_id pg = {.pool = admin->map->pools[0].id, .seed = 5};
    char command[96];

    assert_int_equal(map_pg_view(admin->map, pg, &view), 0);
    for (int i = 0; i < 3; i++)
        osds[i]->scrub_orders = 0;
    snprintf(command, sizeof command, "{\"prefix\": \"pg %s\", \"pgid\": \"%d.5\"}", what,
             (int)pg.pool);
    assert_int_equal(world_command(admin, command), 0);
    world_run_ms(admin->world, 100);
    for (int i = 0; i < 3; i++)
        assert_int_equal(osds[i]->scrub_orders, i == view.primary ? 1 : 0);
    assert_int_equal(osds[view.primary]->deep_ordered, deep);
}

/* Each OSD talks to another monitor, so that at most one primary's session is the leader's. */
static void scrubs_are_ordered_and_what_they_find_is_told(void **state)
{
    (void)state;
    struct world *world = world_create(17, 3, NULL);
    struct world_peer *osds[3];

    world_await_leader(world, -1);
    world_run_ms(world, 1000);
    struct world_peer *admin = world_peer(world, "client.admin", 1);
    connect_osds(world, osds);
    reach_clean(world, osds, 3);
    assert_int_equal(world_command(admin, "{\"prefix\": \"osd pool create\", \"pool\": \"p\"}"), 0);
    world_subscribe(admin, 0);
    world_run_ms(world, 100);
    for (uint32_t shift = 0; shift < 3; shift++) {
        for (uint32_t i = 0; i < 3; i++)
            world_peer_connect(osds[i], (i + shift) % 3);
        world_run_ms(world, 200);
        check_scrub_order(admin, osds, "scrub", false);
        check_scrub_order(admin, osds, "deep-scrub", true);
        check_scrub_order(admin, osds, "repair", true);
    }
    assert_int_equal(world_command(admin, "{\"prefix\": \"pg scrub\", \"pgid\": \"99.0\"}"),
                     -ENOENT);
    osds[0]->inconsistent = 2;
    osds[1]->repaired = 50;
    for (uint32_t i = 0; i < 3; i++)
        world_report(osds[i], (int32_t)i);
    world_run_ms(world, 100);
    assert_int_equal(world_command(admin, "{\"prefix\": \"health\", \"detail\": \"detail\"}"), 0);
    assert_non_null(strstr(admin->output, "HEALTH_ERR"));
    assert_non_null(strstr(admin->output, "[ERR] PG_INCONSISTENT"));
    assert_non_null(strstr(admin->output, "active+clean+inconsistent"));
    assert_non_null(strstr(admin->output, "osd.1 repaired 50 objects"));
    assert_null(strstr(admin->output, "osd.2 repaired"));
    /* Errors alone, which others repaired, are reason enough; and the code is explained. */
    osds[1]->repaired = 0;
    osds[2]->read_errors = 50;
    for (uint32_t i = 0; i < 3; i++)
        world_report(osds[i], (int32_t)i);
    world_run_ms(world, 100);
    assert_int_equal(world_command(admin, "{\"prefix\": \"health\", \"detail\": \"detail\"}"), 0);
    assert_non_null(strstr(admin->output, "[WRN] OSD_TOO_MANY_REPAIRS"));
    assert_non_null(strstr(admin->output, "osd.2 repaired 0 objects and met 50 read errors"));
    assert_null(strstr(admin->output, "osd.1 repaired"));
    assert_int_equal(
        world_command(admin,
                      "{\"prefix\": \"health explain\", \"code\": \"OSD_TOO_MANY_REPAIRS\"}"),
        0);
    assert_non_null(strstr(admin->output, "limpet osd out"));
    world_destroy(world);
}

static void slow_requests_are_in_the_health_report(void **state)
{
    (void)state;
    struct world *world = world_create(19, 3, NULL);
    struct world_peer *osds[3];

    world_await_leader(world, -1);
    world_run_ms(world, 1000);
    struct world_peer *admin = world_peer(world, "client.admin", 1);
    connect_osds(world, osds);
    reach_clean(world, osds, 3);
    osds[1]->slow_ops = 3;
    osds[2]->slow_ops = 1;
    for (uint32_t i = 0; i < 3; i++)
        world_report(osds[i], (int32_t)i);
    world_run_ms(world, 100);
    assert_int_equal(world_command(admin, "{\"prefix\": \"health\", \"detail\": \"detail\"}"), 0);
    assert_non_null(strstr(admin->output, "HEALTH_WARN"));
    assert_non_null(
        strstr(admin->output, "[WRN] SLOW_OPS: 4 slow ops, oldest one blocked for 42 s"));
    assert_non_null(strstr(admin->output, "osd.1 has 3 slow requests, the oldest waits for 41 s, "
                                          "for the copy on osd.7"));
    for (uint32_t i = 0; i < 3; i++) {
        osds[i]->slow_ops = 0;
        world_report(osds[i], (int32_t)i);
    }
    world_run_ms(world, 100);
    assert_int_equal(world_command(admin, "{\"prefix\": \"health\"}"), 0);
    assert_null(strstr(admin->output, "SLOW_OPS"));
    world_destroy(world);
}

/* Others would not wait for leases of one that is gone. */
static void removal_by_force_waits_until_leases_have_run_out(void **state)
{
    (void)state;
    const char *remove =
        "{\"prefix\": \"osd rm\", \"ids\": [\"2\"], \"yes_i_really_mean_it\": true}";
    struct world *world = world_create(23, 3, NULL);
    struct world_peer *osds[3];

    world_await_leader(world, -1);
    struct world_peer *admin = world_peer(world, "client.admin", 1);
    connect_osds(world, osds);
    reach_clean(world, osds, 3);
    world_subscribe(admin, 0);
    assert_int_equal(world_command(admin, "{\"prefix\": \"osd down\", \"ids\": [\"2\"]}"), 0);
    assert_int_equal(world_command(admin, remove), -EAGAIN);
    world_run_ms(world, 1800);
    assert_non_null(map_osd(admin->map, 2));
    world_run_ms(world, 400);
    assert_int_equal(world_command(admin, remove), 0);
    world_run_ms(world, 100);
    assert_null(map_osd(admin->map, 2));
    world_destroy(world);
}

/* ---- Tickets ---- */

static void tickets_are_given_to_those_with_capabilities(void **state)
{
    (void)state;
    struct world *world = world_create(17, 3, NULL);
    struct world_peer *osd = world_peer(world, "osd.0", 0);
    Limpet__Wire__MonGetTicket get = LIMPET__WIRE__MON_GET_TICKET__INIT;

    /* Asked before there is a first map, answered with it. */
    get.tid = 5;
    get.service = ENTITY_OSD;
    get.has_want_service_keys = true;
    get.want_service_keys = true;
    world_send(osd, MSG_MON_GET_TICKET, &get.base);
    world_await_leader(world, -1);
    world_run_ms(world, 500);
    assert_true(osd->ticketed);
    assert_int_equal(osd->ticket_result, 0);
    assert_int_equal(osd->service_keys, 1);
    /* A client gets no service keys. */
    struct world_peer *reader = world_peer(world, "client.reader", 1);
    world_send(reader, MSG_MON_GET_TICKET, &get.base);
    world_run_ms(world, 500);
    assert_true(reader->ticketed);
    assert_int_equal(reader->ticket_result, 0);
    assert_int_equal(reader->service_keys, 0);
    world_destroy(world);
}

/* ---- Subscriptions ---- */

static void subscribers_get_increments_or_a_map(void **state)
{
    (void)state;
    struct world *world = world_create(18, 3, NULL);
    world_await_leader(world, -1);
    struct world_peer *admin = world_peer(world, "client.admin", 0);
    struct world_peer *reader = world_peer(world, "client.reader", 2);

    world_subscribe(reader, 0);
    world_run_ms(world, 500);
    assert_int_equal(reader->full_maps, 1);
    uint64_t epoch = reader->map->epoch;
    for (int i = 0; i < 5; i++)
        assert_int_equal(world_command(admin, i % 2 == 0
                                                  ? "{\"prefix\": \"osd set\", \"key\": \"noout\"}"
                                                  : "{\"prefix\": \"osd unset\", \"key\": "
                                                    "\"noout\"}"),
                         0);
    world_run_ms(world, 100);
    assert_int_equal(reader->map->epoch, epoch + 5);
    assert_int_equal(reader->full_maps, 1);
    /* It comes back at another monitor and goes on from where it is. */
    world_peer_connect(reader, 1);
    world_command(admin, "{\"prefix\": \"osd unset\", \"key\": \"noout\"}");
    world_subscribe(reader, reader->map->epoch);
    world_run_ms(world, 100);
    assert_int_equal(reader->map->epoch, epoch + 6);
    assert_int_equal(reader->full_maps, 1);
    /* From an epoch that is not kept: the whole map. */
    world_peer_connect(reader, 0);
    world_end(world, 0, SIM_CRASH);
    world_start(world, 0);
    world_run_ms(world, 1000);
    world_peer_connect(reader, 0);
    world_subscribe(reader, 0);
    world_run_ms(world, 500);
    assert_int_equal(reader->map->epoch, epoch + 6);
    assert_int_equal(reader->full_maps, 2);
    world_destroy(world);
}

static void another_cluster_is_refused(void **state)
{
    (void)state;
    struct world *world = world_create(19, 1, NULL);
    world_await_leader(world, -1);
    struct world_peer *reader = world_peer(world, "client.reader", 0);
    Limpet__Wire__MonSubscribe subscribe = LIMPET__WIRE__MON_SUBSCRIBE__INIT;
    uint8_t other[16] = {1};

    subscribe.has_fsid = true;
    subscribe.fsid.data = other;
    subscribe.fsid.len = sizeof other;
    world_send(reader, MSG_MON_SUBSCRIBE, &subscribe.base);
    world_run_ms(world, 500);
    assert_int_equal(reader->notice, -EXDEV);
    assert_int_equal(reader->maps, 0);
    world_destroy(world);
}

/* ---- Crashes ---- */

/*
 * Monitors crash, lose power and are cut off at random while pools are made; whatever was
 * acknowledged is there at the end, on all of them, and they have the same map.
 */
static void torture(uint64_t seed)
{
    struct sim_options options = {.breaks_per_h = 600, .ends_per_h = 600, .drift_ppm = 100};
    struct world *world = world_create(seed, 3, &options);
    struct world_peer *admin = world_peer(world, "client.admin", 0);
    bool acked[64] = {false};
    uint64_t next = 0;
    uint64_t sent = 0;
    uint32_t at = 0;

    world->options.snapshot_entries = 16;
    for (uint32_t i = 0; i < 3; i++)
        sim_node_disk(world->mons[i].node, (1 + sim_below(world->sim, 20)) * MSEC_NS / 2);
    for (int step = 0; step < 400; step++) {
        world_run_ms(world, 50 + sim_below(world->sim, 100));
        if (admin->session == NULL || sim_chance(world->sim, 20)) {
            at = (uint32_t)sim_below(world->sim, 3);
            if (admin->session == NULL || !admin->replied)
                sent = 0;
            world_peer_connect(admin, at);
            admin->replied = true;
        } else if (sent > 0 && admin->replied) {
            if (admin->result == 0 && sent <= 64)
                acked[sent - 1] = true;
            sent = 0;
        }
        if (sent == 0 && next < 64) {
            char json[128];
            snprintf(json, sizeof json,
                     "{\"prefix\": \"osd pool create\", \"pool\": \"p%" PRIu64 "\", \"pg_num\": 8}",
                     next);
            world_send_command(admin, json);
            sent = ++next;
        }
        uint32_t i = (uint32_t)sim_below(world->sim, 3);
        if (world->mons[i].mon == NULL)
            world_start(world, i);
        else if (sim_chance(world->sim, 25))
            world_end(world, i, sim_chance(world->sim, 2) ? SIM_CRASH : SIM_POWER_CUT);
        if (sim_chance(world->sim, 40))
            sim_partition(world->sim, world->mons[i].node, world->mons[(i + 1) % 3].node, true);
        if (sim_chance(world->sim, 10))
            sim_heal(world->sim);
        for (uint32_t k = 0; k < 3; k++) {
            if (world->mons[k].fatal)
                fail_msg("seed %" PRIu64 ": mon %u: %s", seed, k, world->mons[k].why);
        }
    }
    sim_heal(world->sim);
    sim_calm(world->sim);
    for (uint32_t i = 0; i < 3; i++) {
        if (world->mons[i].mon == NULL)
            world_start(world, i);
    }
    world_run_ms(world, 5000);
    int leader = world_await_leader(world, -1);
    world_await_epoch(world, mon_map(world->mons[leader].mon)->epoch);
    uint32_t n = 0;
    for (uint32_t k = 0; k < 64; k++) {
        char name[16];
        snprintf(name, sizeof name, "p%u", k);
        n += acked[k];
        if (acked[k] && map_pool_by_name(mon_map(world->mons[leader].mon), name) == NULL) {
            sim_log_dump(world->sim);
            fail_msg("seed %" PRIu64 ": pool %s was acknowledged and is lost", seed, name);
        }
    }
    if (n < 10)
        fail_msg("seed %" PRIu64 ": only %u of 64 pools were made", seed, n);
    struct encoder first;
    encoder_init(&first);
    assert_int_equal(map_encode(mon_map(world->mons[0].mon), &first), 0);
    for (uint32_t i = 1; i < 3; i++) {
        struct encoder other;
        encoder_init(&other);
        assert_int_equal(map_encode(mon_map(world->mons[i].mon), &other), 0);
        assert_int_equal(first.len, other.len);
        assert_memory_equal(first.data, other.data, first.len);
        encoder_fini(&other);
    }
    encoder_fini(&first);
    world_destroy(world);
}

static void acknowledged_changes_survive_crashes(void **state)
{
    (void)state;
    const char *text = getenv("LIMPET_TEST_SEEDS");
    uint64_t seeds = text != NULL ? strtoull(text, NULL, 10) : 20;

    text = getenv("LIMPET_TEST_SEED");
    if (text != NULL) {
        torture(strtoull(text, NULL, 10));
        return;
    }
    for (uint64_t seed = 1; seed <= seeds; seed++)
        torture(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fresh_monitors_elect_quickly),
        cmocka_unit_test(one_monitor_leads_alone),
        cmocka_unit_test(a_dead_leader_is_replaced),
        cmocka_unit_test(a_leader_that_hangs_is_replaced),
        cmocka_unit_test(two_of_three_lost_means_no_commit),
        cmocka_unit_test(a_leader_that_steps_down_gives_commands_back),
        cmocka_unit_test(a_late_copy_of_a_command_is_not_executed),
        cmocka_unit_test(a_commit_waits_for_no_timer),
        cmocka_unit_test(changes_made_meanwhile_share_an_entry),
        cmocka_unit_test(commands_work_at_every_monitor),
        cmocka_unit_test(bad_commands_are_explained),
        cmocka_unit_test(pools_are_made_and_removed),
        cmocka_unit_test(entities_are_managed),
        cmocka_unit_test(osds_boot_serve_and_die),
        cmocka_unit_test(a_number_belongs_to_one_store),
        cmocka_unit_test(silent_osds_are_noticed_and_marked_out),
        cmocka_unit_test(a_new_leader_hears_the_reports_again),
        cmocka_unit_test(scrubs_are_ordered_and_what_they_find_is_told),
        cmocka_unit_test(slow_requests_are_in_the_health_report),
        cmocka_unit_test(removal_by_force_waits_until_leases_have_run_out),
        cmocka_unit_test(tickets_are_given_to_those_with_capabilities),
        cmocka_unit_test(subscribers_get_increments_or_a_map),
        cmocka_unit_test(another_cluster_is_refused),
        cmocka_unit_test(acknowledged_changes_survive_crashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
