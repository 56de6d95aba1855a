/* limpet rbd: images of a pool. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/rbd.h"

/* ---- create ---- */

int rbd_create(struct cli *cli)
{
    struct rbd_spec spec;
    struct limpet_image_options options;
    rbd_spec_read(cli, 0, RBD_SOURCE, RBD_IMAGE, &spec);
    uint64_t size = rbd_size_option(cli);
    rbd_image_options(cli, &options);
    if (cli_has(cli, "thick-provision"))
        fail(EOPNOTSUPP, "--thick-provision: images are thin");
    unsigned order = options.order != 0 ? options.order : LIMPET_IMAGE_ORDER_DEFAULT;
    if (rbd_map_is_too_large(options.features, size >> order))
        fail(EINVAL, "create error: " RBD_NO_MAP);
    struct limpet_pool *pool = rbd_pool(cli, &spec);
    int code = 0, rc = limpet_image_create(pool, spec.name, size, &options);
    if (rc == -ENOENT && options.data_pool != NULL)
        code =
            complain(rc, "create error: data pool '%s': %s", options.data_pool, error_phrase(rc));
    else if (rc != 0)
        code = complain(rc, "create error: %s", rbd_making_phrase(rc, &options));
    limpet_pool_close(pool);
    return code;
}

/* ---- ls ---- */

json_t *rbd_parent_json(struct cli *cli, const struct limpet_image_spec *parent)
{
    char *pool = rbd_pool_text(cli, parent->pool);
    json_t *json = json_pack("{s:s, s:s, s:s, s:s}", "pool", pool, "pool_namespace", parent->space,
                             "image", parent->name, "snapshot", parent->snap_name);
    free(pool);
    return json;
}

void rbd_parent_text(struct cli *cli, const struct limpet_image_spec *parent, char *text,
                     size_t size)
{
    char *pool = rbd_pool_text(cli, parent->pool);
    snprintf(text, size, "%s/%s%s%s@%s", pool, parent->space, parent->space[0] != 0 ? "/" : "",
             parent->name, parent->snap_name);
    free(pool);
}

struct long_list {
    struct cli *cli;
    struct limpet_pool *pool;
    struct table *table;
    json_t *json;
};

static void list_snap(struct long_list *l, const struct limpet_image_info *info,
                      const struct limpet_image_snap *snap, const char *parent)
{
    table_cell(l->table, "%s@%s", info->name, snap->name);
    table_cell(l->table, "%s", rbd_size_text(snap->size));
    table_cell(l->table, "%s", parent);
    table_cell(l->table, "2");
    table_cell(l->table, "%s", snap->is_protected ? "yes" : "");
    table_cell(l->table, "%s", "");
    json_t *json = json_pack("{s:s, s:s, s:s, s:I, s:I, s:i}", "image", info->name, "id", info->id,
                             "snapshot", snap->name, "snapshot_id", (json_int_t)snap->id, "size",
                             (json_int_t)snap->size, "format", 2);
    json_object_set_new(json, "protected", json_string(snap->is_protected ? "true" : "false"));
    json_array_append_new(l->json, json);
}

static int list_image(struct long_list *l, const char *name)
{
    struct limpet_image *image;
    struct limpet_image_info info;
    struct limpet_image_spec parent;
    struct limpet_image_snap *snaps = NULL;
    size_t n = 0;
    char above[1024] = "";
    int rc = limpet_image_open(l->pool, name, NULL, LIMPET_IMAGE_READ_ONLY, &image);
    if (rc != 0)
        return rc == -ENOENT ? 0 : complain(rc, "error opening %s: %s", name, error_phrase(rc));
    rbd_info(image, &info);
    json_t *json = json_pack("{s:s, s:s, s:I}", "image", info.name, "id", info.id, "size",
                             (json_int_t)info.size);
    if (limpet_image_parent(image, &parent) == 0) {
        rbd_parent_text(l->cli, &parent, above, sizeof above);
        json_object_set_new(json, "parent", rbd_parent_json(l->cli, &parent));
    }
    json_object_set_new(json, "format", json_integer(2));
    const char *lock = rbd_lock_kind(l->pool, image);
    if (lock[0] != 0)
        json_object_set_new(json, "lock_type",
                            json_string(lock[0] == 'e' ? "exclusive" : "shared"));
    json_array_append_new(l->json, json);
    table_cell(l->table, "%s", info.name);
    table_cell(l->table, "%s", rbd_size_text(info.size));
    table_cell(l->table, "%s", above);
    table_cell(l->table, "2");
    table_cell(l->table, "%s", "");
    table_cell(l->table, "%s", lock);
    rc = limpet_image_snap_list(image, &snaps, &n);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        if (snaps[i].kind == LIMPET_IMAGE_SNAP_USER)
            list_snap(l, &info, &snaps[i], above);
    }
    limpet_free(snaps);
    limpet_image_close(image);
    return rc != 0 ? complain(rc, "listing snapshots of %s: %s", name, error_phrase(rc)) : 0;
}

static int list_long(struct cli *cli, struct limpet_pool *pool,
                     const struct limpet_image_entry *entries, size_t n)
{
    struct long_list l = {cli, pool, table_create("lrlrll"), json_array()};
    static const char *const titles[] = {"NAME", "SIZE", "PARENT", "FMT", "PROT", "LOCK"};
    int code = 0;
    for (size_t i = 0; i < 6; i++)
        table_cell(l.table, "%s", titles[i]);
    for (size_t i = 0; i < n; i++) {
        int one = list_image(&l, entries[i].name);
        code = one != 0 ? one : code;
    }
    if (rbd_wants_json(cli)) {
        rbd_print_json(cli, json_incref(l.json));
    } else if (n > 0) {
        table_print_titled(l.table);
    }
    json_decref(l.json);
    table_destroy(l.table);
    return code;
}

int rbd_ls(struct cli *cli)
{
    struct rbd_spec spec;
    struct limpet_image_entry *entries;
    size_t n;
    int code = 0;
    rbd_pool_spec_read(cli, 0, &spec);
    struct limpet_pool *pool = rbd_pool(cli, &spec);
    int rc = limpet_image_list(pool, &entries, &n);
    if (rc != 0)
        fail(rc, "listing images failed: %s", error_phrase(rc));
    if (cli_has(cli, "long")) {
        code = list_long(cli, pool, entries, n);
    } else if (rbd_wants_json(cli)) {
        json_t *names = json_array();
        for (size_t i = 0; i < n; i++)
            json_array_append_new(names, json_string(entries[i].name));
        rbd_print_json(cli, names);
    } else {
        for (size_t i = 0; i < n; i++)
            printf("%s\n", entries[i].name);
    }
    limpet_free(entries);
    limpet_pool_close(pool);
    return code;
}

/* ---- info ---- */

static const char *const op_features[] = {"clone-parent", "clone-child", "group", "snap-trash"};
static const char *const flags[] = {"object map invalid", "fast diff invalid"};

/* Names of bits, for JSON. */
static json_t *bits_json(uint64_t bits, const char *const *names, unsigned n)
{
    json_t *json = json_array();
    for (unsigned i = 0; i < 64; i++) {
        const char *name = names == NULL ? limpet_image_feature_name(i) : i < n ? names[i] : NULL;
        if (bits >> i & 1 && name != NULL)
            json_array_append_new(json, json_string(name));
    }
    return json;
}

/* The same, for people. */
static void print_names(const char *what, const json_t *names)
{
    printf("\t%s: ", what);
    for (size_t i = 0; i < json_array_size(names); i++)
        printf("%s%s", i > 0 ? ", " : "", json_string_value(json_array_get(names, i)));
    putchar('\n');
}

static void print_parent(struct cli *cli, const struct limpet_image_spec *parent, uint64_t overlap)
{
    char text[1024];
    rbd_parent_text(cli, parent, text, sizeof text);
    printf("\tparent: %s", text);
    if (parent->trash)
        printf(" (trash %s)", parent->id);
    printf("\n\toverlap: %s\n", rbd_size_text(overlap));
}

static void add_parent(struct cli *cli, json_t *json, const struct limpet_image_spec *parent,
                       uint64_t overlap)
{
    char *pool = rbd_pool_text(cli, parent->pool);
    json_object_set_new(json, "parent",
                        json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:I}", "pool", pool,
                                  "pool_namespace", parent->space, "image", parent->name, "id",
                                  parent->id, "snapshot", parent->snap_name, "trash", parent->trash,
                                  "overlap", (json_int_t)overlap));
    free(pool);
}

/* "POOL/[NAMESPACE/]GROUP", NULL: it is in none. */
static const char *group_text(struct cli *cli, struct limpet_image *image, char *text, size_t size)
{
    struct limpet_image_spec group;
    if (limpet_image_group(image, &group) != 0)
        return NULL;
    char *pool = rbd_pool_text(cli, group.pool);
    snprintf(text, size, "%s/%s%s%s", pool, group.space, group.space[0] != 0 ? "/" : "",
             group.name);
    free(pool);
    return text;
}

/* In the order in which rbd writes it. */
static json_t *info_json(struct cli *cli, const struct limpet_image_info *info, const char *group)
{
    json_t *json = json_pack(
        "{s:s, s:s, s:I, s:I, s:i, s:I, s:I}", "name", info->name, "id", info->id, "size",
        (json_int_t)info->size, "objects", (json_int_t)info->objects, "order", (int)info->order,
        "object_size", (json_int_t)info->object_size, "snapshot_count", (json_int_t)info->snaps);
    if (info->data_pool != info->pool) {
        char *pool = rbd_pool_text(cli, info->data_pool);
        json_object_set_new(json, "data_pool", json_string(pool));
        free(pool);
    }
    json_object_set_new(json, "block_name_prefix", json_string(info->prefix));
    json_object_set_new(json, "format", json_integer(2));
    json_object_set_new(json, "features", bits_json(info->features, NULL, 0));
    json_object_set_new(json, "op_features", bits_json(info->op_features, op_features, 4));
    json_object_set_new(json, "flags", bits_json(info->flags, flags, 2));
    if (group != NULL)
        json_object_set_new(json, "group", json_string(group));
    json_object_set_new(json, "create_timestamp", rbd_time_json(info->created_ns));
    json_object_set_new(json, "access_timestamp", rbd_time_json(info->accessed_ns));
    json_object_set_new(json, "modify_timestamp", rbd_time_json(info->modified_ns));
    if (json == NULL)
        fail(ENOMEM, "out of memory");
    return json;
}

static void print_info(const struct limpet_image_info *info, json_t *json)
{
    static const char *const times[] = {"create_timestamp", "access_timestamp", "modify_timestamp"};
    printf("rbd image '%s':\n", info->name);
    printf("\tsize %s in %" PRIu64 " objects\n", rbd_size_text(info->size), info->objects);
    printf("\torder %u (%s objects)\n", info->order, rbd_size_text(info->object_size));
    printf("\tsnapshot_count: %" PRIu64 "\n\tid: %s\n", info->snaps, info->id);
    if (json_object_get(json, "data_pool") != NULL)
        printf("\tdata_pool: %s\n", json_text(json, "data_pool"));
    printf("\tblock_name_prefix: %s\n\tformat: 2\n", info->prefix);
    print_names("features", json_object_get(json, "features"));
    print_names("op_features", json_object_get(json, "op_features"));
    print_names("flags", json_object_get(json, "flags"));
    if (json_object_get(json, "group") != NULL)
        printf("\tgroup: %s\n", json_text(json, "group"));
    for (size_t i = 0; i < 3; i++)
        printf("\t%s: %s\n", times[i], json_text(json, times[i]));
}

/* Of a snapshot alone: NULL otherwise. */
static const char *protection(const struct rbd_run *run)
{
    struct limpet_image_snap *snaps;
    const char *found = NULL;
    size_t n;
    if (run->spec.snap[0] == 0 || limpet_image_snap_list(run->image, &snaps, &n) != 0)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(snaps[i].name, run->spec.snap) == 0)
            found = snaps[i].is_protected ? "true" : "false";
    }
    limpet_free(snaps);
    return found;
}

int rbd_show(struct cli *cli)
{
    struct rbd_run run;
    struct limpet_image_info info;
    struct limpet_image_spec parent;
    char group[1024];
    rbd_begin(cli, RBD_IMAGE_OR_SNAP, false, &run);
    rbd_info(run.image, &info);
    json_t *json = info_json(cli, &info, group_text(cli, run.image, group, sizeof group));
    bool plain = !rbd_wants_json(cli);
    if (plain)
        print_info(&info, json);
    const char *is_protected = protection(&run);
    if (is_protected != NULL) {
        json_object_set_new(json, "protected", json_string(is_protected));
        if (plain)
            printf("\tprotected: %s\n", is_protected[0] == 't' ? "True" : "False");
    }
    if (limpet_image_parent(run.image, &parent) == 0) {
        add_parent(cli, json, &parent, info.overlap);
        if (plain)
            print_parent(cli, &parent, info.overlap);
    }
    if (info.features & LIMPET_IMAGE_STRIPING) {
        json_object_set_new(json, "stripe_unit", json_integer((json_int_t)info.stripe_unit));
        json_object_set_new(json, "stripe_count", json_integer((json_int_t)info.stripe_count));
        if (plain)
            printf("\tstripe unit: %s\n\tstripe count: %" PRIu64 "\n",
                   rbd_size_text(info.stripe_unit), info.stripe_count);
    }
    if (plain)
        json_decref(json);
    else
        rbd_print_json(cli, json);
    return rbd_end(&run, 0);
}

/* ---- rm, mv, resize, sparsify ---- */

/* It has snapshots: whether they are but such as clones still need. */
static bool has_only_clones(struct limpet_pool *pool, const char *name)
{
    struct limpet_image *image;
    struct limpet_image_snap *snaps = NULL;
    size_t n = 0;
    if (limpet_image_open(pool, name, NULL, LIMPET_IMAGE_READ_ONLY, &image) != 0)
        return false;
    bool only = limpet_image_snap_list(image, &snaps, &n) == 0 && n > 0;
    for (size_t i = 0; i < n; i++)
        only = only && snaps[i].kind == LIMPET_IMAGE_SNAP_TRASH;
    limpet_free(snaps);
    limpet_image_close(image);
    return only;
}

/* Nothing else keeps it from being removed, or that is named first. */
static bool only_a_lock_keeps(struct limpet_pool *pool, const char *name)
{
    struct limpet_image *image;
    struct limpet_image_snap *snaps = NULL;
    struct limpet_image_spec group;
    size_t n = 0;
    if (!rbd_is_locked(pool, name) ||
        limpet_image_open(pool, name, NULL, LIMPET_IMAGE_READ_ONLY, &image) != 0)
        return false;
    bool only = limpet_image_snap_list(image, &snaps, &n) == 0 && n == 0 &&
                limpet_image_group(image, &group) != 0;
    limpet_free(snaps);
    limpet_image_close(image);
    return only;
}

int rbd_rm(struct cli *cli)
{
    struct rbd_spec spec;
    rbd_spec_read(cli, 0, RBD_SOURCE, RBD_IMAGE, &spec);
    struct limpet_pool *pool = rbd_pool(cli, &spec);
    if (only_a_lock_keeps(pool, spec.name)) {
        limpet_pool_close(pool);
        return complain(EBUSY, "image is locked: 'rbd lock ls' shows by whom, 'rbd lock rm' takes "
                               "the lock away");
    }
    struct rbd_progress progress = rbd_progress_begin(cli, "Removing image");
    int code = 0, rc = limpet_image_remove(pool, spec.name, rbd_progress_step, &progress);
    rbd_progress_end(&progress, rc);
    if (rc == -ENOTEMPTY && has_only_clones(pool, spec.name))
        code = complain(rc,
                        "image has snapshots with linked clones - these must be deleted or "
                        "flattened before the image can be removed: 'rbd children --all %s' "
                        "lists them",
                        rbd_spec_text(&spec));
    else if (rc == -ENOTEMPTY)
        code =
            complain(rc, "image has snapshots - these must be deleted with 'rbd snap purge' before "
                         "the image can be removed");
    else if (rc == -EBUSY)
        code = complain(
            rc, "image still has watchers: close or unmap it everywhere; 'rbd status' shows "
                "where it is open");
    else if (rc == -EMLINK)
        code = complain(rc, "image belongs to a group: 'rbd group image rm' takes it out");
    else if (rc != 0)
        code = complain(rc, "delete error: %s", rbd_phrase(rc));
    limpet_pool_close(pool);
    return code;
}

int rbd_mv(struct cli *cli)
{
    struct rbd_spec spec, to;
    rbd_spec_read(cli, 0, RBD_SOURCE, RBD_IMAGE, &spec);
    rbd_spec_read(cli, 1, RBD_DEST, RBD_IMAGE, &to);
    /* The new name alone is one of the same pool. */
    const char *name = cli->n_words > 1 ? cli->words[1] : cli_text(cli, "dest", "");
    bool named = strchr(name, '/') != NULL;
    if (!named && !cli_has(cli, "dest-pool"))
        memcpy(to.pool, spec.pool, sizeof to.pool);
    if (!named && !cli_has(cli, "dest-namespace"))
        memcpy(to.space, spec.space, sizeof to.space);
    if (strcmp(spec.pool, to.pool) != 0 || strcmp(spec.space, to.space) != 0)
        fail(EINVAL, "mv/rename across pools not supported; 'rbd deep cp' copies an image with its "
                     "snapshots");
    struct limpet_pool *pool = rbd_pool(cli, &spec);
    int code = 0, rc = rbd_is_locked(pool, spec.name) ? -EROFS : 0;
    if (rc == 0)
        rc = limpet_image_rename(pool, spec.name, to.name);
    if (rc != 0)
        code = complain(rc, "rename error: %s",
                        rbd_making_phrase(rc, &(struct limpet_image_options){0}));
    limpet_pool_close(pool);
    return code;
}

int rbd_resize(struct cli *cli)
{
    struct rbd_run run;
    uint64_t size = rbd_size_option(cli);
    struct limpet_image_info info;
    rbd_begin(cli, RBD_IMAGE, true, &run);
    rbd_info(run.image, &info);
    bool shrink = cli_has(cli, "allow-shrink");
    if (size < info.size && !shrink)
        return rbd_end(&run, complain(EINVAL, "shrinking an image is only allowed with the "
                                              "--allow-shrink flag"));
    if (rbd_map_is_too_large(info.features, size >> info.order))
        return rbd_end(&run, complain(EINVAL, "resize error: " RBD_NO_MAP));
    struct rbd_progress progress = rbd_progress_begin(cli, "Resizing image");
    int code = 0, rc = rbd_check_unlocked(&run);
    if (rc == 0)
        rc = limpet_image_resize(run.image, size, shrink, rbd_progress_step, &progress);
    rbd_progress_end(&progress, rc);
    if (rc != 0)
        code = complain(rc, "resize error: %s", rbd_phrase(rc));
    return rbd_end(&run, code);
}

int rbd_sparsify(struct cli *cli)
{
    struct rbd_run run;
    uint64_t unit = rbd_size("sparse-size", cli_text(cli, "sparse-size", "4096"), 1);
    rbd_begin(cli, RBD_IMAGE, true, &run);
    struct rbd_progress progress = rbd_progress_begin(cli, "Image sparsify");
    int code = 0, rc = rbd_check_unlocked(&run);
    if (rc == 0)
        rc = limpet_image_sparsify(run.image, unit, rbd_progress_step, &progress);
    rbd_progress_end(&progress, rc);
    if (rc != 0)
        code = complain(rc, "sparsify error: %s", rbd_phrase(rc));
    return rbd_end(&run, code);
}
