/*
 * Filling another OSD's copy, seen by the primary.
 *
 * A learner takes over the log, then all objects in the order of listing, batch by batch. For each
 * batch we tell what we have; it removes what we have not and answers what differs; that is pushed.
 * Clients write meanwhile, and the learner gets every entry of the log; whether the effect goes
 * with it depends on where the object stands:
 *
 *     equal already (up to done_upto, or in the batch and not pending)   entry and effect
 *     pending in this batch                                              the entry: it is pushed
 * later being pushed                                                       the write waits after
 * the batch                                                    the entry: its turn comes
 *
 * While a batch is listed and compared it is not known what differs: what is written then, or was
 * on its way to our store when the listing began, is pending in any case.
 *
 * At the end the learner notes that it is complete, its acknowledgement counts, and when it has
 * everything that was ever acknowledged the monitors are asked to add it (G8). They are asked again
 * until the map shows an answer.
 */
#include "osd/pg/pg_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/planted.h"

struct fill_listing {
    struct pg_async async;
    struct store_list list;
    struct pg_fill *fill; /* NULL: nobody waits. */
    struct object_id *after;
};

struct pg_fill *pg_fill_find(struct pg *pg, int32_t osd)
{
    struct pg_fill *fill;
    TAILQ_FOREACH(fill, &pg->fills, link)
    {
        if (fill->osd == osd)
            return fill;
    }
    return NULL;
}

/* ---- Taking turns ---- */

static void fill_begin(struct pg_fill *fill);

static void fill_run(struct pg_fill *fill)
{
    struct pg_world *world = fill->pg->world;
    assert(!fill->running && !fill->queued);
    if (world->n_fills < PG_FILLS_MAX) {
        fill->running = true;
        world->n_fills++;
        fill_begin(fill);
        return;
    }
    fill->phase = FILL_QUEUED;
    fill->queued = true;
    TAILQ_INSERT_TAIL(&world->waiting_fills, fill, world_link);
}

/* Gives the turn to whoever waits. */
static void fill_rest(struct pg_fill *fill)
{
    struct pg_world *world = fill->pg->world;
    if (fill->queued)
        TAILQ_REMOVE(&world->waiting_fills, fill, world_link);
    fill->queued = false;
    if (!fill->running)
        return;
    fill->running = false;
    world->n_fills--;
    struct pg_fill *next = TAILQ_FIRST(&world->waiting_fills);
    if (next) {
        TAILQ_REMOVE(&world->waiting_fills, next, world_link);
        next->queued = false;
        fill_run(next);
    }
}

/* ---- Objects to be pushed ---- */

static struct fill_object *pending_find(struct pg_fill *fill, const uint8_t *bytes, uint16_t len)
{
    struct fill_object *object;
    HASH_FIND(hh, fill->pending, bytes, len, object);
    return object;
}

static struct fill_object *pending_add(struct pg_fill *fill, const uint8_t *bytes, uint16_t len,
                                       uint64_t size)
{
    struct fill_object *object = pending_find(fill, bytes, len);
    if (object)
        return object;
    object = HASH_COUNT(fill->pending) < PG_DIRTY_MAX ? calloc(1, sizeof *object + len) : NULL;
    if (!object) {
        fill->spoiled = true;
        return NULL;
    }
    object->len = len;
    object->size = size;
    fill->pending_bytes += size;
    memcpy(object->bytes, bytes, len);
    HASH_ADD(hh, fill->pending, bytes, len, object);
    TAILQ_INSERT_TAIL(&fill->to_push, object, link);
    return object;
}

static void pending_remove(struct pg_fill *fill, struct fill_object *object)
{
    if (!object->started)
        TAILQ_REMOVE(&fill->to_push, object, link);
    assert(fill->pending_bytes >= object->size);
    fill->pending_bytes -= object->size;
    HASH_DEL(fill->pending, object);
    free(object);
}

/* A client wants it: it goes before the others. */
static void pending_hurry(struct pg_fill *fill, struct fill_object *object)
{
    struct pg_push *push;
    if (fill->phase != FILL_PUSHING)
        return;
    if (!object->started) {
        TAILQ_REMOVE(&fill->to_push, object, link);
        TAILQ_INSERT_HEAD(&fill->to_push, object, link);
        object->urgent = true;
        return;
    }
    TAILQ_FOREACH(push, &fill->pg->pushes, link)
    {
        if (push->osd == fill->osd && push->len == object->len &&
            memcmp(push->bytes, object->bytes, object->len) == 0)
            pg_turn_hurry(&fill->pg->world->turns, &push->turn);
    }
}

void pg_fill_wanted(struct pg *pg, const uint8_t *bytes, uint16_t len)
{
    struct pg_fill *fill;
    TAILQ_FOREACH(fill, &pg->fills, link)
    {
        struct fill_object *object = pending_find(fill, bytes, len);
        if (object)
            pending_hurry(fill, object);
    }
}

static bool is_after(const struct object_id *id, const struct object_id *limit)
{
    return !limit || object_compare(id, limit) > 0;
}

/* After the batch, whose end is known. */
static bool is_beyond_batch(const struct pg_fill *fill, const struct object_id *id)
{
    return !fill->batch_ends && is_after(id, fill->batch_upto);
}

enum fill_write pg_fill_write(struct pg_fill *fill, const struct object_id *id,
                              const uint8_t *bytes, uint16_t len)
{
    switch (fill->phase) {
    case FILL_QUEUED:
    case FILL_BACKING_OFF:
        return FILL_WRITE_NONE;
    case FILL_ASKING:
        return FILL_WRITE_NONE;
    case FILL_STARTING:
        return fill->attached ? FILL_WRITE_LOG_ONLY : FILL_WRITE_NONE;
    case FILL_LISTING:
    case FILL_COMPARING:
        if (!is_after(id, fill->done_upto))
            return FILL_WRITE_WHOLE;
        if (fill->phase == FILL_LISTING || !is_beyond_batch(fill, id))
            (void)pending_add(fill, bytes, len, 0);
        return FILL_WRITE_LOG_ONLY;
    case FILL_PUSHING:
        if (is_beyond_batch(fill, id))
            return FILL_WRITE_LOG_ONLY;
        return pending_find(fill, bytes, len) ? FILL_WRITE_LOG_ONLY : FILL_WRITE_WHOLE;
    case FILL_FINISHING:
    case FILL_ADDING:
        break;
    }
    return FILL_WRITE_WHOLE;
}

/* ---- Life ---- */

static void batch_clear(struct pg_fill *fill)
{
    struct fill_object *object, *next;
    HASH_ITER(hh, fill->pending, object, next)
    {
        pending_remove(fill, object);
    }
    for (uint32_t i = 0; i < fill->n_batch; i++)
        free(fill->batch[i]);
    free(fill->batch);
    fill->batch = NULL;
    fill->n_batch = 0;
    free(fill->batch_upto);
    fill->batch_upto = NULL;
    fill->batch_ends = false;
}

/* Stops whatever runs for it. */
static void fill_halt(struct pg_fill *fill)
{
    if (fill->listing)
        fill->listing->fill = NULL;
    fill->listing = NULL;
    pg_pushes_cancel(fill->pg, fill->osd);
    fill->pushes = 0;
    batch_clear(fill);
    free(fill->done_upto);
    fill->done_upto = NULL;
    fill->attached = false;
    fill->spoiled = false;
    fill->by_log = false;
    fill->full = false;
    fill->compared = fill->differing = 0;
}

static void fill_destroy(struct pg_fill *fill)
{
    TAILQ_REMOVE(&fill->pg->fills, fill, link);
    fill_halt(fill);
    fill_rest(fill);
    free(fill);
}

static void fill_back_off(struct pg_fill *fill, const char *why)
{
    assert(fill->phase != FILL_ADDING);
    log_info(fill->pg->world->env, "filling begins again", "pg=%s osd=%d why=\"%s\"",
             pg_text(fill->pg), fill->osd, why);
    fill->phase = FILL_BACKING_OFF;
    fill->silent_ticks = 0;
    fill_halt(fill);
    fill_rest(fill);
}

static struct pg_fill *fill_create(struct pg *pg, int32_t osd, bool member)
{
    const struct map_osd *info = map_osd(pg->world->map, osd);
    struct pg_fill *fill = info ? calloc(1, sizeof *fill) : NULL;
    if (!fill)
        return NULL;
    fill->pg = pg;
    fill->osd = osd;
    fill->member = member;
    fill->instance = info->instance;
    fill->up_from = info->up_from;
    TAILQ_INIT(&fill->to_push);
    TAILQ_INSERT_TAIL(&pg->fills, fill, link);
    fill_run(fill);
    return fill;
}

void pg_fills_stop(struct pg *pg, bool keep_adding)
{
    struct pg_fill *fill, *next;
    /* First those of ours that wait, so that none of them gets the turn of another. */
    TAILQ_FOREACH(fill, &pg->fills, link)
    {
        if (fill->queued)
            fill_rest(fill);
    }
    for (fill = TAILQ_FIRST(&pg->fills); fill; fill = next) {
        next = TAILQ_NEXT(fill, link);
        if (!keep_adding || fill->phase != FILL_ADDING)
            fill_destroy(fill);
    }
}

/* Whether the map still wants it filled, and it is the same process since the same boot. */
static bool is_wanted(const struct pg_fill *fill)
{
    const struct pg *pg = fill->pg;
    const struct map_osd *info = map_osd(pg->world->map, fill->osd);
    if (fill->member)
        return true;
    for (uint8_t i = 0; i < pg->view.n_learners; i++)
        if (pg->view.learners[i] == fill->osd)
            return info && info->instance == fill->instance && info->up_from == fill->up_from;
    return false;
}

void pg_fills_follow_map(struct pg *pg)
{
    struct pg_fill *fill, *next;
    for (fill = TAILQ_FIRST(&pg->fills); fill; fill = next) {
        next = TAILQ_NEXT(fill, link);
        if (!is_wanted(fill))
            fill_destroy(fill);
    }
    if (pg->state != PG_STATE_PRIMARY_ACTIVE)
        return;
    for (uint8_t i = 0; i < pg->view.n_learners; i++) {
        if (!pg_fill_find(pg, pg->view.learners[i]) &&
            !fill_create(pg, pg->view.learners[i], false))
            log_warn(pg->world->env, "cannot fill", "pg=%s osd=%d", pg_text(pg),
                     pg->view.learners[i]);
    }
    /* One that is gone may have been what commits waited for. */
    pg_advance(pg);
}

void pg_fill_member(struct pg *pg, struct pg_peer *peer)
{
    assert(!pg_fill_find(pg, peer->osd));
    if (!fill_create(pg, peer->osd, true))
        pg->compare_again = true;
}

/* ---- Starting: the log ---- */

static void init_activate(struct pg_fill *fill, Limpet__Wire__PgActivate *activate)
{
    const struct pg *pg = fill->pg;
    limpet__wire__pg_activate__init(activate);
    activate->pool = pg->id.pool;
    activate->seed = pg->id.seed;
    activate->config = pg->view.config;
    activate->epoch = pg_epoch(pg);
    activate->has_attempt = true;
    activate->attempt = fill->attempt;
}

/* What a message already holds counts: `bytes`. */
static size_t entries_that_fit(const struct pg *pg, uint64_t after, size_t bytes)
{
    uint64_t head = pg_log_head(&pg->log).sequence;
    size_t n = 0;
    while (after + n < head && n < PG_ENTRIES_MAX) {
        bytes += pg_log_get(&pg->log, after + n + 1)->len + 8;
        if (bytes > PG_ENTRIES_BYTES)
            break;
        n++;
    }
    return n;
}

/*
 * What is remembered of clients, into `e` and as `list`: it is true at the base of the log, so it
 * goes with the first part. -ENOMEM.
 */
static int list_clients(const struct pg *pg, struct encoder *e, ProtobufCBinaryData *list)
{
    const struct pg_client *client;
    size_t n = 0, at = 0;
    TAILQ_FOREACH(client, &pg->log.clients.kept, kept_link)
    {
        pg_client_encode(client, e);
    }
    if (e->failed)
        return -ENOMEM;
    TAILQ_FOREACH(client, &pg->log.clients.kept, kept_link)
    {
        size_t len =
            sizeof(struct pg_client_layout) + client->n_results * sizeof(struct pg_result_layout);
        list[n++] = (ProtobufCBinaryData){len, e->data + at};
        at += len;
    }
    assert(n == pg->log.clients.n_kept && at == e->len);
    return 0;
}

static_assert((int)PG_CLIENTS_BYTES <= (int)PG_ENTRIES_BYTES, "clients fit one message");

static void send_log(struct pg_fill *fill)
{
    struct pg *pg = fill->pg;
    Limpet__Wire__PgActivate activate;
    Limpet__Wire__Version cut = LIMPET__WIRE__VERSION__INIT;
    Limpet__Wire__Version from = LIMPET__WIRE__VERSION__INIT;
    struct wire_version after;
    if (!pg_log_version(&pg->log, fill->chunk, &after)) {
        fill_back_off(fill, "the log was trimmed");
        return;
    }
    bool first = fill->chunk == pg->log.base.sequence && !planted(PLANTED_DUP_NOT_FILLED);
    uint32_t n_clients = first ? pg->log.clients.n_kept : 0;
    struct encoder records;
    encoder_init(&records);
    ProtobufCBinaryData *clients = calloc(n_clients + 1, sizeof *clients);
    if (!clients || (first && list_clients(pg, &records, clients))) {
        free(clients);
        encoder_fini(&records);
        fill_back_off(fill, "no memory");
        return;
    }
    size_t n = entries_that_fit(pg, fill->chunk, records.len + n_clients * 8);
    ProtobufCBinaryData *entries = calloc(n + 1, sizeof *entries);
    if (!entries) {
        free(clients);
        encoder_fini(&records);
        fill_back_off(fill, "no memory");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        struct pg_entry *entry = pg_log_get(&pg->log, fill->chunk + 1 + i);
        entries[i] = (ProtobufCBinaryData){entry->len, (uint8_t *)&entry->head};
    }
    init_activate(fill, &activate);
    cut.config = after.config;
    cut.sequence = after.sequence;
    if (fill->by_log) {
        from.config = fill->from.config;
        from.sequence = fill->from.sequence;
        activate.fill_from = &from;
        activate.has_resumable = true;
        activate.resumable = fill->resumable;
    }
    activate.has_start_fill = true;
    activate.start_fill = true;
    activate.cut_after = &cut;
    activate.n_entries = n;
    activate.entries = entries;
    activate.n_clients = n_clients;
    activate.clients = clients;
    fill->chunk += n;
    fill->attached = fill->chunk == pg_log_head(&pg->log).sequence;
    pg_send_proto(pg, fill->osd, MSG_PG_ACTIVATE, &activate.base);
    free(entries);
    free(clients);
    encoder_fini(&records);
}

static void fill_start(struct pg_fill *fill)
{
    fill->phase = FILL_STARTING;
    fill->chunk = fill->pg->log.base.sequence;
    send_log(fill);
}

/* What it has decides whether it must be compared with ours. */
static void ask(struct pg_fill *fill)
{
    Limpet__Wire__PgActivate activate;
    fill->phase = FILL_ASKING;
    init_activate(fill, &activate);
    activate.has_tell = true;
    activate.tell = true;
    pg_send_proto(fill->pg, fill->osd, MSG_PG_ACTIVATE, &activate.base);
}

/* Objects that its own entries name are in a state that only it knows. */
static void note_its_own(struct pg_fill *fill, const Limpet__Wire__PgInfo *info, uint64_t common)
{
    for (size_t i = 0; i < info->n_entries; i++) {
        const uint8_t *entry = info->entries[i].data;
        struct pg_entry_layout head;
        memcpy(&head, entry, sizeof head);
        if (head.version.sequence <= common || head.kind == PG_ENTRY_FAILED)
            continue;
        struct fill_object *object = pending_add(fill, entry + sizeof head, head.object_len, 0);
        if (object)
            object->whole = true;
    }
}

/* What became of a filling, for those who wonder where the time went. */
static void log_end(const struct pg_fill *fill)
{
    log_info(fill->pg->world->env, "filled",
             "pg=%s osd=%d by=%s objects=%" PRIu64 " bytes=%" PRIu64, pg_text(fill->pg), fill->osd,
             fill->by_log ? "log" : "comparison", fill->sent_objects, fill->sent_bytes);
}

static void told(struct pg_fill *fill, const Limpet__Wire__PgInfo *info)
{
    uint64_t common;
    fill->by_log = pg_catchup_from(fill->pg, info, &fill->from, &common);
    if (fill->by_log) {
        fill->resumable = info->head->sequence == common;
        note_its_own(fill, info, common);
    }
    log_info(fill->pg->world->env, "filling", "pg=%s osd=%d by=%s from=%" PRIu64, pg_text(fill->pg),
             fill->osd, fill->by_log ? "log" : "comparison",
             fill->by_log ? fill->from.sequence : 0);
    fill_start(fill);
}

static void fill_begin(struct pg_fill *fill)
{
    struct pg *pg = fill->pg;
    fill->silent_ticks = 0;
    fill->attempt = ++pg->fill_attempt;
    fill->attached = false;
    fill->full = false;
    fill->acked = 0;
    fill->asked = false;
    fill->refused = false;
    if (planted(PLANTED_ADD_UNFILLED) && !fill->member) {
        fill->phase = FILL_ADDING;
        fill->acked = pg->committed;
        fill_rest(fill);
        pg_fill_check_add(pg);
        return;
    }
    if (fill->member)
        fill_start(fill);
    else
        ask(fill);
}

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
        if (is_after(&write->object->id, fill->done_upto))
            (void)pending_add(fill, write->object->bytes, write->object->len, 0);
    }
}

static void list_batch(struct pg_fill *fill)
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
        if (id->snap == PG_OBJECT_TEMPORARY)
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
        if (list->entries[i].id.snap == PG_OBJECT_TEMPORARY)
            continue;
        if (object_info_parse(list->entries[i].info, list->entries[i].info_len, &info))
            goto out;
        limpet__wire__version__init(&versions[at]);
        versions[at].config = info.version.config;
        versions[at].sequence = info.version.sequence;
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
        if (is_beyond_batch(fill, &id))
            pending_remove(fill, object);
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

/* ---- Pushing ---- */

static void fill_finish(struct pg_fill *fill);

static void batch_done(struct pg_fill *fill)
{
    bool ends = fill->batch_ends;
    assert(HASH_COUNT(fill->pending) == 0 && fill->pushes == 0);
    free(fill->done_upto);
    fill->done_upto = fill->batch_upto;
    fill->batch_upto = NULL;
    batch_clear(fill);
    if (ends)
        fill_finish(fill);
    else
        list_batch(fill);
}

static void push_sent(struct pg_push *push)
{
    struct pg_fill *fill = pg_fill_find(push->pg, push->osd);
    assert(fill && fill->phase == FILL_PUSHING);
    struct fill_object *object = pending_find(fill, push->bytes, push->len);
    assert(object);
    pending_remove(fill, object);
}

static void push_next(struct pg_fill *fill);

/* Its copy is not what the changes build upon. */
static bool push_whole(struct pg_fill *fill, const struct pg_push *push, int error)
{
    struct fill_object *object = pending_find(fill, push->bytes, push->len);
    if (!object || error != -ESTALE || !push->partial)
        return false;
    object->started = false;
    object->whole = true;
    TAILQ_INSERT_HEAD(&fill->to_push, object, link);
    return true;
}

static void push_done(struct pg_push *push, int error)
{
    struct pg *pg = push->pg;
    struct pg_fill *fill = pg_fill_find(pg, push->osd);
    assert(fill && fill->phase == FILL_PUSHING && fill->pushes > 0);
    fill->pushes--;
    fill->silent_ticks = 0;
    pg->silent_ticks = 0;
    fill->sent_bytes += push->sent_bytes;
    fill->sent_objects += !error;
    pg->recovered_bytes += push->sent_bytes;
    pg->world->recovered_bytes += push->sent_bytes;
    if (error && !push_whole(fill, push, error)) {
        fill_back_off(fill, error_text(error));
        fill->full = error == -ENOSPC;
        return;
    }
    pg->recovered_objects += !error;
    pg->world->recovered_objects += !error;
    push_next(fill);
}

/* Where the size is not known it comes in pieces, should it be large. */
static uint32_t piece_bytes(uint64_t size)
{
    if (size == 0)
        return PG_PUSH_PIECE_UNKNOWN;
    if (size >= PG_PUSH_PIECE)
        return PG_PUSH_PIECE;
    return (uint32_t)((size + PG_BLOCK - 1) / PG_BLOCK) * PG_BLOCK;
}

static bool push_create(struct pg_fill *fill, struct fill_object *object)
{
    struct pg_push *push = pg_push_create(fill->pg, fill->osd, object->bytes, object->len);
    if (!push)
        return false;
    TAILQ_REMOVE(&fill->to_push, object, link);
    object->started = true;
    push->done = push_done;
    push->sent = push_sent;
    if (fill->by_log && !object->whole)
        push->base = fill->from;
    push->turn.bytes = piece_bytes(object->size);
    push->urgent = object->urgent;
    fill->pushes++;
    pg_push_start(push, !fill->member);
    return true;
}

static void push_next(struct pg_fill *fill)
{
    struct fill_object *object;
    uint64_t attempt = fill->attempt;
    uint32_t most = fill->member ? PG_PUSHES_MAX : PG_FILL_PUSHES;
    while (fill->phase == FILL_PUSHING && fill->attempt == attempt && fill->pushes < most &&
           (object = TAILQ_FIRST(&fill->to_push))) {
        if (!push_create(fill, object)) {
            fill_back_off(fill, "no memory");
            return;
        }
    }
    if (fill->phase == FILL_PUSHING && fill->pushes == 0 && HASH_COUNT(fill->pending) == 0)
        batch_done(fill);
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
        (void)pending_add(fill, name->bytes, name->len, name->size);
    }
    if (reply->result || fill->spoiled) {
        fill_back_off(fill, reply->result ? error_text(reply->result) : "too many writes");
        return;
    }
    fill->compared += fill->n_batch;
    fill->differing += HASH_COUNT(fill->pending);
    fill->phase = FILL_PUSHING;
    push_next(fill);
}

/*
 * By log, all that it lacks is one batch: what was noted since the entry at which it was whole, and
 * what entries of its own name.
 */
static void push_noted(struct pg_fill *fill)
{
    const struct pg_dirty *dirty = &fill->pg->dirty;
    const struct pg_dirty_object *object;
    bool reaches = pg_dirty_reaches(dirty, fill->from) ||
                   (planted(PLANTED_CATCH_UP_UNCOMMON) && dirty->tracking);
    if (!reaches || fill->spoiled) {
        /* Too much was written meanwhile to note it. */
        batch_clear(fill);
        fill->spoiled = fill->by_log = false;
        list_batch(fill);
        return;
    }
    for (object = dirty->objects; object; object = object->hh.next) {
        if (object->last > fill->from.sequence)
            (void)pending_add(fill, object->bytes, object->len, pg_dirty_bytes(object));
    }
    if (fill->spoiled) {
        fill_back_off(fill, "too many objects");
        return;
    }
    fill->batch_ends = true;
    fill->phase = FILL_PUSHING;
    push_next(fill);
}

/* ---- The end ---- */

static void fill_finish(struct pg_fill *fill)
{
    struct pg *pg = fill->pg;
    Limpet__Wire__PgActivate activate;
    Limpet__Wire__Version head = LIMPET__WIRE__VERSION__INIT;
    struct wire_version newest = pg_log_head(&pg->log);
    fill->phase = FILL_FINISHING;
    fill->finish_sequence = newest.sequence;
    head.config = newest.config;
    head.sequence = newest.sequence;
    init_activate(fill, &activate);
    activate.has_filled = true;
    activate.filled = true;
    activate.head = &head;
    pg_send_proto(pg, fill->osd, MSG_PG_ACTIVATE, &activate.base);
}

/* It is complete and has noted that. */
static void fill_complete(struct pg_fill *fill)
{
    struct pg *pg = fill->pg;
    log_end(fill);
    if (fill->acked < fill->finish_sequence)
        fill->acked = fill->finish_sequence;
    if (fill->member) {
        struct pg_peer *peer = pg_peer_find(pg, fill->osd);
        fill_destroy(fill);
        if (peer && pg->state == PG_STATE_PRIMARY_ACTIVATING)
            pg_activate_ask(pg, peer);
        return;
    }
    fill->phase = FILL_ADDING;
    fill_rest(fill);
    pg_fill_check_add(pg);
}

/* G8. */
static bool may_ask_to_add(const struct pg_fill *fill)
{
    return fill->phase == FILL_ADDING && !fill->asked && fill->acked >= fill->pg->committed;
}

void pg_fill_check_add(struct pg *pg)
{
    struct pg_fill *fill;
    if (pg->state != PG_STATE_PRIMARY_ACTIVE)
        return;
    TAILQ_FOREACH(fill, &pg->fills, link)
    {
        if (!may_ask_to_add(fill))
            continue;
        fill->asked = true;
        pg_lease_forget(pg);
        fill->silent_ticks = 0;
        pg->world->ops->add_member(pg->world->ctx, pg->id, pg->view.config, fill->osd);
    }
}

void pg_fill_info(struct pg *pg, int32_t from, const Limpet__Wire__PgInfo *info)
{
    struct pg_fill *fill = pg_fill_find(pg, from);
    if (!fill || info->attempt != fill->attempt ||
        (fill->phase != FILL_ASKING && fill->phase != FILL_STARTING &&
         fill->phase != FILL_FINISHING))
        return;
    fill->silent_ticks = 0;
    pg->silent_ticks = 0;
    if (info->result) {
        fill_back_off(fill, error_text(info->result));
    } else if (fill->phase == FILL_ASKING && info->answers == 5) {
        told(fill, info);
    } else if (fill->phase == FILL_STARTING && info->answers == 3) {
        if (info->head->sequence < fill->chunk)
            return; /* Of an earlier part. */
        if (fill->attached && fill->by_log)
            push_noted(fill);
        else if (fill->attached)
            list_batch(fill);
        else
            send_log(fill);
    } else if (fill->phase == FILL_FINISHING && info->answers == 4) {
        fill_complete(fill);
    }
}

void pg_fill_ack(struct pg *pg, struct pg_fill *fill, uint64_t sequence, int result)
{
    if (result && fill->phase == FILL_ADDING) {
        fill->refused = true;
    } else if (result) {
        if (fill->attached)
            fill_back_off(fill, error_text(result));
    } else if (fill->attached && sequence > fill->acked &&
               sequence <= pg_log_head(&pg->log).sequence) {
        fill->acked = sequence;
        pg_advance(pg);
    }
}

void pg_fill_peer_reset(struct pg *pg, int32_t osd)
{
    struct pg_fill *fill = pg_fill_find(pg, osd);
    if (!fill)
        return;
    if (fill->phase == FILL_ADDING)
        pg_writes_resend(pg, osd, fill->acked);
    else if (fill->phase != FILL_QUEUED && fill->phase != FILL_BACKING_OFF)
        fill_back_off(fill, "its session ended");
}

/* One that was asked for, or that missed something, and no answer of the map yet. */
static void tick_adding(struct pg_fill *fill)
{
    struct pg *pg = fill->pg;
    if (fill->refused)
        pg_writes_resend(pg, fill->osd, fill->acked);
    fill->refused = false;
    if (fill->asked && fill->silent_ticks % PG_ADD_REPEAT_TICKS == 0)
        pg->world->ops->add_member(pg->world->ctx, pg->id, pg->view.config, fill->osd);
}

/* One that had no room is not asked all the time. */
static bool may_run(const struct pg_fill *fill)
{
    return !fill->full || fill->silent_ticks >= PG_FULL_PATIENCE_TICKS;
}

void pg_fill_tick(struct pg *pg)
{
    struct pg_fill *fill, *next;
    for (fill = TAILQ_FIRST(&pg->fills); fill; fill = next) {
        next = TAILQ_NEXT(fill, link);
        fill->silent_ticks++;
        if (fill->phase == FILL_ADDING)
            tick_adding(fill);
        else if (fill->phase == FILL_BACKING_OFF && may_run(fill))
            fill_run(fill);
        else if (fill->spoiled)
            fill_back_off(fill, "too many writes");
        else if (fill->phase != FILL_QUEUED && fill->phase != FILL_BACKING_OFF &&
                 fill->silent_ticks >= PG_FILL_PATIENCE_TICKS)
            fill_back_off(fill, "no progress");
    }
}
