/*
 * Object identities: what decodes, encodes to the same bytes; copies and order agree. And pages of
 * them.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/object_page.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a page names stays inside of it. */
static void try_page(const uint8_t *data, size_t size)
{
    struct object_page page;
    if (object_page_decode(data, size, &page) < 0)
        return;
    while (page.n > 0) {
        struct object_id id = object_page_take(&page);
        assert(id.name >= data && id.name + id.name_len <= data + size);
    }
    assert(!page.ids.failed);
}

static void try_ask(const uint8_t *data, size_t size, bool one_space)
{
    struct object_page_ask ask;
    struct encoder e;
    if (object_page_ask_decode(data, size, one_space, &ask) < 0)
        return;
    encoder_init(&e);
    object_page_ask_encode(&e, &ask);
    assert(!e.failed && e.len == size && (size == 0 || memcmp(e.data, data, size) == 0));
    encoder_fini(&e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct decoder d;
    struct object_id first;
    struct object_id second;
    try_page(data, size);
    try_ask(data, size, false);
    try_ask(data, size, true);
    decoder_init(&d, data, size);
    decode_object_id(&d, &first);
    if (d.failed)
        return 0;
    size_t first_len = d.at;
    decode_object_id(&d, &second);

    struct encoder e;
    encoder_init(&e);
    encode_object_id(&e, &first);
    assert(!e.failed && e.len == first_len && memcmp(e.data, data, first_len) == 0);
    encoder_fini(&e);

    struct object_id *copy = object_id_copy(&first);
    assert(copy != NULL && object_compare(copy, &first) == 0);
    free(copy);
    assert(!object_locator_is_name(&first));
    if (!d.failed) {
        int order = object_compare(&first, &second);
        int back = object_compare(&second, &first);
        assert((order > 0) == (back < 0) && (order == 0) == (back == 0));
    }
    return 0;
}
