// SPDX-License-Identifier: GPL-2.0
/*
 * A changed-block tracker, made as those of backup agents are: it takes the place of a disk's
 * submit_bio, counts what is written, and hands every bio on to blk_mq_submit_bio. Kernels do not
 * export that one, so that its address was looked up in System.map when this was built; relative to
 * an exported function, so that KASLR does not matter.
 *
 * Loading does nothing. Tracking begins when the path of a disk is written to the parameter "track".
 */
#include <linux/atomic.h>
#include <linux/blkdev.h>
#include <linux/blk-mq.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/version.h>
#include "addresses.h"

#define LOOKED_UP(symbol) \
	(ADDRESS_##symbol != 0 ? (void *)((char *)kfree + (long)(ADDRESS_##symbol - ADDRESS_kfree)) : NULL)

#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 16, 0)
typedef blk_qc_t submitted;
#else
typedef void submitted;
#endif

static submitted (*found_blk_mq_submit_bio)(struct bio *bio) __used = LOOKED_UP(blk_mq_submit_bio);

static struct block_device *tracked;
static const struct block_device_operations *its_own;
static struct block_device_operations with_tracking;
static char path[64];
static atomic_long_t written = ATOMIC_LONG_INIT(0);

static submitted track_bio(struct bio *bio)
{
	if (op_is_write(bio_op(bio)))
		atomic_long_add(bio_sectors(bio), &written);
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 16, 0)
	/* It gives up the reference of its caller, who gives up one of its own. */
	percpu_ref_get(&tracked->bd_disk->queue->q_usage_counter);
#endif
	return READ_ONCE(found_blk_mq_submit_bio)(bio);
}

/* ---- opening a disk by its path */

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
static struct block_device *open_disk(void)
{
	return blkdev_get_by_path(path, FMODE_READ, NULL);
}

static void close_disk(void)
{
	blkdev_put(tracked, FMODE_READ);
}
#else
static struct file *opened;

static struct block_device *open_disk(void)
{
	opened = bdev_file_open_by_path(path, BLK_OPEN_READ, NULL, NULL);
	return IS_ERR(opened) ? ERR_CAST(opened) : file_bdev(opened);
}

static void close_disk(void)
{
	fput(opened);
}
#endif

/* ---- the parameters */

static int begin_tracking(const char *value, const struct kernel_param *parameter)
{
	struct block_device *disk;

	if (tracked)
		return -EBUSY;
	strscpy(path, value, sizeof(path));
	strim(path);
	disk = open_disk();
	if (IS_ERR(disk)) {
		path[0] = 0;
		return PTR_ERR(disk);
	}
	tracked = disk;
	its_own = disk->bd_disk->fops;
	with_tracking = *its_own;
	with_tracking.submit_bio = track_bio;
	WRITE_ONCE(disk->bd_disk->fops, &with_tracking);
#ifdef BD_HAS_SUBMIT_BIO
	bdev_set_flag(disk, BD_HAS_SUBMIT_BIO);
#endif
	pr_info("blocktrack: tracks %s\n", path);
	return 0;
}

static const struct kernel_param_ops track_parameter = {
	.set = begin_tracking,
	.get = param_get_string,
};
static struct kparam_string path_parameter = { .maxlen = sizeof(path), .string = path };
module_param_cb(track, &track_parameter, &path_parameter, 0644);
MODULE_PARM_DESC(track, "path of the disk to track");

static int get_written(char *buffer, const struct kernel_param *parameter)
{
	return sprintf(buffer, "%ld\n", atomic_long_read(&written));
}

static const struct kernel_param_ops written_parameter = { .get = get_written };
module_param_cb(written, &written_parameter, NULL, 0444);
MODULE_PARM_DESC(written, "sectors written to it since then");

static int __init blocktrack_init(void)
{
	return 0;
}

static void __exit blocktrack_exit(void)
{
	if (!tracked)
		return;
#ifdef BD_HAS_SUBMIT_BIO
	bdev_clear_flag(tracked, BD_HAS_SUBMIT_BIO);
#endif
	WRITE_ONCE(tracked->bd_disk->fops, its_own);
	close_disk();
}

module_init(blocktrack_init);
module_exit(blocktrack_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("test module that tracks writes through an address from System.map");
MODULE_VERSION("1.0");
