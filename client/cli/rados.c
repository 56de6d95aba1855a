/* limpet rados: objects, with the verbs, options and output of rados. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/cli/cli.h"

static struct limpet_pool *open_named_pool(struct cli *cli)
{
    const char *name = cli_text(cli, "pool", NULL);
    if (name == NULL)
        fail(EINVAL, "name the pool with -p POOL; '%s' lists the pools", "limpet pool ls");
    const char *space = cli_text(cli, "namespace", "");
    if (strlen(space) > LIMPET_OBJECT_SPACE_MAX)
        fail(ENAMETOOLONG, "a namespace may have %d bytes at most", LIMPET_OBJECT_SPACE_MAX);
    cli_connect(cli);
    struct limpet_pool *pool = cli_open_pool(cli, name);
    int rc = limpet_pool_set_namespace(pool, space);
    if (rc != 0)
        fail(rc, "namespace: %s", error_phrase(rc));
    return pool;
}

static uint64_t block_size(const struct cli *cli)
{
    return cli_number(cli, "block-size", 4 * 1024 * 1024, 4096, LIMPET_OBJECT_SIZE_MAX);
}

/* ---- put, get, append, truncate, rm, stat ---- */

static int run_put(struct cli *cli)
{
    uint64_t offset = cli_number(cli, "offset", 0, 0, LIMPET_OBJECT_SIZE_MAX);
    block_size(cli);
    struct limpet_pool *pool = open_named_pool(cli);
    int code =
        transfer_put(cli, pool, cli->words[0], cli->words[1], cli_has(cli, "offset"), offset);
    limpet_pool_close(pool);
    return code;
}

static int run_get(struct cli *cli)
{
    uint64_t block = block_size(cli);
    struct limpet_pool *pool = open_named_pool(cli);
    int code = transfer_get(cli, pool, cli->words[0], cli->words[1], block);
    limpet_pool_close(pool);
    return code;
}

static int run_append(struct cli *cli)
{
    struct limpet_pool *pool = open_named_pool(cli);
    int code = transfer_append(cli, pool, cli->words[0], cli->words[1]);
    limpet_pool_close(pool);
    return code;
}

static int run_truncate(struct cli *cli)
{
    uint64_t size = cli_parse_number(cli, "size", cli->words[1], true, 0, LIMPET_OBJECT_SIZE_MAX);
    struct limpet_pool *pool = open_named_pool(cli);
    int rc = limpet_truncate(pool, cli->words[0], size);
    int code = rc == 0 ? 0
                       : complain(rc, "error truncating %s>%s: %s", limpet_pool_name(pool),
                                  cli->words[0], error_phrase(rc));
    limpet_pool_close(pool);
    return code;
}

static int run_rm(struct cli *cli)
{
    struct limpet_pool *pool = open_named_pool(cli);
    int code = 0;
    for (int i = 0; i < cli->n_words; i++) {
        int rc = limpet_remove(pool, cli->words[i]);
        if (rc == 0)
            continue;
        int failed = complain(rc, "error removing %s>%s: %s", limpet_pool_name(pool), cli->words[i],
                              error_phrase(rc));
        code = code == 0 ? failed : code;
    }
    limpet_pool_close(pool);
    return code;
}

/* "2026-11-23T08:18:30.123456+0000", as rados prints it: local time. */
static void format_time(uint64_t ns, char *text, size_t size)
{
    time_t seconds = (time_t)(ns / 1000000000);
    char day[40], zone[8];
    struct tm tm;
    localtime_r(&seconds, &tm);
    strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm);
    strftime(zone, sizeof zone, "%z", &tm);
    snprintf(text, size, "%s.%06u%s", day, (unsigned)(ns % 1000000000 / 1000), zone);
}

static int run_stat(struct cli *cli)
{
    struct limpet_pool *pool = open_named_pool(cli);
    const char *object = cli->words[0];
    struct limpet_stat stat;
    int rc = limpet_stat(pool, object, &stat);
    if (rc != 0) {
        int code = complain(rc, "error stat-ing %s/%s: %s", limpet_pool_name(pool), object,
                            error_phrase(rc));
        limpet_pool_close(pool);
        return code;
    }
    char time[64];
    format_time(stat.mtime_ns, time, sizeof time);
    if (cli->format == FORMAT_PLAIN) {
        printf("%s/%s mtime %s, size %" PRIu64 "\n", limpet_pool_name(pool), object, time,
               stat.size);
    } else {
        json_t *json = json_pack("{s:s, s:s, s:s, s:I}", "pool", limpet_pool_name(pool), "object",
                                 object, "mtime", time, "size", (json_int_t)stat.size);
        if (json == NULL)
            fail(EILSEQ, "the object's name is not UTF-8 and has no place in JSON");
        cli_print_json(cli, json);
        json_decref(json);
    }
    limpet_pool_close(pool);
    return 0;
}

/* ---- ls ---- */

json_t *name_json(const char *name, size_t len)
{
    json_t *text = json_stringn(name, len);
    if (text != NULL)
        return text;
    char *hex = malloc(2 * len + 5);
    if (hex == NULL)
        fail(ENOMEM, "out of memory");
    snprintf(hex, 5, "hex:");
    for (size_t i = 0; i < len; i++)
        snprintf(hex + 4 + 2 * i, 3, "%02x", (unsigned char)name[i]);
    text = json_string(hex);
    free(hex);
    return text;
}

static void list_entry(struct cli *cli, FILE *out, const struct limpet_list_entry *entry, bool all,
                       uint64_t n)
{
    if (cli->format == FORMAT_PLAIN) {
        if (all) {
            fwrite(entry->space, 1, entry->space_len, out);
            fputc('\t', out);
        }
        fwrite(entry->name, 1, entry->name_len, out);
        fputc('\n', out);
        return;
    }
    json_t *json = json_pack("{s:o, s:o}", "namespace", name_json(entry->space, entry->space_len),
                             "name", name_json(entry->name, entry->name_len));
    fputs(n == 0 ? "[" : ",", out);
    if (cli->format == FORMAT_JSON_PRETTY)
        fputs("\n    ", out);
    json_dumpf(json, out, cli->format == FORMAT_JSON ? JSON_COMPACT : 0);
    json_decref(json);
}

static int list_objects(struct cli *cli, struct limpet_pool *pool, FILE *out)
{
    bool all = cli_has(cli, "all") && !cli_has(cli, "default");
    struct limpet_list *list;
    struct limpet_list_entry entry;
    int rc = limpet_list_open(pool, all, &list);
    uint64_t n = 0;
    if (rc != 0)
        return rc;
    while ((rc = limpet_list_next(list, &entry)) == 0)
        list_entry(cli, out, &entry, all, n++);
    limpet_list_close(list);
    if (rc == -ENOENT)
        rc = 0;
    if (rc == 0 && cli->format != FORMAT_PLAIN)
        fprintf(out, "%s%s]\n", n == 0 ? "[" : "",
                cli->format == FORMAT_JSON_PRETTY && n > 0 ? "\n" : "");
    return rc;
}

static int run_ls(struct cli *cli)
{
    struct limpet_pool *pool = open_named_pool(cli);
    const char *path = cli->n_words > 0 ? cli->words[0] : "-";
    bool to_stdout = strcmp(path, "-") == 0;
    FILE *out = to_stdout ? stdout : fopen(path, "we");
    if (out == NULL)
        fail(errno, "%s: %s", path, error_phrase(errno));
    int code = 0;
    int rc = list_objects(cli, pool, out);
    if (rc != 0)
        code = complain(rc, "error listing pool %s: %s", limpet_pool_name(pool), error_phrase(rc));
    if (!to_stdout && fclose(out) != 0 && code == 0)
        code = complain(errno, "%s: %s", path, error_phrase(errno));
    limpet_pool_close(pool);
    return code;
}

/* ---- lspools, df ---- */

static int run_lspools(struct cli *cli)
{
    struct limpet_pool_entry *pools;
    size_t n;
    cli_connect(cli);
    int rc = limpet_pool_list(cli->cluster, &pools, &n);
    if (rc != 0)
        fail(rc, "pools: %s", error_phrase(rc));
    json_t *names = json_array();
    for (size_t i = 0; i < n; i++) {
        if (cli->format == FORMAT_PLAIN)
            printf("%s\n", pools[i].name);
        else
            json_array_append_new(names, json_string(pools[i].name));
    }
    if (cli->format != FORMAT_PLAIN)
        cli_print_json(cli, names);
    json_decref(names);
    limpet_free(pools);
    return 0;
}

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
        json_array_append_new(
            out, json_pack("{s:s, s:I, s:I, s:I, s:I}", "name", json_text(pool, "name"), "id",
                           (json_int_t)json_number(pool, "id"), "size_bytes",
                           (json_int_t)json_number(stats, "bytes_used"), "stored_bytes",
                           (json_int_t)json_number(stats, "stored"), "num_objects",
                           (json_int_t)json_number(stats, "objects")));
    }
    return out;
}

static void print_df(const json_t *pools, uint64_t objects, const json_t *stats)
{
    struct table *t = table_create("lrrr");
    table_cell(t, "POOL_NAME");
    table_cell(t, "USED");
    table_cell(t, "OBJECTS");
    table_cell(t, "STORED");
    size_t i;
    const json_t *pool;
    json_array_foreach(pools, i, pool)
    {
        table_cell(t, "%s", json_text(pool, "name"));
        table_cell(t, "%s", size_text(json_number(pool, "size_bytes")));
        table_cell(t, "%" PRIu64, json_number(pool, "num_objects"));
        table_cell(t, "%s", size_text(json_number(pool, "stored_bytes")));
    }
    table_print(t, "");
    table_destroy(t);
    printf("\ntotal_objects    %" PRIu64 "\n", objects);
    printf("total_used       %s\n", size_text(json_number(stats, "total_used_bytes")));
    printf("total_avail      %s\n", size_text(json_number(stats, "total_avail_bytes")));
    printf("total_space      %s\n", size_text(json_number(stats, "total_bytes")));
}

static int run_rados_df(struct cli *cli)
{
    cli_connect(cli);
    json_t *answer = remote_call(cli, "df", NULL);
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
                                 (json_int_t)objects, "total_used",
                                 (json_int_t)json_number(stats, "total_used_bytes"), "total_avail",
                                 (json_int_t)json_number(stats, "total_avail_bytes"), "total_space",
                                 (json_int_t)json_number(stats, "total_bytes"));
        cli_print_json(cli, json);
        json_decref(json);
    }
    json_decref(pools);
    json_decref(answer);
    return 0;
}

/* ---- Which verb ---- */

int run_rados(struct cli *cli)
{
    static const struct {
        const char *path;
        cli_run run;
    } verbs[] = {
        {"rados put", run_put},
        {"rados get", run_get},
        {"rados append", run_append},
        {"rados truncate", run_truncate},
        {"rados rm", run_rm},
        {"rados stat", run_stat},
        {"rados ls", run_ls},
        {"rados df", run_rados_df},
        {"rados lspools", run_lspools},
        {"rados list-inconsistent-pg", run_list_inconsistent_pg},
        {"rados list-inconsistent-obj", run_list_inconsistent_obj},
    };
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(cli->command->path, verbs[i].path) == 0)
            return verbs[i].run(cli);
    }
    fail(EINVAL, "unknown command '%s'", cli->command->path);
}
