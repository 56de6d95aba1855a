#include "tests/sim/faults_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

void fault_put_out(struct faults *f, uint64_t id)
{
    char json[128];
    f->out |= 1u << id;
    if (fault_below(f, 2) == 0)
        snprintf(json, sizeof json, "{\"prefix\": \"osd out\", \"ids\": [\"%" PRIu64 "\"]}", id);
    else
        snprintf(json, sizeof json,
                 "{\"prefix\": \"osd reweight\", \"id\": %" PRIu64 ", \"weight\": %.2f}", id,
                 (double)fault_below(f, 100) / 100);
    cluster_command_send(f->cluster, json);
    sim_timer_arm(f->cluster->sim, &f->heal_weights,
                  fault_now(f) + SEC_NS + fault_below(f, 15 * SEC_NS));
}

static void weight_one(char *json, size_t size, uint32_t id)
{
    snprintf(json, size, "{\"prefix\": \"osd reweight\", \"id\": %" PRIu32 ", \"weight\": 1}", id);
}

/* Data move away, and later back. */
void fault_osd_goes_out(struct faults *f)
{
    uint64_t id = fault_below(f, f->cluster->options.n_osds);
    if (fault_below(f, 4) == 0)
        topology_change_crush_weight(&f->topology);
    else
        fault_put_out(f, id);
}

/* It lives, but the monitors are told otherwise. */
void fault_osd_is_slandered(struct faults *f)
{
    char json[128];
    uint64_t id = fault_below(f, f->cluster->options.n_osds);
    snprintf(json, sizeof json, "{\"prefix\": \"osd down\", \"ids\": [\"%" PRIu64 "\"]}", id);
    cluster_command_send(f->cluster, json);
}

/* An operator changes a pool, and some time later finds that it was better before. */
void fault_pool_changes(struct faults *f)
{
    switch (fault_below(f, 4)) {
    case 0:
        topology_change_rule(&f->topology);
        break;
    case 1:
        topology_change_min_size(&f->topology);
        break;
    default:
        topology_resize_pool(&f->topology);
    }
    sim_timer_arm(f->cluster->sim, &f->heal_pools,
                  fault_now(f) + SEC_NS + fault_below(f, 10 * SEC_NS));
}

void fault_scrub_is_ordered(struct faults *f)
{
    static const char *const what[] = {"scrub", "deep-scrub", "repair"};
    const struct cluster_map *map = cluster_map_newest(f->cluster);
    char json[128];
    if (!map || map->n_pools == 0)
        return;
    const struct map_pool *pool = &map->pools[fault_below(f, map->n_pools)];
    snprintf(json, sizeof json, "{\"prefix\": \"pg %s\", \"pgid\": \"%" PRIu64 ".%" PRIx64 "\"}",
             what[fault_below(f, 3)], pool->id, fault_below(f, pool->pg_num));
    cluster_command_send(f->cluster, json);
}

void fault_heal_pools_fire(struct env_timer *timer)
{
    topology_restore_send(&container_of(timer, struct faults, heal_pools)->topology);
}

void fault_pool_comes_or_goes(struct faults *f)
{
    topology_extra_pool(&f->topology);
}

void fault_osd_is_removed(struct faults *f)
{
    topology_remove_osd(&f->topology);
}

void fault_heal_weights_fire(struct env_timer *timer)
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

/* A command to remove an OSD, sent before, may come that late: then it must be back first. And the
 * monitors may not know yet that disks have room again. */
static bool weigh_one(struct faults *f, uint32_t id)
{
    char json[128];
    weight_one(json, sizeof json, id);
    for (int result = -ENOENT; result == -ENOENT || result == -ENOSPC;) {
        if (!topology_await_osds(&f->topology) ||
            !cluster_command_try(f->cluster, 60 * SEC_NS, json, &result))
            return false;
        if (result != 0 && result != -ENOENT && result != -ENOSPC)
            cluster_fail(f->cluster, "command %s fails: %d", json, result);
    }
    return !f->cluster->failed;
}

bool fault_undo_commands(struct faults *f)
{
    /* What is still under way could take effect after what undoes it. */
    if (!cluster_commands_end(f->cluster))
        return false;
    /* All of them: nobody knows what became of earlier commands. */
    for (uint32_t id = 0; id < f->cluster->options.n_osds; id++) {
        if (!weigh_one(f, id))
            return false;
    }
    return topology_restore(&f->topology);
}
