/*
 * Writers for measurements in phases: a fixed number of small writes is always under way, at
 * random places of objects that exist, while something else happens to the cluster.
 *
 *     bench_load --pool P --prefix X --objects N [--object-size S] [--size S] [--depth D] [--make]
 *
 * --make writes the objects and ends. Otherwise each line on stdin ends a phase: one line of JSON
 * tells what was done since the line before. The end of stdin ends the program. LIMPET_CONF names
 * the cluster. Bytes changed counts each place once, however often it was written in the phase.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/limpet.h"
#include "common/metrics.h"

enum { DEPTH_MAX = 1024 };

struct slot {
    struct load *load;
    uint64_t begun_ns; /* 0: nothing is under way. */
    uint64_t number;   /* Of the object, while they are made. */
};

struct load {
    struct limpet_pool *pool;
    const char *prefix;
    uint64_t objects, object_size, size;
    uint32_t depth;
    uint8_t *data;
    struct slot slots[DEPTH_MAX];

    pthread_mutex_t lock; /* Of all that follows. */
    pthread_cond_t ended;
    bool making, over;
    uint64_t made;
    uint32_t running;
    int error;
    uint64_t random;
    /* Of the phase. */
    uint64_t since_ns, last_ns, longest_gap_ns;
    uint64_t changed;
    uint64_t *bits; /* A place each. */
    struct histogram latency;
};

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static uint64_t next_random(struct load *load)
{
    load->random ^= load->random << 13;
    load->random ^= load->random >> 7;
    load->random ^= load->random << 17;
    return load->random;
}

static void die(const char *what, int error)
{
    fprintf(stderr, "bench_load: %s: %s\n", what, limpet_error_text(error));
    exit(1);
}

static void note_place(struct load *load, uint64_t place)
{
    uint64_t bit = UINT64_C(1) << (place % 64);
    load->changed += (load->bits[place / 64] & bit) == 0;
    load->bits[place / 64] |= bit;
}

/* ---- One write ---- */

static void slot_done(struct limpet_completion *completion, void *arg);

/* With the lock. Returns false when this slot has nothing more to do. */
static bool slot_next(struct slot *slot)
{
    struct load *load = slot->load;
    struct limpet_completion *completion;
    char name[256];
    if (load->error || load->over || (load->making && load->made == load->objects))
        return false;
    uint64_t places = load->object_size / load->size;
    uint64_t place = next_random(load) % (load->objects * places);
    uint64_t object = load->making ? load->made++ : place / places;
    snprintf(name, sizeof name, "%s%" PRIu64, load->prefix, object);
    int error = limpet_completion_create(slot_done, slot, &completion);
    if (!error) {
        slot->begun_ns = now_ns();
        uint64_t cut = next_random(load) % load->size;
        error = load->making ? limpet_aio_write_full(load->pool, name, completion, load->data + cut,
                                                     load->object_size)
                             : limpet_aio_write(load->pool, name, completion, load->data + cut,
                                                load->size, place % places * load->size);
        limpet_completion_release(completion);
    }
    if (!error && !load->making)
        note_place(load, place);
    load->error = error;
    return !error;
}

static void account(struct slot *slot)
{
    struct load *load = slot->load;
    uint64_t now = now_ns();
    histogram_record(&load->latency, now - slot->begun_ns);
    if (now - load->last_ns > load->longest_gap_ns)
        load->longest_gap_ns = now - load->last_ns;
    load->last_ns = now;
    slot->begun_ns = 0;
}

static void slot_done(struct limpet_completion *completion, void *arg)
{
    struct slot *slot = arg;
    struct load *load = slot->load;
    ssize_t result = limpet_completion_result(completion);
    pthread_mutex_lock(&load->lock);
    account(slot);
    if (result < 0)
        load->error = (int)result;
    if (!slot_next(slot)) {
        load->running--;
        pthread_cond_signal(&load->ended);
    }
    pthread_mutex_unlock(&load->lock);
}

static void start(struct load *load)
{
    pthread_mutex_lock(&load->lock);
    load->since_ns = load->last_ns = now_ns();
    for (uint32_t i = 0; i < load->depth; i++) {
        load->slots[i].load = load;
        load->running += slot_next(&load->slots[i]);
    }
    pthread_mutex_unlock(&load->lock);
}

static void wait_end(struct load *load)
{
    pthread_mutex_lock(&load->lock);
    while (load->running > 0)
        pthread_cond_wait(&load->ended, &load->lock);
    pthread_mutex_unlock(&load->lock);
    if (load->error)
        die("a write failed", load->error);
}

/* ---- Phases ---- */

/* What is under way already counts with the time that it has taken so far. */
static uint64_t longest_ns(const struct load *load, uint64_t now)
{
    uint64_t longest = load->latency.max;
    for (uint32_t i = 0; i < load->depth; i++) {
        uint64_t begun = load->slots[i].begun_ns;
        if (begun != 0 && now - begun > longest)
            longest = now - begun;
    }
    return longest;
}

static void phase_end(struct load *load)
{
    pthread_mutex_lock(&load->lock);
    uint64_t now = now_ns();
    double seconds = (double)(now - load->since_ns) / 1e9;
    uint64_t gap = now - load->last_ns;
    if (gap < load->longest_gap_ns)
        gap = load->longest_gap_ns;
    printf("{\"seconds\": %.3f, \"ops\": %" PRIu64 ", \"iops\": %.1f, \"mean_us\": %.0f, "
           "\"p50_us\": %.0f, \"p99_us\": %.0f, \"longest_ms\": %.1f, \"longest_gap_ms\": %.1f, "
           "\"bytes_changed\": %" PRIu64 "}\n",
           seconds, load->latency.count, (double)load->latency.count / seconds,
           histogram_mean(&load->latency) / 1e3,
           (double)histogram_percentile(&load->latency, 50) / 1e3,
           (double)histogram_percentile(&load->latency, 99) / 1e3,
           (double)longest_ns(load, now) / 1e6, (double)gap / 1e6, load->changed * load->size);
    fflush(stdout);
    histogram_reset(&load->latency);
    load->since_ns = load->last_ns = now;
    load->longest_gap_ns = load->changed = 0;
    memset(load->bits, 0, load->objects * (load->object_size / load->size) / 8 + 8);
    pthread_mutex_unlock(&load->lock);
}

static uint64_t parse_size(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 10);
    return *end == 'K' ? value << 10 : *end == 'M' ? value << 20 : value;
}

static void parse(int argc, char **argv, struct load *load, const char **pool)
{
    static const struct option options[] = {
        {"pool", required_argument, NULL, 'p'},    {"prefix", required_argument, NULL, 'x'},
        {"objects", required_argument, NULL, 'n'}, {"object-size", required_argument, NULL, 'o'},
        {"size", required_argument, NULL, 's'},    {"depth", required_argument, NULL, 'd'},
        {"make", no_argument, NULL, 'm'},          {0}};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'p':
            *pool = optarg;
            break;
        case 'x':
            load->prefix = optarg;
            break;
        case 'n':
            load->objects = parse_size(optarg);
            break;
        case 'o':
            load->object_size = parse_size(optarg);
            break;
        case 's':
            load->size = parse_size(optarg);
            break;
        case 'd':
            load->depth = (uint32_t)parse_size(optarg);
            break;
        case 'm':
            load->making = true;
            break;
        default:
            exit(2);
        }
    }
    if (!*pool || !load->prefix || load->objects == 0 || load->depth == 0 ||
        load->depth > DEPTH_MAX || load->size == 0 || load->object_size < load->size) {
        fprintf(stderr,
                "bench_load: --pool, --prefix and --objects are needed; --depth is 1 to "
                "%d, --size at most --object-size\n",
                DEPTH_MAX);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    static struct load load = {.object_size = 4 << 20,
                               .size = 4096,
                               .depth = 16,
                               .random = UINT64_C(0x9e3779b97f4a7c15),
                               .lock = PTHREAD_MUTEX_INITIALIZER,
                               .ended = PTHREAD_COND_INITIALIZER};
    struct limpet_cluster *cluster;
    const char *pool = NULL;
    char line[64];
    parse(argc, argv, &load, &pool);
    load.random ^= now_ns() << 1;
    load.data = malloc(load.object_size + load.size);
    load.bits = calloc(1, load.objects * (load.object_size / load.size) / 8 + 8);
    if (!load.data || !load.bits)
        die("memory", -ENOMEM);
    for (uint64_t i = 0; i < load.object_size + load.size; i++)
        load.data[i] = (uint8_t)next_random(&load);
    int error = limpet_cluster_create(&cluster, NULL);
    if (!error)
        error = limpet_cluster_config_file(cluster, NULL);
    if (!error)
        error = limpet_cluster_connect(cluster);
    if (!error)
        error = limpet_pool_open(cluster, pool, &load.pool);
    if (error)
        die("connecting", error);
    start(&load);
    while (!load.making && fgets(line, sizeof line, stdin))
        phase_end(&load);
    pthread_mutex_lock(&load.lock);
    load.over = !load.making;
    pthread_mutex_unlock(&load.lock);
    wait_end(&load);
    limpet_pool_close(load.pool);
    limpet_cluster_destroy(cluster);
    free(load.data);
    free(load.bits);
    return 0;
}
