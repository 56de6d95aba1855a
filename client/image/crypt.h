/*
 * Encrypted images: a layer above requests. What callers read and write passes through
 * crypt_submit() when the handle is decrypted (image->crypt), and becomes raw requests of whole
 * sectors.
 */
#ifndef LIMPET_CLIENT_IMAGE_CRYPT_H
#define LIMPET_CLIENT_IMAGE_CRYPT_H

#include "client/image/image.h"

/* ---- cipher.c ---- */

/* AES-XTS of sectors, numbered in units of 512 bytes (dm-crypt's plain64). Of any thread. */
struct sector_cipher;

/* key_len bytes, 32 or 64: both keys of XTS. -EOPNOTSUPP: there is no such cipher. */
int cipher_create(const uint8_t *key, size_t key_len, unsigned sector,
                  struct sector_cipher **out) MUST_CHECK;
void cipher_destroy(struct sector_cipher *cipher);
/* In place; offset and len are multiples of the sector. */
int cipher_encrypt(struct sector_cipher *cipher, uint8_t *data, size_t len,
                   uint64_t offset) MUST_CHECK;
/* Sectors of zeroes were never written, and stay as they are. */
int cipher_decrypt(struct sector_cipher *cipher, uint8_t *data, size_t len,
                   uint64_t offset) MUST_CHECK;

/* ---- crypt.c ---- */

struct crypt;

int crypt_create(struct sector_cipher *cipher, unsigned sector, uint64_t data_offset,
                 struct crypt **out) MUST_CHECK;
/* And all that were before it. */
void crypt_destroy(struct crypt *crypt);
/* From now on the handle is decrypted by it; requests under way go on as they began. */
void crypt_set(struct limpet_image *image, struct crypt *crypt);
/* Bytes before the contents. */
uint64_t crypt_data_offset(const struct crypt *crypt);
/* With the lock: what the handle shows of the image. */
uint64_t crypt_shown_size(const struct limpet_image *image);

enum crypt_kind { CRYPT_READ, CRYPT_WRITE, CRYPT_ZERO, CRYPT_SAME, CRYPT_COMPARE };

struct crypt_request {
    enum crypt_kind kind;
    const struct iovec *iov; /* Of CRYPT_SAME: the pattern. */
    int n_iov;
    uint64_t offset, len;
    unsigned flags;
    const void *expected;
    uint64_t *mismatch;
    limpet_image_callback callback;
    void *arg;
};

/* As limpet_image_aio_ functions; the vectors are copied, and what is written. */
int crypt_submit(struct limpet_image *image, const struct crypt_request *request) MUST_CHECK;
int crypt_flush(struct limpet_image *image, limpet_image_callback callback, void *arg) MUST_CHECK;

/* ---- io.c: requests as they go to the objects ---- */

int raw_read(struct limpet_image *image, void *data, uint64_t len, uint64_t offset,
             limpet_image_callback callback, void *arg) MUST_CHECK;
int raw_write(struct limpet_image *image, const void *data, uint64_t len, uint64_t offset,
              unsigned flags, limpet_image_callback callback, void *arg) MUST_CHECK;
int raw_discard(struct limpet_image *image, uint64_t len, uint64_t offset,
                limpet_image_callback callback, void *arg) MUST_CHECK;
int raw_compare_and_write(struct limpet_image *image, const void *expected, const void *data,
                          uint64_t len, uint64_t offset, uint64_t *mismatch,
                          limpet_image_callback callback, void *arg) MUST_CHECK;
int raw_flush(struct limpet_image *image, limpet_image_callback callback, void *arg) MUST_CHECK;
ssize_t raw_read_and_wait(struct limpet_image *image, void *data, uint64_t len, uint64_t offset);
ssize_t raw_write_and_wait(struct limpet_image *image, const void *data, uint64_t len,
                           uint64_t offset);

#endif
