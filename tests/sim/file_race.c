/*
 * Races: several clients use the same two names at the same time, of one directory or of two. When
 * all have their answers, somebody looks at the names, and then some order of the operations must
 * explain every answer and what was found; whoever had an answer before another one began comes
 * before that one.
 */
#include "tests/sim/files_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { RACE_PARTS = 5, RACE_NAMES = 2 };

/* Who takes part; its operation stays when it is over. */
struct race_part {
    struct file_op *op;
    uint64_t ended;
    uint64_t ino; /* That it was told. */
    int rc;
    bool over, existed;
};

struct file_race {
    struct files *files;
    struct file_op holder; /* Has what the race is about for itself. */
    uint64_t begins;
    uint32_t dirs[RACE_NAMES], names[RACE_NAMES];
    uint32_t n, n_left;
    bool broken; /* Something was lost meanwhile. */
    struct race_part parts[RACE_PARTS];
};

/*
 * What the names lead to; and which links have counted themselves: over two shards that is their
 * first step, so a file whose last name goes then gets the new one all the same.
 */
struct race_state {
    uint32_t at[RACE_NAMES];
    unsigned counted, done;
};

static struct file_node *node_in(const struct file_race *race, uint32_t node)
{
    return &race->files->model.nodes[node];
}

static uint64_t below(const struct file_race *race, uint64_t n)
{
    return files_below(race->files, n);
}

/* ---- Beginning ---- */

bool file_race_plan(struct file_op *op)
{
    struct files *files = op->client->files;
    if (files->race != NULL || !file_op_take_two(op) ||
        (op->dir == op->to_dir && op->name == op->to_name))
        return false;
    const struct file_node *dirs[] = {&files->model.nodes[op->dir],
                                      &files->model.nodes[op->to_dir]};
    uint32_t names[] = {op->name, op->to_name};
    for (int i = 0; i < RACE_NAMES; i++) {
        uint32_t node = (uint32_t)dirs[i]->cells[CELL_FIRST + names[i]];
        if (node != FILE_NONE &&
            (files->model.nodes[node].type != S_IFREG || !file_op_take(op, node, true)))
            return false;
    }
    struct file_race *race = calloc(1, sizeof *race);
    if (race == NULL)
        abort();
    race->files = files;
    race->holder.client = op->client;
    memcpy(race->holder.locks, op->locks, sizeof op->locks);
    race->holder.n_locks = op->n_locks;
    op->n_locks = 0;
    for (int i = 0; i < RACE_NAMES; i++) {
        race->dirs[i] = i == 0 ? op->dir : op->to_dir;
        race->names[i] = names[i];
    }
    uint64_t wait = 2 * files->think_ns;
    race->begins = files_now(files) + (wait < SEC_NS / 2 ? wait : SEC_NS / 2);
    files->race = op->race = race;
    return true;
}

bool file_race_is_open(const struct file_client *client)
{
    const struct file_race *race = client->files->race;
    uint32_t number = client->number;
    return race != NULL && !race->broken && race->n < RACE_PARTS &&
           files_now(race->files) < race->begins &&
           node_in(race, race->dirs[0])->known >> number & 1 &&
           node_in(race, race->dirs[1])->known >> number & 1;
}

static void choose_make(struct file_op *op)
{
    op->made = file_node_make(&op->client->files->model,
                              op->kind == FILE_OP_MKDIR ? S_IFDIR : S_IFREG, FILE_NODES_SPARE);
    if (op->made == FILE_NONE || !file_op_take(&op->race->holder, op->made, true)) {
        op->kind = FILE_OP_LOOKUP;
        return;
    }
    struct file_node *made = node_in(op->race, op->made);
    made->cells[CELL_MODE] = 0600 + below(op->race, 64);
    made->cells[CELL_UID] = below(op->race, 1000);
    op->shares = op->kind == FILE_OP_CREATE && below(op->race, 2) == 0;
}

/* Of what one of the names has led to at the beginning. */
static void choose_link(struct file_op *op, int from)
{
    const struct file_race *race = op->race;
    op->node = (uint32_t)node_in(race, race->dirs[from])->cells[CELL_FIRST + race->names[from]];
    if (op->node == FILE_NONE || !(node_in(race, op->node)->known >> op->client->number & 1))
        op->kind = FILE_OP_LOOKUP;
}

static void choose(struct file_op *op)
{
    static const enum file_op_kind kinds[] = {
        FILE_OP_CREATE, FILE_OP_CREATE, FILE_OP_CREATE, FILE_OP_MKDIR,
        FILE_OP_UNLINK, FILE_OP_UNLINK, FILE_OP_UNLINK, FILE_OP_RMDIR,
        FILE_OP_LINK,   FILE_OP_LINK,   FILE_OP_RENAME, FILE_OP_RENAME,
        FILE_OP_RENAME, FILE_OP_RENAME, FILE_OP_LOOKUP, FILE_OP_LOOKUP,
    };
    const struct file_race *race = op->race;
    int from = (int)below(race, RACE_NAMES);
    uint64_t dice = below(race, 4);
    op->kind = kinds[below(race, sizeof kinds / sizeof kinds[0])];
    op->node = FILE_NONE;
    op->slot = from;
    op->dir = race->dirs[from];
    op->name = race->names[from];
    op->to_dir = race->dirs[!from];
    op->to_name = race->names[!from];
    op->value = 0;
    op->flags = 0;
    if (op->kind == FILE_OP_CREATE || op->kind == FILE_OP_MKDIR)
        choose_make(op);
    else if (op->kind == FILE_OP_RENAME)
        op->flags = dice == 0 ? RENAME_NOREPLACE : dice == 1 ? RENAME_EXCHANGE : 0;
    else if (op->kind == FILE_OP_LINK)
        choose_link(op, from);
}

void file_race_join(struct file_op *op)
{
    struct file_race *race = op->client->files->race;
    op->race = race;
    op->part = race->n++;
    race->n_left++;
    race->parts[op->part].op = op;
    choose(op);
    if (race->begins > files_now(race->files))
        fiber_sleep(race->begins - files_now(race->files));
    if (files_below(race->files, 2))
        fiber_sleep(1 + files_below(race->files, 4 * MSEC_NS));
    op->begun = files_now(race->files);
    if (race->files->race == race)
        race->files->race = NULL;
}

/* ---- Judging ---- */

static unsigned type_of(const struct file_race *race, uint32_t node)
{
    return node != FILE_NONE ? node_in(race, node)->type : 0;
}

static int rename_in(const struct file_race *race, const struct file_op *op,
                     struct race_state *state)
{
    uint32_t *from = &state->at[op->slot], *to = &state->at[!op->slot], old = *from;
    if (old == FILE_NONE || (op->flags & RENAME_EXCHANGE && *to == FILE_NONE))
        return -ENOENT;
    if (op->flags & RENAME_NOREPLACE && *to != FILE_NONE)
        return -EEXIST;
    if (op->flags & RENAME_EXCHANGE) {
        *from = *to;
        *to = old;
        return 0;
    }
    bool from_dir = type_of(race, old) == S_IFDIR, to_dir = type_of(race, *to) == S_IFDIR;
    if (*to == old)
        return 0;
    if (*to != FILE_NONE && from_dir != to_dir)
        return from_dir ? -ENOTDIR : -EISDIR;
    *to = old;
    *from = FILE_NONE;
    return 0;
}

/* Names that are not of the race stay. */
static bool has_links(const struct file_race *race, uint32_t node, const struct race_state *state)
{
    unsigned others = file_node_links(&race->files->model, node);
    for (int i = 0; i < RACE_NAMES; i++) {
        others -= node_in(race, race->dirs[i])->cells[CELL_FIRST + race->names[i]] == node;
        if (state->at[i] == node)
            return true;
    }
    for (uint32_t i = 0; i < race->n; i++)
        others += (state->counted & ~state->done) >> i & 1 && race->parts[i].op->node == node;
    return others > 0;
}

/* Whether everything that was over when it began is done. */
static bool may_have_begun(const struct file_race *race, uint32_t part, unsigned done)
{
    for (uint32_t k = 0; k < race->n; k++) {
        if (!(done >> k & 1) && k != part && race->parts[k].ended < race->parts[part].op->begun)
            return false;
    }
    return true;
}

static uint64_t home_of(const struct file_race *race, uint32_t node)
{
    return node_in(race, node)->ino >> 24;
}

static void count_links(const struct file_race *race, struct race_state *state)
{
    for (uint32_t i = 0; i < race->n; i++) {
        const struct file_op *op = race->parts[i].op;
        if (op->kind == FILE_OP_LINK && race->parts[i].rc == 0 &&
            home_of(race, op->node) != home_of(race, op->to_dir) &&
            may_have_begun(race, i, state->done) && has_links(race, op->node, state))
            state->counted |= 1u << i;
    }
}

/* What it changes, and its answer: whether that is so. */
static bool explains(const struct file_race *race, const struct race_part *part,
                     struct race_state *state)
{
    const struct file_op *op = part->op;
    uint32_t *at = &state->at[op->slot], *to = &state->at[!op->slot];
    bool is_dir = type_of(race, *at) == S_IFDIR;
    int rc = 0;
    switch (op->kind) {
    case FILE_OP_CREATE:
        if (*at != FILE_NONE && !op->shares)
            return part->rc == -EEXIST;
        if (*at != FILE_NONE)
            return is_dir ? part->rc == -EISDIR || (part->rc == 0 && part->existed)
                          : part->rc == 0 && part->ino == node_in(race, *at)->ino;
        *at = op->made;
        return part->rc == 0 && !part->existed;
    case FILE_OP_MKDIR:
        if (*at != FILE_NONE)
            return part->rc == -EEXIST;
        *at = op->made;
        return part->rc == 0;
    case FILE_OP_UNLINK:
    case FILE_OP_RMDIR:
        if (*at == FILE_NONE)
            return part->rc == -ENOENT;
        if (is_dir != (op->kind == FILE_OP_RMDIR))
            return part->rc == (is_dir ? -EISDIR : -ENOTDIR);
        *at = FILE_NONE;
        return part->rc == 0;
    case FILE_OP_RENAME:
        rc = rename_in(race, op, state);
        return part->rc == rc;
    case FILE_OP_LINK:
        if (!has_links(race, op->node, state) && part->rc != 0)
            return part->rc == -ENOENT || part->rc == -ESTALE ||
                   (part->rc == -EEXIST && *to != FILE_NONE);
        if (*to != FILE_NONE)
            return part->rc == -EEXIST;
        rc = has_links(race, op->node, state) ? 0 : -ENOENT;
        *to = op->node;
        return part->rc == rc;
    default:
        return *at == FILE_NONE ? part->rc == -ENOENT
                                : part->rc == 0 && part->ino == node_in(race, *at)->ino;
    }
}

/* Whether those that are not done can follow, up to what was found. */
static bool find_order(const struct file_race *race, struct race_state state,
                       const uint64_t found[RACE_NAMES], uint32_t *order, uint32_t n)
{
    count_links(race, &state);
    if (n == race->n) {
        for (int i = 0; i < RACE_NAMES; i++) {
            uint64_t ino = state.at[i] != FILE_NONE ? node_in(race, state.at[i])->ino : 0;
            if (ino != found[i])
                return false;
        }
        return true;
    }
    for (uint32_t i = 0; i < race->n; i++) {
        struct race_state next = state;
        bool may = !(state.done >> i & 1) && may_have_begun(race, i, state.done);
        if (!may || !explains(race, &race->parts[i], &next))
            continue;
        next.done |= 1u << i;
        order[n] = i;
        if (find_order(race, next, found, order, n + 1))
            return true;
    }
    return false;
}

/* Into the model, one after the other. */
static void apply(struct file_race *race, const uint32_t *order, struct race_state state)
{
    for (uint32_t i = 0; i < race->n; i++) {
        const struct race_part *part = &race->parts[order[i]];
        struct file_op *op = part->op;
        count_links(race, &state);
        struct race_state next = state;
        (void)explains(race, part, &next);
        for (int k = 0; k < RACE_NAMES; k++) {
            /* The place that is left comes first, as in every operation of this kind. */
            int slot = k == 0 ? op->slot : !op->slot;
            if (next.at[slot] == state.at[slot])
                continue;
            op->changes[op->n_changes].node = race->dirs[slot];
            op->changes[op->n_changes].cell = CELL_FIRST + race->names[slot];
            op->changes[op->n_changes].loose = true;
            op->changes[op->n_changes++].after = next.at[slot];
        }
        if (op->n_changes > 1 && op->dir != op->to_dir)
            op->changes[0].first = true;
        file_op_commit(op, false);
        state = next;
        state.done |= 1u << order[i];
    }
}

static void tell(const struct file_race *race, const uint64_t found[RACE_NAMES])
{
    struct files *files = race->files;
    for (uint32_t i = 0; i < race->n; i++) {
        const struct race_part *part = &race->parts[i];
        sim_log(files->cluster->sim, "race",
                "client %u, %" PRIu64 ": %s of name %d, flags %x%s, made %u, node %u, %" PRIu64
                " to %" PRIu64 ": %d, ino %" PRIu64,
                part->op->client->number, part->op->serial, file_op_name(part->op->kind),
                part->op->slot, part->op->flags, part->op->shares ? " shares" : "", part->op->made,
                part->op->node, part->op->begun, part->ended, part->rc, part->ino);
    }
    files_fail(files,
               "no order explains the race for name %u of ino %" PRIu64 " and name %u of ino "
               "%" PRIu64 ", by %u; at the end %" PRIu64 " and %" PRIu64,
               race->names[0], node_in(race, race->dirs[0])->ino, race->names[1],
               node_in(race, race->dirs[1])->ino, race->n, found[0], found[1]);
}

/* ---- Its end ---- */

static void release(struct file_race *race)
{
    struct files *files = race->files;
    if (files->race == race)
        files->race = NULL;
    file_op_give_all(&race->holder);
    for (uint32_t i = 0; i < race->n; i++)
        free(race->parts[i].op);
    free(race);
    if (!files->unsure)
        file_nodes_collect(&files->model);
}

/* Whatever is found is right. */
static void forgive(struct file_race *race)
{
    for (int i = 0; i < RACE_NAMES; i++) {
        struct file_node *dir = node_in(race, race->dirs[i]);
        uint64_t node = dir->cells[CELL_FIRST + race->names[i]];
        dir->any_names |= 1u << race->names[i];
        if (node != FILE_NONE)
            node_in(race, (uint32_t)node)->any = true;
    }
    race->files->unsure = true;
}

/* Who is last finds out what is there. */
static bool look(const struct file_race *race, struct file_client *client,
                 uint64_t found[RACE_NAMES])
{
    for (int i = 0; i < RACE_NAMES; i++) {
        char name[FILE_NAME_BYTES];
        struct limpet_fs_result *result = NULL;
        snprintf(name, sizeof name, "n%u", race->names[i]);
        struct limpet_fs_request rq = {
            .verb = LIMPET_FS_LOOKUP, .ino = node_in(race, race->dirs[i])->ino, .name = name};
        ssize_t rc = limpet_fs_do(client->fs, &rq, &result);
        found[i] = rc == 0 ? result->attr.ino : 0;
        limpet_fs_result_destroy(result);
        if (rc != 0 && rc != -ENOENT)
            return false;
    }
    return true;
}

static void resolve(struct file_race *race, struct file_op *last)
{
    struct files *files = race->files;
    struct race_state state = {0};
    uint64_t found[RACE_NAMES] = {0};
    uint32_t order[RACE_PARTS];
    bool looked = !race->broken && look(race, last->client, found);
    race->broken |= last->overlaps || last->client->lost;
    for (int i = 0; i < RACE_NAMES; i++)
        state.at[i] = (uint32_t)node_in(race, race->dirs[i])->cells[CELL_FIRST + race->names[i]];
    bool explained = looked && !race->broken && find_order(race, state, found, order, 0);
    if (!explained && !race->broken)
        race->broken = files_look_for_lost(files, NULL);
    if (race->broken)
        forgive(race);
    else if (explained)
        apply(race, order, state);
    else
        tell(race, found);
    files->n_races += !race->broken && race->n > 1;
}

void file_race_end(struct file_op *op, int rc, const struct limpet_fs_result *result)
{
    struct file_race *race = op->race;
    struct race_part *part = &race->parts[op->part];
    part->rc = rc;
    part->ended = files_now(race->files);
    part->over = true;
    files_notice(race->files);
    if (file_op_is_loss(rc))
        files_lose(op->client, UINT64_MAX);
    race->broken |= op->overlaps || op->client->lost;
    if (rc == 0 && result != NULL) {
        part->ino = result->attr.ino;
        part->existed = result->existed;
    }
    if (rc == 0 && op->made != FILE_NONE && !part->existed) {
        node_in(race, op->made)->ino = part->ino;
        node_in(race, op->made)->known |= UINT64_C(1) << op->client->number;
    }
    if (--race->n_left > 0) {
        file_op_leave(op);
        return;
    }
    race->n_left = 1; /* Looking waits, and its client may die. */
    resolve(race, op);
    file_op_leave(op);
    release(race);
}

void file_race_lost(struct file_op *op)
{
    struct file_race *race = op->race;
    race->broken = true;
    file_op_leave(op);
    if (--race->n_left > 0)
        return;
    forgive(race);
    release(race);
}
