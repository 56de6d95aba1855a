/*
 * Bounded little-endian writers and readers for fixed structs.
 *
 * A decoder never reads past its end: the first short read sets `failed`, every later read gives
 * zeroes, and decoder_end() reports it. So a parser reads straight through and checks once. The
 * encoder does the same with its capacity, or grows when it owns its memory.
 */
#ifndef LIMPET_COMMON_CODEC_H
#define LIMPET_COMMON_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct encoder {
    uint8_t *data;
    size_t len;
    size_t capacity;
    bool owned;  /* data came from malloc and may be grown. */
    bool failed; /* Out of space or memory; len is then meaningless. */
};

/* Writes into the caller's memory of fixed capacity. */
void encoder_init_fixed(struct encoder *e, void *memory, size_t capacity);
/* Writes into memory of its own that grows; free with encoder_fini or take with encoder_take. */
void encoder_init(struct encoder *e);
void encoder_fini(struct encoder *e);
/* Hands the malloc'd bytes of a growing encoder to the caller and finishes it; NULL if it failed.
 */
void *encoder_take(struct encoder *e, size_t *len) MUST_CHECK;
/* Empties it, keeping its memory. */
void encoder_reset(struct encoder *e);

void encode_u8(struct encoder *e, uint8_t value);
void encode_u16(struct encoder *e, uint16_t value);
void encode_u32(struct encoder *e, uint32_t value);
void encode_u64(struct encoder *e, uint64_t value);
void encode_bytes(struct encoder *e, const void *data, size_t len);
/* A 16-bit or 32-bit length, then the bytes. A longer string sets failed. */
void encode_string16(struct encoder *e, const void *data, size_t len);
void encode_string32(struct encoder *e, const void *data, size_t len);
/* Room for len bytes to be filled in by the caller now; NULL when it failed. */
void *encode_reserve(struct encoder *e, size_t len);

struct decoder {
    const uint8_t *data;
    size_t len;
    size_t at;
    bool failed;
};

void decoder_init(struct decoder *d, const void *data, size_t len);
uint8_t decode_u8(struct decoder *d);
uint16_t decode_u16(struct decoder *d);
uint32_t decode_u32(struct decoder *d);
uint64_t decode_u64(struct decoder *d);
/* Points into the decoder's memory; NULL (and failed) when fewer than len bytes are left. */
const void *decode_bytes(struct decoder *d, size_t len);
const void *decode_string16(struct decoder *d, uint16_t *len);
const void *decode_string32(struct decoder *d, uint32_t *len);
size_t decoder_left(const struct decoder *d);
/* 0 when all went well and nothing is left over, else -EBADMSG. */
int decoder_end(const struct decoder *d) MUST_CHECK;

#endif
