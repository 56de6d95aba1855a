/*
 * Reading requests on the primary: steps run one after the other while the object is held as a
 * reader, so that no write comes between them. A small request can ask for much data: each step
 * waits until the OSD has room for its reply, and all together never exceed a message.
 */
#include "osd/pg/pg_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/planted.h"
#include "common/witness.h"
#include "osd/pg/pg_layout.h"

struct pg_read {
    struct pg_async async;
    struct store_read read;
    struct pg_request *request; /* NULL: nobody waits. */
    struct pg_object *object;
    uint16_t n;
    uint16_t step;
    bool waits;    /* In the world's waiting_reads. */
    bool repaired; /* Our copy turned out to be damaged, once. */
    struct repair_waiter repair;
    TAILQ_ENTRY(pg_read) waiting_link;
    uint64_t total; /* Of all steps so far. */
    uint32_t *lens; /* Of each step's data; stand after the parts. */
    struct buf_slice parts[];
};

static void read_free(struct pg_read *read)
{
    for (uint16_t i = 0; i < read->n; i++)
        buf_slice_drop(&read->parts[i]);
    pg_object_release(read->object, false);
    free(read);
}

static void read_drop(struct pg_async *async)
{
    read_free(container_of(async, struct pg_read, async));
}

static void stop_waiting(struct pg_world *world, struct pg_read *read)
{
    TAILQ_REMOVE(&world->waiting_reads, read, waiting_link);
    read->waits = false;
}

void pg_read_disown(struct pg_request *request)
{
    /* Reads and listings give the address of their pointer to the request. */
    struct pg_request **owner = request->operation;
    *owner = NULL;
    if (request->ops.list)
        return;
    struct pg_read *read = container_of(owner, struct pg_read, request);
    if (!read->waits)
        return;
    stop_waiting(request->pg->world, read);
    read_free(read);
}

/* All parts in one slice; a single part as it is. They fit a message: see fits_reply(). */
static int join(struct pg_read *read, struct buf_slice *out)
{
    uint16_t n = read->n;
    size_t total = 0;
    uint16_t filled = 0, last = 0;
    for (uint16_t i = 0; i < n; i++) {
        total += read->lens[i];
        if (read->lens[i] > 0) {
            filled++;
            last = i;
        }
    }
    *out = BUF_SLICE_EMPTY;
    if (filled <= 1) {
        *out = read->parts[last];
        read->parts[last] = BUF_SLICE_EMPTY;
        return 0;
    }
    int error = buf_slice_alloc(total, out);
    size_t at = 0;
    for (uint16_t i = 0; i < n && !error; i++) {
        if (read->lens[i] > 0)
            memcpy(out->data + at, read->parts[i].data, read->lens[i]);
        at += read->lens[i];
    }
    return error;
}

static void finish(struct pg_read *read, int error)
{
    struct pg_request *request = read->request;
    if (request) {
        struct ops_result result = {
            .result = error, .failed_step = read->step, .version = read->object->state.version};
        struct buf_slice data = BUF_SLICE_EMPTY;
        if (!error)
            result.result = join(read, &data);
        struct pg_world *world = request->pg->world;
        world->read_ops++;
        world->read_bytes += data.len;
        pg_request_finish(request, &result, result.result ? NULL : read->lens, data);
    }
    read_free(read);
}

/* All steps together have to fit the reply. */
static bool fits_reply(const struct pg_read *read, uint64_t len)
{
    return read->total <= MESSAGE_PAYLOAD_MAX && len <= MESSAGE_PAYLOAD_MAX - read->total;
}

static int answer_stat(struct pg_read *read)
{
    const struct object_state *state = &read->object->state;
    struct wire_stat stat = {.size = state->size, .mtime_ns = state->mtime_ns};
    if (!fits_reply(read, sizeof stat))
        return -EFBIG;
    read->total += sizeof stat;
    read->lens[read->step] = sizeof stat;
    return buf_slice_copy(&stat, sizeof stat, &read->parts[read->step]);
}

/* Runs steps until one needs the store: then true, and read_done() goes on. */
static bool run_steps(struct pg_read *read, int *error);

static void submit(struct pg_read *read, uint64_t offset, uint64_t len);

static void repair_done(struct repair_waiter *waiter, int error)
{
    struct pg_read *read = container_of(waiter, struct pg_read, repair);
    if (error == -ECANCELED && read->request)
        pg_request_hold_again(read->request);
    if (error && error != -ECANCELED && read->object->pg)
        pg_inconsistent_unreadable(read->object->pg, read->object);
    if (error || !read->request)
        finish(read, -EIO);
    else
        submit(read, read->read.offset, read->read.len);
}

/* Our copy is damaged: it is written anew from a member's, and then read again. */
static bool repair(struct pg_read *read, int error)
{
    struct pg *pg = read->object->pg;
    if (!pg || !read->request || !pg_is_read_error(pg, error) || planted(PLANTED_NO_READ_REPAIR))
        return false;
    if (read->repaired) {
        pg_inconsistent_unreadable(pg, read->object);
        return false;
    }
    read->repaired = true;
    read->repair.done = repair_done;
    return pg_repair_ask(pg, read->object, -1, &read->repair) == 0;
}

static void read_done(struct store_read *done)
{
    struct pg_read *read = container_of(done, struct pg_read, read);
    struct pg *pg = read->async.pg;
    pg_async_end(&read->async);
    encoder_fini(&done->attrs);
    int error = done->error;
    if (error) {
        log_error(pg->world->env, "object unreadable", "pg=%s name=%.*s error=\"%s\"", pg_text(pg),
                  (int)read->object->id.name_len, (const char *)read->object->id.name,
                  error_text(error));
        buf_slice_drop(&done->data);
        if (repair(read, error))
            return;
        error = -EIO;
    } else {
        read->parts[read->step] = done->data;
        read->lens[read->step] = (uint32_t)done->data.len;
        done->data = BUF_SLICE_EMPTY;
        read->step++;
    }
    if (!error && read->request && run_steps(read, &error))
        return;
    finish(read, error);
}

/* The range of the object that a step wants. */
static uint64_t read_len(const struct object_state *state, const struct wire_op *step)
{
    if (step->offset >= state->size)
        return 0;
    uint64_t left = state->size - step->offset;
    return step->length == 0 || step->length > left ? left : step->length;
}

static void submit(struct pg_read *read, uint64_t offset, uint64_t len)
{
    struct pg *pg = read->request->pg;
    memset(&read->read, 0, sizeof read->read);
    read->read.object = read->object->id;
    read->read.offset = offset;
    read->read.len = len;
    read->read.done = read_done;
    pg_async_begin(pg, &read->async, read_drop);
    store_read(pg->world->store, &read->read);
}

/* Reads what the step wants; or waits until that may be read. */
static int begin_step(struct pg_read *read, uint64_t offset, uint64_t len)
{
    struct pg_world *world = read->request->pg->world;
    if (!fits_reply(read, len))
        return -EFBIG;
    if (!world->ops->may_read(world->ctx, read->request, len)) {
        TAILQ_INSERT_TAIL(&world->waiting_reads, read, waiting_link);
        read->waits = true;
        return 0;
    }
    read->total += len;
    submit(read, offset, len);
    return 0;
}

static bool run_steps(struct pg_read *read, int *error)
{
    const struct ops_request *ops = &read->request->ops;
    while (read->step < read->n) {
        struct wire_op step = ops_step(ops, read->step);
        uint64_t len = read_len(&read->object->state, &step);
        if (step.code == WIRE_OP_CODE_READ && len > 0) {
            *error = begin_step(read, step.offset, len);
            return *error == 0;
        }
        if (step.code == WIRE_OP_CODE_STAT)
            *error = answer_stat(read);
        if (*error)
            return false;
        read->step++;
    }
    return false;
}

void pg_read_start(struct pg_request *request, struct pg_object *object)
{
    if (!pg_lease_holds(request->pg)) {
        pg_lease_wait(request, object);
        return;
    }
    witness_pg(request->pg, PG_MOMENT_READS, &(struct pg_testimony){0});
    if (!object->state.exists) {
        pg_request_fail(request, -ENOENT);
        return;
    }
    uint16_t n = request->ops.head.n_ops;
    struct pg_read *read =
        calloc(1, sizeof *read + n * (sizeof(struct buf_slice) + sizeof(uint32_t)));
    if (!read) {
        pg_request_fail(request, -ENOMEM);
        return;
    }
    read->n = n;
    read->lens = (uint32_t *)(read->parts + n);
    read->request = request;
    read->object = object;
    request->operation = &read->request;
    pg_request_place(request, REQUEST_READING);
    pg_object_hold(object, false);
    int error = 0;
    if (!run_steps(read, &error))
        finish(read, error);
}

void pg_reads_resume(struct pg_world *world)
{
    struct pg_read *read;
    uint32_t n = 0;
    TAILQ_FOREACH(read, &world->waiting_reads, waiting_link)
    n++;
    /* Each once: those that must go on waiting line up again. */
    for (; n > 0 && (read = TAILQ_FIRST(&world->waiting_reads)); n--) {
        int error = 0;
        stop_waiting(world, read);
        if (!run_steps(read, &error))
            finish(read, error);
    }
}

/* ---- Listing ---- */

struct pg_list {
    struct pg_async async;
    struct store_list list;
    struct pg_request *request;
    struct object_id *after;
};

static void list_free(struct pg_list *work)
{
    list_fini(&work->list);
    free(work->after);
    free(work);
}

static void list_drop(struct pg_async *async)
{
    list_free(container_of(async, struct pg_list, async));
}

/* u32 count, the ids, u8 end. */
static int encode_listing(const struct store_list *list, struct buf_slice *out)
{
    struct encoder e;
    uint32_t n = 0;
    encoder_init(&e);
    encode_u32(&e, 0);
    for (uint32_t i = 0; i < list->n; i++) {
        if (list->entries[i].id.snap != OBJECT_HEAD)
            continue;
        encode_object_id(&e, &list->entries[i].id);
        n++;
    }
    encode_u8(&e, list->end);
    int error = e.failed ? -ENOMEM : 0;
    if (!error) {
        n = htole32(n);
        memcpy(e.data, &n, sizeof n);
        error = buf_slice_copy(e.data, e.len, out);
    }
    encoder_fini(&e);
    return error;
}

/* Whether to look further: what was found is nothing that clients may see. */
static bool is_all_hidden(const struct store_list *list)
{
    for (uint32_t i = 0; i < list->n; i++)
        if (list->entries[i].id.snap == OBJECT_HEAD)
            return false;
    return !list->end && list->n > 0;
}

static void list_submit(struct pg_list *work);

static void list_done(struct store_list *list)
{
    struct pg_list *work = container_of(list, struct pg_list, list);
    struct pg *pg = work->async.pg;
    struct pg_request *request = work->request;
    pg_async_end(&work->async);
    if (request && !list->error && is_all_hidden(list)) {
        struct object_id *after = object_id_copy(&list->entries[list->n - 1].id);
        if (after) {
            free(work->after);
            work->after = after;
            list_fini(list);
            list_submit(work);
            return;
        }
        list->error = -ENOMEM;
    }
    if (request) {
        struct buf_slice data = BUF_SLICE_EMPTY;
        struct ops_result result = {.result = list->error ? -EIO : encode_listing(list, &data)};
        uint32_t len = (uint32_t)data.len;
        pg->world->read_ops++;
        pg_request_finish(request, &result, &len, data);
    }
    list_free(work);
}

static void list_submit(struct pg_list *work)
{
    struct pg *pg = work->request->pg;
    struct wire_op step = ops_step(&work->request->ops, 0);
    memset(&work->list, 0, sizeof work->list);
    work->list.pool = pg->id.pool;
    work->list.first = pg->hash_first;
    work->list.last = pg->hash_last;
    work->list.after = work->after;
    work->list.max =
        step.length == 0 || step.length > STORE_LIST_MAX ? STORE_LIST_MAX : (uint32_t)step.length;
    work->list.done = list_done;
    pg_async_begin(pg, &work->async, list_drop);
    store_list(pg->world->store, &work->list);
}

/* Where to continue: -EINVAL when it is no object of the pool. */
static int parse_after(const struct pg_request *request, struct object_id **after)
{
    struct buf_slice data = request->message->payload;
    struct object_id id;
    struct decoder d;
    *after = NULL;
    if (data.len == 0)
        return 0;
    decoder_init(&d, data.data, data.len);
    decode_object_id(&d, &id);
    if (decoder_end(&d) || id.pool != request->pg->id.pool)
        return -EINVAL;
    *after = object_id_copy(&id);
    return *after ? 0 : -ENOMEM;
}

void pg_list_start(struct pg_request *request)
{
    struct object_id *after;
    if (!pg_lease_holds(request->pg)) {
        pg_lease_wait(request, NULL);
        return;
    }
    witness_pg(request->pg, PG_MOMENT_READS, &(struct pg_testimony){0});
    int error = parse_after(request, &after);
    if (!error && ops_step(&request->ops, 0).code == WIRE_OP_CODE_INCONSISTENT) {
        pg_inconsistent_start(request, after);
        free(after);
        return;
    }
    struct pg_list *work = error ? NULL : calloc(1, sizeof *work);
    if (!work) {
        if (!error)
            free(after);
        pg_request_fail(request, error ? error : -ENOMEM);
        return;
    }
    work->request = request;
    work->after = after;
    request->operation = &work->request;
    pg_request_place(request, REQUEST_READING);
    list_submit(work);
}
