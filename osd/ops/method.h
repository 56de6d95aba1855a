/*
 * Built-in methods: named functions that run inside an operation, on its object, as one of its
 * steps. They do what would otherwise take a client a read, a decision and a guarded write: locks,
 * headers of images, entries of directories.
 *
 * To add one: write a function in a file of its subject (method_lock.c), add a line to the table in
 * method.c and, if it changes the object, to the one in common/method_names.c, which clients use.
 * The function
 *
 *   - decodes its input, which may be anything: -EINVAL when it is malformed;
 *   - looks at the object by functions of view.h, and returns at once what is not 0, VIEW_MISS
 * among it: it is then run again, so it must do nothing but look before;
 *   - then changes the object. What fails after the first change fails the whole operation;
 *   - encodes what it returns into call->output: together with all other steps of a writing request
 *     at most OPS_ANSWER_MAX bytes, since it is kept for a repetition of the request.
 *
 * Anything else that its result may depend on stands in call->run: who calls, and what time it is.
 */
#ifndef LIMPET_OSD_OPS_METHOD_H
#define LIMPET_OSD_OPS_METHOD_H

#include "osd/ops/run.h"

struct method_call {
    struct ops_run *run;
    struct object_view *view;
    struct decoder input;
    struct encoder output;
};

struct method {
    const char *name; /* "class.method" */
    int (*run)(struct method_call *call);
};

/* NULL: there is no such method. */
const struct method *method_find(const void *name, size_t len);

int method_lock_lock(struct method_call *call) MUST_CHECK;
int method_lock_unlock(struct method_call *call) MUST_CHECK;
int method_lock_break(struct method_call *call) MUST_CHECK;
int method_lock_set_cookie(struct method_call *call) MUST_CHECK;
int method_lock_info(struct method_call *call) MUST_CHECK;
int method_lock_list(struct method_call *call) MUST_CHECK;
int method_lock_assert(struct method_call *call) MUST_CHECK;
int method_hello_say(struct method_call *call) MUST_CHECK;
int method_hello_record(struct method_call *call) MUST_CHECK;

#endif
