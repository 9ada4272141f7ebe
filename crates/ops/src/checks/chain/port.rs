//! The chain's endpoint accepts connections: the difference between a wrong address and a chain that is down.

use crate::check::prelude::*;

/// The chain's endpoint accepts connections: the difference between a wrong address and a chain that is down.
pub struct Port;

#[async_trait(?Send)]
impl Check for Port {
    fn about(&self) -> About {
        About::new(
            "chain.port",
            "the chain's host accepts connections",
            "a name that does not resolve, a closed port and a chain that does not answer have different remedies",
            "check the endpoint (--chain or network.chain), the port (a local chain listens on 9944) and the firewall",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let authority = authority(&subject.settings.chain).ok_or_else(|| fail(format!("{:?} is no endpoint", subject.settings.chain)))?;
        crate::probe::connects(&authority).await.map(|ms| pass(format!("{authority} accepts connections ({ms} ms)"))).map_err(fail)
    }
}

/// `host:port` of an endpoint.
pub fn authority(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next().filter(|text| !text.is_empty())?;
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let port = if matches!(scheme, "https" | "wss") { 443 } else { 80 };
    Some(if has_port { authority.to_owned() } else { format!("{authority}:{port}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_where_something_listens() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut lab = Lab::new().await;
        lab.subject.settings.chain = format!("http://{}", listener.local_addr().unwrap());
        lab.passes(&Port).await;
    }

    #[tokio::test]
    async fn fails_where_nothing_does() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut lab = Lab::new().await;
        lab.subject.settings.chain = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        lab.fails(&Port, "refused").await;
        lab.subject.settings.chain = "nonsense".into();
        lab.fails(&Port, "is no endpoint").await;
        assert_eq!(authority("wss://chain.example/x").as_deref(), Some("chain.example:443"));
    }
}
