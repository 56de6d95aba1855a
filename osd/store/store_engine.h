/*
 * The engine in a folder of a real machine: the file or device `block`, and the index beside it.
 */
#ifndef LIMPET_OSD_STORE_STORE_ENGINE_H
#define LIMPET_OSD_STORE_STORE_ENGINE_H

#include "osd/store/store.h"

struct store_engine_options {
    uint64_t memory_target; /* Bytes for all caches and buffers; at least 64 MiB. */
    uint64_t journal_bytes; /* At creation; 0: chosen by size. */
    bool sparse;            /* At creation: the file's space is not allocated before it is used. */
};

/*
 * Makes DIR/block, a file of `bytes` unless a link to a device is there, and DIR/index. -EEXIST
 * when there is a store already. Errors are explained in `why`.
 */
int store_engine_create(struct env *env, const char *dir, uint64_t bytes, const struct uuid *uuid,
                        const struct store_engine_options *options, char why[256]) MUST_CHECK;

/* Mounts. The env must be the real one. */
int store_engine_open(struct env *env, const char *dir, const struct store_engine_options *options,
                      struct store **out, char why[256]) MUST_CHECK;

struct disk;
struct index;

/* What a store consists of, for tools that look at it without mounting. */
struct store_engine_parts {
    struct disk *disk;
    struct index *index;
};
int store_engine_parts_open(struct env *env, const char *dir, struct store_engine_parts *out,
                            char why[256]) MUST_CHECK;
void store_engine_parts_close(struct env *env, struct store_engine_parts *parts);

#endif
