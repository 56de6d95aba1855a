/* Private to files.c, which has the clients, file_ops.c, which has what they do, and file_walk.c.
 */
#ifndef LIMPET_TESTS_SIM_FILES_IMPL_H
#define LIMPET_TESTS_SIM_FILES_IMPL_H

#include "client/limpet/fs.h"
#include "client/limpet/object.h"
#include "tests/sim/fibers.h"
#include "tests/sim/file_model.h"
#include "tests/sim/files.h"

enum file_op_kind {
    FILE_OP_LOOKUP,
    FILE_OP_GETATTR,
    FILE_OP_CREATE,
    FILE_OP_MKDIR,
    FILE_OP_SYMLINK,
    FILE_OP_UNLINK,
    FILE_OP_RMDIR,
    FILE_OP_RENAME,
    FILE_OP_LINK,
    FILE_OP_LIST,
    FILE_OP_SETATTR,
    FILE_OP_TRUNCATE,
    FILE_OP_OPEN,
    FILE_OP_RELEASE,
    FILE_OP_READ,
    FILE_OP_WRITE,
    FILE_OP_SYNC,
    FILE_OP_SYNC_ALL,
    FILE_OP_XATTR_GET,
    FILE_OP_XATTR_SET,
    FILE_OP_RACE, /* Its first one; it becomes another kind. */
    FILE_OPS_END
};

enum {
    FILE_OP_LOCKS = 12,
    FILE_OP_CHANGES = FILE_PIECES + 4,
    FILE_NAME_BYTES = 8,
    FILE_RANGES_MAX = 512
};

struct file_client;
struct file_race;
struct file_ranges;

/* What an operation has for itself while it is under way. */
struct file_lock {
    uint32_t node;
    int name; /* -1: none. */
    bool alone;
};

struct file_op {
    TAILQ_ENTRY(file_op) link;
    struct file_client *client;
    enum file_op_kind kind;
    uint64_t serial, begun;
    uint32_t dir, to_dir, node; /* Of the model. */
    uint32_t name, to_name;
    uint32_t made; /* What it makes. */
    unsigned flags;
    uint64_t value;
    uint32_t first, n; /* Pieces. */
    uint64_t home;     /* Of a node that it opens, syncs, ... */
    int expected;
    struct file_lock locks[FILE_OP_LOCKS];
    uint32_t n_locks;
    struct {
        uint32_t node, cell;
        uint64_t after;
        bool loose, data, first;
    } changes[FILE_OP_CHANGES];
    uint32_t n_changes;
    struct file_race *race; /* It is one of several; which one, of which name. */
    uint32_t part;
    int slot;
    bool shares;   /* What it would make may be there. */
    bool overlaps; /* Something was unsure meanwhile. */
    bool differs;  /* From what the model says: */
    char why[256];
};
TAILQ_HEAD(file_op_list, file_op);

/* A client's process, and those that come after it. */
struct file_client {
    struct files *files;
    struct cluster_client *client;
    uint32_t number;
    uint64_t process;
    struct fibers *fibers; /* NULL: no process. */
    struct limpet_cluster *cluster;
    struct limpet_pool *pool;
    struct limpet_fs *fs; /* NULL: it has none open. */
    uint32_t workers;     /* That have not ended. */
    bool lost;
    uint64_t untold_ns; /* It has lost changes, then, and no request was told of it yet; or 0. */
    uint64_t told_ns;   /* A request was told of a loss. */
    uint64_t drop_ns;   /* The kernel was last told to drop something. */
    struct env_timer again; /* A process that is lost ends. */
};

struct files {
    struct cluster *cluster;
    const struct scenario *scenario;
    uint32_t n_workers;
    uint64_t think_ns, drop_ns;
    uint32_t mix[FILE_OPS_END];
    uint64_t mix_sum;
    bool started, stopping, finishing, calm, finished;
    bool unsure;                /* The model is to be judged before anything else is done. */
    struct file_client *walker; /* Who does it. */
    bool moving;                /* A directory goes to another parent. */
    uint64_t serials, processes, n_losses;
    uint32_t n_done, n_walks, n_races, n_locks;
    uint64_t owners;            /* Of locks, so many. */
    struct file_ranges *ranges; /* Locks. */
    uint32_t lock_weight;
    struct file_race *race; /* That is about to begin. */
    struct file_op_list ops;
    struct file_model model;
    struct file_client clients[CLUSTER_CLIENTS_MAX + 1];
};

static inline uint64_t files_now(const struct files *files)
{
    return sim_now(files->cluster->sim);
}

static inline uint64_t files_below(struct files *files, uint64_t n)
{
    return sim_below(files->cluster->sim, n);
}

/* ---- files.c ---- */

void files_fail(struct files *files, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* What this process has changed, and is not durable for certain, may be lost; UINT64_MAX: of all
 * shards. */
void files_lose(struct file_client *client, uint64_t home);
/* Others may have what a client thinks it has: its lease is over. Whether there is such a one. */
bool files_look_for_lost(struct files *files, const struct file_client *except);
/* The same for what a process knows to be lost, and nobody has been told of yet. */
void files_notice(struct files *files);
/* The client's lease of this shard is over, or something of it is lost. */
bool files_may_have_lost(const struct file_client *client, uint64_t home);
/* The same while something of it is not durable. */
bool files_is_losing(const struct file_client *client, uint64_t home);
/* All that the client has changed there is durable. */
bool files_is_clean(const struct file_client *client, uint64_t home);
/* Forgets changes that are durable by now. */
void files_forget(struct files *files);
/* ctx: the files. Its process lives, and has not made it durable yet. */
bool files_may_lose(void *ctx, const struct file_change *change);

/* ---- file_ops.c ---- */

/* One whose nodes are free for it, if there is one. */
void file_op_run(struct file_client *client);
/* Its client has died: nobody knows what became of it. Frees it. */
void file_op_lost(struct file_op *op);

/* For one another: file_race.c. False: something else has it. */
bool file_op_take(struct file_op *op, uint32_t node, bool alone);
bool file_op_take_two(struct file_op *op);
void file_op_give_all(struct file_op *op);
/* Its changes become the model's. */
void file_op_commit(const struct file_op *op, bool unsure);
bool file_op_is_loss(int rc);
const char *file_op_name(enum file_op_kind kind);
/* It is not under way any more. */
void file_op_leave(struct file_op *op);

/* ---- file_race.c ---- */

/* A new one, which this operation is the first of; false: there can be none. */
bool file_race_plan(struct file_op *op);
/* Whether the client can join the one that is about to begin. */
bool file_race_is_open(const struct file_client *client);
/* Becomes one of it, and waits for its beginning. */
void file_race_join(struct file_op *op);
/* Its answer; its client has died. The operation is the race's. */
void file_race_end(struct file_op *op, int rc, const struct limpet_fs_result *result);
void file_race_lost(struct file_op *op);

/* ---- file_locks.c ---- */

void file_locks_create(struct files *files);
void file_locks_destroy(struct files *files);
/* An owner takes a lock, or gives one back; may wait for others. */
void file_locks_turn(struct file_client *client, uint64_t owner);
/* It ends: gives back all. */
void file_locks_end(const struct file_client *client, uint64_t owner);
/* See files_lose(). */
void file_locks_lose(const struct file_client *client, uint64_t home);
void file_locks_died(const struct file_client *client);
/* Whether some owner waits for one. */
bool file_locks_wait(const struct files *files);

/* ---- file_walk.c ---- */

/* Reads the whole tree and judges it; false: not this time. */
bool files_walk(struct file_client *client);
/* limpet_fs_check(), with and without repair. */
void files_check(struct file_client *client);

#endif
