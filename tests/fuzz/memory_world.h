/*
 * A world in memory for fuzz targets: files, deferred tasks that run when told, a network that
 * takes everything and delivers nothing. Time stands still. Deterministic.
 */
#ifndef LIMPET_TESTS_FUZZ_MEMORY_WORLD_H
#define LIMPET_TESTS_FUZZ_MEMORY_WORLD_H

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "common/env.h"

enum { MEMORY_FILES = 8 };

struct env_file {
    char name[64]; /* Empty: this slot is free. */
    uint8_t *data;
    size_t size;
};

struct memory_world {
    struct env env;
    struct env_file files[MEMORY_FILES];
    STAILQ_HEAD(, env_task) tasks;
    const struct net_handlers *handlers;
    void *handlers_ctx;
    uint64_t random;
    void (*sent)(struct message *message); /* Borrows; may be NULL. */
};

static inline struct memory_world *memory_world_of(struct env *env)
{
    return container_of(env, struct memory_world, env);
}

static inline uint64_t memory_now(struct env *env)
{
    (void)env;
    return SEC_NS;
}

static inline void memory_random(struct env *env, void *out, size_t len)
{
    struct memory_world *world = memory_world_of(env);

    for (size_t i = 0; i < len; i++) {
        world->random = world->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        ((uint8_t *)out)[i] = (uint8_t)(world->random >> 33);
    }
}

static inline void memory_timer_arm(struct env *env, struct env_timer *timer, uint64_t deadline_ns)
{
    (void)env;
    timer->deadline_ns = deadline_ns;
    timer->armed = true;
}

static inline void memory_timer_stop(struct env *env, struct env_timer *timer)
{
    (void)env;
    timer->armed = false;
}

static inline void memory_defer(struct env *env, struct env_task *task)
{
    if (task->queued)
        return;
    task->queued = true;
    STAILQ_INSERT_TAIL(&memory_world_of(env)->tasks, task, link);
}

static inline void memory_handlers(struct env *env, const struct net_handlers *handlers, void *ctx)
{
    memory_world_of(env)->handlers = handlers;
    memory_world_of(env)->handlers_ctx = ctx;
}

static inline int memory_listen(struct env *env, const struct net_address *want,
                                struct net_address *bound)
{
    (void)env;
    if (bound != NULL)
        *bound = *want;
    return 0;
}

static inline int memory_open_session(struct env *env, const struct net_address *to,
                                      const struct net_expect *expect, void *user,
                                      struct net_session **out)
{
    (void)env;
    (void)to;
    (void)expect;
    (void)user;
    (void)out;
    return -ENOMEM;
}

static inline void memory_send(struct env *env, struct net_session *session,
                               struct message *message)
{
    (void)session;
    if (memory_world_of(env)->sent != NULL)
        memory_world_of(env)->sent(message);
    message_unref(message);
}

static inline void memory_close_session(struct env *env, struct net_session *session)
{
    (void)env;
    (void)session;
}

static inline struct env_file *memory_find(struct memory_world *world, const char *name)
{
    for (int i = 0; i < MEMORY_FILES; i++) {
        if (strcmp(world->files[i].name, name) == 0)
            return &world->files[i];
    }
    return NULL;
}

static inline int memory_file_open(struct env *env, const char *path, int flags,
                                   struct env_file **out)
{
    struct env_file *file = memory_find(memory_world_of(env), path);

    if (file == NULL && (flags & O_CREAT) == 0)
        return -ENOENT;
    if (file == NULL) {
        file = memory_find(memory_world_of(env), "");
        assert(file != NULL && strlen(path) < sizeof file->name);
        strcpy(file->name, path);
    }
    if ((flags & O_TRUNC) != 0)
        file->size = 0;
    *out = file;
    return 0;
}

static inline void memory_file_close(struct env *env, struct env_file *file)
{
    (void)env;
    (void)file;
}

static inline ssize_t memory_file_read(struct env *env, struct env_file *file, void *data,
                                       size_t len, uint64_t offset)
{
    (void)env;
    if (offset >= file->size)
        return 0;
    size_t left = file->size - (size_t)offset;
    size_t n = len < left ? len : left;
    memcpy(data, file->data + offset, n);
    return (ssize_t)n;
}

static inline int memory_file_write(struct env *env, struct env_file *file, const void *data,
                                    size_t len, uint64_t offset)
{
    (void)env;
    if (offset + len > file->size) {
        uint8_t *grown = realloc(file->data, (size_t)offset + len);
        assert(grown != NULL);
        memset(grown + file->size, 0, (size_t)offset + len - file->size);
        file->data = grown;
        file->size = (size_t)offset + len;
    }
    if (len > 0)
        memcpy(file->data + offset, data, len);
    return 0;
}

static inline int memory_file_sync(struct env *env, struct env_file *file)
{
    (void)env;
    (void)file;
    return 0;
}

static inline int64_t memory_file_size(struct env *env, struct env_file *file)
{
    (void)env;
    return (int64_t)file->size;
}

static inline int memory_remove(struct env *env, const char *path)
{
    struct env_file *file = memory_find(memory_world_of(env), path);

    if (file == NULL)
        return -ENOENT;
    free(file->data);
    memset(file, 0, sizeof *file);
    return 0;
}

static inline int memory_rename(struct env *env, const char *from, const char *to)
{
    struct env_file *file = memory_find(memory_world_of(env), from);
    struct env_file *old = memory_find(memory_world_of(env), to);

    if (file == NULL)
        return -ENOENT;
    /* Whoever has the old file open goes on with its struct: the contents change places. */
    if (old != NULL) {
        uint8_t *data = old->data;
        old->data = file->data;
        old->size = file->size;
        free(data);
        memset(file, 0, sizeof *file);
    } else {
        strcpy(file->name, to);
    }
    return 0;
}

static inline int memory_dir_sync(struct env *env, const char *path)
{
    (void)env;
    (void)path;
    return 0;
}

static inline void memory_log(struct env *env, int level, const char *line)
{
    (void)env;
    (void)level;
    (void)line;
}

static const struct env_ops memory_ops = {
    .now_ns = memory_now,
    .clock_ns = memory_now,
    .wall_ns = memory_now,
    .random = memory_random,
    .timer_arm = memory_timer_arm,
    .timer_stop = memory_timer_stop,
    .defer = memory_defer,
    .net_handlers = memory_handlers,
    .net_listen = memory_listen,
    .net_open = memory_open_session,
    .net_send = memory_send,
    .net_close = memory_close_session,
    .file_open = memory_file_open,
    .file_close = memory_file_close,
    .file_read = memory_file_read,
    .file_write = memory_file_write,
    .file_sync = memory_file_sync,
    .file_size = memory_file_size,
    .file_rename = memory_rename,
    .file_remove = memory_remove,
    .dir_sync = memory_dir_sync,
    .log = memory_log,
};

static inline void memory_world_init(struct memory_world *world)
{
    memset(world, 0, sizeof *world);
    world->env.ops = &memory_ops;
    world->env.instance = 1;
    STAILQ_INIT(&world->tasks);
}

/* Runs deferred tasks until none is left, at most `turns` of them. */
static inline void memory_world_run(struct memory_world *world, unsigned turns)
{
    struct env_task *task;

    while (turns-- > 0 && (task = STAILQ_FIRST(&world->tasks)) != NULL) {
        STAILQ_REMOVE_HEAD(&world->tasks, link);
        task->queued = false;
        task->run(task);
    }
}

static inline void memory_world_fini(struct memory_world *world)
{
    for (int i = 0; i < MEMORY_FILES; i++)
        free(world->files[i].data);
}

#endif
