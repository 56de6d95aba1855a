/*
 * Files of the simulated world.
 *
 *  F1  A file has two contents: what processes see, and what surely survives a power cut. file_sync
 *      makes the second the first. Between two syncs all changes are remembered in order.
 *  F2  A power cut applies a random part of the remembered changes, sector by sector.
 *  F3  The same goes for names: dir_sync makes creations, renames and removals durable. A power
 *      cut applies a random number of the first remembered ones, as a journalling file system does.
 *      A file's own sync says nothing about its name.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/env_sim_private.h"

#define FILE_BYTES_MAX (UINT64_C(1) << 32)

/* ---- Contents ---- */

static void bytes_resize(struct sim_bytes *bytes, uint64_t size)
{
    assert(size <= FILE_BYTES_MAX);
    if (size > bytes->capacity) {
        uint64_t capacity = bytes->capacity ? bytes->capacity : 4096;
        while (capacity < size)
            capacity *= 2;
        bytes->data = sim_must(realloc(bytes->data, capacity));
        bytes->capacity = capacity;
    }
    if (size > bytes->size)
        memset(bytes->data + bytes->size, 0, size - bytes->size);
    bytes->size = size;
}

static void bytes_write(struct sim_bytes *bytes, uint64_t offset, const void *data, size_t len)
{
    if (len == 0)
        return;
    if (offset + len > bytes->size)
        bytes_resize(bytes, offset + len);
    memcpy(bytes->data + offset, data, len);
}

static void apply_file_change(struct sim_bytes *bytes, const struct sim_file_change *change)
{
    if (change->data)
        bytes_write(bytes, change->offset, change->data, change->len);
    else
        bytes_resize(bytes, change->offset);
}

/* What a power cut makes of a change: each sector of a write is there or not. */
static void apply_part_of_change(struct sim_bytes *bytes, const struct sim_file_change *change,
                                 struct random_stream *random)
{
    if (!change->data) {
        if (random_below(random, 2) == 0)
            bytes_resize(bytes, change->offset);
        return;
    }
    uint64_t luck = 1 + random_below(random, 4); /* From everything to a quarter. */
    for (size_t at = 0, part; at < change->len; at += part) {
        part = SIM_SECTOR - (change->offset + at) % SIM_SECTOR;
        if (part > change->len - at)
            part = change->len - at;
        if (random_below(random, luck) == 0)
            bytes_write(bytes, change->offset + at, change->data + at, part);
    }
}

static void drop_file_changes(struct sim_inode *inode)
{
    struct sim_file_change *change;
    while ((change = STAILQ_FIRST(&inode->changes))) {
        STAILQ_REMOVE_HEAD(&inode->changes, link);
        free(change->data);
        free(change);
    }
}

static struct sim_inode *inode_create(void)
{
    struct sim_inode *inode = sim_must(calloc(1, sizeof *inode));
    inode->refs = 1;
    STAILQ_INIT(&inode->changes);
    return inode;
}

static struct sim_inode *inode_ref(struct sim_inode *inode)
{
    inode->refs++;
    return inode;
}

static void inode_unref(struct sim_inode *inode)
{
    if (!inode || --inode->refs > 0)
        return;
    drop_file_changes(inode);
    free(inode->now.data);
    free(inode->durable.data);
    free(inode);
}

static void inode_remember(struct sim_inode *inode, uint64_t offset, const void *data, size_t len)
{
    struct sim_file_change *change = sim_must(calloc(1, sizeof *change));
    change->offset = offset;
    change->len = len;
    if (data) {
        change->data = sim_must(malloc(len));
        memcpy(change->data, data, len);
    }
    STAILQ_INSERT_TAIL(&inode->changes, change, link);
}

static void inode_sync(struct sim_inode *inode)
{
    struct sim_file_change *change;
    STAILQ_FOREACH(change, &inode->changes, link)
    apply_file_change(&inode->durable, change);
    drop_file_changes(inode);
    assert(inode->durable.size == inode->now.size);
}

static void inode_power_cut(struct sim_inode *inode, struct random_stream *random)
{
    struct sim_file_change *change;
    STAILQ_FOREACH(change, &inode->changes, link)
    apply_part_of_change(&inode->durable, change, random);
    drop_file_changes(inode);
    bytes_resize(&inode->now, 0);
    bytes_write(&inode->now, 0, inode->durable.data, inode->durable.size);
}

/* ---- Names ---- */

static struct sim_name *name_find(struct sim_names *names, const char *path)
{
    struct sim_name *name;
    TAILQ_FOREACH(name, names, link)
    {
        if (strcmp(name->path, path) == 0)
            return name;
    }
    return NULL;
}

static void name_remove(struct sim_names *names, struct sim_name *name)
{
    TAILQ_REMOVE(names, name, link);
    inode_unref(name->inode);
    free(name->path);
    free(name);
}

static void name_set(struct sim_names *names, const char *path, struct sim_inode *inode)
{
    assert(path && inode);
    struct sim_name *old = name_find(names, path);
    if (old)
        name_remove(names, old);
    struct sim_name *name = sim_must(calloc(1, sizeof *name));
    name->path = sim_must(strdup(path));
    name->inode = inode_ref(inode);
    TAILQ_INSERT_TAIL(names, name, link);
}

static void names_clear(struct sim_names *names)
{
    struct sim_name *name;
    while ((name = TAILQ_FIRST(names)))
        name_remove(names, name);
}

static void apply_dir_change(struct sim_names *names, const struct sim_dir_change *change)
{
    if (!change->from) {
        name_set(names, change->to, change->inode);
        return;
    }
    struct sim_name *from = name_find(names, change->from);
    if (!from)
        return; /* Its creation, in another folder, was not synced. */
    if (change->to)
        name_set(names, change->to, from->inode);
    name_remove(names, from);
}

static void dir_change_free(struct sim_files *files, struct sim_dir_change *change)
{
    STAILQ_REMOVE(&files->changes, change, sim_dir_change, link);
    inode_unref(change->inode);
    free(change->from);
    free(change->to);
    free(change);
}

static void dir_change(struct sim_files *files, const char *from, const char *to,
                       struct sim_inode *inode)
{
    struct sim_dir_change *change = sim_must(calloc(1, sizeof *change));
    change->from = from ? sim_must(strdup(from)) : NULL;
    change->to = to ? sim_must(strdup(to)) : NULL;
    change->inode = inode ? inode_ref(inode) : NULL;
    STAILQ_INSERT_TAIL(&files->changes, change, link);
    apply_dir_change(&files->now, change);
}

static bool lies_in(const char *path, const char *folder)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;
    if (strcmp(folder, ".") == 0 || folder[0] == '\0')
        return len == 0;
    return strlen(folder) == len && memcmp(path, folder, len) == 0;
}

void sim_files_init(struct sim_files *files)
{
    TAILQ_INIT(&files->now);
    TAILQ_INIT(&files->durable);
    STAILQ_INIT(&files->changes);
}

static void drop_dir_changes(struct sim_files *files)
{
    while (!STAILQ_EMPTY(&files->changes))
        dir_change_free(files, STAILQ_FIRST(&files->changes));
}

void sim_files_fini(struct sim_files *files)
{
    drop_dir_changes(files);
    names_clear(&files->now);
    names_clear(&files->durable);
}

void sim_files_power_cut(struct sim_files *files, struct random_stream *random)
{
    struct sim_dir_change *change;
    struct sim_name *name;
    uint64_t n = 0;
    STAILQ_FOREACH(change, &files->changes, link)
    n++;
    for (uint64_t keep = random_below(random, n + 1); keep > 0; keep--) {
        change = STAILQ_FIRST(&files->changes);
        apply_dir_change(&files->durable, change);
        dir_change_free(files, change);
    }
    drop_dir_changes(files);
    names_clear(&files->now);
    TAILQ_FOREACH(name, &files->durable, link)
    {
        inode_power_cut(name->inode, random);
        name_set(&files->now, name->path, name->inode);
    }
}

void sim_files_process_gone(struct sim_process *process)
{
    struct env_file *file;
    while ((file = LIST_FIRST(&process->open_files)))
        sim_file_close(&process->env, file);
}

/* ---- What processes call ---- */

static struct sim_files *files_of(struct env *env)
{
    return &process_of(env)->node->files;
}

int sim_file_open(struct env *env, const char *path, int flags, struct env_file **out)
{
    struct sim_process *process = process_of(env);
    struct sim_files *files = files_of(env);
    struct sim_name *name = name_find(&files->now, path);
    bool writable = (flags & O_ACCMODE) != O_RDONLY;
    if (process->frozen)
        return -EIO;
    if (!name && !(flags & O_CREAT))
        return -ENOENT;
    if (name && (flags & O_CREAT) && (flags & O_EXCL))
        return -EEXIST;
    struct env_file *file = sim_must(calloc(1, sizeof *file));
    if (name) {
        file->inode = inode_ref(name->inode);
    } else {
        file->inode = inode_create();
        dir_change(files, NULL, path, file->inode);
    }
    file->writable = writable;
    LIST_INSERT_HEAD(&process->open_files, file, link);
    if ((flags & O_TRUNC) && writable && file->inode->now.size > 0) {
        bytes_resize(&file->inode->now, 0);
        inode_remember(file->inode, 0, NULL, 0);
    }
    *out = file;
    return 0;
}

void sim_file_close(struct env *env, struct env_file *file)
{
    (void)env;
    LIST_REMOVE(file, link);
    inode_unref(file->inode);
    free(file);
}

ssize_t sim_file_read(struct env *env, struct env_file *file, void *data, size_t len,
                      uint64_t offset)
{
    (void)env;
    const struct sim_bytes *bytes = &file->inode->now;
    if (offset >= bytes->size)
        return 0;
    if (len > bytes->size - offset)
        len = bytes->size - offset;
    memcpy(data, bytes->data + offset, len);
    return (ssize_t)len;
}

int sim_file_write(struct env *env, struct env_file *file, const void *data, size_t len,
                   uint64_t offset)
{
    if (process_of(env)->frozen)
        return -EIO;
    if (!file->writable)
        return -EBADF;
    if (len > FILE_BYTES_MAX || offset > FILE_BYTES_MAX - len)
        return -EFBIG;
    if (len == 0)
        return 0;
    bytes_write(&file->inode->now, offset, data, len);
    inode_remember(file->inode, offset, data, len);
    return 0;
}

int sim_file_truncate(struct env *env, struct env_file *file, uint64_t size)
{
    if (process_of(env)->frozen)
        return -EIO;
    if (!file->writable)
        return -EBADF;
    if (size > FILE_BYTES_MAX)
        return -EFBIG;
    bytes_resize(&file->inode->now, size);
    inode_remember(file->inode, size, NULL, 0);
    return 0;
}

/* The process stands still during a sync: what it does next happens later. */
static void spend_sync(struct sim_process *process)
{
    uint64_t average = process->node->sync_ns;
    uint64_t spent = average / 2 + random_below(&process->sim->chance, average + 1);
    process->busy_until = sim_process_time(process) + spent;
}

int sim_file_sync(struct env *env, struct env_file *file)
{
    struct sim_process *process = process_of(env);
    if (process->frozen)
        return -EIO;
    spend_sync(process);
    inode_sync(file->inode);
    return 0;
}

int64_t sim_file_size(struct env *env, struct env_file *file)
{
    (void)env;
    return (int64_t)file->inode->now.size;
}

int sim_file_rename(struct env *env, const char *from, const char *to)
{
    struct sim_files *files = files_of(env);
    if (process_of(env)->frozen)
        return -EIO;
    if (!name_find(&files->now, from))
        return -ENOENT;
    if (strcmp(from, to) != 0)
        dir_change(files, from, to, NULL);
    return 0;
}

int sim_file_remove(struct env *env, const char *path)
{
    struct sim_files *files = files_of(env);
    if (process_of(env)->frozen)
        return -EIO;
    if (!name_find(&files->now, path))
        return -ENOENT;
    dir_change(files, path, NULL, NULL);
    return 0;
}

int sim_dir_sync(struct env *env, const char *path)
{
    struct sim_process *process = process_of(env);
    struct sim_files *files = files_of(env);
    if (process->frozen)
        return -EIO;
    spend_sync(process);
    struct sim_dir_change *change, *next;
    STAILQ_FOREACH_SAFE(change, &files->changes, link, next)
    {
        if (lies_in(change->to ? change->to : change->from, path)) {
            apply_dir_change(&files->durable, change);
            dir_change_free(files, change);
        }
    }
    return 0;
}
