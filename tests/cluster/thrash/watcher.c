/*
 * thrash-watcher: a client that watches objects and notifies their watchers, and writes down what
 * it was told: watches.py compares that with what the others have.
 *
 *     thrash-watcher --pool NAME --history FILE --seed N --objects N
 *
 * Until SIGTERM, which ends its notifies. It keeps watching then, until SIGUSR1 makes it notify all
 * objects once more ("last"), and another SIGTERM end its watches. A lost watch is begun anew.
 *
 * Lines, with times of the clock that all namespaces share:
 *     watch OBJECT INSTANCE COOKIE TIMEOUT TIME limpet_watch() has returned
 *     sure COOKIE TIME                          it existed at this time for certain
 *     end COOKIE TIME                           it is about to be ended
 *     lost COOKIE TIME
 *     told COOKIE NOTIFIER ID SERIAL TIME
 *     notify SERIAL OBJECT KIND TIME            short, long or last
 *     answer SERIAL INSTANCE COOKIE WHAT        missed, or the serial that was answered
 *     answered SERIAL RESULT TIME
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/limpet.h"
#include "client/limpet/object.h"
#include "program.h"
#include "tests/sim/random.h"

enum {
    OBJECTS_MAX = 16,
    LINE_MAX_BYTES = 256,
    /* Some watches are lost by faults, others outlast all of them. */
    WATCH_SHORT_MS = 3000,
    WATCH_LONG_MS = 20000,
    /* Some notifies are over before the faults are, others wait for all who are alive. */
    NOTIFY_SHORT_MS = 1500,
    NOTIFY_LONG_MS = 600000,
    SURE_MS = 300,
    THINK_MS = 150,
};

struct place {
    uint32_t object;
    struct limpet_watch *watch; /* NULL: none. */
    atomic_bool lost;
};

static struct {
    const char *pool_name, *path;
    uint64_t seed, instance;
    uint32_t n;
    struct limpet_cluster *cluster;
    struct limpet_pool *pool;
    int file;
    atomic_bool quiet, stopping;
    atomic_uint_fast64_t serial, told;
    struct place places[OBJECTS_MAX];
} run;

__attribute__((format(printf, 1, 2))) static void note(const char *format, ...)
{
    char line[LINE_MAX_BYTES];
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (len < 0 || len >= LINE_MAX_BYTES || write(run.file, line, (size_t)len) != len)
        give_up("%s: %s", run.path, strerror(errno));
}

static void object_name(uint32_t object, char name[32])
{
    snprintf(name, 32, "watch.%" PRIu32, object);
}

/* ---- Watching ---- */

static void notified(struct limpet_watch *watch, void *arg, uint64_t notifier, uint64_t id,
                     const void *data, size_t len)
{
    (void)arg;
    uint64_t serial = 0;
    if (len != sizeof serial)
        give_up("told of %zu bytes", len);
    memcpy(&serial, data, sizeof serial);
    /* On file before anybody can know of it. */
    note("told %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
         limpet_watch_cookie(watch), notifier, id, serial, now_ns());
    atomic_fetch_add(&run.told, 1);
    int error = limpet_notify_ack(watch, notifier, id, &serial, sizeof serial);
    if (error < 0)
        give_up("an answer: %s", limpet_error_text(error));
}

static void lost(struct limpet_watch *watch, void *arg, int error)
{
    struct place *place = arg;
    if (error != -ENOTCONN)
        give_up("a watch is lost: %s", limpet_error_text(error));
    note("lost %" PRIu64 " %" PRIu64 "\n", limpet_watch_cookie(watch), now_ns());
    atomic_store(&place->lost, true);
}

static const struct limpet_watch_calls calls = {.notified = notified, .lost = lost};

/* A full cluster refuses it, like any write. */
static void begin_watch(struct place *place, uint64_t *random)
{
    char name[32];
    object_name(place->object, name);
    uint32_t timeout_ms = random_split(random) % 2 ? WATCH_SHORT_MS : WATCH_LONG_MS;
    atomic_store(&place->lost, false);
    int error = limpet_watch(run.pool, name, timeout_ms, &calls, place, &place->watch);
    uint64_t now = now_ns();
    if (error < 0 && error != -ENOSPC && error != -ENOTCONN && error != -ETIMEDOUT)
        give_up("a watch of %s: %s", name, limpet_error_text(error));
    if (error < 0)
        place->watch = NULL;
    else
        note("watch %" PRIu32 " %" PRIu64 " %" PRIu64 " %" PRIu32 " %" PRIu64 "\n", place->object,
             run.instance, limpet_watch_cookie(place->watch), timeout_ms, now);
}

static void note_sure(const struct place *place)
{
    uint64_t now = now_ns();
    int64_t ago_ms = limpet_watch_check(place->watch);
    /* What was less than a millisecond ago is rounded down. */
    if (ago_ms >= 0)
        note("sure %" PRIu64 " %" PRIu64 "\n", limpet_watch_cookie(place->watch),
             now - (uint64_t)(ago_ms + 1) * 1000000);
}

static void end_watch(struct place *place)
{
    if (!place->watch)
        return;
    note_sure(place);
    note("end %" PRIu64 " %" PRIu64 "\n", limpet_watch_cookie(place->watch), now_ns());
    int error = limpet_unwatch(place->watch);
    if (error < 0 && error != -ENOTCONN && error != -ENOSPC)
        give_up("the end of a watch: %s", limpet_error_text(error));
    place->watch = NULL;
}

static void *watcher_main(void *arg)
{
    uint64_t random = run.seed;
    (void)arg;
    while (!atomic_load(&run.stopping)) {
        for (uint32_t i = 0; i < run.n; i++) {
            struct place *place = &run.places[i];
            bool leaves = !atomic_load(&run.quiet) && random_split(&random) % 200 == 0;
            if (place->watch && (leaves || atomic_load(&place->lost)))
                end_watch(place);
            if (!place->watch)
                begin_watch(place, &random);
            else
                note_sure(place);
        }
        think(&random, SURE_MS);
    }
    for (uint32_t i = 0; i < run.n; i++)
        end_watch(&run.places[i]);
    return NULL;
}

/* ---- Notifying ---- */

static void notify(uint32_t object, const char *kind, uint32_t timeout_ms)
{
    char name[32];
    struct limpet_answers *answers = NULL;
    struct limpet_answer answer;
    uint64_t serial = run.seed << 24 | atomic_fetch_add(&run.serial, 1);
    object_name(object, name);
    note("notify %" PRIu64 " %" PRIu32 " %s %" PRIu64 "\n", serial, object, kind, now_ns());
    int error = limpet_notify(run.pool, name, &serial, sizeof serial, timeout_ms, &answers);
    uint64_t now = now_ns();
    if (error < 0 && error != -ETIMEDOUT)
        give_up("a notify of %s: %s", name, limpet_error_text(error));
    if (!answers)
        give_up("a notify of %s has no answers", name);
    while (limpet_answers_next(answers, &answer) == 0) {
        uint64_t what = 0;
        if (!answer.missed && answer.len != sizeof what)
            give_up("an answer of %zu bytes", answer.len);
        if (!answer.missed)
            memcpy(&what, answer.data, sizeof what);
        char text[24] = "missed";
        if (!answer.missed)
            snprintf(text, sizeof text, "%" PRIu64, what);
        note("answer %" PRIu64 " %" PRIu64 " %" PRIu64 " %s\n", serial, answer.watcher,
             answer.cookie, text);
    }
    limpet_answers_destroy(answers);
    note("answered %" PRIu64 " %d %" PRIu64 "\n", serial, error, now);
}

static void *short_main(void *arg)
{
    uint64_t random = run.seed + 1;
    (void)arg;
    while (!atomic_load(&run.quiet)) {
        notify((uint32_t)(random_split(&random) % run.n), "short", NOTIFY_SHORT_MS);
        think(&random, THINK_MS);
    }
    return NULL;
}

static void *long_main(void *arg)
{
    uint64_t random = run.seed + 2;
    (void)arg;
    while (!atomic_load(&run.quiet)) {
        notify((uint32_t)(random_split(&random) % run.n), "long", NOTIFY_LONG_MS);
        think(&random, THINK_MS);
    }
    return NULL;
}

/* ---- Begin and end ---- */

static void parse_options(int argc, char **argv)
{
    static const struct option known[] = {{"pool", required_argument, NULL, 'p'},
                                          {"history", required_argument, NULL, 'h'},
                                          {"seed", required_argument, NULL, 's'},
                                          {"objects", required_argument, NULL, 'o'},
                                          {0}};
    int c;
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (c == 'p')
            run.pool_name = optarg;
        else if (c == 'h')
            run.path = optarg;
        else if (c == 's')
            run.seed = parse_number(optarg);
        else if (c == 'o')
            run.n = (uint32_t)parse_number(optarg);
        else
            give_up("see the top of watcher.c for the options");
    }
    if (!run.pool_name || !run.path || run.n < 1 || run.n > OBJECTS_MAX || optind < argc)
        give_up("--pool, --history and up to %d --objects are needed", OBJECTS_MAX);
}

static void wait_for(const sigset_t *set, int wanted)
{
    int number = 0;
    while (number != wanted)
        (void)sigwait(set, &number);
}

int main(int argc, char **argv)
{
    pthread_t watcher, notifiers[2];
    sigset_t ends;
    block_ends(&ends);
    parse_options(argc, argv);
    run.file = open(run.path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
    if (run.file < 0)
        give_up("%s: %s", run.path, strerror(errno));
    run.cluster = connect_to_cluster();
    run.instance = limpet_cluster_instance(run.cluster);
    run.pool = open_pool(run.cluster, run.pool_name);
    for (uint32_t i = 0; i < run.n; i++)
        run.places[i].object = i;
    if (pthread_create(&watcher, NULL, watcher_main, NULL) != 0 ||
        pthread_create(&notifiers[0], NULL, short_main, NULL) != 0 ||
        pthread_create(&notifiers[1], NULL, long_main, NULL) != 0)
        give_up("cannot start a thread");
    wait_for(&ends, SIGTERM);
    atomic_store(&run.quiet, true);
    pthread_join(notifiers[0], NULL);
    pthread_join(notifiers[1], NULL);
    note("quiet\n");
    wait_for(&ends, SIGUSR1);
    for (uint32_t i = 0; i < run.n; i++)
        notify(i, "last", NOTIFY_LONG_MS);
    note("done\n");
    wait_for(&ends, SIGTERM);
    atomic_store(&run.stopping, true);
    pthread_join(watcher, NULL);
    printf("told %" PRIu64 " times, %" PRIu64 " notifies\n", (uint64_t)atomic_load(&run.told),
           (uint64_t)atomic_load(&run.serial));
    limpet_pool_close(run.pool);
    limpet_cluster_destroy(run.cluster);
    close(run.file);
    return 0;
}
