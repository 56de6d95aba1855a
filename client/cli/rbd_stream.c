/* limpet rbd: images and their differences, to files and from them. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cli/rbd.h"
#include "client/image/extents.h"

/*
 * READ_BLOCK: of an export. The memory of all slots stays in the processor's cache so; with 4 MiB
 * an export takes 0.7 times as much CPU again. HEADER_ROOM: of an encrypted image; more than any
 * object, and than any header, is long.
 */
enum {
    SLOTS = 16,
    READ_BLOCK = 1 << 20,
    BLOCK = 4 << 20,
    HOLE = 64 << 10,
    HEADER_ROOM = 257 << 20,
    SECTOR = 4096
};

static bool is_zero(const void *data, size_t len)
{
    const uint8_t *bytes = data;
    return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0);
}

static int write_all(int fd, const void *data, size_t len)
{
    const char *at = data;
    while (len > 0) {
        ssize_t n = write(fd, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

static ssize_t read_all(int fd, void *data, size_t len)
{
    size_t got = 0;
    while (got < len) {
        ssize_t n = read(fd, (char *)data + got, len - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        got += (size_t)n;
    }
    return (ssize_t)got;
}

/* ---- Files ---- */

struct file {
    const char *path;
    int fd;
    bool is_standard;
    bool ended; /* Less was read than was asked for. */
};

/* A new one, or standard output ("-"). rbd does not overwrite. */
static struct file create_file(const char *path, const char *what)
{
    struct file f = {.path = path, .fd = STDOUT_FILENO, .is_standard = strcmp(path, "-") == 0};
    if (f.is_standard)
        return f;
    f.fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (f.fd < 0)
        fail(errno, "%s: %s: %s", what, path, error_phrase(errno));
    cli_cleanup_set(path);
    return f;
}

static struct file open_file(const char *path, const char *what)
{
    struct file f = {.path = path, .fd = STDIN_FILENO, .is_standard = strcmp(path, "-") == 0};
    if (!f.is_standard)
        f.fd = open(path, O_RDONLY | O_CLOEXEC);
    if (f.fd < 0)
        fail(errno, "%s: error opening %s: %s", what, path, error_phrase(errno));
    return f;
}

/* What was written in part does not stay. */
static int close_written(struct file *f, int rc)
{
    if (!f->is_standard && close(f->fd) != 0 && rc == 0)
        rc = -errno;
    if (rc != 0 && !f->is_standard)
        unlink(f->path);
    cli_cleanup_set(NULL);
    return rc;
}

static void close_read(struct file *f)
{
    if (!f->is_standard)
        close(f->fd);
}

/* The file that a verb writes is called like the image, if nothing is said. */
static const char *path_word(struct cli *cli, int word, const char *option, const char *otherwise)
{
    const char *path = word < cli->n_words ? cli->words[word] : cli_text(cli, option, otherwise);
    if (path == NULL)
        fail(EINVAL, "path was not specified; '-' is standard input or output");
    return path;
}

/* ---- export ---- */

/* Zeroes of a file are holes. */
static int put_block(struct file *f, const struct rbd_slot *slot)
{
    const char *data = slot->data;
    if (f->is_standard)
        return write_all(f->fd, data, slot->len);
    int rc = 0;
    for (size_t at = 0, next; rc == 0 && at < slot->len; at = next) {
        next = at + HOLE < slot->len ? at + HOLE : slot->len;
        if (is_zero(data + at, next - at))
            continue;
        while (next < slot->len) {
            size_t piece = slot->len - next < HOLE ? slot->len - next : HOLE;
            if (is_zero(data + next, piece))
                break;
            next += piece;
        }
        rc = lseek(f->fd, (off_t)(slot->offset + at), SEEK_SET) < 0
                 ? -errno
                 : write_all(f->fd, data + at, next - at);
    }
    return rc;
}

/* What an image has, in order; what lies between reads as zeroes and is not read. */
struct shown {
    struct limpet_image *image;
    struct window window;
    size_t next; /* The extent that the next block is of, */
    uint64_t at; /* and up to where blocks of it were taken. */
};

static int shown_source(uint64_t offset, uint64_t len, window_take take, void *take_arg, void *arg)
{
    const struct shown *shown = arg;
    return limpet_image_diff(shown->image, NULL, offset, len, true, true, take, take_arg);
}

/* The next piece to read, at most as far as a multiple of READ_BLOCK; of 0 bytes: there is none. */
static int next_block(struct shown *shown, uint64_t *offset, size_t *len)
{
    struct window *w = &shown->window;
    *len = 0;
    for (;;) {
        for (; shown->next < w->extents.n; shown->next++) {
            const struct extent *extent = &w->extents.list[shown->next];
            uint64_t end = extent->offset + extent->len;
            uint64_t from = shown->at > extent->offset ? shown->at : extent->offset;
            uint64_t to = (from / READ_BLOCK + 1) * READ_BLOCK;
            if (!extent->exists || from >= end)
                continue;
            shown->at = to < end ? to : end;
            *offset = from;
            *len = (size_t)(shown->at - from);
            return 0;
        }
        if (w->end >= w->limit)
            return 0;
        int rc = window_move(w, w->end, 1);
        shown->next = 0;
        if (rc != 0)
            return rc;
    }
}

/* Standard output gets holes as zeroes. */
static int put_hole(struct file *f, uint64_t from, uint64_t to, uint64_t size,
                    struct rbd_progress *progress)
{
    static const char zeroes[READ_BLOCK];
    int rc = 0;
    while (rc == 0 && f->is_standard && from < to) {
        size_t len = to - from < READ_BLOCK ? (size_t)(to - from) : READ_BLOCK;
        rc = write_all(f->fd, zeroes, len);
        from += len;
        rbd_progress_step(from, size, progress);
    }
    return rc;
}

/* What it showed of its parent is its own, if that has gone meanwhile: it was flattened. */
static void read_again(struct limpet_image *image, struct rbd_slot *slot)
{
    if (limpet_image_refresh(image) == 0)
        slot->result = limpet_image_read(image, slot->data, slot->len, slot->offset, 0);
}

static int read_shown(struct rbd_queue *q, struct shown *shown, uint64_t size, struct file *f,
                      struct rbd_progress *progress)
{
    uint64_t asked = 0, offset, at = 0;
    size_t len = 1;
    int rc = 0;
    for (uint64_t i = 0; rc == 0; i++) {
        while (rc == 0 && asked < i + SLOTS && len > 0) {
            rc = next_block(shown, &offset, &len);
            if (rc == 0 && len > 0)
                rc = rbd_slot_read(rbd_queue_slot(q, asked++), offset, len);
        }
        if (rc != 0 || i == asked)
            break;
        struct rbd_slot *slot = rbd_queue_slot(q, i);
        if (slot->result == -ENOENT)
            read_again(shown->image, slot);
        if (slot->result != (ssize_t)slot->len)
            rc = slot->result < 0 ? (int)slot->result : -EIO;
        if (rc == 0)
            rc = put_hole(f, at, slot->offset, size, progress);
        if (rc == 0)
            rc = put_block(f, slot);
        at = slot->offset + slot->len;
        rbd_progress_step(at, size, progress);
    }
    return rc != 0 ? rc : put_hole(f, at, size, size, progress);
}

static int export_blocks(struct limpet_image *image, uint64_t size, struct file *f,
                         struct rbd_progress *progress)
{
    struct shown shown = {
        .image = image,
        .window = {.source = shown_source, .arg = &shown, .limit = size},
    };
    struct rbd_queue *q = rbd_queue_create(image, SLOTS, READ_BLOCK);
    int rc = read_shown(q, &shown, size, f, progress);
    /* What a slot has failed with was looked at. */
    (void)rbd_queue_destroy(q);
    window_fini(&shown.window);
    return rc != 0 ? rc : rbd_check_shown(image);
}

static int sink_write(void *arg, const void *data, size_t len)
{
    return write_all(((struct file *)arg)->fd, data, len);
}

static ssize_t source_read(void *arg, void *data, size_t len)
{
    struct file *f = arg;
    ssize_t n = read_all(f->fd, data, len);
    f->ended = f->ended || (n >= 0 && (size_t)n < len);
    return n;
}

/* Format 2: all that it has. */
static int export_all(struct limpet_image *image, struct file *f, struct rbd_progress *progress)
{
    struct limpet_image_sink sink = {sink_write, f};
    return limpet_image_export(image, &sink, rbd_progress_step, progress);
}

int rbd_export(struct cli *cli)
{
    struct rbd_run run;
    struct limpet_image_info info;
    bool all = cli_number(cli, "export-format", 1, 1, 2) == 2;
    if (all && cli_text(cli, "encryption-format", NULL) != NULL)
        fail(EINVAL, "export error: format 2 holds the image as it is, encrypted; leave "
                     "--encryption-format out, or export its contents in format 1");
    rbd_begin(cli, RBD_IMAGE_OR_SNAP, false, &run);
    rbd_decrypt(cli, run.image);
    struct file f = create_file(path_word(cli, 1, "path", run.spec.name), "export error");
    rbd_info(run.image, &info);
    struct rbd_progress progress = rbd_progress_begin(cli, "Exporting image");
    int rc = all ? export_all(run.image, &f, &progress)
                 : export_blocks(run.image, info.size, &f, &progress);
    if (rc == 0 && !all && !f.is_standard && ftruncate(f.fd, (off_t)info.size) != 0)
        rc = -errno;
    rc = close_written(&f, rc);
    rbd_progress_end(&progress, rc);
    return rbd_end(
        &run, rc != 0 ? complain(rc, "export error: %s", rbd_reading_phrase(&run, NULL, rc)) : 0);
}

/* ---- import ---- */

struct import {
    struct file *file;
    bool grows;   /* Its end is not known. */
    size_t piece; /* So many zeroes are not written. */
};

/* --sparse-size: what it may be is rbd's affair, so it is brought to what makes sense. */
static size_t sparse_size(struct cli *cli)
{
    uint64_t size = rbd_size("sparse-size", cli_text(cli, "sparse-size", "4096"), 1);
    if (size == 0 || size > BLOCK)
        return BLOCK;
    return size > 512 ? (size_t)size : 512;
}

/* The contents of an encrypted image are whole sectors: the last one is filled with zeroes. */
static uint64_t whole_sectors(uint64_t size)
{
    return (size + SECTOR - 1) / SECTOR * SECTOR;
}

/* The next run of pieces with something in them; false: there is none. From *to, 0 at first. */
static bool next_run(const uint8_t *data, size_t len, size_t piece, size_t *from, size_t *to)
{
    size_t at = *to;
    for (; at < len && is_zero(data + at, piece < len - at ? piece : len - at); at += piece)
        ;
    *from = at;
    for (; at < len && !is_zero(data + at, piece < len - at ? piece : len - at); at += piece)
        ;
    *to = at < len ? at : len;
    return *from < len;
}

/* Writes what a slot has read of the file, without its zeroes. */
static int put_runs(struct rbd_queue *q, struct rbd_slot *slot, uint64_t offset, size_t len,
                    size_t piece)
{
    static uint8_t scratch[BLOCK];
    size_t from, to = 0;
    int rc = 0;
    bool more = next_run(slot->data, len, piece, &from, &to);
    if (more && from == 0 && to == len)
        return rbd_slot_write(slot, offset, len);
    if (more)
        memcpy(scratch, slot->data, len);
    for (; more && rc == 0; more = next_run(scratch, len, piece, &from, &to)) {
        slot = rbd_queue_free_slot(q);
        if (slot == NULL)
            break; /* The queue tells why. */
        memcpy(slot->data, scratch + from, to - from);
        rc = rbd_slot_write(slot, offset + from, to - from);
    }
    return rc;
}

/*
 * Of standard input, whose end is not known, the image grows. `header` bytes of an encrypted one
 * are not its contents.
 */
static int import_blocks(struct limpet_image *image, const struct import *i, uint64_t size,
                         uint64_t header, struct rbd_progress *progress)
{
    bool grows = i->grows;
    struct rbd_queue *q = rbd_queue_create(image, SLOTS, BLOCK);
    uint64_t offset = 0;
    int rc = 0;
    for (;;) {
        struct rbd_slot *slot = rbd_queue_free_slot(q);
        if (slot == NULL)
            break;
        ssize_t n = read_all(i->file->fd, slot->data, BLOCK);
        if (n <= 0) {
            rc = (int)n;
            break;
        }
        if (grows && offset + (uint64_t)n > size) {
            size = size * 2 > offset + (uint64_t)n ? size * 2 : offset + (uint64_t)n;
            size = header > 0 ? whole_sectors(size) : size;
            rc = limpet_image_resize(image, header + size, false, NULL, NULL);
        }
        if (rc == 0 && offset + (uint64_t)n > size)
            rc = -EFBIG; /* The file has grown meanwhile. */
        if (rc == 0)
            rc = put_runs(q, slot, offset, (size_t)n, i->piece);
        if (rc != 0)
            break;
        offset += (uint64_t)n;
        if (size > 0 && !grows)
            rbd_progress_step(offset, size, progress);
    }
    int failed = rbd_queue_destroy(q);
    rc = rc != 0 ? rc : failed;
    uint64_t end = header > 0 ? whole_sectors(offset) : offset;
    if (rc == 0 && grows && end != size)
        rc = limpet_image_resize(image, header + end, true, NULL, NULL);
    return rc;
}

/*
 * Makes a new image an encrypted one with `size` bytes of contents. It has HEADER_ROOM more, for
 * the header, whose size is told then.
 */
static int encrypt_new(struct limpet_image *image, const struct rbd_encryption *e, uint64_t size,
                       uint64_t *header)
{
    struct limpet_image_info info;
    int rc = limpet_image_encrypt(image, rbd_encryption_of(e), 256, e->passphrase, e->len);
    if (rc != 0)
        return rc;
    rbd_info(image, &info);
    *header = size + HEADER_ROOM - info.size;
    return limpet_image_resize(image, *header + size, true, NULL, NULL);
}

/* Into a new image that is open; its name is removed again if this fails. */
static int import_contents(struct limpet_image *image, const struct import *i, uint64_t size,
                           const struct rbd_encryption *e, struct rbd_progress *progress)
{
    uint64_t header = 0;
    int rc = e->format != NULL ? encrypt_new(image, e, size, &header) : 0;
    return rc == 0 ? import_blocks(image, i, size, header, progress) : rc;
}

/* The name of a file is that of its image, if nothing is said. */
static void import_spec(struct cli *cli, const char *path, struct rbd_spec *spec)
{
    if (cli->n_words > 1 || cli_has(cli, "dest")) {
        rbd_spec_read(cli, 1, RBD_DEST, RBD_IMAGE, spec);
    } else {
        const char *slash = strrchr(path, '/');
        const char *name = slash != NULL ? slash + 1 : path;
        if (strcmp(path, "-") == 0)
            fail(EINVAL, "image name was not specified");
        rbd_pool_spec_read(cli, -1, spec);
        snprintf(spec->name, sizeof spec->name, "%s", name);
    }
    if (spec->pool[0] == 0 || !(cli->n_words > 1 && strchr(cli->words[1], '/') != NULL)) {
        const char *pool = cli_text(cli, "dest-pool", cli_text(cli, "pool", "rbd"));
        snprintf(spec->pool, sizeof spec->pool, "%s", pool);
    }
}

/* Format 2: with its snapshots. */
static int import_all(struct cli *cli, const struct rbd_spec *spec,
                      struct limpet_image_options *options, struct file *f)
{
    struct limpet_image_source source = {source_read, f};
    struct limpet_pool *pool = rbd_pool(cli, spec);
    if (!cli_has(cli, "image-feature") && !cli_has(cli, "image-shared"))
        options->features = LIMPET_IMAGE_FEATURES_SOURCE;
    struct rbd_progress progress = rbd_progress_begin(cli, "Importing image");
    int rc = limpet_image_import(pool, spec->name, options, &source, rbd_progress_step, &progress);
    rbd_progress_end(&progress, rc);
    close_read(f);
    limpet_pool_close(pool);
    /* The numbers are rbd's. */
    if (rc == -EBADMSG && f->ended)
        return complain(EDOM,
                        "import failed: '%s' is cut off, or no export of format 2; export it "
                        "again",
                        f->path);
    if (rc == -EBADMSG || rc == -EDOM)
        return complain(EINVAL,
                        "import failed: '%s' is damaged, or no export of format 2; export "
                        "it again",
                        f->path);
    return rc != 0 ? complain(rc, "import failed: %s", rbd_making_phrase(rc, options)) : 0;
}

int rbd_import(struct cli *cli)
{
    struct rbd_spec spec;
    struct limpet_image_options options;
    struct limpet_image *image = NULL;
    struct rbd_encryption encryption;
    struct stat st = {0};
    const char *path = path_word(cli, 0, "path", NULL);
    bool all = cli_number(cli, "export-format", 1, 1, 2) == 2;
    rbd_encryption_options(cli, &encryption);
    if (all && encryption.format != NULL)
        fail(EINVAL, "import failed: format 2 holds the image as it is, encrypted or not; leave "
                     "--encryption-format out");
    rbd_encryption_load(&encryption);
    import_spec(cli, path, &spec);
    rbd_image_options(cli, &options);
    struct file f = open_file(path, "import failed");
    if (fstat(f.fd, &st) != 0)
        fail(errno, "%s: %s", path, error_phrase(errno));
    if (S_ISDIR(st.st_mode))
        fail(EISDIR, "%s: %s", path, error_phrase(EISDIR));
    if (all)
        return import_all(cli, &spec, &options, &f);
    struct import import = {&f, !S_ISREG(st.st_mode), sparse_size(cli)};
    struct limpet_pool *pool = rbd_pool(cli, &spec);
    uint64_t size = import.grows ? 0 : (uint64_t)st.st_size;
    uint64_t room = encryption.format != NULL ? HEADER_ROOM : 0;
    size = encryption.format != NULL ? whole_sectors(size) : size;
    int rc = limpet_image_create(pool, spec.name, size + room, &options);
    if (rc != 0)
        fail(rc, "image creation failed: %s", rbd_making_phrase(rc, &options));
    struct rbd_progress progress = rbd_progress_begin(cli, "Importing image");
    rc = limpet_image_open(pool, spec.name, NULL, 0, &image);
    if (rc == 0) {
        rc = import_contents(image, &import, size, &encryption, &progress);
        int closed = limpet_image_close(image);
        rc = rc != 0 ? rc : closed;
    }
    explicit_bzero(encryption.passphrase, sizeof encryption.passphrase);
    /* Half an image is none. */
    if (rc != 0)
        limpet_image_remove(pool, spec.name, NULL, NULL);
    rbd_progress_end(&progress, rc);
    close_read(&f);
    limpet_pool_close(pool);
    return rc != 0 ? complain(rc, "import failed: %s", error_phrase(rc)) : 0;
}

/* ---- diff ---- */

struct diff {
    struct table *table;
    json_t *json;
    size_t rows;
};

static int diff_extent(uint64_t offset, uint64_t len, bool exists, void *arg)
{
    struct diff *d = arg;
    table_cell(d->table, "%" PRIu64, offset);
    table_cell(d->table, "%" PRIu64, len);
    table_cell(d->table, "%s", exists ? "data" : "zero");
    json_array_append_new(d->json,
                          json_pack("{s:I, s:I, s:s}", "offset", (json_int_t)offset, "length",
                                    (json_int_t)len, "exists", exists ? "true" : "false"));
    d->rows++;
    return 0;
}

int rbd_diff(struct cli *cli)
{
    struct rbd_run run;
    struct limpet_image_info info;
    struct diff d = {.table = table_create("lll"), .json = json_array()};
    const char *from = cli_text(cli, "from-snap", NULL);
    rbd_begin(cli, RBD_IMAGE_OR_SNAP, false, &run);
    rbd_info(run.image, &info);
    table_cell(d.table, "Offset");
    table_cell(d.table, "Length");
    table_cell(d.table, "Type");
    int code = 0, rc = limpet_image_diff(run.image, from, 0, info.size, true,
                                         cli_has(cli, "whole-object"), diff_extent, &d);
    if (rc == 0)
        rc = rbd_check_shown(run.image);
    if (rc != 0)
        code = complain(rc, "diff error: %s", rbd_reading_phrase(&run, from, rc));
    else if (rbd_wants_json(cli))
        rbd_print_json(cli, json_incref(d.json));
    else if (d.rows > 0)
        table_print_titled(d.table);
    table_destroy(d.table);
    json_decref(d.json);
    return rbd_end(&run, code);
}

/* ---- Streams of differences ---- */

int rbd_export_diff(struct cli *cli)
{
    struct rbd_run run;
    rbd_begin(cli, RBD_IMAGE_OR_SNAP, false, &run);
    struct file f = create_file(path_word(cli, 1, "path", NULL), "export-diff error");
    struct limpet_image_sink sink = {sink_write, &f};
    struct rbd_progress progress = rbd_progress_begin(cli, "Exporting image");
    const char *from = cli_text(cli, "from-snap", NULL);
    int rc = limpet_image_export_diff(run.image, from, cli_has(cli, "whole-object"), &sink,
                                      rbd_progress_step, &progress);
    rc = close_written(&f, rc);
    rbd_progress_end(&progress, rc);
    return rbd_end(
        &run,
        rc != 0 ? complain(rc, "export-diff error: %s", rbd_reading_phrase(&run, from, rc)) : 0);
}

int rbd_import_diff(struct cli *cli)
{
    struct rbd_spec spec;
    struct file f = open_file(path_word(cli, 0, "path", NULL), "import-diff failed");
    struct limpet_image_source source = {source_read, &f};
    rbd_spec_read(cli, 1, RBD_SOURCE, RBD_IMAGE, &spec);
    struct rbd_run run = {.spec = spec, .pool = rbd_pool(cli, &spec)};
    run.image = rbd_image(run.pool, &spec, true);
    struct rbd_progress progress = rbd_progress_begin(cli, "Importing image diff");
    int code = 0, rc = rbd_check_unlocked(&run);
    if (rc == 0)
        rc = limpet_image_import_diff(run.image, &source, rbd_progress_step, &progress);
    rbd_progress_end(&progress, rc);
    close_read(&f);
    if (rc == -EEXIST)
        code = complain(rc, "import-diff failed: %s; the image has the snapshot at which it ends",
                        error_phrase(rc));
    else if (rc == -EINVAL)
        code = complain(rc,
                        "import-diff failed: %s; the image has not got the snapshot at which the "
                        "difference begins",
                        error_phrase(rc));
    else if (rc == -EBADMSG)
        /* The numbers are rbd's. */
        code = complain(f.ended ? EBADMSG : EINVAL,
                        "import-diff failed: '%s' is damaged, cut off, or no difference", f.path);
    else if (rc != 0)
        code = complain(rc, "import-diff failed: %s", rbd_phrase(rc));
    return rbd_end(&run, code);
}

int rbd_merge_diff(struct cli *cli)
{
    struct file first = open_file(cli->words[0], "merge-diff"),
                second = open_file(cli->words[1], "merge-diff"),
                to = create_file(path_word(cli, 2, "path", NULL), "merge-diff");
    struct limpet_image_source sources[] = {{source_read, &first}, {source_read, &second}};
    struct limpet_image_sink sink = {sink_write, &to};
    struct rbd_progress progress = rbd_progress_begin(cli, "Merging image diff");
    int rc = limpet_image_merge_diff(&sources[0], &sources[1], &sink);
    rc = close_written(&to, rc);
    rbd_progress_end(&progress, rc);
    close_read(&first);
    close_read(&second);
    if (rc == -EINVAL)
        return complain(rc, "The first TO snapshot must be equal with the second FROM snapshot, "
                            "aborting");
    if (rc == -EBADMSG)
        return complain(first.ended || second.ended ? EDOM : EBADMSG,
                        "merge-diff error: '%s' or '%s' is damaged, cut off, or no difference",
                        first.path, second.path);
    return rc != 0 ? complain(rc, "merge-diff error: %s", error_phrase(rc)) : 0;
}
