//! A loopback server that speaks Basilica's interface as it was recorded at release 0.3.3: executors, rentals, their logs, errors in its form.
//!
//! It keeps its rentals in memory, refuses a wrong token, and can be told to rent and then never answer, as a broken connection would.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// The token that it accepts.
pub const TOKEN: &str = "basilica_planted-token-0123456789";

/// What it knows, and what was asked of it.
#[derive(Default)]
pub struct State {
    /// Its rentals: id, executor, state.
    pub rentals: Vec<(String, String, String)>,
    /// Method and path of each request.
    pub requests: Vec<String>,
    /// The bodies of requests that rent.
    pub bodies: Vec<Value>,
    /// The text with which it tells how to log in.
    pub ssh: String,
    /// It rents, and then holds the answer back for ever.
    pub silent_after_renting: bool,
    /// This many requests are answered with an error that may be tried again.
    pub failing: usize,
}

/// The server; it ends with the process.
pub struct Server {
    /// Where it is.
    pub url: String,
    /// What it knows.
    pub state: Arc<Mutex<State>>,
}

impl Server {
    /// Starts it on a free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Self { url, state }
    }

    /// Locks what it knows.
    pub fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no test has panicked in here")
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(&stream);
    let (mut head, mut length, mut token) = (String::new(), 0, String::new());
    if reader.read_line(&mut head).is_err() {
        return;
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "authorization" => token = value.trim().trim_start_matches("Bearer ").to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let mut words = head.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let Some((status, answer)) = answer(&mut state.lock().expect("no panic"), method, target, &token, &body) else {
        // The connection stays open without an answer until the process ends.
        std::mem::forget(stream);
        return;
    };
    let kind = if target.contains("/logs") { "text/event-stream" } else { "application/json" };
    let head = format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
    // A client that has gone wants no answer.
    let _ = (&stream).write_all((head + &answer).as_bytes());
}

fn error(code: &str, message: &str, retryable: bool) -> String {
    json!({ "error": { "code": code, "message": message, "timestamp": "2025-09-30T12:00:00Z", "retryable": retryable } }).to_string()
}

fn answer(state: &mut State, method: &str, target: &str, token: &str, body: &[u8]) -> Option<(u16, String)> {
    state.requests.push(format!("{method} {target}"));
    if token != TOKEN {
        return Some((401, error("BASILICA_API_AUTH_INVALID", "Invalid token", false)));
    }
    if state.failing > 0 {
        state.failing -= 1;
        return Some((503, error("BASILICA_API_UNAVAILABLE", "Try again", true)));
    }
    let path = target.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    Some(match (method, parts.as_slice()) {
        ("GET", ["executors"]) => (200, executors().to_string()),
        ("POST", ["rentals"]) => {
            let body: Value = serde_json::from_slice(body).unwrap_or_default();
            let executor = body["executor_selection"]["executor_id"].as_str().unwrap_or_default().to_owned();
            state.bodies.push(body);
            if !executor.starts_with("exec-") {
                return Some((404, error("BASILICA_API_NOT_FOUND", "No such executor", false)));
            }
            let id = format!("rental-{}", state.rentals.len() + 1);
            state.rentals.push((id.clone(), executor, "Active".into()));
            if state.silent_after_renting {
                return None;
            }
            (200, json!({ "rental_id": id, "ssh_credentials": state.ssh, "container_info": {} }).to_string())
        }
        ("GET", ["rentals"]) => {
            let row = |(id, executor, state): &(String, String, String)| {
                json!({ "rental_id": id, "executor_id": executor, "container_id": "c", "state": state, "created_at": "2025-09-30T12:00:00Z",
                    "miner_id": "m", "container_image": "i", "gpu_specs": [], "has_ssh": true })
            };
            let rows: Vec<Value> = state.rentals.iter().map(row).collect();
            (200, json!({ "total_count": rows.len(), "rentals": rows }).to_string())
        }
        ("GET", ["rentals", id]) => match state.rentals.iter().find(|rental| rental.0 == *id) {
            Some(rental) => {
                let status = if rental.2 == "Active" { "active" } else { "terminated" };
                let answer = json!({ "rental_id": id, "status": status, "executor": {}, "ssh_credentials": state.ssh, "created_at": "", "updated_at": "" });
                (200, answer.to_string())
            }
            None => (404, error("BASILICA_API_NOT_FOUND", "No such rental", false)),
        },
        ("DELETE", ["rentals", id]) => match state.rentals.iter_mut().find(|rental| rental.0 == *id) {
            Some(rental) => {
                rental.2 = "Stopped".into();
                (200, "{}".into())
            }
            None => (404, error("BASILICA_API_NOT_FOUND", "No such rental", false)),
        },
        ("GET", ["rentals", _, "logs"]) => {
            (200, "data: {\"timestamp\":\"t\",\"stream\":\"stdout\",\"message\":\"hello from the container\"}\n\n".into())
        }
        _ => (404, error("BASILICA_API_NOT_FOUND", "No such route", false)),
    })
}

fn executors() -> Value {
    let executor = |id: &str, gpu: &str, count: usize, memory: u64| {
        let gpus: Vec<Value> = (0..count).map(|_| json!({ "name": gpu, "memory_gb": memory, "compute_capability": "9.0" })).collect();
        json!({
            "executor": { "id": id, "gpu_specs": gpus, "cpu_specs": { "cores": 64, "model": "x", "memory_gb": 1000 }, "location": "Oslo/Oslo/NO" },
            "availability": { "available_until": null, "verification_score": 0.9, "uptime_percentage": 99.0 }
        })
    };
    let rows = [
        executor("exec-h200-8", "NVIDIA H200", 8, 141),
        executor("exec-h200-1", "NVIDIA H200", 1, 141),
        executor("exec-a100", "NVIDIA A100", 1, 80),
    ];
    json!({ "available_executors": rows, "total_count": 3 })
}
