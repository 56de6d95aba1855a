/*
 * Activation, seen by the primary: making every member equal before serving.
 *
 * Our log is the authority (I6 of the design; G7). Each member tells the newest part of its own;
 * where it parts from ours, the objects that entries on either side name are pushed to it, and it
 * keeps them aside. Then it is told to change over: in one transaction it forgets its differing
 * entries, takes ours and the objects. Members are dealt with side by side, each in the phases of
 * enum peer_phase; when all are equal we serve.
 *
 * Our own copy of an object that is to be pushed may be damaged. It is made good first, from a
 * member that is equal to us already; while there is none, the object waits, and those members with
 * it that lack it.
 *
 * Everything that was ever acknowledged is in every member's log, so only operations that were
 * under way when the configuration changed are involved. Two things cannot be, and are checked,
 * because serving would lose data: a member that knows something to be committed that we do not
 * have (then nobody serves, and the statistics say why), and a member whose log has nothing in
 * common with ours (it is filled like a learner first).
 */
#include "osd/pg/pg_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/planted.h"
#include "common/witness.h"
#include "osd/pg/pg_watch.h"

static void forget_names(struct pg_peer *peer)
{
    struct pg_name *name;
    TAILQ_CONCAT(&peer->to_push, &peer->unreadable, link);
    while ((name = TAILQ_FIRST(&peer->to_push))) {
        TAILQ_REMOVE(&peer->to_push, name, link);
        free(name);
    }
}

void pg_activate_stop(struct pg *pg)
{
    pg->activation_due = false;
    env_timer_stop(pg->world->env, &pg->fence_timer);
    for (uint8_t i = 0; i < pg->n_peers; i++) {
        forget_names(&pg->peers[i]);
        pg->peers[i].phase = PEER_IDLE;
    }
    pg->n_peers = 0;
}

static void list_peers(struct pg *pg)
{
    assert(pg->n_peers == 0);
    for (uint8_t i = 0; i < pg->view.n_members; i++) {
        if (pg->view.members[i] == pg->world->self)
            continue;
        struct pg_peer *peer = &pg->peers[pg->n_peers++];
        assert(TAILQ_EMPTY(&peer->to_push) && TAILQ_EMPTY(&peer->unreadable));
        peer->osd = pg->view.members[i];
        peer->phase = PEER_IDLE;
        peer->refused = false;
        peer->acked = 0;
        peer->pushes = 0;
    }
}

/* ---- The end ---- */

static void check_all_equal(struct pg *pg);

static void recorded(struct pg_step *step)
{
    struct pg *pg = step->async.pg;
    pg->recording = false;
    pg->recorded = true;
    pg_activate_check(pg);
}

/*
 * Before a group serves for the first time our store knows durably that we have it. So a primary
 * without such a record never served, and has nothing to say about what others have.
 */
static bool is_recorded(struct pg *pg)
{
    if (pg->recorded || pg->recording)
        return pg->recorded;
    struct pg_step *step = pg_step_create(pg);
    if (!step) {
        pg->compare_again = true;
        return false;
    }
    pg->recording = true;
    pg_put_state(pg, &step->txn);
    step->done = recorded;
    pg_step_submit(step);
    return false;
}

static void check_all_equal(struct pg *pg)
{
    for (uint8_t i = 0; i < pg->n_peers; i++)
        if (pg->peers[i].phase != PEER_EQUAL && !(planted(PLANTED_SERVE_BEFORE_EQUAL) && i > 0))
            return;
    /* Both take their time side by side. */
    bool over = pg_formers_are_over(pg);
    if (!is_recorded(pg) || !over)
        return;
    pg->n_formers = 0;
    pg_lease_forget(pg);
    assert(pg->durable == pg_log_head(&pg->log).sequence);
    pg->compare_again = false;
    pg->unreadable = false;
    pg->clock_base_ns = pg_log_stamp(&pg->log);
    pg->clock_from_ns = env_now(pg->world->env);
    pg_set_state(pg, PG_STATE_PRIMARY_ACTIVE);
    pg_watch_begin(pg);
    pg->serving = true;
    witness_pg(pg, PG_MOMENT_SERVES, &(struct pg_testimony){0});
    log_debug(pg->world->env, "pg active", "pg=%s config=%" PRIu64 " head=%" PRIu64, pg_text(pg),
              pg->view.config, pg->durable);
    pg_advance(pg);
    pg_requests_answer_waiting(pg);
    pg_fills_follow_map(pg);
    pg_requests_admit(pg);
}

void pg_activate_check(struct pg *pg)
{
    if (pg->state == PG_STATE_PRIMARY_ACTIVATING && !pg->activation_due)
        check_all_equal(pg);
}

/* ---- The beginning ---- */

void pg_activate_send_ask(struct pg *pg, int32_t osd)
{
    Limpet__Wire__PgActivate activate = LIMPET__WIRE__PG_ACTIVATE__INIT;
    activate.pool = pg->id.pool;
    activate.seed = pg->id.seed;
    activate.config = pg->view.config;
    activate.epoch = pg_epoch(pg);
    activate.has_attempt = true;
    activate.attempt = pg->attempt;
    pg_send_proto(pg, osd, MSG_PG_ACTIVATE, &activate.base);
}

void pg_activate_ask(struct pg *pg, struct pg_peer *peer)
{
    forget_names(peer);
    peer->phase = PEER_ASKED;
    peer->refused = false;
    peer->failed = false;
    peer->pushes = 0;
    pg_activate_send_ask(pg, peer->osd);
}

void pg_activate_follow_map(struct pg *pg)
{
    /* A former primary that we wait for may be known to have ended now. */
    if (pg_formers_wait(pg))
        pg_activate_check(pg);
}

void pg_activate_peer_reset(struct pg *pg, int32_t osd)
{
    struct pg_peer *peer = pg_peer_find(pg, osd);
    if (peer && !pg_fill_find(pg, osd)) {
        pg_pushes_cancel(pg, osd);
        /* Of a repair that nobody waits for any more; a primary receives nothing else. */
        if (TAILQ_EMPTY(&pg->repairs))
            pg_staged_clear(pg, true);
        pg_activate_ask(pg, peer);
    }
    if (!peer)
        pg_former_asked_again(pg, osd);
}

/* Whether our store has done what we are, a change-over that took entries back included. */
static bool is_caught_up(const struct pg *pg)
{
    return pg->durable == pg_log_head(&pg->log).sequence &&
           (pg->switches == 0 || planted(PLANTED_ACTIVATE_TOO_EARLY));
}

void pg_activate_caught_up(struct pg *pg)
{
    if (pg->activation_due && is_caught_up(pg))
        pg_activate_start(pg);
}

void pg_activate_start(struct pg *pg)
{
    assert(pg->state == PG_STATE_PRIMARY_ACTIVATING);
    pg->silent_ticks = 0;
    /* Comparing, pushing and serving read what the store has. */
    pg->activation_due = !is_caught_up(pg);
    if (pg->activation_due)
        return;
    pg->attempt++;
    pg->n_peers = 0;
    list_peers(pg);
    for (uint8_t i = 0; i < pg->n_peers; i++)
        pg_activate_ask(pg, &pg->peers[i]);
    pg_formers_ask(pg);
    check_all_equal(pg);
}

void pg_activate_again(struct pg *pg, const char *why)
{
    if (pg->state != PG_STATE_PRIMARY_ACTIVE && pg->state != PG_STATE_PRIMARY_ACTIVATING)
        return;
    log_info(pg->world->env, "pg activates again", "pg=%s config=%" PRIu64 " why=\"%s\"",
             pg_text(pg), pg->view.config, why);
    pg->compare_again = false;
    pg_requests_withdraw(pg);
    pg_fills_stop(pg, true);
    pg_pushes_cancel(pg, -1);
    pg_scrub_stop(pg);
    pg_staged_clear(pg, true);
    pg_activate_stop(pg);
    pg_set_state(pg, PG_STATE_PRIMARY_ACTIVATING);
    pg_activate_start(pg);
}

void pg_activate_tick(struct pg *pg)
{
    pg_repair_tick(pg);
    if (!pg->activation_due && ++pg->silent_ticks >= PG_PATIENCE_TICKS)
        pg_activate_again(pg, "no progress");
}

/* ---- Comparing ---- */

static bool is_listed(const struct pg_peer *peer, const uint8_t *bytes, size_t len)
{
    const struct pg_name *name;
    TAILQ_FOREACH(name, &peer->to_push, link)
    {
        if (name->len == len && memcmp(name->bytes, bytes, len) == 0)
            return true;
    }
    return false;
}

static int add_name(struct pg_name_list *list, const uint8_t *bytes, size_t len)
{
    struct pg_name *name = malloc(sizeof *name + len);
    if (!name)
        return -ENOMEM;
    name->len = (uint16_t)len;
    memcpy(name->bytes, bytes, len);
    TAILQ_INSERT_TAIL(list, name, link);
    return 0;
}

static int list_object(struct pg_peer *peer, const uint8_t *bytes, size_t len)
{
    return is_listed(peer, bytes, len) ? 0 : add_name(&peer->to_push, bytes, len);
}

/* An entry's object, and the clone that came or went with it. */
static int list_entry(struct pg_peer *peer, const struct pg_entry_layout *head, const uint8_t *id)
{
    uint8_t clone[PG_OBJECT_ID_MAX];
    if (head->kind == PG_ENTRY_FAILED)
        return 0;
    int error = list_object(peer, id, head->object_len);
    if (error || head->clone == 0 || planted(PLANTED_CLONE_NOT_SENT))
        return error;
    pg_id_with_snap(id, head->object_len, head->clone, clone);
    return list_object(peer, clone, head->object_len);
}

/* The objects that differing entries name, on its side and on ours. */
static int list_differing(struct pg *pg, struct pg_peer *peer, const Limpet__Wire__PgInfo *info)
{
    if (planted(PLANTED_SKIP_RECONCILE))
        return 0;
    for (size_t i = 0; i < info->n_entries; i++) {
        const ProtobufCBinaryData *data = &info->entries[i];
        struct pg_entry_layout head;
        memcpy(&head, data->data, sizeof head);
        if (head.version.sequence <= peer->common)
            continue;
        int error = list_entry(peer, &head, data->data + sizeof head);
        if (error)
            return error;
    }
    uint64_t newest = pg_log_head(&pg->log).sequence;
    for (uint64_t sequence = peer->common + 1; sequence <= newest; sequence++) {
        const struct pg_entry *entry = pg_log_get(&pg->log, sequence);
        int error = list_entry(peer, &entry->head, (const uint8_t *)(&entry->head + 1));
        if (error)
            return error;
    }
    return 0;
}

/* Whether the entries after `common` fit a message. */
static bool fits_message(const struct pg *pg, uint64_t common)
{
    uint64_t newest = pg_log_head(&pg->log).sequence;
    size_t bytes = 0;
    if (newest - common > PG_ENTRIES_MAX)
        return false;
    for (uint64_t sequence = common + 1; sequence <= newest; sequence++)
        bytes += pg_log_get(&pg->log, sequence)->len + 8;
    return bytes <= PG_ENTRIES_BYTES;
}

/* What the member said about its log is well-formed. */
int pg_info_check(const struct pg *pg, const Limpet__Wire__PgInfo *info)
{
    uint64_t after = info->tail->sequence;
    if (info->n_entries > 0) {
        struct pg_entry_layout head;
        if (info->n_entries > info->head->sequence || info->entries[0].len < sizeof head)
            return -EBADMSG;
        after = info->head->sequence - info->n_entries;
    }
    if (after < info->tail->sequence || after + info->n_entries != info->head->sequence)
        return -EBADMSG;
    return pg_entries_check(pg, info->n_entries, info->entries, after);
}

static int find_common(const struct pg *pg, const Limpet__Wire__PgInfo *info, uint64_t *common)
{
    struct wire_version tail = {.config = info->tail->config, .sequence = info->tail->sequence};
    struct pg_log_span *spans = calloc(info->n_entries + 1, sizeof *spans);
    if (!spans)
        return -ENOMEM;
    for (size_t i = 0; i < info->n_entries; i++)
        spans[i] = (struct pg_log_span){info->entries[i].data, info->entries[i].len};
    int error = pg_log_common(&pg->log, tail, spans, info->n_entries, common);
    free(spans);
    return error;
}

/* ---- Pushing ---- */

static void switch_over(struct pg *pg, struct pg_peer *peer);
static void push_next(struct pg *pg, struct pg_peer *peer);

static void push_done(struct pg_push *push, int error)
{
    struct pg *pg = push->pg;
    struct pg_peer *peer = pg_peer_find(pg, push->osd);
    assert(peer && peer->phase == PEER_PUSHING && peer->pushes > 0);
    peer->pushes--;
    pg->silent_ticks = 0;
    if (push->unreadable && !add_name(&peer->unreadable, push->bytes, push->len)) {
        log_warn(pg->world->env, "object cannot be read", "pg=%s name=%.*s", pg_text(pg),
                 (int)push->id.name_len, (const char *)push->id.name);
        pg->unreadable = true;
        push_next(pg, peer);
        return;
    }
    if (error) {
        log_warn(pg->world->env, "push failed", "pg=%s osd=%d error=\"%s\"", pg_text(pg), peer->osd,
                 error_text(error));
        peer->failed = true;
        pg->compare_again = true;
        return;
    }
    push_next(pg, peer);
}

static void push_next(struct pg *pg, struct pg_peer *peer)
{
    struct pg_name *name;
    /* It lacks an object: whatever else arrives, it must not change over. */
    if (peer->failed)
        return;
    while (peer->pushes < PG_PUSHES_MAX && (name = TAILQ_FIRST(&peer->to_push))) {
        struct pg_push *push = pg_push_create(pg, peer->osd, name->bytes, name->len);
        if (!push) {
            peer->failed = true;
            pg->compare_again = true;
            return;
        }
        TAILQ_REMOVE(&peer->to_push, name, link);
        free(name);
        push->done = push_done;
        peer->pushes++;
        pg_push_start(push, false);
    }
    if (peer->pushes == 0 && TAILQ_EMPTY(&peer->to_push) && TAILQ_EMPTY(&peer->unreadable))
        switch_over(pg, peer);
}

/* A member has become equal, and so has a copy of what we may not be able to read. */
static void push_unreadable(struct pg *pg)
{
    for (uint8_t i = 0; i < pg->n_peers; i++) {
        struct pg_peer *peer = &pg->peers[i];
        if (TAILQ_EMPTY(&peer->unreadable))
            continue;
        TAILQ_CONCAT(&peer->to_push, &peer->unreadable, link);
        push_next(pg, peer);
    }
}

/* ---- Changing over ---- */

static void switch_over(struct pg *pg, struct pg_peer *peer)
{
    Limpet__Wire__PgActivate activate = LIMPET__WIRE__PG_ACTIVATE__INIT;
    Limpet__Wire__Version head = LIMPET__WIRE__VERSION__INIT;
    Limpet__Wire__Version cut = LIMPET__WIRE__VERSION__INIT;
    struct wire_version common = {0};
    struct wire_version newest = pg_log_head(&pg->log);
    if (!pg_log_version(&pg->log, peer->common, &common))
        assert(0);
    size_t n = (size_t)(newest.sequence - peer->common);
    ProtobufCBinaryData *entries = calloc(n + 1, sizeof *entries);
    if (!entries) {
        pg->compare_again = true;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        struct pg_entry *entry = pg_log_get(&pg->log, peer->common + 1 + i);
        entries[i] = (ProtobufCBinaryData){entry->len, (uint8_t *)&entry->head};
    }
    head.config = newest.config;
    head.sequence = newest.sequence;
    cut.config = common.config;
    cut.sequence = common.sequence;
    activate.pool = pg->id.pool;
    activate.seed = pg->id.seed;
    activate.config = pg->view.config;
    activate.epoch = pg_epoch(pg);
    activate.has_attempt = true;
    activate.attempt = pg->attempt;
    activate.has_activated = true;
    activate.activated = true;
    activate.head = &head;
    activate.cut_after = &cut;
    activate.n_entries = n;
    activate.entries = entries;
    peer->phase = PEER_SWITCHING;
    pg_send_proto(pg, peer->osd, MSG_PG_ACTIVATE, &activate.base);
    free(entries);
}

/* ---- Answers ---- */

/*
 * Whether the member shows that something was acknowledged that we do not have: it knows of a
 * commit that is neither common nor so old that we have forgotten it; or it has a log, and we never
 * had the group. `error` says whether a common entry was found.
 */
static bool member_knows_more(const struct pg *pg, const Limpet__Wire__PgInfo *info, int error,
                              uint64_t common)
{
    if (!info->complete)
        return false;
    if (!pg->persisted && info->head->sequence > 0)
        return true;
    if (error)
        return info->committed >= pg->log.base.sequence;
    return info->committed > common && info->committed > pg->log.base.sequence;
}

static void refuse_to_serve(struct pg *pg, const struct pg_peer *peer,
                            const Limpet__Wire__PgInfo *info)
{
    log_error(pg->world->env, "acknowledged writes are missing",
              "pg=%s osd=%d committed=%" PRIu64 " its_head=%" PRIu64 " head=%" PRIu64, pg_text(pg),
              peer->osd, info->committed, info->head->sequence, pg_log_head(&pg->log).sequence);
    pg->lacks_commits = true;
    pg->world->ops->changed(pg->world->ctx, pg);
}

static void member_answered(struct pg *pg, struct pg_peer *peer, const Limpet__Wire__PgInfo *info)
{
    int error = pg_info_check(pg, info);
    if (error) {
        log_error(pg->world->env, "member's log is malformed", "pg=%s osd=%d", pg_text(pg),
                  peer->osd);
        return;
    }
    error = info->complete ? find_common(pg, info, &peer->common) : -ENOENT;
    if (error == 0 || error == -ENOENT) {
        if (member_knows_more(pg, info, error, peer->common)) {
            refuse_to_serve(pg, peer, info);
            return;
        }
        if (!error && !fits_message(pg, peer->common))
            error = -ENOENT;
    }
    if (error == -ENOENT) {
        log_warn(pg->world->env, "member has no part of the log", "pg=%s osd=%d", pg_text(pg),
                 peer->osd);
        peer->phase = PEER_FILLING;
        pg_fill_member(pg, peer);
        return;
    }
    if (!error)
        error = list_differing(pg, peer, info);
    if (error) {
        pg->compare_again = true;
        return;
    }
    peer->phase = PEER_PUSHING;
    push_next(pg, peer);
}

/* G9: it refuses, of course, but it could do so only with a map of this configuration. */
static void former_answered(struct pg *pg, int32_t from, const Limpet__Wire__PgInfo *info)
{
    if (info->epoch < pg->view.config)
        return;
    pg_former_knows(pg, from);
    pg->silent_ticks = 0;
    check_all_equal(pg);
}

void pg_info(struct pg *pg, int32_t from, const Limpet__Wire__PgInfo *info)
{
    struct pg_peer *peer = pg_peer_find(pg, from);
    bool answers = pg->state == PG_STATE_PRIMARY_ACTIVATING && !pg->activation_due &&
                   info->attempt == pg->attempt;
    if (!peer && answers) {
        former_answered(pg, from, info);
        return;
    }
    if (!peer || pg->state != PG_STATE_PRIMARY_ACTIVATING || info->attempt != pg->attempt)
        return;
    pg->silent_ticks = 0;
    if (info->result) {
        log_debug(pg->world->env, "member refused activation", "pg=%s osd=%d error=\"%s\"",
                  pg_text(pg), from, error_text(info->result));
        peer->refused = true;
        pg->compare_again = true;
        return;
    }
    if (info->answers == 1 && peer->phase == PEER_ASKED) {
        member_answered(pg, peer, info);
    } else if (info->answers == 2 && peer->phase == PEER_SWITCHING) {
        peer->phase = PEER_EQUAL;
        peer->acked = pg_log_head(&pg->log).sequence;
        push_unreadable(pg);
        check_all_equal(pg);
    }
}
