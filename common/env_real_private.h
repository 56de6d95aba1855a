/* Inside the real world: what its files share. */
#ifndef LIMPET_COMMON_ENV_REAL_PRIVATE_H
#define LIMPET_COMMON_ENV_REAL_PRIVATE_H

#include <stdatomic.h>

#include "common/env_real.h"
#include "common/messenger.h"
#include "common/timer_heap.h"

STAILQ_HEAD(env_task_list, env_task);

struct real_work;

struct real_env {
    struct env env; /* First. */
    uv_loop_t loop;
    uv_prepare_t prepare; /* Before the loop waits: ends what ran outside of it, or by timers. */
    uv_check_t check;     /* After it has polled: ends the turn. */
    uv_idle_t idle;       /* Active while there is more to do at once: the loop does not wait. */
    uv_timer_t timer;     /* For the earliest of the heap. */
    uv_async_t wake;
    atomic_bool stopping;
    struct timer_heap timers;
    uint64_t timer_ms; /* When `timer` fires, while it is active. */
    struct env_task_list tasks;
    struct real_work *spare_works;
    struct messenger *messenger;
    int dir_fd;            /* Relative names start here. */
    uint64_t now_ns;       /* Of this turn; 0 until somebody asks. */
    bool in_loop;          /* Within uv_run(): now_ns may be kept. */
    bool single;           /* env_real_turn(), which must not wait once something has happened. */
    bool destroying;       /* No callback to the user any more. */
    uint64_t callbacks;    /* Timers, tasks and works so far. */
    uint64_t calls_before; /* Calls of the user when env_real_turn() began. */
};

static inline struct real_env *real_env(struct env *env)
{
    return (struct real_env *)env;
}

/* env_real_file.c: members of struct env_ops. */
int real_file_open(struct env *env, const char *path, int flags, struct env_file **out);
void real_file_close(struct env *env, struct env_file *file);
ssize_t real_file_read(struct env *env, struct env_file *file, void *data, size_t len,
                       uint64_t offset);
int real_file_write(struct env *env, struct env_file *file, const void *data, size_t len,
                    uint64_t offset);
int real_file_truncate(struct env *env, struct env_file *file, uint64_t size);
int real_file_sync(struct env *env, struct env_file *file);
int64_t real_file_size(struct env *env, struct env_file *file);
int real_file_rename(struct env *env, const char *from, const char *to);
int real_file_remove(struct env *env, const char *path);
int real_dir_sync(struct env *env, const char *path);

#endif
