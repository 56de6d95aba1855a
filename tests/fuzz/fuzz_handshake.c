/*
 * Bytes of a hostile peer to both sides of the handshake. The first byte chooses the side and how
 * far an honest peer led it before; the second, the size of the pieces. No input may prove
 * anything.
 */
#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/auth.h"
#include "common/auth_layout.h"

static const struct auth_secret secret = {16, "0123456789abcdef"};
static const uint8_t service_key[32] = {1};

static int find_entity(void *ctx, const struct entity_name *name, struct auth_secret *out,
                       char caps[AUTH_CAPS_TEXT_MAX])
{
    (void)ctx;
    (void)name;
    *out = secret;
    snprintf(caps, AUTH_CAPS_TEXT_MAX, "allow r");
    return 0;
}

static int find_service_key(void *ctx, uint64_t key_id, uint8_t key[32])
{
    (void)ctx;
    (void)key_id;
    memcpy(key, service_key, 32);
    return 0;
}

static int give_credential(void *ctx, const struct entity_name *peer, struct auth_ticket *out)
{
    (void)ctx;
    (void)peer;
    out->secret = secret;
    return 0;
}

/* Everything that is random is zero, so that a find can be repeated. */
static const char *chance_name(void)
{
    return "none";
}

static void chance_bytes(void *const out, const size_t len)
{
    memset(out, 7, len);
}

static uint32_t chance_u32(void)
{
    return 7;
}

static randombytes_implementation no_chance = {
    .implementation_name = chance_name,
    .random = chance_u32,
    .buf = chance_bytes,
};

static void feed(struct auth_handshake *h, const uint8_t *data, size_t size, size_t piece)
{
    while (size > 0) {
        size_t used;
        size_t n = size < piece ? size : piece;
        enum auth_handshake_state before = h->state;
        int rc = auth_handshake_feed(h, data, n, &used);
        assert(used <= n && h->out_len <= sizeof h->out);
        assert((rc != 0) == (h->state == AUTH_HANDSHAKE_FAILED));
        if (rc != 0 || (used == 0 && h->state == before))
            return;
        h->out_len = 0;
        data += used;
        size -= used;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool initialized;
    static struct auth_handshake i;
    static struct auth_handshake r;
    if (!initialized) {
        initialized = true;
        if (randombytes_set_implementation(&no_chance) != 0 || sodium_init() < 0)
            return -1;
    }
    if (size < 2)
        return -1;
    const struct auth_provider client = {
        .self = {.type = ENTITY_CLIENT, .id = "a"},
        .credential = give_credential,
    };
    const struct auth_provider daemon = {
        .self = {.type = ENTITY_OSD, .id = "1"},
        .entity_secret = find_entity,
        .service_key = find_service_key,
    };
    const struct auth_handshake_params from = {.provider = &client, .mode = AUTH_MODE_INTEGRITY};
    const struct auth_handshake_params to = {.provider = &daemon, .mode = AUTH_MODE_INTEGRITY};
    size_t piece = data[1] > 0 ? data[1] : SIZE_MAX;
    size_t used;
    int rc = auth_handshake_initiate(&i, &from);
    assert(rc == 0);
    rc = auth_handshake_respond(&r, &to);
    assert(rc == 0);
    if ((data[0] & 2) != 0) {
        rc = auth_handshake_feed(&r, i.out, i.out_len, &used);
        assert(rc == 0);
        if ((data[0] & 1) == 0) {
            rc = auth_handshake_feed(&i, r.out, r.out_len, &used);
            assert(rc == 0 && i.state == AUTH_HANDSHAKE_WAIT_ACCEPT);
        }
    }
    struct auth_handshake *victim = (data[0] & 1) != 0 ? &r : &i;
    victim->out_len = 0;
    feed(victim, data + 2, size - 2, piece);
    assert(victim->state != AUTH_HANDSHAKE_PROVEN && victim->state != AUTH_HANDSHAKE_DONE);
    return 0;
}
