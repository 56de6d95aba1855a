/* limpet-linear FILE: whether a history (history_file.h) is linearizable, object by object. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/history_file.h"
#include "tests/sim/linear.h"

enum { MAX_STEPS = 100000000 };

struct counts {
    uint32_t objects, violated, undecided;
};

static void check_object(const struct history *history, uint64_t max_steps, struct counts *counts)
{
    uint32_t object = history->ops[0].object;
    char *why = NULL;
    enum linear_verdict verdict = linear_check(history, object, max_steps, &why);
    if (verdict != LINEAR_OK)
        printf("object %" PRIu32 " %s: %s\n", object,
               verdict == LINEAR_VIOLATED ? "not linearizable" : "undecided", why ? why : "");
    free(why);
    counts->objects++;
    counts->violated += verdict == LINEAR_VIOLATED;
    counts->undecided += verdict == LINEAR_UNDECIDED;
}

/* Objects together, each in the order of its calls. */
static int by_object(const void *a, const void *b)
{
    const struct history_op *left = a, *right = b;
    if (left->object != right->object)
        return left->object < right->object ? -1 : 1;
    return (left->called > right->called) - (left->called < right->called);
}

static int check(struct history *history, uint64_t max_steps)
{
    struct counts counts = {0};
    uint32_t n;
    if (history->n > 0)
        qsort(history->ops, history->n, sizeof *history->ops, by_object);
    for (uint32_t i = 0; i < history->n; i += n) {
        for (n = 1; i + n < history->n; n++) {
            if (history->ops[i + n].object != history->ops[i].object)
                break;
        }
        struct history one = {.n = n, .capacity = n, .ops = history->ops + i};
        check_object(&one, max_steps, &counts);
    }
    printf("operations=%" PRIu32 " objects=%" PRIu32 " violated=%" PRIu32 " undecided=%" PRIu32
           "\n",
           history->n, counts.objects, counts.violated, counts.undecided);
    return counts.violated > 0 ? 1 : counts.undecided > 0 ? 3 : 0;
}

int main(int argc, char **argv)
{
    FILE *file = argc == 2 || argc == 3 ? fopen(argv[1], "re") : NULL;
    char *end = NULL;
    uint64_t max_steps = argc == 3 ? strtoull(argv[2], &end, 10) : MAX_STEPS;
    if (!file || (end && *end)) {
        fprintf(stderr, "usage: limpet-linear FILE [STEPS]\n"
                        "Checks each object's history, giving up after so many steps.\n"
                        "exit status: 1 not linearizable, 2 no readable history, 3 undecided\n");
        return 2;
    }
    struct history history = {0};
    uint64_t line = 0;
    int status = 2;
    if (history_read(file, &history, &line) < 0)
        fprintf(stderr, "%s:%" PRIu64 ": not an event of a history\n", argv[1], line);
    else
        status = check(&history, max_steps);
    history_fini(&history);
    fclose(file);
    return status;
}
