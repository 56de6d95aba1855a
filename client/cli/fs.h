/*
 * limpet fs: what its files share.
 *
 *   fs.c          the verbs: create, ls, rm, status
 *   fs_check.c    check
 *   fs_mount.c    mount: the process that serves the kernel
 *   fs_umount.c   umount, which waits for that process
 *   fs_recover.c  goes on as another client, when the cluster has given up this one
 *   fs_fuse.c     the kernel's requests, through FUSE
 *   fs_receive.c  taking them
 *   fs_dirs.c     directories that the kernel knows
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
 * mount.fuse3(8), with commas. keeps_names: the kernel does, if it can drop them all at once.
 */
struct fuse_session *fs_fuse_mount(struct limpet_fs *fs, struct fs_recovery *recovery,
                                   const char *path, const char *options, bool keeps_names);
/* Requests go to another one from now on, which adopts what is open. */
int fs_fuse_switch(struct limpet_fs *fs);
/* Serves until it is unmounted; follows: from its callers' processors. */
void fs_fuse_serve(struct fuse_session *session, const char *path, bool follows);

/* Who takes the kernel's requests: the thread that creates it. */
struct fs_receiver;
int fs_receiver_create(struct fuse_session *session, bool follows, struct fs_receiver **out);
void fs_receiver_destroy(struct fs_receiver *receiver);
/* The next request, as fuse_session_receive_buf() has it; waits. */
int fs_receive(struct fs_receiver *receiver, struct fuse_buf *buffer);

/* NULL: memory is short, or threads. cli, and its cluster, must outlive it; fs and pool are its. */
struct fs_recovery *fs_recovery_begin(struct cli *cli, const struct fs_spec *spec, uint64_t memory,
                                      struct limpet_fs *fs, struct limpet_pool *pool);
/* Of limpet_fs_cache_calls.lost. */
void fs_recovery_needed(struct fs_recovery *recovery);
/* Closes the file system, as it is then. */
void fs_recovery_end(struct fs_recovery *recovery);

enum { FS_DEVICE_MAX = 32 };
/*
 * The number of the device that a path is the root of, "0:48"; false: of none. The mount itself is
 * not asked: it may not be served yet, or any more.
 */
bool fs_device(const char *path, char device[FS_DEVICE_MAX]);
/* Who unmounts what is mounted over `path` can wait for this process from now on. */
void fs_umount_expect(const char *path);

/* The kernel is about to be told of an entry: counts, if it is of a directory. */
void fs_dirs_tell(const struct limpet_fs_attr *attr);
/* The same without an entry. */
void fs_dirs_see(const struct limpet_fs_attr *attr);
/* As FORGET has it; also what could not be told. */
void fs_dirs_forget(uint64_t ino, uint64_t times);
/* As a directory was that is not there any more; false: the kernel does not know it. */
bool fs_dirs_removed(uint64_t ino, struct limpet_fs_attr *out);

int fs_create(struct cli *cli);
int fs_ls(struct cli *cli);
int fs_rm(struct cli *cli);
int fs_status(struct cli *cli);
int fs_check(struct cli *cli);
int fs_mount(struct cli *cli);
int fs_umount(struct cli *cli);

#endif
