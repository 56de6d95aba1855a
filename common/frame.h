/*
 * Frames: what a connection carries after its handshake. Pure functions over bytes.
 *
 * A frame on the wire is
 *
 *     wire_frame (40 bytes) | payload tag (16, encrypted mode only) | tag (16) | body | payload
 *     wire_frame (40 bytes) | payload's key, sealed (48, FRAME_OWN_KEY) | tag (16) | body | payload
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
 * Large payloads to OSDs have their tag made under a random key of their own (FRAME_OWN_KEY, in
 * integrity mode with AES-GCM), which is sent along, encrypted. A primary passes key and payload on
 * to the other replicas as they came: it seals no payload anew, which would take as long as
 * checking it. Who knows the key of a payload, the client and the OSDs that it went to, could
 * replace this payload, and nothing else, on its way between these OSDs: a client that may write
 * the object anyway.
 *
 * Nonces: each direction of each connection has a key of its own and counts its frames. The nonce
 * is that counter and one byte that tells the two steps apart; it is not sent. A frame that is
 * missing, repeated or moved therefore fails its tag.
 */
#ifndef LIMPET_COMMON_FRAME_H
#define LIMPET_COMMON_FRAME_H

#include <sodium.h>

#include "common/aes_gcm.h"
#include "common/auth.h"
#include "common/buf.h"
#include "common/error.h"
#include "common/message.h"
#include "common/wire_layout.h"

enum {
    FRAME_HEADER_BYTES = sizeof(struct wire_frame),
    FRAME_KEY_BYTES = 32,
    FRAME_SEALED_KEY_BYTES = FRAME_KEY_BYTES + WIRE_TAG_BYTES,
    FRAME_PREFIX_MAX = FRAME_HEADER_BYTES + FRAME_SEALED_KEY_BYTES + WIRE_TAG_BYTES,
    /* Below, making and sending a key costs more than it saves. */
    FRAME_OWN_KEY_MIN = 64 * 1024,
};

enum frame_flags {
    FRAME_OWN_KEY = 1, /* The payload's tag is made under a key that is sent along. */
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
        struct aes_gcm_key aes;
        uint8_t chacha[crypto_aead_xchacha20poly1305_ietf_KEYBYTES];
    } secret;
};

/* The cipher must be one that this CPU can do. */
void frame_key_init(struct frame_key *key, enum auth_cipher cipher, enum auth_mode mode,
                    const uint8_t secret[32]);
void frame_key_fini(struct frame_key *key);

/* Bytes before the body: header, payload's key, tags. Flags are those of the header. */
static inline size_t frame_prefix_len(const struct frame_key *key, uint16_t flags)
{
    size_t between = key->mode == AUTH_MODE_ENCRYPTED ? WIRE_TAG_BYTES
                     : (flags & FRAME_OWN_KEY) != 0   ? FRAME_SEALED_KEY_BYTES
                                                      : 0;
    return FRAME_HEADER_BYTES + between + WIRE_TAG_BYTES;
}

/* Whether payloads can have keys of their own there. */
static inline bool frame_may_have_own_key(const struct frame_key *key)
{
    return key->mode == AUTH_MODE_INTEGRITY && key->cipher == AUTH_CIPHER_AES256_GCM;
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
    const struct buf_seal *seal; /* Of the payload; NULL: it has no key of its own. */
};

static inline uint16_t frame_flags_of(const struct frame_parts *parts)
{
    return parts->seal != NULL ? FRAME_OWN_KEY : 0;
}

/* A new key and the tag of `len` bytes. */
void frame_seal_payload(const void *data, size_t len, struct buf_seal *out);

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
 * in place. The bytes of the tags are overwritten. With FRAME_OWN_KEY, *seal becomes the
 * payload's. -EBADMSG when anything was changed on the way; -EPROTO: an own key where none may be.
 */
int frame_open(struct frame_key *key, const struct wire_frame *header, uint8_t *frame,
               uint8_t *payload, struct buf_seal *seal) MUST_CHECK;

#endif
