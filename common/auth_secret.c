/*
 * Secrets: their text form in keyrings, and boxes sealed under them.
 */
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "common/auth_private.h"
#include "common/codec.h"

/* Ceph's header of a key: its type (AES), when it was made, and its length. */
enum { CEPH_KEY_TYPE_AES = 1, CEPH_KEY_HEADER_BYTES = 12, ENTITY_SECRET_BYTES = 16 };

int auth_secret_generate(struct auth_secret *out)
{
    if (sodium_init() < 0)
        return -EIO;
    sodium_memzero(out, sizeof *out);
    /* Ceph's tools take no other length, and 128 random bits are out of reach of any search. */
    out->len = ENTITY_SECRET_BYTES;
    randombytes_buf(out->bytes, out->len);
    return 0;
}

void auth_secret_format(const struct auth_secret *secret, char text[96])
{
    uint8_t raw[CEPH_KEY_HEADER_BYTES + AUTH_SECRET_MAX];
    struct encoder e;
    encoder_init_fixed(&e, raw, sizeof raw);
    encode_u16(&e, CEPH_KEY_TYPE_AES);
    encode_u32(&e, 0);
    encode_u32(&e, 0);
    encode_string16(&e, secret->bytes, secret->len);
    sodium_bin2base64(text, 96, raw, e.len, sodium_base64_VARIANT_ORIGINAL);
    sodium_memzero(raw, sizeof raw);
}

int auth_secret_parse(const char *text, struct auth_secret *out)
{
    uint8_t raw[CEPH_KEY_HEADER_BYTES + AUTH_SECRET_MAX];
    size_t raw_len;
    const char *end;
    size_t text_len = strlen(text);
    int rc = -EINVAL;
    if (sodium_base642bin(raw, sizeof raw, text, text_len, NULL, &raw_len, &end,
                          sodium_base64_VARIANT_ORIGINAL) != 0 ||
        end != text + text_len)
        goto out;
    struct decoder d;
    decoder_init(&d, raw, raw_len);
    uint16_t type = decode_u16(&d);
    decode_u32(&d); /* Seconds and nanoseconds of its creation mean nothing to us. */
    decode_u32(&d);
    uint16_t len;
    const uint8_t *bytes = decode_string16(&d, &len);
    if (decoder_end(&d) != 0 || type != CEPH_KEY_TYPE_AES || len < AUTH_SECRET_MIN ||
        len > AUTH_SECRET_MAX)
        goto out;
    sodium_memzero(out, sizeof *out);
    out->len = (uint8_t)len;
    memcpy(out->bytes, bytes, len);
    rc = 0;
out:
    sodium_memzero(raw, sizeof raw);
    return rc;
}

int auth_secret_derive(const struct auth_secret *secret, const char *purpose, uint8_t key[32])
{
    if (secret->len < AUTH_SECRET_MIN || secret->len > AUTH_SECRET_MAX)
        return -EINVAL;
    crypto_generichash(key, 32, (const uint8_t *)purpose, strlen(purpose), secret->bytes,
                       secret->len);
    return 0;
}

int auth_seal(const struct auth_secret *secret, const void *plain, size_t len, uint8_t *out,
              size_t out_size)
{
    enum { OVERHEAD = crypto_secretbox_NONCEBYTES + crypto_secretbox_MACBYTES };
    if (out_size < OVERHEAD || len > out_size - OVERHEAD || len > AUTH_SEAL_MAX)
        return -ENOSPC;
    uint8_t key[crypto_secretbox_KEYBYTES];
    int rc = auth_secret_derive(secret, "limpet seal 1", key);
    if (rc != 0)
        return rc;
    randombytes_buf(out, crypto_secretbox_NONCEBYTES);
    crypto_secretbox_easy(out + crypto_secretbox_NONCEBYTES, plain, len, out, key);
    sodium_memzero(key, sizeof key);
    return (int)(len + OVERHEAD);
}

int auth_unseal(const struct auth_secret *secret, const uint8_t *sealed, size_t len, void *plain,
                size_t plain_size)
{
    enum { OVERHEAD = crypto_secretbox_NONCEBYTES + crypto_secretbox_MACBYTES };
    if (len < OVERHEAD || len - OVERHEAD > AUTH_SEAL_MAX)
        return -EACCES;
    size_t plain_len = len - OVERHEAD;
    if (plain_len > plain_size)
        return -ENOSPC;
    uint8_t key[crypto_secretbox_KEYBYTES];
    int rc = auth_secret_derive(secret, "limpet seal 1", key);
    if (rc != 0)
        return rc;
    rc = crypto_secretbox_open_easy(plain, sealed + crypto_secretbox_NONCEBYTES,
                                    len - crypto_secretbox_NONCEBYTES, sealed, key);
    sodium_memzero(key, sizeof key);
    return rc == 0 ? (int)plain_len : -EACCES;
}
