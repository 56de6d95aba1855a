#include "common/fs_layout.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- Keys ---- */

/* FNV-1a, then mixed so that all bits count (they place entries in order, and in parts). */
uint64_t fs_cookie(const void *name, size_t len)
{
    const uint8_t *bytes = name;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    hash = (hash ^ hash >> 33) * UINT64_C(0xff51afd7ed558ccd);
    hash = (hash ^ hash >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    hash = (hash ^ hash >> 33) >> (64 - FS_COOKIE_BITS);
    return hash < FS_COOKIE_FIRST ? hash + FS_COOKIE_FIRST : hash;
}

static void put_big(uint8_t *out, uint64_t value, int bytes)
{
    for (int i = bytes; i-- > 0; value >>= 8)
        out[i] = (uint8_t)value;
}

static uint64_t get_big(const uint8_t *in, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value = value << 8 | in[i];
    return value;
}

size_t fs_cookie_key(uint8_t out[FS_KEY_MAX], uint64_t cookie)
{
    out[0] = FS_KEY_ENTRY;
    put_big(out + 1, cookie, 8);
    return 9;
}

size_t fs_entry_key(uint8_t out[FS_KEY_MAX], const void *name, size_t len)
{
    size_t at = fs_cookie_key(out, fs_cookie(name, len));
    memcpy(out + at, name, len);
    return at + len;
}

size_t fs_index_key(uint8_t out[FS_KEY_MAX], enum fs_key kind, uint32_t index)
{
    out[0] = (uint8_t)kind;
    put_big(out + 1, index, 3);
    return 4;
}

size_t fs_xattr_key(uint8_t out[FS_KEY_MAX], uint32_t index, const void *name, size_t len)
{
    size_t at = fs_index_key(out, FS_KEY_XATTR, index);
    if (len > 0)
        memcpy(out + at, name, len);
    return at + len;
}

size_t fs_txid_key(uint8_t out[FS_KEY_MAX], enum fs_key kind, struct fs_txid tx)
{
    out[0] = (uint8_t)kind;
    put_big(out + 1, tx.instance, 8);
    put_big(out + 9, tx.sequence, 8);
    return 17;
}

int fs_index_key_decode(const void *key, size_t len, enum fs_key kind, uint32_t *out)
{
    const uint8_t *bytes = key;
    if (len != 4 || bytes[0] != kind)
        return -EBADMSG;
    *out = (uint32_t)get_big(bytes + 1, 3);
    return 0;
}

int fs_txid_key_decode(const void *key, size_t len, struct fs_txid *out)
{
    const uint8_t *bytes = key;
    if (len != 17)
        return -EBADMSG;
    *out = (struct fs_txid){get_big(bytes + 1, 8), get_big(bytes + 9, 8)};
    return 0;
}

void fs_shard_object(uint64_t home, char out[FS_OBJECT_NAME_MAX])
{
    snprintf(out, FS_OBJECT_NAME_MAX, "d.%010" PRIx64, home);
}

void fs_data_object(uint64_t ino, uint64_t contents, uint64_t number, char out[FS_OBJECT_NAME_MAX])
{
    snprintf(out, FS_OBJECT_NAME_MAX, "f.%016" PRIx64 ".%08" PRIx64 ".%016" PRIx64, ino, contents,
             number);
}

/* ---- Layouts ---- */

bool fs_layout_is_sane(const struct fs_layout *layout)
{
    return layout->order >= FS_ORDER_MIN && layout->order <= FS_ORDER_MAX &&
           layout->unit_order >= FS_ORDER_MIN && layout->unit_order <= layout->order &&
           layout->stripes >= 1 && layout->stripes <= FS_STRIPES_MAX;
}

/* Bits of what lies in one object without a gap. */
static unsigned unit_bits(const struct fs_layout *layout)
{
    return layout->stripes > 1 ? layout->unit_order : layout->order;
}

struct fs_place fs_place_of(const struct fs_layout *layout, uint64_t at)
{
    unsigned bits = unit_bits(layout), rows_bits = layout->order - bits;
    uint64_t block = at >> bits, within = at & ((UINT64_C(1) << bits) - 1);
    uint64_t row = block / layout->stripes, set = row >> rows_bits;
    uint64_t row_of_set = row & ((UINT64_C(1) << rows_bits) - 1);
    return (struct fs_place){
        .number = set * layout->stripes + block % layout->stripes,
        .offset = (row_of_set << bits) + within,
        .len = (UINT64_C(1) << bits) - within,
    };
}

uint64_t fs_set_bytes(const struct fs_layout *layout)
{
    return (uint64_t)layout->stripes << layout->order;
}

void fs_objects_of(const struct fs_layout *layout, uint64_t offset, uint64_t len, uint64_t *first,
                   uint64_t *last)
{
    unsigned bits = unit_bits(layout);
    uint64_t end = offset + len - 1;
    *first = fs_place_of(layout, offset).number;
    *last = fs_place_of(layout, end).number;
    /* In one row they follow each other; else the whole sets are meant. */
    if ((offset >> bits) / layout->stripes != (end >> bits) / layout->stripes) {
        *first -= *first % layout->stripes;
        *last += layout->stripes - 1u - *last % layout->stripes;
    }
}

uint64_t fs_object_start(const struct fs_layout *layout, uint64_t number)
{
    return number / layout->stripes * fs_set_bytes(layout) +
           (number % layout->stripes << unit_bits(layout));
}

uint64_t fs_object_bytes(const struct fs_layout *layout, uint64_t number, uint64_t size)
{
    unsigned bits = unit_bits(layout);
    uint64_t begin = number / layout->stripes * fs_set_bytes(layout);
    uint64_t row_bytes = (uint64_t)layout->stripes << bits, unit = UINT64_C(1) << bits;
    if (size <= begin)
        return 0;
    if (size - begin >= fs_set_bytes(layout))
        return UINT64_C(1) << layout->order;
    uint64_t within = (size - begin) % row_bytes, before = number % layout->stripes << bits;
    uint64_t part = within <= before ? 0 : within - before < unit ? within - before : unit;
    return ((size - begin) / row_bytes << bits) + part;
}

uint64_t fs_objects_end(const struct fs_layout *layout, uint64_t size)
{
    uint64_t first, last;
    if (size == 0)
        return 0;
    uint64_t set = (size - 1) / fs_set_bytes(layout) * fs_set_bytes(layout);
    fs_objects_of(layout, set, size - set, &first, &last);
    return last + 1;
}

/* ---- Records ---- */

static size_t record_begin(struct encoder *e)
{
    encode_u8(e, FS_RECORD_VERSION);
    encode_u8(e, FS_RECORD_VERSION);
    encode_u32(e, 0);
    return e->len;
}

static void record_end(struct encoder *e, size_t begin)
{
    if (e->failed)
        return;
    uint32_t len = (uint32_t)(e->len - begin);
    memcpy(e->data + begin - sizeof len, &len, sizeof len);
}

struct record {
    struct decoder fields;
    bool newer;
};

/* The record that the decoder stands before. */
static int record_next(struct decoder *d, struct record *out)
{
    uint8_t written = decode_u8(d), oldest = decode_u8(d);
    uint32_t bytes;
    const void *fields = decode_string32(d, &bytes);
    if (d->failed || written == 0)
        return -EBADMSG;
    if (oldest > FS_RECORD_VERSION)
        return -ENOEXEC;
    decoder_init(&out->fields, fields, bytes);
    out->newer = written > FS_RECORD_VERSION;
    return 0;
}

static int record_open(const void *data, size_t len, struct record *out)
{
    struct decoder d;
    decoder_init(&d, data, len);
    int error = record_next(&d, out);
    return error ? error : decoder_end(&d);
}

static int record_close(const struct record *record)
{
    if (record->fields.failed)
        return -EBADMSG;
    return record->newer ? 0 : decoder_end(&record->fields);
}

static void encode_txid(struct encoder *e, struct fs_txid tx)
{
    encode_u64(e, tx.instance);
    encode_u64(e, tx.sequence);
}

static struct fs_txid decode_txid(struct decoder *d)
{
    struct fs_txid tx;
    tx.instance = decode_u64(d);
    tx.sequence = decode_u64(d);
    return tx;
}

static struct fs_bytes decode_text(struct decoder *d, uint16_t max)
{
    struct fs_bytes text;
    text.data = decode_string16(d, &text.len);
    if (d->failed || text.len > max) {
        d->failed = true;
        return (struct fs_bytes){NULL, 0};
    }
    return text;
}

/* "" or what may be the name of an entry. */
static struct fs_bytes decode_name(struct decoder *d)
{
    struct fs_bytes name = decode_text(d, FS_NAME_BYTES_MAX);
    if (name.len > 0 && memchr(name.data, 0, name.len) != NULL)
        d->failed = true;
    return name;
}

static void encode_layout(struct encoder *e, const struct fs_layout *layout)
{
    encode_u64(e, layout->pool);
    encode_u8(e, layout->order);
    encode_u8(e, layout->unit_order);
    encode_u16(e, layout->stripes);
}

static struct fs_layout decode_layout(struct decoder *d)
{
    struct fs_layout layout;
    layout.pool = decode_u64(d);
    layout.order = decode_u8(d);
    layout.unit_order = decode_u8(d);
    layout.stripes = decode_u16(d);
    return layout;
}

void fs_inode_encode(struct encoder *e, const struct fs_inode *inode)
{
    size_t begin = record_begin(e);
    encode_u32(e, inode->mode);
    encode_u32(e, inode->uid);
    encode_u32(e, inode->gid);
    encode_u32(e, inode->links);
    encode_u32(e, inode->rdev);
    encode_u32(e, inode->generation);
    encode_u64(e, inode->size);
    encode_u64(e, (uint64_t)inode->atime_ns);
    encode_u64(e, (uint64_t)inode->mtime_ns);
    encode_u64(e, (uint64_t)inode->ctime_ns);
    encode_u64(e, (uint64_t)inode->btime_ns);
    encode_u64(e, inode->change);
    encode_layout(e, &inode->layout);
    encode_u16(e, inode->relaid);
    encode_u8(e, inode->dying);
    encode_u8(e, inode->attributes);
    encode_u8(e, inode->nameless);
    encode_u64(e, inode->parent);
    encode_u64(e, inode->parts);
    encode_u8(e, inode->part);
    encode_u64(e, inode->realm);
    encode_txid(e, inode->busy);
    encode_u16(e, inode->n_ranges);
    for (uint16_t i = 0; i < inode->n_ranges; i++) {
        encode_u64(e, inode->ranges[i].first);
        encode_u64(e, inode->ranges[i].last);
    }
    encode_string16(e, inode->target.data, inode->target.len);
    record_end(e, begin);
}

static bool ranges_make_sense(const struct fs_inode *inode)
{
    uint64_t last = (FS_SIZE_MAX >> inode->layout.order) + inode->layout.stripes;
    for (uint16_t i = 0; i < inode->n_ranges; i++) {
        const struct fs_range *range = &inode->ranges[i];
        if (range->first > range->last || range->last >= last ||
            (i > 0 && range->first <= inode->ranges[i - 1].last))
            return false;
    }
    return true;
}

int fs_inode_decode(const void *data, size_t len, struct fs_inode *out)
{
    struct record record;
    struct decoder *d = &record.fields;
    int error = record_open(data, len, &record);
    memset(out, 0, sizeof *out);
    if (error)
        return error;
    out->mode = decode_u32(d);
    out->uid = decode_u32(d);
    out->gid = decode_u32(d);
    out->links = decode_u32(d);
    out->rdev = decode_u32(d);
    out->generation = decode_u32(d);
    out->size = decode_u64(d);
    out->atime_ns = (int64_t)decode_u64(d);
    out->mtime_ns = (int64_t)decode_u64(d);
    out->ctime_ns = (int64_t)decode_u64(d);
    out->btime_ns = (int64_t)decode_u64(d);
    out->change = decode_u64(d);
    out->layout = decode_layout(d);
    out->relaid = decode_u16(d);
    out->dying = decode_u8(d);
    out->attributes = decode_u8(d);
    out->nameless = decode_u8(d);
    out->parent = decode_u64(d);
    out->parts = decode_u64(d);
    out->part = decode_u8(d);
    out->realm = decode_u64(d);
    out->busy = decode_txid(d);
    out->n_ranges = decode_u16(d);
    if (d->failed || out->n_ranges > FS_RANGES_MAX)
        return -EBADMSG;
    for (uint16_t i = 0; i < out->n_ranges; i++) {
        out->ranges[i].first = decode_u64(d);
        out->ranges[i].last = decode_u64(d);
    }
    out->target = decode_text(d, FS_TARGET_MAX);
    error = record_close(&record);
    if (error)
        return error;
    bool sane = fs_layout_is_sane(&out->layout) && out->size <= FS_SIZE_MAX && out->dying <= 1 &&
                out->attributes < FS_ATTRIBUTES_END && out->nameless <= 1 &&
                out->part <= FS_PARTS && out->parts >> FS_HOME_BITS == 0 && ranges_make_sense(out);
    return sane ? 0 : -EBADMSG;
}

void fs_entry_encode(struct encoder *e, const struct fs_entry *entry)
{
    size_t begin = record_begin(e);
    encode_u64(e, entry->ino);
    encode_u8(e, entry->type);
    encode_txid(e, entry->moving);
    record_end(e, begin);
}

int fs_entry_decode(const void *data, size_t len, struct fs_entry *out)
{
    struct record record;
    int error = record_open(data, len, &record);
    memset(out, 0, sizeof *out);
    if (error)
        return error;
    out->ino = decode_u64(&record.fields);
    out->type = decode_u8(&record.fields);
    out->moving = decode_txid(&record.fields);
    return record_close(&record);
}

void fs_shard_encode(struct encoder *e, const struct fs_shard *shard)
{
    size_t begin = record_begin(e);
    encode_u64(e, shard->births);
    record_end(e, begin);
}

int fs_shard_decode(const void *data, size_t len, struct fs_shard *out)
{
    struct record record;
    int error = record_open(data, len, &record);
    memset(out, 0, sizeof *out);
    if (error)
        return error;
    out->births = decode_u64(&record.fields);
    return record_close(&record);
}

void fs_locks_encode(struct encoder *e, const struct fs_locks *locks)
{
    size_t begin = record_begin(e);
    encode_u8(e, locks->waited_for);
    encode_u32(e, locks->n);
    for (uint32_t i = 0; i < locks->n; i++) {
        const struct fs_lock *lock = &locks->list[i];
        encode_u64(e, lock->instance);
        encode_u64(e, lock->owner);
        encode_u32(e, lock->pid);
        encode_u8(e, (uint8_t)(lock->exclusive | lock->whole << 1));
        encode_u64(e, lock->start);
        encode_u64(e, lock->end);
    }
    record_end(e, begin);
}

int fs_locks_decode(const void *data, size_t len, struct fs_locks *out)
{
    struct record record;
    struct decoder *d = &record.fields;
    int error = record_open(data, len, &record);
    out->n = 0;
    if (error)
        return error;
    out->waited_for = decode_u8(d) != 0;
    uint32_t n = decode_u32(d);
    if (n > FS_LOCKS_MAX)
        return -EBADMSG;
    for (; out->n < n && !d->failed; out->n++) {
        struct fs_lock *lock = &out->list[out->n];
        lock->instance = decode_u64(d);
        lock->owner = decode_u64(d);
        lock->pid = decode_u32(d);
        uint8_t flags = decode_u8(d);
        lock->exclusive = flags & 1;
        lock->whole = flags & 2;
        lock->start = decode_u64(d);
        lock->end = decode_u64(d);
        if (flags > 3 || lock->start > lock->end)
            return -EBADMSG;
    }
    return record_close(&record);
}

void fs_intent_encode(struct encoder *e, const struct fs_intent *intent)
{
    size_t begin = record_begin(e);
    encode_u8(e, intent->kind);
    encode_u8(e, intent->type);
    encode_u64(e, intent->ino);
    encode_u64(e, intent->to_dir);
    encode_u64(e, intent->to_ino);
    encode_u8(e, intent->to_type);
    encode_string16(e, intent->name.data, intent->name.len);
    encode_string16(e, intent->to.data, intent->to.len);
    record_end(e, begin);
}

int fs_intent_decode(const void *data, size_t len, struct fs_intent *out)
{
    struct record record;
    struct decoder *d = &record.fields;
    int error = record_open(data, len, &record);
    memset(out, 0, sizeof *out);
    if (error)
        return error;
    out->kind = decode_u8(d);
    out->type = decode_u8(d);
    out->ino = decode_u64(d);
    out->to_dir = decode_u64(d);
    out->to_ino = decode_u64(d);
    out->to_type = decode_u8(d);
    out->name = decode_name(d);
    out->to = decode_name(d);
    error = record_close(&record);
    return error ? error : out->kind < FS_INTENTS_END ? 0 : -EBADMSG;
}

void fs_super_encode(struct encoder *e, const struct fs_super *super)
{
    size_t begin = record_begin(e);
    encode_u64(e, super->id);
    encode_u64(e, super->data_pool);
    encode_u8(e, super->order);
    encode_u32(e, super->split_at);
    encode_u64(e, (uint64_t)super->created_ns);
    encode_u8(e, super->removing);
    record_end(e, begin);
}

int fs_super_decode(const void *data, size_t len, struct fs_super *out)
{
    struct record record;
    struct decoder *d = &record.fields;
    int error = record_open(data, len, &record);
    memset(out, 0, sizeof *out);
    if (error)
        return error;
    out->id = decode_u64(d);
    out->data_pool = decode_u64(d);
    out->order = decode_u8(d);
    out->split_at = decode_u32(d);
    out->created_ns = (int64_t)decode_u64(d);
    uint8_t removing = decode_u8(d);
    out->removing = removing == 1;
    error = record_close(&record);
    return error ? error : removing <= 1 && out->order >= 12 && out->order <= 26 ? 0 : -EBADMSG;
}

/* ---- Ranges ---- */

/* The two that are nearest to each other become one. */
static void merge_nearest(struct fs_range *ranges, uint16_t *n)
{
    uint16_t at = 1;
    for (uint16_t i = 2; i < *n; i++) {
        if (ranges[i].first - ranges[i - 1].last < ranges[at].first - ranges[at - 1].last)
            at = i;
    }
    ranges[at - 1].last = ranges[at].last;
    memmove(&ranges[at], &ranges[at + 1], (size_t)(*n - at - 1) * sizeof *ranges);
    (*n)--;
}

bool fs_ranges_add(struct fs_inode *inode, uint64_t first, uint64_t last)
{
    struct fs_range all[FS_RANGES_MAX + 1], added = {first, last};
    uint16_t n = 0, i = 0;
    for (i = 0; i < inode->n_ranges; i++) {
        if (inode->ranges[i].first <= first && last <= inode->ranges[i].last)
            return false;
    }
    for (i = 0; i < inode->n_ranges && inode->ranges[i].last + 1 < added.first; i++)
        all[n++] = inode->ranges[i];
    for (; i < inode->n_ranges && inode->ranges[i].first <= added.last + 1; i++) {
        if (inode->ranges[i].first < added.first)
            added.first = inode->ranges[i].first;
        if (inode->ranges[i].last > added.last)
            added.last = inode->ranges[i].last;
    }
    all[n++] = added;
    for (; i < inode->n_ranges; i++)
        all[n++] = inode->ranges[i];
    if (n > FS_RANGES_MAX)
        merge_nearest(all, &n);
    memcpy(inode->ranges, all, n * sizeof all[0]);
    inode->n_ranges = n;
    return true;
}

void fs_ranges_cut(struct fs_inode *inode, uint64_t end)
{
    while (inode->n_ranges > 0 && inode->ranges[inode->n_ranges - 1].first >= end)
        inode->n_ranges--;
    if (inode->n_ranges > 0 && inode->ranges[inode->n_ranges - 1].last >= end)
        inode->ranges[inode->n_ranges - 1].last = end - 1;
}

/* ---- Requests and answers ---- */

/* A record inside of another one. */
static void encode_inode(struct encoder *e, const struct fs_inode *inode)
{
    size_t at = e->len;
    encode_u16(e, 0);
    fs_inode_encode(e, inode);
    if (e->failed)
        return;
    size_t len = e->len - at - sizeof(uint16_t);
    const uint16_t wire = htole16((uint16_t)len);
    if (len <= UINT16_MAX)
        memcpy(e->data + at, &wire, sizeof wire);
    else
        e->failed = true;
}

static int decode_inode(struct decoder *d, struct fs_inode *out)
{
    uint16_t len;
    const void *data = decode_string16(d, &len);
    return d->failed ? -EBADMSG : fs_inode_decode(data, len, out);
}

enum { HAS_INODE = 1, HAS_INTENT = 2 };

void fs_request_encode(struct encoder *e, const struct fs_request *request)
{
    size_t begin = record_begin(e);
    bool has_inode = request->inode.layout.order != 0, has_intent = request->intent.kind != 0;
    encode_u32(e, request->flags);
    encode_u32(e, request->set);
    encode_u64(e, request->ino);
    encode_u8(e, request->type);
    encode_u64(e, request->expect);
    encode_u64(e, request->expect_to);
    encode_u64(e, request->offset);
    encode_u64(e, request->len);
    encode_u32(e, request->full_mode);
    encode_txid(e, request->tx);
    encode_string16(e, request->name.data, request->name.len);
    encode_string16(e, request->to.data, request->to.len);
    encode_u8(e, (uint8_t)((has_inode ? HAS_INODE : 0) | (has_intent ? HAS_INTENT : 0)));
    if (has_inode)
        encode_inode(e, &request->inode);
    if (has_intent) {
        size_t at = e->len;
        encode_u16(e, 0);
        fs_intent_encode(e, &request->intent);
        if (!e->failed) {
            uint16_t len = (uint16_t)(e->len - at - sizeof len);
            memcpy(e->data + at, &len, sizeof len);
        }
    }
    record_end(e, begin);
}

int fs_request_decode(const void *data, size_t len, struct fs_request *out)
{
    struct record record;
    struct decoder *d = &record.fields;
    int error = record_open(data, len, &record);
    memset(out, 0, sizeof *out);
    if (error)
        return error;
    out->flags = decode_u32(d);
    out->set = decode_u32(d);
    out->ino = decode_u64(d);
    out->type = decode_u8(d);
    out->expect = decode_u64(d);
    out->expect_to = decode_u64(d);
    out->offset = decode_u64(d);
    out->len = decode_u64(d);
    out->full_mode = decode_u32(d);
    out->tx = decode_txid(d);
    out->name = decode_name(d);
    out->to = decode_name(d);
    uint8_t has = decode_u8(d);
    if (!d->failed && has & HAS_INODE)
        error = decode_inode(d, &out->inode);
    if (!error && !d->failed && has & HAS_INTENT) {
        uint16_t n;
        const void *intent = decode_string16(d, &n);
        error = d->failed ? -EBADMSG : fs_intent_decode(intent, n, &out->intent);
    }
    if (!error)
        error = record_close(&record);
    bool sane = out->flags < FS_FLAGS_END && out->set < FS_SET_END && out->offset <= FS_SIZE_MAX &&
                out->len <= FS_SIZE_MAX;
    return error ? error : sane ? 0 : -EBADMSG;
}

void fs_answer_encode(struct encoder *e, const struct fs_answer *answer)
{
    size_t begin = record_begin(e);
    encode_u32(e, answer->flags);
    encode_u64(e, answer->ino);
    encode_u8(e, answer->type);
    encode_u64(e, answer->offset);
    encode_u64(e, answer->dir_change);
    encode_u64(e, (uint64_t)answer->dir_mtime_ns);
    encode_u32(e, answer->dir_links);
    if (answer->flags & FS_HAS_INODE) {
        encode_u64(e, answer->inode.ino);
        encode_inode(e, &answer->inode);
    }
    record_end(e, begin);
}

int fs_answer_decode(const void *data, size_t len, struct fs_answer *out)
{
    struct record record;
    struct decoder *d = &record.fields;
    int error = record_open(data, len, &record);
    memset(out, 0, sizeof *out);
    if (error)
        return error;
    out->flags = decode_u32(d);
    out->ino = decode_u64(d);
    out->type = decode_u8(d);
    out->offset = decode_u64(d);
    out->dir_change = decode_u64(d);
    out->dir_mtime_ns = (int64_t)decode_u64(d);
    out->dir_links = decode_u32(d);
    if (!d->failed && out->flags & FS_HAS_INODE) {
        uint64_t ino = decode_u64(d);
        error = decode_inode(d, &out->inode);
        out->inode.ino = ino;
    }
    return error ? error : record_close(&record);
}

static size_t listed_begin(struct encoder *e, const struct fs_listed *listed, bool has_inode)
{
    size_t begin = record_begin(e);
    encode_u64(e, listed->cookie);
    encode_u64(e, listed->ino);
    encode_u8(e, listed->type);
    encode_string16(e, listed->name.data, listed->name.len);
    encode_u8(e, has_inode);
    return begin;
}

void fs_listed_encode(struct encoder *e, const struct fs_listed *listed)
{
    size_t begin = listed_begin(e, listed, listed->has_inode);
    if (listed->has_inode)
        encode_inode(e, &listed->inode);
    record_end(e, begin);
}

void fs_listed_encode_record(struct encoder *e, const struct fs_listed *listed, const void *record,
                             size_t len)
{
    size_t begin = listed_begin(e, listed, true);
    encode_string16(e, record, len);
    record_end(e, begin);
}

void fs_list_head_put(struct encoder *e, struct fs_list_head head)
{
    if (e->len < FS_LIST_HEAD && encode_reserve(e, FS_LIST_HEAD) == NULL)
        return;
    e->data[0] = head.flags;
    memcpy(e->data + 1, &head.parts, sizeof head.parts);
}

struct fs_list_head fs_list_head_decode(struct decoder *d)
{
    struct fs_list_head head;
    head.flags = decode_u8(d);
    head.parts = decode_u64(d);
    return head;
}

/* All but the inode. */
static int listed_open(struct decoder *d, struct record *record, struct fs_listed *out)
{
    if (!d->failed && decoder_left(d) == 0)
        return -ENOENT;
    int error = record_next(d, record);
    if (error)
        return error;
    out->cookie = decode_u64(&record->fields);
    out->ino = decode_u64(&record->fields);
    out->type = decode_u8(&record->fields);
    out->name = decode_name(&record->fields);
    uint8_t has = decode_u8(&record->fields);
    out->has_inode = has == 1;
    return record->fields.failed || has > 1 || out->name.len == 0 ? -EBADMSG : 0;
}

int fs_listed_next(struct decoder *d, struct fs_listed *out)
{
    struct record record;
    memset(out, 0, sizeof *out);
    int error = listed_open(d, &record, out);
    if (!error && out->has_inode)
        error = decode_inode(&record.fields, &out->inode);
    out->inode.ino = out->ino;
    return error ? error : record_close(&record);
}

int fs_listed_skim(struct decoder *d, struct fs_listed *out)
{
    struct record record;
    return listed_open(d, &record, out);
}

/* ---- Changes ---- */

enum { CHANGE_REMOVED = 1, CHANGE_GROWS = 2 };

void fs_change_encode(struct encoder *e, const struct fs_change *change)
{
    encode_u8(
        e, (uint8_t)((change->removed ? CHANGE_REMOVED : 0) | (change->grows ? CHANGE_GROWS : 0)));
    encode_string16(e, change->key, change->key_len);
    if (!change->removed)
        encode_string32(e, change->value, change->len);
}

int fs_change_next(struct decoder *d, struct fs_change *out)
{
    memset(out, 0, sizeof *out);
    if (d->failed || decoder_left(d) == 0)
        return d->failed ? -EBADMSG : -ENOENT;
    uint8_t flags = decode_u8(d);
    out->removed = flags & CHANGE_REMOVED;
    out->grows = flags & CHANGE_GROWS;
    out->key = decode_string16(d, &out->key_len);
    if (!out->removed)
        out->value = decode_string32(d, &out->len);
    bool sane = !d->failed && flags <= (CHANGE_REMOVED | CHANGE_GROWS) && out->key_len > 0 &&
                out->key_len <= FS_KEY_MAX && out->len <= FS_XATTR_VALUE_MAX;
    return sane ? 0 : -EBADMSG;
}
