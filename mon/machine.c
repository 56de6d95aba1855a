#include "mon/machine.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/planted.h"
#include "mon/machine_private.h"

/* ---- What CRUSH says ---- */

struct pool_mapping {
    uint64_t pool;
    uint32_t pg_num;
    struct wanted *wanted;
    uint64_t since; /* Epoch since which it has been so, as far as this machine has seen. */
};

struct machine {
    uint32_t n;
    struct pool_mapping *pools;
};

struct machine *machine_create(void)
{
    return calloc(1, sizeof(struct machine));
}

void machine_forget(struct machine *machine)
{
    for (uint32_t i = 0; i < machine->n; i++)
        free(machine->pools[i].wanted);
    free(machine->pools);
    machine->pools = NULL;
    machine->n = 0;
}

void machine_destroy(struct machine *machine)
{
    if (machine == NULL)
        return;
    machine_forget(machine);
    free(machine);
}

void machine_forget_pool(struct machine *machine, uint64_t pool)
{
    for (uint32_t i = 0; i < machine->n; i++) {
        if (machine->pools[i].pool == pool) {
            free(machine->pools[i].wanted);
            machine->pools[i] = machine->pools[--machine->n];
            return;
        }
    }
}

static struct wanted *map_all(const struct cluster_map *map, const struct map_pool *pool)
{
    struct wanted *wanted = calloc(pool->pg_num, sizeof *wanted);

    for (uint32_t seed = 0; wanted != NULL && seed < pool->pg_num; seed++) {
        struct pg_id pg = {.pool = pool->id, .seed = seed};
        wanted[seed].n = map_pg_crush(map, pg, wanted[seed].osds);
    }
    return wanted;
}

const struct wanted *machine_wanted(struct machine *machine, const struct cluster_map *map,
                                    const struct map_pool *pool)
{
    for (uint32_t i = 0; i < machine->n; i++) {
        if (machine->pools[i].pool == pool->id && machine->pools[i].pg_num == pool->pg_num)
            return machine->pools[i].wanted;
    }
    machine_forget_pool(machine, pool->id);
    struct pool_mapping *pools = realloc(machine->pools, (machine->n + 1) * sizeof *pools);
    if (pools == NULL)
        return NULL;
    machine->pools = pools;
    struct wanted *wanted = map_all(map, pool);
    if (wanted == NULL)
        return NULL;
    machine->pools[machine->n++] = (struct pool_mapping){
        .pool = pool->id, .pg_num = pool->pg_num, .wanted = wanted, .since = map->epoch};
    return wanted;
}

uint64_t machine_wanted_since(const struct machine *machine, const struct map_pool *pool)
{
    for (uint32_t i = 0; i < machine->n; i++) {
        if (machine->pools[i].pool == pool->id)
            return machine->pools[i].since;
    }
    return UINT64_MAX;
}

/* Puts new results in the place of the old ones, which are freed. */
static void machine_replace(struct machine *machine, const struct map_pool *pool,
                            struct wanted *wanted, uint64_t epoch)
{
    for (uint32_t i = 0; i < machine->n; i++) {
        if (machine->pools[i].pool == pool->id) {
            free(machine->pools[i].wanted);
            machine->pools[i].wanted = wanted;
            machine->pools[i].pg_num = pool->pg_num;
            machine->pools[i].since = epoch;
            return;
        }
    }
    assert(false);
}

/* ---- Changes ---- */

int change_begin(struct machine *machine, const struct cluster_map *base, uint64_t wall_ns,
                 struct change **out)
{
    struct change *change = calloc(1, sizeof *change);

    *out = NULL;
    if (change == NULL)
        return -ENOMEM;
    change->machine = machine;
    change->base = base;
    change->base_epoch = base->epoch;
    change->map = map_clone(base);
    change->all = map_increment_create(base->epoch + 1);
    change->part = map_increment_create(base->epoch + 1);
    if (change->map == NULL || change->all == NULL || change->part == NULL) {
        change_end(change);
        return -ENOMEM;
    }
    map_increment_set_time(change->all, wall_ns);
    *out = change;
    return 0;
}

void change_end(struct change *change)
{
    if (change == NULL)
        return;
    map_destroy(change->map);
    map_increment_destroy(change->all);
    map_increment_destroy(change->part);
    free(change);
}

const struct cluster_map *change_map(const struct change *change)
{
    return change->map;
}

bool change_empty(const struct change *change)
{
    return change->map->epoch == change->base_epoch;
}

uint64_t change_epoch(const struct change *change)
{
    return change->base_epoch + 1;
}

bool change_broken(const struct change *change)
{
    return change->broken != 0;
}

int change_break(struct change *change, int error)
{
    assert(error != 0);
    if (change->broken == 0)
        change->broken = error;
    return error;
}

/* Whether the bytes are an increment that everybody will be able to apply. */
static int change_try(const struct change *change, const struct encoder *encoded)
{
    struct map_increment *inc = NULL;
    struct cluster_map *map = map_clone(change->base);

    int rc = map != NULL ? map_increment_decode(encoded->data, encoded->len, &inc) : -ENOMEM;
    if (rc == 0)
        rc = map_apply(map, inc);
    map_increment_destroy(inc);
    map_destroy(map);
    return rc;
}

int change_encode(struct change *change, struct encoder *out)
{
    struct encoder e;

    if (change->broken != 0)
        return change->broken;
    assert(map_increment_empty(change->part));
    encoder_init(&e);
    int rc = map_increment_encode(change->all, &e);
    if (rc == 0 && e.failed)
        rc = -ENOMEM;
    if (rc == 0)
        rc = change_try(change, &e);
    if (rc == 0)
        encode_bytes(out, e.data, e.len);
    encoder_fini(&e);
    return rc;
}

int stage_osd(struct change *change, int32_t id, const struct map_osd *osd)
{
    int rc = map_increment_set_osd(change->all, id, osd);

    if (rc == 0)
        rc = map_increment_set_osd(change->part, id, osd);
    return rc == 0 ? 0 : change_break(change, rc);
}

int stage_crush(struct change *change, const struct crush_map *crush)
{
    int rc = map_increment_set_crush(change->all, crush);

    if (rc == 0)
        rc = map_increment_set_crush(change->part, crush);
    return rc == 0 ? 0 : change_break(change, rc);
}

int stage_pool(struct change *change, const struct map_pool *pool)
{
    int rc = map_increment_set_pool(change->all, pool);

    if (rc == 0)
        rc = map_increment_set_pool(change->part, pool);
    return rc == 0 ? 0 : change_break(change, rc);
}

int stage_pool_remove(struct change *change, uint64_t id)
{
    int rc = map_increment_remove_pool(change->all, id);

    if (rc == 0)
        rc = map_increment_remove_pool(change->part, id);
    return rc == 0 ? 0 : change_break(change, rc);
}

int stage_flags(struct change *change, uint32_t flags)
{
    int rc = map_increment_set_flags(change->all, flags);

    if (rc == 0)
        rc = map_increment_set_flags(change->part, flags);
    return rc == 0 ? 0 : change_break(change, rc);
}

int stage_blocked(struct change *change, const struct map_blocked *blocked, uint32_t n)
{
    int rc = map_increment_set_blocked(change->all, blocked, n);

    if (rc == 0)
        rc = map_increment_set_blocked(change->part, blocked, n);
    return rc == 0 ? 0 : change_break(change, rc);
}

static int stage_pg(struct change *change, const struct map_pg *pg)
{
    int rc = map_increment_set_pg(change->all, pg);

    if (rc == 0)
        rc = map_increment_set_pg(change->part, pg);
    return rc == 0 ? 0 : change_break(change, rc);
}

static int stage_pg_remove(struct change *change, struct pg_id pg)
{
    int rc = map_increment_remove_pg(change->all, pg);

    if (rc == 0)
        rc = map_increment_remove_pg(change->part, pg);
    return rc == 0 ? 0 : change_break(change, rc);
}

int change_flush(struct change *change)
{
    if (change->broken != 0)
        return change->broken;
    if (map_increment_empty(change->part))
        return 0;
    struct map_increment *next = map_increment_create(change->base_epoch + 1);
    if (next == NULL)
        return change_break(change, -ENOMEM);
    /* All parts lead to the same epoch; this map is our own draft of it. */
    change->map->epoch = change->base_epoch;
    int rc = map_apply(change->map, change->part);
    map_increment_destroy(change->part);
    change->part = next;
    return rc == 0 ? 0 : change_break(change, rc);
}

/* ---- Evaluation of placement groups: R1, R2, R3 ---- */

static bool list_has(const int32_t *list, uint32_t n, int32_t osd)
{
    for (uint32_t i = 0; i < n; i++) {
        if (list[i] == osd)
            return true;
    }
    return false;
}

static bool set_equals(const struct map_pg *pg, const struct wanted *wanted)
{
    return pg->n == wanted->n &&
           memcmp(pg->members, wanted->osds, pg->n * sizeof pg->members[0]) == 0;
}

static void set_take(struct map_pg *pg, const struct wanted *wanted)
{
    memset(pg->members, 0, sizeof pg->members);
    memcpy(pg->members, wanted->osds, wanted->n * sizeof pg->members[0]);
    pg->n = wanted->n;
}

static void set_drop(struct map_pg *pg, int32_t osd)
{
    struct wanted left = {0};

    for (uint8_t i = 0; i < pg->n; i++) {
        if (pg->members[i] != osd)
            left.osds[left.n++] = pg->members[i];
    }
    set_take(pg, &left);
}

/* Drops the members that are down, if enough are left. M2 */
static void set_shrink(struct map_pg *pg, const struct cluster_map *map, uint8_t min_size)
{
    struct wanted up = {0};

    for (uint8_t i = 0; i < pg->n; i++) {
        if (map_osd_up(map, pg->members[i]))
            up.osds[up.n++] = pg->members[i];
    }
    if (up.n < pg->n && up.n >= min_size && up.n > 0)
        set_take(pg, &up);
}

/* Puts what CRUSH wants in front, in its order; the others behind, in theirs. */
static void set_order(struct map_pg *pg, const struct wanted *wanted)
{
    struct wanted ordered = *wanted;

    for (uint8_t i = 0; i < pg->n; i++) {
        if (!list_has(wanted->osds, wanted->n, pg->members[i]))
            ordered.osds[ordered.n++] = pg->members[i];
    }
    assert(ordered.n == pg->n);
    set_take(pg, &ordered);
}

/*
 * Drops members that CRUSH does not want as long as there are more than `most`. The last ones go
 * first: the primary, from which learners are filled, stays as long as it can.
 */
static void set_drop_surplus(struct map_pg *pg, const struct wanted *wanted, uint8_t most)
{
    for (uint8_t i = pg->n; i > 0 && pg->n > most; i--) {
        if (!list_has(wanted->osds, wanted->n, pg->members[i - 1]))
            set_drop(pg, pg->members[i - 1]);
    }
}

/* Brings the set nearer to what CRUSH says, as far as no copy is lost by it. M4 */
static void set_settle(struct map_pg *pg, const struct cluster_map *map,
                       const struct map_pool *pool, const struct wanted *wanted)
{
    if (wanted->n == 0)
        return;
    for (uint8_t i = 0; i < pg->n; i++) {
        if (!map_osd_up(map, pg->members[i]))
            return;
    }
    bool complete = true;
    for (uint8_t i = 0; i < wanted->n; i++)
        complete = complete && list_has(pg->members, pg->n, wanted->osds[i]);
    if (complete)
        set_order(pg, wanted);
    set_drop_surplus(pg, wanted, pool->size);
}

struct pg_event {
    const struct wanted *before; /* What CRUSH said. */
    const struct wanted *after;
    int32_t touched;         /* OSD whose liveness changed; -1: none */
    bool touched_up;         /* It was up before. */
    int32_t added;           /* OSD that joins; -1: none */
    int32_t removed;         /* OSD whose data are given up; -1: none */
    uint8_t min_size_before; /* Of the pool; 0: as now */
    bool forced;             /* The members that are down are given up, however few are left. */
};

/*
 * Whether the group has never been able to serve, so that nobody can have missed anything: of its
 * first set too few were up, and nothing but that has been true since, or the number would be
 * another. Until then its number stays, however often the set changes: nobody acts under it.
 */
static bool pg_is_virgin(const struct change *change, const struct map_pool *pool,
                         const struct map_pg *old, const struct pg_event *event)
{
    uint8_t min_size = event->min_size_before != 0 ? event->min_size_before : pool->min_size;
    uint8_t n_up = 0;

    for (uint8_t i = 0; i < old->n; i++) {
        bool touched = old->members[i] == event->touched;
        if (touched ? event->touched_up : map_osd_up(change->map, old->members[i]))
            n_up++;
    }
    return old->config == pool->created && n_up < min_size;
}

static bool set_serves(const struct map_pg *pg, const struct cluster_map *map, uint8_t min_size)
{
    uint8_t n_up = 0;

    for (uint8_t i = 0; i < pg->n; i++)
        n_up = (uint8_t)(n_up + map_osd_up(map, pg->members[i]));
    return n_up >= min_size;
}

/* A set is large enough for one min_size and not for the other: it begins, or ceases, to serve. */
static bool pg_is_fenced(const struct map_pool *pool, const struct map_pg *old,
                         const struct pg_event *event)
{
    return event->min_size_before != 0 && old->n > 0 &&
           (old->n < event->min_size_before) != (old->n < pool->min_size);
}

/* The new set; `old` is what was before the event. */
static void pg_change_set(struct change *change, const struct map_pool *pool, struct map_pg *pg,
                          bool virgin, const struct pg_event *event)
{
    const struct map_pg old = *pg;

    if (event->removed >= 0)
        set_drop(pg, event->removed);
    if (event->added >= 0) {
        /* Who joins is wanted, so one of so many others is not. */
        set_drop_surplus(pg, event->after, PG_SIZE_MAX - 1);
        assert(pg->n < PG_SIZE_MAX);
        pg->members[pg->n++] = event->added;
    }
    if (pg->n == 0 || virgin)
        set_take(pg, event->after);
    if (pg->n == 0)
        *pg = old; /* Nobody is left to take over. */
    set_shrink(pg, change->map, event->forced ? 1 : pool->min_size);
    set_settle(pg, change->map, pool, event->after);
}

static int pg_evaluate(struct change *change, const struct map_pool *pool, uint32_t seed,
                       const struct pg_event *event)
{
    struct pg_id id = {.pool = pool->id, .seed = seed};
    const struct map_pg *entry = map_pg_entry(change->map, id);
    struct map_pg old = {.pg = id, .config = pool->config_base};

    if (entry != NULL)
        old = *entry;
    else
        set_take(&old, event->before);
    struct map_pg pg = old;
    bool virgin = pg_is_virgin(change, pool, &old, event);
    pg_change_set(change, pool, &pg, virgin, event);
    bool touched = event->touched >= 0 && list_has(old.members, old.n, event->touched);
    bool moved = touched || pg_is_fenced(pool, &old, event) || pg.n != old.n ||
                 memcmp(pg.members, old.members, pg.n * sizeof pg.members[0]) != 0;
    bool still_virgin = virgin && !set_serves(&pg, change->map, pool->min_size);
    if (virgin && !still_virgin)
        moved = true;
    bool keeps_number = planted(PLANTED_CONFIG_NOT_RAISED) && pg.n < old.n;
    if (moved && !still_virgin && !keeps_number)
        pg.config = change_epoch(change);
    bool plain = set_equals(&pg, event->after) && pg.config == pool->config_base;
    if (plain)
        return entry != NULL ? stage_pg_remove(change, id) : 0;
    if (entry != NULL && !moved)
        return 0;
    return stage_pg(change, &pg);
}

int evaluate_osd(struct change *change, int32_t osd, bool was_up)
{
    const struct cluster_map *map = change->map;
    int rc = 0;

    for (uint32_t i = 0; i < map->n_pools && rc == 0; i++) {
        const struct map_pool *pool = &map->pools[i];
        const struct wanted *wanted = machine_wanted(change->machine, map, pool);
        if (wanted == NULL)
            return change_break(change, -ENOMEM);
        for (uint32_t seed = 0; seed < pool->pg_num && rc == 0; seed++) {
            struct pg_id id = {.pool = pool->id, .seed = seed};
            const struct map_pg *entry = map_pg_entry(map, id);
            bool member = entry != NULL ? list_has(entry->members, entry->n, osd)
                                        : list_has(wanted[seed].osds, wanted[seed].n, osd);
            if (!member)
                continue;
            struct pg_event event = {.before = &wanted[seed],
                                     .after = &wanted[seed],
                                     .touched = osd,
                                     .touched_up = was_up,
                                     .added = -1,
                                     .removed = -1};
            rc = pg_evaluate(change, pool, seed, &event);
        }
    }
    return rc == 0 ? change_flush(change) : rc;
}

/*
 * Remaps a pool and evaluates its groups. `before` is what CRUSH said before the change, taken from
 * the machine, where the new results replace it.
 */
static int evaluate_remap(struct change *change, const struct map_pool *pool,
                          const struct wanted *before, const struct pg_event *how)
{
    struct wanted *after = map_all(change->map, pool);
    int rc = 0;

    if (after == NULL)
        return change_break(change, -ENOMEM);
    for (uint32_t seed = 0; seed < pool->pg_num && rc == 0; seed++) {
        struct pg_event event = {.before = &before[seed],
                                 .after = &after[seed],
                                 .touched = how->touched,
                                 .touched_up = how->touched_up,
                                 .added = -1,
                                 .removed = how->removed,
                                 .min_size_before = how->min_size_before};
        rc = pg_evaluate(change, pool, seed, &event);
    }
    machine_replace(change->machine, pool, after, change_epoch(change));
    return rc;
}

static int evaluate_each(struct change *change, const struct pg_event *how)
{
    const struct cluster_map *map = change->map;
    int rc = 0;

    for (uint32_t i = 0; i < map->n_pools && rc == 0; i++) {
        const struct map_pool *pool = &map->pools[i];
        const struct wanted *before = machine_wanted(change->machine, map, pool);
        if (before == NULL)
            return change_break(change, -ENOMEM);
        rc = evaluate_remap(change, pool, before, how);
    }
    return rc == 0 ? change_flush(change) : rc;
}

int evaluate_all(struct change *change, int32_t osd, bool was_up)
{
    struct pg_event how = {.touched = osd, .touched_up = was_up, .added = -1, .removed = -1};

    return evaluate_each(change, &how);
}

int evaluate_removed(struct change *change, int32_t osd)
{
    struct pg_event how = {.touched = -1, .added = -1, .removed = osd};

    return evaluate_each(change, &how);
}

int evaluate_pool(struct change *change, uint64_t id, uint8_t min_size_before)
{
    const struct map_pool *pool = map_pool(change->map, id);
    struct pg_event how = {
        .touched = -1, .added = -1, .removed = -1, .min_size_before = min_size_before};

    assert(pool != NULL);
    const struct wanted *before = machine_wanted(change->machine, change->map, pool);
    if (before == NULL)
        return change_break(change, -ENOMEM);
    int rc = evaluate_remap(change, pool, before, &how);
    return rc == 0 ? change_flush(change) : rc;
}

int evaluate_add(struct change *change, const struct map_pool *pool, uint32_t seed, int32_t osd)
{
    const struct wanted *wanted = machine_wanted(change->machine, change->map, pool);

    if (wanted == NULL)
        return change_break(change, -ENOMEM);
    struct pg_event event = {.before = &wanted[seed],
                             .after = &wanted[seed],
                             .touched = -1,
                             .added = osd,
                             .removed = -1};
    int rc = pg_evaluate(change, pool, seed, &event);
    return rc == 0 ? change_flush(change) : rc;
}

int machine_pg_force_activate(struct change *change, struct pg_id pg)
{
    const struct map_pool *pool = map_pool(change->map, pg.pool);
    struct pg_view view;

    if (pool == NULL || map_pg_view(change->map, pg, &view) != 0)
        return -ENOENT;
    if (view.n_up == view.n_members)
        return -EALREADY;
    if (view.n_up == 0)
        return -EHOSTDOWN;
    if (view.config == pool->created && view.n_up < pool->min_size)
        return -ENODATA;
    const struct wanted *wanted = machine_wanted(change->machine, change->map, pool);
    if (wanted == NULL)
        return change_break(change, -ENOMEM);
    struct pg_event event = {.before = &wanted[pg.seed],
                             .after = &wanted[pg.seed],
                             .touched = -1,
                             .added = -1,
                             .removed = -1,
                             .forced = true};
    int rc = pg_evaluate(change, pool, pg.seed, &event);
    return rc == 0 ? change_flush(change) : rc;
}

/* ---- R4 ---- */

bool machine_pool_settled(struct machine *machine, const struct cluster_map *map,
                          const struct map_pool *pool)
{
    const struct wanted *wanted = machine_wanted(machine, map, pool);

    if (wanted == NULL)
        return false;
    for (uint32_t seed = 0; seed < pool->pg_num; seed++) {
        struct pg_id id = {.pool = pool->id, .seed = seed};
        const struct map_pg *entry = map_pg_entry(map, id);
        if (wanted[seed].n == 0 || (entry != NULL && !set_equals(entry, &wanted[seed])))
            return false;
        /* A number above that of the pool's creation would say that it has been able to serve. */
        if (wanted[seed].n < pool->min_size)
            return false;
        for (uint8_t i = 0; i < wanted[seed].n; i++) {
            if (!map_osd_up(map, wanted[seed].osds[i]))
                return false;
        }
    }
    return true;
}

int machine_pool_compact(struct change *change, uint64_t id)
{
    const struct map_pool *pool = map_pool(change->map, id);
    bool entries = false;

    if (pool == NULL)
        return -ENOENT;
    if (!machine_pool_settled(change->machine, change->map, pool))
        return -EAGAIN;
    int rc = 0;
    for (uint32_t i = 0; i < change->map->n_pgs && rc == 0; i++) {
        if (change->map->pgs[i].pg.pool != id)
            continue;
        entries = true;
        rc = stage_pg_remove(change, change->map->pgs[i].pg);
    }
    if (rc != 0 || !entries)
        return rc;
    struct map_pool next = *pool;
    next.config_base = change_epoch(change);
    rc = stage_pool(change, &next);
    return rc == 0 ? change_flush(change) : rc;
}
