/*
 * limpet rados bench and cleanup: many requests at a time, counted each second.
 *
 * Each of so many slots has a request under way; its callback, on the library's thread, begins the
 * next one. This thread looks at the figures each second, and waits for the slots at the end. What
 * a write leaves is noted in an object of its own, by which seq, rand and cleanup find it.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/rados_bench.h"

enum { DEPTH_MAX = 4096, PREFIX_MAX = 256, NAME_MAX_BYTES = 320, NOTE_MAX = 1024 };
#define DEFAULT_RUN    "benchmark_last_metadata"
#define DEFAULT_PREFIX "benchmark_data"

enum { BENCH_REMOVE = BENCH_MODE_RAND + 1 };

struct slot {
    struct run *run;
    struct limpet_completion *completion;
    uint64_t op; /* Its number. */
    double begun;
    uint8_t *data;
};

struct run {
    struct limpet_pool *pool;
    int mode; /* enum bench_mode, or BENCH_REMOVE. */
    char prefix[PREFIX_MAX];
    uint64_t op_size, object_size;
    uint64_t n_ops; /* Of reads: there are so many; of writes: at most; 0: no limit. */
    bool verify;
    double deadline; /* 0: none. */
    uint8_t *pattern;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct bench_figures figures;
    uint64_t in_flight, random;
    uint64_t active; /* Slots that have not ended. */
    int error;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

/* ---- One request ---- */

static uint64_t ops_per_object(const struct run *run)
{
    return run->mode == BENCH_REMOVE ? 1 : run->object_size / run->op_size;
}

static void object_name(const struct run *run, uint64_t op, char name[NAME_MAX_BYTES])
{
    snprintf(name, NAME_MAX_BYTES, "%s_object%" PRIu64, run->prefix, op / ops_per_object(run));
}

/* What operation `op` writes begins with. */
static void fill_mark(const struct run *run, uint64_t op, uint8_t *data)
{
    char mark[40];
    int len = snprintf(mark, sizeof mark, "I'm the %16" PRIu64 "th op!", op);
    memcpy(data, mark, run->op_size < (size_t)len ? run->op_size : (size_t)len);
}

static bool is_as_written(const struct run *run, const struct slot *slot)
{
    uint8_t mark[40] = {0};
    size_t len = run->op_size < sizeof mark ? (size_t)run->op_size : sizeof mark;
    memcpy(mark, run->pattern, len);
    fill_mark(run, slot->op, mark);
    return memcmp(mark, slot->data, len) == 0 &&
           memcmp(run->pattern + len, slot->data + len, run->op_size - len) == 0;
}

static void slot_done(struct limpet_completion *completion, void *arg);

static int submit(struct slot *slot)
{
    struct run *run = slot->run;
    char name[NAME_MAX_BYTES];
    uint64_t offset = slot->op % ops_per_object(run) * run->op_size;
    object_name(run, slot->op, name);
    int rc = limpet_completion_create(slot_done, slot, &slot->completion);
    if (rc != 0)
        return rc;
    if (run->mode == BENCH_MODE_WRITE)
        fill_mark(run, slot->op, slot->data);
    slot->begun = monotonic_seconds();
    if (run->mode == BENCH_REMOVE)
        rc = limpet_aio_remove(run->pool, name, slot->completion);
    else if (run->mode != BENCH_MODE_WRITE)
        rc = limpet_aio_read(run->pool, name, slot->completion, slot->data, run->op_size, offset);
    else if (ops_per_object(run) == 1)
        rc = limpet_aio_write_full(run->pool, name, slot->completion, slot->data, run->op_size);
    else
        rc = limpet_aio_write(run->pool, name, slot->completion, slot->data, run->op_size, offset);
    if (rc != 0)
        limpet_completion_release(slot->completion);
    return rc;
}

/* With the lock held. */
static bool has_more(const struct run *run)
{
    const struct bench_figures *f = &run->figures;
    if (run->error != 0 || (interrupted && run->mode != BENCH_REMOVE))
        return false;
    if (run->deadline != 0 && monotonic_seconds() >= run->deadline)
        return false;
    return run->mode == BENCH_MODE_RAND || run->n_ops == 0 || f->started < run->n_ops;
}

static uint64_t next_op(struct run *run)
{
    run->random = run->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return run->mode == BENCH_MODE_RAND ? (run->random >> 16) % run->n_ops : run->figures.started;
}

/* Begins the slot's next request, or ends it. */
static void slot_next(struct slot *slot)
{
    struct run *run = slot->run;
    pthread_mutex_lock(&run->lock);
    bool goes_on = has_more(run);
    if (goes_on) {
        slot->op = next_op(run);
        run->figures.started++;
        run->in_flight++;
    }
    pthread_mutex_unlock(&run->lock);
    int rc = goes_on ? submit(slot) : 0;
    pthread_mutex_lock(&run->lock);
    if (rc != 0) {
        run->in_flight--;
        run->error = rc;
    }
    /* With the last one the run ends, and its memory may be gone. */
    run->active -= !goes_on || rc != 0;
    pthread_cond_signal(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

static int outcome(const struct slot *slot)
{
    const struct run *run = slot->run;
    ssize_t result = limpet_completion_result(slot->completion);
    if (run->mode == BENCH_REMOVE)
        return result == -ENOENT || result == 0 ? 0 : (int)result;
    if (result < 0 || run->mode == BENCH_MODE_WRITE)
        return (int)result;
    if ((uint64_t)result != run->op_size)
        return -EIO;
    return run->verify && !is_as_written(run, slot) ? -EIO : 0;
}

static void slot_done(struct limpet_completion *completion, void *arg)
{
    struct slot *slot = arg;
    struct run *run = slot->run;
    double took = monotonic_seconds() - slot->begun;
    int error = outcome(slot);
    limpet_completion_release(completion);
    pthread_mutex_lock(&run->lock);
    struct bench_figures *f = &run->figures;
    if (error == 0) {
        f->latency_min = f->finished == 0 || took < f->latency_min ? took : f->latency_min;
        f->latency_max = took > f->latency_max ? took : f->latency_max;
        f->latency_sum += took;
        f->latency_squares += took * took;
        f->latency_last = took;
        f->finished++;
    } else if (run->error == 0) {
        run->error = error;
    }
    run->in_flight--;
    pthread_mutex_unlock(&run->lock);
    slot_next(slot);
}

/* ---- A run ---- */

static void wait_until(struct run *run, double when)
{
    struct timespec until = {.tv_sec = (time_t)when};
    until.tv_nsec = (long)((when - (double)until.tv_sec) * 1e9);
    pthread_cond_timedwait(&run->changed, &run->lock, &until);
}

/* Until all slots have ended; with a line each second. */
static double watch(struct run *run, struct bench_report *report, double begun)
{
    double last = begun;
    pthread_mutex_lock(&run->lock);
    if (report != NULL)
        report_line(report, &run->figures, run->in_flight, 0, 0);
    while (run->active > 0) {
        double next = last + 1;
        wait_until(run, next);
        double now = monotonic_seconds();
        if (report == NULL || now < next || !has_more(run)) {
            last = now >= next ? now : last;
            continue;
        }
        report_line(report, &run->figures, run->in_flight, now - begun, now - last);
        last = now;
    }
    double end = monotonic_seconds();
    if (report != NULL && report->bandwidth.n == 0)
        report_line(report, &run->figures, 0, end - begun, end - begun);
    pthread_mutex_unlock(&run->lock);
    return end - begun;
}

static void init_wait(struct run *run)
{
    pthread_condattr_t attributes;
    pthread_mutex_init(&run->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&run->changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

/* Returns the seconds that it took; run->error is what went wrong. */
static double run_all(struct run *run, uint64_t depth, double seconds, struct bench_report *report)
{
    struct slot *slots = calloc(depth, sizeof *slots);
    if (slots == NULL)
        fail(ENOMEM, "out of memory");
    init_wait(run);
    run->active = depth;
    for (uint64_t i = 0; i < depth; i++) {
        slots[i].run = run;
        slots[i].data = run->op_size > 0 ? malloc(run->op_size) : NULL;
        if (run->op_size > 0 && slots[i].data == NULL)
            fail(ENOMEM, "no memory for %" PRIu64 " requests of %s", depth,
                 size_text(run->op_size));
        if (run->pattern != NULL)
            memcpy(slots[i].data, run->pattern, run->op_size);
    }
    double begun = monotonic_seconds();
    run->deadline = seconds > 0 ? begun + seconds : 0;
    for (uint64_t i = 0; i < depth; i++)
        slot_next(&slots[i]);
    double took = watch(run, report, begun);
    for (uint64_t i = 0; i < depth; i++)
        free(slots[i].data);
    free(slots);
    return took;
}

/* ---- What a write has left ---- */

static int note_write(const struct run *run, const char *name)
{
    json_t *json = json_pack("{s:s, s:I, s:I, s:I}", "prefix", run->prefix, "op_size",
                             (json_int_t)run->op_size, "object_size", (json_int_t)run->object_size,
                             "ops", (json_int_t)run->figures.finished);
    char *text = json_dumps(json, JSON_COMPACT);
    int rc = text != NULL ? limpet_write_full(run->pool, name, text, strlen(text)) : -ENOMEM;
    free(text);
    json_decref(json);
    return rc;
}

static bool note_is_sound(const struct run *run)
{
    return run->op_size > 0 && run->object_size >= run->op_size &&
           run->object_size % run->op_size == 0 && run->object_size <= LIMPET_OBJECT_SIZE_MAX &&
           run->prefix[0] != 0;
}

/* -ENOENT: no write has left anything; -EINVAL: the object is something else. */
static int note_read(struct run *run, const char *name)
{
    char text[NOTE_MAX];
    ssize_t got = limpet_read(run->pool, name, text, sizeof text, 0);
    if (got < 0)
        return (int)got;
    json_t *json = json_loadb(text, (size_t)got, 0, NULL);
    snprintf(run->prefix, sizeof run->prefix, "%s", json_text(json, "prefix"));
    run->op_size = json_number(json, "op_size");
    run->object_size = json_number(json, "object_size");
    run->n_ops = json_number(json, "ops");
    json_decref(json);
    return note_is_sound(run) ? 0 : -EINVAL;
}

/* Removes the objects of a run that did n_ops operations. *removed: how many there were. */
static int remove_run(struct run *run, uint64_t depth, uint64_t *removed)
{
    uint64_t each = run->object_size / run->op_size;
    struct run removing = {.pool = run->pool, .mode = BENCH_REMOVE};
    snprintf(removing.prefix, sizeof removing.prefix, "%s", run->prefix);
    removing.n_ops = (run->n_ops + each - 1) / each;
    *removed = removing.n_ops;
    if (removing.n_ops > 0)
        run_all(&removing, depth, 0, NULL);
    return removing.error;
}

/* ---- bench ---- */

static void set_sizes(struct cli *cli, struct run *run)
{
    run->op_size = cli_number(cli, "block-size", 4 * 1024 * 1024, 1, LIMPET_OBJECT_SIZE_MAX);
    run->object_size = cli_number(cli, "object-size", run->op_size, 1, LIMPET_OBJECT_SIZE_MAX);
    if (run->object_size % run->op_size != 0)
        fail(EINVAL, "--object-size must be a multiple of the --block-size");
    run->n_ops =
        cli_number(cli, "max-objects", 0, 0, UINT32_MAX) * (run->object_size / run->op_size);
}

static void make_pattern(struct run *run)
{
    run->random = (uint64_t)getpid() << 32 ^ UINT64_C(0x9e3779b97f4a7c15);
    run->pattern = malloc(run->op_size);
    if (run->pattern == NULL)
        fail(ENOMEM, "no memory for %s", size_text(run->op_size));
    for (uint64_t i = 0; i < run->op_size; i++)
        run->pattern[i] = (uint8_t)(i * 31 + (i >> 8));
}

static void prepare_write(struct cli *cli, struct run *run)
{
    char host[65] = "";
    gethostname(host, sizeof host - 1);
    set_sizes(cli, run);
    snprintf(run->prefix, sizeof run->prefix, "%s_%s_%d", DEFAULT_PREFIX, host, (int)getpid());
}

static void prepare_read(struct run *run, const char *name)
{
    int rc = note_read(run, name);
    if (rc == 0 && run->n_ops == 0)
        rc = -ENOENT;
    if (rc == -ENOENT)
        fail(rc, "Must write data before running a read benchmark! 'bench ... write --no-cleanup' "
                 "does it");
    if (rc != 0)
        fail(rc, "error during benchmark: %s: %s", name, error_phrase(rc));
}

/* After a write: note it for later, or remove its objects. */
static int finish_write(struct cli *cli, struct run *run, const char *name, uint64_t depth)
{
    FILE *out = cli->format == FORMAT_PLAIN ? stdout : stderr;
    if (cli_has(cli, "no-cleanup"))
        return note_write(run, name);
    double begun = monotonic_seconds();
    uint64_t removed = 0;
    /* Also those of which the answer is not known. */
    run->n_ops = run->figures.started;
    fprintf(out, "Cleaning up (deleting benchmark objects)\n");
    int rc = remove_run(run, depth, &removed);
    fprintf(out, "Removed %" PRIu64 " objects\n", removed);
    fprintf(out, "Clean up completed and total clean up time :%.6g\n", monotonic_seconds() - begun);
    return rc;
}

static enum bench_mode mode_of(const char *word)
{
    if (strcmp(word, "write") == 0)
        return BENCH_MODE_WRITE;
    if (strcmp(word, "seq") == 0)
        return BENCH_MODE_SEQ;
    if (strcmp(word, "rand") == 0)
        return BENCH_MODE_RAND;
    fail(EINVAL, "'%s' is none of write, seq and rand", word);
}

int rados_bench(struct cli *cli)
{
    uint64_t seconds = cli_parse_number(cli, "seconds", cli->words[0], false, 1, UINT32_MAX);
    uint64_t depth = cli_number(cli, "concurrent-ios", 16, 1, DEPTH_MAX);
    const char *name = cli_text(cli, "run-name", DEFAULT_RUN);
    struct run run = {.mode = (int)mode_of(cli->words[1]),
                      .verify = !cli_has(cli, "no-verify"),
                      .pool = rados_pool(cli)};
    if (run.mode == BENCH_MODE_WRITE)
        prepare_write(cli, &run);
    else
        prepare_read(&run, name);
    make_pattern(&run);
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    struct bench_report report = {.cli = cli,
                                  .mode = (enum bench_mode)run.mode,
                                  .concurrent = depth,
                                  .op_size = run.op_size,
                                  .object_size = run.object_size,
                                  .seconds = seconds,
                                  .max_objects = cli_number(cli, "max-objects", 0, 0, UINT32_MAX),
                                  .prefix = run.prefix,
                                  .show_time = cli_has(cli, "show-time")};
    report_begin(&report);
    double took = run_all(&run, depth, (double)seconds, &report);
    int error = run.error;
    report_end(&report, &run.figures, took);
    if (run.mode == BENCH_MODE_WRITE) {
        int rc = finish_write(cli, &run, name, depth);
        error = error == 0 ? rc : error;
    }
    free(run.pattern);
    limpet_pool_close(run.pool);
    return error == 0 ? 0 : complain(error, "error during benchmark: %s", error_phrase(error));
}

/* ---- cleanup ---- */

/* All objects of the namespace whose names begin with a prefix. */
static int remove_prefix(struct limpet_pool *pool, const char *prefix, uint64_t *removed)
{
    struct limpet_list *list;
    struct limpet_list_entry entry;
    size_t len = strlen(prefix);
    int rc = limpet_list_open(pool, false, &list);
    if (rc != 0)
        return rc;
    while ((rc = limpet_list_next(list, &entry)) == 0) {
        if (entry.name_len < len || memcmp(entry.name, prefix, len) != 0)
            continue;
        if (++*removed == 1)
            printf("Warning: using slow linear search\n");
        rc = limpet_pool_set_locator(pool, entry.locator);
        if (rc == 0)
            rc = limpet_remove(pool, entry.name);
        if (rc != 0 && rc != -ENOENT)
            break;
    }
    limpet_list_close(list);
    return rc == -ENOENT ? 0 : rc;
}

int rados_cleanup(struct cli *cli)
{
    struct run run = {.pool = rados_pool(cli)};
    const char *name = cli_text(cli, "run-name", DEFAULT_RUN);
    const char *prefix = cli_text(cli, "prefix", NULL);
    uint64_t removed = 0, depth = cli_number(cli, "concurrent-ios", 16, 1, DEPTH_MAX);
    if (prefix != NULL && prefix[0] == 0)
        fail(EINVAL, "--prefix is empty: 'limpet rados purge' removes all objects of a pool");
    int rc = prefix == NULL ? note_read(&run, name) : -ENOENT;
    if (rc == 0) {
        rc = remove_run(&run, depth, &removed);
        if (rc == 0)
            rc = limpet_remove(run.pool, name);
    } else if (rc == -ENOENT) {
        rc = remove_prefix(run.pool, prefix != NULL ? prefix : DEFAULT_PREFIX, &removed);
    }
    if (removed > 0)
        printf("Removed %" PRIu64 " objects\n", removed);
    limpet_pool_close(run.pool);
    return rc == 0 ? 0 : complain(rc, "error during cleanup: %s", error_phrase(rc));
}
