//! Options of a client, and of a compilation (a protocol-buffer message of XLA, of which a few fields are written here).

use crate::sys;
use std::ffi::c_char;

/// The value of a client's option.
#[derive(Clone, Debug, PartialEq)]
pub enum OptionValue {
    /// A text, such as the name of a memory allocator.
    Text(String),
    /// A number, such as `cpu_device_count`.
    Int(i64),
    /// A fraction, such as `memory_fraction`.
    Float(f32),
    /// A switch, such as `preallocate`.
    Bool(bool),
}

/// The options as the interface takes them; they borrow from `options`.
pub(crate) fn named_values(options: &[(String, OptionValue)]) -> Vec<sys::NamedValue> {
    let named = |(name, value): &(String, OptionValue)| {
        let mut named = sys::NamedValue::new();
        named.name = name.as_ptr().cast::<c_char>();
        named.name_size = name.len();
        named.value_size = 1;
        match value {
            OptionValue::Text(text) => {
                named.kind = sys::named::TEXT;
                named.value.text = text.as_ptr().cast();
                named.value_size = text.len();
            }
            OptionValue::Int(number) => {
                named.kind = sys::named::INT64;
                named.value.int64 = *number;
            }
            OptionValue::Float(number) => {
                named.kind = sys::named::FLOAT;
                named.value.float = *number;
            }
            OptionValue::Bool(switch) => {
                named.kind = sys::named::BOOLEAN;
                named.value.boolean = *switch;
            }
        }
        named
    };
    options.iter().map(named).collect()
}

/// A debug option of XLA for one compilation, by its field name, e.g. `xla_gpu_enable_triton_gemm`.
#[derive(Clone, Debug, PartialEq)]
pub struct XlaOption {
    /// The option's name.
    pub name: String,
    /// Its value.
    pub value: OptionValue,
}

impl XlaOption {
    /// Reads `name=value`; `true`, `false` and numbers are taken as such, anything else as text. `None` without a name or a `=`.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, value) = text.trim().trim_start_matches("--").split_once('=')?;
        let value = match value {
            "true" => OptionValue::Bool(true),
            "false" => OptionValue::Bool(false),
            number => match (number.parse::<i64>(), number.parse::<f32>()) {
                (Ok(int), _) => OptionValue::Int(int),
                (_, Ok(float)) => OptionValue::Float(float),
                _ => OptionValue::Text(number.to_owned()),
            },
        };
        (!name.is_empty()).then(|| Self { name: name.to_owned(), value })
    }
}

/// How a program is compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct CompileOptions {
    /// Devices over which the program is partitioned (by its Shardy annotations, where there are several).
    pub partitions: usize,
    /// XLA's own options.
    pub xla: Vec<XlaOption>,
}

impl Default for CompileOptions {
    fn default() -> Self {
        Self { partitions: 1, xla: Vec::new() }
    }
}

impl CompileOptions {
    /// The serialised `xla.CompileOptionsProto`.
    pub fn encode(&self) -> Vec<u8> {
        let mut build = Vec::new();
        build.extend(integer(build_field::NUM_REPLICAS, 1));
        build.extend(integer(build_field::NUM_PARTITIONS, self.partitions as u64));
        if self.partitions > 1 {
            build.extend(integer(build_field::USE_SPMD_PARTITIONING, 1));
            build.extend(integer(build_field::USE_SHARDY_PARTITIONER, 1));
        }
        let mut message = bytes(compile_field::EXECUTABLE_BUILD_OPTIONS, &build);
        for option in &self.xla {
            let mut entry = bytes(MAP_KEY, option.name.as_bytes());
            entry.extend(bytes(MAP_VALUE, &option.value.encode()));
            message.extend(bytes(compile_field::ENV_OPTION_OVERRIDES, &entry));
        }
        message
    }
}

impl OptionValue {
    /// The serialised `xla.OptionOverrideProto`.
    fn encode(&self) -> Vec<u8> {
        match self {
            OptionValue::Text(text) => bytes(1, text.as_bytes()),
            OptionValue::Bool(switch) => integer(2, u64::from(*switch)),
            OptionValue::Int(number) => integer(3, number.cast_unsigned()),
            OptionValue::Float(number) => {
                let mut out = tag(4, FIXED64);
                out.extend(f64::from(*number).to_le_bytes());
                out
            }
        }
    }
}

/// Field numbers of `xla.CompileOptionsProto`.
mod compile_field {
    pub const EXECUTABLE_BUILD_OPTIONS: u64 = 3;
    pub const ENV_OPTION_OVERRIDES: u64 = 7;
}

/// Field numbers of `xla.ExecutableBuildOptionsProto`.
mod build_field {
    pub const NUM_REPLICAS: u64 = 4;
    pub const NUM_PARTITIONS: u64 = 5;
    pub const USE_SPMD_PARTITIONING: u64 = 6;
    pub const USE_SHARDY_PARTITIONER: u64 = 19;
}

/// Field numbers of every map entry.
const MAP_KEY: u64 = 1;
const MAP_VALUE: u64 = 2;

/// Wire types.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        out.push(if value == 0 { low } else { low | 0x80 });
        if value == 0 {
            return out;
        }
    }
}

fn tag(field: u64, wire: u64) -> Vec<u8> {
    varint(field << 3 | wire)
}

fn integer(field: u64, value: u64) -> Vec<u8> {
    [tag(field, VARINT), varint(value)].concat()
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [tag(field, LENGTH_DELIMITED), varint(value.len() as u64), value.to_vec()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_partition_is_the_well_known_message() {
        assert_eq!(CompileOptions::default().encode(), [0x1a, 0x04, 0x20, 0x01, 0x28, 0x01]);
    }

    #[test]
    fn several_partitions_ask_for_the_partitioner() {
        let options = CompileOptions { partitions: 4, xla: vec![] };
        assert_eq!(options.encode(), [0x1a, 0x09, 0x20, 0x01, 0x28, 0x04, 0x30, 0x01, 0x98, 0x01, 0x01]);
    }

    #[test]
    fn debug_options_are_entries_of_a_map() {
        let options = CompileOptions { partitions: 1, xla: vec![XlaOption::parse("--ab=true").unwrap()] };
        let expected = [0x1a, 0x04, 0x20, 0x01, 0x28, 0x01, 0x3a, 0x08, 0x0a, 0x02, b'a', b'b', 0x12, 0x02, 0x10, 0x01];
        assert_eq!(options.encode(), expected);
    }

    #[test]
    fn option_texts_are_read_by_what_they_look_like() {
        let value = |text: &str| XlaOption::parse(text).map(|option| option.value);
        assert_eq!(value("a=3"), Some(OptionValue::Int(3)));
        assert_eq!(value("a=0.5"), Some(OptionValue::Float(0.5)));
        assert_eq!(value("a=false"), Some(OptionValue::Bool(false)));
        assert_eq!(value("a=b=c"), Some(OptionValue::Text("b=c".into())));
        assert_eq!(value("a"), None);
        assert_eq!(value("=1"), None);
    }
}
