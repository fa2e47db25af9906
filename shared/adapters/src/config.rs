//! Configuration: the environment, read once, with every fault told at once and
//! no value ever shown. Only this file reads the environment. Defaults live in
//! `template.yaml`; a setting that is missing here is a fault, never a guess.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use aws_credential_types::Credentials;
use domain::address::Guard;
use domain::breaker::{self, Parking, Policies};
use domain::destination::Destination;
use domain::retry::Policy;
use domain::signature::Signer;
use domain::status::Lifetimes;
use domain::webhook::Rules;
use ipnet::IpNet;
use serde::Deserialize;
use url::Url;

use crate::aws::Account;
use crate::redis::Redis;
use crate::secrets::{Signing, Stored};
use crate::sender::{SenderConfig, certificates};
use crate::sqs::QueueUrls;

/// What an attempt leaves to the function after it: time to queue and to record.
pub const BOOKKEEPING: Duration = Duration::from_secs(10);
/// What an invocation may need before its attempts: Redis may not answer at once.
const INTAKE: Duration = Duration::from_secs(3);
/// A payload above this would not fit a dead letter (DynamoDB items have 400 KB).
const LARGEST_PAYLOAD: u64 = 307_200;

/// Everything that is wrong with the environment.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    faults: Vec<(String, String)>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} fault(s):", self.faults.len())?;
        self.faults.iter().try_for_each(|(name, why)| write!(f, " {name}: {why};"))
    }
}

impl std::error::Error for ConfigError {}

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
    pub secret: Option<Stored>,
}

impl RedisConfig {
    /// One node at `url`, with the machine's certificate authorities.
    pub fn node(url: impl Into<String>) -> Self {
        Self { url: url.into(), cluster: false, ca_pem: None, secret: None }
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// What `enqueue` needs.
#[derive(Clone, Debug)]
pub struct EnqueueConfig {
    /// The stack's name.
    pub stack: String,
    /// Where AWS is.
    pub account: Account,
    /// Where Redis is.
    pub redis: RedisConfig,
    /// Where the queues are.
    pub queues: QueueUrls,
    /// What a webhook is judged by.
    pub rules: Rules,
    /// The deadline of a delivery whose client gave none.
    pub deadline: Duration,
    /// How long records live.
    pub lifetimes: Lifetimes,
}

/// What `deliver` needs.
#[derive(Clone, Debug)]
pub struct DeliverConfig {
    /// The stack's name.
    pub stack: String,
    /// Where AWS is.
    pub account: Account,
    /// Where Redis is.
    pub redis: RedisConfig,
    /// Where the queues are.
    pub queues: QueueUrls,
    /// How attempts are made.
    pub sender: SenderConfig,
    /// What they are signed with.
    pub signing: Signing,
    /// How retries are spaced.
    pub retry: Policy,
    /// When breakers open.
    pub breakers: Policies,
    /// How refused deliveries wait.
    pub parking: Parking,
    /// How long records live.
    pub lifetimes: Lifetimes,
}

/// What `archive` needs.
#[derive(Clone, Debug)]
pub struct ArchiveConfig {
    /// The stack's name.
    pub stack: String,
    /// Where AWS is.
    pub account: Account,
    /// Where Redis is.
    pub redis: RedisConfig,
    /// The table's name.
    pub table: String,
    /// How long a dead letter is kept.
    pub life: Duration,
    /// How long records live.
    pub lifetimes: Lifetimes,
}

/// What `operate` needs.
#[derive(Clone, Debug)]
pub struct OperateConfig {
    /// The stack's name.
    pub stack: String,
    /// Where AWS is.
    pub account: Account,
    /// Where Redis is.
    pub redis: RedisConfig,
    /// Where the queues are.
    pub queues: QueueUrls,
    /// The table's name.
    pub table: String,
    /// How long a dead letter is kept.
    pub life: Duration,
    /// The deadline of what is sent again.
    pub deadline: Duration,
    /// How long records live.
    pub lifetimes: Lifetimes,
}

/// What `cleanup` needs.
#[derive(Clone, Debug)]
pub struct CleanupConfig {
    /// The stack's name.
    pub stack: String,
    /// Where Redis is.
    pub redis: RedisConfig,
    /// How long records live.
    pub lifetimes: Lifetimes,
}

/// What `health` needs.
#[derive(Clone, Debug)]
pub struct HealthConfig {
    /// The stack's name.
    pub stack: String,
    /// Where AWS is.
    pub account: Account,
    /// Where Redis is.
    pub redis: RedisConfig,
    /// Where the queues are.
    pub queues: QueueUrls,
    /// The table's name.
    pub table: String,
}

/// What shows metrics needs.
#[derive(Clone, Debug)]
pub struct MetricsConfig {
    /// The stack's name.
    pub stack: String,
    /// Where Redis is.
    pub redis: RedisConfig,
    /// How long records live.
    pub lifetimes: Lifetimes,
    /// Where AWS is and where the queues are, if they are to be shown.
    pub queues: Option<(Account, QueueUrls)>,
}

/// What the sidecar needs.
#[derive(Clone, Debug)]
pub struct SidecarConfig {
    /// What it shows.
    pub metrics: MetricsConfig,
    /// Where it listens.
    pub listen: SocketAddr,
}

/// The environment's variables.
#[derive(Clone)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Those of this process.
    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn of_process() -> Self {
        // A variable that is not Unicode is none of ours.
        Self(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect())
    }

    /// Given ones.
    pub fn of<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }

    /// The level to log at: Lambda's own setting, `info` without one.
    pub fn log_level(&self) -> &str {
        self.0.get("AWS_LAMBDA_LOG_LEVEL").map_or("info", String::as_str)
    }

    /// Reads where AWS is and who is calling.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn account(&self) -> Result<Account, ConfigError> {
        let mut reader = Reader::new(self);
        let account = reader.account();
        reader.finish(account)
    }

    /// Reads what `enqueue` needs.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn enqueue(&self) -> Result<EnqueueConfig, ConfigError> {
        let mut reader = Reader::new(self);
        let stack = reader.required("STACK_NAME").to_owned();
        let account = reader.account();
        let redis = reader.redis();
        let queues = reader.queues();
        let rules = Rules { max_payload_bytes: reader.max_payload_bytes(), guard: reader.guard() };
        let deadline = reader.seconds("DELIVERY_DEADLINE_S", 60..=604_800);
        let lifetimes = reader.lifetimes(deadline);
        reader.finish(EnqueueConfig { stack, account, redis, queues, rules, deadline, lifetimes })
    }

    /// Reads what `deliver` needs, and refuses settings that are unsafe together.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn deliver(&self) -> Result<DeliverConfig, ConfigError> {
        let mut reader = Reader::new(self);
        let stack = reader.required("STACK_NAME").to_owned();
        let account = reader.account();
        let redis = reader.redis();
        let queues = reader.queues();
        let sender = reader.sender();
        let signing = reader.signing();
        let retry = reader.retry();
        let breakers = reader.breakers();
        let parking = reader.parking();
        let deadline = reader.seconds("DELIVERY_DEADLINE_S", 60..=604_800);
        let lifetimes = reader.lifetimes(deadline);
        reader.check_timing(sender.timeout, lifetimes);
        match signing {
            Some(signing) => reader.finish(DeliverConfig {
                stack,
                account,
                redis,
                queues,
                sender,
                signing,
                retry,
                breakers,
                parking,
                lifetimes,
            }),
            None => Err(ConfigError { faults: reader.faults }),
        }
    }

    /// Reads what `archive` needs.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn archive(&self) -> Result<ArchiveConfig, ConfigError> {
        let mut reader = Reader::new(self);
        let stack = reader.required("STACK_NAME").to_owned();
        let account = reader.account();
        let redis = reader.redis();
        let table = reader.required("DEAD_LETTER_TABLE").to_owned();
        let life = reader.seconds("TTL_DEAD_LETTER_S", 86_400..=31_536_000);
        let deadline = reader.seconds("DELIVERY_DEADLINE_S", 60..=604_800);
        let lifetimes = reader.lifetimes(deadline);
        reader.finish(ArchiveConfig { stack, account, redis, table, life, lifetimes })
    }

    /// Reads what `operate` needs.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn operate(&self) -> Result<OperateConfig, ConfigError> {
        let mut reader = Reader::new(self);
        let stack = reader.required("STACK_NAME").to_owned();
        let account = reader.account();
        let redis = reader.redis();
        let queues = reader.queues();
        let table = reader.required("DEAD_LETTER_TABLE").to_owned();
        let life = reader.seconds("TTL_DEAD_LETTER_S", 86_400..=31_536_000);
        let deadline = reader.seconds("DELIVERY_DEADLINE_S", 60..=604_800);
        let lifetimes = reader.lifetimes(deadline);
        reader.finish(OperateConfig { stack, account, redis, queues, table, life, deadline, lifetimes })
    }

    /// Reads what `cleanup` needs.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn cleanup(&self) -> Result<CleanupConfig, ConfigError> {
        let mut reader = Reader::new(self);
        let stack = reader.required("STACK_NAME").to_owned();
        let redis = reader.redis();
        let deadline = reader.seconds("DELIVERY_DEADLINE_S", 60..=604_800);
        let lifetimes = reader.lifetimes(deadline);
        reader.finish(CleanupConfig { stack, redis, lifetimes })
    }

    /// Reads what `health` needs.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn health(&self) -> Result<HealthConfig, ConfigError> {
        let mut reader = Reader::new(self);
        let stack = reader.required("STACK_NAME").to_owned();
        let account = reader.account();
        let redis = reader.redis();
        let queues = reader.queues();
        let table = reader.required("DEAD_LETTER_TABLE").to_owned();
        reader.finish(HealthConfig { stack, account, redis, queues, table })
    }
}

impl Environment {
    /// Reads what the `metrics` function needs.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn metrics(&self) -> Result<MetricsConfig, ConfigError> {
        let mut reader = Reader::new(self);
        let config = reader.metrics();
        reader.finish(config)
    }

    /// Reads what the sidecar needs. It shows the queues if it is told where they are.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn sidecar(&self) -> Result<SidecarConfig, ConfigError> {
        let mut reader = Reader::new(self);
        let metrics = reader.metrics();
        let listen = reader.optional("LISTEN_ADDRESS").unwrap_or("0.0.0.0:8000").parse();
        if listen.is_err() {
            reader.fault("LISTEN_ADDRESS", "must be an address and a port such as 0.0.0.0:8000");
        }
        let listen = listen.unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 0)));
        reader.finish(SidecarConfig { metrics, listen })
    }
}

/// One destination's exception from the general breaker policy.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Override {
    failure_threshold: Option<u32>,
    reset_timeout_s: Option<u64>,
}

impl Override {
    fn policy(&self, general: breaker::Policy) -> Option<breaker::Policy> {
        let failure_threshold = self.failure_threshold.unwrap_or(general.failure_threshold);
        let reset_ms = self.reset_timeout_s.map_or(Some(general.reset_ms), |s| s.checked_mul(1000))?;
        let possible = (1..=1000).contains(&failure_threshold) && (1..=43_200_000).contains(&reset_ms);
        let reset_max_ms = general.reset_max_ms.max(reset_ms);
        possible.then_some(breaker::Policy { failure_threshold, reset_ms, reset_max_ms })
    }
}

/// Takes settings one by one and gathers what is wrong with them. After a fault
/// it goes on with a placeholder that never leaves it.
struct Reader<'a> {
    environment: &'a Environment,
    faults: Vec<(String, String)>,
}

impl<'a> Reader<'a> {
    fn new(environment: &'a Environment) -> Self {
        Self { environment, faults: Vec::new() }
    }

    fn finish<T>(self, config: T) -> Result<T, ConfigError> {
        if self.faults.is_empty() { Ok(config) } else { Err(ConfigError { faults: self.faults }) }
    }

    fn fault(&mut self, name: &str, why: impl Into<String>) {
        self.faults.push((name.to_owned(), why.into()));
    }

    /// A variable's value; empty counts as absent, since templates cannot leave one out.
    fn optional(&self, name: &str) -> Option<&'a str> {
        self.environment.0.get(name).map(String::as_str).filter(|value| !value.trim().is_empty())
    }

    fn required(&mut self, name: &str) -> &'a str {
        let value = self.optional(name);
        if value.is_none() {
            self.fault(name, "is missing");
        }
        value.unwrap_or_default()
    }

    fn number(&mut self, name: &str, range: RangeInclusive<u64>) -> u64 {
        let Some(value) = self.optional(name) else {
            self.fault(name, "is missing");
            return *range.start();
        };
        match value.trim().parse() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                self.fault(name, format!("must be a whole number from {} to {}", range.start(), range.end()));
                *range.start()
            }
        }
    }

    fn seconds(&mut self, name: &str, range: RangeInclusive<u64>) -> Duration {
        Duration::from_secs(self.number(name, range))
    }

    fn flag(&mut self, name: &str) -> bool {
        match self.required(name) {
            "true" => true,
            "false" | "" => false,
            _ => {
                self.fault(name, "must be true or false");
                false
            }
        }
    }

    fn account(&mut self) -> Account {
        let session = self.optional("AWS_SESSION_TOKEN").map(str::to_owned);
        Account {
            region: self.required("AWS_REGION").to_owned(),
            credentials: Credentials::new(
                self.required("AWS_ACCESS_KEY_ID"),
                self.required("AWS_SECRET_ACCESS_KEY"),
                session,
                None,
                "environment",
            ),
            endpoint: self.optional("AWS_ENDPOINT_URL").map(str::to_owned),
        }
    }

    fn redis(&mut self) -> RedisConfig {
        let config = RedisConfig {
            url: self.required("REDIS_URL").to_owned(),
            cluster: self.flag("REDIS_CLUSTER"),
            ca_pem: self.optional("REDIS_CA_PEM").map(str::to_owned),
            secret: self.stored("REDIS_SECRET_ARN"),
        };
        if !config.url.is_empty() && Redis::open(&config, crate::clock::Clock::system()).is_err() {
            self.fault("REDIS_URL", "must be a redis:// or rediss:// URL, and REDIS_CA_PEM certificates in PEM");
        }
        config
    }

    fn queues(&mut self) -> QueueUrls {
        QueueUrls {
            delivery: self.required("DELIVERY_QUEUE_URL").to_owned(),
            retry: self.required("RETRY_QUEUE_URL").to_owned(),
            dead_letter: self.required("DEAD_LETTER_QUEUE_URL").to_owned(),
        }
    }

    fn metrics(&mut self) -> MetricsConfig {
        let stack = self.required("STACK_NAME").to_owned();
        let redis = self.redis();
        let deadline = self.seconds("DELIVERY_DEADLINE_S", 60..=604_800);
        let lifetimes = self.lifetimes(deadline);
        let wanted = self.optional("DELIVERY_QUEUE_URL").is_some();
        let queues = wanted.then(|| (self.account(), self.queues()));
        MetricsConfig { stack, redis, lifetimes, queues }
    }

    fn max_payload_bytes(&mut self) -> usize {
        usize::try_from(self.number("MAX_PAYLOAD_BYTES", 1..=LARGEST_PAYLOAD)).unwrap_or_default()
    }

    fn guard(&mut self) -> Guard {
        let allowed = self.ranges("ALLOWED_PRIVATE_CIDRS");
        let refused = self.ranges("REFUSED_CIDRS");
        Guard::allowing(allowed).refusing(refused)
    }

    fn ranges(&mut self, name: &str) -> Vec<IpNet> {
        let mut ranges = Vec::new();
        let given = self.optional(name).unwrap_or_default().split(',').map(str::trim);
        for range in given.filter(|range| !range.is_empty()) {
            match range.parse::<IpNet>() {
                Ok(range) => ranges.push(range),
                Err(_) => self.fault(name, "must be CIDR ranges, separated by commas"),
            }
        }
        ranges
    }

    fn lifetimes(&mut self, deadline: Duration) -> Lifetimes {
        let delivered = self.seconds("TTL_DELIVERED_S", 60..=604_800);
        let unfinished = self.seconds("TTL_UNFINISHED_S", 3600..=2_592_000);
        if unfinished < deadline {
            self.fault("TTL_UNFINISHED_S", "must not be shorter than DELIVERY_DEADLINE_S");
        }
        Lifetimes { delivered_ms: domain::time::whole_ms(delivered), unfinished_ms: domain::time::whole_ms(unfinished) }
    }

    fn sender(&mut self) -> SenderConfig {
        let timeout = Duration::from_millis(self.number("DELIVERY_TIMEOUT_MS", 100..=300_000));
        let connect_timeout = Duration::from_millis(self.number("CONNECT_TIMEOUT_MS", 50..=60_000));
        if connect_timeout > timeout {
            self.fault("CONNECT_TIMEOUT_MS", "must not be longer than DELIVERY_TIMEOUT_MS");
        }
        let extra_roots_pem = self.optional("RECEIVER_CA_PEM").map(str::to_owned);
        if extra_roots_pem.as_ref().is_some_and(|pem| certificates(pem).is_none()) {
            self.fault("RECEIVER_CA_PEM", "must be certificates in PEM");
        }
        SenderConfig { timeout, connect_timeout, guard: self.guard(), extra_roots_pem }
    }

    /// A secret that is kept elsewhere, if its ARN is given.
    fn stored(&mut self, name: &str) -> Option<Stored> {
        let arn = self.optional(name)?.trim().to_owned();
        if !arn.starts_with("arn:") {
            self.fault(name, "must be the ARN of a secret");
        }
        Some(Stored::new(&self.account(), arn))
    }

    fn signing(&mut self) -> Option<Signing> {
        let stored = self.stored("SIGNING_SECRETS_ARN");
        match (stored, self.optional("SIGNING_SECRETS")) {
            (Some(_), Some(_)) => {
                self.fault("SIGNING_SECRETS", "must not stand beside SIGNING_SECRETS_ARN");
                None
            }
            (Some(stored), None) => Some(Signing::Stored(stored)),
            (None, _) => self.signer().map(Signing::Given),
        }
    }

    fn signer(&mut self) -> Option<Signer> {
        match Signer::parse(self.optional("SIGNING_SECRETS").unwrap_or_default()) {
            Ok(signer) => Some(signer),
            Err(error) => {
                self.fault("SIGNING_SECRETS", error.to_string());
                None
            }
        }
    }

    fn retry(&mut self) -> Policy {
        let max_retries = u8::try_from(self.number("MAX_RETRIES", 0..=3)).unwrap_or_default();
        let factor = u32::try_from(self.number("RETRY_FACTOR", 1..=100)).unwrap_or(1);
        let policy = Policy {
            max_retries,
            base: self.seconds("RETRY_BASE_S", 1..=900),
            base_throttled: self.seconds("RETRY_BASE_THROTTLED_S", 1..=900),
            factor: f64::from(factor),
            cap: self.seconds("RETRY_CAP_S", 1..=3600),
        };
        for (name, base) in [("RETRY_BASE_S", policy.base), ("RETRY_BASE_THROTTLED_S", policy.base_throttled)] {
            if base > policy.cap {
                self.fault(name, "must not be longer than RETRY_CAP_S");
            }
        }
        policy
    }

    fn breakers(&mut self) -> Policies {
        let threshold = self.number("BREAKER_FAILURE_THRESHOLD", 1..=1000);
        let general = breaker::Policy {
            failure_threshold: u32::try_from(threshold).unwrap_or(1),
            reset_ms: self.number("BREAKER_RESET_TIMEOUT_S", 1..=3600) * 1000,
            reset_max_ms: self.number("BREAKER_RESET_MAX_S", 1..=43_200) * 1000,
        };
        if general.reset_ms > general.reset_max_ms {
            self.fault("BREAKER_RESET_TIMEOUT_S", "must not be longer than BREAKER_RESET_MAX_S");
        }
        let mut overrides = BTreeMap::new();
        let given = self.optional("BREAKER_OVERRIDES").unwrap_or("{}");
        match serde_json::from_str::<BTreeMap<String, Override>>(given) {
            Ok(exceptions) => {
                for (destination, exception) in exceptions {
                    match (Url::parse(&destination), exception.policy(general)) {
                        (Ok(url), Some(policy)) if url.has_host() => {
                            overrides.insert(Destination::of(&url).as_str().to_owned(), policy);
                        }
                        _ => self.fault("BREAKER_OVERRIDES", "names no origin, or a number out of range"),
                    }
                }
            }
            Err(_) => self.fault(
                "BREAKER_OVERRIDES",
                "must be JSON: {\"https://host\": {\"failure_threshold\": n, \"reset_timeout_s\": n}}",
            ),
        }
        Policies { general, overrides }
    }

    fn parking(&mut self) -> Parking {
        let parking = Parking { base: self.seconds("PARK_BASE_S", 1..=900), cap: self.seconds("PARK_CAP_S", 2..=3600) };
        if parking.base > parking.cap {
            self.fault("PARK_BASE_S", "must not be longer than PARK_CAP_S");
        }
        parking
    }

    /// A message must not come back while its attempt may still be running, and
    /// an attempt must fit into the function that makes it.
    fn check_timing(&mut self, attempt: Duration, lifetimes: Lifetimes) {
        let function = self.seconds("DELIVER_TIMEOUT_S", 2..=900);
        let visibility = self.seconds("QUEUE_VISIBILITY_S", 2..=43_200);
        if visibility < function * 6 {
            self.fault("QUEUE_VISIBILITY_S", "must be at least 6 times DELIVER_TIMEOUT_S");
        }
        // Not refused: a duplicate that comes back later than its record lives is
        // rare, carries the same webhook-id, and some want their records gone soon.
        if u128::from(lifetimes.delivered_ms) < (visibility * 2).as_millis() {
            tracing::warn!("TTL_DELIVERED_S is less than twice QUEUE_VISIBILITY_S: late duplicates are delivered");
        }
        if INTAKE + attempt + BOOKKEEPING > function {
            self.fault("DELIVERY_TIMEOUT_MS", "must leave 13 s of DELIVER_TIMEOUT_S");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> BTreeMap<&'static str, &'static str> {
        BTreeMap::from([
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "hush"),
            ("REDIS_URL", "redis://:hush@localhost:6379"),
            ("REDIS_CLUSTER", "false"),
            ("DELIVERY_QUEUE_URL", "q1"),
            ("RETRY_QUEUE_URL", "q2"),
            ("DEAD_LETTER_QUEUE_URL", "q3"),
            ("SIGNING_SECRETS", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
            ("ALLOWED_PRIVATE_CIDRS", "127.0.0.0/8, ::1/128"),
            ("MAX_RETRIES", "3"),
            ("RETRY_BASE_S", "10"),
            ("RETRY_BASE_THROTTLED_S", "30"),
            ("RETRY_FACTOR", "4"),
            ("RETRY_CAP_S", "900"),
            ("DELIVERY_TIMEOUT_MS", "15000"),
            ("BREAKER_FAILURE_THRESHOLD", "5"),
            ("BREAKER_RESET_TIMEOUT_S", "60"),
            ("BREAKER_RESET_MAX_S", "900"),
            ("PARK_BASE_S", "30"),
            ("PARK_CAP_S", "300"),
            ("CONNECT_TIMEOUT_MS", "3000"),
            ("DELIVERY_DEADLINE_S", "86400"),
            ("MAX_PAYLOAD_BYTES", "262144"),
            ("TTL_DELIVERED_S", "1800"),
            ("TTL_UNFINISHED_S", "604800"),
            ("DELIVER_TIMEOUT_S", "60"),
            ("QUEUE_VISIBILITY_S", "360"),
            ("TTL_DEAD_LETTER_S", "2592000"),
            ("DEAD_LETTER_TABLE", "letters"),
            ("STACK_NAME", "steadhook"),
        ])
    }

    fn faults_with(changes: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut pairs = good();
        pairs.extend(changes.iter().copied());
        let environment = Environment::of(pairs);
        let mut names: Vec<String> = [environment.deliver().err(), environment.enqueue().err()]
            .into_iter()
            .flatten()
            .flat_map(|error| error.faults.into_iter().map(|(name, _)| name))
            .collect();
        names.sort();
        names.dedup();
        names
    }

    #[test]
    fn what_the_template_sets_is_accepted() {
        assert_eq!(faults_with(&[]), [""; 0]);
        let environment = Environment::of(good());
        assert!(environment.archive().is_ok() && environment.operate().is_ok() && environment.cleanup().is_ok());
        assert!(environment.health().is_ok() && environment.metrics().is_ok() && environment.sidecar().is_ok());
    }

    #[test]
    fn an_empty_environment_names_everything_that_is_missing() {
        let error = Environment::of::<String, String>([]).deliver().unwrap_err();
        let named = good().into_keys().filter(|name| {
            !matches!(*name, "ALLOWED_PRIVATE_CIDRS" | "MAX_PAYLOAD_BYTES" | "TTL_DEAD_LETTER_S" | "DEAD_LETTER_TABLE")
        });
        for name in named {
            assert!(error.faults.iter().any(|(fault, _)| fault == name), "{name}");
        }
    }

    #[test]
    fn each_setting_has_bounds() {
        for (name, value) in [
            ("REDIS_URL", "http://localhost"),
            ("REDIS_CLUSTER", "yes"),
            ("MAX_RETRIES", "4"),
            ("MAX_RETRIES", "-1"),
            ("RETRY_BASE_S", "0"),
            ("RETRY_FACTOR", "x"),
            ("MAX_PAYLOAD_BYTES", "307201"),
            ("ALLOWED_PRIVATE_CIDRS", "127.0.0.1"),
            ("REFUSED_CIDRS", "vpc"),
            ("BREAKER_OVERRIDES", "[]"),
            ("BREAKER_OVERRIDES", "{\"x\": {}}"),
            ("BREAKER_OVERRIDES", "{\"https://a.example\": {\"failure_threshold\": 0}}"),
            ("BREAKER_OVERRIDES", "{\"https://a.example\": {\"treshold\": 9}}"),
            ("RECEIVER_CA_PEM", "no certificate"),
            ("SIGNING_SECRETS", "hush"),
            ("DELIVERY_QUEUE_URL", " "),
        ] {
            assert_eq!(faults_with(&[(name, value)]), [name], "{value}");
        }
    }

    #[test]
    fn unsafe_combinations_are_refused() {
        assert_eq!(faults_with(&[("QUEUE_VISIBILITY_S", "359")]), ["QUEUE_VISIBILITY_S"]);
        assert_eq!(faults_with(&[("DELIVERY_TIMEOUT_MS", "47001")]), ["DELIVERY_TIMEOUT_MS"]);
        assert_eq!(faults_with(&[("CONNECT_TIMEOUT_MS", "15001")]), ["CONNECT_TIMEOUT_MS"]);
        assert_eq!(faults_with(&[("TTL_UNFINISHED_S", "86399")]), ["TTL_UNFINISHED_S"]);
        assert_eq!(
            faults_with(&[("RETRY_BASE_S", "30"), ("RETRY_CAP_S", "29")]),
            ["RETRY_BASE_S", "RETRY_BASE_THROTTLED_S"]
        );
    }

    #[test]
    fn a_destination_may_have_a_breaker_policy_of_its_own() {
        let mut pairs = good();
        pairs.insert("BREAKER_OVERRIDES", r#"{"HTTPS://Flaky.example:443/x": {"failure_threshold": 50}}"#);
        let policies = Environment::of(pairs).deliver().unwrap().breakers;
        assert_eq!(policies.of("https://flaky.example").failure_threshold, 50);
        assert_eq!(policies.of("https://flaky.example").reset_ms, 60_000);
        assert_eq!(policies.of("https://other.example"), policies.general);
    }

    #[test]
    fn no_value_is_ever_shown() {
        let environment = Environment::of(
            good()
                .into_keys()
                .map(|name| (name, "hush"))
                .chain([("REDIS_URL", "redis://:hush@h"), ("REDIS_CLUSTER", "hush")]),
        );
        assert!(!environment.deliver().unwrap_err().to_string().contains("hush"));
        let config = Environment::of(good()).deliver().unwrap();
        assert!(!format!("{config:?}").contains("hush"));
    }
}
