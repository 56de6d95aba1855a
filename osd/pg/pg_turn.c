#include "osd/pg/pg_turn.h"

#include <assert.h>
#include <stddef.h>

static void grant(struct pg_turns *turns)
{
    struct pg_turn *turn;
    uint64_t wait_ns = 0;
    while ((turn = TAILQ_FIRST(&turns->waiting))) {
        uint64_t now = env_now(turns->env);
        if (turns->bytes > 0 && turns->bytes + turn->bytes > PG_TURNS_BYTES_MAX)
            return;
        if (!pg_throttle_may_begin(&turns->throttle, now, &wait_ns))
            break;
        TAILQ_REMOVE(&turns->waiting, turn, link);
        turn->waiting = false;
        turn->running = true;
        turns->bytes += turn->bytes;
        pg_throttle_job_begin(&turns->throttle, true, now);
        turn->go(turn);
    }
    if (turn && wait_ns > 0)
        env_timer_after(turns->env, &turns->timer, wait_ns);
}

/* From the loop, and not from whatever is going on now. */
static void grant_soon(struct pg_turns *turns)
{
    env_timer_arm(turns->env, &turns->timer, env_now(turns->env));
}

static void timer_fire(struct env_timer *timer)
{
    grant(container_of(timer, struct pg_turns, timer));
}

void pg_turns_init(struct pg_turns *turns, struct env *env)
{
    turns->env = env;
    pg_throttle_init(&turns->throttle);
    TAILQ_INIT(&turns->waiting);
    turns->timer.fire = timer_fire;
}

void pg_turns_fini(struct pg_turns *turns)
{
    assert(TAILQ_EMPTY(&turns->waiting) && turns->throttle.own == 0);
    env_timer_stop(turns->env, &turns->timer);
}

void pg_turn_ask(struct pg_turns *turns, struct pg_turn *turn, bool urgent)
{
    assert(!turn->waiting && !turn->running);
    turn->waiting = true;
    if (urgent)
        TAILQ_INSERT_HEAD(&turns->waiting, turn, link);
    else
        TAILQ_INSERT_TAIL(&turns->waiting, turn, link);
    grant_soon(turns);
}

void pg_turn_hurry(struct pg_turns *turns, struct pg_turn *turn)
{
    if (!turn->waiting)
        return;
    TAILQ_REMOVE(&turns->waiting, turn, link);
    TAILQ_INSERT_HEAD(&turns->waiting, turn, link);
}

static void leave(struct pg_turns *turns, struct pg_turn *turn)
{
    if (turn->waiting)
        TAILQ_REMOVE(&turns->waiting, turn, link);
    if (turn->running) {
        assert(turns->bytes >= turn->bytes);
        turns->bytes -= turn->bytes;
        pg_throttle_job_end(&turns->throttle, true, env_now(turns->env));
    }
    turn->waiting = turn->running = false;
}

void pg_turn_end(struct pg_turns *turns, struct pg_turn *turn)
{
    assert(turn->running);
    leave(turns, turn);
    grant(turns);
}

void pg_turn_drop(struct pg_turns *turns, struct pg_turn *turn)
{
    if (!turn->waiting && !turn->running)
        return;
    leave(turns, turn);
    if (!TAILQ_EMPTY(&turns->waiting))
        grant_soon(turns);
}
