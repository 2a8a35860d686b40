//! What copy-on-write costs: the bare device, blksnap and dm-snapshot beside each other.

pub mod aio;
pub mod device;
pub mod guest;
pub mod host;
pub mod load;
pub mod measures;
pub mod model;
pub mod plot;
pub mod system;
