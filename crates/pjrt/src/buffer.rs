//! Arrays in a device's memory.

use crate::client::Inner;
use crate::error::{Error, Result};
use crate::sys;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Uploads of at least this many bytes are read in place until they are done; smaller ones are copied at once, which lets
/// the call return early.
const COPY_BYTES_MAX: usize = 1 << 20;

/// Element types of arrays that cross between host and device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// 32-bit signed integer.
    I32,
    /// 32-bit float.
    F32,
}

mod sealed {
    /// Element types are a closed set: their bytes are read as the plugin's types.
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for i32 {}
}

/// A Rust type that a plugin knows.
pub trait Element: sealed::Sealed + Copy + Default {
    /// Its element type.
    const TYPE: ElementType;
}

impl Element for f32 {
    const TYPE: ElementType = ElementType::F32;
}

impl Element for i32 {
    const TYPE: ElementType = ElementType::I32;
}

impl ElementType {
    /// The number by which the interface knows it.
    fn code(self) -> u32 {
        match self {
            ElementType::I32 => 4,
            ElementType::F32 => 11,
        }
    }
}

/// An array in one device's memory.
pub struct Buffer {
    client: Arc<Inner>,
    handle: *mut c_void,
}

// SAFETY: the interface allows calls on a buffer from any thread.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Buffer")
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut args = sys::BufferArgs::new();
        args.buffer = self.handle;
        self.client.table.destroy("PJRT_Buffer_Destroy", self.client.table.api().PJRT_Buffer_Destroy, &mut args);
        self.client.live_buffers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Buffer {
    /// Takes over a handle that the plugin gave.
    pub(crate) fn own(client: Arc<Inner>, handle: *mut c_void) -> Self {
        client.live_buffers.fetch_add(1, Ordering::Relaxed);
        Self { client, handle }
    }

    pub(crate) fn handle(&self) -> *mut c_void {
        self.handle
    }

    pub(crate) fn upload<T: Element>(client: Arc<Inner>, data: &[T], dims: &[usize], device: usize) -> Result<Self> {
        let elements = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if elements != Some(data.len()) {
            return Err(Error::Argument(format!("{} elements do not fill an array of shape {dims:?}", data.len())));
        }
        let dims: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
        let in_place = size_of_val(data) >= COPY_BYTES_MAX;
        let mut args = sys::BufferFromHost::new();
        args.client = client.client;
        args.data = data.as_ptr().cast();
        args.kind = T::TYPE.code();
        args.dims = dims.as_ptr();
        args.num_dims = dims.len();
        args.host_buffer_semantics =
            if in_place { sys::semantics::IMMUTABLE_UNTIL_TRANSFER_COMPLETES } else { sys::semantics::IMMUTABLE_ONLY_DURING_CALL };
        args.device = client.device(device)?.handle.0;
        client.table.call("PJRT_Client_BufferFromHostBuffer", client.table.api().PJRT_Client_BufferFromHostBuffer, &mut args)?;
        let buffer = Self::own(client, args.buffer);
        // `data` is only borrowed, so its last reader must be done before this returns.
        buffer.finish(args.done_with_host_buffer)?;
        Ok(buffer)
    }

    /// Copies the array to the host, once it is computed, as `elements` row-major elements.
    ///
    /// # Errors
    /// The computation failed, or the array has another size or type.
    pub fn download<T: Element>(&self, elements: usize) -> Result<Vec<T>> {
        let api = self.client.table.api();
        let mut args = sys::BufferToHost::new();
        args.src = self.handle;
        // Without a destination the plugin says how many bytes it needs.
        self.client.table.call("PJRT_Buffer_ToHostBuffer", api.PJRT_Buffer_ToHostBuffer, &mut args)?;
        let expected = elements.saturating_mul(size_of::<T>());
        if args.dst_size != expected {
            return Err(Error::Argument(format!("the array has {} bytes, {expected} were expected", args.dst_size)));
        }
        let mut out = vec![T::default(); elements];
        args.dst = out.as_mut_ptr().cast();
        self.client.table.call("PJRT_Buffer_ToHostBuffer", api.PJRT_Buffer_ToHostBuffer, &mut args)?;
        self.finish(args.event)?;
        Ok(out)
    }

    /// Waits until the array is computed.
    ///
    /// # Errors
    /// The computation failed.
    pub fn wait(&self) -> Result<()> {
        let mut args = sys::BufferReadyEvent::new();
        args.buffer = self.handle;
        self.client.table.call("PJRT_Buffer_ReadyEvent", self.client.table.api().PJRT_Buffer_ReadyEvent, &mut args)?;
        self.finish(args.event)
    }

    /// Waits for an event and frees it.
    fn finish(&self, event: *mut c_void) -> Result<()> {
        if event.is_null() {
            return Ok(());
        }
        let (table, mut args) = (&self.client.table, sys::EventArgs::new());
        args.event = event;
        let waited = table.call("PJRT_Event_Await", table.api().PJRT_Event_Await, &mut args);
        table.destroy("PJRT_Event_Destroy", table.api().PJRT_Event_Destroy, &mut args);
        waited
    }
}
