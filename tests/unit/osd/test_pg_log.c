/* The log in memory, and what is kept of it in the store. */
#include "tests/lib/test.h"

#include <errno.h>
#include <string.h>

#include "osd/pg/pg_log.h"

static const struct object_id object = {
    .pool = 7,
    .hash = 0x12345678,
    .space_len = 2,
    .space = (const uint8_t *)"ns",
    .name_len = 4,
    .name = (const uint8_t *)"name",
    .snap = OBJECT_HEAD,
};

static size_t make_entry(uint64_t config, uint64_t sequence, uint64_t tid,
                         uint8_t out[PG_ENTRY_MAX])
{
    struct pg_entry_layout head = {
        .layout = PG_LAYOUT_VERSION,
        .kind = PG_ENTRY_MODIFY,
        .version = {.config = config, .sequence = sequence},
        .client = 0x1122334455667788,
        .tid = tid,
        .committed = sequence - 1,
        .totals = {.objects = sequence,
                   .bytes = sequence * 100,
                   .clones = sequence / 2,
                   .writes = sequence * 3,
                   .bytes_written = sequence * 300,
                   .reads = sequence * 7,
                   .bytes_read = sequence * 700},
    };
    struct encoder e;
    encoder_init_fixed(&e, out + sizeof head, PG_ENTRY_MAX - sizeof head);
    encode_object_id(&e, &object);
    assert_false(e.failed);
    head.object_len = (uint16_t)e.len;
    const struct pg_extent_layout extent = {.first = 0x0304, .end = 0x0506};
    head.n_extents = 1;
    memcpy(out, &head, sizeof head);
    memcpy(out + sizeof head + e.len, &extent, sizeof extent);
    return sizeof head + e.len + sizeof extent;
}

static void add(struct pg_log *log, uint64_t config, uint64_t sequence)
{
    uint8_t bytes[PG_ENTRY_MAX];
    size_t len = make_entry(config, sequence, sequence + 1000, bytes);
    assert_non_null(pg_log_append(log, bytes, len));
}

static void fill(struct pg_log *log, uint64_t config, uint64_t from, uint64_t to)
{
    for (uint64_t sequence = from; sequence <= to; sequence++)
        add(log, config, sequence);
}

/* ---- Layout ---- */

static void golden_bytes(void **state)
{
    (void)state;
    struct {
        uint8_t entry[sizeof(struct pg_entry_layout) + 36];
        struct pg_state_layout state;
        struct object_info_layout info;
        uint8_t key[PG_NUMBERED_KEY_LEN];
    } PG_PACKED all;
    uint8_t bytes[PG_ENTRY_MAX];
    memset(&all, 0, sizeof all);
    size_t len = make_entry(0x0102030405060708, 0x1112131415161718, 0x2122232425262728, bytes);
    assert_int_equal(len, sizeof all.entry);
    memcpy(all.entry, bytes, len);
    all.state = (struct pg_state_layout){
        .layout = PG_LAYOUT_VERSION,
        .complete = 1,
        .base = {.config = 0x3132333435363738, .sequence = 0x4142434445464748},
        .totals = {.objects = 0x5152535455565758,
                   .bytes = 0x6162636465666768,
                   .clones = 0x5253545556575859,
                   .writes = 0x4243444546474849,
                   .bytes_written = 0x6263646566676869,
                   .reads = 0x535455565758595a,
                   .bytes_read = 0x636465666768696a},
        .fill_from = {.config = 0x6972737475767778, .sequence = 0x7982838485868788},
        .forgotten_ns = 0xb1b2b3b4b5b6b7b8,
    };
    all.info = (struct object_info_layout){
        .layout = PG_LAYOUT_VERSION,
        .version = {.config = 0x7172737475767778, .sequence = 0x8182838485868788},
        .mtime_ns = 0x9192939495969798,
        .flags = OBJECT_INFO_CLONES,
        .snap_seq = 0xc1c2c3c4c5c6c7c8,
    };
    pg_numbered_key(PG_KEY_LOG, 0xa1a2a3a4a5a6a7a8, all.key);
    test_golden("pg_layout.hex", &all, sizeof all);
}

static void parses_what_it_made(void **state)
{
    (void)state;
    uint8_t bytes[PG_ENTRY_MAX];
    struct pg_entry_layout head;
    struct object_id id;
    size_t len = make_entry(3, 9, 5, bytes);
    assert_int_equal(pg_entry_parse(bytes, len, &head, &id), 0);
    assert_int_equal(head.version.sequence, 9);
    assert_int_equal(object_compare(&id, &object), 0);
}

static void refuses_malformed_entries(void **state)
{
    (void)state;
    uint8_t bytes[PG_ENTRY_MAX], broken[PG_ENTRY_MAX];
    struct pg_entry_layout head;
    struct object_id id;
    size_t len = make_entry(3, 9, 5, bytes);
    for (size_t cut = 0; cut < len; cut++)
        assert_int_equal(pg_entry_parse(bytes, cut, &head, &id), -EBADMSG);
    memcpy(broken, bytes, len);
    broken[0] = PG_LAYOUT_VERSION + 1; /* Another layout. */
    assert_int_equal(pg_entry_parse(broken, len, &head, &id), -EBADMSG);
    memcpy(broken, bytes, len);
    broken[1] = 9; /* Another kind. */
    assert_int_equal(pg_entry_parse(broken, len, &head, &id), -EBADMSG);
    memcpy(broken, bytes, len);
    broken[1] = PG_ENTRY_FAILED; /* But no error. */
    assert_int_equal(pg_entry_parse(broken, len, &head, &id), -EBADMSG);
    memcpy(broken, bytes, len);
    broken[offsetof(struct pg_entry_layout, committed)] = 9; /* Committed before it was made. */
    assert_int_equal(pg_entry_parse(broken, len, &head, &id), -EBADMSG);
    memcpy(broken, bytes, len);
    broken[len - 1] = 1; /* The extent ends before it begins. */
    assert_int_equal(pg_entry_parse(broken, len, &head, &id), -EBADMSG);
    memcpy(broken, bytes, len);
    broken[offsetof(struct pg_entry_layout, n_extents)] = PG_EXTENTS_MAX + 1;
    assert_int_equal(pg_entry_parse(broken, len, &head, &id), -EBADMSG);
}

static void keys_sort_like_their_numbers(void **state)
{
    (void)state;
    uint8_t a[PG_NUMBERED_KEY_LEN], b[PG_NUMBERED_KEY_LEN];
    uint64_t number;
    pg_numbered_key(PG_KEY_LOG, 255, a);
    pg_numbered_key(PG_KEY_LOG, 256, b);
    assert_true(memcmp(a, b, sizeof a) < 0);
    assert_int_equal(pg_numbered_key_parse(PG_KEY_LOG, b, sizeof b, &number), 0);
    assert_int_equal(number, 256);
    assert_int_equal(pg_numbered_key_parse(PG_KEY_TEMPORARY, b, sizeof b, &number), -EBADMSG);
}

/* ---- The log ---- */

static void appends_finds_and_trims(void **state)
{
    (void)state;
    struct pg_log log;
    pg_log_init(&log);
    fill(&log, 5, 1, 1000);
    assert_int_equal(pg_log_head(&log).sequence, 1000);
    assert_int_equal(pg_log_find(&log, 0x1122334455667788, 1500)->head.version.sequence, 500);
    assert_null(pg_log_find(&log, 1, 1500));
    assert_null(pg_log_find(&log, 0, 1500));
    assert_int_equal(pg_log_trim(&log, 600), 0);
    assert_int_equal(log.base.sequence, 600);
    assert_null(pg_log_find(&log, 0x1122334455667788, 1500));
    assert_null(pg_log_get(&log, 600));
    assert_int_equal(pg_log_get(&log, 601)->head.version.sequence, 601);
    fill(&log, 6, 1001, 3000);
    assert_int_equal(pg_log_find(&log, 0x1122334455667788, 4000)->head.version.sequence, 3000);
    struct pg_totals totals = pg_log_totals(&log);
    assert_int_equal(totals.objects, 3000);
    assert_int_equal(totals.bytes, 300000);
    assert_int_equal(totals.clones, 1500);
    assert_int_equal(totals.writes, 9000);
    assert_int_equal(totals.bytes_written, 900000);
    assert_int_equal(totals.reads, 21000);
    assert_int_equal(totals.bytes_read, 2100000);
    pg_log_fini(&log);
}

static void cuts_entries_off_the_head(void **state)
{
    (void)state;
    struct pg_log log;
    pg_log_init(&log);
    fill(&log, 5, 1, 40);
    pg_log_cut(&log, 30);
    assert_int_equal(pg_log_head(&log).sequence, 30);
    assert_null(pg_log_find(&log, 0x1122334455667788, 1031));
    assert_non_null(pg_log_find(&log, 0x1122334455667788, 1030));
    fill(&log, 6, 31, 33);
    assert_int_equal(pg_log_head(&log).config, 6);
    pg_log_cut(&log, 0);
    assert_int_equal(log.count, 0);
    assert_int_equal(pg_log_head(&log).sequence, 0);
    pg_log_fini(&log);
}

/* Whatever is cut and trimmed, each entry has its bytes, and is found. */
static void keeps_each_entry_as_it_came(void **state)
{
    (void)state;
    struct pg_log log;
    uint64_t head = 0, random = 1, config = 1;
    uint64_t configs[4001];
    pg_log_init(&log);
    while (head < 4000) {
        random = random * 6364136223846793005U + 1442695040888963407U;
        uint64_t n = (random >> 33) % 200, what = (random >> 41) % 8, base = log.base.sequence;
        if (what == 0) {
            pg_log_cut(&log, head - n < base || n > head ? base : head - n);
            head = pg_log_head(&log).sequence;
            config++;
        } else if (what == 1) {
            assert_int_equal(pg_log_trim(&log, base + n > head ? head : base + n), 0);
            assert_int_equal(log.base_totals.bytes, log.base.sequence * 100);
        }
        for (; n > 0 && head < 4000; n--) {
            configs[++head] = config;
            add(&log, config, head);
        }
        assert_int_equal(pg_log_head(&log).sequence, head);
        assert_int_equal(log.base.sequence + log.count, head);
        for (uint64_t at = log.base.sequence + 1; at <= head; at++) {
            uint8_t bytes[PG_ENTRY_MAX];
            size_t len = make_entry(configs[at], at, at + 1000, bytes);
            const struct pg_entry *entry = pg_log_get(&log, at);
            assert_ptr_equal(pg_log_find(&log, 0x1122334455667788, at + 1000), entry);
            assert_int_equal(entry->len, len);
            assert_memory_equal(&entry->head, bytes, len);
        }
        assert_null(pg_log_find(&log, 0x1122334455667788, log.base.sequence + 1000));
        assert_null(pg_log_find(&log, 0x1122334455667788, head + 1001));
    }
    pg_log_fini(&log);
}

/* What another copy tells of its log: entries from..to of `config`, after `base`. */
struct told {
    uint8_t bytes[16][PG_ENTRY_MAX];
    struct pg_log_span spans[16];
    size_t n;
};

static void tell(struct told *told, uint64_t config, uint64_t from, uint64_t to)
{
    for (uint64_t sequence = from; sequence <= to; sequence++) {
        told->spans[told->n].data = told->bytes[told->n];
        told->spans[told->n].len = make_entry(config, sequence, 1, told->bytes[told->n]);
        told->n++;
    }
}

static void finds_where_logs_part(void **state)
{
    (void)state;
    static struct told told;
    struct pg_log log;
    uint64_t common = 99;
    pg_log_init(&log);
    fill(&log, 5, 1, 10);
    fill(&log, 7, 11, 12);
    told.n = 0;
    tell(&told, 5, 8, 10);
    tell(&told, 6, 11, 13);
    assert_int_equal(pg_log_common(&log, (struct wire_version){0}, told.spans, told.n, &common), 0);
    assert_int_equal(common, 10);
    told.n = 0;
    tell(&told, 5, 8, 10);
    tell(&told, 7, 11, 12);
    assert_int_equal(pg_log_common(&log, (struct wire_version){0}, told.spans, told.n, &common), 0);
    assert_int_equal(common, 12);
    pg_log_fini(&log);
}

static void finds_the_common_base(void **state)
{
    (void)state;
    static struct told told;
    struct pg_log log;
    uint64_t common = 99;
    pg_log_init(&log);
    fill(&log, 5, 1, 3);
    /* An empty log has the beginning in common with everybody. */
    assert_int_equal(pg_log_common(&log, (struct wire_version){0}, NULL, 0, &common), 0);
    assert_int_equal(common, 0);
    told.n = 0;
    tell(&told, 4, 1, 2);
    assert_int_equal(pg_log_common(&log, (struct wire_version){0}, told.spans, told.n, &common), 0);
    assert_int_equal(common, 0);
    /* What lies between the base and what was told may differ. */
    told.n = 0;
    tell(&told, 4, 2, 3);
    assert_int_equal(pg_log_common(&log, (struct wire_version){0}, told.spans, told.n, &common),
                     -ENOENT);
    pg_log_fini(&log);
}

static void finds_nothing_in_common_beyond_its_tail(void **state)
{
    (void)state;
    static struct told told;
    struct pg_log log;
    uint64_t common;
    pg_log_init(&log);
    fill(&log, 5, 1, 20);
    assert_int_equal(pg_log_trim(&log, 10), 0);
    told.n = 0;
    tell(&told, 5, 5, 9);
    assert_int_equal(pg_log_common(&log, (struct wire_version){5, 4}, told.spans, told.n, &common),
                     -ENOENT);
    tell(&told, 5, 10, 10);
    assert_int_equal(pg_log_common(&log, (struct wire_version){5, 4}, told.spans, told.n, &common),
                     0);
    assert_int_equal(common, 10);
    pg_log_fini(&log);
}

static void a_new_beginning_keeps_the_limit_of_clients(void **state)
{
    (void)state;
    struct pg_log log;
    pg_log_init(&log);
    assert_int_equal(log.clients.limit, PG_CLIENTS_MAX);
    log.clients.limit = 2;
    pg_log_reset(&log, (struct wire_version){5, 4}, (struct pg_totals){0});
    assert_int_equal(log.clients.limit, 2);
    pg_log_fini(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_bytes),
        cmocka_unit_test(parses_what_it_made),
        cmocka_unit_test(refuses_malformed_entries),
        cmocka_unit_test(keys_sort_like_their_numbers),
        cmocka_unit_test(appends_finds_and_trims),
        cmocka_unit_test(cuts_entries_off_the_head),
        cmocka_unit_test(keeps_each_entry_as_it_came),
        cmocka_unit_test(finds_where_logs_part),
        cmocka_unit_test(finds_the_common_base),
        cmocka_unit_test(finds_nothing_in_common_beyond_its_tail),
        cmocka_unit_test(a_new_beginning_keeps_the_limit_of_clients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
