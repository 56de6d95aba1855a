/* Whole runs: that they pass, can be repeated, and find what is wrong. */
#include "tests/lib/test.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/planted.h"
#include "tests/sim/run.h"

static struct run_result run_scenario(const char *name, uint64_t seed, bool no_faults)
{
    static struct scenario scenario;
    struct run_options options = {
        .scenario = &scenario,
        .seed = seed,
        .seconds = 10,
        .no_faults = no_faults,
    };
    struct run_result result;
    char why[SCENARIO_WHY_MAX];
    assert_int_equal(scenario_load(&scenario, name, why), 0);
    run_seed(&options, &result);
    if (result.failed)
        fprintf(stderr, "seed %" PRIu64 ": %s\n", seed, result.why);
    return result;
}

static struct run_result run(uint64_t seed, bool no_faults)
{
    return run_scenario("mixed", seed, no_faults);
}

static void passes_without_faults(void **state)
{
    (void)state;
    struct run_result result = run(1, true);
    assert_false(result.failed);
    assert_int_equal(result.faults, 0);
    assert_int_equal(result.unknown, 0);
    assert_true(result.operations > 100);
    assert_true(result.longest_ns < 2000000000);
}

static void the_same_seed_gives_the_same_run(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct run_result first = run(seed, false), second = run(seed, false);
        assert_false(first.failed);
        assert_false(second.failed);
        assert_true(first.hash == second.hash);
        assert_true(first.events == second.events);
    }
}

static void so_it_is_with_threads(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct run_result first = run_scenario("image", seed, false);
        struct run_result second = run_scenario("image", seed, false);
        assert_false(first.failed);
        assert_true(first.operations > 10);
        assert_true(first.hash == second.hash);
        assert_true(first.events == second.events);
    }
}

static void different_seeds_give_different_runs(void **state)
{
    (void)state;
    assert_true(run(1, false).hash != run(2, false).hash);
}

static void names_of_planted_bugs_are_found(void **state)
{
    (void)state;
    for (int bug = PLANTED_NONE; bug < PLANTED_END; bug++) {
        const char *name = planted_name((enum planted_bug)bug);
        assert_non_null(name);
        assert_int_equal(planted_by_name(name), bug);
    }
    assert_int_equal(planted_by_name("no such bug"), PLANTED_END);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passes_without_faults),
        cmocka_unit_test(the_same_seed_gives_the_same_run),
        cmocka_unit_test(so_it_is_with_threads),
        cmocka_unit_test(different_seeds_give_different_runs),
        cmocka_unit_test(names_of_planted_bugs_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
