/*
 * Commands to the monitors: sent to whichever monitor we are connected to, again after a session
 * broke or when the monitors had no leader, until one answers or time is up.
 */
#include "client/core/private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/limpet.pb-c.h"

/*
 *   QUEUED --session--> SENT --answer--> AWAITS_MAP --map--> FINISHED --done()--> IDLE
 *   SENT --session lost--> QUEUED;  SENT --no leader--> RETRY --timer--> SENT
 *   any --time-out--> FINISHED
 */
enum {
    COMMAND_IDLE,
    COMMAND_QUEUED,
    COMMAND_SENT,
    COMMAND_RETRY,
    COMMAND_AWAITS_MAP,
    COMMAND_FINISHED
};

/* After so many answers "no leader" in a row another monitor may see one. */
enum { COMMAND_TRIES_PER_MONITOR = 4 };

static void finish(struct client_command *command, int result)
{
    struct client *c = command->client;
    assert(command->state != COMMAND_FINISHED && command->state != COMMAND_IDLE);
    TAILQ_REMOVE(&c->commands, command, link);
    TAILQ_INSERT_TAIL(&c->commands_finished, command, link);
    command->state = COMMAND_FINISHED;
    command->result = result;
    env_timer_stop(c->env, &command->timer);
    env_timer_stop(c->env, &command->retry);
    buf_slice_drop(&command->input);
    client_schedule(c, false);
}

static void send_command(struct client_command *command)
{
    struct client *c = command->client;
    if (c->mon.state != MON_LINK_LIVE) {
        command->state = COMMAND_QUEUED;
        return;
    }
    Limpet__Wire__MonCommand body = LIMPET__WIRE__MON_COMMAND__INIT;
    body.tid = command->tid;
    /* In order: what is before the first has ended, and is never sent again. */
    body.has_oldest = true;
    body.oldest = TAILQ_FIRST(&c->commands)->tid;
    /* protobuf-c does not change what it packs, but does not say so in its types. */
    body.json = (char *)(uintptr_t)command->json;
    command->state = COMMAND_SENT;
    mon_link_send(c, MSG_MON_COMMAND, &body.base, buf_slice_ref(command->input));
    mon_link_busy(c);
}

static void timed_out(struct env_timer *timer)
{
    struct client_command *command = container_of(timer, struct client_command, timer);
    /* It was answered; only our map lags behind. That must not look like a failure. */
    if (command->state == COMMAND_AWAITS_MAP) {
        finish(command, command->result);
        return;
    }
    if (command->status == NULL && command->attempt > 0)
        command->status = strdup("the monitors have no leader");
    finish(command, -ETIMEDOUT);
}

static void retry(struct env_timer *timer)
{
    struct client_command *command = container_of(timer, struct client_command, retry);
    struct client *c = command->client;
    command->state = COMMAND_QUEUED;
    if (command->attempt % COMMAND_TRIES_PER_MONITOR == 0 && c->mon.n > 1 &&
        c->mon.state == MON_LINK_LIVE)
        mon_link_next(c, -ELIMPET_NOT_LEADER);
    else
        send_command(command);
}

void client_command(struct client *c, struct client_command *command)
{
    assert(command->state == COMMAND_IDLE && command->done != NULL);
    command->client = c;
    command->tid = ++c->next_tid;
    command->timer.fire = timed_out;
    command->retry.fire = retry;
    command->attempt = 0;
    TAILQ_INSERT_TAIL(&c->commands, command, link);
    command->state = COMMAND_QUEUED;
    env_timer_after(c->env, &command->timer,
                    command->timeout_ns != 0 ? command->timeout_ns : c->options.connect_timeout_ns);
    if (strlen(command->json) > MESSAGE_BODY_MAX - 64)
        finish(command, -E2BIG);
    else
        send_command(command);
}

void client_command_fini(struct client_command *command)
{
    assert(command->state == COMMAND_IDLE);
    free(command->status);
    command->status = NULL;
    buf_slice_drop(&command->output);
}

void command_mon_live(struct client *c)
{
    struct client_command *command;
    TAILQ_FOREACH(command, &c->commands, link)
    {
        if (command->state == COMMAND_QUEUED || command->state == COMMAND_SENT)
            send_command(command);
    }
}

void command_map_changed(struct client *c)
{
    struct client_command *command, *next;
    for (command = TAILQ_FIRST(&c->commands); command != NULL; command = next) {
        next = TAILQ_NEXT(command, link);
        if (command->state == COMMAND_AWAITS_MAP && c->map->epoch >= command->epoch)
            finish(command, command->result);
    }
}

static void answered(struct client *c, struct client_command *command,
                     const Limpet__Wire__MonCommandReply *reply, struct message *message)
{
    if (reply->result == -ELIMPET_NOT_LEADER || reply->result == -EAGAIN) {
        uint64_t delay = COMMAND_RETRY_MIN_NS << (command->attempt < 5 ? command->attempt : 5);
        command->attempt++;
        command->state = COMMAND_RETRY;
        env_timer_after(c->env, &command->retry,
                        delay < COMMAND_RETRY_MAX_NS ? delay : COMMAND_RETRY_MAX_NS);
        return;
    }
    free(command->status);
    command->status = reply->status != NULL ? strdup(reply->status) : NULL;
    command->output = buf_slice_ref(message->payload);
    command->result = reply->result < 0 ? reply->result : 0;
    command->epoch = reply->epoch;
    command->state = COMMAND_AWAITS_MAP;
    if (c->map != NULL && c->map->epoch >= command->epoch)
        finish(command, command->result);
}

void command_received(struct client *c, struct message *message)
{
    Limpet__Wire__MonCommandReply *reply = (Limpet__Wire__MonCommandReply *)message_unpack(
        message, &limpet__wire__mon_command_reply__descriptor);
    if (reply == NULL) {
        mon_link_next(c, -EBADMSG);
        return;
    }
    if (reply->tid == 0 && reply->result < 0) {
        /* What it refuses is our subscription. */
        int error = reply->result;
        protobuf_c_message_free_unpacked(&reply->base, NULL);
        mon_link_next(c, error);
        return;
    }
    struct client_command *command;
    TAILQ_FOREACH(command, &c->commands, link)
    {
        if (command->tid == reply->tid && command->state == COMMAND_SENT) {
            answered(c, command, reply, message);
            break;
        }
    }
    protobuf_c_message_free_unpacked(&reply->base, NULL);
}

void command_run_finished(struct client *c)
{
    for (struct client_command *command; (command = TAILQ_FIRST(&c->commands_finished)) != NULL;) {
        TAILQ_REMOVE(&c->commands_finished, command, link);
        command->state = COMMAND_IDLE;
        command->done(command);
    }
}

void command_fail_all(struct client *c, int error)
{
    for (struct client_command *command; (command = TAILQ_FIRST(&c->commands)) != NULL;)
        finish(command, error);
    command_run_finished(c);
}

bool command_pending(const struct client *c)
{
    return !TAILQ_EMPTY(&c->commands);
}
