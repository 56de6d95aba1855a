/*
 * GHASH by carry-less multiplication, after Gueron and Kounavis, "Intel Carry-Less Multiplication
 * Instruction and its Usage for Computing the GCM Mode" (2010): bit-reflected blocks, products of
 * eight blocks added up before one reduction.
 */
#include "common/gmac.h"

#include <assert.h>
#include <string.h>

/* libsodium wants an address also where nothing is read or written. */
static uint8_t no_bytes[1];

static void sodium_tag(const crypto_aead_aes256gcm_state *aes, const uint8_t *nonce,
                       const uint8_t *data, size_t len, uint8_t *tag)
{
    int rc = crypto_aead_aes256gcm_encrypt_detached_afternm(no_bytes, tag, NULL, no_bytes, 0, data,
                                                            len, NULL, nonce, aes);
    assert(rc == 0);
}

#if defined(__x86_64__)

#include <immintrin.h>

#define WITH_CLMUL __attribute__((target("pclmul,ssse3")))

/* A product of 128 by 128 bits before its reduction; the middle overlaps both others. */
struct product {
    __m128i low, middle, high;
};

WITH_CLMUL static inline __m128i load_block(const void *data)
{
    const __m128i reverse = _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm_shuffle_epi8(_mm_loadu_si128(data), reverse);
}

WITH_CLMUL static inline void store_block(void *out, __m128i value)
{
    const __m128i reverse = _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    _mm_storeu_si128(out, _mm_shuffle_epi8(value, reverse));
}

WITH_CLMUL static inline void add_product(struct product *sum, __m128i a, __m128i b)
{
    sum->low = _mm_xor_si128(sum->low, _mm_clmulepi64_si128(a, b, 0x00));
    sum->high = _mm_xor_si128(sum->high, _mm_clmulepi64_si128(a, b, 0x11));
    sum->middle = _mm_xor_si128(sum->middle, _mm_xor_si128(_mm_clmulepi64_si128(a, b, 0x10),
                                                           _mm_clmulepi64_si128(a, b, 0x01)));
}

/* Modulo x^128 + x^7 + x^2 + x + 1; the paper's figure 7. */
WITH_CLMUL static inline __m128i reduce(const struct product *product)
{
    __m128i low = _mm_xor_si128(product->low, _mm_slli_si128(product->middle, 8));
    __m128i high = _mm_xor_si128(product->high, _mm_srli_si128(product->middle, 8));
    /* Reflected products are one bit too far to the right. */
    __m128i carry_low = _mm_srli_epi32(low, 31), carry_high = _mm_srli_epi32(high, 31);
    low = _mm_or_si128(_mm_slli_epi32(low, 1), _mm_slli_si128(carry_low, 4));
    high = _mm_or_si128(_mm_slli_epi32(high, 1), _mm_slli_si128(carry_high, 4));
    high = _mm_or_si128(high, _mm_srli_si128(carry_low, 12));
    __m128i left = _mm_xor_si128(_mm_xor_si128(_mm_slli_epi32(low, 31), _mm_slli_epi32(low, 30)),
                                 _mm_slli_epi32(low, 25));
    low = _mm_xor_si128(low, _mm_slli_si128(left, 12));
    __m128i right = _mm_xor_si128(_mm_xor_si128(_mm_srli_epi32(low, 1), _mm_srli_epi32(low, 2)),
                                  _mm_srli_epi32(low, 7));
    right = _mm_xor_si128(right, _mm_srli_si128(left, 4));
    return _mm_xor_si128(high, _mm_xor_si128(low, right));
}

WITH_CLMUL static inline __m128i multiply(__m128i a, __m128i b)
{
    struct product product = {_mm_setzero_si128(), _mm_setzero_si128(), _mm_setzero_si128()};
    add_product(&product, a, b);
    return reduce(&product);
}

WITH_CLMUL static __m128i ghash(const struct gmac *gmac, const uint8_t *data, size_t len)
{
    __m128i powers[GMAC_POWERS];
    __m128i hash = _mm_setzero_si128();
    const __m128i length = _mm_set_epi64x((long long)(len * 8), 0);
    for (int i = 0; i < GMAC_POWERS; i++)
        powers[i] = _mm_loadu_si128((const void *)gmac->powers[i]);
    for (; len >= GMAC_POWERS * 16; data += GMAC_POWERS * 16, len -= GMAC_POWERS * 16) {
        struct product sum = {_mm_setzero_si128(), _mm_setzero_si128(), _mm_setzero_si128()};
        add_product(&sum, _mm_xor_si128(hash, load_block(data)), powers[GMAC_POWERS - 1]);
        for (int i = 1; i < GMAC_POWERS; i++)
            add_product(&sum, load_block(data + (size_t)i * 16), powers[GMAC_POWERS - 1 - i]);
        hash = reduce(&sum);
    }
    for (; len >= 16; data += 16, len -= 16)
        hash = multiply(_mm_xor_si128(hash, load_block(data)), powers[0]);
    if (len > 0) {
        uint8_t rest[16] = {0};
        memcpy(rest, data, len);
        hash = multiply(_mm_xor_si128(hash, load_block(rest)), powers[0]);
    }
    return multiply(_mm_xor_si128(hash, length), powers[0]);
}

/*
 * The hash key, which libsodium does not give away: tags of two blocks that differ by the
 * polynomial 1 differ by its square, and squaring 127 times more takes the root. The nonce is only
 * used here, and the tags are not shown to anybody.
 */
WITH_CLMUL static __m128i find_hash_key(const crypto_aead_aes256gcm_state *aes)
{
    uint8_t nonce[crypto_aead_aes256gcm_NPUBBYTES];
    uint8_t one[16] = {0x80}, none[16] = {0}, tag_one[16], tag_none[16];
    memset(nonce, 0xff, sizeof nonce);
    sodium_tag(aes, nonce, one, sizeof one, tag_one);
    sodium_tag(aes, nonce, none, sizeof none, tag_none);
    __m128i key = _mm_xor_si128(load_block(tag_one), load_block(tag_none));
    for (int i = 0; i < 127; i++)
        key = multiply(key, key);
    sodium_memzero(tag_one, sizeof tag_one);
    sodium_memzero(tag_none, sizeof tag_none);
    return key;
}

WITH_CLMUL static void set_powers(struct gmac *gmac, const crypto_aead_aes256gcm_state *aes)
{
    __m128i key = find_hash_key(aes), power = key;
    for (int i = 0; i < GMAC_POWERS; i++) {
        _mm_storeu_si128((void *)gmac->powers[i], power);
        power = multiply(power, key);
    }
}

WITH_CLMUL static void mac(const struct gmac *gmac, const crypto_aead_aes256gcm_state *aes,
                           const uint8_t *nonce, const uint8_t *data, size_t len, uint8_t *tag)
{
    /* Of nothing at all it is the encrypted nonce, with which the hash is masked. */
    sodium_tag(aes, nonce, no_bytes, 0, tag);
    __m128i masked = _mm_xor_si128(load_block(tag), ghash(gmac, data, len));
    store_block(tag, masked);
}

static bool can_multiply(void)
{
    return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("ssse3");
}

#else

static void set_powers(struct gmac *gmac, const crypto_aead_aes256gcm_state *aes)
{
    (void)gmac;
    (void)aes;
}

static void mac(const struct gmac *gmac, const crypto_aead_aes256gcm_state *aes,
                const uint8_t *nonce, const uint8_t *data, size_t len, uint8_t *tag)
{
    (void)gmac;
    sodium_tag(aes, nonce, data, len, tag);
}

static bool can_multiply(void)
{
    return false;
}

#endif

void gmac_init(struct gmac *gmac, const crypto_aead_aes256gcm_state *aes)
{
    memset(gmac, 0, sizeof *gmac);
    gmac->usable = can_multiply();
    if (gmac->usable)
        set_powers(gmac, aes);
}

void gmac_tag(const struct gmac *gmac, const crypto_aead_aes256gcm_state *aes,
              const uint8_t nonce[crypto_aead_aes256gcm_NPUBBYTES], const uint8_t *data, size_t len,
              uint8_t tag[crypto_aead_aes256gcm_ABYTES])
{
    if (gmac->usable && len >= GMAC_WORTHWHILE)
        mac(gmac, aes, nonce, data, len, tag);
    else
        sodium_tag(aes, nonce, data, len, tag);
}
