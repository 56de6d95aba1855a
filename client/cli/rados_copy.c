/* limpet rados: copies of objects and pools, export, import, purge. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/rados_image.h"
#include "client/cli/rados_stream.h"

/* ---- cp ---- */

static bool is_same(struct cli *cli, const char *target, const char *copy)
{
    return strcmp(cli_text(cli, "pool", ""), target) == 0 && strcmp(cli->words[0], copy) == 0 &&
           strcmp(cli_text(cli, "namespace", ""), cli_text(cli, "target-nspace", "")) == 0 &&
           strcmp(cli_text(cli, "object-locator", ""), cli_text(cli, "target-locator", "")) == 0;
}

int rados_cp(struct cli *cli)
{
    struct limpet_pool *pool = rados_pool(cli);
    const char *object = cli->words[0], *target = cli_text(cli, "target-pool", NULL);
    const char *copy = cli->n_words > 1 ? cli->words[1] : object;
    if (target == NULL)
        target = limpet_pool_name(pool);
    if (is_same(cli, target, copy))
        fail(EINVAL, "cannot copy object into itself");
    struct limpet_pool *to = cli_open_pool(cli, target);
    int rc = limpet_pool_set_namespace(to, cli_text(cli, "target-nspace", ""));
    if (rc == 0)
        rc = limpet_pool_set_locator(to, cli_text(cli, "target-locator", ""));
    if (rc == 0)
        rc = image_copy(pool, object, to, copy);
    int code = rc == 0 ? 0
                       : complain(rc, "error copying %s/%s => %s/%s: %s", limpet_pool_name(pool),
                                  object, target, copy, error_phrase(rc));
    limpet_pool_close(to);
    limpet_pool_close(pool);
    return code;
}

/* ---- All objects of a pool ---- */

/* Names with zeroes inside cannot be asked for by this program. */
static bool is_plain(const struct limpet_list_entry *entry)
{
    return strlen(entry->name) == entry->name_len && strlen(entry->space) == entry->space_len &&
           strlen(entry->locator) == entry->locator_len;
}

/* The handle is about this object's namespace and locator from now on. */
static int aim(struct limpet_pool *pool, const char *space, const char *locator)
{
    int rc = limpet_pool_set_namespace(pool, space);
    return rc == 0 ? limpet_pool_set_locator(pool, locator) : rc;
}

typedef int (*visit_object)(void *ctx, const struct limpet_list_entry *entry);

/* An object that is gone meanwhile is none of the pool's any more. */
static int for_all(struct limpet_pool *pool, visit_object visit, void *ctx)
{
    struct limpet_list *list;
    struct limpet_list_entry entry;
    int rc = limpet_list_open(pool, true, &list);
    if (rc != 0)
        return rc;
    while (rc == 0 && (rc = limpet_list_next(list, &entry)) == 0) {
        rc = is_plain(&entry) ? aim(pool, entry.space, entry.locator) : -EILSEQ;
        if (rc == 0)
            rc = visit(ctx, &entry);
        if (rc == -ENOENT)
            rc = 0;
        else if (rc != 0)
            complain(rc, "%s/%s: %s", limpet_pool_name(pool), entry.name, error_phrase(rc));
    }
    limpet_list_close(list);
    return rc == -ENOENT ? 0 : rc;
}

/* ---- cppool, purge ---- */

struct pool_copy {
    struct limpet_pool *from, *to;
};

static int copy_one(void *ctx, const struct limpet_list_entry *entry)
{
    struct pool_copy *copy = ctx;
    printf("%s:%s(@%s) => %s:%s(@%s)\n", limpet_pool_name(copy->from), entry->name, entry->locator,
           limpet_pool_name(copy->to), entry->name, entry->locator);
    int rc = aim(copy->to, entry->space, entry->locator);
    return rc == 0 ? image_copy(copy->from, entry->name, copy->to, entry->name) : rc;
}

int rados_cppool(struct cli *cli)
{
    cli_connect(cli);
    if (strcmp(cli->words[0], cli->words[1]) == 0)
        fail(EINVAL, "cannot copy a pool into itself");
    struct pool_copy copy = {.from = cli_open_pool(cli, cli->words[0]),
                             .to = cli_open_pool(cli, cli->words[1])};
    int code = 0, rc = for_all(copy.from, copy_one, &copy);
    if (rc != 0)
        code = complain(rc, "error copying pool %s => %s: %s", cli->words[0], cli->words[1],
                        error_phrase(rc));
    else
        printf("successfully copied pool %s\n", cli->words[0]);
    limpet_pool_close(copy.from);
    limpet_pool_close(copy.to);
    return code;
}

static int remove_one(void *ctx, const struct limpet_list_entry *entry)
{
    return limpet_remove(ctx, entry->name);
}

int rados_purge(struct cli *cli)
{
    const char *name = cli->words[0];
    if (!cli_has(cli, "yes-i-really-really-mean-it"))
        fail(EPERM,
             "This will PERMANENTLY DESTROY all objects from a pool with no way back. To confirm, "
             "follow pool with --yes-i-really-really-mean-it");
    cli_connect(cli);
    struct limpet_pool *pool = cli_open_pool(cli, name);
    int code = 0, rc = for_all(pool, remove_one, pool);
    if (rc != 0)
        code = complain(rc, "error purging pool %s: %s", name, error_phrase(rc));
    else
        printf("successfully purged pool %s\n", name);
    limpet_pool_close(pool);
    return code;
}

/* ---- export ---- */

struct exporter {
    struct limpet_pool *pool;
    struct stream_writer stream;
    const struct limpet_list_entry *entry;
    uint64_t objects;
    struct encoder e;
    struct progress progress;
};

static int export_put(struct exporter *x, enum stream_type type, const void *data, size_t len)
{
    int rc = stream_put(&x->stream, type, &x->e, data, len);
    encoder_reset(&x->e);
    progress_update(&x->progress, x->stream.bytes);
    return rc;
}

static int export_begin(void *ctx, uint64_t size, uint64_t mtime_ns)
{
    struct exporter *x = ctx;
    encode_u64(&x->e, size);
    encode_u64(&x->e, mtime_ns);
    encode_string16(&x->e, x->entry->space, x->entry->space_len);
    encode_string16(&x->e, x->entry->locator, x->entry->locator_len);
    encode_string16(&x->e, x->entry->name, x->entry->name_len);
    return export_put(x, STREAM_OBJECT, NULL, 0);
}

static int export_data(void *ctx, uint64_t offset, const void *data, size_t len)
{
    struct exporter *x = ctx;
    const uint8_t *bytes = data;
    if (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0)
        return 0;
    encode_u64(&x->e, offset);
    return export_put(x, STREAM_DATA, data, len);
}

static int export_attr(void *ctx, const struct limpet_pair *attr)
{
    struct exporter *x = ctx;
    encode_string16(&x->e, attr->key, attr->key_len);
    encode_string32(&x->e, attr->value, attr->value_len);
    return export_put(x, STREAM_ATTR, NULL, 0);
}

static int export_header(void *ctx, const void *header, size_t len)
{
    return export_put(ctx, STREAM_HEADER, header, len);
}

static int export_pair(void *ctx, const struct limpet_pair *pair)
{
    struct exporter *x = ctx;
    encode_string16(&x->e, pair->key, pair->key_len);
    encode_string32(&x->e, pair->value, pair->value_len);
    return export_put(x, STREAM_PAIR, NULL, 0);
}

static int export_one(void *ctx, const struct limpet_list_entry *entry)
{
    struct exporter *x = ctx;
    struct image_sink sink = {.ctx = x,
                              .begin = export_begin,
                              .data = export_data,
                              .attr = export_attr,
                              .header = export_header,
                              .pair = export_pair};
    x->entry = entry;
    int rc = image_read(x->pool, entry->name, &sink);
    if (rc != 0)
        return rc;
    x->objects++;
    return export_put(x, STREAM_OBJECT_END, NULL, 0);
}

int rados_export(struct cli *cli)
{
    struct limpet_pool *pool = rados_pool(cli);
    const char *path = cli->n_words > 0 ? cli->words[0] : "-";
    bool to_stdout = strcmp(path, "-") == 0;
    struct exporter x = {.pool = pool, .stream.file = to_stdout ? stdout : fopen(path, "we")};
    if (x.stream.file == NULL)
        fail(errno, "%s: %s", path, error_phrase(errno));
    /* Half a stream is no export. */
    if (!to_stdout)
        cli_cleanup_set(path);
    encoder_init(&x.e);
    progress_begin(&x.progress, "exporting", limpet_pool_name(pool), 0);
    int rc = stream_begin(&x.stream);
    if (rc == 0)
        rc = for_all(pool, export_one, &x);
    if (rc == 0) {
        encode_u64(&x.e, x.objects);
        rc = export_put(&x, STREAM_END, NULL, 0);
    }
    if (fflush(x.stream.file) != 0 && rc == 0)
        rc = -errno;
    if (!to_stdout && fclose(x.stream.file) != 0 && rc == 0)
        rc = -errno;
    progress_end(&x.progress);
    encoder_fini(&x.e);
    if (rc != 0)
        fail(rc, "error exporting pool %s: %s", limpet_pool_name(pool), error_phrase(rc));
    cli_cleanup_set(NULL);
    limpet_pool_close(pool);
    return 0;
}

/* ---- import ---- */

struct importer {
    struct limpet_pool *pool;
    struct stream_reader stream;
    struct image_writer writer;
    bool in_object;
    bool skips; /* The object of which the records are, since there is one. */
    bool dry_run, no_overwrite;
    uint64_t objects;
    struct progress progress;
};

/* "namespace/name@locator", as far as it has them. */
static void say_object(const char *what, const char *space, const char *locator, const char *name)
{
    printf("%s %s%s%s%s%s\n", what, space, space[0] != 0 ? "/" : "", name,
           locator[0] != 0 ? "@" : "", locator);
}

/* A string of a record, with a zero after it; -EBADMSG: it is too long, or has one inside. */
static int take_string(struct decoder *d, char *text, size_t max)
{
    uint16_t len;
    const char *bytes = decode_string16(d, &len);
    if (bytes == NULL || len > max || memchr(bytes, 0, len) != NULL)
        return -EBADMSG;
    memcpy(text, bytes, len);
    text[len] = 0;
    return 0;
}

static int import_object(struct importer *m, struct decoder *d)
{
    char space[LIMPET_OBJECT_SPACE_MAX + 1], locator[LIMPET_OBJECT_LOCATOR_MAX + 1];
    char name[LIMPET_OBJECT_NAME_MAX + 1];
    uint64_t size = decode_u64(d), mtime_ns = decode_u64(d);
    if (take_string(d, space, LIMPET_OBJECT_SPACE_MAX) != 0 ||
        take_string(d, locator, LIMPET_OBJECT_LOCATOR_MAX) != 0 ||
        take_string(d, name, LIMPET_OBJECT_NAME_MAX) != 0 || decoder_end(d) != 0 ||
        size > LIMPET_OBJECT_SIZE_MAX)
        return -EBADMSG;
    struct limpet_stat stat;
    int rc = aim(m->pool, space, locator);
    if (rc == 0)
        rc = limpet_stat(m->pool, name, &stat);
    if (rc != 0 && rc != -ENOENT)
        return rc;
    bool exists = rc == 0;
    bool again = m->in_object;
    if (again && !m->skips && strcmp(m->writer.object, name) != 0)
        return -EBADMSG;
    if (again)
        exists = m->skips;
    m->skips = exists && m->no_overwrite;
    if (!again)
        say_object(m->skips ? "Skipping existing"
                   : exists ? "***Overwrite***"
                            : "Write",
                   space, locator, name);
    if (!again)
        image_writer_init(&m->writer, m->pool, name);
    m->in_object = true;
    m->skips |= m->dry_run;
    return m->skips ? 0 : image_write_begin(&m->writer, size, mtime_ns);
}

static int import_pair(struct importer *m, struct decoder *d, bool is_attr)
{
    uint16_t key_len;
    uint32_t value_len;
    struct limpet_pair pair = {0};
    pair.key = decode_string16(d, &key_len);
    pair.value = decode_string32(d, &value_len);
    if (decoder_end(d) != 0)
        return -EBADMSG;
    pair.key_len = key_len;
    pair.value_len = value_len;
    if (m->skips)
        return 0;
    return is_attr ? image_write_attr(&m->writer, &pair) : image_write_pair(&m->writer, &pair);
}

static int import_bytes(struct importer *m, struct decoder *d, bool is_data)
{
    uint64_t offset = is_data ? decode_u64(d) : 0;
    size_t len = decoder_left(d);
    const void *bytes = decode_bytes(d, len);
    if (decoder_end(d) != 0 || (is_data && (len == 0 || offset > LIMPET_OBJECT_SIZE_MAX ||
                                            len > LIMPET_OBJECT_SIZE_MAX - offset)))
        return -EBADMSG;
    if (m->skips)
        return 0;
    return is_data ? image_write_data(&m->writer, offset, bytes, len)
                   : image_write_header(&m->writer, bytes, len);
}

static int import_object_end(struct importer *m, struct decoder *d)
{
    int rc = decoder_end(d);
    if (rc == 0 && !m->skips)
        rc = image_write_end(&m->writer);
    image_writer_fini(&m->writer);
    m->in_object = false;
    m->objects++;
    return rc;
}

static int import_record(struct importer *m, uint8_t type, struct decoder *d)
{
    if (!m->in_object && type != STREAM_OBJECT)
        return -EBADMSG;
    switch (type) {
    case STREAM_OBJECT:
        return import_object(m, d);
    case STREAM_DATA:
        return import_bytes(m, d, true);
    case STREAM_HEADER:
        return import_bytes(m, d, false);
    case STREAM_ATTR:
        return import_pair(m, d, true);
    case STREAM_PAIR:
        return import_pair(m, d, false);
    case STREAM_OBJECT_END:
        return import_object_end(m, d);
    default:
        return -EBADMSG;
    }
}

static int import_all(struct importer *m)
{
    uint8_t type = 0;
    struct decoder d;
    int rc;
    while ((rc = stream_next(&m->stream, &type, &d)) == 0 && (type != STREAM_END || m->in_object)) {
        rc = import_record(m, type, &d);
        if (rc != 0)
            return rc;
        progress_update(&m->progress, m->stream.bytes);
    }
    if (rc != 0)
        return rc == -EPIPE ? -EBADMSG : rc;
    uint64_t objects = decode_u64(&d);
    return decoder_end(&d) != 0 || objects != m->objects ? -EBADMSG : 0;
}

int rados_import(struct cli *cli)
{
    const char *path = cli->words[0];
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *file = is_stdin ? stdin : fopen(path, "re");
    if (file == NULL)
        fail(errno, "%s: %s", path, error_phrase(errno));
    struct importer m = {.pool = rados_pool(cli),
                         .dry_run = cli_has(cli, "dry-run"),
                         .no_overwrite = cli_has(cli, "no-overwrite")};
    int rc = stream_reader_init(&m.stream, file);
    if (rc == -EBADMSG)
        fail(rc, "%s: this is no stream of 'limpet rados export'",
             is_stdin ? "standard input" : path);
    printf("Importing pool\n");
    progress_begin(&m.progress, "importing", limpet_pool_name(m.pool), 0);
    if (rc == 0)
        rc = import_all(&m);
    progress_end(&m.progress);
    if (m.in_object)
        image_writer_fini(&m.writer);
    stream_reader_fini(&m.stream);
    if (!is_stdin)
        fclose(file);
    limpet_pool_close(m.pool);
    if (rc == -EBADMSG)
        return complain(rc,
                        "the stream is damaged or ends too early, at byte %" PRIu64 "; %" PRIu64
                        " objects before that were imported",
                        m.stream.bytes, m.objects);
    if (rc != 0)
        return complain(rc, "error importing: %s; %" PRIu64 " objects were imported",
                        error_phrase(rc), m.objects);
    return 0;
}
