/*
 * The OSD process in a made-up world: a test plays the monitors, the other OSDs and the clients.
 * Time stands still until a test moves it.
 */
#include "tests/lib/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/limpet.pb-c.h"
#include "common/timer_heap.h"
#include "osd/ops/ops.h"
#include "osd/osd.h"
#include "placement/hash.h"

enum { SESSIONS_MAX = 64, SENT_MAX = 4096, SELF = 0, OTHER = 1, POOL = 1, CLIENT_INSTANCE = 500 };
#define DISK_BYTES (UINT64_C(1) << 30)

struct fake_session {
    struct net_session base;
    struct net_address to;
    bool used, over, paused;
    uint32_t n_sent;
    struct message *sent[SENT_MAX];
};

static struct fake {
    struct env env;
    uint64_t now_ns;
    uint64_t random;
    struct timer_heap timers;
    const struct net_handlers *handlers;
    void *ctx;
    struct fake_session sessions[SESSIONS_MAX];
    struct store_memory_disk *disk;
    struct store *store;
    struct osd *osd;
    struct cluster_map *map; /* The monitors'. */
    struct auth_secret secret;
    int fatal;
    bool stopped;
} fake;

static void must(int rc)
{
    if (rc != 0)
        fail_msg("setting up failed: %d", rc);
}

/* ---- The env ---- */

static uint64_t now_ns(struct env *env)
{
    (void)env;
    return fake.now_ns;
}

static void take_random(struct env *env, void *out, size_t len)
{
    (void)env;
    for (size_t i = 0; i < len; i++) {
        fake.random = fake.random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        ((uint8_t *)out)[i] = (uint8_t)(fake.random >> 33);
    }
}

static void timer_arm(struct env *env, struct env_timer *timer, uint64_t deadline_ns)
{
    (void)env;
    timer_heap_arm(&fake.timers, timer, deadline_ns);
}

static void timer_stop(struct env *env, struct env_timer *timer)
{
    (void)env;
    timer_heap_stop(&fake.timers, timer);
}

static void take_handlers(struct env *env, const struct net_handlers *handlers, void *ctx)
{
    (void)env;
    fake.handlers = handlers;
    fake.ctx = ctx;
}

static int take_listen(struct env *env, const struct net_address *want, struct net_address *bound)
{
    (void)env;
    *bound = *want;
    bound->port = 6800;
    return 0;
}

static struct fake_session *new_session(void)
{
    for (int i = 0; i < SESSIONS_MAX; i++) {
        if (fake.sessions[i].used)
            continue;
        fake.sessions[i].used = true;
        return &fake.sessions[i];
    }
    fail_msg("too many sessions");
    return NULL;
}

static int take_open(struct env *env, const struct net_address *to, const struct net_expect *expect,
                     void *user, struct net_session **out)
{
    (void)env;
    struct fake_session *session = new_session();
    session->base.user = user;
    session->base.outbound = true;
    session->base.peer.name = expect->name;
    session->base.peer.instance = expect->instance;
    session->to = *to;
    *out = &session->base;
    return 0;
}

static void take_send(struct env *env, struct net_session *base, struct message *message)
{
    (void)env;
    struct fake_session *session = (struct fake_session *)base;
    assert_false(session->over);
    assert_true(session->n_sent < SENT_MAX);
    session->sent[session->n_sent++] = message;
}

static void take_close(struct env *env, struct net_session *base)
{
    (void)env;
    ((struct fake_session *)base)->over = true;
}

static void take_pause(struct env *env, struct net_session *base, bool paused)
{
    (void)env;
    ((struct fake_session *)base)->paused = paused;
}

static void drop_log(struct env *env, int level, const char *line)
{
    (void)env;
    (void)level;
    (void)line;
}

static const struct env_ops env_table = {
    .now_ns = now_ns,
    .clock_ns = now_ns,
    .wall_ns = now_ns,
    .random = take_random,
    .timer_arm = timer_arm,
    .timer_stop = timer_stop,
    .net_handlers = take_handlers,
    .net_listen = take_listen,
    .net_open = take_open,
    .net_send = take_send,
    .net_close = take_close,
    .net_pause = take_pause,
    .log = drop_log,
};

/* Fires what falls due within this time. */
static void advance(uint64_t ns)
{
    uint64_t until = fake.now_ns + ns;
    for (;;) {
        struct env_timer *timer = timer_heap_first(&fake.timers);
        if (!timer || timer->deadline_ns > until)
            break;
        if (timer->deadline_ns > fake.now_ns)
            fake.now_ns = timer->deadline_ns;
        timer = timer_heap_pop(&fake.timers, fake.now_ns, UINT64_MAX);
        timer->fire(timer);
    }
    fake.now_ns = until;
}

/* ---- Sessions ---- */

static struct fake_session *session_to(uint16_t port)
{
    for (int i = SESSIONS_MAX; i-- > 0;) {
        struct fake_session *session = &fake.sessions[i];
        if (session->used && !session->over && session->base.outbound && session->to.port == port)
            return session;
    }
    return NULL;
}

static struct fake_session *mon_session(void)
{
    for (uint16_t port = 3300; port < 3303; port++)
        if (session_to(port))
            return session_to(port);
    return NULL;
}

static void opened(struct fake_session *session)
{
    session->base.open = true;
    fake.handlers->opened(fake.ctx, &session->base);
}

static void closed(struct fake_session *session, int error)
{
    session->over = true;
    fake.handlers->closed(fake.ctx, &session->base, error);
}

static void receive(struct fake_session *session, struct message *message)
{
    assert_non_null(message);
    fake.handlers->received(fake.ctx, &session->base, message);
    message_unref(message);
}

static void receive_proto(struct fake_session *session, uint16_t type,
                          const ProtobufCMessage *proto)
{
    receive(session, message_pack(type, proto));
}

static uint32_t count_sent(const struct fake_session *session, uint16_t type)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < session->n_sent; i++)
        n += session->sent[i]->type == type;
    return n;
}

static const struct message *last_sent(const struct fake_session *session, uint16_t type)
{
    for (uint32_t i = session->n_sent; i-- > 0;)
        if (session->sent[i]->type == type)
            return session->sent[i];
    return NULL;
}

static struct fake_session *guest_process(enum entity_type type, const char *id, const char *caps,
                                          uint64_t instance)
{
    struct fake_session *session = new_session();
    session->base.peer.name.type = (uint8_t)type;
    strcpy(session->base.peer.name.id, id);
    session->base.peer.instance = instance;
    must(caps_parse(caps, &session->base.peer.caps));
    opened(session);
    return session;
}

static struct fake_session *guest(enum entity_type type, const char *id, const char *caps)
{
    return guest_process(type, id, caps, CLIENT_INSTANCE);
}

/* ---- The monitors ---- */

static struct map_osd osd_value(int32_t id, uint64_t instance, uint64_t epoch)
{
    struct map_osd osd = {.exists = true, .up = true, .weight = MAP_WEIGHT_ONE};
    osd.uuid.bytes[0] = (uint8_t)(id + 1);
    osd.address = (struct net_address){.family = 4, .ip = {127, 0, 0, 1}};
    osd.address.port = (uint16_t)(6800 + id);
    osd.instance = instance;
    osd.up_from = epoch;
    return osd;
}

static void make_map(void)
{
    struct map_increment *inc = map_increment_create(1);
    struct crush_map *crush = crush_create();
    struct uuid fsid = {.bytes = {9}};
    int32_t root;
    uint32_t rule;
    fake.map = map_create();
    must(crush_add_bucket(crush, (uint16_t)crush_type_by_name(crush, "root"), "default", &root));
    for (int32_t id = 0; id < 2; id++)
        must(crush_insert(crush, root, id, MAP_WEIGHT_ONE));
    must(crush_add_simple_rule(crush, "rule", "default", "osd", false, &rule));
    must(map_increment_set_fsid(inc, &fsid));
    must(map_increment_set_crush(inc, crush));
    crush_destroy(crush);
    struct map_osd other = osd_value(OTHER, 77, 1);
    must(map_increment_set_osd(inc, OTHER, &other));
    struct map_pool pool = {.id = POOL,
                            .name = "data",
                            .type = POOL_REPLICATED,
                            .size = 2,
                            .min_size = 1,
                            .pg_num = 4,
                            .crush_rule = rule,
                            .created = 1,
                            .config_base = 1};
    must(map_increment_set_pool(inc, &pool));
    must(map_apply(fake.map, inc));
    map_increment_destroy(inc);
}

static void send_full_map(struct fake_session *mon)
{
    Limpet__Wire__MonMap map = LIMPET__WIRE__MON_MAP__INIT;
    struct encoder e;
    encoder_init(&e);
    must(map_encode(fake.map, &e));
    map.fsid = (ProtobufCBinaryData){16, fake.map->fsid.bytes};
    map.first_epoch = map.last_epoch = fake.map->epoch;
    map.has_full = true;
    map.full = true;
    struct message *message = message_pack(MSG_MON_MAP, &map.base);
    must(buf_slice_copy(e.data, e.len, &message->payload));
    encoder_fini(&e);
    receive(mon, message);
}

/* An increment to the monitors' map, and to ours. */
static void change(struct map_increment *inc)
{
    Limpet__Wire__MonMap map = LIMPET__WIRE__MON_MAP__INIT;
    struct encoder e;
    encoder_init(&e);
    must(map_increment_encode(inc, &e));
    must(map_apply(fake.map, inc));
    map_increment_destroy(inc);
    ProtobufCBinaryData data = {e.len, e.data};
    map.fsid = (ProtobufCBinaryData){16, fake.map->fsid.bytes};
    map.first_epoch = map.last_epoch = fake.map->epoch;
    map.n_increments = 1;
    map.increments = &data;
    struct fake_session *mon = mon_session();
    assert_non_null(mon);
    receive_proto(mon, MSG_MON_MAP, &map.base);
    encoder_fini(&e);
}

static void change_osd(int32_t id, const struct map_osd *osd)
{
    struct map_increment *inc = map_increment_create(fake.map->epoch + 1);
    must(map_increment_set_osd(inc, id, osd));
    change(inc);
}

static void send_ticket(struct fake_session *mon)
{
    const struct message *asked = last_sent(mon, MSG_MON_GET_TICKET);
    assert_non_null(asked);
    Limpet__Wire__MonGetTicket *get = (Limpet__Wire__MonGetTicket *)message_unpack(
        asked, &limpet__wire__mon_get_ticket__descriptor);
    assert_true(get->want_service_keys);
    Limpet__Wire__MonTicket ticket = LIMPET__WIRE__MON_TICKET__INIT;
    Limpet__Wire__ServiceKey key = LIMPET__WIRE__SERVICE_KEY__INIT;
    Limpet__Wire__ServiceKey *keys[] = {&key};
    uint8_t plain[32] = {1, 2, 3}, sealed_secret[128], sealed_key[128], blob[40] = {4};
    int len = auth_seal(&fake.secret, plain, sizeof plain, sealed_secret, sizeof sealed_secret);
    assert_true(len > 0);
    ticket.tid = get->tid;
    ticket.has_ticket = ticket.has_sealed_secret = ticket.has_valid_seconds = true;
    ticket.ticket = (ProtobufCBinaryData){sizeof blob, blob};
    ticket.sealed_secret = (ProtobufCBinaryData){(size_t)len, sealed_secret};
    ticket.valid_seconds = 3600;
    len = auth_seal(&fake.secret, plain, sizeof plain, sealed_key, sizeof sealed_key);
    key.id = 42;
    key.sealed = (ProtobufCBinaryData){(size_t)len, sealed_key};
    ticket.n_service_keys = 1;
    ticket.service_keys = keys;
    limpet__wire__mon_get_ticket__free_unpacked(get, NULL);
    receive_proto(mon, MSG_MON_TICKET, &ticket.base);
}

/* A monitor answers all that it was asked. */
static struct fake_session *serve_mon(void)
{
    struct fake_session *mon = mon_session();
    assert_non_null(mon);
    opened(mon);
    assert_int_equal(count_sent(mon, MSG_MON_SUBSCRIBE), 1);
    send_full_map(mon);
    send_ticket(mon);
    return mon;
}

static void show_up(void)
{
    struct map_osd self = osd_value(SELF, fake.env.instance, fake.map->epoch + 1);
    change_osd(SELF, &self);
}

/* ---- The process ---- */

static void note_fatal(void *ctx, int error, const char *why)
{
    (void)ctx;
    (void)why;
    fake.fatal = error;
}

static void note_stopped(void *ctx)
{
    (void)ctx;
    fake.stopped = true;
    fake.osd = NULL;
}

static int set_up(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof fake);
    fake.env.ops = &env_table;
    fake.env.instance = 1000;
    fake.now_ns = 100 * SEC_NS;
    fake.random = 1;
    timer_heap_init(&fake.timers);
    make_map();
    must(auth_secret_generate(&fake.secret));
    fake.disk = store_memory_disk_create(DISK_BYTES);
    assert_non_null(fake.disk);
    must(store_memory_open(&fake.env, fake.disk, 100000, &fake.store));
    struct osd_options options = {
        .id = SELF,
        .uuid = {.bytes = {1}},
        .fsid = {.bytes = {9}},
        .secret = fake.secret,
        .n_mons = 3,
        .fatal = note_fatal,
    };
    for (uint32_t i = 0; i < 3; i++) {
        options.mons[i] = (struct net_address){.family = 4, .ip = {127, 0, 0, 1}};
        options.mons[i].port = (uint16_t)(3300 + i);
    }
    options.listen = (struct net_address){.family = 4, .ip = {127, 0, 0, 1}};
    must(osd_create(&fake.env, &options, fake.store, &fake.osd));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (fake.osd) {
        store_memory_crash(fake.store);
        osd_abandon(fake.osd);
    }
    for (int i = 0; i < SESSIONS_MAX; i++)
        for (uint32_t k = 0; k < fake.sessions[i].n_sent; k++)
            message_unref(fake.sessions[i].sent[k]);
    store_memory_disk_destroy(fake.disk);
    map_destroy(fake.map);
    timer_heap_fini(&fake.timers);
    return 0;
}

/* ---- Starting ---- */

static void says_that_it_is_here_until_the_map_shows_it(void **state)
{
    (void)state;
    struct fake_session *mon = serve_mon();
    assert_int_equal(count_sent(mon, MSG_OSD_BOOT), 1);
    Limpet__Wire__OsdBoot *boot = (Limpet__Wire__OsdBoot *)message_unpack(
        last_sent(mon, MSG_OSD_BOOT), &limpet__wire__osd_boot__descriptor);
    assert_int_equal(boot->id, SELF);
    assert_int_equal(boot->instance, fake.env.instance);
    assert_int_equal(boot->address->port, 6800);
    assert_int_equal(boot->bytes_total, DISK_BYTES);
    limpet__wire__osd_boot__free_unpacked(boot, NULL);
    advance(3 * SEC_NS);
    uint32_t said = count_sent(mon, MSG_OSD_BOOT);
    assert_true(said >= 3);
    show_up();
    advance(3 * SEC_NS);
    assert_int_equal(count_sent(mon, MSG_OSD_BOOT), said);
    assert_true(count_sent(mon, MSG_OSD_STATS) > 0);
}

static void does_not_boot_without_keys(void **state)
{
    (void)state;
    struct fake_session *mon = mon_session();
    opened(mon);
    send_full_map(mon);
    assert_int_equal(count_sent(mon, MSG_OSD_BOOT), 0);
    send_ticket(mon);
    assert_int_equal(count_sent(mon, MSG_OSD_BOOT), 1);
    uint8_t key[32];
    const struct auth_provider *auth = osd_auth(fake.osd);
    assert_int_equal(auth->service_key(auth->ctx, 42, key), 0);
    assert_int_equal(auth->service_key(auth->ctx, 43, key), -ENOENT);
}

static void tries_one_monitor_after_the_other(void **state)
{
    (void)state;
    bool seen[3] = {false};
    for (int i = 0; i < 12; i++) {
        struct fake_session *mon = mon_session();
        if (mon) {
            seen[mon->to.port - 3300] = true;
            closed(mon, -ECONNREFUSED);
        }
        advance(SEC_NS);
    }
    assert_true(seen[0] && seen[1] && seen[2]);
}

static void leaves_a_silent_monitor(void **state)
{
    (void)state;
    struct fake_session *mon = serve_mon();
    show_up();
    uint16_t port = mon->to.port;
    advance(8 * SEC_NS);
    assert_true(mon->over);
    assert_int_not_equal(mon_session()->to.port, port);
}

static void deny_number(struct fake_session *mon)
{
    Limpet__Wire__MonCommandReply reply = LIMPET__WIRE__MON_COMMAND_REPLY__INIT;
    reply.result = -EEXIST;
    receive_proto(mon, MSG_MON_COMMAND_REPLY, &reply.base);
}

/* A monitor that lags behind may have a map from before the number was given to this store. */
static void believes_the_leader_that_its_number_is_of_another_store(void **state)
{
    (void)state;
    struct fake_session *mon = serve_mon();
    struct map_osd self = osd_value(SELF, 4711, fake.map->epoch + 1);
    self.uuid.bytes[0] = 99;
    change_osd(SELF, &self);
    assert_int_equal(fake.fatal, 0);
    assert_true(count_sent(mon, MSG_OSD_BOOT) >= 1);
    deny_number(mon);
    advance(2 * SEC_NS);
    deny_number(mon);
    assert_int_equal(fake.fatal, 0);
    advance(2 * SEC_NS);
    deny_number(mon);
    assert_int_equal(fake.fatal, -EEXIST);
}

static void lives_when_the_number_is_its_own_in_a_newer_map(void **state)
{
    (void)state;
    struct fake_session *mon = serve_mon();
    struct map_osd self = osd_value(SELF, 4711, fake.map->epoch + 1);
    self.uuid.bytes[0] = 99;
    change_osd(SELF, &self);
    deny_number(mon);
    advance(2 * SEC_NS);
    show_up();
    advance(2 * SEC_NS);
    deny_number(mon);
    assert_int_equal(fake.fatal, 0);
}

static void gives_up_when_its_number_goes_to_another_store(void **state)
{
    (void)state;
    serve_mon();
    show_up();
    struct map_osd self = osd_value(SELF, 4711, fake.map->epoch + 1);
    self.uuid.bytes[0] = 99;
    change_osd(SELF, &self);
    assert_int_equal(fake.fatal, -EEXIST);
}

static void a_late_message_of_an_earlier_process_is_no_rival(void **state)
{
    (void)state;
    struct fake_session *mon = serve_mon();
    show_up();
    struct map_osd earlier = osd_value(SELF, 999, fake.map->epoch + 1);
    uint32_t said = count_sent(mon, MSG_OSD_BOOT);
    change_osd(SELF, &earlier);
    assert_int_equal(fake.fatal, 0);
    assert_int_equal(count_sent(mon, MSG_OSD_BOOT), said + 1);
    /* But one that comes back again and again is. */
    for (int i = 0; i < 4; i++) {
        show_up();
        earlier.up_from = fake.map->epoch + 1;
        change_osd(SELF, &earlier);
    }
    assert_int_equal(fake.fatal, -EEXIST);
}

static void boots_again_when_the_map_takes_it_for_down(void **state)
{
    (void)state;
    struct fake_session *mon = serve_mon();
    show_up();
    struct map_osd down = osd_value(SELF, fake.env.instance, 2);
    uint32_t said = count_sent(mon, MSG_OSD_BOOT);
    down.up = false;
    change_osd(SELF, &down);
    assert_int_equal(count_sent(mon, MSG_OSD_BOOT), said + 1);
}

/* ---- Peers ---- */

static const struct message *failure(struct fake_session *mon, Limpet__Wire__OsdFailure__Kind kind)
{
    const struct message *message = last_sent(mon, MSG_OSD_FAILURE);
    if (!message)
        return NULL;
    Limpet__Wire__OsdFailure *f =
        (Limpet__Wire__OsdFailure *)message_unpack(message, &limpet__wire__osd_failure__descriptor);
    bool fits = f->kind == kind && f->id == OTHER && f->instance == 77;
    limpet__wire__osd_failure__free_unpacked(f, NULL);
    return fits ? message : NULL;
}

static struct fake_session *peer_session(void)
{
    return session_to(6800 + OTHER);
}

/* Monitors and the peer answer pings, for as long as told. */
static void live(uint64_t ns, bool peer_answers)
{
    static const struct wire_ping ping;
    for (uint64_t t = 0; t < ns; t += 100 * MSEC_NS) {
        advance(100 * MSEC_NS);
        struct fake_session *answering[] = {mon_session(), peer_answers ? peer_session() : NULL};
        for (int i = 0; i < 2; i++) {
            if (!answering[i] || !answering[i]->base.open)
                continue;
            struct message *reply = message_create(MSG_PING_REPLY, sizeof ping);
            memcpy(reply->body, &ping, sizeof ping);
            receive(answering[i], reply);
        }
    }
}

static void reports_a_refused_connection_at_once(void **state)
{
    (void)state;
    struct fake_session *mon = serve_mon();
    show_up();
    live(SEC_NS, false);
    assert_non_null(peer_session());
    assert_null(last_sent(mon, MSG_OSD_FAILURE));
    closed(peer_session(), -ECONNREFUSED);
    assert_non_null(failure(mon, LIMPET__WIRE__OSD_FAILURE__KIND__REFUSED));
    /* And again, until the map shows it. */
    uint32_t n = count_sent(mon, MSG_OSD_FAILURE);
    live(3 * SEC_NS, false);
    assert_true(count_sent(mon, MSG_OSD_FAILURE) >= n + 2);
    struct map_osd down = osd_value(OTHER, 77, 1);
    down.up = false;
    change_osd(OTHER, &down);
    n = count_sent(mon, MSG_OSD_FAILURE);
    live(3 * SEC_NS, false);
    assert_int_equal(count_sent(mon, MSG_OSD_FAILURE), n);
}

static void reports_silence_after_the_grace_period(void **state)
{
    (void)state;
    struct fake_session *mon = serve_mon();
    show_up();
    live(SEC_NS, true);
    opened(peer_session());
    live(3 * SEC_NS, true);
    assert_null(last_sent(mon, MSG_OSD_FAILURE));
    live(1500 * MSEC_NS, false);
    assert_null(last_sent(mon, MSG_OSD_FAILURE));
    live(1500 * MSEC_NS, false);
    assert_non_null(failure(mon, LIMPET__WIRE__OSD_FAILURE__KIND__SILENT));
}

static void blames_nobody_when_it_slept_itself(void **state)
{
    (void)state;
    struct fake_session *mon = serve_mon();
    show_up();
    live(SEC_NS, true);
    opened(peer_session());
    live(SEC_NS, true);
    fake.now_ns += 30 * SEC_NS;
    live(SEC_NS, true);
    assert_null(last_sent(mon, MSG_OSD_FAILURE));
    assert_false(mon->over);
}

static void an_osd_has_one_session_with_us(void **state)
{
    (void)state;
    serve_mon();
    show_up();
    struct fake_session *first = guest(ENTITY_OSD, "1", "allow *");
    struct fake_session *client = guest(ENTITY_CLIENT, "1", "allow *");
    struct fake_session *second = guest_process(ENTITY_OSD, "1", "allow *", CLIENT_INSTANCE + 1);
    assert_true(first->over);
    assert_false(second->over || client->over);
}

static void a_clients_process_has_one_session_with_us(void **state)
{
    (void)state;
    serve_mon();
    show_up();
    struct fake_session *first = guest(ENTITY_CLIENT, "a", "allow *");
    struct fake_session *other = guest_process(ENTITY_CLIENT, "a", "allow *", CLIENT_INSTANCE + 1);
    assert_false(first->over);
    struct fake_session *second = guest(ENTITY_CLIENT, "a", "allow *");
    assert_true(first->over);
    assert_false(second->over || other->over);
}

/* ---- Clients ---- */

static bool code_writes(uint16_t code)
{
    return code == WIRE_OP_CODE_CREATE || code == WIRE_OP_CODE_HINT || code == WIRE_OP_CODE_REMOVE;
}

/* Of one step, or of two: 0 is none. */
static struct message *request_of_two(const char *name, uint64_t epoch, uint16_t code,
                                      uint16_t other, uint64_t tid)
{
    struct object_id id = {
        .pool = POOL,
        .hash = hash_object("", 0, name, strlen(name)),
        .space = (const uint8_t *)"",
        .name_len = (uint16_t)strlen(name),
        .name = (const uint8_t *)name,
        .snap = OBJECT_HEAD,
    };
    struct wire_osd_op head = {
        .client = CLIENT_INSTANCE,
        .tid = tid,
        .epoch = epoch,
        .pool = POOL,
        .pg_seed = map_object_pg(map_pool(fake.map, POOL), id.hash).seed,
        .n_ops = other ? 2 : 1,
    };
    const struct wire_op steps[] = {{.code = code}, {.code = other}};
    struct encoder e;
    if (code_writes(code) || code_writes(other))
        head.flags = WIRE_OP_WRITE;
    encoder_init(&e);
    encode_bytes(&e, &head, sizeof head);
    encode_object_id(&e, &id);
    encode_bytes(&e, steps, head.n_ops * sizeof steps[0]);
    struct message *message = message_create(MSG_OSD_OP, e.len);
    memcpy(message->body, e.data, e.len);
    encoder_fini(&e);
    return message;
}

static struct message *request(const char *name, uint64_t epoch, uint16_t code, uint64_t tid)
{
    return request_of_two(name, epoch, code, 0, tid);
}

static int result_of(const struct fake_session *client, uint32_t replies)
{
    struct wire_osd_op_reply reply;
    assert_int_equal(count_sent(client, MSG_OSD_OP_REPLY), replies);
    memcpy(&reply, last_sent(client, MSG_OSD_OP_REPLY)->body, sizeof reply);
    return reply.result;
}

/* The other OSD is down, and this one is alone in every set. */
static void serve_alone(void)
{
    serve_mon();
    show_up();
    struct map_increment *inc = map_increment_create(fake.map->epoch + 1);
    struct map_osd gone = osd_value(OTHER, 77, 1);
    gone.up = false;
    must(map_increment_set_osd(inc, OTHER, &gone));
    for (uint32_t seed = 0; seed < map_pool(fake.map, POOL)->pg_num; seed++) {
        struct map_pg entry = {.pg = {.pool = POOL, .seed = seed},
                               .config = map_increment_epoch(inc),
                               .n = 1,
                               .members = {SELF}};
        must(map_increment_set_pg(inc, &entry));
    }
    change(inc);
}

static void serves_a_request_when_it_may(void **state)
{
    (void)state;
    serve_alone();
    live(SEC_NS, false);
    struct fake_session *client = guest(ENTITY_CLIENT, "a", "allow rw pool=data");
    receive(client, request("x", fake.map->epoch, WIRE_OP_CODE_CREATE, 1));
    live(SEC_NS, false);
    assert_int_equal(result_of(client, 1), 0);
    receive(client, request("x", fake.map->epoch, WIRE_OP_CODE_STAT, 2));
    live(SEC_NS, false);
    assert_int_equal(result_of(client, 2), 0);
    receive(client, request("y", fake.map->epoch, WIRE_OP_CODE_STAT, 3));
    live(SEC_NS, false);
    assert_int_equal(result_of(client, 3), -ENOENT);
}

static void refuses_what_capabilities_do_not_allow(void **state)
{
    (void)state;
    serve_alone();
    live(SEC_NS, false);
    struct fake_session *reader = guest(ENTITY_CLIENT, "a", "allow r");
    struct fake_session *stranger = guest(ENTITY_CLIENT, "b", "allow rw pool=other");
    receive(reader, request("x", fake.map->epoch, WIRE_OP_CODE_CREATE, 1));
    assert_int_equal(result_of(reader, 1), -EACCES);
    receive(reader, request("x", fake.map->epoch, WIRE_OP_CODE_STAT, 2));
    live(SEC_NS, false);
    assert_int_equal(result_of(reader, 2), -ENOENT);
    receive(stranger, request("x", fake.map->epoch, WIRE_OP_CODE_STAT, 1));
    assert_int_equal(result_of(stranger, 1), -EACCES);
}

static void refuses_requests_in_anothers_name(void **state)
{
    (void)state;
    serve_alone();
    live(SEC_NS, false);
    struct fake_session *client = guest(ENTITY_CLIENT, "a", "allow *");
    client->base.peer.instance = CLIENT_INSTANCE + 1;
    receive(client, request("x", fake.map->epoch, WIRE_OP_CODE_CREATE, 1));
    assert_int_equal(result_of(client, 1), -EPERM);
}

static void sends_clients_away_when_it_is_not_primary(void **state)
{
    (void)state;
    serve_mon();
    struct fake_session *client = guest(ENTITY_CLIENT, "a", "allow *");
    receive(client, request("x", fake.map->epoch, WIRE_OP_CODE_STAT, 1));
    assert_int_equal(result_of(client, 1), -ELIMPET_NOT_PRIMARY);
}

static void a_request_of_a_newer_map_waits_for_it(void **state)
{
    (void)state;
    serve_alone();
    live(SEC_NS, false);
    struct fake_session *client = guest(ENTITY_CLIENT, "a", "allow *");
    receive(client, request("x", fake.map->epoch + 1, WIRE_OP_CODE_STAT, 1));
    live(500 * MSEC_NS, false);
    assert_null(last_sent(client, MSG_OSD_OP_REPLY));
    struct map_osd gone = osd_value(OTHER, 78, 1);
    gone.up = false;
    gone.weight = 0;
    change_osd(OTHER, &gone);
    live(SEC_NS, false);
    assert_int_equal(result_of(client, 1), -ENOENT);
}

/* What the last statistics say of requests that take too long. */
static void assert_slow(const struct fake_session *mon, uint32_t n, const char *waits)
{
    const struct message *message = last_sent(mon, MSG_OSD_STATS);
    assert_non_null(message);
    Limpet__Wire__OsdStats *stats =
        (Limpet__Wire__OsdStats *)message_unpack(message, &limpet__wire__osd_stats__descriptor);
    assert_int_equal(stats->slow_ops, n);
    if (n > 0) {
        assert_true(stats->slowest_ms >= 30000 && stats->slowest_ms < 60000);
        assert_string_equal(stats->slowest_waits, waits);
    }
    limpet__wire__osd_stats__free_unpacked(stats, NULL);
}

static void change_flags(uint32_t flags)
{
    struct map_increment *inc = map_increment_create(fake.map->epoch + 1);
    must(map_increment_set_flags(inc, flags));
    change(inc);
}

static void tells_of_requests_that_take_too_long(void **state)
{
    (void)state;
    serve_alone();
    live(SEC_NS, false);
    struct fake_session *client = guest(ENTITY_CLIENT, "a", "allow *");
    change_flags(MAP_PAUSE);
    receive(client, request("x", fake.map->epoch, WIRE_OP_CODE_STAT, 1));
    live(20 * SEC_NS, false);
    assert_slow(mon_session(), 0, NULL);
    receive(client, request("y", fake.map->epoch, WIRE_OP_CODE_STAT, 2));
    live(18 * SEC_NS, false);
    assert_slow(mon_session(), 1, "for the flag 'pause' to be unset");
    live(17 * SEC_NS, false);
    assert_slow(mon_session(), 2, "for the flag 'pause' to be unset");
    change_flags(0);
    live(6 * SEC_NS, false);
    assert_int_equal(count_sent(client, MSG_OSD_OP_REPLY), 2);
    assert_slow(mon_session(), 0, NULL);
}

static void ends_a_session_that_sends_garbage(void **state)
{
    (void)state;
    serve_alone();
    struct fake_session *client = guest(ENTITY_CLIENT, "a", "allow *");
    struct message *garbage = message_create(MSG_OSD_OP, 7);
    receive(client, garbage);
    assert_true(client->over);
}

static void ignores_messages_of_osds_from_clients(void **state)
{
    (void)state;
    serve_alone();
    live(SEC_NS, false);
    struct fake_session *client = guest(ENTITY_CLIENT, "a", "allow *");
    struct wire_rep_txn rep = {.pool = POOL, .config = fake.map->epoch};
    struct message *message = message_create(MSG_REP_TXN, sizeof rep);
    memcpy(message->body, &rep, sizeof rep);
    receive(client, message);
    assert_int_equal(client->n_sent, 0);
}

static void a_client_that_goes_leaves_nothing(void **state)
{
    (void)state;
    serve_alone();
    struct fake_session *client = guest(ENTITY_CLIENT, "a", "allow *");
    receive(client, request("x", fake.map->epoch + 5, WIRE_OP_CODE_STAT, 1));
    receive(client, request("x", fake.map->epoch, WIRE_OP_CODE_CREATE, 2));
    receive(client, request("x", fake.map->epoch, WIRE_OP_CODE_STAT, 3));
    closed(client, -ECONNRESET);
    live(2 * SEC_NS, false);
    assert_int_equal(fake.fatal, 0);
}

/* Who waits behind a request of the lost session will be sent again, and must not overtake it. */
static void nothing_of_a_lost_session_overtakes_what_is_let_go(void **state)
{
    (void)state;
    serve_alone();
    live(SEC_NS, false);
    struct fake_session *client = guest(ENTITY_CLIENT, "a", "allow *");
    uint64_t epoch = fake.map->epoch;
    receive(client, request("x", epoch, WIRE_OP_CODE_CREATE, 1));
    live(SEC_NS, false);
    assert_int_equal(result_of(client, 1), 0);
    /* The second looks at the store when that has the first; the third is in line behind it. */
    receive(client, request("x", epoch, WIRE_OP_CODE_HINT, 2));
    receive(client, request_of_two("x", epoch, WIRE_OP_CODE_OMAP_GET_HEADER, WIRE_OP_CODE_HINT, 3));
    receive(client, request("x", epoch, WIRE_OP_CODE_REMOVE, 4));
    closed(client, -ECONNRESET);
    live(SEC_NS, false);
    client = guest(ENTITY_CLIENT, "a", "allow *");
    receive(client, request("x", epoch, WIRE_OP_CODE_STAT, 5));
    live(SEC_NS, false);
    assert_int_equal(result_of(client, 1), 0);
}

/* ---- The end ---- */

static void says_good_bye(void **state)
{
    (void)state;
    struct fake_session *mon = serve_mon();
    show_up();
    live(SEC_NS, true);
    osd_stop(fake.osd, note_stopped, NULL);
    Limpet__Wire__OsdFailure *f = (Limpet__Wire__OsdFailure *)message_unpack(
        last_sent(mon, MSG_OSD_FAILURE), &limpet__wire__osd_failure__descriptor);
    assert_int_equal(f->kind, LIMPET__WIRE__OSD_FAILURE__KIND__GONE);
    assert_int_equal(f->id, SELF);
    limpet__wire__osd_failure__free_unpacked(f, NULL);
    struct map_osd down = osd_value(SELF, fake.env.instance, 2);
    down.up = false;
    change_osd(SELF, &down);
    advance(100 * MSEC_NS);
    assert_true(fake.stopped);
}

static void stops_without_monitors_too(void **state)
{
    (void)state;
    serve_mon();
    show_up();
    closed(mon_session(), -ECONNRESET);
    osd_stop(fake.osd, note_stopped, NULL);
    advance(4 * SEC_NS);
    assert_true(fake.stopped);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(says_that_it_is_here_until_the_map_shows_it),
        TEST(does_not_boot_without_keys),
        TEST(tries_one_monitor_after_the_other),
        TEST(leaves_a_silent_monitor),
        TEST(believes_the_leader_that_its_number_is_of_another_store),
        TEST(lives_when_the_number_is_its_own_in_a_newer_map),
        TEST(gives_up_when_its_number_goes_to_another_store),
        TEST(a_late_message_of_an_earlier_process_is_no_rival),
        TEST(boots_again_when_the_map_takes_it_for_down),
        TEST(reports_a_refused_connection_at_once),
        TEST(reports_silence_after_the_grace_period),
        TEST(blames_nobody_when_it_slept_itself),
        TEST(an_osd_has_one_session_with_us),
        TEST(a_clients_process_has_one_session_with_us),
        TEST(serves_a_request_when_it_may),
        TEST(refuses_what_capabilities_do_not_allow),
        TEST(refuses_requests_in_anothers_name),
        TEST(sends_clients_away_when_it_is_not_primary),
        TEST(a_request_of_a_newer_map_waits_for_it),
        TEST(tells_of_requests_that_take_too_long),
        TEST(ends_a_session_that_sends_garbage),
        TEST(ignores_messages_of_osds_from_clients),
        TEST(a_client_that_goes_leaves_nothing),
        TEST(nothing_of_a_lost_session_overtakes_what_is_let_go),
        TEST(says_good_bye),
        TEST(stops_without_monitors_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
