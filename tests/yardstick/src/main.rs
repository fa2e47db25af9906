//! The least that delivering can cost with this HTTP client: posts the same body
//! again and again, some at once, and does nothing else. Each line of the standard
//! input is a number of posts; each is answered by a line when they are done.

use std::io::{BufRead as _, Write as _};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, bytes, at_once] = arguments.as_slice() else {
        anyhow::bail!("usage: reqwest-loop URL BYTES AT_ONCE");
    };
    let body = Bytes::from("x".repeat(bytes.parse().context("BYTES")?));
    let at_once = at_once.parse().context("AT_ONCE")?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    for line in std::io::stdin().lock().lines() {
        let count: u32 = line?.trim().parse().context("a number of posts")?;
        stream::iter(0..count)
            .map(|_| post(&client, url, body.clone()))
            .buffer_unordered(at_once)
            .try_collect::<()>()
            .await?;
        writeln!(std::io::stdout(), "done")?;
    }
    Ok(())
}

async fn post(client: &reqwest::Client, url: &str, body: Bytes) -> anyhow::Result<()> {
    let mut response = client.post(url).header("content-type", "application/json").body(body).send().await?;
    ensure!(response.status().is_success(), "HTTP {}", response.status());
    while response.chunk().await?.is_some() {}
    Ok(())
}
