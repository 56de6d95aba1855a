/* limpet rados: attributes and maps of objects. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/rados.h"

enum { PAGE_PAIRS = 1000 };

/* ---- What the verbs share ---- */

/* The end of a verb: "error DOING p/object[/what]: ...". */
static int finish(struct limpet_pool *pool, int rc, const char *doing, const char *object,
                  const char *what)
{
    int code = 0;
    if (rc != 0)
        code = complain(rc, "error %s %s/%s%s%s: %s", doing, limpet_pool_name(pool), object,
                        what != NULL ? "/" : "", what != NULL ? what : "", error_phrase(rc));
    limpet_pool_close(pool);
    return code;
}

/* With a zero after it. */
struct text {
    const char *data;
    size_t len;
};

/* A value: of a word, of --input-file, or all of standard input. */
static struct text value_of(const struct cli *cli, const char *word, size_t max)
{
    struct text value = {word, word != NULL ? strlen(word) : 0};
    const char *path = cli_text(cli, "input-file", NULL);
    if (word != NULL && path != NULL)
        fail(EINVAL, "a value is given, and --input-file names another one");
    if (word == NULL)
        value.data = rados_read_input(path, max, &value.len);
    return value;
}

/* The key of the map: a word, unless --omap-key-file has it. *next: the word after it. */
static struct text key_of(const struct cli *cli, int *next)
{
    const char *path = cli_text(cli, "omap-key-file", NULL);
    struct text key = {NULL, 0};
    *next = 1;
    if (path != NULL) {
        key.data = rados_read_input(path, LIMPET_OMAP_KEY_MAX, &key.len);
    } else if (cli->n_words > 1) {
        key = (struct text){cli->words[1], strlen(cli->words[1])};
        *next = 2;
    } else {
        fail(EINVAL, "name the key of the map, or a file that holds it: --omap-key-file FILE");
    }
    return key;
}

static char *copy_of(struct text key)
{
    char *text = malloc(key.len + 1);
    if (text == NULL)
        fail(ENOMEM, "out of memory");
    memcpy(text, key.data, key.len);
    text[key.len] = 0;
    return text;
}

static const char *word_or_null(const struct cli *cli, int i)
{
    return i < cli->n_words ? cli->words[i] : NULL;
}

/* ---- Bytes as rados shows them ---- */

/* The row is one byte again and again, and so was the one before it, the same byte. */
static bool repeats(const uint8_t *row, const uint8_t *before)
{
    for (size_t i = 0; i < 16; i++) {
        if (row[i] != row[0] || before[i] != row[0])
            return false;
    }
    return true;
}

static void print_row(const uint8_t *row, size_t n, size_t offset)
{
    printf("%08zx ", offset);
    for (size_t i = 0; i < 16; i++) {
        if (i == 8)
            putchar(' ');
        if (i < n)
            printf(" %02x", row[i]);
        else
            fputs("   ", stdout);
    }
    fputs("  |", stdout);
    for (size_t i = 0; i < n; i++)
        putchar(row[i] >= 32 && row[i] < 127 ? row[i] : '.');
    fputs("|\n", stdout);
}

static void print_hexdump(const uint8_t *data, size_t len)
{
    bool starred = false;
    for (size_t at = 0; at < len; at += 16) {
        if (at > 0 && len - at > 16 && repeats(data + at, data + at - 16)) {
            if (!starred)
                puts("*");
            starred = true;
            continue;
        }
        starred = false;
        print_row(data + at, len - at < 16 ? len - at : 16, at);
    }
    if (len > 0)
        printf("%08zx\n", len);
    putchar('\n');
}

static void show_bytes(const char *what, const void *data, size_t len)
{
    printf("%s (%zu bytes) :\n", what, len);
    print_hexdump(data, len);
}

/* Into a file, or as a table of its bytes. */
static void give_bytes(const char *what, const char *path, const void *data, size_t len)
{
    if (path == NULL) {
        show_bytes(what, data, len);
        return;
    }
    fprintf(stderr, "Writing to %s\n", path);
    rados_write_file(path, data, len);
}

/* ---- Attributes ---- */

int rados_setxattr(struct cli *cli)
{
    struct limpet_pool *pool = rados_pool(cli);
    const char *object = cli->words[0], *name = cli->words[1];
    struct text value = value_of(cli, word_or_null(cli, 2), LIMPET_ATTR_VALUE_MAX);
    struct limpet_op *op = rados_op();
    int rc = limpet_op_attr_set(op, name, value.data, value.len);
    return finish(pool, rados_run(pool, object, op, rc, NULL), "setting xattr", object, name);
}

int rados_getxattr(struct cli *cli)
{
    struct limpet_pool *pool = rados_pool(cli);
    const char *object = cli->words[0], *name = cli->words[1];
    struct limpet_op *op = rados_op();
    void *value = NULL;
    size_t len = 0;
    int rc = limpet_op_attr_get(op, name, &value, &len, NULL);
    rc = rados_run(pool, object, op, rc, NULL);
    if (rc == 0)
        fwrite(value, 1, len, stdout);
    limpet_free(value);
    return finish(pool, rc, "getting xattr", object, name);
}

/* The keys of pairs, or an array of them. */
static void print_keys(struct cli *cli, struct limpet_pairs *pairs, json_t *names)
{
    struct limpet_pair pair;
    while (limpet_pairs_next(pairs, &pair) == 0) {
        if (cli->format != FORMAT_PLAIN) {
            json_array_append_new(names, name_json(pair.key, pair.key_len));
            continue;
        }
        fwrite(pair.key, 1, pair.key_len, stdout);
        putchar('\n');
    }
}

static void print_names(struct cli *cli, json_t *names, int rc)
{
    if (rc == 0 && cli->format != FORMAT_PLAIN)
        cli_print_json(cli, names);
    json_decref(names);
}

int rados_listxattr(struct cli *cli)
{
    struct limpet_pool *pool = rados_pool(cli);
    const char *object = cli->words[0];
    struct limpet_op *op = rados_op();
    struct limpet_pairs *pairs = NULL;
    int rc = limpet_op_attr_list(op, &pairs, NULL);
    rc = rados_run(pool, object, op, rc, NULL);
    json_t *names = json_array();
    if (rc == 0)
        print_keys(cli, pairs, names);
    print_names(cli, names, rc);
    limpet_pairs_destroy(pairs);
    return finish(pool, rc, "getting xattr set", object, NULL);
}

int rados_rmxattr(struct cli *cli)
{
    struct limpet_pool *pool = rados_pool(cli);
    const char *object = cli->words[0], *name = cli->words[1];
    struct limpet_op *op = rados_op();
    int rc = limpet_op_attr_remove(op, name);
    return finish(pool, rados_run(pool, object, op, rc, NULL), "removing xattr", object, name);
}

/* ---- Maps ---- */

typedef void (*take_pair)(struct cli *cli, const struct limpet_pair *pair, json_t *out);

/* One page; *after, of malloc, is where the next one begins. */
static int walk_page(struct cli *cli, struct limpet_pool *pool, take_pair take, json_t *out,
                     struct text *after, bool *more)
{
    struct limpet_op *op = rados_op();
    struct limpet_pairs *pairs = NULL;
    struct limpet_pair pair = {0};
    int rc =
        limpet_op_omap_list(op, after->data, after->len, NULL, 0, PAGE_PAIRS, &pairs, more, NULL);
    rc = rados_run(pool, cli->words[0], op, rc, NULL);
    if (rc != 0)
        return rc;
    while (limpet_pairs_next(pairs, &pair) == 0) {
        take(cli, &pair, out);
        if (*more) {
            free((void *)(uintptr_t)after->data);
            after->data = copy_of((struct text){pair.key, pair.key_len});
            after->len = pair.key_len;
        }
    }
    if (*more && pair.key == NULL)
        rc = -EPROTO;
    limpet_pairs_destroy(pairs);
    return rc;
}

static int walk_map(struct cli *cli, take_pair take, const char *doing)
{
    struct limpet_pool *pool = rados_pool(cli);
    struct text after = {NULL, 0};
    json_t *out = json_array();
    bool more = true;
    int rc = 0;
    while (rc == 0 && more)
        rc = walk_page(cli, pool, take, out, &after, &more);
    print_names(cli, out, rc);
    free((void *)(uintptr_t)after.data);
    return finish(pool, rc, doing, cli->words[0], NULL);
}

static void take_key(struct cli *cli, const struct limpet_pair *pair, json_t *out)
{
    if (cli->format != FORMAT_PLAIN) {
        json_array_append_new(out, name_json(pair->key, pair->key_len));
        return;
    }
    fwrite(pair->key, 1, pair->key_len, stdout);
    putchar('\n');
}

static void take_value(struct cli *cli, const struct limpet_pair *pair, json_t *out)
{
    if (cli->format != FORMAT_PLAIN) {
        json_array_append_new(out,
                              json_pack("{s:o, s:o}", "key", name_json(pair->key, pair->key_len),
                                        "value", name_json(pair->value, pair->value_len)));
        return;
    }
    take_key(cli, pair, out);
    show_bytes("value", pair->value, pair->value_len);
}

int rados_listomapkeys(struct cli *cli)
{
    return walk_map(cli, take_key, "getting omap key set");
}

int rados_listomapvals(struct cli *cli)
{
    return walk_map(cli, take_value, "getting omap keys");
}

int rados_getomapval(struct cli *cli)
{
    int next;
    struct text key = key_of(cli, &next);
    struct limpet_pool *pool = rados_pool(cli);
    const char *object = cli->words[0], *path = word_or_null(cli, next);
    struct limpet_op *op = rados_op();
    struct limpet_pairs *pairs = NULL;
    struct limpet_pair pair = {.key = key.data, .key_len = key.len};
    int rc = limpet_op_omap_get(op, &pair, 1, &pairs, NULL);
    rc = rados_run(pool, object, op, rc, NULL);
    if (rc != 0)
        return finish(pool, rc, "getting omap value", object, key.data);
    if (limpet_pairs_next(pairs, &pair) != 0) {
        printf("No such key: %s/%s/%s\n", limpet_pool_name(pool), object, key.data);
        fflush(stdout);
        return finish(pool, -ENOENT, "getting omap value", object, key.data);
    }
    give_bytes("value", path, pair.value, pair.value_len);
    limpet_pairs_destroy(pairs);
    return finish(pool, 0, "", object, NULL);
}

int rados_setomapval(struct cli *cli)
{
    int next;
    struct text key = key_of(cli, &next);
    struct limpet_pool *pool = rados_pool(cli);
    const char *object = cli->words[0];
    struct text value = value_of(cli, word_or_null(cli, next), LIMPET_OMAP_VALUE_MAX);
    struct limpet_pair pair = {key.data, key.len, value.data, value.len};
    struct limpet_op *op = rados_op();
    int rc = limpet_op_omap_set(op, &pair, 1);
    return finish(pool, rados_run(pool, object, op, rc, NULL), "setting omap value", object,
                  key.data);
}

int rados_rmomapkey(struct cli *cli)
{
    int next;
    struct text key = key_of(cli, &next);
    struct limpet_pool *pool = rados_pool(cli);
    const char *object = cli->words[0];
    struct limpet_pair pair = {.key = key.data, .key_len = key.len};
    struct limpet_op *op = rados_op();
    int rc = limpet_op_omap_remove(op, &pair, 1);
    return finish(pool, rados_run(pool, object, op, rc, NULL), "removing omap key", object,
                  key.data);
}

int rados_clearomap(struct cli *cli)
{
    struct limpet_pool *pool = rados_pool(cli);
    int code = 0;
    for (int i = 0; i < cli->n_words; i++) {
        struct limpet_op *op = rados_op();
        int rc = rados_run(pool, cli->words[i], op, limpet_op_omap_clear(op), NULL);
        if (rc == 0)
            continue;
        int failed = complain(rc, "error clearing omap keys %s/%s: %s", limpet_pool_name(pool),
                              cli->words[i], error_phrase(rc));
        code = code == 0 ? failed : code;
    }
    limpet_pool_close(pool);
    return code;
}

int rados_getomapheader(struct cli *cli)
{
    struct limpet_pool *pool = rados_pool(cli);
    const char *object = cli->words[0];
    struct limpet_op *op = rados_op();
    void *header = NULL;
    size_t len = 0;
    int rc = limpet_op_omap_get_header(op, &header, &len, NULL);
    rc = rados_run(pool, object, op, rc, NULL);
    if (rc == 0)
        give_bytes("header", word_or_null(cli, 1), header, len);
    limpet_free(header);
    return finish(pool, rc, "getting omap header", object, NULL);
}

int rados_setomapheader(struct cli *cli)
{
    struct limpet_pool *pool = rados_pool(cli);
    const char *object = cli->words[0], *value = cli->words[1];
    struct limpet_op *op = rados_op();
    int rc = limpet_op_omap_set_header(op, value, strlen(value));
    return finish(pool, rados_run(pool, object, op, rc, NULL), "setting omap header", object, NULL);
}
