//! A receiver that ignores the rules of HTTP: it writes the bytes that a test wants, at the
//! speed that the test wants.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// One act of a peer.
#[derive(Clone, Debug)]
pub enum Act {
    /// Writes this.
    Write(Vec<u8>),
    /// Writes this over and over until the connection is closed.
    Repeat(Vec<u8>),
    /// Writes this byte by byte, one each 20 ms, over and over.
    Drip(&'static str),
    /// Keeps still until the connection is closed.
    Hang,
}

/// A listening peer. It reads the head of a request, and then does the same acts on every
/// connection.
#[derive(Clone)]
pub struct Peer {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    written: Arc<AtomicUsize>,
}

impl Peer {
    /// Starts one; after its last act it closes the connection.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start(acts: Vec<Act>) -> Self {
        Self::start_at("127.0.0.1", acts).await
    }

    /// The same on this address of the loopback.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start_at(address: &str, acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let peer = Self { address, connections: Arc::default(), written: Arc::default() };
        let serving = peer.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serving.clone().play(stream, acts.clone()));
            }
        });
        peer
    }

    async fn play(self, mut stream: TcpStream, acts: Vec<Act>) {
        let mut request = vec![0; 64 * 1024];
        if !matches!(stream.read(&mut request).await, Ok(1..)) {
            return;
        }
        for act in acts {
            match act {
                Act::Write(bytes) => {
                    if !self.write(&mut stream, &bytes).await {
                        return;
                    }
                }
                Act::Repeat(bytes) => while self.write(&mut stream, &bytes).await {},
                Act::Drip(text) => {
                    for byte in text.bytes().cycle() {
                        if !self.write(&mut stream, &[byte]).await {
                            return;
                        }
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
                Act::Hang => while matches!(stream.read(&mut request).await, Ok(1..)) {},
            }
        }
    }

    async fn write(&self, stream: &mut TcpStream, bytes: &[u8]) -> bool {
        let sent = stream.write_all(bytes).await.is_ok();
        self.written.fetch_add(bytes.len(), Ordering::SeqCst);
        sent
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many bytes it wrote, as far as the system took them.
    pub fn written(&self) -> usize {
        self.written.load(Ordering::SeqCst)
    }
}
