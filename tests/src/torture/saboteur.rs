//! Injects faults: in each round every kind once, in an order that the seed decides, until
//! all clients are served.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use adapters::aws::sqs::{Outgoing, Queue as _, QueueName};
use bytes::Bytes;
use domain::delivery::Delivery;
use domain::endpoint::{Card, EndpointState};
use domain::identity::body_hash;
use domain::message::Message;
use domain::time::Millis;

use crate::dynamodb_proxy::TableTrouble;
use crate::proxy::Trouble;
use crate::torture::stores::{Item, scanned, text};
use crate::torture::tenants::CROWD;
use crate::torture::{Blow, Field, Plan, Told, Weather, keys, stores};

/// The folder of the binaries that `make build` makes.
const OURS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/debug");

/// Parameters that a deployment changes to and fro.
const LARGE_BATCHES: [&str; 3] = ["BatchSize=100", "BatchWindowS=1", "IndexShards=4"];

/// How far other faults stay away from an upgrade or a deployment: nothing excuses what a
/// receiver gets twice then.
const APART: Duration = Duration::from_secs(5);

/// How long the other version is at work. It knows no tenants, so they wait meanwhile.
const OTHERS_TIME: Duration = Duration::from_secs(25);

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    KillDeliver,
    KillEnqueue,
    KillArchive,
    KillFanout,
    KillEndpoints,
    KillAuthorize,
    /// The tables do not answer.
    TableAway,
    /// The tables throttle.
    TableThrottled,
    /// The tables do what they are asked, and some answers are lost.
    TableLosesReplies,
    /// There is a new master key.
    MasterKey,
    /// Cards of the registry are restored to an older state.
    OlderCards,
    /// What was deleted from history since an older state of it is there again.
    OlderHistory,
    /// Redis ends and comes back empty.
    RedisEmpty,
    /// Redis ends and comes back with all its data.
    RedisKept,
    /// Redis ends and comes back with older data.
    RedisStale,
    /// Redis answers after the time limit of its clients.
    RedisSlow,
    /// Redis does not answer.
    RedisAway,
    /// Redis has no memory left.
    RedisFull,
    /// The local AWS ends with all instances, and comes back.
    AwsRestart,
    /// The functions get the binaries of the other version.
    Upgrade,
    /// The stack is deployed again, with other parameters.
    Deployment,
    /// Messages are put into a queue a second time.
    Duplicates,
    /// Unreadable messages are put into the queues.
    Malformed,
}

/// The functions whose instances are killed.
const KILLS: [(Fault, &str); 6] = [
    (Fault::KillDeliver, "Deliver"),
    (Fault::KillEnqueue, "Enqueue"),
    (Fault::KillArchive, "Archive"),
    (Fault::KillFanout, "Fanout"),
    (Fault::KillEndpoints, "Endpoints"),
    (Fault::KillAuthorize, "Authorize"),
];

impl Fault {
    const ALL: [Self; 23] = [
        Self::KillDeliver,
        Self::KillEnqueue,
        Self::KillArchive,
        Self::KillFanout,
        Self::KillEndpoints,
        Self::KillAuthorize,
        Self::TableAway,
        Self::TableThrottled,
        Self::TableLosesReplies,
        Self::MasterKey,
        Self::OlderCards,
        Self::OlderHistory,
        Self::RedisEmpty,
        Self::RedisKept,
        Self::RedisStale,
        Self::RedisSlow,
        Self::RedisAway,
        Self::RedisFull,
        Self::AwsRestart,
        Self::Upgrade,
        Self::Deployment,
        Self::Duplicates,
        Self::Malformed,
    ];

    fn comes_in(self, plan: &Plan) -> bool {
        // A deployment takes ten seconds.
        if (self == Self::Upgrade && plan.other.is_none()) || (self == Self::Deployment && !plan.is_long) {
            return false;
        }
        match plan.weather {
            Weather::Calm => !self.disturbs(),
            Weather::Rough => !self.forgets() && !matches!(self, Self::OlderCards | Self::OlderHistory),
            Weather::Fire => true,
        }
    }

    /// Whether a receiver may get something twice because of it.
    pub(crate) fn doubles(self) -> bool {
        match self {
            Self::KillDeliver
            | Self::RedisEmpty
            | Self::RedisKept
            | Self::RedisStale
            | Self::RedisSlow
            | Self::RedisAway
            | Self::RedisFull
            | Self::AwsRestart => true,
            Self::KillEnqueue
            | Self::KillArchive
            | Self::KillFanout
            | Self::KillEndpoints
            | Self::KillAuthorize
            | Self::TableAway
            | Self::TableThrottled
            | Self::TableLosesReplies
            | Self::MasterKey
            | Self::OlderCards
            | Self::OlderHistory
            | Self::Upgrade
            | Self::Deployment
            | Self::Duplicates
            | Self::Malformed => false,
        }
    }

    /// Whether Redis does not answer meanwhile.
    pub(crate) fn blinds(self) -> bool {
        use Fault::{RedisAway, RedisEmpty, RedisFull, RedisKept, RedisSlow, RedisStale};
        matches!(self, RedisAway | RedisEmpty | RedisFull | RedisKept | RedisSlow | RedisStale)
    }

    /// Whether it ends instances of `deliver`, so that their messages may count as poison.
    pub(crate) fn kills_deliver(self) -> bool {
        matches!(self, Self::KillDeliver | Self::AwsRestart)
    }

    /// Whether the functions get other code or settings.
    fn exchanges(self) -> bool {
        matches!(self, Self::Upgrade | Self::Deployment)
    }

    /// Whether history may not know how a delivery ended: nobody lived to tell it, or the other
    /// version does not.
    pub(crate) fn hides_ends(self) -> bool {
        self.doubles() || self == Self::Upgrade
    }

    /// Whether it disturbs a process, Redis or a table.
    fn disturbs(self) -> bool {
        !matches!(self, Self::Duplicates | Self::Malformed)
    }

    /// The function whose instances it kills.
    fn kills(self) -> Option<&'static str> {
        KILLS.iter().find(|(fault, _)| *fault == self).map(|(_, function)| *function)
    }

    /// Whether it ends instances of `fanout`.
    fn ends_fanout(self) -> bool {
        matches!(self, Self::KillFanout | Self::AwsRestart)
    }

    /// Whether Redis loses data.
    pub(crate) fn forgets(self) -> bool {
        matches!(self, Self::RedisEmpty | Self::RedisStale)
    }
}

/// Injects faults until every client is served, each kind at least once.
pub(crate) async fn sabotage(field: &Field) {
    inject(field).await;
    // Tenants wait for as long as the other version is at work.
    take_other_away(field);
}

async fn inject(field: &Field) {
    let mut rng = fastrand::Rng::with_seed(field.plan.seed);
    let mut kinds: Vec<Fault> = Fault::ALL.into_iter().filter(|kind| kind.comes_in(&field.plan)).collect();
    let (mut rounds, mut older) = (0, Older { cards: cards(field).await, history: Vec::new() });
    let longest_pause = if field.plan.is_long { 2.0 } else { 0.5 };
    while rounds == 0 || !served(field) {
        rng.shuffle(&mut kinds);
        // A fan-out that was killed goes on after a minute. A short run does not wait for many.
        if !field.plan.is_long {
            kinds.sort_by_key(|kind| !kind.ends_fanout());
            kinds.retain(|kind| rounds == 0 || !kind.ends_fanout());
        }
        for kind in &kinds {
            tokio::time::sleep(Duration::from_secs_f64(rng.f64() * longest_pause + 0.5)).await;
            let other_since = *field.other_since.lock().unwrap();
            // Nobody ends the change of a card while a version answers that knows none.
            let is_over = |since: Instant| since.elapsed() > OTHERS_TIME || *kind == Fault::OlderCards;
            if other_since.is_some_and(is_over) {
                strike(field, Fault::Upgrade, &mut older, &mut rng).await;
            }
            strike(field, *kind, &mut older, &mut rng).await;
            if rounds > 0 && served(field) {
                return;
            }
        }
        rounds += 1;
    }
    let hit: Vec<Fault> = field.books.open().faults.iter().map(|blow| blow.fault).collect();
    // One kind may meet no instance, but not all.
    let killed = |kind: &Fault| kind.kills().is_some();
    if kinds.iter().any(killed) && !hit.iter().any(killed) {
        field.books.breach("no instance was killed".to_owned());
    }
}

/// Injects a fault, and notes it if it hit something.
async fn strike(field: &Field, kind: Fault, older: &mut Older, rng: &mut fastrand::Rng) {
    if kind.exchanges() {
        tokio::time::sleep(APART).await;
    }
    field.weigh();
    let began = Instant::now();
    // What one fault draws must not change what the next one draws.
    if inflict(field, kind, older, &mut rng.fork()).await {
        field.books.open().faults.push(Blow { fault: kind, began, ended: Instant::now() });
    }
    if kind.exchanges() {
        tokio::time::sleep(APART).await;
    }
}

/// Whether all clients are served.
pub(crate) fn served(field: &Field) -> bool {
    let books = field.books.open();
    books.told.len() + books.refused.len() + books.breaches.len() >= field.plan.webhooks
}

/// Says whether it hit anything.
async fn inflict(field: &Field, kind: Fault, older: &mut Older, rng: &mut fastrand::Rng) -> bool {
    let a_while = Duration::from_secs_f64(1.0 + 2.0 * rng.f64());
    match kind {
        Fault::KillDeliver
        | Fault::KillEnqueue
        | Fault::KillArchive
        | Fault::KillFanout
        | Fault::KillEndpoints
        | Fault::KillAuthorize => return kill(field, kind.kills().unwrap_or_default(), rng).await,
        Fault::TableAway => return tables(field, TableTrouble::Away, a_while).await,
        Fault::TableThrottled => return tables(field, TableTrouble::Throttled, a_while).await,
        Fault::TableLosesReplies => return tables(field, TableTrouble::LosesReplies, a_while).await,
        // Sixteen keys are the most that there may be, and one more comes at the end.
        Fault::MasterKey if field.master_keys.lock().unwrap().len() > 12 => return false,
        Fault::MasterKey => keys::add(field).await,
        Fault::OlderCards => return restore_cards(field, &older.cards).await,
        Fault::OlderHistory => {
            let were = std::mem::replace(&mut older.history, scanned(field, "HISTORY_TABLE").await);
            return restore_history(field, were, &older.history).await;
        }
        Fault::RedisEmpty | Fault::RedisKept | Fault::RedisStale => {
            {
                let mut redis = field.redis.lock().unwrap();
                if kind == Fault::RedisEmpty {
                    redis.forget();
                }
                if kind == Fault::RedisKept { redis.stop_and_save() } else { redis.stop() }
            }
            tokio::time::sleep(a_while).await;
            field.redis.lock().unwrap().resume();
        }
        Fault::RedisSlow => troubled(field, Trouble::Slow, a_while).await,
        Fault::RedisAway => troubled(field, Trouble::Away, a_while).await,
        Fault::RedisFull => {
            limit(field, "1");
            tokio::time::sleep(a_while).await;
            limit(field, "0");
        }
        Fault::AwsRestart => tokio::task::block_in_place(|| field.own.restart_aws()),
        Fault::Upgrade if take_other_away(field) => {}
        Fault::Upgrade => {
            *field.other_since.lock().unwrap() = Some(Instant::now());
            let other = field.plan.other.as_deref().unwrap_or_default();
            tokio::task::block_in_place(|| field.own.change_code(other));
        }
        Fault::Deployment => {
            let had_large = field.has_large_batches.fetch_xor(true, Ordering::SeqCst);
            tokio::task::block_in_place(|| field.own.deploy_again(if had_large { &[] } else { &LARGE_BATCHES }));
            field.own.shorten_visibility().await;
            note_other_gone(field);
        }
        Fault::Duplicates => duplicate(field, rng).await,
        Fault::Malformed => {
            for queue_name in [QueueName::Delivery, QueueName::Retry, QueueName::Wait, QueueName::Slow] {
                let bodies = ["broken {", "{\"v\":1}", "\u{7f}nothing"].map(str::to_owned);
                send(field, queue_name, bodies.to_vec(), |books| books.malformed += 1).await;
            }
        }
    }
    true
}

/// Kills the instances of a function several times, since a single moment often meets none.
async fn kill(field: &Field, function: &str, rng: &mut fastrand::Rng) -> bool {
    let mut killed = 0;
    for _ in 0..5 {
        killed += field.own.kill(function);
        tokio::time::sleep(Duration::from_secs_f64(0.05 + 0.4 * rng.f64())).await;
    }
    killed > 0
}

async fn troubled(field: &Field, trouble: Trouble, duration: Duration) {
    field.proxy.set(trouble);
    tokio::time::sleep(duration).await;
    field.proxy.set(Trouble::None);
}

/// Says whether a request met the trouble.
async fn tables(field: &Field, trouble: TableTrouble, duration: Duration) -> bool {
    field.tables.set(trouble);
    tokio::time::sleep(duration).await;
    field.tables.set(TableTrouble::None) > 0
}

/// Older states of the tables.
struct Older {
    cards: Vec<(Item, Card)>,
    history: Vec<Item>,
}

/// The cards of the tenants whose endpoints stay as they are.
async fn cards(field: &Field) -> Vec<(Item, Card)> {
    let cards = stores::cards(scanned(field, "REGISTRY_TABLE").await);
    cards.into_iter().filter(|(_, card)| card.tenant != CROWD).collect()
}

/// Restores cards to an older state as an operator does: nobody changes one meanwhile. A card
/// that is paused now stays as it is, because for twenty minutes its pause counts for more than
/// what the table says.
async fn restore_cards(field: &Field, older: &[(Item, Card)]) -> bool {
    let _nobody_else = field.changes.write().await;
    let present = cards(field).await;
    let mut restored = 0;
    for (item, card) in older {
        let now = present.iter().find(|(_, now)| now.id == card.id).map(|(_, now)| now);
        if now.is_some_and(|now| now.state == EndpointState::Enabled && now.version != card.version) {
            let put = field.stack().dynamodb().put_item().table_name(field.stack().get("REGISTRY_TABLE"));
            put.set_item(Some(item.clone())).send().await.unwrap();
            restored += 1;
        }
    }
    restored > 0
}

/// Copies rows of an older state that are not in the table any more, as an operator does.
async fn restore_history(field: &Field, were: Vec<Item>, are: &[Item]) -> bool {
    let key = |item: &Item| (text(item, "pk").to_owned(), text(item, "sk").to_owned());
    let present: HashSet<_> = are.iter().map(key).collect();
    let gone: Vec<Item> = were.into_iter().filter(|item| !present.contains(&key(item))).collect();
    let has_some = !gone.is_empty();
    for item in gone {
        let put = field.stack().dynamodb().put_item().table_name(field.stack().get("HISTORY_TABLE"));
        put.set_item(Some(item)).send().await.unwrap();
    }
    has_some
}

fn limit(field: &Field, bytes: &str) {
    let mut connection = field.redis.lock().unwrap().connect();
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).exec(&mut connection).unwrap();
}

/// Ends all trouble.
pub(crate) fn mend(field: &Field) {
    field.proxy.set(Trouble::None);
    field.tables.set(TableTrouble::None);
    limit(field, "0");
    take_other_away(field);
}

/// Puts our version back. Says whether the other one was at work.
fn take_other_away(field: &Field) -> bool {
    let was_at_work = field.other_since.lock().unwrap().is_some();
    if was_at_work {
        tokio::task::block_in_place(|| field.own.change_code(OURS));
        note_other_gone(field);
    }
    was_at_work
}

/// Notes that the other version is not at work any more: the upgrade lasted until now.
fn note_other_gone(field: &Field) {
    if field.other_since.lock().unwrap().take().is_none() {
        return;
    }
    let mut books = field.books.open();
    if let Some(blow) = books.faults.iter_mut().rev().find(|blow| blow.fault == Fault::Upgrade) {
        blow.ended = Instant::now();
    }
}

async fn duplicate(field: &Field, rng: &mut fastrand::Rng) {
    let mut known: Vec<(String, Told)> =
        field.books.open().told.iter().map(|(id, told)| (id.clone(), told.clone())).collect();
    // The order of a map does not follow the seed.
    known.sort_by(|a, b| a.0.cmp(&b.0));
    let chosen = rng.choose_multiple(known.iter(), 10);
    let copies: Vec<Message> = chosen.into_iter().filter_map(|(id, told)| message(field, id, told)).collect();
    field.books.open().copied.extend(copies.iter().map(|copy| copy.delivery.id.clone()));
    let bodies = copies.iter().map(|copy| copy.encode().unwrap()).collect();
    send(field, QueueName::Delivery, bodies, |books| books.duplicated += 1).await;
}

/// A second copy of a delivery's first message: accepted when the first one was, as its
/// record says. None while Redis does not answer or has no record.
fn message(field: &Field, id: &str, told: &Told) -> Option<Message> {
    let url = field.receivers[told.receiver].url();
    let mut redis = field.redis.lock().unwrap().connect();
    let found: Option<u64> =
        redis::cmd("HGET").arg(format!("webhook_status:{id}")).arg("created_at").query(&mut redis).ok()?;
    let accepted_at = Millis(found?);
    let delivery = Delivery {
        id: id.to_owned(),
        body_hash: body_hash(&url, &told.payload, &BTreeMap::new(), None, None),
        url,
        payload: Bytes::from(told.payload.clone()),
        correlation_id: "by-hand".to_owned(),
        accepted_at,
        deadline: accepted_at.after(Duration::from_secs(86_400)),
        ..Delivery::default()
    };
    Some(Message { delivery, ..Message::default() })
}

async fn send(field: &Field, queue_name: QueueName, bodies: Vec<String>, count: fn(&mut super::Books)) {
    let messages = bodies.into_iter().map(|body| Outgoing::new(body, "by-hand".to_owned(), 0)).collect();
    for result in field.queues().send(queue_name, messages).await {
        match result {
            Ok(()) => count(&mut field.books.open()),
            Err(error) => field.books.breach(format!("the queue did not take a message of the saboteur: {error}")),
        }
    }
}
