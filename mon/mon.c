/* A monitor's life: its files, its start, what consensus asks of it, its end. */
#include "mon/mon.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "mon/leader.h"
#include "mon/mon_private.h"

#define IDENTITY_FILE      "identity"
#define IDENTITY_FILE_NEW  "identity.new"
#define IDENTITY_BYTES_MAX (4 * 1024 * 1024)

enum { WHY_MAX = 256 };

/* ---- Files of a new monitor ---- */

static int mkfs_check(const struct mon_mkfs_options *options, char why[WHY_MAX])
{
    static const struct entity_name shared = {.type = ENTITY_MON};
    bool found = false;

    if (options->n_mons == 0 || options->n_mons > MAP_MONS_MAX) {
        snprintf(why, WHY_MAX, "a cluster has 1 to %d monitors, not %u", MAP_MONS_MAX,
                 options->n_mons);
        return -EINVAL;
    }
    if (uuid_is_zero(&options->fsid)) {
        snprintf(why, WHY_MAX, "no fsid is given: add `fsid = UUID` to the configuration");
        return -EINVAL;
    }
    for (uint32_t i = 0; i < options->n_mons; i++) {
        const struct map_mon *mon = &options->mons[i];
        found = found || strcmp(mon->name, options->name) == 0;
        bool bad = mon->id == 0 || mon->name[0] == '\0' || mon->address.port == 0;
        for (uint32_t k = 0; k < i && !bad; k++)
            bad = mon->id == options->mons[k].id || strcmp(mon->name, options->mons[k].name) == 0 ||
                  net_address_equal(&mon->address, &options->mons[k].address);
        if (bad) {
            snprintf(why, WHY_MAX,
                     "monitor \"%s\" has no name or port, or shares its name or address with "
                     "another",
                     mon->name);
            return -EINVAL;
        }
    }
    if (!found) {
        snprintf(why, WHY_MAX, "monitor \"%s\" is not among the initial members", options->name);
        return -EINVAL;
    }
    if (keyring_find(options->keyring, &shared) == NULL) {
        snprintf(why, WHY_MAX, "the keyring has no key of \"mon.\"");
        return -EINVAL;
    }
    return 0;
}

static int identity_write(struct env *env, const struct mon_identity *identity)
{
    struct encoder e;
    struct env_file *file;

    encoder_init(&e);
    int rc = mon_identity_encode(identity, &e);
    if (rc == 0 && e.failed)
        rc = -ENOMEM;
    if (rc == 0)
        rc = env_file_open(env, IDENTITY_FILE_NEW, O_RDWR | O_CREAT | O_TRUNC, &file);
    if (rc == 0) {
        rc = env_file_write(env, file, e.data, e.len, 0);
        if (rc == 0)
            rc = env_file_sync(env, file);
        env_file_close(env, file);
    }
    if (rc == 0)
        rc = env_file_rename(env, IDENTITY_FILE_NEW, IDENTITY_FILE);
    if (rc == 0)
        rc = env_dir_sync(env, ".");
    encoder_fini(&e);
    return rc;
}

int mon_mkfs(struct env *env, const struct mon_mkfs_options *options, char why[WHY_MAX])
{
    struct mon_identity identity = {.fsid = options->fsid, .n_mons = options->n_mons};
    struct env_file *file;

    why[0] = '\0';
    int rc = mkfs_check(options, why);
    if (rc != 0)
        return rc;
    if (env_file_open(env, IDENTITY_FILE, O_RDONLY, &file) == 0) {
        env_file_close(env, file);
        snprintf(why, WHY_MAX, "the data folder holds a monitor already");
        return -EEXIST;
    }
    snprintf(identity.name, sizeof identity.name, "%s", options->name);
    memcpy(identity.mons, options->mons, options->n_mons * sizeof *options->mons);
    /* Borrowed: it is only encoded. */
    identity.keyring = *options->keyring;
    rc = consensus_mkfs(env, options->mons, options->n_mons);
    /* The identity comes last: with it the monitor exists. */
    if (rc == 0)
        rc = identity_write(env, &identity);
    if (rc != 0)
        snprintf(why, WHY_MAX, "cannot write the monitor's files: %s", error_text(rc));
    return rc;
}

static int identity_read(struct env *env, struct mon_identity *out, char why[WHY_MAX])
{
    struct env_file *file;
    uint8_t *data = NULL;

    int rc = env_file_open(env, IDENTITY_FILE, O_RDONLY, &file);
    if (rc != 0) {
        snprintf(why, WHY_MAX,
                 rc == -ENOENT ? "the data folder holds no monitor: make one with --mkfs"
                               : "cannot open the monitor's identity: %s",
                 error_text(rc));
        return rc;
    }
    int64_t size = env_file_size(env, file);
    rc = size < 0 ? (int)size : size > IDENTITY_BYTES_MAX ? -ELIMPET_CORRUPT : 0;
    if (rc == 0) {
        data = malloc((size_t)size + 1);
        rc = data != NULL ? 0 : -ENOMEM;
    }
    if (rc == 0) {
        ssize_t got = env_file_read(env, file, data, (size_t)size, 0);
        rc = got < 0 ? (int)got : got == size ? 0 : -EIO;
    }
    env_file_close(env, file);
    if (rc == 0)
        rc = mon_identity_decode(data, (size_t)size, out);
    if (rc == -EBADMSG)
        rc = -ELIMPET_CORRUPT;
    if (rc != 0)
        snprintf(why, WHY_MAX, "cannot read the monitor's identity: %s", error_text(rc));
    free(data);
    return rc;
}

/* ---- What consensus asks of the monitor ---- */

void mon_fail(struct mon *mon, int error, const char *why)
{
    if (mon->failed)
        return;
    mon->failed = true;
    log_error(mon->env, "monitor stops", "error=%d why=\"%s\"", error, why);
    if (mon->options.fatal != NULL)
        mon->options.fatal(mon->options.fatal_ctx, error, why);
}

static void on_send(void *ctx, uint64_t to, struct message *message)
{
    session_send_peer(ctx, to, message);
}

static int on_apply(void *ctx, const void *data, size_t len)
{
    struct mon *mon = ctx;
    struct mon_applied applied;
    uint64_t before = mon->state.map->epoch;

    int rc = mon_state_apply(&mon->state, data, len, &applied);
    if (rc != 0)
        return rc;
    if (applied.increment != NULL) {
        publish_increment(mon, applied.increment, applied.increment_len);
        leader_map_changed(mon->leader);
        stats_trim(mon->stats, mon->state.map);
        if (before == 0)
            access_answer_waiting(mon);
    }
    mon_entry_release(&applied);
    return 0;
}

static int on_snapshot(void *ctx, struct encoder *out)
{
    const struct mon *mon = ctx;
    int rc = mon_state_encode(&mon->state, out);

    return rc == 0 && out->failed ? -ENOMEM : rc;
}

static int on_restore(void *ctx, const void *data, size_t len)
{
    struct mon *mon = ctx;
    uint64_t before = mon->state.map->epoch;

    int rc = mon_state_restore(&mon->state, data, len);
    if (rc != 0)
        return rc;
    log_info(mon->env, "state restored", "epoch=%" PRIu64, mon->state.map->epoch);
    publish_reset(mon);
    leader_map_changed(mon->leader);
    if (before == 0)
        access_answer_waiting(mon);
    return 0;
}

/* A new leader is told what the OSDs that are connected here have reported. */
static void stats_pass_on(struct mon *mon)
{
    struct mon_session *session;

    LIST_FOREACH(session, &mon->sessions, link)
    {
        if (session->osd < 0)
            continue;
        Limpet__Wire__OsdStats *report = stats_replay(mon->stats, mon->state.map, session->osd);
        if (report == NULL)
            continue;
        struct message *message = message_pack(MSG_OSD_STATS, &report->base);
        stats_report_free(report);
        if (message == NULL)
            continue;
        forward_submit(mon, NULL, message, true);
        message_unref(message);
    }
}

static void on_leading(void *ctx, bool leading)
{
    struct mon *mon = ctx;

    if (leading)
        leader_begin(mon->leader);
    else
        leader_end(mon->leader);
}

static void on_leader_changed(void *ctx, uint64_t leader)
{
    struct mon *mon = ctx;

    if (leader != mon->self.id)
        leader_end(mon->leader);
    forward_restart(mon);
    if (leader != 0 && leader != mon->self.id)
        stats_pass_on(mon);
}

static void on_proposed(void *ctx, int result)
{
    struct mon *mon = ctx;

    leader_proposed(mon->leader, result);
}

static void on_failed(void *ctx, int error, const char *why)
{
    mon_fail(ctx, error, why);
}

static const struct consensus_ops consensus_table = {
    .send = on_send,
    .apply = on_apply,
    .snapshot = on_snapshot,
    .restore = on_restore,
    .leading = on_leading,
    .leader_changed = on_leader_changed,
    .proposed = on_proposed,
    .failed = on_failed,
};

/* ---- Start ---- */

static void options_complete(struct mon *mon)
{
    struct mon_options *options = &mon->options;

    options->name = mon->self.name;
    if (options->osd_beacon_grace_seconds == 0)
        options->osd_beacon_grace_seconds = MON_OSD_BEACON_GRACE_S;
    if (options->probe_timeout_ms == 0)
        options->probe_timeout_ms = MON_OSD_PROBE_TIMEOUT_MS;
    if (options->partial_grace_ms == 0)
        options->partial_grace_ms = MON_OSD_PARTIAL_GRACE_MS;
    if (options->flap_count == 0)
        options->flap_count = MON_OSD_FLAP_COUNT;
    if (options->flap_window_ms == 0)
        options->flap_window_ms = MON_OSD_FLAP_WINDOW_MS;
    if (options->flap_hold_ms == 0)
        options->flap_hold_ms = MON_OSD_FLAP_HOLD_MS;
    if (options->nearfull_ratio <= 0)
        options->nearfull_ratio = 0.85;
    if (options->full_ratio <= 0)
        options->full_ratio = 0.95;
}

static int identity_adopt(struct mon *mon, const char *name, char why[WHY_MAX])
{
    bool found = false;

    if (name != NULL && strcmp(mon->identity.name, name) != 0) {
        snprintf(why, WHY_MAX, "the data folder belongs to monitor \"%s\", not \"%s\"",
                 mon->identity.name, name);
        return -EINVAL;
    }
    for (uint32_t i = 0; i < mon->identity.n_mons; i++) {
        const struct map_mon *info = &mon->identity.mons[i];
        if (strcmp(info->name, mon->identity.name) == 0) {
            mon->self = *info;
            found = true;
            continue;
        }
        mon->peers[mon->n_peers++] =
            (struct mon_peer){.endpoint = {.kind = ENDPOINT_PEER}, .mon = mon, .info = *info};
    }
    if (!found) {
        snprintf(why, WHY_MAX, "the monitor's identity does not name itself");
        return -ELIMPET_CORRUPT;
    }
    return 0;
}

/* Before anything is opened: data of another cluster must not be touched. */
static int identity_check_cluster(const struct mon_identity *identity, const struct uuid *wanted,
                                  char why[WHY_MAX])
{
    char have[UUID_TEXT_MAX], want[UUID_TEXT_MAX];

    if (uuid_is_zero(wanted) || uuid_equal(wanted, &identity->fsid))
        return 0;
    snprintf(why, WHY_MAX, "belongs to another cluster: its fsid is %s, ours is %s",
             uuid_format(&identity->fsid, have), uuid_format(wanted, want));
    return -EXDEV;
}

static int mon_load(struct mon *mon, const struct mon_options *options, char why[WHY_MAX])
{
    int rc = identity_read(mon->env, &mon->identity, why);

    if (rc == 0)
        rc = identity_check_cluster(&mon->identity, &options->fsid, why);
    if (rc == 0)
        rc = identity_adopt(mon, options->name, why);
    if (rc != 0)
        return rc;
    options_complete(mon);
    access_init(mon);
    struct consensus_options consensus = {.fsid = mon->identity.fsid,
                                          .self = mon->self.id,
                                          .n_mons = mon->identity.n_mons,
                                          .mons = mon->identity.mons,
                                          .election_timeout_ms = options->election_timeout_ms,
                                          .heartbeat_ms = options->heartbeat_ms,
                                          .snapshot_entries = options->snapshot_entries};
    rc = consensus_create(mon->env, &consensus, &consensus_table, mon, &mon->consensus, why);
    if (rc != 0 && why[0] == '\0')
        snprintf(why, WHY_MAX, "cannot start: %s", error_text(rc));
    return rc;
}

static int mon_listen(struct mon *mon, char why[WHY_MAX])
{
    net_handlers_set(mon->env, &session_handlers, mon);
    int rc = net_listen(mon->env, &mon->self.address, NULL);
    if (rc != 0) {
        char address[NET_ADDRESS_TEXT_MAX];
        snprintf(why, WHY_MAX, "cannot listen at %s: %s",
                 net_address_format(&mon->self.address, address), error_text(rc));
        return rc;
    }
    session_connect_peers(mon);
    return 0;
}

static void stop_fire(struct env_timer *timer);

int mon_create(struct env *env, const struct mon_options *options, struct mon **out,
               char why[WHY_MAX])
{
    struct mon *mon = calloc(1, sizeof *mon);

    *out = NULL;
    why[0] = '\0';
    if (mon == NULL)
        return -ENOMEM;
    mon->env = env;
    mon->options = *options;
    mon->started_ns = env_now(env);
    mon->stop_timer.fire = stop_fire;
    LIST_INIT(&mon->sessions);
    LIST_INIT(&mon->probes);
    keyring_init(&mon->identity.keyring);
    forward_init(mon);
    int rc = mon_state_init(&mon->state);
    mon->stats = stats_create();
    mon->leader = leader_create(mon);
    if (rc == 0 && (mon->stats == NULL || mon->leader == NULL))
        rc = -ENOMEM;
    if (rc == 0)
        rc = mon_load(mon, options, why);
    if (rc == 0)
        rc = mon_listen(mon, why);
    if (rc != 0) {
        mon_abandon(mon);
        return rc;
    }
    log_info(env, "monitor started", "mon=%s epoch=%" PRIu64, mon->self.name,
             mon->state.map->epoch);
    *out = mon;
    return 0;
}

/* ---- End ---- */

void mon_abandon(struct mon *mon)
{
    if (mon == NULL)
        return;
    mon->stopping = true;
    session_close_all(mon, true);
    forward_fini(mon);
    leader_destroy(mon->leader);
    consensus_destroy(mon->consensus);
    publish_fini(mon);
    stats_destroy(mon->stats);
    mon_state_fini(&mon->state);
    mon_identity_fini(&mon->identity);
    env_timer_stop(mon->env, &mon->stop_timer);
    free(mon);
}

static void stop_fire(struct env_timer *timer)
{
    struct mon *mon = container_of(timer, struct mon, stop_timer);

    if (consensus_busy(mon->consensus) || mon->leader->run_task.queued) {
        env_timer_after(mon->env, timer, MSEC_NS);
        return;
    }
    void (*stopped)(void *) = mon->stopped;
    void *ctx = mon->stopped_ctx;
    /* Sessions may have come while we waited. */
    net_handlers_set(mon->env, NULL, NULL);
    mon_abandon(mon);
    stopped(ctx);
}

void mon_stop(struct mon *mon, void (*stopped)(void *ctx), void *ctx)
{
    assert(!mon->stopping);
    mon->stopping = true;
    mon->stopped = stopped;
    mon->stopped_ctx = ctx;
    session_close_all(mon, false);
    env_timer_after(mon->env, &mon->stop_timer, 0);
}

const struct cluster_map *mon_map(const struct mon *mon)
{
    return mon->state.map;
}

bool mon_is_leader(const struct mon *mon)
{
    return consensus_leading(mon->consensus);
}

const struct auth_provider *mon_auth(struct mon *mon)
{
    return &mon->auth;
}
