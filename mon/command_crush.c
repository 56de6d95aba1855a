/* Commands about the CRUSH hierarchy and its rules. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "mon/command.h"

/* ---- Arguments ---- */

/* A weight in TiB, as 16.16. */
static int need_weight(struct command_call *call, uint32_t *out)
{
    const json_t *value = json_object_get(call->args, "weight");
    const char *text = json_string_value(value);
    double weight = json_is_number(value) ? json_number_value(value) : -1;

    if (text != NULL) {
        char *end;
        weight = strtod(text, &end);
        if (*end != '\0' || end == text)
            weight = -1;
    }
    if (!(weight >= 0 && weight < UINT16_MAX))
        return call_say(call, -EINVAL,
                        "argument \"weight\" must be a number from 0 to 65534 (TiB)");
    *out = (uint32_t)lround(weight * MAP_WEIGHT_ONE);
    return 0;
}

/* "osd.3", "3" or the name of a bucket. */
static int find_item(struct command_call *call, const struct crush_map *crush, const char *text,
                     int32_t *out)
{
    const struct crush_bucket *bucket = crush_bucket_by_name(crush, text);

    if (bucket != NULL) {
        *out = bucket->id;
        return 0;
    }
    if (strncmp(text, "osd.", 4) != 0 && (text[0] < '0' || text[0] > '9'))
        return call_say(call, -ENOENT,
                        "'%.64s' is neither an OSD nor a bucket: see limpet osd tree", text);
    return call_osd_id(call, text, out);
}

/* The bucket of the last TYPE=NAME of argument "args" that exists; the others must lie above it. */
static int find_location(struct command_call *call, const struct crush_map *crush,
                         const struct crush_bucket **out)
{
    const json_t *list = json_object_get(call->args, "args");
    uint16_t lowest = UINT16_MAX;

    *out = NULL;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *text = json_string_value(json_array_get(list, i));
        const char *equals = text != NULL ? strchr(text, '=') : NULL;
        const struct crush_bucket *bucket =
            equals != NULL ? crush_bucket_by_name(crush, equals + 1) : NULL;
        if (bucket == NULL)
            return call_say(call, equals != NULL ? -ENOENT : -EINVAL,
                            "'%.64s' is no place: give TYPE=NAME of a bucket that exists, as in "
                            "host=h1; limpet osd crush add-bucket makes one",
                            text != NULL ? text : "");
        const char *type = crush_type_name(crush, bucket->type);
        size_t len = (size_t)(equals - text);
        if (type == NULL || strlen(type) != len || strncmp(type, text, len) != 0)
            return call_say(call, -EINVAL, "'%.64s' is a bucket of type %.32s", bucket->name,
                            type != NULL ? type : "?");
        if (bucket->type < lowest) {
            lowest = bucket->type;
            *out = bucket;
        }
    }
    return 0;
}

/* ---- Changing ---- */

static int say_crush_error(struct command_call *call, int error, const char *what)
{
    switch (error) {
    case -EEXIST:
        return call_say(call, error, "'%.64s' exists there already", what);
    case -ELOOP:
        return call_say(call, error, "'%.64s' would lie below itself, or too deep", what);
    case -ERANGE:
        return call_say(call, error, "'%.64s' would make a bucket too heavy or too large", what);
    case -ENOTEMPTY:
        return call_say(call, error, "'%.64s' is not empty: move what it holds away first", what);
    case -EBUSY:
        return call_say(call, error, "a rule takes '%.64s': limpet osd crush rule dump", what);
    default:
        return error;
    }
}

/* Makes the changed hierarchy part of the change, or drops it after an error. */
static int finish(struct command_call *call, struct crush_map *crush, int rc, const char *what)
{
    if (rc == 0)
        rc = machine_crush(call->batch->change, crush);
    else
        rc = say_crush_error(call, rc, what);
    crush_destroy(crush);
    return rc;
}

static int run_reweight(struct command_call *call)
{
    const char *name = call_need(call, "name");
    uint32_t weight = 0;
    int32_t item = 0;

    if (name == NULL)
        return -EINVAL;
    int rc = find_item(call, call->map->crush, name, &item);
    if (rc == 0)
        rc = need_weight(call, &weight);
    if (rc != 0)
        return rc;
    if (item < 0)
        return call_say(call, -EINVAL, "the weight of '%.64s' is the sum of what it holds", name);
    struct crush_map *crush = crush_clone(call->map->crush);
    if (crush == NULL)
        return -ENOMEM;
    rc = crush_reweight(crush, item, weight);
    if (rc == -ENOENT)
        rc = call_say(call, rc, "osd.%d is not in the hierarchy: limpet osd crush add", item);
    rc = finish(call, crush, rc, name);
    return rc == 0 ? call_say(call, 0, "reweighted item id %d name '%.64s' to %g in crush map",
                              item, name, (double)weight / MAP_WEIGHT_ONE)
                   : rc;
}

/* The weight that an item has where it is; 0: nowhere. */
static uint32_t weight_of(const struct crush_map *crush, int32_t item)
{
    const struct crush_bucket *parent = crush_parent(crush, item);

    for (uint32_t i = 0; parent != NULL && i < parent->n_items; i++) {
        if (parent->items[i] == item)
            return parent->weights[i];
    }
    return 0;
}

static int place(struct command_call *call, int32_t item, uint32_t weight, const char *name)
{
    struct crush_map *crush = crush_clone(call->map->crush);
    const struct crush_bucket *to = NULL;

    if (crush == NULL)
        return -ENOMEM;
    int rc = find_location(call, crush, &to);
    if (rc != 0 || to == NULL) {
        crush_destroy(crush);
        return rc != 0 ? rc : call_say(call, -EINVAL, "where to? Give TYPE=NAME, as in host=h1");
    }
    int32_t to_id = to->id;
    if (crush_parent(crush, item) != NULL)
        rc = crush_detach(crush, item);
    if (rc == 0)
        rc = crush_insert(crush, to_id, item, weight);
    rc = finish(call, crush, rc, name);
    return rc == 0 ? call_say(call, 0, "'%.64s' is in '%.64s' with weight %g", name,
                              crush_bucket(call->map->crush, to_id) != NULL
                                  ? crush_bucket(call->map->crush, to_id)->name
                                  : "?",
                              (double)weight / MAP_WEIGHT_ONE)
                   : rc;
}

static int run_set(struct command_call *call)
{
    const char *name = call_need(call, "id");
    uint32_t weight = 0;
    int32_t id = 0;

    if (name == NULL)
        return -EINVAL;
    int rc = call_osd_id(call, name, &id);
    if (rc == 0)
        rc = need_weight(call, &weight);
    if (rc != 0)
        return rc;
    if (map_osd(call->map, id) == NULL)
        return call_say(call, -ENOENT, "osd.%d does not exist: see limpet osd tree", id);
    return place(call, id, weight, name);
}

static int run_move(struct command_call *call)
{
    const char *name = call_need(call, "name");
    int32_t item = 0;

    if (name == NULL)
        return -EINVAL;
    int rc = find_item(call, call->map->crush, name, &item);
    if (rc != 0)
        return rc;
    const struct crush_bucket *own = crush_bucket(call->map->crush, item);
    if (own == NULL && crush_parent(call->map->crush, item) == NULL)
        return call_say(call, -ENOENT, "osd.%d is not in the hierarchy: limpet osd crush add",
                        item);
    return place(call, item, own != NULL ? own->weight : weight_of(call->map->crush, item), name);
}

static int run_add_bucket(struct command_call *call)
{
    const char *name = call_need(call, "name");
    const char *type = name != NULL ? call_need(call, "type") : NULL;
    const struct crush_bucket *to = NULL;
    int32_t id = 0;

    if (type == NULL)
        return -EINVAL;
    const struct crush_bucket *known = crush_bucket_by_name(call->map->crush, name);
    int type_id = crush_type_by_name(call->map->crush, type);
    if (type_id <= 0)
        return call_say(call, -EINVAL, "'%.32s' is no type of bucket: host, chassis, rack, row ...",
                        type);
    if (known != NULL && known->type == type_id)
        return call_say(call, 0, "bucket '%.64s' already exists", name);
    struct crush_map *crush = crush_clone(call->map->crush);
    if (crush == NULL)
        return -ENOMEM;
    int rc = find_location(call, crush, &to);
    int32_t to_id = to != NULL ? to->id : 0;
    if (rc != 0) {
        crush_destroy(crush);
        return rc;
    }
    rc = crush_add_bucket(crush, (uint16_t)type_id, name, &id);
    if (rc == -EINVAL)
        call_say(call, rc, "'%.64s' cannot be the name of a bucket", name);
    if (rc == 0 && to_id != 0)
        rc = crush_insert(crush, to_id, id, 0);
    rc = finish(call, crush, rc, name);
    return rc == 0 ? call_say(call, 0, "added bucket '%.64s' of type %.32s", name, type) : rc;
}

static int run_remove(struct command_call *call)
{
    const char *name = call_need(call, "name");
    int32_t item = 0;

    if (name == NULL)
        return -EINVAL;
    int rc = find_item(call, call->map->crush, name, &item);
    if (rc == -ENOENT)
        return call_say(call, 0, "'%.64s' is not in the hierarchy", name);
    if (rc != 0)
        return rc;
    struct crush_map *crush = crush_clone(call->map->crush);
    if (crush == NULL)
        return -ENOMEM;
    rc = crush_remove(crush, item);
    if (rc == -ENOENT) {
        crush_destroy(crush);
        return call_say(call, 0, "'%.64s' is not in the hierarchy", name);
    }
    rc = finish(call, crush, rc, name);
    return rc == 0 ? call_say(call, 0, "removed item id %d name '%.64s' from crush map", item, name)
                   : rc;
}

/* ---- Rules ---- */

static int run_rule_ls(struct command_call *call)
{
    json_t *list = json_array();

    for (uint32_t i = 0; i < call->map->crush->n_rules; i++) {
        json_array_append_new(list, json_string(call->map->crush->rules[i].name));
        if (!call->json)
            call_print(call, "%s\n", call->map->crush->rules[i].name);
    }
    if (call->json)
        return call_json(call, list);
    json_decref(list);
    return 0;
}

static const struct crush_rule *find_rule(const struct crush_map *crush, const char *name)
{
    for (uint32_t i = 0; i < crush->n_rules; i++) {
        if (strcmp(crush->rules[i].name, name) == 0)
            return &crush->rules[i];
    }
    return NULL;
}

/* What a step does, in the words of a CRUSH map as text. */
static void step_text(const struct crush_map *crush, const struct crush_step *step, char text[128])
{
    static const struct {
        uint32_t op;
        const char *name;
    } chooses[] = {{CRUSH_CHOOSE_FIRSTN, "choose firstn"},
                   {CRUSH_CHOOSE_INDEP, "choose indep"},
                   {CRUSH_CHOOSELEAF_FIRSTN, "chooseleaf firstn"},
                   {CRUSH_CHOOSELEAF_INDEP, "chooseleaf indep"}};
    const struct crush_bucket *bucket = crush_bucket(crush, step->arg1);
    const char *type = crush_type_name(crush, (uint16_t)step->arg2);

    snprintf(text, 128, "set %u to %d", step->op, step->arg1);
    if (step->op == CRUSH_TAKE)
        snprintf(text, 128, "take %s", bucket != NULL ? bucket->name : "?");
    if (step->op == CRUSH_EMIT)
        snprintf(text, 128, "emit");
    for (size_t i = 0; i < sizeof chooses / sizeof chooses[0]; i++) {
        if (step->op == chooses[i].op)
            snprintf(text, 128, "%s %d type %s", chooses[i].name, step->arg1,
                     type != NULL ? type : "?");
    }
}

static int run_rule_dump(struct command_call *call)
{
    const struct crush_map *crush = call->map->crush;
    const char *name = call_text(call, "name");
    json_t *list = json_array();

    for (uint32_t i = 0; i < crush->n_rules; i++) {
        const struct crush_rule *rule = &crush->rules[i];
        json_t *steps = json_array();
        if (name == NULL || strcmp(rule->name, name) == 0) {
            if (!call->json)
                call_print(call, "rule %u '%s'\n", rule->id, rule->name);
            for (uint32_t k = 0; k < rule->n_steps; k++) {
                char text[128];
                step_text(crush, &rule->steps[k], text);
                json_array_append_new(steps, json_string(text));
                if (!call->json)
                    call_print(call, "    %s\n", text);
            }
            json_array_append_new(list, json_pack("{s:I, s:s, s:i, s:O}", "rule_id",
                                                  (json_int_t)rule->id, "rule_name", rule->name,
                                                  "type", (int)rule->type, "steps", steps));
        }
        json_decref(steps);
    }
    int rc = 0;
    if (name != NULL && json_array_size(list) == 0)
        rc =
            call_say(call, -ENOENT, "there is no rule '%.64s': see limpet osd crush rule ls", name);
    else if (call->json)
        return call_json(call, list);
    json_decref(list);
    return rc;
}

static int run_rule_create(struct command_call *call)
{
    const char *name = call_need(call, "name");
    const char *root = name != NULL ? call_need(call, "root") : NULL;
    const char *type = root != NULL ? call_need(call, "type") : NULL;
    uint32_t id;

    if (type == NULL)
        return -EINVAL;
    if (call_text(call, "class") != NULL)
        return call_say(
            call, -EOPNOTSUPP,
            "rules by device class do not exist yet: put such OSDs under a root of their "
            "own (limpet osd crush add-bucket, move) and name that");
    if (find_rule(call->map->crush, name) != NULL)
        return call_say(call, 0, "rule %.64s already exists", name);
    struct crush_map *crush = crush_clone(call->map->crush);
    if (crush == NULL)
        return -ENOMEM;
    int rc = crush_add_simple_rule(crush, name, root, type, false, &id);
    if (rc == -ENOENT)
        call_say(call, rc, "there is no bucket '%.64s', or no type '%.32s': see limpet osd tree",
                 root, type);
    else if (rc == -EINVAL)
        call_say(call, rc, "'%.64s' cannot be the name of a rule", name);
    rc = finish(call, crush, rc, name);
    return rc == 0 ? call_say(call, 0, "created rule '%.64s'", name) : rc;
}

static int run_rule_remove(struct command_call *call)
{
    const char *name = call_need(call, "name");

    if (name == NULL)
        return -EINVAL;
    const struct crush_rule *rule = find_rule(call->map->crush, name);
    if (rule == NULL)
        return call_say(call, 0, "rule %.64s does not exist", name);
    for (uint32_t i = 0; i < call->map->n_pools; i++) {
        if (call->map->pools[i].crush_rule == rule->id)
            return call_say(call, -EBUSY, "pool '%.64s' uses rule '%.64s'",
                            call->map->pools[i].name, name);
    }
    struct crush_map *crush = crush_clone(call->map->crush);
    if (crush == NULL)
        return -ENOMEM;
    int rc = finish(call, crush, crush_remove_rule(crush, rule->id), name);
    return rc == 0 ? call_say(call, 0, "removed rule '%.64s'", name) : rc;
}

#define CHANGE (CAP_READ | CAP_WRITE)

const struct command commands_crush[] = {
    {"osd crush rule ls", CAP_READ, COMMAND_READS, run_rule_ls, "", "names of the CRUSH rules"},
    {"osd crush rule dump", CAP_READ, COMMAND_READS, run_rule_dump, "[name]", "steps of the rules"},
    {"osd crush rule create-replicated", CHANGE, COMMAND_CHANGES, run_rule_create, "name root type",
     "make a rule that spreads copies over buckets of a type"},
    {"osd crush rule rm", CHANGE, COMMAND_CHANGES, run_rule_remove, "name", "remove a rule"},
    {"osd crush reweight", CHANGE, COMMAND_MOVES, run_reweight, "name weight",
     "change how much of the data an OSD gets"},
    {"osd crush set", CHANGE, COMMAND_MOVES, run_set, "id weight args",
     "put an OSD somewhere, with a weight"},
    {"osd crush add", CHANGE, COMMAND_MOVES, run_set, "id weight args",
     "the same as osd crush set"},
    {"osd crush move", CHANGE, COMMAND_MOVES, run_move, "name args",
     "put an OSD or bucket elsewhere"},
    {"osd crush add-bucket", CHANGE, COMMAND_CHANGES, run_add_bucket, "name type [args]",
     "make a bucket"},
    {"osd crush rm", CHANGE, COMMAND_MOVES, run_remove, "name",
     "take an OSD or an empty bucket out of the hierarchy"},
    {"osd crush remove", CHANGE, COMMAND_MOVES, run_remove, "name", "the same as osd crush rm"},
    {0},
};
