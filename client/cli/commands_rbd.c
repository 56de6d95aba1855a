/* The command table: the verbs of rbd on images. */
#include "client/cli/commands_rbd.h"

#define SIZE_OPTION                                                                                \
    {                                                                                              \
        .name = "size", .letter = 's', .type = CLI_TEXT, .value = "SIZE",                          \
        .help = "512M, 10G, 1T; M without a letter"                                                \
    }
#define LAYOUT_OPTIONS                                                                             \
    {.name = "object-size",                                                                        \
     .type = CLI_TEXT,                                                                             \
     .value = "SIZE",                                                                              \
     .help = "of the objects, 4K to 32M (default: 4M)"},                                           \
        {.name = "order",                                                                          \
         .type = CLI_NUMBER,                                                                       \
         .value = "BITS",                                                                          \
         .hidden = true,                                                                           \
         .help = "the same"},                                                                      \
        {.name = "image-format", .type = CLI_NUMBER, .value = "2", .hidden = true, .help = "2"},   \
        {.name = "new-format", .type = CLI_FLAG, .hidden = true, .help = "accepted"},              \
        {.name = "mirror-image-mode", .type = CLI_TEXT, .hidden = true, .help = "-"},              \
        RBD_JOURNAL_OPTIONS,                                                                       \
        {.name = "image-feature",                                                                  \
         .type = CLI_TEXT,                                                                         \
         .value = "FEATURES",                                                                      \
         .many = true,                                                                             \
         .help = "layering, exclusive-lock, object-map, fast-diff, deep-flatten (default: all)"},  \
        {.name = "image-shared",                                                                   \
         .type = CLI_FLAG,                                                                         \
         .help = "without the features that are for one writer at a time"},                        \
        {.name = "stripe-unit",                                                                    \
         .type = CLI_TEXT,                                                                         \
         .value = "SIZE",                                                                          \
         .help = "bytes that lie together (default: an object)"},                                  \
        {.name = "stripe-count",                                                                   \
         .type = CLI_NUMBER,                                                                       \
         .value = "N",                                                                             \
         .help = "objects that are filled together (default: 1)"},                                 \
    {                                                                                              \
        .name = "data-pool", .type = CLI_TEXT, .value = "POOL", .complete = CLI_COMPLETE_POOL,     \
        .help = "the pool of the contents (default: that of the image)"                            \
    }
#define DEST_OPTIONS                                                                               \
    {.name = "dest", .type = CLI_TEXT, .value = "NAME", .help = "the other image's name"},         \
        {.name = "dest-pool",                                                                      \
         .type = CLI_TEXT,                                                                         \
         .value = "POOL",                                                                          \
         .complete = CLI_COMPLETE_POOL,                                                            \
         .help = "its pool (default: rbd)"},                                                       \
    {                                                                                              \
        .name = "dest-namespace", .type = CLI_TEXT, .value = "NAME", .help = "its namespace"       \
    }
#define DEST_PARAM                                                                                 \
    {                                                                                              \
        .name = "dest-image-spec", .type = CLI_TEXT, .optional = true, .shown = "[POOL/]NEW"       \
    }
#define PATH_OPTION                                                                                \
    {                                                                                              \
        .name = "path", .type = CLI_TEXT, .value = "FILE", .complete = CLI_COMPLETE_FILE,          \
        .help = "the file, instead of an argument"                                                 \
    }
#define PATH_PARAM                                                                                 \
    {                                                                                              \
        .name = "path-name", .type = CLI_TEXT, .optional = true, .shown = "FILE",                  \
        .complete = CLI_COMPLETE_FILE                                                              \
    }
#define FROM_OPTION                                                                                \
    {                                                                                              \
        .name = "from-snap", .type = CLI_TEXT, .value = "SNAP",                                    \
        .help = "what has changed since this snapshot (default: since the beginning)"              \
    }
#define WHOLE_OPTION                                                                               \
    {                                                                                              \
        .name = "whole-object", .type = CLI_FLAG, .help = "in whole objects, which is faster"      \
    }
#define EXPORT_FORMAT_OPTION                                                                       \
    {                                                                                              \
        .name = "export-format", .type = CLI_NUMBER, .value = "1|2",                               \
        .help = "1: the contents (default); 2: with snapshots and metadata"                        \
    }

#define ENCRYPTION_OPTIONS                                                                         \
    {.name = "encryption-format",                                                                  \
     .type = CLI_TEXT,                                                                             \
     .value = "FORMAT",                                                                            \
     .choices = "luks1|luks2",                                                                     \
     .help = "what is in an encrypted image"},                                                     \
    {                                                                                              \
        .name = "encryption-passphrase-file", .type = CLI_TEXT, .value = "PATH",                   \
        .complete = CLI_COMPLETE_FILE, .help = "its passphrase"                                    \
    }

#define DEVICE_TYPE_OPTION                                                                         \
    {                                                                                              \
        .name = "device-type", .letter = 't', .type = CLI_TEXT, .value = "TYPE",                   \
        .choices = "ublk|nbd|loop|krbd",                                                           \
        .help = "ublk, nbd or loop; krbd: the first of these that there is (default)"              \
    }

/* The group has what the verbs share, since options may stand before the verb. */
static const struct cli_option rbd_options[] = {RBD_SNAP_SPEC, RBD_QUIET, SIZE_OPTION, RBD_PRETTY,
                                                END};
static const struct cli_option encryption_options[] = {RBD_IMAGE_SPEC, END};
static const struct cli_option work_options[] = {RBD_IMAGE_SPEC, RBD_QUIET, END};
static const struct cli_option device_list_options[] = {DEVICE_TYPE_OPTION, RBD_PRETTY, END};

const struct cli_command cli_commands_rbd[] = {
    {.path = "rbd",
     .options = rbd_options,
     .summary = "block images, with the verbs of rbd",
     .details = "An image is named [POOL/[NAMESPACE/]]IMAGE[@SNAP]; the pool is rbd if nothing is "
                "said.\n"},
    {.path = "rbd create",
     .run = rbd_create,
     .options = OPTIONS(RBD_IMAGE_SPEC, SIZE_OPTION, LAYOUT_OPTIONS, RBD_QUIET,
                        {.name = "thick-provision", .type = CLI_FLAG, .hidden = true, .help = "-"}),
     .params = PARAMS(RBD_IMAGE_PARAM),
     .summary = "make an empty image",
     .details = "It needs no space until it is written to.\n",
     .examples = EXAMPLES("limpet rbd create data/disk --size 10G",
                          "limpet rbd create data/disk --size 10G --data-pool erasure")},
    {.path = "rbd ls",
     .alias = "rbd list",
     .run = rbd_ls,
     .options = OPTIONS(RBD_WHERE, RBD_LONG, RBD_PRETTY),
     .params = PARAMS(RBD_POOL_PARAM),
     .summary = "the images of a pool"},
    {.path = "rbd info",
     .run = rbd_show,
     .options = OPTIONS(RBD_SNAP_SPEC, RBD_IMAGE_ID, RBD_PRETTY),
     .params = PARAMS(RBD_AT_PARAM),
     .summary = "size, layout, features and parent of an image"},
    {.path = "rbd status",
     .run = rbd_status,
     .options = OPTIONS(RBD_IMAGE_SPEC, RBD_PRETTY),
     .params = PARAMS(RBD_IMAGE_PARAM),
     .summary = "who has an image open"},
    {.path = "rbd du",
     .alias = "rbd disk-usage",
     .run = rbd_du,
     .options = OPTIONS(RBD_SNAP_SPEC, RBD_PRETTY, FROM_OPTION,
                        {.name = "exact",
                         .type = CLI_FLAG,
                         .help = "count what is written, not the objects that it lies in; slower"},
                        {.name = "merge-snapshots",
                         .type = CLI_FLAG,
                         .help = "one line an image, with all of its snapshots"}),
     .params = PARAMS(RBD_AT_PARAM),
     .summary = "how much space images and their snapshots use"},
    {.path = "rbd resize",
     .run = rbd_resize,
     .options = OPTIONS(RBD_IMAGE_SPEC, SIZE_OPTION, RBD_QUIET,
                        {.name = "allow-shrink",
                         .type = CLI_FLAG,
                         .help = "although what lies beyond the new end is lost"}),
     .params = PARAMS(RBD_IMAGE_PARAM),
     .summary = "change the size of an image",
     .examples = EXAMPLES("limpet rbd resize data/disk --size 20G")},
    {.path = "rbd rm",
     .alias = "rbd remove",
     .run = rbd_rm,
     .options = work_options,
     .params = PARAMS(RBD_IMAGE_PARAM),
     .summary = "remove an image",
     .details = "An image that is open anywhere, has snapshots or is in a group stays. Where a "
                "removal was interrupted, another one goes on with it.\n"},
    {.path = "rbd mv",
     .alias = "rbd rename",
     .run = rbd_mv,
     .options = OPTIONS(RBD_IMAGE_SPEC, DEST_OPTIONS),
     .params = PARAMS(RBD_IMAGE_PARAM, DEST_PARAM),
     .summary = "give an image another name, in its pool"},
    {.path = "rbd cp",
     .alias = "rbd copy",
     .run = rbd_cp,
     .options = OPTIONS(RBD_SNAP_SPEC, DEST_OPTIONS, LAYOUT_OPTIONS, RBD_QUIET,
                        {.name = "sparse-size",
                         .type = CLI_TEXT,
                         .hidden = true,
                         .help = "accepted: pieces of 4M"}),
     .params = PARAMS(RBD_AT_PARAM, DEST_PARAM),
     .summary = "copy an image, or a snapshot of it, to a new image"},
    {.path = "rbd deep cp",
     .alias = "rbd deep copy",
     .run = rbd_deep_cp,
     .options = OPTIONS(
         RBD_SNAP_SPEC, DEST_OPTIONS, LAYOUT_OPTIONS, RBD_QUIET,
         {.name = "flatten", .type = CLI_FLAG, .help = "the copy of a clone needs no parent"}),
     .params = PARAMS(RBD_AT_PARAM, DEST_PARAM),
     .summary = "copy an image with its snapshots"},
    {.path = "rbd deep", .summary = "copies of images with their snapshots"},
    {.path = "rbd clone",
     .run = rbd_clone,
     .options = OPTIONS(RBD_SNAP_SPEC, DEST_OPTIONS, LAYOUT_OPTIONS,
                        {.name = "rbd-default-clone-format",
                         .type = CLI_NUMBER,
                         .value = "1|2",
                         .help = "1: of protected snapshots only (default: 2)"}),
     .params = PARAMS(RBD_SNAP_PARAM, DEST_PARAM),
     .summary = "make an image that begins as a snapshot, and shares its data",
     .examples =
         EXAMPLES("limpet rbd snap create data/base@v1", "limpet rbd clone data/base@v1 data/vm1")},
    {.path = "rbd children",
     .run = rbd_children,
     .options = OPTIONS(RBD_SNAP_SPEC, RBD_PRETTY, RBD_ALL("those in the trash, too"), RBD_SNAP_ID,
                        {.name = "descendants", .type = CLI_FLAG, .help = "clones of clones, too"}),
     .params = PARAMS(RBD_AT_PARAM),
     .summary = "the clones of an image, or of a snapshot"},
    {.path = "rbd flatten",
     .run = rbd_flatten,
     .options = work_options,
     .params = PARAMS(RBD_IMAGE_PARAM),
     .summary = "copy what a clone shares with its parent, so that it needs none"},
    {.path = "rbd sparsify",
     .run = rbd_sparsify,
     .options = OPTIONS(RBD_IMAGE_SPEC, RBD_QUIET,
                        {.name = "sparse-size",
                         .type = CLI_TEXT,
                         .value = "SIZE",
                         .help = "zeroes of so many bytes together (default: 4K)"}),
     .params = PARAMS(RBD_IMAGE_PARAM),
     .summary = "give back space that holds zeroes"},
    {.path = "rbd export",
     .run = rbd_export,
     .options =
         OPTIONS(RBD_SNAP_SPEC, PATH_OPTION, RBD_QUIET, EXPORT_FORMAT_OPTION, ENCRYPTION_OPTIONS),
     .params = PARAMS(RBD_AT_PARAM, PATH_PARAM),
     .summary = "the contents of an image into a new file, or to standard output ('-')",
     .examples = EXAMPLES("limpet rbd export data/disk@monday monday.img",
                          "limpet rbd export data/disk - | zstd > disk.zst")},
    {.path = "rbd import",
     .run = rbd_import,
     .options = OPTIONS(RBD_WHERE, RBD_NAME, DEST_OPTIONS, LAYOUT_OPTIONS, PATH_OPTION, RBD_QUIET,
                        EXPORT_FORMAT_OPTION, ENCRYPTION_OPTIONS,
                        {.name = "sparse-size",
                         .type = CLI_TEXT,
                         .value = "SIZE",
                         .help = "zeroes of so many bytes together are not written (default: 4K)"}),
     .params = PARAMS(PATH_PARAM, DEST_PARAM),
     .summary = "a new image with the contents of a file, or of standard input ('-')",
     .details =
         "With --encryption-format the image is a new encrypted one, larger than the file by its "
         "header.\n",
     .examples = EXAMPLES("limpet rbd import disk.img data/disk",
                          "limpet rbd import disk.img data/secret --encryption-format luks2 "
                          "--encryption-passphrase-file passphrase.txt")},
    {.path = "rbd diff",
     .run = rbd_diff,
     .options = OPTIONS(RBD_SNAP_SPEC, FROM_OPTION, WHOLE_OPTION, RBD_PRETTY),
     .params = PARAMS(RBD_AT_PARAM),
     .summary = "which parts of an image have changed since a snapshot, or are used"},
    {.path = "rbd export-diff",
     .run = rbd_export_diff,
     .options = OPTIONS(RBD_SNAP_SPEC, FROM_OPTION, WHOLE_OPTION, PATH_OPTION, RBD_QUIET),
     .params = PARAMS(RBD_AT_PARAM, PATH_PARAM),
     .summary = "what has changed since a snapshot, into a file",
     .examples = EXAMPLES("limpet rbd export-diff data/disk@monday full",
                          "limpet rbd export-diff --from-snap monday data/disk@tuesday tuesday")},
    {.path = "rbd import-diff",
     .run = rbd_import_diff,
     .options = OPTIONS(RBD_IMAGE_SPEC, PATH_OPTION, RBD_QUIET,
                        {.name = "sparse-size",
                         .type = CLI_TEXT,
                         .value = "SIZE",
                         .hidden = true,
                         .help = "accepted"}),
     .params = PARAMS(PATH_PARAM, RBD_IMAGE_PARAM),
     .summary = "apply to an image what 'export-diff' has written"},
    {.path = "rbd merge-diff",
     .run = rbd_merge_diff,
     .options = OPTIONS(PATH_OPTION, RBD_QUIET),
     .params = PARAMS(
         {.name = "first", .type = CLI_TEXT, .complete = CLI_COMPLETE_FILE},
         {.name = "second", .type = CLI_TEXT, .complete = CLI_COMPLETE_FILE},
         {.name = "merged", .type = CLI_TEXT, .optional = true, .complete = CLI_COMPLETE_FILE}),
     .summary = "one difference of two that follow each other"},
    {.path = "rbd encryption", .options = encryption_options, .summary = "encrypted images"},
    {.path = "rbd encryption format",
     .run = rbd_encryption_format,
     .options = OPTIONS(RBD_IMAGE_SPEC, {.name = "cipher-alg",
                                         .type = CLI_TEXT,
                                         .value = "CIPHER",
                                         .choices = "aes-128|aes-256",
                                         .help = "aes-128 or aes-256 (default)"}),
     .params = PARAMS({.name = "image-spec", .type = CLI_TEXT, .shown = "[POOL/]IMAGE"},
                      {.name = "format", .type = CLI_TEXT, .shown = "luks1|luks2"},
                      {.name = "passphrase-file", .type = CLI_TEXT, .complete = CLI_COMPLETE_FILE}),
     .summary = "make an image a new encrypted one; what it had is lost",
     .details = "A LUKS header takes the beginning of the image. cryptsetup and qemu open it, "
                "too, and 'limpet rbd export' and others with --encryption-format.\n",
     .examples = EXAMPLES("limpet rbd encryption format data/disk luks2 passphrase.txt")},
    {.path = "rbd bench",
     .run = rbd_bench,
     .options =
         OPTIONS(RBD_IMAGE_SPEC,
                 {.name = "io-type",
                  .type = CLI_TEXT,
                  .value = "TYPE",
                  .choices = "read|write|readwrite|rw",
                  .help = "read, write or readwrite"},
                 {.name = "io-size", .type = CLI_TEXT, .value = "SIZE", .help = "default: 4K"},
                 {.name = "io-threads",
                  .type = CLI_NUMBER,
                  .value = "N",
                  .help = "requests at a time (default: 16)"},
                 {.name = "io-total", .type = CLI_TEXT, .value = "SIZE", .help = "default: 1G"},
                 {.name = "io-pattern",
                  .type = CLI_TEXT,
                  .value = "PATTERN",
                  .choices = "rand|seq|full-seq",
                  .help = "rand or seq (default)"},
                 {.name = "rw-mix-read",
                  .type = CLI_NUMBER,
                  .value = "PERCENT",
                  .help = "reads among them (default: 50)"},
                 ENCRYPTION_OPTIONS),
     .params = PARAMS(RBD_IMAGE_PARAM),
     .summary = "how fast an image is read or written; writing destroys its contents"},
    {.path = "rbd nbd",
     .run = rbd_nbd,
     .options = OPTIONS(
         RBD_SNAP_SPEC,
         {.name = "socket",
          .type = CLI_TEXT,
          .value = "PATH",
          .complete = CLI_COMPLETE_FILE,
          .help = "serve on this Unix socket"},
         {.name = "port",
          .type = CLI_NUMBER,
          .value = "N",
          .help = "serve on this port (default: 10809)"},
         {.name = "address",
          .type = CLI_TEXT,
          .value = "ADDRESS",
          .help = "of this address (default: 127.0.0.1)"},
         {.name = "read-only", .type = CLI_FLAG, .help = "refuse writes"},
         {.name = "exclusive",
          .type = CLI_FLAG,
          .help = "take the image's lock at once, and keep it (default: taken with the first "
                  "write, and given to whoever asks)"},
         {.name = "tls-certificates",
          .type = CLI_TEXT,
          .value = "FOLDER",
          .complete = CLI_COMPLETE_FILE,
          .help = "let nobody in without TLS, with the certificates of this folder: ca-cert.pem, "
                  "server-cert.pem, server-key.pem, perhaps ca-crl.pem"},
         {.name = "tls-verify-peer",
          .type = CLI_FLAG,
          .help = "clients, too, show a certificate of that authority"},
         {.name = "tls-psk",
          .type = CLI_TEXT,
          .value = "FILE",
          .complete = CLI_COMPLETE_FILE,
          .help = "let nobody in without TLS, with the keys of this file: lines USER:KEY, as "
                  "psktool writes them"},
         {.name = "threads",
          .type = CLI_NUMBER,
          .value = "N",
          .help = "requests of a client under way at a time (default: 128)"},
         ENCRYPTION_OPTIONS),
     .params = PARAMS(RBD_AT_PARAM),
     .summary = "serve an image to NBD clients, such as QEMU, until it is told to end",
     .details =
         "Whoever reaches the socket or the port can read the image, and write to it unless "
         "--read-only is given. Without a place to listen at it takes sockets that systemd "
         "passes, if it does.\n"
         "SIGTERM or SIGINT ends it when the requests under way are; a second one at once.\n",
     .examples = EXAMPLES("limpet rbd nbd data/disk --socket /run/disk.sock",
                          "nbdcopy disk.raw 'nbd+unix:///?socket=/run/disk.sock'")},
    {.path = "rbd device", .options = rbd_options, .summary = "images as block devices"},
    {.path = "rbd device map",
     .alias = "rbd map",
     .run = rbd_device_map,
     .options =
         OPTIONS(
             RBD_SNAP_SPEC, DEVICE_TYPE_OPTION,
             {.name = "read-only", .type = CLI_FLAG, .help = "a device that cannot be written to"},
             {.name = "exclusive",
              .type = CLI_FLAG,
              .help = "keep the image's lock: nobody else can write to it, or map it so"},
             {.name = "options",
              .letter = 'o',
              .type = CLI_TEXT,
              .value = "OPTIONS",
              .many = true,
              .help = "ro, rw, exclusive, block_size=512|4096, encryption-format=luks1|luks2, "
                      "encryption-passphrase-file=PATH, with commas"},
             ENCRYPTION_OPTIONS, {.name = "cookie", .type = CLI_TEXT, .hidden = true, .help = "-"},
             {.name = "show-cookie", .type = CLI_FLAG, .hidden = true, .help = "-"},
             {.name = "quiesce", .type = CLI_FLAG, .hidden = true, .help = "-"},
             {.name = "quiesce-hook", .type = CLI_TEXT, .hidden = true, .help = "-"}),
     .params = PARAMS(RBD_AT_PARAM),
     .summary = "make an image a block device, and print its name",
     .details =
         "The device is one of ublk where the kernel has that (/dev/ublk-control, Linux 6.5), else "
         "one of its NBD client where there is /dev/nbd0 and the package nbd-client, else a loop "
         "device on a file that a process of this program shows through FUSE. It needs root. A "
         "snapshot can only be read.\n"
         "The process stays until the device is unmapped, whatever happens to OSDs and monitors "
         "meanwhile. When it is killed, a device of ublk waits: mapping the image again in the "
         "same "
         "way goes on with it. Others give errors; mapping the image again cleans up. Everything "
         "is "
         "there whose writing had been confirmed.\n",
     .examples = EXAMPLES("limpet rbd device map data/disk", "mount /dev/loop0 /mnt")},
    {.path = "rbd device unmap",
     .alias = "rbd unmap",
     .run = rbd_device_unmap,
     .options = OPTIONS(RBD_SNAP_SPEC, DEVICE_TYPE_OPTION,
                        {.name = "options",
                         .letter = 'o',
                         .type = CLI_TEXT,
                         .value = "force",
                         .help = "force: although it is in use; what is under way fails"},
                        RBD_FORCE("the same")),
     .params = PARAMS({.name = "image-or-snap-or-device-spec",
                       .type = CLI_TEXT,
                       .optional = true,
                       .shown = "DEVICE|[POOL/]IMAGE[@SNAP]",
                       .complete = CLI_COMPLETE_FILE}),
     .summary = "end a mapped device",
     .examples = EXAMPLES("umount /mnt", "limpet rbd device unmap /dev/loop0")},
    {.path = "rbd device list",
     .alias = "rbd device ls",
     .run = rbd_device_list,
     .options = device_list_options,
     .summary = "the mapped images of this machine"},
    {.path = "rbd showmapped",
     .run = rbd_device_list,
     .options = device_list_options,
     .hidden = true,
     .summary = "the mapped images of this machine"},
    {.path = NULL, .next_table = cli_commands_rbd_more},
};
