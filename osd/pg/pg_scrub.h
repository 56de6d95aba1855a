/*
 * What copies of a placement group say of their objects, and which of them to believe: values and
 * pure functions, for pg_scrub.c and its tests.
 */
#ifndef LIMPET_OSD_PG_PG_SCRUB_H
#define LIMPET_OSD_PG_PG_SCRUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/object.h"
#include "common/wire_layout.h"
#include "placement/map.h"

enum {
    SCRUB_OBJECTS = 64,             /* Told in one answer. */
    SCRUB_BYTES = 16 * 1024 * 1024, /* Read for one answer, or one object. */
    SCRUB_PIECE = 1024 * 1024,
    SCRUB_OMAP_PAIRS = 256,
    SCRUB_OMAP_BYTES = 64 * 1024,
};

/* What is wrong with an object, or with one copy of it; these bits are the wire's. */
enum scrub_error {
    SCRUB_MISSING = 1,
    SCRUB_UNEXPECTED = 2, /* It is there, and should not be. */
    SCRUB_READ = 4,       /* The disk fails, or a checksum does. */
    SCRUB_VERSION = 8,
    SCRUB_SIZE = 16,
    SCRUB_META = 32, /* Info or attributes. */
    SCRUB_OMAP = 64,
    SCRUB_DATA = 128,
    SCRUB_ERRORS_ALL = 255,
};

/* One object of a copy. */
struct scrub_entry {
    struct wire_version version;
    uint64_t size;
    uint32_t meta_digest;
    uint32_t omap_digest;
    uint32_t data_digest; /* Of a deep scrub; otherwise 0. */
    int error;            /* It could not be read whole. */
    struct object_id id;  /* Points into bytes. */
    uint16_t len;
    uint8_t *bytes; /* Encoded. */
};

/* A part of a copy: all its objects from some place on, up to `upto`. */
struct scrub_map {
    uint32_t n;
    struct scrub_entry entries[SCRUB_OBJECTS];
    struct object_id *upto; /* NULL: to the end. */
};

void scrub_map_fini(struct scrub_map *map);
/* Copies the encoded id, which was checked. NULL when there is no room, or memory is short. */
struct scrub_entry *scrub_map_add(struct scrub_map *map, const void *bytes, size_t len) MUST_CHECK;
void scrub_map_drop_last(struct scrub_map *map);
struct scrub_entry *scrub_map_find(struct scrub_map *map, const struct object_id *id);

/* Whether two copies (NULL: there is none) say the same, and neither has an error. */
bool scrub_same(const struct scrub_entry *a, const struct scrub_entry *b);

/* What the log knows of an object. */
enum scrub_log { SCRUB_LOG_SILENT, SCRUB_LOG_EXISTS, SCRUB_LOG_REMOVED };

/*
 * The copy to believe, by index; -1 when none can be read. Copy 0 is the primary's; NULL stands for
 * a copy that does not exist. What the log says decides; where it is silent, what most copies say;
 * then the newer version; then what exists; then the primary's.
 */
int scrub_choose(const struct scrub_entry *const copies[], uint32_t n, enum scrub_log log,
                 struct wire_version version) MUST_CHECK;

/* What is wrong with a copy, given the one to believe; bits of enum scrub_error. */
uint32_t scrub_errors(const struct scrub_entry *good, const struct scrub_entry *copy);

#endif
