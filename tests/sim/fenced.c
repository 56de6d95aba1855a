#include "tests/sim/fenced.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/core/watch.h"

enum {
    OBJECTS_MAX = 4,
    CLIENTS_MAX = CLUSTER_CLIENTS_MAX + 1,
    NAME_BYTES = 24,
    LEAVE_PERCENT = 30, /* Of ends. */
    WRITES_MAX = 4,     /* Under way, of a holder. */
    COUNT_BITS = 24,    /* What is written: the holder's number, and one of the write. */
    TIMEOUT_MS = 2000,  /* Of leases, on average; */
    FAIR_MS = 10000,    /* where nobody may be blocked while an OSD is found dead. */
};

/* An operation on the object of contents. Its memory lasts as long as its client's process. */
struct access {
    struct client_op op;
    struct holder *holder;
    uint64_t serial; /* Of the lease under which it was sent. */
    uint64_t value;
    bool busy;
};

enum holder_state { HOLDER_RESTS, HOLDER_BEGINS, HOLDER_READS, HOLDER_WRITES, HOLDER_ENDS };

/* A client and an object. */
struct holder {
    struct fenced *all;
    struct cluster_client *client;
    uint32_t object;
    struct client_watch lease;
    enum holder_state state;
    bool lost, gives_back;
    bool has_read;   /* In its present lease. */
    uint64_t serial; /* Of the present lease: a later holder has a greater one. */
    uint64_t n_written;
    struct access reading;
    struct access writes[WRITES_MAX];
    struct env_timer timer;
};

/* What the last holder has read, which stands fast from then on. */
struct kept {
    uint64_t reader, value;
    uint64_t serial; /* Of the last holder. */
};

/* Another process takes the place of a blocked one. */
struct successor {
    struct cluster_client *client;
    struct env_timer timer;
};

struct fenced {
    struct cluster *cluster;
    uint64_t pool;
    uint32_t n;
    char leases[OBJECTS_MAX][NAME_BYTES];
    char contents[OBJECTS_MAX][NAME_BYTES];
    struct kept kept[OBJECTS_MAX];
    struct holder holders[CLIENTS_MAX][OBJECTS_MAX];
    struct successor successors[CLIENTS_MAX];
    struct access admin;
    bool stopped;
    uint32_t deaf_percent; /* Of recalls; 0: who lives and is reached is not blocked, either. */
    uint32_t n_done;
};

static uint64_t below(struct fenced *f, uint64_t n)
{
    return sim_below(f->cluster->sim, n);
}

static struct env *env_of(const struct cluster_client *client)
{
    return sim_process(client->member.node);
}

static int number_of(const struct holder *holder)
{
    return (int)(holder->client - holder->all->cluster->clients);
}

static struct object_id object_of(const struct fenced *f, const char *name)
{
    return (struct object_id){.pool = f->pool,
                              .snap = OBJECT_HEAD,
                              .name = (const uint8_t *)name,
                              .name_len = (uint16_t)strlen(name)};
}

static void wait_some(struct holder *holder, uint64_t most_ns)
{
    env_timer_after(env_of(holder->client), &holder->timer, below(holder->all, most_ns) + 1);
}

static void process_over(struct fenced *f, const struct cluster_client *client)
{
    struct successor *successor = &f->successors[client - f->cluster->clients];
    if (!successor->timer.armed)
        sim_timer_arm(f->cluster->sim, &successor->timer, sim_now(f->cluster->sim) + 1);
}

static void is_blocked(struct fenced *f, const struct cluster_client *client)
{
    if (f->deaf_percent == 0)
        cluster_fail(f->cluster, "fenced-unjustly: client %d, which has done what it should",
                     (int)(client - f->cluster->clients));
    process_over(f, client);
}

static void successor_fire(struct env_timer *timer)
{
    struct cluster_client *client = container_of(timer, struct successor, timer)->client;
    uint64_t now = sim_now(client->member.cluster->sim);
    member_end(&client->member, SIM_EXIT, now + 100 * MSEC_NS);
}

/* ---- Contents ---- */

static void access_prepare(struct access *access, uint16_t code, bool write,
                           void (*done)(struct client_op *op))
{
    struct holder *holder = access->holder;
    memset(&access->op, 0, sizeof access->op);
    access->op.object = object_of(holder->all, holder->all->contents[holder->object]);
    access->op.write = write;
    access->op.n_steps = 1;
    access->op.steps[0].code = code;
    access->op.done = done;
    access->busy = true;
    access->serial = holder->serial;
}

static bool takes_part(struct access *access)
{
    struct holder *holder = access->holder;
    struct fenced *f = holder->all;
    int result = access->op.result;
    access->busy = false;
    f->n_done++;
    sim_note(f->cluster->sim, access->op.tid ^ (uint64_t)result);
    if (result == -ESHUTDOWN)
        is_blocked(f, holder->client);
    else if (result != 0 && result != -ECANCELED)
        cluster_fail(f->cluster, "contents are refused with %d", result);
    return result == 0;
}

static void judge(const struct access *access, uint64_t value)
{
    const struct holder *holder = access->holder;
    struct fenced *f = holder->all;
    struct kept *kept = &f->kept[holder->object];
    if (access->serial < kept->reader)
        return; /* Executed before, and heard of late. */
    if (value != kept->value && value >> COUNT_BITS < kept->reader)
        cluster_fail(f->cluster,
                     "fenced-late: client %d, holder %" PRIu64 " of %s, reads what holder %" PRIu64
                     " wrote, and holder %" PRIu64 " had read something else",
                     number_of(holder), access->serial, f->leases[holder->object],
                     value >> COUNT_BITS, kept->reader);
    kept->reader = access->serial;
    kept->value = value;
}

static void read_done(struct client_op *op)
{
    struct access *access = container_of(op, struct access, op);
    struct holder *holder = access->holder;
    uint64_t value = 0;
    bool good = takes_part(access);
    if (good && op->steps[0].data.len == sizeof value)
        memcpy(&value, op->steps[0].data.data, sizeof value);
    buf_slice_drop(&op->steps[0].data);
    if (good)
        judge(access, value);
    holder->has_read |= good;
    if (holder->state == HOLDER_READS)
        holder->state = HOLDER_WRITES;
    wait_some(holder, 50 * MSEC_NS);
}

static void write_done(struct client_op *op)
{
    (void)takes_part(container_of(op, struct access, op));
}

static void read_contents(struct holder *holder)
{
    struct access *access = &holder->reading;
    access_prepare(access, WIRE_OP_CODE_READ, false, read_done);
    client_submit(holder->client->client, &access->op);
}

static void write_contents(struct holder *holder)
{
    for (uint32_t i = 0; i < WRITES_MAX; i++) {
        struct access *access = &holder->writes[i];
        if (access->busy)
            continue;
        access->value = holder->serial << COUNT_BITS | ++holder->n_written;
        access_prepare(access, WIRE_OP_CODE_WRITE_FULL, true, write_done);
        if (buf_slice_copy(&access->value, sizeof access->value, &access->op.steps[0].data))
            abort();
        client_submit(holder->client->client, &access->op);
        return;
    }
}

static bool is_writing(const struct holder *holder)
{
    for (uint32_t i = 0; i < WRITES_MAX; i++)
        if (holder->writes[i].busy)
            return true;
    return false;
}

/* ---- Leases ---- */

static void on_began(struct client_watch *lease, int error)
{
    struct holder *holder = container_of(lease, struct holder, lease);
    struct fenced *f = holder->all;
    f->n_done++;
    sim_note(f->cluster->sim, lease->cookie ^ (uint64_t)error);
    if (error == -ESHUTDOWN)
        is_blocked(f, holder->client);
    holder->state = error ? HOLDER_RESTS : HOLDER_READS;
    if (!error) {
        holder->serial = ++f->kept[holder->object].serial;
        holder->lost = holder->gives_back = holder->has_read = false;
        if (!holder->reading.busy)
            read_contents(holder);
    }
    wait_some(holder, SEC_NS);
}

static void on_event(struct client_watch *lease, const struct client_watch_event *event)
{
    struct holder *holder = container_of(lease, struct holder, lease);
    bool deaf = below(holder->all, 100) < holder->all->deaf_percent && !holder->all->stopped;
    if (event->recall && !deaf)
        holder->gives_back = true;
}

static void on_lost(struct client_watch *lease, int error)
{
    struct holder *holder = container_of(lease, struct holder, lease);
    holder->lost = true;
    if (error == -ESHUTDOWN)
        is_blocked(holder->all, holder->client);
}

static void on_ended(struct client_watch *lease, int error)
{
    struct holder *holder = container_of(lease, struct holder, lease);
    /* One that goes does not open another session any more. */
    bool leaves = !holder->all->stopped && below(holder->all, 100) < LEAVE_PERCENT;
    if (error == -ESHUTDOWN)
        is_blocked(holder->all, holder->client);
    else if (leaves)
        process_over(holder->all, holder->client);
    holder->state = HOLDER_RESTS;
    wait_some(holder, SEC_NS);
}

static void take(struct holder *holder, uint64_t patience_ns)
{
    struct fenced *f = holder->all;
    struct client_watch *lease = &holder->lease;
    memset(lease, 0, sizeof *lease);
    lease->object = object_of(f, f->leases[holder->object]);
    uint32_t timeout_ms = f->deaf_percent != 0 ? TIMEOUT_MS : FAIR_MS;
    lease->timeout_ms = timeout_ms / 2 + (uint32_t)below(f, timeout_ms);
    lease->mode = WIRE_LEASE_FENCED;
    lease->patience_ns = patience_ns;
    lease->began = on_began;
    lease->event = on_event;
    lease->lost = on_lost;
    lease->ended = on_ended;
    holder->state = HOLDER_BEGINS;
    client_watch(holder->client->client, lease);
}

static void revoke_writes(struct holder *holder)
{
    for (uint32_t i = 0; i < WRITES_MAX; i++)
        if (holder->writes[i].busy)
            client_revoke(holder->client->client, &holder->writes[i].op);
}

/* What it has sent it revokes, or waits for: not when the lease is over, as others may wait then.
 */
static void give_back(struct holder *holder)
{
    if (holder->serial % 2 == 0 || holder->lost)
        revoke_writes(holder);
    if (holder->lost && holder->reading.busy)
        client_cancel(holder->client->client, &holder->reading.op);
    if (holder->reading.busy || is_writing(holder)) {
        wait_some(holder, 20 * MSEC_NS);
        return;
    }
    holder->state = HOLDER_ENDS;
    client_unwatch(holder->client->client, &holder->lease);
}

static void timer_fire(struct env_timer *timer)
{
    struct holder *holder = container_of(timer, struct holder, timer);
    struct fenced *f = holder->all;
    switch (holder->state) {
    case HOLDER_RESTS:
        if (!f->stopped)
            take(holder, below(f, 4) ? below(f, 20 * SEC_NS) : 0);
        break;
    case HOLDER_READS:
    case HOLDER_WRITES:
        if (holder->lost || !client_watch_valid(&holder->lease) || holder->gives_back ||
            f->stopped || below(f, 100) == 0) {
            give_back(holder);
            break;
        }
        if (holder->state == HOLDER_WRITES)
            write_contents(holder);
        wait_some(holder, 100 * MSEC_NS);
        break;
    case HOLDER_BEGINS:
    case HOLDER_ENDS:
        break;
    }
}

/* ---- Clients come and go ---- */

static void client_ready(struct cluster_client *client)
{
    struct fenced *f = client->watch_user;
    uint32_t i = (uint32_t)(client - f->cluster->clients);
    for (uint32_t o = 0; o < f->n && !f->stopped; o++)
        wait_some(&f->holders[i][o], SEC_NS);
}

static void client_gone(struct cluster_client *client)
{
    struct fenced *f = client->watch_user;
    uint32_t i = (uint32_t)(client - f->cluster->clients);
    for (uint32_t o = 0; o < f->n; o++) {
        struct holder *holder = &f->holders[i][o];
        env_timer_stop(env_of(client), &holder->timer);
        memset(&holder->lease, 0, sizeof holder->lease);
        holder->state = HOLDER_RESTS;
    }
}

/* ---- The administrator ---- */

static void admin_done(struct client_op *op)
{
    container_of(op, struct access, op)->busy = false;
}

static bool admin_is_done(void *ctx)
{
    return !((struct fenced *)ctx)->admin.busy;
}

static bool create_object(struct fenced *f, const char *name)
{
    struct client_op *op = &f->admin.op;
    memset(op, 0, sizeof *op);
    op->object = object_of(f, name);
    op->write = true;
    op->n_steps = 1;
    op->steps[0].code = WIRE_OP_CODE_CREATE;
    op->done = admin_done;
    f->admin.busy = true;
    client_submit(f->cluster->clients[0].client, op);
    return cluster_run_until(f->cluster, admin_is_done, f, sim_now(f->cluster->sim) + 60 * SEC_NS,
                             "an object of a fenced lease is not made");
}

static void holder_init(struct fenced *f, struct cluster_client *client, uint32_t object)
{
    struct holder *holder = &f->holders[client - f->cluster->clients][object];
    *holder = (struct holder){.all = f, .client = client, .object = object};
    holder->timer.fire = timer_fire;
    holder->reading.holder = holder;
    for (uint32_t i = 0; i < WRITES_MAX; i++)
        holder->writes[i].holder = holder;
}

struct fenced *fenced_create(struct cluster *cluster, const struct scenario *scenario,
                             uint64_t pool)
{
    struct fenced *f = calloc(1, sizeof *f);
    if (!f)
        abort();
    f->cluster = cluster;
    f->pool = pool;
    f->n = (uint32_t)scenario_choose(&scenario->fenced, cluster->sim);
    f->deaf_percent = (uint32_t)scenario_choose(&scenario->fenced_deaf, cluster->sim);
    for (uint32_t o = 0; o < f->n; o++) {
        snprintf(f->leases[o], NAME_BYTES, "fenced.%u", o);
        snprintf(f->contents[o], NAME_BYTES, "contents.%u", o);
        if (!create_object(f, f->leases[o]) || !create_object(f, f->contents[o]))
            return f;
    }
    for (uint32_t i = 0; i <= cluster->options.n_clients && f->n > 0; i++) {
        struct cluster_client *client = &cluster->clients[i];
        f->successors[i].client = client;
        f->successors[i].timer.fire = successor_fire;
        for (uint32_t o = 0; o < f->n; o++)
            holder_init(f, client, o);
        if (i == 0)
            continue; /* The administrator only ends it all. */
        client->watch_user = f;
        client->watch_ready = client_ready;
        client->watch_gone = client_gone;
        if (client->connected)
            client_ready(client);
    }
    return f;
}

void fenced_destroy(struct fenced *f)
{
    for (uint32_t i = 1; i <= f->cluster->options.n_clients && f->n > 0; i++)
        f->cluster->clients[i].watch_ready = f->cluster->clients[i].watch_gone = NULL;
    free(f);
}

/* ---- The end ---- */

static bool all_rest(void *ctx)
{
    const struct fenced *f = ctx;
    for (uint32_t i = 0; i <= f->cluster->options.n_clients; i++)
        for (uint32_t o = 0; o < f->n; o++)
            if (f->holders[i][o].client->client && f->holders[i][o].state != HOLDER_RESTS)
                return false;
    return true;
}

static bool last_has_read(void *ctx)
{
    const struct fenced *f = ctx;
    for (uint32_t o = 0; o < f->n; o++)
        if (!f->holders[0][o].has_read)
            return false;
    return true;
}

bool fenced_finish(struct fenced *f, uint64_t answer_ns)
{
    f->stopped = true;
    uint64_t until = sim_now(f->cluster->sim) + answer_ns + 30 * SEC_NS;
    if (f->n == 0)
        return true;
    if (!cluster_run_until(f->cluster, all_rest, f, until, "fenced leases are not given back"))
        return false;
    for (uint32_t o = 0; o < f->n; o++)
        take(&f->holders[0][o], answer_ns);
    until = sim_now(f->cluster->sim) + 2 * answer_ns;
    return cluster_run_until(f->cluster, last_has_read, f, until,
                             "fenced-given: the last fenced lease is not given") &&
           cluster_run_until(f->cluster, all_rest, f, until, "fenced leases do not end");
}

uint32_t fenced_count(const struct fenced *f)
{
    return f->n_done;
}
