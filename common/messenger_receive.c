/*
 * Receiving: bytes from the socket through the frame reader to the user.
 *
 * Invariants:
 *  1. While a session is paused, or its next payload waits for memory, nothing is read from its
 *     connection and no message of it is handed on: TCP's window holds the peer back.
 *  2. After each call of the user everything may be different: the connection is used further only
 *     if it is still open and its session still up.
 *  3. Bytes go to lent memory, and are looked at there, only while it is not revoked. When it is,
 *     the connection breaks, and the peer sends the frame again on the next one.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/messenger_private.h"

static int lend_buffer(struct connection *c)
{
    struct messenger *m = c->m;
    if (c->reader.buffer != NULL)
        return 0;
    uint8_t *buffer = m->n_spare_buffers > 0 ? m->spare_buffers[--m->n_spare_buffers]
                                             : malloc(FRAME_READER_BUFFER);
    if (buffer == NULL)
        return -ENOMEM;
    frame_reader_lend(&c->reader, buffer, FRAME_READER_BUFFER);
    return 0;
}

static void take_buffer_back(struct connection *c)
{
    struct messenger *m = c->m;
    if (c->reader.buffer == NULL)
        return;
    size_t capacity;
    uint8_t *buffer = frame_reader_take_back(&c->reader, &capacity);
    if (capacity == FRAME_READER_BUFFER && m->n_spare_buffers < MESSENGER_SPARE_MAX)
        m->spare_buffers[m->n_spare_buffers++] = buffer;
    else
        free(buffer);
}

void connection_reader_release(struct connection *c)
{
    take_buffer_back(c);
    frame_reader_fini(&c->reader);
}

int connection_reader_put(struct connection *c, const void *data, size_t len)
{
    int rc = lend_buffer(c);
    if (rc < 0)
        return rc;
    return frame_reader_put(&c->reader, data, len) == len ? 0 : -EPROTO;
}

static bool may_deliver(const struct connection *c)
{
    return c->state == CONNECTION_OPEN && c->session->phase == SESSION_UP && !c->session->paused;
}

static void hand_on(struct connection *c, struct message *message)
{
    struct session *s = c->session;
    struct messenger *m = c->m;
    int rc = session_receive(&s->state, c->reader.header.sequence, session_message_bytes(message));
    if (rc > 0 && m->handlers != NULL) {
        m->calls++;
        m->handlers->received(m->ctx, &s->pub, message);
    }
    message_unref(message);
    if (rc < 0 && c->state == CONNECTION_OPEN)
        connection_broken(c, rc);
}

static void take_frame(struct connection *c)
{
    struct session *s = c->session;
    struct message *message = c->reader.message;
    c->reader.message = NULL;
    int rc = session_acknowledge(&s->state, c->reader.header.received);
    if (rc < 0) {
        message_unref(message);
        connection_broken(c, rc);
        return;
    }
    s->pub.queued_bytes = s->state.queued_bytes;
    if (!c->progress) {
        c->progress = true;
        s->retries = 0;
        s->damaged = 0;
    }
    messenger_dirty(c);
    if (message != NULL)
        hand_on(c, message);
    else if (c->reader.header.type == FRAME_CLOSE)
        session_end(s, -ECONNRESET);
    if (c->state == CONNECTION_OPEN)
        session_check_drained(s);
}

/* Whether the user has memory for it. */
static bool has_place(struct connection *c, struct buf_slice *out)
{
    const struct net_handlers *handlers = c->m->handlers;
    const struct wire_frame *header = &c->reader.header;
    /* The body of an encrypted one says nothing yet. */
    if (handlers == NULL || handlers->place == NULL || c->reader.key->mode != AUTH_MODE_INTEGRITY)
        return false;
    const struct net_arrival arrival = {
        .type = header->type,
        .body = frame_reader_body(&c->reader),
        .body_len = header->body_len,
        .payload_len = header->payload_len,
    };
    *out = handlers->place(c->m->ctx, &c->session->pub, &arrival);
    return out->buf != NULL;
}

/* 0: goes on; -EAGAIN: waits for memory; else an error. */
static int give_payload(struct connection *c)
{
    struct session *s = c->session;
    struct buf_slice payload;
    if (has_place(c, &payload)) {
        frame_reader_payload(&c->reader, payload);
        return 0;
    }
    bool essential = s->pub.peer.name.type != ENTITY_CLIENT;
    int rc = receive_lane_alloc(s->lane, c->reader.header.payload_len, essential, &payload);
    if (rc == -EAGAIN) {
        c->starved = true;
        c->m->memory->wanted = true;
        TAILQ_INSERT_TAIL(&c->m->starved, c, starved_link);
    }
    if (rc == 0)
        frame_reader_payload(&c->reader, payload);
    return rc;
}

/* Hands on all whole frames of the buffer. */
static void deliver(struct connection *c)
{
    while (may_deliver(c) && !c->starved) {
        int rc = frame_reader_revoked(&c->reader) ? -ECANCELED : frame_reader_next(&c->reader);
        if (rc == FRAME_MORE)
            break;
        if (rc == FRAME_WANTS_PAYLOAD) {
            rc = give_payload(c);
            if (rc < 0 && rc != -EAGAIN)
                connection_broken(c, rc);
        } else if (rc == FRAME_READY) {
            take_frame(c);
        } else {
            connection_broken(c, rc);
        }
    }
}

/* A peer that stops in the middle of a frame keeps memory from others. */
static void watch_stalling(struct connection *c)
{
    if (!c->reader.header_read || !may_deliver(c) || c->starved)
        return;
    if (!c->timer.armed)
        env_timer_after(c->m->env, &c->timer, MESSENGER_STALL_NS);
}

void connection_timer_stalled(struct connection *c)
{
    if (!c->reader.header_read || !may_deliver(c) || c->starved)
        return;
    uint64_t until_ns = c->received_ns + MESSENGER_STALL_NS;
    if (env_now(c->m->env) >= until_ns)
        connection_broken(c, -ETIMEDOUT);
    else
        env_timer_arm(c->m->env, &c->timer, until_ns);
}

static void after_reading(struct connection *c)
{
    if (c->state != CONNECTION_OPEN)
        return;
    if (frame_reader_idle(&c->reader))
        take_buffer_back(c);
    watch_stalling(c);
    connection_update_poll(c);
}

/* One read; returns true when the socket may hold more and it is still wanted. */
static bool read_once(struct connection *c, size_t *total)
{
    if (lend_buffer(c) < 0) {
        connection_broken(c, -ENOMEM);
        return false;
    }
    struct iovec iov[2];
    int n_iov = frame_reader_targets(&c->reader, iov);
    assert(n_iov > 0);
    size_t room = iov[0].iov_len + (n_iov > 1 ? iov[1].iov_len : 0);
    ssize_t n;
    do {
        n = readv(c->fd, iov, n_iov);
    } while (n < 0 && errno == EINTR);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
            connection_broken(c, n == 0 ? -ECONNRESET : -errno);
        return false;
    }
    c->received_ns = env_now(c->m->env);
    frame_reader_advance(&c->reader, (size_t)n);
    *total += (size_t)n;
    deliver(c);
    return (size_t)n == room && may_deliver(c) && !c->starved;
}

void connection_read(struct connection *c)
{
    assert(c->state == CONNECTION_OPEN);
    if (!may_deliver(c) || c->starved)
        return;
    if (frame_reader_revoked(&c->reader)) {
        connection_broken(c, -ECANCELED);
        return;
    }
    size_t total = 0;
    int calls = 0;
    while (read_once(c, &total) && total < MESSENGER_READ_BYTES && ++calls < MESSENGER_READ_CALLS)
        ;
    after_reading(c);
}

void connection_resume(struct connection *c)
{
    if (c->state != CONNECTION_OPEN)
        return;
    if (c->starved) {
        TAILQ_REMOVE(&c->m->starved, c, starved_link);
        c->starved = false;
    }
    c->received_ns = env_now(c->m->env);
    deliver(c);
    after_reading(c);
}
