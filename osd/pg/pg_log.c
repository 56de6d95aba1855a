#include "osd/pg/pg_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PG_LOG_CAPACITY_FIRST = 16, PIECE_MIN = 1024, PIECE_MAX = 16 * 1024 };

#ifdef __SANITIZE_ADDRESS__
enum { PIECE_ENTRIES_MAX = 1 }; /* So that uses of what has left are seen. */
#else
enum { PIECE_ENTRIES_MAX = PIECE_MAX };
#endif

void pg_log_init(struct pg_log *log)
{
    memset(log, 0, sizeof *log);
    TAILQ_INIT(&log->pieces);
    pg_clients_init(&log->clients);
}

static uint32_t position(const struct pg_log *log, uint32_t index)
{
    assert(index < log->count);
    return (log->first + index) & (log->capacity - 1);
}

static struct pg_entry *entry_at(const struct pg_log *log, uint32_t index)
{
    return log->ring[position(log, index)].entry;
}

/* ---- Memory of entries ---- */

static size_t room_of(size_t len)
{
    return (offsetof(struct pg_entry, head) + len + 7) & ~(size_t)7;
}

static struct pg_log_piece *add_piece(struct pg_log *log, size_t room)
{
    size_t size = (size_t)log->capacity * 16;
    if (size < PIECE_MIN || PIECE_ENTRIES_MAX == 1)
        size = PIECE_MIN;
    if (size > PIECE_MAX)
        size = PIECE_MAX;
    if (size < room)
        size = room;
    struct pg_log_piece *piece = malloc(sizeof *piece + size);
    if (!piece)
        return NULL;
    piece->size = (uint32_t)size;
    piece->used = piece->n = 0;
    TAILQ_INSERT_TAIL(&log->pieces, piece, link);
    return piece;
}

static void drop_piece(struct pg_log *log, struct pg_log_piece *piece)
{
    TAILQ_REMOVE(&log->pieces, piece, link);
    free(piece);
}

static struct pg_entry *entry_create(struct pg_log *log, const void *data, size_t len)
{
    size_t room = room_of(len);
    struct pg_log_piece *piece = TAILQ_LAST(&log->pieces, pg_log_pieces);
    if (!piece || piece->size - piece->used < room || piece->n == PIECE_ENTRIES_MAX)
        piece = add_piece(log, room);
    if (!piece)
        return NULL;
    struct pg_entry *entry = (struct pg_entry *)(piece->bytes + piece->used);
    entry->len = (uint32_t)len;
    memcpy(&entry->head, data, len);
    piece->used += (uint32_t)room;
    piece->n++;
    return entry;
}

static void drop_oldest(struct pg_log *log)
{
    struct pg_log_piece *piece = TAILQ_FIRST(&log->pieces);
    assert(piece && piece->n > 0);
    if (--piece->n == 0)
        drop_piece(log, piece);
}

static void drop_newest(struct pg_log *log, const struct pg_entry *entry)
{
    struct pg_log_piece *piece = TAILQ_LAST(&log->pieces, pg_log_pieces);
    assert(piece && piece->n > 0);
    piece->used = (uint32_t)((const uint8_t *)entry - piece->bytes);
    if (--piece->n == 0)
        drop_piece(log, piece);
}

/* ---- The index ---- */

static uint32_t hash_of(uint64_t client, uint64_t tid)
{
    uint64_t mix = (client ^ tid * UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xff51afd7ed558ccd);
    return (uint32_t)(mix >> 32);
}

static void index_insert(struct pg_log *log, uint32_t at)
{
    uint32_t *bucket = &log->buckets[log->ring[at].hash & (log->capacity - 1)];
    log->ring[at].next = *bucket;
    *bucket = at + 1;
}

static void index_remove(struct pg_log *log, uint32_t at)
{
    uint32_t *link = &log->buckets[log->ring[at].hash & (log->capacity - 1)];
    while (*link != at + 1) {
        assert(*link != 0);
        link = &log->ring[*link - 1].next;
    }
    *link = log->ring[at].next;
}

void pg_log_fini(struct pg_log *log)
{
    struct pg_log_piece *piece;
    while ((piece = TAILQ_FIRST(&log->pieces)) != NULL)
        drop_piece(log, piece);
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
    log->base = log->head = base;
    log->base_totals = totals;
    log->packed = base.sequence;
}

/* Doubles the ring and the index. Returns false when memory is short. */
static bool grow(struct pg_log *log)
{
    uint32_t capacity = log->capacity == 0 ? PG_LOG_CAPACITY_FIRST : log->capacity * 2;
    struct pg_log_slot *ring = calloc(capacity, sizeof *ring);
    uint32_t *buckets = calloc(capacity, sizeof *buckets);
    if (!ring || !buckets) {
        free(ring);
        free(buckets);
        return false;
    }
    for (uint32_t i = 0; i < log->count; i++)
        ring[i] = log->ring[position(log, i)];
    free(log->ring);
    free(log->buckets);
    log->ring = ring;
    log->buckets = buckets;
    log->first = 0;
    log->capacity = capacity;
    for (uint32_t i = 0; i < log->count; i++)
        index_insert(log, i);
    return true;
}

struct pg_entry *pg_log_append(struct pg_log *log, const void *data, size_t len)
{
    assert(len >= sizeof(struct pg_entry_layout) && len <= PG_ENTRY_MAX);
    if (log->count == log->capacity && !grow(log))
        return NULL;
    struct pg_entry *entry = entry_create(log, data, len);
    if (!entry)
        return NULL;
    assert(entry->head.version.sequence == pg_log_head(log).sequence + 1);
    if (pg_clients_add(&log->clients, &entry->head)) {
        drop_newest(log, entry);
        return NULL;
    }
    log->count++;
    log->head = entry->head.version;
    uint32_t at = position(log, log->count - 1);
    log->ring[at].entry = entry;
    log->ring[at].hash = hash_of(entry->head.client, entry->head.tid);
    index_insert(log, at);
    return entry;
}

void pg_log_cut(struct pg_log *log, uint64_t sequence)
{
    assert(sequence >= log->packed);
    while (log->count > 0 && log->base.sequence + log->count > sequence) {
        struct pg_entry *entry = entry_at(log, log->count - 1);
        index_remove(log, position(log, log->count - 1));
        pg_clients_take_back(&log->clients, &entry->head);
        drop_newest(log, entry);
        log->count--;
    }
    log->head = log->count == 0 ? log->base : entry_at(log, log->count - 1)->head.version;
}

int pg_log_trim(struct pg_log *log, uint64_t sequence)
{
    assert(sequence <= pg_log_head(log).sequence);
    while (log->count > 0 && log->base.sequence < sequence) {
        const struct pg_entry *entry = entry_at(log, 0);
        log->base = entry->head.version;
        if (log->base.sequence >= sequence)
            log->base_totals = entry->head.totals;
        index_remove(log, log->first);
        if (pg_clients_retire(&log->clients, &entry->head))
            return -ENOMEM;
        drop_oldest(log);
        log->first = (log->first + 1) & (log->capacity - 1);
        log->count--;
    }
    if (log->packed < log->base.sequence)
        log->packed = log->base.sequence;
    return 0;
}

uint64_t pg_log_stamp(const struct pg_log *log)
{
    uint64_t stamp = log->count == 0 ? 0 : entry_at(log, log->count - 1)->head.stamp_ns;
    return stamp > log->clients.stamp_ns ? stamp : log->clients.stamp_ns;
}

struct wire_version pg_log_head(const struct pg_log *log)
{
    return log->head;
}

struct pg_totals pg_log_totals(const struct pg_log *log)
{
    return log->count == 0 ? log->base_totals : entry_at(log, log->count - 1)->head.totals;
}

struct pg_entry *pg_log_get(const struct pg_log *log, uint64_t sequence)
{
    if (sequence <= log->base.sequence || sequence - log->base.sequence > log->count)
        return NULL;
    return entry_at(log, (uint32_t)(sequence - log->base.sequence - 1));
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
    uint32_t hash = hash_of(client, tid);
    for (uint32_t at = log->buckets[hash & (log->capacity - 1)]; at != 0;
         at = log->ring[at - 1].next) {
        struct pg_entry *entry = log->ring[at - 1].entry;
        if (log->ring[at - 1].hash == hash && entry->head.client == client &&
            entry->head.tid == tid)
            return entry;
    }
    return NULL;
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
