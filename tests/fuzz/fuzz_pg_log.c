/*
 * What a placement group reads from its store and from other copies: log entries, state, info of
 * objects, records of clients. The input is a list of entries, each after its length in two bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "osd/pg/pg_log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ENTRIES_MAX = 64 };

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void small_ones(const uint8_t *data, size_t size)
{
    struct pg_state_layout state;
    struct object_info_layout info;
    uint64_t number;
    if (pg_state_parse(data, size, &state) == 0)
        must(state.complete <= 1);
    if (object_info_parse(data, size, &info) == 0)
        must(info.layout == PG_LAYOUT_VERSION);
    if (pg_numbered_key_parse(PG_KEY_LOG, data, size, &number) == 0)
        must(size == PG_NUMBERED_KEY_LEN);
}

/* A record that was accepted comes out as it went in, but for reserved bytes. */
static void record(const uint8_t *data, size_t size)
{
    struct pg_client_layout head, again;
    if (pg_client_parse(data, size, &head))
        return;
    struct pg_clients clients;
    struct encoder e;
    pg_clients_init(&clients);
    encoder_init(&e);
    must(pg_clients_load(&clients, data, size) == 0);
    must(pg_clients_load(&clients, data, size) == 0); /* In place of the first. */
    must(clients.n_kept == 1 && clients.n_units >= head.n_results);
    const struct pg_client *client = pg_clients_find(&clients, head.client);
    must(client != NULL);
    pg_client_encode(client, &e);
    must(!e.failed && e.len == size && pg_client_parse(e.data, e.len, &again) == 0);
    must(again.oldest == head.oldest && again.sequence == head.sequence);
    must(memcmp(data + sizeof head, e.data + sizeof head, size - sizeof head) == 0);
    /* The client goes on: everything up to its next request is forgotten. */
    struct pg_entry_layout entry = {.kind = PG_ENTRY_MODIFY, .client = head.client};
    entry.tid = entry.oldest = UINT64_MAX - 1;
    entry.version.sequence = head.sequence;
    entry.stamp_ns = head.stamp_ns;
    must(pg_clients_add(&clients, &entry) == 0 && pg_clients_retire(&clients, &entry) == 0);
    must(head.oldest > entry.tid ? clients.n_units == 0
                                 : pg_client_result(client, entry.tid) != NULL);
    encoder_fini(&e);
    pg_clients_fini(&clients);
}

/* Takes an entry as if it were the next one. */
static void take(struct pg_log *log, const uint8_t *data, size_t len)
{
    struct pg_entry_layout head;
    struct object_id object;
    if (pg_entry_parse(data, len, &head, &object))
        return;
    must(head.version.sequence > 0 && object.name_len <= OBJECT_NAME_MAX);
    if (head.version.sequence != pg_log_head(log).sequence + 1)
        return;
    struct pg_entry *entry = pg_log_append(log, data, len);
    must(entry && pg_log_head(log).sequence == head.version.sequence);
    if (head.client != 0)
        must(pg_log_find(log, head.client, head.tid) == entry);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pg_log log;
    struct pg_log_span spans[ENTRIES_MAX];
    size_t n = 0;
    uint64_t common;
    small_ones(data, size);
    record(data, size);
    pg_log_init(&log);
    while (size >= 2) {
        size_t len = (size_t)data[0] | (size_t)data[1] << 8;
        data += 2;
        size -= 2;
        if (len > size)
            break;
        if (n < ENTRIES_MAX && len >= sizeof(struct pg_entry_layout))
            spans[n++] = (struct pg_log_span){data, len};
        take(&log, data, len);
        data += len;
        size -= len;
    }
    if (pg_log_common(&log, (struct wire_version){0}, spans, n, &common) == 0)
        must(common <= pg_log_head(&log).sequence);
    if (log.count > 2) {
        must(pg_log_trim(&log, log.base.sequence + 1) == 0);
        pg_log_cut(&log, pg_log_head(&log).sequence - 1);
    }
    pg_log_fini(&log);
    return 0;
}
