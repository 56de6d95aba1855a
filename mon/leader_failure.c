/*
 * Which OSDs are taken for dead, by what others say of them and by what we see ourselves.
 *
 * A report starts a probe: a session of our own to the OSD's address, which it has to answer within
 * a moment. What is concluded:
 *
 *   it says itself that it stops                            down, at once; it has ended
 *   nobody listens at its address, as a probe found         down, at once; it has ended
 *   silent to the probe, and to two witnesses               down
 *   silent to the probe, and refuses a peer                 down
 *   silent to the probe, and to one witness                 down after the partial grace
 *   it answers the probe, or its reports still come         a link is broken: below
 *
 * Witnesses are hosts as soon as others than the OSD's are up, and OSDs otherwise; those that are
 * reported themselves are not expected to say anything. Reports count as long as they are repeated.
 *
 * Two OSDs that cannot talk to each other, while both talk to us, block the groups that they share.
 * After the partial grace one of them has to go: the one that more others are at odds with, since
 * the fault is likely to be there; then the one that carries less. It is held down for a while, or
 * it would boot again at once and block the same groups.
 *
 * An OSD that was marked down because of reports, and boots again as the same process, was marked
 * down wrongly. The third time within the window, and each time after that, it is held down for
 * twice as long as before. Another process of it, which somebody has started, may boot at once. All
 * of this is the leader's memory only: a new leader begins anew.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "mon/leader.h"

enum {
    REPORT_LIFE_S = 3,      /* They are repeated every second. */
    WITNESSES_NEEDED = 2,   /* Of silence. */
    PROBE_AGAIN_MS = 1000,  /* While reports come. */
    BEACON_MARGIN_MS = 100, /* What an OSD sent before it fell silent is here by then. */
    HOLD_DOUBLINGS = 4,     /* It does not get longer than 16 times the shortest. */
};

/* ---- Reports ---- */

static void reports_expire(struct leader *leader, uint64_t now_ns)
{
    const struct cluster_map *map = leader->mon->state.map;

    for (uint32_t i = 0; i < leader->n_reports;) {
        const struct failure_report *report = &leader->reports[i];
        const struct map_osd *target = map_osd(map, report->target);
        bool over = now_ns - report->at_ns > REPORT_LIFE_S * SEC_NS || target == NULL ||
                    !target->up || target->up_from != report->up_from ||
                    !map_osd_up(map, report->reporter);
        if (over)
            leader->reports[i] = leader->reports[--leader->n_reports];
        else
            i++;
    }
}

void leader_failure_map(struct leader *leader)
{
    reports_expire(leader, env_now(leader->mon->env));
}

static void report_note(struct leader *leader, int32_t target, int32_t reporter,
                        const Limpet__Wire__OsdFailure *failure)
{
    const struct cluster_map *map = leader->mon->state.map;
    uint64_t now_ns = env_now(leader->mon->env);
    struct failure_report *mine = NULL;

    if (leader->reports == NULL)
        leader->reports = calloc(LEADER_REPORTS_MAX, sizeof *leader->reports);
    if (leader->reports == NULL)
        return;
    for (uint32_t i = 0; i < leader->n_reports && mine == NULL; i++) {
        struct failure_report *report = &leader->reports[i];
        if (report->target == target && report->reporter == reporter)
            mine = report;
    }
    if (mine == NULL && leader->n_reports < LEADER_REPORTS_MAX) {
        mine = &leader->reports[leader->n_reports++];
        *mine = (struct failure_report){.target = target,
                                        .reporter = reporter,
                                        .up_from = map_osd(map, target)->up_from,
                                        .first_ns = now_ns};
    }
    if (mine == NULL)
        return;
    mine->at_ns = now_ns;
    mine->refused = failure->kind == LIMPET__WIRE__OSD_FAILURE__KIND__REFUSED;
}

static bool is_reported(const struct leader *leader, int32_t id)
{
    for (uint32_t i = 0; i < leader->n_reports; i++) {
        if (leader->reports[i].target == id)
            return true;
    }
    return false;
}

static bool same_host(const struct cluster_map *map, int32_t a, int32_t b)
{
    return strcmp(map_osd(map, a)->host, map_osd(map, b)->host) == 0;
}

/* How many of these OSDs differ, or their hosts do. */
static uint32_t count_distinct(const struct cluster_map *map, const int32_t *ids, uint32_t n,
                               bool hosts)
{
    uint32_t distinct = 0;

    for (uint32_t i = 0; i < n; i++) {
        bool seen = false;
        for (uint32_t k = 0; k < i && !seen; k++)
            seen = ids[k] == ids[i] || (hosts && same_host(map, ids[k], ids[i]));
        distinct += !seen;
    }
    return distinct;
}

enum { WITNESSES_LOOKED_AT = 64 };

struct witnesses {
    uint32_t n; /* Distinct ones. */
    uint32_t needed;
    bool refused;      /* One of them found that nobody listens. */
    uint64_t first_ns; /* The oldest report that still counts. */
};

/* Several hosts that could say something; else OSDs are counted. */
static bool count_by_hosts(const struct leader *leader, int32_t target, uint32_t *available)
{
    const struct cluster_map *map = leader->mon->state.map;
    int32_t others[WITNESSES_LOOKED_AT];
    uint32_t n = 0;

    /* A few are enough to find two different hosts among them. */
    for (int32_t id = 0; id < map->max_osd && n < WITNESSES_LOOKED_AT; id++) {
        if (id == target || !map_osd_up(map, id) || is_reported(leader, id))
            continue;
        if (n > 0 && same_host(map, id, others[n - 1]) && n > WITNESSES_NEEDED)
            continue;
        others[n++] = id;
    }
    uint32_t hosts = count_distinct(map, others, n, true);
    *available = hosts > 1 ? hosts : n;
    return hosts > 1;
}

static void witnesses_count(const struct leader *leader, int32_t target, struct witnesses *out)
{
    const struct cluster_map *map = leader->mon->state.map;
    int32_t reporters[WITNESSES_LOOKED_AT];
    uint32_t n = 0;
    uint32_t available;

    memset(out, 0, sizeof *out);
    for (uint32_t i = 0; i < leader->n_reports; i++) {
        const struct failure_report *report = &leader->reports[i];
        if (report->target != target)
            continue;
        if (n < WITNESSES_LOOKED_AT)
            reporters[n++] = report->reporter;
        out->refused = out->refused || report->refused;
        if (out->first_ns == 0 || report->first_ns < out->first_ns)
            out->first_ns = report->first_ns;
    }
    bool hosts = count_by_hosts(leader, target, &available);
    out->n = count_distinct(map, reporters, n, hosts);
    out->needed = available < WITNESSES_NEEDED ? available : WITNESSES_NEEDED;
    if (out->needed == 0)
        out->needed = 1;
}

/* ---- Marking down ---- */

static uint64_t hold_ns(const struct leader *leader, uint32_t wrong)
{
    const struct mon_options *options = &leader->mon->options;
    uint32_t beyond = wrong > options->flap_count ? wrong - options->flap_count : 0;

    return options->flap_hold_ms * MSEC_NS << (beyond < HOLD_DOUBLINGS ? beyond : HOLD_DOUBLINGS);
}

/* One more time that it was marked down and lives. */
static void note_wrong(struct leader *leader, struct osd_watch *watch)
{
    uint64_t now_ns = env_now(leader->mon->env);

    if (now_ns - watch->wrong_ns > leader->mon->options.flap_window_ms * MSEC_NS)
        watch->wrong = 0;
    watch->wrong++;
    watch->wrong_ns = now_ns;
    if (watch->wrong >= leader->mon->options.flap_count)
        watch->held_until_ns = now_ns + hold_ns(leader, watch->wrong);
}

static void mark_down(struct leader *leader, int32_t id, bool ended, const char *why)
{
    const struct map_osd *osd = map_osd(leader->mon->state.map, id);
    struct osd_watch *watch = leader_watch(leader, id);

    if (osd == NULL || !osd->up || (leader->mon->state.map->flags & MAP_NODOWN) != 0)
        return;
    log_info(leader->mon->env, "osd failed", "osd=%d why=\"%s\"", id, why);
    if (watch != NULL) {
        watch->suspected = !ended;
        snprintf(watch->why, sizeof watch->why, "%s", why);
    }
    leader_request(leader, ended ? REQUEST_ENDED : REQUEST_DOWN, id, osd->instance, 0);
}

bool leader_holds_down(struct leader *leader, int32_t id, uint64_t instance, uint64_t *left_ns)
{
    struct osd_watch *watch = leader_watch(leader, id);
    const struct map_osd *osd = map_osd(leader->mon->state.map, id);
    uint64_t now_ns = env_now(leader->mon->env);

    *left_ns = 0;
    if (watch == NULL || osd == NULL || osd->up || osd->instance != instance)
        return false;
    if (watch->suspected) {
        watch->suspected = false;
        note_wrong(leader, watch);
        log_warn(leader->mon->env, "osd lives though it was marked down",
                 "osd=%d times=%u why=\"%s\" held_ms=%" PRIu64, id, watch->wrong, watch->why,
                 watch->held_until_ns > now_ns ? (watch->held_until_ns - now_ns) / MSEC_NS : 0);
    }
    if (watch->held_until_ns > now_ns)
        *left_ns = watch->held_until_ns - now_ns;
    return *left_ns > 0;
}

/* ---- Broken links ---- */

/* With how many others, or other hosts, it is at odds. */
static uint32_t count_at_odds(const struct leader *leader, int32_t id)
{
    const struct cluster_map *map = leader->mon->state.map;
    int32_t others[WITNESSES_LOOKED_AT];
    uint32_t n = 0;
    uint32_t available;

    for (uint32_t i = 0; i < leader->n_reports && n < WITNESSES_LOOKED_AT; i++) {
        const struct failure_report *report = &leader->reports[i];
        if (report->target == id)
            others[n++] = report->reporter;
        else if (report->reporter == id)
            others[n++] = report->target;
    }
    return count_distinct(map, others, n, count_by_hosts(leader, id, &available));
}

static uint64_t carries(const struct leader *leader, int32_t id)
{
    const struct osd_stat *stat = stats_osd(leader->mon->stats, leader->mon->state.map, id);

    return stat != NULL ? stat->bytes_used : 0;
}

/* Whether a rather than b has to go. */
static bool is_worse(const struct leader *leader, int32_t a, int32_t b)
{
    uint32_t odds_a = count_at_odds(leader, a);
    uint32_t odds_b = count_at_odds(leader, b);

    if (odds_a != odds_b)
        return odds_a > odds_b;
    if (carries(leader, a) != carries(leader, b))
        return carries(leader, a) < carries(leader, b);
    return a > b;
}

/* Whether it shows signs of life since it was reported first. */
static bool is_alive(const struct osd_watch *watch, uint64_t reported_ns)
{
    bool answered = watch->probed_ns >= reported_ns && watch->probe == PROBE_LIVES;

    return answered || watch->seen_ns > reported_ns + BEACON_MARGIN_MS * MSEC_NS;
}

/* Of all who are at odds for too long, though both live, the one that has to go; -1: none. */
static int32_t find_worst(struct leader *leader, uint64_t now_ns)
{
    uint64_t grace_ns = leader->mon->options.partial_grace_ms * MSEC_NS;
    int32_t worst = -1;

    for (uint32_t i = 0; i < leader->n_reports; i++) {
        const struct failure_report *report = &leader->reports[i];
        const struct osd_watch *watch = leader_watch(leader, report->target);
        if (now_ns - report->first_ns < grace_ns || watch == NULL ||
            !is_alive(watch, report->first_ns))
            continue;
        if (worst < 0 || is_worse(leader, report->target, worst))
            worst = report->target;
        if (is_worse(leader, report->reporter, worst))
            worst = report->reporter;
    }
    return worst;
}

static void resolve_links(struct leader *leader, uint64_t now_ns)
{
    int32_t worst = find_worst(leader, now_ns);
    struct osd_watch *watch = worst >= 0 ? leader_watch(leader, worst) : NULL;
    char why[WATCH_WHY_MAX];

    if (watch == NULL)
        return;
    snprintf(why, sizeof why, "it and %u other(s) cannot talk to each other",
             count_at_odds(leader, worst));
    mark_down(leader, worst, false, why);
    /* It would boot at once. */
    watch->suspected = false;
    if (watch->wrong + 1 < leader->mon->options.flap_count)
        watch->wrong = leader->mon->options.flap_count - 1;
    watch->wrong_ns = now_ns;
    note_wrong(leader, watch);
}

/* ---- Judging ---- */

static void judge(struct leader *leader, int32_t id)
{
    const struct osd_watch *watch = leader_watch(leader, id);
    uint64_t now_ns = env_now(leader->mon->env);
    struct witnesses witnesses;
    char why[WATCH_WHY_MAX];

    witnesses_count(leader, id, &witnesses);
    if (watch == NULL || witnesses.n == 0 || is_alive(watch, witnesses.first_ns))
        return;
    if (watch->probed_ns < witnesses.first_ns || watch->probe != PROBE_SILENT)
        return;
    bool aged = now_ns - witnesses.first_ns >= leader->mon->options.partial_grace_ms * MSEC_NS;
    if (witnesses.n < witnesses.needed && !witnesses.refused && !aged)
        return;
    snprintf(why, sizeof why, "silent to %u witness(es) and to the monitor", witnesses.n);
    mark_down(leader, id, false, why);
}

/* Looks for itself, unless it did so a moment ago. */
static void probe(struct leader *leader, int32_t id)
{
    struct osd_watch *watch = leader_watch(leader, id);
    uint64_t now_ns = env_now(leader->mon->env);

    if (watch == NULL ||
        (watch->probing_ns != 0 && now_ns - watch->probing_ns < PROBE_AGAIN_MS * MSEC_NS))
        return;
    watch->probing_ns = now_ns;
    session_probe(leader->mon, id, leader->mon->options.probe_timeout_ms);
}

void leader_probed(struct leader *leader, int32_t id, uint64_t instance, enum probe_result result)
{
    const struct map_osd *osd = map_osd(leader->mon->state.map, id);
    struct osd_watch *watch = leader_watch(leader, id);

    if (!leader->active || osd == NULL || watch == NULL || osd->instance != instance)
        return;
    watch->probe = result;
    watch->probed_ns = env_now(leader->mon->env);
    if (result == PROBE_REFUSED)
        mark_down(leader, id, true, "nobody listens at its address");
    else
        judge(leader, id);
}

static bool said_by_osd(const struct request *request, int32_t osd)
{
    return request->sender.type == ENTITY_OSD && entity_osd_id(&request->sender) == osd;
}

static void failure_take(struct leader *leader, const struct request *request,
                         const Limpet__Wire__OsdFailure *failure)
{
    const struct cluster_map *map = leader->mon->state.map;
    int32_t reporter = entity_osd_id(&request->sender);

    if (failure->kind == LIMPET__WIRE__OSD_FAILURE__KIND__GONE) {
        if (said_by_osd(request, failure->id))
            mark_down(leader, failure->id, true, "it stops");
        return;
    }
    if (request->sender.type == ENTITY_MON) {
        /* Another monitor has probed it. */
        if (failure->kind == LIMPET__WIRE__OSD_FAILURE__KIND__REFUSED)
            mark_down(leader, failure->id, true, "nobody listens at its address");
        return;
    }
    if (request->sender.type != ENTITY_OSD || reporter == failure->id || !map_osd_up(map, reporter))
        return;
    reports_expire(leader, env_now(leader->mon->env));
    report_note(leader, failure->id, reporter, failure);
    probe(leader, failure->id);
    judge(leader, failure->id);
}

void leader_failure(struct leader *leader, const struct request *request)
{
    Limpet__Wire__OsdFailure *failure = (Limpet__Wire__OsdFailure *)message_unpack(
        request->message, &limpet__wire__osd_failure__descriptor);

    if (failure == NULL)
        return;
    const struct map_osd *osd = map_osd(leader->mon->state.map, failure->id);
    /* A report of a process before its last boot is about another life. */
    if (osd != NULL && osd->up && osd->instance == failure->instance &&
        failure->epoch >= osd->up_from)
        failure_take(leader, request, failure);
    limpet__wire__osd_failure__free_unpacked(failure, NULL);
}

void leader_failure_tick(struct leader *leader, bool slept)
{
    uint64_t now_ns = env_now(leader->mon->env);

    /* Who could not listen does not know who has been silent. */
    if (slept)
        leader->n_reports = 0;
    reports_expire(leader, now_ns);
    for (uint32_t i = 0; i < leader->n_reports; i++)
        probe(leader, leader->reports[i].target);
    for (uint32_t i = 0; i < leader->n_reports; i++)
        judge(leader, leader->reports[i].target);
    resolve_links(leader, now_ns);
}
