/*
 * limpet rbd device: what its files share.
 *
 *   rbd_device.c         the verbs; from an image to a device and back
 *   rbd_device_entry.c   the folder in which mappings are kept
 *   rbd_device_use.c     who uses a block device
 *   rbd_device_loop.c    loop devices
 *   rbd_device_file.c    the mapper: an image as a file, through FUSE
 *   rbd_device_nbd.c     devices of the kernel's NBD client
 *   rbd_device_ublk.c    the mapper of a ublk device; client/ublk/ serves it
 *
 * A mapping has a folder RUN/ID, where RUN is $LIMPET_DEVICES or /run/limpet/devices:
 *
 *   lock     held (flock) by the mapper for as long as it lives
 *   entry    what is mapped where, as JSON, from when there is a device until there is none
 *   image    loop: the image as a file, mounted over an empty one; what the loop device lies on
 *   socket   nbd: where the server listens
 *   log      what the mapper complained of
 *
 * The mapper is one process for each mapping: this program, for NBD as
 * 'limpet rbd nbd'. A folder whose lock nobody holds is of a mapper that has died. Whoever maps or
 * unmaps next removes it, after its loop device and its mount. Only a device of ublk outlives its
 * mapper: while somebody uses it, it waits for the next one, who maps the same image in the same
 * way. Its entry is there before the device, and has the mark by which the device is found.
 */
#ifndef LIMPET_CLIENT_CLI_RBD_DEVICE_H
#define LIMPET_CLIENT_CLI_RBD_DEVICE_H

#include <signal.h>
#include <sys/types.h>

#include "client/cli/rbd.h"

enum { DEVICE_PATH_MAX = 512, DEVICE_NAME_MAX = 64, DEVICE_TEXT_MAX = 1024 };

enum device_type { DEVICE_LOOP, DEVICE_NBD, DEVICE_UBLK };

struct device_entry {
    unsigned id;
    enum device_type type;
    struct rbd_spec spec;
    bool read_only;
    bool exclusive;
    bool orphan;   /* ublk: its mapper has died, the device waits for another one. */
    bool recovers; /* This process is about to start that one; at its end: the device stays. */
    pid_t pid;
    unsigned connector;           /* NBD: of whom the kernel says that it connected the device. */
    uint64_t mark;                /* ublk: what the device was made with. */
    char encryption[8];           /* "luks2", or "" */
    char device[DEVICE_NAME_MAX]; /* "/dev/loop3" */
    char folder[DEVICE_PATH_MAX];
};

/* What 'map' was asked for. */
struct device_options {
    bool read_only;
    bool exclusive;
    unsigned block_size;
    struct rbd_encryption encryption;
};

/* ---- Entries (rbd_device_entry.c); they exit with a message ---- */

/* One at a time may make, remove and look for entries: returns a descriptor to be closed. */
int device_entries_lock(void);
/* Removes what dead mappers have left: folders, mounts, devices; no orphans. With the lock. */
void device_entries_clean(void);
/* Those that have a device, and a mapper that lives or are orphans; by id. free() *out. */
size_t device_entries(struct device_entry **out);
/*
 * A new folder, with the lowest free number; with the lock. Returns the descriptor that holds the
 * mapper's lock: whoever has it, the mapper, and its children if they inherit it, lives.
 */
int device_entry_create(struct device_entry *entry);
void device_entry_save(const struct device_entry *entry);
/* The lock of an orphan, as device_entry_create() gives it; with the lock of all. */
int device_entry_adopt(const struct device_entry *entry);
/* "loop" */
const char *device_type_name(enum device_type type);
/* Does not complain. */
void device_entry_remove(const struct device_entry *entry);
/* "FOLDER/NAME": static memory, four in turn. */
const char *device_entry_path(const struct device_entry *entry, const char *name);
/* Waits until the mapper has ended; false: it has not after timeout_ms (-1: no limit). */
bool device_entry_wait(const struct device_entry *entry, int timeout_ms);

/* ---- Who uses a device (rbd_device_use.c) ---- */

/* Tells in words who has it, or a partition of it, mounted or open: false: nobody was found. */
bool device_used(const char *device, char text[DEVICE_TEXT_MAX]);

/* ---- Loop devices (rbd_device_loop.c) ---- */

/* A device on a file; 0 or an error, and its name. */
int loop_attach(const char *path, const struct device_options *options,
                char device[DEVICE_NAME_MAX]);
/* The device takes over the size that its file has now. Safe after fork(). */
int loop_set_capacity(const char *device);
/*
 * The device goes, when `lazily` with the last one who uses it. -EBUSY: somebody uses it; 0 also if
 * it does not lie on this file.
 */
int loop_detach(const char *device, const char *path, bool lazily);
/* Detaches whatever lies on a file, lazily. */
void loop_detach_all(const char *path);

/* ---- The mapper of a loop device (rbd_device_file.c) ---- */

/*
 * Runs in a process of its own, with `channel`, a socket to its parent: sends a byte when the file
 * is there; the parent answers with the device's name when it has one, or closes; another byte says
 * that the mapper has left the parent's terminal. Returns the exit status, when the file is not
 * mounted any more.
 */
int mapper_run(struct cli *cli, const struct device_entry *entry, struct device_options *options,
               int channel);

/* What the mappers share. A process of its own, whose SIGTERM is blocked, and in *signals. */
void mapper_begin(sigset_t *signals);
/* Exits with a message when the image's lock cannot be had, or kept as the options say. */
void mapper_take_lock(struct limpet_image *image, const struct device_entry *entry,
                      const struct device_options *options);
/* The parent's terminal, or whatever it had, is not kept open. */
void mapper_leave_terminal(const struct device_entry *entry);

/* ---- ublk (rbd_device_ublk.c) ---- */

/* Whether the kernel has it; else *why says what to do about it. */
bool ublk_is_there(const char **why);
/*
 * As mapper_run(), but the mapper makes the device, and its first message is the device's name,
 * which it has kept in the entry, and which the parent sends back.
 */
int ublk_mapper_run(struct cli *cli, struct device_entry *entry, struct device_options *options,
                    int channel);
/* The device is there, has no mapper, and somebody uses it. */
bool ublk_is_orphan(const struct device_entry *entry);
/* 0, then the mapper ends, if there is one; -EBUSY: it is in use, and `force` is false. */
int ublk_detach(const struct device_entry *entry, bool force);
/* Whatever is there of a mapper that has died. */
void ublk_remove(const struct device_entry *entry);

/* ---- NBD (rbd_device_nbd.c) ---- */

/* Whether the kernel has it, and what is needed is installed. */
bool nbd_is_there(void);
/* Starts a server and attaches a device; fills in device and pid. Exits with a message. */
void nbd_attach(struct cli *cli, struct device_entry *entry, const struct device_options *options,
                int lock);
/* 0, then the mapper ends; -EBUSY: it is mounted, and `force` is false. */
int nbd_detach(const struct device_entry *entry, bool force);
/* The same for a mapper that has died. */
void nbd_disconnect(const struct device_entry *entry);

#endif
