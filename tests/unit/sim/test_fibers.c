/* Threads of simulated processes: locks, conditions, hanging, and the end. */
#include "tests/lib/test.h"

#include <stdlib.h>
#include <string.h>

#include "tests/sim/fibers.h"

static struct sim *sim;
static struct sim_node *node;
static struct fibers *fibers;

struct shared {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t value, inside, ended;
    bool waits;
};

static int begin(void **state)
{
    struct sim_options options = {.seed = 7};
    struct entity_name entity = {.type = ENTITY_CLIENT, .id = "admin"};
    sim = sim_create(&options);
    node = sim_node_create(sim, "client.1", &entity);
    assert_non_null(sim_process_start(node));
    fibers = fibers_create(sim, node);
    *state = calloc(1, sizeof(struct shared));
    return 0;
}

static int end(void **state)
{
    sim_process_freeze(node);
    fibers_destroy(fibers);
    sim_process_end(node, SIM_CRASH);
    sim_destroy(sim);
    free(*state);
    return 0;
}

/* Gives way while it holds the lock. */
static void *count(void *arg)
{
    struct shared *shared = arg;
    for (int i = 0; i < 100; i++) {
        fiber_mutex_lock(&shared->lock);
        assert_int_equal(shared->inside++, 0);
        fiber_sleep(1 + (uint64_t)i % 3);
        shared->value++;
        shared->inside--;
        fiber_mutex_unlock(&shared->lock);
    }
    shared->ended++;
    return NULL;
}

static void a_lock_lets_one_in_at_a_time(void **state)
{
    struct shared *shared = *state;
    for (int i = 0; i < 5; i++)
        assert_non_null(fiber_start(fibers, count, shared));
    sim_run(sim, 10 * SEC_NS);
    assert_int_equal(shared->value, 500);
    assert_int_equal(shared->ended, 5);
    assert_int_equal(fibers_count(fibers), 0);
}

static void *wait_for_one(void *arg)
{
    struct shared *shared = arg;
    fiber_mutex_lock(&shared->lock);
    shared->waits = true;
    while (shared->value == 0)
        fiber_cond_wait(&shared->changed, &shared->lock);
    fiber_mutex_unlock(&shared->lock);
    shared->ended++;
    return NULL;
}

static void *give_one(void *arg)
{
    struct shared *shared = arg;
    pthread_t thread;
    struct timespec before, after, second = {.tv_sec = 1};
    assert_int_equal(fiber_create(&thread, NULL, wait_for_one, shared), 0);
    fiber_clock_gettime(CLOCK_MONOTONIC, &before);
    fiber_nanosleep(&second, NULL);
    fiber_clock_gettime(CLOCK_MONOTONIC, &after);
    assert_int_equal(after.tv_sec - before.tv_sec, 1);
    assert_true(shared->waits);
    assert_int_equal(shared->ended, 0);
    fiber_mutex_lock(&shared->lock);
    shared->value = 1;
    fiber_cond_broadcast(&shared->changed);
    fiber_mutex_unlock(&shared->lock);
    return NULL;
}

static void conditions_wake_who_waits(void **state)
{
    struct shared *shared = *state;
    assert_non_null(fiber_start(fibers, give_one, shared));
    sim_run(sim, 10 * SEC_NS);
    assert_int_equal(shared->ended, 1);
}

static void a_process_hangs_between_two_steps(void **state)
{
    struct shared *shared = *state;
    assert_non_null(fiber_start(fibers, count, shared));
    fibers_hang(fibers, 50, 5 * SEC_NS);
    sim_run(sim, 4 * SEC_NS);
    assert_int_equal(shared->value, 49);
    sim_run(sim, 10 * SEC_NS);
    assert_int_equal(shared->value, 100);
}

static void nothing_runs_after_the_end(void **state)
{
    struct shared *shared = *state;
    assert_non_null(fiber_start(fibers, wait_for_one, shared));
    assert_non_null(fiber_start(fibers, count, shared));
    sim_run(sim, 50000);
    sim_process_freeze(node);
    fibers_destroy(fibers);
    uint64_t value = shared->value;
    fiber_wake(&shared->changed, true);
    sim_run(sim, 10 * SEC_NS);
    assert_int_equal(shared->value, value);
    sim_process_end(node, SIM_CRASH);
    assert_non_null(sim_process_start(node));
    fibers = fibers_create(sim, node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_lock_lets_one_in_at_a_time, begin, end),
        cmocka_unit_test_setup_teardown(conditions_wake_who_waits, begin, end),
        cmocka_unit_test_setup_teardown(a_process_hangs_between_two_steps, begin, end),
        cmocka_unit_test_setup_teardown(nothing_runs_after_the_end, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
