/*
 * Options of block images that are set for a pool or one image, as metadata of the name "conf_" and
 * theirs: for librbd.so.1 and the command-line program, which list them.
 */
#ifndef LIMPET_COMMON_IMAGE_OPTIONS_H
#define LIMPET_COMMON_IMAGE_OPTIONS_H

#define IMAGE_OPTION_PREFIX "conf_"

struct image_option {
    const char *name;
    const char *value; /* When nobody has set it. */
};

static const struct image_option image_options[] = {
    {"rbd_qos_bps_burst", "0"},        {"rbd_qos_bps_limit", "0"},
    {"rbd_qos_iops_burst", "0"},       {"rbd_qos_iops_limit", "0"},
    {"rbd_qos_read_bps_burst", "0"},   {"rbd_qos_read_bps_limit", "0"},
    {"rbd_qos_read_iops_burst", "0"},  {"rbd_qos_read_iops_limit", "0"},
    {"rbd_qos_write_bps_burst", "0"},  {"rbd_qos_write_bps_limit", "0"},
    {"rbd_qos_write_iops_burst", "0"}, {"rbd_qos_write_iops_limit", "0"},
};
enum { IMAGE_OPTIONS = sizeof image_options / sizeof image_options[0] };

#endif
