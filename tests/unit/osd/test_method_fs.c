/* Methods "fs.*": each on one shard in memory. Names of tests state what a method promises. */
#include "tests/lib/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/fs_layout.h"
#include "common/method_names.h"
#include "tests/unit/osd/ops_fake.h"

enum { HOME = 3, ADD = 1, DROP = 2, SETTLE_INTENT = 1, SETTLE_MARK = 2 };

static const uint64_t dir = (uint64_t)HOME << FS_INDEX_BITS | FS_INDEX_DIR;
static const uint64_t far = (uint64_t)9 << FS_INDEX_BITS | 5; /* An inode of another shard. */
static const uint64_t far_dir = (uint64_t)9 << FS_INDEX_BITS | FS_INDEX_DIR;
static const struct fs_txid tx = {77, 1}, other_tx = {77, 2};

/* ---- Calling ---- */

static struct fake_object shard;
static struct fs_answer answer; /* Of the last call. */
static uint8_t raw[4096];
static size_t raw_len;
static bool grew;
static uint64_t now = 1000;

static struct fs_bytes text(const char *chars)
{
    return (struct fs_bytes){(const uint8_t *)chars, (uint16_t)strlen(chars)};
}

static int call_bytes(const char *method, const void *input, size_t len)
{
    struct fake_request request;
    struct fake_outcome out;
    struct encoder e;
    encoder_init(&e);
    encode_string16(&e, method, strlen(method));
    encode_bytes(&e, input, len);
    fake_request_init(&request, method_writes(method, strlen(method)));
    request.wall_ns = ++now;
    (void)fake_step_data(&request, WIRE_OP_CODE_CALL, 0, 0, e.data, e.len);
    fake_send(&shard, &request, &out);
    raw_len = out.result == 0 && out.lens[0] <= sizeof raw ? out.lens[0] : 0;
    if (raw_len > 0)
        memcpy(raw, out.data[0], raw_len);
    answer = (struct fs_answer){0};
    if (raw_len > 0 && fs_answer_decode(raw, raw_len, &answer) != 0)
        answer = (struct fs_answer){0}; /* A listing, or a value. */
    grew = out.grows;
    int result = out.result;
    fake_outcome_fini(&out);
    encoder_fini(&e);
    return result;
}

static int call_data(const char *method, const struct fs_request *rq, const void *data, size_t len)
{
    struct encoder request, input;
    encoder_init(&request);
    encoder_init(&input);
    fs_request_encode(&request, rq);
    encode_string32(&input, request.data, request.len);
    encode_bytes(&input, data, len);
    int result = call_bytes(method, input.data, input.len);
    encoder_fini(&request);
    encoder_fini(&input);
    return result;
}

static int call(const char *method, struct fs_request rq)
{
    return call_data(method, &rq, "", 0);
}

static struct fs_inode inode_of(uint32_t mode)
{
    return (struct fs_inode){.mode = mode, .layout = {12, 12, 1, 0}};
}

static uint64_t create(const char *name)
{
    assert_int_equal(call("fs.create", (struct fs_request){.ino = dir,
                                                           .name = text(name),
                                                           .flags = FS_EXCLUSIVE,
                                                           .inode = inode_of(S_IFREG | 0644)}),
                     0);
    return answer.ino;
}

static int lookup(const char *name)
{
    return call("fs.lookup", (struct fs_request){.ino = dir, .name = text(name)});
}

static struct fs_inode getattr(uint64_t ino)
{
    assert_int_equal(call("fs.getattr", (struct fs_request){.ino = ino}), 0);
    return answer.inode;
}

static bool has_key(enum fs_key kind, uint32_t index)
{
    uint8_t key[FS_KEY_MAX];
    size_t len = fs_index_key(key, kind, index);
    for (uint32_t i = 0; i < shard.pairs.n; i++) {
        if (shard.pairs.entries[i].name_len == len &&
            memcmp(shard.pairs.entries[i].name, key, len) == 0)
            return true;
    }
    return false;
}

static unsigned count_kind(enum fs_key kind)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < shard.pairs.n; i++)
        n += shard.pairs.entries[i].name[0] == kind;
    return n;
}

static int begin(void **state)
{
    (void)state;
    fake_init(&shard);
    assert_int_equal(call("fs.init", (struct fs_request){.ino = dir,
                                                         .inode = {.mode = S_IFDIR | 0755,
                                                                   .layout = {12, 12, 1, 0},
                                                                   .parent = 1}}),
                     0);
    return 0;
}

static int end(void **state)
{
    (void)state;
    fake_fini(&shard);
    return 0;
}

/* ---- Input ---- */

static const char *const all[] = {
    "fs.apply",  "fs.create",  "fs.dying",   "fs.enter",   "fs.getattr", "fs.init",   "fs.layout",
    "fs.leave",  "fs.links",   "fs.list",    "fs.lookup",  "fs.moved",   "fs.purge",  "fs.reap",
    "fs.rename", "fs.reserve", "fs.setattr", "fs.split",   "fs.settle",  "fs.unlink", "fs.vanish",
    "fs.wrote",  "fs.xget",    "fs.xlist",   "fs.xremove", "fs.xset",
};

static void malformed_requests_are_refused(void **state)
{
    static const uint8_t nonsense[] = {9, 0, 0, 0, 1, 1, 255, 0, 0, 0, 1, 2, 3};
    struct fake_object before = shard;
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        assert_int_equal(call_bytes(all[i], "", 0), -EINVAL);
        assert_int_equal(call_bytes(all[i], "\1\0\0", 3), -EINVAL);
        assert_int_equal(call_bytes(all[i], nonsense, sizeof nonsense), -EINVAL);
    }
    assert_true(fake_equal(&before, &shard));
}

static void a_shard_that_is_not_there(void **state)
{
    (void)state;
    end(NULL);
    fake_init(&shard);
    assert_int_equal(lookup("a"), -ENOENT);
    assert_int_equal(call("fs.getattr", (struct fs_request){.ino = dir}), -ESTALE);
    assert_int_equal(
        call("fs.create",
             (struct fs_request){.ino = dir, .name = text("a"), .inode = inode_of(S_IFREG)}),
        -ENOENT);
    assert_int_equal(call("fs.list", (struct fs_request){.ino = dir, .len = 100}), -ENOENT);
    assert_int_equal(call("fs.unlink", (struct fs_request){.ino = dir, .name = text("a")}),
                     -ENOENT);
    assert_int_equal(call("fs.vanish", (struct fs_request){.ino = dir, .tx = tx}), 0);
    assert_int_equal(call("fs.settle", (struct fs_request){.ino = dir, .tx = tx, .type = 3}), 0);
    assert_false(shard.state.exists);
}

static void a_record_that_is_torn_is_an_error(void **state)
{
    uint64_t ino = create("a");
    (void)state;
    for (uint32_t i = 0; i < shard.pairs.n; i++) {
        struct fake_entry *pair = &shard.pairs.entries[i];
        if (pair->name[0] == FS_KEY_INODE && pair->name[3] == fs_index(ino))
            pair->value_len = 3;
    }
    assert_int_equal(call("fs.getattr", (struct fs_request){.ino = ino}), -EIO);
    assert_int_equal(lookup("a"), -EIO);
    assert_int_equal(call("fs.unlink", (struct fs_request){.ino = dir, .name = text("a")}), -EIO);
}

/* ---- Shards and numbers ---- */

static void init_makes_a_directory_once(void **state)
{
    (void)state;
    struct fs_inode root = getattr(dir);
    assert_int_equal(root.links, 2);
    assert_int_equal(root.parent, 1);
    assert_int_equal(
        call("fs.init", (struct fs_request){.ino = dir, .inode = inode_of(S_IFDIR | 0755)}),
        -EEXIST);
    assert_int_equal(call("fs.init", (struct fs_request){.ino = dir, .inode = inode_of(S_IFREG)}),
                     -EINVAL);
    assert_int_equal(
        call("fs.init", (struct fs_request){.ino = dir + 1, .inode = inode_of(S_IFDIR)}), -EINVAL);
}

static void reserve_gives_numbers_once(void **state)
{
    (void)state;
    assert_int_equal(call("fs.reserve", (struct fs_request){.len = 64}), 0);
    uint64_t first = answer.offset;
    assert_int_equal(call("fs.reserve", (struct fs_request){.len = 1}), 0);
    assert_int_equal(answer.offset, first + 64);
    assert_int_equal(call("fs.reserve", (struct fs_request){.len = 0}), -EINVAL);
    assert_int_equal(call("fs.reserve", (struct fs_request){.len = UINT64_C(1) << 33}), -EINVAL);
}

static void numbers_are_not_given_again(void **state)
{
    (void)state;
    uint64_t first = create("a");
    assert_int_equal(call("fs.unlink", (struct fs_request){.ino = dir, .name = text("a")}), 0);
    assert_int_equal(call("fs.purge", (struct fs_request){.ino = first}), 0);
    assert_int_not_equal(create("a"), first);
}

/* ---- Creating and looking ---- */

static void create_makes_entry_and_inode(void **state)
{
    (void)state;
    uint64_t before = getattr(dir).change, ino = create("a");
    assert_int_equal(fs_home(ino), HOME);
    assert_int_equal(lookup("a"), 0);
    assert_int_equal(answer.ino, ino);
    assert_int_equal(answer.type, S_IFREG >> 12);
    assert_int_equal(answer.inode.links, 1);
    struct fs_inode root = getattr(dir);
    assert_true(root.change > before);
    assert_int_equal(root.mtime_ns, root.ctime_ns);
    assert_int_equal(lookup("b"), -ENOENT);
}

static void create_gives_what_is_there(void **state)
{
    (void)state;
    uint64_t ino = create("a");
    struct fs_request rq = {.ino = dir, .name = text("a"), .inode = inode_of(S_IFREG)};
    assert_int_equal(call("fs.create", rq), 0);
    assert_int_equal(answer.ino, ino);
    assert_true(answer.flags & FS_EXISTED);
    rq.flags = FS_EXCLUSIVE;
    assert_int_equal(call("fs.create", rq), -EEXIST);
}

static void create_refuses_what_has_no_sense(void **state)
{
    (void)state;
    struct fs_request rq = {.ino = dir, .name = text("a"), .inode = inode_of(S_IFDIR | 0755)};
    assert_int_equal(call("fs.create", rq), -EINVAL);
    rq.inode.mode = 0755; /* No type at all. */
    assert_int_equal(call("fs.create", rq), -EINVAL);
    rq.inode.mode = S_IFLNK | 0777; /* It leads nowhere. */
    assert_int_equal(call("fs.create", rq), -EINVAL);
    rq.inode.target = text("b");
    assert_int_equal(call("fs.create", rq), 0);
    assert_int_equal(getattr(answer.ino).size, 1);
    rq.name = text("");
    assert_int_equal(call("fs.create", rq), -EINVAL);
}

static void a_file_may_begin_without_a_name(void **state)
{
    (void)state;
    struct fs_request rq = {.ino = dir, .flags = FS_UNNAMED, .inode = inode_of(S_IFREG)};
    assert_int_equal(call("fs.create", rq), 0);
    uint64_t ino = answer.ino;
    assert_int_equal(getattr(ino).links, 0);
    assert_true(has_key(FS_KEY_ORPHAN, fs_index(ino)));
    struct fs_request enter = {.ino = dir,
                               .name = text("now"),
                               .flags = FS_NO_REPLACE | FS_COUNT,
                               .intent = {.kind = FS_INTENT_LINK, .ino = ino, .type = 8}};
    assert_int_equal(call("fs.enter", enter), 0);
    assert_int_equal(getattr(ino).links, 1);
    assert_false(has_key(FS_KEY_ORPHAN, fs_index(ino)));
}

/* Its contents are being removed, perhaps. */
static void a_file_that_has_lost_its_last_name_gets_no_other(void **state)
{
    (void)state;
    uint64_t ino = create("a");
    struct fs_request enter = {.ino = dir,
                               .name = text("b"),
                               .flags = FS_NO_REPLACE | FS_COUNT,
                               .intent = {.kind = FS_INTENT_LINK, .ino = ino, .type = 8}};
    struct fs_request across = {.ino = ino,
                                .tx = {1, 9},
                                .type = ADD,
                                .flags = FS_INTENT,
                                .intent = {.kind = FS_INTENT_LINK, .ino = ino, .type = 8}};
    assert_int_equal(call("fs.unlink", (struct fs_request){.ino = dir, .name = text("a")}), 0);
    assert_int_equal(call("fs.enter", enter), -ENOENT);
    assert_int_equal(call("fs.links", across), -ENOENT);
    assert_int_equal(lookup("b"), -ENOENT);
    assert_true(has_key(FS_KEY_ORPHAN, fs_index(ino)));
}

static void groups_are_inherited(void **state)
{
    (void)state;
    struct fs_request rq = {.ino = dir,
                            .set = FS_SET_MODE | FS_SET_GID,
                            .inode = {.mode = S_ISGID | 0755, .gid = 55, .layout = {12, 12, 1, 0}}};
    assert_int_equal(call("fs.setattr", rq), 0);
    assert_int_equal(getattr(create("a")).gid, 55);
}

static void list_goes_on_where_it_ended(void **state)
{
    char name[8];
    uint64_t cookie = 2;
    int n = 0, pages = 0;
    bool more = true;
    (void)state;
    for (int i = 0; i < 40; i++) {
        (void)snprintf(name, sizeof name, "f%d", i);
        (void)create(name);
    }
    while (more) {
        struct decoder d;
        struct fs_listed listed;
        assert_int_equal(
            call("fs.list",
                 (struct fs_request){.ino = dir, .offset = cookie, .len = 300, .flags = FS_PLUS}),
            0);
        decoder_init(&d, raw, raw_len);
        more = fs_list_head_decode(&d).flags & FS_LIST_MORE;
        while (fs_listed_next(&d, &listed) == 0) {
            assert_true(listed.cookie > cookie);
            assert_true(listed.has_inode);
            cookie = listed.cookie;
            n++;
        }
        assert_true(++pages < 41);
    }
    assert_int_equal(n, 40);
    assert_true(pages > 3);
}

/* ---- Removing ---- */

static void unlink_makes_orphans_and_purge_ends_them(void **state)
{
    (void)state;
    uint64_t ino = create("a");
    struct fs_request x = {.ino = ino, .name = text("user.a")};
    assert_int_equal(call_data("fs.xset", &x, "1", 1), 0);
    assert_int_equal(call("fs.purge", (struct fs_request){.ino = ino}), -FS_CHANGED);
    assert_int_equal(call("fs.unlink", (struct fs_request){.ino = dir, .name = text("a")}), 0);
    assert_true(answer.flags & FS_ORPHANED);
    assert_false(grew);
    assert_int_equal(getattr(ino).links, 0);
    assert_int_equal(lookup("a"), -ENOENT);
    assert_int_equal(call("fs.purge", (struct fs_request){.ino = ino}), 0);
    assert_int_equal(count_kind(FS_KEY_ORPHAN) + count_kind(FS_KEY_XATTR), 0);
    assert_int_equal(call("fs.getattr", (struct fs_request){.ino = ino}), -ESTALE);
    assert_int_equal(call("fs.purge", (struct fs_request){.ino = ino}), 0); /* Again. */
}

/* A file that has lost its last name, and perhaps has contents still. */
static uint64_t orphan(const char *name, uint64_t size)
{
    uint64_t ino = create(name);
    struct fs_request wrote = {.ino = ino, .len = size};
    if (size > 0)
        assert_int_equal(call("fs.wrote", wrote), 0);
    assert_int_equal(call("fs.unlink", (struct fs_request){.ino = dir, .name = text(name)}), 0);
    return ino;
}

static int reap(uint32_t flags, const uint32_t *indexes, size_t n)
{
    struct fs_request rq = {.ino = dir, .flags = flags};
    return call_data("fs.reap", &rq, indexes, n * sizeof *indexes);
}

static void many_are_reaped_at_once_but_not_their_contents(void **state)
{
    (void)state;
    uint64_t named = create("named"), full = orphan("full", 1), empty = orphan("empty", 0);
    struct fs_request x = {.ino = empty, .name = text("user.a")};
    assert_int_equal(call_data("fs.xset", &x, "1", 1), 0);
    const uint32_t indexes[] = {fs_index(named), fs_index(full), fs_index(empty), 99999,
                                FS_INDEX_DIR};
    assert_int_equal(reap(0, indexes, 5), 0);
    assert_int_equal(answer.offset, 1 << 1);
    assert_false(grew);
    assert_int_equal(call("fs.getattr", (struct fs_request){.ino = empty}), -ESTALE);
    assert_int_equal(count_kind(FS_KEY_XATTR), 0);
    assert_int_equal(count_kind(FS_KEY_ORPHAN), 1);
    assert_int_equal(getattr(full).links, 0);
    assert_int_equal(getattr(named).links, 1);
    assert_int_equal(reap(FS_EMPTIED, indexes, 2), 0);
    assert_int_equal(answer.offset, 0);
    assert_int_equal(call("fs.getattr", (struct fs_request){.ino = full}), -ESTALE);
    assert_int_equal(count_kind(FS_KEY_ORPHAN), 0);
    assert_int_equal(getattr(named).links, 1);
    assert_int_equal(lookup("named"), 0);
    assert_int_equal(reap(0, indexes, 5), 0); /* Again. */
}

static void a_list_to_reap_that_is_none_is_refused(void **state)
{
    uint32_t indexes[FS_REAP_MAX + 1] = {0};
    struct fs_request rq = {.ino = dir};
    (void)state;
    assert_int_equal(reap(0, indexes, 0), -EINVAL);
    assert_int_equal(reap(0, indexes, FS_REAP_MAX + 1), -EINVAL);
    assert_int_equal(call_data("fs.reap", &rq, indexes, 7), -EINVAL);
    indexes[0] = 1u << 24;
    assert_int_equal(reap(0, indexes, 1), -EINVAL);
}

static uint64_t enter_far(const char *name, uint64_t ino, uint8_t type)
{
    struct fs_request rq = {.ino = dir,
                            .name = text(name),
                            .flags = FS_NO_REPLACE,
                            .intent = {.kind = FS_INTENT_LINK, .ino = ino, .type = type}};
    assert_int_equal(call("fs.enter", rq), 0);
    return ino;
}

static void unlink_tells_files_from_directories(void **state)
{
    (void)state;
    (void)create("file");
    enter_far("below", far_dir, S_IFDIR >> 12);
    assert_int_equal(getattr(dir).links, 3);
    struct fs_request rq = {.ino = dir, .name = text("below"), .tx = tx};
    assert_int_equal(call("fs.unlink", rq), -EISDIR);
    rq.flags = FS_DIRECTORY_IS;
    assert_int_equal(call("fs.unlink", rq), -FS_CHANGED); /* Which one is not said. */
    rq.expect = far_dir;
    assert_int_equal(call("fs.unlink", rq), 0);
    assert_int_equal(getattr(dir).links, 2);
    rq.name = text("file");
    assert_int_equal(call("fs.unlink", rq), -ENOTDIR);
}

/* As a check that repairs would. */
static void shard_without(const char *name)
{
    uint8_t key[FS_KEY_MAX];
    struct encoder changes;
    encoder_init(&changes);
    fs_change_encode(
        &changes, &(struct fs_change){.removed = true,
                                      .key = key,
                                      .key_len = (uint16_t)fs_entry_key(key, name, strlen(name))});
    struct fs_request rq = {.ino = dir};
    assert_int_equal(call_data("fs.apply", &rq, changes.data, changes.len), 0);
    encoder_fini(&changes);
}

static int moved(unsigned flags)
{
    return call("fs.moved", (struct fs_request){.ino = dir, .tx = tx, .flags = flags});
}

static void unlink_of_what_is_elsewhere_shows_nothing_before_it_has_a_link_less(void **state)
{
    (void)state;
    enter_far("a", far, S_IFREG >> 12);
    struct fs_request rq = {.ino = dir, .name = text("a")};
    assert_int_equal(call("fs.unlink", rq), -EINVAL); /* It has no number. */
    assert_int_equal(lookup("a"), 0);
    rq.tx = tx;
    assert_int_equal(call("fs.unlink", rq), 0);
    assert_true(answer.flags & FS_DROPPED);
    assert_int_equal(answer.ino, far);
    assert_int_equal(count_kind(FS_KEY_INTENT), 1);
    assert_int_equal(lookup("a"), -FS_MOVING);
    rq.tx = other_tx;
    assert_int_equal(call("fs.unlink", rq), -FS_MOVING);
    assert_int_equal(moved(FS_UNDO), -EINVAL);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(moved(0), 0);
        assert_int_equal(lookup("a"), -ENOENT);
        assert_int_equal(count_kind(FS_KEY_INTENT), 0);
    }
}

/* What has the name by then is somebody else's. */
static void the_end_of_a_drop_takes_its_own_entry_only(void **state)
{
    (void)state;
    enter_far("a", far, S_IFREG >> 12);
    assert_int_equal(
        call("fs.unlink", (struct fs_request){.ino = dir, .name = text("a"), .tx = tx}), 0);
    shard_without("a");
    uint64_t a = create("a");
    assert_int_equal(moved(0), 0);
    assert_int_equal(lookup("a"), 0);
    assert_int_equal(answer.ino, a);
    assert_int_equal(count_kind(FS_KEY_INTENT), 0);
}

/* ---- Renaming inside ---- */

static int rename_(const char *from, const char *to, unsigned flags, uint64_t expect_to)
{
    return call("fs.rename", (struct fs_request){.ino = dir,
                                                 .name = text(from),
                                                 .to = text(to),
                                                 .flags = flags,
                                                 .expect_to = expect_to,
                                                 .tx = tx});
}

static void rename_moves_and_replaces(void **state)
{
    (void)state;
    uint64_t a = create("a"), b = create("b");
    assert_int_equal(rename_("none", "x", 0, 0), -ENOENT);
    assert_int_equal(rename_("a", "c", 0, 0), 0);
    assert_int_equal(lookup("a"), -ENOENT);
    assert_int_equal(rename_("c", "b", FS_NO_REPLACE, 0), -EEXIST);
    assert_int_equal(rename_("c", "b", 0, 0), 0);
    assert_true(answer.flags & FS_ORPHANED);
    assert_int_equal(lookup("b"), 0);
    assert_int_equal(answer.ino, a);
    assert_int_equal(getattr(b).links, 0);
    assert_int_equal(rename_("b", "b", 0, 0), 0);
    assert_int_equal(rename_("b", "b", FS_NO_REPLACE, 0), -EEXIST);
    assert_int_equal(lookup("b"), 0);
}

static void rename_over_what_is_elsewhere_shows_nothing_before_it_has_a_link_less(void **state)
{
    (void)state;
    uint64_t a = create("a");
    enter_far("b", far, S_IFREG >> 12);
    uint64_t before = getattr(a).change;
    assert_int_equal(rename_("a", "b", 0, 0), 0);
    assert_true(answer.flags & FS_DROPPED);
    assert_int_equal(answer.ino, far);
    assert_int_equal(lookup("a"), -FS_MOVING);
    assert_int_equal(lookup("b"), -FS_MOVING);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(moved(0), 0);
        assert_int_equal(lookup("a"), -ENOENT);
        assert_int_equal(lookup("b"), 0);
        assert_int_equal(answer.ino, a);
        assert_int_equal(getattr(a).change, before + 1);
        assert_int_equal(count_kind(FS_KEY_INTENT), 0);
    }
}

static void rename_swaps(void **state)
{
    (void)state;
    uint64_t a = create("a"), b = create("b");
    assert_int_equal(rename_("a", "none", FS_SWAP, 0), -ENOENT);
    assert_int_equal(rename_("a", "b", FS_SWAP, 0), 0);
    assert_int_equal(lookup("a"), 0);
    assert_int_equal(answer.ino, b);
    assert_int_equal(lookup("b"), 0);
    assert_int_equal(answer.ino, a);
    assert_int_equal(getattr(a).links, 1);
}

static void rename_of_two_links_to_one_file_does_nothing(void **state)
{
    (void)state;
    uint64_t a = create("a");
    assert_int_equal(
        call("fs.enter",
             (struct fs_request){.ino = dir,
                                 .name = text("b"),
                                 .flags = FS_COUNT | FS_NO_REPLACE,
                                 .intent = {.kind = FS_INTENT_LINK, .ino = a, .type = 8}}),
        0);
    assert_int_equal(rename_("a", "b", 0, 0), 0);
    assert_int_equal(lookup("a"), 0);
    assert_int_equal(getattr(a).links, 2);
}

/* Whoever moves looks again, and finds two links to one file. */
static void what_comes_from_elsewhere_does_not_replace_another_link_to_it(void **state)
{
    (void)state;
    uint64_t a = create("a");
    assert_int_equal(
        call("fs.enter",
             (struct fs_request){.ino = dir,
                                 .name = text("a"),
                                 .tx = {1, 9},
                                 .intent = {.kind = FS_INTENT_MOVE, .ino = a, .type = 8}}),
        -FS_CHANGED);
    assert_int_equal(lookup("a"), 0);
    assert_int_equal(getattr(a).links, 1);
}

static void a_directory_is_replaced_only_when_it_is_named(void **state)
{
    (void)state;
    (void)create("file");
    enter_far("d", far_dir, S_IFDIR >> 12);
    enter_far("e", far_dir + (1 << FS_INDEX_BITS), S_IFDIR >> 12);
    assert_int_equal(getattr(dir).links, 4);
    assert_int_equal(rename_("file", "d", 0, 0), -EISDIR);
    assert_int_equal(rename_("d", "file", 0, 0), -ENOTDIR);
    assert_int_equal(rename_("d", "e", 0, 0), -FS_CHANGED);
    assert_int_equal(rename_("d", "e", 0, far_dir + (1 << FS_INDEX_BITS)), 0);
    assert_int_equal(getattr(dir).links, 3);
}

/* ---- Over two shards ---- */

static struct fs_request leaving(const char *name, uint64_t ino, uint8_t type)
{
    return (struct fs_request){.ino = dir,
                               .name = text(name),
                               .tx = tx,
                               .intent = {.kind = FS_INTENT_MOVE,
                                          .type = type,
                                          .ino = ino,
                                          .to_dir = far_dir,
                                          .name = text(name),
                                          .to = text("there")}};
}

static void what_is_leaving_is_not_touched(void **state)
{
    (void)state;
    uint64_t a = create("a");
    struct fs_request rq = leaving("a", a, 8);
    assert_int_equal(call("fs.leave", rq), 0);
    assert_int_equal(call("fs.leave", rq), 0); /* The same again. */
    assert_int_equal(count_kind(FS_KEY_INTENT), 1);
    rq.tx = other_tx;
    assert_int_equal(call("fs.leave", rq), -FS_MOVING);
    assert_int_equal(lookup("a"), -FS_MOVING);
    assert_int_equal(call("fs.unlink", (struct fs_request){.ino = dir, .name = text("a")}),
                     -FS_MOVING);
    assert_int_equal(rename_("a", "b", 0, 0), -FS_MOVING);
    assert_int_equal(
        call("fs.create",
             (struct fs_request){.ino = dir, .name = text("a"), .inode = inode_of(S_IFREG)}),
        -FS_MOVING);
    assert_int_equal(call("fs.moved", (struct fs_request){.ino = dir, .tx = tx, .flags = FS_UNDO}),
                     0);
    assert_int_equal(lookup("a"), 0);
    assert_int_equal(count_kind(FS_KEY_INTENT), 0);
}

static void leave_refuses_what_it_cannot_take_back(void **state)
{
    (void)state;
    uint64_t a = create("a");
    struct fs_request rq = leaving("a", a, 8);
    rq.tx = (struct fs_txid){0, 0};
    assert_int_equal(call("fs.leave", rq), -EINVAL);
    rq = leaving("a", a, 8);
    rq.intent.name = text("b"); /* Another one than the entry. */
    assert_int_equal(call("fs.leave", rq), -EINVAL);
    rq = leaving("a", a, 8);
    rq.intent.kind = FS_INTENT_DROP;
    assert_int_equal(call("fs.leave", rq), -EINVAL);
    rq = leaving("a", a + 1, 8);
    assert_int_equal(call("fs.leave", rq), -FS_CHANGED);
    rq = leaving("none", a, 8);
    assert_int_equal(call("fs.leave", rq), -ENOENT);
}

static void moved_ends_a_move_once(void **state)
{
    (void)state;
    enter_far("d", far_dir, S_IFDIR >> 12);
    assert_int_equal(call("fs.leave", leaving("d", far_dir, S_IFDIR >> 12)), 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(call("fs.moved", (struct fs_request){.ino = dir, .tx = tx}), 0);
        assert_int_equal(lookup("d"), -ENOENT);
        assert_int_equal(getattr(dir).links, 2);
    }
    assert_int_equal(count_kind(FS_KEY_INTENT), 0);
}

/* A client that says a wrong type must not make the number of links wrap. */
static void links_of_a_directory_stay_in_bounds(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 4; i++) {
        uint64_t a = create("a");
        struct fs_request rq = leaving("a", a, S_IFDIR >> 12);
        rq.tx.sequence = 10 + i;
        assert_int_equal(call("fs.leave", rq), 0);
        assert_int_equal(call("fs.moved", (struct fs_request){.ino = dir, .tx = rq.tx}), 0);
        assert_int_equal(getattr(dir).links, 2);
    }
}

static void enter_is_done_once(void **state)
{
    (void)state;
    struct fs_request rq = {.ino = dir,
                            .name = text("a"),
                            .tx = tx,
                            .intent = {.kind = FS_INTENT_MOVE, .ino = far, .type = 8}};
    assert_int_equal(call("fs.enter", rq), 0);
    assert_int_equal(
        call("fs.unlink", (struct fs_request){.ino = dir, .name = text("a"), .tx = other_tx}), 0);
    assert_int_equal(call("fs.moved", (struct fs_request){.ino = dir, .tx = other_tx}), 0);
    assert_int_equal(call("fs.enter", rq), 0);
    assert_true(answer.flags & FS_EXISTED);
    assert_int_equal(lookup("a"), -ENOENT); /* It did not come back. */
    assert_int_equal(
        call("fs.settle", (struct fs_request){.ino = dir, .tx = tx, .type = SETTLE_MARK}), 0);
    assert_int_equal(count_kind(FS_KEY_MARK), 0);
}

static void enter_replaces_what_is_expected(void **state)
{
    (void)state;
    uint64_t a = create("a");
    struct fs_request rq = {.ino = dir,
                            .name = text("a"),
                            .tx = tx,
                            .flags = FS_NO_REPLACE,
                            .intent = {.kind = FS_INTENT_MOVE, .ino = far, .type = 8}};
    assert_int_equal(call("fs.enter", rq), -EEXIST);
    rq.flags = 0;
    rq.expect = a + 1;
    assert_int_equal(call("fs.enter", rq), -FS_CHANGED);
    rq.expect = a;
    assert_int_equal(call("fs.enter", rq), 0);
    assert_true(answer.flags & FS_ORPHANED);
    assert_int_equal(getattr(a).links, 0);
    rq.intent.kind = 0;
    assert_int_equal(call("fs.enter", rq), -EINVAL);
}

static void enter_over_what_is_elsewhere_shows_nothing_before_it_has_a_link_less(void **state)
{
    (void)state;
    enter_far("a", far, S_IFREG >> 12);
    struct fs_request rq = {.ino = dir,
                            .name = text("a"),
                            .tx = tx,
                            .expect = far,
                            .intent = {.kind = FS_INTENT_MOVE, .ino = far + 1, .type = 8}};
    assert_int_equal(call("fs.enter", rq), 0);
    assert_true(answer.flags & FS_DROPPED);
    assert_int_equal(answer.ino, far);
    assert_int_equal(lookup("a"), -FS_MOVING);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(moved(0), 0);
        assert_int_equal(lookup("a"), 0);
        assert_int_equal(answer.ino, far + 1);
        assert_int_equal(count_kind(FS_KEY_INTENT), 0);
    }
}

static void enter_swaps_with_what_is_there(void **state)
{
    (void)state;
    uint64_t a = create("a");
    struct fs_request rq = {.ino = dir,
                            .name = text("none"),
                            .tx = tx,
                            .flags = FS_SWAP,
                            .expect = a,
                            .intent = {.kind = FS_INTENT_SWAP, .ino = far_dir, .type = 4}};
    assert_int_equal(call("fs.enter", rq), -ENOENT);
    rq.name = text("a");
    assert_int_equal(call("fs.enter", rq), 0);
    assert_int_equal(getattr(dir).links, 3);
    assert_int_equal(getattr(a).links, 1); /* It stands elsewhere now. */
}

static struct fs_request linking(uint64_t ino, uint8_t type, unsigned flags)
{
    return (struct fs_request){
        .ino = ino,
        .tx = tx,
        .type = type,
        .flags = flags,
        .intent = {
            .kind = FS_INTENT_LINK, .ino = ino, .type = 8, .to_dir = far_dir, .to = text("b")}};
}

static void a_link_elsewhere_is_counted_once_and_taken_back_once(void **state)
{
    (void)state;
    uint64_t a = create("a");
    for (int i = 0; i < 3; i++)
        assert_int_equal(call("fs.links", linking(a, ADD, FS_INTENT)), 0);
    assert_int_equal(getattr(a).links, 2);
    for (int i = 0; i < 3; i++)
        assert_int_equal(call("fs.links", linking(a, ADD, FS_INTENT | FS_UNDO)), 0);
    assert_int_equal(getattr(a).links, 1);
    assert_int_equal(count_kind(FS_KEY_INTENT), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(call("fs.links", linking(a, DROP, 0)), 0);
    assert_int_equal(getattr(a).links, 0);
    assert_true(has_key(FS_KEY_ORPHAN, fs_index(a)));
}

static void links_have_a_limit(void **state)
{
    (void)state;
    uint64_t a = create("a");
    for (uint32_t i = 0; i < shard.pairs.n; i++) {
        struct fake_entry *pair = &shard.pairs.entries[i];
        uint32_t links = FS_LINKS_MAX;
        if (pair->name[0] == FS_KEY_INODE && pair->name[3] == fs_index(a))
            memcpy(pair->value + 18, &links, sizeof links);
    }
    assert_int_equal(call("fs.links", linking(a, ADD, FS_INTENT)), -EMLINK);
    assert_int_equal(call("fs.links", linking(dir, ADD, FS_INTENT)), -EINVAL);
    assert_int_equal(call("fs.links", linking(a, 3, 0)), -EINVAL);
    assert_int_equal(call("fs.links", linking(a, DROP, FS_INTENT)), -EINVAL);
    assert_int_equal(call("fs.links", linking(a + 50, DROP, 0)), -ESTALE);
}

/* ---- Directories that go ---- */

static void a_dying_directory_lets_nothing_be_made(void **state)
{
    (void)state;
    struct fs_request rq = {.ino = dir, .tx = tx}, undo = {.ino = dir, .tx = tx, .flags = FS_UNDO};
    (void)create("a");
    assert_int_equal(call("fs.dying", rq), -ENOTEMPTY);
    assert_int_equal(call("fs.unlink", (struct fs_request){.ino = dir, .name = text("a")}), 0);
    assert_int_equal(call("fs.dying", rq), 0);
    assert_int_equal(call("fs.dying", rq), 0);
    rq.tx = other_tx;
    assert_int_equal(call("fs.dying", rq), -FS_MOVING);
    struct fs_request make = {.ino = dir, .name = text("b"), .inode = inode_of(S_IFREG)};
    assert_int_equal(call("fs.create", make), -ENOENT);
    assert_int_equal(call("fs.dying", undo), 0);
    assert_int_equal(call("fs.create", make), 0);
}

static void a_shard_stays_for_those_who_were_born_there(void **state)
{
    (void)state;
    uint64_t a = create("a");
    assert_int_equal(call("fs.leave", leaving("a", a, 8)), 0);
    assert_int_equal(call("fs.moved", (struct fs_request){.ino = dir, .tx = tx}), 0);
    assert_int_equal(call("fs.vanish", (struct fs_request){.ino = dir, .tx = tx}), -FS_CHANGED);
    assert_int_equal(call("fs.dying", (struct fs_request){.ino = dir, .tx = tx}), 0);
    assert_int_equal(call("fs.vanish", (struct fs_request){.ino = dir, .tx = tx}), 0);
    assert_true(answer.flags & FS_EXISTED);
    assert_int_equal(getattr(a).links, 1);
    assert_int_equal(call("fs.links", linking(a, DROP, 0)), 0);
    assert_int_equal(call("fs.purge", (struct fs_request){.ino = a}), 0);
    assert_true(answer.flags & FS_EXISTED);
    assert_int_equal(call("fs.vanish", (struct fs_request){.ino = dir}), 0);
    assert_false(shard.state.exists);
}

/* ---- Attributes and contents ---- */

static void setattr_changes_what_it_is_told(void **state)
{
    (void)state;
    uint64_t a = create("a"), change = getattr(a).change;
    struct fs_request rq = {.ino = a,
                            .set = FS_SET_MODE | FS_SET_UID | FS_SET_ATIME | FS_SET_MTIME,
                            .inode = {.mode = S_IFDIR | 0600,
                                      .uid = 5,
                                      .gid = 6,
                                      .atime_ns = -7,
                                      .mtime_ns = 8,
                                      .layout = {12, 12, 1, 0}}};
    assert_int_equal(call("fs.setattr", rq), 0);
    assert_false(grew);
    struct fs_inode got = getattr(a);
    assert_int_equal(got.mode, S_IFREG | 0600); /* A type does not change. */
    assert_int_equal(got.uid, 5);
    assert_int_equal(got.gid, 0);
    assert_int_equal(got.atime_ns, -7);
    assert_int_equal(got.mtime_ns, 8);
    assert_true(got.change > change);
    rq.ino = a + 9;
    assert_int_equal(call("fs.setattr", rq), -ESTALE);
}

static void a_truncation_is_over_when_its_data_are_gone(void **state)
{
    (void)state;
    uint64_t a = create("a");
    assert_int_equal(call("fs.wrote", (struct fs_request){.ino = a, .offset = 0, .len = 10000}), 0);
    struct fs_request cut = {
        .ino = a, .set = FS_SET_SIZE, .inode = {.size = 100, .layout = {12, 12, 1, 0}}};
    assert_int_equal(call("fs.setattr", cut),
                     -EINVAL); /* Data must go, and nobody says who sees to it. */
    cut.tx = tx;
    assert_int_equal(call("fs.setattr", cut), 0);
    assert_true(fs_txid_equal(answer.inode.busy, tx));
    struct fs_request grow = {.ino = a, .offset = 5000, .len = 1};
    assert_int_equal(call("fs.wrote", grow), -FS_MOVING);
    cut.tx = other_tx;
    assert_int_equal(call("fs.setattr", cut), -FS_MOVING);
    struct fs_request over = {.ino = a, .set = FS_SET_TRIMMED, .tx = other_tx};
    assert_int_equal(call("fs.setattr", over), 0);
    assert_true(fs_txid_equal(getattr(a).busy, tx)); /* It was another one's. */
    over.tx = tx;
    assert_int_equal(call("fs.setattr", over), 0);
    struct fs_inode got = getattr(a);
    assert_int_equal(got.busy.instance, 0);
    assert_int_equal(got.n_ranges, 1);
    assert_int_equal(got.ranges[0].last, 0);
    assert_int_equal(call("fs.wrote", grow), 0);
}

static void sizes_are_of_regular_files(void **state)
{
    (void)state;
    struct fs_request rq = {
        .ino = dir, .set = FS_SET_SIZE, .inode = {.size = 1, .layout = {12, 12, 1, 0}}};
    assert_int_equal(call("fs.setattr", rq), -EISDIR);
    assert_int_equal(call("fs.create", (struct fs_request){.ino = dir,
                                                           .name = text("pipe"),
                                                           .inode = inode_of(S_IFIFO | 0600)}),
                     0);
    rq.ino = answer.ino;
    assert_int_equal(call("fs.setattr", rq), -EINVAL);
    assert_int_equal(call("fs.wrote", (struct fs_request){.ino = rq.ino, .len = 1}), -EINVAL);
}

static void appends_are_told_where_they_are(void **state)
{
    (void)state;
    uint64_t a = create("a");
    struct fs_request rq = {.ino = a, .offset = 999, .len = 100, .flags = FS_APPEND};
    assert_int_equal(call("fs.wrote", rq), 0);
    assert_int_equal(answer.offset, 0);
    assert_int_equal(call("fs.wrote", rq), 0);
    assert_int_equal(answer.offset, 100);
    assert_int_equal(getattr(a).size, 200);
}

static void files_end_at_the_largest_size(void **state)
{
    (void)state;
    uint64_t a = create("a");
    struct fs_request rq = {.ino = a, .offset = FS_SIZE_MAX - 1, .len = 1};
    assert_int_equal(call("fs.wrote", rq), 0);
    assert_int_equal(getattr(a).size, FS_SIZE_MAX);
    rq.len = 2;
    assert_int_equal(call("fs.wrote", rq), -EFBIG);
    rq = (struct fs_request){.ino = a, .len = FS_SIZE_MAX, .flags = FS_APPEND};
    assert_int_equal(call("fs.wrote", rq), -EFBIG);
}

static void a_size_may_be_kept(void **state)
{
    (void)state;
    uint64_t a = create("a");
    struct fs_request rq = {.ino = a, .len = 5000, .expect = 1};
    assert_int_equal(call("fs.wrote", rq), 0);
    struct fs_inode got = getattr(a);
    assert_int_equal(got.size, 0);
    assert_int_equal(got.ranges[0].last, 1);
}

/* ---- Extended attributes ---- */

static void attributes_are_set_got_listed_removed(void **state)
{
    (void)state;
    uint64_t a = create("a"), b = create("b");
    struct fs_request rq = {.ino = a, .name = text("user.a")};
    assert_int_equal(call("fs.xget", rq), -ENODATA);
    assert_int_equal(call("fs.xremove", rq), -ENODATA);
    rq.flags = FS_REPLACE;
    assert_int_equal(call_data("fs.xset", &rq, "1", 1), -ENODATA);
    rq.flags = FS_EXCLUSIVE;
    assert_int_equal(call_data("fs.xset", &rq, "1", 1), 0);
    assert_int_equal(call_data("fs.xset", &rq, "2", 1), -EEXIST);
    rq.flags = FS_REPLACE;
    assert_int_equal(call_data("fs.xset", &rq, "two", 3), 0);
    uint64_t change = getattr(a).change;
    assert_int_equal(call_data("fs.xset", &rq, "two", 3), 0);
    assert_int_equal(getattr(a).change, change);
    rq.flags = 0;
    assert_int_equal(call("fs.xget", rq), 0);
    assert_int_equal(raw_len, 3);
    assert_memory_equal(raw, "two", 3);
    struct fs_request second = {.ino = a, .name = text("user.b")},
                      of_b = {.ino = b, .name = text("user.c")};
    assert_int_equal(call_data("fs.xset", &second, "", 0), 0);
    assert_int_equal(call_data("fs.xset", &of_b, "", 0), 0);
    assert_int_equal(call("fs.xlist", (struct fs_request){.ino = a}), 0);
    assert_int_equal(raw_len, 14);
    assert_memory_equal(raw, "user.a\0user.b", 14);
    assert_int_equal(call("fs.xremove", rq), 0);
    assert_false(grew);
    assert_int_equal(call("fs.xget", rq), -ENODATA);
    rq.ino = a + 9;
    assert_int_equal(call_data("fs.xset", &rq, "1", 1), -ESTALE);
    rq = (struct fs_request){.ino = a};
    assert_int_equal(call("fs.xget", rq), -EINVAL);
}

static void attributes_have_limits(void **state)
{
    (void)state;
    uint64_t a = create("a");
    struct fs_request rq = {.ino = a, .name = text("user.a")};
    uint8_t *large = calloc(1, FS_XATTR_VALUE_MAX + 1);
    assert_non_null(large);
    assert_int_equal(call_data("fs.xset", &rq, large, FS_XATTR_VALUE_MAX), 0);
    assert_int_equal(call_data("fs.xset", &rq, large, FS_XATTR_VALUE_MAX + 1), -E2BIG);
    free(large);
    char name[256];
    int rc = 0, n = 0;
    for (; rc == 0 && n < 300; n++) {
        (void)snprintf(name, sizeof name, "user.%0245d", n);
        rq.name = text(name);
        rc = call_data("fs.xset", &rq, "", 0);
    }
    assert_int_equal(rc, -ENOSPC);
    assert_true(n > 255);
}

/* ---- Access control lists ---- */

/* u32 2, then entries of a tag, permissions, and an id. */
static const uint8_t named_list[] = {
    2, 0, 0,    0,    1,    0,    6,  0, 0xff, 0xff, 0xff, 0xff, 2,    0,   4,
    0, 1, 0,    0,    0,    4,    0,  7, 0,    0xff, 0xff, 0xff, 0xff, 16,  0,
    5, 0, 0xff, 0xff, 0xff, 0xff, 32, 0, 1,    0,    0xff, 0xff, 0xff, 0xff};
static const uint8_t plain_list[] = {2,    0,    0, 0, 1,    0,    7,    0,    0xff, 0xff,
                                     0xff, 0xff, 4, 0, 4,    0,    0xff, 0xff, 0xff, 0xff,
                                     32,   0,    0, 0, 0xff, 0xff, 0xff, 0xff};

static const char access_list[] = "system.posix_acl_access",
                  default_list[] = "system.posix_acl_default";

static int set_list(uint64_t ino, const char *name, const void *list, size_t len, uint32_t flags)
{
    return call_data(
        "fs.xset", &(struct fs_request){.ino = ino, .name = text(name), .flags = flags}, list, len);
}

static int get(uint64_t ino, const char *name)
{
    return call("fs.xget", (struct fs_request){.ino = ino, .name = text(name)});
}

static void a_list_and_the_mode_follow_each_other(void **state)
{
    (void)state;
    uint64_t a = create("a");
    assert_int_equal(set_list(a, access_list, named_list, sizeof named_list - 1, 0), -EINVAL);
    assert_int_equal(set_list(a, access_list, named_list, sizeof named_list, 0), 0);
    assert_int_equal(answer.inode.mode, S_IFREG | 0651);
    assert_int_equal(answer.inode.attributes, FS_ATTRIBUTES_ANY | FS_ATTRIBUTES_ACCESS);
    struct fs_request chmod = {.ino = a, .set = FS_SET_MODE, .inode = inode_of(0724)};
    assert_int_equal(call("fs.setattr", chmod), 0);
    assert_int_equal(get(a, access_list), 0);
    assert_int_equal(raw[4 + 2], 7);
    assert_int_equal(raw[4 + 2 * 8 + 2], 7); /* The group's own entry stays, */
    assert_int_equal(raw[4 + 3 * 8 + 2], 2); /* the mask does not. */
    assert_int_equal(raw[4 + 4 * 8 + 2], 4);
}

static void a_list_that_says_what_the_mode_says_is_not_kept(void **state)
{
    (void)state;
    uint64_t a = create("a");
    assert_int_equal(
        call("fs.setattr",
             (struct fs_request){.ino = a, .set = FS_SET_MODE, .inode = inode_of(02770)}),
        0);
    assert_int_equal(set_list(a, access_list, named_list, sizeof named_list, 0), 0);
    assert_int_equal(answer.inode.mode, S_IFREG | 02651);
    assert_int_equal(set_list(a, access_list, plain_list, sizeof plain_list, FS_KILL_GROUP), 0);
    assert_int_equal(answer.inode.mode, S_IFREG | 0740);
    assert_int_equal(answer.inode.attributes, FS_ATTRIBUTES_ANY);
    assert_int_equal(get(a, access_list), -ENODATA);
    assert_int_equal(call("fs.xremove", (struct fs_request){.ino = a, .name = text(access_list)}),
                     0);
    assert_int_equal(set_list(a, default_list, plain_list, sizeof plain_list, 0), -EACCES);
}

static void what_is_made_inherits_the_default_list(void **state)
{
    (void)state;
    assert_int_equal(set_list(dir, default_list, named_list, sizeof named_list, 0), 0);
    struct fs_request rq = {.ino = dir,
                            .name = text("a"),
                            .flags = FS_EXCLUSIVE,
                            .inode = inode_of(S_IFREG | 0600),
                            .full_mode = S_IFREG | 0666};
    assert_int_equal(call("fs.create", rq), 0);
    assert_int_equal(answer.inode.mode, S_IFREG | 0640); /* Not less by the umask. */
    assert_int_equal(answer.inode.attributes, FS_ATTRIBUTES_ANY | FS_ATTRIBUTES_ACCESS);
    uint64_t a = answer.ino;
    assert_int_equal(get(a, access_list), 0);
    assert_int_equal(raw[4 + 3 * 8 + 2], 4);
    assert_int_equal(get(a, default_list), -ENODATA);
    rq.name = text("link");
    rq.inode = inode_of(S_IFLNK | 0777);
    rq.inode.target = text("a");
    assert_int_equal(call("fs.create", rq), 0);
    assert_int_equal(answer.inode.attributes, 0);
    assert_int_equal(
        call("fs.xremove", (struct fs_request){.ino = dir, .name = text(default_list)}), 0);
    rq.name = text("b");
    rq.inode = inode_of(S_IFREG | 0600);
    assert_int_equal(call("fs.create", rq), 0);
    assert_int_equal(answer.inode.mode, S_IFREG | 0600);
    assert_int_equal(answer.inode.attributes, 0);
}

static void a_new_directory_inherits_both(void **state)
{
    (void)state;
    fake_fini(&shard);
    fake_init(&shard);
    struct fs_request rq = {
        .ino = dir,
        .full_mode = S_IFDIR | 0777,
        .inode = {.mode = S_IFDIR | 0700, .layout = {12, 12, 1, 0}, .parent = 1}};
    assert_int_equal(call_data("fs.init", &rq, named_list, 9), -EINVAL);
    assert_int_equal(call_data("fs.init", &rq, named_list, sizeof named_list), 0);
    assert_int_equal(answer.inode.mode, S_IFDIR | 0651);
    assert_int_equal(answer.inode.attributes, FS_ATTRIBUTES_END - 1);
    assert_int_equal(get(dir, default_list), 0);
    assert_memory_equal(raw, named_list, sizeof named_list);
    assert_int_equal(get(dir, access_list), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

/* ---- Layouts ---- */

static int set_layout(uint64_t ino, struct fs_layout layout)
{
    return call("fs.layout", (struct fs_request){.ino = ino, .inode = {.layout = layout}});
}

static void layouts_are_inherited_and_changed_while_empty(void **state)
{
    const struct fs_layout striped = {16, 12, 4, 0}, plain = {12, 12, 1, 0};
    (void)state;
    uint64_t before = create("before");
    assert_int_equal(set_layout(dir, striped), 0);
    uint64_t after = create("after");
    assert_int_equal(getattr(before).layout.stripes, 1);
    assert_int_equal(getattr(after).layout.stripes, 4);
    assert_int_equal(getattr(after).layout.unit_order, 12);
    assert_int_equal(getattr(after).relaid, 0);

    assert_int_equal(set_layout(after, plain), 0);
    assert_int_equal(getattr(after).layout.stripes, 1);
    assert_int_equal(getattr(after).relaid, 1); /* Other objects from now on. */
    assert_int_equal(getattr(after).n_ranges, 0);
    assert_int_equal(call("fs.wrote", (struct fs_request){.ino = after, .len = 1}), 0);
    assert_int_equal(set_layout(after, striped), -ENOTEMPTY);
    assert_int_equal(getattr(after).layout.stripes, 1);
}

static void layouts_of_what_is_busy_or_has_no_contents_stay(void **state)
{
    const struct fs_layout striped = {16, 12, 4, 0};
    (void)state;
    uint64_t ino = create("file");
    struct fs_request behind = {
        .ino = ino, .len = 9, .flags = FS_BEHIND, .tx = {1, 2}, .expect = 1};
    assert_int_equal(call("fs.wrote", behind), 0);
    assert_int_equal(set_layout(ino, striped), -FS_MOVING);
    assert_int_equal(call("fs.create", (struct fs_request){.ino = dir,
                                                           .name = text("pipe"),
                                                           .inode = inode_of(S_IFIFO | 0644)}),
                     0);
    assert_int_equal(set_layout(answer.ino, striped), -EINVAL);
    assert_int_equal(call("fs.layout", (struct fs_request){.ino = dir}), -EINVAL);
}

/* ---- Locks ---- */

/* Of an owner of the fake's caller: [start, end], or the whole file as by flock(2). */
static struct fs_lock lock_of(uint64_t owner, uint64_t start, uint64_t end, bool exclusive)
{
    return (struct fs_lock){.owner = owner, .start = start, .end = end, .exclusive = exclusive};
}

static int set_lock(uint64_t ino, struct fs_lock lock, unsigned type)
{
    return call("fs.lock", (struct fs_request){.ino = ino,
                                               .expect = lock.owner,
                                               .offset = lock.start,
                                               .len = lock.end - lock.start + 1,
                                               .type = (uint8_t)type,
                                               .flags = FS_WAITS});
}

static void lock(uint64_t ino, struct fs_lock lock)
{
    assert_int_equal(set_lock(ino, lock, lock.exclusive ? FS_LOCK_EXCLUSIVE : FS_LOCK_SHARED), 0);
    assert_int_equal(answer.flags & FS_EXISTED, 0);
}

/* The record as it is; its locks are named by the caller, whoever that is. */
static struct fs_locks locks_of(uint64_t ino)
{
    struct fs_locks locks = {.n = 0};
    uint8_t key[FS_KEY_MAX];
    size_t len = fs_index_key(key, FS_KEY_LOCKS, fs_index(ino));
    for (uint32_t i = 0; i < shard.pairs.n; i++) {
        const struct fake_entry *pair = &shard.pairs.entries[i];
        if (pair->name_len == len && memcmp(pair->name, key, len) == 0)
            assert_int_equal(fs_locks_decode(pair->value, pair->value_len, &locks), 0);
    }
    return locks;
}

static int keep_locks(uint64_t ino, const struct fs_locks *held)
{
    struct encoder e;
    encoder_init(&e);
    fs_locks_encode(&e, held);
    int rc = call_data("fs.keeplocks", &(struct fs_request){.ino = ino}, e.data,
                       held->n > 0 ? e.len : 0);
    encoder_fini(&e);
    return rc;
}

static void assert_lock(const struct fs_lock *lock, struct fs_lock expected)
{
    assert_int_equal(lock->owner, expected.owner);
    assert_int_equal(lock->start, expected.start);
    assert_int_equal(lock->end, expected.end);
    assert_int_equal(lock->exclusive, expected.exclusive);
}

static void locks_exclude_others_and_are_cut(void **state)
{
    (void)state;
    uint64_t ino = create("a");
    lock(ino, lock_of(1, 10, 29, true));
    assert_int_equal(set_lock(ino, lock_of(2, 20, 40, false), FS_LOCK_SHARED), 0);
    assert_true(answer.flags & FS_EXISTED);
    assert_int_equal(set_lock(ino, lock_of(1, 15, 19, false), 0), 0);
    assert_true(answer.flags & FS_DROPPED); /* Somebody waits. */
    struct fs_locks locks = locks_of(ino);
    assert_int_equal(locks.n, 2);
    lock(ino, lock_of(2, 15, 19, true));
    assert_int_equal(set_lock(ino, lock_of(1, 0, FS_SIZE_MAX - 1, false), 0), 0);
    assert_int_equal(set_lock(ino, lock_of(2, 0, FS_SIZE_MAX - 1, false), 0), 0);
    assert_false(has_key(FS_KEY_LOCKS, fs_index(ino)));
}

static void locks_that_touch_are_one(void **state)
{
    (void)state;
    uint64_t ino = create("a");
    lock(ino, lock_of(1, 10, 19, true));
    lock(ino, lock_of(1, 30, 39, true));
    lock(ino, lock_of(2, 50, 59, true));
    lock(ino, lock_of(1, 40, 49, false)); /* Of another kind, */
    lock(ino, lock_of(1, 60, 69, true));  /* and not beside its own. */
    assert_int_equal(locks_of(ino).n, 5);
    lock(ino, lock_of(1, 20, 29, true));
    struct fs_locks locks = locks_of(ino);
    assert_int_equal(locks.n, 4);
    assert_lock(&locks.list[3], lock_of(1, 10, 39, true));
    lock(ino, lock_of(1, 0, 49, true));
    locks = locks_of(ino);
    assert_int_equal(locks.n, 3);
    assert_lock(&locks.list[2], lock_of(1, 0, 49, true));
}

static void there_are_only_so_many_locks(void **state)
{
    (void)state;
    uint64_t ino = create("a");
    for (uint64_t at = 0; at < FS_LOCKS_MAX; at++)
        lock(ino, lock_of(1, 4 * at, 4 * at + 2, true));
    assert_int_equal(locks_of(ino).n, FS_LOCKS_MAX);
    uint64_t end = 4 * FS_LOCKS_MAX;
    assert_int_equal(set_lock(ino, lock_of(2, end, end, true), FS_LOCK_EXCLUSIVE), -ENOLCK);
    assert_int_equal(set_lock(ino, lock_of(1, 1, 1, true), 0), -ENOLCK); /* Would be two. */
    lock(ino, lock_of(1, 3, 3, true));
    lock(ino, lock_of(2, end, end, true));
}

static void keeplocks_leaves_what_is_in_both_lists(void **state)
{
    (void)state;
    uint64_t ino = create("a");
    lock(ino, lock_of(1, 0, 9, true));
    lock(ino, lock_of(2, 10, 29, true));
    lock(ino, lock_of(3, 40, 49, true));
    struct fs_locks held = locks_of(ino);
    assert_int_equal(held.n, 3);
    held.list[1].end = 19;          /* The second one has given back a part, */
    held.list[2].exclusive = false; /* the third one shares it, */
    held.list[0].start = 60;        /* and what the first one has here was not made there. */
    held.list[0].end = 69;
    assert_int_equal(keep_locks(ino, &held), 0);
    assert_false(grew);
    struct fs_locks kept = locks_of(ino);
    assert_int_equal(kept.n, 2);
    assert_lock(&kept.list[0], lock_of(2, 10, 19, true));
    assert_lock(&kept.list[1], lock_of(3, 40, 49, false));
    /* It may be repeated. */
    assert_int_equal(keep_locks(ino, &held), 0);
    assert_int_equal(answer.flags, 0);
    assert_int_equal(locks_of(ino).n, 2);
    assert_int_equal(keep_locks(ino, &(struct fs_locks){.n = 0}), 0);
    assert_false(has_key(FS_KEY_LOCKS, fs_index(ino)));
}

static void keeplocks_tells_that_somebody_waits_and_touches_no_others(void **state)
{
    (void)state;
    uint64_t ino = create("a");
    lock(ino, lock_of(1, 0, 9, true));
    assert_int_equal(set_lock(ino, lock_of(2, 0, 9, true), FS_LOCK_EXCLUSIVE), 0);
    assert_true(answer.flags & FS_EXISTED);
    /* Of another client: the same owners, as it has them. */
    struct fs_locks held = locks_of(ino);
    held.list[0].instance++;
    assert_int_equal(keep_locks(ino, &held), 0);
    assert_true(answer.flags & FS_DROPPED);
    assert_int_equal(locks_of(ino).n, 0);
    lock(ino, lock_of(2, 0, 9, true));
    assert_int_equal(keep_locks(ino + 1, &held), -ESTALE);
    assert_int_equal(call_data("fs.keeplocks", &(struct fs_request){.ino = ino}, "x", 1), -EINVAL);
    assert_int_equal(locks_of(ino).n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(malformed_requests_are_refused),
        TEST(a_shard_that_is_not_there),
        TEST(a_record_that_is_torn_is_an_error),
        TEST(init_makes_a_directory_once),
        TEST(reserve_gives_numbers_once),
        TEST(numbers_are_not_given_again),
        TEST(create_makes_entry_and_inode),
        TEST(create_gives_what_is_there),
        TEST(create_refuses_what_has_no_sense),
        TEST(a_file_may_begin_without_a_name),
        TEST(a_file_that_has_lost_its_last_name_gets_no_other),
        TEST(groups_are_inherited),
        TEST(list_goes_on_where_it_ended),
        TEST(unlink_makes_orphans_and_purge_ends_them),
        TEST(many_are_reaped_at_once_but_not_their_contents),
        TEST(a_list_to_reap_that_is_none_is_refused),
        TEST(unlink_tells_files_from_directories),
        TEST(unlink_of_what_is_elsewhere_shows_nothing_before_it_has_a_link_less),
        TEST(the_end_of_a_drop_takes_its_own_entry_only),
        TEST(rename_moves_and_replaces),
        TEST(rename_over_what_is_elsewhere_shows_nothing_before_it_has_a_link_less),
        TEST(rename_swaps),
        TEST(rename_of_two_links_to_one_file_does_nothing),
        TEST(what_comes_from_elsewhere_does_not_replace_another_link_to_it),
        TEST(a_directory_is_replaced_only_when_it_is_named),
        TEST(what_is_leaving_is_not_touched),
        TEST(leave_refuses_what_it_cannot_take_back),
        TEST(moved_ends_a_move_once),
        TEST(links_of_a_directory_stay_in_bounds),
        TEST(enter_is_done_once),
        TEST(enter_replaces_what_is_expected),
        TEST(enter_over_what_is_elsewhere_shows_nothing_before_it_has_a_link_less),
        TEST(enter_swaps_with_what_is_there),
        TEST(a_link_elsewhere_is_counted_once_and_taken_back_once),
        TEST(links_have_a_limit),
        TEST(a_dying_directory_lets_nothing_be_made),
        TEST(a_shard_stays_for_those_who_were_born_there),
        TEST(setattr_changes_what_it_is_told),
        TEST(a_truncation_is_over_when_its_data_are_gone),
        TEST(sizes_are_of_regular_files),
        TEST(appends_are_told_where_they_are),
        TEST(files_end_at_the_largest_size),
        TEST(a_size_may_be_kept),
        TEST(attributes_are_set_got_listed_removed),
        TEST(attributes_have_limits),
        TEST(a_list_and_the_mode_follow_each_other),
        TEST(a_list_that_says_what_the_mode_says_is_not_kept),
        TEST(what_is_made_inherits_the_default_list),
        TEST(layouts_are_inherited_and_changed_while_empty),
        TEST(layouts_of_what_is_busy_or_has_no_contents_stay),
        TEST(a_new_directory_inherits_both),
        TEST(locks_exclude_others_and_are_cut),
        TEST(locks_that_touch_are_one),
        TEST(there_are_only_so_many_locks),
        TEST(keeplocks_leaves_what_is_in_both_lists),
        TEST(keeplocks_tells_that_somebody_waits_and_touches_no_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
