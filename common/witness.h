/*
 * A witness of what the invariants of osd/pg, client/image and client/fs speak about: the
 * simulator, which sees all nodes at once and checks each of these moments against everybody's
 * state (tests/sim/oracle.c). In every other build nobody looks.
 */
#ifndef LIMPET_COMMON_WITNESS_H
#define LIMPET_COMMON_WITNESS_H

#include "common/wire_layout.h"

struct pg;
struct cluster_map;
struct map_increment;

enum pg_moment {
    PG_MOMENT_SERVES,       /* The primary begins to serve. */
    PG_MOMENT_READS,        /* It begins a read or a listing. */
    PG_MOMENT_ACKNOWLEDGES, /* It tells a client of the write with this version. */
    PG_MOMENT_FOLLOWS,      /* A member takes an entry under this configuration. */
    PG_MOMENT_REMOVES,      /* A copy is about to be deleted. */
};

/* Zero where it does not apply. */
struct pg_testimony {
    struct wire_version version;
    uint64_t client, tid; /* Of the request. */
};

enum image_moment {
    IMAGE_MOMENT_ENTERS, /* A process has taken an image's lease, and its entry is in the header. */
    IMAGE_MOMENT_PASSES, /* A write of it passes the gate. */
};

struct witness {
    /* A monitor has a map that a majority has agreed on, and which came of this increment. */
    void (*map)(struct witness *witness, const struct cluster_map *map,
                const struct map_increment *inc);
    void (*pg)(struct witness *witness, struct pg *pg, enum pg_moment moment,
               const struct pg_testimony *testimony);
    /* Of an image, by id. arg: of the write's callback. NULL: nobody looks. */
    void (*image)(struct witness *witness, const char *id, enum image_moment moment, void *arg);
    /* A file system's client has given up a write of this file. NULL: nobody looks. */
    void (*file)(struct witness *witness, const void *fs, uint64_t ino);
};

#ifdef LIMPET_PLANTED
extern struct witness *witness; /* NULL: nobody looks. */
static inline void witness_map(const struct cluster_map *map, const struct map_increment *inc)
{
    if (witness)
        witness->map(witness, map, inc);
}
static inline void witness_pg(struct pg *pg, enum pg_moment moment,
                              const struct pg_testimony *testimony)
{
    if (witness)
        witness->pg(witness, pg, moment, testimony);
}
static inline void witness_image(const char *id, enum image_moment moment, void *arg)
{
    if (witness && witness->image)
        witness->image(witness, id, moment, arg);
}
static inline void witness_file(const void *fs, uint64_t ino)
{
    if (witness && witness->file)
        witness->file(witness, fs, ino);
}
#else
static inline void witness_map(const struct cluster_map *map, const struct map_increment *inc)
{
    (void)map;
    (void)inc;
}
static inline void witness_pg(struct pg *pg, enum pg_moment moment,
                              const struct pg_testimony *testimony)
{
    (void)pg;
    (void)moment;
    (void)testimony;
}
static inline void witness_image(const char *id, enum image_moment moment, void *arg)
{
    (void)id;
    (void)moment;
    (void)arg;
}
static inline void witness_file(const void *fs, uint64_t ino)
{
    (void)fs;
    (void)ino;
}
#endif

#endif
