//! HTTP clients, and what became of a call that had no answer.

use std::error::Error as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use url::Url;

use crate::failure::Failure;

/// How long a call may take. The gateway answers within 30 s.
const PATIENCE: Duration = Duration::from_secs(35);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest answer that is read. The gateway's limit is 10 MB.
const MAX_ANSWER: usize = 16 << 20;

/// A client for this host. It follows no redirect, and uses no proxy for this machine.
///
/// # Errors
/// When the machine's certificate authorities cannot be used.
pub(crate) fn client(to: &Url) -> Result<reqwest::Client, Failure> {
    let mut client = reqwest::Client::builder()
        .timeout(PATIENCE)
        .connect_timeout(CONNECT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("steadhook/", env!("CARGO_PKG_VERSION")));
    let host = to.host_str().unwrap_or_default();
    // Names below `localhost` are this machine (RFC 6761 §6.3), which not every resolver knows.
    if host.ends_with(".localhost") {
        client = client.resolve(host, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    }
    if host == "localhost" || host.ends_with(".localhost") || host.starts_with("127.") || host == "[::1]" {
        client = client.no_proxy();
    }
    client.build().map_err(|error| Failure::Unreachable(format!("no HTTP client can be made: {}", cause(&error))))
}

/// The body of an answer.
///
/// # Errors
/// When it breaks off, or is longer than any answer that is expected.
pub(crate) async fn body(response: &mut reqwest::Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| cause(&error))? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            return Err("the answer has more than 16 MiB".to_owned());
        }
    }
    Ok(body)
}

/// The last cause of an error names what happened. Those between repeat the URL.
pub(crate) fn cause(error: &reqwest::Error) -> String {
    let mut why = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        why = cause.to_string();
        source = cause.source();
    }
    why
}
