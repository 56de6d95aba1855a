#include "tests/sim/cluster.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "tests/sim/history.h"

enum { MON_PORT = 3300 };
#define AGREE_EVERY (200 * MSEC_NS)

void cluster_fail(struct cluster *cluster, const char *format, ...)
{
    if (cluster->failed)
        return;
    cluster->failed = true;
    va_list args;
    va_start(args, format);
    vsnprintf(cluster->why, sizeof cluster->why, format, args);
    va_end(args);
    sim_log(cluster->sim, "FAILED", "%s", cluster->why);
}

static void must(int rc)
{
    if (rc < 0) {
        fprintf(stderr, "limpet-sim: setting up failed: %d\n", rc);
        abort();
    }
}

/* ---- Members ---- */

void member_start_at(struct member *member, uint64_t at_ns)
{
    if (member->state != MEMBER_UP)
        sim_timer_arm(member->cluster->sim, &member->restart, at_ns);
}

void member_start(struct member *member)
{
    struct sim *sim = member->cluster->sim;
    assert(member->state == MEMBER_DOWN);
    sim_timer_stop(sim, &member->restart);
    member->cluster->n_starts++;
    member->agreed_epoch = 0;
    if (!sim_process_start(member->node))
        abort();
    member->state = MEMBER_UP;
    member->start(member);
}

static void restart_fire(struct env_timer *timer)
{
    struct member *member = container_of(timer, struct member, restart);
    /* One that takes long to stop is started when it has stopped. */
    if (member->state == MEMBER_STOPPING)
        member_start_at(member, sim_now(member->cluster->sim) + 100 * MSEC_NS);
    else
        member_start(member);
}

static void end_process(struct member *member, enum sim_end how)
{
    member->cluster->n_ends[how]++;
    sim_timer_stop(member->cluster->sim, &member->ended);
    sim_process_end(member->node, how);
    member->state = MEMBER_DOWN;
}

void member_end(struct member *member, enum sim_end how, uint64_t restart_ns)
{
    if (member->state == MEMBER_DOWN)
        return;
    sim_process_freeze(member->node);
    member->abandon(member);
    end_process(member, how);
    if (restart_ns != UINT64_MAX)
        member_start_at(member, restart_ns);
}

void member_stop(struct member *member, uint64_t restart_ns)
{
    if (member->state != MEMBER_UP || !member->stop)
        return;
    sim_log(member->cluster->sim, sim_node_name(member->node), "is told to stop");
    member->state = MEMBER_STOPPING;
    if (restart_ns != UINT64_MAX)
        member_start_at(member, restart_ns);
    member->stop(member);
}

/* The daemon is freed; its process ends when this event is over. */
static void member_stopped(void *ctx)
{
    struct member *member = ctx;
    sim_timer_arm(member->cluster->sim, &member->ended, sim_now(member->cluster->sim));
}

static void ended_fire(struct env_timer *timer)
{
    struct member *member = container_of(timer, struct member, ended);
    uint64_t restart_ns = member->restart.deadline_ns;
    bool restarts = member->restart.armed;
    sim_process_freeze(member->node);
    end_process(member, SIM_EXIT);
    if (restarts)
        member_start_at(member, restart_ns);
}

static void member_init(struct cluster *cluster, struct member *member, const char *name,
                        const struct entity_name *entity)
{
    member->cluster = cluster;
    member->node = sim_node_create(cluster->sim, name, entity);
    if (!member->node)
        abort();
    member->restart.fire = restart_fire;
    member->ended.fire = ended_fire;
    sim_node_disk(member->node, cluster->options.sync_ns);
}

struct member *cluster_member(struct cluster *cluster, uint32_t i)
{
    const struct cluster_options *options = &cluster->options;
    if (i < options->n_mons)
        return &cluster->mons[i].member;
    i -= options->n_mons;
    if (i < options->n_osds)
        return &cluster->osds[i].member;
    i -= options->n_osds;
    return i <= options->n_clients ? &cluster->clients[i].member : NULL;
}

/* ---- Monitors ---- */

static void mon_make(struct cluster_mon *m)
{
    struct cluster *cluster = m->member.cluster;
    char why[256] = "";
    struct mon_mkfs_options options = {
        .fsid = cluster->fsid,
        .name = m->name,
        .n_mons = cluster->options.n_mons,
        .mons = cluster->mon_list,
        .keyring = &cluster->keyring,
    };
    int rc = mon_mkfs(sim_process(m->member.node), &options, why);
    if (rc < 0)
        cluster_fail(cluster, "mon.%s: mkfs fails: %s (%d)", m->name, why, rc);
    m->made = true;
}

static void mon_start(struct member *member)
{
    struct cluster_mon *m = container_of(member, struct cluster_mon, member);
    char why[256] = "";
    if (!m->made)
        mon_make(m);
    struct mon_options options = {
        .name = m->name,
        /* Often enough to see marking out and snapshots in a short run. */
        .osd_down_out_seconds = 15,
        /* Short enough for all to come back in time when faults are over. */
        .flap_hold_ms = 1000,
        .snapshot_entries = 32,
    };
    int rc = mon_create(sim_process(member->node), &options, &m->mon, why);
    if (rc < 0)
        cluster_fail(member->cluster, "mon.%s does not start: %s (%d)", m->name, why, rc);
    else
        sim_process_auth(member->node, mon_auth(m->mon));
}

static void mon_member_abandon(struct member *member)
{
    struct cluster_mon *m = container_of(member, struct cluster_mon, member);
    if (m->mon)
        mon_abandon(m->mon);
    m->mon = NULL;
}

static void mon_stopped(void *ctx)
{
    struct cluster_mon *m = ctx;
    m->mon = NULL;
    member_stopped(&m->member);
}

static void mon_member_stop(struct member *member)
{
    struct cluster_mon *m = container_of(member, struct cluster_mon, member);
    mon_stop(m->mon, mon_stopped, m);
}

static const struct cluster_map *mon_member_map(struct member *member)
{
    struct cluster_mon *m = container_of(member, struct cluster_mon, member);
    return m->mon ? mon_map(m->mon) : NULL;
}

static void mon_init(struct cluster *cluster, uint32_t i)
{
    struct cluster_mon *m = &cluster->mons[i];
    struct entity_name entity = {.type = ENTITY_MON, .id = {(char)('a' + i)}};
    char name[ENTITY_TEXT_MAX];
    m->name[0] = (char)('a' + i);
    m->member.start = mon_start;
    m->member.abandon = mon_member_abandon;
    m->member.stop = mon_member_stop;
    m->member.map = mon_member_map;
    member_init(cluster, &m->member, entity_format(&entity, name), &entity);
    struct map_mon *entry = &cluster->mon_list[i];
    entry->id = i + 1;
    memcpy(entry->name, m->name, sizeof m->name);
    entry->address = sim_node_address(m->member.node, MON_PORT);
}

struct cluster_mon *cluster_leader(struct cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->options.n_mons; i++) {
        struct cluster_mon *m = &cluster->mons[i];
        if (m->mon && mon_is_leader(m->mon))
            return m;
    }
    return NULL;
}

const struct cluster_map *cluster_map_newest(struct cluster *cluster)
{
    const struct cluster_map *newest = NULL;
    for (uint32_t i = 0; i < cluster->options.n_mons; i++) {
        const struct cluster_map *map = mon_member_map(&cluster->mons[i].member);
        if (map && (!newest || map->epoch > newest->epoch))
            newest = map;
    }
    return newest;
}

/* ---- OSDs ---- */

static void osd_fatal(void *ctx, int error, const char *why)
{
    struct cluster_osd *o = ctx;
    cluster_fail(o->member.cluster, "osd.%d gives up: %s (%d)", o->id, why, error);
}

/* What a process of this disk may have told the monitors until now. */
static void note_epoch(struct cluster_osd *o)
{
    const struct cluster_map *map = osd_map(o->osd);
    if (map->epoch > o->known_epoch)
        o->known_epoch = map->epoch;
}

/*
 * One that was removed comes back as it was, or, as often, with another disk and nothing on it. Not
 * when the old disk has run since it was removed: it may have asked for its number again, and
 * whoever gives that disk away has to remove it once more.
 */
static void replace_disk(struct cluster_osd *o)
{
    struct cluster *cluster = o->member.cluster;
    const struct cluster_map *map = cluster_map_newest(cluster);
    bool is_removed = map && map->epoch == cluster->agreed_epoch && !map_osd(map, o->id);
    if (!o->was_seen || !is_removed || sim_below(cluster->sim, 2) == 0 ||
        o->known_epoch >= map_osd_removed_at(map, o->id))
        return;
    sim_log(cluster->sim, sim_node_name(o->member.node), "has a new disk");
    o->known_epoch = 0;
    store_memory_disk_destroy(o->disk);
    o->disk = store_memory_disk_create(CLUSTER_DISK_BYTES);
    if (!o->disk)
        abort();
    for (size_t i = 0; i < sizeof o->uuid.bytes; i++)
        o->uuid.bytes[i] = (uint8_t)sim_random(cluster->sim);
}

static void osd_start(struct member *member)
{
    struct cluster_osd *o = container_of(member, struct cluster_osd, member);
    struct cluster *cluster = member->cluster;
    replace_disk(o);
    o->was_seen = true;
    struct env *env = sim_process(member->node);
    /* Whoever joins gets a weight by its size, which is not to stay small for ever. */
    store_memory_resize(o->disk, CLUSTER_DISK_BYTES);
    must(store_memory_open(env, o->disk, o->latency_ns, &o->store));
    struct osd_options options = {
        .id = o->id,
        .uuid = o->uuid,
        .fsid = cluster->fsid,
        .secret = o->secret,
        .n_mons = cluster->options.n_mons,
        .listen = sim_node_address(member->node, 0),
        .pg_log_keep = cluster->options.pg_log_keep,
        .pg_clients = cluster->options.pg_clients,
        .held = cluster->options.held,
        .scrub_interval_ns = cluster->options.scrub_ns,
        .deep_scrub_interval_ns = 2 * cluster->options.scrub_ns,
        .scrub_first_ns = cluster->options.scrub_ns / 4 + 1,
        .fatal = osd_fatal,
        .fatal_ctx = o,
    };
    for (uint32_t i = 0; i < options.n_mons; i++)
        options.mons[i] = cluster->mon_list[i].address;
    snprintf(options.host, sizeof options.host, "host%d", o->id);
    int rc = osd_create(env, &options, o->store, &o->osd);
    if (rc < 0)
        cluster_fail(cluster, "osd.%d does not start (%d)", o->id, rc);
    else
        sim_process_auth(member->node, osd_auth(o->osd));
}

static void osd_member_abandon(struct member *member)
{
    struct cluster_osd *o = container_of(member, struct cluster_osd, member);
    if (!o->osd)
        return; /* It has stopped already. */
    note_epoch(o);
    store_memory_crash(o->store);
    osd_abandon(o->osd);
    o->osd = NULL;
    o->store = NULL;
}

static void osd_stopped(void *ctx)
{
    struct cluster_osd *o = ctx;
    o->osd = NULL;
    o->store = NULL;
    member_stopped(&o->member);
}

static void osd_member_stop(struct member *member)
{
    struct cluster_osd *o = container_of(member, struct cluster_osd, member);
    note_epoch(o);
    osd_stop(o->osd, osd_stopped, o);
}

static const struct cluster_map *osd_member_map(struct member *member)
{
    struct cluster_osd *o = container_of(member, struct cluster_osd, member);
    return o->osd && member->state == MEMBER_UP ? osd_map(o->osd) : NULL;
}

static void osd_init(struct cluster *cluster, uint32_t i)
{
    struct cluster_osd *o = &cluster->osds[i];
    struct entity_name entity = entity_osd((int32_t)i);
    char name[ENTITY_TEXT_MAX];
    o->id = (int32_t)i;
    o->latency_ns = cluster->options.store_latency_ns;
    for (size_t j = 0; j < sizeof o->uuid.bytes; j++)
        o->uuid.bytes[j] = (uint8_t)sim_random(cluster->sim);
    o->secret = keyring_find(&cluster->keyring, &entity)->secret;
    o->disk = store_memory_disk_create(CLUSTER_DISK_BYTES);
    if (!o->disk)
        abort();
    o->member.start = osd_start;
    o->member.abandon = osd_member_abandon;
    o->member.stop = osd_member_stop;
    o->member.map = osd_member_map;
    member_init(cluster, &o->member, entity_format(&entity, name), &entity);
}

/* ---- Clients ---- */

static void client_connected(void *ctx, int error)
{
    struct cluster_client *c = ctx;
    if (error) {
        /* No quorum for that long: it is patient. */
        client_connect(c->client, client_connected, c);
        return;
    }
    c->connected = true;
    if (c->ready)
        c->ready(c);
    if (c->watch_ready)
        c->watch_ready(c);
}

void cluster_client_options(const struct cluster_client *c, struct client_options *options)
{
    const struct cluster *cluster = c->member.cluster;
    *options = (struct client_options){
        .name = {.type = ENTITY_CLIENT, .id = "admin"},
        .secret = c->secret,
        .n_mons = cluster->options.n_mons,
        .op_timeout_ns = c == cluster->clients ? 0 : cluster->options.op_timeout_ns,
    };
    for (uint32_t i = 0; i < options->n_mons; i++)
        options->mons[i] = cluster->mon_list[i].address;
}

static void client_start(struct member *member)
{
    struct cluster_client *c = container_of(member, struct cluster_client, member);
    struct client_options options;
    cluster_client_options(c, &options);
    c->incarnation++;
    c->connected = false;
    c->client = client_create(sim_process(member->node), &options);
    if (!c->client)
        abort();
    sim_process_auth(member->node, client_auth(c->client));
    client_connect(c->client, client_connected, c);
}

static void client_member_abandon(struct member *member)
{
    struct cluster_client *c = container_of(member, struct cluster_client, member);
    client_destroy(c->client);
    c->client = NULL;
    c->connected = false;
    if (c->gone)
        c->gone(c);
    if (c->watch_gone)
        c->watch_gone(c);
}

static const struct cluster_map *client_member_map(struct member *member)
{
    struct cluster_client *c = container_of(member, struct cluster_client, member);
    return c->client ? client_map(c->client) : NULL;
}

static void client_init(struct cluster *cluster, uint32_t i)
{
    static const struct entity_name entity = {.type = ENTITY_CLIENT, .id = "admin"};
    struct cluster_client *c = &cluster->clients[i];
    char name[16];
    snprintf(name, sizeof name, "client.%u", i);
    c->secret = keyring_find(&cluster->keyring, &entity)->secret;
    c->member.start = client_start;
    c->member.abandon = client_member_abandon;
    c->member.map = client_member_map;
    member_init(cluster, &c->member, name, &entity);
}

/* ---- The cluster ---- */

static void add_key(struct cluster *cluster, const char *name, const char *mon_caps,
                    const char *osd_caps)
{
    struct keyring_entry entry = {0};
    if (strcmp(name, "mon.") == 0)
        entry.name.type = ENTITY_MON;
    else
        must(entity_parse(name, &entry.name));
    must(auth_secret_generate(&entry.secret));
    snprintf(entry.mon_caps, sizeof entry.mon_caps, "%s", mon_caps);
    snprintf(entry.osd_caps, sizeof entry.osd_caps, "%s", osd_caps);
    must(keyring_set(&cluster->keyring, &entry));
}

struct cluster *cluster_create(struct sim *sim, const struct cluster_options *options)
{
    struct cluster *cluster = calloc(1, sizeof *cluster);
    if (!cluster)
        abort();
    assert(options->n_mons <= CLUSTER_MONS_MAX && options->n_osds <= CLUSTER_OSDS_MAX);
    assert(options->n_clients <= CLUSTER_CLIENTS_MAX);
    cluster->sim = sim;
    cluster->options = *options;
    cluster->map_hashes = calloc(CLUSTER_EPOCHS_MAX, sizeof *cluster->map_hashes);
    if (!cluster->map_hashes)
        abort();
    encoder_init(&cluster->scratch);
    for (size_t i = 0; i < sizeof cluster->fsid.bytes; i++)
        cluster->fsid.bytes[i] = (uint8_t)(sim_random(sim) | 1);
    keyring_init(&cluster->keyring);
    add_key(cluster, "mon.", "allow *", "");
    add_key(cluster, "client.admin", "allow *", "allow *");
    for (uint32_t i = 0; i < options->n_osds; i++) {
        char name[16];
        snprintf(name, sizeof name, "osd.%u", i);
        add_key(cluster, name, "allow profile osd", "allow *");
    }
    for (uint32_t i = 0; i < options->n_mons; i++)
        mon_init(cluster, i);
    for (uint32_t i = 0; i < options->n_osds; i++)
        osd_init(cluster, i);
    for (uint32_t i = 0; i <= options->n_clients; i++)
        client_init(cluster, i);
    return cluster;
}

void cluster_destroy(struct cluster *cluster)
{
    struct member *member;
    for (uint32_t i = 0; (member = cluster_member(cluster, i)); i++) {
        member_end(member, SIM_CRASH, UINT64_MAX);
        sim_timer_stop(cluster->sim, &member->restart);
    }
    for (uint32_t i = 0; i < cluster->options.n_osds; i++)
        store_memory_disk_destroy(cluster->osds[i].disk);
    keyring_fini(&cluster->keyring);
    encoder_fini(&cluster->scratch);
    free(cluster->map_hashes);
    free(cluster);
}

/* ---- Running ---- */

bool cluster_run(struct cluster *cluster, uint64_t until_ns)
{
    struct sim *sim = cluster->sim;
    while (!cluster->failed && sim_now(sim) < until_ns) {
        uint64_t next = sim_now(sim) + AGREE_EVERY;
        if (next > until_ns)
            next = until_ns;
        while (!cluster->failed && sim_step(sim, next))
            ;
        cluster_check_agreement(cluster);
    }
    return !cluster->failed;
}

bool cluster_run_until(struct cluster *cluster, bool (*done)(void *ctx), void *ctx,
                       uint64_t deadline_ns, const char *what)
{
    struct sim *sim = cluster->sim;
    while (!done(ctx)) {
        if (sim_now(sim) >= deadline_ns)
            cluster_fail(cluster, "no progress: %s", what);
        if (!cluster_run(cluster, sim_now(sim) + AGREE_EVERY))
            return false;
    }
    return !cluster->failed;
}

/* ---- Commands ---- */

#define COMMAND_NS (10 * SEC_NS)

struct command {
    struct client_command command;
    struct cluster *cluster;
    bool finished;
    bool waited_for;
    char json[256];
};

static void command_free(struct command *c)
{
    client_command_fini(&c->command);
    free(c);
}

static void command_done(struct client_command *command)
{
    struct command *c = container_of(command, struct command, command);
    c->finished = true;
    c->cluster->n_commands--;
    if (!c->waited_for)
        command_free(c);
}

static struct command *command_start(struct cluster *cluster, uint64_t timeout_ns, const char *json,
                                     bool waited_for)
{
    struct command *c = calloc(1, sizeof *c);
    if (!c)
        abort();
    snprintf(c->json, sizeof c->json, "%s", json);
    c->cluster = cluster;
    cluster->n_commands++;
    c->command.json = c->json;
    c->command.timeout_ns = timeout_ns;
    c->command.done = command_done;
    c->waited_for = waited_for;
    sim_log(cluster->sim, "admin", "%s", json);
    client_command(cluster->clients[0].client, &c->command);
    return c;
}

void cluster_command_send(struct cluster *cluster, const char *json)
{
    if (cluster->clients[0].connected)
        command_start(cluster, COMMAND_NS, json, false);
}

static bool no_commands(void *ctx)
{
    return ((struct cluster *)ctx)->n_commands == 0;
}

bool cluster_commands_end(struct cluster *cluster)
{
    return cluster_run_until(cluster, no_commands, cluster, sim_now(cluster->sim) + 2 * COMMAND_NS,
                             "commands do not end");
}

static bool command_finished(void *ctx)
{
    return ((struct command *)ctx)->finished;
}

bool cluster_command_try(struct cluster *cluster, uint64_t timeout_ns, const char *json,
                         int *result)
{
    struct command *c = command_start(cluster, timeout_ns, json, true);
    uint64_t deadline = sim_now(cluster->sim) + timeout_ns + 10 * SEC_NS;
    if (!cluster_run_until(cluster, command_finished, c, deadline, json)) {
        c->waited_for = false; /* It is freed when the client goes. */
        if (c->finished)
            command_free(c);
        return false;
    }
    *result = c->command.result;
    command_free(c);
    return !cluster->failed;
}

bool cluster_command(struct cluster *cluster, uint64_t timeout_ns, const char *json)
{
    int result;
    if (!cluster_command_try(cluster, timeout_ns, json, &result))
        return false;
    if (result != 0)
        cluster_fail(cluster, "command %s fails: %d", json, result);
    return !cluster->failed;
}

/* ---- Agreement ---- */

static void check_member_map(struct cluster *cluster, struct member *member)
{
    const struct cluster_map *map = member->map(member);
    if (!map || map->epoch == member->agreed_epoch || map->epoch >= CLUSTER_EPOCHS_MAX)
        return;
    if (map->epoch < member->agreed_epoch) {
        cluster_fail(cluster, "%s goes back from map epoch %" PRIu64 " to %" PRIu64,
                     sim_node_name(member->node), member->agreed_epoch, map->epoch);
        return;
    }
    member->agreed_epoch = map->epoch;
    encoder_reset(&cluster->scratch);
    must(map_encode(map, &cluster->scratch));
    uint64_t hash = content_hash(cluster->scratch.data, cluster->scratch.len) | 1;
    uint64_t *known = &cluster->map_hashes[map->epoch];
    if (*known == 0)
        *known = hash;
    if (*known != hash)
        cluster_fail(cluster, "%s has another map of epoch %" PRIu64 " than the others",
                     sim_node_name(member->node), map->epoch);
}

void cluster_check_agreement(struct cluster *cluster)
{
    struct member *member;
    for (uint32_t i = 0; (member = cluster_member(cluster, i)); i++) {
        if (member->state == MEMBER_UP)
            check_member_map(cluster, member);
    }
}
