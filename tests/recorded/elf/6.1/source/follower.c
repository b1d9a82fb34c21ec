// SPDX-License-Identifier: GPL-2.0
// Imports a symbol of another out-of-tree module.
#include <linux/module.h>
struct bio;
int tracker_probe(struct bio *bio);
static int __init follower_init(void) { return tracker_probe(NULL); }
module_init(follower_init);
MODULE_LICENSE("GPL");
