#include "mon/executed.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

/* Outputs may hold keys. */
static void command_fini(struct executed_command *command)
{
    if (command->output != NULL)
        sodium_memzero(command->output, command->output_len);
    free(command->output);
    free(command->status);
}

void executed_fini(struct executed *executed)
{
    for (uint32_t i = 0; i < executed->n; i++)
        command_fini(&executed->list[i]);
    free(executed->list);
    *executed = (struct executed){0};
}

int executed_add(struct executed *executed, const struct executed_command *command)
{
    struct executed_command copy = *command;

    assert(command->output_len <= EXECUTED_OUTPUT_MAX);
    if (executed->list == NULL)
        executed->list = calloc(EXECUTED_MAX, sizeof *executed->list);
    if (executed->list == NULL)
        return -ENOMEM;
    copy.status = strdup(command->status != NULL ? command->status : "");
    copy.output = malloc(command->output_len + 1);
    if (copy.status == NULL || copy.output == NULL) {
        free(copy.status);
        free(copy.output);
        return -ENOMEM;
    }
    if (command->output_len > 0)
        memcpy(copy.output, command->output, command->output_len);
    if (executed->n == EXECUTED_MAX) {
        command_fini(&executed->list[0]);
        executed->n--;
        memmove(&executed->list[0], &executed->list[1], executed->n * sizeof copy);
    }
    executed->list[executed->n++] = copy;
    return 0;
}

enum executed_fate executed_find(const struct executed *executed, const struct entity_name *sender,
                                 uint64_t instance, uint64_t tid,
                                 const struct executed_command **out)
{
    enum executed_fate fate = EXECUTED_NOT;

    for (uint32_t i = executed->n; i-- > 0;) {
        const struct executed_command *command = &executed->list[i];
        if (command->instance != instance || !entity_equal(&command->sender, sender))
            continue;
        if (command->tid == tid) {
            *out = command;
            return EXECUTED_BEFORE;
        }
        if (command->oldest > tid)
            fate = EXECUTED_GIVEN_UP;
    }
    return fate;
}
