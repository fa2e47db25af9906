//! A Redis cluster for one test, like ElastiCache: three masters, a replica of each, TLS and
//! a password.

use std::process::Command;
use std::time::{Duration, Instant};

use adapters::redis::transport::RedisConfig;
use redis::ConnectionLike;
use redis::cluster::ClusterClient;

use crate::redis_server::{RedisServer, Server, free_port};
use crate::tls::Authority;

const PASSWORD: &str = "as-secret-as-it-gets";

/// A running cluster; it ends with this value.
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
    authority: Authority,
    url: String,
}

impl RedisCluster {
    /// Starts one and waits until it serves.
    ///
    /// # Panics
    /// When `redis-server` is missing or the cluster does not come up.
    pub fn start() -> Self {
        // Somebody else may take a free port before a server does.
        Self::create().or_else(|_| Self::create()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn create() -> Result<Self, String> {
        let authority = Authority::new();
        let files = authority.files_for("127.0.0.1");
        let nodes: Vec<RedisServer> = (0..6)
            .map(|_| {
                let port = free_port();
                let (tls_port, bus_port) = (port.to_string(), free_port().to_string());
                RedisServer::start_at(
                    port,
                    &[
                        &["--port", "0", "--tls-port", &tls_port, "--cluster-port", &bus_port][..],
                        &["--tls-cert-file", &files.certificate, "--tls-key-file", &files.key],
                        &["--tls-ca-cert-file", &files.authority, "--tls-auth-clients", "no"],
                        &["--tls-cluster", "yes", "--tls-replication", "yes"],
                        &["--requirepass", PASSWORD, "--masterauth", PASSWORD],
                        &["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"],
                        &["--repl-diskless-sync-delay", "0"],
                    ]
                    .concat(),
                )
            })
            .collect();
        let addresses = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port()));
        let made = Command::new("redis-cli")
            .args(["--tls", "--cacert", &files.authority, "-a", PASSWORD, "--no-auth-warning", "--cluster", "create"])
            .args(addresses)
            .args(["--cluster-replicas", "1", "--cluster-yes"])
            .output()
            .expect("redis-cli is missing; `make setup` installs it");
        if !made.status.success() {
            return Err(String::from_utf8_lossy(&made.stdout).into_owned());
        }
        let url = format!("rediss://:{PASSWORD}@127.0.0.1:{}", nodes[0].port());
        let cluster = Self { nodes, authority, url };
        let until = Instant::now() + Duration::from_secs(30);
        while !(cluster.serves() && cluster.is_replicated()) {
            assert!(Instant::now() < until, "the cluster does not come up");
            std::thread::yield_now();
        }
        Ok(cluster)
    }

    fn serves(&self) -> bool {
        let Ok(mut look) = self.client().get_connection() else { return false };
        let slots = (0..64).map(|n| redis::cmd("SET").arg(format!("probe:{n}")).arg(1).arg("EX").arg(1).to_owned());
        slots.into_iter().all(|set| set.query::<()>(&mut look).is_ok())
    }

    fn client(&self) -> ClusterClient {
        let roots = redis::TlsCertificates { client_tls: None, root_cert: Some(self.authority.pem().into_bytes()) };
        ClusterClient::builder([self.url.as_str()]).certs(roots).build().unwrap()
    }

    /// Whether each master has a replica that can take over.
    fn is_replicated(&self) -> bool {
        self.nodes[..3].iter().all(|master| {
            let roots = redis::TlsCertificates { client_tls: None, root_cert: Some(self.authority.pem().into_bytes()) };
            let url = format!("rediss://:{PASSWORD}@127.0.0.1:{}", master.port());
            let mut look = redis::Client::build_with_tls(url, roots).unwrap().get_connection().unwrap();
            let info: String = redis::cmd("INFO").arg("replication").query(&mut look).unwrap();
            info.contains("state=online")
        })
    }

    /// Ends a master at once.
    ///
    /// # Panics
    /// Never: the first three nodes are masters.
    pub fn kill_a_master(&mut self) {
        self.nodes[1].stop();
    }
}

impl Server for RedisCluster {
    fn config(&self) -> RedisConfig {
        RedisConfig { cluster: true, ca_pem: Some(self.authority.pem()), ..RedisConfig::node(&self.url) }
    }

    fn look(&self) -> Box<dyn ConnectionLike + Send> {
        Box::new(self.client().get_connection().unwrap())
    }
}
