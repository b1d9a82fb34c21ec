// SPDX-License-Identifier: GPL-2.0
/* A module as most are: exported symbols only, nothing looked up when it is built. */
#include <linux/init.h>
#include <linux/module.h>
#include <linux/slab.h>

static void *kept;

void *plainprobe_kept(void)
{
	return kept;
}
EXPORT_SYMBOL_GPL(plainprobe_kept);

static int __init plainprobe_init(void)
{
	kept = kzalloc(64, GFP_KERNEL);
	return kept ? 0 : -ENOMEM;
}

static void __exit plainprobe_exit(void)
{
	kfree(kept);
}

module_init(plainprobe_init);
module_exit(plainprobe_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("test module that reads no map");
MODULE_VERSION("1.0");
