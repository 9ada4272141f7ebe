//! What the planner knows about hardware. Every figure is a measurement or says from which nominal figure it is taken.

use serde::Serialize;

/// One kind of device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gpu {
    /// Name at the command line.
    pub name: &'static str,
    /// Name for people.
    pub title: &'static str,
    /// Memory of one device, GiB.
    pub memory_gib: f64,
    /// Rate of a large matrix product in the compute type, TFLOP/s.
    pub matrix_tflops: f64,
    /// Share of that rate which training reaches in its products, once the batch is large.
    pub share: f64,
    /// Rate of memory, bytes read and written, GB/s.
    pub memory_gb_s: f64,
    /// Rate at which parts are exchanged between devices of a host, as far as it is not hidden behind computation, GB/s.
    pub exchange_gb_s: f64,
    /// Rate of the way between host and device, GB/s.
    pub host_link_gb_s: f64,
    /// Bytes of an element in the compute type.
    pub compute_bytes: f64,
    /// Devices that one host has at most.
    pub most: usize,
    /// Where the figures come from.
    pub source: &'static str,
}

/// Share of the matrix rate by which larger batches raise the speed, fitted to two measurements: 953 million parameters on one
/// H200 took 180.6 ms at batch 8 and 342.5 ms at batch 16, so 8 more sequences of 2048 tokens took 161.9 ms, 580 of 790 TFLOP/s.
const SHARE: f64 = 0.734;

/// Bytes read and written for each parameter of a device in every step, besides the products (casts, norms, the optimiser):
/// what remains of those two measurements, 18.7 ms for 953 million parameters at 4.3 TB/s.
pub(crate) const PASS_BYTES: f64 = 84.0;

/// Cores for which the entry of the processor stands.
const CPU_CORES: f64 = 16.0;

/// The devices that the planner knows, best first.
pub const GPUS: [Gpu; 5] = [
    Gpu {
        name: "h200",
        title: "NVIDIA H200 SXM",
        memory_gib: 140.4,
        matrix_tflops: 790.0,
        share: SHARE,
        memory_gb_s: 4300.0,
        exchange_gb_s: 240.0,
        host_link_gb_s: 25.0,
        compute_bytes: 2.0,
        most: 16,
        source: "measured: bf16 products and copies on one H200, training of 953 million parameters on 1, 2 and 4; the host's link is assumed",
    },
    Gpu {
        name: "h100",
        title: "NVIDIA H100 SXM",
        memory_gib: 79.6,
        matrix_tflops: 790.0,
        share: SHARE,
        memory_gb_s: 3000.0,
        exchange_gb_s: 240.0,
        host_link_gb_s: 25.0,
        compute_bytes: 2.0,
        most: 16,
        source: "assumed: the products and links of the H200, which has the same chip; memory at 0.9 of 3350 GB/s",
    },
    Gpu {
        name: "a100",
        title: "NVIDIA A100 SXM 80 GB",
        memory_gib: 79.3,
        matrix_tflops: 250.0,
        share: SHARE,
        memory_gb_s: 1830.0,
        exchange_gb_s: 160.0,
        host_link_gb_s: 20.0,
        compute_bytes: 2.0,
        most: 16,
        source: "assumed: 0.8 of 312 TFLOP/s, 0.9 of 2039 GB/s, links at two thirds of the H200's, the H200's share of the product rate",
    },
    Gpu {
        name: "rtx4090",
        title: "NVIDIA GeForce RTX 4090",
        memory_gib: 23.6,
        matrix_tflops: 132.0,
        share: SHARE,
        memory_gb_s: 900.0,
        exchange_gb_s: 8.0,
        host_link_gb_s: 20.0,
        compute_bytes: 2.0,
        most: 8,
        source: "assumed: 0.8 of 165 TFLOP/s (sums in f32), 0.9 of 1008 GB/s, exchange through the host at 8 GB/s",
    },
    Gpu {
        name: "cpu",
        title: "processor (the binary's own executor)",
        memory_gib: 64.0,
        matrix_tflops: 0.1 * CPU_CORES,
        share: 0.7,
        memory_gb_s: 80.0,
        exchange_gb_s: 80.0,
        host_link_gb_s: 80.0,
        compute_bytes: 4.0,
        most: 1,
        source: "0.1 TFLOP/s in f32 for each core, as measured on two of an AMD EPYC (Zen 4); assumed: that more cores add to it, 64 GiB, 80 GB/s",
    },
];

impl Gpu {
    /// Rate of a large matrix product, TFLOP/s, on a host with `cores` cores: theirs where the device is the processor.
    pub fn products(&self, cores: usize) -> f64 {
        let processor = self.most == 1;
        if processor { self.matrix_tflops / CPU_CORES * cores as f64 } else { self.matrix_tflops }
    }

    /// Memory that a training program may take: the rest is for the driver, libraries and fragments.
    pub fn usable_gib(&self) -> f64 {
        self.memory_gib * 0.93
    }

    /// The device of this name, in any case of letters.
    pub fn named(name: &str) -> Option<&'static Self> {
        GPUS.iter().find(|gpu| gpu.name.eq_ignore_ascii_case(name))
    }
}
