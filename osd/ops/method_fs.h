/* Methods of file systems on the object of a shard: common/fs_method.h has what they do. */
#ifndef LIMPET_OSD_OPS_METHOD_FS_H
#define LIMPET_OSD_OPS_METHOD_FS_H

#include "osd/ops/method.h"

int method_fs_apply(struct method_call *call) MUST_CHECK;
int method_fs_create(struct method_call *call) MUST_CHECK;
int method_fs_dying(struct method_call *call) MUST_CHECK;
int method_fs_enter(struct method_call *call) MUST_CHECK;
int method_fs_getattr(struct method_call *call) MUST_CHECK;
int method_fs_getlock(struct method_call *call) MUST_CHECK;
int method_fs_keeplocks(struct method_call *call) MUST_CHECK;
int method_fs_init(struct method_call *call) MUST_CHECK;
int method_fs_leave(struct method_call *call) MUST_CHECK;
int method_fs_links(struct method_call *call) MUST_CHECK;
int method_fs_list(struct method_call *call) MUST_CHECK;
int method_fs_lock(struct method_call *call) MUST_CHECK;
int method_fs_lookup(struct method_call *call) MUST_CHECK;
int method_fs_moved(struct method_call *call) MUST_CHECK;
int method_fs_purge(struct method_call *call) MUST_CHECK;
int method_fs_reap(struct method_call *call) MUST_CHECK;
int method_fs_rename(struct method_call *call) MUST_CHECK;
int method_fs_reserve(struct method_call *call) MUST_CHECK;
int method_fs_setattr(struct method_call *call) MUST_CHECK;
int method_fs_settle(struct method_call *call) MUST_CHECK;
int method_fs_layout(struct method_call *call) MUST_CHECK;
int method_fs_split(struct method_call *call) MUST_CHECK;
int method_fs_unlink(struct method_call *call) MUST_CHECK;
int method_fs_vanish(struct method_call *call) MUST_CHECK;
int method_fs_wrote(struct method_call *call) MUST_CHECK;
int method_fs_xget(struct method_call *call) MUST_CHECK;
int method_fs_xlist(struct method_call *call) MUST_CHECK;
int method_fs_xremove(struct method_call *call) MUST_CHECK;
int method_fs_xset(struct method_call *call) MUST_CHECK;

#endif
