//! Array programs: a small static-shape IR, reverse-mode autodiff and the CPU executor.
//!
//! # Tour
//!
//! A [`Builder`] collects operations on [`Value`]s (typed, statically shaped SSA results). [`grad`] appends the
//! derivative of a scalar to the same builder. [`Builder::finish`] gives a [`Program`]: named inputs, named outputs, and
//! which outputs may take the memory of which inputs. An [`Executor`] compiles it once; the [`Executable`] runs many times.
//!
//! ```
//! use templar_tensor::{Builder, Cpu, DType, Executor, Tensor, grad};
//!
//! let mut b = Builder::new();
//! let x = b.input("x", DType::F32, &[3]);
//! let squares = b.mul(x, x);
//! let loss = b.reduce_sum(squares, &[0]);
//! let dx = grad(&mut b, loss, &[x])[0];
//! b.output("loss", loss);
//! b.output_donating("dx", dx, x); // dx may overwrite x
//! let program = b.finish();
//!
//! let mut step = Cpu::new().compile(&program)?;
//! let outputs = step.run_host(vec![Tensor::f32(&[3], vec![1.0, 2.0, 3.0])?])?;
//! assert_eq!(outputs[0].as_f32()?, &[14.0]);
//! assert_eq!(outputs[1].as_f32()?, &[2.0, 4.0, 6.0]);
//! # Ok::<(), templar_tensor::Error>(())
//! ```
//!
//! # What always holds
//!
//! * Every operation is a StableHLO operation of the same meaning, or (attention, cross-entropy, rotary, row gather and
//!   scatter) a named composite of plain StableHLO operations; [`Op`] says which.
//! * Shapes are static and checked when the program is built. A mistake there is a programmer's error: [`Builder`]
//!   methods panic with the shapes in the message. What comes from outside (input tensors) is checked at run time and
//!   gives an [`Error`].
//! * For one number of threads, the same inputs give the same bits.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod builder;
mod cpu;
mod error;
mod executor;
mod grad;
mod ir;
mod pjrt;
mod program;
mod stablehlo;
mod tensor;

pub use builder::Builder;
pub use cpu::{Cpu, CpuExecutable};
pub use error::{Error, Result};
pub use executor::{Array, DeviceBuffer, Executable, Executor, Profile, Profiling, Span};
pub use grad::{Recompute, grad, grad_with};
pub use ir::{BinaryOp, CompareOp, DType, DotDims, Node, Op, Placement, ReduceOp, RotaryLayout, TensorType, UnaryOp, Value};
pub use pjrt::{DeviceInfo, DeviceMemory, OptionValue, Pjrt, PjrtConfig, PjrtExecutable, XlaOption};
pub use program::{Input, Output, Program};
pub use stablehlo::{Target, stablehlo};
pub use tensor::{Tensor, TensorData};
