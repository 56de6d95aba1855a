/* limpet-mon: the monitor daemon. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/daemon.h"
#include "common/env_real.h"
#include "common/standard_files.h"
#include "mon/mon.h"

static const struct daemon_program program = {
    .name = "limpet-mon",
    .type = ENTITY_MON,
    .data_option = "mon_data",
    .description = "Keeps the map of a cluster, together with the other monitors.",
};

static struct daemon daemon_state;

struct main_state {
    struct env *env;
    struct mon *mon;
    int error;
    char why[256];
};

static void get_duration_ms(const char *name, uint32_t *out)
{
    uint64_t ns;
    char why[256];
    int rc = config_get_duration(daemon_state.config, name, &ns, why);

    if (rc != 0)
        die_because(rc, "%s", why);
    *out = (uint32_t)(ns / MSEC_NS);
}

static uint64_t get_number(const char *name)
{
    uint64_t value;
    char why[256];
    int rc = config_get_u64(daemon_state.config, name, &value, why);

    if (rc != 0)
        die_because(rc, "%s", why);
    return value;
}

static double get_ratio(const char *name)
{
    const char *text = config_get(daemon_state.config, name);

    return text != NULL ? strtod(text, NULL) : 0;
}

/* ---- --mkfs ---- */

/* Splits `mon initial members` at commas and spaces; the addresses stand in the same order. */
static uint32_t take_members(struct map_mon *mons)
{
    const char *members = config_get(daemon_state.config, "mon_initial_members");
    struct net_address addresses[MAP_MONS_MAX];
    char why[256];
    uint32_t n_addresses;
    uint32_t n = 0;

    if (members == NULL || members[0] == '\0')
        die_because(EINVAL, "the configuration has no `mon initial members`");
    int rc = config_mon_host(daemon_state.config, addresses, MAP_MONS_MAX, &n_addresses, why);
    if (rc == 0 && why[0] != '\0')
        rc = -EINVAL; /* Names and addresses go by their order: none may be missing. */
    if (rc != 0)
        die_because(rc, "%s", why);
    for (const char *at = members; *at != '\0';) {
        at += strspn(at, ", \t;");
        size_t len = strcspn(at, ", \t;");
        if (len == 0)
            break;
        if (n == MAP_MONS_MAX || len > ENTITY_ID_MAX)
            die_because(EINVAL, "`mon initial members` has too many names, or too long ones");
        if (n < n_addresses)
            mons[n].address = addresses[n];
        memcpy(mons[n].name, at, len);
        mons[n].id = n + 1;
        n++;
        at += len;
    }
    if (n != n_addresses)
        die_because(EINVAL,
                    "`mon initial members` names %u monitors, but `mon host` has %u addresses", n,
                    n_addresses);
    return n;
}

static int run_mkfs(struct env *env)
{
    static struct map_mon mons[MAP_MONS_MAX];
    struct mon_mkfs_options options = {
        .name = daemon_state.self.id, .mons = mons, .keyring = &daemon_state.keyring};
    const char *fsid = config_get(daemon_state.config, "fsid");
    char why[256];

    if (fsid == NULL || uuid_parse(fsid, &options.fsid) != 0)
        die_because(EINVAL, "the configuration has no valid `fsid`");
    options.n_mons = take_members(mons);
    int rc = mon_mkfs(env, &options, why);
    if (rc != 0)
        die_because(rc, "%s: %s", daemon_state.data_dir, why);
    return 0;
}

/* ---- Running ---- */

static void on_stopped(void *ctx)
{
    struct main_state *state = ctx;

    state->mon = NULL;
    env_real_stop(state->env);
}

static void on_signal(void *ctx)
{
    struct main_state *state = ctx;

    if (state->mon != NULL && state->error == 0)
        mon_stop(state->mon, on_stopped, state);
}

static void on_fatal(void *ctx, int error, const char *why)
{
    struct main_state *state = ctx;

    state->error = error;
    snprintf(state->why, sizeof state->why, "%s", why);
    env_real_stop(state->env);
}

static void fill_options(struct mon_options *options, struct main_state *state)
{
    const char *fsid = config_get(daemon_state.config, "fsid");
    uint32_t ms;

    *options =
        (struct mon_options){.name = daemon_state.self.id, .fatal = on_fatal, .fatal_ctx = state};
    if (fsid != NULL && uuid_parse(fsid, &options->fsid) != 0)
        die_because(EINVAL, "`fsid` is not a UUID: %s", fsid);
    get_duration_ms("mon_election_timeout", &options->election_timeout_ms);
    get_duration_ms("mon_heartbeat_interval", &options->heartbeat_ms);
    if (options->heartbeat_ms >= options->election_timeout_ms)
        die_because(EINVAL, "mon_heartbeat_interval must be shorter than mon_election_timeout");
    get_duration_ms("mon_osd_down_out_interval", &ms);
    options->osd_down_out_seconds = ms / 1000;
    get_duration_ms("mon_osd_report_timeout", &ms);
    options->osd_beacon_grace_seconds = ms / 1000;
    get_duration_ms("mon_osd_probe_timeout", &options->probe_timeout_ms);
    get_duration_ms("mon_osd_partial_grace", &options->partial_grace_ms);
    get_duration_ms("mon_osd_flap_window", &options->flap_window_ms);
    get_duration_ms("mon_osd_flap_hold", &options->flap_hold_ms);
    options->flap_count = (uint32_t)get_number("mon_osd_flap_count");
    options->snapshot_entries = (uint32_t)get_number("mon_snapshot_entries");
    options->crush_chooseleaf_type = (uint16_t)get_number("osd_crush_chooseleaf_type");
    options->pool_size = (uint8_t)get_number("osd_pool_default_size");
    options->pool_min_size = (uint8_t)get_number("osd_pool_default_min_size");
    options->nearfull_ratio = get_ratio("mon_osd_nearfull_ratio");
    options->full_ratio = get_ratio("mon_osd_full_ratio");
}

static int run_monitor(struct env *env)
{
    struct main_state state = {.env = env};
    struct mon_options options;
    char why[256];

    fill_options(&options, &state);
    int rc = mon_create(env, &options, &state.mon, why);
    if (rc != 0)
        die_because(rc, "%s: %s", daemon_state.data_dir, why);
    env_real_set_auth(env, mon_auth(state.mon));
    daemon_run_signals(&daemon_state, env_real_loop(env), on_signal, &state);
    daemon_ready(&daemon_state);
    env_real_run(env);
    if (state.error != 0) {
        fprintf(stderr, "limpet-mon: %s\n", state.why);
        mon_abandon(state.mon);
    }
    daemon_end_signals(&daemon_state);
    return state.error != 0 ? error_exit_code(state.error) : 0;
}

int main(int argc, char **argv)
{
    standard_files_fill();
    struct env_real_options options;
    struct env *env;

    daemon_start(&daemon_state, &program, argc, argv);
    daemon_env_options(&daemon_state, &options);
    int rc = env_real_create(&options, &env);
    if (rc != 0)
        die(rc, "cannot start");
    int status = daemon_state.mkfs ? run_mkfs(env) : run_monitor(env);
    env_real_destroy(env);
    daemon_finish(&daemon_state);
    return status;
}
