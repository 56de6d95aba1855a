/*
 * Checking a file system: what its files share.
 *
 *   check.c        the passes, and what is told of them
 *   check_scan.c   reads all shards into a model
 *   check_rules.c  finds what does not fit together
 *   check_fix.c    repairs
 *
 * A pass reads everything, then finds, then repairs what it has found; passes go on until one finds
 * nothing. So a repair only has to be a step in the right direction: an inode without an entry gets
 * one, and the next pass corrects its number of links.
 */
#ifndef LIMPET_CLIENT_FS_CHECK_H
#define LIMPET_CLIENT_FS_CHECK_H

#include "client/fs/fs.h"

/* An inode as its record says, and what was found of it. */
struct check_node {
    uint64_t ino, parent, size, parts;
    uint64_t contents; /* fs_contents_of() */
    struct fs_layout layout;
    uint32_t mode, links;
    uint8_t dying, part;
    uint8_t attributes, seen_attributes; /* As it says; as keys are there. */
    uint16_t n_ranges;
    struct fs_range *ranges;
    struct fs_txid busy;
    bool orphan;        /* Its shard says so. */
    bool excused;       /* An operation on it has not ended. */
    bool reached;       /* A directory: from the root. */
    uint32_t n_entries; /* That name it. */
    uint32_t n_dirs;    /* Entries of directories in it. */
    uint32_t entry;     /* Of a directory: its entry, one more than the index; 0: none. */
};

struct check_entry {
    uint64_t dir; /* The directory's inode, or that of its part. */
    uint64_t ino;
    uint8_t type;
    bool misplaced; /* Its key is not that of its name. */
    uint64_t cookie;
    struct fs_txid moving;
    char name[FS_NAME_BYTES_MAX + 1];
};

/* A shard's object. Entries and nodes of it lie together. */
struct check_shard {
    uint64_t home;
    bool has_record;
    uint64_t births;
    uint32_t last_index; /* Of its inodes. */
    size_t first_node, n_nodes, first_entry, n_entries;
    size_t n_intents;
};

struct check_tx {
    uint64_t home;
    struct fs_txid tx;
    bool mark;
    uint64_t ino, to_ino, to_dir; /* Of the intent. */
};

/* A key that belongs to an inode, or one that cannot be read. */
struct check_key {
    uint64_t home;
    uint32_t index;
    uint8_t kind; /* enum fs_key; 0: malformed. */
    uint16_t len;
    uint8_t bytes[FS_KEY_MAX];
};

struct check_data {
    uint64_t ino, number;
    uint64_t contents;
};

struct check_list {
    size_t n, capacity;
    void *items;
};

struct check {
    struct limpet_fs *fs;
    bool repair;
    unsigned pass;
    size_t n_clients; /* Others that have it open. */
    const struct limpet_fs_check_calls *calls;
    void *arg;
    struct limpet_fs_check_report *report;

    /* The model. */
    uint64_t next_home; /* That the file system would give next. */
    struct check_list shards, nodes, entries, txs, keys, strays; /* Of the structs above. */

    struct check_list found;  /* struct limpet_fs_finding: of this pass. */
    struct check_list before; /* Of the pass before, while others change the file system. */
};

/* One item more, of `size` bytes, zeroed; NULL: memory is short. */
void *check_list_add(struct check_list *list, size_t size) MUST_CHECK;

static inline struct check_shard *check_shards(const struct check *check)
{
    return check->shards.items;
}

static inline struct check_node *check_nodes(const struct check *check)
{
    return check->nodes.items;
}

static inline struct check_entry *check_entries(const struct check *check)
{
    return check->entries.items;
}

/* NULL: there is none. */
struct check_shard *check_shard_find(const struct check *check, uint64_t home);
struct check_node *check_node_find(const struct check *check, uint64_t ino);

/* The directory of a shard, which may be a part of it. */
uint64_t check_main(const struct check *check, uint64_t dir);
/* The entry of this name in the shard of a directory or part; NULL: there is none. */
const struct check_entry *check_entry_find(const struct check *check, uint64_t dir, uint64_t cookie,
                                           const char *name);
/* The directory that has this shard among its parts; NULL: none has. */
const struct check_node *check_owner(const struct check *check, uint64_t home);

/* Reads all shards, and names of data objects that are not where they may be. */
int check_scan(struct check *check) MUST_CHECK;
void check_scan_forget(struct check *check);
void check_progress(const struct check *check, const char *what, uint64_t done, uint64_t total);

/* Fills `found`. */
int check_rules(struct check *check) MUST_CHECK;
/* One of them: 0 when the file system is better than before. */
int check_fix(struct check *check, const struct limpet_fs_finding *finding) MUST_CHECK;

#endif
