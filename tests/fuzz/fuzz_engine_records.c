/*
 * Records of the store's index, which a damaged disk may return: the first byte chooses the kind.
 * What is accepted keeps to its limits and encodes to what decodes the same.
 */
#include <stdlib.h>
#include <string.h>

#include "osd/store/engine.h"

enum { BLOCKS = 100000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void try_object(const uint8_t *data, size_t size)
{
    struct onode o = {0};
    encoder_init(&o.attrs);
    if (object_decode(data, size, BLOCKS, &o) == 0)
        must(o.size <= OBJECT_SIZE_MAX && o.info_len <= STORE_INFO_MAX && o.n_chunks <= 1);
    for (uint32_t i = 0; i < o.n_chunks; i++)
        free(o.chunks[i]);
    free(o.chunks);
    encoder_fini(&o.attrs);
}

static void try_chunk(const uint8_t *data, size_t size)
{
    struct chunk c, again;
    struct encoder value;
    struct decoder d;
    decoder_init(&d, data, size);
    if (chunk_decode(&d, BLOCKS, &c) < 0)
        return;
    encoder_init(&value);
    chunk_encode(&c, &value);
    decoder_init(&d, value.data, value.len);
    must(chunk_decode(&d, BLOCKS, &again) == 0 && decoder_end(&d) == 0);
    must(memcmp(c.block, again.block, sizeof c.block) == 0 && c.shared == again.shared);
    for (uint32_t i = 0; i < CHUNK_BLOCKS; i++)
        must(c.block[i] < BLOCKS && (c.block[i] == BLOCK_NONE || c.crc[i] == again.crc[i]));
    encoder_fini(&value);
}

static void try_key(const uint8_t *data, size_t size)
{
    uint8_t strings[OBJECT_STRINGS_MAX], key[ENGINE_KEY_MAX];
    struct object_id id = {0};
    if (object_key_parse(data, size, &id, strings) < 0)
        return;
    must(id.name_len <= OBJECT_NAME_MAX && id.space_len <= OBJECT_NAMESPACE_MAX &&
         id.locator_len <= OBJECT_LOCATOR_MAX);
    must(object_key(&id, key) == size && memcmp(key, data, size) == 0);
}

static void try_batch(const uint8_t *data, size_t size)
{
    struct decoder d;
    struct index_change c;
    decoder_init(&d, data, size);
    while (index_batch_next(&d, &c) > 0) {
        const uint8_t *key = c.key;
        must(c.key_len == 0 || (key >= data && key + c.key_len <= data + size));
        const uint8_t *value = c.value;
        must(!value || c.len == 0 || (value >= data && value + c.len <= data + size));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const kinds[])(const uint8_t *, size_t) = {try_object, try_chunk, try_key,
                                                             try_batch};
    if (size < 1)
        return 0;
    kinds[data[0] % 4](data + 1, size - 1);
    return 0;
}
