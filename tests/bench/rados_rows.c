/*
 * What calls of librados cost a program: built against Ceph's header, it runs on either library.
 *
 *     rados_rows CONFIG POOL SECONDS ROW...
 *
 * Prints a line of JSON for each row. tests/bench/rados runs it on Limpet, and beside a real Ceph.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <rados/librados.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum {
    SIZE = 4096,
    OBJECT = 4 << 20,
    DEPTH = 64,
    WATCHERS = 10,
    LISTED = 100000,
    SAMPLES_MAX = 1 << 20,
};

static uint32_t samples[SAMPLES_MAX]; /* Nanoseconds. */
static size_t sample_count;
static char data[SIZE];

static void die(const char *what, int error)
{
    fprintf(stderr, "rados_rows: %s: %s\n", what, strerror(error < 0 ? -error : error));
    exit(1);
}

static void must(const char *what, int error)
{
    if (error < 0)
        die(what, error);
}

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* Of all threads of this process, in user space and in the kernel. */
static uint64_t cpu_ns(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return ((uint64_t)usage.ru_utime.tv_sec + (uint64_t)usage.ru_stime.tv_sec) * 1000000000 +
           ((uint64_t)usage.ru_utime.tv_usec + (uint64_t)usage.ru_stime.tv_usec) * 1000;
}

static void sample(uint64_t ns)
{
    if (sample_count < SAMPLES_MAX)
        samples[sample_count++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

static int smaller(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static double percentile_us(size_t percent)
{
    size_t at = sample_count * percent / 100;
    return sample_count == 0 ? 0 : (double)samples[at] / 1e3;
}

static void print_row(const char *row, uint64_t count, uint64_t ns, uint64_t cpu)
{
    qsort(samples, sample_count, sizeof(samples[0]), smaller);
    printf("{\"row\": \"%s\", \"count\": %" PRIu64 ", \"per_second\": %.0f, \"p50_us\": %.1f, "
           "\"p99_us\": %.1f, \"client_cpu_us\": %.2f}\n",
           row, count, (double)count * 1e9 / (double)ns, percentile_us(50), percentile_us(99),
           (double)cpu / 1e3 / (double)count);
    fflush(stdout);
}

/* ---- One after the other ---- */

struct row {
    rados_ioctx_t io;
    uint64_t seconds;
};

typedef void one_fn(rados_ioctx_t io, uint64_t number);

static void one_write(rados_ioctx_t io, uint64_t number)
{
    char name[32];
    snprintf(name, sizeof(name), "sequential.%" PRIu64, number / (OBJECT / SIZE) % 16);
    must("write", rados_write(io, name, data, SIZE, number % (OBJECT / SIZE) * SIZE));
}

static void one_omap_set(rados_ioctx_t io, uint64_t number)
{
    char name[32], key[32];
    const char *keys[] = {key}, *values[] = {data};
    const size_t lens[] = {100};
    snprintf(name, sizeof(name), "map.%" PRIu64, number % 64);
    snprintf(key, sizeof(key), "key.%" PRIu64, number / 64 % 1000);
    rados_write_op_t op = rados_create_write_op();
    rados_write_op_omap_set(op, keys, values, lens, 1);
    must("omap_set", rados_write_op_operate(op, io, name, NULL, 0));
    rados_release_write_op(op);
}

static void one_read(rados_ioctx_t io, uint64_t number)
{
    char name[32], into[SIZE];
    snprintf(name, sizeof(name), "sequential.%" PRIu64, number % 4);
    int n = rados_read(io, name, into, SIZE, 0);
    must("read", n == -ENOENT ? 0 : n);
}

static void one_snap(rados_ioctx_t io, uint64_t number)
{
    (void)number;
    rados_snap_t id;
    must("selfmanaged_snap_create", rados_ioctx_selfmanaged_snap_create(io, &id));
    must("selfmanaged_snap_remove", rados_ioctx_selfmanaged_snap_remove(io, id));
}

static void run_one_by_one(const char *name, struct row row, one_fn *one)
{
    for (uint64_t i = 0; i < 50; i++)
        one(row.io, i);
    uint64_t begin = now_ns(), cpu = cpu_ns(), end = begin + row.seconds * 1000000000, count = 0;
    for (uint64_t before = begin, after; before < end; before = after) {
        one(row.io, count++);
        after = now_ns();
        sample(after - before);
    }
    print_row(name, count, now_ns() - begin, cpu_ns() - cpu);
}

/* ---- Many at a time, from one thread ---- */

/* As rados bench does it: a callback says which one is done, and the thread submits the next. */
struct pipe {
    rados_ioctx_t io;
    const char *prefix;
    size_t len;
    bool timed;
    struct pipe_slot {
        struct pipe *pipe;
        rados_completion_t done;
        uint64_t begun;
        struct pipe_slot *next; /* In the list of those that are done. */
    } slots[DEPTH];
    pthread_mutex_t lock;
    pthread_cond_t signal;
    struct pipe_slot *ended;
};

static void slot_done(rados_completion_t done, void *arg)
{
    struct pipe_slot *slot = arg;
    struct pipe *pipe = slot->pipe;
    (void)done;
    pthread_mutex_lock(&pipe->lock);
    slot->next = pipe->ended;
    pipe->ended = slot;
    pthread_cond_signal(&pipe->signal);
    pthread_mutex_unlock(&pipe->lock);
}

static void submit(struct pipe_slot *slot, uint64_t number)
{
    char name[64];
    snprintf(name, sizeof(name), "%s.%" PRIu64, slot->pipe->prefix, number);
    must("create completion", rados_aio_create_completion2(slot, slot_done, &slot->done));
    slot->begun = now_ns();
    must("aio_write", rados_aio_write(slot->pipe->io, name, slot->done, data, slot->pipe->len, 0));
}

/* Waits for one that is done. */
static struct pipe_slot *reap(struct pipe *pipe)
{
    pthread_mutex_lock(&pipe->lock);
    while (pipe->ended == NULL)
        pthread_cond_wait(&pipe->signal, &pipe->lock);
    struct pipe_slot *slot = pipe->ended;
    pipe->ended = slot->next;
    pthread_mutex_unlock(&pipe->lock);
    must("aio_write", rados_aio_get_return_value(slot->done));
    if (pipe->timed)
        sample(now_ns() - slot->begun);
    rados_aio_release(slot->done);
    return slot;
}

/* Until `end`, or `most` writes. */
static uint64_t run_pipe(struct pipe *pipe, uint64_t end, uint64_t most)
{
    uint64_t count = 0, left = 0;
    pthread_mutex_init(&pipe->lock, NULL);
    pthread_cond_init(&pipe->signal, NULL);
    for (; count < DEPTH && count < most; count++, left++) {
        pipe->slots[count].pipe = pipe;
        submit(&pipe->slots[count], count);
    }
    for (; left > 0; left--) {
        struct pipe_slot *slot = reap(pipe);
        if (count < most && now_ns() < end) {
            submit(slot, count++);
            left++;
        }
    }
    return count;
}

static void run_async(struct row row)
{
    char prefix[32];
    snprintf(prefix, sizeof(prefix), "async.%" PRIu64, now_ns());
    static struct pipe pipe;
    pipe = (struct pipe){.io = row.io, .prefix = prefix, .len = SIZE, .timed = true};
    uint64_t begin = now_ns(), cpu = cpu_ns();
    uint64_t count = run_pipe(&pipe, begin + row.seconds * 1000000000, UINT64_MAX);
    print_row("async-write", count, now_ns() - begin, cpu_ns() - cpu);
}

/* Without callbacks: the oldest is waited for, and replaced. */
static void run_ring(struct row row)
{
    static struct ring_slot {
        rados_completion_t done;
        uint64_t begun;
    } slots[DEPTH];
    char name[64];
    uint64_t begin = now_ns(), cpu = cpu_ns(), end = begin + row.seconds * 1000000000;
    uint64_t submitted = 0, ended = 0;
    do {
        if (submitted - ended == DEPTH || (now_ns() >= end && ended < submitted)) {
            struct ring_slot *oldest = &slots[ended++ % DEPTH];
            must("wait", rados_aio_wait_for_complete(oldest->done));
            must("aio_write", rados_aio_get_return_value(oldest->done));
            sample(now_ns() - oldest->begun);
            rados_aio_release(oldest->done);
        }
        if (now_ns() < end) {
            struct ring_slot *slot = &slots[submitted % DEPTH];
            snprintf(name, sizeof(name), "ring.%" PRIu64 ".%" PRIu64, begin, submitted++);
            must("create completion", rados_aio_create_completion2(NULL, NULL, &slot->done));
            slot->begun = now_ns();
            must("aio_write", rados_aio_write(row.io, name, slot->done, data, SIZE, 0));
        }
    } while (ended < submitted);
    print_row("async-ring", ended, now_ns() - begin, cpu_ns() - cpu);
}

/*
 * The same without another thread: a callback submits the next one. There is one thread of
 * callbacks, so that nothing else changes the pipe meanwhile.
 */
static uint64_t chain_end, chain_next;
static unsigned chain_left;

static void chain_done(rados_completion_t done, void *arg)
{
    struct pipe_slot *slot = arg;
    struct pipe *pipe = slot->pipe;
    char name[64];
    must("aio_write", rados_aio_get_return_value(done));
    uint64_t now = now_ns();
    sample(now - slot->begun);
    rados_aio_release(done);
    if (now >= chain_end) {
        pthread_mutex_lock(&pipe->lock);
        chain_left--;
        pthread_cond_signal(&pipe->signal);
        pthread_mutex_unlock(&pipe->lock);
        return;
    }
    snprintf(name, sizeof(name), "%s.%" PRIu64, pipe->prefix, chain_next++);
    must("create completion", rados_aio_create_completion2(slot, chain_done, &slot->done));
    slot->begun = now;
    must("aio_write", rados_aio_write(pipe->io, name, slot->done, data, SIZE, 0));
}

static void run_chain(struct row row)
{
    static struct pipe pipe;
    char prefix[32], name[64];
    snprintf(prefix, sizeof(prefix), "chain.%" PRIu64, now_ns());
    pipe = (struct pipe){.io = row.io, .prefix = prefix};
    pthread_mutex_init(&pipe.lock, NULL);
    pthread_cond_init(&pipe.signal, NULL);
    uint64_t begin = now_ns(), cpu = cpu_ns();
    chain_end = begin + row.seconds * 1000000000;
    chain_next = DEPTH;
    chain_left = DEPTH;
    for (size_t i = 0; i < DEPTH; i++) {
        struct pipe_slot *slot = &pipe.slots[i];
        slot->pipe = &pipe;
        snprintf(name, sizeof(name), "%s.%zu", prefix, i);
        must("create completion", rados_aio_create_completion2(slot, chain_done, &slot->done));
        slot->begun = now_ns();
        must("aio_write", rados_aio_write(row.io, name, slot->done, data, SIZE, 0));
    }
    pthread_mutex_lock(&pipe.lock);
    while (chain_left > 0)
        pthread_cond_wait(&pipe.signal, &pipe.lock);
    pthread_mutex_unlock(&pipe.lock);
    print_row("async-chain", chain_next, now_ns() - begin, cpu_ns() - cpu);
}

/* ---- Listings ---- */

static uint64_t list_all(rados_ioctx_t io)
{
    rados_list_ctx_t list;
    const char *name;
    uint64_t count = 0;
    int error;
    must("list", rados_nobjects_list_open(io, &list));
    while ((error = rados_nobjects_list_next(list, &name, NULL, NULL)) == 0)
        count++;
    rados_nobjects_list_close(list);
    if (error != -ENOENT)
        die("list", error);
    return count;
}

static void run_list(struct row row)
{
    static struct pipe pipe;
    pipe = (struct pipe){.io = row.io, .prefix = "listed", .len = 16};
    run_pipe(&pipe, UINT64_MAX, LISTED);
    uint64_t begin = now_ns(), cpu = cpu_ns(), count = 0;
    do {
        uint64_t listed = list_all(row.io);
        if (listed < LISTED)
            die("the listing is short", EIO);
        count += listed;
    } while (now_ns() - begin < row.seconds * 1000000000);
    print_row("list", count, now_ns() - begin, cpu_ns() - cpu);
}

/* ---- Notifies ---- */

struct watcher {
    rados_t cluster;
    rados_ioctx_t io;
    uint64_t cookie;
};

static void told(void *arg, uint64_t notify_id, uint64_t handle, uint64_t from, void *text,
                 size_t len)
{
    struct watcher *watcher = arg;
    (void)from, (void)text, (void)len;
    rados_notify_ack(watcher->io, "watched", notify_id, handle, NULL, 0);
}

static void lost(void *arg, uint64_t handle, int error)
{
    (void)arg, (void)handle;
    die("a watch was lost", error);
}

static void open_cluster(const char *config, const char *pool, rados_t *cluster, rados_ioctx_t *io)
{
    must("create", rados_create(cluster, NULL));
    must(config, rados_conf_read_file(*cluster, config));
    must("connect", rados_connect(*cluster));
    must(pool, rados_ioctx_create(*cluster, pool, io));
}

static void run_notify(struct row row, const char *config, const char *pool)
{
    struct watcher watchers[WATCHERS];
    must("write", rados_write_full(row.io, "watched", "", 0));
    for (size_t i = 0; i < WATCHERS; i++) {
        struct watcher *watcher = &watchers[i];
        open_cluster(config, pool, &watcher->cluster, &watcher->io);
        must("watch",
             rados_watch3(watcher->io, "watched", &watcher->cookie, told, lost, 30, watcher));
    }
    uint64_t begin = now_ns(), cpu = cpu_ns(), end = begin + row.seconds * 1000000000, count = 0;
    for (uint64_t before = begin, after; before < end; before = after, count++) {
        char *answers = NULL;
        size_t len = 0;
        must("notify", rados_notify2(row.io, "watched", "x", 1, 5000, &answers, &len));
        rados_buffer_free(answers);
        after = now_ns();
        sample(after - before);
    }
    print_row("notify", count, now_ns() - begin, cpu_ns() - cpu);
    for (size_t i = 0; i < WATCHERS; i++) {
        rados_unwatch2(watchers[i].io, watchers[i].cookie);
        rados_ioctx_destroy(watchers[i].io);
        rados_shutdown(watchers[i].cluster);
    }
}

int main(int argc, char **argv)
{
    if (argc < 5)
        die("usage: rados_rows CONFIG POOL SECONDS ROW...", EINVAL);
    rados_t cluster;
    struct row row = {.seconds = strtoull(argv[3], NULL, 10)};
    open_cluster(argv[1], argv[2], &cluster, &row.io);
    for (int i = 4; i < argc; i++) {
        sample_count = 0;
        if (strcmp(argv[i], "sync-write") == 0)
            run_one_by_one(argv[i], row, one_write);
        else if (strcmp(argv[i], "sync-read") == 0)
            run_one_by_one(argv[i], row, one_read);
        else if (strcmp(argv[i], "omap-set") == 0)
            run_one_by_one(argv[i], row, one_omap_set);
        else if (strcmp(argv[i], "snapshot") == 0)
            run_one_by_one(argv[i], row, one_snap);
        else if (strcmp(argv[i], "async-write") == 0)
            run_async(row);
        else if (strcmp(argv[i], "async-ring") == 0)
            run_ring(row);
        else if (strcmp(argv[i], "async-chain") == 0)
            run_chain(row);
        else if (strcmp(argv[i], "list") == 0)
            run_list(row);
        else if (strcmp(argv[i], "notify") == 0)
            run_notify(row, argv[1], argv[2]);
        else
            die(argv[i], EINVAL);
    }
    rados_ioctx_destroy(row.io);
    rados_shutdown(cluster);
    return 0;
}
