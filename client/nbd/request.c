#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/nbd/server_private.h"

#include <endian.h>

/* ---- Requests ---- */

struct nbd_request *request_create(struct nbd_client *client, const struct nbd_request_line *line,
                                   size_t payload)
{
    struct nbd_request *request = calloc(1, sizeof *request);
    if (request == NULL)
        return NULL;
    request->data = payload > 0 ? malloc(payload) : NULL;
    if (payload > 0 && request->data == NULL) {
        free(request);
        return NULL;
    }
    request->client = client;
    request->server = client->server;
    request->line = *line;
    request->cost = payload;
    client->requests++;
    client->bytes += payload;
    if (line->command == NBD_CMD_BLOCK_STATUS)
        client->statuses++;
    return request;
}

void request_destroy(struct nbd_request *request)
{
    struct nbd_client *client = request->client;
    assert(client->requests > 0 && client->bytes >= request->cost);
    client->requests--;
    client->bytes -= request->cost;
    if (request->line.command == NBD_CMD_BLOCK_STATUS)
        client->statuses--;
    free(request->data);
    free(request);
}

static size_t payload_of(const struct nbd_request_line *line)
{
    bool moves = line->command == NBD_CMD_READ || line->command == NBD_CMD_WRITE;
    return moves ? line->len : 0;
}

/* What the library asks of objects for it at a time. */
static unsigned pieces_of(const struct nbd_server *server, const struct nbd_request_line *line)
{
    if (line->command == NBD_CMD_FLUSH || line->command == NBD_CMD_BLOCK_STATUS || line->len == 0)
        return 1;
    uint64_t first = line->offset / server->unit;
    uint64_t n = (line->offset + line->len - 1) / server->unit - first + 1;
    return n < PIECES_MAX ? (unsigned)n : PIECES_MAX;
}

bool request_may_begin(const struct nbd_client *client, const struct nbd_request_line *line,
                       bool accepted)
{
    const struct nbd_server *server = client->server;
    size_t payload = accepted ? payload_of(line) : 0;
    bool own = client->requests == 0 || (client->requests < server->options.requests_max &&
                                         client->bytes + payload <= CLIENT_BYTES_MAX);
    bool all = !accepted || server->running == 0 ||
               (server->running < NBD_REQUESTS_MAX &&
                server->running_bytes + payload <= RUNNING_BYTES_MAX &&
                server->running_pieces + pieces_of(server, line) <= RUNNING_PIECES_MAX);
    bool status = line->command != NBD_CMD_BLOCK_STATUS || client->statuses < STATUS_MAX;
    return own && all && status;
}

/* ---- The end ---- */

static void end(struct nbd_request *request)
{
    struct nbd_server *server = request->server;
    assert(server->running > 0 && server->running_bytes >= request->cost);
    server->running--;
    server->running_bytes -= request->cost;
    server->running_pieces -= pieces_of(server, &request->line);
    STAILQ_INSERT_TAIL(&server->done, request, link);
}

/* On the server's thread, also inside of the submission; or on another one. */
static void ended(ssize_t result, void *arg)
{
    struct nbd_request *request = arg;
    struct nbd_server *server = request->server;
    request->result = result;
    if (pthread_equal(pthread_self(), server->thread)) {
        end(request);
        return;
    }
    pthread_mutex_lock(&server->lock);
    bool first = STAILQ_EMPTY(&server->elsewhere);
    STAILQ_INSERT_TAIL(&server->elsewhere, request, link);
    pthread_mutex_unlock(&server->lock);
    if (first)
        server_wake(server);
}

void requests_gather(struct nbd_server *server)
{
    struct nbd_request_list list = STAILQ_HEAD_INITIALIZER(list);
    struct nbd_request *request;
    pthread_mutex_lock(&server->lock);
    STAILQ_CONCAT(&list, &server->elsewhere);
    pthread_mutex_unlock(&server->lock);
    while ((request = STAILQ_FIRST(&list)) != NULL) {
        STAILQ_REMOVE_HEAD(&list, link);
        end(request);
    }
}

void request_refuse(struct nbd_request *request)
{
    request->refused = true;
    STAILQ_INSERT_TAIL(&request->server->done, request, link);
}

static const char *name_of(uint16_t command)
{
    switch (command) {
    case NBD_CMD_READ:
        return "read";
    case NBD_CMD_WRITE:
        return "write";
    case NBD_CMD_FLUSH:
        return "flush";
    case NBD_CMD_TRIM:
        return "trim";
    case NBD_CMD_WRITE_ZEROES:
        return "write zeroes";
    default:
        return "block status";
    }
}

void request_answer(struct nbd_request *request)
{
    const struct nbd_request_line *line = &request->line;
    bool reads = line->command == NBD_CMD_READ, tells = line->command == NBD_CMD_BLOCK_STATUS;
    bool moves = reads || line->command == NBD_CMD_WRITE;
    ssize_t result = request->result;
    /* The image has become smaller meanwhile. */
    if (!request->refused && moves && result >= 0 && result < (ssize_t)line->len)
        result = -EIO;
    if (!request->refused && result < 0) {
        server_complain(request->server, name_of(line->command), result);
        request->error = nbd_error_of((int)result);
    }
    bool well = request->error == 0;
    request->data_len = !well ? 0 : reads ? line->len : tells ? request->data_len : 0;
    request->head_len = nbd_reply_head(&request->client->peer, line, request->error,
                                       request->data_len, request->head);
}

/* ---- Block status ---- */

/* Diffs name what there is; the holes lie between. */
struct status {
    struct nbd_job job;
    struct nbd_request *request;
    struct nbd_extent *extents; /* In the machine's order. */
    size_t n, room;
    uint64_t offset; /* Up to which it is told. */
    bool one;        /* One extent is enough. */
    ssize_t result;
};

enum { STATUS_FULL = 1 };

/* 0; STATUS_FULL, which ends the walk; -ENOMEM. */
static int add(struct status *s, uint64_t upto, uint32_t state)
{
    if (upto <= s->offset)
        return 0;
    struct nbd_extent *last = s->n > 0 ? &s->extents[s->n - 1] : NULL;
    uint32_t len = (uint32_t)(upto - s->offset);
    if (last != NULL && last->state == state) {
        last->len += len;
        s->offset = upto;
        return 0;
    }
    /* Who wants one extent gets one; an answer may be shorter than what was asked for. */
    if (s->n == (s->one ? 1 : NBD_EXTENTS_MAX))
        return STATUS_FULL;
    if (s->extents == NULL || s->n == s->room) {
        size_t room = s->room > 0 ? 2 * s->room : 16;
        struct nbd_extent *more = realloc(s->extents, room * sizeof *more);
        if (more == NULL)
            return -ENOMEM;
        s->extents = more;
        s->room = room;
    }
    s->extents[s->n++] = (struct nbd_extent){.len = len, .state = state};
    s->offset = upto;
    return 0;
}

static int take_extent(uint64_t offset, uint64_t len, bool exists, void *arg)
{
    struct status *s = arg;
    const uint32_t hole = NBD_STATE_HOLE | NBD_STATE_ZERO;
    int rc = add(s, offset, hole);
    return rc == 0 ? add(s, offset + len, exists ? 0 : hole) : rc;
}

/* On a worker. */
static void find_status(struct nbd_job *job)
{
    struct status *s = (struct status *)job;
    const struct nbd_request_line *line = &s->request->line;
    s->result = limpet_image_diff(s->request->server->options.image, NULL, line->offset, line->len,
                                  true, true, take_extent, s);
    if (s->result == 0)
        s->result = add(s, line->offset + line->len, NBD_STATE_HOLE | NBD_STATE_ZERO);
    if (s->result == STATUS_FULL)
        s->result = 0;
    for (size_t i = 0; i < s->n; i++) {
        s->extents[i].len = htobe32(s->extents[i].len);
        s->extents[i].state = htobe32(s->extents[i].state);
    }
}

static void status_was_found(struct nbd_job *job)
{
    struct status *s = (struct status *)job;
    struct nbd_request *request = s->request;
    request->data = (uint8_t *)s->extents;
    request->data_len = s->n * sizeof *s->extents;
    request->result = s->result;
    free(s);
    end(request);
}

static int submit_status(struct nbd_request *request)
{
    struct status *s = calloc(1, sizeof *s);
    if (s == NULL)
        return -ENOMEM;
    s->job.run = find_status;
    s->job.ended = status_was_found;
    s->request = request;
    s->offset = request->line.offset;
    s->one = (request->line.flags & NBD_CMD_FLAG_REQ_ONE) != 0;
    int rc = workers_run(request->server, &s->job);
    if (rc != 0)
        free(s);
    return rc;
}

/* ---- Submitting ---- */

static int submit(struct nbd_request *request)
{
    struct limpet_image *image = request->server->options.image;
    const struct nbd_request_line *line = &request->line;
    unsigned keep = line->flags & NBD_CMD_FLAG_NO_HOLE ? LIMPET_IMAGE_ZEROES_WRITTEN : 0;
    switch (line->command) {
    case NBD_CMD_READ:
        return limpet_image_aio_read(image, request->data, line->len, line->offset, 0, ended,
                                     request);
    case NBD_CMD_WRITE:
        return limpet_image_aio_write(image, request->data, line->len, line->offset, 0, ended,
                                      request);
    case NBD_CMD_FLUSH:
        return limpet_image_aio_flush(image, ended, request);
    case NBD_CMD_TRIM:
        return limpet_image_aio_discard(image, line->len, line->offset, ended, request);
    case NBD_CMD_WRITE_ZEROES:
        return limpet_image_aio_write_zeroes(image, line->len, line->offset, keep, ended, request);
    default:
        return submit_status(request);
    }
}

void request_submit(struct nbd_request *request)
{
    struct nbd_server *server = request->server;
    server->running++;
    server->running_bytes += request->cost;
    server->running_pieces += pieces_of(server, &request->line);
    int rc = submit(request);
    if (rc != 0)
        ended(rc, request);
}
