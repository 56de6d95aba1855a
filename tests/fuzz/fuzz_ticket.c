/*
 * Tickets: the input as it comes, and the input as the contents that a monitor sealed, since only a
 * sealed one gets as far as the decoder behind the seal.
 */
#include <assert.h>
#include <sodium.h>
#include <string.h>

#include "common/auth.h"
#include "common/auth_layout.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t key[32] = {3};
    struct auth_ticket_contents contents;
    uint64_t key_id;
    if (sodium_init() < 0)
        return -1;
    (void)!auth_ticket_key_id(data, size, &key_id);
    int rc = auth_ticket_open(data, size, key, 0, &contents);
    assert(rc != 0);

    uint8_t blob[AUTH_TICKET_MAX];
    struct auth_wire_ticket head = {.magic = AUTH_TICKET_MAGIC, .key_id = 1};
    if (size > sizeof blob - sizeof head - AUTH_TICKET_TAG_BYTES)
        return -1;
    unsigned long long sealed_len;
    memcpy(blob, &head, sizeof head);
    crypto_aead_xchacha20poly1305_ietf_encrypt(blob + sizeof head, &sealed_len, data, size, blob,
                                               sizeof head, NULL, head.nonce, key);
    rc = auth_ticket_open(blob, sizeof head + sealed_len, key, 0, &contents);
    if (rc == 0) {
        assert(entity_valid(&contents.holder));
        assert(contents.secret.len >= 16 && contents.secret.len <= AUTH_SECRET_MAX);
        assert(memchr(contents.caps, '\0', sizeof contents.caps) != NULL);
    }
    return 0;
}
