/*
 * The OSD process: what comes from the world is handed to the part that it belongs to.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "osd/osd_impl.h"

void osd_fatal(struct osd *osd, int error, const char *why)
{
    if (osd->failed)
        return;
    osd->failed = true;
    log_error(osd->env, "osd gives up", "osd=%d error=\"%s\" why=\"%s\"", osd->options.id,
              error_text(error), why);
    osd->options.fatal(osd->options.fatal_ctx, error, why);
}

struct osd_pg *osd_pg_find(const struct osd *osd, struct pg_id id)
{
    struct pg_id key;
    struct osd_pg *entry;
    memset(&key, 0, sizeof key);
    key.pool = id.pool;
    key.seed = id.seed;
    HASH_FIND(hh, osd->pgs, &key, sizeof key, entry);
    return entry;
}

bool osd_is_up(const struct osd *osd)
{
    const struct map_osd *self = map_osd(osd->map, osd->options.id);
    return self && self->up && self->instance == osd->env->instance;
}

const struct cluster_map *osd_map(const struct osd *osd)
{
    return osd->map;
}

const struct auth_provider *osd_auth(struct osd *osd)
{
    return &osd->auth;
}

/* ---- What placement groups ask of us ---- */

static void group_send(void *ctx, int32_t osd_id, struct message *message)
{
    osd_peer_send(ctx, osd_id, message);
}

static void group_answer(void *ctx, struct net_session *session, struct message *message)
{
    struct osd *osd = ctx;
    if (osd->closing)
        message_unref(message);
    else
        net_send(osd->env, session, message);
}

static void group_add_member(void *ctx, struct pg_id pg, uint64_t config, int32_t id)
{
    struct osd *osd = ctx;
    const struct map_osd *info = map_osd(osd->map, id);
    Limpet__Wire__PgAddMember add = LIMPET__WIRE__PG_ADD_MEMBER__INIT;
    if (!info)
        return;
    add.pool = pg.pool;
    add.seed = pg.seed;
    add.config = config;
    add.osd = id;
    add.osd_instance = info->instance;
    add.epoch = osd->map->epoch;
    osd_mon_send(osd, MSG_PG_ADD_MEMBER, &add.base);
}

static void group_fence(void *ctx, uint64_t client)
{
    Limpet__Wire__OsdFence fence = LIMPET__WIRE__OSD_FENCE__INIT;
    fence.client = client;
    osd_mon_send(ctx, MSG_OSD_FENCE, &fence.base);
}

static void group_changed(void *ctx, struct pg *pg)
{
    struct osd *osd = ctx;
    struct osd_pg *entry = osd_pg_find(osd, pg_id(pg));
    if (entry)
        osd_stats_due(osd, entry);
}

static void group_want_map(void *ctx, uint64_t epoch)
{
    osd_want_map(ctx, epoch);
}

static void group_fatal(void *ctx, int error, const char *why)
{
    osd_fatal(ctx, error, why);
}

static const struct pg_world_ops world_ops = {
    .send = group_send,
    .answer = group_answer,
    .request_done = osd_request_done,
    .may_read = osd_may_read,
    .add_member = group_add_member,
    .fence = group_fence,
    .lease_until = osd_lease_until,
    .granted_until = osd_granted_until,
    .changed = group_changed,
    .want_map = group_want_map,
    .fatal = group_fatal,
};

/* ---- Sessions ---- */

static enum session_kind kind_of(const struct net_session *session)
{
    if (!session->outbound)
        return SESSION_OF_GUEST;
    return *(const enum session_kind *)session->user;
}

static void net_opened(void *ctx, struct net_session *session)
{
    struct osd *osd = ctx;
    if (osd->closing) {
        net_close(osd->env, session);
        return;
    }
    switch (kind_of(session)) {
    case SESSION_OF_MON:
        osd_mon_opened(osd);
        break;
    case SESSION_OF_PEER:
        osd_peer_opened(session->user);
        break;
    case SESSION_OF_GUEST:
        osd_guest_opened(osd, session);
        break;
    }
}

static void net_received(void *ctx, struct net_session *session, struct message *message)
{
    struct osd *osd = ctx;
    if (osd->failed || osd->closing)
        return;
    switch (kind_of(session)) {
    case SESSION_OF_MON:
        osd_mon_received(osd, message);
        break;
    case SESSION_OF_PEER:
        osd_peer_received(session->user, message);
        break;
    case SESSION_OF_GUEST:
        osd_guest_received(osd, session, message);
        break;
    }
}

static void net_closed(void *ctx, struct net_session *session, int error)
{
    struct osd *osd = ctx;
    switch (kind_of(session)) {
    case SESSION_OF_MON:
        osd_mon_closed(osd, error);
        break;
    case SESSION_OF_PEER:
        osd_peer_closed(session->user, error);
        break;
    case SESSION_OF_GUEST:
        osd_guest_closed(osd, session);
        break;
    }
}

static void net_drained(void *ctx, struct net_session *session)
{
    if (kind_of(session) == SESSION_OF_GUEST)
        osd_guest_drained(ctx, session);
}

static const struct net_handlers handlers = {
    .opened = net_opened,
    .received = net_received,
    .closed = net_closed,
    .drained = net_drained,
};

/* ---- Time ---- */

static void tick_fired(struct env_timer *timer)
{
    struct osd *osd = container_of(timer, struct osd, tick);
    uint64_t now = env_now(osd->env);
    bool slept = now > osd->tick_due_ns + osd->grace_ns / 2;
    if (osd->closing || osd->failed)
        return;
    if (slept) {
        log_warn(osd->env, "osd slept", "osd=%d ms=%" PRIu64, osd->options.id,
                 (now - osd->tick_due_ns) / MSEC_NS);
        osd->mon.heard_ns = now;
    }
    osd_mon_tick(osd);
    osd_peers_tick(osd, slept);
    osd_leases_tick(osd);
    struct osd_pg *entry, *next;
    HASH_ITER(hh, osd->pgs, entry, next)
    {
        pg_tick(entry->pg);
    }
    osd_pgs_collect(osd);
    osd_stats_tick(osd);
    osd->tick_due_ns = now + osd->heartbeat_ns;
    env_timer_arm(osd->env, &osd->tick, osd->tick_due_ns);
}

/* ---- Start ---- */

static void load_next(struct osd *osd);

static void group_loaded(void *ctx, struct pg *pg)
{
    struct osd *osd = ctx;
    (void)pg;
    osd->loading--;
    if (!osd->stopping && !osd->failed)
        load_next(osd);
}

/* Some at a time; when all are there the map is shown to them, and we can say that we are here. */
static void load_next(struct osd *osd)
{
    while (osd->loading < OSD_LOADS_MAX && osd->next_load < osd->n_load) {
        struct osd_pg *entry = osd_pg_find(osd, osd->load[osd->next_load++]);
        assert(entry);
        osd->loading++;
        pg_load(entry->pg, group_loaded, osd);
    }
    if (osd->loading > 0 || osd->loaded)
        return;
    osd->loaded = true;
    free(osd->load);
    osd->load = NULL;
    osd_map_show(osd);
    osd_mon_boot(osd);
}

static void visit_group(void *ctx, struct pg_id id)
{
    struct osd *osd = ctx;
    struct pg_id *load = realloc(osd->load, (osd->n_load + 1) * sizeof *load);
    if (!load) {
        osd->failed = true;
        return;
    }
    osd->load = load;
    osd->load[osd->n_load++] = id;
}

static int find_groups(struct osd *osd)
{
    int error = osd->store->ops->pgs(osd->store, visit_group, osd);
    if (error || osd->failed)
        return error ? error : -ENOMEM;
    for (uint32_t i = 0; i < osd->n_load; i++) {
        error = osd_pg_add(osd, osd->load[i], true);
        if (error)
            return error;
    }
    return 0;
}

static void store_failed(void *ctx, int error, const char *why)
{
    osd_fatal(ctx, error, why);
}

static void init_world(struct osd *osd)
{
    osd->world.env = osd->env;
    osd->world.store = osd->store;
    pg_world_init(&osd->world);
    if (osd->options.pg_log_keep > 0)
        osd->world.log_keep = osd->options.pg_log_keep;
    if (osd->options.pg_clients > 0)
        osd->world.clients = osd->options.pg_clients;
    osd->world.map = osd->map;
    osd->world.self = osd->options.id;
    osd->world.ops = &world_ops;
    osd->world.ctx = osd;
    osd->world.started_ns = env_clock(osd->env);
    osd->world.lease_ns = OSD_LEASE_NS;
    osd->world.scrub = (struct pg_scrub_options){
        .interval_ns = osd->options.scrub_interval_ns,
        .deep_interval_ns = osd->options.deep_scrub_interval_ns,
        .first_ns = osd->options.scrub_first_ns ? osd->options.scrub_first_ns : OSD_SCRUB_FIRST_NS,
    };
}

static uint64_t choose_ns(uint32_t ms, uint64_t default_ns)
{
    return ms > 0 ? ms * MSEC_NS : default_ns;
}

int osd_create(struct env *env, const struct osd_options *options, struct store *store,
               struct osd **out)
{
    struct osd *osd = calloc(1, sizeof *osd);
    if (!osd)
        return -ENOMEM;
    osd->env = env;
    osd->store = store;
    osd->options = *options;
    osd->heartbeat_ns = choose_ns(options->heartbeat_ms, OSD_HEARTBEAT_NS);
    if (osd->heartbeat_ns > OSD_PING_MAX_NS)
        osd->heartbeat_ns = OSD_PING_MAX_NS;
    osd->grace_ns = choose_ns(options->heartbeat_grace_ms, OSD_GRACE_NS);
    osd->stats_ns = choose_ns(options->stats_ms, OSD_STATS_NS);
    osd->complaint_ns = choose_ns(options->complaint_ms, OSD_COMPLAINT_NS);
    TAILQ_INIT(&osd->guests);
    TAILQ_INIT(&osd->waiting);
    TAILQ_INIT(&osd->held);
    SLIST_INIT(&osd->free_requests);
    osd->map = map_create();
    if (!osd->map) {
        free(osd);
        return -ENOMEM;
    }
    init_world(osd);
    osd_auth_init(osd);
    osd_mon_init(osd);
    store->failed = store_failed;
    store->failed_ctx = osd;
    int error = find_groups(osd);
    if (!error) {
        net_handlers_set(env, &handlers, osd);
        error = net_listen(env, &options->listen, &osd->address);
    }
    if (error) {
        osd_free(osd);
        return error;
    }
    osd->tick.fire = tick_fired;
    osd->reads_timer.fire = osd_reads_fire;
    osd->tick_due_ns = env_now(env) + osd->heartbeat_ns;
    env_timer_arm(env, &osd->tick, osd->tick_due_ns);
    osd_stats_init(osd);
    load_next(osd);
    osd_mon_hunt(osd);
    *out = osd;
    return 0;
}
