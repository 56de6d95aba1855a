/*
 * Notifies, and the answers to them.
 *
 * Callers get the answers encoded as in Ceph: how many, and of each the numbers of watcher and
 * watch, a length and so many bytes; then how many have not answered, and their numbers. 64 bits
 * for numbers, 32 for counts and lengths, the lowest byte first.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/compat/compat.h"

enum { COUNT_BYTES = 4, NUMBER_BYTES = 8 };

/* ---- Encoding ---- */

struct bytes {
    char *data;
    size_t len, capacity;
    bool failed;
};

static void append(struct bytes *bytes, const void *data, size_t len)
{
    if (bytes->len + len > bytes->capacity) {
        size_t capacity = 2 * (bytes->len + len);
        char *larger = realloc(bytes->data, capacity);
        bytes->failed |= larger == NULL;
        if (larger == NULL)
            return;
        bytes->data = larger;
        bytes->capacity = capacity;
    }
    if (len > 0)
        memcpy(bytes->data + bytes->len, data, len);
    bytes->len += len;
}

static void write_number(char *at, uint64_t value, size_t len)
{
    for (size_t i = 0; i < len; i++)
        at[i] = (char)(value >> (8 * i));
}

static void append_number(struct bytes *bytes, uint64_t value, size_t len)
{
    char number[NUMBER_BYTES];
    write_number(number, value, len);
    append(bytes, number, len);
}

static bool next(struct limpet_answers *answers, struct limpet_answer *out)
{
    return answers != NULL && limpet_answers_next(answers, out) == 0;
}

/* Those who have answered come first. -ETIMEDOUT, with the answers: some have not. */
static int encode_answers(struct limpet_answers *answers, char **out, size_t *len)
{
    struct bytes bytes = {0};
    struct limpet_answer answer;
    size_t answered = 0, missed = 0;
    bool more = next(answers, &answer);
    append_number(&bytes, 0, COUNT_BYTES);
    for (; more && !answer.missed; more = next(answers, &answer)) {
        answered++;
        append_number(&bytes, answer.watcher, NUMBER_BYTES);
        append_number(&bytes, answer.cookie, NUMBER_BYTES);
        append_number(&bytes, answer.len, COUNT_BYTES);
        append(&bytes, answer.data, answer.len);
    }
    size_t second = bytes.len;
    append_number(&bytes, 0, COUNT_BYTES);
    for (; more; more = next(answers, &answer)) {
        missed++;
        append_number(&bytes, answer.watcher, NUMBER_BYTES);
        append_number(&bytes, answer.cookie, NUMBER_BYTES);
    }
    if (bytes.failed) {
        free(bytes.data);
        return -ENOMEM;
    }
    write_number(bytes.data, answered, COUNT_BYTES);
    write_number(bytes.data + second, missed, COUNT_BYTES);
    *out = bytes.data;
    *len = bytes.len;
    return missed > 0 ? -ETIMEDOUT : 0;
}

/* ---- Notifying ---- */

int compat_give_answers(struct limpet_answers *answers, int result, char **reply, size_t *len)
{
    char *bytes = NULL;
    size_t n = 0;
    if (result == 0)
        result = encode_answers(answers, &bytes, &n);
    limpet_answers_destroy(answers);
    if (reply != NULL)
        *reply = bytes;
    else
        free(bytes);
    if (len != NULL)
        *len = n;
    return result;
}

/* NULL: no memory. */
static struct limpet_op *make_notify(const char *buf, int len, uint64_t timeout_ms,
                                     struct limpet_answers **answers, int *error)
{
    struct limpet_op *op = limpet_op_create();
    uint32_t timeout = timeout_ms < UINT32_MAX ? (uint32_t)timeout_ms : UINT32_MAX;
    if (op != NULL)
        *error = len < 0 ? -EINVAL
                         : limpet_op_notify(op, buf, buf != NULL ? (size_t)len : 0, timeout,
                                            answers, NULL);
    return op;
}

EXPORT int rados_notify2(void *io, const char *object, const char *buf, int len,
                         uint64_t timeout_ms, char **reply, size_t *reply_len)
{
    struct limpet_answers *answers = NULL;
    int error = 0;
    struct limpet_op *op = make_notify(buf, len, timeout_ms, &answers, &error);
    int rc = compat_run(io, object, op, error);
    return compat_give_answers(answers, rc, reply, reply_len);
}

EXPORT int rados_notify(void *io, const char *object, uint64_t version, const char *buf, int len)
{
    (void)version;
    return rados_notify2(io, object, buf, len, 0, NULL, NULL);
}

EXPORT int rados_aio_notify(void *io, const char *object, void *completion, const char *buf,
                            int len, uint64_t timeout_ms, char **reply, size_t *reply_len)
{
    int error = 0;
    struct limpet_op *op =
        make_notify(buf, len, timeout_ms, compat_answers_of(completion, reply, reply_len), &error);
    return compat_submit(completion, io, object, op, error, false);
}

/* ---- Decoding ---- */

struct notify_ack_t {
    uint64_t notifier_id;
    uint64_t cookie;
    char *payload;
    uint64_t payload_len;
};

struct notify_timeout_t {
    uint64_t notifier_id;
    uint64_t cookie;
};

struct reader {
    const char *at, *end;
    bool failed;
};

static uint64_t read_number(struct reader *reader, size_t len)
{
    uint64_t value = 0;
    reader->failed |= (size_t)(reader->end - reader->at) < len;
    if (reader->failed)
        return 0;
    for (size_t i = 0; i < len; i++)
        value |= (uint64_t)(uint8_t)reader->at[i] << (8 * i);
    reader->at += len;
    return value;
}

/* How many follow, each of so many bytes at least. */
static size_t read_count(struct reader *reader, size_t each)
{
    uint64_t n = read_number(reader, COUNT_BYTES);
    reader->failed |= n > (size_t)(reader->end - reader->at) / each;
    return reader->failed ? 0 : (size_t)n;
}

/* Nothing, and so no place for it, is NULL. */
static int read_ack(struct reader *reader, struct notify_ack_t *ack)
{
    ack->notifier_id = read_number(reader, NUMBER_BYTES);
    ack->cookie = read_number(reader, NUMBER_BYTES);
    size_t len = read_count(reader, 1);
    if (reader->failed || len == 0)
        return 0;
    ack->payload = malloc(len);
    if (ack->payload == NULL)
        return -ENOMEM;
    memcpy(ack->payload, reader->at, len);
    ack->payload_len = len;
    reader->at += len;
    return 0;
}

EXPORT void rados_free_notify_response(struct notify_ack_t *acks, size_t n,
                                       struct notify_timeout_t *timeouts)
{
    for (size_t i = 0; acks != NULL && i < n; i++)
        free(acks[i].payload);
    free(acks);
    free(timeouts);
}

EXPORT int rados_decode_notify_response(char *reply, size_t len, struct notify_ack_t **acks,
                                        size_t *n_acks, struct notify_timeout_t **timeouts,
                                        size_t *n_timeouts)
{
    int rc = 0;
    *acks = NULL;
    *timeouts = NULL;
    *n_acks = *n_timeouts = 0;
    if (reply == NULL)
        return -EINVAL;
    struct reader reader = {reply, reply + len, false};
    *n_acks = read_count(&reader, 2 * NUMBER_BYTES + COUNT_BYTES);
    if (*n_acks > 0)
        *acks = calloc(*n_acks, sizeof **acks);
    if (*n_acks > 0 && *acks == NULL)
        rc = -ENOMEM;
    for (size_t i = 0; i < *n_acks && rc == 0; i++)
        rc = read_ack(&reader, &(*acks)[i]);
    if (rc == 0)
        *n_timeouts = read_count(&reader, 2 * NUMBER_BYTES);
    if (*n_timeouts > 0)
        *timeouts = calloc(*n_timeouts, sizeof **timeouts);
    if (*n_timeouts > 0 && *timeouts == NULL)
        rc = -ENOMEM;
    for (size_t i = 0; i < *n_timeouts && rc == 0; i++) {
        (*timeouts)[i].notifier_id = read_number(&reader, NUMBER_BYTES);
        (*timeouts)[i].cookie = read_number(&reader, NUMBER_BYTES);
    }
    if (rc == 0 && reader.failed)
        rc = -EINVAL;
    if (rc != 0) {
        rados_free_notify_response(*acks, *n_acks, *timeouts);
        *acks = NULL;
        *timeouts = NULL;
        *n_acks = *n_timeouts = 0;
    }
    return rc;
}
