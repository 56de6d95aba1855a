/* limpet rbd: snapshots. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/rbd.h"

int rbd_snap_create(struct cli *cli)
{
    struct rbd_run run;
    rbd_begin(cli, RBD_SNAP, true, &run);
    struct rbd_progress progress = rbd_progress_begin(cli, "Creating snap");
    int code = 0, rc = rbd_check_unlocked(&run);
    if (rc == 0)
        rc = limpet_image_snap_create(run.image, run.spec.snap);
    rbd_progress_end(&progress, rc);
    if (rc == -EDQUOT)
        code = complain(rc,
                        "failed to create snapshot: %s; 'rbd snap limit' changes the image's limit",
                        error_phrase(rc));
    else if (rc != 0)
        code = complain(rc, "failed to create snapshot: %s", rbd_phrase(rc));
    return rbd_end(&run, code);
}

/* ---- ls ---- */

static const char *const kinds[] = {"user", "group", "trash"};

/* The group of an image, with its snapshots: whose number is at the end of the names of the
 * image's. */
struct group {
    struct limpet_image_spec spec;
    char *pool;
    struct limpet_group_snap *snaps;
    size_t n;
};

static void group_of(struct cli *cli, struct limpet_image *image, struct group *g)
{
    struct rbd_spec spec = {0};
    *g = (struct group){0};
    if (limpet_image_group(image, &g->spec) != 0)
        return;
    g->pool = rbd_pool_text(cli, g->spec.pool);
    snprintf(spec.pool, sizeof spec.pool, "%s", g->pool);
    snprintf(spec.space, sizeof spec.space, "%s", g->spec.space);
    struct limpet_pool *pool = rbd_pool(cli, &spec);
    if (limpet_group_snap_list(pool, g->spec.name, &g->snaps, &g->n) != 0)
        g->n = 0;
    limpet_pool_close(pool);
}

static void group_end(struct group *g)
{
    free(g->pool);
    limpet_free(g->snaps);
}

/* NULL: it is none of the group's. */
static const char *group_snap_name(const struct group *g, const struct limpet_image_snap *s)
{
    const char *id = strrchr(s->name, '_');
    for (size_t i = 0; s->kind == LIMPET_IMAGE_SNAP_GROUP && id != NULL && i < g->n; i++) {
        if (strcmp(g->snaps[i].id, id + 1) == 0)
            return g->snaps[i].name;
    }
    return NULL;
}

static json_t *snap_json(const struct limpet_image_snap *s, const struct group *g, bool all)
{
    json_t *json =
        json_pack("{s:I, s:s, s:I, s:s}", "id", (json_int_t)s->id, "name", s->name, "size",
                  (json_int_t)s->size, "protected", s->is_protected ? "true" : "false");
    json_object_set_new(json, "timestamp", rbd_time_json(s->created_ns));
    if (!all)
        return json;
    json_t *space = json_pack("{s:s}", "type", kinds[s->kind]);
    const char *name = group_snap_name(g, s);
    if (name != NULL) {
        json_object_set_new(space, "pool", json_string(g->pool));
        json_object_set_new(space, "group", json_string(g->spec.name));
        json_object_set_new(space, "group snap", json_string(name));
    }
    if (s->kind == LIMPET_IMAGE_SNAP_TRASH)
        json_object_set_new(space, "original_name", json_string(s->original));
    json_object_set_new(json, "namespace", space);
    return json;
}

static void snap_row(struct table *table, const struct limpet_image_snap *s, const struct group *g,
                     bool all)
{
    char when[RBD_TIME_MAX];
    rbd_time(s->created_ns, when);
    table_cell(table, "%" PRIu64, s->id);
    table_cell(table, "%s", s->name);
    table_cell(table, "%s", rbd_size_text(s->size));
    table_cell(table, "%s", s->is_protected ? "yes" : "");
    table_cell(table, "%s", when);
    const char *name = group_snap_name(g, s);
    if (all && s->kind == LIMPET_IMAGE_SNAP_TRASH)
        table_cell(table, "trash (%s)", s->original);
    else if (all && name != NULL)
        table_cell(table, "group (%s/%s%s%s@%s)", g->pool, g->spec.space,
                   g->spec.space[0] != 0 ? "/" : "", g->spec.name, name);
    else if (all)
        table_cell(table, "%s", kinds[s->kind]);
}

int rbd_snap_ls(struct cli *cli)
{
    struct rbd_run run;
    struct limpet_image_snap *snaps;
    static const char *const titles[] = {"SNAPID",    "NAME",      "SIZE",
                                         "PROTECTED", "TIMESTAMP", "NAMESPACE"};
    size_t n, shown = 0;
    bool all = cli_has(cli, "all");
    rbd_begin(cli, RBD_IMAGE, false, &run);
    int rc = limpet_image_snap_list(run.image, &snaps, &n);
    if (rc != 0)
        return rbd_end(&run, complain(rc, "failed to list snapshots: %s", error_phrase(rc)));
    struct group group = {0};
    if (all)
        group_of(cli, run.image, &group);
    json_t *json = json_array();
    struct table *table = table_create(all ? "rlrlll" : "rlrll");
    for (size_t i = 0; i < (all ? 6 : 5); i++)
        table_cell(table, "%s", titles[i]);
    for (size_t i = 0; i < n; i++) {
        if (!all && snaps[i].kind != LIMPET_IMAGE_SNAP_USER)
            continue;
        json_array_append_new(json, snap_json(&snaps[i], &group, all));
        snap_row(table, &snaps[i], &group, all);
        shown++;
    }
    if (rbd_wants_json(cli))
        rbd_print_json(cli, json_incref(json));
    else if (shown > 0)
        table_print_titled(table);
    json_decref(json);
    table_destroy(table);
    group_end(&group);
    limpet_free(snaps);
    return rbd_end(&run, 0);
}

/* ---- rm, purge ---- */

/* By number too: rbd snap rm --snap-id. */
static int remove_by_id(struct cli *cli)
{
    struct rbd_run run;
    rbd_begin(cli, RBD_IMAGE, true, &run);
    uint64_t id = cli_number(cli, "snap-id", 0, 0, UINT64_MAX);
    struct rbd_progress progress = rbd_progress_begin(cli, "Removing snap");
    int code = 0, rc = rbd_check_unlocked(&run);
    if (rc == 0)
        rc = limpet_image_snap_remove_id(run.image, id);
    rbd_progress_end(&progress, rc);
    if (rc != 0)
        code = complain(rc, "failed to remove snapshot: %s", rbd_phrase(rc));
    return rbd_end(&run, code);
}

int rbd_snap_rm(struct cli *cli)
{
    struct rbd_run run;
    if (cli_has(cli, "snap-id"))
        return remove_by_id(cli);
    rbd_begin(cli, RBD_SNAP, true, &run);
    struct rbd_progress progress = rbd_progress_begin(cli, "Removing snap");
    int code = 0, rc = rbd_check_unlocked(&run);
    if (rc == 0 && cli_has(cli, "force")) {
        rc = rbd_flatten_children(cli, run.image, run.spec.snap);
        if (rc == 0)
            rc = limpet_image_snap_unprotect(run.image, run.spec.snap);
        rc = rc == -EINVAL ? 0 : rc; /* It was not protected. */
    }
    if (rc == 0)
        rc = limpet_image_snap_remove(run.image, run.spec.snap, rbd_progress_step, &progress);
    rbd_progress_end(&progress, rc);
    if (rc == -EBUSY)
        code = complain(rc,
                        "snapshot '%s' is protected from removal; 'rbd snap unprotect %s' "
                        "allows it once it has no clones",
                        run.spec.snap, rbd_spec_text(&run.spec));
    else if (rc != 0)
        code = complain(rc, "failed to remove snapshot: %s", rbd_phrase(rc));
    return rbd_end(&run, code);
}

int rbd_snap_purge(struct cli *cli)
{
    struct rbd_run run;
    struct limpet_image_snap *snaps;
    size_t n, kept = 0;
    rbd_begin(cli, RBD_IMAGE, true, &run);
    int code = 0, rc = limpet_image_snap_list(run.image, &snaps, &n);
    if (rc != 0)
        return rbd_end(&run, complain(rc, "removing snaps failed: %s", error_phrase(rc)));
    rc = n > 0 ? rbd_check_unlocked(&run) : 0;
    struct rbd_progress progress = rbd_progress_begin(cli, "Removing all snapshots");
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rbd_progress_step(i, n, &progress);
        if (snaps[i].kind == LIMPET_IMAGE_SNAP_USER)
            rc = limpet_image_snap_remove(run.image, snaps[i].name, NULL, NULL);
        snaps[i].is_protected = rc == -EBUSY;
        kept += rc == -EBUSY;
        rc = rc == -EBUSY || rc == -ENOENT ? 0 : rc;
    }
    rbd_progress_end(&progress, kept > 0 ? -EBUSY : rc);
    for (size_t i = 0; kept > 0 && i < n; i++) {
        if (snaps[i].is_protected)
            complain(EBUSY,
                     "error removing snapshot '%s', which is protected - it must be unprotected "
                     "with 'rbd snap unprotect'",
                     snaps[i].name);
    }
    limpet_free(snaps);
    if (rc != 0)
        code = complain(rc, "removing snaps failed: %s", rbd_phrase(rc));
    return rbd_end(&run, code != 0 ? code : kept > 0 ? EBUSY : 0);
}

/* ---- rollback, protect, rename, limits ---- */

int rbd_snap_rollback(struct cli *cli)
{
    struct rbd_run run;
    rbd_begin(cli, RBD_SNAP, true, &run);
    struct rbd_progress progress = rbd_progress_begin(cli, "Rolling back to snapshot");
    int code = 0, rc = rbd_check_unlocked(&run);
    bool locked = rc != 0;
    if (rc == 0)
        rc = limpet_image_snap_rollback(run.image, run.spec.snap, rbd_progress_step, &progress);
    rbd_progress_end(&progress, rc);
    if (!locked && (rc == -EROFS || rc == -EBUSY))
        code = complain(rc, "rollback failed: %s; 'rbd status' shows who has the image open",
                        error_phrase(rc));
    else if (rc != 0)
        code = complain(rc, "rollback failed: %s", rbd_phrase(rc));
    return rbd_end(&run, code);
}

int rbd_snap_protect(struct cli *cli)
{
    struct rbd_run run;
    rbd_begin(cli, RBD_SNAP, true, &run);
    int code = 0, rc = limpet_image_snap_protect(run.image, run.spec.snap);
    if (rc == -EBUSY)
        code = complain(rc, "snap is already protected");
    else if (rc != 0)
        code = complain(rc, "protecting snap failed: %s", error_phrase(rc));
    return rbd_end(&run, code);
}

int rbd_snap_unprotect(struct cli *cli)
{
    struct rbd_run run;
    rbd_begin(cli, RBD_SNAP, true, &run);
    int code = 0, rc = limpet_image_snap_unprotect(run.image, run.spec.snap);
    if (rc == -EINVAL)
        code = complain(rc, "snap is already unprotected");
    else if (rc == -EBUSY)
        code = complain(rc,
                        "unprotecting snap failed: %s; 'rbd children %s' lists its clones, "
                        "'rbd flatten' makes them independent",
                        error_phrase(rc), rbd_spec_text(&run.spec));
    else if (rc != 0)
        code = complain(rc, "unprotecting snap failed: %s", error_phrase(rc));
    return rbd_end(&run, code);
}

int rbd_snap_rename(struct cli *cli)
{
    struct rbd_spec to;
    struct rbd_run run;
    rbd_spec_read(cli, 1, RBD_DEST, RBD_SNAP, &to);
    rbd_begin(cli, RBD_SNAP, true, &run);
    const char *other = strcmp(to.name, run.spec.name) != 0 ? "image name"
                        : strcmp(to.pool, run.spec.pool) != 0 && cli->n_words > 1 &&
                                strchr(cli->words[1], '/') != NULL
                            ? "pool"
                            : NULL;
    if (other != NULL)
        return rbd_end(&run, complain(EINVAL, "source and destination %s must be the same", other));
    int code = 0, rc = limpet_image_snap_rename(run.image, run.spec.snap, to.snap);
    if (rc != 0)
        code = complain(rc, "renaming snap failed: %s", rbd_phrase(rc));
    return rbd_end(&run, code);
}

static int set_limit(struct cli *cli, uint64_t limit)
{
    struct rbd_run run;
    rbd_begin(cli, RBD_IMAGE, true, &run);
    int code = 0, rc = rbd_check_unlocked(&run);
    if (rc == 0)
        rc = limpet_image_snap_set_limit(run.image, limit);
    if (rc == -ERANGE)
        code = complain(rc, "setting snapshot limit failed: %s; it has more already",
                        error_phrase(rc));
    else if (rc != 0)
        code = complain(rc, "setting snapshot limit failed: %s", rbd_phrase(rc));
    return rbd_end(&run, code);
}

int rbd_snap_limit_set(struct cli *cli)
{
    if (!cli_has(cli, "limit"))
        fail(ERANGE, "must specify --limit <num>");
    return set_limit(cli, cli_number(cli, "limit", 0, 0, UINT64_MAX));
}

int rbd_snap_limit_clear(struct cli *cli)
{
    return set_limit(cli, UINT64_MAX);
}
