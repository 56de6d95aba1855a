/*
 * Configuration: Ceph's INI syntax.
 *
 * Sections [global], [mon], [mon.a], [osd], [osd.0], [client], [client.admin]; the most specific
 * one wins. In names, spaces, '-' and '_' are the same. Values may use $name, $type, $id, $cluster,
 * $host, $pid and $fsid. '#' and ';' start comments. Command-line options --NAME VALUE override.
 *
 * Which options exist, their types, defaults and meaning stand in one table (common/options.c).
 * Unknown names in a file are kept and ignored, since Ceph's own options may stand there.
 */
#ifndef LIMPET_COMMON_CONFIG_H
#define LIMPET_COMMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/entity.h"
#include "common/error.h"

struct config;

/* An empty configuration for this entity. */
struct config *config_create(const struct entity_name *self) MUST_CHECK;
void config_destroy(struct config *config);

/*
 * Reads a file. path NULL: $LIMPET_CONF, $CEPH_CONF, /etc/limpet/limpet.conf, ./limpet.conf, the
 * first that exists. Errors name file, line and reason in `why`.
 */
int config_load(struct config *config, const char *path, char why[256]) MUST_CHECK;
/* The file that was read, or NULL. */
const char *config_path(const struct config *config);

/*
 * Overrides, as from the command line. -EINVAL: the name is none. Whether an option of that name
 * exists is the caller's to ask: option_find() in common/options.h.
 */
int config_set(struct config *config, const char *name, const char *value) MUST_CHECK;

/* The value with variables expanded, else the option's default, else NULL. Valid until changed. */
const char *config_get(struct config *config, const char *name);
/* Of a known option; the value is checked when it is read: -EINVAL with an explanation in why. */
int config_get_u64(struct config *config, const char *name, uint64_t *out,
                   char why[256]) MUST_CHECK; /* plain, or with K, M, G, T (binary) */
/* A number, or one with K, M, G, T (binary), from elsewhere than a configuration. -EINVAL. */
int config_parse_size(const char *text, uint64_t *out) MUST_CHECK;
int config_get_bool(struct config *config, const char *name, bool *out, char why[256]) MUST_CHECK;
/* Seconds, or with ms, s, m, h, d; in nanoseconds. */
int config_get_duration(struct config *config, const char *name, uint64_t *out,
                        char why[256]) MUST_CHECK;
/* From 0 to 1. */
int config_get_ratio(struct config *config, const char *name, double *out,
                     char why[256]) MUST_CHECK;
/* -ENOENT when it is not set. */
int config_get_uuid(struct config *config, const char *name, struct uuid *out,
                    char why[256]) MUST_CHECK;

/* Checks every known option's value as this entity sees it, so that a daemon can refuse to start.
 */
int config_check(struct config *config, char why[256]) MUST_CHECK;

/*
 * `mon host`: addresses separated by commas, spaces or semicolons, with Ceph's [v2:..,v1:..] groups
 * (the v2 address counts); names are resolved. Port default 3300. -ENOENT: it is not set. One name
 * that cannot be resolved does not hide the other monitors: 0 with a text in `why` says that some
 * are missing.
 */
int config_mon_host(struct config *config, struct net_address *out, uint32_t max, uint32_t *n,
                    char why[256]) MUST_CHECK;

#endif
