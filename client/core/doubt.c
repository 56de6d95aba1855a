/*
 * Operations on pools that our map does not know yet.
 *
 * Pools are numbered in the order of their creation, and numbers are not used again. So a missing
 * pool whose number was given out is gone, but one with a higher number may be newer than our map:
 * a monitor that has just restarted, or is cut off, may know less than whoever gave our caller
 * the number. Then the leader is asked, by any command: its answer arrives with a map that is at
 * least as new as the question. Only then there is no such pool.
 */
#include "client/core/private.h"

#include <assert.h>
#include <errno.h>

static void ask(struct client *c);

static bool is_unknown(const struct client *c, const struct client_op *op)
{
    uint64_t pool = op->object.pool;
    return map_pool(c->map, pool) == NULL && pool >= c->map->next_pool_id;
}

bool doubt_take(struct client *c, struct client_op *op)
{
    if (op->pool_checked || !is_unknown(c, op))
        return false;
    op->state = CLIENT_OP_DOUBTFUL;
    TAILQ_INSERT_TAIL(&c->doubt.ops, op, link);
    ask(c);
    return true;
}

void doubt_remove(struct client *c, struct client_op *op)
{
    TAILQ_REMOVE(&c->doubt.ops, op, link);
}

/* Back to the line, before those that were submitted later. */
static void back_in_line(struct client *c,
                         bool (*chosen)(const struct client *c, const struct client_op *op))
{
    struct client_op_list back = TAILQ_HEAD_INITIALIZER(back);
    struct client_op *op, *next;
    for (op = TAILQ_FIRST(&c->doubt.ops); op != NULL; op = next) {
        next = TAILQ_NEXT(op, link);
        if (!chosen(c, op))
            continue;
        TAILQ_REMOVE(&c->doubt.ops, op, link);
        op->state = CLIENT_OP_WAITING;
        TAILQ_INSERT_TAIL(&back, op, link);
    }
    if (TAILQ_EMPTY(&back))
        return;
    TAILQ_CONCAT(&back, &c->waiting, link);
    TAILQ_CONCAT(&c->waiting, &back, link);
    client_schedule(c, false);
}

static bool is_checked(const struct client *c, const struct client_op *op)
{
    (void)c;
    return op->pool_checked;
}

static bool is_known(const struct client *c, const struct client_op *op)
{
    return !is_unknown(c, op);
}

/* Operations that came after the question need another one: their pools may be newer still. */
static void answered(struct client_command *command)
{
    struct client_doubt *doubt = container_of(command, struct client_doubt, command);
    struct client *c = doubt->client;
    struct client_op *op;
    int result = command->result;
    client_command_fini(command);
    doubt->asked = false;
    if (result == -ECANCELED)
        return; /* The client is going. */
    /* One who may not ask the monitors has to believe the map. */
    bool sure = result == 0 || result == -EACCES;
    TAILQ_FOREACH(op, &doubt->ops, link)
    {
        op->pool_checked = op->pool_asked && sure;
    }
    back_in_line(c, is_checked);
    if (!TAILQ_EMPTY(&doubt->ops))
        ask(c);
}

static void ask(struct client *c)
{
    struct client_doubt *doubt = &c->doubt;
    struct client_op *op;
    if (doubt->asked)
        return;
    doubt->asked = true;
    TAILQ_FOREACH(op, &doubt->ops, link)
    {
        op->pool_asked = true;
    }
    doubt->client = c;
    doubt->command = (struct client_command){.json = "{\"prefix\": \"fsid\"}", .done = answered};
    client_command(c, &doubt->command);
}

void doubt_map_changed(struct client *c)
{
    back_in_line(c, is_known);
}
