//! What the journal tells.

pub mod gather;
pub mod grows;
pub mod in_step;
pub mod in_time;
pub mod loss;
pub mod outer_steps;
pub mod present;
pub mod steps;
pub mod upload_forecast;
pub mod upload_margin;
pub mod version;
pub mod warnings;
pub mod whole;
pub mod window;
