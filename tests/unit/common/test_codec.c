#include "tests/lib/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/codec.h"

static void reads_back_what_was_written(void **state)
{
    (void)state;
    struct encoder e;
    encoder_init(&e);
    encode_u8(&e, 0x12);
    encode_u16(&e, 0x1234);
    encode_u32(&e, 0x12345678);
    encode_u64(&e, UINT64_C(0x123456789abcdef0));
    encode_string16(&e, "short", 5);
    encode_string32(&e, "longer", 6);
    encode_bytes(&e, "xyz", 3);
    assert_false(e.failed);

    struct decoder d;
    uint16_t len16;
    uint32_t len32;
    decoder_init(&d, e.data, e.len);
    assert_int_equal(decode_u8(&d), 0x12);
    assert_int_equal(decode_u16(&d), 0x1234);
    assert_int_equal(decode_u32(&d), 0x12345678);
    assert_true(decode_u64(&d) == UINT64_C(0x123456789abcdef0));
    assert_memory_equal(decode_string16(&d, &len16), "short", 5);
    assert_memory_equal(decode_string32(&d, &len32), "longer", 6);
    assert_int_equal(len16 + len32, 11);
    assert_int_equal(decoder_left(&d), 3);
    assert_int_equal(decoder_end(&d), -EBADMSG);
    assert_memory_equal(decode_bytes(&d, 3), "xyz", 3);
    assert_int_equal(decoder_end(&d), 0);
    encoder_fini(&e);
}

static void writes_little_endian(void **state)
{
    (void)state;
    uint8_t memory[14];
    struct encoder e;
    encoder_init_fixed(&e, memory, sizeof memory);
    encode_u16(&e, 0x0102);
    encode_u32(&e, 0x03040506);
    encode_u64(&e, UINT64_C(0x0708090a0b0c0d0e));
    static const uint8_t expected[] = {2, 1, 6, 5, 4, 3, 14, 13, 12, 11, 10, 9, 8, 7};
    assert_memory_equal(memory, expected, sizeof expected);
}

static void short_input_fails_once_and_for_all(void **state)
{
    (void)state;
    struct decoder d;
    decoder_init(&d, "\x01\x02\x03", 3);
    assert_int_equal(decode_u32(&d), 0);
    assert_true(d.failed);
    assert_int_equal(decode_u8(&d), 0);
    assert_null(decode_bytes(&d, 1));
    assert_int_equal(decoder_end(&d), -EBADMSG);
}

static void lengths_beyond_the_end_give_nothing(void **state)
{
    (void)state;
    struct decoder d;
    uint16_t len16 = 9;
    uint32_t len32 = 9;
    decoder_init(&d,
                 "\xff\xff"
                 "ab",
                 4);
    assert_null(decode_string16(&d, &len16));
    assert_int_equal(len16, 0);
    decoder_init(&d,
                 "\xff\xff\xff\xff"
                 "ab",
                 6);
    assert_null(decode_string32(&d, &len32));
    assert_int_equal(len32, 0);
    decoder_init(&d, "ab", 2);
    assert_null(decode_bytes(&d, SIZE_MAX));
}

static void empty_strings_are_no_failure(void **state)
{
    (void)state;
    struct decoder d;
    uint16_t len;
    decoder_init(&d, "\0\0", 2);
    assert_non_null(decode_string16(&d, &len));
    assert_int_equal(decoder_end(&d), 0);
    decoder_init(&d, NULL, 0);
    assert_non_null(decode_bytes(&d, 0));
    assert_int_equal(decoder_end(&d), 0);
}

static void fixed_memory_is_never_exceeded(void **state)
{
    (void)state;
    uint8_t memory[8];
    struct encoder e;
    memset(memory, 0xee, sizeof memory);
    encoder_init_fixed(&e, memory, 3);
    encode_u16(&e, 1);
    encode_u32(&e, 2);
    assert_true(e.failed);
    assert_null(encode_reserve(&e, 1));
    assert_int_equal(memory[3], 0xee);
    encoder_reset(&e);
    encode_u16(&e, 3);
    assert_false(e.failed);
    assert_int_equal(e.len, 2);
}

static void refuses_strings_longer_than_their_length_field(void **state)
{
    (void)state;
    static uint8_t large[65536];
    struct encoder e;
    encoder_init(&e);
    encode_string16(&e, large, sizeof large);
    assert_true(e.failed);
    encoder_fini(&e);
}

static void hands_over_its_memory(void **state)
{
    (void)state;
    struct encoder e;
    size_t len;
    encoder_init(&e);
    for (uint32_t i = 0; i < 1000; i++)
        encode_u32(&e, i);
    uint8_t *data = encoder_take(&e, &len);
    assert_non_null(data);
    assert_int_equal(len, 4000);
    free(data);
    encoder_init(&e);
    data = encoder_take(&e, &len);
    assert_non_null(data);
    assert_int_equal(len, 0);
    free(data);
    encoder_init(&e);
    e.failed = true;
    assert_null(encoder_take(&e, &len));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_back_what_was_written),
        cmocka_unit_test(writes_little_endian),
        cmocka_unit_test(short_input_fails_once_and_for_all),
        cmocka_unit_test(lengths_beyond_the_end_give_nothing),
        cmocka_unit_test(empty_strings_are_no_failure),
        cmocka_unit_test(fixed_memory_is_never_exceeded),
        cmocka_unit_test(refuses_strings_longer_than_their_length_field),
        cmocka_unit_test(hands_over_its_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
