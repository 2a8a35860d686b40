// SPDX-License-Identifier: GPL-2.0

//! Disks that take bios.

use super::bio::Bio;
use crate::sync::Arc;

/// What such a disk does.
pub trait BioDriver {
    /// Takes a bio.
    fn submit_bio(this: &Arc<Self>, bio: Bio);
}
