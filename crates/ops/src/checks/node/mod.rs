//! The node's directory.

pub mod directory;
pub mod free;
pub mod leftovers;
pub mod no_secrets;
pub mod private;
pub mod residual;
pub mod running;
pub mod state;
