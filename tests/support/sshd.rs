//! An SSH server of the test's own: the system's `sshd` as an ordinary process on a loopback port, with keys of its own, for this user.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server that ends with its test.
pub struct Sshd {
    child: Child,
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// The private key that may log in.
    pub key: PathBuf,
    /// The home of whoever logs in.
    pub home: PathBuf,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The user of this process.
pub fn user() -> String {
    let output = Command::new("id").arg("-un").output().expect("id");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn keygen(path: &Path) {
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status().expect("ssh-keygen");
    assert!(made.success());
}

impl Sshd {
    /// Starts it with its files below `dir`; `None`, said on standard error, where no server is installed.
    ///
    /// Whoever logs in gets `dir/home` as home, so that nothing of this user's is touched.
    pub fn start(dir: &Path) -> Option<Self> {
        let program = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"].into_iter().find(|path| Path::new(path).is_file());
        let Some(program) = program else {
            eprintln!("not tested over SSH: no sshd is installed here (Debian: openssh-server)");
            return None;
        };
        let file = |name: &str| dir.join(name);
        keygen(&file("host_key"));
        keygen(&file("user_key"));
        std::fs::create_dir_all(file("home")).expect("a folder");
        std::fs::copy(file("user_key.pub"), file("authorized_keys")).expect("a copy");
        if user() == "root" {
            // The server of a privileged user insists on this folder.
            let _ = std::fs::create_dir_all("/run/sshd");
        }
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host_key\nPidFile none\nAuthorizedKeysFile {0}/authorized_keys\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nSetEnv HOME={0}/home\n\
             ForceCommand cd {0}/home && if [ -n \"$SSH_ORIGINAL_COMMAND\" ]; then eval \"$SSH_ORIGINAL_COMMAND\"; fi\nSubsystem sftp {1}\n",
            dir.display(),
            // Run by the forced command, so it must be a program.
            ["/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/libexec/sftp-server", "/usr/lib/ssh/sftp-server"]
                .into_iter()
                .find(|path| Path::new(path).is_file())
                .unwrap_or("internal-sftp")
        );
        std::fs::File::create(file("config")).and_then(|mut out| out.write_all(config.as_bytes())).expect("the configuration");
        let log = std::fs::File::create(file("sshd.log")).expect("a log");
        let child =
            Command::new(program).args(["-D", "-e", "-f"]).arg(file("config")).stdin(Stdio::null()).stderr(log).spawn().expect("it starts");
        let server = Self { child, port, key: file("user_key"), home: file("home") };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let said = std::fs::read_to_string(file("sshd.log")).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_secs(60), "sshd does not listen: {said}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }
}
