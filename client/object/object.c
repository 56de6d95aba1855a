/*
 * Operations on objects. Every call, of one step or of several, waiting or not, becomes a struct
 * request: on the caller's stack, in a limpet_op, or in a completion.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/object/private.h"

static_assert((int)LIMPET_OP_STEPS_MAX == (int)CLIENT_STEPS_MAX, "one limit");
static_assert(LIMPET_OBJECT_SIZE_MAX - OBJECT_SIZE_MAX == 0, "one limit");
static_assert((int)LIMPET_OBJECT_NAME_MAX == (int)OBJECT_NAME_MAX, "one limit");
static_assert((int)LIMPET_OBJECT_SPACE_MAX == (int)OBJECT_NAMESPACE_MAX, "one limit");
static_assert((int)LIMPET_POOL_NAME_MAX == (int)MAP_POOL_NAME_MAX, "one limit");

/* ---- Steps ---- */

void request_init(struct request *r)
{
    memset(r, 0, sizeof *r);
}

void request_fini(struct request *r)
{
    free(r->more);
    r->more = NULL;
}

static struct step_out *out_of(struct request *r, uint16_t i)
{
    return i < CLIENT_STEPS_INLINE ? &r->outs[i] : &r->more->outs[i - CLIENT_STEPS_INLINE];
}

struct client_step *request_step(struct request *r)
{
    assert(r->op.n_steps > 0);
    return client_step(&r->op, (uint16_t)(r->op.n_steps - 1));
}

struct step_out *request_out(struct request *r)
{
    assert(r->op.n_steps > 0);
    return out_of(r, (uint16_t)(r->op.n_steps - 1));
}

int request_add(struct request *r, uint16_t code, uint64_t offset, uint64_t length)
{
    if (r->op.n_steps == LIMPET_OP_STEPS_MAX)
        return -E2BIG;
    if (r->op.n_steps == CLIENT_STEPS_INLINE && r->more == NULL) {
        r->more = calloc(1, sizeof *r->more);
        if (r->more == NULL)
            return -ENOMEM;
        r->op.more_steps = r->more->steps;
    }
    r->op.n_steps++;
    *request_step(r) = (struct client_step){.code = code, .offset = offset, .length = length};
    if (!client_code_reads(code))
        r->op.write = true;
    return 0;
}

/* Where it goes is the OSD's to judge, so that the first step that cannot be is the one told. */
int request_add_slice(struct request *r, uint16_t code, uint64_t offset, struct buf_slice slice)
{
    int rc = slice.len > OBJECT_SIZE_MAX ? -EFBIG : request_add(r, code, offset, slice.len);
    if (rc == 0)
        request_step(r)->data = slice;
    else
        buf_slice_drop(&slice);
    return rc;
}

int request_add_data(struct request *r, uint16_t code, uint64_t offset, const void *data,
                     size_t len)
{
    struct buf_slice slice = BUF_SLICE_EMPTY;
    if (len > OBJECT_SIZE_MAX)
        return -EFBIG;
    if (len > 0 && buf_slice_copy_to_send(data, len, &slice) != 0)
        return -ENOMEM;
    return request_add_slice(r, code, offset, slice);
}

int request_add_read(struct request *r, struct step_out out, uint64_t offset)
{
    out.len = out.len < OBJECT_SIZE_MAX ? out.len : OBJECT_SIZE_MAX;
    /* On the wire a length of 0 means all; whoever reads nothing still learns whether it exists. */
    uint16_t code = out.len > 0 ? WIRE_OP_CODE_READ : WIRE_OP_CODE_STAT;
    int rc = request_add(r, code, out.len > 0 ? offset : 0, out.len);
    if (rc == 0)
        *request_out(r) = out;
    return rc;
}

static int add_stat(struct request *r, struct limpet_stat *out, int *result)
{
    int rc = request_add(r, WIRE_OP_CODE_STAT, 0, 0);
    if (rc == 0)
        *request_out(r) = (struct step_out){.stat = out, .result = result};
    return rc;
}

static void drop_data(struct request *r)
{
    for (uint16_t i = 0; i < r->op.n_steps; i++)
        buf_slice_drop(&client_step(&r->op, i)->data);
}

/* ---- The end of a request ---- */

/* Returns the bytes that the step has given, or -EPROTO when they are not what was asked for. */
static ssize_t take_step(struct limpet_cluster *c, struct client_step *step, struct step_out *out)
{
    ssize_t got = 0;
    if (step->result == 0 && step->code == WIRE_OP_CODE_READ) {
        if (step->data.len > out->len)
            return -EPROTO;
        got = (ssize_t)step->data.len;
        int rc = read_give(c, out, &step->data);
        if (rc != 0)
            return rc;
    }
    if (step->result == 0 && out->stat != NULL) {
        struct wire_stat stat;
        if (step->data.len != sizeof stat)
            return -EPROTO;
        memcpy(&stat, step->data.data, sizeof stat);
        *out->stat = (struct limpet_stat){.size = stat.size, .mtime_ns = stat.mtime_ns};
    }
    if (step->result >= 0 && out->take != NULL) {
        int rc = out->take(out, step->data.data, step->data.len);
        if (rc != 0)
            return rc;
    }
    if (out->got != NULL)
        *out->got = (size_t)got;
    if (out->result != NULL)
        *out->result = public_error(step->result);
    return got;
}

/* Whether an OSD has told how far it came. */
static bool was_executed(struct request *r)
{
    for (uint16_t i = 0; i < r->op.n_steps; i++) {
        if (client_step(&r->op, i)->result != 0)
            return true;
    }
    return r->op.result == 0;
}

static void take_results(struct request *r)
{
    bool executed = was_executed(r);
    r->result = public_error(r->op.result);
    for (uint16_t i = 0; i < r->op.n_steps; i++) {
        struct client_step *step = client_step(&r->op, i);
        struct step_out *out = out_of(r, i);
        if (!executed)
            step->result = r->op.result;
        /* It came before the step that failed, and gave nothing. */
        if (r->op.result != 0 && step->result == 0) {
            if (out->result != NULL)
                *out->result = 0;
            continue;
        }
        ssize_t got = take_step(r->cluster, step, out);
        if (r->result == 0 && got < 0)
            r->result = got;
        if (r->result == 0 && r->returns_bytes && i == 0)
            r->result = got;
    }
    /* Of a listing, the data are looked at by whoever waits. */
    if (!r->op.pg_op)
        drop_data(r);
}

static void free_names(struct request *r)
{
    if (r->names != r->names_inline)
        free(r->names);
    r->names = NULL;
}

static void release_budget(struct limpet_cluster *c, uint64_t cost)
{
    assert(c->ops_pending > 0 && c->bytes_pending >= cost);
    c->ops_pending--;
    c->bytes_pending -= cost;
    struct budget_waiter *waiter = TAILQ_FIRST(&c->budget_waiters);
    if (waiter != NULL) {
        TAILQ_REMOVE(&c->budget_waiters, waiter, link);
        loop_done(c, &waiter->waiter);
    }
}

static void completion_finish(struct request *r)
{
    struct limpet_cluster *c = r->cluster;
    struct limpet_completion *completion = r->completion;
    completion->result = r->result;
    completion->version = r->op.version;
    completion->request = NULL;
    free_names(r);
    assert(c->async_pending > 0);
    c->async_pending--;
    atomic_store_explicit(&completion->done, true, memory_order_release);
    loop_done(c, &r->waiter);
    if (completion->callback != NULL)
        loop_call_back(c, completion);
    else
        completion_unref(completion);
}

static void request_done(struct client_op *op)
{
    struct request *r = container_of(op, struct request, op);
    take_results(r);
    release_budget(r->cluster, r->cost);
    free(r->snaps);
    r->snaps = NULL;
    if (r->completion != NULL)
        completion_finish(r);
    else
        loop_done(r->cluster, &r->waiter);
}

/* ---- Submission ---- */

/*
 * Callers wait here while too much is under way, but not callbacks: what they submit
 * is followed by their return, and only then can anything end.
 */
static void wait_for_budget(struct limpet_cluster *c, uint64_t cost)
{
    while (c->ops_pending > 0 && c->client != NULL && !loop_calls_back(c) &&
           (c->ops_pending >= c->ops_max || c->bytes_pending + cost > c->bytes_max)) {
        struct budget_waiter me = {0};
        TAILQ_INSERT_TAIL(&c->budget_waiters, &me, link);
        loop_wait(c, &me.waiter);
    }
}

static uint64_t request_cost(struct request *r)
{
    uint64_t cost = 0;
    for (uint16_t i = 0; i < r->op.n_steps; i++)
        cost += client_step(&r->op, i)->data.len + out_of(r, i)->len;
    return cost;
}

int request_take_snaps(struct request *r, const struct limpet_pool *pool)
{
    r->op.snap = r->op.write ? pool->snap_seq : pool->snap_read;
    if (!r->op.write || pool->n_snaps == 0)
        return 0;
    r->snaps = malloc(pool->n_snaps * sizeof *r->snaps);
    if (r->snaps == NULL)
        return -ENOMEM;
    memcpy(r->snaps, pool->snaps, pool->n_snaps * sizeof *r->snaps);
    r->op.snaps = r->snaps;
    r->op.n_snaps = pool->n_snaps;
    return 0;
}

/* The usual read is received where the caller wants it. */
static void set_place(struct request *r)
{
    const struct step_out *out = out_of(r, 0);
    if (r->op.n_steps != 1 || r->op.steps[0].code != WIRE_OP_CODE_READ || out->n_iov > 0 ||
        out->buffer != NULL)
        return;
    r->op.into = out->data;
    r->op.into_len = out->len;
}

static void set_up(struct request *r, struct limpet_cluster *c)
{
    r->cluster = c;
    r->op.done = request_done;
    r->op.revoke_late = r->pool != NULL && r->pool->revoke_late;
    set_place(r);
    r->cost = request_cost(r);
}

static void pass_to_core(struct request *r, struct limpet_cluster *c)
{
    busy_poll_submitted(&c->busy_poll, ++c->ops_pending);
    c->bytes_pending += r->cost;
    client_submit(c->client, &r->op);
}

static bool is_revoked(const struct request *r)
{
    return r->completion != NULL && r->completion->revoked;
}

/*
 * With the lock held. -ENOTCONN: the cluster is gone, and the request was not submitted;
 * -ECANCELED: it was revoked while it waited; -ENOMEM.
 */
static int submit(struct request *r, struct limpet_cluster *c)
{
    if (c->client != NULL)
        wait_for_budget(c, r->cost);
    if (c->client == NULL)
        return -ENOTCONN;
    if (is_revoked(r))
        return -ECANCELED;
    int rc = r->pool != NULL ? request_take_snaps(r, r->pool) : 0;
    if (rc == 0)
        pass_to_core(r, c);
    return rc;
}

static void take_queued(struct request *r, struct limpet_cluster *c)
{
    c->async_pending++;
    if (c->client != NULL && !is_revoked(r)) {
        pass_to_core(r, c);
        return;
    }
    free(r->snaps);
    r->snaps = NULL;
    drop_data(r);
    r->result = c->client != NULL ? -ECANCELED : -ENOTCONN;
    completion_finish(r);
}

void requests_take_queued(struct limpet_cluster *c)
{
    struct queued_list queued = STAILQ_HEAD_INITIALIZER(queued);
    struct request *r;
    pthread_mutex_lock(&c->queue_lock);
    STAILQ_CONCAT(&queued, &c->queued);
    atomic_store_explicit(&c->n_queued, 0, memory_order_relaxed);
    pthread_mutex_unlock(&c->queue_lock);
    while ((r = STAILQ_FIRST(&queued)) != NULL) {
        STAILQ_REMOVE_HEAD(&queued, queued_link);
        take_queued(r, c);
    }
    c->unsent = true;
}

ssize_t request_run(struct request *r, struct limpet_cluster *c)
{
    set_up(r, c);
    cluster_lock(c);
    int rc = submit(r, c);
    if (rc == 0)
        loop_wait(c, &r->waiter);
    cluster_unlock(c);
    if (rc != 0)
        drop_data(r);
    return rc == 0 ? r->result : rc;
}

static int check_name(const char *name)
{
    size_t len = strnlen(name, OBJECT_NAME_MAX + 1);
    return len == 0 ? -EINVAL : len > OBJECT_NAME_MAX ? -ENAMETOOLONG : 0;
}

static void set_object(struct request *r, const struct limpet_pool *pool, const char *name,
                       const char *space, const char *locator)
{
    /* A locator that is equal to the name says nothing, and there is one way to say nothing. */
    if (strcmp(locator, name) == 0)
        locator = "";
    r->pool = pool;
    r->op.object = (struct object_id){
        .pool = pool->id,
        .snap = OBJECT_HEAD,
        .name = (const uint8_t *)name,
        .name_len = (uint16_t)strlen(name),
        .space = (const uint8_t *)space,
        .space_len = (uint16_t)strlen(space),
        .locator = (const uint8_t *)locator,
        .locator_len = (uint16_t)strlen(locator),
    };
}

static int check_request(const struct limpet_pool *pool, const char *name, const struct request *r)
{
    int rc = check_name(name);
    return rc == 0 && r->op.write && pool->snap_read != 0 ? -EROFS : rc;
}

ssize_t request_run_on(struct limpet_pool *pool, const char *name, struct request *r)
{
    int rc = check_request(pool, name, r);
    if (rc != 0) {
        drop_data(r);
        return rc;
    }
    set_object(r, pool, name, pool->space, pool->locator);
    return request_run(r, pool->cluster);
}

/* The caller may reuse its strings: the request keeps copies. */
static int copy_names(struct request *r, const struct limpet_pool *pool, const char *name)
{
    size_t name_len = strlen(name) + 1, space_len = strlen(pool->space) + 1;
    size_t locator_len = strlen(pool->locator) + 1, len = name_len + space_len + locator_len;
    r->names = r->names_inline;
    if (len > sizeof r->names_inline)
        r->names = malloc(len);
    if (r->names == NULL)
        return -ENOMEM;
    char *space = r->names + name_len, *locator = space + space_len;
    memcpy(r->names, name, name_len);
    memcpy(space, pool->space, space_len);
    memcpy(locator, pool->locator, locator_len);
    set_object(r, pool, r->names, space, locator);
    return 0;
}

/* Takes over the data of the steps in any case. */
int request_run_async(struct limpet_pool *pool, const char *name,
                      struct limpet_completion *completion, struct request *r)
{
    struct limpet_cluster *c = pool->cluster;
    int rc = completion->used ? -EINVAL : check_request(pool, name, r);
    if (rc == 0)
        rc = copy_names(r, pool, name);
    if (rc != 0) {
        drop_data(r);
        return rc;
    }
    set_up(r, c);
    r->completion = completion;
    completion->cluster = c;
    completion->request = r;
    atomic_fetch_add(&completion->refs, 1);
    completion->used = true; /* From now on others may look at the rest. */
    if (loop_queue(c, r))
        return 0;
    cluster_lock(c);
    rc = loop_start_driver(c);
    if (rc == 0)
        rc = submit(r, c);
    if (rc == 0) {
        c->async_pending++;
        /* What callbacks submit leaves together, when the driver takes its next turn. */
        loop_submitted(c);
    }
    cluster_unlock(c);
    if (rc != 0) {
        completion->used = false;
        completion->request = NULL;
        completion_unref(completion);
        r->completion = NULL;
        free_names(r);
        drop_data(r);
    }
    return rc;
}

/* ---- Waiting calls ---- */

static int run_data(struct limpet_pool *pool, const char *name, uint16_t code, const void *data,
                    size_t len, uint64_t offset)
{
    struct request r;
    request_init(&r);
    int rc = request_add_data(&r, code, offset, data, len);
    return rc == 0 ? (int)request_run_on(pool, name, &r) : rc;
}

static int run_plain(struct limpet_pool *pool, const char *name, uint16_t code, uint64_t offset,
                     uint64_t length)
{
    struct request r;
    request_init(&r);
    int rc = request_add(&r, code, offset, length);
    return rc == 0 ? (int)request_run_on(pool, name, &r) : rc;
}

int limpet_write(struct limpet_pool *pool, const char *name, const void *data, size_t len,
                 uint64_t offset)
{
    return run_data(pool, name, WIRE_OP_CODE_WRITE_AT, data, len, offset);
}

int limpet_write_full(struct limpet_pool *pool, const char *name, const void *data, size_t len)
{
    return run_data(pool, name, WIRE_OP_CODE_WRITE_FULL, data, len, 0);
}

int limpet_append(struct limpet_pool *pool, const char *name, const void *data, size_t len)
{
    return run_data(pool, name, WIRE_OP_CODE_APPEND, data, len, 0);
}

ssize_t limpet_read(struct limpet_pool *pool, const char *name, void *data, size_t len,
                    uint64_t offset)
{
    struct request r;
    request_init(&r);
    r.returns_bytes = true;
    int rc = request_add_read(&r, (struct step_out){.data = data, .len = len}, offset);
    return rc == 0 ? request_run_on(pool, name, &r) : rc;
}

int limpet_stat(struct limpet_pool *pool, const char *name, struct limpet_stat *out)
{
    struct request r;
    request_init(&r);
    int rc = add_stat(&r, out, NULL);
    return rc == 0 ? (int)request_run_on(pool, name, &r) : rc;
}

int limpet_truncate(struct limpet_pool *pool, const char *name, uint64_t size)
{
    if (size > OBJECT_SIZE_MAX)
        return -EFBIG;
    return run_plain(pool, name, WIRE_OP_CODE_TRUNCATE, size, 0);
}

int limpet_remove(struct limpet_pool *pool, const char *name)
{
    return run_plain(pool, name, WIRE_OP_CODE_REMOVE, 0, 0);
}

int limpet_create(struct limpet_pool *pool, const char *name, bool exclusive)
{
    return run_plain(pool, name, WIRE_OP_CODE_CREATE, 0, exclusive ? 1 : 0);
}

/* ---- Operations of several steps ---- */

struct limpet_op *limpet_op_create(void)
{
    return calloc(1, sizeof(struct limpet_op));
}

void limpet_op_destroy(struct limpet_op *op)
{
    if (op == NULL)
        return;
    if (!op->used)
        drop_data(&op->request);
    request_fini(&op->request);
    free(op);
}

int limpet_op_write(struct limpet_op *op, const void *data, size_t len, uint64_t offset)
{
    return request_add_data(&op->request, WIRE_OP_CODE_WRITE_AT, offset, data, len);
}

int limpet_op_write_full(struct limpet_op *op, const void *data, size_t len)
{
    return request_add_data(&op->request, WIRE_OP_CODE_WRITE_FULL, 0, data, len);
}

int limpet_op_append(struct limpet_op *op, const void *data, size_t len)
{
    return request_add_data(&op->request, WIRE_OP_CODE_APPEND, 0, data, len);
}

static int add_plain(struct limpet_op *op, uint16_t code, uint64_t offset, uint64_t length)
{
    return request_add(&op->request, code, offset, length);
}

int limpet_op_truncate(struct limpet_op *op, uint64_t size)
{
    return add_plain(op, WIRE_OP_CODE_TRUNCATE, size, 0);
}

int limpet_op_remove(struct limpet_op *op)
{
    return add_plain(op, WIRE_OP_CODE_REMOVE, 0, 0);
}

int limpet_op_create_object(struct limpet_op *op, bool exclusive)
{
    return add_plain(op, WIRE_OP_CODE_CREATE, 0, exclusive ? 1 : 0);
}

int limpet_op_read(struct limpet_op *op, void *data, size_t len, uint64_t offset, size_t *got,
                   int *result)
{
    struct step_out out = {.data = data, .len = len, .got = got, .result = result};
    return request_add_read(&op->request, out, offset);
}

int limpet_op_stat(struct limpet_op *op, struct limpet_stat *out, int *result)
{
    return add_stat(&op->request, out, result);
}

static int use_op(struct limpet_op *op)
{
    if (op->used || op->request.op.n_steps == 0)
        return -EINVAL;
    op->used = true;
    return 0;
}

int limpet_operate(struct limpet_pool *pool, const char *name, struct limpet_op *op,
                   struct limpet_object_version *version)
{
    int rc = use_op(op);
    if (rc != 0)
        return rc;
    rc = (int)request_run_on(pool, name, &op->request);
    if (version != NULL)
        *version = (struct limpet_object_version){.config = op->request.op.version.config,
                                                  .sequence = op->request.op.version.sequence};
    return rc;
}

int limpet_aio_operate(struct limpet_pool *pool, const char *name,
                       struct limpet_completion *completion, struct limpet_op *op)
{
    int rc = use_op(op);
    return rc == 0 ? request_run_async(pool, name, completion, &op->request) : rc;
}

/* ---- Completions ---- */

int limpet_completion_create(limpet_callback callback, void *arg, struct limpet_completion **out)
{
    struct limpet_completion *completion = calloc(1, sizeof *completion);
    if (completion == NULL)
        return -ENOMEM;
    atomic_init(&completion->refs, 1);
    completion->callback = callback;
    completion->arg = arg;
    *out = completion;
    return 0;
}

void completion_unref(struct limpet_completion *completion)
{
    if (atomic_fetch_sub(&completion->refs, 1) == 1)
        free(completion);
}

void limpet_completion_release(struct limpet_completion *completion)
{
    if (completion != NULL)
        completion_unref(completion);
}

bool limpet_completion_is_done(const struct limpet_completion *completion)
{
    return atomic_load_explicit(&completion->done, memory_order_acquire);
}

ssize_t limpet_completion_result(const struct limpet_completion *completion)
{
    return limpet_completion_is_done(completion) ? completion->result : -EINPROGRESS;
}

struct limpet_object_version limpet_completion_version(const struct limpet_completion *completion)
{
    struct limpet_object_version version = {0};
    if (limpet_completion_is_done(completion)) {
        version.config = completion->version.config;
        version.sequence = completion->version.sequence;
    }
    return version;
}

ssize_t limpet_completion_wait(struct limpet_completion *completion)
{
    if (!completion->used)
        return -EINVAL;
    if (!limpet_completion_is_done(completion)) {
        struct limpet_cluster *c = completion->cluster;
        cluster_lock(c);
        if (completion->request != NULL)
            loop_wait_for_async(c, &completion->request->waiter);
        cluster_unlock(c);
    }
    return completion->result;
}

void limpet_completion_call_by_waiters(struct limpet_completion *completion)
{
    completion->by_waiter = true;
}

ssize_t limpet_completion_wait_called(struct limpet_completion *completion)
{
    if (completion->callback == NULL || !completion->used)
        return limpet_completion_wait(completion);
    /* Whoever calls back looks at this after he has told that he did: one of us sees the other. */
    atomic_store(&completion->wait_called, true);
    if (!atomic_load(&completion->called.done)) {
        struct limpet_cluster *c = completion->cluster;
        cluster_lock(c);
        loop_wait_for_async(c, &completion->called);
        cluster_unlock(c);
    }
    return completion->result;
}

void limpet_completion_cancel(struct limpet_completion *completion)
{
    if (!completion->used || limpet_completion_is_done(completion))
        return;
    struct limpet_cluster *c = completion->cluster;
    cluster_lock(c);
    if (completion->request != NULL && c->client != NULL) {
        client_cancel(c->client, &completion->request->op);
        loop_flush(c);
    }
    cluster_unlock(c);
}

void completions_revoke(struct limpet_completion *const *list, size_t n)
{
    struct limpet_cluster *c = NULL;
    for (size_t i = 0; i < n; i++) {
        struct limpet_completion *completion = list[i];
        completion->revoked = true;
        if (!completion->used || limpet_completion_is_done(completion))
            continue;
        if (c == NULL) {
            c = completion->cluster;
            cluster_lock(c);
        }
        if (completion->request != NULL && c->client != NULL)
            client_revoke(c->client, &completion->request->op);
    }
    if (c != NULL) {
        loop_flush(c);
        cluster_unlock(c);
    }
}

size_t write_memory(void)
{
    return sizeof(struct limpet_op) + sizeof(struct limpet_completion) + sizeof(struct message);
}

/* ---- Asynchronous calls ---- */

static int async_data(struct limpet_pool *pool, const char *name,
                      struct limpet_completion *completion, uint16_t code, const void *data,
                      size_t len, uint64_t offset)
{
    int rc = request_add_data(&completion->own, code, offset, data, len);
    return rc == 0 ? request_run_async(pool, name, completion, &completion->own) : rc;
}

static int async_plain(struct limpet_pool *pool, const char *name,
                       struct limpet_completion *completion, uint16_t code, uint64_t offset)
{
    int rc = request_add(&completion->own, code, offset, 0);
    return rc == 0 ? request_run_async(pool, name, completion, &completion->own) : rc;
}

int limpet_aio_write(struct limpet_pool *pool, const char *name,
                     struct limpet_completion *completion, const void *data, size_t len,
                     uint64_t offset)
{
    return async_data(pool, name, completion, WIRE_OP_CODE_WRITE_AT, data, len, offset);
}

int limpet_aio_write_full(struct limpet_pool *pool, const char *name,
                          struct limpet_completion *completion, const void *data, size_t len)
{
    return async_data(pool, name, completion, WIRE_OP_CODE_WRITE_FULL, data, len, 0);
}

int limpet_aio_append(struct limpet_pool *pool, const char *name,
                      struct limpet_completion *completion, const void *data, size_t len)
{
    return async_data(pool, name, completion, WIRE_OP_CODE_APPEND, data, len, 0);
}

int limpet_aio_read(struct limpet_pool *pool, const char *name,
                    struct limpet_completion *completion, void *data, size_t len, uint64_t offset)
{
    completion->own.returns_bytes = true;
    int rc =
        request_add_read(&completion->own, (struct step_out){.data = data, .len = len}, offset);
    return rc == 0 ? request_run_async(pool, name, completion, &completion->own) : rc;
}

int limpet_aio_stat(struct limpet_pool *pool, const char *name,
                    struct limpet_completion *completion, struct limpet_stat *out)
{
    int rc = add_stat(&completion->own, out, NULL);
    return rc == 0 ? request_run_async(pool, name, completion, &completion->own) : rc;
}

int limpet_aio_truncate(struct limpet_pool *pool, const char *name,
                        struct limpet_completion *completion, uint64_t size)
{
    if (size > OBJECT_SIZE_MAX)
        return -EFBIG;
    return async_plain(pool, name, completion, WIRE_OP_CODE_TRUNCATE, size);
}

int limpet_aio_remove(struct limpet_pool *pool, const char *name,
                      struct limpet_completion *completion)
{
    return async_plain(pool, name, completion, WIRE_OP_CODE_REMOVE, 0);
}
