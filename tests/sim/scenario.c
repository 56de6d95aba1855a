#include "tests/sim/scenario.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/cluster.h"
#include "tests/sim/faults.h"

#define HOUR_NS (3600 * SEC_NS)
#define MIB     (UINT64_C(1) << 20)

enum { LINE_MAX_BYTES = 256 };

/* ---- What there is ---- */

enum field_kind { FIELD_COUNT, FIELD_TIME, FIELD_SIZE, FIELD_FLAG };

struct field {
    const char *name;
    enum field_kind kind;
    size_t offset; /* Of a struct scenario_value. */
    uint64_t min, max;
    const char *meaning;
};

#define IN_SCENARIO(member) offsetof(struct scenario, member)
#define IN_WORKLOAD(member) offsetof(struct scenario_workload, member)

static const struct field cluster_fields[] = {
    {"monitors", FIELD_COUNT, IN_SCENARIO(mons), 1, CLUSTER_MONS_MAX, ""},
    {"osds", FIELD_COUNT, IN_SCENARIO(osds), 1, CLUSTER_OSDS_MAX, ""},
    {"clients", FIELD_COUNT, IN_SCENARIO(clients), 1, CLUSTER_CLIENTS_MAX, ""},
    {"work", FIELD_TIME, IN_SCENARIO(seconds), SEC_NS, HOUR_NS, "how long clients meet faults"},
    {"pools", FIELD_COUNT, IN_SCENARIO(pools), 1, CLUSTER_POOLS_MAX, ""},
    {"pg_num", FIELD_COUNT, IN_SCENARIO(pg_num), 1, 64, "of each pool"},
    {"size", FIELD_COUNT, IN_SCENARIO(size), 1, 5, "copies, of each pool"},
    {"op_timeout", FIELD_TIME, IN_SCENARIO(op_timeout), 0, HOUR_NS, "of clients; 0s: never"},
    {"store_latency", FIELD_TIME, IN_SCENARIO(store_latency), 1000, SEC_NS, "of OSDs' disks"},
    {"sync", FIELD_TIME, IN_SCENARIO(sync), 1000, SEC_NS, "of files"},
    {"log_keep", FIELD_COUNT, IN_SCENARIO(log_keep), 1, 100000, "entries of a group's log"},
    {"records", FIELD_COUNT, IN_SCENARIO(records), 1, 1024, "clients that a group remembers"},
    {"held", FIELD_COUNT, IN_SCENARIO(held), 1, 8192, "messages that wait for a map, of an OSD"},
    {"scrub_every", FIELD_TIME, IN_SCENARIO(scrub_every), 0, HOUR_NS, "0s: only when ordered"},
    {"drift_ppm", FIELD_COUNT, IN_SCENARIO(drift), 0, 100000, "of clocks, at most"},
    {"breaks_per_hour", FIELD_COUNT, IN_SCENARIO(breaks), 0, 100000, "of each connection"},
    {"late", FIELD_TIME, IN_SCENARIO(late), 0, HOUR_NS, "what was sent before a session ended"},
    {"ends_per_hour", FIELD_COUNT, IN_SCENARIO(ends), 0, 100000, "of each session"},
    {"watched", FIELD_COUNT, IN_SCENARIO(watched), 0, 4, "objects that clients watch"},
    {"leased", FIELD_COUNT, IN_SCENARIO(leased), 0, 4, "objects of which they take leases"},
    {"fenced", FIELD_COUNT, IN_SCENARIO(fenced), 0, 4, "objects of which they take fenced ones"},
    {"fenced_deaf", FIELD_COUNT, IN_SCENARIO(fenced_deaf), 0, 100, "recalls of 100 not heard"},
    {"watch_timeout", FIELD_TIME, IN_SCENARIO(watch_timeout), SEC_NS, HOUR_NS, "on average"},
    {0},
};

static const struct field workload_fields[] = {
    {"percent", FIELD_COUNT, IN_WORKLOAD(percent), 0, 100, "of the seeds have it"},
    {"objects", FIELD_COUNT, IN_WORKLOAD(objects), 1, 4000, ""},
    {"clients", FIELD_COUNT, IN_WORKLOAD(clients), 0, CLUSTER_CLIENTS_MAX, "0: all"},
    {"slots", FIELD_COUNT, IN_WORKLOAD(slots), 1, 8, "operations at a time, of each client"},
    {"think", FIELD_TIME, IN_WORKLOAD(think), 1, HOUR_NS, "between two operations, on average"},
    {"first", FIELD_FLAG, IN_WORKLOAD(first), 0, 1, "objects are written before the work"},
    {"first_length", FIELD_SIZE, IN_WORKLOAD(first_length), 0, 8 * MIB, ""},
    {"length", FIELD_SIZE, IN_WORKLOAD(length), 0, 8 * MIB, "of whole objects"},
    {"piece", FIELD_SIZE, IN_WORKLOAD(piece), 0, 8 * MIB, "of write_at and append"},
    {"grow", FIELD_SIZE, IN_WORKLOAD(grow), 0, 8 * MIB, "append up to this size"},
    {"read", FIELD_COUNT, IN_WORKLOAD(read), 0, 1000, "weight"},
    {"stat", FIELD_COUNT, IN_WORKLOAD(stat), 0, 1000, "weight"},
    {"write_full", FIELD_COUNT, IN_WORKLOAD(write_full), 0, 1000, "weight"},
    {"write_at", FIELD_COUNT, IN_WORKLOAD(write_at), 0, 1000, "weight"},
    {"append", FIELD_COUNT, IN_WORKLOAD(append), 0, 1000, "weight"},
    {"truncate", FIELD_COUNT, IN_WORKLOAD(truncate), 0, 1000, "weight"},
    {"remove", FIELD_COUNT, IN_WORKLOAD(remove), 0, 1000, "weight"},
    {"create", FIELD_COUNT, IN_WORKLOAD(create), 0, 1000, "weight"},
    {"exchange", FIELD_COUNT, IN_WORKLOAD(exchange), 0, 1000, "weight"},
    {"exchange_if", FIELD_COUNT, IN_WORKLOAD(exchange_if), 0, 1000, "weight"},
    {"look", FIELD_COUNT, IN_WORKLOAD(look), 0, 1000, "weight"},
    {"read_snap", FIELD_COUNT, IN_WORKLOAD(read_snap), 0, 1000, "weight"},
    {"rollback", FIELD_COUNT, IN_WORKLOAD(rollback), 0, 1000, "weight"},
    {"zero", FIELD_COUNT, IN_WORKLOAD(zero), 0, 1000, "weight"},
    {"write_same", FIELD_COUNT, IN_WORKLOAD(write_same), 0, 1000, "weight"},
    {"write_if", FIELD_COUNT, IN_WORKLOAD(write_if), 0, 1000, "weight"},
    {"checksum", FIELD_COUNT, IN_WORKLOAD(checksum), 0, 1000, "weight"},
    {"hint", FIELD_COUNT, IN_WORKLOAD(hint), 0, 1000, "weight"},
    {"keys_set", FIELD_COUNT, IN_WORKLOAD(keys_set), 0, 1000, "weight"},
    {"keys_cut", FIELD_COUNT, IN_WORKLOAD(keys_cut), 0, 1000, "weight"},
    {"keys_list", FIELD_COUNT, IN_WORKLOAD(keys_list), 0, 1000, "weight"},
    {"lock", FIELD_COUNT, IN_WORKLOAD(lock), 0, 1000, "weight"},
    {"unlock", FIELD_COUNT, IN_WORKLOAD(unlock), 0, 1000, "weight"},
    {"break_lock", FIELD_COUNT, IN_WORKLOAD(break_lock), 0, 1000, "weight"},
    {"holder", FIELD_COUNT, IN_WORKLOAD(holder), 0, 1000, "weight"},
    {"greet", FIELD_COUNT, IN_WORKLOAD(greet), 0, 1000, "weight"},
    {"say", FIELD_COUNT, IN_WORKLOAD(say), 0, 1000, "weight"},
    {"share", FIELD_COUNT, IN_WORKLOAD(share), 0, 1000, "weight"},
    {"seize", FIELD_COUNT, IN_WORKLOAD(seize), 0, 1000, "weight"},
    {"leave", FIELD_COUNT, IN_WORKLOAD(leave), 0, 1000, "weight"},
    {"evict", FIELD_COUNT, IN_WORKLOAD(evict), 0, 1000, "weight"},
    {"rename", FIELD_COUNT, IN_WORKLOAD(rename), 0, 1000, "weight"},
    {"held", FIELD_COUNT, IN_WORKLOAD(held), 0, 1000, "weight"},
    {"team", FIELD_COUNT, IN_WORKLOAD(team), 0, 1000, "weight"},
    {"take_snap", FIELD_COUNT, IN_WORKLOAD(take_snap), 0, 1000, "weight"},
    {"drop_snap", FIELD_COUNT, IN_WORKLOAD(drop_snap), 0, 1000, "weight"},
    {0},
};

static const struct field file_fields[] = {
    {"workers", FIELD_COUNT, IN_SCENARIO(files.workers), 0, 8, "of each client"},
    {"think", FIELD_TIME, IN_SCENARIO(files.think), 1, HOUR_NS, "of each, on average"},
    {"lookup", FIELD_COUNT, IN_SCENARIO(files.lookup), 0, 1000, "weight"},
    {"getattr", FIELD_COUNT, IN_SCENARIO(files.getattr), 0, 1000, "weight"},
    {"create", FIELD_COUNT, IN_SCENARIO(files.create), 0, 1000, "weight"},
    {"mkdir", FIELD_COUNT, IN_SCENARIO(files.mkdir), 0, 1000, "weight"},
    {"symlink", FIELD_COUNT, IN_SCENARIO(files.symlink), 0, 1000, "weight"},
    {"unlink", FIELD_COUNT, IN_SCENARIO(files.unlink), 0, 1000, "weight"},
    {"rmdir", FIELD_COUNT, IN_SCENARIO(files.rmdir), 0, 1000, "weight"},
    {"rename", FIELD_COUNT, IN_SCENARIO(files.rename), 0, 1000, "weight"},
    {"link", FIELD_COUNT, IN_SCENARIO(files.link), 0, 1000, "weight"},
    {"list", FIELD_COUNT, IN_SCENARIO(files.list), 0, 1000, "weight"},
    {"setattr", FIELD_COUNT, IN_SCENARIO(files.setattr), 0, 1000, "weight"},
    {"truncate", FIELD_COUNT, IN_SCENARIO(files.truncate), 0, 1000, "weight"},
    {"open", FIELD_COUNT, IN_SCENARIO(files.open), 0, 1000, "weight"},
    {"release", FIELD_COUNT, IN_SCENARIO(files.release), 0, 1000, "weight"},
    {"read", FIELD_COUNT, IN_SCENARIO(files.read), 0, 1000, "weight"},
    {"write", FIELD_COUNT, IN_SCENARIO(files.write), 0, 1000, "weight"},
    {"sync", FIELD_COUNT, IN_SCENARIO(files.sync), 0, 1000, "weight"},
    {"sync_all", FIELD_COUNT, IN_SCENARIO(files.sync_all), 0, 1000, "weight"},
    {"xattr_get", FIELD_COUNT, IN_SCENARIO(files.xattr_get), 0, 1000, "weight"},
    {"xattr_set", FIELD_COUNT, IN_SCENARIO(files.xattr_set), 0, 1000, "weight"},
    {"race", FIELD_COUNT, IN_SCENARIO(files.race), 0, 1000, "weight"},
    {"lock", FIELD_COUNT, IN_SCENARIO(files.lock), 0, 1000, "weight"},
    {"drop", FIELD_TIME, IN_SCENARIO(files.drop), 0, HOUR_NS,
     "the kernel takes at most so long to drop what it caches; a quarter of the times at all"},
    {0},
};

static const struct field image_fields[] = {
    {"number", FIELD_COUNT, IN_SCENARIO(images.number), 0, 4, "of images"},
    {"workers", FIELD_COUNT, IN_SCENARIO(images.workers), 1, 4, "of each client"},
    {"think", FIELD_TIME, IN_SCENARIO(images.think), 1, HOUR_NS, "of each, on average"},
    {"read", FIELD_COUNT, IN_SCENARIO(images.read), 0, 1000, "weight"},
    {"write", FIELD_COUNT, IN_SCENARIO(images.write), 0, 1000, "weight"},
    {"zero", FIELD_COUNT, IN_SCENARIO(images.zero), 0, 1000, "weight: discards, zeroes"},
    {"same", FIELD_COUNT, IN_SCENARIO(images.same), 0, 1000, "weight"},
    {"compare", FIELD_COUNT, IN_SCENARIO(images.compare), 0, 1000, "weight: and write"},
    {"flush", FIELD_COUNT, IN_SCENARIO(images.flush), 0, 1000, "weight"},
    {"snap", FIELD_COUNT, IN_SCENARIO(images.snap), 0, 1000, "weight: take one"},
    {"snap_remove", FIELD_COUNT, IN_SCENARIO(images.snap_remove), 0, 1000, "weight"},
    {"snap_read", FIELD_COUNT, IN_SCENARIO(images.snap_read), 0, 1000, "weight: and list"},
    {"rollback", FIELD_COUNT, IN_SCENARIO(images.rollback), 0, 1000, "weight"},
    {"resize", FIELD_COUNT, IN_SCENARIO(images.resize), 0, 1000, "weight"},
    {"flatten", FIELD_COUNT, IN_SCENARIO(images.flatten), 0, 1000, "weight"},
    {"diff", FIELD_COUNT, IN_SCENARIO(images.diff), 0, 1000, "weight"},
    {"check", FIELD_COUNT, IN_SCENARIO(images.check), 0, 1000, "weight: of the object map"},
    {"create", FIELD_COUNT, IN_SCENARIO(images.create), 0, 1000, "weight"},
    {"remove", FIELD_COUNT, IN_SCENARIO(images.remove), 0, 1000, "weight"},
    {"clone", FIELD_COUNT, IN_SCENARIO(images.clone), 0, 1000, "weight"},
    {"rename", FIELD_COUNT, IN_SCENARIO(images.rename), 0, 1000, "weight"},
    {"trash", FIELD_COUNT, IN_SCENARIO(images.trash), 0, 1000, "weight: and back"},
    {"group", FIELD_COUNT, IN_SCENARIO(images.group), 0, 1000, "weight: with a snapshot"},
    {"stream", FIELD_COUNT, IN_SCENARIO(images.stream), 0, 1000, "weight: export and import"},
    {"encrypted", FIELD_COUNT, IN_SCENARIO(images.encrypted), 0, 100, "percent of them"},
    {"cached", FIELD_COUNT, IN_SCENARIO(images.cached), 0, 100, "percent of handles"},
    {0},
};

static const struct field fault_fields[] = {
    {"every", FIELD_TIME, IN_SCENARIO(every), 1000000, HOUR_NS, "on average"},
    {"emphasis", FIELD_COUNT, IN_SCENARIO(emphasis), 1, 100,
     "how much likelier one family of faults is, which the seed picks"},
    {0},
};

static const struct field check_fields[] = {
    {"answer", FIELD_TIME, IN_SCENARIO(answer), SEC_NS, HOUR_NS,
     "every operation, after faults are over"},
    {"settle", FIELD_TIME, IN_SCENARIO(settle), SEC_NS, HOUR_NS, "clean, and copies equal"},
    {"linear", FIELD_FLAG, IN_SCENARIO(linear), 0, 1, "histories are linearizable"},
    {"versions", FIELD_FLAG, IN_SCENARIO(versions), 0, 1, "versions grow"},
    {"listings", FIELD_FLAG, IN_SCENARIO(listings), 0, 1, "listings are complete"},
    {"copies", FIELD_FLAG, IN_SCENARIO(copies), 0, 1, "copies are equal, nothing is stray"},
    {"scrub", FIELD_COUNT, IN_SCENARIO(scrub), 0, 100,
     "percent of the seeds in which scrub and reads must repair what is damaged at the end"},
    {0},
};

static const char cluster_defaults[] = "monitors = 3@8, 1, 5\n"
                                       "osds = 3..5@4, 3..8\n"
                                       "clients = 3\n"
                                       "work = 60s\n"
                                       "pools = 1..2\n"
                                       "pg_num = 1..12\n"
                                       "size = 3@3, 2\n"
                                       "op_timeout = 0s@3, 1s..10s\n"
                                       "store_latency = 100us..500us\n"
                                       "sync = 100us..500us\n"
                                       "log_keep = 2000@3, 1..4, 5..100\n"
                                       "scrub_every = 0s@2, 4s..30s\n"
                                       "records = 1024\n"
                                       "held = 8192\n"
                                       "drift_ppm = 500\n"
                                       "breaks_per_hour = 60\n"
                                       "ends_per_hour = 20\n"
                                       "watched = 0\n"
                                       "leased = 0\n"
                                       "fenced = 0\n"
                                       "fenced_deaf = 5\n"
                                       "late = 0s\n"
                                       "watch_timeout = 2s..8s\n";

static const char check_defaults[] = "answer = 30s\n"
                                     "settle = 90s\n"
                                     "linear = yes\n"
                                     "versions = yes\n"
                                     "listings = yes\n"
                                     "copies = yes\n"
                                     "scrub = 20\n";

static const char image_defaults[] = "number = 0\n"
                                     "workers = 1..3\n"
                                     "think = 20ms..400ms\n"
                                     "read = 60\n"
                                     "write = 60\n"
                                     "zero = 16\n"
                                     "same = 6\n"
                                     "compare = 8\n"
                                     "flush = 4\n"
                                     "snap = 12\n"
                                     "snap_remove = 6\n"
                                     "snap_read = 10\n"
                                     "rollback = 4\n"
                                     "resize = 8\n"
                                     "flatten = 4\n"
                                     "diff = 8\n"
                                     "check = 6\n"
                                     "create = 100\n"
                                     "remove = 6\n"
                                     "clone = 60\n"
                                     "rename = 4\n"
                                     "trash = 0\n"
                                     "group = 0\n"
                                     "stream = 0\n"
                                     "encrypted = 0\n"
                                     "cached = 0\n";

static const char file_defaults[] = "workers = 0\n"
                                    "think = 5ms..200ms\n"
                                    "lookup = 60\n"
                                    "getattr = 20\n"
                                    "create = 60\n"
                                    "mkdir = 25\n"
                                    "symlink = 6\n"
                                    "unlink = 30\n"
                                    "rmdir = 16\n"
                                    "rename = 40\n"
                                    "link = 12\n"
                                    "list = 14\n"
                                    "setattr = 16\n"
                                    "truncate = 10\n"
                                    "open = 30\n"
                                    "release = 22\n"
                                    "read = 30\n"
                                    "write = 80\n"
                                    "sync = 14\n"
                                    "sync_all = 2\n"
                                    "xattr_get = 8\n"
                                    "xattr_set = 12\n"
                                    "race = 12\n"
                                    "lock = 30\n"
                                    "drop = 0s\n";

static const char fault_defaults[] = "every = 250ms..8s\n"
                                     "emphasis = 4\n";

/* What every workload starts from. */
static const char workload_defaults[] = "percent = 100\n"
                                        "objects = 8..30\n"
                                        "clients = 0\n"
                                        "slots = 1\n"
                                        "think = 20ms..400ms\n"
                                        "first = no\n"
                                        "first_length = 0..300\n"
                                        "length = 0..2, 0..100k, 4k, 8k, 16k, 0..5000@12\n"
                                        "piece = 0..2, 0..100k, 4k, 8k, 16k, 0..5000@12\n"
                                        "grow = 200k\n"
                                        "read = 38\n"
                                        "stat = 6\n"
                                        "write_full = 18\n"
                                        "write_at = 12\n"
                                        "append = 14\n"
                                        "truncate = 4\n"
                                        "remove = 6\n"
                                        "create = 2\n"
                                        "exchange = 0\n"
                                        "exchange_if = 0\n"
                                        "look = 0\n"
                                        "read_snap = 0\n"
                                        "rollback = 0\n"
                                        "zero = 0\n"
                                        "write_same = 0\n"
                                        "write_if = 0\n"
                                        "checksum = 0\n"
                                        "hint = 0\n"
                                        "keys_set = 0\n"
                                        "keys_cut = 0\n"
                                        "keys_list = 0\n"
                                        "lock = 0\n"
                                        "unlock = 0\n"
                                        "break_lock = 0\n"
                                        "holder = 0\n"
                                        "greet = 0\n"
                                        "say = 0\n"
                                        "share = 0\n"
                                        "seize = 0\n"
                                        "leave = 0\n"
                                        "evict = 0\n"
                                        "rename = 0\n"
                                        "held = 0\n"
                                        "team = 0\n"
                                        "take_snap = 0\n"
                                        "drop_snap = 0\n";

static const struct {
    const char *name;
    const char *meaning;
    const char *values; /* That differ from the defaults. */
} presets[] = {
    {"mixed", "operations of every kind on a few small objects", "slots = 2\n"},
    {"large", "objects of megabytes, of which parts are written",
     "objects = 1..2\nclients = 1\nthink = 1s..20s\nlength = 0..6M\npiece = 0..200k\ngrow = 6M\n"
     "read = 20\nstat = 2\nwrite_full = 20\nwrite_at = 50\nappend = 10\ntruncate = 8\n"
     "remove = 2\ncreate = 1\nzero = 8\nwrite_same = 6\nwrite_if = 8\nchecksum = 6\n"},
    {"append", "counters: what is appended must be there once, in order",
     "objects = 2..8\npiece = 1..16\nread = 30\nstat = 5\nwrite_full = 0\nwrite_at = 0\n"
     "append = 70\ntruncate = 0\nremove = 1\ncreate = 0\n"},
    {"hot", "one object that every client wants at once",
     "objects = 1\nslots = 1..2\nthink = 10ms..200ms\npiece = 0..5000\n"},
    {"churn", "objects that come and go",
     "objects = 50..500\nlength = 0..300\npiece = 0..300\nread = 5\nstat = 5\nwrite_full = 35\n"
     "write_at = 0\nappend = 5\ntruncate = 0\nremove = 40\ncreate = 20\n"},
    {"tags", "attributes, pairs and contents that are compared and exchanged, keys, locks",
     "objects = 1..4\nslots = 1..2\nread = 10\nstat = 0\nwrite_full = 5\nwrite_at = 5\n"
     "append = 5\ntruncate = 2\nremove = 4\ncreate = 2\nexchange = 25\nexchange_if = 25\n"
     "look = 25\nwrite_same = 3\nwrite_if = 5\nchecksum = 4\nhint = 2\nkeys_set = 12\n"
     "keys_cut = 6\nkeys_list = 14\nlock = 8\nunlock = 6\nbreak_lock = 2\nholder = 6\n"
     "greet = 3\nsay = 2\nshare = 10\nseize = 4\nleave = 5\nevict = 2\nrename = 4\nheld = 5\n"
     "team = 10\n"},
    {"snaps", "snapshots that are taken, read, rolled back to and removed, while objects change",
     "objects = 2..6\nslots = 1..2\nlength = 0..300, 0..30k\npiece = 0..300, 0..9000\ngrow = 60k\n"
     "read = 12\nstat = 2\nwrite_full = 12\nwrite_at = 14\nappend = 10\ntruncate = 4\n"
     "remove = 6\ncreate = 2\nzero = 5\nwrite_same = 4\nwrite_if = 6\nhint = 2\n"
     "checksum = 3\nread_snap = 26\nrollback = 5\ntake_snap = 5\ndrop_snap = 4\n"},
    {"ballast", "many objects that are there before, and change now and then",
     "objects = 1..2000\nfirst = yes\nthink = 100ms..2s\nlength = 0..300\npiece = 0..300\n"},
    {"catalog", "objects that are there all the time, for listings to find",
     "objects = 20..200\nfirst = yes\nthink = 200ms..4s\nlength = 0..300\npiece = 0..300\n"
     "remove = 0\ncreate = 0\n"},
};

enum { N_PRESETS = sizeof presets / sizeof presets[0] };

/* ---- Values ---- */

struct parser {
    struct scenario *scenario;
    char *why;
    uint32_t line;
    const struct field *fields; /* Of the section. */
    char *base;
    char section[2 * SCENARIO_NAME_MAX];
    bool in_faults;
    uint64_t seen_fields, seen_faults;
    uint32_t seen_sections; /* All but workloads. */
};

static int refuse(struct parser *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int refuse(struct parser *p, const char *format, ...)
{
    int at = snprintf(p->why, SCENARIO_WHY_MAX, "line %" PRIu32 ": ", p->line);
    va_list args;
    va_start(args, format);
    vsnprintf(p->why + at, SCENARIO_WHY_MAX - (size_t)at, format, args);
    va_end(args);
    return -EINVAL;
}

static const struct unit {
    const char *name;
    enum field_kind kind;
    uint64_t factor;
} units[] = {
    {"", FIELD_COUNT, 1},      {"", FIELD_SIZE, 1},      {"k", FIELD_SIZE, 1024},
    {"M", FIELD_SIZE, MIB},    {"us", FIELD_TIME, 1000}, {"ms", FIELD_TIME, MSEC_NS},
    {"s", FIELD_TIME, SEC_NS},
};

/* A number with its unit; *text moves on. */
static int parse_number(struct parser *p, const struct field *field, char **text, uint64_t *out)
{
    char *at = *text, unit[4] = "";
    if (!isdigit((unsigned char)*at))
        return refuse(p, "%s wants a number, not '%s'", field->name, at);
    errno = 0;
    uint64_t value = strtoull(at, &at, 10);
    size_t n = 0;
    while (isalpha((unsigned char)*at) && n < sizeof unit - 1)
        unit[n++] = *at++;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (units[i].kind != field->kind || strcmp(units[i].name, unit) != 0)
            continue;
        if (errno || value > UINT64_MAX / units[i].factor)
            return refuse(p, "%s is too large", field->name);
        *out = value * units[i].factor;
        *text = at;
        if (*out < field->min || *out > field->max)
            return refuse(p, "%s is out of its range", field->name);
        return 0;
    }
    return refuse(p, "%s wants %s, not '%s'", field->name,
                  field->kind == FIELD_TIME   ? "us, ms or s after a number"
                  : field->kind == FIELD_SIZE ? "k, M or nothing after a number"
                                              : "a plain number",
                  unit);
}

static char *skip_spaces(char *at)
{
    while (*at == ' ' || *at == '\t')
        at++;
    return at;
}

/* LOW, LOW..HIGH, either with @WEIGHT. */
static int parse_choice(struct parser *p, const struct field *field, char **text,
                        struct scenario_choice *choice)
{
    int rc = parse_number(p, field, text, &choice->low);
    choice->high = choice->low;
    choice->weight = 1;
    if (rc == 0 && strncmp(*text, "..", 2) == 0) {
        *text += 2;
        rc = parse_number(p, field, text, &choice->high);
    }
    if (rc < 0)
        return rc;
    if (choice->high < choice->low)
        return refuse(p, "%s wants the smaller number first", field->name);
    if (**text == '@') {
        static const struct field weight = {"a weight", FIELD_COUNT, 0, 1, 1000, ""};
        uint64_t value = 0;
        (*text)++;
        if (parse_number(p, &weight, text, &value) < 0)
            return -EINVAL;
        choice->weight = (uint32_t)value;
    }
    *text = skip_spaces(*text);
    return 0;
}

static int parse_value(struct parser *p, const struct field *field, char *text,
                       struct scenario_value *value)
{
    if (field->kind == FIELD_FLAG) {
        bool yes = strcmp(text, "yes") == 0;
        if (!yes && strcmp(text, "no") != 0)
            return refuse(p, "%s wants yes or no, not '%s'", field->name, text);
        *value = scenario_only(yes);
        return 0;
    }
    value->n = 0;
    for (;;) {
        if (value->n == SCENARIO_CHOICES_MAX)
            return refuse(p, "%s has more than %d choices", field->name, SCENARIO_CHOICES_MAX);
        if (parse_choice(p, field, &text, &value->choices[value->n++]) < 0)
            return -EINVAL;
        if (*text == '\0')
            return 0;
        if (*text != ',')
            return refuse(p, "%s: ',' or the end of the line is expected before '%s'", field->name,
                          text);
        text = skip_spaces(text + 1);
    }
}

/* ---- Lines ---- */

static int parse_fault(struct parser *p, const char *key, char *text)
{
    static const struct field weight = {"the weight of a fault", FIELD_COUNT, 0, 0, 1000, ""};
    uint64_t value = 0;
    int number = fault_by_name(key);
    if (number < 0)
        return refuse(p, "there is no fault '%s'", key);
    if (p->seen_faults >> number & 1)
        return refuse(p, "%s is there twice", key);
    p->seen_faults |= UINT64_C(1) << number;
    if (parse_number(p, &weight, &text, &value) < 0)
        return -EINVAL;
    if (*text != '\0')
        return refuse(p, "'%s' is not expected after a weight", text);
    p->scenario->faults[number] = (uint32_t)value;
    return 0;
}

static int parse_assignment(struct parser *p, const char *key, char *text)
{
    if (!p->fields)
        return refuse(p, "'%s' comes before the first [section]", key);
    for (size_t i = 0; p->fields[i].name; i++) {
        const struct field *field = &p->fields[i];
        if (strcmp(field->name, key) != 0)
            continue;
        if (p->seen_fields >> i & 1)
            return refuse(p, "%s is there twice", key);
        p->seen_fields |= UINT64_C(1) << i;
        return parse_value(p, field, text, (struct scenario_value *)(p->base + field->offset));
    }
    if (p->in_faults)
        return parse_fault(p, key, text);
    return refuse(p, "[%s] has no '%s'", p->section, key);
}

static void enter(struct parser *p, const struct field *fields, void *base)
{
    p->fields = fields;
    p->base = base;
    p->seen_fields = 0;
}

static int parse_lines(struct parser *p, const char *text);

/* Our own text. */
static void apply(struct parser *p, const char *text)
{
    uint32_t line = p->line;
    int rc = parse_lines(p, text);
    assert(rc == 0);
    (void)rc;
    p->line = line;
    p->seen_fields = 0;
}

static int begin_workload(struct parser *p, const char *name)
{
    struct scenario *scenario = p->scenario;
    if (scenario->n_workloads == SCENARIO_WORKLOADS_MAX)
        return refuse(p, "there are more than %d workloads", SCENARIO_WORKLOADS_MAX);
    for (size_t i = 0; i < N_PRESETS; i++) {
        if (strcmp(presets[i].name, name) != 0)
            continue;
        struct scenario_workload *workload = &scenario->workloads[scenario->n_workloads++];
        snprintf(workload->name, sizeof workload->name, "%s", name);
        enter(p, workload_fields, workload);
        apply(p, workload_defaults);
        apply(p, presets[i].values);
        return 0;
    }
    return refuse(p, "there is no workload '%s'", name);
}

static int begin_section(struct parser *p, const char *name)
{
    static const struct {
        const char *name;
        const struct field *fields;
    } sections[] = {{"cluster", cluster_fields},
                    {"images", image_fields},
                    {"files", file_fields},
                    {"faults", fault_fields},
                    {"check", check_fields}};
    snprintf(p->section, sizeof p->section, "%s", name);
    p->in_faults = strcmp(name, "faults") == 0;
    if (strncmp(name, "workload ", strlen("workload ")) == 0)
        return begin_workload(p, name + strlen("workload "));
    for (uint32_t i = 0; i < sizeof sections / sizeof sections[0]; i++) {
        if (strcmp(sections[i].name, name) != 0)
            continue;
        if (p->seen_sections >> i & 1)
            return refuse(p, "[%s] is there twice", name);
        p->seen_sections |= 1u << i;
        enter(p, sections[i].fields, p->scenario);
        return 0;
    }
    return refuse(p, "there is no section [%s]", name);
}

static char *trim(char *text)
{
    text = skip_spaces(text);
    char *end = text + strlen(text);
    while (end > text && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *end = '\0';
    return text;
}

static int parse_line(struct parser *p, char *line)
{
    char *comment = strchr(line, '#');
    if (comment)
        *comment = '\0';
    line = trim(line);
    if (*line == '\0')
        return 0;
    size_t len = strlen(line);
    if (*line == '[') {
        if (line[len - 1] != ']')
            return refuse(p, "']' is missing");
        line[len - 1] = '\0';
        return begin_section(p, trim(line + 1));
    }
    char *equals = strchr(line, '=');
    if (!equals)
        return refuse(p, "'%s' is neither [section] nor key = value", line);
    *equals = '\0';
    return parse_assignment(p, trim(line), trim(equals + 1));
}

static int parse_lines(struct parser *p, const char *text)
{
    while (*text) {
        char line[LINE_MAX_BYTES];
        size_t len = strcspn(text, "\n");
        p->line++;
        if (len >= sizeof line)
            return refuse(p, "it is longer than %d bytes", LINE_MAX_BYTES - 1);
        memcpy(line, text, len);
        line[len] = '\0';
        if (parse_line(p, line) < 0)
            return -EINVAL;
        text += len + (text[len] == '\n');
    }
    return 0;
}

int scenario_parse(struct scenario *scenario, const char *text, char why[SCENARIO_WHY_MAX])
{
    struct parser parser = {.scenario = scenario, .why = why};
    memset(scenario, 0, sizeof *scenario);
    enter(&parser, cluster_fields, scenario);
    apply(&parser, cluster_defaults);
    enter(&parser, image_fields, scenario);
    apply(&parser, image_defaults);
    enter(&parser, file_fields, scenario);
    apply(&parser, file_defaults);
    enter(&parser, fault_fields, scenario);
    apply(&parser, fault_defaults);
    enter(&parser, check_fields, scenario);
    apply(&parser, check_defaults);
    parser.fields = NULL;
    if (parse_lines(&parser, text) < 0)
        return -EINVAL;
    if (scenario->n_workloads == 0 && scenario_most(&scenario->images.number) == 0 &&
        scenario_most(&scenario->files.workers) == 0 && scenario_most(&scenario->fenced) == 0)
        return refuse(&parser, "the scenario ends without a workload");
    return 0;
}

int scenario_load(struct scenario *scenario, const char *name, char why[SCENARIO_WHY_MAX])
{
    char path[512], *text = NULL, error[SCENARIO_WHY_MAX];
    bool is_path = strchr(name, '/') != NULL;
    int rc = -EINVAL;
    snprintf(path, sizeof path, is_path ? "%s" : LIMPET_SCENARIOS "/%s.txt", name);
    FILE *file = fopen(path, "r");
    text = malloc(SCENARIO_BYTES_MAX);
    if (!file || !text) {
        snprintf(why, SCENARIO_WHY_MAX, "%.150s: %s", path, strerror(errno));
        goto out;
    }
    size_t len = fread(text, 1, SCENARIO_BYTES_MAX - 1, file);
    text[len] = '\0';
    rc = scenario_parse(scenario, text, error);
    if (rc < 0)
        snprintf(why, SCENARIO_WHY_MAX, "%.100s: %.150s", path, error);
    snprintf(scenario->name, sizeof scenario->name, "%.31s", name);
out:
    free(text);
    if (file)
        fclose(file);
    return rc;
}

/* ---- Use ---- */

struct scenario_value scenario_only(uint64_t value)
{
    return (struct scenario_value){.n = 1, .choices[0] = {value, value, 1}};
}

uint64_t scenario_most(const struct scenario_value *value)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < value->n; i++)
        most = value->choices[i].high > most ? value->choices[i].high : most;
    return most;
}

uint64_t scenario_choose(const struct scenario_value *value, struct sim *sim)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < value->n; i++)
        sum += value->choices[i].weight;
    assert(sum > 0);
    uint64_t dice = sim_below(sim, sum);
    const struct scenario_choice *choice = value->choices;
    while (dice >= choice->weight)
        dice -= choice++->weight;
    return choice->low + sim_below(sim, choice->high - choice->low + 1);
}

static void list_fields(FILE *out, const struct field *fields)
{
    static const char *const kinds[] = {"count", "time", "size", "yes/no"};
    for (; fields->name; fields++)
        fprintf(out, "    %-16s %-7s %s\n", fields->name, kinds[fields->kind], fields->meaning);
}

void scenario_list(FILE *out)
{
    fprintf(out, "[cluster]\n");
    list_fields(out, cluster_fields);
    fprintf(out, "[workload NAME], where NAME is one of\n");
    for (size_t i = 0; i < N_PRESETS; i++)
        fprintf(out, "    %-16s %s\n", presets[i].name, presets[i].meaning);
    fprintf(out, "  and each has\n");
    list_fields(out, workload_fields);
    fprintf(out, "[images]\n");
    list_fields(out, image_fields);
    fprintf(out, "[files]\n");
    list_fields(out, file_fields);
    fprintf(out, "[faults]\n");
    list_fields(out, fault_fields);
    fprintf(out, "  and a weight for each of\n");
    for (int i = 0; i < fault_count(); i++)
        fprintf(out, "    %-24s %s\n", fault_name(i), fault_meaning(i));
    fprintf(out, "[check]\n");
    list_fields(out, check_fields);
}
