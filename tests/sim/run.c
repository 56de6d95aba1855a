/*
 * The phases of a run. Each ends when its condition holds; when it does not in time, the run has
 * failed: nothing may hang once faults have stopped.
 *
 *   start     monitors, OSDs and clients start; pools are created and become active
 *   work      clients write the first objects; then they work, and faults happen
 *   heal      faults stop, what is down starts; clients work on for a moment
 *   finish    clients stop; every operation must be answered
 *   settle    every group becomes clean, every copy equal
 *   scrub     in some runs: scrub must have repaired what was damaged, and repairs more
 *   read      every object is read; then the history must be linearizable, and listings complete;
 *             what was damaged on primaries has been repaired by that, and scrub finds nothing
 *   stop      everything stops in order
 */
#include "tests/sim/run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "tests/sim/cluster.h"
#include "tests/sim/compare.h"
#include "tests/sim/damage.h"
#include "tests/sim/faults.h"
#include "tests/sim/fenced.h"
#include "tests/sim/files.h"
#include "tests/sim/images.h"
#include "tests/sim/linear.h"
#include "tests/sim/listing.h"
#include "tests/sim/oracle.h"
#include "tests/sim/snaps.h"
#include "tests/sim/watchers.h"
#include "tests/sim/workload.h"

#define START_NS   (60 * SEC_NS)
#define BALLAST_NS (60 * SEC_NS)
#define STOP_NS    (60 * SEC_NS)

/* Of an object. Too many operations without an answer may leave too many orders to try. */
enum { LINEAR_STEPS = 1000 * 1000 };

struct run {
    const struct run_options *options;
    struct run_result *result;
    struct sim *sim;
    struct cluster *cluster;
    struct workload *workload;
    struct lister *lister;
    struct watchers *watchers;
    struct fenced *fenced;
    struct images *images; /* NULL: there are none. */
    struct files *files;   /* Likewise. */
    struct faults *faults;
    struct oracle *oracle;
    bool scrubs;            /* This run does, at the end. */
    uint64_t scrub_from_ns; /* By the wall. */
    uint32_t n_pools;
    uint64_t calm_ns;          /* Since when there were no faults. */
    char why[CLUSTER_WHY_MAX]; /* What it is waiting for. */
};

static uint64_t in(const struct run *run, uint64_t ns)
{
    return sim_now(run->sim) + ns;
}

/* ---- Start ---- */

static uint64_t choose(struct run *run, const struct scenario_value *value)
{
    return scenario_choose(value, run->sim);
}

/* Without faults the world is perfect, too. */
static void create_world(struct run *run)
{
    const struct run_options *options = run->options;
    const struct scenario *scenario = options->scenario;
    struct sim_options world = {
        .seed = options->seed,
        .trace = options->trace,
        .log_mask = LOG_MASK_DEFAULT | (options->debug ? 1u << LOG_LEVEL_DEBUG : 0),
        .drift_ppm = (uint32_t)scenario_most(&scenario->drift),
        .late_ns = scenario_most(&scenario->late),
        .breaks_per_h = options->no_faults ? 0 : (uint32_t)scenario_most(&scenario->breaks),
        .ends_per_h = options->no_faults ? 0 : (uint32_t)scenario_most(&scenario->ends),
    };
    run->sim = sim_create(&world);
    if (!run->sim)
        abort();
    struct cluster_options cluster = {
        .n_mons = (uint32_t)choose(run, &scenario->mons),
        .n_osds = (uint32_t)choose(run, &scenario->osds),
        .n_clients = (uint32_t)choose(run, &scenario->clients),
        .op_timeout_ns = choose(run, &scenario->op_timeout),
        .store_latency_ns = choose(run, &scenario->store_latency),
        .sync_ns = choose(run, &scenario->sync),
        .pg_log_keep = (uint32_t)choose(run, &scenario->log_keep),
        .scrub_ns = choose(run, &scenario->scrub_every),
        .pg_clients = (uint32_t)scenario_most(&scenario->records),
        .held = (uint32_t)scenario_most(&scenario->held),
    };
    if (options->n_mons)
        cluster.n_mons = options->n_mons;
    if (options->n_osds)
        cluster.n_osds = options->n_osds;
    if (options->n_clients)
        cluster.n_clients = options->n_clients;
    run->cluster = cluster_create(run->sim, &cluster);
    run->oracle = oracle_create(run->cluster);
    run->images = images_create(run->cluster, scenario);
    run->files = files_create(run->cluster, scenario);
}

static bool admin_connected(void *ctx)
{
    return ((struct run *)ctx)->cluster->clients[0].connected;
}

static bool osds_up(void *ctx)
{
    const struct run *run = ctx;
    const struct cluster_map *map = cluster_map_newest(run->cluster);
    for (uint32_t i = 0; map && i < run->cluster->options.n_osds; i++) {
        if (!map_osd_up(map, (int32_t)i))
            return false;
    }
    return map != NULL;
}

static bool clean(void *ctx)
{
    struct run *run = ctx;
    return compare_clean(run->cluster, run->why);
}

static bool create_pools(struct run *run)
{
    const struct scenario *scenario = run->options->scenario;
    run->n_pools = (uint32_t)choose(run, &scenario->pools);
    for (uint32_t i = 0; i < run->n_pools; i++) {
        char json[256];
        uint64_t size = choose(run, &scenario->size);
        snprintf(json, sizeof json,
                 "{\"prefix\": \"osd pool create\", \"pool\": \"pool%u\", \"pg_num\": %" PRIu64
                 ", \"size\": %" PRIu64 "}",
                 i, choose(run, &scenario->pg_num), size);
        if (!cluster_command(run->cluster, 30 * SEC_NS, json))
            return false;
    }
    return true;
}

static bool phase_start(struct run *run)
{
    struct member *member;
    create_world(run);
    struct cluster *cluster = run->cluster;
    for (uint32_t i = 0; (member = cluster_member(cluster, i)); i++)
        member_start_at(member, sim_below(run->sim, SEC_NS / 10));
    return cluster_run_until(cluster, admin_connected, run, in(run, START_NS), "no monitor") &&
           cluster_run_until(cluster, osds_up, run, in(run, START_NS), "OSDs do not come up") &&
           create_pools(run) &&
           cluster_run_until(cluster, clean, run, in(run, START_NS), "new pools do not get clean");
}

/* ---- Work ---- */

static bool quiet(void *ctx)
{
    struct run *run = ctx;
    return workload_quiet(run->workload) && (!run->lister || lister_quiet(run->lister));
}

static bool start_workload(struct run *run)
{
    const struct cluster_map *map = client_map(run->cluster->clients[0].client);
    struct workload_options options = {
        .scenario = run->options->scenario,
        .n_pools = map->n_pools,
        .no_reads = run->options->no_reads,
    };
    for (uint32_t i = 0; i < map->n_pools; i++)
        options.pools[i] = map->pools[i].id;
    run->workload = workload_create(run->cluster, &options);
    workload_write_first(run->workload);
    if (!cluster_run_until(run->cluster, quiet, run, in(run, BALLAST_NS),
                           "the first objects are not written"))
        return false;
    workload_start(run->workload);
    run->lister = lister_create(run->cluster, run->workload);
    run->watchers = watchers_create(run->cluster, run->options->scenario, map->pools[0].id);
    run->fenced = fenced_create(run->cluster, run->options->scenario, map->pools[0].id);
    if (run->images)
        images_start(run->images);
    if (run->files)
        files_start(run->files);
    return !run->cluster->failed;
}

static bool phase_work(struct run *run)
{
    if (!start_workload(run))
        return false;
    const struct run_options *options = run->options;
    uint64_t work_ns =
        options->seconds ? options->seconds * SEC_NS : choose(run, &options->scenario->seconds);
    if (!options->no_faults)
        run->faults = faults_create(run->cluster, options->scenario);
    if (!cluster_run(run->cluster, in(run, work_ns)))
        return false;
    if (run->faults)
        faults_end(run->faults);
    run->calm_ns = sim_now(run->sim);
    watchers_calm(run->watchers);
    if (!cluster_run(run->cluster, in(run, 5 * SEC_NS)))
        return false;
    damage_forgive(run->cluster);
    return true;
}

/* ---- Finish and settle ---- */

static bool copies_equal(void *ctx)
{
    struct run *run = ctx;
    return compare_copies(run->cluster, run->why);
}

static bool phase_settle(struct run *run)
{
    const struct scenario *scenario = run->options->scenario;
    struct cluster *cluster = run->cluster;
    uint64_t settle_ns = choose(run, &scenario->settle);
    workload_stop(run->workload);
    lister_stop(run->lister);
    if (!cluster_run_until(cluster, quiet, run, in(run, choose(run, &scenario->answer)),
                           "operations are not answered after all faults are over"))
        return false;
    if (!watchers_finish(run->watchers, choose(run, &scenario->answer)) ||
        !fenced_finish(run->fenced, choose(run, &scenario->answer)))
        return false;
    if (run->images && !images_finish(run->images, settle_ns))
        return false;
    if (run->files && !files_finish(run->files, settle_ns))
        return false;
    if (!cluster_run_until(cluster, clean, run, in(run, settle_ns), run->why))
        return false;
    if (choose(run, &scenario->copies) &&
        !cluster_run_until(cluster, copies_equal, run, in(run, settle_ns), run->why))
        return false;
    run->result->settle_ns = sim_now(run->sim) - run->calm_ns;
    return true;
}

/* ---- Scrub ---- */

static bool scrubbed(void *ctx)
{
    struct run *run = ctx;
    return damage_scrubbed(run->cluster, run->scrub_from_ns, run->why);
}

/* A deep scrub of every group, from beginning to end. */
static bool scrub_all(struct run *run)
{
    uint64_t deadline = in(run, choose(run, &run->options->scenario->settle));
    run->scrub_from_ns = damage_order_scrubs(run->cluster);
    return cluster_run_until(run->cluster, scrubbed, run, deadline, run->why);
}

/* What happened during the work is repaired, or was overwritten; then more happens, in silence. */
static bool phase_scrub(struct run *run)
{
    const struct scenario *scenario = run->options->scenario;
    run->scrubs = sim_below(run->sim, 100) < choose(run, &scenario->scrub);
    if (!run->scrubs)
        return true;
    if (!scrub_all(run))
        return false;
    if (damage_count(run->cluster) > 0)
        cluster_fail(run->cluster, "scrub-repairs: %u damaged objects are left after a scrub",
                     damage_count(run->cluster));
    damage_in_silence(run->cluster);
    if (run->cluster->failed || !scrub_all(run))
        return false;
    if (!compare_copies(run->cluster, run->why) || damage_count(run->cluster) > 0)
        cluster_fail(run->cluster, "scrub-repairs: %s", run->why);
    damage_primaries(run->cluster);
    return !run->cluster->failed;
}

static bool phase_scrub_again(struct run *run)
{
    if (!run->scrubs)
        return true;
    if (damage_count(run->cluster) > 0)
        cluster_fail(run->cluster, "read-repairs: %u damaged objects are left after reading all",
                     damage_count(run->cluster));
    if (run->cluster->failed || !scrub_all(run))
        return false;
    uint32_t found = damage_found(run->cluster);
    if (found > 0)
        cluster_fail(run->cluster, "scrub-finds-nothing: it finds %u objects at the end", found);
    return !run->cluster->failed;
}

/* ---- Read and judge ---- */

/* For whoever looks for the reason. */
static void print_history(const struct history *history, uint32_t object)
{
    char line[HISTORY_LINE_BYTES];
    for (uint32_t i = 0; i < history->n; i++) {
        if (history->ops[i].object != object)
            continue;
        history_format(&history->ops[i], line, sizeof line);
        fprintf(stderr, "  %s\n", line);
    }
}

static void check_object(struct run *run, uint32_t object)
{
    const struct scenario *scenario = run->options->scenario;
    const struct history *history = workload_history(run->workload);
    const struct history_op *a, *b;
    char *why = NULL;
    enum linear_verdict verdict = LINEAR_OK;
    if (choose(run, &scenario->linear))
        verdict = linear_check(history, object, LINEAR_STEPS, &why);
    if (verdict == LINEAR_VIOLATED)
        cluster_fail(run->cluster, "the history of object %u is not linearizable", object);
    else if (verdict == LINEAR_UNDECIDED)
        run->result->undecided++;
    if (why && verdict == LINEAR_VIOLATED) {
        fprintf(stderr, "seed %" PRIu64 ", object %u: %s", run->options->seed, object, why);
        fprintf(stderr, "its whole history:\n");
        print_history(history, object);
    }
    free(why);
    if (verdict == LINEAR_OK && choose(run, &scenario->versions) &&
        !versions_check(history, object, &a, &b)) {
        char first[HISTORY_LINE_BYTES], second[HISTORY_LINE_BYTES];
        history_format(a, first, sizeof first);
        history_format(b, second, sizeof second);
        fprintf(stderr, "seed %" PRIu64 ", object %u:\n  %s\n  %s\n", run->options->seed, object,
                first, second);
        cluster_fail(run->cluster, "the version of object %u does not grow", object);
    }
}

/* Every snapshot that is alive. */
static bool read_snaps(struct run *run)
{
    uint64_t alive[SNAPS_ALIVE_MAX];
    uint16_t n = snaps_context(workload_snaps(run->workload), alive);
    for (uint16_t i = 0; i < n; i++) {
        workload_read_snap(run->workload, alive[i]);
        if (!cluster_run_until(run->cluster, quiet, run,
                               in(run, choose(run, &run->options->scenario->answer)),
                               "the last reads of snapshots are not answered"))
            return false;
    }
    return true;
}

static bool phase_read(struct run *run)
{
    const struct scenario *scenario = run->options->scenario;
    workload_read_all(run->workload);
    if (!cluster_run_until(run->cluster, quiet, run, in(run, choose(run, &scenario->answer)),
                           "the last reads are not answered"))
        return false;
    if (!read_snaps(run))
        return false;
    for (uint32_t i = 0; i < workload_n_objects(run->workload); i++)
        check_object(run, i);
    if (run->cluster->failed || !choose(run, &scenario->listings))
        return !run->cluster->failed;
    return listing_check(run->cluster, run->workload);
}

/* ---- Snapshots ---- */

static bool nothing_left(void *ctx)
{
    struct run *run = ctx;
    return snaps_nothing_left(run->cluster, run->why) && compare_copies(run->cluster, run->why);
}

/* All snapshots are removed: of clones nothing is left, on any disk. */
static bool phase_trim(struct run *run)
{
    struct snaps *snaps = workload_snaps(run->workload);
    uint64_t settle_ns = choose(run, &run->options->scenario->settle);
    if (snaps->newest == 0)
        return true;
    /* What a disk may hold while another has it no more is for the copies to agree upon. */
    return snaps_remove_all(snaps, run->cluster, in(run, settle_ns)) &&
           cluster_run_until(run->cluster, nothing_left, run, in(run, settle_ns), run->why);
}

/* ---- Stop ---- */

static bool all_down(void *ctx)
{
    const struct run *run = ctx;
    struct member *member;
    for (uint32_t i = 0; (member = cluster_member(run->cluster, i)); i++) {
        if (member->stop && member->state != MEMBER_DOWN)
            return false;
    }
    return true;
}

static bool phase_stop(struct run *run)
{
    struct member *member;
    for (uint32_t i = 0; (member = cluster_member(run->cluster, i)); i++)
        member_stop(member, UINT64_MAX);
    return cluster_run_until(run->cluster, all_down, run, in(run, STOP_NS), "daemons do not stop");
}

/* ---- All of it ---- */

static void count_unknown(struct run *run)
{
    const struct history *history = workload_history(run->workload);
    for (uint32_t i = 0; i < history->n; i++)
        run->result->unknown += history->ops[i].returned == HISTORY_NEVER;
}

static void fill_result(struct run *run)
{
    struct run_result *result = run->result;
    result->failed = run->cluster->failed;
    result->hash = sim_hash(run->sim);
    result->events = sim_events(run->sim);
    result->virtual_ns = sim_now(run->sim);
    snprintf(result->why, sizeof result->why, "%s", run->cluster->why);
    for (uint64_t epoch = 0; epoch < CLUSTER_EPOCHS_MAX; epoch++) {
        if (run->cluster->map_hashes[epoch])
            result->epoch = epoch;
    }
    if (run->faults)
        result->faults = faults_count(run->faults);
    if (run->workload) {
        result->operations = workload_n_answered(run->workload);
        result->operations += run->watchers ? watchers_count(run->watchers) : 0;
        result->operations += run->fenced ? fenced_count(run->fenced) : 0;
        result->operations += run->images ? images_count(run->images) : 0;
        result->operations += run->files ? files_count(run->files) : 0;
        result->longest_ns = workload_longest(run->workload);
        count_unknown(run);
    }
}

void run_seed(const struct run_options *options, struct run_result *result)
{
    struct run run = {.options = options, .result = result};
    memset(result, 0, sizeof *result);
    if (phase_start(&run) && phase_work(&run) && phase_settle(&run) && phase_scrub(&run) &&
        phase_read(&run) && phase_scrub_again(&run) && phase_trim(&run))
        (void)phase_stop(&run);
    fill_result(&run);
    if (result->failed)
        sim_log_dump(run.sim);
    if (run.faults)
        faults_destroy(run.faults);
    if (run.workload)
        workload_destroy(run.workload);
    if (run.lister)
        lister_destroy(run.lister);
    if (run.watchers)
        watchers_destroy(run.watchers);
    if (run.fenced)
        fenced_destroy(run.fenced);
    if (run.images)
        images_destroy(run.images);
    if (run.files)
        files_destroy(run.files);
    oracle_destroy(run.oracle);
    cluster_destroy(run.cluster);
    sim_destroy(run.sim);
}
