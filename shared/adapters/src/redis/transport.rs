//! Redis transport: how commands reach the server, and nothing about what they mean.
//! All commands of a step are sent at once, in one round trip. A connection that timed
//! out or broke is replaced, and the same commands are sent once more. This is safe,
//! because every command is idempotent, by its nature or by its caller's token.

use std::fmt;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use domain::time::{Millis, whole_ms};
use futures_util::future::join_all;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use redis::aio::MultiplexedConnection;
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, IntoConnectionInfo as _, RedisError, ServerErrorKind,
    TlsCertificates, Value,
};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::timeout;
use url::Url;

use super::script::{Args, Script};
use crate::aws::secrets::{SecretsError, StoredSecret};
use crate::clock::Clock;
use crate::telemetry::chain;
use crate::tls;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_millis(300);
/// How long the first one of a process may take. Its TLS handshake is some 15 ms of work,
/// and a function with 256 MB has a seventh of a CPU.
const FIRST_CONNECT: Duration = Duration::from_secs(1);
/// How long the password may take to be read.
const SECRET: Duration = Duration::from_secs(2);
/// How long after that it is not asked for again.
const SECRET_AGAIN: Duration = Duration::from_secs(10);
/// How long a round trip may take.
const RESPONSE: Duration = Duration::from_millis(250);

/// How to reach Redis. Its `Debug` shows no credentials.
#[derive(Clone)]
pub struct RedisConfig {
    /// `redis://` or `rediss://`, with credentials if there are any.
    pub url: String,
    /// Whether it is a cluster.
    pub cluster: bool,
    /// The only certificate authorities to trust instead of the machine's, in PEM.
    pub ca_pem: Option<String>,
    /// Where its password is kept, if the URL has none.
    pub secret: Option<StoredSecret>,
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl RedisConfig {
    /// One node at `url`, with the machine's certificate authorities.
    pub fn node(url: impl Into<String>) -> Self {
        Self { url: url.into(), cluster: false, ca_pem: None, secret: None }
    }

    /// Whether a client can be made from this. Nothing is connected.
    pub(crate) fn is_usable(&self) -> bool {
        Target::of(self, self.ca_pem.as_deref()).is_ok()
    }

    /// The certificate authorities to trust, in PEM, if it is reached over TLS.
    fn roots_pem(&self) -> Option<String> {
        self.is_tls().then(|| self.ca_pem.clone().unwrap_or_else(tls::machine_pem))
    }

    fn is_tls(&self) -> bool {
        self.url.starts_with("rediss://")
    }

    /// The same, with the password from its secret, if it has one.
    async fn signed_in(self) -> Result<Self, SignInError> {
        let Some(stored) = &self.secret else { return Ok(self) };
        let text = stored.read().await?;
        let login = match serde_json::from_str::<Login>(&text) {
            Ok(login) => login,
            Err(_) if text.trim_start().starts_with('{') || text.trim().is_empty() => return Err(SignInError::Login),
            Err(_) => Login { username: None, password: text.trim().to_owned() },
        };
        // The reader of the URL decodes every percent sign.
        let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mut url = Url::parse(&self.url).map_err(|_| SignInError::Url)?;
        url.set_username(&escaped(login.username.as_deref().unwrap_or_default())).map_err(|()| SignInError::Url)?;
        url.set_password(Some(&escaped(&login.password))).map_err(|()| SignInError::Url)?;
        Ok(Self { url: url.into(), secret: None, ..self })
    }
}

/// The secret of a cache, as `infra/cache.yaml` makes it.
#[derive(Deserialize)]
struct Login {
    username: Option<String>,
    password: String,
}

/// Why the password of Redis is not known.
#[derive(Debug, thiserror::Error)]
enum SignInError {
    #[error("the secret of Redis cannot be read")]
    Secret(#[from] SecretsError),
    #[error("the secret of Redis must be a password, or JSON with `username` and `password`")]
    Login,
    #[error("the Redis password cannot be put into a URL")]
    Url,
}

impl SignInError {
    fn code(&self) -> &'static str {
        match self {
            Self::Secret(error) => error.code(),
            Self::Login | Self::Url => "secret_redis",
        }
    }
}

/// One command of a round trip.
#[derive(Clone, Debug)]
pub enum Call {
    /// A plain command.
    Command(Cmd),
    /// A command about a node's keys, for the node of a cluster that serves this slot. There is
    /// only one node without a cluster.
    OnNode {
        /// A slot that the node serves.
        slot: u16,
        /// What to send it.
        command: Cmd,
    },
    /// A script on one key.
    Script {
        /// Which.
        script: &'static Script,
        /// Its only key.
        key: String,
        /// Its arguments.
        args: Args,
    },
}

impl From<Cmd> for Call {
    fn from(command: Cmd) -> Self {
        Self::Command(command)
    }
}

impl Call {
    fn outgoing(&self, clock: &Clock, by_hash: bool) -> Outgoing {
        let slot = match self {
            Self::OnNode { slot, .. } => Some(*slot),
            Self::Command(_) | Self::Script { .. } => None,
        };
        Outgoing { command: self.command(clock, by_hash), slot }
    }

    fn command(&self, clock: &Clock, by_hash: bool) -> Cmd {
        match self {
            Self::Command(command) | Self::OnNode { command, .. } => command.clone(),
            Self::Script { script, key, args } => {
                let compiled = script.compiled(clock);
                let (name, body) = if by_hash { ("EVALSHA", &compiled.hash) } else { ("EVAL", &compiled.text) };
                let bytes = name.len() + body.len() + key.len() + args.bytes() + 20;
                let mut command = Cmd::with_capacity(args.count() + 5, bytes);
                command.arg(name).arg(body).arg(1).arg(key);
                args.iter().for_each(|argument| {
                    command.arg(argument);
                });
                if clock.is_fixed() {
                    command.arg(clock.now().0);
                }
                command
            }
        }
    }
}

/// A command on its way.
struct Outgoing {
    command: Cmd,
    /// A slot of the node that it is for, if its key does not tell.
    slot: Option<u16>,
}

/// The answer to one command.
pub type Reply = Result<Value, RedisError>;

/// Redis did not answer a round trip. It may have carried it out all the same.
#[derive(Debug, thiserror::Error)]
#[error("Redis {doing}")]
pub struct Unavailable {
    doing: &'static str,
    #[source]
    source: Option<RedisError>,
}

impl Unavailable {
    /// A name for metrics and logs.
    pub fn code(&self) -> &'static str {
        "redis_unavailable"
    }

    fn because(doing: &'static str, source: RedisError) -> Self {
        Self { doing, source: Some(source) }
    }

    /// Redis, or a stand-in for it, is not there.
    pub fn away() -> Self {
        Self { doing: "is away", source: None }
    }
}

/// The way to Redis. A trait because the simulation of lost and delayed
/// commands stands in between; the server behind it is always real.
#[async_trait]
pub trait RedisPort: Send + Sync {
    /// Sends all calls at once and gives their replies in order. Redis carries the
    /// calls out in any order.
    async fn round_trip(&self, calls: Vec<Call>) -> Result<Vec<Reply>, Unavailable>;
}

/// A client for one node or a cluster that recovers by itself. It connects when
/// first used.
pub struct Redis {
    config: RedisConfig,
    /// The certificate authorities to trust. They are read when the process starts, and not
    /// for each connection.
    roots_pem: Option<String>,
    clock: Clock,
    slot: Mutex<Slot>,
}

/// What there is of a connection.
#[derive(Default)]
struct Slot {
    /// Where it leads; absent until the password is known.
    target: Option<Target>,
    /// Which connection this is, so that a caller drops only the one that failed it.
    number: u64,
    connection: Option<Connection>,
    /// Whether a connection was ever tried.
    is_tried: bool,
    /// When a password that could not be read may be asked for again.
    not_before: Millis,
}

enum Target {
    Node(Box<Client>),
    Cluster(Box<ClusterClient>),
}

impl Target {
    /// What the URL leads to, with these certificate authorities and no others.
    fn of(config: &RedisConfig, roots_pem: Option<&str>) -> Result<Self, RedisError> {
        let url = config.url.as_str();
        let roots = roots_pem.filter(|_| config.is_tls());
        let certificates = roots.map(|pem| TlsCertificates { client_tls: None, root_cert: Some(pem.into()) });
        if config.cluster {
            let mut builder = ClusterClient::builder([url])
                .overall_response_timeout(Some(RESPONSE))
                .retries(2)
                .tcp_settings(tcp_settings());
            if let Some(certificates) = certificates {
                builder = builder.certs(certificates);
            }
            return Ok(Self::Cluster(Box::new(builder.build()?)));
        }
        let info = url.into_connection_info()?.set_tcp_settings(tcp_settings());
        Ok(Self::Node(Box::new(match certificates {
            Some(certificates) => Client::build_with_tls(info, certificates)?,
            None => Client::open(info)?,
        })))
    }
}

/// A round trip is written at once, and nothing follows it before its answer. Otherwise its last
/// segment would wait until the server has acknowledged the others, which may take it 40 ms.
fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

#[derive(Clone)]
enum Connection {
    Node(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Redis {
    /// A client for the Redis that `config` names. Nothing is connected yet.
    ///
    /// # Errors
    /// When its URL is not a `redis://` or `rediss://` one.
    pub fn open(config: &RedisConfig, clock: Clock) -> Result<Self, RedisError> {
        let roots_pem = config.roots_pem();
        let target = Target::of(config, roots_pem.as_deref())?;
        let target = config.secret.is_none().then_some(target);
        let slot = Mutex::new(Slot { target, ..Slot::default() });
        Ok(Self { config: config.clone(), roots_pem, clock, slot })
    }

    async fn connected(&self) -> Result<(u64, Connection), Unavailable> {
        let mut slot = self.slot.lock().await;
        if let Some(connection) = &slot.connection {
            return Ok((slot.number, connection.clone()));
        }
        if slot.target.is_none() {
            slot.target = Some(self.sign_in(&mut slot.not_before).await?);
        }
        // Only the first try: a Redis that is away costs that once, and not each batch.
        let limit = if std::mem::replace(&mut slot.is_tried, true) { CONNECT } else { FIRST_CONNECT };
        let Some(target) = &slot.target else { return Err(Unavailable::away()) };
        let connecting = async {
            match target {
                Target::Node(client) => {
                    let config =
                        AsyncConnectionConfig::new().set_connection_timeout(Some(limit)).set_response_timeout(None);
                    client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::Node)
                }
                Target::Cluster(client) => {
                    let config = ClusterConfig::new().set_connection_timeout(limit).set_response_timeout(RESPONSE);
                    client.get_async_connection_with_config(config).await.map(Connection::Cluster)
                }
            }
        };
        // A cluster is asked for its slots after the connection is made.
        let began = Instant::now();
        let connected = timeout(limit + RESPONSE, connecting)
            .await
            .map_err(|_| Unavailable { doing: "did not accept a connection in time", source: None })?;
        let fresh = connected.map_err(|error| {
            // The password may have been changed: it is read again.
            if self.config.secret.is_some() && !matches!(error.kind(), ErrorKind::Io) {
                slot.target = None;
            }
            Unavailable::because("could not be connected to", error)
        })?;
        slot.number += 1;
        tracing::info!(number = slot.number, duration_ms = whole_ms(began.elapsed()), "connected to Redis");
        slot.connection = Some(fresh.clone());
        Ok((slot.number, fresh))
    }

    /// Reads the password. Without it work goes on without Redis.
    async fn sign_in(&self, not_before: &mut Millis) -> Result<Target, Unavailable> {
        let now = self.clock.now();
        if now < *not_before {
            return Err(Unavailable { doing: "cannot be signed in to yet", source: None });
        }
        *not_before = now.after(SECRET_AGAIN);
        let signed_in = timeout(SECRET, self.config.clone().signed_in()).await;
        match signed_in {
            Ok(Ok(config)) => Target::of(&config, self.roots_pem.as_deref())
                .map_err(|error| Unavailable::because("has a password that cannot be put into a URL", error)),
            Ok(Err(error)) => {
                tracing::error!(code = error.code(), error = %chain(&error), "the Redis password is not known; work goes on without Redis");
                Err(Unavailable { doing: "cannot be signed in to", source: None })
            }
            Err(_) => Err(Unavailable { doing: "cannot be signed in to in time", source: None }),
        }
    }

    async fn discard(&self, number: u64) {
        let mut slot = self.slot.lock().await;
        if slot.number == number {
            slot.connection = None;
        }
    }

    /// Sends calls over the present connection and gives the answers that can be
    /// used. A connection that did not answer all of them is not used again.
    async fn exchange(&self, calls: &[&Call]) -> Result<Vec<Option<Reply>>, Unavailable> {
        let (number, connection) = self.connected().await?;
        let exchange = async {
            let commands: Vec<Outgoing> = calls.iter().map(|call| call.outgoing(&self.clock, true)).collect();
            let mut replies = send(&connection, commands).await;
            // A script that the server does not know is sent whole, once, and stays known.
            let unknown: Vec<usize> =
                replies.iter().enumerate().filter(|(_, reply)| is_unknown_script(reply)).map(|(i, _)| i).collect();
            if !unknown.is_empty() {
                let whole: Vec<Outgoing> = unknown.iter().map(|&i| calls[i].outgoing(&self.clock, false)).collect();
                for (i, reply) in unknown.into_iter().zip(send(&connection, whole).await) {
                    replies[i] = reply;
                }
            }
            replies
        };
        let replies = timeout(RESPONSE, exchange).await.ok();
        let mut failure = None;
        let usable: Vec<Option<Reply>> = match replies {
            None => calls.iter().map(|_| None).collect(),
            Some(replies) => replies
                .into_iter()
                .map(|reply| match reply {
                    Err(error) if needs_another_connection(&error) => {
                        failure = Some(error);
                        None
                    }
                    other => Some(other),
                })
                .collect(),
        };
        if usable.iter().any(Option::is_none) {
            self.discard(number).await;
        }
        if usable.iter().all(Option::is_none) {
            return Err(match failure {
                Some(error) => Unavailable::because("cannot serve commands", error),
                None => Unavailable { doing: "did not answer in time", source: None },
            });
        }
        Ok(usable)
    }
}

#[async_trait]
impl RedisPort for Redis {
    async fn round_trip(&self, calls: Vec<Call>) -> Result<Vec<Reply>, Unavailable> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let all: Vec<&Call> = calls.iter().collect();
        let mut replies = match self.exchange(&all).await {
            Ok(replies) => replies,
            Err(first) => {
                tracing::debug!(error = %chain(&first), "a Redis round trip is sent again on a new connection");
                self.exchange(&all).await?
            }
        };
        // One sick node of a cluster does not cost the others' answers.
        let missing: Vec<usize> = (0..calls.len()).filter(|&i| replies[i].is_none()).collect();
        if !missing.is_empty() {
            let again: Vec<&Call> = missing.iter().map(|&i| &calls[i]).collect();
            if let Ok(second) = self.exchange(&again).await {
                for (i, reply) in missing.into_iter().zip(second) {
                    replies[i] = reply;
                }
            }
        }
        let silence = || Err(RedisError::from((ErrorKind::Io, "no answer from this key's node")));
        Ok(replies.into_iter().map(|reply| reply.unwrap_or_else(silence)).collect())
    }
}

/// All commands at once: a pipeline on one node; in a cluster each by itself,
/// since a pipeline over several slots is refused.
async fn send(connection: &Connection, commands: Vec<Outgoing>) -> Vec<Reply> {
    match connection {
        Connection::Node(node) => {
            let count = commands.len();
            let mut pipeline = redis::Pipeline::with_capacity(count);
            for command in commands {
                pipeline.add_command(command.command);
            }
            match pipeline.ignore_errors().query_async(&mut node.clone()).await {
                Ok(replies) => replies,
                Err(error) => (0..count).map(|_| Err(RedisError::clone(&error))).collect(),
            }
        }
        Connection::Cluster(cluster) => {
            join_all(commands.into_iter().map(|Outgoing { command, slot }| {
                let mut cluster = cluster.clone();
                async move {
                    let Some(slot) = slot else { return command.query_async::<Value>(&mut cluster).await };
                    let node = SingleNodeRoutingInfo::SpecificNode(Route::new(slot, SlotAddr::Master));
                    cluster.route_command(command, RoutingInfo::SingleNode(node)).await
                }
            }))
            .await
        }
    }
}

fn is_unknown_script(reply: &Reply) -> bool {
    matches!(reply, Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
}

/// A connection that is broken, or leads to a server that is not, or no longer,
/// the one to talk to. Anything else is the server's answer to the command.
fn needs_another_connection(error: &RedisError) -> bool {
    if let ErrorKind::Server(kind) = error.kind() {
        return matches!(
            kind,
            ServerErrorKind::ReadOnly
                | ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::TryAgain
        );
    }
    matches!(error.kind(), ErrorKind::Io | ErrorKind::ClusterConnectionNotFound)
        || error.is_timeout()
        || error.is_connection_dropped()
}

#[cfg(test)]
mod tests {
    use super::*;

    static ECHO: Script = Script::new("echo", "return now");

    #[test]
    fn only_a_fixed_clock_sends_its_time() {
        let call = Call::Script { script: &ECHO, key: "k".into(), args: Args::new().with("a") };
        let count = |clock: &Clock| call.command(clock, true).args_iter().count();
        assert_eq!(count(&Clock::system()) + 1, count(&Clock::fixed(Millis(5))));
    }
}
