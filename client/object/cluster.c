#include "client/object/private.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/object/inside.h"
#include "common/log.h"
#include "common/messenger.h"
#include "common/options.h"
#include "common/version.h"

/* ---- Errors ---- */

const char *limpet_version(void)
{
    return limpet_version_text();
}

const char *limpet_error_text(int error)
{
    return error_text(error);
}

void limpet_free(void *memory)
{
    free(memory);
}

int public_error(int error)
{
    if (error <= -WIRE_MISMATCH)
        return -LIMPET_MISMATCH + (error + WIRE_MISMATCH);
    return error <= -LIMPET_ERROR_BASE ? -EIO : error;
}

int cluster_fail(struct limpet_cluster *c, int error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(c->error, sizeof c->error, format, args);
    va_end(args);
    return public_error(error);
}

const char *limpet_cluster_error(const struct limpet_cluster *c)
{
    return c->error;
}

/* ---- Creation and configuration ---- */

int limpet_cluster_create(struct limpet_cluster **out, const char *name)
{
    struct limpet_cluster *c = calloc(1, sizeof *c);
    if (c == NULL)
        return -ENOMEM;
    if (name == NULL)
        name = getenv("LIMPET_NAME");
    int rc = entity_parse(name != NULL ? name : "client.admin", &c->name);
    if (rc == 0)
        rc = loop_init(c);
    if (rc != 0)
        goto fail;
    rc = -ENOMEM;
    c->config = config_create(&c->name);
    if (c->config == NULL)
        goto fail_loop;
    *out = c;
    return 0;
fail_loop:
    loop_fini(c);
fail:
    free(c);
    return rc;
}

int limpet_cluster_config_file(struct limpet_cluster *c, const char *path)
{
    char why[256] = "";
    int rc = config_load(c->config, path, why);
    if (rc != 0)
        return cluster_fail(c, rc, "%s", why);
    return 0;
}

int limpet_cluster_config_set(struct limpet_cluster *c, const char *option, const char *value)
{
    if (option_find(option) == NULL)
        return cluster_fail(c, -ENOENT, "there is no option '%s'", option);
    int rc = config_set(c->config, option, value);
    if (rc != 0)
        return cluster_fail(c, rc, "option '%s': %s", option, error_text(rc));
    return 0;
}

int limpet_cluster_config_get(struct limpet_cluster *c, const char *option, char *value,
                              size_t size)
{
    const char *text = config_get(c->config, option);
    if (text == NULL)
        return cluster_fail(c, -ENOENT, "option '%s' is not set", option);
    size_t len = strlen(text) + 1;
    if (len > size)
        return cluster_fail(c, -ERANGE, "option '%s' has a value of %zu bytes", option, len);
    memcpy(value, text, len);
    return 0;
}

int cluster_duration(struct limpet_cluster *c, const char *option, uint64_t *ns)
{
    char why[256] = "";
    int rc = config_get_duration(c->config, option, ns, why);
    return rc == 0 ? 0 : cluster_fail(c, rc, "%s", why);
}

int cluster_u64(struct limpet_cluster *c, const char *option, uint64_t *out)
{
    char why[256] = "";
    int rc = config_get_u64(c->config, option, out, why);
    return rc == 0 ? 0 : cluster_fail(c, rc, "%s", why);
}

int cluster_bool(struct limpet_cluster *c, const char *option, bool *out)
{
    char why[256] = "";
    int rc = config_get_bool(c->config, option, out, why);
    return rc == 0 ? 0 : cluster_fail(c, rc, "%s", why);
}

/* ---- Connecting ---- */

static int read_keyring(struct limpet_cluster *c, struct auth_secret *secret)
{
    char why[256] = "";
    char name[ENTITY_TEXT_MAX];
    const char *paths = config_get(c->config, "keyring");
    struct keyring keyring;
    keyring_init(&keyring);
    int rc = keyring_load(&keyring, paths != NULL ? paths : "", why);
    if (rc == -ENOENT) {
        rc = cluster_fail(c, rc,
                          "%s; name the file with --keyring, or with 'keyring' in the "
                          "configuration",
                          why);
    } else if (rc != 0) {
        rc = cluster_fail(c, rc, "%s", why);
    } else {
        const struct keyring_entry *entry = keyring_find(&keyring, &c->name);
        if (entry != NULL)
            *secret = entry->secret;
        else
            rc = cluster_fail(c, -ENOENT, "keyring %s has no key for %s", paths,
                              entity_format(&c->name, name));
    }
    keyring_fini(&keyring);
    return rc;
}

static int read_key(struct limpet_cluster *c, struct auth_secret *secret)
{
    const char *key = config_get(c->config, "key");
    if (key == NULL || key[0] == 0)
        return read_keyring(c, secret);
    int rc = auth_secret_parse(key, secret);
    if (rc != 0)
        rc = cluster_fail(c, rc, "the option 'key' is no key as keyrings have them");
    return rc;
}

/* Of a time-out: a year. */
#define FOR_EVER_NS (365 * 86400 * SEC_NS)

static int read_limits(struct limpet_cluster *c, struct client_options *options, char why[256])
{
    uint64_t ops, busy_ns;
    int rc = config_get_duration(c->config, "connect_timeout", &options->connect_timeout_ns, why);
    if (rc == 0)
        rc = config_get_duration(c->config, "rados_osd_op_timeout", &options->op_timeout_ns, why);
    if (rc == 0)
        rc = config_get_duration(c->config, "rados_mon_op_timeout", &c->command_timeout_ns, why);
    if (rc == 0)
        rc = config_get_u64(c->config, "client_max_bytes_in_flight", &c->bytes_max, why);
    if (rc == 0)
        rc = config_get_u64(c->config, "client_max_ops_in_flight", &ops, why);
    if (rc == 0)
        rc = config_get_duration(c->config, "client_busy_poll", &busy_ns, why);
    if (rc != 0)
        return rc;
    c->ops_max = ops;
    busy_poll_init(&c->busy_poll, busy_ns);
    /* The library makes its callers wait; the core behind it only bounds what callbacks add. */
    options->max_bytes_in_flight = c->bytes_max;
    options->max_ops_in_flight = (uint32_t)ops;
    /* "For ever" of the configuration is a year for the core, to which 0 means its default. */
    if (options->connect_timeout_ns == 0)
        options->connect_timeout_ns = FOR_EVER_NS;
    if (c->command_timeout_ns == 0)
        c->command_timeout_ns = FOR_EVER_NS;
    return 0;
}

static int read_options(struct limpet_cluster *c, struct client_options *options)
{
    char why[256] = "";
    options->name = c->name;
    int rc = config_check(c->config, why);
    if (rc != 0)
        return cluster_fail(c, rc, "%s", why);
    rc = config_mon_host(c->config, options->mons, MAP_MONS_MAX, &options->n_mons, why);
    if (rc == -ENOENT)
        return cluster_fail(c, rc,
                            "no monitor is configured: name a configuration file with "
                            "--conf or $LIMPET_CONF, or a monitor with --mon-host");
    if (rc == 0) {
        rc = config_get_uuid(c->config, "fsid", &options->fsid, why);
        if (rc == -ENOENT)
            rc = 0;
    }
    if (rc == 0)
        rc = read_limits(c, options, why);
    if (rc != 0)
        return cluster_fail(c, rc, "%s", why);
    return read_key(c, &options->secret);
}

struct connecting {
    struct limpet_cluster *cluster;
    struct waiter waiter;
    int result;
};

static void connected(void *ctx, int error)
{
    struct connecting *connecting = ctx;
    connecting->result = error;
    loop_done(connecting->cluster, &connecting->waiter);
}

/* Where the key is from, for messages. */
static void describe_key(struct limpet_cluster *c, char text[256])
{
    const char *key = config_get(c->config, "key");
    if (key != NULL && key[0] != 0)
        snprintf(text, 256, "the option 'key'");
    else
        snprintf(text, 256, "keyring %s", config_get(c->config, "keyring"));
}

static int explain_connect_failure(struct limpet_cluster *c, const char *details,
                                   const struct client_options *options, int error)
{
    char name[ENTITY_TEXT_MAX], fsid[UUID_TEXT_MAX], key[256];
    entity_format(&c->name, name);
    describe_key(c, key);
    switch (error) {
    case -ETIMEDOUT:
        return cluster_fail(c, error, "no monitor answered within %" PRIu64 " s: %s",
                            options->connect_timeout_ns / SEC_NS, details);
    case -EACCES:
        return cluster_fail(c, error,
                            "the monitors refuse %s: the key in %s is not the one that "
                            "the cluster has for it (%s)",
                            name, key, details);
    case -EINVAL:
        return cluster_fail(c, error,
                            "the cluster at these addresses is not the one with fsid %s of the "
                            "configuration (%s)",
                            uuid_format(&options->fsid, fsid), details);
    default:
        return cluster_fail(c, error, "%s (%s)", error_text(error), details);
    }
}

static int make_world(struct limpet_cluster *c)
{
    int rc = loop_make_env(c);
    if (rc != 0)
        return cluster_fail(c, rc, "cannot make an event loop: %s", error_text(rc));
    /* A library does not write to its program's standard error unless it was asked to. */
    const char *log = getenv("LIMPET_LOG");
    c->env->log_mask = log == NULL ? 0 : strcmp(log, "debug") == 0 ? ~0u : LOG_MASK_DEFAULT;
    return 0;
}

/* Ends the client and its world. The lock is held; the driver makes the callbacks. */
static void unmake_world(struct limpet_cluster *c, struct client *client)
{
    c->client = NULL;
    client_destroy(client);
    watch_forget_left(c);
    loop_stop_driver(c);
    loop_end_env(c);
}

int cluster_connect(struct limpet_cluster *c, const struct client_options *options)
{
    int rc = make_world(c);
    if (rc != 0)
        return rc;
    struct client *client = client_create(c->env, options);
    if (client == NULL) {
        unmake_world(c, NULL);
        return cluster_fail(c, -ENOMEM, "%s", error_text(-ENOMEM));
    }
    loop_set_auth(c, client_auth(client));
    struct connecting connecting = {.cluster = c};
    client_connect(client, connected, &connecting);
    loop_wait(c, &connecting.waiter);
    rc = connecting.result;
    if (rc != 0) {
        rc = explain_connect_failure(c, client_connect_error(client), options, rc);
        unmake_world(c, client);
        return rc;
    }
    /* Only now other threads find a client, which always has a map. */
    c->client = client;
    return 0;
}

int limpet_cluster_connect(struct limpet_cluster *c)
{
    struct client_options options = {0};
    cluster_lock(c);
    c->error[0] = 0;
    int rc;
    if (c->env != NULL) {
        rc = cluster_fail(c, -EISCONN, "connected already");
    } else {
        rc = read_options(c, &options);
        if (rc == 0)
            rc = cluster_connect(c, &options);
    }
    sodium_memzero(&options.secret, sizeof options.secret);
    cluster_unlock(c);
    return rc;
}

void limpet_cluster_destroy(struct limpet_cluster *c)
{
    if (c == NULL)
        return;
    cluster_lock(c);
    assert(!loop_on_driver(c) && TAILQ_EMPTY(&c->blocked));
    unmake_world(c, c->client);
    cluster_unlock(c);
    config_destroy(c->config);
    loop_fini(c);
    free(c);
}

/* ---- What the cluster is ---- */

int limpet_cluster_fsid(struct limpet_cluster *c, char text[37])
{
    cluster_lock(c);
    int rc = -ENOTCONN;
    if (c->client != NULL) {
        uuid_format(&client_map(c->client)->fsid, text);
        rc = 0;
    }
    cluster_unlock(c);
    return rc;
}

uint64_t limpet_cluster_instance(struct limpet_cluster *c)
{
    cluster_lock(c);
    uint64_t instance = c->client != NULL ? c->env->instance : 0;
    cluster_unlock(c);
    return instance;
}

uint64_t limpet_cluster_epoch(struct limpet_cluster *c)
{
    cluster_lock(c);
    uint64_t epoch = c->client != NULL ? client_map(c->client)->epoch : 0;
    cluster_unlock(c);
    return epoch;
}

/* ---- Commands ---- */

struct command_call {
    struct client_command command;
    struct limpet_cluster *cluster;
    struct waiter waiter;
};

static void command_done(struct client_command *command)
{
    struct command_call *call = container_of(command, struct command_call, command);
    loop_done(call->cluster, &call->waiter);
}

static int take_output(const struct buf_slice *slice, char **output, size_t *len)
{
    *output = malloc(slice->len + 1);
    if (*output == NULL)
        return -ENOMEM;
    if (slice->len > 0)
        memcpy(*output, slice->data, slice->len);
    (*output)[slice->len] = 0;
    if (len != NULL)
        *len = slice->len;
    return 0;
}

/* The lock is held. */
static int run_command(struct limpet_cluster *c, const char *json, const void *input,
                       size_t input_len, uint32_t timeout_ms, char **output, size_t *output_len,
                       char **status)
{
    struct command_call call = {.cluster = c};
    call.command.json = json;
    call.command.timeout_ns = timeout_ms > 0 ? timeout_ms * MSEC_NS : c->command_timeout_ns;
    call.command.done = command_done;
    if (input_len > MESSAGE_PAYLOAD_MAX)
        return cluster_fail(c, -E2BIG, "the input of a command may have %d bytes at most",
                            MESSAGE_PAYLOAD_MAX);
    if (input_len > 0 && buf_slice_copy(input, input_len, &call.command.input) != 0)
        return cluster_fail(c, -ENOMEM, "%s", error_text(-ENOMEM));
    client_command(c->client, &call.command);
    loop_wait(c, &call.waiter);
    int rc = call.command.result;
    if (rc != 0)
        rc = cluster_fail(
            c, rc, "%s",
            call.command.status != NULL ? call.command.status
            : rc == -ETIMEDOUT
                ? "the monitors did not answer in time: perhaps too few of them run to agree"
                : error_text(rc));
    if (output != NULL && (rc == 0 || call.command.output.len > 0)) {
        int failed = take_output(&call.command.output, output, output_len);
        rc = rc == 0 ? failed : rc;
    }
    if (status != NULL) {
        *status = call.command.status;
        call.command.status = NULL;
    }
    client_command_fini(&call.command);
    return rc;
}

int limpet_command(struct limpet_cluster *c, const char *json, const void *input, size_t input_len,
                   uint32_t timeout_ms, char **output, size_t *output_len, char **status)
{
    if (output != NULL)
        *output = NULL;
    if (output_len != NULL)
        *output_len = 0;
    if (status != NULL)
        *status = NULL;
    cluster_lock(c);
    int rc;
    if (c->client == NULL)
        rc = cluster_fail(c, -ENOTCONN, "not connected");
    else
        rc = run_command(c, json, input, input_len, timeout_ms, output, output_len, status);
    cluster_unlock(c);
    return rc;
}

int cluster_latest_map(struct limpet_cluster *c)
{
    /* The leader answers all commands, and they are done when our map is as new as its. */
    return run_command(c, "{\"prefix\": \"fsid\"}", NULL, 0, 0, NULL, NULL, NULL);
}

static uint64_t number_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? (uint64_t)json_number_value(value) : 0;
}

static json_t *run_df(struct limpet_cluster *c, int *error)
{
    char *output = NULL;
    size_t len = 0;
    *error = limpet_command(c, "{\"prefix\": \"df\", \"detail\": \"detail\", \"format\": \"json\"}",
                            NULL, 0, 0, &output, &len, NULL);
    json_t *root = *error == 0 ? json_loadb(output, len, 0, NULL) : NULL;
    free(output);
    if (*error == 0 && root == NULL)
        *error = -EPROTO;
    return root;
}

int limpet_cluster_stat(struct limpet_cluster *c, struct limpet_cluster_stat *out)
{
    int rc;
    json_t *root = run_df(c, &rc);
    if (root == NULL)
        return rc;
    const json_t *stats = json_object_get(root, "stats");
    *out = (struct limpet_cluster_stat){
        .bytes_total = number_of(stats, "total_bytes"),
        .bytes_used = number_of(stats, "total_used_bytes"),
        .bytes_available = number_of(stats, "total_avail_bytes"),
    };
    size_t i;
    const json_t *pool;
    json_array_foreach(json_object_get(root, "pools"), i, pool)
    {
        out->objects += number_of(json_object_get(pool, "stats"), "objects");
    }
    json_decref(root);
    return 0;
}

int limpet_pool_stat(struct limpet_pool *handle, struct limpet_pool_stat *out)
{
    int rc;
    json_t *root = run_df(handle->cluster, &rc);
    if (root == NULL)
        return rc;
    rc = -ENOENT;
    size_t i;
    const json_t *pool;
    json_array_foreach(json_object_get(root, "pools"), i, pool)
    {
        if (number_of(pool, "id") != handle->id)
            continue;
        const json_t *stats = json_object_get(pool, "stats");
        *out = (struct limpet_pool_stat){
            .objects = number_of(stats, "objects"),
            .bytes = number_of(stats, "stored"),
            .bytes_used = number_of(stats, "bytes_used"),
            .bytes_available = number_of(stats, "max_avail"),
            .clones = number_of(stats, "clones"),
            .copies = number_of(stats, "copies"),
            .degraded = number_of(stats, "degraded"),
            .reads = number_of(stats, "rd"),
            .bytes_read = number_of(stats, "rd_bytes"),
            .writes = number_of(stats, "wr"),
            .bytes_written = number_of(stats, "wr_bytes"),
        };
        rc = 0;
    }
    json_decref(root);
    return rc;
}

/* ---- Polling ---- */

int limpet_cluster_poll(struct limpet_cluster *c, struct pollfd *fds, unsigned n, int timeout_ms)
{
    if (n > LIMPET_POLL_MAX)
        return -EINVAL;
    if (loop_calls_back(c))
        return -EDEADLK;
    cluster_lock(c);
    int rc = c->client != NULL ? loop_serve(c, fds, n, timeout_ms) : -ENOTCONN;
    cluster_unlock(c);
    return rc;
}

void limpet_cluster_poll_end(struct limpet_cluster *c)
{
    cluster_lock(c);
    if (c->client != NULL)
        loop_serve_end(c);
    cluster_unlock(c);
}

/* ---- Its own address ---- */

int limpet_cluster_address(struct limpet_cluster *c, char text[80])
{
    struct net_address mon, own;
    char host[NET_ADDRESS_TEXT_MAX];
    cluster_lock(c);
    bool connected = c->client != NULL && client_map(c->client)->n_mons > 0;
    if (connected)
        mon = client_map(c->client)->mons[0].address;
    uint64_t instance = connected ? c->env->instance : 0;
    cluster_unlock(c);
    if (!connected)
        return -ENOTCONN;
    int rc = messenger_local_address(&mon, &own);
    if (rc != 0)
        return rc;
    own.port = 0;
    snprintf(text, 80, "%s/%" PRIu64, net_address_format(&own, host), instance);
    return 0;
}
