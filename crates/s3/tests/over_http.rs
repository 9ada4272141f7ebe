//! The server and the client of this repository against each other, over loopback HTTP.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use object_store::{ObjectStoreExt, PutPayload};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use templar_s3::{Access, AccessFile, BucketAccess, S3Config, ServeError, Server, ServerHandle};
use templar_store::{
    Bucket, BucketConfig, BucketUrl, Credentials, Deadline, ErrorKind, FaultPlan, Http, Pace, Pruned, Reach, RetryPolicy, Secret,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const OBJECT_BYTES_MAX: u64 = 300 << 20;

fn entry(name: &str, id: &str, public_read: bool) -> BucketAccess {
    BucketAccess { name: name.into(), access_key_id: id.into(), secret: Secret::new(format!("secret of {id}")), public_read }
}

fn credentials(id: &str) -> Credentials {
    Credentials::new(id, format!("secret of {id}"))
}

fn soon() -> Deadline {
    Deadline::within(Duration::from_secs(120))
}

/// A network of two miners and one private bucket.
struct Lab {
    root: tempfile::TempDir,
    server: ServerHandle,
    http: Http,
}

async fn serve(root: &Path, access: Access) -> ServerHandle {
    let config = S3Config { object_bytes_max: OBJECT_BYTES_MAX, ..S3Config::new(root, SocketAddr::from(([127, 0, 0, 1], 0)), access) };
    Server::bind(config).await.unwrap().spawn()
}

fn fixed() -> Access {
    Access::fixed(&[entry("miner-1", "K1", true), entry("miner-2", "K2", true), entry("private", "K3", false)]).unwrap()
}

impl Lab {
    async fn new() -> Self {
        // Another test of this process may have installed it already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let root = tempfile::tempdir().unwrap();
        let server = serve(root.path(), fixed()).await;
        Self { root, server, http: Http::new(Reach::Anywhere).unwrap() }
    }

    fn bucket(&self, name: &str, key: Option<Credentials>) -> Bucket {
        let config = BucketConfig { url: BucketUrl::local(self.server.address(), name).unwrap(), region: None, credentials: key };
        let policy = RetryPolicy {
            attempts_max: 2,
            pause_first: Duration::from_millis(1),
            pause_max: Duration::from_millis(1),
            pace: Pace::default(),
        };
        Bucket::open_with(&config, &self.http, policy, FaultPlan::default()).unwrap()
    }

    fn own(&self) -> Bucket {
        self.bucket("miner-1", Some(credentials("K1")))
    }

    /// Sends `head` as it is, then `body`, and returns the answer's first line once the server has closed or answered.
    async fn raw(&self, head: &str, body: &[u8], hang_up: bool) -> String {
        let mut socket = TcpStream::connect(self.server.address()).await.unwrap();
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(body).await.unwrap();
        if hang_up {
            socket.shutdown().await.unwrap();
        }
        let mut answer = vec![0; 4096];
        let length = socket.read(&mut answer).await.unwrap_or(0);
        String::from_utf8_lossy(&answer[..length]).lines().next().unwrap_or_default().to_owned()
    }

    fn files_under(&self, directory: &str) -> usize {
        fn count(path: &Path) -> usize {
            let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
            entries.map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
        }
        count(&self.root.path().join(directory))
    }
}

fn pattern(bytes: usize) -> Bytes {
    let block: Vec<u8> = (0..65_521_u32).map(|i| ((i * 31) >> 3) as u8).collect();
    block.repeat(bytes.div_ceil(block.len()))[..bytes].to_vec().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_puts_gets_lists_and_prunes() {
    let lab = Lab::new().await;
    let bucket = lab.own();
    let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    for window in 1..=5 {
        bucket.put(&format!("gradient-{window}-1"), pattern(window * 1000)).await.unwrap();
    }
    bucket.put("dir/with space+ü", "x".into()).await.unwrap();
    bucket.put("empty", Bytes::new()).await.unwrap();
    assert_eq!(bucket.get("gradient-5-1", 5000, soon()).await.unwrap(), pattern(5000));
    assert_eq!(bucket.get("empty", 0, soon()).await.unwrap(), "");
    assert_eq!(bucket.get_range("gradient-5-1", 1200..1300, soon()).await.unwrap(), pattern(5000).slice(1200..1300));
    assert_eq!(bucket.get_range("gradient-5-1", 4999..5001, soon()).await.unwrap_err().kind(), ErrorKind::Other);
    let info = bucket.head("gradient-5-1", soon()).await.unwrap();
    // S3's times have whole seconds.
    assert!(info.size_bytes == 5000 && info.etag.is_some() && (before - 1000..before + 600_000).contains(&info.last_modified_ms));
    assert_eq!(bucket.get("dir/with space+ü", 1, soon()).await.unwrap(), "x");
    assert_eq!(bucket.list("gradient-").await.unwrap().len(), 5);
    assert_eq!(bucket.list("dir/with").await.unwrap()[0].key, "dir/with space+ü");
    let pruned = bucket.prune("gradient-", |key| key >= "gradient-4").await.unwrap();
    assert_eq!(pruned, Pruned { deleted: 3, kept: 2 });
    assert!(bucket.get("gradient-1-1", 5000, soon()).await.unwrap_err().is_not_found());
    bucket.put("gradient-5-1", "replaced".into()).await.unwrap();
    assert_eq!(bucket.get("gradient-5-1", 5000, soon()).await.unwrap(), "replaced");
    assert_eq!(bucket.put_if_absent("gradient-5-1", "no".into()).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    bucket.put_if_absent("fresh", "yes".into()).await.unwrap();
    bucket.delete("fresh").await.unwrap();
    bucket.delete("fresh").await.unwrap();
    assert_eq!(bucket.get_if_exists("fresh", 9, soon()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_of_several_pages_is_complete() {
    let lab = Lab::new().await;
    let bucket = lab.own();
    let put = |i: usize| {
        let bucket = bucket.clone();
        async move { bucket.put(&format!("d{}/k{i:04}", i % 2), Bytes::new()).await.unwrap() }
    };
    for batch in 0..11 {
        futures::future::join_all((0..100).map(|i| put(batch * 100 + i))).await;
    }
    let keys: Vec<_> = bucket.list("").await.unwrap().into_iter().map(|info| info.key).collect();
    let mut expected: Vec<_> = (0..1100).map(|i| format!("d{}/k{i:04}", i % 2)).collect();
    expected.sort();
    assert_eq!(keys, expected);
    assert_eq!(bucket.list("d1/k01").await.unwrap().len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused() {
    let lab = Lab::new().await;
    let own = lab.own();
    own.put("a", "text".into()).await.unwrap();
    let private = lab.bucket("private", Some(credentials("K3")));
    private.put("a", "text".into()).await.unwrap();

    // Anybody reads a public bucket's objects by name, and that is all.
    let anybody = lab.bucket("miner-1", None);
    assert_eq!(anybody.get("a", 4, soon()).await.unwrap(), "text");
    assert_eq!(anybody.head("a", soon()).await.unwrap().size_bytes, 4);
    assert!(anybody.get("b", 4, soon()).await.unwrap_err().is_not_found());
    let wrong = Credentials::new("K1", "guess");
    let unknown = credentials("K9");
    let strangers =
        [anybody, lab.bucket("miner-1", Some(credentials("K2"))), lab.bucket("miner-1", Some(wrong)), lab.bucket("miner-1", Some(unknown))];
    for stranger in &strangers {
        assert_eq!(stranger.list("").await.unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(stranger.put("a", "other".into()).await.unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(stranger.put_if_absent("new", "other".into()).await.unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(stranger.delete("a").await.unwrap_err().kind(), ErrorKind::Denied);
        let upload = stranger.object_store().put_multipart(&"a".into()).await;
        assert!(matches!(upload, Err(object_store::Error::PermissionDenied { .. })));
    }
    assert_eq!(own.get("a", 4, soon()).await.unwrap(), "text");
    assert_eq!(lab.files_under("buckets/miner-1"), 1);

    for key in [None, Some(credentials("K1"))] {
        let bucket = lab.bucket("private", key);
        assert_eq!(bucket.get("a", 4, soon()).await.unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(bucket.get("absent", 4, soon()).await.unwrap_err().kind(), ErrorKind::Denied);
    }
    assert!(lab.bucket("nowhere", None).get("a", 4, soon()).await.unwrap_err().is_not_found());
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_are_bounded_on_both_sides() {
    let lab = Lab::new().await;
    let bucket = lab.own();
    bucket.put("a", pattern(100_000)).await.unwrap();
    let down = bucket.meter().bytes_down;
    assert_eq!(bucket.get("a", 99_999, soon()).await.unwrap_err().kind(), ErrorKind::TooLarge { size: 100_000, max: 99_999 });
    assert_eq!(bucket.meter().bytes_down, down);
    // The server refuses by the announced length, before the body.
    let head = format!("PUT /miner-1/a HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", OBJECT_BYTES_MAX + 1);
    assert!(lab.raw(&head, b"", false).await.contains("403"), "a stranger is refused before anything else");
    let small =
        S3Config { object_bytes_max: 10, ..S3Config::new(lab.root.path().join("small"), SocketAddr::from(([127, 0, 0, 1], 0)), fixed()) };
    let small = Server::bind(small).await.unwrap().spawn();
    let config = BucketConfig::with_credentials(BucketUrl::local(small.address(), "miner-1").unwrap(), credentials("K1"));
    let bucket = Bucket::open(&config, &lab.http).unwrap();
    bucket.put("a", pattern(10)).await.unwrap();
    let error = bucket.put("b", pattern(11)).await.unwrap_err();
    assert!(error.to_string().contains("at most 10 bytes"), "{error}");
    assert_eq!(bucket.list("").await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_in_parts_is_whole_or_absent() {
    let lab = Lab::new().await;
    let bucket = lab.own();
    let store = bucket.object_store();
    let bytes = pattern((12 << 20) + 5);
    let part = 5 << 20;
    let path = object_store::path::Path::from("large");
    let mut upload = store.put_multipart(&path).await.unwrap();
    // Sent out of order, numbered in order.
    let sends: Vec<_> = (0..3).map(|i| upload.put_part(PutPayload::from(bytes.slice(i * part..bytes.len().min((i + 1) * part))))).collect();
    for send in sends.into_iter().rev() {
        send.await.unwrap();
    }
    assert!(bucket.get_if_exists("large", 1, soon()).await.unwrap().is_none());
    upload.complete().await.unwrap();
    assert!(bucket.get("large", bytes.len() as u64, soon()).await.unwrap() == bytes);

    let mut upload = store.put_multipart(&object_store::path::Path::from("aborted")).await.unwrap();
    upload.put_part("x".into()).await.unwrap();
    upload.abort().await.unwrap();
    assert!(bucket.get("aborted", 1, soon()).await.unwrap_err().is_not_found());
    assert_eq!((lab.files_under("uploads"), lab.files_under("tmp")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_object_goes_through_and_a_file_comes_back() {
    let lab = Lab::new().await;
    let bucket = lab.own();
    let bytes = pattern((101 << 20) + 77);
    let start = Instant::now();
    bucket.put("large", bytes.clone()).await.unwrap();
    let up = start.elapsed();
    assert_eq!(bucket.meter().puts, 4);
    let to = lab.root.path().join("file");
    let start = Instant::now();
    assert_eq!(bucket.get_file("large", &to, bytes.len() as u64, soon()).await.unwrap(), bytes.len() as u64);
    let down = start.elapsed();
    assert!(std::fs::read(to).unwrap() == bytes);
    let rate = |time: Duration| bytes.len() as f64 / time.as_secs_f64() / f64::from(1 << 20);
    println!("loopback: {:.0} MiB/s up in parts, {:.0} MiB/s down to a file", rate(up), rate(down));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_leaves_nothing() {
    let lab = Lab::new().await;
    // Signed by ourselves would be long; a presigned body is not needed: the part of the put that writes is reached by a real client
    // whose body breaks off, here a proxy that forwards 1 MiB of a larger put and then hangs up.
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let through = proxy.local_addr().unwrap();
    let target = lab.server.address();
    let cut = tokio::spawn(async move {
        let mut forwarded = 0;
        loop {
            let (mut client, _) = proxy.accept().await.unwrap();
            let mut server = TcpStream::connect(target).await.unwrap();
            let mut buffer = vec![0; 64 << 10];
            let mut sent = 0;
            while sent < 1 << 20 {
                let length = client.read(&mut buffer).await.unwrap();
                if length == 0 {
                    break;
                }
                server.write_all(&buffer[..length]).await.unwrap();
                sent += length;
            }
            forwarded += sent;
            drop((client, server));
            if forwarded >= 2 << 20 {
                return forwarded;
            }
        }
    });
    // The signature covers the host, so the client must name the server and connect to the proxy: its bucket is opened through it.
    let config = BucketConfig::with_credentials(BucketUrl::local(through, "miner-1").unwrap(), credentials("K1"));
    let policy =
        RetryPolicy { attempts_max: 2, pause_first: Duration::from_millis(1), pause_max: Duration::from_millis(1), pace: Pace::default() };
    let bucket = Bucket::open_with(&config, &lab.http, policy, FaultPlan::default()).unwrap();
    let error = bucket.put("a", pattern(8 << 20)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
    assert!(cut.await.unwrap() >= 2 << 20);
    let own = lab.own();
    assert!(own.get("a", 8 << 20, soon()).await.unwrap_err().is_not_found());
    let Lab { root, server, .. } = lab;
    server.stop().await;
    assert_eq!(std::fs::read_dir(root.path().join("tmp")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_survives_a_restart_and_a_directory_has_one_server() {
    let lab = Lab::new().await;
    lab.own().put("a", "text".into()).await.unwrap();
    let before = lab.own().head("a", soon()).await.unwrap();
    let again = S3Config::new(lab.root.path(), SocketAddr::from(([127, 0, 0, 1], 0)), fixed());
    assert!(matches!(Server::bind(again).await, Err(ServeError::InUse(_))));
    let busy = S3Config::new(lab.root.path().join("other"), lab.server.address(), fixed());
    assert!(matches!(Server::bind(busy).await, Err(ServeError::Busy(_))));
    let Lab { root, server, http } = lab;
    server.stop().await;
    let server = serve(root.path(), fixed()).await;
    let lab = Lab { root, server, http };
    assert_eq!(lab.own().head("a", soon()).await.unwrap(), before);
    assert_eq!(lab.own().get("a", 4, soon()).await.unwrap(), "text");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_leads_out() {
    let lab = Lab::new().await;
    std::fs::write(lab.root.path().join("buckets/outside"), "outside").unwrap();
    lab.own().put("a", "text".into()).await.unwrap();
    for path in [
        "/miner-1/../outside",
        "/miner-1/%2e%2e/outside",
        "/miner-1/..%2foutside",
        "/miner-1/a/../../outside",
        "/miner-1//a",
        "/miner-1/./a",
        "/../lock",
        "/%2e%2e/lock",
        "/miner-1/%00",
        "/miner-1/a%0a",
    ] {
        let line = lab.raw(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), b"", false).await;
        assert!(line.contains(" 400 ") || line.contains(" 404 ") || line.contains(" 403 "), "{path}: {line}");
    }
    let line = lab.raw("GET /miner-1/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"", false).await;
    assert!(line.contains(" 200 "), "{line}");
    let form = "POST /miner-1 HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 9000000000\r\n\r\n";
    assert!(lab.raw(form, b"", false).await.contains(" 501 "));
    assert!(lab.raw("nonsense\r\n\r\n", b"", true).await.contains(" 400 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_added_while_the_server_runs() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("access.json");
    let mut file = AccessFile::default();
    let one = file.add_bucket("one", true).unwrap().clone();
    file.save(&path).unwrap();
    let access = Access::file(&path, Duration::ZERO).unwrap();
    let server = serve(&root.path().join("data"), access).await;
    let http = Http::new(Reach::Anywhere).unwrap();
    let open = |entry: &BucketAccess| {
        let key = Credentials::new(&entry.access_key_id, entry.secret.expose().as_str());
        let config = BucketConfig::with_credentials(BucketUrl::local(server.address(), &entry.name).unwrap(), key);
        Bucket::open(&config, &http).unwrap()
    };
    open(&one).put("a", "text".into()).await.unwrap();
    let two = file.add_bucket("two", true).unwrap().clone();
    assert_eq!(open(&two).put("a", "text".into()).await.unwrap_err().kind(), ErrorKind::Denied);
    file.save(&path).unwrap();
    open(&two).put("a", "text".into()).await.unwrap();
    // A broken edit changes nothing.
    std::fs::write(&path, "{").unwrap();
    assert_eq!(open(&one).get("a", 4, soon()).await.unwrap(), "text");
    assert_eq!(open(&two).list("").await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_on_the_own_network_can_be_ruled_out() {
    let lab = Lab::new().await;
    let http = Http::new(Reach::Public).unwrap();
    let config = BucketConfig::anonymous(BucketUrl::local(lab.server.address(), "miner-1").unwrap());
    assert_eq!(Bucket::open(&config, &http).unwrap_err().kind(), ErrorKind::Denied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_is_a_passing_failure() {
    let lab = Lab::new().await;
    let bucket = lab.own();
    lab.server.stop().await;
    let error = bucket.get("a", 4, soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
}
