#include "tests/sim/model_team.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/linear_model.h"

enum liveness { DEAD, PERHAPS, ALIVE };

static enum liveness liveness(const struct model_member *member, const struct history_op *op)
{
    if (member->ends_low == HISTORY_NEVER || op->returned < member->ends_low)
        return ALIVE;
    return op->called < member->ends_high ? PERHAPS : DEAD;
}

uint64_t model_team_key(const struct model_team *team)
{
    uint64_t key = model_mix(model_mix(team->noted, team->wild), team->type);
    for (uint32_t i = 0; i < team->n; i++) {
        const struct model_member *member = &team->members[i];
        key = model_mix(model_mix(key, member->instance), member->cookie);
        key = model_mix(model_mix(key, member->ends_low), member->ends_high);
    }
    return key;
}

/* ---- Members ---- */

static struct model_member *find(struct model_team *team, uint64_t instance, uint64_t cookie)
{
    for (uint32_t i = 0; i < team->n; i++)
        if (team->members[i].instance == instance && team->members[i].cookie == cookie)
            return &team->members[i];
    return NULL;
}

static void drop(struct model_team *team, struct model_member *member)
{
    struct model_member *end = &team->members[team->n--];
    memmove(member, member + 1, (size_t)(end - member - 1) * sizeof *member);
}

static void drop_dead(struct model_team *team, const struct history_op *op)
{
    for (uint32_t i = team->n; i-- > 0;)
        if (liveness(&team->members[i], op) == DEAD)
            drop(team, &team->members[i]);
}

static void insert(struct model_team *team, struct model_member member)
{
    uint32_t at = 0;
    if (team->n == MODEL_TEAM_MAX) {
        *team = (struct model_team){.wild = true};
        return;
    }
    while (at < team->n && (team->members[at].instance < member.instance ||
                            (team->members[at].instance == member.instance &&
                             team->members[at].cookie < member.cookie)))
        at++;
    memmove(&team->members[at + 1], &team->members[at], (team->n - at) * sizeof team->members[0]);
    team->members[at] = member;
    team->n++;
}

static enum liveness liveness_of(const struct model_member *member, const struct history_op *op)
{
    return member ? liveness(member, op) : DEAD;
}

static enum liveness others(const struct model_team *team, const struct model_member *mine,
                            const struct history_op *op)
{
    enum liveness most = DEAD;
    for (uint32_t i = 0; i < team->n; i++) {
        enum liveness one = liveness(&team->members[i], op);
        if (&team->members[i] != mine && one > most)
            most = one;
    }
    return most;
}

/* ---- Changes ---- */

/* Whether somebody was there for the operation: where either is right, its result tells. */
static bool was_there(enum liveness alive, const struct history_op *op, int if_there)
{
    bool known = op->returned != HISTORY_NEVER;
    return alive == ALIVE || (alive == PERHAPS && known && op->result == if_there);
}

static bool was_gone(enum liveness alive, const struct history_op *op, int if_gone)
{
    bool known = op->returned != HISTORY_NEVER;
    return alive == DEAD || (alive == PERHAPS && known && op->result == if_gone);
}

static struct model_member joining(const struct history_op *op)
{
    struct model_member member = {.instance = op->offset,
                                  .cookie = op->expected,
                                  .ends_low = HISTORY_NEVER,
                                  .ends_high = HISTORY_NEVER};
    if (op->len > 0) {
        member.ends_low = op->called + op->len;
        member.ends_high = op->returned == HISTORY_NEVER ? HISTORY_NEVER : op->returned + op->len;
    }
    return member;
}

static int join(const struct history_op *op, struct model_team *team)
{
    uint32_t type = op->kind == HISTORY_SEIZE ? HISTORY_TEAM_EXCLUSIVE : HISTORY_TEAM_SHARED;
    struct model_member *mine = find(team, op->offset, op->expected);
    bool alone = type == HISTORY_TEAM_EXCLUSIVE || team->type != type;
    if (op->period && was_gone(liveness_of(mine, op), op, -ENOENT))
        return -ENOENT;
    if (alone && was_there(others(team, mine, op), op, -EBUSY))
        return -EBUSY;
    if (alone)
        team->n = 0;
    else if (mine)
        drop(team, mine);
    team->type = type;
    team->noted = true;
    insert(team, joining(op));
    return 0;
}

static int leave(const struct history_op *op, struct model_team *team)
{
    struct model_member *mine = find(team, op->offset, op->expected);
    if (was_gone(liveness_of(mine, op), op, -ENOENT))
        return -ENOENT;
    drop(team, mine);
    if (team->n == 0)
        team->noted = false;
    return 0;
}

/* As `period` says, with the cookie. */
static int held(const struct history_op *op, struct model_team *team)
{
    const struct model_member *mine = find(team, op->offset, op->expected);
    if (was_gone(liveness_of(mine, op), op, -EBUSY) || team->type != op->period)
        return -EBUSY;
    return 0;
}

static int rename_member(const struct history_op *op, struct model_team *team)
{
    int error = held(op, team);
    struct model_member *other = find(team, op->offset, 1 - op->expected);
    if (error || was_there(liveness_of(other, op), op, -EBUSY))
        return -EBUSY;
    if (other)
        drop(team, other);
    struct model_member *mine = find(team, op->offset, op->expected), renamed = *mine;
    drop(team, mine);
    renamed.cookie = 1 - op->expected;
    insert(team, renamed);
    return 0;
}

int model_team_run(const struct history_op *op, struct model_team *team)
{
    if (team->wild)
        return op->returned == HISTORY_NEVER ? 0 : op->result;
    drop_dead(team, op);
    switch (op->kind) {
    case HISTORY_SHARE:
    case HISTORY_SEIZE:
        return join(op, team);
    case HISTORY_LEAVE:
    case HISTORY_EVICT:
        return leave(op, team);
    case HISTORY_RENAME:
        return rename_member(op, team);
    case HISTORY_HELD:
        return held(op, team);
    default:
        abort();
    }
}

/* ---- What is found ---- */

/* Whether the rest of the sum is that of all who are there, and some who may be. */
static bool explain_sum(const struct history_op *op, const struct model_team *team, uint32_t i,
                        uint64_t left)
{
    if (i == team->n)
        return left == 0;
    const struct model_member *member = &team->members[i];
    enum liveness alive = liveness(member, op);
    uint64_t one = history_member_hash(member->instance, member->cookie);
    return (alive != ALIVE && explain_sum(op, team, i + 1, left)) ||
           (alive != DEAD && explain_sum(op, team, i + 1, left - one));
}

bool model_team_explain(const struct history_op *op, const struct model_team *team, uint64_t holder)
{
    if (team->wild)
        return true;
    bool found = op->hash != 0, listed = op->size & HISTORY_TEAM_LISTED;
    if ((op->size & HISTORY_LOCK_LISTED) != (holder ? HISTORY_LOCK_LISTED : 0))
        return false;
    if ((found && !listed) || (listed && !team->noted) || (found && op->period != team->type))
        return false;
    return explain_sum(op, team, 0, op->hash);
}
