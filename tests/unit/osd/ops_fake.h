/*
 * An object in memory, and requests on it: what the primary does with a request, without a primary.
 */
#ifndef LIMPET_TESTS_UNIT_OSD_OPS_FAKE_H
#define LIMPET_TESTS_UNIT_OSD_OPS_FAKE_H

#include "osd/ops/run.h"

enum { FAKE_DATA_MAX = 256 * 1024, FAKE_ENTRIES_MAX = 512 };

struct fake_entry {
    uint8_t *name, *value;
    uint16_t name_len;
    uint32_t value_len;
};

struct fake_table {
    uint32_t n;
    struct fake_entry entries[FAKE_ENTRIES_MAX]; /* By name. */
};

struct fake_object {
    struct object_state state;
    uint8_t data[FAKE_DATA_MAX];
    struct fake_table attrs, pairs;
    struct fake_entry header;
    uint32_t loads; /* Since the start: how much the requests asked for. */
};

void fake_init(struct fake_object *object);
void fake_fini(struct fake_object *object);
bool fake_equal(const struct fake_object *a, const struct fake_object *b);

/* A request that is being made. */
struct fake_request {
    bool write;
    uint16_t n;
    struct wire_op steps[WIRE_OPS_MAX];
    struct encoder payload;
    struct ops_caller caller;
    uint64_t wall_ns;
};

void fake_request_init(struct fake_request *request, bool write);
/* Adds a step; its data are to be encoded into the payload before the next one. */
struct wire_op *fake_step(struct fake_request *request, uint16_t code, uint64_t offset,
                          uint64_t length);
/* Likewise, with data. */
struct wire_op *fake_step_data(struct fake_request *request, uint16_t code, uint64_t offset,
                               uint64_t length, const void *data, size_t len);

struct fake_outcome {
    int result; /* Of decoding, or of running. */
    uint16_t failed_step;
    int32_t results[WIRE_OPS_MAX];
    uint32_t lens[WIRE_OPS_MAX];
    uint8_t *data[WIRE_OPS_MAX];
    uint32_t runs;
    bool grows; /* A full cluster would refuse it. */
};

/*
 * Sends the request to the object, which it changes when it succeeds, and frees the request. Of a
 * writing request, what the steps gave has gone through an answer of the log.
 */
void fake_send(struct fake_object *object, struct fake_request *request, struct fake_outcome *out);
void fake_outcome_fini(struct fake_outcome *outcome);

#endif
