/* Copies of images, in a world where every request ends at once and the source can change. */
#include "tests/lib/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/image/crypt.h"
#include "client/image/manage.h"
#include "client/image/snap.h"

enum { PIECE = 4 << 20, PIECES = 4, PARTS_MAX = 1 << 16, MANY = 3 * PARTS_MAX + 7 };

static struct world {
    struct limpet_image from, to;
    uint8_t shows[PIECES * PIECE], got[PIECES * PIECE];
    bool tells_zeroes;                       /* The difference is one extent of zeroes. */
    uint64_t objects, told, discarded, most; /* Of the copy, where zeroes come; not yet done. */
    unsigned reads, fails_at;
    int failure;
    uint64_t shrinks_to; /* After the first read; 0: it does not. */
    bool flattened, gone;
    bool finished, unmade;
} * world;

/* ---- What a copy calls ---- */

int limpet_image_diff(struct limpet_image *image, const char *from, uint64_t offset, uint64_t len,
                      bool include_parent, bool whole_object, limpet_image_extent extent, void *arg)
{
    (void)from, (void)include_parent, (void)whole_object;
    if (offset >= image->size)
        return 0;
    len = len < image->size - offset ? len : image->size - offset;
    return extent(offset, len, !world->tells_zeroes, arg);
}

ssize_t limpet_image_read(struct limpet_image *image, void *data, size_t len, uint64_t offset,
                          unsigned flags)
{
    (void)flags;
    if (++world->reads == world->fails_at)
        return world->failure;
    if (offset >= image->size)
        return -EINVAL;
    len = len < image->size - offset ? len : image->size - offset;
    memcpy(data, world->shows + offset, len);
    if (world->shrinks_to > 0)
        image->size = world->shrinks_to;
    return (ssize_t)len;
}

int limpet_image_aio_read(struct limpet_image *image, void *data, size_t len, uint64_t offset,
                          unsigned flags, limpet_image_callback callback, void *arg)
{
    ssize_t got = limpet_image_read(image, data, len, offset, flags);
    if (got == -EINVAL)
        return -EINVAL;
    callback(got, arg);
    return 0;
}

int limpet_image_aio_write(struct limpet_image *image, const void *data, size_t len,
                           uint64_t offset, unsigned flags, limpet_image_callback callback,
                           void *arg)
{
    (void)flags;
    assert_ptr_equal(image, &world->to);
    memcpy(world->got + offset, data, len);
    callback((ssize_t)len, arg);
    return 0;
}

int limpet_image_aio_discard(struct limpet_image *image, uint64_t len, uint64_t offset,
                             limpet_image_callback callback, void *arg)
{
    assert_ptr_equal(image, &world->to);
    if (!world->tells_zeroes)
        memset(world->got + offset, 0, len);
    world->discarded++;
    callback((ssize_t)len, arg);
    return 0;
}

int image_discard_extents(struct limpet_image *image, uint64_t offset, uint64_t len,
                          limpet_image_extent extent, void *arg)
{
    uint64_t each = len / world->objects;
    int rc = 0;
    assert_ptr_equal(image, &world->to);
    for (uint64_t i = 0; i < world->objects && rc == 0; i++) {
        rc = extent(offset + i * each, each, true, arg);
        world->told++;
        uint64_t left = world->told - world->discarded;
        world->most = left > world->most ? left : world->most;
    }
    return rc;
}

bool image_was_flattened(struct limpet_image *image, uint64_t overlap)
{
    assert_ptr_equal(image, &world->from);
    bool fell = world->flattened && overlap > 0;
    if (fell)
        image->overlap = 0;
    return fell;
}

int image_check_shown(struct limpet_image *image, uint64_t snap)
{
    assert_ptr_equal(image, &world->from);
    assert_int_equal(snap, 0);
    return world->gone ? -ENOENT : 0;
}

uint64_t crypt_shown_size(const struct limpet_image *image)
{
    return image->size;
}

int image_create_unfinished(struct limpet_pool *pool, const char *name, uint64_t size,
                            const struct limpet_image_options *options,
                            char id[LIMPET_IMAGE_ID_MAX + 1])
{
    (void)pool, (void)name, (void)options;
    world->to.size = size;
    id[0] = 0;
    return 0;
}

int image_open_unfinished(struct limpet_pool *pool, const char *id, struct limpet_image **out)
{
    (void)pool, (void)id;
    *out = &world->to;
    return 0;
}

int image_finish(struct limpet_pool *pool, const char *id)
{
    (void)pool, (void)id;
    world->finished = true;
    return 0;
}

void image_unmake(struct limpet_pool *pool, const char *name, const char *id)
{
    (void)pool, (void)name, (void)id;
    world->unmade = true;
}

struct limpet_image_options image_options_from(const struct image_core *core,
                                               const struct limpet_image_options *options)
{
    (void)core;
    return *options;
}

int limpet_image_close(struct limpet_image *image)
{
    (void)image;
    return 0;
}

void early_settle(struct limpet_image *image)
{
    (void)image;
}

/* ---- What only others call ---- */

int image_check_same(struct limpet_image *image, const struct image_snap *snap)
{
    (void)image, (void)snap;
    return -ENOSYS;
}

int image_open_id(struct limpet_cluster *cluster, uint64_t pool, const char *space, const char *id,
                  uint64_t snap, bool read_only, struct limpet_image **out)
{
    (void)cluster, (void)pool, (void)space, (void)id, (void)snap, (void)read_only, (void)out;
    return -ENOSYS;
}

int limpet_image_resize(struct limpet_image *image, uint64_t size, bool shrink,
                        limpet_image_progress progress, void *arg)
{
    (void)image, (void)size, (void)shrink, (void)progress, (void)arg;
    return -ENOSYS;
}

int limpet_image_snap_create(struct limpet_image *image, const char *name)
{
    (void)image, (void)name;
    return -ENOSYS;
}

int limpet_image_snap_protect(struct limpet_image *image, const char *name)
{
    (void)image, (void)name;
    return -ENOSYS;
}

int limpet_image_parent(struct limpet_image *image, struct limpet_image_spec *out)
{
    (void)image, (void)out;
    return -ENOSYS;
}

int image_clone_unfinished(struct limpet_pool *parent_pool, const char *parent, const char *snap,
                           struct limpet_pool *pool, const char *name,
                           const struct limpet_image_options *options,
                           char id[LIMPET_IMAGE_ID_MAX + 1])
{
    (void)parent_pool, (void)parent, (void)snap, (void)pool, (void)name, (void)options, (void)id;
    return -ENOSYS;
}

int pool_of_link(struct limpet_cluster *cluster, const struct image_link *link,
                 struct limpet_pool **out)
{
    (void)cluster, (void)link, (void)out;
    return -ENOSYS;
}

int header_copy(const struct header *header, struct header *out)
{
    (void)header, (void)out;
    return -ENOSYS;
}

void header_fini(struct header *header)
{
    (void)header;
}

uint64_t limpet_pool_id(const struct limpet_pool *pool)
{
    (void)pool;
    return 0;
}

const char *limpet_pool_namespace(const struct limpet_pool *pool)
{
    (void)pool;
    return "";
}

void limpet_pool_close(struct limpet_pool *pool)
{
    (void)pool;
}

int image_held_begin(struct limpet_image *image, const struct image_view *view)
{
    (void)image, (void)view;
    return -ENOSYS;
}

void image_held_end(struct limpet_image *image)
{
    (void)image;
}

bool image_is_recalled(struct limpet_image *image)
{
    (void)image;
    return false;
}

int image_breathe(struct limpet_image *image)
{
    (void)image;
    return -ENOSYS;
}

struct image_view image_view(const struct limpet_image *image)
{
    (void)image;
    return (struct image_view){0};
}

enum map_answer map_ask(struct limpet_image *image, uint64_t object)
{
    (void)image, (void)object;
    return MAP_UNKNOWN;
}

bool exist_is_cheaper(struct limpet_pool *data, uint64_t n)
{
    (void)data, (void)n;
    return false;
}

int exist_list(struct limpet_pool *data, const char *prefix, uint64_t first, uint64_t end,
               bool kept, struct exist *e)
{
    (void)data, (void)prefix, (void)first, (void)end, (void)kept, (void)e;
    return -ENOSYS;
}

int limpet_completion_create(limpet_callback callback, void *arg, struct limpet_completion **out)
{
    (void)callback, (void)arg, (void)out;
    return -ENOSYS;
}

void limpet_completion_release(struct limpet_completion *completion)
{
    (void)completion;
}

ssize_t limpet_completion_result(const struct limpet_completion *completion)
{
    (void)completion;
    return -ENOSYS;
}

void limpet_op_destroy(struct limpet_op *op)
{
    (void)op;
}

/* ---- Cases ---- */

static int begin(void **state)
{
    (void)state;
    world = calloc(1, sizeof *world);
    assert_non_null(world);
    world->from.size = sizeof world->shows;
    pthread_mutex_init(&world->from.lock, NULL);
    for (size_t i = 0; i < sizeof world->shows; i++)
        world->shows[i] = (uint8_t)(i / 4096 % 251 + 1);
    memset(world->got, 0xee, sizeof world->got);
    return 0;
}

static int end(void **state)
{
    (void)state;
    free(world);
    return 0;
}

static int copy(void)
{
    const struct limpet_image_options options = {0};
    int rc = limpet_image_copy(&world->from, NULL, "copy", &options, NULL, NULL);
    assert_true(world->finished == (rc == 0));
    assert_true(world->unmade == (rc != 0));
    return rc;
}

/* All that it shows up to there; zeroes beyond. */
static void assert_copied(uint64_t upto)
{
    static const uint8_t zeroes[4096];
    assert_memory_equal(world->got, world->shows, upto);
    for (uint64_t at = upto; at < sizeof world->got; at += sizeof zeroes)
        assert_memory_equal(world->got + at, zeroes, sizeof zeroes);
}

static void what_shrinks_meanwhile_ends_in_zeroes(void **state)
{
    (void)state;
    /* In the middle of its third part: that is read short, the fourth lies beyond the end. */
    world->shrinks_to = 2 * PIECE + 8192;
    assert_int_equal(copy(), 0);
    assert_copied(2 * PIECE + 8192);
}

static void a_part_that_cannot_be_read_ends_it(void **state)
{
    (void)state;
    world->fails_at = 2;
    world->failure = -ENOENT;
    assert_int_equal(copy(), -ENOENT);
}

static void what_was_refused_within_its_size_ends_it(void **state)
{
    (void)state;
    world->fails_at = 2;
    world->failure = -EINVAL;
    assert_int_equal(copy(), -EINVAL);
}

static void what_was_flattened_meanwhile_is_read_again(void **state)
{
    (void)state;
    world->fails_at = 2;
    world->failure = -ENOENT;
    world->from.overlap = PIECE;
    world->flattened = true;
    assert_int_equal(copy(), 0);
    assert_copied(sizeof world->got);
}

static void a_snapshot_that_has_gone_is_no_copy(void **state)
{
    (void)state;
    world->from.snap = 3;
    world->gone = true;
    assert_int_equal(copy(), -ENOENT);
}

static void an_image_that_has_gone_is_no_copy(void **state)
{
    (void)state;
    world->gone = true;
    assert_int_equal(copy(), -ENOENT);
}

static void many_parts_are_done_in_between(void **state)
{
    (void)state;
    world->from.size = (uint64_t)MANY * PIECE;
    world->tells_zeroes = true;
    world->objects = MANY;
    assert_int_equal(copy(), 0);
    assert_int_equal(world->discarded, MANY);
    assert_true(world->most <= PARTS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_shrinks_meanwhile_ends_in_zeroes, begin, end),
        cmocka_unit_test_setup_teardown(a_part_that_cannot_be_read_ends_it, begin, end),
        cmocka_unit_test_setup_teardown(what_was_refused_within_its_size_ends_it, begin, end),
        cmocka_unit_test_setup_teardown(what_was_flattened_meanwhile_is_read_again, begin, end),
        cmocka_unit_test_setup_teardown(a_snapshot_that_has_gone_is_no_copy, begin, end),
        cmocka_unit_test_setup_teardown(an_image_that_has_gone_is_no_copy, begin, end),
        cmocka_unit_test_setup_teardown(many_parts_are_done_in_between, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
