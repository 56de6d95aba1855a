#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/frame.h"
#include "tests/unit/common/net_test.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* ---- Messages ---- */

static void echo_through(const struct env_real_options *options, unsigned n, size_t body_step,
                         size_t payload_step)
{
    struct side server, client;
    side_server(&server, "mon.a", options);
    side_client(&client, "client.x", options);
    side_connect(&client, &server);
    for (unsigned i = 0; i < n; i++)
        side_send(&client, NET_TEST_ECHO, i, i * body_step % 3000, i * payload_step % 40000);
    SIDES_UNTIL(client.received == n, &client, &server);
    assert_int_equal(server.received, n);
    assert_int_equal(client.digest, server.digest);
    side_destroy(&client);
    side_destroy(&server);
}

static void echoes_messages_in_order(void **state)
{
    (void)state;
    struct env_real_options options = {.mode = NET_MODE_INTEGRITY};
    echo_through(&options, 2000, 37, 1234);
}

static void echoes_encrypted_messages_in_order(void **state)
{
    (void)state;
    struct env_real_options options = {.mode = NET_MODE_ENCRYPTED};
    echo_through(&options, 2000, 37, 1234);
}

static void carries_a_hundred_thousand_small_messages(void **state)
{
    (void)state;
    struct env_real_options options = {.mode = NET_MODE_INTEGRITY};
    echo_through(&options, 100000, 1, 0);
}

static void carries_the_largest_message(void **state)
{
    (void)state;
    struct side server, client;
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    side_connect(&client, &server);
    struct message *m = message_create(NET_TEST_ECHO, MESSAGE_BODY_MAX);
    assert_non_null(m);
    assert_int_equal(buf_slice_alloc(MESSAGE_PAYLOAD_MAX, &m->payload), 0);
    for (size_t i = 0; i < m->payload.len; i += 512)
        memset(m->payload.data + i, (int)(i >> 9), 512);
    uint64_t digest = 0;
    side_digest(&digest, m);
    net_send(client.env, client.session, m);
    side_send(&client, NET_TEST_ECHO, 1, 10, 10);
    SIDES_UNTIL(client.received == 2, &client, &server);
    assert_int_equal(client.digest, server.digest);
    assert_true(server.payload_bytes == MESSAGE_PAYLOAD_MAX + 10);
    side_destroy(&client);
    side_destroy(&server);
}

static void messages_may_be_sent_before_the_session_is_open(void **state)
{
    (void)state;
    struct side server, client;
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    side_open(&client, &server.address);
    for (unsigned i = 0; i < 10; i++)
        side_send(&client, NET_TEST_ECHO, i, 5, 0);
    SIDES_UNTIL(client.received == 10, &client, &server);
    assert_int_equal(client.opened, 1);
    side_destroy(&client);
    side_destroy(&server);
}

static void tells_who_the_peer_is(void **state)
{
    (void)state;
    struct side server, client;
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    side_connect(&client, &server);
    struct net_session *in = server.session, *out = client.session;
    assert_string_equal(in->peer.name.id, "x");
    assert_int_equal(in->peer.name.type, ENTITY_CLIENT);
    assert_true(in->peer.instance == client.env->instance);
    assert_true(caps_allow(&in->peer.caps, CAP_WRITE, "x"));
    assert_false(caps_allow(&in->peer.caps, CAP_WRITE, "y"));
    assert_null(in->user);
    assert_string_equal(out->peer.name.id, "a");
    assert_true(out->peer.instance == server.env->instance);
    assert_true(net_address_equal(&out->peer.address, &server.address));
    assert_ptr_equal(out->user, &client);
    side_destroy(&client);
    side_destroy(&server);
}

static void acknowledgements_empty_the_queue_when_nothing_is_sent_back(void **state)
{
    (void)state;
    struct side server, client;
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    side_connect(&client, &server);
    side_send(&client, NET_TEST_DATA, 1, 100, 1000);
    assert_true(client.session->queued_bytes >= 1100);
    SIDES_UNTIL(client.session->queued_bytes == 0, &client, &server);
    side_destroy(&client);
    side_destroy(&server);
}

/* ---- Broken connections ---- */

static void every_message_arrives_once_and_in_order_however_connections_break(void **state)
{
    (void)state;
    enum { N = 1500 };
    struct side server, client;
    struct net_address via;
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    struct proxy *proxy = proxy_create(&server.address, &via);
    side_open(&client, &via);
    SIDES_UNTIL(client.opened == 1, &client, &server);
    proxy_faults(proxy, 100000);
    uint64_t digest = 0;
    for (unsigned i = 0; i < N; i++) {
        struct message *m = message_create(NET_TEST_ECHO, sizeof i);
        assert_non_null(m);
        memcpy(m->body, &i, sizeof i);
        if (i % 3 != 0)
            assert_int_equal(buf_slice_alloc(i * 131 % 16000 + 1, &m->payload), 0);
        if (m->payload.len > 0)
            memset(m->payload.data, (int)i, m->payload.len);
        side_digest(&digest, m);
        net_send(client.env, client.session, m);
        if (i % 10 == 0)
            sides_turn((struct side *const[]){&client, &server}, 2);
    }
    SIDES_UNTIL(client.received == N, &client, &server);
    assert_int_equal(server.received, N);
    assert_true(server.digest == digest);
    assert_true(client.digest == digest);
    assert_true(proxy_faults_made(proxy) > 20);
    assert_true(client.disconnected > 5 && server.disconnected > 5);
    assert_int_equal(client.opened, 1);
    assert_int_equal(server.opened, 1);
    assert_int_equal(client.closed + server.closed, 0);
    side_destroy(&client);
    side_destroy(&server);
    proxy_destroy(proxy);
}

static void a_large_payload_survives_a_break_in_its_middle(void **state)
{
    (void)state;
    struct side server, client;
    struct net_address via;
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    struct proxy *proxy = proxy_create(&server.address, &via);
    side_open(&client, &via);
    SIDES_UNTIL(client.opened == 1, &client, &server);
    side_send(&client, NET_TEST_ECHO, 3, 64, 32 * 1024 * 1024);
    /* The first part is on its way when the connection breaks. */
    for (int i = 0; i < 3; i++)
        sides_turn((struct side *const[]){&client, &server}, 2);
    proxy_cut(proxy);
    SIDES_UNTIL(client.disconnected == 1, &client, &server);
    SIDES_UNTIL(client.received == 1, &client, &server);
    assert_int_equal(client.digest, server.digest);
    side_destroy(&client);
    side_destroy(&server);
    proxy_destroy(proxy);
}

/* ---- Payloads in lent memory ---- */

struct lent {
    uint8_t *memory;
    size_t len;
    struct buf *buf; /* A reference of the lender's own. */
    unsigned asked;
};

static struct buf_slice lend_once(struct side *side, const struct net_arrival *arrival)
{
    struct lent *lent = side->test;
    struct buf_slice slice = BUF_SLICE_EMPTY;
    assert_int_equal(arrival->type, NET_TEST_ECHO);
    assert_int_equal(arrival->body_len, 64);
    assert_int_equal(arrival->payload_len, lent->len);
    if (lent->asked++ == 0) {
        assert_int_equal(buf_slice_lend(lent->memory, lent->len, &slice), 0);
        lent->buf = buf_ref(slice.buf);
    }
    return slice;
}

static void is_in_lent_memory(struct side *side, struct net_session *session,
                              struct message *message)
{
    const struct lent *lent = side->test;
    (void)session;
    assert_ptr_equal(message->payload.data, lent->memory);
    assert_int_equal(message->payload.len, lent->len);
}

static void ask_for_echo(struct side *server, struct side *client, struct lent *lent)
{
    *lent = (struct lent){.len = 32 * 1024 * 1024};
    lent->memory = malloc(lent->len);
    assert_non_null(lent->memory);
    memset(lent->memory, 0xaa, lent->len);
    side_server(server, "mon.a", NULL);
    side_client(client, "client.x", NULL);
    client->test = lent;
    client->on_place = lend_once;
    side_connect(client, server);
    side_send(client, NET_TEST_ECHO, 3, 64, lent->len);
}

static void end_echo(struct side *server, struct side *client, struct lent *lent)
{
    assert_int_equal(client->digest, server->digest);
    side_destroy(client);
    side_destroy(server);
    assert_int_equal(lent->buf->refs, 1);
    buf_unref(lent->buf);
    free(lent->memory);
}

static void a_payload_is_received_in_lent_memory(void **state)
{
    (void)state;
    struct side server, client;
    struct lent lent;
    ask_for_echo(&server, &client, &lent);
    client.on_received = is_in_lent_memory;
    SIDES_UNTIL(client.received == 1, &client, &server);
    assert_int_equal(lent.asked, 1);
    assert_int_equal(client.disconnected, 0);
    end_echo(&server, &client, &lent);
}

static void revoked_memory_is_left_alone_and_the_message_comes_again(void **state)
{
    (void)state;
    struct side server, client;
    struct lent lent;
    ask_for_echo(&server, &client, &lent);
    SIDES_UNTIL(lent.memory[4096] != 0xaa, &client, &server);
    assert_int_equal(client.received, 0);
    buf_revoke(lent.buf);
    memset(lent.memory, 0xee, lent.len);
    SIDES_UNTIL(client.received == 1, &client, &server);
    for (size_t i = 0; i < lent.len; i++)
        assert_int_equal(lent.memory[i], 0xee);
    assert_int_equal(lent.asked, 2);
    assert_int_equal(client.disconnected, 1);
    assert_int_equal(client.closed, 0);
    end_echo(&server, &client, &lent);
}

/* ---- Payloads that are passed on ---- */

/* A client sends to an OSD, which sends the same memory, or a part of it, on to two others. */
enum { PASSED = 120, PASSED_BODY = sizeof(uint32_t) };

struct passing {
    struct env *env;
    struct net_session *on[2];
    bool has_seal[PASSED];
    uint8_t key[PASSED][FRAME_KEY_BYTES]; /* Under which the payload came to the first one. */
};

static size_t passed_len(unsigned number)
{
    static const size_t lens[] = {FRAME_OWN_KEY_MIN - 1, FRAME_OWN_KEY_MIN, FRAME_OWN_KEY_MIN + 1,
                                  200000, 1};
    return lens[number % COUNT(lens)];
}

/* Not all of it goes on then. */
static size_t passed_from(unsigned number)
{
    return number % 3 == 0 && passed_len(number) > 1 ? 1 : 0;
}

static uint8_t passed_byte(unsigned number, size_t i)
{
    return (uint8_t)(number * 7 + i + (i >> 12));
}

static unsigned passed_number(const struct message *m)
{
    uint32_t number;
    assert_int_equal(m->body_len, PASSED_BODY);
    memcpy(&number, m->body, sizeof number);
    assert_true(number < PASSED);
    return number;
}

static void expect_payload(const struct message *m, size_t from)
{
    unsigned number = passed_number(m);
    assert_int_equal(m->payload.len, passed_len(number) - from);
    for (size_t i = 0; i < m->payload.len; i++) {
        if (m->payload.data[i] != passed_byte(number, from + i))
            fail_msg("byte %zu of payload %u is another", i, number);
    }
}

static void send_numbered(struct env *env, struct net_session *session, uint32_t number,
                          struct buf_slice payload)
{
    struct message *m = message_create(NET_TEST_DATA, PASSED_BODY);
    assert_non_null(m);
    memcpy(m->body, &number, sizeof number);
    m->payload = payload;
    net_send(env, session, m);
}

static void pass_on(struct side *side, struct net_session *session, struct message *message)
{
    struct passing *p = side->test;
    unsigned number = passed_number(message);
    size_t from = passed_from(number);
    (void)session;
    expect_payload(message, 0);
    const struct buf_seal *seal = buf_slice_seal(&message->payload);
    p->has_seal[number] = seal != NULL;
    if (seal != NULL)
        memcpy(p->key[number], seal->key, sizeof seal->key);
    for (unsigned i = 0; i < COUNT(p->on); i++)
        send_numbered(p->env, p->on[i], number,
                      buf_slice_sub(message->payload, from, message->payload.len - from));
}

static void take_passed(struct side *side, struct net_session *session, struct message *message)
{
    const struct passing *p = side->test;
    unsigned number = passed_number(message);
    size_t from = passed_from(number);
    (void)session;
    assert_int_equal(number + 1, side->received);
    expect_payload(message, from);
    const struct buf_seal *seal = buf_slice_seal(&message->payload);
    bool large = message->payload.len >= FRAME_OWN_KEY_MIN;
    assert_true((seal != NULL) == (large && crypto_aead_aes256gcm_is_available() == 1));
    /* Other bytes have another key, the same ones the same, also over another connection. */
    if (seal != NULL && p->has_seal[number]) {
        bool same = memcmp(seal->key, p->key[number], sizeof seal->key) == 0;
        assert_int_equal(same, from == 0);
    }
}

static struct net_session *open_to_osd(struct side *side, const struct net_address *to)
{
    const struct net_expect expect = {.name = {.type = ENTITY_OSD}};
    struct net_session *session;
    assert_int_equal(net_open(side->env, to, &expect, side, &session), 0);
    return session;
}

static void payloads_are_passed_on_as_they_came_however_connections_break(void **state)
{
    (void)state;
    static const char *const names[] = {"osd.2", "osd.3"};
    struct side client, first, others[COUNT(names)];
    struct proxy *proxies[COUNT(names) + 1];
    struct net_address via;
    struct passing *passing = calloc(1, sizeof *passing);
    assert_non_null(passing);
    side_client(&client, "client.x", NULL);
    side_server(&first, "osd.1", NULL);
    passing->env = first.env;
    first.test = passing;
    first.on_received = pass_on;
    for (unsigned i = 0; i < COUNT(names); i++) {
        side_server(&others[i], names[i], NULL);
        others[i].test = passing;
        others[i].on_received = take_passed;
        proxies[i] = proxy_create(&others[i].address, &via);
        passing->on[i] = open_to_osd(&first, &via);
    }
    proxies[COUNT(names)] = proxy_create(&first.address, &via);
    client.session = open_to_osd(&client, &via);
    SIDES_UNTIL(client.opened == 1 && first.opened == 3, &client, &first, &others[0], &others[1]);
    for (unsigned i = 0; i < COUNT(proxies); i++)
        proxy_faults(proxies[i], 1000 * 1000);
    for (unsigned number = 0; number < PASSED; number++) {
        struct buf_slice payload;
        assert_int_equal(buf_slice_alloc(passed_len(number), &payload), 0);
        for (size_t i = 0; i < payload.len; i++)
            payload.data[i] = passed_byte(number, i);
        send_numbered(client.env, client.session, number, payload);
    }
    SIDES_UNTIL(others[0].received == PASSED && others[1].received == PASSED, &client, &first,
                &others[0], &others[1]);
    assert_int_equal(first.received, PASSED);
    assert_true(first.disconnected > 2);
    for (unsigned i = 0; i < COUNT(proxies); i++)
        assert_true(proxy_faults_made(proxies[i]) > 0);
    assert_int_equal(client.closed + first.closed + others[0].closed + others[1].closed, 0);
    side_destroy(&client);
    side_destroy(&first);
    side_destroy(&others[0]);
    side_destroy(&others[1]);
    for (unsigned i = 0; i < COUNT(proxies); i++)
        proxy_destroy(proxies[i]);
    free(passing);
}

static void a_peer_that_restarted_resets_the_session(void **state)
{
    (void)state;
    struct side first, second, client;
    struct net_address via;
    side_server(&first, "mon.a", NULL);
    side_server(&second, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    struct proxy *proxy = proxy_create(&first.address, &via);
    side_open(&client, &via);
    SIDES_UNTIL(client.opened == 1, &client, &first);
    proxy_target(proxy, &second.address);
    proxy_cut(proxy);
    SIDES_UNTIL(client.closed == 1, &client, &first, &second);
    assert_int_equal(client.error, -ELIMPET_RESET);
    assert_int_equal(second.opened, 0);
    assert_int_equal(first.disconnected, 1);
    assert_int_equal(first.closed, 0);
    side_destroy(&client);
    side_destroy(&first);
    side_destroy(&second);
    proxy_destroy(proxy);
}

static void close_in_disconnected(struct side *side, struct net_session *session)
{
    net_close(side->env, session);
    side->session = NULL;
}

static void a_session_that_the_acceptor_closed_while_it_was_broken_is_reset(void **state)
{
    (void)state;
    struct side server, client;
    struct net_address via;
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    struct proxy *proxy = proxy_create(&server.address, &via);
    server.on_disconnected = close_in_disconnected;
    side_open(&client, &via);
    SIDES_UNTIL(client.opened == 1, &client, &server);
    proxy_cut(proxy);
    SIDES_UNTIL(client.closed == 1, &client, &server);
    assert_int_equal(client.error, -ELIMPET_RESET);
    side_destroy(&client);
    side_destroy(&server);
    proxy_destroy(proxy);
}

/* ---- Failures to connect ---- */

static void is_told_at_once_that_nobody_listens(void **state)
{
    (void)state;
    struct side server, client;
    side_server(&server, "mon.a", NULL);
    struct net_address address = server.address;
    side_destroy(&server);
    side_client(&client, "client.x", NULL);
    uint64_t begin = uv_hrtime();
    side_open(&client, &address);
    side_send(&client, NET_TEST_DATA, 1, 10, 0);
    assert_int_equal(client.closed, 0);
    SIDES_UNTIL(client.closed == 1, &client);
    assert_int_equal(client.error, -ECONNREFUSED);
    assert_true(uv_hrtime() - begin < SEC_NS);
    side_destroy(&client);
}

static void is_told_when_the_listener_of_a_broken_session_is_gone(void **state)
{
    (void)state;
    struct side server, client;
    struct net_address via;
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    struct proxy *proxy = proxy_create(&server.address, &via);
    side_open(&client, &via);
    SIDES_UNTIL(client.opened == 1, &client, &server);
    proxy_destroy(proxy);
    SIDES_UNTIL(client.closed == 1, &client, &server);
    assert_int_equal(client.error, -ECONNREFUSED);
    side_destroy(&client);
    side_destroy(&server);
}

static void refuses_a_wrong_key(void **state)
{
    (void)state;
    struct side server, client;
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    client.secret.bytes[0] ^= 1;
    side_open(&client, &server.address);
    SIDES_UNTIL(client.closed == 1, &client, &server);
    assert_int_equal(client.error, -EACCES);
    assert_int_equal(server.opened, 0);
    side_destroy(&client);
    side_destroy(&server);
}

static void refuses_an_unknown_name(void **state)
{
    (void)state;
    struct side server, client;
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.nobody", NULL);
    side_open(&client, &server.address);
    SIDES_UNTIL(client.closed == 1, &client, &server);
    assert_int_equal(client.error, -EACCES);
    assert_int_equal(server.opened, 0);
    side_destroy(&client);
    side_destroy(&server);
}

static void refuses_another_peer_than_expected(void **state)
{
    (void)state;
    struct side server, client;
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    struct net_expect name = {.name = {.type = ENTITY_MON, .id = "b"}};
    struct net_expect instance = {.name = {.type = ENTITY_MON, .id = "a"},
                                  .instance = server.env->instance + 1};
    assert_int_equal(net_open(client.env, &server.address, &name, NULL, &client.session), 0);
    SIDES_UNTIL(client.closed == 1, &client, &server);
    assert_int_equal(client.error, -ELIMPET_RESET);
    assert_int_equal(net_open(client.env, &server.address, &instance, NULL, &client.session), 0);
    SIDES_UNTIL(client.closed == 2, &client, &server);
    assert_int_equal(client.error, -ELIMPET_RESET);
    assert_int_equal(client.opened, 0);
    side_destroy(&client);
    side_destroy(&server);
}

static void refuses_impossible_addresses(void **state)
{
    (void)state;
    struct side client;
    struct net_expect expect = {.name = {.type = ENTITY_MON}};
    struct net_address none = {0}, no_port = {.family = 4, .ip = {127, 0, 0, 1}};
    side_client(&client, "client.x", NULL);
    assert_int_equal(net_open(client.env, &none, &expect, NULL, &client.session), -EINVAL);
    assert_int_equal(net_open(client.env, &no_port, &expect, NULL, &client.session), -EINVAL);
    assert_int_equal(net_listen(client.env, &none, NULL), -EINVAL);
    side_destroy(&client);
}

static void says_when_an_address_is_in_use(void **state)
{
    (void)state;
    struct side server, other;
    side_server(&server, "mon.a", NULL);
    side_client(&other, "client.x", NULL);
    assert_int_equal(net_listen(other.env, &server.address, NULL), -EADDRINUSE);
    side_destroy(&other);
    side_destroy(&server);
}

static void waits_for_a_credential(void **state)
{
    (void)state;
    struct side server, client;
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    client.no_credential = true;
    side_open(&client, &server.address);
    sides_for(300, (struct side *const[]){&client, &server}, 2);
    assert_int_equal(client.opened + client.closed, 0);
    client.no_credential = false;
    SIDES_UNTIL(client.opened == 1, &client, &server);
    side_destroy(&client);
    side_destroy(&server);
}

/* What takes real time is waited for together: giving up, and the ends of several graces. */
static void gives_up_after_a_while(void **state)
{
    (void)state;
    struct side server, silent, keyless, leaver, staller;
    struct net_address via, to_silent = {.family = 4, .ip = {127, 0, 0, 1}};
    side_server(&server, "mon.a", NULL);
    side_client(&keyless, "client.keyless", NULL);
    side_client(&leaver, "client.leaver", NULL);
    side_client(&silent, "client.silent", NULL);
    side_client(&staller, "client.staller", NULL);
    /* A listener that never answers. */
    struct proxy *hole = proxy_create(&server.address, &to_silent);
    struct proxy *proxy = proxy_create(&server.address, &via);
    side_connect(&staller, &server);
    side_open(&leaver, &via);
    SIDES_UNTIL(leaver.opened == 1, &leaver, &server);
    keyless.no_credential = true;
    uint64_t begin = uv_hrtime();
    side_open(&keyless, &server.address);
    proxy_target(hole, &(struct net_address){.family = 4, .ip = {127, 0, 0, 1}, .port = 1});
    side_open(&silent, &to_silent);
    int stranger = stranger_connect(&server.address);
    side_send(&staller, NET_TEST_DATA, 1, 10, 64 << 20);
    sides_turn((struct side *const[]){&staller}, 1);
    proxy_cut(proxy);
    SIDES_UNTIL(server.disconnected == 1, &leaver, &server, &keyless, &silent);
    assert_true(server.hung_up);
    /* Leaver and staller are not driven any more: as processes that hang. */
    SIDES_UNTIL(keyless.closed == 1 && silent.closed == 1, &server, &keyless, &silent);
    assert_int_equal(keyless.error, -ETIMEDOUT);
    assert_int_equal(silent.error, -ETIMEDOUT);
    assert_true(uv_hrtime() - begin > 4 * SEC_NS);
    char byte;
    SIDES_UNTIL(recv(stranger, &byte, 1, MSG_DONTWAIT) == 0, &server);
    SIDES_UNTIL(server.closed == 1 && server.disconnected == 2, &server);
    assert_false(server.hung_up); /* The staller was given up for its silence. */
    assert_int_equal(server.error, -ETIMEDOUT);
    /* The process that stalled in the middle of a message goes on, and has lost nothing. */
    SIDES_UNTIL(server.received == 1, &server, &staller);
    close(stranger);
    side_destroy(&keyless);
    side_destroy(&silent);
    side_destroy(&leaver);
    side_destroy(&staller);
    side_destroy(&server);
    proxy_destroy(proxy);
    proxy_destroy(hole);
}

/* ---- Strangers ---- */

static void strangers_do_not_disturb(void **state)
{
    (void)state;
    enum { STRANGERS = 60 };
    struct side server, client;
    int fds[STRANGERS];
    uint8_t junk[8192];
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    side_connect(&client, &server);
    srand(7);
    for (int i = 0; i < STRANGERS; i++) {
        fds[i] = stranger_connect(&server.address);
        for (size_t j = 0; j < sizeof junk; j++)
            junk[j] = i % 3 == 0 ? 0xff : i % 3 == 1 ? 0 : (uint8_t)rand();
        (void)!send(fds[i], junk, (size_t)rand() % sizeof junk + 1, MSG_NOSIGNAL);
        side_send(&client, NET_TEST_ECHO, (unsigned)i, 10, 100);
        sides_turn((struct side *const[]){&client, &server}, 2);
    }
    SIDES_UNTIL(client.received == STRANGERS, &client, &server);
    assert_int_equal(server.opened, 1);
    for (int i = 0; i < STRANGERS; i++)
        close(fds[i]);
    side_send(&client, NET_TEST_ECHO, 1, 10, 100);
    SIDES_UNTIL(client.received == STRANGERS + 1, &client, &server);
    side_destroy(&client);
    side_destroy(&server);
}

static void silent_strangers_make_room_for_those_who_speak(void **state)
{
    (void)state;
    enum { STRANGERS = 300 };
    struct side server, client;
    static int fds[STRANGERS];
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    for (int i = 0; i < STRANGERS; i++) {
        fds[i] = stranger_connect(&server.address);
        sides_turn((struct side *const[]){&server}, 1);
    }
    side_connect(&client, &server);
    /* The oldest was dropped; the newest still has its time. */
    char byte;
    assert_int_equal(recv(fds[0], &byte, 1, 0), 0);
    assert_int_equal(recv(fds[STRANGERS - 1], &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
    for (int i = 0; i < STRANGERS; i++)
        close(fds[i]);
    side_destroy(&client);
    side_destroy(&server);
}

/* ---- Closing ---- */

static void closing_delivers_what_was_sent(void **state)
{
    (void)state;
    struct side server, client;
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    side_connect(&client, &server);
    for (unsigned i = 0; i < 200; i++)
        side_send(&client, NET_TEST_DATA, i, 100, 50000);
    net_close(client.env, client.session);
    SIDES_UNTIL(server.closed == 1, &client, &server);
    assert_int_equal(server.received, 200);
    assert_int_equal(server.error, -ECONNRESET);
    assert_int_equal(client.closed, 0);
    side_destroy(&client);
    side_destroy(&server);
}

static void destroying_a_process_closes_its_sessions(void **state)
{
    (void)state;
    struct side server, client;
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    side_connect(&client, &server);
    side_send(&client, NET_TEST_DATA, 1, 100, 50000);
    side_destroy(&client);
    SIDES_UNTIL(server.closed == 1, &server);
    assert_int_equal(server.received, 1);
    assert_int_equal(server.error, -ECONNRESET);
    side_destroy(&server);
}

static void a_session_can_be_closed_before_it_is_open(void **state)
{
    (void)state;
    struct side server, client;
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    for (int i = 0; i < 20; i++) {
        side_open(&client, &server.address);
        side_send(&client, NET_TEST_DATA, 1, 10, 10);
        for (int turns = 0; turns < i; turns++)
            sides_turn((struct side *const[]){&client, &server}, 2);
        net_close(client.env, client.session);
    }
    sides_for(50, (struct side *const[]){&client, &server}, 2);
    assert_int_equal(client.closed, 0);
    side_destroy(&client);
    side_destroy(&server);
}

static void close_now(struct side *side, struct net_session *session)
{
    net_send(side->env, session, message_create(NET_TEST_DATA, 0));
    net_close(side->env, session);
    net_send(side->env, session, message_create(NET_TEST_DATA, 0));
    net_close(side->env, session);
}

static void close_on_message(struct side *side, struct net_session *session,
                             struct message *message)
{
    (void)message;
    close_now(side, session);
}

static void sessions_can_be_closed_inside_opened(void **state)
{
    (void)state;
    struct side server, client;
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    client.on_opened = close_now;
    side_open(&client, &server.address);
    SIDES_UNTIL(server.closed == 1, &client, &server);
    assert_int_equal(server.received, 1);
    client.on_opened = NULL;
    server.on_opened = close_now;
    side_open(&client, &server.address);
    SIDES_UNTIL(client.closed == 1, &client, &server);
    assert_int_equal(client.error, -ECONNRESET);
    side_destroy(&client);
    side_destroy(&server);
}

static void sessions_can_be_closed_inside_received(void **state)
{
    (void)state;
    struct side server, client;
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    server.on_received = close_on_message;
    side_connect(&client, &server);
    for (unsigned i = 0; i < 100; i++)
        side_send(&client, NET_TEST_DATA, i, 100, i * 100);
    SIDES_UNTIL(client.closed == 1, &client, &server);
    assert_int_equal(server.received, 1);
    assert_int_equal(client.received, 1);
    side_destroy(&client);
    side_destroy(&server);
}

static struct net_session *others[3];

static void close_others(struct side *side, struct net_session *session, int error)
{
    (void)error;
    for (size_t i = 0; i < COUNT(others); i++) {
        if (others[i] != NULL && others[i] != session)
            net_close(side->env, others[i]);
        others[i] = NULL;
    }
}

static void other_sessions_can_be_closed_inside_closed(void **state)
{
    (void)state;
    struct side server, client;
    side_server(&server, "mon.a", NULL);
    struct net_address address = server.address;
    side_destroy(&server);
    side_client(&client, "client.x", NULL);
    client.on_closed = close_others;
    for (size_t i = 0; i < COUNT(others); i++) {
        side_open(&client, &address);
        others[i] = client.session;
    }
    SIDES_UNTIL(client.closed == 1, &client);
    sides_for(20, (struct side *const[]){&client}, 1);
    assert_int_equal(client.closed, 1);
    side_destroy(&client);
}

static void open_again(struct side *side, struct net_session *session, int error)
{
    (void)session;
    (void)error;
    side_open(side, &side->address);
}

static void sessions_can_be_opened_inside_closed(void **state)
{
    (void)state;
    struct side server, client;
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    client.address = server.address;
    client.on_closed = open_again;
    side_connect(&client, &server);
    net_close(server.env, server.session);
    SIDES_UNTIL(client.opened == 2, &client, &server);
    side_destroy(&client);
    side_destroy(&server);
}

/* ---- Back-pressure ---- */

static void a_paused_session_takes_nothing(void **state)
{
    (void)state;
    enum { N = 4000 };
    struct side server, client;
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    side_connect(&client, &server);
    net_pause(server.env, server.session, true);
    for (unsigned i = 0; i < N; i++)
        side_send(&client, NET_TEST_DATA, i, 100, 10000);
    sides_for(200, (struct side *const[]){&client, &server}, 2);
    assert_int_equal(server.received, 0);
    assert_true(client.session->queued_bytes > NET_QUEUE_LIMIT / 2);
    assert_int_equal(client.drained, 0);
    /* It takes nothing, and lives. */
    uint64_t now_ns = env_now(client.env);
    assert_true(net_heard_ns(client.env, client.session) >= now_ns);
    net_pause(server.env, server.session, false);
    assert_int_equal(server.received, 0);
    SIDES_UNTIL(server.received == N, &client, &server);
    assert_int_equal(client.drained, 1);
    SIDES_UNTIL(client.session->queued_bytes == 0, &client, &server);
    side_destroy(&client);
    side_destroy(&server);
}

static void pause_after_message(struct side *side, struct net_session *session,
                                struct message *message)
{
    (void)message;
    net_pause(side->env, session, true);
}

static void pausing_holds_messages_that_were_already_read(void **state)
{
    (void)state;
    struct side server, client;
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    server.on_received = pause_after_message;
    side_connect(&client, &server);
    for (unsigned i = 0; i < 20; i++)
        side_send(&client, NET_TEST_DATA, i, 10, i);
    for (unsigned i = 1; i <= 20; i++) {
        SIDES_UNTIL(server.received == i, &client, &server);
        sides_for(5, (struct side *const[]){&client, &server}, 2);
        assert_int_equal(server.received, i);
        net_pause(server.env, server.session, false);
    }
    side_destroy(&client);
    side_destroy(&server);
}

static void a_paused_session_whose_peer_has_died_is_lost(void **state)
{
    (void)state;
    struct side server, client;
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    side_connect(&client, &server);
    net_pause(server.env, server.session, true);
    side_send(&client, NET_TEST_DATA, 1, 100, 10000);
    side_destroy(&client);
    SIDES_UNTIL(server.disconnected == 1, &server);
    assert_true(server.hung_up);
    assert_int_equal(server.received, 0);
    side_destroy(&server);
}

static struct message *held[64];
static unsigned n_held;

static void hold(struct side *side, struct net_session *session, struct message *message)
{
    (void)side;
    (void)session;
    if (message->payload.len > 0)
        held[n_held++] = message_ref(message);
}

static void stops_reading_payloads_at_the_receive_limit(void **state)
{
    (void)state;
    enum { N = 20, EACH = 512 * 1024 };
    struct env_real_options options = {.mode = NET_MODE_INTEGRITY, .receive_limit = 2 << 20};
    struct side server, client;
    side_server(&server, "mon.a", &options);
    side_client(&client, "client.x", NULL);
    server.on_received = hold;
    n_held = 0;
    side_connect(&client, &server);
    for (unsigned i = 0; i < N; i++)
        side_send(&client, NET_TEST_DATA, i, 10, EACH);
    SIDES_UNTIL(server.received == 4, &client, &server);
    sides_for(50, (struct side *const[]){&client, &server}, 2);
    assert_int_equal(server.received, 4);
    /* One released lets one more in. */
    for (unsigned i = 0; i < N; i++) {
        SIDES_UNTIL(n_held > i, &client, &server);
        message_unref(held[i]);
    }
    SIDES_UNTIL(server.received == N, &client, &server);
    side_destroy(&client);
    side_destroy(&server);
}

static void a_message_larger_than_the_limit_gets_through(void **state)
{
    (void)state;
    struct env_real_options options = {.mode = NET_MODE_INTEGRITY, .receive_limit = 4096};
    struct side server, client;
    side_server(&server, "mon.a", &options);
    side_client(&client, "client.x", NULL);
    side_connect(&client, &server);
    for (unsigned i = 0; i < 5; i++)
        side_send(&client, NET_TEST_ECHO, i, 10, 1 << 20);
    SIDES_UNTIL(client.received == 5, &client, &server);
    side_destroy(&client);
    side_destroy(&server);
}

static void daemons_get_through_when_clients_have_used_the_limit_up(void **state)
{
    (void)state;
    struct env_real_options options = {.mode = NET_MODE_INTEGRITY, .receive_limit = 1 << 20};
    struct side server, client, osd;
    side_server(&server, "mon.a", &options);
    side_client(&client, "client.x", NULL);
    side_client(&osd, "osd.1", NULL);
    server.on_received = hold;
    n_held = 0;
    side_connect(&client, &server);
    side_connect(&osd, &server);
    for (unsigned i = 0; i < 4; i++)
        side_send(&client, NET_TEST_DATA, i, 10, 1 << 20);
    SIDES_UNTIL(n_held == 1, &client, &server);
    side_send(&osd, NET_TEST_DATA, 9, 10, 1 << 20);
    SIDES_UNTIL(n_held == 2, &client, &osd, &server);
    /* And what has no payload always does. */
    side_send(&osd, NET_TEST_DATA, 9, 10, 0);
    SIDES_UNTIL(server.received == 3, &client, &osd, &server);
    while (server.received < 6) {
        if (n_held > 0)
            message_unref(held[--n_held]);
        sides_turn((struct side *const[]){&client, &osd, &server}, 3);
    }
    while (n_held > 0)
        message_unref(held[--n_held]);
    side_destroy(&client);
    side_destroy(&osd);
    side_destroy(&server);
}

static void payloads_may_outlive_their_world(void **state)
{
    (void)state;
    struct side server, client;
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    server.on_received = hold;
    n_held = 0;
    side_connect(&client, &server);
    side_send(&client, NET_TEST_DATA, 1, 10, 100);
    side_send(&client, NET_TEST_DATA, 2, 10, 10000);
    SIDES_UNTIL(n_held == 2, &client, &server);
    side_destroy(&client);
    side_destroy(&server);
    assert_int_equal(held[1]->payload.data[0], 14);
    assert_int_equal((uintptr_t)held[1]->payload.data % BUF_ALIGNMENT, 0);
    message_unref(held[0]);
    message_unref(held[1]);
}

static void a_sender_that_ignores_back_pressure_loses_its_session(void **state)
{
    (void)state;
    struct side server, client;
    struct buf_slice payload;
    side_server(&server, "mon.a", NULL);
    side_client(&client, "client.x", NULL);
    side_connect(&client, &server);
    net_pause(server.env, server.session, true);
    assert_int_equal(buf_slice_alloc(32 << 20, &payload), 0);
    memset(payload.data, 1, payload.len);
    for (unsigned i = 0; i < 10; i++) {
        struct message *m = message_create(NET_TEST_DATA, 0);
        assert_non_null(m);
        m->payload = buf_slice_ref(payload);
        net_send(client.env, client.session, m);
    }
    assert_int_equal(client.closed, 0);
    SIDES_UNTIL(client.closed == 1, &client, &server);
    assert_int_equal(client.error, -ETIMEDOUT);
    assert_int_equal(payload.buf->refs, 1);
    buf_slice_drop(&payload);
    side_destroy(&client);
    side_destroy(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(echoes_messages_in_order),
        cmocka_unit_test(echoes_encrypted_messages_in_order),
        cmocka_unit_test(carries_a_hundred_thousand_small_messages),
        cmocka_unit_test(carries_the_largest_message),
        cmocka_unit_test(messages_may_be_sent_before_the_session_is_open),
        cmocka_unit_test(tells_who_the_peer_is),
        cmocka_unit_test(acknowledgements_empty_the_queue_when_nothing_is_sent_back),
        cmocka_unit_test(every_message_arrives_once_and_in_order_however_connections_break),
        cmocka_unit_test(a_large_payload_survives_a_break_in_its_middle),
        cmocka_unit_test(a_payload_is_received_in_lent_memory),
        cmocka_unit_test(revoked_memory_is_left_alone_and_the_message_comes_again),
        cmocka_unit_test(payloads_are_passed_on_as_they_came_however_connections_break),
        cmocka_unit_test(a_peer_that_restarted_resets_the_session),
        cmocka_unit_test(a_session_that_the_acceptor_closed_while_it_was_broken_is_reset),
        cmocka_unit_test(is_told_at_once_that_nobody_listens),
        cmocka_unit_test(is_told_when_the_listener_of_a_broken_session_is_gone),
        cmocka_unit_test(refuses_a_wrong_key),
        cmocka_unit_test(refuses_an_unknown_name),
        cmocka_unit_test(refuses_another_peer_than_expected),
        cmocka_unit_test(refuses_impossible_addresses),
        cmocka_unit_test(says_when_an_address_is_in_use),
        cmocka_unit_test(waits_for_a_credential),
        cmocka_unit_test(gives_up_after_a_while),
        cmocka_unit_test(strangers_do_not_disturb),
        cmocka_unit_test(silent_strangers_make_room_for_those_who_speak),
        cmocka_unit_test(closing_delivers_what_was_sent),
        cmocka_unit_test(destroying_a_process_closes_its_sessions),
        cmocka_unit_test(a_session_can_be_closed_before_it_is_open),
        cmocka_unit_test(sessions_can_be_closed_inside_opened),
        cmocka_unit_test(sessions_can_be_closed_inside_received),
        cmocka_unit_test(other_sessions_can_be_closed_inside_closed),
        cmocka_unit_test(sessions_can_be_opened_inside_closed),
        cmocka_unit_test(a_paused_session_takes_nothing),
        cmocka_unit_test(a_paused_session_whose_peer_has_died_is_lost),
        cmocka_unit_test(pausing_holds_messages_that_were_already_read),
        cmocka_unit_test(stops_reading_payloads_at_the_receive_limit),
        cmocka_unit_test(a_message_larger_than_the_limit_gets_through),
        cmocka_unit_test(daemons_get_through_when_clients_have_used_the_limit_up),
        cmocka_unit_test(payloads_may_outlive_their_world),
        cmocka_unit_test(a_sender_that_ignores_back_pressure_loses_its_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
