/*
 * The version of all of Limpet. The build system says which.
 */
#ifndef LIMPET_COMMON_VERSION_H
#define LIMPET_COMMON_VERSION_H

/* Versions that others tell are cut to this, with the 0. */
enum { LIMPET_VERSION_MAX = 64 };

/* "0.1.0" */
const char *limpet_version_text(void);

#endif
