/* Leases between OSD processes: who gets one, until when both sides take it to be good. */
#include "tests/lib/test.h"

#include <string.h>

#include "osd/osd_impl.h"

enum { SELF = 0, OTHER = 1 };

static struct env env;
static struct osd osd;
static struct osd_peer peer;
static struct net_session session;
static uint64_t clock_now;

static uint64_t clock_ns(struct env *e)
{
    (void)e;
    return clock_now;
}

static const struct env_ops env_table = {.now_ns = clock_ns, .clock_ns = clock_ns};

static void put_other(bool up, uint64_t instance)
{
    struct map_increment *inc = map_increment_create(osd.map->epoch + 1);
    struct map_osd value = {.exists = true,
                            .up = up,
                            .weight = MAP_WEIGHT_ONE,
                            .uuid.bytes = {OTHER},
                            .address = {.family = 4, .ip = {127, 0, 0, 1}, .port = 6801},
                            .instance = instance,
                            .up_from = osd.map->epoch + 1};
    assert_non_null(inc);
    assert_int_equal(map_increment_set_osd(inc, OTHER, &value), 0);
    assert_int_equal(map_apply(osd.map, inc), 0);
    map_increment_destroy(inc);
}

static int set_up(void **state)
{
    (void)state;
    memset(&osd, 0, sizeof osd);
    memset(&peer, 0, sizeof peer);
    memset(&session, 0, sizeof session);
    clock_now = 100 * SEC_NS;
    env.ops = &env_table;
    osd.env = &env;
    osd.options.id = SELF;
    osd.map = map_create();
    assert_non_null(osd.map);
    put_other(true, 77);
    session.peer.name = entity_osd(OTHER);
    session.peer.instance = 77;
    peer.osd = &osd;
    peer.id = OTHER;
    peer.instance = 77;
    struct osd_peer *added = &peer;
    HASH_ADD_INT(osd.peers, id, added);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    struct osd_peer *added = &peer;
    HASH_DEL(osd.peers, added);
    osd_leases_fini(&osd);
    map_destroy(osd.map);
    return 0;
}

/* ---- Granted ---- */

static void grants_to_the_process_that_is_up_in_the_map(void **state)
{
    (void)state;
    assert_int_equal(osd_lease_grant(&osd, &session), OSD_LEASE_NS);
    assert_int_equal(osd_granted_until(&osd, OTHER, 77), clock_now + OSD_LEASE_NS);
    session.peer.instance = 78;
    assert_int_equal(osd_lease_grant(&osd, &session), 0);
    assert_int_equal(osd_granted_until(&osd, OTHER, 78), 0);
    session.peer.instance = 77;
    put_other(false, 77);
    assert_int_equal(osd_lease_grant(&osd, &session), 0);
    session.peer.name = entity_osd(5);
    assert_int_equal(osd_lease_grant(&osd, &session), 0);
}

static void grants_nothing_once_it_has_said_that_it_stops(void **state)
{
    (void)state;
    osd.stopping = true;
    assert_int_equal(osd_lease_grant(&osd, &session), 0);
}

static void remembers_a_grant_until_it_is_over_though_the_other_is_down(void **state)
{
    (void)state;
    uint64_t until = clock_now + OSD_LEASE_NS;
    assert_int_equal(osd_lease_grant(&osd, &session), OSD_LEASE_NS);
    put_other(false, 77);
    clock_now = until - 1;
    osd_leases_tick(&osd);
    assert_int_equal(osd_granted_until(&osd, OTHER, 77), until);
    clock_now = until;
    osd_leases_tick(&osd);
    assert_null(osd.grants);
}

/* ---- Taken ---- */

static void take(uint64_t stamp_ns, uint64_t epoch, uint64_t lease_ns)
{
    struct wire_ping reply = {.stamp_ns = stamp_ns, .epoch = epoch, .lease_ns = lease_ns};
    osd_lease_taken(&peer, &reply);
}

static void counts_from_the_question_and_less_than_was_granted(void **state)
{
    (void)state;
    assert_int_equal(osd_lease_until(&osd, OTHER), 0);
    take(clock_now - SEC_NS, osd.map->epoch, OSD_LEASE_NS);
    uint64_t until = osd_lease_until(&osd, OTHER);
    assert_int_equal(until, clock_now - SEC_NS + OSD_LEASE_NS / 20 * 19);
    /* A late answer to an earlier question takes nothing away. */
    take(clock_now - 2 * SEC_NS, osd.map->epoch, OSD_LEASE_NS);
    assert_int_equal(osd_lease_until(&osd, OTHER), until);
    assert_int_equal(osd_lease_until(&osd, 9), 0);
}

static void a_lease_of_a_newer_map_counts_when_we_have_that_map(void **state)
{
    (void)state;
    take(clock_now, osd.map->epoch + 1, OSD_LEASE_NS);
    assert_int_equal(osd_lease_until(&osd, OTHER), 0);
    put_other(true, 77);
    assert_int_equal(osd_lease_until(&osd, OTHER), clock_now + OSD_LEASE_NS / 20 * 19);
}

static void a_newer_map_takes_no_lease_away(void **state)
{
    (void)state;
    take(clock_now, osd.map->epoch, OSD_LEASE_NS);
    uint64_t until = osd_lease_until(&osd, OTHER);
    clock_now += SEC_NS;
    take(clock_now, osd.map->epoch + 1, OSD_LEASE_NS);
    assert_int_equal(osd_lease_until(&osd, OTHER), until);
}

static void believes_nothing_that_cannot_be(void **state)
{
    (void)state;
    take(clock_now + 1, osd.map->epoch, OSD_LEASE_NS);
    take(clock_now, osd.map->epoch, OSD_LEASE_NS + 1);
    take(clock_now, osd.map->epoch, 0);
    take(UINT64_MAX, UINT64_MAX, UINT64_MAX);
    assert_int_equal(osd_lease_until(&osd, OTHER), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(grants_to_the_process_that_is_up_in_the_map),
        TEST(grants_nothing_once_it_has_said_that_it_stops),
        TEST(remembers_a_grant_until_it_is_over_though_the_other_is_down),
        TEST(counts_from_the_question_and_less_than_was_granted),
        TEST(a_lease_of_a_newer_map_counts_when_we_have_that_map),
        TEST(a_newer_map_takes_no_lease_away),
        TEST(believes_nothing_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
