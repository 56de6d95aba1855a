#include "tests/unit/osd/pg_world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "osd/pg/pg_layout.h"
#include "placement/hash.h"

enum { LATENCY_NS = 100000, RULE = 0 };
#define DISK_BYTES (UINT64_C(1) << 30)

static void must(int rc)
{
    if (rc != 0)
        fail_msg("setting up failed: %d", rc);
}

/* ---- The env of each process: one clock for all ---- */

static struct node *node_of(struct env *env)
{
    return container_of(env, struct node, env);
}

static uint64_t now_ns(struct env *env)
{
    return node_of(env)->world->now_ns;
}

static void take_random(struct env *env, void *out, size_t len)
{
    struct world *world = node_of(env)->world;
    for (size_t i = 0; i < len; i++) {
        world->random = world->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        ((uint8_t *)out)[i] = (uint8_t)(world->random >> 33);
    }
}

static void timer_arm(struct env *env, struct env_timer *timer, uint64_t deadline_ns)
{
    timer_heap_arm(&node_of(env)->world->timers, timer, deadline_ns);
}

static void timer_stop(struct env *env, struct env_timer *timer)
{
    timer_heap_stop(&node_of(env)->world->timers, timer);
}

static void drop_log(struct env *env, int level, const char *line)
{
    (void)env;
    (void)level;
    if (getenv("LIMPET_TEST_LOG"))
        print_message("%12llu osd.%d %s\n", (unsigned long long)now_ns(env), node_of(env)->id,
                      line);
}

static const struct env_ops env_table = {
    .now_ns = now_ns,
    .clock_ns = now_ns,
    .wall_ns = now_ns,
    .random = take_random,
    .timer_arm = timer_arm,
    .timer_stop = timer_stop,
    .log = drop_log,
};

/* ---- Messages ---- */

static void put_in_flight(struct world *world, int32_t from, int32_t to, bool answer,
                          struct link_state *link, struct message *message)
{
    if (link->lossy || !world->nodes[to].pg) {
        message_unref(message);
        return;
    }
    struct flight *flight = calloc(1, sizeof *flight);
    assert_non_null(flight);
    flight->from = from;
    flight->to = to;
    flight->answer = answer;
    flight->session = link->number;
    flight->message = message;
    TAILQ_INSERT_TAIL(&world->flights, flight, link);
}

static void node_send(void *ctx, int32_t osd, struct message *message)
{
    struct node *node = ctx;
    put_in_flight(node->world, node->id, osd, false, &node->world->links[node->id][osd], message);
}

/* What a primary tells a client. */
static void take_event(struct world *world, const struct net_session *session,
                       struct message *message)
{
    struct guest *guest = container_of(session, struct guest, session);
    assert_true(guest < world->guests + WORLD_GUESTS);
    assert_int_equal(message->type, MSG_WATCH_EVENT);
    memcpy(&guest->event, message->body, sizeof guest->event);
    guest->n_events++;
    message_unref(message);
}

static void node_answer(void *ctx, struct net_session *session, struct message *message)
{
    struct node *node = ctx;
    struct guest *guest = node->world->guests;
    if (session >= &guest[0].session && session <= &guest[WORLD_GUESTS - 1].session) {
        take_event(node->world, session, message);
        return;
    }
    struct link_state *link = container_of(session, struct link_state, session);
    int32_t opener = entity_osd_id(&session->peer.name);
    put_in_flight(node->world, node->id, opener, true, link, message);
}

static void flight_free(struct world *world, struct flight *flight)
{
    TAILQ_REMOVE(&world->flights, flight, link);
    message_unref(flight->message);
    free(flight);
}

static void hold_message(struct node *node, int32_t from, struct net_session *session,
                         struct message *message)
{
    struct held_message *held = calloc(1, sizeof *held);
    assert_non_null(held);
    held->from = from;
    held->session = session;
    held->message = message_ref(message);
    TAILQ_INSERT_TAIL(&node->held, held, link);
}

static void give(struct node *node, int32_t from, struct net_session *session,
                 struct message *message)
{
    struct pg_incoming in;
    must(pg_incoming_decode(message, &in));
    if (pg_receive(node->pg, session, from, &in) == PG_HOLD)
        hold_message(node, from, session, message);
    pg_incoming_fini(&in);
}

/* The first message that may go. */
static struct flight *next_flight(struct world *world)
{
    struct flight *flight;
    TAILQ_FOREACH(flight, &world->flights, link)
    {
        if (!world->links[flight->from][flight->to].stopped)
            return flight;
    }
    return NULL;
}

static void deliver(struct world *world, struct flight *flight)
{
    struct node *node = &world->nodes[flight->to];
    int32_t opener = flight->answer ? flight->to : flight->from;
    int32_t accepter = flight->answer ? flight->from : flight->to;
    struct link_state *link = &world->links[opener][accepter];
    if (node->pg && link->number == flight->session) {
        if (world->watch)
            world->watch(world, flight);
        world->delivered[flight->message->type]++;
        struct message *message = message_ref(flight->message);
        int32_t from = flight->from;
        flight_free(world, flight);
        give(node, from, &link->session, message);
        message_unref(message);
        return;
    }
    flight_free(world, flight);
}

bool world_step(struct world *world)
{
    struct flight *flight = next_flight(world);
    struct env_timer *timer = timer_heap_first(&world->timers);
    if (flight) {
        deliver(world, flight);
        return true;
    }
    if (!timer)
        return false;
    if (timer->deadline_ns > world->now_ns)
        world->now_ns = timer->deadline_ns;
    timer = timer_heap_pop(&world->timers, world->now_ns, UINT64_MAX);
    timer->fire(timer);
    return true;
}

void world_settle(struct world *world)
{
    for (uint32_t steps = 0; world_step(world); steps++)
        if (steps == 1000000)
            fail_msg("it never comes to rest");
}

void world_settle_for(struct world *world, uint64_t ns)
{
    uint64_t until = world->now_ns + ns;
    for (uint32_t steps = 0;; steps++) {
        const struct env_timer *timer = timer_heap_first(&world->timers);
        if (!next_flight(world) && (!timer || timer->deadline_ns > until))
            break;
        world_step(world);
        if (steps == 1000000)
            fail_msg("it never comes to rest");
    }
    world->now_ns = until;
}

void world_ticks(struct world *world, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        world->now_ns += 500 * MSEC_NS;
        for (int32_t osd = 0; osd < WORLD_OSDS; osd++)
            if (world->nodes[osd].pg)
                pg_tick(world->nodes[osd].pg);
        world_settle(world);
    }
}

void world_stop_link(struct world *world, int32_t from, int32_t to, bool stopped)
{
    world->links[from][to].stopped = stopped;
}

static void link_open(struct world *world, int32_t from, int32_t to)
{
    struct link_state *link = &world->links[from][to];
    link->number = ++world->next_session;
    link->session.open = true;
    link->session.peer.name = entity_osd(from);
    link->session.peer.instance = world->nodes[from].env.instance;
}

static void drop_held(struct node *node, const struct net_session *session)
{
    struct held_message *held, *next;
    for (held = TAILQ_FIRST(&node->held); held; held = next) {
        next = TAILQ_NEXT(held, link);
        if (session && held->session != session)
            continue;
        TAILQ_REMOVE(&node->held, held, link);
        message_unref(held->message);
        free(held);
    }
}

void world_reset_link(struct world *world, int32_t from, int32_t to)
{
    struct link_state *link = &world->links[from][to];
    if (world->nodes[to].pg) {
        pg_session_closed(world->nodes[to].pg, &link->session);
        drop_held(&world->nodes[to], &link->session);
    }
    link_open(world, from, to);
    if (world->nodes[from].pg)
        pg_peer_reset(world->nodes[from].pg, to);
}

/* ---- Requests ---- */

static void node_request_done(void *ctx, struct pg_request *request, struct message *reply)
{
    struct asked *asked = container_of(request, struct asked, request);
    (void)ctx;
    asked->done = true;
    asked->dropped = !reply;
    if (reply) {
        memcpy(&asked->reply, reply->body, sizeof asked->reply);
        for (uint16_t i = 0; i < asked->reply.n_ops && i < 4; i++)
            memcpy(&asked->steps[i], reply->body + sizeof asked->reply + i * sizeof asked->steps[0],
                   sizeof asked->steps[0]);
        asked->data = buf_slice_ref(reply->payload);
        message_unref(reply);
    }
    message_unref(request->message);
    request->message = NULL;
}

struct object_id world_object(const char *name)
{
    size_t len = strlen(name);
    return (struct object_id){
        .pool = WORLD_POOL,
        .hash = hash_object("", 0, name, len),
        .space = (const uint8_t *)"",
        .name_len = (uint16_t)len,
        .name = (const uint8_t *)name,
        .snap = OBJECT_HEAD,
    };
}

static bool code_writes(uint16_t code)
{
    return (code >= WIRE_OP_CODE_WRITE_AT && code <= WIRE_OP_CODE_CREATE) ||
           code == WIRE_OP_CODE_ROLLBACK || code == WIRE_OP_CODE_WATCH ||
           code == WIRE_OP_CODE_UNWATCH;
}

static struct message *request_message(struct world *world, uint64_t tid, const char *name,
                                       const struct step *steps, uint16_t n)
{
    struct object_id id = world_object(name);
    struct wire_osd_op head = {
        .client = world->client ? world->client : WORLD_CLIENT,
        .tid = tid,
        .age_ns = world->age_ns,
        .attempt = world->age_ns > 0,
        .epoch = world->epoch ? world->epoch : world->map->epoch,
        .pool = WORLD_POOL,
        .pg_seed = world->pg.seed,
        .n_ops = n,
    };
    struct encoder e;
    size_t data_len = 0, at = 0;
    bool writes = false;
    for (uint16_t i = 0; i < n; i++) {
        data_len += steps[i].len;
        writes = writes || code_writes(steps[i].code);
    }
    head.snap = world->read_snap;
    if (writes) {
        head.flags |= WIRE_OP_WRITE;
        head.oldest = world->oldest;
        head.snap = world->snap;
        head.n_snaps = (uint16_t)world->snap;
    }
    if (world->full_try)
        head.flags |= WIRE_OP_FULL_TRY;
    if (steps[0].code == WIRE_OP_CODE_LIST || steps[0].code == WIRE_OP_CODE_INCONSISTENT ||
        steps[0].code == WIRE_OP_CODE_WATCH_PING)
        head.flags |= WIRE_OP_PG;
    encoder_init(&e);
    encode_bytes(&e, &head, sizeof head);
    encode_object_id(&e, &id);
    struct buf_slice data = BUF_SLICE_EMPTY;
    if (data_len > 0)
        must(buf_slice_alloc(data_len, &data));
    for (uint16_t i = 0; i < n; i++) {
        struct wire_op op = {
            .code = steps[i].code,
            .flags = steps[i].flags,
            .data_len = (uint32_t)steps[i].len,
            .offset = steps[i].offset,
            .length = steps[i].length,
        };
        encode_bytes(&e, &op, sizeof op);
        if (steps[i].len > 0)
            memcpy(data.data + at, steps[i].data, steps[i].len);
        at += steps[i].len;
    }
    for (uint16_t i = 0; i < head.n_snaps; i++)
        encode_u64(&e, world->snap - i);
    struct message *message = message_create(MSG_OSD_OP, e.len);
    assert_non_null(message);
    memcpy(message->body, e.data, e.len);
    message->payload = data;
    encoder_fini(&e);
    return message;
}

void ask_again(struct world *world, int32_t osd, struct asked *asked, uint64_t tid,
               const char *name, const struct step *steps, uint16_t n)
{
    memset(asked, 0, sizeof *asked);
    asked->request.message = request_message(world, tid, name, steps, n);
    asked->request.caller.instance = world->client ? world->client : WORLD_CLIENT;
    asked->request.caller.address = "";
    for (uint32_t i = 0; i < WORLD_GUESTS; i++)
        if (world->guests[i].instance == asked->request.caller.instance)
            asked->request.session = &world->guests[i].session;
    int error = ops_decode(asked->request.message, &asked->request.ops);
    if (error) {
        asked->done = true;
        asked->reply.result = error;
        message_unref(asked->request.message);
        asked->request.message = NULL;
        return;
    }
    pg_request(world->nodes[osd].pg, &asked->request);
}

void ask(struct world *world, int32_t osd, struct asked *asked, const char *name,
         const struct step *steps, uint16_t n)
{
    ask_again(world, osd, asked, ++world->next_tid, name, steps, n);
}

void ask_fini(struct asked *asked)
{
    buf_slice_drop(&asked->data);
}

int ask_now(struct world *world, int32_t osd, const char *name, const struct step *steps,
            uint16_t n)
{
    struct asked asked;
    ask(world, osd, &asked, name, steps, n);
    world_settle(world);
    if (!asked.done)
        fail_msg("no answer about %s", name);
    ask_fini(&asked);
    return asked.reply.result;
}

int write_full(struct world *world, int32_t osd, const char *name, const char *text)
{
    const struct step step = {.code = WIRE_OP_CODE_WRITE_FULL, .data = text, .len = strlen(text)};
    return ask_now(world, osd, name, &step, 1);
}

int append(struct world *world, int32_t osd, const char *name, const char *text)
{
    const struct step step = {.code = WIRE_OP_CODE_APPEND, .data = text, .len = strlen(text)};
    return ask_now(world, osd, name, &step, 1);
}

void assert_reads(struct world *world, int32_t osd, const char *name, const char *text)
{
    const struct step step = {.code = WIRE_OP_CODE_READ};
    struct asked asked;
    ask(world, osd, &asked, name, &step, 1);
    world_settle(world);
    assert_true(asked.done);
    assert_int_equal(asked.reply.result, text ? 0 : -ENOENT);
    if (text) {
        assert_int_equal(asked.data.len, strlen(text));
        assert_memory_equal(asked.data.data, text, strlen(text));
    }
    ask_fini(&asked);
}

/* ---- Processes ---- */

static bool node_may_read(void *ctx, struct pg_request *request, uint64_t bytes)
{
    (void)ctx;
    (void)request;
    (void)bytes;
    return true;
}

static void node_add_member(void *ctx, struct pg_id pg, uint64_t config, int32_t osd)
{
    struct node *node = ctx;
    assert_true(pg_id_equal(pg, node->world->pg));
    node->n_adds++;
    node->add_config = config;
    node->add_osd = osd;
}

static void node_fence(void *ctx, uint64_t client)
{
    struct node *node = ctx;
    node->n_fences++;
    node->fenced = client;
}

static void node_changed(void *ctx, struct pg *pg)
{
    (void)ctx;
    (void)pg;
}

static void node_want_map(void *ctx, uint64_t epoch)
{
    struct node *node = ctx;
    node->wants_epoch = epoch;
}

static void node_fatal(void *ctx, int error, const char *why)
{
    struct node *node = ctx;
    node->fatal = true;
    print_message("osd.%d gives up: %s (%d)\n", node->id, why, error);
}

static uint64_t node_lease_until(void *ctx, int32_t osd)
{
    const struct node *node = ctx;
    return node->lease_until_ns[osd];
}

static uint64_t node_granted_until(void *ctx, int32_t osd, uint64_t instance)
{
    const struct node *node = ctx;
    (void)instance;
    return node->granted_until_ns[osd];
}

static const struct pg_world_ops node_ops = {
    .send = node_send,
    .answer = node_answer,
    .request_done = node_request_done,
    .may_read = node_may_read,
    .add_member = node_add_member,
    .fence = node_fence,
    .lease_until = node_lease_until,
    .granted_until = node_granted_until,
    .changed = node_changed,
    .want_map = node_want_map,
    .fatal = node_fatal,
};

static void note_pg(void *ctx, struct pg_id pg)
{
    bool *has = ctx;
    (void)pg;
    *has = true;
}

static void loaded(void *ctx, struct pg *pg)
{
    (void)ctx;
    (void)pg;
}

void world_start(struct world *world, int32_t osd)
{
    struct node *node = &world->nodes[osd];
    bool has = false;
    take_random(&node->env, &node->env.instance, sizeof node->env.instance);
    node->env.instance |= 1;
    must(store_memory_open(&node->env, node->disk, world->latency_ns, &node->store));
    memset(&node->pgs, 0, sizeof node->pgs);
    node->pgs.env = &node->env;
    pg_world_init(&node->pgs);
    node->pgs.store = node->store;
    node->pgs.map = map_create();
    node->pgs.self = osd;
    node->pgs.started_ns = world->now_ns;
    node->pgs.lease_ns = world->lease_ns;
    if (world->log_keep > 0)
        node->pgs.log_keep = world->log_keep;
    for (int32_t other = 0; other < WORLD_OSDS; other++) {
        node->lease_until_ns[other] = UINT64_MAX;
        node->granted_until_ns[other] = 0;
    }
    node->pgs.ops = &node_ops;
    node->pgs.ctx = node;
    assert_non_null(node->pgs.map);
    must(node->store->ops->pgs(node->store, note_pg, &has));
    node->pg = pg_create(&node->pgs, world->pg, has);
    assert_non_null(node->pg);
    if (has) {
        pg_load(node->pg, loaded, node);
        world_settle(world);
    }
    for (int32_t other = 0; other < WORLD_OSDS; other++) {
        link_open(world, osd, other);
        link_open(world, other, osd);
        world->links[osd][other].stopped = world->links[other][osd].stopped = false;
    }
}

static void drop_flights_of(struct world *world, int32_t osd)
{
    struct flight *flight, *next;
    for (flight = TAILQ_FIRST(&world->flights); flight; flight = next) {
        next = TAILQ_NEXT(flight, link);
        if (flight->to == osd)
            flight_free(world, flight);
    }
}

void world_crash(struct world *world, int32_t osd)
{
    struct node *node = &world->nodes[osd];
    struct pg *pg = node->pg;
    if (!pg)
        return;
    store_memory_crash(node->store);
    node->pg = NULL;
    pg_destroy(pg);
    pg_world_fini(&node->pgs);
    map_destroy((struct cluster_map *)(uintptr_t)node->pgs.map);
    drop_held(node, NULL);
    drop_flights_of(world, osd);
    for (int32_t other = 0; other < WORLD_OSDS; other++)
        if (world->nodes[other].pg) {
            pg_session_closed(world->nodes[other].pg, &world->links[osd][other].session);
            drop_held(&world->nodes[other], &world->links[osd][other].session);
        }
}

/* ---- The map ---- */

static struct map_increment *change(struct world *world)
{
    struct map_increment *inc = map_increment_create(world->map->epoch + 1);
    assert_non_null(inc);
    return inc;
}

static void apply(struct world *world, struct map_increment *inc)
{
    must(map_apply(world->map, inc));
    map_increment_destroy(inc);
}

static void put_members(struct world *world, struct map_increment *inc, int32_t first,
                        int32_t second, int32_t third)
{
    struct map_pg entry = {.pg = world->pg, .config = map_increment_epoch(inc)};
    const int32_t members[] = {first, second, third};
    for (int i = 0; i < 3; i++)
        if (members[i] >= 0)
            entry.members[entry.n++] = members[i];
    must(map_increment_set_pg(inc, &entry));
}

static void put_osd(struct world *world, struct map_increment *inc, int32_t osd, bool up)
{
    const struct map_osd *known = map_osd(world->map, osd);
    struct map_osd value = {.exists = true, .weight = MAP_WEIGHT_ONE};
    if (known)
        value = *known;
    value.up = up;
    value.uuid.bytes[0] = (uint8_t)(osd + 1);
    value.address = (struct net_address){.family = 4, .ip = {127, 0, 0, 1}, .port = 7000};
    value.address.port = (uint16_t)(7000 + osd);
    if (up) {
        value.instance = world->nodes[osd].env.instance;
        value.up_from = map_increment_epoch(inc);
    } else {
        value.down_at = map_increment_epoch(inc);
    }
    must(map_increment_set_osd(inc, osd, &value));
}

static void make_map(struct world *world)
{
    struct map_increment *inc = change(world);
    struct crush_map *crush = crush_create();
    struct uuid fsid = {.bytes = {9}};
    int32_t root;
    uint32_t rule;
    assert_non_null(crush);
    must(crush_add_bucket(crush, (uint16_t)crush_type_by_name(crush, "root"), "default", &root));
    for (int32_t osd = 0; osd < WORLD_OSDS; osd++)
        must(crush_insert(crush, root, osd, MAP_WEIGHT_ONE));
    must(crush_add_simple_rule(crush, "rule", "default", "osd", false, &rule));
    must(map_increment_set_fsid(inc, &fsid));
    must(map_increment_set_crush(inc, crush));
    crush_destroy(crush);
    for (int32_t osd = 0; osd < WORLD_OSDS; osd++)
        put_osd(world, inc, osd, true);
    apply(world, inc);
    inc = change(world);
    struct map_pool pool = {
        .id = WORLD_POOL,
        .name = "data",
        .type = POOL_REPLICATED,
        .size = 3,
        .min_size = 2,
        .pg_num = 1,
        .crush_rule = rule,
        .created = map_increment_epoch(inc),
        .config_base = map_increment_epoch(inc),
    };
    must(map_increment_set_pool(inc, &pool));
    apply(world, inc);
}

void world_set_members(struct world *world, int32_t first, int32_t second, int32_t third)
{
    struct map_increment *inc = change(world);
    put_members(world, inc, first, second, third);
    apply(world, inc);
}

void world_set_up(struct world *world, int32_t osd, bool up, int32_t first, int32_t second,
                  int32_t third)
{
    struct map_increment *inc = change(world);
    put_osd(world, inc, osd, up);
    put_members(world, inc, first, second, third);
    apply(world, inc);
}

void world_set_down_only(struct world *world, int32_t osd)
{
    struct map_increment *inc = change(world);
    put_osd(world, inc, osd, false);
    apply(world, inc);
}

void world_set_osd_only(struct world *world, int32_t osd)
{
    struct map_increment *inc = change(world);
    put_osd(world, inc, osd, true);
    apply(world, inc);
}

void world_set_ended(struct world *world, int32_t osd)
{
    struct map_increment *inc = change(world);
    struct map_osd value = *map_osd(world->map, osd);
    value.ended = true;
    must(map_increment_set_osd(inc, osd, &value));
    apply(world, inc);
}

void world_set_flags(struct world *world, uint32_t flags)
{
    struct map_increment *inc = change(world);
    must(map_increment_set_flags(inc, flags));
    apply(world, inc);
}

void world_give_number(struct world *world, int32_t osd)
{
    const struct map_osd gone = {0};
    struct map_osd value = *map_osd(world->map, osd);
    struct map_increment *inc = change(world);
    must(map_increment_set_osd(inc, osd, &gone));
    apply(world, inc);
    inc = change(world);
    value.uuid.bytes[0] ^= 0x80;
    value.instance++;
    value.up = true;
    value.up_from = value.created = map_increment_epoch(inc);
    must(map_increment_set_osd(inc, osd, &value));
    apply(world, inc);
}

void world_set_size(struct world *world, uint8_t size)
{
    struct map_increment *inc = change(world);
    struct map_pool pool = *map_pool(world->map, WORLD_POOL);
    pool.size = size;
    pool.min_size = 1;
    must(map_increment_set_pool(inc, &pool));
    apply(world, inc);
}

void world_set_snaps(struct world *world, const struct map_snaps *snaps)
{
    struct map_increment *inc = change(world);
    struct map_pool pool = *map_pool(world->map, WORLD_POOL);
    pool.snaps = snaps;
    must(map_increment_set_pool(inc, &pool));
    apply(world, inc);
    snaps_unref(snaps);
    world_show_all(world);
}

void world_rebase(struct world *world)
{
    struct map_increment *inc = change(world);
    struct map_pool pool = *map_pool(world->map, WORLD_POOL);
    pool.config_base = map_increment_epoch(inc);
    must(map_increment_set_pool(inc, &pool));
    if (map_pg_entry(world->map, world->pg))
        must(map_increment_remove_pg(inc, world->pg));
    apply(world, inc);
}

void world_begin_anew(struct world *world)
{
    struct map_increment *inc = change(world);
    struct map_pool pool = *map_pool(world->map, WORLD_POOL);
    pool.created = pool.config_base = map_increment_epoch(inc);
    for (int32_t osd = 0; osd < WORLD_OSDS; osd++)
        put_osd(world, inc, osd, true);
    must(map_increment_set_pool(inc, &pool));
    must(map_increment_remove_pg(inc, world->pg));
    apply(world, inc);
}

void world_remove_pool(struct world *world)
{
    struct map_increment *inc = change(world);
    if (map_pg_entry(world->map, world->pg))
        must(map_increment_remove_pg(inc, world->pg));
    must(map_increment_remove_pool(inc, WORLD_POOL));
    apply(world, inc);
}

void world_show(struct world *world, int32_t osd)
{
    struct node *node = &world->nodes[osd];
    if (!node->pg)
        return;
    struct cluster_map *old = (struct cluster_map *)(uintptr_t)node->pgs.map;
    struct cluster_map *copy = map_clone(world->map);
    bool every_step = old->epoch + 1 == copy->epoch;
    assert_non_null(copy);
    node->pgs.map = copy;
    pg_follow_map(node->pg, every_step);
    map_destroy(old);
    TAILQ_HEAD(, held_message) held = TAILQ_HEAD_INITIALIZER(held);
    TAILQ_CONCAT(&held, &node->held, link);
    struct held_message *message;
    while ((message = TAILQ_FIRST(&held))) {
        TAILQ_REMOVE(&held, message, link);
        give(node, message->from, message->session, message->message);
        message_unref(message->message);
        free(message);
    }
}

void world_show_all(struct world *world)
{
    for (int32_t osd = 0; osd < WORLD_OSDS; osd++)
        world_show(world, osd);
}

/* ---- The whole ---- */

void world_init(struct world *world, int32_t first, int32_t second, int32_t third)
{
    memset(world, 0, sizeof *world);
    world->now_ns = SEC_NS;
    world->random = 1;
    world->latency_ns = LATENCY_NS;
    world->pg = (struct pg_id){.pool = WORLD_POOL, .seed = 0};
    timer_heap_init(&world->timers);
    TAILQ_INIT(&world->flights);
    world->map = map_create();
    assert_non_null(world->map);
    for (int32_t osd = 0; osd < WORLD_OSDS; osd++) {
        struct node *node = &world->nodes[osd];
        node->world = world;
        node->id = osd;
        node->env.ops = &env_table;
        node->env.log_mask = getenv("LIMPET_TEST_LOG") ? UINT32_MAX : 0;
        TAILQ_INIT(&node->held);
        node->disk = store_memory_disk_create(DISK_BYTES);
        assert_non_null(node->disk);
    }
    for (int32_t osd = 0; osd < WORLD_OSDS; osd++)
        world_start(world, osd);
    make_map(world);
    world_set_members(world, first, second, third);
    world_show_all(world);
}

void world_fini(struct world *world)
{
    for (int32_t osd = 0; osd < WORLD_OSDS; osd++) {
        assert_false(world->nodes[osd].fatal);
        world_crash(world, osd);
        store_memory_disk_destroy(world->nodes[osd].disk);
    }
    struct flight *flight;
    while ((flight = TAILQ_FIRST(&world->flights)))
        flight_free(world, flight);
    map_destroy(world->map);
    timer_heap_fini(&world->timers);
}

/* ---- Disks ---- */

struct disk_text {
    struct encoder text;
    uint32_t n;
    uint64_t base; /* Of the log. */
};

static void note_object(void *ctx, const struct store_memory_object *object)
{
    struct disk_text *disk = ctx;
    encode_object_id(&disk->text, object->id);
    encode_u64(&disk->text, object->size);
    encode_bytes(&disk->text, object->info, object->info_len);
    encode_u32(&disk->text, object->data_crc);
    encode_u32(&disk->text, object->attrs_crc);
    encode_u32(&disk->text, object->omap_crc);
    disk->n++;
}

/* How entries are packed is a member's own affair. */
static void note_run(struct disk_text *disk, const uint8_t *value, uint32_t len)
{
    struct decoder d;
    decoder_init(&d, value, len);
    while (decoder_left(&d) > 0) {
        uint8_t key[PG_NUMBERED_KEY_LEN];
        struct pg_entry_layout entry;
        uint32_t entry_len;
        const void *bytes = decode_string32(&d, &entry_len);
        assert_true(!d.failed && entry_len >= sizeof entry);
        memcpy(&entry, bytes, sizeof entry);
        pg_numbered_key(PG_KEY_LOG, entry.version.sequence, key);
        if (entry.version.sequence <= disk->base)
            continue;
        encode_bytes(&disk->text, key, sizeof key);
        encode_bytes(&disk->text, bytes, entry_len);
    }
}

static void note_pair(void *ctx, const uint8_t *key, uint16_t key_len, const uint8_t *value,
                      uint32_t len)
{
    struct disk_text *disk = ctx;
    struct pg_entry_layout entry;
    uint64_t number;
    if (pg_numbered_key_parse(PG_KEY_RUN, key, key_len, &number) == 0) {
        note_run(disk, value, len);
        return;
    }
    /* When a member learned what is committed is its own affair, and part of no entry. */
    encode_bytes(&disk->text, key, key_len);
    if (key_len == PG_NUMBERED_KEY_LEN && len >= sizeof entry)
        encode_bytes(&disk->text, value, len);
}

static void read_disk(struct world *world, int32_t osd, struct disk_text *disk)
{
    memset(disk, 0, sizeof *disk);
    encoder_init(&disk->text);
    store_memory_visit_objects(world->nodes[osd].disk, WORLD_POOL, 0, UINT32_MAX, note_object,
                               disk);
    const uint8_t key = PG_KEY_STATE, *found, *value;
    uint16_t found_len;
    uint32_t len;
    struct pg_state_layout state;
    if (store_memory_pair(world->nodes[osd].disk, world->pg, &key, 1, &found, &found_len, &value,
                          &len) &&
        pg_state_parse(value, len, &state) == 0)
        disk->base = state.base.sequence;
    store_memory_visit_pairs(world->nodes[osd].disk, world->pg, note_pair, disk);
}

static void beside_done(struct store_txn *txn, int error)
{
    assert_int_equal(error, 0);
    txn->impl[0] = NULL;
}

void put_beside(struct world *world, int32_t osd, const char *name, const struct beside *beside)
{
    struct store_txn txn;
    struct object_id id = world_object(name);
    uint8_t *value = calloc(1, beside->len + 1);
    char key[32];
    assert_non_null(value);
    memset(value, beside->fill, beside->len);
    txn_init(&txn);
    txn.done = beside_done;
    txn_object(&txn, &id);
    for (uint32_t i = 0; i < beside->n_attrs; i++) {
        (void)snprintf(key, sizeof key, "attribute.%u", i);
        txn_set_attr(&txn, key, (uint16_t)strlen(key), value, beside->len);
    }
    for (uint32_t i = 0; i < beside->n_pairs; i++) {
        (void)snprintf(key, sizeof key, "key.%u", i);
        txn_omap_set(&txn, key, (uint16_t)strlen(key), value, beside->len);
    }
    if (beside->header > 0)
        txn_omap_header(&txn, value, beside->header);
    store_submit(world->nodes[osd].store, &txn);
    world_settle(world);
    txn_fini(&txn);
    free(value);
}

void assert_equal_disks(struct world *world, int32_t a, int32_t b)
{
    struct disk_text first, second;
    read_disk(world, a, &first);
    read_disk(world, b, &second);
    assert_int_equal(first.n, second.n);
    assert_int_equal(first.text.len, second.text.len);
    assert_memory_equal(first.text.data, second.text.data, first.text.len);
    encoder_fini(&first.text);
    encoder_fini(&second.text);
}

uint32_t objects_on_disk(struct world *world, int32_t osd)
{
    struct disk_text disk;
    read_disk(world, osd, &disk);
    encoder_fini(&disk.text);
    return disk.n;
}

static void read_finished(struct store_read *read)
{
    (void)read;
}

void assert_on_disk(struct world *world, int32_t osd, const char *name, const char *text)
{
    struct store_read read = {
        .object = world_object(name), .len = OBJECT_SIZE_MAX, .done = read_finished};
    read.error = 1;
    store_read(world->nodes[osd].store, &read);
    world_settle(world);
    assert_int_equal(read.error, text ? 0 : -ENOENT);
    if (text) {
        assert_int_equal(read.data.len, strlen(text));
        assert_memory_equal(read.data.data, text, strlen(text));
    }
    buf_slice_drop(&read.data);
    encoder_fini(&read.attrs);
}
