/*
 * Checking: repairs. Each reads again what it changes, and changes it only if it is still so.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/fs/check.h"

enum {
    SETTLE_INTENT = 1,
    SETTLE_MARK = 2,   /* fs.settle */
    STUBBORN_PASS = 2, /* What is still there then will not be completed. */
};

#define LOST_FOUND "lost+found"

/* ---- Pairs ---- */

/* A pair's value; NULL: there is none. Release it with free(). */
static int pair_get(struct limpet_fs *fs, const char *object, const void *key, size_t key_len,
                    uint8_t **out, size_t *len)
{
    struct limpet_pair wanted = {.key = key, .key_len = key_len}, pair;
    struct limpet_pairs *pairs = NULL;
    struct limpet_op *op = limpet_op_create();
    *out = NULL;
    *len = 0;
    int rc = op != NULL ? limpet_op_omap_get(op, &wanted, 1, &pairs, NULL) : -ENOMEM;
    if (rc == 0)
        rc = limpet_operate(fs->pool, object, op, NULL);
    if (op != NULL)
        limpet_op_destroy(op);
    if (rc == 0 && limpet_pairs_next(pairs, &pair) == 0) {
        *out = malloc(pair.value_len + 1);
        if (*out != NULL)
            memcpy(*out, pair.value, pair.value_len);
        else
            rc = -ENOMEM;
        *len = pair.value_len;
    }
    limpet_pairs_destroy(pairs);
    return rc == -ENOENT ? 0 : rc;
}

/* A pair's new value; NULL: none. It is still what it was: `old`, NULL: there was none. */
static int pair_put(struct limpet_fs *fs, const char *object, const void *key, size_t key_len,
                    const uint8_t *old, size_t old_len, const struct encoder *value)
{
    struct limpet_pair before = {key, key_len, old, old_len};
    struct limpet_pair after = {key, key_len, value != NULL ? value->data : NULL,
                                value != NULL ? value->len : 0};
    struct limpet_op *op = limpet_op_create();
    int rc = op != NULL && (value == NULL || !value->failed) ? 0 : -ENOMEM;
    if (rc == 0)
        rc = limpet_op_create_object(op, false);
    if (rc == 0 && old != NULL)
        rc = limpet_op_omap_compare(op, &before, LIMPET_EQUAL, NULL);
    if (rc == 0)
        rc = value != NULL ? limpet_op_omap_set(op, &after, 1)
                           : limpet_op_omap_remove(op, &after, 1);
    if (rc == 0)
        rc = limpet_operate(fs->pool, object, op, NULL);
    if (op != NULL)
        limpet_op_destroy(op);
    return rc;
}

static int key_remove(struct limpet_fs *fs, uint64_t home, const uint8_t *key, size_t len)
{
    char object[FS_OBJECT_NAME_MAX];
    fs_shard_object(home, object);
    return pair_put(fs, object, key, len, NULL, 0, NULL);
}

/* ---- Records ---- */

static int inode_read(struct limpet_fs *fs, uint64_t ino, struct fs_inode *out, uint8_t **raw,
                      size_t *len)
{
    uint8_t key[FS_KEY_MAX];
    char object[FS_OBJECT_NAME_MAX];
    *out = (struct fs_inode){0};
    fs_shard_object(fs_home(ino), object);
    int rc = pair_get(fs, object, key, fs_index_key(key, FS_KEY_INODE, fs_index(ino)), raw, len);
    if (rc == 0 && *raw == NULL)
        rc = -ENOENT;
    if (rc == 0)
        rc = fs_inode_decode(*raw, *len, out);
    out->ino = ino;
    return rc;
}

static int inode_write(struct limpet_fs *fs, const struct fs_inode *inode, const uint8_t *old,
                       size_t old_len)
{
    uint8_t key[FS_KEY_MAX];
    char object[FS_OBJECT_NAME_MAX];
    struct encoder e;
    encoder_init(&e);
    fs_inode_encode(&e, inode);
    fs_shard_object(fs_home(inode->ino), object);
    int rc = pair_put(fs, object, key, fs_index_key(key, FS_KEY_INODE, fs_index(inode->ino)), old,
                      old_len, &e);
    encoder_fini(&e);
    return rc;
}

/* An inode's record, as the finding wants it. */
static int fix_inode(struct limpet_fs *fs, const struct limpet_fs_finding *finding)
{
    struct fs_inode inode;
    uint8_t *raw;
    size_t len;
    int rc = inode_read(fs, finding->ino, &inode, &raw, &len);
    switch (finding->damage) {
    case LIMPET_FS_LINKS:
        inode.links = (uint32_t)finding->number;
        break;
    case LIMPET_FS_PARENT:
        inode.parent = finding->number;
        break;
    case LIMPET_FS_DATA_HIDDEN:
        (void)fs_ranges_add(&inode, finding->number, finding->number);
        break;
    case LIMPET_FS_DYING:
        inode.dying = 0;
        break;
    case LIMPET_FS_ATTRIBUTES:
        inode.attributes |= (uint8_t)finding->number;
        break;
    case LIMPET_FS_PART_UNKNOWN:
        inode.parts = finding->number;
        break;
    case LIMPET_FS_PART_LOST:
        inode.part = 0; /* A directory of its own, which the next pass gives a name. */
        inode.mode |= 0700;
        break;
    default:
        rc = -EINVAL;
        break;
    }
    inode.change++;
    if (rc == 0)
        rc = inode_write(fs, &inode, raw, len);
    free(raw);
    return rc;
}

/* ---- Shards ---- */

static int fix_shard(struct check *check, uint64_t home)
{
    const uint8_t key[] = {FS_KEY_SHARD};
    const struct check_shard *shard = check_shard_find(check, home);
    struct fs_shard record = {.births = FS_INDEX_FIRST};
    char object[FS_OBJECT_NAME_MAX];
    struct encoder e;
    if (shard == NULL)
        return -ENOENT;
    if (shard->last_index >= FS_INDEX_FIRST)
        record.births = shard->last_index + 1;
    encoder_init(&e);
    fs_shard_encode(&e, &record);
    fs_shard_object(home, object);
    int rc = pair_put(check->fs, object, key, sizeof key, NULL, 0, &e);
    encoder_fini(&e);
    return rc;
}

/* With entries, it is a directory that others find by its entry; else one that was removed. */
static int make_directory(struct check *check, uint64_t ino)
{
    const struct check_shard *shard = check_shard_find(check, fs_home(ino));
    if (shard == NULL)
        return -ENOENT;
    struct fs_inode inode = {.ino = ino,
                             .mode = S_IFDIR | 0700,
                             .links = 2,
                             .layout = layout_default(check->fs),
                             .parent = FS_ROOT};
    const struct check_node *owner = check_owner(check, fs_home(ino));
    if (owner != NULL) {
        inode.mode = S_IFDIR;
        inode.parent = owner->ino;
        inode.part = (uint8_t)(fs_home(ino) - owner->parts + 1);
    }
    bool named = ino == FS_ROOT || owner != NULL;
    for (size_t i = 0; i < check->entries.n; i++)
        named |= check_entries(check)[i].ino == ino;
    if (!named && shard->n_entries == 0) {
        inode.links = 0;
        inode.dying = 1;
    }
    return inode_write(check->fs, &inode, NULL, 0);
}

static int make_root(struct limpet_fs *fs)
{
    struct fs_request rq = {
        .ino = FS_ROOT,
        .inode = {.mode = S_IFDIR | 0755, .layout = layout_default(fs), .parent = FS_ROOT}};
    return fs_method(fs, fs_home(FS_ROOT), "fs.init", &rq, NULL);
}

static int fix_super(struct limpet_fs *fs, uint64_t next)
{
    struct encoder e;
    encoder_init(&e);
    encode_u64(&e, next);
    int rc = pair_put(fs, FS_SUPER, "next", 4, NULL, 0, &e);
    encoder_fini(&e);
    return rc;
}

/* ---- Entries ---- */

static int remove_entry(struct limpet_fs *fs, const struct limpet_fs_finding *finding)
{
    uint8_t key[FS_KEY_MAX];
    size_t name_len = strlen(finding->name), at = fs_cookie_key(key, finding->number);
    memcpy(key + at, finding->name, name_len);
    return key_remove(fs, fs_home(finding->dir), key, at + name_len);
}

/* Where an entry of this name is looked for. */
static uint64_t right_home(const struct check *check, const struct limpet_fs_finding *finding)
{
    uint64_t cookie = fs_cookie(finding->name, strlen(finding->name));
    const struct check_node *part = check_node_find(check, finding->dir);
    if (part == NULL || part->part == 0)
        return fs_home(finding->dir);
    if (check_entry_find(check, part->parent, cookie, finding->name) != NULL)
        return fs_home(part->parent);
    return fs_home(part->ino) - (part->part - 1u) + fs_part_of(cookie);
}

static int make_part(struct check *check, const struct limpet_fs_finding *finding)
{
    struct fs_inode dir;
    int rc = name_getinode(check->fs, finding->ino, &dir);
    return rc == 0 ? part_make(check->fs, &dir, dir.parts, (unsigned)finding->number) : rc;
}

/* The entry as it should be: where its name says, settled, of its inode's type. */
static int rewrite_entry(struct check *check, const struct limpet_fs_finding *finding)
{
    uint8_t key[FS_KEY_MAX], *old;
    size_t len;
    char object[FS_OBJECT_NAME_MAX];
    struct encoder e;
    const struct check_node *node = check_node_find(check, finding->ino);
    if (node == NULL)
        return -ESTALE;
    struct fs_entry entry = {.ino = finding->ino, .type = (uint8_t)(node->mode >> 12 & 15)};
    fs_shard_object(right_home(check, finding), object);
    size_t key_len = fs_entry_key(key, finding->name, strlen(finding->name));
    bool misplaced = finding->damage == LIMPET_FS_ENTRY_MISPLACED;
    int rc = pair_get(check->fs, object, key, key_len, &old, &len);
    encoder_init(&e);
    fs_entry_encode(&e, &entry);
    /* Where there is one of this name already, this one goes. */
    if (rc == 0 && (!misplaced || old == NULL))
        rc = pair_put(check->fs, object, key, key_len, old, len, &e);
    if (rc == 0 && misplaced)
        rc = remove_entry(check->fs, finding);
    encoder_fini(&e);
    free(old);
    return rc;
}

/* ---- lost+found ---- */

static int open_lost_found(struct limpet_fs *fs, uint64_t *out)
{
    struct limpet_fs_request rq = {.verb = LIMPET_FS_LOOKUP, .ino = FS_ROOT, .name = LOST_FOUND};
    struct limpet_fs_result *result;
    int rc = (int)limpet_fs_do(fs, &rq, &result);
    if (rc == -ENOENT) {
        limpet_fs_result_destroy(result);
        rq.verb = LIMPET_FS_CREATE;
        rq.flags = LIMPET_FS_EXCLUSIVE;
        rq.attr.mode = S_IFDIR | 0700;
        rc = (int)limpet_fs_do(fs, &rq, &result);
    }
    if (rc == 0 && !S_ISDIR(result->attr.mode))
        rc = -ENOTDIR;
    if (rc == 0)
        *out = result->attr.ino;
    limpet_fs_result_destroy(result);
    return rc;
}

/* An inode gets an entry there; its links are counted in the next pass. */
static int attach(struct check *check, uint64_t ino)
{
    char name[32];
    uint64_t lost;
    const struct check_node *node = check_node_find(check, ino);
    if (node == NULL)
        return -ESTALE;
    int rc = open_lost_found(check->fs, &lost);
    if (rc != 0)
        return rc;
    snprintf(name, sizeof name, "#%016" PRIx64, ino);
    struct fs_request rq = {
        .ino = lost,
        .name = bytes_of(name),
        .flags = FS_NO_REPLACE,
        .intent = {.kind = FS_INTENT_LINK, .ino = ino, .type = (uint8_t)(node->mode >> 12 & 15)}};
    rc = fs_method(check->fs, fs_home(lost), "fs.enter", &rq, NULL);
    return rc == -EEXIST ? 0 : rc;
}

/* ---- Data ---- */

static int remove_data(struct limpet_fs *fs, const struct limpet_fs_finding *finding)
{
    char object[FS_OBJECT_NAME_MAX];
    fs_data_object(finding->ino, finding->other, finding->number, object);
    int rc = limpet_remove(fs->data, object);
    if (rc == -ENOENT && fs->super.data_pool != 0)
        rc = limpet_remove(fs->pool, object);
    return rc == -ENOENT ? 0 : rc;
}

/* A file that has only its data: it gets an inode, and the next pass gives it a name. */
static int make_file(struct check *check, const struct limpet_fs_finding *finding)
{
    char object[FS_OBJECT_NAME_MAX];
    struct limpet_stat stat;
    struct limpet_fs *fs = check->fs;
    fs_data_object(finding->ino, finding->other, finding->number, object);
    int rc = limpet_stat(fs->data, object, &stat);
    if (rc != 0)
        return rc;
    struct fs_inode inode = {.ino = finding->ino,
                             .mode = S_IFREG | 0600,
                             .links = 1,
                             .generation = (uint32_t)finding->other,
                             .relaid = (uint16_t)(finding->other >> 32),
                             .layout = layout_default(fs),
                             .mtime_ns = (int64_t)stat.mtime_ns,
                             .ctime_ns = (int64_t)stat.mtime_ns,
                             .size = (finding->number << fs->super.order) + stat.size};
    const struct check_data *strays = check->strays.items;
    for (size_t i = 0; i < check->strays.n; i++) {
        if (strays[i].ino == inode.ino && strays[i].contents == finding->other)
            (void)fs_ranges_add(&inode, strays[i].number, strays[i].number);
    }
    return inode_write(fs, &inode, NULL, 0);
}

/* Whether the entry's inode is made by the repair of something else that was found. */
static bool is_made(const struct check *check, uint64_t ino)
{
    const struct check_data *strays = check->strays.items;
    if (fs_is_dir(ino))
        return check_shard_find(check, fs_home(ino)) != NULL;
    for (size_t i = 0; i < check->strays.n; i++) {
        if (strays[i].ino == ino)
            return true;
    }
    return false;
}

/* ---- What clients that died have left ---- */

static int fix_intent(struct check *check, const struct limpet_fs_finding *finding)
{
    uint8_t key[FS_KEY_MAX];
    const struct fs_txid tx = {finding->number, finding->other};
    if (check->pass < STUBBORN_PASS)
        return move_clear(check->fs, finding->ino, 0);
    return key_remove(check->fs, fs_home(finding->ino), key, fs_txid_key(key, FS_KEY_INTENT, tx));
}

static int fix_mark(struct limpet_fs *fs, const struct limpet_fs_finding *finding)
{
    struct fs_request rq = {
        .ino = finding->ino, .tx = {finding->number, finding->other}, .type = SETTLE_MARK};
    return fs_method(fs, fs_home(finding->ino), "fs.settle", &rq, NULL);
}

static int fix_orphan(struct limpet_fs *fs, uint64_t ino)
{
    struct fs_inode inode;
    struct fs_answer answer;
    struct fs_request rq = {.ino = ino};
    int rc = name_getinode(fs, ino, &inode);
    if (rc == 0)
        rc = inode.links == 0 ? data_remove(fs, &inode, 1) : -EBUSY;
    if (rc == 0)
        rc = fs_method(fs, fs_home(ino), "fs.purge", &rq, &answer);
    return rc;
}

/* An empty directory without an entry goes, by the last step of a removal. */
static int fix_unnamed(struct limpet_fs *fs, uint64_t ino)
{
    struct fs_inode inode;
    int rc = name_getinode(fs, ino, &inode);
    if (rc != 0)
        return rc;
    struct fs_request rq = {.ino = ino, .tx = inode.dying ? inode.busy : fs_new_tx(fs)};
    if (!inode.dying)
        rc = fs_method(fs, fs_home(ino), "fs.dying", &rq, NULL);
    if (rc == 0 && inode.links == 0)
        rq.tx = (struct fs_txid){0, 0};
    return rc == 0 ? fs_method(fs, fs_home(ino), "fs.vanish", &rq, NULL) : rc;
}

/* Something is said to have no name, and that is wrong; or it has none, and that is not said. */
static int fix_orphan_key(struct check *check, uint64_t ino)
{
    uint8_t key[FS_KEY_MAX];
    char object[FS_OBJECT_NAME_MAX];
    struct encoder e;
    const struct check_node *node = check_node_find(check, ino);
    size_t len = fs_index_key(key, FS_KEY_ORPHAN, fs_index(ino));
    if (node == NULL || node->links > 0)
        return key_remove(check->fs, fs_home(ino), key, len);
    encoder_init(&e);
    encode_u64(&e, 0);
    fs_shard_object(fs_home(ino), object);
    int rc = pair_put(check->fs, object, key, len, NULL, 0, &e);
    encoder_fini(&e);
    return rc;
}

static int remove_attributes(struct limpet_fs *fs, uint64_t ino)
{
    uint8_t from[FS_KEY_MAX], to[FS_KEY_MAX];
    char object[FS_OBJECT_NAME_MAX];
    struct limpet_op *op = limpet_op_create();
    size_t len = fs_xattr_key(from, fs_index(ino), NULL, 0);
    size_t end = fs_xattr_key(to, fs_index(ino) + 1, NULL, 0);
    fs_shard_object(fs_home(ino), object);
    int rc = op != NULL ? limpet_op_omap_remove_range(op, from, len, to, end) : -ENOMEM;
    if (rc == 0)
        rc = limpet_operate(fs->pool, object, op, NULL);
    if (op != NULL)
        limpet_op_destroy(op);
    return rc;
}

static int fix_key(struct check *check, const struct limpet_fs_finding *finding)
{
    const struct check_key *key = &((const struct check_key *)check->keys.items)[finding->number];
    return key_remove(check->fs, key->home, key->bytes, key->len);
}

/* ---- All of them ---- */

int check_fix(struct check *check, const struct limpet_fs_finding *finding)
{
    struct limpet_fs *fs = check->fs;
    switch (finding->damage) {
    case LIMPET_FS_INTENT:
        return fix_intent(check, finding);
    case LIMPET_FS_MARK:
        return fix_mark(fs, finding);
    case LIMPET_FS_ORPHAN:
        return fix_orphan(fs, finding->ino);
    case LIMPET_FS_BUSY:
        return move_clear(fs, finding->ino, 0);
    case LIMPET_FS_UNNAMED:
        return fix_unnamed(fs, finding->ino);
    case LIMPET_FS_NO_ROOT:
        return make_root(fs);
    case LIMPET_FS_NO_SUPER:
        return fix_super(fs, finding->number);
    case LIMPET_FS_BAD_RECORD:
        return fix_key(check, finding);
    case LIMPET_FS_NO_SHARD:
    case LIMPET_FS_NUMBER_REUSED:
        return fix_shard(check, fs_home(finding->ino));
    case LIMPET_FS_NO_DIRECTORY:
        return make_directory(check, finding->ino);
    case LIMPET_FS_ENTRY_DANGLING:
        return is_made(check, finding->ino) ? 0 : remove_entry(fs, finding);
    case LIMPET_FS_ENTRY_SECOND:
    case LIMPET_FS_LOOP:
        return remove_entry(fs, finding);
    case LIMPET_FS_ENTRY_TYPE:
    case LIMPET_FS_ENTRY_MISPLACED:
    case LIMPET_FS_ENTRY_MOVING:
        return rewrite_entry(check, finding);
    case LIMPET_FS_PARENT:
    case LIMPET_FS_LINKS:
    case LIMPET_FS_DYING:
    case LIMPET_FS_DATA_HIDDEN:
    case LIMPET_FS_ATTRIBUTES:
    case LIMPET_FS_PART_UNKNOWN:
    case LIMPET_FS_PART_LOST:
        return fix_inode(fs, finding);
    case LIMPET_FS_NO_PART:
        return make_part(check, finding);
    case LIMPET_FS_UNREACHABLE:
        return attach(check, finding->ino);
    case LIMPET_FS_ORPHAN_WRONG:
        return fix_orphan_key(check, finding->ino);
    case LIMPET_FS_ATTRIBUTE:
        return remove_attributes(fs, finding->ino);
    case LIMPET_FS_DATA_LOST:
        return make_file(check, finding);
    case LIMPET_FS_DATA_OLD:
    case LIMPET_FS_DATA_BEYOND:
        return remove_data(fs, finding);
    case LIMPET_FS_DAMAGES_END:
        break;
    }
    return -EINVAL;
}
