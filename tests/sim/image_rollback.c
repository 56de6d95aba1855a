/* What the library does inside: apart, since its names are those of the model, too. */
#include "client/image/snap.h"

#include <errno.h>
#include <string.h>

int roll_back_all_the_same(struct limpet_image *handle, const char *name);

int roll_back_all_the_same(struct limpet_image *handle, const char *name)
{
    struct limpet_image_snap *list;
    size_t n;
    int rc = limpet_image_snap_list(handle, &list, &n);
    if (rc != 0)
        return rc;
    rc = -ENOENT;
    for (size_t i = 0; i < n && rc == -ENOENT; i++) {
        if (strcmp(list[i].name, name) == 0)
            rc = snap_roll_back(handle, list[i].id, NULL, NULL);
    }
    limpet_free(list);
    return rc;
}
