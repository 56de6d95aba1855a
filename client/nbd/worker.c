#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "client/nbd/server_private.h"

int workers_init(struct nbd_workers *w)
{
    STAILQ_INIT(&w->jobs);
    STAILQ_INIT(&w->ended);
    int error = pthread_mutex_init(&w->lock, NULL);
    if (error != 0)
        return -error;
    error = pthread_cond_init(&w->more, NULL);
    if (error != 0)
        pthread_mutex_destroy(&w->lock);
    return -error;
}

static void *work(void *arg)
{
    struct nbd_server *server = arg;
    struct nbd_workers *w = &server->workers;
    struct nbd_job *job;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        w->idle++;
        while (!w->stopping && STAILQ_EMPTY(&w->jobs))
            pthread_cond_wait(&w->more, &w->lock);
        w->idle--;
        if ((job = STAILQ_FIRST(&w->jobs)) == NULL)
            break;
        STAILQ_REMOVE_HEAD(&w->jobs, link);
        w->queued--;
        pthread_mutex_unlock(&w->lock);
        job->run(job);
        pthread_mutex_lock(&w->lock);
        STAILQ_INSERT_TAIL(&w->ended, job, link);
        server_wake(server);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* With the lock: a thread more, if all are busy. */
static int make_thread(struct nbd_server *server)
{
    struct nbd_workers *w = &server->workers;
    if (w->idle > w->queued || w->n == WORKERS)
        return 0;
    int error = pthread_create(&w->threads[w->n], NULL, work, server);
    if (error != 0)
        return w->n > 0 ? 0 : -EAGAIN;
    pthread_setname_np(w->threads[w->n], "limpet-nbd");
    w->n++;
    return 0;
}

int workers_run(struct nbd_server *server, struct nbd_job *job)
{
    struct nbd_workers *w = &server->workers;
    pthread_mutex_lock(&w->lock);
    int rc = make_thread(server);
    if (rc == 0) {
        STAILQ_INSERT_TAIL(&w->jobs, job, link);
        w->queued++;
        w->under_way++;
        pthread_cond_signal(&w->more);
    }
    pthread_mutex_unlock(&w->lock);
    return rc;
}

void workers_gather(struct nbd_server *server)
{
    struct nbd_workers *w = &server->workers;
    struct nbd_job_list list = STAILQ_HEAD_INITIALIZER(list);
    struct nbd_job *job;
    if (w->under_way == 0)
        return;
    pthread_mutex_lock(&w->lock);
    STAILQ_CONCAT(&list, &w->ended);
    pthread_mutex_unlock(&w->lock);
    while ((job = STAILQ_FIRST(&list)) != NULL) {
        STAILQ_REMOVE_HEAD(&list, link);
        assert(w->under_way > 0);
        w->under_way--;
        job->ended(job);
    }
}

void workers_fini(struct nbd_workers *w)
{
    assert(w->under_way == 0);
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    pthread_cond_broadcast(&w->more);
    pthread_mutex_unlock(&w->lock);
    for (unsigned i = 0; i < w->n; i++)
        pthread_join(w->threads[i], NULL);
    pthread_cond_destroy(&w->more);
    pthread_mutex_destroy(&w->lock);
}
