/*
 * Cuts the bytes of one connection into frames. Pure: memory in, frames out.
 *
 * Headers, bodies and what else arrives with them are read into one buffer. Once the header and the
 * body of a frame with payload are there, the reader asks for the payload's own memory, moves what
 * has arrived of it there, and has the rest received straight into it.
 *
 *     for (;;) {
 *         n = frame_reader_targets(r, iov); read into iov; frame_reader_advance(r, bytes read);
 *         while (frame_reader_next(r) is FRAME_READY or FRAME_WANTS_PAYLOAD) ...
 *     }
 *
 * The buffer is lent by the caller and can be taken back whenever the reader holds no bytes, so
 * that a quiet connection needs none.
 */
#ifndef LIMPET_COMMON_FRAME_READER_H
#define LIMPET_COMMON_FRAME_READER_H

#include <stdbool.h>
#include <sys/uio.h>

#include "common/frame.h"

enum {
    FRAME_READER_BUFFER = 64 * 1024,
    /* The buffer is replaced by a larger one only for a frame whose body does not fit. */
    FRAME_READER_BUFFER_MAX = FRAME_PREFIX_MAX + MESSAGE_BODY_MAX,
};

enum frame_reader_result {
    FRAME_MORE = 0,          /* More bytes are needed. */
    FRAME_READY = 1,         /* reader->message (NULL for a control frame) and reader->header. */
    FRAME_WANTS_PAYLOAD = 2, /* Call frame_reader_payload() with header.payload_len bytes. */
};

struct frame_reader {
    struct frame_key *key;
    uint8_t *buffer;
    size_t capacity;
    size_t begin; /* The frame being read starts here. */
    size_t end;   /* Received bytes end here. */
    struct wire_frame header;
    bool header_read; /* header belongs to the frame being read. */
    struct buf_slice payload;
    size_t payload_have;
    size_t payload_passed; /* Bytes of the payload that stand in the buffer behind the body. */
    /* The frame's message, checked; the caller takes it over and sets NULL. */
    struct message *message;
};

void frame_reader_init(struct frame_reader *r, struct frame_key *key);
/* Drops what was received; the buffer must have been taken back. */
void frame_reader_fini(struct frame_reader *r);

/* Lends malloc'd memory of at least FRAME_READER_BUFFER bytes. The reader must have none. */
void frame_reader_lend(struct frame_reader *r, uint8_t *buffer, size_t capacity);
/* True when no received byte stands in the buffer, nor a frame whose payload is under way. */
static inline bool frame_reader_idle(const struct frame_reader *r)
{
    return r->begin == r->end && !r->header_read;
}
/* Takes the buffer back, with all that is in it; *capacity may be larger than what was lent. */
uint8_t *frame_reader_take_back(struct frame_reader *r, size_t *capacity);

/* Of a frame that waits for payload memory. */
static inline const uint8_t *frame_reader_body(const struct frame_reader *r)
{
    return r->buffer + r->begin + frame_prefix_len(r->key, r->header.flags);
}
/* The payload's memory was lent and is gone: the frame can neither be completed nor opened. */
static inline bool frame_reader_revoked(const struct frame_reader *r)
{
    return r->payload.buf != NULL && r->payload.buf->revoked;
}

/* Where the next bytes belong: 1 or 2 entries, none of them empty; 0 when a payload is wanted. */
int frame_reader_targets(struct frame_reader *r, struct iovec iov[2]) MUST_CHECK;
/* Bytes have been put where frame_reader_targets() said. */
void frame_reader_advance(struct frame_reader *r, size_t len);

/* Copies bytes in from elsewhere: what was read before frames began. Returns how many fitted. */
size_t frame_reader_put(struct frame_reader *r, const void *data, size_t len) MUST_CHECK;

/*
 * The next frame: an enum frame_reader_result; -EPROTO or -EBADMSG when the stream is damaged and
 * the connection of no more use; -ENOMEM.
 */
int frame_reader_next(struct frame_reader *r) MUST_CHECK;
/* Takes over the slice, which is exactly header.payload_len long. */
void frame_reader_payload(struct frame_reader *r, struct buf_slice payload);

#endif
