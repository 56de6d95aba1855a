/*
 * Client requests: reading them from messages, and building replies. run.h executes them. Pure
 * functions over values; osd/pg decides when they run. README.md tells the model.
 */
#ifndef LIMPET_OSD_OPS_OPS_H
#define LIMPET_OSD_OPS_OPS_H

#include <stdbool.h>

#include "common/buf.h"
#include "common/error.h"
#include "common/message.h"
#include "common/object.h"
#include "common/wire_layout.h"
#include "osd/ops/view.h"
#include "osd/store/store.h"

/* A decoded MSG_OSD_OP. Points into the message. */
struct ops_request {
    struct wire_osd_op head;
    struct object_id object;
    const uint8_t *id; /* The encoded object_id: one object has one encoding. */
    uint16_t id_len;
    const uint8_t *steps; /* head.n_ops times wire_op, unaligned. */
    const uint8_t *snaps; /* head.n_snaps times u64, unaligned. */
    bool write;
    bool list;
    bool looks;       /* Some step looks at more of the object than its state. */
    bool changes;     /* Some step changes the object. */
    bool rolls_back;  /* Its last step is a rollback. */
    bool lists_snaps; /* It looks at nothing else. */
    bool answers;     /* It writes, and may have to tell more than that it did. */
    bool watches;     /* Some step is about watchers, */
    bool contents;    /* some about anything else. */
};

/*
 * Reads and checks everything that needs neither map nor object: -EBADMSG when the message is none
 * (head is then zero as far as it could not be read), -EINVAL for steps or names that cannot be,
 * -EOPNOTSUPP for kinds of steps that there are not.
 */
int ops_decode(const struct message *message, struct ops_request *out) MUST_CHECK;

/* Step `index` and where its data begin in the payload. */
struct wire_op ops_step(const struct ops_request *request, uint16_t index);

/* True when what the request has done needs space that a full store has not got. */
bool ops_grows(const struct object_view *view);

enum { OPS_FULL_TRY_MAX = 64 * 1024 };

/* True when it may take that space from the reserve nevertheless: WIRE_OP_FULL_TRY, or it is about
 * watchers only, and what it brings has no more bytes than that. */
bool ops_tries_full(const struct ops_request *request, const struct object_view *view);

/* What a reply says besides the results of steps. */
struct ops_result {
    uint64_t epoch;
    struct wire_version version; /* Of the log's entry; of a reading request, of the object. */
    int result;
    bool fenced;          /* WIRE_REPLY_FENCED */
    uint16_t failed_step; /* Meaningful when result is an error of a step. */
    bool unchanged;       /* A writing request left the object as it was, with this version: */
    struct wire_version kept;
};

/*
 * A reply to a request. `steps` (may be NULL) holds the result and the data length of each step,
 * `data` all of it, which is taken over. NULL when memory is short.
 */
struct message *ops_reply(const struct wire_osd_op *head, const struct ops_result *result,
                          const struct wire_op_result *steps, struct buf_slice data) MUST_CHECK;

/*
 * Takes an answer apart that run_answer() made: steps of the request, the data, a copy, and whether
 * the object was left as it was (result->unchanged, kept). An empty one leaves them zero and empty.
 * -EBADMSG when it does not fit; -ENOMEM.
 */
int ops_answer_parse(const void *answer, size_t len, uint16_t n_ops, struct ops_result *result,
                     struct wire_op_result steps[WIRE_OPS_MAX], struct buf_slice *data) MUST_CHECK;

#endif
