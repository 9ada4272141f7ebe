//! The machine.

pub mod cores;
pub mod disk_rate;
pub mod disk_space;
pub mod load;
pub mod locked_memory;
pub mod memory;
pub mod open_files;
pub mod sync_time;
