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

#include "client/cli/fs.h"

enum { AGAIN_MS = 500 };

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
    bool lost, ending;
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
static void wait_again(struct fs_recovery *recovery)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += AGAIN_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (!recovery->ending &&
           pthread_cond_timedwait(&recovery->changed, &recovery->lock, &until) != ETIMEDOUT)
        continue;
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
            wait_again(recovery);
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

void fs_recovery_end(struct fs_recovery *recovery)
{
    pthread_mutex_lock(&recovery->lock);
    recovery->ending = true;
    pthread_cond_broadcast(&recovery->changed);
    pthread_mutex_unlock(&recovery->lock);
    pthread_join(recovery->thread, NULL);
    limpet_fs_close(recovery->fs);
    limpet_pool_close(recovery->pool);
    if (recovery->cluster != recovery->cli->cluster)
        limpet_cluster_destroy(recovery->cluster);
    free(recovery);
}
