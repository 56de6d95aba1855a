/* What the parts of the simulated world know of each other. */
#ifndef LIMPET_TESTS_SIM_ENV_SIM_PRIVATE_H
#define LIMPET_TESTS_SIM_ENV_SIM_PRIVATE_H

#include "common/timer_heap.h"
#include "tests/sim/env_sim.h"
#include "tests/sim/random.h"

enum {
    SIM_NODES_MAX = 64,
    SIM_NODE_NAME_MAX = 32,
    SIM_LISTEN_MAX = 4,
    SIM_LOG_LINES = 4000,
    SIM_SECTOR = 512,
};

struct sim_process;
struct sim_link;
struct sim_endpoint;

/* ---- Files ---- */

/* A change of a file that is not synced yet: a write, or a truncation when data is NULL. */
struct sim_file_change {
    STAILQ_ENTRY(sim_file_change) link;
    uint64_t offset; /* Or the new size. */
    size_t len;
    uint8_t *data;
};

struct sim_bytes {
    uint8_t *data;
    uint64_t size;
    uint64_t capacity;
};

struct sim_inode {
    uint32_t refs;
    struct sim_bytes now;     /* What processes see. */
    struct sim_bytes durable; /* What a power cut leaves at least. */
    STAILQ_HEAD(, sim_file_change) changes;
};

struct sim_name {
    TAILQ_ENTRY(sim_name) link;
    struct sim_inode *inode;
    char *path;
};
TAILQ_HEAD(sim_names, sim_name);

/* A change of a folder that is not synced yet: created (from NULL), renamed, removed (to NULL). */
struct sim_dir_change {
    STAILQ_ENTRY(sim_dir_change) link;
    char *from;
    char *to;
    struct sim_inode *inode; /* Of a created file. */
};

struct sim_files {
    struct sim_names now;
    struct sim_names durable;
    STAILQ_HEAD(, sim_dir_change) changes;
};

struct env_file {
    LIST_ENTRY(env_file) link;
    struct sim_inode *inode;
    bool writable;
};

/* ---- Nodes and processes ---- */

struct sim_node {
    struct sim *sim;
    uint32_t index;
    char name[SIM_NODE_NAME_MAX];
    struct entity_name entity;
    struct sim_process *process;
    struct sim_files files;
    uint64_t sync_ns;
    uint16_t next_port;
    bool powered; /* False after a power cut: nobody even refuses connections. */
};

struct sim_work {
    TAILQ_ENTRY(sim_work) link;
    struct sim_process *process;
    struct env_work *work;
    struct env_timer timer;
    bool has_run;
};

struct sim_process {
    struct env env;
    struct sim_node *node;
    struct sim *sim;
    bool frozen;
    struct random_stream random;
    /* Local time = offset + virtual time * (1 + drift). */
    uint64_t clock_offset;
    int64_t drift_ppm;
    struct timer_heap timers; /* In local time. */
    struct env_timer wake;    /* In the world's queue: the first of them. */
    STAILQ_HEAD(, env_task) tasks;
    struct env_timer tasks_turn;
    TAILQ_HEAD(, sim_work) works;
    uint64_t busy_until;              /* Events for the process wait until then. */
    const struct auth_provider *auth; /* NULL: everybody believes it, and it everybody. */
    const struct net_handlers *handlers;
    void *handlers_ctx;
    uint32_t n_listen;
    struct net_address listen[SIM_LISTEN_MAX];
    TAILQ_HEAD(, sim_endpoint) endpoints;
    LIST_HEAD(, env_file) open_files;
};

struct sim {
    struct sim_options options;
    struct random_stream random; /* For the owner's decisions. */
    struct random_stream chance; /* For the world's own. */
    uint64_t now;
    uint64_t hash;
    uint64_t events;
    struct timer_heap queue; /* In virtual time. */
    uint32_t n_nodes;
    struct sim_node *nodes[SIM_NODES_MAX];
    bool blocked[SIM_NODES_MAX][SIM_NODES_MAX];
    uint64_t extra_latency_ns;
    bool calm;
    TAILQ_HEAD(, sim_link) links;
    STAILQ_HEAD(, sim_endpoint) dead_endpoints; /* Freed when the event is over. */
    char *lines[SIM_LOG_LINES];
    uint64_t n_lines;
};

void *sim_must(void *memory);
void sim_hash_mix(struct sim *sim, uint64_t value);

static inline struct sim_process *process_of(struct env *env)
{
    return container_of(env, struct sim_process, env);
}

/*
 * Every event for a process starts with this: false when the process is busy or paused; the event
 * was then put off.
 */
bool sim_turn_begin(struct sim_process *process, struct env_timer *event);
/* From when on the process can act: now, or later when it is busy. */
uint64_t sim_process_time(const struct sim_process *process);

/* ---- env_sim_net.c ---- */

void sim_net_handlers(struct env *env, const struct net_handlers *handlers, void *ctx);
int sim_net_listen(struct env *env, const struct net_address *want, struct net_address *bound);
int sim_net_open(struct env *env, const struct net_address *to, const struct net_expect *expect,
                 void *user, struct net_session **out);
void sim_net_send(struct env *env, struct net_session *session, struct message *message);
void sim_net_close(struct env *env, struct net_session *session);
void sim_net_drop(struct env *env, struct net_session *session);
void sim_net_pause(struct env *env, struct net_session *session, bool paused);
uint64_t sim_net_heard_ns(struct env *env, struct net_session *session);

/* A process is gone: its peers learn of it, or not. */
void sim_net_process_gone(struct sim_process *process, enum sim_end how);
/* A machine is back after a power cut: its peers' connections are reset. */
void sim_net_node_back(struct sim_node *node);
void sim_net_reap(struct sim *sim);

/* ---- env_sim_auth.c ---- */

/*
 * 0 and what the initiator may do there; -ENOENT: it has no credential yet; -EKEYEXPIRED: another
 * ticket may do; -EACCES; -ELIMPET_RESET: the acceptor is not whom it expects.
 */
int sim_authenticate(struct sim_process *from, struct sim_process *to,
                     const struct net_expect *expect, struct caps *caps) MUST_CHECK;

/* ---- env_sim_file.c ---- */

int sim_file_open(struct env *env, const char *path, int flags, struct env_file **out);
void sim_file_close(struct env *env, struct env_file *file);
ssize_t sim_file_read(struct env *env, struct env_file *file, void *data, size_t len,
                      uint64_t offset);
int sim_file_write(struct env *env, struct env_file *file, const void *data, size_t len,
                   uint64_t offset);
int sim_file_truncate(struct env *env, struct env_file *file, uint64_t size);
int sim_file_sync(struct env *env, struct env_file *file);
int64_t sim_file_size(struct env *env, struct env_file *file);
int sim_file_rename(struct env *env, const char *from, const char *to);
int sim_file_remove(struct env *env, const char *path);
int sim_dir_sync(struct env *env, const char *path);

void sim_files_init(struct sim_files *files);
void sim_files_fini(struct sim_files *files);
/* Closes what a process that is gone had open. */
void sim_files_process_gone(struct sim_process *process);
void sim_files_power_cut(struct sim_files *files, struct random_stream *random);

#endif
