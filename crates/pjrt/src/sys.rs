//! The C interface as far as it is used: argument structures and the table of functions.
//!
//! Every structure begins with its own size and an extension pointer; the plugin compares the size with what it was built for,
//! which is how both sides agree on the layout. Sizes leave out padding behind the last field, as the interface counts them.
//! Layouts are those of interface version 0.114; fields were only ever added at the end.

#![allow(non_snake_case, missing_docs)]

use std::ffi::{c_char, c_int, c_void};
use std::mem::offset_of;

/// Declares structures of the interface with a constructor that fills in the size and zeroes the rest.
macro_rules! structs {
    ($($(#[$doc:meta])* $name:ident, last $last:ident: { $($field:ident: $ty:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[repr(C)]
        pub struct $name {
            pub struct_size: usize,
            pub extension_start: *mut c_void,
            $(pub $field: $ty,)*
        }
        impl $name {
            /// All zero but the size.
            pub fn new() -> Self {
                // SAFETY: every field is an integer, a boolean, a pointer or a structure of such; all of them may be zero.
                let mut args: Self = unsafe { std::mem::zeroed() };
                args.struct_size = offset_of!(Self, $last) + size_of_val(&args.$last);
                args
            }
        }
    )*};
}

structs! {
    ErrorArgs, last error: { error: *mut c_void }
    ErrorMessage, last message_size: { error: *const c_void, message: *const c_char, message_size: usize }
    ErrorCode, last code: { error: *const c_void, code: u32 }
    PluginInitialize, last extension_start: {}
    EventArgs, last event: { event: *mut c_void }
    NamedValue, last value_size: { name: *const c_char, name_size: usize, kind: u32, value: NamedValueUnion, value_size: usize }
    ClientCreate, last kv_try_get_user_arg: {
        create_options: *const NamedValue,
        num_options: usize,
        kv_get_callback: *const c_void,
        kv_get_user_arg: *mut c_void,
        kv_put_callback: *const c_void,
        kv_put_user_arg: *mut c_void,
        client: *mut c_void,
        kv_try_get_callback: *const c_void,
        kv_try_get_user_arg: *mut c_void,
    }
    ClientArgs, last client: { client: *mut c_void }
    /// Platform name and version.
    ClientText, last text_size: { client: *mut c_void, text: *const c_char, text_size: usize }
    ClientDevices, last num_devices: { client: *mut c_void, devices: *const *mut c_void, num_devices: usize }
    DeviceDescriptionOf, last device_description: { device: *mut c_void, device_description: *mut c_void }
    DeviceId, last id: { device_description: *mut c_void, id: c_int }
    DeviceText, last text_size: { device_description: *mut c_void, text: *const c_char, text_size: usize }
    DeviceMemoryStats, last peak_allocated_bytes_is_set: {
        device: *mut c_void,
        bytes_in_use: i64,
        peak_bytes_in_use: i64,
        peak_bytes_in_use_is_set: bool,
        num_allocs: i64,
        num_allocs_is_set: bool,
        largest_alloc_size: i64,
        largest_alloc_size_is_set: bool,
        bytes_limit: i64,
        bytes_limit_is_set: bool,
        bytes_reserved: i64,
        bytes_reserved_is_set: bool,
        peak_bytes_reserved: i64,
        peak_bytes_reserved_is_set: bool,
        bytes_reservable_limit: i64,
        bytes_reservable_limit_is_set: bool,
        largest_free_block_bytes: i64,
        largest_free_block_bytes_is_set: bool,
        pool_bytes: i64,
        pool_bytes_is_set: bool,
        peak_pool_bytes: i64,
        peak_pool_bytes_is_set: bool,
        peak_allocated_bytes: i64,
        peak_allocated_bytes_is_set: bool,
    }
    Program, last format_size: { code: *const c_char, code_size: usize, format: *const c_char, format_size: usize }
    ProgramOf, last program: { executable: *mut c_void, program: *mut Program }
    ClientCompile, last executable: {
        client: *mut c_void,
        program: *const Program,
        compile_options: *const c_char,
        compile_options_size: usize,
        executable: *mut c_void,
    }
    BufferFromHost, last buffer: {
        client: *mut c_void,
        data: *const c_void,
        kind: u32,
        dims: *const i64,
        num_dims: usize,
        byte_strides: *const i64,
        num_byte_strides: usize,
        host_buffer_semantics: u32,
        device: *mut c_void,
        memory: *mut c_void,
        device_layout: *mut c_void,
        done_with_host_buffer: *mut c_void,
        buffer: *mut c_void,
    }
    BufferArgs, last buffer: { buffer: *mut c_void }
    BufferToHost, last event: { src: *mut c_void, host_layout: *mut c_void, dst: *mut c_void, dst_size: usize, event: *mut c_void }
    BufferReadyEvent, last event: { buffer: *mut c_void, event: *mut c_void }
    ExecutableArgs, last executable: { executable: *mut c_void }
    ExecutableOf, last executable: { loaded_executable: *mut c_void, executable: *mut c_void }
    ExecutableCount, last count: { executable: *mut c_void, count: usize }
    ExecutableSerialize, last serialized_executable_deleter: {
        executable: *const c_void,
        serialized_bytes: *const c_char,
        serialized_bytes_size: usize,
        serialized_executable: *mut c_void,
        serialized_executable_deleter: Option<unsafe extern "C" fn(*mut c_void)>,
    }
    ExecutableDeserialize, last load_options: {
        client: *mut c_void,
        serialized_executable: *const c_char,
        serialized_executable_size: usize,
        loaded_executable: *mut c_void,
        overridden_serialized_compile_options: *const c_char,
        overridden_serialized_compile_options_size: usize,
        load_options: *mut c_void,
    }
    CompiledMemoryStats, last peak_unpadded_heap_bytes: {
        executable: *mut c_void,
        generated_code_size_in_bytes: i64,
        argument_size_in_bytes: i64,
        output_size_in_bytes: i64,
        alias_size_in_bytes: i64,
        temp_size_in_bytes: i64,
        host_generated_code_size_in_bytes: i64,
        host_argument_size_in_bytes: i64,
        host_output_size_in_bytes: i64,
        host_alias_size_in_bytes: i64,
        host_temp_size_in_bytes: i64,
        peak_memory_in_bytes: i64,
        total_size_in_bytes: i64,
        total_allocation_bytes: i64,
        indefinite_allocations: i64,
        peak_unpadded_heap_bytes: i64,
    }
    ExecuteOptions, last num_hlo_output_callbacks: {
        send_callbacks: *mut c_void,
        recv_callbacks: *mut c_void,
        num_send_ops: usize,
        num_recv_ops: usize,
        launch_id: c_int,
        non_donatable_input_indices: *const i64,
        num_non_donatable_input_indices: usize,
        context: *mut c_void,
        call_location: *const c_char,
        num_tasks: usize,
        task_ids: *mut c_int,
        incarnation_ids: *mut i64,
        multi_slice_config: *mut c_void,
        use_major_to_minor_data_layout_for_callbacks: bool,
        hlo_output_callbacks: *mut c_void,
        num_hlo_output_callbacks: usize,
    }
    Execute, last execute_device: {
        executable: *mut c_void,
        options: *mut ExecuteOptions,
        argument_lists: *const *const *mut c_void,
        num_devices: usize,
        num_args: usize,
        output_lists: *const *mut *mut c_void,
        device_complete_events: *mut *mut c_void,
        execute_device: *mut c_void,
    }
}

/// The value of a [`NamedValue`]; its kind says which.
#[repr(C)]
#[derive(Clone, Copy)]
pub union NamedValueUnion {
    pub text: *const c_char,
    pub int64: i64,
    pub float: f32,
    pub boolean: bool,
}

/// Kinds of a [`NamedValue`].
pub mod named {
    pub const TEXT: u32 = 0;
    pub const INT64: u32 = 1;
    pub const FLOAT: u32 = 3;
    pub const BOOLEAN: u32 = 4;
}

/// Who may touch the host's memory while an upload is under way.
pub mod semantics {
    pub const IMMUTABLE_ONLY_DURING_CALL: u32 = 0;
    pub const IMMUTABLE_UNTIL_TRANSFER_COMPLETES: u32 = 1;
}

/// A function of the table: takes its argument structure and gives an error or null.
pub type Function<T> = Option<unsafe extern "C" fn(*mut T) -> *mut c_void>;
/// A function that cannot fail.
pub type Infallible<T> = Option<unsafe extern "C" fn(*mut T)>;

/// The interface's own version.
#[repr(C)]
pub struct ApiVersion {
    pub struct_size: usize,
    pub extension_start: *mut c_void,
    pub major: c_int,
    pub minor: c_int,
}

/// A place in the table that is not used here.
type Unused = *const c_void;

/// The table of functions, in the order of the interface, up to the last one that is used.
#[repr(C)]
pub struct Api {
    pub struct_size: usize,
    pub extension_start: *mut c_void,
    pub version: ApiVersion,
    pub PJRT_Error_Destroy: Infallible<ErrorArgs>,
    pub PJRT_Error_Message: Infallible<ErrorMessage>,
    pub PJRT_Error_GetCode: Function<ErrorCode>,
    pub PJRT_Plugin_Initialize: Function<PluginInitialize>,
    _plugin_attributes: Unused,
    pub PJRT_Event_Destroy: Function<EventArgs>,
    _event_state: [Unused; 2],
    pub PJRT_Event_Await: Function<EventArgs>,
    _event_on_ready: Unused,
    pub PJRT_Client_Create: Function<ClientCreate>,
    pub PJRT_Client_Destroy: Function<ClientArgs>,
    pub PJRT_Client_PlatformName: Function<ClientText>,
    _client_process_index: Unused,
    pub PJRT_Client_PlatformVersion: Function<ClientText>,
    _client_devices: Unused,
    pub PJRT_Client_AddressableDevices: Function<ClientDevices>,
    _client_lookups: [Unused; 2],
    _client_memories: Unused,
    pub PJRT_Client_Compile: Function<ClientCompile>,
    _client_assignment: Unused,
    pub PJRT_Client_BufferFromHostBuffer: Function<BufferFromHost>,
    pub PJRT_DeviceDescription_Id: Function<DeviceId>,
    _description: [Unused; 2],
    pub PJRT_DeviceDescription_Kind: Function<DeviceText>,
    _description_text: [Unused; 2],
    pub PJRT_Device_GetDescription: Function<DeviceDescriptionOf>,
    _device: [Unused; 4],
    pub PJRT_Device_MemoryStats: Function<DeviceMemoryStats>,
    _memory: [Unused; 5],
    pub PJRT_Executable_Destroy: Function<ExecutableArgs>,
    _executable: [Unused; 3],
    pub PJRT_Executable_NumOutputs: Function<ExecutableCount>,
    _executable_details: [Unused; 3],
    pub PJRT_Executable_OptimizedProgram: Function<ProgramOf>,
    pub PJRT_Executable_Serialize: Function<ExecutableSerialize>,
    pub PJRT_LoadedExecutable_Destroy: Function<ExecutableArgs>,
    pub PJRT_LoadedExecutable_GetExecutable: Function<ExecutableOf>,
    pub PJRT_LoadedExecutable_AddressableDevices: Function<ClientDevices>,
    _loaded_executable: [Unused; 2],
    pub PJRT_LoadedExecutable_Execute: Function<Execute>,
    pub PJRT_Executable_DeserializeAndLoad: Function<ExecutableDeserialize>,
    _loaded_fingerprint: Unused,
    pub PJRT_Buffer_Destroy: Function<BufferArgs>,
    _buffer: [Unused; 8],
    pub PJRT_Buffer_Delete: Function<BufferArgs>,
    _buffer_copy: [Unused; 2],
    pub PJRT_Buffer_ToHostBuffer: Function<BufferToHost>,
    _buffer_on_cpu: Unused,
    pub PJRT_Buffer_ReadyEvent: Function<BufferReadyEvent>,
    _buffer_rest: [Unused; 4],
    _copy_stream: [Unused; 5],
    _topology: [Unused; 7],
    _compile: Unused,
    _output_types: [Unused; 2],
    _buffer_memory: [Unused; 2],
    _fingerprint: [Unused; 2],
    pub PJRT_Executable_GetCompiledMemoryStats: Function<CompiledMemoryStats>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_and_its_arguments_lie_as_the_interface_says() {
        assert_eq!(offset_of!(Api, PJRT_Error_Destroy), 40);
        assert_eq!(offset_of!(Api, PJRT_Client_Create), 120);
        assert_eq!(offset_of!(Api, PJRT_Client_Compile), 200);
        assert_eq!(offset_of!(Api, PJRT_Client_BufferFromHostBuffer), 216);
        assert_eq!(offset_of!(Api, PJRT_DeviceDescription_Kind), 248);
        assert_eq!(offset_of!(Api, PJRT_Device_GetDescription), 272);
        assert_eq!(offset_of!(Api, PJRT_Device_MemoryStats), 312);
        assert_eq!(offset_of!(Api, PJRT_Executable_Destroy), 360);
        let sizes = [
            (NamedValue::new().struct_size, 56),
            (ClientCreate::new().struct_size, 88),
            (ErrorCode::new().struct_size, 28),
            (DeviceMemoryStats::new().struct_size, 201),
            (BufferFromHost::new().struct_size, 120),
            (ExecuteOptions::new().struct_size, 144),
            (Execute::new().struct_size, 80),
            (ExecutableDeserialize::new().struct_size, 72),
            (CompiledMemoryStats::new().struct_size, 144),
            (Program::new().struct_size, 48),
            (PluginInitialize::new().struct_size, 16),
        ];
        for (index, (actual, expected)) in sizes.into_iter().enumerate() {
            assert_eq!(actual, expected, "structure {index}");
        }
    }
}
