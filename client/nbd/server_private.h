/*
 * The inside of the NBD server.
 *
 *   server.c   the loop: who is ready, who may go on, the end
 *   client.c   a client: receiving, sending, its end
 *   request.c  a request on the image, and its result
 *   worker.c   threads for what waits: block status, sizes
 *   tls.c      TLS
 *   listen.c   sockets that listen
 *   proto.c    what bytes mean
 *
 * Invariants:
 *
 *  N1  The server's thread owns everything in struct nbd_server and its clients, but `elsewhere`.
 *      Whoever ends a request on another thread puts it there, and wakes the server's.
 *  N2  Nothing blocks the server's thread but limpet_cluster_poll(). What the library does at once
 *      or asynchronously it does; what waits goes to a worker.
 *  N3  A request belongs to one list at a time: under way (none), `done`, a client's `out`; it is
 *      counted in its client's `requests` and `bytes` from when its head was read until its answer
 *      was taken by the socket, or its client is gone; and in the server's `running`,
 *      `running_bytes` and `running_pieces` from when it was submitted until it is in `done`.
 *  N4  A client is freed when its socket is closed and its `requests` is 0. Until then memory of
 *      its requests stays: the library may be writing there.
 *  N5  A client from which nothing may be taken now (limits) is `stalled`, and its socket is not
 *      read: so the peer's window closes. It is looked at again in each round, as requests may have
 *      ended or answers left. Without a request of its own under way or unsent a client is never
 *      stalled by its own limits; and the server's let one pass when nothing is running. So
 *      something always ends.
 *  N6  Answers leave a client in the order in which requests ended; answers of the negotiation
 *      (`talk`) are before all of them.
 */
#ifndef LIMPET_CLIENT_NBD_SERVER_PRIVATE_H
#define LIMPET_CLIENT_NBD_SERVER_PRIVATE_H

#include <poll.h>
#include <pthread.h>
#include <sys/queue.h>

#include "client/nbd/server.h"

enum {
    INPUT_MAX = 65536,            /* Of what has come from a client and was not understood yet. */
    CLIENT_BYTES_MAX = 32 << 20,  /* Of a client's requests; a single one may have more. */
    RUNNING_BYTES_MAX = 64 << 20, /* Of requests under way, of all clients. */
    RUNNING_PIECES_MAX = 768,     /* Of these: what objects are asked. */
    PIECES_MAX = 64,              /* Of one request, at a time; the library's IMAGE_PIECES_MAX. */
    STATUS_MAX = 8,               /* Requests about block status of a client, at a time. */
    SEND_VECTORS = 64,
    TLS_RECORD = 16384,
    RECORDS_MAX = 64, /* Of TLS, that are taken of a client before others have their turn. */
    PASSES_MAX = 16,  /* Of a round, before the descriptors are looked at. */
    WORKERS = 4,
    PATIENCE_MS = 1000,    /* At the end, for clients that do not take their answers. */
    COMPLAINTS_MAX = 1000, /* Lines about requests that have failed. */
};

struct nbd_client;

struct nbd_request {
    struct nbd_client *client;
    struct nbd_server *server;
    struct nbd_request_line line;
    ssize_t result;
    uint64_t cost;   /* Bytes in the limits. */
    uint8_t *data;   /* What is written, was read, or extents. */
    size_t data_len; /* That is sent back. */
    bool refused;    /* Without asking the image: `error` is the answer. */
    uint32_t error;
    uint8_t head[NBD_REPLY_HEAD_MAX];
    size_t head_len;
    STAILQ_ENTRY(nbd_request) link;
};
STAILQ_HEAD(nbd_request_list, nbd_request);

struct nbd_tls_session; /* Of one client. */

struct nbd_client {
    struct nbd_server *server;
    int fd;        /* -1: it is closed. */
    unsigned slot; /* Of the server's clients. */
    struct nbd_peer peer;
    struct nbd_export export; /* As it was when it connected. */
    uint64_t number;          /* In the order of their coming. */
    bool waits_for_size;
    bool ending;   /* Nothing more is read; it is closed when all answers have left. */
    bool stalled;  /* N5 */
    bool writable; /* As far as is known. */
    bool queued;   /* In the server's `dirty`. */

    /* What has come. */
    uint8_t *input;
    size_t from, upto;           /* Not yet understood. */
    struct nbd_request *writing; /* Whose payload is being received, */
    size_t written;              /* so much of it was. */
    size_t skip;                 /* Bytes of a payload that nobody wants, of */
    struct nbd_request *refusing;

    /* What is to be sent. */
    uint8_t talk_data[2 * NBD_TALK_MAX];
    struct nbd_talk talk;
    size_t talk_sent;
    struct nbd_request_list out;
    size_t out_sent; /* Bytes of the first. */

    /* Limits. */
    unsigned requests, statuses;
    unsigned answered; /* Of the requests: in `out`. */
    uint64_t bytes;

    struct nbd_tls_session *tls; /* NULL: in clear. */
    STAILQ_ENTRY(nbd_client) dirty_link;
};

/* What a worker does: run() there, ended() on the server's thread. */
struct nbd_job {
    void (*run)(struct nbd_job *job);
    void (*ended)(struct nbd_job *job);
    STAILQ_ENTRY(nbd_job) link;
};
STAILQ_HEAD(nbd_job_list, nbd_job);

struct nbd_workers {
    pthread_mutex_t lock;
    pthread_cond_t more;
    pthread_t threads[WORKERS];
    unsigned n, idle, queued;
    bool stopping;
    struct nbd_job_list jobs, ended;
    unsigned under_way; /* Of the server's thread. */
};

/* Descriptors in the array of the poll. */
enum { FD_SIGNALS, FD_WAKE, FD_LISTENERS, FD_CLIENTS = FD_LISTENERS + NBD_LISTENERS_MAX };

struct nbd_server {
    struct nbd_server_options options;
    struct nbd_export export;
    pthread_t thread;
    struct pollfd fds[FD_CLIENTS + NBD_CLIENTS_MAX];
    struct nbd_client *clients[NBD_CLIENTS_MAX];
    unsigned n_clients; /* Slots in use: without gaps. */
    unsigned n_listeners;
    bool paused;       /* Nobody else can be let in now. */
    unsigned n_closed; /* Of these: they wait for the end of their requests. */
    unsigned n_stalled;
    uint64_t numbers;
    unsigned turn; /* Whose turn it is to go on first. */
    unsigned running;
    uint64_t running_bytes;
    unsigned running_pieces;
    uint64_t unit; /* Bytes of the image that are in one object, one after the other. */
    unsigned complaints;
    struct nbd_request_list done;
    STAILQ_HEAD(nbd_client_list, nbd_client) dirty; /* Clients with something to send. */
    bool ending;
    int64_t end_ms; /* Until when clients may take their answers. */

    /* N1 */
    pthread_mutex_t lock;
    struct nbd_request_list elsewhere;
    struct nbd_workers workers;

    /* Reading the size for those who have come. */
    struct nbd_job refresh;
    bool refreshing;
    uint64_t refresh_upto; /* For clients up to this number. */
    int refresh_error;
};

/* ---- server.c ---- */

void server_complain(struct nbd_server *server, const char *what, ssize_t error);
/* The client has something to send, or may have ended. */
void server_look_at(struct nbd_client *client);
/* What is polled for it. */
void server_poll_for(struct nbd_client *client, short events);
/* From another thread. */
void server_wake(struct nbd_server *server);

/* ---- client.c ---- */

/* Takes over the socket, also when it fails. */
int client_create(struct nbd_server *server, int fd, struct nbd_client **out) MUST_CHECK;
/* Of one that is closed and has no requests. */
void client_destroy(struct nbd_client *client);
/* Its size is known: the negotiation begins. */
void client_begin(struct nbd_client *client, uint64_t size);
/* The socket has something to read, or to tell. */
void client_receive(struct nbd_client *client);
/* What was received, as far as the limits let it. */
void client_go_on(struct nbd_client *client);
/* One that was stalled: the same, and what has come meanwhile. */
void client_resume(struct nbd_client *client);
/* What there is to send, as far as the socket takes it. */
void client_send(struct nbd_client *client);
/* A request of it has its answer, which is to be sent; the client takes it over. */
void client_answer(struct nbd_client *client, struct nbd_request *request);
/* Nothing more is read; closed when all answers have left. */
void client_end(struct nbd_client *client);
/* At once. Its memory stays until its requests are over and the server looks. */
void client_close(struct nbd_client *client);
/* Which events the socket is polled for. */
void client_poll(struct nbd_client *client);

/* ---- request.c ---- */

/* With memory for a payload; NULL: there is none. */
struct nbd_request *request_create(struct nbd_client *client, const struct nbd_request_line *line,
                                   size_t payload);
void request_destroy(struct nbd_request *request);
/* Whether the limits let it begin; one that is not accepted has no payload, and does not run. */
bool request_may_begin(const struct nbd_client *client, const struct nbd_request_line *line,
                       bool accepted);
/* Whole, a write with its payload: goes to the image. */
void request_submit(struct nbd_request *request);
/* It is in `done`; `error` is the answer. */
void request_refuse(struct nbd_request *request);
/* Of the server's thread: what has ended on others joins `done`. */
void requests_gather(struct nbd_server *server);
/* The answer's head; complains. */
void request_answer(struct nbd_request *request);

/* ---- worker.c ---- */

int workers_init(struct nbd_workers *workers) MUST_CHECK;
/* All jobs are over. */
void workers_fini(struct nbd_workers *workers);
/* -EAGAIN: there is no thread for it. */
int workers_run(struct nbd_server *server, struct nbd_job *job) MUST_CHECK;
/* ended() of those that are over. */
void workers_gather(struct nbd_server *server);

/* ---- tls.c ---- */

int tls_begin(struct nbd_tls *tls, int fd, struct nbd_tls_session **out) MUST_CHECK;
void tls_end(struct nbd_tls_session *session);
/* 0: done; -EAGAIN: it waits for the socket (tls_wants_write()); another error: it has failed. */
int tls_handshake(struct nbd_tls_session *session) MUST_CHECK;
bool tls_wants_write(const struct nbd_tls_session *session);
/* As recv() and send(), but negative errnos. A send that was refused is repeated as it was. */
ssize_t tls_receive(struct nbd_tls_session *session, void *data, size_t len) MUST_CHECK;
/* Something was received, and not taken yet. */
bool tls_has_more(const struct nbd_tls_session *session);
ssize_t tls_send(struct nbd_tls_session *session, const void *data, size_t len) MUST_CHECK;
/* Memory of TLS_RECORD bytes in which what is sent is gathered. */
struct tls_stage {
    uint8_t data[TLS_RECORD];
    size_t len, sent;
};
struct tls_stage *tls_stage(struct nbd_tls_session *session);

#endif
