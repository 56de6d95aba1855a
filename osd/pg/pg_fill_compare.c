/* Filling by comparison: our objects are listed batch by batch, and the copy tells what differs. */
#include "osd/pg/pg_fill.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct fill_listing {
    struct pg_async async;
    struct store_list list;
    struct pg_fill *fill; /* NULL: nobody waits. */
    struct object_id *after;
};

/* ---- Listing ---- */

static void listing_free(struct fill_listing *listing)
{
    list_fini(&listing->list);
    free(listing->after);
    free(listing);
}

static void listing_drop(struct pg_async *async)
{
    listing_free(container_of(async, struct fill_listing, async));
}

void fill_forget_listing(struct pg_fill *fill)
{
    if (fill->listing)
        fill->listing->fill = NULL;
    fill->listing = NULL;
}

static void compare_batch(struct pg_fill *fill, const struct store_list *list);

static void listing_done(struct store_list *list)
{
    struct fill_listing *listing = container_of(list, struct fill_listing, list);
    struct pg_fill *fill = listing->fill;
    pg_async_end(&listing->async);
    if (fill) {
        fill->listing = NULL;
        fill->silent_ticks = 0;
        if (list->error || fill->spoiled)
            fill_back_off(fill, list->error ? "listing failed" : "too many writes");
        else
            compare_batch(fill, list);
    }
    listing_free(listing);
}

/* What is on its way to our store may be missing in the listing. */
static void note_writes_under_way(struct pg_fill *fill)
{
    struct pg_write *write;
    TAILQ_FOREACH(write, &fill->pg->writes, link)
    {
        if (fill_is_after(&write->object->id, fill->done_upto))
            fill_note_write(fill, write->object, write->clone);
    }
}

void fill_list_batch(struct pg_fill *fill)
{
    struct pg *pg = fill->pg;
    struct fill_listing *listing = calloc(1, sizeof *listing);
    fill->phase = FILL_LISTING;
    if (listing && fill->done_upto)
        listing->after = object_id_copy(fill->done_upto);
    if (!listing || (fill->done_upto && !listing->after)) {
        free(listing);
        fill_back_off(fill, "no memory");
        return;
    }
    note_writes_under_way(fill);
    listing->fill = fill;
    fill->listing = listing;
    listing->list.pool = pg->id.pool;
    listing->list.first = pg->hash_first;
    listing->list.last = pg->hash_last;
    listing->list.after = listing->after;
    listing->list.max = PG_SCAN_OBJECTS;
    listing->list.done = listing_done;
    pg_async_begin(pg, &listing->async, listing_drop);
    store_list(pg->world->store, &listing->list);
}

/* ---- Comparing ---- */

/* Remembers the objects of a batch by index, and where it ends. */
static int take_batch(struct pg_fill *fill, const struct store_list *list)
{
    size_t bytes = 0;
    uint32_t taken = 0;
    fill->batch = calloc(list->n + 1, sizeof(struct pg_name *));
    if (!fill->batch)
        return -ENOMEM;
    for (; taken < list->n && bytes < PG_SCAN_BYTES; taken++) {
        const struct object_id *id = &list->entries[taken].id;
        uint8_t memory[PG_OBJECT_ID_MAX];
        struct encoder e;
        if (pg_is_temporary(id))
            continue;
        pg_encode_id(id, &e, memory);
        struct pg_name *name = malloc(sizeof *name + e.len);
        if (!name)
            return -ENOMEM;
        name->len = (uint16_t)e.len;
        name->size = list->entries[taken].size;
        memcpy(name->bytes, memory, e.len);
        fill->batch[fill->n_batch++] = name;
        bytes += e.len + 64;
    }
    fill->batch_ends = list->end && taken == list->n;
    if (!fill->batch_ends && taken > 0) {
        fill->batch_upto = object_id_copy(&list->entries[taken - 1].id);
        if (!fill->batch_upto)
            return -ENOMEM;
    }
    return 0;
}

/* Entries of the listing in the order of the batch: temporary objects are left out of both. */
static struct message *scan_message(struct pg_fill *fill, const struct store_list *list)
{
    Limpet__Wire__PgScan scan = LIMPET__WIRE__PG_SCAN__INIT;
    struct message *message = NULL;
    uint32_t n = fill->n_batch, at = 0;
    Limpet__Wire__PgObject *objects = calloc(n + 1, sizeof *objects);
    Limpet__Wire__Version *versions = calloc(n + 1, sizeof *versions);
    Limpet__Wire__PgObject **pointers = calloc(n + 1, sizeof *pointers);
    uint8_t after[PG_OBJECT_ID_MAX], upto[PG_OBJECT_ID_MAX];
    struct encoder e;
    if (!objects || !versions || !pointers)
        goto out;
    for (uint32_t i = 0; i < list->n && at < n; i++) {
        struct object_info_layout info;
        if (pg_is_temporary(&list->entries[i].id))
            continue;
        if (object_info_parse(list->entries[i].info, list->entries[i].info_len, &info))
            goto out;
        limpet__wire__version__init(&versions[at]);
        versions[at].config = info.version.config;
        versions[at].sequence = info.version.sequence;
        assert(fill->batch[at]);
        limpet__wire__pg_object__init(&objects[at]);
        objects[at].id = (ProtobufCBinaryData){fill->batch[at]->len, fill->batch[at]->bytes};
        objects[at].version = &versions[at];
        objects[at].has_size = true;
        objects[at].size = list->entries[i].size;
        pointers[at] = &objects[at];
        at++;
    }
    scan.pool = fill->pg->id.pool;
    scan.seed = fill->pg->id.seed;
    scan.config = fill->pg->view.config;
    scan.tid = fill->tid;
    if (fill->done_upto) {
        pg_encode_id(fill->done_upto, &e, after);
        scan.has_after = true;
        scan.after = (ProtobufCBinaryData){e.len, after};
    }
    if (fill->batch_upto) {
        pg_encode_id(fill->batch_upto, &e, upto);
        scan.has_upto = true;
        scan.upto = (ProtobufCBinaryData){e.len, upto};
    }
    scan.n_objects = n;
    scan.objects = pointers;
    message = message_pack(MSG_PG_SCAN, &scan.base);
out:
    free(objects);
    free(versions);
    free(pointers);
    return message;
}

/* What was noted beyond the end of the batch has its turn later. */
static void forget_beyond_batch(struct pg_fill *fill)
{
    struct fill_object *object, *next;
    HASH_ITER(hh, fill->pending, object, next)
    {
        struct object_id id;
        struct decoder d;
        decoder_init(&d, object->bytes, object->len);
        decode_object_id(&d, &id);
        if (fill_is_beyond_batch(fill, &id))
            fill_pending_remove(fill, object);
    }
}

static void compare_batch(struct pg_fill *fill, const struct store_list *list)
{
    struct pg *pg = fill->pg;
    fill->tid = ++pg->next_tid;
    struct message *message = take_batch(fill, list) ? NULL : scan_message(fill, list);
    if (!message || (!fill->batch_ends && !fill->batch_upto)) {
        message_unref(message);
        fill_back_off(fill, "no memory, or an unreadable object");
        return;
    }
    fill->phase = FILL_COMPARING;
    forget_beyond_batch(fill);
    pg->world->ops->send(pg->world->ctx, fill->osd, message);
}

void pg_fill_scan_reply(struct pg *pg, int32_t from, const Limpet__Wire__PgScanReply *reply)
{
    struct pg_fill *fill = pg_fill_find(pg, from);
    if (!fill || fill->phase != FILL_COMPARING || fill->tid != reply->tid)
        return;
    fill->silent_ticks = 0;
    pg->silent_ticks = 0;
    for (size_t i = 0; i < reply->n_missing && !reply->result; i++) {
        if (reply->missing[i] >= fill->n_batch) {
            fill_back_off(fill, "malformed answer");
            return;
        }
        const struct pg_name *name = fill->batch[reply->missing[i]];
        (void)fill_pending_add(fill, name->bytes, name->len, name->size);
    }
    if (reply->result || fill->spoiled) {
        fill_back_off(fill, reply->result ? error_text(reply->result) : "too many writes");
        return;
    }
    fill->compared += fill->n_batch;
    fill->differing += HASH_COUNT(fill->pending);
    fill->phase = FILL_PUSHING;
    fill_push_next(fill);
}
