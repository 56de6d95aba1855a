/*
 * Watches, notifies and leases, the primary's side: what is in memory only. See pg_watch.c.
 */
#ifndef LIMPET_OSD_PG_PG_WATCH_H
#define LIMPET_OSD_PG_PG_WATCH_H

#include "osd/pg/pg_impl.h"

/* The group serves from now on, and knows of no connection. */
void pg_watch_begin(struct pg *pg);
/* It does not any more. Its notifies have been withdrawn. */
void pg_watch_end(struct pg *pg);
void pg_watch_session_closed(struct pg *pg, const struct net_session *session);
void pg_watch_tick(struct pg *pg);

/*
 * A reading request with steps on watchers has run; `error` is its result so far. 0, an error, or
 * WATCH_TAKEN: it is a notify, and will be answered by itself.
 */
enum { WATCH_TAKEN = 1 };
int pg_watch_read(struct pg_request *request, struct pg_object *object, struct ops_run *run,
                  int error) MUST_CHECK;
/* A writing request has run, and is about to be committed. */
void pg_watch_wrote(struct pg_request *request, struct pg_object *object, struct ops_run *run);
/* WATCH_PING: all watches of the request's session are as good as new. */
void pg_watch_ping(struct pg_request *request);
/* A notify leaves its place: whoever waits for it is gone, or it runs again. */
void pg_notify_disown(struct pg_request *request);

/* ---- Requests of the primary itself ---- */

/* Whether what a request of our own wants to do is still to be done; it is its turn. */
bool pg_own_request_wanted(const struct pg_request *request);
/* It is over: frees it. */
void pg_own_request_done(struct pg_request *request);

/* No more may be begun. */
bool pg_watch_is_full(const struct pg_world *world);

#endif
