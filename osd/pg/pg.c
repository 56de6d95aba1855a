/*
 * The state machine of a placement group.
 *
 * Invariants:
 *
 *  G1  The log is contiguous: it holds every sequence from base + 1 to head, and two copies that
 *      hold the same (config, sequence) agree on everything before it. A member appends only what
 *      follows its head, and only from the primary of its configuration after activation under it.
 *  G2  Objects are what the log says: an entry and its effect are one store transaction, and a
 *      member that differs from a new primary is changed over in one transaction (pg_follow.c).
 *  G3  committed <= durable <= head, and on a primary that serves, committed is what every member,
 *      and every learner that may become one by a request of ours, has durable. A client is told
 *      of a write only when it is committed.
 *  G4  Only PRIMARY_ACTIVE executes client requests, and only when the set has at least min_size
 *      members; with fewer it fills learners and holds requests. It requires of the map: a live set
 *      with ourselves in front; of us: a complete copy; of every member: that it became equal to us
 *      under this configuration.
 *  G5  Replica messages are accepted only from the primary that our map names, with a
 *      configuration number in [config_first, view.config]. Older ones are refused, newer ones wait
 *      for the map.
 *  G6  A copy that is not complete says so in the store before the first of its objects changes;
 *      it never serves and never counts as a member that is equal.
 *  G7  A primary never takes entries back from its own log. A member takes back only entries above
 *      what it knows to be committed.
 *  G8  A learner is proposed as a member only when it has everything durable that was ever
 *      acknowledged, and its acknowledgement is needed from then on until the configuration changes
 *      or the map shows that it is down.
 *  G9  Before a new primary serves, every process that may have served before under an older
 *      configuration has ended, or knows that it is over, or has no lease of ours left
 *      (pg_lease.c).
 *  G10 A copy is removed only when this process is up in the map, and the pool is gone, or the
 *      group is clean without us.
 *  G11 A map that is older than the one by which a primary last told us what to do removes nothing:
 *      the group may have been clean without us for a while and have filled us again since.
 *
 * States, and what the map (M), the primary's messages (P) or our own work (W) change:
 *
 *      LOADING --W--> STRAY ----M----> REMOVING --W--> STRAY (and disposable)
 *                       |
 *     (any, by M) ------+--> REPLICA_WAITING <--P--> REPLICA_ACTIVE
 *                       |        |  ^
 *                       |        P  P   (a member that has nothing in common with its primary)
 *                       |        v  |
 *                       +--> LEARNER_WAITING --P--> FILLING --P--> FILLED
 *                       |
 *                       +--> PRIMARY_INACTIVE --M--> PRIMARY_ACTIVATING <--W--> PRIMARY_ACTIVE
 *
 * In LOADING nothing is known. STRAY: the map gives us no part. REPLICA_WAITING: a member that the
 * primary has not made equal yet. REPLICA_ACTIVE: equal, and follows. LEARNER_WAITING: wanted by
 * CRUSH, not asked yet. FILLING, FILLED: see pg_learn.c. PRIMARY_INACTIVE: the map does not allow
 * to serve, or our copy is not complete. PRIMARY_ACTIVATING: members are being made equal.
 */
#include "osd/pg/pg_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/planted.h"
#include "osd/pg/pg_watch.h"
#include "placement/hash.h"

/* ---- States ---- */

#define STATE_BIT(state) (1u << (state))

/* What a new map may make of a group in any state but LOADING. */
#define STATES_BY_MAP                                                                              \
    (STATE_BIT(PG_STATE_STRAY) | STATE_BIT(PG_STATE_REPLICA_WAITING) |                             \
     STATE_BIT(PG_STATE_LEARNER_WAITING) | STATE_BIT(PG_STATE_PRIMARY_INACTIVE) |                  \
     STATE_BIT(PG_STATE_PRIMARY_ACTIVATING) | STATE_BIT(PG_STATE_REMOVING))

static const uint32_t next_states[PG_STATE_COUNT] = {
    [PG_STATE_LOADING] = STATE_BIT(PG_STATE_STRAY),
    [PG_STATE_STRAY] = STATES_BY_MAP,
    [PG_STATE_REPLICA_WAITING] =
        STATES_BY_MAP | STATE_BIT(PG_STATE_REPLICA_ACTIVE) | STATE_BIT(PG_STATE_FILLING),
    [PG_STATE_REPLICA_ACTIVE] = STATES_BY_MAP,
    [PG_STATE_LEARNER_WAITING] = STATES_BY_MAP | STATE_BIT(PG_STATE_FILLING),
    [PG_STATE_FILLING] = STATES_BY_MAP | STATE_BIT(PG_STATE_FILLED) | STATE_BIT(PG_STATE_FILLING),
    [PG_STATE_FILLED] = STATES_BY_MAP | STATE_BIT(PG_STATE_FILLING),
    [PG_STATE_PRIMARY_INACTIVE] = STATES_BY_MAP,
    [PG_STATE_PRIMARY_ACTIVATING] = STATES_BY_MAP | STATE_BIT(PG_STATE_PRIMARY_ACTIVE),
    [PG_STATE_PRIMARY_ACTIVE] = STATES_BY_MAP,
    [PG_STATE_REMOVING] = STATES_BY_MAP,
};

static const char *const state_names[PG_STATE_COUNT] = {
    [PG_STATE_LOADING] = "loading",
    [PG_STATE_STRAY] = "stray",
    [PG_STATE_REPLICA_WAITING] = "replica-waiting",
    [PG_STATE_REPLICA_ACTIVE] = "replica",
    [PG_STATE_LEARNER_WAITING] = "learner-waiting",
    [PG_STATE_FILLING] = "filling",
    [PG_STATE_FILLED] = "filled",
    [PG_STATE_PRIMARY_INACTIVE] = "inactive",
    [PG_STATE_PRIMARY_ACTIVATING] = "activating",
    [PG_STATE_PRIMARY_ACTIVE] = "active",
    [PG_STATE_REMOVING] = "removing",
};

const char *pg_state_name(enum pg_state state)
{
    assert(state < PG_STATE_COUNT);
    return state_names[state];
}

bool pg_is_primary(const struct pg *pg)
{
    return pg->state == PG_STATE_PRIMARY_INACTIVE || pg->state == PG_STATE_PRIMARY_ACTIVATING ||
           pg->state == PG_STATE_PRIMARY_ACTIVE;
}

/* G3, G4, G6 as far as they can be seen at a glance. */
static void check_invariants(const struct pg *pg)
{
    uint64_t head = pg_log_head(&pg->log).sequence;
    assert(pg->durable <= head && pg->committed <= head);
    assert(pg->log.base.sequence <= head);
    assert(pg->view.config >= pg->config_first);
    if (pg->state == PG_STATE_PRIMARY_ACTIVE) {
        assert(pg->self_live && pg->view.recovers && pg->view.primary == pg->world->self);
        assert(pg->complete && pg->committed <= pg->durable);
        for (uint8_t i = 0; i < pg->n_peers; i++)
            assert(pg->peers[i].phase == PEER_EQUAL && pg->peers[i].acked >= pg->committed);
    }
    if (pg->state == PG_STATE_FILLING)
        assert(!pg->complete);
    if (pg->state == PG_STATE_REPLICA_ACTIVE || pg->state == PG_STATE_FILLED)
        assert(pg->complete);
    if (!pg_is_primary(pg))
        assert(TAILQ_EMPTY(&pg->fills) && TAILQ_EMPTY(&pg->held) && TAILQ_EMPTY(&pg->queued));
    assert(pg->serving || TAILQ_EMPTY(&pg->unleased));
}

void pg_set_state(struct pg *pg, enum pg_state state)
{
    assert(next_states[pg->state] & STATE_BIT(state));
    if (pg->state != state)
        log_debug(pg->world->env, "pg state", "pg=%s from=%s to=%s config=%" PRIu64, pg_text(pg),
                  state_names[pg->state], state_names[state], pg->view.config);
    pg->state = state;
    check_invariants(pg);
    pg->world->ops->changed(pg->world->ctx, pg);
}

/* ---- Life ---- */

void pg_world_init(struct pg_world *world)
{
    TAILQ_INIT(&world->idle_objects);
    TAILQ_INIT(&world->waiting_fills);
    TAILQ_INIT(&world->waiting_runs);
    SLIST_INIT(&world->free_writes);
    world->log_keep = PG_LOG_KEEP;
    world->clients = PG_CLIENTS_MAX;
    pg_turns_init(&world->turns, world->env);
}

void pg_world_fini(struct pg_world *world)
{
    assert(world->n_objects == 0 && world->n_fills == 0 && !pg_reads_wait(world));
    pg_write_drop_pool(world);
    pg_turns_fini(&world->turns);
}

struct pg *pg_create(struct pg_world *world, struct pg_id id, bool in_store)
{
    struct pg *pg = calloc(1, sizeof *pg);
    if (!pg)
        return NULL;
    pg->world = world;
    pg->id = id;
    pg->state = in_store ? PG_STATE_LOADING : PG_STATE_STRAY;
    pg->complete = true;
    pg->persisted = in_store;
    pg_log_init(&pg->log);
    pg->log.clients.limit = world->clients;
    pg_dirty_init(&pg->dirty, &world->dirty_bytes);
    TAILQ_INIT(&pg->asyncs);
    TAILQ_INIT(&pg->writes);
    TAILQ_INIT(&pg->fills);
    TAILQ_INIT(&pg->pushes);
    TAILQ_INIT(&pg->held);
    TAILQ_INIT(&pg->queued);
    TAILQ_INIT(&pg->unleased);
    TAILQ_INIT(&pg->running);
    TAILQ_INIT(&pg->waiting);
    TAILQ_INIT(&pg->notifying);
    TAILQ_INIT(&pg->staged);
    TAILQ_INIT(&pg->surveys);
    TAILQ_INIT(&pg->repairs);
    TAILQ_INIT(&pg->suspects);
    TAILQ_INIT(&pg->inconsistents);
    for (uint32_t i = 0; i < PG_SIZE_MAX; i++) {
        TAILQ_INIT(&pg->peers[i].to_push);
        TAILQ_INIT(&pg->peers[i].unreadable);
    }
    return pg;
}

/* Stops being a primary, or a copy that follows one: nothing of it is left but the store's work. */
static void stop_working(struct pg *pg, bool discard)
{
    /* First of all, so that nothing that is let go below lets a request run. */
    pg_requests_withdraw(pg);
    pg_activate_stop(pg);
    pg_fills_stop(pg, false);
    pg_pushes_cancel(pg, -1);
    pg_scrub_stop(pg);
    pg_trim_stop(pg);
    pg_staged_clear(pg, discard);
    pg_learn_stop(pg);
}

void pg_stop(struct pg *pg)
{
    stop_working(pg, false);
    pg_requests_refuse(pg);
    pg_writes_disown(pg);
    pg_objects_forget(pg);
    pg->upstream = pg->bound = NULL;
    if (pg->state != PG_STATE_LOADING)
        pg->state = PG_STATE_STRAY;
}

void pg_destroy(struct pg *pg)
{
    pg_stop(pg);
    struct pg_async *async;
    while ((async = TAILQ_FIRST(&pg->asyncs))) {
        TAILQ_REMOVE(&pg->asyncs, async, link);
        async->drop(async);
    }
    pg_suspects_clear(pg);
    pg_inconsistents_clear(pg);
    pg_log_fini(&pg->log);
    pg_dirty_stop(&pg->dirty);
    snaps_unref(pg->snaps);
    free(pg);
}

bool pg_is_disposable(const struct pg *pg)
{
    return pg->state == PG_STATE_STRAY && !pg->persisted && TAILQ_EMPTY(&pg->asyncs) && pg->seen;
}

/* ---- Small things ---- */

void pg_async_begin(struct pg *pg, struct pg_async *async, void (*drop)(struct pg_async *async))
{
    async->pg = pg;
    async->drop = drop;
    TAILQ_INSERT_TAIL(&pg->asyncs, async, link);
}

void pg_async_end(struct pg_async *async)
{
    TAILQ_REMOVE(&async->pg->asyncs, async, link);
}

void pg_fatal(struct pg *pg, int error, const char *why)
{
    log_error(pg->world->env, "pg failed", "pg=%s error=\"%s\" why=\"%s\"", pg_text(pg),
              error_text(error), why);
    pg->world->ops->fatal(pg->world->ctx, error, why);
}

/* For log lines: static memory of the one thread that an OSD has. */
const char *pg_text(const struct pg *pg)
{
    static _Thread_local char text[PG_ID_TEXT_MAX];
    return pg_id_format(pg->id, text);
}

uint64_t pg_epoch(const struct pg *pg)
{
    return pg->world->map->epoch;
}

struct pg_id pg_id(const struct pg *pg)
{
    return pg->id;
}

enum pg_state pg_state(const struct pg *pg)
{
    return pg->state;
}

struct wire_version pg_head(const struct pg *pg)
{
    return pg_log_head(&pg->log);
}

uint64_t pg_committed(const struct pg *pg)
{
    return pg->committed;
}

bool pg_complete(const struct pg *pg)
{
    return pg->complete;
}

bool pg_is_member(const struct pg *pg, int32_t osd)
{
    for (uint8_t i = 0; i < pg->view.n_members; i++)
        if (pg->view.members[i] == osd)
            return true;
    return false;
}

struct pg_peer *pg_peer_find(struct pg *pg, int32_t osd)
{
    for (uint8_t i = 0; i < pg->n_peers; i++)
        if (pg->peers[i].osd == osd)
            return &pg->peers[i];
    return NULL;
}

void pg_send_proto(struct pg *pg, int32_t osd, uint16_t type, const ProtobufCMessage *proto)
{
    struct message *message = message_pack(type, proto);
    if (message)
        pg->world->ops->send(pg->world->ctx, osd, message);
}

void pg_answer(struct pg *pg, struct message *message)
{
    if (pg->upstream)
        pg->world->ops->answer(pg->world->ctx, pg->upstream, message);
    else
        message_unref(message);
}

void pg_answer_proto(struct pg *pg, uint16_t type, const ProtobufCMessage *proto)
{
    struct message *message = message_pack(type, proto);
    if (message)
        pg_answer(pg, message);
}

void pg_encode_id(const struct object_id *id, struct encoder *e, uint8_t memory[PG_OBJECT_ID_MAX])
{
    encoder_init_fixed(e, memory, PG_OBJECT_ID_MAX);
    encode_object_id(e, id);
    assert(!e->failed);
}

int pg_decode_id(const struct pg *pg, const void *data, size_t len, struct object_id *out)
{
    struct decoder d;
    decoder_init(&d, data, len);
    decode_object_id(&d, out);
    if (decoder_end(&d) || out->pool != pg->id.pool || pg_is_temporary(out))
        return -EBADMSG;
    uint32_t place = object_hash_reverse(out->hash);
    return place < pg->hash_first || place > pg->hash_last ? -EBADMSG : 0;
}

/* ---- Changes of state in the store ---- */

static void step_drop(struct pg_async *async)
{
    struct pg_step *step = container_of(async, struct pg_step, async);
    txn_fini(&step->txn);
    free(step);
}

static void step_done(struct store_txn *txn, int error)
{
    struct pg_step *step = container_of(txn, struct pg_step, txn);
    struct pg *pg = step->async.pg;
    pg_async_end(&step->async);
    pg->world->read_errors += step->txn.damaged;
    if (error)
        pg_fatal(pg, error, "the store could not commit");
    else if (step->done)
        step->done(step);
    step_drop(&step->async);
}

struct pg_step *pg_step_create(struct pg *pg)
{
    struct pg_step *step = calloc(1, sizeof *step);
    if (!step)
        return NULL;
    txn_init(&step->txn);
    step->txn.done = step_done;
    step->txn.chained = true;
    step->async.pg = pg;
    return step;
}

void pg_step_discard(struct pg_step *step)
{
    step_drop(&step->async);
}

void pg_step_submit(struct pg_step *step)
{
    struct pg *pg = step->async.pg;
    step->generation = pg->generation;
    step->txn.uses_reserve = true; /* Recovery, and what frees space. */
    pg_async_begin(pg, &step->async, step_drop);
    store_submit(pg->world->store, &step->txn);
}

void pg_put_state(struct pg *pg, struct store_txn *txn)
{
    const uint8_t key = PG_KEY_STATE;
    struct pg_state_layout state = {
        .layout = PG_LAYOUT_VERSION,
        .complete = pg->complete,
        .base = pg->log.base,
        .totals = pg->log.base_totals,
        .fill_from = pg->complete ? (struct wire_version){0} : pg->fill_from,
        .forgotten_ns = pg->log.clients.forgotten_ns,
    };
    txn_pg_set(txn, pg->id, &key, sizeof key, &state, sizeof state);
    pg->persisted = true;
}

/* ---- Following the map ---- */

static bool self_is_live(const struct pg_world *world)
{
    const struct map_osd *osd = map_osd(world->map, world->self);
    return osd && osd->up && osd->instance == world->env->instance;
}

static void look_at_lives(const struct pg *pg, const struct pg_view *view,
                          struct member_life lives[PG_SIZE_MAX])
{
    memset(lives, 0, sizeof(struct member_life) * PG_SIZE_MAX);
    for (uint8_t i = 0; i < view->n_members; i++) {
        const struct map_osd *osd = map_osd(pg->world->map, view->members[i]);
        if (!osd)
            continue;
        lives[i].up = osd->up;
        lives[i].instance = osd->instance;
        lives[i].up_from = osd->up_from;
    }
}

/*
 * Whether nothing happened to the set and its processes. The same configuration number proves it.
 * So does the same set of the same processes, if no map in between was skipped: then the number
 * was changed only to forget the entry.
 */
static bool same_configuration(const struct pg *pg, const struct pg_view *view,
                               const struct member_life *lives, bool every_step)
{
    if (view->config == pg->view.config)
        return true;
    if (!every_step || view->n_members != pg->view.n_members)
        return false;
    for (uint8_t i = 0; i < view->n_members; i++) {
        if (view->members[i] != pg->view.members[i] || lives[i].up != pg->lives[i].up ||
            lives[i].instance != pg->lives[i].instance || lives[i].up_from != pg->lives[i].up_from)
            return false;
    }
    return true;
}

static bool in_list(const int32_t *list, uint8_t n, int32_t osd)
{
    for (uint8_t i = 0; i < n; i++)
        if (list[i] == osd)
            return true;
    return false;
}

/* G10, G11. */
static bool may_remove(const struct pg *pg)
{
    if (!pg->self_live || !pg->persisted)
        return false;
    if (pg->gone)
        return true;
    if (pg_epoch(pg) < pg->followed_epoch)
        return false;
    int32_t self = pg->world->self;
    bool needed =
        (!pg->view.clean && !planted(PLANTED_DELETE_STRAYS_EARLY)) || pg_is_member(pg, self);
    return (!needed || planted(PLANTED_REMOVE_EARLY)) &&
           !in_list(pg->view.wanted, pg->view.n_wanted, self);
}

/* The part that the map gives us, where nothing is known about what we were. */
static enum pg_state part_of(const struct pg *pg)
{
    int32_t self = pg->world->self;
    if (may_remove(pg))
        return PG_STATE_REMOVING;
    if (pg->gone || !pg->self_live)
        return PG_STATE_STRAY;
    if (pg->view.primary == self)
        return pg->view.recovers ? PG_STATE_PRIMARY_ACTIVATING : PG_STATE_PRIMARY_INACTIVE;
    if (pg_is_member(pg, self))
        return PG_STATE_REPLICA_WAITING;
    if (in_list(pg->view.learners, pg->view.n_learners, self))
        return PG_STATE_LEARNER_WAITING;
    return PG_STATE_STRAY;
}

/* The set, or a process in it, is another one. */
static void begin_configuration(struct pg *pg)
{
    bool was_primary = pg_is_primary(pg);
    stop_working(pg, true);
    pg_lease_forget(pg);
    pg->lacks_commits = false;
    pg->unreadable = false;
    pg->compare_again = false;
    pg->upstream = pg->bound = NULL;
    enum pg_state part = part_of(pg);
    bool primary = part == PG_STATE_PRIMARY_ACTIVATING || part == PG_STATE_PRIMARY_INACTIVE;
    if (primary && !was_primary)
        pg->primary_since = pg->view.config;
    if (was_primary && !primary) {
        pg_requests_refuse(pg);
        pg_writes_disown(pg);
        pg_objects_forget(pg);
        pg_suspects_clear(pg);
        pg_inconsistents_clear(pg);
    }
    if (part == PG_STATE_PRIMARY_ACTIVATING && !pg->complete) {
        log_error(pg->world->env, "pg cannot serve", "pg=%s why=\"our copy is not complete\"",
                  pg_text(pg));
        part = PG_STATE_PRIMARY_INACTIVE;
    }
    pg_set_state(pg, part);
    if (part == PG_STATE_PRIMARY_ACTIVATING)
        pg_activate_start(pg);
    else if (part == PG_STATE_REMOVING)
        pg_remove_start(pg);
}

/* The set and its processes are the same; but who is wanted may not be, and whether we are. */
static void continue_configuration(struct pg *pg)
{
    if (pg_is_primary(pg)) {
        pg_fills_follow_map(pg);
        pg_activate_follow_map(pg);
        if (pg->compare_again)
            pg_activate_again(pg, "a member knows a newer configuration");
        return;
    }
    if (pg_is_member(pg, pg->world->self))
        return;
    enum pg_state part = part_of(pg);
    bool learning = pg->state == PG_STATE_FILLING || pg->state == PG_STATE_FILLED;
    if (part == pg->state || (part == PG_STATE_LEARNER_WAITING && learning))
        return;
    begin_configuration(pg);
}

void pg_follow_map(struct pg *pg, bool every_step)
{
    assert(pg->state != PG_STATE_LOADING);
    struct pg_view view;
    struct member_life lives[PG_SIZE_MAX];
    const struct map_pool *pool = map_pool(pg->world->map, pg->id.pool);
    bool first_map = !pg->seen;
    bool gone = !pool || map_pg_view(pg->world->map, pg->id, &view) != 0;
    bool self_live = self_is_live(pg->world);
    if (gone) {
        memset(&view, 0, sizeof view);
        view.config = pg_epoch(pg);
        view.primary = -1;
    } else {
        pg_hash_range(pg->id.seed, pool->pg_num, &pg->hash_first, &pg->hash_last);
        pg->range_known = true;
    }
    look_at_lives(pg, &view, lives);
    bool same = pg->seen && gone == pg->gone && self_live == pg->self_live &&
                (gone || same_configuration(pg, &view, lives, every_step));
    if (!same) {
        pg_formers_note(pg);
        pg->config_first = view.config;
    }
    /* The first configuration of all has none before it. */
    bool unseen = !gone && (pg->seen ? !same && !every_step : view.config != pool->created);
    pg->seen = true;
    pg->gone = gone;
    pg->self_live = self_live;
    pg->view = view;
    memcpy(pg->lives, lives, sizeof lives);
    if (unseen)
        pg_formers_unseen(pg);
    pg_snaps_follow(pg, every_step);
    pg_dirty_follow(pg, first_map);
    if (same)
        continue_configuration(pg);
    else
        begin_configuration(pg);
    check_invariants(pg);
}

/* ---- Messages ---- */

/* G5: what the message's configuration number says about it. */
enum config_check { CONFIG_FITS, CONFIG_OLD, CONFIG_NEW };

static enum config_check check_config(const struct pg *pg, uint64_t config)
{
    if (config > pg->view.config)
        return CONFIG_NEW;
    return config < pg->config_first ? CONFIG_OLD : CONFIG_FITS;
}

static bool from_primary(const struct pg *pg, const struct net_session *session, int32_t from)
{
    if (planted(PLANTED_ACCEPT_OLD_CONFIG))
        return true;
    if (pg->gone || !pg->self_live || pg->view.primary != from || from == pg->world->self)
        return false;
    const struct map_osd *osd = map_osd(pg->world->map, from);
    return osd && osd->instance == session->peer.instance;
}

/* Whether we may do what the message says: G5. */
static bool is_ours_to_follow(const struct pg *pg, const struct net_session *session, int32_t from,
                              enum config_check config)
{
    bool has_part = pg_is_member(pg, pg->world->self) || pg->state == PG_STATE_LEARNER_WAITING ||
                    pg->state == PG_STATE_FILLING || pg->state == PG_STATE_FILLED;
    if (planted(PLANTED_ACCEPT_OLD_CONFIG) && config == CONFIG_OLD)
        return has_part && !pg_is_primary(pg);
    return config == CONFIG_FITS && has_part && from_primary(pg, session, from);
}

static void refuse(struct pg *pg, struct net_session *session, const struct pg_incoming *in,
                   int error)
{
    log_debug(pg->world->env, "pg message refused",
              "pg=%s type=%u config=%" PRIu64 " ours=%" PRIu64 " state=%s error=\"%s\"",
              pg_text(pg), in->message->type, in->config, pg->view.config, state_names[pg->state],
              error_text(error));
    struct net_session *upstream = pg->upstream;
    uint64_t config = pg->upstream_config;
    pg->upstream = session;
    pg->upstream_config = in->config;
    if (in->message->type == MSG_REP_TXN)
        pg_rep_refuse(pg, &in->rep, error);
    else if (in->message->type == MSG_PG_ACTIVATE)
        pg_send_info(pg, in->activate->attempt, 0, error);
    pg->upstream = upstream;
    pg->upstream_config = config;
}

/* A message of a primary to its member or learner. */
static enum pg_verdict receive_downstream(struct pg *pg, struct net_session *session, int32_t from,
                                          const struct pg_incoming *in)
{
    enum config_check config = check_config(pg, in->config);
    if (!is_ours_to_follow(pg, session, from, config)) {
        /* What does not fit may fit a newer map; what is of an older one never will. */
        if (config == CONFIG_NEW || (config == CONFIG_FITS && in->epoch > pg_epoch(pg))) {
            pg->world->ops->want_map(pg->world->ctx,
                                     in->epoch > in->config ? in->epoch : in->config);
            return PG_HOLD;
        }
        refuse(pg, session, in, -ELIMPET_STALE_CONFIG);
        return PG_TAKEN;
    }
    pg->upstream = session;
    pg->upstream_config = in->config;
    if (in->epoch > pg->followed_epoch)
        pg->followed_epoch = in->epoch;
    switch (in->message->type) {
    case MSG_REP_TXN:
        pg_rep_txn(pg, in);
        break;
    case MSG_PG_ACTIVATE:
        pg_activated_by(pg, in->activate);
        break;
    case MSG_PG_SCAN:
        pg_learn_scan(pg, in);
        break;
    case MSG_PG_PUSH:
        pg_push_receive(pg, in);
        break;
    case MSG_PG_SCRUB:
        pg_scrub_asked(pg, in->scrub);
        break;
    case MSG_PG_PULL:
        pg_pull_asked(pg, in->pull);
        break;
    default:
        assert(0);
    }
    return PG_TAKEN;
}

/* An answer to us as the primary. One of an older configuration answers what no longer matters. */
static void receive_upstream(struct pg *pg, int32_t from, const struct pg_incoming *in)
{
    if (in->epoch > pg_epoch(pg))
        pg->world->ops->want_map(pg->world->ctx, in->epoch);
    if (!pg_is_primary(pg) || check_config(pg, in->config) != CONFIG_FITS)
        return;
    switch (in->message->type) {
    case MSG_REP_ACK:
        pg_rep_ack(pg, from, &in->ack);
        break;
    case MSG_PG_INFO:
        /* A refusal does not say what it answers; the number of the attempt does. */
        if (in->info->answers <= 2)
            pg_info(pg, from, in->info);
        if (in->info->answers == 0 || in->info->answers > 2)
            pg_fill_info(pg, from, in->info);
        break;
    case MSG_PG_SCAN_REPLY:
        pg_fill_scan_reply(pg, from, in->scan_reply);
        break;
    case MSG_PG_PUSH_REPLY:
        pg_push_reply(pg, from, in->push_reply);
        break;
    case MSG_PG_SCRUB_REPLY:
        pg_scrub_reply(pg, from, in->scrub_reply);
        break;
    case MSG_PG_PULL_REPLY:
        pg_pull_reply(pg, from, in);
        break;
    default:
        assert(0);
    }
}

static bool is_answer(uint16_t type)
{
    return type == MSG_REP_ACK || type == MSG_PG_INFO || type == MSG_PG_SCAN_REPLY ||
           type == MSG_PG_PUSH_REPLY || type == MSG_PG_SCRUB_REPLY || type == MSG_PG_PULL_REPLY;
}

enum pg_verdict pg_receive(struct pg *pg, struct net_session *session, int32_t from,
                           const struct pg_incoming *in)
{
    assert(pg_id_equal(pg->id, in->pg));
    if (pg->state == PG_STATE_LOADING || !pg->seen)
        return PG_HOLD;
    if (!is_answer(in->message->type))
        return receive_downstream(pg, session, from, in);
    receive_upstream(pg, from, in);
    return PG_TAKEN;
}

void pg_session_closed(struct pg *pg, struct net_session *session)
{
    if (pg->upstream == session)
        pg->upstream = NULL;
    if (pg->bound == session)
        pg->bound = NULL;
    pg_watch_session_closed(pg, session);
    /* What was being repaired comes anew, if at all. */
    if (!pg->upstream && pg->state == PG_STATE_REPLICA_ACTIVE)
        pg_staged_clear(pg, true);
}

void pg_peer_reset(struct pg *pg, int32_t osd)
{
    if (!pg_is_primary(pg))
        return;
    struct pg_peer *peer = pg_peer_find(pg, osd);
    if (pg->state == PG_STATE_PRIMARY_ACTIVATING)
        pg_activate_peer_reset(pg, osd);
    else if (pg->state == PG_STATE_PRIMARY_ACTIVE && peer)
        pg_writes_resend(pg, osd, peer->acked);
    pg_fill_peer_reset(pg, osd);
    pg_scrub_peer_reset(pg, osd);
}

void pg_tick(struct pg *pg)
{
    if (!pg_is_primary(pg))
        return;
    if (pg->compare_again)
        pg_activate_again(pg, "a member refused");
    else if (pg->state == PG_STATE_PRIMARY_ACTIVATING)
        pg_activate_tick(pg);
    pg_fill_tick(pg);
    pg_scrub_tick(pg);
    pg_trim_tick(pg);
    pg_watch_tick(pg);
}

/* ---- Statistics ---- */

uint32_t pg_partners(const struct pg *pg, int32_t out[PG_PARTNERS_MAX])
{
    uint32_t n = 0;
    bool involved = pg_is_member(pg, pg->world->self) ||
                    in_list(pg->view.learners, pg->view.n_learners, pg->world->self);
    if (!pg->seen || pg->gone || !involved)
        return 0;
    for (uint8_t i = 0; i < pg->view.n_members; i++)
        if (pg->view.members[i] != pg->world->self)
            out[n++] = pg->view.members[i];
    for (uint8_t i = 0; i < pg->view.n_learners; i++)
        if (pg->view.learners[i] != pg->world->self)
            out[n++] = pg->view.learners[i];
    if (pg->state == PG_STATE_PRIMARY_ACTIVATING)
        for (uint8_t i = 0; i < pg->n_formers; i++)
            out[n++] = pg->formers[i].osd;
    return n;
}

bool pg_is_busy(const struct pg *pg)
{
    return pg->state == PG_STATE_PRIMARY_ACTIVATING || !TAILQ_EMPTY(&pg->fills) ||
           pg->state == PG_STATE_REMOVING;
}

bool pg_has_writes(const struct pg *pg)
{
    return !TAILQ_EMPTY(&pg->writes) || !TAILQ_EMPTY(&pg->waiting);
}

const char *pg_why_waiting(const struct pg *pg)
{
    if (pg->lacks_commits)
        return "a member has acknowledged writes that the primary lacks";
    if (!pg->complete)
        return "the copy of the primary is not complete";
    if (pg->state == PG_STATE_PRIMARY_INACTIVE)
        return "too few of its OSDs are up";
    if (pg_formers_wait(pg))
        return "an earlier primary may still serve reads";
    if (pg->state == PG_STATE_PRIMARY_ACTIVATING && pg->unreadable)
        return "the primary cannot read an object that a member lacks, and no other has a copy";
    if (pg->state == PG_STATE_PRIMARY_ACTIVATING)
        return "making members equal";
    if (pg->state == PG_STATE_PRIMARY_ACTIVE && !pg->view.active)
        return "fewer members than min_size: serves once a copy was added";
    return pg_fills_waiting(pg);
}

static void stat_totals(const struct pg *pg, Limpet__Wire__PgStat *out)
{
    struct pg_totals totals = pg_log_totals(&pg->log);
    out->objects = totals.objects;
    out->bytes = totals.bytes;
    out->has_clones = out->has_writes = out->has_bytes_written = true;
    out->has_reads = out->has_bytes_read = true;
    out->clones = totals.clones;
    out->writes = totals.writes;
    out->bytes_written = totals.bytes_written;
    out->reads = totals.reads + pg->reads;
    out->bytes_read = totals.bytes_read + pg->bytes_read;
}

void pg_stat(const struct pg *pg, Limpet__Wire__PgStat *out)
{
    limpet__wire__pg_stat__init(out);
    out->pool = pg->id.pool;
    out->seed = pg->id.seed;
    out->config = pg->view.config;
    switch (pg->state) {
    case PG_STATE_PRIMARY_ACTIVE:
        out->state = pg->view.active ? LIMPET__WIRE__PG_STATE__PG_ACTIVE
                                     : LIMPET__WIRE__PG_STATE__PG_INACTIVE;
        break;
    case PG_STATE_PRIMARY_ACTIVATING:
        out->state = LIMPET__WIRE__PG_STATE__PG_ACTIVATING;
        break;
    case PG_STATE_PRIMARY_INACTIVE:
        out->state = LIMPET__WIRE__PG_STATE__PG_INACTIVE;
        break;
    default:
        out->state = LIMPET__WIRE__PG_STATE__PG_UNKNOWN;
    }
    stat_totals(pg, out);
    pg_fills_stat(pg, out);
    /* protobuf-c has no const strings, but packing does not write to them. */
    out->waiting = (char *)(uintptr_t)pg_why_waiting(pg);
    pg_scrub_stat(pg, out);
    out->has_snaps_trimmed = pg->trimmed_epoch > 0;
    out->snaps_trimmed = pg->trimmed_epoch;
}
