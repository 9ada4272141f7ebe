//! Compiled programs.

use crate::buffer::Buffer;
use crate::client::Inner;
use crate::error::{Error, Result};
use crate::options::CompileOptions;
use crate::plugin::text;
use crate::sys;
use std::ffi::c_void;
use std::sync::Arc;

const FORMAT: &str = "mlir";

/// A compiled program on the devices of its client.
pub struct Executable {
    client: Arc<Inner>,
    handle: *mut c_void,
    outputs: usize,
    partitions: usize,
}

// SAFETY: the interface allows calls on an executable from any thread.
unsafe impl Send for Executable {}
// SAFETY: as above.
unsafe impl Sync for Executable {}

impl std::fmt::Debug for Executable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Executable({} outputs, {} partitions)", self.outputs, self.partitions)
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        let mut args = sys::ExecutableArgs::new();
        args.executable = self.handle;
        let table = &self.client.table;
        table.destroy("PJRT_LoadedExecutable_Destroy", table.api().PJRT_LoadedExecutable_Destroy, &mut args);
    }
}

/// One argument of a run: the array's parts, one for each partition.
pub enum Argument<'a> {
    /// Stays as it is; where the program would overwrite it, the plugin copies it first.
    Shared(&'a [Buffer]),
    /// Given away: an output may take its memory.
    Donated(Vec<Buffer>),
}

impl Argument<'_> {
    fn parts(&self) -> &[Buffer] {
        match self {
            Argument::Shared(parts) => parts,
            Argument::Donated(parts) => parts,
        }
    }
}

/// What a program needs on each device, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgramMemory {
    /// Arguments.
    pub arguments: u64,
    /// Results.
    pub outputs: u64,
    /// Results that take the memory of arguments.
    pub aliased: u64,
    /// Working memory.
    pub temporary: u64,
}

impl ProgramMemory {
    /// Most that is needed at a time.
    pub fn total(&self) -> u64 {
        (self.arguments + self.outputs + self.temporary).saturating_sub(self.aliased)
    }
}

impl Executable {
    pub(crate) fn compile(client: Arc<Inner>, mlir: &str, options: &CompileOptions) -> Result<Self> {
        let mut program = sys::Program::new();
        program.code = mlir.as_ptr().cast();
        program.code_size = mlir.len();
        program.format = FORMAT.as_ptr().cast();
        program.format_size = FORMAT.len();
        let encoded = options.encode();
        let mut args = sys::ClientCompile::new();
        args.client = client.client;
        args.program = &raw const program;
        args.compile_options = encoded.as_ptr().cast();
        args.compile_options_size = encoded.len();
        client.table.call("PJRT_Client_Compile", client.table.api().PJRT_Client_Compile, &mut args)?;
        Self::own(client, args.executable)
    }

    pub(crate) fn deserialize(client: Arc<Inner>, bytes: &[u8]) -> Result<Self> {
        let mut args = sys::ExecutableDeserialize::new();
        args.client = client.client;
        args.serialized_executable = bytes.as_ptr().cast();
        args.serialized_executable_size = bytes.len();
        let table = &client.table;
        table.call("PJRT_Executable_DeserializeAndLoad", table.api().PJRT_Executable_DeserializeAndLoad, &mut args)?;
        Self::own(client, args.loaded_executable)
    }

    fn own(client: Arc<Inner>, handle: *mut c_void) -> Result<Self> {
        let mut owned = Self { client, handle, outputs: 0, partitions: 0 };
        owned.outputs = owned.with_program(|executable, program| {
            let mut args = sys::ExecutableCount::new();
            args.executable = program;
            let table = &executable.client.table;
            table.call("PJRT_Executable_NumOutputs", table.api().PJRT_Executable_NumOutputs, &mut args)?;
            Ok(args.count)
        })?;
        let mut args = sys::ClientDevices::new();
        args.client = owned.handle;
        let table = &owned.client.table;
        table.call("PJRT_LoadedExecutable_AddressableDevices", table.api().PJRT_LoadedExecutable_AddressableDevices, &mut args)?;
        owned.partitions = args.num_devices;
        Ok(owned)
    }

    /// Outputs of the program.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Devices on which it runs.
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    /// Queues one run and gives each output's parts, one for each partition. It does not wait for the result.
    ///
    /// # Errors
    /// An argument with another number of parts, or what the plugin reports; then donated arguments are gone.
    pub fn run(&self, arguments: Vec<Argument<'_>>) -> Result<Vec<Vec<Buffer>>> {
        if let Some(position) = arguments.iter().position(|argument| argument.parts().len() != self.partitions) {
            let parts = arguments[position].parts().len();
            return Err(Error::Argument(format!("argument {position} has {parts} parts, the program runs on {}", self.partitions)));
        }
        let shared: Vec<i64> =
            (0..).zip(&arguments).filter(|(_, argument)| matches!(argument, Argument::Shared(_))).map(|(index, _)| index).collect();
        let part = |device: usize| arguments.iter().map(|argument| argument.parts()[device].handle()).collect::<Vec<_>>();
        let inputs: Vec<Vec<*mut c_void>> = (0..self.partitions).map(part).collect();
        let input_lists: Vec<*const *mut c_void> = inputs.iter().map(Vec::as_ptr).collect();
        let mut outputs: Vec<Vec<*mut c_void>> = vec![vec![std::ptr::null_mut(); self.outputs]; self.partitions];
        let output_lists: Vec<*mut *mut c_void> = outputs.iter_mut().map(Vec::as_mut_ptr).collect();
        let mut options = sys::ExecuteOptions::new();
        options.non_donatable_input_indices = shared.as_ptr();
        options.num_non_donatable_input_indices = shared.len();
        let mut args = sys::Execute::new();
        args.executable = self.handle;
        args.options = &raw mut options;
        args.argument_lists = input_lists.as_ptr();
        args.num_devices = self.partitions;
        args.num_args = arguments.len();
        args.output_lists = output_lists.as_ptr();
        let table = &self.client.table;
        table.call("PJRT_LoadedExecutable_Execute", table.api().PJRT_LoadedExecutable_Execute, &mut args)?;
        let own = |index: usize| outputs.iter().map(|list| Buffer::own(self.client.clone(), list[index])).collect();
        Ok((0..self.outputs).map(own).collect())
    }

    /// What the compiler says that the program needs on each device; `None` where it does not say.
    pub fn memory(&self) -> Option<ProgramMemory> {
        let stats = self.with_program(|executable, program| {
            let mut args = sys::CompiledMemoryStats::new();
            args.executable = program;
            let table = &executable.client.table;
            table.call("PJRT_Executable_GetCompiledMemoryStats", table.api().PJRT_Executable_GetCompiledMemoryStats, &mut args)?;
            Ok(args)
        });
        let bytes = |value: i64| u64::try_from(value).unwrap_or(0);
        stats.ok().map(|stats| ProgramMemory {
            arguments: bytes(stats.argument_size_in_bytes),
            outputs: bytes(stats.output_size_in_bytes),
            aliased: bytes(stats.alias_size_in_bytes),
            temporary: bytes(stats.temp_size_in_bytes),
        })
    }

    /// The executable as bytes for [`crate::Client::deserialize`].
    ///
    /// # Errors
    /// The plugin cannot write this executable.
    pub fn serialize(&self) -> Result<Vec<u8>> {
        self.with_program(|executable, program| {
            let mut args = sys::ExecutableSerialize::new();
            args.executable = program;
            let table = &executable.client.table;
            table.call("PJRT_Executable_Serialize", table.api().PJRT_Executable_Serialize, &mut args)?;
            // SAFETY: the bytes live until the deleter is called below, and are copied before that.
            let bytes = unsafe { std::slice::from_raw_parts(args.serialized_bytes.cast::<u8>(), args.serialized_bytes_size) }.to_vec();
            if let Some(delete) = args.serialized_executable_deleter {
                // SAFETY: the deleter and what it frees come from the same call, and are used once.
                unsafe { delete(args.serialized_executable) };
            }
            Ok(bytes)
        })
    }

    /// The program after XLA's passes: text (`hlo`), or a serialised message (`hlo_with_config`), with its format.
    ///
    /// # Errors
    /// The plugin cannot tell.
    pub fn optimized(&self) -> Result<(String, Vec<u8>)> {
        self.with_program(|executable, handle| {
            let mut program = sys::Program::new();
            let mut args = sys::ProgramOf::new();
            args.executable = handle;
            args.program = &raw mut program;
            let table = &executable.client.table;
            // Without a buffer the plugin says how much it needs.
            table.call("PJRT_Executable_OptimizedProgram", table.api().PJRT_Executable_OptimizedProgram, &mut args)?;
            let mut code = vec![0u8; program.code_size];
            program.code = code.as_mut_ptr().cast();
            table.call("PJRT_Executable_OptimizedProgram", table.api().PJRT_Executable_OptimizedProgram, &mut args)?;
            // SAFETY: the format is a static text of the plugin.
            let format = unsafe { text(program.format, program.format_size) };
            Ok((format, code))
        })
    }

    /// Calls `body` with the program behind the loaded executable, and frees that handle.
    fn with_program<R>(&self, body: impl FnOnce(&Self, *mut c_void) -> Result<R>) -> Result<R> {
        let table = &self.client.table;
        let mut of = sys::ExecutableOf::new();
        of.loaded_executable = self.handle;
        table.call("PJRT_LoadedExecutable_GetExecutable", table.api().PJRT_LoadedExecutable_GetExecutable, &mut of)?;
        let result = body(self, of.executable);
        let mut args = sys::ExecutableArgs::new();
        args.executable = of.executable;
        table.destroy("PJRT_Executable_Destroy", table.api().PJRT_Executable_Destroy, &mut args);
        result
    }
}
