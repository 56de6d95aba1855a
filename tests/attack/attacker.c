/*
 * A client with a good key and bad manners: what the messages of common/ allow, said by somebody
 * who means harm. tests/cluster/test_attackers.py watches the daemons meanwhile.
 *
 *     attacker KEYRING ENTITY MON_ADDRESS SCENARIO
 *
 * Exits with 0 when all was answered as it should be.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/env_real.h"
#include "common/limpet.pb-c.h"
#include "common/wire_layout.h"
#include "placement/hash.h"
#include "placement/map.h"

enum { SESSIONS = 24, OBJECT_BYTES = 16 * 1024 * 1024, STEPS = WIRE_OPS_MAX };
enum { MANGLED = 4000, APPENDS = 600, IN_A_ROW = 12, ANSWER_BYTES = 4096 };

/* One session, and what came on it last. */
struct target {
    struct net_session *session;
    bool open;
    uint32_t received;
    uint64_t epoch; /* Of the last ping. */
    uint64_t tid;   /* Of the last reply. */
    int32_t result;
    uint64_t instance; /* Of the process that it says it is. */
};

static struct env *env;
static struct auth_secret secret;
static struct auth_ticket ticket;
static struct cluster_map *map;
static struct target mon;
static struct env_timer wake;
/* Of replies: who has one, and what the last one gave. */
static bool answered[APPENDS + 1];
static uint8_t given[ANSWER_BYTES];
static size_t given_len;

static void fail(const char *what)
{
    fprintf(stderr, "attacker: %s\n", what);
    exit(1);
}

static void check(bool condition, const char *what)
{
    if (!condition)
        fail(what);
}

/* ---- The world ---- */

static int credential(void *ctx, const struct entity_name *peer, struct auth_ticket *out)
{
    (void)ctx;
    memset(out, 0, sizeof *out);
    if (peer->type == ENTITY_MON)
        out->secret = secret;
    else
        *out = ticket;
    return 0;
}

static void take_ticket(const struct message *message)
{
    Limpet__Wire__MonTicket *answer =
        (Limpet__Wire__MonTicket *)message_unpack(message, &limpet__wire__mon_ticket__descriptor);
    check(answer != NULL && answer->result == 0 && answer->ticket.len <= AUTH_TICKET_MAX,
          "no ticket");
    check(answer->n_service_keys == 0, "a client got the keys of the service");
    int len = auth_unseal(&secret, answer->sealed_secret.data, answer->sealed_secret.len,
                          ticket.secret.bytes, sizeof ticket.secret.bytes);
    check(len > 0, "a ticket that cannot be unsealed");
    ticket.secret.len = (uint8_t)len;
    ticket.len = (uint16_t)answer->ticket.len;
    memcpy(ticket.blob, answer->ticket.data, answer->ticket.len);
    protobuf_c_message_free_unpacked(&answer->base, NULL);
}

static void received(void *ctx, struct net_session *session, struct message *message)
{
    struct target *target = session->user;
    (void)ctx;
    target->received++;
    if (message->type == MSG_MON_TICKET) {
        take_ticket(message);
    } else if (message->type == MSG_MON_MAP && message->payload.len > 0 && map == NULL) {
        int rc = map_decode(message->payload.data, message->payload.len, &map);
        check(rc == 0, "a map that cannot be read");
    } else if (message->type == MSG_PING_REPLY && message->body_len == sizeof(struct wire_ping)) {
        struct wire_ping ping;
        memcpy(&ping, message->body, sizeof ping);
        target->epoch = ping.epoch;
    } else if (message->type == MSG_OSD_OP_REPLY &&
               message->body_len >= sizeof(struct wire_osd_op_reply)) {
        struct wire_osd_op_reply reply;
        memcpy(&reply, message->body, sizeof reply);
        target->tid = reply.tid;
        target->result = reply.result;
        if (reply.tid <= APPENDS && reply.result == 0)
            answered[reply.tid] = true;
        given_len = message->payload.len < sizeof given ? message->payload.len : sizeof given;
        if (given_len > 0)
            memcpy(given, message->payload.data, given_len);
    }
}

static void opened(void *ctx, struct net_session *session)
{
    (void)ctx;
    ((struct target *)session->user)->open = true;
}

static void closed(void *ctx, struct net_session *session, int error)
{
    struct target *target = session->user;
    (void)ctx;
    (void)error;
    target->session = NULL;
    target->open = false;
}

static const struct net_handlers handlers = {
    .opened = opened, .received = received, .closed = closed};

static void woken(struct env_timer *timer)
{
    (void)timer;
}

/* Turns the loop until the condition holds, or for so long. */
#define UNTIL(condition, ms)                                                                       \
    do {                                                                                           \
        uint64_t until_ns = uv_hrtime() + (ms)*MSEC_NS;                                            \
        while (!(condition) && uv_hrtime() < until_ns) {                                           \
            env_timer_after(env, &wake, 10 * MSEC_NS);                                             \
            env_real_turn(env, true);                                                              \
        }                                                                                          \
    } while (0)

/* As the process that we are, or as another one of the same name. */
static void target_open_as(struct target *target, const struct net_address *to, uint8_t type,
                           uint64_t instance)
{
    struct net_expect expect = {.name = {.type = type}};
    env->instance = target->instance = instance;
    check(net_open(env, to, &expect, target, &target->session) == 0, "no session");
    UNTIL(target->open || target->session == NULL, 20000);
    check(target->open, "nobody answers");
}

static void target_open(struct target *target, const struct net_address *to, uint8_t type)
{
    target_open_as(target, to, type, env->instance);
}

static void send_proto(struct target *target, uint16_t type, const ProtobufCMessage *proto)
{
    struct message *message = message_pack(type, proto);
    check(message != NULL && target->session != NULL, "the session is gone");
    net_send(env, target->session, message);
}

static uint64_t ping(struct target *target)
{
    struct message *message = message_create(MSG_PING, sizeof(struct wire_ping));
    check(message != NULL && target->session != NULL, "the session is gone");
    target->epoch = 0;
    net_send(env, target->session, message);
    UNTIL(target->epoch != 0, 20000);
    check(target->epoch != 0, "a ping was not answered");
    return target->epoch;
}

/* ---- Requests ---- */

struct request {
    uint16_t code;
    uint16_t n_steps;
    uint64_t epoch;  /* 0: the right one. */
    uint64_t client; /* 0: the right one. */
    uint32_t len;    /* Of the data to write. */
};

static const char name[] = "attacked";

static const struct net_address *primary(uint32_t *seed)
{
    check(map != NULL && map->n_pools > 0, "there is no pool");
    struct pg_id pg = map_object_pg(&map->pools[0], hash_object(NULL, 0, name, strlen(name)));
    struct pg_view view;
    check(map_pg_view(map, pg, &view) == 0 && view.primary >= 0, "the object has no primary");
    *seed = pg.seed;
    return &map_osd(map, view.primary)->address;
}

static uint64_t request_send(struct target *target, const struct request *request)
{
    static uint64_t tid;
    struct object_id id = {.pool = map->pools[0].id,
                           .hash = hash_object(NULL, 0, name, strlen(name)),
                           .snap = OBJECT_HEAD,
                           .name = (const uint8_t *)name,
                           .name_len = (uint16_t)strlen(name)};
    struct wire_osd_op head = {.client = request->client ? request->client : target->instance,
                               .tid = ++tid,
                               .epoch = request->epoch ? request->epoch : map->epoch,
                               .pool = id.pool,
                               .flags = request->len > 0 ? WIRE_OP_WRITE : 0,
                               .n_ops = request->n_steps};
    struct wire_op step = {.code = request->code, .data_len = request->len};
    struct encoder e;
    uint32_t seed;
    (void)primary(&seed);
    head.pg_seed = seed;
    encoder_init(&e);
    encode_bytes(&e, &head, sizeof head);
    encode_object_id(&e, &id);
    for (uint16_t i = 0; i < request->n_steps; i++)
        encode_bytes(&e, &step, sizeof step);
    struct message *message = e.failed ? NULL : message_create(MSG_OSD_OP, e.len);
    check(message != NULL && target->session != NULL, "the session is gone");
    memcpy(message->body, e.data, e.len);
    encoder_fini(&e);
    if (request->len > 0) {
        check(buf_slice_alloc(request->len, &message->payload) == 0, "no memory");
        memset(message->payload.data, 'x', request->len);
    }
    net_send(env, target->session, message);
    return tid;
}

static int32_t request_run(struct target *target, const struct request *request)
{
    uint64_t tid = request_send(target, request);
    UNTIL(target->tid == tid, 60000);
    check(target->tid == tid, "a request was not answered");
    return target->result;
}

/* ---- Scenarios ---- */

/* What only OSDs and monitors may tell. */
static void impostor(void)
{
    uint64_t before = ping(&mon);
    for (int32_t id = 0; id < map->max_osd; id++) {
        Limpet__Wire__OsdFailure failure = LIMPET__WIRE__OSD_FAILURE__INIT;
        Limpet__Wire__Forward forward = LIMPET__WIRE__FORWARD__INIT;
        char sender[] = "a", caps[] = "allow *";
        failure.id = id;
        failure.instance = map_osd(map, id)->instance;
        failure.kind = LIMPET__WIRE__OSD_FAILURE__KIND__REFUSED;
        failure.epoch = before;
        send_proto(&mon, MSG_OSD_FAILURE, &failure.base);
        struct message *wrapped = message_pack(MSG_OSD_FAILURE, &failure.base);
        check(wrapped != NULL, "no memory");
        forward.type = MSG_OSD_FAILURE;
        forward.body = (ProtobufCBinaryData){wrapped->body_len, wrapped->body};
        forward.sender_type = ENTITY_MON;
        forward.sender_id = sender;
        forward.sender_caps = caps;
        send_proto(&mon, MSG_FORWARD, &forward.base);
        message_unref(wrapped);
    }
    UNTIL(false, 1000);
    check(ping(&mon) == before, "a client's word changed the map");
}

/* A small request that wants far more than fits a reply. */
static void greedy(struct target *osd)
{
    struct request read = {.code = WIRE_OP_CODE_READ, .n_steps = STEPS};
    check(request_run(osd, &read) == -EFBIG, "64 large reads in one request");
}

/* Sessions that ask for everything and take nothing in; the caller watches the OSD's memory. */
static void deaf(const struct net_address *to)
{
    static struct target many[SESSIONS];
    struct request read = {.code = WIRE_OP_CODE_READ, .n_steps = 1};
    for (int i = 0; i < SESSIONS; i++) {
        target_open_as(&many[i], to, ENTITY_OSD, env->instance + 1);
        net_pause(env, many[i].session, true);
        for (int n = 0; n < 64; n++)
            (void)request_send(&many[i], &read);
        UNTIL(false, 10);
    }
    UNTIL(false, 4000);
}

/* Requests for a map that never comes; the caller uses the cluster meanwhile. */
static void prophet(const struct net_address *to)
{
    static struct target many[4];
    struct request read = {.code = WIRE_OP_CODE_READ, .n_steps = 1, .epoch = UINT64_MAX};
    for (int i = 0; i < 4; i++) {
        target_open_as(&many[i], to, ENTITY_OSD, env->instance + 1);
        for (int n = 0; n < 30000; n++)
            (void)request_send(&many[i], &read);
    }
    UNTIL(false, 8000);
}

static uint32_t draw(uint32_t below)
{
    static uint64_t state = 7;
    state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(state >> 33) % below;
}

/* Mostly what could be, and now and then what cannot. */
static uint64_t draw_number(void)
{
    static const uint64_t odd[] = {0,     1,     2,          3,         255,        4096,
                                   65535, 65536, UINT32_MAX, INT64_MAX, UINT64_MAX, UINT64_MAX - 1};
    return odd[draw(sizeof odd / sizeof odd[0])];
}

static void draw_steps(struct encoder *e, uint16_t n, uint32_t left)
{
    for (uint16_t i = 0; i < n; i++) {
        struct wire_op step = {
            .code = (uint16_t)(draw(20) == 0 ? draw_number() : draw(62)),
            .flags = (uint16_t)(draw(4) == 0 ? draw_number() : 0),
            .data_len = draw(10) == 0 ? (uint32_t)draw_number()
                        : i + 1 == n  ? left
                                      : draw(left + 1),
            .offset = draw(2) == 0 ? draw(100) : draw_number(),
            .length = draw(2) == 0 ? draw(100) : draw_number(),
        };
        left -= step.data_len < left ? step.data_len : left;
        encode_bytes(e, &step, sizeof step);
    }
}

/* Texts that steps want, so that some of it is understood: names of methods, keys, watches. */
static int draw_payload(uint32_t len, struct buf_slice *out)
{
    static const char *const words[] = {"lock.lock", "hello.say_hello", "none.such", "", "key"};
    if (len == 0)
        return 0;
    int error = buf_slice_alloc(len, out);
    for (uint32_t i = 0; i < len && !error; i++)
        out->data[i] = (uint8_t)draw(256);
    const char *word = words[draw(sizeof words / sizeof words[0])];
    size_t word_len = strlen(word);
    if (!error && len >= sizeof(uint16_t) + word_len) {
        out->data[0] = (uint8_t)word_len;
        out->data[1] = 0;
        memcpy(out->data + sizeof(uint16_t), word, word_len);
    }
    return error;
}

static struct message *mangled(const struct target *target, uint64_t tid)
{
    struct object_id id = {.pool = map->pools[0].id,
                           .hash = hash_object(NULL, 0, name, strlen(name)),
                           .snap = draw(50) == 0 ? draw_number() : OBJECT_HEAD,
                           .name = (const uint8_t *)name,
                           .name_len = (uint16_t)strlen(name)};
    uint32_t seed, len = draw(3) == 0 ? 0 : draw(200);
    struct wire_osd_op head = {
        .client = target->instance,
        .tid = tid,
        .oldest = draw(20) == 0 ? draw_number() : 0,
        .epoch = map->epoch,
        .pool = draw(50) == 0 ? draw_number() : id.pool,
        .flags = (uint16_t)(draw(20) == 0 ? draw_number()
                            : draw(2)     ? WIRE_OP_WRITE
                                          : 0),
        .n_ops = (uint16_t)(draw(30) == 0 ? draw_number() : 1 + draw(4)),
        .n_snaps = (uint16_t)(draw(10) == 0   ? draw_number()
                              : draw(10) == 0 ? 2
                                              : 0),
        .snap = draw(5) == 0 ? draw_number() : 0,
    };
    struct encoder e;
    (void)primary(&seed);
    head.pg_seed = draw(50) == 0 ? (uint32_t)draw_number() : seed;
    encoder_init(&e);
    encode_bytes(&e, &head, sizeof head);
    encode_object_id(&e, &id);
    draw_steps(&e, head.n_ops < 8 ? head.n_ops : 8, len);
    for (uint16_t i = 0; i < head.n_snaps && i < 4; i++)
        encode_u64(&e, draw(2) == 0 ? draw(10) : draw_number());
    uint32_t cut = draw(20) == 0 ? draw((uint32_t)e.len) : 0;
    struct message *message = e.failed ? NULL : message_create(MSG_OSD_OP, e.len - cut);
    check(message != NULL, "no memory");
    memcpy(message->body, e.data, e.len - cut);
    if (draw(10) == 0 && message->body_len > 0)
        message->body[draw((uint32_t)message->body_len)] = (uint8_t)draw(256);
    encoder_fini(&e);
    check(draw_payload(len, &message->payload) == 0, "no memory");
    return message;
}

/*
 * Requests with lengths, codes, methods, snapshots and payloads that cannot be, many at a time:
 * each is answered, or ends the session, and an honest one is served behind them.
 */
static void mangler(const struct net_address *to)
{
    struct request stat = {.code = WIRE_OP_CODE_STAT, .n_steps = 1};
    static struct target osd;
    uint32_t ended = 0;
    for (uint64_t i = 0; i < MANGLED; i++) {
        if (osd.session == NULL)
            target_open_as(&osd, to, ENTITY_OSD, env->instance + 1);
        net_send(env, osd.session, mangled(&osd, 1000000 + i));
        if (draw(8) == 0)
            UNTIL(false, 1);
        ended += osd.session == NULL;
    }
    target_open_as(&osd, to, ENTITY_OSD, env->instance + 1);
    int32_t result = request_run(&osd, &stat);
    check(result == 0 || result == -ENOENT, "an honest request was not served");
    check(ended > 0 && ended < MANGLED / 2, "nothing was refused, or all");
}

static void append_send(const struct target *target, uint64_t tid)
{
    struct object_id id = {.pool = map->pools[0].id,
                           .hash = hash_object(NULL, 0, name, strlen(name)),
                           .snap = OBJECT_HEAD,
                           .name = (const uint8_t *)name,
                           .name_len = (uint16_t)strlen(name)};
    uint64_t oldest = tid;
    while (oldest > 1 && !answered[oldest - 1])
        oldest--;
    bool looks = tid % 3 == 0;
    struct wire_osd_op head = {.client = target->instance,
                               .tid = tid,
                               .oldest = oldest,
                               .epoch = map->epoch,
                               .pool = id.pool,
                               .flags = WIRE_OP_WRITE,
                               .n_ops = looks ? 2 : 1};
    const struct wire_op look = {.code = WIRE_OP_CODE_OMAP_GET_HEADER};
    const struct wire_op append = {.code = WIRE_OP_CODE_APPEND, .data_len = 1};
    struct encoder e;
    uint32_t seed;
    (void)primary(&seed);
    head.pg_seed = seed;
    encoder_init(&e);
    encode_bytes(&e, &head, sizeof head);
    encode_object_id(&e, &id);
    if (looks)
        encode_bytes(&e, &look, sizeof look);
    encode_bytes(&e, &append, sizeof append);
    struct message *message = e.failed ? NULL : message_create(MSG_OSD_OP, e.len);
    check(message != NULL && target->session != NULL, "the session is gone");
    memcpy(message->body, e.data, e.len);
    encoder_fini(&e);
    const uint8_t byte = (uint8_t)('a' + tid % 26);
    check(buf_slice_copy(&byte, 1, &message->payload) == 0, "no memory");
    net_send(env, target->session, message);
}

/*
 * Sessions that are replaced while their requests are under way, which are sent again, in order,
 * over the next one: each is executed once, and in order.
 */
static void replacer(const struct net_address *to)
{
    static struct target sessions[2];
    struct request read = {.code = WIRE_OP_CODE_READ, .n_steps = 1};
    uint64_t instance = env->instance + 1, first = 1;
    struct target *osd = &sessions[0];
    for (int turn = 0; first <= APPENDS; turn++) {
        osd = &sessions[turn % 2];
        /* The one before the last. */
        UNTIL(osd->session == NULL, 20000);
        check(osd->session == NULL, "a session that was replaced stays open");
        target_open_as(osd, to, ENTITY_OSD, instance);
        uint64_t last = first + IN_A_ROW - 1 < APPENDS ? first + IN_A_ROW - 1 : APPENDS;
        for (uint64_t tid = first; tid <= last; tid++)
            append_send(osd, tid);
        UNTIL(answered[last], draw(4));
        while (first <= APPENDS && answered[first])
            first++;
    }
    UNTIL(sessions[0].session == NULL || sessions[1].session == NULL, 20000);
    check((sessions[0].session == NULL) != (sessions[1].session == NULL),
          "two sessions of one process");
    check(request_run(osd, &read) == 0 && given_len == APPENDS,
          "appended more than once, or never");
    for (uint64_t tid = 1; tid <= APPENDS; tid++)
        check(given[tid - 1] == 'a' + tid % 26, "executed out of order");
}

static void run(const char *scenario)
{
    uint32_t seed;
    const struct net_address *to = primary(&seed);
    static struct target osd;
    struct request write = {.code = WIRE_OP_CODE_WRITE_FULL, .n_steps = 1, .len = OBJECT_BYTES};
    struct request forged = {
        .code = WIRE_OP_CODE_WRITE_FULL, .n_steps = 1, .len = 1, .client = env->instance + 1};
    target_open(&osd, to, ENTITY_OSD);
    if (strcmp(scenario, "impostor") == 0) {
        impostor();
    } else if (strcmp(scenario, "forger") == 0) {
        check(request_run(&osd, &forged) == -EPERM, "a request in another's name was executed");
    } else if (strcmp(scenario, "mangler") == 0) {
        mangler(to);
    } else if (strcmp(scenario, "replacer") == 0) {
        replacer(to);
    } else {
        check(request_run(&osd, &write) == 0, "cannot write");
        if (strcmp(scenario, "greedy") == 0)
            greedy(&osd);
        else if (strcmp(scenario, "deaf") == 0)
            deaf(to);
        else if (strcmp(scenario, "prophet") == 0)
            prophet(to);
        else
            fail("no such scenario");
    }
}

static void read_key(const char *path, const char *text, struct auth_provider *provider)
{
    struct keyring keyring;
    char why[256];
    keyring_init(&keyring);
    check(keyring_load(&keyring, path, why) == 0, "the keyring cannot be read");
    check(entity_parse(text, &provider->self) == 0, "no entity's name");
    const struct keyring_entry *entry = keyring_find(&keyring, &provider->self);
    check(entry != NULL, "the keyring has no such entity");
    secret = entry->secret;
    keyring_fini(&keyring);
}

int main(int argc, char **argv)
{
    struct auth_provider provider = {.credential = credential};
    struct env_real_options options = {.mode = NET_MODE_INTEGRITY};
    struct net_address address;
    check(argc == 5, "usage: attacker KEYRING ENTITY MON_ADDRESS SCENARIO");
    read_key(argv[1], argv[2], &provider);
    check(net_address_parse(argv[3], &address) == 0, "no address");
    check(env_real_create(&options, &env) == 0, "no world");
    env->log_mask = 0;
    wake.fire = woken;
    env_real_set_auth(env, &provider);
    net_handlers_set(env, &handlers, NULL);
    target_open(&mon, &address, ENTITY_MON);
    Limpet__Wire__MonGetTicket get = LIMPET__WIRE__MON_GET_TICKET__INIT;
    get.service = ENTITY_OSD;
    get.has_want_service_keys = get.want_service_keys = true;
    send_proto(&mon, MSG_MON_GET_TICKET, &get.base);
    Limpet__Wire__MonSubscribe subscribe = LIMPET__WIRE__MON_SUBSCRIBE__INIT;
    send_proto(&mon, MSG_MON_SUBSCRIBE, &subscribe.base);
    UNTIL(ticket.len > 0 && map != NULL, 20000);
    run(argv[4]);
    env_real_destroy(env);
    map_destroy(map);
    return 0;
}
