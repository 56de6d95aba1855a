/*
 * Synchronous reading and writing of the disk while the engine is being mounted, made or checked:
 * before the loop turns, and in offline tools.
 */
#ifndef LIMPET_OSD_STORE_ENGINE_MOUNT_H
#define LIMPET_OSD_STORE_ENGINE_MOUNT_H

#include "osd/store/engine.h"

enum { MOUNT_IO_BLOCKS = 256 };

struct mount_io {
    struct disk *disk;
    uint8_t *data; /* Aligned, MOUNT_IO_BLOCKS blocks. */
};

int mount_io_init(struct mount_io *io, struct disk *disk) MUST_CHECK;
void mount_io_fini(struct mount_io *io);
/* Into io->data. */
int mount_read(struct mount_io *io, uint64_t offset, size_t len) MUST_CHECK;
int mount_write(struct mount_io *io, uint64_t offset, const void *data, size_t len) MUST_CHECK;
int mount_flush(struct mount_io *io) MUST_CHECK;

int engine_replay(struct engine *e, struct mount_io *io, char why[256]) MUST_CHECK;

/* An engine in memory that is not mounted yet; end it with engine_abandon(). NULL: no memory. */
struct engine *engine_prepare(struct env *env, struct disk *disk, struct index *index,
                              const struct engine_options *options) MUST_CHECK;
/* The two halves of mounting, around what is derived from the index. */
int engine_mount_journal(struct engine *e, struct mount_io *io, char why[256]) MUST_CHECK;
/* The state that a clean stop stored. */
int engine_load_allocator(struct engine *e) MUST_CHECK;
int engine_mount_begin(struct engine *e, struct mount_io *io, bool unclean) MUST_CHECK;

#endif
