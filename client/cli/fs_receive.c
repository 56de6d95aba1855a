/*
 * Taking the kernel's requests, near to whoever makes them.
 *
 * Waking a thread on another processor takes longer than most requests do, and each request is two
 * of that: ours, and the caller's with the answer. So while one thread makes requests one after the
 * other, the thread that takes them follows it: it stays on the caller's processor, under the
 * policy SCHED_IDLE. The scheduler counts a processor that runs nothing else as idle, wakes the
 * caller where it was, and lets it run at once; it has made the next request when ours runs again.
 *
 * The price is that anything else on that processor goes first. A watchdog sees to it that nobody
 * waits for that: when our thread was ready to run and did not for a tick, when there are several
 * callers or none, it is an ordinary thread again.
 *
 * A thread that takes the requests of one processor only (fs_ring.c) stays there in any case.
 */
#define FUSE_USE_VERSION 35
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/fs.h"

enum {
    CLOSE_US = 400,      /* Requests that follow an answer so soon are of one who waits for it. */
    ENOUGH = 16,         /* So many of them in a row. */
    FAR_US = 25,         /* A caller on the same processor is usually faster. */
    LOOK_AFTER_MIN = 4,  /* Where the caller is, is looked at once in so many requests */
    LOOK_AFTER = 64,     /* at most, if it seems far, and at least. */
    STRANGERS_MAX = 4,   /* Among those: more requests of others. */
    TICK_MS = 2,         /* Of the watchdog. */
    QUIET_TICKS = 10,    /* Without a request. */
    AGAIN_MIN_MS = 20,   /* After it was in somebody's way, it does not follow for a while, */
    AGAIN_MAX_MS = 2000, /* twice as long each time, */
    GOOD_MS = 200,       /* unless it has gone well for so long. */
    STAT_MAX = 1024,
    STAT_STATE = 1, /* In /proc/PID/stat, words after the name. */
    STAT_PROCESSOR = 37,
};

struct fs_receiver {
    struct fuse_session *session;
    cpu_set_t all;        /* Processors that this process may use. */
    cpu_set_t processors; /* Those that this thread may, as an ordinary one. */
    int home;             /* The only one of them, or -1. */
    pid_t tid;
    bool possible, watched;
    pthread_t watchdog;
    _Atomic uint64_t taken; /* Requests. */

    /* The thread's. */
    pid_t caller;
    uint64_t answered_ns;
    unsigned in_a_row, looks, strangers;
    int processor;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool ending;
    _Atomic bool follows;
    uint64_t since_ns, not_before_ns, again_ms;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- What the kernel tells of threads ---- */

/* A word of /proc/TID/stat, in `text`; NULL: there is no such thread. */
static const char *stat_word(pid_t tid, unsigned number, char text[STAT_MAX])
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    ssize_t len = read(fd, text, STAT_MAX - 1);
    close(fd);
    text[len > 0 ? len : 0] = 0;
    const char *at = strrchr(text, ')');
    for (unsigned i = 0; at != NULL && i < number; i++)
        at = strchr(at + 1, ' ');
    return at != NULL ? at + 1 : NULL;
}

static int processor_of(pid_t tid)
{
    char text[STAT_MAX];
    const char *word = stat_word(tid, STAT_PROCESSOR, text);
    return word != NULL ? (int)strtol(word, NULL, 10) : -1;
}

static bool is_ready_to_run(pid_t tid)
{
    char text[STAT_MAX];
    const char *word = stat_word(tid, STAT_STATE, text);
    return word != NULL && *word == 'R';
}

/* ---- Following, and not ---- */

static int set_policy(pid_t tid, int policy)
{
    const struct sched_param param = {.sched_priority = 0};
    return sched_setscheduler(tid, policy, &param) == 0 ? 0 : -errno;
}

static bool go_to(struct fs_receiver *receiver, int processor)
{
    cpu_set_t one, others = receiver->all;
    if (processor < 0 || processor >= CPU_SETSIZE ||
        !CPU_ISSET((unsigned)processor, &receiver->processors))
        return false;
    CPU_ZERO(&one);
    CPU_SET((unsigned)processor, &one);
    receiver->processor = processor;
    /* The watchdog would make the caller move. */
    CPU_CLR((unsigned)processor, &others);
    int rc = pthread_setaffinity_np(receiver->watchdog, sizeof others, &others);
    (void)rc; /* There is only one processor. */
    return sched_setaffinity(receiver->tid, sizeof one, &one) == 0;
}

/* With the lock. */
static void stop_following(struct fs_receiver *receiver, bool in_the_way)
{
    uint64_t now = now_ns();
    if (!receiver->follows)
        return;
    receiver->follows = false;
    int rc = set_policy(receiver->tid, SCHED_OTHER);
    if (rc != 0 ||
        sched_setaffinity(receiver->tid, sizeof receiver->processors, &receiver->processors) != 0)
        receiver->possible = false;
    if (!in_the_way)
        return;
    if (now - receiver->since_ns > GOOD_MS * UINT64_C(1000000))
        receiver->again_ms = AGAIN_MIN_MS;
    receiver->not_before_ns = now + receiver->again_ms * 1000000;
    receiver->again_ms *= 2;
    if (receiver->again_ms > AGAIN_MAX_MS)
        receiver->again_ms = AGAIN_MAX_MS;
}

static void start_following(struct fs_receiver *receiver)
{
    pthread_mutex_lock(&receiver->lock);
    if (receiver->possible && now_ns() >= receiver->not_before_ns &&
        go_to(receiver, receiver->home >= 0 ? receiver->home : processor_of(receiver->caller))) {
        receiver->follows = true;
        receiver->since_ns = now_ns();
        receiver->looks = receiver->strangers = 0;
        if (set_policy(receiver->tid, SCHED_IDLE) != 0)
            stop_following(receiver, true);
        pthread_cond_signal(&receiver->changed);
    }
    receiver->in_a_row = 0;
    pthread_mutex_unlock(&receiver->lock);
}

/* Once in a while: the caller may be elsewhere by now, or somebody else. */
static void look_after(struct fs_receiver *receiver)
{
    int processor = receiver->home >= 0 ? receiver->home : processor_of(receiver->caller);
    pthread_mutex_lock(&receiver->lock);
    if (receiver->strangers > STRANGERS_MAX)
        stop_following(receiver, true);
    else if (receiver->follows && processor != receiver->processor && !go_to(receiver, processor))
        stop_following(receiver, false);
    receiver->looks = receiver->strangers = 0;
    pthread_mutex_unlock(&receiver->lock);
}

void fs_receiver_took(struct fs_receiver *receiver, const void *request)
{
    struct fuse_in_header header;
    memcpy(&header, request, sizeof header);
    pid_t caller = (pid_t)header.pid;
    atomic_fetch_add_explicit(&receiver->taken, 1, memory_order_relaxed);
    if (caller == 0)
        return; /* The kernel's own. */
    if (receiver->follows) {
        receiver->strangers += caller != receiver->caller;
        bool far = now_ns() - receiver->answered_ns > FAR_US * UINT64_C(1000);
        if (++receiver->looks >= (far ? LOOK_AFTER_MIN : LOOK_AFTER))
            look_after(receiver);
        return;
    }
    bool soon =
        caller == receiver->caller && now_ns() - receiver->answered_ns < CLOSE_US * UINT64_C(1000);
    receiver->caller = caller;
    receiver->in_a_row = soon ? receiver->in_a_row + 1 : 0;
    if (receiver->in_a_row >= ENOUGH)
        start_following(receiver);
}

/* ---- The watchdog ---- */

/* With the lock, which is released for a tick. Who has it then may be the one that cannot run. */
static void wait_for_tick(struct fs_receiver *receiver)
{
    const struct timespec tick = {.tv_nsec = TICK_MS * 1000000};
    pthread_mutex_unlock(&receiver->lock);
    nanosleep(&tick, NULL);
    if (pthread_mutex_trylock(&receiver->lock) == 0)
        return;
    int rc = set_policy(receiver->tid, SCHED_OTHER);
    pthread_mutex_lock(&receiver->lock);
    receiver->possible = receiver->possible && rc == 0;
    stop_following(receiver, true);
}

static void *watch_over(void *arg)
{
    struct fs_receiver *receiver = arg;
    uint64_t seen = 0;
    unsigned quiet = 0;
    pthread_mutex_lock(&receiver->lock);
    while (!receiver->ending) {
        if (!receiver->follows) {
            pthread_cond_wait(&receiver->changed, &receiver->lock);
            seen = quiet = 0;
            continue;
        }
        uint64_t taken = receiver->taken;
        quiet = taken == seen ? quiet + 1 : 0;
        seen = taken;
        if (quiet > 0 && is_ready_to_run(receiver->tid))
            stop_following(receiver, true);
        else if (quiet > QUIET_TICKS)
            stop_following(receiver, false);
        wait_for_tick(receiver);
    }
    pthread_mutex_unlock(&receiver->lock);
    return NULL;
}

/* Not everybody may come back from SCHED_IDLE. */
static bool may_change_policy(void)
{
    return set_policy(0, SCHED_IDLE) == 0 && set_policy(0, SCHED_OTHER) == 0;
}

static void *try_policy(void *arg)
{
    bool *possible = arg;
    *possible = may_change_policy();
    return NULL;
}

/* Without that processor, it is wherever it may be. */
static void stay_at_home(struct fs_receiver *receiver, int processor)
{
    cpu_set_t one;
    receiver->home = -1;
    if (processor < 0 || processor >= CPU_SETSIZE ||
        !CPU_ISSET((unsigned)processor, &receiver->all))
        return;
    CPU_ZERO(&one);
    CPU_SET((unsigned)processor, &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0)
        return;
    receiver->processors = one;
    receiver->home = processor;
}

int fs_receiver_create(struct fuse_session *session, bool follows, int processor,
                       struct fs_receiver **out)
{
    pthread_t trial;
    struct fs_receiver *receiver = calloc(1, sizeof *receiver);
    if (receiver == NULL)
        return -ENOMEM;
    receiver->session = session;
    receiver->tid = gettid();
    receiver->again_ms = AGAIN_MIN_MS;
    pthread_mutex_init(&receiver->lock, NULL);
    pthread_cond_init(&receiver->changed, NULL);
    if (follows && pthread_create(&trial, NULL, try_policy, &receiver->possible) == 0)
        pthread_join(trial, NULL);
    if (sched_getaffinity(0, sizeof receiver->all, &receiver->all) != 0)
        receiver->possible = false;
    receiver->processors = receiver->all;
    if (receiver->possible && pthread_create(&receiver->watchdog, NULL, watch_over, receiver) != 0)
        receiver->possible = false;
    receiver->watched = receiver->possible;
    stay_at_home(receiver, processor);
    *out = receiver;
    return 0;
}

void fs_receiver_destroy(struct fs_receiver *receiver)
{
    pthread_mutex_lock(&receiver->lock);
    stop_following(receiver, false);
    receiver->ending = true;
    pthread_cond_signal(&receiver->changed);
    pthread_mutex_unlock(&receiver->lock);
    if (receiver->watched)
        pthread_join(receiver->watchdog, NULL);
    pthread_cond_destroy(&receiver->changed);
    pthread_mutex_destroy(&receiver->lock);
    free(receiver);
}

void fs_receiver_waits(struct fs_receiver *receiver)
{
    receiver->answered_ns = now_ns();
}

int fs_receive(struct fs_receiver *receiver, struct fuse_buf *buffer)
{
    fs_receiver_waits(receiver);
    int n = fuse_session_receive_buf(receiver->session, buffer);
    if (n >= (int)sizeof(struct fuse_in_header))
        fs_receiver_took(receiver, buffer->mem);
    return n;
}
