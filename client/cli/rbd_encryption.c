/* limpet rbd: encrypted images. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/rbd.h"

enum { PASSPHRASE_MAX = 8192 };

static enum limpet_image_encryption format_of(const char *text)
{
    return strcmp(text, "luks1") == 0 ? LIMPET_IMAGE_LUKS1 : LIMPET_IMAGE_LUKS2;
}

/* What the file has, but for a newline at its end; exits with a message. */
static size_t read_passphrase(const char *path, char out[PASSPHRASE_MAX])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, out, PASSPHRASE_MAX) : -1;
    if (n < 0)
        fail(errno, "passphrase file %s: %s", path, error_phrase(errno));
    close(fd);
    if (n == PASSPHRASE_MAX)
        fail(EFBIG, "passphrase file %s: a passphrase has at most %d bytes", path,
             PASSPHRASE_MAX - 1);
    if (n > 0 && out[n - 1] == '\n')
        n--;
    if (n == 0)
        fail(EINVAL, "passphrase file %s: it is empty", path);
    return (size_t)n;
}

int rbd_encryption_format(struct cli *cli)
{
    struct rbd_run run;
    char passphrase[PASSPHRASE_MAX];
    const char *format = cli->words[cli->n_words - 2], *path = cli->words[cli->n_words - 1];
    if (strcmp(format, "luks1") != 0 && strcmp(format, "luks2") != 0)
        fail(EINVAL, "format '%s': luks1 or luks2", format);
    bool short_key = strcmp(cli_text(cli, "cipher-alg", "aes-256"), "aes-128") == 0;
    size_t len = read_passphrase(path, passphrase);
    rbd_begin(cli, RBD_IMAGE, true, &run);
    int code = 0, rc = limpet_image_encrypt(run.image, format_of(format), short_key ? 128 : 256,
                                            passphrase, len);
    explicit_bzero(passphrase, sizeof passphrase);
    if (rc == -ENOSPC)
        code = complain(rc, "encryption format error: %s; the image is smaller than the header",
                        error_phrase(rc));
    else if (rc == -EOPNOTSUPP)
        code = complain(rc,
                        "encryption format error: %s; a clone is encrypted as its parent is, or "
                        "after 'limpet rbd flatten'",
                        error_phrase(rc));
    else if (rc != 0)
        code = complain(rc, "encryption format error: %s", error_phrase(rc));
    return rbd_end(&run, code);
}

void rbd_decrypt(struct cli *cli, struct limpet_image *image)
{
    const char *format = cli_text(cli, "encryption-format", NULL),
               *path = cli_text(cli, "encryption-passphrase-file", NULL);
    char passphrase[PASSPHRASE_MAX];
    if (format == NULL && path == NULL)
        return;
    if (format == NULL || path == NULL)
        fail(EINVAL, "--encryption-format and --encryption-passphrase-file: both or neither");
    size_t len = read_passphrase(path, passphrase);
    int rc = limpet_image_decrypt(image, format_of(format), passphrase, len);
    explicit_bzero(passphrase, sizeof passphrase);
    if (rc == -EPERM)
        fail(rc, "encryption: the passphrase in %s is wrong", path);
    if (rc == -EINVAL)
        fail(rc, "encryption: the image is not encrypted in format %s", format);
    if (rc != 0)
        fail(rc, "encryption: %s", error_phrase(rc));
}
