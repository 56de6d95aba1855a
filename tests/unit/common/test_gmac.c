/*
 * Tags are those that libsodium makes, whatever key, nonce, length and place.
 */
#include "tests/lib/test.h"

#include <string.h>

#include "common/gmac.h"

enum { LONGEST = 4096 + 300 };

static uint8_t data[LONGEST + 16];

static void assert_same(const struct gmac *gmac, const crypto_aead_aes256gcm_state *aes,
                        const uint8_t *nonce, const uint8_t *bytes, size_t len)
{
    uint8_t theirs[16], ours[16], none[1];
    assert_int_equal(crypto_aead_aes256gcm_encrypt_detached_afternm(none, theirs, NULL, none, 0,
                                                                    bytes, len, NULL, nonce, aes),
                     0);
    memset(ours, 0xa5, sizeof ours);
    gmac_tag(gmac, aes, nonce, bytes, len, ours);
    assert_memory_equal(ours, theirs, sizeof ours);
}

static void tags_are_the_same(void **state)
{
    (void)state;
    static crypto_aead_aes256gcm_state aes;
    struct gmac gmac;
    uint8_t key[32], nonce[12];
    if (sodium_init() < 0 || !crypto_aead_aes256gcm_is_available())
        skip();
    for (unsigned round = 0; round < 8; round++) {
        for (size_t i = 0; i < sizeof data; i++)
            data[i] = (uint8_t)(i * 31 + (i >> 8) * 7 + round * 131);
        for (size_t i = 0; i < sizeof key; i++)
            key[i] = (uint8_t)(i * 13 + round * 71 + 1);
        crypto_aead_aes256gcm_beforenm(&aes, key);
        gmac_init(&gmac, &aes);
        for (size_t len = 0; len <= LONGEST; len += len / 500 == 2 ? 1 : 97) {
            memset(nonce, (int)(len + round), sizeof nonce);
            assert_same(&gmac, &aes, nonce, data + (len + round) % 16, len);
        }
    }
}

static void a_bit_makes_another_tag(void **state)
{
    (void)state;
    static crypto_aead_aes256gcm_state aes;
    struct gmac gmac;
    uint8_t key[32] = {9}, nonce[12] = {3}, before[16], after[16];
    if (sodium_init() < 0 || !crypto_aead_aes256gcm_is_available())
        skip();
    crypto_aead_aes256gcm_beforenm(&aes, key);
    gmac_init(&gmac, &aes);
    gmac_tag(&gmac, &aes, nonce, data, 2000, before);
    for (size_t bit = 0; bit < 16000; bit += 13) {
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        gmac_tag(&gmac, &aes, nonce, data, 2000, after);
        assert_memory_not_equal(before, after, sizeof before);
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tags_are_the_same),
        cmocka_unit_test(a_bit_makes_another_tag),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
