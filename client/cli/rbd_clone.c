/* limpet rbd: clones and copies. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/rbd.h"

/* The new image is as the old one is, where nothing else is said. */
static void take_features(struct cli *cli, struct limpet_image_options *options)
{
    if (!cli_has(cli, "image-feature") && !cli_has(cli, "image-shared"))
        options->features = LIMPET_IMAGE_FEATURES_SOURCE;
}

int rbd_clone(struct cli *cli)
{
    struct rbd_spec spec, to;
    struct limpet_image_options options;
    rbd_spec_read(cli, 0, RBD_SOURCE, RBD_SNAP, &spec);
    rbd_spec_read(cli, 1, RBD_DEST, RBD_IMAGE, &to);
    rbd_image_options(cli, &options);
    take_features(cli, &options);
    struct limpet_pool *pool = rbd_pool(cli, &spec), *child_pool = rbd_pool(cli, &to);
    int code = 0,
        rc = limpet_image_clone(pool, spec.name, spec.snap, child_pool, to.name, &options);
    if (rc == -EINVAL && options.clone_format == 1)
        code = complain(rc, "clone error: %s; is the snapshot protected?", error_phrase(rc));
    else if (rc != 0)
        code = complain(rc, "clone error: %s", rbd_making_phrase(rc, &options));
    limpet_pool_close(pool);
    limpet_pool_close(child_pool);
    return code;
}

/* ---- Copies ---- */

static int copy(struct cli *cli, bool deep)
{
    struct rbd_run run;
    struct rbd_spec to;
    struct limpet_image_options options;
    rbd_image_options(cli, &options);
    take_features(cli, &options);
    rbd_spec_read(cli, 1, RBD_DEST, RBD_IMAGE, &to);
    rbd_begin(cli, RBD_IMAGE_OR_SNAP, false, &run);
    struct limpet_pool *pool = rbd_pool(cli, &to);
    struct rbd_progress progress = rbd_progress_begin(cli, deep ? "Image deep copy" : "Image copy");
    int rc =
        deep ? limpet_image_deep_copy(run.image, pool, to.name, &options, cli_has(cli, "flatten"),
                                      rbd_progress_step, &progress)
             : limpet_image_copy(run.image, pool, to.name, &options, rbd_progress_step, &progress);
    rbd_progress_end(&progress, rc);
    int code = rc != 0 ? complain(rc, "%scopy failed: %s", deep ? "deep " : "",
                                  rc == -ENOENT ? rbd_reading_phrase(&run, NULL, rc)
                                                : rbd_making_phrase(rc, &options))
                       : 0;
    limpet_pool_close(pool);
    return rbd_end(&run, code);
}

int rbd_cp(struct cli *cli)
{
    return copy(cli, false);
}

int rbd_deep_cp(struct cli *cli)
{
    return copy(cli, true);
}

/* ---- children, flatten ---- */

static struct limpet_image *open_spec(struct cli *cli, const struct limpet_image_spec *spec,
                                      bool write)
{
    struct limpet_pool *pool;
    struct limpet_image *image = NULL;
    if (limpet_pool_open_id(cli->cluster, spec->pool, &pool) != 0)
        return NULL;
    if (limpet_pool_set_namespace(pool, spec->space) == 0 &&
        limpet_image_open(pool, spec->id, NULL,
                          LIMPET_IMAGE_BY_ID | (write ? 0 : LIMPET_IMAGE_READ_ONLY), &image) != 0)
        image = NULL;
    limpet_pool_close(pool);
    return image;
}

static void show_child(struct cli *cli, const struct limpet_image_spec *spec, json_t *json)
{
    char *pool = rbd_pool_text(cli, spec->pool);
    json_t *entry = json_pack("{s:s, s:s, s:s}", "pool", pool, "pool_namespace", spec->space,
                              "image", spec->name);
    if (spec->trash)
        json_object_set_new(entry, "id", json_string(spec->id));
    if (cli_has(cli, "all"))
        json_object_set_new(entry, "trash", json_boolean(spec->trash));
    json_array_append_new(json, entry);
    if (!rbd_wants_json(cli)) {
        printf("%s/%s%s%s", pool, spec->space, spec->space[0] != 0 ? "/" : "", spec->name);
        if (spec->trash)
            printf(" (trash %s)", spec->id);
        putchar('\n');
    }
    free(pool);
}

/* Those of a child follow it, if its descendants are wanted. */
static int show_children(struct cli *cli, struct limpet_image *image, unsigned depth, json_t *json)
{
    struct limpet_image_spec *specs;
    size_t n;
    int rc = limpet_image_children(image, &specs, &n);
    if (rc != 0)
        return rc;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        if (!specs[i].trash || cli_has(cli, "all"))
            show_child(cli, &specs[i], json);
        struct limpet_image *child = cli_has(cli, "descendants") && depth < LIMPET_IMAGE_DEPTH_MAX
                                         ? open_spec(cli, &specs[i], false)
                                         : NULL;
        if (child != NULL) {
            rc = show_children(cli, child, depth + 1, json);
            limpet_image_close(child);
        }
    }
    limpet_free(specs);
    return rc;
}

/* Looks at the snapshot of --snap-id; 0, or a negative errno. */
static int look_at_id(struct cli *cli, struct limpet_image *image)
{
    struct limpet_image_snap *snaps;
    size_t n, at = 0;
    uint64_t id = cli_number(cli, "snap-id", 0, 0, UINT64_MAX);
    int rc = limpet_image_snap_list(image, &snaps, &n);
    if (rc != 0)
        return rc;
    while (at < n && snaps[at].id != id)
        at++;
    rc = at < n ? limpet_image_set_snap(image, snaps[at].name) : -ENOENT;
    limpet_free(snaps);
    return rc;
}

int rbd_children(struct cli *cli)
{
    struct rbd_run run;
    bool by_id = cli_has(cli, "snap-id");
    rbd_begin(cli, by_id ? RBD_IMAGE : RBD_IMAGE_OR_SNAP, false, &run);
    json_t *json = json_array();
    int code = 0, rc = by_id ? look_at_id(cli, run.image) : 0;
    if (rc == 0)
        rc = show_children(cli, run.image, 1, json);
    else if (rc == -ENOENT)
        code = complain(rc, "snapshot %s does not exist; 'rbd snap ls %s' lists them",
                        cli_text(cli, "snap-id", ""), rbd_spec_text(&run.spec));
    if (rc != 0 && code == 0)
        code = complain(rc, "listing children failed: %s", error_phrase(rc));
    else if (rbd_wants_json(cli))
        rbd_print_json(cli, json_incref(json));
    json_decref(json);
    return rbd_end(&run, code);
}

int rbd_flatten_children(struct cli *cli, struct limpet_image *parent, const char *snap)
{
    struct limpet_image_spec *specs = NULL;
    size_t n = 0;
    int rc = limpet_image_set_snap(parent, snap);
    if (rc == 0)
        rc = limpet_image_children(parent, &specs, &n);
    int back = limpet_image_set_snap(parent, NULL);
    rc = rc != 0 ? rc : back;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct limpet_image *child = open_spec(cli, &specs[i], true);
        rc = child != NULL ? limpet_image_flatten(child, NULL, NULL) : -ENOENT;
        rc = rc == -EINVAL ? 0 : rc; /* Somebody else has done it. */
        int closed = child != NULL ? limpet_image_close(child) : 0;
        rc = rc != 0 ? rc : closed;
    }
    limpet_free(specs);
    return rc;
}

int rbd_flatten(struct cli *cli)
{
    struct rbd_run run;
    rbd_begin(cli, RBD_IMAGE, true, &run);
    struct rbd_progress progress = rbd_progress_begin(cli, "Image flatten");
    int code = 0, rc = rbd_check_unlocked(&run);
    if (rc == 0)
        rc = limpet_image_flatten(run.image, rbd_progress_step, &progress);
    rbd_progress_end(&progress, rc);
    if (rc == -EINVAL)
        code = complain(rc, "flatten error: %s; the image has no parent", error_phrase(rc));
    else if (rc != 0)
        code = complain(rc, "flatten error: %s", rbd_phrase(rc));
    return rbd_end(&run, code);
}
