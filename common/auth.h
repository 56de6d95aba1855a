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
    uint8_t len; /* 16 for entities' keys, as in Ceph's keyrings; 32 for the secrets of tickets. */
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
/* Whether all capabilities are in our syntax: -EINVAL and the first that is not, in `why`. */
int keyring_check_caps(const struct keyring *keyring, char why[256]) MUST_CHECK;
/* malloc'd text in the file format, to be wiped and freed; NULL when memory is short. */
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
    /* The cluster, when it is known: a peer of another one is refused by a clear error. */
    const struct uuid *fsid;
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

/* ---- The handshake ---- */

enum {
    AUTH_VERSION_MIN = 1, /* Of the protocol after the handshake, negotiated in it. */
    AUTH_VERSION_MAX = 1,
    AUTH_BLOB_MAX = 256,
    /* The longest handshake message, a hello with the longest ticket, is well below this. */
    AUTH_MESSAGE_MAX = 2048,
};

enum auth_mode {
    AUTH_MODE_INTEGRITY = 1, /* The same values as enum net_mode. */
    AUTH_MODE_ENCRYPTED = 2,
};

enum auth_cipher { AUTH_CIPHER_AES256_GCM = 1, AUTH_CIPHER_XCHACHA20_POLY1305 = 2 };

/*
 *   initiator:  WAIT_REPLY --reply--> WAIT_ACCEPT --accept--> DONE
 *   responder:  WAIT_HELLO --hello--> WAIT_CONFIRM --confirm--> PROVEN --auth_handshake_accept()-->
 * DONE both:       anything wrong --> FAILED
 */
enum auth_handshake_state {
    AUTH_HANDSHAKE_WAIT_REPLY = 1,
    AUTH_HANDSHAKE_WAIT_ACCEPT,
    AUTH_HANDSHAKE_WAIT_HELLO,
    AUTH_HANDSHAKE_WAIT_CONFIRM,
    AUTH_HANDSHAKE_PROVEN, /* Responder: the peer is who it says; peer and blob may be read. */
    AUTH_HANDSHAKE_DONE,
    AUTH_HANDSHAKE_FAILED,
};

struct auth_handshake_params {
    const struct auth_provider *provider; /* Valid as long as the handshake. */
    enum auth_mode mode;                  /* Encryption wins when either side asks for it. */
    uint64_t instance;                    /* Ours. */
    uint64_t now_wall_s;                  /* Responder: against which tickets expire. */
    uint64_t features;                    /* Bits that we understand ... */
    uint64_t features_required;           /* ... and those we cannot do without. */
    /* Initiator: who must answer. Type ENTITY_NONE: anybody; an empty ID: anybody of that type. */
    struct entity_name expect;
    /* Initiator: what the messenger has to say, such as a session to resume. At most AUTH_BLOB_MAX.
     */
    const void *blob;
    size_t blob_len;
};

struct auth_handshake {
    enum auth_handshake_state state;
    /*
     * Once FAILED. Initiator: -EACCES the secrets differ or it was refused; -EKEYEXPIRED our ticket
     * was refused (provider->ticket_refused was called: try again once there is another);
     * -ELIMPET_RESET somebody else answered, authentically; -EXDEV another cluster;
     * -EPROTONOSUPPORT no common version, feature or mode; -EPROTO or -EBADMSG not our protocol.
     * Responder: the same from its side. Errors that only a refusal message told are hints: nothing
     * proves who sent it, so they may end an attempt, and must not have other consequences.
     */
    int error;
    bool error_is_hint;

    /* What the caller sends to the peer now; set out_len to 0 when it has been taken. */
    size_t out_len;
    uint8_t out[AUTH_MESSAGE_MAX];

    /* The outcome: when PROVEN or DONE. */
    struct entity_name peer;
    uint64_t peer_instance;
    struct caps peer_caps; /* Responder: what the peer may do here. Initiator: nothing. */
    uint16_t version;
    uint64_t features; /* That both understand. */
    enum auth_cipher cipher;
    enum auth_mode mode;
    uint16_t peer_blob_len;
    uint8_t peer_blob[AUTH_BLOB_MAX];
    uint8_t send_key[32]; /* When DONE. */
    uint8_t receive_key[32];

    /* Private. */
    struct auth_handshake_params params;
    bool initiator;
    bool ticket_used;
    bool refuse_quietly; /* Responder: nobody has this name, but the peer shall not learn that. */
    uint8_t blob[AUTH_BLOB_MAX];
    char caps[AUTH_CAPS_TEXT_MAX]; /* Responder: of the peer, given a meaning once it is proven. */
    struct auth_secret secret;
    uint8_t ephemeral_secret[32];
    uint8_t transcript[32];
    uint8_t master[32];
    uint8_t confirm_mac[32];
    size_t in_len;
    uint8_t in[AUTH_MESSAGE_MAX];
};

/*
 * Starts as the side that connected; out holds the hello. -ENOENT: the provider has no credential
 * for this peer (yet); -EINVAL: the parameters are not usable.
 */
int auth_handshake_initiate(struct auth_handshake *h,
                            const struct auth_handshake_params *params) MUST_CHECK;
/* Starts as the side that was connected to. */
int auth_handshake_respond(struct auth_handshake *h,
                           const struct auth_handshake_params *params) MUST_CHECK;
/*
 * Takes received bytes, at most until the state changes: *used tells how many, the rest (after
 * DONE: frames) is the caller's; call again with it while the state is one of the WAIT states. May
 * fill out, also with a refusal when it fails. Returns 0, or the negative error with state FAILED.
 */
int auth_handshake_feed(struct auth_handshake *h, const void *data, size_t len,
                        size_t *used) MUST_CHECK;
/* Responder, in state PROVEN: answers with the messenger's own blob; then DONE. */
void auth_handshake_accept(struct auth_handshake *h, const void *blob, size_t blob_len);
/* Wipes all secrets; the keys must have been taken before. Harmless when zeroed or repeated. */
void auth_handshake_fini(struct auth_handshake *h);

/* A phrase for people: why a handshake failed. Static memory. */
const char *auth_error_text(int error);

#endif
