/* Sockets that listen. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/nbd/server.h"

enum { BACKLOG = 128, PASSED_FIRST = 3 };

int nbd_listen_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, BACKLOG) != 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

static int listen_at(const struct addrinfo *address)
{
    const int yes = 1;
    int fd = socket(address->ai_family, address->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC,
                    address->ai_protocol);
    if (fd < 0)
        return -errno;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    /* The same port for both versions of IP. */
    if (address->ai_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
    if (bind(fd, address->ai_addr, address->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

int nbd_listen_tcp(const char *host, uint16_t port, int fds[NBD_LISTENERS_MAX], const char **why)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list, *address;
    char service[8];
    int n = 0, error = 0;
    snprintf(service, sizeof service, "%u", (unsigned)port);
    int rc = getaddrinfo(host, service, &hints, &list);
    if (rc != 0) {
        *why = gai_strerror(rc);
        return -EADDRNOTAVAIL;
    }
    for (address = list; address != NULL && n < NBD_LISTENERS_MAX && error == 0;
         address = address->ai_next) {
        int fd = listen_at(address);
        /* A machine may know an address that it has not got. */
        if (fd >= 0)
            fds[n++] = fd;
        else if (fd != -EAFNOSUPPORT && fd != -EADDRNOTAVAIL)
            error = fd;
        else if (n == 0 && address->ai_next == NULL)
            error = fd;
    }
    freeaddrinfo(list);
    if (error == 0)
        return n;
    while (n > 0)
        close(fds[--n]);
    *why = strerror(-error);
    return error;
}

int nbd_listen_passed(int fds[NBD_LISTENERS_MAX])
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    if (pid == NULL || count == NULL || strtol(pid, NULL, 10) != getpid())
        return 0;
    long n = strtol(count, NULL, 10);
    n = n < 0 ? 0 : n < NBD_LISTENERS_MAX ? n : NBD_LISTENERS_MAX;
    for (int i = 0; i < n; i++) {
        fds[i] = PASSED_FIRST + i;
        int flags = fcntl(fds[i], F_GETFL);
        if (flags < 0)
            return -errno;
        (void)fcntl(fds[i], F_SETFL, flags | O_NONBLOCK);
        (void)fcntl(fds[i], F_SETFD, FD_CLOEXEC);
    }
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    return (int)n;
}
