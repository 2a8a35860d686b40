/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Names of errno values, so that golden output does not depend on the C
 * library's wording or on the numbers of an architecture.
 */
#ifndef ERRNAME_H
#define ERRNAME_H

#include <errno.h>
#include <stdio.h>

static inline const char *errname(int err)
{
	static char unnamed[24];

	switch (err < 0 ? -err : err) {
	case 0: return "ok";
#define NAMED(e) case e: return #e
	NAMED(EPERM); NAMED(ENOENT); NAMED(ESRCH); NAMED(EINTR); NAMED(EIO); NAMED(ENXIO);
	NAMED(E2BIG); NAMED(EBADF); NAMED(EAGAIN); NAMED(ENOMEM);
	NAMED(EACCES); NAMED(EFAULT); NAMED(ENOTBLK); NAMED(EBUSY);
	NAMED(EEXIST); NAMED(EXDEV); NAMED(ENODEV); NAMED(ENOTDIR);
	NAMED(EISDIR); NAMED(EINVAL); NAMED(ENOTTY); NAMED(ETXTBSY);
	NAMED(EFBIG); NAMED(ENOSPC); NAMED(ESPIPE); NAMED(EROFS);
	NAMED(EMLINK); NAMED(EPIPE); NAMED(ERANGE); NAMED(ENAMETOOLONG);
	NAMED(ENOSYS); NAMED(ELOOP); NAMED(ENODATA); NAMED(EOVERFLOW);
	NAMED(EOPNOTSUPP); NAMED(EALREADY); NAMED(EINPROGRESS);
	NAMED(ESTALE); NAMED(EUCLEAN); NAMED(EREMOTEIO); NAMED(ETIMEDOUT);
	NAMED(ENOKEY);
#undef NAMED
	}
	snprintf(unnamed, sizeof(unnamed), "errno %d", err);
	return unnamed;
}

#endif /* ERRNAME_H */
