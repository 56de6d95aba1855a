/*
 * A block device, or a file used as one, with asynchronous requests.
 *
 * The engine's only way to its data: the real one is io_uring with O_DIRECT (disk_uring.c), the
 * simulated one loses, tears and damages what was not flushed (tests/sim). Offsets, lengths and
 * memory are multiples of DISK_BLOCK. Requests complete in any order; callbacks come on the loop
 * and never from inside disk_submit(). A flush covers the writes whose callbacks came before it was
 * submitted, and no others.
 */
#ifndef LIMPET_OSD_STORE_DISK_H
#define LIMPET_OSD_STORE_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/env.h"
#include "common/error.h"

enum { DISK_BLOCK = 4096 };

/* DISK_WRITE_DURABLE is durable by itself when done, and says nothing of other writes. */
enum disk_op { DISK_READ, DISK_WRITE, DISK_WRITE_DURABLE, DISK_FLUSH };

struct disk_io {
    enum disk_op op;
    uint64_t offset;
    struct iovec *iov; /* Valid until done. */
    uint32_t n_iov;
    uint64_t len; /* Sum of the iov's. */
    /*
     * Of a read: what the system remembers of the disk will do, and it may remember this. That can
     * be older than what was written, so whoever asks for it has a checksum.
     */
    bool remembered;
    void (*done)(struct disk_io *io);
    int error; /* 0; -EIO also for a short read; -ENOSPC from a full file system below. */
    STAILQ_ENTRY(disk_io) link;
};

struct disk;

struct disk_ops {
    void (*submit)(struct disk *disk, struct disk_io *io);
    void (*push)(struct disk *disk); /* May be NULL. */
    /* Blocks until done; for mounting and tools, while nothing is submitted. */
    int (*sync_io)(struct disk *disk, enum disk_op op, uint64_t offset, void *data, size_t len);
    void (*close)(struct disk *disk); /* Nothing may be under way. */
};

struct disk {
    const struct disk_ops *ops;
    uint64_t size; /* Bytes, a multiple of DISK_BLOCK. */
    uint64_t bytes_written;
    uint64_t bytes_read;
    uint64_t flushes;
};

static inline void disk_submit(struct disk *disk, struct disk_io *io)
{
    disk->ops->submit(disk, io);
}

/*
 * Hands over what was submitted now and not at the end of the loop's turn: for who has more to
 * compute before that.
 */
static inline void disk_push(struct disk *disk)
{
    if (disk->ops->push)
        disk->ops->push(disk);
}

static inline void disk_close(struct disk *disk)
{
    disk->ops->close(disk);
}

/* Opens a device or file with O_DIRECT. The env must be the real one. */
int disk_uring_open(struct env *env, const char *path, struct disk **out) MUST_CHECK;

/* Makes a file of this size, with its space allocated or with holes. -EEXIST: there is one. */
int disk_file_create(const char *path, uint64_t size, bool allocate) MUST_CHECK;

#endif
