//! The NPY container: a short text header, then the values of one array.
//!
//! Written as version 1.0, one dimension, exactly as numpy writes it. Read with suspicion: the header is bounded and
//! its shape must account for the file's size to the byte before anything is believed.

/// Length of the header that [`header`] writes, for any number of values.
pub const HEADER_BYTES: usize = 128;

/// The longest header that is read.
const HEADER_BYTES_MAX: usize = 1 << 16;

const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Why a file is not an NPY array that can be used here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NpyError {
    /// The magic bytes, the version or the header are not those of NPY.
    #[error("it is not an NPY file: {0}")]
    Malformed(&'static str),
    /// The values have a type that is not an integer stored in little-endian order.
    #[error("its values have type {0:?}; little-endian integers (<u4, <u8, <i4, <i8, <u2 or |u1) are supported")]
    Type(String),
    /// Columns come before rows.
    #[error("its values are in Fortran order; save it in C order")]
    FortranOrder,
    /// The shape does not account for the size of the file.
    #[error("its header promises {promised} bytes, but the file has {actual}; it is truncated or damaged, fetch or make it again")]
    Size {
        /// Size of the file according to the header, in bytes.
        promised: u64,
        /// Size of the file, in bytes.
        actual: u64,
    },
}

/// How the integers of an array are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Integer {
    /// Width in bytes: 1, 2, 4 or 8.
    pub bytes: usize,
    /// Whether negative values are possible.
    pub signed: bool,
}

/// An array as its header describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Array {
    /// Type of the values.
    pub integer: Integer,
    /// Number of values; arrays of other ranks are flattened.
    pub len: u64,
    /// Where the values begin, in bytes from the start of the file.
    pub data_offset: u64,
}

/// The header of a one-dimensional array of `len` unsigned integers of `bytes` (4 or 8) bytes each.
pub fn header(bytes: usize, len: u64) -> [u8; HEADER_BYTES] {
    let dictionary = format!("{{'descr': '<u{bytes}', 'fortran_order': False, 'shape': ({len},), }}");
    let mut out = [b' '; HEADER_BYTES];
    out[..6].copy_from_slice(MAGIC);
    out[6..10].copy_from_slice(&[1, 0, (HEADER_BYTES - 10) as u8, 0]);
    out[10..10 + dictionary.len()].copy_from_slice(dictionary.as_bytes());
    out[HEADER_BYTES - 1] = b'\n';
    out
}

/// Number of bytes from the start of the file that [`parse`] needs, given the first 12 bytes of it.
///
/// # Errors
/// [`NpyError::Malformed`] when these are not the first bytes of an NPY file of a known version with a bounded header.
pub fn header_len(start: &[u8]) -> Result<usize, NpyError> {
    let [m0, m1, m2, m3, m4, m5, major, _, rest @ ..] = start else { return Err(NpyError::Malformed("it is too short")) };
    if &[*m0, *m1, *m2, *m3, *m4, *m5] != MAGIC {
        return Err(NpyError::Malformed("its first bytes are not those of one"));
    }
    let len = match (major, rest) {
        (1, [a, b, ..]) => 10 + usize::from(u16::from_le_bytes([*a, *b])),
        (2 | 3, [a, b, c, d, ..]) => (u32::from_le_bytes([*a, *b, *c, *d]) as usize).saturating_add(12),
        (1..=3, _) => return Err(NpyError::Malformed("it is too short")),
        _ => return Err(NpyError::Malformed("its version is unknown")),
    };
    if len > HEADER_BYTES_MAX { Err(NpyError::Malformed("its header is too long")) } else { Ok(len) }
}

/// Reads the header in `start`, whose length is [`header_len`]; `file_bytes` is the size of the whole file.
///
/// # Errors
/// [`NpyError`] when the header is not understood or does not account for `file_bytes`.
pub fn parse(start: &[u8], file_bytes: u64) -> Result<Array, NpyError> {
    let len = header_len(start)?;
    let dictionary_offset = if start.get(6) == Some(&1) { 10 } else { 12 };
    let dictionary = start.get(dictionary_offset..len).ok_or(NpyError::Malformed("its header is cut off"))?;
    let text = std::str::from_utf8(dictionary).map_err(|_| NpyError::Malformed("its header is not text"))?;
    let fields = Fields::parse(text)?;
    let integer = match fields.descr.as_str() {
        "|u1" | "<u1" => Integer { bytes: 1, signed: false },
        "<u2" => Integer { bytes: 2, signed: false },
        "<u4" => Integer { bytes: 4, signed: false },
        "<u8" => Integer { bytes: 8, signed: false },
        "<i4" => Integer { bytes: 4, signed: true },
        "<i8" => Integer { bytes: 8, signed: true },
        other => return Err(NpyError::Type(other.chars().take(40).collect())),
    };
    if fields.fortran_order && fields.shape.len() > 1 {
        return Err(NpyError::FortranOrder);
    }
    let too_large = NpyError::Malformed("its shape overflows");
    let n = fields.shape.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim)).ok_or(too_large.clone())?;
    let promised = n.checked_mul(integer.bytes as u64).and_then(|bytes| bytes.checked_add(len as u64)).ok_or(too_large)?;
    if promised != file_bytes {
        return Err(NpyError::Size { promised, actual: file_bytes });
    }
    Ok(Array { integer, len: n, data_offset: len as u64 })
}

/// The three entries of the header's dictionary.
struct Fields {
    descr: String,
    fortran_order: bool,
    shape: Vec<u64>,
}

/// Dimensions beyond this are no array that anybody saves here.
const RANK_MAX: usize = 8;

impl Fields {
    /// Reads a Python dictionary literal with exactly the keys of NPY, in any order.
    fn parse(text: &str) -> Result<Self, NpyError> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        let mut rest = text.trim().strip_prefix('{').ok_or(NpyError::Malformed("its header is not a dictionary"))?.trim_start();
        while !rest.starts_with('}') {
            let (key, after) = quoted(rest)?;
            let value = after.trim_start().strip_prefix(':').ok_or(NpyError::Malformed("a colon is missing in its header"))?.trim_start();
            rest = match key {
                "descr" => {
                    let (text, after) = quoted(value)?;
                    descr = Some(text.to_owned());
                    after
                }
                "fortran_order" => {
                    let (flag, after) = boolean(value)?;
                    fortran_order = Some(flag);
                    after
                }
                "shape" => {
                    let (dims, after) = tuple(value)?;
                    shape = Some(dims);
                    after
                }
                _ => return Err(NpyError::Malformed("its header has an unknown key")),
            }
            .trim_start();
            match rest.strip_prefix(',') {
                Some(after) => rest = after.trim_start(),
                None if rest.starts_with('}') => {}
                None => return Err(NpyError::Malformed("its header does not end")),
            }
        }
        if !rest[1..].trim().is_empty() {
            return Err(NpyError::Malformed("something follows its header"));
        }
        match (descr, fortran_order, shape) {
            (Some(descr), Some(fortran_order), Some(shape)) => Ok(Self { descr, fortran_order, shape }),
            _ => Err(NpyError::Malformed("descr, fortran_order or shape is missing in its header")),
        }
    }
}

fn quoted(text: &str) -> Result<(&str, &str), NpyError> {
    let quote =
        text.chars().next().filter(|c| matches!(c, '\'' | '"')).ok_or(NpyError::Malformed("a quoted text is missing in its header"))?;
    text[1..].split_once(quote).ok_or(NpyError::Malformed("a quotation does not end in its header"))
}

fn boolean(text: &str) -> Result<(bool, &str), NpyError> {
    let flag = |word, value| text.strip_prefix(word).map(|rest| (value, rest));
    flag("False", false).or_else(|| flag("True", true)).ok_or(NpyError::Malformed("fortran_order is neither True nor False"))
}

fn tuple(text: &str) -> Result<(Vec<u64>, &str), NpyError> {
    let malformed = NpyError::Malformed("its shape is not a tuple of integers");
    let (inside, rest) = text.strip_prefix('(').and_then(|text| text.split_once(')')).ok_or(malformed.clone())?;
    let inside = inside.trim();
    let inside = inside.strip_suffix(',').unwrap_or(inside);
    if inside.trim().is_empty() {
        return Ok((Vec::new(), rest));
    }
    let dims: Result<Vec<u64>, _> = inside.split(',').take(RANK_MAX + 1).map(|dim| dim.trim().parse::<u64>()).collect();
    match dims {
        Ok(dims) if dims.len() <= RANK_MAX => Ok((dims, rest)),
        _ => Err(malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(dictionary: &str, data_bytes: u64) -> (Vec<u8>, u64) {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0]);
        bytes.extend((dictionary.len() as u16).to_le_bytes());
        bytes.extend(dictionary.as_bytes());
        let size = bytes.len() as u64 + data_bytes;
        (bytes, size)
    }

    #[test]
    fn other_types_ranks_and_orders() {
        let (bytes, size) = file("{'shape': (3, 4), \"descr\": '<i8', 'fortran_order': False}", 96);
        let array = parse(&bytes, size).unwrap();
        assert_eq!((array.len, array.integer), (12, Integer { bytes: 8, signed: true }));
        let (bytes, size) = file("{'shape': (), 'descr': '|u1', 'fortran_order': True, }\n", 1);
        assert_eq!(parse(&bytes, size).unwrap().len, 1);
        let (bytes, size) = file("{'shape': (3, 4), 'descr': '<u4', 'fortran_order': True}", 48);
        assert_eq!(parse(&bytes, size), Err(NpyError::FortranOrder));
        let (bytes, size) = file("{'shape': (3,), 'descr': '>u4', 'fortran_order': False}", 12);
        assert_eq!(parse(&bytes, size), Err(NpyError::Type(">u4".into())));
    }

    #[test]
    fn lying_shapes_are_refused_before_they_are_used() {
        let (bytes, size) = file("{'shape': (18446744073709551615, 3), 'descr': '<u4', 'fortran_order': False}", 12);
        assert!(matches!(parse(&bytes, size), Err(NpyError::Malformed(_))));
        let (bytes, size) = file("{'shape': (4,), 'descr': '<u4', 'fortran_order': False}", 12);
        assert!(matches!(parse(&bytes, size), Err(NpyError::Size { .. })));
        let long = [MAGIC.as_slice(), &[2, 0, 255, 255, 255, 255]].concat();
        assert!(matches!(header_len(&long), Err(NpyError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn headers_survive_a_round_trip(wide: bool, len in 0u64..1 << 60) {
            let bytes = if wide { 8 } else { 4 };
            let header = header(bytes, len);
            let array = parse(&header, 128 + len * bytes as u64).unwrap();
            prop_assert_eq!(array, Array { integer: Integer { bytes, signed: false }, len, data_offset: 128 });
        }

        #[test]
        fn hostile_headers_never_panic(noise in proptest::collection::vec(any::<u8>(), 0..200), text in "[{}()',:a-z0-9 <]{0,80}", size: u64) {
            let _ = parse(&noise, size);
            let (bytes, _) = file(&text, 0);
            let _ = parse(&bytes, size);
            let mut altered = header(4, 7);
            for (slot, byte) in altered[6..].iter_mut().zip(&noise) {
                *slot ^= byte & 0x1f;
            }
            let _ = parse(&altered, size);
        }
    }
}
