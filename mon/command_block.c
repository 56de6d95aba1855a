/* Commands about clients that are blocked. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "mon/command.h"

enum { BLOCK_SECONDS = 3600, BLOCK_SECONDS_MAX = 20 * 365 * 86400 };

/*
 * "10.0.0.1:0/4711", "[::1]:0/4711": the process with this instance; "10.0.0.1", "10.0.0.1:0/0":
 * all at this address.
 */
static int parse_address(const char *text, struct map_blocked *out)
{
    char host[NET_ADDRESS_TEXT_MAX + 8];
    const char *slash = strchr(text, '/');
    size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
    char *end = NULL;

    memset(out, 0, sizeof *out);
    if (len >= sizeof host - 8)
        return -EINVAL;
    memcpy(host, text, len);
    host[len] = 0;
    if (slash != NULL) {
        errno = 0;
        out->instance = strtoull(slash + 1, &end, 10);
        if (errno != 0 || end == slash + 1 || *end != 0)
            return -EINVAL;
    }
    const char *colon = strrchr(host, ':');
    const char *bracket = strrchr(host, ']');
    if (colon == NULL || (bracket != NULL && colon < bracket))
        snprintf(host + len, sizeof host - len, ":0");
    int rc = net_address_parse(host, &out->address);
    out->address.port = 0;
    return rc;
}

const char *format_blocked(const struct map_blocked *blocked, char text[BLOCKED_TEXT_MAX])
{
    char host[NET_ADDRESS_TEXT_MAX];

    snprintf(text, BLOCKED_TEXT_MAX, "%s/%" PRIu64, net_address_format(&blocked->address, host),
             blocked->instance);
    return text;
}

static int take_address(struct command_call *call, struct map_blocked *out)
{
    const char *text = call_need(call, "addr");

    if (text == NULL)
        return -EINVAL;
    int rc = parse_address(text, out);
    if (rc != 0)
        return call_say(call, -EINVAL,
                        "\"%.64s\" is no address of a client: give IP:0/INSTANCE, as limpet rados "
                        "listwatchers prints it, or an IP for all clients there",
                        text);
    return 0;
}

/* Seconds; a number or text, with a fraction. */
static int take_expire(struct command_call *call, double *out)
{
    const json_t *value = json_object_get(call->args, "expire");
    const char *text = json_string_value(value);
    char *end;

    *out = BLOCK_SECONDS;
    if (json_is_number(value)) {
        *out = json_number_value(value);
    } else if (text != NULL) {
        *out = strtod(text, &end);
        if (end == text || *end != 0)
            *out = -1;
    }
    if (*out == 0)
        *out = BLOCK_SECONDS;
    if (!(*out > 0 && *out <= BLOCK_SECONDS_MAX))
        return call_say(call, -EINVAL, "argument \"expire\" must be a number of seconds");
    return 0;
}

static int run_add(struct command_call *call)
{
    struct map_blocked blocked;
    double seconds;
    char address[BLOCKED_TEXT_MAX], until[STAMP_TEXT_MAX];

    int rc = take_address(call, &blocked);
    if (rc == 0)
        rc = take_expire(call, &seconds);
    if (rc != 0)
        return rc;
    uint64_t wanted_ns = env_wall(call->mon->env) + (uint64_t)(seconds * (double)SEC_NS);
    blocked.until_ns = wanted_ns;
    rc = machine_block(call->batch->change, &blocked);
    if (rc == -ENOSPC)
        return call_say(call, rc, "%u clients are blocked, and there may be no more: take some out",
                        MAP_BLOCKED_MAX);
    if (rc != 0)
        return rc;
    const struct cluster_map *map = change_map(call->batch->change);
    for (uint32_t i = 0; i < map->n_blocked; i++)
        if (map_blocked_compare(&map->blocked[i], &blocked) == 0)
            blocked.until_ns = map->blocked[i].until_ns;
    format_blocked(&blocked, address);
    format_stamp(blocked.until_ns, until);
    if (blocked.until_ns > wanted_ns)
        return call_say(call, 0,
                        "%s is blocklisted until %s already: osd blocklist rm would end that",
                        address, until);
    return call_say(call, 0, "blocklisting %s until %s (%g sec)", address, until, seconds);
}

static int run_rm(struct command_call *call)
{
    struct map_blocked blocked;
    char address[BLOCKED_TEXT_MAX];

    int rc = take_address(call, &blocked);
    if (rc != 0)
        return rc;
    rc = machine_unblock(call->batch->change, &blocked);
    if (rc == -ENOENT)
        return call_say(call, 0, "%s isn't blocklisted", format_blocked(&blocked, address));
    return rc != 0 ? rc
                   : call_say(call, 0, "un-blocklisting %s", format_blocked(&blocked, address));
}

static int run_ls(struct command_call *call)
{
    json_t *list = json_array();
    char address[BLOCKED_TEXT_MAX], until[STAMP_TEXT_MAX];

    for (uint32_t i = 0; i < call->map->n_blocked; i++) {
        const struct map_blocked *blocked = &call->map->blocked[i];
        format_blocked(blocked, address);
        format_stamp(blocked->until_ns, until);
        json_array_append_new(list, json_pack("{s:s, s:s}", "addr", address, "until", until));
        if (!call->json)
            call_print(call, "%s %s\n", address, until);
    }
    call_say(call, 0, "listed %u entries", call->map->n_blocked);
    if (call->json)
        return call_json(call, list);
    json_decref(list);
    return 0;
}

const struct command commands_block[] = {
    {"osd blocklist add", CAP_READ | CAP_WRITE, COMMAND_CHANGES, run_add, "addr [expire]",
     "have OSDs refuse all requests of a client; a longer time stays"},
    {"osd blocklist rm", CAP_READ | CAP_WRITE, COMMAND_CHANGES, run_rm, "addr",
     "let a client work again"},
    {"osd blocklist ls", CAP_READ, COMMAND_READS, run_ls, "", "clients that are blocked"},
    {0},
};
