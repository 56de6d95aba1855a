/* What happens to OSDs: the events of machine.h that are about them. */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/planted.h"
#include "mon/machine.h"
#include "mon/machine_private.h"
#include "placement/crush.h"

#define ROOT_NAME "default"
#define RULE_NAME "replicated_rule"
#define TIB_SHIFT 40

int machine_initial(struct change *change, const struct machine_initial *initial)
{
    struct crush_map *crush = crush_create();
    int32_t root;
    uint32_t rule;

    if (crush == NULL)
        return -ENOMEM;
    int root_type = crush_type_by_name(crush, "root");
    const char *leaf = crush_type_name(crush, initial->chooseleaf_type);
    int rc = root_type < 0 || leaf == NULL ? -EINVAL : 0;
    if (rc == 0)
        rc = crush_add_bucket(crush, (uint16_t)root_type, ROOT_NAME, &root);
    if (rc == 0)
        rc = crush_add_simple_rule(crush, RULE_NAME, ROOT_NAME, leaf, false, &rule);
    if (rc == 0) {
        rc = map_increment_set_fsid(change->all, &initial->fsid);
        if (rc == 0)
            rc = map_increment_set_fsid(change->part, &initial->fsid);
        if (rc == 0)
            rc = map_increment_set_mons(change->all, initial->mons, initial->n_mons);
        if (rc == 0)
            rc = map_increment_set_mons(change->part, initial->mons, initial->n_mons);
        if (rc != 0)
            rc = change_break(change, rc);
    }
    if (rc == 0)
        rc = stage_crush(change, crush);
    crush_destroy(crush);
    return rc == 0 ? change_flush(change) : rc;
}

static_assert((int)CRUSH_NAME_MAX <= (int)MAP_HOST_MAX,
              "a host's bucket and its OSDs share the name");

/* The name of a host, with what CRUSH and the map do not allow replaced. */
static void host_clean(const char *host, char out[CRUSH_NAME_MAX + 1])
{
    const char *source = host != NULL && host[0] != '\0' ? host : "unknown-host";
    size_t len = 0;

    for (; source[len] != '\0' && len < CRUSH_NAME_MAX - 5; len++) {
        unsigned char c = (unsigned char)source[len];
        out[len] = isalnum(c) || c == '.' || c == '_' || c == '-' ? (char)c : '-';
    }
    out[len] = '\0';
}

/* The name of a host's bucket. */
static void host_name(const struct crush_map *crush, const char *host, int host_type,
                      char out[CRUSH_NAME_MAX + 1])
{
    host_clean(host, out);
    const struct crush_bucket *taken = crush_bucket_by_name(crush, out);
    if (taken != NULL && taken->type != host_type)
        strcat(out, "-host");
}

static uint32_t crush_weight(uint64_t bytes)
{
    uint64_t tib = bytes >> TIB_SHIFT;

    if (tib >= 0xffff)
        return 0xffff * (uint32_t)MAP_WEIGHT_ONE;
    uint32_t weight = (uint32_t)(bytes >> (TIB_SHIFT - 16));
    return weight < MACHINE_OSD_WEIGHT_MIN ? (uint32_t)MACHINE_OSD_WEIGHT_MIN : weight;
}

/*
 * Puts an OSD under the bucket of its host, unless it is there. Staged only; *moved tells whether
 * anything changed.
 */
static int crush_place(struct change *change, const struct machine_boot *boot,
                       const struct map_osd *known, bool *moved)
{
    const struct crush_map *now = change->map->crush;
    char name[CRUSH_NAME_MAX + 1];
    int host_type = crush_type_by_name(now, "host");

    *moved = false;
    if (host_type < 0)
        return 0;
    host_name(now, boot->host, host_type, name);
    const struct crush_bucket *parent = crush_parent(now, boot->id);
    /* Where an operator has put an OSD it stays, until it boots on another host. */
    char clean[MAP_HOST_MAX + 1];
    host_clean(boot->host, clean);
    bool same_host = known != NULL && strcmp(known->host, clean) == 0;
    if (parent != NULL && (parent->type != host_type || same_host))
        return 0;
    if (parent != NULL && strcmp(parent->name, name) == 0)
        return 0;
    struct crush_map *crush = crush_clone(now);
    if (crush == NULL)
        return change_break(change, -ENOMEM);
    int rc = parent != NULL ? crush_remove(crush, boot->id) : 0;
    const struct crush_bucket *host = crush_bucket_by_name(crush, name);
    int32_t host_id = host != NULL ? host->id : 0;
    if (rc == 0 && host == NULL) {
        rc = crush_add_bucket(crush, (uint16_t)host_type, name, &host_id);
        const struct crush_bucket *root = crush_bucket_by_name(crush, ROOT_NAME);
        if (rc == 0 && root != NULL)
            rc = crush_insert(crush, root->id, host_id, 0);
    }
    if (rc == 0)
        rc = crush_insert(crush, host_id, boot->id, crush_weight(boot->bytes_total));
    rc = rc == 0 ? stage_crush(change, crush) : change_break(change, rc);
    crush_destroy(crush);
    *moved = rc == 0;
    return rc;
}

/*
 * A report that took so long that it does not tell the present: sent before this process was seen
 * going down; or before another process booted, which is the later one. A process that lives says
 * it again with the map in which it is missing.
 */
static bool boot_stale(const struct map_osd *osd, const struct machine_boot *boot)
{
    if (boot->instance != osd->instance)
        return boot->epoch < osd->up_from;
    return !osd->up && boot->epoch < osd->down_at;
}

int machine_osd_boot(struct change *change, const struct machine_boot *boot)
{
    const struct map_osd *known = map_osd(change->map, boot->id);
    struct map_osd osd = {0};
    bool moved;

    if (boot->id < 0 || boot->id >= MAP_OSDS_MAX || boot->instance == 0 ||
        boot->address.family == 0 || boot->address.port == 0 || uuid_is_zero(&boot->uuid))
        return -EINVAL;
    if (known != NULL) {
        if (!uuid_equal(&known->uuid, &boot->uuid))
            return -EEXIST;
        if (boot_stale(known, boot))
            return 0;
        osd = *known;
    } else {
        if (boot->epoch < map_osd_removed_at(change->map, boot->id))
            return -ESTALE;
        osd.weight = (change->map->flags & MAP_NOIN) != 0 ? 0 : MAP_WEIGHT_ONE;
        osd.created = change_epoch(change);
    }
    if (known != NULL && known->up && known->instance == boot->instance &&
        net_address_equal(&known->address, &boot->address))
        return 0;
    if ((change->map->flags & MAP_NOUP) != 0)
        return -EAGAIN;
    uint32_t weight = osd.weight;
    bool known_up = osd.up;
    if (osd.auto_out && (change->map->flags & MAP_NOIN) == 0) {
        osd.auto_out = false;
        osd.weight = MAP_WEIGHT_ONE;
    }
    osd.exists = true;
    osd.up = true;
    osd.ended = false;
    osd.uuid = boot->uuid;
    osd.address = boot->address;
    osd.instance = boot->instance;
    osd.up_from = change_epoch(change);
    if (boot->bytes_total != 0)
        osd.bytes_total = boot->bytes_total;
    host_clean(boot->host, osd.host);
    int rc = crush_place(change, boot, known, &moved);
    if (rc != 0)
        return rc;
    bool remap = moved || known == NULL || weight != osd.weight;
    if (remap) {
        /* The results before the change must be known when they are replaced. */
        for (uint32_t i = 0; i < change->map->n_pools; i++) {
            if (machine_wanted(change->machine, change->map, &change->map->pools[i]) == NULL)
                return change_break(change, -ENOMEM);
        }
    }
    rc = stage_osd(change, boot->id, &osd);
    if (rc == 0)
        rc = change_flush(change);
    if (rc != 0)
        return rc;
    return remap ? evaluate_all(change, boot->id, known_up)
                 : evaluate_osd(change, boot->id, known_up);
}

int machine_osd_down(struct change *change, int32_t id, bool ended)
{
    const struct map_osd *known = map_osd(change->map, id);

    if (known == NULL)
        return -ENOENT;
    bool was_up = known->up;
    if (!was_up && (known->ended || !ended))
        return 0;
    struct map_osd osd = *known;
    osd.up = false;
    osd.ended = ended;
    if (was_up)
        osd.down_at = change_epoch(change);
    int rc = stage_osd(change, id, &osd);
    if (rc == 0)
        rc = change_flush(change);
    return rc == 0 && was_up ? evaluate_osd(change, id, true) : rc;
}

/* Stages a changed OSD whose weight, and so CRUSH's results, may be another. */
static int osd_weigh(struct change *change, int32_t id, const struct map_osd *osd)
{
    for (uint32_t i = 0; i < change->map->n_pools; i++) {
        if (machine_wanted(change->machine, change->map, &change->map->pools[i]) == NULL)
            return change_break(change, -ENOMEM);
    }
    int rc = stage_osd(change, id, osd);
    if (rc == 0)
        rc = change_flush(change);
    return rc == 0 ? evaluate_all(change, -1, false) : rc;
}

int machine_crush(struct change *change, const struct crush_map *crush)
{
    if (crush_check(crush) != 0)
        return -EINVAL;
    for (uint32_t i = 0; i < change->map->n_pools; i++) {
        const struct map_pool *pool = &change->map->pools[i];
        if (crush_rule(crush, pool->crush_rule) == NULL)
            return -EINVAL;
        /* The results before the change must be known when they are replaced. */
        if (machine_wanted(change->machine, change->map, pool) == NULL)
            return change_break(change, -ENOMEM);
    }
    int rc = stage_crush(change, crush);
    if (rc == 0)
        rc = change_flush(change);
    return rc == 0 ? evaluate_all(change, -1, false) : rc;
}

int machine_osd_out(struct change *change, int32_t id, bool automatic)
{
    const struct map_osd *known = map_osd(change->map, id);

    if (known == NULL)
        return -ENOENT;
    if (known->weight == 0 && (automatic || !known->auto_out))
        return 0;
    struct map_osd osd = *known;
    osd.weight = 0;
    osd.auto_out = automatic;
    return osd_weigh(change, id, &osd);
}

int machine_osd_in(struct change *change, int32_t id)
{
    const struct map_osd *known = map_osd(change->map, id);

    if (known == NULL)
        return -ENOENT;
    if (known->weight != 0)
        return 0;
    return machine_osd_reweight(change, id, MAP_WEIGHT_ONE);
}

int machine_osd_reweight(struct change *change, int32_t id, uint32_t weight)
{
    const struct map_osd *known = map_osd(change->map, id);

    if (known == NULL)
        return -ENOENT;
    if (weight > MAP_WEIGHT_ONE)
        return -EINVAL;
    if (known->weight == weight && !known->auto_out)
        return 0;
    struct map_osd osd = *known;
    osd.weight = weight;
    osd.auto_out = false;
    return osd_weigh(change, id, &osd);
}

static bool osd_counted_on(struct change *change, int32_t id)
{
    const struct cluster_map *map = change->map;

    for (uint32_t i = 0; i < map->n_pools; i++) {
        const struct map_pool *pool = &map->pools[i];
        const struct wanted *wanted = machine_wanted(change->machine, map, pool);
        for (uint32_t seed = 0; seed < pool->pg_num; seed++) {
            struct pg_id pg = {.pool = pool->id, .seed = seed};
            const struct map_pg *entry = map_pg_entry(map, pg);
            uint8_t n = entry != NULL ? entry->n : wanted != NULL ? wanted[seed].n : 0;
            const int32_t *osds = entry != NULL ? entry->members : wanted[seed].osds;
            for (uint8_t k = 0; k < n; k++) {
                if (osds[k] == id)
                    return true;
            }
        }
    }
    return false;
}

int machine_osd_remove(struct change *change, int32_t id, bool force)
{
    const struct map_osd *known = map_osd(change->map, id);
    struct map_osd gone = {.removed_at = change_epoch(change)};

    if (known == NULL)
        return -ENOENT;
    if (known->up)
        return -EBUSY;
    if (!change_empty(change))
        return -EINPROGRESS;
    for (uint32_t i = 0; i < change->map->n_pools; i++) {
        if (machine_wanted(change->machine, change->map, &change->map->pools[i]) == NULL)
            return -ENOMEM;
    }
    if (!force && osd_counted_on(change, id))
        return -ENOTEMPTY;
    if (crush_parent(change->map->crush, id) != NULL) {
        struct crush_map *crush = crush_clone(change->map->crush);
        if (crush == NULL)
            return -ENOMEM;
        int rc = crush_remove(crush, id);
        rc = rc == 0 ? stage_crush(change, crush) : change_break(change, rc);
        crush_destroy(crush);
        if (rc != 0)
            return rc;
    }
    int rc = stage_osd(change, id, &gone);
    if (rc == 0)
        rc = change_flush(change);
    return rc == 0 ? evaluate_removed(change, id) : rc;
}

int machine_pg_add_member(struct change *change, const struct machine_add_member *add)
{
    const struct map_pool *pool = map_pool(change->map, add->pg.pool);
    struct pg_view view;

    if (pool == NULL)
        return -ENOENT;
    int rc = map_pg_view(change->map, add->pg, &view);
    if (rc != 0)
        return rc;
    if (view.config != add->config && !planted(PLANTED_ADD_ANY_CONFIG))
        return -ESTALE;
    if (view.primary != add->from)
        return -EPERM;
    const struct map_osd *osd = map_osd(change->map, add->osd);
    if (osd == NULL || !osd->up || osd->instance != add->osd_instance)
        return -EINVAL;
    /* A primary that has seen it go down meanwhile acknowledges writes without it: a message that
     * was under way for so long, even about the same process, must not add it. */
    if (add->epoch != 0 && osd->up_from > add->epoch)
        return -ESTALE;
    /* Nor one from before CRUSH changed its mind: the primary may have given the learner up since,
     * although it is wanted again. It asks anew under the map that it has by now. */
    if (machine_wanted(change->machine, change->map, pool) == NULL)
        return change_break(change, -ENOMEM);
    if (add->epoch != 0 && add->epoch < machine_wanted_since(change->machine, pool))
        return -ESTALE;
    bool learner = false;
    for (uint8_t i = 0; i < view.n_learners; i++)
        learner = learner || view.learners[i] == add->osd;
    if (!learner)
        return -EINVAL;
    return evaluate_add(change, pool, add->pg.seed, add->osd);
}

int machine_flags(struct change *change, uint32_t set, uint32_t clear)
{
    uint32_t flags = (change->map->flags | set) & ~clear;

    if (flags == change->map->flags)
        return 0;
    int rc = stage_flags(change, flags);
    return rc == 0 ? change_flush(change) : rc;
}
