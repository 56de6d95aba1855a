/*
 * What a placement group keeps in the store: log entries, its state, and the info of each object.
 *
 * All integers are little-endian; structs are packed, sized by static assertions and covered by
 * golden-bytes tests. A log entry travels in this form too, inside MSG_REP_TXN, PgActivate and
 * PgInfo.
 *
 * Keys among the pairs of a placement group:
 *     "s"                              the state: pg_state_layout
 *
 *     "k" + sequence, big-endian       a run of log entries up to that one, oldest first, each
 *                                      after its length (u32); those up to the state's base count
 *                                      no more
 *
 *     "l" + sequence, big-endian       a log entry after the runs: pg_entry_layout, then the
 *                                      encoded object_id
 *
 *     "r" + client, big-endian         a client's results: pg_client_layout, then pg_result_layout
 *
 *     "c"                              when it was scrubbed: pg_scrub_layout
 *
 *     "t" + number, big-endian         a temporary object that a restart must remove: encoded
 *                                      object_id
 *
 *     "z" + snapshot, reversed hash,   an object that may have a clone of that snapshot: encoded
 *     digest of the object_id          object_id (osd/pg/pg_snap.c)
 */
#ifndef LIMPET_OSD_PG_PG_LAYOUT_H
#define LIMPET_OSD_PG_PG_LAYOUT_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/error.h"
#include "common/object.h"
#include "common/wire_layout.h"

#define PG_PACKED __attribute__((packed))

enum { PG_LAYOUT_VERSION = 9 };

/* What happened to the object. */
enum pg_entry_kind {
    PG_ENTRY_MODIFY = 1, /* It exists after this. */
    PG_ENTRY_REMOVE = 2, /* It does not. */
    /*
     * A request that failed, or whose changing steps all did and were allowed to: it changed
     * nothing. It is kept for the same reason as the others: another copy of the request that is
     * still under way must not succeed after the client was told of the failure.
     */
    PG_ENTRY_FAILED = 3,
};

/* Blocks of an object from `first` up to, not including, `end`. */
struct PG_PACKED pg_extent_layout {
    uint16_t first;
    uint16_t end; /* PG_BLOCKS_MAX: to the end of the object, however large it is. */
};
static_assert(sizeof(struct pg_extent_layout) == 4, "pg_extent_layout");

enum {
    PG_BLOCK = 4096,
    PG_BLOCKS_MAX = (int)(OBJECT_SIZE_MAX / PG_BLOCK),
    PG_EXTENTS_MAX = 8,
    /* In place of their number: anything of the object may have changed. */
    PG_EXTENTS_WHOLE = 255,
};

/* Of a whole group after an entry of its log, so that whoever has the log has the statistics. */
struct PG_PACKED pg_totals {
    uint64_t objects; /* Clones and whiteouts included. */
    uint64_t bytes;   /* Of these. */
    uint64_t clones;
    /* What clients did since the group was made; of reads, those before the primary logged it. */
    uint64_t writes;
    uint64_t bytes_written;
    uint64_t reads;
    uint64_t bytes_read;
};
static_assert(sizeof(struct pg_totals) == 56, "pg_totals");

/*
 * Followed by object_len bytes of encoded object_id, by n_extents extents of changed data, in order
 * and apart from one another (a change of the info blob or of attributes' values only has none),
 * and by answer_len bytes of what the steps of the request gave (osd/ops/run.h: run_answer()).
 */
struct PG_PACKED pg_entry_layout {
    uint8_t layout;
    uint8_t kind;
    uint16_t object_len;
    int32_t result; /* Of the request: 0, or for PG_ENTRY_FAILED perhaps a negative errno. */
    struct wire_version version;
    uint64_t client; /* Who asked: with tid it names the request. 0: nobody asks again. */
    uint64_t tid;
    uint64_t committed; /* Entries up to this sequence were durable on every member by then. */
    struct pg_totals totals;
    uint64_t oldest;      /* Of the request: see wire_osd_op. */
    uint64_t stamp_ns;    /* Clock of the log: time that primaries have served, never backwards. */
    uint16_t failed_step; /* Of PG_ENTRY_FAILED. */
    uint8_t n_extents;
    uint8_t reserved;
    uint16_t answer_len;
    uint16_t reserved2;
    /*
     * A clone of the object that this entry made, under that number; or, of an entry that trims,
     * the one that it removed. 0: neither.
     */
    uint64_t clone;
    uint64_t trimmed; /* The snapshot that was taken from the object; 0: this does not trim. */
};
static_assert(sizeof(struct pg_entry_layout) == 144, "pg_entry_layout");

/*
 * What is remembered of a client when its entries have left the log: see osd/pg/pg_clients.h.
 * Followed by n_results pg_result_layout, in ascending order of tid, and by their answers in the
 * same order, each filled up with zeroes to a multiple of PG_RESULT_UNIT.
 */
struct PG_PACKED pg_client_layout {
    uint8_t layout;
    uint8_t reserved;
    uint16_t n_results;
    uint32_t reserved2;
    uint64_t client;
    uint64_t oldest;   /* Highest that an entry which left the log has named. */
    uint64_t stamp_ns; /* Of its last entry that left the log; and that entry's place. */
    uint64_t sequence;
};
static_assert(sizeof(struct pg_client_layout) == 40, "pg_client_layout");

struct PG_PACKED pg_result_layout {
    uint64_t tid;
    struct wire_version version;
    int32_t result;
    uint16_t failed_step;
    uint16_t answer_len;
};
static_assert(sizeof(struct pg_result_layout) == 32, "pg_result_layout");

/* Results are counted in units: one for the result, and as many as its answer fills. */
enum { PG_RESULT_UNIT = sizeof(struct pg_result_layout), PG_ANSWER_MAX = 1024 };

static inline uint16_t pg_answer_units(uint16_t answer_len)
{
    return (uint16_t)((answer_len + PG_RESULT_UNIT - 1) / PG_RESULT_UNIT);
}

struct PG_PACKED pg_state_layout {
    uint8_t layout;
    uint8_t complete; /* 0 while the copy is being filled or removed. */
    uint16_t reserved;
    uint32_t reserved2;
    struct wire_version base; /* The entry before the oldest of the log. */
    struct pg_totals totals;  /* At `base`, for a log without entries. */
    /*
     * Of a copy that is not complete: objects that no entry after this one names are as they were
     * then; the others are as they were then or after any entry since. Zero: nothing is known.
     */
    struct wire_version fill_from;
    uint64_t forgotten_ns; /* See struct pg_clients. */
};
static_assert(sizeof(struct pg_state_layout) == 104, "pg_state_layout");

/* Wall clock of the last scrubs that were completed; 0: never. On every member. */
struct PG_PACKED pg_scrub_layout {
    uint8_t layout;
    uint8_t reserved[7];
    uint64_t scrub_ns;
    uint64_t deep_ns;
};
static_assert(sizeof(struct pg_scrub_layout) == 24, "pg_scrub_layout");

/* The OSD's blob in the store for each object. */
struct PG_PACKED object_info_layout {
    uint8_t layout;
    uint8_t flags; /* enum object_info_flags */
    uint8_t reserved[2];
    uint32_t attrs_bytes;        /* The attributes have no more, names included. */
    struct wire_version version; /* Of the log entry that changed the object last. */
    uint64_t mtime_ns;
    uint64_t snap_seq; /* The newest snapshot that a writer of it knew of. */
};
static_assert(sizeof(struct object_info_layout) == 40, "object_info_layout");

enum object_info_flags {
    OBJECT_INFO_WHITEOUT = 1, /* It does not exist for clients, and is kept for its clones. */
    OBJECT_INFO_CLONES = 2,   /* It has some: its snapset tells which. */
};

enum {
    PG_OBJECT_ID_MAX = OBJECT_ID_ENCODED_MAX,
    PG_ENTRY_EXTENTS = PG_EXTENTS_MAX * (int)sizeof(struct pg_extent_layout),
    PG_ENTRY_MAX =
        (int)sizeof(struct pg_entry_layout) + PG_OBJECT_ID_MAX + PG_ENTRY_EXTENTS + PG_ANSWER_MAX,
    PG_NUMBERED_KEY_LEN = 9,
    PG_SNAP_KEY_LEN = 1 + 8 + 4 + 16,
    PG_CLIENT_RESULTS_MAX = 1024, /* Of one client; units. */
    PG_CLIENT_MAX = (int)sizeof(struct pg_client_layout) +
                    PG_CLIENT_RESULTS_MAX * (int)sizeof(struct pg_result_layout),
};

/*
 * The snapshot number under which an object is kept while it is being received; for its clones,
 * less the number of theirs.
 */
#define PG_OBJECT_TEMPORARY (OBJECT_HEAD - 1)

enum {
    PG_KEY_STATE = 's',
    PG_KEY_RUN = 'k',
    PG_KEY_LOG = 'l',
    PG_KEY_TEMPORARY = 't',
    PG_KEY_SCRUB = 'c',
    PG_KEY_CLIENT = 'r',
    PG_KEY_SNAP = 'z', /* The last: a start reads what is before. */
};

void pg_numbered_key(char kind, uint64_t number, uint8_t out[PG_NUMBERED_KEY_LEN]);
/* The number in a key of this kind; -EBADMSG when it is none. */
int pg_numbered_key_parse(char kind, const uint8_t *key, size_t len, uint64_t *number) MUST_CHECK;

/* Another of the encoded ids that differ by their snapshot only, and as long; and that snapshot. */
void pg_id_with_snap(const uint8_t *bytes, uint16_t len, uint64_t snap, uint8_t *out);
uint64_t pg_id_snap(const uint8_t *bytes, uint16_t len);

static inline int version_compare(struct wire_version a, struct wire_version b)
{
    if (a.config != b.config)
        return a.config < b.config ? -1 : 1;
    return (a.sequence > b.sequence) - (a.sequence < b.sequence);
}

static inline bool version_equal(struct wire_version a, struct wire_version b)
{
    return a.config == b.config && a.sequence == b.sequence;
}

/*
 * Checks that bytes are exactly one entry of the group and sets head and object, which point into
 * them. -EBADMSG otherwise.
 */
int pg_entry_parse(const void *data, size_t len, struct pg_entry_layout *head,
                   struct object_id *object) MUST_CHECK;

/* The extents of an entry that passed pg_entry_parse(); at most PG_EXTENTS_MAX. */
static inline uint8_t pg_entry_extents(const struct pg_entry_layout *head, const void *data,
                                       struct pg_extent_layout out[PG_EXTENTS_MAX])
{
    uint8_t n = head->n_extents == PG_EXTENTS_WHOLE ? 0 : head->n_extents;
    memcpy(out, (const uint8_t *)data + sizeof *head + head->object_len,
           n * sizeof(struct pg_extent_layout));
    return n;
}

/* The answer in an entry that passed pg_entry_parse(); `data` is the whole entry. */
static inline const uint8_t *pg_entry_answer(const struct pg_entry_layout *head, const void *data)
{
    uint8_t n = head->n_extents == PG_EXTENTS_WHOLE ? 0 : head->n_extents;
    return (const uint8_t *)data + sizeof *head + head->object_len +
           n * sizeof(struct pg_extent_layout);
}

/*
 * Checks that bytes are exactly one client's record. The results follow the head, unaligned.
 * -EBADMSG otherwise.
 */
int pg_client_parse(const void *data, size_t len, struct pg_client_layout *head) MUST_CHECK;

int pg_state_parse(const void *data, size_t len, struct pg_state_layout *out) MUST_CHECK;
int pg_scrub_parse(const void *data, size_t len, struct pg_scrub_layout *out) MUST_CHECK;
int object_info_parse(const void *data, size_t len, struct object_info_layout *out) MUST_CHECK;

#endif
