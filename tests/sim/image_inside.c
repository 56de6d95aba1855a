/* What the library does inside: apart, since its names are those of the model, too. */
#include "client/image/crypt.h"
#include "client/image/snap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int roll_back_all_the_same(struct limpet_image *handle, const char *name);
void image_decrypt_inside(struct limpet_image *handle, unsigned sector, uint64_t hidden);
void image_cache_inside(struct limpet_image *handle);

int roll_back_all_the_same(struct limpet_image *handle, const char *name)
{
    struct limpet_image_snap *list;
    size_t n;
    int rc = limpet_image_snap_list(handle, &list, &n);
    if (rc != 0)
        return rc;
    rc = -ENOENT;
    for (size_t i = 0; i < n && rc == -ENOENT; i++) {
        if (strcmp(list[i].name, name) == 0)
            rc = snap_roll_back(handle, list[i].id, NULL, NULL);
    }
    limpet_free(list);
    return rc;
}

/* What libcryptsetup makes takes seconds and is never twice the same. */
void image_decrypt_inside(struct limpet_image *handle, unsigned sector, uint64_t hidden)
{
    uint8_t key[64];
    struct sector_cipher *cipher;
    struct crypt *crypt;
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)(i * 7 + 1);
    if (cipher_create(key, sizeof key, sector, &cipher) != 0 ||
        crypt_create(cipher, sector, hidden, &crypt) != 0)
        abort();
    crypt_set(handle, crypt);
}

/* Configuration is the real world's. */
void image_cache_inside(struct limpet_image *handle)
{
    handle->early.allowed = handle->early.on = true;
    handle->early.max = UINT64_C(1) << 20;
}
