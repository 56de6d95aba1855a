/*
 * Preloaded into a client, so that it dies at each step of what it does: after die_after(n) the
 * process ends at once when it is about to send for the n-th time. All it ever knew is lost, as
 * after a power cut; what it sent before is under way.
 */
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long left = -1;

__attribute__((visibility("default"))) void die_after(long sends);
void die_after(long sends)
{
    atomic_store(&left, sends);
}

static void count(int fd)
{
    struct stat stat;
    if (atomic_load(&left) < 0 || fstat(fd, &stat) != 0 || !S_ISSOCK(stat.st_mode))
        return;
    if (atomic_fetch_sub(&left, 1) == 1)
        _exit(77);
}

__attribute__((visibility("default"))) ssize_t write(int fd, const void *data, size_t len)
{
    static ssize_t (*real)(int, const void *, size_t);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "write");
    count(fd);
    return real(fd, data, len);
}

__attribute__((visibility("default"))) ssize_t writev(int fd, const struct iovec *iov, int n)
{
    static ssize_t (*real)(int, const struct iovec *, int);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "writev");
    count(fd);
    return real(fd, iov, n);
}

__attribute__((visibility("default"))) ssize_t sendmsg(int fd, const struct msghdr *message,
                                                       int flags)
{
    static ssize_t (*real)(int, const struct msghdr *, int);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "sendmsg");
    count(fd);
    return real(fd, message, flags);
}
