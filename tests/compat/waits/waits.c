/*
 * Many ways to wait for asynchronous requests, at the same time: threads that wait for their
 * oldest, that look whether it is complete, that flush, that have callbacks, that call
 * synchronously. No wake-up may be lost: nothing takes longer than the time that is given. Runs on
 * Ceph's library, too.
 *
 *     waits CONF POOL SECONDS LONGEST_MS
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <rados/librados.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { DEPTH = 16, LEN = 512 };

static rados_ioctx_t io;
static uint64_t end_ns, longest_ns;
static atomic_ullong longest_seen, count, flushes;

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void must(const char *what, int rc)
{
    if (rc == 0)
        return;
    fprintf(stderr, "waits: %s: %s\n", what, strerror(-rc));
    exit(1);
}

static void took(const char *how, uint64_t begun)
{
    unsigned long long ns = now_ns() - begun, seen = atomic_load(&longest_seen);
    while (ns > seen && !atomic_compare_exchange_weak(&longest_seen, &seen, ns))
        ;
    atomic_fetch_add(&count, 1);
    if (ns <= longest_ns)
        return;
    fprintf(stderr, "waits: %s took %llu ms\n", how, ns / 1000000);
    exit(1);
}

struct one {
    rados_completion_t done;
    uint64_t begun;
};

static void submit(struct one *one, const char *name, rados_callback_t callback, void *arg)
{
    static const char data[LEN];
    must("create completion", rados_aio_create_completion2(arg, callback, &one->done));
    one->begun = now_ns();
    must("aio_write", rados_aio_write(io, name, one->done, data, LEN, 0));
}

static void end(struct one *one, const char *how)
{
    must(how, rados_aio_get_return_value(one->done));
    took(how, one->begun);
    rados_aio_release(one->done);
}

/* How the oldest of a ring is waited for. */
enum way { WAIT, WAIT_CALLED, LOOK, FLUSH, MIXED };

static void wait_for(struct one *one, enum way way)
{
    switch (way) {
    case WAIT:
        must("wait", rados_aio_wait_for_complete(one->done));
        break;
    case WAIT_CALLED:
        must("wait", rados_aio_wait_for_complete_and_cb(one->done));
        break;
    case LOOK:
        while (!rados_aio_is_complete(one->done))
            usleep(50);
        break;
    default:
        must("flush", rados_aio_flush(io));
        atomic_fetch_add(&flushes, 1);
        if (!rados_aio_is_complete(one->done))
            must("flush leaves a write", -EBUSY);
    }
}

static void *ring(void *arg)
{
    static atomic_uint threads;
    enum way way = *(enum way *)arg;
    struct one slots[DEPTH];
    char name[64];
    unsigned thread = atomic_fetch_add(&threads, 1);
    unsigned random = thread * 2654435761u;
    unsigned submitted = 0, ended = 0;
    while (now_ns() < end_ns || ended < submitted) {
        random = random * 1103515245u + 12345;
        if (now_ns() < end_ns && submitted - ended < 1 + (random >> 16) % DEPTH) {
            snprintf(name, sizeof name, "waits.%u.%u", thread, submitted % 100);
            submit(&slots[submitted++ % DEPTH], name, NULL, NULL);
            continue;
        }
        if (ended == submitted)
            continue;
        struct one *oldest = &slots[ended++ % DEPTH];
        enum way now = way == MIXED ? (enum way)((random >> 8) % MIXED) : way;
        /* Nobody waits for a while: somebody must still bring the answer. */
        if (way == MIXED && (random >> 24) % 64 == 0) {
            usleep(20000);
            now = LOOK;
        }
        wait_for(oldest, now);
        end(oldest, now == WAIT ? "wait_for_complete" : now == LOOK ? "is_complete" : "a wait");
    }
    return NULL;
}

struct chain {
    struct one one;
    char name[32];
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool over;
};

static void chain_done(rados_completion_t done, void *arg)
{
    struct chain *chain = arg;
    (void)done;
    end(&chain->one, "a callback");
    if (now_ns() < end_ns) {
        submit(&chain->one, chain->name, chain_done, chain);
        return;
    }
    pthread_mutex_lock(&chain->lock);
    chain->over = true;
    pthread_cond_signal(&chain->ended);
    pthread_mutex_unlock(&chain->lock);
}

static void *callbacks(void *arg)
{
    static struct chain chains[4];
    (void)arg;
    for (int i = 0; i < 4; i++) {
        chains[i].lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
        chains[i].ended = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
        snprintf(chains[i].name, sizeof chains[i].name, "chain.%d", i);
        submit(&chains[i].one, chains[i].name, chain_done, &chains[i]);
    }
    for (int i = 0; i < 4; i++) {
        pthread_mutex_lock(&chains[i].lock);
        while (!chains[i].over)
            pthread_cond_wait(&chains[i].ended, &chains[i].lock);
        pthread_mutex_unlock(&chains[i].lock);
    }
    return NULL;
}

static void *synchronous(void *arg)
{
    char data[LEN] = {0};
    (void)arg;
    while (now_ns() < end_ns) {
        uint64_t begun = now_ns();
        must("write", rados_write(io, "synchronous", data, LEN, 0));
        if (rados_read(io, "synchronous", data, LEN, 0) != LEN)
            must("read", -EIO);
        took("synchronous calls", begun);
    }
    return NULL;
}

/*
 * Who has waited again and again, and then only looks, has its answer soon, too, also when nothing
 * else was under way. A few may be late: the machine may be busy.
 */
static void look_after_waits(void)
{
    enum { TRIES = 60, WAITS = 8, LATE_MAX = 3 };
    int late = 0;
    for (int i = 0; i < TRIES * (WAITS + 1); i++) {
        struct one one;
        bool looks = i % (WAITS + 1) == WAITS;
        submit(&one, "looked at", NULL, NULL);
        wait_for(&one, looks ? LOOK : WAIT);
        late += looks && now_ns() - one.begun > 500 * 1000000ull;
        end(&one, "a look after waits");
    }
    if (late > LATE_MAX)
        must("answers come late to who does not wait", -EBUSY);
}

/* Two threads wait for one request, and one of them ends the cluster as soon as it sees the end. */
static void *wait_once(void *arg)
{
    must("wait", rados_aio_wait_for_complete(arg));
    return NULL;
}

static void end_while_others_wait(rados_t cluster)
{
    pthread_t thread;
    struct one one;
    submit(&one, "last", NULL, NULL);
    must("thread", -pthread_create(&thread, NULL, wait_once, one.done));
    while (!rados_aio_is_complete(one.done))
        ;
    rados_ioctx_destroy(io);
    rados_shutdown(cluster);
    pthread_join(thread, NULL);
    end(&one, "the last one");
}

int main(int argc, char **argv)
{
    static enum way ways[] = {WAIT, WAIT, WAIT_CALLED, LOOK, FLUSH, MIXED, MIXED};
    enum { WAYS = sizeof ways / sizeof ways[0], PHASES = 4 };
    rados_t cluster;
    if (argc != 5) {
        fprintf(stderr, "usage: waits CONF POOL SECONDS LONGEST_MS\n");
        return 2;
    }
    uint64_t seconds = strtoull(argv[3], NULL, 10);
    longest_ns = strtoull(argv[4], NULL, 10) * 1000000;
    must("create", rados_create(&cluster, "admin"));
    must(argv[1], rados_conf_read_file(cluster, argv[1]));
    must("connect", rados_connect(cluster));
    must(argv[2], rados_ioctx_create(cluster, argv[2], &io));
    /* One thread in all ways; all ways of rings; beside synchronous calls; beside callbacks. */
    for (int phase = 0; phase < PHASES; phase++) {
        pthread_t threads[WAYS + 2];
        int n = 0;
        end_ns = now_ns() + seconds * 1000000000 / PHASES;
        for (int i = phase == 0 ? WAYS - 1 : 0; i < WAYS; i++)
            must("thread", -pthread_create(&threads[n++], NULL, ring, &ways[i]));
        if (phase >= 2)
            must("thread", -pthread_create(&threads[n++], NULL, synchronous, NULL));
        if (phase == 3)
            must("thread", -pthread_create(&threads[n++], NULL, callbacks, NULL));
        while (n > 0)
            pthread_join(threads[--n], NULL);
        /* It waits for what was there, though others go on. */
        if (phase > 0 && atomic_exchange(&flushes, 0) < 2 * DEPTH)
            must("flushes end only when all is done", -EBUSY);
    }
    look_after_waits();
    end_while_others_wait(cluster);
    printf("%llu requests, the longest took %llu ms\n", atomic_load(&count),
           atomic_load(&longest_seen) / 1000000);
    return 0;
}
