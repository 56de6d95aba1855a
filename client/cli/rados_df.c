/* limpet rados df: objects and space of the pools, in the layout of rados df. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/cli/rados.h"

/* What rados calls what the monitors know of a pool; what they do not know of is 0. */
static const struct {
    const char *name, *key;
} figures[] = {
    {"stored_bytes", "stored"},
    {"num_objects", "objects"},
    {"num_object_clones", "clones"},
    {"num_object_copies", "copies"},
    {"num_objects_missing_on_primary", "missing_on_primary"},
    {"num_objects_unfound", "unfound"},
    {"num_objects_degraded", "degraded"},
    {"read_ops", "rd"},
    {"read_bytes", "rd_bytes"},
    {"write_ops", "wr"},
    {"write_bytes", "wr_bytes"},
    {"compress_bytes_used", "compress_bytes_used"},
    {"compress_under_bytes", "compress_under_bytes"},
};

/* All pools, or the one of that name. */
static json_t *df_pools(const json_t *answer, const char *wanted)
{
    json_t *out = json_array();
    size_t i;
    const json_t *pool;
    json_array_foreach(json_object_get(answer, "pools"), i, pool)
    {
        if (wanted != NULL && strcmp(json_text(pool, "name"), wanted) != 0)
            continue;
        const json_t *stats = json_object_get(pool, "stats");
        json_int_t used = (json_int_t)json_number(stats, "bytes_used");
        json_t *row = json_pack("{s:s, s:I, s:I, s:I}", "name", json_text(pool, "name"), "id",
                                (json_int_t)json_number(pool, "id"), "size_bytes", used, "size_kb",
                                (used + 1023) / 1024);
        for (size_t k = 0; k < sizeof figures / sizeof figures[0]; k++)
            json_object_set_new(row, figures[k].name,
                                json_integer((json_int_t)json_number(stats, figures[k].key)));
        json_array_append_new(out, row);
    }
    return out;
}

static void print_pool(struct table *t, const json_t *pool)
{
    static const char *const columns[] = {"size_bytes",
                                          "num_objects",
                                          "num_object_clones",
                                          "num_object_copies",
                                          "num_objects_missing_on_primary",
                                          "num_objects_unfound",
                                          "num_objects_degraded",
                                          "read_ops",
                                          "read_bytes",
                                          "write_ops",
                                          "write_bytes",
                                          "compress_bytes_used",
                                          "compress_under_bytes"};
    table_cell(t, "%s", json_text(pool, "name"));
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        uint64_t n = json_number(pool, columns[i]);
        if (strstr(columns[i], "bytes") != NULL)
            table_cell(t, "%s", size_text(n));
        else
            table_cell(t, "%" PRIu64, n);
    }
}

static void print_df(const json_t *pools, uint64_t objects, const json_t *stats)
{
    static const char *const heads[] = {
        "POOL_NAME", "USED",   "OBJECTS", "CLONES", "COPIES", "MISSING_ON_PRIMARY", "UNFOUND",
        "DEGRADED",  "RD_OPS", "RD",      "WR_OPS", "WR",     "USED COMPR",         "UNDER COMPR"};
    struct table *t = table_create("lrrrrrrrrrrrrr");
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        table_cell(t, "%s", heads[i]);
    size_t i;
    const json_t *pool;
    json_array_foreach(pools, i, pool)
    {
        print_pool(t, pool);
    }
    table_print(t, "");
    table_destroy(t);
    printf("\ntotal_objects    %" PRIu64 "\n", objects);
    printf("total_used       %s\n", size_text(json_number(stats, "total_used_bytes")));
    printf("total_avail      %s\n", size_text(json_number(stats, "total_avail_bytes")));
    printf("total_space      %s\n", size_text(json_number(stats, "total_bytes")));
}

/* As rados has it: totals are in KiB. */
static json_int_t kib(const json_t *stats, const char *key)
{
    return (json_int_t)(json_number(stats, key) / 1024);
}

int rados_df(struct cli *cli)
{
    cli_connect(cli);
    json_t *answer = remote_call(cli, "df", json_pack("{s:s}", "detail", "detail"));
    const json_t *stats = json_object_get(answer, "stats");
    const char *wanted = cli_text(cli, "pool", NULL);
    json_t *pools = df_pools(answer, wanted);
    if (wanted != NULL && json_array_size(pools) == 0)
        fail(ENOENT, "error opening pool %s: %s; 'limpet pool ls' lists the pools", wanted,
             error_phrase(ENOENT));
    uint64_t objects = 0;
    size_t i;
    const json_t *pool;
    json_array_foreach(pools, i, pool)
    {
        objects += json_number(pool, "num_objects");
    }
    if (cli->format == FORMAT_PLAIN) {
        print_df(pools, objects, stats);
    } else {
        json_t *json = json_pack("{s:O, s:I, s:I, s:I, s:I}", "pools", pools, "total_objects",
                                 (json_int_t)objects, "total_used", kib(stats, "total_used_bytes"),
                                 "total_avail", kib(stats, "total_avail_bytes"), "total_space",
                                 kib(stats, "total_bytes"));
        cli_print_json(cli, json);
        json_decref(json);
    }
    json_decref(pools);
    json_decref(answer);
    return 0;
}
