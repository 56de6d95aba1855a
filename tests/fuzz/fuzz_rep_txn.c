/*
 * Messages between OSDs, given to a live placement group: a member or learner that gets what a
 * primary may say, or a primary that gets answers. The first byte chooses which; then come
 * messages: one byte of type, two of the body's length, two of the payload's, the body.
 *
 * The numbers that every message must have right to be looked at at all (group, configuration) are
 * put in place, so that the rest is reached.
 */
#include <stdlib.h>
#include <string.h>

#include "osd/pg/pg.h"
#include "osd/store/txn.h"
#include "tests/fuzz/memory_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { POOL = 7, SELF = 0, OTHER = 1, MESSAGES_MAX = 32, COMPLETIONS_MAX = 256 };

/* ---- A store that commits at the end of each turn, and holds nothing ---- */

struct empty_store {
    struct store base;
    uint32_t n_txns, n_reads, n_lists;
    struct store_txn *txns[COMPLETIONS_MAX];
    struct store_read *reads[COMPLETIONS_MAX];
    struct store_list *lists[COMPLETIONS_MAX];
};

static void empty_submit(struct store *store, struct store_txn *txn)
{
    struct empty_store *s = (struct empty_store *)store;
    assert(txn_check(txn->ops.data, txn->ops.len, txn->data.len, NULL) == 0);
    assert(s->n_txns < COMPLETIONS_MAX);
    s->txns[s->n_txns++] = txn;
}

static void empty_read(struct store *store, struct store_read *read)
{
    struct empty_store *s = (struct empty_store *)store;
    assert(s->n_reads < COMPLETIONS_MAX);
    s->reads[s->n_reads++] = read;
}

static void empty_list(struct store *store, struct store_list *list)
{
    struct empty_store *s = (struct empty_store *)store;
    assert(s->n_lists < COMPLETIONS_MAX);
    s->lists[s->n_lists++] = list;
}

static void empty_statfs(struct store *store, struct store_statfs *out)
{
    (void)store;
    *out = (struct store_statfs){.bytes_total = 1 << 30, .bytes_available = 1 << 30};
}

static const struct store_ops empty_ops = {
    .submit = empty_submit,
    .read = empty_read,
    .list = empty_list,
    .statfs = empty_statfs,
};

static void complete(struct empty_store *s)
{
    for (int turns = 0; turns < 8; turns++) {
        if (s->n_txns + s->n_reads + s->n_lists == 0)
            return;
        if (s->n_txns > 0) {
            struct store_txn *txn = s->txns[0];
            memmove(s->txns, s->txns + 1, --s->n_txns * sizeof(struct store_txn *));
            txn->done(txn, 0);
        }
        if (s->n_reads > 0) {
            struct store_read *read = s->reads[--s->n_reads];
            read->error = -ENOENT;
            read->done(read);
        }
        if (s->n_lists > 0) {
            struct store_list *list = s->lists[--s->n_lists];
            list->end = true;
            list->done(list);
        }
    }
}

/* ---- The rest of the world takes everything ---- */

static void take_send(void *ctx, int32_t osd, struct message *message)
{
    (void)ctx;
    (void)osd;
    message_unref(message);
}

static void take_answer(void *ctx, struct net_session *session, struct message *message)
{
    (void)ctx;
    (void)session;
    message_unref(message);
}

static void take_request(void *ctx, struct pg_request *request, struct message *reply)
{
    (void)ctx;
    (void)request;
    message_unref(reply);
}

static void take_add(void *ctx, struct pg_id pg, uint64_t config, int32_t osd)
{
    (void)ctx;
    (void)pg;
    (void)config;
    (void)osd;
}

static void take_changed(void *ctx, struct pg *pg)
{
    (void)ctx;
    (void)pg;
}

static void take_epoch(void *ctx, uint64_t epoch)
{
    (void)ctx;
    (void)epoch;
}

static void take_fatal(void *ctx, int error, const char *why)
{
    (void)ctx;
    (void)error;
    (void)why;
    abort(); /* No message may end an OSD. */
}

static uint64_t take_lease(void *ctx, int32_t osd)
{
    (void)ctx;
    (void)osd;
    return UINT64_MAX;
}

static uint64_t take_granted(void *ctx, int32_t osd, uint64_t instance)
{
    (void)ctx;
    (void)osd;
    (void)instance;
    return 0;
}

static const struct pg_world_ops world_ops = {
    .send = take_send,
    .answer = take_answer,
    .request_done = take_request,
    .add_member = take_add,
    .lease_until = take_lease,
    .granted_until = take_granted,
    .changed = take_changed,
    .want_map = take_epoch,
    .fatal = take_fatal,
};

/* ---- A map of three ---- */

static void put_osds(struct map_increment *inc)
{
    for (int32_t id = 0; id < 3; id++) {
        struct map_osd osd = {.exists = true, .up = true, .weight = MAP_WEIGHT_ONE};
        osd.uuid.bytes[0] = (uint8_t)(id + 1);
        osd.address = (struct net_address){.family = 4, .ip = {127, 0, 0, 1}};
        osd.address.port = (uint16_t)(7000 + id);
        osd.instance = (uint64_t)id + 1;
        osd.up_from = 1;
        assert(map_increment_set_osd(inc, id, &osd) == 0);
    }
}

/* role 0: a member; 1: a learner; 2: the primary, with a learner. */
static struct cluster_map *make_map(int role)
{
    struct cluster_map *map = map_create();
    struct map_increment *inc = map_increment_create(1);
    struct crush_map *crush = crush_create();
    struct uuid fsid = {.bytes = {9}};
    int32_t root;
    uint32_t rule;
    assert(crush_add_bucket(crush, (uint16_t)crush_type_by_name(crush, "root"), "default", &root) ==
           0);
    for (int32_t id = 0; id < 3; id++)
        assert(crush_insert(crush, root, id, MAP_WEIGHT_ONE) == 0);
    assert(crush_add_simple_rule(crush, "rule", "default", "osd", false, &rule) == 0);
    assert(map_increment_set_fsid(inc, &fsid) == 0);
    assert(map_increment_set_crush(inc, crush) == 0);
    crush_destroy(crush);
    put_osds(inc);
    assert(map_apply(map, inc) == 0);
    map_increment_destroy(inc);
    inc = map_increment_create(2);
    struct map_pool pool = {.id = POOL,
                            .name = "data",
                            .type = POOL_REPLICATED,
                            .size = 3,
                            .min_size = 1,
                            .pg_num = 1,
                            .crush_rule = rule,
                            .created = 2,
                            .config_base = 2};
    assert(map_increment_set_pool(inc, &pool) == 0);
    struct map_pg entry = {.pg = {.pool = POOL}, .config = 2, .n = 2, .members = {OTHER, SELF}};
    if (role == 1)
        entry.n = 1;
    if (role == 2) {
        entry.members[0] = SELF;
        entry.members[1] = OTHER;
    }
    assert(map_increment_set_pg(inc, &entry) == 0);
    assert(map_apply(map, inc) == 0);
    map_increment_destroy(inc);
    return map;
}

/* ---- Messages ---- */

static void give(struct pg *pg, struct net_session *session, int32_t from, struct message *message)
{
    struct pg_incoming in;
    if (pg_incoming_decode(message, &in) == 0) {
        in.pg = (struct pg_id){.pool = POOL};
        in.config = 2;
        in.epoch = in.epoch % 4;
        (void)pg_receive(pg, session, from, &in);
    }
    pg_incoming_fini(&in);
}

static void run(struct pg *pg, struct empty_store *store, struct net_session *session,
                const uint8_t *data, size_t size)
{
    for (int n = 0; n < MESSAGES_MAX && size >= 5; n++) {
        size_t body_len = (size_t)data[1] | (size_t)data[2] << 8;
        size_t payload_len = (size_t)data[3] | (size_t)data[4] << 8;
        uint16_t type = (uint16_t)(MSG_REP_TXN + (data[0] & 7));
        int32_t from = data[0] & 8 ? 2 : OTHER;
        data += 5;
        size -= 5;
        if (body_len > size)
            body_len = size;
        struct message *message = message_create(type, body_len);
        if (!message)
            return;
        if (body_len > 0)
            memcpy(message->body, data, body_len);
        if (payload_len > 0 && buf_slice_alloc(payload_len, &message->payload) == 0)
            memset(message->payload.data, 'x', payload_len);
        session->peer.instance = (uint64_t)from + 1;
        give(pg, session, from, message);
        message_unref(message);
        complete(store);
        data += body_len;
        size -= body_len;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct memory_world env;
    struct empty_store store = {.base.ops = &empty_ops};
    struct cluster_map *map = make_map(data[0] % 3);
    struct net_session session = {.open = true};
    struct pg_world world = {0};
    memory_world_init(&env);
    store.base.env = &env.env;
    world.env = &env.env;
    pg_world_init(&world);
    world.store = &store.base;
    world.map = map;
    world.self = SELF;
    world.ops = &world_ops;
    struct pg *pg = pg_create(&world, (struct pg_id){.pool = POOL}, false);
    assert(pg);
    pg_follow_map(pg, true);
    complete(&store);
    run(pg, &store, &session, data + 1, size - 1);
    pg_destroy(pg);
    pg_world_fini(&world);
    map_destroy(map);
    memory_world_fini(&env);
    return 0;
}
