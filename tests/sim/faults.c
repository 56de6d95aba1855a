#include "tests/sim/faults.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/topology.h"

struct faults {
    struct cluster *cluster;
    struct faults_options options;
    struct env_timer next;
    struct env_timer blackout;
    struct env_timer heal_network;
    struct env_timer heal_disks;
    struct env_timer heal_weights;
    uint32_t count;
    uint32_t stress;
    uint32_t out; /* OSDs that were marked out, as bits. */
    struct topology topology;
    struct env_timer heal_pools;
};

static uint64_t below(struct faults *f, uint64_t n)
{
    return sim_below(f->cluster->sim, n);
}

static uint64_t now(const struct faults *f)
{
    return sim_now(f->cluster->sim);
}

/* At once, soon, or after the others have noticed. */
static uint64_t choose_restart(struct faults *f)
{
    switch (below(f, 4)) {
    case 0:
        return now(f) + below(f, 100 * MSEC_NS);
    case 1:
        return now(f) + below(f, 20 * SEC_NS);
    default:
        return now(f) + SEC_NS / 2 + below(f, 5 * SEC_NS);
    }
}

static struct member *choose_osd(struct faults *f)
{
    return &f->cluster->osds[below(f, f->cluster->options.n_osds)].member;
}

static struct member *choose_mon(struct faults *f)
{
    return &f->cluster->mons[below(f, f->cluster->options.n_mons)].member;
}

static enum sim_end choose_end(struct faults *f)
{
    return below(f, 3) == 0 ? SIM_POWER_CUT : SIM_CRASH;
}

/* ---- The faults ---- */

static void set_disk(struct member *member, uint64_t factor)
{
    struct cluster *cluster = member->cluster;
    sim_node_disk(member->node, cluster->options.sync_ns * factor);
    for (uint32_t i = 0; i < cluster->options.n_osds; i++) {
        struct cluster_osd *o = &cluster->osds[i];
        if (member == &o->member) {
            o->latency_ns = cluster->options.store_latency_ns * factor;
            if (o->store)
                store_memory_set_latency(o->store, o->latency_ns);
        }
    }
}

static void osd_dies(struct faults *f)
{
    member_end(choose_osd(f), choose_end(f), choose_restart(f));
}

static void osd_stops(struct faults *f)
{
    member_stop(choose_osd(f), choose_restart(f));
}

static void mon_dies(struct faults *f)
{
    member_end(choose_mon(f), choose_end(f), choose_restart(f));
}

static void mon_stops(struct faults *f)
{
    member_stop(choose_mon(f), choose_restart(f));
}

static void leader_dies(struct faults *f)
{
    struct cluster_mon *leader = cluster_leader(f->cluster);
    if (leader)
        member_end(&leader->member, choose_end(f), choose_restart(f));
}

/* Two die within a moment, so that the second one's death meets the handling of the first's. */
static void two_osds_die(struct faults *f)
{
    struct member *first = choose_osd(f), *second = choose_osd(f);
    uint64_t restart = choose_restart(f);
    member_end(first, choose_end(f), restart);
    member_end(second, choose_end(f), below(f, 2) ? restart : choose_restart(f));
}

static void all_osds_lose_power(struct faults *f)
{
    uint64_t back = now(f) + SEC_NS / 10 + below(f, 3 * SEC_NS);
    for (uint32_t i = 0; i < f->cluster->options.n_osds; i++)
        member_end(&f->cluster->osds[i].member, SIM_POWER_CUT, back + below(f, 2 * SEC_NS));
}

static void all_mons_lose_power(struct faults *f)
{
    uint64_t back = now(f) + below(f, 2 * SEC_NS);
    for (uint32_t i = 0; i < f->cluster->options.n_mons; i++)
        member_end(&f->cluster->mons[i].member, SIM_POWER_CUT, back + below(f, SEC_NS));
}

/*
 * Disks become slow, so that much is under way when the power goes; and the OSDs come back so late
 * one after the other that some may go on without the others.
 */
static void blackout_fire(struct env_timer *timer)
{
    struct faults *f = container_of(timer, struct faults, blackout);
    uint64_t apart = 1 + below(f, 10 * SEC_NS);
    for (uint32_t i = 0; i < f->cluster->options.n_osds; i++)
        member_end(&f->cluster->osds[i].member, SIM_POWER_CUT,
                   now(f) + SEC_NS / 10 + below(f, apart));
}

static void slow_disks_lose_power(struct faults *f)
{
    for (uint32_t i = 0; i < f->cluster->options.n_osds; i++)
        set_disk(&f->cluster->osds[i].member, 1 + below(f, 500));
    sim_log(f->cluster->sim, "fault", "all disks are slow, before a blackout");
    sim_timer_arm(f->cluster->sim, &f->blackout, now(f) + below(f, SEC_NS));
    sim_timer_arm(f->cluster->sim, &f->heal_disks, now(f) + SEC_NS + below(f, 3 * SEC_NS));
}

static void everything_loses_power(struct faults *f)
{
    struct member *member;
    uint64_t back = now(f) + SEC_NS / 10 + below(f, 3 * SEC_NS);
    for (uint32_t i = 0; (member = cluster_member(f->cluster, i)); i++) {
        bool is_admin = member == &f->cluster->clients[0].member;
        if (!is_admin)
            member_end(member, SIM_POWER_CUT, back + below(f, 2 * SEC_NS));
    }
}

static void client_dies(struct faults *f)
{
    uint64_t i = 1 + below(f, f->cluster->options.n_clients);
    member_end(&f->cluster->clients[i].member, choose_end(f), now(f) + below(f, 3 * SEC_NS));
}

static void isolate(struct faults *f, struct member *lonely, uint32_t one_in)
{
    struct member *member;
    for (uint32_t i = 0; (member = cluster_member(f->cluster, i)); i++) {
        if (member != lonely && below(f, one_in) == 0)
            sim_partition(f->cluster->sim, lonely->node, member->node, true);
    }
}

/* A monitor is cut off from the other monitors, and perhaps from others. */
static void mon_is_isolated(struct faults *f)
{
    struct member *lonely = choose_mon(f);
    struct sim *sim = f->cluster->sim;
    for (uint32_t i = 0; i < f->cluster->options.n_mons; i++) {
        struct member *mon = &f->cluster->mons[i].member;
        if (mon != lonely)
            sim_partition(sim, lonely->node, mon->node, true);
    }
    if (below(f, 2) == 0)
        isolate(f, lonely, 1 + (uint32_t)below(f, 3));
    sim_log(sim, "fault", "%s is isolated", sim_node_name(lonely->node));
    sim_timer_arm(sim, &f->heal_network, now(f) + SEC_NS + below(f, 14 * SEC_NS));
}

static void mon_sleeps(struct faults *f)
{
    struct member *member = choose_mon(f);
    sim_log(f->cluster->sim, "fault", "%s sleeps", sim_node_name(member->node));
    sim_process_pause(member->node, now(f) + below(f, 6 * SEC_NS));
}

static void network_is_slow(struct faults *f)
{
    uint64_t extra = 1 + below(f, 300 * MSEC_NS);
    sim_log(f->cluster->sim, "fault", "network is slow: %" PRIu64 " us", extra / 1000);
    sim_slow_network(f->cluster->sim, extra);
    sim_timer_arm(f->cluster->sim, &f->heal_network, now(f) + SEC_NS + below(f, 5 * SEC_NS));
}

static void disk_is_slow(struct faults *f)
{
    struct member *member = below(f, 3) == 0 ? choose_mon(f) : choose_osd(f);
    uint64_t factor = 2 + below(f, 300);
    sim_log(f->cluster->sim, "fault", "%s has a slow disk: %" PRIu64 " times",
            sim_node_name(member->node), factor);
    set_disk(member, factor);
    sim_timer_arm(f->cluster->sim, &f->heal_disks, now(f) + SEC_NS + below(f, 5 * SEC_NS));
}

/* Data move away, and later back. */
static void osd_goes_out(struct faults *f)
{
    uint64_t id = below(f, f->cluster->options.n_osds);
    char json[128];
    f->out |= 1u << id;
    if (below(f, 2) == 0)
        snprintf(json, sizeof json, "{\"prefix\": \"osd out\", \"ids\": [\"%" PRIu64 "\"]}", id);
    else
        snprintf(json, sizeof json,
                 "{\"prefix\": \"osd reweight\", \"id\": %" PRIu64 ", \"weight\": %.2f}", id,
                 (double)below(f, 100) / 100);
    cluster_command_send(f->cluster, json);
    sim_timer_arm(f->cluster->sim, &f->heal_weights, now(f) + SEC_NS + below(f, 15 * SEC_NS));
}

static void weight_one(char *json, size_t size, uint32_t id)
{
    snprintf(json, size, "{\"prefix\": \"osd reweight\", \"id\": %" PRIu32 ", \"weight\": 1}", id);
}

static void osd_is_isolated(struct faults *f)
{
    struct member *member = choose_osd(f);
    sim_log(f->cluster->sim, "fault", "%s is isolated", sim_node_name(member->node));
    isolate(f, member, 1 + (uint32_t)below(f, 2));
    sim_timer_arm(f->cluster->sim, &f->heal_network, now(f) + SEC_NS + below(f, 8 * SEC_NS));
}

static void osd_sleeps(struct faults *f)
{
    struct member *member = choose_osd(f);
    sim_log(f->cluster->sim, "fault", "%s sleeps", sim_node_name(member->node));
    sim_process_pause(member->node, now(f) + below(f, 8 * SEC_NS));
}

/* It lives, but the monitors are told otherwise. */
static void osd_is_slandered(struct faults *f)
{
    char json[128];
    uint64_t id = below(f, f->cluster->options.n_osds);
    snprintf(json, sizeof json, "{\"prefix\": \"osd down\", \"ids\": [\"%" PRIu64 "\"]}", id);
    cluster_command_send(f->cluster, json);
}

/*
 * The monitors give it up, and it does not hear of it; nor do some of the clients, which go on
 * working with it.
 */
static void osd_is_deposed(struct faults *f)
{
    struct cluster *cluster = f->cluster;
    uint64_t id = below(f, cluster->options.n_osds), deaf = sim_random(cluster->sim);
    char json[128];
    for (uint32_t i = 0; i < cluster->options.n_mons; i++) {
        struct sim_node *mon = cluster->mons[i].member.node;
        sim_partition(cluster->sim, mon, cluster->osds[id].member.node, true);
        for (uint32_t j = 1; j <= cluster->options.n_clients; j++) {
            if (deaf >> j & 1)
                sim_partition(cluster->sim, mon, cluster->clients[j].member.node, true);
        }
    }
    snprintf(json, sizeof json, "{\"prefix\": \"osd down\", \"ids\": [\"%" PRIu64 "\"]}", id);
    cluster_command_send(cluster, json);
    sim_timer_arm(cluster->sim, &f->heal_network, now(f) + SEC_NS / 2 + below(f, 5 * SEC_NS));
}

/* Two halves that do not hear of each other, with clients on both sides. */
static void world_is_split(struct faults *f)
{
    struct member *a, *b;
    uint64_t side = sim_random(f->cluster->sim);
    sim_log(f->cluster->sim, "fault", "the world is split");
    for (uint32_t i = 0; (a = cluster_member(f->cluster, i)); i++) {
        for (uint32_t j = 0; j < i && (b = cluster_member(f->cluster, j)); j++) {
            if ((side >> i & 1) != (side >> j & 1))
                sim_partition(f->cluster->sim, a->node, b->node, true);
        }
    }
    sim_timer_arm(f->cluster->sim, &f->heal_network, now(f) + SEC_NS + below(f, 8 * SEC_NS));
}

/* An operator changes a pool, and some time later finds that it was better before. */
static void pool_changes(struct faults *f)
{
    if (below(f, 2) == 0)
        topology_resize_pool(&f->topology);
    else
        topology_change_min_size(&f->topology);
    sim_timer_arm(f->cluster->sim, &f->heal_pools, now(f) + SEC_NS + below(f, 10 * SEC_NS));
}

static void heal_pools_fire(struct env_timer *timer)
{
    topology_restore_send(&container_of(timer, struct faults, heal_pools)->topology);
}

static void pool_comes_or_goes(struct faults *f)
{
    topology_extra_pool(&f->topology);
}

static void osd_is_removed(struct faults *f)
{
    topology_remove_osd(&f->topology);
}

/* Of what the seed may want to see more. */
enum stress { STRESS_NOTHING, STRESS_OSDS, STRESS_MONS, STRESS_POWER, STRESS_COUNT, LIVING_OSDS };

static const struct {
    void (*happen)(struct faults *f);
    uint32_t weight;
    enum stress stress;
} kinds[] = {
    {osd_dies, 30, STRESS_OSDS},
    {osd_stops, 8, STRESS_OSDS},
    {two_osds_die, 10, STRESS_OSDS},
    {all_osds_lose_power, 4, STRESS_POWER},
    {slow_disks_lose_power, 5, STRESS_POWER},
    {mon_dies, 12, STRESS_MONS},
    {mon_stops, 5, STRESS_MONS},
    {leader_dies, 8, STRESS_MONS},
    {all_mons_lose_power, 3, STRESS_MONS},
    {everything_loses_power, 3, STRESS_POWER},
    {client_dies, 6, STRESS_NOTHING},
    {mon_is_isolated, 6, STRESS_MONS},
    {mon_sleeps, 4, STRESS_MONS},
    {network_is_slow, 6, STRESS_NOTHING},
    {disk_is_slow, 8, STRESS_NOTHING},
    {osd_goes_out, 10, STRESS_OSDS},
    {pool_changes, 8, STRESS_OSDS},
    {pool_comes_or_goes, 6, STRESS_NOTHING},
    {osd_is_removed, 8, STRESS_OSDS},
    {osd_is_isolated, 20, LIVING_OSDS},
    {osd_sleeps, 20, LIVING_OSDS},
    {osd_is_slandered, 30, LIVING_OSDS},
    {osd_is_deposed, 40, LIVING_OSDS},
    {world_is_split, 30, LIVING_OSDS},
};

static uint32_t weight_of(const struct faults *f, size_t i)
{
    if (kinds[i].stress == LIVING_OSDS)
        return f->options.isolate_osds ? kinds[i].weight : 0;
    return kinds[i].weight * (f->stress && kinds[i].stress == f->stress ? 4 : 1);
}

/* ---- Time ---- */

static void arm_next(struct faults *f)
{
    sim_timer_arm(f->cluster->sim, &f->next, now(f) + below(f, 2 * f->options.every_ns));
}

static void next_fire(struct env_timer *timer)
{
    struct faults *f = container_of(timer, struct faults, next);
    uint32_t sum = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        sum += weight_of(f, i);
    uint64_t dice = below(f, sum);
    size_t i = 0;
    while (dice >= weight_of(f, i))
        dice -= weight_of(f, i++);
    f->count++;
    kinds[i].happen(f);
    arm_next(f);
}

static void heal_network_fire(struct env_timer *timer)
{
    struct faults *f = container_of(timer, struct faults, heal_network);
    sim_log(f->cluster->sim, "fault", "the network is healed");
    sim_heal(f->cluster->sim);
    sim_slow_network(f->cluster->sim, 0);
}

static void heal_disks_fire(struct env_timer *timer)
{
    struct faults *f = container_of(timer, struct faults, heal_disks);
    struct member *member;
    sim_log(f->cluster->sim, "fault", "the disks are fast again");
    for (uint32_t i = 0; (member = cluster_member(f->cluster, i)); i++)
        set_disk(member, 1);
}

static void heal_weights_fire(struct env_timer *timer)
{
    struct faults *f = container_of(timer, struct faults, heal_weights);
    for (uint32_t id = 0; id < f->cluster->options.n_osds; id++) {
        char json[128];
        if (!(f->out & (1u << id)))
            continue;
        weight_one(json, sizeof json, id);
        cluster_command_send(f->cluster, json);
    }
    f->out = 0;
}

struct faults *faults_create(struct cluster *cluster, const struct faults_options *options)
{
    struct faults *f = calloc(1, sizeof *f);
    if (!f)
        abort();
    f->cluster = cluster;
    f->options = *options;
    f->stress = (uint32_t)below(f, STRESS_COUNT);
    f->next.fire = next_fire;
    f->blackout.fire = blackout_fire;
    f->heal_network.fire = heal_network_fire;
    f->heal_disks.fire = heal_disks_fire;
    f->heal_weights.fire = heal_weights_fire;
    f->heal_pools.fire = heal_pools_fire;
    topology_init(&f->topology, cluster);
    arm_next(f);
    return f;
}

void faults_end(struct faults *f)
{
    struct sim *sim = f->cluster->sim;
    struct member *member;
    sim_timer_stop(sim, &f->next);
    sim_timer_stop(sim, &f->blackout);
    sim_timer_stop(sim, &f->heal_network);
    sim_timer_stop(sim, &f->heal_disks);
    sim_timer_stop(sim, &f->heal_weights);
    sim_timer_stop(sim, &f->heal_pools);
    sim_calm(sim);
    heal_network_fire(&f->heal_network);
    heal_disks_fire(&f->heal_disks);
    for (uint32_t i = 0; (member = cluster_member(f->cluster, i)); i++)
        member_start_at(member, now(f) + below(f, SEC_NS));
    if (!topology_await_osds(&f->topology))
        return;
    /* All of them: nobody knows what became of earlier commands. */
    for (uint32_t id = 0; id < f->cluster->options.n_osds; id++) {
        char json[128];
        weight_one(json, sizeof json, id);
        if (!cluster_command(f->cluster, 60 * SEC_NS, json))
            return;
    }
    (void)topology_restore(&f->topology);
}

void faults_destroy(struct faults *f)
{
    sim_timer_stop(f->cluster->sim, &f->next);
    sim_timer_stop(f->cluster->sim, &f->blackout);
    sim_timer_stop(f->cluster->sim, &f->heal_network);
    sim_timer_stop(f->cluster->sim, &f->heal_disks);
    sim_timer_stop(f->cluster->sim, &f->heal_weights);
    sim_timer_stop(f->cluster->sim, &f->heal_pools);
    free(f);
}

uint32_t faults_count(const struct faults *f)
{
    return f->count;
}
