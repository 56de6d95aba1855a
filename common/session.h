/*
 * What a session remembers across connections, on either side. Pure state.
 *
 * Sending: every message gets the next sequence number, from 1, and is kept until the peer has
 * acknowledged it. Receiving: a message is handed on exactly when its sequence is the next one.
 * After a break, the sides tell each other in the handshake what they have received, and each
 * sends the rest again. So messages arrive in order and once, for as long as both sides remember.
 */
#ifndef LIMPET_COMMON_SESSION_H
#define LIMPET_COMMON_SESSION_H

#include <stdbool.h>

#include "common/env.h"
#include "common/wire_layout.h"

enum {
    /* A receiver acknowledges at the end of the turn from this much on, if no message does. */
    SESSION_ACK_MESSAGES = 64,
    SESSION_ACK_BYTES = 256 * 1024,
    SESSION_QUEUE_MESSAGES_MAX = 1 << 20,
};

/* Unacknowledged bytes beyond which a session is given up: its user ignores the back-pressure. */
#define SESSION_QUEUE_BYTES_MAX (4 * (size_t)NET_QUEUE_LIMIT)

/* ---- What the sides say in the handshake (AUTH_BLOB_MAX) ---- */

enum session_offer_flags {
    SESSION_OFFER_RESUME = 1, /* The initiator had this session open: refuse to begin it anew. */
};

struct WIRE_PACKED session_offer {
    uint64_t id;       /* Random; with the initiator's name and instance it names the session. */
    uint64_t attempt;  /* Grows with each connection of the session: an older one is dropped. */
    uint64_t received; /* Highest sequence that the initiator has taken in. */
    uint32_t flags;
    uint32_t reserved;
};
static_assert(sizeof(struct session_offer) == 32, "session_offer");

struct WIRE_PACKED session_answer {
    uint64_t received; /* Highest sequence that the acceptor has taken in. */
    int32_t result;    /* 0; -ELIMPET_RESET: does not know the session; -EBUSY: too many. */
    uint32_t reserved;
};
static_assert(sizeof(struct session_answer) == 16, "session_answer");

/* -EPROTO when the bytes are no offer or answer. */
int session_offer_parse(const void *data, size_t len, struct session_offer *out) MUST_CHECK;
int session_answer_parse(const void *data, size_t len, struct session_answer *out) MUST_CHECK;

/* ---- State ---- */

struct session_state {
    /* Unacknowledged messages: a ring, oldest at head, whose sequence is `first`. */
    struct message **ring;
    uint32_t capacity; /* A power of two, or 0. */
    uint32_t head;
    uint32_t count;
    uint64_t first;
    uint64_t next_send; /* Sequence of the next message to put on the present connection. */
    size_t queued_bytes;

    uint64_t received;   /* Highest sequence taken in. */
    uint64_t told;       /* What of it the peer knows. */
    size_t untold_bytes; /* Of the messages in between. */
};

void session_init(struct session_state *s);
void session_fini(struct session_state *s); /* Drops the messages. */

/* What a message counts for in queued_bytes. */
size_t session_message_bytes(const struct message *message);

/* Takes over the reference, unless it fails: -ENOBUFS beyond the limits, -ENOMEM. */
int session_queue(struct session_state *s, struct message *message) MUST_CHECK;
static inline bool session_has_unsent(const struct session_state *s)
{
    return s->next_send < s->first + s->count;
}
/* The next unsent message and its sequence; it stays until session_sent(). NULL: none. */
struct message *session_unsent(const struct session_state *s, uint64_t *sequence) MUST_CHECK;
void session_sent(struct session_state *s);

/* The peer's `received`: drops what it covers. -EPROTO when it covers what was never sent. */
int session_acknowledge(struct session_state *s, uint64_t received) MUST_CHECK;

/* A message came: 1 it is the next one; 0 a repetition; -EPROTO some before it are missing. */
int session_receive(struct session_state *s, uint64_t sequence, size_t bytes) MUST_CHECK;

/* A frame that carries `received` was made. */
void session_tell(struct session_state *s);
/* The peer does not know all that was received. */
static inline bool session_owes(const struct session_state *s)
{
    return s->told < s->received;
}
/* ... and should be told now rather than by the next message. */
bool session_owes_much(const struct session_state *s) MUST_CHECK;

/*
 * A new connection: the peer has received this much, and gets the rest again. -ELIMPET_RESET when
 * that is impossible: one of us has forgotten something.
 */
int session_resume(struct session_state *s, uint64_t peer_received) MUST_CHECK;

#endif
