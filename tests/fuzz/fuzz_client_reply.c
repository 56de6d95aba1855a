/*
 * What monitors and OSDs send to a client: replies to operations and commands, maps, tickets.
 *
 * The first byte chooses the kind of message (and, for replies, the request that it answers), the
 * next two the length of the body; the rest of the input is the payload.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/core/private.h"
#include "common/limpet.pb-c.h"
#include "common/timer_heap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- A world in which nothing happens ---- */

static struct timer_heap timers;
static struct net_session session;
static const struct net_handlers *handlers;
static void *handlers_ctx;

static uint64_t now_ns(struct env *env)
{
    (void)env;
    return SEC_NS;
}

static void random_bytes(struct env *env, void *out, size_t len)
{
    (void)env;
    memset(out, 0, len);
}

static void timer_arm(struct env *env, struct env_timer *timer, uint64_t deadline_ns)
{
    (void)env;
    timer_heap_arm(&timers, timer, deadline_ns);
}

static void timer_stop(struct env *env, struct env_timer *timer)
{
    (void)env;
    timer_heap_stop(&timers, timer);
}

static void set_handlers(struct env *env, const struct net_handlers *table, void *ctx)
{
    (void)env;
    handlers = table;
    handlers_ctx = ctx;
}

static int open_session(struct env *env, const struct net_address *to,
                        const struct net_expect *expect, void *user, struct net_session **out)
{
    (void)env;
    (void)to;
    (void)expect;
    session = (struct net_session){.user = user, .outbound = true, .open = true};
    *out = &session;
    return 0;
}

static void send_message(struct env *env, struct net_session *to, struct message *message)
{
    (void)env;
    (void)to;
    message_unref(message);
}

static void close_session(struct env *env, struct net_session *which)
{
    (void)env;
    (void)which;
}

static const struct env_ops ops = {
    .now_ns = now_ns,
    .clock_ns = now_ns,
    .wall_ns = now_ns,
    .random = random_bytes,
    .timer_arm = timer_arm,
    .timer_stop = timer_stop,
    .net_handlers = set_handlers,
    .net_open = open_session,
    .net_send = send_message,
    .net_close = close_session,
    .net_drop = close_session,
};

/* ---- Messages ---- */

static struct message *make_message(uint16_t type, const uint8_t *data, size_t size)
{
    if (size < 2)
        return NULL;
    size_t body_len = (size_t)(data[0] | data[1] << 8);
    data += 2;
    size -= 2;
    if (body_len > size)
        body_len = size;
    struct message *m = message_create(type, body_len);
    if (m == NULL)
        return NULL;
    if (body_len > 0)
        memcpy(m->body, data, body_len);
    if (size > body_len && buf_slice_copy(data + body_len, size - body_len, &m->payload) != 0)
        abort();
    return m;
}

/* A reply to a request of n steps: either all fits, or nothing was taken. */
static void try_reply(const uint8_t *data, size_t size, uint16_t n)
{
    struct message *m = make_message(MSG_OSD_OP_REPLY, data, size);
    if (m == NULL)
        return;
    struct client_step more[CLIENT_STEPS_MAX - CLIENT_STEPS_INLINE] = {0};
    struct client_op op = {.n_steps = n, .more_steps = more};
    struct op_reply reply;
    if (reply_decode(m, &reply) == 0 && reply_take_results(m, &reply, &op) == 0) {
        size_t total = 0;
        for (uint16_t i = 0; i < op.n_steps; i++) {
            struct client_step *step = client_step(&op, i);
            total += step->data.len;
            buf_slice_drop(&step->data);
        }
        assert(total == m->payload.len);
    }
    message_unref(m);
}

static void command_done(struct client_command *command)
{
    (void)command;
}

static void connect_done(void *ctx, int error)
{
    (void)ctx;
    (void)error;
}

/* A monitor says it to a client that waits for a map, a ticket and a command. */
static void try_monitor(uint16_t type, const uint8_t *data, size_t size)
{
    struct message *m = make_message(type, data, size);
    if (m == NULL)
        return;
    struct env env = {.ops = &ops, .instance = 1};
    struct client_options options = {
        .name = {.type = ENTITY_CLIENT, .id = "admin"},
        .secret = {.len = 16},
        .n_mons = 1,
        .mons = {{.family = 4, .ip = {127, 0, 0, 1}, .port = 1}},
    };
    timer_heap_init(&timers);
    struct client *c = client_create(&env, &options);
    assert(c != NULL);
    struct client_command command = {.json = "{}", .done = command_done};
    client_connect(c, connect_done, NULL);
    client_command(c, &command);
    c->mon.state = MON_LINK_LIVE;
    command.tid = 1;
    command_mon_live(c);
    (void)ticket_ready(c);
    c->ticket.tid = 2;
    handlers->received(handlers_ctx, &session, m);
    message_unref(m);
    client_destroy(c);
    client_command_fini(&command);
    assert(timer_heap_first(&timers) == NULL);
    timer_heap_fini(&timers);
}

static void on_event(struct client_watch *watch, const struct client_watch_event *event)
{
    assert(watch->cookie == 1);
    assert(event->len == 0 || event->data != NULL);
}

/* A primary says it to a client whose only watch is just being connected. */
static void try_event(const uint8_t *data, size_t size)
{
    struct message *m = make_message(MSG_WATCH_EVENT, data, size);
    if (m == NULL)
        return;
    struct env env = {.ops = &ops, .instance = 1};
    struct client client = {.env = &env};
    struct osd_link osd = {.client = &client};
    struct client_watch watch = {.client = &client, .cookie = 1, .event = on_event};
    watch.link_state = WATCH_CONNECTING;
    watch.link_op.state = CLIENT_OP_FINISHED;
    HASH_ADD(hh, client.watches, cookie, sizeof watch.cookie, &watch);
    watch_received(&client, &osd, m);
    HASH_DELETE(hh, client.watches, &watch);
    message_unref(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    switch (data[0] % 8) {
    case 0:
        try_monitor(MSG_MON_MAP, data + 1, size - 1);
        break;
    case 1:
        try_monitor(MSG_MON_COMMAND_REPLY, data + 1, size - 1);
        break;
    case 2:
        try_monitor(MSG_MON_TICKET, data + 1, size - 1);
        break;
    case 3:
        try_monitor(MSG_PING_REPLY, data + 1, size - 1);
        break;
    case 4:
        try_event(data + 1, size - 1);
        break;
    default:
        try_reply(data + 1, size - 1, (uint16_t)(data[0] / 4 % CLIENT_STEPS_MAX + 1));
        break;
    }
    return 0;
}
