//! Redis transport: how commands reach the server, and nothing about what they
//! mean. Work goes out in *waves*: all commands of a step at once, one round
//! trip on a single node. A connection that timed out or broke is replaced and
//! the same wave sent once more, which is safe because every command in it is
//! idempotent, by its nature or by its caller's token.

use std::fmt::{Display, Write as _};
use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use domain::time::Millis;
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, RedisError, ServerErrorKind, TlsCertificates, Value};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::config::RedisConfig;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_millis(300);
/// How long the password may take to be read.
const SECRET: Duration = Duration::from_secs(2);
/// How long after that it is not asked for again.
const SECRET_AGAIN: Duration = Duration::from_secs(10);
/// How long a wave may take.
const RESPONSE: Duration = Duration::from_millis(250);

/// A Lua script that touches one key.
#[derive(Debug)]
pub struct Script {
    body: &'static str,
    by_server: OnceLock<Compiled>,
    by_caller: OnceLock<Compiled>,
}

/// A script as it is sent, and the hash that the server knows it by.
#[derive(Debug)]
struct Compiled {
    text: String,
    hash: String,
}

impl Script {
    /// A script from its source, without the prelude.
    pub const fn new(body: &'static str) -> Self {
        Self { body, by_server: OnceLock::new(), by_caller: OnceLock::new() }
    }

    /// The script as it is sent. Its time is the server's; only a fixed clock,
    /// which only tests have, makes the caller's time an argument.
    fn compiled(&self, clock: &Clock) -> &Compiled {
        let with = |now: &str| {
            let text = format!("{}{now}{}", include_str!("scripts/prelude.lua"), self.body);
            Compiled { hash: redis::Script::new(&text).get_hash().to_owned(), text }
        };
        if clock.is_fixed() {
            self.by_caller.get_or_init(|| with(include_str!("scripts/now_given.lua")))
        } else {
            self.by_server.get_or_init(|| with(include_str!("scripts/now_server.lua")))
        }
    }
}

/// A script's arguments, one after the other in one piece of memory: there are
/// some twenty to a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    text: String,
    ends: Vec<usize>,
}

impl Args {
    /// None yet, with room for some.
    pub fn new() -> Self {
        Self { text: String::with_capacity(512), ends: Vec::with_capacity(40) }
    }

    /// One more.
    #[must_use]
    pub fn with(mut self, argument: impl Display) -> Self {
        self.push(argument);
        self
    }

    fn push(&mut self, argument: impl Display) {
        // Writing to a String cannot fail.
        write!(self.text, "{argument}").unwrap_or_default();
        self.ends.push(self.text.len());
    }

    /// One more, that is text already.
    pub fn push_str(&mut self, argument: &str) {
        self.text.push_str(argument);
        self.ends.push(self.text.len());
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let begins = std::iter::once(&0).chain(&self.ends);
        begins.zip(&self.ends).map(|(&begin, &end)| &self.text[begin..end])
    }
}

impl<T: AsRef<str>> FromIterator<T> for Args {
    fn from_iter<I: IntoIterator<Item = T>>(arguments: I) -> Self {
        let mut args = Self::new();
        arguments.into_iter().for_each(|argument| args.push_str(argument.as_ref()));
        args
    }
}

/// One command of a wave.
#[derive(Clone, Debug)]
pub enum Call {
    /// A plain command.
    Command(Cmd),
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
    fn command(&self, clock: &Clock, by_hash: bool) -> Cmd {
        match self {
            Self::Command(command) => command.clone(),
            Self::Script { script, key, args } => {
                let compiled = script.compiled(clock);
                let (name, body) = if by_hash { ("EVALSHA", &compiled.hash) } else { ("EVAL", &compiled.text) };
                let bytes = name.len() + body.len() + key.len() + args.text.len() + 20;
                let mut command = Cmd::with_capacity(args.ends.len() + 5, bytes);
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

/// The answer to one command.
pub type Reply = Result<Value, RedisError>;

/// Redis did not take a wave, as far as we know.
#[derive(Debug, thiserror::Error)]
#[error("redis {doing}")]
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
pub trait Wire: Send + Sync {
    /// Sends all calls at once and gives their answers in order. The calls of one
    /// wave are carried out in any order.
    async fn wave(&self, calls: &[Call]) -> Result<Vec<Reply>, Unavailable>;
}

/// A client for one node or a cluster that recovers by itself. It connects when
/// first used.
pub struct Redis {
    config: RedisConfig,
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
    /// When a password that could not be read may be asked for again.
    not_before: Millis,
}

enum Target {
    Node(Box<Client>),
    Cluster(Box<ClusterClient>),
}

impl Target {
    fn of(config: &RedisConfig) -> Result<Self, RedisError> {
        let url = config.url.as_str();
        let roots = config.ca_pem.as_ref().filter(|_| url.starts_with("rediss://"));
        let certificates =
            roots.map(|pem| TlsCertificates { client_tls: None, root_cert: Some(pem.clone().into_bytes()) });
        if config.cluster {
            let mut builder = ClusterClient::builder([url])
                .connection_timeout(CONNECT)
                .response_timeout(RESPONSE)
                .overall_response_timeout(Some(RESPONSE))
                .retries(2);
            if let Some(certificates) = certificates {
                builder = builder.certs(certificates);
            }
            return Ok(Self::Cluster(Box::new(builder.build()?)));
        }
        Ok(Self::Node(Box::new(match certificates {
            Some(certificates) => Client::build_with_tls(url, certificates)?,
            None => Client::open(url)?,
        })))
    }
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
        let target = Target::of(config)?;
        let target = config.secret.is_none().then_some(target);
        let slot = Mutex::new(Slot { target, ..Slot::default() });
        Ok(Self { config: config.clone(), clock, slot })
    }

    async fn connected(&self) -> Result<(u64, Connection), Unavailable> {
        let mut slot = self.slot.lock().await;
        if let Some(connection) = &slot.connection {
            return Ok((slot.number, connection.clone()));
        }
        if slot.target.is_none() {
            slot.target = Some(self.sign_in(&mut slot.not_before).await?);
        }
        let Some(target) = &slot.target else { return Err(Unavailable::away()) };
        let connecting = async {
            match target {
                Target::Node(client) => {
                    let config =
                        AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(None);
                    client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::Node)
                }
                Target::Cluster(client) => client.get_async_connection().await.map(Connection::Cluster),
            }
        };
        // A cluster is asked for its slots after the connection is made.
        let connected = timeout(CONNECT + RESPONSE, connecting)
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
            Ok(Ok(config)) => {
                Target::of(&config).map_err(|error| Unavailable::because("has a strange password", error))
            }
            Ok(Err(error)) => {
                tracing::error!(code = error.code(), %error, "redis cannot be signed in to; work goes on without it");
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
            let commands: Vec<Cmd> = calls.iter().map(|call| call.command(&self.clock, true)).collect();
            let mut replies = send(&connection, commands).await;
            // A script that the server does not know is sent whole, once, and stays known.
            let unknown: Vec<usize> =
                replies.iter().enumerate().filter(|(_, reply)| is_unknown_script(reply)).map(|(i, _)| i).collect();
            if !unknown.is_empty() {
                let whole: Vec<Cmd> = unknown.iter().map(|&i| calls[i].command(&self.clock, false)).collect();
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
impl Wire for Redis {
    async fn wave(&self, calls: &[Call]) -> Result<Vec<Reply>, Unavailable> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let all: Vec<&Call> = calls.iter().collect();
        let mut replies = match self.exchange(&all).await {
            Ok(replies) => replies,
            Err(first) => {
                tracing::debug!(error = %first, "redis wave is sent again on a new connection");
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
async fn send(connection: &Connection, commands: Vec<Cmd>) -> Vec<Reply> {
    match connection {
        Connection::Node(node) => {
            let count = commands.len();
            let mut pipeline = redis::Pipeline::with_capacity(count);
            for command in commands {
                pipeline.add_command(command);
            }
            match pipeline.ignore_errors().query_async(&mut node.clone()).await {
                Ok(replies) => replies,
                Err(error) => (0..count).map(|_| Err(RedisError::clone(&error))).collect(),
            }
        }
        Connection::Cluster(cluster) => {
            join_all(commands.into_iter().map(|command| {
                let mut cluster = cluster.clone();
                async move { command.query_async::<Value>(&mut cluster).await }
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
    use domain::time::Millis;

    static ECHO: Script = Script::new("return now");

    #[test]
    fn only_a_fixed_clock_sends_its_time() {
        let call = Call::Script { script: &ECHO, key: "k".into(), args: Args::new().with("a") };
        let count = |clock: &Clock| call.command(clock, true).args_iter().count();
        assert_eq!(count(&Clock::system()) + 1, count(&Clock::fixed(Millis(5))));
    }

    #[test]
    fn production_scripts_take_the_servers_time() {
        assert!(ECHO.compiled(&Clock::system()).text.contains("redis.call('TIME')"));
        assert!(!ECHO.compiled(&Clock::fixed(Millis(5))).text.contains("redis.call('TIME')"));
    }
}
