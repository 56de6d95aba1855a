/* limpet rados: objects, with the verbs, options and output of rados. Contents and listings. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/rados.h"

/* ---- What the verbs share ---- */

/* One that there is stays as it is. */
static void make_pool(struct cli *cli, const char *name)
{
    struct limpet_pool *pool;
    int rc = limpet_pool_open(cli->cluster, name, &pool);
    if (rc == 0)
        limpet_pool_close(pool);
    else if (rc == -ENOENT)
        json_decref(remote_call(cli, "osd pool create", json_pack("{s:s}", "pool", name)));
}

struct limpet_pool *rados_pool(struct cli *cli)
{
    const char *name = cli_text(cli, "pool", NULL), *pgid = cli_text(cli, "pgid", NULL);
    uint64_t number = 0;
    uint32_t group = 0;
    if (name == NULL && pgid == NULL)
        fail(EINVAL, "name the pool with -p POOL; '%s' lists the pools", "limpet pool ls");
    if (pgid != NULL)
        cli_parse_pgid(pgid, &number, &group);
    const char *space = cli_text(cli, "namespace", "");
    if (strlen(space) > LIMPET_OBJECT_SPACE_MAX)
        fail(ENAMETOOLONG, "a namespace may have %d bytes at most", LIMPET_OBJECT_SPACE_MAX);
    const char *locator = cli_text(cli, "object-locator", "");
    if (strlen(locator) > LIMPET_OBJECT_LOCATOR_MAX)
        fail(ENAMETOOLONG, "a locator may have %d bytes at most", LIMPET_OBJECT_LOCATOR_MAX);
    if (pgid == NULL)
        cli_connect(cli);
    if (pgid == NULL && cli_has(cli, "create"))
        make_pool(cli, name);
    struct limpet_pool *pool =
        pgid != NULL ? cli_open_pool_of(cli, number, pgid) : cli_open_pool(cli, name);
    int rc = limpet_pool_set_namespace(pool, space);
    if (rc == 0)
        rc = limpet_pool_set_locator(pool, locator);
    if (rc != 0)
        fail(rc, "namespace: %s", error_phrase(rc));
    rados_look_at_snap(cli, pool);
    return pool;
}

struct limpet_op *rados_op(void)
{
    struct limpet_op *op = limpet_op_create();
    if (op == NULL)
        fail(ENOMEM, "out of memory");
    return op;
}

int rados_run(struct limpet_pool *pool, const char *object, struct limpet_op *op, int error,
              struct limpet_object_version *version)
{
    if (error == 0)
        error = limpet_operate(pool, object, op, version);
    limpet_op_destroy(op);
    return error;
}

void *rados_read_input(const char *path, size_t max, size_t *len)
{
    bool is_stdin = path == NULL || strcmp(path, "-") == 0;
    const char *name = is_stdin ? "standard input" : path;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    uint8_t *data = malloc(max + 1);
    *len = 0;
    if (data == NULL)
        fail(ENOMEM, "out of memory");
    ssize_t got = fd < 0 ? -1 : 1;
    while (got > 0 && *len <= max) {
        got = read(fd, data + *len, max + 1 - *len);
        if (got < 0 && errno == EINTR)
            got = 1;
        else if (got > 0)
            *len += (size_t)got;
    }
    if (got < 0)
        fail(errno, "%s: %s", name, error_phrase(errno));
    if (*len > max)
        fail(EFBIG, "%s: more than %zu bytes are too large here", name, max);
    if (!is_stdin)
        close(fd);
    data[*len] = 0;
    return data;
}

void rados_write_file(const char *path, const void *data, size_t len)
{
    bool to_stdout = strcmp(path, "-") == 0;
    FILE *out = to_stdout ? stdout : fopen(path, "we");
    if (out == NULL)
        fail(errno, "%s: %s", path, error_phrase(errno));
    bool good = len == 0 || fwrite(data, 1, len, out) == len;
    good = (to_stdout || fclose(out) == 0) && good;
    if (!good)
        fail(errno, "%s: %s", path, error_phrase(errno));
}

static uint64_t block_size(const struct cli *cli)
{
    return cli_number(cli, "block-size", 4 * 1024 * 1024, 4096, LIMPET_OBJECT_SIZE_MAX);
}

/* ---- put, get, append, truncate, rm, stat ---- */

int rados_put(struct cli *cli)
{
    uint64_t offset = cli_number(cli, "offset", 0, 0, LIMPET_OBJECT_SIZE_MAX);
    block_size(cli);
    struct limpet_pool *pool = rados_pool(cli);
    int code =
        transfer_put(cli, pool, cli->words[0], cli->words[1], cli_has(cli, "offset"), offset);
    limpet_pool_close(pool);
    return code;
}

int rados_get(struct cli *cli)
{
    uint64_t block = block_size(cli);
    struct limpet_pool *pool = rados_pool(cli);
    int code = transfer_get(cli, pool, cli->words[0], cli->words[1], block);
    limpet_pool_close(pool);
    return code;
}

int rados_append(struct cli *cli)
{
    struct limpet_pool *pool = rados_pool(cli);
    int code = transfer_append(cli, pool, cli->words[0], cli->words[1]);
    limpet_pool_close(pool);
    return code;
}

int rados_truncate(struct cli *cli)
{
    uint64_t size = cli_parse_number(cli, "size", cli->words[1], true, 0, LIMPET_OBJECT_SIZE_MAX);
    struct limpet_pool *pool = rados_pool(cli);
    int rc = limpet_truncate(pool, cli->words[0], size);
    int code = rc == 0 ? 0
                       : complain(rc, "error truncating %s>%s: %s", limpet_pool_name(pool),
                                  cli->words[0], error_phrase(rc));
    limpet_pool_close(pool);
    return code;
}

int rados_rm(struct cli *cli)
{
    struct limpet_pool *pool = rados_pool(cli);
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

void rados_time(uint64_t ns, char text[RADOS_TIME_MAX])
{
    time_t seconds = (time_t)(ns / 1000000000);
    char day[40], zone[8];
    struct tm tm;
    localtime_r(&seconds, &tm);
    strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm);
    strftime(zone, sizeof zone, "%z", &tm);
    snprintf(text, RADOS_TIME_MAX, "%s.%06u%s", day, (unsigned)(ns % 1000000000 / 1000), zone);
}

static int show_stat(struct cli *cli, uint64_t resolution_ns)
{
    struct limpet_pool *pool = rados_pool(cli);
    const char *object = cli->words[0];
    struct limpet_stat stat;
    int rc = limpet_stat(pool, object, &stat);
    if (rc != 0) {
        int code = complain(rc, "error stat-ing %s/%s: %s", limpet_pool_name(pool), object,
                            error_phrase(rc));
        limpet_pool_close(pool);
        return code;
    }
    char time[RADOS_TIME_MAX];
    rados_time(stat.mtime_ns - stat.mtime_ns % resolution_ns, time);
    if (cli->format == FORMAT_PLAIN) {
        printf("%s/%s mtime %s, size %" PRIu64 "\n", limpet_pool_name(pool), object, time,
               stat.size);
    } else {
        json_t *json = json_pack("{s:s, s:o, s:s, s:I}", "pool", limpet_pool_name(pool), "object",
                                 name_json(object, strlen(object)), "mtime", time, "size",
                                 (json_int_t)stat.size);
        cli_print_json(cli, json);
        json_decref(json);
    }
    limpet_pool_close(pool);
    return 0;
}

int rados_stat(struct cli *cli)
{
    return show_stat(cli, 1000000000);
}

int rados_stat2(struct cli *cli)
{
    return show_stat(cli, 1);
}

/* Runs one step that changes an object; `doing` is what the message says went wrong. */
static int change(struct cli *cli, const char *doing, struct limpet_op *op, int error)
{
    struct limpet_pool *pool = rados_pool(cli);
    int rc = rados_run(pool, cli->words[0], op, error, NULL);
    int code = rc == 0 ? 0
                       : complain(rc, "error %s %s/%s: %s", doing, limpet_pool_name(pool),
                                  cli->words[0], error_phrase(rc));
    limpet_pool_close(pool);
    return code;
}

int rados_touch(struct cli *cli)
{
    struct limpet_op *op = rados_op();
    if (cli->n_words > 1) {
        uint64_t seconds =
            cli_parse_number(cli, "timestamp", cli->words[1], false, 1, UINT64_MAX / 1000000000);
        limpet_op_set_mtime(op, seconds * 1000000000);
    }
    return change(cli, "touching", op, limpet_op_create_object(op, false));
}

int rados_create(struct cli *cli)
{
    struct limpet_op *op = rados_op();
    return change(cli, "creating", op, limpet_op_create_object(op, true));
}

int rados_set_alloc_hint(struct cli *cli)
{
    struct limpet_op *op = rados_op();
    uint64_t size = cli_parse_number(cli, "size", cli->words[1], true, 0, UINT64_MAX);
    uint64_t write_size = cli_parse_number(cli, "write size", cli->words[2], true, 0, UINT64_MAX);
    return change(cli, "setting alloc-hint", op, limpet_op_hint(op, size, write_size));
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
        if (entry->locator_len > 0) {
            fputc('\t', out);
            fwrite(entry->locator, 1, entry->locator_len, out);
        }
        fputc('\n', out);
        return;
    }
    json_t *json = json_pack("{s:o, s:o}", "namespace", name_json(entry->space, entry->space_len),
                             "name", name_json(entry->name, entry->name_len));
    if (entry->locator_len > 0)
        json_object_set_new(json, "locator", name_json(entry->locator, entry->locator_len));
    fputs(n == 0 ? "[" : ",", out);
    if (cli->format == FORMAT_JSON_PRETTY)
        fputs("\n    ", out);
    json_dumpf(json, out, cli->format == FORMAT_JSON ? JSON_COMPACT : 0);
    json_decref(json);
}

static int only_group(const struct cli *cli, struct limpet_list *list)
{
    uint64_t number;
    uint32_t group;
    const char *pgid = cli_text(cli, "pgid", NULL);
    cli_parse_pgid(pgid, &number, &group);
    int rc = limpet_list_group(list, group);
    if (rc == -ENOENT)
        fail(rc, "pg %s does not exist; 'limpet pg ls' lists the groups", pgid);
    return rc;
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
    if (cli_has(cli, "pgid"))
        rc = only_group(cli, list);
    while (rc == 0 && (rc = limpet_list_next(list, &entry)) == 0)
        list_entry(cli, out, &entry, all, n++);
    limpet_list_close(list);
    if (rc == -ENOENT)
        rc = 0;
    if (rc == 0 && cli->format != FORMAT_PLAIN)
        fprintf(out, "%s%s]\n", n == 0 ? "[" : "",
                cli->format == FORMAT_JSON_PRETTY && n > 0 ? "\n" : "");
    return rc;
}

int rados_ls(struct cli *cli)
{
    struct limpet_pool *pool = rados_pool(cli);
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

/* ---- lspools ---- */

int rados_lspools(struct cli *cli)
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
