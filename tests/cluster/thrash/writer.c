/*
 * thrash-writer: a client that does all kinds of operations on objects, and writes down what it
 * asked and was told, as tests/sim/history_file.h has it.
 *
 *     thrash-writer OPTION...
 *         --pool NAME --client N --history FILE --seed N
 *         --shared FIRST-END --private FIRST-END     objects, named by their numbers
 *         --threads N --depth N --think-ms N         until SIGTERM, which lets it finish
 *     or  --sweep KIND [--length N]                  one operation on each object, in order
 *
 * A call is on file before it is submitted, so nothing happens that the file does not tell of,
 * however the process dies. Each thread is a client of its own: it submits one request after the
 * other, and so the cluster must keep their order. The first thread waits for each of its requests;
 * the others keep several under way.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/limpet.h"
#include "program.h"
#include "tests/sim/history.h"
#include "tests/sim/random.h"

enum {
    THREADS_MAX = 16,
    DEPTH_MAX = 64,
    /* Objects stay far below it; one that reaches it has become what nobody wrote. */
    READ_MAX = 2 * 1024 * 1024,
    GROW_UNTIL = 256 * 1024,
    PIECE_MAX = 16 * 1024,
    LENGTH_MAX = 64 * 1024,
    LINE_MAX_BYTES = 256,
};

struct range {
    uint32_t first, end;
};

struct options {
    const char *pool;
    const char *history;
    uint32_t client;
    uint64_t seed;
    struct range shared, private;
    uint32_t threads, depth, think_ms;
    bool sweep;
    enum history_kind kind;
    uint64_t length;
};

struct lane;

/* One operation at a time. */
struct slot {
    struct lane *lane;
    struct limpet_completion *completion;
    struct history_op call;
    uint64_t id;
    struct limpet_stat stat;
    struct limpet_op *op; /* NULL: none is needed. */
    uint8_t *data;
    bool busy; /* Cleared by the callback, before it posts. */
};

/* A thread. */
struct lane {
    struct writer *writer;
    uint32_t client;
    uint32_t depth;
    bool waits; /* For each request, instead of being called back. */
    uint64_t random;
    uint64_t serials;
    sem_t free;
    struct slot slots[DEPTH_MAX];
    pthread_t thread;
};

struct writer {
    struct options options;
    struct limpet_cluster *cluster;
    struct limpet_pool *pool;
    pthread_mutex_t lock; /* Of the history: ids are in the order of its lines. */
    int file;
    uint64_t next_id;
    atomic_bool stopping;
    atomic_uint_fast64_t answered;
    atomic_uint_fast64_t *sizes; /* Of each object, as the last answer suggests. */
    struct lane lanes[THREADS_MAX];
};

static const char *const kind_names[] = {"read",   "stat",     "write_full", "write_at",
                                         "append", "truncate", "remove",     "create"};

/* ---- The history ---- */

static void history_line(struct writer *w, const char *line, int len)
{
    assert(len > 0 && len < LINE_MAX_BYTES);
    if (write(w->file, line, (size_t)len) != len)
        give_up("%s: %s", w->options.history, strerror(errno));
}

static void note_call(struct writer *w, struct slot *slot)
{
    char line[LINE_MAX_BYTES];
    struct history_op *call = &slot->call;
    pthread_mutex_lock(&w->lock);
    slot->id = w->next_id++;
    call->called = now_ns();
    int len =
        snprintf(line, sizeof line,
                 "call %" PRIu64 " %u %u %s %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
                 slot->id, call->client, call->object, kind_names[call->kind], call->serial,
                 call->offset, call->len, call->called);
    history_line(w, line, len);
    pthread_mutex_unlock(&w->lock);
}

static void note_return(struct writer *w, const struct slot *slot)
{
    char line[LINE_MAX_BYTES];
    const struct history_op *call = &slot->call;
    int len = snprintf(line, sizeof line,
                       "return %" PRIu64 " %d %" PRIu64 " %" PRIx64 " %" PRIu64 " %" PRIu64
                       " %" PRIu64 "\n",
                       slot->id, call->result, call->size, call->hash, call->returned,
                       call->version.config, call->version.sequence);
    pthread_mutex_lock(&w->lock);
    history_line(w, line, len);
    pthread_mutex_unlock(&w->lock);
}

/* ---- Choosing ---- */

static uint64_t below(struct lane *lane, uint64_t n)
{
    return n > 0 ? random_split(&lane->random) % n : 0;
}

static enum history_kind choose_kind(struct lane *lane, uint64_t size)
{
    static const uint8_t weights[] = {35, 5, 15, 15, 14, 4, 7, 5};
    uint64_t dice = below(lane, 100);
    int kind = 0;
    while (dice >= weights[kind])
        dice -= weights[kind++];
    if (size >= GROW_UNTIL && (kind == HISTORY_APPEND || kind == HISTORY_WRITE_AT))
        return HISTORY_WRITE_FULL;
    return (enum history_kind)kind;
}

static uint32_t choose_object(struct lane *lane)
{
    const struct options *options = &lane->writer->options;
    bool shared = options->private.first == options->private.end || below(lane, 2) == 0;
    const struct range *range = shared ? &options->shared : &options->private;
    return range->first + (uint32_t)below(lane, range->end - range->first);
}

static uint64_t object_size(const struct writer *w, uint32_t object)
{
    return atomic_load(&w->sizes[object]);
}

static bool has_data(enum history_kind kind)
{
    return kind == HISTORY_WRITE_FULL || kind == HISTORY_WRITE_AT || kind == HISTORY_APPEND;
}

static void choose_call(struct lane *lane, struct history_op *call)
{
    memset(call, 0, sizeof *call);
    call->object = choose_object(lane);
    uint64_t size = object_size(lane->writer, call->object);
    call->kind = choose_kind(lane, size);
    if (call->kind == HISTORY_WRITE_FULL)
        call->len = below(lane, 4) ? below(lane, PIECE_MAX) : below(lane, LENGTH_MAX);
    else if (has_data(call->kind))
        call->len = 1 + (below(lane, 4) ? below(lane, PIECE_MAX / 4) : below(lane, PIECE_MAX));
    if (call->kind == HISTORY_WRITE_AT)
        call->offset = below(lane, size + 5000);
    else if (call->kind == HISTORY_TRUNCATE)
        call->offset = below(lane, size + 100);
}

/* ---- One operation ---- */

static void note_size(struct writer *w, const struct history_op *call)
{
    uint64_t size = object_size(w, call->object);
    switch (call->kind) {
    case HISTORY_READ:
    case HISTORY_STAT:
        size = call->size;
        break;
    case HISTORY_WRITE_FULL:
        size = call->len;
        break;
    case HISTORY_WRITE_AT:
        if (call->offset + call->len > size)
            size = call->offset + call->len;
        break;
    case HISTORY_APPEND:
        size += call->len;
        break;
    case HISTORY_TRUNCATE:
        size = call->offset;
        break;
    case HISTORY_REMOVE:
        size = 0;
        break;
    default:
        break;
    }
    atomic_store(&w->sizes[call->object], size);
}

static void slot_finish(struct slot *slot)
{
    struct writer *w = slot->lane->writer;
    struct history_op *call = &slot->call;
    call->returned = now_ns();
    ssize_t result = limpet_completion_result(slot->completion);
    struct limpet_object_version version = limpet_completion_version(slot->completion);
    call->result = result < 0 ? (int)result : 0;
    call->version = (struct wire_version){version.config, version.sequence};
    if (call->kind == HISTORY_READ && result >= 0) {
        if (result == READ_MAX)
            give_up("object %u is larger than anybody made it", call->object);
        call->size = (uint64_t)result;
        call->hash = content_hash(slot->data, (size_t)result);
    } else if (call->kind == HISTORY_STAT && result == 0) {
        call->size = slot->stat.size;
    }
    note_return(w, slot);
    note_size(w, call);
    atomic_fetch_add(&w->answered, 1);
    free(slot->data);
    slot->data = NULL;
    if (slot->op)
        limpet_op_destroy(slot->op);
    slot->op = NULL;
    limpet_completion_release(slot->completion);
    slot->completion = NULL;
}

static void slot_called_back(struct limpet_completion *completion, void *arg)
{
    (void)completion;
    struct slot *slot = arg;
    struct lane *lane = slot->lane;
    slot_finish(slot);
    __atomic_store_n(&slot->busy, false, __ATOMIC_RELEASE);
    sem_post(&lane->free);
}

static int submit_create(struct slot *slot, const char *name)
{
    slot->op = limpet_op_create();
    if (!slot->op)
        return -ENOMEM;
    int error = limpet_op_create_object(slot->op, true);
    if (error == 0)
        error = limpet_aio_operate(slot->lane->writer->pool, name, slot->completion, slot->op);
    return error;
}

static int submit(struct slot *slot)
{
    struct limpet_pool *pool = slot->lane->writer->pool;
    struct limpet_completion *c = slot->completion;
    const struct history_op *call = &slot->call;
    char name[32];
    snprintf(name, sizeof name, "thrash.%u", call->object);
    switch (call->kind) {
    case HISTORY_READ:
        return limpet_aio_read(pool, name, c, slot->data, READ_MAX, 0);
    case HISTORY_STAT:
        return limpet_aio_stat(pool, name, c, &slot->stat);
    case HISTORY_WRITE_FULL:
        return limpet_aio_write_full(pool, name, c, slot->data, call->len);
    case HISTORY_WRITE_AT:
        return limpet_aio_write(pool, name, c, slot->data, call->len, call->offset);
    case HISTORY_APPEND:
        return limpet_aio_append(pool, name, c, slot->data, call->len);
    case HISTORY_TRUNCATE:
        return limpet_aio_truncate(pool, name, c, call->offset);
    case HISTORY_REMOVE:
        return limpet_aio_remove(pool, name, c);
    case HISTORY_CREATE:
        return submit_create(slot, name);
    default:
        abort();
    }
}

/* Begins the call that the slot holds, and ends it too where its lane waits. */
static void slot_run(struct slot *slot)
{
    struct lane *lane = slot->lane;
    struct history_op *call = &slot->call;
    call->client = lane->client;
    size_t room = call->kind == HISTORY_READ ? READ_MAX : call->len;
    slot->data = malloc(room + 1);
    if (!slot->data || limpet_completion_create(lane->waits ? NULL : slot_called_back, slot,
                                                &slot->completion) < 0)
        give_up("out of memory");
    if (has_data(call->kind)) {
        call->serial = (uint64_t)lane->client << 32 | ++lane->serials;
        serial_fill(call->serial, 0, slot->data, call->len);
    }
    __atomic_store_n(&slot->busy, true, __ATOMIC_RELEASE);
    note_call(lane->writer, slot);
    int error = submit(slot);
    if (error < 0)
        give_up("%s of object %u: %s", kind_names[call->kind], call->object,
                limpet_error_text(error));
    if (!lane->waits)
        return;
    (void)limpet_completion_wait(slot->completion);
    slot_finish(slot);
    slot->busy = false;
}

/* ---- Threads ---- */

static struct slot *free_slot(struct lane *lane)
{
    while (sem_wait(&lane->free) < 0)
        continue;
    for (uint32_t i = 0; i < lane->depth; i++) {
        if (!__atomic_load_n(&lane->slots[i].busy, __ATOMIC_ACQUIRE))
            return &lane->slots[i];
    }
    abort();
}

static void lane_finish(struct lane *lane)
{
    for (uint32_t i = 0; i < lane->depth; i++) {
        while (sem_wait(&lane->free) < 0)
            continue;
    }
}

static void *lane_main(void *arg)
{
    struct lane *lane = arg;
    while (!atomic_load(&lane->writer->stopping)) {
        struct slot *slot = free_slot(lane);
        choose_call(lane, &slot->call);
        slot_run(slot);
        if (lane->waits)
            sem_post(&lane->free);
        think(&lane->random, 2 * lane->writer->options.think_ms);
    }
    lane_finish(lane);
    return NULL;
}

static void lane_init(struct writer *w, uint32_t number)
{
    struct lane *lane = &w->lanes[number];
    lane->writer = w;
    lane->client = w->options.client + number;
    lane->waits = number == 0;
    lane->depth = lane->waits ? 1 : w->options.depth;
    lane->random = w->options.seed * THREADS_MAX + number;
    sem_init(&lane->free, 0, lane->depth);
    for (uint32_t i = 0; i < lane->depth; i++)
        lane->slots[i].lane = lane;
}

static void run_until_told(struct writer *w, const sigset_t *ends)
{
    int signal_number;
    for (uint32_t i = 0; i < w->options.threads; i++) {
        if (pthread_create(&w->lanes[i].thread, NULL, lane_main, &w->lanes[i]) != 0)
            give_up("cannot start a thread");
    }
    while (sigwait(ends, &signal_number) != 0)
        continue;
    atomic_store(&w->stopping, true);
    for (uint32_t i = 0; i < w->options.threads; i++)
        pthread_join(w->lanes[i].thread, NULL);
}

/* One operation on each object. A full cluster ends it; others' faults are theirs to judge. */
static void run_sweep(struct writer *w)
{
    const struct range *ranges[] = {&w->options.shared, &w->options.private};
    struct slot *slot = &w->lanes[0].slots[0];
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        for (uint32_t object = ranges[i]->first; object < ranges[i]->end; object++) {
            memset(&slot->call, 0, sizeof slot->call);
            slot->call.object = object;
            slot->call.kind = w->options.kind;
            slot->call.len = has_data(w->options.kind) ? w->options.length : 0;
            slot_run(slot);
            if (slot->call.result == -ENOSPC)
                return;
        }
    }
}

/* ---- The command line ---- */

static struct range parse_range(const char *text)
{
    struct range range;
    char rest;
    if (sscanf(text, "%u-%u%c", &range.first, &range.end, &rest) != 2 || range.end < range.first)
        give_up("'%s' is no range FIRST-END", text);
    return range;
}

static enum history_kind parse_kind(const char *text)
{
    for (size_t i = 0; i < sizeof kind_names / sizeof kind_names[0]; i++) {
        if (strcmp(kind_names[i], text) == 0)
            return (enum history_kind)i;
    }
    give_up("'%s' is no kind of operation", text);
}

static void set_option(struct options *options, int which, const char *value)
{
    switch (which) {
    case 'p':
        options->pool = value;
        break;
    case 'c':
        options->client = (uint32_t)parse_number(value);
        break;
    case 'h':
        options->history = value;
        break;
    case 's':
        options->seed = parse_number(value);
        break;
    case 'o':
        options->shared = parse_range(value);
        break;
    case 'O':
        options->private = parse_range(value);
        break;
    case 't':
        options->threads = (uint32_t)parse_number(value);
        break;
    case 'd':
        options->depth = (uint32_t)parse_number(value);
        break;
    case 'm':
        options->think_ms = (uint32_t)parse_number(value);
        break;
    case 'S':
        options->sweep = true;
        options->kind = parse_kind(value);
        break;
    case 'l':
        options->length = parse_number(value);
        break;
    default:
        give_up("see the top of writer.c for the options");
    }
}

static struct options parse_options(int argc, char **argv)
{
    static const struct option known[] = {
        {"pool", required_argument, NULL, 'p'},     {"client", required_argument, NULL, 'c'},
        {"history", required_argument, NULL, 'h'},  {"seed", required_argument, NULL, 's'},
        {"shared", required_argument, NULL, 'o'},   {"private", required_argument, NULL, 'O'},
        {"threads", required_argument, NULL, 't'},  {"depth", required_argument, NULL, 'd'},
        {"think-ms", required_argument, NULL, 'm'}, {"sweep", required_argument, NULL, 'S'},
        {"length", required_argument, NULL, 'l'},   {0}};
    struct options options = {.threads = 3, .depth = 4};
    int c;
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1)
        set_option(&options, c, optarg);
    if (!options.pool || !options.history || optind < argc)
        give_up("--pool and --history are needed, and nothing but options");
    if (options.threads < 1 || options.threads > THREADS_MAX || options.depth < 1 ||
        options.depth > DEPTH_MAX)
        give_up("at most %d threads of depth %d", THREADS_MAX, DEPTH_MAX);
    if (options.shared.first == options.shared.end && options.private.first == options.private.end)
        give_up("no objects");
    return options;
}

int main(int argc, char **argv)
{
    static struct writer w;
    sigset_t ends;
    block_ends(&ends);
    w.options = parse_options(argc, argv);
    uint32_t end =
        w.options.shared.end > w.options.private.end ? w.options.shared.end : w.options.private.end;
    w.sizes = calloc(end, sizeof *w.sizes);
    w.file = open(w.options.history, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
    if (!w.sizes || w.file < 0)
        give_up("%s: %s", w.options.history, strerror(errno));
    pthread_mutex_init(&w.lock, NULL);
    for (uint32_t i = 0; i < w.options.threads; i++)
        lane_init(&w, i);
    w.cluster = connect_to_cluster();
    w.pool = open_pool(w.cluster, w.options.pool);
    if (w.options.sweep)
        run_sweep(&w);
    else
        run_until_told(&w, &ends);
    limpet_pool_close(w.pool);
    limpet_cluster_destroy(w.cluster);
    close(w.file);
    free(w.sizes);
    printf("%" PRIu64 " operations\n", (uint64_t)atomic_load(&w.answered));
    return 0;
}
