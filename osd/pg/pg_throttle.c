#include "osd/pg/pg_throttle.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static const uint64_t active_ns = 300000000; /* So long after its last operation a client counts. */
static const uint64_t period_min_ns = 100000000; /* A phase and the rest after it. */
static const uint64_t period_max_ns = 2000000000;
static const uint64_t work_min_ns = 5000000;

/* A step needs so many operations beside jobs, and as many at rest to compare with. */
enum { STEP_OPERATIONS = 48, LATENCIES_KEPT = 1024, STEP_HEARD = 8 };

static const double level_min = 0.05;
static const double level_first = 0.25;
static const double duty_max = 0.9; /* Rests there must be, or nothing is measured. */
static const double mean_allowed = 1.2;
static const double slowest_allowed = 1.7;
static const double slowest_quantile = 0.99;

void pg_throttle_init(struct pg_throttle *throttle)
{
    memset(throttle, 0, sizeof *throttle);
    throttle->level = level_first;
}

/* ---- Latencies ---- */

static uint32_t bucket_of(double us)
{
    double at = us > 8 ? log2(us / 8) * 4 : 0;
    return at >= PG_LATENCY_BUCKETS ? PG_LATENCY_BUCKETS - 1 : (uint32_t)at;
}

/* The lower end of the bucket, which is all the same since only ratios count. */
static double bucket_us(uint32_t bucket)
{
    return 8 * exp2(bucket / 4.0);
}

static void latencies_halve(struct pg_latencies *latencies)
{
    latencies->sum_us = 0;
    latencies->n = 0;
    for (uint32_t i = 0; i < PG_LATENCY_BUCKETS; i++) {
        latencies->buckets[i] /= 2;
        latencies->n += latencies->buckets[i];
        latencies->sum_us += latencies->buckets[i] * bucket_us(i);
    }
}

static void latencies_add(struct pg_latencies *latencies, double us)
{
    uint32_t bucket = bucket_of(us);
    latencies->n++;
    latencies->sum_us += bucket_us(bucket);
    latencies->buckets[bucket]++;
    if (latencies->n > LATENCIES_KEPT)
        latencies_halve(latencies);
}

static double mean(const struct pg_latencies *latencies)
{
    return latencies->sum_us / latencies->n;
}

/* Of a mixture in which operations beside jobs have this share. */
static double quantile(const struct pg_throttle *throttle, double share)
{
    double seen = 0;
    uint32_t i = 0;
    for (; i < PG_LATENCY_BUCKETS - 1; i++) {
        seen += share * throttle->beside.buckets[i] / throttle->beside.n;
        seen += (1 - share) * throttle->at_rest.buckets[i] / throttle->at_rest.n;
        if (seen >= slowest_quantile)
            break;
    }
    return bucket_us(i);
}

static bool is_measured(const struct pg_throttle *throttle)
{
    return throttle->beside.n >= STEP_OPERATIONS / 2 && throttle->at_rest.n >= STEP_OPERATIONS / 2;
}

/* 1 is what is allowed; below 1 there is room. */
static double pressure(const struct pg_throttle *throttle)
{
    double share = throttle->rate_beside / (throttle->rate_beside + throttle->rate_at_rest);
    double base = mean(&throttle->at_rest);
    double loss = (share * mean(&throttle->beside) + (1 - share) * base) / base;
    double slowest = quantile(throttle, share) / quantile(throttle, 0);
    loss /= mean_allowed;
    slowest /= slowest_allowed;
    return loss > slowest ? loss : slowest;
}

bool pg_throttle_clients_active(const struct pg_throttle *throttle, uint64_t now_ns)
{
    return throttle->client_ns != 0 && now_ns - throttle->client_ns < active_ns;
}

uint32_t pg_throttle_pressure(const struct pg_throttle *throttle, uint64_t now_ns)
{
    if (!pg_throttle_clients_active(throttle, now_ns))
        return 0;
    if (!is_measured(throttle))
        return 1000;
    double thousandths = pressure(throttle) * 1000;
    return thousandths > 1e6 ? 1000000 : (uint32_t)thousandths;
}

/* ---- The level ---- */

static void level_follow(struct pg_throttle *throttle, double is)
{
    if (is > 1)
        throttle->level *= is > 1.5 ? 0.5 : 0.8;
    else if (is < 0.95)
        throttle->level *= 1.1;
    if (throttle->level < level_min)
        throttle->level = level_min;
    if (throttle->level > PG_JOBS_MAX)
        throttle->level = PG_JOBS_MAX;
}

static void step(struct pg_throttle *throttle)
{
    bool measured = is_measured(throttle) && throttle->fresh >= STEP_OPERATIONS;
    if (!measured && throttle->heard_fresh < STEP_HEARD)
        return;
    double is = is_measured(throttle) ? pressure(throttle) : 0;
    if (throttle->heard_fresh > 0 && throttle->heard > is)
        is = throttle->heard;
    level_follow(throttle, is);
    throttle->fresh = 0;
    throttle->heard_fresh = 0;
    throttle->heard = 0;
    /* What was measured at another level counts less and less. */
    if (throttle->beside.n >= 4 * STEP_OPERATIONS)
        latencies_halve(&throttle->beside);
    throttle->rate_beside /= 2;
    throttle->rate_at_rest /= 2;
}

void pg_throttle_client_begin(struct pg_throttle *throttle, uint64_t now_ns)
{
    throttle->client_ns = now_ns;
}

void pg_throttle_client_end(struct pg_throttle *throttle, uint64_t begun_ns, uint64_t now_ns)
{
    double us = (double)(now_ns - begun_ns) / 1000;
    throttle->client_ns = now_ns;
    if (throttle->jobs == 0 && begun_ns >= throttle->quiet_ns) {
        latencies_add(&throttle->at_rest, us);
        throttle->rate_at_rest++;
    } else {
        latencies_add(&throttle->beside, us);
        throttle->rate_beside++;
        throttle->fresh++;
    }
    step(throttle);
}

void pg_throttle_hear(struct pg_throttle *throttle, uint32_t thousandths, uint64_t now_ns)
{
    double is = thousandths / 1000.0;
    if (thousandths == 0)
        return;
    throttle->client_ns = now_ns;
    throttle->heard_fresh++;
    if (is > throttle->heard)
        throttle->heard = is;
    step(throttle);
}

/* ---- Jobs ---- */

static double duty(const struct pg_throttle *throttle)
{
    return throttle->level < duty_max ? throttle->level : duty_max;
}

/* Long enough that operations fit into the rest from their beginning to their end. */
static double period(const struct pg_throttle *throttle)
{
    double ns = throttle->at_rest.n > 0 ? mean(&throttle->at_rest) * 1000 * 40 : 0;
    if (ns < (double)period_min_ns)
        return (double)period_min_ns;
    return ns > (double)period_max_ns ? (double)period_max_ns : ns;
}

static uint64_t work_ns(const struct pg_throttle *throttle)
{
    double ns = duty(throttle) * period(throttle);
    return ns < (double)work_min_ns ? work_min_ns : (uint64_t)ns;
}

/* A rest that makes up for the phase that ends now. */
static void rest(struct pg_throttle *throttle, uint64_t now_ns)
{
    double worked = (double)(now_ns - throttle->phase_ns);
    double ns = worked * (1 - duty(throttle)) / duty(throttle);
    throttle->phase = PG_THROTTLE_RESTING;
    throttle->phase_ns = now_ns;
    throttle->rest_ns = ns > (double)period_max_ns ? period_max_ns : (uint64_t)ns;
}

static uint32_t jobs_allowed(const struct pg_throttle *throttle)
{
    return throttle->level <= 1 ? 1 : (uint32_t)throttle->level;
}

bool pg_throttle_may_begin(struct pg_throttle *throttle, uint64_t now_ns, uint64_t *wait_ns)
{
    *wait_ns = 0;
    if (!pg_throttle_clients_active(throttle, now_ns))
        return throttle->own < PG_JOBS_MAX;
    if (throttle->phase == PG_THROTTLE_RESTING) {
        uint64_t end = throttle->phase_ns + throttle->rest_ns;
        *wait_ns = now_ns < end ? end - now_ns : 0;
        return now_ns >= end;
    }
    /* The phase is over: the rest begins when the last of its jobs ends. */
    if (throttle->own > 0 && now_ns - throttle->phase_ns >= work_ns(throttle))
        return false;
    return throttle->own < jobs_allowed(throttle);
}

void pg_throttle_job_begin(struct pg_throttle *throttle, bool own, uint64_t now_ns)
{
    throttle->jobs++;
    if (!own)
        return;
    /* Jobs that follow one another closely are one phase. */
    bool pause = throttle->own == 0 && now_ns - throttle->idle_ns > work_min_ns;
    if (throttle->phase != PG_THROTTLE_WORKING || pause)
        throttle->phase_ns = now_ns;
    throttle->phase = PG_THROTTLE_WORKING;
    throttle->own++;
}

void pg_throttle_job_end(struct pg_throttle *throttle, bool own, uint64_t now_ns)
{
    assert(throttle->jobs > 0);
    throttle->jobs--;
    if (throttle->jobs == 0)
        throttle->quiet_ns = now_ns;
    if (!own)
        return;
    assert(throttle->own > 0);
    throttle->own--;
    if (throttle->own > 0)
        return;
    throttle->idle_ns = now_ns;
    if (!pg_throttle_clients_active(throttle, now_ns))
        throttle->phase = PG_THROTTLE_IDLE;
    else if (now_ns - throttle->phase_ns >= work_ns(throttle))
        rest(throttle, now_ns);
}
