/*
 * Reference-counted memory for payloads.
 *
 * A payload enters a process once (from a socket or a disk) and leaves it once; on the way only
 * slices of it are passed on. A buf belongs to one event loop: its count is not atomic, and a
 * helper thread only borrows the memory while the loop holds a reference.
 */
#ifndef LIMPET_COMMON_BUF_H
#define LIMPET_COMMON_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

/* Payload memory is aligned for O_DIRECT, so that it can go to a disk as it is. */
#define BUF_ALIGNMENT 4096u

struct buf {
    uint32_t refs;
    size_t capacity;
    uint8_t *data;
    void (*release)(struct buf *buf); /* Frees buf and its memory. */
    bool revoked;                     /* The memory was lent, and its owner has it back. */
    struct buf_seal *seal;            /* NULL: there is none. */
};

/*
 * The tag under which bytes came over the network, with the key that it was made with: while the
 * bytes stay as they are, whoever sends them on need not read them for another tag (frame.h).
 */
struct buf_seal {
    const uint8_t *data; /* Which bytes. */
    size_t len;
    uint8_t key[32];
    uint8_t tag[16];
};

/* A view of part of a buf. The empty slice is all zero bytes and holds no reference. */
struct buf_slice {
    struct buf *buf;
    uint8_t *data;
    size_t len;
};

#define BUF_SLICE_EMPTY ((struct buf_slice){0})

/* Allocates len bytes, aligned to BUF_ALIGNMENT when len reaches it. NULL when memory is short. */
struct buf *buf_create(size_t len) MUST_CHECK;

/* A slice over a new copy of len bytes. Returns -ENOMEM when memory is short. */
int buf_slice_copy(const void *data, size_t len, struct buf_slice *out) MUST_CHECK;

/* The same, of memory that is not aligned: for bytes that only go to the network. */
int buf_slice_copy_to_send(const void *data, size_t len, struct buf_slice *out) MUST_CHECK;

/* A slice over a new buf of len bytes, contents undefined. -ENOMEM when memory is short. */
int buf_slice_alloc(size_t len, struct buf_slice *out) MUST_CHECK;

/* A slice over memory that stays the caller's, who revokes it in time. -ENOMEM. */
int buf_slice_lend(void *data, size_t len, struct buf_slice *out) MUST_CHECK;

/* Whoever still holds a slice of what was lent must not touch its bytes any more. */
static inline void buf_revoke(struct buf *buf)
{
    buf->revoked = true;
}

/* From time to time: large memory that was kept for reuse goes if none was reused since. */
void buf_trim(void);
/* Bytes that are kept. */
size_t buf_kept(void);

/* Keeps a copy of the seal until the memory is released. Without memory there is none. */
void buf_set_seal(struct buf *buf, const struct buf_seal *seal);
/* The seal of exactly these bytes; NULL: there is none. */
const struct buf_seal *buf_slice_seal(const struct buf_slice *slice);

struct buf *buf_ref(struct buf *buf);
void buf_unref(struct buf *buf);

/* A further reference to the same bytes. */
struct buf_slice buf_slice_ref(struct buf_slice slice);

/* A further reference to len bytes at offset; the range must lie inside the slice. */
struct buf_slice buf_slice_sub(struct buf_slice slice, size_t offset, size_t len);

/* Drops the slice's reference and makes it empty. Harmless on the empty slice. */
void buf_slice_drop(struct buf_slice *slice);

#endif
