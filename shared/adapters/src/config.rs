//! Settings in groups. Each group is read by one function here, and each function of the
//! stack composes its own configuration of groups. Defaults live in `template.yaml`: a
//! setting that is missing is a fault, never a guess.

pub mod reader;

use std::collections::BTreeMap;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use domain::address::Guard;
use domain::breaker::{BreakerPolicies, BreakerPolicy, breaker_name};
use domain::parking::Parking;
use domain::retry::RetryPolicy;
use domain::seal::MasterKeys;
use domain::signature::Signer;
use domain::status::Lifetimes;
use domain::time::whole_ms;
use ipnet::IpNet;
use serde::Deserialize;
use url::Url;

use crate::aws::account::Account;
use crate::aws::master_keys::MasterKeySource;
use crate::aws::secrets::{SigningSource, StoredSecret};
use crate::aws::sqs::QueueUrls;
use crate::clock::Clock;
use crate::config::reader::{Faulted, Reader};
use crate::http::receiver_client::ReceiverClientConfig;
use crate::redis::indexes::{Indexes, MOST_SHARDS};
use crate::redis::transport::RedisConfig;
use crate::tls::certificates;

/// A payload above this would not fit a dead letter (DynamoDB items have 400 KB).
const LARGEST_PAYLOAD: u64 = 307_200;

/// How long deliveries and their records live.
#[derive(Clone, Copy, Debug)]
pub struct Lives {
    /// The deadline of a delivery whose client gave none.
    pub deadline: Duration,
    /// Records in Redis.
    pub records: Lifetimes,
    /// The indexes of those records.
    pub indexes: Indexes,
}

/// Where the history is kept, and for how long.
#[derive(Clone, Debug)]
pub struct HistoryConfig {
    /// The name of the table.
    pub table: String,
    /// How long rows of events and deliveries are kept. None are written without it.
    pub life: Option<Duration>,
}

/// The stack's name.
pub fn stack(reader: &mut Reader<'_>) -> String {
    reader.required("STACK_NAME").to_owned()
}

/// Where AWS is, and who is calling: the role of the function, whose credentials Lambda
/// puts into the environment.
pub fn account(reader: &mut Reader<'_>) -> Account {
    let session = reader.optional("AWS_SESSION_TOKEN").map(str::to_owned);
    let (id, secret) = (reader.required("AWS_ACCESS_KEY_ID"), reader.required("AWS_SECRET_ACCESS_KEY"));
    account_of(reader, SharedCredentialsProvider::new(Credentials::new(id, secret, session, None, "environment")))
}

/// Where AWS is, for a process that gets its credentials elsewhere.
pub fn account_of(reader: &mut Reader<'_>, credentials: SharedCredentialsProvider) -> Account {
    Account {
        region: reader.required("AWS_REGION").to_owned(),
        credentials,
        endpoint: reader.optional("AWS_ENDPOINT_URL").map(str::to_owned),
        dynamodb_endpoint: reader.optional("AWS_ENDPOINT_URL_DYNAMODB").map(str::to_owned),
        clock: Clock::system(),
    }
}

/// Where Redis is.
pub fn redis(reader: &mut Reader<'_>) -> RedisConfig {
    redis_as(reader, account)
}

/// Where Redis is. `account` says who reads its password.
pub fn redis_as(reader: &mut Reader<'_>, account: impl FnOnce(&mut Reader<'_>) -> Account) -> RedisConfig {
    let config = RedisConfig {
        url: reader.required("REDIS_URL").to_owned(),
        cluster: reader.flag("REDIS_CLUSTER"),
        ca_pem: reader.optional("REDIS_CA_PEM").map(str::to_owned),
        secret: stored_secret(reader, "REDIS_SECRET_ARN", account),
    };
    if !config.url.is_empty() && !config.is_usable() {
        reader.fault("REDIS_URL", "must be a redis:// or rediss:// URL, and REDIS_CA_PEM certificates in PEM");
    }
    config
}

/// Where the queues are.
pub fn queues(reader: &mut Reader<'_>) -> QueueUrls {
    QueueUrls {
        delivery: reader.required("DELIVERY_QUEUE_URL").to_owned(),
        retry: reader.required("RETRY_QUEUE_URL").to_owned(),
        wait: reader.required("WAIT_QUEUE_URL").to_owned(),
        slow: reader.required("SLOW_QUEUE_URL").to_owned(),
        event: reader.required("EVENT_QUEUE_URL").to_owned(),
        dead_letter: reader.required("DEAD_LETTER_QUEUE_URL").to_owned(),
    }
}

/// Where the queues are, if they are told. `account` says who asks them.
pub fn optional_queues(
    reader: &mut Reader<'_>,
    account: impl FnOnce(&mut Reader<'_>) -> Account,
) -> Option<(Account, QueueUrls)> {
    reader.optional("DELIVERY_QUEUE_URL")?;
    Some((account(reader), queues(reader)))
}

/// The name of the table of dead letters.
pub fn dead_letter_table(reader: &mut Reader<'_>) -> String {
    reader.required("DEAD_LETTER_TABLE").to_owned()
}

/// How long a dead letter is kept.
pub fn dead_letter_life(reader: &mut Reader<'_>) -> Duration {
    reader.seconds("TTL_DEAD_LETTER_S", 86_400..=31_536_000)
}

/// The name of the table of history.
pub fn history_table(reader: &mut Reader<'_>) -> String {
    reader.required("HISTORY_TABLE").to_owned()
}

/// Where the history is kept, and for how long.
pub fn history(reader: &mut Reader<'_>) -> HistoryConfig {
    let table = history_table(reader);
    let days = reader.number("HISTORY_DAYS", 0..=30);
    HistoryConfig { table, life: (days > 0).then(|| Duration::from_secs(days * 86_400)) }
}

/// How long a delivery is owed to an endpoint that does not take it now.
pub fn owed_life(reader: &mut Reader<'_>) -> Duration {
    Duration::from_secs(reader.number("OWED_DAYS", 1..=90) * 86_400)
}

/// After how long an endpoint is disabled that only fails.
pub fn disable_after(reader: &mut Reader<'_>) -> Duration {
    Duration::from_secs(reader.number("DISABLE_AFTER_H", 1..=720) * 3600)
}

/// The EventBridge bus that is told of endpoints, if there is one.
pub fn notify_bus(reader: &mut Reader<'_>) -> Option<String> {
    reader.optional("NOTIFY_BUS").map(str::to_owned)
}

/// The name of the registry's table.
pub fn registry_table(reader: &mut Reader<'_>) -> String {
    reader.required("REGISTRY_TABLE").to_owned()
}

/// What the registry's secrets are sealed with.
///
/// # Errors
/// When there is nothing to seal with; the reader has the fault.
pub fn master_keys(reader: &mut Reader<'_>) -> Result<MasterKeySource, Faulted> {
    let stored = stored_secret(reader, "MASTER_KEYS_SECRET_ARN", account);
    match (stored, reader.optional("MASTER_KEYS")) {
        (Some(_), Some(_)) => Err(reader.refuse("MASTER_KEYS", "must not stand beside MASTER_KEYS_SECRET_ARN")),
        (Some(stored), None) => Ok(MasterKeySource::Stored(stored)),
        (None, given) => match MasterKeys::parse(given.unwrap_or_default()) {
            Ok(keys) => Ok(MasterKeySource::Given(keys)),
            Err(error) => Err(reader.refuse("MASTER_KEYS", error.to_string())),
        },
    }
}

/// Which pages may show the console in a frame: `'none'`, or origins with spaces between them.
pub fn frame_ancestors(reader: &mut Reader<'_>) -> String {
    let text = reader.required("PORTAL_FRAME_ANCESTORS").trim();
    let is_origin = |text: &str| {
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let is_bare = |url: &Url| url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        url.is_some_and(|url| is_bare(&url) && url.username().is_empty() && !text.ends_with('/'))
    };
    if !text.is_empty() && text != "'none'" && text != "'self'" && !text.split(' ').all(is_origin) {
        reader.fault("PORTAL_FRAME_ANCESTORS", "must be 'none', 'self', or origins separated by single spaces");
    }
    text.to_owned()
}

/// Most endpoints of a tenant.
pub fn max_endpoints(reader: &mut Reader<'_>) -> u64 {
    reader.number("MAX_ENDPOINTS", 1..=10_000)
}

/// The longest payload, in bytes.
pub fn max_payload_bytes(reader: &mut Reader<'_>) -> usize {
    usize::try_from(reader.number("MAX_PAYLOAD_BYTES", 1..=LARGEST_PAYLOAD)).unwrap_or_default()
}

/// Which addresses may be called.
pub fn guard(reader: &mut Reader<'_>) -> Guard {
    let allowed = ranges(reader, "ALLOWED_PRIVATE_CIDRS");
    let refused = ranges(reader, "REFUSED_CIDRS");
    Guard::allowing(allowed).refusing(refused)
}

fn ranges(reader: &mut Reader<'_>, name: &str) -> Vec<IpNet> {
    let mut ranges = Vec::new();
    let given = reader.optional(name).unwrap_or_default().split(',').map(str::trim);
    for range in given.filter(|range| !range.is_empty()) {
        match range.parse::<IpNet>() {
            Ok(range) => ranges.push(range),
            Err(_) => reader.fault(name, "must be CIDR ranges, separated by commas"),
        }
    }
    ranges
}

/// How long deliveries and their records live.
pub fn lives(reader: &mut Reader<'_>) -> Lives {
    let deadline = reader.seconds("DELIVERY_DEADLINE_S", 60..=604_800);
    let delivered = reader.seconds("TTL_DELIVERED_S", 60..=604_800);
    let unfinished = reader.seconds("TTL_UNFINISHED_S", 3600..=2_592_000);
    let event = reader.seconds("TTL_EVENT_S", 3600..=2_592_000);
    if unfinished < deadline {
        reader.fault("TTL_UNFINISHED_S", "must not be shorter than DELIVERY_DEADLINE_S");
    }
    let records =
        Lifetimes { delivered_ms: whole_ms(delivered), unfinished_ms: whole_ms(unfinished), event_ms: whole_ms(event) };
    Lives { deadline, records, indexes: Indexes::new(index_shards(reader), records) }
}

/// Over how many keys of Redis each index is split; 1 where nobody says it, such as at a sidecar.
pub fn index_shards(reader: &mut Reader<'_>) -> u8 {
    if reader.optional("INDEX_SHARDS").is_none() {
        return 1;
    }
    u8::try_from(reader.number("INDEX_SHARDS", 1..=MOST_SHARDS.into())).unwrap_or(1)
}

/// How receivers are called.
pub fn receiver_client(reader: &mut Reader<'_>) -> ReceiverClientConfig {
    let timeout = reader.milliseconds("DELIVERY_TIMEOUT_MS", 100..=300_000);
    let connect_timeout = reader.milliseconds("CONNECT_TIMEOUT_MS", 50..=60_000);
    // Otherwise nobody could tell a host that takes no connections from one that does not answer.
    if connect_timeout >= timeout {
        reader.fault("CONNECT_TIMEOUT_MS", "must be shorter than DELIVERY_TIMEOUT_MS");
    }
    let extra_roots_pem = reader.optional("RECEIVER_CA_PEM").map(str::to_owned);
    if extra_roots_pem.as_ref().is_some_and(|pem| certificates(pem).is_none()) {
        reader.fault("RECEIVER_CA_PEM", "must be certificates in PEM");
    }
    ReceiverClientConfig { timeout, connect_timeout, guard: guard(reader), extra_roots_pem }
}

/// A secret that is kept elsewhere, if its ARN is given. `account` says who reads it.
fn stored_secret(
    reader: &mut Reader<'_>,
    name: &str,
    account: impl FnOnce(&mut Reader<'_>) -> Account,
) -> Option<StoredSecret> {
    let arn = reader.optional(name)?.trim().to_owned();
    if !arn.starts_with("arn:") {
        reader.fault(name, "must be the ARN of a secret");
    }
    Some(StoredSecret::new(account(reader), arn))
}

/// Where more certificate authorities are kept to trust for receivers, if anywhere.
pub fn receiver_ca(reader: &mut Reader<'_>) -> Option<StoredSecret> {
    let stored = stored_secret(reader, "RECEIVER_CA_SECRET_ARN", account)?;
    if reader.optional("RECEIVER_CA_PEM").is_some() {
        reader.fault("RECEIVER_CA_PEM", "must not stand beside RECEIVER_CA_SECRET_ARN");
    }
    Some(stored)
}

/// What webhooks are signed with.
///
/// # Errors
/// When there is nothing to sign with; the reader has the fault.
pub fn signing(reader: &mut Reader<'_>) -> Result<SigningSource, Faulted> {
    let stored = stored_secret(reader, "SIGNING_SECRETS_ARN", account);
    match (stored, reader.optional("SIGNING_SECRETS")) {
        (Some(_), Some(_)) => Err(reader.refuse("SIGNING_SECRETS", "must not stand beside SIGNING_SECRETS_ARN")),
        (Some(stored), None) => Ok(SigningSource::Stored(stored)),
        (None, given) => match Signer::parse(given.unwrap_or_default()) {
            Ok(signer) => Ok(SigningSource::Given(signer)),
            Err(error) => Err(reader.refuse("SIGNING_SECRETS", error.to_string())),
        },
    }
}

/// How retries are spaced.
pub fn retry(reader: &mut Reader<'_>) -> RetryPolicy {
    let max_retries = u8::try_from(reader.number("MAX_RETRIES", 0..=3)).unwrap_or_default();
    let factor = u32::try_from(reader.number("RETRY_FACTOR", 1..=100)).unwrap_or(1);
    let policy = RetryPolicy {
        max_retries,
        base: reader.seconds("RETRY_BASE_S", 1..=900),
        base_throttled: reader.seconds("RETRY_BASE_THROTTLED_S", 1..=900),
        factor: f64::from(factor),
        cap: reader.seconds("RETRY_CAP_S", 1..=3600),
    };
    for (name, base) in [("RETRY_BASE_S", policy.base), ("RETRY_BASE_THROTTLED_S", policy.base_throttled)] {
        if base > policy.cap {
            reader.fault(name, "must not be longer than RETRY_CAP_S");
        }
    }
    policy
}

/// When circuit breakers open.
pub fn breakers(reader: &mut Reader<'_>) -> BreakerPolicies {
    let threshold = reader.number("BREAKER_FAILURE_THRESHOLD", 1..=1000);
    let general = BreakerPolicy {
        failure_threshold: u32::try_from(threshold).unwrap_or(1),
        reset_ms: reader.number("BREAKER_RESET_TIMEOUT_S", 1..=3600) * 1000,
        reset_max_ms: reader.number("BREAKER_RESET_MAX_S", 1..=43_200) * 1000,
    };
    if general.reset_ms > general.reset_max_ms {
        reader.fault("BREAKER_RESET_TIMEOUT_S", "must not be longer than BREAKER_RESET_MAX_S");
    }
    let mut overrides = BTreeMap::new();
    let given = reader.optional("BREAKER_OVERRIDES").unwrap_or("{}");
    match serde_json::from_str::<BTreeMap<String, Override>>(given) {
        Ok(exceptions) => {
            for (destination, exception) in exceptions {
                match (Url::parse(&destination), exception.policy(general)) {
                    (Ok(url), Some(policy)) if url.has_host() => {
                        overrides.insert(breaker_name(&url), policy);
                    }
                    _ => reader.fault("BREAKER_OVERRIDES", "names no URL, or a number out of range"),
                }
            }
        }
        Err(_) => reader.fault(
            "BREAKER_OVERRIDES",
            "must be JSON: {\"https://host/path\": {\"failure_threshold\": n, \"reset_timeout_s\": n}}",
        ),
    }
    BreakerPolicies { general, overrides }
}

/// One destination's exception from the general breaker policy.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Override {
    failure_threshold: Option<u32>,
    reset_timeout_s: Option<u64>,
}

impl Override {
    fn policy(&self, general: BreakerPolicy) -> Option<BreakerPolicy> {
        let failure_threshold = self.failure_threshold.unwrap_or(general.failure_threshold);
        let reset_ms = self.reset_timeout_s.map_or(Some(general.reset_ms), |s| s.checked_mul(1000))?;
        let possible = (1..=1000).contains(&failure_threshold) && (1..=43_200_000).contains(&reset_ms);
        let reset_max_ms = general.reset_max_ms.max(reset_ms);
        possible.then_some(BreakerPolicy { failure_threshold, reset_ms, reset_max_ms })
    }
}

/// How refused deliveries wait.
pub fn parking(reader: &mut Reader<'_>) -> Parking {
    let parking = Parking { base: reader.seconds("PARK_BASE_S", 1..=900), cap: reader.seconds("PARK_CAP_S", 2..=3600) };
    if parking.base > parking.cap {
        reader.fault("PARK_BASE_S", "must not be longer than PARK_CAP_S");
    }
    parking
}
