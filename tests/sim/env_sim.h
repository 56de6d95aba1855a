/*
 * The simulated world: many processes in one, one thread, virtual time, one seed.
 *
 * A struct sim is the world: a clock, a queue of events, a network. A struct sim_node is a machine:
 * an address and files that survive its process. A process is started on a node and has a struct
 * env like any daemon; it ends by crashing, by a power cut of its machine, or in order.
 *
 * Everything that happens is decided by the seed, and everything that happens goes into a running
 * hash (sim_hash), so that two runs of a seed can be compared. Whatever the world calls in a
 * process it calls from its queue of events, never from inside a call of that process.
 *
 * What it does to processes, which they must survive:
 *  - every message takes a random time; sessions overtake each other, messages of one session do
 * not;
 *  - connections break and come back, with nothing lost (disconnected());
 *  - sessions end, having delivered any prefix of what was under way (closed());
 *  - nodes cannot reach each other for a while (sim_partition), machines stop for a while
 *    (sim_process_pause), disks are slow (sim_node_disk);
 *  - clocks run at different speeds;
 *  - a power cut leaves of each file what was synced, and any part of what was not, torn at
 *    sectors; of the changes to a folder that were not synced it leaves any prefix.
 */
#ifndef LIMPET_TESTS_SIM_ENV_SIM_H
#define LIMPET_TESTS_SIM_ENV_SIM_H

#include "common/auth.h"
#include "common/env.h"

struct sim;
struct sim_node;

struct sim_options {
    uint64_t seed;
    bool trace;         /* Print log lines and what the network does as it happens. */
    uint32_t log_mask;  /* Of the processes; 0: default. */
    uint32_t drift_ppm; /* Clocks are at most this much too fast or too slow at first. */
    uint64_t late_ns;   /* What was sent before a session ended may arrive up to so much later. */
    uint32_t breaks_per_h; /* Connections that break and come back, for each session and hour. */
    uint32_t ends_per_h;   /* Sessions that end with -ETIMEDOUT, for each session and hour. */
};

struct sim *sim_create(const struct sim_options *options) MUST_CHECK;
/* All processes must have ended. */
void sim_destroy(struct sim *sim);

/* ---- Time and chance ---- */

/* Virtual nanoseconds since the beginning. */
uint64_t sim_now(const struct sim *sim);
/* Everything that happened so far, in one number. */
uint64_t sim_hash(const struct sim *sim);
uint64_t sim_events(const struct sim *sim);
/* Mixes something of the caller's into the hash. */
void sim_note(struct sim *sim, uint64_t value);

uint64_t sim_random(struct sim *sim);
/* 0 .. n - 1 */
uint64_t sim_below(struct sim *sim, uint64_t n);
/* True once in n, on average. */
bool sim_chance(struct sim *sim, uint64_t n);

/* Runs a function of the world itself, which belongs to no process. */
void sim_timer_arm(struct sim *sim, struct env_timer *timer, uint64_t at_ns);
void sim_timer_stop(struct sim *sim, struct env_timer *timer);

/* Lets one event happen, unless the next one lies after until_ns: then it is until_ns, and false
 * is returned. */
bool sim_step(struct sim *sim, uint64_t until_ns);
void sim_run(struct sim *sim, uint64_t until_ns);
/* No faults that the world makes by itself any more: breaks and ends of sessions. */
void sim_calm(struct sim *sim);

/* ---- Machines and processes ---- */

/* name is unique and appears in logs; entity is what peers are told. Lives as long as the world. */
struct sim_node *sim_node_create(struct sim *sim, const char *name,
                                 const struct entity_name *entity) MUST_CHECK;
const char *sim_node_name(const struct sim_node *node);
/* The machine's address, with the port given. */
struct net_address sim_node_address(const struct sim_node *node, uint16_t port);

struct env *sim_process_start(struct sim_node *node) MUST_CHECK;
/* NULL when none runs. */
struct env *sim_process(const struct sim_node *node);

/* Who it is and whom it believes, as for env_real_set_auth(). Without, it believes everybody. */
void sim_process_auth(struct sim_node *node, const struct auth_provider *provider);

enum sim_end {
    SIM_EXIT,      /* In order. */
    SIM_CRASH,     /* The process dies; the system closes its connections and keeps its files. */
    SIM_POWER_CUT, /* The machine dies: nobody is told, and what was not synced is lost. */
};

/*
 * Ends a process in two steps. After the first, what the process does has no effect outside, so
 * that its owner can free its structures; after the second its env is gone.
 */
void sim_process_freeze(struct sim_node *node);
void sim_process_end(struct sim_node *node, enum sim_end how);

/* The process does nothing until then, like one that was sent SIGSTOP. */
void sim_process_pause(struct sim_node *node, uint64_t until_ns);
/* Its clock runs so much too fast from now on, or too slow. */
void sim_process_drift(struct sim_node *node, int32_t drift_ppm);
/* A sync of a file takes this long on average. */
void sim_node_disk(struct sim_node *node, uint64_t sync_ns);

/* ---- The network ---- */

/* Whether messages of the one to the other pass. */
void sim_block(struct sim *sim, struct sim_node *from, struct sim_node *to, bool blocked);
/* Both ways. */
void sim_partition(struct sim *sim, struct sim_node *a, struct sim_node *b, bool blocked);
void sim_heal(struct sim *sim);
/* Every message takes up to this much longer. */
void sim_slow_network(struct sim *sim, uint64_t extra_ns);

/* ---- Logs ---- */

void sim_log(struct sim *sim, const char *who, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Prints the last lines that processes logged, to stderr. */
void sim_log_dump(const struct sim *sim);

#endif
