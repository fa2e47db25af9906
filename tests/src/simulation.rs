//! The whole system under seeded faults, in virtual time. The functions are the real ones
//! and run their scripts on a real Redis. SQS, the table and the receivers are models.
//! Every step to the outside stops at a gate. There the seed decides which process moves,
//! and how: it goes on, it fails, it loses its answer, its command is done twice, or the
//! process dies. The invariants are checked after every step.

mod books;
mod gate;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adapters::aws::sqs::{Outgoing, Queue as _, QueueName};
use adapters::clock::Clock;
use adapters::config::reader::Environment;
use adapters::redis::records;
use adapters::redis::transport::{Redis, RedisPort};
use adapters::registry::{CardFound, Cards as _, EndpointKey, Registry as _, Written};
use bytes::Bytes;
use domain::endpoint::Card;
use domain::schedule::RetrySchedule;
use domain::time::Millis;
use fastrand::Rng;
use fn_archive::Archivist;
use fn_cleanup::Cleanup;
use fn_deliver::{CardCache, Deliver};
use fn_enqueue::Enqueue;
use fn_operate::Operate;
use lambda_http::{Body, Request};
use redis::ConnectionLike;
use strum::IntoEnumIterator as _;
use tokio::task::JoinHandle;

pub use self::books::Tally;
use self::books::{Books, ENDPOINTS, Temper};
use self::gate::{Eventual, Gate, Permit, Point, Port};
use crate::endpoints::{TENANT, card};
use crate::redis_server::Server;
use crate::registry_model::RegistryModel;
use crate::sqs_model::{SqsModel, Taken};
use crate::store_model::StoreModel;
use crate::world::{BEGINNING, cards, changed_settings, dead_letter};

/// How often each fault happens: its chance at each step.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// A process dies at a gate.
    pub crash: f64,
    /// A queue delivers a message twice, or loses a deletion.
    pub duplicate: f64,
    /// A command is done twice, because a client sends it again.
    pub resend: f64,
    /// A send fails, or seems to fail although it was done.
    pub send: f64,
    /// Redis is not reachable for a while.
    pub away: f64,
    /// Redis loses everything.
    pub lost: f64,
    /// Redis is restored from an older snapshot.
    pub stale: f64,
    /// The registry of endpoints is away, changes, loses an endpoint or is restored.
    pub registry: f64,
}

impl Weather {
    /// Nothing fails but the receivers.
    pub const CALM: Self =
        Self { crash: 0.0, duplicate: 0.0, resend: 0.0, send: 0.0, away: 0.0, lost: 0.0, stale: 0.0, registry: 0.0 };

    /// Whether nothing fails.
    pub fn is_calm(&self) -> bool {
        let redis = self.away + self.lost + self.stale;
        self.crash + self.duplicate + self.resend + self.send + redis + self.registry == 0.0
    }

    /// Whether Redis always keeps its data and answers.
    pub fn redis_is_sound(&self) -> bool {
        self.away + self.lost + self.stale == 0.0
    }

    /// Whether Redis never forgets what it was told.
    pub fn redis_keeps(&self) -> bool {
        self.lost + self.stale == 0.0
    }
}

/// Most processes at a time.
const MAX_PROCESSES: usize = 4;
/// Steps with faults in one run. After them nothing fails until everything is finished.
const ROUGH_STEPS: usize = 400;
/// Most steps without faults.
const CALM_STEPS: usize = 20_000;

/// One process: an invocation of a function.
struct Process {
    number: usize,
    task: JoinHandle<Ended>,
    kind: Kind,
    ends_at: Millis,
}

enum Kind {
    Client(usize),
    Consumer(QueueName, Vec<Taken>),
    /// An operator sends the dead letters of a delivery again.
    Redrive(usize),
    /// An operator removes what is finished.
    Cleanup,
}

/// What an invocation answered.
enum Ended {
    /// The status code, and whether the delivery was known already.
    Client(u16, bool),
    Consumer(Vec<String>),
    Operator(u16),
}

/// One seeded run.
pub struct Simulation {
    seed: u64,
    weather: Weather,
    rng: Rng,
    clock: Clock,
    look: Arc<Mutex<Box<dyn ConnectionLike + Send>>>,
    redis: Arc<Redis>,
    queues: SqsModel,
    store: StoreModel,
    registry: RegistryModel,
    /// The cards as they were made, and how often each was changed.
    cards: Vec<Card>,
    /// When the registry is whole again.
    registry_away_until: Option<usize>,
    /// What processes know that live for long.
    warm: [Arc<CardCache>; 2],
    deleted: BTreeSet<usize>,
    gate: Arc<Gate>,
    books: Arc<Books>,
    environment: Environment,
    processes: Vec<Process>,
    /// Clients that still want something accepted.
    wanting: Vec<usize>,
    /// How often clients still post an id again after its record is gone.
    posts_again: usize,
    /// Whether an operator removes what is finished, in this run.
    cleans: bool,
    started: usize,
    away_until: Option<usize>,
    snapshot: BTreeMap<String, Vec<u8>>,
    step: usize,
}

impl Simulation {
    /// A run of `deliveries` webhooks on an empty server.
    ///
    /// # Panics
    /// When the server cannot be used.
    pub fn new(seed: u64, deliveries: usize, weather: Weather, server: &dyn Server) -> Self {
        // The random numbers of the functions (tokens, jitter) follow the seed, too.
        fastrand::seed(seed);
        let mut rng = Rng::with_seed(seed);
        let mut look = server.look();
        let _: () = redis::cmd("FLUSHALL").query(&mut *look).unwrap();
        let clock = Clock::fixed(BEGINNING);
        // In some runs the queues give messages up soon, so that a message can be in the
        // dead-letter queue while its delivery is still under way.
        let rough = weather.crash > 0.0 && rng.u8(0..4) == 0;
        let queues = SqsModel::new(clock.clone(), Duration::from_secs(360), if rough { 5 } else { 100 });
        let books = Books::new(&mut rng, deliveries, &weather);
        let registry = RegistryModel::default();
        Self {
            redis: Arc::new(Redis::open(&server.config(), clock.clone()).unwrap()),
            gate: Arc::new(Gate::new()),
            // A short deadline, so that a delivery to a dead receiver ends in time.
            environment: Environment::of(changed_settings(&server.config().url, &[("DELIVERY_DEADLINE_S", "3600")])),
            store: StoreModel::default(),
            warm: std::array::from_fn(|_| {
                let seen = Mutex::new((Rng::with_seed(rng.u64(..)), BTreeMap::new()));
                cards(Arc::new(Eventual { registry: registry.clone(), books: Arc::clone(&books), seen }))
            }),
            registry,
            cards: Vec::new(),
            registry_away_until: None,
            deleted: BTreeSet::new(),
            wanting: (0..deliveries).rev().collect(),
            cleans: rng.u8(0..3) == 0,
            posts_again: if weather.is_calm() { 0 } else { 3 },
            processes: Vec::new(),
            started: 0,
            away_until: None,
            snapshot: BTreeMap::new(),
            step: 0,
            seed,
            weather,
            rng,
            clock,
            look: Arc::new(Mutex::new(look)),
            queues,
            books,
        }
    }

    /// Runs to the end and gives what was seen.
    ///
    /// # Panics
    /// When an invariant breaks; the message names the seed.
    pub async fn run(mut self) -> Tally {
        for n in 0..ENDPOINTS {
            let schedule = RetrySchedule::new(vec![5, 30, 60]).unwrap();
            let card = Card { retry_schedule: schedule, ..card(n, &url(n, 0), self.clock.now()) };
            assert_eq!(self.registry.create(&card, 10).await.unwrap(), Written::Done);
            self.cards.push(card);
        }
        while !self.is_over() {
            self.step += 1;
            assert!(self.step < ROUGH_STEPS + CALM_STEPS, "seed {}: it does not come to an end", self.seed);
            if self.step == ROUGH_STEPS {
                self.calm_down();
            }
            self.trouble();
            self.trouble_registry().await;
            self.act().await;
            self.check();
        }
        self.check_end();
        self.books.tally()
    }

    fn is_over(&self) -> bool {
        let queued = QueueName::iter().any(|queue_name| !self.queues.all(queue_name).is_empty());
        self.wanting.is_empty() && self.processes.is_empty() && !queued
    }

    fn calm_down(&mut self) {
        self.weather = Weather::CALM;
        self.mend_registry();
        self.away_until = None;
        self.gate.set_redis_away(false);
    }

    fn chance(&mut self, of: f64) -> bool {
        of > 0.0 && self.rng.f64() < of
    }

    /// What happens to Redis as a whole: it is away, or it loses data.
    fn trouble(&mut self) {
        if self.away_until.is_some_and(|until| self.step >= until) {
            self.away_until = None;
            self.gate.set_redis_away(false);
        }
        if self.away_until.is_none() && self.chance(self.weather.away) {
            self.away_until = Some(self.step + self.rng.usize(5..80));
            self.gate.set_redis_away(true);
            self.books.count("redis away");
        }
        let look = Arc::clone(&self.look);
        let mut look = look.lock().unwrap();
        if self.chance(self.weather.lost) {
            let _: () = redis::cmd("FLUSHDB").query(&mut **look).unwrap();
            self.books.count("redis lost");
        }
        if self.weather.stale > 0.0 {
            if self.chance(0.03) {
                let of = |look: &mut dyn ConnectionLike, pattern: &str| -> Vec<String> {
                    redis::cmd("KEYS").arg(pattern).query(look).unwrap()
                };
                let keys = [of(&mut **look, "webhook_status:*"), of(&mut **look, "delivery:*")].concat();
                self.snapshot = keys
                    .into_iter()
                    .map(|key| {
                        let dump: Vec<u8> = redis::cmd("DUMP").arg(&key).query(&mut **look).unwrap();
                        (key, dump)
                    })
                    .collect();
            }
            if self.chance(self.weather.stale) {
                let _: () = redis::cmd("FLUSHDB").query(&mut **look).unwrap();
                for (key, dump) in &self.snapshot {
                    let _: () = redis::cmd("RESTORE").arg(key).arg(0).arg(dump.as_slice()).query(&mut **look).unwrap();
                }
                self.books.count("redis stale");
            }
        }
    }

    /// What happens to the registry of endpoints.
    async fn trouble_registry(&mut self) {
        if self.registry_away_until.is_some_and(|until| self.step >= until) {
            self.mend_registry();
        }
        if self.registry_away_until.is_some() || !self.chance(self.weather.registry) {
            return;
        }
        let n = self.rng.usize(0..ENDPOINTS);
        let until = self.step + self.rng.usize(5..80);
        match self.rng.u8(0..8) {
            0 | 1 => {
                self.books.count("registry away");
                self.registry.be_away(true);
                self.registry_away_until = Some(until);
            }
            // A tombstone comes back with the table, too, so it is not lost for good here.
            2 | 3 if !self.deleted.contains(&n) => {
                self.books.count("endpoint lost");
                self.registry.lose(TENANT, &self.cards[n].id);
                self.registry_away_until = Some(until);
            }
            4 if !self.deleted.contains(&n) => {
                self.books.count("card restored");
                self.registry.overwrite(&self.cards[n]);
            }
            5 if self.rng.bool() => {
                let found = self.registry.cards(&[key_of(&self.cards[n])], true).await.unwrap();
                if let [CardFound::Card(card)] = &found[..] {
                    self.books.count("endpoint deleted");
                    self.registry.delete(card, self.clock.now()).await.unwrap();
                    self.deleted.insert(n);
                }
            }
            _ => {
                let found = self.registry.cards(&[key_of(&self.cards[n])], true).await.unwrap();
                if let [CardFound::Card(before)] = &found[..] {
                    self.books.count("card changed");
                    let version = before.version + 1;
                    let card = Card { url: url(n, version), version, ..Card::clone(before) };
                    self.registry.replace(before, &card).await.unwrap();
                }
            }
        }
    }

    /// The registry answers, and has every endpoint that nobody deleted.
    fn mend_registry(&mut self) {
        self.registry_away_until = None;
        self.registry.be_away(false);
        for (n, card) in self.cards.iter().enumerate() {
            if !self.deleted.contains(&n) {
                self.registry.overwrite(card);
            }
        }
    }

    /// One process moves, or a new one starts, or time passes.
    async fn act(&mut self) {
        let waiting = self.gate.waiting();
        let room = self.processes.len() < MAX_PROCESSES;
        let choice = self.rng.usize(0..10);
        match choice {
            0..=5 if !waiting.is_empty() => {
                let (index, process, point) = waiting[self.rng.usize(0..waiting.len())];
                self.pass(index, process, point).await;
            }
            6 if room && !self.wanting.is_empty() => self.start_client().await,
            7 | 8 if room => self.start_consumer().await,
            6 if room && !self.weather.is_calm() => self.operate().await,
            9 if waiting.is_empty() || self.rng.u8(0..5) == 0 => self.let_time_pass().await,
            _ if waiting.is_empty() && room => {
                if !self.wanting.is_empty() {
                    self.start_client().await;
                } else if !self.start_consumer_anywhere().await {
                    self.let_time_pass().await;
                }
            }
            _ => {}
        }
        self.reap().await;
    }

    /// Lets a process through its gate, or kills it.
    async fn pass(&mut self, index: usize, process: usize, point: Point) {
        if self.chance(self.weather.crash) {
            self.books.count("crash");
            self.kill(process);
            return;
        }
        let weather = self.weather;
        let (chance, happens) = match point {
            Point::BeforeSend | Point::AfterSend => (weather.send, Permit::Fail),
            Point::AfterRoundTrip => (weather.resend, Permit::Again),
            Point::AfterPost => (weather.resend / 2.0, Permit::Fail),
            Point::BeforeCards | Point::AfterCards => (weather.registry * 2.0, Permit::Fail),
            Point::BeforeRoundTrip | Point::BeforePost | Point::BeforeFile | Point::AfterFile => (0.0, Permit::Go),
        };
        let permit = if self.chance(chance) { happens } else { Permit::Go };
        match (permit, point) {
            (Permit::Fail, Point::BeforeSend) => self.books.count("send failed"),
            (Permit::Fail, Point::AfterSend) => self.books.count("send ambiguous"),
            (Permit::Fail, _) => self.books.count("answer lost"),
            (Permit::Again, _) => self.books.count("command re-sent"),
            (Permit::Go, _) => {}
        }
        self.gate.grant(index, permit);
        self.quiet().await;
    }

    /// Waits until every process stands at a gate or has ended.
    async fn quiet(&self) {
        let mut still = 0;
        let mut last = self.gate.movement();
        while still < 12 {
            tokio::task::yield_now().await;
            let now = self.gate.movement();
            still = if now == last && self.gate.is_idle() { still + 1 } else { 0 };
            last = now;
        }
    }

    fn kill(&mut self, number: usize) {
        self.gate.forget(number);
        self.books.died(number);
        if let Some(at) = self.processes.iter().position(|process| process.number == number) {
            let process = self.processes.remove(at);
            process.task.abort();
            if let Kind::Client(client) = process.kind {
                // It got no answer, so it asks again.
                self.wanting.push(client);
            }
        }
    }

    /// Takes the processes that have ended.
    async fn reap(&mut self) {
        let mut at = 0;
        while at < self.processes.len() {
            if !self.processes[at].task.is_finished() {
                at += 1;
                continue;
            }
            let process = self.processes.remove(at);
            self.books.ended(process.number);
            let ended = process.task.await.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
            match (process.kind, ended) {
                (Kind::Client(client), Ended::Client(202, known)) => self.books.accepted(client, known),
                (Kind::Client(client), Ended::Client(409, _)) => self.books.refused(client),
                // The deadline that it asks for has passed.
                (Kind::Client(client), Ended::Client(422, _)) => self.books.too_late(client),
                (Kind::Client(client), Ended::Client(503, _)) => self.wanting.push(client),
                (Kind::Client(_), Ended::Client(code, _)) => panic!("seed {}: a client got {code}", self.seed),
                (Kind::Redrive(delivery), Ended::Operator(202)) => self.books.redriven(delivery),
                // It is gone, is carried on, or something is away.
                (Kind::Redrive(_), Ended::Operator(404 | 409 | 503)) => self.books.count("redrive refused"),
                (Kind::Cleanup, Ended::Operator(200 | 503)) => self.books.count("cleanup"),
                (Kind::Redrive(_) | Kind::Cleanup, Ended::Operator(code)) => {
                    panic!("seed {}: an operator got {code}", self.seed)
                }
                (Kind::Consumer(queue_name, taken), Ended::Consumer(kept)) => {
                    for taken in taken.iter().filter(|taken| !kept.contains(&taken.message.id)) {
                        if self.chance(self.weather.duplicate) {
                            self.books.count("delete lost");
                        } else {
                            self.queues.delete(queue_name, taken);
                        }
                    }
                }
                (Kind::Client(_) | Kind::Redrive(_) | Kind::Cleanup, Ended::Consumer(_))
                | (Kind::Consumer(..) | Kind::Redrive(_) | Kind::Cleanup, Ended::Client(..))
                | (Kind::Consumer(..) | Kind::Client(_), Ended::Operator(_)) => unreachable!(),
            }
        }
    }

    async fn let_time_pass(&mut self) {
        let now = self.clock.now();
        let next = self.queues.next_visible_anywhere();
        let by = match next {
            Some(at) if at > now && self.gate.waiting().is_empty() => now.until(at),
            _ => Duration::from_millis(self.rng.u64(1..20_000)),
        };
        self.clock.advance(by);
        self.expire(by);
        // Lambda ends invocations that run too long.
        let late: Vec<usize> = self
            .processes
            .iter()
            .filter(|process| process.ends_at <= self.clock.now())
            .map(|process| process.number)
            .collect();
        for number in late {
            self.books.count("timed out");
            self.kill(number);
        }
    }

    /// Shortens the life of every key, since Redis does not know the virtual clock.
    fn expire(&self, by: Duration) {
        let look = Arc::clone(&self.look);
        let mut look = look.lock().unwrap();
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut **look).unwrap();
        for key in keys {
            let left: i64 = redis::cmd("PTTL").arg(&key).query(&mut **look).unwrap();
            if left >= 0 {
                let left = left.saturating_sub_unsigned(domain::time::whole_ms(by));
                let _: () = redis::cmd("PEXPIRE").arg(&key).arg(left).query(&mut **look).unwrap();
            }
        }
    }

    fn port(&mut self) -> Port {
        self.started += 1;
        Port {
            number: self.started,
            gate: Arc::clone(&self.gate),
            books: Arc::clone(&self.books),
            redis: Arc::clone(&self.redis) as _,
            queues: self.queues.clone(),
            store: self.store.clone(),
            registry: self.registry.clone(),
            clock: self.clock.clone(),
        }
    }

    async fn spawn(&mut self, number: usize, kind: Kind, task: impl Future<Output = Ended> + Send + 'static) {
        let ends_at = self.clock.now().after(Duration::from_secs(60));
        self.processes.push(Process { number, task: tokio::spawn(task), kind, ends_at });
        self.quiet().await;
    }

    async fn start_client(&mut self) {
        let Some(client) = self.wanting.pop() else { return };
        let port = Arc::new(self.port());
        if let Some(endpoint) = self.books.endpoint(client) {
            let message = self.books.message(client, &self.cards[endpoint], self.clock.now());
            let number = port.number;
            let task = async move {
                let outgoing = Outgoing::new(message.encode().unwrap(), TENANT.to_owned(), 0);
                let sent = port.send(QueueName::Delivery, vec![outgoing]).await;
                Ended::Client(if sent[0].is_ok() { 202 } else { 503 }, false)
            };
            return self.spawn(number, Kind::Client(client), task).await;
        }
        let config = self.environment.read(fn_enqueue::config::read).unwrap();
        let enqueue = Enqueue::new(&config, Arc::clone(&port) as _, Arc::clone(&port) as _, self.clock.clone());
        let request = post("/webhooks", self.books.request(client));
        let task = async move {
            let response = enqueue.handle(request).await;
            Ended::Client(response.status().as_u16(), response.body().contains("\"duplicate\":true"))
        };
        self.spawn(port.number, Kind::Client(client), task).await;
    }

    /// Somebody uses an id again, sends a dead letter again, or removes what is finished.
    async fn operate(&mut self) {
        match self.rng.u8(0..8) {
            0..=3 => self.post_again(),
            4 if self.cleans => self.start_cleanup().await,
            5 => self.start_redrive().await,
            _ => {}
        }
    }

    /// A client whose delivery is finished posts it again, after its record is gone: that is
    /// a delivery of its own.
    fn post_again(&mut self) {
        let finished = self.books.finished(&self.store.all());
        if finished.is_empty() || self.posts_again == 0 || self.away_until.is_some() {
            return;
        }
        let delivery = finished[self.rng.usize(0..finished.len())];
        let look = Arc::clone(&self.look);
        let key = records::key(&self.books.id(delivery));
        let known: bool = redis::cmd("EXISTS").arg(key).query(&mut **look.lock().unwrap()).unwrap();
        if !known {
            self.posts_again -= 1;
            self.books.lives_again(delivery, self.clock.now());
            self.wanting.push(delivery);
        }
    }

    async fn start_cleanup(&mut self) {
        let port = Arc::new(self.port());
        let config = self.environment.read(fn_cleanup::config::read).unwrap();
        let cleanup = Cleanup::new(&config, Arc::clone(&port) as _, self.clock.clone());
        self.books.cleans();
        let request = post("/webhook-cleanup?older_than_days=0", String::new());
        let task = async move { Ended::Operator(cleanup.handle(request).await.status().as_u16()) };
        self.spawn(port.number, Kind::Cleanup, task).await;
    }

    async fn start_redrive(&mut self) {
        let filed: Vec<(String, usize)> = self
            .store
            .all()
            .into_iter()
            .filter_map(|(id, letter)| Some((id, Books::marked(letter.payload?.get())?)))
            .collect();
        if filed.is_empty() {
            return;
        }
        let (id, delivery) = filed[self.rng.usize(0..filed.len())].clone();
        let port = Arc::new(self.port());
        let config = self.environment.read(fn_operate::config::read).unwrap();
        let (redis, store, queue) = (Arc::clone(&port) as _, Arc::clone(&port) as _, Arc::clone(&port) as _);
        let operate = Operate::new(&config, redis, store, queue, self.clock.clone());
        let request = post(&format!("/dead-letters/{id}/redrive"), String::new());
        // It may send although its answer is lost.
        self.books.may_redrive(delivery);
        let task = async move { Ended::Operator(operate.handle(request).await.status().as_u16()) };
        self.spawn(port.number, Kind::Redrive(delivery), task).await;
    }

    async fn start_consumer(&mut self) {
        let queue_name =
            [QueueName::Delivery, QueueName::Retry, QueueName::Wait, QueueName::DeadLetter][self.rng.usize(0..4)];
        self.consume(queue_name).await;
    }

    async fn start_consumer_anywhere(&mut self) -> bool {
        for queue_name in QueueName::iter() {
            if self.consume(queue_name).await {
                return true;
            }
        }
        false
    }

    /// Starts one invocation with messages of a queue; false when the queue has none.
    async fn consume(&mut self, queue_name: QueueName) -> bool {
        let most = self.rng.usize(1..=4);
        let taken = self.queues.receive(queue_name, most);
        if taken.is_empty() {
            return false;
        }
        for taken in &taken {
            if self.chance(self.weather.duplicate) {
                self.books.count("duplicate");
                self.queues.duplicate(queue_name, taken);
            }
        }
        let port = Arc::new(self.port());
        self.books.took(port.number, taken.iter().map(|taken| taken.message.body.as_str()));
        let number = port.number;
        let kind = Kind::Consumer(queue_name, taken.clone());
        if queue_name == QueueName::DeadLetter {
            let config = self.environment.read(fn_archive::config::read).unwrap();
            let archivist = Archivist::new(&config, Arc::clone(&port) as _, port as _, self.clock.clone());
            let records: Vec<fn_archive::Received> = taken.iter().map(dead_letter).collect();
            self.spawn(number, kind, async move { Ended::Consumer(archivist.handle(&records).await) }).await;
        } else {
            let config = self.environment.read(fn_deliver::config::read).unwrap();
            let redis: Arc<dyn RedisPort> = Arc::clone(&port) as _;
            // Some consumers have just started. The others share the cards that one of two
            // processes knows.
            let cards = match self.rng.usize(0..4) {
                0 | 1 => cards(Arc::clone(&port) as _),
                n => Arc::clone(&self.warm[n - 2]),
            };
            let deliver = Deliver::new(&config, Arc::clone(&port) as _, redis, port as _, cards, self.clock.clone());
            let records: Vec<fn_deliver::Received> = taken
                .iter()
                .map(|taken| fn_deliver::Received {
                    message_id: taken.message.id.clone(),
                    body: Bytes::from(taken.message.body.clone()),
                })
                .collect();
            let ends_at = self.clock.now().after(Duration::from_secs(60));
            let task = async move { Ended::Consumer(deliver.handle(&records, ends_at).await) };
            self.spawn(number, kind, task).await;
        }
        true
    }

    /// The invariants that hold at every moment.
    fn check(&self) {
        let mut present: Vec<String> = Vec::new();
        for queue_name in QueueName::iter() {
            present.extend(self.queues.all(queue_name).into_iter().map(|message| message.body));
        }
        let filed = self.store.all();
        for delivery in self.books.unfinished() {
            let mark = Books::mark(delivery);
            let queued = present.iter().any(|body| body.contains(&mark));
            let archived = self.books.is_archived(delivery, &filed);
            assert!(queued || archived, "seed {} step {}: delivery {delivery} is lost", self.seed, self.step);
        }
        if let Some(fault) = self.books.fault() {
            panic!("seed {} step {}: {fault}", self.seed, self.step);
        }
    }

    /// What holds when everything is finished.
    fn check_end(&self) {
        let look = Arc::clone(&self.look);
        let mut look = look.lock().unwrap();
        let filed = self.store.all();
        for letter in filed.values() {
            if let Some(reason) = letter.reason {
                self.books.count(reason.as_str());
            }
        }
        for delivery in self.books.all_accepted() {
            let id = self.books.id(delivery);
            let status: Option<String> =
                redis::cmd("HGET").arg(records::key(&id)).arg("status").query(&mut **look).unwrap();
            self.books.check_status(self.seed, delivery, status.as_deref(), &filed);
        }
        self.books.check_calls(self.seed);
    }
}

/// Where an endpoint is after so many changes of its card.
fn url(n: usize, changes: u64) -> String {
    format!("http://127.0.0.1:{}/endpoint-{n}", 10 + (n as u64 + changes) % 5)
}

fn key_of(card: &Card) -> EndpointKey {
    EndpointKey { tenant: card.tenant.clone(), endpoint: card.id.clone() }
}

fn post(path: &str, body: String) -> Request {
    let mut request = Request::new(Body::from(body));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = format!("http://api{path}").parse().unwrap();
    request
}

/// The tempers that receivers are drawn from.
pub(crate) fn tempers() -> [Temper; 8] {
    [
        Temper::Healthy,
        Temper::Healthy,
        Temper::Flaky,
        Temper::Flaky,
        Temper::Dead,
        Temper::Refusing,
        Temper::Gone,
        Temper::Busy,
    ]
}
