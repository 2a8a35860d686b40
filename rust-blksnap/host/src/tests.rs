// SPDX-License-Identifier: GPL-2.0

//! Each file of the driver against a plain model of what it is to do.

#[cfg(not(feature = "loom"))]
mod ahead;
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

/// So many cases, or a few where the interpreter makes each take as long as many.
#[cfg(not(feature = "loom"))]
fn cases(cases: u32) -> proptest::prelude::ProptestConfig {
    proptest::prelude::ProptestConfig {
        cases: if cfg!(miri) {
            cases.div_ceil(100)
        } else {
            cases
        },
        failure_persistence: None,
        ..Default::default()
    }
}
