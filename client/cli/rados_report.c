/*
 * What rados bench prints, in the layout of Ceph's, so that what reads the one reads the other.
 */
#include "client/cli/rados_bench.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LINES_PER_HEAD = 20 };
#define MIB (1024.0 * 1024.0)

void spread_add(struct bench_spread *s, double value)
{
    s->min = s->n == 0 || value < s->min ? value : s->min;
    s->max = s->n == 0 || value > s->max ? value : s->max;
    s->n++;
    s->sum += value;
    s->squares += value * value;
}

double spread_deviation(uint64_t n, double sum, double squares)
{
    if (n < 2)
        return 0;
    double variance = (squares - sum * sum / (double)n) / (double)(n - 1);
    return variance > 0 ? sqrt(variance) : 0;
}

static bool is_plain(const struct bench_report *r)
{
    return r->cli->format == FORMAT_PLAIN;
}

static void print_clock(const struct bench_report *r)
{
    struct timespec now;
    char text[RADOS_TIME_MAX];
    if (!r->show_time)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    rados_time((uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec, text);
    printf("%s ", text);
}

void report_begin(struct bench_report *r)
{
    r->datas = json_array();
    if (!is_plain(r))
        return;
    printf("hints = 1\n");
    if (r->mode != BENCH_MODE_WRITE)
        return;
    print_clock(r);
    printf("Maintaining %" PRIu64 " concurrent writes of %" PRIu64
           " bytes to objects of size %" PRIu64 " for up to %" PRIu64 " seconds or %" PRIu64
           " objects\n",
           r->concurrent, r->op_size, r->object_size, r->seconds, r->max_objects);
    print_clock(r);
    printf("Object prefix: %s\n", r->prefix);
}

static void print_head(const struct bench_report *r, const struct bench_figures *f)
{
    if (r->lines > 0) {
        print_clock(r);
        printf("min lat: %.6g max lat: %.6g avg lat: %.6g\n", f->latency_min, f->latency_max,
               f->finished > 0 ? f->latency_sum / (double)f->finished : 0);
    }
    print_clock(r);
    printf("%5s%8s%10s%10s%10s%10s%12s%12s\n", "sec", "Cur ops", "started", "finished", "avg MB/s",
           "cur MB/s", "last lat(s)", "avg lat(s)");
}

static json_t *text_of(const char *format, double value)
{
    char text[64];
    snprintf(text, sizeof text, format, value);
    return json_string(text);
}

static json_t *text_of_number(uint64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRIu64, value);
    return json_string(text);
}

static void note_line(struct bench_report *r, const struct bench_figures *f, uint64_t in_flight,
                      double average, double current, double last, double mean)
{
    json_array_append_new(r->datas,
                          json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "sec",
                                    text_of_number(r->lines), "cur_ops", text_of_number(in_flight),
                                    "started", text_of_number(f->started), "finished",
                                    text_of_number(f->finished), "avg_bw", text_of("%f", average),
                                    "cur_bw", text_of("%f", current), "last_lat",
                                    text_of("%f", last), "avg_lat", text_of("%f", mean)));
}

void report_line(struct bench_report *r, const struct bench_figures *f, uint64_t in_flight,
                 double elapsed, double since_last)
{
    uint64_t finished = f->finished - r->finished_before;
    double bytes = (double)r->op_size;
    double current = since_last > 0 ? (double)finished * bytes / MIB / since_last : 0;
    double average = elapsed > 0 ? (double)f->finished * bytes / MIB / elapsed : 0;
    double mean = f->finished > 0 ? f->latency_sum / (double)f->finished : 0;
    if (is_plain(r)) {
        if (r->lines % LINES_PER_HEAD == 0)
            print_head(r, f);
        print_clock(r);
        printf("%5" PRIu64 "%8" PRIu64 "%10" PRIu64 "%10" PRIu64 "%10.6g", r->lines, in_flight,
               f->started, f->finished, average);
        if (finished > 0)
            printf("%10.6g%12.6g%12.6g\n", current, f->latency_last, mean);
        else
            printf("%10s%12s%12.6g\n", "0", "-", mean);
        fflush(stdout);
    } else {
        note_line(r, f, in_flight, average, current, finished > 0 ? f->latency_last : 0, mean);
    }
    if (r->lines > 0) {
        spread_add(&r->bandwidth, current);
        spread_add(&r->iops, since_last > 0 ? (double)finished / since_last : 0);
    }
    r->lines++;
    r->finished_before = f->finished;
}

/* ---- The end ---- */

struct ending {
    const char *label, *key; /* Of a write; then of a read. */
    const char *read_label;
    double value;
    bool whole; /* Shown without a fraction. */
};

static void print_ending(const struct bench_report *r, const struct ending *lines, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *label = r->mode == BENCH_MODE_WRITE ? lines[i].label : lines[i].read_label;
        if (label == NULL)
            continue;
        print_clock(r);
        if (lines[i].whole)
            printf("%s%.0f\n", label, floor(lines[i].value));
        else
            printf("%s%.6g\n", label, lines[i].value);
    }
}

static void print_ending_json(struct bench_report *r, const struct ending *lines, size_t n)
{
    json_t *json = json_object();
    if (r->mode == BENCH_MODE_WRITE) {
        json_object_set_new(json, "concurrent_ios", text_of_number(r->concurrent));
        json_object_set_new(json, "object_size", text_of_number(r->object_size));
        json_object_set_new(json, "op_size", text_of_number(r->op_size));
        json_object_set_new(json, "seconds_to_run", text_of_number(r->seconds));
        json_object_set_new(json, "max_objects", text_of_number(r->max_objects));
        json_object_set_new(json, "object_prefix", json_string(r->prefix));
    }
    json_object_set(json, "datas", r->datas);
    for (size_t i = 0; i < n; i++) {
        bool writes = r->mode == BENCH_MODE_WRITE;
        const char *key = lines[i].key;
        if (!writes && strcmp(key, "total_writes_made") == 0)
            key = "total_reads_made";
        if (!writes && strcmp(key, "write_size") == 0)
            key = "read_size";
        if (writes || lines[i].read_label != NULL)
            json_object_set_new(json, key,
                                lines[i].whole ? text_of("%.0f", floor(lines[i].value))
                                               : text_of("%f", lines[i].value));
    }
    cli_print_json(r->cli, json);
    json_decref(json);
}

void report_end(struct bench_report *r, const struct bench_figures *f, double elapsed)
{
    double n = (double)f->finished, bytes = (double)r->op_size;
    double rate = elapsed > 0 ? n / elapsed : 0;
    const struct ending lines[] = {
        {"Total time run:         ", "total_time_run", "Total time run:       ", elapsed, false},
        {"Total writes made:      ", "total_writes_made", "Total reads made:     ", n, true},
        {"Write size:             ", "write_size", "Read size:            ", bytes, true},
        {"Object size:            ", "object_size",
         "Object size:          ", (double)r->object_size, true},
        {"Bandwidth (MB/sec):     ", "bandwidth", "Bandwidth (MB/sec):   ", rate * bytes / MIB,
         false},
        {"Stddev Bandwidth:       ", "stddev_bandwidth", NULL,
         spread_deviation(r->bandwidth.n, r->bandwidth.sum, r->bandwidth.squares), false},
        {"Max bandwidth (MB/sec): ", "max_bandwidth", NULL, r->bandwidth.max, false},
        {"Min bandwidth (MB/sec): ", "min_bandwidth", NULL, r->bandwidth.min, false},
        {"Average IOPS:           ", "average_iops", "Average IOPS:         ", rate, true},
        {"Stddev IOPS:            ", "stddev_iops", "Stddev IOPS:          ",
         spread_deviation(r->iops.n, r->iops.sum, r->iops.squares), false},
        {"Max IOPS:               ", "max_iops", "Max IOPS:             ", r->iops.max, true},
        {"Min IOPS:               ", "min_iops", "Min IOPS:             ", r->iops.min, true},
        {"Average Latency(s):     ", "average_latency",
         "Average Latency(s):   ", n > 0 ? f->latency_sum / n : 0, false},
        {"Stddev Latency(s):      ", "stddev_latency", NULL,
         spread_deviation(f->finished, f->latency_sum, f->latency_squares), false},
        {"Max latency(s):         ", "max_latency", "Max latency(s):       ", f->latency_max,
         false},
        {"Min latency(s):         ", "min_latency", "Min latency(s):       ", f->latency_min,
         false},
    };
    size_t count = sizeof lines / sizeof lines[0];
    if (is_plain(r))
        print_ending(r, lines, count);
    else
        print_ending_json(r, lines, count);
    json_decref(r->datas);
    r->datas = NULL;
}
