//! Where alerts go: a webhook, a command, e-mail through the machine's own `sendmail`.
//!
//! What always holds: a sink has ten seconds; what it answers is not believed and hardly read; the webhook's address, which is a secret, is in no
//! error and no log.

use super::Message;
use std::process::Stdio;
use std::time::Duration;
use templar_store::Secret;
use tokio::io::AsyncWriteExt;

/// How long a sink may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A place that alerts are sent to.
#[derive(Debug)]
pub enum Sink {
    /// POST as JSON to this URL.
    Webhook(Secret<String>),
    /// Start this program with these arguments and write the JSON to its standard input.
    Command(Vec<String>),
    /// Send text to an address through a program that takes a message on standard input, as `sendmail -t` does.
    Email {
        /// To whom.
        to: String,
        /// The program and its arguments.
        sendmail: Vec<String>,
    },
}

impl Sink {
    /// What it is, without anything secret.
    pub fn name(&self) -> String {
        match self {
            Self::Webhook(_) => "webhook".to_owned(),
            Self::Command(words) => format!("command {}", words.first().map_or("", String::as_str)),
            Self::Email { to, .. } => format!("e-mail to {to}"),
        }
    }

    /// Delivers a message.
    ///
    /// # Errors
    /// A sentence on why it did not arrive, without anything secret.
    pub async fn deliver(&self, message: &Message) -> Result<(), String> {
        let json = serde_json::to_vec(message).map_err(|error| error.to_string())?;
        let delivery = async {
            match self {
                Self::Webhook(url) => post(url, json).await,
                Self::Command(words) => run(words, &json).await,
                Self::Email { to, sendmail } => run(sendmail, mail(to, message).as_bytes()).await,
            }
        };
        let done = tokio::time::timeout(PATIENCE, delivery).await;
        let done = done.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
        done.map_err(|why| format!("{} did not take the alert: {why}", self.name()))
    }
}

async fn post(url: &Secret<String>, json: Vec<u8>) -> Result<(), String> {
    // Without redirects: the secret address is told to nobody else.
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(PATIENCE).build();
    let client = client.map_err(|error| error.without_url().to_string())?;
    let request = client.post(url.expose()).header("content-type", "application/json").body(json);
    let answer = request.send().await.map_err(|error| error.without_url().to_string())?;
    if answer.status().is_success() { Ok(()) } else { Err(format!("it answered {}", answer.status())) }
}

async fn run(words: &[String], input: &[u8]) -> Result<(), String> {
    let (program, arguments) = words.split_first().ok_or("no program is configured")?;
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("{program} could not be started: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input has still been started.
        let _ = stdin.write_all(input).await;
    }
    let status = child.wait().await.map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("{program} ended with {status}")) }
}

fn mail(to: &str, message: &Message) -> String {
    // A line break in a header would begin another one.
    let header = |text: &str| text.chars().filter(|c| !c.is_control()).collect::<String>();
    format!("To: {}\nSubject: {}\nContent-Type: text/plain; charset=utf-8\n\n{}\n", header(to), header(&message.subject()), message.text())
}

#[cfg(test)]
mod tests {
    use super::super::tests::message;
    use super::*;
    use tokio::io::AsyncReadExt;

    /// A server that reads a request and gives `answer`; what it has read comes back.
    async fn server(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook/secret-token", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut read, mut part) = (Vec::new(), [0; 4096]);
            while !String::from_utf8_lossy(&read).contains("\"node\"") {
                let count = stream.read(&mut part).await.unwrap();
                if count == 0 {
                    break;
                }
                read.extend_from_slice(&part[..count]);
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&read).into_owned()
        });
        (url, served)
    }

    #[tokio::test]
    async fn a_webhook_gets_json_and_its_address_is_told_to_nobody() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (url, served) = server("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        Sink::Webhook(Secret::new(url)).deliver(&message()).await.unwrap();
        let request = served.await.unwrap();
        assert!(request.starts_with("POST /hook/secret-token") && request.contains("\"alert\":\"disk-free\""), "{request}");
        let (url, _served) = server("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
        let refused = Sink::Webhook(Secret::new(url)).deliver(&message()).await.unwrap_err();
        assert_eq!(refused, "webhook did not take the alert: it answered 403 Forbidden");
        let gone = Sink::Webhook(Secret::new("http://127.0.0.1:1/secret-token".into())).deliver(&message()).await.unwrap_err();
        assert!(gone.starts_with("webhook did not") && !gone.contains("secret-token") && !gone.contains("127.0.0.1"), "{gone}");
    }

    #[tokio::test]
    async fn programs_get_their_message_on_standard_input() {
        let dir = tempfile::tempdir().unwrap();
        let words =
            |name: &str| ["sh", "-c", "cat > \"$0\""].map(str::to_owned).into_iter().chain([dir.path().join(name).display().to_string()]);
        Sink::Command(words("json").collect()).deliver(&message()).await.unwrap();
        let text = std::fs::read_to_string(dir.path().join("json")).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["level"], "critical");
        let to = "me@example.org\nBcc: you@example.org".to_owned();
        Sink::Email { to, sendmail: words("mail").collect() }.deliver(&message()).await.unwrap();
        let text = std::fs::read_to_string(dir.path().join("mail")).unwrap();
        assert!(text.starts_with("To: me@example.orgBcc: you@example.org\nSubject: [templar] critical: disk-free at miner-0"), "{text}");
        let failed = Sink::Command(vec!["false".into()]).deliver(&message()).await.unwrap_err();
        assert!(failed.contains("false ended with exit status: 1"), "{failed}");
        assert!(Sink::Command(vec!["no-such-program-here".into()]).deliver(&message()).await.is_err());
    }
}
