/*
 * A placement group's log in memory: the newest writes in order, and who asked for them.
 *
 * Sequences have no gaps: the log holds exactly base.sequence + 1 .. head.sequence. Its bytes are
 * those of the store (osd/pg/pg_layout.h). An index by (client, tid) finds a request that comes a
 * second time.
 *
 * An entry is touched when it comes, when it gets into a run and when it leaves, seconds apart: it
 * is in no cache then. So entries lie one behind the other, and the index does without them.
 */
#ifndef LIMPET_OSD_PG_PG_LOG_H
#define LIMPET_OSD_PG_PG_LOG_H

#include "osd/pg/pg_clients.h"

/* The log is cut back to so many entries when it exceeds them by a quarter. */
enum { PG_LOG_KEEP = 2000 };

struct pg_entry {
    uint32_t len;
    struct pg_entry_layout head; /* The encoded object_id follows: len bytes from here. */
};

struct pg_log_slot {
    struct pg_entry *entry;
    uint32_t hash; /* Of client and tid. */
    uint32_t next; /* In its bucket of the index: a slot's number and 1, or 0. */
};

/* Memory of entries that lie one behind the other. */
struct pg_log_piece {
    TAILQ_ENTRY(pg_log_piece) link;
    uint32_t size, used; /* Of bytes. */
    uint32_t n;          /* Entries in it. */
    _Alignas(8) uint8_t bytes[];
};
TAILQ_HEAD(pg_log_pieces, pg_log_piece);

struct pg_log {
    struct wire_version base; /* The entry before the oldest one; zero for a log from the start. */
    struct wire_version head; /* The newest entry; base without one. */
    struct pg_totals base_totals; /* At base. */
    uint64_t packed; /* Entries up to this sequence are in runs in the store; at least base's. */
    uint32_t count;
    uint32_t first;    /* Where the oldest entry is in the ring. */
    uint32_t capacity; /* Of the ring and of the index; 0 or a power of two. */
    struct pg_log_slot *ring;
    uint32_t *buckets;           /* As pg_log_slot.next. */
    struct pg_log_pieces pieces; /* The oldest entry is in the first, the newest in the last. */
    struct pg_clients clients;   /* Their records are what is true at `base`. */
};

void pg_log_init(struct pg_log *log);
void pg_log_fini(struct pg_log *log);

/* Forgets all entries and clients, and starts after base. */
void pg_log_reset(struct pg_log *log, struct wire_version base, struct pg_totals totals);

/*
 * Copies an entry that passed pg_entry_parse() to the end. Its sequence must be the one after the
 * head. Returns NULL when memory is short.
 */
struct pg_entry *pg_log_append(struct pg_log *log, const void *data, size_t len) MUST_CHECK;
/* Takes back entries after this sequence, which lies in the log or is its base. */
void pg_log_cut(struct pg_log *log, uint64_t sequence);
/*
 * Lets entries up to this sequence go; what clients may ask about again is in log->clients then.
 * -ENOMEM: the log is not to be used any more.
 */
int pg_log_trim(struct pg_log *log, uint64_t sequence) MUST_CHECK;

struct wire_version pg_log_head(const struct pg_log *log);
/* Totals of the group at the head. */
struct pg_totals pg_log_totals(const struct pg_log *log);
/* The log's clock at the head: time that primaries have served. */
uint64_t pg_log_stamp(const struct pg_log *log);
/* NULL when the log does not have it. */
struct pg_entry *pg_log_get(const struct pg_log *log, uint64_t sequence);
/* The version at a sequence from base.sequence to head.sequence; false outside. */
bool pg_log_version(const struct pg_log *log, uint64_t sequence, struct wire_version *out);
struct pg_entry *pg_log_find(const struct pg_log *log, uint64_t client, uint64_t tid);

/*
 * Where another copy's log parts from this one: the highest sequence at which both have the same
 * version. `base` is the other's base and `entries` are some of its entries, oldest first, without
 * gaps, ending at its head. -ENOENT when no common one is known.
 */
struct pg_log_span {
    const uint8_t *data;
    size_t len;
};
int pg_log_common(const struct pg_log *log, struct wire_version base,
                  const struct pg_log_span *entries, size_t n, uint64_t *sequence) MUST_CHECK;

#endif
