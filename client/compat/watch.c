/*
 * Watches.
 *
 * What callers hold of a watch is its cookie, so there is a table of all watches of the process,
 * few enough to be walked. Callbacks find their watch by a key of its own, not by a pointer: one
 * that was about to be made may begin while another thread ends the watch. The table's lock is held
 * over what a watch is needed for, and never while users' functions run or something is waited for.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/compat/compat.h"

typedef void (*rados_watchcb_t)(uint8_t opcode, uint64_t ver, void *arg);
typedef void (*rados_watchcb2_t)(void *arg, uint64_t notify_id, uint64_t handle,
                                 uint64_t notifier_id, void *data, size_t len);
typedef void (*rados_watcherrcb_t)(void *arg, uint64_t cookie, int error);

/* How many notifies of a watch can wait for their answers; older ones are forgotten. */
enum { NOTIFIES_MAX = 1024 };

/* liblimpet names a notify by two numbers, librados by one, which is made of them. */
struct notify {
    uint64_t notifier, id;
};

struct compat_watch {
    struct compat_watch *next;
    uintptr_t key;
    struct compat_cluster *cluster;
    struct limpet_watch *watch; /* NULL: it is about to begin. */
    uint64_t cookie;
    rados_watchcb2_t notified;
    rados_watcherrcb_t lost;
    rados_watchcb_t notified_old; /* Of rados_watch(): answers by itself. */
    void *arg;
    uint64_t n_notifies; /* That came; the last ones are known. */
    struct notify *notifies;
};

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct compat_watch *table;
static uintptr_t next_key = 1;

/* ---- The table; its lock is held ---- */

static struct compat_watch *find_key(uintptr_t key)
{
    struct compat_watch *watch = table;
    while (watch != NULL && watch->key != key)
        watch = watch->next;
    return watch;
}

static struct compat_watch *find_cookie(const struct compat_cluster *cluster, uint64_t cookie)
{
    struct compat_watch *watch = table;
    while (watch != NULL && (watch->cluster != cluster || watch->cookie != cookie))
        watch = watch->next;
    return cookie != 0 ? watch : NULL;
}

static void take_out(struct compat_watch *watch)
{
    struct compat_watch **at = &table;
    while (*at != watch)
        at = &(*at)->next;
    *at = watch->next;
}

static void destroy(struct compat_watch *watch)
{
    free(watch->notifies);
    free(watch);
}

/* ---- Notifies of a watch ---- */

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 31)) * UINT64_C(0x9e3779b97f4a7c15);
    return x ^ (x >> 32);
}

/* The same for one that comes again. */
static uint64_t notify_number(const struct notify *notify)
{
    return mix(notify->notifier) + mix(notify->id + 1);
}

static uint64_t note_notify(struct compat_watch *watch, uint64_t notifier, uint64_t id)
{
    struct notify *notify = &watch->notifies[watch->n_notifies++ % NOTIFIES_MAX];
    *notify = (struct notify){notifier, id};
    return notify_number(notify);
}

static const struct notify *find_notify(const struct compat_watch *watch, uint64_t number)
{
    for (uint64_t i = watch->n_notifies; i > 0 && watch->n_notifies - i < NOTIFIES_MAX; i--) {
        const struct notify *notify = &watch->notifies[(i - 1) % NOTIFIES_MAX];
        if (notify_number(notify) == number)
            return notify;
    }
    return NULL;
}

/* ---- Callbacks, on the library's thread ---- */

/* Finds the watch and completes it, since callbacks may come before its beginning has returned. */
static bool find_for_call(struct limpet_watch *handle, void *arg, struct compat_watch **out)
{
    struct compat_watch *watch = find_key((uintptr_t)arg);
    if (watch == NULL)
        return false;
    watch->watch = handle;
    watch->cookie = limpet_watch_cookie(handle);
    *out = watch;
    return true;
}

static void on_notified(struct limpet_watch *handle, void *arg, uint64_t notifier, uint64_t id,
                        const void *data, size_t len)
{
    struct compat_watch *watch, copy = {0};
    uint64_t number = 0;
    pthread_mutex_lock(&table_lock);
    if (find_for_call(handle, arg, &watch)) {
        number = note_notify(watch, notifier, id);
        copy = *watch;
    }
    pthread_mutex_unlock(&table_lock);
    if (copy.notified_old != NULL) {
        copy.notified_old(1, 0, copy.arg);
        int unheard = limpet_notify_ack(handle, notifier, id, NULL, 0);
        (void)unheard; /* The notifier learns of it by its time-out. */
    } else if (copy.notified != NULL) {
        copy.notified(copy.arg, number, copy.cookie, notifier, (void *)(uintptr_t)data, len);
    }
}

static void on_lost(struct limpet_watch *handle, void *arg, int error)
{
    struct compat_watch *watch, copy = {0};
    pthread_mutex_lock(&table_lock);
    if (find_for_call(handle, arg, &watch))
        copy = *watch;
    pthread_mutex_unlock(&table_lock);
    if (copy.lost != NULL)
        copy.lost(copy.arg, copy.cookie, error);
}

/* ---- Beginning and ending ---- */

static const struct limpet_watch_calls calls = {.notified = on_notified, .lost = on_lost};

static int begin(struct compat_ioctx *io, const char *object, uint64_t *cookie, uint32_t seconds,
                 const struct compat_watch *model)
{
    struct limpet_watch *handle;
    struct compat_watch *watch = calloc(1, sizeof *watch);
    /* Only what changes is watched. */
    int rc = io->at_snapshot ? -EINVAL : ioctx_error(io);
    if (watch == NULL)
        return -ENOMEM;
    *watch = *model;
    watch->cluster = io->cluster;
    watch->notifies = calloc(NOTIFIES_MAX, sizeof *watch->notifies);
    if (watch->notifies == NULL)
        rc = -ENOMEM;
    if (rc != 0) {
        destroy(watch);
        return rc;
    }
    pthread_mutex_lock(&table_lock);
    uintptr_t key = watch->key = next_key++;
    watch->next = table;
    table = watch;
    pthread_mutex_unlock(&table_lock);
    uint32_t timeout_ms = seconds < UINT32_MAX / 1000 ? seconds * 1000 : UINT32_MAX;
    rc = limpet_watch(io->pool, object, timeout_ms, &calls, (void *)key, &handle);
    pthread_mutex_lock(&table_lock);
    if (rc == 0) {
        watch->watch = handle;
        *cookie = watch->cookie = limpet_watch_cookie(handle);
    } else {
        take_out(watch);
        destroy(watch);
    }
    pthread_mutex_unlock(&table_lock);
    return rc;
}

EXPORT int rados_watch3(void *io, const char *object, uint64_t *cookie, rados_watchcb2_t notified,
                        rados_watcherrcb_t lost, uint32_t timeout_s, void *arg)
{
    struct compat_watch model = {.notified = notified, .lost = lost, .arg = arg};
    return begin(io, object, cookie, timeout_s, &model);
}

EXPORT int rados_watch2(void *io, const char *object, uint64_t *cookie, rados_watchcb2_t notified,
                        rados_watcherrcb_t lost, void *arg)
{
    return rados_watch3(io, object, cookie, notified, lost, 0, arg);
}

EXPORT int rados_watch(void *io, const char *object, uint64_t version, uint64_t *cookie,
                       rados_watchcb_t notified, void *arg)
{
    struct compat_watch model = {.notified_old = notified, .arg = arg};
    (void)version;
    return begin(io, object, cookie, 0, &model);
}

EXPORT int rados_unwatch2(void *ioctx, uint64_t cookie)
{
    struct compat_ioctx *io = ioctx;
    pthread_mutex_lock(&table_lock);
    struct compat_watch *watch = find_cookie(io->cluster, cookie);
    if (watch != NULL)
        take_out(watch);
    pthread_mutex_unlock(&table_lock);
    if (watch == NULL)
        return -ENOTCONN;
    int rc = limpet_unwatch(watch->watch);
    destroy(watch);
    return rc;
}

EXPORT int rados_unwatch(void *io, const char *object, uint64_t cookie)
{
    (void)object;
    return rados_unwatch2(io, cookie);
}

EXPORT int rados_watch_check(void *ioctx, uint64_t cookie)
{
    struct compat_ioctx *io = ioctx;
    pthread_mutex_lock(&table_lock);
    struct compat_watch *watch = find_cookie(io->cluster, cookie);
    int64_t age = watch != NULL ? limpet_watch_check(watch->watch) : -ENOTCONN;
    pthread_mutex_unlock(&table_lock);
    return age > INT_MAX ? INT_MAX : (int)age;
}

EXPORT int rados_watch_flush(void *cluster)
{
    return limpet_watch_flush(((struct compat_cluster *)cluster)->cluster);
}

/* ---- The same, not waiting for the result ---- */

struct watch_task {
    struct compat_cluster *cluster;
    struct compat_ioctx *io;
    struct compat_watch model;
    uint64_t *out, cookie;
    uint32_t timeout_s;
    char object[];
};

static int run_watch(void *arg)
{
    struct watch_task *task = arg;
    return begin(task->io, task->object, task->out, task->timeout_s, &task->model);
}

static int run_unwatch(void *arg)
{
    struct watch_task *task = arg;
    return rados_unwatch2(task->io, task->cookie);
}

static int run_watch_flush(void *arg)
{
    return rados_watch_flush(((struct watch_task *)arg)->cluster);
}

static struct watch_task *make_task(struct compat_cluster *cluster, struct compat_ioctx *io,
                                    const char *object)
{
    size_t len = strlen(object) + 1;
    struct watch_task *task = calloc(1, sizeof *task + len);
    if (task == NULL)
        return NULL;
    task->cluster = cluster;
    task->io = io;
    memcpy(task->object, object, len);
    return task;
}

/* *cookie is written before the completion. */
EXPORT int rados_aio_watch2(void *ioctx, const char *object, void *completion, uint64_t *cookie,
                            rados_watchcb2_t notified, rados_watcherrcb_t lost, uint32_t timeout_s,
                            void *arg)
{
    struct compat_ioctx *io = ioctx;
    if (object == NULL || completion == NULL || cookie == NULL || notified == NULL)
        return -EINVAL;
    struct watch_task *task = make_task(io->cluster, io, object);
    if (task != NULL) {
        task->model = (struct compat_watch){.notified = notified, .lost = lost, .arg = arg};
        task->out = cookie;
        task->timeout_s = timeout_s;
    }
    return compat_submit_task(completion, io->cluster, io, run_watch, task, false);
}

EXPORT int rados_aio_watch(void *io, const char *object, void *completion, uint64_t *cookie,
                           rados_watchcb2_t notified, rados_watcherrcb_t lost, void *arg)
{
    return rados_aio_watch2(io, object, completion, cookie, notified, lost, 0, arg);
}

EXPORT int rados_aio_unwatch(void *ioctx, uint64_t cookie, void *completion)
{
    struct compat_ioctx *io = ioctx;
    struct watch_task *task = make_task(io->cluster, io, "");
    if (task != NULL)
        task->cookie = cookie;
    return compat_submit_task(completion, io->cluster, io, run_unwatch, task, false);
}

EXPORT int rados_aio_watch_flush(void *cluster, void *completion)
{
    return compat_submit_task(completion, cluster, NULL, run_watch_flush,
                              make_task(cluster, NULL, ""), false);
}

/* ---- The end of a cluster ---- */

struct compat_watch *compat_watches_take(struct compat_cluster *cluster)
{
    struct compat_watch *taken = NULL;
    pthread_mutex_lock(&table_lock);
    for (struct compat_watch **at = &table; *at != NULL;) {
        struct compat_watch *watch = *at;
        if (watch->cluster == cluster) {
            *at = watch->next;
            watch->next = taken;
            taken = watch;
        } else {
            at = &watch->next;
        }
    }
    pthread_mutex_unlock(&table_lock);
    return taken;
}

void compat_watches_release(struct compat_watch *watches)
{
    while (watches != NULL) {
        struct compat_watch *next = watches->next;
        limpet_watch_release(watches->watch);
        destroy(watches);
        watches = next;
    }
}

/* ---- Answering ---- */

/* As there, nobody is told of an answer that comes too late, or to nothing. */
EXPORT int rados_notify_ack(void *ioctx, const char *object, uint64_t number, uint64_t cookie,
                            const char *buf, int len)
{
    struct compat_ioctx *io = ioctx;
    int rc = 0;
    (void)object;
    if (len < 0)
        return -EINVAL;
    pthread_mutex_lock(&table_lock);
    struct compat_watch *watch = find_cookie(io->cluster, cookie);
    const struct notify *notify = watch != NULL ? find_notify(watch, number) : NULL;
    if (notify != NULL)
        rc = limpet_notify_ack(watch->watch, notify->notifier, notify->id, buf,
                               buf != NULL ? (size_t)len : 0);
    pthread_mutex_unlock(&table_lock);
    return rc;
}
