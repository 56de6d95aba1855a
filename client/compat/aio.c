/*
 * Asynchronous requests. A completion of ours holds one of liblimpet's, and what librados' callers
 * want to be told in its terms.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/compat/compat.h"

int rados_unlock(void *ioctx, const char *object, const char *name, const char *cookie);

typedef void (*rados_callback_t)(void *completion, void *arg);

struct completion {
    atomic_uint refs; /* The user's, and the request's until its callbacks have returned. */
    rados_callback_t complete, safe;
    void *arg;
    struct limpet_completion *inner; /* From submission on. */

    struct compat_ioctx *io;
    struct limpet_op *op;     /* Destroyed at the end. */
    struct compat_op *handle; /* To be finished; or NULL. */
    bool writes;
    uint64_t number; /* Of the writes of its context. */
    TAILQ_ENTRY(completion) link;
    /* What the request gives, and where it goes. */
    struct limpet_stat stat;
    uint64_t *size;
    time_t *mtime;
    void *data;
    size_t len, got, max;
    char *buf;
    bool returns_bytes;
    bool served; /* A request was submitted with it. */
    struct compat_attr_iter *attrs;
    void **attrs_out;
    bool notifies;
    struct limpet_answers *answers;
    char **reply;
    size_t *reply_len;

    pthread_mutex_t lock;
    pthread_cond_t ended;
    int result;
    bool done, called;
    bool polled; /* Who waits for its end polls: there is nothing of the user's to call. */
};

EXPORT int rados_aio_create_completion2(void *arg, rados_callback_t complete, void **out)
{
    struct completion *c = calloc(1, sizeof *c);
    if (c == NULL)
        return -ENOMEM;
    c->refs = 1;
    c->arg = arg;
    c->complete = complete;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->ended, NULL);
    *out = c;
    return 0;
}

EXPORT int rados_aio_create_completion(void *arg, rados_callback_t complete, rados_callback_t safe,
                                       void **out)
{
    int rc = rados_aio_create_completion2(arg, complete, out);
    if (rc == 0)
        ((struct completion *)*out)->safe = safe;
    return rc;
}

static void unref(struct completion *c)
{
    if (atomic_fetch_sub(&c->refs, 1) > 1)
        return;
    if (c->inner != NULL)
        limpet_completion_release(c->inner);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->ended);
    free(c);
}

EXPORT void rados_aio_release(void *completion)
{
    unref(completion);
}

/* ---- Its end ---- */

static int give(struct completion *c, int result)
{
    if (c->notifies)
        return compat_give_answers(c->answers, result, c->reply, c->reply_len);
    if (c->data != NULL) {
        if (result == 0 && c->len > c->max)
            result = -ERANGE;
        else if (result == 0 && c->len > 0)
            memcpy(c->buf, c->data, c->len);
        if (result == 0)
            result = (int)c->len;
        limpet_free(c->data);
        c->data = NULL;
    }
    if (c->attrs != NULL && result == 0)
        *c->attrs_out = c->attrs;
    else
        free(c->attrs);
    c->attrs = NULL;
    if (result != 0)
        return result;
    if (c->size != NULL)
        *c->size = c->stat.size;
    if (c->mtime != NULL)
        *c->mtime = (time_t)(c->stat.mtime_ns / 1000000000);
    return c->returns_bytes ? (int)c->got : 0;
}

static void note_end(struct compat_ioctx *io, struct completion *c)
{
    if (!c->writes || io == NULL)
        return;
    pthread_mutex_lock(&io->lock);
    bool oldest = TAILQ_FIRST(&io->writes) == c;
    TAILQ_REMOVE(&io->writes, c, link);
    if (oldest)
        pthread_cond_broadcast(&io->flushed);
    pthread_mutex_unlock(&io->lock);
}

/* Its result is known: tells all who wait for it. */
static void finish(struct completion *c, int result)
{
    struct compat_ioctx *io = c->io;
    pthread_mutex_lock(&c->lock);
    c->result = result;
    c->done = true;
    pthread_cond_broadcast(&c->ended);
    pthread_mutex_unlock(&c->lock);
    if (c->complete != NULL)
        c->complete(c, c->arg);
    if (c->safe != NULL)
        c->safe(c, c->arg);
    pthread_mutex_lock(&c->lock);
    c->called = true;
    pthread_cond_broadcast(&c->ended);
    pthread_mutex_unlock(&c->lock);
    note_end(io, c);
    unref(c);
    if (io != NULL)
        ioctx_unref(io);
}

static void ended(struct limpet_completion *inner, void *arg)
{
    struct completion *c = arg;
    int result = give(c, (int)limpet_completion_result(inner));
    limpet_op_destroy(c->op);
    c->op = NULL;
    if (c->handle != NULL)
        result = compat_op_finish(c->handle, result);
    compat_op_unref(c->handle);
    c->handle = NULL;
    finish(c, result);
}

/* The request holds the completion and the context from now on. */
static void begin(struct completion *c, struct compat_ioctx *io, bool writes)
{
    c->served = true;
    c->io = io;
    c->writes = writes;
    atomic_fetch_add(&c->refs, 1);
    if (io == NULL)
        return;
    atomic_fetch_add(&io->refs, 1);
    if (!writes)
        return;
    pthread_mutex_lock(&io->lock);
    c->number = ++io->n_begun;
    TAILQ_INSERT_TAIL(&io->writes, c, link);
    pthread_mutex_unlock(&io->lock);
}

struct limpet_answers **compat_answers_of(void *completion, char **reply, size_t *len)
{
    struct completion *c = completion;
    c->notifies = true;
    c->reply = reply;
    c->reply_len = len;
    return &c->answers;
}

static void set_polled(struct completion *c, bool polled)
{
    pthread_mutex_lock(&c->lock);
    c->polled = polled;
    pthread_mutex_unlock(&c->lock);
}

int compat_submit(void *completion, struct compat_ioctx *io, const char *object,
                  struct limpet_op *op, int error, bool writes)
{
    struct completion *c = completion;
    int rc = ioctx_error(io);
    if (rc == 0)
        rc = error == 0 && op == NULL ? -ENOMEM : error;
    if (rc == 0 && c->served)
        rc = -EINVAL; /* It has served already. */
    if (rc == 0)
        rc = limpet_completion_create(ended, c, &c->inner);
    if (rc != 0) {
        limpet_op_destroy(op);
        return rc;
    }
    c->op = op;
    begin(c, io, writes);
    bool polled = c->complete == NULL && c->safe == NULL;
    if (polled)
        limpet_completion_call_by_waiters(c->inner);
    set_polled(c, polled);
    rc = limpet_aio_operate(io->pool, object, c->inner, op);
    if (rc == 0)
        return 0;
    set_polled(c, false);
    note_end(io, c);
    limpet_op_destroy(op);
    c->op = NULL;
    atomic_fetch_sub(&c->refs, 1);
    ioctx_unref(io);
    return rc;
}

/* ---- Tasks that wait, on threads of their own ---- */

struct task {
    struct completion *completion;
    struct compat_cluster *cluster;
    int (*run)(void *arg);
    void *arg;
};

static void end_task(struct compat_cluster *cluster)
{
    pthread_mutex_lock(&cluster->lock);
    if (--cluster->tasks == 0)
        pthread_cond_broadcast(&cluster->idle);
    pthread_mutex_unlock(&cluster->lock);
}

/* Its cluster may be shut down by the callbacks: the task has ended before. */
static void *run_task(void *arg)
{
    struct task task = *(struct task *)arg;
    free(arg);
    int result = task.run(task.arg);
    free(task.arg);
    end_task(task.cluster);
    finish(task.completion, result);
    return NULL;
}

static int start_task(const struct task *task)
{
    pthread_t thread;
    struct task *copy = malloc(sizeof *copy);
    if (copy == NULL)
        return -ENOMEM;
    *copy = *task;
    pthread_mutex_lock(&task->cluster->lock);
    task->cluster->tasks++;
    int rc = -pthread_create(&thread, NULL, run_task, copy);
    task->cluster->tasks -= rc != 0;
    pthread_mutex_unlock(&task->cluster->lock);
    if (rc == 0)
        rc = -pthread_detach(thread);
    else
        free(copy);
    return rc;
}

int compat_submit_task(void *completion, struct compat_cluster *cluster, struct compat_ioctx *io,
                       int (*run)(void *arg), void *arg, bool writes)
{
    struct completion *c = completion;
    struct task task = {c, cluster, run, arg};
    if (c->served) {
        free(arg);
        return -EINVAL;
    }
    begin(c, io, writes);
    int rc = arg != NULL ? start_task(&task) : -ENOMEM;
    if (rc != 0) {
        free(arg);
        finish(c, rc);
    }
    return 0;
}

void compat_tasks_wait(struct compat_cluster *cluster)
{
    pthread_mutex_lock(&cluster->lock);
    while (cluster->tasks > 0)
        pthread_cond_wait(&cluster->idle, &cluster->lock);
    pthread_mutex_unlock(&cluster->lock);
}

/* ---- Waiting ---- */

static bool look(struct completion *c, bool called)
{
    pthread_mutex_lock(&c->lock);
    bool is = called ? c->called : c->done;
    pthread_mutex_unlock(&c->lock);
    return is;
}

EXPORT int rados_aio_is_complete(void *completion)
{
    return look(completion, false);
}

EXPORT int rados_aio_is_safe(void *completion)
{
    return look(completion, false);
}

EXPORT int rados_aio_is_complete_and_cb(void *completion)
{
    return look(completion, true);
}

EXPORT int rados_aio_is_safe_and_cb(void *completion)
{
    return look(completion, true);
}

/* Its cluster is not shut down meanwhile. False: its end has been, or was not begun. */
static bool begin_polling(struct completion *c, struct compat_cluster **cluster)
{
    pthread_mutex_lock(&c->lock);
    bool polls = c->polled && !c->called;
    if (polls) {
        *cluster = c->io->cluster;
        pthread_mutex_lock(&(*cluster)->lock);
        (*cluster)->tasks++;
        pthread_mutex_unlock(&(*cluster)->lock);
    }
    pthread_mutex_unlock(&c->lock);
    return polls;
}

static int wait_for(struct completion *c, bool called)
{
    struct compat_cluster *cluster;
    if (begin_polling(c, &cluster)) {
        limpet_completion_wait_called(c->inner);
        end_task(cluster);
    }
    pthread_mutex_lock(&c->lock);
    while (called ? !c->called : !c->done)
        pthread_cond_wait(&c->ended, &c->lock);
    pthread_mutex_unlock(&c->lock);
    return 0;
}

EXPORT int rados_aio_wait_for_complete(void *completion)
{
    return wait_for(completion, false);
}

EXPORT int rados_aio_wait_for_safe(void *completion)
{
    return wait_for(completion, false);
}

EXPORT int rados_aio_wait_for_complete_and_cb(void *completion)
{
    return wait_for(completion, true);
}

EXPORT int rados_aio_wait_for_safe_and_cb(void *completion)
{
    return wait_for(completion, true);
}

EXPORT int rados_aio_get_return_value(void *completion)
{
    struct completion *c = completion;
    pthread_mutex_lock(&c->lock);
    int result = c->result;
    pthread_mutex_unlock(&c->lock);
    return result;
}

/* After its end. An asynchronous request does not change what rados_get_last_version() says. */
EXPORT uint64_t rados_aio_get_version(void *completion)
{
    struct completion *c = completion;
    return look(c, false) && c->inner != NULL ? limpet_completion_version(c->inner).sequence : 0;
}

/* The number of the last write that was begun until now. */
static uint64_t last_write(struct compat_ioctx *io)
{
    pthread_mutex_lock(&io->lock);
    uint64_t number = io->n_begun;
    pthread_mutex_unlock(&io->lock);
    return number;
}

static bool is_under_way(const struct compat_ioctx *io, uint64_t number)
{
    const struct completion *oldest = TAILQ_FIRST(&io->writes);
    return oldest != NULL && oldest->number <= number;
}

/* What is begun later is not waited for: there may always be something. */
static int flush_until(struct compat_ioctx *io, uint64_t number)
{
    pthread_mutex_lock(&io->lock);
    while (is_under_way(io, number))
        pthread_cond_wait(&io->flushed, &io->lock);
    pthread_mutex_unlock(&io->lock);
    return 0;
}

EXPORT int rados_aio_flush(void *io)
{
    return flush_until(io, last_write(io));
}

struct flush {
    struct compat_ioctx *io;
    uint64_t number;
};

static int run_flush(void *arg)
{
    const struct flush *flush = arg;
    return flush_until(flush->io, flush->number);
}

EXPORT int rados_aio_flush_async(void *ioctx, void *completion)
{
    struct compat_ioctx *io = ioctx;
    struct flush *flush = malloc(sizeof *flush);
    if (flush != NULL)
        *flush = (struct flush){io, last_write(io)};
    return compat_submit_task(completion, io->cluster, io, run_flush, flush, false);
}

/* What has ended, and tasks, go on. */
EXPORT int rados_aio_cancel(void *io, void *completion)
{
    struct completion *c = completion;
    (void)io;
    if (c->inner != NULL)
        limpet_completion_cancel(c->inner);
    return 0;
}

/* ---- Requests ---- */

#define SUBMIT(io, object, completion, step, writes)                                               \
    do {                                                                                           \
        struct completion *c = (completion);                                                       \
        struct limpet_op *op = limpet_op_create();                                                 \
        return compat_submit(c, io, object, op, op != NULL ? (step) : 0, writes);                  \
    } while (0)

EXPORT int rados_aio_write(void *io, const char *object, void *completion, const char *buf,
                           size_t len, uint64_t offset)
{
    if (is_too_long(len))
        return -E2BIG;
    SUBMIT(io, object, completion, limpet_op_write(op, buf, len, offset), true);
}

EXPORT int rados_aio_write_full(void *io, const char *object, void *completion, const char *buf,
                                size_t len)
{
    if (is_too_long(len))
        return -E2BIG;
    SUBMIT(io, object, completion, limpet_op_write_full(op, buf, len), true);
}

EXPORT int rados_aio_append(void *io, const char *object, void *completion, const char *buf,
                            size_t len)
{
    if (is_too_long(len))
        return -E2BIG;
    SUBMIT(io, object, completion, limpet_op_append(op, buf, len), true);
}

EXPORT int rados_aio_writesame(void *io, const char *object, void *completion, const char *buf,
                               size_t data_len, size_t len, uint64_t offset)
{
    if (is_too_long(data_len) || is_too_long(len))
        return -E2BIG;
    SUBMIT(io, object, completion, limpet_op_write_same(op, buf, data_len, len, offset), true);
}

EXPORT int rados_aio_remove(void *io, const char *object, void *completion)
{
    SUBMIT(io, object, completion, limpet_op_remove(op), true);
}

EXPORT int rados_aio_setxattr(void *io, const char *object, void *completion, const char *name,
                              const char *buf, size_t len)
{
    SUBMIT(io, object, completion, limpet_op_attr_set(op, name, buf, len), true);
}

EXPORT int rados_aio_rmxattr(void *io, const char *object, void *completion, const char *name)
{
    SUBMIT(io, object, completion, limpet_op_attr_remove(op, name), true);
}

EXPORT int rados_aio_cmpext(void *io, const char *object, void *completion, const char *buf,
                            size_t len, uint64_t offset)
{
    SUBMIT(io, object, completion, limpet_op_compare(op, buf, len, offset, NULL), false);
}

EXPORT int rados_aio_read(void *io, const char *object, void *completion, char *buf, size_t len,
                          uint64_t offset)
{
    if (is_too_long(len))
        return -EDOM;
    ((struct completion *)completion)->returns_bytes = true;
    SUBMIT(io, object, completion,
           len > 0 ? limpet_op_read(op, buf, len, offset, &c->got, NULL)
                   : limpet_op_assert_exists(op),
           false);
}

EXPORT int rados_aio_stat(void *io, const char *object, void *completion, uint64_t *size,
                          time_t *mtime)
{
    ((struct completion *)completion)->size = size;
    ((struct completion *)completion)->mtime = mtime;
    SUBMIT(io, object, completion, limpet_op_stat(op, &c->stat, NULL), false);
}

EXPORT int rados_aio_exec(void *io, const char *object, void *completion, const char *class,
                          const char *method, const char *input, size_t len, char *buf, size_t max)
{
    struct completion *c = completion;
    char name[256];
    snprintf(name, sizeof name, "%s.%s", class, method);
    c->buf = buf;
    c->max = max;
    struct limpet_op *op = limpet_op_create();
    int rc = op != NULL ? limpet_op_call(op, name, input, len, &c->data, &c->len, NULL) : 0;
    return compat_submit(c, io, object, op, rc, true);
}

EXPORT int rados_aio_getxattr(void *io, const char *object, void *completion, const char *name,
                              char *buf, size_t max)
{
    ((struct completion *)completion)->buf = buf;
    ((struct completion *)completion)->max = max;
    SUBMIT(io, object, completion, limpet_op_attr_get(op, name, &c->data, &c->len, NULL), false);
}

EXPORT int rados_aio_getxattrs(void *io, const char *object, void *completion, void **out)
{
    struct completion *c = completion;
    struct compat_attr_iter *iter = calloc(1, sizeof *iter);
    struct limpet_op *op = iter != NULL ? limpet_op_create() : NULL;
    if (c->served) {
        free(iter);
        limpet_op_destroy(op);
        return -EINVAL;
    }
    c->attrs = iter;
    c->attrs_out = out;
    int rc = op != NULL ? limpet_op_attr_list(op, &iter->pairs, NULL) : -ENOMEM;
    rc = compat_submit(c, io, object, op, rc, false);
    if (rc != 0) {
        free(iter);
        c->attrs = NULL;
    }
    return rc;
}

struct unlocking {
    struct compat_ioctx *io;
    const char *object, *name, *cookie;
    char texts[]; /* Theirs. */
};

static int run_unlock(void *arg)
{
    const struct unlocking *args = arg;
    return rados_unlock(args->io, args->object, args->name, args->cookie);
}

EXPORT int rados_aio_unlock(void *ioctx, const char *object, const char *name, const char *cookie,
                            void *completion)
{
    struct compat_ioctx *io = ioctx;
    size_t object_len = strlen(object) + 1, name_len = strlen(name) + 1,
           cookie_len = strlen(cookie) + 1;
    struct unlocking *args = malloc(sizeof *args + object_len + name_len + cookie_len);
    if (args != NULL) {
        args->io = io;
        args->object = memcpy(args->texts, object, object_len);
        args->name = memcpy(args->texts + object_len, name, name_len);
        args->cookie = memcpy(args->texts + object_len + name_len, cookie, cookie_len);
    }
    return compat_submit_task(completion, io->cluster, io, run_unlock, args, true);
}

/* The user's operation is run once, and may be released meanwhile. */
static int submit_op(struct completion *c, struct compat_ioctx *io, const char *object,
                     struct compat_op *handle)
{
    struct limpet_op *op = handle->op;
    int error = handle->error;
    handle->op = NULL;
    handle->error = -EINVAL;
    c->handle = handle;
    atomic_fetch_add(&handle->refs, 1);
    int rc = compat_submit(c, io, object, op, error, !handle->reads);
    if (rc != 0) {
        c->handle = NULL;
        compat_op_unref(handle);
    }
    return rc;
}

EXPORT int rados_aio_write_op_operate(void *handle, void *io, void *completion, const char *object,
                                      time_t *mtime, int flags)
{
    struct limpet_op *op = ((struct compat_op *)handle)->op;
    (void)flags;
    if (mtime != NULL && op != NULL)
        limpet_op_set_mtime(op, (uint64_t)*mtime * 1000000000);
    return submit_op(completion, io, object, handle);
}

EXPORT int rados_aio_read_op_operate(void *handle, void *io, void *completion, const char *object,
                                     int flags)
{
    (void)flags;
    return submit_op(completion, io, object, handle);
}
