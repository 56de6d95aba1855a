#include "common/aes_gcm.h"

#include <assert.h>
#include <errno.h>
#define NO_COMPAT_IMB_API_053
#include <intel-ipsec-mb.h>
#include <pthread.h>
#include <sodium.h>

static_assert(sizeof(struct gcm_key_data) <= sizeof(struct aes_gcm_key), "room for a key");

/* The functions for this processor; made once, never changed, never freed. NULL: there are none. */
static IMB_MGR *functions;
static pthread_once_t functions_once = PTHREAD_ONCE_INIT;

static void find_functions(void)
{
    IMB_MGR *found = alloc_mb_mgr(0);
    if (found == NULL)
        return;
    init_mb_mgr_auto(found, NULL);
    if (imb_get_errno(found) == 0)
        functions = found;
    else
        free_mb_mgr(found);
}

bool aes_gcm_available(void)
{
    /* libipsec-mb would do it without the instructions, too: slowly, and in time that tells. */
    return crypto_aead_aes256gcm_is_available() == 1 &&
           pthread_once(&functions_once, find_functions) == 0 && functions != NULL;
}

static const struct gcm_key_data *data_of(const struct aes_gcm_key *key)
{
    return (const struct gcm_key_data *)(const void *)key->data;
}

void aes_gcm_key_init(struct aes_gcm_key *key, const uint8_t secret[AES_GCM_KEY_BYTES])
{
    bool available = aes_gcm_available();
    assert(available);
    (void)available;
    IMB_AES256_GCM_PRE(functions, secret, (struct gcm_key_data *)(void *)key->data);
}

/* It takes no null pointers, also where no byte is read or written. */
static uint8_t no_bytes[1];

void aes_gcm_seal(const struct aes_gcm_key *key, const uint8_t *nonce, const uint8_t *ad,
                  size_t ad_len, const uint8_t *plain, uint8_t *sealed, size_t len, uint8_t *tag)
{
    struct gcm_context_data context;
    IMB_AES256_GCM_ENC(functions, data_of(key), &context, len > 0 ? sealed : no_bytes,
                       len > 0 ? plain : no_bytes, len, nonce, ad_len > 0 ? ad : no_bytes, ad_len,
                       tag, AES_GCM_TAG_BYTES);
}

int aes_gcm_open(const struct aes_gcm_key *key, const uint8_t *nonce, const uint8_t *ad,
                 size_t ad_len, uint8_t *bytes, size_t len, const uint8_t *tag)
{
    struct gcm_context_data context;
    uint8_t made[AES_GCM_TAG_BYTES];
    uint8_t *place = len > 0 ? bytes : no_bytes;
    IMB_AES256_GCM_DEC(functions, data_of(key), &context, place, place, len, nonce,
                       ad_len > 0 ? ad : no_bytes, ad_len, made, sizeof made);
    return sodium_memcmp(made, tag, sizeof made) == 0 ? 0 : -EBADMSG;
}
