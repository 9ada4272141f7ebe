//! The binding to PJRT plugins: shared libraries with an XLA compiler and its devices behind one C interface.
//!
//! # Tour
//!
//! [`Plugin::load`] opens a plugin by path and checks its version. [`Plugin::client`] starts it with options
//! ([`OptionValue`]) and gives a [`Client`]: its [`Device`]s, [`Client::compile`] for StableHLO text with
//! [`CompileOptions`], and [`Client::upload`] for arrays. An [`Executable`] runs over one or more devices;
//! its results are [`Buffer`]s, which [`Buffer::download`] brings back. Execution is asynchronous: a run returns when it is
//! queued, a download waits for what it needs, and [`Buffer::wait`] waits without a copy.
//!
//! # What always holds
//!
//! * This is the only crate of the project with `unsafe` code. What it hands out is safe to use from any thread.
//! * Every failure that the plugin reports is an [`Error`] with the plugin's own words.
//! * A handle is destroyed exactly once, when its last owner goes; [`Client::live_buffers`] counts what is left. A client
//!   outlives its executables and buffers; a plugin is never unloaded.
//! * A buffer that was donated cannot be used again: [`Executable::run`] takes it by value.

#![allow(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod buffer;
mod client;
mod error;
mod executable;
mod options;
mod plugin;
mod profiler;
mod sys;
pub mod testing;

pub use buffer::{Buffer, Element, ElementType};
pub use client::{Client, Device, MemoryStats};
pub use error::{Error, Result};
pub use executable::{Argument, Executable, ProgramMemory};
pub use options::{CompileOptions, OptionValue, XlaOption};
pub use plugin::{API_MINOR_MIN, Plugin};
pub use profiler::{Profiler, Span, spans};
