/* TLS of the NBD server, by GnuTLS, on sockets that do not block. */
#include <errno.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/nbd/server_private.h"

struct nbd_tls {
    gnutls_certificate_credentials_t certificates;
    gnutls_psk_server_credentials_t keys;
    gnutls_priority_t priority;
    bool verify;
};

struct nbd_tls_session {
    gnutls_session_t session;
    bool begun; /* The handshake is over. */
    struct tls_stage stage;
};

/* Returns the error. */
static int say(char **why, const char *what, const char *name, int code)
{
    if (asprintf(why, "%s%s%s: %s", what, name[0] != 0 ? " " : "", name, gnutls_strerror(code)) < 0)
        *why = NULL;
    return -EINVAL;
}

enum { PATH_LEN_MAX = 4096 };

static int load_certificates(struct nbd_tls *tls, const char *folder, char **why)
{
    char ca[PATH_LEN_MAX], crl[PATH_LEN_MAX], cert[PATH_LEN_MAX], key[PATH_LEN_MAX];
    if (strlen(folder) + sizeof "/server-cert.pem" > PATH_LEN_MAX)
        return say(why, "folder of certificates", folder, GNUTLS_E_FILE_ERROR);
    snprintf(ca, sizeof ca, "%s/ca-cert.pem", folder);
    snprintf(crl, sizeof crl, "%s/ca-crl.pem", folder);
    snprintf(cert, sizeof cert, "%s/server-cert.pem", folder);
    snprintf(key, sizeof key, "%s/server-key.pem", folder);
    int rc = gnutls_certificate_allocate_credentials(&tls->certificates);
    if (rc < 0)
        return say(why, "TLS", "", rc);
    rc = gnutls_certificate_set_x509_trust_file(tls->certificates, ca, GNUTLS_X509_FMT_PEM);
    if (rc < 0)
        return say(why, "certificate of the authority", ca, rc);
    if (access(crl, R_OK) == 0)
        rc = gnutls_certificate_set_x509_crl_file(tls->certificates, crl, GNUTLS_X509_FMT_PEM);
    if (rc < 0)
        return say(why, "list of revoked certificates", crl, rc);
    rc = gnutls_certificate_set_x509_key_file(tls->certificates, cert, key, GNUTLS_X509_FMT_PEM);
    return rc < 0 ? say(why, "certificate and key of the server", cert, rc) : 0;
}

static int load_keys(struct nbd_tls *tls, const char *path, char **why)
{
    if (access(path, R_OK) != 0)
        return say(why, "file of keys", path, GNUTLS_E_FILE_ERROR);
    int rc = gnutls_psk_allocate_server_credentials(&tls->keys);
    if (rc >= 0)
        rc = gnutls_psk_set_server_credentials_file(tls->keys, path);
    return rc < 0 ? say(why, "file of keys", path, rc) : 0;
}

int nbd_tls_create(const char *certificates, const char *psk, bool verify, struct nbd_tls **out,
                   char **why)
{
    const char *priority = psk != NULL ? "NORMAL:+ECDHE-PSK:+DHE-PSK:+PSK" : "NORMAL";
    struct nbd_tls *tls = calloc(1, sizeof *tls);
    *why = NULL;
    if (tls == NULL)
        return -ENOMEM;
    tls->verify = verify;
    int rc = gnutls_priority_init(&tls->priority, priority, NULL);
    rc = rc < 0 ? say(why, "TLS", "", rc) : 0;
    if (rc == 0 && certificates != NULL)
        rc = load_certificates(tls, certificates, why);
    if (rc == 0 && psk != NULL)
        rc = load_keys(tls, psk, why);
    if (rc != 0) {
        nbd_tls_destroy(tls);
        return rc;
    }
    *out = tls;
    return 0;
}

void nbd_tls_destroy(struct nbd_tls *tls)
{
    if (tls == NULL)
        return;
    if (tls->certificates != NULL)
        gnutls_certificate_free_credentials(tls->certificates);
    if (tls->keys != NULL)
        gnutls_psk_free_server_credentials(tls->keys);
    if (tls->priority != NULL)
        gnutls_priority_deinit(tls->priority);
    free(tls);
}

/* ---- Sessions ---- */

static int set_up(struct nbd_tls *tls, gnutls_session_t session, int fd)
{
    int rc = gnutls_priority_set(session, tls->priority);
    if (rc >= 0 && tls->certificates != NULL)
        rc = gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, tls->certificates);
    if (rc >= 0 && tls->keys != NULL)
        rc = gnutls_credentials_set(session, GNUTLS_CRD_PSK, tls->keys);
    if (rc < 0)
        return -EPROTO;
    if (tls->verify) {
        gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
        gnutls_session_set_verify_cert(session, NULL, 0);
    }
    gnutls_transport_set_int(session, fd);
    return 0;
}

int tls_begin(struct nbd_tls *tls, int fd, struct nbd_tls_session **out)
{
    struct nbd_tls_session *s = calloc(1, sizeof *s);
    if (s == NULL)
        return -ENOMEM;
    if (gnutls_init(&s->session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) < 0) {
        free(s);
        return -ENOMEM;
    }
    int rc = set_up(tls, s->session, fd);
    if (rc != 0) {
        gnutls_deinit(s->session);
        free(s);
        return rc;
    }
    *out = s;
    return 0;
}

void tls_end(struct nbd_tls_session *s)
{
    /* As far as the socket takes it. */
    if (s->begun)
        (void)gnutls_bye(s->session, GNUTLS_SHUT_WR);
    gnutls_deinit(s->session);
    free(s);
}

static bool is_for_later(ssize_t rc)
{
    return rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED;
}

int tls_handshake(struct nbd_tls_session *s)
{
    int rc;
    /* Warnings end nothing. */
    do
        rc = gnutls_handshake(s->session);
    while (rc < 0 && !is_for_later(rc) && gnutls_error_is_fatal(rc) == 0);
    if (is_for_later(rc))
        return -EAGAIN;
    s->begun = rc == 0;
    return rc == 0 ? 0 : -EPROTO;
}

bool tls_wants_write(const struct nbd_tls_session *s)
{
    return gnutls_record_get_direction(s->session) == 1;
}

ssize_t tls_receive(struct nbd_tls_session *s, void *data, size_t len)
{
    ssize_t rc = gnutls_record_recv(s->session, data, len);
    if (rc >= 0)
        return rc;
    /* Who has gone without a word has gone. */
    if (rc == GNUTLS_E_PREMATURE_TERMINATION)
        return 0;
    return is_for_later(rc) ? -EAGAIN : -EPROTO;
}

bool tls_has_more(const struct nbd_tls_session *s)
{
    return gnutls_record_check_pending(s->session) > 0;
}

ssize_t tls_send(struct nbd_tls_session *s, const void *data, size_t len)
{
    ssize_t rc = gnutls_record_send(s->session, data, len);
    return rc >= 0 ? rc : is_for_later(rc) ? -EAGAIN : -EPROTO;
}

struct tls_stage *tls_stage(struct nbd_tls_session *s)
{
    return &s->stage;
}
