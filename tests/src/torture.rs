//! The torture: many clients, tenants and receivers use a deployed stack while a saboteur
//! injects faults. At the end auditors compare six books: what clients were told, what
//! receivers got, the statuses, the dead letters, the history and the registry.

mod auditor;
mod caller;
mod caretaker;
mod clients;
mod deliveries;
mod excuses;
mod hands;
mod keys;
mod listings;
mod receivers;
mod saboteur;
mod stores;
mod tenants;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use adapters::aws::sqs::{Depths as _, QueueName, QueueUrls, Sqs};
use strum::IntoEnumIterator as _;

use crate::dynamodb_proxy::DynamoDbProxy;
use crate::proxy::Proxy;
use crate::redis_server::RedisServer;
use crate::stack::{LITTLE_TIME, OwnStack, Stack};
use crate::tls::Authority;
use crate::torture::receivers::{Got, Temper};
use crate::torture::saboteur::Fault;
use crate::torture::tenants::{Endpoint, ToldEvent};

/// Short waits.
const SOON: [&str; 7] = [
    "RetryBaseS=1",
    "RetryBaseThrottledS=1",
    "RetryCapS=4",
    "BreakerResetTimeoutS=2",
    "BreakerResetMaxS=8",
    "ParkBaseS=1",
    "ParkCapS=4",
];

/// How long the queues may take to become empty after the last fault.
const SETTLING: Duration = Duration::from_secs(300);

/// How long clients and the saboteur may take.
const UNREST: Duration = Duration::from_secs(420);

/// The plan of one run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed of all random choices.
    pub seed: u64,
    /// How many webhooks are accepted.
    pub webhooks: usize,
    /// Which faults are injected.
    pub weather: Weather,
    /// The folder of another version's binaries, to run beside these.
    pub other: Option<String>,
    /// Whether there is time for what takes minutes.
    pub is_long: bool,
}

impl Plan {
    /// About how long clients and tenants take, so that every kind of fault meets some of them.
    fn spread(&self) -> Duration {
        let faults = Duration::from_secs(if self.is_long { 120 } else { 40 });
        if self.weather == Weather::Calm { faults / 8 } else { faults }
    }
}

/// Which faults the saboteur injects. Duplicates and unreadable messages always come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weather {
    /// No other fault, so that every figure is exact.
    Calm,
    /// Processes are killed, Redis and the tables fail and master keys change, but nothing
    /// loses data. Every status is true.
    Rough,
    /// Redis loses data, and the registry is restored to an older state, too.
    Fire,
}

/// A webhook that was accepted: its client got a 202.
#[derive(Clone, Debug)]
struct Told {
    receiver: usize,
    payload: String,
    at: Instant,
}

/// A fault that was injected and hit something.
#[derive(Clone, Copy, Debug)]
struct Blow {
    fault: Fault,
    began: Instant,
    ended: Instant,
}

/// What clients, receivers and the saboteur saw.
#[derive(Clone, Default)]
struct Books {
    told: HashMap<String, Told>,
    /// Webhooks that were refused as invalid. They must not arrive.
    refused: Vec<String>,
    /// Dead letters of webhooks that were redriven.
    redriven: BTreeSet<String>,
    /// Requests that had to be repeated.
    repeated: usize,
    got: HashMap<String, Vec<Got>>,
    /// The events that were accepted, by id.
    events: HashMap<String, ToldEvent>,
    /// What arrived for endpoints, by the endpoint's name and the webhook id.
    arrived: HashMap<(String, String), Vec<Got>>,
    /// The secrets of endpoints by name, the oldest first. They stand here before the stack
    /// gets them.
    secrets: HashMap<String, Vec<String>>,
    /// Tokens that were revoked, and when that was answered.
    revoked: Vec<(String, Instant)>,
    /// How often the counter of a card was raised, and how often that may have been done.
    raised: (u64, u64),
    /// What tenants and operators did.
    acts: BTreeMap<&'static str, usize>,
    /// The faults that were injected.
    faults: Vec<Blow>,
    /// How many unreadable messages were put into queues.
    malformed: usize,
    /// How many messages were put into a queue a second time.
    duplicated: usize,
    /// The webhooks of which there is such a second message.
    copied: BTreeSet<String>,
    breaches: Vec<String>,
    /// The most memory that one instance of each function held, in bytes.
    peaks: BTreeMap<&'static str, u64>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Books>>);

impl Shared {
    fn open(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap()
    }

    fn breach(&self, what: String) {
        self.open().breaches.push(what);
    }

    fn act(&self, what: &'static str) {
        *self.open().acts.entry(what).or_default() += 1;
    }
}

/// Everything that one run uses.
struct Field {
    plan: Plan,
    own: OwnStack,
    redis: Mutex<RedisServer>,
    proxy: Proxy,
    tables: DynamoDbProxy,
    /// The master keys that the stack's secret has, newest first.
    master_keys: Mutex<Vec<String>>,
    books: Shared,
    receivers: Vec<receivers::Standing>,
    /// Endpoints that exist from the beginning to the end.
    endpoints: Vec<Endpoint>,
    /// Whoever changes one of their cards holds it to read. Nobody may while the registry is
    /// restored.
    changes: tokio::sync::RwLock<()>,
    began: Instant,
    /// Since when the functions run the other binaries, if they do now.
    other_since: Mutex<Option<Instant>>,
    /// Whether the stack was deployed last with large batches and split indexes.
    has_large_batches: AtomicBool,
}

impl Field {
    fn stack(&self) -> &Stack {
        self.own.stack()
    }

    fn queues(&self) -> Sqs {
        let url = |name| self.stack().get(name).to_owned();
        let urls = QueueUrls {
            delivery: url("DELIVERY_QUEUE_URL"),
            retry: url("RETRY_QUEUE_URL"),
            wait: url("WAIT_QUEUE_URL"),
            slow: url("SLOW_QUEUE_URL"),
            event: url("EVENT_QUEUE_URL"),
            dead_letter: url("DEAD_LETTER_QUEUE_URL"),
        };
        Sqs::new(&self.stack().account(), urls)
    }

    /// Notes how much memory the instances of each function have held.
    fn weigh(&self) {
        for name in [
            "Enqueue",
            "Fanout",
            "Deliver",
            "Archive",
            "Operate",
            "Endpoints",
            "Authorize",
            "Health",
            "Cleanup",
            "Metrics",
        ] {
            for pid in self.own.instances(name) {
                let usage = crate::process::Usage::of(u32::try_from(pid).unwrap_or_default());
                let mut books = self.books.open();
                let peak = books.peaks.entry(name).or_default();
                *peak = (*peak).max(usage.peak_rss);
            }
        }
    }

    /// How far a run is, and since when, for the report.
    fn took(&self, what: &str) -> String {
        format!("{} s {what}", self.began.elapsed().as_secs())
    }

    /// Waits until the queues are empty three times in a row: SQS's figures are approximate.
    async fn settle(&self) {
        let queues = self.queues();
        let until = Instant::now() + SETTLING;
        let mut empty = 0;
        while empty < 3 {
            let mut left = 0;
            for queue_name in QueueName::iter() {
                left += match queues.depth(queue_name).await {
                    // Wake-ups of catch-ups may be delayed that have nothing to do any more.
                    Ok(depth) if queue_name == QueueName::Event => {
                        let delayed =
                            if depth.delayed > 0 && deliveries::all_ended(self).await { 0 } else { depth.delayed };
                        depth.visible + depth.in_flight + delayed
                    }
                    Ok(depth) => depth.visible + depth.in_flight + depth.delayed,
                    Err(_) => 1,
                };
            }
            empty = if left == 0 { empty + 1 } else { 0 };
            if Instant::now() > until {
                self.books.breach(format!("{left} messages are still in the queues after {SETTLING:?}"));
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// Carries out a plan. Gives the auditor's report.
///
/// # Panics
/// When the stack does not come up.
pub async fn run(plan: Plan) -> auditor::Report {
    let field = Arc::new(prepared(plan).await);
    // The saboteur blocks its task while it waits for processes, so clients have another.
    let (posting, breaking) = (Arc::clone(&field), Arc::clone(&field));
    let posting = tokio::spawn(async move {
        let others = async { tokio::join!(hands::work(&posting), caretaker::work(&posting)) };
        tokio::join!(clients::post_all(&posting), tenants::work(&posting), others)
    });
    let breaking = tokio::spawn(async move { saboteur::sabotage(&breaking).await });
    let both = async { (posting.await.unwrap(), breaking.await.unwrap()) };
    if tokio::time::timeout(UNREST, both).await.is_err() {
        field.books.breach(format!("clients and the saboteur were not done after {UNREST:?}"));
    }
    let mut took = vec![field.took("with clients and faults")];
    saboteur::mend(&field);
    field.receivers.iter().for_each(receivers::Standing::recover);
    field.settle().await;
    took.push(field.took("settled"));
    caretaker::redrive(&field).await;
    tenants::send_again(&field).await;
    field.settle().await;
    field.weigh();
    took.push(field.took("sent again"));
    let mut report = auditor::audit(&field).await;
    took.push(field.took("audited"));
    let (last, breaches) = keys::retire(&field).await;
    report.breaches.extend(breaches);
    report.breaches.extend(tenants::resend(&field, &last).await);
    took.push(field.took("with the last master key"));
    report.lines.push(("took", took.join(", ")));
    report
}

/// A stack with tenants and receivers, and nothing in its queues.
async fn prepared(plan: Plan) -> Field {
    let redis = RedisServer::start();
    let proxy = Proxy::before(redis.port()).await;
    let tables = DynamoDbProxy::start().await;
    let redis_url = format!("RedisUrl=redis://127.0.0.1:{}", proxy.port());
    let secrets = keys::parameters();
    let parameters = SOON.into_iter().chain(LITTLE_TIME).chain(secrets.iter().map(String::as_str));
    let parameters: Vec<&str> = parameters.chain([redis_url.as_str()]).collect();
    let own = OwnStack::start_with_tables(&tables.url(), &parameters);
    tables.stand_before(own.stack().get("AWS_ENDPOINT_URL"));
    own.shorten_visibility().await;
    let known = Arc::new(Authority::new());
    let master_keys = keys::store(own.stack(), &known.pem()).await;
    let books = Shared::default();
    let secret = own.stack().get("SIGNING_SECRETS").to_owned();
    let mut standing = Vec::new();
    for temper in Temper::ALL {
        standing.push(receivers::Standing::start(temper, &plan, &secret, &known, books.clone()).await);
    }
    let mut field = Field {
        plan,
        own,
        redis: Mutex::new(redis),
        proxy,
        tables,
        master_keys: Mutex::new(vec![master_keys]),
        books,
        receivers: standing,
        endpoints: Vec::new(),
        changes: tokio::sync::RwLock::default(),
        began: Instant::now(),
        other_since: Mutex::default(),
        has_large_batches: AtomicBool::new(false),
    };
    field.endpoints = tenants::register(&field).await;
    field.began = Instant::now();
    field
}
