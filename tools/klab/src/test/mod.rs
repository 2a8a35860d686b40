//! Every test there is: on the host, of the series, in the kernel, and of filesystems in guests.

pub mod board;
pub mod fstests;
pub mod harness;
pub mod host;
pub mod isolation;
pub mod junit;
pub mod ktap;
pub mod kunit;
pub mod series;
pub mod stock;
pub mod suite;
pub mod upstream;
