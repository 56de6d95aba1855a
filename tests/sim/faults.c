#include "tests/sim/faults_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Of some a seed sees more. */
enum family {
    FAMILY_NONE,
    FAMILY_OSDS,
    FAMILY_MONS,
    FAMILY_POWER,
    FAMILY_ALIVE, /* A living OSD looks dead to some. */
    FAMILY_OPERATOR,
    FAMILY_COUNT
};

static const struct kind {
    const char *name;
    enum family family;
    void (*happen)(struct faults *f);
    const char *meaning;
} kinds[] = {
    {"osd-dies", FAMILY_OSDS, fault_osd_dies, "an OSD crashes or loses power, and starts again"},
    {"osd-stops", FAMILY_OSDS, fault_osd_stops, "an OSD is stopped in order"},
    {"two-osds-die", FAMILY_OSDS, fault_two_osds_die, "two OSDs die within a moment"},
    {"all-osds-lose-power", FAMILY_POWER, fault_all_osds_lose_power, "all OSDs at once"},
    {"slow-disks-lose-power", FAMILY_POWER, fault_slow_disks_lose_power,
     "slow disks, then a blackout, and OSDs that come back far apart"},
    {"mon-dies", FAMILY_MONS, fault_mon_dies, "a monitor crashes or loses power"},
    {"mon-stops", FAMILY_MONS, fault_mon_stops, "a monitor is stopped in order"},
    {"leader-dies", FAMILY_MONS, fault_leader_dies, "the monitors' leader dies"},
    {"all-mons-lose-power", FAMILY_MONS, fault_all_mons_lose_power, "all monitors at once"},
    {"everything-loses-power", FAMILY_POWER, fault_everything_loses_power,
     "monitors, OSDs and clients at once"},
    {"client-dies", FAMILY_NONE, fault_client_dies, "a client dies and another one starts"},
    {"client-is-isolated", FAMILY_NONE, fault_client_is_isolated,
     "a client is cut off from all or some up to 5 s"},
    {"client-is-cut-off", FAMILY_NONE, fault_client_is_cut_off,
     "a client is cut off from all or some for 4 to 37 s"},
    {"client-loses-osd", FAMILY_NONE, fault_client_loses_osd, "a client and an OSD, for long"},
    {"client-loses-mons", FAMILY_NONE, fault_client_loses_mons, "a client and monitors, any way"},
    {"client-sleeps", FAMILY_NONE, fault_client_sleeps, "a client hangs up to 20 s"},
    {"client-hangs", FAMILY_NONE, fault_client_hangs,
     "a client of images hangs up to 40 s, between two steps of one of its threads"},
    {"mon-is-isolated", FAMILY_MONS, fault_mon_is_isolated,
     "a monitor is cut off from the others, and perhaps from more"},
    {"mons-are-split", FAMILY_MONS, fault_mons_are_split, "two groups of monitors"},
    {"mon-sleeps", FAMILY_MONS, fault_mon_sleeps, "a monitor hangs up to 6 s"},
    {"network-is-slow", FAMILY_NONE, fault_network_is_slow, "messages take up to 0.3 s longer"},
    {"disk-is-slow", FAMILY_NONE, fault_disk_is_slow, "one disk is up to 300 times slower"},
    {"clock-drifts", FAMILY_NONE, fault_clock_drifts, "a clock changes its speed within drift_ppm"},
    {"object-rots", FAMILY_NONE, fault_object_rots,
     "a part of one copy of an object cannot be read any more"},
    {"scrub-is-ordered", FAMILY_NONE, fault_scrub_is_ordered, "light or deep, of one group"},
    {"disks-are-full", FAMILY_NONE, fault_disks_are_full,
     "one disk or all have no room, or little"},
    {"osd-goes-out", FAMILY_OPERATOR, fault_osd_goes_out, "marked out and back, or another weight"},
    {"osd-is-removed", FAMILY_OPERATOR, fault_osd_is_removed,
     "osd rm of one that is down; it may come back as new"},
    {"pool-changes", FAMILY_OPERATOR, fault_pool_changes, "size, min_size or CRUSH rule of a pool"},
    {"pool-comes-or-goes", FAMILY_OPERATOR, fault_pool_comes_or_goes, "an empty pool"},
    {"osd-is-isolated", FAMILY_ALIVE, fault_osd_is_isolated, "an OSD is cut off from all or some"},
    {"osd-pair-is-cut", FAMILY_ALIVE, fault_osd_pair_is_cut, "two OSDs, one way or both"},
    {"osd-loses-mons", FAMILY_ALIVE, fault_osd_loses_mons, "an OSD and monitors, any way"},
    {"osd-is-deaf", FAMILY_ALIVE, fault_osd_is_deaf, "an OSD hears nothing of all or some"},
    {"osd-is-mute", FAMILY_ALIVE, fault_osd_is_mute, "nothing of it reaches all or some"},
    {"osd-sleeps", FAMILY_ALIVE, fault_osd_sleeps, "an OSD hangs up to 8 s"},
    {"osd-is-slandered", FAMILY_ALIVE, fault_osd_is_slandered, "osd down, while it lives"},
    {"osd-is-deposed", FAMILY_ALIVE, fault_osd_is_deposed,
     "osd down, and it does not hear of it, nor do some clients"},
    {"osd-is-relieved", FAMILY_ALIVE, fault_osd_is_relieved,
     "osd out, and while its data move it hears no more of the monitors, nor do some clients"},
    {"world-is-split", FAMILY_ALIVE, fault_world_is_split, "two halves, with clients in both"},
};

enum { N_KINDS = sizeof kinds / sizeof kinds[0] };
_Static_assert((int)N_KINDS <= (int)SCENARIO_FAULTS_MAX, "scenarios have room for every kind");

int fault_count(void)
{
    return N_KINDS;
}

int fault_by_name(const char *name)
{
    for (int i = 0; i < N_KINDS; i++) {
        if (strcmp(kinds[i].name, name) == 0)
            return i;
    }
    return -1;
}

const char *fault_name(int number)
{
    return kinds[number].name;
}

const char *fault_meaning(int number)
{
    return kinds[number].meaning;
}

/* ---- Time ---- */

static uint64_t weight_of(const struct faults *f, int i)
{
    uint64_t emphasis = scenario_most(&f->scenario->emphasis);
    bool more = f->family != FAMILY_NONE && kinds[i].family == f->family;
    return f->scenario->faults[i] * (more ? emphasis : 1);
}

static uint64_t weight_of_all(const struct faults *f)
{
    uint64_t sum = 0;
    for (int i = 0; i < N_KINDS; i++)
        sum += weight_of(f, i);
    return sum;
}

static void arm_next(struct faults *f)
{
    if (weight_of_all(f) > 0)
        sim_timer_arm(f->cluster->sim, &f->next, fault_now(f) + fault_below(f, 2 * f->every_ns));
}

static void next_fire(struct env_timer *timer)
{
    struct faults *f = container_of(timer, struct faults, next);
    uint64_t dice = fault_below(f, weight_of_all(f));
    int i = 0;
    while (dice >= weight_of(f, i))
        dice -= weight_of(f, i++);
    f->count++;
    kinds[i].happen(f);
    arm_next(f);
}

struct faults *faults_create(struct cluster *cluster, const struct scenario *scenario)
{
    struct faults *f = calloc(1, sizeof *f);
    if (!f)
        abort();
    f->cluster = cluster;
    f->scenario = scenario;
    f->every_ns = scenario_choose(&scenario->every, cluster->sim);
    f->family = (uint32_t)fault_below(f, FAMILY_COUNT);
    f->next.fire = next_fire;
    f->blackout.fire = fault_blackout_fire;
    f->heal_network.fire = fault_heal_network_fire;
    f->relief.fire = fault_relief_fire;
    f->heal_disks.fire = fault_heal_disks_fire;
    f->heal_weights.fire = fault_heal_weights_fire;
    f->heal_pools.fire = fault_heal_pools_fire;
    topology_init(&f->topology, cluster);
    f->topology.keeps_two = scenario->faults[fault_by_name("object-rots")] > 0;
    arm_next(f);
    return f;
}

static void stop_timers(struct faults *f)
{
    struct env_timer *timers[] = {&f->next,       &f->blackout,     &f->heal_network, &f->relief,
                                  &f->heal_disks, &f->heal_weights, &f->heal_pools};
    for (size_t i = 0; i < sizeof timers / sizeof timers[0]; i++)
        sim_timer_stop(f->cluster->sim, timers[i]);
}

void faults_end(struct faults *f)
{
    struct member *member;
    stop_timers(f);
    sim_calm(f->cluster->sim);
    fault_heal_network_fire(&f->heal_network);
    fault_heal_disks_fire(&f->heal_disks);
    for (uint32_t i = 0; (member = cluster_member(f->cluster, i)); i++)
        member_start_at(member, fault_now(f) + fault_below(f, SEC_NS));
    /* A failure is noted in the cluster. */
    (void)fault_undo_commands(f);
}

void faults_destroy(struct faults *f)
{
    stop_timers(f);
    free(f);
}

uint32_t faults_count(const struct faults *f)
{
    return f->count;
}
