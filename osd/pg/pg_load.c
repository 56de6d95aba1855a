/*
 * What a placement group finds in the store when the OSD starts.
 */
#include "osd/pg/pg_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct load {
    struct pg_async async;
    struct store_pg_read read;
};

static void load_free(struct load *load)
{
    encoder_fini(&load->read.pairs);
    free(load);
}

static void load_drop(struct pg_async *async)
{
    load_free(container_of(async, struct load, async));
}

/* An object that was being received. */
static int take_temporary(struct pg *pg, struct pg_step **removal, const void *value, size_t len)
{
    struct object_id id;
    struct decoder d;
    decoder_init(&d, value, len);
    decode_object_id(&d, &id);
    if (decoder_end(&d))
        return -ELIMPET_CORRUPT;
    if (!*removal)
        *removal = pg_step_create(pg);
    if (!*removal)
        return -ENOMEM;
    if (pg_is_temporary(&id))
        return -ELIMPET_CORRUPT;
    id = pg_temporary_of(&id);
    txn_object(&(*removal)->txn, &id);
    txn_remove(&(*removal)->txn);
    return 0;
}

static int take_state(struct pg *pg, const void *value, size_t len)
{
    struct pg_state_layout state;
    if (pg_state_parse(value, len, &state))
        return -ELIMPET_CORRUPT;
    pg->complete = state.complete;
    pg->fill_from = state.fill_from;
    if (pg->log.count > 0) {
        /* Entries sort before the state; they must continue its base. */
        struct pg_entry *oldest = pg_log_get(&pg->log, pg->log.base.sequence + 1);
        if (oldest->head.version.sequence != state.base.sequence + 1)
            return -ELIMPET_CORRUPT;
    }
    pg->log.base = state.base;
    pg->log.base_objects = state.objects;
    pg->log.base_bytes = state.bytes;
    pg->log.clients.forgotten_ns = state.forgotten_ns;
    return 0;
}

static int take_entry(struct pg *pg, uint64_t sequence, const void *value, size_t len)
{
    struct pg_entry_layout head;
    struct object_id id;
    if (pg_entry_parse(value, len, &head, &id) || head.version.sequence != sequence)
        return -ELIMPET_CORRUPT;
    if (pg->log.count == 0)
        pg->log.base.sequence = sequence - 1;
    if (sequence != pg_log_head(&pg->log).sequence + 1)
        return -ELIMPET_CORRUPT;
    if (!pg_log_append(&pg->log, value, len))
        return -ENOMEM;
    if (head.committed > pg->committed)
        pg->committed = head.committed;
    return 0;
}

static int take_client(struct pg *pg, uint64_t client, const void *value, size_t len)
{
    struct pg_client_layout head;
    if (pg_client_parse(value, len, &head) || head.client != client)
        return -ELIMPET_CORRUPT;
    return pg_clients_load(&pg->log.clients, value, len);
}

static int take_pair(struct pg *pg, struct decoder *d, bool *has_state, struct pg_step **removal)
{
    uint16_t key_len;
    uint32_t value_len;
    uint64_t number;
    const uint8_t *key = decode_string16(d, &key_len);
    const void *value = decode_string32(d, &value_len);
    if (d->failed || key_len == 0)
        return -ELIMPET_CORRUPT;
    if (key_len == 1 && key[0] == PG_KEY_STATE) {
        *has_state = true;
        return take_state(pg, value, value_len);
    }
    if (key_len == 1 && key[0] == PG_KEY_SCRUB)
        return pg_scrub_load(pg, value, value_len);
    if (pg_numbered_key_parse(PG_KEY_LOG, key, key_len, &number) == 0)
        return take_entry(pg, number, value, value_len);
    if (pg_numbered_key_parse(PG_KEY_CLIENT, key, key_len, &number) == 0)
        return take_client(pg, number, value, value_len);
    if (pg_numbered_key_parse(PG_KEY_TEMPORARY, key, key_len, &number) == 0) {
        if (number > pg->temporary_next)
            pg->temporary_next = number;
        return take_temporary(pg, removal, value, value_len);
    }
    return -ELIMPET_CORRUPT;
}

static int take_pairs(struct pg *pg, const struct store_pg_read *read, struct pg_step **removal)
{
    struct decoder d;
    bool has_state = false;
    int error = 0;
    decoder_init(&d, read->pairs.data, read->pairs.len);
    while (!error && decoder_left(&d) > 0) {
        uint64_t at = read->pairs.len - decoder_left(&d);
        error = take_pair(pg, &d, &has_state, removal);
        if (error)
            log_error(pg->world->env, "pair of a placement group refused",
                      "pg=%s pairs=%u bytes=%zu at=%llu head=%llu error=\"%s\"", pg_text(pg),
                      read->n, read->pairs.len, (unsigned long long)at,
                      (unsigned long long)pg_log_head(&pg->log).sequence, error_text(error));
    }
    if (!error && !has_state) {
        log_error(pg->world->env, "state of a placement group is missing", "pg=%s pairs=%u",
                  pg_text(pg), read->n);
        error = -ELIMPET_CORRUPT;
    }
    return error;
}

/* What a crash left of objects that were being received. */
static void remove_temporary(struct pg *pg, struct pg_step *removal)
{
    const uint8_t from = PG_KEY_TEMPORARY, to = PG_KEY_TEMPORARY + 1;
    txn_pg_remove_range(&removal->txn, pg->id, &from, sizeof from, &to, sizeof to);
    pg_step_submit(removal);
}

static void load_done(struct store_pg_read *read)
{
    struct load *load = container_of(read, struct load, read);
    struct pg *pg = load->async.pg;
    struct pg_step *removal = NULL;
    pg_async_end(&load->async);
    int error = read->error ? read->error : take_pairs(pg, read, &removal);
    load_free(load);
    if (error) {
        if (removal) {
            txn_fini(&removal->txn);
            free(removal);
        }
        pg_fatal(pg, error, "the log of a placement group cannot be read");
        return;
    }
    pg->durable = pg_log_head(&pg->log).sequence;
    pg->recorded = true;
    if (pg->committed < pg->log.base.sequence)
        pg->committed = pg->log.base.sequence;
    if (removal)
        remove_temporary(pg, removal);
    pg_set_state(pg, PG_STATE_STRAY);
    pg->loaded(pg->loaded_ctx, pg);
}

void pg_load(struct pg *pg, void (*loaded)(void *ctx, struct pg *pg), void *ctx)
{
    assert(pg->state == PG_STATE_LOADING);
    struct load *load = calloc(1, sizeof *load);
    if (!load) {
        pg_fatal(pg, -ENOMEM, "no memory to read the log of a placement group");
        return;
    }
    pg->loaded = loaded;
    pg->loaded_ctx = ctx;
    load->read.pg = pg->id;
    /* There may be very many that lead to clones. */
    load->read.to[0] = PG_KEY_SNAP;
    load->read.to_len = 1;
    load->read.done = load_done;
    pg_async_begin(pg, &load->async, load_drop);
    store_pg_read(pg->world->store, &load->read);
}
