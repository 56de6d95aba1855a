/*
 * The handshake that starts every connection: an ephemeral X25519 exchange, authenticated in both
 * directions by one shared secret. common/README.md shows the messages.
 *
 * Invariants:
 *  H1  Nothing but these fixed messages is parsed before the peer has proven the secret, and
 *      nothing of them is acted upon except to go on or to fail.
 *  H2  Every byte of hello and reply goes into the transcript hash, from which all keys come: who
 *      changes a version, a cipher, a mode or a name on the way makes the MACs fail.
 *  H3  Each MAC and each frame key has a key of its own, derived with its role in the name. A
 * message sent back to its maker, or replayed from another connection, verifies nowhere. H4  The
 * initiator confirms only after the responder's MAC was right; the responder accepts, and reports
 * PROVEN, only after the initiator's was. H5  A responder answers for a name that does not exist as
 * it answers for one that does: with a reply under a random secret. The initiator sees that the
 * secrets differ, and no more. H6  What only a refusal says is a hint: it ends the attempt, and is
 * marked as unproven. H7  Secrets live in struct auth_handshake alone and are wiped when they are
 * not needed any more.
 */
#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "common/aes_gcm.h"
#include "common/auth_private.h"

static_assert(AUTH_NONCE_BYTES >= 24 && AUTH_MAC_BYTES == crypto_generichash_BYTES, "BLAKE2b");
static_assert(AUTH_KEY_BYTES == crypto_scalarmult_BYTES, "X25519");
static_assert(sizeof(struct auth_wire_prefix) + sizeof(struct auth_wire_hello) + AUTH_TICKET_MAX <=
                  AUTH_MESSAGE_MAX,
              "a hello fits");
static_assert((int)AUTH_WIRE_ID_BYTES == (int)ENTITY_ID_MAX + 1, "names fit");

/* Numbers of the keys that are derived from the master key: H3. */
enum subkey {
    SUBKEY_REPLY_MAC = 1,
    SUBKEY_CONFIRM_MAC = 2,
    SUBKEY_ACCEPT_MAC = 3,
    SUBKEY_FRAMES_OF_INITIATOR = 4,
    SUBKEY_FRAMES_OF_RESPONDER = 5,
};

/* ---- States ---- */

/* Which states may follow which. FAILED may follow all but itself. */
static bool transition_allowed(enum auth_handshake_state from, enum auth_handshake_state to)
{
    static const enum auth_handshake_state next[] = {
        [AUTH_HANDSHAKE_WAIT_REPLY] = AUTH_HANDSHAKE_WAIT_ACCEPT,
        [AUTH_HANDSHAKE_WAIT_ACCEPT] = AUTH_HANDSHAKE_DONE,
        [AUTH_HANDSHAKE_WAIT_HELLO] = AUTH_HANDSHAKE_WAIT_CONFIRM,
        [AUTH_HANDSHAKE_WAIT_CONFIRM] = AUTH_HANDSHAKE_PROVEN,
        [AUTH_HANDSHAKE_PROVEN] = AUTH_HANDSHAKE_DONE,
        [AUTH_HANDSHAKE_DONE] = AUTH_HANDSHAKE_FAILED,
        [AUTH_HANDSHAKE_FAILED] = 0,
    };
    return to == AUTH_HANDSHAKE_FAILED ? from != AUTH_HANDSHAKE_FAILED : next[from] == to;
}

static void enter(struct auth_handshake *h, enum auth_handshake_state state)
{
    assert(transition_allowed(h->state, state));
    h->state = state;
}

static void wipe(struct auth_handshake *h)
{
    sodium_memzero(&h->secret, sizeof h->secret);
    sodium_memzero(h->ephemeral_secret, sizeof h->ephemeral_secret);
    sodium_memzero(h->master, sizeof h->master);
}

static int fail(struct auth_handshake *h, int error)
{
    wipe(h);
    sodium_memzero(h->send_key, sizeof h->send_key);
    sodium_memzero(h->receive_key, sizeof h->receive_key);
    enter(h, AUTH_HANDSHAKE_FAILED);
    h->error = error;
    return error;
}

void auth_handshake_fini(struct auth_handshake *h)
{
    wipe(h);
    sodium_memzero(h->send_key, sizeof h->send_key);
    sodium_memzero(h->receive_key, sizeof h->receive_key);
}

/* ---- Writing messages ---- */

static void put(struct auth_handshake *h, const void *data, size_t len)
{
    assert(len <= sizeof h->out - h->out_len);
    if (len > 0)
        memcpy(h->out + h->out_len, data, len);
    h->out_len += len;
}

static void put_prefix(struct auth_handshake *h, enum auth_message_kind kind, size_t len)
{
    struct auth_wire_prefix prefix = {.kind = (uint16_t)kind, .len = (uint32_t)len};
    memcpy(prefix.magic, AUTH_MAGIC, sizeof prefix.magic);
    put(h, &prefix, sizeof prefix);
}

static struct auth_wire_name name_to_wire(const struct entity_name *name)
{
    struct auth_wire_name wire = {.type = name->type};
    memcpy(wire.id, name->id, strnlen(name->id, ENTITY_ID_MAX));
    return wire;
}

static int name_from_wire(const struct auth_wire_name *wire, struct entity_name *out)
{
    struct entity_name name = {.type = wire->type};
    memcpy(name.id, wire->id, sizeof name.id);
    if (!entity_valid(&name))
        return -EBADMSG;
    /* One name has one form on the wire. */
    size_t len = strlen(name.id);
    if (!sodium_is_zero(wire->id + len, sizeof wire->id - len))
        return -EBADMSG;
    *out = name;
    return 0;
}

static void fsid_to_wire(const struct auth_handshake *h, uint8_t fsid[16])
{
    if (h->params.provider->fsid != NULL)
        memcpy(fsid, h->params.provider->fsid->bytes, 16);
}

/* True unless both clusters are known, and are not the same. */
static bool fsid_acceptable(const struct auth_handshake *h, const uint8_t fsid[16])
{
    const struct uuid *own = h->params.provider->fsid;
    return own == NULL || uuid_is_zero(own) || sodium_is_zero(fsid, 16) ||
           memcmp(own->bytes, fsid, 16) == 0;
}

/* Fails, and tells the peer why as far as it may know. */
static int refuse(struct auth_handshake *h, enum auth_refusal_reason reason, int error)
{
    h->out_len = 0;
    struct auth_wire_refusal refusal = {
        .reason = (uint16_t)reason,
        .version_min = AUTH_VERSION_MIN,
        .version_max = AUTH_VERSION_MAX,
    };
    put_prefix(h, AUTH_KIND_REFUSAL, sizeof refusal);
    put(h, &refusal, sizeof refusal);
    return fail(h, error);
}

/* ---- Keys ---- */

static uint8_t ciphers_offered(void)
{
    uint8_t ciphers = 1u << AUTH_CIPHER_XCHACHA20_POLY1305;
    if (aes_gcm_available())
        ciphers |= 1u << AUTH_CIPHER_AES256_GCM;
    return ciphers;
}

/* master = BLAKE2b(key: secret; DH result, hash of hello and reply): H2. */
static int derive_master(struct auth_handshake *h, const uint8_t peer_ephemeral[AUTH_KEY_BYTES])
{
    uint8_t shared[crypto_scalarmult_BYTES];
    uint8_t key[32];
    /* Fails for points of small order, which would make the result known to everybody. */
    if (crypto_scalarmult(shared, h->ephemeral_secret, peer_ephemeral) != 0)
        return -EPROTO;
    int rc = auth_secret_derive(&h->secret, "limpet handshake 1", key);
    if (rc == 0) {
        crypto_generichash_state state;
        crypto_generichash_init(&state, key, sizeof key, sizeof h->master);
        crypto_generichash_update(&state, shared, sizeof shared);
        crypto_generichash_update(&state, h->transcript, sizeof h->transcript);
        crypto_generichash_final(&state, h->master, sizeof h->master);
        sodium_memzero(&state, sizeof state);
    }
    sodium_memzero(key, sizeof key);
    sodium_memzero(shared, sizeof shared);
    sodium_memzero(h->ephemeral_secret, sizeof h->ephemeral_secret);
    sodium_memzero(&h->secret, sizeof h->secret);
    return rc;
}

static void derive_subkey(const struct auth_handshake *h, enum subkey which, uint8_t key[32])
{
    int rc = crypto_kdf_derive_from_key(key, 32, (uint64_t)which, "LmptHnd1", h->master);
    assert(rc == 0);
}

/* A MAC over the transcript, an earlier MAC (or nothing) and the bytes of a message. */
static void message_mac(const struct auth_handshake *h, enum subkey which, const uint8_t *earlier,
                        const void *message, size_t len, uint8_t mac[AUTH_MAC_BYTES])
{
    static const uint8_t nothing[AUTH_MAC_BYTES];
    uint8_t key[32];
    derive_subkey(h, which, key);
    crypto_generichash_state state;
    crypto_generichash_init(&state, key, sizeof key, AUTH_MAC_BYTES);
    crypto_generichash_update(&state, h->transcript, sizeof h->transcript);
    crypto_generichash_update(&state, earlier != NULL ? earlier : nothing, AUTH_MAC_BYTES);
    crypto_generichash_update(&state, message, len);
    crypto_generichash_final(&state, mac, AUTH_MAC_BYTES);
    sodium_memzero(&state, sizeof state);
    sodium_memzero(key, sizeof key);
}

/* The connection is proven from both sides: hands out its keys. */
static void finish(struct auth_handshake *h)
{
    enum subkey ours = h->initiator ? SUBKEY_FRAMES_OF_INITIATOR : SUBKEY_FRAMES_OF_RESPONDER;
    enum subkey theirs = h->initiator ? SUBKEY_FRAMES_OF_RESPONDER : SUBKEY_FRAMES_OF_INITIATOR;
    derive_subkey(h, ours, h->send_key);
    derive_subkey(h, theirs, h->receive_key);
    wipe(h);
    enter(h, AUTH_HANDSHAKE_DONE);
}

/* transcript = BLAKE2b(hello, reply without its MAC), prefixes included. */
static void transcript_begin(struct auth_handshake *h, const uint8_t *hello, size_t len)
{
    crypto_generichash(h->transcript, sizeof h->transcript, hello, len, NULL, 0);
}

static void transcript_add(struct auth_handshake *h, const uint8_t *reply, size_t len)
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, sizeof h->transcript);
    crypto_generichash_update(&state, h->transcript, sizeof h->transcript);
    crypto_generichash_update(&state, reply, len);
    crypto_generichash_final(&state, h->transcript, sizeof h->transcript);
}

/* ---- Start ---- */

static int start(struct auth_handshake *h, const struct auth_handshake_params *params)
{
    memset(h, 0, sizeof *h);
    if (sodium_init() < 0)
        return -EIO;
    if (params->blob_len > AUTH_BLOB_MAX || !entity_valid(&params->provider->self) ||
        (params->features_required & ~params->features) != 0 ||
        (params->mode != AUTH_MODE_INTEGRITY && params->mode != AUTH_MODE_ENCRYPTED))
        return -EINVAL;
    h->params = *params;
    if (params->blob_len > 0)
        memcpy(h->blob, params->blob, params->blob_len);
    h->params.blob = NULL;
    randombytes_buf(h->ephemeral_secret, sizeof h->ephemeral_secret);
    return 0;
}

static void put_hello(struct auth_handshake *h, const struct auth_ticket *credential)
{
    struct auth_wire_hello hello = {
        .version_min = AUTH_VERSION_MIN,
        .version_max = AUTH_VERSION_MAX,
        .ciphers = ciphers_offered(),
        .mode = (uint8_t)h->params.mode,
        .credential = h->ticket_used ? AUTH_CREDENTIAL_TICKET : AUTH_CREDENTIAL_SECRET,
        .name = name_to_wire(&h->params.provider->self),
        .features = h->params.features,
        .features_required = h->params.features_required,
        .ticket_len = credential->len,
    };
    fsid_to_wire(h, hello.fsid);
    randombytes_buf(hello.nonce, sizeof hello.nonce);
    crypto_scalarmult_base(hello.ephemeral, h->ephemeral_secret);
    put_prefix(h, AUTH_KIND_HELLO, sizeof hello + credential->len);
    put(h, &hello, sizeof hello);
    put(h, credential->blob, credential->len);
    transcript_begin(h, h->out, h->out_len);
}

int auth_handshake_initiate(struct auth_handshake *h, const struct auth_handshake_params *params)
{
    int rc = start(h, params);
    if (rc != 0)
        return rc;
    h->initiator = true;
    h->state = AUTH_HANDSHAKE_WAIT_REPLY;
    const struct auth_provider *provider = params->provider;
    if (provider->credential == NULL)
        return fail(h, -ENOENT);
    struct auth_ticket credential = {0};
    rc = provider->credential(provider->ctx, &params->expect, &credential);
    if (rc == 0 && (credential.len > AUTH_TICKET_MAX || credential.secret.len < AUTH_SECRET_MIN ||
                    credential.secret.len > AUTH_SECRET_MAX))
        rc = -EINVAL;
    if (rc == 0) {
        h->ticket_used = credential.len > 0;
        h->secret = credential.secret;
        put_hello(h, &credential);
    }
    sodium_memzero(&credential, sizeof credential);
    return rc == 0 ? 0 : fail(h, rc);
}

int auth_handshake_respond(struct auth_handshake *h, const struct auth_handshake_params *params)
{
    int rc = start(h, params);
    if (rc == 0)
        h->state = AUTH_HANDSHAKE_WAIT_HELLO;
    return rc;
}

/* ---- Responder ---- */

/* Finds the secret that a hello without a ticket must know. */
static int lookup_entity(struct auth_handshake *h)
{
    const struct auth_provider *provider = h->params.provider;
    if (provider->entity_secret == NULL)
        return refuse(h, AUTH_REFUSED_CREDENTIALS, -EACCES);
    int rc = provider->entity_secret(provider->ctx, &h->peer, &h->secret, h->caps);
    if (rc != 0 || h->secret.len < AUTH_SECRET_MIN || h->secret.len > AUTH_SECRET_MAX) {
        /* H5: go on with a secret that nobody knows. */
        h->refuse_quietly = true;
        h->secret.len = AUTH_SECRET_MIN;
        randombytes_buf(h->secret.bytes, h->secret.len);
        h->caps[0] = '\0';
    }
    return 0;
}

static int open_ticket(struct auth_handshake *h, const uint8_t *blob, size_t len)
{
    const struct auth_provider *provider = h->params.provider;
    uint64_t key_id;
    if (provider->service_key == NULL)
        return refuse(h, AUTH_REFUSED_CREDENTIALS, -EACCES);
    if (auth_ticket_key_id(blob, len, &key_id) != 0)
        return refuse(h, AUTH_REFUSED_MALFORMED, -EBADMSG);
    uint8_t key[32];
    if (provider->service_key(provider->ctx, key_id, key) != 0)
        return refuse(h, AUTH_REFUSED_TICKET, -EKEYEXPIRED);
    struct auth_ticket_contents contents;
    int rc = auth_ticket_open(blob, len, key, h->params.now_wall_s, &contents);
    sodium_memzero(key, sizeof key);
    if (rc == 0 && !entity_equal(&contents.holder, &h->peer))
        rc = -EACCES;
    if (rc == 0) {
        h->secret = contents.secret;
        memcpy(h->caps, contents.caps, sizeof h->caps);
    }
    sodium_memzero(&contents, sizeof contents);
    if (rc == -ETIME)
        return refuse(h, AUTH_REFUSED_TICKET, -EKEYEXPIRED);
    return rc == 0 ? 0 : refuse(h, AUTH_REFUSED_CREDENTIALS, -EACCES);
}

/* Chooses version, features, cipher and mode from what both can. */
static int negotiate(struct auth_handshake *h, const struct auth_wire_hello *hello)
{
    uint16_t version =
        hello->version_max < AUTH_VERSION_MAX ? hello->version_max : (uint16_t)AUTH_VERSION_MAX;
    if (version < hello->version_min || version < AUTH_VERSION_MIN)
        return refuse(h, AUTH_REFUSED_VERSION, -EPROTONOSUPPORT);
    uint64_t common = hello->features & h->params.features;
    if ((hello->features_required & ~common) != 0 || (h->params.features_required & ~common) != 0)
        return refuse(h, AUTH_REFUSED_VERSION, -EPROTONOSUPPORT);
    uint8_t ciphers = hello->ciphers & ciphers_offered();
    if (hello->mode != AUTH_MODE_INTEGRITY && hello->mode != AUTH_MODE_ENCRYPTED)
        return refuse(h, AUTH_REFUSED_VERSION, -EPROTONOSUPPORT);
    if ((ciphers & 1u << AUTH_CIPHER_AES256_GCM) != 0)
        h->cipher = AUTH_CIPHER_AES256_GCM;
    else if ((ciphers & 1u << AUTH_CIPHER_XCHACHA20_POLY1305) != 0)
        h->cipher = AUTH_CIPHER_XCHACHA20_POLY1305;
    else
        return refuse(h, AUTH_REFUSED_VERSION, -EPROTONOSUPPORT);
    h->version = version;
    h->features = common;
    h->mode = hello->mode == AUTH_MODE_ENCRYPTED ? AUTH_MODE_ENCRYPTED : h->params.mode;
    return 0;
}

static int put_reply(struct auth_handshake *h, const struct auth_wire_hello *hello)
{
    struct auth_wire_reply reply = {
        .version = h->version,
        .cipher = (uint8_t)h->cipher,
        .mode = (uint8_t)h->mode,
        .name = name_to_wire(&h->params.provider->self),
        .features = h->features,
    };
    fsid_to_wire(h, reply.fsid);
    randombytes_buf(reply.nonce, sizeof reply.nonce);
    crypto_scalarmult_base(reply.ephemeral, h->ephemeral_secret);
    put_prefix(h, AUTH_KIND_REPLY, sizeof reply);
    put(h, &reply, sizeof reply - sizeof reply.mac);
    transcript_add(h, h->out, h->out_len);
    int rc = derive_master(h, hello->ephemeral);
    if (rc != 0)
        return refuse(h, AUTH_REFUSED_MALFORMED, rc);
    message_mac(h, SUBKEY_REPLY_MAC, NULL, NULL, 0, reply.mac);
    put(h, reply.mac, sizeof reply.mac);
    return 0;
}

static int take_hello(struct auth_handshake *h, const uint8_t *message, size_t len)
{
    struct auth_wire_hello hello;
    const uint8_t *body = message + sizeof(struct auth_wire_prefix);
    size_t body_len = len - sizeof(struct auth_wire_prefix);
    if (body_len < sizeof hello)
        return refuse(h, AUTH_REFUSED_MALFORMED, -EBADMSG);
    memcpy(&hello, body, sizeof hello);
    if (hello.ticket_len > AUTH_TICKET_MAX ||
        body_len != sizeof hello + hello.ticket_len + hello.extension_len ||
        name_from_wire(&hello.name, &h->peer) != 0)
        return refuse(h, AUTH_REFUSED_MALFORMED, -EBADMSG);
    if (!fsid_acceptable(h, hello.fsid))
        return refuse(h, AUTH_REFUSED_CLUSTER, -EXDEV);
    int rc = negotiate(h, &hello);
    if (rc != 0)
        return rc;
    transcript_begin(h, message, len);

    if (hello.credential == AUTH_CREDENTIAL_SECRET && hello.ticket_len == 0)
        rc = lookup_entity(h);
    else if (hello.credential == AUTH_CREDENTIAL_TICKET)
        rc = open_ticket(h, body + sizeof hello, hello.ticket_len);
    else
        rc = refuse(h, AUTH_REFUSED_MALFORMED, -EBADMSG);
    if (rc != 0)
        return rc;
    rc = put_reply(h, &hello);
    if (rc == 0)
        enter(h, AUTH_HANDSHAKE_WAIT_CONFIRM);
    return rc;
}

/* Confirm and accept have one layout. Fills in the peer's instance and blob, and its MAC. */
static int parse_confirm(struct auth_handshake *h, const uint8_t *message, size_t len,
                         uint8_t mac[AUTH_MAC_BYTES])
{
    struct auth_wire_confirm confirm;
    const uint8_t *body = message + sizeof(struct auth_wire_prefix);
    size_t body_len = len - sizeof(struct auth_wire_prefix);
    if (body_len < sizeof confirm + AUTH_MAC_BYTES)
        return -EBADMSG;
    memcpy(&confirm, body, sizeof confirm);
    if (confirm.blob_len > AUTH_BLOB_MAX ||
        body_len != sizeof confirm + confirm.blob_len + AUTH_MAC_BYTES)
        return -EBADMSG;
    h->peer_instance = confirm.instance;
    h->peer_blob_len = confirm.blob_len;
    memcpy(h->peer_blob, body + sizeof confirm, confirm.blob_len);
    memcpy(mac, body + sizeof confirm + confirm.blob_len, AUTH_MAC_BYTES);
    return 0;
}

static void put_confirm(struct auth_handshake *h, enum auth_message_kind kind, enum subkey subkey,
                        const uint8_t *earlier, const void *blob, size_t blob_len)
{
    struct auth_wire_confirm confirm = {
        .instance = h->params.instance,
        .blob_len = (uint16_t)blob_len,
    };
    size_t first = h->out_len;
    put_prefix(h, kind, sizeof confirm + blob_len + AUTH_MAC_BYTES);
    put(h, &confirm, sizeof confirm);
    put(h, blob, blob_len);
    uint8_t mac[AUTH_MAC_BYTES];
    message_mac(h, subkey, earlier, h->out + first, h->out_len - first, mac);
    put(h, mac, sizeof mac);
    if (kind == AUTH_KIND_CONFIRM)
        memcpy(h->confirm_mac, mac, sizeof mac);
}

static int take_confirm(struct auth_handshake *h, const uint8_t *message, size_t len)
{
    uint8_t mac[AUTH_MAC_BYTES];
    uint8_t expected[AUTH_MAC_BYTES];
    if (parse_confirm(h, message, len, mac) != 0)
        return refuse(h, AUTH_REFUSED_MALFORMED, -EBADMSG);
    message_mac(h, SUBKEY_CONFIRM_MAC, NULL, message, len - AUTH_MAC_BYTES, expected);
    if (sodium_memcmp(mac, expected, sizeof mac) != 0 || h->refuse_quietly) {
        h->peer_instance = 0;
        h->peer_blob_len = 0;
        return refuse(h, AUTH_REFUSED_CREDENTIALS, -EACCES);
    }
    memcpy(h->confirm_mac, mac, sizeof mac);
    /* Capabilities that are not understood grant nothing; the key itself may still be right. */
    if (caps_parse_at(h->params.provider->self.type, h->caps, &h->peer_caps) != 0)
        h->peer_caps = (struct caps){0};
    enter(h, AUTH_HANDSHAKE_PROVEN);
    return 0;
}

void auth_handshake_accept(struct auth_handshake *h, const void *blob, size_t blob_len)
{
    assert(h->state == AUTH_HANDSHAKE_PROVEN && blob_len <= AUTH_BLOB_MAX);
    put_confirm(h, AUTH_KIND_ACCEPT, SUBKEY_ACCEPT_MAC, h->confirm_mac, blob, blob_len);
    finish(h);
}

/* ---- Initiator ---- */

static bool peer_expected(const struct auth_handshake *h)
{
    const struct entity_name *expect = &h->params.expect;
    if (expect->type == ENTITY_NONE)
        return true;
    if (expect->id[0] == '\0')
        return h->peer.type == expect->type;
    return entity_equal(&h->peer, expect);
}

static void ticket_was_refused(struct auth_handshake *h)
{
    const struct auth_provider *provider = h->params.provider;
    if (h->ticket_used && provider->ticket_refused != NULL)
        provider->ticket_refused(provider->ctx, &h->params.expect);
}

/* Whether the responder chose from what we had offered. */
static int check_choice(struct auth_handshake *h, const struct auth_wire_reply *reply)
{
    if (reply->version < AUTH_VERSION_MIN || reply->version > AUTH_VERSION_MAX ||
        (reply->features & ~h->params.features) != 0 ||
        (h->params.features_required & ~reply->features) != 0)
        return -EPROTONOSUPPORT;
    if (reply->cipher != AUTH_CIPHER_AES256_GCM && reply->cipher != AUTH_CIPHER_XCHACHA20_POLY1305)
        return -EPROTONOSUPPORT;
    if ((ciphers_offered() & 1u << reply->cipher) == 0)
        return -EPROTONOSUPPORT;
    if (reply->mode != AUTH_MODE_ENCRYPTED && reply->mode != h->params.mode)
        return -EPROTONOSUPPORT;
    if (name_from_wire(&reply->name, &h->peer) != 0)
        return -EBADMSG;
    h->version = reply->version;
    h->features = reply->features;
    h->cipher = (enum auth_cipher)reply->cipher;
    h->mode = (enum auth_mode)reply->mode;
    return 0;
}

static int take_reply(struct auth_handshake *h, const uint8_t *message, size_t len)
{
    struct auth_wire_reply reply;
    const uint8_t *body = message + sizeof(struct auth_wire_prefix);
    if (len - sizeof(struct auth_wire_prefix) != sizeof reply)
        return fail(h, -EBADMSG);
    memcpy(&reply, body, sizeof reply);
    int rc = check_choice(h, &reply);
    if (rc != 0)
        return fail(h, rc);
    transcript_add(h, message, len - sizeof reply.mac);
    rc = derive_master(h, reply.ephemeral);
    if (rc != 0)
        return fail(h, rc);
    uint8_t expected[AUTH_MAC_BYTES];
    message_mac(h, SUBKEY_REPLY_MAC, NULL, NULL, 0, expected);
    if (sodium_memcmp(reply.mac, expected, sizeof expected) != 0) {
        ticket_was_refused(h);
        return fail(h, -EACCES);
    }
    /* From here on what the reply says is proven. */
    if (!fsid_acceptable(h, reply.fsid))
        return fail(h, -EXDEV);
    if (!peer_expected(h) || entity_equal(&h->peer, &h->params.provider->self))
        return fail(h, -ELIMPET_RESET);
    put_confirm(h, AUTH_KIND_CONFIRM, SUBKEY_CONFIRM_MAC, NULL, h->blob, h->params.blob_len);
    enter(h, AUTH_HANDSHAKE_WAIT_ACCEPT);
    return 0;
}

static int take_accept(struct auth_handshake *h, const uint8_t *message, size_t len)
{
    uint8_t mac[AUTH_MAC_BYTES];
    uint8_t expected[AUTH_MAC_BYTES];
    if (parse_confirm(h, message, len, mac) != 0)
        return fail(h, -EBADMSG);
    message_mac(h, SUBKEY_ACCEPT_MAC, h->confirm_mac, message, len - AUTH_MAC_BYTES, expected);
    if (sodium_memcmp(mac, expected, sizeof mac) != 0) {
        h->peer_instance = 0;
        h->peer_blob_len = 0;
        return fail(h, -EACCES);
    }
    finish(h);
    return 0;
}

static int take_refusal(struct auth_handshake *h, const uint8_t *message, size_t len)
{
    struct auth_wire_refusal refusal;
    if (len - sizeof(struct auth_wire_prefix) != sizeof refusal)
        return fail(h, -EBADMSG);
    memcpy(&refusal, message + sizeof(struct auth_wire_prefix), sizeof refusal);
    h->error_is_hint = true;
    switch (refusal.reason) {
    case AUTH_REFUSED_VERSION:
        return fail(h, -EPROTONOSUPPORT);
    case AUTH_REFUSED_TICKET:
        ticket_was_refused(h);
        return fail(h, h->ticket_used ? -EKEYEXPIRED : -EACCES);
    case AUTH_REFUSED_CLUSTER:
        return fail(h, -EXDEV);
    case AUTH_REFUSED_CREDENTIALS:
        ticket_was_refused(h);
        return fail(h, -EACCES);
    default:
        return fail(h, -EPROTO);
    }
}

/* ---- Receiving ---- */

static bool waiting(const struct auth_handshake *h)
{
    return h->state >= AUTH_HANDSHAKE_WAIT_REPLY && h->state <= AUTH_HANDSHAKE_WAIT_CONFIRM;
}

/* A peer that speaks another protocol gets no answer in ours. */
static int check_prefix(const struct auth_handshake *h, const struct auth_wire_prefix *prefix)
{
    static const uint16_t kind_awaited[] = {
        [AUTH_HANDSHAKE_WAIT_REPLY] = AUTH_KIND_REPLY,
        [AUTH_HANDSHAKE_WAIT_ACCEPT] = AUTH_KIND_ACCEPT,
        [AUTH_HANDSHAKE_WAIT_HELLO] = AUTH_KIND_HELLO,
        [AUTH_HANDSHAKE_WAIT_CONFIRM] = AUTH_KIND_CONFIRM,
    };
    if (memcmp(prefix->magic, AUTH_MAGIC, sizeof prefix->magic) != 0)
        return -EPROTO;
    bool refusal = h->initiator && prefix->kind == AUTH_KIND_REFUSAL;
    if (prefix->kind != kind_awaited[h->state] && !refusal)
        return -EPROTO;
    if (prefix->reserved != 0 || prefix->len > AUTH_MESSAGE_MAX - sizeof *prefix)
        return -EBADMSG;
    return 0;
}

static int take_message(struct auth_handshake *h, const struct auth_wire_prefix *prefix)
{
    size_t len = h->in_len;
    h->in_len = 0;
    if (prefix->kind == AUTH_KIND_REFUSAL)
        return take_refusal(h, h->in, len);
    switch (h->state) {
    case AUTH_HANDSHAKE_WAIT_HELLO:
        return take_hello(h, h->in, len);
    case AUTH_HANDSHAKE_WAIT_REPLY:
        return take_reply(h, h->in, len);
    case AUTH_HANDSHAKE_WAIT_CONFIRM:
        return take_confirm(h, h->in, len);
    default:
        return take_accept(h, h->in, len);
    }
}

/* Fills the message buffer up to `want` bytes; true when it has them. */
static bool fill(struct auth_handshake *h, size_t want, const uint8_t **data, size_t *len)
{
    assert(want <= sizeof h->in);
    size_t n = want > h->in_len ? want - h->in_len : 0;
    if (n > *len)
        n = *len;
    if (n > 0)
        memcpy(h->in + h->in_len, *data, n);
    h->in_len += n;
    *data += n;
    *len -= n;
    return h->in_len >= want;
}

int auth_handshake_feed(struct auth_handshake *h, const void *data, size_t len, size_t *used)
{
    const uint8_t *at = data;
    size_t left = len;
    *used = 0;
    if (h->state == AUTH_HANDSHAKE_FAILED)
        return h->error;
    if (!waiting(h) || len == 0)
        return 0;
    struct auth_wire_prefix prefix;
    int rc = 0;
    if (fill(h, sizeof prefix, &at, &left)) {
        memcpy(&prefix, h->in, sizeof prefix);
        rc = check_prefix(h, &prefix);
        if (rc != 0)
            rc = fail(h, rc);
        else if (fill(h, sizeof prefix + prefix.len, &at, &left))
            rc = take_message(h, &prefix);
    }
    *used = len - left;
    return rc;
}

const char *auth_error_text(int error)
{
    switch (error < 0 ? -error : error) {
    case EACCES:
        return "authentication failed: the name or key is wrong or was refused";
    case EKEYEXPIRED:
        return "the ticket has expired or is not known to the peer";
    case EXDEV:
        return "the peer belongs to another cluster";
    case EPROTONOSUPPORT:
        return "the peer has no protocol version or feature in common with us";
    case EPROTO:
    case EBADMSG:
        return "the peer does not speak this protocol";
    case ENOENT:
        return "there is no key or ticket for the peer";
    default:
        return error_text(error);
    }
}
