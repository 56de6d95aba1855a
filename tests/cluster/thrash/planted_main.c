/* Chooses the planted bug of an OSD by $LIMPET_PLANTED_BUG, before its main() runs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/witness.h"
#include "tests/sim/planted.h"

/* Nobody sees all processes at once. */
struct witness *witness;

__attribute__((constructor)) static void choose_planted_bug(void)
{
    const char *name = getenv("LIMPET_PLANTED_BUG");
    if (!name)
        return;
    planted_bug = planted_by_name(name);
    if (planted_bug == PLANTED_END) {
        fprintf(stderr, "there is no planted bug '%s'\n", name);
        _Exit(EINVAL);
    }
}
