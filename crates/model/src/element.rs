//! How the elements of a tensor are stored in a file: float32, or one of the two 16-bit floats. In memory all are float32.

/// Type of the stored elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Element {
    /// 32-bit IEEE float.
    #[default]
    F32,
    /// The upper half of a 32-bit IEEE float.
    Bf16,
    /// 16-bit IEEE float.
    F16,
}

impl Element {
    /// The name in a safetensors header.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::F32, Self::Bf16, Self::F16].into_iter().find(|element| element.name() == name)
    }

    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    /// Appends `values` in little-endian order, rounded to nearest, ties to even.
    pub(crate) fn encode(self, values: &[f32], into: &mut Vec<u8>) {
        match self {
            Self::F32 => into.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::Bf16 => into.extend(values.iter().flat_map(|&value| bf16_bits(value).to_le_bytes())),
            Self::F16 => into.extend(values.iter().flat_map(|&value| f16_bits(value).to_le_bytes())),
        }
    }

    /// Appends the values of little-endian `bytes`, whose length is a multiple of [`Element::bytes`]. Exact.
    pub(crate) fn decode(self, bytes: &[u8], into: &mut Vec<f32>) {
        let halves = || bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
        match self {
            Self::F32 => into.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))),
            Self::Bf16 => into.extend(halves().map(|bits| f32::from_bits(u32::from(bits) << 16))),
            Self::F16 => into.extend(halves().map(f32_of_f16)),
        }
    }
}

fn bf16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        // Rounding could carry a NaN into an infinity; the quiet bit keeps it one.
        return (bits >> 16) as u16 | 0x40;
    }
    // Half of the last place kept, less one where that place is even: a tie then goes to the even neighbour.
    let rounding = 0x7FFF + ((bits >> 16) & 1);
    ((bits.wrapping_add(rounding)) >> 16) as u16
}

/// Beyond the largest half comes infinity, as in every conversion of that type.
fn f16_bits(value: f32) -> u16 {
    let sign = ((value.to_bits() >> 16) & 0x8000) as u16;
    let magnitude = value.abs();
    if value.is_nan() {
        return sign | 0x7E00;
    }
    // 65520 is halfway between the largest finite value and the next power of two, and goes to infinity.
    if magnitude >= 65520.0 {
        return sign | 0x7C00;
    }
    // Below 2^-14 the spacing stays that of 2^-14; multiplying by a power of two is exact, so one rounding is made.
    let exponent = ((magnitude.to_bits() >> 23) as i32 - 127).max(-14);
    let steps = (f64::from(magnitude) * 2_f64.powi(10 - exponent)).round_ties_even() as u32;
    // A carry out of the mantissa raises the exponent by itself.
    sign | ((((exponent + 14) as u32) << 10) + steps) as u16
}

fn f32_of_f16(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0_f32 };
    let (exponent, mantissa) = (i32::from((bits >> 10) & 0x1F), f32::from(bits & 0x3FF));
    match exponent {
        0 => sign * mantissa * 2_f32.powi(-24),
        31 if mantissa == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        _ => sign * (1024.0 + mantissa) * 2_f32.powi(exponent - 25),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(element: Element, bits: u16) -> f32 {
        let mut values = Vec::new();
        element.decode(&bits.to_le_bytes(), &mut values);
        values[0]
    }

    fn encoded(element: Element, value: f32) -> u16 {
        let mut bytes = Vec::new();
        element.encode(&[value], &mut bytes);
        u16::from_le_bytes([bytes[0], bytes[1]])
    }

    #[test]
    fn every_half_survives_being_read_and_written() {
        for element in [Element::Bf16, Element::F16] {
            for bits in 0..=u16::MAX {
                let value = decoded(element, bits);
                if value.is_nan() {
                    assert!(decoded(element, encoded(element, value)).is_nan(), "{element:?} {bits:04x}");
                } else {
                    assert_eq!(encoded(element, value), bits, "{element:?} {bits:04x} is {value}");
                }
            }
        }
    }

    #[test]
    fn known_halves_have_their_values() {
        for (bits, value) in
            [(0x3C00, 1.0), (0xC000, -2.0), (0x7BFF, 65504.0), (0x0400, 2_f32.powi(-14)), (0x0001, 2_f32.powi(-24)), (0x3555, 0.333_251_95)]
        {
            assert_eq!(decoded(Element::F16, bits), value);
        }
        assert_eq!(decoded(Element::Bf16, 0x3F80), 1.0);
        assert_eq!(decoded(Element::Bf16, 0x4049), 3.140_625);
    }

    proptest! {
        #[test]
        fn writing_a_half_rounds_to_nearest_even(bits: u32) {
            let value = f32::from_bits(bits);
            prop_assume!(value.is_finite());
            for element in [Element::Bf16, Element::F16] {
                let half = encoded(element, value);
                let error = |bits: u16| (f64::from(decoded(element, bits)) - f64::from(value)).abs();
                let (down, up) = (half.wrapping_sub(1), half.wrapping_add(1));
                for neighbour in [down, up] {
                    let there = decoded(element, neighbour);
                    if there.is_finite() && (there > 0.0) == (value > 0.0) && decoded(element, half).is_finite() {
                        prop_assert!(error(half) <= error(neighbour), "{element:?}: {value}");
                        prop_assert!(error(half) < error(neighbour) || half.is_multiple_of(2), "{element:?}: {value} is a tie");
                    }
                }
            }
        }
    }
}
