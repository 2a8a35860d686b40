//! Machines that can run a guest.

pub mod machine;
#[cfg(test)]
pub mod mock;
pub mod uml;
