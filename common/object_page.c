#include "common/object_page.h"

#include <assert.h>
#include <errno.h>

void object_page_ask_encode(struct encoder *e, const struct object_page_ask *ask)
{
    if (ask->one_space)
        encode_string16(e, ask->space, ask->space_len);
    if (ask->has_after)
        encode_object_id(e, &ask->after);
}

int object_page_ask_decode(const void *data, size_t len, bool one_space,
                           struct object_page_ask *out)
{
    struct decoder d;
    *out = (struct object_page_ask){.one_space = one_space};
    decoder_init(&d, data, len);
    if (one_space)
        out->space = decode_string16(&d, &out->space_len);
    if (out->space_len > OBJECT_NAMESPACE_MAX)
        return -EBADMSG;
    out->has_after = decoder_left(&d) > 0;
    if (out->has_after)
        decode_object_id(&d, &out->after);
    return decoder_end(&d);
}

int object_page_decode(const void *data, size_t len, struct object_page *out)
{
    struct decoder d;
    struct object_id id;
    *out = (struct object_page){0};
    decoder_init(&d, data, len);
    uint32_t n = decode_u32(&d);
    out->ids = d;
    for (uint32_t i = 0; i < n && !d.failed; i++)
        decode_object_id(&d, &id);
    out->end = decode_u8(&d) != 0;
    if (!out->end)
        decode_object_id(&d, &out->upto);
    out->n = d.failed ? 0 : n;
    return decoder_end(&d);
}

struct object_id object_page_take(struct object_page *page)
{
    struct object_id id;
    assert(page->n > 0);
    page->n--;
    decode_object_id(&page->ids, &id);
    return id;
}
