/*
 * Frames: what a connection carries after its handshake. Pure functions over bytes.
 *
 * A frame on the wire is
 *
 *     wire_frame (40 bytes) | payload tag (16, encrypted mode only) | tag (16) | body | payload
 *
 * Every byte is protected by a keyed tag, in two steps so that neither body nor payload has to be
 * moved next to the other:
 *
 *     integrity:  payload_tag = MAC(payload)              tag = MAC(header, payload_tag, body)
 *     encrypted:  payload_tag from sealing the payload    tag from sealing the body, with
 *                                                         (header, payload_tag) authenticated too
 *
 * The payload tag of a frame without payload is zero. In integrity mode it is not sent: both sides
 * compute it. The MAC is the tag of the AEAD cipher over additional data alone, which is several
 * times faster than encrypting.
 *
 * Nonces: each direction of each connection has a key of its own and counts its frames. The nonce
 * is that counter and one byte that tells the two steps apart; it is not sent. A frame that is
 * missing, repeated or moved therefore fails its tag.
 */
#ifndef LIMPET_COMMON_FRAME_H
#define LIMPET_COMMON_FRAME_H

#include <sodium.h>

#include "common/auth.h"
#include "common/error.h"
#include "common/message.h"
#include "common/wire_layout.h"

enum {
    FRAME_HEADER_BYTES = sizeof(struct wire_frame),
    FRAME_PREFIX_MAX = FRAME_HEADER_BYTES + 2 * WIRE_TAG_BYTES,
};

/* Types of the messenger's own frames. They have sequence 0 and no body. Numbers are the wire's. */
enum frame_control {
    FRAME_CONTROL_FIRST = 0xff00,
    FRAME_ACK = 0xff00,   /* Only tells what was received. */
    FRAME_CLOSE = 0xff01, /* The sender ended the session; nothing follows. */
};

/* One direction of a connection. */
struct frame_key {
    enum auth_cipher cipher;
    enum auth_mode mode;
    uint64_t counter; /* Frames sealed or opened so far. */
    union {
        crypto_aead_aes256gcm_state aes;
        uint8_t chacha[crypto_aead_xchacha20poly1305_ietf_KEYBYTES];
    } secret;
};

/* The cipher must be one that this CPU can do. */
void frame_key_init(struct frame_key *key, enum auth_cipher cipher, enum auth_mode mode,
                    const uint8_t secret[32]);
void frame_key_fini(struct frame_key *key);

/* Bytes before the body: header and tags. */
static inline size_t frame_prefix_len(const struct frame_key *key)
{
    return key->mode == AUTH_MODE_ENCRYPTED ? FRAME_PREFIX_MAX
                                            : FRAME_HEADER_BYTES + WIRE_TAG_BYTES;
}

/* What frame_seal puts together. */
struct frame_parts {
    uint16_t type;
    uint64_t sequence;
    uint64_t received;
    const void *body;
    uint32_t body_len;
    const void *payload;
    uint32_t payload_len;
};

/*
 * Writes prefix and body, frame_prefix_len() + body_len bytes, to `out`. In encrypted mode the
 * payload's cipher text goes to payload_out (payload_len bytes); otherwise the payload is sent as
 * it is and payload_out is not used. Lengths must be within the limits of common/message.h.
 */
void frame_seal(struct frame_key *key, const struct frame_parts *parts, uint8_t *out,
                uint8_t *payload_out);

/*
 * Reads FRAME_HEADER_BYTES. -EPROTO unless checksum, magic, reserved fields, type and lengths are
 * all right; only then may the lengths be believed, and nothing else before frame_open().
 */
int frame_header_parse(const uint8_t *data, struct wire_frame *header) MUST_CHECK;

/*
 * Checks the tags of a frame whose prefix and body stand at `frame`, and decrypts body and payload
 * in place. The bytes of the tags are overwritten. -EBADMSG when anything was changed on the way.
 */
int frame_open(struct frame_key *key, const struct wire_frame *header, uint8_t *frame,
               uint8_t *payload) MUST_CHECK;

#endif
