/* limpet rados lock: advisory locks of objects. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/rados.h"

int rados_lock_get(struct cli *cli)
{
    struct limpet_pool *pool = rados_pool(cli);
    bool shared = strcmp(cli_text(cli, "lock-type", "exclusive"), "shared") == 0;
    uint64_t seconds = cli_number(cli, "lock-duration", 0, 0, UINT64_C(3600) * 24 * 365 * 100);
    int rc = limpet_lock(pool, cli->words[0], cli->words[1],
                         shared ? LIMPET_LOCK_SHARED : LIMPET_LOCK_EXCLUSIVE,
                         cli_text(cli, "lock-cookie", ""), cli_text(cli, "lock-tag", ""),
                         cli_text(cli, "lock-description", ""), seconds * 1000000000, 0);
    int code = rc == 0 ? 0 : complain(rc, "ERROR: failed locking: %s", error_phrase(rc));
    limpet_pool_close(pool);
    return code;
}

/* As rados does, which has nothing but JSON here. */
static void print_json(struct cli *cli, json_t *json)
{
    if (cli->format == FORMAT_PLAIN)
        cli->format = FORMAT_JSON;
    cli_print_json(cli, json);
    json_decref(json);
}

int rados_lock_list(struct cli *cli)
{
    struct limpet_pool *pool = rados_pool(cli);
    const char *object = cli->words[0];
    char **names = NULL;
    int code = 0, rc = limpet_lock_list(pool, object, &names);
    if (rc != 0) {
        code = complain(rc, "ERROR: cannot list the locks of %s/%s: %s", limpet_pool_name(pool),
                        object, error_phrase(rc));
    } else {
        json_t *locks = json_array();
        for (size_t i = 0; names[i] != NULL; i++)
            json_array_append_new(
                locks, json_pack("{s:o}", "name", name_json(names[i], strlen(names[i]))));
        json_t *json =
            json_pack("{s:o, s:o}", "objname", name_json(object, strlen(object)), "locks", locks);
        print_json(cli, json);
    }
    limpet_free(names);
    limpet_pool_close(pool);
    return code;
}

static json_t *holder_json(const struct limpet_lock_holder *holder)
{
    char name[32], ends[RADOS_TIME_MAX] = "0.000000";
    snprintf(name, sizeof name, "client.%" PRIu64, holder->instance);
    if (holder->ends_ns != 0)
        rados_time(holder->ends_ns, ends);
    return json_pack("{s:s, s:o, s:o, s:s, s:o}", "name", name, "cookie",
                     name_json(holder->cookie, strlen(holder->cookie)), "description",
                     name_json(holder->description, strlen(holder->description)), "expiration",
                     ends, "addr", name_json(holder->address, strlen(holder->address)));
}

int rados_lock_info(struct cli *cli)
{
    static const char *const types[] = {"none", "exclusive", "shared"};
    struct limpet_pool *pool = rados_pool(cli);
    const char *object = cli->words[0], *lock = cli->words[1];
    struct limpet_lock_info *info = NULL;
    int code = 0, rc = limpet_lock_info(pool, object, lock, &info);
    if (rc != 0) {
        code = complain(rc, "ERROR: cannot look at lock %s of %s/%s: %s", lock,
                        limpet_pool_name(pool), object, error_phrase(rc));
    } else {
        json_t *holders = json_array();
        for (size_t i = 0; i < info->n_holders; i++)
            json_array_append_new(holders, holder_json(&info->holders[i]));
        bool known = info->type >= 0 && info->type <= LIMPET_LOCK_SHARED;
        json_t *json = json_pack("{s:o, s:s, s:o, s:o}", "name", name_json(lock, strlen(lock)),
                                 "type", known ? types[info->type] : "unknown", "tag",
                                 name_json(info->tag, strlen(info->tag)), "lockers", holders);
        print_json(cli, json);
    }
    limpet_free(info);
    limpet_pool_close(pool);
    return code;
}

/* "client.17", as 'lock info' names holders. */
static uint64_t parse_locker(const char *text)
{
    char *end;
    bool good = strncmp(text, "client.", 7) == 0 && text[7] >= '0' && text[7] <= '9';
    errno = 0;
    uint64_t instance = good ? strtoull(text + 7, &end, 10) : 0;
    if (!good || *end != 0 || errno != 0)
        fail(EINVAL, "ERROR: failed to parse locker name (%s): 'limpet rados lock info' names them",
             text);
    return instance;
}

int rados_lock_break(struct cli *cli)
{
    uint64_t instance = parse_locker(cli->words[2]);
    struct limpet_pool *pool = rados_pool(cli);
    int rc = limpet_lock_break(pool, cli->words[0], cli->words[1], instance,
                               cli_text(cli, "lock-cookie", ""));
    int code = rc == 0 ? 0 : complain(rc, "ERROR: failed breaking lock: %s", error_phrase(rc));
    limpet_pool_close(pool);
    return code;
}
