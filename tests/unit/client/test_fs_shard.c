/* Records of a delegated shard: methods change them as an OSD does, and batches carry all of it. */
#include "tests/lib/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/fs/shard.h"

enum { HOME = 3, CALLER = 77, STEPS = 4000, NAMES = 24, MANY = 700 };

static const uint64_t dir = (uint64_t)HOME << FS_INDEX_BITS | FS_INDEX_DIR;

static struct fs_shard_cache *shard; /* Of the client. */
static struct fs_shard_cache *store; /* What its batches have made of the object. */
static struct fs_answer answer;
static bool changed;
static int64_t now = 1000;

static struct fs_bytes text(const char *chars)
{
    return (struct fs_bytes){(const uint8_t *)chars, (uint16_t)strlen(chars)};
}

static int call_on(struct fs_shard_cache *on, const char *method, const struct fs_request *rq,
                   const void *data, size_t len)
{
    struct encoder request, input, out;
    encoder_init(&request);
    encoder_init(&input);
    encoder_init(&out);
    fs_request_encode(&request, rq);
    encode_string32(&input, request.data, request.len);
    if (len > 0)
        encode_bytes(&input, data, len);
    int rc = shard_run(on, method, CALLER, ++now, input.data, input.len, &out, &changed);
    answer = (struct fs_answer){0};
    if (rc == 0 && strcmp(method, "fs.list") != 0)
        assert_int_equal(fs_answer_decode(out.data, out.len, &answer), 0);
    encoder_fini(&request);
    encoder_fini(&input);
    encoder_fini(&out);
    return rc;
}

static int call(const char *method, struct fs_request rq)
{
    return call_on(shard, method, &rq, NULL, 0);
}

static int create(const char *name)
{
    return call("fs.create",
                (struct fs_request){.ino = dir,
                                    .name = text(name),
                                    .flags = FS_EXCLUSIVE,
                                    .inode = {.mode = S_IFREG | 0644, .layout = {12, 12, 1, 0}}});
}

static int unlink_name(const char *name)
{
    return call("fs.unlink", (struct fs_request){.ino = dir, .name = text(name)});
}

/* A batch goes to the store, as it would to an OSD. */
static size_t write_back(void)
{
    struct encoder changes;
    struct fs_request rq = {.ino = dir, .flags = shard->stored ? 0 : FS_EXCLUSIVE};
    encoder_init(&changes);
    assert_int_equal(shard_take(shard, &changes), 0);
    size_t len = changes.len;
    assert_int_equal(call_on(store, "fs.apply", &rq, changes.data, changes.len), 0);
    encoder_fini(&changes);
    return len;
}

static void assert_stored(void)
{
    static const uint8_t kinds[] = {FS_KEY_SHARD, FS_KEY_ENTRY,  FS_KEY_INODE, FS_KEY_ORPHAN,
                                    FS_KEY_XATTR, FS_KEY_INTENT, FS_KEY_MARK,  FS_KEY_LOCKS};
    for (size_t i = 0; i < sizeof kinds; i++) {
        uint8_t from[FS_KEY_MAX + 1] = {kinds[i]};
        const void *key, *value, *other_key, *other;
        size_t key_len, len, other_key_len, other_len, from_len = 1;
        bool more;
        while (
            (more = shard_next(shard, from, from_len, &key, &key_len, &value, &len)) ==
                shard_next(store, from, from_len, &other_key, &other_key_len, &other, &other_len) &&
            more) {
            assert_int_equal(key_len, other_key_len);
            assert_memory_equal(key, other_key, key_len);
            assert_int_equal(len, other_len);
            assert_memory_equal(value, other, len);
            memcpy(from, key, key_len);
            from[key_len] = 0;
            from_len = key_len + 1;
        }
        assert_false(more);
    }
}

static int begin(void **state)
{
    (void)state;
    shard = shard_create(HOME, false);
    store = shard_create(HOME, false);
    assert_non_null(shard);
    assert_non_null(store);
    return call(
        "fs.init",
        (struct fs_request){
            .ino = dir, .inode = {.mode = S_IFDIR | 0755, .layout = {12, 12, 1, 0}, .parent = 1}});
}

static int end(void **state)
{
    (void)state;
    shard_free(shard);
    shard_free(store);
    return 0;
}

static void a_change_is_seen_at_once_and_stored_later(void **state)
{
    (void)state;
    assert_int_equal(create("a"), 0);
    assert_true(changed);
    assert_int_equal(create("a"), -EEXIST);
    assert_false(changed);
    assert_int_equal(call("fs.lookup", (struct fs_request){.ino = dir, .name = text("a")}), 0);
    assert_int_equal(shard->n_dirty, 4); /* Shard, directory, entry, inode. */
    (void)write_back();
    assert_int_equal(shard->n_dirty, 0);
    assert_int_equal(shard->dirty_bytes, 0);
    assert_stored();
}

static void a_file_that_comes_and_goes_costs_nothing(void **state)
{
    (void)state;
    (void)write_back();
    for (int i = 0; i < 100; i++) {
        assert_int_equal(create("a"), 0);
        uint64_t ino = answer.ino;
        assert_int_equal(unlink_name("a"), 0);
        assert_int_equal(call("fs.purge", (struct fs_request){.ino = ino}), 0);
    }
    assert_int_equal(shard->n_dirty, 2); /* Numbers, and times of the directory. */
    (void)write_back();
    assert_stored();
}

static void what_was_stored_is_removed_there(void **state)
{
    (void)state;
    assert_int_equal(create("a"), 0);
    uint64_t ino = answer.ino;
    (void)write_back();
    assert_int_equal(unlink_name("a"), 0);
    assert_int_equal(call("fs.lookup", (struct fs_request){.ino = dir, .name = text("a")}),
                     -ENOENT);
    (void)write_back();
    assert_int_equal(call("fs.purge", (struct fs_request){.ino = ino}), 0);
    assert_int_equal(create("a"), 0); /* Over what is to be removed. */
    (void)write_back();
    assert_stored();
}

static void it_is_known_what_others_may_have_seen(void **state)
{
    uint8_t key[FS_KEY_MAX];
    (void)state;
    assert_int_equal(create("a"), 0);
    size_t len = fs_index_key(key, FS_KEY_INODE, fs_index(answer.ino));
    assert_false(shard_has_stored(shard, key, len));
    (void)write_back();
    assert_true(shard_has_stored(shard, key, len));
}

static void a_directory_that_goes_leaves_no_records(void **state)
{
    struct fs_request rq = {.ino = dir, .tx = {CALLER, 1}};
    (void)state;
    assert_int_equal(create("a"), 0);
    uint64_t ino = answer.ino;
    assert_int_equal(call("fs.dying", rq), -ENOTEMPTY);
    assert_int_equal(unlink_name("a"), 0);
    assert_int_equal(call("fs.purge", (struct fs_request){.ino = ino}), 0);
    assert_int_equal(call("fs.dying", rq), 0);
    assert_int_equal(call("fs.vanish", rq), 0);
    assert_false(shard->exists);
    assert_false(shard->stored);
    assert_int_equal(shard->n_dirty, 0);
    assert_int_equal(shard->bytes, 0);
    assert_int_equal(create("a"), -ENOENT);
}

static void room_is_asked_for_only_by_what_grows(void **state)
{
    struct encoder changes;
    struct decoder d;
    struct fs_change change;
    unsigned n = 0;
    (void)state;
    assert_int_equal(create("a"), 0);
    (void)write_back();
    assert_int_equal(unlink_name("a"), 0);
    encoder_init(&changes);
    assert_int_equal(shard_take(shard, &changes), 0);
    decoder_init(&d, changes.data, changes.len);
    for (; fs_change_next(&d, &change) == 0; n++)
        assert_false(change.grows);
    assert_int_equal(n, 4); /* Directory, entry, inode, the list of those without names. */
    encoder_fini(&changes);
}

static void malformed_changes_are_refused(void **state)
{
    static const uint8_t nonsense[] = {4, 1, 0, 'e', 0, 0, 0, 0};
    struct fs_request rq = {.ino = dir};
    (void)state;
    (void)write_back();
    assert_int_equal(call_on(store, "fs.apply", &rq, nonsense, sizeof nonsense), -EINVAL);
    assert_int_equal(call_on(store, "fs.apply", &rq, nonsense + 1, 3), -EINVAL);
    assert_stored();
    rq.flags = FS_EXCLUSIVE;
    assert_int_equal(call_on(store, "fs.apply", &rq, NULL, 0), -EEXIST);
    rq.flags = FS_UNNAMED;
    assert_int_equal(call_on(store, "fs.apply", &rq, NULL, 0), 0);
    assert_int_equal(call_on(store, "fs.apply", &rq, NULL, 0), -ENOENT);
}

/* After each batch the store has what the client had, whatever was done between. */
static void batches_carry_all_changes(void **state)
{
    static char names[NAMES][8];
    uint64_t inos[NAMES] = {0};
    unsigned seed = 11;
    (void)state;
    for (int i = 0; i < NAMES; i++)
        snprintf(names[i], sizeof names[i], "n%d", i);
    for (int step = 0; step < STEPS; step++) {
        unsigned what = (unsigned)rand_r(&seed) % 10, a = (unsigned)rand_r(&seed) % NAMES;
        unsigned b = (unsigned)rand_r(&seed) % NAMES;
        if (what < 4 && create(names[a]) == 0) {
            inos[a] = answer.ino;
        } else if (what < 6) {
            if (unlink_name(names[a]) == 0 && what == 5)
                assert_int_equal(call("fs.purge", (struct fs_request){.ino = inos[a]}), 0);
        } else if (what < 8) {
            int rc =
                call("fs.rename",
                     (struct fs_request){.ino = dir, .name = text(names[a]), .to = text(names[b])});
            if (rc == 0 && a != b)
                inos[b] = inos[a];
        } else if (what == 8 && inos[a] != 0) {
            int rc = call_on(shard, "fs.xset",
                             &(struct fs_request){.ino = inos[a], .name = text("user.x")}, "value",
                             (size_t)step % 6);
            assert_true(rc == 0 || rc == -ESTALE);
        } else if (what == 9) {
            (void)write_back();
            assert_stored();
        }
    }
}

static uint64_t told[MANY];
static size_t n_told;

static void take_told(void *arg, uint64_t ino)
{
    (void)arg;
    assert_true(n_told < MANY);
    told[n_told++] = ino;
}

static void what_was_told_is_known_until_it_goes(void **state)
{
    (void)state;
    assert_int_equal(create("a"), 0);
    const uint64_t a = answer.inode.ino;
    assert_int_equal(create("b"), 0);
    const uint64_t b = answer.inode.ino;
    assert_false(shard_is_told(shard, a));
    assert_true(shard_tell(shard, a));
    assert_true(shard_tell(shard, a));
    assert_true(shard_tell(shard, b));
    assert_false(shard_tell(shard, b + 1));
    assert_int_equal(shard->n_told, 2);
    /* Its record is another one by then. */
    assert_int_equal(
        call("fs.setattr", (struct fs_request){.ino = a,
                                               .set = FS_SET_MODE,
                                               .inode = {.mode = 0600, .layout = {12, 12, 1, 0}}}),
        0);
    assert_true(shard_is_told(shard, a));
    (void)write_back();
    assert_true(shard_is_told(shard, a));
    assert_int_equal(unlink_name("b"), 0);
    assert_int_equal(call("fs.purge", (struct fs_request){.ino = b}), 0);
    assert_false(shard_is_told(shard, b));
    n_told = 0;
    shard_untell(shard, take_told, NULL);
    assert_int_equal(n_told, 1);
    assert_int_equal(told[0], a);
    assert_int_equal(shard->n_told, 0);
    assert_false(shard_is_told(shard, a));
}

static bool is_there(const char *name)
{
    uint8_t key[FS_KEY_MAX];
    const void *value;
    size_t len;
    return shard_look(shard, key, fs_entry_key(key, name, strlen(name)), &value, &len);
}

static void each_of_many_is_found_by_its_name(void **state)
{
    char name[16];
    (void)state;
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "n%u", i);
        assert_false(is_there(name));
        assert_int_equal(create(name), 0);
        assert_true(is_there(name));
    }
    (void)write_back();
    size_t bytes = shard->bytes;
    for (unsigned i = 0; i < MANY; i += 2) {
        snprintf(name, sizeof name, "n%u", i);
        assert_int_equal(unlink_name(name), 0);
    }
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "n%u", i);
        assert_int_equal(is_there(name), i % 2);
    }
    (void)write_back();
    assert_true(shard->bytes < bytes);
    assert_stored();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_change_is_seen_at_once_and_stored_later, begin, end),
        cmocka_unit_test_setup_teardown(a_file_that_comes_and_goes_costs_nothing, begin, end),
        cmocka_unit_test_setup_teardown(what_was_stored_is_removed_there, begin, end),
        cmocka_unit_test_setup_teardown(it_is_known_what_others_may_have_seen, begin, end),
        cmocka_unit_test_setup_teardown(a_directory_that_goes_leaves_no_records, begin, end),
        cmocka_unit_test_setup_teardown(room_is_asked_for_only_by_what_grows, begin, end),
        cmocka_unit_test_setup_teardown(malformed_changes_are_refused, begin, end),
        cmocka_unit_test_setup_teardown(what_was_told_is_known_until_it_goes, begin, end),
        cmocka_unit_test_setup_teardown(each_of_many_is_found_by_its_name, begin, end),
        cmocka_unit_test_setup_teardown(batches_carry_all_changes, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
