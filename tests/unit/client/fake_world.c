#include "tests/unit/client/fake_world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/limpet.pb-c.h"
#include "placement/hash.h"

static struct fake_world *world(struct env *env)
{
    return container_of(env, struct fake_world, env);
}

/* ---- struct env ---- */

static uint64_t now_ns(struct env *env)
{
    return world(env)->now_ns;
}

static void random_bytes(struct env *env, void *out, size_t len)
{
    struct fake_world *w = world(env);
    uint8_t *bytes = out;
    for (size_t i = 0; i < len; i++) {
        w->random = w->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        bytes[i] = (uint8_t)(w->random >> 33);
    }
}

static void timer_arm(struct env *env, struct env_timer *timer, uint64_t deadline_ns)
{
    timer_heap_arm(&world(env)->timers, timer, deadline_ns);
}

static void timer_stop(struct env *env, struct env_timer *timer)
{
    timer_heap_stop(&world(env)->timers, timer);
}

static void set_handlers(struct env *env, const struct net_handlers *handlers, void *ctx)
{
    world(env)->handlers = handlers;
    world(env)->ctx = ctx;
}

static int open_session(struct env *env, const struct net_address *to,
                        const struct net_expect *expect, void *user, struct net_session **out)
{
    struct fake_world *w = world(env);
    assert_true(w->n_sessions < FAKE_SESSIONS_MAX);
    struct fake_session *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->base.user = user;
    s->base.outbound = true;
    s->to = *to;
    s->expect = *expect;
    w->sessions[w->n_sessions++] = s;
    *out = &s->base;
    return 0;
}

static void send_message(struct env *env, struct net_session *session, struct message *message)
{
    (void)env;
    struct fake_session *s = container_of(session, struct fake_session, base);
    assert_false(s->over);
    assert_true(s->n_sent < FAKE_SENT_MAX);
    s->sent[s->n_sent++] = message;
}

static void close_session(struct env *env, struct net_session *session)
{
    (void)env;
    struct fake_session *s = container_of(session, struct fake_session, base);
    assert_false(s->over);
    s->over = true;
}

static void drop_session(struct env *env, struct net_session *session)
{
    container_of(session, struct fake_session, base)->dropped = true;
    close_session(env, session);
}

static uint64_t heard(struct env *env, struct net_session *session)
{
    (void)env;
    return container_of(session, struct fake_session, base)->heard_ns;
}

static void log_line(struct env *env, int level, const char *line)
{
    (void)env;
    if (getenv("FAKE_WORLD_LOG") != NULL)
        fprintf(stderr, "%d %s\n", level, line);
}

static const struct env_ops ops = {
    .now_ns = now_ns,
    .clock_ns = now_ns,
    .wall_ns = now_ns,
    .random = random_bytes,
    .timer_arm = timer_arm,
    .timer_stop = timer_stop,
    .net_handlers = set_handlers,
    .net_open = open_session,
    .net_send = send_message,
    .net_close = close_session,
    .net_drop = drop_session,
    .net_heard_ns = heard,
    .log = log_line,
};

/* ---- Maps ---- */

static void apply(struct fake_world *w, struct map_increment *inc)
{
    assert_int_equal(map_apply(w->map, inc), 0);
    struct encoder e;
    encoder_init(&e);
    assert_int_equal(map_increment_encode(inc, &e), 0);
    assert_false(e.failed);
    struct fake_session *s = w->mons_serve ? fake_mon(w) : NULL;
    if (s != NULL && s->base.open) {
        ProtobufCBinaryData bytes = {.data = e.data, .len = e.len};
        Limpet__Wire__MonMap answer = LIMPET__WIRE__MON_MAP__INIT;
        answer.fsid.data = w->map->fsid.bytes;
        answer.fsid.len = 16;
        answer.first_epoch = answer.last_epoch = w->map->epoch;
        answer.n_increments = 1;
        answer.increments = &bytes;
        fake_deliver(w, s, message_pack(MSG_MON_MAP, &answer.base));
    }
    encoder_fini(&e);
    map_increment_destroy(inc);
}

static struct map_increment *next_increment(struct fake_world *w)
{
    struct map_increment *inc = map_increment_create(w->map->epoch + 1);
    assert_non_null(inc);
    return inc;
}

void fake_map_osd(struct fake_world *w, int32_t id, bool up, uint64_t instance)
{
    struct map_increment *inc = next_increment(w);
    struct map_osd osd = *map_osd(w->map, id);
    if (up)
        osd.up_from = w->map->epoch + 1;
    osd.up = up;
    osd.instance = instance;
    assert_int_equal(map_increment_set_osd(inc, id, &osd), 0);
    apply(w, inc);
}

void fake_map_pg(struct fake_world *w, uint64_t pool, uint32_t seed, uint8_t n,
                 const int32_t *members)
{
    struct map_increment *inc = next_increment(w);
    struct map_pg pg = {.pg = {.pool = pool, .seed = seed}, .config = w->map->epoch + 1, .n = n};
    memcpy(pg.members, members, n * sizeof *members);
    assert_int_equal(map_increment_set_pg(inc, &pg), 0);
    apply(w, inc);
}

void fake_map_remove_pool(struct fake_world *w, uint64_t pool)
{
    struct map_increment *inc = next_increment(w);
    assert_int_equal(map_increment_remove_pool(inc, pool), 0);
    apply(w, inc);
}

void fake_map_add_pool(struct fake_world *w, uint64_t pool)
{
    struct map_increment *inc = next_increment(w);
    struct map_pool added = *map_pool(w->map, 1);
    added.id = pool;
    added.created = added.config_base = w->map->epoch + 1;
    snprintf(added.name, sizeof added.name, "pool%d", (int)pool);
    assert_int_equal(map_increment_set_pool(inc, &added), 0);
    apply(w, inc);
}

void fake_map_flags(struct fake_world *w, uint32_t flags)
{
    struct map_increment *inc = next_increment(w);
    assert_int_equal(map_increment_set_flags(inc, flags), 0);
    apply(w, inc);
}

void fake_map_pg_num(struct fake_world *w, uint64_t pool, uint32_t pg_num)
{
    struct map_increment *inc = next_increment(w);
    struct map_pool changed = *map_pool(w->map, pool);
    changed.pg_num = pg_num;
    assert_int_equal(map_increment_set_pool(inc, &changed), 0);
    apply(w, inc);
}

void fake_map_touch(struct fake_world *w)
{
    struct map_increment *inc = next_increment(w);
    map_increment_set_time(inc, w->map->epoch);
    apply(w, inc);
}

/* One host an OSD, two pools: 1 has one group, 2 has eight; both keep two copies. */
static void build_map(struct fake_world *w)
{
    w->map = map_create();
    assert_non_null(w->map);
    struct map_increment *inc = next_increment(w);
    struct uuid fsid = {.bytes = {1, 2, 3}};
    assert_int_equal(map_increment_set_fsid(inc, &fsid), 0);
    struct map_mon mons[FAKE_MONS] = {0};
    for (uint32_t i = 0; i < FAKE_MONS; i++) {
        mons[i] = (struct map_mon){.id = i + 1, .address = fake_mon_address(i)};
        snprintf(mons[i].name, sizeof mons[i].name, "%c", 'a' + (int)i);
    }
    assert_int_equal(map_increment_set_mons(inc, mons, FAKE_MONS), 0);
    struct crush_map *crush = crush_create();
    assert_non_null(crush);
    int32_t root, host;
    int root_type = crush_type_by_name(crush, "root");
    int host_type = crush_type_by_name(crush, "host");
    assert_int_equal(crush_add_bucket(crush, (uint16_t)root_type, "default", &root), 0);
    for (int32_t i = 0; i < FAKE_OSDS; i++) {
        char name[16];
        snprintf(name, sizeof name, "host%d", i);
        assert_int_equal(crush_add_bucket(crush, (uint16_t)host_type, name, &host), 0);
        assert_int_equal(crush_insert(crush, root, host, 0), 0);
        assert_int_equal(crush_insert(crush, host, i, MAP_WEIGHT_ONE), 0);
        struct map_osd osd = {
            .exists = true,
            .up = true,
            .weight = MAP_WEIGHT_ONE,
            .address = fake_osd_address(i),
            .instance = 1000 + (uint64_t)i,
            .up_from = 1,
            .uuid = {.bytes = {(uint8_t)(i + 1)}},
        };
        assert_int_equal(map_increment_set_osd(inc, i, &osd), 0);
    }
    uint32_t rule;
    assert_int_equal(crush_add_simple_rule(crush, "replicated", "default", "host", false, &rule),
                     0);
    assert_int_equal(map_increment_set_crush(inc, crush), 0);
    crush_destroy(crush);
    for (uint64_t id = 1; id <= 2; id++) {
        struct map_pool pool = {
            .id = id,
            .type = POOL_REPLICATED,
            .size = 2,
            .min_size = 1,
            .pg_num = id == 1 ? 1 : 8,
            .crush_rule = rule,
            .created = 1,
            .config_base = 1,
        };
        snprintf(pool.name, sizeof pool.name, "pool%d", (int)id);
        assert_int_equal(map_increment_set_pool(inc, &pool), 0);
    }
    assert_int_equal(map_apply(w->map, inc), 0);
    map_increment_destroy(inc);
    /* Tests name the members of pool 1's group themselves. */
    fake_map_pg(w, 1, 0, 2, (int32_t[]){0, 1});
}

/* ---- Sessions ---- */

struct net_address fake_mon_address(uint32_t i)
{
    return (struct net_address){.family = 4, .ip = {127, 0, 0, 1}, .port = (uint16_t)(6789 + i)};
}

struct net_address fake_osd_address(int32_t id)
{
    return (struct net_address){.family = 4, .ip = {127, 0, 0, 1}, .port = (uint16_t)(7000 + id)};
}

struct fake_session *fake_session_to(struct fake_world *w, struct net_address address)
{
    for (uint32_t i = w->n_sessions; i > 0; i--) {
        struct fake_session *s = w->sessions[i - 1];
        if (!s->over && net_address_equal(&s->to, &address))
            return s;
    }
    return NULL;
}

struct fake_session *fake_osd(struct fake_world *w, int32_t id)
{
    return fake_session_to(w, fake_osd_address(id));
}

struct fake_session *fake_mon(struct fake_world *w)
{
    for (uint32_t i = 0; i < FAKE_MONS; i++) {
        struct fake_session *s = fake_session_to(w, fake_mon_address(i));
        if (s != NULL)
            return s;
    }
    return NULL;
}

void fake_session_open(struct fake_world *w, struct fake_session *s)
{
    assert_non_null(s);
    s->base.open = true;
    s->base.peer.name = s->expect.name;
    w->handlers->opened(w->ctx, &s->base);
}

void fake_session_close(struct fake_world *w, struct fake_session *s, int error)
{
    assert_non_null(s);
    assert_false(s->over);
    s->over = true;
    w->handlers->closed(w->ctx, &s->base, error);
}

void fake_deliver(struct fake_world *w, struct fake_session *s, struct message *m)
{
    assert_non_null(s);
    assert_non_null(m);
    assert_false(s->over);
    w->handlers->received(w->ctx, &s->base, m);
    message_unref(m);
}

struct message *fake_take(struct fake_session *s)
{
    assert_non_null(s);
    return s->n_taken < s->n_sent ? s->sent[s->n_taken++] : NULL;
}

struct message *fake_take_type(struct fake_session *s, uint16_t type)
{
    struct message *m;
    while ((m = fake_take(s)) != NULL && m->type != type)
        continue;
    return m;
}

/* ---- Monitors that serve ---- */

void fake_push_full_map(struct fake_world *w, struct fake_session *s, const struct uuid *fsid)
{
    struct encoder e;
    encoder_init(&e);
    assert_int_equal(map_encode(w->map, &e), 0);
    Limpet__Wire__MonMap answer = LIMPET__WIRE__MON_MAP__INIT;
    struct uuid bytes = fsid != NULL ? *fsid : w->map->fsid;
    answer.fsid.data = bytes.bytes;
    answer.fsid.len = 16;
    answer.first_epoch = answer.last_epoch = w->map->epoch;
    answer.has_full = answer.full = true;
    struct message *m = message_pack(MSG_MON_MAP, &answer.base);
    assert_non_null(m);
    assert_int_equal(buf_slice_copy(e.data, e.len, &m->payload), 0);
    encoder_fini(&e);
    fake_deliver(w, s, m);
}

static void give_ticket(struct fake_world *w, struct fake_session *s, const struct message *m)
{
    Limpet__Wire__MonGetTicket *get =
        (Limpet__Wire__MonGetTicket *)message_unpack(m, &limpet__wire__mon_get_ticket__descriptor);
    assert_non_null(get);
    assert_int_equal(get->service, ENTITY_OSD);
    Limpet__Wire__MonTicket answer = LIMPET__WIRE__MON_TICKET__INIT;
    answer.tid = get->tid;
    answer.result = w->ticket_result;
    uint8_t secret[32] = {(uint8_t)++w->tickets_given};
    uint8_t sealed[72];
    uint8_t blob[16] = {(uint8_t)w->tickets_given};
    int len = auth_seal(&w->secret, secret, sizeof secret, sealed, sizeof sealed);
    assert_true(len > 0);
    answer.has_ticket = answer.has_sealed_secret = answer.has_valid_seconds = true;
    answer.ticket.data = blob;
    answer.ticket.len = sizeof blob;
    answer.sealed_secret.data = sealed;
    answer.sealed_secret.len = (size_t)len;
    answer.valid_seconds = w->ticket_seconds;
    protobuf_c_message_free_unpacked(&get->base, NULL);
    fake_deliver(w, s, message_pack(MSG_MON_TICKET, &answer.base));
}

static void answer_ping(struct fake_world *w, struct fake_session *s, const struct message *m)
{
    struct message *reply = message_create(MSG_PING_REPLY, m->body_len);
    assert_non_null(reply);
    memcpy(reply->body, m->body, m->body_len);
    fake_deliver(w, s, reply);
}

/* Commands stay for the test. Returns true when there was something to do. */
static bool serve(struct fake_world *w, struct fake_session *s)
{
    if (!s->base.open) {
        fake_session_open(w, s);
        return true;
    }
    if (s->n_taken == s->n_sent || s->sent[s->n_taken]->type == MSG_MON_COMMAND)
        return false;
    struct message *m = fake_take(s);
    if (m->type == MSG_MON_SUBSCRIBE)
        fake_push_full_map(w, s, NULL);
    else if (m->type == MSG_MON_GET_TICKET)
        give_ticket(w, s, m);
    else if (m->type == MSG_PING)
        answer_ping(w, s, m);
    return true;
}

/* ---- Time ---- */

static bool fire_due(struct fake_world *w)
{
    struct env_timer *timer = timer_heap_pop(&w->timers, w->now_ns, UINT64_MAX);
    if (timer == NULL)
        return false;
    timer->fire(timer);
    return true;
}

void fake_settle(struct fake_world *w)
{
    for (uint32_t steps = 0; steps < 100000; steps++) {
        if (fire_due(w))
            continue;
        struct fake_session *s = w->mons_serve ? fake_mon(w) : NULL;
        if (s == NULL || !serve(w, s))
            return;
    }
    fail_msg("the client never comes to rest");
}

void fake_advance(struct fake_world *w, uint64_t ns)
{
    uint64_t end = w->now_ns + ns;
    fake_settle(w);
    for (;;) {
        struct env_timer *first = timer_heap_first(&w->timers);
        if (first == NULL || first->deadline_ns > end)
            break;
        w->now_ns = first->deadline_ns > w->now_ns ? first->deadline_ns : w->now_ns;
        fake_settle(w);
    }
    w->now_ns = end;
}

void fake_world_init(struct fake_world *w)
{
    *w = (struct fake_world){0};
    w->env.ops = &ops;
    w->env.instance = 0x1234;
    w->env.log_mask = ~0u;
    w->now_ns = SEC_NS;
    w->random = 7;
    w->mons_serve = true;
    w->ticket_seconds = 3600;
    w->secret = (struct auth_secret){.len = 16, .bytes = "fifteen letters"};
    timer_heap_init(&w->timers);
    fake_op_completions = 0;
    build_map(w);
}

void fake_world_fini(struct fake_world *w)
{
    assert_null(timer_heap_first(&w->timers));
    for (uint32_t i = 0; i < w->n_sessions; i++) {
        assert_true(w->sessions[i]->over);
        for (uint32_t k = 0; k < w->sessions[i]->n_sent; k++)
            message_unref(w->sessions[i]->sent[k]);
        free(w->sessions[i]);
    }
    timer_heap_fini(&w->timers);
    map_destroy(w->map);
}

/* ---- Clients and operations ---- */

uint32_t fake_op_completions;

struct client *fake_client(struct fake_world *w, const struct client_options *options)
{
    struct client_options all = *options;
    all.name = (struct entity_name){.type = ENTITY_CLIENT, .id = "admin"};
    all.secret = w->secret;
    if (all.n_mons == 0) {
        all.n_mons = FAKE_MONS;
        for (uint32_t i = 0; i < FAKE_MONS; i++)
            all.mons[i] = fake_mon_address(i);
    }
    struct client *c = client_create(&w->env, &all);
    assert_non_null(c);
    return c;
}

static void connected(void *ctx, int error)
{
    assert_int_equal(error, 0);
    *(bool *)ctx = true;
}

struct client *fake_connected_client(struct fake_world *w, const struct client_options *options)
{
    struct client *c = fake_client(w, options);
    bool done = false;
    client_connect(c, connected, &done);
    fake_settle(w);
    assert_true(done);
    return c;
}

static void op_done(struct client_op *op)
{
    struct fake_op *o = container_of(op, struct fake_op, op);
    assert_false(o->done);
    o->done = true;
    o->order = ++fake_op_completions;
}

static void prepare(struct fake_op *o, uint64_t pool, const char *name)
{
    *o = (struct fake_op){0};
    snprintf(o->name, sizeof o->name, "%s", name);
    o->op.object.pool = pool;
    o->op.object.snap = OBJECT_HEAD;
    o->op.object.name = (const uint8_t *)o->name;
    o->op.object.name_len = (uint16_t)strlen(o->name);
    o->op.n_steps = 1;
    o->op.done = op_done;
}

void fake_op_write(struct fake_op *o, uint64_t pool, const char *name, const char *data)
{
    prepare(o, pool, name);
    o->op.write = true;
    o->op.steps[0].code = WIRE_OP_CODE_WRITE_FULL;
    o->op.steps[0].length = strlen(data);
    assert_int_equal(buf_slice_copy(data, strlen(data), &o->op.steps[0].data), 0);
}

void fake_op_read(struct fake_op *o, uint64_t pool, const char *name, uint64_t length)
{
    prepare(o, pool, name);
    o->op.steps[0].code = WIRE_OP_CODE_READ;
    o->op.steps[0].length = length;
}

struct fake_request fake_request(struct fake_world *w, int32_t osd)
{
    struct fake_session *s = fake_osd(w, osd);
    if (s == NULL)
        fail_msg("no session with osd.%d", osd);
    struct message *m = fake_take_type(s, MSG_OSD_OP);
    struct fake_request request = {0};
    if (m == NULL) {
        fail_msg("no request at osd.%d", osd);
        return request;
    }
    struct decoder d;
    decoder_init(&d, m->body, m->body_len);
    memcpy(&request.head, decode_bytes(&d, sizeof request.head), sizeof request.head);
    decode_object_id(&d, &request.object);
    memcpy(&request.first, decode_bytes(&d, sizeof request.first), sizeof request.first);
    request.first_code = request.first.code;
    assert_int_equal(decoder_left(&d), (request.head.n_ops - 1u) * sizeof request.first);
    assert_int_equal(request.head.client, w->env.instance);
    return request;
}

bool fake_no_request(struct fake_world *w, int32_t osd)
{
    struct fake_session *s = fake_osd(w, osd);
    return s == NULL || fake_take_type(s, MSG_OSD_OP) == NULL;
}

void fake_osd_accept(struct fake_world *w, int32_t osd)
{
    fake_settle(w);
    struct fake_session *s = fake_osd(w, osd);
    if (s != NULL && !s->base.open)
        fake_session_open(w, s);
    fake_settle(w);
}

void fake_reply(struct fake_world *w, int32_t osd, uint64_t tid, int result, uint64_t epoch,
                const char *data)
{
    bool refusal = result < -LIMPET_ERROR_BASE;
    size_t body_len =
        sizeof(struct wire_osd_op_reply) + (refusal ? 0 : sizeof(struct wire_op_result));
    struct message *m = message_create(MSG_OSD_OP_REPLY, body_len);
    assert_non_null(m);
    struct wire_osd_op_reply head = {
        .tid = tid,
        .epoch = epoch,
        .version = {.config = 1, .sequence = tid},
        .result = result,
        .n_ops = refusal ? 0 : 1,
        .flags = w->reply_flags,
    };
    memcpy(m->body, &head, sizeof head);
    if (!refusal) {
        struct wire_op_result step = {.result = result, .data_len = (uint32_t)strlen(data)};
        memcpy(m->body + sizeof head, &step, sizeof step);
        assert_int_equal(buf_slice_copy(data, strlen(data), &m->payload), 0);
    }
    fake_deliver(w, fake_osd(w, osd), m);
    fake_settle(w);
}
