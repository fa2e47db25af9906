//! Redis transport: how commands reach the server, and nothing about what they
//! mean. Work goes out in *waves*: all commands of a step at once, one round
//! trip on a single node. A connection that timed out or broke is replaced and
//! the same wave sent once more, which is safe because every command in it is
//! idempotent, by its nature or by its caller's token.

use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::clock::Clock;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_millis(300);
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
        args: Vec<String>,
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
                let mut command = if by_hash {
                    let mut command = redis::cmd("EVALSHA");
                    command.arg(&compiled.hash);
                    command
                } else {
                    let mut command = redis::cmd("EVAL");
                    command.arg(&compiled.text);
                    command
                };
                command.arg(1).arg(key).arg(args);
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
    /// Sends all calls at once and gives their answers in order.
    async fn wave(&self, calls: &[Call]) -> Result<Vec<Reply>, Unavailable>;
}

/// A client for one node or a cluster that recovers by itself. It connects when
/// first used.
pub struct Redis {
    target: Target,
    clock: Clock,
    /// The live connection and its number, so that a caller drops only the one that failed it.
    connection: Mutex<(u64, Option<Connection>)>,
}

enum Target {
    Node(Box<Client>),
    Cluster(Box<ClusterClient>),
}

#[derive(Clone)]
enum Connection {
    Node(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Redis {
    /// A client for `url`, `redis://` or `rediss://`, with optional credentials.
    ///
    /// # Errors
    /// When `url` is not such a URL. Nothing is connected yet.
    pub fn open(url: &str, cluster: bool, clock: Clock) -> Result<Self, RedisError> {
        let target = if cluster {
            let builder: ClusterClientBuilder = ClusterClient::builder([url]);
            Target::Cluster(Box::new(
                builder
                    .connection_timeout(CONNECT)
                    .response_timeout(RESPONSE)
                    .overall_response_timeout(Some(RESPONSE))
                    .retries(2)
                    .build()?,
            ))
        } else {
            Target::Node(Box::new(Client::open(url)?))
        };
        Ok(Self { target, clock, connection: Mutex::new((0, None)) })
    }

    async fn connected(&self) -> Result<(u64, Connection), Unavailable> {
        let mut slot = self.connection.lock().await;
        if let (number, Some(connection)) = &*slot {
            return Ok((*number, connection.clone()));
        }
        let connecting = async {
            match &self.target {
                Target::Node(client) => {
                    let config =
                        AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(None);
                    client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::Node)
                }
                Target::Cluster(client) => client.get_async_connection().await.map(Connection::Cluster),
            }
        };
        // A cluster is asked for its slots after the connection is made.
        let fresh = timeout(CONNECT + RESPONSE, connecting)
            .await
            .map_err(|_| Unavailable { doing: "did not accept a connection in time", source: None })?
            .map_err(|error| Unavailable::because("could not be connected to", error))?;
        slot.0 += 1;
        slot.1 = Some(fresh.clone());
        Ok((slot.0, fresh))
    }

    async fn discard(&self, number: u64) {
        let mut slot = self.connection.lock().await;
        if slot.0 == number {
            slot.1 = None;
        }
    }

    async fn exchange(&self, calls: &[Call]) -> Result<Vec<Reply>, Unavailable> {
        let (number, connection) = self.connected().await?;
        let commands: Vec<Cmd> = calls.iter().map(|call| call.command(&self.clock, true)).collect();
        let exchange = async {
            let mut replies = send(&connection, &commands).await?;
            // A script that the server does not know is sent whole, once, and stays known.
            let unknown: Vec<usize> =
                replies.iter().enumerate().filter(|(_, reply)| is_unknown_script(reply)).map(|(i, _)| i).collect();
            if !unknown.is_empty() {
                let whole: Vec<Cmd> = unknown.iter().map(|&i| calls[i].command(&self.clock, false)).collect();
                for (i, reply) in unknown.into_iter().zip(send(&connection, &whole).await?) {
                    replies[i] = reply;
                }
            }
            Ok(replies)
        };
        let outcome = match timeout(RESPONSE, exchange).await {
            Err(_) => Err(Unavailable { doing: "did not answer in time", source: None }),
            Ok(Err(error)) => Err(Unavailable::because("broke the connection", error)),
            Ok(Ok(replies)) => match replies.iter().position(needs_another_connection) {
                None => Ok(replies),
                Some(at) => Err(match replies.into_iter().nth(at) {
                    Some(Err(error)) => Unavailable::because("cannot serve commands", error),
                    _ => Unavailable::away(),
                }),
            },
        };
        if outcome.is_err() {
            self.discard(number).await;
        }
        outcome
    }
}

#[async_trait]
impl Wire for Redis {
    async fn wave(&self, calls: &[Call]) -> Result<Vec<Reply>, Unavailable> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        match self.exchange(calls).await {
            Ok(replies) => Ok(replies),
            Err(first) => {
                tracing::debug!(error = %first, "redis wave is sent again on a new connection");
                self.exchange(calls).await
            }
        }
    }
}

/// All commands at once: a pipeline on one node; in a cluster each by itself,
/// since a pipeline over several slots is refused.
async fn send(connection: &Connection, commands: &[Cmd]) -> Result<Vec<Reply>, RedisError> {
    match connection {
        Connection::Node(node) => {
            let mut pipeline = redis::pipe();
            for command in commands {
                pipeline.add_command(command.clone());
            }
            pipeline.ignore_errors().query_async(&mut node.clone()).await
        }
        Connection::Cluster(cluster) => {
            let replies = join_all(commands.iter().map(|command| {
                let mut cluster = cluster.clone();
                async move { command.query_async::<Value>(&mut cluster).await }
            }))
            .await;
            replies
                .into_iter()
                .map(|reply| match reply {
                    Err(error) if error.is_io_error() || error.is_timeout() => Err(error),
                    other => Ok(other),
                })
                .collect()
        }
    }
}

fn is_unknown_script(reply: &Reply) -> bool {
    matches!(reply, Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
}

/// Answers of a server that is not, or no longer, the one to talk to.
fn needs_another_connection(reply: &Reply) -> bool {
    matches!(reply, Err(error) if matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::ReadOnly
                | ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ClusterDown
        )
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::time::Millis;

    static ECHO: Script = Script::new("return now");

    #[test]
    fn only_a_fixed_clock_sends_its_time() {
        let call = Call::Script { script: &ECHO, key: "k".into(), args: vec!["a".into()] };
        let count = |clock: &Clock| call.command(clock, true).args_iter().count();
        assert_eq!(count(&Clock::system()) + 1, count(&Clock::fixed(Millis(5))));
    }

    #[test]
    fn production_scripts_take_the_servers_time() {
        assert!(ECHO.compiled(&Clock::system()).text.contains("redis.call('TIME')"));
        assert!(!ECHO.compiled(&Clock::fixed(Millis(5))).text.contains("redis.call('TIME')"));
    }
}
