/*
 * Histories as text, one event a line, so that programs outside the simulator can have theirs
 * checked:
 *
 *     call ID CLIENT OBJECT KIND SERIAL OFFSET LEN TIME_NS
 *     return ID RESULT SIZE HASH TIME_NS [CONFIG SEQUENCE]
 *
 * IDs count the calls from 0. KIND is read, stat, write_full, write_at, append, truncate, remove or
 * create; HASH is content_hash in hexadecimal; CONFIG and SEQUENCE are the object's version, where
 * it is known. A call whose outcome is unknown (a timeout) has no return.
 */
#ifndef LIMPET_TESTS_SIM_HISTORY_FILE_H
#define LIMPET_TESTS_SIM_HISTORY_FILE_H

#include <stdio.h>

#include "tests/sim/history.h"

enum { HISTORY_FILE_MAX_OPS = 1 << 24 };

/*
 * Appends the events of a file to an empty history, which the caller frees in any case. Returns 0,
 * or -EINVAL with the number of the offending line in *line.
 */
__attribute__((warn_unused_result)) int history_read(FILE *file, struct history *history,
                                                     uint64_t *line);

#endif
