/*
 * Locks: the methods lock.* of the OSDs, whose inputs and outputs osd/ops/method_lock.c tells.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/object/private.h"

static void encode_text(struct encoder *e, const char *text)
{
    encode_string16(e, text, text != NULL ? strlen(text) : 0);
}

/* Finishes the encoder. */
static int call_for(struct limpet_pool *pool, const char *name, const char *method,
                    struct encoder *e, void **out, size_t *out_len)
{
    struct limpet_op *op = e->failed ? NULL : limpet_op_create();
    int rc = op == NULL ? -ENOMEM : limpet_op_call(op, method, e->data, e->len, out, out_len, NULL);
    if (rc == 0) {
        limpet_op_full_try(op);
        rc = limpet_operate(pool, name, op, NULL);
    }
    limpet_op_destroy(op);
    encoder_fini(e);
    return rc;
}

static int call(struct limpet_pool *pool, const char *name, const char *method, struct encoder *e)
{
    return call_for(pool, name, method, e, NULL, NULL);
}

int limpet_lock(struct limpet_pool *pool, const char *name, const char *lock,
                enum limpet_lock_type type, const char *cookie, const char *tag,
                const char *description, uint64_t duration_ns, unsigned flags)
{
    struct encoder e;
    encoder_init(&e);
    encode_text(&e, lock);
    encode_u8(&e, (uint8_t)type);
    encode_text(&e, cookie);
    encode_text(&e, tag);
    encode_text(&e, description);
    encode_u64(&e, duration_ns);
    encode_u8(&e, (uint8_t)flags);
    return call(pool, name, "lock.lock", &e);
}

int limpet_unlock(struct limpet_pool *pool, const char *name, const char *lock, const char *cookie)
{
    struct encoder e;
    encoder_init(&e);
    encode_text(&e, lock);
    encode_text(&e, cookie);
    return call(pool, name, "lock.unlock", &e);
}

int limpet_lock_break(struct limpet_pool *pool, const char *name, const char *lock,
                      uint64_t instance, const char *cookie)
{
    struct encoder e;
    encoder_init(&e);
    encode_text(&e, lock);
    encode_u64(&e, instance);
    encode_text(&e, cookie);
    return call(pool, name, "lock.break_lock", &e);
}

/* ---- Looking at locks ---- */

/* A string of an answer, with a zero after it; there is room, since its length was there. */
static const char *take_text(struct decoder *d, char **at)
{
    uint16_t len;
    const char *bytes = decode_string16(d, &len);
    char *text = *at;
    if (bytes == NULL)
        return "";
    memcpy(text, bytes, len);
    text[len] = 0;
    *at += len + 1;
    return text;
}

static int make_info(const void *data, size_t len, struct limpet_lock_info **out)
{
    struct decoder d;
    decoder_init(&d, data, len);
    uint8_t type = decode_u8(&d);
    size_t text_at = d.at;
    uint16_t tag_len;
    (void)decode_string16(&d, &tag_len);
    uint32_t n = decode_u32(&d);
    d.at = d.failed ? d.at : text_at;
    if (d.failed || n > len)
        return -EPROTO;
    /* Each string is shorter by its length than it was in the answer, and longer by a zero. */
    struct limpet_lock_info *info = calloc(1, sizeof *info + n * sizeof info->holders[0] + len);
    if (info == NULL)
        return -ENOMEM;
    char *at = (char *)(info->holders + n);
    info->type = type;
    info->n_holders = n;
    info->tag = take_text(&d, &at);
    (void)decode_u32(&d);
    for (uint32_t i = 0; i < n; i++) {
        struct limpet_lock_holder *holder = &info->holders[i];
        holder->instance = decode_u64(&d);
        holder->cookie = take_text(&d, &at);
        holder->ends_ns = decode_u64(&d);
        holder->address = take_text(&d, &at);
        holder->description = take_text(&d, &at);
    }
    if (decoder_end(&d) != 0) {
        free(info);
        return -EPROTO;
    }
    *out = info;
    return 0;
}

int limpet_lock_info(struct limpet_pool *pool, const char *name, const char *lock,
                     struct limpet_lock_info **out)
{
    struct encoder e;
    void *data = NULL;
    size_t len = 0;
    encoder_init(&e);
    encode_text(&e, lock);
    int rc = call_for(pool, name, "lock.get_info", &e, &data, &len);
    if (rc == 0)
        rc = make_info(data, len, out);
    free(data);
    return rc;
}

static int make_names(const void *data, size_t len, char ***out)
{
    struct decoder d;
    decoder_init(&d, data, len);
    uint32_t n = decode_u32(&d);
    if (d.failed || n > len)
        return -EPROTO;
    char **names = calloc(1, (n + 1) * sizeof *names + len);
    if (names == NULL)
        return -ENOMEM;
    char *at = (char *)(names + n + 1);
    for (uint32_t i = 0; i < n; i++)
        names[i] = (char *)(uintptr_t)take_text(&d, &at);
    if (decoder_end(&d) != 0) {
        free(names);
        return -EPROTO;
    }
    *out = names;
    return 0;
}

int limpet_lock_list(struct limpet_pool *pool, const char *name, char ***out)
{
    struct encoder e;
    void *data = NULL;
    size_t len = 0;
    encoder_init(&e);
    int rc = call_for(pool, name, "lock.list_locks", &e, &data, &len);
    if (rc == 0)
        rc = make_names(data, len, out);
    free(data);
    return rc;
}
