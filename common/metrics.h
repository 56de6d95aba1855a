/*
 * Counters and histograms, in fixed memory, and their JSON form.
 *
 * A histogram is log-linear, in the manner of HdrHistogram (Gil Tene): 64 steps in each power of
 * two, so that a value is known to 1.6 %, whether it is a microsecond or an hour. Recording is a
 * few instructions and allocates nothing. Like everything else they belong to one thread;
 * histograms of several threads are merged.
 */
#ifndef LIMPET_COMMON_METRICS_H
#define LIMPET_COMMON_METRICS_H

#include <jansson.h>
#include <stdint.h>

#include "common/error.h"

enum {
    HISTOGRAM_STEP_BITS = 6,
    HISTOGRAM_STEPS = 1 << HISTOGRAM_STEP_BITS,
    HISTOGRAM_VALUE_BITS = 42, /* Nanoseconds: 73 minutes. Larger values count as the largest. */
    HISTOGRAM_BUCKETS = (HISTOGRAM_VALUE_BITS - HISTOGRAM_STEP_BITS + 1) * HISTOGRAM_STEPS,
    METRICS_MAX = 128,
    METRICS_NAME_MAX = 63,
};

/* Initialize with zeroes. */
struct histogram {
    uint64_t count;
    uint64_t sum;
    uint64_t min; /* Meaningless while count is 0. */
    uint64_t max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_record(struct histogram *h, uint64_t value);
void histogram_merge(struct histogram *into, const struct histogram *from);
void histogram_reset(struct histogram *h);
/*
 * The value that `percent` (0 to 100) of the recorded ones do not exceed, as far as the steps
 * tell: at most 1.6 % above it, and never above the maximum. 0 when nothing was recorded.
 */
uint64_t histogram_percentile(const struct histogram *h, double percent);
double histogram_mean(const struct histogram *h);
/* {"count", "mean", "min", "max", "p50", "p90", "p99", "p999"}, values divided by unit; a new
 * reference, NULL when memory is short. */
json_t *histogram_json(const struct histogram *h, double unit) MUST_CHECK;

/* A list of named figures that live elsewhere. Initialize with zeroes. */
struct metrics {
    uint32_t n;
    struct metric {
        char name[METRICS_NAME_MAX + 1];
        const uint64_t *counter; /* One of the two. */
        const struct histogram
            *histogram; /* Its values are in nanoseconds, shown in microseconds. */
    } list[METRICS_MAX];
};

/* The figure outlives the list. -ENOSPC: the list is full; -EEXIST; -ENAMETOOLONG. */
int metrics_add_counter(struct metrics *metrics, const char *name,
                        const uint64_t *counter) MUST_CHECK;
int metrics_add_histogram(struct metrics *metrics, const char *name,
                          const struct histogram *histogram) MUST_CHECK;
/* An object with a member for each; a new reference, NULL when memory is short. */
json_t *metrics_json(const struct metrics *metrics) MUST_CHECK;

#endif
