/* The beginning of a filling: what the copy has decides how it is filled; then it takes over the
 * log. */
#include "osd/pg/pg_fill.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/planted.h"

void fill_init_activate(struct pg_fill *fill, Limpet__Wire__PgActivate *activate)
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
        size_t len = pg_client_len(client);
        list[n++] = (ProtobufCBinaryData){len, e->data + at};
        at += len;
    }
    assert(n == pg->log.clients.n_kept && at == e->len);
    return 0;
}

static_assert((int)PG_CLIENTS_BYTES <= (int)PG_ENTRIES_BYTES, "clients fit one message");

void fill_send_log(struct pg_fill *fill)
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
    bool first = fill->chunk == pg->log.base.sequence;
    uint32_t n_clients = first && !planted(PLANTED_DUP_NOT_FILLED) ? pg->log.clients.n_kept : 0;
    struct encoder records;
    encoder_init(&records);
    ProtobufCBinaryData *clients = calloc(n_clients + 1, sizeof *clients);
    if (!clients || (n_clients > 0 && list_clients(pg, &records, clients))) {
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
    fill_init_activate(fill, &activate);
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
    activate.has_forgotten_ns = first;
    activate.forgotten_ns = pg->log.clients.forgotten_ns;
    activate.has_totals = first;
    activate.totals.len = first ? sizeof pg->log.base_totals : 0;
    activate.totals.data = (uint8_t *)&pg->log.base_totals;
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
    fill_send_log(fill);
}

/* What it has decides whether it must be compared with ours. */
static void ask(struct pg_fill *fill)
{
    Limpet__Wire__PgActivate activate;
    fill->phase = FILL_ASKING;
    fill_init_activate(fill, &activate);
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
        struct fill_object *object =
            fill_pending_add(fill, entry + sizeof head, head.object_len, 0);
        if (object)
            object->whole = true;
        uint8_t clone[PG_OBJECT_ID_MAX];
        if (head.clone == 0 || planted(PLANTED_CLONE_NOT_SENT))
            continue;
        pg_id_with_snap(entry + sizeof head, head.object_len, head.clone, clone);
        object = fill_pending_add(fill, clone, head.object_len, 0);
        if (object)
            object->whole = true;
    }
}

void fill_told(struct pg_fill *fill, const Limpet__Wire__PgInfo *info)
{
    uint64_t common;
    fill->by_log = pg_catchup_from(fill->pg, info, &fill->from, &common);
    if (fill->by_log) {
        fill->resumable = info->head->sequence == common;
        note_its_own(fill, info, common);
    }
    if (fill_paused_by(fill, fill->by_log)) {
        fill_pause(fill);
        return;
    }
    log_info(fill->pg->world->env, "filling", "pg=%s osd=%d by=%s from=%" PRIu64, pg_text(fill->pg),
             fill->osd, fill->by_log ? "log" : "comparison",
             fill->by_log ? fill->from.sequence : 0);
    fill_start(fill);
}

void fill_begin(struct pg_fill *fill)
{
    struct pg *pg = fill->pg;
    fill->silent_ticks = 0;
    fill->attempt = ++pg->fill_attempt;
    fill->attached = false;
    fill->full = false;
    fill->must_compare = false;
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
