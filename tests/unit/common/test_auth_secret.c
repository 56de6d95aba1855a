#include "tests/lib/test.h"

#include <errno.h>
#include <string.h>

#include "common/auth.h"

static void reads_keys_that_cephs_tools_made(void **state)
{
    (void)state;
    /* Made by ceph-authtool --gen-print-key. */
    const char *text = "AQC1/gNrHB9UCxAAZZ3esTr7r//XUTsiCVBmzQ==";
    struct auth_secret secret;
    assert_int_equal(auth_secret_parse(text, &secret), 0);
    assert_int_equal(secret.len, 16);
}

static void keys_survive_their_text(void **state)
{
    (void)state;
    struct auth_secret secret;
    struct auth_secret again;
    char text[96];
    assert_int_equal(auth_secret_generate(&secret), 0);
    assert_int_equal(secret.len, 16);
    auth_secret_format(&secret, text);
    assert_int_equal(strlen(text), 40);
    assert_memory_equal(text, "AQAAAAAAAAAAABAA", 16);
    assert_int_equal(auth_secret_parse(text, &again), 0);
    assert_memory_equal(&secret, &again, sizeof secret);
    secret.len = AUTH_SECRET_MAX;
    memset(secret.bytes, 0xff, sizeof secret.bytes);
    auth_secret_format(&secret, text);
    assert_int_equal(auth_secret_parse(text, &again), 0);
    assert_memory_equal(&secret, &again, sizeof secret);
}

static void keys_differ(void **state)
{
    (void)state;
    struct auth_secret a;
    struct auth_secret b;
    assert_int_equal(auth_secret_generate(&a), 0);
    assert_int_equal(auth_secret_generate(&b), 0);
    assert_memory_not_equal(a.bytes, b.bytes, 16);
}

static void refuses_damaged_keys(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "AQ",
        "not base64!",
        "AQBSdB9hAAAAABAAlFI4m0nUwGPkCVoR2nJGXQ",   /* no padding */
        "AQBSdB9hAAAAABAAlFI4m0nUwGPkCVoR2nJG",     /* shorter than it says */
        "AQBSdB9hAAAAABAAlFI4m0nUwGPkCVoR2nJGXQAA", /* longer than it says */
        "AgBSdB9hAAAAABAAlFI4m0nUwGPkCVoR2nJGXQ==", /* of an unknown type */
        "AQBSdB9hAAAAAAAA",                         /* empty */
        "AQBSdB9hAAAAAAgAlFI4m0nUwGM=",             /* 8 bytes */
        "AQBSdB9hAAAAABAAlFI4m0nUwGPkCVoR2nJGXQ== x",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct auth_secret secret;
        assert_int_equal(auth_secret_parse(bad[i], &secret), -EINVAL);
    }
}

static void only_the_key_opens_what_it_sealed(void **state)
{
    (void)state;
    struct auth_secret key;
    struct auth_secret other;
    uint8_t sealed[72];
    char plain[32];
    assert_int_equal(auth_secret_generate(&key), 0);
    assert_int_equal(auth_secret_generate(&other), 0);
    int len = auth_seal(&key, "0123456789abcdef0123456789abcdef", 32, sealed, sizeof sealed);
    assert_int_equal(len, 72);
    assert_int_equal(auth_unseal(&key, sealed, (size_t)len, plain, sizeof plain), 32);
    assert_memory_equal(plain, "0123456789abcdef0123456789abcdef", 32);
    assert_int_equal(auth_unseal(&other, sealed, (size_t)len, plain, sizeof plain), -EACCES);
    for (size_t i = 0; i < sizeof sealed; i++) {
        sealed[i] ^= 0x10;
        assert_int_equal(auth_unseal(&key, sealed, (size_t)len, plain, sizeof plain), -EACCES);
        sealed[i] ^= 0x10;
    }
    assert_int_equal(auth_unseal(&key, sealed, 39, plain, sizeof plain), -EACCES);
    assert_int_equal(auth_unseal(&key, sealed, 72, plain, 31), -ENOSPC);
    assert_int_equal(auth_seal(&key, plain, 33, sealed, sizeof sealed), -ENOSPC);
    key.len = 0;
    assert_int_equal(auth_seal(&key, plain, 32, sealed, sizeof sealed), -EINVAL);
}

/* ---- Tickets ---- */

static const uint8_t service_key[32] = {1, 2, 3};

static void tickets_say_what_the_monitors_put_in(void **state)
{
    (void)state;
    struct entity_name holder;
    struct auth_ticket ticket;
    struct auth_ticket_contents contents;
    uint64_t key_id;
    assert_int_equal(entity_parse("client.someone", &holder), 0);
    assert_int_equal(auth_ticket_seal(9, service_key, &holder, "allow rw pool=x", 1000, &ticket),
                     0);
    assert_int_equal(auth_ticket_key_id(ticket.blob, ticket.len, &key_id), 0);
    assert_int_equal(key_id, 9);
    assert_int_equal(auth_ticket_open(ticket.blob, ticket.len, service_key, 999, &contents), 0);
    assert_true(entity_equal(&contents.holder, &holder));
    assert_string_equal(contents.caps, "allow rw pool=x");
    assert_int_equal(contents.expires_wall_s, 1000);
    assert_int_equal(contents.secret.len, 32);
    assert_memory_equal(&contents.secret, &ticket.secret, sizeof ticket.secret);
}

static void tickets_expire(void **state)
{
    (void)state;
    struct entity_name holder;
    struct auth_ticket ticket;
    struct auth_ticket_contents contents;
    static const struct auth_ticket_contents nothing;
    assert_int_equal(entity_parse("osd.1", &holder), 0);
    assert_int_equal(auth_ticket_seal(1, service_key, &holder, "", 1000, &ticket), 0);
    assert_int_equal(auth_ticket_open(ticket.blob, ticket.len, service_key, 1000, &contents),
                     -ETIME);
    assert_memory_equal(&contents, &nothing, sizeof nothing);
}

static void tickets_cannot_be_changed_or_forged(void **state)
{
    (void)state;
    struct entity_name holder;
    struct auth_ticket ticket;
    struct auth_ticket_contents contents;
    static const uint8_t other_key[32] = {9};
    assert_int_equal(entity_parse("osd.1", &holder), 0);
    assert_int_equal(auth_ticket_seal(1, service_key, &holder, "allow r", 1000, &ticket), 0);
    assert_int_equal(auth_ticket_open(ticket.blob, ticket.len, other_key, 0, &contents), -EACCES);
    for (size_t i = 0; i < ticket.len; i++) {
        ticket.blob[i] ^= 4;
        assert_int_equal(auth_ticket_open(ticket.blob, ticket.len, service_key, 0, &contents),
                         -EACCES);
        ticket.blob[i] ^= 4;
        assert_int_equal(auth_ticket_open(ticket.blob, i, service_key, 0, &contents), -EACCES);
    }
    assert_int_equal(auth_ticket_open(ticket.blob, ticket.len, service_key, 0, &contents), 0);
}

static void the_longest_ticket_fits(void **state)
{
    (void)state;
    struct entity_name holder;
    struct auth_ticket ticket;
    struct auth_ticket_contents contents;
    char caps[AUTH_CAPS_TEXT_MAX + 1];
    assert_int_equal(
        entity_parse("client.01234567890123456789012345678901234567890123456", &holder), 0);
    memset(caps, 'x', sizeof caps);
    caps[AUTH_CAPS_TEXT_MAX] = '\0';
    assert_int_equal(auth_ticket_seal(1, service_key, &holder, caps, 1, &ticket), -EINVAL);
    caps[AUTH_CAPS_TEXT_MAX - 1] = '\0';
    assert_int_equal(auth_ticket_seal(1, service_key, &holder, caps, 1, &ticket), 0);
    assert_true(ticket.len <= AUTH_TICKET_MAX);
    assert_int_equal(auth_ticket_open(ticket.blob, ticket.len, service_key, 0, &contents), 0);
    assert_string_equal(contents.caps, caps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_keys_that_cephs_tools_made),
        cmocka_unit_test(keys_survive_their_text),
        cmocka_unit_test(keys_differ),
        cmocka_unit_test(refuses_damaged_keys),
        cmocka_unit_test(only_the_key_opens_what_it_sealed),
        cmocka_unit_test(tickets_say_what_the_monitors_put_in),
        cmocka_unit_test(tickets_expire),
        cmocka_unit_test(tickets_cannot_be_changed_or_forged),
        cmocka_unit_test(the_longest_ticket_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
