/*
 * For tests of the messenger: real worlds in one process and one thread, and a proxy between them
 * that spoils what passes through it.
 */
#ifndef LIMPET_TESTS_UNIT_COMMON_NET_TEST_H
#define LIMPET_TESTS_UNIT_COMMON_NET_TEST_H

#include <stdbool.h>

#include "common/env_real.h"
#include "tests/lib/test.h"

enum { NET_TEST_ECHO = 201, NET_TEST_DATA = 202 };

/* One process. It counts what happens to it, and does more where the test sets a function. */
struct side {
    struct env *env;
    struct auth_provider provider;
    struct auth_secret secret;
    struct auth_secret knows; /* Of every entity: what a monitor's database says. */
    struct net_address address;
    bool no_credential;
    struct net_session *session; /* Opened last, or the outbound one. */
    unsigned opened, received, disconnected, drained, closed;
    bool hung_up;    /* The last one that was disconnected. */
    int error;       /* Of the last closed(). */
    uint64_t digest; /* Over type, body and payload of all that was received, in order. */
    uint64_t payload_bytes;
    void (*on_opened)(struct side *side, struct net_session *session);
    void (*on_received)(struct side *side, struct net_session *session, struct message *message);
    struct buf_slice (*on_place)(struct side *side, const struct net_arrival *arrival);
    void (*on_disconnected)(struct side *side, struct net_session *session);
    void (*on_drained)(struct side *side, struct net_session *session);
    void (*on_closed)(struct side *side, struct net_session *session, int error);
    void *test;
};

/* A monitor that listens, and a client. options may be NULL. */
void side_server(struct side *side, const char *name, const struct env_real_options *options);
void side_client(struct side *side, const char *name, const struct env_real_options *options);
void side_destroy(struct side *side);
/* Opens a session to an address, expecting any monitor. */
void side_open(struct side *side, const struct net_address *to);
/* The same, and waits until both sides have it open. */
void side_connect(struct side *client, struct side *server);

/* Sends a message whose body and payload follow from `number`. */
void side_send(struct side *side, uint16_t type, unsigned number, size_t body_len,
               size_t payload_len);
void side_digest(uint64_t *digest, const struct message *message);

/* Turns the loops of all sides once; waits a little when nothing happens. */
void sides_turn(struct side *const *sides, size_t n);

/* Until the condition holds; fails the test when that takes longer than a test may. */
#define SIDES_UNTIL(condition, ...)                                                                \
    do {                                                                                           \
        struct side *const until_sides[] = {__VA_ARGS__};                                          \
        uint64_t until_ns = uv_hrtime() + 60 * SEC_NS;                                             \
        while (!(condition)) {                                                                     \
            sides_turn(until_sides, sizeof until_sides / sizeof until_sides[0]);                   \
            if (uv_hrtime() > until_ns)                                                            \
                fail_msg("never happened: %s", #condition);                                        \
        }                                                                                          \
    } while (0)

/* For a while: what must not happen would happen. */
void sides_for(unsigned milliseconds, struct side *const *sides, size_t n);

/* A TCP proxy, in a thread. */
struct proxy;
struct proxy *proxy_create(const struct net_address *target, struct net_address *address);
void proxy_destroy(struct proxy *proxy);
void proxy_target(struct proxy *proxy, const struct net_address *target);
/* From now on connections end, or are damaged, after about so many bytes; 0: never. */
void proxy_faults(struct proxy *proxy, size_t about_bytes);
/* Ends all present connections. */
void proxy_cut(struct proxy *proxy);
unsigned proxy_faults_made(struct proxy *proxy);

/* A plain connection, for strangers. Blocking, with a time-out of a second. */
int stranger_connect(const struct net_address *to);

#endif
