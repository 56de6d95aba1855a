/*
 * The leader's work: requests become entries of the log, a batch at a time.
 *
 * A request is staged on a change of the map (machine.h) and on an entry. All that wait when no
 * entry is in flight are staged together and proposed; those that come meanwhile make the next
 * batch. A request is answered when its entry is committed. Requests that come between the election
 * and the moment when all earlier entries are applied wait. When leadership is lost, all requests
 * are forgotten: the monitors that took commands from their senders are told, and hand them to the
 * next leader, which may be this one again.
 */
#ifndef LIMPET_MON_LEADER_H
#define LIMPET_MON_LEADER_H

#include "mon/mon_private.h"

enum request_kind {
    REQUEST_MESSAGE,  /* From a session, here or at another monitor. */
    REQUEST_INITIAL,  /* The first state of a new cluster. */
    REQUEST_DOWN,     /* osd, instance */
    REQUEST_ENDED,    /* The same, and its process is known to be gone. */
    REQUEST_AUTO_OUT, /* osd */
    REQUEST_COMPACT,  /* pool */
    REQUEST_PURGE,    /* pool: its removed snapshots have been trimmed */
    REQUEST_UNBLOCK,  /* Those whose time is over. */
};

struct command;

struct request {
    TAILQ_ENTRY(request) link;
    enum request_kind kind;
    /* REQUEST_MESSAGE */
    struct message *message;
    uint64_t token;
    struct mon_session *via; /* The other monitor's session; NULL: it came to us. */
    struct entity_name sender;
    uint64_t instance;
    struct caps caps;
    /* Commands */
    const struct command *command;
    json_t *args;
    uint64_t tid;
    uint64_t oldest; /* mon/executed.h */
    int result;
    char status[MON_STATUS_MAX];
    struct encoder output;
    /* The others */
    int32_t osd;
    uint64_t osd_instance;
    uint64_t pool;
};

TAILQ_HEAD(request_list, request);

/* What a request stages its effects on. */
struct batch {
    struct change *change;
    struct mon_entry_builder entry;
};

struct failure_report {
    int32_t target;
    int32_t reporter;
    uint64_t up_from; /* Of the target: another life of it is another matter. */
    bool refused;     /* Nobody listens there, says the reporter. */
    uint64_t first_ns;
    uint64_t at_ns; /* Repeated last. */
};

enum { LEADER_REPORTS_MAX = 4096, WATCH_WHY_MAX = 96 };

/*
 * So long an OSD must have been down before it may be removed by force: longer than any lease that
 * it may have granted before it ended. A set of others only, which that makes possible, would not
 * wait for a former primary that reads under such a lease.
 */
#define OSD_FORGET_NS (2 * SEC_NS)

/* What the leader remembers of an OSD beside the map. */
struct osd_watch {
    uint64_t instance;
    uint64_t seen_ns;       /* Last sign of life. */
    uint64_t down_since_ns; /* 0: not seen down. */
    /* leader_failure.c */
    uint64_t probing_ns; /* When a probe was started last. */
    uint64_t probed_ns;  /* When one ended, and how. */
    enum probe_result probe;
    bool suspected;          /* Marked down by reports: when it boots, that was wrong. */
    uint32_t wrong;          /* How often, within the window, */
    uint64_t wrong_ns;       /* and when last. */
    uint64_t held_until_ns;  /* It may not boot before. */
    char why[WATCH_WHY_MAX]; /* It was marked down. */
};

struct pool_watch {
    uint64_t pool;
    uint64_t settled_ns; /* Since when it could be compacted; 0: it could not. */
};

struct leader {
    struct mon *mon;
    bool active; /* All earlier entries are applied: we may propose. */
    uint64_t since_ns;
    uint64_t quorum_ns; /* When the quorum was as it is now for the first time. */
    uint64_t quorum_mask;
    struct machine *machine;
    struct request_list waiting;
    struct request_list staged; /* In the entry in flight. */
    uint32_t n_waiting;
    struct env_task run_task;
    struct env_timer tick;
    uint64_t last_tick_ns;
    uint32_t n_up; /* OSDs, and since when they are so many. */
    uint32_t n_in;
    uint64_t up_ns;
    uint64_t in_ns;
    uint32_t n_reports;
    struct failure_report *reports;
    int32_t n_watched;
    struct osd_watch *watched;
    uint32_t n_pools;
    struct pool_watch *pools;
};

struct leader *leader_create(struct mon *mon) MUST_CHECK;
void leader_destroy(struct leader *leader);
void leader_begin(struct leader *leader);
void leader_end(struct leader *leader);
/* The map was replaced or went on. */
void leader_map_changed(struct leader *leader);
/* The entry in flight was decided. */
void leader_proposed(struct leader *leader, int result);
/* A session's end: its requests lose the way back. */
void leader_session_gone(struct leader *leader, const struct mon_session *session);

/*
 * Takes a message of a session: body and payload are referenced. token and via say where the answer
 * goes; it is never given from inside the call. -EBUSY: too much is waiting.
 */
struct request_origin {
    uint64_t token;
    struct mon_session *via;
    struct entity_name sender;
    uint64_t instance;
    struct caps caps;
};
int leader_submit(struct leader *leader, struct message *message,
                  const struct request_origin *origin) MUST_CHECK;
/* An internal request, unless the same one waits already. */
void leader_request(struct leader *leader, enum request_kind kind, int32_t osd,
                    uint64_t osd_instance, uint64_t pool);
/* Answers a request with a message. */
void leader_answer(struct leader *leader, const struct request *request, uint16_t type,
                   const ProtobufCMessage *body, struct buf_slice payload);
/* Which monitors take part, as bits by their place in the map. */
uint64_t leader_quorum(const struct leader *leader);

/* ---- leader_osd.c ---- */

int leader_stage_boot(struct leader *leader, struct batch *batch,
                      struct request *request) MUST_CHECK;
int leader_stage_add_member(struct leader *leader, struct batch *batch,
                            const struct request *request) MUST_CHECK;
int leader_stage_fence(struct leader *leader, struct batch *batch,
                       const struct request *request) MUST_CHECK;
int leader_stage_initial(struct leader *leader, struct batch *batch) MUST_CHECK;
void leader_stats(struct leader *leader, const struct request *request);
void leader_watch_begin(struct leader *leader);
void leader_watch_map(struct leader *leader);
void leader_watch_tick(struct leader *leader);
/* leader_snaps.c: removed snapshots that have been trimmed everywhere. */
void leader_watch_snaps(struct leader *leader);
int leader_stage_purge(struct leader *leader, struct batch *batch, uint64_t pool);

/* What is remembered of an OSD; NULL: memory is short. */
struct osd_watch *leader_watch(struct leader *leader, int32_t id);

/* ---- leader_failure.c ---- */

void leader_failure(struct leader *leader, const struct request *request);
/* Reports of and about OSDs that the new map does not show as up any more are void. */
void leader_failure_map(struct leader *leader);
/* A probe of ours has ended. */
void leader_probed(struct leader *leader, int32_t id, uint64_t instance, enum probe_result result);
/* Every second. slept: we ourselves did not hear anybody for a while. */
void leader_failure_tick(struct leader *leader, bool slept);
/* Whether this process of an OSD may not boot now, since it was marked down wrongly too often. */
bool leader_holds_down(struct leader *leader, int32_t id, uint64_t instance, uint64_t *left_ns);

/* ---- command.c ---- */

/* Reads and checks a command; runs it, if it only reads. True: it must be staged. */
bool command_begin(struct leader *leader, struct request *request);
/* Stages a command that changes something: 0 or its error; -EINPROGRESS: not in this batch. */
int command_stage(struct leader *leader, struct batch *batch, struct request *request) MUST_CHECK;

#endif
