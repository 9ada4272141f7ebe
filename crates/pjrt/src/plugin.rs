//! Opening a plugin, checking that it speaks our version, and turning its failures into errors.

use crate::client::Client;
use crate::error::{Error, Result};
use crate::options::OptionValue;
use crate::sys;
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LAZY, RTLD_LOCAL, RTLD_NOW};
use std::ffi::c_void;
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The least minor version of the interface whose structures this binding can rely on.
pub const API_MINOR_MIN: i32 = 90;
const API_MAJOR: i32 = 0;

/// A plugin's table of functions, and where it came from.
pub(crate) struct Table {
    api: &'static sys::Api,
    path: PathBuf,
}

// SAFETY: the table is constant after `GetPjrtApi` returned, and the interface is safe to call from any thread.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

impl Table {
    pub(crate) fn api(&self) -> &'static sys::Api {
        self.api
    }

    /// Calls a function of the table that reports failure by an error.
    pub(crate) fn call<T>(&self, name: &'static str, function: sys::Function<T>, args: &mut T) -> Result<()> {
        let function = function.ok_or(Error::Missing { function: name })?;
        // SAFETY: the table was checked to hold this function; `args` is the structure that belongs to it, with its size filled in,
        // and every pointer in it is valid for the call (the callers' duty, inside this crate).
        let error = unsafe { function(args) };
        if error.is_null() { Ok(()) } else { Err(self.failure(name, error)) }
    }

    /// As [`Table::call`] for destructors, whose failure nobody could act on.
    pub(crate) fn destroy<T>(&self, name: &'static str, function: sys::Function<T>, args: &mut T) {
        let _ = self.call(name, function, args);
    }

    /// Reads and frees an error of the plugin.
    fn failure(&self, function: &'static str, error: *mut c_void) -> Error {
        let mut message = sys::ErrorMessage::new();
        message.error = error;
        let mut code = sys::ErrorCode::new();
        code.error = error;
        // SAFETY: `error` is a live error of this plugin; the message belongs to it and is copied before it is freed.
        let text = unsafe {
            if let Some(read) = self.api.PJRT_Error_Message {
                read(&raw mut message);
            }
            if let Some(read) = self.api.PJRT_Error_GetCode {
                read(&raw mut code);
            }
            let text = text(message.message, message.message_size);
            if let Some(free) = self.api.PJRT_Error_Destroy {
                let mut args = sys::ErrorArgs::new();
                args.error = error;
                free(&raw mut args);
            }
            text
        };
        Error::Plugin { function, code: code.code, message: text }
    }
}

/// A copy of `size` bytes of text at `start`.
///
/// # Safety
/// `start` is null or valid for `size` bytes.
pub(crate) unsafe fn text(start: *const std::ffi::c_char, size: usize) -> String {
    if start.is_null() || size == 0 {
        return String::new();
    }
    // SAFETY: by the contract above.
    let bytes = unsafe { std::slice::from_raw_parts(start.cast::<u8>(), size) };
    String::from_utf8_lossy(bytes).into_owned()
}

/// An opened plugin. It stays loaded as long as the process runs.
#[derive(Clone)]
pub struct Plugin {
    table: Arc<Table>,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plugin({}, 0.{})", self.table.path.display(), self.version())
    }
}

impl Plugin {
    /// Opens the plugin at `path` after the libraries in `preload`, in their order, whose symbols it then finds
    /// (what NVIDIA's plugin needs: cudart, cublas, cudnn, nccl and so on).
    ///
    /// # Errors
    /// A library cannot be opened, is no plugin, or speaks another version.
    pub fn load(path: &Path, preload: &[PathBuf]) -> Result<Self> {
        for library in preload {
            // Kept open for ever, as the plugin's code may use it until the process ends.
            std::mem::forget(open(library, RTLD_LAZY | RTLD_GLOBAL)?);
        }
        let library = open(path, RTLD_NOW | RTLD_LOCAL)?;
        // SAFETY: the symbol is the documented entry point of every plugin, with this signature.
        let entry = unsafe { library.get::<unsafe extern "C" fn() -> *const sys::Api>(b"GetPjrtApi\0") };
        let api = match entry {
            // SAFETY: the entry point takes nothing and gives a pointer to a static table, or null.
            Ok(entry) => unsafe { entry() },
            Err(_) => return Err(Error::NotAPlugin { path: path.to_owned() }),
        };
        std::mem::forget(library);
        let table = Table { api: checked(api, path)?, path: path.to_owned() };
        table.call("PJRT_Plugin_Initialize", table.api.PJRT_Plugin_Initialize, &mut sys::PluginInitialize::new())?;
        Ok(Self { table: Arc::new(table) })
    }

    /// Minor version of the interface that the plugin speaks (the major one is 0).
    pub fn version(&self) -> i32 {
        self.table.api.version.minor
    }

    /// Where the plugin was loaded from.
    pub fn path(&self) -> &Path {
        &self.table.path
    }

    /// Starts the plugin's devices.
    ///
    /// # Errors
    /// No device, a driver that is too old, an option that the plugin does not know: in the plugin's words.
    pub fn client(&self, options: &[(String, OptionValue)]) -> Result<Client> {
        Client::create(self.table.clone(), options)
    }
}

fn open(path: &Path, flags: i32) -> Result<Library> {
    // SAFETY: running a library's initialisers is what loading a plugin means; the operator chose the file.
    unsafe { Library::open(Some(path), flags) }.map_err(|error| Error::Open { path: path.to_owned(), reason: error.to_string() })
}

/// Checks version and length of a table before anything in it is called.
fn checked(api: *const sys::Api, path: &Path) -> Result<&'static sys::Api> {
    if api.is_null() {
        return Err(Error::NotAPlugin { path: path.to_owned() });
    }
    // SAFETY: not null; size and version stand at the table's beginning in every version of the interface.
    let (size, major, minor) = unsafe {
        let size = std::ptr::addr_of!((*api).struct_size).read();
        let version = std::ptr::addr_of!((*api).version);
        (size, std::ptr::addr_of!((*version).major).read(), std::ptr::addr_of!((*version).minor).read())
    };
    if major != API_MAJOR || minor < API_MINOR_MIN {
        return Err(Error::Version { path: path.to_owned(), major, minor, wanted: API_MINOR_MIN });
    }
    let expected = offset_of!(sys::Api, PJRT_Executable_GetCompiledMemoryStats) + size_of::<usize>();
    if size < expected {
        return Err(Error::Table { path: path.to_owned(), minor, actual: size, expected });
    }
    // SAFETY: the table is static, and at least as long as what is declared here.
    Ok(unsafe { &*api })
}
