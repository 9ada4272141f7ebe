//! Which engine runs array programs: asked for in one place, by every command that trains or evaluates.

use std::sync::Arc;
use templar_tensor::{Cpu, Executor};

/// The engine of this process: the CPU.
pub fn executor() -> Arc<dyn Executor> {
    Arc::new(Cpu::new())
}
