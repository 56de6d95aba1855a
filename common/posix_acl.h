/*
 * Access control lists of files, as POSIX.1e (draft 17) has them, in the form in which the kernel
 * keeps them in extended attributes: u32 2, then entries of u16 tag, u16 permissions, u32 id
 * (little-endian), in ascending order of tags. A list says what the nine permission bits of the
 * mode say, and more: the owner's, the mask's (or, without one, the group's), and others' entries
 * are those bits, so each change of one is a change of the other.
 */
#ifndef LIMPET_COMMON_POSIX_ACL_H
#define LIMPET_COMMON_POSIX_ACL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define POSIX_ACL_ACCESS  "system.posix_acl_access"
#define POSIX_ACL_DEFAULT "system.posix_acl_default" /* Of a directory: for what is made in it. */

/* -EINVAL: it is no list. All others take only what this has allowed. */
int posix_acl_check(const void *acl, size_t len) MUST_CHECK;
/* Whether the mode alone says the same. */
bool posix_acl_is_mode(const void *acl, size_t len);
/* The mode with the permissions of a list. */
uint32_t posix_acl_to_mode(const void *acl, size_t len, uint32_t mode);
/* The list gets the permissions of a mode. */
void posix_acl_from_mode(void *acl, size_t len, uint32_t mode);
/*
 * A copy of a directory's default list becomes that of what is made there with this mode: neither
 * allows what the other does not. Returns the mode that remains.
 */
uint32_t posix_acl_inherit(void *acl, size_t len, uint32_t mode);

#endif
