/*
 * The real world: libuv's loop, TCP with the messenger (common/README.md), files, the thread pool.
 *
 * Only main programs, liblimpet and tests include this; protocol code knows struct env alone.
 */
#ifndef LIMPET_COMMON_ENV_REAL_H
#define LIMPET_COMMON_ENV_REAL_H

#include <uv.h>

#include "common/auth.h"
#include "common/env.h"
#include "common/error.h"

enum net_mode {
    NET_MODE_INTEGRITY = 1, /* Authenticated; every frame carries a keyed tag over all its bytes. */
    NET_MODE_ENCRYPTED = 2, /* And is encrypted. */
};

struct env_real_options {
    const char *data_dir; /* Relative file names start here; NULL: the current directory. */
    enum net_mode mode;   /* What we ask for; encryption wins when either side asks. */
    uint64_t instance;    /* 0: random */
    /*
     * Bytes of payloads received and not yet released by their users, beyond which further payloads
     * are left in the network. A message without payload always gets through; of a peer that is no
     * client, one with payload as well while nothing else of it is held, so that daemons that wait
     * for each other do not wait for ever. So payloads must not be kept for long.
     */
    uint64_t receive_limit; /* 0: default 256 MiB */
};

int env_real_create(const struct env_real_options *options, struct env **out) MUST_CHECK;

/* Who we are and how peers are checked. Must be set before the loop turns with a listener or
 * session. */
void env_real_set_auth(struct env *env, const struct auth_provider *provider);

/* The loop, for signal handlers and the like of main programs. What is left on it when the env is
 * destroyed is closed then, and must stay valid until that returns. */
uv_loop_t *env_real_loop(struct env *env);

/* Runs until env_real_stop(). */
void env_real_run(struct env *env);
/* Any thread. */
void env_real_stop(struct env *env);

/*
 * One turn of the loop; with `wait` blocks until there is something to do or env_real_wake(). For
 * liblimpet, whose callers drive the loop.
 */
void env_real_turn(struct env *env, bool wait);
/* Any thread: makes a blocked turn return. */
void env_real_wake(struct env *env);

/* Closes sessions, listeners and files; frees. */
void env_real_destroy(struct env *env);

#endif
