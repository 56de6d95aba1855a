#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/messenger_private.h"

/*
 * A peer whose machine vanished is noticed by the kernel: by keepalive probes when nothing is under
 * way, else by the limit on unacknowledged data. The latter also ends a connection whose receiver
 * takes nothing for so long; the session survives that, so it costs only a new connection.
 */
enum { KEEPALIVE_IDLE_S = 5, KEEPALIVE_INTERVAL_S = 2, KEEPALIVE_PROBES = 3 };
enum { USER_TIMEOUT_MS = 20000 };

socklen_t socket_address(const struct net_address *address, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof *out);
    if (address->family == 4) {
        struct sockaddr_in *in = (struct sockaddr_in *)out;
        in->sin_family = AF_INET;
        in->sin_port = htons(address->port);
        memcpy(&in->sin_addr, address->ip, 4);
        return sizeof *in;
    }
    assert(address->family == 6);
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(address->port);
    memcpy(&in6->sin6_addr, address->ip, 16);
    return sizeof *in6;
}

void socket_address_read(const struct sockaddr_storage *from, struct net_address *out)
{
    memset(out, 0, sizeof *out);
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)from;
        out->family = 4;
        out->port = ntohs(in->sin_port);
        memcpy(out->ip, &in->sin_addr, 4);
    } else if (from->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)from;
        out->family = 6;
        out->port = ntohs(in6->sin6_port);
        memcpy(out->ip, &in6->sin6_addr, 16);
    }
}

int messenger_local_address(const struct net_address *to, struct net_address *out)
{
    struct sockaddr_storage peer, local = {0};
    socklen_t len = socket_address(to, &peer);
    int fd = socket(peer.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int rc = connect(fd, (const struct sockaddr *)&peer, len) == 0 ? 0 : -errno;
    len = sizeof local;
    if (rc == 0 && getsockname(fd, (struct sockaddr *)&local, &len) != 0)
        rc = -errno;
    close(fd);
    if (rc == 0)
        socket_address_read(&local, out);
    return rc;
}

int socket_open(const struct net_address *address)
{
    int family = address->family == 4 ? AF_INET : AF_INET6;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

/*
 * Failures are harmless: the connection works without any of these. Buffer sizes are left to the
 * kernel, which grows them with what the connection carries, further than setsockopt() may.
 */
void socket_tune(int fd)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S},
        {IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S},
        {IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS},
    };
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        (void)setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
}

void socket_forget(int fd)
{
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
}

bool socket_is_own_peer(int fd)
{
    struct sockaddr_storage here = {0}, there = {0};
    socklen_t here_len = sizeof here, there_len = sizeof there;
    if (getsockname(fd, (struct sockaddr *)&here, &here_len) < 0 ||
        getpeername(fd, (struct sockaddr *)&there, &there_len) < 0)
        return false;
    struct net_address a, b;
    socket_address_read(&here, &a);
    socket_address_read(&there, &b);
    return net_address_equal(&a, &b);
}

/*
 * A window that is closed was closed by the peer, and how often the kernel asks whether it has
 * opened is none of our business: after some time that is rarer than we would like to hear of it.
 */
uint64_t socket_silent_ns(int fd)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
        return 0;
    int unsent = 0;
    bool closed = info.tcpi_unacked == 0 && ioctl(fd, SIOCOUTQNSD, &unsent) == 0 && unsent > 0;
    uint32_t data_ms = info.tcpi_last_data_recv, ack_ms = info.tcpi_last_ack_recv;
    return closed ? 0 : (data_ms < ack_ms ? data_ms : ack_ms) * MSEC_NS;
}
