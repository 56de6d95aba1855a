#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/nbd/server_private.h"

/* ---- Beginning and end ---- */

int client_create(struct nbd_server *server, int fd, struct nbd_client **out)
{
    struct nbd_client *c = calloc(1, sizeof *c);
    uint8_t *input = malloc(INPUT_MAX);
    if (c == NULL || input == NULL) {
        free(c);
        free(input);
        close(fd);
        return -ENOMEM;
    }
    c->server = server;
    c->fd = fd;
    c->input = input;
    c->writable = true;
    c->waits_for_size = true;
    c->talk = (struct nbd_talk){.data = c->talk_data, .room = sizeof c->talk_data};
    STAILQ_INIT(&c->out);
    *out = c;
    return 0;
}

void client_destroy(struct nbd_client *c)
{
    assert(c->fd < 0 && c->requests == 0 && !c->queued);
    free(c->input);
    free(c);
}

static void set_stalled(struct nbd_client *c, bool stalled)
{
    if (c->stalled != stalled)
        c->server->n_stalled += stalled ? 1 : -1u;
    c->stalled = stalled;
}

static void drop_writing(struct nbd_client *c)
{
    if (c->writing != NULL)
        request_destroy(c->writing);
    if (c->refusing != NULL)
        request_destroy(c->refusing);
    c->writing = c->refusing = NULL;
}

static void drop_answers(struct nbd_client *c)
{
    struct nbd_request *request;
    while ((request = STAILQ_FIRST(&c->out)) != NULL) {
        STAILQ_REMOVE_HEAD(&c->out, link);
        request_destroy(request);
    }
    c->answered = 0;
}

void client_close(struct nbd_client *c)
{
    if (c->fd < 0)
        return;
    set_stalled(c, false);
    drop_writing(c);
    drop_answers(c);
    if (c->tls != NULL)
        tls_end(c->tls);
    c->tls = NULL;
    close(c->fd);
    c->fd = -1;
    c->ending = true;
    c->server->n_closed++;
    client_poll(c);
}

static bool has_answers(const struct nbd_client *c)
{
    return c->talk.len > 0 || !STAILQ_EMPTY(&c->out) ||
           (c->tls != NULL && tls_stage(c->tls)->len > 0);
}

static void close_if_over(struct nbd_client *c)
{
    if (c->ending && c->requests == 0 && !has_answers(c))
        client_close(c);
}

void client_end(struct nbd_client *c)
{
    if (c->fd < 0)
        return;
    c->ending = true;
    set_stalled(c, false);
    drop_writing(c);
    close_if_over(c);
    client_poll(c);
}

void client_begin(struct nbd_client *c, uint64_t size)
{
    const struct nbd_server_options *options = &c->server->options;
    c->waits_for_size = false;
    c->export = c->server->export;
    c->export.size = size;
    nbd_peer_init(&c->peer, options->tls_required, options->tls != NULL);
    nbd_greet(&c->talk);
    server_look_at(c);
}

static bool negotiates(const struct nbd_client *c)
{
    return c->peer.phase != NBD_TRANSMISSION;
}

void client_poll(struct nbd_client *c)
{
    bool reads = !c->ending && !c->stalled && !c->waits_for_size;
    short events = 0;
    if (c->peer.phase == NBD_HANDSHAKE && c->tls != NULL) {
        events = tls_wants_write(c->tls) ? POLLOUT : POLLIN;
    } else {
        /* Who negotiates hears each answer before it is asked again. */
        if (reads && !(negotiates(c) && c->talk.len > 0))
            events |= POLLIN;
        if (has_answers(c) && !c->writable)
            events |= POLLOUT;
    }
    server_poll_for(c, events);
}

/* ---- Sending ---- */

static size_t part(struct iovec *iov, size_t n, const void *data, size_t len, size_t *skip)
{
    if (*skip >= len) {
        *skip -= len;
        return n;
    }
    iov[n] = (struct iovec){.iov_base = (uint8_t *)(uintptr_t)data + *skip, .iov_len = len - *skip};
    *skip = 0;
    return n + 1;
}

/* What is to be sent next. */
static size_t gather(struct nbd_client *c, struct iovec iov[SEND_VECTORS])
{
    size_t n = 0, skip = c->talk_sent;
    const struct nbd_request *request = NULL;
    if (c->talk.len > 0)
        n = part(iov, n, c->talk.data, c->talk.len, &skip);
    skip = c->out_sent;
    STAILQ_FOREACH(request, &c->out, link)
    {
        if (n + 2 > SEND_VECTORS)
            break;
        n = part(iov, n, request->head, request->head_len, &skip);
        if (request->data_len > 0)
            n = part(iov, n, request->data, request->data_len, &skip);
    }
    return n;
}

/* So many bytes have left. */
static void sent(struct nbd_client *c, size_t n)
{
    struct nbd_request *request;
    if (c->talk.len > 0) {
        size_t talked = c->talk.len - c->talk_sent;
        talked = talked < n ? talked : n;
        c->talk_sent += talked;
        n -= talked;
        if (c->talk_sent == c->talk.len)
            c->talk.len = c->talk_sent = 0;
    }
    c->out_sent += n;
    while ((request = STAILQ_FIRST(&c->out)) != NULL &&
           c->out_sent >= request->head_len + request->data_len) {
        c->out_sent -= request->head_len + request->data_len;
        STAILQ_REMOVE_HEAD(&c->out, link);
        c->answered--;
        request_destroy(request);
    }
}

/* What one record of TLS holds. */
static void fill_stage(struct nbd_client *c, struct tls_stage *stage)
{
    struct iovec iov[SEND_VECTORS];
    size_t n;
    while (stage->len < sizeof stage->data && (n = gather(c, iov)) > 0) {
        size_t taken = 0;
        for (size_t i = 0; i < n; i++) {
            size_t room = sizeof stage->data - stage->len;
            size_t len = iov[i].iov_len < room ? iov[i].iov_len : room;
            memcpy(stage->data + stage->len, iov[i].iov_base, len);
            stage->len += len;
            taken += len;
        }
        sent(c, taken);
    }
}

/* 0: all is sent; a negative errno, -EAGAIN among them. */
static int send_secretly(struct nbd_client *c)
{
    struct tls_stage *stage = tls_stage(c->tls);
    for (;;) {
        if (stage->len == 0)
            fill_stage(c, stage);
        if (stage->len == 0)
            return 0;
        ssize_t n = tls_send(c->tls, stage->data + stage->sent, stage->len - stage->sent);
        if (n < 0)
            return (int)n;
        stage->sent += (size_t)n;
        if (stage->sent == stage->len)
            stage->len = stage->sent = 0;
    }
}

static int send_clearly(struct nbd_client *c)
{
    struct iovec iov[SEND_VECTORS];
    size_t n;
    while ((n = gather(c, iov)) > 0) {
        const struct msghdr message = {.msg_iov = iov, .msg_iovlen = n};
        ssize_t len = sendmsg(c->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (len < 0 && errno == EINTR)
            continue;
        if (len < 0)
            return -errno;
        sent(c, (size_t)len);
    }
    return 0;
}

/* It has its answer: what it has asked meanwhile. */
static void hear_on(struct nbd_client *c)
{
    client_go_on(c);
    /* Of TLS, what has come does not show at the socket. */
    if (c->fd >= 0 && c->tls != NULL && c->peer.tls)
        client_receive(c);
}

void client_send(struct nbd_client *c)
{
    if (c->fd < 0)
        return;
    bool talked = c->talk.len > 0;
    int rc = c->tls != NULL && c->peer.tls ? send_secretly(c) : send_clearly(c);
    c->writable = rc != -EAGAIN;
    if (rc != 0 && rc != -EAGAIN) {
        client_close(c);
        return;
    }
    close_if_over(c);
    if (c->fd >= 0 && talked && c->talk.len == 0)
        hear_on(c);
    client_poll(c);
}

void client_answer(struct nbd_client *c, struct nbd_request *request)
{
    request_answer(request);
    /* What was written is not needed any more. */
    if (request->data_len == 0) {
        free(request->data);
        request->data = NULL;
    }
    STAILQ_INSERT_TAIL(&c->out, request, link);
    c->answered++;
    server_look_at(c);
}

/* ---- What was received ---- */

static size_t available(const struct nbd_client *c)
{
    return c->upto - c->from;
}

static void negotiate(struct nbd_client *c)
{
    while (negotiates(c) && c->talk.room - c->talk.len >= NBD_TALK_MAX) {
        size_t n = nbd_negotiate(&c->peer, &c->export, c->input + c->from, available(c), &c->talk);
        if (n == 0)
            break;
        c->from += n;
    }
    if (c->talk.len > 0)
        server_look_at(c);
    if (c->peer.phase == NBD_ENDED)
        client_end(c);
}

static void shake_hands(struct nbd_client *c)
{
    /* The answer is on its way in clear; and what has come in clear must not count later. */
    if (c->talk.len > 0)
        return;
    int rc = available(c) > 0 ? -EPROTO : 0;
    if (rc == 0 && c->tls == NULL)
        rc = tls_begin(c->server->options.tls, c->fd, &c->tls);
    if (rc == 0)
        rc = tls_handshake(c->tls);
    if (rc == 0)
        nbd_tls_begun(&c->peer);
    else if (rc != -EAGAIN)
        client_close(c);
}

/* Of a payload, what has come along with others. False: there is more to come. */
static bool take_payload(struct nbd_client *c)
{
    size_t left = c->writing->line.len - c->written;
    size_t n = left < available(c) ? left : available(c);
    memcpy(c->writing->data + c->written, c->input + c->from, n);
    c->from += n;
    c->written += n;
    return n == left;
}

/* The next one whose head is there. False: it has to wait. */
static bool take_request(struct nbd_client *c)
{
    struct nbd_request_line line;
    enum nbd_error error = NBD_EINVAL;
    enum nbd_verdict verdict =
        nbd_read_request(&c->peer, &c->export, c->input + c->from, &line, &error);
    if (verdict == NBD_NONSENSE || line.command == NBD_CMD_DISC) {
        client_end(c);
        return false;
    }
    bool accepted = verdict == NBD_ACCEPTED;
    if (!request_may_begin(c, &line, accepted)) {
        set_stalled(c, true);
        return false;
    }
    bool moves = line.command == NBD_CMD_READ || line.command == NBD_CMD_WRITE;
    struct nbd_request *request = request_create(c, &line, accepted && moves ? line.len : 0);
    if (request == NULL && accepted) {
        accepted = false;
        error = NBD_ENOMEM;
        request = request_create(c, &line, 0);
    }
    if (request == NULL) {
        client_close(c);
        return false;
    }
    c->from += sizeof(struct nbd_request_head);
    if (!accepted) {
        request->error = error;
        c->skip = line.command == NBD_CMD_WRITE ? line.len : 0;
        c->refusing = request;
    } else if (line.command == NBD_CMD_WRITE) {
        c->writing = request;
        c->written = 0;
    } else {
        request_submit(request);
    }
    return true;
}

static void transmit(struct nbd_client *c)
{
    while (c->fd >= 0 && !c->ending) {
        if (c->skip > 0) {
            size_t n = c->skip < available(c) ? c->skip : available(c);
            c->skip -= n;
            c->from += n;
        }
        if (c->skip > 0 || (c->writing != NULL && !take_payload(c)))
            return;
        if (c->refusing != NULL) {
            /* Only now: who is still sending may not look for its answer yet. */
            struct nbd_request *request = c->refusing;
            c->refusing = NULL;
            request_refuse(request);
        }
        if (c->writing != NULL) {
            struct nbd_request *request = c->writing;
            c->writing = NULL;
            request_submit(request);
        }
        if (available(c) < sizeof(struct nbd_request_head) || !take_request(c))
            return;
    }
}

void client_go_on(struct nbd_client *c)
{
    if (c->fd < 0 || c->ending || c->waits_for_size)
        return;
    if (c->peer.phase == NBD_HANDSHAKE)
        shake_hands(c);
    else if (negotiates(c))
        negotiate(c);
    /* The end of the negotiation may be followed by requests at once. */
    if (c->fd >= 0 && !negotiates(c))
        transmit(c);
    if (c->from == c->upto)
        c->from = c->upto = 0;
    client_poll(c);
}

/* ---- Receiving ---- */

static void make_room(struct nbd_client *c)
{
    if (c->from > 0 && INPUT_MAX - c->upto < INPUT_MAX / 2) {
        memmove(c->input, c->input + c->from, available(c));
        c->upto -= c->from;
        c->from = 0;
    }
    assert(c->upto < INPUT_MAX);
}

/* Of a payload to its place, and what follows it to the buffer. */
static ssize_t receive_clearly(struct nbd_client *c)
{
    struct iovec iov[2];
    size_t n = 0, own = 0;
    if (c->writing != NULL) {
        own = c->writing->line.len - c->written;
        iov[n++] = (struct iovec){.iov_base = c->writing->data + c->written, .iov_len = own};
    }
    iov[n++] = (struct iovec){.iov_base = c->input + c->upto, .iov_len = INPUT_MAX - c->upto};
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = n};
    ssize_t got = recvmsg(c->fd, &message, MSG_DONTWAIT);
    if (got < 0)
        return -errno;
    own = own < (size_t)got ? own : (size_t)got;
    c->written += own;
    c->upto += (size_t)got - own;
    return got;
}

static ssize_t receive_secretly(struct nbd_client *c)
{
    size_t own = c->writing != NULL ? c->writing->line.len - c->written : 0;
    ssize_t got = own > 0 ? tls_receive(c->tls, c->writing->data + c->written, own)
                          : tls_receive(c->tls, c->input + c->upto, INPUT_MAX - c->upto);
    if (got > 0 && own > 0)
        c->written += (size_t)got;
    else if (got > 0)
        c->upto += (size_t)got;
    return got;
}

/* Whether there may be more. */
static bool receive_once(struct nbd_client *c)
{
    make_room(c);
    /* A payload under way has taken all that was in the buffer. */
    assert(c->writing == NULL || available(c) == 0);
    ssize_t got = c->tls != NULL ? receive_secretly(c) : receive_clearly(c);
    if (got == -EAGAIN || got == -EINTR)
        return false;
    if (got < 0)
        client_close(c);
    else if (got == 0)
        client_end(c);
    else
        client_go_on(c);
    return got > 0;
}

/* Who negotiates hears each answer first: what waits for that would fill the input. */
static bool may_receive(const struct nbd_client *c)
{
    return c->fd >= 0 && !c->ending && !c->stalled && !c->waits_for_size &&
           !(negotiates(c) && c->talk.len > 0);
}

/* Of TLS, what came in one record does not show at the socket any more. */
static bool is_hidden(const struct nbd_client *c, unsigned times)
{
    return c->tls != NULL && (times < RECORDS_MAX || tls_has_more(c->tls));
}

static bool is_expected(const struct nbd_client *c, unsigned times)
{
    return c->writing != NULL && times == 1;
}

void client_receive(struct nbd_client *c)
{
    if (c->peer.phase == NBD_HANDSHAKE) {
        client_go_on(c);
        /* Bytes of the first option may have come with the last ones of the handshake. */
        if (c->fd < 0 || c->peer.phase == NBD_HANDSHAKE)
            return;
    }
    /* A payload follows its head at once, in a call of the client's own. */
    bool more = true;
    for (unsigned n = 0; more && may_receive(c) && (n == 0 || is_hidden(c, n) || is_expected(c, n));
         n++)
        more = receive_once(c);
}

void client_resume(struct nbd_client *c)
{
    set_stalled(c, false);
    client_go_on(c);
    if (c->tls != NULL && c->fd >= 0 && c->peer.phase == NBD_TRANSMISSION)
        client_receive(c);
}
