/*
 * Turns: background jobs of an OSD wait here until the throttle lets them begin.
 *
 * A job is a piece of work of some milliseconds: an object that is pushed, a chunk that is
 * scrubbed. Its owner embeds a struct pg_turn, asks, works when go() is called, and ends the turn,
 * also to give it up while it waits. Turns are granted in the order in which they were asked for;
 * urgent ones (a client waits for the object) before all others.
 */
#ifndef LIMPET_OSD_PG_PG_TURN_H
#define LIMPET_OSD_PG_PG_TURN_H

#include <bsd/sys/queue.h>

#include "common/env.h"
#include "osd/pg/pg_throttle.h"

struct pg_turn {
    void (*go)(struct pg_turn *turn); /* Never called from inside pg_turn_ask(). */
    uint32_t bytes;                   /* Of memory that it will need, about; the owner sets it. */
    bool waiting;
    bool running;
    TAILQ_ENTRY(pg_turn) link;
};
TAILQ_HEAD(pg_turn_list, pg_turn);

/* All turns that run may need this much memory. */
enum { PG_TURNS_BYTES_MAX = 24 * 1024 * 1024 };

/* Of an OSD; part of struct pg_world. */
struct pg_turns {
    struct env *env;
    struct pg_throttle throttle;
    struct pg_turn_list waiting;
    uint64_t bytes; /* Of those that run. */
    struct env_timer timer;
};

void pg_turns_init(struct pg_turns *turns, struct env *env);
void pg_turns_fini(struct pg_turns *turns);

/* The turn was zeroed, but for go, or has ended. */
void pg_turn_ask(struct pg_turns *turns, struct pg_turn *turn, bool urgent);
/* To the front, if it waits. */
void pg_turn_hurry(struct pg_turns *turns, struct pg_turn *turn);
/* The job is done. Lets others begin from inside the call: the last thing that a callback does. */
void pg_turn_end(struct pg_turns *turns, struct pg_turn *turn);
/* It is not wanted any more; harmless when the turn neither waits nor runs. Lets nobody begin now.
 */
void pg_turn_drop(struct pg_turns *turns, struct pg_turn *turn);

#endif
