/*
 * limpet osd drain: takes OSDs out and, with --wait, tells how their data move until none are left.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/cli.h"

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

static json_t *osds_asked(const struct cli *cli)
{
    json_t *ids = json_array();
    for (int i = 0; i < cli->n_words; i++) {
        const char *word =
            strncmp(cli->words[i], "osd.", 4) == 0 ? cli->words[i] + 4 : cli->words[i];
        json_array_append_new(ids, json_string(word));
    }
    return ids;
}

static void show(bool terminal, uint64_t pgs, uint64_t bytes, const json_t *eta)
{
    char when[64] = "time not known";
    if (json_is_number(eta))
        snprintf(when, sizeof when, "about %.0f s", json_number_value(eta));
    fprintf(stderr, "%sdraining: %" PRIu64 " placement groups, %s left, %s%s", terminal ? "\r" : "",
            pgs, size_text(bytes), when, terminal ? "\033[K" : "\n");
    fflush(stderr);
}

/* A line whenever something has changed; on a terminal always the same one. */
static int wait_drained(struct cli *cli, json_t *ids)
{
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    uint64_t shown_pgs = UINT64_MAX, shown_bytes = 0;
    bool terminal = isatty(STDERR_FILENO) == 1;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    while (!interrupted) {
        json_t *answer = remote_call(cli, "osd safe-to-destroy",
                                     json_pack("{s:O, s:b}", "ids", ids, "report", 1));
        uint64_t pgs = json_number(answer, "pgs_left"), bytes = json_number(answer, "bytes_left");
        if (pgs != shown_pgs || bytes != shown_bytes)
            show(terminal, pgs, bytes, json_object_get(answer, "eta_seconds"));
        shown_pgs = pgs;
        shown_bytes = bytes;
        bool drained = pgs == 0;
        if (drained && terminal)
            fputc('\n', stderr);
        if (drained && cli->format != FORMAT_PLAIN)
            cli_print_json(cli, answer);
        json_decref(answer);
        if (drained) {
            if (cli->format == FORMAT_PLAIN)
                fprintf(stderr,
                        "drained: limpet osd safe-to-destroy agrees; stop and remove them\n");
            return 0;
        }
        nanosleep(&(struct timespec){.tv_nsec = 500 * 1000 * 1000}, NULL);
    }
    return complain(EINTR, "interrupted: the data go on moving; limpet osd in stops that");
}

int run_osd_drain(struct cli *cli)
{
    int code = remote_run(cli);
    if (code != 0 || !cli_has(cli, "wait") || cli_has(cli, "dry-run"))
        return code;
    json_t *ids = osds_asked(cli);
    code = wait_drained(cli, ids);
    json_decref(ids);
    return code;
}
