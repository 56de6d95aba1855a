/* limpet rbd device: the folder in which mappings are kept; see rbd_device.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cli/rbd_device.h"

#define DEFAULT_FOLDER "/run/limpet/devices"

enum { IDS_MAX = 4096 };

enum { RUN_FOLDER_MAX = DEVICE_PATH_MAX - 16 };

/* As the kernel names files in it: without symbolic links, once it is there. */
static void run_folder(char out[RUN_FOLDER_MAX])
{
    char resolved[PATH_MAX];
    const char *folder = getenv("LIMPET_DEVICES");
    if (folder == NULL || folder[0] == 0)
        folder = DEFAULT_FOLDER;
    if (realpath(folder, resolved) != NULL)
        folder = resolved;
    if (strlen(folder) >= RUN_FOLDER_MAX)
        fail(ENAMETOOLONG, "%s: too long a name for the folder of devices", folder);
    snprintf(out, RUN_FOLDER_MAX, "%s", folder);
}

static void make_folders(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(path, 0755);
        *slash = '/';
    }
    if (mkdir(path, 0755) != 0 && errno != EEXIST)
        fail(errno, "%s: %s", path, error_phrase(errno));
}

int device_entries_lock(void)
{
    char folder[RUN_FOLDER_MAX], path[DEVICE_PATH_MAX];
    run_folder(folder);
    make_folders(folder);
    snprintf(path, sizeof path, "%s/lock", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX) != 0)
        fail(errno, "%s: %s", path, error_phrase(errno));
    return fd;
}

const char *device_entry_path(const struct device_entry *entry, const char *name)
{
    static char texts[4][DEVICE_PATH_MAX + 16];
    static unsigned next;
    char *text = texts[next++ % 4];
    snprintf(text, sizeof texts[0], "%s/%s", entry->folder, name);
    return text;
}

static void set_id(struct device_entry *entry, unsigned id)
{
    char folder[RUN_FOLDER_MAX];
    run_folder(folder);
    *entry = (struct device_entry){.id = id};
    snprintf(entry->folder, sizeof entry->folder, "%s/%u", folder, id);
}

/* Ascending. Returns how many. */
static unsigned list_ids(unsigned ids[IDS_MAX])
{
    unsigned n = 0;
    char folder[RUN_FOLDER_MAX];
    run_folder(folder);
    DIR *dir = opendir(folder);
    const struct dirent *e;
    while (dir != NULL && n < IDS_MAX && (e = readdir(dir)) != NULL) {
        char *end;
        unsigned long id = strtoul(e->d_name, &end, 10);
        if (e->d_name[0] < '0' || e->d_name[0] > '9' || *end != 0 || id >= IDS_MAX)
            continue;
        unsigned at = n++;
        for (; at > 0 && ids[at - 1] > id; at--)
            ids[at] = ids[at - 1];
        ids[at] = (unsigned)id;
    }
    if (dir != NULL)
        closedir(dir);
    return n;
}

/* Somebody holds the lock. */
static bool is_alive(const struct device_entry *entry)
{
    int fd = open(device_entry_path(entry, "lock"), O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool alive = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    close(fd);
    return alive;
}

void device_entry_remove(const struct device_entry *entry)
{
    static const char *const names[] = {"entry", "entry.new", "image", "socket", "log", "lock"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unlink(device_entry_path(entry, names[i]));
    rmdir(entry->folder);
}

int device_entry_create(struct device_entry *entry)
{
    unsigned ids[IDS_MAX], n = list_ids(ids), id = 0;
    while (id < n && ids[id] == id)
        id++;
    if (id == IDS_MAX)
        fail(EMFILE, "there are %d mapped images: too many", IDS_MAX);
    set_id(entry, id);
    if (mkdir(entry->folder, 0700) != 0)
        fail(errno, "%s: %s", entry->folder, error_phrase(errno));
    const char *path = device_entry_path(entry, "lock");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) != 0)
        fail(errno, "%s: %s", path, error_phrase(errno));
    return fd;
}

int device_entry_adopt(const struct device_entry *entry)
{
    const char *path = device_entry_path(entry, "lock");
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) != 0)
        fail(errno, "%s: %s", path, error_phrase(errno));
    return fd;
}

/* ---- What an entry says ---- */

static const char *const type_names[] = {
    [DEVICE_LOOP] = "loop", [DEVICE_NBD] = "nbd", [DEVICE_UBLK] = "ublk"};

const char *device_type_name(enum device_type type)
{
    return type_names[type];
}

static enum device_type type_of(const char *name)
{
    enum device_type type = DEVICE_UBLK;
    while (type != DEVICE_LOOP && strcmp(name, type_names[type]) != 0)
        type--;
    return type;
}

void device_entry_save(const struct device_entry *entry)
{
    const struct rbd_spec *spec = &entry->spec;
    const char *path = device_entry_path(entry, "entry.new");
    char mark[20];
    snprintf(mark, sizeof mark, "%llx", (unsigned long long)entry->mark);
    json_t *json = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:s, s:s, s:I, s:I}", "pool", spec->pool,
        "namespace", spec->space, "name", spec->name, "snap", spec->snap, "device", entry->device,
        "type", device_type_name(entry->type), "read_only", entry->read_only, "exclusive",
        entry->exclusive, "encryption", entry->encryption, "mark", mark, "pid",
        (json_int_t)entry->pid, "connector", (json_int_t)entry->connector);
    if (json == NULL)
        fail(ENOMEM, "out of memory");
    if (json_dump_file(json, path, JSON_INDENT(1)) != 0 ||
        rename(path, device_entry_path(entry, "entry")) != 0)
        fail(errno, "%s: %s", path, error_phrase(errno));
    json_decref(json);
}

#define READ(json, key, to) snprintf(to, sizeof(to), "%s", json_text(json, key))

static bool load(struct device_entry *entry)
{
    json_t *json = json_load_file(device_entry_path(entry, "entry"), 0, NULL);
    if (json == NULL)
        return false;
    READ(json, "pool", entry->spec.pool);
    READ(json, "namespace", entry->spec.space);
    READ(json, "name", entry->spec.name);
    READ(json, "snap", entry->spec.snap);
    READ(json, "device", entry->device);
    READ(json, "encryption", entry->encryption);
    entry->type = type_of(json_text(json, "type"));
    entry->read_only = json_is_true(json_object_get(json, "read_only"));
    entry->exclusive = json_is_true(json_object_get(json, "exclusive"));
    entry->mark = strtoull(json_text(json, "mark"), NULL, 16);
    entry->pid = (pid_t)json_number(json, "pid");
    entry->connector = (unsigned)json_number(json, "connector");
    json_decref(json);
    return entry->device[0] != 0 && entry->pid > 0;
}

void device_entries_clean(void)
{
    unsigned ids[IDS_MAX], n = list_ids(ids);
    for (unsigned i = 0; i < n; i++) {
        struct device_entry entry;
        set_id(&entry, ids[i]);
        if (is_alive(&entry))
            continue;
        bool had_device = load(&entry);
        if (entry.type == DEVICE_UBLK && ublk_is_orphan(&entry))
            continue;
        if (had_device && entry.type == DEVICE_NBD)
            nbd_disconnect(&entry);
        if (entry.type == DEVICE_UBLK)
            ublk_remove(&entry);
        const char *image = device_entry_path(&entry, "image");
        loop_detach_all(image);
        umount2(image, MNT_DETACH);
        device_entry_remove(&entry);
    }
}

size_t device_entries(struct device_entry **out)
{
    unsigned ids[IDS_MAX], n = list_ids(ids);
    size_t found = 0;
    *out = calloc(n + 1, sizeof **out);
    if (*out == NULL)
        fail(ENOMEM, "out of memory");
    for (unsigned i = 0; i < n; i++) {
        struct device_entry *entry = &(*out)[found];
        set_id(entry, ids[i]);
        if (!load(entry))
            continue;
        entry->orphan = !is_alive(entry);
        found += !entry->orphan || (entry->type == DEVICE_UBLK && ublk_is_orphan(entry));
    }
    return found;
}

bool device_entry_wait(const struct device_entry *entry, int timeout_ms)
{
    struct pollfd poller = {.fd = pidfd_open(entry->pid, 0), .events = POLLIN};
    /* The number is the mapper's for as long as the lock is held. */
    bool ended = poller.fd < 0 || !is_alive(entry);
    while (!ended) {
        int rc = poll(&poller, 1, timeout_ms);
        ended = rc > 0;
        if (rc == 0 || (rc < 0 && errno != EINTR))
            break;
    }
    if (poller.fd >= 0)
        close(poller.fd);
    return ended;
}
