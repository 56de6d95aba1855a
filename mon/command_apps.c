/* Commands about the applications of pools. */
#include <errno.h>
#include <string.h>

#include "mon/command.h"

static bool is_sure(const struct command_call *call)
{
    return call_flag(call, "yes_i_really_mean_it") || call_flag(call, "force") ||
           call_flag(call, "sure");
}

/* The pool and the application's name; NULL with *error when they are not given. */
static const struct map_pool *take(struct command_call *call, const char **app, int *error)
{
    const struct map_pool *pool = call_pool(call, "pool", error);

    *app = pool != NULL ? call_need(call, "app") : NULL;
    *error = pool != NULL ? -EINVAL : *error;
    return *app != NULL ? pool : NULL;
}

static int say_not_enabled(struct command_call *call, int rc, const char *app, const char *pool)
{
    return call_say(call, rc, "application '%.128s' is not enabled on pool '%.128s'", app, pool);
}

static int say_refused(struct command_call *call, int rc, const char *what)
{
    if (rc == -E2BIG)
        return call_say(call, -EINVAL, "too many: %d applications of a pool, %d keys of each",
                        APPS_MAX, APPS_KEYS_MAX);
    if (rc == -EINVAL)
        return call_say(call, rc, "%s must not be empty, and has at most %d bytes", what,
                        APPS_TEXT_MAX);
    return rc;
}

/* ---- Looking ---- */

static json_t *keys_json(const struct map_apps *apps, const char *app)
{
    json_t *keys = json_object();

    for (uint32_t i = 0; apps != NULL && i < apps->n; i++) {
        const struct app_line *line = &apps->lines[i];
        if (strcmp(line->app, app) == 0 && line->key[0] != '\0')
            json_object_set_new(keys, line->key, json_string(line->value));
    }
    return keys;
}

json_t *command_apps_json(const struct map_apps *apps)
{
    json_t *object = json_object();

    for (uint32_t i = 0; apps != NULL && i < apps->n; i++) {
        if (apps->lines[i].key[0] == '\0')
            json_object_set_new(object, apps->lines[i].app, keys_json(apps, apps->lines[i].app));
    }
    return object;
}

/* Always JSON, as there, but for a value in plain text. */
static int run_get(struct command_call *call)
{
    const char *app = call_text(call, "app"), *key = call_text(call, "key");
    int rc;

    call->pretty = call->pretty || !call->json;
    if (call_text(call, "pool") == NULL) {
        json_t *all = json_object();
        for (uint32_t i = 0; i < call->map->n_pools; i++)
            json_object_set_new(all, call->map->pools[i].name,
                                command_apps_json(call->map->pools[i].apps));
        return call_json(call, all);
    }
    const struct map_pool *pool = call_pool(call, "pool", &rc);
    if (pool == NULL)
        return rc;
    if (app == NULL)
        return call_json(call, command_apps_json(pool->apps));
    if (apps_find(pool->apps, app, "") == NULL)
        return call_say(call, -ENOENT, "pool '%.128s' has no application '%.128s'", pool->name,
                        app);
    if (key == NULL)
        return call_json(call, keys_json(pool->apps, app));
    const struct app_line *line = key[0] != '\0' ? apps_find(pool->apps, app, key) : NULL;
    if (line == NULL)
        return call_say(call, -ENOENT,
                        "application '%.128s' on pool '%.128s' does not have key '%.128s'", app,
                        pool->name, key);
    if (call->json)
        return call_json(call, json_string(line->value));
    call_print(call, "%s\n", line->value);
    return 0;
}

/* ---- Changing ---- */

static int run_enable(struct command_call *call)
{
    const char *app;
    int rc;
    const struct map_pool *pool = take(call, &app, &rc);

    if (pool == NULL)
        return rc;
    const char *name = call_text(call, "pool");
    bool there = apps_find(pool->apps, app, "") != NULL;
    if (!there && apps_count(pool->apps) > 0 && !is_sure(call))
        return call_say(call, -EPERM,
                        "are you sure? Pool '%.128s' already has an enabled application; pass "
                        "--yes-i-really-mean-it to proceed anyway",
                        name);
    rc = there ? 0 : machine_app_set(call->batch->change, pool->id, app, "", "");
    return rc != 0 ? say_refused(call, rc, "the name of an application")
                   : call_say(call, 0, "enabled application '%.128s' on pool '%.128s'", app, name);
}

static int run_disable(struct command_call *call)
{
    const char *app;
    int rc;
    const struct map_pool *pool = take(call, &app, &rc);

    if (pool == NULL)
        return rc;
    const char *name = call_text(call, "pool");
    if (!is_sure(call))
        return call_say(call, -EPERM,
                        "are you sure? Disabling an application within a pool might result in "
                        "loss of application functionality; pass --yes-i-really-mean-it to "
                        "proceed anyway");
    rc = machine_app_remove(call->batch->change, pool->id, app, "");
    if (rc == -ENOENT)
        return say_not_enabled(call, 0, app, name);
    return rc != 0 ? rc
                   : call_say(call, 0, "disable application '%.128s' on pool '%.128s'", app, name);
}

static int run_set(struct command_call *call)
{
    const char *app;
    int rc;
    const struct map_pool *pool = take(call, &app, &rc);
    const char *key = pool != NULL ? call_need(call, "key") : NULL;
    const char *value = key != NULL ? call_need(call, "value") : NULL;

    if (value == NULL)
        return rc;
    const char *name = call_text(call, "pool");
    if (key[0] == '\0')
        return say_refused(call, -EINVAL, "a key");
    rc = machine_app_set(call->batch->change, pool->id, app, key, value);
    if (rc == -ENOENT)
        return say_not_enabled(call, rc, app, name);
    return rc != 0 ? say_refused(call, rc, "a key or value")
                   : call_say(call, 0,
                              "set application '%.64s' key '%.64s' to '%.64s' on pool "
                              "'%.64s'",
                              app, key, value, name);
}

static int run_rm(struct command_call *call)
{
    const char *app;
    int rc;
    const struct map_pool *pool = take(call, &app, &rc);
    const char *key = pool != NULL ? call_need(call, "key") : NULL;

    if (key == NULL)
        return rc;
    const char *name = call_text(call, "pool");
    if (apps_find(pool->apps, app, "") == NULL)
        return say_not_enabled(call, -ENOENT, app, name);
    if (key[0] == '\0' || apps_find(pool->apps, app, key) == NULL)
        return call_say(call, 0, "application '%.64s' on pool '%.64s' does not have key '%.64s'",
                        app, name, key);
    rc = machine_app_remove(call->batch->change, pool->id, app, key);
    return rc != 0 ? rc
                   : call_say(call, 0, "removed application '%.64s' key '%.64s' on pool '%.64s'",
                              app, key, name);
}

const struct command commands_apps[] = {
    {"osd pool application get", CAP_READ, COMMAND_READS, run_get, "[pool] [app] [key]",
     "what pools are used for"},
    {"osd pool application enable", CAP_READ | CAP_WRITE, COMMAND_CHANGES, run_enable,
     "pool app [yes_i_really_mean_it]", "note that an application uses a pool"},
    {"osd pool application disable", CAP_READ | CAP_WRITE, COMMAND_CHANGES, run_disable,
     "pool app [yes_i_really_mean_it]", "forget that, and the application's keys"},
    {"osd pool application set", CAP_READ | CAP_WRITE, COMMAND_CHANGES, run_set,
     "pool app key value", "note something of an application on a pool"},
    {"osd pool application rm", CAP_READ | CAP_WRITE, COMMAND_CHANGES, run_rm, "pool app key",
     "forget it"},
    {0},
};
