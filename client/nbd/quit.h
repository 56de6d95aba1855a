/*
 * Ending nbdkit though clients are connected: it waits for each connection until its client says or
 * takes something, which may be never.
 */
#ifndef LIMPET_CLIENT_NBD_QUIT_H
#define LIMPET_CLIENT_NBD_QUIT_H

#include "common/error.h"

/*
 * Once nbdkit listens and has set what signals do: from now on a signal that ends nbdkit also ends
 * what it reads from its clients, so that requests that have come are answered and nothing follows;
 * and, QUIT_PATIENCE_MS later, the connections. 0, a negative errno.
 */
int quit_begin(void) MUST_CHECK;
/* When all connections have ended, or there were none; also without quit_begin(). */
void quit_end(void);

#endif
