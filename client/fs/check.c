/* Checking: the passes, and what is told of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/fs/check.h"

enum { PASSES_MAX = 12 };

static const char *const names[LIMPET_FS_DAMAGES_END] = {
    [LIMPET_FS_INTENT] = "intent",
    [LIMPET_FS_MARK] = "mark",
    [LIMPET_FS_ORPHAN] = "orphan",
    [LIMPET_FS_BUSY] = "busy",
    [LIMPET_FS_UNNAMED] = "unnamed",
    [LIMPET_FS_NO_ROOT] = "no-root",
    [LIMPET_FS_NO_SUPER] = "no-super",
    [LIMPET_FS_BAD_RECORD] = "bad-record",
    [LIMPET_FS_NO_SHARD] = "no-shard",
    [LIMPET_FS_NO_DIRECTORY] = "no-directory",
    [LIMPET_FS_NUMBER_REUSED] = "number-reused",
    [LIMPET_FS_ENTRY_DANGLING] = "entry-dangling",
    [LIMPET_FS_ENTRY_TYPE] = "entry-type",
    [LIMPET_FS_ENTRY_MISPLACED] = "entry-misplaced",
    [LIMPET_FS_ENTRY_SECOND] = "entry-second",
    [LIMPET_FS_ENTRY_MOVING] = "entry-moving",
    [LIMPET_FS_PARENT] = "parent",
    [LIMPET_FS_LINKS] = "links",
    [LIMPET_FS_UNREACHABLE] = "unreachable",
    [LIMPET_FS_LOOP] = "loop",
    [LIMPET_FS_ORPHAN_WRONG] = "orphan-wrong",
    [LIMPET_FS_ATTRIBUTE] = "attribute",
    [LIMPET_FS_DYING] = "dying",
    [LIMPET_FS_ATTRIBUTES] = "attributes",
    [LIMPET_FS_NO_PART] = "no-part",
    [LIMPET_FS_PART_UNKNOWN] = "part-unknown",
    [LIMPET_FS_PART_LOST] = "part-lost",
    [LIMPET_FS_DATA_LOST] = "data-lost",
    [LIMPET_FS_DATA_OLD] = "data-old",
    [LIMPET_FS_DATA_BEYOND] = "data-beyond",
    [LIMPET_FS_DATA_HIDDEN] = "data-hidden",
};

const char *limpet_fs_damage_name(enum limpet_fs_damage damage)
{
    return damage > 0 && damage < LIMPET_FS_DAMAGES_END ? names[damage] : "unknown";
}

static int count_clients(struct check *check)
{
    struct limpet_fs_client *clients;
    size_t n;
    int rc = limpet_fs_clients(check->fs, &clients, &n);
    if (rc == 0)
        limpet_free(clients);
    check->n_clients = rc == 0 ? n : 0;
    /* Without the object that says so nobody can have it open. */
    return rc == -ENOENT ? 0 : rc;
}

static bool same(const struct limpet_fs_finding *a, const struct limpet_fs_finding *b)
{
    return a->damage == b->damage && a->ino == b->ino && a->dir == b->dir &&
           a->number == b->number && a->other == b->other && strcmp(a->name, b->name) == 0;
}

/* Others work on it: what is found once may have been on its way, and files without names be open.
 */
static bool counts(const struct check *check, const struct limpet_fs_finding *finding)
{
    const struct limpet_fs_finding *before = check->before.items;
    if (check->n_clients == 0)
        return true;
    for (size_t i = 0; i < check->before.n && finding->damage >= LIMPET_FS_DAMAGES; i++) {
        if (same(&before[i], finding))
            return true;
    }
    return false;
}

static size_t tell(struct check *check)
{
    struct limpet_fs_finding *findings = check->found.items;
    struct limpet_fs_check_report *report = check->report;
    size_t n = 0;
    report->left = 0;
    for (size_t i = 0; i < check->found.n; i++) {
        struct limpet_fs_finding *finding = &findings[i];
        if (!counts(check, finding))
            continue;
        n++;
        *(finding->damage < LIMPET_FS_DAMAGES ? &report->unfinished : &report->damaged) += 1;
        if (check->repair)
            finding->error = check_fix(check, finding);
        if (!check->repair || finding->error != 0)
            report->left++;
        if (check->calls->found != NULL)
            check->calls->found(finding, check->arg);
    }
    return n;
}

static int look(struct check *check)
{
    check_scan_forget(check);
    int rc = check_scan(check);
    return rc == 0 ? check_rules(check) : rc;
}

/* What a repair could not mend is found again: then there is no use in going on. */
static bool goes_on(const struct check *check, size_t n)
{
    return check->repair && n > 0 && n > check->report->left && check->pass + 1 < PASSES_MAX;
}

int limpet_fs_check(struct limpet_fs *fs, bool repair, const struct limpet_fs_check_calls *calls,
                    void *arg, struct limpet_fs_check_report *out)
{
    static const struct limpet_fs_check_calls none;
    struct check check = {.fs = fs,
                          .repair = repair,
                          .calls = calls != NULL ? calls : &none,
                          .arg = arg,
                          .report = out};
    *out = (struct limpet_fs_check_report){0};
    int rc = count_clients(&check);
    out->clients = check.n_clients;
    if (rc == 0 && repair && check.n_clients > 0)
        rc = -EBUSY;
    if (rc == 0)
        rc = look(&check);
    if (rc == 0 && check.n_clients > 0) {
        check.before = check.found;
        check.found = (struct check_list){0, 0, NULL};
        rc = look(&check);
    }
    while (rc == 0 && goes_on(&check, tell(&check))) {
        check.pass++;
        rc = look(&check);
    }
    out->passes = check.pass + 1;
    check_scan_forget(&check);
    free(check.before.items);
    return rc;
}
