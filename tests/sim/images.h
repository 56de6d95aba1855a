/*
 * Clients of the simulation that use block images: client/image and client/object in processes of
 * their own (fibers.h), and a model of each image (image_model.h) that says what they may see.
 *
 * Checked are: what reads return; that a snapshot never changes and is of the moment at which it
 * was made; that differences name all that differs; that the object map knows of every object; who
 * writes (image-alone); that an image which a dead client has half made, or half removed, can be
 * removed; and at the end that nothing is left when all are.
 */
#ifndef LIMPET_TESTS_SIM_IMAGES_H
#define LIMPET_TESTS_SIM_IMAGES_H

#include "tests/sim/cluster.h"
#include "tests/sim/scenario.h"

struct images;

/* Before the clients start: all but the administrator are such clients. NULL: there are none. */
struct images *images_create(struct cluster *cluster, const struct scenario *scenario);
/* The pools are there. */
void images_start(struct images *images);
/*
 * Faults are over: everybody stops, then one client checks everything and removes it. False: the
 * cluster has failed.
 */
bool images_finish(struct images *images, uint64_t ns);
void images_destroy(struct images *images);
/* Operations that were answered. */
uint32_t images_count(const struct images *images);

#endif
