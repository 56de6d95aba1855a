/*
 * Following the map: applying what monitors send, and showing it to everything that depends on it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/planted.h"
#include "osd/osd_impl.h"

/* ---- Placement groups ---- */

int osd_pg_add(struct osd *osd, struct pg_id id, bool in_store)
{
    struct osd_pg *entry = calloc(1, sizeof *entry);
    if (!entry)
        return -ENOMEM;
    entry->id.pool = id.pool;
    entry->id.seed = id.seed;
    entry->pg = pg_create(&osd->world, id, in_store);
    if (!entry->pg) {
        free(entry);
        return -ENOMEM;
    }
    HASH_ADD(hh, osd->pgs, id, sizeof entry->id, entry);
    return 0;
}

static bool gives_us_part(const struct osd *osd, struct pg_id id)
{
    struct pg_view view;
    if (map_pg_view(osd->map, id, &view))
        return false;
    for (uint8_t i = 0; i < view.n_members; i++)
        if (view.members[i] == osd->options.id)
            return true;
    for (uint8_t i = 0; i < view.n_learners; i++)
        if (view.learners[i] == osd->options.id)
            return true;
    return false;
}

/* Groups that the map gives us and that we do not know yet. */
static void add_groups(struct osd *osd)
{
    for (uint32_t i = 0; i < osd->map->n_pools; i++) {
        const struct map_pool *pool = &osd->map->pools[i];
        for (uint32_t seed = 0; seed < pool->pg_num; seed++) {
            struct pg_id id = {.pool = pool->id, .seed = seed};
            if (osd_pg_find(osd, id) || !gives_us_part(osd, id))
                continue;
            if (osd_pg_add(osd, id, false))
                osd_fatal(osd, -ENOMEM, "no memory for a placement group");
        }
    }
}

void osd_pgs_collect(struct osd *osd)
{
    struct osd_pg *entry, *next;
    HASH_ITER(hh, osd->pgs, entry, next)
    {
        if (!pg_is_disposable(entry->pg))
            continue;
        HASH_DEL(osd->pgs, entry);
        pg_destroy(entry->pg);
        free(entry);
    }
}

/* ---- A new map ---- */

/*
 * The map names another process. A message that it sent before it died may have reached the
 * monitors late: then we say again that we are here. When that happens again and again somebody
 * lives who says the same, from a copy of our data folder.
 */
static void check_rivals(struct osd *osd)
{
    uint64_t now = env_now(osd->env);
    if (now - osd->rival_since_ns > OSD_RIVAL_NS) {
        osd->rival_since_ns = now;
        osd->rivals = 0;
    }
    osd->rivals++;
    log_warn(osd->env, "the map names another process", "osd=%d epoch=%" PRIu64, osd->options.id,
             osd->map->epoch);
    if (osd->rivals > OSD_RIVALS_MAX)
        osd_fatal(osd, -EEXIST, "another process says that it is this OSD");
}

/*
 * The map gives our number to another store. When it has shown us up before, it has gone to that
 * one since. Else the map may be from before the number was given to us, since a monitor may lag
 * behind: then it means nothing, and the leader says whether we may have the number (osd_mon.c).
 */
static bool is_anothers(struct osd *osd)
{
    const struct map_osd *self = map_osd(osd->map, osd->options.id);
    if (!self || uuid_is_zero(&self->uuid) || uuid_equal(&self->uuid, &osd->options.uuid))
        return false;
    if (osd->was_up)
        osd_fatal(osd, -EEXIST, "in the map this number belongs to another OSD's store");
    return true;
}

/* What the map says about this very process. */
static void look_at_ourselves(struct osd *osd)
{
    const struct map_osd *self = map_osd(osd->map, osd->options.id);
    bool up = osd_is_up(osd);
    if (osd->was_up && self && self->up && self->instance != osd->env->instance)
        check_rivals(osd);
    else if (osd->was_up && !up && !osd->stopping)
        log_warn(osd->env, "osd marked down though it lives", "osd=%d epoch=%" PRIu64,
                 osd->options.id, osd->map->epoch);
    if (up && !osd->was_up)
        log_info(osd->env, "osd up", "osd=%d epoch=%" PRIu64, osd->options.id, osd->map->epoch);
    if (up)
        osd->mon.boot_since_ns = osd->mon.denied_since_ns = 0;
    osd->was_up = up;
}

static void show_to_groups(struct osd *osd, bool every_step)
{
    osd->world.map = osd->map;
    if (is_anothers(osd)) {
        osd->steps_missed = true;
        return;
    }
    every_step = every_step && !osd->steps_missed;
    osd->steps_missed = false;
    look_at_ourselves(osd);
    if (osd->failed || !osd->loaded)
        return;
    add_groups(osd);
    osd_peers_follow_map(osd);
    struct osd_pg *entry, *next;
    HASH_ITER(hh, osd->pgs, entry, next)
    {
        pg_follow_map(entry->pg, every_step);
    }
    osd_peers_choose(osd);
}

/* After the last of the increments that came together. */
static void map_changed(struct osd *osd)
{
    if (osd->failed)
        return;
    osd_space_check(osd);
    if (!osd->loaded)
        return;
    osd_pgs_collect(osd);
    osd_held_retry(osd);
    osd_requests_retry(osd);
    osd_leases_renewed(osd);
    if (!osd_is_up(osd))
        osd_mon_boot(osd);
}

void osd_map_show(struct osd *osd)
{
    if (osd->map->epoch == 0)
        return;
    show_to_groups(osd, false);
    map_changed(osd);
}

/* ---- What monitors send ---- */

static int check_fsid(struct osd *osd, const struct uuid *fsid)
{
    if (uuid_is_zero(&osd->options.fsid)) {
        osd->options.fsid = *fsid;
        osd->auth.fsid = &osd->options.fsid;
    }
    if (uuid_equal(&osd->options.fsid, fsid))
        return 0;
    osd_fatal(osd, -EXDEV, "the monitors belong to another cluster");
    return -EXDEV;
}

static int take_full(struct osd *osd, const struct message *message)
{
    struct cluster_map *map;
    osd->mon.want_full = false;
    int error = map_decode(message->payload.data, message->payload.len, &map);
    if (error)
        return error;
    if (map->epoch <= osd->map->epoch) {
        map_destroy(map);
        return 0;
    }
    error = check_fsid(osd, &map->fsid);
    if (error) {
        map_destroy(map);
        return error;
    }
    struct cluster_map *old = osd->map;
    osd->map = map;
    show_to_groups(osd, false);
    map_destroy(old);
    map_changed(osd);
    return 0;
}

/* Applies one; tells whether it was new. */
static int apply(struct osd *osd, const ProtobufCBinaryData *data, bool *applied)
{
    struct map_increment *inc;
    int error = map_increment_decode(data->data, data->len, &inc);
    if (error)
        return error;
    *applied = false;
    if (planted(PLANTED_SKIP_INCREMENT) && map_increment_epoch(inc) % 8 == 0) {
        osd->map->epoch = map_increment_epoch(inc);
    } else if (map_increment_epoch(inc) > osd->map->epoch) {
        error = map_apply(osd->map, inc);
        *applied = error == 0;
    }
    map_increment_destroy(inc);
    return error;
}

static int take_increments(struct osd *osd, const Limpet__Wire__MonMap *map)
{
    bool every_step = map->n_increments <= OSD_STEPS_MAX;
    bool changed = false, applied;
    int error = 0;
    for (size_t i = 0; i < map->n_increments && !error && !osd->failed; i++) {
        error = apply(osd, &map->increments[i], &applied);
        if (error || !applied)
            continue;
        changed = true;
        error = check_fsid(osd, &osd->map->fsid);
        if (!error && every_step)
            show_to_groups(osd, true);
    }
    if (changed && !every_step && !osd->failed)
        show_to_groups(osd, false);
    if (changed)
        map_changed(osd);
    return error;
}

void osd_map_received(struct osd *osd, const struct message *message)
{
    Limpet__Wire__MonMap *map =
        (Limpet__Wire__MonMap *)message_unpack(message, &limpet__wire__mon_map__descriptor);
    if (!map)
        return;
    int error = map->full ? take_full(osd, message) : take_increments(osd, map);
    protobuf_c_message_free_unpacked(&map->base, NULL);
    if (error && !osd->failed) {
        log_error(osd->env, "map refused", "osd=%d epoch=%" PRIu64 " error=\"%s\"", osd->options.id,
                  osd->map->epoch, error_text(error));
        osd->mon.want_full = true;
        osd_mon_hunt(osd);
    }
}
