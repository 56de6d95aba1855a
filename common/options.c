#include "common/options.h"

#include <string.h>

#include "common/ini_text.h"

#define MS  UINT64_C(1000000)
#define SEC UINT64_C(1000000000)
#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)

static const struct option_info options[] = {
    {.name = "fsid",
     .type = OPTION_UUID,
     .description = "The cluster's UUID; daemons and clients refuse to talk to another cluster."},
    {.name = "mon_host",
     .type = OPTION_TEXT,
     .description = "Addresses of the monitors, separated by commas or spaces; port 3300 if none."},
    {.name = "mon_initial_members",
     .type = OPTION_TEXT,
     .description = "Names of the monitors of a new cluster, in the order of mon_host."},
    {.name = "keyring",
     .type = OPTION_TEXT,
     .default_value = "/etc/limpet/$cluster.$name.keyring,/etc/limpet/keyring",
     .description = "Files that may hold the key, separated by commas; the first that exists."},
    {.name = "log_file",
     .type = OPTION_TEXT,
     .description = "Where log lines go, opened again on SIGHUP; standard error if empty."},
    {.name = "pid_file",
     .type = OPTION_TEXT,
     .description = "A file to keep the process number of the running daemon in."},
    {.name = "ms_mode",
     .type = OPTION_CHOICE,
     .default_value = "integrity",
     .choices = "integrity|encrypted",
     .description = "Protection of connections; they are encrypted if either side asks for it."},
    {.name = "ms_receive_limit",
     .type = OPTION_SIZE,
     .default_value = "256M",
     .min = 16 * MIB,
     .description = "Bytes of received messages in use before a daemon stops to read more."},
    {.name = "public_addr",
     .type = OPTION_TEXT,
     .description = "The address where an OSD listens, with or without a port; if empty, the one "
                    "from which it reaches the monitors."},
    {.name = "host",
     .type = OPTION_TEXT,
     .default_value = "$host",
     .description = "Name of the host under which an OSD appears in the CRUSH hierarchy."},

    {.name = "mon_data",
     .type = OPTION_TEXT,
     .default_value = "/var/lib/limpet/mon/$cluster-$id",
     .description = "The folder of a monitor's data."},
    {.name = "mon_election_timeout",
     .type = OPTION_DURATION,
     .default_value = "600ms",
     .min = 50 * MS,
     .max = 60 * SEC,
     .description = "A monitor that hears nothing from the leader for this long stands itself."},
    {.name = "mon_heartbeat_interval",
     .type = OPTION_DURATION,
     .default_value = "150ms",
     .min = 10 * MS,
     .max = 20 * SEC,
     .description = "How often the leading monitor reminds the others that it lives."},
    {.name = "mon_snapshot_entries",
     .type = OPTION_NUMBER,
     .default_value = "500",
     .min = 16,
     .max = 1000000,
     .description = "Entries in a monitor's log after which it writes a snapshot."},
    {.name = "mon_osd_down_out_interval",
     .type = OPTION_DURATION,
     .default_value = "600s",
     .description = "An OSD that is down for this long is marked out, so that its data is copied "
                    "elsewhere; 0: never."},
    {.name = "mon_osd_report_timeout",
     .type = OPTION_DURATION,
     .default_value = "20s",
     .min = 2 * SEC,
     .description = "An OSD that sends the monitors nothing for this long is marked down."},
    {.name = "mon_osd_probe_timeout",
     .type = OPTION_DURATION,
     .default_value = "400ms",
     .min = 50 * MS,
     .max = 10 * SEC,
     .description = "An OSD that others report as silent must answer the leading monitor within "
                    "this, or is marked down."},
    {.name = "mon_osd_partial_grace",
     .type = OPTION_DURATION,
     .default_value = "5s",
     .min = 1 * SEC,
     .max = 600 * SEC,
     .description = "Of two OSDs that cannot talk to each other for this long, while both talk to "
                    "the monitors, one is marked down."},
    {.name = "mon_osd_flap_count",
     .type = OPTION_NUMBER,
     .default_value = "3",
     .min = 1,
     .max = 1000,
     .description = "An OSD that was marked down wrongly so often, within mon_osd_flap_window, is "
                    "held down."},
    {.name = "mon_osd_flap_window",
     .type = OPTION_DURATION,
     .default_value = "600s",
     .min = 1 * SEC,
     .description = "After so long without it, an OSD that was marked down wrongly is as good as "
                    "new."},
    {.name = "mon_osd_flap_hold",
     .type = OPTION_DURATION,
     .default_value = "30s",
     .max = 3600 * SEC,
     .description = "For how long it is held down the first time; twice as long each time after, "
                    "up to 16 times."},
    {.name = "mon_osd_nearfull_ratio",
     .type = OPTION_RATIO,
     .default_value = "0.85",
     .description = "Used share of an OSD from which the health report warns."},
    {.name = "mon_osd_full_ratio",
     .type = OPTION_RATIO,
     .default_value = "0.95",
     .description = "Used share of an OSD from which writes that need space are refused."},
    {.name = "osd_pool_default_size",
     .type = OPTION_NUMBER,
     .default_value = "3",
     .min = 1,
     .max = 16,
     .description = "Replicas of a new pool."},
    {.name = "osd_pool_default_min_size",
     .type = OPTION_NUMBER,
     .default_value = "2",
     .min = 1,
     .max = 16,
     .description = "Replicas that a new pool needs to accept writes."},
    {.name = "osd_crush_chooseleaf_type",
     .type = OPTION_NUMBER,
     .default_value = "1",
     .max = 255,
     .description = "What replicas of a new cluster's pools are spread over: 0 OSDs, 1 hosts."},

    {.name = "osd_data",
     .type = OPTION_TEXT,
     .default_value = "/var/lib/limpet/osd/$cluster-$id",
     .description = "The folder of an OSD's data."},
    {.name = "osd_size",
     .type = OPTION_SIZE,
     .default_value = "0",
     .description = "Bytes of a new OSD's disk; 0: nine tenths of what the file system has free."},
    {.name = "osd_preallocate",
     .type = OPTION_BOOL,
     .default_value = "true",
     .description =
         "Takes the space of a new OSD's file from the file system at once. Without, the "
         "file grows with its contents, and an OSD stops when the file system is full."},
    {.name = "osd_memory_target",
     .type = OPTION_SIZE,
     .default_value = "176M",
     .min = 64 * MIB,
     .description = "The memory budget of an OSD, for all its caches, logs and queues. Large "
                    "writes under way come on top, and what the system keeps of its disk in free "
                    "memory."},
    {.name = "osd_heartbeat_interval",
     .type = OPTION_DURATION,
     .default_value = "500ms",
     .min = 50 * MS,
     .max = 700 * MS,
     .description = "How often OSDs that share placement groups ping each other."},
    {.name = "osd_heartbeat_grace",
     .type = OPTION_DURATION,
     .default_value = "2s",
     .min = 200 * MS,
     .max = 3600 * SEC,
     .description = "An OSD that does not answer for this long is reported to the monitors."},
    {.name = "osd_stats_interval",
     .type = OPTION_DURATION,
     .default_value = "5s",
     .min = 100 * MS,
     .max = 10 * SEC,
     .description = "How often an idle OSD sends its statistics, which also say that it lives."},
    {.name = "osd_op_complaint_time",
     .type = OPTION_DURATION,
     .default_value = "30s",
     .min = 100 * MS,
     .max = 3600 * SEC,
     .description = "A client's request that has waited for so long is in the health report "
                    "(SLOW_OPS) and in the OSD's log."},
    {.name = "osd_scrub_interval",
     .type = OPTION_DURATION,
     .default_value = "1d",
     .max = 3650 * 24 * 3600 * SEC,
     .description = "How long after a scrub a placement group is scrubbed again: sizes, attributes "
                    "and versions of its copies are compared; 0: only when ordered."},
    {.name = "osd_deep_scrub_interval",
     .type = OPTION_DURATION,
     .default_value = "7d",
     .max = 3650 * 24 * 3600 * SEC,
     .description = "The same for deep scrubs, which read and compare all data; 0: only when "
                    "ordered."},

    {.name = "key",
     .type = OPTION_TEXT,
     .description = "A client's key itself, as keyrings have it; then no keyring is read."},
    {.name = "connect_timeout",
     .type = OPTION_DURATION,
     .default_value = "30s",
     .description = "How long a client looks for a monitor that answers; 0: for ever."},
    {.name = "rados_osd_op_timeout",
     .type = OPTION_DURATION,
     .default_value = "0",
     .description =
         "How long a client waits for an operation on an object; 0: for ever. Writes end "
         "after ten minutes whatever it says."},
    {.name = "rados_mon_op_timeout",
     .type = OPTION_DURATION,
     .default_value = "0",
     .description = "How long a client waits for a command to the monitors; 0: for ever."},
    {.name = "client_max_bytes_in_flight",
     .type = OPTION_SIZE,
     .default_value = "256M",
     .min = MIB,
     .description = "Data of unfinished operations from which a client makes its caller wait."},
    {.name = "client_max_ops_in_flight",
     .type = OPTION_NUMBER,
     .default_value = "1024",
     .min = 1,
     .max = 1000000,
     .description = "Unfinished operations from which a client makes its caller wait."},
    {.name = "client_busy_poll",
     .type = OPTION_DURATION,
     .default_value = "300us",
     .max = MS,
     .description =
         "How long at most a client with a single operation under way looks for its answer "
         "before it sleeps, as long as answers come within that time; 0: never."},
    {.name = "rbd_cache",
     .type = OPTION_BOOL,
     .default_value = "false",
     .description = "Whether librbd answers writes before they are durable, when it has the "
                    "image's exclusive lock. A flush makes all before it durable. QEMU sets it, "
                    "by the cache mode of the disk."},
    {.name = "rbd_cache_max_dirty",
     .type = OPTION_SIZE,
     .default_value = "24M",
     .max = 1024 * MIB,
     .description = "Bytes of such writes that may be under way, of an image; others are answered "
                    "when they are durable."},
    {.name = "rbd_cache_writethrough_until_flush",
     .type = OPTION_BOOL,
     .default_value = "true",
     .description = "Whether that begins with the first flush only: who never flushes loses "
                    "nothing then."},
    {.name = "rbd_encryption_iter_time",
     .type = OPTION_DURATION,
     .default_value = "2s",
     .max = 60 * SEC,
     .description = "How long it shall take to try a passphrase of an image that is encrypted now, "
                    "as --iter-time of cryptsetup; 0: as short as the format allows, for "
                    "passphrases that are long and random."},
};

/* Names under which Ceph's configuration files have the same thing. */
static const struct {
    const char *alias;
    const char *name;
} aliases[] = {
    {"client_mount_timeout", "connect_timeout"},
    {"public_address", "public_addr"},
    {"objecter_inflight_op_bytes", "client_max_bytes_in_flight"},
    {"objecter_inflight_ops", "client_max_ops_in_flight"},
};

const struct option_info *option_find(const char *name)
{
    char normal[INI_NAME_MAX + 1];
    if (ini_text_name(name, strlen(name), normal) != 0)
        return NULL;
    const char *wanted = normal;
    for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++) {
        if (strcmp(normal, aliases[i].alias) == 0)
            wanted = aliases[i].name;
    }
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        if (strcmp(wanted, options[i].name) == 0)
            return &options[i];
    }
    return NULL;
}

const struct option_info *options_all(size_t *n)
{
    *n = sizeof options / sizeof options[0];
    return options;
}

const char *option_type_name(enum option_type type)
{
    static const char *const names[] = {
        [OPTION_TEXT] = "text",         [OPTION_UUID] = "UUID",         [OPTION_NUMBER] = "number",
        [OPTION_SIZE] = "size",         [OPTION_DURATION] = "duration", [OPTION_BOOL] = "yes/no",
        [OPTION_RATIO] = "share (0-1)", [OPTION_CHOICE] = "choice",
    };
    return names[type];
}

/* A bare '|' would end the cell of the table. */
static void print_choices(FILE *out, const char *choices)
{
    const char *before = ": ";
    while (*choices != '\0') {
        size_t len = strcspn(choices, "|");
        fprintf(out, "%s`%.*s`", before, (int)len, choices);
        before = ", ";
        choices += len + (choices[len] == '|' ? 1 : 0);
    }
}

void options_print(FILE *out)
{
    fprintf(out, "| option | type | default | meaning |\n| --- | --- | --- | --- |\n");
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        const struct option_info *option = &options[i];
        fprintf(out, "| `%s` | %s", option->name, option_type_name(option->type));
        if (option->choices != NULL)
            print_choices(out, option->choices);
        if (option->default_value != NULL)
            fprintf(out, " | `%s`", option->default_value);
        else
            fprintf(out, " | none");
        fprintf(out, " | %s |\n", option->description);
    }
}
