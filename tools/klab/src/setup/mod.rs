//! Everything the machine must have, and how to get what it lacks.

pub mod apt;
pub mod base;
pub mod bindgen;
pub mod doctor;
pub mod ensure;
pub mod machine;
pub mod rust_src;
