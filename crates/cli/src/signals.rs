//! SIGINT and SIGTERM, and the end of the process that started this one: each asks a role to drain.

use std::io::Read;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Why a role was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// SIGINT, as by Ctrl-C.
    Interrupt,
    /// SIGTERM, as by a service manager.
    Terminate,
    /// Standard input was closed: the localnet that started the process is gone or wants it to end.
    Parent,
}

impl std::fmt::Display for StopReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "interrupted (SIGINT)",
            Self::Terminate => "asked to stop (SIGTERM)",
            Self::Parent => "the process that started it has ended, or ended it",
        })
    }
}

impl StopReason {
    /// The exit code that says so.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Interrupt => ExitCode::from(130),
            Self::Terminate => ExitCode::from(143),
            Self::Parent => ExitCode::SUCCESS,
        }
    }
}

/// Waits until the process is asked to stop. With `with_parent`, the end of standard input asks, too.
///
/// # Errors
/// The signals cannot be watched.
pub async fn wait_for_stop(with_parent: bool) -> std::io::Result<StopReason> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (ended, input) = tokio::sync::oneshot::channel::<()>();
    if with_parent {
        // A thread, because a read of standard input cannot be cancelled; it ends with the process.
        std::thread::Builder::new().name("parent-watch".into()).spawn(move || {
            let mut buffer = [0; 64];
            while matches!(std::io::stdin().read(&mut buffer), Ok(1..)) {}
            // Nobody listens any more when a signal came first.
            let _ = ended.send(());
        })?;
    }
    let parent = async {
        if !with_parent || input.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    Ok(tokio::select! {
        _ = interrupt.recv() => StopReason::Interrupt,
        _ = terminate.recv() => StopReason::Terminate,
        () = parent => StopReason::Parent,
    })
}
