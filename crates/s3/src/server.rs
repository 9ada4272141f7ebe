//! The server: a socket, a bound on connections, and an orderly end.

use crate::access::Access;
use crate::disk::Disk;
use crate::service::Service;
use futures::FutureExt;
use http::{Method, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use s3s::config::{S3Config as Limits, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

/// Time from a connection's start, or its last answer, to a complete request head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time that transfers under way are given at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest XML body: the completion of an upload of 10,000 parts.
const XML_MAX_BYTES: usize = 4 << 20;

/// How to serve.
#[derive(Debug, Clone)]
pub struct S3Config {
    /// The directory of the buckets; made if absent. One server at a time.
    pub root: PathBuf,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Who may do what.
    pub access: Access,
    /// Largest object in bytes.
    pub object_bytes_max: u64,
    /// Most connections at once; more wait. At most 400, for each may occupy a thread.
    pub connections_max: usize,
}

impl S3Config {
    /// A server of `root` at `listen` with objects of up to 5 TiB and 256 connections.
    pub fn new(root: impl Into<PathBuf>, listen: SocketAddr, access: Access) -> Self {
        Self { root: root.into(), listen, access, object_bytes_max: 5 << 40, connections_max: 256 }
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken.
    #[error("cannot listen on {0}: another program does; stop it or choose another port (port 0 takes a free one)")]
    Busy(SocketAddr),
    /// The address cannot be used.
    #[error("cannot listen on {address}: {source}; choose an address of this machine and a port that this user may open")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// Another server has the directory.
    #[error("another server uses the directory {0}; stop it or choose another directory")]
    InUse(PathBuf),
    /// The directory is of no use.
    #[error("cannot keep buckets in {root}: {source}; check that the directory exists and that this user may write there")]
    Root {
        /// The directory.
        root: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// A server that listens; [`Server::run`] or [`Server::spawn`] makes it answer.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    service: S3Service,
    connections: Arc<Semaphore>,
}

impl Server {
    /// Takes the directory and the address.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn bind(config: S3Config) -> Result<Self, ServeError> {
        let root = |source| ServeError::Root { root: config.root.clone(), source };
        let disk = Disk::open(&config.root).map_err(root)?.ok_or_else(|| ServeError::InUse(config.root.clone()))?;
        let listen = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => ServeError::Busy(config.listen),
            _ => ServeError::Listen { address: config.listen, source },
        };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let mut builder = S3ServiceBuilder::new(Service { disk: Arc::new(disk), object_bytes_max: config.object_bytes_max });
        builder.set_auth(config.access.clone());
        builder.set_access(config.access);
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(limits()))));
        let connections = Arc::new(Semaphore::new(config.connections_max.clamp(1, 400)));
        Ok(Self { listener, address, service: builder.build(), connections })
    }

    /// Where it listens, with the port it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is ready, then accepts no more and gives transfers under way 10 s.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let graceful = GracefulShutdown::new();
        let mut stop = std::pin::pin!(stop.fuse());
        loop {
            let next = async {
                // Accepting only with a permit in hand leaves the excess in the system's queue.
                let permit = Arc::clone(&self.connections).acquire_owned().await;
                (self.listener.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                () = &mut stop => break,
                next = next => next,
            };
            let Ok((socket, _)) = accepted else {
                // Out of file descriptors, most likely: give the connections that are open time to end.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let connection = graceful.watch(serve_connection(socket, self.service.clone()));
            tokio::spawn(async move {
                let _permit = permit;
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection ended early");
                }
            });
        }
        drop(self.listener);
        if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
            tracing::warn!("transfers were cut off at the end");
        }
    }

    /// Serves in a task of its own until the handle stops it or is dropped.
    pub fn spawn(self) -> ServerHandle {
        let address = self.address;
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(self.run(stopped.map(drop)));
        ServerHandle { address, _stop: stop, task }
    }
}

/// A server that runs; dropped, it drains in the background.
#[derive(Debug)]
pub struct ServerHandle {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl ServerHandle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops it and waits until it has let go of its directory and address.
    pub async fn stop(self) {
        let Self { _stop, task, .. } = self;
        drop(_stop);
        // A panic of the task was reported when it happened.
        drop(task.await);
    }
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.xml_max_body_size = XML_MAX_BYTES;
    limits.post_object_max_file_size = 0;
    limits.form_max_field_size = 1024;
    limits.form_max_fields_size = 4096;
    limits.form_max_parts = 1;
    limits
}

fn serve_connection(socket: TcpStream, service: S3Service) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> {
    // Without it the end of a small answer waits for the other side's acknowledgement.
    drop(socket.set_nodelay(true));
    let answer = service_fn(move |request: http::Request<Incoming>| {
        let service = service.clone();
        async move {
            if is_form(&request) {
                // Forms would be read into memory before anybody asked whether the sender may.
                return Ok(status(StatusCode::NOT_IMPLEMENTED));
            }
            service.call(request.map(s3s::Body::from)).await
        }
    });
    http1::Builder::new().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).serve_connection(TokioIo::new(socket), answer)
}

fn is_form(request: &http::Request<Incoming>) -> bool {
    let media = request.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes().to_ascii_lowercase());
    request.method() == Method::POST && media.is_some_and(|media| media.windows(10).any(|window| window == b"multipart/"))
}

fn status(status: StatusCode) -> s3s::HttpResponse {
    let mut response = s3s::HttpResponse::new(s3s::Body::empty());
    *response.status_mut() = status;
    response
}
