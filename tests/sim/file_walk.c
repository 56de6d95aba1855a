/* Reading a whole file system, and having it judged. */
#include "tests/sim/files_impl.h"

#include "client/fs/fs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    CLEAR_EACH = 16, /* Of the tries of move_clear() it looks at what is left at each so many. */
    CLEAR_TRIES = 16 * 3 * FS_WATCH_MS / 100,
};
#define CLEAR_WAIT_NS (100 * MSEC_NS)

struct walk {
    struct file_client *client;
    struct limpet_fs *fs;
    struct file_seen *seen;
    uint32_t n; /* The last one. */
    char why[CLUSTER_WHY_MAX - 128];
};

static int odd(struct walk *walk, const char *what, uint64_t ino, int rc)
{
    snprintf(walk->why, sizeof walk->why, "%s of ino %" PRIu64 ": %d", what, ino, rc);
    return rc;
}

static int read_xattrs(struct walk *walk, struct file_seen *seen)
{
    for (uint32_t i = 0; i < FILE_XATTRS; i++) {
        char name[16];
        struct limpet_fs_result *result = NULL;
        snprintf(name, sizeof name, "user.x%u", i);
        struct limpet_fs_request rq = {.verb = LIMPET_FS_XATTR_GET, .ino = seen->ino, .name = name};
        ssize_t rc = limpet_fs_do(walk->fs, &rq, &result);
        if (rc >= 0 && result->len == sizeof seen->cells[0])
            memcpy(&seen->cells[CELL_XATTR + i], result->data, result->len);
        limpet_fs_result_destroy(result);
        if (rc < 0 && rc != -ENODATA)
            return odd(walk, "attributes", seen->ino, (int)rc);
    }
    return 0;
}

static int read_contents(struct walk *walk, struct file_seen *seen, uint64_t size)
{
    struct limpet_fs_result *result = NULL;
    struct limpet_fs_request rq = {
        .verb = LIMPET_FS_READ, .ino = seen->ino, .len = (FILE_PIECES + 1) * FILE_PIECE_BYTES};
    ssize_t rc = limpet_fs_do(walk->fs, &rq, &result);
    if (rc >= 0 && (uint64_t)rc != size)
        rc = odd(walk, "as many bytes as its size", seen->ino, -EBADMSG);
    for (uint32_t k = 0; rc >= 0 && k < FILE_PIECES; k++) {
        const uint64_t *words =
            (const uint64_t *)((const uint8_t *)result->data + (size_t)k * FILE_PIECE_BYTES);
        seen->cells[CELL_FIRST + k] = k < seen->cells[CELL_SIZE] ? words[0] : FILE_BEYOND;
        for (size_t i = 1; k < seen->cells[CELL_SIZE] && i < FILE_PIECE_BYTES / sizeof *words;
             i++) {
            /* OSDs keep writes of less than a block whole. */
            if (words[i] != words[0] && rc >= 0)
                rc = odd(walk, "a piece that is torn", seen->ino, -EBADMSG);
        }
    }
    limpet_fs_result_destroy(result);
    return rc < 0 ? odd(walk, "contents", seen->ino, (int)rc) : 0;
}

static int walk_dir(struct walk *walk, uint32_t at);

static uint32_t place_of(struct walk *walk, uint64_t ino, bool *is_new)
{
    uint32_t i = FILE_ROOT;
    while (i <= walk->n && walk->seen[i].ino != ino)
        i++;
    *is_new = i > walk->n;
    if (*is_new && i < FILE_NODES_MAX) {
        walk->n = i;
        walk->seen[i] = (struct file_seen){.ino = ino};
    }
    return i;
}

static int walk_node(struct walk *walk, const struct limpet_fs_attr *attr, uint32_t *place)
{
    bool is_new;
    *place = place_of(walk, attr->ino, &is_new);
    if (!is_new)
        return 0;
    if (*place == FILE_NODES_MAX)
        return odd(walk, "more nodes than there can be", attr->ino, -EBADMSG);
    struct file_seen *seen = &walk->seen[*place];
    seen->type = attr->mode & S_IFMT;
    seen->links = attr->links;
    seen->cells[CELL_MODE] = attr->mode & 07777;
    seen->cells[CELL_UID] = attr->uid;
    if (seen->type == S_IFREG)
        seen->cells[CELL_MTIME] = (uint64_t)attr->mtime_ns;
    if (seen->type == S_IFREG && attr->size % FILE_PIECE_BYTES != 0)
        return odd(walk, "the size", attr->ino, -EBADMSG);
    if (seen->type == S_IFREG)
        seen->cells[CELL_SIZE] = attr->size / FILE_PIECE_BYTES;
    int rc = seen->type == S_IFLNK ? 0 : read_xattrs(walk, seen);
    if (rc == 0 && seen->type == S_IFREG)
        rc = read_contents(walk, seen, attr->size);
    return rc == 0 && seen->type == S_IFDIR ? walk_dir(walk, *place) : rc;
}

static int walk_target(struct walk *walk, uint64_t ino, uint32_t place)
{
    struct limpet_fs_result *result = NULL;
    struct limpet_fs_request rq = {.verb = LIMPET_FS_GETATTR, .ino = ino};
    int rc = (int)limpet_fs_do(walk->fs, &rq, &result);
    char text[32] = "";
    if (rc == 0 && result->len < sizeof text)
        memcpy(text, result->data, result->len);
    if (rc == 0)
        walk->seen[place].target = strtoull(text[0] ? text + 1 : text, NULL, 10);
    limpet_fs_result_destroy(result);
    return rc == 0 ? 0 : odd(walk, "target", ino, rc);
}

static int walk_entry(struct walk *walk, uint32_t at, const char *name)
{
    struct limpet_fs_result *result = NULL;
    uint32_t place = FILE_NONE, number = (uint32_t)strtoul(name + 1, NULL, 10);
    struct limpet_fs_request rq = {
        .verb = LIMPET_FS_LOOKUP, .ino = walk->seen[at].ino, .name = name};
    int rc = (int)limpet_fs_do(walk->fs, &rq, &result);
    /* What was moved, or removed, half, may be so now. */
    if (rc == -ENOENT) {
        limpet_fs_result_destroy(result);
        return 0;
    }
    if (rc == 0 && number >= FILE_NAMES)
        rc = odd(walk, "a name that nobody has given", walk->seen[at].ino, -EBADMSG);
    if (rc == 0)
        rc = walk_node(walk, &result->attr, &place);
    else
        rc = odd(walk, name, walk->seen[at].ino, rc);
    if (rc == 0 && walk->seen[place].type == S_IFLNK)
        rc = walk_target(walk, walk->seen[place].ino, place);
    if (rc == 0)
        walk->seen[at].cells[CELL_FIRST + number] = place;
    limpet_fs_result_destroy(result);
    return rc;
}

static bool found_intent(void *arg, const void *key, size_t key_len, const void *value, size_t len)
{
    (void)key, (void)key_len, (void)value, (void)len;
    *(bool *)arg = true;
    return false;
}

/*
 * An operation that has only begun is not met by looking; who works here would complete it. That of
 * somebody who is dead is left alone for as long as he seems to live, and one that lives clears it
 * when he is told.
 */
static int clear_dir(const struct walk *walk, uint64_t dir)
{
    bool left = true;
    int rc = 0;
    for (unsigned tries = 0; rc == 0 && left && tries < CLEAR_TRIES; tries += CLEAR_EACH) {
        if (tries > 0)
            fiber_sleep(CLEAR_WAIT_NS);
        left = false;
        rc = move_clear(walk->fs, dir, tries);
        if (rc == 0)
            rc = shard_list(walk->fs, fs_home(dir), FS_KEY_INTENT, found_intent, &left);
    }
    if (rc == -ENOENT)
        return 0; /* It has gone. */
    return rc == 0 && left ? -EBUSY : rc;
}

static int walk_dir(struct walk *walk, uint32_t at)
{
    struct limpet_fs_result *result = NULL;
    struct limpet_fs_request rq = {
        .verb = LIMPET_FS_LIST, .ino = walk->seen[at].ino, .len = 1 << 16};
    int cleared = clear_dir(walk, walk->seen[at].ino);
    if (cleared != 0)
        return odd(walk, "what the dead have left", walk->seen[at].ino, cleared);
    ssize_t rc = limpet_fs_do(walk->fs, &rq, &result);
    struct limpet_fs_entry entry;
    size_t place = 0;
    int error = rc < 0 ? odd(walk, "list", walk->seen[at].ino, (int)rc) : 0;
    while (error == 0 && limpet_fs_entry_next(result->data, result->len, &place, &entry, NULL) == 0)
        error = walk_entry(walk, at, entry.name);
    limpet_fs_result_destroy(result);
    return error;
}

static int walk_all(struct walk *walk)
{
    struct limpet_fs_result *result = NULL;
    struct limpet_fs_request rq = {.verb = LIMPET_FS_GETATTR, .ino = LIMPET_FS_ROOT};
    uint32_t place;
    walk->n = FILE_NONE;
    memset(walk->seen, 0, (FILE_NODES_MAX + 1) * sizeof *walk->seen);
    int rc = (int)limpet_fs_do(walk->fs, &rq, &result);
    rc = rc == 0 ? walk_node(walk, &result->attr, &place) : odd(walk, "root", LIMPET_FS_ROOT, rc);
    limpet_fs_result_destroy(result);
    return rc;
}

bool files_walk(struct file_client *client)
{
    struct files *files = client->files;
    struct walk walk = {.client = client, .fs = client->fs};
    uint64_t losses = files->n_losses;
    walk.seen = calloc(FILE_NODES_MAX + 1, sizeof *walk.seen);
    if (!walk.seen)
        abort();
    sim_log(files->cluster->sim, sim_node_name(client->client->member.node), "walks");
    /* An entry that a dead client was moving may be met before and after it was completed. */
    int rc = walk_all(&walk);
    rc = rc == 0 ? walk_all(&walk) : rc;
    /* Who sleeps, or is cut off, may have lost what is missing without knowing it. */
    (void)files_look_for_lost(files, NULL);
    bool again = losses != files->n_losses || client->lost;
    bool judged = rc == 0 && !again;
    if (judged && !file_model_judge(&files->model, walk.seen, walk.n, files_may_lose, files,
                                    walk.why, sizeof walk.why))
        files_fail(files, "walk by client %u: %s", client->number, walk.why);
    else if (rc != 0 && !again)
        files_fail(files, "walk by client %u: %s", client->number, walk.why);
    free(walk.seen);
    files->n_walks += judged;
    return judged;
}

/* ---- limpet_fs_check() ---- */

static void found(const struct limpet_fs_finding *finding, void *arg)
{
    struct files *files = arg;
    sim_log(files->cluster->sim, "check",
            "%s: ino %" PRIu64 " in %" PRIu64 " '%s' %" PRIu64 " %" PRIu64,
            limpet_fs_damage_name(finding->damage), finding->ino, finding->dir, finding->name,
            finding->number, finding->other);
    if (finding->damage >= LIMPET_FS_DAMAGES)
        files_fail(files,
                   "check finds %s: ino %" PRIu64 " in %" PRIu64 " '%s' %" PRIu64 " %" PRIu64,
                   limpet_fs_damage_name(finding->damage), finding->ino, finding->dir,
                   finding->name, finding->number, finding->other);
}

static const struct limpet_fs_check_calls check_calls = {.found = found};

/*
 * The watches of the dead end by their time-out; each new primary of the object counts it anew, and
 * faults have made some until a moment ago.
 */
static bool dead_have_left(struct file_client *client)
{
    struct limpet_fs_client *clients;
    size_t n = 1;
    for (int i = 0; i < 3 * FS_WATCH_MS / 1000 && n > 0; i++) {
        if (i > 0)
            fiber_sleep(SEC_NS);
        int rc = limpet_fs_clients(client->fs, &clients, &n);
        if (rc != 0) {
            files_fail(client->files, "its clients are not told at the end: %d", rc);
            return false;
        }
        limpet_free(clients);
    }
    if (n > 0)
        files_fail(client->files, "%zu clients have it open at the end", n);
    return n == 0;
}

void files_check(struct file_client *client)
{
    struct files *files = client->files;
    struct limpet_fs_check_report report;
    if (!dead_have_left(client))
        return;
    int rc = limpet_fs_check(client->fs, false, &check_calls, files, &report);
    if (rc == 0)
        rc = limpet_fs_check(client->fs, true, &check_calls, files, &report);
    if (rc == 0)
        rc = limpet_fs_check(client->fs, false, &check_calls, files, &report);
    if (rc != 0)
        files_fail(files, "check ends with %d", rc);
    else if (report.unfinished + report.damaged > 0)
        files_fail(files, "check finds something after its repair");
}
