/*
 * File systems, as clients and OSDs see each other: records that come from disks and from the other
 * side, and a sequence of methods "fs.*" on one shard. The first byte says whether the shard begins
 * empty or with pairs of the input; each method gets a request that is made of the input's bytes,
 * or the bytes themselves.
 *
 * From an empty shard all records stay readable, whatever the requests are.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/fs_layout.h"
#include "common/method_names.h"
#include "osd/ops/run.h"
#include "osd/store/txn.h"
#include "placement/hash.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PAIRS_MAX = 256, CALLS_MAX = 24 };

struct pair {
    uint8_t *key, *value;
    uint16_t key_len;
    uint32_t value_len;
};

static struct {
    struct object_state state;
    uint32_t n;
    struct pair pairs[PAIRS_MAX]; /* By key. */
} shard;

static void must(bool condition)
{
    if (!condition)
        abort();
}

/* ---- Records ---- */

static void try_inode(const uint8_t *data, size_t size)
{
    struct fs_inode inode, again;
    struct encoder e;
    if (fs_inode_decode(data, size, &inode) != 0)
        return;
    must(inode.n_ranges <= FS_RANGES_MAX && inode.size <= FS_SIZE_MAX);
    encoder_init(&e);
    fs_inode_encode(&e, &inode);
    must(!e.failed && fs_inode_decode(e.data, e.len, &again) == 0);
    must(again.size == inode.size && again.n_ranges == inode.n_ranges &&
         again.target.len == inode.target.len);
    encoder_fini(&e);
    uint64_t first = fs_objects_end(&inode.layout, inode.size), last = first + (inode.mode & 63);
    if (last <= FS_SIZE_MAX >> inode.layout.order)
        (void)fs_ranges_add(&inode, first, last);
    fs_ranges_cut(&inode, first + 1);
    must(inode.n_ranges <= FS_RANGES_MAX);
    for (uint16_t i = 0; i < inode.n_ranges; i++)
        must(inode.ranges[i].first <= inode.ranges[i].last && inode.ranges[i].last <= first);
}

static void try_listing(const uint8_t *data, size_t size)
{
    struct decoder d;
    struct fs_listed listed;
    decoder_init(&d, data, size);
    while (fs_listed_next(&d, &listed) == 0)
        must(listed.name.len > 0 && listed.name.len <= FS_NAME_BYTES_MAX);
}

static void try_records(const uint8_t *data, size_t size)
{
    struct fs_entry entry;
    struct fs_shard record;
    struct fs_intent intent;
    struct fs_super super;
    struct fs_request request;
    struct fs_answer answer;
    struct fs_txid tx;
    static struct fs_locks locks;
    if (fs_locks_decode(data, size, &locks) == 0)
        must(locks.n <= FS_LOCKS_MAX);
    try_inode(data, size);
    try_listing(data, size);
    if (fs_intent_decode(data, size, &intent) == 0)
        must(intent.name.len <= FS_NAME_BYTES_MAX && intent.to.len <= FS_NAME_BYTES_MAX);
    if (fs_super_decode(data, size, &super) == 0)
        must(super.order >= 12 && super.order <= 26);
    if (fs_request_decode(data, size, &request) == 0)
        must(request.name.len <= FS_NAME_BYTES_MAX && request.offset <= FS_SIZE_MAX);
    if (fs_entry_decode(data, size, &entry) == 0 || fs_shard_decode(data, size, &record) == 0 ||
        fs_answer_decode(data, size, &answer) == 0 || fs_txid_key_decode(data, size, &tx) == 0)
        must(size > 0);
}

/* ---- The shard ---- */

static uint32_t place_of(const void *key, size_t len)
{
    uint32_t at = 0;
    while (at < shard.n && view_compare(shard.pairs[at].key, shard.pairs[at].key_len, key, len) < 0)
        at++;
    return at;
}

static void pair_remove(uint32_t at)
{
    free(shard.pairs[at].key);
    free(shard.pairs[at].value);
    shard.n--;
    memmove(&shard.pairs[at], &shard.pairs[at + 1], (shard.n - at) * sizeof shard.pairs[0]);
}

static uint8_t *copy(const void *data, size_t len)
{
    uint8_t *memory = malloc(len + 1);
    must(memory != NULL);
    if (len > 0)
        memcpy(memory, data, len);
    return memory;
}

static void pair_set(const void *key, uint16_t key_len, const void *value, uint32_t value_len)
{
    uint32_t at = place_of(key, key_len);
    if (at < shard.n &&
        view_compare(shard.pairs[at].key, shard.pairs[at].key_len, key, key_len) == 0)
        pair_remove(at);
    must(shard.n < PAIRS_MAX);
    memmove(&shard.pairs[at + 1], &shard.pairs[at], (shard.n - at) * sizeof shard.pairs[0]);
    shard.pairs[at] = (struct pair){copy(key, key_len), copy(value, value_len), key_len, value_len};
    shard.n++;
}

static void shard_clear(void)
{
    while (shard.n > 0)
        pair_remove(shard.n - 1);
    memset(&shard.state, 0, sizeof shard.state);
}

static void give_pairs(struct object_view *view, const struct view_need *need)
{
    struct encoder pairs, header;
    uint32_t n = 0;
    bool end = true;
    encoder_init(&pairs);
    encoder_init(&header);
    for (uint32_t at = place_of(need->from, need->from_len); at < shard.n; at++, n++) {
        const struct pair *pair = &shard.pairs[at];
        if (need->to_len > 0 && view_compare(pair->key, pair->key_len, need->to, need->to_len) >= 0)
            break;
        end = n < need->max;
        if (!end)
            break;
        encode_string16(&pairs, pair->key, pair->key_len);
        encode_string32(&pairs, pair->value, pair->value_len);
    }
    must(view_give_omap(view, need, &pairs, end, &header) == 0);
    encoder_fini(&pairs);
    encoder_fini(&header);
}

/* Nobody has a lease: no attribute tells of watchers. */
static void give(struct object_view *view, const struct view_need *need)
{
    struct encoder attrs;
    if (need->kind == VIEW_NEEDS_OMAP) {
        give_pairs(view, need);
        return;
    }
    must(need->kind == VIEW_NEEDS_ATTRS);
    encoder_init(&attrs);
    must(view_give_attrs(view, &attrs) == 0);
}

static void apply_op(const struct txn_op *op)
{
    switch (op->code) {
    case TXN_TOUCH:
        return;
    case TXN_REMOVE:
        shard_clear();
        return;
    case TXN_OMAP_SET:
        pair_set(op->name, op->name_len, op->value, op->value_len);
        return;
    case TXN_OMAP_REMOVE_RANGE:
        for (uint32_t at = place_of(op->name, op->name_len); at < shard.n;) {
            if (op->value_len > 0 && view_compare(shard.pairs[at].key, shard.pairs[at].key_len,
                                                  op->value, op->value_len) >= 0)
                return;
            pair_remove(at);
        }
        return;
    default:
        abort(); /* No method of these does anything else. */
    }
}

static void apply(struct ops_run *run, const struct store_txn *txn)
{
    struct txn_iterator it;
    struct txn_op op;
    struct buf_slice data;
    uint64_t pool = 4;
    must(view_take_data(&run->view, &data) == 0);
    must(txn_check(txn->ops.data, txn->ops.len, data.len, &pool) == 0);
    txn_iterate(&it, txn->ops.data, txn->ops.len, data.len);
    while (txn_next(&it, &op) > 0)
        apply_op(&op);
    buf_slice_drop(&data);
    shard.state = run->view.state;
}

/* ---- Calls ---- */

static struct message *pack(const char *method, const struct encoder *input)
{
    const struct object_id id = {.pool = 4,
                                 .hash = hash_object("", 0, "d", 1),
                                 .space = (const uint8_t *)"",
                                 .name_len = 1,
                                 .name = (const uint8_t *)"d",
                                 .snap = OBJECT_HEAD};
    struct encoder e, payload;
    encoder_init(&e);
    encoder_init(&payload);
    encode_string16(&payload, method, strlen(method));
    encode_bytes(&payload, input->data, input->len);
    struct wire_osd_op head = {.client = 1,
                               .tid = 2,
                               .pool = 4,
                               .flags = method_writes(method, strlen(method)) ? WIRE_OP_WRITE : 0,
                               .n_ops = 1};
    struct wire_op step = {.code = WIRE_OP_CODE_CALL, .data_len = (uint32_t)payload.len};
    encode_bytes(&e, &head, sizeof head);
    encode_object_id(&e, &id);
    encode_bytes(&e, &step, sizeof step);
    struct message *message = message_create(MSG_OSD_OP, e.len);
    must(message != NULL);
    memcpy(message->body, e.data, e.len);
    must(buf_slice_copy(payload.data, payload.len, &message->payload) == 0);
    encoder_fini(&e);
    encoder_fini(&payload);
    return message;
}

static void call(const char *method, const struct encoder *input, uint64_t now)
{
    static const struct ops_caller caller = {.instance = 7, .address = "here"};
    struct message *message = pack(method, input);
    struct ops_request request;
    must(ops_decode(message, &request) == 0);
    struct ops_run run;
    struct store_txn txn;
    int result, runs = 0;
    txn_init(&txn);
    run_init(&run, &request, message->payload, &shard.state, &txn, &caller, NULL, now);
    while ((result = ops_run(&run)) == VIEW_MISS) {
        must(run.view.n_needs > 0 && ++runs < 1000);
        for (uint32_t i = 0; i < run.view.n_needs; i++) {
            give(&run.view, &run.view.needs[i]);
        }
    }
    must(result == 0 ? request.write || txn.ops.len == 0 : txn.ops.len == 0);
    if (result == 0 && request.write && shard.n < PAIRS_MAX - 16)
        apply(&run, &txn);
    run_fini(&run);
    txn_fini(&txn);
    message_unref(message);
}

/* ---- Requests made of bytes ---- */

static const char *const methods[] = {
    "fs.apply",   "fs.create", "fs.dying",   "fs.enter",  "fs.getattr",   "fs.getlock",
    "fs.init",    "fs.layout", "fs.leave",   "fs.links",  "fs.list",      "fs.lock",
    "fs.lookup",  "fs.moved",  "fs.purge",   "fs.reap",   "fs.rename",    "fs.reserve",
    "fs.setattr", "fs.split",  "fs.settle",  "fs.unlink", "fs.vanish",    "fs.wrote",
    "fs.xget",    "fs.xlist",  "fs.xremove", "fs.xset",   "fs.keeplocks",
};

static uint64_t some_ino(struct decoder *d)
{
    uint8_t byte = decode_u8(d);
    return byte == 255 ? decode_u64(d) : fs_ino(byte >> 6, byte & 15);
}

static struct fs_bytes some_name(struct decoder *d)
{
    static const uint8_t names[] = "abcdefgh";
    uint8_t byte = decode_u8(d);
    return (struct fs_bytes){names + (byte & 3), byte >> 2 & 3};
}

static struct fs_txid some_tx(struct decoder *d)
{
    uint8_t byte = decode_u8(d);
    return (struct fs_txid){byte & 1, byte >> 1 & 3};
}

static uint64_t some_number(struct decoder *d)
{
    uint8_t byte = decode_u8(d);
    return byte == 255 ? FS_SIZE_MAX - decode_u16(d) : (uint64_t)(byte & 15) << (byte >> 4) * 4;
}

static void some_request(struct decoder *d, struct encoder *out)
{
    static const uint32_t kinds[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO};
    struct fs_request rq = {.flags = decode_u16(d) % FS_FLAGS_END,
                            .set = decode_u16(d) % FS_SET_END};
    struct encoder request;
    uint8_t has = decode_u8(d);
    rq.ino = some_ino(d);
    rq.type = has >> 6;
    rq.expect = has & 4 ? some_ino(d) : 0;
    rq.expect_to = has & 8 ? some_ino(d) : 0;
    rq.tx = some_tx(d);
    rq.name = some_name(d);
    rq.to = has & 16 ? some_name(d) : (struct fs_bytes){NULL, 0};
    if (has & 32) {
        rq.offset = some_number(d);
        rq.len = some_number(d);
    }
    if (has & 1)
        rq.inode = (struct fs_inode){.mode = kinds[decode_u8(d) & 3] | (decode_u16(d) & 07777),
                                     .layout = {12, 12, 1, 0},
                                     .size = some_number(d)};
    if (S_ISLNK(rq.inode.mode))
        rq.inode.target = some_name(d);
    if (has & 2)
        rq.intent = (struct fs_intent){.kind = decode_u8(d) % FS_INTENTS_END,
                                       .type = decode_u8(d) & 15,
                                       .ino = some_ino(d),
                                       .to_dir = some_ino(d),
                                       .to_ino = some_ino(d),
                                       .name = some_name(d),
                                       .to = some_name(d)};
    encoder_init(&request);
    fs_request_encode(&request, &rq);
    encode_string32(out, request.data, request.len);
    encoder_fini(&request);
    if (has & 128)
        encode_bytes(out, "value", decode_u8(d) % 6);
}

/* ---- What must hold ---- */

static void check_records(void)
{
    struct fs_inode inode;
    struct fs_entry entry;
    struct fs_intent intent;
    struct fs_shard record;
    for (uint32_t i = 0; i < shard.n; i++) {
        const struct pair *pair = &shard.pairs[i];
        switch (pair->key[0]) {
        case FS_KEY_INODE:
            must(pair->key_len == 4 && fs_inode_decode(pair->value, pair->value_len, &inode) == 0);
            must(inode.links <= FS_LINKS_MAX);
            break;
        case FS_KEY_ENTRY:
            must(fs_entry_decode(pair->value, pair->value_len, &entry) == 0);
            must(pair->key_len > 9);
            break;
        case FS_KEY_INTENT:
            must(fs_intent_decode(pair->value, pair->value_len, &intent) == 0);
            break;
        case FS_KEY_SHARD:
            must(fs_shard_decode(pair->value, pair->value_len, &record) == 0);
            break;
        default:
            break;
        }
    }
}

static void fill_shard(struct decoder *d)
{
    for (uint8_t n = decode_u8(d) & 15; n > 0 && !d->failed; n--) {
        uint8_t key_len = decode_u8(d), value_len = decode_u8(d);
        const void *key = decode_bytes(d, key_len), *value = decode_bytes(d, value_len);
        if (!d->failed && key_len > 0)
            pair_set(key, key_len, value, value_len);
    }
    shard.state.exists = shard.n > 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct decoder d;
    try_records(data, size);
    shard_clear();
    decoder_init(&d, data, size);
    uint8_t mode = decode_u8(&d);
    if (mode & 1)
        fill_shard(&d);
    for (int i = 0; i < CALLS_MAX && !d.failed && decoder_left(&d) > 0; i++) {
        struct encoder input;
        uint8_t which = decode_u8(&d);
        encoder_init(&input);
        if (which & 128) {
            uint8_t len = decode_u8(&d);
            const void *bytes = decode_bytes(&d, len);
            if (!d.failed)
                encode_bytes(&input, bytes, len);
        } else {
            some_request(&d, &input);
        }
        call(methods[(which & 127) % (sizeof methods / sizeof methods[0])], &input,
             1000 + (uint64_t)i);
        encoder_fini(&input);
    }
    if (!(mode & 1))
        check_records();
    shard_clear();
    return 0;
}
