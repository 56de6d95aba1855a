#include "mon/command.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/log.h"
#include "common/version.h"

static const struct command *const tables[] = {
    commands_status,       commands_health,  commands_basic, commands_mon,   commands_dump,
    commands_tree,         commands_osd,     commands_pool,  commands_pg,    commands_auth,
    commands_health_codes, commands_crush,   commands_plan,  commands_snaps, commands_block,
    commands_apps,         commands_versions};

/* ---- Output ---- */

void call_print(struct command_call *call, const char *format, ...)
{
    char line[1024];
    va_list args;

    va_start(args, format);
    int len = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (len > 0)
        encode_bytes(&call->request->output, line,
                     (size_t)len < sizeof line ? (size_t)len : sizeof line - 1);
}

static int dump_part(const char *text, size_t len, void *data)
{
    encode_bytes(data, text, len);
    return 0;
}

int call_json(struct command_call *call, json_t *value)
{
    size_t flags = call->pretty ? JSON_INDENT(4) : JSON_COMPACT;

    if (value == NULL)
        return -ENOMEM;
    int rc = json_dump_callback(value, dump_part, &call->request->output, flags | JSON_ENCODE_ANY);
    json_decref(value);
    encode_u8(&call->request->output, '\n');
    return rc == 0 ? 0 : -ENOMEM;
}

int call_say(struct command_call *call, int error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(call->request->status, sizeof call->request->status, format, args);
    va_end(args);
    return error;
}

const char *format_bytes(double bytes, char text[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    unsigned unit = 0;

    while (bytes >= 1024 && unit < 6) {
        bytes /= 1024;
        unit++;
    }
    snprintf(text, 32, bytes < 10 && unit > 0 ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
    return text;
}

const char *format_age(uint64_t ns, char text[16])
{
    uint64_t s = ns / SEC_NS;

    if (s < 120)
        snprintf(text, 16, "%" PRIu64 "s", s);
    else if (s < 7200)
        snprintf(text, 16, "%" PRIu64 "m", s / 60);
    else if (s < 172800)
        snprintf(text, 16, "%" PRIu64 "h", s / 3600);
    else
        snprintf(text, 16, "%" PRIu64 "d", s / 86400);
    return text;
}

const char *format_stamp(uint64_t ns, char text[STAMP_TEXT_MAX])
{
    time_t seconds = (time_t)(ns / SEC_NS);
    struct tm tm;
    char day[32];

    gmtime_r(&seconds, &tm);
    strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text, STAMP_TEXT_MAX, "%s.%06u+0000", day, (unsigned)(ns % SEC_NS / 1000));
    return text;
}

uint64_t call_wall(const struct command_call *call, uint64_t ns)
{
    struct env *env = call->mon->env;

    return env_wall(env) - (env_now(env) - ns);
}

json_t *addresses_json(const struct net_address *address, uint64_t instance)
{
    char text[NET_ADDRESS_TEXT_MAX];

    return json_pack("{s:[{s:s, s:s, s:I}]}", "addrvec", "type", "any", "addr",
                     net_address_format(address, text), "nonce", (json_int_t)instance);
}

/* ---- Arguments ---- */

const char *call_text(const struct command_call *call, const char *name)
{
    return json_string_value(json_object_get(call->args, name));
}

const char *call_need(struct command_call *call, const char *name)
{
    const char *text = call_text(call, name);

    if (text == NULL)
        call_say(call, -EINVAL, "argument \"%s\" is missing: see limpet help", name);
    return text;
}

int call_number(struct command_call *call, const char *name, uint64_t *out)
{
    const json_t *value = json_object_get(call->args, name);
    const char *text = json_string_value(value);
    char *end;

    if (value == NULL || json_is_null(value))
        return -ENOENT;
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        *out = (uint64_t)json_integer_value(value);
        return 0;
    }
    if (text != NULL && text[0] >= '0' && text[0] <= '9') {
        errno = 0;
        *out = strtoull(text, &end, 10);
        if (errno == 0 && *end == '\0')
            return 0;
    }
    return call_say(call, -EINVAL, "argument \"%s\" must be a whole number", name);
}

bool call_flag(const struct command_call *call, const char *name)
{
    const json_t *value = json_object_get(call->args, name);
    const char *text = json_string_value(value);

    return json_is_true(value) || (text != NULL && text[0] != '\0' && strcmp(text, "false") != 0);
}

int call_osd_id(struct command_call *call, const char *text, int32_t *out)
{
    const char *digits = strncmp(text, "osd.", 4) == 0 ? text + 4 : text;
    char *end;

    errno = 0;
    long id = strtol(digits, &end, 10);
    if (errno != 0 || end == digits || *end != '\0' || id < 0 || id >= MAP_OSDS_MAX)
        return call_say(call, -EINVAL, "\"%.64s\" is no OSD: give a number, or osd.NUMBER", text);
    *out = (int32_t)id;
    return 0;
}

const struct map_pool *call_pool(struct command_call *call, const char *name, int *error)
{
    const char *text = call_need(call, name);

    *error = -EINVAL;
    if (text == NULL)
        return NULL;
    const struct map_pool *pool = map_pool_by_name(call->map, text);
    if (pool == NULL)
        *error = call_say(call, -ENOENT, "unrecognized pool '%.128s': see limpet pool ls", text);
    return pool;
}

/* ---- Dispatch ---- */

static const struct command *command_find(const char *prefix)
{
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++) {
        for (const struct command *c = tables[t]; c->prefix != NULL; c++) {
            if (strcmp(c->prefix, prefix) == 0)
                return c;
        }
    }
    return NULL;
}

static int call_fill(struct leader *leader, struct request *request, struct command_call *call)
{
    *call = (struct command_call){
        .leader = leader, .mon = leader->mon, .request = request, .args = request->args};
    call->map = leader->mon->state.map;
    const char *format = call_text(call, "format");
    if (format == NULL || strcmp(format, "plain") == 0 || format[0] == '\0')
        return 0;
    call->json = true;
    call->pretty = strcmp(format, "json-pretty") == 0;
    if (!call->pretty && strcmp(format, "json") != 0)
        return call_say(call, -EINVAL, "unknown format '%.32s': json, json-pretty or plain",
                        format);
    return 0;
}

static int command_parse(struct leader *leader, struct request *request)
{
    struct command_call call = {.leader = leader, .request = request};
    Limpet__Wire__MonCommand *wire = (Limpet__Wire__MonCommand *)message_unpack(
        request->message, &limpet__wire__mon_command__descriptor);

    if (wire == NULL)
        return call_say(&call, -EBADMSG, "the command cannot be read");
    request->tid = wire->tid;
    request->oldest = wire->oldest;
    size_t len = strlen(wire->json);
    if (len <= MON_COMMAND_JSON_MAX)
        request->args = json_loadb(wire->json, len, JSON_REJECT_DUPLICATES, NULL);
    limpet__wire__mon_command__free_unpacked(wire, NULL);
    const char *prefix = json_string_value(json_object_get(request->args, "prefix"));
    if (prefix == NULL)
        return call_say(&call, -EINVAL, "the command is no JSON object with a \"prefix\"");
    request->command = command_find(prefix);
    if (request->command == NULL)
        return call_say(&call, -EINVAL, "unknown command '%.128s': see limpet help", prefix);
    /* The profile of OSDs allows them all that OSDs do; commands that change things are not. */
    bool osd = request->sender.type == ENTITY_OSD && request->command->caps != CAP_READ;
    if (osd || !caps_allow(&request->caps, request->command->caps, NULL)) {
        char name[ENTITY_TEXT_MAX];
        return call_say(&call, -EACCES, "%s may not do '%s': its mon capabilities do not allow it",
                        entity_format(&request->sender, name), prefix);
    }
    return 0;
}

bool command_begin(struct leader *leader, struct request *request)
{
    struct command_call call;

    request->result = command_parse(leader, request);
    if (request->result == 0)
        request->result = call_fill(leader, request, &call);
    if (request->result != 0)
        return false;
    bool dry = call_flag(&call, "dry_run");
    if (dry && request->command->change != COMMAND_MOVES)
        request->result = call_say(&call, -EINVAL, "'%.64s' moves no data: no --dry-run",
                                   request->command->prefix);
    else if (dry)
        request->result = command_dry_run(&call);
    else if (request->command->change != COMMAND_READS)
        return true;
    else
        request->result = request->command->run(&call);
    return false;
}

int command_stage(struct leader *leader, struct batch *batch, struct request *request)
{
    struct command_call call;

    int rc = call_fill(leader, request, &call);
    assert(rc == 0); /* command_begin() has done the same. */
    call.batch = batch;
    call.map = change_map(batch->change);
    rc = request->command->change == COMMAND_MOVES ? command_check_room(&call) : 0;
    if (rc == 0)
        rc = request->command->run(&call);
    if (rc == -EINPROGRESS)
        return rc;
    if (rc == 0 && (!change_empty(batch->change) || !mon_entry_empty(&batch->entry))) {
        char name[ENTITY_TEXT_MAX];
        log_info(leader->mon->env, "command", "from=%s prefix=\"%s\" status=\"%s\"",
                 entity_format(&request->sender, name), request->command->prefix, request->status);
    }
    return rc;
}

static int run_help(struct command_call *call)
{
    json_t *list = json_array();

    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++) {
        for (const struct command *c = tables[t]; c->prefix != NULL; c++) {
            if (call->json)
                json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "prefix", c->prefix,
                                                      "arguments", c->arguments, "help", c->help));
            else
                call_print(call, "%-24s %-44s %s\n", c->prefix, c->arguments, c->help);
        }
    }
    if (call->json)
        return call_json(call, list);
    json_decref(list);
    return 0;
}

static int run_version(struct command_call *call)
{
    char text[64];

    snprintf(text, sizeof text, "limpet version %s", limpet_version_text());
    if (call->json)
        return call_json(call, json_pack("{s:s}", "version", text));
    call_print(call, "%s\n", text);
    return 0;
}

static int run_fsid(struct command_call *call)
{
    char text[UUID_TEXT_MAX];

    uuid_format(&call->mon->identity.fsid, text);
    if (call->json)
        return call_json(call, json_pack("{s:s}", "fsid", text));
    call_print(call, "%s\n", text);
    return 0;
}

const struct command commands_basic[] = {
    {"help", CAP_READ, false, run_help, "", "list the commands of the monitors"},
    {"version", CAP_READ, false, run_version, "", "version of the leading monitor"},
    {"fsid", CAP_READ, false, run_fsid, "", "the cluster's UUID"},
    {0},
};
