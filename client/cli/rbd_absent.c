/*
 * limpet rbd: verbs of Ceph's rbd for what is not there. Where nothing has to be there, they answer
 * as rbd does when it is not used; else they say what to do instead. The numbers are rbd's.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/cli/rbd.h"

#define NO_JOURNAL   "images have no journal; 'rbd export-diff' takes changes to other clusters"
#define NO_MIRRORING "mirroring is not enabled; 'rbd export-diff' takes changes to other clusters"
#define NO_MIGRATION                                                                               \
    "there is no migration; 'rbd deep cp' copies an image that nobody uses, with its snapshots"
#define NO_SCHEDULE                                                                                \
    "there are no schedules; let cron or a timer of systemd call 'limpet rbd trash purge'"
#define NO_SNAPSHOTS "there are no mirror snapshots, and no schedules of them"
#define NO_GLOBAL                                                                                  \
    "there are no global overrides; 'rbd config pool set' sets the options of a pool's images"
#define NO_PERF   "there are no figures of single images; 'limpet rados df' has those of pools"
#define NO_ATTACH "mapping the image again takes a device up again that lost its process"

static const struct absent {
    const char *verb;
    int error; /* 0: nothing has to be done; the text is the answer. */
    const char *text;
    const char *json;
} absent[] = {
    {"config global get", ENOENT, NO_GLOBAL, NULL},
    {"config global list", 0, NULL, "[]"},
    {"config global ls", 0, NULL, "[]"},
    {"config global remove", 0, NULL, NULL},
    {"config global rm", 0, NULL, NULL},
    {"config global set", EOPNOTSUPP, NO_GLOBAL, NULL},
    {"device attach", EOPNOTSUPP, NO_ATTACH, NULL},
    {"device detach", EOPNOTSUPP, NO_ATTACH, NULL},
    {"journal client disconnect", ENOENT, NO_JOURNAL, NULL},
    {"journal export", ENOENT, NO_JOURNAL, NULL},
    {"journal import", ENOENT, NO_JOURNAL, NULL},
    {"journal info", ENOENT, NO_JOURNAL, NULL},
    {"journal inspect", ENOENT, NO_JOURNAL, NULL},
    {"journal reset", ENOENT, NO_JOURNAL, NULL},
    {"journal status", ENOENT, NO_JOURNAL, NULL},
    {"migration abort", EINVAL, NO_MIGRATION, NULL},
    {"migration commit", EINVAL, NO_MIGRATION, NULL},
    {"migration execute", EINVAL, NO_MIGRATION, NULL},
    {"migration prepare", EOPNOTSUPP, NO_MIGRATION, NULL},
    {"mirror image demote", EINVAL, NO_MIRRORING, NULL},
    {"mirror image disable", EINVAL, NO_MIRRORING, NULL},
    {"mirror image enable", EINVAL, NO_MIRRORING, NULL},
    {"mirror image promote", EINVAL, NO_MIRRORING, NULL},
    {"mirror image resync", EINVAL, NO_MIRRORING, NULL},
    {"mirror image snapshot", EINVAL, NO_MIRRORING, NULL},
    {"mirror image status", EINVAL, NO_MIRRORING, NULL},
    {"mirror pool demote", EINVAL, NO_MIRRORING, NULL},
    {"mirror pool disable", 0, NULL, NULL},
    {"mirror pool enable", EOPNOTSUPP, NO_MIRRORING, NULL},
    {"mirror pool info", 0, "Mode: disabled", "{\"mode\":\"disabled\"}"},
    {"mirror pool peer add", EINVAL, NO_MIRRORING, NULL},
    {"mirror pool peer bootstrap create", EINVAL, NO_MIRRORING, NULL},
    {"mirror pool peer bootstrap import", EOPNOTSUPP, NO_MIRRORING, NULL},
    {"mirror pool peer remove", EINVAL, NO_MIRRORING, NULL},
    {"mirror pool peer set", EINVAL, NO_MIRRORING, NULL},
    {"mirror pool promote", EINVAL, NO_MIRRORING, NULL},
    {"mirror pool status", EINVAL, NO_MIRRORING, NULL},
    {"mirror snapshot schedule add", EOPNOTSUPP, NO_SNAPSHOTS, NULL},
    {"mirror snapshot schedule list", ENOENT, NO_SNAPSHOTS, NULL},
    {"mirror snapshot schedule ls", ENOENT, NO_SNAPSHOTS, NULL},
    {"mirror snapshot schedule remove", ENOENT, NO_SNAPSHOTS, NULL},
    {"mirror snapshot schedule rm", ENOENT, NO_SNAPSHOTS, NULL},
    {"mirror snapshot schedule status", 0, "SCHEDULE TIME  IMAGE  ", "[]"},
    {"perf image iostat", EOPNOTSUPP, NO_PERF, NULL},
    {"perf image iotop", EOPNOTSUPP, NO_PERF, NULL},
    {"persistent-cache flush", 0, NULL, NULL},
    {"persistent-cache invalidate", 0, NULL, NULL},
    {"trash purge schedule add", EOPNOTSUPP, NO_SCHEDULE, NULL},
    {"trash purge schedule list", ENOENT, NO_SCHEDULE, NULL},
    {"trash purge schedule ls", ENOENT, NO_SCHEDULE, NULL},
    {"trash purge schedule remove", ENOENT, NO_SCHEDULE, NULL},
    {"trash purge schedule rm", ENOENT, NO_SCHEDULE, NULL},
    {"trash purge schedule status", 0, "POOL  NAMESPACE  SCHEDULE TIME ", "[]"},
};

int rbd_absent(struct cli *cli)
{
    char given[512];
    int at = snprintf(given, sizeof given, "%s", cli->command->path + strlen("rbd "));
    for (int i = 0; i < cli->n_words && at < 256; i++)
        at += snprintf(given + at, sizeof given - (size_t)at, " %.200s", cli->words[i]);
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++) {
        const struct absent *a = &absent[i];
        size_t len = strlen(a->verb);
        if (strncmp(given, a->verb, len) != 0 || (given[len] != 0 && given[len] != ' '))
            continue;
        if (a->error != 0)
            return complain(a->error, "%s: %s: %s", a->verb, error_phrase(a->error), a->text);
        const char *answer = rbd_wants_json(cli) ? a->json : a->text;
        if (answer != NULL)
            puts(answer);
        return 0;
    }
    fail(EINVAL, "unknown command 'rbd %s'; '%s help' lists all", given, cli->program);
}
