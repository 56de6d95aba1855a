/*
 * What the main programs of limpet-mon and limpet-osd share: command line, configuration, one
 * process a data folder, going to the background, signals.
 *
 *     static struct daemon d;
 *     daemon_start(&d, &program, argc, argv);    -- parses, loads, checks; exits on any error
 *     ... make the env, the monitor; with --mkfs: make the files and return 0 ...
 *     daemon_run_signals(&d, loop, stop, ctx);   -- SIGTERM and SIGINT call stop(ctx) once
 *     daemon_ready(&d);                          -- --daemonize: the parent exits with 0 now
 *     env_real_run(env);
 *     daemon_finish(&d);
 *
 * A program has one struct daemon. Every failure is one line "limpet-osd: ..." on standard error
 * (of the parent, with --daemonize, until daemon_ready()) and an exit status that is an errno.
 */
#ifndef LIMPET_COMMON_DAEMON_H
#define LIMPET_COMMON_DAEMON_H

#include <stdbool.h>
#include <uv.h>

#include "common/auth.h"
#include "common/config.h"
#include "common/entity.h"
#include "common/env_real.h"
#include "common/error.h"

enum { DAEMON_PATH_MAX = 4096 };

struct daemon_program {
    const char *name;        /* "limpet-osd" */
    enum entity_type type;   /* ENTITY_MON or ENTITY_OSD */
    const char *data_option; /* "osd_data" */
    const char *description; /* One line for --help. */
};

struct daemon {
    const struct daemon_program *program;
    struct entity_name self;
    struct config *config;
    struct keyring keyring;
    bool mkfs;
    char data_dir[DAEMON_PATH_MAX]; /* Absolute; exists. */

    /* Private. */
    bool daemonize;
    int ready_fd; /* To the waiting parent; -1: there is none. */
    int data_lock_fd;
    char pid_file[DAEMON_PATH_MAX];
    char log_file[DAEMON_PATH_MAX];
    uv_signal_t signals[3];
    uint32_t n_signals;
    bool stopping;
    void (*stop)(void *ctx);
    void *stop_ctx;
};

/*
 * Parses the command line, loads configuration and keyring, takes the data folder for this process,
 * opens the log, goes to the background if asked to. Returns only when all of that went well;
 * --help and --version print and exit with 0.
 */
void daemon_start(struct daemon *daemon, const struct daemon_program *program, int argc,
                  char **argv);

/* What the configuration says about the world: mode and limits, and the data folder. */
void daemon_env_options(struct daemon *daemon, struct env_real_options *out);

/*
 * From now on SIGTERM and SIGINT call stop(ctx), once (a second one ends the process), and SIGHUP
 * opens the log file again. The signal handles do not keep the loop alive.
 */
void daemon_run_signals(struct daemon *daemon, uv_loop_t *loop, void (*stop)(void *ctx), void *ctx);

/* The daemon serves: a parent that waits exits with 0, and standard output and error go away. */
void daemon_ready(struct daemon *daemon);

/* Closes the signal handles, so that the loop can be closed. Before env_real_destroy(). */
void daemon_end_signals(struct daemon *daemon);

/* Removes the pid file, frees the configuration, wipes the keyring, lets go of the data folder. */
void daemon_finish(struct daemon *daemon);

/* Prints "PROGRAM: text" on standard error, and writes it to the log when that is a file. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Complains with the text and, unless error is 0, ": " and what it means; exits with the error's
 * status, or 1.
 */
_Noreturn void die(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for a text that explains itself. */
_Noreturn void die_because(int error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
