#include "tests/lib/test.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/auth.h"
#include "common/auth_layout.h"

/*
 * The CPU's word on AES, which the tests decide: this program's symbol comes before that of the
 * library.
 */
static int cpu_has_aes = 1;
__attribute__((visibility("default"))) int crypto_aead_aes256gcm_is_available(void)
{
    return cpu_has_aes;
}

/* ---- Two processes ---- */

enum { NOW = 1000000 };

static const struct uuid one_cluster = {{1}};
static const struct uuid other_cluster = {{2}};
static const uint8_t service_key[32] = {42};

/* A monitor that knows client.admin, the OSDs of its cluster, and a client. */
static struct auth_secret admin_secret = {16, "0123456789abcdef"};
static struct auth_secret wrong_secret = {16, "0123456789abcdeX"};
static struct auth_ticket ticket;
static int tickets_refused;

static int find_entity(void *ctx, const struct entity_name *name, struct auth_secret *secret,
                       char caps[AUTH_CAPS_TEXT_MAX])
{
    (void)ctx;
    if (name->type != ENTITY_CLIENT || strcmp(name->id, "admin") != 0)
        return -ENOENT;
    *secret = admin_secret;
    snprintf(caps, AUTH_CAPS_TEXT_MAX, "allow rw pool=x");
    return 0;
}

static int find_service_key(void *ctx, uint64_t key_id, uint8_t key[32])
{
    (void)ctx;
    if (key_id != 7)
        return -ENOENT;
    memcpy(key, service_key, 32);
    return 0;
}

static int give_credential(void *ctx, const struct entity_name *peer, struct auth_ticket *out)
{
    (void)peer;
    const struct auth_secret *secret = ctx;
    if (secret == NULL)
        return -ENOENT;
    if (secret == &ticket.secret)
        *out = ticket;
    else
        out->secret = *secret;
    return 0;
}

static void note_refusal(void *ctx, const struct entity_name *peer)
{
    (void)ctx;
    (void)peer;
    tickets_refused++;
}

struct world {
    struct auth_provider client;
    struct auth_provider daemon;
    struct auth_handshake_params initiate;
    struct auth_handshake_params respond;
    struct auth_handshake i;
    struct auth_handshake r;
};

static struct entity_name name_of(const char *text)
{
    struct entity_name name;
    assert_int_equal(entity_parse(text, &name), 0);
    return name;
}

/* client.admin on its way to mon.a. */
static int world_setup(void **state)
{
    static struct world w;
    cpu_has_aes = 1;
    tickets_refused = 0;
    memset(&w, 0, sizeof w);
    w.client = (struct auth_provider){
        .self = name_of("client.admin"),
        .ctx = &admin_secret,
        .credential = give_credential,
        .ticket_refused = note_refusal,
    };
    w.daemon = (struct auth_provider){.self = name_of("mon.a"), .entity_secret = find_entity};
    w.initiate = (struct auth_handshake_params){
        .provider = &w.client,
        .mode = AUTH_MODE_INTEGRITY,
        .instance = 11,
        .features = 0xff,
        .expect = name_of("mon.a"),
        .blob = "resume me",
        .blob_len = 9,
    };
    w.respond = (struct auth_handshake_params){
        .provider = &w.daemon,
        .mode = AUTH_MODE_INTEGRITY,
        .instance = 22,
        .now_wall_s = NOW,
        .features = 0x1f0,
    };
    *state = &w;
    return 0;
}

/* client.admin with a ticket on its way to osd.3. */
static void use_ticket(struct world *w, uint64_t key_id, const char *holder, uint64_t expires)
{
    struct entity_name name = name_of(holder);
    assert_int_equal(auth_ticket_seal(key_id, service_key, &name, "allow rwx", expires, &ticket),
                     0);
    w->client.ctx = &ticket.secret;
    w->initiate.expect = name_of("osd.3");
    w->daemon = (struct auth_provider){.self = name_of("osd.3"), .service_key = find_service_key};
}

static void begin(struct world *w)
{
    assert_int_equal(auth_handshake_initiate(&w->i, &w->initiate), 0);
    assert_int_equal(auth_handshake_respond(&w->r, &w->respond), 0);
}

/* Carries what one side has to say to the other, in pieces; the result of the last feed. */
static int carry(struct auth_handshake *from, struct auth_handshake *to, size_t piece)
{
    size_t at = 0;
    int rc = 0;
    while (at < from->out_len && rc == 0) {
        size_t used;
        size_t n = from->out_len - at < piece ? from->out_len - at : piece;
        rc = auth_handshake_feed(to, from->out + at, n, &used);
        if (rc == 0)
            assert_int_equal(used, n);
        at += n;
    }
    from->out_len = 0;
    return rc;
}

static int reach_confirm(struct world *w)
{
    begin(w);
    int rc = carry(&w->i, &w->r, SIZE_MAX);
    return rc != 0 ? rc : carry(&w->r, &w->i, SIZE_MAX);
}

static void run_to_end(struct world *w, size_t piece)
{
    begin(w);
    assert_int_equal(carry(&w->i, &w->r, piece), 0);
    assert_int_equal(carry(&w->r, &w->i, piece), 0);
    assert_int_equal(carry(&w->i, &w->r, piece), 0);
    assert_int_equal(w->r.state, AUTH_HANDSHAKE_PROVEN);
    auth_handshake_accept(&w->r, "welcome", 7);
    assert_int_equal(carry(&w->r, &w->i, piece), 0);
    assert_int_equal(w->i.state, AUTH_HANDSHAKE_DONE);
    assert_int_equal(w->r.state, AUTH_HANDSHAKE_DONE);
}

/* ---- What works ---- */

static void both_sides_learn_the_same(void **state)
{
    struct world *w = *state;
    run_to_end(w, SIZE_MAX);
    assert_memory_equal(w->i.send_key, w->r.receive_key, 32);
    assert_memory_equal(w->r.send_key, w->i.receive_key, 32);
    assert_memory_not_equal(w->i.send_key, w->r.send_key, 32);
    assert_true(entity_equal(&w->i.peer, &w->daemon.self));
    assert_true(entity_equal(&w->r.peer, &w->client.self));
    assert_int_equal(w->i.peer_instance, 22);
    assert_int_equal(w->r.peer_instance, 11);
    assert_int_equal(w->i.features, 0xf0);
    assert_int_equal(w->r.features, 0xf0);
    assert_int_equal(w->i.version, w->r.version);
    assert_int_equal(w->i.cipher, AUTH_CIPHER_AES256_GCM);
    assert_int_equal(w->r.cipher, AUTH_CIPHER_AES256_GCM);
    assert_int_equal(w->r.peer_blob_len, 9);
    assert_memory_equal(w->r.peer_blob, "resume me", 9);
    assert_int_equal(w->i.peer_blob_len, 7);
    assert_memory_equal(w->i.peer_blob, "welcome", 7);
    assert_true(caps_allow(&w->r.peer_caps, CAP_READ | CAP_WRITE, "x"));
    assert_false(caps_allow(&w->r.peer_caps, CAP_READ, "y"));
    assert_int_equal(w->i.peer_caps.n_grants, 0);
}

static void bytes_may_come_one_by_one(void **state)
{
    run_to_end(*state, 1);
}

static void each_connection_has_other_keys(void **state)
{
    struct world *w = *state;
    uint8_t first[32];
    run_to_end(w, SIZE_MAX);
    memcpy(first, w->i.send_key, 32);
    run_to_end(w, SIZE_MAX);
    assert_memory_not_equal(first, w->i.send_key, 32);
}

static void encryption_wins_when_either_asks(void **state)
{
    struct world *w = *state;
    for (int which = 0; which < 4; which++) {
        w->initiate.mode = (which & 1) != 0 ? AUTH_MODE_ENCRYPTED : AUTH_MODE_INTEGRITY;
        w->respond.mode = (which & 2) != 0 ? AUTH_MODE_ENCRYPTED : AUTH_MODE_INTEGRITY;
        run_to_end(w, SIZE_MAX);
        enum auth_mode mode = which != 0 ? AUTH_MODE_ENCRYPTED : AUTH_MODE_INTEGRITY;
        assert_int_equal(w->i.mode, mode);
        assert_int_equal(w->r.mode, mode);
    }
}

static void a_cpu_without_aes_gets_the_other_cipher(void **state)
{
    struct world *w = *state;
    cpu_has_aes = 0;
    assert_int_equal(auth_handshake_initiate(&w->i, &w->initiate), 0);
    cpu_has_aes = 1;
    assert_int_equal(auth_handshake_respond(&w->r, &w->respond), 0);
    assert_int_equal(carry(&w->i, &w->r, SIZE_MAX), 0);
    assert_int_equal(w->r.cipher, AUTH_CIPHER_XCHACHA20_POLY1305);
    cpu_has_aes = 0;
    assert_int_equal(carry(&w->r, &w->i, SIZE_MAX), 0);
    assert_int_equal(w->i.cipher, AUTH_CIPHER_XCHACHA20_POLY1305);
}

static void frames_right_after_the_handshake_are_left_alone(void **state)
{
    struct world *w = *state;
    assert_int_equal(reach_confirm(w), 0);
    assert_int_equal(carry(&w->i, &w->r, SIZE_MAX), 0);
    auth_handshake_accept(&w->r, NULL, 0);
    uint8_t bytes[AUTH_MESSAGE_MAX + 5];
    size_t len = w->r.out_len;
    memcpy(bytes, w->r.out, len);
    memset(bytes + len, 0xff, 5);
    size_t used;
    assert_int_equal(auth_handshake_feed(&w->i, bytes, len + 5, &used), 0);
    assert_int_equal(w->i.state, AUTH_HANDSHAKE_DONE);
    assert_int_equal(used, len);
    assert_int_equal(auth_handshake_feed(&w->i, bytes + len, 5, &used), 0);
    assert_int_equal(used, 0);
}

static void a_ticket_opens_the_way_to_an_osd(void **state)
{
    struct world *w = *state;
    use_ticket(w, 7, "client.admin", NOW + 1);
    run_to_end(w, SIZE_MAX);
    assert_true(entity_equal(&w->r.peer, &w->client.self));
    assert_true(caps_allow(&w->r.peer_caps, CAP_ALL, "any"));
    assert_int_equal(tickets_refused, 0);
}

static void any_peer_will_do_if_the_caller_says_so(void **state)
{
    struct world *w = *state;
    w->initiate.expect = (struct entity_name){.type = ENTITY_MON};
    run_to_end(w, SIZE_MAX);
    assert_true(entity_equal(&w->i.peer, &w->daemon.self));
    w->initiate.expect = (struct entity_name){.type = ENTITY_NONE};
    run_to_end(w, SIZE_MAX);
}

static void secrets_are_wiped(void **state)
{
    struct world *w = *state;
    static const struct auth_secret none;
    run_to_end(w, SIZE_MAX);
    assert_memory_equal(&w->i.secret, &none, sizeof none);
    assert_true(sodium_is_zero(w->i.master, 32) && sodium_is_zero(w->r.master, 32));
    assert_true(sodium_is_zero(w->i.ephemeral_secret, 32));
    auth_handshake_fini(&w->i);
    assert_true(sodium_is_zero(w->i.send_key, 32) && sodium_is_zero(w->i.receive_key, 32));
}

/* ---- Refusals ---- */

static void a_wrong_key_is_found_by_the_initiator(void **state)
{
    struct world *w = *state;
    w->client.ctx = &wrong_secret;
    assert_int_equal(reach_confirm(w), -EACCES);
    assert_int_equal(w->i.state, AUTH_HANDSHAKE_FAILED);
    assert_false(w->i.error_is_hint);
    assert_int_equal(w->i.out_len, 0);
}

static void a_monitor_does_not_say_which_names_exist(void **state)
{
    struct world *w = *state;
    w->client.ctx = &wrong_secret;
    begin(w);
    assert_int_equal(carry(&w->i, &w->r, SIZE_MAX), 0);
    size_t len_known = w->r.out_len;
    w->client.self = name_of("client.nobody");
    begin(w);
    assert_int_equal(carry(&w->i, &w->r, SIZE_MAX), 0);
    assert_int_equal(w->r.out_len, len_known);
    assert_int_equal(w->r.state, AUTH_HANDSHAKE_WAIT_CONFIRM);
    assert_int_equal(carry(&w->r, &w->i, SIZE_MAX), -EACCES);
}

static void a_confirmation_without_the_key_is_refused(void **state)
{
    struct world *w = *state;
    assert_int_equal(reach_confirm(w), 0);
    w->i.out[w->i.out_len - 1] ^= 1;
    assert_int_equal(carry(&w->i, &w->r, SIZE_MAX), -EACCES);
    assert_int_equal(w->r.state, AUTH_HANDSHAKE_FAILED);
    assert_int_equal(w->r.peer_blob_len, 0);
    assert_int_equal(carry(&w->r, &w->i, SIZE_MAX), -EACCES);
    assert_true(w->i.error_is_hint);
}

/* Flips one bit of each byte of each message in turn: no such handshake may end well. */
static void no_byte_can_be_changed_on_the_way(void **state)
{
    struct world *w = *state;
    use_ticket(w, 7, "client.admin", NOW + 1);
    for (int message = 0; message < 4; message++) {
        size_t len = 1;
        for (size_t at = 0; at < len; at++) {
            begin(w);
            struct auth_handshake *from = &w->i;
            struct auth_handshake *to = &w->r;
            int rc = 0;
            for (int step = 0; step < 4 && rc == 0; step++) {
                if (step == message) {
                    len = from->out_len;
                    from->out[at] ^= (uint8_t)(1u << (at % 8));
                }
                rc = carry(from, to, SIZE_MAX);
                if (step == 2 && rc == 0 && to->state == AUTH_HANDSHAKE_PROVEN)
                    auth_handshake_accept(to, NULL, 0);
                struct auth_handshake *other = from;
                from = to;
                to = other;
            }
            assert_int_not_equal(w->i.state, AUTH_HANDSHAKE_DONE);
            if (message < 3)
                assert_int_not_equal(w->r.state, AUTH_HANDSHAKE_DONE);
        }
        assert_true(len > 50);
    }
}

static void truncated_messages_wait_for_the_rest(void **state)
{
    struct world *w = *state;
    begin(w);
    size_t used;
    assert_int_equal(auth_handshake_feed(&w->r, w->i.out, w->i.out_len - 1, &used), 0);
    assert_int_equal(used, w->i.out_len - 1);
    assert_int_equal(w->r.state, AUTH_HANDSHAKE_WAIT_HELLO);
    assert_int_equal(w->r.out_len, 0);
}

static void other_protocols_get_no_answer(void **state)
{
    struct world *w = *state;
    begin(w);
    size_t used;
    const char *http = "GET / HTTP/1.1\r\n\r\n";
    assert_int_equal(auth_handshake_feed(&w->r, http, strlen(http), &used), -EPROTO);
    assert_int_equal(w->r.out_len, 0);
    assert_int_equal(auth_handshake_feed(&w->r, http, strlen(http), &used), -EPROTO);
    assert_int_equal(used, 0);
}

static void lengths_are_bounded_before_anything_is_stored(void **state)
{
    struct world *w = *state;
    struct auth_wire_prefix prefix = {.kind = AUTH_KIND_HELLO, .len = UINT32_MAX};
    memcpy(prefix.magic, AUTH_MAGIC, sizeof prefix.magic);
    size_t used;
    assert_int_equal(auth_handshake_respond(&w->r, &w->respond), 0);
    assert_int_equal(auth_handshake_feed(&w->r, &prefix, sizeof prefix, &used), -EBADMSG);
    prefix.len = AUTH_MESSAGE_MAX - sizeof prefix + 1;
    assert_int_equal(auth_handshake_respond(&w->r, &w->respond), 0);
    assert_int_equal(auth_handshake_feed(&w->r, &prefix, sizeof prefix, &used), -EBADMSG);
    prefix.len = 3;
    assert_int_equal(auth_handshake_respond(&w->r, &w->respond), 0);
    uint8_t bytes[sizeof prefix + 3] = {0};
    memcpy(bytes, &prefix, sizeof prefix);
    assert_int_equal(auth_handshake_feed(&w->r, bytes, sizeof bytes, &used), -EBADMSG);
}

/* Applies a change to the hello, as a peer that is built differently would. */
static struct auth_wire_hello *hello_of(struct world *w)
{
    begin(w);
    return (struct auth_wire_hello *)(void *)(w->i.out + sizeof(struct auth_wire_prefix));
}

static void without_a_common_version_both_sides_say_so(void **state)
{
    struct world *w = *state;
    struct auth_wire_hello *hello = hello_of(w);
    hello->version_min = AUTH_VERSION_MAX + 1;
    hello->version_max = AUTH_VERSION_MAX + 5;
    assert_int_equal(carry(&w->i, &w->r, SIZE_MAX), -EPROTONOSUPPORT);
    assert_int_equal(carry(&w->r, &w->i, SIZE_MAX), -EPROTONOSUPPORT);
    assert_true(w->i.error_is_hint);
    hello = hello_of(w);
    hello->version_min = 0;
    hello->version_max = 0;
    assert_int_equal(carry(&w->i, &w->r, SIZE_MAX), -EPROTONOSUPPORT);
}

static void required_features_must_be_common(void **state)
{
    struct world *w = *state;
    w->initiate.features_required = 1;
    assert_int_equal(reach_confirm(w), -EPROTONOSUPPORT);
    w->initiate.features_required = 0x10;
    run_to_end(w, SIZE_MAX);
    w->respond.features_required = 0x100;
    assert_int_equal(reach_confirm(w), -EPROTONOSUPPORT);
    w->respond.features_required = 0x1000;
    assert_int_equal(auth_handshake_respond(&w->r, &w->respond), -EINVAL);
}

static void names_have_one_form(void **state)
{
    struct world *w = *state;
    hello_of(w)->name.type = 9;
    assert_int_equal(carry(&w->i, &w->r, SIZE_MAX), -EBADMSG);
    memset(hello_of(w)->name.id, 'x', AUTH_WIRE_ID_BYTES);
    assert_int_equal(carry(&w->i, &w->r, SIZE_MAX), -EBADMSG);
    hello_of(w)->name.id[40] = 'x';
    assert_int_equal(carry(&w->i, &w->r, SIZE_MAX), -EBADMSG);
}

static void ephemeral_keys_of_small_order_are_refused(void **state)
{
    struct world *w = *state;
    memset(hello_of(w)->ephemeral, 0, AUTH_KEY_BYTES);
    assert_int_equal(carry(&w->i, &w->r, SIZE_MAX), -EPROTO);
    assert_int_equal(w->r.state, AUTH_HANDSHAKE_FAILED);
}

static void another_cluster_is_a_clear_refusal(void **state)
{
    struct world *w = *state;
    w->client.fsid = &one_cluster;
    w->daemon.fsid = &other_cluster;
    begin(w);
    assert_int_equal(carry(&w->i, &w->r, SIZE_MAX), -EXDEV);
    assert_int_equal(carry(&w->r, &w->i, SIZE_MAX), -EXDEV);
    assert_true(w->i.error_is_hint);
    w->daemon.fsid = &one_cluster;
    run_to_end(w, SIZE_MAX);
    w->daemon.fsid = NULL;
    run_to_end(w, SIZE_MAX);
}

static void another_daemon_at_the_address_is_told_apart_by_proof(void **state)
{
    struct world *w = *state;
    w->initiate.expect = name_of("mon.b");
    assert_int_equal(reach_confirm(w), -ELIMPET_RESET);
    assert_false(w->i.error_is_hint);
    w->initiate.expect = (struct entity_name){.type = ENTITY_OSD};
    assert_int_equal(reach_confirm(w), -ELIMPET_RESET);
}

static void old_tickets_are_replaced(void **state)
{
    struct world *w = *state;
    use_ticket(w, 7, "client.admin", NOW);
    assert_int_equal(reach_confirm(w), -EKEYEXPIRED);
    assert_int_equal(carry(&w->r, &w->i, SIZE_MAX), -EKEYEXPIRED);
    assert_int_equal(tickets_refused, 1);
    use_ticket(w, 8, "client.admin", NOW + 100);
    assert_int_equal(reach_confirm(w), -EKEYEXPIRED);
    assert_int_equal(carry(&w->r, &w->i, SIZE_MAX), -EKEYEXPIRED);
    assert_int_equal(tickets_refused, 2);
}

static void a_ticket_serves_its_holder_alone(void **state)
{
    struct world *w = *state;
    use_ticket(w, 7, "client.other", NOW + 100);
    assert_int_equal(reach_confirm(w), -EACCES);
    /* Taken from the wire, without the secret that belongs to it. */
    use_ticket(w, 7, "client.admin", NOW + 100);
    ticket.secret.bytes[0] ^= 1;
    assert_int_equal(reach_confirm(w), -EACCES);
    assert_int_equal(tickets_refused, 1);
}

static void daemons_take_only_the_credentials_meant_for_them(void **state)
{
    struct world *w = *state;
    w->daemon.entity_secret = NULL;
    assert_int_equal(reach_confirm(w), -EACCES);
    use_ticket(w, 7, "client.admin", NOW + 100);
    w->daemon = (struct auth_provider){.self = name_of("mon.a"), .entity_secret = find_entity};
    assert_int_equal(reach_confirm(w), -EACCES);
}

static void without_a_credential_nothing_is_sent(void **state)
{
    struct world *w = *state;
    w->client.ctx = NULL;
    assert_int_equal(auth_handshake_initiate(&w->i, &w->initiate), -ENOENT);
    assert_int_equal(w->i.out_len, 0);
}

static void parameters_are_checked(void **state)
{
    struct world *w = *state;
    w->initiate.blob_len = AUTH_BLOB_MAX + 1;
    assert_int_equal(auth_handshake_initiate(&w->i, &w->initiate), -EINVAL);
    w->respond.mode = 0;
    assert_int_equal(auth_handshake_respond(&w->r, &w->respond), -EINVAL);
}

/* ---- Attacks ---- */

static void messages_sent_back_to_their_maker_fail(void **state)
{
    struct world *w = *state;
    size_t used;
    begin(w);
    assert_int_equal(auth_handshake_feed(&w->i, w->i.out, w->i.out_len, &used), -EPROTO);

    assert_int_equal(reach_confirm(w), 0);
    struct auth_wire_prefix *prefix = (struct auth_wire_prefix *)(void *)w->i.out;
    prefix->kind = AUTH_KIND_ACCEPT;
    assert_int_equal(auth_handshake_feed(&w->i, w->i.out, w->i.out_len, &used), -EACCES);
}

static int find_shared_key(void *ctx, const struct entity_name *name, struct auth_secret *secret,
                           char caps[AUTH_CAPS_TEXT_MAX])
{
    (void)ctx;
    *secret = admin_secret;
    snprintf(caps, AUTH_CAPS_TEXT_MAX, "allow *");
    return name->type == ENTITY_MON ? 0 : -ENOENT;
}

/* All monitors share one key: whoever relays mon.a's hello to mon.a itself must gain nothing. */
static void a_monitor_does_not_talk_to_itself(void **state)
{
    struct world *w = *state;
    w->client.self = name_of("mon.a");
    w->daemon.entity_secret = find_shared_key;
    w->initiate.expect = (struct entity_name){.type = ENTITY_MON};
    assert_int_equal(reach_confirm(w), -ELIMPET_RESET);
    w->daemon.self = name_of("mon.b");
    run_to_end(w, SIZE_MAX);
}

static void recorded_messages_are_worth_nothing(void **state)
{
    struct world *w = *state;
    uint8_t hello[AUTH_MESSAGE_MAX];
    uint8_t confirm[AUTH_MESSAGE_MAX];
    begin(w);
    size_t hello_len = w->i.out_len;
    memcpy(hello, w->i.out, hello_len);
    assert_int_equal(carry(&w->i, &w->r, SIZE_MAX), 0);
    assert_int_equal(carry(&w->r, &w->i, SIZE_MAX), 0);
    size_t confirm_len = w->i.out_len;
    memcpy(confirm, w->i.out, confirm_len);

    size_t used;
    assert_int_equal(auth_handshake_respond(&w->r, &w->respond), 0);
    assert_int_equal(auth_handshake_feed(&w->r, hello, hello_len, &used), 0);
    assert_int_equal(auth_handshake_feed(&w->r, confirm, confirm_len, &used), -EACCES);
}

static void a_weaker_choice_than_offered_is_noticed(void **state)
{
    struct world *w = *state;
    w->initiate.mode = AUTH_MODE_ENCRYPTED;
    begin(w);
    assert_int_equal(carry(&w->i, &w->r, SIZE_MAX), 0);
    struct auth_wire_reply *reply =
        (struct auth_wire_reply *)(void *)(w->r.out + sizeof(struct auth_wire_prefix));
    reply->mode = AUTH_MODE_INTEGRITY;
    assert_int_equal(carry(&w->r, &w->i, SIZE_MAX), -EPROTONOSUPPORT);
}

static void a_confirmation_cannot_come_twice(void **state)
{
    struct world *w = *state;
    uint8_t confirm[AUTH_MESSAGE_MAX];
    assert_int_equal(reach_confirm(w), 0);
    size_t len = w->i.out_len;
    memcpy(confirm, w->i.out, len);
    assert_int_equal(carry(&w->i, &w->r, SIZE_MAX), 0);
    size_t used;
    assert_int_equal(auth_handshake_feed(&w->r, confirm, len, &used), 0);
    assert_int_equal(used, 0);
    assert_int_equal(w->r.state, AUTH_HANDSHAKE_PROVEN);
}

static void errors_have_words(void **state)
{
    (void)state;
    assert_non_null(strstr(auth_error_text(-EXDEV), "another cluster"));
    assert_non_null(strstr(auth_error_text(-EACCES), "authentication failed"));
    assert_string_equal(auth_error_text(-ETIMEDOUT), error_text(ETIMEDOUT));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(both_sides_learn_the_same, world_setup),
        cmocka_unit_test_setup(bytes_may_come_one_by_one, world_setup),
        cmocka_unit_test_setup(each_connection_has_other_keys, world_setup),
        cmocka_unit_test_setup(encryption_wins_when_either_asks, world_setup),
        cmocka_unit_test_setup(a_cpu_without_aes_gets_the_other_cipher, world_setup),
        cmocka_unit_test_setup(frames_right_after_the_handshake_are_left_alone, world_setup),
        cmocka_unit_test_setup(a_ticket_opens_the_way_to_an_osd, world_setup),
        cmocka_unit_test_setup(any_peer_will_do_if_the_caller_says_so, world_setup),
        cmocka_unit_test_setup(secrets_are_wiped, world_setup),
        cmocka_unit_test_setup(a_wrong_key_is_found_by_the_initiator, world_setup),
        cmocka_unit_test_setup(a_monitor_does_not_say_which_names_exist, world_setup),
        cmocka_unit_test_setup(a_confirmation_without_the_key_is_refused, world_setup),
        cmocka_unit_test_setup(no_byte_can_be_changed_on_the_way, world_setup),
        cmocka_unit_test_setup(truncated_messages_wait_for_the_rest, world_setup),
        cmocka_unit_test_setup(other_protocols_get_no_answer, world_setup),
        cmocka_unit_test_setup(lengths_are_bounded_before_anything_is_stored, world_setup),
        cmocka_unit_test_setup(without_a_common_version_both_sides_say_so, world_setup),
        cmocka_unit_test_setup(required_features_must_be_common, world_setup),
        cmocka_unit_test_setup(names_have_one_form, world_setup),
        cmocka_unit_test_setup(ephemeral_keys_of_small_order_are_refused, world_setup),
        cmocka_unit_test_setup(another_cluster_is_a_clear_refusal, world_setup),
        cmocka_unit_test_setup(another_daemon_at_the_address_is_told_apart_by_proof, world_setup),
        cmocka_unit_test_setup(old_tickets_are_replaced, world_setup),
        cmocka_unit_test_setup(a_ticket_serves_its_holder_alone, world_setup),
        cmocka_unit_test_setup(daemons_take_only_the_credentials_meant_for_them, world_setup),
        cmocka_unit_test_setup(without_a_credential_nothing_is_sent, world_setup),
        cmocka_unit_test_setup(parameters_are_checked, world_setup),
        cmocka_unit_test_setup(messages_sent_back_to_their_maker_fail, world_setup),
        cmocka_unit_test_setup(a_monitor_does_not_talk_to_itself, world_setup),
        cmocka_unit_test_setup(recorded_messages_are_worth_nothing, world_setup),
        cmocka_unit_test_setup(a_weaker_choice_than_offered_is_noticed, world_setup),
        cmocka_unit_test_setup(a_confirmation_cannot_come_twice, world_setup),
        cmocka_unit_test(errors_have_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
