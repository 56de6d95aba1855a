/* limpet rbd: encrypted images. */
#include <errno.h>
#include <string.h>

#include "client/cli/rbd.h"

static enum limpet_image_encryption format_of(const char *text)
{
    return strcmp(text, "luks1") == 0 ? LIMPET_IMAGE_LUKS1 : LIMPET_IMAGE_LUKS2;
}

/* Exits with a message. */
static size_t read_passphrase(const char *path, char out[PASSPHRASE_MAX])
{
    size_t len;
    int rc = passphrase_read(path, out, &len);
    if (rc != 0)
        fail(rc, "passphrase file %s: %s", path, passphrase_error(rc));
    return len;
}

int rbd_encryption_format(struct cli *cli)
{
    struct rbd_run run;
    char passphrase[PASSPHRASE_MAX];
    const char *format = cli->words[cli->n_words - 2], *path = cli->words[cli->n_words - 1];
    if (strcmp(format, "luks1") != 0 && strcmp(format, "luks2") != 0)
        fail(EOPNOTSUPP, "unsupported encryption format '%s'; there are luks1 and luks2", format);
    bool short_key = strcmp(cli_text(cli, "cipher-alg", "aes-256"), "aes-128") == 0;
    size_t len = read_passphrase(path, passphrase);
    rbd_begin(cli, RBD_IMAGE, true, &run);
    int code = 0, rc = rbd_check_unlocked(&run);
    if (rc == 0)
        rc = limpet_image_encrypt(run.image, format_of(format), short_key ? 128 : 256, passphrase,
                                  len);
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
        code = complain(rc, "encryption format error: %s", rbd_phrase(rc));
    return rbd_end(&run, code);
}

enum limpet_image_encryption rbd_encryption_of(const struct rbd_encryption *e)
{
    return format_of(e->format);
}

void rbd_encryption_check(const struct rbd_encryption *e)
{
    if ((e->format == NULL) != (e->path == NULL))
        fail(EINVAL, "--encryption-format and --encryption-passphrase-file: both or neither");
}

void rbd_encryption_options(struct cli *cli, struct rbd_encryption *out)
{
    out->format = cli_text(cli, "encryption-format", NULL);
    out->path = cli_text(cli, "encryption-passphrase-file", NULL);
    out->len = 0;
    rbd_encryption_check(out);
}

void rbd_encryption_load(struct rbd_encryption *e)
{
    if (e->format != NULL && e->len == 0)
        e->len = read_passphrase(e->path, e->passphrase);
}

void rbd_encryption_use(struct rbd_encryption *e, struct limpet_image *image)
{
    if (e->format == NULL)
        return;
    rbd_encryption_load(e);
    int rc = limpet_image_decrypt(image, format_of(e->format), e->passphrase, e->len);
    explicit_bzero(e->passphrase, sizeof e->passphrase);
    if (rc == -EPERM)
        fail(rc, "encryption: the passphrase in %s is wrong", e->path);
    if (rc == -EINVAL)
        fail(rc, "encryption: the image is not encrypted in format %s", e->format);
    if (rc != 0)
        fail(rc, "encryption: %s", error_phrase(rc));
}

void rbd_decrypt(struct cli *cli, struct limpet_image *image)
{
    struct rbd_encryption encryption;
    rbd_encryption_options(cli, &encryption);
    rbd_encryption_use(&encryption, image);
}
