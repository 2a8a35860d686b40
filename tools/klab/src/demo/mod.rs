//! The demonstration: a live filesystem is snapshotted into a file that lies on it.

pub mod digest;
pub mod guest;
pub mod host;
pub mod picture;
pub mod report;
pub mod tamper;
pub mod writer;
