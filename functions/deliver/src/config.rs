//! The settings of `deliver`, and which of them are unsafe together.

use std::time::Duration;

use adapters::aws::account::Account;
use adapters::aws::master_keys::MasterKeySource;
use adapters::aws::secrets::{SigningSource, StoredSecret};
use adapters::aws::sqs::QueueUrls;
use adapters::config::reader::{Faulted, Reader};
use adapters::config::{self, HistoryConfig, Lives};
use adapters::http::receiver_client::ReceiverClientConfig;
use domain::breaker::BreakerPolicies;
use domain::parking::Parking;
use domain::retry::RetryPolicy;

/// What an attempt leaves to the function after it: time to queue and to record. It
/// holds twice the time that a call of SQS may take, a Redis that is away, and three times the
/// patience with history.
pub(crate) const BOOKKEEPING: Duration = Duration::from_secs(10);
/// What an invocation may need before its attempts: Redis may not answer at once.
const BEFORE_ATTEMPTS: Duration = Duration::from_secs(3);

/// The longest time between two attempts at an endpoint: a wait of its schedule, and some
/// for a queue that is late.
const LONGEST_PAUSE: Duration = Duration::from_secs(25 * 3600);

/// What `deliver` needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where AWS is.
    pub account: Account,
    /// Where the queues are.
    pub queues: QueueUrls,
    /// How receivers are called.
    pub receiver_client: ReceiverClientConfig,
    /// Where more certificate authorities are kept to trust for receivers.
    pub receiver_ca: Option<StoredSecret>,
    /// What webhooks are signed with.
    pub signing: SigningSource,
    /// The name of the table of endpoints.
    pub registry_table: String,
    /// What the secrets of endpoints are sealed with.
    pub master_keys: MasterKeySource,
    /// Where the history is kept, and for how long.
    pub history: HistoryConfig,
    /// How long an endpoint that is paused or disabled is owed a delivery.
    pub owed_life: Duration,
    /// After how long an endpoint is disabled that only fails.
    pub disable_after: Duration,
    /// How retries are spaced.
    pub retry: RetryPolicy,
    /// When circuit breakers open.
    pub breakers: BreakerPolicies,
    /// How refused deliveries wait.
    pub parking: Parking,
    /// How long deliveries and their records live.
    pub lives: Lives,
}

/// Reads the settings, and refuses those that are unsafe together.
///
/// # Errors
/// When there is nothing to sign with or to open secrets with; the reader has the fault.
pub fn read(reader: &mut Reader<'_>) -> Result<Config, Faulted> {
    let account = config::account(reader);
    let queues = config::queues(reader);
    let receiver_client = config::receiver_client(reader);
    let receiver_ca = config::receiver_ca(reader);
    let signing = config::signing(reader);
    let registry_table = config::registry_table(reader);
    let master_keys = config::master_keys(reader);
    let history = config::history(reader);
    let owed_life = config::owed_life(reader);
    let disable_after = config::disable_after(reader);
    let retry = config::retry(reader);
    let breakers = config::breakers(reader);
    let parking = config::parking(reader);
    let lives = config::lives(reader);
    check_timing(reader, receiver_client.timeout, lives);
    let (signing, master_keys) = (signing?, master_keys?);
    Ok(Config {
        account,
        queues,
        receiver_client,
        receiver_ca,
        signing,
        registry_table,
        master_keys,
        history,
        owed_life,
        disable_after,
        retry,
        breakers,
        parking,
        lives,
    })
}

/// A message must not come back while its attempt may still be running, and an attempt
/// must fit into the function that makes it.
fn check_timing(reader: &mut Reader<'_>, attempt: Duration, lives: Lives) {
    let function = reader.seconds("DELIVER_TIMEOUT_S", 2..=900);
    let visibility = reader.seconds("QUEUE_VISIBILITY_S", 2..=43_200);
    // A message is received before the window in which its batch fills.
    let window = reader.seconds("BATCH_WINDOW_S", 0..=1);
    if visibility < function * 6 + window {
        reader.fault("QUEUE_VISIBILITY_S", "must be at least 6 times DELIVER_TIMEOUT_S plus BATCH_WINDOW_S");
    }
    // Not refused: a duplicate that comes back later than its record lives is rare,
    // carries the same webhook-id, and some want their records gone soon.
    if u128::from(lives.records.delivered_ms) < (visibility * 2).as_millis() {
        tracing::warn!("TTL_DELIVERED_S is less than twice QUEUE_VISIBILITY_S: late duplicates are delivered");
    }
    // A delivery to an endpoint may wait so long for its next attempt.
    if u128::from(lives.records.unfinished_ms) < LONGEST_PAUSE.as_millis() {
        tracing::warn!("TTL_UNFINISHED_S is less than 25 hours: records of endpoints' deliveries end while they wait");
    }
    let reserved = BEFORE_ATTEMPTS + BOOKKEEPING;
    if reserved + attempt > function {
        let why = format!("must leave {} s of DELIVER_TIMEOUT_S", reserved.as_secs());
        reader.fault("DELIVERY_TIMEOUT_MS", why);
    }
}
