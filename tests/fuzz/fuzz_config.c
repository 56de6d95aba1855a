/* Any text as a configuration file; then every option is read, and mon_host without resolving. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/config.h"
#include "common/options.h"

/* config_load() takes a path: a file in memory has one. */
static int memory_file(const uint8_t *data, size_t size, char path[64])
{
    static int fd = -1;
    if (fd < 0)
        fd = memfd_create("fuzz", MFD_CLOEXEC);
    assert(fd >= 0);
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    int rc = ftruncate(fd, 0);
    assert(rc == 0);
    ssize_t n = pwrite(fd, data, size, 0);
    return n == (ssize_t)size ? 0 : -1;
}

/* Names would be asked of the network. */
static bool only_numbers(const char *hosts)
{
    return hosts == NULL || strspn(hosts, "0123456789abcdefv.:[]/,; ") == strlen(hosts);
}

/* A name of hexadecimal letters alone is a host name as well. */
static bool could_be_a_name(const char *hosts)
{
    for (; hosts != NULL && *hosts != '\0'; hosts++) {
        if (strchr("abcdef", *hosts) != NULL)
            return true;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct entity_name self = {.type = ENTITY_OSD, .id = "3"};
    char path[64];
    char why[256];
    if (memory_file(data, size, path) != 0)
        return -1;
    struct config *config = config_create(&self);
    assert(config != NULL);
    int rc = config_load(config, path, why);
    assert(memchr(why, '\0', sizeof why) != NULL);
    if (rc == 0) {
        size_t n;
        const struct option_info *options = options_all(&n);
        for (size_t i = 0; i < n; i++) {
            const char *value = config_get(config, options[i].name);
            assert(value == NULL || value == config_get(config, options[i].name));
        }
        (void)!config_check(config, why);
        const char *hosts = config_get(config, "mon_host");
        struct net_address addresses[4];
        uint32_t n_addresses;
        if (only_numbers(hosts) && !could_be_a_name(hosts) &&
            config_mon_host(config, addresses, 4, &n_addresses, why) == 0)
            assert(n_addresses > 0 && n_addresses <= 4);
    }
    config_destroy(config);
    return 0;
}
