/* Checking and showing a store: see store_tool.h. */
#include "osd/store_tool.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/daemon.h"
#include "common/env_real.h"
#include "osd/store/engine_fsck.h"
#include "osd/store/store_engine.h"

static const char fsck_help[] =
    "usage: limpet-osd --fsck [--repair] [--deep] --data DIR\n"
    "\n"
    "Checks the store of an OSD that does not run: every object, extent, count and sum.\n"
    "\n"
    "  --data DIR   the OSD's data folder\n"
    "  --deep       reads all data and compares checksums\n"
    "  --repair     removes what belongs to nothing, and corrects counts\n"
    "\n"
    "Like a start of the OSD, it first replays the journal. Exit status 0: nothing is wrong (or "
    "all\n"
    "was repaired); 117 (EUCLEAN): something is.\n";

bool store_tool_wanted(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "store") == 0)
        return true;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--fsck") == 0)
            return true;
    return false;
}

static void finding(void *ctx, const char *line)
{
    (void)ctx;
    printf("%s\n", line);
}

static void progress(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx;
    (void)total;
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\rchecked %" PRIu64 " blocks", done);
}

/* The store lies in DIR/store when DIR is an OSD's data folder. */
static void store_path(const char *dir, char path[DAEMON_PATH_MAX])
{
    snprintf(path, DAEMON_PATH_MAX, "%s/store/block", dir);
    bool inside = access(path, F_OK) == 0;
    snprintf(path, DAEMON_PATH_MAX, "%s%s", dir, inside ? "/store" : "");
}

static int run_fsck(const char *dir, const struct fsck_options *options)
{
    struct fsck_report report;
    struct env_real_options env_options = {0};
    struct store_engine_parts parts;
    struct env *env;
    char path[DAEMON_PATH_MAX], why[256] = "";
    int error = env_real_create(&env_options, &env);
    if (error < 0)
        die(error, "cannot start");
    store_path(dir, path);
    error = store_engine_parts_open(env, path, &parts, why);
    if (error < 0)
        die_because(error, "%s", why);
    error = engine_fsck(env, parts.disk, parts.index, options, &report, why);
    store_engine_parts_close(env, &parts);
    env_real_destroy(env);
    if (error < 0)
        die_because(error, "%s", why);
    if (isatty(STDERR_FILENO) && options->deep)
        fprintf(stderr, "\n");
    printf("%" PRIu64 " objects, %" PRIu64 " blocks mapped (%" PRIu64 " shared), %" PRIu64
           " map entries, %" PRIu64 " placement group entries: ",
           report.objects, report.blocks, report.shared_blocks, report.omap_pairs, report.pg_pairs);
    if (report.errors == 0)
        printf("no errors\n");
    else
        printf("%" PRIu64 " errors, %" PRIu64 " repaired, %" PRIu64 " damaged blocks\n",
               report.errors, report.repaired, report.damaged);
    printf("fragmentation: %.1f blocks an extent; %" PRIu64 " free blocks in %" PRIu64
           " runs, the longest %" PRIu64 "\n",
           report.extents > 0 ? (double)report.blocks / (double)report.extents : 0.0,
           report.free_blocks, report.free_runs, report.free_longest);
    return report.errors > report.repaired ? EUCLEAN : 0;
}

static int fsck_main(int argc, char **argv)
{
    static const struct option long_options[] = {
        {"fsck", no_argument, NULL, 'f'}, {"repair", no_argument, NULL, 'r'},
        {"deep", no_argument, NULL, 'd'}, {"data", required_argument, NULL, 'D'},
        {"help", no_argument, NULL, 'h'}, {0}};
    struct fsck_options options = {.finding = finding, .progress = progress};
    const char *dir = NULL;
    int c;
    while ((c = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
        switch (c) {
        case 'f':
            break;
        case 'r':
            options.repair = true;
            break;
        case 'd':
            options.deep = true;
            break;
        case 'D':
            dir = optarg;
            break;
        case 'h':
            fputs(fsck_help, stdout);
            return 0;
        default:
            return EINVAL;
        }
    }
    if (!dir || optind < argc)
        die_because(EINVAL,
                    "--fsck needs --data DIR and nothing else; see limpet-osd --fsck --help");
    return run_fsck(dir, &options);
}

/* ---- Dump ---- */

static void print_bytes(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] > ' ' && bytes[i] < 0x7f && bytes[i] != '\\')
            putchar(bytes[i]);
        else
            printf("\\x%02x", bytes[i]);
    }
}

/* Where a chunk's blocks are: runs of the object's blocks @ their first block on the disk. */
static void dump_blocks(uint32_t number, const struct chunk *c)
{
    uint64_t base = (uint64_t)number * CHUNK_BLOCKS;
    for (uint32_t i = 0, n; i < CHUNK_BLOCKS; i += n) {
        n = 1;
        if (c->block[i] == BLOCK_NONE)
            continue;
        while (i + n < CHUNK_BLOCKS && c->block[i + n] == c->block[i] + n)
            n++;
        printf(" %" PRIu64 "+%u@%u", base + i, n, c->block[i]);
    }
}

static void dump_chunk(const uint8_t *key, size_t key_len, const void *value, size_t len)
{
    struct chunk chunk = {0};
    struct decoder d;
    uint64_t nid;
    uint32_t number;
    decoder_init(&d, value, len);
    if (key_len != 1 + sizeof nid + sizeof number || chunk_decode(&d, UINT32_MAX, &chunk) < 0) {
        printf("chunk: damaged record of %zu bytes\n", len);
        return;
    }
    memcpy(&nid, key + 1, sizeof nid);
    memcpy(&number, key + 1 + sizeof nid, sizeof number);
    printf("chunk number=%" PRIu64 " blocks", be64toh(nid));
    dump_blocks(be32toh(number), &chunk);
    putchar('\n');
}

static void dump_first_chunk(const void *value, size_t len)
{
    struct onode o = {0};
    encoder_init(&o.attrs);
    if (object_decode(value, len, UINT32_MAX, &o) == 0 && o.n_chunks > 0 && o.chunks[0]) {
        printf(" blocks");
        dump_blocks(0, o.chunks[0]);
    }
    for (uint32_t i = 0; i < o.n_chunks; i++)
        free(o.chunks[i]);
    free(o.chunks);
    encoder_fini(&o.attrs);
}

static void dump_object(const uint8_t *key, size_t key_len, const void *value, size_t len)
{
    struct object_id id;
    struct object_layout layout;
    uint8_t strings[OBJECT_STRINGS_MAX];
    if (object_key_parse(key, key_len, &id, strings) < 0 || len < sizeof layout) {
        printf("object: damaged record of %zu bytes\n", len);
        return;
    }
    memcpy(&layout, value, sizeof layout);
    printf("object pool=%" PRIu64 " hash=%08x namespace=", id.pool, id.hash);
    print_bytes(id.space, id.space_len);
    if (id.locator_len > 0) {
        printf(" locator=");
        print_bytes(id.locator, id.locator_len);
    }
    printf(" name=");
    print_bytes(id.name, id.name_len);
    if (id.snap != OBJECT_HEAD)
        printf(" snap=%" PRIu64, id.snap);
    printf(" number=%" PRIu64 " size=%" PRIu64 " attrs=%u%s", layout.nid, layout.size,
           layout.attrs_len, layout.flags & OBJECT_HAS_OMAP ? " omap" : "");
    dump_first_chunk(value, len);
    putchar('\n');
}

static int dump_main(int argc, char **argv)
{
    struct env_real_options env_options = {0};
    struct store_engine_parts parts;
    struct env *env;
    struct index_iter *iter;
    char path[DAEMON_PATH_MAX], why[256] = "";
    const void *key, *value;
    size_t key_len, len;
    uint8_t from = 0, to = 0xff;
    if (argc != 3 || strcmp(argv[1], "--data") != 0)
        die_because(EINVAL, "usage: limpet store dump --data DIR");
    int error = env_real_create(&env_options, &env);
    if (error < 0)
        die(error, "cannot start");
    store_path(argv[2], path);
    error = store_engine_parts_open(env, path, &parts, why);
    if (error < 0)
        die_because(error, "%s", why);
    error = index_iterate(parts.index, &from, 1, &to, 1, false, true, &iter);
    while (error >= 0 &&
           (error = index_next(parts.index, iter, &key, &key_len, &value, &len)) > 0) {
        if (*(const uint8_t *)key == KEY_OBJECT) {
            dump_object(key, key_len, value, len);
            continue;
        }
        if (*(const uint8_t *)key == KEY_CHUNK) {
            dump_chunk(key, key_len, value, len);
            continue;
        }
        printf("%c ", *(const char *)key);
        print_bytes((const uint8_t *)key + 1, key_len - 1);
        printf(" %zu bytes\n", len);
    }
    if (error == 0)
        parts.index->ops->iter_free(iter);
    store_engine_parts_close(env, &parts);
    env_real_destroy(env);
    if (error < 0)
        die(error, "the index cannot be read");
    return 0;
}

int store_tool_main(int argc, char **argv)
{
    if (argc < 2 || strcmp(argv[1], "store") != 0)
        return fsck_main(argc, argv);
    if (argc > 2 && strcmp(argv[2], "bench") == 0)
        return store_bench_main(argc - 2, argv + 2);
    if (argc > 2 && strcmp(argv[2], "dump") == 0)
        return dump_main(argc - 2, argv + 2);
    die_because(EINVAL, "usage: limpet store bench|dump ...; see limpet store bench --help");
}
