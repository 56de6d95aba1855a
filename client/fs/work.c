/* The threads for what takes several steps: each request is one thread's until it has ended. */
#include <errno.h>
#include <stdlib.h>

#include "client/fs/fs.h"

/*
 * Requests that are to be made anew, and for nothing else: all workers may wait for one of them. It
 * ends last: what the others write back at their end may be refused.
 */
static void *ask_anew(void *arg)
{
    struct limpet_fs *fs = arg;
    struct fs_ask *ask;
    pthread_mutex_lock(&fs->lock);
    while ((ask = STAILQ_FIRST(&fs->refused)) != NULL || !fs->ended) {
        if (ask == NULL) {
            pthread_cond_wait(&fs->changed, &fs->lock);
            continue;
        }
        STAILQ_REMOVE_HEAD(&fs->refused, link);
        pthread_mutex_unlock(&fs->lock);
        ask_again(ask);
        pthread_mutex_lock(&fs->lock);
    }
    pthread_mutex_unlock(&fs->lock);
    return NULL;
}

static void *work(void *arg)
{
    struct limpet_fs *fs = arg;
    pthread_mutex_lock(&fs->lock);
    for (;;) {
        struct fs_call *call = STAILQ_FIRST(&fs->work);
        struct fs_ask *ask = STAILQ_FIRST(&fs->refused);
        if (ask != NULL) {
            STAILQ_REMOVE_HEAD(&fs->refused, link);
            pthread_mutex_unlock(&fs->lock);
            ask_again(ask);
            pthread_mutex_lock(&fs->lock);
        } else if (call != NULL) {
            STAILQ_REMOVE_HEAD(&fs->work, link);
            pthread_mutex_unlock(&fs->lock);
            name_work(call);
            pthread_mutex_lock(&fs->lock);
        } else if (fs->stopping) {
            break;
        } else {
            pthread_cond_wait(&fs->changed, &fs->lock);
        }
    }
    pthread_mutex_unlock(&fs->lock);
    return NULL;
}

int work_start(struct limpet_fs *fs)
{
    static void *(*const others[])(void *) = {orphan_thread,     lease_keeper,  lease_asker,
                                              write_back_thread, behind_thread, behind_guard,
                                              parts_thread,      ask_anew};
    for (unsigned i = 0; i < FS_THREADS; i++) {
        int error = pthread_create(&fs->workers[i], NULL,
                                   i < FS_WORKERS ? work : others[i - FS_WORKERS], fs);
        if (error != 0)
            return -error;
        fs->n_workers++;
    }
    return 0;
}

void work_stop(struct limpet_fs *fs)
{
    pthread_mutex_lock(&fs->lock);
    fs->stopping = true;
    pthread_cond_broadcast(&fs->changed);
    pthread_cond_broadcast(&fs->lease_changed);
    pthread_cond_broadcast(&fs->written);
    pthread_cond_broadcast(&fs->orphaned);
    pthread_cond_broadcast(&fs->behind_wanted);
    pthread_cond_broadcast(&fs->behind_begun);
    pthread_cond_broadcast(&fs->grew);
    pthread_mutex_unlock(&fs->lock);
    for (unsigned i = 0; i < fs->n_workers && i < FS_THREADS - 1; i++)
        pthread_join(fs->workers[i], NULL);
    pthread_mutex_lock(&fs->lock);
    fs->ended = true;
    pthread_cond_broadcast(&fs->changed);
    pthread_mutex_unlock(&fs->lock);
    if (fs->n_workers == FS_THREADS)
        pthread_join(fs->workers[FS_THREADS - 1], NULL);
}
