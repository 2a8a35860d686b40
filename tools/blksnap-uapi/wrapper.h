/* SPDX-License-Identifier: GPL-2.0-only */
/* What bindgen reads. */
#include "blk-filter.h"
#include "blksnap.h"
