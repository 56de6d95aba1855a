/*
 * Logging: one line an event, key=value, with pg, epoch or request number where there is one.
 *
 *     log_info(env, "osd booted", "osd=%d epoch=%" PRIu64, id, epoch);
 *
 * The world decides where lines go: the real one adds time and level and writes to the daemon's log
 * file, the simulator keeps them with virtual time. Quiet by default: info is for things that an
 * operator would want to know the next day, debug is off.
 */
#ifndef LIMPET_COMMON_LOG_H
#define LIMPET_COMMON_LOG_H

#include "common/env.h"

enum log_level { LOG_LEVEL_ERROR = 0, LOG_LEVEL_WARN = 1, LOG_LEVEL_INFO = 2, LOG_LEVEL_DEBUG = 3 };

/* Bits of env->log_mask, one a level. */
#define LOG_MASK_DEFAULT ((1u << LOG_LEVEL_ERROR) | (1u << LOG_LEVEL_WARN) | (1u << LOG_LEVEL_INFO))

void log_write(struct env *env, enum log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static inline bool log_enabled(const struct env *env, enum log_level level)
{
    return (env->log_mask >> level) & 1;
}

#define LOG_AT(env, level, ...)                                                                    \
    do {                                                                                           \
        if (log_enabled((env), (level)))                                                           \
            log_write((env), (level), __VA_ARGS__);                                                \
    } while (0)

#define log_error(env, ...) LOG_AT(env, LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(env, ...)  LOG_AT(env, LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(env, ...)  LOG_AT(env, LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(env, ...) LOG_AT(env, LOG_LEVEL_DEBUG, __VA_ARGS__)

/* Where the real world's lines go: a file that is opened for appending, or NULL for stderr. */
int log_open(const char *path) MUST_CHECK;
/* Opens the same file by its name again, after a log rotation; on failure the old one stays. */
int log_reopen(void) MUST_CHECK;
/* The daemon's name in each line: "osd.3". */
void log_set_name(const char *name);
/* Writes one line with time, name and level: what the real world's env_ops.log is made of. */
void log_sink_line(int level, const char *line);

#endif
