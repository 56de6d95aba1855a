/*
 * AES-256-GCM for frames, by libipsec-mb: one call a frame, with what depends on the key made once.
 * It takes what the processor has (VAES, AVX-512, or AES-NI). Nonces have 12 bytes, tags
 * WIRE_TAG_BYTES. Keys may be used by several threads.
 */
#ifndef LIMPET_COMMON_AES_GCM_H
#define LIMPET_COMMON_AES_GCM_H

#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

enum { AES_GCM_KEY_BYTES = 32, AES_GCM_NONCE_BYTES = 12, AES_GCM_TAG_BYTES = 16 };

/* Expanded: round keys, and powers of the hash's key. Who ends with it wipes it. */
struct aes_gcm_key {
    alignas(64) uint8_t data[1024];
};

/* Whether this processor has the instructions. Without them nothing below may be called. */
bool aes_gcm_available(void);

void aes_gcm_key_init(struct aes_gcm_key *key, const uint8_t secret[AES_GCM_KEY_BYTES]);

/* Encrypts len bytes from `plain` to `sealed` (which may be the same), and makes the tag of both.
 */
void aes_gcm_seal(const struct aes_gcm_key *key, const uint8_t *nonce, const uint8_t *ad,
                  size_t ad_len, const uint8_t *plain, uint8_t *sealed, size_t len, uint8_t *tag);

/* The reverse, in place. -EBADMSG: the tag is not right, and the bytes are to be thrown away. */
int aes_gcm_open(const struct aes_gcm_key *key, const uint8_t *nonce, const uint8_t *ad,
                 size_t ad_len, uint8_t *bytes, size_t len, const uint8_t *tag);

#endif
