//! The torture: many clients and receivers use a deployed stack while a saboteur injects
//! faults. At the end an auditor compares four sources: what clients were told, what
//! receivers got, what the statuses say, and which dead letters are stored.

mod auditor;
mod clients;
mod receivers;
mod saboteur;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use adapters::aws::sqs::{Depths as _, QueueName, QueueUrls, Sqs};
use strum::IntoEnumIterator as _;

use crate::proxy::Proxy;
use crate::redis_server::RedisServer;
use crate::stack::{LITTLE_TIME, OwnStack, Stack};
use crate::torture::receivers::{Got, Temper};
use crate::torture::saboteur::Fault;

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
}

/// Which faults the saboteur injects. Duplicates and unreadable messages always come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weather {
    /// No other fault, so that every figure is exact.
    Calm,
    /// Processes are killed and Redis fails, but loses no data. Every status is true.
    Rough,
    /// Redis loses data, too.
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
#[derive(Default)]
struct Books {
    told: HashMap<String, Told>,
    /// Webhooks that were refused as invalid. They must not arrive.
    refused: Vec<String>,
    /// Requests that had to be repeated.
    repeated: usize,
    got: HashMap<String, Vec<Got>>,
    /// The faults that were injected.
    faults: Vec<Blow>,
    /// How many unreadable messages were put into queues.
    malformed: usize,
    /// How many messages were put into a queue a second time.
    duplicated: usize,
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
}

/// Everything that one run uses.
struct Field {
    plan: Plan,
    own: OwnStack,
    redis: Mutex<RedisServer>,
    proxy: Proxy,
    books: Shared,
    receivers: Vec<receivers::Standing>,
    began: Instant,
    /// Whether the functions run the other binaries now.
    runs_other: AtomicBool,
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
        for name in ["Enqueue", "Deliver", "Archive", "Operate", "Endpoints", "Health", "Cleanup", "Metrics"] {
            for pid in self.own.instances(name) {
                let usage = crate::process::Usage::of(u32::try_from(pid).unwrap_or_default());
                let mut books = self.books.open();
                let peak = books.peaks.entry(name).or_default();
                *peak = (*peak).max(usage.peak_rss);
            }
        }
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
    let redis = RedisServer::start();
    let proxy = Proxy::before(redis.port()).await;
    let redis_url = format!("RedisUrl=redis://127.0.0.1:{}", proxy.port());
    let parameters: Vec<&str> = SOON.into_iter().chain(LITTLE_TIME).chain([redis_url.as_str()]).collect();
    let own = OwnStack::start(&parameters);
    own.shorten_visibility().await;
    let books = Shared::default();
    let secret = own.stack().get("SIGNING_SECRETS").to_owned();
    let mut standing = Vec::new();
    for temper in Temper::ALL {
        standing.push(receivers::Standing::start(temper, plan.seed, &secret, books.clone()).await);
    }
    let began = Instant::now();
    let field = Arc::new(Field {
        plan,
        own,
        redis: Mutex::new(redis),
        proxy,
        books,
        receivers: standing,
        began,
        runs_other: AtomicBool::new(false),
    });
    // The saboteur blocks its task while it waits for processes, so clients have another.
    let (posting, breaking) = (Arc::clone(&field), Arc::clone(&field));
    let posting = tokio::spawn(async move { clients::post_all(&posting).await });
    let breaking = tokio::spawn(async move { saboteur::sabotage(&breaking).await });
    let both = async { (posting.await.unwrap(), breaking.await.unwrap()) };
    if tokio::time::timeout(UNREST, both).await.is_err() {
        field.books.breach(format!("clients and the saboteur were not done after {UNREST:?}"));
    }
    saboteur::mend(&field);
    field.receivers.iter().for_each(receivers::Standing::recover);
    field.settle().await;
    field.weigh();
    auditor::audit(&field).await
}
