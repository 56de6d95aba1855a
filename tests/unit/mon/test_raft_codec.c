/* libraft's messages as bytes: all kinds go through unchanged, and bad ones are refused. */
#include "tests/lib/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/limpet.pb-c.h"
#include "mon/raft_codec.h"

static const struct uuid fsid = {.bytes = {1, 2, 3, 4}};

static struct message *encode(const struct raft_message *message)
{
    struct message *out = raft_codec_encode(message, 2, &fsid);

    assert_non_null(out);
    return out;
}

static void reread(const struct raft_message *in, struct raft_message *out)
{
    struct message *message = encode(in);

    assert_int_equal(raft_codec_decode(message, 2, &fsid, out), 0);
    assert_int_equal(out->type, in->type);
    assert_int_equal(out->server_id, 2);
    message_unref(message);
}

static void small_messages_go_through_unchanged(void **state)
{
    struct raft_message out;

    (void)state;
    struct raft_message vote = {.type = RAFT_IO_REQUEST_VOTE,
                                .request_vote = {.term = 7,
                                                 .candidate_id = 2,
                                                 .last_log_index = 100,
                                                 .last_log_term = 6,
                                                 .disrupt_leader = true,
                                                 .pre_vote = true}};
    reread(&vote, &out);
    assert_int_equal(out.request_vote.term, 7);
    assert_int_equal(out.request_vote.candidate_id, 2);
    assert_int_equal(out.request_vote.last_log_index, 100);
    assert_int_equal(out.request_vote.last_log_term, 6);
    assert_true(out.request_vote.disrupt_leader && out.request_vote.pre_vote);
    for (int tribool = raft_tribool_unknown; tribool <= raft_tribool_false; tribool++) {
        struct raft_message result = {.type = RAFT_IO_REQUEST_VOTE_RESULT,
                                      .request_vote_result = {.term = 8,
                                                              .vote_granted = tribool == 1,
                                                              .pre_vote = (raft_tribool)tribool}};
        reread(&result, &out);
        assert_int_equal(out.request_vote_result.term, 8);
        assert_int_equal(out.request_vote_result.vote_granted, tribool == 1);
        assert_int_equal(out.request_vote_result.pre_vote, tribool);
    }
    struct raft_message result = {
        .type = RAFT_IO_APPEND_ENTRIES_RESULT,
        .append_entries_result = {.term = 9, .rejected = 5, .last_log_index = 4}};
    reread(&result, &out);
    assert_int_equal(out.append_entries_result.term, 9);
    assert_int_equal(out.append_entries_result.rejected, 5);
    assert_int_equal(out.append_entries_result.last_log_index, 4);
    struct raft_message now = {
        .type = RAFT_IO_TIMEOUT_NOW,
        .timeout_now = {.term = 3, .last_log_index = 11, .last_log_term = 2}};
    reread(&now, &out);
    assert_int_equal(out.timeout_now.term, 3);
    assert_int_equal(out.timeout_now.last_log_index, 11);
    assert_int_equal(out.timeout_now.last_log_term, 2);
}

static void entries_go_through_unchanged(void **state)
{
    struct raft_entry entries[3] = {{.term = 4, .type = RAFT_COMMAND},
                                    {.term = 5, .type = RAFT_BARRIER},
                                    {.term = 5, .type = RAFT_COMMAND}};
    struct raft_message in = {.type = RAFT_IO_APPEND_ENTRIES,
                              .append_entries = {.term = 5,
                                                 .prev_log_index = 10,
                                                 .prev_log_term = 4,
                                                 .leader_commit = 9,
                                                 .entries = entries,
                                                 .n_entries = 3}};
    struct raft_message out;

    (void)state;
    entries[0].buf = (struct raft_buffer){.base = "first", .len = 5};
    entries[2].buf = (struct raft_buffer){.base = "the third", .len = 9};
    reread(&in, &out);
    assert_int_equal(out.append_entries.term, 5);
    assert_int_equal(out.append_entries.prev_log_index, 10);
    assert_int_equal(out.append_entries.prev_log_term, 4);
    assert_int_equal(out.append_entries.leader_commit, 9);
    assert_int_equal(out.append_entries.n_entries, 3);
    for (int i = 0; i < 3; i++) {
        const struct raft_entry *entry = &out.append_entries.entries[i];
        assert_int_equal(entry->term, entries[i].term);
        assert_int_equal(entry->type, entries[i].type);
        assert_int_equal(entry->buf.len, entries[i].buf.len);
        if (entry->buf.len > 0)
            assert_memory_equal(entry->buf.base, entries[i].buf.base, entry->buf.len);
        assert_non_null(entry->batch);
        assert_ptr_equal(entry->batch, out.append_entries.entries[0].batch);
    }
    raft_codec_free(&out);
    in.append_entries.n_entries = 0;
    reread(&in, &out);
    assert_int_equal(out.append_entries.n_entries, 0);
    assert_null(out.append_entries.entries);
    raft_codec_free(&out);
}

static void make_configuration(struct raft_configuration *configuration)
{
    raft_configuration_init(configuration);
    assert_int_equal(raft_configuration_add(configuration, 1, "10.0.0.1:3300", RAFT_VOTER), 0);
    assert_int_equal(raft_configuration_add(configuration, 2, "[::1]:3300", RAFT_STANDBY), 0);
    assert_int_equal(raft_configuration_add(configuration, 3, "10.0.0.3:3300", RAFT_SPARE), 0);
}

static void check_configuration(const struct raft_configuration *configuration)
{
    assert_int_equal(configuration->n, 3);
    assert_int_equal(configuration->servers[1].id, 2);
    assert_string_equal(configuration->servers[1].address, "[::1]:3300");
    assert_int_equal(configuration->servers[1].role, RAFT_STANDBY);
    assert_int_equal(configuration->servers[2].role, RAFT_SPARE);
}

static void snapshots_go_through_unchanged(void **state)
{
    struct raft_message in = {.type = RAFT_IO_INSTALL_SNAPSHOT,
                              .install_snapshot = {.term = 5,
                                                   .last_index = 100,
                                                   .last_term = 4,
                                                   .conf_index = 1,
                                                   .data = {.base = "the state", .len = 9}}};
    struct raft_message out;

    (void)state;
    make_configuration(&in.install_snapshot.conf);
    reread(&in, &out);
    assert_int_equal(out.install_snapshot.term, 5);
    assert_int_equal(out.install_snapshot.last_index, 100);
    assert_int_equal(out.install_snapshot.last_term, 4);
    assert_int_equal(out.install_snapshot.conf_index, 1);
    check_configuration(&out.install_snapshot.conf);
    assert_int_equal(out.install_snapshot.data.len, 9);
    assert_memory_equal(out.install_snapshot.data.base, "the state", 9);
    raft_codec_free(&out);
    raft_configuration_close(&in.install_snapshot.conf);
}

static void reads_configurations_as_libraft_writes_them(void **state)
{
    struct raft_configuration configuration;
    struct raft_configuration again;
    struct raft_buffer buf;

    (void)state;
    make_configuration(&configuration);
    assert_int_equal(raft_configuration_encode(&configuration, &buf), 0);
    assert_int_equal(raft_codec_configuration(buf.base, buf.len, &again), 0);
    check_configuration(&again);
    raft_configuration_close(&again);
    /* The last bytes only fill up to a multiple of eight. */
    for (size_t len = 0; len + 8 < buf.len; len++)
        assert_int_equal(raft_codec_configuration(buf.base, len, &again), -EBADMSG);
    ((uint8_t *)buf.base)[0] = 9;
    assert_int_equal(raft_codec_configuration(buf.base, buf.len, &again), -EBADMSG);
    raft_free(buf.base);
    raft_configuration_close(&configuration);
}

static int decode_as(const struct raft_message *in, uint64_t from, const struct uuid *cluster)
{
    struct raft_message out;
    struct message *message = encode(in);
    int rc = raft_codec_decode(message, from, cluster, &out);

    if (rc == 0)
        raft_codec_free(&out);
    message_unref(message);
    return rc;
}

static void bad_messages_are_refused(void **state)
{
    static const struct uuid other = {.bytes = {9}};
    struct raft_entry entry = {.term = 4, .type = RAFT_COMMAND, .buf = {.base = "x", .len = 1}};
    struct raft_message in = {.type = RAFT_IO_APPEND_ENTRIES,
                              .append_entries = {.term = 5,
                                                 .prev_log_index = 10,
                                                 .prev_log_term = 4,
                                                 .entries = &entry,
                                                 .n_entries = 1}};

    (void)state;
    assert_int_equal(decode_as(&in, 2, &fsid), 0);
    /* Another sender, another cluster. */
    assert_int_equal(decode_as(&in, 3, &fsid), -EBADMSG);
    assert_int_equal(decode_as(&in, 2, &other), -EXDEV);
    /* Terms out of order. */
    entry.term = 6;
    assert_int_equal(decode_as(&in, 2, &fsid), -EBADMSG);
    entry.term = 3;
    assert_int_equal(decode_as(&in, 2, &fsid), -EBADMSG);
    entry.term = 4;
    in.append_entries.prev_log_term = 0;
    assert_int_equal(decode_as(&in, 2, &fsid), -EBADMSG);
    in.append_entries.prev_log_term = 4;
    in.append_entries.prev_log_index = 0;
    assert_int_equal(decode_as(&in, 2, &fsid), -EBADMSG);
    in.append_entries.prev_log_index = 10;
    in.append_entries.term = 0;
    assert_int_equal(decode_as(&in, 2, &fsid), -EBADMSG);
    in.append_entries.term = 5;
    /* A configuration that cannot be read. */
    entry.type = RAFT_CHANGE;
    assert_int_equal(decode_as(&in, 2, &fsid), -EBADMSG);
    entry.type = 77;
    assert_int_equal(decode_as(&in, 2, &fsid), -EBADMSG);
    entry.type = RAFT_COMMAND;
    /* A payload that is longer or shorter than the entries say. */
    struct message *message = encode(&in);
    struct raft_message out;
    buf_slice_drop(&message->payload);
    assert_int_equal(raft_codec_decode(message, 2, &fsid, &out), -EBADMSG);
    assert_int_equal(buf_slice_copy("xyz", 3, &message->payload), 0);
    assert_int_equal(raft_codec_decode(message, 2, &fsid, &out), -EBADMSG);
    message_unref(message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_messages_go_through_unchanged),
        cmocka_unit_test(entries_go_through_unchanged),
        cmocka_unit_test(snapshots_go_through_unchanged),
        cmocka_unit_test(reads_configurations_as_libraft_writes_them),
        cmocka_unit_test(bad_messages_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
