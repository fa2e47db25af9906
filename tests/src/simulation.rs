//! The whole system under seeded faults, in virtual time. The functions are the real ones
//! and run their scripts on a real Redis. SQS, the table and the receivers are models.
//! Every step to the outside stops at a gate. There the seed decides which process moves,
//! and how: it goes on, it fails, it loses its answer, its command is done twice, or the
//! process dies. The invariants are checked after every step.

mod books;
mod events;
mod gate;
mod history;
mod marks;
mod registry;
mod starts;
mod states;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adapters::aws::sqs::QueueName;
use adapters::clock::Clock;
use adapters::config::reader::Environment;
use adapters::redis::records;
use adapters::redis::transport::Redis;
use domain::time::Millis;
use fastrand::Rng;
use fn_deliver::CardCache;
use redis::{Cmd, ConnectionLike, Value};
use strum::IntoEnumIterator as _;
use tokio::task::JoinHandle;

pub use self::books::Tally;
use self::books::{Books, Client, ENDPOINTS, Promises, Temper};
use self::gate::{Eventual, Gate, Permit, Point, Port};
use self::history::Kept;
use self::marks::{Archive, Carried, carried};
use self::registry::Endpoint;
use self::starts::WarmFanout;
use crate::history_model::HistoryModel;
use crate::redis_server::Server;
use crate::registry_model::RegistryModel;
use crate::sqs_model::{SqsModel, Taken};
use crate::store_model::StoreModel;
use crate::world::{BEGINNING, cards, changed_settings};

/// How often each fault happens: its chance at each step.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// A process dies at a gate.
    pub crash: f64,
    /// A queue delivers a message twice, or loses a deletion.
    pub duplicate: f64,
    /// A command is done twice, because a client sends it again.
    pub resend: f64,
    /// A queue or history takes nothing or not everything, or seems not to although it did.
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
/// The same, when clients post again long afterwards.
const LATER_STEPS: usize = 150;
/// Most steps without faults.
const CALM_STEPS: usize = 20_000;
/// How often what is owed is looked at.
const A_DAY: Duration = Duration::from_secs(86_400);
/// How long after everything is finished clients post again: no record lives longer.
const LONG_AFTER: Duration = Duration::from_secs(8 * 86_400);

/// One process: an invocation of a function.
struct Process {
    number: usize,
    task: JoinHandle<Ended>,
    kind: Kind,
    ends_at: Millis,
}

enum Kind {
    Client(Client),
    Consumer(QueueName, Vec<Taken>),
    /// An operator sends a dead letter again.
    Redrive(Carried),
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
    history: HistoryModel,
    endpoints: Vec<Endpoint>,
    /// When the registry is whole again.
    registry_away_until: Option<usize>,
    /// What processes know that live for long.
    warm_cards: [Arc<CardCache>; 2],
    warm_fanouts: [Option<WarmFanout>; 2],
    gate: Arc<Gate>,
    books: Arc<Books>,
    environment: Environment,
    processes: Vec<Process>,
    /// Clients that still want something accepted.
    wanting: Vec<Client>,
    /// The queue whose consumers die more often than others, in this run.
    deadly: Option<QueueName>,
    /// How often clients still post an id again after its record is gone.
    posts_again: usize,
    /// Whether an operator removes what is finished, in this run.
    cleans: bool,
    started: usize,
    away_until: Option<usize>,
    /// What Redis had, and when it ends.
    snapshot: BTreeMap<String, (Vec<u8>, Millis)>,
    /// What each message carries, by its id.
    carried: HashMap<String, Option<Carried>>,
    step: usize,
}

impl Simulation {
    /// A run of so many clients on an empty server. Every third posts an event, the others
    /// a webhook.
    ///
    /// # Panics
    /// When the server cannot be used.
    pub fn new(seed: u64, clients: usize, weather: Weather, server: &dyn Server) -> Self {
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
        let clients: Vec<Client> = (0..clients)
            .map(|n| if n % 3 == 2 { Client::Event(n / 3) } else { Client::Webhook(n / 3 * 2 + n % 3) })
            .collect();
        let books = Books::new(&mut rng, &clients, &weather);
        let registry = RegistryModel::default();
        // A short deadline, so that a delivery to a dead receiver ends in time.
        let settings = changed_settings(&server.config().url, &[("DELIVERY_DEADLINE_S", "3600")]);
        // Some clients post an event twice at once.
        let times = |client: &Client, rng: &mut Rng| match client {
            Client::Event(_) if rng.u8(0..3) == 0 => 2,
            Client::Webhook(_) | Client::Event(_) => 1,
        };
        let wanting = clients.iter().rev().flat_map(|client| vec![*client; times(client, &mut rng)]).collect();
        Self {
            redis: Arc::new(Redis::open(&server.config(), clock.clone()).unwrap()),
            gate: Arc::new(Gate::new()),
            environment: Environment::of(settings),
            store: StoreModel::default(),
            warm_cards: std::array::from_fn(|_| {
                let seen = Mutex::new((Rng::with_seed(rng.u64(..)), BTreeMap::new()));
                cards(Arc::new(Eventual { registry: registry.clone(), books: Arc::clone(&books), seen }))
            }),
            warm_fanouts: std::array::from_fn(|_| None),
            registry,
            history: HistoryModel::default(),
            endpoints: Vec::new(),
            registry_away_until: None,
            wanting,
            cleans: rng.u8(0..3) == 0,
            deadly: match rng.u8(0..10) {
                0..3 => Some(QueueName::Event),
                3 => Some(QueueName::Delivery),
                _ => None,
            },
            posts_again: if weather.is_calm() { 0 } else { 3 },
            processes: Vec::new(),
            started: 0,
            away_until: None,
            snapshot: BTreeMap::new(),
            carried: HashMap::new(),
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
    /// When an invariant breaks; the seed is told.
    pub async fn run(mut self) -> Tally {
        self.furnish().await;
        let weather = self.weather;
        self.play(ROUGH_STEPS).await;
        if !weather.is_calm() && self.rng.u8(0..4) == 0 {
            self.weather = weather;
            self.pass_by(LONG_AFTER);
            self.post_all_again();
            self.play(LATER_STEPS).await;
        }
        self.books.check_calls();
        self.books.tally()
    }

    /// Goes on until everything is finished.
    async fn play(&mut self, rough_steps: usize) {
        let calm_from = self.step + rough_steps;
        while !self.is_over() {
            self.step += 1;
            assert!(self.step < calm_from + CALM_STEPS, "it does not come to an end");
            if self.step == calm_from {
                self.calm_down();
            }
            self.trouble();
            self.trouble_registry().await;
            self.tend_endpoints().await;
            self.act().await;
            self.check();
        }
        self.calm_down();
        self.check_end();
    }

    fn queues_are_empty(&self) -> bool {
        QueueName::iter().all(|queue_name| self.queues.is_empty(queue_name))
    }

    fn is_over(&self) -> bool {
        let queued = !self.queues_are_empty();
        self.wanting.is_empty() && self.processes.is_empty() && !queued && !self.history.owes()
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
                let keys = ["webhook_status:*", "delivery:*", "event:*"].map(|pattern| of(&mut **look, pattern));
                self.snapshot = keys
                    .concat()
                    .into_iter()
                    .map(|key| {
                        let dump: Vec<u8> = redis::cmd("DUMP").arg(&key).query(&mut **look).unwrap();
                        let left: u64 = redis::cmd("PTTL").arg(&key).query(&mut **look).unwrap();
                        (key, (dump, self.clock.now().after(Duration::from_millis(left))))
                    })
                    .collect();
            }
            if self.chance(self.weather.stale) {
                let _: () = redis::cmd("FLUSHDB").query(&mut **look).unwrap();
                let now = self.clock.now();
                for (key, (dump, ends_at)) in self.snapshot.iter().filter(|(_, (_, ends_at))| *ends_at > now) {
                    let mut restore = redis::cmd("RESTORE");
                    restore.arg(key).arg(domain::time::whole_ms(now.until(*ends_at))).arg(dump.as_slice());
                    let _: () = restore.query(&mut **look).unwrap();
                }
                self.books.count("redis stale");
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
                    if self.weather.is_calm() && self.queues_are_empty() && self.history.owes() {
                        self.enable_all().await;
                        if self.queues_are_empty() {
                            self.pass_by(A_DAY);
                            self.look_at_what_is_owed().await;
                        }
                    }
                }
            }
            _ => {}
        }
        self.reap().await;
    }

    /// Lets a process through its gate, or kills it.
    async fn pass(&mut self, index: usize, process: usize, point: Point) {
        if self.chance(self.weather.crash * self.frailty(process)) {
            self.books.count("crash");
            self.kill(process);
            return;
        }
        let weather = self.weather;
        let (chance, happens) = match point {
            Point::BeforeSend if self.rng.bool() => (weather.send, Permit::Partly),
            Point::BeforeSend | Point::AfterSend => (weather.send, Permit::Fail),
            Point::AfterRoundTrip => (weather.resend, Permit::Again),
            Point::AfterPost => (weather.resend / 2.0, Permit::Fail),
            Point::BeforeCards | Point::AfterCards => (weather.registry * 2.0, Permit::Fail),
            Point::BeforeRows if self.rng.bool() => (weather.send, Permit::Partly),
            Point::BeforeRows | Point::AfterRows => (weather.send, Permit::Fail),
            Point::BeforeRoundTrip | Point::BeforePost | Point::BeforeFile | Point::AfterFile => (0.0, Permit::Go),
        };
        let permit = if self.chance(chance) { happens } else { Permit::Go };
        match (permit, point) {
            (Permit::Fail, Point::BeforeSend) => self.books.count("send failed"),
            (Permit::Fail | Permit::Partly, Point::BeforeRows | Point::AfterRows) => {}
            (Permit::Partly, _) => self.books.count("send failed in part"),
            (Permit::Fail, Point::AfterSend) => self.books.count("send ambiguous"),
            (Permit::Fail, _) => self.books.count("answer lost"),
            (Permit::Again, _) => self.books.count("command re-sent"),
            (Permit::Go, _) => {}
        }
        self.gate.grant(index, permit);
        self.quiet().await;
    }

    /// How much sooner than others a process dies: in some runs, the consumers of one queue
    /// hardly live.
    fn frailty(&self, process: usize) -> f64 {
        let is_frail = |other: &Process| match other.kind {
            Kind::Consumer(queue_name, _) => other.number == process && self.deadly == Some(queue_name),
            Kind::Client(_) | Kind::Redrive(_) | Kind::Cleanup => false,
        };
        if self.processes.iter().any(is_frail) { 4.0 } else { 1.0 }
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
            // Whatever it knew is gone, too.
            for warm in &mut self.warm_fanouts {
                warm.take_if(|warm| warm.serves(number));
            }
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
            let ended = process.task.await.unwrap();
            match (process.kind, ended) {
                (Kind::Client(client), Ended::Client(202, known)) => self.books.accepted(client, known),
                (Kind::Client(client), Ended::Client(409, _)) => self.books.refused(client),
                // The deadline that it asks for has passed.
                (Kind::Client(client), Ended::Client(422, _)) => self.books.too_late(client),
                (Kind::Client(client), Ended::Client(503, _)) => self.wanting.push(client),
                (Kind::Client(_), Ended::Client(code, _)) => panic!("a client got {code}"),
                (Kind::Redrive(what), Ended::Operator(202)) => self.books.redriven(what),
                // It is gone, is carried on, or something is away.
                (Kind::Redrive(_), Ended::Operator(404 | 409 | 503)) => self.books.count("redrive refused"),
                (Kind::Cleanup, Ended::Operator(200 | 503)) => self.books.count("cleanup"),
                (Kind::Redrive(_) | Kind::Cleanup, Ended::Operator(code)) => panic!("an operator got {code}"),
                (Kind::Consumer(queue_name, taken), Ended::Consumer(kept)) => {
                    for taken in taken.iter().filter(|taken| !kept.contains(&taken.message.id)) {
                        if self.chance(self.weather.duplicate) {
                            self.books.count("delete lost");
                            self.books.doubled(&taken.message.body);
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
        self.pass_by(by);
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

    fn pass_by(&mut self, time: Duration) {
        self.clock.advance(time);
        self.expire(time);
    }

    /// Shortens the life of every key, since Redis does not know the virtual clock.
    fn expire(&self, by: Duration) {
        let look = Arc::clone(&self.look);
        let mut look = look.lock().unwrap();
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut **look).unwrap();
        let lives = keys.iter().map(|key| redis::cmd("PTTL").arg(key).to_owned()).collect();
        let lives = ask_all(&mut **look, lives);
        let shorter = keys.iter().zip(lives).filter_map(|(key, left)| {
            let Value::Int(left @ 0..) = left else { return None };
            let left = left.saturating_sub_unsigned(domain::time::whole_ms(by));
            Some(redis::cmd("PEXPIRE").arg(key).arg(left).to_owned())
        });
        ask_all(&mut **look, shorter.collect());
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
            history: self.history.clone(),
            clock: self.clock.clone(),
            part: ENDPOINTS,
        }
    }

    async fn spawn(&mut self, number: usize, kind: Kind, task: impl Future<Output = Ended> + Send + 'static) {
        let ends_at = self.clock.now().after(Duration::from_secs(60));
        self.processes.push(Process { number, task: tokio::spawn(task), kind, ends_at });
        self.quiet().await;
    }

    /// The invariants that hold at every moment.
    fn check(&mut self) {
        let mut queued: BTreeMap<Carried, usize> = BTreeMap::new();
        for queue_name in QueueName::iter() {
            self.queues.each(queue_name, |message| {
                let known = self.carried.get(&message.id).copied();
                let carried = known.unwrap_or_else(|| {
                    let carried = carried(&message.body);
                    self.carried.insert(message.id.clone(), carried);
                    carried
                });
                if let Some(carried) = carried {
                    *queued.entry(carried).or_default() += 1;
                }
            });
        }
        // What is owed is as good as queued.
        self.history.each_owed(|row| {
            if let Some(carried) = carried(&row.body) {
                *queued.entry(carried).or_default() += 1;
            }
        });
        self.books.check(&queued, &Archive::of(&self.store));
        if let Some(fault) = self.books.fault() {
            panic!("{fault}");
        }
    }

    /// What holds when everything is finished.
    fn check_end(&self) {
        self.store.each(|letter, _| letter.reason.iter().for_each(|reason| self.books.count(reason.as_str())));
        let archive = Archive::of(&self.store);
        let Promises { deliveries, events } = self.books.promises();
        let kept = self.kept();
        for (delivery, id) in deliveries {
            self.books.check_kept(delivery, kept.of_delivery(&id), &archive);
            self.books.check_status(delivery, self.field(&id, "status").as_deref(), &archive);
        }
        for (event, id) in events {
            self.books.check_event_kept(event, kept.has_event(&id));
            let matched = self.field(&id, "matched").and_then(|matched| matched.parse().ok());
            self.books.check_event(event, self.field(&id, "status").as_deref(), matched, &archive);
        }
    }

    /// What history has of deliveries and events.
    fn kept(&self) -> Kept {
        Kept::of(&self.history.all())
    }

    /// A field of a record.
    fn field(&self, id: &str, name: &str) -> Option<String> {
        redis::cmd("HGET").arg(records::key(id)).arg(name).query(&mut **self.look.lock().unwrap()).unwrap()
    }
}

/// The answers to commands, in one round trip where the connection can do that.
fn ask_all(look: &mut dyn ConnectionLike, commands: Vec<Cmd>) -> Vec<Value> {
    if commands.is_empty() || !look.supports_pipelining() {
        return commands.iter().map(|command| command.query(look).unwrap()).collect();
    }
    let mut pipe = redis::pipe();
    for command in commands {
        pipe.add_command(command);
    }
    pipe.query(look).unwrap()
}

/// A run that fails says which one it is.
impl Drop for Simulation {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}, step {}, {:?}", self.seed, self.step, self.weather);
        }
    }
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
