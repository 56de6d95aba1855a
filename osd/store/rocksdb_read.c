/*
 * Reading from RocksDB.
 *
 *  1. A read of an object sees one moment: its record, contents and attributes come from one
 *     snapshot.
 *  2. Small reads are first tried on the loop with what is in memory. What needs the disk goes to
 *     helper threads, at most ROCKS_READERS_MAX at once, in the order of asking.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "osd/store/list.h"
#include "osd/store/rocksdb_private.h"

enum { READ_TIER_MEMORY = 1 }; /* RocksDB's kBlockCacheTier. */

/* ---- One object ---- */

struct reader {
    struct rocks_store *rs;
    rocksdb_readoptions_t *options;
    const rocksdb_snapshot_t *snapshot;
};

static void reader_init(struct reader *r, struct rocks_store *rs, bool memory_only)
{
    r->rs = rs;
    r->options = rocksdb_readoptions_create();
    r->snapshot = rocksdb_create_snapshot(rs->db);
    rocksdb_readoptions_set_snapshot(r->options, r->snapshot);
    if (memory_only)
        rocksdb_readoptions_set_read_tier(r->options, READ_TIER_MEMORY);
}

static void reader_fini(struct reader *r)
{
    rocksdb_readoptions_destroy(r->options);
    rocksdb_release_snapshot(r->rs->db, r->snapshot);
}

static int reader_error(struct reader *r, const char *what, char *message)
{
    static const char incomplete[] = "Result incomplete";
    if (message && strncmp(message, incomplete, sizeof incomplete - 1) == 0) {
        rocksdb_free(message);
        return ROCKS_INCOMPLETE;
    }
    return rocks_error(r->rs, what, message);
}

/* *value is NULL when there is no such key; else pinned, to be destroyed by the caller. */
static int reader_get(struct reader *r, const void *key, size_t key_len,
                      rocksdb_pinnableslice_t **value, const char **bytes, size_t *len)
{
    char *message = NULL;
    *value = rocksdb_get_pinned(r->rs->db, r->options, key, key_len, &message);
    int rc = reader_error(r, "get", message);
    if (rc == 0 && *value)
        *bytes = rocksdb_pinnableslice_value(*value, len);
    return rc;
}

static int read_record(struct reader *r, struct store_read *read, struct rocks_object *record)
{
    uint8_t key[ROCKS_OBJECT_KEY_MAX];
    rocksdb_pinnableslice_t *value;
    const char *bytes;
    size_t len;
    int rc = reader_get(r, key, rocks_object_key(&read->object, key), &value, &bytes, &len);
    if (rc != 0)
        return rc;
    if (!value)
        return -ENOENT;
    if (rocks_object_valid(bytes, len)) {
        memcpy(record, bytes, sizeof *record);
        read->stat.exists = true;
        read->stat.size = record->size;
        read->stat.info_len = record->info_len;
        memcpy(read->stat.info, bytes + sizeof *record, record->info_len);
    } else {
        rc = -ELIMPET_CORRUPT;
    }
    rocksdb_pinnableslice_destroy(value);
    return rc;
}

/* Copies [at, at + len) of a chunk; what is not stored is zero. */
static int read_chunk(struct reader *r, uint64_t data, uint32_t chunk, size_t at, uint8_t *out,
                      size_t len)
{
    uint8_t key[ROCKS_DATA_KEY_BYTES];
    rocksdb_pinnableslice_t *value;
    const char *bytes;
    size_t stored = 0;
    int rc = reader_get(r, key, rocks_data_key(data, chunk, key), &value, &bytes, &stored);
    if (rc != 0)
        return rc;
    size_t n = value && stored > at ? stored - at : 0;
    if (n > len)
        n = len;
    if (n > 0)
        memcpy(out, bytes + at, n);
    memset(out + n, 0, len - n);
    if (value)
        rocksdb_pinnableslice_destroy(value);
    return 0;
}

static int read_data(struct reader *r, struct store_read *read, const struct rocks_object *record)
{
    if (read->len == 0 || read->offset >= record->size)
        return 0;
    uint64_t left = record->size - read->offset, offset = read->offset;
    size_t len = (size_t)(read->len < left ? read->len : left);
    int rc = buf_slice_alloc(len, &read->data);
    uint8_t *out = read->data.data;
    while (rc == 0 && len > 0) {
        size_t at = offset % ROCKS_CHUNK_BYTES, part = ROCKS_CHUNK_BYTES - at;
        if (part > len)
            part = len;
        rc = read_chunk(r, record->data, (uint32_t)(offset / ROCKS_CHUNK_BYTES), at, out, part);
        offset += part;
        out += part;
        len -= part;
    }
    return rc;
}

static int read_attrs(struct reader *r, struct store_read *read, const struct rocks_object *record)
{
    if (!read->want_attrs || !(record->flags & ROCKS_OBJECT_ATTRS))
        return 0;
    uint8_t from[ROCKS_ATTR_KEY_MAX], to[ROCKS_ATTR_KEY_MAX];
    size_t from_len = rocks_attr_key(record->data, NULL, 0, from);
    size_t to_len = rocks_attr_key(record->data + 1, NULL, 0, to);
    rocksdb_readoptions_set_iterate_upper_bound(r->options, (char *)to, to_len);
    rocksdb_iterator_t *it = rocksdb_create_iterator(r->rs->db, r->options);
    for (rocksdb_iter_seek(it, (char *)from, from_len); rocksdb_iter_valid(it);
         rocksdb_iter_next(it)) {
        size_t key_len, len;
        const char *key = rocksdb_iter_key(it, &key_len);
        const char *value = rocksdb_iter_value(it, &len);
        encode_string16(&read->attrs, key + from_len, key_len - from_len);
        encode_string32(&read->attrs, value, len);
    }
    char *message = NULL;
    rocksdb_iter_get_error(it, &message);
    rocksdb_iter_destroy(it);
    int rc = reader_error(r, "iterate", message);
    return rc == 0 && read->attrs.failed ? -ENOMEM : rc;
}

/* 0, an error, or ROCKS_INCOMPLETE; results are there with 0 only. */
static int read_object(struct rocks_store *rs, struct store_read *read, bool memory_only)
{
    struct reader r;
    struct rocks_object record;
    reader_init(&r, rs, memory_only);
    memset(&read->stat, 0, sizeof read->stat);
    int rc = read_record(&r, read, &record);
    if (rc == 0)
        rc = read_data(&r, read, &record);
    if (rc == 0)
        rc = read_attrs(&r, read, &record);
    reader_fini(&r);
    if (rc != 0) {
        memset(&read->stat, 0, sizeof read->stat);
        buf_slice_drop(&read->data);
        encoder_reset(&read->attrs);
    }
    return rc == -ELIMPET_CORRUPT ? -EIO : rc;
}

/* ---- Listings ---- */

/* Where a listing begins: after `after`, but not before `first`. */
static size_t list_start(const struct store_list *list, uint8_t key[ROCKS_OBJECT_KEY_MAX + 1])
{
    const struct object_id *after = list->after;
    if (!after || after->pool < list->pool ||
        (after->pool == list->pool && object_hash_reverse(after->hash) < list->first))
        return rocks_object_key_first(list->pool, list->first, key);
    /* No key lies between one and the same with a zero behind it. */
    size_t len = rocks_object_key(after, key);
    key[len] = 0;
    return len + 1;
}

static int list_take(struct store_list *list, const rocksdb_iterator_t *it)
{
    struct rocks_object_names names;
    struct object_id id;
    size_t key_len, len;
    const char *key = rocksdb_iter_key(it, &key_len), *value = rocksdb_iter_value(it, &len);
    int rc = rocks_object_key_decode((const uint8_t *)key, key_len, &names, &id);
    if (rc < 0)
        return rc;
    if (!rocks_object_valid(value, len))
        return -ELIMPET_CORRUPT;
    struct rocks_object record;
    memcpy(&record, value, sizeof record);
    return list_add(list, &id, record.size, value + sizeof record, record.info_len);
}

static int list_objects(struct rocks_store *rs, struct store_list *list)
{
    uint8_t from[ROCKS_OBJECT_KEY_MAX + 1], to[ROCKS_OBJECT_KEY_MAX];
    size_t from_len = list_start(list, from);
    size_t to_len = rocks_object_key_end(list->pool, list->last, to);
    rocksdb_readoptions_t *options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_iterate_upper_bound(options, (char *)to, to_len);
    rocksdb_iterator_t *it = rocksdb_create_iterator(rs->db, options);
    rocksdb_iter_seek(it, (char *)from, from_len);
    int rc = 0;
    for (; rc == 0 && list->n < list->max && rocksdb_iter_valid(it); rocksdb_iter_next(it))
        rc = list_take(list, it);
    list->end = !rocksdb_iter_valid(it);
    char *message = NULL;
    rocksdb_iter_get_error(it, &message);
    rocksdb_iter_destroy(it);
    rocksdb_readoptions_destroy(options);
    int error = rocks_error(rs, "list", message);
    rc = rc < 0 ? rc : error;
    return rc == -ELIMPET_CORRUPT ? -EIO : rc;
}

/* ---- Pairs of placement groups ---- */

static void take_pair(struct store_pg_read *read, const rocksdb_iterator_t *it)
{
    size_t key_len, len;
    const char *key = rocksdb_iter_key(it, &key_len), *value = rocksdb_iter_value(it, &len);
    encode_string16(&read->pairs, key + ROCKS_PG_PREFIX_BYTES, key_len - ROCKS_PG_PREFIX_BYTES);
    encode_string32(&read->pairs, value, len);
    read->n++;
}

static int pg_read_pairs(struct rocks_store *rs, struct store_pg_read *read)
{
    uint8_t from[ROCKS_PG_KEY_MAX], to[ROCKS_PG_KEY_MAX];
    size_t from_len = rocks_pg_key(read->pg, read->from, read->from_len, from);
    size_t to_len = rocks_pg_key(read->pg, read->to, read->to_len, to);
    uint32_t max = read->max ? read->max : UINT32_MAX;
    rocksdb_readoptions_t *options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_iterate_lower_bound(options, (char *)from, from_len);
    rocksdb_readoptions_set_iterate_upper_bound(options, (char *)to, to_len);
    rocksdb_iterator_t *it = rocksdb_create_iterator(rs->db, options);
    size_t common = from_len < to_len ? from_len : to_len;
    int order = memcmp(from, to, common);
    if (order < 0 || (order == 0 && from_len < to_len)) {
        if (read->reverse)
            rocksdb_iter_seek_to_last(it);
        else
            rocksdb_iter_seek_to_first(it);
        while (rocksdb_iter_valid(it) && read->n < max && !read->pairs.failed) {
            take_pair(read, it);
            if (read->reverse)
                rocksdb_iter_prev(it);
            else
                rocksdb_iter_next(it);
        }
    }
    char *message = NULL;
    rocksdb_iter_get_error(it, &message);
    rocksdb_iter_destroy(it);
    rocksdb_readoptions_destroy(options);
    int rc = rocks_error(rs, "read pairs", message);
    rc = rc == 0 && read->pairs.failed ? -ENOMEM : rc;
    return rc == -ELIMPET_CORRUPT ? -EIO : rc;
}

int rocks_pgs(struct store *store, store_pg_visit visit, void *ctx)
{
    struct rocks_store *rs = container_of(store, struct rocks_store, store);
    rocksdb_iterator_t *it = rocksdb_create_iterator(rs->db, rs->read_options);
    uint8_t key[ROCKS_PG_KEY_MAX] = {ROCKS_KEY_PG};
    rocksdb_iter_seek(it, (char *)key, 1);
    while (rocksdb_iter_valid(it)) {
        size_t len;
        const uint8_t *at = (const uint8_t *)rocksdb_iter_key(it, &len);
        if (len < ROCKS_PG_PREFIX_BYTES || at[0] != ROCKS_KEY_PG)
            break;
        struct pg_id pg = rocks_pg_key_decode(at), next = pg;
        visit(ctx, pg);
        next.seed++;
        next.pool += next.seed == 0;
        if (next.pool < pg.pool)
            break;
        rocksdb_iter_seek(it, (char *)key, rocks_pg_key(next, NULL, 0, key));
    }
    char *message = NULL;
    rocksdb_iter_get_error(it, &message);
    rocksdb_iter_destroy(it);
    int rc = rocks_error(rs, "list placement groups", message);
    rocks_log_error(rs);
    return rc;
}

/* ---- Requests ---- */

static void *request_owner(struct rocks_request *request)
{
    switch (request->kind) {
    case ROCKS_READ:
        return container_of((void *)request, struct store_read, impl);
    case ROCKS_LIST:
        return container_of((void *)request, struct store_list, impl);
    default:
        return container_of((void *)request, struct store_pg_read, impl);
    }
}

static void request_run(struct env_work *work)
{
    struct rocks_request *request = container_of(work, struct rocks_request, work);
    void *owner = request_owner(request);
    switch (request->kind) {
    case ROCKS_READ:
        ((struct store_read *)owner)->error = read_object(request->rs, owner, false);
        break;
    case ROCKS_LIST:
        ((struct store_list *)owner)->error = list_objects(request->rs, owner);
        break;
    case ROCKS_PG_READ:
        ((struct store_pg_read *)owner)->error = pg_read_pairs(request->rs, owner);
        break;
    }
}

static void request_call(struct rocks_request *request)
{
    void *owner = request_owner(request);
    switch (request->kind) {
    case ROCKS_READ:
        ((struct store_read *)owner)->done(owner);
        break;
    case ROCKS_LIST:
        ((struct store_list *)owner)->done(owner);
        break;
    case ROCKS_PG_READ:
        ((struct store_pg_read *)owner)->done(owner);
        break;
    }
}

static void start_waiting(struct rocks_store *rs)
{
    struct rocks_request *request;
    while (rs->n_reading < ROCKS_READERS_MAX && (request = STAILQ_FIRST(&rs->waiting))) {
        STAILQ_REMOVE_HEAD(&rs->waiting, link);
        rs->n_reading++;
        env_work(rs->store.env, &request->work);
    }
}

static void request_done(struct env_work *work)
{
    struct rocks_request *request = container_of(work, struct rocks_request, work);
    struct rocks_store *rs = request->rs;
    rocks_log_error(rs);
    /* The request is its owner's again from here on. */
    request_call(request);
    rs->n_reading--;
    start_waiting(rs);
    rocks_finish_close(rs);
}

static struct rocks_request *request_init(struct store *store, void *impl,
                                          enum rocks_request_kind kind)
{
    struct rocks_request *request = impl;
    memset(request, 0, sizeof *request);
    request->rs = container_of(store, struct rocks_store, store);
    request->kind = kind;
    request->work.run = request_run;
    request->work.done = request_done;
    assert(!request->rs->closing);
    return request;
}

static void request_wait(struct rocks_request *request)
{
    STAILQ_INSERT_TAIL(&request->rs->waiting, request, link);
    start_waiting(request->rs);
}

void rocks_deliver(struct env_task *task)
{
    struct rocks_store *rs = container_of(task, struct rocks_store, deliver);
    struct rocks_requests ready;
    struct rocks_request *request;
    /* Only those that are there now: an owner may ask again at once. */
    STAILQ_INIT(&ready);
    STAILQ_CONCAT(&ready, &rs->finished);
    rocks_log_error(rs);
    while ((request = STAILQ_FIRST(&ready))) {
        STAILQ_REMOVE_HEAD(&ready, link);
        request_call(request);
    }
    rocks_finish_close(rs);
}

void rocks_read_start(struct store *store, struct store_read *read)
{
    struct rocks_request *request = request_init(store, read->impl, ROCKS_READ);
    read->data = BUF_SLICE_EMPTY;
    encoder_init(&read->attrs);
    if (read->len <= ROCKS_INLINE_READ_MAX) {
        int rc = read_object(request->rs, read, true);
        if (rc != ROCKS_INCOMPLETE) {
            read->error = rc;
            STAILQ_INSERT_TAIL(&request->rs->finished, request, link);
            env_defer(store->env, &request->rs->deliver);
            return;
        }
    }
    request_wait(request);
}

void rocks_list_start(struct store *store, struct store_list *list)
{
    list_begin(list);
    request_wait(request_init(store, list->impl, ROCKS_LIST));
}

void rocks_pg_read_start(struct store *store, struct store_pg_read *read)
{
    assert(read->from_len <= STORE_PG_KEY_MAX && read->to_len <= STORE_PG_KEY_MAX);
    read->n = 0;
    encoder_init(&read->pairs);
    request_wait(request_init(store, read->impl, ROCKS_PG_READ));
}
