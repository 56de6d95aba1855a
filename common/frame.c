/*
 * Invariants:
 *  1. No (key, nonce) pair is used for two frames, nor for both steps of one: the counter only
 *     grows, and the step is part of the nonce.
 *  2. Both sides authenticate the same bytes: the header, the payload's tag and the body. In
 *     integrity mode the payload's tag stands in the place of the frame's own while that is made,
 *     so that these are one run of bytes without copying.
 *  3. A payload's own key makes one tag, of these bytes. Its nonce is zero.
 */
#include "common/frame.h"

#include <assert.h>
#include <errno.h>
#include <isa-l.h>
#include <string.h>

enum step { STEP_FRAME = 0, STEP_PAYLOAD = 1 };

enum { NONCE_MAX = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES };
static_assert((int)AES_GCM_NONCE_BYTES <= (int)NONCE_MAX, "one buffer for both nonces");
static_assert((int)AES_GCM_TAG_BYTES == (int)WIRE_TAG_BYTES, "tag of AES-GCM");
static_assert(crypto_aead_xchacha20poly1305_ietf_ABYTES == WIRE_TAG_BYTES, "tag of XChaCha20");
static_assert(AES_GCM_KEY_BYTES == 32, "keys come from the handshake");
static_assert(crypto_aead_xchacha20poly1305_ietf_KEYBYTES == 32, "keys come from the handshake");

static void make_nonce(uint8_t nonce[NONCE_MAX], uint64_t counter, enum step step)
{
    memset(nonce, 0, NONCE_MAX);
    memcpy(nonce, &counter, sizeof counter);
    nonce[sizeof counter] = (uint8_t)step;
}

/* libsodium wants an address also where no byte is read or written: here any one will do. */
static uint8_t no_bytes[1];

/* Encrypts len bytes from `plain` to `sealed` (which may be the same) and makes the tag. */
static void aead_seal(const struct frame_key *key, enum step step, const uint8_t *ad, size_t ad_len,
                      const uint8_t *plain, uint8_t *sealed, size_t len, uint8_t *tag)
{
    uint8_t nonce[NONCE_MAX];
    make_nonce(nonce, key->counter, step);
    if (key->cipher == AUTH_CIPHER_AES256_GCM) {
        aes_gcm_seal(&key->secret.aes, nonce, ad, ad_len, plain, sealed, len, tag);
        return;
    }
    int rc = crypto_aead_xchacha20poly1305_ietf_encrypt_detached(
        sealed, tag, NULL, plain, len, ad, ad_len, NULL, nonce, key->secret.chacha);
    assert(rc == 0);
    (void)rc;
}

/* The reverse; returns -EBADMSG when the tag is not right. */
static int aead_open(const struct frame_key *key, enum step step, const uint8_t *ad, size_t ad_len,
                     uint8_t *bytes, size_t len, const uint8_t *tag)
{
    uint8_t nonce[NONCE_MAX];
    make_nonce(nonce, key->counter, step);
    if (key->cipher == AUTH_CIPHER_AES256_GCM)
        return aes_gcm_open(&key->secret.aes, nonce, ad, ad_len, bytes, len, tag);
    int rc = crypto_aead_xchacha20poly1305_ietf_decrypt_detached(bytes, NULL, bytes, len, tag, ad,
                                                                 ad_len, nonce, key->secret.chacha);
    return rc == 0 ? 0 : -EBADMSG;
}

/* ---- Large payloads ---- */

static void tag_by_own_key(struct buf_seal *seal)
{
    static const uint8_t nonce[NONCE_MAX];
    struct aes_gcm_key key;
    aes_gcm_key_init(&key, seal->key);
    aes_gcm_seal(&key, nonce, seal->data, seal->len, NULL, NULL, 0, seal->tag);
    sodium_memzero(&key, sizeof key);
}

void frame_seal_payload(const void *data, size_t len, struct buf_seal *out)
{
    out->data = data;
    out->len = len;
    randombytes_buf(out->key, sizeof out->key);
    tag_by_own_key(out);
}

/* ---- Frames ---- */

void frame_key_init(struct frame_key *key, enum auth_cipher cipher, enum auth_mode mode,
                    const uint8_t secret[32])
{
    assert(mode == AUTH_MODE_INTEGRITY || mode == AUTH_MODE_ENCRYPTED);
    memset(key, 0, sizeof *key);
    key->cipher = cipher;
    key->mode = mode;
    if (cipher == AUTH_CIPHER_AES256_GCM) {
        aes_gcm_key_init(&key->secret.aes, secret);
    } else {
        assert(cipher == AUTH_CIPHER_XCHACHA20_POLY1305);
        memcpy(key->secret.chacha, secret, sizeof key->secret.chacha);
    }
}

void frame_key_fini(struct frame_key *key)
{
    sodium_memzero(key, sizeof *key);
}

/* isa-l leaves the inversion before and after, which the standard checksum has, to its caller. */
static uint32_t header_crc(const struct wire_frame *header)
{
    struct wire_frame copy = *header;
    return ~crc32_iscsi((unsigned char *)&copy, (int)offsetof(struct wire_frame, header_crc),
                        UINT32_MAX);
}

/* To `key_out`; the payload's tag to `tag_out`. */
static void seal_own_key(const struct frame_key *key, const struct buf_seal *seal, uint8_t *key_out,
                         uint8_t *tag_out)
{
    aead_seal(key, STEP_PAYLOAD, NULL, 0, seal->key, key_out, sizeof seal->key,
              key_out + sizeof seal->key);
    memcpy(tag_out, seal->tag, sizeof seal->tag);
}

/* The reverse. */
static int open_own_key(const struct frame_key *key, const struct wire_frame *header,
                        const uint8_t *key_block, const uint8_t *payload, uint8_t *tag_out,
                        struct buf_seal *seal)
{
    memcpy(seal->key, key_block, sizeof seal->key);
    int rc = aead_open(key, STEP_PAYLOAD, NULL, 0, seal->key, sizeof seal->key,
                       key_block + sizeof seal->key);
    if (rc < 0)
        return rc;
    seal->data = payload;
    seal->len = header->payload_len;
    tag_by_own_key(seal);
    memcpy(tag_out, seal->tag, sizeof seal->tag);
    return 0;
}

void frame_seal(struct frame_key *key, const struct frame_parts *parts, uint8_t *out,
                uint8_t *payload_out)
{
    assert(parts->body_len <= MESSAGE_BODY_MAX && parts->payload_len <= MESSAGE_PAYLOAD_MAX);
    assert(parts->seal == NULL || frame_may_have_own_key(key));
    struct wire_frame header = {
        .magic = WIRE_FRAME_MAGIC,
        .type = parts->type,
        .flags = frame_flags_of(parts),
        .body_len = parts->body_len,
        .payload_len = parts->payload_len,
        .sequence = parts->sequence,
        .received = parts->received,
    };
    header.header_crc = header_crc(&header);
    memcpy(out, &header, sizeof header);
    size_t prefix_len = frame_prefix_len(key, header.flags);
    uint8_t *tag = out + prefix_len - WIRE_TAG_BYTES;
    uint8_t *body = out + prefix_len;
    if (key->mode == AUTH_MODE_ENCRYPTED) {
        uint8_t *payload_tag = out + sizeof header;
        memset(payload_tag, 0, WIRE_TAG_BYTES);
        if (parts->payload_len > 0)
            aead_seal(key, STEP_PAYLOAD, NULL, 0, parts->payload, payload_out, parts->payload_len,
                      payload_tag);
        aead_seal(key, STEP_FRAME, out, sizeof header + WIRE_TAG_BYTES, parts->body, body,
                  parts->body_len, tag);
    } else {
        memset(tag, 0, WIRE_TAG_BYTES);
        if (parts->seal != NULL)
            seal_own_key(key, parts->seal, out + sizeof header, tag);
        else if (parts->payload_len > 0)
            aead_seal(key, STEP_PAYLOAD, parts->payload, parts->payload_len, NULL, no_bytes, 0,
                      tag);
        if (parts->body_len > 0)
            memcpy(body, parts->body, parts->body_len);
        uint8_t made[WIRE_TAG_BYTES];
        aead_seal(key, STEP_FRAME, out, prefix_len + parts->body_len, NULL, no_bytes, 0, made);
        memcpy(tag, made, sizeof made);
    }
    key->counter++;
}

int frame_header_parse(const uint8_t *data, struct wire_frame *header)
{
    memcpy(header, data, sizeof *header);
    if (header->magic != WIRE_FRAME_MAGIC || header->header_crc != header_crc(header))
        return -EPROTO;
    if ((header->flags & ~FRAME_OWN_KEY) != 0 || header->reserved != 0)
        return -EPROTO;
    if ((header->flags & FRAME_OWN_KEY) != 0 && header->payload_len == 0)
        return -EPROTO;
    if (header->body_len > MESSAGE_BODY_MAX || header->payload_len > MESSAGE_PAYLOAD_MAX)
        return -EPROTO;
    if (header->type >= FRAME_CONTROL_FIRST) {
        bool known = header->type == FRAME_ACK || header->type == FRAME_CLOSE;
        if (!known || header->sequence != 0 || header->body_len != 0 || header->payload_len != 0)
            return -EPROTO;
    } else if (header->sequence == 0) {
        return -EPROTO;
    }
    return 0;
}

static int open_encrypted(const struct frame_key *key, const struct wire_frame *header,
                          uint8_t *frame, uint8_t *payload)
{
    uint8_t *payload_tag = frame + FRAME_HEADER_BYTES;
    size_t prefix_len = frame_prefix_len(key, header->flags);
    int rc = aead_open(key, STEP_FRAME, frame, FRAME_HEADER_BYTES + WIRE_TAG_BYTES,
                       frame + prefix_len, header->body_len, frame + prefix_len - WIRE_TAG_BYTES);
    if (rc < 0 || header->payload_len == 0)
        return rc;
    return aead_open(key, STEP_PAYLOAD, NULL, 0, payload, header->payload_len, payload_tag);
}

static int open_integrity(const struct frame_key *key, const struct wire_frame *header,
                          uint8_t *frame, const uint8_t *payload, struct buf_seal *seal)
{
    uint8_t tag[WIRE_TAG_BYTES];
    size_t prefix_len = frame_prefix_len(key, header->flags);
    uint8_t *tag_place = frame + prefix_len - WIRE_TAG_BYTES;
    memcpy(tag, tag_place, sizeof tag);
    memset(tag_place, 0, WIRE_TAG_BYTES);
    int rc = 0;
    if ((header->flags & FRAME_OWN_KEY) != 0)
        rc = open_own_key(key, header, frame + FRAME_HEADER_BYTES, payload, tag_place, seal);
    else if (header->payload_len > 0)
        aead_seal(key, STEP_PAYLOAD, payload, header->payload_len, NULL, no_bytes, 0, tag_place);
    if (rc < 0)
        return rc;
    return aead_open(key, STEP_FRAME, frame, prefix_len + header->body_len, no_bytes, 0, tag);
}

int frame_open(struct frame_key *key, const struct wire_frame *header, uint8_t *frame,
               uint8_t *payload, struct buf_seal *seal)
{
    assert(header->body_len <= MESSAGE_BODY_MAX && header->payload_len <= MESSAGE_PAYLOAD_MAX);
    if ((header->flags & FRAME_OWN_KEY) != 0 && !frame_may_have_own_key(key))
        return -EPROTO;
    int rc = key->mode == AUTH_MODE_ENCRYPTED ? open_encrypted(key, header, frame, payload)
                                              : open_integrity(key, header, frame, payload, seal);
    key->counter++;
    return rc;
}
