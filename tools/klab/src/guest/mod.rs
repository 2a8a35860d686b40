//! Guests: what is asked of them, watching them, and their first process.

pub mod console;
pub mod init;
pub mod job;
pub mod session;
