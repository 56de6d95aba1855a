/*
 * A model of a file system: a tree of nodes whose names, attributes and contents are cells of one
 * number each; and the changes of cells that are not durable for certain. When a process dies its
 * changes are `unsure`: what is there then is one of the values that the cell has had since.
 *
 *  F1  A change that is there brings all with it that were made in the same shard before it was
 *      begun (a shard's changes become durable as a prefix).
 *  F2  A piece of a file that lies within its size has a value that it had within some size before.
 *  F3  A node that had a name all the time has one.
 */
#ifndef LIMPET_TESTS_SIM_FILE_MODEL_H
#define LIMPET_TESTS_SIM_FILE_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FILE_NODES_MAX = 384,
    FILE_NODES_SPARE = 96, /* For what operations whose end nobody knows have left. */
    FILE_NAMES = 8,        /* In a directory. */
    FILE_PIECES = 40,
    FILE_PIECE_BYTES = 512,
    FILE_XATTRS = 2,
    FILE_CHANGES_MAX = 20000,
    FILE_OWNERS_MAX = 33, /* Clients, by their numbers. */
    FILE_NONE = 0,        /* No node. */
    FILE_ROOT = 1,
};

enum file_cell {
    CELL_MODE,
    CELL_UID,
    CELL_MTIME, /* 0: it is not known. */
    CELL_XATTR,
    CELL_SIZE = CELL_XATTR + FILE_XATTRS, /* In pieces. */
    CELL_FIRST, /* Of names, each with the number of a node, or of pieces of contents. */
    FILE_CELLS = CELL_FIRST + FILE_PIECES
};
#define FILE_BEYOND UINT64_MAX /* Of a piece behind the end. */

struct file_node {
    bool used;
    bool ghost;      /* It was lost with its client; somebody has it open. */
    uint64_t ino;    /* 0: nobody was told. */
    unsigned type;   /* S_IFMT of the mode. */
    uint64_t target; /* Of a symbolic link. */
    uint64_t cells[FILE_CELLS];
    uint32_t any_names; /* These may lead anywhere. */
    bool any;           /* Its attributes and contents may be anything. */
    uint64_t any_by;    /* The last process whose operations have made it so. */
    uint32_t opens[FILE_OWNERS_MAX];
    uint64_t known; /* To these clients: nobody asks for a number that it was not told. */
    /* Operations under way. */
    uint32_t users, busy_names;
    bool alone;
    bool seen; /* By the walk. */
};

struct file_change {
    uint32_t node, cell;
    uint64_t before, after;
    uint64_t process, operation; /* Who made it, and with what else. */
    uint64_t home;               /* Its shard. */
    uint64_t begun, ended;
    bool loose;   /* F1 says nothing of it. */
    bool data;    /* Durable with the contents. */
    bool first;   /* When this is durable, the operation will be done. */
    bool unsure;  /* Its process has died, or has lost it. */
    bool settled; /* It is durable, and moves what others may lose. */
};

struct file_model {
    struct file_node nodes[FILE_NODES_MAX];
    struct file_change changes[FILE_CHANGES_MAX];
    uint32_t n_changes;
};

void file_model_init(struct file_model *model, uint64_t root_ino);
/* FILE_NONE: there is no room but for `spare` more. */
uint32_t file_node_make(struct file_model *model, unsigned type, uint32_t spare);
/* The shard of its attributes. */
uint64_t file_node_home(const struct file_node *node);
unsigned file_node_links(const struct file_model *model, uint32_t node);
unsigned file_node_opens(const struct file_model *model, uint32_t node);
/* Whether `node` is the other one or inside of it. */
bool file_node_is_inside(const struct file_model *model, uint32_t node, uint32_t dir);
bool file_node_is_empty(const struct file_model *model, uint32_t node);
/* Those that nobody can reach any more go. */
void file_nodes_collect(struct file_model *model);
/* Sets the cell, and remembers the change. */
void file_model_change(struct file_model *model, const struct file_change *change);
/* Forgets changes for which this says so. */
void file_model_forget(struct file_model *model,
                       bool (*durable)(void *ctx, const struct file_change *change), void *ctx);

/* ---- Judging ---- */

/* What somebody has found of a node; of a directory, names lead to places in the list. */
struct file_seen {
    uint64_t ino;
    unsigned type;
    unsigned links;
    uint64_t target;
    uint64_t cells[FILE_CELLS];
    uint32_t node; /* Of the model; the judge's. */
};

/*
 * Whether the tree, whose root is seen[FILE_ROOT], is what the model allows; then the model is as
 * it was seen, and nothing is unsure any more; changes are remembered that may be lost another
 * time. False: `why` says what is wrong.
 */
bool file_model_judge(struct file_model *model, struct file_seen *seen, uint32_t n,
                      bool (*may_be_lost)(void *ctx, const struct file_change *change), void *ctx,
                      char *why, size_t why_max);

#endif
