/*
 * What the kernel's requests share: fs_fuse.c has most of them, fs_list.c those of open
 * directories.
 */
#ifndef LIMPET_CLIENT_CLI_FS_FUSE_H
#define LIMPET_CLIENT_CLI_FS_FUSE_H

#define FUSE_USE_VERSION 35
#include <fuse_lowlevel.h>

#include "client/cli/fs.h"

enum { FS_KEEP_SECONDS = 7 * 24 * 3600 }; /* What may be kept until it is recalled. */

/* Whose request it is. */
struct limpet_fs *fs_fuse_fs(fuse_req_t fuse);
/* The kernel keeps names, since it can drop them all at once. */
bool fs_fuse_keeps_names(void);
/* What programs are told of a negative rc: our own errors have no number there, and a client that
 * is blocked was cut off for them. */
int fs_fuse_error(ssize_t rc);
/* keep_attr: seconds. */
void fs_fuse_entry(const struct limpet_fs_attr *attr, bool keep_name, double keep_attr,
                   struct fuse_entry_param *entry);

void fs_list_opendir(fuse_req_t fuse, fuse_ino_t ino, struct fuse_file_info *info);
void fs_list_releasedir(fuse_req_t fuse, fuse_ino_t ino, struct fuse_file_info *info);
void fs_list_readdir(fuse_req_t fuse, fuse_ino_t ino, size_t size, off_t offset,
                     struct fuse_file_info *info);
void fs_list_readdirplus(fuse_req_t fuse, fuse_ino_t ino, size_t size, off_t offset,
                         struct fuse_file_info *info);

#endif
