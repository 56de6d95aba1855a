/* Requests, and methods of shards. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/fs/lease.h"
#include "common/method_names.h"

/* Leases that others do not give back are waited for this long. */
enum { RECALL_TRIES = 12 };

struct fs_bytes bytes_of(const char *text)
{
    return (struct fs_bytes){(const uint8_t *)text, (uint16_t)strlen(text)};
}

struct fs_txid fs_new_tx(struct limpet_fs *fs)
{
    pthread_mutex_lock(&fs->lock);
    struct fs_txid tx = {fs->instance, ++fs->sequence};
    pthread_mutex_unlock(&fs->lock);
    return tx;
}

/* ---- Methods ---- */

/* What a method is called with. Whoever gets it releases it. */
int call_encode(struct encoder *input, const struct fs_request *rq, const void *data, size_t len)
{
    struct encoder request;
    encoder_init(&request);
    encoder_init(input);
    fs_request_encode(&request, rq);
    encode_string32(input, request.data, request.failed ? 0 : request.len);
    if (len > 0)
        encode_bytes(input, data, len);
    int rc = request.failed || input->failed ? -ENOMEM : 0;
    encoder_fini(&request);
    return rc;
}

/*
 * What changes records, as opening, removing and closing do, but adds no name and no contents: a
 * full cluster does it nevertheless.
 */
static void try_though_full(struct limpet_op *op, const char *method)
{
    static const char *const methods[] = {"fs.dying",   "fs.getattr", "fs.keeplocks", "fs.leave",
                                          "fs.links",   "fs.lock",    "fs.moved",     "fs.purge",
                                          "fs.setattr", "fs.settle",  "fs.unlink",    "fs.vanish",
                                          "fs.wrote",   "fs.xremove"};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (strcmp(method, methods[i]) == 0)
            limpet_op_full_try(op);
    }
}

static struct limpet_op *op_of(const char *method, const struct encoder *input, void **out,
                               size_t *out_len)
{
    struct limpet_op *op = limpet_op_create();
    *out = NULL;
    *out_len = 0;
    if (op != NULL &&
        limpet_op_call(op, method, input->data, input->len, out, out_len, NULL) != 0) {
        limpet_op_destroy(op);
        op = NULL;
    }
    if (op != NULL)
        try_though_full(op, method);
    return op;
}

int call_op_add(struct limpet_op *op, const char *method, const struct fs_request *rq,
                const void *data, size_t len, void **out, size_t *out_len)
{
    struct encoder input;
    int rc = call_encode(&input, rq, data, len);
    *out = NULL;
    *out_len = 0;
    if (rc == 0)
        rc = limpet_op_call(op, method, input.data, input.len, out, out_len, NULL);
    encoder_fini(&input);
    try_though_full(op, method);
    return rc;
}

struct limpet_op *call_op(const char *method, const struct fs_request *rq, const void *data,
                          size_t len, void **out, size_t *out_len)
{
    struct limpet_op *op = limpet_op_create();
    if (op != NULL && call_op_add(op, method, rq, data, len, out, out_len) != 0) {
        limpet_op_destroy(op);
        op = NULL;
    }
    return op;
}

/* Once, and waits. *out is to be released in any case. */
static int operate(struct limpet_fs *fs, uint64_t home, const char *method,
                   const struct encoder *input, void **out, size_t *out_len)
{
    char name[FS_OBJECT_NAME_MAX];
    struct limpet_op *op = op_of(method, input, out, out_len);
    if (op == NULL)
        return -ENOMEM;
    fs_shard_object(home, name);
    int rc = limpet_operate(fs->pool, name, op, NULL);
    limpet_op_destroy(op);
    return rc;
}

/*
 * After it was refused: once others have given their leases back. It takes none itself, which would
 * be in the way of all others who are refused, and so of each other for as long as they have
 * something to do.
 */
static int operate_after_recall(struct limpet_fs *fs, uint64_t home, const char *method,
                                const struct encoder *input, void **out, size_t *out_len)
{
    int rc = -FS_LEASED, recalled = 0;
    bool writes = method_writes(method, strlen(method));
    for (unsigned tries = 0; rc == -FS_LEASED && tries < RECALL_TRIES; tries += recalled != 0) {
        limpet_free(*out);
        *out = NULL;
        recalled = lease_recall_others(fs, home, writes);
        if (recalled != 0 && recalled != -ENOENT && recalled != -ETIMEDOUT)
            return recalled;
        rc = operate(fs, home, method, input, out, out_len);
    }
    return rc == -FS_LEASED ? -ETIMEDOUT : rc;
}

static int operate_remotely(struct limpet_fs *fs, uint64_t home, const char *method,
                            const struct encoder *input, void **out, size_t *out_len)
{
    int rc = operate(fs, home, method, input, out, out_len);
    return rc == -FS_LEASED ? operate_after_recall(fs, home, method, input, out, out_len) : rc;
}

/* With the lock, which may be released for a while: 0, or an error. */
static int find_route(struct limpet_fs *fs, uint64_t home, bool writes, enum lease_route *route,
                      struct fs_lease **lease)
{
    while ((*route = lease_route(fs, home, writes, lease)) == LEASE_WAIT) {
        if (order_at_once())
            return -FS_REMOTE;
        pthread_cond_wait(&fs->lease_changed, &fs->lock);
    }
    return *route == LEASE_AT_OSD && order_at_once() ? -FS_REMOTE : 0;
}

/*
 * B10. Without the lock, before something of a shard is asked for whose name was lost. One that is
 * empty goes, as if it were being removed, and there is nothing to be asked for: -ENOENT, also from
 * then on. One that is not has its name (B9).
 */
static int end_unfound(struct limpet_fs *fs, uint64_t home)
{
    struct fs_request rq = {.ino = fs_ino(home, FS_INDEX_DIR)};
    struct encoder input;
    void *out = NULL;
    size_t out_len = 0;
    pthread_mutex_lock(&fs->lock);
    bool unfound = unfound_has(fs, home), gone = unfound && unfound_is_gone(fs, home);
    rq.tx = (struct fs_txid){fs->instance, unfound ? ++fs->sequence : 0};
    pthread_mutex_unlock(&fs->lock);
    if (!unfound || gone)
        return gone ? -ENOENT : 0;
    int rc = call_encode(&input, &rq, NULL, 0);
    if (rc == 0)
        rc = operate_remotely(fs, home, "fs.dying", &input, &out, &out_len);
    encoder_fini(&input);
    limpet_free(out);
    /* It has its name, or somebody else removes it, or it never was there. */
    bool over = rc == -ENOTEMPTY || rc == -FS_MOVING || rc == -ENOENT;
    pthread_mutex_lock(&fs->lock);
    if (rc == 0)
        unfound_end(fs, home);
    else if (over)
        unfound_forget(fs, home);
    pthread_mutex_unlock(&fs->lock);
    return rc == 0 ? -ENOENT : over ? 0 : rc;
}

/* At the OSD. Nothing that our own batches may wait for is held while they are waited for. */
static int run_remotely(struct limpet_fs *fs, uint64_t home, const char *method,
                        const struct encoder *input, void **out, size_t *out_len)
{
    int rc = operate_remotely(fs, home, method, input, out, out_len);
    pthread_mutex_lock(&fs->lock);
    if (method_writes(method, strlen(method)))
        lease_touch(fs, home);
    lease_returned(fs, home);
    pthread_mutex_unlock(&fs->lock);
    return rc;
}

/* Runs it where it belongs. *out is to be released in any case. */
static int run_method(struct limpet_fs *fs, uint64_t home, const char *method,
                      const struct encoder *input, void **out, size_t *out_len)
{
    struct fs_lease *lease;
    enum lease_route route;
    for (;;) {
        pthread_mutex_lock(&fs->lock);
        int rc = find_route(fs, home, method_writes(method, strlen(method)), &route, &lease);
        if (rc == 0 && route == LEASE_LOCAL) {
            struct encoder answer;
            encoder_init(&answer);
            rc = lease_run(lease, method, input, &answer);
            *out = answer.data;
            *out_len = answer.len;
        }
        /* The step before was lost: none is taken that counts on it. */
        if (rc == 0 && route == LEASE_AT_OSD)
            rc = order_broken();
        bool early = rc == 0 && route == LEASE_AT_OSD && order_is_pending();
        bool unfound = rc == 0 && route == LEASE_AT_OSD && unfound_has(fs, home);
        if (route == LEASE_AT_OSD && (rc != 0 || early || unfound))
            lease_returned(fs, home);
        pthread_mutex_unlock(&fs->lock);
        if (rc != 0 || route == LEASE_LOCAL)
            return rc;
        if (!early && !unfound)
            return run_remotely(fs, home, method, input, out, out_len);
        rc = early ? order_wait(fs) : end_unfound(fs, home);
        if (rc != 0)
            return rc;
    }
}

int fs_method_raw(struct limpet_fs *fs, uint64_t home, const char *method,
                  const struct fs_request *rq, const void *data, size_t len, void **out,
                  size_t *out_len)
{
    void *own_out = NULL;
    size_t own_len = 0;
    struct encoder input;
    int rc = call_encode(&input, rq, data, len);
    if (rc == 0)
        rc = run_method(fs, home, method, &input, &own_out, &own_len);
    encoder_fini(&input);
    if (out != NULL) {
        *out = own_out;
        *out_len = own_out != NULL ? own_len : 0;
    } else {
        limpet_free(own_out);
    }
    return rc;
}

int fs_method(struct limpet_fs *fs, uint64_t home, const char *method, const struct fs_request *rq,
              struct fs_answer *out)
{
    void *raw = NULL;
    size_t len = 0;
    struct fs_answer answer;
    int rc = fs_method_raw(fs, home, method, rq, NULL, 0, &raw, &len);
    if (rc == 0 && fs_answer_decode(raw, len, &answer) != 0)
        rc = -EIO;
    limpet_free(raw);
    if (rc == 0 && answer.flags & FS_HAS_INODE) {
        answer.inode.target = (struct fs_bytes){NULL, 0};
        file_saw(fs, &answer.inode, 0);
    }
    if (rc == 0)
        lease_saw_change(fs, home, &answer);
    if (rc == 0 && out != NULL)
        *out = answer;
    return rc;
}

void fs_method_hopefully(struct limpet_fs *fs, uint64_t home, const char *method,
                         const struct fs_request *rq)
{
    if (order_defer(fs, home, method, rq))
        return;
    int rc = fs_method(fs, home, method, rq, NULL);
    (void)rc;
}

static void ask_end(struct fs_ask *ask, int rc)
{
    struct fs_answer answer = {0};
    if (rc == 0 && !ask->raw && fs_answer_decode(ask->out, ask->out_len, &answer) != 0)
        rc = -EIO;
    if (rc == 0 && answer.flags & FS_HAS_INODE)
        file_saw(ask->call->fs, &answer.inode, ask->call->grant);
    if (rc == 0)
        lease_saw_change(ask->call->fs, ask->home, &answer);
    ask->answered(ask->call, rc, &answer, ask->out, ask->out != NULL ? ask->out_len : 0);
    limpet_free(ask->out);
    encoder_fini(&ask->input);
    free(ask);
}

static void ask_returned(struct fs_ask *ask, int rc)
{
    struct limpet_fs *fs = ask->call->fs;
    pthread_mutex_lock(&fs->lock);
    if (method_writes(ask->method, strlen(ask->method)))
        lease_touch(fs, ask->home);
    lease_returned(fs, ask->home);
    pthread_mutex_unlock(&fs->lock);
    ask_end(ask, rc);
}

static void asked(struct limpet_completion *completion, void *arg)
{
    struct fs_ask *ask = arg;
    struct limpet_fs *fs = ask->call->fs;
    int rc = (int)limpet_completion_result(completion);
    limpet_completion_release(completion);
    limpet_op_destroy(ask->op);
    ask->op = NULL;
    if (rc != -FS_LEASED) {
        ask_returned(ask, rc);
        return;
    }
    pthread_mutex_lock(&fs->lock);
    STAILQ_INSERT_TAIL(&fs->refused, ask, link);
    pthread_cond_broadcast(&fs->changed);
    pthread_mutex_unlock(&fs->lock);
}

void ask_again(struct fs_ask *ask)
{
    if (ask->parked) {
        int rc = ask->unfound ? end_unfound(ask->call->fs, ask->home) : 0;
        ask->parked = ask->unfound = false;
        if (rc == 0)
            ask_begin(ask);
        else
            ask_end(ask, rc);
        return;
    }
    ask->call->grant = 0;
    ask_returned(ask, operate_after_recall(ask->call->fs, ask->home, ask->method, &ask->input,
                                           &ask->out, &ask->out_len));
}

static bool is_raw(const char *method)
{
    return strcmp(method, "fs.list") == 0 || strcmp(method, "fs.xget") == 0 ||
           strcmp(method, "fs.xlist") == 0 || strcmp(method, "fs.getlock") == 0;
}

static void ask_remotely(struct fs_ask *ask)
{
    char name[FS_OBJECT_NAME_MAX];
    struct limpet_completion *completion = NULL;
    ask->op = op_of(ask->method, &ask->input, &ask->out, &ask->out_len);
    int rc = ask->op != NULL ? limpet_completion_create(asked, ask, &completion) : -ENOMEM;
    if (rc == 0) {
        fs_shard_object(ask->home, name);
        rc = limpet_aio_operate(ask->call->fs->pool, name, completion, ask->op);
        if (rc == 0)
            return;
        limpet_completion_release(completion);
    }
    if (ask->op != NULL)
        limpet_op_destroy(ask->op);
    ask_returned(ask, rc);
}

/*
 * M3: what follows the end of an intent in line counts on it. So it goes to the OSD as well when it
 * has been run on records that were delegated meanwhile; to do it twice does no harm.
 */
static bool goes_to_both(const struct fs_ask *ask)
{
    return ask->deferred && strcmp(ask->method, "fs.settle") == 0;
}

void ask_begin(struct fs_ask *ask)
{
    struct limpet_fs *fs = ask->call->fs;
    struct fs_lease *lease;
    struct encoder answer;
    int rc = 0;
    encoder_init(&answer);
    pthread_mutex_lock(&fs->lock);
    if (lock_park(ask)) {
        pthread_mutex_unlock(&fs->lock);
        return;
    }
    enum lease_route route =
        lease_route(fs, ask->home, method_writes(ask->method, strlen(ask->method)), &lease);
    assert(lease != NULL || route == LEASE_AT_OSD);
    ask->call->grant = lease != NULL ? lease->grant : 0;
    if (route == LEASE_WAIT && ask->deferred && lease->state != LEASE_LOADING && !lease->written) {
        /* Whoever gives the lease back waits for what it changes. */
        rc = lease->failed != 0 ? -EIO : lease_run(lease, ask->method, &ask->input, &answer);
        route = LEASE_LOCAL;
    } else if (route == LEASE_WAIT) {
        ask->parked = true;
        lease_park(lease, ask);
    } else if (route == LEASE_LOCAL) {
        rc = lease_run(lease, ask->method, &ask->input, &answer);
    }
    if (route == LEASE_LOCAL && rc == 0 && goes_to_both(ask)) {
        route = LEASE_AT_OSD;
        lease->remote++;
        encoder_fini(&answer);
    }
    if (route == LEASE_AT_OSD && unfound_has(fs, ask->home)) {
        lease_returned(fs, ask->home);
        ask->parked = ask->unfound = true;
        STAILQ_INSERT_TAIL(&fs->refused, ask, link);
        pthread_cond_broadcast(&fs->changed);
        route = LEASE_WAIT;
    }
    pthread_mutex_unlock(&fs->lock);
    if (route == LEASE_LOCAL) {
        ask->out = answer.data;
        ask->out_len = answer.len;
        ask_end(ask, rc);
    } else if (route == LEASE_AT_OSD) {
        ask_remotely(ask);
    }
}

void fs_ask(struct fs_call *call, uint64_t home, const char *method, const struct fs_request *rq,
            const void *data, size_t len, fs_answered answered)
{
    struct fs_answer none = {0};
    struct fs_ask *ask = calloc(1, sizeof *ask);
    if (ask == NULL) {
        answered(call, -ENOMEM, &none, NULL, 0);
        return;
    }
    *ask = (struct fs_ask){
        .call = call, .answered = answered, .home = home, .method = method, .raw = is_raw(method)};
    int rc = call_encode(&ask->input, rq, data, len);
    if (rc == 0)
        ask_begin(ask);
    else
        ask_end(ask, rc);
}

struct fs_ask *ask_create(struct limpet_fs *fs, uint64_t home, const char *method,
                          const struct fs_request *rq, const void *data, size_t len,
                          fs_answered answered)
{
    struct fs_ask *ask = calloc(1, sizeof *ask);
    struct fs_call *call = calloc(1, sizeof *call);
    if (ask == NULL || call == NULL) {
        free(ask);
        free(call);
        return NULL;
    }
    call->fs = fs;
    *ask = (struct fs_ask){
        .call = call, .answered = answered, .home = home, .method = method, .raw = is_raw(method)};
    if (call_encode(&ask->input, rq, data, len) != 0) {
        ask_free(ask);
        return NULL;
    }
    return ask;
}

void ask_free(struct fs_ask *ask)
{
    encoder_fini(&ask->input);
    free(ask->call);
    free(ask);
}

/* ---- Results ---- */

void attr_of_inode(const struct fs_inode *inode, struct limpet_fs_attr *out)
{
    uint64_t objects = 0;
    for (uint16_t i = 0; i < inode->n_ranges; i++)
        objects += inode->ranges[i].last - inode->ranges[i].first + 1;
    uint64_t bytes = objects << inode->layout.order;
    *out = (struct limpet_fs_attr){
        .ino = inode->ino,
        .mode = inode->mode,
        .uid = inode->uid,
        .gid = inode->gid,
        /* A directory that is about to go is seen as gone. */
        .links = inode->dying ? 0 : inode->links,
        .rdev = inode->rdev,
        .generation = inode->generation,
        .size = inode->size,
        .blocks = ((bytes < inode->size ? bytes : inode->size) + 511) / 512,
        .atime_ns = inode->atime_ns,
        .mtime_ns = inode->mtime_ns,
        .ctime_ns = inode->ctime_ns,
        .btime_ns = inode->btime_ns,
        .change = inode->change,
    };
}

void call_give_inode(struct fs_call *call, const struct fs_inode *inode)
{
    struct limpet_fs *fs = call->fs;
    struct fs_inode now = *inode;
    pthread_mutex_lock(&fs->lock);
    behind_show(fs, &now);
    pthread_mutex_unlock(&fs->lock);
    attr_of_inode(&now, &call->result.attr);
}

int call_give_bytes(struct fs_call *call, const void *bytes, size_t len)
{
    call->result.data = malloc(len + 1);
    call->result.len = len;
    if (call->result.data == NULL)
        return -ENOMEM;
    if (len > 0)
        memcpy(call->result.data, bytes, len);
    return 0;
}

/* ---- Calls ---- */

static void call_free(struct fs_call *call)
{
    free(call->data);
    limpet_buffer_destroy(call->buffer);
    free(call->result.data);
    free(call);
}

void call_end(struct fs_call *call, ssize_t rc)
{
    struct limpet_fs *fs = call->fs;
    struct limpet_fs_result *result = &call->result;
    struct fs_lease *name = NULL, *attr = NULL;
    enum limpet_fs_verb verb = call->rq.verb;
    uint64_t ino = call->rq.ino, grant = call->grant;
    /* Words between shards and us; nobody else knows them. */
    if (rc == -FS_MOVING || rc == -FS_CHANGED || rc == -FS_LEASED || rc == -FS_SPLIT)
        rc = -EBUSY;
    /* What could not be written back, such as its creation: that is why it is not there. */
    if (rc == -ESTALE && verb == LIMPET_FS_WRITE && behind_error(fs, ino) != 0)
        rc = behind_error(fs, ino);
    if (rc == 0 && call->written > 0)
        rc = (ssize_t)call->written;
    if (rc >= 0 && call->close_error != 0)
        rc = call->close_error;
    pthread_mutex_lock(&fs->lock);
    if (rc >= 0 || rc == -ENOENT)
        name = lease_reply(fs, call->name_home, call->name_grant);
    if (rc >= 0 && result->attr.ino != 0)
        attr = lease_reply(fs, fs_home(result->attr.ino), call->grant);
    else if (rc >= 0 && verb == LIMPET_FS_READ)
        attr = lease_reply(fs, fs_home(ino), grant);
    result->keep_name = name != NULL;
    result->keep_attr =
        attr != NULL && lease_keeps(attr, result->attr.ino != 0 ? result->attr.ino : ino);
    if (verb == LIMPET_FS_WRITE)
        lease_touch(fs, fs_home(ino)); /* Its size may be ahead of its record. */
    pthread_mutex_unlock(&fs->lock);
    call->done(rc, result, call->arg);
    orphan_over(call);
    call_free(call);
    pthread_mutex_lock(&fs->lock);
    if (verb == LIMPET_FS_READ)
        lease_read(fs, ino, grant);
    lease_replied(fs, name);
    lease_replied(fs, attr);
    if (--fs->calls == 0)
        pthread_cond_broadcast(&fs->idle);
    pthread_mutex_unlock(&fs->lock);
}

void call_work(struct fs_call *call)
{
    struct limpet_fs *fs = call->fs;
    pthread_mutex_lock(&fs->lock);
    STAILQ_INSERT_TAIL(&fs->work, call, link);
    pthread_cond_broadcast(&fs->changed);
    pthread_mutex_unlock(&fs->lock);
}

static int check_name(const char *name)
{
    size_t len = strlen(name);
    if (len == 0)
        return -ENOENT;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strchr(name, '/') != NULL)
        return -EINVAL;
    return len > FS_NAME_BYTES_MAX ? -ENAMETOOLONG : 0;
}

static int take_name(const char *name, char *own, const char **out)
{
    if (name == NULL)
        return 0;
    int rc = check_name(name);
    if (rc == 0) {
        strcpy(own, name);
        *out = own;
    }
    return rc;
}

/* What is to be written, in a buffer that may be handed on; the call's. */
static int take_contents(struct fs_call *call)
{
    struct limpet_fs_request *rq = &call->rq;
    if (call->buffer == NULL && rq->len > 0) {
        call->buffer = limpet_buffer_create(rq->len);
        if (call->buffer == NULL)
            return -ENOMEM;
        memcpy(limpet_buffer_data(call->buffer), rq->data, rq->len);
    }
    if (call->buffer != NULL) {
        rq->data = limpet_buffer_data(call->buffer);
        rq->len = limpet_buffer_len(call->buffer);
    }
    return 0;
}

/* Names and data of the request become the call's. */
static int take_request(struct fs_call *call)
{
    struct limpet_fs_request *rq = &call->rq;
    bool xattr = rq->verb >= LIMPET_FS_XATTR_GET && rq->verb <= LIMPET_FS_XATTR_LIST;
    int rc = 0;
    if (xattr && rq->name != NULL) {
        size_t len = strlen(rq->name);
        if (len == 0 || len > FS_NAME_BYTES_MAX)
            return -ERANGE;
        strcpy(call->name, rq->name);
        rq->name = call->name;
    } else if (!xattr) {
        rc = take_name(rq->name, call->name, &rq->name);
    }
    if (rc == 0)
        rc = take_name(rq->to_name, call->to_name, &rq->to_name);
    if (rc == 0 && rq->verb == LIMPET_FS_WRITE)
        return take_contents(call);
    if (rc != 0 || rq->data == NULL || rq->len == 0)
        return rc;
    call->data = malloc(rq->len);
    if (call->data == NULL)
        return -ENOMEM;
    memcpy(call->data, rq->data, rq->len);
    rq->data = call->data;
    return 0;
}

static void (*const begins[LIMPET_FS_VERBS_END])(struct fs_call *call) = {
    [LIMPET_FS_LOOKUP] = name_lookup,     [LIMPET_FS_GETATTR] = name_getattr,
    [LIMPET_FS_SETATTR] = name_setattr,   [LIMPET_FS_CREATE] = name_create,
    [LIMPET_FS_LINK] = call_work,         [LIMPET_FS_UNLINK] = name_unlink,
    [LIMPET_FS_RMDIR] = name_at_once,     [LIMPET_FS_RENAME] = name_at_once,
    [LIMPET_FS_LIST] = name_list,         [LIMPET_FS_OPEN] = orphan_open,
    [LIMPET_FS_RELEASE] = orphan_release, [LIMPET_FS_READ] = data_read,
    [LIMPET_FS_WRITE] = data_write,       [LIMPET_FS_ALLOCATE] = call_work,
    [LIMPET_FS_SEEK] = call_work,         [LIMPET_FS_XATTR_GET] = name_xattr,
    [LIMPET_FS_XATTR_SET] = name_xattr,   [LIMPET_FS_XATTR_REMOVE] = name_xattr,
    [LIMPET_FS_XATTR_LIST] = name_xattr,  [LIMPET_FS_LOCK] = lock_set,
    [LIMPET_FS_LOCK_GET] = lock_get,      [LIMPET_FS_UNLOCK_ALL] = data_close,
    [LIMPET_FS_SYNC] = behind_sync,       [LIMPET_FS_COPY] = copy_begin,
};

void limpet_fs_submit(struct limpet_fs *fs, const struct limpet_fs_request *request,
                      limpet_fs_callback done, void *arg)
{
    static const struct limpet_fs_result none;
    struct fs_call *call = calloc(1, sizeof *call);
    if (call == NULL) {
        limpet_buffer_destroy(request->buffer);
        done(-ENOMEM, &none, arg);
        return;
    }
    call->fs = fs;
    call->rq = *request;
    call->buffer = request->buffer;
    call->done = done;
    call->arg = arg;
    pthread_mutex_lock(&fs->lock);
    fs->calls++;
    pthread_mutex_unlock(&fs->lock);
    int rc = request->verb < LIMPET_FS_VERBS_END && begins[request->verb] != NULL
                 ? take_request(call)
                 : -EINVAL;
    if (rc != 0)
        call_end(call, rc);
    else
        begins[request->verb](call);
}

/* ---- Waiting ---- */

struct waiting {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool done;
    ssize_t rc;
    struct limpet_fs_result *out;
};

static void waited(ssize_t rc, const struct limpet_fs_result *result, void *arg)
{
    struct waiting *waiting = arg;
    if (waiting->out != NULL) {
        *waiting->out = *result;
        waiting->out->data = NULL;
        if (result->data != NULL) {
            waiting->out->data = malloc(result->len + 1);
            if (waiting->out->data != NULL)
                memcpy(waiting->out->data, result->data, result->len);
            else
                rc = -ENOMEM;
        }
    }
    pthread_mutex_lock(&waiting->lock);
    waiting->rc = rc;
    waiting->done = true;
    pthread_cond_signal(&waiting->ended);
    pthread_mutex_unlock(&waiting->lock);
}

ssize_t limpet_fs_do(struct limpet_fs *fs, const struct limpet_fs_request *request,
                     struct limpet_fs_result **out)
{
    struct waiting waiting = {.lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};
    if (out != NULL) {
        *out = waiting.out = calloc(1, sizeof **out);
        if (*out == NULL)
            return -ENOMEM;
    }
    limpet_fs_submit(fs, request, waited, &waiting);
    pthread_mutex_lock(&waiting.lock);
    while (!waiting.done)
        pthread_cond_wait(&waiting.ended, &waiting.lock);
    pthread_mutex_unlock(&waiting.lock);
    return waiting.rc;
}

void limpet_fs_result_destroy(struct limpet_fs_result *result)
{
    if (result == NULL)
        return;
    free(result->data);
    free(result);
}
