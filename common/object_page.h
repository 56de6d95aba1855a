/*
 * A page of a placement group's listing: what an OSD answers to WIRE_OP_CODE_LIST, and its request.
 */
#ifndef LIMPET_COMMON_OBJECT_PAGE_H
#define LIMPET_COMMON_OBJECT_PAGE_H

#include "common/object.h"

/* The data of a request for a page. Points into the decoder's memory. */
struct object_page_ask {
    bool one_space; /* Objects of the namespace alone. */
    uint16_t space_len;
    const uint8_t *space;
    bool has_after;
    struct object_id after; /* Those behind it; it need not exist. */
};

void object_page_ask_encode(struct encoder *e, const struct object_page_ask *ask);
/* -EBADMSG; the last id may be of any pool. */
int object_page_ask_decode(const void *data, size_t len, bool one_space,
                           struct object_page_ask *out) MUST_CHECK;

struct object_page {
    uint32_t n;            /* Objects that were not taken yet. */
    bool end;              /* Nothing follows in this group. */
    struct object_id upto; /* Else: the next page goes on behind it. */
    struct decoder ids;
};

/* Checks all of it; -EBADMSG. Points into data. */
int object_page_decode(const void *data, size_t len, struct object_page *out) MUST_CHECK;
/* The next of page->n objects; decrements it. */
struct object_id object_page_take(struct object_page *page);

#endif
