/*
 * What a placement group remembers of its clients when their entries have left the log: results of
 * requests that may be repeated.
 *
 * Each writing request says which requests its client still waits for: none below `oldest`. So the
 * results worth keeping are those from `oldest` on, a few a client. They are kept until the client
 * says that it has them, or until the client has written nothing for PG_CLIENT_AGE_NS of the log's
 * clock. (A client gives up after ten minutes, and repeats nothing after that.) A request below
 * `oldest` is a late copy that nobody waits for, and is not executed.
 *
 *  D1  The durable part is a function of the entries that have left the log, in their order, one by
 *      one, and of nothing else: copies whose logs begin at the same place remember the same,
 *      whenever they shortened them. Time is that of the entries.
 *  D2  Whatever is in the store as a log entry, or as a record here, is never in neither: a record
 *      changes in the transaction that removes the entry.
 *  D3  A result that is dropped because there are too many makes its client's `oldest` pass it: a
 *      repetition is refused then, not executed.
 *
 *  D4  When there are too many clients the one that has been silent for longest is forgotten, and
 *      `forgotten_ns` passes its last entry. A request says how long ago it was sent for the first
 *      time. One that is not known and was sent before `forgotten_ns` may have been executed by a
 *      client that was forgotten, and is refused; one that was sent later has not been. (The log's
 *      clock never runs faster than time itself, so the time between two events is at least what it
 *      shows.) What is forgotten was silent while a thousand other clients wrote to this group: a
 *      request is refused only if its client has repeated it for that long. The first copy of a
 *      request never is.
 */
#ifndef LIMPET_OSD_PG_PG_CLIENTS_H
#define LIMPET_OSD_PG_PG_CLIENTS_H

#include <bsd/sys/queue.h>
#include <uthash.h>

#include "common/codec.h"
#include "osd/pg/pg_layout.h"

enum {
    /*
     * Of one group. A client has at most PG_CLIENT_RESULTS_MAX, since no more of its requests are
     * under way; beyond these limits the client that has been silent for longest loses first.
     * Results are counted in units, so that those with long answers count for more.
     */
    PG_CLIENTS_MAX = 1024,
    PG_RESULTS_MAX = 4096,
    /* Of all of it, as it is sent to another copy. */
    PG_CLIENTS_BYTES = PG_CLIENTS_MAX * ((int)sizeof(struct pg_client_layout) + 8) +
                       PG_RESULTS_MAX * (int)sizeof(struct pg_result_layout),
};

/* Longer than clients wait (10 minutes), for clocks that differ and messages that are under way. */
#define PG_CLIENT_AGE_NS (UINT64_C(15) * 60 * 1000000000)

struct pg_result {
    struct pg_result_layout head;
    uint8_t *answer; /* head.answer_len bytes; NULL for none. */
};

struct pg_client {
    UT_hash_handle hh;
    uint64_t client;  /* Its instance. */
    uint64_t known;   /* Highest `oldest` that we have heard of. */
    uint32_t entries; /* In the log. */
    bool kept;        /* It has a record: what follows, and in the store. */
    bool changed;     /* In clients->changed: the store does not know yet. */
    uint64_t oldest;
    uint64_t stamp_ns;
    uint64_t sequence;
    uint16_t n_results;
    uint16_t capacity;
    uint16_t units;            /* Of all results. */
    struct pg_result *results; /* By tid. */
    TAILQ_ENTRY(pg_client) kept_link;
    TAILQ_ENTRY(pg_client) changed_link;
};
TAILQ_HEAD(pg_client_list, pg_client);

struct pg_clients {
    struct pg_client *by_id;
    struct pg_client_list kept; /* By sequence: the longest silent first. */
    struct pg_client_list changed;
    uint64_t stamp_ns;     /* Of the newest entry that left the log. */
    uint64_t forgotten_ns; /* Clients whose last write was before this may be missing (D4). */
    uint32_t limit;        /* PG_CLIENTS_MAX, or less in tests: the same for all copies. */
    uint32_t n_kept;
    uint32_t n_units; /* Of all results. */
    uint64_t dropped; /* Results, and clients, beyond the limits; since the start. */
};

void pg_clients_init(struct pg_clients *clients);
void pg_clients_fini(struct pg_clients *clients);

/* NULL when nothing is known of it. */
struct pg_client *pg_clients_find(const struct pg_clients *clients, uint64_t client);
/* Of a request whose entry has left the log; NULL. */
const struct pg_result *pg_client_result(const struct pg_client *client, uint64_t tid);

/*
 * An entry enters the log, or is taken back. -ENOMEM. Entries stand before their further bytes, as
 * in pg_entry_layout.
 */
int pg_clients_add(struct pg_clients *clients, const struct pg_entry_layout *entry) MUST_CHECK;
void pg_clients_take_back(struct pg_clients *clients, const struct pg_entry_layout *entry);
/* The oldest entry leaves the log. -ENOMEM: the copy must not go on. */
int pg_clients_retire(struct pg_clients *clients, const struct pg_entry_layout *entry) MUST_CHECK;

/*
 * Whether a request of which nothing is known may have been executed (D4): one that was sent
 * `attempt` times before, for the first time so long ago.
 */
bool pg_clients_may_lack(const struct pg_clients *clients, uint64_t now_ns, uint32_t attempt,
                         uint64_t age_ns);

/* ---- Records ---- */

/* Length of its record. */
static inline size_t pg_client_len(const struct pg_client *client)
{
    return sizeof(struct pg_client_layout) + (size_t)client->units * PG_RESULT_UNIT;
}

/* Appends the record, as pg_client_parse() wants it. */
void pg_client_encode(const struct pg_client *client, struct encoder *e);
/* Takes over a record that passed pg_client_parse(), in place of one that is there. -ENOMEM. */
int pg_clients_load(struct pg_clients *clients, const void *data, size_t len) MUST_CHECK;
/* The first record that the store does not know; NULL: none. `kept` tells to write or remove it. */
struct pg_client *pg_clients_changed(const struct pg_clients *clients);
/* The store knows it; it may be freed by this. */
void pg_client_stored(struct pg_clients *clients, struct pg_client *client);

#endif
