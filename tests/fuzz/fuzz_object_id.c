/* Object identities: what decodes, encodes to the same bytes; copies and order agree. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/object.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct decoder d;
    struct object_id first;
    struct object_id second;
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
    if (!d.failed) {
        int order = object_compare(&first, &second);
        int back = object_compare(&second, &first);
        assert((order > 0) == (back < 0) && (order == 0) == (back == 0));
    }
    return 0;
}
