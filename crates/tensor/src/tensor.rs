//! A host tensor: dimensions and a row-major `Vec`. Always holds: the length is the product of the dimensions.

use crate::error::{Error, Result};
use crate::ir::{DType, TensorType};

/// The elements of a host tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum TensorData {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 32-bit signed integers (token ids, row numbers).
    I32(Vec<i32>),
}

/// An owned host tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    dims: Vec<usize>,
    data: TensorData,
}

/// Product of `dims`, or an error when it overflows.
fn element_count(dims: &[usize]) -> Result<usize> {
    dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(|| Error::TooLarge { dims: dims.to_vec() })
}

impl Tensor {
    /// A float tensor of shape `dims` from row-major `data`; an error when the length does not fit.
    pub fn f32(dims: &[usize], data: Vec<f32>) -> Result<Self> {
        Self::checked(dims, data.len())?;
        Ok(Self { dims: dims.to_vec(), data: TensorData::F32(data) })
    }

    /// An integer tensor of shape `dims` from row-major `data`; an error when the length does not fit.
    pub fn i32(dims: &[usize], data: Vec<i32>) -> Result<Self> {
        Self::checked(dims, data.len())?;
        Ok(Self { dims: dims.to_vec(), data: TensorData::I32(data) })
    }

    /// A float scalar (shape `[]`).
    pub fn scalar(value: f32) -> Self {
        Self { dims: Vec::new(), data: TensorData::F32(vec![value]) }
    }

    /// Zeros of shape `dims`; an error when the element count overflows.
    pub fn zeros(dims: &[usize]) -> Result<Self> {
        Ok(Self { dims: dims.to_vec(), data: TensorData::F32(vec![0.0; element_count(dims)?]) })
    }

    fn checked(dims: &[usize], actual: usize) -> Result<()> {
        let expected = element_count(dims)?;
        if expected == actual { Ok(()) } else { Err(Error::ElementCount { dims: dims.to_vec(), expected, actual }) }
    }

    /// Dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Shape and element type.
    pub fn tensor_type(&self) -> TensorType {
        let dtype = match self.data {
            TensorData::F32(_) => DType::F32,
            TensorData::I32(_) => DType::I32,
        };
        TensorType { dims: self.dims.clone(), dtype }
    }

    /// The elements.
    pub fn data(&self) -> &TensorData {
        &self.data
    }

    /// The elements, by value.
    pub fn into_data(self) -> TensorData {
        self.data
    }

    /// The elements as floats; an error for an integer tensor.
    pub fn as_f32(&self) -> Result<&[f32]> {
        match &self.data {
            TensorData::F32(v) => Ok(v),
            TensorData::I32(_) => Err(Error::ElementType { expected: "f32", actual: "i32" }),
        }
    }

    /// The elements as floats, to change in place; an error for an integer tensor.
    pub fn as_f32_mut(&mut self) -> Result<&mut [f32]> {
        match &mut self.data {
            TensorData::F32(v) => Ok(v),
            TensorData::I32(_) => Err(Error::ElementType { expected: "f32", actual: "i32" }),
        }
    }

    /// The elements as integers; an error for a float tensor.
    pub fn as_i32(&self) -> Result<&[i32]> {
        match &self.data {
            TensorData::I32(v) => Ok(v),
            TensorData::F32(_) => Err(Error::ElementType { expected: "i32", actual: "f32" }),
        }
    }

    /// The elements as an owned float vector, without a copy; an error for an integer tensor.
    pub fn into_f32(self) -> Result<Vec<f32>> {
        match self.data {
            TensorData::F32(v) => Ok(v),
            TensorData::I32(_) => Err(Error::ElementType { expected: "f32", actual: "i32" }),
        }
    }
}
