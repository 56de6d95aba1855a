/* limpet fs: file systems. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/cli/fs.h"

void fs_spec_parse(const char *text, struct fs_spec *out)
{
    const char *slash = strchr(text, '/'), *name = slash != NULL ? slash + 1 : text;
    size_t pool_len = slash != NULL ? (size_t)(slash - text) : 2, name_len = strlen(name);
    if (name_len == 0 || pool_len == 0 || strchr(name, '/') != NULL)
        fail(EINVAL, "'%s' names no file system; write [POOL/]NAME", text);
    if (name_len >= sizeof out->name || pool_len >= sizeof out->pool)
        fail(ENAMETOOLONG, "'%s': %s", text, error_phrase(ENAMETOOLONG));
    snprintf(out->pool, sizeof out->pool, "%.*s", (int)pool_len, slash != NULL ? text : "fs");
    snprintf(out->name, sizeof out->name, "%s", name);
}

static void fail_missing(const struct fs_spec *spec)
{
    fail(ENOENT, "there is no file system '%s' in pool '%s'; 'limpet fs ls' shows all", spec->name,
         spec->pool);
}

struct limpet_fs *fs_spec_open(struct cli *cli, const struct fs_spec *spec,
                               struct limpet_pool **pool)
{
    struct limpet_fs *fs;
    cli_connect(cli);
    *pool = cli_open_pool(cli, spec->pool);
    int rc = limpet_fs_open(*pool, spec->name, &fs);
    if (rc == -ENOENT)
        fail_missing(spec);
    if (rc != 0)
        fail(rc, "file system '%s': %s", spec->name, error_phrase(rc));
    return fs;
}

int fs_create(struct cli *cli)
{
    struct fs_spec spec;
    uint64_t data_pool = 0;
    fs_spec_parse(cli->words[0], &spec);
    uint64_t size = cli_number(cli, "object-size", 1 << LIMPET_FS_ORDER, 4096, 64 << 20);
    unsigned order = 12;
    while (UINT64_C(1) << order < size)
        order++;
    if (UINT64_C(1) << order != size)
        fail(EINVAL, "--object-size must be a power of two, 4K to 64M");
    cli_connect(cli);
    struct limpet_pool *pool = cli_open_pool(cli, spec.pool);
    const char *data = cli_text(cli, "data-pool", NULL);
    if (data != NULL) {
        struct limpet_pool *other = cli_open_pool(cli, data);
        data_pool = limpet_pool_id(other);
        limpet_pool_close(other);
    }
    unsigned split_at = (unsigned)cli_number(cli, "split", 0, 0, LIMPET_FS_SPLIT_MAX);
    int rc = limpet_fs_create(pool, spec.name, data_pool, order, split_at);
    if (rc == -EEXIST)
        fail(EEXIST, "there is a file system '%s' in pool '%s' already", spec.name, spec.pool);
    if (rc == -EILSEQ)
        fail(EILSEQ, "'%s' is not UTF-8, which names of file systems are", spec.name);
    if (rc != 0)
        fail(rc, "create failed: %s", error_phrase(rc));
    limpet_pool_close(pool);
    return 0;
}

static void list_pool(struct cli *cli, const struct limpet_pool_entry *entry, struct table *table,
                      json_t *all)
{
    struct limpet_pool *pool;
    struct limpet_fs_info *list = NULL;
    size_t n = 0;
    int rc = limpet_pool_open_id(cli->cluster, entry->id, &pool);
    if (rc == 0)
        rc = limpet_fs_list(pool, &list, &n);
    if (rc != 0 && rc != -ENOENT)
        fail(rc, "pool '%s': %s", entry->name, error_phrase(rc));
    for (size_t i = 0; i < n; i++) {
        table_cell(table, "%s/%s", entry->name, list[i].name);
        table_cell(table, "%s", size_text(UINT64_C(1) << list[i].order));
        table_end_row(table);
        json_array_append_new(all, json_pack("{s:s, s:s, s:I, s:I}", "name", list[i].name, "pool",
                                             entry->name, "object_size",
                                             (json_int_t)(UINT64_C(1) << list[i].order),
                                             "data_pool", (json_int_t)list[i].data_pool));
    }
    free(list);
    limpet_pool_close(pool);
}

int fs_ls(struct cli *cli)
{
    struct limpet_pool_entry *pools;
    size_t n;
    cli_connect(cli);
    int rc = limpet_pool_list(cli->cluster, &pools, &n);
    if (rc != 0)
        fail(rc, "%s", error_phrase(rc));
    struct table *table = table_create("ll");
    table_cell(table, "NAME");
    table_cell(table, "OBJECTS");
    table_end_row(table);
    json_t *all = json_array();
    for (size_t i = 0; i < n; i++)
        list_pool(cli, &pools[i], table, all);
    if (cli->format != FORMAT_PLAIN)
        cli_print_json(cli, all);
    else if (json_array_size(all) > 0)
        table_print_titled(table);
    json_decref(all);
    table_destroy(table);
    limpet_free(pools);
    return 0;
}

int fs_rm(struct cli *cli)
{
    struct fs_spec spec;
    fs_spec_parse(cli->words[0], &spec);
    if (!cli_has(cli, "force") && !cli_has(cli, "yes-i-really-mean-it"))
        fail(EPERM, "all files of '%s' would be lost; say --yes-i-really-mean-it", spec.name);
    cli_connect(cli);
    struct limpet_pool *pool = cli_open_pool(cli, spec.pool);
    int rc = limpet_fs_remove(pool, spec.name, cli_has(cli, "force"));
    if (rc == -ENOENT)
        fail_missing(&spec);
    if (rc == -EBUSY)
        fail(EBUSY,
             "'%s' is mounted; 'limpet fs status %s' shows where, --force removes it "
             "nevertheless",
             spec.name, cli->words[0]);
    if (rc != 0)
        fail(rc, "rm failed: %s", error_phrase(rc));
    limpet_pool_close(pool);
    return 0;
}

int fs_status(struct cli *cli)
{
    struct fs_spec spec;
    struct limpet_pool *pool;
    struct limpet_fs_info info;
    struct limpet_fs_space space;
    struct limpet_fs_client *clients = NULL;
    size_t n = 0;
    fs_spec_parse(cli->words[0], &spec);
    struct limpet_fs *fs = fs_spec_open(cli, &spec, &pool);
    limpet_fs_info(fs, &info);
    int rc = limpet_fs_space(fs, &space);
    if (rc == 0)
        rc = limpet_fs_clients(fs, &clients, &n);
    if (rc != 0)
        fail(rc, "%s", error_phrase(rc));
    if (cli->format != FORMAT_PLAIN) {
        json_t *list = json_array();
        for (size_t i = 0; i < n; i++)
            json_array_append_new(list, json_pack("{s:I, s:s}", "instance",
                                                  (json_int_t)clients[i].instance, "address",
                                                  clients[i].address));
        json_t *all = json_pack("{s:s, s:s, s:I, s:I, s:o}", "name", info.name, "pool", spec.pool,
                                "bytes", (json_int_t)space.bytes, "bytes_free",
                                (json_int_t)space.bytes_free, "clients", list);
        cli_print_json(cli, all);
        json_decref(all);
    } else {
        printf("%s/%s: %s free of %s, %zu client%s\n", spec.pool, info.name,
               size_text(space.bytes_free), size_text(space.bytes), n, n == 1 ? "" : "s");
        for (size_t i = 0; i < n; i++)
            printf("  %s/%" PRIu64 "\n", clients[i].address, clients[i].instance);
    }
    limpet_free(clients);
    limpet_fs_close(fs);
    limpet_pool_close(pool);
    return 0;
}
