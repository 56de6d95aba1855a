#include "tests/sim/files_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/fs/lease.h"
#include "common/witness.h"
#include "tests/sim/client_loop.h"

#define POOL "pool0"
#define NAME "home"

enum { FILE_ORDER = 12, FILE_FORGET_AT = 200, DROP_SLOW_EACH = 4 };

#define TOLD_BEFORE_NS     (SEC_NS / 2) /* Before a lease is given back: it may wait for an OSD. */
#define GIVEN_UP_BEFORE_NS SEC_NS       /* Before a lease is over. */

void files_fail(struct files *files, const char *format, ...)
{
    char text[CLUSTER_WHY_MAX - 64];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    cluster_fail(files->cluster, "fs: %s", text);
}

/* ---- What is durable, as a process knows it ---- */

static bool shard_is_clean(struct limpet_fs *fs, uint64_t home)
{
    const struct fs_lease *lease = lease_find(fs, home);
    return lease == NULL || (lease->batches == 0 && lease->failed == 0);
}

static bool contents_are_there(struct limpet_fs *fs, uint64_t ino)
{
    const struct fs_file *file = file_find(fs, ino, false);
    return file == NULL || (TAILQ_EMPTY(&file->writes) && !file->ahead && file->error == 0);
}

static const struct file_client *client_of(const struct files *files, uint64_t process)
{
    for (uint32_t i = 1; i <= files->cluster->options.n_clients; i++) {
        if (files->clients[i].fs && files->clients[i].process == process)
            return &files->clients[i];
    }
    return NULL;
}

/* As its owner's clock has it; 0: it has none. */
static uint64_t lease_until(const struct file_client *client, uint64_t home)
{
    const struct fs_lease *lease = lease_find(client->fs, home);
    while (lease != NULL && lease->born)
        lease = lease_find(client->fs, lease->cover);
    if (lease == NULL || lease->watch == NULL)
        return 0;
    uint64_t own = client_loop_lease_until(lease->watch);
    uint64_t all = client_loop_lease_until(client->fs->watch);
    return own < all ? own : all;
}

/* Its owner may have given up the contents of files that nobody has open, and forgotten them. */
static bool may_have_given_up(const struct file_client *client, uint64_t home)
{
    uint64_t until = lease_until(client, home);
    return until != 0 &&
           until <= env_clock(sim_process(client->client->member.node)) + GIVEN_UP_BEFORE_NS;
}

static bool is_durable(void *ctx, const struct file_change *change)
{
    const struct files *files = ctx;
    const struct file_client *client = client_of(files, change->process);
    uint64_t ino = files->model.nodes[change->node].ino;
    return client != NULL && shard_is_clean(client->fs, change->home) &&
           (!change->data ||
            (contents_are_there(client->fs, ino) && !may_have_given_up(client, change->home)));
}

bool files_may_lose(void *ctx, const struct file_change *change)
{
    return !change->settled && client_of(ctx, change->process) != NULL && !is_durable(ctx, change);
}

void files_forget(struct files *files)
{
    if (files->model.n_changes >= FILE_FORGET_AT)
        file_model_forget(&files->model, is_durable, files);
}

/* The model is to be judged, and operations that are under way do not tell what is wrong. */
static void note_loss(struct files *files)
{
    struct file_op *op;
    TAILQ_FOREACH(op, &files->ops, link)
    {
        op->overlaps = true;
    }
    files->unsure = true;
    files->n_losses++;
}

void files_lose(struct file_client *client, uint64_t home)
{
    struct files *files = client->files;
    struct file_model *model = &files->model;
    file_model_forget(model, is_durable, files);
    for (uint32_t i = 0; i < model->n_changes; i++) {
        struct file_change *change = &model->changes[i];
        if (change->process == client->process && (home == UINT64_MAX || change->home == home))
            change->unsure = !change->settled;
    }
    file_locks_lose(client, home);
    note_loss(files);
}

static bool lease_is_over(const struct file_client *client, uint64_t home)
{
    return lease_find(client->fs, home) != NULL &&
           lease_until(client, home) <= env_clock(sim_process(client->client->member.node));
}

bool files_may_have_lost(const struct file_client *client, uint64_t home)
{
    const struct fs_lease *lease = client->fs != NULL ? lease_find(client->fs, home) : NULL;
    return client->fs == NULL || (lease != NULL && lease->failed != 0) ||
           lease_is_over(client, home);
}

bool files_is_losing(const struct file_client *client, uint64_t home)
{
    const struct fs_lease *lease = lease_find(client->fs, home);
    return lease != NULL && lease->shard != NULL &&
           (lease->failed != 0 || (lease->batches > 0 && lease_is_over(client, home)));
}

bool files_is_clean(const struct file_client *client, uint64_t home)
{
    return shard_is_clean(client->fs, home);
}

/* It will be told by fsync, and can be seen before. */
void files_notice(struct files *files)
{
    for (uint32_t i = 0; i < files->model.n_changes; i++) {
        struct file_change *change = &files->model.changes[i];
        const struct file_client *client = client_of(files, change->process);
        if (change->unsure || change->settled || client == NULL)
            continue;
        const struct fs_file *file =
            change->data ? file_find(client->fs, files->model.nodes[change->node].ino, false)
                         : NULL;
        const struct fs_lease *lease = lease_find(client->fs, change->home);
        if ((file == NULL || file->error == 0) && (lease == NULL || lease->failed == 0))
            continue;
        change->unsure = true;
        files_lose(&files->clients[client->number], UINT64_MAX);
        i = 0;
    }
}

bool files_look_for_lost(struct files *files, const struct file_client *except)
{
    bool found = false;
    for (uint32_t i = 0; i < files->model.n_changes; i++) {
        struct file_change *change = &files->model.changes[i];
        const struct file_client *client = client_of(files, change->process);
        if (change->unsure || change->settled || client == NULL || client == except ||
            is_durable(files, change) || !lease_is_over(client, change->home))
            continue;
        files_lose(&files->clients[client->number], change->home);
        found = true;
        i = 0;
    }
    return found;
}

/* struct witness has no room for a pointer to this. */
static struct files *looking;

/* Whoever has it open will be told; what is there then is seen before. */
static void look_at_file(struct witness *w, const void *fs, uint64_t ino)
{
    struct files *files = looking;
    const struct file_client *client = NULL;
    (void)w;
    for (uint32_t i = 1; i <= files->cluster->options.n_clients; i++) {
        if (files->clients[i].fs == fs)
            client = &files->clients[i];
    }
    for (uint32_t i = 0; client && i < files->model.n_changes; i++) {
        struct file_change *change = &files->model.changes[i];
        if (change->process == client->process && change->data &&
            files->model.nodes[change->node].ino == ino)
            change->unsure = !change->settled;
    }
    note_loss(files);
}

/* ---- What the library tells ---- */

/*
 * The kernel drops what it caches at once, unless a page is locked by a request that is under way:
 * then whoever tells it waits for that.
 */
static void on_drop(void *arg, const uint64_t *inos, size_t n)
{
    struct file_client *client = arg;
    struct files *files = client->files;
    (void)inos, (void)n;
    client->drop_ns = files_now(files);
    if (files->drop_ns > 0 && files_below(files, DROP_SLOW_EACH) == 0)
        fiber_sleep(1 + files_below(files, files->drop_ns));
}

static void on_lost(void *arg)
{
    struct file_client *client = arg;
    if (!client->lost)
        sim_log(client->files->cluster->sim, sim_node_name(client->client->member.node), "is lost");
    client->lost = true;
    sim_timer_arm(client->files->cluster->sim, &client->again, files_now(client->files));
}

static void on_failed(void *arg, uint64_t dir, int error)
{
    struct file_client *client = arg;
    sim_log(client->files->cluster->sim, sim_node_name(client->client->member.node),
            "has lost changes below %" PRIu64 ": %d", dir, error);
    /* A request may have been told just before the lease is given back, which begins by a drop. */
    if (client->untold_ns == 0 &&
        (client->told_ns == 0 || client->told_ns + TOLD_BEFORE_NS < client->drop_ns))
        client->untold_ns = files_now(client->files);
    /* What it had made in there may hang on names of others. */
    files_lose(client, UINT64_MAX);
}

static const struct limpet_fs_cache_calls cache_calls = {
    .drop = on_drop, .lost = on_lost, .failed = on_failed};

/* ---- Processes ---- */

static bool ops_are_over(const struct files *files)
{
    return TAILQ_EMPTY(&files->ops);
}

static void judge(struct file_client *client)
{
    struct files *files = client->files;
    files->walker = client;
    bool judged = files_walk(client);
    files->walker = NULL;
    if (judged)
        files->unsure = false;
}

static void *worker_main(void *arg)
{
    struct file_client *client = arg;
    struct files *files = client->files;
    uint64_t owner = ++files->owners;
    while (!files->stopping) {
        fiber_sleep(1 + files_below(files, 2 * files->think_ns));
        if (!files->started || files->stopping)
            continue;
        if (files->lock_weight > 0 &&
            files_below(files, files->mix_sum + files->lock_weight) < files->lock_weight)
            file_locks_turn(client, owner);
        else if (!files->unsure)
            file_op_run(client);
        else if (ops_are_over(files) && files->walker == NULL)
            judge(client);
    }
    file_locks_end(client, owner);
    client->workers--;
    fiber_wake(&client->workers, true);
    return NULL;
}

static int connect_cluster(struct file_client *client)
{
    struct client_options options;
    cluster_client_options(client->client, &options);
    options.max_bytes_in_flight = UINT64_C(64) << 20;
    options.max_ops_in_flight = 512;
    int rc = client_loop_connect(&options, &client->cluster);
    while (rc == 0 && !client->files->started)
        fiber_sleep(100 * MSEC_NS);
    return rc == 0 ? limpet_pool_open(client->cluster, POOL, &client->pool) : rc;
}

/* keeps: under leases, as a mount does. */
static int open_files(struct file_client *client, bool keeps)
{
    struct limpet_fs *fs;
    int rc = limpet_fs_create(client->pool, NAME, 0, FILE_ORDER, 0);
    if (rc != 0 && rc != -EEXIST)
        return rc;
    rc = limpet_fs_open(client->pool, NAME, &fs);
    if (rc != 0)
        return rc;
    if (keeps)
        limpet_fs_cache(fs, &cache_calls, client);
    client->process = ++client->files->processes;
    client->fs = fs;
    return 0;
}

static void close_files(struct file_client *client)
{
    struct limpet_fs *fs = client->fs;
    limpet_fs_close(fs);
    client->fs = NULL;
}

static bool look(struct file_client *client)
{
    int rc = open_files(client, false);
    if (rc != 0) {
        files_fail(client->files, "it cannot be opened at the end: %d", rc);
        return false;
    }
    bool judged = files_walk(client);
    if (judged)
        files_check(client);
    close_files(client);
    return judged;
}

/* The first client looks at what is left, when the others have ended. */
static void finish(struct file_client *client)
{
    struct files *files = client->files;
    while (client->number == 1 && !files->finished) {
        fiber_sleep(100 * MSEC_NS);
        if (!files->finishing)
            continue;
        if (!files->calm)
            files->calm = look(client);
        else
            files->finished = look(client);
    }
}

static void *client_main(void *arg)
{
    struct file_client *client = arg;
    struct files *files = client->files;
    int rc = connect_cluster(client);
    if (rc == 0)
        rc = open_files(client, true);
    if (rc == -ESHUTDOWN || client->lost)
        on_lost(client);
    else if (rc != 0)
        files_fail(files, "a client does not open it: %d", rc);
    if (rc != 0)
        return NULL;
    client->workers = files->n_workers;
    for (uint32_t i = 0; i < files->n_workers; i++)
        (void)fiber_start(client->fibers, worker_main, client);
    while (client->workers > 0)
        fiber_wait(&client->workers);
    /* What a living client has given back is not in anybody's way: its end would hide that. */
    while (file_locks_wait(client->files))
        fiber_sleep(100 * MSEC_NS);
    close_files(client);
    finish(client);
    return NULL;
}

static void client_start(struct member *member)
{
    struct cluster_client *c = container_of(member, struct cluster_client, member);
    struct file_client *client = c->images_user;
    c->incarnation++;
    client->lost = false;
    client->untold_ns = client->told_ns = 0;
    client->fibers = fibers_create(member->cluster->sim, member->node);
    c->fibers = client->fibers;
    (void)fiber_start(client->fibers, client_main, client);
}

static void client_abandon(struct member *member)
{
    struct cluster_client *c = container_of(member, struct cluster_client, member);
    struct file_client *client = c->images_user;
    struct files *files = client->files;
    struct file_op *op, *next;
    sim_timer_stop(member->cluster->sim, &client->again);
    /* While it can be asked what is durable. */
    if (client->fs)
        files_lose(client, UINT64_MAX);
    file_locks_died(client);
    if (client->cluster)
        client_loop_abandon(client->cluster);
    fibers_destroy(client->fibers);
    client->fibers = c->fibers = NULL;
    for (op = TAILQ_FIRST(&files->ops); op; op = next) {
        next = TAILQ_NEXT(op, link);
        if (op->client == client)
            file_op_lost(op);
    }
    for (uint32_t i = FILE_ROOT; i < FILE_NODES_MAX; i++) {
        files->model.nodes[i].opens[client->number] = 0;
        if (i != FILE_ROOT)
            files->model.nodes[i].known &= ~(UINT64_C(1) << client->number);
    }
    if (files->walker == client)
        files->walker = NULL;
    client->cluster = NULL;
    client->pool = NULL;
    client->fs = NULL;
    client->workers = 0;
}

static const struct cluster_map *client_map_of(struct member *member)
{
    struct cluster_client *c = container_of(member, struct cluster_client, member);
    const struct file_client *client = c->images_user;
    return client->cluster ? client_loop_map(client->cluster) : NULL;
}

static void again_fire(struct env_timer *timer)
{
    struct file_client *client = container_of(timer, struct file_client, again);
    member_end(&client->client->member, SIM_EXIT, files_now(client->files) + SEC_NS / 10);
}

/* ---- All of them ---- */

static uint64_t choose(struct files *files, const struct scenario_value *value)
{
    return scenario_choose(value, files->cluster->sim);
}

static void set_mix(struct files *files)
{
    const struct scenario_files *plan = &files->scenario->files;
    const struct scenario_value *mix[FILE_OPS_END] = {
        [FILE_OP_LOOKUP] = &plan->lookup,       [FILE_OP_GETATTR] = &plan->getattr,
        [FILE_OP_CREATE] = &plan->create,       [FILE_OP_MKDIR] = &plan->mkdir,
        [FILE_OP_SYMLINK] = &plan->symlink,     [FILE_OP_UNLINK] = &plan->unlink,
        [FILE_OP_RMDIR] = &plan->rmdir,         [FILE_OP_RENAME] = &plan->rename,
        [FILE_OP_LINK] = &plan->link,           [FILE_OP_LIST] = &plan->list,
        [FILE_OP_SETATTR] = &plan->setattr,     [FILE_OP_TRUNCATE] = &plan->truncate,
        [FILE_OP_OPEN] = &plan->open,           [FILE_OP_RELEASE] = &plan->release,
        [FILE_OP_READ] = &plan->read,           [FILE_OP_WRITE] = &plan->write,
        [FILE_OP_SYNC] = &plan->sync,           [FILE_OP_SYNC_ALL] = &plan->sync_all,
        [FILE_OP_XATTR_GET] = &plan->xattr_get, [FILE_OP_XATTR_SET] = &plan->xattr_set,
        [FILE_OP_RACE] = &plan->race,
    };
    for (int i = 0; i < FILE_OPS_END; i++) {
        files->mix[i] = (uint32_t)choose(files, mix[i]);
        files->mix_sum += files->mix[i];
    }
}

struct files *files_create(struct cluster *cluster, const struct scenario *scenario)
{
    if (scenario_most(&scenario->files.workers) == 0)
        return NULL;
    struct files *files = calloc(1, sizeof *files);
    if (!files)
        abort();
    files->cluster = cluster;
    files->scenario = scenario;
    TAILQ_INIT(&files->ops);
    looking = files;
    witness->file = look_at_file;
    files->n_workers = (uint32_t)choose(files, &scenario->files.workers);
    files->think_ns = choose(files, &scenario->files.think);
    files->drop_ns = scenario_most(&scenario->files.drop);
    set_mix(files);
    files->lock_weight = (uint32_t)choose(files, &scenario->files.lock);
    file_locks_create(files);
    file_model_init(&files->model, LIMPET_FS_ROOT);
    for (uint32_t i = 1; i <= cluster->options.n_clients; i++) {
        struct file_client *client = &files->clients[i];
        client->files = files;
        client->number = i;
        client->client = &cluster->clients[i];
        client->again.fire = again_fire;
        client->client->images_user = client;
        client->client->member.start = client_start;
        client->client->member.abandon = client_abandon;
        client->client->member.map = client_map_of;
    }
    return files;
}

void files_start(struct files *files)
{
    files->started = true;
}

static bool all_stopped(void *ctx)
{
    const struct files *files = ctx;
    for (uint32_t i = 1; i <= files->cluster->options.n_clients; i++) {
        if (!files->clients[i].pool || files->clients[i].workers > 0 || files->clients[i].fs)
            return false;
    }
    return true;
}

static bool is_finished(void *ctx)
{
    return ((struct files *)ctx)->finished;
}

bool files_finish(struct files *files, uint64_t ns)
{
    struct cluster *cluster = files->cluster;
    files->stopping = true;
    if (!cluster_run_until(cluster, all_stopped, files, files_now(files) + ns,
                           "operations of files do not end"))
        return false;
    files->finishing = true;
    return cluster_run_until(cluster, is_finished, files, files_now(files) + ns,
                             "the file system is not checked");
}

void files_destroy(struct files *files)
{
    for (uint32_t i = 1; i <= files->cluster->options.n_clients; i++) {
        member_end(&files->clients[i].client->member, SIM_CRASH, UINT64_MAX);
        files->clients[i].client->images_user = NULL;
    }
    looking = NULL;
    if (witness)
        witness->file = NULL;
    file_locks_destroy(files);
    free(files);
}

uint32_t files_count(const struct files *files)
{
    return files->n_done;
}
