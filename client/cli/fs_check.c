/* limpet fs check: what is wrong in a file system, told and repaired. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/fs.h"

/* As of fsck(8). */
enum { CHECK_CLEAN = 0, CHECK_REPAIRED = 1, CHECK_LEFT = 4, CHECK_FAILED = 8 };

static const struct {
    const char *what, *done;
} texts[LIMPET_FS_DAMAGES_END] = {
    [LIMPET_FS_INTENT] = {"an operation over two directories has not ended", "completed"},
    [LIMPET_FS_MARK] = {"a mark of an operation that is over", "removed"},
    [LIMPET_FS_ORPHAN] = {"a file without a name that nobody has open", "removed"},
    [LIMPET_FS_BUSY] = {"a truncation or a removal has not ended", "completed"},
    [LIMPET_FS_UNNAMED] = {"an empty directory that has not got its name", "removed"},
    [LIMPET_FS_NO_ROOT] = {"there is no root", "made"},
    [LIMPET_FS_NO_SUPER] = {"numbers of directories would be given again", "corrected"},
    [LIMPET_FS_BAD_RECORD] = {"a record cannot be read", "removed"},
    [LIMPET_FS_NO_SHARD] = {"the directory has no record of its numbers", "made"},
    [LIMPET_FS_NO_DIRECTORY] = {"the directory has no inode", "made"},
    [LIMPET_FS_NUMBER_REUSED] = {"numbers of inodes would be given again", "corrected"},
    [LIMPET_FS_ENTRY_DANGLING] = {"names an inode that is not there", "removed"},
    [LIMPET_FS_ENTRY_TYPE] = {"says a wrong type", "corrected"},
    [LIMPET_FS_ENTRY_MISPLACED] = {"is not found by its name", "moved to its place"},
    [LIMPET_FS_ENTRY_SECOND] = {"is a second entry of a directory", "removed"},
    [LIMPET_FS_ENTRY_MOVING] = {"waits for an operation that is none", "corrected"},
    [LIMPET_FS_PARENT] = {"leads up to a directory that it is not in", "corrected"},
    [LIMPET_FS_LINKS] = {"the number of links is wrong", "corrected"},
    [LIMPET_FS_UNREACHABLE] = {"no entry leads to it", "moved to lost+found"},
    [LIMPET_FS_LOOP] = {"the directory is inside of itself", "taken out"},
    [LIMPET_FS_ORPHAN_WRONG] = {"the list of files without names is wrong", "corrected"},
    [LIMPET_FS_ATTRIBUTE] = {"extended attributes of an inode that is not there", "removed"},
    [LIMPET_FS_ATTRIBUTES] = {"it has extended attributes that it does not know of", "corrected"},
    [LIMPET_FS_NO_PART] = {"a shard of the directory is not there", "made anew"},
    [LIMPET_FS_PART_UNKNOWN] = {"the directory does not know its shards", "corrected"},
    [LIMPET_FS_PART_LOST] = {"a shard of a directory that is not there", "a directory now"},
    [LIMPET_FS_DYING] = {"the directory is in use, and lets nothing be made in it", "corrected"},
    [LIMPET_FS_DATA_LOST] = {"data of a file whose inode is not there", "made a file again"},
    [LIMPET_FS_DATA_OLD] = {"data of a file that had the number before", "removed"},
    [LIMPET_FS_DATA_BEYOND] = {"data beyond the end of the file", "removed"},
    [LIMPET_FS_DATA_HIDDEN] = {"data where the inode says that there are none", "shown"},
};

struct checking {
    bool plain, shows, repair;
    json_t *findings;
};

static void print_finding(const struct checking *checking, const struct limpet_fs_finding *finding)
{
    if (finding->name[0] != 0)
        printf("entry '%s' of directory %" PRIx64 ": ", finding->name, finding->dir);
    else
        printf("inode %" PRIx64 ": ", finding->ino);
    printf("%s", texts[finding->damage].what);
    if (finding->damage == LIMPET_FS_LINKS)
        printf(" (%" PRIu64 ", should be %" PRIu64 ")", finding->other, finding->number);
    if (finding->error != 0)
        printf("; not repaired: %s", error_phrase(finding->error));
    else if (checking->repair)
        printf("; %s", texts[finding->damage].done);
    putchar('\n');
}

static void take_finding(const struct limpet_fs_finding *finding, void *arg)
{
    struct checking *checking = arg;
    if (checking->plain) {
        print_finding(checking, finding);
        return;
    }
    json_t *item = json_pack(
        "{s:s, s:I, s:I, s:i}", "damage", limpet_fs_damage_name(finding->damage), "inode",
        (json_int_t)finding->ino, "directory", (json_int_t)finding->dir, "error", -finding->error);
    /* A name may have bytes that are no text. */
    json_t *name = json_string(finding->name);
    json_object_set_new(item, "name", name != NULL ? name : json_null());
    json_array_append_new(checking->findings, item);
}

static void take_progress(const char *what, uint64_t done, uint64_t total, void *arg)
{
    struct checking *checking = arg;
    if (!checking->shows)
        return;
    if (total > 0)
        fprintf(stderr, "\rChecking %s: %" PRIu64 "%%   ", what, done * 100 / total);
    else
        fprintf(stderr, "\rChecking %s: %" PRIu64 "   ", what, done);
}

static void print_report(struct cli *cli, const struct checking *checking,
                         const struct limpet_fs_check_report *report)
{
    if (!checking->plain) {
        json_t *all = json_pack(
            "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O}", "directories",
            (json_int_t)report->directories, "files", (json_int_t)report->files, "entries",
            (json_int_t)report->entries, "data_objects", (json_int_t)report->data_objects,
            "unfinished", (json_int_t)report->unfinished, "damaged", (json_int_t)report->damaged,
            "left", (json_int_t)report->left, "clients", (json_int_t)report->clients, "passes",
            (json_int_t)report->passes, "findings", checking->findings);
        cli_print_json(cli, all);
        json_decref(all);
        return;
    }
    printf("%" PRIu64 " directories, %" PRIu64 " files, %" PRIu64 " entries, %" PRIu64
           " data objects: ",
           report->directories, report->files, report->entries, report->data_objects);
    if (report->unfinished + report->damaged == 0)
        printf("clean\n");
    else
        printf("%" PRIu64 " damaged, %" PRIu64 " unfinished%s\n", report->damaged,
               report->unfinished, checking->repair && report->left == 0 ? "; all repaired" : "");
}

static int status_of(const struct checking *checking, const struct limpet_fs_check_report *report)
{
    if (checking->repair && report->left > 0)
        return CHECK_LEFT;
    if (checking->repair)
        return report->unfinished + report->damaged > 0 ? CHECK_REPAIRED : CHECK_CLEAN;
    return report->damaged > 0 ? CHECK_LEFT : CHECK_CLEAN;
}

int fs_check(struct cli *cli)
{
    static const struct limpet_fs_check_calls calls = {take_finding, take_progress};
    struct fs_spec spec;
    struct limpet_pool *pool;
    struct limpet_fs_check_report report;
    fs_spec_parse(cli->words[0], &spec);
    struct limpet_fs *fs = fs_spec_open(cli, &spec, &pool);
    struct checking checking = {
        .plain = cli->format == FORMAT_PLAIN,
        .shows = isatty(STDERR_FILENO) && !cli_has(cli, "no-progress"),
        .repair = cli_has(cli, "repair"),
        .findings = json_array(),
    };
    int rc = limpet_fs_check(fs, checking.repair, &calls, &checking, &report);
    if (checking.shows)
        fprintf(stderr, "\r\033[K");
    int status = CHECK_FAILED;
    if (rc == -EBUSY && report.clients > 0)
        complain(EBUSY, "'%s' is mounted; 'limpet fs status %s' shows where", spec.name,
                 cli->words[0]);
    else if (rc != 0)
        complain(rc, "check failed: %s", error_phrase(rc));
    if (rc == 0) {
        print_report(cli, &checking, &report);
        status = status_of(&checking, &report);
    }
    json_decref(checking.findings);
    limpet_fs_close(fs);
    limpet_pool_close(pool);
    return status;
}
