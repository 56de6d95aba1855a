/* For how long an answer is looked for before sleeping: the clock, the answers and the processors
 * are played. */
#include <poll.h>
#include <sched.h>
#include <time.h>

static int played_poll(struct pollfd *fds, nfds_t n, int timeout_ms);
static int played_time(clockid_t clock, struct timespec *out);
static int played_processors(pid_t pid, size_t size, cpu_set_t *set);
static int played_yield(void);
#define poll              played_poll
#define sched_yield       played_yield
#define clock_gettime     played_time
#define sched_getaffinity played_processors

#include "client/object/busy_poll.c"

#include "tests/lib/test.h"

enum { US = 1000, LOOK_US = 2, MAX_US = 300, SOON_US = 100, LATE_US = 900 };

static struct busy_poll busy;
static int64_t played_ns, answer_ns, look_ns, other_ns;
static unsigned n_looks, n_sleeps, n_yields, n_processors;

static int played_time(clockid_t clock, struct timespec *out)
{
    (void)clock;
    *out = (struct timespec){.tv_sec = played_ns / 1000000000, .tv_nsec = played_ns % 1000000000};
    return 0;
}

static int played_processors(pid_t pid, size_t size, cpu_set_t *set)
{
    (void)pid, (void)size;
    CPU_ZERO(set);
    for (unsigned i = 0; i < n_processors; i++)
        CPU_SET(i, set);
    return 0;
}

/* Another one works for so long. */
static int played_yield(void)
{
    n_yields++;
    played_ns += other_ns;
    return 0;
}

static int played_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
    (void)fds, (void)n;
    if (timeout_ms == 0) {
        n_looks++;
        played_ns += look_ns;
    } else {
        n_sleeps++;
        played_ns = played_ns < answer_ns ? answer_ns : played_ns;
    }
    return played_ns >= answer_ns ? 1 : 0;
}

/* An answer that comes after so long is waited for. */
static void wait_for_one(int64_t us)
{
    answer_ns = played_ns + us * US;
    n_looks = n_sleeps = n_yields = 0;
    busy_poll_submitted(&busy, 1);
    assert_int_equal(busy_poll(&busy, NULL, 0, 1000), 1);
}

static void wait_for(unsigned n, int64_t us)
{
    while (n-- > 0)
        wait_for_one(us);
}

static int begin(void **state)
{
    (void)state;
    n_processors = 2;
    look_ns = LOOK_US * US;
    other_ns = 0;
    busy_poll_init(&busy, MAX_US * US);
    return 0;
}

static void answers_that_come_soon_are_looked_for(void **state)
{
    (void)state;
    wait_for_one(SOON_US);
    assert_int_equal(n_sleeps, 1);
    wait_for(20, SOON_US);
    assert_int_equal(n_sleeps, 0);
    assert_int_equal(n_looks, SOON_US / LOOK_US);
}

static void others_are_slept_for(void **state)
{
    (void)state;
    wait_for(20, SOON_US);
    wait_for_one(LATE_US);
    assert_int_equal(n_sleeps, 1);
    assert_in_range(n_looks, 1, MAX_US / LOOK_US);
    wait_for(6, LATE_US);
    assert_int_equal(n_looks, 0);
}

static void nobody_looks_with_two_under_way(void **state)
{
    (void)state;
    wait_for(20, SOON_US);
    busy_poll_submitted(&busy, 2);
    wait_for_one(SOON_US);
    assert_int_equal(n_looks, 0);
    wait_for(ALONE_MIN, SOON_US);
    assert_int_equal(n_sleeps, 0);
}

static void who_is_interrupted_lets_others_work(void **state)
{
    (void)state;
    wait_for(20, SOON_US);
    look_ns = 280 * US;
    wait_for_one(LATE_US);
    assert_int_equal(n_looks, 1);
    assert_int_equal(n_sleeps, 1);
    look_ns = LOOK_US * US;
    wait_for_one(SOON_US / 2);
    assert_int_equal(n_sleeps, 1);
    wait_for(10, SOON_US);
    assert_int_equal(n_sleeps, 0);
}

static void who_is_to_answer_gets_the_processor(void **state)
{
    (void)state;
    wait_for(20, SOON_US);
    wait_for_one(SOON_US);
    assert_int_equal(n_yields, SOON_US / LOOK_US - 1);
    other_ns = 60 * US;
    wait_for_one(SOON_US);
    assert_in_range(n_yields, 1, 2);
    assert_int_equal(n_sleeps, 0);
}

static void it_is_kept_from_who_does_not_give_it_back(void **state)
{
    (void)state;
    wait_for(20, SOON_US);
    other_ns = 280 * US;
    wait_for_one(LATE_US);
    assert_int_equal(n_yields, 1);
    wait_for(KEPT_WAITS - 2, SOON_US);
    wait_for_one(SOON_US);
    assert_int_equal(n_yields, 0);
    assert_int_equal(n_looks, SOON_US / LOOK_US);
    other_ns = 0;
    wait_for_one(SOON_US);
    assert_int_equal(n_yields, SOON_US / LOOK_US - 1);
}

static void a_single_processor_is_for_who_answers(void **state)
{
    (void)state;
    n_processors = 1;
    busy_poll_init(&busy, MAX_US * US);
    wait_for(20, SOON_US);
    assert_int_equal(n_looks, 0);
}

static void it_can_be_switched_off(void **state)
{
    (void)state;
    busy_poll_init(&busy, 0);
    wait_for(20, SOON_US);
    assert_int_equal(n_looks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(answers_that_come_soon_are_looked_for, begin),
        cmocka_unit_test_setup(others_are_slept_for, begin),
        cmocka_unit_test_setup(nobody_looks_with_two_under_way, begin),
        cmocka_unit_test_setup(who_is_interrupted_lets_others_work, begin),
        cmocka_unit_test_setup(who_is_to_answer_gets_the_processor, begin),
        cmocka_unit_test_setup(it_is_kept_from_who_does_not_give_it_back, begin),
        cmocka_unit_test_setup(a_single_processor_is_for_who_answers, begin),
        cmocka_unit_test_setup(it_can_be_switched_off, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
