//! Looking at an object without its run: names, shapes and settings by its own word.
//!
//! Receivers never use this; they compare every byte with their own model's layout ([`crate::open`]).

use crate::{
    Refusal,
    layout::{CodecConfig, Layout, MAX_BINS, NAME_BYTES_MAX, ParamLayout},
    section::{Cursor, read_head},
};

/// A layout of a payload by its own sections' heads, for looking at objects without their run. What it says is the sender's word; memory
/// taken is bounded by the payload's length.
///
/// # Errors
/// [`Refusal::Malformed`] when the payload is not a row of sections.
pub fn describe(payload: &[u8]) -> Result<Layout, Refusal> {
    let mut cursor = Cursor { payload, at: 0 };
    let mut params = Vec::new();
    let mut config = None;
    while cursor.at < payload.len() {
        let number = format!("number {}", params.len() + 1);
        let (param, found) = describe_next(&mut cursor).map_err(|why| Refusal::Malformed { param: number, why })?;
        if config.is_some_and(|config| config != found) {
            return Err(Refusal::Malformed { param: param.name, why: "its settings are not those of the section before" });
        }
        config = Some(found);
        params.push(param);
    }
    Ok(Layout::from_parts(config.unwrap_or_default(), params))
}

fn describe_next(cursor: &mut Cursor) -> Result<(ParamLayout, CodecConfig), &'static str> {
    const SHORT: &str = "the payload ends within the section's head";
    let mut head = Cursor { payload: cursor.payload, at: cursor.at };
    let [kind] = head.take().ok_or(SHORT)?;
    let name_bytes = usize::from(u16::from_le_bytes(head.take().ok_or(SHORT)?));
    let name = std::str::from_utf8(&cursor.payload[head.range(name_bytes).ok_or(SHORT)?]).map_err(|_| "its name is not UTF-8")?;
    let rows = u32::from_le_bytes(head.take().ok_or(SHORT)?) as usize;
    let cols = u32::from_le_bytes(head.take().ok_or(SHORT)?) as usize;
    let chunk_rows = usize::from(u16::from_le_bytes(head.take().ok_or(SHORT)?));
    let chunks = u32::from_le_bytes(head.take().ok_or(SHORT)?) as usize;
    let k = usize::from(u16::from_le_bytes(head.take().ok_or(SHORT)?));
    let chunk_len = usize::from(u16::from_le_bytes(head.take().ok_or(SHORT)?));
    let [bins, _rice] = head.take().ok_or(SHORT)?;
    let bins = usize::from(bins);
    // A value takes at least one bit, so no more can be announced than there are bits.
    let possible = chunks >= 1 && k >= 1 && k <= chunk_len && chunk_len <= 4096 && chunks * k <= 8 * cursor.payload.len();
    if !possible || !(2..=MAX_BINS).contains(&bins) || kind > 3 || name_bytes > NAME_BYTES_MAX {
        return Err("its head names impossible counts");
    }
    let chunk_cols = chunk_len / chunk_rows.max(1);
    let whole = chunk_rows * chunk_cols == chunk_len && rows.is_multiple_of(chunk_rows) && cols.is_multiple_of(chunk_cols);
    // Both products fit: rows and cols have 32 bits each.
    if !whole || rows as u64 * cols as u64 != chunks as u64 * chunk_len as u64 || (kind & 1 == 0 && rows != 1) {
        return Err("its shape is not made of its chunks");
    }
    let param = ParamLayout { name: name.into(), vector: kind & 1 == 0, rows, cols, chunk_rows, chunk_cols, k };
    let config = CodecConfig { bins, use_dct: kind & 2 != 0, ..CodecConfig::default() };
    let layout = Layout::from_parts(config, vec![param.clone()]);
    read_head(&layout, &param, cursor)?;
    Ok((param, config))
}
