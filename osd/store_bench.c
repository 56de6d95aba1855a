/*
 * `limpet store bench`: the engine alone, without network, log or replicas.
 *
 * Each phase keeps `depth` requests under way from one loop, as an OSD does, and reports what the
 * engine reached and what it cost: CPU of all its threads, bytes written to the disk for each byte
 * stored, and flushes.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "common/config.h"
#include "common/daemon.h"
#include "common/env_real.h"
#include "common/metrics.h"
#include "osd/store/engine.h"
#include "osd/store/store_engine.h"
#include "osd/store_tool.h"
#include "placement/hash.h"

enum { BENCH_POOL = 1, NAME_BYTES = 32, OMAP_BATCH_KEYS = 1, LIST_KEYS = 4096 };

enum bench_op { OP_WRITE, OP_OVERWRITE, OP_READ, OP_OMAP, OP_OMAP_LIST };

static const char *const op_names[] = {"write", "overwrite", "read", "omap", "omap-list"};

struct bench {
    struct env *env;
    struct store *store;
    const char *dir;
    uint64_t disk_bytes;
    uint64_t memory_target;
    enum bench_op op;
    uint64_t block_bytes;
    uint64_t object_bytes;
    uint64_t objects;
    uint32_t depth;
    uint64_t count;
    double seconds;
    double ramp;
    bool json;
    bool warm;
    bool sparse;
    bool in_order;      /* Reads each block once. */
    const char *verify; /* File of what was acknowledged. */
    FILE *acknowledged;
    uint64_t issued, completed, bytes;
    uint64_t deadline_ns;
    uint32_t running;
    uint64_t random;
    int error;
    struct buf_slice payload;
    struct histogram latency;
    uint64_t *versions; /* --verify: of each object. */
};

struct request {
    struct bench *b;
    struct store_txn txn;
    struct store_read read;
    struct store_omap_read omap;
    uint64_t started_ns;
    uint64_t object;
    uint64_t version;
    char name[NAME_BYTES];
    uint8_t last_key[32];
    uint16_t last_key_len;
};

static void start(struct request *r);

static uint64_t next_random(struct bench *b)
{
    b->random ^= b->random << 13;
    b->random ^= b->random >> 7;
    b->random ^= b->random << 17;
    return b->random;
}

static struct object_id object_of(struct request *r, uint64_t number)
{
    int n = snprintf(r->name, sizeof r->name, "bench-%012" PRIu64, number);
    return (struct object_id){.pool = BENCH_POOL,
                              .hash = hash_object("", 0, r->name, (size_t)n),
                              .space = (const uint8_t *)"",
                              .name = (const uint8_t *)r->name,
                              .name_len = (uint16_t)n,
                              .snap = OBJECT_HEAD};
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SEC_NS + (uint64_t)t.tv_nsec;
}

/* The content of an object at a version: any of it can be made again to compare. */
static void fill_version(uint8_t *out, size_t len, uint64_t object, uint64_t version)
{
    uint64_t x = (object + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ (version << 20);
    for (size_t i = 0; i + 8 <= len; i += 8) {
        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        memcpy(out + i, &x, 8);
    }
}

static void finished(struct request *r, int error, uint64_t bytes)
{
    struct bench *b = r->b;
    if (error < 0 && b->error == 0)
        b->error = error;
    histogram_record(&b->latency, now_ns() - r->started_ns);
    b->completed++;
    b->bytes += bytes;
    start(r);
}

static void txn_done(struct store_txn *txn, int error)
{
    struct request *r = container_of(txn, struct request, txn);
    struct bench *b = r->b;
    if (error == 0 && b->acknowledged) {
        /* Survives a kill of this process: it is in the system's hands after the write. */
        uint64_t line[2] = {r->object, r->version};
        if (fwrite(line, sizeof line, 1, b->acknowledged) != 1 || fflush(b->acknowledged) != 0)
            error = -errno;
    }
    txn_fini(txn);
    finished(r, error, b->op == OP_OMAP ? 0 : b->block_bytes);
}

static void read_done(struct store_read *read)
{
    struct request *r = container_of(read, struct request, read);
    uint64_t bytes = read->data.len;
    buf_slice_drop(&read->data);
    encoder_fini(&read->attrs);
    finished(r, read->error, bytes);
}

static void omap_done(struct store_omap_read *read)
{
    struct request *r = container_of(read, struct request, omap);
    struct decoder d;
    uint16_t key_len;
    uint32_t len;
    decoder_init(&d, read->pairs.data, read->pairs.len);
    for (uint32_t i = 0; i < read->n; i++) {
        const void *key = decode_string16(&d, &key_len);
        (void)decode_string32(&d, &len);
        if (i + 1 == read->n && key_len + 1u < sizeof r->last_key) {
            memcpy(r->last_key, key, key_len);
            r->last_key[key_len] = 0; /* On behind it. */
            r->last_key_len = (uint16_t)(key_len + 1);
        }
    }
    if (read->end)
        r->last_key_len = 0;
    r->b->completed += read->n > 0 ? read->n - 1 : 0;
    r->b->issued += read->n > 0 ? read->n - 1 : 0;
    encoder_fini(&read->pairs);
    encoder_fini(&read->header);
    finished(r, read->error, read->pairs.len);
}

static void start_write(struct request *r)
{
    struct bench *b = r->b;
    uint64_t slots = b->object_bytes / b->block_bytes;
    uint64_t at = 0;
    uint8_t info[32] = {0};
    r->object = b->op == OP_WRITE && !b->verify ? b->issued - 1 : next_random(b) % b->objects;
    if (b->op == OP_OVERWRITE && slots > 1)
        at = next_random(b) % slots * b->block_bytes;
    struct object_id id = object_of(r, r->object);
    txn_init(&r->txn);
    r->txn.done = txn_done;
    if (b->verify) {
        r->version = ++b->versions[r->object];
        memcpy(info, &r->version, sizeof r->version);
        b->error = buf_slice_alloc(b->block_bytes, &r->txn.data);
        if (b->error < 0)
            die(b->error, "out of memory");
        fill_version(r->txn.data.data, b->block_bytes, r->object, r->version);
    } else {
        r->txn.data = buf_slice_sub(b->payload, 0, b->block_bytes);
    }
    txn_object(&r->txn, &id);
    txn_write(&r->txn, at, b->block_bytes, 0);
    txn_set_info(&r->txn, info, sizeof info);
    store_submit(b->store, &r->txn);
}

static void start_omap(struct request *r)
{
    struct bench *b = r->b;
    struct object_id id = object_of(r, 0);
    char key[32];
    int n = snprintf(key, sizeof key, "key-%016" PRIu64, b->issued);
    txn_init(&r->txn);
    r->txn.done = txn_done;
    txn_object(&r->txn, &id);
    txn_omap_set(&r->txn, key, (uint16_t)n, "0123456789abcdef0123456789abcdef", 32);
    store_submit(b->store, &r->txn);
}

static void start_read(struct request *r)
{
    struct bench *b = r->b;
    uint64_t slots = b->object_bytes / b->block_bytes;
    memset(&r->read, 0, sizeof r->read);
    uint64_t place = b->in_order ? b->issued - 1 : next_random(b) % (b->objects * slots);
    r->read.object = object_of(r, place / slots % b->objects);
    r->read.offset = place % slots * b->block_bytes;
    r->read.len = b->block_bytes;
    r->read.done = read_done;
    store_read(b->store, &r->read);
}

static void start_list(struct request *r)
{
    memset(&r->omap, 0, sizeof r->omap);
    r->omap.object = object_of(r, 0);
    r->omap.from = r->last_key;
    r->omap.from_len = r->last_key_len;
    r->omap.max = LIST_KEYS;
    r->omap.done = omap_done;
    store_omap_read(r->b->store, &r->omap);
}

static void start(struct request *r)
{
    struct bench *b = r->b;
    bool over = b->count > 0 ? b->issued >= b->count : now_ns() >= b->deadline_ns;
    if (over || b->error < 0) {
        b->running--;
        return;
    }
    b->issued++;
    r->started_ns = now_ns();
    switch (b->op) {
    case OP_WRITE:
    case OP_OVERWRITE:
        start_write(r);
        break;
    case OP_READ:
        start_read(r);
        break;
    case OP_OMAP:
        start_omap(r);
        break;
    case OP_OMAP_LIST:
        start_list(r);
        break;
    }
}

/* ---- A phase ---- */

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static uint64_t rss_bytes(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (uint64_t)u.ru_maxrss * 1024;
}

static json_t *report(const struct bench *b, double seconds, double cpu, uint64_t written,
                      uint64_t flushes)
{
    double ops = (double)b->completed;
    double bytes = (double)b->bytes;
    return json_pack("{s:s, s:I, s:i, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:o}", "op",
                     op_names[b->op], "block_bytes", (json_int_t)b->block_bytes, "depth",
                     (int)b->depth, "count", (json_int_t)b->completed, "seconds", seconds,
                     "ops_per_second", ops / seconds, "mb_per_second", bytes / seconds / 1e6,
                     "cpu_us_per_op", cpu / ops * 1e6, "written_per_byte",
                     bytes > 0 ? (double)written / bytes : 0.0, "flushes_per_op",
                     (double)flushes / ops, "peak_rss_bytes", (json_int_t)rss_bytes(), "latency_us",
                     histogram_json(&b->latency, 1000));
}

static void print_report(const struct bench *b, json_t *result)
{
    if (b->json) {
        json_dumpf(result, stdout, JSON_INDENT(2));
        putchar('\n');
        return;
    }
    printf("%s %" PRIu64 " bytes, depth %u: %.0f /s, %.1f MB/s, p50 %.0f us, p99 %.0f us\n",
           op_names[b->op], b->block_bytes, b->depth,
           json_real_value(json_object_get(result, "ops_per_second")),
           json_real_value(json_object_get(result, "mb_per_second")),
           (double)histogram_percentile(&b->latency, 50) / 1000,
           (double)histogram_percentile(&b->latency, 99) / 1000);
    printf(
        "  CPU %.1f us an operation, %.2f bytes written for each, %.3f flushes, peak memory %.0f "
        "MB\n",
        json_real_value(json_object_get(result, "cpu_us_per_op")),
        json_real_value(json_object_get(result, "written_per_byte")),
        json_real_value(json_object_get(result, "flushes_per_op")), (double)rss_bytes() / 1e6);
}

static void run_requests(struct bench *b)
{
    struct request *requests = calloc(b->depth, sizeof *requests);
    if (!requests)
        die(ENOMEM, "%u requests", b->depth);
    b->issued = b->completed = b->bytes = 0;
    b->deadline_ns = now_ns() + (uint64_t)(b->seconds * 1e9);
    histogram_reset(&b->latency);
    b->running = b->depth;
    for (uint32_t i = 0; i < b->depth; i++) {
        requests[i].b = b;
        start(&requests[i]);
    }
    while (b->running > 0)
        env_real_turn(b->env, true);
    free(requests);
    if (b->error < 0)
        die(b->error, "the store refused an operation");
}

static void run_phase(struct bench *b)
{
    const struct disk *disk = engine_of(b->store)->disk;
    uint64_t written = disk->bytes_written, flushes = disk->flushes, began = now_ns();
    double cpu = cpu_seconds();
    run_requests(b);
    double seconds = (double)(now_ns() - began) / 1e9;
    json_t *result = report(b, seconds, cpu_seconds() - cpu, disk->bytes_written - written,
                            disk->flushes - flushes);
    if (!result)
        die(ENOMEM, "the report");
    print_report(b, result);
    json_decref(result);
}

/* Reads and overwrites need objects to begin with. */
static void prepare(struct bench *b)
{
    struct bench fill = *b;
    if (b->op != OP_READ && b->op != OP_OVERWRITE)
        return;
    fill.op = OP_WRITE;
    fill.verify = NULL;
    fill.acknowledged = NULL;
    fill.block_bytes = b->object_bytes;
    fill.depth = 8;
    fill.count = b->objects;
    run_requests(&fill);
}

/* The operation itself, until caches have grown and what is written behind has caught up. */
static void ramp(struct bench *b)
{
    struct bench before = *b;
    before.count = 0;
    before.seconds = b->ramp;
    run_requests(&before);
    b->random = before.random;
}

/* Every block once, so that what fits the cache is in it. */
static void warm(struct bench *b)
{
    struct bench all = *b;
    all.op = OP_READ;
    all.in_order = true;
    all.depth = 8;
    all.count = b->objects * (b->object_bytes / b->block_bytes);
    run_requests(&all);
}

/* ---- Opening ---- */

static void open_store(struct bench *b)
{
    struct env_real_options env_options = {0};
    struct store_engine_options options = {.memory_target = b->memory_target, .sparse = b->sparse};
    struct uuid uuid = {.bytes = {1}};
    char why[256], made[DAEMON_PATH_MAX];
    int error = env_real_create(&env_options, &b->env);
    if (error < 0)
        die(error, "cannot start");
    /* What RocksDB makes, since `block` may be a device, which is always there. */
    snprintf(made, sizeof made, "%s/index/CURRENT", b->dir);
    if (access(made, F_OK) != 0)
        error = store_engine_create(b->env, b->dir, b->disk_bytes, &uuid, &options, why);
    if (error < 0)
        die_because(error, "%s", why);
    uint64_t began = now_ns();
    error = store_engine_open(b->env, b->dir, &options, &b->store, why);
    if (error < 0)
        die_because(error, "%s", why);
    fprintf(stderr, "mounted in %.3f s\n", (double)(now_ns() - began) / 1e9);
}

static void on_closed(void *ctx)
{
    *(bool *)ctx = true;
}

static void close_store(struct bench *b)
{
    bool closed = false;
    b->store->ops->close(b->store, on_closed, &closed);
    while (!closed)
        env_real_turn(b->env, true);
    env_real_destroy(b->env);
}

/* ---- Verifying what an earlier, killed run acknowledged ---- */

struct verify_read {
    struct store_read read;
    bool done;
};

static void verify_done(struct store_read *read)
{
    container_of(read, struct verify_read, read)->done = true;
}

static bool verify_object(struct bench *b, uint64_t object, uint64_t acknowledged, uint8_t *want)
{
    struct request r = {.b = b};
    struct verify_read v = {.read = {.len = b->block_bytes, .done = verify_done}};
    uint64_t version = 0;
    v.read.object = object_of(&r, object);
    store_read(b->store, &v.read);
    while (!v.done)
        env_real_turn(b->env, true);
    bool right = true;
    if (v.read.error == -ENOENT) {
        right = acknowledged == 0;
    } else if (v.read.error < 0) {
        right = false;
    } else {
        memcpy(&version, v.read.stat.info, sizeof version);
        fill_version(want, b->block_bytes, object, version);
        right = version >= acknowledged && v.read.data.len == b->block_bytes &&
                memcmp(v.read.data.data, want, b->block_bytes) == 0;
    }
    if (!right)
        fprintf(stderr, "object %" PRIu64 ": %s, version %" PRIu64 ", acknowledged %" PRIu64 "\n",
                object, error_text(v.read.error), version, acknowledged);
    b->versions[object] = version > acknowledged ? version : acknowledged;
    buf_slice_drop(&v.read.data);
    encoder_fini(&v.read.attrs);
    return right;
}

static void verify_before(struct bench *b)
{
    uint64_t line[2], wrong = 0;
    uint8_t *want = malloc(b->block_bytes);
    b->versions = calloc(b->objects, sizeof *b->versions);
    FILE *file = fopen(b->verify, "re");
    if (!b->versions || !want)
        die(ENOMEM, "--verify");
    while (file && fread(line, sizeof line, 1, file) == 1)
        if (line[0] < b->objects && line[1] > b->versions[line[0]])
            b->versions[line[0]] = line[1];
    if (file)
        fclose(file);
    for (uint64_t n = 0; n < b->objects; n++)
        wrong += !verify_object(b, n, b->versions[n], want);
    free(want);
    fprintf(stderr, "verified %" PRIu64 " objects: %" PRIu64 " wrong\n", b->objects, wrong);
    if (wrong > 0)
        die_because(EIO, "acknowledged writes are lost or wrong");
    b->acknowledged = fopen(b->verify, "ae");
    if (!b->acknowledged)
        die(errno, "%s", b->verify);
}

/* ---- The command line ---- */

static const char bench_help[] =
    "usage: limpet store bench --data DIR [options]\n"
    "\n"
    "Measures the store's engine alone, in DIR (made if it is not there).\n"
    "\n"
    "  --op OP            write (new objects), overwrite, read, omap, omap-list; default "
    "overwrite\n"
    "  --block-size N     bytes of one operation (4K)\n"
    "  --object-size N    bytes of an object for overwrite and read (4M)\n"
    "  --objects N        number of objects for overwrite and read (256)\n"
    "  --depth N          operations under way (32)\n"
    "  --seconds S        length of the run (10)\n"
    "  --count N          number of operations instead\n"
    "  --ramp S           as many seconds of it before that are not measured (0)\n"
    "  --size N           bytes of a new store's disk (4G)\n"
    "  --sparse           the space of a new store's disk is taken as it is needed\n"
    "  --memory N         memory target (256M)\n"
    "  --no-fill          the objects are there already\n"
    "  --warm             reads all objects once before it measures\n"
    "  --verify FILE      writes whole objects of --block-size, notes in FILE what was "
    "acknowledged,\n"
    "                     and first checks what an earlier run noted there\n"
    "  -f, --format json  machine-readable result\n";

enum { OPT_BASE = 256 };

static uint64_t size_argument(const char *name, const char *text)
{
    uint64_t value;
    if (config_parse_size(text, &value) < 0 || value == 0)
        die_because(EINVAL, "--%s: '%s' is no size (a number, or one with K, M, G, T)", name, text);
    return value;
}

static void op_argument(struct bench *b, const char *text)
{
    for (size_t i = 0; i < sizeof op_names / sizeof op_names[0]; i++)
        if (strcmp(op_names[i], text) == 0) {
            b->op = (enum bench_op)i;
            return;
        }
    die_because(EINVAL, "--op: '%s' is none of write, overwrite, read, omap, omap-list", text);
}

static void parse(struct bench *b, int argc, char **argv, bool *fill)
{
    static const struct option options[] = {{"data", required_argument, NULL, 'D'},
                                            {"op", required_argument, NULL, 'o'},
                                            {"block-size", required_argument, NULL, 'b'},
                                            {"object-size", required_argument, NULL, 'O'},
                                            {"objects", required_argument, NULL, 'n'},
                                            {"depth", required_argument, NULL, 'd'},
                                            {"seconds", required_argument, NULL, 's'},
                                            {"count", required_argument, NULL, 'c'},
                                            {"ramp", required_argument, NULL, 'R'},
                                            {"size", required_argument, NULL, 'S'},
                                            {"memory", required_argument, NULL, 'M'},
                                            {"no-fill", no_argument, NULL, 'N'},
                                            {"warm", no_argument, NULL, 'W'},
                                            {"sparse", no_argument, NULL, 'P'},
                                            {"verify", required_argument, NULL, 'V'},
                                            {"format", required_argument, NULL, 'f'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    int c, at = 0;
    while ((c = getopt_long(argc, argv, "f:h", options, &at)) != -1) {
        const char *name = options[at].name;
        switch (c) {
        case 'D':
            b->dir = optarg;
            break;
        case 'o':
            op_argument(b, optarg);
            break;
        case 'b':
            b->block_bytes = size_argument(name, optarg);
            break;
        case 'O':
            b->object_bytes = size_argument(name, optarg);
            break;
        case 'n':
            b->objects = size_argument(name, optarg);
            break;
        case 'd':
            b->depth = (uint32_t)size_argument(name, optarg);
            break;
        case 's':
            b->seconds = strtod(optarg, NULL);
            break;
        case 'c':
            b->count = size_argument(name, optarg);
            break;
        case 'R':
            b->ramp = strtod(optarg, NULL);
            break;
        case 'S':
            b->disk_bytes = size_argument(name, optarg);
            break;
        case 'M':
            b->memory_target = size_argument(name, optarg);
            break;
        case 'N':
            *fill = false;
            break;
        case 'W':
            b->warm = true;
            break;
        case 'P':
            b->sparse = true;
            break;
        case 'V':
            b->verify = optarg;
            break;
        case 'f':
            b->json = strcmp(optarg, "json") == 0;
            break;
        case 'h':
            fputs(bench_help, stdout);
            exit(0);
        default:
            exit(EINVAL);
        }
    }
    if (!b->dir || optind < argc)
        die_because(EINVAL, "store bench needs --data DIR; see limpet store bench --help");
    if (b->block_bytes > b->object_bytes)
        b->object_bytes = b->block_bytes;
    if (b->object_bytes > OBJECT_SIZE_MAX || b->depth > 4096 || b->seconds <= 0)
        die_because(EINVAL, "an object holds at most 128 MiB, the depth is at most 4096, and the "
                            "time more than 0");
}

int store_bench_main(int argc, char **argv)
{
    static struct bench b = {.op = OP_OVERWRITE,
                             .block_bytes = 4096,
                             .object_bytes = 4 << 20,
                             .objects = 256,
                             .depth = 32,
                             .seconds = 10,
                             .disk_bytes = UINT64_C(4) << 30,
                             .memory_target = UINT64_C(256) << 20,
                             .random = UINT64_C(88172645463325252)};
    bool fill = true;
    parse(&b, argc, argv, &fill);
    open_store(&b);
    int error = buf_slice_alloc(b.object_bytes, &b.payload);
    if (error < 0)
        die(error, "out of memory");
    memset(b.payload.data, 0x5a, b.payload.len);
    if (b.verify) {
        b.op = OP_WRITE;
        verify_before(&b);
    } else if (fill) {
        prepare(&b);
    }
    if (b.warm)
        warm(&b);
    if (b.ramp > 0 && !b.verify)
        ramp(&b);
    run_phase(&b);
    buf_slice_drop(&b.payload);
    if (b.acknowledged)
        fclose(b.acknowledged);
    free(b.versions);
    close_store(&b);
    return 0;
}
