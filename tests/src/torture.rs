//! The run that one shows to a sceptic: many clients and receivers on the deployed
//! stack, a saboteur between them, and at the end an auditor who compares four
//! books: what clients were told, what receivers got, what statuses say, and what
//! the archive holds.

mod auditor;
mod clients;
mod receivers;
mod saboteur;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use adapters::sqs::{Depths as _, Lane, QueueUrls, Sqs};

use crate::proxy::Proxy;
use crate::redis_server::RedisServer;
use crate::stack::{OwnStack, Stack};
use crate::torture::receivers::{Got, Temper};
use crate::torture::saboteur::Fault;

/// Short times, so that what is lost on the way comes back soon.
const SOON: [&str; 10] = [
    "RetryBaseS=1",
    "RetryBaseThrottledS=1",
    "RetryCapS=4",
    "BreakerResetTimeoutS=2",
    "BreakerResetMaxS=8",
    "ParkBaseS=1",
    "ParkCapS=4",
    "DeliveryTimeoutMs=2000",
    "ConnectTimeoutMs=500",
    "DeliverTimeoutS=16",
];
const VISIBILITY: &str = "QueueVisibilityS=96";

/// How long the dust may take to settle: a message that was lost with its consumer
/// comes back twice at most.
const SETTLING: Duration = Duration::from_secs(300);

/// How long clients and saboteur may take.
const UNREST: Duration = Duration::from_secs(420);

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What chance is drawn from.
    pub seed: u64,
    /// How many webhooks are accepted.
    pub webhooks: usize,
    /// What is broken meanwhile.
    pub weather: Weather,
    /// Where the binaries of another version are, to run side by side with these.
    pub other: Option<String>,
}

/// What the saboteur does. Duplicates and unreadable messages come in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weather {
    /// Nothing more: every figure is exact.
    Calm,
    /// Processes are killed and Redis is troubled, but forgets nothing: every status
    /// is true.
    Rough,
    /// Redis forgets, too.
    Fire,
}

/// A webhook that a client holds a 202 for.
#[derive(Clone, Debug)]
struct Told {
    receiver: usize,
    payload: String,
    at: Instant,
}

/// A fault that hit something.
#[derive(Clone, Copy, Debug)]
struct Blow {
    fault: Fault,
    began: Instant,
    ended: Instant,
}

/// What everybody saw.
#[derive(Default)]
struct Books {
    told: HashMap<String, Told>,
    /// What was refused as invalid, and must not arrive.
    refused: Vec<String>,
    /// Requests that had to be repeated.
    repeated: usize,
    got: HashMap<String, Vec<Got>>,
    /// What was done to the system.
    faults: Vec<Blow>,
    /// Bodies that nobody can read, put into queues by hand.
    malformed: usize,
    /// Messages put into a queue a second time by hand.
    duplicated: usize,
    breaches: Vec<String>,
    /// The most memory that any instance of a function held, in bytes.
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

/// Everything that stands for one run.
struct Field {
    plan: Plan,
    own: OwnStack,
    redis: Mutex<RedisServer>,
    proxy: Proxy,
    books: Shared,
    receivers: Vec<receivers::Standing>,
    began: Instant,
    /// Whether the functions have the other binaries now.
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
            dead_letter: url("DEAD_LETTER_QUEUE_URL"),
        };
        Sqs::new(self.stack().account().sqs(), urls)
    }

    /// Notes how much memory the instances of each function hold.
    fn weigh(&self) {
        for name in ["Enqueue", "Deliver", "Archive", "Operate", "Health", "Cleanup", "Metrics"] {
            for pid in self.own.instances(name) {
                let usage = crate::process::Usage::of(u32::try_from(pid).unwrap_or_default());
                let mut books = self.books.open();
                let peak = books.peaks.entry(name).or_default();
                *peak = (*peak).max(usage.peak_rss);
            }
        }
    }

    /// Waits until nothing is queued, in flight or delayed, twice in a row.
    async fn settle(&self) {
        let queues = self.queues();
        let until = Instant::now() + SETTLING;
        let mut empty = 0;
        while empty < 3 {
            let mut left = 0;
            for lane in Lane::ALL {
                left += match queues.depth(lane).await {
                    Ok(depth) => depth.visible + depth.in_flight + depth.delayed,
                    Err(_) => 1,
                };
            }
            empty = if left == 0 { empty + 1 } else { 0 };
            if Instant::now() > until {
                self.books.breach(format!("{left} messages are stuck in the queues after {SETTLING:?}"));
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// Carries out a plan; gives the auditor's page.
///
/// # Panics
/// When the stack does not come up.
pub async fn run(plan: Plan) -> auditor::Page {
    let redis = RedisServer::start();
    let proxy = Proxy::before(redis.port()).await;
    let redis_url = format!("RedisUrl=redis://127.0.0.1:{}", proxy.port());
    let parameters: Vec<&str> = SOON.into_iter().chain([VISIBILITY, redis_url.as_str()]).collect();
    let own = OwnStack::start(&parameters);
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
    // Each in a task of its own: the saboteur waits for processes, and clients must not
    // wait with it.
    let (posting, breaking) = (Arc::clone(&field), Arc::clone(&field));
    let posting = tokio::spawn(async move { clients::post_all(&posting).await });
    let breaking = tokio::spawn(async move { saboteur::sabotage(&breaking).await });
    let both = async { (posting.await.unwrap(), breaking.await.unwrap()) };
    if tokio::time::timeout(UNREST, both).await.is_err() {
        field.books.breach(format!("clients and saboteur were not done after {UNREST:?}"));
    }
    saboteur::mend(&field);
    field.receivers.iter().for_each(receivers::Standing::recover);
    field.settle().await;
    field.weigh();
    auditor::audit(&field).await
}
