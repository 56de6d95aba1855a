/*
 * The option mon_host: where the monitors are.
 *
 *     10.0.0.1, 10.0.0.2:3301 [::1]:3300; mon3.example [v2:10.0.0.4:3300/0,v1:10.0.0.4:6789/0]
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "common/config.h"

enum { MON_PORT_DEFAULT = 3300, WORD_MAX = 300 };

struct collector {
    struct net_address *out;
    uint32_t max;
    uint32_t n;
    int unresolved; /* Why the first name that could not be resolved could not; 0: all were. */
    char *why;
};

static int add(struct collector *c, const struct net_address *address)
{
    for (uint32_t i = 0; i < c->n; i++) {
        if (net_address_equal(&c->out[i], address))
            return 0;
    }
    if (c->n == c->max) {
        snprintf(c->why, 256, "mon_host: more than %u addresses", c->max);
        return -E2BIG;
    }
    c->out[c->n++] = *address;
    return 0;
}

static int add_resolved(struct collector *c, const char *host, uint16_t port)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    int gai = getaddrinfo(host, NULL, &hints, &found);
    if (gai != 0) {
        if (c->unresolved == 0) {
            c->unresolved = gai == EAI_AGAIN ? -EAGAIN : -EINVAL;
            snprintf(c->why, 256, "mon_host: cannot resolve \"%.100s\": %s", host,
                     gai_strerror(gai));
        }
        return 0;
    }
    int rc = 0;
    for (const struct addrinfo *at = found; at != NULL && rc == 0; at = at->ai_next) {
        struct net_address address = {.port = port};
        if (at->ai_family == AF_INET) {
            struct sockaddr_in in;
            memcpy(&in, at->ai_addr, sizeof in);
            address.family = 4;
            memcpy(address.ip, &in.sin_addr, 4);
        } else if (at->ai_family == AF_INET6) {
            struct sockaddr_in6 in6;
            memcpy(&in6, at->ai_addr, sizeof in6);
            address.family = 6;
            memcpy(address.ip, &in6.sin6_addr, 16);
        } else {
            continue;
        }
        rc = add(c, &address);
    }
    freeaddrinfo(found);
    return rc;
}

static int parse_port(const char *text, uint16_t *port)
{
    uint32_t value = 0;
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 5 || text[digits] != '\0')
        return -EINVAL;
    for (; *text != '\0'; text++)
        value = value * 10 + (uint32_t)(*text - '0');
    *port = (uint16_t)value;
    return value > 0 && value <= UINT16_MAX ? 0 : -EINVAL;
}

/* Cuts ":PORT" and "/NONCE" off a word; host is what is left, without brackets. */
static int split_word(char *word, char **host, uint16_t *port)
{
    *port = MON_PORT_DEFAULT;
    *strchrnul(word, '/') = '\0';
    *host = word;
    struct in6_addr plain;
    if (inet_pton(AF_INET6, word, &plain) == 1)
        return 0; /* Without brackets there can be no port: all colons are the address's. */
    char *after = word;
    if (*word == '[') {
        *host = word + 1;
        after = strchr(word, ']');
        if (after == NULL)
            return -EINVAL;
        *after++ = '\0';
        if (*after != ':' && *after != '\0')
            return -EINVAL;
    }
    char *colon = strchr(after, ':');
    if (colon != NULL) {
        *colon = '\0';
        return parse_port(colon + 1, port);
    }
    return 0;
}

static int add_word(struct collector *c, const char *text, size_t len)
{
    char word[WORD_MAX];
    char *at = word;
    if (len >= sizeof word)
        goto invalid;
    memcpy(word, text, len);
    word[len] = '\0';
    if (strncmp(word, "v1:", 3) == 0)
        return 0; /* Ceph's old protocol, beside which a v2 address stands. */
    if (strncmp(word, "v2:", 3) == 0)
        at += 3;
    char *host;
    uint16_t port;
    if (split_word(at, &host, &port) != 0 || host[0] == '\0')
        goto invalid;
    struct net_address address = {.port = port};
    if (inet_pton(AF_INET, host, address.ip) == 1) {
        address.family = 4;
        return add(c, &address);
    }
    if (inet_pton(AF_INET6, host, address.ip) == 1) {
        address.family = 6;
        return add(c, &address);
    }
    if (strchr(host, ':') != NULL)
        goto invalid;
    return add_resolved(c, host, port);
invalid:
    snprintf(c->why, 256, "mon_host: \"%.*s\" is not an address", (int)(len < 100 ? len : 100),
             text);
    return -EINVAL;
}

/* Whether a '[' opens a group of addresses, rather than one IPv6 address. */
static bool opens_group(const char *at)
{
    return *at == '[' && (strncmp(at + 1, "v1:", 3) == 0 || strncmp(at + 1, "v2:", 3) == 0);
}

int config_mon_host(struct config *config, struct net_address *out, uint32_t max, uint32_t *n,
                    char why[256])
{
    static const char separators[] = ", ;\t";
    struct collector c = {.out = out, .max = max, .why = why};
    bool in_group = false;
    const char *at = config_get(config, "mon_host");
    why[0] = '\0';
    *n = 0;
    while (at != NULL && *at != '\0') {
        if (strchr(separators, *at) != NULL) {
            at++;
            continue;
        }
        if (opens_group(at) && !in_group) {
            in_group = true;
            at++;
        }
        size_t len = strcspn(at, separators);
        bool closes = in_group && len > 0 && at[len - 1] == ']';
        /* "[v2:[::1]:3300/0]" ends in ']' after its nonce or port, never right after an address. */
        int rc = add_word(&c, at, closes ? len - 1 : len);
        if (rc != 0)
            return rc;
        if (closes)
            in_group = false;
        at += len;
    }
    if (in_group) {
        snprintf(why, 256, "mon_host: a '[' is not closed");
        return -EINVAL;
    }
    if (c.n == 0 && c.unresolved != 0)
        return c.unresolved;
    if (c.n == 0) {
        snprintf(why, 256,
                 "mon_host is not set: name the monitors' addresses in the configuration");
        return -ENOENT;
    }
    *n = c.n;
    return 0;
}
