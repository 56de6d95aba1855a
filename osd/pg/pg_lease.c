/*
 * Read leases, and the end of those that former primaries hold.
 *
 * Every OSD process grants leases to every other that pings it (osd_lease.c); here is what a group
 * makes of them.
 *
 *  L1  A primary begins a read only while it holds a lease of every other member of its set, and of
 *      every learner that it has asked the monitors to add; each granted under no newer map than
 *      the primary's own, and by the process that this map names.
 *  L2  Before a new primary serves, for each process that may have served an earlier configuration:
 *      it is known to have ended; or it knows this configuration; or all leases that we granted it
 *      before we knew of the change have run out.
 *
 * Why our own leases are enough, whatever other members have granted. Let A be a process that takes
 * itself for the primary of configuration k, and is wrong. The next configuration after k is k less
 * some members, or k plus a learner that A itself asked for: nobody but the primary of k asks. As
 * long as no other primary becomes active, nobody else is added either. So if we are the first
 * active primary after k, we are among those whose lease A needs. What we grant once we know of a
 * configuration after k carries an epoch that A may not count (L1), and by L2 what we granted
 * before is over. It stays so: our process grants no older epochs again, and a later one of ours is
 * another process to A. So once one primary after k has been active A serves k no more, whoever
 * comes later, and may have granted what.
 *
 * A read needs the leases when it begins. Its object is held from then until it has been read, so
 * what it returns was true at that moment, whenever the answer leaves.
 *
 * All times here are of env_clock(): a process that was stopped sees at its next read that its
 * leases are over. What a clock may gain on another one is in the grantee's margin.
 */
#include "osd/pg/pg_impl.h"

#include <string.h>

#include "common/planted.h"

/* ---- Reading under leases: L1 ---- */

static uint64_t leases_end(const struct pg *pg)
{
    const struct pg_world *world = pg->world;
    uint64_t end = UINT64_MAX;
    for (uint8_t i = 0; i < pg->n_peers; i++) {
        uint64_t until = world->ops->lease_until(world->ctx, pg->peers[i].osd);
        end = until < end ? until : end;
    }
    const struct pg_fill *fill;
    TAILQ_FOREACH(fill, &pg->fills, link)
    {
        if (!fill->asked || planted(PLANTED_LEASE_WITHOUT_LEARNER))
            continue;
        uint64_t until = world->ops->lease_until(world->ctx, fill->osd);
        end = until < end ? until : end;
    }
    return end;
}

bool pg_lease_holds(struct pg *pg)
{
    assert(pg->state == PG_STATE_PRIMARY_ACTIVE);
    if (planted(PLANTED_READ_WITHOUT_LEASE))
        return true;
    if (pg->world->retired)
        return false;
    uint64_t now = env_clock(pg->world->env);
    if (now < pg->lease_until_ns)
        return true;
    pg->lease_until_ns = leases_end(pg);
    return now < pg->lease_until_ns;
}

uint64_t pg_lease_end(const struct pg *pg)
{
    if (pg->world->retired)
        return 0;
    uint64_t end = leases_end(pg);
    return pg->lease_until_ns > end ? pg->lease_until_ns : end;
}

void pg_lease_wait(struct pg_request *request, struct pg_object *object)
{
    if (object)
        pg_object_hold(object, false);
    request->operation = object;
    request->pg->world->n_unleased++;
    pg_request_place(request, REQUEST_UNLEASED);
}

void pg_lease_leave(struct pg_request *request)
{
    struct pg_object *object = request->operation;
    assert(request->place == REQUEST_UNLEASED && request->pg->world->n_unleased > 0);
    request->pg->world->n_unleased--;
    request->operation = NULL;
    pg_request_place(request, REQUEST_NOWHERE);
    if (object)
        pg_object_release(object, false);
}

void pg_lease_renewed(struct pg *pg)
{
    struct pg_request *request;
    while (pg->serving && (request = TAILQ_FIRST(&pg->unleased)) && pg_lease_holds(pg)) {
        struct pg_object *object = request->operation;
        /* The read holds the object before we let go of it, so that no writer comes between. */
        if (object)
            pg_object_hold(object, false);
        pg_lease_leave(request);
        if (object)
            pg_read_start(request, object);
        else
            pg_list_start(request);
        if (object)
            pg_object_release(object, false);
    }
}

/* ---- Former primaries: L2 ---- */

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* The process that ran before us with our store may have granted leases until we started. */
static uint64_t inherited_until(const struct pg *pg)
{
    if (planted(PLANTED_LEASE_NOT_INHERITED))
        return 0;
    return pg->world->started_ns + pg->world->lease_ns;
}

static struct pg_former *find_former(struct pg *pg, int32_t osd, uint64_t up_from)
{
    for (uint8_t i = 0; i < pg->n_formers; i++)
        if (pg->formers[i].osd == osd && pg->formers[i].up_from == up_from)
            return &pg->formers[i];
    return NULL;
}

static struct pg_former *add_former(struct pg *pg)
{
    if (pg->n_formers == PG_FORMERS_MAX) {
        /* What is known of the oldest one is only when it is over. */
        pg->unseen_over_ns = later(pg->unseen_over_ns, pg->formers[0].over_ns);
        pg->unseen_epoch = pg_epoch(pg);
        pg->n_formers--;
        memmove(&pg->formers[0], &pg->formers[1], pg->n_formers * sizeof pg->formers[0]);
    }
    struct pg_former *former = &pg->formers[pg->n_formers++];
    memset(former, 0, sizeof *former);
    return former;
}

void pg_formers_note(struct pg *pg)
{
    struct pg_world *world = pg->world;
    int32_t osd = pg->view.primary;
    if (!pg->seen || pg->gone || osd < 0 || osd == world->self)
        return;
    uint8_t i = 0;
    while (pg->view.members[i] != osd)
        i++;
    assert(i < pg->view.n_members);
    struct pg_former *former = find_former(pg, osd, pg->lives[i].up_from);
    if (!former)
        former = add_former(pg);
    former->osd = osd;
    former->instance = pg->lives[i].instance;
    former->up_from = pg->lives[i].up_from;
    former->over_ns =
        later(inherited_until(pg), world->ops->granted_until(world->ctx, osd, former->instance));
}

void pg_formers_unseen(struct pg *pg)
{
    uint64_t over = inherited_until(pg);
    /* While the map does not show this process nobody can count what it grants. */
    if (pg->self_live)
        over = later(over, env_clock(pg->world->env) + pg->world->lease_ns);
    pg->unseen_over_ns = later(pg->unseen_over_ns, over);
    pg->unseen_epoch = pg_epoch(pg);
}

enum former_fate {
    FORMER_OVER,    /* It has ended, or booted since, which it does only when it knows. */
    FORMER_MEMBER,  /* It is told by activation. */
    FORMER_CAN_ASK, /* It lives. */
    FORMER_UNKNOWN, /* The map takes it for down, but it may live. */
};

static enum former_fate fate_of(const struct pg *pg, const struct pg_former *former)
{
    const struct map_osd *info = map_osd(pg->world->map, former->osd);
    /* Removed; and perhaps the number belongs to another store, which says nothing of this one. */
    if (!info || info->created > former->up_from)
        return FORMER_UNKNOWN;
    if (info->instance != former->instance || info->up_from != former->up_from)
        return FORMER_OVER;
    if (!info->up)
        return info->ended ? FORMER_OVER : FORMER_UNKNOWN;
    return pg_is_member(pg, former->osd) ? FORMER_MEMBER : FORMER_CAN_ASK;
}

static void drop_formers(struct pg *pg)
{
    uint8_t n = 0;
    for (uint8_t i = 0; i < pg->n_formers; i++)
        if (fate_of(pg, &pg->formers[i]) != FORMER_OVER)
            pg->formers[n++] = pg->formers[i];
    pg->n_formers = n;
}

void pg_formers_ask(struct pg *pg)
{
    drop_formers(pg);
    for (uint8_t i = 0; i < pg->n_formers; i++) {
        pg->formers[i].knows = false;
        if (fate_of(pg, &pg->formers[i]) == FORMER_CAN_ASK)
            pg_activate_send_ask(pg, pg->formers[i].osd);
    }
}

void pg_former_asked_again(struct pg *pg, int32_t osd)
{
    for (uint8_t i = 0; i < pg->n_formers; i++)
        if (pg->formers[i].osd == osd && !pg->formers[i].knows &&
            fate_of(pg, &pg->formers[i]) == FORMER_CAN_ASK)
            pg_activate_send_ask(pg, osd);
}

void pg_former_knows(struct pg *pg, int32_t osd)
{
    for (uint8_t i = 0; i < pg->n_formers; i++)
        if (pg->formers[i].osd == osd)
            pg->formers[i].knows = true;
}

/*
 * Whether no process can be out there that served before unseen_epoch and does not know this
 * configuration: each OSD is a member, or has booted since, or its process has ended. Numbers that
 * the map has no OSD for may have been removed while they lived. In a large cluster the first few
 * give the answer.
 */
static bool nobody_is_unseen(const struct pg *pg)
{
    const struct cluster_map *map = pg->world->map;
    for (int32_t id = 0; id < map->max_osd; id++) {
        const struct map_osd *info = map_osd(map, id);
        if (!info)
            return false;
        bool known = id == pg->world->self || (info->up && pg_is_member(pg, id)) ||
                     (!info->up && info->ended) || info->up_from > pg->unseen_epoch;
        /* Before it was given to this store another one may have had the number. */
        known = known && (id == pg->world->self || info->created <= pg->unseen_epoch);
        if (!known)
            return false;
    }
    return true;
}

/* When time alone makes an end of all that has to be waited for; 0: nothing has. */
static uint64_t formers_over(struct pg *pg)
{
    uint64_t over = 0;
    if (planted(PLANTED_LEASE_WAIT_SKIPPED))
        return 0;
    drop_formers(pg);
    for (uint8_t i = 0; i < pg->n_formers; i++) {
        const struct pg_former *former = &pg->formers[i];
        if (!former->knows && fate_of(pg, former) != FORMER_MEMBER)
            over = later(over, former->over_ns);
    }
    if (pg->unseen_over_ns > over && !nobody_is_unseen(pg))
        over = pg->unseen_over_ns;
    return over;
}

bool pg_formers_wait(const struct pg *pg)
{
    return pg->fence_timer.armed;
}

static void fence_fired(struct env_timer *timer)
{
    struct pg *pg = container_of(timer, struct pg, fence_timer);
    pg_activate_check(pg);
}

bool pg_formers_are_over(struct pg *pg)
{
    struct env *env = pg->world->env;
    uint64_t now = env_clock(env), over = formers_over(pg);
    env_timer_stop(env, &pg->fence_timer);
    if (over <= now)
        return true;
    pg->fence_timer.fire = fence_fired;
    env_timer_after(env, &pg->fence_timer, over - now);
    pg->world->ops->changed(pg->world->ctx, pg);
    return false;
}
