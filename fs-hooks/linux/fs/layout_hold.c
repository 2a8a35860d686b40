// SPDX-License-Identifier: GPL-2.0
/*
 * A holder of pinned layouts for tests: layout/hold in debugfs.
 *
 * Whoever has it open can hold one file.  A write is a command:
 *
 *	pin PATH		pin a file
 *	pin-unwritten PATH	the same, if all of its extents are unwritten
 *	extend SIZE		make it larger
 *	unpin			let go of it, as closing does
 */
#include <linux/dcache.h>
#include <linux/debugfs.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/layout.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

struct layout_hold {
	struct layout_context	ctx;
	struct mutex		lock;		/* of the commands */
	struct file		*file;		/* what is pinned, or NULL */
};

static int layout_hold_actor(struct layout_context *ctx,
			     const struct layout_extent *extent)
{
	return 0;
}

static int layout_hold_pin(struct layout_hold *hold, const char *path,
			   unsigned int require)
{
	struct file *file;
	int error;

	if (hold->file)
		return -EBUSY;
	file = filp_open(path, O_RDWR | O_LARGEFILE, 0);
	if (IS_ERR(file))
		return PTR_ERR(file);

	hold->ctx = (struct layout_context) {
		.actor		= layout_hold_actor,
		.name		= "test",
		.require	= require,
	};
	error = vfs_pin_layout(file, &hold->ctx);
	if (!error)
		hold->file = get_file(file);
	fput(file);
	return error;
}

static void layout_hold_unpin(struct layout_hold *hold)
{
	if (!hold->file)
		return;
	vfs_unpin_layout(hold->file, &hold->ctx);
	fput(hold->file);
	hold->file = NULL;
}

static int layout_hold_command(struct layout_hold *hold, char *arg)
{
	const char *command = strsep(&arg, " ");
	loff_t size;
	int error;

	if (!strcmp(command, "unpin") && !arg) {
		layout_hold_unpin(hold);
		return 0;
	}
	if (!arg)
		return -EINVAL;
	if (!strcmp(command, "pin"))
		return layout_hold_pin(hold, arg, 0);
	if (!strcmp(command, "pin-unwritten"))
		return layout_hold_pin(hold, arg, LAYOUT_REQUIRE_UNWRITTEN);
	if (strcmp(command, "extend") || !hold->file)
		return -EINVAL;
	error = kstrtoll(arg, 0, &size);
	if (error)
		return error;
	return vfs_extend_pinned_layout(hold->file, &hold->ctx, size);
}

static ssize_t layout_hold_write(struct file *file, const char __user *buf,
				 size_t len, loff_t *pos)
{
	struct layout_hold *hold = file->private_data;
	char *line;
	int error;

	if (len > PATH_MAX)
		return -E2BIG;
	line = memdup_user_nul(buf, len);
	if (IS_ERR(line))
		return PTR_ERR(line);
	mutex_lock(&hold->lock);
	error = layout_hold_command(hold, strim(line));
	mutex_unlock(&hold->lock);
	kfree(line);
	return error ?: len;
}

static int layout_hold_open(struct inode *inode, struct file *file)
{
	struct layout_hold *hold = kzalloc_obj(*hold);

	if (!hold)
		return -ENOMEM;
	mutex_init(&hold->lock);
	file->private_data = hold;
	return 0;
}

static int layout_hold_release(struct inode *inode, struct file *file)
{
	struct layout_hold *hold = file->private_data;

	layout_hold_unpin(hold);
	kfree(hold);
	return 0;
}

static const struct file_operations layout_hold_fops = {
	.owner		= THIS_MODULE,
	.open		= layout_hold_open,
	.write		= layout_hold_write,
	.llseek		= noop_llseek,
	.release	= layout_hold_release,
};

static int __init layout_hold_init(void)
{
	struct dentry *dir = debugfs_lookup("layout", NULL);

	if (!dir)
		return -ENOENT;
	debugfs_create_file("hold", 0200, dir, NULL, &layout_hold_fops);
	dput(dir);
	return 0;
}
late_initcall(layout_hold_init);
