/*
 * Limits of a handle's requests: a bucket of tokens for each limit, which fills at its rate. A
 * request passes when no bucket that concerns it is empty, and takes its cost out of them, also
 * more than there is: so large requests pass, and those after them wait the longer. Who does not
 * pass stands in line, and a thread that lives as long as the line lets them go on in order.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/image/image.h"
#include "common/config.h"
#include "common/image_options.h"

static const uint64_t wait_min_ns = 500000, wait_max_ns = 100000000;

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static double cap(uint64_t rate, uint64_t burst)
{
    double most = burst > 0 ? (double)burst : (double)rate / 10;
    return most > 1 ? most : 1;
}

static void bucket_fill(struct image_bucket *bucket, uint64_t elapsed_ns)
{
    if (bucket->rate == 0)
        return;
    bucket->tokens += (double)bucket->rate * (double)elapsed_ns / 1e9;
    if (bucket->tokens > bucket->cap)
        bucket->tokens = bucket->cap;
}

static void fill(struct image_qos *qos)
{
    uint64_t now = now_ns();
    for (int i = 0; i < QOS_BUCKETS; i++)
        bucket_fill(&qos->buckets[i], now - qos->filled_ns);
    qos->filled_ns = now;
}

/* What a request takes out of a bucket; 0: nothing of it concerns it. */
static double cost_of(const struct io *io, int bucket)
{
    bool concerns = bucket % 3 == 0 || (bucket % 3 == 1) == (io->kind == IO_READ);
    /* Discarding moves no bytes. */
    uint64_t bytes = io->kind == IO_DISCARD ? 1 : io->len;
    return !concerns ? 0 : bucket < 3 ? 1 : (double)bytes;
}

/* How long until it may pass; 0: it has, and was paid for. */
static uint64_t pay(struct image_qos *qos, const struct io *io)
{
    double longest = 0;
    fill(qos);
    for (int i = 0; i < QOS_BUCKETS; i++) {
        const struct image_bucket *bucket = &qos->buckets[i];
        if (bucket->rate == 0 || cost_of(io, i) <= 0 || bucket->tokens > 0)
            continue;
        double wait = -bucket->tokens / (double)bucket->rate * 1e9;
        longest = wait > longest ? wait : longest;
        longest = longest > 1 ? longest : 1;
    }
    for (int i = 0; i < QOS_BUCKETS && longest <= 0; i++)
        qos->buckets[i].tokens -= cost_of(io, i);
    return (uint64_t)longest;
}

static void pace_task(void *arg)
{
    struct limpet_image *image = arg;
    struct io *io;
    pthread_mutex_lock(&image->lock);
    while ((io = TAILQ_FIRST(&image->qos.line)) != NULL) {
        uint64_t wait = image->dead != 0 ? 0 : pay(&image->qos, io);
        if (wait == 0)
            TAILQ_REMOVE(&image->qos.line, io, link);
        pthread_mutex_unlock(&image->lock);
        if (wait == 0) {
            io_admitted(io);
        } else {
            wait = wait < wait_min_ns ? wait_min_ns : wait > wait_max_ns ? wait_max_ns : wait;
            struct timespec ts = {.tv_nsec = (long)wait};
            nanosleep(&ts, NULL);
        }
        pthread_mutex_lock(&image->lock);
    }
    image->qos.pacing = false;
    pthread_mutex_unlock(&image->lock);
}

bool qos_admit(struct limpet_image *image, const struct io *io)
{
    struct image_qos *qos = &image->qos;
    if (!qos->limited || io->inside)
        return true;
    return TAILQ_EMPTY(&qos->line) && pay(qos, io) == 0;
}

bool qos_line_up(struct limpet_image *image, struct io *io)
{
    struct image_qos *qos = &image->qos;
    if (!qos->pacing && task_run(image, pace_task, image) != 0)
        return false;
    qos->pacing = true;
    TAILQ_INSERT_TAIL(&qos->line, io, link);
    return true;
}

/* With the lock. */
static void set_limits(struct limpet_image *image, const struct limpet_image_qos *limits)
{
    const uint64_t rates[QOS_BUCKETS] = {limits->iops,  limits->read_iops,  limits->write_iops,
                                         limits->bytes, limits->read_bytes, limits->write_bytes};
    const uint64_t bursts[QOS_BUCKETS] = {limits->iops_burst,       limits->read_iops_burst,
                                          limits->write_iops_burst, limits->bytes_burst,
                                          limits->read_bytes_burst, limits->write_bytes_burst};
    struct image_qos *qos = &image->qos;
    qos->limits = *limits;
    qos->limited = false;
    qos->filled_ns = now_ns();
    for (int i = 0; i < QOS_BUCKETS; i++) {
        struct image_bucket *bucket = &qos->buckets[i];
        bucket->rate = rates[i];
        bucket->cap = cap(rates[i], bursts[i] > 0 ? bursts[i] : bursts[i - i % 3]);
        bucket->tokens = bucket->cap;
        qos->limited = qos->limited || rates[i] > 0;
    }
}

int limpet_image_set_qos(struct limpet_image *image, const struct limpet_image_qos *limits)
{
    pthread_mutex_lock(&image->lock);
    image->qos.own = true;
    set_limits(image, limits);
    pthread_mutex_unlock(&image->lock);
    return 0;
}

/* ---- Options of the pool and the image ---- */

#define OPTION_PREFIX IMAGE_KEY_META IMAGE_OPTION_PREFIX "rbd_qos_"

enum { LIMITS = 12, OPTIONS_MAX = 64 };

static const struct {
    const char *name;
    size_t place; /* In struct limpet_image_qos. */
} known[LIMITS] = {
    {"iops_limit", offsetof(struct limpet_image_qos, iops)},
    {"read_iops_limit", offsetof(struct limpet_image_qos, read_iops)},
    {"write_iops_limit", offsetof(struct limpet_image_qos, write_iops)},
    {"bps_limit", offsetof(struct limpet_image_qos, bytes)},
    {"read_bps_limit", offsetof(struct limpet_image_qos, read_bytes)},
    {"write_bps_limit", offsetof(struct limpet_image_qos, write_bytes)},
    {"iops_burst", offsetof(struct limpet_image_qos, iops_burst)},
    {"read_iops_burst", offsetof(struct limpet_image_qos, read_iops_burst)},
    {"write_iops_burst", offsetof(struct limpet_image_qos, write_iops_burst)},
    {"bps_burst", offsetof(struct limpet_image_qos, bytes_burst)},
    {"read_bps_burst", offsetof(struct limpet_image_qos, read_bytes_burst)},
    {"write_bps_burst", offsetof(struct limpet_image_qos, write_bytes_burst)},
};

static uint64_t *limit_at(struct limpet_image_qos *limits, size_t i)
{
    return (uint64_t *)((char *)limits + known[i].place);
}

/* A number, or one with K, M, G, T; what is neither is no limit. */
static int take_option(const struct limpet_pair *pair, void *arg)
{
    struct image_qos_options *options = arg;
    char name[64], value[32];
    size_t skip = strlen(OPTION_PREFIX);
    snprintf(name, sizeof name, "%.*s", (int)(pair->key_len - skip),
             (const char *)pair->key + skip);
    snprintf(value, sizeof value, "%.*s", (int)pair->value_len, (const char *)pair->value);
    uint64_t number;
    for (size_t i = 0; i < LIMITS; i++) {
        if (strcmp(known[i].name, name) != 0)
            continue;
        *limit_at(&options->limits, i) = config_parse_size(value, &number) == 0 ? number : 0;
        options->set |= 1u << i;
    }
    return 0;
}

int qos_check_option(const char *key, const void *value, size_t len)
{
    char text[32];
    uint64_t number;
    const char *prefix = &OPTION_PREFIX[strlen(IMAGE_KEY_META)];
    size_t skip = strlen(prefix);
    if (strncmp(key, prefix, skip) != 0)
        return 0;
    snprintf(text, sizeof text, "%.*s", (int)(len < sizeof text ? len : sizeof text - 1),
             (const char *)value);
    for (size_t i = 0; i < LIMITS; i++) {
        if (strcmp(known[i].name, key + skip) == 0)
            return len >= sizeof text || config_parse_size(text, &number) != 0 ? -EINVAL : 0;
    }
    return 0;
}

/* With the lock: the image's options count more than its pool's. What is as it was goes on. */
static void apply_options(struct limpet_image *image)
{
    struct image_qos *qos = &image->qos;
    struct limpet_image_qos limits = qos->of_pool.limits;
    for (size_t i = 0; i < LIMITS; i++) {
        if ((qos->of_image.set & 1u << i) != 0)
            *limit_at(&limits, i) = *limit_at(&qos->of_image.limits, i);
    }
    if (!qos->own && memcmp(&limits, &qos->limits, sizeof limits) != 0)
        set_limits(image, &limits);
}

int qos_load_pool(struct limpet_image *image)
{
    struct image_qos_options options = {0};
    int rc = omap_walk(image->meta, IMAGE_POOL_INFO, OPTION_PREFIX, take_option, &options);
    pthread_mutex_lock(&image->lock);
    if (rc == 0)
        image->qos.of_pool = options;
    apply_options(image);
    pthread_mutex_unlock(&image->lock);
    return rc;
}

int qos_reading_step(struct limpet_op *op, struct limpet_pairs **options)
{
    return limpet_op_omap_list(op, NULL, 0, OPTION_PREFIX, strlen(OPTION_PREFIX), OPTIONS_MAX,
                               options, NULL, NULL);
}

void qos_take_options(struct limpet_image *image, struct limpet_pairs *options)
{
    struct limpet_pair pair;
    image->qos.of_image = (struct image_qos_options){0};
    while (options != NULL && limpet_pairs_next(options, &pair) == 0)
        (void)!take_option(&pair, &image->qos.of_image);
    limpet_pairs_destroy(options);
    apply_options(image);
}
