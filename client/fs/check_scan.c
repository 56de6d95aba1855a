/* Checking: all shards into a model, and data objects that are not where they may be. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/fs/check.h"

enum { PAIRS_AT_ONCE = 1000, PROGRESS_EVERY = 256 };

void *check_list_add(struct check_list *list, size_t size)
{
    if (list->n == list->capacity) {
        size_t capacity = list->capacity * 2 + 16;
        void *items = realloc(list->items, capacity * size);
        if (items == NULL)
            return NULL;
        list->items = items;
        list->capacity = capacity;
    }
    void *item = (uint8_t *)list->items + list->n++ * size;
    memset(item, 0, size);
    return item;
}

static void list_clear(struct check_list *list)
{
    free(list->items);
    *list = (struct check_list){0, 0, NULL};
}

void check_progress(const struct check *check, const char *what, uint64_t done, uint64_t total)
{
    if (check->calls->progress != NULL)
        check->calls->progress(what, done, total, check->arg);
}

/* ---- Finding ---- */

static int by_home(const void *key, const void *item)
{
    uint64_t home = *(const uint64_t *)key, other = ((const struct check_shard *)item)->home;
    return home < other ? -1 : home > other;
}

struct check_shard *check_shard_find(const struct check *check, uint64_t home)
{
    if (check->shards.n == 0)
        return NULL;
    return bsearch(&home, check->shards.items, check->shards.n, sizeof(struct check_shard),
                   by_home);
}

static int by_ino(const void *key, const void *item)
{
    uint64_t ino = *(const uint64_t *)key, other = ((const struct check_node *)item)->ino;
    return ino < other ? -1 : ino > other;
}

struct check_node *check_node_find(const struct check *check, uint64_t ino)
{
    if (check->nodes.n == 0)
        return NULL;
    return bsearch(&ino, check->nodes.items, check->nodes.n, sizeof(struct check_node), by_ino);
}

uint64_t check_main(const struct check *check, uint64_t dir)
{
    const struct check_node *node = check_node_find(check, dir);
    return node != NULL && node->part != 0 ? node->parent : dir;
}

const struct check_node *check_owner(const struct check *check, uint64_t home)
{
    for (size_t i = 0; i < check->nodes.n; i++) {
        const struct check_node *node = &check_nodes(check)[i];
        if (node->parts != 0 && home >= node->parts && home - node->parts < FS_PARTS)
            return node;
    }
    return NULL;
}

/* Entries of a shard stand in the order of their cookies. */
const struct check_entry *check_entry_find(const struct check *check, uint64_t dir, uint64_t cookie,
                                           const char *name)
{
    const struct check_shard *shard = check_shard_find(check, fs_home(dir));
    size_t low = shard != NULL ? shard->first_entry : 0;
    size_t end = shard != NULL ? low + shard->n_entries : 0, high = end;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (check_entries(check)[middle].cookie < cookie)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < end && check_entries(check)[low].cookie == cookie; low++) {
        if (strcmp(check_entries(check)[low].name, name) == 0)
            return &check_entries(check)[low];
    }
    return NULL;
}

/* ---- One pair ---- */

static uint64_t get_big(const uint8_t *in, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value = value << 8 | in[i];
    return value;
}

static int note_key(struct check *check, uint64_t home, const struct limpet_pair *pair,
                    uint8_t kind)
{
    struct check_key *key = check_list_add(&check->keys, sizeof *key);
    if (key == NULL)
        return -ENOMEM;
    key->home = home;
    key->kind = kind;
    key->len = (uint16_t)(pair->key_len < FS_KEY_MAX ? pair->key_len : FS_KEY_MAX);
    memcpy(key->bytes, pair->key, key->len);
    key->index = key->len >= 4 ? (uint32_t)get_big(key->bytes + 1, 3) : 0;
    return 0;
}

static int take_inode(struct check *check, struct check_shard *shard,
                      const struct limpet_pair *pair)
{
    struct fs_inode inode;
    if (pair->key_len != 4 || fs_inode_decode(pair->value, pair->value_len, &inode) != 0)
        return note_key(check, shard->home, pair, 0);
    uint32_t index = (uint32_t)get_big((const uint8_t *)pair->key + 1, 3);
    struct check_node *node = check_list_add(&check->nodes, sizeof *node);
    if (node == NULL)
        return -ENOMEM;
    *node = (struct check_node){.ino = fs_ino(shard->home, index),
                                .parent = inode.parent,
                                .size = inode.size,
                                .mode = inode.mode,
                                .links = inode.links,
                                .contents = fs_contents_of(&inode),
                                .layout = inode.layout,
                                .dying = inode.dying,
                                .parts = inode.parts,
                                .part = inode.part,
                                .attributes = inode.attributes,
                                .busy = inode.busy};
    shard->last_index = index;
    if (inode.n_ranges == 0)
        return 0;
    node->ranges = calloc(inode.n_ranges, sizeof *node->ranges);
    if (node->ranges == NULL)
        return -ENOMEM;
    node->n_ranges = inode.n_ranges;
    memcpy(node->ranges, inode.ranges, inode.n_ranges * sizeof *node->ranges);
    return 0;
}

static int take_entry(struct check *check, struct check_shard *shard,
                      const struct limpet_pair *pair)
{
    struct fs_entry entry;
    const uint8_t *key = pair->key;
    if (pair->key_len <= 9 || pair->key_len > FS_KEY_MAX ||
        fs_entry_decode(pair->value, pair->value_len, &entry) != 0)
        return note_key(check, shard->home, pair, 0);
    struct check_entry *item = check_list_add(&check->entries, sizeof *item);
    if (item == NULL)
        return -ENOMEM;
    item->dir = fs_ino(shard->home, FS_INDEX_DIR);
    item->ino = entry.ino;
    item->type = entry.type;
    item->moving = entry.moving;
    item->cookie = get_big(key + 1, 8);
    item->misplaced = item->cookie != fs_cookie(key + 9, pair->key_len - 9);
    memcpy(item->name, key + 9, pair->key_len - 9);
    return 0;
}

static int take_tx(struct check *check, struct check_shard *shard, const struct limpet_pair *pair,
                   bool mark)
{
    struct fs_txid tx;
    struct fs_intent intent = {0};
    if (fs_txid_key_decode(pair->key, pair->key_len, &tx) != 0 ||
        (!mark && fs_intent_decode(pair->value, pair->value_len, &intent) != 0))
        return note_key(check, shard->home, pair, 0);
    struct check_tx *item = check_list_add(&check->txs, sizeof *item);
    if (item == NULL)
        return -ENOMEM;
    *item = (struct check_tx){.home = shard->home,
                              .tx = tx,
                              .mark = mark,
                              .ino = intent.ino,
                              .to_ino = intent.to_ino,
                              .to_dir = intent.to_dir};
    shard->n_intents += !mark;
    return 0;
}

static int take_pair(struct check *check, struct check_shard *shard, const struct limpet_pair *pair)
{
    struct fs_shard record;
    uint8_t kind = *(const uint8_t *)pair->key;
    switch (kind) {
    case FS_KEY_SHARD:
        if (fs_shard_decode(pair->value, pair->value_len, &record) != 0)
            return note_key(check, shard->home, pair, 0);
        shard->has_record = true;
        shard->births = record.births;
        return 0;
    case FS_KEY_INODE:
        return take_inode(check, shard, pair);
    case FS_KEY_ENTRY:
        return take_entry(check, shard, pair);
    case FS_KEY_INTENT:
    case FS_KEY_MARK:
        return take_tx(check, shard, pair, kind == FS_KEY_MARK);
    case FS_KEY_ORPHAN:
    case FS_KEY_XATTR:
        return note_key(check, shard->home, pair, pair->key_len >= 4 ? kind : 0);
    default:
        return 0; /* Of a newer version. */
    }
}

/* ---- One shard ---- */

struct place {
    uint8_t key[FS_KEY_MAX + 1];
    size_t len;
};

static int read_page(struct check *check, const char *object, struct check_shard *shard,
                     struct place *at, bool *more)
{
    struct limpet_pairs *pairs = NULL;
    struct limpet_pair pair;
    struct limpet_op *op = limpet_op_create();
    int rc = op != NULL ? limpet_op_omap_list(op, at->len > 0 ? at->key : NULL, at->len, NULL, 0,
                                              PAIRS_AT_ONCE, &pairs, more, NULL)
                        : -ENOMEM;
    if (rc == 0)
        rc = limpet_operate(check->fs->pool, object, op, NULL);
    if (op != NULL)
        limpet_op_destroy(op);
    while (rc == 0 && limpet_pairs_next(pairs, &pair) == 0) {
        rc = take_pair(check, shard, &pair);
        at->len = pair.key_len < sizeof at->key ? pair.key_len : sizeof at->key;
        memcpy(at->key, pair.key, at->len);
    }
    limpet_pairs_destroy(pairs);
    return rc;
}

static int compare_nodes(const void *a, const void *b)
{
    return by_ino(&((const struct check_node *)a)->ino, b);
}

static int read_shard(struct check *check, size_t at)
{
    char object[FS_OBJECT_NAME_MAX];
    struct check_shard shard = check_shards(check)[at];
    struct place place = {.len = 0};
    bool more = true;
    int rc = 0;
    fs_shard_object(shard.home, object);
    shard.first_node = check->nodes.n;
    shard.first_entry = check->entries.n;
    while (rc == 0 && more) {
        more = false;
        rc = read_page(check, object, &shard, &place, &more);
    }
    shard.n_nodes = check->nodes.n - shard.first_node;
    shard.n_entries = check->entries.n - shard.first_entry;
    if (shard.n_nodes > 1)
        qsort(check_nodes(check) + shard.first_node, shard.n_nodes, sizeof(struct check_node),
              compare_nodes);
    check_shards(check)[at] = shard;
    return rc == -ENOENT ? 0 : rc; /* It was removed just now. */
}

/* ---- All objects ---- */

/* A hexadecimal number behind one character of a name; what follows it. Names are compared as a
 * whole afterwards. */
static const char *number_in(const char *at, uint64_t *out)
{
    char *end = NULL;
    *out = at[0] != 0 ? strtoull(at + 1, &end, 16) : 0;
    return end != NULL ? end : at;
}

static int add_shard(struct check *check, const char *name)
{
    uint64_t home;
    char again[FS_OBJECT_NAME_MAX];
    if (strncmp(name, "d.", 2) != 0)
        return 0;
    (void)number_in(name + 1, &home);
    if (home >> FS_HOME_BITS != 0)
        return 0;
    fs_shard_object(home, again);
    if (strcmp(name, again) != 0)
        return 0;
    struct check_shard *shard = check_list_add(&check->shards, sizeof *shard);
    if (shard == NULL)
        return -ENOMEM;
    shard->home = home;
    return 0;
}

static bool in_ranges(const struct check_node *node, uint64_t number)
{
    for (uint16_t i = 0; i < node->n_ranges; i++) {
        if (node->ranges[i].first <= number && number <= node->ranges[i].last)
            return true;
    }
    return false;
}

static bool is_at_home(const struct check *check, const struct check_data *data)
{
    const struct check_node *node = check_node_find(check, data->ino);
    if (node == NULL || node->contents != data->contents || !S_ISREG(node->mode))
        return false;
    uint64_t first = fs_object_start(&node->layout, data->number);
    /* A truncation that is under way removes what is beyond. */
    return in_ranges(node, data->number) && (first < node->size || node->busy.instance != 0);
}

static int take_data(struct check *check, const char *name)
{
    struct check_data data;
    char again[FS_OBJECT_NAME_MAX];
    if (strncmp(name, "f.", 2) != 0)
        return 0;
    (void)number_in(number_in(number_in(name + 1, &data.ino), &data.contents), &data.number);
    fs_data_object(data.ino, data.contents, data.number, again);
    if (strcmp(name, again) != 0)
        return 0;
    check->report->data_objects++;
    if (is_at_home(check, &data))
        return 0;
    struct check_data *stray = check_list_add(&check->strays, sizeof *stray);
    if (stray == NULL)
        return -ENOMEM;
    *stray = data;
    return 0;
}

static int walk(struct check *check, struct limpet_pool *pool, const char *what,
                int (*take)(struct check *check, const char *name))
{
    struct limpet_list *list;
    struct limpet_list_entry entry;
    uint64_t n = 0;
    int rc = limpet_list_open(pool, false, &list);
    if (rc != 0)
        return rc;
    while ((rc = limpet_list_next(list, &entry)) == 0) {
        if (++n % PROGRESS_EVERY == 0)
            check_progress(check, what, n, 0);
        rc = take(check, entry.name);
        if (rc != 0)
            break;
    }
    limpet_list_close(list);
    return rc == -ENOENT ? 0 : rc;
}

/* UINT64_MAX: there is none. */
static int read_next_home(struct check *check)
{
    struct limpet_pair key = {.key = "next", .key_len = 4}, pair;
    struct limpet_pairs *pairs = NULL;
    struct decoder d;
    struct limpet_op *op = limpet_op_create();
    int rc = op != NULL ? limpet_op_omap_get(op, &key, 1, &pairs, NULL) : -ENOMEM;
    if (rc == 0)
        rc = limpet_operate(check->fs->pool, FS_SUPER, op, NULL);
    if (op != NULL)
        limpet_op_destroy(op);
    check->next_home = UINT64_MAX;
    if (rc == 0)
        check->next_home = 1;
    if (rc == 0 && limpet_pairs_next(pairs, &pair) == 0) {
        decoder_init(&d, pair.value, pair.value_len);
        check->next_home = decode_u64(&d);
        if (decoder_end(&d) != 0)
            check->next_home = UINT64_MAX;
    }
    limpet_pairs_destroy(pairs);
    return rc == -ENOENT ? 0 : rc;
}

static int compare_shards(const void *a, const void *b)
{
    return by_home(&((const struct check_shard *)a)->home, b);
}

int check_scan(struct check *check)
{
    check->report->data_objects = 0;
    int rc = read_next_home(check);
    if (rc == 0)
        rc = walk(check, check->fs->pool, "objects", add_shard);
    if (rc == 0 && check->shards.n > 1)
        qsort(check->shards.items, check->shards.n, sizeof(struct check_shard), compare_shards);
    for (size_t i = 0; rc == 0 && i < check->shards.n; i++) {
        if (i % PROGRESS_EVERY == 0)
            check_progress(check, "directories", i, check->shards.n);
        rc = read_shard(check, i);
    }
    if (rc == 0)
        rc = walk(check, check->fs->data, "data", take_data);
    /* Files may lie beside their records, too. */
    if (rc == 0 && check->fs->super.data_pool != 0)
        rc = walk(check, check->fs->pool, "data", take_data);
    return rc;
}

void check_scan_forget(struct check *check)
{
    for (size_t i = 0; i < check->nodes.n; i++)
        free(check_nodes(check)[i].ranges);
    list_clear(&check->shards);
    list_clear(&check->nodes);
    list_clear(&check->entries);
    list_clear(&check->txs);
    list_clear(&check->keys);
    list_clear(&check->strays);
    list_clear(&check->found);
}
