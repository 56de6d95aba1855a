/*
 * limpet rados: what its files share, and its verbs. Messages are those of Ceph's rados where it
 * has some.
 */
#ifndef LIMPET_CLIENT_CLI_RADOS_H
#define LIMPET_CLIENT_CLI_RADOS_H

#include "client/cli/cli.h"
#include "client/limpet/object.h"

/* The pool of --pool, with --namespace and --object-locator; exits with a message. */
struct limpet_pool *rados_pool(struct cli *cli);
/* "2026-11-23T08:18:30.123456+0000": local time. */
enum { RADOS_TIME_MAX = 64 };
void rados_time(uint64_t ns, char text[RADOS_TIME_MAX]);

/* A new operation; exits when memory is short. */
struct limpet_op *rados_op(void);
/* Runs an operation on an object, unless `error` is not 0 already, and destroys it. */
int rados_run(struct limpet_pool *pool, const char *object, struct limpet_op *op, int error,
              struct limpet_object_version *version);

/* All that a file, or standard input (NULL or "-"), holds, and a zero; exits beyond max bytes. */
void *rados_read_input(const char *path, size_t max, size_t *len);
/* Exits with a message. */
void rados_write_file(const char *path, const void *data, size_t len);

/* Contents and existence (rados.c) */
int rados_put(struct cli *cli);
int rados_get(struct cli *cli);
int rados_append(struct cli *cli);
int rados_truncate(struct cli *cli);
int rados_rm(struct cli *cli);
int rados_stat(struct cli *cli);
int rados_stat2(struct cli *cli);
int rados_touch(struct cli *cli);
int rados_create(struct cli *cli);
int rados_set_alloc_hint(struct cli *cli);
int rados_ls(struct cli *cli);
int rados_lspools(struct cli *cli);

/* rados_df.c */
int rados_df(struct cli *cli);

/* Attributes and maps (rados_meta.c) */
int rados_setxattr(struct cli *cli);
int rados_getxattr(struct cli *cli);
int rados_listxattr(struct cli *cli);
int rados_rmxattr(struct cli *cli);
int rados_listomapkeys(struct cli *cli);
int rados_listomapvals(struct cli *cli);
int rados_getomapval(struct cli *cli);
int rados_setomapval(struct cli *cli);
int rados_rmomapkey(struct cli *cli);
int rados_clearomap(struct cli *cli);
int rados_getomapheader(struct cli *cli);
int rados_setomapheader(struct cli *cli);

/* Snapshots (rados_snap.c) */
/* As --snap and --snapid say; exits with a message. */
void rados_look_at_snap(struct cli *cli, struct limpet_pool *pool);
int rados_mksnap(struct cli *cli);
int rados_rmsnap(struct cli *cli);
int rados_lssnap(struct cli *cli);
int rados_rollback(struct cli *cli);
int rados_listsnaps(struct cli *cli);

/* Locks (rados_lock.c) */
int rados_lock_get(struct cli *cli);
int rados_lock_list(struct cli *cli);
int rados_lock_info(struct cli *cli);
int rados_lock_break(struct cli *cli);

/* Copies (rados_copy.c, rados_stream.c) */
int rados_cp(struct cli *cli);
int rados_cppool(struct cli *cli);
int rados_purge(struct cli *cli);
int rados_export(struct cli *cli);
int rados_import(struct cli *cli);

/* rados_bench.c */
int rados_bench(struct cli *cli);
int rados_cleanup(struct cli *cli);

#endif
