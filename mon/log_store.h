/*
 * The consensus log of a monitor on small synchronous files: term and vote, entries, one snapshot.
 *
 * Invariants:
 *  L1  What log_store_set_term(), log_store_set_vote(), log_store_flush(), log_store_truncate() and
 *      log_store_put_snapshot() were asked to keep is durable when they return 0.
 *  L2  The log changes in place by appending only. Everything else (cutting its end off, dropping
 *      its beginning) writes a new file that takes the old one's name once it is durable.
 *  L3  After the last entry the file holds zeroes, so that no remnant of an earlier write can be
 *      taken for a following entry. A torn end that a crash left is cut off when the store opens.
 *  L4  An append that was not acknowledged may be lost; an acknowledged one may not. So a record
 *      that fails its checksum is taken for a torn end only when nothing shows that it was durable:
 *      the file's header and every record say up to where the file was durable before them.
 *      Otherwise the log is damaged and the store refuses to open.
 *  L5  After a failed write or flush nothing is known about the file: the store refuses all further
 *      work, and the process must end.
 */
#ifndef LIMPET_MON_LOG_STORE_H
#define LIMPET_MON_LOG_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/env.h"
#include "common/error.h"

enum { LOG_STORE_WHY_MAX = 256 };

struct log_store;

struct log_entry {
    uint64_t term;
    uint16_t type;
    uint32_t len;
};

struct log_snapshot {
    uint64_t index; /* Of the last entry that it stands for. */
    uint64_t term;  /* Of that entry. */
    uint64_t conf_index;
    size_t conf_len;
    size_t data_len;
    const void *conf; /* The encoded configuration of the cluster. */
    const void *data;
};

/*
 * Makes the files of a new monitor: term 1, no vote, and one entry (type `type`, term 1) with the
 * first configuration. Replaces what an earlier, unfinished attempt left.
 */
int log_store_mkfs(struct env *env, uint16_t type, const void *conf, size_t conf_len) MUST_CHECK;

/* -ENOENT: not made yet. -ELIMPET_CORRUPT: damaged; `why` says what and what to do. */
int log_store_open(struct env *env, struct log_store **out, char why[LOG_STORE_WHY_MAX]) MUST_CHECK;
/* Frees; what was not flushed is lost, as in a crash. */
void log_store_close(struct log_store *store);

uint64_t log_store_term(const struct log_store *store);
uint64_t log_store_vote(const struct log_store *store);
/* A new term has no vote. */
int log_store_set_term(struct log_store *store, uint64_t term) MUST_CHECK;
int log_store_set_vote(struct log_store *store, uint64_t vote) MUST_CHECK;

/* Entries first .. last, including those that wait for log_store_flush(); last == first - 1: none.
 */
uint64_t log_store_first(const struct log_store *store);
uint64_t log_store_last(const struct log_store *store);
/* -ENOENT: no such entry. */
int log_store_entry(const struct log_store *store, uint64_t index,
                    struct log_entry *out) MUST_CHECK;
/* Copies the data of an entry, as many bytes as log_store_entry() says. */
int log_store_read(struct log_store *store, uint64_t index, void *data) MUST_CHECK;

/* Queues an entry after the last one, copying its data. -ENOMEM, -EMSGSIZE. */
int log_store_append(struct log_store *store, uint64_t term, uint16_t type, const void *data,
                     size_t len) MUST_CHECK;
/* Writes all queued entries with one flush. */
int log_store_flush(struct log_store *store) MUST_CHECK;
/* Removes entry `index` and all after it; flushes those before it. */
int log_store_truncate(struct log_store *store, uint64_t index) MUST_CHECK;

/*
 * Keeps a snapshot and drops the entries that it replaces, except for the `trailing` last of them;
 * trailing 0 drops all entries, those after the snapshot too.
 */
int log_store_put_snapshot(struct log_store *store, const struct log_snapshot *snapshot,
                           unsigned trailing) MUST_CHECK;
/*
 * Reads the latest snapshot. conf and data point into *memory, which the caller frees. -ENOENT: no
 * snapshot was put yet.
 */
int log_store_get_snapshot(struct log_store *store, struct log_snapshot *out,
                           void **memory) MUST_CHECK;

/* How many flushes there were: the tests count them. */
uint64_t log_store_flushes(const struct log_store *store);

#endif
