/*
 * Objects through liblimpet:
 *
 *     cc native.c -o native $(pkg-config --cflags --libs limpet)
 *     LIMPET_CONF=/etc/limpet/limpet.conf ./native POOL
 *
 * Notes with a number each, in the map of one object: the number is taken and the note written at
 * once, however many processes do so.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <limpet/object.h>

static void fail(const char *what, int rc)
{
    fprintf(stderr, "native: %s: %s\n", what, limpet_error_text(rc));
    exit(1);
}

static void must(const char *what, int rc)
{
    if (rc != 0)
        fail(what, rc);
}

/* How many notes there are; 0 where there is no object yet. */
static uint32_t count_of(struct limpet_pool *pool)
{
    struct limpet_op *op = limpet_op_create();
    void *header = NULL;
    size_t len = 0;
    uint32_t count = 0;
    must("a step", limpet_op_omap_get_header(op, &header, &len, NULL));
    int rc = limpet_operate(pool, "notes", op, NULL);
    limpet_op_destroy(op);
    if (rc != 0 && rc != -ENOENT)
        fail("reading the number", rc);
    if (len == sizeof count)
        memcpy(&count, header, sizeof count);
    limpet_free(header);
    return count;
}

/* -EEXIST or -ECANCELED: another process was faster. */
static int add_note(struct limpet_pool *pool, uint32_t count, const char *text)
{
    uint32_t next = count + 1;
    char key[16];
    snprintf(key, sizeof key, "%010u", next);
    struct limpet_pair note = {
        .key = key, .key_len = strlen(key), .value = text, .value_len = strlen(text)};
    struct limpet_pair none = {.key = key, .key_len = strlen(key), .value = "", .value_len = 0};
    struct limpet_op *op = limpet_op_create();
    must("a step", limpet_op_create_object(op, count == 0));
    must("a step", limpet_op_omap_compare(op, &none, LIMPET_EQUAL, NULL));
    must("a step", limpet_op_omap_set(op, &note, 1));
    must("a step", limpet_op_omap_set_header(op, &next, sizeof next));
    int rc = limpet_operate(pool, "notes", op, NULL);
    limpet_op_destroy(op);
    return rc;
}

static void print_notes(struct limpet_pool *pool)
{
    struct limpet_op *op = limpet_op_create();
    struct limpet_pairs *notes = NULL;
    struct limpet_pair note;
    bool more;
    must("a step", limpet_op_omap_list(op, NULL, 0, NULL, 0, 100, &notes, &more, NULL));
    must("reading the notes", limpet_operate(pool, "notes", op, NULL));
    while (limpet_pairs_next(notes, &note) == 0)
        printf("%.*s %.*s\n", (int)note.key_len, (const char *)note.key, (int)note.value_len,
               (const char *)note.value);
    limpet_pairs_destroy(notes);
    limpet_op_destroy(op);
}

int main(int argc, char **argv)
{
    struct limpet_cluster *cluster;
    struct limpet_pool *pool;
    if (argc != 2) {
        fprintf(stderr, "usage: native POOL\n");
        return 2;
    }
    must("a handle", limpet_cluster_create(&cluster, NULL));
    must("the configuration", limpet_cluster_config_file(cluster, NULL));
    must("connecting", limpet_cluster_connect(cluster));
    must(argv[1], limpet_pool_open(cluster, argv[1], &pool));
    int rc;
    do {
        rc = add_note(pool, count_of(pool), "hello");
    } while (rc == -EEXIST || rc == -ECANCELED);
    must("adding a note", rc);
    print_notes(pool);
    limpet_pool_close(pool);
    limpet_cluster_destroy(cluster);
    return 0;
}
