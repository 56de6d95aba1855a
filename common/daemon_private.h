/*
 * What daemon.c and daemon_process.c share: the steps of becoming a daemon.
 */
#ifndef LIMPET_COMMON_DAEMON_PRIVATE_H
#define LIMPET_COMMON_DAEMON_PRIVATE_H

#include "common/daemon.h"

/* The name that die() puts before its lines. */
void daemon_process_name(const char *program);

/* Goes on in a child process; the parent waits for it to be ready or to fail, and exits. */
void daemon_process_fork(struct daemon *daemon);

/* Makes sure that no other process uses the data folder; dies naming the one that does. */
void daemon_process_lock_data(struct daemon *daemon);

void daemon_process_write_pid(struct daemon *daemon);

void daemon_process_open_log(struct daemon *daemon);

/* As many open files as the system allows. */
void daemon_process_raise_limits(void);

#endif
