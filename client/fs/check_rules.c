/* Checking: what does not fit together. Each function has one subject. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/fs/check.h"
#include "common/fs_method.h"

/* ---- Findings ---- */

static struct limpet_fs_finding *find(struct check *check, enum limpet_fs_damage damage,
                                      uint64_t ino)
{
    struct limpet_fs_finding *finding = check_list_add(&check->found, sizeof *finding);
    if (finding != NULL) {
        finding->damage = damage;
        finding->ino = ino;
    }
    return finding;
}

static int found(struct check *check, enum limpet_fs_damage damage, uint64_t ino)
{
    return find(check, damage, ino) != NULL ? 0 : -ENOMEM;
}

static int found_entry(struct check *check, enum limpet_fs_damage damage,
                       const struct check_entry *entry)
{
    struct limpet_fs_finding *finding = find(check, damage, entry->ino);
    if (finding == NULL)
        return -ENOMEM;
    finding->dir = entry->dir;
    finding->number = entry->cookie;
    memcpy(finding->name, entry->name, sizeof finding->name);
    return 0;
}

static uint64_t dir_of(uint64_t home)
{
    return fs_ino(home, FS_INDEX_DIR);
}

/* ---- Keys that cannot be read, or belong to nothing ---- */

static int check_key(struct check *check, const struct check_key *key)
{
    struct limpet_fs_finding *finding;
    uint64_t ino = fs_ino(key->home, key->index);
    struct check_node *node = check_node_find(check, ino);
    switch (key->kind) {
    case FS_KEY_ORPHAN:
        if (node != NULL && node->links == 0)
            node->orphan = true;
        else
            return found(check, LIMPET_FS_ORPHAN_WRONG, ino);
        return 0;
    case FS_KEY_XATTR:
        if (node == NULL)
            return found(check, LIMPET_FS_ATTRIBUTE, ino);
        node->seen_attributes |= fs_attributes_of(key->bytes + 4, key->len - 4u);
        return 0;
    default:
        finding = find(check, LIMPET_FS_BAD_RECORD, dir_of(key->home));
        if (finding == NULL)
            return -ENOMEM;
        /* Which of the keys. */
        finding->number = (uint64_t)(key - (const struct check_key *)check->keys.items);
        return 0;
    }
}

/* ---- Shards ---- */

static int check_shard(struct check *check, const struct check_shard *shard)
{
    uint64_t ino = dir_of(shard->home);
    int rc = shard->has_record ? 0 : found(check, LIMPET_FS_NO_SHARD, ino);
    if (rc == 0 && check_node_find(check, ino) == NULL)
        rc = found(check, LIMPET_FS_NO_DIRECTORY, ino);
    /* Beyond 2^24 births, numbers that are free are looked for. */
    if (rc == 0 && shard->has_record && shard->n_nodes > 0 && shard->births <= shard->last_index)
        rc = found(check, LIMPET_FS_NUMBER_REUSED, ino);
    return rc;
}

static int check_super(struct check *check)
{
    uint64_t last = 0;
    if (check->shards.n > 0)
        last = check_shards(check)[check->shards.n - 1].home;
    if (check->next_home != UINT64_MAX && check->next_home > last)
        return check_shard_find(check, 0) != NULL ? 0 : found(check, LIMPET_FS_NO_ROOT, FS_ROOT);
    struct limpet_fs_finding *finding = find(check, LIMPET_FS_NO_SUPER, FS_ROOT);
    if (finding == NULL)
        return -ENOMEM;
    finding->number = last + 1;
    return 0;
}

/* ---- Operations that have not ended ---- */

static int compare_txs(const void *a, const void *b)
{
    const struct check_tx *x = a, *y = b;
    if (x->tx.instance != y->tx.instance)
        return x->tx.instance < y->tx.instance ? -1 : 1;
    if (x->tx.sequence != y->tx.sequence)
        return x->tx.sequence < y->tx.sequence ? -1 : 1;
    return (int)x->mark - (int)y->mark; /* The intent first. */
}

static const struct check_tx *intent_find(const struct check *check, struct fs_txid tx)
{
    const struct check_tx key = {.tx = tx};
    if (check->txs.n == 0)
        return NULL;
    return bsearch(&key, check->txs.items, check->txs.n, sizeof key, compare_txs);
}

/* What an operation that has not ended is about may be between before and after. */
static void excuse(const struct check *check, const struct check_tx *tx)
{
    const uint64_t inos[] = {tx->ino, tx->to_ino, tx->to_dir, dir_of(tx->home)};
    for (size_t i = 0; !tx->mark && i < sizeof inos / sizeof inos[0]; i++) {
        struct check_node *node = check_node_find(check, inos[i]);
        if (node != NULL)
            node->excused = true;
    }
}

static int check_txs(struct check *check)
{
    struct check_tx *txs = check->txs.items;
    int rc = 0;
    if (check->txs.n > 1)
        qsort(txs, check->txs.n, sizeof *txs, compare_txs);
    for (size_t i = 0; rc == 0 && i < check->txs.n; i++) {
        /* A mark goes with its intent. */
        if (txs[i].mark && intent_find(check, txs[i].tx) != NULL)
            continue;
        struct limpet_fs_finding *finding =
            find(check, txs[i].mark ? LIMPET_FS_MARK : LIMPET_FS_INTENT, dir_of(txs[i].home));
        if (finding == NULL)
            return -ENOMEM;
        finding->number = txs[i].tx.instance;
        finding->other = txs[i].tx.sequence;
        excuse(check, &txs[i]);
    }
    return rc;
}

/* ---- Parts of directories ---- */

static bool is_named(const struct check *check, const struct check_node *part)
{
    const struct check_node *dir = check_node_find(check, part->parent);
    return dir != NULL && dir->parts != 0 && dir->parts + part->part - 1 == fs_home(part->ino);
}

static int check_unnamed(struct check *check, const struct check_node *node);

/* A part that its directory does not name. */
static int check_part(struct check *check, const struct check_node *part)
{
    const struct check_shard *shard = check_shard_find(check, fs_home(part->ino));
    const struct check_node *dir = check_node_find(check, part->parent);
    if (is_named(check, part))
        return 0;
    if (shard->n_entries == 0)
        return check_unnamed(check, part);
    bool takes = dir != NULL && fs_is_dir(dir->ino) && dir->part == 0 && dir->parts == 0;
    struct limpet_fs_finding *finding = find(
        check, takes ? LIMPET_FS_PART_UNKNOWN : LIMPET_FS_PART_LOST, takes ? dir->ino : part->ino);
    if (finding == NULL)
        return -ENOMEM;
    finding->number = fs_home(part->ino) - (part->part - 1u);
    return 0;
}

static int check_parts(struct check *check, const struct check_node *dir)
{
    for (unsigned i = 0; dir->parts != 0 && i < FS_PARTS; i++) {
        const struct check_shard *shard = check_shard_find(check, dir->parts + i);
        /* Without an inode it has been found already; a part that is going is as good as gone. */
        if (shard != NULL || dir->dying)
            continue;
        struct limpet_fs_finding *finding = find(check, LIMPET_FS_NO_PART, dir->ino);
        if (finding == NULL)
            return -ENOMEM;
        finding->number = i;
    }
    return 0;
}

/* Whether somebody who looks for the name comes to this shard. */
static bool is_looked_for(const struct check *check, const struct check_entry *entry)
{
    const struct check_node *dir = check_node_find(check, entry->dir);
    if (dir == NULL || dir->part == 0 || !is_named(check, dir))
        return true;
    return fs_part_of(entry->cookie) == dir->part - 1u &&
           check_entry_find(check, dir->parent, entry->cookie, entry->name) == NULL;
}

/* ---- Entries ---- */

/* A directory's only entry: the one that it knows of, if there is such a one, else the first. */
static int take_dir_entry(struct check *check, struct check_node *node, uint32_t at)
{
    struct check_entry *entries = check_entries(check);
    if (node->entry == 0) {
        node->entry = at + 1;
        return 0;
    }
    uint32_t second = at;
    if (check_main(check, entries[at].dir) == node->parent &&
        check_main(check, entries[node->entry - 1].dir) != node->parent) {
        second = node->entry - 1;
        node->entry = at + 1;
    }
    if (node->excused)
        return 0;
    return found_entry(check, LIMPET_FS_ENTRY_SECOND, &entries[second]);
}

static int check_entry(struct check *check, uint32_t at)
{
    const struct check_entry *entry = &check_entries(check)[at];
    struct check_node *node = check_node_find(check, entry->ino);
    struct check_node *dir = check_node_find(check, entry->dir);
    bool leaves = entry->moving.instance != 0 && intent_find(check, entry->moving) != NULL;
    /* What it named may have been removed where it went; the end of the move takes the entry away.
     */
    if (node == NULL)
        return leaves ? 0 : found_entry(check, LIMPET_FS_ENTRY_DANGLING, entry);
    node->n_entries++;
    if (entry->misplaced || !is_looked_for(check, entry))
        return found_entry(check, LIMPET_FS_ENTRY_MISPLACED, entry);
    if (entry->moving.instance != 0 && !leaves)
        return found_entry(check, LIMPET_FS_ENTRY_MOVING, entry);
    if (entry->type != (node->mode >> 12 & 15))
        return found_entry(check, LIMPET_FS_ENTRY_TYPE, entry);
    if (dir != NULL && S_ISDIR(node->mode))
        dir->n_dirs++;
    return fs_is_dir(entry->ino) ? take_dir_entry(check, node, at) : 0;
}

/* ---- The tree ---- */

struct walk {
    size_t n, capacity;
    uint64_t *inos;
};

static int walk_push(struct walk *walk, struct check_node *node)
{
    if (walk->n == walk->capacity) {
        size_t capacity = walk->capacity * 2 + 64;
        uint64_t *inos = realloc(walk->inos, capacity * sizeof *inos);
        if (inos == NULL)
            return -ENOMEM;
        walk->inos = inos;
        walk->capacity = capacity;
    }
    node->reached = true;
    walk->inos[walk->n++] = node->ino;
    return 0;
}

static int reach_parts(struct check *check, struct walk *walk, const struct check_node *dir)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && dir->parts != 0 && i < FS_PARTS; i++) {
        struct check_node *part = check_node_find(check, fs_ino(dir->parts + i, FS_INDEX_DIR));
        if (part != NULL && part->part != 0 && !part->reached)
            rc = walk_push(walk, part);
    }
    return rc;
}

/* Everything below a directory has been reached. */
static int reach(struct check *check, struct check_node *top)
{
    struct walk walk = {0};
    int rc = walk_push(&walk, top);
    while (rc == 0 && walk.n > 0) {
        uint64_t ino = walk.inos[--walk.n];
        const struct check_shard *shard = check_shard_find(check, fs_home(ino));
        rc = reach_parts(check, &walk, check_node_find(check, ino));
        for (size_t i = 0; shard != NULL && rc == 0 && i < shard->n_entries; i++) {
            const struct check_entry *entry = &check_entries(check)[shard->first_entry + i];
            struct check_node *node =
                fs_is_dir(entry->ino) ? check_node_find(check, entry->ino) : NULL;
            if (node != NULL && !node->reached)
                rc = walk_push(&walk, node);
        }
    }
    free(walk.inos);
    return rc;
}

/* A directory without an entry: one that was being made, or removed, or has lost it. */
static int check_unnamed(struct check *check, const struct check_node *node)
{
    const struct check_shard *shard = check_shard_find(check, fs_home(node->ino));
    bool alone = shard->n_nodes == 1 && shard->n_intents == 0;
    if (shard->n_entries == 0 && node->dying && node->links == 0 && !alone)
        return 0; /* It has been removed, and waits for inodes that were born there. */
    if (shard->n_entries == 0 && (node->dying || alone))
        return found(check, LIMPET_FS_UNNAMED, node->ino);
    return node->excused ? 0 : found(check, LIMPET_FS_UNREACHABLE, node->ino);
}

/* Of what is not reached and has an entry: whether going up from it leads to it again. */
static bool is_in_loop(const struct check *check, const struct check_node *node)
{
    uint64_t at = node->ino;
    for (size_t i = 0; i <= check->nodes.n; i++) {
        const struct check_node *here = check_node_find(check, at);
        if (here == NULL || here->entry == 0)
            return false;
        at = check_main(check, check_entries(check)[here->entry - 1].dir);
        if (at == node->ino)
            return true;
    }
    return false;
}

static int check_tree(struct check *check)
{
    struct check_node *root = check_node_find(check, FS_ROOT);
    int rc = root != NULL ? reach(check, root) : 0;
    for (size_t i = 0; rc == 0 && i < check->nodes.n; i++) {
        struct check_node *node = &check_nodes(check)[i];
        if (!fs_is_dir(node->ino) || node->reached || node->part != 0)
            continue;
        if (node->entry == 0) {
            rc = check_unnamed(check, node);
        } else if (is_in_loop(check, node)) {
            rc = found_entry(check, LIMPET_FS_LOOP, &check_entries(check)[node->entry - 1]);
            /* One cut is enough for it. */
            if (rc == 0)
                rc = reach(check, node);
        }
    }
    return rc;
}

/* ---- Inodes ---- */

static int wrong_links(struct check *check, const struct check_node *node, uint64_t right)
{
    struct limpet_fs_finding *finding = find(check, LIMPET_FS_LINKS, node->ino);
    if (finding == NULL)
        return -ENOMEM;
    finding->number = right;
    finding->other = node->links;
    return 0;
}

static int check_dir(struct check *check, const struct check_node *node)
{
    if (node->part != 0 && !is_named(check, node))
        return check_part(check, node);
    if (node->entry == 0 && node->ino != FS_ROOT && node->part == 0)
        return 0; /* check_unnamed() has seen to it. */
    uint64_t parent = node->parent;
    if (node->ino == FS_ROOT)
        parent = FS_ROOT;
    else if (node->part == 0)
        parent = check_main(check, check_entries(check)[node->entry - 1].dir);
    if (node->excused)
        return 0;
    if (node->parent != parent) {
        struct limpet_fs_finding *finding = find(check, LIMPET_FS_PARENT, node->ino);
        if (finding == NULL)
            return -ENOMEM;
        finding->number = parent;
    }
    if (node->dying && node->busy.instance == 0)
        return found(check, LIMPET_FS_DYING, node->ino);
    if (node->busy.instance != 0)
        return found(check, LIMPET_FS_BUSY, node->ino);
    return node->links == node->n_dirs + 2 ? 0 : wrong_links(check, node, node->n_dirs + 2);
}

static int check_file(struct check *check, const struct check_node *node)
{
    if (node->excused)
        return 0;
    if (node->n_entries == 0 && node->links == 0)
        return found(check, node->orphan ? LIMPET_FS_ORPHAN : LIMPET_FS_ORPHAN_WRONG, node->ino);
    if (node->n_entries == 0)
        return found(check, LIMPET_FS_UNREACHABLE, node->ino);
    if (node->links != node->n_entries)
        return wrong_links(check, node, node->n_entries);
    return node->busy.instance != 0 ? found(check, LIMPET_FS_BUSY, node->ino) : 0;
}

/* What an inode does not say to have is never looked for; that it says more is harmless. */
static int check_attributes(struct check *check, const struct check_node *node)
{
    if ((node->seen_attributes & ~node->attributes) == 0)
        return 0;
    struct limpet_fs_finding *finding = find(check, LIMPET_FS_ATTRIBUTES, node->ino);
    if (finding == NULL)
        return -ENOMEM;
    finding->number = node->seen_attributes;
    return 0;
}

/* ---- Data ---- */

static int compare_data(const void *a, const void *b)
{
    const struct check_data *x = a, *y = b;
    if (x->ino != y->ino)
        return x->ino < y->ino ? -1 : 1;
    if (x->contents != y->contents)
        return x->contents > y->contents ? -1 : 1; /* The newest first. */
    return x->number < y->number ? -1 : x->number > y->number;
}

static enum limpet_fs_damage damage_of(const struct check_node *node, const struct check_data *data)
{
    if (node == NULL)
        return LIMPET_FS_DATA_LOST;
    if (node->contents != data->contents || !S_ISREG(node->mode))
        return LIMPET_FS_DATA_OLD;
    return fs_object_start(&node->layout, data->number) < node->size ? LIMPET_FS_DATA_HIDDEN
                                                                     : LIMPET_FS_DATA_BEYOND;
}

static int check_strays(struct check *check)
{
    struct check_data *strays = check->strays.items;
    if (check->strays.n > 1)
        qsort(strays, check->strays.n, sizeof *strays, compare_data);
    for (size_t i = 0; i < check->strays.n; i++) {
        enum limpet_fs_damage damage = damage_of(check_node_find(check, strays[i].ino), &strays[i]);
        /* Of a lost file, the last object makes the inode. */
        if (damage == LIMPET_FS_DATA_LOST && i + 1 < check->strays.n &&
            strays[i + 1].ino == strays[i].ino && strays[i + 1].contents == strays[i].contents)
            continue;
        struct limpet_fs_finding *finding = find(check, damage, strays[i].ino);
        if (finding == NULL)
            return -ENOMEM;
        finding->number = strays[i].number;
        finding->other = strays[i].contents;
    }
    return 0;
}

/* ---- All of them ---- */

static void count(struct check *check)
{
    struct limpet_fs_check_report *report = check->report;
    report->directories = report->files = 0;
    for (size_t i = 0; i < check->nodes.n; i++)
        if (check_nodes(check)[i].part == 0)
            *(fs_is_dir(check_nodes(check)[i].ino) ? &report->directories : &report->files) += 1;
    report->entries = check->entries.n;
}

int check_rules(struct check *check)
{
    count(check);
    int rc = check_super(check);
    if (rc == 0)
        rc = check_txs(check);
    for (size_t i = 0; rc == 0 && i < check->shards.n; i++)
        rc = check_shard(check, &check_shards(check)[i]);
    for (size_t i = 0; rc == 0 && i < check->keys.n; i++)
        rc = check_key(check, &((const struct check_key *)check->keys.items)[i]);
    if (rc == 0)
        rc = check_strays(check);
    for (size_t i = 0; rc == 0 && i < check->entries.n; i++)
        rc = check_entry(check, (uint32_t)i);
    if (rc == 0)
        rc = check_tree(check);
    for (size_t i = 0; rc == 0 && i < check->nodes.n; i++) {
        const struct check_node *node = &check_nodes(check)[i];
        rc = fs_is_dir(node->ino) ? check_dir(check, node) : check_file(check, node);
        if (rc == 0)
            rc = check_parts(check, node);
        if (rc == 0)
            rc = check_attributes(check, node);
    }
    return rc;
}
