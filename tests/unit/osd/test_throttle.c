/*
 * The throttle against a disk in virtual time: clients and background jobs share a queue that
 * serves one after the other.
 */
#include "tests/lib/test.h"

#include <stdlib.h>
#include <string.h>

#include "osd/pg/pg_throttle.h"

enum { CLIENTS = 8, SECOND = 1000000000 };

struct model {
    struct pg_throttle throttle;
    uint64_t now;
    uint64_t disk_free; /* When the disk has done all it was given. */
    uint64_t random;
    uint64_t client_cost, job_cost; /* Nanoseconds of disk. */
    uint32_t clients;
    uint64_t client_begun[CLIENTS], client_ends[CLIENTS];
    uint32_t n_jobs;
    uint64_t job_ends[PG_JOBS_MAX];
    bool jobs_wanted;
    uint64_t ops, jobs_done;
    uint64_t latency[400000];
};

static uint64_t vary(struct model *model, uint64_t cost)
{
    model->random = model->random * UINT64_C(6364136223846793005) + 1442695040888963407;
    return cost / 2 + (model->random >> 33) % (cost + 1);
}

static uint64_t disk(struct model *model, uint64_t cost)
{
    if (model->disk_free < model->now)
        model->disk_free = model->now;
    model->disk_free += vary(model, cost);
    return model->disk_free;
}

static void client_starts(struct model *model, uint32_t i)
{
    pg_throttle_client_begin(&model->throttle, model->now);
    model->client_begun[i] = model->now;
    /* A network's and a processor's time on top. */
    model->client_ends[i] = disk(model, model->client_cost) + vary(model, 300000);
}

static uint64_t start_jobs(struct model *model)
{
    uint64_t wait_ns = 0;
    while (model->jobs_wanted && pg_throttle_may_begin(&model->throttle, model->now, &wait_ns)) {
        assert_true(model->n_jobs < PG_JOBS_MAX);
        pg_throttle_job_begin(&model->throttle, true, model->now);
        model->job_ends[model->n_jobs++] = disk(model, model->job_cost);
    }
    return wait_ns > 0 ? model->now + wait_ns : UINT64_MAX;
}

static uint64_t next_event(const struct model *model, uint64_t at)
{
    for (uint32_t i = 0; i < model->clients; i++)
        if (model->client_ends[i] < at)
            at = model->client_ends[i];
    for (uint32_t i = 0; i < model->n_jobs; i++)
        if (model->job_ends[i] < at)
            at = model->job_ends[i];
    return at;
}

static void finish_what_ends(struct model *model)
{
    for (uint32_t i = 0; i < model->n_jobs; i++) {
        if (model->job_ends[i] > model->now)
            continue;
        model->job_ends[i--] = model->job_ends[--model->n_jobs];
        model->jobs_done++;
        pg_throttle_job_end(&model->throttle, true, model->now);
    }
    for (uint32_t i = 0; i < model->clients; i++) {
        if (model->client_ends[i] > model->now)
            continue;
        pg_throttle_client_end(&model->throttle, model->client_begun[i], model->now);
        if (model->ops < sizeof model->latency / sizeof model->latency[0])
            model->latency[model->ops] = model->now - model->client_begun[i];
        model->ops++;
        client_starts(model, i);
    }
}

static void run(struct model *model, uint64_t duration)
{
    uint64_t end = model->now + duration;
    model->ops = model->jobs_done = 0;
    for (uint32_t i = 0; i < model->clients; i++)
        if (model->client_ends[i] <= model->now)
            client_starts(model, i);
    while (model->now < end) {
        uint64_t at = next_event(model, start_jobs(model));
        model->now = at < end ? at : end;
        finish_what_ends(model);
    }
}

static int compare(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static uint64_t p99(struct model *model)
{
    size_t n = model->ops;
    assert_true(n > 0 && n < sizeof model->latency / sizeof model->latency[0]);
    qsort(model->latency, n, sizeof model->latency[0], compare);
    return model->latency[n * 99 / 100];
}

static struct model *model_create(uint64_t client_cost, uint64_t job_cost, uint32_t clients)
{
    struct model *model = calloc(1, sizeof *model);
    assert_non_null(model);
    pg_throttle_init(&model->throttle);
    model->now = 1000 * (uint64_t)SECOND;
    model->random = 7;
    model->client_cost = client_cost;
    model->job_cost = job_cost;
    model->clients = clients;
    return model;
}

/* Clients keep three quarters of their throughput, and their slowest wait twice as long at most. */
static void check_share(uint64_t client_cost, uint64_t job_cost, uint32_t clients)
{
    struct model *model = model_create(client_cost, job_cost, clients);
    run(model, 4 * (uint64_t)SECOND);
    uint64_t alone = model->ops, alone_p99 = p99(model);
    model->jobs_wanted = true;
    run(model, 10 * (uint64_t)SECOND); /* It finds its level. */
    run(model, 4 * (uint64_t)SECOND);
    print_message("cost %lu/%lu us: %lu ops alone, %lu beside %lu jobs; p99 %lu and %lu us\n",
                  client_cost / 1000, job_cost / 1000, alone, model->ops, model->jobs_done,
                  alone_p99 / 1000, p99(model) / 1000);
    assert_true(model->ops * 4 >= alone * 3);
    assert_true(p99(model) <= 2 * alone_p99);
    assert_true(model->jobs_done >= 8);
    free(model);
}

static void clients_keep_their_share_beside_small_jobs(void **state)
{
    (void)state;
    check_share(100000, 100000, CLIENTS);
    check_share(100000, 400000, CLIENTS);
    check_share(50000, 100000, 1);
}

static void never_starves(void **state)
{
    (void)state;
    /* Jobs so long that clients suffer whatever is done. */
    struct model *model = model_create(100000, 20000000, CLIENTS);
    model->jobs_wanted = true;
    run(model, 20 * (uint64_t)SECOND);
    assert_true(model->jobs_done >= 20);
    free(model);
}

static void takes_everything_when_clients_are_idle(void **state)
{
    (void)state;
    struct model *model = model_create(100000, 1000000, CLIENTS);
    model->jobs_wanted = true;
    run(model, 5 * (uint64_t)SECOND);
    model->clients = 0;
    run(model, SECOND); /* It notices. */
    run(model, SECOND);
    assert_true(model->jobs_done >= 980);
    assert_int_equal(model->n_jobs, PG_JOBS_MAX);
    free(model);
}

static void others_that_suffer_are_heard(void **state)
{
    (void)state;
    struct pg_throttle throttle;
    uint64_t now = SECOND, wait_ns;
    pg_throttle_init(&throttle);
    throttle.level = 8;
    for (uint32_t i = 0; i < 200; i++) {
        now += 1000000;
        pg_throttle_hear(&throttle, 3000, now);
    }
    assert_true(throttle.level < 0.1);
    assert_true(pg_throttle_clients_active(&throttle, now));
    assert_true(pg_throttle_may_begin(&throttle, now, &wait_ns));
    pg_throttle_job_begin(&throttle, true, now);
    assert_false(pg_throttle_may_begin(&throttle, now, &wait_ns));
    pg_throttle_job_end(&throttle, true, now + 10000000);
    assert_false(pg_throttle_may_begin(&throttle, now + 10000000, &wait_ns));
    assert_true(wait_ns > 50000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clients_keep_their_share_beside_small_jobs),
        cmocka_unit_test(never_starves),
        cmocka_unit_test(takes_everything_when_clients_are_idle),
        cmocka_unit_test(others_that_suffer_are_heard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
