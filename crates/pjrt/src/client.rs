//! A plugin's client and its devices.

use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::executable::Executable;
use crate::options::{CompileOptions, OptionValue, named_values};
use crate::plugin::{Table, text};
use crate::sys;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A running client. Cloning shares it; it stops when its last clone, executable and buffer are gone.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) table: Arc<Table>,
    pub(crate) client: *mut c_void,
    pub(crate) live_buffers: AtomicUsize,
    devices: Vec<Device>,
    platform: String,
    platform_version: String,
}

// SAFETY: the interface allows calls on a client and its devices from any thread.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Drop for Inner {
    fn drop(&mut self) {
        let mut args = sys::ClientArgs::new();
        args.client = self.client;
        self.table.destroy("PJRT_Client_Destroy", self.table.api().PJRT_Client_Destroy, &mut args);
    }
}

/// A device of a client.
#[derive(Clone, Debug)]
pub struct Device {
    /// Number among all devices of the client.
    pub id: i32,
    /// What it is, e.g. `NVIDIA H200` or `cpu`.
    pub kind: String,
    pub(crate) handle: DeviceHandle,
}

/// A device's pointer, which lives as long as its client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeviceHandle(pub(crate) *mut c_void);

// SAFETY: devices may be used from any thread while their client lives, which the owners of a handle see to.
unsafe impl Send for DeviceHandle {}
// SAFETY: as above.
unsafe impl Sync for DeviceHandle {}

/// What an allocator says of a device's memory, bytes; `None` where the plugin does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// In use now.
    pub in_use: Option<u64>,
    /// Most that was in use at a time since the client started.
    pub peak: Option<u64>,
    /// Most that the client may use.
    pub limit: Option<u64>,
}

impl Client {
    pub(crate) fn create(table: Arc<Table>, options: &[(String, OptionValue)]) -> Result<Self> {
        let named = named_values(options);
        let mut args = sys::ClientCreate::new();
        args.create_options = named.as_ptr();
        args.num_options = named.len();
        table.call("PJRT_Client_Create", table.api().PJRT_Client_Create, &mut args)?;
        let mut inner = Inner {
            table,
            client: args.client,
            live_buffers: AtomicUsize::new(0),
            devices: Vec::new(),
            platform: String::new(),
            platform_version: String::new(),
        };
        inner.platform = inner.text("PJRT_Client_PlatformName", inner.table.api().PJRT_Client_PlatformName)?;
        inner.platform_version = inner.text("PJRT_Client_PlatformVersion", inner.table.api().PJRT_Client_PlatformVersion)?;
        inner.devices = inner.list_devices()?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The platform, e.g. `cpu` or `cuda`.
    pub fn platform(&self) -> &str {
        &self.inner.platform
    }

    /// The platform's version in the plugin's words.
    pub fn platform_version(&self) -> &str {
        &self.inner.platform_version
    }

    /// The devices that this process can use.
    pub fn devices(&self) -> &[Device] {
        &self.inner.devices
    }

    /// Buffers that exist now.
    pub fn live_buffers(&self) -> usize {
        self.inner.live_buffers.load(Ordering::Relaxed)
    }

    /// State of the memory of device number `index`; empty where the plugin cannot tell.
    pub fn memory(&self, index: usize) -> MemoryStats {
        let Some(device) = self.inner.devices.get(index) else { return MemoryStats::default() };
        let mut args = sys::DeviceMemoryStats::new();
        args.device = device.handle.0;
        let table = &self.inner.table;
        if table.call("PJRT_Device_MemoryStats", table.api().PJRT_Device_MemoryStats, &mut args).is_err() {
            return MemoryStats::default();
        }
        let bytes = |value: i64, is_set: bool| is_set.then(|| u64::try_from(value).unwrap_or(0));
        MemoryStats {
            in_use: bytes(args.bytes_in_use, true),
            peak: bytes(args.peak_bytes_in_use, args.peak_bytes_in_use_is_set),
            limit: bytes(args.bytes_limit, args.bytes_limit_is_set),
        }
    }

    /// Starts to record what runs on the devices and on the plugin's threads.
    ///
    /// # Errors
    /// The plugin has no profiler, or it cannot start.
    pub fn profile(&self) -> Result<crate::Profiler> {
        crate::Profiler::start(self.inner.table.clone())
    }

    /// Compiles a program (StableHLO in MLIR's text form).
    ///
    /// # Errors
    /// The program does not parse or cannot be compiled, in the plugin's words.
    pub fn compile(&self, mlir: &str, options: &CompileOptions) -> Result<Executable> {
        Executable::compile(self.inner.clone(), mlir, options)
    }

    /// Takes back an executable that [`Executable::serialize`] wrote, on the same kind of device with the same plugin.
    ///
    /// # Errors
    /// The bytes are of another plugin, version or device.
    pub fn deserialize(&self, bytes: &[u8]) -> Result<Executable> {
        Executable::deserialize(self.inner.clone(), bytes)
    }

    /// Copies `data`, a row-major array of shape `dims`, to device number `device`.
    ///
    /// # Errors
    /// The length does not fit the shape, there is no such device, or its memory is full.
    pub fn upload<T: crate::Element>(&self, data: &[T], dims: &[usize], device: usize) -> Result<Buffer> {
        Buffer::upload(self.inner.clone(), data, dims, device)
    }
}

impl Inner {
    pub(crate) fn device(&self, index: usize) -> Result<&Device> {
        let missing = || Error::Argument(format!("there is no device {index}, the client has {}", self.devices.len()));
        self.devices.get(index).ok_or_else(missing)
    }

    fn text(&self, name: &'static str, function: sys::Function<sys::ClientText>) -> Result<String> {
        let mut args = sys::ClientText::new();
        args.client = self.client;
        self.table.call(name, function, &mut args)?;
        // SAFETY: the text belongs to the client, which is alive.
        Ok(unsafe { text(args.text, args.text_size) })
    }

    fn list_devices(&self) -> Result<Vec<Device>> {
        let mut args = sys::ClientDevices::new();
        args.client = self.client;
        self.table.call("PJRT_Client_AddressableDevices", self.table.api().PJRT_Client_AddressableDevices, &mut args)?;
        if args.devices.is_null() {
            return Ok(Vec::new());
        }
        // SAFETY: the list belongs to the client and has this length.
        let handles = unsafe { std::slice::from_raw_parts(args.devices, args.num_devices) };
        handles.iter().map(|&handle| self.describe(handle)).collect()
    }

    fn describe(&self, handle: *mut c_void) -> Result<Device> {
        let api = self.table.api();
        let mut of = sys::DeviceDescriptionOf::new();
        of.device = handle;
        self.table.call("PJRT_Device_GetDescription", api.PJRT_Device_GetDescription, &mut of)?;
        let mut id = sys::DeviceId::new();
        id.device_description = of.device_description;
        self.table.call("PJRT_DeviceDescription_Id", api.PJRT_DeviceDescription_Id, &mut id)?;
        let mut kind = sys::DeviceText::new();
        kind.device_description = of.device_description;
        self.table.call("PJRT_DeviceDescription_Kind", api.PJRT_DeviceDescription_Kind, &mut kind)?;
        // SAFETY: the text belongs to the description, which lives as long as the client.
        let kind = unsafe { text(kind.text, kind.text_size) };
        Ok(Device { id: id.id, kind, handle: DeviceHandle(handle) })
    }
}
