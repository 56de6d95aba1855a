/* The command table: file systems. */
#include "client/cli/commands.h"
#include "client/cli/fs.h"

#define FS_PARAM                                                                                   \
    {                                                                                              \
        .name = "fs", .type = CLI_TEXT, .shown = "[POOL/]NAME"                                     \
    }

const struct cli_command cli_commands_fs[] = {
    {.path = "fs",
     .summary = "file systems",
     .details = "A file system is named [POOL/]NAME; the pool is fs if nothing is said.\n"},
    {.path = "fs create",
     .run = fs_create,
     .options = OPTIONS({.name = "data-pool",
                         .type = CLI_TEXT,
                         .value = "POOL",
                         .complete = CLI_COMPLETE_POOL,
                         .help = "the pool of the contents (default: the same)"},
                        {.name = "object-size",
                         .type = CLI_SIZE,
                         .value = "SIZE",
                         .help = "of the objects of files, 4K to 64M (default: 4M); the attribute "
                                 "limpet.layout says it for one file or folder"},
                        {.name = "split",
                         .type = CLI_NUMBER,
                         .value = "N",
                         .help = "folders of so many entries get more shards (default: 16384)"}),
     .params = PARAMS(FS_PARAM),
     .summary = "make an empty file system",
     .examples = EXAMPLES("limpet pool create fs", "limpet fs create home")},
    {.path = "fs ls", .alias = "fs list", .run = fs_ls, .summary = "the file systems of all pools"},
    {.path = "fs rm",
     .alias = "fs remove",
     .run = fs_rm,
     .options = OPTIONS({.name = "yes-i-really-mean-it", .type = CLI_FLAG, .help = "remove it"},
                        {.name = "force",
                         .type = CLI_FLAG,
                         .help = "the same, also when somebody has it mounted"}),
     .params = PARAMS(FS_PARAM),
     .summary = "remove a file system with all its files",
     .details = "Where a removal was interrupted, another one goes on with it.\n"},
    {.path = "fs status",
     .run = fs_status,
     .params = PARAMS(FS_PARAM),
     .summary = "how full a file system is, and who has it mounted"},
    {.path = "fs check",
     .run = fs_check,
     .options =
         OPTIONS({.name = "repair", .type = CLI_FLAG, .help = "repair what is found"},
                 {.name = "no-progress", .type = CLI_FLAG, .help = "do not show how far it is"}),
     .params = PARAMS(FS_PARAM),
     .summary = "find what is wrong in a file system, and repair it",
     .details =
         "Reads the records of all directories and the names of all data objects. What a client "
         "that died has left unfinished is no damage: whoever meets it completes it. While the "
         "file system is mounted, what is found may be a moment old, and nothing is repaired. "
         "Files that have lost their names are put into /lost+found.\n"
         "The exit status is that of fsck(8): 0, nothing is damaged; 1, all was repaired; 4, "
         "something was left; others, it could not be checked.\n",
     .examples = EXAMPLES("limpet fs check home", "limpet fs check home --repair")},
    {.path = "fs mount",
     .run = fs_mount,
     .options = OPTIONS(
         {.name = "read-only", .letter = 'r', .type = CLI_FLAG, .help = "nothing can be changed"},
         {.name = "foreground", .type = CLI_FLAG, .help = "stay until it is unmounted"},
         {.name = "memory",
          .type = CLI_SIZE,
          .value = "SIZE",
          .help = "for contents of files on their way, or kept, and for folders (default 256M)"},
         {.name = "no-names",
          .type = CLI_FLAG,
          .help = "the kernel keeps no names: slower, but what is mounted inside stays"},
         {.name = "no-follow",
          .type = CLI_FLAG,
          .help = "do not work on the processor of whoever makes requests"},
         {.name = "no-io-uring",
          .type = CLI_FLAG,
          .help = "take requests by /dev/fuse, also where the kernel offers io_uring"},
         {.name = "options",
          .letter = 'o',
          .type = CLI_TEXT,
          .value = "OPTIONS",
          .many = true,
          .help =
              "as of mount(8) and mount.fuse3(8), with commas: ro, noexec, max_read=131072 ..."}),
     .params =
         PARAMS(FS_PARAM, {.name = "folder", .type = CLI_TEXT, .complete = CLI_COMPLETE_FILE}),
     .summary = "mount a file system over a folder",
     .details =
         "The kernel checks permissions. A process of this program serves the mount until "
         "'limpet fs umount'; what fsync has acknowledged is durable, also when it is "
         "killed.\n"
         "Of -o are known: ro, nosuid, nodev, noexec, sync, dirsync, noatime and their "
         "opposites, allow_other (set for root), allow_root, auto_unmount, max_read=BYTES "
         "(or rsize=BYTES), fsname, subtype, debug. What fstab has for mount(8), and what is "
         "so anyway (acl, user_xattr, relatime ...), is taken and changes nothing.\n",
     .examples = EXAMPLES("limpet fs mount home /mnt", "limpet fs mount home /mnt -o ro,noexec")},
    {.path = "fs umount",
     .alias = "fs unmount",
     .run = fs_umount,
     .options = OPTIONS(
         {.name = "lazy", .letter = 'l', .type = CLI_FLAG, .help = "when nobody uses it any more"}),
     .params = PARAMS({.name = "folder", .type = CLI_TEXT, .complete = CLI_COMPLETE_FILE}),
     .summary = "end a mount",
     .examples = EXAMPLES("limpet fs umount /mnt")},
    {.path = NULL, .next_table = cli_commands_rbd},
};
