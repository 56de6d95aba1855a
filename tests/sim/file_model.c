#include "tests/sim/file_model.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void file_model_init(struct file_model *model, uint64_t root_ino)
{
    memset(model, 0, sizeof *model);
    struct file_node *root = &model->nodes[FILE_ROOT];
    root->used = true;
    root->type = S_IFDIR;
    root->ino = root_ino;
    root->cells[CELL_MODE] = 0755;
    root->known = UINT64_MAX;
}

/* An old change may still name nodes that are not used. */
static void find_named(const struct file_model *model, bool named[FILE_NODES_MAX])
{
    for (uint32_t j = 0; j < model->n_changes; j++) {
        const struct file_change *change = &model->changes[j];
        named[change->node] = true;
        if (change->cell >= CELL_FIRST && model->nodes[change->node].type == S_IFDIR)
            named[change->before] = named[change->after] = true;
    }
}

uint32_t file_node_make(struct file_model *model, unsigned type, uint32_t spare)
{
    bool named[FILE_NODES_MAX] = {false};
    uint32_t free = 0, first = FILE_NONE;
    find_named(model, named);
    for (uint32_t i = FILE_ROOT + 1; i < FILE_NODES_MAX; i++) {
        if (model->nodes[i].used || named[i])
            continue;
        free++;
        first = first == FILE_NONE ? i : first;
    }
    if (free <= spare)
        return FILE_NONE;
    struct file_node *node = &model->nodes[first];
    *node = (struct file_node){.used = true, .type = type};
    for (uint32_t k = 0; type == S_IFREG && k < FILE_PIECES; k++)
        node->cells[CELL_FIRST + k] = FILE_BEYOND;
    return first;
}

uint64_t file_node_home(const struct file_node *node)
{
    return node->ino >> 24;
}

unsigned file_node_links(const struct file_model *model, uint32_t node)
{
    unsigned n = 0;
    for (uint32_t i = FILE_ROOT; i < FILE_NODES_MAX; i++) {
        const struct file_node *dir = &model->nodes[i];
        /* What was lost with its directory has no name there. */
        bool counts = dir->used && !dir->ghost && dir->type == S_IFDIR;
        for (uint32_t k = 0; counts && k < FILE_NAMES; k++)
            n += dir->cells[CELL_FIRST + k] == node;
    }
    return n;
}

unsigned file_node_opens(const struct file_model *model, uint32_t node)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < FILE_OWNERS_MAX; i++)
        n += model->nodes[node].opens[i];
    return n;
}

bool file_node_is_inside(const struct file_model *model, uint32_t node, uint32_t dir)
{
    if (node == dir)
        return true;
    for (uint32_t k = 0; k < FILE_NAMES; k++) {
        uint64_t below = model->nodes[dir].cells[CELL_FIRST + k];
        if (below != FILE_NONE && model->nodes[below].type == S_IFDIR &&
            file_node_is_inside(model, node, (uint32_t)below))
            return true;
    }
    return false;
}

bool file_node_is_empty(const struct file_model *model, uint32_t node)
{
    for (uint32_t k = 0; k < FILE_NAMES; k++) {
        if (model->nodes[node].cells[CELL_FIRST + k] != FILE_NONE)
            return false;
    }
    return true;
}

void file_nodes_collect(struct file_model *model)
{
    for (uint32_t i = FILE_ROOT + 1; i < FILE_NODES_MAX; i++) {
        struct file_node *node = &model->nodes[i];
        if (node->used && !node->alone && node->users == 0 && file_node_opens(model, i) == 0 &&
            file_node_links(model, i) == 0)
            node->used = false;
    }
}

void file_model_change(struct file_model *model, const struct file_change *change)
{
    assert(model->n_changes < FILE_CHANGES_MAX);
    model->nodes[change->node].cells[change->cell] = change->after;
    model->changes[model->n_changes++] = *change;
}

static bool is_name(const struct file_node *node, uint32_t cell)
{
    return node->type == S_IFDIR && cell >= CELL_FIRST;
}

static bool moves_names(const struct file_model *model, uint64_t operation)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < model->n_changes; i++) {
        const struct file_change *change = &model->changes[i];
        n += change->operation == operation && is_name(&model->nodes[change->node], change->cell);
    }
    return n > 1;
}

/* Whether it moves what another process has put there, which that may lose without knowing it. */
static bool follows_unsettled(const struct file_model *model, const bool *gone, uint32_t number)
{
    const struct file_change *move = &model->changes[number];
    bool follows = false;
    for (uint32_t i = 0; !follows && i < number; i++) {
        const struct file_change *old = &model->changes[i];
        follows = !gone[i] && old->node == move->node && old->cell == move->cell &&
                  old->process != move->process;
    }
    return follows && moves_names(model, move->operation);
}

void file_model_forget(struct file_model *model,
                       bool (*durable)(void *ctx, const struct file_change *change), void *ctx)
{
    uint32_t n = 0;
    bool *gone = calloc(model->n_changes + 1, sizeof *gone);
    if (!gone)
        abort();
    for (uint32_t i = 0; i < model->n_changes; i++) {
        const struct file_change *change = &model->changes[i];
        gone[i] = gone[i] || change->settled || (!change->unsure && durable(ctx, change));
        for (uint32_t j = 0; gone[i] && change->first && j < model->n_changes; j++)
            gone[j] |= model->changes[j].operation == change->operation;
    }
    for (uint32_t i = 0; i < model->n_changes; i++) {
        bool stays = gone[i] && follows_unsettled(model, gone, i);
        for (uint32_t j = 0; stays && j < model->n_changes; j++) {
            struct file_change *change = &model->changes[j];
            if (!gone[j] || change->operation != model->changes[i].operation)
                continue;
            change->settled = true;
            gone[j] = false;
        }
    }
    for (uint32_t i = 0; i < model->n_changes; i++) {
        if (!gone[i])
            model->changes[n++] = model->changes[i];
    }
    model->n_changes = n;
    free(gone);
}

/* ---- Judging ---- */

struct judge {
    struct file_model *model;
    struct file_seen *seen;
    uint32_t n;
    char *why;
    size_t why_max;
    /* Of each change: the last one of its cell that must be there, the first that cannot be. */
    bool *there, *absent;
};

static bool refuse(const struct judge *judge, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static bool refuse(const struct judge *judge, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(judge->why, judge->why_max, format, args);
    va_end(args);
    return false;
}

/*
 * Numbers are given again after a loss, and of some nodes nobody was told theirs: a node is also
 * recognized by its owner, who is chosen by lot and stays.
 */
static bool may_be(const struct judge *judge, uint64_t node, const struct file_seen *found)
{
    const struct file_node *n = &judge->model->nodes[node];
    if (node == FILE_NONE || n->type != found->type)
        return false;
    if (!n->any && n->cells[CELL_UID] != found->cells[CELL_UID])
        return false;
    if (found->node != FILE_NONE)
        return found->node == node;
    return n->ino != 0 ? n->ino == found->ino : !n->seen;
}

static bool matches(const struct judge *judge, uint32_t node, uint32_t cell, uint64_t value,
                    uint64_t found)
{
    if (is_name(&judge->model->nodes[node], cell))
        return found == FILE_NONE ? value == FILE_NONE : may_be(judge, value, &judge->seen[found]);
    return value == found || (cell == CELL_MTIME && value == 0);
}

/* Somebody has changed it after all that is unsure: what is there says nothing of that. */
static bool is_certain(const struct file_model *model, uint32_t node, uint32_t cell)
{
    const struct file_change *last = NULL;
    for (uint32_t i = 0; i < model->n_changes; i++) {
        const struct file_change *change = &model->changes[i];
        if (change->unsure && change->node == node && change->cell == cell)
            last = change;
    }
    return last != NULL && last->after != model->nodes[node].cells[cell];
}

/*
 * What batches of records make durable. Of contents a process that has just lost them does not know
 * any more whether they had arrived, and a time is also that of what an unsure change has done.
 */
static bool is_of_records(const struct file_node *node, uint32_t cell)
{
    return cell != CELL_MTIME && (cell < CELL_SIZE || node->type != S_IFREG);
}

/* What the cell had before the first change that is unsure, then after each: does one explain it?
 */
static bool explain(const struct judge *judge, uint32_t node, uint32_t cell, uint64_t found,
                    uint64_t *value)
{
    const struct file_model *model = judge->model;
    uint32_t first = UINT32_MAX, last = 0;
    uint64_t expected = 0;
    bool any = false, from_start = true;
    *value = model->nodes[node].cells[cell];
    if (is_certain(model, node, cell) &&
        (is_of_records(&model->nodes[node], cell) || matches(judge, node, cell, *value, found)))
        return matches(judge, node, cell, *value, found);
    for (uint32_t i = 0; i < model->n_changes; i++) {
        const struct file_change *change = &model->changes[i];
        if (change->node != node || change->cell != cell || !change->unsure)
            continue;
        /* What was something else before it was changed again was made that by a change that is
         * certain: what had been before counts no more. */
        bool begins = first == UINT32_MAX ||
                      (is_of_records(&model->nodes[node], cell) && change->before != expected);
        if (begins) {
            any = from_start = matches(judge, node, cell, change->before, found);
            first = i;
            last = 0;
        }
        if (begins && any)
            *value = change->before;
        expected = change->after;
        if (matches(judge, node, cell, change->after, found)) {
            any = true;
            last = i + 1;
            *value = change->after;
        }
    }
    if (first == UINT32_MAX)
        return matches(judge, node, cell, *value, found);
    /* What a living one did afterwards is there. */
    if (!any && matches(judge, node, cell, model->nodes[node].cells[cell], found)) {
        *value = model->nodes[node].cells[cell];
        return true;
    }
    bool needs = !from_start;
    for (uint32_t i = first; any && i < model->n_changes; i++) {
        const struct file_change *change = &model->changes[i];
        if (change->node != node || change->cell != cell || !change->unsure)
            continue;
        judge->absent[i] = i >= last;
        judge->there[i] = needs;
        needs = needs && !matches(judge, node, cell, change->after, found);
    }
    return any;
}

static const char *cell_name(const struct file_node *node, uint32_t cell, char out[32])
{
    static const char *const names[] = {"mode",        "owner",       "time",
                                        "attribute 0", "attribute 1", "size"};
    if (cell < CELL_FIRST)
        return names[cell];
    snprintf(out, 32, "%s %u", node->type == S_IFDIR ? "name" : "piece", cell - CELL_FIRST);
    return out;
}

/* What has arrived of several writes may end between them: F2 looks at what is there. */
static bool explain_size(const struct judge *judge, const struct file_seen *found)
{
    const struct file_model *model = judge->model;
    uint64_t least = UINT64_MAX, most = 0, size = found->cells[CELL_SIZE];
    for (uint32_t i = 0; i < model->n_changes; i++) {
        const struct file_change *change = &model->changes[i];
        if (!change->unsure || change->node != found->node || change->cell != CELL_SIZE)
            continue;
        uint64_t low = change->before < change->after ? change->before : change->after;
        uint64_t high = change->before < change->after ? change->after : change->before;
        least = low < least ? low : least;
        most = high > most ? high : most;
    }
    return least <= size && size <= most;
}

static bool judge_cell(const struct judge *judge, const struct file_seen *found, uint32_t cell)
{
    struct file_node *node = &judge->model->nodes[found->node];
    uint64_t value;
    char text[32];
    if (explain(judge, found->node, cell, found->cells[cell], &value) ||
        (node->type == S_IFREG && cell == CELL_SIZE && explain_size(judge, found))) {
        if (!is_name(node, cell))
            node->cells[cell] = found->cells[cell];
        else
            node->cells[cell] = value;
        return true;
    }
    return refuse(judge,
                  "ino %" PRIu64 " %s: it has %" PRIu64 " where %" PRIu64 " is right, and nothing "
                  "explains it",
                  found->ino, cell_name(node, cell, text), found->cells[cell], node->cells[cell]);
}

/* F2: within some size it had this value. */
static bool judge_piece(const struct judge *judge, const struct file_seen *found, uint32_t k)
{
    struct file_node *node = &judge->model->nodes[found->node];
    uint32_t cell = CELL_FIRST + k;
    uint64_t value;
    if (k < found->cells[CELL_SIZE])
        return judge_cell(judge, found, cell);
    /* Beyond the end nothing is seen. */
    (void)explain(judge, found->node, cell, FILE_BEYOND, &value);
    node->cells[cell] = FILE_BEYOND;
    return true;
}

static bool judge_node(const struct judge *judge, struct file_seen *found);

static uint32_t adopt(const struct judge *judge, const struct file_seen *found)
{
    uint32_t i = file_node_make(judge->model, found->type, 0);
    if (i == FILE_NONE)
        return i;
    judge->model->nodes[i].any = true;
    judge->model->nodes[i].any_names = UINT32_MAX;
    judge->model->nodes[i].target = found->target;
    return i;
}

/* Somebody may have changed the name who was told what the model does not know. */
static void infer_nothing(const struct judge *judge, uint32_t node, uint32_t cell)
{
    for (uint32_t i = 0; i < judge->model->n_changes; i++) {
        const struct file_change *change = &judge->model->changes[i];
        if (change->node == node && change->cell == cell)
            judge->there[i] = judge->absent[i] = false;
    }
}

static bool judge_name(const struct judge *judge, const struct file_seen *dir, uint32_t k)
{
    struct file_node *node = &judge->model->nodes[dir->node];
    uint64_t at = dir->cells[CELL_FIRST + k], value = FILE_NONE;
    bool explained = explain(judge, dir->node, CELL_FIRST + k, at, &value);
    bool any = node->any_names >> k & 1;
    if (any)
        infer_nothing(judge, dir->node, CELL_FIRST + k);
    if (!explained && !any) {
        uint64_t right = node->cells[CELL_FIRST + k];
        return refuse(judge,
                      "name %u of ino %" PRIu64 " leads to %" PRIu64 " (type %o), not to %" PRIu64
                      " (type %o)",
                      k, dir->ino, at != 0 ? judge->seen[at].ino : 0,
                      at != 0 ? judge->seen[at].type : 0,
                      right != 0 ? judge->model->nodes[right].ino : 0,
                      right != 0 ? judge->model->nodes[right].type : 0);
    }
    if (at == FILE_NONE) {
        node->cells[CELL_FIRST + k] = FILE_NONE;
        return true;
    }
    struct file_seen *found = &judge->seen[at];
    if (!explained) {
        value = found->node;
        for (uint32_t i = FILE_ROOT; value == FILE_NONE && i < FILE_NODES_MAX; i++) {
            if (judge->model->nodes[i].used && judge->model->nodes[i].ino == found->ino &&
                may_be(judge, i, found))
                value = i;
        }
        if (value == FILE_NONE)
            value = adopt(judge, found);
        if (value == FILE_NONE)
            return refuse(judge, "the model has no room for what is found");
    }
    node->cells[CELL_FIRST + k] = value;
    if (found->node != FILE_NONE)
        return true;
    found->node = (uint32_t)value;
    return judge_node(judge, found);
}

static bool judge_node(const struct judge *judge, struct file_seen *found)
{
    struct file_node *node = &judge->model->nodes[found->node];
    node->used = node->seen = true;
    node->ghost = false;
    node->ino = found->ino;
    if (node->type == S_IFLNK && node->target != found->target)
        return refuse(judge, "link %" PRIu64 " leads elsewhere", found->ino);
    for (uint32_t cell = 0; cell < CELL_FIRST; cell++) {
        if (node->any)
            node->cells[cell] = found->cells[cell];
        else if (!judge_cell(judge, found, cell))
            return false;
    }
    for (uint32_t k = 0; node->type == S_IFREG && k < FILE_PIECES; k++) {
        if (node->any)
            node->cells[CELL_FIRST + k] = found->cells[CELL_FIRST + k];
        else if (!judge_piece(judge, found, k))
            return false;
    }
    for (uint32_t k = 0; node->type == S_IFDIR && k < FILE_NAMES; k++) {
        if (!judge_name(judge, found, k))
            return false;
    }
    return true;
}

/* F1 */
static bool judge_order(const struct judge *judge)
{
    const struct file_model *model = judge->model;
    for (uint32_t i = 0; i < model->n_changes; i++) {
        const struct file_change *old = &model->changes[i];
        if (!judge->absent[i] || old->loose)
            continue;
        for (uint32_t j = 0; j < model->n_changes; j++) {
            const struct file_change *new = &model->changes[j];
            char a[32], b[32];
            if (!judge->there[j] || new->loose || new->home != old->home ||
                new->process != old->process || old->ended >= new->begun)
                continue;
            return refuse(
                judge,
                "a change is lost (%s of ino %" PRIu64 ", at %" PRIu64
                "), and a later one of its shard is there (%s of ino %" PRIu64 ", at %" PRIu64 ")",
                cell_name(&model->nodes[old->node], old->cell, a), model->nodes[old->node].ino,
                old->ended, cell_name(&model->nodes[new->node], new->cell, b),
                model->nodes[new->node].ino, new->begun);
        }
    }
    return true;
}

/* Whether the directory was there all the time; in its chain, as the model was before judging. */
static bool stays(const struct judge *judge, const struct file_node *before, uint32_t node)
{
    const struct file_model *model = judge->model;
    if (node == FILE_ROOT)
        return true;
    for (uint32_t i = FILE_ROOT; i < FILE_NODES_MAX; i++) {
        for (uint32_t k = 0; before[i].used && before[i].type == S_IFDIR && k < FILE_NAMES; k++) {
            bool certain =
                before[i].cells[CELL_FIRST + k] == node && !(before[i].any_names >> k & 1);
            for (uint32_t j = 0; certain && j < model->n_changes; j++) {
                const struct file_change *change = &model->changes[j];
                if (change->unsure && change->node == i && change->cell == CELL_FIRST + k)
                    certain = false;
            }
            if (certain && stays(judge, before, i))
                return true;
        }
    }
    return false;
}

/* One operation that moves it, from a place that is certain to another one: it is in one of them.
 */
static bool moved_once(const struct judge *judge, const struct file_node *before, uint32_t node)
{
    const struct file_model *model = judge->model;
    const struct file_change *from = NULL, *to = NULL;
    for (uint32_t i = 0; i < model->n_changes; i++) {
        const struct file_change *change = &model->changes[i];
        if (!change->unsure || !is_name(&model->nodes[change->node], change->cell))
            continue;
        bool leaves = change->before == node, comes = change->after == node;
        if ((leaves && from) || (comes && to))
            return false;
        from = leaves ? change : from;
        to = comes ? change : to;
    }
    if (!from || !to || from->operation != to->operation || before[from->node].any_names ||
        before[to->node].any_names)
        return false;
    /* What is certain may have put something else there since. */
    if (before[to->node].cells[to->cell] != node)
        return false;
    for (uint32_t i = 0; i < model->n_changes; i++) {
        const struct file_change *change = &model->changes[i];
        if (change != from && change != to && change->unsure &&
            ((change->node == from->node && change->cell == from->cell) ||
             (change->node == to->node && change->cell == to->cell)))
            return false;
    }
    return stays(judge, before, from->node) && stays(judge, before, to->node);
}

/* F3, and that names and links agree. */
static bool judge_missing(const struct judge *judge, const struct file_node *before)
{
    struct file_model *model = judge->model;
    for (uint32_t i = FILE_ROOT; i < FILE_NODES_MAX; i++) {
        struct file_node *node = &model->nodes[i];
        if (!before[i].used || node->seen || before[i].ghost)
            continue;
        if (stays(judge, before, i) || moved_once(judge, before, i))
            return refuse(judge, "ino %" PRIu64 " has no name any more", node->ino);
        node->ghost = true;
    }
    for (uint32_t i = FILE_ROOT; i <= judge->n; i++) {
        const struct file_seen *found = &judge->seen[i];
        unsigned links = file_node_links(model, found->node);
        if (found->type != S_IFDIR && found->links != links)
            return refuse(judge, "ino %" PRIu64 " has %u links, and %u names", found->ino,
                          found->links, links);
    }
    return true;
}

/* What is there, or was changed once more, may be lost another time while its process lives. */
static void forget_unsure(const struct judge *judge,
                          bool (*may_be_lost)(void *ctx, const struct file_change *change),
                          void *ctx)
{
    struct file_model *model = judge->model;
    uint32_t n = 0;
    for (uint32_t i = 0; i < model->n_changes; i++) {
        struct file_change *change = &model->changes[i];
        if (change->unsure && (judge->absent[i] || !may_be_lost(ctx, change)))
            continue;
        change->unsure = false;
        model->changes[n++] = *change;
    }
    model->n_changes = n;
}

/*
 * What somebody else has moved since, from or to a name of which a change is unsure, may be what
 * had that name before.
 */
static void follow_moves(struct file_model *model)
{
    bool *follows = calloc(model->n_changes + 1, sizeof *follows);
    if (!follows)
        abort();
    for (uint32_t i = 0; i < model->n_changes; i++) {
        const struct file_change *move = &model->changes[i];
        bool moved = false;
        for (uint32_t j = 0; !moved && j < i; j++) {
            const struct file_change *old = &model->changes[j];
            moved = old->node == move->node && old->cell == move->cell &&
                    old->operation != move->operation &&
                    (follows[j] || (old->unsure && old->process != move->process));
        }
        moved = moved && is_name(&model->nodes[move->node], move->cell) &&
                moves_names(model, move->operation);
        for (uint32_t j = 0; moved && j < model->n_changes; j++) {
            const struct file_change *change = &model->changes[j];
            struct file_node *node = &model->nodes[change->node];
            if (change->operation != move->operation || !is_name(node, change->cell))
                continue;
            follows[j] = true;
            node->any_names |= 1u << (change->cell - CELL_FIRST);
            node->any_by = move->process;
        }
    }
    free(follows);
}

/* What was found, and only guessed before, is not durable for certain. */
static bool guess_may_be_lost(const struct file_node *node, uint32_t number,
                              bool (*may_be_lost)(void *ctx, const struct file_change *change),
                              void *ctx)
{
    const struct file_change guess = {.node = number,
                                      .process = node->any_by,
                                      .home = file_node_home(node),
                                      .data = node->type == S_IFREG};
    return (node->any || node->any_names != 0) && may_be_lost(ctx, &guess);
}

bool file_model_judge(struct file_model *model, struct file_seen *seen, uint32_t n,
                      bool (*may_be_lost)(void *ctx, const struct file_change *change), void *ctx,
                      char *why, size_t why_max)
{
    struct judge judge = {.model = model, .seen = seen, .n = n, .why = why, .why_max = why_max};
    struct file_node *before = malloc(sizeof model->nodes);
    judge.there = calloc(2 * (model->n_changes + 1), sizeof *judge.there);
    if (!before || !judge.there)
        abort();
    judge.absent = judge.there + model->n_changes + 1;
    follow_moves(model);
    memcpy(before, model->nodes, sizeof model->nodes);
    for (uint32_t i = 0; i < FILE_NODES_MAX; i++)
        model->nodes[i].seen = false;
    seen[FILE_ROOT].node = FILE_ROOT;
    bool right = judge_node(&judge, &seen[FILE_ROOT]) && judge_order(&judge) &&
                 judge_missing(&judge, before);
    if (right) {
        /* Of those that are open somewhere, what can be seen is not judged. */
        for (uint32_t i = FILE_ROOT; i < FILE_NODES_MAX; i++) {
            struct file_node *node = &model->nodes[i];
            /* One that was not seen may have its name again when its removal is lost. */
            if (node->seen && !guess_may_be_lost(node, i, may_be_lost, ctx)) {
                node->any = false;
                node->any_names = 0;
            }
            for (uint32_t k = 0; node->ghost && k < FILE_NAMES; k++) {
                if (node->type == S_IFDIR)
                    node->cells[CELL_FIRST + k] = FILE_NONE;
            }
        }
        forget_unsure(&judge, may_be_lost, ctx);
        file_nodes_collect(model);
    }
    free(judge.there);
    free(before);
    return right;
}
