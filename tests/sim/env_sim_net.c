/*
 * The network of the simulated world: sessions as common/env.h promises them, at their worst.
 *
 * A session is a link with an endpoint on either side; an endpoint belongs to its process, the link
 * to the world. What is under way to an endpoint waits in its queue of flights, messages and
 * notices, of which the first is due at a known time.
 *
 *            net_open                 accepted                 both ends gone
 *   (none) ------------> CONNECTING ------------> OPEN ----------------------> (none)
 *                             |                 |  ^   |
 *                             |           break |  |   | peer's process gone, or given up
 *                             |                 v  |   v
 *                             |             RESUMING  ENDING
 *                             |   no such      |        ^
 *                             +--- process ----+--------+
 *
 *  N1  Flights arrive in the order in which they were sent, each once, as long as the link lives.
 *      Different links know nothing of each other's order.
 *  N2  When a session ends otherwise than by net_close, its endpoint receives a random prefix of
 *      what was under way, and then closed().
 *  N3  While a link is CONNECTING, RESUMING or across a partition, only notices arrive that need no
 *      connection.
 *  N4  A message arrives as it was sent: its checksum is compared. Sender and receiver share its
 *      memory, and neither may change it.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <isa-l.h>
#include <stdlib.h>
#include <string.h>

#include "common/wire_layout.h"
#include "tests/sim/env_sim_private.h"

/* How long a session outlives its connection; a random part is added. */
#define CONNECT_PATIENCE_NS (4 * SEC_NS)
#define RETRY_NS            (200 * MSEC_NS)
#define HOUR_NS             (3600 * SEC_NS)
#define LATE_EACH           2 /* Sessions of which one is late, where anything is. */

enum flight_kind {
    FLIGHT_MESSAGE,
    FLIGHT_OPENED,
    FLIGHT_DISCONNECTED,
    FLIGHT_CLOSED,
    FLIGHT_DRAINED
};

struct flight {
    STAILQ_ENTRY(flight) link;
    enum flight_kind kind;
    uint64_t at;
    bool remote; /* Needs a working connection to arrive. */
    struct message *message;
    uint32_t crc;
    int error; /* FLIGHT_CLOSED */
};
STAILQ_HEAD(flights, flight);

enum link_state { LINK_CONNECTING, LINK_OPEN, LINK_RESUMING, LINK_SILENT, LINK_ENDING };

struct sim_endpoint {
    struct net_session session; /* First: what the process sees. */
    struct sim_process *process;
    struct sim_link *link;
    int side; /* 0: the initiator's. */
    bool paused;
    bool over_limit;
    bool dead;
    struct flights in;
    uint64_t last_at;
    struct env_timer deliver;
    TAILQ_ENTRY(sim_endpoint) process_link;
    STAILQ_ENTRY(sim_endpoint) dead_link;
};

struct sim_link {
    TAILQ_ENTRY(sim_link) entry;
    struct sim *sim;
    enum link_state state;
    struct sim_endpoint *end[2];
    struct sim_node *node[2]; /* [1]: whose address it is; NULL for nobody's. */
    struct net_address to;
    struct net_expect expect;
    struct flights early; /* Sent before there was an endpoint to receive. */
    struct env_timer connect;
    uint64_t connect_until;
    bool initiator_knows;     /* That the connection is gone. */
    struct env_timer fault;   /* The next break or end that befalls it. */
    struct env_timer silence; /* Across a partition: when the sides give up the connection. */
};

/* ---- Small parts ---- */

static struct sim_endpoint *endpoint_of(struct net_session *session)
{
    return container_of(session, struct sim_endpoint, session);
}

static uint64_t chance_below(struct sim *sim, uint64_t n)
{
    return random_below(&sim->chance, n);
}

/* Mostly a fraction of a millisecond, now and then much more. */
static uint64_t latency(struct sim *sim)
{
    uint64_t ns = 30000 + chance_below(sim, 200000);
    if (chance_below(sim, 64) == 0)
        ns += chance_below(sim, 10 * MSEC_NS);
    if (chance_below(sim, 2048) == 0)
        ns += chance_below(sim, 200 * MSEC_NS);
    if (sim->extra_latency_ns > 0)
        ns += chance_below(sim, sim->extra_latency_ns);
    return ns;
}

static uint32_t message_crc(const struct message *m)
{
    uint32_t crc = m->type;
    if (m->body_len > 0)
        crc = crc32_iscsi(m->body, (int)m->body_len, crc);
    if (m->payload.len > 0)
        crc = crc32_iscsi(m->payload.data, (int)m->payload.len, crc);
    return crc;
}

static size_t message_bytes(const struct message *m)
{
    return sizeof(struct wire_frame) + m->body_len + m->payload.len;
}

/* Whether nothing arrives on this side of it. */
static bool way_blocked(const struct sim_link *link, int side)
{
    const struct sim_node *from = link->node[1 - side], *to = link->node[side];
    return from && to && link->sim->blocked[from->index][to->index];
}

/* No connection can be made, and one that there is does not last. */
static bool link_blocked(const struct sim_link *link)
{
    return way_blocked(link, 0) || way_blocked(link, 1);
}

static struct sim_endpoint *other_end(const struct sim_endpoint *end)
{
    return end->link->end[1 - end->side];
}

static const char *type_name(uint16_t type)
{
    static const char *const names[] = {
        [MSG_PING] = "ping",
        [MSG_PING_REPLY] = "ping-reply",
        [MSG_MON_SUBSCRIBE] = "subscribe",
        [MSG_MON_MAP] = "map",
        [MSG_MON_COMMAND] = "command",
        [MSG_MON_COMMAND_REPLY] = "command-reply",
        [MSG_MON_GET_TICKET] = "get-ticket",
        [MSG_MON_TICKET] = "ticket",
        [MSG_OSD_BOOT] = "boot",
        [MSG_OSD_FAILURE] = "failure",
        [MSG_OSD_STATS] = "stats",
        [MSG_PG_ADD_MEMBER] = "add-member",
        [MSG_RAFT] = "raft",
        [MSG_FORWARD] = "forward",
        [MSG_FORWARD_REPLY] = "forward-reply",
        [MSG_OSD_OP] = "op",
        [MSG_OSD_OP_REPLY] = "op-reply",
        [MSG_REP_TXN] = "rep-txn",
        [MSG_REP_ACK] = "rep-ack",
        [MSG_PG_ACTIVATE] = "activate",
        [MSG_PG_INFO] = "info",
        [MSG_PG_SCAN] = "scan",
        [MSG_PG_SCAN_REPLY] = "scan-reply",
        [MSG_PG_PUSH] = "push",
        [MSG_PG_PUSH_REPLY] = "push-reply",
        [MSG_PG_SCRUB_ORDER] = "scrub-order",
        [MSG_PG_SCRUB] = "scrub",
        [MSG_PG_SCRUB_REPLY] = "scrub-reply",
        [MSG_PG_PULL] = "pull",
        [MSG_PG_PULL_REPLY] = "pull-reply",
    };
    const char *name = type < sizeof names / sizeof names[0] ? names[type] : NULL;
    return name ? name : "message";
}

static void trace(struct sim_endpoint *end, const char *what, int64_t number, uint32_t crc)
{
    struct sim_link *link = end->link;
    struct sim_node *peer = link->node[1 - end->side];
    if (link->sim->options.trace)
        sim_log(link->sim, end->process->node->name, "<- %s %s %" PRId64 " %08x",
                peer ? peer->name : "?", what, number, crc);
}

/* ---- Flights ---- */

static void deliver_fire(struct env_timer *event);

static void flight_free(struct flight *flight)
{
    message_unref(flight->message);
    free(flight);
}

static void flights_clear(struct flights *flights)
{
    struct flight *flight;
    while ((flight = STAILQ_FIRST(flights))) {
        STAILQ_REMOVE_HEAD(flights, link);
        flight_free(flight);
    }
}

static struct flight *flight_create(enum flight_kind kind, bool remote)
{
    struct flight *flight = sim_must(calloc(1, sizeof *flight));
    flight->kind = kind;
    flight->remote = remote;
    return flight;
}

/* Whether the first flight may arrive when its time has come. */
static bool may_arrive(const struct sim_endpoint *end, const struct flight *flight)
{
    if (end->paused && flight->kind == FLIGHT_MESSAGE)
        return false;
    if (!flight->remote)
        return true;
    return !way_blocked(end->link, end->side) && end->link->state != LINK_RESUMING;
}

static void arm_deliver(struct sim_endpoint *end)
{
    struct sim *sim = end->link->sim;
    struct flight *first = STAILQ_FIRST(&end->in);
    if (end->dead || !first || !may_arrive(end, first)) {
        sim_timer_stop(sim, &end->deliver);
        return;
    }
    uint64_t at = first->at > sim->now ? first->at : sim->now;
    if (!end->deliver.armed || end->deliver.deadline_ns != at)
        sim_timer_arm(sim, &end->deliver, at);
}

static void push_last(struct sim_endpoint *end, struct flight *flight, uint64_t at)
{
    if (at < end->last_at)
        at = end->last_at;
    end->last_at = at;
    flight->at = at;
    STAILQ_INSERT_TAIL(&end->in, flight, link);
    arm_deliver(end);
}

/* A notice that overtakes the messages under way. */
static void push_first(struct sim_endpoint *end, enum flight_kind kind, uint64_t at)
{
    struct flight *flight = flight_create(kind, false);
    flight->at = at;
    STAILQ_INSERT_HEAD(&end->in, flight, link);
    arm_deliver(end);
}

/*
 * Some router may have kept what was sent: nothing, before who accepts the session knew of it,
 * whose word ends the handshake (common/messenger_connection.c).
 */
static uint64_t lateness(const struct sim_endpoint *end)
{
    struct sim *sim = end->link->sim;
    uint64_t late = sim->options.late_ns;
    const struct flight *flight;
    bool known = true;
    STAILQ_FOREACH(flight, &end->in, link)
    known = known && flight->kind != FLIGHT_OPENED;
    if (late == 0 || chance_below(sim, LATE_EACH) != 0)
        return 0;
    late = chance_below(sim, late);
    return known ? late : 0;
}

/* Keeps a random prefix of what is under way; it will arrive whatever happens to the link. */
static void cut_flights(struct sim_endpoint *end)
{
    struct flights kept = STAILQ_HEAD_INITIALIZER(kept);
    struct flight *flight;
    uint64_t n = 0;
    bool lost =
        end->paused || way_blocked(end->link, end->side) || end->link->state == LINK_RESUMING;
    STAILQ_FOREACH(flight, &end->in, link)
    n++;
    n = lost ? 0 : chance_below(end->link->sim, n + 1);
    uint64_t late = n > 0 ? lateness(end) : 0;
    while ((flight = STAILQ_FIRST(&end->in))) {
        STAILQ_REMOVE_HEAD(&end->in, link);
        /* Notices are not sent by anybody, so they cannot be lost. */
        if (n > 0 || !flight->remote) {
            flight->remote = false;
            flight->at += late;
            STAILQ_INSERT_TAIL(&kept, flight, link);
        } else {
            flight_free(flight);
        }
        n -= n > 0;
    }
    STAILQ_CONCAT(&end->in, &kept);
    end->last_at = 0;
    STAILQ_FOREACH(flight, &end->in, link)
    end->last_at = flight->at;
    arm_deliver(end);
}

/* ---- Endpoints and links ---- */

static void link_check_gone(struct sim_link *link)
{
    if (link->end[0] || link->end[1])
        return;
    sim_timer_stop(link->sim, &link->connect);
    sim_timer_stop(link->sim, &link->fault);
    sim_timer_stop(link->sim, &link->silence);
    flights_clear(&link->early);
    TAILQ_REMOVE(&link->sim->links, link, entry);
    free(link);
}

static struct sim_endpoint *endpoint_create(struct sim_process *process, struct sim_link *link,
                                            int side)
{
    struct sim_endpoint *end = sim_must(calloc(1, sizeof *end));
    end->process = process;
    end->link = link;
    end->side = side;
    end->session.outbound = side == 0;
    end->deliver.fire = deliver_fire;
    STAILQ_INIT(&end->in);
    TAILQ_INSERT_TAIL(&process->endpoints, end, process_link);
    link->end[side] = end;
    return end;
}

/* The process will not hear of it again; the memory is freed when the event is over. */
static void endpoint_kill(struct sim_endpoint *end)
{
    struct sim_link *link = end->link;
    assert(!end->dead);
    end->dead = true;
    sim_timer_stop(link->sim, &end->deliver);
    flights_clear(&end->in);
    TAILQ_REMOVE(&end->process->endpoints, end, process_link);
    STAILQ_INSERT_TAIL(&link->sim->dead_endpoints, end, dead_link);
    link->end[end->side] = NULL;
    link_check_gone(link);
}

void sim_net_reap(struct sim *sim)
{
    struct sim_endpoint *end;
    while ((end = STAILQ_FIRST(&sim->dead_endpoints))) {
        STAILQ_REMOVE_HEAD(&sim->dead_endpoints, dead_link);
        free(end);
    }
}

static void push_closed(struct sim_endpoint *end, int error, uint64_t at)
{
    struct flight *flight = flight_create(FLIGHT_CLOSED, false);
    flight->error = error;
    push_last(end, flight, at);
}

/* Both sides give up, each in its own time. */
static void end_link(struct sim_link *link, int error)
{
    struct sim *sim = link->sim;
    sim_timer_stop(sim, &link->connect);
    sim_timer_stop(sim, &link->fault);
    sim_timer_stop(sim, &link->silence);
    for (int side = 0; side < 2; side++) {
        struct sim_endpoint *end = link->end[side];
        if (!end)
            continue;
        cut_flights(end);
        uint64_t after = chance_below(sim, side == 0 ? SEC_NS : 8 * SEC_NS);
        push_closed(end, error, sim->now + after);
    }
    link->state = LINK_ENDING;
}

static void end_initiator(struct sim_link *link, int error)
{
    struct sim_endpoint *end = link->end[0];
    link->state = LINK_ENDING;
    if (!end)
        return;
    cut_flights(end);
    push_closed(end, error, link->sim->now + latency(link->sim));
}

static void try_connection(struct sim_link *link, uint64_t after_ns)
{
    sim_timer_arm(link->sim, &link->connect, link->sim->now + after_ns);
}

static void start_connecting(struct sim_link *link, enum link_state state, uint64_t after_ns)
{
    struct sim *sim = link->sim;
    link->state = state;
    link->connect_until = sim->now + CONNECT_PATIENCE_NS + chance_below(sim, CONNECT_PATIENCE_NS);
    try_connection(link, after_ns);
}

/* The connection is gone but both processes live: they notice, and the initiator comes again. */
static void break_link(struct sim_link *link)
{
    struct sim *sim = link->sim;
    if (!link->end[0]) {
        end_link(link, -ETIMEDOUT);
        return;
    }
    start_connecting(link, LINK_RESUMING, 1 + chance_below(sim, SEC_NS / 2));
    for (int side = 0; side < 2; side++) {
        if (link->end[side])
            push_first(link->end[side], FLIGHT_DISCONNECTED, sim->now + latency(sim));
    }
}

/* ---- Faults that befall links by themselves ---- */

static void arm_fault(struct sim_link *link)
{
    struct sim *sim = link->sim;
    uint64_t rate = (uint64_t)sim->options.breaks_per_h + sim->options.ends_per_h;
    if (rate > 0 && !sim->calm)
        sim_timer_arm(sim, &link->fault, sim->now + chance_below(sim, 2 * HOUR_NS / rate));
}

static void fault_fire(struct env_timer *timer)
{
    struct sim_link *link = container_of(timer, struct sim_link, fault);
    struct sim *sim = link->sim;
    const struct sim_options *options = &sim->options;
    if (sim->calm)
        return;
    uint64_t rate = (uint64_t)options->breaks_per_h + options->ends_per_h;
    bool ends = chance_below(sim, rate) < options->ends_per_h;
    struct sim_endpoint *a = link->end[0], *b = link->end[1];
    if (link->state == LINK_OPEN && a && b && a->session.open && b->session.open) {
        if (ends) {
            trace(a, "fault: session ends", 0, 0);
            end_link(link, -ETIMEDOUT);
            return;
        }
        trace(a, "fault: connection breaks", 0, 0);
        break_link(link);
    }
    arm_fault(link);
}

/* ---- Connecting ---- */

static struct sim_node *node_at(struct sim *sim, const struct net_address *address)
{
    for (uint32_t i = 0; i < sim->n_nodes; i++) {
        struct net_address own = sim_node_address(sim->nodes[i], address->port);
        if (net_address_equal(&own, address))
            return sim->nodes[i];
    }
    return NULL;
}

static bool process_listens(const struct sim_process *process, const struct net_address *address)
{
    for (uint32_t i = 0; process && i < process->n_listen; i++) {
        if (process->listen[i].port == address->port)
            return true;
    }
    return false;
}

static void fill_peer(struct net_peer *peer, const struct sim_process *process,
                      const struct net_address *address, const struct caps *caps)
{
    peer->name = process->node->entity;
    peer->instance = process->env.instance;
    peer->address = *address;
    peer->caps = *caps;
}

static void accept_link(struct sim_link *link, struct sim_process *process, const struct caps *caps)
{
    struct sim *sim = link->sim;
    struct sim_endpoint *initiator = link->end[0];
    struct net_address from =
        sim_node_address(link->node[0], (uint16_t)(40000 + chance_below(sim, 20000)));
    struct sim_endpoint *end = endpoint_create(process, link, 1);
    fill_peer(&end->session.peer, initiator->process, &from, caps);
    fill_peer(&initiator->session.peer, process, &link->to, &(struct caps){0});
    link->state = LINK_OPEN;
    push_last(end, flight_create(FLIGHT_OPENED, true), sim->now + latency(sim));
    struct flight *flight;
    while ((flight = STAILQ_FIRST(&link->early))) {
        STAILQ_REMOVE_HEAD(&link->early, link);
        push_last(end, flight, end->last_at + chance_below(sim, 10000));
    }
    arm_fault(link);
}

static void resume_link(struct sim_link *link)
{
    link->state = LINK_OPEN;
    link->initiator_knows = false;
    link->end[1]->session.hung_up_ns = 0;
    for (int side = 0; side < 2; side++) {
        struct sim_endpoint *end = link->end[side];
        struct flight *flight;
        uint64_t earliest = link->sim->now + latency(link->sim);
        STAILQ_FOREACH(flight, &end->in, link)
        {
            if (flight->remote && flight->at < earliest)
                flight->at = earliest;
            end->last_at = flight->at > end->last_at ? flight->at : end->last_at;
        }
        arm_deliver(end);
    }
}

static void try_again(struct sim_link *link, int error)
{
    if (link->sim->now < link->connect_until)
        try_connection(link, 1 + chance_below(link->sim, 2 * RETRY_NS));
    else
        end_link(link, error);
}

/* The answer of a machine that could be reached. */
static void connect_reached(struct sim_link *link)
{
    struct sim_process *process = link->node[1] ? link->node[1]->process : NULL;
    if (!process_listens(process, &link->to)) {
        end_initiator(link, -ECONNREFUSED);
        return;
    }
    struct caps caps;
    int error = sim_authenticate(link->end[0]->process, process, &link->expect, &caps);
    if (error == -ENOENT || error == -EKEYEXPIRED || (error && link->state == LINK_RESUMING)) {
        try_again(link, error == -ENOENT ? -ETIMEDOUT : -EACCES);
        return;
    }
    if (error)
        end_initiator(link, error);
    else if (link->state == LINK_CONNECTING)
        accept_link(link, process, &caps);
    else if (link->end[1])
        resume_link(link);
    else
        end_initiator(link, -ELIMPET_RESET);
}

static void connect_fire(struct env_timer *event)
{
    struct sim_link *link = container_of(event, struct sim_link, connect);
    struct sim_endpoint *initiator = link->end[0];
    if (!initiator)
        return; /* Nobody comes again; the acceptor runs out of patience by itself. */
    if (!sim_turn_begin(initiator->process, event))
        return;
    if (link_blocked(link) || (link->node[1] && !link->node[1]->powered)) {
        try_again(link, -ETIMEDOUT);
        return;
    }
    connect_reached(link);
}

static void silence_fire(struct env_timer *event)
{
    struct sim_link *link = container_of(event, struct sim_link, silence);
    if (link->state == LINK_OPEN && link_blocked(link)) {
        break_link(link);
    } else if (link->state == LINK_SILENT) {
        /* One side's machine lost power, and the other side's patience is over. */
        struct sim_endpoint *end = link->end[0] ? link->end[0] : link->end[1];
        push_first(end, FLIGHT_DISCONNECTED, link->sim->now);
        if (end->side == 0)
            start_connecting(link, LINK_RESUMING, latency(link->sim));
        else
            end_link(link, -ETIMEDOUT);
    }
}

static void arm_silence(struct sim_link *link)
{
    struct sim *sim = link->sim;
    sim_timer_arm(sim, &link->silence, sim->now + 5 * SEC_NS + chance_below(sim, 5 * SEC_NS));
}

/* ---- Arrival ---- */

static void take_bytes_off(struct sim_endpoint *sender, size_t bytes)
{
    if (!sender)
        return;
    assert(sender->session.queued_bytes >= bytes);
    sender->session.queued_bytes -= bytes;
    if (sender->over_limit && sender->session.queued_bytes < NET_QUEUE_LIMIT / 2) {
        sender->over_limit = false;
        push_first(sender, FLIGHT_DRAINED, sim_now(sender->link->sim) + latency(sender->link->sim));
    }
}

static void deliver_message(struct sim_endpoint *end, struct flight *flight)
{
    struct message *m = flight->message;
    uint32_t crc = message_crc(m);
    if (crc != flight->crc) {
        sim_log(end->link->sim, end->process->node->name,
                "message type=%u was changed after it had been sent", m->type);
        sim_log_dump(end->link->sim);
        abort();
    }
    trace(end, type_name(m->type), (int64_t)(m->body_len + m->payload.len), crc);
    sim_hash_mix(end->link->sim, ((uint64_t)m->type << 32) | crc);
    take_bytes_off(other_end(end), message_bytes(m));
    end->process->handlers->received(end->process->handlers_ctx, &end->session, m);
}

static void deliver_opened(struct sim_endpoint *end)
{
    struct sim_endpoint *initiator = end->link->end[0];
    end->session.open = true;
    trace(end, "opened", 0, 0);
    /* The initiator hears of it before anything that the acceptor sends from now on. */
    if (end->side == 1 && initiator)
        push_last(initiator, flight_create(FLIGHT_OPENED, true),
                  sim_now(end->link->sim) + latency(end->link->sim));
    if (end->process->handlers->opened)
        end->process->handlers->opened(end->process->handlers_ctx, &end->session);
}

static void deliver_closed(struct sim_endpoint *end, int error)
{
    trace(end, "closed", error, 0);
    /* An acceptor that was never told of the session does not hear of its end. */
    if (end->side == 0 || end->session.open)
        end->process->handlers->closed(end->process->handlers_ctx, &end->session, error);
    assert(!end->dead); /* The owner must not close it as well. */
    endpoint_kill(end);
}

/* An acceptor hears that the other side has closed when that is dead, or has done so itself. */
static void deliver_disconnected(struct sim_endpoint *end)
{
    const struct net_handlers *handlers = end->process->handlers;
    struct sim_link *link = end->link;
    trace(end, "disconnected", 0, 0);
    if (end->side == 0)
        link->initiator_knows = true;
    else if (link->state != LINK_OPEN && (link->initiator_knows || !link->end[0]))
        end->session.hung_up_ns = env_clock(&end->process->env);
    if (end->session.open && handlers->disconnected)
        handlers->disconnected(end->process->handlers_ctx, &end->session);
}

static void deliver(struct sim_endpoint *end, struct flight *flight)
{
    const struct net_handlers *handlers = end->process->handlers;
    switch (flight->kind) {
    case FLIGHT_MESSAGE:
        deliver_message(end, flight);
        break;
    case FLIGHT_OPENED:
        deliver_opened(end);
        break;
    case FLIGHT_DISCONNECTED:
        deliver_disconnected(end);
        break;
    case FLIGHT_DRAINED:
        if (handlers->drained)
            handlers->drained(end->process->handlers_ctx, &end->session);
        break;
    case FLIGHT_CLOSED:
        deliver_closed(end, flight->error);
        break;
    }
}

static void deliver_fire(struct env_timer *event)
{
    struct sim_endpoint *end = container_of(event, struct sim_endpoint, deliver);
    if (!sim_turn_begin(end->process, event))
        return;
    struct flight *flight = STAILQ_FIRST(&end->in);
    STAILQ_REMOVE_HEAD(&end->in, link);
    sim_hash_mix(end->link->sim, flight->kind);
    deliver(end, flight);
    flight_free(flight);
    if (!end->dead)
        arm_deliver(end);
}

/* ---- What processes call ---- */

void sim_net_handlers(struct env *env, const struct net_handlers *handlers, void *ctx)
{
    struct sim_process *process = process_of(env);
    if (!handlers) {
        struct sim_endpoint *end;
        assert(!process->frozen);
        while ((end = TAILQ_FIRST(&process->endpoints)))
            sim_net_close(env, &end->session);
        process->n_listen = 0;
        process->auth = NULL;
        process->handlers = NULL;
        return;
    }
    assert(!process->handlers);
    process->handlers = handlers;
    process->handlers_ctx = ctx;
}

int sim_net_listen(struct env *env, const struct net_address *want, struct net_address *bound)
{
    struct sim_process *process = process_of(env);
    struct sim_node *node = process->node;
    assert(process->handlers && !process->frozen);
    if (process->n_listen == SIM_LISTEN_MAX)
        return -EMFILE;
    uint16_t port = want->port ? want->port : node->next_port++;
    struct net_address address = sim_node_address(node, port);
    if (process_listens(process, &address))
        return -EADDRINUSE;
    process->listen[process->n_listen++] = address;
    if (bound)
        *bound = address;
    return 0;
}

int sim_net_open(struct env *env, const struct net_address *to, const struct net_expect *expect,
                 void *user, struct net_session **out)
{
    struct sim_process *process = process_of(env);
    struct sim *sim = process->sim;
    assert(process->handlers);
    if (process->frozen || to->family == 0 || to->port == 0)
        return -EINVAL;
    struct sim_link *link = sim_must(calloc(1, sizeof *link));
    link->sim = sim;
    link->node[0] = process->node;
    link->node[1] = node_at(sim, to);
    link->to = *to;
    if (expect)
        link->expect = *expect;
    STAILQ_INIT(&link->early);
    link->connect.fire = connect_fire;
    link->fault.fire = fault_fire;
    link->silence.fire = silence_fire;
    TAILQ_INSERT_TAIL(&sim->links, link, entry);
    struct sim_endpoint *end = endpoint_create(process, link, 0);
    end->session.user = user;
    end->session.peer.name = link->expect.name;
    end->session.peer.instance = link->expect.instance;
    end->session.peer.address = *to;
    start_connecting(link, LINK_CONNECTING,
                     sim_process_time(process) - sim->now + latency(sim) + latency(sim));
    *out = &end->session;
    return 0;
}

void sim_net_send(struct env *env, struct net_session *session, struct message *message)
{
    struct sim_process *process = process_of(env);
    struct sim_endpoint *end = endpoint_of(session);
    struct sim_endpoint *peer = other_end(end);
    struct sim_link *link = end->link;
    assert(end->process == process && !end->dead);
    bool early = link->state == LINK_CONNECTING;
    if (process->frozen || link->state == LINK_ENDING || (!peer && !early)) {
        message_unref(message);
        return;
    }
    struct flight *flight = flight_create(FLIGHT_MESSAGE, true);
    flight->message = message;
    flight->crc = message_crc(message);
    session->queued_bytes += message_bytes(message);
    if (session->queued_bytes > NET_QUEUE_LIMIT)
        end->over_limit = true;
    if (early) {
        STAILQ_INSERT_TAIL(&link->early, flight, link);
        return;
    }
    /* A gigabyte takes a second. */
    push_last(peer, flight,
              sim_process_time(process) + latency(link->sim) + message_bytes(message));
}

void sim_net_close(struct env *env, struct net_session *session)
{
    struct sim_process *process = process_of(env);
    struct sim_endpoint *end = endpoint_of(session);
    struct sim_endpoint *peer = other_end(end);
    struct sim_link *link = end->link;
    assert(end->process == process && !end->dead);
    if (process->frozen)
        return; /* It goes with the process. */
    if (peer && link->state == LINK_OPEN) {
        struct flight *flight = flight_create(FLIGHT_CLOSED, true);
        flight->error = -ECONNRESET;
        push_last(peer, flight, sim_process_time(process) + latency(link->sim));
    } else if (peer && peer->side == 1 && link->state != LINK_ENDING) {
        end_link(link, -ETIMEDOUT);
    }
    endpoint_kill(end);
}

void sim_net_drop(struct env *env, struct net_session *session)
{
    const struct sim_endpoint *end = endpoint_of(session);
    struct sim_endpoint *peer = other_end(end);
    if (peer && !process_of(env)->frozen && end->link->state == LINK_OPEN)
        cut_flights(peer);
    sim_net_close(env, session);
}

void sim_net_pause(struct env *env, struct net_session *session, bool paused)
{
    struct sim_endpoint *end = endpoint_of(session);
    assert(end->process == process_of(env) && !end->dead);
    end->paused = paused;
    if (!end->process->frozen)
        arm_deliver(end);
}

/* A machine answers for its processes, whether they run or not, as long as both ways are open. */
uint64_t sim_net_heard_ns(struct env *env, struct net_session *session)
{
    const struct sim_endpoint *end = endpoint_of(session);
    assert(end->process == process_of(env) && !end->dead);
    bool hears = end->link->state == LINK_OPEN && !link_blocked(end->link);
    return hears ? env_now(env) : 0;
}

/* ---- What happens to processes and machines ---- */

/* The peer of an endpoint whose process is gone. */
static void peer_gone(struct sim_link *link, struct sim_endpoint *peer, enum sim_end how)
{
    struct sim *sim = link->sim;
    if (link->state == LINK_ENDING)
        return; /* It learns its fate already. */
    bool told = how != SIM_POWER_CUT && !link_blocked(link);
    if (link->state == LINK_OPEN)
        cut_flights(peer);
    if (link->state == LINK_RESUMING) {
        if (peer->side == 1)
            end_link(link, -ETIMEDOUT);
        return;
    }
    if (!told) {
        link->state = LINK_SILENT;
        arm_silence(link);
        return;
    }
    struct flight *flight = flight_create(FLIGHT_DISCONNECTED, false);
    push_last(peer, flight, sim->now + latency(sim));
    if (peer->side == 0)
        start_connecting(link, LINK_RESUMING, peer->last_at - sim->now + latency(sim));
    else
        end_link(link, -ETIMEDOUT);
}

void sim_net_process_gone(struct sim_process *process, enum sim_end how)
{
    struct sim_endpoint *end;
    while ((end = TAILQ_FIRST(&process->endpoints))) {
        struct sim_link *link = end->link;
        struct sim_endpoint *peer = other_end(end);
        /* The other end may be in the same process, and goes next. */
        if (peer && peer->process != process) {
            link->end[end->side] = NULL;
            peer_gone(link, peer, how);
            link->end[end->side] = end;
        }
        endpoint_kill(end);
    }
}

void sim_net_node_back(struct sim_node *node)
{
    struct sim *sim = node->sim;
    struct sim_link *link;
    TAILQ_FOREACH(link, &sim->links, entry)
    {
        if (link->state == LINK_SILENT && (link->node[0] == node || link->node[1] == node))
            sim_timer_arm(sim, &link->silence, sim->now + latency(sim));
    }
}

void sim_block(struct sim *sim, struct sim_node *from, struct sim_node *to, bool blocked)
{
    struct sim_link *link;
    if (sim->blocked[from->index][to->index] == blocked)
        return;
    sim->blocked[from->index][to->index] = blocked;
    TAILQ_FOREACH(link, &sim->links, entry)
    {
        bool between = (link->node[0] == from && link->node[1] == to) ||
                       (link->node[0] == to && link->node[1] == from);
        if (!between)
            continue;
        if (link->state == LINK_OPEN && !link_blocked(link))
            sim_timer_stop(sim, &link->silence);
        else if (link->state == LINK_OPEN && !link->silence.armed)
            arm_silence(link);
        for (int side = 0; side < 2; side++) {
            if (link->end[side])
                arm_deliver(link->end[side]);
        }
    }
}

void sim_partition(struct sim *sim, struct sim_node *a, struct sim_node *b, bool blocked)
{
    sim_block(sim, a, b, blocked);
    sim_block(sim, b, a, blocked);
}

void sim_heal(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->n_nodes; i++) {
        for (uint32_t j = 0; j < i; j++)
            sim_partition(sim, sim->nodes[i], sim->nodes[j], false);
    }
}

void sim_slow_network(struct sim *sim, uint64_t extra_ns)
{
    sim->extra_latency_ns = extra_ns;
}
