#include "common/error.h"

#include <errno.h>
#include <string.h>

static const char *own_text(int error)
{
    switch (error) {
    case ELIMPET_STALE_CONFIG:
        return "the configuration is out of date";
    case ELIMPET_NEWER_MAP:
        return "a newer cluster map is needed";
    case ELIMPET_NOT_PRIMARY:
        return "another OSD is responsible";
    case ELIMPET_NOT_LEADER:
        return "the monitors have no leader at the moment";
    case ELIMPET_RESET:
        return "the peer has restarted";
    case ELIMPET_CORRUPT:
        return "the data is damaged";
    default:
        return "unknown error";
    }
}

/* The magnitude of an error; INT_MIN has none, and becomes one that nothing else uses. */
static int magnitude(int error)
{
    if (error >= 0)
        return error;
    return error < -LIMPET_ERROR_END ? LIMPET_ERROR_END : -error;
}

const char *error_text(int error)
{
    int number = magnitude(error);
    if (number > LIMPET_ERROR_BASE)
        return own_text(number);
    const char *text = strerrordesc_np(number);
    return text != NULL ? text : "unknown error";
}

int error_exit_code(int error)
{
    int number = magnitude(error);
    /* An exit status has eight bits; no errno of Linux needs more. */
    return number > 255 ? EIO : number;
}
