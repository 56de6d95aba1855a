/* AES-XTS by OpenSSL, which takes the processor's instructions for it. */
#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "client/image/crypt.h"

enum { IV_LEN = 16, IV_UNIT = 512, IDLE_MAX = 8 };

/* Contexts with the key in them, of those who are not using one. */
struct contexts {
    EVP_CIPHER_CTX *idle[IDLE_MAX];
    unsigned n;
    EVP_CIPHER_CTX *model; /* Others are copies of it. */
};

struct sector_cipher {
    unsigned sector;
    pthread_mutex_t lock; /* Protects the contexts. */
    struct contexts directions[2];
};

static EVP_CIPHER_CTX *model_create(const uint8_t *key, size_t key_len, bool encrypts)
{
    const EVP_CIPHER *kind = key_len == 64   ? EVP_aes_256_xts()
                             : key_len == 32 ? EVP_aes_128_xts()
                                             : NULL;
    EVP_CIPHER_CTX *context = kind != NULL ? EVP_CIPHER_CTX_new() : NULL;
    if (context != NULL && EVP_CipherInit_ex(context, kind, NULL, key, NULL, encrypts) == 1)
        return context;
    EVP_CIPHER_CTX_free(context);
    return NULL;
}

int cipher_create(const uint8_t *key, size_t key_len, unsigned sector, struct sector_cipher **out)
{
    struct sector_cipher *c = calloc(1, sizeof *c);
    if (c == NULL)
        return -ENOMEM;
    c->sector = sector;
    pthread_mutex_init(&c->lock, NULL);
    for (int encrypts = 0; encrypts < 2; encrypts++) {
        c->directions[encrypts].model = model_create(key, key_len, encrypts);
        if (c->directions[encrypts].model == NULL) {
            cipher_destroy(c);
            return -EOPNOTSUPP;
        }
    }
    *out = c;
    return 0;
}

void cipher_destroy(struct sector_cipher *c)
{
    if (c == NULL)
        return;
    for (int i = 0; i < 2; i++) {
        struct contexts *contexts = &c->directions[i];
        while (contexts->n > 0)
            EVP_CIPHER_CTX_free(contexts->idle[--contexts->n]);
        EVP_CIPHER_CTX_free(contexts->model);
    }
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static EVP_CIPHER_CTX *take_context(struct sector_cipher *c, struct contexts *contexts)
{
    EVP_CIPHER_CTX *context = NULL;
    pthread_mutex_lock(&c->lock);
    if (contexts->n > 0)
        context = contexts->idle[--contexts->n];
    pthread_mutex_unlock(&c->lock);
    if (context != NULL)
        return context;
    context = EVP_CIPHER_CTX_new();
    if (context != NULL && EVP_CIPHER_CTX_copy(context, contexts->model) == 1)
        return context;
    EVP_CIPHER_CTX_free(context);
    return NULL;
}

static void give_context(struct sector_cipher *c, struct contexts *contexts,
                         EVP_CIPHER_CTX *context)
{
    pthread_mutex_lock(&c->lock);
    if (contexts->n < IDLE_MAX) {
        contexts->idle[contexts->n++] = context;
        context = NULL;
    }
    pthread_mutex_unlock(&c->lock);
    EVP_CIPHER_CTX_free(context);
}

static bool is_zero(const uint8_t *data, size_t len)
{
    return data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

static int apply(struct sector_cipher *c, bool encrypts, uint8_t *data, size_t len, uint64_t offset)
{
    struct contexts *contexts = &c->directions[encrypts];
    EVP_CIPHER_CTX *context = take_context(c, contexts);
    int rc = context != NULL ? 0 : -ENOMEM;
    for (size_t at = 0; at < len && rc == 0; at += c->sector) {
        uint8_t iv[IV_LEN] = {0};
        uint64_t number = (offset + at) / IV_UNIT;
        int done = 0;
        if (!encrypts && is_zero(data + at, c->sector))
            continue;
        for (unsigned i = 0; i < sizeof number; i++)
            iv[i] = (uint8_t)(number >> 8 * i);
        if (EVP_CipherInit_ex(context, NULL, NULL, NULL, iv, -1) != 1 ||
            EVP_CipherUpdate(context, data + at, &done, data + at, (int)c->sector) != 1 ||
            done != (int)c->sector)
            rc = -EIO;
    }
    if (context != NULL)
        give_context(c, contexts, context);
    return rc;
}

int cipher_encrypt(struct sector_cipher *c, uint8_t *data, size_t len, uint64_t offset)
{
    return apply(c, true, data, len, offset);
}

int cipher_decrypt(struct sector_cipher *c, uint8_t *data, size_t len, uint64_t offset)
{
    return apply(c, false, data, len, offset);
}
