//! The safetensors container, streamed: eight bytes of header length, a JSON header, then the data.
//!
//! Written headers list the tensors in the order given and are padded to a multiple of 8 bytes. A header that is read
//! must describe data that is gapless, of float32, and exactly as long as the source.

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
pub(crate) struct Header {
    pub specs: Vec<ParamSpec>,
    pub metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

/// Length and header for float32 tensors laid out in the order of `specs`.
pub(crate) fn header_bytes(specs: &[ParamSpec], metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let mut entries = Vec::with_capacity(specs.len() + 1);
    if !metadata.is_empty() {
        entries.push(format!("{}:{}", quoted(METADATA_KEY), serde_json::json!(metadata)));
    }
    let mut start = 0;
    for spec in specs {
        let end = start + 4 * spec.len() as u64;
        let entry = serde_json::json!({"dtype": "F32", "shape": spec.shape, "data_offsets": [start, end]});
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

/// Writes the little-endian bytes of `values`, a block at a time.
pub(crate) fn write_data(writer: &mut impl Write, values: &[f32]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(4 * BLOCK.min(values.len()));
    for block in values.chunks(BLOCK) {
        bytes.clear();
        bytes.extend(block.iter().flat_map(|value| value.to_le_bytes()));
        writer.write_all(&bytes)?;
    }
    Ok(())
}

/// Reads `len` float32 values. The caller has checked `len` against the length of the source.
pub(crate) fn read_data(reader: &mut impl Read, len: usize) -> io::Result<Vec<f32>> {
    let mut values = Vec::with_capacity(len);
    let mut bytes = vec![0; 4 * BLOCK.min(len)];
    while values.len() < len {
        let block = &mut bytes[..4 * BLOCK.min(len - values.len())];
        reader.read_exact(block)?;
        values.extend(block.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
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
    Ok(parse(&json, source_bytes - 8 - header_bytes))
}

fn parse(json: &[u8], data_bytes: u64) -> Result<Header, String> {
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
    let mut end = 0;
    for (name, entry) in &entries {
        end = check(name, entry, end)?;
    }
    if end != data_bytes {
        return Err(format!("its tensors have {end} bytes, the file has {data_bytes} after the header"));
    }
    let specs = entries.into_iter().map(|(name, entry)| ParamSpec { name, shape: entry.shape }).collect();
    Ok(Header { specs, metadata })
}

/// Checks that `entry` is float32 and lies at `start` with the length of its shape; its end.
fn check(name: &str, entry: &Entry, start: u64) -> Result<u64, String> {
    if entry.dtype != "F32" {
        return Err(format!("`{name}` is of {}, expected F32", entry.dtype));
    }
    let elements = entry.shape.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim as u64));
    let end = elements.and_then(|elements| elements.checked_mul(4)).and_then(|bytes| bytes.checked_add(start));
    match end {
        Some(end) if entry.data_offsets == [start, end] => Ok(end),
        _ => Err(format!("`{name}` of shape {:?} lies at {:?}, expected at {start}", entry.shape, entry.data_offsets)),
    }
}
