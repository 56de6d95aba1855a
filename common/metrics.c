#include "common/metrics.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define VALUE_MAX ((UINT64_C(1) << HISTOGRAM_VALUE_BITS) - 1)

/*
 * Values below 64 have a bucket each. Above, the position of the highest bit chooses a group of 64
 * buckets, and the six bits after it the bucket in the group.
 */
static uint32_t bucket_of(uint64_t value)
{
    if (value < HISTOGRAM_STEPS)
        return (uint32_t)value;
    uint32_t highest = 63 - (uint32_t)__builtin_clzll(value);
    uint32_t shift = highest - HISTOGRAM_STEP_BITS;
    uint32_t step = (uint32_t)(value >> shift) - HISTOGRAM_STEPS;
    return (shift + 1) * HISTOGRAM_STEPS + step;
}

/* The largest value that falls into the bucket. */
static uint64_t bucket_end(uint32_t bucket)
{
    if (bucket < HISTOGRAM_STEPS)
        return bucket;
    uint32_t shift = bucket / HISTOGRAM_STEPS - 1;
    uint64_t step = bucket % HISTOGRAM_STEPS + HISTOGRAM_STEPS;
    return ((step + 1) << shift) - 1;
}

void histogram_record(struct histogram *h, uint64_t value)
{
    if (value > VALUE_MAX)
        value = VALUE_MAX;
    uint32_t bucket = bucket_of(value);
    assert(bucket < HISTOGRAM_BUCKETS);
    h->buckets[bucket]++;
    if (h->count == 0 || value < h->min)
        h->min = value;
    if (value > h->max)
        h->max = value;
    h->count++;
    h->sum += value;
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    if (from->count == 0)
        return;
    if (into->count == 0 || from->min < into->min)
        into->min = from->min;
    if (from->max > into->max)
        into->max = from->max;
    into->count += from->count;
    into->sum += from->sum;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
}

void histogram_reset(struct histogram *h)
{
    memset(h, 0, sizeof *h);
}

uint64_t histogram_percentile(const struct histogram *h, double percent)
{
    if (h->count == 0)
        return 0;
    if (!(percent > 0))
        return h->min;
    if (percent >= 100)
        return h->max;
    /* The rank of the wanted value, from 1. */
    double exact = (double)h->count * percent / 100;
    uint64_t rank = (uint64_t)exact;
    if ((double)rank < exact || rank == 0)
        rank++;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen >= rank) {
            uint64_t end = bucket_end(i);
            return end < h->max ? end : h->max;
        }
    }
    return h->max;
}

double histogram_mean(const struct histogram *h)
{
    return h->count > 0 ? (double)h->sum / (double)h->count : 0;
}

json_t *histogram_json(const struct histogram *h, double unit)
{
    return json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "count", (json_int_t)h->count,
                     "mean", histogram_mean(h) / unit, "min", (double)h->min / unit, "max",
                     (double)h->max / unit, "p50", (double)histogram_percentile(h, 50) / unit,
                     "p90", (double)histogram_percentile(h, 90) / unit, "p99",
                     (double)histogram_percentile(h, 99) / unit, "p999",
                     (double)histogram_percentile(h, 99.9) / unit);
}

static int add(struct metrics *metrics, const char *name, const uint64_t *counter,
               const struct histogram *histogram)
{
    if (strlen(name) > METRICS_NAME_MAX)
        return -ENAMETOOLONG;
    for (uint32_t i = 0; i < metrics->n; i++) {
        if (strcmp(metrics->list[i].name, name) == 0)
            return -EEXIST;
    }
    if (metrics->n == METRICS_MAX)
        return -ENOSPC;
    struct metric *metric = &metrics->list[metrics->n++];
    snprintf(metric->name, sizeof metric->name, "%s", name);
    metric->counter = counter;
    metric->histogram = histogram;
    return 0;
}

int metrics_add_counter(struct metrics *metrics, const char *name, const uint64_t *counter)
{
    return add(metrics, name, counter, NULL);
}

int metrics_add_histogram(struct metrics *metrics, const char *name,
                          const struct histogram *histogram)
{
    return add(metrics, name, NULL, histogram);
}

json_t *metrics_json(const struct metrics *metrics)
{
    json_t *object = json_object();
    if (object == NULL)
        return NULL;
    for (uint32_t i = 0; i < metrics->n; i++) {
        const struct metric *metric = &metrics->list[i];
        json_t *value = metric->counter != NULL ? json_integer((json_int_t)*metric->counter)
                                                : histogram_json(metric->histogram, 1000);
        if (value == NULL || json_object_set_new(object, metric->name, value) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}
