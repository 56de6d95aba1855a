/*
 * Error numbers.
 *
 * Functions return 0 or a negative errno. Conditions that errno has no word for continue the range
 * below -LIMPET_ERROR_BASE. error_text() has a word for both, and error_exit_code() maps both to
 * what a command-line program may exit with.
 */
#ifndef LIMPET_COMMON_ERROR_H
#define LIMPET_COMMON_ERROR_H

#define MUST_CHECK __attribute__((warn_unused_result))

enum {
    LIMPET_ERROR_BASE = 4096,
    ELIMPET_STALE_CONFIG = 4097, /* The message names an older PG configuration than ours. */
    ELIMPET_NEWER_MAP = 4098,    /* The sender knows a newer map than ours: wait for it. */
    ELIMPET_NOT_PRIMARY = 4099,  /* The request belongs to another OSD. */
    ELIMPET_NOT_LEADER = 4100,   /* No monitor leader is known at the moment. */
    ELIMPET_RESET = 4101,        /* The peer process is another than before: its memory is gone. */
    ELIMPET_CORRUPT = 4102,      /* Stored or received bytes fail their checksum or their format. */
    LIMPET_ERROR_END
};

/* A short phrase for an error, given positive or negative. Static memory; never NULL. */
const char *error_text(int error);

/* The exit status for an error, given positive or negative: the errno itself, or EIO for our own.
 */
int error_exit_code(int error) MUST_CHECK;

#endif
