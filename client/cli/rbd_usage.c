/* limpet rbd: who uses an image, and what it uses. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/rbd.h"

/* ---- status ---- */

int rbd_status(struct cli *cli)
{
    struct rbd_run run;
    struct limpet_watcher *watchers;
    size_t n;
    rbd_begin(cli, RBD_IMAGE, false, &run);
    int rc = limpet_image_watchers(run.image, &watchers, &n);
    if (rc != 0)
        return rbd_end(&run, complain(rc, "listing watchers failed: %s", error_phrase(rc)));
    json_t *list = json_array();
    if (!rbd_wants_json(cli))
        printf(n > 0 ? "Watchers:\n" : "Watchers: none\n");
    for (size_t i = 0; i < n; i++) {
        if (!rbd_wants_json(cli))
            printf("\twatcher=%s client.%" PRIu64 " cookie=%" PRIu64 "\n", watchers[i].address,
                   watchers[i].instance, watchers[i].cookie);
        /* JSON's integers here have a sign, and are too small. */
        char client[32];
        snprintf(client, sizeof client, "%" PRIu64, watchers[i].instance);
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:I}", "address", watchers[i].address, "client",
                                        client, "cookie", (json_int_t)watchers[i].cookie));
    }
    if (rbd_wants_json(cli))
        rbd_print_json(cli, json_pack("{s:O}", "watchers", list));
    json_decref(list);
    limpet_free(watchers);
    return rbd_end(&run, 0);
}

/* ---- du ---- */

struct usage {
    struct cli *cli;
    const char *from; /* NULL: all. */
    bool exact, merge;
    struct limpet_pool *pool;
    struct table *table;
    json_t *json;
    uint64_t provisioned, used;
    size_t rows;
};

static void add_row(struct usage *u, const struct limpet_image_info *info,
                    const struct limpet_image_snap *snap, uint64_t used)
{
    uint64_t size = snap != NULL ? snap->size : info->size;
    json_t *json = json_pack("{s:s, s:s}", "name", info->name, "id", info->id);
    if (snap != NULL) {
        json_object_set_new(json, "snapshot", json_string(snap->name));
        json_object_set_new(json, "snapshot_id", json_integer((json_int_t)snap->id));
    }
    json_object_set_new(json, "provisioned_size", json_integer((json_int_t)size));
    json_object_set_new(json, "used_size", json_integer((json_int_t)used));
    json_array_append_new(u->json, json);
    table_cell(u->table, snap != NULL ? "%s@%s" : "%s", info->name, snap != NULL ? snap->name : "");
    table_cell(u->table, "%s", rbd_size_text(size));
    table_cell(u->table, "%s", rbd_size_text(used));
    u->used += used;
    u->rows++;
}

static int add_extent(uint64_t offset, uint64_t len, bool exists, void *arg)
{
    uint64_t *used = arg;
    (void)offset;
    *used += exists ? len : 0;
    return 0;
}

static int used_exactly(struct limpet_image *image, const char *from, uint64_t *used)
{
    struct limpet_image_info info;
    int rc = limpet_image_info(image, &info);
    *used = 0;
    return rc != 0 ? rc
                   : limpet_image_diff(image, from, 0, info.size, false, false, add_extent, used);
}

static int used_at(struct usage *u, const char *name, const char *snap, const char *from,
                   uint64_t *used)
{
    struct limpet_image *image;
    int rc = limpet_image_open(u->pool, name, snap, LIMPET_IMAGE_READ_ONLY, &image);
    if (rc != 0)
        return rc;
    rc = u->exact ? used_exactly(image, from, used) : limpet_image_used(image, from, used);
    limpet_image_close(image);
    return rc;
}

/* Each snapshot has what was written since the one before it, or since the one that was asked for;
 * only: one snapshot, with all. */
static int add_usage(struct usage *u, const char *name, const char *only)
{
    struct limpet_image *image;
    struct limpet_image_info info;
    struct limpet_image_snap *snaps = NULL;
    size_t n = 0;
    uint64_t used = 0, merged = 0;
    const char *from = NULL;
    bool begun = u->from == NULL;
    int rc = limpet_image_open(u->pool, name, NULL, LIMPET_IMAGE_READ_ONLY, &image);
    if (rc != 0)
        return rc;
    rc = limpet_image_info(image, &info);
    if (rc == 0 && (info.features & LIMPET_IMAGE_FAST_DIFF) == 0)
        fprintf(stderr, "warning: fast-diff map is not enabled for %s. operation may be slow.\n",
                name);
    if (rc == 0)
        rc = limpet_image_snap_list(image, &snaps, &n);
    bool found = only == NULL;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        if (snaps[i].kind != LIMPET_IMAGE_SNAP_USER)
            continue;
        if (!begun) {
            begun = strcmp(u->from, snaps[i].name) == 0;
            from = begun ? snaps[i].name : NULL;
            continue;
        }
        if (only != NULL && strcmp(only, snaps[i].name) != 0)
            continue;
        rc = used_at(u, name, snaps[i].name, from, &used);
        merged += used;
        if (rc == 0 && !u->merge)
            add_row(u, &info, &snaps[i], used);
        from = snaps[i].name;
        found = true;
    }
    if (rc == 0 && (!found || !begun))
        rc = -ENOENT;
    if (rc == 0 && only == NULL && (rc = used_at(u, name, NULL, from, &used)) == 0)
        add_row(u, &info, NULL, used + (u->merge ? merged : 0));
    else if (rc == 0 && u->merge)
        add_row(u, &info, NULL, merged);
    u->provisioned += info.size;
    limpet_free(snaps);
    limpet_image_close(image);
    return rc;
}

/* The sum: of a pool always in JSON, of several rows where people read it. */
static void print_usage(struct usage *u, bool of_pool)
{
    bool total = u->rows > 1;
    if (rbd_wants_json(u->cli)) {
        json_t *json = json_pack("{s:O}", "images", u->json);
        if (of_pool) {
            json_object_set_new(json, "total_provisioned_size",
                                json_integer((json_int_t)u->provisioned));
            json_object_set_new(json, "total_used_size", json_integer((json_int_t)u->used));
        }
        rbd_print_json(u->cli, json);
        return;
    }
    if (total) {
        table_cell(u->table, "<TOTAL>");
        table_cell(u->table, "%s", rbd_size_text(u->provisioned));
        table_cell(u->table, "%s", rbd_size_text(u->used));
    }
    table_print_titled(u->table);
}

static int usage_of_pool(struct usage *u)
{
    struct limpet_image_entry *entries;
    size_t n;
    int rc = limpet_image_list(u->pool, &entries, &n);
    if (rc != 0)
        return rc;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = add_usage(u, entries[i].name, NULL);
        if (rc == -ENOENT)
            rc = 0; /* It went meanwhile. */
        else if (rc != 0)
            complain(rc, "image %s: %s", entries[i].name, error_phrase(rc));
    }
    limpet_free(entries);
    return rc;
}

int rbd_du(struct cli *cli)
{
    struct rbd_spec spec;
    bool one = cli->n_words > 0 || cli_has(cli, "image");
    if (one)
        rbd_spec_read(cli, 0, RBD_SOURCE, RBD_IMAGE_OR_SNAP, &spec);
    else
        rbd_pool_spec_read(cli, -1, &spec);
    struct usage u = {.cli = cli,
                      .from = cli_text(cli, "from-snap", NULL),
                      .exact = cli_has(cli, "exact"),
                      .merge = cli_has(cli, "merge-snapshots"),
                      .pool = rbd_pool(cli, &spec),
                      .table = table_create("lrr"),
                      .json = json_array()};
    if (u.from != NULL && !one)
        fail(EINVAL, "--from-snap is of an image: name it");
    table_cell(u.table, "NAME");
    table_cell(u.table, "PROVISIONED");
    table_cell(u.table, "USED");
    int code = 0, rc = one ? add_usage(&u, spec.name, spec.snap[0] != 0 ? spec.snap : NULL)
                           : usage_of_pool(&u);
    if (rc == -ENOENT && one && u.from != NULL)
        code =
            complain(rc, "specified image %s%s%s is not found, or has no snapshot '%s' before it",
                     spec.name, spec.snap[0] != 0 ? "@" : "", spec.snap, u.from);
    else if (rc == -ENOENT && one)
        code = complain(rc, "specified image %s%s%s is not found", spec.name,
                        spec.snap[0] != 0 ? "@" : "", spec.snap);
    else if (rc != 0)
        code = complain(rc, "du failed: %s", error_phrase(rc));
    else
        print_usage(&u, !one);
    table_destroy(u.table);
    json_decref(u.json);
    limpet_pool_close(u.pool);
    return code;
}

/* ---- pool ---- */

int rbd_pool_init(struct cli *cli)
{
    struct rbd_spec spec;
    rbd_pool_spec_read(cli, 0, &spec);
    limpet_pool_close(rbd_pool(cli, &spec));
    return 0;
}

struct pool_sums {
    uint64_t images, bytes, snaps;
};

static int add_to_sums(struct limpet_pool *pool, const char *id, struct pool_sums *sums)
{
    struct limpet_image *image;
    struct limpet_image_info info;
    int rc = limpet_image_open(pool, id, NULL, LIMPET_IMAGE_BY_ID | LIMPET_IMAGE_READ_ONLY, &image);
    if (rc != 0)
        return rc == -ENOENT ? 0 : rc;
    rc = limpet_image_info(image, &info);
    if (rc == 0)
        *sums =
            (struct pool_sums){sums->images + 1, sums->bytes + info.size, sums->snaps + info.snaps};
    limpet_image_close(image);
    return rc;
}

static void print_sums(const char *prefix, const struct pool_sums *sums)
{
    printf("Total %sImages: %" PRIu64 "\n", prefix, sums->images);
    printf("Total %sSnapshots: %" PRIu64 "\n", prefix, sums->snaps);
    printf("%sProvisioned Size: %s\n", prefix, rbd_size_text(sums->bytes));
}

static json_t *sums_json(const struct pool_sums *sums)
{
    return json_pack("{s:I, s:I, s:I}", "count", (json_int_t)sums->images, "provisioned_bytes",
                     (json_int_t)sums->bytes, "snap_count", (json_int_t)sums->snaps);
}

int rbd_pool_stats(struct cli *cli)
{
    struct rbd_spec spec;
    struct limpet_image_entry *entries = NULL;
    struct limpet_image_trash *trash = NULL;
    struct pool_sums images = {0}, trashed = {0};
    size_t n_entries = 0, n_trash = 0;
    rbd_pool_spec_read(cli, 0, &spec);
    struct limpet_pool *pool = rbd_pool(cli, &spec);
    int rc = limpet_image_list(pool, &entries, &n_entries);
    if (rc == 0)
        rc = limpet_image_trash_list(pool, &trash, &n_trash);
    for (size_t i = 0; rc == 0 && i < n_entries; i++)
        rc = add_to_sums(pool, entries[i].id, &images);
    for (size_t i = 0; rc == 0 && i < n_trash; i++)
        rc = add_to_sums(pool, trash[i].id, &trashed);
    if (rc != 0)
        fail(rc, "failed to query pool stats: %s", error_phrase(rc));
    if (rbd_wants_json(cli)) {
        rbd_print_json(cli, json_pack("{s:o, s:o}", "images", sums_json(&images), "trash",
                                      sums_json(&trashed)));
    } else {
        print_sums("", &images);
        if (trashed.images > 0)
            print_sums("Trash ", &trashed);
    }
    limpet_free(entries);
    limpet_free(trash);
    limpet_pool_close(pool);
    return 0;
}
