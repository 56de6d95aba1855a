/*
 * Locks of files: each worker of a client is an owner, of ranges as by fcntl(2), and of whole files
 * as by flock(2), and often waits for one while it has others. Checked are: nobody is given one
 * that does not agree with what somebody else has; nobody is refused without such a one; -EDEADLK
 * is told only to who has something; and everybody who waits gets what he waits for, once those
 * that he waits for have given it back or died.
 */
#include "tests/sim/files_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "client/fs/fs.h"

enum { LOCK_UNITS = 8, LOCKS_OF_ONE = 3 };

/* A client that is gone may be taken for a living one for so long: while its group serves nobody.
 */
#define GONE_NS (90 * SEC_NS)

enum lock_state {
    LOCK_NONE,
    LOCK_ASKED,
    LOCK_HELD,
    LOCK_DOUBTFUL, /* It was lost, or nobody knows. */
    LOCK_GIVEN,    /* Being given back. */
    LOCK_DEAD,     /* Its client is. */
    LOCK_OVER
};

struct file_range {
    enum lock_state state;
    struct file_client *client;
    uint64_t process, owner, ino;
    uint64_t first, last;
    bool exclusive, whole, waits;
    uint64_t since; /* It is dead, or over. */
    uint64_t stood; /* It is over, and the OSD may have had it as late as then, or never again. */
};

struct file_ranges {
    struct file_range list[FILE_RANGES_MAX];
    uint32_t n_waiting;
};

static bool conflict(const struct file_range *a, const struct file_range *b)
{
    return a->ino == b->ino && a->whole == b->whole && a->owner != b->owner &&
           a->first <= b->last && b->first <= a->last && (a->exclusive || b->exclusive);
}

static const char *describe(const struct file_range *range, char out[160])
{
    snprintf(out, 160,
             "client %u, owner %" PRIu64 ", %s %s of ino %" PRIu64 ", %" PRIu64 " to %" PRIu64,
             range->client->number, range->owner, range->exclusive ? "exclusive" : "shared",
             range->whole ? "lock" : "range", range->ino, range->first, range->last);
    return out;
}

static bool is_owned(const struct file_range *range, uint64_t owner)
{
    return range->owner == owner && (range->state == LOCK_HELD || range->state == LOCK_DOUBTFUL);
}

/* Those of an owner; the n-th one of them. */
static struct file_range *owned(const struct files *files, uint64_t owner, uint32_t n)
{
    for (uint32_t i = 0; i < FILE_RANGES_MAX; i++) {
        struct file_range *range = &files->ranges->list[i];
        if (is_owned(range, owner) && n-- == 0)
            return range;
    }
    return NULL;
}

static uint32_t count_owned(const struct files *files, uint64_t owner)
{
    uint32_t n = 0;
    while (owned(files, owner, n) != NULL)
        n++;
    return n;
}

/* Whatever is over for the longest time makes room. */
static struct file_range *new_range(const struct files *files)
{
    struct file_range *oldest = NULL;
    for (uint32_t i = 0; i < FILE_RANGES_MAX; i++) {
        struct file_range *range = &files->ranges->list[i];
        if (range->state == LOCK_NONE)
            return range;
        bool over = range->state == LOCK_OVER || range->state == LOCK_DEAD;
        if (over && range->since + GONE_NS < files_now(files) &&
            (oldest == NULL || range->since < oldest->since))
            oldest = range;
    }
    return oldest;
}

static void set_over(const struct files *files, struct file_range *range, enum lock_state state)
{
    range->state = state;
    range->since = files_now(files);
}

/* ---- What becomes of them without a request ---- */

/*
 * What was given back in a shard that is being lost, or has been, stands at the OSD until its
 * client has said what it has.
 */
static void note_standing(const struct files *files)
{
    for (uint32_t i = 0; i < FILE_RANGES_MAX; i++) {
        struct file_range *range = &files->ranges->list[i];
        const struct file_client *client = range->client;
        if (range->state == LOCK_OVER && client->fs != NULL && range->process == client->process &&
            (files_is_losing(client, range->ino >> 24) || lock_is_unkept(client->fs, range->ino)))
            range->stood = files_now(files);
    }
}

void file_locks_lose(const struct file_client *client, uint64_t home)
{
    for (uint32_t i = 0; client->files->ranges && i < FILE_RANGES_MAX; i++) {
        struct file_range *range = &client->files->ranges->list[i];
        if (range->state == LOCK_HELD && range->process == client->process &&
            (home == UINT64_MAX || range->ino >> 24 == home))
            range->state = LOCK_DOUBTFUL;
    }
    if (client->files->ranges)
        note_standing(client->files);
}

/* What it had given back, and the OSD had not heard of yet. */
static bool is_left(const struct file_range *range)
{
    return range->state == LOCK_OVER && range->client->fs != NULL &&
           range->process == range->client->process &&
           (!files_is_clean(range->client, range->ino >> 24) ||
            lock_is_unkept(range->client->fs, range->ino));
}

void file_locks_died(const struct file_client *client)
{
    for (uint32_t i = 0; client->files->ranges && i < FILE_RANGES_MAX; i++) {
        struct file_range *range = &client->files->ranges->list[i];
        if (range->client != client || range->state == LOCK_NONE || range->state == LOCK_DEAD ||
            (range->state == LOCK_OVER && !is_left(range)))
            continue;
        client->files->ranges->n_waiting -= range->state == LOCK_ASKED && range->waits;
        set_over(client->files, range, LOCK_DEAD);
    }
}

bool file_locks_wait(const struct files *files)
{
    return files->ranges != NULL && files->ranges->n_waiting > 0;
}

/* ---- What an answer says ---- */

static void judge_grant(struct files *files, const struct file_range *granted)
{
    char a[160], b[160];
    for (uint32_t i = 0; i < FILE_RANGES_MAX; i++) {
        struct file_range *range = &files->ranges->list[i];
        if (range->state != LOCK_HELD || !conflict(granted, range))
            continue;
        if (range->client->lost || files_may_have_lost(range->client, range->ino >> 24))
            range->state = LOCK_DOUBTFUL;
        else
            files_fail(files, "two have a lock: %s, and %s", describe(granted, a),
                       describe(range, b));
    }
}

/* Whether somebody had one that did not agree at some moment since `begun`. */
static bool is_excused(const struct files *files, const struct file_range *asked, uint64_t begun)
{
    for (uint32_t i = 0; i < FILE_RANGES_MAX; i++) {
        const struct file_range *range = &files->ranges->list[i];
        if (range->state == LOCK_NONE || range == asked || !conflict(asked, range))
            continue;
        if (range->state == LOCK_OVER
                ? range->since >= begun ||
                      (range->process != asked->process && range->stood >= begun)
            : range->state == LOCK_DEAD ? range->since + GONE_NS >= begun
                                        : true)
            return true;
    }
    return false;
}

static void judge_answer(struct files *files, struct file_range *range, uint64_t begun, int rc)
{
    char text[160];
    note_standing(files);
    bool is_known = !range->client->lost && !file_op_is_loss(rc);
    if (!is_known) {
        range->state = LOCK_DOUBTFUL;
        return;
    }
    if (rc == 0) {
        judge_grant(files, range);
        range->state = LOCK_HELD;
        return;
    }
    if (rc == -EAGAIN && (range->waits || !is_excused(files, range, begun)))
        files_fail(files, "a lock is refused, and nobody has one: %s", describe(range, text));
    else if (rc == -EDEADLK &&
             (!range->waits || range->whole || count_owned(files, range->owner) == 0))
        files_fail(files, "a lock waits for itself, though its owner has none: %s",
                   describe(range, text));
    else if (rc != -EAGAIN && rc != -EDEADLK && rc != -ESTALE && rc != -ENOENT)
        files_fail(files, "a lock ends with %d: %s", rc, describe(range, text));
    set_over(files, range, LOCK_OVER);
}

/* ---- Asking ---- */

static ssize_t ask(const struct file_range *range, enum limpet_fs_verb verb, unsigned type)
{
    struct limpet_fs_request rq = {
        .verb = verb,
        .ino = range->ino,
        /* Owners of the one kind are none of the other one, as with the kernel. */
        .owner = 2 * range->owner + range->whole,
        .pid = (uint32_t)range->owner,
        .offset = range->first,
        .len = range->last - range->first + 1,
        .flags = type | (range->whole ? LIMPET_FS_WHOLE : 0) |
                 (range->waits && type != 0 ? LIMPET_FS_WAITS : 0),
    };
    return limpet_fs_do(range->client->fs, &rq, NULL);
}

static void log_answer(const struct file_range *range, const char *what, ssize_t rc)
{
    char text[160];
    sim_log(range->client->files->cluster->sim, sim_node_name(range->client->client->member.node),
            "%s: %s%s: %zd", what, describe(range, text), range->waits ? ", waits" : "", rc);
}

static void give_back(struct file_range *range, bool all)
{
    struct files *files = range->client->files;
    range->state = LOCK_GIVEN;
    ssize_t rc = ask(range, all ? LIMPET_FS_UNLOCK_ALL : LIMPET_FS_LOCK, 0);
    log_answer(range, all ? "closes" : "unlocks", rc);
    if (rc == 0 || rc == -ESTALE || rc == -ENOENT) {
        set_over(files, range, LOCK_OVER);
        return;
    }
    range->state = LOCK_DOUBTFUL;
    if (!file_op_is_loss((int)rc))
        files_fail(files, "giving back a lock ends with %zd", rc);
}

static uint64_t choose_file(const struct file_client *client)
{
    const struct files *files = client->files;
    uint64_t ino = 0;
    uint32_t n = 0;
    /* Few files, so that they meet. */
    for (uint32_t i = FILE_ROOT; i < FILE_NODES_MAX && n < 4; i++) {
        const struct file_node *node = &files->model.nodes[i];
        if (!node->used || node->ghost || node->type != S_IFREG || node->ino == 0 ||
            !(node->known >> client->number & 1) || file_node_links(&files->model, i) == 0)
            continue;
        if (files_below(client->files, ++n) == 0)
            ino = node->ino;
    }
    return ino;
}

static bool has_one_of(const struct files *files, uint64_t owner, uint64_t ino)
{
    const struct file_range *range;
    for (uint32_t n = 0; (range = owned(files, owner, n)) != NULL; n++) {
        if (range->ino == ino)
            return true;
    }
    return false;
}

static void lock_one(struct file_client *client, uint64_t owner)
{
    struct files *files = client->files;
    uint64_t ino = choose_file(client), begun = files_now(files);
    struct file_range *range = new_range(files);
    bool first = count_owned(files, owner) == 0;
    if (ino == 0 || range == NULL || has_one_of(files, owner, ino))
        return;
    *range = (struct file_range){.state = LOCK_ASKED,
                                 .client = client,
                                 .process = client->process,
                                 .owner = owner,
                                 .ino = ino,
                                 .first = files_below(files, LOCK_UNITS),
                                 .exclusive = files_below(files, 3) > 0,
                                 .whole = files_below(files, 3) == 0};
    range->last = range->first + files_below(files, LOCK_UNITS - range->first);
    if (range->whole) {
        range->first = 0;
        range->last = INT64_MAX - 1;
    }
    /* Nobody finds a circle with locks of whole files in it. */
    range->waits = range->whole ? first && files_below(files, 2) : files_below(files, 3) > 0;
    files->ranges->n_waiting += range->waits;
    note_standing(files);
    ssize_t rc = ask(range, LIMPET_FS_LOCK,
                     range->exclusive ? LIMPET_FS_LOCK_EXCLUSIVE : LIMPET_FS_LOCK_SHARED);
    files->ranges->n_waiting -= range->waits;
    log_answer(range, "locks", rc);
    judge_answer(files, range, begun, (int)rc);
    files->n_locks += rc == 0;
}

void file_locks_turn(struct file_client *client, uint64_t owner)
{
    struct files *files = client->files;
    uint32_t n = count_owned(files, owner);
    if (n > 0 && (n == LOCKS_OF_ONE || files_below(files, 3) == 0))
        give_back(owned(files, owner, (uint32_t)files_below(files, n)), files_below(files, 2) == 0);
    else
        lock_one(client, owner);
}

void file_locks_end(const struct file_client *client, uint64_t owner)
{
    struct file_range *range;
    while (!client->lost && (range = owned(client->files, owner, 0)) != NULL) {
        /* Each close tells of lost writes, too: whether the lock is gone is told by the other way.
         */
        give_back(range, range->state != LOCK_DOUBTFUL);
        if (range->state == LOCK_DOUBTFUL)
            fiber_sleep(SEC_NS / 2);
    }
}

void file_locks_create(struct files *files)
{
    files->ranges = calloc(1, sizeof *files->ranges);
    if (files->ranges == NULL)
        abort();
}

void file_locks_destroy(struct files *files)
{
    free(files->ranges);
}
