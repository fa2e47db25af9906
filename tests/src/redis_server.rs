//! A `redis-server` for one test, on a free port, without persistence.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use adapters::redis::transport::RedisConfig;
use redis::ConnectionLike;

/// A Redis to test on, a node or a cluster.
pub trait Server: Send + Sync {
    /// How to reach it.
    fn config(&self) -> RedisConfig;

    /// A plain connection, to look at what is stored.
    fn look(&self) -> Box<dyn ConnectionLike + Send>;
}

impl Server for RedisServer {
    fn config(&self) -> RedisConfig {
        RedisConfig::node(self.url())
    }

    fn look(&self) -> Box<dyn ConnectionLike + Send> {
        Box::new(self.connect())
    }
}

/// A running server; it ends with this value.
#[derive(Debug)]
pub struct RedisServer {
    child: Option<Child>,
    port: u16,
    dir: PathBuf,
    options: Vec<String>,
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl RedisServer {
    /// Starts a server.
    ///
    /// # Panics
    /// When `redis-server` is missing or does not come up.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with further options of its command line.
    ///
    /// # Panics
    /// When `redis-server` is missing or does not come up.
    pub fn start_with(options: &[&str]) -> Self {
        Self::start_at(free_port(), options)
    }

    /// Starts a server on this port.
    ///
    /// # Panics
    /// When `redis-server` is missing or does not come up.
    pub fn start_at(port: u16, options: &[&str]) -> Self {
        let dir = std::env::temp_dir().join(format!("steadhook-redis-{}-{port}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let mut server = Self { child: None, port, dir, options };
        server.resume();
        server
    }

    /// Starts the server again after [`RedisServer::stop`], with what was saved.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn resume(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--dir".as_ref(), self.dir.as_os_str()])
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is missing; `make setup` installs it");
        self.child = Some(child);
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < until, "redis-server did not come up");
            std::thread::yield_now();
        }
    }

    /// Ends the server after it has saved its data.
    pub fn stop_and_save(&mut self) {
        if let Some(mut child) = self.child.take() {
            // There is no reply: the connection ends.
            drop(redis::cmd("SHUTDOWN").arg("SAVE").exec(&mut self.connect()));
            child.wait().unwrap();
        }
    }

    /// Forgets what was saved.
    pub fn forget(&self) {
        drop(fs::remove_file(self.dir.join("dump.rdb")));
    }

    /// Ends the server at once. Data that it did not save is lost.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A plain connection, to look at what is stored.
    ///
    /// # Panics
    /// When the server does not accept it.
    pub fn connect(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
        drop(fs::remove_dir_all(&self.dir));
    }
}
