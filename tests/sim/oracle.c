/*
 * What is checked, by name:
 *
 *  I1-durable       a write is acknowledged only when every member of the set, and every learner
 *                   that the primary has asked to add, has it on its disk,
 *  I1-configuration ... and has taken part in the primary's configuration;
 *  I2-removal       only who is down leaves a set, or who is not wanted while enough others stay,
 *  I2-min-size      ... and never so that fewer than min_size are left;
 *  I2-together      of a set that can do without those who are down, they leave with the map that
 *                   says that they are down;
 *  I3-caught-up     who joins a set has a complete copy with all that was ever acknowledged,
 *  I3-number        and another set, order, or process of a member has a higher number;
 *  I4-fenced        a member takes entries only under the configuration that it knows;
 *  I5-one-primary   nobody reads, or begins to serve and could, after another process has begun to
 *                   serve a later configuration,
 *  I5-lease         nobody reads without leases of all other members and learners that it has asked
 *                   to add,
 *  I5-former        and nobody begins to serve while another one may still read;
 *  I6-equal         when a primary begins to serve, the disks of all members say what its log says,
 *  I6-kept          and its log has all that was ever acknowledged;
 *  I7-once          a request that is acknowledged again has the same version,
 *  I7-grows         and no version is acknowledged that the log had given to something else;
 *  stray            a copy is deleted only when the map says that it is stray.
 *
 * I8 is in all that is said of disks: they hold what a power cut of all machines would leave.
 */
#include "tests/sim/oracle.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "common/witness.h"
#include "osd/osd_impl.h"
#include "osd/pg/pg_impl.h"
#include "osd/pg/pg_layout.h"
#include "placement/map_private.h"

struct witness *witness;

enum { REQUESTS_MAX = 100000 };

struct request_key {
    uint64_t client, tid;
};

/* That was acknowledged. */
struct known_request {
    UT_hash_handle hh;
    struct request_key key;
    struct wire_version version;
};

struct known_pg {
    UT_hash_handle hh;
    struct pg_id id; /* The key: no padding. */
    uint64_t epoch;  /* Of the newest map that has it, */
    struct pg_view view;
    uint8_t size, min_size;           /* Of the pool. */
    struct wire_version acknowledged; /* The last. */
    uint64_t served_config;           /* Newest configuration that somebody served, */
    int32_t served_by;                /* and who. */
    uint64_t served_instance;
    uint64_t unwanted_at[CLUSTER_OSDS_MAX]; /* Newest map in which it is no member, nor to be. */
};

/* A process, as the newest map knows it. */
struct life {
    bool up;
    uint64_t instance, up_from;
};

struct oracle {
    struct witness witness;
    struct life lives[CLUSTER_OSDS_MAX];
    struct cluster *cluster;
    uint64_t epoch; /* Of the newest map seen. */
    struct known_pg *pgs;
    uint32_t n_requests;
    struct known_request *requests;
    uint64_t count;
};

/* ---- Looking ---- */

static struct known_pg *pg_known(struct oracle *oracle, struct pg_id id, bool add)
{
    struct pg_id key;
    struct known_pg *known;
    memset(&key, 0, sizeof key);
    key.pool = id.pool;
    key.seed = id.seed;
    HASH_FIND(hh, oracle->pgs, &key, sizeof key, known);
    if (known || !add)
        return known;
    known = calloc(1, sizeof *known);
    if (!known)
        abort();
    known->id.pool = id.pool;
    known->id.seed = id.seed;
    HASH_ADD(hh, oracle->pgs, id, sizeof known->id, known);
    return known;
}

static bool in_list(const int32_t *list, uint8_t n, int32_t osd)
{
    for (uint8_t i = 0; i < n; i++)
        if (list[i] == osd)
            return true;
    return false;
}

/* The group in the process that runs now; NULL: none. */
static struct pg *find_pg(struct oracle *oracle, int32_t osd, struct pg_id id)
{
    const struct cluster_osd *o = &oracle->cluster->osds[osd];
    struct osd_pg *entry = o->osd ? osd_pg_find(o->osd, id) : NULL;
    return entry ? entry->pg : NULL;
}

static uint64_t instance_of(const struct pg *pg)
{
    return pg->world->env->instance;
}

static void fail(struct oracle *oracle, struct pg_id id, const char *name, int32_t osd,
                 struct wire_version version, const char *what)
{
    char text[PG_ID_TEXT_MAX];
    cluster_fail(oracle->cluster, "%s: pg %s: osd.%d %s (%" PRIu64 ".%" PRIu64 ")", name,
                 pg_id_format(id, text), osd, what, version.config, version.sequence);
}

/* ---- Disks ---- */

static bool state_of(struct cluster_osd *o, struct pg_id id, struct pg_state_layout *state)
{
    const uint8_t key = PG_KEY_STATE, *found, *value;
    uint16_t found_len;
    uint32_t len;
    return store_memory_pair(o->disk, id, &key, 1, &found, &found_len, &value, &len) &&
           found_len == 1 && found[0] == key && pg_state_parse(value, len, state) == 0;
}

/* The oldest entry from `sequence` on that is in a run. */
static bool run_entry_from(struct cluster_osd *o, struct pg_id id, uint64_t sequence,
                           struct wire_version *version)
{
    uint8_t key[PG_NUMBERED_KEY_LEN];
    const uint8_t *found, *value;
    uint16_t found_len;
    uint32_t len;
    uint64_t number;
    struct decoder d;
    pg_numbered_key(PG_KEY_RUN, sequence, key);
    if (!store_memory_pair(o->disk, id, key, sizeof key, &found, &found_len, &value, &len) ||
        pg_numbered_key_parse(PG_KEY_RUN, found, found_len, &number))
        return false;
    decoder_init(&d, value, len);
    while (decoder_left(&d) > 0) {
        struct pg_entry_layout head;
        const void *entry = decode_string32(&d, &len);
        if (d.failed || len < sizeof head)
            return false;
        memcpy(&head, entry, sizeof head);
        *version = head.version;
        if (head.version.sequence >= sequence)
            return true;
    }
    return false;
}

/* The oldest entry from `sequence` on. */
static bool entry_from(struct cluster_osd *o, struct pg_id id, uint64_t sequence,
                       struct wire_version *version)
{
    if (run_entry_from(o, id, sequence, version))
        return true;
    uint8_t key[PG_NUMBERED_KEY_LEN];
    const uint8_t *found, *value;
    uint16_t found_len;
    uint32_t len;
    uint64_t number;
    struct pg_entry_layout head;
    pg_numbered_key(PG_KEY_LOG, sequence, key);
    if (!store_memory_pair(o->disk, id, key, sizeof key, &found, &found_len, &value, &len) ||
        pg_numbered_key_parse(PG_KEY_LOG, found, found_len, &number) || len < sizeof head)
        return false;
    memcpy(&head, value, sizeof head);
    *version = head.version;
    return true;
}

/* The entry, or, if it has left the log, a later one. */
static bool disk_has(struct cluster_osd *o, struct pg_id id, struct wire_version version)
{
    struct wire_version found;
    struct pg_state_layout state;
    if (entry_from(o, id, version.sequence, &found))
        return found.sequence > version.sequence || version_equal(found, version);
    return state_of(o, id, &state) && state.base.sequence >= version.sequence;
}

/* Nothing after it. */
static bool disk_ends(struct cluster_osd *o, struct pg_id id, struct wire_version version)
{
    struct wire_version found;
    return !entry_from(o, id, version.sequence + 1, &found);
}

/* ---- Maps: I2, I3 ---- */

static struct life life_in(const struct cluster_map *map, int32_t osd)
{
    const struct map_osd *info = map_osd(map, osd);
    return info ? (struct life){info->up, info->instance, info->up_from} : (struct life){0};
}

/* The map before had the same process, up or down. */
static bool lives_on(const struct oracle *oracle, const struct cluster_map *map, int32_t osd)
{
    struct life now = life_in(map, osd), before = oracle->lives[osd];
    return now.up == before.up && now.instance == before.instance && now.up_from == before.up_from;
}

/* One map may hold several changes, of which each looked at what the one before it had left: then
 * nobody can tell from outside. */
static bool is_one_change(const struct cluster_map *map, const struct map_increment *inc,
                          const struct pg_view *old, const struct pg_view *new)
{
    if (inc->crush || inc->n_pools > 0 || inc->n_osds > 1)
        return false;
    if (inc->n_osds == 0)
        return true;
    /* With an OSD's failure in the same map, a learner that was added before it let a member go
     * that CRUSH did not want; it may be the very one that failed then. */
    for (uint8_t i = 0; i < new->n_members; i++) {
        if (!in_list(old->members, old->n_members, new->members[i]))
            return false;
    }
    int32_t osd = inc->osds[0].id;
    return map_osd_up(map, osd) || in_list(old->members, old->n_members, osd) ||
           !in_list(new->wanted, new->n_wanted, osd);
}

static bool is_needed(const struct map_pool *pool, const struct pg_view *new, int32_t osd)
{
    return new->n_members < pool->size || in_list(new->wanted, new->n_wanted, osd);
}

static void check_left(struct oracle *oracle, const struct cluster_map *map,
                       const struct map_increment *inc, const struct map_pool *pool,
                       const struct known_pg *known, const struct pg_view *new)
{
    const struct pg_view *old = &known->view;
    const struct wire_version at = {.config = new->config, .sequence = map->epoch};
    uint8_t n_left = 0;
    for (uint8_t i = 0; i < old->n_members; i++) {
        int32_t osd = old->members[i];
        if (in_list(new->members, new->n_members, osd))
            continue;
        n_left++;
        if (is_one_change(map, inc, old, new) && map_osd_up(map, osd) &&
            lives_on(oracle, map, osd) && is_needed(pool, new, osd))
            fail(oracle, known->id, "I2-removal", osd, at, "leaves the set, alive and needed");
    }
    if (n_left > 0 && inc->n_pools == 0 && new->n_members < pool->min_size)
        fail(oracle, known->id, "I2-min-size", new->primary, at, "is left with too few");
}

static void check_joined(struct oracle *oracle, const struct cluster_map *map,
                         const struct known_pg *known, const struct pg_view *new)
{
    const struct pg_view *old = &known->view;
    const struct wire_version at = {.config = new->config, .sequence = map->epoch};
    for (uint8_t i = 0; i < new->n_members; i++) {
        int32_t osd = new->members[i];
        struct pg_state_layout state;
        if (in_list(old->members, old->n_members, osd))
            continue;
        struct cluster_osd *o = &oracle->cluster->osds[osd];
        if (!state_of(o, known->id, &state) || !state.complete)
            fail(oracle, known->id, "I3-caught-up", osd, at, "joins the set, and is not complete");
        else if (!disk_has(o, known->id, known->acknowledged))
            fail(oracle, known->id, "I3-caught-up", osd, known->acknowledged,
                 "joins the set, and lacks what was acknowledged");
    }
}

static bool same_set(const struct pg_view *a, const struct pg_view *b)
{
    return a->n_members == b->n_members &&
           memcmp(a->members, b->members, a->n_members * sizeof a->members[0]) == 0;
}

static void check_change(struct oracle *oracle, const struct cluster_map *map,
                         const struct map_increment *inc, const struct map_pool *pool,
                         const struct known_pg *known, const struct pg_view *new)
{
    const struct pg_view *old = &known->view;
    const struct wire_version at = {.config = new->config, .sequence = map->epoch};
    /* Until a group has been able to serve, its set is what CRUSH says, and has nothing. */
    if (known->served_config == 0 && known->acknowledged.sequence == 0 &&
        old->config == pool->created)
        return;
    check_left(oracle, map, inc, pool, known, new);
    check_joined(oracle, map, known, new);
    bool same = same_set(old, new);
    for (uint8_t i = 0; i < old->n_members; i++)
        same = same && lives_on(oracle, map, old->members[i]);
    if (new->config < old->config || (new->config == old->config && !same))
        fail(oracle, known->id, "I3-number", new->primary, at,
             "is in a set that has changed and kept its number");
    if (new->n_up < new->n_members &&new->n_up >= pool->min_size)
        fail(oracle, known->id, "I2-together", new->primary, at,
             "is in a set with somebody who is down and not needed");
}

static void forget_pools(struct oracle *oracle, const struct cluster_map *map)
{
    struct known_pg *known, *next;
    HASH_ITER(hh, oracle->pgs, known, next)
    {
        if (map_pool(map, known->id.pool))
            continue;
        HASH_DEL(oracle->pgs, known);
        free(known);
    }
}

static void note_unwanted(struct known_pg *known)
{
    const struct pg_view *view = &known->view;
    for (int32_t i = 0; i < CLUSTER_OSDS_MAX; i++)
        if (!in_list(view->wanted, view->n_wanted, i) &&
            !in_list(view->members, view->n_members, i))
            known->unwanted_at[i] = known->epoch;
}

static void look_at_map(struct witness *w, const struct cluster_map *map,
                        const struct map_increment *inc)
{
    struct oracle *oracle = container_of(w, struct oracle, witness);
    if (map->epoch <= oracle->epoch)
        return;
    oracle->epoch = oracle->cluster->agreed_epoch = map->epoch;
    oracle->count++;
    for (uint32_t i = 0; i < map->n_pools; i++) {
        const struct map_pool *pool = &map->pools[i];
        for (uint32_t seed = 0; seed < pool->pg_num; seed++) {
            struct pg_id id = {.pool = pool->id, .seed = seed};
            struct known_pg *known = pg_known(oracle, id, true);
            struct pg_view view;
            if (map_pg_view(map, id, &view) < 0)
                abort();
            if (known->epoch + 1 == map->epoch)
                check_change(oracle, map, inc, pool, known, &view);
            known->epoch = map->epoch;
            known->view = view;
            note_unwanted(known);
        }
    }
    for (int32_t i = 0; i < CLUSTER_OSDS_MAX; i++)
        oracle->lives[i] = life_in(map, i);
    forget_pools(oracle, map);
}

/* ---- Acknowledgements: I1, I7 ---- */

static void check_once(struct oracle *oracle, const struct pg *pg,
                       const struct pg_testimony *testimony)
{
    struct request_key key;
    struct known_request *known;
    memset(&key, 0, sizeof key); /* All bytes of it are hashed. */
    key.client = testimony->client;
    key.tid = testimony->tid;
    HASH_FIND(hh, oracle->requests, &key, sizeof key, known);
    if (known && !version_equal(known->version, testimony->version))
        fail(oracle, pg->id, "I7-once", pg->world->self, testimony->version,
             "acknowledges a request again, executed anew");
    if (known || oracle->n_requests == REQUESTS_MAX)
        return;
    known = calloc(1, sizeof *known);
    if (!known)
        abort();
    known->key = key;
    known->version = testimony->version;
    HASH_ADD(hh, oracle->requests, key, sizeof known->key, known);
    oracle->n_requests++;
}

static void check_durable(struct oracle *oracle, const struct known_pg *known, const struct pg *pg,
                          struct wire_version version)
{
    const struct pg_view *view = &known->view;
    for (uint8_t i = 0; i < view->n_members; i++) {
        int32_t osd = view->members[i];
        if (!disk_has(&oracle->cluster->osds[osd], known->id, version))
            fail(oracle, pg->id, "I1-durable", osd, version, "lacks what is acknowledged");
    }
    const struct pg_fill *fill;
    TAILQ_FOREACH(fill, &pg->fills, link)
    {
        /* Who was unwanted since may have removed its copy: the monitors refuse such a request. */
        bool may_be_added = fill->asked && pg_epoch(pg) > known->unwanted_at[fill->osd];
        if (may_be_added && !disk_has(&oracle->cluster->osds[fill->osd], known->id, version))
            fail(oracle, pg->id, "I1-durable", fill->osd, version,
                 "may be added, and lacks what is acknowledged");
    }
    for (uint8_t i = 0; i < pg->n_peers; i++) {
        /* Who consented, and left by a map that the primary lacks, may have nothing any more. */
        if (pg_epoch(pg) <= known->unwanted_at[pg->peers[i].osd])
            continue;
        const struct pg *member = find_pg(oracle, pg->peers[i].osd, pg->id);
        bool same_process = member && member->seen && pg_is_member(pg, pg->peers[i].osd) &&
                            pg->view.members[0] >= 0;
        for (uint8_t j = 0; same_process && j < pg->view.n_members; j++) {
            if (pg->view.members[j] == pg->peers[i].osd)
                same_process = pg->lives[j].instance == instance_of(member);
        }
        if (same_process && !pg_is_primary(member) && member->upstream_config < pg->config_first)
            fail(oracle, pg->id, "I1-configuration", pg->peers[i].osd, version,
                 "is counted for a configuration in which it had no part");
    }
}

static void see_acknowledgement(struct oracle *oracle, struct pg *pg,
                                const struct pg_testimony *testimony)
{
    struct known_pg *known = pg_known(oracle, pg->id, false);
    struct wire_version version = testimony->version, ours;
    if (!known)
        return; /* The pool is gone. */
    check_durable(oracle, known, pg, version);
    check_once(oracle, pg, testimony);
    if (version.sequence > pg->log.base.sequence &&
        (!pg_log_version(&pg->log, version.sequence, &ours) || !version_equal(ours, version)))
        fail(oracle, pg->id, "I7-grows", pg->world->self, version,
             "acknowledges what its log says otherwise");
    if (version.sequence > known->acknowledged.sequence)
        known->acknowledged = version;
}

/* ---- Serving: I5, I6 ---- */

static bool is_server(const struct known_pg *known, const struct pg *pg)
{
    return known->served_by == pg->world->self && known->served_instance == instance_of(pg);
}

/* Others who take themselves for the primary, and hold leases. */
static void check_formers(struct oracle *oracle, const struct pg *pg)
{
    for (uint32_t i = 0; i < oracle->cluster->options.n_osds; i++) {
        const struct pg *other = find_pg(oracle, (int32_t)i, pg->id);
        if (!other || other == pg || other->state != PG_STATE_PRIMARY_ACTIVE || !other->serving)
            continue;
        if (pg_lease_end(other) > env_clock(other->world->env))
            fail(oracle, pg->id, "I5-former", (int32_t)i,
                 (struct wire_version){.config = other->view.config},
                 "may still read when another one begins to serve");
    }
}

static void check_equal(struct oracle *oracle, const struct known_pg *known, const struct pg *pg)
{
    struct wire_version head = pg_log_head(&pg->log), ours;
    struct wire_version acknowledged = known->acknowledged;
    bool kept = head.sequence >= acknowledged.sequence;
    if (kept && acknowledged.sequence > pg->log.base.sequence)
        kept = pg_log_version(&pg->log, acknowledged.sequence, &ours) &&
               version_equal(ours, acknowledged);
    if (!kept)
        fail(oracle, pg->id, "I6-kept", pg->world->self, acknowledged,
             "begins to serve without what was acknowledged");
    /* Members may follow a later configuration by now; it will know when it writes or reads. */
    if (known->view.config > pg->view.config)
        return;
    for (uint8_t i = 0; i < pg->view.n_members; i++) {
        struct cluster_osd *o = &oracle->cluster->osds[pg->view.members[i]];
        if (head.sequence > 0 && (!disk_has(o, pg->id, head) || !disk_ends(o, pg->id, head)))
            fail(oracle, pg->id, "I6-equal", o->id, head,
                 "is not equal to the primary that begins to serve");
    }
}

static void see_service(struct oracle *oracle, struct pg *pg)
{
    struct known_pg *known = pg_known(oracle, pg->id, false);
    if (!known)
        return;
    /*
     * Answers of members may come so late that one believes itself active when a later
     * configuration has been served. It must not be able to read, and cannot write.
     */
    if (pg->view.config < known->served_config && !is_server(known, pg)) {
        if (pg_lease_end(pg) > env_clock(pg->world->env))
            fail(oracle, pg->id, "I5-one-primary", pg->world->self,
                 (struct wire_version){.config = pg->view.config},
                 "may read after a later configuration was served");
        return;
    }
    check_formers(oracle, pg);
    check_equal(oracle, known, pg);
    known->served_config = pg->view.config;
    known->served_by = pg->world->self;
    known->served_instance = instance_of(pg);
}

static void see_read(struct oracle *oracle, struct pg *pg)
{
    const struct known_pg *known = pg_known(oracle, pg->id, false);
    const struct wire_version at = {.config = pg->view.config};
    if (!known)
        return;
    if (!is_server(known, pg))
        fail(oracle, pg->id, "I5-one-primary", pg->world->self, at,
             "reads after another one began to serve");
    if (pg_lease_end(pg) <= env_clock(pg->world->env))
        fail(oracle, pg->id, "I5-lease", pg->world->self, at, "reads without leases");
}

/* ---- Members: I4, strays ---- */

static void see_entry(struct oracle *oracle, const struct pg *pg,
                      const struct pg_testimony *testimony)
{
    if (testimony->version.config < pg->config_first || testimony->version.config > pg->view.config)
        fail(oracle, pg->id, "I4-fenced", pg->world->self, testimony->version,
             "takes an entry of another configuration");
}

static void see_removal(struct oracle *oracle, const struct pg *pg)
{
    const struct known_pg *known = pg_known(oracle, pg->id, false);
    const struct cluster_map *map = pg->world->map;
    const struct wire_version at = {.config = pg->view.config, .sequence = map->epoch};
    struct pg_view view;
    if (map_pg_view(map, pg->id, &view) == 0 &&
        (!view.clean || in_list(view.members, view.n_members, pg->world->self) ||
         in_list(view.wanted, view.n_wanted, pg->world->self)))
        fail(oracle, pg->id, "stray", pg->world->self, at,
             "deletes what its map does not call stray");
    if (known && in_list(known->view.members, known->view.n_members, pg->world->self))
        fail(oracle, pg->id, "stray", pg->world->self, at, "deletes its copy, and is a member");
}

static void look_at_pg(struct witness *w, struct pg *pg, enum pg_moment moment,
                       const struct pg_testimony *testimony)
{
    struct oracle *oracle = container_of(w, struct oracle, witness);
    oracle->count++;
    switch (moment) {
    case PG_MOMENT_SERVES:
        see_service(oracle, pg);
        break;
    case PG_MOMENT_READS:
        see_read(oracle, pg);
        break;
    case PG_MOMENT_ACKNOWLEDGES:
        see_acknowledgement(oracle, pg, testimony);
        break;
    case PG_MOMENT_FOLLOWS:
        see_entry(oracle, pg, testimony);
        break;
    case PG_MOMENT_REMOVES:
        see_removal(oracle, pg);
        break;
    }
}

/* ---- Life ---- */

struct oracle *oracle_create(struct cluster *cluster)
{
    struct oracle *oracle = calloc(1, sizeof *oracle);
    assert(!witness);
    if (!oracle)
        abort();
    oracle->cluster = cluster;
    oracle->witness.map = look_at_map;
    oracle->witness.pg = look_at_pg;
    witness = &oracle->witness;
    return oracle;
}

void oracle_destroy(struct oracle *oracle)
{
    struct known_pg *pg, *next_pg;
    struct known_request *request, *next_request;
    witness = NULL;
    HASH_ITER(hh, oracle->pgs, pg, next_pg)
    {
        HASH_DEL(oracle->pgs, pg);
        free(pg);
    }
    HASH_ITER(hh, oracle->requests, request, next_request)
    {
        HASH_DEL(oracle->requests, request);
        free(request);
    }
    free(oracle);
}

uint64_t oracle_count(const struct oracle *oracle)
{
    return oracle->count;
}
