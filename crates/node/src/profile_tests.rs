//! Files, clocks and bounds of profiles, with engines that have a profiler, have none, and have one that fails.

use super::*;
use crate::timeline::WORKER;
use templar_tensor::{Array, Cpu, Error, Executable, Program, Tensor};

/// An engine that cannot compute and whose profiler gives what `profile` says of the instant at which it was started.
struct Fake<F>(F);

struct FakeProfiling(templar_tensor::Result<Profile>);

impl Profiling for FakeProfiling {
    fn finish(self: Box<Self>) -> templar_tensor::Result<Profile> {
        self.0
    }
}

fn broken() -> Error {
    Error::Device { device: "fake".into(), reason: "it is broken".into() }
}

impl<F: Fn(u64) -> templar_tensor::Result<Profile> + Send + Sync> Executor for Fake<F> {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn compile(&self, _: &Program) -> templar_tensor::Result<Box<dyn Executable>> {
        Err(broken())
    }

    fn upload(&self, _: Tensor) -> templar_tensor::Result<Array> {
        Err(broken())
    }

    fn download(&self, _: Array) -> templar_tensor::Result<Tensor> {
        Err(broken())
    }

    fn profile(&self) -> templar_tensor::Result<Option<Box<dyn Profiling>>> {
        Ok(Some(Box::new(FakeProfiling((self.0)(Anchor::now().unix_ns)))))
    }
}

fn span(track: &str, name: &str, start_ns: u64, duration_ns: u64) -> Span {
    Span { track: track.into(), name: name.into(), start_ns, duration_ns }
}

/// Profiles window 7 on `executor`, with one phase of the host, and gives the directory.
async fn profiled(executor: Arc<dyn Executor>) -> (tempfile::TempDir, Result<(), ProfileError>) {
    let dir = tempfile::tempdir().unwrap();
    let timeline = Timeline::default();
    let mut profiler = Profiler::new(executor, dir.path().into(), 1, timeline.clone());
    let begun = Instant::now();
    let started = profiler.begin(Window(7)).await;
    timeline.time(WORKER, WAIT, || ());
    profiler.end();
    timeline.add(PHASES, "train", begun);
    let written = profiler.write(Window(7), "training").await;
    (dir, started.and(written))
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Track, name, start and duration of the trace's spans, µs.
fn trace(path: &Path) -> Vec<(String, String, f64, f64)> {
    let trace: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let track = |tid: &serde_json::Value| {
        let names = |event: &&serde_json::Value| event["name"] == "thread_name" && event["tid"] == *tid;
        events.iter().find(names).unwrap()["args"]["name"].as_str().unwrap().to_owned()
    };
    let spans = events.iter().filter(|event| event["ph"] == "X");
    let time = |event: &serde_json::Value, key: &str| event[key].as_f64().unwrap();
    spans.map(|event| (track(&event["tid"]), event["name"].as_str().unwrap().to_owned(), time(event, "ts"), time(event, "dur"))).collect()
}

#[tokio::test]
async fn devices_and_host_are_on_one_trace() {
    let gpu = "/device:GPU:0 Stream #1";
    for clock_offset in [0, 1 << 40] {
        let spans =
            move |now: u64| vec![span(gpu, "fusion_1", now - clock_offset, 2000), span(gpu, "MemcpyH2D", now - clock_offset + 4000, 1000)];
        let fake = Fake(move |now| Ok(Profile { spans: spans(now), raw: b"raw".to_vec() }));
        let (dir, result) = profiled(Arc::new(fake)).await;
        result.unwrap();
        assert_eq!(names(dir.path()), ["window-7.json", "window-7.json.xplane.pb", "window-7.txt"]);
        assert_eq!(fs::read(dir.path().join("window-7.json.xplane.pb")).unwrap(), b"raw");
        let trace = trace(&dir.path().join("window-7.json"));
        let find = |name: &str| trace.iter().find(|(_, of, ..)| of == name).unwrap_or_else(|| panic!("no {name} in {trace:?}"));
        let (kernel, copy, train) = (find("fusion_1"), find("MemcpyH2D"), find("train"));
        assert_eq!((kernel.0.as_str(), train.0.as_str(), find(WAIT).0.as_str()), (gpu, PHASES, WORKER));
        assert!((copy.2 - kernel.2 - 4.0).abs() < 1e-6 && (kernel.3 - 2.0).abs() < 1e-6, "{trace:?}");
        // The phase began before the profile did, and both began in it.
        assert!(train.2 <= kernel.2, "{trace:?}");
        let text = fs::read_to_string(dir.path().join("window-7.txt")).unwrap();
        let clocks = if clock_offset == 0 { Clocks::Same } else { Clocks::Shifted };
        for line in ["window 7: training on engine fake", "waiting for data: ", &clocks.to_string(), "/device:GPU:0: busy 0.0 of 0.0 ms"] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(text.contains("40.0 % idle"), "{text}");
    }
}

#[test]
fn a_summary_reads_well() {
    let start = Instant::now();
    let after = |ms: u64| start + Duration::from_millis(ms);
    let host = |track, name: &str, begun, ms| HostSpan { track, name: name.into(), begun: after(begun), took: Duration::from_millis(ms) };
    let spans = vec![
        host(WORKER, WAIT, 10, 20),
        host(WORKER, "queue step", 30, 5),
        host(WORKER, "queue step", 40, 5),
        host(PHASES, "train", 0, 100),
        host(PHASES, "compress", 100, 30),
    ];
    let (anchor, record) = (Anchor { instant: start, unix_ns: 1 << 60 }, Record { spans, left_out: 2 });
    let report = Report { window: Window(3), what: "training", engine: "pjrt".into(), anchor, begun: start, ended: after(100), record };
    let gpu = |name: &str, start_ns, duration_ns| span("/device:GPU:0 Stream #1", name, start_ns, duration_ns);
    let device = [gpu("gemm_1", 0, 50_000_000), gpu("gemm_2", 60_000_000, 20_000_000), gpu("MemcpyD2H", 80_000_000, 20_000_000)];
    let expected = "window 3: training on engine pjrt for 100.0 ms
waiting for data: 20.0 ms (20.0 %)
clocks: the engine's spans are in Unix time, as the host's are
left out: 2 further spans of the host

/device:GPU:0: busy 90.0 of 100.0 ms (10.0 % idle), transfers 20.0 ms
        70.0 ms in      2 × gemm
        20.0 ms in      1 × MemcpyD2H

/host:templar phases
       100.0 ms in      1 × train
        30.0 ms in      1 × compress

/host:templar worker
        20.0 ms in      1 × wait for data
        10.0 ms in      2 × queue step
";
    assert_eq!(report.summary(&device, Clocks::Same), expected);
}

#[test]
fn foreign_clocks_are_shifted_and_others_left() {
    const S: u64 = 1_000_000_000;
    let cases = [
        (vec![], Clocks::NoEngine, vec![]),
        (vec![100 * S, 109 * S], Clocks::Same, vec![100 * S, 109 * S]),
        (vec![5 * S, 9 * S], Clocks::Shifted, vec![100 * S, 104 * S]),
        (vec![100 * S, 120 * S], Clocks::Shifted, vec![100 * S, 120 * S]),
        (vec![u64::MAX - S, u64::MAX], Clocks::Shifted, vec![100 * S, 101 * S]),
    ];
    for (starts, clocks, expected) in cases {
        let mut spans: Vec<Span> = starts.iter().map(|&start| span("t", "n", start, 1)).collect();
        assert_eq!(align(&mut spans, 100 * S, 110 * S), clocks, "{starts:?}");
        assert_eq!(spans.iter().map(|span| span.start_ns).collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn without_a_profiler_the_hosts_part_is_written() {
    let (dir, result) = profiled(Arc::new(Cpu::new())).await;
    result.unwrap();
    assert_eq!(names(dir.path()), ["window-7.json", "window-7.txt"]);
    let of_train = |(track, name, ..): &(String, String, f64, f64)| (track.as_str(), name.as_str()) == (PHASES, "train");
    assert!(trace(&dir.path().join("window-7.json")).iter().any(of_train));
    assert!(fs::read_to_string(dir.path().join("window-7.txt")).unwrap().contains(&Clocks::NoEngine.to_string()));

    let (dir, result) = profiled(Arc::new(Fake(|_| Err(broken())))).await;
    assert!(result.unwrap_err().to_string().contains("it is broken"));
    assert_eq!(names(dir.path()), ["window-7.json", "window-7.txt"]);
}

#[tokio::test]
async fn only_as_many_windows_as_asked_for_are_profiled() {
    let dir = tempfile::tempdir().unwrap();
    let profiles = dir.path().join(PROFILES_DIR);
    let timeline = Timeline::default();
    let mut profiler = Profiler::new(Arc::new(Cpu::new()), profiles.clone(), 2, timeline.clone());
    for window in 0..6 {
        // Window 0 is not trained, window 1 is given up.
        if window != 0 {
            profiler.begin(Window(window)).await.unwrap();
            profiler.end();
        }
        timeline.add(PHASES, "look", Instant::now());
        if window != 1 {
            profiler.write(Window(window), "training").await.unwrap();
        }
    }
    assert_eq!(names(&profiles), ["window-2.json", "window-2.txt", "window-3.json", "window-3.txt"]);
    timeline.add(PHASES, "look", Instant::now());
    assert_eq!(timeline.take(), Record::default(), "nothing is recorded any more");
}

#[tokio::test]
async fn the_oldest_profiles_go_and_other_files_stay() {
    let dir = tempfile::tempdir().unwrap();
    let count = WINDOWS_KEPT as u64 + 5;
    for window in 0..count {
        for ending in ["json", "json.xplane.pb", "txt"] {
            let file = File::create(dir.path().join(format!("window-{window}.{ending}"))).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(1000 - window)).unwrap();
        }
    }
    for other in ["notes.txt", "window-x.txt", "window-.txt"] {
        File::create(dir.path().join(other)).unwrap();
    }
    let mut profiler = Profiler::new(Arc::new(Cpu::new()), dir.path().into(), 1, Timeline::default());
    profiler.begin(Window(500)).await.unwrap();
    profiler.end();
    profiler.write(Window(500), "training").await.unwrap();
    let left: Vec<String> = names(dir.path()).into_iter().filter(|name| name.ends_with(".txt")).collect();
    let kept = (0..WINDOWS_KEPT as u64 - 1).chain([500]).map(|window| format!("window-{window}.txt"));
    let mut expected: Vec<String> = kept.chain(["notes.txt", "window-x.txt", "window-.txt"].map(str::to_owned)).collect();
    expected.sort();
    assert_eq!(left, expected);
    assert_eq!(names(dir.path()).len(), 3 * (WINDOWS_KEPT - 1) + 2 + 3);
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut profiler = Profiler::new(Arc::new(Cpu::new()), file.path().join("profiles"), 1, Timeline::default());
    profiler.begin(Window(1)).await.unwrap();
    profiler.end();
    let error = profiler.write(Window(1), "training").await.unwrap_err().to_string();
    assert!(error.contains("profiles cannot be written"), "{error}");
}
