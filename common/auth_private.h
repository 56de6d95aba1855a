/*
 * What the files of the authentication share with each other, and with nobody else.
 */
#ifndef LIMPET_COMMON_AUTH_PRIVATE_H
#define LIMPET_COMMON_AUTH_PRIVATE_H

#include "common/auth.h"
#include "common/auth_layout.h"

enum { AUTH_SECRET_MIN = 16, AUTH_SEAL_MAX = 4096, AUTH_TICKET_SECRET_BYTES = 32 };

/* The 32-byte key for one purpose that stands behind a secret. -EINVAL: the secret has no length.
 */
int auth_secret_derive(const struct auth_secret *secret, const char *purpose,
                       uint8_t key[32]) MUST_CHECK;

#endif
