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
#endif
