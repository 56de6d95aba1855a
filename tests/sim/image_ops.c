/*
 * What clients do with images, and what the model says of it. Each operation is noted before it
 * begins, so that whoever lives on knows what a dead client may have done.
 */
#include "tests/sim/images_impl.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/image/stripe.h"

#define SIZE_MAX_BYTES ((uint64_t)GRANULES_MAX * GRANULE)

static const char *const kind_names[IMAGE_OPS_END] = {
    "read",      "write",    "zero",   "same",    "compare", "flush", "snap",   "snap-remove",
    "snap-read", "rollback", "resize", "flatten", "diff",    "check", "stream", "group",
    "create",    "remove",   "clone",  "rename",  "trash",   "mend",
};

/* ---- Operations ---- */

static bool is_io(enum image_op_kind kind)
{
    return kind <= IMAGE_OP_FLUSH;
}

static bool is_write(enum image_op_kind kind)
{
    return is_io(kind) && kind != IMAGE_OP_READ && kind != IMAGE_OP_FLUSH;
}

/* Changes of the whole image, one at a time; others go on reading and writing. */
static bool is_maintenance(enum image_op_kind kind)
{
    return kind >= IMAGE_OP_SNAP && kind <= IMAGE_OP_GROUP;
}

/* Those after which the image may be there, or not. */
static bool is_structural(enum image_op_kind kind)
{
    return kind >= IMAGE_OP_CREATE;
}

/* For whoever reads the log. */
static void op_log(const struct image_op *op, const char *what, int64_t result)
{
    sim_log(op->images->cluster->sim, sim_node_name(op->client->client->member.node),
            "%s %s, %s, %" PRIu64 ": granules %u+%u %s result=%" PRId64, kind_names[op->kind], what,
            op->image->name, op->serial, op->first, op->n, op->snap ? op->snap->name : "", result);
}

struct image_op *image_op_begin(struct image_client *client, enum image_op_kind kind,
                                struct image_model *image)
{
    struct images *images = client->images;
    struct image_op *op = calloc(1, sizeof *op);
    if (!op)
        abort();
    *op = (struct image_op){.images = images,
                            .client = client,
                            .kind = kind,
                            .image = image,
                            .serial = ++images->serials,
                            .call = images_now(images),
                            .passed = CELL_NEVER};
    TAILQ_INSERT_TAIL(&images->ops, op, link);
    op_log(op, "begins", 0);
    if (!is_structural(kind))
        image->users++;
    if (is_maintenance(kind))
        image->maintained = true;
    if (is_structural(kind))
        image->busy = true;
    return op;
}

/* From when on something is asked that is not answered yet. */
static uint64_t oldest(const struct images *images, const struct image_model *image)
{
    uint64_t from = images_now(images);
    const struct image_op *op;
    TAILQ_FOREACH(op, &images->ops, link)
    {
        if (op->image == image && op->call < from)
            from = op->call;
    }
    for (uint32_t i = 0; i < IMAGE_SNAPS_MAX; i++) {
        const struct image_snap_model *snap = &image->snaps[i];
        if (snap->used && !snap->read && snap->call < from)
            from = snap->call;
    }
    return from;
}

static void prune(struct image_model *image, uint64_t from)
{
    cell_prune(&image->size, from);
    for (uint32_t i = 0; i < GRANULES_MAX; i++)
        cell_prune(&image->cells[i], from);
}

static void op_free(struct image_op *op)
{
    struct images *images = op->images;
    struct image_model *image = op->image;
    TAILQ_REMOVE(&images->ops, op, link);
    if (!is_structural(op->kind))
        image->users--;
    if (is_maintenance(op->kind))
        image->maintained = false;
    if (is_structural(op->kind))
        image->busy = false;
    if (op->other) {
        op->other->users--;
        op->other->maintained = false;
    }
    prune(image, oldest(images, image));
    free(op->data);
    free(op);
}

void image_op_end(struct image_op *op, int64_t result)
{
    struct images *images = op->images;
    op_log(op, "ends", result);
    images->n_done++;
    sim_note(images->cluster->sim, op->serial ^ (uint64_t)result);
    op_free(op);
}

/* All that a change of the whole image writes. */
static void all_cells(struct image_op *op, void (*what)(struct cell *, uint64_t, uint64_t),
                      uint64_t now)
{
    what(&op->image->size, op->serial, now);
    for (uint32_t i = 0; i < GRANULES_MAX; i++)
        what(&op->image->cells[i], op->serial, now);
}

void image_op_lost(struct image_op *op)
{
    uint64_t now = images_now(op->images);
    op_log(op, "is lost", 0);
    for (uint32_t i = op->first; is_write(op->kind) && i < op->first + op->n; i++) {
        struct cell *cell = &op->image->cells[i];
        /* What has not passed the gate nobody has sent. Encrypted images pass others. */
        if (op->passed == CELL_NEVER && op->image->encrypted == 0)
            cell_cancel(cell, op->serial);
        else
            cell_lost(cell, op->serial, now);
    }
    if (is_maintenance(op->kind))
        all_cells(op, cell_lost, now);
    op_free(op);
}

/*
 * An error that is not explained by the operation itself: the process is blocked; or, of one that
 * is not a read or a write, it has not answered its own notify, since it stood still. Nobody knows
 * what was done.
 */
void image_op_failed(struct image_op *op, int64_t error)
{
    struct images *images = op->images;
    struct image_client *client = op->client;
    bool explained =
        error == -ESHUTDOWN || (!is_io(op->kind) && (error == -ETIMEDOUT || error == -EIO));
    if (!explained)
        images_fail(images, op->image, "%s fails with %" PRId64, kind_names[op->kind], error);
    image_op_lost(op);
    if (error == -ESHUTDOWN)
        image_client_blocked(client);
}

struct limpet_image *image_op_handle(struct image_op *op)
{
    int error;
    struct limpet_image *handle = image_handle_take(op->client, op->image, &error);
    if (!handle)
        image_op_failed(op, error);
    return handle; /* NULL: the operation has ended. */
}

/* ---- Contents ---- */

static void fill(uint8_t *data, uint32_t n, uint64_t value)
{
    for (size_t i = 0; i < (size_t)n * GRANULE; i += sizeof value)
        memcpy(data + i, &value, sizeof value);
}

/* What a granule holds; false: no one value. */
bool image_value_of(const uint8_t *data, uint64_t *value)
{
    memcpy(value, data, sizeof *value);
    return memcmp(data, data + sizeof *value, GRANULE - sizeof *value) == 0;
}

static void print_cell(const struct image_model *image, uint32_t at, const struct cell *cell)
{
    fprintf(stderr, "%s, granule %u of life %" PRIu64 ":\n", image->name, at, image->life);
    for (uint32_t i = 0; i < cell->n; i++) {
        const struct cell_write *w = &cell->writes[i];
        fprintf(stderr,
                "  %" PRIu64 " by client %u (operation %" PRIu64 "): asked %.6f passed %.6f "
                "done by %.6f seen at %.6f until %.6f gone %.6f%s\n",
                w->value, w->client, w->serial, (double)w->call / 1e9,
                w->passed == CELL_NEVER ? -1 : (double)w->passed / 1e9,
                w->first == CELL_NEVER ? -1 : (double)w->first / 1e9, (double)w->last / 1e9,
                w->until == CELL_NEVER ? -1 : (double)w->until / 1e9,
                w->gone == CELL_NEVER ? -1 : (double)w->gone / 1e9, w->under_way ? " ..." : "");
    }
}

/* One granule was read between two moments. */
void image_judge(struct images *images, struct image_model *image, uint32_t at, const uint8_t *data,
                 uint64_t call, uint64_t end, const char *what)
{
    uint64_t value;
    if (images->cluster->failed)
        return;
    if (!image_value_of(data, &value)) {
        images_fail(images, image, "image-torn: %s of granule %u gives two values", what, at);
        return;
    }
    if (cell_read(&image->cells[at], value, call, end))
        return;
    print_cell(image, at, &image->cells[at]);
    images_fail(images, image,
                "image-reads: %s of granule %u gives %" PRIu64 " between %.6f and %.6f", what, at,
                value, (double)call / 1e9, (double)end / 1e9);
}

void image_judge_size(struct images *images, struct image_model *image, uint64_t n, uint64_t call,
                      uint64_t end, const char *what)
{
    if (images->cluster->failed || cell_read(&image->size, n, call, end))
        return;
    print_cell(image, UINT32_MAX, &image->size);
    images_fail(images, image, "image-size: %s finds %" PRIu64 " granules between %.6f and %.6f",
                what, n, (double)call / 1e9, (double)end / 1e9);
}

/* ---- Reading and writing ---- */

static void io_done(ssize_t result, void *arg)
{
    struct image_op *op = arg;
    op->result = result;
    op->end = images_now(op->images);
    op->done = true;
    fiber_wake(op, true);
}

static struct stripe stripe_of(const struct image_model *image)
{
    return (struct stripe){.order = image->order, .unit = image->unit, .count = image->count};
}

static uint64_t object_of(const struct image_model *image, uint32_t granule)
{
    struct stripe stripe = stripe_of(image);
    return stripe_first(&stripe, (uint64_t)granule * GRANULE, GRANULE).object;
}

static void choose_range(struct image_op *op)
{
    struct images *images = op->images;
    uint32_t size = (uint32_t)cell_guess(&op->image->size);
    op->first = (uint32_t)images_below(images, size + 2);
    op->n = 1 + (uint32_t)images_below(images, images_below(images, 4) ? 3 : 24);
    if (images_below(images, 30) == 0) {
        op->first = 0;
        op->n = GRANULES_MAX;
    }
    if (op->first >= GRANULES_MAX)
        op->first = GRANULES_MAX - 1;
    if (op->n > GRANULES_MAX - op->first)
        op->n = GRANULES_MAX - op->first;
    if (op->kind == IMAGE_OP_COMPARE)
        op->n = 1;
    if (op->kind == IMAGE_OP_FLUSH)
        op->n = 0;
}

static int io_submit(struct image_op *op, struct limpet_image *handle)
{
    struct images *images = op->images;
    uint64_t offset = (uint64_t)op->first * GRANULE;
    size_t len = (size_t)op->n * GRANULE;
    switch (op->kind) {
    case IMAGE_OP_READ:
        return limpet_image_aio_read(handle, op->data, len, offset, 0, io_done, op);
    case IMAGE_OP_WRITE:
        fill(op->data, op->n, op->value);
        return limpet_image_aio_write(handle, op->data, len, offset, 0, io_done, op);
    case IMAGE_OP_SAME:
        fill(op->data, 1, op->value);
        return limpet_image_aio_write_same(handle, op->data, GRANULE, len, offset, 0, io_done, op);
    case IMAGE_OP_ZERO:
        if (images_below(images, 2) == 0)
            return limpet_image_aio_discard(handle, len, offset, io_done, op);
        return limpet_image_aio_write_zeroes(
            handle, len, offset, images_below(images, 2) ? 0 : LIMPET_IMAGE_ZEROES_WRITTEN, io_done,
            op);
    case IMAGE_OP_COMPARE:
        fill(op->data, 1, op->expected);
        fill(op->data + GRANULE, 1, op->value);
        return limpet_image_aio_compare_and_write(handle, op->data, op->data + GRANULE, GRANULE,
                                                  offset, &op->mismatch, io_done, op);
    default:
        return limpet_image_aio_flush(handle, io_done, op);
    }
}

void image_early_end(struct image_client *client, const struct image_model *image, uint64_t upto,
                     bool done)
{
    struct images *images = client->images;
    struct image_early *early, *next;
    uint64_t now = images_now(images);
    for (early = TAILQ_FIRST(&images->early); early; early = next) {
        next = TAILQ_NEXT(early, link);
        if (early->client != client || (image && early->image != image) || early->end > upto)
            continue;
        for (uint32_t i = early->first;
             early->life == early->image->life && i < early->first + early->n; i++) {
            struct cell *cell = &early->image->cells[i];
            if (done)
                cell_done(cell, early->serial, now);
            else
                cell_lost(cell, early->serial, now);
        }
        TAILQ_REMOVE(&images->early, early, link);
        free(early);
    }
}

/* It may have been answered early: only a flush tells that it was done. */
static void note_early(struct image_op *op)
{
    uint32_t done = op->result > 0 ? (uint32_t)(op->result / GRANULE) : 0;
    for (uint32_t i = done; i < op->n; i++)
        cell_cancel(&op->image->cells[op->first + i], op->serial);
    if (done == 0)
        return;
    struct image_early *early = calloc(1, sizeof *early);
    if (!early)
        abort();
    *early = (struct image_early){.client = op->client,
                                  .image = op->image,
                                  .life = op->image->life,
                                  .serial = op->serial,
                                  .end = op->end,
                                  .first = op->first,
                                  .n = done};
    TAILQ_INSERT_TAIL(&op->images->early, early, link);
}

static void note_written(struct image_op *op)
{
    struct image_model *image = op->image;
    uint32_t done = op->result > 0 ? (uint32_t)(op->result / GRANULE) : 0;
    for (uint32_t i = 0; i < op->n; i++) {
        struct cell *cell = &image->cells[op->first + i];
        if (i < done)
            cell_done(cell, op->serial, op->end);
        else
            cell_cancel(cell, op->serial);
    }
    if (!image->exclusive || op->kind == IMAGE_OP_ZERO || done == 0 || op->entered == 0)
        return;
    /* All objects that it has written to. */
    for (uint32_t g = 0; g < GRANULES_MAX; g++) {
        bool touched = false;
        for (uint32_t i = op->first; i < op->first + done; i++)
            touched |= object_of(image, i) == object_of(image, g);
        if (touched)
            cell_taken_over(&image->cells[g], op->client->number, op->entered,
                            g >= op->first && g < op->first + done, op->end);
    }
}

static void note_read(struct image_op *op)
{
    uint32_t done = (uint32_t)(op->result / GRANULE);
    for (uint32_t i = 0; i < done; i++)
        image_judge(op->images, op->image, op->first + i, op->data + (size_t)i * GRANULE, op->call,
                    op->end, "a read");
    /*
     * None: it waited, and the image ended before it. Who has not noticed yet that it has lost its
     * watch may know an old size.
     */
    if (done > 0 && done < op->n && op->owner)
        image_judge_size(op->images, op->image, op->first + done, op->call, op->end, "a read");
}

static void note_io(struct image_op *op)
{
    struct images *images = op->images;
    /* It lies beyond the end, or there is something else. */
    bool refused = op->result == -EINVAL || op->result == -EILSEQ;
    if (op->result == -EILSEQ && op->mismatch >= GRANULE)
        images_fail(images, op->image, "a comparison fails at byte %" PRIu64, op->mismatch);
    if (refused)
        op->result = 0;
    if (op->result % GRANULE != 0 || op->result > (ssize_t)op->n * GRANULE)
        images_fail(images, op->image, "operation %d gives %zd", op->kind, op->result);
    else if (is_write(op->kind) && op->cached && op->kind != IMAGE_OP_COMPARE)
        note_early(op);
    else if (is_write(op->kind))
        note_written(op);
    else if (op->kind == IMAGE_OP_FLUSH && op->cached)
        image_early_end(op->client, op->image, op->call, true);
    else if (op->kind == IMAGE_OP_READ && !refused)
        note_read(op);
    if (op->kind == IMAGE_OP_COMPARE && op->result > 0) {
        uint8_t expected[GRANULE];
        fill(expected, 1, op->expected);
        image_judge(images, op->image, op->first, expected, op->call, op->end, "a comparison");
    }
}

static void run_io(struct image_client *client, struct image_model *image, enum image_op_kind kind)
{
    struct images *images = client->images;
    struct image_op *op = image_op_begin(client, kind, image);
    struct limpet_image *handle = image_op_handle(op);
    if (!handle)
        return;
    choose_range(op);
    op->cached = image_handle_is_cached(client, image);
    op->call = images_now(images);
    op->data = calloc(op->n + 2, GRANULE);
    if (!op->data)
        abort();
    op->value = kind == IMAGE_OP_ZERO ? 0 : op->serial;
    if (kind == IMAGE_OP_COMPARE)
        op->expected = cell_guess(&image->cells[op->first]);
    for (uint32_t i = op->first; is_write(kind) && i < op->first + op->n; i++)
        cell_begin(&image->cells[i], op->serial, op->value, client->number, op->call);
    int rc = io_submit(op, handle);
    if (rc != 0)
        io_done(rc, op);
    while (!op->done)
        fiber_wait(op);
    if (limpet_image_lock_is_owner(handle, &op->owner) != 0)
        op->owner = false;
    image_handle_give(client, image);
    if (op->result < 0 && op->result != -EINVAL && op->result != -EILSEQ) {
        image_op_failed(op, op->result);
        return;
    }
    note_io(op);
    image_op_end(op, op->result);
}

/* ---- Snapshots ---- */

struct image_snap_model *image_snap_choose(struct images *images, struct image_model *image,
                                           bool (*fits)(const struct image_snap_model *snap))
{
    struct image_snap_model *found = NULL;
    uint64_t n = 0;
    for (uint32_t i = 0; i < IMAGE_SNAPS_MAX; i++) {
        if (fits(&image->snaps[i]) && images_below(images, ++n) == 0)
            found = &image->snaps[i];
    }
    return found;
}

static bool snap_is_free(const struct image_snap_model *snap)
{
    return !snap->used;
}

static bool snap_is_used(const struct image_snap_model *snap)
{
    return snap->used;
}

bool image_snap_is_read(const struct image_snap_model *snap)
{
    return snap->used && snap->known && snap->read && !snap->going;
}

static bool snap_is_unread(const struct image_snap_model *snap)
{
    return snap->used && !snap->read && !snap->going;
}

static bool has_snaps(const struct image_model *image)
{
    for (uint32_t i = 0; i < IMAGE_SNAPS_MAX; i++) {
        if (image->snaps[i].used)
            return true;
    }
    return false;
}

static void compare_snap(struct images *images, struct image_model *image,
                         struct image_snap_model *snap, const uint8_t *data, uint32_t n)
{
    if (n != snap->n)
        images_fail(images, image, "image-snap: %s had %u granules, and has %u", snap->name,
                    snap->n, n);
    for (uint32_t i = 0; i < n && !images->cluster->failed; i++) {
        uint64_t value;
        if (!image_value_of(data + (size_t)i * GRANULE, &value) || value != snap->values[i])
            images_fail(images, image,
                        "image-snap: granule %u of %s was %" PRIu64 ", and is %" PRIu64, i,
                        snap->name, snap->values[i], value);
    }
}

/* What it shows when it is read first, is what the image was when it was made. */
static void learn_snap(struct images *images, struct image_model *image,
                       struct image_snap_model *snap, const uint8_t *data, uint32_t n)
{
    image_judge_size(images, image, n, snap->call, snap->end, snap->name);
    snap->n = n;
    for (uint32_t i = 0; i < n && !images->cluster->failed; i++) {
        image_judge(images, image, i, data + (size_t)i * GRANULE, snap->call, snap->end,
                    snap->name);
        (void)image_value_of(data + (size_t)i * GRANULE, &snap->values[i]);
    }
    snap->read = true;
    sim_log(images->cluster->sim, image->name, "%s has %u granules", snap->name, n);
}

static int read_open_snap(struct image_op *op, struct limpet_image *handle)
{
    struct images *images = op->images;
    struct image_snap_model *snap = op->snap;
    struct limpet_image_info info;
    int rc = limpet_image_info(handle, &info);
    if (rc != 0)
        return rc;
    if (info.size > SIZE_MAX_BYTES || info.size % GRANULE != 0) {
        images_fail(images, op->image, "%s has %" PRIu64 " bytes", snap->name, info.size);
        return 0;
    }
    ssize_t got = info.size > 0 ? limpet_image_read(handle, op->data, info.size, 0, 0) : 0;
    if (got < 0)
        return (int)got;
    if ((uint64_t)got != info.size)
        images_fail(images, op->image, "of %s, %zd bytes are read", snap->name, got);
    if (snap->going)
        return 0;
    if (snap->read)
        compare_snap(images, op->image, snap, op->data, (uint32_t)(info.size / GRANULE));
    else
        learn_snap(images, op->image, snap, op->data, (uint32_t)(info.size / GRANULE));
    return 0;
}

int image_snap_open(struct image_op *op, const struct image_snap_model *snap,
                    struct limpet_image **out)
{
    int rc = limpet_image_open(op->client->pool, op->image->name, snap->name,
                               LIMPET_IMAGE_READ_ONLY, out);
    if (rc == 0 && op->image->encrypted > 0)
        image_decrypt_inside(*out, op->image->encrypted, image_hidden(op->image));
    return rc;
}

/* op->snap, with a handle of its own. */
static int read_snap(struct image_op *op)
{
    struct images *images = op->images;
    struct image_snap_model *snap = op->snap;
    struct limpet_image *handle;
    if (!op->data)
        op->data = calloc(GRANULES_MAX, GRANULE);
    if (!op->data)
        abort();
    int rc = image_snap_open(op, snap, &handle);
    if (rc == -ENOENT && snap->known && !snap->going)
        images_fail(images, op->image, "image-snap: %s is gone", snap->name);
    if (rc == -ENOENT && snap->going)
        snap->used = false;
    if (rc != 0)
        return rc == -ENOENT ? 0 : rc;
    if (!snap->known) {
        snap->known = true;
        snap->end = images_now(images);
    }
    rc = read_open_snap(op, handle);
    int closed = limpet_image_close(handle);
    if (rc == -ENOENT && snap->going)
        rc = 0;
    return rc != 0 ? rc : closed;
}

static int make_snap(struct image_op *op, struct limpet_image *handle)
{
    struct images *images = op->images;
    struct image_snap_model *snap = image_snap_choose(images, op->image, snap_is_free);
    if (!snap)
        return 0;
    *snap = (struct image_snap_model){.used = true, .call = images_now(images), .end = CELL_NEVER};
    snprintf(snap->name, sizeof snap->name, "snap%" PRIu64, op->serial);
    op->snap = snap;
    op_log(op, "makes one", 0);
    int rc = limpet_image_snap_create(handle, snap->name);
    if (rc != 0)
        return rc;
    snap->known = true;
    snap->end = images_now(images);
    return read_snap(op);
}

static int remove_snap(struct image_op *op, struct limpet_image *handle)
{
    struct image_snap_model *snap = image_snap_choose(op->images, op->image, snap_is_used);
    if (!snap || !snap->known)
        return 0;
    bool was_going = snap->going;
    op->snap = snap;
    snap->going = true;
    int rc = limpet_image_snap_remove(handle, snap->name, NULL, NULL);
    if (rc == -ENOENT && was_going)
        rc = 0;
    if (rc == 0)
        snap->used = false;
    return rc;
}

/* Those that the image has are those that somebody has made. */
static int look_at_snaps(struct image_op *op, struct limpet_image *handle)
{
    struct image_model *image = op->image;
    struct limpet_image_snap *list;
    size_t n;
    for (uint32_t i = 0; i < IMAGE_SNAPS_MAX; i++)
        image->snaps[i].seen = false;
    int rc = limpet_image_refresh(handle);
    if (rc == 0)
        rc = limpet_image_snap_list(handle, &list, &n);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < n; i++) {
        struct image_snap_model *snap = NULL;
        for (uint32_t j = 0; j < IMAGE_SNAPS_MAX; j++) {
            if (image->snaps[j].used && strcmp(image->snaps[j].name, list[i].name) == 0)
                snap = &image->snaps[j];
        }
        if (list[i].kind == LIMPET_IMAGE_SNAP_TRASH)
            continue;
        if (list[i].kind == LIMPET_IMAGE_SNAP_GROUP) {
            if (!images_have_groups(op->images))
                images_fail(op->images, image, "image-group: %s is left", list[i].name);
            continue;
        }
        if (!snap) {
            images_fail(op->images, image, "image-snap: nobody has made %s", list[i].name);
            continue;
        }
        snap->seen = true;
        if (!snap->known) {
            snap->known = true;
            snap->end = images_now(op->images);
        }
    }
    limpet_free(list);
    for (uint32_t i = 0; i < IMAGE_SNAPS_MAX; i++) {
        const struct image_snap_model *snap = &image->snaps[i];
        if (snap->used && snap->known && !snap->going && !snap->seen)
            images_fail(op->images, image, "image-snap: %s is not in the list", snap->name);
    }
    return 0;
}

static int look_at_snap(struct image_op *op, struct limpet_image *handle)
{
    struct images *images = op->images;
    op->snap = image_snap_choose(images, op->image, snap_is_unread);
    if (!op->snap)
        op->snap = image_snap_choose(images, op->image, snap_is_used);
    int rc = images_below(images, 2) == 0 ? look_at_snaps(op, handle) : 0;
    return rc == 0 && op->snap && op->snap->used ? read_snap(op) : rc;
}

/* ---- The whole image ---- */

/* What was asked for has happened, or not; -ESHUTDOWN: nobody knows. */
static void note_all(struct image_op *op, int rc)
{
    uint64_t now = images_now(op->images);
    if (rc == 0)
        all_cells(op, cell_done, now);
}

static int roll_back(struct image_op *op, struct limpet_image *handle)
{
    struct image_model *image = op->image;
    struct image_snap_model *snap = image_snap_choose(op->images, image, image_snap_is_read);
    uint64_t now = images_now(op->images);
    if (!snap)
        return 0;
    op->snap = snap;
    op->first = snap->n;
    /* Who has lost the lease amid it begins anew when it has the lease again. */
    for (int time = 0; time < 2; time++) {
        cell_begin(&image->size, op->serial, snap->n, op->client->number, now);
        for (uint32_t i = 0; i < GRANULES_MAX; i++)
            cell_begin(&image->cells[i], op->serial, i < snap->n ? snap->values[i] : 0,
                       op->client->number, now);
    }
    int rc = limpet_image_snap_rollback(handle, snap->name, NULL, NULL);
    if (rc == -EROFS)
        rc = roll_back_all_the_same(handle, snap->name);
    note_all(op, rc);
    return rc;
}

static int resize(struct image_op *op, struct limpet_image *handle)
{
    struct image_model *image = op->image;
    uint32_t n = image_rounded(image, 1 + (uint32_t)images_below(op->images, GRANULES_MAX));
    uint64_t now = images_now(op->images);
    cell_begin(&image->size, op->serial, n, op->client->number, now);
    for (uint32_t i = n; i < GRANULES_MAX; i++)
        cell_begin(&image->cells[i], op->serial, 0, op->client->number, now);
    op->first = n;
    int rc = limpet_image_resize(handle, (uint64_t)n * GRANULE + image_hidden(op->image), true,
                                 NULL, NULL);
    note_all(op, rc);
    return rc;
}

static int flatten(struct image_op *op, struct limpet_image *handle)
{
    if (op->image->parent < 0)
        return 0;
    int rc = limpet_image_flatten(handle, NULL, NULL);
    /* It was flattened before. */
    return rc == -EINVAL ? 0 : rc;
}

static int check_map(struct image_op *op, struct limpet_image *handle)
{
    if (!op->image->has_map)
        return 0;
    int rc = limpet_image_check_object_map(handle, NULL, NULL);
    if (rc == -EILSEQ)
        images_fail(op->images, op->image,
                    "image-map: the object map does not know of an object that exists");
    return rc == -EILSEQ ? 0 : rc;
}

struct difference {
    bool covered[GRANULES_MAX];
    bool zero[GRANULES_MAX];
};

static int note_extent(uint64_t offset, uint64_t len, bool exists, void *arg)
{
    struct difference *d = arg;
    for (uint64_t i = 0; i < GRANULES_MAX; i++) {
        bool inside = offset <= i * GRANULE && (i + 1) * GRANULE <= offset + len;
        d->covered[i] = d->covered[i] || inside;
        d->zero[i] = d->zero[i] || (inside && !exists);
    }
    return 0;
}

/* All that is different must be named; from NULL: all that is not zeroes. */
static void judge_diff(struct image_op *op, const struct image_snap_model *from,
                       const struct image_snap_model *to, const struct difference *d)
{
    for (uint32_t i = 0; i < to->n; i++) {
        uint64_t old = from && i < from->n ? from->values[i] : 0, new = to->values[i];
        if (new != old && !d->covered[i])
            images_fail(op->images, op->image,
                        "image-diff: from %s to %s granule %u changes from %" PRIu64 " to %" PRIu64
                        ", and is not named",
                        from ? from->name : "nothing", to->name, i, old, new);
        if (d->zero[i] && new != 0)
            images_fail(op->images, op->image,
                        "image-diff: from %s to %s granule %u is called zeroes, and is %" PRIu64,
                        from ? from->name : "nothing", to->name, i, new);
    }
}

static int diff(struct image_op *op)
{
    struct images *images = op->images;
    const struct image_snap_model *from = image_snap_choose(images, op->image, image_snap_is_read);
    const struct image_snap_model *to = image_snap_choose(images, op->image, image_snap_is_read);
    struct limpet_image *handle;
    struct difference d = {0};
    if (!to || (from != to && from->end >= to->call))
        return 0;
    if (from == to)
        from = NULL;
    int rc = image_snap_open(op, to, &handle);
    if (rc != 0)
        return rc;
    rc = limpet_image_diff(handle, from ? from->name : NULL, 0, UINT64_MAX, true,
                           images_below(images, 2) == 0, note_extent, &d);
    if (rc == 0)
        judge_diff(op, from, to, &d);
    int closed = limpet_image_close(handle);
    return rc != 0 ? rc : closed;
}

static int maintain(struct image_op *op, struct limpet_image *handle)
{
    switch (op->kind) {
    case IMAGE_OP_SNAP:
        return make_snap(op, handle);
    case IMAGE_OP_SNAP_REMOVE:
        return remove_snap(op, handle);
    case IMAGE_OP_SNAP_READ:
        return look_at_snap(op, handle);
    case IMAGE_OP_ROLLBACK:
        return roll_back(op, handle);
    case IMAGE_OP_RESIZE:
        return resize(op, handle);
    case IMAGE_OP_FLATTEN:
        return flatten(op, handle);
    case IMAGE_OP_DIFF:
        return diff(op);
    case IMAGE_OP_STREAM:
        return image_stream(op);
    default:
        return check_map(op, handle);
    }
}

static void run_maintenance(struct image_client *client, struct image_model *image,
                            enum image_op_kind kind)
{
    struct image_op *op = image_op_begin(client, kind, image);
    struct limpet_image *handle = image_op_handle(op);
    if (!handle)
        return;
    int rc = maintain(op, handle);
    image_handle_give(client, image);
    if (rc != 0)
        image_op_failed(op, rc);
    else
        image_op_end(op, rc);
}

/* ---- Images that come and go ---- */

static void begin_life(struct images *images, struct image_model *image)
{
    image->state = IMAGE_HALF;
    image->life = ++images->lives;
    image->id_known = false;
    image->writer = image->parent = -1;
    memset(image->entered, 0, sizeof image->entered);
    memset(image->snaps, 0, sizeof image->snaps);
}

/* If it dies now, its requests may still be on their way. */
void image_note_breaker(struct image_client *client, struct image_model *image)
{
    /* It may die in here. */
    uint64_t instance = limpet_cluster_instance(client->cluster);
    if (image->n_breakers == IMAGE_BREAKERS_MAX)
        abort();
    image->breakers[image->n_breakers++] = instance;
}

int image_is_there(struct image_client *client, struct image_model *image)
{
    int rc = limpet_image_id_of(client->pool, image->name, image->id);
    image->id_known = rc == 0;
    if (rc == 0) {
        image->state = IMAGE_THERE;
        image->close = false;
        image->n_breakers = 0;
    }
    return rc;
}

static void is_gone(struct images *images, struct image_model *image)
{
    image->state = IMAGE_NOT_THERE;
    image->close = false;
    image->id_known = false;
    image->n_breakers = 0;
    if (image->parent >= 0)
        images->models[image->parent].n_children--;
    image->parent = -1;
}

static uint64_t choose_options(struct images *images, struct image_model *image,
                               struct limpet_image_options *options)
{
    static const uint64_t features[] = {
        LIMPET_IMAGE_FEATURES_DEFAULT, LIMPET_IMAGE_FEATURES_DEFAULT, LIMPET_IMAGE_FEATURES_DEFAULT,
        LIMPET_IMAGE_LAYERING | LIMPET_IMAGE_EXCLUSIVE_LOCK, LIMPET_IMAGE_LAYERING};
    *options = (struct limpet_image_options){
        .features = features[images_below(images, sizeof features / sizeof features[0])],
        .order = 12 + (unsigned)images_below(images, 2)};
    if (images_below(images, 4) == 0) {
        options->stripe_unit = (uint64_t)GRANULE << images_below(images, 2);
        options->stripe_count = 1 + images_below(images, 3);
    }
    image->exclusive = (options->features & LIMPET_IMAGE_EXCLUSIVE_LOCK) != 0;
    image->has_map = (options->features & LIMPET_IMAGE_OBJECT_MAP) != 0;
    image->order = options->order;
    image->unit = options->stripe_unit ? options->stripe_unit : UINT64_C(1) << image->order;
    image->encrypted = 0;
    image->count = options->stripe_count ? options->stripe_count : 1;
    sim_log(images->cluster->sim, image->name,
            "features %" PRIu64 " order %u unit %" PRIu64 " count %" PRIu64, options->features,
            image->order, image->unit, image->count);
    return 1 + images_below(images, GRANULES_MAX);
}

static int create(struct image_op *op)
{
    struct images *images = op->images;
    struct image_model *image = op->image;
    struct limpet_image_options options;
    begin_life(images, image);
    uint64_t n = choose_options(images, image, &options);
    if (images->encrypted > 0 && images_below(images, 100) < images->encrypted)
        image->encrypted = image->unit >= 4096 && images_below(images, 2) ? 4096 : 512;
    n = image_rounded(image, (uint32_t)n);
    cell_reset(&image->size, n, op->call);
    for (uint32_t i = 0; i < GRANULES_MAX; i++)
        cell_reset(&image->cells[i], 0, op->call);
    image_note_breaker(op->client, image);
    int rc = limpet_image_create(op->client->pool, image->name, n * GRANULE + image_hidden(image),
                                 &options);
    return rc == 0 ? image_is_there(op->client, image) : rc;
}

/* op->other and op->snap are what it is made of. */
static int make_clone(struct image_op *op)
{
    struct images *images = op->images;
    struct image_model *image = op->image, *parent = op->other;
    const struct image_snap_model *snap = op->snap;
    struct limpet_image_options options;
    begin_life(images, image);
    (void)choose_options(images, image, &options);
    cell_reset(&image->size, snap->n, op->call);
    for (uint32_t i = 0; i < GRANULES_MAX; i++)
        cell_reset(&image->cells[i], i < snap->n ? snap->values[i] : 0, op->call);
    image->parent = (int)(parent - images->models);
    parent->n_children++;
    image_note_breaker(op->client, image);
    int rc = limpet_image_clone(op->client->pool, parent->name, snap->name, op->client->pool,
                                image->name, &options);
    return rc == 0 ? image_is_there(op->client, image) : rc;
}

static bool is_open_somewhere(const struct images *images, const struct image_model *image)
{
    size_t at = (size_t)(image - images->models);
    for (uint32_t i = 1; i <= images->cluster->options.n_clients; i++) {
        if (images->clients[i].handles[at].life != 0 || images->clients[i].handles[at].opening)
            return true;
    }
    return false;
}

/* Everybody closes it, or hangs. */
void image_have_closed(struct image_op *op)
{
    op->image->close = true;
    for (int i = 0; i < 50 && is_open_somewhere(op->images, op->image); i++) {
        image_handles_close(op->client, false);
        fiber_sleep(100 * MSEC_NS);
    }
}

static int remove_image(struct image_op *op)
{
    struct images *images = op->images;
    struct image_model *image = op->image;
    image_have_closed(op);
    image->state = IMAGE_HALF;
    image_note_breaker(op->client, image);
    int rc = limpet_image_remove(op->client->pool, image->name, NULL, NULL);
    /* It is open, or somebody has left a group that has it. */
    bool in_group = images_have_groups(images) && (rc == -EMLINK || rc == -ENOTEMPTY);
    if (rc == -EBUSY || in_group)
        return image_is_there(op->client, image);
    if (rc == 0)
        is_gone(images, image);
    return rc;
}

static int rename_image(struct image_op *op)
{
    struct image_model *image = op->image;
    size_t len = strlen(image->name);
    snprintf(image->other, sizeof image->other, "%s", image->name);
    if (image->name[len - 1] == 'x')
        image->other[len - 1] = '\0';
    else
        snprintf(image->other + len, sizeof image->other - len, "x");
    image->state = IMAGE_HALF;
    image_note_breaker(op->client, image);
    int rc = limpet_image_rename(op->client->pool, image->name, image->other);
    if (rc != 0)
        return rc;
    memcpy(image->name, image->other, sizeof image->name);
    image->other[0] = '\0';
    return image_is_there(op->client, image);
}

/* Whether the image can be opened by its name. */
static int try_to_open(struct image_client *client, const char *name)
{
    struct limpet_image *handle;
    int rc = limpet_image_open(client->pool, name, NULL, LIMPET_IMAGE_READ_ONLY, &handle);
    return rc == 0 ? limpet_image_close(handle) : rc;
}

/*
 * Whoever made, removed or renamed it is dead: it is as it was, or as it shall be, or can be
 * removed.
 */
static int mend(struct image_op *op)
{
    struct images *images = op->images;
    struct image_client *client = op->client;
    struct image_model *image = op->image;
    image_have_closed(op);
    int rc = 0;
    for (uint32_t i = 0; i < image->n_breakers && rc == 0; i++)
        rc = limpet_block(client->cluster, image->breakers[i], 7 * 24 * 3600);
    if (rc == 0 && image->trashed)
        rc = image_trash_mend(op);
    if (rc == 0)
        rc = try_to_open(client, image->name);
    if (rc == -ENOENT && image->trashed)
        images_fail(images, image, "image-half: it is neither in the trash nor out of it");
    if (rc == -ENOENT && image->other[0] != '\0') {
        rc = try_to_open(client, image->other);
        if (rc == 0)
            memcpy(image->name, image->other, sizeof image->name);
        else if (rc == -ENOENT)
            images_fail(images, image, "image-half: it has neither its old nor its new name");
    }
    if (rc == 0) {
        image->other[0] = '\0';
        image->trashed = false;
        return image_is_there(client, image);
    }
    if (rc != -ENOENT)
        return rc;
    if (has_snaps(image))
        images_fail(images, image, "image-half: it had snapshots, and cannot be opened");
    image_note_breaker(client, image);
    rc = limpet_image_remove(client->pool, image->name, NULL, NULL);
    if (rc == -EBUSY)
        return 0; /* Later. */
    if (rc == 0 || rc == -ENOENT)
        is_gone(images, image);
    return rc == -ENOENT ? 0 : rc;
}

static int restructure(struct image_op *op)
{
    switch (op->kind) {
    case IMAGE_OP_CREATE:
        return create(op);
    case IMAGE_OP_CLONE:
        return make_clone(op);
    case IMAGE_OP_REMOVE:
        return remove_image(op);
    case IMAGE_OP_RENAME:
        return rename_image(op);
    case IMAGE_OP_TRASH:
        return image_trash(op);
    default:
        return mend(op);
    }
}

static void run_structural(struct image_op *op)
{
    int rc = restructure(op);
    if (rc != 0)
        image_op_failed(op, rc);
    else
        image_op_end(op, rc);
}

static void begin_clone(struct image_client *client, struct image_model *image)
{
    struct images *images = client->images;
    struct image_model *parent = &images->models[images_below(images, images->n_images)];
    if (parent == image || parent->state != IMAGE_THERE || parent->busy || parent->maintained ||
        parent->encrypted > 0)
        return;
    struct image_snap_model *snap = image_snap_choose(images, parent, image_snap_is_read);
    if (!snap)
        return;
    struct image_op *op = image_op_begin(client, IMAGE_OP_CLONE, image);
    op->other = parent;
    op->snap = snap;
    parent->users++;
    parent->maintained = true;
    run_structural(op);
}

/* ---- Choosing ---- */

static enum image_op_kind choose_kind(struct images *images)
{
    uint64_t dice = images_below(images, images->mix_sum);
    int kind = 0;
    while (dice >= images->mix[kind])
        dice -= images->mix[kind++];
    return (enum image_op_kind)kind;
}

void image_op_run(struct image_client *client)
{
    struct images *images = client->images;
    struct image_model *image = &images->models[images_below(images, images->n_images)];
    enum image_op_kind kind = choose_kind(images);
    bool there = image->state == IMAGE_THERE;
    if (images_mend_leavings(client, false) || image->busy)
        return;
    if (image->state == IMAGE_HALF) {
        if (image->users == 0)
            run_structural(image_op_begin(client, IMAGE_OP_MEND, image));
    } else if (kind == IMAGE_OP_CLONE) {
        if (image->state == IMAGE_NOT_THERE)
            begin_clone(client, image);
    } else if (kind == IMAGE_OP_CREATE) {
        if (image->state == IMAGE_NOT_THERE)
            run_structural(image_op_begin(client, kind, image));
    } else if (is_structural(kind)) {
        bool may_go = !has_snaps(image) && image->n_children == 0;
        if (there && image->users == 0 && (kind != IMAGE_OP_REMOVE || may_go))
            run_structural(image_op_begin(client, kind, image));
    } else if (there && is_io(kind)) {
        run_io(client, image, kind);
    } else if (kind == IMAGE_OP_GROUP) {
        image_group_run(client);
    } else if (there && !image->maintained) {
        run_maintenance(client, image, kind);
    }
}

/* ---- The end ---- */

static int check_all(struct image_op *op, struct limpet_image *handle)
{
    struct images *images = op->images;
    struct image_model *image = op->image;
    struct limpet_image_info info;
    op->data = calloc(GRANULES_MAX, GRANULE);
    if (!op->data)
        abort();
    int rc = look_at_snaps(op, handle);
    if (rc == 0)
        rc = limpet_image_info(handle, &info);
    if (rc != 0)
        return rc;
    image_judge_size(images, image, info.size / GRANULE, op->call, images_now(images), "the end");
    ssize_t got = limpet_image_read(handle, op->data, SIZE_MAX_BYTES, 0, 0);
    for (uint32_t i = 0; got > 0 && i < (uint64_t)got / GRANULE; i++)
        image_judge(images, image, i, op->data + (size_t)i * GRANULE, op->call, images_now(images),
                    "the last read");
    rc = got < 0 ? (int)got : check_map(op, handle);
    for (uint32_t i = 0; i < IMAGE_SNAPS_MAX && rc == 0; i++) {
        op->snap = &image->snaps[i];
        if (op->snap->used && op->snap->known)
            rc = read_snap(op);
    }
    return rc;
}

static int remove_snaps(struct image_op *op, struct limpet_image *handle)
{
    struct limpet_image_snap *list;
    size_t n;
    int rc = limpet_image_refresh(handle);
    if (rc == 0)
        rc = limpet_image_snap_list(handle, &list, &n);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = limpet_image_snap_remove_id(handle, list[i].id);
    limpet_free(list);
    memset(op->image->snaps, 0, sizeof op->image->snaps);
    return rc;
}

static void remove_one(struct image_client *client, struct image_model *image)
{
    if (image->state == IMAGE_HALF) {
        run_structural(image_op_begin(client, IMAGE_OP_MEND, image));
        return;
    }
    struct image_op *op = image_op_begin(client, IMAGE_OP_CHECK, image);
    struct limpet_image *handle = image_op_handle(op);
    if (!handle)
        return;
    int rc = check_all(op, handle);
    if (rc == 0 && image->n_children == 0)
        rc = remove_snaps(op, handle);
    image_handle_give(client, image);
    if (rc != 0) {
        image_op_failed(op, rc);
        return;
    }
    image_op_end(op, rc);
    image_handles_close(client, true);
    if (image->n_children == 0 && !client->images->cluster->failed)
        run_structural(image_op_begin(client, IMAGE_OP_REMOVE, image));
}

bool images_remove_all(struct image_client *client)
{
    struct images *images = client->images;
    struct limpet_image_entry *list;
    size_t n;
    bool all = true;
    while (!images->cluster->failed && images_mend_leavings(client, true))
        ;
    for (uint32_t i = 0; i < images->n_images; i++) {
        if (images->models[i].state != IMAGE_NOT_THERE && !images->cluster->failed)
            remove_one(client, &images->models[i]);
        all = all && images->models[i].state == IMAGE_NOT_THERE;
    }
    if (!all)
        return false;
    int rc = limpet_image_list(client->pool, &list, &n);
    if (rc != 0 || n != 0)
        images_fail(images, NULL, "image-leaves-nothing: %zu names are left (%d)", n, rc);
    if (rc == 0)
        limpet_free(list);
    images_check_rest(client);
    return true;
}
