/*
 * Listing requests: which objects a placement group has, a page at a time.
 */
#include "osd/pg/pg_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/object_page.h"
#include "common/planted.h"
#include "common/witness.h"
#include "osd/pg/pg_watch.h"

struct pg_list {
    struct pg_async async;
    struct store_list list;
    struct pg_request *request;
    struct object_id *after;
    struct object_page_ask ask; /* Points into the request's message. */
    bool kept;
    uint32_t max; /* Objects of the page. */
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

static bool is_asked_for(const struct pg_list *work, const struct store_list_entry *entry)
{
    const struct object_page_ask *ask = &work->ask;
    const struct object_id *id = &entry->id;
    struct object_info_layout info;
    /* Clones, and what is kept for their sake only, are nothing to most who list. */
    if (id->snap != OBJECT_HEAD ||
        (!work->kept && object_info_parse(entry->info, entry->info_len, &info) == 0 &&
         info.flags & OBJECT_INFO_WHITEOUT))
        return false;
    return !ask->one_space ||
           (id->space_len == ask->space_len &&
            (id->space_len == 0 || memcmp(id->space, ask->space, ask->space_len) == 0));
}

/*
 * A page: see common/object_page.h. One call of the store is looked at for each, so that a request
 * costs no more when it asks for a namespace that has few objects.
 */
static int encode_page(const struct pg_list *work, struct buf_slice *out)
{
    const struct store_list *list = &work->list;
    struct encoder e;
    uint32_t n = 0, looked = 0;
    encoder_init(&e);
    encode_u32(&e, 0);
    for (; looked < list->n && n < work->max; looked++) {
        if (!is_asked_for(work, &list->entries[looked]))
            continue;
        encode_object_id(&e, &list->entries[looked].id);
        n++;
    }
    if (planted(PLANTED_PAGE_SKIPS))
        looked = list->n;
    bool end = list->end && looked == list->n;
    assert(end || looked > 0);
    encode_u8(&e, end);
    if (!end)
        encode_object_id(&e, &list->entries[looked - 1].id);
    int error = e.failed ? -ENOMEM : 0;
    if (!error) {
        n = htole32(n);
        memcpy(e.data, &n, sizeof n);
        error = buf_slice_copy(e.data, e.len, out);
    }
    encoder_fini(&e);
    return error;
}

static void list_done(struct store_list *list)
{
    struct pg_list *work = container_of(list, struct pg_list, list);
    struct pg *pg = work->async.pg;
    struct pg_request *request = work->request;
    pg_async_end(&work->async);
    if (request) {
        struct buf_slice data = BUF_SLICE_EMPTY;
        struct ops_result result = {.result = list->error ? -EIO : encode_page(work, &data)};
        struct wire_op_result step = {.data_len = (uint32_t)data.len};
        pg->world->read_ops++;
        pg->reads++;
        pg_request_finish(request, &result, &step, data);
    }
    list_free(work);
}

static void list_submit(struct pg_list *work)
{
    struct pg *pg = work->request->pg;
    work->list.pool = pg->id.pool;
    work->list.first = pg->hash_first;
    work->list.last = pg->hash_last;
    work->list.after = work->after;
    work->list.max = work->ask.one_space ? STORE_LIST_MAX : work->max;
    work->list.done = list_done;
    pg_async_begin(pg, &work->async, list_drop);
    store_list(pg->world->store, &work->list);
}

/*
 * What is asked for, and where to go on: -EINVAL when that is no object of the pool. One that lies
 * before the group, as it may after a split, means its beginning.
 */
static int parse_ask(const struct pg_request *request, struct object_page_ask *ask,
                     struct object_id **after)
{
    const struct pg *pg = request->pg;
    struct buf_slice data = request->message->payload;
    bool one_space = ops_step(&request->ops, 0).offset & WIRE_LIST_ONE_SPACE;
    *after = NULL;
    if (object_page_ask_decode(data.data, data.len, one_space, ask) < 0)
        return -EINVAL;
    if (!ask->has_after)
        return 0;
    if (ask->after.pool != pg->id.pool)
        return -EINVAL;
    if (object_hash_reverse(ask->after.hash) < pg->hash_first)
        return 0;
    *after = object_id_copy(&ask->after);
    return *after ? 0 : -ENOMEM;
}

void pg_list_start(struct pg_request *request)
{
    struct object_id *after;
    struct object_page_ask ask;
    if (!pg_lease_holds(request->pg)) {
        pg_lease_wait(request, NULL);
        return;
    }
    witness_pg(request->pg, PG_MOMENT_READS, &(struct pg_testimony){0});
    struct wire_op step = ops_step(&request->ops, 0);
    if (step.code == WIRE_OP_CODE_WATCH_PING) {
        pg_watch_ping(request);
        return;
    }
    int error = parse_ask(request, &ask, &after);
    if (!error && step.code == WIRE_OP_CODE_INCONSISTENT) {
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
    work->ask = ask;
    work->kept = step.offset & WIRE_LIST_KEPT;
    work->max =
        step.length == 0 || step.length > STORE_LIST_MAX ? STORE_LIST_MAX : (uint32_t)step.length;
    request->operation = &work->async;
    pg_request_place(request, REQUEST_RUNNING);
    list_submit(work);
}

void pg_list_disown(struct pg_request *request)
{
    container_of(request->operation, struct pg_list, async)->request = NULL;
}
