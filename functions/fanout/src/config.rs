//! The settings of `fanout`.

use std::time::Duration;

use adapters::aws::account::Account;
use adapters::aws::sqs::QueueUrls;
use adapters::config::reader::{Faulted, Reader};
use adapters::config::{self, HistoryConfig, Lives};
use domain::ingest::IngestRules;
use domain::names::is_tenant;

/// What ends a page. Its continuation goes on.
#[derive(Clone, Copy, Debug)]
pub struct PageLimits {
    /// Most cards that are looked at.
    pub cards: usize,
    /// Most bytes of messages that are queued.
    pub bytes: usize,
    /// The longest time.
    pub time: Duration,
}

impl Default for PageLimits {
    fn default() -> Self {
        Self { cards: 1000, bytes: 8_000_000, time: Duration::from_secs(20) }
    }
}

/// What `fanout` needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where AWS is.
    pub account: Account,
    /// Where the queues are.
    pub queues: QueueUrls,
    /// The name of the table of endpoints.
    pub registry_table: String,
    /// The name of the table of dead letters.
    pub dead_letter_table: String,
    /// How long a dead letter is kept.
    pub dead_letter_life: Duration,
    /// Where the history is kept, and for how long.
    pub history: HistoryConfig,
    /// How long deliveries are owed to endpoints that do not take them now.
    pub owed_life: Duration,
    /// After how long an endpoint is disabled that only fails.
    pub disable_after: Duration,
    /// The EventBridge bus that is told of endpoints, if there is one.
    pub notify_bus: Option<String>,
    /// How long deliveries and records live.
    pub lives: Lives,
    /// What ends a page.
    pub pages: PageLimits,
    /// What events of other systems are judged by.
    pub ingest: IngestRules,
    /// The ARN of the queue that they come through.
    pub ingest_queue: String,
}

/// Reads the settings.
///
/// # Errors
/// Never: the reader has the faults.
pub fn read(reader: &mut Reader<'_>) -> Result<Config, Faulted> {
    let tenant = reader.required("INGEST_TENANT").to_owned();
    if !is_tenant(&tenant) {
        reader.fault(
            "INGEST_TENANT",
            "must be 1 to 64 of A-Z, a-z, 0-9, underscore and hyphen, first a letter or a digit",
        );
    }
    let trusts_tenant = reader.flag("INGEST_TRUSTS_TENANT");
    let ingest = IngestRules { tenant, trusts_tenant, max_payload_bytes: config::max_payload_bytes(reader) };
    Ok(Config {
        account: config::account(reader),
        queues: config::queues(reader),
        registry_table: config::registry_table(reader),
        dead_letter_table: config::dead_letter_table(reader),
        dead_letter_life: config::dead_letter_life(reader),
        history: config::history(reader),
        owed_life: config::owed_life(reader),
        disable_after: config::disable_after(reader),
        notify_bus: config::notify_bus(reader),
        lives: config::lives(reader),
        pages: PageLimits::default(),
        ingest,
        ingest_queue: reader.required("INGEST_QUEUE_ARN").to_owned(),
    })
}
