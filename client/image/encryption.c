/* Encryption is not there yet: whoever asks for it is told so, and nothing is written in the clear.
 */
#include <errno.h>

#include "client/limpet/image.h"

int limpet_image_encrypt(struct limpet_image *image, enum limpet_image_encryption format,
                         const void *passphrase, size_t len)
{
    (void)image;
    (void)format;
    (void)passphrase;
    (void)len;
    return -EOPNOTSUPP;
}

int limpet_image_decrypt(struct limpet_image *image, enum limpet_image_encryption format,
                         const void *passphrase, size_t len)
{
    (void)image;
    (void)format;
    (void)passphrase;
    (void)len;
    return -EOPNOTSUPP;
}
