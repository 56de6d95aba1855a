/* limpet rbd: the trash of a pool, and its namespaces. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/cli/rbd.h"

/* ---- Times ---- */

enum { MINUTE = 60, HOUR = 3600, DAY = 86400, WEEK = 7 * 86400 };

static uint64_t unit_seconds(const char *unit)
{
    static const struct {
        const char *name;
        uint64_t seconds;
    } units[] = {{"second", 1},  {"sec", 1},   {"minute", MINUTE}, {"min", MINUTE},
                 {"hour", HOUR}, {"day", DAY}, {"week", WEEK}};
    size_t len = strlen(unit);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        size_t n = strlen(units[i].name);
        if (strncmp(unit, units[i].name, n) == 0 && (len == n || strcmp(unit + n, "s") == 0))
            return units[i].seconds;
    }
    return 0;
}

/* "now", "tomorrow", "2 days", "2026-11-29", "2026-11-29 12:00:00": seconds since 1970. */
static time_t parse_time(const char *option, const char *text)
{
    time_t now = time(NULL);
    struct tm tm = {.tm_isdst = -1};
    char *unit;
    if (strcmp(text, "now") == 0)
        return now;
    if (strcmp(text, "tomorrow") == 0)
        return now + DAY;
    unsigned long long n = strtoull(text, &unit, 10);
    unit += strspn(unit, " ");
    if (text[0] >= '0' && text[0] <= '9' && unit_seconds(unit) != 0 && n < UINT32_MAX)
        return now + (time_t)(n * unit_seconds(unit));
    for (const char *const *format = (const char *const[]){"%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S",
                                                           "%Y-%m-%d %H:%M", "%Y-%m-%d", NULL};
         *format != NULL; format++) {
        tm = (struct tm){.tm_isdst = -1};
        const char *end = strptime(text, *format, &tm);
        if (end != NULL && *end == 0)
            return mktime(&tm);
    }
    fail(EINVAL, "--%s: '%s' is no time such as 'tomorrow', '2 days' or '2026-11-29 12:00'", option,
         text);
}

/* ---- trash ---- */

int rbd_trash_mv(struct cli *cli)
{
    struct rbd_spec spec;
    time_t now = time(NULL);
    rbd_spec_read(cli, 0, RBD_SOURCE, RBD_IMAGE, &spec);
    time_t expires = parse_time("expires-at", cli_text(cli, "expires-at", "now"));
    if (expires < now)
        fail(EINVAL, "--expires-at: time is in the past");
    struct limpet_pool *pool = rbd_pool(cli, &spec);
    bool locked = rbd_is_locked(pool, spec.name);
    int code = 0,
        rc = locked ? -EBUSY : limpet_image_trash_move(pool, spec.name, (uint64_t)(expires - now));
    if (locked)
        code = complain(rc, "deferred delete error: image is locked: 'rbd lock ls' shows by whom, "
                            "'rbd lock rm' takes the lock away");
    else if (rc == -EBUSY)
        code = complain(rc, "deferred delete error: %s; 'rbd status' shows where it is open",
                        error_phrase(rc));
    else if (rc != 0)
        code = complain(rc, "deferred delete error: %s", error_phrase(rc));
    limpet_pool_close(pool);
    return code;
}

struct trash_list {
    struct cli *cli;
    struct limpet_pool *pool;
    struct table *table;
    json_t *json;
};

/* A clone's parent, as text and in JSON. */
static void trash_parent(const struct trash_list *l, const char *id, char *text, size_t size,
                         json_t *json)
{
    struct limpet_image *image;
    struct limpet_image_spec parent;
    unsigned flags = LIMPET_IMAGE_READ_ONLY | LIMPET_IMAGE_BY_ID;
    text[0] = 0;
    if (limpet_image_open(l->pool, id, NULL, flags, &image) != 0)
        return;
    if (limpet_image_parent(image, &parent) == 0) {
        rbd_parent_text(l->cli, &parent, text, size);
        json_object_set_new(json, "parent", rbd_parent_json(l->cli, &parent));
    }
    limpet_image_close(image);
}

static void trash_row(const struct trash_list *l, const struct limpet_image_trash *t)
{
    struct table *table = l->table;
    char parent[1024];
    char deleted[RBD_TIME_MAX], until[RBD_TIME_MAX], status[64];
    bool expired = t->deferred_until_ns / 1000000000 <= (uint64_t)time(NULL);
    rbd_time(t->deleted_ns, deleted);
    rbd_time(t->deferred_until_ns, until);
    snprintf(status, sizeof status, "%s %s", expired ? "expired at" : "protected until", until);
    table_cell(table, "%s", t->id);
    table_cell(table, "%s", t->name);
    table_cell(table, "USER");
    table_cell(table, "%s", deleted);
    table_cell(table, "%s", status);
    json_t *json = json_pack("{s:s, s:s, s:s, s:s, s:s}", "id", t->id, "name", t->name, "source",
                             "USER", "deleted_at", deleted, "status", status);
    trash_parent(l, t->id, parent, sizeof parent, json);
    table_cell(table, "%s", parent);
    json_array_append_new(l->json, json);
}

static void list_trash_long(struct cli *cli, struct limpet_pool *pool,
                            const struct limpet_image_trash *entries, size_t n)
{
    static const char *const titles[] = {"ID", "NAME", "SOURCE", "DELETED_AT", "STATUS", "PARENT"};
    struct trash_list l = {cli, pool, table_create("llllll"), json_array()};
    for (size_t i = 0; i < sizeof titles / sizeof titles[0]; i++)
        table_cell(l.table, "%s", titles[i]);
    for (size_t i = 0; i < n; i++)
        trash_row(&l, &entries[i]);
    if (rbd_wants_json(cli))
        rbd_print_json(cli, json_incref(l.json));
    else if (n > 0)
        table_print_titled(l.table);
    json_decref(l.json);
    table_destroy(l.table);
}

int rbd_trash_ls(struct cli *cli)
{
    struct rbd_spec spec;
    struct limpet_image_trash *entries;
    size_t n;
    rbd_pool_spec_read(cli, 0, &spec);
    struct limpet_pool *pool = rbd_pool(cli, &spec);
    int rc = limpet_image_trash_list(pool, &entries, &n);
    if (rc != 0)
        fail(rc, "trash list error: %s", error_phrase(rc));
    if (cli_has(cli, "long")) {
        list_trash_long(cli, pool, entries, n);
    } else {
        json_t *json = json_array();
        for (size_t i = 0; i < n; i++) {
            json_array_append_new(
                json, json_pack("{s:s, s:s}", "id", entries[i].id, "name", entries[i].name));
            if (!rbd_wants_json(cli))
                printf("%s %s\n", entries[i].id, entries[i].name);
        }
        if (rbd_wants_json(cli))
            rbd_print_json(cli, json_incref(json));
        json_decref(json);
    }
    limpet_free(entries);
    limpet_pool_close(pool);
    return 0;
}

/* The image's id, where other verbs have a name. */
static struct limpet_pool *trash_spec(struct cli *cli, struct rbd_spec *spec)
{
    rbd_spec_read(cli, 0, RBD_SOURCE, RBD_IMAGE, spec);
    if (cli_has(cli, "image-id"))
        snprintf(spec->name, sizeof spec->name, "%s", cli_text(cli, "image-id", ""));
    return rbd_pool(cli, spec);
}

int rbd_trash_rm(struct cli *cli)
{
    struct rbd_spec spec;
    struct limpet_pool *pool = trash_spec(cli, &spec);
    struct rbd_progress progress = rbd_progress_begin(cli, "Removing image");
    int code = 0, rc = limpet_image_trash_remove(pool, spec.name, cli_has(cli, "force"),
                                                 rbd_progress_step, &progress);
    rbd_progress_end(&progress, rc);
    if (rc == -EPERM)
        code = complain(rc, "Deferment time has not expired, please use --force if you really want "
                            "to remove the image");
    else if (rc == -ENOTEMPTY)
        code = complain(rc, "image has snapshots - these must be deleted with 'rbd snap purge' "
                            "before the image can be removed");
    else if (rc == -ENOENT)
        code = complain(rc, "remove error: %s; 'rbd trash ls' shows the ids", error_phrase(rc));
    else if (rc != 0)
        code = complain(rc, "remove error: %s", error_phrase(rc));
    limpet_pool_close(pool);
    return code;
}

int rbd_trash_restore(struct cli *cli)
{
    struct rbd_spec spec;
    struct limpet_pool *pool = trash_spec(cli, &spec);
    int code = 0, rc = limpet_image_trash_restore(pool, spec.name, cli_text(cli, "image", NULL));
    if (rc == -ENOENT)
        code = complain(rc, "image does not exist in trash; 'rbd trash ls' shows the ids");
    else if (rc == -EEXIST)
        code = complain(rc, "an image with the same name already exists, try again with with a "
                            "different name: --image NAME");
    else if (rc != 0)
        code = complain(rc, "restore error: %s", error_phrase(rc));
    limpet_pool_close(pool);
    return code;
}

static bool is_full_enough(struct limpet_pool *pool, double threshold)
{
    struct limpet_pool_stat stat;
    int rc = limpet_pool_stat(pool, &stat);
    if (rc != 0)
        fail(rc, "how full the pool is: %s", error_phrase(rc));
    double total = (double)stat.bytes + (double)stat.bytes_available;
    return total > 0 && (double)stat.bytes / total > threshold;
}

int rbd_trash_purge(struct cli *cli)
{
    struct rbd_spec spec;
    rbd_pool_spec_read(cli, 0, &spec);
    double threshold = cli_real(cli, "threshold", -1);
    if (threshold > 1)
        fail(EINVAL, "--threshold: argument should be valid: a number from 0 to 1");
    time_t before = parse_time("expired-before", cli_text(cli, "expired-before", "now"));
    struct limpet_pool *pool = rbd_pool(cli, &spec);
    struct rbd_progress progress = rbd_progress_begin(cli, "Removing images");
    int rc = 0;
    if (threshold < 0 || is_full_enough(pool, threshold))
        rc = limpet_image_trash_purge(pool, ((uint64_t)before + 1) * 1000000000);
    rbd_progress_end(&progress, rc);
    limpet_pool_close(pool);
    if (rc == -ENOTEMPTY)
        return complain(rc,
                        "purge error: some images have snapshots, and stay: 'rbd trash restore' "
                        "them, then 'rbd snap purge'");
    if (rc == -EBUSY || rc == -EMLINK)
        return complain(rc, "purge error: some images are open or in a group, and stay");
    return rc != 0 ? complain(rc, "purge error: %s", error_phrase(rc)) : 0;
}

/* ---- namespace ---- */

static struct limpet_pool *space_spec(struct cli *cli, struct rbd_spec *spec)
{
    rbd_pool_spec_read(cli, 0, spec);
    if (spec->space[0] == 0)
        fail(EINVAL, "namespace name was not specified; write POOL/NAMESPACE");
    struct rbd_spec pool = *spec;
    pool.space[0] = 0;
    return rbd_pool(cli, &pool);
}

int rbd_namespace_create(struct cli *cli)
{
    struct rbd_spec spec;
    struct limpet_pool *pool = space_spec(cli, &spec);
    int rc = limpet_image_space_create(pool, spec.space);
    limpet_pool_close(pool);
    return rc != 0 ? complain(rc, "failed to create namespace: %s", error_phrase(rc)) : 0;
}

int rbd_namespace_rm(struct cli *cli)
{
    struct rbd_spec spec;
    struct limpet_pool *pool = space_spec(cli, &spec);
    int rc = limpet_image_space_remove(pool, spec.space);
    limpet_pool_close(pool);
    if (rc == -EBUSY)
        return complain(rc, "namespace contains images which must be deleted first");
    return rc != 0 ? complain(rc, "failed to remove namespace: %s", error_phrase(rc)) : 0;
}

int rbd_namespace_ls(struct cli *cli)
{
    struct rbd_spec spec;
    char **spaces;
    rbd_pool_spec_read(cli, 0, &spec);
    spec.space[0] = 0;
    struct limpet_pool *pool = rbd_pool(cli, &spec);
    int rc = limpet_image_space_list(pool, &spaces);
    if (rc != 0)
        fail(rc, "failed to list namespaces: %s", error_phrase(rc));
    struct table *table = table_create("l");
    json_t *json = json_array();
    table_cell(table, "NAME");
    for (size_t i = 0; spaces[i] != NULL; i++) {
        table_cell(table, "%s", spaces[i]);
        json_array_append_new(json, json_pack("{s:s}", "name", spaces[i]));
    }
    if (rbd_wants_json(cli))
        rbd_print_json(cli, json_incref(json));
    else if (spaces[0] != NULL)
        table_print_titled(table);
    table_destroy(table);
    json_decref(json);
    limpet_free(spaces);
    limpet_pool_close(pool);
    return 0;
}
