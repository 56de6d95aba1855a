/*
 * limpet fs mount: a mount whose client the cluster has given up, since nothing was heard of it for
 * too long. Its locks are others', what it was about to do is taken back or completed by others,
 * and it may be blocked at the OSDs for that. So the mount goes on as another client: what is open
 * stays open.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/fs.h"
#include "client/fs/cond.h"

enum {
    AGAIN_MS = 500,
    ANSWER_MS = 2000,
    SILENCE_MS = 20000, /* Longer than any lease: others have done without this client since. */
};

struct fs_recovery {
    const struct cli *cli;
    struct fs_spec spec;
    uint64_t memory;
    struct limpet_fs *fs;
    struct limpet_pool *pool;
    struct limpet_cluster *cluster;
    pthread_t thread;
    pthread_mutex_t lock; /* Of what follows. */
    pthread_cond_t changed;
    bool lost, ending, closed;
};

/* Another client; its cluster is in *cli. */
static int open_again(struct fs_recovery *recovery, struct cli *cli, struct limpet_pool **pool,
                      struct limpet_fs **fs)
{
    *pool = NULL;
    *fs = NULL;
    int rc = cli_try_connect(cli);
    if (rc == 0)
        rc = limpet_pool_open(cli->cluster, recovery->spec.pool, pool);
    if (rc == 0)
        rc = limpet_fs_open(*pool, recovery->spec.name, fs);
    return rc == 0 ? limpet_fs_memory(*fs, recovery->memory) : rc;
}

/* Of the old one, what is under way ends. */
static void change_over(struct fs_recovery *recovery, struct cli *cli, struct limpet_pool *pool,
                        struct limpet_fs *fs)
{
    struct limpet_fs *old = recovery->fs;
    struct limpet_pool *old_pool = recovery->pool;
    struct limpet_cluster *old_cluster = recovery->cluster;
    recovery->fs = fs;
    recovery->pool = pool;
    recovery->cluster = cli->cluster;
    limpet_fs_close(old);
    limpet_pool_close(old_pool);
    if (old_cluster != recovery->cli->cluster)
        limpet_cluster_destroy(old_cluster);
}

static int recover(struct fs_recovery *recovery)
{
    struct cli cli = *recovery->cli;
    struct limpet_pool *pool = NULL;
    struct limpet_fs *fs = NULL;
    cli.cluster = NULL;
    int rc = open_again(recovery, &cli, &pool, &fs);
    if (rc == 0)
        rc = fs_fuse_switch(fs);
    if (rc == 0) {
        change_over(recovery, &cli, pool, fs);
        return 0;
    }
    limpet_fs_close(fs);
    limpet_pool_close(pool);
    cli_disconnect(&cli);
    return rc;
}

/* With the lock. */
static void wait_a_while(struct fs_recovery *recovery)
{
    (void)cond_wait_until(&recovery->changed, &recovery->lock,
                          cond_now_ns() + AGAIN_MS * UINT64_C(1000000));
}

static void *watch_over(void *arg)
{
    struct fs_recovery *recovery = arg;
    pthread_mutex_lock(&recovery->lock);
    while (!recovery->ending) {
        if (!recovery->lost) {
            pthread_cond_wait(&recovery->changed, &recovery->lock);
            continue;
        }
        recovery->lost = false;
        pthread_mutex_unlock(&recovery->lock);
        int rc = recover(recovery);
        pthread_mutex_lock(&recovery->lock);
        /* A file system that is not there any more has nothing to go on with. */
        if (rc != 0 && rc != -ENOENT) {
            recovery->lost = true;
            wait_a_while(recovery);
        }
    }
    pthread_mutex_unlock(&recovery->lock);
    return NULL;
}

struct fs_recovery *fs_recovery_begin(struct cli *cli, const struct fs_spec *spec, uint64_t memory,
                                      struct limpet_fs *fs, struct limpet_pool *pool)
{
    struct fs_recovery *recovery = calloc(1, sizeof *recovery);
    if (recovery == NULL)
        return NULL;
    *recovery = (struct fs_recovery){.cli = cli,
                                     .spec = *spec,
                                     .memory = memory,
                                     .fs = fs,
                                     .pool = pool,
                                     .cluster = cli->cluster,
                                     .lock = PTHREAD_MUTEX_INITIALIZER,
                                     .changed = PTHREAD_COND_INITIALIZER};
    if (pthread_create(&recovery->thread, NULL, watch_over, recovery) != 0) {
        free(recovery);
        return NULL;
    }
    return recovery;
}

void fs_recovery_needed(struct fs_recovery *recovery)
{
    pthread_mutex_lock(&recovery->lock);
    recovery->lost = true;
    pthread_cond_broadcast(&recovery->changed);
    pthread_mutex_unlock(&recovery->lock);
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static bool cluster_answers(struct limpet_cluster *cluster)
{
    char *output = NULL, *status = NULL;
    size_t len = 0;
    int rc = limpet_command(cluster, "{\"prefix\": \"status\"}", NULL, 0, ANSWER_MS, &output, &len,
                            &status);
    limpet_free(output);
    limpet_free(status);
    return rc == 0;
}

/* While all ends that is under way: not for ever when there is no cluster any more. */
static void *see_to_the_end(void *arg)
{
    struct fs_recovery *recovery = arg;
    uint64_t heard = now_ms();
    pthread_mutex_lock(&recovery->lock);
    while (!recovery->closed) {
        pthread_mutex_unlock(&recovery->lock);
        if (cluster_answers(recovery->cli->cluster))
            heard = now_ms();
        if (now_ms() - heard > SILENCE_MS) {
            complain(ETIMEDOUT, "mount: the cluster does not answer; unmounted without it");
            _exit(EIO);
        }
        pthread_mutex_lock(&recovery->lock);
        if (!recovery->closed)
            wait_a_while(recovery);
    }
    pthread_mutex_unlock(&recovery->lock);
    return NULL;
}

static void set(struct fs_recovery *recovery, bool *what)
{
    pthread_mutex_lock(&recovery->lock);
    *what = true;
    pthread_cond_broadcast(&recovery->changed);
    pthread_mutex_unlock(&recovery->lock);
}

/* What is lost from now on, nobody else is told of: all that can be told was asked for. */
static int make_durable(struct limpet_fs *fs)
{
    const struct limpet_fs_request rq = {.verb = LIMPET_FS_SYNC};
    struct limpet_fs_result *result = NULL;
    uint64_t losses = limpet_fs_losses(fs);
    int rc = (int)limpet_fs_do(fs, &rq, &result);
    limpet_fs_result_destroy(result);
    if (limpet_fs_losses(fs) == losses)
        return 0;
    return rc != 0 ? rc : -EIO;
}

int fs_recovery_end(struct fs_recovery *recovery)
{
    pthread_t thread;
    bool seen_to = pthread_create(&thread, NULL, see_to_the_end, recovery) == 0;
    set(recovery, &recovery->ending);
    pthread_join(recovery->thread, NULL);
    int rc = make_durable(recovery->fs);
    limpet_fs_close(recovery->fs);
    limpet_pool_close(recovery->pool);
    if (recovery->cluster != recovery->cli->cluster)
        limpet_cluster_destroy(recovery->cluster);
    set(recovery, &recovery->closed);
    if (seen_to)
        pthread_join(thread, NULL);
    free(recovery);
    return rc;
}
