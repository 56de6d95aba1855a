#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/common/net_test.h"

static struct env *create(const char *data_dir)
{
    struct env *env;
    struct env_real_options options = {.data_dir = data_dir, .mode = NET_MODE_INTEGRITY};
    assert_int_equal(env_real_create(&options, &env), 0);
    return env;
}

/* ---- Time ---- */

struct ticker {
    struct env *env;
    struct env_timer timer;
    uint64_t fired_ns;
    unsigned fired;
    unsigned again; /* Arms itself so often for the same moment. */
};

static void tick(struct env_timer *timer)
{
    struct ticker *t = container_of(timer, struct ticker, timer);
    t->fired_ns = env_now(t->env);
    t->fired++;
    if (t->fired <= t->again)
        env_timer_arm(t->env, timer, t->fired_ns);
}

static void timers_fire_in_order_and_never_early(void **state)
{
    (void)state;
    enum { N = 50 };
    struct env *env = create(NULL);
    static struct ticker tickers[N];
    uint64_t begin = env_now(env);
    srand(3);
    for (int i = 0; i < N; i++) {
        tickers[i] = (struct ticker){.env = env, .timer.fire = tick};
        env_timer_arm(env, &tickers[i].timer, begin + (uint64_t)(rand() % 30000) * 1000);
    }
    unsigned fired = 0;
    while (fired < N) {
        env_real_turn(env, true);
        fired = 0;
        for (int i = 0; i < N; i++)
            fired += tickers[i].fired;
    }
    for (int i = 0; i < N; i++) {
        assert_int_equal(tickers[i].fired, 1);
        assert_false(tickers[i].timer.armed);
        assert_true(tickers[i].fired_ns >= tickers[i].timer.deadline_ns);
        for (int j = 0; j < N; j++) {
            if (tickers[i].timer.deadline_ns < tickers[j].timer.deadline_ns)
                assert_true(tickers[i].fired_ns <= tickers[j].fired_ns);
        }
    }
    env_real_destroy(env);
}

static void a_stopped_timer_does_not_fire(void **state)
{
    (void)state;
    struct env *env = create(NULL);
    struct ticker stopped = {.env = env, .timer.fire = tick};
    struct ticker later = {.env = env, .timer.fire = tick};
    env_timer_after(env, &stopped.timer, MSEC_NS);
    env_timer_after(env, &later.timer, 5 * MSEC_NS);
    env_timer_stop(env, &stopped.timer);
    env_timer_stop(env, &stopped.timer);
    while (later.fired == 0)
        env_real_turn(env, true);
    assert_int_equal(stopped.fired, 0);
    env_real_destroy(env);
}

static void a_timer_that_is_always_due_does_not_stop_the_loop(void **state)
{
    (void)state;
    struct env *env = create(NULL);
    struct ticker busy = {.env = env, .timer.fire = tick, .again = UINT32_MAX};
    struct ticker later = {.env = env, .timer.fire = tick};
    env_timer_after(env, &busy.timer, 0);
    env_timer_after(env, &later.timer, 2 * MSEC_NS);
    while (later.fired == 0)
        env_real_turn(env, true);
    assert_true(busy.fired > 0);
    env_timer_stop(env, &busy.timer);
    env_real_destroy(env);
}

struct clock_check {
    struct env *env;
    struct env_task task;
    bool ran;
};

static void check_clock(struct env_task *task)
{
    struct clock_check *c = container_of(task, struct clock_check, task);
    uint64_t first = env_now(c->env);
    usleep(2000);
    assert_true(env_now(c->env) == first);
    c->ran = true;
}

static void time_stands_still_within_a_turn(void **state)
{
    (void)state;
    struct env *env = create(NULL);
    struct clock_check check = {.env = env, .task.run = check_clock};
    env_defer(env, &check.task);
    while (!check.ran)
        env_real_turn(env, true);
    uint64_t outside = env_now(env);
    usleep(2000);
    assert_true(env_now(env) >= outside + 2 * MSEC_NS);
    assert_true(env_wall(env) > UINT64_C(1600000000) * SEC_NS);
    env_real_destroy(env);
}

static void count_turn(uv_prepare_t *handle)
{
    ++*(unsigned *)handle->data;
}

/* An idle loop must wake up for its timers alone. */
static void an_idle_loop_does_not_turn(void **state)
{
    (void)state;
    struct side server, client;
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    side_connect(&client, &server);
    side_send(&client, NET_TEST_ECHO, 1, 10, 100);
    SIDES_UNTIL(client.received == 1, &client, &server);
    /* The acknowledgement of the echo, and the memory of payloads, are things of some seconds. */
    unsigned turns = 0;
    struct ticker end = {.env = client.env, .timer.fire = tick};
    uv_prepare_t counter;
    counter.data = &turns;
    uv_prepare_init(env_real_loop(client.env), &counter);
    uv_prepare_start(&counter, count_turn);
    env_timer_after(client.env, &end.timer, 300 * MSEC_NS);
    while (end.fired == 0)
        env_real_turn(client.env, true);
    assert_true(turns <= 3);
    side_destroy(&client);
    side_destroy(&server);
}

/* ---- Tasks ---- */

struct chain {
    struct env *env;
    struct env_task task;
    unsigned ran, again;
    struct side *side;
    unsigned server_had;
};

static void run_chain(struct env_task *task)
{
    struct chain *c = container_of(task, struct chain, task);
    assert_false(task->queued);
    if (++c->ran <= c->again)
        env_defer(c->env, task);
}

static void a_task_runs_once_for_each_time_it_is_queued(void **state)
{
    (void)state;
    struct env *env = create(NULL);
    struct chain once = {.env = env, .task.run = run_chain};
    struct chain thrice = {.env = env, .task.run = run_chain, .again = 2};
    env_defer(env, &once.task);
    env_defer(env, &once.task);
    env_defer(env, &thrice.task);
    assert_int_equal(once.ran, 0);
    /* A turn that waits must not wait once tasks have run. */
    env_real_turn(env, true);
    assert_int_equal(once.ran, 1);
    while (thrice.ran < 3)
        env_real_turn(env, true);
    env_real_turn(env, false);
    env_real_turn(env, false);
    assert_int_equal(thrice.ran, 3);
    assert_int_equal(once.ran, 1);
    env_real_destroy(env);
}

static void look_at_the_wire(struct env_task *task)
{
    struct chain *c = container_of(task, struct chain, task);
    c->ran++;
    /* The message must be in the kernel now: the other side gets it without our loop. */
    while (c->side->received == 0)
        env_real_turn(c->side->env, false);
}

static void tasks_run_after_the_turns_messages_have_left(void **state)
{
    (void)state;
    struct side server, client;
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    side_connect(&client, &server);
    struct chain chain = {.env = client.env, .task.run = look_at_the_wire, .side = &server};
    env_defer(client.env, &chain.task);
    side_send(&client, NET_TEST_DATA, 1, 10, 0);
    while (chain.ran == 0)
        env_real_turn(client.env, true);
    assert_int_equal(server.received, 1);
    side_destroy(&client);
    side_destroy(&server);
}

/* ---- Helper threads ---- */

struct job {
    struct env_work work;
    pthread_t loop_thread;
    unsigned ran, done;
};

static void job_run(struct env_work *work)
{
    struct job *j = container_of(work, struct job, work);
    assert_false(pthread_equal(pthread_self(), j->loop_thread));
    j->ran++;
}

static void job_done(struct env_work *work)
{
    struct job *j = container_of(work, struct job, work);
    assert_true(pthread_equal(pthread_self(), j->loop_thread));
    assert_int_equal(j->ran, 1);
    j->done++;
}

static void work_runs_elsewhere_and_is_done_on_the_loop(void **state)
{
    (void)state;
    enum { N = 100 };
    struct env *env = create(NULL);
    static struct job jobs[N];
    for (int i = 0; i < N; i++) {
        jobs[i] = (struct job){.work = {.run = job_run, .done = job_done}};
        jobs[i].loop_thread = pthread_self();
        env_work(env, &jobs[i].work);
    }
    unsigned done = 0;
    while (done < N) {
        env_real_turn(env, true);
        done = 0;
        for (int i = 0; i < N; i++)
            done += jobs[i].done;
    }
    env_real_destroy(env);
}

struct driver {
    struct env *env;
    atomic_bool entered, done;
};

static void *drive(void *arg)
{
    struct driver *d = arg;
    atomic_store(&d->entered, true);
    env_real_turn(d->env, true);
    atomic_store(&d->done, true);
    return NULL;
}

static void waking_ends_a_turn_that_waits(void **state)
{
    (void)state;
    struct driver driver = {.env = create(NULL)};
    for (int i = 0; i < 20; i++) {
        pthread_t thread;
        atomic_store(&driver.entered, false);
        atomic_store(&driver.done, false);
        assert_int_equal(pthread_create(&thread, NULL, drive, &driver), 0);
        while (!atomic_load(&driver.entered))
            usleep(100);
        if (i % 2 == 0)
            usleep(2000);
        assert_false(atomic_load(&driver.done));
        env_real_wake(driver.env);
        pthread_join(thread, NULL);
        assert_true(atomic_load(&driver.done));
    }
    env_real_destroy(driver.env);
}

static void *run_until_stopped(void *arg)
{
    env_real_run(arg);
    return NULL;
}

static void stopping_ends_a_run(void **state)
{
    (void)state;
    struct env *env = create(NULL);
    for (int i = 0; i < 10; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, run_until_stopped, env), 0);
        if (i % 2 == 0)
            usleep(1000);
        env_real_stop(env);
        pthread_join(thread, NULL);
    }
    /* Also when it comes first. */
    env_real_stop(env);
    env_real_run(env);
    env_real_destroy(env);
}

/* ---- Files ---- */

static void files_keep_what_was_written(void **state)
{
    (void)state;
    const char *folder = test_folder_create();
    struct env *env = create(folder);
    struct env_file *file, *same;
    char data[32];
    assert_int_equal(env_file_open(env, "a", O_RDWR | O_CREAT | O_EXCL, &file), 0);
    assert_int_equal(env_file_open(env, "a", O_RDWR | O_CREAT | O_EXCL, &same), -EEXIST);
    assert_int_equal(env_file_write(env, file, "hello, world", 12, 4), 0);
    assert_int_equal(env_file_sync(env, file), 0);
    assert_int_equal(env_file_size(env, file), 16);
    assert_int_equal(env_file_read(env, file, data, sizeof data, 4), 12);
    assert_memory_equal(data, "hello, world", 12);
    assert_int_equal(env_file_read(env, file, data, sizeof data, 16), 0);
    assert_int_equal(env_file_truncate(env, file, 9), 0);
    assert_int_equal(env_file_read(env, file, data, sizeof data, 4), 5);
    assert_int_equal(env_file_write(env, file, "x", 1, UINT64_MAX), -EFBIG);
    env_file_close(env, file);
    assert_int_equal(env_file_rename(env, "a", "b"), 0);
    assert_int_equal(env_dir_sync(env, "."), 0);
    assert_int_equal(env_dir_sync(env, ""), 0);
    assert_int_equal(env_file_open(env, "a", O_RDONLY, &file), -ENOENT);
    char path[256];
    struct stat st;
    snprintf(path, sizeof path, "%s/b", folder);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 077, 0);
    assert_int_equal(env_file_open(env, path, O_RDONLY, &file), 0);
    assert_int_equal(env_file_write(env, file, "x", 1, 0), -EBADF);
    env_file_close(env, file);
    assert_int_equal(env_file_remove(env, "b"), 0);
    assert_int_equal(env_file_remove(env, "b"), -ENOENT);
    assert_int_equal(env_dir_sync(env, "b"), -ENOENT);
    env_real_destroy(env);
    test_folder_remove(folder);
}

static void a_missing_data_folder_is_reported(void **state)
{
    (void)state;
    struct env *env;
    struct env_real_options options = {.data_dir = "/nonexistent/folder"};
    assert_int_equal(env_real_create(&options, &env), -ENOENT);
}

static void processes_differ(void **state)
{
    (void)state;
    struct env *a = create(NULL), *b = create(NULL);
    assert_true(a->instance != 0 && b->instance != 0 && a->instance != b->instance);
    assert_true(env_random_u64(a) != env_random_u64(a));
    env_real_destroy(a);
    env_real_destroy(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_in_order_and_never_early),
        cmocka_unit_test(a_stopped_timer_does_not_fire),
        cmocka_unit_test(a_timer_that_is_always_due_does_not_stop_the_loop),
        cmocka_unit_test(time_stands_still_within_a_turn),
        cmocka_unit_test(an_idle_loop_does_not_turn),
        cmocka_unit_test(a_task_runs_once_for_each_time_it_is_queued),
        cmocka_unit_test(tasks_run_after_the_turns_messages_have_left),
        cmocka_unit_test(work_runs_elsewhere_and_is_done_on_the_loop),
        cmocka_unit_test(waking_ends_a_turn_that_waits),
        cmocka_unit_test(stopping_ends_a_run),
        cmocka_unit_test(files_keep_what_was_written),
        cmocka_unit_test(a_missing_data_folder_is_reported),
        cmocka_unit_test(processes_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
