//! Variables and files of settings.

pub mod bucket_key;
pub mod config_file;
pub mod file_mode;
pub mod reference_variables;
pub mod secret_in_config;
pub mod unknown_variables;
