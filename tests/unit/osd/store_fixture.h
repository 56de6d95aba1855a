/*
 * Synchronous use of a store in tests: each call runs the loop until its answer is there.
 */
#ifndef LIMPET_TESTS_UNIT_OSD_STORE_FIXTURE_H
#define LIMPET_TESTS_UNIT_OSD_STORE_FIXTURE_H

#include "osd/store/store.h"

struct store_fixture {
    struct env *env;
    struct store *store;
    /* One of them. */
    struct store_memory_disk *disk;
    char path[256];
};

enum { FIXTURE_BYTES_TOTAL = 1 << 30 };

/* A new, empty store. They return 0, as cmocka's set-up functions do. */
int fixture_memory(void **state);
int fixture_engine(void **state);
int fixture_teardown(void **state);

/*
 * Changes one bit of the first place on the engine's disk that holds these bytes, behind its back:
 * the store is closed and opened again.
 */
void fixture_flip(struct store_fixture *f, const void *bytes, size_t len);
/* Closes the store and opens what it left. */
void fixture_reopen(struct store_fixture *f);
void fixture_close(struct store_fixture *f);

struct object_id object_named(const char *name, uint32_t hash);

/* Data for txn_write(): sets txn->data to a copy. */
void txn_data(struct store_txn *txn, const void *data, size_t len);
/* Submits, waits, expects success, and frees what the transaction holds. */
void commit(struct store_fixture *f, struct store_txn *txn);
/* Writes one range of an object in a transaction of its own. */
void write_object(struct store_fixture *f, const struct object_id *id, uint64_t offset,
                  const void *data, size_t len);

/* Waits for the read; the caller frees its results with read_fini(). */
int read_object(struct store_fixture *f, struct store_read *read, const struct object_id *id,
                uint64_t offset, uint64_t len);
void read_fini(struct store_read *read);
/* The object is exactly this. */
void assert_object(struct store_fixture *f, const struct object_id *id, const void *data,
                   size_t len);
void assert_no_object(struct store_fixture *f, const struct object_id *id);

void run_list(struct store_fixture *f, struct store_list *list);
void run_pg_read(struct store_fixture *f, struct store_pg_read *read);

/* Runs the loop until *done. */
void wait_until(struct store_fixture *f, const bool *done);

#endif
