/*
 * What clients asked and were told, and the contents that they wrote.
 *
 * Every write has a serial number, and its bytes follow from that number, so contents are described
 * by extents of serials and never have to be kept.
 */
#ifndef LIMPET_TESTS_SIM_HISTORY_H
#define LIMPET_TESTS_SIM_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/wire_layout.h"

/* Byte `at` of the data of a serial; serial 0 is all zeroes. */
void serial_fill(uint64_t serial, uint64_t at, uint8_t *out, size_t len);

/* A number that stands for contents. */
uint64_t content_hash(const void *data, size_t len);
uint32_t content_crc32c(const void *data, size_t len);

enum history_kind {
    HISTORY_READ,
    HISTORY_STAT,
    HISTORY_WRITE_FULL,
    HISTORY_WRITE_AT,
    HISTORY_APPEND,
    HISTORY_TRUNCATE,
    HISTORY_REMOVE,
    HISTORY_CREATE, /* Exclusively. */
    /*
     * Besides its contents an object has a tag, a serial that its attributes and its map both hold;
     * 0: none. It goes when the object is removed.
     */
    HISTORY_EXCHANGE,    /* The serial becomes the tag; `hash` is the one before. */
    HISTORY_EXCHANGE_IF, /* Only if the object is there, -ENOENT, with the tag `offset`, -ECANCELED.
                          */
    HISTORY_LOOK,        /* `hash` is the tag. */
    HISTORY_READ_SNAP,   /* The contents at the snapshot `offset`. */
    HISTORY_ROLLBACK,    /* To the snapshot `offset`. */
    HISTORY_ZERO,        /* Never makes an object, nor a larger one; cuts what reaches the end. */
    /* A pattern of `period` bytes of the serial, again and again. Of no length: nothing happens. */
    HISTORY_WRITE_SAME,
    /*
     * Only where the object has the bytes of `expected`; it has zeroes beyond its end. Else
     * -WIRE_MISMATCH, less the position of the first other byte.
     */
    HISTORY_WRITE_IF,
    HISTORY_CHECKSUM, /* `hash` is the CRC-32C of all of it, `size` 1; both 0: it is empty. */
    HISTORY_HINT,     /* Makes an object. */
    /* 64 keys of the map, in order, and in groups of eight. They go when the object is removed. */
    HISTORY_KEYS_SET, /* Those of the set `offset`. */
    HISTORY_KEYS_CUT, /* `len` of them, from the number `offset` on, are removed. */
    /* The first `len` of the group `offset`: the set `hash`, and `size` 1 when there are more. */
    HISTORY_KEYS_LIST,
    /* A lock, without an end, of one instance of a process. It goes when the object is removed. */
    HISTORY_LOCK,       /* Of `offset`. -EBUSY, -EEXIST: it has it already. */
    HISTORY_UNLOCK,     /* -ENOENT: it does not have it. */
    HISTORY_BREAK_LOCK, /* Of somebody else, `offset`; likewise. */
    HISTORY_HOLDER,     /* `hash` has it; 0: nobody. */
    /* Methods: the object becomes a greeting, -EEXIST; one to the number `offset` is given. */
    HISTORY_GREET,
    HISTORY_SAY,
    /*
     * Another lock, of instances `offset` with one of two cookies, `expected`: of several, or of
     * one. For the time `len`; 0: without an end. -EBUSY. Who has it has it anew; with `period` 1
     * nobody else gets it, -ENOENT.
     */
    HISTORY_SHARE,
    HISTORY_SEIZE,
    HISTORY_LEAVE,  /* -ENOENT: it does not have it. */
    HISTORY_EVICT,  /* Of somebody else; likewise. */
    HISTORY_RENAME, /* To the other cookie. -EBUSY: it does not have it as `period`, or has both. */
    HISTORY_HELD,   /* -EBUSY: it does not have it as `period`. */
    /*
     * `hash` is the sum of all who have it, as `period`, of whom `expected_from` with the cookie
     * `expected` is one; `size`, which locks there are.
     */
    HISTORY_TEAM,
    HISTORY_KINDS_END
};

/* As they are called in files and scenarios. */
extern const char *const history_kind_names[HISTORY_KINDS_END];

/* Whether it changes nothing. */
bool history_reads(enum history_kind kind);

enum { HISTORY_TEAM_EXCLUSIVE = 1, HISTORY_TEAM_SHARED = 2 };
enum { HISTORY_LOCK_LISTED = 1, HISTORY_TEAM_LISTED = 2 };
/* What a holder adds to the sum; never 0. */
uint64_t history_member_hash(uint64_t instance, uint64_t cookie);

/* What HISTORY_GREET writes, over and over. */
#define SERIAL_GREETING UINT64_MAX
extern const char history_greeting[];

enum { HISTORY_KEYS = 64, HISTORY_KEYS_OF_GROUP = 8, HISTORY_KEY_GROUPS = 8 };

/* Sets of keys: a range; and a group, or all with the number HISTORY_KEY_GROUPS. */
uint64_t history_keys_range(uint64_t first, uint64_t n);
uint64_t history_keys_group(uint64_t group);

#define HISTORY_NEVER UINT64_MAX

enum { HISTORY_SNAPS_MAX = 1024 };

/* Of a pool, by number; the same for all operations that know of snapshots. */
struct history_snaps {
    bool alive[HISTORY_SNAPS_MAX];       /* Made, and nobody has asked to remove it. */
    uint64_t removed[HISTORY_SNAPS_MAX]; /* When somebody has; 0: nobody. */
};

struct history_op {
    uint32_t object;
    uint32_t client; /* Changes of an object by one client happen in the order of calls. */
    enum history_kind kind;
    uint64_t serial;
    uint64_t offset; /* HISTORY_TRUNCATE: the new size. HISTORY_EXCHANGE_IF: the tag before. */
    uint64_t len;
    uint64_t called;
    uint64_t returned; /* HISTORY_NEVER: nobody knows whether it happened. */
    int result;
    uint64_t size; /* Read and stat: what was found. */
    uint64_t hash; /* Read: of the contents. Exchange, look: the tag that was found. */
    struct wire_version version;
    uint64_t period;                  /* HISTORY_WRITE_SAME */
    uint64_t expected, expected_from; /* HISTORY_WRITE_IF: a serial, and from where in its data. */
    /* Of changes: the newest snapshot that the client knew of, and with it all before; 0: none. */
    uint64_t snap;
    const struct history_snaps *snaps; /* As it was at the end. */
};

struct history {
    uint32_t n;
    uint32_t capacity;
    struct history_op *ops;
};

/* Appends a call and returns its number. */
uint32_t history_call(struct history *history, const struct history_op *op);
void history_fini(struct history *history);
/* One line for a person. */
enum { HISTORY_LINE_BYTES = 448 };
void history_format(const struct history_op *op, char *text, size_t size);

#endif
