/*
 * The messenger: sessions and messages of the real world, over TCP on a libuv loop.
 *
 * This is what common/env_real.c is made of; its users see the net_*() calls of common/env.h, which
 * say what each of these functions does. All of it happens on one loop; messenger_turn() must be
 * called whenever a turn of the loop ends, and before the loop blocks.
 */
#ifndef LIMPET_COMMON_MESSENGER_H
#define LIMPET_COMMON_MESSENGER_H

#include <uv.h>

#include "common/auth.h"
#include "common/env.h"

struct messenger;

struct messenger_options {
    enum auth_mode mode;
    uint64_t receive_limit; /* Bytes of payloads received and not yet released. */
};

/* env and loop stay valid as long as the messenger. */
int messenger_create(struct env *env, uv_loop_t *loop, const struct messenger_options *options,
                     struct messenger **out) MUST_CHECK;
void messenger_set_auth(struct messenger *m, const struct auth_provider *provider);
void messenger_set_handlers(struct messenger *m, const struct net_handlers *handlers, void *ctx);

int messenger_listen(struct messenger *m, const struct net_address *want,
                     struct net_address *bound) MUST_CHECK;
/* From where that one would be reached; asks the system only, nothing is sent. */
int messenger_local_address(const struct net_address *to, struct net_address *out) MUST_CHECK;
int messenger_open(struct messenger *m, const struct net_address *to,
                   const struct net_expect *expect, void *user,
                   struct net_session **out) MUST_CHECK;
void messenger_send(struct messenger *m, struct net_session *session, struct message *message);
void messenger_close(struct messenger *m, struct net_session *session);
void messenger_abandon(struct messenger *m, struct net_session *session);
void messenger_pause(struct messenger *m, struct net_session *session, bool paused);
uint64_t messenger_heard_ns(struct messenger *m, const struct net_session *session) MUST_CHECK;

/* Calls owed to the user, new connections, and all that was sent. */
void messenger_turn(struct messenger *m);
/* How many times the user has been called so far: tells whether anything happened. */
uint64_t messenger_calls(const struct messenger *m) MUST_CHECK;
/* There is something that the next turn should do at once. */
bool messenger_wants_turn(const struct messenger *m) MUST_CHECK;

/* The user is gone: no more callbacks; ends all sessions in order, stops listening. */
void messenger_stop(struct messenger *m);
/* After messenger_stop(): no connection is left that still says good-bye. */
bool messenger_quiet(const struct messenger *m) MUST_CHECK;
/* Drops the remaining connections. The loop must then run until all its handles are closed. */
void messenger_drop(struct messenger *m);
/* After that: frees. Payloads that are still referenced stay valid. */
void messenger_destroy(struct messenger *m);

#endif
