#include "tests/unit/mon/mon_world.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mon/mon_private.h"
#include "tests/lib/test.h"

enum { MON_PORT = 3300, OSD_PORT = 6800 };

/* ---- Monitors ---- */

static void on_fatal(void *ctx, int error, const char *why)
{
    struct world_mon *m = ctx;

    (void)error;
    m->fatal = true;
    snprintf(m->why, sizeof m->why, "%s", why);
}

static void add_key(struct world *world, const char *name, const char *mon_caps,
                    const char *osd_caps)
{
    struct keyring_entry entry = {0};

    if (strcmp(name, "mon.") == 0)
        entry.name.type = ENTITY_MON;
    else
        assert_int_equal(entity_parse(name, &entry.name), 0);
    entry.secret.len = 32;
    memset(entry.secret.bytes, name[0] ^ name[strlen(name) - 1], 32);
    snprintf(entry.mon_caps, sizeof entry.mon_caps, "%s", mon_caps);
    snprintf(entry.osd_caps, sizeof entry.osd_caps, "%s", osd_caps);
    assert_int_equal(keyring_set(&world->keyring, &entry), 0);
}

void world_start(struct world *world, uint32_t i)
{
    struct world_mon *m = &world->mons[i];
    char why[256] = "";
    struct mon_options options = world->options;
    struct env *env = sim_process_start(m->node);

    assert_non_null(env);
    options.name = world->list[i].name;
    options.fatal = on_fatal;
    options.fatal_ctx = m;
    int rc = mon_create(env, &options, &m->mon, why);
    if (rc != 0)
        fail_msg("mon.%s does not start: %d %s", options.name, rc, why);
    sim_process_auth(m->node, mon_auth(m->mon));
}

void world_end(struct world *world, uint32_t i, enum sim_end how)
{
    struct world_mon *m = &world->mons[i];

    if (sim_process(m->node) == NULL)
        return;
    sim_process_freeze(m->node);
    mon_abandon(m->mon);
    m->mon = NULL;
    sim_process_end(m->node, how);
}

struct world *world_create(uint64_t seed, uint32_t n_mons, const struct sim_options *options)
{
    struct world *world = calloc(1, sizeof *world);
    struct sim_options defaults = {.seed = seed};
    char why[256] = "";

    if (options != NULL)
        defaults = *options;
    defaults.seed = seed;
    defaults.trace = getenv("LIMPET_TEST_TRACE") != NULL;
    assert_non_null(world);
    world->sim = sim_create(&defaults);
    assert_non_null(world->sim);
    world->n_mons = n_mons;
    memset(world->fsid.bytes, 0x5a, sizeof world->fsid.bytes);
    keyring_init(&world->keyring);
    add_key(world, "mon.", "allow *", "");
    add_key(world, "client.admin", "allow *", "allow *");
    add_key(world, "client.reader", "allow r", "allow r");
    for (int i = 0; i < 6; i++) {
        char name[16];
        snprintf(name, sizeof name, "osd.%d", i);
        add_key(world, name, "profile osd", "allow *");
    }
    for (uint32_t i = 0; i < n_mons; i++) {
        struct map_mon *info = &world->list[i];
        struct entity_name name = {.type = ENTITY_MON, .id = {(char)('a' + i)}};
        char label[16];
        snprintf(label, sizeof label, "mon.%c", 'a' + (int)i);
        world->mons[i].node = sim_node_create(world->sim, label, &name);
        assert_non_null(world->mons[i].node);
        info->id = i + 1;
        info->name[0] = (char)('a' + i);
        info->address = sim_node_address(world->mons[i].node, MON_PORT);
    }
    for (uint32_t i = 0; i < n_mons; i++) {
        struct mon_mkfs_options mkfs = {.fsid = world->fsid,
                                        .name = world->list[i].name,
                                        .n_mons = n_mons,
                                        .mons = world->list,
                                        .keyring = &world->keyring};
        struct env *env = sim_process_start(world->mons[i].node);
        assert_int_equal(mon_mkfs(env, &mkfs, why), 0);
        assert_int_equal(mon_mkfs(env, &mkfs, why), -EEXIST);
        sim_process_freeze(world->mons[i].node);
        sim_process_end(world->mons[i].node, SIM_EXIT);
    }
    for (uint32_t i = 0; i < n_mons; i++)
        world_start(world, i);
    return world;
}

void world_destroy(struct world *world)
{
    for (uint32_t i = 0; i < world->n_peers; i++)
        world_peer_kill(&world->peers[i]);
    for (uint32_t i = 0; i < world->n_mons; i++)
        world_end(world, i, SIM_CRASH);
    sim_destroy(world->sim);
    keyring_fini(&world->keyring);
    free(world);
}

/* ---- Time ---- */

void world_run_ms(struct world *world, uint64_t ms)
{
    sim_run(world->sim, sim_now(world->sim) + ms * MSEC_NS);
}

bool world_until(struct world *world, uint64_t ms, bool (*cond)(void *ctx), void *ctx)
{
    uint64_t end = sim_now(world->sim) + ms * MSEC_NS;

    while (!cond(ctx)) {
        if (!sim_step(world->sim, end))
            return cond(ctx);
    }
    return true;
}

int world_leader(struct world *world)
{
    int leader = -1;

    for (uint32_t i = 0; i < world->n_mons; i++) {
        if (world->mons[i].mon == NULL || !mon_is_leader(world->mons[i].mon))
            continue;
        if (leader >= 0)
            return -1;
        leader = (int)i;
    }
    return leader;
}

struct await_leader {
    struct world *world;
    int except;
};

static bool leader_there(void *ctx)
{
    struct await_leader *await = ctx;
    int leader = world_leader(await->world);

    return leader >= 0 && leader != await->except &&
           mon_map(await->world->mons[leader].mon)->epoch > 0;
}

int world_await_leader(struct world *world, int except)
{
    struct await_leader await = {.world = world, .except = except};

    if (!world_until(world, 20000, leader_there, &await)) {
        sim_log_dump(world->sim);
        fail_msg("no leader");
    }
    return world_leader(world);
}

struct await_epoch {
    struct world *world;
    uint64_t epoch;
};

static bool epoch_there(void *ctx)
{
    struct await_epoch *await = ctx;

    for (uint32_t i = 0; i < await->world->n_mons; i++) {
        struct mon *mon = await->world->mons[i].mon;
        if (mon != NULL && mon_map(mon)->epoch < await->epoch)
            return false;
    }
    return true;
}

void world_await_epoch(struct world *world, uint64_t epoch)
{
    struct await_epoch await = {.world = world, .epoch = epoch};

    if (!world_until(world, 20000, epoch_there, &await)) {
        sim_log_dump(world->sim);
        fail_msg("epoch %" PRIu64 " does not reach all monitors", epoch);
    }
}

/* ---- Peers ---- */

static void peer_opened(void *ctx, struct net_session *session)
{
    struct world_peer *peer = ctx;

    if (session == peer->session)
        peer->open = true;
}

static void take_map(struct world_peer *peer, const struct message *message)
{
    Limpet__Wire__MonMap *in =
        (Limpet__Wire__MonMap *)message_unpack(message, &limpet__wire__mon_map__descriptor);

    assert_non_null(in);
    peer->maps++;
    if (in->full) {
        map_destroy(peer->map);
        peer->map = NULL;
        peer->full_maps++;
        assert_int_equal(map_decode(message->payload.data, message->payload.len, &peer->map), 0);
        assert_int_equal(peer->map->epoch, in->last_epoch);
    }
    for (size_t i = 0; i < in->n_increments; i++) {
        struct map_increment *inc;
        assert_non_null(peer->map);
        assert_int_equal(map_increment_decode(in->increments[i].data, in->increments[i].len, &inc),
                         0);
        assert_int_equal(map_apply(peer->map, inc), 0);
        map_increment_destroy(inc);
    }
    limpet__wire__mon_map__free_unpacked(in, NULL);
}

static void take_reply(struct world_peer *peer, const struct message *message)
{
    Limpet__Wire__MonCommandReply *in = (Limpet__Wire__MonCommandReply *)message_unpack(
        message, &limpet__wire__mon_command_reply__descriptor);

    assert_non_null(in);
    if (in->tid == 0) {
        peer->notice = in->result;
        snprintf(peer->status, sizeof peer->status, "%s", in->status);
    } else if (in->tid == peer->tid) {
        assert_false(peer->replied);
        peer->replied = true;
        peer->result = in->result;
        peer->reply_epoch = in->epoch;
        snprintf(peer->status, sizeof peer->status, "%s", in->status);
        assert_true(message->payload.len < sizeof peer->output);
        if (message->payload.len > 0)
            memcpy(peer->output, message->payload.data, message->payload.len);
        peer->output_len = message->payload.len;
        peer->output[message->payload.len] = '\0';
    }
    limpet__wire__mon_command_reply__free_unpacked(in, NULL);
}

static void take_ticket(struct world_peer *peer, const struct message *message)
{
    Limpet__Wire__MonTicket *in =
        (Limpet__Wire__MonTicket *)message_unpack(message, &limpet__wire__mon_ticket__descriptor);

    assert_non_null(in);
    peer->ticketed = true;
    peer->ticket_result = in->result;
    peer->service_keys = in->n_service_keys;
    limpet__wire__mon_ticket__free_unpacked(in, NULL);
}

static void take_order(struct world_peer *peer, const struct message *message)
{
    Limpet__Wire__PgScrubOrder *order = (Limpet__Wire__PgScrubOrder *)message_unpack(
        message, &limpet__wire__pg_scrub_order__descriptor);

    assert_non_null(order);
    assert_int_equal(order->osd, entity_osd_id(&peer->name));
    peer->scrub_orders++;
    peer->deep_ordered = order->deep;
    limpet__wire__pg_scrub_order__free_unpacked(order, NULL);
}

static void peer_received(void *ctx, struct net_session *session, struct message *message)
{
    struct world_peer *peer = ctx;

    if (session != peer->session)
        return;
    if (message->type == MSG_MON_MAP)
        take_map(peer, message);
    else if (message->type == MSG_MON_COMMAND_REPLY)
        take_reply(peer, message);
    else if (message->type == MSG_MON_TICKET)
        take_ticket(peer, message);
    else if (message->type == MSG_PG_SCRUB_ORDER)
        take_order(peer, message);
}

static void peer_closed(void *ctx, struct net_session *session, int error)
{
    struct world_peer *peer = ctx;

    if (session != peer->session)
        return;
    peer->session = NULL;
    peer->open = false;
    peer->closed = error;
}

static const struct net_handlers peer_handlers = {
    .opened = peer_opened, .received = peer_received, .closed = peer_closed};

void world_peer_connect(struct world_peer *peer, uint32_t mon)
{
    struct net_expect expect = {.name = {.type = ENTITY_MON}};

    if (peer->session != NULL)
        net_close(peer->env, peer->session);
    peer->closed = 1;
    peer->open = false;
    strcpy(expect.name.id, peer->world->list[mon].name);
    assert_int_equal(
        net_open(peer->env, &peer->world->list[mon].address, &expect, peer, &peer->session), 0);
}

static int peer_credential(void *ctx, const struct entity_name *to, struct auth_ticket *out)
{
    const struct world_peer *peer = ctx;

    memset(out, 0, sizeof *out);
    out->secret = peer->secret;
    return to->type == ENTITY_MON ? 0 : -ENOENT;
}

/* An OSD has the keys of its service from the monitors. */
static int peer_service_key(void *ctx, uint64_t id, uint8_t key[32])
{
    const struct world *world = ((const struct world_peer *)ctx)->world;

    for (uint32_t i = 0; i < world->n_mons; i++) {
        const struct mon *mon = world->mons[i].mon;
        for (uint32_t k = 0; mon != NULL && k < mon->state.n_keys; k++) {
            if (mon->state.keys[k].id == id) {
                memcpy(key, mon->state.keys[k].key, 32);
                return 0;
            }
        }
    }
    return -ENOENT;
}

void world_peer_restart(struct world_peer *peer, uint32_t mon)
{
    struct net_address any;

    peer->env = sim_process_start(peer->node);
    assert_non_null(peer->env);
    peer->auth = (struct auth_provider){.self = peer->name,
                                        .ctx = peer,
                                        .credential = peer_credential,
                                        .service_key = peer_service_key};
    sim_process_auth(peer->node, &peer->auth);
    net_handlers_set(peer->env, &peer_handlers, peer);
    any = sim_node_address(peer->node, OSD_PORT);
    if (peer->name.type == ENTITY_OSD)
        assert_int_equal(net_listen(peer->env, &any, NULL), 0);
    peer->session = NULL;
    world_peer_connect(peer, mon);
}

struct world_peer *world_peer(struct world *world, const char *name, uint32_t mon)
{
    struct world_peer *peer = &world->peers[world->n_peers++];

    assert_true(world->n_peers <= WORLD_PEERS_MAX);
    peer->world = world;
    assert_int_equal(entity_parse(name, &peer->name), 0);
    peer->secret = keyring_find(&world->keyring, &peer->name)->secret;
    peer->node = sim_node_create(world->sim, name, &peer->name);
    assert_non_null(peer->node);
    world_peer_restart(peer, mon);
    return peer;
}

void world_peer_kill(struct world_peer *peer)
{
    if (peer->env != NULL) {
        sim_process_freeze(peer->node);
        sim_process_end(peer->node, SIM_CRASH);
    }
    peer->env = NULL;
    peer->session = NULL;
    map_destroy(peer->map);
    peer->map = NULL;
}

void world_send(struct world_peer *peer, uint16_t type, const ProtobufCMessage *body)
{
    struct message *message = message_pack(type, body);

    assert_non_null(message);
    assert_non_null(peer->session);
    net_send(peer->env, peer->session, message);
}

void world_send_command(struct world_peer *peer, const char *json)
{
    Limpet__Wire__MonCommand command = LIMPET__WIRE__MON_COMMAND__INIT;

    peer->tid++;
    peer->replied = false;
    command.tid = peer->tid;
    command.has_oldest = peer->oldest > 0;
    command.oldest = peer->oldest;
    command.json = (char *)(uintptr_t)json;
    world_send(peer, MSG_MON_COMMAND, &command.base);
}

static bool has_reply(void *ctx)
{
    struct world_peer *peer = ctx;

    return peer->replied || peer->session == NULL;
}

int world_command(struct world_peer *peer, const char *json)
{
    world_send_command(peer, json);
    if (!world_until(peer->world, 20000, has_reply, peer) || !peer->replied) {
        sim_log_dump(peer->world->sim);
        fail_msg("no answer to %s (session closed: %d)", json, peer->closed);
    }
    return peer->result;
}

void world_subscribe(struct world_peer *peer, uint64_t have)
{
    Limpet__Wire__MonSubscribe subscribe = LIMPET__WIRE__MON_SUBSCRIBE__INIT;

    subscribe.have_epoch = have;
    subscribe.has_fsid = true;
    subscribe.fsid.data = peer->world->fsid.bytes;
    subscribe.fsid.len = sizeof peer->world->fsid.bytes;
    world_send(peer, MSG_MON_SUBSCRIBE, &subscribe.base);
}

void world_boot_as(struct world_peer *osd, int32_t id, uint8_t uuid, const char *host)
{
    Limpet__Wire__OsdBoot boot = LIMPET__WIRE__OSD_BOOT__INIT;
    Limpet__Wire__Address address = LIMPET__WIRE__ADDRESS__INIT;
    struct net_address where = sim_node_address(osd->node, OSD_PORT);
    uint8_t bytes[16];

    memset(bytes, uuid, sizeof bytes);
    address.family = where.family;
    address.ip.data = where.ip;
    address.ip.len = where.family == 4 ? 4 : 16;
    address.port = where.port;
    boot.id = id;
    boot.uuid.data = bytes;
    boot.uuid.len = sizeof bytes;
    boot.address = &address;
    boot.instance = osd->env->instance;
    boot.epoch = osd->map != NULL ? osd->map->epoch : 0;
    boot.has_bytes_total = true;
    boot.bytes_total = UINT64_C(10) << 30;
    boot.host = (char *)(uintptr_t)host;
    world_send(osd, MSG_OSD_BOOT, &boot.base);
}

void world_boot(struct world_peer *osd, int32_t id, const char *host)
{
    world_boot_as(osd, id, (uint8_t)(id + 1), host);
}

void world_fail(struct world_peer *from, int32_t id, uint64_t instance,
                Limpet__Wire__OsdFailure__Kind kind)
{
    Limpet__Wire__OsdFailure failure = LIMPET__WIRE__OSD_FAILURE__INIT;

    failure.id = id;
    failure.instance = instance;
    failure.kind = kind;
    failure.epoch = from->map != NULL ? from->map->epoch : 0;
    world_send(from, MSG_OSD_FAILURE, &failure.base);
}

void world_fence(struct world_peer *from, uint64_t client)
{
    Limpet__Wire__OsdFence fence = LIMPET__WIRE__OSD_FENCE__INIT;

    fence.client = client;
    world_send(from, MSG_OSD_FENCE, &fence.base);
}

void world_report(struct world_peer *osd, int32_t id)
{
    Limpet__Wire__OsdStats stats = LIMPET__WIRE__OSD_STATS__INIT;
    Limpet__Wire__PgStat pgs[512];
    Limpet__Wire__PgStat *pointers[512];

    stats.id = id;
    stats.instance = osd->env->instance;
    stats.epoch = osd->map != NULL ? osd->map->epoch : 0;
    stats.bytes_total = UINT64_C(10) << 30;
    stats.bytes_used = osd->bytes_used != 0 ? osd->bytes_used : UINT64_C(1) << 30;
    stats.has_repaired = true;
    stats.repaired = osd->repaired;
    stats.has_read_errors = true;
    stats.has_slow_ops = stats.has_slowest_ms = osd->slow_ops > 0;
    stats.slow_ops = osd->slow_ops;
    stats.slowest_ms = UINT64_C(40000) + (uint64_t)id * 1000;
    stats.slowest_waits = osd->slow_ops > 0 ? "for the copy on osd.7" : NULL;
    stats.read_errors = osd->read_errors;
    stats.has_complete = true;
    stats.complete = true;
    for (uint32_t i = 0; osd->map != NULL && i < osd->map->n_pools; i++) {
        const struct map_pool *pool = &osd->map->pools[i];
        for (uint32_t seed = 0; seed < pool->pg_num && stats.n_pgs < 512; seed++) {
            struct pg_view view;
            struct pg_id pg = {.pool = pool->id, .seed = seed};
            assert_int_equal(map_pg_view(osd->map, pg, &view), 0);
            if (view.primary != id)
                continue;
            Limpet__Wire__PgStat *out = &pgs[stats.n_pgs];
            limpet__wire__pg_stat__init(out);
            out->pool = pool->id;
            out->seed = seed;
            out->config = view.config;
            out->state = view.active ? LIMPET__WIRE__PG_STATE__PG_ACTIVE
                                     : LIMPET__WIRE__PG_STATE__PG_INACTIVE;
            out->objects = 1;
            out->bytes = 4096;
            out->has_inconsistent = osd->inconsistent > 0;
            out->inconsistent = osd->inconsistent;
            pointers[stats.n_pgs++] = out;
        }
    }
    stats.pgs = pointers;
    world_send(osd, MSG_OSD_STATS, &stats.base);
}
