/*
 * Listing requests: which objects a placement group has, a page at a time.
 */
#include "osd/pg/pg_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/witness.h"
#include "osd/pg/pg_watch.h"

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
        struct wire_op_result step = {.data_len = (uint32_t)data.len};
        pg->world->read_ops++;
        pg_request_finish(request, &result, &step, data);
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
    if (ops_step(&request->ops, 0).code == WIRE_OP_CODE_WATCH_PING) {
        pg_watch_ping(request);
        return;
    }
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
    request->operation = &work->async;
    pg_request_place(request, REQUEST_RUNNING);
    list_submit(work);
}

void pg_list_disown(struct pg_request *request)
{
    container_of(request->operation, struct pg_list, async)->request = NULL;
}
