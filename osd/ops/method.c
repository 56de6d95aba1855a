#include "osd/ops/method.h"

#include <assert.h>
#include <string.h>

#include "common/method_names.h"
#include "osd/ops/method_fs.h"

static const struct method methods[] = {
    {"fs.apply", method_fs_apply},
    {"fs.create", method_fs_create},
    {"fs.dying", method_fs_dying},
    {"fs.enter", method_fs_enter},
    {"fs.getattr", method_fs_getattr},
    {"fs.getlock", method_fs_getlock},
    {"fs.init", method_fs_init},
    {"fs.keeplocks", method_fs_keeplocks},
    {"fs.layout", method_fs_layout},
    {"fs.leave", method_fs_leave},
    {"fs.links", method_fs_links},
    {"fs.list", method_fs_list},
    {"fs.lock", method_fs_lock},
    {"fs.lookup", method_fs_lookup},
    {"fs.moved", method_fs_moved},
    {"fs.purge", method_fs_purge},
    {"fs.reap", method_fs_reap},
    {"fs.rename", method_fs_rename},
    {"fs.reserve", method_fs_reserve},
    {"fs.setattr", method_fs_setattr},
    {"fs.settle", method_fs_settle},
    {"fs.split", method_fs_split},
    {"fs.unlink", method_fs_unlink},
    {"fs.vanish", method_fs_vanish},
    {"fs.wrote", method_fs_wrote},
    {"fs.xget", method_fs_xget},
    {"fs.xlist", method_fs_xlist},
    {"fs.xremove", method_fs_xremove},
    {"fs.xset", method_fs_xset},
    {"hello.record_hello", method_hello_record},
    {"hello.say_hello", method_hello_say},
    {"lock.assert_locked", method_lock_assert},
    {"lock.break_lock", method_lock_break},
    {"lock.get_info", method_lock_info},
    {"lock.list_locks", method_lock_list},
    {"lock.lock", method_lock_lock},
    {"lock.set_cookie", method_lock_set_cookie},
    {"lock.unlock", method_lock_unlock},
};

const struct method *method_find(const void *name, size_t len)
{
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (strlen(methods[i].name) == len && memcmp(methods[i].name, name, len) == 0)
            return &methods[i];
    }
    return NULL;
}

/* As librados' servers tell a class that they do not know from a method that a class has not. */
static int no_method(const char *name, size_t len)
{
    const char *dot = memchr(name, '.', len);
    size_t class_len = dot ? (size_t)(dot - name) + 1 : len;
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (strncmp(methods[i].name, name, class_len) == 0)
            return -EOPNOTSUPP;
    }
    return -EPERM;
}

int check_call(const struct wire_op *step, const uint8_t *data)
{
    struct decoder d;
    uint16_t len;
    decoder_init(&d, data, step->data_len);
    const char *name = decode_string16(&d, &len);
    if (d.failed)
        return -EINVAL;
    return method_find(name, len) ? 0 : no_method(name, len);
}

int step_call(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    struct method_call call = {.run = run, .view = &run->view};
    uint16_t len;
    decoder_init(&call.input, data, step->data_len);
    const void *name = decode_string16(&call.input, &len);
    const struct method *method = method_find(name, len);
    assert(method);
    if (method_writes(name, len) && !run->request->write)
        return -EOPNOTSUPP;
    encoder_init(&call.output);
    int error = method->run(&call);
    if (error >= 0 && call.output.len > 0) {
        int given = run_give_encoded(run, &call.output);
        return given ? given : error;
    }
    encoder_fini(&call.output);
    return error;
}
