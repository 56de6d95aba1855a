#include "mon/consensus.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <raft.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "mon/raft_codec.h"

enum {
    INSTALL_SNAPSHOT_TIMEOUT_MS = 5000,
    ELECTION_HASTE_MS = 80, /* An election that is due is spread over this much time. */
};

/* libraft compares times by subtraction: they must never be near 0. */
#define RAFT_TIME_BASE_MS UINT64_C(1000000000)

/* What libraft asked of its storage or transport and has not been told about yet. */
enum io_kind { IO_APPEND, IO_SNAPSHOT_PUT, IO_SNAPSHOT_GET };

struct io_request {
    STAILQ_ENTRY(io_request) link;
    enum io_kind kind;
    union {
        struct raft_io_append *append;
        struct {
            struct raft_io_snapshot_put *req;
            const struct raft_snapshot *snapshot;
            unsigned trailing;
        } put;
        struct raft_io_snapshot_get *get;
    };
    union {
        raft_io_append_cb append_cb;
        raft_io_snapshot_put_cb put_cb;
        raft_io_snapshot_get_cb get_cb;
    };
};

struct sent {
    STAILQ_ENTRY(sent) link;
    struct raft_io_send *req;
    raft_io_send_cb cb;
};

struct consensus_peer {
    uint64_t id;
    uint64_t heard_ns; /* 0: never */
    /* While we lead: its log equals ours up to `acked`, and it knows of the commit of `told`. */
    uint64_t acked;
    uint64_t told;
    char address[NET_ADDRESS_TEXT_MAX];
};

struct consensus {
    struct env *env;
    const struct consensus_ops *ops;
    void *ctx;
    struct uuid fsid;
    struct log_store *store;
    uint32_t election_timeout_ms;
    uint64_t heartbeat_ns;
    bool ticks_lead;  /* The tick timer is armed for a leader. */
    uint32_t n_peers; /* All monitors, ourselves too. */
    struct consensus_peer peers[MAP_MONS_MAX];

    struct raft raft;
    struct raft_io io;
    struct raft_fsm fsm;
    raft_io_tick_cb tick;
    raft_io_recv_cb recv;
    bool raft_live; /* raft_init() was done. */
    bool closing;
    bool failed;
    unsigned depth; /* Calls into libraft that have not returned. */

    struct env_timer tick_timer;
    struct env_task flush_task;
    STAILQ_HEAD(, io_request) requests;
    STAILQ_HEAD(, sent) sent;

    struct raft_barrier barrier;
    uint64_t barrier_term;  /* Of the last barrier that we appended as a new leader: C4. */
    uint64_t barrier_index; /* 0: none is needed at the moment. */
    bool barrier_applied;
    bool leading; /* As ops were told. */
    uint64_t leader;

    struct raft_apply apply;
    bool in_flight;
    bool decided;
    int decision;

    /* While a request of the leader is handled: the last entry that it covers. C5. */
    bool covering;
    uint64_t covered;
};

static void consensus_settle(struct consensus *c);
static void consensus_flush(struct consensus *c);

static struct consensus *from_io(struct raft_io *io)
{
    return io->impl;
}

static void consensus_fail(struct consensus *c, int error, const char *what)
{
    char why[128];

    if (c->failed || c->closing)
        return;
    c->failed = true;
    env_timer_stop(c->env, &c->tick_timer);
    snprintf(why, sizeof why, "%s: %s", what, error_text(error));
    log_error(c->env, "consensus failed", "what=\"%s\" error=%d", what, error);
    c->ops->failed(c->ctx, error, why);
}

static struct consensus_peer *peer_find(struct consensus *c, uint64_t id)
{
    for (uint32_t i = 0; i < c->n_peers; i++) {
        if (c->peers[i].id == id)
            return &c->peers[i];
    }
    return NULL;
}

/* ---- What libraft asks for: storage ---- */

static int to_raft(int rc)
{
    return rc == 0 ? 0 : rc == -ENOMEM ? RAFT_NOMEM : rc == -ENOSPC ? RAFT_NOSPACE : RAFT_IOERR;
}

static int io_init(struct raft_io *io, raft_id id, const char *address)
{
    (void)io;
    (void)id;
    (void)address;
    return 0;
}

static int load_entries(struct consensus *c, struct raft_entry **entries, size_t *n)
{
    uint64_t first = log_store_first(c->store);
    uint64_t count = log_store_last(c->store) + 1 - first;
    uint64_t total = 0;
    struct log_entry entry;

    *entries = NULL;
    *n = 0;
    if (count == 0)
        return 0;
    for (uint64_t i = 0; i < count; i++) {
        if (log_store_entry(c->store, first + i, &entry) == 0)
            total += entry.len;
    }
    uint8_t *batch = raft_malloc(total + 1);
    struct raft_entry *out = raft_calloc(count, sizeof *out);
    if (batch == NULL || out == NULL) {
        raft_free(batch);
        raft_free(out);
        return -ENOMEM;
    }
    uint64_t at = 0;
    int rc = 0;
    for (uint64_t i = 0; i < count && rc == 0; i++) {
        rc = log_store_entry(c->store, first + i, &entry);
        if (rc == 0)
            rc = log_store_read(c->store, first + i, batch + at);
        if (rc != 0)
            break;
        struct raft_configuration configuration;
        if (entry.type == RAFT_CHANGE) {
            rc = raft_codec_configuration(batch + at, entry.len, &configuration);
            if (rc == 0)
                raft_configuration_close(&configuration);
        }
        out[i] = (struct raft_entry){.term = entry.term,
                                     .type = entry.type,
                                     .buf = {.base = batch + at, .len = entry.len},
                                     .batch = batch};
        at += entry.len;
    }
    if (rc == 0 && first == 1 && out[0].type != RAFT_CHANGE)
        rc = -ELIMPET_CORRUPT;
    if (rc != 0) {
        raft_free(batch);
        raft_free(out);
        return rc;
    }
    *entries = out;
    *n = count;
    return 0;
}

/* A snapshot in memory that libraft may keep. -ENOENT: there is none. */
static int load_snapshot(struct consensus *c, struct raft_snapshot **out)
{
    struct log_snapshot stored;
    void *memory = NULL;
    struct raft_snapshot *snapshot = NULL;

    *out = NULL;
    int rc = log_store_get_snapshot(c->store, &stored, &memory);
    if (rc != 0)
        return rc;
    snapshot = raft_calloc(1, sizeof *snapshot);
    if (snapshot == NULL) {
        rc = -ENOMEM;
        goto out;
    }
    snapshot->index = stored.index;
    snapshot->term = stored.term;
    snapshot->configuration_index = stored.conf_index;
    rc = raft_codec_configuration(stored.conf, stored.conf_len, &snapshot->configuration);
    if (rc != 0)
        goto out;
    snapshot->bufs = raft_calloc(1, sizeof *snapshot->bufs);
    void *data = raft_malloc(stored.data_len + 1);
    if (snapshot->bufs == NULL || data == NULL) {
        raft_free(data);
        raft_free(snapshot->bufs);
        raft_configuration_close(&snapshot->configuration);
        rc = -ENOMEM;
        goto out;
    }
    memcpy(data, stored.data, stored.data_len);
    snapshot->n_bufs = 1;
    snapshot->bufs[0] = (struct raft_buffer){.base = data, .len = stored.data_len};
    *out = snapshot;
    snapshot = NULL;
out:
    raft_free(snapshot);
    free(memory);
    return rc;
}

static void snapshot_free(struct raft_snapshot *snapshot)
{
    for (unsigned i = 0; i < snapshot->n_bufs; i++)
        raft_free(snapshot->bufs[i].base);
    raft_free(snapshot->bufs);
    raft_configuration_close(&snapshot->configuration);
    raft_free(snapshot);
}

static int io_load(struct raft_io *io, raft_term *term, raft_id *vote,
                   struct raft_snapshot **snapshot, raft_index *start, struct raft_entry **entries,
                   size_t *n)
{
    struct consensus *c = from_io(io);

    *term = log_store_term(c->store);
    *vote = log_store_vote(c->store);
    *start = log_store_first(c->store);
    int rc = load_snapshot(c, snapshot);
    if (rc == -ENOENT)
        rc = 0;
    if (rc == 0)
        rc = load_entries(c, entries, n);
    if (rc != 0) {
        if (*snapshot != NULL)
            snapshot_free(*snapshot);
        snprintf(io->errmsg, sizeof io->errmsg, "the log cannot be loaded: %s", error_text(rc));
    }
    return to_raft(rc);
}

static int io_bootstrap(struct raft_io *io, const struct raft_configuration *configuration)
{
    (void)io;
    (void)configuration;
    return RAFT_CANTBOOTSTRAP; /* consensus_mkfs() does that. */
}

static int io_set_term(struct raft_io *io, raft_term term)
{
    struct consensus *c = from_io(io);
    int rc = log_store_set_term(c->store, term);

    if (rc != 0)
        consensus_fail(c, rc, "cannot store the term");
    return to_raft(rc);
}

static int io_set_vote(struct raft_io *io, raft_id id)
{
    struct consensus *c = from_io(io);
    int rc = log_store_set_vote(c->store, id);

    if (rc != 0)
        consensus_fail(c, rc, "cannot store the vote");
    return to_raft(rc);
}

static struct io_request *request_add(struct consensus *c, enum io_kind kind)
{
    struct io_request *request = calloc(1, sizeof *request);

    if (request == NULL)
        return NULL;
    request->kind = kind;
    STAILQ_INSERT_TAIL(&c->requests, request, link);
    env_defer(c->env, &c->flush_task);
    return request;
}

static int io_append(struct raft_io *io, struct raft_io_append *req,
                     const struct raft_entry entries[], unsigned n, raft_io_append_cb cb)
{
    struct consensus *c = from_io(io);

    for (unsigned i = 0; i < n; i++) {
        /* libraft leaves the data of barriers as malloc gave it; others will receive and keep it.
         */
        if (entries[i].type == RAFT_BARRIER)
            memset(entries[i].buf.base, 0, entries[i].buf.len);
        int rc = log_store_append(c->store, entries[i].term, entries[i].type, entries[i].buf.base,
                                  entries[i].buf.len);
        if (rc != 0) {
            consensus_fail(c, rc, "cannot append to the log");
            return to_raft(rc);
        }
    }
    struct io_request *request = request_add(c, IO_APPEND);
    if (request == NULL) {
        consensus_fail(c, -ENOMEM, "cannot append to the log");
        return RAFT_NOMEM;
    }
    request->append = req;
    request->append_cb = cb;
    return 0;
}

static int io_truncate(struct raft_io *io, raft_index index)
{
    struct consensus *c = from_io(io);
    int rc = log_store_truncate(c->store, index);

    if (rc != 0)
        consensus_fail(c, rc, "cannot truncate the log");
    return to_raft(rc);
}

static int io_snapshot_put(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *req,
                           const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb cb)
{
    struct io_request *request = request_add(from_io(io), IO_SNAPSHOT_PUT);

    if (request == NULL)
        return RAFT_NOMEM;
    request->put.req = req;
    request->put.snapshot = snapshot;
    request->put.trailing = trailing;
    request->put_cb = cb;
    return 0;
}

static int io_snapshot_get(struct raft_io *io, struct raft_io_snapshot_get *req,
                           raft_io_snapshot_get_cb cb)
{
    struct io_request *request = request_add(from_io(io), IO_SNAPSHOT_GET);

    if (request == NULL)
        return RAFT_NOMEM;
    request->get = req;
    request->get_cb = cb;
    return 0;
}

static int store_snapshot(struct consensus *c, const struct raft_snapshot *snapshot,
                          unsigned trailing)
{
    struct raft_buffer conf = {0};
    size_t len = 0;

    if (raft_configuration_encode(&snapshot->configuration, &conf) != 0)
        return -ENOMEM;
    for (unsigned i = 0; i < snapshot->n_bufs; i++)
        len += snapshot->bufs[i].len;
    uint8_t *data = malloc(len + 1);
    if (data == NULL) {
        raft_free(conf.base);
        return -ENOMEM;
    }
    size_t at = 0;
    for (unsigned i = 0; i < snapshot->n_bufs; i++) {
        memcpy(data + at, snapshot->bufs[i].base, snapshot->bufs[i].len);
        at += snapshot->bufs[i].len;
    }
    struct log_snapshot stored = {.index = snapshot->index,
                                  .term = snapshot->term,
                                  .conf_index = snapshot->configuration_index,
                                  .conf_len = conf.len,
                                  .data_len = len,
                                  .conf = conf.base,
                                  .data = data};
    int rc = log_store_put_snapshot(c->store, &stored, trailing);
    free(data);
    raft_free(conf.base);
    return rc;
}

static void request_run(struct consensus *c, struct io_request *request)
{
    struct raft_snapshot *snapshot = NULL;
    int rc;

    switch (request->kind) {
    case IO_APPEND:
        request->append_cb(request->append, 0);
        break;
    case IO_SNAPSHOT_PUT:
        rc = store_snapshot(c, request->put.snapshot, request->put.trailing);
        if (rc != 0)
            consensus_fail(c, rc, "cannot store a snapshot");
        request->put_cb(request->put.req, to_raft(rc));
        break;
    case IO_SNAPSHOT_GET:
        rc = load_snapshot(c, &snapshot);
        if (rc != 0)
            log_error(c->env, "snapshot unreadable", "error=%d", rc);
        request->get_cb(request->get, snapshot, to_raft(rc));
        break;
    }
}

/* One flush for all appends that wait, then their callbacks, in order. C1, C2. */
static void consensus_flush(struct consensus *c)
{
    struct io_request *request;

    if (STAILQ_EMPTY(&c->requests) || c->failed)
        return;
    c->depth++;
    while (!c->failed && (request = STAILQ_FIRST(&c->requests)) != NULL) {
        /* The first round flushes everything; later ones only what a callback has appended. */
        int rc = log_store_flush(c->store);
        if (rc != 0) {
            consensus_fail(c, rc, "cannot flush the log");
            break;
        }
        STAILQ_REMOVE_HEAD(&c->requests, link);
        request_run(c, request);
        free(request);
    }
    c->depth--;
}

static void flush_run(struct env_task *task)
{
    struct consensus *c = container_of(task, struct consensus, flush_task);

    consensus_flush(c);
    consensus_settle(c);
}

/* ---- What libraft asks for: transport, time ---- */

static int io_send(struct raft_io *io, struct raft_io_send *req, const struct raft_message *message,
                   raft_io_send_cb cb)
{
    struct consensus *c = from_io(io);
    struct raft_message copy = *message;
    struct sent *sent = calloc(1, sizeof *sent);

    if (sent == NULL)
        return RAFT_NOMEM;
    if (copy.type == RAFT_IO_APPEND_ENTRIES_RESULT && c->covering &&
        copy.append_entries_result.rejected == 0 &&
        copy.append_entries_result.last_log_index > c->covered)
        copy.append_entries_result.last_log_index = c->covered; /* C5 */
    struct consensus_peer *peer = peer_find(c, copy.server_id);
    if (copy.type == RAFT_IO_APPEND_ENTRIES && peer != NULL &&
        peer->acked >= copy.append_entries.leader_commit)
        peer->told = copy.append_entries.leader_commit;
    struct message *out = raft_codec_encode(&copy, c->raft.id, &c->fsid);
    if (out == NULL) {
        free(sent);
        return RAFT_NOMEM;
    }
    c->ops->send(c->ctx, copy.server_id, out);
    /* The request is completed after libraft's call has returned, as it expects. */
    sent->req = req;
    sent->cb = cb;
    STAILQ_INSERT_TAIL(&c->sent, sent, link);
    return 0;
}

static void sent_complete(struct consensus *c)
{
    struct sent *sent;

    while ((sent = STAILQ_FIRST(&c->sent)) != NULL) {
        STAILQ_REMOVE_HEAD(&c->sent, link);
        if (sent->cb != NULL)
            sent->cb(sent->req, 0);
        free(sent);
    }
}

static raft_time io_time(struct raft_io *io)
{
    return RAFT_TIME_BASE_MS + env_now(from_io(io)->env) / MSEC_NS;
}

static int io_random(struct raft_io *io, int min, int max)
{
    assert(min <= max);
    uint64_t span = (uint64_t)(max - min) + 1;
    return min + (int)(env_random_u64(from_io(io)->env) % span);
}

/* How long a member that does not lead waits for a leader before it stands for election itself. */
static unsigned election_patience_ms(const struct consensus *c)
{
    return c->raft.state == RAFT_CANDIDATE ? c->raft.candidate_state.randomized_election_timeout
                                           : c->raft.follower_state.randomized_election_timeout;
}

/* libraft wants to be called at regular intervals. All that it does then is to send heartbeats, as
 * a leader, or to stand for election when nothing was heard for long enough: so the timer is set
 * for just that, and an idle follower is woken by the leader's heartbeats alone. What is heard
 * meanwhile moves the election away; the timer then fires early and is set anew. */
static void tick_arm(struct consensus *c)
{
    uint64_t delay_ns = c->heartbeat_ns;

    c->ticks_lead = c->raft.state == RAFT_LEADER;
    if (c->raft.state == RAFT_FOLLOWER || c->raft.state == RAFT_CANDIDATE) {
        raft_time now = io_time(&c->io);
        raft_time due = c->raft.election_timer_start + election_patience_ms(c);
        delay_ns = (due > now ? due - now : 1) * MSEC_NS;
    }
    env_timer_stop(c->env, &c->tick_timer);
    env_timer_after(c->env, &c->tick_timer, delay_ns);
}

static int io_start(struct raft_io *io, unsigned heartbeat_ms, raft_io_tick_cb tick,
                    raft_io_recv_cb recv)
{
    struct consensus *c = from_io(io);

    c->tick = tick;
    c->recv = recv;
    c->heartbeat_ns = heartbeat_ms * MSEC_NS;
    tick_arm(c);
    return 0;
}

static void tick_fire(struct env_timer *timer)
{
    struct consensus *c = container_of(timer, struct consensus, tick_timer);

    consensus_flush(c); /* C3: the tick may start an election. */
    if (c->failed)
        return;
    c->depth++;
    c->tick(&c->io);
    c->depth--;
    if (!c->failed)
        tick_arm(c);
    consensus_settle(c);
}

/* Everything that libraft waits for is answered, so that its memory can go. */
static void io_close(struct raft_io *io, raft_io_close_cb cb)
{
    struct consensus *c = from_io(io);
    struct io_request *request;
    struct raft_buffer *bufs;

    env_timer_stop(c->env, &c->tick_timer);
    sent_complete(c);
    while ((request = STAILQ_FIRST(&c->requests)) != NULL) {
        STAILQ_REMOVE_HEAD(&c->requests, link);
        switch (request->kind) {
        case IO_APPEND:
            /* As a success: in its closing state libraft ignores it, but not a failure. */
            request->append_cb(request->append, 0);
            break;
        case IO_SNAPSHOT_PUT:
            bufs = request->put.snapshot->bufs;
            bool installing = request->put.trailing == 0;
            request->put_cb(request->put.req, RAFT_CANCELED);
            if (installing)
                raft_free(bufs); /* libraft 0.15 forgets this array. */
            break;
        case IO_SNAPSHOT_GET:
            request->get_cb(request->get, NULL, RAFT_CANCELED);
            break;
        }
        free(request);
    }
    cb(io);
}

/* ---- What libraft asks of the state machine ---- */

static int fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result)
{
    struct consensus *c = fsm->data;

    *result = NULL;
    int rc = c->ops->apply(c->ctx, buf->base, buf->len);
    if (rc != 0)
        consensus_fail(c, rc, "cannot apply a committed entry");
    return to_raft(rc);
}

static int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    struct consensus *c = fsm->data;
    struct encoder e;

    encoder_init(&e);
    int rc = c->ops->snapshot(c->ctx, &e);
    struct raft_buffer *buf = rc == 0 ? raft_malloc(sizeof *buf) : NULL;
    void *data = buf != NULL ? raft_malloc(e.len + 1) : NULL;
    if (data == NULL) {
        raft_free(buf);
        encoder_fini(&e);
        log_error(c->env, "snapshot not taken", "error=%d", rc);
        return RAFT_BUSY; /* It is tried again with the next entry. */
    }
    memcpy(data, e.data, e.len);
    *buf = (struct raft_buffer){.base = data, .len = e.len};
    *bufs = buf;
    *n_bufs = 1;
    encoder_fini(&e);
    return 0;
}

static int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *buf)
{
    struct consensus *c = fsm->data;
    int rc = c->ops->restore(c->ctx, buf->base, buf->len);

    if (rc != 0) {
        consensus_fail(c, rc, "cannot restore a snapshot");
        return to_raft(rc);
    }
    raft_free(buf->base);
    return 0;
}

/* ---- Elections and leadership ---- */

static void barrier_done(struct raft_barrier *req, int status)
{
    struct consensus *c = req->data;

    if (status == 0)
        c->barrier_applied = true;
}

/* C4: the first thing a new leader does, in the turn of its election. */
static void leader_begin(struct consensus *c)
{
    c->barrier_term = c->raft.current_term;
    c->barrier_applied = false;
    c->barrier.data = c;
    c->depth++;
    int rc = raft_barrier(&c->raft, &c->barrier, barrier_done);
    c->depth--;
    c->barrier_index = raft_last_index(&c->raft);
    for (uint32_t i = 0; i < c->n_peers; i++) {
        c->peers[i].acked = 0;
        c->peers[i].told = 0;
    }
    if (rc != 0)
        consensus_fail(c, -ENOMEM, "cannot begin to lead");
}

/*
 * Followers learn of a commit from the leader's next message. One that has the entry and gets no
 * such message now is sent an empty one. The entry at the commit index is of our own term: C4.
 */
static void commit_tell(struct consensus *c)
{
    uint64_t commit = c->raft.commit_index;

    if (c->raft.state != RAFT_LEADER || commit < c->barrier_index)
        return;
    for (uint32_t i = 0; i < c->n_peers; i++) {
        struct consensus_peer *peer = &c->peers[i];
        if (peer->id == c->raft.id || peer->acked < commit || peer->told >= commit)
            continue;
        struct raft_message message = {.type = RAFT_IO_APPEND_ENTRIES,
                                       .server_id = peer->id,
                                       .append_entries = {.term = c->raft.current_term,
                                                          .prev_log_index = commit,
                                                          .prev_log_term = c->raft.current_term,
                                                          .leader_commit = commit}};
        struct message *out = raft_codec_encode(&message, c->raft.id, &c->fsid);
        if (out == NULL)
            continue;
        peer->told = commit;
        c->ops->send(c->ctx, peer->id, out);
    }
}

static void leadership_settle(struct consensus *c)
{
    bool leader = c->raft.state == RAFT_LEADER;
    bool leading = leader && c->barrier_applied && c->barrier_term == c->raft.current_term;
    raft_id id = 0;
    const char *address;

    if (!leading && c->leading) {
        c->leading = false;
        log_info(c->env, "leadership lost", "term=%llu", c->raft.current_term);
        c->ops->leading(c->ctx, false);
    }
    raft_leader(&c->raft, &id, &address);
    if (id != c->leader) {
        c->leader = id;
        log_info(c->env, "leader changed", "leader=%llu term=%llu", id, c->raft.current_term);
        c->ops->leader_changed(c->ctx, id);
    }
    if (leading && !c->leading) {
        c->leading = true;
        log_info(c->env, "leading", "term=%llu index=%llu", c->raft.current_term,
                 c->raft.last_applied);
        c->ops->leading(c->ctx, true);
    }
}

/* After every call into libraft: completes what it started and tells the owner what changed. */
static void consensus_settle(struct consensus *c)
{
    assert(c->depth == 0);
    if (c->closing || c->failed)
        return;
    for (;;) {
        c->depth++;
        sent_complete(c);
        c->depth--;
        if (c->failed)
            return;
        if (c->raft.state == RAFT_UNAVAILABLE) {
            consensus_fail(c, -ELIMPET_CORRUPT, "libraft stopped on an error");
            return;
        }
        if (c->raft.state != RAFT_LEADER || c->barrier_term == c->raft.current_term)
            break;
        leader_begin(c);
    }
    if (c->raft.state == RAFT_LEADER && !c->ticks_lead)
        tick_arm(c);
    commit_tell(c);
    leadership_settle(c);
    if (c->decided && !c->failed) {
        c->decided = false;
        c->in_flight = false;
        c->ops->proposed(c->ctx, c->decision);
    }
}

/* Makes the election timer run out after delay_ms, if it would run longer. */
static void election_hasten(struct consensus *c, uint64_t delay_ms)
{
    if (c->raft.state != RAFT_FOLLOWER && c->raft.state != RAFT_CANDIDATE)
        return;
    raft_time due = io_time(&c->io) + delay_ms;
    if (c->raft.election_timer_start + election_patience_ms(c) <= due)
        return;
    c->raft.election_timer_start = due - election_patience_ms(c);
    tick_arm(c);
}

void consensus_peer_dead(struct consensus *c, uint64_t id)
{
    if (c->failed || c->leader != id || id == c->raft.id)
        return;
    struct consensus_peer *peer = peer_find(c, id);
    if (peer != NULL)
        peer->heard_ns = 0;
    log_info(c->env, "leader is gone", "leader=%" PRIu64, id);
    election_hasten(c, env_random_u64(c->env) % ELECTION_HASTE_MS);
}

void consensus_peer_found(struct consensus *c, uint64_t id)
{
    (void)id;
    if (!c->failed && c->leader == 0)
        election_hasten(c, ELECTION_HASTE_MS / 4 + env_random_u64(c->env) % ELECTION_HASTE_MS);
}

/* ---- Messages of other monitors ---- */

/* Entries at the beginning that are committed here are cut off: libraft mistakes those that its
 * log no longer holds for new ones. They are the leader's as well (leader completeness). */
static void trim_committed(struct consensus *c, struct raft_append_entries *args)
{
    uint64_t committed = c->raft.commit_index;

    if (args->n_entries == 0 || args->prev_log_index >= c->raft.log.offset ||
        args->prev_log_index + args->n_entries < committed || committed <= args->prev_log_index)
        return;
    unsigned cut = (unsigned)(committed - args->prev_log_index);
    args->prev_log_index = committed;
    args->prev_log_term = args->entries[cut - 1].term;
    args->n_entries -= cut;
    if (args->n_entries == 0) {
        raft_free(args->entries[0].batch);
        raft_free(args->entries);
        args->entries = NULL;
        return;
    }
    memmove(args->entries, args->entries + cut, args->n_entries * sizeof *args->entries);
}

/* Messages that a correct monitor never sends, but that libraft would trip over. */
static bool message_acceptable(const struct consensus *c, const struct raft_message *message)
{
    const struct raft *raft = &c->raft;

    switch (message->type) {
    case RAFT_IO_APPEND_ENTRIES:
        if (message->append_entries.prev_log_index < raft->log.offset &&
            message->append_entries.n_entries > 0)
            return false; /* All of it is older than our log: it came late. */
        return raft->state != RAFT_LEADER || message->append_entries.term != raft->current_term;
    case RAFT_IO_INSTALL_SNAPSHOT:
        return raft->state != RAFT_LEADER || message->install_snapshot.term != raft->current_term;
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        /* C4 */
        return raft->state != RAFT_LEADER || raft->last_stored >= c->barrier_index;
    case RAFT_IO_REQUEST_VOTE_RESULT:
        return !message->request_vote_result.vote_granted ||
               message->request_vote_result.term <= raft->current_term + 1;
    default:
        return true;
    }
}

/* Whether what waits for a flush may go on waiting while libraft handles the message: C3. */
static bool may_wait(const struct consensus *c, const struct raft_message *message)
{
    const struct io_request *request;

    STAILQ_FOREACH(request, &c->requests, link)
    {
        if (request->kind != IO_APPEND)
            return false;
    }
    if (message->type == RAFT_IO_APPEND_ENTRIES)
        return c->raft.state == RAFT_FOLLOWER &&
               c->raft.follower_state.current_leader.id == message->server_id &&
               message->append_entries.term == c->raft.current_term;
    return message->type == RAFT_IO_APPEND_ENTRIES_RESULT && c->raft.state == RAFT_LEADER &&
           message->append_entries_result.term == c->raft.current_term;
}

static void note_ack(const struct consensus *c, struct consensus_peer *peer,
                     const struct raft_append_entries_result *result)
{
    if (c->raft.state == RAFT_LEADER && result->term == c->raft.current_term &&
        result->rejected == 0 && result->last_log_index > peer->acked)
        peer->acked = result->last_log_index;
}

void consensus_receive(struct consensus *c, uint64_t from, const struct message *in)
{
    struct raft_message message;
    struct consensus_peer *peer = peer_find(c, from);

    if (c->failed || c->closing || peer == NULL || from == c->raft.id)
        return;
    int rc = raft_codec_decode(in, from, &c->fsid, &message);
    if (rc != 0) {
        log_warn(c->env, "raft message refused", "from=%" PRIu64 " error=%d", from, rc);
        return;
    }
    message.server_address = peer->address;
    peer->heard_ns = env_now(c->env);
    if (!may_wait(c, &message))
        consensus_flush(c);
    if (message.type == RAFT_IO_APPEND_ENTRIES)
        trim_committed(c, &message.append_entries);
    if (c->failed || !message_acceptable(c, &message)) {
        raft_codec_free(&message);
    } else {
        c->covering = message.type == RAFT_IO_APPEND_ENTRIES;
        if (c->covering)
            c->covered = message.append_entries.prev_log_index + message.append_entries.n_entries;
        if (message.type == RAFT_IO_APPEND_ENTRIES_RESULT)
            note_ack(c, peer, &message.append_entries_result);
        c->depth++;
        c->recv(&c->io, &message);
        c->depth--;
        c->covering = false;
    }
    consensus_settle(c);
}

/* ---- Proposals ---- */

static void apply_done(struct raft_apply *req, int status, void *result)
{
    struct consensus *c = req->data;

    (void)result;
    c->decided = true;
    c->decision = status == 0 ? 0 : -ELIMPET_NOT_LEADER;
}

int consensus_propose(struct consensus *c, const void *data, size_t len)
{
    if (c->failed || !c->leading || c->raft.state != RAFT_LEADER)
        return -ELIMPET_NOT_LEADER;
    if (c->in_flight)
        return -EBUSY;
    if (len > CONSENSUS_ENTRY_MAX)
        return -EMSGSIZE;
    struct raft_buffer buf = {.base = raft_malloc(len + 1), .len = len};
    if (buf.base == NULL)
        return -ENOMEM;
    memcpy(buf.base, data, len);
    c->apply.data = c;
    c->depth++;
    int rc = raft_apply(&c->raft, &c->apply, &buf, 1, apply_done);
    c->depth--;
    if (rc != 0) {
        raft_free(buf.base);
        return rc == RAFT_NOTLEADER ? -ELIMPET_NOT_LEADER : -ENOMEM;
    }
    c->in_flight = true;
    return 0;
}

/* ---- Life ---- */

int consensus_mkfs(struct env *env, const struct map_mon *mons, uint32_t n)
{
    struct raft_configuration configuration;
    struct raft_buffer buf = {0};
    int rc = 0;

    raft_configuration_init(&configuration);
    for (uint32_t i = 0; i < n && rc == 0; i++) {
        char address[NET_ADDRESS_TEXT_MAX];
        int error = raft_configuration_add(
            &configuration, mons[i].id, net_address_format(&mons[i].address, address), RAFT_VOTER);
        rc = error == 0 ? 0 : error == RAFT_NOMEM ? -ENOMEM : -EINVAL;
    }
    if (rc == 0 && raft_configuration_encode(&configuration, &buf) != 0)
        rc = -ENOMEM;
    if (rc == 0)
        rc = log_store_mkfs(env, RAFT_CHANGE, buf.base, buf.len);
    raft_free(buf.base);
    raft_configuration_close(&configuration);
    return rc;
}

static void io_fill(struct consensus *c)
{
    c->io = (struct raft_io){.version = 1,
                             .impl = c,
                             .init = io_init,
                             .close = io_close,
                             .load = io_load,
                             .start = io_start,
                             .bootstrap = io_bootstrap,
                             .recover = io_bootstrap,
                             .set_term = io_set_term,
                             .set_vote = io_set_vote,
                             .send = io_send,
                             .append = io_append,
                             .truncate = io_truncate,
                             .snapshot_put = io_snapshot_put,
                             .snapshot_get = io_snapshot_get,
                             .time = io_time,
                             .random = io_random};
    c->fsm = (struct raft_fsm){.version = 1,
                               .data = c,
                               .apply = fsm_apply,
                               .snapshot = fsm_snapshot,
                               .restore = fsm_restore};
}

static int raft_begin(struct consensus *c, const struct consensus_options *options,
                      char why[LOG_STORE_WHY_MAX])
{
    struct consensus_peer *self = peer_find(c, options->self);

    assert(self != NULL);
    if (raft_init(&c->raft, &c->io, &c->fsm, options->self, self->address) != 0)
        return -ENOMEM;
    c->raft_live = true;
    raft_set_election_timeout(&c->raft, c->election_timeout_ms);
    raft_set_heartbeat_timeout(&c->raft, options->heartbeat_ms != 0 ? options->heartbeat_ms
                                                                    : CONSENSUS_HEARTBEAT_MS);
    raft_set_install_snapshot_timeout(&c->raft, INSTALL_SNAPSHOT_TIMEOUT_MS);
    raft_set_snapshot_threshold(&c->raft, options->snapshot_entries != 0
                                              ? options->snapshot_entries
                                              : CONSENSUS_SNAPSHOT_ENTRIES);
    raft_set_snapshot_trailing(&c->raft, CONSENSUS_TRAILING_ENTRIES);
    raft_set_pre_vote(&c->raft, true);
    c->depth++;
    int rc = raft_start(&c->raft);
    c->depth--;
    if (rc != 0) {
        snprintf(why, LOG_STORE_WHY_MAX, "consensus cannot start: %s", raft_errmsg(&c->raft));
        return rc == RAFT_NOMEM ? -ENOMEM : -ELIMPET_CORRUPT;
    }
    return 0;
}

int consensus_create(struct env *env, const struct consensus_options *options,
                     const struct consensus_ops *ops, void *ctx, struct consensus **out,
                     char why[LOG_STORE_WHY_MAX])
{
    struct consensus *c = calloc(1, sizeof *c);

    *out = NULL;
    if (c == NULL)
        return -ENOMEM;
    assert(options->n_mons <= MAP_MONS_MAX);
    c->env = env;
    c->ops = ops;
    c->ctx = ctx;
    c->fsid = options->fsid;
    c->election_timeout_ms = options->election_timeout_ms != 0 ? options->election_timeout_ms
                                                               : CONSENSUS_ELECTION_TIMEOUT_MS;
    c->n_peers = options->n_mons;
    for (uint32_t i = 0; i < c->n_peers; i++) {
        c->peers[i].id = options->mons[i].id;
        net_address_format(&options->mons[i].address, c->peers[i].address);
    }
    STAILQ_INIT(&c->requests);
    STAILQ_INIT(&c->sent);
    c->tick_timer.fire = tick_fire;
    c->flush_task.run = flush_run;
    io_fill(c);
    int rc = log_store_open(env, &c->store, why);
    if (rc == 0)
        rc = raft_begin(c, options, why);
    if (rc != 0) {
        consensus_destroy(c);
        return rc;
    }
    *out = c;
    /* A sole monitor leads from the start; its owner is told in a turn of its own. */
    env_defer(env, &c->flush_task);
    return 0;
}

static void raft_closed(struct raft *raft)
{
    (void)raft;
}

void consensus_destroy(struct consensus *c)
{
    if (c == NULL)
        return;
    c->closing = true;
    c->depth++;
    if (c->raft_live)
        raft_close(&c->raft, raft_closed);
    env_timer_stop(c->env, &c->tick_timer);
    log_store_close(c->store);
    free(c);
}

bool consensus_busy(const struct consensus *c)
{
    return c->flush_task.queued;
}

bool consensus_leading(const struct consensus *c)
{
    return c->leading;
}

bool consensus_in_flight(const struct consensus *c)
{
    return c->in_flight;
}

uint64_t consensus_leader(const struct consensus *c)
{
    return c->leader;
}

bool consensus_heard(const struct consensus *c, uint64_t id)
{
    if (id == c->raft.id)
        return true;
    for (uint32_t i = 0; i < c->n_peers; i++) {
        const struct consensus_peer *peer = &c->peers[i];
        if (peer->id == id)
            return peer->heard_ns != 0 && env_now(c->env) - peer->heard_ns <=
                                              2 * (uint64_t)c->election_timeout_ms * MSEC_NS;
    }
    return false;
}

void consensus_state(const struct consensus *c, struct consensus_state *out)
{
    static const char *const roles[] = {"stopped", "follower", "candidate", "leader"};

    *out =
        (struct consensus_state){.role = c->raft.state < 4 ? roles[c->raft.state] : "?",
                                 .term = c->raft.current_term,
                                 .leader = c->leader,
                                 .last_index = raft_last_index((struct raft *)(uintptr_t)&c->raft),
                                 .applied = c->raft.last_applied};
}

const struct log_store *consensus_log(const struct consensus *c)
{
    return c->store;
}
