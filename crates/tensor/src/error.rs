//! Everything that can go wrong when a program is compiled or run with tensors from outside.

use crate::ir::TensorType;

/// The result of a fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a tensor, an array or a run was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The number of elements is not the product of the dimensions.
    #[error("a tensor of shape {dims:?} needs {expected} elements, {actual} were given")]
    ElementCount {
        /// The shape that was asked for.
        dims: Vec<usize>,
        /// Product of `dims`.
        expected: usize,
        /// Length of the data.
        actual: usize,
    },
    /// The product of the dimensions exceeds the address space.
    #[error("a tensor of shape {dims:?} has more elements than this machine can address")]
    TooLarge {
        /// The shape that was asked for.
        dims: Vec<usize>,
    },
    /// A run was given too few or too many inputs.
    #[error("the program has {expected} inputs, {actual} were given: pass them in the order of Program::inputs")]
    InputCount {
        /// Inputs of the program.
        expected: usize,
        /// Inputs given.
        actual: usize,
    },
    /// An input has another shape or element type than the program declares.
    #[error("input `{name}` is declared as {expected}, the array given is {actual}")]
    InputType {
        /// The declared name.
        name: String,
        /// What the program declares.
        expected: TensorType,
        /// What was given.
        actual: TensorType,
    },
    /// Elements of another type were asked for.
    #[error("the tensor holds {actual}, {expected} was asked for")]
    ElementType {
        /// What was asked for.
        expected: &'static str,
        /// What the tensor holds.
        actual: &'static str,
    },
    /// An array lives on a device that this executor does not drive.
    #[error("the array lives on `{device}`, which the {executor} executor cannot read: download it and upload it again")]
    ForeignArray {
        /// Name of the device that holds the array.
        device: String,
        /// Name of the executor that was asked.
        executor: String,
    },
    /// An index (token, row) lies outside the table it selects from.
    #[error("`{what}`: index {index} at position {position} is outside 0..{rows}")]
    IndexOutOfRange {
        /// The operation and its operand.
        what: &'static str,
        /// The index met.
        index: i32,
        /// Where in the index tensor it stands.
        position: usize,
        /// Rows of the table.
        rows: usize,
    },
    /// The program uses something that this executor does not implement.
    #[error("the {executor} executor cannot compile this program: {reason}")]
    Unsupported {
        /// Name of the executor.
        executor: String,
        /// What it cannot do.
        reason: String,
    },
    /// A device or its driver reported a failure.
    #[error("the device `{device}` failed: {reason}")]
    Device {
        /// Name of the device.
        device: String,
        /// What it reported.
        reason: String,
    },
}
