/*
 * Keys, keyrings, and the handshake that starts every connection.
 *
 * A keyring is Ceph's file format: a section for each entity with `key` (base64 of a 12-byte header
 * and the secret) and `caps SERVICE = "..."`.
 *
 * Monitors know every entity's key; everybody else proves himself by a ticket: the monitors seal
 * (entity, capabilities, a fresh secret, expiry) under a key that only the service's daemons and
 * the monitors know, and give the same secret to the holder. So in each handshake both sides hold
 * one shared secret, and neither sends it: the entity's own key towards a monitor, "mon." between
 * monitors, the ticket's secret towards an OSD.
 *
 * The handshake (a pure state machine here, bytes in and bytes out) is an ephemeral X25519 exchange
 * authenticated in both directions by that secret; it yields two frame keys, one a direction. See
 * common/README.md for the messages and what each proves.
 */
#ifndef LIMPET_COMMON_AUTH_H
#define LIMPET_COMMON_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/entity.h"
#include "common/error.h"

enum {
    AUTH_SECRET_MAX = 32,
    AUTH_TICKET_MAX = 1024,
    AUTH_CAPS_TEXT_MAX = 256,
    KEYRING_ENTRIES_MAX = 4096,
};

struct auth_secret {
    uint8_t len; /* 16 for keys that Ceph's tools made, 32 for ours. */
    uint8_t bytes[AUTH_SECRET_MAX];
};

/* ---- Keyrings ---- */

struct keyring_entry {
    struct entity_name name;
    struct auth_secret secret;
    char mon_caps[AUTH_CAPS_TEXT_MAX];
    char osd_caps[AUTH_CAPS_TEXT_MAX];
};

struct keyring {
    uint32_t n;
    uint32_t capacity;
    struct keyring_entry *entries;
};

void keyring_init(struct keyring *keyring);
void keyring_fini(struct keyring *keyring); /* Wipes the secrets. */
/* Reads text of len bytes; on -EINVAL `why` names the line and what is wrong with it. */
int keyring_parse(struct keyring *keyring, const char *text, size_t len, char why[256]) MUST_CHECK;
/* Reads the first of a comma-separated list of files that exists. -ENOENT: none does. */
int keyring_load(struct keyring *keyring, const char *paths, char why[256]) MUST_CHECK;
/* malloc'd text in the file format; NULL when memory is short. */
char *keyring_format(const struct keyring *keyring) MUST_CHECK;
const struct keyring_entry *keyring_find(const struct keyring *keyring,
                                         const struct entity_name *name);
/* Adds or replaces. */
int keyring_set(struct keyring *keyring, const struct keyring_entry *entry) MUST_CHECK;

int auth_secret_generate(struct auth_secret *out) MUST_CHECK;
/* Base64 with Ceph's header, and back. text: 96 bytes. */
void auth_secret_format(const struct auth_secret *secret, char text[96]);
int auth_secret_parse(const char *text, struct auth_secret *out) MUST_CHECK;

/* ---- Tickets ---- */

struct auth_ticket {
    uint16_t len;
    uint8_t blob[AUTH_TICKET_MAX]; /* Opaque to its holder. */
    struct auth_secret secret;
};

/* Monitors: a ticket for `holder` with these capabilities, sealed under the service's key. */
int auth_ticket_seal(uint64_t key_id, const uint8_t key[32], const struct entity_name *holder,
                     const char *caps, uint64_t expires_wall_s, struct auth_ticket *out) MUST_CHECK;
/* Services: what a ticket says. -EACCES when it is not genuine, -ETIME when it has expired. */
struct auth_ticket_contents {
    struct entity_name holder;
    char caps[AUTH_CAPS_TEXT_MAX];
    struct auth_secret secret;
    uint64_t expires_wall_s;
};
int auth_ticket_key_id(const uint8_t *blob, size_t len, uint64_t *key_id) MUST_CHECK;
int auth_ticket_open(const uint8_t *blob, size_t len, const uint8_t key[32], uint64_t now_wall_s,
                     struct auth_ticket_contents *out) MUST_CHECK;

/* A secret sealed to an entity under its own key (crypto_secretbox). out: 72 bytes; returns length.
 */
int auth_seal(const struct auth_secret *key, const void *plain, size_t len, uint8_t *out,
              size_t out_size) MUST_CHECK;
int auth_unseal(const struct auth_secret *key, const uint8_t *sealed, size_t len, void *plain,
                size_t plain_size) MUST_CHECK;

/* ---- What the handshake asks of its process ---- */

struct auth_provider {
    struct entity_name self;
    void *ctx;
    /*
     * Responder: the secret and capabilities of an entity that names itself, without a ticket
     * (monitors only; NULL elsewhere). -ENOENT: unknown.
     */
    int (*entity_secret)(void *ctx, const struct entity_name *name, struct auth_secret *secret,
                         char caps[AUTH_CAPS_TEXT_MAX]);
    /* Responder: the key that opens tickets sealed with key_id (OSDs only). -ENOENT: unknown. */
    int (*service_key)(void *ctx, uint64_t key_id, uint8_t key[32]);
    /*
     * Initiator: how to prove ourselves to this peer: by a ticket (out->len > 0) or by our own
     * secret alone (out->len 0). -ENOENT: no key or ticket yet.
     */
    int (*credential)(void *ctx, const struct entity_name *peer, struct auth_ticket *out);
    /* An OSD refused our ticket: get a new one before the next attempt. Optional. */
    void (*ticket_refused)(void *ctx, const struct entity_name *peer);
};

#endif
