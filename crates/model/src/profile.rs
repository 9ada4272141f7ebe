//! What a profile says: a trace for a viewer, and a short summary.
//!
//! Spans come from an executor ([`templar_tensor::Executor::profile`]). Tracks of devices carry kernels and transfers; a device is
//! busy while any of its streams runs something.

use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};
use templar_tensor::Span;

/// Kernels named in a summary at most.
const KERNELS_MAX: usize = 25;

/// What happened on one device.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DeviceSummary {
    /// The device, as the plugin names it.
    pub device: String,
    /// From the first to the last span, ms.
    pub span_ms: f64,
    /// Time with at least one kernel or transfer running, ms.
    pub busy_ms: f64,
    /// Time in transfers between host and device or between devices (overlapping ones each count), ms.
    pub transfer_ms: f64,
    /// The kernels that took longest: name, number of runs, total ms.
    pub kernels: Vec<(String, usize, f64)>,
}

fn is_device(span: &Span) -> bool {
    span.track.contains("/device:")
}

/// The device of a track, without its stream.
fn device(span: &Span) -> &str {
    span.track.split_whitespace().next().unwrap_or(&span.track)
}

/// Tracks that repeat what streams show, by module, operation or source line.
fn is_stream(span: &Span) -> bool {
    span.track.contains("Stream #")
}

fn is_transfer(name: &str) -> bool {
    name.starts_with("Memcpy") || name.starts_with("Memset") || name.contains("nccl")
}

/// The name of a kernel without what tells its instances apart: `fusion_12` is `fusion`.
fn family(name: &str) -> String {
    let trimmed = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_' || c == '.');
    if trimmed.is_empty() { name.to_owned() } else { trimmed.to_owned() }
}

/// Summaries of all devices in `spans`, by name.
pub fn summarise(spans: &[Span]) -> Vec<DeviceSummary> {
    let mut devices: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
    for span in spans.iter().filter(|span| is_device(span) && is_stream(span)) {
        devices.entry(device(span)).or_default().push(span);
    }
    devices.into_iter().map(|(name, spans)| summarise_device(name, spans)).collect()
}

fn summarise_device(name: &str, mut spans: Vec<&Span>) -> DeviceSummary {
    const NS_PER_MS: f64 = 1e6;
    spans.sort_by_key(|span| span.start_ns);
    let (mut busy_ns, mut until, mut transfer_ns) = (0u64, 0u64, 0u64);
    let mut kernels: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    for span in &spans {
        let end = span.start_ns.saturating_add(span.duration_ns);
        busy_ns += end.saturating_sub(span.start_ns.max(until));
        until = until.max(end);
        if is_transfer(&span.name) {
            transfer_ns += span.duration_ns;
        }
        let entry = kernels.entry(family(&span.name)).or_default();
        *entry = (entry.0 + 1, entry.1 + span.duration_ns);
    }
    let mut kernels: Vec<(String, usize, f64)> =
        kernels.into_iter().map(|(name, (count, ns))| (name, count, ns as f64 / NS_PER_MS)).collect();
    kernels.sort_by(|a, b| b.2.total_cmp(&a.2));
    kernels.truncate(KERNELS_MAX);
    let first = spans.first().map_or(0, |span| span.start_ns);
    DeviceSummary {
        device: name.to_owned(),
        span_ms: until.saturating_sub(first) as f64 / NS_PER_MS,
        busy_ms: busy_ns as f64 / NS_PER_MS,
        transfer_ms: transfer_ns as f64 / NS_PER_MS,
        kernels,
    }
}

/// One event of the trace format that browsers read (complete events, microseconds).
#[derive(Serialize)]
struct Event<'a> {
    name: &'a str,
    ph: &'static str,
    ts: f64,
    dur: f64,
    pid: usize,
    tid: usize,
}

/// Names a process or a thread of the trace.
#[derive(Serialize)]
struct Name<'a> {
    name: &'static str,
    ph: &'static str,
    pid: usize,
    tid: usize,
    args: BTreeMap<&'static str, &'a str>,
}

/// Writes `spans` as a trace in JSON: devices and hosts are its processes, streams and threads its threads.
///
/// # Errors
/// The writer refused.
pub fn write_trace(spans: &[Span], out: &mut dyn Write) -> io::Result<()> {
    const NS_PER_US: f64 = 1e3;
    let mut processes: Vec<&str> = spans.iter().map(device).collect();
    processes.sort_unstable();
    processes.dedup();
    let mut tracks: Vec<&str> = spans.iter().map(|span| span.track.as_str()).collect();
    tracks.sort_unstable();
    tracks.dedup();
    let place = |span: &Span| {
        let pid = processes.binary_search(&device(span)).unwrap_or(0);
        (pid, tracks.binary_search(&span.track.as_str()).unwrap_or(0))
    };
    let origin = spans.iter().map(|span| span.start_ns).min().unwrap_or(0);
    out.write_all(b"{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n")?;
    for (pid, name) in processes.iter().enumerate() {
        let entry = Name { name: "process_name", ph: "M", pid, tid: 0, args: [("name", *name)].into() };
        serde_json::to_writer(&mut *out, &entry)?;
        out.write_all(b",\n")?;
    }
    let mut named = vec![false; tracks.len()];
    for span in spans {
        let (pid, tid) = place(span);
        if !std::mem::replace(&mut named[tid], true) {
            let entry = Name { name: "thread_name", ph: "M", pid, tid, args: [("name", span.track.as_str())].into() };
            serde_json::to_writer(&mut *out, &entry)?;
            out.write_all(b",\n")?;
        }
        let ts = (span.start_ns - origin) as f64 / NS_PER_US;
        let event = Event { name: &span.name, ph: "X", ts, dur: span.duration_ns as f64 / NS_PER_US, pid, tid };
        serde_json::to_writer(&mut *out, &event)?;
        out.write_all(b",\n")?;
    }
    // An empty object closes the list, which must not end with a comma.
    out.write_all(b"{}\n]}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(track: &str, name: &str, start_ns: u64, duration_ns: u64) -> Span {
        Span { track: track.into(), name: name.into(), start_ns, duration_ns }
    }

    fn example() -> Vec<Span> {
        vec![
            span("/device:GPU:0 Stream #1", "fusion_1", 1_000_000, 2_000_000),
            span("/device:GPU:0 Stream #2", "MemcpyH2D", 2_000_000, 2_000_000),
            span("/device:GPU:0 Stream #1", "fusion_2", 5_000_000, 1_000_000),
            span("/device:GPU:0 XLA Ops", "fusion", 0, 9_000_000),
            span("/host:CPU main", "step", 0, 9_000_000),
        ]
    }

    #[test]
    fn overlapping_spans_are_busy_once() {
        let summary = summarise(&example());
        let kernels = vec![("fusion".into(), 2, 3.0), ("MemcpyH2D".into(), 1, 2.0)];
        let expected = DeviceSummary { device: "/device:GPU:0".into(), span_ms: 5.0, busy_ms: 4.0, transfer_ms: 2.0, kernels };
        assert_eq!(summary, [expected]);
        assert!(summarise(&[]).is_empty());
    }

    #[test]
    fn the_trace_is_json_with_every_span() {
        let mut out = Vec::new();
        write_trace(&example(), &mut out).unwrap();
        let trace: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        assert_eq!(events.iter().filter(|event| event["ph"] == "X").count(), 5);
        let threads: Vec<&str> =
            events.iter().filter(|event| event["name"] == "thread_name").filter_map(|event| event["args"]["name"].as_str()).collect();
        assert_eq!(threads.len(), 4, "{threads:?}");
    }
}
