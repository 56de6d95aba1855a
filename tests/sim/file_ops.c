/*
 * What clients do with files. An operation is chosen, takes what it needs of the model for itself,
 * says what it expects, is made, and what it has changed goes into the model.
 */
#include "tests/sim/files_impl.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

enum { TRIES_MAX = 8 };

static const char *const kind_names[FILE_OPS_END] = {
    "lookup", "getattr", "create", "mkdir", "symlink",   "unlink",    "rmdir",
    "rename", "link",    "list",   "chmod", "truncate",  "open",      "release",
    "read",   "write",   "fsync",  "sync",  "get-xattr", "set-xattr", "race",
};

const char *file_op_name(enum file_op_kind kind)
{
    return kind_names[kind];
}

static struct file_model *model_of(const struct file_op *op)
{
    return &op->client->files->model;
}

static struct file_node *node_of(const struct file_op *op, uint32_t node)
{
    return &model_of(op)->nodes[node];
}

static uint32_t named(const struct file_op *op, uint32_t dir, uint32_t name)
{
    return (uint32_t)node_of(op, dir)->cells[CELL_FIRST + name];
}

static uint64_t below(const struct file_op *op, uint64_t n)
{
    return files_below(op->client->files, n);
}

/* ---- What it has for itself ---- */

bool file_op_take(struct file_op *op, uint32_t i, bool alone)
{
    struct file_node *node = node_of(op, i);
    for (uint32_t k = 0; k < op->n_locks; k++) {
        if (op->locks[k].node == i && op->locks[k].name < 0)
            return op->locks[k].alone == alone;
    }
    if (node->alone || (alone && node->users > 0))
        return false;
    assert(op->n_locks < FILE_OP_LOCKS);
    node->alone = alone;
    node->users++;
    op->locks[op->n_locks++] = (struct file_lock){.node = i, .name = -1, .alone = alone};
    return true;
}

static bool take_name(struct file_op *op, uint32_t dir, uint32_t name)
{
    struct file_node *node = node_of(op, dir);
    for (uint32_t k = 0; k < op->n_locks; k++) {
        if (op->locks[k].node == dir && op->locks[k].name == (int)name)
            return true;
    }
    if (node->busy_names >> name & 1)
        return false;
    node->busy_names |= 1u << name;
    op->locks[op->n_locks++] = (struct file_lock){.node = dir, .name = (int)name};
    return true;
}

void file_op_give_all(struct file_op *op)
{
    while (op->n_locks > 0) {
        const struct file_lock *lock = &op->locks[--op->n_locks];
        struct file_node *node = node_of(op, lock->node);
        if (lock->name >= 0) {
            node->busy_names &= ~(1u << lock->name);
        } else {
            node->users--;
            node->alone = false;
        }
    }
    if (op->kind == FILE_OP_RENAME && op->value != 0)
        op->client->files->moving = false;
}

/* ---- Choosing ---- */

static bool is_known(const struct file_op *op, uint32_t i)
{
    return node_of(op, i)->known >> op->client->number & 1;
}

static void make_known(const struct file_op *op, uint32_t i)
{
    node_of(op, i)->known |= UINT64_C(1) << op->client->number;
}

static bool is_reachable(const struct file_op *op, uint32_t i)
{
    const struct file_node *node = node_of(op, i);
    return i == FILE_ROOT || (node->used && !node->ghost && node->ino != 0 && is_known(op, i) &&
                              file_node_links(model_of(op), i) > 0);
}

static uint32_t choose_node(const struct file_op *op, unsigned type)
{
    uint32_t n = 0, chosen = FILE_NONE;
    for (uint32_t i = FILE_ROOT; i < FILE_NODES_MAX; i++) {
        const struct file_node *node = node_of(op, i);
        if (!node->used || (type != 0 && node->type != type) || !is_reachable(op, i))
            continue;
        if (below(op, ++n) == 0)
            chosen = i;
    }
    return chosen;
}

static uint32_t choose_open(const struct file_op *op)
{
    uint32_t n = 0, chosen = FILE_NONE;
    for (uint32_t i = FILE_ROOT; i < FILE_NODES_MAX; i++) {
        const struct file_node *node = node_of(op, i);
        if (node->used && node->opens[op->client->number] > 0 && below(op, ++n) == 0)
            chosen = i;
    }
    return chosen;
}

static bool choose_entry(struct file_op *op)
{
    op->dir = choose_node(op, S_IFDIR);
    op->name = (uint32_t)below(op, FILE_NAMES);
    return op->dir != FILE_NONE && file_op_take(op, op->dir, false) &&
           take_name(op, op->dir, op->name);
}

static void change(struct file_op *op, uint32_t node, uint32_t cell, uint64_t after)
{
    assert(op->n_changes < FILE_OP_CHANGES);
    op->changes[op->n_changes].node = node;
    op->changes[op->n_changes].cell = cell;
    op->changes[op->n_changes++].after = after;
}

static void change_name(struct file_op *op, uint32_t dir, uint32_t name, uint32_t to)
{
    change(op, dir, CELL_FIRST + name, to);
}

static bool plan_lookup(struct file_op *op)
{
    if (!choose_entry(op))
        return false;
    op->node = named(op, op->dir, op->name);
    op->expected = op->node != FILE_NONE ? 0 : -ENOENT;
    return op->node == FILE_NONE || file_op_take(op, op->node, false);
}

static unsigned made_type(const struct file_op *op)
{
    return op->kind == FILE_OP_MKDIR ? S_IFDIR : op->kind == FILE_OP_SYMLINK ? S_IFLNK : S_IFREG;
}

static bool plan_make(struct file_op *op)
{
    if (!choose_entry(op))
        return false;
    op->expected = named(op, op->dir, op->name) != FILE_NONE ? -EEXIST : 0;
    if (op->expected != 0)
        return true;
    op->made = file_node_make(model_of(op), made_type(op), FILE_NODES_SPARE);
    if (op->made == FILE_NONE)
        return false;
    struct file_node *made = node_of(op, op->made);
    op->value = op->serial;
    made->target = op->serial;
    made->cells[CELL_MODE] = op->kind == FILE_OP_SYMLINK ? 0777 : 0600 + below(op, 64);
    made->cells[CELL_UID] = below(op, 1000);
    if (op->kind == FILE_OP_CREATE && below(op, 2) == 0)
        op->flags = LIMPET_FS_OPENED;
    change_name(op, op->dir, op->name, op->made);
    return file_op_take(op, op->made, true);
}

/* Whoever has it open goes on with it, or it is gone. */
static bool plan_unlink(struct file_op *op)
{
    if (!choose_entry(op))
        return false;
    op->node = named(op, op->dir, op->name);
    if (op->node == FILE_NONE) {
        op->expected = -ENOENT;
        return true;
    }
    if (!file_op_take(op, op->node, true))
        return false;
    bool is_dir = node_of(op, op->node)->type == S_IFDIR;
    if (op->kind == FILE_OP_UNLINK)
        op->expected = is_dir ? -EISDIR : 0;
    else if (!is_dir)
        op->expected = -ENOTDIR;
    else
        op->expected = file_node_is_empty(model_of(op), op->node) ? 0 : -ENOTEMPTY;
    if (op->expected == 0)
        change_name(op, op->dir, op->name, FILE_NONE);
    return true;
}

bool file_op_take_two(struct file_op *op)
{
    op->dir = choose_node(op, S_IFDIR);
    op->to_dir = below(op, 2) ? op->dir : choose_node(op, S_IFDIR);
    op->name = (uint32_t)below(op, FILE_NAMES);
    op->to_name = (uint32_t)below(op, FILE_NAMES);
    return file_op_take(op, op->dir, false) && file_op_take(op, op->to_dir, false) &&
           take_name(op, op->dir, op->name) && take_name(op, op->to_dir, op->to_name);
}

static int rename_error(const struct file_op *op, uint32_t from, uint32_t to)
{
    const struct file_model *model = model_of(op);
    if (from == FILE_NONE)
        return -ENOENT;
    if (op->flags & RENAME_NOREPLACE && to != FILE_NONE)
        return -EEXIST;
    if (op->flags & RENAME_EXCHANGE && to == FILE_NONE)
        return -ENOENT;
    bool from_dir = model->nodes[from].type == S_IFDIR;
    bool to_dir = to != FILE_NONE && model->nodes[to].type == S_IFDIR;
    if (from_dir && file_node_is_inside(model, op->to_dir, from))
        return -EINVAL;
    if (op->flags & RENAME_EXCHANGE)
        return to_dir && file_node_is_inside(model, op->dir, to) ? -EINVAL : 0;
    if (from == to || to == FILE_NONE)
        return 0;
    if (from_dir && !to_dir)
        return -ENOTDIR;
    if (!from_dir && to_dir)
        return -EISDIR;
    return to_dir && !file_node_is_empty(model, to) ? -ENOTEMPTY : 0;
}

static bool plan_rename(struct file_op *op)
{
    struct files *files = op->client->files;
    if (!file_op_take_two(op))
        return false;
    uint32_t from = named(op, op->dir, op->name), to = named(op, op->to_dir, op->to_name);
    uint64_t dice = below(op, 5);
    op->flags = dice == 0 ? RENAME_NOREPLACE : dice == 1 ? RENAME_EXCHANGE : 0;
    bool moves = (from != FILE_NONE && node_of(op, from)->type == S_IFDIR) ||
                 (to != FILE_NONE && node_of(op, to)->type == S_IFDIR);
    /* What lies inside of what must not change meanwhile; nor who locks what in which order. */
    if (moves && op->dir != op->to_dir) {
        if (files->moving)
            return false;
        files->moving = true;
        op->value = 1;
    }
    op->expected = rename_error(op, from, to);
    /* The kernel looks at that, and asks nobody. */
    if (op->expected == -EINVAL || from == op->to_dir || to == op->dir)
        return false;
    op->node = from;
    op->made = to;
    if ((from != FILE_NONE && !file_op_take(op, from, true)) ||
        (to != FILE_NONE && to != from && !file_op_take(op, to, true)))
        return false;
    if (op->expected != 0 || from == to)
        return true;
    change_name(op, op->dir, op->name, op->flags & RENAME_EXCHANGE ? to : FILE_NONE);
    change_name(op, op->to_dir, op->to_name, from);
    for (uint32_t i = 0; i < op->n_changes && op->dir != op->to_dir; i++) {
        op->changes[i].loose = true;
        op->changes[i].first = i == 0;
    }
    return true;
}

static bool plan_link(struct file_op *op)
{
    if (!file_op_take_two(op))
        return false;
    op->node = named(op, op->dir, op->name);
    if (op->node == FILE_NONE || node_of(op, op->node)->type == S_IFDIR ||
        !is_known(op, op->node) || !file_op_take(op, op->node, true))
        return false;
    op->expected = named(op, op->to_dir, op->to_name) != FILE_NONE ? -EEXIST : 0;
    if (op->expected == 0)
        change_name(op, op->to_dir, op->to_name, op->node);
    /* Its first step is one of the inode's shard. */
    if (op->n_changes > 0)
        op->changes[0].loose = true;
    return true;
}

static bool plan_node(struct file_op *op, unsigned type, bool alone)
{
    op->node = choose_node(op, type);
    return op->node != FILE_NONE && file_op_take(op, op->node, alone);
}

static bool plan_setattr(struct file_op *op)
{
    if (!plan_node(op, 0, true) || node_of(op, op->node)->type == S_IFLNK)
        return false;
    op->n = 1 + (uint32_t)below(op, 3);
    if (op->n & 1)
        change(op, op->node, CELL_MODE, below(op, 0777));
    if (op->n & 2 && node_of(op, op->node)->type == S_IFREG)
        change(op, op->node, CELL_MTIME, SEC_NS + op->serial);
    else if (!(op->n & 1))
        return false;
    return true;
}

/* A file that this client has open, rather. */
static bool plan_file(struct file_op *op, bool alone)
{
    op->node = below(op, 4) > 0 ? choose_open(op) : FILE_NONE;
    if (op->node == FILE_NONE)
        op->node = choose_node(op, S_IFREG);
    if (op->node == FILE_NONE || node_of(op, op->node)->ghost)
        return false;
    return file_op_take(op, op->node, alone);
}

static void change_data(struct file_op *op, uint32_t cell, uint64_t after)
{
    change(op, op->node, cell, after);
    op->changes[op->n_changes - 1].data = op->changes[op->n_changes - 1].loose = true;
}

static bool plan_truncate(struct file_op *op)
{
    if (!plan_file(op, true))
        return false;
    const struct file_node *node = node_of(op, op->node);
    uint64_t size = below(op, FILE_PIECES + 1);
    op->value = size;
    change_data(op, CELL_SIZE, size);
    change_data(op, CELL_MTIME, 0);
    for (uint32_t k = 0; k < FILE_PIECES; k++) {
        uint64_t old = node->cells[CELL_FIRST + k];
        uint64_t after = k >= size ? FILE_BEYOND : old == FILE_BEYOND ? 0 : old;
        if (after != old)
            change_data(op, CELL_FIRST + k, after);
    }
    return true;
}

static bool plan_write(struct file_op *op)
{
    if (!plan_file(op, true))
        return false;
    const struct file_node *node = node_of(op, op->node);
    uint64_t size = node->cells[CELL_SIZE];
    bool appends = below(op, 4) == 0 && size < FILE_PIECES;
    op->flags = appends ? LIMPET_FS_APPEND : 0;
    if (below(op, 12) == 0)
        op->flags |= LIMPET_FS_DURABLE;
    op->first = (uint32_t)(appends ? size : below(op, FILE_PIECES));
    op->n = 1 + (uint32_t)below(op, below(op, 3) ? 4 : 20);
    if (op->first + op->n > FILE_PIECES)
        op->n = FILE_PIECES - op->first;
    op->value = op->serial;
    for (uint32_t k = (uint32_t)size; k < op->first; k++)
        change_data(op, CELL_FIRST + k, 0);
    for (uint32_t k = op->first; k < op->first + op->n; k++)
        change_data(op, CELL_FIRST + k, op->value);
    if (op->first + op->n > size)
        change_data(op, CELL_SIZE, op->first + op->n);
    change_data(op, CELL_MTIME, 0);
    return true;
}

static bool plan_release(struct file_op *op)
{
    op->node = choose_open(op);
    return op->node != FILE_NONE && file_op_take(op, op->node, true);
}

static bool plan_sync(struct file_op *op)
{
    if (op->kind == FILE_OP_SYNC_ALL)
        return true;
    if (below(op, 3) == 0)
        return plan_node(op, S_IFDIR, false);
    return plan_file(op, true);
}

static bool plan_xattr(struct file_op *op)
{
    if (!plan_node(op, 0, op->kind == FILE_OP_XATTR_SET) || node_of(op, op->node)->type == S_IFLNK)
        return false;
    op->name = (uint32_t)below(op, FILE_XATTRS);
    bool there = node_of(op, op->node)->cells[CELL_XATTR + op->name] != 0;
    if (op->kind == FILE_OP_XATTR_GET) {
        op->expected = there ? 0 : -ENODATA;
        return true;
    }
    op->value = below(op, 3) > 0 ? op->serial : 0;
    op->expected = op->value == 0 && !there ? -ENODATA : 0;
    if (op->expected == 0)
        change(op, op->node, CELL_XATTR + op->name, op->value);
    return true;
}

static bool plan(struct file_op *op)
{
    switch (op->kind) {
    case FILE_OP_LOOKUP:
        return plan_lookup(op);
    case FILE_OP_GETATTR:
        return plan_node(op, 0, false);
    case FILE_OP_CREATE:
    case FILE_OP_MKDIR:
    case FILE_OP_SYMLINK:
        return plan_make(op);
    case FILE_OP_UNLINK:
    case FILE_OP_RMDIR:
        return plan_unlink(op);
    case FILE_OP_RENAME:
        return plan_rename(op);
    case FILE_OP_LINK:
        return plan_link(op);
    case FILE_OP_LIST:
        return plan_node(op, S_IFDIR, true);
    case FILE_OP_SETATTR:
        return plan_setattr(op);
    case FILE_OP_TRUNCATE:
        return plan_truncate(op);
    case FILE_OP_OPEN:
        return plan_node(op, S_IFREG, true);
    case FILE_OP_RELEASE:
        return plan_release(op);
    case FILE_OP_READ:
        return plan_file(op, false);
    case FILE_OP_WRITE:
        return plan_write(op);
    case FILE_OP_SYNC:
    case FILE_OP_SYNC_ALL:
        return plan_sync(op);
    case FILE_OP_RACE:
        return file_race_plan(op);
    default:
        return plan_xattr(op);
    }
}

/* ---- Making the request ---- */

static void *contents_of(const struct file_op *op)
{
    size_t words = (size_t)op->n * FILE_PIECE_BYTES / sizeof(uint64_t);
    uint64_t *data = malloc((words + 1) * sizeof *data);
    if (!data)
        abort();
    for (size_t i = 0; i < words; i++)
        data[i] = op->value;
    return data;
}

struct request {
    struct limpet_fs_request rq;
    char name[FILE_NAME_BYTES], to_name[FILE_NAME_BYTES], text[32];
    void *data;
};

static void ask_for_new(const struct file_op *op, struct request *r)
{
    const struct file_node *made = node_of(op, op->made);
    r->rq.verb = LIMPET_FS_CREATE;
    r->rq.flags = (op->shares ? 0 : LIMPET_FS_EXCLUSIVE) | op->flags;
    r->rq.attr.mode =
        made_type(op) | (op->made != FILE_NONE ? (uint32_t)made->cells[CELL_MODE] : 0);
    r->rq.attr.uid = op->made != FILE_NONE ? (uint32_t)made->cells[CELL_UID] : 0;
    snprintf(r->text, sizeof r->text, "t%" PRIu64, op->value);
    if (op->kind == FILE_OP_SYMLINK) {
        r->rq.data = r->text;
        r->rq.len = strlen(r->text);
    }
}

static void ask_to_set(const struct file_op *op, struct request *r)
{
    r->rq.verb = LIMPET_FS_SETATTR;
    for (uint32_t i = 0; i < op->n_changes && op->kind == FILE_OP_SETATTR; i++) {
        if (op->changes[i].cell == CELL_MODE) {
            r->rq.set |= LIMPET_FS_SET_MODE;
            r->rq.attr.mode = node_of(op, op->node)->type | (uint32_t)op->changes[i].after;
        } else {
            r->rq.set |= LIMPET_FS_SET_MTIME;
            r->rq.attr.mtime_ns = (int64_t)op->changes[i].after;
        }
    }
    if (op->kind == FILE_OP_TRUNCATE) {
        r->rq.set = LIMPET_FS_SET_SIZE;
        r->rq.attr.size = op->value * FILE_PIECE_BYTES;
    }
}

static void ask_of_entry(const struct file_op *op, struct request *r)
{
    r->rq.ino = node_of(op, op->dir)->ino;
    snprintf(r->name, sizeof r->name, "n%u", op->name);
    snprintf(r->to_name, sizeof r->to_name, "n%u", op->to_name);
    r->rq.name = r->name;
    r->rq.to_name = r->to_name;
    switch (op->kind) {
    case FILE_OP_LOOKUP:
        r->rq.verb = LIMPET_FS_LOOKUP;
        break;
    case FILE_OP_UNLINK:
        r->rq.verb = LIMPET_FS_UNLINK;
        break;
    case FILE_OP_RMDIR:
        r->rq.verb = LIMPET_FS_RMDIR;
        break;
    case FILE_OP_RENAME:
        r->rq.verb = LIMPET_FS_RENAME;
        r->rq.flags = op->flags;
        r->rq.to_ino = node_of(op, op->to_dir)->ino;
        break;
    case FILE_OP_LINK:
        r->rq.verb = LIMPET_FS_LINK;
        r->rq.ino = node_of(op, op->node)->ino;
        r->rq.to_ino = node_of(op, op->to_dir)->ino;
        break;
    default:
        ask_for_new(op, r);
        break;
    }
}

static void ask_of_contents(const struct file_op *op, struct request *r)
{
    if (op->kind == FILE_OP_READ) {
        r->rq.verb = LIMPET_FS_READ;
        r->rq.len = (size_t)(FILE_PIECES + 1) * FILE_PIECE_BYTES;
        return;
    }
    r->rq.verb = LIMPET_FS_WRITE;
    r->rq.flags = op->flags;
    r->rq.offset = (uint64_t)op->first * FILE_PIECE_BYTES;
    r->rq.len = (size_t)op->n * FILE_PIECE_BYTES;
    r->rq.data = r->data = contents_of(op);
}

static void ask_of_node(const struct file_op *op, struct request *r)
{
    static const enum limpet_fs_verb verbs[FILE_OPS_END] = {
        [FILE_OP_GETATTR] = LIMPET_FS_GETATTR,     [FILE_OP_LIST] = LIMPET_FS_LIST,
        [FILE_OP_OPEN] = LIMPET_FS_OPEN,           [FILE_OP_RELEASE] = LIMPET_FS_RELEASE,
        [FILE_OP_SYNC] = LIMPET_FS_SYNC,           [FILE_OP_SYNC_ALL] = LIMPET_FS_SYNC,
        [FILE_OP_XATTR_GET] = LIMPET_FS_XATTR_GET,
    };
    r->rq.verb = verbs[op->kind];
    r->rq.ino = op->kind == FILE_OP_SYNC_ALL ? 0 : node_of(op, op->node)->ino;
    if (op->kind == FILE_OP_READ || op->kind == FILE_OP_WRITE)
        ask_of_contents(op, r);
    if (op->kind == FILE_OP_SETATTR || op->kind == FILE_OP_TRUNCATE)
        ask_to_set(op, r);
    if (op->kind == FILE_OP_LIST)
        r->rq.len = 1 << 16;
    if (op->kind != FILE_OP_XATTR_GET && op->kind != FILE_OP_XATTR_SET)
        return;
    snprintf(r->text, sizeof r->text, "user.x%u", op->name);
    r->rq.name = r->text;
    if (op->kind == FILE_OP_XATTR_SET && op->value == 0)
        r->rq.verb = LIMPET_FS_XATTR_REMOVE;
    if (op->kind == FILE_OP_XATTR_SET && op->value != 0) {
        r->rq.verb = LIMPET_FS_XATTR_SET;
        r->rq.data = &op->value;
        r->rq.len = sizeof op->value;
    }
}

static ssize_t make(const struct file_op *op, struct limpet_fs_result **result)
{
    struct request r = {0};
    if (op->dir != FILE_NONE)
        ask_of_entry(op, &r);
    else
        ask_of_node(op, &r);
    ssize_t rc = limpet_fs_do(op->client->fs, &r.rq, result);
    free(r.data);
    return rc;
}

/* ---- What it has returned ---- */

/* The first thing that is. */
static void wrong(struct file_op *op, const char *what, int64_t is, int64_t expected)
{
    if (op->differs)
        return;
    op->differs = true;
    snprintf(op->why, sizeof op->why,
             "client %u, %s of %u in ino %" PRIu64 " (name %u, to name %u of ino %" PRIu64
             "): %s is %" PRId64 ", not %" PRId64,
             op->client->number, kind_names[op->kind], op->node,
             node_of(op, op->dir != FILE_NONE ? op->dir : op->node)->ino, op->name, op->to_name,
             node_of(op, op->to_dir)->ino, what, is, expected);
}

static void look_at_attr(struct file_op *op, uint32_t i, const struct limpet_fs_attr *attr)
{
    struct file_node *node = node_of(op, i);
    if (attr->ino != node->ino)
        wrong(op, "the inode", (int64_t)attr->ino, (int64_t)node->ino);
    if (attr->mode != (node->type | node->cells[CELL_MODE]))
        wrong(op, "the mode", attr->mode, (int64_t)(node->type | node->cells[CELL_MODE]));
    if (attr->uid != node->cells[CELL_UID])
        wrong(op, "the owner", attr->uid, (int64_t)node->cells[CELL_UID]);
    if (node->type == S_IFDIR)
        return;
    if (attr->links != file_node_links(model_of(op), i) && !(op->kind == FILE_OP_RELEASE))
        wrong(op, "the number of links", attr->links, file_node_links(model_of(op), i));
    if (node->type != S_IFREG)
        return;
    if (attr->size != node->cells[CELL_SIZE] * FILE_PIECE_BYTES)
        wrong(op, "the size", (int64_t)attr->size,
              (int64_t)node->cells[CELL_SIZE] * FILE_PIECE_BYTES);
    if (node->cells[CELL_MTIME] == 0 && node->users == 1)
        node->cells[CELL_MTIME] = (uint64_t)attr->mtime_ns;
    else if (node->cells[CELL_MTIME] != 0 && node->cells[CELL_MTIME] != (uint64_t)attr->mtime_ns)
        wrong(op, "the time", attr->mtime_ns, (int64_t)node->cells[CELL_MTIME]);
}

static void look_at_contents(struct file_op *op, const struct limpet_fs_result *result)
{
    const struct file_node *node = node_of(op, op->node);
    uint64_t size = node->cells[CELL_SIZE] * FILE_PIECE_BYTES;
    if (result->len != size) {
        wrong(op, "the number of bytes", (int64_t)result->len, (int64_t)size);
        return;
    }
    for (size_t at = 0; at < size; at += sizeof(uint64_t)) {
        uint64_t is, expected = node->cells[CELL_FIRST + at / FILE_PIECE_BYTES];
        memcpy(&is, (const uint8_t *)result->data + at, sizeof is);
        if (is != expected) {
            char text[48];
            snprintf(text, sizeof text, "byte %zu", at);
            wrong(op, text, (int64_t)is, (int64_t)expected);
            return;
        }
    }
}

static void look_at_list(struct file_op *op, const struct limpet_fs_result *result)
{
    const struct file_node *dir = node_of(op, op->node);
    struct limpet_fs_entry entry;
    uint32_t found = 0;
    size_t at = 0;
    while (limpet_fs_entry_next(result->data, result->len, &at, &entry, NULL) == 0) {
        uint32_t name = (uint32_t)strtoul(entry.name + 1, NULL, 10);
        uint64_t node = name < FILE_NAMES ? dir->cells[CELL_FIRST + name] : FILE_NONE;
        if (node == FILE_NONE || node_of(op, (uint32_t)node)->ino != entry.ino)
            wrong(op, entry.name, (int64_t)entry.ino, (int64_t)node_of(op, (uint32_t)node)->ino);
        if (found >> name & 1)
            wrong(op, "an entry that comes twice", name, 0);
        found |= 1u << name;
    }
    for (uint32_t k = 0; k < FILE_NAMES; k++) {
        if (dir->cells[CELL_FIRST + k] != FILE_NONE && !(found >> k & 1))
            wrong(op, "an entry that is not listed", k, 0);
    }
}

static void look_at_result(struct file_op *op, const struct limpet_fs_result *result)
{
    uint64_t value = 0;
    switch (op->kind) {
    case FILE_OP_LOOKUP:
    case FILE_OP_GETATTR:
    case FILE_OP_OPEN:
        look_at_attr(op, op->node, &result->attr);
        break;
    case FILE_OP_READ:
        look_at_contents(op, result);
        break;
    case FILE_OP_LIST:
        look_at_list(op, result);
        break;
    case FILE_OP_XATTR_GET:
        memcpy(&value, result->data, result->len < sizeof value ? result->len : sizeof value);
        if (value != node_of(op, op->node)->cells[CELL_XATTR + op->name])
            wrong(op, "the attribute", (int64_t)value,
                  (int64_t)node_of(op, op->node)->cells[CELL_XATTR + op->name]);
        break;
    default:
        break;
    }
}

/* ---- What it has changed ---- */

void file_op_commit(const struct file_op *op, bool unsure)
{
    struct files *files = op->client->files;
    for (uint32_t i = 0; i < op->n_changes; i++) {
        const struct file_node *node = node_of(op, op->changes[i].node);
        struct file_change change = {
            .node = op->changes[i].node,
            .cell = op->changes[i].cell,
            .before = node->cells[op->changes[i].cell],
            .after = op->changes[i].after,
            .process = op->client->process,
            .operation = op->serial,
            .home = file_node_home(node),
            .begun = op->begun,
            .ended = files_now(files),
            .loose = op->changes[i].loose || unsure,
            .data = op->changes[i].data,
            .first = op->changes[i].first && !unsure,
            .unsure = unsure,
        };
        file_model_change(&files->model, &change);
    }
}

static bool is_synced(void *ctx, const struct file_change *change)
{
    const struct file_op *op = ctx;
    bool all = op->kind == FILE_OP_SYNC_ALL;
    return change->process == op->client->process && change->ended <= op->begun &&
           (!change->data || all || change->node == op->node);
}

static void commit_open(const struct file_op *op)
{
    uint32_t number = op->client->number;
    if (op->kind == FILE_OP_OPEN)
        node_of(op, op->node)->opens[number]++;
    if (op->kind == FILE_OP_CREATE && op->flags & LIMPET_FS_OPENED)
        node_of(op, op->made)->opens[number]++;
    if (op->kind == FILE_OP_RELEASE)
        node_of(op, op->node)->opens[number]--;
}

static bool only_looks(const struct file_op *op)
{
    switch (op->kind) {
    case FILE_OP_LOOKUP:
    case FILE_OP_GETATTR:
    case FILE_OP_LIST:
    case FILE_OP_READ:
    case FILE_OP_XATTR_GET:
    case FILE_OP_SYNC:
    case FILE_OP_SYNC_ALL:
        return true;
    default:
        return false;
    }
}

/* Nobody knows what has happened; whatever is found is right. */
static void forgive(const struct file_op *op)
{
    if (only_looks(op))
        return;
    uint32_t nodes[] = {op->dir, op->to_dir};
    uint32_t names[] = {op->name, op->to_name};
    for (uint32_t i = 0; i < 2 && op->dir != FILE_NONE; i++) {
        if (nodes[i] == FILE_NONE)
            continue;
        node_of(op, nodes[i])->any_names |= 1u << names[i];
        node_of(op, nodes[i])->any_by = op->client->process;
    }
    if (op->node != FILE_NONE) {
        node_of(op, op->node)->any = true;
        node_of(op, op->node)->any_by = op->client->process;
    }
}

static bool is_making(const struct file_op *op)
{
    return op->kind == FILE_OP_CREATE || op->kind == FILE_OP_MKDIR || op->kind == FILE_OP_SYMLINK;
}

static void drop_made(const struct file_op *op)
{
    if (is_making(op) && op->made != FILE_NONE)
        node_of(op, op->made)->used = false;
}

static void end_unsure(struct file_op *op, int rc, const struct limpet_fs_result *result)
{
    struct files *files = op->client->files;
    if (is_making(op) && op->made != FILE_NONE && rc == 0 && result != NULL)
        node_of(op, op->made)->ino = result->attr.ino;
    if (rc == 0 && op->expected == 0)
        commit_open(op);
    if (op->kind == FILE_OP_RELEASE && rc != 0)
        commit_open(op);
    file_op_commit(op, true);
    forgive(op);
    files->unsure = true;
}

bool file_op_is_loss(int rc)
{
    return rc == -EIO || rc == -ESHUTDOWN || rc == -ETIMEDOUT || rc == -ENOTCONN;
}

static void lose_contents(const struct file_op *op)
{
    struct file_model *model = model_of(op);
    for (uint32_t i = 0; i < model->n_changes; i++) {
        struct file_change *change = &model->changes[i];
        if (change->process == op->client->process && change->data &&
            (change->node == op->node || op->kind == FILE_OP_SYNC_ALL))
            change->unsure = !change->settled;
    }
}

/* Whether it is as the model says, if nothing was lost meanwhile. */
static void look_at_end(struct file_op *op, int rc, const struct limpet_fs_result *result)
{
    if (op->overlaps || op->client->lost)
        return;
    if (op->kind != FILE_OP_RELEASE && rc != op->expected)
        wrong(op, "the result", rc, op->expected);
    else if (rc == 0)
        look_at_result(op, result);
}

/* What was lost is told once, by whatever request: at the latest by one that makes all durable. */
static void look_whether_told(struct file_op *op, int rc)
{
    struct file_client *client = op->client;
    if (file_op_is_loss(rc)) {
        client->untold_ns = 0;
        client->told_ns = files_now(client->files);
    } else if (rc == 0 && op->kind == FILE_OP_SYNC_ALL && client->untold_ns != 0 &&
               op->begun > client->untold_ns && !client->lost) {
        files_fail(client->files,
                   "client %u was told by nothing of changes that were lost at %" PRIu64,
                   client->number, client->untold_ns);
    }
}

static void end(struct file_op *op, int rc, const struct limpet_fs_result *result)
{
    struct files *files = op->client->files;
    look_whether_told(op, rc);
    files_notice(files);
    /* What is lost is told by an error, and by a call that may come later. */
    if (file_op_is_loss(rc)) {
        lose_contents(op);
        files_lose(op->client, UINT64_MAX);
    }
    look_at_end(op, rc, result);
    /* Others' leases may be over, with what they had not written back, before they know of it. */
    if (op->differs && !op->overlaps)
        (void)files_look_for_lost(files, NULL);
    if (op->overlaps || op->client->lost) {
        end_unsure(op, rc, result);
        return;
    }
    if (op->differs) {
        files_fail(files, "%s", op->why);
        return;
    }
    if (op->kind == FILE_OP_RELEASE)
        rc = op->expected;
    if (rc == 0 && is_making(op)) {
        node_of(op, op->made)->ino = result->attr.ino;
        make_known(op, op->made);
    }
    if (rc == 0 && op->kind == FILE_OP_LOOKUP)
        make_known(op, op->node);
    if (rc == 0)
        commit_open(op);
    file_op_commit(op, false);
    if (rc == 0 && (op->kind == FILE_OP_SYNC || op->kind == FILE_OP_SYNC_ALL))
        file_model_forget(&files->model, is_synced, op);
}

void file_op_leave(struct file_op *op)
{
    TAILQ_REMOVE(&op->client->files->ops, op, link);
}

static void free_op(struct file_op *op)
{
    struct files *files = op->client->files;
    file_op_leave(op);
    file_op_give_all(op);
    free(op);
    if (!files->unsure)
        file_nodes_collect(&files->model);
}

void file_op_lost(struct file_op *op)
{
    if (op->race != NULL) {
        file_race_lost(op);
        return;
    }
    file_op_commit(op, true);
    forgive(op);
    free_op(op);
}

static enum file_op_kind choose_kind(struct files *files)
{
    uint64_t dice = files_below(files, files->mix_sum);
    int kind = 0;
    while (dice >= files->mix[kind])
        dice -= files->mix[kind++];
    return (enum file_op_kind)kind;
}

static struct file_op *new_op(struct file_client *client, enum file_op_kind kind)
{
    struct files *files = client->files;
    struct file_op *op = calloc(1, sizeof *op);
    if (!op)
        abort();
    op->client = client;
    op->kind = kind;
    op->serial = ++files->serials;
    op->begun = files_now(files);
    TAILQ_INSERT_TAIL(&files->ops, op, link);
    return op;
}

static struct file_op *choose(struct file_client *client)
{
    struct files *files = client->files;
    if (file_race_is_open(client))
        return new_op(client, FILE_OP_RACE);
    for (int i = 0; i < TRIES_MAX; i++) {
        struct file_op *op = new_op(client, choose_kind(files));
        if (plan(op))
            return op;
        drop_made(op);
        free_op(op);
    }
    return NULL;
}

void file_op_run(struct file_client *client)
{
    struct files *files = client->files;
    struct limpet_fs_result *result = NULL;
    struct file_op *op = choose(client);
    if (op == NULL)
        return;
    if (op->kind == FILE_OP_RACE)
        file_race_join(op);
    sim_log(files->cluster->sim, sim_node_name(client->client->member.node),
            "%" PRIu64 ": %s %u (%" PRIu64 ") in %" PRIu64 " name %u, to %" PRIu64
            " name %u, flags %x, pieces %u+%u, value %" PRIu64 ", expects %d",
            op->serial, kind_names[op->kind], op->node, node_of(op, op->node)->ino,
            node_of(op, op->dir)->ino, op->name, node_of(op, op->to_dir)->ino, op->to_name,
            op->flags, op->first, op->n, op->value, op->expected);
    ssize_t rc = make(op, &result);
    sim_log(files->cluster->sim, sim_node_name(client->client->member.node),
            "%" PRIu64 ": result %zd", op->serial, rc);
    files->n_done++;
    if (op->race != NULL) {
        file_race_end(op, (int)rc, result);
    } else {
        end(op, rc > 0 ? 0 : (int)rc, result);
        free_op(op);
    }
    limpet_fs_result_destroy(result);
    files_forget(files);
}
