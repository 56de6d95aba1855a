/*
 * What config.c and config_value.c share: values as text, and what their types make of them.
 */
#ifndef LIMPET_COMMON_CONFIG_PRIVATE_H
#define LIMPET_COMMON_CONFIG_PRIVATE_H

#include "common/config.h"
#include "common/options.h"

/* All return -EINVAL for text that is no such value, or does not fit. */
int config_parse_number(const char *text, uint64_t *out) MUST_CHECK;
int config_parse_duration(const char *text, uint64_t *out_ns) MUST_CHECK;
int config_parse_ratio(const char *text, double *out) MUST_CHECK;
int config_parse_bool(const char *text, bool *out) MUST_CHECK;

/* Checks a value against its option; explains in why, which names the option. */
int config_check_value(const struct option_info *option, const char *text,
                       char why[256]) MUST_CHECK;

#endif
