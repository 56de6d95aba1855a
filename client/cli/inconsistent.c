/* limpet rados list-inconsistent-pg, list-inconsistent-obj: what scrubs found, as rados prints it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/cli.h"

/* Errors have the names that rados gives them, of an object and of one of its copies. */
static const struct {
    unsigned bit;
    const char *of_object, *of_copy;
} error_names[] = {
    {LIMPET_SCRUB_VERSION, "object_info_inconsistency", "object_info_inconsistency"},
    {LIMPET_SCRUB_DATA, "data_digest_mismatch", "data_digest_mismatch_info"},
    {LIMPET_SCRUB_OMAP, "omap_digest_mismatch", "omap_digest_mismatch_info"},
    {LIMPET_SCRUB_SIZE, "size_mismatch", "size_mismatch_info"},
    {LIMPET_SCRUB_ATTRIBUTES, "attr_value_mismatch", "attr_value_mismatch"},
    {LIMPET_SCRUB_MISSING, NULL, "missing"},
    {LIMPET_SCRUB_UNEXPECTED, NULL, "unexpected"},
    {LIMPET_SCRUB_READ, NULL, "read_error"},
};

static json_t *errors_json(unsigned errors, bool of_object)
{
    json_t *out = json_array();
    for (size_t i = 0; i < sizeof error_names / sizeof error_names[0]; i++) {
        const char *name = of_object ? error_names[i].of_object : error_names[i].of_copy;
        if (errors & error_names[i].bit && name != NULL)
            json_array_append_new(out, json_string(name));
    }
    return out;
}

static json_t *copies_json(const struct limpet_inconsistent *found)
{
    json_t *out = json_array();
    for (unsigned i = 0; i < found->n_copies; i++) {
        const struct limpet_copy *copy = &found->copies[i];
        json_t *json = json_pack("{s:i, s:b, s:o}", "osd", copy->osd, "primary", i == 0, "errors",
                                 errors_json(copy->errors, false));
        if (!(copy->errors & (LIMPET_SCRUB_MISSING | LIMPET_SCRUB_READ))) {
            char omap[16], data[16];
            snprintf(omap, sizeof omap, "0x%08" PRIx32, copy->omap_digest);
            snprintf(data, sizeof data, "0x%08" PRIx32, copy->data_digest);
            json_object_set_new(json, "size", json_integer((json_int_t)copy->size));
            json_object_set_new(json, "omap_digest", json_string(omap));
            json_object_set_new(json, "data_digest", json_string(data));
        }
        json_array_append_new(out, json);
    }
    return out;
}

static json_t *snap_json(const struct limpet_inconsistent *found)
{
    return found->snap == LIMPET_HEAD ? json_string("head") : json_integer((json_int_t)found->snap);
}

static json_t *object_json(const struct limpet_inconsistent *found)
{
    json_t *object =
        json_pack("{s:o, s:o, s:o, s:o, s:I}", "name", name_json(found->name, found->name_len),
                  "nspace", name_json(found->space, found->space_len), "locator",
                  name_json(found->locator, found->locator_len), "snap", snap_json(found),
                  "version", (json_int_t)found->version);
    return json_pack("{s:o, s:o, s:o, s:o}", "object", object, "errors",
                     errors_json(found->errors, true), "union_shard_errors",
                     errors_json(found->copy_errors, false), "shards", copies_json(found));
}

void cli_parse_pgid(const char *text, uint64_t *pool, uint32_t *group)
{
    char *end;
    errno = 0;
    *pool = strtoull(text, &end, 10);
    bool good = errno == 0 && end != text && *end == '.' && end[1] != 0;
    unsigned long seed = good ? strtoul(end + 1, &end, 16) : 0;
    if (!good || errno != 0 || *end != 0 || seed > UINT32_MAX)
        fail(EINVAL, "'%s' is no placement group: they look like 2.1a, see 'limpet pg ls'", text);
    *group = (uint32_t)seed;
}

struct limpet_pool *cli_open_pool_of(struct cli *cli, uint64_t number, const char *pgid)
{
    struct limpet_pool_entry *pools;
    struct limpet_pool *pool = NULL;
    size_t n;
    cli_connect(cli);
    int rc = limpet_pool_list(cli->cluster, &pools, &n);
    if (rc != 0)
        fail(rc, "pools: %s", error_phrase(rc));
    for (size_t i = 0; i < n && pool == NULL; i++)
        if (pools[i].id == number)
            pool = cli_open_pool(cli, pools[i].name);
    limpet_free(pools);
    if (pool == NULL)
        fail(ENOENT, "%s: there is no pool with this number; 'limpet pg ls' lists the groups",
             pgid);
    return pool;
}

static void explain(int rc, const char *pgid)
{
    if (rc == -ENODATA)
        fail(ENOENT,
             "no scrub information for pg %s: its primary has not scrubbed it since it became the "
             "primary; run 'limpet pg deep-scrub %s', then ask again",
             pgid, pgid);
    if (rc == -ENOENT || rc == -EINVAL)
        fail(ENOENT, "pg %s does not exist; 'limpet pg ls' lists the groups", pgid);
    fail(rc, "pg %s: %s", pgid, error_phrase(rc));
}

/* What is kept of an object for snapshots, as a copy of which is missing or one too many. */
static json_t *clone_json(const struct limpet_inconsistent *found)
{
    json_t *errors = json_array();
    if (found->copy_errors & LIMPET_SCRUB_MISSING)
        json_array_append_new(errors, json_string("clone_missing"));
    if (found->copy_errors & LIMPET_SCRUB_UNEXPECTED)
        json_array_append_new(errors, json_string("extra_clones"));
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "name", name_json(found->name, found->name_len),
                     "nspace", name_json(found->space, found->space_len), "locator",
                     name_json(found->locator, found->locator_len), "snap", snap_json(found),
                     "errors", errors);
}

static bool is_listed(const struct cli *cli, const struct limpet_inconsistent *found, bool clones)
{
    const unsigned odd = LIMPET_SCRUB_MISSING | LIMPET_SCRUB_UNEXPECTED;
    if (found->repaired && (clones || !cli_has(cli, "repaired")))
        return false;
    return !clones || (found->snap != LIMPET_HEAD && (found->copy_errors & odd) != 0);
}

static int list_inconsistent(struct cli *cli, bool clones)
{
    const char *pgid = cli->words[0];
    uint64_t number;
    uint32_t group;
    cli_parse_pgid(pgid, &number, &group);
    struct limpet_pool *pool = cli_open_pool_of(cli, number, pgid);
    struct limpet_inconsistents *walk;
    struct limpet_inconsistent found;
    int rc = limpet_inconsistents_open(pool, group, &walk);
    if (rc != 0)
        explain(rc, pgid);
    uint64_t unlisted = limpet_inconsistents_unlisted(walk);
    json_t *list = json_array();
    json_t *json = json_pack("{s:I, s:o}", "epoch", (json_int_t)limpet_inconsistents_epoch(walk),
                             "inconsistents", list);
    while ((rc = limpet_inconsistents_next(walk, &found)) == 0) {
        if (!is_listed(cli, &found, clones))
            continue;
        json_t *one = clones ? clone_json(&found) : object_json(&found);
        if (!clones && cli_has(cli, "repaired"))
            json_object_set_new(one, "repaired", json_boolean(found.repaired));
        json_array_append_new(list, one);
    }
    if (rc != -ENOENT)
        explain(rc, pgid);
    limpet_inconsistents_close(walk);
    limpet_pool_close(pool);
    if (cli->format == FORMAT_PLAIN)
        cli->format = FORMAT_JSON; /* As rados does. */
    cli_print_json(cli, json);
    json_decref(json);
    if (unlisted > 0)
        return complain(E2BIG, "pg %s has %" PRIu64 " more, for which its OSD has no room", pgid,
                        unlisted);
    return 0;
}

int run_list_inconsistent_obj(struct cli *cli)
{
    return list_inconsistent(cli, false);
}

int run_list_inconsistent_snapset(struct cli *cli)
{
    return list_inconsistent(cli, true);
}

int run_list_inconsistent_pg(struct cli *cli)
{
    cli_connect(cli);
    limpet_pool_close(cli_open_pool(cli, cli->words[0]));
    json_t *answer = remote_call(cli, "pg ls", json_pack("{s:s}", "pool", cli->words[0]));
    json_t *out = json_array();
    size_t i;
    const json_t *pg;
    json_array_foreach(json_object_get(answer, "pg_stats"), i, pg)
    {
        if (json_number(pg, "objects_inconsistent") > 0)
            json_array_append_new(out, json_string(json_text(pg, "pgid")));
    }
    if (cli->format == FORMAT_PLAIN)
        cli->format = FORMAT_JSON;
    cli_print_json(cli, out);
    json_decref(out);
    json_decref(answer);
    return 0;
}
