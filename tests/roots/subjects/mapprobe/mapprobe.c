// SPDX-License-Identifier: GPL-2.0
/*
 * A module that calls kernel functions which are not exported, at addresses that were looked up
 * when it was built. Relative to an exported function, so that KASLR does not matter.
 */
#include <linux/init.h>
#include <linux/module.h>
#include <linux/slab.h>
#include "addresses.h"

#define LOOKED_UP(symbol) \
	(ADDRESS_##symbol != 0 ? (void *)((char *)kfree + (long)(ADDRESS_##symbol - ADDRESS_kfree)) : NULL)

static int (*found_nr_processes)(void) __used = LOOKED_UP(nr_processes);
static unsigned long (*found_get_taint)(void) __used = LOOKED_UP(get_taint);
static void (*found_nowhere)(void) __used = LOOKED_UP(mapprobe_no_kernel_has_this);

static bool use;
module_param(use, bool, 0444);
MODULE_PARM_DESC(use, "call what was looked up, as the first synced block would");

static int __init mapprobe_init(void)
{
	pr_info("mapprobe: addresses from %s\n", MAP);
	if (use)
		pr_info("mapprobe: %d processes, taint %lu\n",
			READ_ONCE(found_nr_processes)(), READ_ONCE(found_get_taint)());
	return 0;
}

static void __exit mapprobe_exit(void)
{
	if (READ_ONCE(found_nowhere))
		READ_ONCE(found_nowhere)();
}

module_init(mapprobe_init);
module_exit(mapprobe_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("test module that reads System.map when it is built");
MODULE_VERSION("1.0");
MODULE_INFO(map, MAP);
