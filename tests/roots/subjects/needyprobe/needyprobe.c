// SPDX-License-Identifier: GPL-2.0
/* A module that needs another dkms module: at build time its symbol table, later the module. */
#include <linux/init.h>
#include <linux/module.h>

void *plainprobe_kept(void);

static int __init needyprobe_init(void)
{
	return plainprobe_kept() ? 0 : -ENODEV;
}

static void __exit needyprobe_exit(void)
{
}

module_init(needyprobe_init);
module_exit(needyprobe_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("test module that depends on plainprobe");
MODULE_VERSION("1.0");
