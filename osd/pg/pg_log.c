#include "osd/pg/pg_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PG_LOG_CAPACITY_FIRST = 16 };

void pg_log_init(struct pg_log *log)
{
    memset(log, 0, sizeof *log);
    pg_clients_init(&log->clients);
}

static struct pg_entry **slot(const struct pg_log *log, uint32_t index)
{
    assert(index < log->count);
    return &log->ring[(log->first + index) & (log->capacity - 1)];
}

static struct pg_entry **bucket(const struct pg_log *log, uint64_t client, uint64_t tid)
{
    uint64_t mix = (client ^ tid * UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xff51afd7ed558ccd);
    return &log->buckets[(mix >> 32) & (log->capacity - 1)];
}

static void index_insert(struct pg_log *log, struct pg_entry *entry)
{
    struct pg_entry **at = bucket(log, entry->head.client, entry->head.tid);
    entry->next = *at;
    *at = entry;
}

static void index_remove(struct pg_log *log, struct pg_entry *entry)
{
    struct pg_entry **at = bucket(log, entry->head.client, entry->head.tid);
    while (*at != entry) {
        assert(*at != NULL);
        at = &(*at)->next;
    }
    *at = entry->next;
}

void pg_log_fini(struct pg_log *log)
{
    for (uint32_t i = 0; i < log->count; i++)
        free(*slot(log, i));
    free(log->ring);
    free(log->buckets);
    pg_clients_fini(&log->clients);
    pg_log_init(log);
}

void pg_log_reset(struct pg_log *log, struct wire_version base, struct pg_totals totals)
{
    uint32_t limit = log->clients.limit;
    pg_log_fini(log);
    log->clients.limit = limit;
    log->base = base;
    log->base_totals = totals;
    log->packed = base.sequence;
}

/* Doubles the ring and the index. Returns false when memory is short. */
static bool grow(struct pg_log *log)
{
    uint32_t capacity = log->capacity == 0 ? PG_LOG_CAPACITY_FIRST : log->capacity * 2;
    struct pg_entry **ring = calloc(capacity, sizeof(struct pg_entry *));
    struct pg_entry **buckets = calloc(capacity, sizeof(struct pg_entry *));
    if (!ring || !buckets) {
        free(ring);
        free(buckets);
        return false;
    }
    for (uint32_t i = 0; i < log->count; i++)
        ring[i] = *slot(log, i);
    free(log->ring);
    free(log->buckets);
    log->ring = ring;
    log->buckets = buckets;
    log->first = 0;
    log->capacity = capacity;
    for (uint32_t i = 0; i < log->count; i++)
        index_insert(log, ring[i]);
    return true;
}

struct pg_entry *pg_log_append(struct pg_log *log, const void *data, size_t len)
{
    assert(len >= sizeof(struct pg_entry_layout) && len <= PG_ENTRY_MAX);
    if (log->count == log->capacity && !grow(log))
        return NULL;
    struct pg_entry *entry = malloc(offsetof(struct pg_entry, head) + len);
    if (!entry)
        return NULL;
    entry->len = (uint32_t)len;
    memcpy(&entry->head, data, len);
    assert(entry->head.version.sequence == pg_log_head(log).sequence + 1);
    if (pg_clients_add(&log->clients, &entry->head)) {
        free(entry);
        return NULL;
    }
    log->count++;
    *slot(log, log->count - 1) = entry;
    index_insert(log, entry);
    return entry;
}

void pg_log_cut(struct pg_log *log, uint64_t sequence)
{
    assert(sequence >= log->packed);
    while (log->count > 0 && log->base.sequence + log->count > sequence) {
        struct pg_entry *entry = *slot(log, log->count - 1);
        index_remove(log, entry);
        pg_clients_take_back(&log->clients, &entry->head);
        free(entry);
        log->count--;
    }
}

int pg_log_trim(struct pg_log *log, uint64_t sequence)
{
    assert(sequence <= pg_log_head(log).sequence);
    while (log->count > 0 && log->base.sequence < sequence) {
        struct pg_entry *entry = *slot(log, 0);
        log->base = entry->head.version;
        log->base_totals = entry->head.totals;
        index_remove(log, entry);
        if (pg_clients_retire(&log->clients, &entry->head))
            return -ENOMEM;
        free(entry);
        log->first = (log->first + 1) & (log->capacity - 1);
        log->count--;
    }
    if (log->packed < log->base.sequence)
        log->packed = log->base.sequence;
    return 0;
}

uint64_t pg_log_stamp(const struct pg_log *log)
{
    uint64_t stamp = log->count == 0 ? 0 : (*slot(log, log->count - 1))->head.stamp_ns;
    return stamp > log->clients.stamp_ns ? stamp : log->clients.stamp_ns;
}

struct wire_version pg_log_head(const struct pg_log *log)
{
    return log->count == 0 ? log->base : (*slot(log, log->count - 1))->head.version;
}

struct pg_totals pg_log_totals(const struct pg_log *log)
{
    return log->count == 0 ? log->base_totals : (*slot(log, log->count - 1))->head.totals;
}

struct pg_entry *pg_log_get(const struct pg_log *log, uint64_t sequence)
{
    if (sequence <= log->base.sequence || sequence - log->base.sequence > log->count)
        return NULL;
    return *slot(log, (uint32_t)(sequence - log->base.sequence - 1));
}

bool pg_log_version(const struct pg_log *log, uint64_t sequence, struct wire_version *out)
{
    if (sequence == log->base.sequence) {
        *out = log->base;
        return true;
    }
    const struct pg_entry *entry = pg_log_get(log, sequence);
    if (!entry)
        return false;
    *out = entry->head.version;
    return true;
}

struct pg_entry *pg_log_find(const struct pg_log *log, uint64_t client, uint64_t tid)
{
    if (log->capacity == 0 || client == 0)
        return NULL;
    struct pg_entry *entry = *bucket(log, client, tid);
    while (entry && (entry->head.client != client || entry->head.tid != tid))
        entry = entry->next;
    return entry;
}

int pg_log_common(const struct pg_log *log, struct wire_version base,
                  const struct pg_log_span *entries, size_t n, uint64_t *sequence)
{
    struct wire_version ours;
    struct pg_entry_layout theirs;
    for (size_t i = n; i-- > 0;) {
        assert(entries[i].len >= sizeof theirs);
        memcpy(&theirs, entries[i].data, sizeof theirs);
        if (pg_log_version(log, theirs.version.sequence, &ours) &&
            version_equal(ours, theirs.version)) {
            *sequence = ours.sequence;
            return 0;
        }
    }
    /* Between the base and the first entry that we were told there may be entries we know nothing
     * of: then an equal base proves too little. */
    if (n > 0) {
        memcpy(&theirs, entries[0].data, sizeof theirs);
        if (theirs.version.sequence != base.sequence + 1)
            return -ENOENT;
    }
    if (!pg_log_version(log, base.sequence, &ours) || !version_equal(ours, base))
        return -ENOENT;
    *sequence = base.sequence;
    return 0;
}
