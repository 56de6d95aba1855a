/* Calls of librados that are wrong, or at a limit: what the files of this program share. */
#ifndef LIMPET_TESTS_COMPAT_MISUSE_H
#define LIMPET_TESTS_COMPAT_MISUSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rados/librados.h>

/* Prints what was done, and what it gave. */
__attribute__((format(printf, 2, 3))) void say(long long result, const char *format, ...);

/* So many of a letter, valid until the program's end. */
const char *letters(size_t n);

void misuse_cluster(rados_t cluster, const char *pool);
void misuse_commands(rados_t cluster);
void misuse_objects(rados_t cluster, rados_ioctx_t io);
void misuse_attributes(rados_ioctx_t io);
void misuse_operations(rados_ioctx_t io);
void misuse_locks(rados_ioctx_t io);
void misuse_asynchronous(rados_ioctx_t io);
void misuse_applications(rados_ioctx_t io);
void misuse_own_snapshots(rados_ioctx_t io);
void misuse_self_snapshots(rados_ioctx_t io);
void misuse_watches(rados_t cluster, rados_ioctx_t io);

#endif
