/* What OSDs report to the leader, and what it concludes when they do not. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "mon/leader.h"

enum {
    COMPACT_AFTER_S = 10,    /* A pool is left alone for this long before it is compacted. */
    FENCE_DAYS = 7,          /* Longer than a machine sleeps, whose client then goes on. */
    LATE_TICK_S = 3,         /* So late a tick means that we ourselves were stopped. */
    SUBTREE_IN_PERCENT = 25, /* Automatic out never leaves fewer OSDs in than this. */
};

/* ---- The first state of a cluster ---- */

int leader_stage_initial(struct leader *leader, struct batch *batch)
{
    struct mon *mon = leader->mon;
    struct machine_initial initial = {.fsid = mon->identity.fsid,
                                      .n_mons = mon->identity.n_mons,
                                      .mons = mon->identity.mons,
                                      .chooseleaf_type = mon->options.crush_chooseleaf_type};

    if (change_map(batch->change)->epoch != 0)
        return 0;
    int rc = machine_initial(batch->change, &initial);
    for (uint32_t i = 0; rc == 0 && i < mon->identity.keyring.n; i++) {
        const struct keyring_entry *entry = &mon->identity.keyring.entries[i];
        /* The key that monitors share stays in their own files. */
        if (entry->name.type != ENTITY_MON)
            rc = mon_entry_set_auth(&batch->entry, entry);
    }
    batch->entry.n_keys = 1;
    batch->entry.keys[0].id = 1;
    env_random(mon->env, batch->entry.keys[0].key, sizeof batch->entry.keys[0].key);
    if (rc != 0)
        log_error(mon->env, "first state not made", "error=%d", rc);
    return rc;
}

/* ---- Boots and members ---- */

static bool address_from_wire(const Limpet__Wire__Address *wire, struct net_address *out)
{
    memset(out, 0, sizeof *out);
    if (wire == NULL || wire->port == 0 || wire->port > UINT16_MAX ||
        !((wire->family == 4 && wire->ip.len == 4) || (wire->family == 6 && wire->ip.len == 16)))
        return false;
    out->family = (uint8_t)wire->family;
    memcpy(out->ip, wire->ip.data, wire->ip.len);
    out->port = (uint16_t)wire->port;
    return true;
}

static bool sent_by_osd(const struct request *request, int32_t osd)
{
    return request->sender.type == ENTITY_OSD && entity_osd_id(&request->sender) == osd;
}

static void refuse_boot(struct leader *leader, const struct request *request, int error,
                        const char *why)
{
    Limpet__Wire__MonCommandReply notice = LIMPET__WIRE__MON_COMMAND_REPLY__INIT;

    notice.tid = 0;
    notice.result = error;
    notice.status = (char *)(uintptr_t)why;
    notice.has_epoch = true;
    notice.epoch = leader->mon->state.map->epoch;
    leader_answer(leader, request, MSG_MON_COMMAND_REPLY, &notice.base, BUF_SLICE_EMPTY);
}

int leader_stage_boot(struct leader *leader, struct batch *batch, struct request *request)
{
    struct machine_boot boot = {0};
    uint64_t held_ns = 0;
    Limpet__Wire__OsdBoot *wire = (Limpet__Wire__OsdBoot *)message_unpack(
        request->message, &limpet__wire__osd_boot__descriptor);

    if (wire == NULL)
        return -EBADMSG;
    int rc = -EINVAL;
    if (sent_by_osd(request, wire->id) && wire->uuid.len == sizeof boot.uuid.bytes &&
        address_from_wire(wire->address, &boot.address)) {
        boot.id = wire->id;
        memcpy(boot.uuid.bytes, wire->uuid.data, sizeof boot.uuid.bytes);
        boot.instance = wire->instance;
        boot.epoch = wire->epoch;
        boot.bytes_total = wire->bytes_total;
        boot.host = wire->host;
        rc = leader_holds_down(leader, boot.id, boot.instance, &held_ns)
                 ? -EAGAIN
                 : machine_osd_boot(batch->change, &boot);
    }
    if (rc == -EEXIST) {
        char why[MON_STATUS_MAX];
        snprintf(
            why, sizeof why,
            "osd.%d is another store: its number is taken. If that one is lost, remove it with "
            "limpet osd rm %d; else choose another number",
            wire->id, wire->id);
        refuse_boot(leader, request, rc, why);
    } else if (held_ns > 0) {
        char why[MON_STATUS_MAX];
        snprintf(why, sizeof why, "held down for %" PRIu64 " ms more: see limpet health detail",
                 held_ns / MSEC_NS);
        refuse_boot(leader, request, rc, why);
    } else if (rc == -EAGAIN) {
        refuse_boot(leader, request, rc, "the flag noup keeps OSDs from coming up");
    } else if (rc == -ESTALE) {
        refuse_boot(leader, request, rc,
                    "the number was removed after the map that you know: ask again by a newer map");
    }
    if (held_ns > 0)
        log_debug(leader->mon->env, "osd is held down", "osd=%d", wire->id);
    else if (rc != 0)
        log_warn(leader->mon->env, "boot refused", "osd=%d error=%d", wire->id, rc);
    else
        log_info(leader->mon->env, "osd boots", "osd=%d instance=%" PRIx64, wire->id,
                 wire->instance);
    limpet__wire__osd_boot__free_unpacked(wire, NULL);
    return rc;
}

int leader_stage_add_member(struct leader *leader, struct batch *batch,
                            const struct request *request)
{
    Limpet__Wire__PgAddMember *wire = (Limpet__Wire__PgAddMember *)message_unpack(
        request->message, &limpet__wire__pg_add_member__descriptor);

    if (wire == NULL)
        return -EBADMSG;
    struct machine_add_member add = {.pg = {.pool = wire->pool, .seed = wire->seed},
                                     .config = wire->config,
                                     .osd = wire->osd,
                                     .osd_instance = wire->osd_instance,
                                     .epoch = wire->epoch,
                                     .from = entity_osd_id(&request->sender)};
    int rc =
        request->sender.type == ENTITY_OSD ? machine_pg_add_member(batch->change, &add) : -EPERM;
    /* A late or repeated request is ordinary: the map shows what is true. */
    log_debug(leader->mon->env, "add member",
              "pg=%" PRIu64 ".%x config=%" PRIu64 " osd=%d result=%d", wire->pool, wire->seed,
              wire->config, wire->osd, rc);
    limpet__wire__pg_add_member__free_unpacked(wire, NULL);
    return rc;
}

/* Whoever was blocked for shorter before is blocked for longer now. */
static bool blocked_for_long(const struct cluster_map *map, const struct map_blocked *wanted)
{
    for (uint32_t i = 0; i < map->n_blocked; i++)
        if (map_blocked_compare(&map->blocked[i], wanted) == 0)
            return map->blocked[i].until_ns + FENCE_DAYS * 3600 * SEC_NS > wanted->until_ns;
    return false;
}

/* Repeated until the OSD knows the map, and asked for by all who have a lease of it. */
int leader_stage_fence(struct leader *leader, struct batch *batch, const struct request *request)
{
    struct map_blocked blocked = {.address.family = 4};
    Limpet__Wire__OsdFence *wire = (Limpet__Wire__OsdFence *)message_unpack(
        request->message, &limpet__wire__osd_fence__descriptor);

    if (wire == NULL)
        return -EBADMSG;
    const struct map_osd *osd =
        request->sender.type == ENTITY_OSD
            ? map_osd(leader->mon->state.map, entity_osd_id(&request->sender))
            : NULL;
    bool may = osd != NULL && osd->up && osd->instance == request->instance;
    int rc = !may ? -EPERM : wire->client == 0 ? -EINVAL : 0;
    blocked.instance = wire->client;
    blocked.until_ns = env_wall(leader->mon->env) + FENCE_DAYS * 24 * 3600 * SEC_NS;
    bool known = rc == 0 && blocked_for_long(change_map(batch->change), &blocked);
    if (rc == 0 && !known)
        rc = machine_block(batch->change, &blocked);
    if (rc == -ENOSPC)
        log_warn(leader->mon->env, "client not fenced",
                 "client=%" PRIx64
                 " error=\"%d are blocked already: others wait for what it holds until "
                 "'limpet osd blocklist rm' has made room\"",
                 wire->client, MAP_BLOCKED_MAX);
    else if (rc != 0)
        log_warn(leader->mon->env, "client not fenced", "client=%" PRIx64 " error=\"%s\"",
                 wire->client, error_text(rc));
    else if (!known)
        log_info(leader->mon->env, "client fenced", "client=%" PRIx64 " by=osd.%d", wire->client,
                 entity_osd_id(&request->sender));
    limpet__wire__osd_fence__free_unpacked(wire, NULL);
    return rc;
}

/* ---- Signs of life ---- */

struct osd_watch *leader_watch(struct leader *leader, int32_t id)
{
    if (id < 0)
        return NULL;
    if (id >= leader->n_watched) {
        struct osd_watch *watched = realloc(leader->watched, ((size_t)id + 1) * sizeof *watched);
        if (watched == NULL)
            return NULL;
        memset(watched + leader->n_watched, 0,
               (size_t)(id + 1 - leader->n_watched) * sizeof *watched);
        leader->watched = watched;
        leader->n_watched = id + 1;
    }
    return &leader->watched[id];
}

void leader_stats(struct leader *leader, const struct request *request)
{
    struct mon *mon = leader->mon;
    Limpet__Wire__OsdStats *report = (Limpet__Wire__OsdStats *)message_unpack(
        request->message, &limpet__wire__osd_stats__descriptor);

    if (report == NULL)
        return;
    const struct map_osd *osd = map_osd(mon->state.map, report->id);
    /* A monitor passes on what an OSD had told it, in its own name. */
    bool allowed = sent_by_osd(request, report->id) || request->sender.type == ENTITY_MON;
    if (osd != NULL && osd->instance == report->instance && allowed) {
        struct osd_watch *watch = leader_watch(leader, report->id);
        if (watch != NULL && sent_by_osd(request, report->id)) {
            watch->instance = report->instance;
            watch->seen_ns = env_now(mon->env);
        }
        stats_report(mon->stats, mon->state.map, report, env_now(mon->env));
    }
    limpet__wire__osd_stats__free_unpacked(report, NULL);
}

void leader_watch_begin(struct leader *leader)
{
    leader->n_reports = 0;
    leader->n_pools = 0;
    if (leader->n_watched > 0)
        memset(leader->watched, 0, (size_t)leader->n_watched * sizeof *leader->watched);
    leader_watch_map(leader);
}

/* Each process gets the full grace from when we learn of it. */
void leader_watch_map(struct leader *leader)
{
    const struct cluster_map *map = leader->mon->state.map;
    uint64_t now_ns = env_now(leader->mon->env);
    uint32_t n_up = 0;
    uint32_t n_in = 0;

    for (int32_t id = 0; id < map->max_osd; id++) {
        const struct map_osd *osd = map_osd(map, id);
        n_up += osd != NULL && osd->up;
        n_in += osd != NULL && osd->weight > 0;
        struct osd_watch *watch = osd != NULL ? leader_watch(leader, id) : NULL;
        if (watch == NULL)
            continue;
        if (watch->instance != osd->instance || (osd->up && watch->down_since_ns != 0)) {
            watch->instance = osd->instance;
            watch->seen_ns = now_ns;
        }
        if (osd->up)
            watch->down_since_ns = 0;
        else if (watch->down_since_ns == 0)
            watch->down_since_ns = now_ns;
    }
    if (n_up != leader->n_up || leader->up_ns < leader->since_ns)
        leader->up_ns = now_ns;
    if (n_in != leader->n_in || leader->in_ns < leader->since_ns)
        leader->in_ns = now_ns;
    leader->n_up = n_up;
    leader->n_in = n_in;
}

static void watch_silence(struct leader *leader, uint64_t now_ns)
{
    const struct cluster_map *map = leader->mon->state.map;
    uint64_t grace_ns = leader->mon->options.osd_beacon_grace_seconds * SEC_NS;

    for (int32_t id = 0; id < map->max_osd && id < leader->n_watched; id++) {
        const struct map_osd *osd = map_osd(map, id);
        struct osd_watch *watch = &leader->watched[id];
        if (osd == NULL || !osd->up || watch->instance != osd->instance)
            continue;
        if (now_ns - leader->last_tick_ns > LATE_TICK_S * SEC_NS)
            watch->seen_ns = now_ns;
        if (now_ns - watch->seen_ns > grace_ns) {
            log_info(leader->mon->env, "osd silent", "osd=%d seconds=%" PRIu64, id,
                     (now_ns - watch->seen_ns) / SEC_NS);
            leader_request(leader, REQUEST_DOWN, id, osd->instance, 0);
        }
    }
}

static void watch_down(struct leader *leader, uint64_t now_ns)
{
    const struct cluster_map *map = leader->mon->state.map;
    uint64_t out_ns = leader->mon->options.osd_down_out_seconds * SEC_NS;
    uint32_t exist = 0;
    uint32_t in = 0;

    if (out_ns == 0 || (map->flags & MAP_NOOUT) != 0)
        return;
    for (int32_t id = 0; id < map->max_osd; id++) {
        const struct map_osd *osd = map_osd(map, id);
        exist += osd != NULL;
        in += osd != NULL && osd->weight > 0;
    }
    for (int32_t id = 0; id < map->max_osd && id < leader->n_watched; id++) {
        const struct map_osd *osd = map_osd(map, id);
        const struct osd_watch *watch = &leader->watched[id];
        if (osd == NULL || osd->up || osd->weight == 0 || watch->down_since_ns == 0 ||
            now_ns - watch->down_since_ns < out_ns || (in - 1) * 100 < exist * SUBTREE_IN_PERCENT)
            continue;
        in--;
        log_info(leader->mon->env, "osd marked out", "osd=%d", id);
        leader_request(leader, REQUEST_AUTO_OUT, id, 0, 0);
    }
}

static struct pool_watch *pool_watch_find(struct leader *leader, uint64_t id)
{
    for (uint32_t i = 0; i < leader->n_pools; i++) {
        if (leader->pools[i].pool == id)
            return &leader->pools[i];
    }
    struct pool_watch *pools =
        realloc(leader->pools, (leader->n_pools + 1) * sizeof *leader->pools);
    if (pools == NULL)
        return NULL;
    leader->pools = pools;
    pools[leader->n_pools] = (struct pool_watch){.pool = id};
    return &pools[leader->n_pools++];
}

/* Pools whose groups have all come to rest lose their entries in the map: R4. */
static void watch_pools(struct leader *leader, uint64_t now_ns)
{
    const struct cluster_map *map = leader->mon->state.map;

    for (uint32_t i = 0; i < leader->n_pools;) {
        if (map_pool(map, leader->pools[i].pool) == NULL)
            leader->pools[i] = leader->pools[--leader->n_pools];
        else
            i++;
    }
    for (uint32_t i = 0; i < map->n_pgs;) {
        uint64_t id = map->pgs[i].pg.pool;
        struct pool_watch *watch = pool_watch_find(leader, id);
        const struct map_pool *pool = map_pool(map, id);
        while (i < map->n_pgs && map->pgs[i].pg.pool == id)
            i++;
        if (watch == NULL || pool == NULL)
            continue;
        if (!machine_pool_settled(leader->machine, map, pool))
            watch->settled_ns = 0;
        else if (watch->settled_ns == 0)
            watch->settled_ns = now_ns;
        else if (now_ns - watch->settled_ns > COMPACT_AFTER_S * SEC_NS) {
            watch->settled_ns = 0;
            leader_request(leader, REQUEST_COMPACT, 0, 0, id);
        }
    }
}

/* Clients whose time of being blocked is over. */
static void watch_blocked(struct leader *leader)
{
    const struct cluster_map *map = leader->mon->state.map;
    uint64_t wall_ns = env_wall(leader->mon->env);

    for (uint32_t i = 0; i < map->n_blocked; i++) {
        if (map->blocked[i].until_ns <= wall_ns) {
            leader_request(leader, REQUEST_UNBLOCK, 0, 0, 0);
            return;
        }
    }
}

void leader_watch_tick(struct leader *leader)
{
    uint64_t now_ns = env_now(leader->mon->env);

    leader_failure_tick(leader, now_ns - leader->last_tick_ns > LATE_TICK_S * SEC_NS);
    watch_silence(leader, now_ns);
    watch_down(leader, now_ns);
    watch_blocked(leader);
    /* The machine's memory is of the map that the entry in flight leads to. */
    if (!consensus_in_flight(leader->mon->consensus))
        watch_pools(leader, now_ns);
    leader_watch_snaps(leader);
}
