/*
 * Building the result of a listing: entries whose memory list_fini() frees, the same for every
 * implementation of the store.
 */
#ifndef LIMPET_OSD_STORE_LIST_H
#define LIMPET_OSD_STORE_LIST_H

#include "osd/store/store.h"

/* Clears the results of an earlier use; the request's own fields stay. */
void list_begin(struct store_list *list);

/* Appends a copy of an entry; at most list->max of them. -ENOMEM. */
int list_add(struct store_list *list, const struct object_id *id, uint64_t size, const void *info,
             uint16_t info_len) MUST_CHECK;

#endif
