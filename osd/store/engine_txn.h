/*
 * What the files of transactions share: engine_txn.c (life), engine_need.c (what must be in memory
 * first), engine_execute.c (execution).
 */
#ifndef LIMPET_OSD_STORE_ENGINE_TXN_H
#define LIMPET_OSD_STORE_ENGINE_TXN_H

#include "osd/store/engine.h"

/* The pinned onode of an object that the transaction names. */
struct onode *ctx_onode(struct txn_ctx *ctx, const struct object_id *id);

/* The disk block that holds a block of the object, or BLOCK_NONE. */
uint32_t onode_block(const struct onode *o, uint64_t index);
/* Whether an overwrite of that block must go elsewhere, since another object holds it too. */
bool onode_block_shared(const struct engine *e, const struct onode *o, uint64_t index);

/* A range cut into a partial block at each end and whole blocks between. Indexes are of blocks. */
struct range_cut {
    uint64_t first_whole, end_whole; /* Empty when end <= first. */
    bool head, tail; /* Partial blocks at the ends; one block may be both: head only. */
    uint64_t head_index, tail_index;
};
struct range_cut range_cut(uint64_t offset, uint64_t len);
/* Whether the transaction writes the whole blocks to new places. */
bool range_redirects(const struct txn_ctx *ctx, const struct range_cut *c);
/* Blocks that the transaction takes away from objects before it gives them new ones, at least. */
uint64_t txn_returns(struct txn_ctx *ctx);

/*
 * Finds out what executing the transaction takes, and starts to load what is missing: afterwards
 * ctx->waiting tells whether it may be executed. -EAGAIN: earlier transactions must be in the
 * index first. Other errors are the transaction's.
 */
int txn_find_needs(struct txn_ctx *ctx, struct txn_need *need) MUST_CHECK;

/* The pairs of a map, as the copy of that number has them. */
void omap_copy(const struct encoder *omap, uint64_t nid, struct encoder *batch);
/* The object is there now that the map was copied for. */
void omap_copy_over(uint64_t nid, struct encoder *batch);
/* The transaction will not be executed: takes back what was copied for it. -EAGAIN: not yet. */
int omap_copy_abandon(struct txn_ctx *ctx) MUST_CHECK;

/* Everything it needs is there. Cannot fail; without memory it fails the engine. */
void txn_execute(struct txn_ctx *ctx);

/* Frees what loading the needs has allocated, without callbacks. */
void need_abandon(struct engine *e);

#endif
