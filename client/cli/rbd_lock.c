/* limpet rbd: locks of images, and watching them. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/rbd.h"

/* Advisory locks are those of this name on the image's header; so librbd.so.1 has them, too. */
#define LOCK_NAME "rbd_lock"

static void header_name(struct limpet_image *image, char name[64])
{
    struct limpet_image_info info;
    rbd_info(image, &info);
    snprintf(name, 64, "rbd_header.%s", info.id);
}

static int lock_info(struct limpet_pool *pool, struct limpet_image *image,
                     struct limpet_lock_info **out)
{
    char header[64];
    header_name(image, header);
    return limpet_lock_info(pool, header, LOCK_NAME, out);
}

const char *rbd_lock_kind(struct limpet_pool *pool, struct limpet_image *image)
{
    struct limpet_lock_info *info;
    struct limpet_image_owner owner;
    const char *kind = "";
    if (lock_info(pool, image, &info) == 0) {
        if (info->n_holders > 0)
            kind = info->type == LIMPET_LOCK_EXCLUSIVE ? "excl" : "shr";
        limpet_free(info);
    }
    if (kind[0] == 0 && limpet_image_lock_owner(image, &owner) == 0)
        kind = "excl";
    return kind;
}

static bool is_locked(struct limpet_pool *pool, struct limpet_image *image)
{
    struct limpet_image_info image_info;
    struct limpet_lock_info *info;
    if (limpet_image_info(image, &image_info) != 0 ||
        (image_info.features & LIMPET_IMAGE_EXCLUSIVE_LOCK) == 0 ||
        lock_info(pool, image, &info) != 0)
        return false;
    bool is = info->n_holders > 0;
    limpet_free(info);
    return is;
}

int rbd_check_unlocked(const struct rbd_run *run)
{
    return is_locked(run->pool, run->image) ? -EROFS : 0;
}

bool rbd_is_locked(struct limpet_pool *pool, const char *name)
{
    struct limpet_image *image;
    if (limpet_image_open(pool, name, NULL, LIMPET_IMAGE_READ_ONLY, &image) != 0)
        return false;
    bool is = is_locked(pool, image);
    limpet_image_close(image);
    return is;
}

int rbd_lock_add(struct cli *cli)
{
    struct rbd_run run;
    char header[64];
    const char *tag = cli_text(cli, "shared", NULL);
    const char *id = cli->n_words > 1 ? cli->words[1] : cli_text(cli, "lock-id", NULL);
    if (id == NULL)
        fail(EINVAL, "lock id was not specified");
    rbd_begin(cli, RBD_IMAGE, false, &run);
    header_name(run.image, header);
    int code = 0, rc = limpet_lock(run.pool, header, LOCK_NAME,
                                   tag != NULL ? LIMPET_LOCK_SHARED : LIMPET_LOCK_EXCLUSIVE, id,
                                   tag != NULL ? tag : "", "", 0, 0);
    if (rc == -EBUSY || rc == -EEXIST)
        code = complain(rc, "lock is already held by someone else%s; 'rbd lock ls' shows by whom",
                        tag != NULL ? " with a different tag" : "");
    else if (rc != 0)
        code = complain(rc, "taking lock failed: %s", error_phrase(rc));
    return rbd_end(&run, code);
}

/* ---- ls ---- */

struct lockers {
    struct table *table;
    json_t *json;
    size_t n;
};

static void show_locker(struct lockers *l, uint64_t instance, const char *id, const char *address)
{
    char client[64];
    snprintf(client, sizeof client, "client.%" PRIu64, instance);
    table_cell(l->table, "%s", client);
    table_cell(l->table, "%s", id);
    table_cell(l->table, "%s", address);
    json_array_append_new(
        l->json, json_pack("{s:s, s:s, s:s}", "id", id, "locker", client, "address", address));
    l->n++;
}

int rbd_lock_ls(struct cli *cli)
{
    struct rbd_run run;
    struct limpet_lock_info *info;
    struct limpet_image_owner owner;
    struct lockers l = {.table = table_create("lll"), .json = json_array()};
    rbd_begin(cli, RBD_IMAGE, false, &run);
    int rc = lock_info(run.pool, run.image, &info);
    if (rc != 0)
        return rbd_end(&run, complain(rc, "listing locks failed: %s", error_phrase(rc)));
    table_cell(l.table, "Locker");
    table_cell(l.table, "ID");
    table_cell(l.table, "Address");
    bool shared = info->n_holders > 0 && info->type == LIMPET_LOCK_SHARED;
    for (size_t i = 0; i < info->n_holders; i++)
        show_locker(&l, info->holders[i].instance, info->holders[i].cookie,
                    info->holders[i].address);
    /* The exclusive lock of who writes is one, too. */
    if (l.n == 0 && limpet_image_lock_owner(run.image, &owner) == 0) {
        char id[64];
        snprintf(id, sizeof id, "auto %" PRIu64, owner.cookie);
        show_locker(&l, owner.instance, id, owner.address);
    }
    if (rbd_wants_json(cli)) {
        rbd_print_json(cli, json_incref(l.json));
    } else if (l.n > 0) {
        printf("There %s %zu %s lock%s on this image.\n", l.n == 1 ? "is" : "are", l.n,
               shared ? "shared" : "exclusive", l.n == 1 ? "" : "s");
        if (shared)
            printf("Lock tag: %s\n", info->tag);
        table_print_titled(l.table);
    }
    limpet_free(info);
    table_destroy(l.table);
    json_decref(l.json);
    return rbd_end(&run, 0);
}

/* ---- rm ---- */

/* "client.4123" */
static bool parse_client(const char *text, uint64_t *instance)
{
    char *end;
    if (strncmp(text, "client.", 7) != 0 || text[7] < '0' || text[7] > '9')
        return false;
    *instance = strtoull(text + 7, &end, 10);
    return *end == 0;
}

int rbd_lock_rm(struct cli *cli)
{
    struct rbd_run run;
    char header[64];
    uint64_t instance;
    int code = 0, rc;
    if (cli->n_words < 2)
        fail(EINVAL, "lock id was not specified");
    if (cli->n_words < 3)
        fail(EINVAL, "locker was not specified; 'rbd lock ls' shows it");
    const char *id = cli->words[1], *locker = cli->words[2];
    if (!parse_client(locker, &instance))
        fail(EINVAL, "'%s' is no locker such as client.4123; 'rbd lock ls' shows it", locker);
    rbd_begin(cli, RBD_IMAGE, false, &run);
    header_name(run.image, header);
    if (strncmp(id, "auto ", 5) == 0)
        rc = limpet_image_lock_break(run.image, instance);
    else
        rc = limpet_lock_break(run.pool, header, LOCK_NAME, instance, id);
    if (rc != 0)
        code = complain(rc, "releasing lock failed: %s", error_phrase(rc));
    return rbd_end(&run, code);
}

/* ---- watch ---- */

static void changed(void *arg)
{
    const struct rbd_spec *spec = arg;
    printf("%s received notification: header update\n", rbd_spec_text(spec));
    fflush(stdout);
}

int rbd_watch(struct cli *cli)
{
    struct rbd_run run;
    uint64_t cookie;
    char byte;
    rbd_begin(cli, RBD_IMAGE, true, &run);
    int rc = limpet_image_watch(run.image, changed, &run.spec, &cookie);
    if (rc != 0)
        return rbd_end(&run, complain(rc, "watch failed: %s", error_phrase(rc)));
    printf("press enter to exit...\n");
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) == 1 && byte != '\n')
        continue;
    limpet_image_unwatch(run.image, cookie);
    return rbd_end(&run, 0);
}
