#include "tests/sim/faults_impl.h"

#include <inttypes.h>

#include "tests/sim/damage.h"
#include "tests/sim/fibers.h"

/* At once, soon, or after the others have noticed. */
static uint64_t choose_restart(struct faults *f)
{
    switch (fault_below(f, 4)) {
    case 0:
        return fault_now(f) + fault_below(f, 100 * MSEC_NS);
    case 1:
        return fault_now(f) + fault_below(f, 20 * SEC_NS);
    default:
        return fault_now(f) + SEC_NS / 2 + fault_below(f, 5 * SEC_NS);
    }
}

static enum sim_end choose_end(struct faults *f)
{
    return fault_below(f, 3) == 0 ? SIM_POWER_CUT : SIM_CRASH;
}

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

void fault_osd_dies(struct faults *f)
{
    member_end(fault_osd(f), choose_end(f), choose_restart(f));
}

void fault_osd_stops(struct faults *f)
{
    member_stop(fault_osd(f), choose_restart(f));
}

void fault_mon_dies(struct faults *f)
{
    member_end(fault_mon(f), choose_end(f), choose_restart(f));
}

void fault_mon_stops(struct faults *f)
{
    member_stop(fault_mon(f), choose_restart(f));
}

void fault_leader_dies(struct faults *f)
{
    struct cluster_mon *leader = cluster_leader(f->cluster);
    if (leader)
        member_end(&leader->member, choose_end(f), choose_restart(f));
}

/* Two die within a moment, so that the second one's death meets the handling of the first's. */
void fault_two_osds_die(struct faults *f)
{
    struct member *first = fault_osd(f), *second = fault_osd(f);
    uint64_t restart = choose_restart(f);
    member_end(first, choose_end(f), restart);
    member_end(second, choose_end(f), fault_below(f, 2) ? restart : choose_restart(f));
}

void fault_all_osds_lose_power(struct faults *f)
{
    uint64_t back = fault_now(f) + SEC_NS / 10 + fault_below(f, 3 * SEC_NS);
    for (uint32_t i = 0; i < f->cluster->options.n_osds; i++)
        member_end(&f->cluster->osds[i].member, SIM_POWER_CUT, back + fault_below(f, 2 * SEC_NS));
}

void fault_all_mons_lose_power(struct faults *f)
{
    uint64_t back = fault_now(f) + fault_below(f, 2 * SEC_NS);
    for (uint32_t i = 0; i < f->cluster->options.n_mons; i++)
        member_end(&f->cluster->mons[i].member, SIM_POWER_CUT, back + fault_below(f, SEC_NS));
}

/*
 * Disks become slow, so that much is under way when the power goes; and the OSDs come back so late
 * one after the other that some may go on without the others.
 */
void fault_blackout_fire(struct env_timer *timer)
{
    struct faults *f = container_of(timer, struct faults, blackout);
    uint64_t apart = 1 + fault_below(f, 10 * SEC_NS);
    for (uint32_t i = 0; i < f->cluster->options.n_osds; i++)
        member_end(&f->cluster->osds[i].member, SIM_POWER_CUT,
                   fault_now(f) + SEC_NS / 10 + fault_below(f, apart));
}

void fault_slow_disks_lose_power(struct faults *f)
{
    for (uint32_t i = 0; i < f->cluster->options.n_osds; i++)
        set_disk(&f->cluster->osds[i].member, 1 + fault_below(f, 500));
    sim_log(f->cluster->sim, "fault", "all disks are slow, before a blackout");
    sim_timer_arm(f->cluster->sim, &f->blackout, fault_now(f) + fault_below(f, SEC_NS));
    sim_timer_arm(f->cluster->sim, &f->heal_disks,
                  fault_now(f) + SEC_NS + fault_below(f, 3 * SEC_NS));
}

void fault_everything_loses_power(struct faults *f)
{
    struct member *member;
    uint64_t back = fault_now(f) + SEC_NS / 10 + fault_below(f, 3 * SEC_NS);
    for (uint32_t i = 0; (member = cluster_member(f->cluster, i)); i++) {
        bool is_admin = member == &f->cluster->clients[0].member;
        if (!is_admin)
            member_end(member, SIM_POWER_CUT, back + fault_below(f, 2 * SEC_NS));
    }
}

void fault_client_dies(struct faults *f)
{
    uint64_t i = 1 + fault_below(f, f->cluster->options.n_clients);
    member_end(&f->cluster->clients[i].member, choose_end(f),
               fault_now(f) + fault_below(f, 3 * SEC_NS));
}

void fault_mon_sleeps(struct faults *f)
{
    struct member *member = fault_mon(f);
    sim_log(f->cluster->sim, "fault", "%s sleeps", sim_node_name(member->node));
    sim_process_pause(member->node, fault_now(f) + fault_below(f, 6 * SEC_NS));
}

void fault_disk_is_slow(struct faults *f)
{
    struct member *member = fault_below(f, 3) == 0 ? fault_mon(f) : fault_osd(f);
    uint64_t factor = 2 + fault_below(f, 300);
    sim_log(f->cluster->sim, "fault", "%s has a slow disk: %" PRIu64 " times",
            sim_node_name(member->node), factor);
    set_disk(member, factor);
    sim_timer_arm(f->cluster->sim, &f->heal_disks,
                  fault_now(f) + SEC_NS + fault_below(f, 5 * SEC_NS));
}

void fault_osd_sleeps(struct faults *f)
{
    struct member *member = fault_osd(f);
    sim_log(f->cluster->sim, "fault", "%s sleeps", sim_node_name(member->node));
    sim_process_pause(member->node, fault_now(f) + fault_below(f, 8 * SEC_NS));
}

void fault_client_sleeps(struct faults *f)
{
    uint64_t i = 1 + fault_below(f, f->cluster->options.n_clients);
    struct member *member = &f->cluster->clients[i].member;
    sim_log(f->cluster->sim, "fault", "%s sleeps", sim_node_name(member->node));
    sim_process_pause(member->node, fault_now(f) + fault_below(f, 20 * SEC_NS));
}

void fault_client_hangs(struct faults *f)
{
    uint64_t i = 1 + fault_below(f, f->cluster->options.n_clients);
    const struct cluster_client *client = &f->cluster->clients[i];
    uint32_t locks = 1 + (uint32_t)fault_below(f, 400);
    uint64_t ns = fault_below(f, fault_below(f, 2) ? 40 * SEC_NS : 2 * SEC_NS);
    if (client->fibers)
        fibers_hang(client->fibers, locks, ns);
}

/* Within the bound of the scenario. */
void fault_clock_drifts(struct faults *f)
{
    struct member *member = fault_below(f, 3) == 0 ? fault_mon(f) : fault_osd(f);
    int32_t most = (int32_t)scenario_most(&f->scenario->drift);
    int32_t drift = (int32_t)fault_below(f, 2 * (uint64_t)most + 1) - most;
    sim_log(f->cluster->sim, "fault", "the clock of %s runs at %+" PRId32 " ppm",
            sim_node_name(member->node), drift);
    sim_process_drift(member->node, drift);
}

void fault_object_rots(struct faults *f)
{
    damage_one(f->cluster);
}

/* What is there stays. Whoever wants more gets it only where the disk has grown again. */
void fault_disks_are_full(struct faults *f)
{
    struct cluster *cluster = f->cluster;
    uint64_t only = fault_below(f, 2 * (uint64_t)cluster->options.n_osds);
    uint64_t percent = 90 + fault_below(f, 40);
    for (uint32_t i = 0; i < cluster->options.n_osds; i++) {
        struct store_memory_disk *disk = cluster->osds[i].disk;
        if ((only < cluster->options.n_osds && i != only) ||
            cluster->osds[i].member.state != MEMBER_UP)
            continue;
        store_memory_resize(disk, 4096 + store_memory_bytes_used(disk) * percent / 100);
        sim_log(cluster->sim, "fault", "the disk of osd.%u is small", i);
    }
    sim_timer_arm(cluster->sim, &f->heal_disks, fault_now(f) + SEC_NS + fault_below(f, 8 * SEC_NS));
}

void fault_heal_disks_fire(struct env_timer *timer)
{
    struct faults *f = container_of(timer, struct faults, heal_disks);
    struct member *member;
    sim_log(f->cluster->sim, "fault", "the disks are fast again, and large");
    for (uint32_t i = 0; i < f->cluster->options.n_osds; i++)
        store_memory_resize(f->cluster->osds[i].disk, CLUSTER_DISK_BYTES);
    for (uint32_t i = 0; (member = cluster_member(f->cluster, i)); i++)
        set_disk(member, 1);
}
