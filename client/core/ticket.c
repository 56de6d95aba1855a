/*
 * How this client proves who it is: to monitors by its own key, to OSDs by a ticket, which the
 * monitors give and which is renewed well before it runs out.
 */
#include "client/core/private.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "common/limpet.pb-c.h"
#include "common/log.h"

static int credential(void *ctx, const struct entity_name *peer, struct auth_ticket *out)
{
    struct client *c = ctx;
    memset(out, 0, sizeof *out);
    if (peer->type == ENTITY_MON) {
        out->secret = c->options.secret;
        return 0;
    }
    if (peer->type != ENTITY_OSD || c->ticket.ticket.len == 0)
        return -ENOENT;
    *out = c->ticket.ticket;
    return 0;
}

static void refused(void *ctx, const struct entity_name *peer)
{
    (void)peer;
    ticket_drop(ctx);
}

static void request(struct client *c)
{
    struct client_ticket *t = &c->ticket;
    t->wanted = true;
    if (c->mon.state != MON_LINK_LIVE)
        return;
    t->tid = ++c->next_tid;
    t->asked_ns = env_now(c->env);
    Limpet__Wire__MonGetTicket get = LIMPET__WIRE__MON_GET_TICKET__INIT;
    get.tid = t->tid;
    get.service = ENTITY_OSD;
    mon_link_send(c, MSG_MON_GET_TICKET, &get.base, BUF_SLICE_EMPTY);
    env_timer_after(c->env, &t->timer, TICKET_RETRY_NS);
}

static void timer_fired(struct env_timer *timer)
{
    struct client *c = container_of(timer, struct client, ticket.timer);
    request(c);
}

bool ticket_ready(struct client *c)
{
    struct client_ticket *t = &c->ticket;
    if (t->ticket.len > 0)
        return true;
    if (!t->wanted)
        request(c);
    return false;
}

void ticket_mon_live(struct client *c)
{
    if (c->ticket.wanted)
        request(c);
}

/*
 * A ticket that was refused is of no use to anybody else either. The next one is asked for at
 * once, or a while after the last: an OSD that refuses all must not make us ask without end.
 */
void ticket_drop(struct client *c)
{
    struct client_ticket *t = &c->ticket;
    if (t->ticket.len == 0)
        return;
    sodium_memzero(&t->ticket, sizeof t->ticket);
    t->wanted = true;
    uint64_t next = t->asked_ns + TICKET_RETRY_NS;
    if (next <= env_now(c->env))
        request(c);
    else
        env_timer_arm(c->env, &t->timer, next);
}

static int take(struct client *c, const Limpet__Wire__MonTicket *answer)
{
    struct auth_ticket ticket = {0};
    if (answer->result != 0)
        return answer->result < 0 ? answer->result : -EBADMSG;
    if (answer->ticket.len == 0 || answer->ticket.len > AUTH_TICKET_MAX)
        return -EBADMSG;
    int len = auth_unseal(&c->options.secret, answer->sealed_secret.data, answer->sealed_secret.len,
                          ticket.secret.bytes, sizeof ticket.secret.bytes);
    if (len <= 0)
        return -EBADMSG;
    ticket.secret.len = (uint8_t)len;
    ticket.len = (uint16_t)answer->ticket.len;
    memcpy(ticket.blob, answer->ticket.data, answer->ticket.len);
    c->ticket.ticket = ticket;
    sodium_memzero(&ticket, sizeof ticket);
    return 0;
}

static void answered(struct client *c, const Limpet__Wire__MonTicket *answer)
{
    struct client_ticket *t = &c->ticket;
    t->tid = 0;
    int rc = take(c, answer);
    if (rc == 0) {
        t->wanted = false;
        uint64_t valid_s = answer->valid_seconds < 4 ? 4 : answer->valid_seconds;
        valid_s = valid_s < 30 * 86400 ? valid_s : 30 * 86400;
        env_timer_after(c->env, &t->timer, valid_s / 4 * 3 * SEC_NS);
        client_schedule(c, true);
        return;
    }
    log_warn(c->env, "no ticket", "error=%d", rc);
    env_timer_after(c->env, &t->timer, TICKET_RETRY_NS);
    if ((rc == -EACCES || rc == -EPERM) && t->ticket.len == 0) {
        /* This entity may not use OSDs. Whoever tries again later makes us ask again. */
        t->wanted = false;
        env_timer_stop(c->env, &t->timer);
        target_no_ticket(c, -EACCES);
    }
}

void ticket_received(struct client *c, struct message *message)
{
    Limpet__Wire__MonTicket *answer =
        (Limpet__Wire__MonTicket *)message_unpack(message, &limpet__wire__mon_ticket__descriptor);
    if (answer == NULL) {
        mon_link_next(c, -EBADMSG);
        return;
    }
    if (c->ticket.tid != 0 && answer->tid == c->ticket.tid)
        answered(c, answer);
    protobuf_c_message_free_unpacked(&answer->base, NULL);
}

void ticket_init(struct client *c)
{
    c->ticket.timer.fire = timer_fired;
    c->auth = (struct auth_provider){
        .self = c->options.name,
        .fsid = uuid_is_zero(&c->fsid) ? NULL : &c->fsid,
        .ctx = c,
        .credential = credential,
        .ticket_refused = refused,
    };
}

void ticket_fini(struct client *c)
{
    env_timer_stop(c->env, &c->ticket.timer);
    sodium_memzero(&c->ticket.ticket, sizeof c->ticket.ticket);
}
