/*
 * Inside the messenger: its structs, and what its files call of each other.
 *
 *     messenger.c             the calls of its user, and what happens at a turn's end
 *     messenger_session.c     sessions: connecting again, resuming, ending
 *     messenger_connection.c  one TCP connection: handshake, life and death
 *     messenger_receive.c     bytes in: frames, back-pressure
 *     messenger_send.c        bytes out: one system call a connection a turn
 *     messenger_listen.c      listeners
 *     messenger_socket.c      socket options and addresses
 *     messenger_memory.c      memory of received payloads, and its limit
 */
#ifndef LIMPET_COMMON_MESSENGER_PRIVATE_H
#define LIMPET_COMMON_MESSENGER_PRIVATE_H

#include <bsd/sys/queue.h>
#include <sys/socket.h>
#include <uthash.h>

#include "common/auth.h"
#include "common/frame_reader.h"
#include "common/messenger.h"
#include "common/session.h"

enum {
    /* Connections whose peer has not proven who it is. The oldest makes room for one more. */
    MESSENGER_UNPROVEN_MAX = 256,
    MESSENGER_INBOUND_MAX = 65536, /* Sessions that others opened. */
    MESSENGER_BATCH_PIECES = 256,
    MESSENGER_BATCH_HEADS = 64 * 1024,       /* Bytes of headers and bodies of a batch. */
    MESSENGER_BATCH_BYTES = 4 * 1024 * 1024, /* And of everything, but for the last message. */
    MESSENGER_READ_BYTES = 4 * 1024 * 1024,  /* From one connection in one turn ... */
    MESSENGER_READ_CALLS = 8,                /* ... and in how many system calls. */
    MESSENGER_SPARE_MAX = 4,                 /* Receive buffers and batches kept for reuse. */
    MESSENGER_ACCEPTS = 64,                  /* In one turn. */
    /* Connections in a row that carried damaged frames and none that was right. */
    MESSENGER_DAMAGED_MAX = 10,
};

#define MESSENGER_HANDSHAKE_NS (10 * SEC_NS) /* For a peer to prove who it is. */
#define MESSENGER_GIVE_UP_NS   (5 * SEC_NS)  /* Trying to connect, or to connect again. */
#define MESSENGER_GRACE_NS     (10 * SEC_NS) /* An acceptor remembers a broken session. */
#define MESSENGER_RETRY_MIN_NS (50 * MSEC_NS)
#define MESSENGER_RETRY_MAX_NS SEC_NS
#define MESSENGER_STEADY_NS    SEC_NS          /* A connection that lived so long was a good one. */
#define MESSENGER_LEAVE_NS     (5 * SEC_NS)    /* To send what a closed session still had. */
#define MESSENGER_LINGER_NS    (2 * SEC_NS)    /* For the peer to close after our good-bye. */
#define MESSENGER_STALL_NS     (10 * SEC_NS)   /* A payload begun must go on. */
#define MESSENGER_ACK_NS       SEC_NS          /* Received messages are acknowledged by then. */
#define MESSENGER_TRIM_NS      (5 * SEC_NS)    /* Memory not used again for so long is freed. */
#define MESSENGER_LISTEN_NS    (100 * MSEC_NS) /* Pause of a listener that got no descriptor. */

struct connection;
struct session;

/* ---- Memory of received payloads (messenger_memory.c) ---- */

enum {
    RECEIVE_CLASSES = 40,
    RECEIVE_CACHED_PAGES = 1280, /* The largest block that is kept for reuse. */
    RECEIVE_CACHE_BYTES = 64 * 1024 * 1024,
};

struct receive_buf;

/* Shared by the messenger and the payloads that it handed out, which may outlive it. */
struct receive_memory {
    uint32_t refs;
    uint64_t live; /* Bytes handed out or being received. */
    uint64_t limit;
    bool wanted; /* A connection waits for memory. */
    bool freed;  /* Some was released since. */
    size_t cached_bytes;
    struct receive_class {
        SLIST_HEAD(receive_blocks, receive_buf) blocks; /* Released last first. */
        unsigned n, least;
    } classes[RECEIVE_CLASSES];
};

/* The same of one session. */
struct receive_lane {
    uint32_t refs;
    uint64_t live;
    struct receive_memory *memory;
};

struct receive_memory *receive_memory_create(uint64_t limit) MUST_CHECK;
void receive_memory_unref(struct receive_memory *memory);
/* Frees what is kept for reuse, and was not used since this was called last. */
void receive_memory_trim(struct receive_memory *memory);
struct receive_lane *receive_lane_create(struct receive_memory *memory) MUST_CHECK;
void receive_lane_unref(struct receive_lane *lane);
/*
 * Memory for a payload. -EAGAIN: the limit is reached; wait until memory->freed. With `essential`,
 * a session that holds nothing is let through in any case.
 */
int receive_lane_alloc(struct receive_lane *lane, size_t len, bool essential,
                       struct buf_slice *out) MUST_CHECK;

/*
 * The buf is being sent on the session that received it. It counts as queued from now on: only the
 * peer's acknowledgement will release it, which stands behind the frame that waits for memory.
 */
void receive_lane_returned(struct receive_lane *lane, struct buf *buf);

/* ---- Sessions ---- */

/*
 *                 (inbound: begins here)
 *                           |
 *            connect        v      opened, resumed
 *   WAITING ---------> CONNECTING ----------> UP
 *    ^  ^                   | broken           |
 *    |  +-------------------+                  |
 *    +------------------- broken --------------+
 *
 *   any of them --session_end()--> ENDED    closed() is called at the end of the turn
 *   any of them --net_close()----> LEAVING  while its connection sends the rest, or DEAD
 *   ENDED, LEAVING --> DEAD                 freed at the end of the turn
 */
enum session_phase {
    SESSION_WAITING = 1, /* No connection: until the next attempt, or until the peer comes back. */
    SESSION_CONNECTING,  /* Its connection is being made. */
    SESSION_UP,
    SESSION_ENDED,
    SESSION_LEAVING,
    SESSION_DEAD,
};

/* What tells inbound sessions apart. Compared as bytes: zero the padding. */
struct session_key {
    struct entity_name name;
    uint64_t instance;
    uint64_t id;
};

struct session {
    struct net_session pub; /* First. */
    struct messenger *m;
    enum session_phase phase;
    struct session_state state;
    struct session_key key;
    struct connection *connection; /* CONNECTING, UP, LEAVING */
    struct receive_lane *lane;
    struct net_expect expect;
    uint64_t attempt;    /* Of the present or last connection. */
    uint64_t give_up_ns; /* WAITING and CONNECTING, outbound. */
    uint32_t retries;    /* Since the last good connection: how long to wait. */
    uint32_t damaged;
    int last_error; /* Why the last attempt failed: told when there are no more. */
    int end_error;
    bool paused;
    bool half_full; /* queued_bytes reached half of its limit: drained() is owed. */
    bool ack_now;   /* MESSENGER_ACK_NS have passed. */
    bool due;
    bool owing;
    uint64_t owing_until_ns;
    struct env_timer timer; /* Next attempt, giving up, or grace. */
    TAILQ_ENTRY(session) link;
    TAILQ_ENTRY(session) due_link;
    TAILQ_ENTRY(session) owing_link;
    UT_hash_handle hh; /* Inbound ones that can be resumed. */
    bool hashed;
};
TAILQ_HEAD(session_list, session);

/* ---- Connections ---- */

/*
 *   outbound: CONNECTING --> HANDSHAKE --> OPEN --> LEAVING --> LINGERING --> CLOSED
 *   inbound:                 HANDSHAKE --> OPEN ...             any of them --> CLOSED
 */
enum connection_state {
    CONNECTION_CONNECTING = 1,
    CONNECTION_HANDSHAKE,
    CONNECTION_OPEN,
    CONNECTION_LEAVING,   /* Its session was closed here: sends the rest, takes nothing in. */
    CONNECTION_LINGERING, /* All is sent: waits for the peer to close. */
    CONNECTION_CLOSED,    /* Freed when libuv has let go of it. */
};

/* What one system call sends, sealed. Its nonces are used up, so it is sent as it is or never. */
struct batch {
    uint8_t *heads; /* Headers and bodies. */
    size_t heads_len;
    size_t heads_capacity;
    size_t bytes; /* Not sent yet. */
    uint32_t first;
    uint32_t n; /* Pieces [first, n) are not sent yet. */
    struct iovec pieces[MESSENGER_BATCH_PIECES];
    struct buf_slice holds[MESSENGER_BATCH_PIECES]; /* What keeps a payload piece in memory. */
};

struct connection {
    struct messenger *m;
    enum connection_state state;
    int fd;
    uv_poll_t poll;
    int poll_events;
    bool inbound;
    bool unproven; /* In the messenger's list of these. */
    bool dirty;
    bool blocked;  /* The socket takes no more at present. */
    bool starved;  /* The next payload waits for memory. */
    bool progress; /* A frame that was right has come. */
    bool said_close;
    struct session *session;
    struct net_address remote;
    uint64_t since_ns;    /* In its present state. */
    uint64_t received_ns; /* When bytes came last. */
    struct auth_handshake *handshake;
    struct frame_key send_key;
    struct frame_key receive_key;
    struct frame_reader reader;
    struct batch *batch;
    struct env_timer timer;
    TAILQ_ENTRY(connection) link;
    TAILQ_ENTRY(connection) dirty_link;
    TAILQ_ENTRY(connection) unproven_link;
    TAILQ_ENTRY(connection) starved_link;
};
TAILQ_HEAD(connection_list, connection);

struct listener {
    struct messenger *m;
    int fd;
    uv_poll_t poll;
    struct env_timer timer;
    bool closed;
    SLIST_ENTRY(listener) link;
};
SLIST_HEAD(listener_list, listener);

struct messenger {
    struct env *env;
    uv_loop_t *loop;
    enum auth_mode mode;
    const struct auth_provider *provider;
    const struct net_handlers *handlers;
    void *ctx;
    bool stopped;
    uint64_t calls; /* Of handlers. */
    bool more;      /* A connection has more to send than one turn lets it. */
    uint32_t n_unproven;
    uint32_t n_inbound;
    uint32_t refusals; /* Not logged one by one: see messenger_log_refusal(). */
    uint64_t refusals_logged_ns;
    struct session_list sessions;
    struct session_list due;   /* Something is to be done for them at the turn's end. */
    struct session_list owing; /* They received what the peer does not know: oldest first. */
    struct env_timer owing_timer;
    struct session *inbound; /* uthash */
    struct connection_list connections;
    struct connection_list dirty;    /* They have something to send, or to acknowledge. */
    struct connection_list unproven; /* Oldest first. */
    struct connection_list starved;
    struct listener_list listeners;
    struct receive_memory *memory;
    struct env_timer trim_timer; /* Armed while the memory keeps something for reuse. */
    uint8_t *spare_buffers[MESSENGER_SPARE_MAX]; /* Of FRAME_READER_BUFFER bytes. */
    struct batch *spare_batches[MESSENGER_SPARE_MAX];
    uint32_t n_spare_buffers;
    uint32_t n_spare_batches;
};

/* messenger.c */
void messenger_due(struct session *s);
void messenger_dirty(struct connection *c);
/* A peer that did not pass the handshake: one line a second at most, whatever strangers send. */
void messenger_log_refusal(struct messenger *m, const struct net_address *remote, int error);

/* messenger_session.c */
struct session *session_create(struct messenger *m, bool outbound) MUST_CHECK;
/* The next step of a session in the `due` list. May free it. */
void session_attend(struct session *s);
/* The session is over: closed(error) follows at the end of the turn. */
void session_end(struct session *s, int error);
/* Its user has closed it. */
void session_leave(struct session *s);
/* The same, and what was sent is not to leave any more. */
void session_drop(struct session *s);
/* The session's connection is gone, for whatever reason. */
void session_disconnected(struct session *s, int error);
/* Its connection has sent everything, or is gone: nothing is left to do but to free it. */
void session_dead(struct session *s);
/* The handshake of an outbound session's connection is done. */
void session_outbound_up(struct session *s, const struct auth_handshake *h);
/* An attempt of an outbound session failed in the handshake; its connection is closed. */
void session_refused(struct session *s, int error, bool is_hint);
/*
 * A peer has proven itself and offers a session: finds or makes it and fills in the answer; it is
 * then the connection's. -EALREADY: an outdated connection, to be dropped; -EPROTO; -ENOMEM.
 */
int session_inbound(struct connection *c, const struct auth_handshake *h,
                    struct session_answer *answer) MUST_CHECK;
/* After the answer has been sent. */
void session_inbound_up(struct session *s);
/* queued_bytes may have fallen. */
void session_check_drained(struct session *s);
/* Keeps account of whether the peer must be told what we received. */
void session_check_owing(struct session *s);
void session_owing_fire(struct env_timer *timer);

/* messenger_connection.c */
int connection_connect(struct session *s) MUST_CHECK;
int connection_accepted(struct messenger *m, int fd, const struct net_address *remote) MUST_CHECK;
/* Closes it at once; the session, if any, is detached and not told. */
void connection_close(struct connection *c);
/* The same after a failure, which the session learns. */
void connection_broken(struct connection *c, int error);
/* Says good-bye once all is sent; frees the session then. */
void connection_leave(struct connection *c);
void connection_linger(struct connection *c);
void connection_update_poll(struct connection *c);

/* messenger_receive.c */
void connection_read(struct connection *c);
/* Goes on after a pause, or when memory may be there again. */
void connection_resume(struct connection *c);
void connection_timer_stalled(struct connection *c);
void connection_reader_release(struct connection *c);
/* Bytes that came with the end of the handshake. */
int connection_reader_put(struct connection *c, const void *data, size_t len) MUST_CHECK;

/* messenger_send.c */
void connection_flush(struct connection *c);
void batch_release(struct connection *c);
void batch_destroy(struct batch *b);

/* messenger_listen.c */
void listener_close_all(struct messenger *m);

/* messenger_socket.c */
int socket_open(const struct net_address *address) MUST_CHECK;
void socket_tune(int fd);
/* Closing it ends what the kernel has not delivered, which it would try for long otherwise. */
void socket_forget(int fd);
socklen_t socket_address(const struct net_address *address, struct sockaddr_storage *out);
void socket_address_read(const struct sockaddr_storage *from, struct net_address *out);
/* A connection to itself: what connecting to a free port of this host can give. */
bool socket_is_own_peer(int fd) MUST_CHECK;
/* For how long the peer's kernel has not answered ours; 0 while it lets us send nothing. */
uint64_t socket_silent_ns(int fd) MUST_CHECK;

#endif
