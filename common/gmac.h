/*
 * GMAC: the tag that AES-256-GCM makes over additional data alone (NIST SP 800-38D, section 6).
 *
 * libsodium computes the same tag, at a third of the speed that the processor's carry-less
 * multiplication allows, and with large payloads that is the largest part of what an OSD computes.
 * So libsodium does all that has to do with AES, and only the polynomial (GHASH) is computed here.
 */
#ifndef LIMPET_COMMON_GMAC_H
#define LIMPET_COMMON_GMAC_H

#include <sodium.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    GMAC_POWERS = 8,
    GMAC_WORTHWHILE = 1024, /* Shorter ones are left to libsodium, which is called in any case. */
};

struct gmac {
    bool usable;                     /* False: this processor cannot, ask libsodium. */
    uint64_t powers[GMAC_POWERS][2]; /* Of the hash key: H, H^2, ... */
};

/* `aes` stays the caller's and is only read. */
void gmac_init(struct gmac *gmac, const crypto_aead_aes256gcm_state *aes);

/* As crypto_aead_aes256gcm_encrypt_detached_afternm() with no message. */
void gmac_tag(const struct gmac *gmac, const crypto_aead_aes256gcm_state *aes,
              const uint8_t nonce[crypto_aead_aes256gcm_NPUBBYTES], const uint8_t *data, size_t len,
              uint8_t tag[crypto_aead_aes256gcm_ABYTES]);

#endif
