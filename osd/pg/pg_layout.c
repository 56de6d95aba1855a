#include "osd/pg/pg_layout.h"

#include <errno.h>
#include <string.h>

void pg_numbered_key(char kind, uint64_t number, uint8_t out[PG_NUMBERED_KEY_LEN])
{
    out[0] = (uint8_t)kind;
    number = htobe64(number);
    memcpy(out + 1, &number, sizeof number);
}

int pg_numbered_key_parse(char kind, const uint8_t *key, size_t len, uint64_t *number)
{
    if (len != PG_NUMBERED_KEY_LEN || key[0] != (uint8_t)kind)
        return -EBADMSG;
    memcpy(number, key + 1, sizeof *number);
    *number = be64toh(*number);
    return 0;
}

/* Where encode_object_id() puts the snapshot. */
enum { SNAP_AT = sizeof(uint64_t) + sizeof(uint32_t) };

void pg_id_with_snap(const uint8_t *bytes, uint16_t len, uint64_t snap, uint8_t *out)
{
    assert(len >= SNAP_AT + sizeof snap && len <= PG_OBJECT_ID_MAX);
    memcpy(out, bytes, len);
    snap = htole64(snap);
    memcpy(out + SNAP_AT, &snap, sizeof snap);
}

uint64_t pg_id_snap(const uint8_t *bytes, uint16_t len)
{
    uint64_t snap;
    assert(len >= SNAP_AT + sizeof snap);
    memcpy(&snap, bytes + SNAP_AT, sizeof snap);
    return le64toh(snap);
}

static bool extents_are_ordered(const uint8_t *data, uint8_t n)
{
    uint32_t after = 0;
    for (uint8_t i = 0; i < n; i++) {
        struct pg_extent_layout extent;
        memcpy(&extent, data + i * sizeof extent, sizeof extent);
        if (extent.first >= extent.end || extent.end > PG_BLOCKS_MAX ||
            (i > 0 && extent.first <= after))
            return false;
        after = extent.end;
    }
    return true;
}

int pg_entry_parse(const void *data, size_t len, struct pg_entry_layout *head,
                   struct object_id *object)
{
    if (len < sizeof *head || len > PG_ENTRY_MAX)
        return -EBADMSG;
    memcpy(head, data, sizeof *head);
    uint8_t n = head->n_extents == PG_EXTENTS_WHOLE ? 0 : head->n_extents;
    if (head->layout != PG_LAYOUT_VERSION || n > PG_EXTENTS_MAX ||
        head->answer_len > PG_ANSWER_MAX ||
        len != sizeof *head + head->object_len + n * sizeof(struct pg_extent_layout) +
                   head->answer_len ||
        !extents_are_ordered((const uint8_t *)data + sizeof *head + head->object_len, n))
        return -EBADMSG;
    if (head->kind < PG_ENTRY_MODIFY || head->kind > PG_ENTRY_FAILED ||
        (head->kind != PG_ENTRY_FAILED && head->result < 0) || head->result > 0)
        return -EBADMSG;
    /* What failed and was allowed to is told. */
    if (head->kind == PG_ENTRY_FAILED && head->result == 0 && head->answer_len == 0)
        return -EBADMSG;
    if (head->version.sequence == 0 || head->committed >= head->version.sequence)
        return -EBADMSG;
    if (head->client != 0 && (head->oldest > head->tid || head->tid == UINT64_MAX))
        return -EBADMSG;
    struct decoder d;
    decoder_init(&d, (const uint8_t *)data + sizeof *head, head->object_len);
    decode_object_id(&d, object);
    /* The clones of an object belong to it. */
    if (object->snap != OBJECT_HEAD || head->clone > OBJECT_SNAP_MAX ||
        head->trimmed > OBJECT_SNAP_MAX)
        return -EBADMSG;
    return decoder_end(&d);
}

/* Answers fill whole units; so there is one record for what is known of a client. */
static bool answers_end_in_zeroes(const struct pg_client_layout *head, const uint8_t *data)
{
    const uint8_t *results = data + sizeof *head;
    const uint8_t *answer = results + head->n_results * sizeof(struct pg_result_layout);
    for (uint16_t i = 0; i < head->n_results; i++) {
        struct pg_result_layout result;
        memcpy(&result, results + i * sizeof result, sizeof result);
        size_t end = (size_t)pg_answer_units(result.answer_len) * PG_RESULT_UNIT;
        for (size_t at = result.answer_len; at < end; at++)
            if (answer[at] != 0)
                return false;
        answer += end;
    }
    return true;
}

int pg_client_parse(const void *data, size_t len, struct pg_client_layout *head)
{
    if (len < sizeof *head || len > PG_CLIENT_MAX)
        return -EBADMSG;
    memcpy(head, data, sizeof *head);
    if (head->layout != PG_LAYOUT_VERSION || head->client == 0 || head->sequence == 0 ||
        len < sizeof *head + head->n_results * sizeof(struct pg_result_layout))
        return -EBADMSG;
    size_t units = head->n_results;
    uint64_t least = head->oldest;
    for (uint16_t i = 0; i < head->n_results; i++) {
        struct pg_result_layout result;
        memcpy(&result, (const uint8_t *)data + sizeof *head + i * sizeof result, sizeof result);
        if (result.tid < least || result.tid == UINT64_MAX || result.result > 0 ||
            result.version.sequence == 0 || result.version.sequence > head->sequence ||
            result.answer_len > PG_ANSWER_MAX)
            return -EBADMSG;
        least = result.tid + 1;
        units += pg_answer_units(result.answer_len);
    }
    if (len != sizeof *head + units * PG_RESULT_UNIT)
        return -EBADMSG;
    return answers_end_in_zeroes(head, data) ? 0 : -EBADMSG;
}

int pg_state_parse(const void *data, size_t len, struct pg_state_layout *out)
{
    if (len != sizeof *out)
        return -EBADMSG;
    memcpy(out, data, sizeof *out);
    return out->layout == PG_LAYOUT_VERSION && out->complete <= 1 ? 0 : -EBADMSG;
}

int object_info_parse(const void *data, size_t len, struct object_info_layout *out)
{
    if (len != sizeof *out)
        return -EBADMSG;
    memcpy(out, data, sizeof *out);
    return out->layout == PG_LAYOUT_VERSION ? 0 : -EBADMSG;
}

int pg_scrub_parse(const void *data, size_t len, struct pg_scrub_layout *out)
{
    if (len != sizeof *out)
        return -EBADMSG;
    memcpy(out, data, sizeof *out);
    return out->layout == PG_LAYOUT_VERSION ? 0 : -EBADMSG;
}
