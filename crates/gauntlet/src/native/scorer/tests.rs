use super::*;
use crate::observation::Likeness;
use crate::{Losses, Measurement};
use proptest::prelude::*;
