//! What systemd is told of a node: that it is ready when it has joined, and that it lives with each window that it has finished.
//!
//! The node's journal is the source: a node that writes no window does not do its work, however alive its process is. Without a service manager
//! (no `NOTIFY_SOCKET`) nothing is done.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::time::Duration;
use templar_node::journal::{Entry, Tail};

/// The variable with the service manager's socket.
const SOCKET: &str = "NOTIFY_SOCKET";
/// How often the journal is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Follows the journal in `dir`, from now on, and tells the service manager.
pub fn follow(dir: PathBuf) -> Option<tokio::task::JoinHandle<()>> {
    let socket = std::env::var_os(SOCKET)?;
    let mut tail = Tail::from_end(&dir);
    Some(tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK).await;
            for line in tail.read().unwrap_or_default() {
                if let Some(state) = state_of(&line.entry) {
                    // A service manager that does not listen must not end the node.
                    let _ = send(&socket, &state);
                }
            }
        }
    }))
}

/// What an entry means to a service manager.
fn state_of(entry: &Entry) -> Option<String> {
    match entry {
        Entry::Joined { window, .. } => Some(format!("READY=1\nSTATUS=joined at window {window}\n")),
        Entry::Window(entry) => Some(format!("WATCHDOG=1\nSTATUS=window {} is over, {} outer steps\n", entry.window, entry.global_step)),
        Entry::Stopped { .. } => Some("STOPPING=1\n".to_owned()),
        _ => None,
    }
}

fn send(socket: &OsStr, state: &str) -> std::io::Result<()> {
    let datagram = UnixDatagram::unbound()?;
    datagram.connect_addr(&address(socket)?)?;
    datagram.send(state.as_bytes()).map(drop)
}

/// A path, or with a leading `@` a name that is in no directory.
fn address(socket: &OsStr) -> std::io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = socket.as_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt;
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(Path::new(OsStr::from_bytes(socket.as_bytes())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use templar_node::journal::WindowEntry;
    use templar_protocol::{Digest, GlobalStep, Window};

    #[test]
    fn a_finished_window_is_a_sign_of_life_and_a_warning_is_none() {
        let window = Entry::Window(Box::new(WindowEntry { window: Window(7), ..WindowEntry::default() }));
        assert!(state_of(&window).unwrap().starts_with("WATCHDOG=1\n"));
        let digest = Digest::default();
        let joined = Entry::Joined { run: digest, window: Window(7), global_step: GlobalStep(3), state_digest: digest };
        assert!(state_of(&joined).unwrap().starts_with("READY=1\n"));
        assert_eq!(state_of(&Entry::Warning { kind: String::new(), text: "slow".into() }), None);
    }

    #[test]
    fn the_socket_gets_what_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), "READY=1\n").unwrap();
        let mut buffer = [0; 64];
        let length = listener.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1\n");
        assert!(send(OsStr::new("/nowhere/socket"), "x").is_err());
    }
}
