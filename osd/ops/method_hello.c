/*
 * The smallest methods there can be, to try a cluster with, and to begin another one from: they are
 * those that librados' documents use for their examples.
 */
#include "osd/ops/method.h"

#include <string.h>

#include "osd/ops/attr.h"

enum { NAME_MAX_BYTES = 100 };

static int greeting(struct method_call *call, struct view_bytes *out)
{
    static const char hello[] = "Hello, ", world[] = "world";
    size_t len = decoder_left(&call->input);
    if (len > NAME_MAX_BYTES)
        return -EINVAL;
    const void *name = len > 0 ? decode_bytes(&call->input, len) : world;
    if (len == 0)
        len = strlen(world);
    char *text = view_alloc(call->view, sizeof hello + len + 1);
    if (!text)
        return -ENOMEM;
    memcpy(text, hello, strlen(hello));
    memcpy(text + strlen(hello), name, len);
    text[strlen(hello) + len] = '!';
    *out = view_bytes_of(text, strlen(hello) + len + 1);
    return 0;
}

int method_hello_say(struct method_call *call)
{
    struct view_bytes text;
    int error = greeting(call, &text);
    if (!error)
        encode_bytes(&call->output, text.data, text.len);
    return error;
}

int method_hello_record(struct method_call *call)
{
    struct view_bytes text;
    int error = greeting(call, &text);
    if (!error && call->view->state.exists)
        error = -EEXIST;
    if (!error)
        view_write_same(call->view, 0, text.len, text.data, text.len);
    return error;
}
