/*
 * Invariants:
 *  1. begin <= end <= capacity; the frame being read starts at begin.
 *  2. While a payload is incomplete, no byte stands behind the frame's body: end is where the body
 *     ends. Bytes that are received behind a payload's end follow the body directly.
 *  3. A payload that was complete when its memory came stays in the buffer, and is passed over at
 *     the frame's end (payload_passed): many small frames in the buffer cost no moves.
 *  4. payload_have <= payload.len; payload.buf is set only between frame_reader_payload() and the
 *     frame's end.
 *  5. Lengths of a header are used only after frame_header_parse() accepted it.
 */
#include "common/frame_reader.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* With less room than this behind `end`, what is there is moved to the buffer's front. */
enum { ROOM_MIN = FRAME_READER_BUFFER / 4 };

void frame_reader_init(struct frame_reader *r, struct frame_key *key)
{
    *r = (struct frame_reader){.key = key};
}

void frame_reader_fini(struct frame_reader *r)
{
    assert(r->buffer == NULL);
    buf_slice_drop(&r->payload);
    message_unref(r->message);
    r->message = NULL;
}

void frame_reader_lend(struct frame_reader *r, uint8_t *buffer, size_t capacity)
{
    assert(r->buffer == NULL && capacity >= FRAME_READER_BUFFER);
    r->buffer = buffer;
    r->capacity = capacity;
    r->begin = r->end = 0;
}

uint8_t *frame_reader_take_back(struct frame_reader *r, size_t *capacity)
{
    uint8_t *buffer = r->buffer;
    *capacity = r->capacity;
    r->buffer = NULL;
    r->capacity = r->begin = r->end = 0;
    return buffer;
}

/* Header, tags and body. */
static size_t head_len(const struct frame_reader *r)
{
    return frame_prefix_len(r->key, r->header.flags) + r->header.body_len;
}

static bool payload_complete(const struct frame_reader *r)
{
    return r->payload_have == r->header.payload_len;
}

/* Moves the frame being read to the front of the buffer when the room behind it is short. */
static void make_room(struct frame_reader *r)
{
    if (r->begin == r->end) {
        r->begin = r->end = 0;
    } else if (r->begin > 0 && r->capacity - r->end < ROOM_MIN) {
        memmove(r->buffer, r->buffer + r->begin, r->end - r->begin);
        r->end -= r->begin;
        r->begin = 0;
    }
}

int frame_reader_targets(struct frame_reader *r, struct iovec iov[2])
{
    int n = 0;
    if (r->payload.buf != NULL && !payload_complete(r)) {
        iov[n++] = (struct iovec){.iov_base = r->payload.data + r->payload_have,
                                  .iov_len = r->payload.len - r->payload_have};
    }
    make_room(r);
    if (r->end < r->capacity) {
        iov[n++] = (struct iovec){.iov_base = r->buffer + r->end, .iov_len = r->capacity - r->end};
    }
    return n;
}

void frame_reader_advance(struct frame_reader *r, size_t len)
{
    if (r->payload.buf != NULL && !payload_complete(r)) {
        size_t rest = r->payload.len - r->payload_have;
        size_t part = len < rest ? len : rest;
        r->payload_have += part;
        len -= part;
    }
    assert(len <= r->capacity - r->end);
    r->end += len;
}

size_t frame_reader_put(struct frame_reader *r, const void *data, size_t len)
{
    assert(r->payload.buf == NULL);
    make_room(r);
    size_t part = len < r->capacity - r->end ? len : r->capacity - r->end;
    if (part > 0)
        memcpy(r->buffer + r->end, data, part);
    r->end += part;
    return part;
}

void frame_reader_payload(struct frame_reader *r, struct buf_slice payload)
{
    assert(r->header_read && r->payload.buf == NULL && payload.len == r->header.payload_len);
    r->payload = payload;
    size_t body_end = r->begin + head_len(r);
    size_t there = r->end - body_end;
    size_t part = there < payload.len ? there : payload.len;
    memcpy(payload.data, r->buffer + body_end, part);
    r->payload_have = part;
    if (part == payload.len)
        r->payload_passed = part;
    else
        r->end = body_end;
}

/* The whole head must fit the buffer, with the little that a next read needs to be worth it. */
static int ensure_capacity(struct frame_reader *r, size_t need)
{
    if (need <= r->capacity - r->begin)
        return 0;
    if (need <= r->capacity) {
        memmove(r->buffer, r->buffer + r->begin, r->end - r->begin);
    } else {
        assert(need <= FRAME_READER_BUFFER_MAX);
        uint8_t *larger = malloc(FRAME_READER_BUFFER_MAX);
        if (larger == NULL)
            return -ENOMEM;
        memcpy(larger, r->buffer + r->begin, r->end - r->begin);
        free(r->buffer);
        r->buffer = larger;
        r->capacity = FRAME_READER_BUFFER_MAX;
    }
    r->end -= r->begin;
    r->begin = 0;
    return 0;
}

static int finish_frame(struct frame_reader *r)
{
    uint8_t *frame = r->buffer + r->begin;
    struct buf_seal seal;
    int rc = frame_open(r->key, &r->header, frame, r->payload.data, &seal);
    if (rc < 0)
        return rc;
    if (r->header.type < FRAME_CONTROL_FIRST) {
        struct message *m = message_create(r->header.type, r->header.body_len);
        if (m == NULL)
            return -ENOMEM;
        if (r->header.body_len > 0)
            memcpy(m->body, frame + frame_prefix_len(r->key, r->header.flags), r->header.body_len);
        if ((r->header.flags & FRAME_OWN_KEY) != 0)
            buf_set_seal(r->payload.buf, &seal);
        m->payload = r->payload;
        r->payload = BUF_SLICE_EMPTY;
        r->message = m;
    }
    r->begin += head_len(r) + r->payload_passed;
    r->header_read = false;
    r->payload_have = r->payload_passed = 0;
    return FRAME_READY;
}

int frame_reader_next(struct frame_reader *r)
{
    assert(r->message == NULL);
    size_t there = r->end - r->begin;
    if (!r->header_read) {
        if (there < FRAME_HEADER_BYTES)
            return FRAME_MORE;
        int rc = frame_header_parse(r->buffer + r->begin, &r->header);
        if (rc < 0)
            return rc;
        r->header_read = true;
        r->payload_have = 0;
        rc = ensure_capacity(r, head_len(r));
        if (rc < 0)
            return rc;
    }
    if (there < head_len(r))
        return FRAME_MORE;
    if (r->header.payload_len > 0) {
        if (r->payload.buf == NULL)
            return FRAME_WANTS_PAYLOAD;
        if (!payload_complete(r))
            return FRAME_MORE;
    }
    return finish_frame(r);
}
