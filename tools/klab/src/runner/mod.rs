//! Machines that can run a guest.

mod command_line;
pub mod machine;
#[cfg(test)]
pub mod mock;
mod process;
pub mod qemu;
pub mod uml;
