/*
 * limpet-osd: the real world around an OSD.
 *
 *     limpet-osd --mkfs -i N    makes DIR/store, and DIR/identity last: it marks a finished OSD
 *     limpet-osd -i N           runs it until SIGTERM
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <jemalloc/jemalloc.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/daemon.h"
#include "common/env_real.h"
#include "common/log.h"
#include "common/standard_files.h"
#include "osd/osd.h"
#include "osd/store/store_engine.h"
#include "osd/store_tool.h"

enum { IDENTITY_MAX = 4096 };

/*
 * jemalloc reads this at its start (jemalloc(3), TUNING). One thread does nearly all of the work,
 * so two arenas are as fast as its default of four a core, and keep less of what was freed. Huge
 * pages, since what a write touches lies all over the heap: an eighth less CPU, for 16 MiB.
 */
extern const char *malloc_conf __attribute__((visibility("default")));
const char *malloc_conf = "narenas:2,thp:always";

/*
 * It gives back what has been free for a while as others are allocated and freed. An idle OSD does
 * little of that, and would keep what a burst has left. Sanitizers do without jemalloc.
 */
#pragma weak mallctl
#define ALL_ARENAS(n)  "arena." NUMBER_TEXT(n) ".decay"
#define NUMBER_TEXT(n) #n
static const uint64_t give_back_ns = 5 * SEC_NS;

static const struct daemon_program program = {
    .name = "limpet-osd",
    .type = ENTITY_OSD,
    .data_option = "osd_data",
    .description = "Keeps replicas of objects on one store.",
};

/* What the data folder says about its OSD. */
struct identity {
    bool has_fsid, has_id, has_uuid;
    struct uuid fsid;
    struct uuid uuid;
    int32_t id;
};

struct process {
    struct daemon daemon;
    struct env *env;
    struct osd *osd;
    struct env_timer give_back;
    int error; /* Why it ends; 0: it was told to. */
};

static void data_path(const struct process *process, const char *name,
                      char path[DAEMON_PATH_MAX + 32])
{
    snprintf(path, DAEMON_PATH_MAX + 32, "%s/%s", process->daemon.data_dir, name);
}

/* ---- What the command line and the configuration say ---- */

static int32_t own_id(const struct process *process)
{
    int32_t id = entity_osd_id(&process->daemon.self);
    if (id < 0 || id >= MAP_OSDS_MAX)
        die_because(EINVAL, "'%s' is no number of an OSD", process->daemon.self.id);
    return id;
}

static struct uuid own_fsid(const struct process *process)
{
    struct uuid fsid;
    const char *text = config_get(process->daemon.config, "fsid");
    if (!text || uuid_parse(text, &fsid) || uuid_is_zero(&fsid))
        die_because(EINVAL, "the configuration has no fsid, the UUID of the cluster");
    return fsid;
}

static uint64_t own_size(const struct process *process)
{
    char why[256];
    uint64_t size;
    struct statvfs fs;
    if (config_get_u64(process->daemon.config, "osd_size", &size, why))
        die_because(EINVAL, "%s", why);
    if (size > 0)
        return size;
    if (statvfs(process->daemon.data_dir, &fs))
        die(errno, "%s", process->daemon.data_dir);
    /* What is there, less some for the index beside the data. */
    return (uint64_t)fs.f_bavail * fs.f_frsize / 10 * 9;
}

static uint64_t own_duration(const struct process *process, const char *name)
{
    char why[256];
    uint64_t ns;
    if (config_get_duration(process->daemon.config, name, &ns, why))
        die_because(EINVAL, "%s", why);
    return ns;
}

static uint32_t own_milliseconds(const struct process *process, const char *name)
{
    return (uint32_t)(own_duration(process, name) / MSEC_NS);
}

static struct store_engine_options own_store_options(const struct process *process)
{
    struct store_engine_options options = {0};
    char why[256];
    if (config_get_u64(process->daemon.config, "osd_memory_target", &options.memory_target, why))
        die_because(EINVAL, "%s", why);
    bool allocate;
    if (config_get_bool(process->daemon.config, "osd_preallocate", &allocate, why))
        die_because(EINVAL, "%s", why);
    options.sparse = !allocate;
    return options;
}

/* ---- The data folder's identity ---- */

static int identity_value(void *ctx, const char *section, const char *name, const char *value)
{
    struct identity *identity = ctx;
    (void)section;
    if (strcmp(name, "fsid") == 0) {
        identity->has_fsid = uuid_parse(value, &identity->fsid) == 0;
    } else if (strcmp(name, "uuid") == 0) {
        identity->has_uuid = uuid_parse(value, &identity->uuid) == 0;
    } else if (strcmp(name, "id") == 0) {
        char *end;
        long id = strtol(value, &end, 10);
        identity->has_id = *value && !*end && id >= 0 && id < MAP_OSDS_MAX;
        identity->id = (int32_t)id;
    }
    return 1;
}

static bool identity_exists(const struct process *process)
{
    char path[DAEMON_PATH_MAX + 32];
    data_path(process, "identity", path);
    return access(path, F_OK) == 0;
}

static struct identity identity_read(const struct process *process)
{
    struct identity identity = {0};
    char path[DAEMON_PATH_MAX + 32];
    data_path(process, "identity", path);
    if (!identity_exists(process))
        die_because(ENOENT, "%s holds no OSD; --mkfs makes one", process->daemon.data_dir);
    if (ini_parse(path, identity_value, &identity) != 0 || !identity.has_fsid || !identity.has_id ||
        !identity.has_uuid)
        die_because(EINVAL, "%s is damaged", path);
    return identity;
}

static void identity_check(const struct process *process, const struct identity *identity)
{
    char ours[UUID_TEXT_MAX], theirs[UUID_TEXT_MAX];
    struct uuid fsid = own_fsid(process);
    if (!uuid_equal(&identity->fsid, &fsid))
        die_because(EXDEV, "%s belongs to another cluster: its fsid is %s, ours is %s",
                    process->daemon.data_dir, uuid_format(&identity->fsid, theirs),
                    uuid_format(&fsid, ours));
    if (identity->id != own_id(process))
        die_because(EEXIST, "%s belongs to osd.%d, not to osd.%d", process->daemon.data_dir,
                    identity->id, own_id(process));
}

/* Written aside, synced and renamed: it is there whole or not at all. */
static void identity_write(const struct process *process, const struct identity *identity)
{
    char text[IDENTITY_MAX], fsid[UUID_TEXT_MAX], uuid[UUID_TEXT_MAX];
    struct env_file *file = NULL;
    int len = snprintf(text, sizeof text, "fsid = %s\nid = %d\nuuid = %s\n",
                       uuid_format(&identity->fsid, fsid), identity->id,
                       uuid_format(&identity->uuid, uuid));
    int error = env_file_open(process->env, "identity.new", O_RDWR | O_CREAT | O_TRUNC, &file);
    if (!error)
        error = env_file_write(process->env, file, text, (size_t)len, 0);
    if (!error)
        error = env_file_sync(process->env, file);
    if (file)
        env_file_close(process->env, file);
    if (!error)
        error = env_file_rename(process->env, "identity.new", "identity");
    if (!error)
        error = env_dir_sync(process->env, ".");
    if (error)
        die(error, "%s/identity", process->daemon.data_dir);
}

/* ---- Making an OSD ---- */

static int make(struct process *process)
{
    struct identity identity = {.fsid = own_fsid(process), .id = own_id(process)};
    char path[DAEMON_PATH_MAX + 32], why[256];
    if (identity_exists(process)) {
        struct identity known = identity_read(process);
        identity_check(process, &known);
        die_because(EEXIST, "%s holds osd.%d already", process->daemon.data_dir, known.id);
    }
    data_path(process, "store", path);
    randombytes_buf(identity.uuid.bytes, sizeof identity.uuid.bytes);
    struct store_engine_options store_options = own_store_options(process);
    int error = store_engine_create(process->env, path, own_size(process), &identity.uuid,
                                    &store_options, why);
    if (error == -EEXIST)
        die_because(EEXIST, "%s is left from an OSD that was not finished: remove it", path);
    if (error)
        die_because(error, "%s", why);
    identity_write(process, &identity);
    env_real_destroy(process->env);
    daemon_finish(&process->daemon);
    return 0;
}

/* ---- Where to listen ---- */

static socklen_t to_sockaddr(const struct net_address *address, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof *out);
    if (address->family == 4) {
        struct sockaddr_in *in = (struct sockaddr_in *)out;
        in->sin_family = AF_INET;
        in->sin_port = htons(address->port);
        memcpy(&in->sin_addr, address->ip, sizeof in->sin_addr);
        return sizeof *in;
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(address->port);
    memcpy(&in6->sin6_addr, address->ip, sizeof in6->sin6_addr);
    return sizeof *in6;
}

/* The address of this host on the way to a monitor: nothing is sent to find it. */
static int local_address(const struct net_address *towards, struct net_address *out)
{
    struct sockaddr_storage remote, local;
    socklen_t remote_len = to_sockaddr(towards, &remote), len = sizeof local;
    int fd = socket(remote.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int error = connect(fd, (struct sockaddr *)&remote, remote_len) ||
                        getsockname(fd, (struct sockaddr *)&local, &len)
                    ? -errno
                    : 0;
    close(fd);
    if (error)
        return error;
    memset(out, 0, sizeof *out);
    out->family = towards->family;
    if (towards->family == 4)
        memcpy(out->ip, &((struct sockaddr_in *)&local)->sin_addr, 4);
    else
        memcpy(out->ip, &((struct sockaddr_in6 *)&local)->sin6_addr, 16);
    return 0;
}

/* `public_addr`, with or without a port; else the way to the first monitor that can be routed to.
 */
static void listen_address(const struct process *process, struct osd_options *options)
{
    const char *text = config_get(process->daemon.config, "public_addr");
    char with_port[NET_ADDRESS_TEXT_MAX + 8];
    int error = -ENETUNREACH;
    if (text && *text) {
        snprintf(with_port, sizeof with_port,
                 strchr(text, ':') && !strchr(text, '.') && *text != '[' ? "[%s]:0" : "%s:0", text);
        if (net_address_parse(text, &options->listen) &&
            net_address_parse(with_port, &options->listen))
            die_because(EINVAL, "public_addr: '%s' is no address", text);
        return;
    }
    for (uint32_t i = 0; i < options->n_mons && error; i++)
        error = local_address(&options->mons[i], &options->listen);
    if (error)
        die(error, "no address of this host leads to the monitors; set public_addr");
}

/* ---- Running ---- */

/* Whoever still comes while the loop ends finds nobody. */
static void nobody_opened(void *ctx, struct net_session *session)
{
    (void)ctx;
    (void)session;
}

static void nobody_received(void *ctx, struct net_session *session, struct message *message)
{
    (void)ctx;
    (void)session;
    (void)message;
}

static void nobody_closed(void *ctx, struct net_session *session, int error)
{
    (void)ctx;
    (void)session;
    (void)error;
}

static const struct net_handlers nobody = {
    .opened = nobody_opened,
    .received = nobody_received,
    .closed = nobody_closed,
};

static void stopped(void *ctx)
{
    struct process *process = ctx;
    process->osd = NULL;
    net_handlers_set(process->env, &nobody, NULL);
    env_real_stop(process->env);
}

static void stop(void *ctx)
{
    struct process *process = ctx;
    if (process->osd)
        osd_stop(process->osd, stopped, process);
    else
        env_real_stop(process->env);
}

static void fatal(void *ctx, int error, const char *why)
{
    struct process *process = ctx;
    fprintf(stderr, "limpet-osd: osd.%s ends: %s: %s\n", process->daemon.self.id, why,
            error_text(error));
    process->error = error;
    env_real_stop(process->env);
}

static void fill_options(struct process *process, const struct identity *identity,
                         struct osd_options *options)
{
    char why[256] = "";
    struct config *config = process->daemon.config;
    const struct keyring_entry *key = keyring_find(&process->daemon.keyring, &process->daemon.self);
    memset(options, 0, sizeof *options);
    options->id = identity->id;
    options->uuid = identity->uuid;
    options->fsid = identity->fsid;
    if (!key)
        die_because(ENOENT, "the keyring has no key for osd.%d", identity->id);
    options->secret = key->secret;
    if (config_mon_host(config, options->mons, MAP_MONS_MAX, &options->n_mons, why))
        die_because(EINVAL, "%s", why);
    if (why[0] != '\0')
        fprintf(stderr, "limpet-osd: warning: %s; going on with the other monitors\n", why);
    listen_address(process, options);
    const char *host = config_get(config, "host");
    snprintf(options->host, sizeof options->host, "%s", host ? host : "");
    options->heartbeat_ms = own_milliseconds(process, "osd_heartbeat_interval");
    options->heartbeat_grace_ms = own_milliseconds(process, "osd_heartbeat_grace");
    options->stats_ms = own_milliseconds(process, "osd_stats_interval");
    options->complaint_ms = own_milliseconds(process, "osd_op_complaint_time");
    options->scrub_interval_ns = own_duration(process, "osd_scrub_interval");
    options->deep_scrub_interval_ns = own_duration(process, "osd_deep_scrub_interval");
    options->fatal = fatal;
    options->fatal_ctx = process;
}

static void give_memory_back(struct env_timer *timer)
{
    struct process *process = container_of(timer, struct process, give_back);
    int error = mallctl(ALL_ARENAS(MALLCTL_ARENAS_ALL), NULL, NULL, NULL, 0);
    (void)error; /* Then it stays as it was. */
    env_timer_after(process->env, timer, give_back_ns);
}

static int run(struct process *process)
{
    struct identity identity = identity_read(process);
    struct osd_options options;
    struct store *store;
    char path[DAEMON_PATH_MAX + 32], address[NET_ADDRESS_TEXT_MAX], why[256];
    identity_check(process, &identity);
    fill_options(process, &identity, &options);
    data_path(process, "store", path);
    struct store_engine_options store_options = own_store_options(process);
    int error = store_engine_open(process->env, path, &store_options, &store, why);
    if (error)
        die_because(error, "%s", why);
    error = osd_create(process->env, &options, store, &process->osd);
    if (error)
        die(error, "cannot start at %s", net_address_format(&options.listen, address));
    sodium_memzero(&options.secret, sizeof options.secret);
    env_real_set_auth(process->env, osd_auth(process->osd));
    daemon_run_signals(&process->daemon, env_real_loop(process->env), stop, process);
    daemon_ready(&process->daemon);
    process->give_back.fire = give_memory_back;
    if (mallctl != NULL)
        env_timer_after(process->env, &process->give_back, give_back_ns);
    env_real_run(process->env);
    env_timer_stop(process->env, &process->give_back);
    if (process->error)
        exit(error_exit_code(process->error)); /* Nothing may be finished that has failed. */
    daemon_end_signals(&process->daemon);
    env_real_destroy(process->env);
    daemon_finish(&process->daemon);
    return 0;
}

int main(int argc, char **argv)
{
    standard_files_fill();
    static struct process process;
    struct env_real_options options;
    if (store_tool_wanted(argc, argv))
        return store_tool_main(argc, argv);
    daemon_start(&process.daemon, &program, argc, argv);
    daemon_env_options(&process.daemon, &options);
    int error = env_real_create(&options, &process.env);
    if (error)
        die(error, "cannot start");
    return process.daemon.mkfs ? make(&process) : run(&process);
}
