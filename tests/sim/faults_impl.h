/*
 * Private to faults.c, which decides when, and fault_*.c, which know what.
 *
 * To add a fault: a function here and in one of these files, a line in the table of faults.c, a
 * weight in scenarios. What it changes must be undone by a timer of its own, or by faults_end().
 */
#ifndef LIMPET_TESTS_SIM_FAULTS_IMPL_H
#define LIMPET_TESTS_SIM_FAULTS_IMPL_H

#include "tests/sim/faults.h"
#include "tests/sim/topology.h"

struct faults {
    struct cluster *cluster;
    const struct scenario *scenario;
    uint64_t every_ns;
    struct env_timer next;
    struct env_timer blackout;
    struct env_timer heal_network;
    struct env_timer heal_disks;
    struct env_timer heal_weights;
    struct env_timer relief;
    uint32_t relieved; /* The OSD that hears no more of the monitors then. */
    struct env_timer heal_pools;
    uint32_t count;
    uint32_t family; /* That is emphasized; FAMILY_NONE: no one. */
    uint32_t out;    /* OSDs that were marked out, as bits. */
    struct topology topology;
};

static inline uint64_t fault_below(struct faults *f, uint64_t n)
{
    return sim_below(f->cluster->sim, n);
}

static inline uint64_t fault_now(const struct faults *f)
{
    return sim_now(f->cluster->sim);
}

static inline struct member *fault_osd(struct faults *f)
{
    return &f->cluster->osds[fault_below(f, f->cluster->options.n_osds)].member;
}

static inline struct member *fault_mon(struct faults *f)
{
    return &f->cluster->mons[fault_below(f, f->cluster->options.n_mons)].member;
}

/* ---- fault_members.c: processes and machines ---- */

void fault_osd_dies(struct faults *f);
void fault_osd_stops(struct faults *f);
void fault_two_osds_die(struct faults *f);
void fault_all_osds_lose_power(struct faults *f);
void fault_slow_disks_lose_power(struct faults *f);
void fault_mon_dies(struct faults *f);
void fault_mon_stops(struct faults *f);
void fault_leader_dies(struct faults *f);
void fault_all_mons_lose_power(struct faults *f);
void fault_everything_loses_power(struct faults *f);
void fault_client_dies(struct faults *f);
void fault_mon_sleeps(struct faults *f);
void fault_osd_sleeps(struct faults *f);
void fault_client_sleeps(struct faults *f);
void fault_client_hangs(struct faults *f);
void fault_clock_drifts(struct faults *f);
void fault_disk_is_slow(struct faults *f);
void fault_blackout_fire(struct env_timer *timer);
void fault_object_rots(struct faults *f);
void fault_disks_are_full(struct faults *f);
void fault_heal_disks_fire(struct env_timer *timer);

/* ---- fault_network.c ---- */

void fault_mon_is_isolated(struct faults *f);
void fault_mons_are_split(struct faults *f);
void fault_client_is_isolated(struct faults *f);
void fault_client_is_cut_off(struct faults *f);
void fault_network_is_slow(struct faults *f);
void fault_osd_is_isolated(struct faults *f);
void fault_osd_pair_is_cut(struct faults *f);
void fault_osd_loses_mons(struct faults *f);
void fault_client_loses_mons(struct faults *f);
void fault_client_loses_osd(struct faults *f);
void fault_osd_is_deaf(struct faults *f);
void fault_osd_is_mute(struct faults *f);
void fault_osd_is_deposed(struct faults *f);
void fault_osd_is_relieved(struct faults *f);
void fault_relief_fire(struct env_timer *timer);
void fault_world_is_split(struct faults *f);
void fault_heal_network_fire(struct env_timer *timer);

/* ---- fault_operator.c: commands ---- */

void fault_osd_goes_out(struct faults *f);
void fault_put_out(struct faults *f, uint64_t id);
void fault_osd_is_slandered(struct faults *f);
void fault_osd_is_removed(struct faults *f);
void fault_pool_changes(struct faults *f);
void fault_scrub_is_ordered(struct faults *f);
void fault_pool_comes_or_goes(struct faults *f);
void fault_heal_weights_fire(struct env_timer *timer);
void fault_heal_pools_fire(struct env_timer *timer);
/* All OSDs in, with weight one, and pools as they were; waits. False when that fails. */
bool fault_undo_commands(struct faults *f);

#endif
