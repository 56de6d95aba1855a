/*
 * limpet fs mount: attributes of files that were just written, before anybody asks for them.
 *
 * The kernel forgets a file's attributes whenever it sends a write, and has no message by which we
 * could tell it the new ones: the next stat(2) asks for them, one file after the other. What it
 * takes many attributes from is a listing (READDIRPLUS). So when somebody begins to ask for
 * the files of a folder that were made and written here, a thread of ours lists that folder, and
 * gets a listing with just those of them that nobody has asked for yet. All that holds for listings
 * holds for it (T1 to T3); the thread's requests are as good as any program's, and nobody waits for
 * it.
 *
 * The folder is opened by its number, at a copy of the mount that is nowhere in the tree, so that
 * nobody finds the mount in use. Who is not allowed to do that (it is root's) does without.
 */
#include <bsd/sys/queue.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <uthash.h>

#include "client/cli/fs.h"
#include "client/fs/cond.h"

enum {
    MADE_MAX = 8192, /* Files whose names are remembered. */
    STALE_MIN = 16,  /* In a folder, of which so many were asked for, one after the other: */
    ASKED_MIN = 4,
    LISTED_AT_ONCE = 64 << 10, /* Bytes, of what the kernel is told. */
    LINGER_MS = 20,
    LISTED_MAX = 256,   /* Listings of a folder, one after the other. */
    HANDLE_TYPE = 0x81, /* Of FUSE: the number in two words, and the generation. */
    HANDLE_WORDS = 3,
};

struct folder;

struct made_file {
    uint64_t ino;
    struct folder *folder;
    bool stale; /* In the kernel; in the folder's list. */
    TAILQ_ENTRY(made_file) age, link;
    UT_hash_handle hh;
    char name[];
};

TAILQ_HEAD(made_files, made_file);

struct folder {
    uint64_t ino;
    size_t n; /* Files of it. */
    struct made_files stale;
    size_t n_stale;
    unsigned asked; /* Since something was made in it. */
    bool in_vain;   /* Nothing could be told last time, likewise. */
    bool wanted;
    STAILQ_ENTRY(folder) link;
    UT_hash_handle hh;
};

static struct {
    pthread_mutex_t lock; /* Of: */
    pthread_cond_t changed;
    struct made_file *files; /* By number, and by age: */
    struct made_files by_age;
    size_t n;
    struct folder *folders;
    STAILQ_HEAD(, folder) wanted;
    bool possible, ending, has_thread;

    pthread_t thread;
    _Atomic pid_t tid;
    char path[4096], device[FS_DEVICE_MAX];
    uint32_t generation;
} refresh = {.lock = PTHREAD_MUTEX_INITIALIZER,
             .changed = PTHREAD_COND_INITIALIZER,
             .by_age = TAILQ_HEAD_INITIALIZER(refresh.by_age),
             .wanted = STAILQ_HEAD_INITIALIZER(refresh.wanted)};

/* ---- Files that were made here; all with the lock ---- */

static struct made_file *find(uint64_t ino)
{
    struct made_file *file;
    HASH_FIND(hh, refresh.files, &ino, sizeof ino, file);
    return file;
}

static struct folder *folder_of(uint64_t ino)
{
    struct folder *folder;
    HASH_FIND(hh, refresh.folders, &ino, sizeof ino, folder);
    if (folder == NULL && (folder = calloc(1, sizeof *folder)) != NULL) {
        folder->ino = ino;
        TAILQ_INIT(&folder->stale);
        HASH_ADD(hh, refresh.folders, ino, sizeof folder->ino, folder);
    }
    return folder;
}

static void folder_settle(struct folder *folder)
{
    if (folder->n > 0 || folder->wanted)
        return;
    HASH_DEL(refresh.folders, folder);
    free(folder);
}

static void make_fresh(struct made_file *file)
{
    if (!file->stale)
        return;
    file->stale = false;
    TAILQ_REMOVE(&file->folder->stale, file, link);
    file->folder->n_stale--;
}

static void make_stale(struct made_file *file)
{
    if (file->stale)
        return;
    file->stale = true;
    TAILQ_INSERT_TAIL(&file->folder->stale, file, link);
    file->folder->n_stale++;
}

static void forget_file(struct made_file *file)
{
    struct folder *folder = file->folder;
    make_fresh(file);
    TAILQ_REMOVE(&refresh.by_age, file, age);
    /* NOLINTNEXTLINE(clang-analyzer-core.*): the analyzer does not follow uthash. */
    HASH_DEL(refresh.files, file);
    refresh.n--;
    folder->n--;
    free(file);
    folder_settle(folder);
}

void fs_refresh_made(uint64_t dir, const char *name, uint64_t ino)
{
    size_t size = strlen(name) + 1;
    pthread_mutex_lock(&refresh.lock);
    struct made_file *file = refresh.possible ? find(ino) : NULL;
    if (file != NULL)
        forget_file(file);
    file = refresh.possible ? calloc(1, sizeof *file + size) : NULL;
    struct folder *folder = file != NULL ? folder_of(dir) : NULL;
    if (folder != NULL) {
        file->ino = ino;
        file->folder = folder;
        memcpy(file->name, name, size);
        HASH_ADD(hh, refresh.files, ino, sizeof file->ino, file);
        TAILQ_INSERT_TAIL(&refresh.by_age, file, age);
        refresh.n++;
        folder->n++;
        folder->asked = 0;
        folder->in_vain = false;
        if (refresh.n > MADE_MAX)
            forget_file(TAILQ_FIRST(&refresh.by_age));
    } else {
        free(file);
    }
    pthread_mutex_unlock(&refresh.lock);
}

void fs_refresh_wrote(uint64_t ino)
{
    pthread_mutex_lock(&refresh.lock);
    struct made_file *file = find(ino);
    if (file != NULL)
        make_stale(file);
    pthread_mutex_unlock(&refresh.lock);
}

void fs_refresh_forget(uint64_t ino)
{
    pthread_mutex_lock(&refresh.lock);
    struct made_file *file = find(ino);
    if (file != NULL)
        forget_file(file);
    pthread_mutex_unlock(&refresh.lock);
}

static void *refresh_folders(void *arg);

static void want(struct folder *folder)
{
    if (!refresh.has_thread) {
        refresh.has_thread = pthread_create(&refresh.thread, NULL, refresh_folders, NULL) == 0;
        refresh.possible = refresh.has_thread;
    }
    folder->wanted = true;
    STAILQ_INSERT_TAIL(&refresh.wanted, folder, link);
    pthread_cond_signal(&refresh.changed);
}

void fs_refresh_asked(uint64_t ino)
{
    pthread_mutex_lock(&refresh.lock);
    struct made_file *file = find(ino);
    if (file != NULL && file->stale) {
        struct folder *folder = file->folder;
        make_fresh(file);
        folder->asked++;
        if (refresh.possible && !folder->wanted && !folder->in_vain && folder->asked >= ASKED_MIN &&
            folder->n_stale >= STALE_MIN)
            want(folder);
    }
    pthread_mutex_unlock(&refresh.lock);
}

bool fs_refresh_next(uint64_t dir, char name[LIMPET_FS_NAME_MAX + 1], uint64_t *ino)
{
    struct folder *folder;
    pthread_mutex_lock(&refresh.lock);
    HASH_FIND(hh, refresh.folders, &dir, sizeof dir, folder);
    struct made_file *file = folder != NULL ? TAILQ_FIRST(&folder->stale) : NULL;
    if (file != NULL) {
        make_fresh(file);
        *ino = file->ino;
        strncpy(name, file->name, LIMPET_FS_NAME_MAX);
        name[LIMPET_FS_NAME_MAX] = 0;
    }
    pthread_mutex_unlock(&refresh.lock);
    return file != NULL;
}

/* ---- The thread ---- */

static bool is_the_mount(int fd)
{
    struct statx st;
    char device[FS_DEVICE_MAX];
    if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) != 0)
        return false;
    snprintf(device, sizeof device, "%u:%u", st.stx_dev_major, st.stx_dev_minor);
    return strcmp(device, refresh.device) == 0;
}

/* The root of a copy of the mount; -1: it cannot be had. */
static int open_copy(void)
{
    int copy = (int)syscall(SYS_open_tree, AT_FDCWD, refresh.path,
                            OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
    int root = copy >= 0 && is_the_mount(copy)
                   ? openat(copy, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                   : -1;
    if (copy >= 0)
        close(copy);
    return root;
}

/* A folder that the kernel knows. Numbers of folders are never given again: all are the first. */
static int open_folder(int root, uint64_t ino)
{
    union {
        struct file_handle handle;
        uint32_t words[sizeof(struct file_handle) / 4 + HANDLE_WORDS];
    } own = {.handle = {.handle_bytes = HANDLE_WORDS * 4, .handle_type = HANDLE_TYPE}};
    const uint32_t words[HANDLE_WORDS] = {(uint32_t)(ino >> 32), (uint32_t)ino,
                                          ino != LIMPET_FS_ROOT ? refresh.generation : 0};
    memcpy(own.handle.f_handle, words, sizeof words);
    return open_by_handle_at(root, &own.handle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static bool has_stale(const struct folder *folder, size_t least)
{
    pthread_mutex_lock(&refresh.lock);
    bool has = folder->n_stale >= least && refresh.possible;
    pthread_mutex_unlock(&refresh.lock);
    return has;
}

/* Each time from the beginning: that is where the kernel asks for attributes in any case. Files
 * that are written all the time would be told for ever. Returns whether anything was told. */
static bool list(int fd, const struct folder *folder, uint8_t *buffer)
{
    bool told = false;
    for (unsigned i = 0; i < LISTED_MAX && has_stale(folder, told ? STALE_MIN : 1) &&
                         syscall(SYS_getdents64, fd, buffer, LISTED_AT_ONCE) > 0;
         i++) {
        told = true;
        if (lseek(fd, 0, SEEK_SET) != 0)
            break;
    }
    return told;
}

/* Whether anything was told. */
static bool refresh_folder(const struct folder *folder, int *root, uint8_t *buffer)
{
    bool told = false;
    if (*root < 0)
        *root = open_copy();
    int fd = *root >= 0 ? open_folder(*root, folder->ino) : -1;
    bool refused = fd < 0 && (*root < 0 || errno == EPERM || errno == EOPNOTSUPP);
    if (fd >= 0) {
        told = list(fd, folder, buffer);
        close(fd);
    }
    if (refused) {
        pthread_mutex_lock(&refresh.lock);
        refresh.possible = false;
        pthread_mutex_unlock(&refresh.lock);
    }
    return told;
}

/* With the lock. The copy goes soon: while it is there, an unmounted file system is not over. */
static void wait_for_work(int *root)
{
    const uint64_t until_ns = cond_now_ns() + LINGER_MS * UINT64_C(1000000);
    int rc = *root < 0 ? pthread_cond_wait(&refresh.changed, &refresh.lock)
                       : cond_wait_until(&refresh.changed, &refresh.lock, until_ns);
    if (rc == ETIMEDOUT) {
        pthread_mutex_unlock(&refresh.lock);
        close(*root);
        *root = -1;
        pthread_mutex_lock(&refresh.lock);
    }
}

static void *refresh_folders(void *arg)
{
    int root = -1;
    uint8_t *buffer = malloc(LISTED_AT_ONCE);
    (void)arg;
    refresh.tid = gettid();
    pthread_mutex_lock(&refresh.lock);
    refresh.possible = buffer != NULL && refresh.possible;
    while (!refresh.ending) {
        struct folder *folder = STAILQ_FIRST(&refresh.wanted);
        if (folder == NULL) {
            wait_for_work(&root);
            continue;
        }
        STAILQ_REMOVE_HEAD(&refresh.wanted, link);
        bool possible = refresh.possible;
        pthread_mutex_unlock(&refresh.lock);
        bool told = possible && refresh_folder(folder, &root, buffer);
        pthread_mutex_lock(&refresh.lock);
        folder->in_vain = !told;
        folder->wanted = false;
        folder->asked = 0;
        folder_settle(folder);
    }
    pthread_mutex_unlock(&refresh.lock);
    if (root >= 0)
        close(root);
    free(buffer);
    return NULL;
}

bool fs_refresh_lists(pid_t caller)
{
    return caller != 0 && caller == refresh.tid;
}

void fs_refresh_begin(const char *path, uint32_t generation)
{
    pthread_mutex_lock(&refresh.lock);
    refresh.generation = generation;
    refresh.possible = strlen(path) < sizeof refresh.path && fs_device(path, refresh.device);
    if (refresh.possible)
        strcpy(refresh.path, path);
    pthread_mutex_unlock(&refresh.lock);
}

void fs_refresh_end(void)
{
    pthread_mutex_lock(&refresh.lock);
    refresh.possible = false;
    refresh.ending = true;
    pthread_cond_signal(&refresh.changed);
    pthread_mutex_unlock(&refresh.lock);
    if (refresh.has_thread)
        pthread_join(refresh.thread, NULL);
    while (!TAILQ_EMPTY(&refresh.by_age))
        forget_file(TAILQ_FIRST(&refresh.by_age));
}
