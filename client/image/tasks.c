#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "client/image/image.h"

struct task {
    struct limpet_image *image;
    void (*run)(void *arg);
    void *arg;
};

static void *task_main(void *arg)
{
    struct task task = *(struct task *)arg;
    free(arg);
    task.run(task.arg);
    if (task.image != NULL) {
        pthread_mutex_lock(&task.image->lock);
        task.image->tasks--;
        pthread_cond_broadcast(&task.image->changed);
        pthread_mutex_unlock(&task.image->lock);
    }
    return NULL;
}

int task_run(struct limpet_image *image, void (*run)(void *arg), void *arg)
{
    struct task *task = malloc(sizeof *task);
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, before;
    if (task == NULL)
        return -ENOMEM;
    *task = (struct task){.image = image, .run = run, .arg = arg};
    if (image != NULL)
        image->tasks++;
    int error = pthread_attr_init(&attr);
    if (error == 0) {
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        /* Signals are the program's business. */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        error = pthread_create(&thread, &attr, task_main, task);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&attr);
    }
    if (error != 0) {
        if (image != NULL)
            image->tasks--;
        free(task);
    }
    return -error;
}
