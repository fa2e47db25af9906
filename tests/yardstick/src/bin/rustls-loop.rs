//! The least that a new TLS connection can cost with this TLS library: connects, posts the same body as `reqwest-loop` over
//! HTTP/1.1 and reads until the end, again and again. Each line of the standard input is a number of posts; each is
//! answered by a line when they are done.

use std::io::{BufRead as _, Write as _};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, bytes, at_once] = arguments.as_slice() else {
        anyhow::bail!("usage: rustls-loop https://HOST:PORT/PATH BYTES AT_ONCE");
    };
    let (authority, path) = url.strip_prefix("https://").and_then(|rest| rest.split_once('/')).context("URL")?;
    let (host, _) = authority.rsplit_once(':').context("URL")?;
    let body = "x".repeat(bytes.parse().context("BYTES")?);
    let length = body.len();
    let request = format!("POST /{path} HTTP/1.1\r\nhost: {authority}\r\ncontent-length: {length}\r\n\r\n{body}");
    let at_once = at_once.parse().context("AT_ONCE")?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let (tls, name) = (TlsConnector::from(Arc::new(config)), ServerName::try_from(host.to_owned())?);
    for line in std::io::stdin().lock().lines() {
        let count: u32 = line?.trim().parse().context("a number of posts")?;
        stream::iter(0..count)
            .map(|_| post(&tls, authority, name.clone(), request.as_bytes()))
            .buffer_unordered(at_once)
            .try_collect::<()>()
            .await?;
        writeln!(std::io::stdout(), "done")?;
    }
    Ok(())
}

async fn post(tls: &TlsConnector, authority: &str, name: ServerName<'static>, request: &[u8]) -> anyhow::Result<()> {
    let tcp = TcpStream::connect(authority).await?;
    tcp.set_nodelay(true)?;
    let mut stream = tls.connect(name, tcp).await?;
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    // A server may end the connection without a word.
    drop(stream.read_to_end(&mut answer).await);
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "no 200");
    Ok(())
}
