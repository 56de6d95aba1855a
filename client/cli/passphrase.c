/* Passphrases in files. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/passphrase.h"

int passphrase_read(const char *path, char out[PASSPHRASE_MAX], size_t *len)
{
    size_t n = 0;
    ssize_t got = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    /* A pipe gives it in parts. */
    while (n < PASSPHRASE_MAX && (got = read(fd, out + n, PASSPHRASE_MAX - n)) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            break;
        n += (size_t)got;
    }
    int rc = got < 0 ? -errno : n == PASSPHRASE_MAX ? -EFBIG : 0;
    close(fd);
    if (rc == 0 && n > 0 && out[n - 1] == '\n')
        n--;
    *len = n;
    return rc == 0 && n == 0 ? -EINVAL : rc;
}

const char *passphrase_error(int rc)
{
    if (rc == -EFBIG)
        return "a passphrase has at most 8191 bytes";
    return rc == -EINVAL ? "it is empty" : strerror(-rc);
}
