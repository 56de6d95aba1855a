/* limpet fs mount: the process that serves a mounted file system. */
#define FUSE_USE_VERSION 35
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/cli/fs.h"

enum { OPTIONS_MAX = 4096, READ_MIN = 4096 };

#define MEMORY_MAX (UINT64_C(1) << 40)

static void check_folder(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        fail(errno, "%s: %s", path, error_phrase(errno));
    if (!S_ISDIR(st.st_mode))
        fail(ENOTDIR, "%s: %s", path, error_phrase(ENOTDIR));
}

/*
 * Of mount(8), fstab(5) and other file systems: what is so anyway, or is for those who call mount
 * and not for the file system. Access times are never changed by reading, so it does not matter
 * how.
 */
static bool changes_nothing(const char *option)
{
    static const char *const words[] = {
        "defaults",   "auto",        "noauto",   "user",       "users",
        "nouser",     "owner",       "group",    "nofail",     "_netdev",
        "silent",     "loud",        "relatime", "diratime",   "acl",
        "norelatime", "strictatime", "lazytime", "nolazytime", "nodiratime",
        "posixacl",   "noiversion",  "nomand",   "user_xattr", "nostrictatime"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(option, words[i]) == 0)
            return true;
    }
    return strncmp(option, "x-", 2) == 0 || strncmp(option, "comment=", 8) == 0;
}

struct mount_options {
    char *text;        /* As libfuse takes them: commas between, and escaped in them. */
    unsigned max_read; /* 0: as the kernel wants. */
};

static void add_option(struct mount_options *out, const char *option)
{
    static const char *const reads[] = {"max_read=", "rsize="};
    for (size_t i = 0; i < sizeof reads / sizeof *reads; i++) {
        size_t len = strlen(reads[i]);
        if (strncmp(option, reads[i], len) != 0)
            continue;
        char *end;
        errno = 0;
        unsigned long bytes = strtoul(option + len, &end, 10);
        if (errno != 0 || *end != 0 || end == option + len || option[len] == '-' ||
            bytes < READ_MIN || bytes > INT_MAX)
            fail(EINVAL, "mount failed: '%s': the largest read in bytes, %d or more", option,
                 READ_MIN);
        out->max_read = (unsigned)bytes;
        return;
    }
    if (!changes_nothing(option) && fuse_opt_add_opt_escaped(&out->text, option) != 0)
        fail(ENOMEM, "mount failed: %s", error_phrase(ENOMEM));
}

/* Of one -o: a backslash makes the next character part of an option. */
static void add_options(struct mount_options *out, const char *text)
{
    char option[OPTIONS_MAX];
    size_t len = 0;
    for (;; text++) {
        if (*text == '\\' && text[1] != 0)
            text++;
        else if (*text == ',' || *text == 0) {
            option[len] = 0;
            if (len > 0)
                add_option(out, option);
            len = 0;
            if (*text == 0)
                return;
            continue;
        }
        if (len == sizeof option - 1)
            fail(E2BIG, "mount failed: an option of more than %d bytes", OPTIONS_MAX - 1);
        option[len++] = *text;
    }
}

/* The source is named as it was here, so that `mount -a` finds what stands in fstab. */
static struct mount_options collect_options(const struct cli *cli)
{
    struct mount_options out = {.text = NULL};
    char option[OPTIONS_MAX];
    snprintf(option, sizeof option, "fsname=%s", cli->words[0]);
    add_option(&out, option);
    add_options(&out, "subtype=limpet,default_permissions");
    if (geteuid() == 0)
        add_options(&out, "allow_other,dev,suid");
    for (int i = 0; i < cli->n_values; i++) {
        if (strcmp(cli->values[i].option->name, "options") == 0)
            add_options(&out, cli->values[i].text);
    }
    if (cli_has(cli, "read-only"))
        add_options(&out, "ro");
    if (out.max_read != 0) {
        snprintf(option, sizeof option, "max_read=%u", out.max_read);
        if (fuse_opt_add_opt(&out.text, option) != 0)
            fail(ENOMEM, "mount failed: %s", error_phrase(ENOMEM));
    }
    return out;
}

/* The parent waits for one byte: it is mounted. Otherwise it ends as this process does. */
static int become_server(void)
{
    int pipes[2];
    char ready;
    int status = 0;
    if (pipe2(pipes, O_CLOEXEC) != 0)
        fail(errno, "mount failed: %s", error_phrase(errno));
    pid_t pid = fork();
    if (pid < 0)
        fail(errno, "mount failed: %s", error_phrase(errno));
    if (pid == 0) {
        close(pipes[0]);
        setsid();
        return pipes[1];
    }
    close(pipes[1]);
    if (read(pipes[0], &ready, 1) == 1)
        exit(0);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    exit(WIFEXITED(status) ? WEXITSTATUS(status) : EIO);
}

static void leave_terminal(int ready)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        close(null);
    }
    if (chdir("/") != 0 || write(ready, "", 1) != 1)
        complain(EIO, "mount: nobody waits for it any more");
    close(ready);
}

int fs_mount(struct cli *cli)
{
    struct fs_spec spec;
    struct limpet_pool *pool;
    char path[4096];
    fs_spec_parse(cli->words[0], &spec);
    fs_abort_if_dead(cli->words[1]);
    check_folder(cli->words[1]);
    if (realpath(cli->words[1], path) == NULL)
        fail(errno, "%s: %s", cli->words[1], error_phrase(errno));
    struct mount_options options = collect_options(cli);
    uint64_t memory = cli_number(cli, "memory", LIMPET_FS_MEMORY, LIMPET_FS_MEMORY_MIN, MEMORY_MAX);
    bool foreground = cli_has(cli, "foreground");
    int ready = foreground ? -1 : become_server();
    fs_abort_begin();
    struct limpet_fs *fs = fs_spec_open(cli, &spec, &pool);
    int rc = limpet_fs_memory(fs, memory);
    if (rc != 0)
        fail(-rc, "mount failed: %s", error_phrase(-rc));
    struct fs_recovery *recovery = fs_recovery_begin(cli, &spec, memory, fs, pool);
    if (recovery == NULL)
        fail(ENOMEM, "mount failed: %s", error_phrase(ENOMEM));
    struct fuse_session *session = fs_fuse_mount(fs, recovery, path, options.text, options.max_read,
                                                 !cli_has(cli, "no-names"));
    free(options.text);
    fuse_set_signal_handlers(session);
    fs_umount_expect(path);
    fs_abort_mounted(path);
    if (ready >= 0)
        leave_terminal(ready);
    fs_fuse_serve(session, path, !cli_has(cli, "no-follow"), !cli_has(cli, "no-io-uring"));
    int error = -fs_recovery_end(recovery);
    fs_umount_tell(error);
    fs_fuse_end();
    fuse_remove_signal_handlers(session);
    fuse_session_destroy(session);
    return error != 0 ? complain(error, "mount: something that was not synced is lost: %s",
                                 error_phrase(error))
                      : 0;
}
