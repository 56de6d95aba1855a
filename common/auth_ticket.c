/*
 * Tickets: what a monitor says about an entity, sealed for the daemons of a service.
 *
 * A ticket is useless without the secret inside it, which the monitors give to its holder sealed
 * under the holder's own key. Whoever copies a ticket from the wire has gained nothing.
 */
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "common/auth_private.h"
#include "common/codec.h"

enum { PLAIN_MAX = AUTH_TICKET_MAX - (int)sizeof(struct auth_wire_ticket) - AUTH_TICKET_TAG_BYTES };
static_assert(AUTH_TICKET_NONCE_BYTES == crypto_aead_xchacha20poly1305_ietf_NPUBBYTES, "nonce");
static_assert(AUTH_TICKET_TAG_BYTES == crypto_aead_xchacha20poly1305_ietf_ABYTES, "tag");

int auth_ticket_seal(uint64_t key_id, const uint8_t key[32], const struct entity_name *holder,
                     const char *caps, uint64_t expires_wall_s, struct auth_ticket *out)
{
    if (sodium_init() < 0)
        return -EIO;
    if (strlen(caps) >= AUTH_CAPS_TEXT_MAX)
        return -EINVAL;
    sodium_memzero(out, sizeof *out);
    out->secret.len = AUTH_TICKET_SECRET_BYTES;
    randombytes_buf(out->secret.bytes, out->secret.len);

    uint8_t plain[PLAIN_MAX];
    struct encoder e;
    encoder_init_fixed(&e, plain, sizeof plain);
    encode_u8(&e, holder->type);
    encode_string16(&e, holder->id, strnlen(holder->id, ENTITY_ID_MAX));
    encode_string16(&e, caps, strlen(caps));
    encode_string16(&e, out->secret.bytes, out->secret.len);
    encode_u64(&e, expires_wall_s);
    assert(!e.failed);

    struct auth_wire_ticket head = {.magic = AUTH_TICKET_MAGIC, .key_id = key_id};
    randombytes_buf(head.nonce, sizeof head.nonce);
    memcpy(out->blob, &head, sizeof head);
    unsigned long long sealed_len;
    crypto_aead_xchacha20poly1305_ietf_encrypt(out->blob + sizeof head, &sealed_len, plain, e.len,
                                               out->blob, sizeof head, NULL, head.nonce, key);
    out->len = (uint16_t)(sizeof head + sealed_len);
    sodium_memzero(plain, sizeof plain);
    return 0;
}

int auth_ticket_key_id(const uint8_t *blob, size_t len, uint64_t *key_id)
{
    struct auth_wire_ticket head;
    if (len < sizeof head + AUTH_TICKET_TAG_BYTES || len > AUTH_TICKET_MAX)
        return -EBADMSG;
    memcpy(&head, blob, sizeof head);
    if (head.magic != AUTH_TICKET_MAGIC || head.reserved != 0)
        return -EBADMSG;
    *key_id = head.key_id;
    return 0;
}

/* The monitors made what is read here, but an older or newer one might have made it differently. */
static int decode_contents(const uint8_t *plain, size_t len, struct auth_ticket_contents *out)
{
    struct decoder d;
    decoder_init(&d, plain, len);
    uint16_t id_len;
    uint16_t caps_len;
    uint16_t secret_len;
    out->holder.type = decode_u8(&d);
    const char *id = decode_string16(&d, &id_len);
    const char *caps = decode_string16(&d, &caps_len);
    const uint8_t *secret = decode_string16(&d, &secret_len);
    out->expires_wall_s = decode_u64(&d);
    if (decoder_end(&d) != 0 || id_len > ENTITY_ID_MAX || caps_len >= AUTH_CAPS_TEXT_MAX ||
        secret_len < AUTH_SECRET_MIN || secret_len > AUTH_SECRET_MAX)
        return -EACCES;
    memcpy(out->holder.id, id, id_len);
    memcpy(out->caps, caps, caps_len);
    memcpy(out->secret.bytes, secret, secret_len);
    out->secret.len = (uint8_t)secret_len;
    return entity_valid(&out->holder) ? 0 : -EACCES;
}

int auth_ticket_open(const uint8_t *blob, size_t len, const uint8_t key[32], uint64_t now_wall_s,
                     struct auth_ticket_contents *out)
{
    memset(out, 0, sizeof *out);
    uint64_t key_id;
    if (auth_ticket_key_id(blob, len, &key_id) != 0)
        return -EACCES;
    struct auth_wire_ticket head;
    memcpy(&head, blob, sizeof head);
    uint8_t plain[PLAIN_MAX];
    unsigned long long plain_len;
    int rc = -EACCES;
    if (crypto_aead_xchacha20poly1305_ietf_decrypt(plain, &plain_len, NULL, blob + sizeof head,
                                                   len - sizeof head, blob, sizeof head, head.nonce,
                                                   key) == 0)
        rc = decode_contents(plain, plain_len, out);
    if (rc == 0 && now_wall_s >= out->expires_wall_s)
        rc = -ETIME;
    sodium_memzero(plain, sizeof plain);
    if (rc != 0)
        sodium_memzero(out, sizeof *out);
    return rc;
}
