//! The safetensors container, streamed: eight bytes of header length, a JSON header, then the data.
//!
//! Written headers list the tensors in the order given and are padded to a multiple of 8 bytes. A header that is read
//! must describe data that is gapless, of a float type, and exactly as long as the source. In memory all values are float32.

use crate::element::Element;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use templar_protocol::ParamSpec;

/// Longest header that is read: about 100 bytes a tensor are usual.
const HEADER_BYTES_MAX: u64 = 64 << 20;
const METADATA_KEY: &str = "__metadata__";
/// Elements converted at a time.
const BLOCK: usize = 1 << 16;

/// A header that was read: tensors in the order of their data.
#[derive(Debug)]
pub(crate) struct Header {
    pub specs: Vec<ParamSpec>,
    /// How the elements of each tensor are stored, in the order of `specs`.
    pub elements: Vec<Element>,
    pub metadata: BTreeMap<String, String>,
    /// Where the data begins, in bytes from the start of the source.
    pub data_start: u64,
}

impl Header {
    /// Checks that every tensor is float32, as our own files are.
    pub fn require_f32(&self) -> Result<(), String> {
        match self.specs.iter().zip(&self.elements).find(|(_, element)| **element != Element::F32) {
            Some((spec, element)) => Err(format!("`{}` is of {}, expected F32", spec.name, element.name())),
            None => Ok(()),
        }
    }
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

/// Length and header for tensors of `element` laid out in the order of `specs`.
pub(crate) fn header_bytes(specs: &[ParamSpec], metadata: &BTreeMap<String, String>, element: Element) -> Vec<u8> {
    let mut entries = Vec::with_capacity(specs.len() + 1);
    if !metadata.is_empty() {
        entries.push(format!("{}:{}", quoted(METADATA_KEY), serde_json::json!(metadata)));
    }
    let mut start = 0;
    for spec in specs {
        let end = start + (element.bytes() * spec.len()) as u64;
        let entry = serde_json::json!({"dtype": element.name(), "shape": spec.shape, "data_offsets": [start, end]});
        entries.push(format!("{}:{entry}", quoted(&spec.name)));
        start = end;
    }
    let mut json = format!("{{{}}}", entries.join(","));
    json.extend(std::iter::repeat_n(' ', json.len().next_multiple_of(8) - json.len()));
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.into_bytes());
    bytes
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Writes `values` as little-endian elements, a block at a time.
pub(crate) fn write_data(writer: &mut impl Write, values: &[f32], element: Element) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(element.bytes() * BLOCK.min(values.len()));
    for block in values.chunks(BLOCK) {
        bytes.clear();
        element.encode(block, &mut bytes);
        writer.write_all(&bytes)?;
    }
    Ok(())
}

/// Reads `len` elements. The caller has checked `len` against the length of the source.
pub(crate) fn read_data(reader: &mut impl Read, len: usize, element: Element) -> io::Result<Vec<f32>> {
    let mut values = Vec::with_capacity(len);
    let mut bytes = vec![0; element.bytes() * BLOCK.min(len)];
    while values.len() < len {
        let block = &mut bytes[..element.bytes() * BLOCK.min(len - values.len())];
        reader.read_exact(block)?;
        element.decode(block, &mut values);
    }
    Ok(values)
}

/// Reads the header of a source of `source_bytes` bytes in all. The inner error says what is malformed.
pub(crate) fn read_header(reader: &mut impl Read, source_bytes: u64) -> io::Result<Result<Header, String>> {
    if source_bytes < 8 {
        return Ok(Err(format!("{source_bytes} bytes are no safetensors file")));
    }
    let mut length = [0; 8];
    reader.read_exact(&mut length)?;
    let header_bytes = u64::from_le_bytes(length);
    if header_bytes > HEADER_BYTES_MAX || header_bytes > source_bytes - 8 {
        return Ok(Err(format!("its header claims {header_bytes} bytes, the file has {source_bytes}")));
    }
    let mut json = vec![0; header_bytes as usize];
    reader.read_exact(&mut json)?;
    Ok(parse(&json, 8 + header_bytes, source_bytes))
}

fn parse(json: &[u8], data_start: u64, source_bytes: u64) -> Result<Header, String> {
    let data_bytes = source_bytes - data_start;
    let malformed = |error: serde_json::Error| format!("its header is malformed ({error})");
    let mut values: BTreeMap<String, serde_json::Value> = serde_json::from_slice(json).map_err(malformed)?;
    let metadata = match values.remove(METADATA_KEY) {
        Some(metadata) => serde_json::from_value(metadata).map_err(malformed)?,
        None => BTreeMap::new(),
    };
    let mut entries: Vec<(String, Entry)> = Vec::with_capacity(values.len());
    for (name, value) in values {
        entries.push((name, serde_json::from_value(value).map_err(malformed)?));
    }
    entries.sort_by_key(|(_, entry)| entry.data_offsets);
    let (mut end, mut elements) = (0, Vec::with_capacity(entries.len()));
    for (name, entry) in &entries {
        let element;
        (element, end) = check(name, entry, end)?;
        elements.push(element);
    }
    if end != data_bytes {
        return Err(format!("its tensors have {end} bytes, the file has {data_bytes} after the header"));
    }
    let specs = entries.into_iter().map(|(name, entry)| ParamSpec { name, shape: entry.shape }).collect();
    Ok(Header { specs, elements, metadata, data_start })
}

/// Checks that `entry` lies at `start` with the length of its shape; its type and its end.
fn check(name: &str, entry: &Entry, start: u64) -> Result<(Element, u64), String> {
    let element = Element::from_name(&entry.dtype)
        .ok_or_else(|| format!("`{name}` is of {}, expected F32, BF16 or F16", entry.dtype.chars().take(20).collect::<String>()))?;
    let elements = entry.shape.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim as u64));
    let end = elements.and_then(|elements| elements.checked_mul(element.bytes() as u64)).and_then(|bytes| bytes.checked_add(start));
    match end {
        Some(end) if entry.data_offsets == [start, end] => Ok((element, end)),
        _ => Err(format!("`{name}` of shape {:?} lies at {:?}, expected at {start}", entry.shape, entry.data_offsets)),
    }
}
