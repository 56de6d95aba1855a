/*
 * The bytes of the handshake and of tickets.
 *
 * All integers are little-endian; structs are packed, sized by static assertions and covered by
 * golden-bytes tests. common/README.md says what each message proves.
 */
#ifndef LIMPET_COMMON_AUTH_LAYOUT_H
#define LIMPET_COMMON_AUTH_LAYOUT_H

#include <assert.h>
#include <endian.h>
#include <stdint.h>

static_assert(__BYTE_ORDER == __LITTLE_ENDIAN, "the wire structs are read in place");

#define AUTH_PACKED __attribute__((packed))

/* The last byte is the version of the handshake itself. */
#define AUTH_MAGIC "LIMPET\0\1"

enum { AUTH_MAGIC_BYTES = 8, AUTH_NONCE_BYTES = 32, AUTH_KEY_BYTES = 32, AUTH_MAC_BYTES = 32 };
enum { AUTH_WIRE_ID_BYTES = 48 };

enum auth_message_kind {
    AUTH_KIND_HELLO = 1,
    AUTH_KIND_REPLY = 2,
    AUTH_KIND_CONFIRM = 3,
    AUTH_KIND_ACCEPT = 4,
    AUTH_KIND_REFUSAL = 5,
};

enum auth_credential_kind { AUTH_CREDENTIAL_SECRET = 1, AUTH_CREDENTIAL_TICKET = 2 };

/* Before every message. */
struct AUTH_PACKED auth_wire_prefix {
    uint8_t magic[AUTH_MAGIC_BYTES];
    uint16_t kind;
    uint16_t reserved; /* Zero. */
    uint32_t len;      /* Of what follows. */
};
static_assert(sizeof(struct auth_wire_prefix) == 16, "auth_wire_prefix");

struct AUTH_PACKED auth_wire_name {
    uint8_t type;                   /* enum entity_type */
    uint8_t id[AUTH_WIRE_ID_BYTES]; /* Padded with zeroes; at least one. */
};
static_assert(sizeof(struct auth_wire_name) == 49, "auth_wire_name");

/*
 * Initiator to responder. Followed by ticket_len bytes of ticket and extension_len bytes that this
 * version ignores (but authenticates with the rest).
 */
struct AUTH_PACKED auth_wire_hello {
    uint16_t version_min;
    uint16_t version_max;
    uint8_t ciphers;    /* Bits 1 << enum auth_cipher. */
    uint8_t mode;       /* enum auth_mode */
    uint8_t credential; /* enum auth_credential_kind */
    struct auth_wire_name name;
    uint64_t features;
    uint64_t features_required;
    uint8_t fsid[16]; /* Zero: unknown. */
    uint8_t nonce[AUTH_NONCE_BYTES];
    uint8_t ephemeral[AUTH_KEY_BYTES];
    uint16_t ticket_len;
    uint16_t extension_len;
};
static_assert(sizeof(struct auth_wire_hello) == 156, "auth_wire_hello");

/* Responder to initiator. */
struct AUTH_PACKED auth_wire_reply {
    uint16_t version;
    uint8_t cipher;
    uint8_t mode;
    struct auth_wire_name name;
    uint64_t features; /* That both understand. */
    uint8_t fsid[16];
    uint8_t nonce[AUTH_NONCE_BYTES];
    uint8_t ephemeral[AUTH_KEY_BYTES];
    uint8_t mac[AUTH_MAC_BYTES];
};
static_assert(sizeof(struct auth_wire_reply) == 173, "auth_wire_reply");

/* Confirm and accept: followed by blob_len bytes of the messenger's, then by the MAC. */
struct AUTH_PACKED auth_wire_confirm {
    uint64_t instance;
    uint16_t blob_len;
};
static_assert(sizeof(struct auth_wire_confirm) == 10, "auth_wire_confirm");

enum auth_refusal_reason {
    AUTH_REFUSED_CREDENTIALS = 1,
    AUTH_REFUSED_VERSION = 2,
    AUTH_REFUSED_TICKET = 3, /* Expired, or sealed with a key that is not known (any more). */
    AUTH_REFUSED_CLUSTER = 4,
    AUTH_REFUSED_MALFORMED = 5,
};

/* Responder to initiator, instead of a reply or an accept. Not authenticated. */
struct AUTH_PACKED auth_wire_refusal {
    uint16_t reason;
    uint16_t version_min;
    uint16_t version_max;
    uint16_t reserved; /* Zero. */
};
static_assert(sizeof(struct auth_wire_refusal) == 8, "auth_wire_refusal");

/* ---- Tickets ---- */

#define AUTH_TICKET_MAGIC UINT32_C(0x3154504c) /* "LPT1" */

enum { AUTH_TICKET_NONCE_BYTES = 24, AUTH_TICKET_TAG_BYTES = 16 };

/*
 * Additional data of the sealed rest: XChaCha20-Poly1305 under the service's key over u8 entity
 * type, and, each after its 16-bit length, ID, capabilities and secret, then u64 expiry (wall
 * clock, seconds).
 */
struct AUTH_PACKED auth_wire_ticket {
    uint32_t magic;
    uint32_t reserved; /* Zero. */
    uint64_t key_id;
    uint8_t nonce[AUTH_TICKET_NONCE_BYTES];
};
static_assert(sizeof(struct auth_wire_ticket) == 40, "auth_wire_ticket");

#endif
