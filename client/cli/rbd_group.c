/* limpet rbd: groups of images. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/rbd.h"

/* A word; with the option that names the same, the words begin behind it. -1: the option does. */
static int word_at(struct cli *cli, int word, const char *option)
{
    return cli_has(cli, option) ? -1 : word;
}

/* The word behind the group's. */
static int second_word(struct cli *cli)
{
    return word_at(cli, 0, "group") + 1;
}

/* A spec whose name is a group's. second: the option that may stand for the word behind it; NULL:
 * there is none. */
static struct limpet_pool *group_spec(struct cli *cli, enum rbd_spec_kind kind, const char *second,
                                      struct rbd_spec *spec)
{
    bool word_left = second != NULL && !cli_has(cli, second);
    if (cli->n_words > second_word(cli) + (word_left ? 1 : 0))
        fail(EINVAL, "%s: named by an option, too; leave one of them out",
             cli->words[cli->n_words - 1]);
    rbd_spec_read(cli, word_at(cli, 0, "group"), RBD_GROUP, kind, spec);
    return rbd_pool(cli, spec);
}

static int done(struct limpet_pool *pool, int rc, const char *what)
{
    limpet_pool_close(pool);
    return rc != 0 ? complain(rc, "%s: %s", what, error_phrase(rc)) : 0;
}

int rbd_group_create(struct cli *cli)
{
    struct rbd_spec spec;
    struct limpet_pool *pool = group_spec(cli, RBD_IMAGE, NULL, &spec);
    return done(pool, limpet_group_create(pool, spec.name), "failed to create group");
}

int rbd_group_rm(struct cli *cli)
{
    struct rbd_spec spec;
    struct limpet_pool *pool = group_spec(cli, RBD_IMAGE, NULL, &spec);
    return done(pool, limpet_group_remove(pool, spec.name), "failed to remove group");
}

int rbd_group_rename(struct cli *cli)
{
    struct rbd_spec spec, to;
    int word = word_at(cli, second_word(cli), "dest-group");
    rbd_spec_read(cli, word, RBD_DEST_GROUP, RBD_IMAGE, &to);
    struct limpet_pool *pool = group_spec(cli, RBD_IMAGE, "dest-group", &spec);
    const char *text = word >= 0 ? cli->words[word] : cli_text(cli, "dest-group", "");
    bool named = strchr(text, '/') != NULL || cli_has(cli, "dest-pool");
    if (named && strcmp(to.pool, spec.pool) != 0)
        fail(EINVAL, "group rename across pools not supported");
    if (to.space[0] != 0 && strcmp(to.space, spec.space) != 0)
        fail(EINVAL, "group rename across namespaces not supported");
    return done(pool, limpet_group_rename(pool, spec.name, to.name), "failed to rename group");
}

int rbd_group_ls(struct cli *cli)
{
    struct rbd_spec spec;
    struct limpet_image_entry *entries;
    size_t n;
    rbd_pool_spec_read(cli, 0, &spec);
    struct limpet_pool *pool = rbd_pool(cli, &spec);
    int rc = limpet_group_list(pool, &entries, &n);
    if (rc != 0)
        return done(pool, rc, "failed to list groups");
    json_t *json = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(json, json_string(entries[i].name));
        if (!rbd_wants_json(cli))
            printf("%s\n", entries[i].name);
    }
    if (rbd_wants_json(cli))
        rbd_print_json(cli, json_incref(json));
    json_decref(json);
    limpet_free(entries);
    return done(pool, 0, NULL);
}

/* ---- Images ---- */

typedef int (*group_change)(struct limpet_pool *pool, const char *group,
                            struct limpet_pool *image_pool, const char *image);

static int with_image(struct cli *cli, const char *what, group_change call)
{
    struct rbd_spec group, image;
    struct limpet_pool *pool = group_spec(cli, RBD_IMAGE, "image", &group);
    int word = word_at(cli, second_word(cli), "image");
    rbd_spec_read(cli, word, RBD_GROUP_IMAGE, RBD_IMAGE, &image);
    struct limpet_pool *image_pool = rbd_pool(cli, &image);
    int rc = call(pool, group.name, image_pool, image.name);
    limpet_pool_close(image_pool);
    return done(pool, rc, what);
}

/* It need not be one that can be opened. */
static int take_out_id(struct cli *cli, const char *id)
{
    struct rbd_spec group, image;
    struct limpet_pool *pool = group_spec(cli, RBD_IMAGE, "image", &group);
    if (cli_has(cli, "image") || cli->n_words > second_word(cli))
        fail(EINVAL, "trying to access image using both name and id; leave one of them out");
    rbd_pool_spec_read(cli, -1, &image);
    if (cli_has(cli, "image-pool"))
        snprintf(image.pool, sizeof image.pool, "%s", cli_text(cli, "image-pool", ""));
    if (cli_has(cli, "image-namespace"))
        snprintf(image.space, sizeof image.space, "%s", cli_text(cli, "image-namespace", ""));
    struct limpet_pool *image_pool = rbd_pool(cli, &image);
    int rc = limpet_group_take_out_id(pool, group.name, image_pool, id);
    limpet_pool_close(image_pool);
    limpet_pool_close(pool);
    if (rc == -ENOENT)
        return complain(rc, "remove image error: %s; there is no group '%s' with an image of id %s",
                        error_phrase(rc), rbd_spec_text(&group), id);
    return rc != 0 ? complain(rc, "remove image error: %s", error_phrase(rc)) : 0;
}

int rbd_group_image_add(struct cli *cli)
{
    return with_image(cli, "add image error", limpet_group_add);
}

int rbd_group_image_rm(struct cli *cli)
{
    const char *id = cli_text(cli, "image-id", NULL);
    return id != NULL ? take_out_id(cli, id)
                      : with_image(cli, "remove image error", limpet_group_take_out);
}

static int by_name(const void *a, const void *b)
{
    const struct limpet_image_spec *one = a, *other = b;
    return strcmp(one->name, other->name);
}

int rbd_group_image_ls(struct cli *cli)
{
    struct rbd_spec spec;
    struct limpet_image_spec *images;
    size_t n;
    struct limpet_pool *pool = group_spec(cli, RBD_IMAGE, NULL, &spec);
    int rc = limpet_group_images(pool, spec.name, &images, &n);
    if (rc != 0)
        return done(pool, rc, "failed to list images of the group");
    qsort(images, n, sizeof images[0], by_name);
    json_t *json = json_array();
    for (size_t i = 0; i < n; i++) {
        char *name = rbd_pool_text(cli, images[i].pool);
        if (!rbd_wants_json(cli))
            printf("%s/%s%s%s\n", name, images[i].space, images[i].space[0] != 0 ? "/" : "",
                   images[i].name);
        json_array_append_new(json,
                              json_pack("{s:s, s:s, s:s, s:i}", "image", images[i].name, "pool",
                                        name, "namespace", images[i].space, "state", 0));
        free(name);
    }
    if (rbd_wants_json(cli))
        rbd_print_json(cli, json_incref(json));
    json_decref(json);
    limpet_free(images);
    return done(pool, 0, NULL);
}

/* ---- Snapshots ---- */

int rbd_group_snap_create(struct cli *cli)
{
    struct rbd_spec spec;
    struct limpet_pool *pool = group_spec(cli, RBD_SNAP, NULL, &spec);
    return done(pool, limpet_group_snap_create(pool, spec.name, spec.snap),
                "failed to create group snapshot");
}

int rbd_group_snap_rm(struct cli *cli)
{
    struct rbd_spec spec;
    struct limpet_pool *pool = group_spec(cli, RBD_SNAP, NULL, &spec);
    return done(pool, limpet_group_snap_remove(pool, spec.name, spec.snap),
                "failed to remove group snapshot");
}

/* The new name stands alone. */
int rbd_group_snap_rename(struct cli *cli)
{
    struct rbd_spec spec;
    struct limpet_pool *pool = group_spec(cli, RBD_SNAP, "dest-snap", &spec);
    int word = second_word(cli);
    const char *to = cli->n_words > word ? cli->words[word] : cli_text(cli, "dest-snap", NULL);
    if (to == NULL)
        fail(EINVAL, "dest snap name was not specified");
    const char *at = strchr(to, '@');
    return done(pool,
                limpet_group_snap_rename(pool, spec.name, spec.snap, at != NULL ? at + 1 : to),
                "failed to rename group snapshot");
}

int rbd_group_snap_rollback(struct cli *cli)
{
    struct rbd_spec spec;
    struct limpet_pool *pool = group_spec(cli, RBD_SNAP, NULL, &spec);
    struct rbd_progress progress = rbd_progress_begin(cli, "Rolling back to group snapshot");
    int rc = limpet_group_snap_rollback(pool, spec.name, spec.snap, rbd_progress_step, &progress);
    rbd_progress_end(&progress, rc);
    return done(pool, rc, "rollback group to snapshot failed");
}

int rbd_group_snap_ls(struct cli *cli)
{
    struct rbd_spec spec;
    struct limpet_group_snap *snaps;
    size_t n;
    struct limpet_pool *pool = group_spec(cli, RBD_IMAGE, NULL, &spec);
    int rc = limpet_group_snap_list(pool, spec.name, &snaps, &n);
    if (rc != 0)
        return done(pool, rc, "failed to list snapshots of the group");
    struct table *table = table_create("ll");
    json_t *json = json_array();
    table_cell(table, "NAME");
    table_cell(table, "STATUS");
    for (size_t i = 0; i < n; i++) {
        const char *state = snaps[i].complete ? "ok" : "incomplete";
        table_cell(table, "%s", snaps[i].name);
        table_cell(table, "%s", state);
        json_array_append_new(json,
                              json_pack("{s:s, s:s}", "snapshot", snaps[i].name, "state", state));
    }
    if (rbd_wants_json(cli))
        rbd_print_json(cli, json_incref(json));
    else if (n > 0)
        table_print_titled(table);
    table_destroy(table);
    json_decref(json);
    limpet_free(snaps);
    return done(pool, 0, NULL);
}
