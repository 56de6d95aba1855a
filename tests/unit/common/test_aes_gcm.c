#include "tests/lib/test.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "common/aes_gcm.h"

/* NIST's vectors for AES-256-GCM (gcm-spec, test cases 13 to 16): what another maker must get, too.
 */
static const uint8_t vector_key[32] = {
    0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c, 0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83, 0x08,
    0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c, 0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83, 0x08};
static const uint8_t vector_nonce[12] = {0xca, 0xfe, 0xba, 0xbe, 0xfa, 0xce,
                                         0xdb, 0xad, 0xde, 0xca, 0xf8, 0x88};
static const uint8_t vector_ad[20] = {0xfe, 0xed, 0xfa, 0xce, 0xde, 0xad, 0xbe, 0xef, 0xfe, 0xed,
                                      0xfa, 0xce, 0xde, 0xad, 0xbe, 0xef, 0xab, 0xad, 0xda, 0xd2};
static const uint8_t vector_plain[60] = {
    0xd9, 0x31, 0x32, 0x25, 0xf8, 0x84, 0x06, 0xe5, 0xa5, 0x59, 0x09, 0xc5, 0xaf, 0xf5, 0x26,
    0x9a, 0x86, 0xa7, 0xa9, 0x53, 0x15, 0x34, 0xf7, 0xda, 0x2e, 0x4c, 0x30, 0x3d, 0x8a, 0x31,
    0x8a, 0x72, 0x1c, 0x3c, 0x0c, 0x95, 0x95, 0x68, 0x09, 0x53, 0x2f, 0xcf, 0x0e, 0x24, 0x49,
    0xa6, 0xb5, 0x25, 0xb1, 0x6a, 0xed, 0xf5, 0xaa, 0x0d, 0xe6, 0x57, 0xba, 0x63, 0x7b, 0x39};
static const uint8_t vector_sealed[60] = {
    0x52, 0x2d, 0xc1, 0xf0, 0x99, 0x56, 0x7d, 0x07, 0xf4, 0x7f, 0x37, 0xa3, 0x2a, 0x84, 0x42,
    0x7d, 0x64, 0x3a, 0x8c, 0xdc, 0xbf, 0xe5, 0xc0, 0xc9, 0x75, 0x98, 0xa2, 0xbd, 0x25, 0x55,
    0xd1, 0xaa, 0x8c, 0xb0, 0x8e, 0x48, 0x59, 0x0d, 0xbb, 0x3d, 0xa7, 0xb0, 0x8b, 0x10, 0x56,
    0x82, 0x88, 0x38, 0xc5, 0xf6, 0x1e, 0x63, 0x93, 0xba, 0x7a, 0x0a, 0xbc, 0xc9, 0xf6, 0x62};
static const uint8_t vector_tag[16] = {0x76, 0xfc, 0x6e, 0xce, 0x0f, 0x4e, 0x17, 0x68,
                                       0xcd, 0xdf, 0x88, 0x53, 0xbb, 0x2d, 0x55, 0x1b};

static void is_what_the_standard_says(void **state)
{
    (void)state;
    struct aes_gcm_key key;
    uint8_t bytes[60], tag[16];
    aes_gcm_key_init(&key, vector_key);
    aes_gcm_seal(&key, vector_nonce, vector_ad, sizeof vector_ad, vector_plain, bytes, sizeof bytes,
                 tag);
    assert_memory_equal(bytes, vector_sealed, sizeof bytes);
    assert_memory_equal(tag, vector_tag, sizeof tag);
    assert_int_equal(
        aes_gcm_open(&key, vector_nonce, vector_ad, sizeof vector_ad, bytes, sizeof bytes, tag), 0);
    assert_memory_equal(bytes, vector_plain, sizeof bytes);

    /* Nothing at all: test case 13, with its key of zeros. */
    static const uint8_t zeros[32];
    static const uint8_t none[16] = {0x53, 0x0f, 0x8a, 0xfb, 0xc7, 0x45, 0x36, 0xb9,
                                     0xa9, 0x63, 0xb4, 0xf1, 0xc4, 0xcb, 0x73, 0x8b};
    aes_gcm_key_init(&key, zeros);
    aes_gcm_seal(&key, zeros, NULL, 0, NULL, NULL, 0, tag);
    assert_memory_equal(tag, none, sizeof tag);
}

/* Every length around the steps of the vector code, at every place in a cache line, beside
 * libsodium. */
static void is_what_libsodium_says(void **state)
{
    (void)state;
    enum { MAX = 1 << 20 };
    static const size_t steps[] = {0, 16, 64, 128, 256, 512, 768, 1024, 4096, 65536, MAX - 128};
    uint8_t *from = malloc(MAX), *ours = malloc(MAX), *theirs = malloc(MAX);
    assert_true(from != NULL && ours != NULL && theirs != NULL);
    uint8_t secret[32], nonce[12], our_tag[16], their_tag[16];
    randombytes_buf(from, MAX);
    randombytes_buf(secret, sizeof secret);
    struct aes_gcm_key key;
    crypto_aead_aes256gcm_state state_of_sodium;
    aes_gcm_key_init(&key, secret);
    crypto_aead_aes256gcm_beforenm(&state_of_sodium, secret);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        for (size_t more = 0; more < 66; more++) {
            size_t len = steps[i] + more, ad_len = (more * 37) % 300, at = more % 61;
            randombytes_buf(nonce, sizeof nonce);
            /* As payload, and as what is only authenticated. */
            aes_gcm_seal(&key, nonce, from, ad_len, from + at, ours + at, len, our_tag);
            crypto_aead_aes256gcm_encrypt_detached_afternm(theirs + at, their_tag, NULL, from + at,
                                                           len, from, ad_len, NULL, nonce,
                                                           &state_of_sodium);
            assert_memory_equal(ours + at, theirs + at, len);
            assert_memory_equal(our_tag, their_tag, sizeof our_tag);
            assert_int_equal(aes_gcm_open(&key, nonce, from, ad_len, ours + at, len, our_tag), 0);
            assert_memory_equal(ours + at, from + at, len);
            aes_gcm_seal(&key, nonce, from + at, len, NULL, NULL, 0, our_tag);
            crypto_aead_aes256gcm_encrypt_detached_afternm(
                theirs, their_tag, NULL, from, 0, from + at, len, NULL, nonce, &state_of_sodium);
            assert_memory_equal(our_tag, their_tag, sizeof our_tag);
        }
    }
    free(from);
    free(ours);
    free(theirs);
}

static void damage_is_seen(void **state)
{
    (void)state;
    struct aes_gcm_key key;
    uint8_t nonce[12] = {1}, ad[40] = {2}, bytes[200] = {3}, tag[16];
    aes_gcm_key_init(&key, vector_key);
    aes_gcm_seal(&key, nonce, ad, sizeof ad, bytes, bytes, sizeof bytes, tag);
    uint8_t kept[sizeof bytes];
    memcpy(kept, bytes, sizeof kept);
    struct {
        uint8_t *at;
        size_t len;
    } parts[] = {{nonce, sizeof nonce}, {ad, sizeof ad}, {bytes, sizeof bytes}, {tag, sizeof tag}};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        for (size_t bit = 0; bit < parts[i].len * 8; bit++) {
            parts[i].at[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_int_equal(aes_gcm_open(&key, nonce, ad, sizeof ad, bytes, sizeof bytes, tag),
                             -EBADMSG);
            memcpy(bytes, kept, sizeof bytes);
            if (parts[i].at != bytes)
                parts[i].at[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
    assert_int_equal(aes_gcm_open(&key, nonce, ad, sizeof ad, bytes, sizeof bytes, tag), 0);
}

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    if (!aes_gcm_available())
        return 0; /* Connections of this processor use XChaCha20-Poly1305. */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_what_the_standard_says),
        cmocka_unit_test(is_what_libsodium_says),
        cmocka_unit_test(damage_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
