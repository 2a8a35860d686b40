// SPDX-License-Identifier: GPL-2.0

//! Each file of the driver against a plain model of what it is to do.

#[cfg(not(feature = "loom"))]
mod change_map;
#[cfg(not(feature = "loom"))]
mod chunk_map;
#[cfg(feature = "loom")]
mod concurrent;
#[cfg(not(feature = "loom"))]
mod corpus;
#[cfg(not(feature = "loom"))]
mod cow;
#[cfg(not(feature = "loom"))]
mod jobs;
#[cfg(not(feature = "loom"))]
mod ranges;
#[cfg(not(feature = "loom"))]
mod shortage;
#[cfg(not(feature = "loom"))]
mod space;
#[cfg(not(feature = "loom"))]
mod wire;
