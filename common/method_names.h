/*
 * Built-in methods of objects (osd/ops/method.h) that change them. Clients must know, since a
 * request that writes is sent, counted and repeated as such.
 */
#ifndef LIMPET_COMMON_METHOD_NAMES_H
#define LIMPET_COMMON_METHOD_NAMES_H

#include <stdbool.h>
#include <stddef.h>

/* False for all that only read, and for those that there are not: OSDs refuse these. */
bool method_writes(const void *name, size_t len);

#endif
