// SPDX-License-Identifier: GPL-2.0
// Looks kernel symbols up the way dattobd does: a pointer relative to an exported symbol, or NULL.
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/blkdev.h>
#include "addresses.h"
#define RELATIVE(type, address) \
	((address) != 0 ? (type)((address) + (long long)(((void *)kfree) - (void *)KFREE_ADDR)) : NULL)

void (*tracker_submit_bio)(struct bio *) = RELATIVE(void (*)(struct bio *), BLK_MQ_SUBMIT_BIO_ADDR);
struct super_block *(*tracker_get_super)(struct block_device *) =
	RELATIVE(struct super_block *(*)(struct block_device *), GET_SUPER_ADDR);
static void *(*tracker_not_there)(void) = RELATIVE(void *(*)(void), NOT_THERE_ADDR);
static unsigned long *tracker_raw = (unsigned long *)SYS_CALL_TABLE_ADDR;
static void (*tracker_named)(const void *) = kfree;
static int tracker_local;
static int *tracker_own = &tracker_local;

int tracker_probe(struct bio *bio);
int tracker_probe(struct bio *bio)
{
	if (tracker_submit_bio)
		tracker_submit_bio(bio);
	if (READ_ONCE(tracker_not_there))
		tracker_not_there();
	if (READ_ONCE(tracker_raw))
		(*READ_ONCE(tracker_own))++;
	READ_ONCE(tracker_named)(tracker_get_super(NULL));
	WRITE_ONCE(tracker_not_there, NULL);
	WRITE_ONCE(tracker_raw, NULL);
	WRITE_ONCE(tracker_named, NULL);
	WRITE_ONCE(tracker_own, NULL);
	return 0;
}
EXPORT_SYMBOL(tracker_probe);
MODULE_LICENSE("GPL");
MODULE_VERSION("0.12.0");
MODULE_DESCRIPTION("fixture of the tests; does nothing useful");
