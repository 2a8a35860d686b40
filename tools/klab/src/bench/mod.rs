//! Measurements. The machine may be busy: what is told are ratios to a run just before.

pub mod cow;
pub mod docs;
pub mod machine;
pub mod pin;
