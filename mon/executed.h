/*
 * Commands that were executed, and what became of them.
 *
 * A client that has no answer sends its command again, to another monitor perhaps; and the copy
 * that the first one took may reach the leader seconds later, when that monitor wakes up or is
 * reached again. By then others may have changed the same thing, and to execute it once more would
 * undo that. So
 *
 *  X1  The entry that has a command's effect says that it was executed, and how it ended, so that
 *      every leader knows; one that failed, or changed nothing, has an entry for that alone.
 *  X2  A copy of what was executed is answered from there.
 *  X3  Each command says below which number its sender waits for none (`oldest`). What the sender
 *      has given up is not executed after a later command of that sender.
 *
 * The newest EXECUTED_MAX are kept, of all clients. A copy that comes later still is executed, as
 * is one whose output is too long to be kept: most commands do no harm by that.
 */
#ifndef LIMPET_MON_EXECUTED_H
#define LIMPET_MON_EXECUTED_H

#include <stddef.h>
#include <stdint.h>

#include "common/entity.h"
#include "common/error.h"

enum { EXECUTED_MAX = 1024, EXECUTED_STATUS_MAX = 512, EXECUTED_OUTPUT_MAX = 4096 };

struct executed_command {
    struct entity_name sender;
    uint64_t instance; /* Of the sender's process; tid counts its commands. */
    uint64_t tid;
    uint64_t oldest;
    int32_t result;
    char *status; /* Owned, like output. */
    size_t output_len;
    uint8_t *output;
};

/* The oldest first. All zero is empty. */
struct executed {
    uint32_t n;
    struct executed_command *list;
};

enum executed_fate { EXECUTED_NOT, EXECUTED_BEFORE, EXECUTED_GIVEN_UP };

void executed_fini(struct executed *executed);
/* Copies; the oldest gives way when there are too many. -ENOMEM changes nothing. */
int executed_add(struct executed *executed, const struct executed_command *command) MUST_CHECK;
/* *out is set for EXECUTED_BEFORE, and valid until the next change. */
enum executed_fate executed_find(const struct executed *executed, const struct entity_name *sender,
                                 uint64_t instance, uint64_t tid,
                                 const struct executed_command **out);

#endif
