/*
 * Commands: JSON objects {"prefix": "osd pool create", ...} with Ceph's names and arguments, and
 * text or JSON for an answer. The leader runs all of them. A command that changes something is
 * staged like any other event and answered once it is committed; each may be repeated.
 */
#ifndef LIMPET_MON_COMMAND_H
#define LIMPET_MON_COMMAND_H

#include "mon/leader.h"

struct command_call {
    struct leader *leader;
    struct mon *mon;
    struct request *request;
    json_t *args;
    const struct cluster_map *map; /* As it is; or, of a change, with what was staged before. */
    struct batch *batch;           /* NULL: it only reads. */
    bool json;
    bool pretty;
};

enum { COMMAND_READS = 0, COMMAND_CHANGES = 1, COMMAND_MOVES = 2 /* Data, perhaps. */ };

struct command {
    const char *prefix;
    uint8_t caps;   /* That the sender must have at the monitors. */
    uint8_t change; /* COMMAND_*; false and true, too, mean the first two. */
    int (*run)(struct command_call *call);
    const char *arguments;
    const char *help;
};

/* ---- For implementations ---- */

/* Adds text to the output. */
void call_print(struct command_call *call, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Makes a JSON value the output; takes over the reference. -ENOMEM */
int call_json(struct command_call *call, json_t *value) MUST_CHECK;
/* Sets the line for a person; returns error. */
int call_say(struct command_call *call, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A text argument, NULL when there is none. */
const char *call_text(const struct command_call *call, const char *name);
/* The same; when it is missing, says so and returns NULL. */
const char *call_need(struct command_call *call, const char *name);
/* A number, given as such or as text. -ENOENT: not given; -EINVAL, which it explains. */
int call_number(struct command_call *call, const char *name, uint64_t *out) MUST_CHECK;
bool call_flag(const struct command_call *call, const char *name);
/* An OSD's number from "3" or "osd.3"; -EINVAL, which it explains. */
int call_osd_id(struct command_call *call, const char *text, int32_t *out) MUST_CHECK;
/* The pool of argument `name`; NULL when there is none, which it explains by *error. */
const struct map_pool *call_pool(struct command_call *call, const char *name, int *error);

/* "1.5 GiB", "12 MiB", "0 B" */
const char *format_bytes(double bytes, char text[32]);
/* "12s", "5m", "3h", "2d" */
const char *format_age(uint64_t ns, char text[16]);

/* "2026-11-29T03:26:39.339354+0000" */
enum { STAMP_TEXT_MAX = 56 };
const char *format_stamp(uint64_t ns, char text[STAMP_TEXT_MAX]);
/* A time of env_now() by the wall clock: a reader does not know our clock. */
uint64_t call_wall(const struct command_call *call, uint64_t ns);
/* An address as those that have several are given, with the instance of the process there. */
json_t *addresses_json(const struct net_address *address, uint64_t instance);

/* 16.16 fixed point, as the map has weights. */
static inline double weight_number(uint32_t weight)
{
    return (double)weight / MAP_WEIGHT_ONE;
}

/* command_block.c: "10.0.0.1:0/4711" */
enum { BLOCKED_TEXT_MAX = NET_ADDRESS_TEXT_MAX + 24 };
const char *format_blocked(const struct map_blocked *blocked, char text[BLOCKED_TEXT_MAX]);

/* command_osd.c: how many OSDs there are, up and in, and since when. */
struct summary;
json_t *osd_counts_json(const struct command_call *call, const struct summary *summary);

/* command_mon.c: the monitors, and the ranks and names of those that agree. */
json_t *monmap_json(const struct command_call *call);
json_t *quorum_ranks(const struct command_call *call);
json_t *quorum_names(const struct command_call *call);

/* command_dump.c: all about a pool; its number is under this key. */
json_t *pool_json(const struct command_call *call, const struct map_pool *pool, const char *number);

/* command_apps.c: {"rbd": {"key": "value"}}, of NULL {}. */
json_t *command_apps_json(const struct map_apps *apps);

/* ---- command_plan.c, for commands that may move data ---- */

/* Answers what the command would do. */
int command_dry_run(struct command_call *call) MUST_CHECK;
/* -ENOSPC, which it explains: OSDs would be too full, and the call does not insist. */
int command_check_room(struct command_call *call) MUST_CHECK;

/* ---- Tables, one a file ---- */

extern const struct command commands_basic[];
extern const struct command commands_mon[];
extern const struct command commands_versions[];
extern const struct command commands_dump[];
extern const struct command commands_tree[];
extern const struct command commands_osd[];
extern const struct command commands_block[];
extern const struct command commands_pool[];
extern const struct command commands_snaps[];
extern const struct command commands_apps[];
extern const struct command commands_crush[];
extern const struct command commands_plan[];
extern const struct command commands_pg[];
extern const struct command commands_auth[];
extern const struct command commands_status[];
extern const struct command commands_health[];
extern const struct command commands_health_codes[];

/* Flags of the cluster that commands set and unset; ends with a name of NULL. */
struct command_flag {
    const char *name;
    uint32_t flag;
};
extern const struct command_flag command_flags[];

#endif
