//! Whether a decoded object of the reference's format counts (spec validator §1.9, spec wire-protocol §6.2).
//!
//! The reader of the archive is elsewhere; here an object is a tree of [`Value`]s, and the verdict is a pure function of it, of the
//! model's [`Grid`]s and of the [`Checks`]. What always holds: a verdict concerns one object only, nothing in it can cause a panic, and work
//! and memory are bounded by the object's own size and the model's.

use super::rules::ObjectRules;
use std::collections::BTreeMap;
use templar_codec::layout::split;

/// A decoded value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A tensor of unsigned bytes.
    Bytes {
        /// Its shape.
        shape: Vec<usize>,
        /// Its elements, row-major.
        data: Vec<u8>,
    },
    /// A tensor of floats of any width, widened or rounded to float32.
    Floats {
        /// Its shape.
        shape: Vec<usize>,
        /// Its elements, row-major.
        data: Vec<f32>,
    },
    /// A tensor of another element type.
    OtherTensor {
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A tuple or a list.
    List(Vec<Value>),
    /// A dictionary with text keys, in its order.
    Dict(Vec<(String, Value)>),
    /// A float.
    Float(f64),
    /// An integer.
    Int(i64),
    /// An element type, by its name without a prefix: `float32`.
    ElementType(String),
    /// The null value.
    Nothing,
    /// Anything else.
    Other,
}

impl Value {
    fn get<'a>(entries: &'a [(String, Value)], key: &str) -> Option<&'a Value> {
        entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }
}

/// The chunks of one parameter, which every node derives from its own model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grid {
    /// The parameter's name.
    pub name: String,
    /// Chunks along each axis: two numbers for a matrix, one for a vector.
    pub chunks: Vec<usize>,
    /// Rows and columns of a chunk; one number for a vector.
    pub chunk: Vec<usize>,
}

impl Grid {
    /// The grid of a parameter of one or two dimensions, none of them 0. None for another shape.
    pub fn new(name: &str, shape: &[usize], target_chunk: usize) -> Option<Self> {
        if !(1..=2).contains(&shape.len()) || shape.contains(&0) {
            return None;
        }
        let chunk: Vec<usize> = shape.iter().map(|size| split(*size, target_chunk)).collect();
        let chunks = shape.iter().zip(&chunk).map(|(size, edge)| size / edge).collect();
        Some(Self { name: name.to_owned(), chunks, chunk })
    }

    /// Positions in a chunk.
    pub fn positions(&self) -> usize {
        self.chunk.iter().product()
    }

    /// Indices that a receiver of the reference demands of each chunk.
    pub fn per_chunk(&self, rules: &ObjectRules) -> usize {
        self.positions().min(rules.topk)
    }
}

/// How strictly an object is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// What a node of the reference accepts, completeness demanded or not: it is demanded of gather peers, not of reserve peers.
    Reference {
        /// Whether all entries of all parameters must be there.
        complete: bool,
    },
    /// The same, and whatever would stop a node of the reference later is refused: incomplete objects, unquantised or undecodable
    /// values (spec validator §10.1 3 and 4, spec wire-protocol §6.5).
    Hardened,
}

/// Why an object does not count.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    /// The whole is no object of the format.
    #[error("it is no object of the format: {0}")]
    Wrapper(&'static str),
    /// An entry that must be there is not.
    #[error("it has no entry {0}")]
    Absent(String),
    /// A quantiser record.
    #[error("its quantiser record {name} {why}")]
    Quantiser {
        /// The entry.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Indices.
    #[error("its indices {name} {why}")]
    Indices {
        /// The entry.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// Values.
    #[error("its values {name} {why}")]
    Values {
        /// The entry.
        name: String,
        /// What is wrong.
        why: String,
    },
}

/// The outer dictionary of an object, opened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unwrapped<'a> {
    /// The entries of its `state_dict`, in their order.
    pub entries: &'a [(String, Value)],
    /// Its `global_step`: 0 when there is none, none when it is null.
    pub global_step: Option<i64>,
}

/// Opens the outer dictionary of an object.
///
/// # Errors
/// It is no dictionary, carries the transport's own status key, has no `state_dict` dictionary, or a `global_step` that is neither an
/// integer nor null.
pub fn unwrap_object(object: &Value) -> Result<Unwrapped<'_>, Fault> {
    let Value::Dict(outer) = object else { return Err(Fault::Wrapper("its outermost value is no dictionary")) };
    if Value::get(outer, "__status").is_some() {
        return Err(Fault::Wrapper("it carries a key of the transport"));
    }
    let global_step = match Value::get(outer, "global_step") {
        None => Some(0),
        Some(Value::Int(step)) => Some(*step),
        Some(Value::Nothing) => None,
        Some(_) => return Err(Fault::Wrapper("its global step is no integer")),
    };
    match Value::get(outer, "state_dict") {
        Some(Value::Dict(entries)) => Ok(Unwrapped { entries, global_step }),
        Some(_) => Err(Fault::Wrapper("its state_dict is no dictionary")),
        None => Err(Fault::Wrapper("it has no state_dict")),
    }
}

/// Checks the entries of one peer, in their order. Keys with an unknown ending are left alone.
///
/// # Errors
/// The first fault.
pub fn validate(rules: &ObjectRules, grids: &[Grid], entries: &[(String, Value)], checks: Checks) -> Result<(), Fault> {
    let entry = by_name(entries)?;
    let known: BTreeMap<&str, &Grid> = grids.iter().map(|grid| (grid.name.as_str(), grid)).collect();
    for (name, value) in entries {
        if let Some(param) = name.strip_suffix("quant_params") {
            quantiser(rules, name, value, checks == Checks::Hardened && known.contains_key(param))?;
        } else if let Some(param) = name.strip_suffix("idxs") {
            let values = entry.get(format!("{param}vals").as_str()).copied();
            indices(rules, known.get(param).copied(), values, name, value)?;
        } else if let Some(param) = name.strip_suffix("vals") {
            let quantiser = entry.get(format!("{param}quant_params").as_str()).copied();
            values(known.get(param).copied(), quantiser, name, value)?;
        }
    }
    if checks != (Checks::Reference { complete: false }) {
        let expected = grids.iter().flat_map(|grid| ["idxs", "vals", "quant_params"].map(|kind| format!("{}{kind}", grid.name)));
        let missing = expected.into_iter().find(|key| !entry.contains_key(key.as_str()));
        missing.map_or(Ok(()), |key| Err(Fault::Absent(key)))?;
    }
    if checks == Checks::Hardened {
        grids.iter().try_for_each(|grid| decodable(rules, grid, &entry))?;
    }
    Ok(())
}

/// Entries by name. A dictionary holds a name once, so a second one is a fault of the archive.
fn by_name(entries: &[(String, Value)]) -> Result<BTreeMap<&str, &Value>, Fault> {
    let named: BTreeMap<&str, &Value> = entries.iter().map(|(name, value)| (name.as_str(), value)).collect();
    if named.len() == entries.len() { Ok(named) } else { Err(Fault::Wrapper("it names an entry twice")) }
}

/// A peer's name for an entry, as far as a sentence has room for it.
fn shown(name: &str) -> String {
    const CHARS_MAX: usize = 120;
    name.chars().take(CHARS_MAX).flat_map(char::escape_debug).collect()
}

/// Rule 1. Where the reference raises and thereby loses all later peers of the gather, this record alone is at fault.
fn quantiser(rules: &ObjectRules, name: &str, value: &Value, decodes: bool) -> Result<(), Fault> {
    let bad = |why| Err(Fault::Quantiser { name: shown(name), why });
    let parts = match value {
        Value::List(parts) if parts.len() == 5 => parts,
        Value::List(_) => return bad("has not five parts"),
        _ => return bad("is no list of five parts"),
    };
    match &parts[0] {
        Value::Floats { data, .. } if data.iter().all(|shift| shift.is_finite()) => {}
        Value::Bytes { .. } | Value::OtherTensor { .. } => {}
        Value::Floats { .. } => return bad("has a shift that is not finite"),
        _ => return bad("has a shift that is no tensor"),
    }
    if let Value::Float(scale) = parts[1]
        && !(scale.is_finite() && (rules.scale_min..=rules.scale_max).contains(&scale.abs()))
    {
        return bad("has a scale out of range");
    }
    match &parts[3] {
        Value::Floats { data, .. } if data.iter().any(|entry| !entry.is_finite()) => bad("has a table entry that is not finite"),
        _ if decodes => table(rules, parts).map_or_else(bad, |_| Ok(())),
        _ => Ok(()),
    }
}

/// The decoded values of a quantiser's codes: table + shift, in float32.
fn table(rules: &ObjectRules, parts: &[Value]) -> Result<Vec<f32>, &'static str> {
    let [Value::Floats { data: shift, .. }, _, _, Value::Floats { shape, data: table }, Value::ElementType(dtype)] = parts else {
        return Err("has parts of unexpected types");
    };
    if shift.len() != 1 {
        return Err("has a shift that is not one number");
    }
    if shape.len() != 1 || table.len() != rules.bins {
        return Err("has a table that is not a list of one entry for each code");
    }
    if !["float32", "float16", "bfloat16"].contains(&dtype.as_str()) {
        return Err("names an element type that is no float");
    }
    let levels: Vec<f32> = table.iter().map(|entry| entry + shift[0]).collect();
    if levels.iter().all(|level| level.is_finite()) { Ok(levels) } else { Err("has a table entry that overflows with the shift") }
}

/// Rule 2.
fn indices(rules: &ObjectRules, grid: Option<&Grid>, values: Option<&Value>, name: &str, value: &Value) -> Result<(), Fault> {
    let bad = |why: String| Err(Fault::Indices { name: shown(name), why });
    let Some(grid) = grid else { return bad("belong to no parameter of the model".to_owned()) };
    let Value::Bytes { data, .. } = value else { return bad("are no tensor of bytes".to_owned()) };
    if data.is_empty() {
        return bad("are empty".to_owned());
    }
    let shape = match values {
        Some(Value::Bytes { shape, .. } | Value::Floats { shape, .. } | Value::OtherTensor { shape }) => shape,
        _ => return bad("have no values".to_owned()),
    };
    let (per_chunk, sent) = (grid.per_chunk(rules), shape.last().copied().unwrap_or(0));
    if sent != per_chunk {
        return bad(format!("are {sent} for each chunk, {per_chunk} are expected"));
    }
    // The values' own rule demands this too; asked first, it bounds what is unpacked by the model instead of by the peer.
    if shape[..shape.len() - 1] != grid.chunks {
        return bad("have values that do not have the parameter's chunks".to_owned());
    }
    let count = grid.chunks.iter().product::<usize>() * per_chunk;
    match unpack_lax(data, count) {
        None => bad(format!("are {} bytes, which do not unpack to {count} indices", data.len())),
        Some(unpacked) => match unpacked.into_iter().find(|index| usize::from(*index) >= grid.positions()) {
            Some(index) => bad(format!("contain {index}, but a chunk has {} positions", grid.positions())),
            None => Ok(()),
        },
    }
}

/// Rule 3.
fn values(grid: Option<&Grid>, quantiser: Option<&Value>, name: &str, value: &Value) -> Result<(), Fault> {
    let bad = |why: &str| Err(Fault::Values { name: shown(name), why: why.to_owned() });
    let shape = match value {
        Value::Bytes { shape, data } => {
            if data.is_empty() {
                return bad("are empty");
            }
            if matches!(quantiser, None | Some(Value::Nothing)) {
                return bad("are quantised but have no quantiser record");
            }
            shape
        }
        Value::Floats { shape, data } => {
            if data.iter().any(|value| !value.is_finite()) {
                return bad("are not all finite");
            }
            shape
        }
        Value::OtherTensor { shape } => shape,
        _ => return bad("are no tensor"),
    };
    match grid {
        Some(grid) if shape.split_last().is_none_or(|(_, leading)| leading != grid.chunks) => bad("do not have the parameter's chunks"),
        _ => Ok(()),
    }
}

/// What the hardened checks demand of each parameter beyond that.
fn decodable(rules: &ObjectRules, grid: &Grid, entries: &BTreeMap<&str, &Value>) -> Result<(), Fault> {
    let name = format!("{}vals", grid.name);
    let Some(Value::Bytes { shape, data }) = entries.get(name.as_str()) else {
        return Err(Fault::Values { name, why: "are not quantised".to_owned() });
    };
    if shape.iter().product::<usize>() != data.len() {
        return Err(Fault::Values { name, why: "are not as many as their shape says".to_owned() });
    }
    match data.iter().find(|code| usize::from(**code) >= rules.bins) {
        Some(code) => Err(Fault::Values { name, why: format!("contain the code {code}, but there are {} codes", rules.bins) }),
        None => Ok(()),
    }
}

/// Unpacks `count` twelve-bit indices as leniently as the reference does: the three byte columns are combined under broadcasting rules,
/// so that three bytes serve for any count, and some short buffers pass. None where the reference fails too.
pub fn unpack_lax(bytes: &[u8], count: usize) -> Option<Vec<u16>> {
    if !count.is_multiple_of(2) {
        return None;
    }
    let pairs = count / 2;
    let length = |column: usize| (bytes.len() + 2 - column) / 3;
    let joint = |a: usize, b: usize| match (length(a), length(b)) {
        (x, y) if x == y => Some(x),
        (1, y) => Some(y),
        (x, 1) => Some(x),
        _ => None,
    };
    let fits = |length: usize| length == pairs || length == 1;
    let (evens, odds) = (joint(0, 1).filter(|n| fits(*n))?, joint(1, 2).filter(|n| fits(*n))?);
    // A column, or a joint of two, of one entry serves every pair.
    let at = |column: usize, joint: usize, pair: usize| {
        let row = if joint == 1 || length(column) == 1 { 0 } else { pair };
        u16::from(bytes[3 * row + column])
    };
    let unpacked = (0..pairs).flat_map(|pair| {
        let even = at(0, evens, pair) | (at(1, evens, pair) & 15) << 8;
        let odd = at(1, odds, pair) >> 4 | at(2, odds, pair) << 4;
        [even, odd]
    });
    Some(unpacked.collect())
}

/// An object that passed [`Checks::Hardened`], decoded: for each parameter, in the order of the grids, its indices and values.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// One entry for each grid.
    pub params: Vec<DecodedParam>,
}

/// One parameter of a decoded object.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodedParam {
    /// Indices within their chunks, chunk by chunk.
    pub indices: Vec<u16>,
    /// Values at those indices.
    pub values: Vec<f32>,
}

/// Checks an object with [`Checks::Hardened`] and decodes it: value = table\[code\] + shift.
///
/// # Errors
/// The first fault.
pub fn decode(rules: &ObjectRules, grids: &[Grid], entries: &[(String, Value)]) -> Result<Decoded, Fault> {
    validate(rules, grids, entries, Checks::Hardened)?;
    let entry = by_name(entries)?;
    let params = grids.iter().map(|grid| {
        let get = |kind: &str| entry.get(format!("{}{kind}", grid.name).as_str()).copied();
        let quantiser = format!("{}quant_params", grid.name);
        let levels = match get("quant_params") {
            Some(Value::List(parts)) => table(rules, parts).map_err(|why| Fault::Quantiser { name: quantiser, why })?,
            _ => return Err(Fault::Absent(quantiser)),
        };
        let (Some(Value::Bytes { data: packed, .. }), Some(Value::Bytes { data: codes, .. })) = (get("idxs"), get("vals")) else {
            return Err(Fault::Absent(format!("{}idxs", grid.name)));
        };
        let indices = unpack_lax(packed, codes.len()).ok_or_else(|| Fault::Absent(format!("{}idxs", grid.name)))?;
        Ok(DecodedParam { indices, values: codes.iter().map(|code| levels[usize::from(*code)]).collect() })
    });
    Ok(Decoded { params: params.collect::<Result<_, _>>()? })
}
