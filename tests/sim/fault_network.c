#include "tests/sim/faults_impl.h"

#include <inttypes.h>
#include <stdio.h>

static void heal_network_in(struct faults *f, uint64_t ns)
{
    sim_timer_arm(f->cluster->sim, &f->heal_network, fault_now(f) + ns);
}

static void isolate(struct faults *f, struct member *lonely, uint32_t one_in)
{
    struct member *member;
    for (uint32_t i = 0; (member = cluster_member(f->cluster, i)); i++) {
        if (member != lonely && fault_below(f, one_in) == 0)
            sim_partition(f->cluster->sim, lonely->node, member->node, true);
    }
}

/* A monitor is cut off from the other monitors, and perhaps from others. */
void fault_mon_is_isolated(struct faults *f)
{
    struct member *lonely = fault_mon(f);
    struct sim *sim = f->cluster->sim;
    for (uint32_t i = 0; i < f->cluster->options.n_mons; i++) {
        struct member *mon = &f->cluster->mons[i].member;
        if (mon != lonely)
            sim_partition(sim, lonely->node, mon->node, true);
    }
    if (fault_below(f, 2) == 0)
        isolate(f, lonely, 1 + (uint32_t)fault_below(f, 3));
    sim_log(sim, "fault", "%s is isolated", sim_node_name(lonely->node));
    heal_network_in(f, SEC_NS + fault_below(f, 14 * SEC_NS));
}

/* What it asked for may be done without its knowing, and others go on. */
void fault_client_is_isolated(struct faults *f)
{
    uint64_t i = 1 + fault_below(f, f->cluster->options.n_clients);
    struct member *member = &f->cluster->clients[i].member;
    sim_log(f->cluster->sim, "fault", "%s is isolated", sim_node_name(member->node));
    isolate(f, member, 1 + (uint32_t)fault_below(f, 2));
    heal_network_in(f, SEC_NS / 10 + fault_below(f, 5 * SEC_NS));
}

/* Shorter than its watches and leases live, or longer: then others go on without it. */
void fault_client_is_cut_off(struct faults *f)
{
    uint64_t i = 1 + fault_below(f, f->cluster->options.n_clients);
    struct member *member = &f->cluster->clients[i].member;
    uint64_t ns = fault_below(f, 2) == 0 ? 4 * SEC_NS + fault_below(f, 8 * SEC_NS)
                                         : 12 * SEC_NS + fault_below(f, 25 * SEC_NS);
    sim_log(f->cluster->sim, "fault", "%s is cut off", sim_node_name(member->node));
    isolate(f, member, 1 + (uint32_t)fault_below(f, 2));
    heal_network_in(f, ns);
}

void fault_network_is_slow(struct faults *f)
{
    uint64_t extra = 1 + fault_below(f, 300 * MSEC_NS);
    sim_log(f->cluster->sim, "fault", "network is slow: %" PRIu64 " us", extra / 1000);
    sim_slow_network(f->cluster->sim, extra);
    heal_network_in(f, SEC_NS + fault_below(f, 5 * SEC_NS));
}

/* Two OSDs do not hear of each other, or one does not hear of the other; the rest does of both. */
void fault_osd_pair_is_cut(struct faults *f)
{
    struct member *a = fault_osd(f), *b = fault_osd(f);
    if (a == b)
        return;
    bool both = fault_below(f, 2) == 0;
    sim_log(f->cluster->sim, "fault", "%s does not reach %s%s", sim_node_name(a->node),
            sim_node_name(b->node), both ? ", nor the other way" : "");
    sim_block(f->cluster->sim, a->node, b->node, true);
    if (both)
        sim_block(f->cluster->sim, b->node, a->node, true);
    heal_network_in(f, SEC_NS + fault_below(f, 10 * SEC_NS));
}

/* Some or all monitors, to, from, or both; others see nothing of it. */
static void lose_mons(struct faults *f, const struct member *member)
{
    uint64_t ways = 1 + fault_below(f, 3), one_in = 1 + fault_below(f, 2);
    sim_log(f->cluster->sim, "fault", "%s loses monitors", sim_node_name(member->node));
    for (uint32_t i = 0; i < f->cluster->options.n_mons; i++) {
        struct sim_node *mon = f->cluster->mons[i].member.node;
        if (fault_below(f, one_in) != 0)
            continue;
        if (ways & 1)
            sim_block(f->cluster->sim, member->node, mon, true);
        if (ways & 2)
            sim_block(f->cluster->sim, mon, member->node, true);
    }
    heal_network_in(f, SEC_NS + fault_below(f, 14 * SEC_NS));
}

void fault_osd_loses_mons(struct faults *f)
{
    lose_mons(f, fault_osd(f));
}

/* For longer than its leases there: it lives, and so do its other leases. */
void fault_client_loses_osd(struct faults *f)
{
    uint64_t i = 1 + fault_below(f, f->cluster->options.n_clients);
    struct member *member = &f->cluster->clients[i].member, *osd = fault_osd(f);
    sim_log(f->cluster->sim, "fault", "%s loses %s", sim_node_name(member->node),
            sim_node_name(osd->node));
    sim_partition(f->cluster->sim, member->node, osd->node, true);
    heal_network_in(f, 12 * SEC_NS + fault_below(f, 25 * SEC_NS));
}

void fault_client_loses_mons(struct faults *f)
{
    uint64_t i = 1 + fault_below(f, f->cluster->options.n_clients);
    lose_mons(f, &f->cluster->clients[i].member);
}

static void block_one_way(struct faults *f, bool inbound)
{
    struct member *osd = fault_osd(f), *member;
    uint64_t one_in = 1 + fault_below(f, 2);
    sim_log(f->cluster->sim, "fault", "%s is %s", sim_node_name(osd->node),
            inbound ? "deaf" : "mute");
    for (uint32_t i = 0; (member = cluster_member(f->cluster, i)); i++) {
        if (member == osd || fault_below(f, one_in) != 0)
            continue;
        if (inbound)
            sim_block(f->cluster->sim, member->node, osd->node, true);
        else
            sim_block(f->cluster->sim, osd->node, member->node, true);
    }
    heal_network_in(f, SEC_NS + fault_below(f, 10 * SEC_NS));
}

void fault_osd_is_deaf(struct faults *f)
{
    block_one_way(f, true);
}

void fault_osd_is_mute(struct faults *f)
{
    block_one_way(f, false);
}

/* Two groups of monitors, of any sizes. */
void fault_mons_are_split(struct faults *f)
{
    uint64_t side = sim_random(f->cluster->sim);
    sim_log(f->cluster->sim, "fault", "the monitors are split");
    for (uint32_t i = 0; i < f->cluster->options.n_mons; i++) {
        for (uint32_t j = 0; j < i; j++) {
            if ((side >> i & 1) != (side >> j & 1))
                sim_partition(f->cluster->sim, f->cluster->mons[i].member.node,
                              f->cluster->mons[j].member.node, true);
        }
    }
    heal_network_in(f, SEC_NS + fault_below(f, 10 * SEC_NS));
}

void fault_osd_is_isolated(struct faults *f)
{
    struct member *member = fault_osd(f);
    sim_log(f->cluster->sim, "fault", "%s is isolated", sim_node_name(member->node));
    isolate(f, member, 1 + (uint32_t)fault_below(f, 2));
    heal_network_in(f, SEC_NS + fault_below(f, 8 * SEC_NS));
}

/*
 * The monitors give it up, and it does not hear of it; nor do some of the clients, which go on
 * working with it.
 */
void fault_osd_is_deposed(struct faults *f)
{
    struct cluster *cluster = f->cluster;
    uint64_t id = fault_below(f, cluster->options.n_osds), deaf = sim_random(cluster->sim);
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
    heal_network_in(f, SEC_NS / 2 + fault_below(f, 5 * SEC_NS));
}

/* What it asks of them still arrives. */
void fault_relief_fire(struct env_timer *timer)
{
    struct faults *f = container_of(timer, struct faults, relief);
    struct cluster *cluster = f->cluster;
    uint64_t deaf = sim_random(cluster->sim);
    for (uint32_t i = 0; i < cluster->options.n_mons; i++) {
        struct sim_node *mon = cluster->mons[i].member.node;
        sim_block(cluster->sim, mon, cluster->osds[f->relieved].member.node, true);
        for (uint32_t j = 1; j <= cluster->options.n_clients; j++) {
            if (deaf >> j & 1)
                sim_block(cluster->sim, mon, cluster->clients[j].member.node, true);
        }
    }
    sim_log(cluster->sim, "fault", "osd.%u hears nothing of the monitors", f->relieved);
    heal_network_in(f, 3 * SEC_NS + fault_below(f, 3 * SEC_NS));
}

/* Its groups get other primaries, of which it may not hear: it goes on with those clients. */
void fault_osd_is_relieved(struct faults *f)
{
    if (f->relief.armed)
        return;
    f->relieved = (uint32_t)fault_below(f, f->cluster->options.n_osds);
    fault_put_out(f, f->relieved);
    sim_timer_arm(f->cluster->sim, &f->relief,
                  fault_now(f) + fault_below(f, fault_below(f, 2) == 0 ? 5 * MSEC_NS : SEC_NS / 2));
}

/* Two halves that do not hear of each other, with clients on both sides. */
void fault_world_is_split(struct faults *f)
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
    heal_network_in(f, SEC_NS + fault_below(f, 8 * SEC_NS));
}

void fault_heal_network_fire(struct env_timer *timer)
{
    struct faults *f = container_of(timer, struct faults, heal_network);
    sim_log(f->cluster->sim, "fault", "the network is healed");
    sim_heal(f->cluster->sim);
    sim_slow_network(f->cluster->sim, 0);
}
