/*
 * Sending: at the end of a turn, all that was queued for a connection leaves in one system call.
 *
 * Invariants:
 *  1. Frames are sealed in the order in which they are sent, and nothing sealed is dropped while
 *     the connection lives: nonces count frames.
 *  2. The pieces [first, n) of a batch are exactly its unsent bytes, in order; memory that they
 *     point to (heads, or what `holds` keeps) does not move.
 *  3. A message is counted as sent to the session's state when it was sealed. Until the peer has
 *     acknowledged it the session keeps it, for another connection.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/messenger_private.h"

static struct batch *batch_create(void)
{
    struct batch *b = malloc(sizeof *b);
    if (b == NULL)
        return NULL;
    b->heads = malloc(MESSENGER_BATCH_HEADS);
    if (b->heads == NULL) {
        free(b);
        return NULL;
    }
    b->heads_capacity = MESSENGER_BATCH_HEADS;
    b->heads_len = 0;
    b->bytes = 0;
    b->first = b->n = 0;
    return b;
}

void batch_destroy(struct batch *b)
{
    free(b->heads);
    free(b);
}

/* Gives the batch back, sent or not. */
void batch_release(struct connection *c)
{
    struct messenger *m = c->m;
    struct batch *b = c->batch;
    if (b == NULL)
        return;
    c->batch = NULL;
    for (uint32_t i = b->first; i < b->n; i++)
        buf_slice_drop(&b->holds[i]);
    if (m->n_spare_batches < MESSENGER_SPARE_MAX && b->heads_capacity == MESSENGER_BATCH_HEADS) {
        b->heads_len = 0;
        b->bytes = 0;
        b->first = b->n = 0;
        m->spare_batches[m->n_spare_batches++] = b;
    } else {
        batch_destroy(b);
    }
}

static struct batch *batch_take(struct messenger *m)
{
    return m->n_spare_batches > 0 ? m->spare_batches[--m->n_spare_batches] : batch_create();
}

/* Room for len bytes of a head; NULL when the batch is full. A head too large for any batch gets
 * one of its own. -ENOMEM. */
static int reserve_head(struct batch *b, size_t len, uint8_t **out)
{
    *out = NULL;
    if (len > b->heads_capacity - b->heads_len) {
        if (b->heads_len > 0)
            return 0;
        uint8_t *larger = realloc(b->heads, len);
        if (larger == NULL)
            return -ENOMEM;
        b->heads = larger;
        b->heads_capacity = len;
    }
    *out = b->heads + b->heads_len;
    return 0;
}

static void add_piece(struct batch *b, void *data, size_t len, struct buf_slice hold)
{
    assert(b->n < MESSENGER_BATCH_PIECES && len > 0);
    b->bytes += len;
    if (hold.buf == NULL && b->n > b->first && b->holds[b->n - 1].buf == NULL) {
        struct iovec *last = &b->pieces[b->n - 1];
        if ((uint8_t *)last->iov_base + last->iov_len == data) {
            last->iov_len += len;
            return;
        }
    }
    b->pieces[b->n] = (struct iovec){.iov_base = data, .iov_len = len};
    b->holds[b->n] = hold;
    b->n++;
}

/*
 * NULL: the payload's tag is made under the connection's key. Only OSDs send payloads on. What is
 * made here is not kept for another connection: a program may change lent memory meanwhile.
 */
static const struct buf_seal *seal_of(const struct connection *c, const struct buf_slice *payload,
                                      struct buf_seal *made)
{
    bool to_osd = c->session->pub.peer.name.type == ENTITY_OSD;
    if (!to_osd || payload->len < FRAME_OWN_KEY_MIN || !frame_may_have_own_key(&c->send_key))
        return NULL;
    const struct buf_seal *known = buf_slice_seal(payload);
    if (known != NULL)
        return known;
    frame_seal_payload(payload->data, payload->len, made);
    return made;
}

/* 1: the frame is in the batch; 0: the batch is full; -ENOMEM. */
static int add_frame(struct connection *c, uint16_t type, uint64_t sequence, struct message *m)
{
    struct batch *b = c->batch;
    struct frame_parts parts = {
        .type = type, .sequence = sequence, .received = c->session->state.received};
    struct buf_slice payload = BUF_SLICE_EMPTY;
    struct buf_seal made;
    if (m != NULL) {
        parts.body = m->body;
        parts.body_len = m->body_len;
        parts.payload = m->payload.data;
        parts.payload_len = (uint32_t)m->payload.len;
    }
    if (b->n + 2 > MESSENGER_BATCH_PIECES)
        return 0;
    size_t head_len = FRAME_PREFIX_MAX + parts.body_len;
    uint8_t *head;
    int rc = reserve_head(b, head_len, &head);
    if (rc < 0 || head == NULL)
        return rc;
    uint8_t *sealed = NULL;
    if (parts.payload_len > 0 && c->send_key.mode == AUTH_MODE_ENCRYPTED) {
        rc = buf_slice_alloc(parts.payload_len, &payload);
        if (rc < 0)
            return rc;
        sealed = payload.data;
    } else if (parts.payload_len > 0) {
        payload = buf_slice_ref(m->payload);
    }
    if (m != NULL)
        parts.seal = seal_of(c, &m->payload, &made);
    frame_seal(&c->send_key, &parts, head, sealed);
    head_len = frame_prefix_len(&c->send_key, frame_flags_of(&parts)) + parts.body_len;
    b->heads_len += head_len;
    add_piece(b, head, head_len, BUF_SLICE_EMPTY);
    if (parts.payload_len > 0)
        add_piece(b, payload.data, payload.len, payload);
    session_tell(&c->session->state);
    c->session->ack_now = false;
    return 1;
}

/* Moves the unsent pieces of a batch to its front, so that more can be added behind them. */
static void compact(struct batch *b)
{
    if (b->first == 0)
        return;
    uint32_t left = b->n - b->first;
    memmove(b->pieces, b->pieces + b->first, left * sizeof b->pieces[0]);
    memmove(b->holds, b->holds + b->first, left * sizeof b->holds[0]);
    b->first = 0;
    b->n = left;
}

static bool wants_ack(const struct session *s)
{
    return session_owes(&s->state) && (s->ack_now || session_owes_much(&s->state));
}

/* Seals what fits. Returns 0 or -ENOMEM. */
static int gather(struct connection *c)
{
    struct session *s = c->session;
    struct batch *b = c->batch;
    compact(b);
    while (b->bytes < MESSENGER_BATCH_BYTES) {
        uint64_t sequence;
        struct message *m = session_unsent(&s->state, &sequence);
        if (m == NULL)
            break;
        int rc = add_frame(c, m->type, sequence, m);
        if (rc <= 0)
            return rc;
        session_sent(&s->state);
    }
    if (session_has_unsent(&s->state))
        return 0;
    int rc = 0;
    if (c->state == CONNECTION_LEAVING && !c->said_close) {
        rc = add_frame(c, FRAME_CLOSE, 0, NULL);
        c->said_close = rc == 1;
    } else if (c->state == CONNECTION_OPEN && wants_ack(s)) {
        rc = add_frame(c, FRAME_ACK, 0, NULL);
    }
    return rc < 0 ? rc : 0;
}

static void forget_sent(struct batch *b, size_t len)
{
    assert(len <= b->bytes);
    b->bytes -= len;
    while (len > 0) {
        struct iovec *piece = &b->pieces[b->first];
        if (len < piece->iov_len) {
            piece->iov_base = (uint8_t *)piece->iov_base + len;
            piece->iov_len -= len;
            return;
        }
        len -= piece->iov_len;
        buf_slice_drop(&b->holds[b->first]);
        b->first++;
    }
}

/* Returns 0 or the negative error that ended the connection. */
static int send_batch(struct connection *c)
{
    struct batch *b = c->batch;
    struct msghdr header = {.msg_iov = b->pieces + b->first, .msg_iovlen = b->n - b->first};
    ssize_t n;
    do {
        n = sendmsg(c->fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != ENOBUFS)
        return -errno;
    if (n > 0)
        forget_sent(b, (size_t)n);
    c->blocked = b->bytes > 0;
    return 0;
}

static bool has_work(const struct connection *c)
{
    const struct session *s = c->session;
    return session_has_unsent(&s->state) ||
           (c->state == CONNECTION_LEAVING ? !c->said_close : wants_ack(s));
}

/*
 * The peer may have sent its last messages and closed: what it sent is still to be read, and the
 * reading then finds the end.
 */
static void send_failed(struct connection *c, int error)
{
    if (c->state == CONNECTION_OPEN)
        connection_read(c);
    if (c->state != CONNECTION_CLOSED)
        connection_broken(c, error);
}

void connection_flush(struct connection *c)
{
    bool sends = c->state == CONNECTION_OPEN || c->state == CONNECTION_LEAVING;
    if (!sends || c->blocked)
        return;
    struct session *s = c->session;
    if (c->batch == NULL && has_work(c)) {
        c->batch = batch_take(c->m);
        if (c->batch == NULL) {
            connection_broken(c, -ENOMEM);
            return;
        }
    }
    if (c->batch != NULL) {
        int rc = gather(c);
        if (rc == 0 && c->batch->bytes > 0)
            rc = send_batch(c);
        if (rc < 0) {
            send_failed(c, rc);
            return;
        }
        if (c->batch->bytes == 0)
            batch_release(c);
        connection_update_poll(c);
    }
    if (c->state == CONNECTION_LEAVING) {
        if (c->said_close && c->batch == NULL) {
            connection_linger(c);
            return;
        }
    } else {
        session_check_owing(s);
    }
    if (!c->blocked && has_work(c)) {
        messenger_dirty(c);
        c->m->more = true;
    }
}
