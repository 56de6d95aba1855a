/*
 * What the files of the RocksDB store share: store_rocksdb.c (opening, committing, closing),
 * rocksdb_apply.c (transactions into a batch), rocksdb_read.c (reading).
 */
#ifndef LIMPET_OSD_STORE_ROCKSDB_PRIVATE_H
#define LIMPET_OSD_STORE_ROCKSDB_PRIVATE_H

#include <bsd/sys/queue.h>
#include <pthread.h>
#include <rocksdb/c.h>

#include "osd/store/rocksdb_layout.h"
#include "osd/store/store.h"
#include "osd/store/txn.h"

enum {
    /* Reads on helper threads at once; the world's pool of them must have one left to commit. */
    ROCKS_READERS_MAX = 3,
    /* What one batch takes of the waiting transactions; a larger one is a batch of its own. */
    ROCKS_COMMIT_BYTES_MAX = 32 << 20,
    ROCKS_COMMIT_TXNS_MAX = 1024,
    /* Reads up to this size are first tried on the loop, without touching the disk. */
    ROCKS_INLINE_READ_MAX = 65536,
};

/* In store_txn.impl. */
struct rocks_txn {
    STAILQ_ENTRY(rocks_txn) link;
    struct store_txn *txn;
    int error;
};
static_assert(sizeof(struct rocks_txn) <= sizeof(((struct store_txn *)0)->impl), "impl");
STAILQ_HEAD(rocks_txns, rocks_txn);

enum rocks_request_kind { ROCKS_READ, ROCKS_LIST, ROCKS_PG_READ };

/* In the impl of reads and listings. */
struct rocks_request {
    struct env_work work;
    struct rocks_store *rs;
    STAILQ_ENTRY(rocks_request) link;
    enum rocks_request_kind kind;
};
static_assert(sizeof(struct rocks_request) <= sizeof(((struct store_read *)0)->impl), "impl");
static_assert(sizeof(struct rocks_request) <= sizeof(((struct store_list *)0)->impl), "impl");
static_assert(sizeof(struct rocks_request) <= sizeof(((struct store_pg_read *)0)->impl), "impl");
STAILQ_HEAD(rocks_requests, rocks_request);

struct rocks_store {
    struct store store;
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_cache_t *cache;
    rocksdb_writeoptions_t *write_options;
    rocksdb_readoptions_t *read_options; /* Without a snapshot: for the committing thread. */
    uint64_t bytes_total;

    /* Committing. While `committing`, the helper thread owns `state`, and borrows `running`. */
    struct rocks_txns pending, running;
    bool committing;
    size_t batch_bytes; /* About what the running batch needs. */
    struct env_work commit;
    struct env_task commit_start;
    struct rocks_state state;
    uint64_t bytes_used; /* Of the last committed state; for the loop. */
    int commit_error;
    int failed; /* Not 0: nothing is written any more. */
    bool told_failure;

    /* Reading. */
    struct rocks_requests waiting, finished;
    uint32_t n_reading;
    struct env_task deliver;

    pthread_mutex_t error_lock; /* Protects error_text, which any thread may set. */
    char error_text[256];

    bool closing;
    struct env_work close;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

/* The answer of a read that may not touch the disk and would have to. */
#define ROCKS_INCOMPLETE 1

/*
 * The error number for RocksDB's message, which it frees; NULL is no error. Any thread. Keeps the
 * text for rocks_log_error().
 */
int rocks_error(struct rocks_store *rs, const char *what, char *message) MUST_CHECK;
/* On the loop: writes to the log what rocks_error() kept. */
void rocks_log_error(struct rocks_store *rs);

/*
 * Adds transactions to a batch, in order; those with an error are left out. Changes *state.
 * Blocks: for helper threads.
 */
int rocks_apply(struct rocks_store *rs, rocksdb_writebatch_wi_t *batch,
                const struct rocks_txns *txns, struct rocks_state *state) MUST_CHECK;

/* Whether the value of an object's key is one. */
bool rocks_object_valid(const void *value, size_t len);

void rocks_read_start(struct store *store, struct store_read *read);
void rocks_list_start(struct store *store, struct store_list *list);
void rocks_pg_read_start(struct store *store, struct store_pg_read *read);
int rocks_pgs(struct store *store, store_pg_visit visit, void *ctx) MUST_CHECK;
void rocks_deliver(struct env_task *task);

/* The last thing that every callback of ours does: the store may be gone afterwards. */
void rocks_finish_close(struct rocks_store *rs);

#endif
