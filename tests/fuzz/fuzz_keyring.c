/* Any text as a keyring: what is accepted can be written and read again, and stays the same. */
#include <assert.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "common/auth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct keyring keyring;
    struct keyring again;
    char why[256];
    keyring_init(&keyring);
    keyring_init(&again);
    int rc = keyring_parse(&keyring, (const char *)data, size, why);
    assert(memchr(why, '\0', sizeof why) != NULL);
    if (rc == 0) {
        (void)!keyring_check_caps(&keyring, why);
        char *text = keyring_format(&keyring);
        assert(text != NULL);
        rc = keyring_parse(&again, text, strlen(text), why);
        assert(rc == 0 && again.n == keyring.n);
        for (uint32_t i = 0; i < keyring.n; i++)
            assert(memcmp(&again.entries[i], &keyring.entries[i], sizeof again.entries[i]) == 0);
        free(text);
    }
    keyring_fini(&again);
    keyring_fini(&keyring);
    return 0;
}
