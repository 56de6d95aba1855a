/*
 * What of block images comes from disks and streams: records, keys, streams of differences. What
 * decodes, encodes to something that decodes; readers stay inside of what they are given.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "client/image/layout.h"
#include "client/image/stream_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_core(const uint8_t *data, size_t size)
{
    struct image_core core, again;
    struct encoder e;
    if (image_core_decode(data, size, &core) != 0)
        return;
    encoder_init(&e);
    image_core_encode(&e, &core);
    assert(!e.failed && image_core_decode(e.data, e.len, &again) == 0);
    assert(again.size == core.size && again.extent == core.extent && again.order == core.order);
    encoder_fini(&e);
}

static void try_others(const uint8_t *data, size_t size)
{
    struct image_snap snap;
    struct image_owner owner;
    struct image_trash trash;
    struct image_group_snap group;
    struct image_link link;
    uint64_t number;
    if (image_snap_decode(data, size, &snap) == 0)
        assert(snap.overlap <= snap.size && strlen(snap.name) <= LIMPET_IMAGE_NAME_MAX);
    if (image_owner_decode(data, size, &owner) == 0)
        assert(owner.kept == (owner.kept != 0));
    if (image_trash_decode(data, size, &trash) == 0)
        assert(strlen(trash.name) <= LIMPET_IMAGE_NAME_MAX);
    if (image_group_snap_decode(data, size, &group) == 0)
        image_group_snap_fini(&group);
    if (image_child_key_decode(data, size, &number, &link) == 0)
        assert(image_is_id(link.id));
    if (image_snap_key_decode(data, size, &number) == 0 ||
        image_owner_key_decode(data, size, &owner) == 0)
        assert(size >= 18);
}

struct input {
    const uint8_t *data;
    size_t left;
};

static ssize_t read_input(void *arg, void *out, size_t len)
{
    struct input *input = arg;
    size_t n = len < input->left ? len : input->left;
    /* As pipes do: not always all. */
    n = n > 7 ? n - n % 7 : n;
    memcpy(out, input->data, n);
    input->data += n;
    input->left -= n;
    return (ssize_t)n;
}

static void try_stream(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    const struct limpet_image_source source = {.read = read_input, .arg = &input};
    struct diff_reader reader;
    struct diff_record record;
    uint8_t bytes[64];
    int rc = diff_read_begin(&reader, &source);
    while (rc == 0) {
        rc = diff_read_next(&reader, &record);
        if (rc != 0 || record.kind == 'e')
            break;
        assert(strlen(record.name) <= LIMPET_IMAGE_NAME_MAX);
        assert(record.len <= LIMPET_IMAGE_SIZE_MAX - record.offset);
        if (record.kind == 'w' && record.len > sizeof bytes)
            rc = diff_read_data(&reader, bytes, sizeof bytes);
    }
    assert(rc == 0 || rc == -EBADMSG);
}

static void try_image(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    const struct limpet_image_source source = {.read = read_input, .arg = &input};
    struct image_record record = {0};
    uint64_t n;
    int rc = image_read_begin(&source);
    while (rc == 0) {
        rc = image_read_next(&source, &record);
        bool end = rc == 0 && record.kind == 'E';
        assert(rc != 0 || record.kind != 'M' || strlen(record.key) <= LIMPET_IMAGE_META_KEY_MAX);
        image_record_fini(&record);
        if (end)
            break;
    }
    if (rc == 0)
        rc = image_read_diffs(&source, &n);
    assert(rc == 0 || rc == -EBADMSG);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_core(data, size);
    try_others(data, size);
    try_stream(data, size);
    try_image(data, size);
    return 0;
}
