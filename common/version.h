/*
 * The version of all of Limpet. The build system says which.
 */
#ifndef LIMPET_COMMON_VERSION_H
#define LIMPET_COMMON_VERSION_H

/* "0.1.0" */
const char *limpet_version_text(void);

#endif
