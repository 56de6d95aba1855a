/* limpet rbd device: images as block devices of the kernel. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/cli/rbd_device.h"

/* How long 'unmap' waits for those who look at every new device, and for an aborted mapper. */
enum { LOOKERS_MS = 2000, LOOK_AGAIN_MS = 20, ABORT_MS = 5000 };

/* ---- Options ---- */

/* As the kernel's rbd writes them: -o ro,exclusive. */
static void read_map_option(const char *name, const char *value, struct device_options *out)
{
    if (strcmp(name, "ro") == 0 && value == NULL) {
        out->read_only = true;
    } else if (strcmp(name, "rw") == 0 && value == NULL) {
        out->read_only = false;
    } else if (strcmp(name, "exclusive") == 0 && value == NULL) {
        out->exclusive = true;
    } else if (strcmp(name, "block_size") == 0 && value != NULL &&
               (strcmp(value, "512") == 0 || strcmp(value, "4096") == 0)) {
        out->block_size = value[0] == '5' ? 512 : 4096;
    } else if (strcmp(name, "encryption-format") == 0 && value != NULL &&
               (strcmp(value, "luks1") == 0 || strcmp(value, "luks2") == 0)) {
        out->encryption.format = value[4] == '1' ? "luks1" : "luks2";
    } else if (strcmp(name, "encryption-passphrase-file") == 0 && value != NULL) {
        out->encryption.path = strdup(value);
    } else {
        fail(EINVAL,
             "unknown map option '%s%s%s'; there are ro, rw, exclusive, block_size=512, "
             "block_size=4096, encryption-format=luks1|luks2 and encryption-passphrase-file=PATH",
             name, value != NULL ? "=" : "", value != NULL ? value : "");
    }
}

static void read_map_options(struct cli *cli, struct device_options *out)
{
    *out = (struct device_options){.block_size = 512};
    out->encryption.format = cli_text(cli, "encryption-format", NULL);
    out->encryption.path = cli_text(cli, "encryption-passphrase-file", NULL);
    for (int i = 0; i < cli->n_values; i++) {
        if (strcmp(cli->values[i].option->name, "options") != 0)
            continue;
        char *text = strdup(cli->values[i].text), *rest = text, *word;
        while (rest != NULL && (word = strsep(&rest, ",")) != NULL) {
            char *equals = strchr(word, '=');
            if (equals != NULL)
                *equals = 0;
            if (word[0] != 0)
                read_map_option(word, equals != NULL ? equals + 1 : NULL, out);
        }
        free(text);
    }
    out->read_only |= cli_has(cli, "read-only");
    out->exclusive |= cli_has(cli, "exclusive");
    rbd_encryption_check(&out->encryption);
}

static bool read_unmap_options(struct cli *cli)
{
    const char *text = cli_text(cli, "options", NULL);
    if (text != NULL && strcmp(text, "force") != 0)
        fail(EINVAL, "unknown unmap option '%s'; there is force", text);
    return text != NULL || cli_has(cli, "force");
}

static enum device_type choose_type(struct cli *cli)
{
    const char *text = cli_text(cli, "device-type", "auto");
    if (strcmp(text, "nbd") == 0 && !nbd_is_there())
        fail(ENODEV, "map failed: no /dev/nbd0, or no nbd-client; 'modprobe nbd' and the package "
                     "nbd-client give them");
    const char *why;
    bool has_ublk = ublk_is_there(&why);
    if (strcmp(text, "ublk") == 0 && !has_ublk)
        fail(ENODEV, "map failed: %s", why);
    if (strcmp(text, "loop") == 0)
        return DEVICE_LOOP;
    if (has_ublk && strcmp(text, "nbd") != 0)
        return DEVICE_UBLK;
    return nbd_is_there() ? DEVICE_NBD : DEVICE_LOOP;
}

/* ---- map ---- */

static bool is_same_image(const struct device_entry *entry, const struct rbd_spec *spec)
{
    return strcmp(entry->spec.pool, spec->pool) == 0 &&
           strcmp(entry->spec.space, spec->space) == 0 &&
           strcmp(entry->spec.name, spec->name) == 0 && strcmp(entry->spec.snap, spec->snap) == 0;
}

static void warn_if_mapped(struct cli *cli, const struct rbd_spec *spec)
{
    struct device_entry *entries;
    size_t n = device_entries(&entries);
    for (size_t i = 0; i < n; i++) {
        if (entries[i].orphan || !is_same_image(&entries[i], spec))
            continue;
        fprintf(stderr, "%s: warning: image already mapped as %s\n", cli->program,
                entries[i].device);
        break;
    }
    free(entries);
}

/* A byte from the mapper, or its end. */
static bool hears(int channel)
{
    char byte;
    ssize_t n;
    do
        n = recv(channel, &byte, 1, 0);
    while (n < 0 && errno == EINTR);
    return n == 1;
}

/* The mapper has said why. */
static int end_of_mapper(const struct device_entry *entry)
{
    int status = 0;
    while (waitpid(entry->pid, &status, 0) < 0 && errno == EINTR)
        continue;
    /* One that was to be taken over stays as it was. */
    if (!entry->recovers) {
        if (entry->type == DEVICE_UBLK)
            ublk_remove(entry);
        device_entry_remove(entry);
    }
    return WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : EIO;
}

/* The mapper is told that the device is known. Returns the exit status. */
static int confirm(const struct device_entry *entry, int channel)
{
    size_t len = strlen(entry->device) + 1;
    if (send(channel, entry->device, len, MSG_NOSIGNAL) != (ssize_t)len || !hears(channel)) {
        end_of_mapper(entry);
        return complain(EIO, "map failed: the mapper has ended");
    }
    return 0;
}

/* Returns the exit status. */
static int attach(struct device_entry *entry, const struct device_options *options, int channel)
{
    if (!hears(channel))
        return end_of_mapper(entry);
    int rc = loop_attach(device_entry_path(entry, "image"), options, entry->device);
    if (rc != 0) {
        shutdown(channel, SHUT_RDWR);
        end_of_mapper(entry);
        return complain(rc, "map failed: %s: %s", entry->device, error_phrase(rc));
    }
    device_entry_save(entry);
    return confirm(entry, channel);
}

/* The mapper makes the device and keeps the entry. Returns the exit status. */
static int attach_ublk(struct device_entry *entry, int channel)
{
    ssize_t n;
    do
        n = recv(channel, entry->device, sizeof entry->device - 1, 0);
    while (n < 0 && errno == EINTR);
    if (n <= 0) {
        entry->device[0] = 0;
        return end_of_mapper(entry);
    }
    return confirm(entry, channel);
}

/* As descriptors 3 and 4, alone: nothing else that was inherited is kept open by the mapper. */
static void keep_only(int channel, int lock)
{
    int high_channel = fcntl(channel, F_DUPFD, 64), high_lock = fcntl(lock, F_DUPFD, 64);
    if (high_channel < 0 || high_lock < 0 || dup2(high_channel, 3) < 0 || dup2(high_lock, 4) < 0 ||
        close_range(5, ~0U, 0) != 0)
        fail(errno, "map failed: %s", error_phrase(errno));
    fcntl(3, F_SETFD, FD_CLOEXEC);
    fcntl(4, F_SETFD, FD_CLOEXEC);
}

/* The library does not survive fork(): the mapper connects itself. */
static int map_here(struct cli *cli, struct device_entry *entry, struct device_options *options,
                    int lock)
{
    int channel[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) != 0)
        fail(errno, "map failed: %s", error_phrase(errno));
    entry->pid = fork();
    if (entry->pid < 0)
        fail(errno, "map failed: %s", error_phrase(errno));
    if (entry->pid == 0) {
        keep_only(channel[1], lock);
        int code = entry->type == DEVICE_UBLK ? ublk_mapper_run(cli, entry, options, 3)
                                              : mapper_run(cli, entry, options, 3);
        cli_disconnect(cli);
        if (code == 0 || !entry->recovers)
            device_entry_remove(entry);
        _exit(code);
    }
    explicit_bzero(options->encryption.passphrase, sizeof options->encryption.passphrase);
    close(lock);
    close(channel[1]);
    int code = entry->type == DEVICE_UBLK ? attach_ublk(entry, channel[0])
                                          : attach(entry, options, channel[0]);
    close(channel[0]);
    return code;
}

/* The server would tell its log alone that it is not there. */
static void check_image(struct cli *cli)
{
    struct rbd_run run;
    rbd_begin(cli, RBD_IMAGE_OR_SNAP, false, &run);
    rbd_end(&run, 0);
    cli_disconnect(cli);
}

/* A device that waits for a new mapper, of the same image in the same way. */
static bool find_orphan(const struct rbd_spec *spec, const struct device_options *options,
                        struct device_entry *out)
{
    struct device_entry *entries;
    const char *format = options->encryption.format;
    size_t n = device_entries(&entries), i = 0;
    while (i < n && !(entries[i].orphan && is_same_image(&entries[i], spec) &&
                      entries[i].read_only == options->read_only &&
                      entries[i].exclusive == options->exclusive &&
                      strcmp(entries[i].encryption, format != NULL ? format : "") == 0))
        i++;
    bool found = i < n;
    if (found)
        *out = entries[i];
    free(entries);
    return found;
}

/* With the lock of the entries. Returns the mapper's lock. */
static int begin_entry(struct device_entry *entry, enum device_type type,
                       const struct rbd_spec *spec, const struct device_options *options)
{
    if (type == DEVICE_UBLK && find_orphan(spec, options, entry)) {
        entry->recovers = true;
        return device_entry_adopt(entry);
    }
    int lock = device_entry_create(entry);
    const char *format = options->encryption.format;
    entry->type = type;
    entry->spec = *spec;
    entry->read_only = options->read_only;
    entry->exclusive = options->exclusive;
    snprintf(entry->encryption, sizeof entry->encryption, "%s", format != NULL ? format : "");
    if (type != DEVICE_UBLK)
        return lock;
    if (getrandom(&entry->mark, sizeof entry->mark, 0) != sizeof entry->mark)
        fail(errno, "map failed: no random number: %s", error_phrase(errno));
    device_entry_save(entry);
    return lock;
}

int rbd_device_map(struct cli *cli)
{
    struct device_options options;
    struct rbd_spec spec;
    if (cli_has(cli, "cookie") || cli_has(cli, "show-cookie"))
        fail(EOPNOTSUPP, "map failed: devices have no cookies; mapping an image again finds the "
                         "device that lost its process");
    if (cli_has(cli, "quiesce") || cli_has(cli, "quiesce-hook"))
        fail(EOPNOTSUPP, "map failed: nobody is told of a snapshot before it is taken; freeze the "
                         "file system with 'fsfreeze' meanwhile");
    rbd_spec_read(cli, 0, RBD_SOURCE, RBD_IMAGE_OR_SNAP, &spec);
    read_map_options(cli, &options);
    options.read_only |= spec.snap[0] != 0;
    if (geteuid() != 0)
        fail(EPERM, "map failed: %s: devices are made by root", error_phrase(EPERM));
    struct device_entry entry;
    enum device_type type = choose_type(cli);
    if (type == DEVICE_NBD)
        check_image(cli);
    else
        rbd_encryption_load(&options.encryption);
    int entries = device_entries_lock();
    device_entries_clean();
    warn_if_mapped(cli, &spec);
    int lock = begin_entry(&entry, type, &spec, &options), code = 0;
    fflush(NULL);
    if (type == DEVICE_NBD) {
        nbd_attach(cli, &entry, &options, lock);
        device_entry_save(&entry);
        close(entries);
    } else {
        close(entries);
        code = map_here(cli, &entry, &options, lock);
    }
    if (code == 0)
        printf("%s\n", entry.device);
    return code;
}

/* ---- unmap ---- */

/* "/dev/loop3p1" is on "/dev/loop3". */
static bool is_device(const struct device_entry *entry, const char *name)
{
    size_t len = strlen(entry->device);
    return strncmp(entry->device, name, len) == 0 &&
           (name[len] == 0 || (name[len] == 'p' && isdigit((unsigned char)name[len + 1])));
}

static void find_by_device(struct device_entry *entries, size_t n, const char *name,
                           struct device_entry *out)
{
    for (size_t i = 0; i < n; i++) {
        if (is_device(&entries[i], name)) {
            *out = entries[i];
            return;
        }
    }
    fail(EINVAL, "'%s' is not a mapped device; 'limpet rbd device list' shows those that are",
         name);
}

static void find_by_spec(struct cli *cli, const struct device_entry *entries, size_t n,
                         const struct rbd_spec *spec, struct device_entry *out)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        if (is_same_image(&entries[i], spec) && found++ == 0)
            *out = entries[i];
    }
    if (found == 0)
        fail(EINVAL,
             "%s: not a mapped image or snapshot; 'limpet rbd device list' shows those that are",
             rbd_spec_text(spec));
    if (found > 1)
        fprintf(stderr, "%s: %s: mapped more than once, unmapping %s only\n", cli->program,
                rbd_spec_text(spec), out->device);
}

static void find_entry(struct cli *cli, struct device_entry *out)
{
    struct device_entry *entries;
    struct rbd_spec spec;
    bool by_device = cli->n_words > 0 && cli->words[0][0] == '/';
    if (!by_device)
        rbd_spec_read(cli, 0, RBD_SOURCE, RBD_IMAGE_OR_SNAP, &spec);
    int lock = device_entries_lock();
    device_entries_clean();
    size_t n = device_entries(&entries);
    if (by_device)
        find_by_device(entries, n, cli->words[0], out);
    else
        find_by_spec(cli, entries, n, &spec, out);
    free(entries);
    close(lock);
}

/* Programs that look at each new device have it open for a moment. Exits when it stays in use. */
static void wait_until_unused(const char *device)
{
    char text[DEVICE_TEXT_MAX];
    for (int waited = 0; device_used(device, text); waited += LOOK_AGAIN_MS) {
        if (waited >= LOOKERS_MS || strncmp(text, "is open", 7) != 0)
            fail(EBUSY, "unmap failed: %s: %s %s (or force it: -o force)", error_phrase(EBUSY),
                 device, text);
        poll(NULL, 0, LOOK_AGAIN_MS);
    }
}

static int detach(const struct device_entry *entry, bool force)
{
    if (entry->type == DEVICE_NBD)
        return nbd_detach(entry, force);
    if (entry->type == DEVICE_UBLK)
        return ublk_detach(entry, force);
    const char *image = device_entry_path(entry, "image");
    int rc = loop_detach(entry->device, image, force);
    /* Aborted: what is under way fails, and all that comes. */
    if (rc == 0 && force)
        umount2(image, MNT_FORCE);
    if (rc == 0 && umount2(image, force ? MNT_DETACH : 0) != 0 && errno != EINVAL &&
        errno != ENOENT)
        rc = -errno;
    return rc;
}

int rbd_device_unmap(struct cli *cli)
{
    struct device_entry entry;
    bool force = read_unmap_options(cli);
    find_entry(cli, &entry);
    if (!force)
        wait_until_unused(entry.device);
    int rc = detach(&entry, force);
    if (rc == -EBUSY)
        fail(EBUSY, "unmap failed: %s: %s is in use, by nobody who is to be seen from here",
             error_phrase(rc), entry.device);
    if (rc != 0)
        fail(rc, "unmap failed: %s: %s", entry.device, error_phrase(rc));
    if (!device_entry_wait(&entry, force ? ABORT_MS : -1)) {
        /* It waits for a cluster that does not answer. */
        kill(entry.pid, SIGKILL);
        device_entry_wait(&entry, -1);
    }
    device_entry_remove(&entry);
    return 0;
}

/* ---- list ---- */

static void show(const struct device_entry *entry, struct table *table, json_t *json)
{
    const struct rbd_spec *spec = &entry->spec;
    const char *snap = spec->snap[0] != 0 ? spec->snap : "-";
    char id[16];
    snprintf(id, sizeof id, "%u", entry->id);
    const char *const cells[] = {id, spec->pool, spec->space, spec->name, snap, entry->device};
    for (size_t i = 0; i < sizeof cells / sizeof cells[0]; i++)
        table_cell(table, "%s", cells[i]);
    json_array_append_new(json, json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "id", id, "pool",
                                          spec->pool, "namespace", spec->space, "name", spec->name,
                                          "snap", snap, "device", entry->device));
}

int rbd_device_list(struct cli *cli)
{
    static const char *const titles[] = {"id", "pool", "namespace", "image", "snap", "device"};
    struct table *table = table_create("llllll");
    struct device_entry *entries;
    json_t *json = json_array();
    const char *type = cli_text(cli, "device-type", "auto");
    for (size_t i = 0; i < sizeof titles / sizeof titles[0]; i++)
        table_cell(table, "%s", titles[i]);
    size_t n = device_entries(&entries), shown = 0;
    for (size_t i = 0; i < n; i++) {
        bool any = strcmp(type, "auto") == 0 || strcmp(type, "krbd") == 0;
        if (!any && strcmp(type, device_type_name(entries[i].type)) != 0)
            continue;
        show(&entries[i], table, json);
        shown++;
    }
    if (rbd_wants_json(cli))
        rbd_print_json(cli, json_incref(json));
    else if (shown > 0)
        table_print_titled(table);
    table_destroy(table);
    json_decref(json);
    free(entries);
    return 0;
}
