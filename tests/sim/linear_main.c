/* limpet-linear FILE: whether a history (history_file.h) is linearizable, object by object. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/history_file.h"
#include "tests/sim/linear.h"

enum { MAX_STEPS = 100000000 };

static bool check_object(const struct history *history, uint32_t object)
{
    char *why = NULL;
    enum linear_verdict verdict = linear_check(history, object, MAX_STEPS, &why);
    if (verdict != LINEAR_OK)
        printf("object %" PRIu32 " %s: %s\n", object,
               verdict == LINEAR_VIOLATED ? "not linearizable" : "undecided", why ? why : "");
    free(why);
    return verdict == LINEAR_OK;
}

static int by_number(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

static int check(const struct history *history)
{
    uint32_t *objects = calloc(history->n + 1U, sizeof *objects);
    if (!objects)
        abort();
    for (uint32_t i = 0; i < history->n; i++)
        objects[i] = history->ops[i].object;
    qsort(objects, history->n, sizeof *objects, by_number);
    uint32_t n_objects = 0;
    uint32_t n_bad = 0;
    for (uint32_t i = 0; i < history->n; i++) {
        if (i > 0 && objects[i] == objects[i - 1])
            continue;
        n_objects++;
        n_bad += !check_object(history, objects[i]);
    }
    printf("operations=%" PRIu32 " objects=%" PRIu32 " refused=%" PRIu32 "\n", history->n,
           n_objects, n_bad);
    free(objects);
    return n_bad > 0;
}

int main(int argc, char **argv)
{
    FILE *file = argc == 2 ? fopen(argv[1], "re") : NULL;
    if (!file) {
        fprintf(stderr, "usage: limpet-linear FILE (exit status 1: not linearizable, 2: no "
                        "readable history)\n");
        return 2;
    }
    struct history history = {0};
    uint64_t line = 0;
    int status = 2;
    if (history_read(file, &history, &line) < 0)
        fprintf(stderr, "%s:%" PRIu64 ": not an event of a history\n", argv[1], line);
    else
        status = check(&history);
    history_fini(&history);
    fclose(file);
    return status;
}
