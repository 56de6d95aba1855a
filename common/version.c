#include "common/version.h"

#ifndef LIMPET_VERSION
#error "the build system defines LIMPET_VERSION"
#endif

const char *limpet_version_text(void)
{
    return LIMPET_VERSION;
}
