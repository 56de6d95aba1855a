/* limpet rbd: features, object maps, metadata, options. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/rbd.h"
#include "common/image_options.h"

/* As rbd numbers it: a feature that images here never have. */
enum { JOURNALING = 64 };

/* ---- feature, object-map ---- */

enum { RBD_MAP_OBJECTS = 256000000 };

bool rbd_map_is_too_large(uint64_t features, uint64_t objects)
{
    const uint64_t map = LIMPET_IMAGE_OBJECT_MAP | LIMPET_IMAGE_FAST_DIFF;
    return (features & map) != 0 && objects > RBD_MAP_OBJECTS;
}

static int change_features(struct cli *cli, bool enabled)
{
    struct rbd_run run;
    struct limpet_image_info info;
    uint64_t features = 0;
    int first = cli_has(cli, "image") ? 0 : 1;
    if (first == 1) {
        rbd_begin(cli, RBD_IMAGE, true, &run);
    } else {
        rbd_spec_read(cli, -1, RBD_SOURCE, RBD_IMAGE, &run.spec);
        run.pool = rbd_pool(cli, &run.spec);
        run.image = rbd_image(run.pool, &run.spec, true);
    }
    if (cli->n_words <= first)
        return rbd_end(&run, complain(EINVAL, "at least one feature name must be specified"));
    for (int i = first; i < cli->n_words; i++)
        features |= rbd_features(cli->words[i]);
    rbd_info(run.image, &info);
    if (enabled && rbd_map_is_too_large(features, info.objects))
        return rbd_end(&run, complain(EINVAL, "failed to update image features: " RBD_NO_MAP));
    int code = 0, rc = rbd_check_unlocked(&run);
    if (rc == 0)
        rc = limpet_image_set_features(run.image, features, enabled);
    if (rc == -EINVAL && (features & JOURNALING) != 0)
        code = complain(rc, "failed to update image features: %s; there is no journaling",
                        error_phrase(rc));
    else if (rc == -EINVAL)
        code = complain(rc,
                        "failed to update image features: %s; object-map needs exclusive-lock, and "
                        "fast-diff needs object-map; layering stays as it is",
                        error_phrase(rc));
    else if (rc != 0)
        code = complain(rc, "failed to update image features: %s", rbd_phrase(rc));
    return rbd_end(&run, code);
}

int rbd_feature_enable(struct cli *cli)
{
    return change_features(cli, true);
}

int rbd_feature_disable(struct cli *cli)
{
    return change_features(cli, false);
}

static int object_map(struct cli *cli, const char *what, const char *verb,
                      int (*call)(struct limpet_image *, limpet_image_progress, void *))
{
    struct rbd_run run;
    rbd_begin(cli, RBD_IMAGE, true, &run);
    struct rbd_progress progress = rbd_progress_begin(cli, what);
    int code = 0, rc = rbd_check_unlocked(&run);
    if (rc == 0)
        rc = call(run.image, rbd_progress_step, &progress);
    rbd_progress_end(&progress, rc);
    if (rc == -EILSEQ)
        code = complain(rc, "the object map is wrong; 'rbd object-map rebuild %s' makes it anew",
                        rbd_spec_text(&run.spec));
    else if (rc == -EFBIG)
        code = complain(rc,
                        "%s object map failed: the image has more than 2^25 objects, and none "
                        "is kept of such; it works without",
                        verb);
    else if (rc != 0)
        code = complain(rc, "%s object map failed: %s", verb, rbd_phrase(rc));
    return rbd_end(&run, code);
}

int rbd_object_map_check(struct cli *cli)
{
    return object_map(cli, "Object Map Check", "checking", limpet_image_check_object_map);
}

int rbd_object_map_rebuild(struct cli *cli)
{
    return object_map(cli, "Object Map Rebuild", "rebuilding", limpet_image_rebuild_object_map);
}

/* ---- image-meta ---- */

/* The words after the image's spec: with --image they begin at once. */
static const char *word_after(struct cli *cli, int index, const char *what)
{
    int at = index + (cli_has(cli, "image") ? 0 : 1);
    if (at >= cli->n_words)
        fail(EINVAL, "metadata %s was not specified", what);
    return cli->words[at];
}

static void begin_meta(struct cli *cli, bool write, struct rbd_run *run)
{
    rbd_spec_read(cli, cli_has(cli, "image") ? -1 : 0, RBD_SOURCE, RBD_IMAGE, &run->spec);
    run->pool = rbd_pool(cli, &run->spec);
    run->image = rbd_image(run->pool, &run->spec, write);
}

int rbd_image_meta_set(struct cli *cli)
{
    struct rbd_run run;
    const char *key = word_after(cli, 0, "key"), *value = word_after(cli, 1, "value");
    begin_meta(cli, true, &run);
    int rc = rbd_check_unlocked(&run);
    if (rc == 0)
        rc = limpet_image_meta_set(run.image, key, value, strlen(value));
    return rbd_end(&run, rc != 0 ? complain(rc, "setting metadata failed: %s", rbd_phrase(rc)) : 0);
}

int rbd_image_meta_get(struct cli *cli)
{
    struct rbd_run run;
    char *value;
    size_t len;
    const char *key = word_after(cli, 0, "key");
    begin_meta(cli, false, &run);
    int rc = limpet_image_meta_get(run.image, key, &value, &len);
    if (rc != 0)
        return rbd_end(&run, complain(rc, "getting metadata failed: %s", error_phrase(rc)));
    fwrite(value, 1, len, stdout);
    putchar('\n');
    limpet_free(value);
    return rbd_end(&run, 0);
}

int rbd_image_meta_rm(struct cli *cli)
{
    struct rbd_run run;
    const char *key = word_after(cli, 0, "key");
    begin_meta(cli, true, &run);
    int rc = rbd_check_unlocked(&run);
    if (rc == 0)
        rc = limpet_image_meta_remove(run.image, key);
    return rbd_end(&run,
                   rc != 0 ? complain(rc, "removing metadata failed: %s", rbd_phrase(rc)) : 0);
}

/* What keys in lists begin with, "m/", is no part of their names. */
enum { META_PREFIX = 2 };

struct meta_list {
    struct table *table;
    json_t *json;
    size_t n;
    char last[LIMPET_IMAGE_META_KEY_MAX + 1];
};

static void add_meta(struct meta_list *l, const struct limpet_pair *pair)
{
    snprintf(l->last, sizeof l->last, "%.*s", (int)(pair->key_len - META_PREFIX),
             (const char *)pair->key + META_PREFIX);
    table_cell(l->table, "%s", l->last);
    table_cell(l->table, "%.*s", (int)pair->value_len, (const char *)pair->value);
    json_object_set_new(l->json, l->last, name_json(pair->value, pair->value_len));
    l->n++;
}

/* One answer holds some of the pairs: until there is none in it. */
static int read_meta(struct limpet_image *image, struct meta_list *l)
{
    struct limpet_pairs *pairs;
    struct limpet_pair pair;
    int rc = 0;
    for (size_t before = SIZE_MAX; rc == 0 && l->n != before;) {
        before = l->n;
        rc = limpet_image_meta_list(image, l->last, UINT64_MAX, &pairs);
        while (rc == 0 && limpet_pairs_next(pairs, &pair) == 0)
            add_meta(l, &pair);
        if (rc == 0)
            limpet_pairs_destroy(pairs);
    }
    return rc;
}

int rbd_image_meta_ls(struct cli *cli)
{
    struct rbd_run run;
    struct meta_list l = {.table = table_create("ll"), .json = json_object()};
    begin_meta(cli, false, &run);
    table_cell(l.table, "Key");
    table_cell(l.table, "Value");
    int rc = read_meta(run.image, &l);
    if (rc != 0) {
        rbd_end(&run, 0);
        fail(rc, "listing metadata failed: %s", error_phrase(rc));
    }
    if (rbd_wants_json(cli)) {
        rbd_print_json(cli, json_incref(l.json));
    } else {
        printf(l.n == 1 ? "There is %zu metadatum on this image%s\n"
                        : "There are %zu metadata on this image%s\n",
               l.n, l.n > 0 ? ":\n" : ".");
        if (l.n > 0)
            table_print_titled(l.table);
    }
    json_decref(l.json);
    table_destroy(l.table);
    return rbd_end(&run, 0);
}

/* ---- config ---- */

/* The words behind the image or the pool: with --image they begin at once. */
static const char *config_word(struct cli *cli, bool of_image, int index, const char *what)
{
    int at = index + (of_image && cli_has(cli, "image") ? 0 : 1);
    if (at >= cli->n_words)
        fail(EINVAL, "config %s was not specified", what);
    return cli->words[at];
}

/* Where an option is set: for an image, or for a pool. */
struct place {
    struct rbd_run run; /* image NULL: of the pool. */
};

static void begin_config(struct cli *cli, bool of_image, bool write, struct place *p)
{
    p->run.image = NULL;
    if (of_image) {
        begin_meta(cli, write, &p->run);
    } else {
        rbd_pool_spec_read(cli, 0, &p->run.spec);
        p->run.pool = rbd_pool(cli, &p->run.spec);
    }
}

static int end_config(struct place *p, int code)
{
    if (p->run.image != NULL)
        return rbd_end(&p->run, code);
    limpet_pool_close(p->run.pool);
    return code;
}

static int get_option(struct place *p, const char *name, bool of_image, char **value)
{
    char key[128];
    size_t len;
    snprintf(key, sizeof key, IMAGE_OPTION_PREFIX "%s", name);
    return of_image ? limpet_image_meta_get(p->run.image, key, value, &len)
                    : limpet_pool_meta_get(p->run.pool, key, value, &len);
}

static const char *option_word(struct cli *cli, bool of_image)
{
    const char *name = config_word(cli, of_image, 0, "key");
    for (int i = 0; i < IMAGE_OPTIONS; i++) {
        if (strcmp(image_options[i].name, name) == 0)
            return name;
    }
    fail(EINVAL, "not rbd option: %s; 'rbd config pool ls POOL' lists them", name);
}

static int config_set(struct cli *cli, bool of_image)
{
    struct place p;
    char key[128];
    const char *name = option_word(cli, of_image);
    const char *value = config_word(cli, of_image, 1, "value");
    snprintf(key, sizeof key, IMAGE_OPTION_PREFIX "%s", name);
    rbd_size(name, value, 1);
    begin_config(cli, of_image, true, &p);
    int rc = of_image ? rbd_check_unlocked(&p.run) : 0;
    if (rc == 0)
        rc = of_image ? limpet_image_meta_set(p.run.image, key, value, strlen(value))
                      : limpet_pool_meta_set(p.run.pool, key, value, strlen(value));
    return end_config(&p, rc != 0 ? complain(rc, "failed to set %s: %s", name, rbd_phrase(rc)) : 0);
}

static int config_get(struct cli *cli, bool of_image)
{
    struct place p;
    char *value;
    const char *name = option_word(cli, of_image);
    begin_config(cli, of_image, false, &p);
    int rc = get_option(&p, name, of_image, &value);
    if (rc == -ENOENT)
        return end_config(&p, complain(rc, "%s is not set", name));
    if (rc != 0)
        return end_config(&p, complain(rc, "failed to get %s: %s", name, error_phrase(rc)));
    printf("%s\n", value);
    limpet_free(value);
    return end_config(&p, 0);
}

static int config_rm(struct cli *cli, bool of_image)
{
    struct place p;
    char key[128];
    const char *name = option_word(cli, of_image);
    snprintf(key, sizeof key, IMAGE_OPTION_PREFIX "%s", name);
    begin_config(cli, of_image, true, &p);
    int rc = of_image ? rbd_check_unlocked(&p.run) : 0;
    if (rc == 0)
        rc = of_image ? limpet_image_meta_remove(p.run.image, key)
                      : limpet_pool_meta_remove(p.run.pool, key);
    return end_config(&p,
                      rc != 0 ? complain(rc, "failed to remove %s: %s", name, rbd_phrase(rc)) : 0);
}

static void show_option(struct place *p, const struct image_option *option, struct table *table,
                        json_t *json)
{
    char *value = NULL;
    const char *source = "config";
    int rc = p->run.image != NULL ? get_option(p, option->name, true, &value) : -ENOENT;
    if (rc == 0)
        source = "image";
    else if (get_option(p, option->name, false, &value) == 0)
        source = "pool";
    const char *shown = strcmp(source, "config") != 0 ? value : option->value;
    table_cell(table, "%s", option->name);
    table_cell(table, "%s", shown);
    table_cell(table, "%s", source);
    json_array_append_new(
        json, json_pack("{s:s, s:s, s:s}", "name", option->name, "value", shown, "source", source));
    limpet_free(value);
}

static int config_ls(struct cli *cli, bool of_image)
{
    struct place p;
    begin_config(cli, of_image, false, &p);
    struct table *table = table_create("lll");
    json_t *json = json_array();
    table_cell(table, "Name");
    table_cell(table, "Value");
    table_cell(table, "Source");
    for (int i = 0; i < IMAGE_OPTIONS; i++)
        show_option(&p, &image_options[i], table, json);
    if (rbd_wants_json(cli))
        rbd_print_json(cli, json_incref(json));
    else
        table_print_titled(table);
    table_destroy(table);
    json_decref(json);
    return end_config(&p, 0);
}

int rbd_config_image_set(struct cli *cli)
{
    return config_set(cli, true);
}

int rbd_config_image_get(struct cli *cli)
{
    return config_get(cli, true);
}

int rbd_config_image_ls(struct cli *cli)
{
    return config_ls(cli, true);
}

int rbd_config_image_rm(struct cli *cli)
{
    return config_rm(cli, true);
}

int rbd_config_pool_set(struct cli *cli)
{
    return config_set(cli, false);
}

int rbd_config_pool_get(struct cli *cli)
{
    return config_get(cli, false);
}

int rbd_config_pool_ls(struct cli *cli)
{
    return config_ls(cli, false);
}

int rbd_config_pool_rm(struct cli *cli)
{
    return config_rm(cli, false);
}
