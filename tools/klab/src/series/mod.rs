//! The series of kernel changes: mails beside real source files, and the way to git and back.

pub mod apply;
pub mod check;
pub mod format;
pub mod import;
pub mod mail;
pub mod steps;
pub mod store;
pub mod tree;
