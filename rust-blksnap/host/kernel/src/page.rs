// SPDX-License-Identifier: GPL-2.0

//! Pages.

/// Bytes of a page, as a power of two.
pub const PAGE_SHIFT: usize = 12;
/// Bytes of a page.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;
