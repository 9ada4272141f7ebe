//! The plugin's profiler: what ran on the devices and on the plugin's host threads, and when.
//!
//! The interface's profiler extension gives a serialised `XSpace` message. It is read with bounds on every length; fields that
//! are not known are skipped.

use crate::error::{Error, Result};
use crate::plugin::{Table, text};
use crate::sys;
use std::collections::HashMap;
use std::ffi::{c_char, c_void};
use std::sync::Arc;

/// Kind of the profiler among the extensions.
const PROFILER_EXTENSION: u32 = 1;
/// Status code of a failure without one.
const UNKNOWN: u32 = 2;
/// Most extensions that are looked at.
const EXTENSIONS_MAX: usize = 64;

/// Fields of `tensorflow.ProfileOptions`: version 1, host tracing at level 1, device tracing on.
const OPTIONS: [u8; 6] = [0x10, 0x01, 0x18, 0x01, 0x28, 0x01];

#[repr(C)]
struct Extension {
    struct_size: usize,
    kind: u32,
    next: *const Extension,
}

#[repr(C)]
struct ProfilerExtension {
    base: Extension,
    api: *const Api,
}

type Call<T> = Option<unsafe extern "C" fn(*mut T) -> *mut c_void>;

#[repr(C)]
struct Api {
    struct_size: usize,
    private: *mut c_void,
    error_destroy: Option<unsafe extern "C" fn(*mut ErrorArgs)>,
    error_message: Option<unsafe extern "C" fn(*mut MessageArgs)>,
    error_code: *const c_void,
    create: Call<CreateArgs>,
    destroy: Call<ProfilerArgs>,
    start: Call<ProfilerArgs>,
    stop: Call<ProfilerArgs>,
    collect: Call<CollectArgs>,
}

#[repr(C)]
struct ErrorArgs {
    struct_size: usize,
    private: *mut c_void,
    error: *mut c_void,
}

#[repr(C)]
struct MessageArgs {
    struct_size: usize,
    private: *mut c_void,
    error: *mut c_void,
    message: *const c_char,
    message_size: usize,
}

#[repr(C)]
struct CreateArgs {
    struct_size: usize,
    options: *const c_char,
    options_size: usize,
    profiler: *mut c_void,
}

#[repr(C)]
struct ProfilerArgs {
    struct_size: usize,
    profiler: *mut c_void,
}

#[repr(C)]
struct CollectArgs {
    struct_size: usize,
    profiler: *mut c_void,
    buffer: *mut u8,
    buffer_size: usize,
}

/// A profile being taken; [`Profiler::finish`] ends it.
pub struct Profiler {
    api: &'static Api,
    handle: *mut c_void,
    _table: Arc<Table>,
}

// SAFETY: the profiler's functions may be called from any thread, and one at a time is called through `&mut` or by value.
unsafe impl Send for Profiler {}

impl Drop for Profiler {
    fn drop(&mut self) {
        let _ = self.call("destroying the profiler", self.api.destroy);
    }
}

/// One thing that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where: the device or `/host…`, and its stream or thread.
    pub track: String,
    /// What, e.g. a kernel.
    pub name: String,
    /// When it began, ns on the profiler's clock.
    pub start_ns: u64,
    /// How long it took, ns.
    pub duration_ns: u64,
}

impl Profiler {
    /// Starts a profile.
    ///
    /// # Errors
    /// The plugin has no profiler, or it cannot start.
    pub(crate) fn start(table: Arc<Table>) -> Result<Self> {
        let api = find(table.api()).ok_or(Error::Missing { function: "the profiler extension" })?;
        let mut args = CreateArgs {
            struct_size: size_of::<CreateArgs>(),
            options: OPTIONS.as_ptr().cast(),
            options_size: OPTIONS.len(),
            profiler: std::ptr::null_mut(),
        };
        check(api, "creating the profiler", api.create, &mut args)?;
        let profiler = Self { api, handle: args.profiler, _table: table };
        profiler.call("starting the profiler", api.start)?;
        Ok(profiler)
    }

    fn call(&self, what: &'static str, function: Call<ProfilerArgs>) -> Result<()> {
        check(self.api, what, function, &mut ProfilerArgs { struct_size: size_of::<ProfilerArgs>(), profiler: self.handle })
    }

    /// Ends the profile and gives what ran, as the plugin says it: a serialised `XSpace`, for [`spans`].
    ///
    /// # Errors
    /// The plugin cannot say.
    pub fn finish(self) -> Result<Vec<u8>> {
        self.call("stopping the profiler", self.api.stop)?;
        let mut args =
            CollectArgs { struct_size: size_of::<CollectArgs>(), profiler: self.handle, buffer: std::ptr::null_mut(), buffer_size: 0 };
        check(self.api, "collecting the profile", self.api.collect, &mut args)?;
        if args.buffer_size == 0 {
            return Ok(Vec::new());
        }
        if !args.buffer.is_null() {
            // SAFETY: the plugin named its own memory, which lives as long as the profiler.
            return Ok(unsafe { std::slice::from_raw_parts(args.buffer, args.buffer_size) }.to_vec());
        }
        // It said how much it needs, and writes when it is given that.
        let mut bytes = vec![0u8; args.buffer_size];
        args.buffer = bytes.as_mut_ptr();
        check(self.api, "collecting the profile", self.api.collect, &mut args)?;
        Ok(bytes)
    }
}

fn find(table: &'static sys::Api) -> Option<&'static Api> {
    let mut next = table.extension_start.cast_const().cast::<Extension>();
    for _ in 0..EXTENSIONS_MAX {
        // SAFETY: the table's extensions are a static, null-terminated list; each begins with this structure.
        let extension = unsafe { next.as_ref() }?;
        if extension.kind == PROFILER_EXTENSION {
            // SAFETY: an extension of this kind has this layout; its table is static.
            let api = unsafe { (*next.cast::<ProfilerExtension>()).api.as_ref() }?;
            return (api.struct_size >= size_of::<Api>()).then_some(api);
        }
        next = extension.next;
    }
    None
}

fn check<T>(api: &'static Api, function: &'static str, call: Call<T>, args: &mut T) -> Result<()> {
    let call = call.ok_or(Error::Missing { function })?;
    // SAFETY: the structure belongs to the function, and its pointers are valid for the call.
    let error = unsafe { call(args) };
    if error.is_null() {
        return Ok(());
    }
    let mut message = MessageArgs {
        struct_size: size_of::<MessageArgs>(),
        private: std::ptr::null_mut(),
        error,
        message: std::ptr::null(),
        message_size: 0,
    };
    // SAFETY: the error is alive until it is destroyed below, after its text was copied.
    let words = unsafe {
        if let Some(read) = api.error_message {
            read(&raw mut message);
        }
        let words = text(message.message, message.message_size);
        if let Some(destroy) = api.error_destroy {
            let mut args = ErrorArgs { struct_size: size_of::<ErrorArgs>(), private: std::ptr::null_mut(), error };
            destroy(&raw mut args);
        }
        words
    };
    Err(Error::Plugin { function, code: UNKNOWN, message: words })
}

/// A field of a protocol-buffer message.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, in order; stops with `None` at damage.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        if tag == 0 {
            // Plugins end the record with a zero.
            break;
        }
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut bytes)?),
            1 => Field::Number(u64::from_le_bytes(*bytes.split_off(..8)?.first_chunk()?)),
            2 => {
                let len = usize::try_from(varint(&mut bytes)?).ok()?;
                Field::Bytes(bytes.split_off(..len)?)
            }
            5 => Field::Number(u64::from(u32::from_le_bytes(*bytes.split_off(..4)?.first_chunk()?))),
            _ => return None,
        };
        out.push((tag >> 3, field));
    }
    Some(out)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The spans of an `XSpace`: planes (field 1) of lines of events. `None` for bytes that are none.
pub fn spans(bytes: &[u8]) -> Option<Vec<Span>> {
    let mut out = Vec::new();
    for (number, field) in fields(bytes)? {
        if let (1, Field::Bytes(plane)) = (number, field) {
            read_plane(plane, &mut out)?;
        }
    }
    Some(out)
}

fn read_plane(plane: &[u8], out: &mut Vec<Span>) -> Option<()> {
    let (mut title, mut lines, mut names) = (String::new(), Vec::new(), HashMap::new());
    for (number, field) in fields(plane)? {
        match (number, field) {
            (2, Field::Bytes(text)) => title = name(text),
            (3, Field::Bytes(line)) => lines.push(line),
            (4, Field::Bytes(entry)) => {
                let (mut key, mut value) = (0, String::new());
                for (number, field) in fields(entry)? {
                    match (number, field) {
                        (1, Field::Number(id)) => key = id,
                        (2, Field::Bytes(metadata)) => {
                            for (number, field) in fields(metadata)? {
                                if let (2, Field::Bytes(text)) = (number, field) {
                                    value = name(text);
                                }
                            }
                        }
                        _ => {}
                    }
                }
                names.insert(key, value);
            }
            _ => {}
        }
    }
    lines.into_iter().try_for_each(|line| read_line(line, &title, &names, out))
}

fn read_line(line: &[u8], plane: &str, names: &HashMap<u64, String>, out: &mut Vec<Span>) -> Option<()> {
    const PS_PER_NS: u64 = 1000;
    let (mut title, mut start_ns, mut events) = (String::new(), 0u64, Vec::new());
    for (number, field) in fields(line)? {
        match (number, field) {
            (2, Field::Bytes(text)) => title = name(text),
            (3, Field::Number(ns)) => start_ns = ns,
            (4, Field::Bytes(event)) => events.push(event),
            _ => {}
        }
    }
    let track = format!("{plane} {title}");
    for event in events {
        let (mut id, mut offset_ps, mut duration_ps) = (0, 0, 0);
        for (number, field) in fields(event)? {
            match (number, field) {
                (1, Field::Number(number)) => id = number,
                (2, Field::Number(ps)) => offset_ps = ps,
                (3, Field::Number(ps)) => duration_ps = ps,
                _ => {}
            }
        }
        out.push(Span {
            track: track.clone(),
            name: names.get(&id).cloned().unwrap_or_default(),
            start_ns: start_ns.saturating_add(offset_ps / PS_PER_NS),
            duration_ns: duration_ps / PS_PER_NS,
        });
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One plane `gpu` with a line `s` at 1000 ns, and an event `k` 2 ns later for 3 ns.
    const SPACE: &[u8] = b"\x0a\x27\x12\x03gpu\x22\x09\x08\x07\x12\x05\x08\x07\x12\x01k\x1a\x15\x12\x01s\x18\xe8\x07\x22\x0d\x08\x07\x10\xd0\x0f\x18\xb8\x17\x22\x03abc";

    #[test]
    fn a_profile_is_read_and_damage_is_refused() {
        let span = Span { track: "gpu s".into(), name: "k".into(), start_ns: 1002, duration_ns: 3 };
        assert_eq!(spans(SPACE), Some(vec![span]));
        assert_eq!(spans(b""), Some(vec![]));
        for end in 1..SPACE.len() {
            assert_eq!(spans(&SPACE[..end]), None, "cut at {end}");
        }
    }
}
