/*
 * limpet bench object: how fast objects are written and read, measured from here.
 *
 * At depth 1 this thread waits for each request itself; deeper, each request's callback submits
 * the next. Objects that were made are removed at the end, also after an interruption.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "common/metrics.h"

enum { BENCH_DEPTH_MAX = 4096, BENCH_CLEANUP_DEPTH = 64, BENCH_PREPARED_MAX = 1000 };
#define BENCH_PREPARED_BYTES (UINT64_C(512) * 1024 * 1024)

enum bench_kind { BENCH_WRITE, BENCH_OVERWRITE, BENCH_READ, BENCH_RANDREAD, BENCH_REMOVE };

struct slot {
    struct bench *bench;
    uint64_t begun_ns;
    uint8_t *data; /* What is read; of reads only. */
};

struct bench {
    struct limpet_pool *pool;
    enum bench_kind kind;
    uint64_t size;
    uint32_t depth;
    uint64_t limit;   /* Requests in all; 0: until the end of time. */
    uint64_t objects; /* Numbers 0 .. objects - 1 are used in turn; 0: each request a new one. */
    uint64_t deadline_ns;
    char prefix[128];
    uint8_t *pattern;
    struct slot *slots;

    /* Changed by callbacks, one at a time, and read when all have ended. */
    uint64_t submitted;
    uint64_t random;
    int error;
    struct histogram latency;

    pthread_mutex_t lock;
    pthread_cond_t ended;
    uint32_t running;
    atomic_ullong done;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static uint64_t next_random(struct bench *b)
{
    b->random ^= b->random << 13;
    b->random ^= b->random >> 7;
    b->random ^= b->random << 17;
    return b->random;
}

/* ---- One request ---- */

static bool bench_over(const struct bench *b, uint64_t at_ns)
{
    return b->error != 0 || (interrupted && b->kind != BENCH_REMOVE) ||
           (b->limit != 0 && b->submitted >= b->limit) ||
           (b->deadline_ns != 0 && at_ns >= b->deadline_ns);
}

static void object_name(struct bench *b, char *name, size_t size)
{
    uint64_t number = b->submitted;
    if (b->objects != 0)
        number = b->kind == BENCH_RANDREAD || b->kind == BENCH_OVERWRITE
                     ? next_random(b) % b->objects
                     : number % b->objects;
    snprintf(name, size, "%s%" PRIu64, b->prefix, number);
}

static void check_result(struct bench *b, ssize_t result)
{
    bool reads = b->kind == BENCH_READ || b->kind == BENCH_RANDREAD;
    if (b->error != 0 || (b->kind == BENCH_REMOVE && result == -ENOENT))
        return;
    if (result < 0)
        b->error = (int)result;
    else if (reads && (uint64_t)result != b->size)
        b->error = -EIO;
}

static void account(struct bench *b, uint64_t begun_ns, ssize_t result)
{
    histogram_record(&b->latency, now_ns() - begun_ns);
    check_result(b, result);
    atomic_fetch_add(&b->done, 1);
}

/* ---- Depth 1 ---- */

static ssize_t run_one(struct bench *b, const char *name, uint8_t *data)
{
    switch (b->kind) {
    case BENCH_WRITE:
    case BENCH_OVERWRITE:
        return limpet_write_full(b->pool, name, b->pattern, b->size);
    case BENCH_READ:
    case BENCH_RANDREAD:
        return limpet_read(b->pool, name, data, b->size, 0);
    case BENCH_REMOVE:
        return limpet_remove(b->pool, name);
    }
    return -EINVAL;
}

static void run_waiting(struct bench *b)
{
    char name[192];
    uint64_t begun_ns;
    while (!bench_over(b, begun_ns = now_ns())) {
        object_name(b, name, sizeof name);
        b->submitted++;
        account(b, begun_ns, run_one(b, name, b->slots[0].data));
    }
}

/* ---- Deeper ---- */

static void slot_done(struct limpet_completion *completion, void *arg);

static int submit_one(struct bench *b, struct slot *slot, const char *name,
                      struct limpet_completion *completion)
{
    switch (b->kind) {
    case BENCH_WRITE:
    case BENCH_OVERWRITE:
        return limpet_aio_write_full(b->pool, name, completion, b->pattern, b->size);
    case BENCH_READ:
    case BENCH_RANDREAD:
        return limpet_aio_read(b->pool, name, completion, slot->data, b->size, 0);
    case BENCH_REMOVE:
        return limpet_aio_remove(b->pool, name, completion);
    }
    return -EINVAL;
}

/* Returns false when this slot has nothing more to do. */
static bool slot_next(struct slot *slot)
{
    struct bench *b = slot->bench;
    struct limpet_completion *completion;
    char name[192];
    slot->begun_ns = now_ns();
    if (bench_over(b, slot->begun_ns))
        return false;
    object_name(b, name, sizeof name);
    int rc = limpet_completion_create(slot_done, slot, &completion);
    if (rc == 0) {
        b->submitted++;
        rc = submit_one(b, slot, name, completion);
        limpet_completion_release(completion);
    }
    if (rc != 0)
        b->error = rc;
    return rc == 0;
}

static void slot_end(struct bench *b)
{
    pthread_mutex_lock(&b->lock);
    b->running--;
    pthread_cond_signal(&b->ended);
    pthread_mutex_unlock(&b->lock);
}

static void slot_done(struct limpet_completion *completion, void *arg)
{
    struct slot *slot = arg;
    account(slot->bench, slot->begun_ns, limpet_completion_result(completion));
    if (!slot_next(slot))
        slot_end(slot->bench);
}

/* Starts the others from the library's own thread, on which alone slots are touched. */
static void start_slots(struct limpet_completion *completion, void *arg)
{
    struct bench *b = arg;
    (void)completion;
    for (uint32_t i = 0; i < b->depth; i++) {
        if (!slot_next(&b->slots[i]))
            slot_end(b);
    }
}

static void run_deep(struct bench *b)
{
    struct limpet_completion *start;
    struct limpet_stat stat;
    b->running = b->depth;
    int rc = limpet_completion_create(start_slots, b, &start);
    /* The result does not matter: this request is there for its callback. */
    if (rc == 0)
        rc = limpet_aio_stat(b->pool, b->prefix, start, &stat);
    if (rc != 0)
        fail(rc, "bench: %s", error_phrase(rc));
    limpet_completion_release(start);
    pthread_mutex_lock(&b->lock);
    while (b->running > 0)
        pthread_cond_wait(&b->ended, &b->lock);
    pthread_mutex_unlock(&b->lock);
}

/* ---- A phase: preparation, measurement, cleaning up ---- */

static void phase_run(struct bench *b)
{
    bool reads = b->kind == BENCH_READ || b->kind == BENCH_RANDREAD;
    b->submitted = 0;
    atomic_store(&b->done, 0);
    histogram_reset(&b->latency);
    b->slots = calloc(b->depth, sizeof *b->slots);
    for (uint32_t i = 0; b->slots != NULL && i < b->depth; i++) {
        b->slots[i].bench = b;
        b->slots[i].data = reads ? malloc(b->size) : NULL;
        if (reads && b->slots[i].data == NULL)
            fail(ENOMEM, "no memory for %u reads of %s", b->depth, size_text(b->size));
    }
    if (b->slots == NULL)
        fail(ENOMEM, "out of memory");
    if (b->depth == 1)
        run_waiting(b);
    else
        run_deep(b);
    for (uint32_t i = 0; i < b->depth; i++)
        free(b->slots[i].data);
    free(b->slots);
    b->slots = NULL;
}

/* Writes the objects that the measurement needs. */
static void prepare(struct bench *b, const struct bench *wanted)
{
    b->kind = BENCH_WRITE;
    b->limit = b->objects = wanted->objects;
    b->deadline_ns = 0;
    uint64_t fits = BENCH_PREPARED_BYTES / 8 / (wanted->size + 1) + 1;
    b->depth = fits < 16 ? (uint32_t)fits : 16;
    fprintf(stderr, "preparing %" PRIu64 " objects of %s\n", wanted->objects,
            size_text(wanted->size));
    phase_run(b);
}

static void clean_up(struct bench *b, uint64_t n)
{
    b->kind = BENCH_REMOVE;
    b->limit = n;
    b->objects = 0;
    b->deadline_ns = 0;
    b->depth = BENCH_CLEANUP_DEPTH;
    b->error = 0;
    phase_run(b);
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* ---- The report ---- */

static json_t *report_json(const struct bench *b, const char *op, double seconds, double cpu)
{
    double ops = (double)b->latency.count;
    return json_pack("{s:s, s:I, s:i, s:f, s:I, s:f, s:f, s:o, s:f, s:b}", "op", op, "object_size",
                     (json_int_t)b->size, "depth", (int)b->depth, "seconds", seconds, "ops",
                     (json_int_t)b->latency.count, "iops", ops / seconds, "mb_per_second",
                     ops * (double)b->size / 1e6 / seconds, "latency_us",
                     histogram_json(&b->latency, 1000), "client_cpu_us_per_op",
                     ops > 0 ? cpu * 1e6 / ops : 0.0, "interrupted", interrupted != 0);
}

static void report(struct cli *cli, const struct bench *b, const char *op, double seconds,
                   double cpu)
{
    if (cli->format != FORMAT_PLAIN) {
        json_t *json = report_json(b, op, seconds, cpu);
        if (json == NULL)
            fail(ENOMEM, "out of memory");
        cli_print_json(cli, json);
        json_decref(json);
        return;
    }
    double ops = (double)b->latency.count;
    printf("%s, objects of %s, %u at a time, %.1f s\n", op, size_text(b->size), b->depth, seconds);
    printf("  operations    %" PRIu64 ", %.0f /s, %.1f MB/s\n", b->latency.count, ops / seconds,
           ops * (double)b->size / 1e6 / seconds);
    printf("  latency (us)  mean %.0f, p50 %.0f, p99 %.0f, p99.9 %.0f, max %.0f\n",
           histogram_mean(&b->latency) / 1e3, (double)histogram_percentile(&b->latency, 50) / 1e3,
           (double)histogram_percentile(&b->latency, 99) / 1e3,
           (double)histogram_percentile(&b->latency, 99.9) / 1e3, (double)b->latency.max / 1e3);
    printf("  client        %.1f us of processor time an operation\n",
           ops > 0 ? cpu * 1e6 / ops : 0.0);
}

/* ---- The command ---- */

static enum bench_kind kind_of(const char *op)
{
    return strcmp(op, "write") == 0       ? BENCH_WRITE
           : strcmp(op, "overwrite") == 0 ? BENCH_OVERWRITE
           : strcmp(op, "read") == 0      ? BENCH_READ
                                          : BENCH_RANDREAD;
}

static void set_up(struct cli *cli, struct bench *b, struct bench *wanted)
{
    wanted->size = cli_number(cli, "size", 4096, 1, LIMPET_OBJECT_SIZE_MAX);
    wanted->depth = (uint32_t)cli_number(cli, "depth", 16, 1, BENCH_DEPTH_MAX);
    wanted->kind = kind_of(cli_text(cli, "op", "write"));
    uint64_t fits = BENCH_PREPARED_BYTES / wanted->size;
    fits = fits < 16 ? 16 : fits > BENCH_PREPARED_MAX ? BENCH_PREPARED_MAX : fits;
    wanted->objects =
        cli_number(cli, "objects", wanted->kind == BENCH_WRITE ? 0 : fits, 0, UINT64_C(100000000));
    if (wanted->kind != BENCH_WRITE && wanted->objects == 0)
        fail(EINVAL, "--objects: reading and overwriting needs at least one object");
    char host[65] = "";
    gethostname(host, sizeof host - 1);
    snprintf(b->prefix, sizeof b->prefix, "bench_%s_%d_", host, (int)getpid());
    b->random = UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)getpid();
    b->size = wanted->size;
    b->pattern = malloc(b->size);
    if (b->pattern == NULL)
        fail(ENOMEM, "no memory for %s", size_text(b->size));
    for (uint64_t i = 0; i < b->size; i++)
        b->pattern[i] = (uint8_t)next_random(b);
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->ended, NULL);
}

int run_bench_object(struct cli *cli)
{
    static struct bench b;
    struct bench *wanted = calloc(1, sizeof *wanted);
    if (wanted == NULL)
        fail(ENOMEM, "out of memory");
    const char *pool = cli_text(cli, "pool", NULL);
    if (pool == NULL)
        fail(EINVAL, "name the pool with -p POOL; '%s' lists the pools", "limpet pool ls");
    double seconds = cli_real(cli, "seconds", 10);
    set_up(cli, &b, wanted);
    cli_connect(cli);
    b.pool = cli_open_pool(cli, pool);
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);

    if (wanted->kind != BENCH_WRITE)
        prepare(&b, wanted);
    uint64_t made = wanted->kind != BENCH_WRITE ? b.submitted : 0;
    b.kind = wanted->kind;
    b.objects = wanted->objects;
    b.depth = wanted->depth;
    b.limit = 0;
    double cpu = cpu_seconds();
    uint64_t begun_ns = now_ns();
    b.deadline_ns = begun_ns + (uint64_t)(seconds * 1e9);
    phase_run(&b);
    double took = (double)(now_ns() - begun_ns) / 1e9;
    cpu = cpu_seconds() - cpu;
    int error = b.error;
    if (wanted->kind == BENCH_WRITE)
        made = b.objects != 0 && b.objects < b.submitted ? b.objects : b.submitted;
    if (error == 0)
        report(cli, &b, cli_text(cli, "op", "write"), took, cpu);
    cli_flush(cli);
    if (!cli_has(cli, "no-cleanup"))
        clean_up(&b, made);
    free(b.pattern);
    free(wanted);
    limpet_pool_close(b.pool);
    if (error != 0)
        return complain(error, "bench: %s", error_phrase(error));
    return b.error != 0 ? complain(b.error, "bench: removing objects: %s", error_phrase(b.error))
                        : 0;
}
