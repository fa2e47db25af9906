//! A TCP proxy that fails on demand.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// The delay of a slow proxy.
const SLOWNESS: Duration = Duration::from_millis(400);

/// How the proxy fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It works.
    None,
    /// The present connections swallow everything in silence. New ones work.
    BlackHole,
    /// Every connection swallows everything in silence.
    Away,
    /// Every request is delayed beyond the time limit of the client.
    Slow,
    /// The next request reaches the server, and the connection ends before its answer.
    LoseReply,
    /// The next request ends its connection before the server gets it.
    Reset,
}

struct State {
    trouble: Trouble,
    /// Connections so far.
    accepted: usize,
    /// Those up to this number are black holes.
    swallowed: usize,
    /// How often a client sent something after it had got all answers.
    round_trips: usize,
}

/// A running proxy.
#[derive(Clone)]
pub struct Proxy {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    /// A proxy before the server on `port` of the loopback.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State { trouble: Trouble::None, accepted: 0, swallowed: 0, round_trips: 0 }));
        let proxy = Self { port, state };
        let accepting = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = {
                    let mut state = accepting.state.lock().unwrap();
                    state.accepted += 1;
                    state.accepted
                };
                if let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await {
                    // What it forwards arrives in pieces that are smaller than what was sent.
                    client.set_nodelay(true).unwrap();
                    server.set_nodelay(true).unwrap();
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    let asking = Arc::new(AtomicBool::new(false));
                    tokio::spawn(accepting.clone().upwards(number, from_client, to_server, Arc::clone(&asking)));
                    tokio::spawn(accepting.clone().downwards(number, from_server, to_client, asking));
                }
            }
        });
        proxy
    }

    /// Its own port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on it fails like this, or works again.
    ///
    /// # Panics
    /// Never, unless another user of the proxy panicked.
    pub fn set(&self, trouble: Trouble) {
        let mut state = self.state.lock().unwrap();
        state.trouble = trouble;
        if trouble == Trouble::BlackHole {
            state.swallowed = state.accepted;
        }
    }

    /// How many connections were made.
    ///
    /// # Panics
    /// Never, unless another user of the proxy panicked.
    pub fn connections(&self) -> usize {
        self.state.lock().unwrap().accepted
    }

    /// How many round trips were made. Requests that are sent together count once.
    ///
    /// # Panics
    /// Never, unless another user of the proxy panicked.
    pub fn round_trips(&self) -> usize {
        self.state.lock().unwrap().round_trips
    }

    fn swallows(&self, number: usize) -> bool {
        let state = self.state.lock().unwrap();
        number <= state.swallowed || state.trouble == Trouble::Away
    }

    /// Whether this trouble is set. It happens once.
    fn once(&self, trouble: Trouble) -> bool {
        let mut state = self.state.lock().unwrap();
        let happens = state.trouble == trouble;
        if happens {
            state.trouble = Trouble::None;
        }
        happens
    }

    async fn linger(&self) {
        if self.state.lock().unwrap().trouble == Trouble::Slow {
            tokio::time::sleep(SLOWNESS).await;
        }
    }

    async fn upwards(self, number: usize, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, asking: Arc<AtomicBool>) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            if self.swallows(number) {
                continue;
            }
            self.linger().await;
            if !asking.swap(true, Ordering::SeqCst) {
                self.state.lock().unwrap().round_trips += 1;
            }
            if self.once(Trouble::Reset) || to.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    }

    async fn downwards(self, number: usize, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, asking: Arc<AtomicBool>) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            if self.swallows(number) {
                continue;
            }
            asking.store(false, Ordering::SeqCst);
            if self.once(Trouble::LoseReply) || to.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    }
}
