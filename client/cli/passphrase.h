/* Passphrases in files. */
#ifndef LIMPET_CLIENT_CLI_PASSPHRASE_H
#define LIMPET_CLIENT_CLI_PASSPHRASE_H

#include <stddef.h>

enum { PASSPHRASE_MAX = 8192 };

/*
 * What the file has, but for a newline at its end. Who uses it overwrites it afterwards. -EFBIG: it
 * is longer than PASSPHRASE_MAX - 1 bytes; -EINVAL: it is empty.
 */
int passphrase_read(const char *path, char out[PASSPHRASE_MAX], size_t *len);
/* What such an error means, for messages: static memory. */
const char *passphrase_error(int rc);

#endif
