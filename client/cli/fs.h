/*
 * limpet fs: what its files share.
 *
 *   fs.c          the verbs: create, ls, rm, status
 *   fs_check.c    check
 *   fs_mount.c    mount: the process that serves the kernel
 *   fs_umount.c   umount, which waits for that process
 *   fs_abort.c    a process beside it, which sees to the end of that one when it is killed
 *   fs_recover.c  goes on as another client, when the cluster has given up this one
 *   fs_fuse.c     the kernel's requests, through FUSE
 *   fs_list.c     those of open directories
 *   fs_receive.c  taking them
 *   fs_ring.c     the same by io_uring, where the kernel offers that
 *   fs_dirs.c     directories that the kernel knows
 *   fs_mapped.c   pages that it has without a lease
 *   fs_listed.c   listings on their way into the kernel
 *   fs_refresh.c  attributes of what was just written, before they are asked for
 */
#ifndef LIMPET_CLIENT_CLI_FS_H
#define LIMPET_CLIENT_CLI_FS_H

#include "client/cli/cli.h"
#include "client/limpet/fs.h"

struct fs_spec {
    char pool[LIMPET_POOL_NAME_MAX + 1];
    char name[LIMPET_FS_NAME_MAX + 1];
};

/* "[POOL/]NAME"; exits with a message. */
void fs_spec_parse(const char *text, struct fs_spec *out);
/* Exits with a message. */
struct limpet_fs *fs_spec_open(struct cli *cli, const struct fs_spec *spec,
                               struct limpet_pool **pool);

struct fs_recovery;
struct fuse_session;
struct fuse_buf;
/*
 * A session on the file system, mounted over `path`; exits with a message. Options are those of
 * mount.fuse3(8), with commas. max_read: what they say of it, or 0. keeps_names: the kernel does,
 * if it can drop them all at once.
 */
struct fuse_session *fs_fuse_mount(struct limpet_fs *fs, struct fs_recovery *recovery,
                                   const char *path, const char *options, unsigned max_read,
                                   bool keeps_names);
/* Requests go to another one from now on, which adopts what is open. */
int fs_fuse_switch(struct limpet_fs *fs);
/*
 * Serves until it is unmounted; follows: from its callers' processors; rings: by io_uring, if the
 * kernel offers it.
 */
void fs_fuse_serve(struct fuse_session *session, const char *path, bool follows, bool rings);
/* When all requests have ended. */
void fs_fuse_end(void);

/*
 * Who takes the kernel's requests: the thread that creates it. processor: where it stays, if it
 * may; -1: anywhere.
 */
struct fs_receiver;
int fs_receiver_create(struct fuse_session *session, bool follows, int processor,
                       struct fs_receiver **out);
void fs_receiver_destroy(struct fs_receiver *receiver);
/* The next request, as fuse_session_receive_buf() has it; waits. */
int fs_receive(struct fs_receiver *receiver, struct fuse_buf *buffer);
/* For who takes them another way: it is about to wait; a request has come. */
void fs_receiver_waits(struct fs_receiver *receiver);
void fs_receiver_took(struct fs_receiver *receiver, const void *request);

/*
 * Requests by io_uring. It is created before the answer to INIT, begins after it, and is stopped
 * before the session is unmounted; destroyed when nobody answers requests any more. `take` gets
 * requests as /dev/fuse would have them, in memory that is good until it returns, from a thread
 * of each processor.
 */
struct fs_ring;
struct iovec;
typedef void (*fs_ring_take)(void *arg, struct fuse_buf *request);
int fs_ring_create(struct fuse_session *session, const char *path, bool follows, fs_ring_take take,
                   void *arg, struct fs_ring **out);
void fs_ring_begin(struct fs_ring *ring);
/* An answer as writev() of /dev/fuse takes it; false: its request did not come this way. */
bool fs_ring_answer(struct fs_ring *ring, const struct iovec *iov, int count, ssize_t *result);
void fs_ring_stop(struct fs_ring *ring);
void fs_ring_destroy(struct fs_ring *ring);

/* NULL: memory is short, or threads. cli, and its cluster, must outlive it; fs and pool are its. */
struct fs_recovery *fs_recovery_begin(struct cli *cli, const struct fs_spec *spec, uint64_t memory,
                                      struct limpet_fs *fs, struct limpet_pool *pool);
/* Of limpet_fs_cache_calls.lost. */
void fs_recovery_needed(struct fs_recovery *recovery);
/* Closes the file system, as it is then. 0: all is durable; or by which error something is lost. */
int fs_recovery_end(struct fs_recovery *recovery);

enum { FS_DEVICE_MAX = 32 };
/*
 * The number of the device that a path is the root of, "0:48"; false: of none. The mount itself is
 * not asked: it may not be served yet, or any more.
 */
bool fs_device(const char *path, char device[FS_DEVICE_MAX]);
/*
 * Should this process be killed, it ends at once, and the kernel gives up the mount. The first one
 * is called before there are other threads, the second one when it is mounted.
 */
void fs_abort_begin(void);
void fs_abort_mounted(const char *path);
/* The kernel is to give up the mount now; false: it cannot be told. */
bool fs_abort(const char *device);
/* The same for what is mounted over `path`, if the process that served it is dead. */
void fs_abort_if_dead(const char *path);
/* Who unmounts what is mounted over `path` can wait for this process from now on. */
void fs_umount_expect(const char *path);
/* Nothing is mounted any more: nobody else can; another mount may get this one's device number. */
void fs_umount_over(void);
/* They learn by which error something was lost, or 0; the mount is not there any more. */
void fs_umount_tell(int error);

/* The kernel is about to be told of an entry: counts, if it is of a directory. */
void fs_dirs_tell(const struct limpet_fs_attr *attr);
/* The same without an entry. */
void fs_dirs_see(const struct limpet_fs_attr *attr);
/* As FORGET has it; also what could not be told. */
void fs_dirs_forget(uint64_t ino, uint64_t times);
/* As a directory was that is not there any more; false: the kernel does not know it. */
bool fs_dirs_removed(uint64_t ino, struct limpet_fs_attr *out);

/*
 * Answers to READDIRPLUS that tell what may be kept (T1 to T3 of fs_listed.c). The first one is
 * before the answer, which it changes: the number, unless it is 0, is given up by the kernel when
 * it has taken in the answer.
 */
uint64_t fs_listed_begin(void *data, size_t len);
typedef void (*fs_listed_drop)(void *arg, const uint64_t *inos, size_t n);
/* It was given up, or could not be told. What was dropped meanwhile is dropped again; drop NULL: it
 * never was there. false: this is no such number. */
bool fs_listed_end(uint64_t number, fs_listed_drop drop, void *arg);
/* Before something is dropped. */
void fs_listed_wait(void);

/* Files whose pages the kernel has without a lease are looked at until fs_mapped_end(). */
struct fs_mapped_calls {
    void (*look)(uint64_t ino); /* Asks for attributes: fs_mapped_saw() is to be called. */
    void (*drop)(uint64_t ino); /* All pages of it. */
};
int fs_mapped_begin(const struct fs_mapped_calls *calls);
void fs_mapped_end(void);
void fs_mapped_saw(uint64_t ino, ssize_t rc, const struct limpet_fs_result *result);
/* Before contents are asked for, and when they have been handed over; may they not be kept. */
uint64_t fs_mapped_now(void);
void fs_mapped_read(uint64_t ino, uint64_t began);
void fs_mapped_released(uint64_t ino);

/*
 * Attributes of files that were made and written here (fs_refresh.c). `path` is where it is
 * mounted, `generation` what the kernel is told of folders other than the root. Ends when no
 * request is taken any more.
 */
void fs_refresh_begin(const char *path, uint32_t generation);
void fs_refresh_end(void);
/* The kernel is told of a file that was made, and may keep its name; sends a write; is told of its
 * attributes, which it may keep; forgets it. */
void fs_refresh_made(uint64_t dir, const char *name, uint64_t ino);
void fs_refresh_wrote(uint64_t ino);
void fs_refresh_asked(uint64_t ino);
void fs_refresh_forget(uint64_t ino);
/* Whether this is the thread that lists folders for that; and what it is to be given: the next file
 * of the folder, which counts as told. */
bool fs_refresh_lists(pid_t caller);
bool fs_refresh_next(uint64_t dir, char name[LIMPET_FS_NAME_MAX + 1], uint64_t *ino);

int fs_create(struct cli *cli);
int fs_ls(struct cli *cli);
int fs_rm(struct cli *cli);
int fs_status(struct cli *cli);
int fs_check(struct cli *cli);
int fs_mount(struct cli *cli);
int fs_umount(struct cli *cli);

#endif
