#include "common/method_names.h"

#include <string.h>

static const char *const writing[] = {
    "fs.apply",     "fs.create",       "fs.dying",    "fs.enter",           "fs.init",
    "fs.keeplocks", "fs.layout",       "fs.leave",    "fs.links",           "fs.lock",
    "fs.moved",     "fs.purge",        "fs.reap",     "fs.rename",          "fs.reserve",
    "fs.setattr",   "fs.settle",       "fs.split",    "fs.unlink",          "fs.vanish",
    "fs.wrote",     "fs.xremove",      "fs.xset",     "hello.record_hello", "lock.break_lock",
    "lock.lock",    "lock.set_cookie", "lock.unlock",
};

bool method_writes(const void *name, size_t len)
{
    for (size_t i = 0; i < sizeof writing / sizeof writing[0]; i++) {
        if (strlen(writing[i]) == len && memcmp(writing[i], name, len) == 0)
            return true;
    }
    return false;
}
