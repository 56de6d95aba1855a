/*
 * Invariants:
 *  1. The ring holds the messages of sequences [first, first + count), oldest at head.
 *  2. first <= next_send <= first + count: what was acknowledged was sent before.
 *  3. queued_bytes is the sum of session_message_bytes() over the ring.
 *  4. told <= received; both only grow, told but for a new connection.
 */
#include "common/session.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { RING_FIRST_CAPACITY = 16 };

int session_offer_parse(const void *data, size_t len, struct session_offer *out)
{
    if (len != sizeof *out)
        return -EPROTO;
    memcpy(out, data, sizeof *out);
    bool known = (out->flags & ~(uint32_t)SESSION_OFFER_RESUME) == 0 && out->reserved == 0;
    return known ? 0 : -EPROTO;
}

int session_answer_parse(const void *data, size_t len, struct session_answer *out)
{
    if (len != sizeof *out)
        return -EPROTO;
    memcpy(out, data, sizeof *out);
    return out->reserved == 0 && out->result <= 0 ? 0 : -EPROTO;
}

void session_init(struct session_state *s)
{
    *s = (struct session_state){.first = 1, .next_send = 1};
}

static struct message *drop_oldest(struct session_state *s)
{
    struct message *m = s->ring[s->head];
    s->head = (s->head + 1) & (s->capacity - 1);
    s->count--;
    s->first++;
    s->queued_bytes -= session_message_bytes(m);
    return m;
}

void session_fini(struct session_state *s)
{
    while (s->count > 0)
        message_unref(drop_oldest(s));
    assert(s->queued_bytes == 0);
    free(s->ring);
    s->ring = NULL;
    s->capacity = 0;
}

size_t session_message_bytes(const struct message *message)
{
    return sizeof(struct wire_frame) + WIRE_TAG_BYTES + message->body_len + message->payload.len;
}

static int ring_grow(struct session_state *s)
{
    uint32_t capacity = s->capacity == 0 ? RING_FIRST_CAPACITY : 2 * s->capacity;
    struct message **ring = malloc(capacity * sizeof(struct message *));
    if (ring == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < s->count; i++)
        ring[i] = s->ring[(s->head + i) & (s->capacity - 1)];
    free(s->ring);
    s->ring = ring;
    s->capacity = capacity;
    s->head = 0;
    return 0;
}

int session_queue(struct session_state *s, struct message *message)
{
    size_t bytes = session_message_bytes(message);
    if (s->count >= SESSION_QUEUE_MESSAGES_MAX || bytes > SESSION_QUEUE_BYTES_MAX ||
        s->queued_bytes > SESSION_QUEUE_BYTES_MAX - bytes)
        return -ENOBUFS;
    if (s->count == s->capacity) {
        int rc = ring_grow(s);
        if (rc < 0)
            return rc;
    }
    s->ring[(s->head + s->count) & (s->capacity - 1)] = message;
    s->count++;
    s->queued_bytes += bytes;
    return 0;
}

struct message *session_unsent(const struct session_state *s, uint64_t *sequence)
{
    if (!session_has_unsent(s))
        return NULL;
    assert(s->next_send >= s->first);
    *sequence = s->next_send;
    uint32_t index = (uint32_t)(s->next_send - s->first);
    return s->ring[(s->head + index) & (s->capacity - 1)];
}

void session_sent(struct session_state *s)
{
    assert(session_has_unsent(s));
    s->next_send++;
}

int session_acknowledge(struct session_state *s, uint64_t received)
{
    if (received >= s->next_send)
        return -EPROTO;
    while (s->first <= received)
        message_unref(drop_oldest(s));
    return 0;
}

int session_receive(struct session_state *s, uint64_t sequence, size_t bytes)
{
    if (sequence <= s->received)
        return 0;
    if (sequence != s->received + 1)
        return -EPROTO;
    s->received = sequence;
    s->untold_bytes += bytes;
    return 1;
}

void session_tell(struct session_state *s)
{
    s->told = s->received;
    s->untold_bytes = 0;
}

bool session_owes_much(const struct session_state *s)
{
    assert(s->told <= s->received);
    return s->received - s->told >= SESSION_ACK_MESSAGES || s->untold_bytes >= SESSION_ACK_BYTES;
}

int session_resume(struct session_state *s, uint64_t peer_received)
{
    if (peer_received >= s->next_send || peer_received + 1 < s->first)
        return -ELIMPET_RESET;
    int rc = session_acknowledge(s, peer_received);
    assert(rc == 0);
    s->next_send = s->first;
    session_tell(s);
    return 0;
}
