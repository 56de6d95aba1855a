/*
 * rados bench: the figures of a run, and how they are told (rados_report.c).
 */
#ifndef LIMPET_CLIENT_CLI_RADOS_BENCH_H
#define LIMPET_CLIENT_CLI_RADOS_BENCH_H

#include "client/cli/rados.h"

enum bench_mode { BENCH_MODE_WRITE, BENCH_MODE_SEQ, BENCH_MODE_RAND };

struct bench_figures {
    uint64_t started, finished;
    double latency_sum, latency_squares, latency_min, latency_max, latency_last; /* Seconds. */
};

/* What is seen each second. */
struct bench_spread {
    uint64_t n;
    double sum, squares, min, max;
};

struct bench_report {
    struct cli *cli;
    enum bench_mode mode;
    uint64_t concurrent, op_size, object_size, seconds, max_objects;
    const char *prefix;
    bool show_time;
    json_t *datas; /* Of JSON: a line each. */
    uint64_t lines, finished_before;
    struct bench_spread bandwidth, iops;
};

void spread_add(struct bench_spread *spread, double value);
double spread_deviation(uint64_t n, double sum, double squares);

void report_begin(struct bench_report *report);
/* The state after so many seconds. */
void report_line(struct bench_report *report, const struct bench_figures *figures,
                 uint64_t in_flight, double elapsed, double since_last);
/* Figures of the whole run. */
void report_end(struct bench_report *report, const struct bench_figures *figures, double elapsed);

#endif
