/*
 * Client requests: reading them from messages, checking them, turning writes into store
 * transactions, and building replies. Pure functions over values; osd/pg decides when they run.
 *
 * A request is a list of steps on one object. A writing request holds writing steps only, since a
 * repeated one is answered from the log, which has no data; it is applied whole or not at all. The
 * first step that fails decides the result.
 */
#ifndef LIMPET_OSD_OPS_OPS_H
#define LIMPET_OSD_OPS_OPS_H

#include <stdbool.h>

#include "common/buf.h"
#include "common/error.h"
#include "common/message.h"
#include "common/object.h"
#include "common/wire_layout.h"
#include "osd/store/store.h"

/* A decoded MSG_OSD_OP. Points into the message. */
struct ops_request {
    struct wire_osd_op head;
    struct object_id object;
    const uint8_t *id; /* The encoded object_id: one object has one encoding. */
    uint16_t id_len;
    const uint8_t *steps; /* head.n_ops times wire_op, unaligned. */
    bool write;
    bool list;
};

/*
 * Reads and checks everything that needs no map: -EBADMSG when the message is none (head is then
 * zero as far as it could not be read), -EINVAL for steps or names that cannot be, -EFBIG for sizes
 * above OBJECT_SIZE_MAX.
 */
int ops_decode(const struct message *message, struct ops_request *out) MUST_CHECK;

/* Step `index` and where its data begin in the payload. */
struct wire_op ops_step(const struct ops_request *request, uint16_t index);

/* What writing steps need to know of an object, and what they make of it. */
struct object_state {
    bool exists;
    uint64_t size;
    uint64_t mtime_ns;
    struct wire_version version;
};

/*
 * Applies the steps of a writing request to `state`, and appends their effects to txn, whose data
 * is the request's payload. Nothing but positions and sizes that hold on any replica goes in.
 * When a step fails its error is returned, *failed_step is set, and state and txn are to be
 * discarded.
 */
int ops_execute(const struct ops_request *request, struct object_state *state,
                struct store_txn *txn, uint16_t *failed_step) MUST_CHECK;

/* True when the step from `before` to `after` needs space that a full store has not got. */
bool ops_grows(const struct object_state *before, const struct object_state *after);

/* What a reply says besides the results of steps. */
struct ops_result {
    uint64_t epoch;
    struct wire_version version;
    int result;
    uint16_t failed_step; /* Meaningful when result is an error of a step. */
};

/*
 * A reply to a request. `lens` (may be NULL) holds the data length of each step, `data` all of it,
 * which is taken over. NULL when memory is short.
 */
struct message *ops_reply(const struct wire_osd_op *head, const struct ops_result *result,
                          const uint32_t *lens, struct buf_slice data) MUST_CHECK;

#endif
