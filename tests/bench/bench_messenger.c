/*
 * What the messenger costs: two processes on this host, one session.
 *
 *     bench_messenger [--encrypted] [--seconds S] [--one-cpu]
 *
 * Rows: round trips of 64-byte messages at depth 1 and 64, and messages with 4 KiB and 4 MiB of
 * payload, one way, each answered by an empty message. CPU is user and system time of both
 * processes a message, divided by the messages sent in both directions.
 */
#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/env_real.h"

enum { BENCH_ECHO = 200, BENCH_SINK = 201, BENCH_CPU = 202, BENCH_ANSWER = 203 };

static const struct auth_secret bench_secret = {.len = 16, .bytes = "bench secret 16"};

static int entity_secret(void *ctx, const struct entity_name *name, struct auth_secret *secret,
                         char caps[AUTH_CAPS_TEXT_MAX])
{
    (void)ctx;
    (void)name;
    *secret = bench_secret;
    snprintf(caps, AUTH_CAPS_TEXT_MAX, "allow *");
    return 0;
}

static int credential(void *ctx, const struct entity_name *peer, struct auth_ticket *out)
{
    (void)ctx;
    (void)peer;
    memset(out, 0, sizeof *out);
    out->secret = bench_secret;
    return 0;
}

static struct auth_provider make_provider(const char *name)
{
    struct auth_provider provider = {.entity_secret = entity_secret, .credential = credential};
    if (entity_parse(name, &provider.self) < 0)
        abort();
    return provider;
}

static struct env *make_env(enum net_mode mode, const struct auth_provider *provider)
{
    struct env *env;
    struct env_real_options options = {.mode = mode};
    if (env_real_create(&options, &env) < 0)
        abort();
    env_real_set_auth(env, provider);
    return env;
}

static uint64_t cpu_ns(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * SEC_NS +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}

/* ---- Server ---- */

static void server_opened(void *ctx, struct net_session *session)
{
    (void)ctx;
    (void)session;
}

static void server_received(void *ctx, struct net_session *session, struct message *message)
{
    struct env *env = ctx;
    if (message->type == BENCH_ECHO) {
        net_send(env, session, message_ref(message));
        return;
    }
    struct message *answer = message_create(BENCH_ANSWER, 8);
    if (answer == NULL)
        abort();
    uint64_t cpu = message->type == BENCH_CPU ? cpu_ns() : 0;
    memcpy(answer->body, &cpu, sizeof cpu);
    net_send(env, session, answer);
}

static void server_closed(void *ctx, struct net_session *session, int error)
{
    (void)session;
    (void)error;
    env_real_stop(ctx);
}

static void serve(enum net_mode mode, int port_pipe)
{
    static const struct net_handlers handlers = {
        .opened = server_opened, .received = server_received, .closed = server_closed};
    struct auth_provider provider = make_provider("mon.bench");
    struct env *env = make_env(mode, &provider);
    struct net_address want = {.family = 4, .ip = {127, 0, 0, 1}}, bound;
    net_handlers_set(env, &handlers, env);
    if (net_listen(env, &want, &bound) < 0)
        abort();
    if (write(port_pipe, &bound, sizeof bound) != sizeof bound)
        abort();
    env_real_run(env);
    env_real_destroy(env);
}

/* ---- Client ---- */

struct client {
    struct env *env;
    struct net_session *session;
    struct message *message; /* Sent again and again. */
    uint64_t received;
    uint64_t answer;
    bool running;
};

static void client_opened(void *ctx, struct net_session *session)
{
    (void)ctx;
    (void)session;
}

static void client_received(void *ctx, struct net_session *session, struct message *message)
{
    struct client *c = ctx;
    c->received++;
    if (message->type == BENCH_ANSWER)
        memcpy(&c->answer, message->body, sizeof c->answer);
    if (c->running)
        net_send(c->env, session, message_ref(c->message));
}

static void client_closed(void *ctx, struct net_session *session, int error)
{
    (void)ctx;
    (void)session;
    fprintf(stderr, "session ended: %s\n", error_text(error));
    exit(1);
}

static struct message *make_message(uint16_t type, size_t body, size_t payload)
{
    struct message *m = message_create(type, body);
    if (m == NULL || (payload > 0 && buf_slice_alloc(payload, &m->payload) < 0))
        abort();
    if (payload > 0)
        memset(m->payload.data, 'x', payload);
    return m;
}

static uint64_t server_cpu_ns(struct client *c)
{
    uint64_t before = c->received;
    net_send(c->env, c->session, make_message(BENCH_CPU, 0, 0));
    while (c->received == before)
        env_real_turn(c->env, true);
    return c->answer;
}

static void run(struct client *c, const char *name, uint16_t type, size_t body, size_t payload,
                unsigned depth, double seconds)
{
    c->message = make_message(type, body, payload);
    uint64_t cpu = cpu_ns() + server_cpu_ns(c);
    uint64_t begin = env_now(c->env), first = c->received, sent_first = first;
    c->running = true;
    for (unsigned i = 0; i < depth; i++)
        net_send(c->env, c->session, message_ref(c->message));
    while (env_now(c->env) - begin < (uint64_t)(seconds * 1e9))
        env_real_turn(c->env, true);
    double elapsed = (double)(env_now(c->env) - begin) / 1e9;
    uint64_t done = c->received - first;
    c->running = false;
    while (c->received - sent_first < done + depth)
        env_real_turn(c->env, true);
    cpu = cpu_ns() + server_cpu_ns(c) - cpu;
    printf("%-24s depth %-3u %10.0f /s %9.2f us each %8.1f MB/s %8.0f ns CPU a message\n", name,
           depth, (double)done / elapsed, elapsed * 1e6 * depth / (double)done,
           (double)(done * payload) / elapsed / 1e6, (double)cpu / (double)(2 * (done + depth)));
    message_unref(c->message);
}

static void measure(enum net_mode mode, const struct net_address *to, double seconds)
{
    static const struct net_handlers handlers = {
        .opened = client_opened, .received = client_received, .closed = client_closed};
    struct auth_provider provider = make_provider("client.bench");
    struct client c = {.env = make_env(mode, &provider)};
    struct net_expect expect = {.name = {.type = ENTITY_MON}};
    net_handlers_set(c.env, &handlers, &c);
    if (net_open(c.env, to, &expect, NULL, &c.session) < 0)
        abort();
    run(&c, "echo 64 B", BENCH_ECHO, 64, 0, 1, seconds);
    run(&c, "echo 64 B", BENCH_ECHO, 64, 0, 64, seconds);
    run(&c, "send 4 KiB", BENCH_SINK, 128, 4096, 1, seconds);
    run(&c, "send 4 KiB", BENCH_SINK, 128, 4096, 64, seconds);
    run(&c, "send 4 MiB", BENCH_SINK, 128, 4 << 20, 4, seconds);
    env_real_destroy(c.env);
}

int main(int argc, char **argv)
{
    enum net_mode mode = NET_MODE_INTEGRITY;
    double seconds = 2;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--encrypted") == 0) {
            mode = NET_MODE_ENCRYPTED;
        } else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) {
            seconds = strtod(argv[++i], NULL);
        } else if (strcmp(argv[i], "--one-cpu") == 0) {
            cpu_set_t cpus;
            CPU_ZERO(&cpus);
            CPU_SET(0, &cpus);
            if (sched_setaffinity(0, sizeof cpus, &cpus) < 0)
                perror("sched_setaffinity");
        } else {
            fprintf(stderr, "usage: bench_messenger [--encrypted] [--seconds S] [--one-cpu]\n");
            return 22;
        }
    }
    int port[2];
    if (pipe(port) < 0)
        return errno;
    pid_t pid = fork();
    if (pid < 0)
        return errno;
    if (pid == 0) {
        serve(mode, port[1]);
        return 0;
    }
    struct net_address to;
    if (read(port[0], &to, sizeof to) != sizeof to)
        return EIO;
    measure(mode, &to, seconds);
    int status;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
}
