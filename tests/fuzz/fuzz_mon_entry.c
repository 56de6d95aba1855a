/*
 * Entries of the consensus log, snapshots of the state, the identity file. The first byte chooses.
 * Whatever the bytes are, the state stays whole: it can be encoded, and what is encoded be read.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "mon/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_state(const struct mon_state *state)
{
    struct mon_state again;
    struct encoder e;

    encoder_init(&e);
    int rc = mon_state_encode(state, &e);
    assert(rc == 0 && !e.failed);
    rc = mon_state_init(&again);
    assert(rc == 0);
    if (mon_state_restore(&again, e.data, e.len) != 0)
        abort();
    mon_state_fini(&again);
    encoder_fini(&e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mon_applied applied;
    struct mon_identity identity;
    struct mon_state state;

    if (size < 1)
        return 0;
    int rc = mon_state_init(&state);
    assert(rc == 0);
    switch (data[0] % 3) {
    case 0:
        if (mon_state_apply(&state, data + 1, size - 1, &applied) == 0)
            mon_entry_release(&applied);
        check_state(&state);
        break;
    case 1:
        if (mon_state_restore(&state, data + 1, size - 1) == 0)
            check_state(&state);
        break;
    default:
        if (mon_identity_decode(data + 1, size - 1, &identity) == 0)
            mon_identity_fini(&identity);
        break;
    }
    mon_state_fini(&state);
    return 0;
}
