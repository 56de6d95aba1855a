/* limpet rados watch, notify, listwatchers; with the output of rados. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "client/limpet/object.h"

static struct limpet_pool *open_pool(struct cli *cli)
{
    const char *name = cli_text(cli, "pool", NULL);
    if (name == NULL)
        fail(EINVAL, "name the pool with -p POOL; '%s' lists the pools", "limpet pool ls");
    cli_connect(cli);
    struct limpet_pool *pool = cli_open_pool(cli, name);
    int rc = limpet_pool_set_namespace(pool, cli_text(cli, "namespace", ""));
    if (rc != 0)
        fail(rc, "namespace: %s", error_phrase(rc));
    return pool;
}

/* As hexdump -C has it. */
static void dump(const uint8_t *data, size_t len)
{
    for (size_t at = 0; at < len; at += 16) {
        printf("%08zx ", at);
        for (size_t i = at; i < at + 16; i++) {
            printf(i % 8 == 0 ? " " : "");
            if (i < len)
                printf("%02x ", data[i]);
            else
                printf("   ");
        }
        printf(" |");
        for (size_t i = at; i < at + 16 && i < len; i++)
            putchar(data[i] >= ' ' && data[i] < 0x7f ? data[i] : '.');
        printf("|\n");
    }
    printf("%08zx\n", len);
}

/* ---- watch ---- */

static void on_notified(struct limpet_watch *watch, void *arg, uint64_t notifier, uint64_t id,
                        const void *data, size_t len)
{
    (void)arg;
    printf("NOTIFY cookie %" PRIu64 " notify_id %" PRIu64 " from %" PRIu64 "\n",
           limpet_watch_cookie(watch), id, notifier);
    dump(data, len);
    fflush(stdout);
    int rc = limpet_notify_ack(watch, notifier, id, NULL, 0);
    if (rc != 0)
        complain(rc, "error acknowledging notify %" PRIu64 ": %s", id, error_phrase(rc));
}

static void on_lost(struct limpet_watch *watch, void *arg, int error)
{
    int *lost = arg;
    printf("ERROR cookie %" PRIu64 " err %s\n", limpet_watch_cookie(watch), error_phrase(error));
    fflush(stdout);
    *lost = error;
    /* Whoever waits for a line is told that there is nothing to wait for. */
    kill(getpid(), SIGUSR1);
}

static void wake(int signal)
{
    (void)signal;
}

/* Until a line, the end of the input, or the end of the watch. */
static void wait_for_enter(const int *lost)
{
    char line[64];
    ssize_t n = 1;
    while (*lost == 0 && n > 0 && (n = read(STDIN_FILENO, line, sizeof line)) != 0) {
        if (n > 0 && memchr(line, '\n', (size_t)n) != NULL)
            break;
        if (n < 0 && errno == EINTR)
            n = 1;
    }
}

int run_watch(struct cli *cli)
{
    static const struct limpet_watch_calls calls = {.notified = on_notified, .lost = on_lost};
    /* Without SA_RESTART: it interrupts the wait. */
    struct sigaction action = {.sa_handler = wake};
    struct limpet_pool *pool = open_pool(cli);
    const char *object = cli->words[0];
    struct limpet_watch *watch;
    int lost = 0;
    sigaction(SIGUSR1, &action, NULL);
    uint64_t timeout_ms = 1000 * cli_number(cli, "timeout", 30, 1, 600);
    int rc = limpet_watch(pool, object, (uint32_t)timeout_ms, &calls, &lost, &watch);
    int code = 0;
    if (rc != 0) {
        code = complain(rc, "error watching %s/%s: %s", limpet_pool_name(pool), object,
                        error_phrase(rc));
    } else {
        printf("press enter to exit...\n");
        fflush(stdout);
        wait_for_enter(&lost);
        limpet_unwatch(watch);
        code = lost != 0 ? -lost : 0;
    }
    limpet_pool_close(pool);
    return code;
}

/* ---- notify ---- */

static json_t *answer_json(const struct limpet_answer *answer)
{
    char watcher[32], cookie[32];
    snprintf(watcher, sizeof watcher, "client.%" PRIu64, answer->watcher);
    snprintf(cookie, sizeof cookie, "%" PRIu64, answer->cookie);
    json_t *json = json_pack("{s:s, s:s, s:b}", "client", watcher, "cookie", cookie, "timeout",
                             (int)answer->missed);
    if (!answer->missed)
        json_object_set_new(json, "reply", name_json(answer->data, answer->len));
    return json;
}

static void print_answers(struct cli *cli, struct limpet_answers *answers)
{
    struct limpet_answer answer;
    json_t *list = json_array();
    while (limpet_answers_next(answers, &answer) == 0) {
        if (cli->format != FORMAT_PLAIN) {
            json_array_append_new(list, answer_json(&answer));
        } else if (answer.missed) {
            printf("timeout client.%" PRIu64 " cookie %" PRIu64 "\n", answer.watcher,
                   answer.cookie);
        } else {
            printf("reply client.%" PRIu64 " cookie %" PRIu64 " : %zu bytes\n", answer.watcher,
                   answer.cookie, answer.len);
            if (answer.len > 0)
                dump(answer.data, answer.len);
        }
    }
    if (cli->format != FORMAT_PLAIN)
        cli_print_json(cli, list);
    json_decref(list);
}

int run_notify(struct cli *cli)
{
    struct limpet_pool *pool = open_pool(cli);
    const char *object = cli->words[0], *text = cli->words[1];
    struct limpet_answers *answers = NULL;
    uint64_t timeout_ms = 1000 * cli_number(cli, "timeout", 10, 1, 600);
    int rc = limpet_notify(pool, object, text, strlen(text), (uint32_t)timeout_ms, &answers);
    if (answers != NULL)
        print_answers(cli, answers);
    limpet_answers_destroy(answers);
    int code = rc == 0 ? 0 : complain(rc, "error calling notify: %s", error_phrase(rc));
    limpet_pool_close(pool);
    return code;
}

/* ---- listwatchers ---- */

static const char *mode_name(unsigned mode)
{
    return mode == LIMPET_LEASE_SHARED      ? " lease=shared"
           : mode == LIMPET_LEASE_EXCLUSIVE ? " lease=exclusive"
           : mode == LIMPET_LEASE_FENCED    ? " lease=fenced"
                                            : "";
}

/* "10.0.0.1:0/4711": the address that 'limpet osd blocklist add' takes. */
static void client_address(const struct limpet_watcher *watcher, char *out, size_t size)
{
    const char *port = strrchr(watcher->address, ':');
    int len = port != NULL ? (int)(port - watcher->address) : (int)strlen(watcher->address);
    snprintf(out, size, "%.*s:0/%" PRIu64, len, watcher->address, watcher->instance);
}

int run_listwatchers(struct cli *cli)
{
    struct limpet_pool *pool = open_pool(cli);
    struct limpet_watcher *list;
    json_t *json = json_array();
    size_t n = 0;
    int rc = limpet_watchers(pool, cli->words[0], &list, &n);
    int code = 0;
    if (rc != 0)
        code = complain(rc, "error listing watchers of %s/%s: %s", limpet_pool_name(pool),
                        cli->words[0], error_phrase(rc));
    for (size_t i = 0; i < n; i++) {
        char address[128], client[32], cookie[32];
        client_address(&list[i], address, sizeof address);
        snprintf(client, sizeof client, "client.%" PRIu64, list[i].instance);
        snprintf(cookie, sizeof cookie, "%" PRIu64, list[i].cookie);
        if (cli->format == FORMAT_PLAIN)
            printf("watcher=%s %s cookie=%s%s\n", address, client, cookie, mode_name(list[i].mode));
        else
            json_array_append_new(json,
                                  json_pack("{s:s, s:s, s:s, s:i}", "address", address, "client",
                                            client, "cookie", cookie, "lease", (int)list[i].mode));
    }
    if (rc == 0 && cli->format != FORMAT_PLAIN)
        cli_print_json(cli, json);
    if (rc == 0)
        limpet_free(list);
    json_decref(json);
    limpet_pool_close(pool);
    return code;
}
