/*
 * What reports of OSDs add up to: how fast copies are recovered, and how long the rest will take.
 */
#include "tests/lib/test.h"

#include <stdlib.h>
#include <string.h>

#include "common/env.h"
#include "mon/stats.h"

enum { MB = 1000000 };

struct fixture {
    struct cluster_map *map;
    struct stats *stats;
    uint64_t now_ns;
    uint64_t recovered, left; /* Bytes; an object is a megabyte. */
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->map = map_create();
    f->stats = stats_create();
    assert_non_null(f->map);
    assert_non_null(f->stats);
    f->now_ns = 1000 * SEC_NS;
    struct map_increment *inc = map_increment_create(1);
    struct crush_map *crush = crush_create();
    const struct uuid fsid = {.bytes = {9}};
    int32_t root;
    uint32_t rule;
    assert_non_null(crush);
    assert_int_equal(
        crush_add_bucket(crush, (uint16_t)crush_type_by_name(crush, "root"), "default", &root), 0);
    assert_int_equal(crush_insert(crush, root, 0, MAP_WEIGHT_ONE), 0);
    assert_int_equal(crush_add_simple_rule(crush, "rule", "default", "osd", false, &rule), 0);
    assert_int_equal(map_increment_set_fsid(inc, &fsid), 0);
    assert_int_equal(map_increment_set_crush(inc, crush), 0);
    crush_destroy(crush);
    const struct map_osd osd = {.exists = true,
                                .up = true,
                                .uuid = {.bytes = {1}},
                                .instance = 7,
                                .weight = MAP_WEIGHT_ONE,
                                .up_from = 1,
                                .address = {.family = 4, .ip = {127, 0, 0, 1}, .port = 7000}};
    const struct map_pool pool = {.id = 1,
                                  .name = "p",
                                  .type = POOL_REPLICATED,
                                  .size = 3,
                                  .min_size = 2,
                                  .pg_num = 8,
                                  .crush_rule = rule,
                                  .created = 1,
                                  .config_base = 1};
    assert_int_equal(map_increment_set_osd(inc, 0, &osd), 0);
    assert_int_equal(map_increment_set_pool(inc, &pool), 0);
    assert_int_equal(map_apply(f->map, inc), 0);
    map_increment_destroy(inc);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    stats_destroy(f->stats);
    map_destroy(f->map);
    free(f);
    return 0;
}

/* A second passes in which so much is copied; the OSD tells. */
static void pass(struct fixture *f, uint64_t bytes)
{
    Limpet__Wire__OsdStats report = LIMPET__WIRE__OSD_STATS__INIT;
    Limpet__Wire__PgStat pg = LIMPET__WIRE__PG_STAT__INIT;
    Limpet__Wire__PgStat *pgs[] = {&pg};
    f->now_ns += SEC_NS;
    f->recovered += bytes;
    f->left -= bytes;
    report.id = 0;
    report.instance = 7;
    report.n_pgs = 1;
    report.pgs = pgs;
    pg.pool = 1;
    pg.seed = 0;
    pg.config = 1;
    pg.has_bytes_recovered = pg.has_objects_recovered = true;
    pg.bytes_recovered = f->recovered;
    pg.objects_recovered = f->recovered / MB;
    pg.has_bytes_missing = pg.has_objects_missing = true;
    pg.bytes_missing = f->left;
    pg.objects_missing = f->left / MB;
    stats_report(f->stats, f->map, &report, f->now_ns);
}

static double eta(const struct fixture *f)
{
    double rates[RATES];
    stats_rates(f->stats, f->now_ns, rates);
    return stats_recovery_eta(rates[RATE_BYTES_RECOVERED], rates[RATE_OBJECTS_RECOVERED], f->left,
                              f->left / MB);
}

static void assert_about(double is, double should)
{
    if (is < should * 0.8 || is > should * 1.25)
        fail_msg("%f, should be about %f", is, should);
}

static void tells_how_long_the_rest_takes(void **state)
{
    struct fixture *f = *state;
    f->left = 400 * MB;
    for (int i = 0; i < 60; i++)
        pass(f, 0);
    assert_true(eta(f) < 0);
    /* From its first seconds on, whatever was before, and to its end. */
    for (int i = 0; i < 39; i++) {
        pass(f, 10 * MB);
        assert_about(eta(f), (double)f->left / (10 * MB));
    }
    pass(f, 10 * MB);
    assert_true(eta(f) == 0);
}

static void follows_a_change_of_pace(void **state)
{
    struct fixture *f = *state;
    f->left = 2000 * MB;
    for (int i = 0; i < 30; i++)
        pass(f, 10 * MB);
    for (int i = 0; i < STATS_WINDOW_S; i++)
        pass(f, 50 * MB);
    assert_about(eta(f), (double)f->left / (50 * MB));
}

static void a_later_recovery_is_measured_anew(void **state)
{
    struct fixture *f = *state;
    f->left = 300 * MB;
    for (int i = 0; i < 30; i++)
        pass(f, 10 * MB);
    for (int i = 0; i < 100; i++)
        pass(f, 0);
    f->left = 400 * MB;
    pass(f, 20 * MB);
    assert_about(eta(f), 19);
}

static void each_group_has_a_rate(void **state)
{
    struct fixture *f = *state;
    f->left = 100 * MB;
    pass(f, 0);
    pass(f, 10 * MB);
    const struct pg_stat *pg = stats_pg(f->stats, (struct pg_id){.pool = 1, .seed = 0});
    assert_non_null(pg);
    assert_int_equal(pg->bytes_missing, 90 * MB);
    assert_about(pg->recovery_rate, 10 * MB);
    for (int i = 0; i < 5; i++)
        pass(f, 5 * MB);
    assert_about(pg->recovery_rate, 5 * MB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tells_how_long_the_rest_takes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(follows_a_change_of_pace, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_later_recovery_is_measured_anew, set_up, tear_down),
        cmocka_unit_test_setup_teardown(each_group_has_a_rate, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
