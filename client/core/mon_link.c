/*
 * The session with one monitor.
 *
 * Hunting starts at a random candidate, so that clients spread over the monitors, and goes on to
 * the next whenever one fails; after a round without success there is a pause, which grows. A
 * monitor counts as found when the first map came (or, once there is a map, when the session is
 * authenticated). From then on it must give signs of life: it is pinged, more often while somebody
 * waits for it. A monitor that lives but does not move while operations wait for a new map may be
 * cut off from its peers: the next one is tried then.
 */
#include "client/core/private.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/limpet.pb-c.h"
#include "common/log.h"

static void attempt(struct client *c);
static void timer_fired(struct env_timer *timer);

/* ---- Candidates ---- */

static void add_candidate(struct mon_link *link, const char *name,
                          const struct net_address *address)
{
    for (uint32_t i = 0; i < link->n; i++) {
        if (!net_address_equal(&link->candidates[i].address, address))
            continue;
        if (name != NULL)
            snprintf(link->candidates[i].name.id, sizeof link->candidates[i].name.id, "%s", name);
        return;
    }
    if (link->n == CLIENT_MONS_MAX)
        return;
    struct mon_candidate *candidate = &link->candidates[link->n++];
    *candidate = (struct mon_candidate){.name.type = ENTITY_MON, .address = *address};
    if (name != NULL)
        snprintf(candidate->name.id, sizeof candidate->name.id, "%s", name);
}

/* The monitors of the map, and those of the configuration in case that all of the map have moved.
 */
static void gather_candidates(struct client *c)
{
    struct mon_link *link = &c->mon;
    link->n = 0;
    for (uint32_t i = 0; c->map != NULL && i < c->map->n_mons; i++)
        add_candidate(link, c->map->mons[i].name, &c->map->mons[i].address);
    for (uint32_t i = 0; i < c->options.n_mons; i++)
        add_candidate(link, NULL, &c->options.mons[i]);
}

static const char *candidate_text(const struct mon_link *link, uint32_t i)
{
    if (link->candidates[i].error != 0)
        return auth_error_text(link->candidates[i].error);
    return link->session != NULL && link->current == i ? "no answer" : "not tried";
}

void mon_link_describe(struct client *c)
{
    struct mon_link *link = &c->mon;
    size_t at = (size_t)snprintf(c->connect_error, sizeof c->connect_error, "monclient: ");
    if (link->n == 0)
        snprintf(c->connect_error + at, sizeof c->connect_error - at, "no monitor is configured");
    for (uint32_t i = 0; i < link->n && at < sizeof c->connect_error; i++) {
        const struct mon_candidate *candidate = &link->candidates[i];
        char address[NET_ADDRESS_TEXT_MAX];
        int n = snprintf(c->connect_error + at, sizeof c->connect_error - at, "%s%s: %s",
                         i > 0 ? "; " : "", net_address_format(&candidate->address, address),
                         candidate_text(link, i));
        at += n > 0 ? (size_t)n : 0;
    }
}

/* ---- Hunting ---- */

static int round_error(const struct mon_link *link)
{
    int error = 0;
    for (uint32_t i = 0; i < link->n; i++) {
        /* Somebody who knows has refused us: asking again changes nothing. */
        if (link->candidates[i].error == -EXDEV)
            return -EINVAL;
        if (link->candidates[i].error == -EACCES)
            error = -EACCES;
    }
    return error;
}

static void round_over(struct client *c)
{
    struct mon_link *link = &c->mon;
    link->tried = 0;
    int error = link->n == 0 ? -EINVAL : round_error(link);
    if (c->connect_done != NULL && error != 0) {
        client_connected(c, error);
        return;
    }
    uint64_t delay = MON_ROUND_DELAY_MIN_NS << (link->rounds < 8 ? link->rounds : 8);
    link->rounds++;
    link->state = MON_LINK_PAUSED;
    env_timer_after(c->env, &link->timer,
                    delay < MON_ROUND_DELAY_MAX_NS ? delay : MON_ROUND_DELAY_MAX_NS);
}

static void failed(struct client *c, int error)
{
    struct mon_link *link = &c->mon;
    assert(link->state == MON_LINK_TRYING && link->session == NULL);
    link->candidates[link->current].error = error;
    link->tried++;
    if (link->tried >= link->n) {
        round_over(c);
        return;
    }
    link->current = (link->current + 1) % link->n;
    attempt(c);
}

static void attempt(struct client *c)
{
    struct mon_link *link = &c->mon;
    assert(link->session == NULL && link->n > 0);
    const struct mon_candidate *candidate = &link->candidates[link->current];
    struct net_expect expect = {.name = candidate->name};
    link->state = MON_LINK_TRYING;
    int rc = net_open(c->env, &candidate->address, &expect, link, &link->session);
    if (rc != 0) {
        link->session = NULL;
        failed(c, rc);
        return;
    }
    env_timer_after(c->env, &link->timer, MON_ATTEMPT_NS);
}

/* Starts a round at the candidate after the current one; the very first at a random one. */
static void hunt(struct client *c)
{
    struct mon_link *link = &c->mon;
    struct net_address last = {0};
    if (link->n > 0)
        last = link->candidates[link->current].address;
    gather_candidates(c);
    link->tried = 0;
    if (link->n == 0) {
        link->state = MON_LINK_TRYING;
        round_over(c);
        return;
    }
    link->current = (uint32_t)(env_random_u64(c->env) % link->n);
    for (uint32_t i = 0; last.family != 0 && i < link->n; i++) {
        if (net_address_equal(&link->candidates[i].address, &last))
            link->current = (i + 1) % link->n;
    }
    attempt(c);
}

void mon_link_next(struct client *c, int error)
{
    struct mon_link *link = &c->mon;
    if (link->session != NULL)
        net_close(c->env, link->session);
    mon_link_closed(c, error);
}

void mon_link_closed(struct client *c, int error)
{
    struct mon_link *link = &c->mon;
    link->session = NULL;
    if (link->state == MON_LINK_TRYING) {
        failed(c, error);
    } else if (link->state == MON_LINK_LIVE) {
        log_debug(c->env, "monitor session lost", "error=%d", error);
        hunt(c);
    }
}

/* ---- A session that works ---- */

static void arm_ping(struct client *c)
{
    struct mon_link *link = &c->mon;
    bool busy = command_pending(c) || !TAILQ_EMPTY(&c->waits) || target_stalled(c);
    uint64_t delay = link->ping_out ? MON_PING_ANSWER_NS
                     : busy         ? MON_PING_BUSY_NS
                                    : MON_PING_IDLE_NS;
    env_timer_after(c->env, &link->timer, delay);
}

void mon_link_busy(struct client *c)
{
    struct mon_link *link = &c->mon;
    uint64_t soon = env_now(c->env) + MON_PING_BUSY_NS;
    if (link->state == MON_LINK_LIVE && !link->ping_out && link->timer.deadline_ns > soon)
        env_timer_arm(c->env, &link->timer, soon);
}

static void ping(struct client *c)
{
    struct message *m = message_create(MSG_PING, sizeof(struct wire_ping));
    if (m == NULL)
        return;
    struct wire_ping body = {.stamp_ns = env_now(c->env),
                             .epoch = c->map != NULL ? c->map->epoch : 0};
    memcpy(m->body, &body, sizeof body);
    c->mon.ping_out = true;
    net_send(c->env, c->mon.session, m);
}

/* True when operations have been waiting for a map for so long that another monitor may know more.
 */
static bool stalled_too_long(struct client *c)
{
    struct mon_link *link = &c->mon;
    if (!target_stalled(c)) {
        link->stalled_since_ns = 0;
        link->stalls = 0;
        return false;
    }
    if (link->stalled_since_ns == 0)
        link->stalled_since_ns = env_now(c->env);
    uint64_t patience = (3 * MON_PING_BUSY_NS) << (link->stalls < 4 ? link->stalls : 4);
    if (env_now(c->env) - link->stalled_since_ns < patience)
        return false;
    link->stalls++;
    return link->n > 1;
}

static void timer_fired(struct env_timer *timer)
{
    struct mon_link *link = container_of(timer, struct mon_link, timer);
    struct client *c = container_of(link, struct client, mon);
    switch (link->state) {
    case MON_LINK_IDLE:
        break;
    case MON_LINK_PAUSED:
        hunt(c);
        break;
    case MON_LINK_TRYING:
        mon_link_next(c, -ETIMEDOUT);
        break;
    case MON_LINK_LIVE:
        if (link->ping_out) {
            mon_link_next(c, -ETIMEDOUT);
        } else if (stalled_too_long(c)) {
            mon_link_next(c, -ESTALE);
        } else {
            ping(c);
            arm_ping(c);
        }
        break;
    }
}

void mon_link_opened(struct client *c)
{
    struct mon_link *link = &c->mon;
    assert(link->state == MON_LINK_TRYING);
    c->counters.mon_sessions++;
    mon_link_subscribe(c);
    /* The first map is what makes a monitor a good one; later, that it knows our key. */
    if (c->map != NULL)
        mon_link_live(c);
}

void mon_link_live(struct client *c)
{
    struct mon_link *link = &c->mon;
    if (link->state != MON_LINK_TRYING)
        return;
    link->state = MON_LINK_LIVE;
    link->rounds = 0;
    link->tried = 0;
    link->ping_out = false;
    link->stalled_since_ns = 0;
    for (uint32_t i = 0; i < link->n; i++)
        link->candidates[i].error = 0;
    command_mon_live(c);
    ticket_mon_live(c);
    arm_ping(c);
}

void mon_link_send(struct client *c, uint16_t type, const ProtobufCMessage *proto,
                   struct buf_slice payload)
{
    struct message *m = c->mon.session != NULL ? message_pack(type, proto) : NULL;
    if (m == NULL) {
        buf_slice_drop(&payload);
        return;
    }
    m->payload = payload;
    net_send(c->env, c->mon.session, m);
}

void mon_link_subscribe(struct client *c)
{
    Limpet__Wire__MonSubscribe subscribe = LIMPET__WIRE__MON_SUBSCRIBE__INIT;
    subscribe.have_epoch = c->map != NULL ? c->map->epoch : 0;
    /* Before the first map the cluster's answer tells more than its refusal would. */
    if (c->map != NULL) {
        subscribe.has_fsid = true;
        subscribe.fsid.data = c->fsid.bytes;
        subscribe.fsid.len = sizeof c->fsid.bytes;
    }
    mon_link_send(c, MSG_MON_SUBSCRIBE, &subscribe.base, BUF_SLICE_EMPTY);
}

static void map_received(struct client *c, struct message *message)
{
    int rc = client_map_received(c, message);
    if (rc == 0)
        return;
    log_warn(c->env, "monitor sent an unusable map", "error=%d", rc);
    if (c->mon.state == MON_LINK_TRYING || c->mon.state == MON_LINK_LIVE)
        mon_link_next(c, rc);
}

void mon_link_received(struct client *c, struct message *message)
{
    struct mon_link *link = &c->mon;
    link->ping_out = false;
    if (link->state == MON_LINK_LIVE)
        arm_ping(c);
    switch (message->type) {
    case MSG_MON_MAP:
        map_received(c, message);
        break;
    case MSG_MON_COMMAND_REPLY:
        command_received(c, message);
        break;
    case MSG_MON_TICKET:
        ticket_received(c, message);
        break;
    default:
        /* A ping's reply has done its work by arriving; what newer monitors send is not for us. */
        break;
    }
}

/* ---- Beginning and end ---- */

void mon_link_init(struct client *c)
{
    c->mon.timer.fire = timer_fired;
}

void mon_link_start(struct client *c)
{
    assert(c->mon.state == MON_LINK_IDLE);
    c->mon.n = 0;
    c->mon.rounds = 0;
    hunt(c);
}

void mon_link_stop(struct client *c)
{
    struct mon_link *link = &c->mon;
    link->state = MON_LINK_IDLE;
    env_timer_stop(c->env, &link->timer);
    if (link->session != NULL)
        net_close(c->env, link->session);
    link->session = NULL;
}
