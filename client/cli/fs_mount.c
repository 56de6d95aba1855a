/* limpet fs mount: the process that serves a mounted file system. */
#define FUSE_USE_VERSION 35
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/cli/fs.h"

enum { OPTIONS_MAX = 1024 };

#define MEMORY_MAX (UINT64_C(1) << 40)

static void check_folder(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        fail(errno, "%s: %s", path, error_phrase(errno));
    if (!S_ISDIR(st.st_mode))
        fail(ENOTDIR, "%s: %s", path, error_phrase(ENOTDIR));
}

static void collect_options(const struct cli *cli, const struct fs_spec *spec,
                            char out[OPTIONS_MAX])
{
    size_t at =
        (size_t)snprintf(out, OPTIONS_MAX, "fsname=%s/%s,subtype=limpet,default_permissions%s",
                         spec->pool, spec->name, geteuid() == 0 ? ",allow_other,dev,suid" : "");
    for (int i = 0; i < cli->n_values; i++) {
        if (strcmp(cli->values[i].option->name, "options") != 0)
            continue;
        int n = snprintf(out + at, OPTIONS_MAX - at, ",%s", cli->values[i].text);
        if (n < 0 || (size_t)n >= OPTIONS_MAX - at)
            fail(E2BIG, "mount failed: too many options");
        at += (size_t)n;
    }
    if (cli_has(cli, "read-only") && at < OPTIONS_MAX - 4)
        strcpy(out + at, ",ro");
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
    char options[OPTIONS_MAX], path[4096];
    fs_spec_parse(cli->words[0], &spec);
    check_folder(cli->words[1]);
    if (realpath(cli->words[1], path) == NULL)
        fail(errno, "%s: %s", cli->words[1], error_phrase(errno));
    collect_options(cli, &spec, options);
    uint64_t memory = cli_number(cli, "memory", LIMPET_FS_MEMORY, LIMPET_FS_MEMORY_MIN, MEMORY_MAX);
    bool foreground = cli_has(cli, "foreground");
    int ready = foreground ? -1 : become_server();
    struct limpet_fs *fs = fs_spec_open(cli, &spec, &pool);
    int rc = limpet_fs_memory(fs, memory);
    if (rc != 0)
        fail(-rc, "mount failed: %s", error_phrase(-rc));
    struct fs_recovery *recovery = fs_recovery_begin(cli, &spec, memory, fs, pool);
    if (recovery == NULL)
        fail(ENOMEM, "mount failed: %s", error_phrase(ENOMEM));
    struct fuse_session *session =
        fs_fuse_mount(fs, recovery, path, options, !cli_has(cli, "no-names"));
    fuse_set_signal_handlers(session);
    fs_umount_expect(path);
    if (ready >= 0)
        leave_terminal(ready);
    fs_fuse_serve(session, path, !cli_has(cli, "no-follow"), !cli_has(cli, "no-io-uring"));
    fs_recovery_end(recovery);
    fs_fuse_end();
    fuse_remove_signal_handlers(session);
    fuse_session_destroy(session);
    return 0;
}
