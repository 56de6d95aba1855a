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
    pg_log_reset(&pg->log, state.base, state.totals);
    pg->log.clients.forgotten_ns = state.forgotten_ns;
    return 0;
}

static int take_entry(struct pg *pg, uint64_t sequence, const void *value, size_t len)
{
    struct pg_entry_layout head;
    struct object_id id;
    if (pg_entry_parse(value, len, &head, &id) || head.version.sequence != sequence)
        return -ELIMPET_CORRUPT;
    if (sequence != pg_log_head(&pg->log).sequence + 1)
        return -ELIMPET_CORRUPT;
    if (!pg_log_append(&pg->log, value, len))
        return -ENOMEM;
    if (head.committed > pg->committed)
        pg->committed = head.committed;
    return 0;
}

/* Its first entries may have left the log. */
static int take_run(struct pg *pg, uint64_t last, const void *value, size_t len)
{
    struct pg_entry_layout head;
    struct object_id id;
    struct decoder d;
    decoder_init(&d, value, len);
    while (decoder_left(&d) > 0) {
        uint32_t entry_len;
        const void *entry = decode_string32(&d, &entry_len);
        if (d.failed || pg_entry_parse(entry, entry_len, &head, &id))
            return -ELIMPET_CORRUPT;
        if (head.version.sequence <= pg->log.base.sequence)
            continue;
        int error = take_entry(pg, head.version.sequence, entry, entry_len);
        if (error)
            return error;
    }
    if (pg_log_head(&pg->log).sequence != last)
        return -ELIMPET_CORRUPT;
    pg->log.packed = last;
    return 0;
}

static int take_client(struct pg *pg, uint64_t client, const void *value, size_t len)
{
    struct pg_client_layout head;
    if (pg_client_parse(value, len, &head) || head.client != client)
        return -ELIMPET_CORRUPT;
    return pg_clients_load(&pg->log.clients, value, len);
}

struct pair {
    const uint8_t *key;
    const void *value;
    uint16_t key_len;
    uint32_t value_len;
};

static int next_pair(struct decoder *d, struct pair *out)
{
    out->key = decode_string16(d, &out->key_len);
    out->value = decode_string32(d, &out->value_len);
    return d->failed || out->key_len == 0 ? -ELIMPET_CORRUPT : 0;
}

static bool is_state(const struct pair *pair)
{
    return pair->key_len == 1 && pair->key[0] == PG_KEY_STATE;
}

/* The log starts after what the state says; entries sort before it. */
static int find_state(struct pg *pg, const struct store_pg_read *read)
{
    struct decoder d;
    struct pair pair;
    decoder_init(&d, read->pairs.data, read->pairs.len);
    while (decoder_left(&d) > 0) {
        int error = next_pair(&d, &pair);
        if (error)
            return error;
        if (is_state(&pair))
            return take_state(pg, pair.value, pair.value_len);
    }
    log_error(pg->world->env, "state of a placement group is missing", "pg=%s pairs=%u",
              pg_text(pg), read->n);
    return -ELIMPET_CORRUPT;
}

static int take_pair(struct pg *pg, struct decoder *d, struct pg_step **removal)
{
    struct pair pair;
    uint64_t number;
    int error = next_pair(d, &pair);
    if (error)
        return error;
    const uint8_t *key = pair.key;
    const void *value = pair.value;
    uint16_t key_len = pair.key_len;
    uint32_t value_len = pair.value_len;
    if (is_state(&pair))
        return 0;
    if (key_len == 1 && key[0] == PG_KEY_SCRUB)
        return pg_scrub_load(pg, value, value_len);
    if (pg_numbered_key_parse(PG_KEY_RUN, key, key_len, &number) == 0)
        return take_run(pg, number, value, value_len);
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
    int error = find_state(pg, read);
    decoder_init(&d, read->pairs.data, read->pairs.len);
    while (!error && decoder_left(&d) > 0) {
        uint64_t at = read->pairs.len - decoder_left(&d);
        error = take_pair(pg, &d, removal);
        if (error)
            log_error(pg->world->env, "pair of a placement group refused",
                      "pg=%s pairs=%u bytes=%zu at=%llu head=%llu error=\"%s\"", pg_text(pg),
                      read->n, read->pairs.len, (unsigned long long)at,
                      (unsigned long long)pg_log_head(&pg->log).sequence, error_text(error));
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
    if (pg->committed < pg->log.packed)
        pg->committed = pg->log.packed;
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
