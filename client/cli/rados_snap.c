/* limpet rados: snapshots of pools, and what objects keep for snapshots. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/cli/rados.h"

/* The number of a pool's snapshot; 0: there is none. */
static uint64_t find_snap(struct limpet_pool *pool, const char *name, int *error)
{
    struct limpet_snap *snaps;
    size_t n;
    uint64_t found = 0;
    *error = limpet_snap_list(pool, &snaps, &n);
    for (size_t i = 0; *error == 0 && i < n; i++)
        if (strcmp(snaps[i].name, name) == 0)
            found = snaps[i].id;
    if (*error == 0 && found == 0)
        *error = -ENOENT;
    limpet_free(snaps);
    return found;
}

void rados_look_at_snap(struct cli *cli, struct limpet_pool *pool)
{
    const char *name = cli_text(cli, "snap", NULL);
    int rc = 0;
    uint64_t snap = cli_number(cli, "snapid", 0, 0, UINT64_MAX);
    if (name != NULL) {
        snap = find_snap(pool, name, &rc);
        if (rc != 0)
            fail(rc, "error looking up snap '%s': %s", name, error_phrase(rc));
    }
    rc = limpet_pool_set_snap_read(pool, snap);
    if (rc != 0)
        fail(rc, "error setting the snapshot: %s", error_phrase(rc));
}

int rados_mksnap(struct cli *cli)
{
    struct limpet_pool *pool = rados_pool(cli);
    const char *name = cli->words[0];
    int rc = limpet_snap_create(pool, name), code = 0;
    if (rc == 0)
        printf("created pool %s snap %s\n", limpet_pool_name(pool), name);
    else
        code = complain(rc, "error creating pool %s snapshot %s: %s", limpet_pool_name(pool), name,
                        error_phrase(rc));
    limpet_pool_close(pool);
    return code;
}

int rados_rmsnap(struct cli *cli)
{
    struct limpet_pool *pool = rados_pool(cli);
    const char *name = cli->words[0];
    int rc = limpet_snap_remove(pool, name), code = 0;
    if (rc == 0)
        printf("removed pool %s snap %s\n", limpet_pool_name(pool), name);
    else
        code = complain(rc, "error removing pool %s snapshot %s: %s", limpet_pool_name(pool), name,
                        error_phrase(rc));
    limpet_pool_close(pool);
    return code;
}

static void print_snap(const struct limpet_snap *snap)
{
    time_t seconds = (time_t)(snap->stamp_ns / 1000000000);
    struct tm tm;
    char text[64] = "";
    if (localtime_r(&seconds, &tm) != NULL)
        strftime(text, sizeof text, "%Y.%m.%d %H:%M:%S", &tm);
    printf("%" PRIu64 "\t%s\t%s\n", snap->id, snap->name, text);
}

static void print_snaps(const struct limpet_snap *snaps, size_t n)
{
    for (size_t i = 0; i < n; i++)
        print_snap(&snaps[i]);
    printf("%zu snaps\n", n);
}

static void print_snaps_json(struct cli *cli, const struct limpet_snap *snaps, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        char stamp[RADOS_TIME_MAX];
        rados_time(snaps[i].stamp_ns, stamp);
        json_array_append_new(list, json_pack("{s:I, s:s, s:s}", "id", (json_int_t)snaps[i].id,
                                              "name", snaps[i].name, "stamp", stamp));
    }
    cli_print_json(cli, list);
    json_decref(list);
}

int rados_lssnap(struct cli *cli)
{
    struct limpet_pool *pool = rados_pool(cli);
    struct limpet_snap *snaps;
    size_t n;
    int rc = limpet_snap_list(pool, &snaps, &n), code = 0;
    if (rc != 0)
        code = complain(rc, "error listing the snapshots of pool %s: %s", limpet_pool_name(pool),
                        error_phrase(rc));
    else if (cli->format == FORMAT_PLAIN)
        print_snaps(snaps, n);
    else
        print_snaps_json(cli, snaps, n);
    limpet_free(snaps);
    limpet_pool_close(pool);
    return code;
}

int rados_rollback(struct cli *cli)
{
    struct limpet_pool *pool = rados_pool(cli);
    const char *object = cli->words[0], *name = cli->words[1];
    int rc, code = 0;
    uint64_t snap = find_snap(pool, name, &rc);
    if (rc == 0)
        rc = limpet_rollback(pool, object, snap);
    if (rc == 0)
        printf("rolled back pool %s to snapshot %s\n", limpet_pool_name(pool), name);
    else
        code = complain(rc, "error rolling back pool %s to snapshot %s: %s", limpet_pool_name(pool),
                        name, error_phrase(rc));
    limpet_pool_close(pool);
    return code;
}

/* ---- listsnaps ---- */

static json_t *overlap_json(const struct limpet_clone *clone)
{
    json_t *list = json_array();
    for (size_t i = 0; i < clone->n_overlap; i++)
        json_array_append_new(list,
                              json_pack("{s:I, s:I}", "start", (json_int_t)clone->overlap[i].offset,
                                        "length", (json_int_t)clone->overlap[i].len));
    return list;
}

static void print_set_json(struct cli *cli, const char *object, const struct limpet_snapset *set)
{
    json_t *clones = json_array();
    for (size_t i = 0; i < set->n_clones; i++) {
        const struct limpet_clone *clone = &set->clones[i];
        json_t *snaps = json_array();
        for (size_t k = 0; k < clone->n_snaps; k++)
            json_array_append_new(snaps, json_integer((json_int_t)clone->snaps[k]));
        json_array_append_new(clones, json_pack("{s:I, s:o, s:I, s:o}", "id", (json_int_t)clone->id,
                                                "snapshots", snaps, "size", (json_int_t)clone->size,
                                                "overlaps", overlap_json(clone)));
    }
    if (set->head_exists)
        json_array_append_new(clones, json_pack("{s:s, s:[], s:I}", "id", "head", "snapshots",
                                                "size", (json_int_t)set->head_size));
    json_t *json =
        json_pack("{s:o, s:o}", "name", name_json(object, strlen(object)), "clones", clones);
    cli_print_json(cli, json);
    json_decref(json);
}

static void print_set(const char *object, const struct limpet_snapset *set)
{
    printf("%s:\ncloneid\tsnaps\tsize\toverlap\n", object);
    for (size_t i = 0; i < set->n_clones; i++) {
        const struct limpet_clone *clone = &set->clones[i];
        printf("%" PRIu64, clone->id);
        for (size_t k = 0; k < clone->n_snaps; k++)
            printf("%s%" PRIu64, k == 0 ? "\t" : ",", clone->snaps[k]);
        printf("\t%" PRIu64 "\t[", clone->size);
        for (size_t k = 0; k < clone->n_overlap; k++)
            printf("%s%" PRIu64 "~%" PRIu64, k == 0 ? "" : ",", clone->overlap[k].offset,
                   clone->overlap[k].len);
        printf("]\n");
    }
    if (set->head_exists)
        printf("head\t-\t%" PRIu64 "\n", set->head_size);
}

int rados_listsnaps(struct cli *cli)
{
    struct limpet_pool *pool = rados_pool(cli);
    const char *object = cli->words[0];
    struct limpet_snapset *set;
    int rc = limpet_list_snaps(pool, object, &set), code = 0;
    if (rc != 0)
        code = complain(rc, "error listing snap shots %s/%s: %s", limpet_pool_name(pool), object,
                        error_phrase(rc));
    else if (cli->format == FORMAT_PLAIN)
        print_set(object, set);
    else
        print_set_json(cli, object, set);
    limpet_snapset_destroy(set);
    limpet_pool_close(pool);
    return code;
}
