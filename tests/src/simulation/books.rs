//! The books of an observer outside the system: what clients were promised, what receivers
//! got, and which rules were broken. `events` has the part about events.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adapters::aws::sqs::{Outgoing, QueueName};
use adapters::receiver_client::ReceiverCall;
use adapters::redis::records;
use adapters::redis::transport::Call;
use bytes::Bytes;
use domain::history::delivery::EndedDelivery;
use domain::history::{Row, owed};
use domain::identity::{delivery_id, event_record_id};
use domain::message::Envelope;
use domain::names::is_reserved_event_type;
use domain::outcome::Answer;
use domain::time::Millis;
use fastrand::Rng;
use redis::Value;

use super::events::{Events, Presence};
use super::history::{deliveries_in, may_answer};
use super::marks::{Archive, Carried, DeliveryName, called, carried, webhook_payload};
use super::{Weather, tempers};
use crate::endpoints::endpoint_id;
use crate::world::BEGINNING;

/// How many endpoints there are.
pub(crate) const ENDPOINTS: usize = 6;
/// How long the record of what was delivered lives: `TTL_DELIVERED_S`.
const DELIVERED: Duration = Duration::from_secs(1800);
/// How many receivers there are.
const DESTINATIONS: usize = 3;

/// How often each thing was seen.
pub type Tally = BTreeMap<&'static str, u64>;

/// What a receiver is like.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Temper {
    /// Always 200.
    Healthy,
    /// 500 half of the time.
    Flaky,
    /// Always 500 or nothing.
    Dead,
    /// 404.
    Refusing,
    /// 410.
    Gone,
    /// 429 and a long `Retry-After` half of the time.
    Busy,
}

/// A client, by the number of what it posts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    Webhook(usize),
    Event(usize),
}

/// What a client asked for, and what it was told.
#[derive(Debug)]
pub(super) struct Promise {
    pub(super) id: String,
    pub(super) expires_at: Option<Millis>,
    pub(super) accepted: bool,
    pub(super) refused: bool,
    /// Requests that its client made.
    pub(super) asked: u32,
    /// When its client posted it for the first time in its present life.
    pub(super) posted_at: Millis,
    /// Whether that is a life after the first, which is not accepted yet.
    pub(super) again: bool,
}

impl Promise {
    pub(super) fn new(id: String, expires_at: Option<Millis>) -> Self {
        Self { id, expires_at, accepted: false, refused: false, asked: 0, posted_at: BEGINNING, again: false }
    }

    /// Whether its present life is accepted.
    pub(super) fn holds(&self) -> bool {
        self.accepted && !self.again
    }

    pub(super) fn begin_again(&mut self, now: Millis) {
        (self.again, self.posted_at) = (true, now);
    }

    /// Notes a 202; `known` if it calls it a duplicate. Says whether that promises something.
    fn accept(&mut self, known: bool) -> Option<Accepted> {
        let was_again = std::mem::take(&mut self.again);
        let was_accepted = std::mem::replace(&mut self.accepted, true);
        match (was_again, known) {
            (true, true) => {
                self.posted_at = BEGINNING;
                None
            }
            (true, false) => Some(Accepted::Again),
            (false, _) => (!was_accepted).then_some(Accepted::First),
        }
    }

    /// Notes that it is not accepted. Says whether that is the first time.
    fn refuse(&mut self) -> bool {
        if std::mem::take(&mut self.again) {
            self.posted_at = BEGINNING;
            return true;
        }
        !std::mem::replace(&mut self.refused, true)
    }

    /// Whether its client was told that it is refused, and nothing else. An earlier request of
    /// the same client may have got no answer.
    fn is_refused(&self) -> bool {
        self.refused && self.asked == 1
    }
}

/// What a 202 promises.
#[derive(Clone, Copy, Debug)]
enum Accepted {
    First,
    Again,
}

/// What is known of one delivery. The promise of one of an event is that its message is
/// queued.
#[derive(Debug)]
struct KnownDelivery {
    promise: Promise,
    temper: Temper,
    /// How often its receiver said 200.
    got: u32,
    /// When it did last.
    got_at: Option<Millis>,
    /// How often it had before its present life.
    got_before: u32,
    /// How often it had when its event was posted for the present life of that.
    got_by_then: u32,
    /// Budgets that it may spend: one for each life and each redrive.
    budgets: u32,
    calls: u32,
    /// How often a catch-up gave it a new budget. It is delivered once all the same.
    caught_up: u32,
    /// Faults that may each cost one more call.
    excuses: u32,
    /// Whether an outcome of it reached neither Redis nor the queue.
    unrecorded: bool,
    /// Whether a row of it reached neither history nor the queue.
    unkept: bool,
    /// Whether an operator may have removed its record. Then older messages of it are not known
    /// as such any more.
    is_removed: bool,
    /// Processes that are calling its receiver now, once for each call.
    live: Vec<usize>,
}

impl KnownDelivery {
    fn new(rng: &mut Rng, id: String, expires_at: Option<Millis>) -> Self {
        Self {
            promise: Promise::new(id, expires_at),
            temper: tempers()[rng.usize(0..tempers().len())],
            got: 0,
            got_at: None,
            got_before: 0,
            got_by_then: 0,
            budgets: 0,
            calls: 0,
            caught_up: 0,
            excuses: 0,
            unrecorded: false,
            unkept: false,
            is_removed: false,
            live: Vec::new(),
        }
    }

    /// Whether its receiver has it in its present life.
    fn is_got(&self) -> bool {
        self.got > self.got_before
    }
}

struct State {
    rng: Rng,
    deliveries: BTreeMap<DeliveryName, KnownDelivery>,
    events: Events,
    tally: Tally,
    holding: BTreeMap<usize, Vec<Carried>>,
    /// Deliveries that were owed, and of which history says that they are not sent any more.
    given_up: BTreeSet<String>,
    /// What the processes that fan out have sent of what endpoints were owed.
    caught_up: BTreeMap<usize, BTreeSet<String>>,
    /// Processes whose probe is out, by breaker.
    probing: BTreeMap<String, BTreeSet<(usize, String)>>,
    fault: Option<String>,
}

impl State {
    fn of(&mut self, delivery: DeliveryName) -> Option<&mut KnownDelivery> {
        self.deliveries.get_mut(&delivery)
    }

    /// The deliveries of an event.
    fn of_event(&mut self, event: usize) -> impl Iterator<Item = (&DeliveryName, &mut KnownDelivery)> {
        self.deliveries.range_mut(of_event(event))
    }

    fn promise(&mut self, client: Client) -> &mut Promise {
        match client {
            Client::Webhook(n) => &mut self.webhook(n).promise,
            Client::Event(event) => &mut self.events.known[event].promise,
        }
    }

    fn webhook(&mut self, n: usize) -> &mut KnownDelivery {
        self.of(DeliveryName::Webhook(n)).unwrap()
    }

    /// Whether a request of its present life came to its queue, though its client may have got
    /// no answer.
    fn has_begun(&self, client: Client) -> bool {
        matches!(client, Client::Event(event) if self.events.has_begun(event))
    }

    /// Nothing new was promised.
    fn lives_on(&mut self, client: Client) {
        match client {
            Client::Webhook(n) => self.webhook(n).got_before = 0,
            Client::Event(event) => self.events.lives_on(event),
        }
    }

    fn is_alone(&self, id: &str) -> bool {
        self.deliveries.values().filter(|other| other.promise.id == id).count() == 1
    }
}

/// The observer's books.
pub(crate) struct Books {
    state: Mutex<State>,
    redis_is_sound: bool,
    redis_keeps: bool,
    /// Whether processes die.
    is_deadly: bool,
}

/// What clients were promised: what each record is named by.
pub(crate) struct Promises {
    pub(crate) deliveries: Vec<(DeliveryName, String)>,
    pub(crate) events: Vec<(usize, String)>,
}

impl Books {
    pub(crate) fn new(rng: &mut Rng, clients: &[Client], weather: &Weather) -> Arc<Self> {
        let mut deliveries = BTreeMap::new();
        for client in clients {
            let Client::Webhook(n) = *client else { continue };
            // While Redis is away, two bodies may be accepted under one id.
            let is_reused = !weather.redis_is_sound() && n % 3 == 1 && rng.u8(0..8) == 0;
            let id = format!("d-{}", if is_reused { n - 1 } else { n });
            let expires_at = (rng.u8(0..6) == 0).then(|| BEGINNING.after(Duration::from_secs(rng.u64(20..2000))));
            deliveries.insert(DeliveryName::Webhook(n), KnownDelivery::new(rng, id, expires_at));
        }
        let posted = clients.iter().filter(|client| matches!(client, Client::Event(_))).count();
        let events = Events::new(rng, posted, weather);
        for (event, known) in events.known.iter().enumerate() {
            for endpoint in 0..ENDPOINTS {
                let id = delivery_id(&known.promise.id, &endpoint_id(endpoint), None);
                let name = DeliveryName::OfEvent { event, endpoint };
                deliveries.insert(name, KnownDelivery::new(rng, id, known.promise.expires_at));
            }
        }
        let state = State {
            rng: Rng::with_seed(rng.u64(..)),
            deliveries,
            events,
            tally: Tally::new(),
            holding: BTreeMap::new(),
            given_up: BTreeSet::new(),
            caught_up: BTreeMap::new(),
            probing: BTreeMap::new(),
            fault: None,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            redis_is_sound: weather.redis_is_sound(),
            redis_keeps: weather.redis_keeps(),
            is_deadly: weather.crash > 0.0,
        })
    }

    pub(crate) fn count(&self, what: &'static str) {
        *self.state.lock().unwrap().tally.entry(what).or_default() += 1;
    }

    pub(crate) fn tally(&self) -> Tally {
        let state = self.state.lock().unwrap();
        let mut tally = state.tally.clone();
        tally.extend(&state.events.tally);
        tally
    }

    pub(crate) fn fault(&self) -> Option<String> {
        let state = self.state.lock().unwrap();
        state.fault.clone().or_else(|| state.events.fault.clone())
    }

    /// The JSON that a client sends.
    pub(crate) fn request(&self, client: Client) -> String {
        let mut state = self.state.lock().unwrap();
        let n = match client {
            Client::Webhook(n) => n,
            Client::Event(event) => return state.events.request(event),
        };
        let found = state.webhook(n);
        found.promise.asked += 1;
        // A request that is repeated after its record was removed is a delivery of its own.
        found.budgets += u32::from(found.promise.asked == 1 || found.promise.again || found.is_removed);
        let Promise { id, expires_at, .. } = &found.promise;
        let expires_at = expires_at.map(|at| format!(",\"expires_at\":\"{at}\"")).unwrap_or_default();
        format!(
            "{{\"webhook_url\":\"http://127.0.0.1:{}/{n}\",\"payload\":{},\"reference_id\":\"{id}\"{expires_at}}}",
            1 + n % DESTINATIONS,
            webhook_payload(n)
        )
    }

    /// A client got a 202; `known` if the answer calls it a duplicate. Then nothing new was
    /// promised.
    pub(crate) fn accepted(&self, client: Client, known: bool) {
        let mut state = self.state.lock().unwrap();
        let was_again = state.promise(client).again;
        let known = known && !state.has_begun(client);
        let accepted = state.promise(client).accept(known);
        if was_again && known {
            state.lives_on(client);
        }
        drop(state);
        match (client, accepted) {
            (Client::Webhook(_), Some(Accepted::First)) => self.count("accepted"),
            (Client::Webhook(_), Some(Accepted::Again)) => self.count("accepted again"),
            (Client::Event(_), Some(Accepted::First)) => self.count("event accepted"),
            (Client::Event(_), Some(Accepted::Again)) => self.count("event accepted again"),
            (Client::Webhook(_), None) => {}
            (Client::Event(_), None) => self.count("event known"),
        }
    }

    pub(crate) fn refused(&self, client: Client) {
        if self.not_accepted(client) {
            self.count(match client {
                Client::Webhook(_) => "id conflict",
                Client::Event(_) => "event id conflict",
            });
        }
    }

    /// A client gives up, because the deadline that it asks for has passed.
    pub(crate) fn too_late(&self, client: Client) {
        if self.not_accepted(client) {
            self.count(match client {
                Client::Webhook(_) => "client too late",
                Client::Event(_) => "client of an event too late",
            });
        }
    }

    fn not_accepted(&self, client: Client) -> bool {
        let mut state = self.state.lock().unwrap();
        if state.has_begun(client) {
            state.promise(client).accept(false);
            return false;
        }
        if state.promise(client).again {
            state.lives_on(client);
        }
        state.promise(client).refuse()
    }

    /// A client posts again what is finished: a life of its own begins.
    pub(crate) fn lives_again(&self, client: Client, now: Millis) {
        let mut state = self.state.lock().unwrap();
        match client {
            Client::Webhook(n) => {
                let found = state.webhook(n);
                found.promise.begin_again(now);
                // A late 2xx of an earlier life may still be recorded, and is a fact.
                found.got_before = if self.redis_is_sound { found.got } else { 0 };
            }
            Client::Event(event) => {
                state.events.lives_again(event, now);
                state.of_event(event).for_each(|(_, delivery)| delivery.got_by_then = delivery.got);
            }
        }
    }

    /// An operator wants a dead letter sent again, whose record may have ended.
    pub(crate) fn may_redrive(&self, what: Carried, is_forgotten: bool) {
        let mut state = self.state.lock().unwrap();
        match what {
            Carried::Delivery(delivery) => state.of(delivery).unwrap().budgets += 1,
            Carried::Page(event) => {
                state.events.may_double(event);
                if is_forgotten {
                    state.events.is_forgotten(event);
                }
                // A page may be repeated after the records of its deliveries have ended.
                state.of_event(event).for_each(|(_, delivery)| delivery.budgets += 1);
            }
        }
    }

    /// A dead letter was sent again.
    pub(crate) fn redriven(&self, what: Carried) {
        self.count(match what {
            Carried::Delivery(_) => "redriven",
            Carried::Page(_) => "event redriven",
        });
    }

    /// Those that posted something that is finished, and whose id nobody else has.
    pub(crate) fn finished(&self, archive: &Archive) -> Vec<Client> {
        let state = self.state.lock().unwrap();
        let is_done = |name: &DeliveryName, delivery: &KnownDelivery| {
            delivery.is_got() || archive.has(Carried::Delivery(*name), delivery.promise.posted_at)
        };
        let mut finished = Vec::new();
        for (name, delivery) in &state.deliveries {
            if let DeliveryName::Webhook(n) = *name
                && delivery.promise.holds()
                && state.is_alone(&delivery.promise.id)
                && is_done(name, delivery)
            {
                finished.push(Client::Webhook(n));
            }
        }
        for event in state.events.finished(archive) {
            let mut deliveries = state.deliveries.range(of_event(event));
            if deliveries.all(|(name, delivery)| !delivery.promise.accepted || is_done(name, delivery)) {
                finished.push(Client::Event(event));
            }
        }
        finished
    }

    /// What the record is named by of what a client posted.
    pub(crate) fn record_id(&self, client: Client) -> String {
        let mut state = self.state.lock().unwrap();
        match client {
            Client::Webhook(n) => state.webhook(n).promise.id.clone(),
            Client::Event(event) => state.events.record_id(event),
        }
    }

    /// The registry has this of an endpoint now.
    pub(crate) fn registry_has(&self, endpoint: usize, presence: Presence, wish: usize) {
        self.state.lock().unwrap().events.registry_has(endpoint, presence, wish);
    }

    /// A process took these messages.
    pub(crate) fn took<'t>(&self, process: usize, bodies: impl Iterator<Item = &'t str>) {
        let mut state = self.state.lock().unwrap();
        for body in bodies {
            let Some(of) = carried(body) else { continue };
            state.holding.entry(process).or_default().push(of);
            if let (Carried::Page(event), Ok(Envelope::Event(page))) =
                (of, Envelope::decode(&Bytes::from(body.to_owned())))
            {
                state.events.took(process, event, page);
            }
        }
    }

    /// A queue may have a message twice.
    pub(crate) fn doubled(&self, body: &str) {
        if let Some(Carried::Page(event)) = carried(body) {
            self.state.lock().unwrap().events.may_double(event);
        }
    }

    /// A process died: each of its deliveries may be attempted once more. A page that it may
    /// repeat explains no call: its deliveries are known.
    pub(crate) fn died(&self, process: usize) {
        let mut state = self.state.lock().unwrap();
        let held = state.holding.remove(&process).unwrap_or_default();
        // Its rows may be there still, and are sent again.
        let caught_up = state.caught_up.remove(&process).unwrap_or_default();
        let sent = |delivery: &&mut KnownDelivery| caught_up.contains(&delivery.promise.id);
        state.deliveries.values_mut().filter(sent).for_each(|delivery| delivery.excuses += 1);
        state.events.died(process);
        for carried in held {
            if let Carried::Delivery(delivery) = carried {
                state.of(delivery).unwrap().excuses += 1;
            }
        }
        for delivery in state.deliveries.values_mut() {
            delivery.live.retain(|other| *other != process);
        }
        drop(state);
        self.ended(process);
    }

    /// An answer was lost on the way.
    pub(crate) fn excuse(&self, call: &ReceiverCall<'_>) {
        let mut state = self.state.lock().unwrap();
        if let Some(delivery) = called(call).and_then(|delivery| state.of(delivery)) {
            delivery.excuses += 1;
        }
    }

    /// Queues took these messages.
    pub(crate) fn sent(&self, queue_name: QueueName, message: &Outgoing) {
        let envelope = Envelope::decode(&Bytes::from(message.body.clone()));
        let (name, message) = match (queue_name, carried(&message.body), envelope) {
            (QueueName::Event, Some(Carried::Page(event)), Ok(Envelope::Event(page))) => {
                return self.state.lock().unwrap().events.sent(event, &page);
            }
            (
                QueueName::Delivery | QueueName::Retry,
                Some(Carried::Delivery(name @ DeliveryName::OfEvent { .. })),
                Ok(Envelope::Deliver(message)),
            ) if queue_name == QueueName::Delivery || message.hop == 0 => (name, message),
            _ => return,
        };
        let DeliveryName::OfEvent { event, .. } = name else { return };
        let mut state = self.state.lock().unwrap();
        let posted_at = state.events.known[event].promise.posted_at;
        let delivery = state.of(name).unwrap();
        let promise = &mut delivery.promise;
        if message.delivery.accepted_at >= posted_at && !(promise.accepted && promise.posted_at >= posted_at) {
            (promise.accepted, promise.posted_at) = (true, posted_at);
            delivery.got_before = if self.redis_is_sound { delivery.got_by_then } else { 0 };
            delivery.budgets += 1;
        } else if !promise.accepted {
            // An earlier life of its event still goes on.
            promise.accepted = true;
            delivery.budgets += 1;
        }
    }

    /// History has rows of what endpoints are owed: each of those deliveries is as good as queued. It
    /// also says which of them are not sent any more.
    pub(crate) fn owed(&self, process: usize, rows: &[Row]) {
        let mut state = self.state.lock().unwrap();
        if state.caught_up.contains_key(&process) {
            let ended = rows.iter().filter_map(|row| serde_json::from_str::<EndedDelivery>(&row.body).ok());
            let given_up: Vec<String> = ended.map(|ended| ended.delivery_id()).collect();
            *state.tally.entry("owed and given up").or_default() += given_up.len() as u64;
            state.given_up.extend(given_up);
        }
        drop(state);
        for message in rows.iter().filter_map(|row| owed::message(row).ok()) {
            let message = Outgoing::new(message.encode().unwrap_or_default(), String::new(), 0);
            self.sent(QueueName::Delivery, &message);
            self.count("owed");
        }
    }

    /// A process fans out, or works on a job.
    pub(crate) fn fans_out(&self, process: usize) {
        self.state.lock().unwrap().caught_up.insert(process, BTreeSet::new());
    }

    /// A send failed, or seemed to fail.
    pub(crate) fn not_sent(&self, queue_name: QueueName, messages: &[Outgoing]) {
        let mut state = self.state.lock().unwrap();
        for message in messages {
            match carried(&message.body) {
                // A fan-out sends it again, and it is known then.
                Some(Carried::Delivery(DeliveryName::OfEvent { .. })) if queue_name == QueueName::Delivery => {}
                Some(Carried::Delivery(delivery)) => state.of(delivery).unwrap().excuses += 1,
                Some(Carried::Page(event)) => {
                    if let Ok(Envelope::Event(page)) = Envelope::decode(&Bytes::from(message.body.clone())) {
                        state.events.not_sent(event, &page);
                    }
                }
                // A late outcome has no payload. It is found by its id.
                None => {
                    if let Ok(Envelope::LateOutcomes(late)) = Envelope::decode(&Bytes::from(message.body.clone())) {
                        let unkept = deliveries_in(&late.rows);
                        let concerned = |delivery: &&mut KnownDelivery| unkept.contains(&delivery.promise.id);
                        state.deliveries.values_mut().filter(concerned).for_each(|delivery| delivery.unkept = true);
                        let events = late.rows.iter().filter_map(|row| row.event());
                        state.events.unkept.extend(events.map(|(tenant, event)| event_record_id(tenant, event)));
                    }
                    for delivery in state.deliveries.values_mut() {
                        delivery.unrecorded |= message.body.contains(&format!("\"id\":\"{}\"", delivery.promise.id));
                    }
                    state.events.not_recorded(&message.body);
                    *state.tally.entry("late outcome not queued").or_default() += 1;
                }
            }
        }
    }

    /// Checks what is sent: events are fanned out to who wants them, and of what is queued
    /// again every path waits, and none spends more than the budget.
    pub(crate) fn sends(&self, process: usize, queue_name: QueueName, message: &Outgoing) {
        let mut state = self.state.lock().unwrap();
        let envelope = match Envelope::decode(&Bytes::from(message.body.clone())) {
            Ok(envelope) => envelope,
            Err(error) => {
                state.fault = Some(format!("a message that nobody can read is queued: {error}"));
                return;
            }
        };
        match (queue_name, envelope, carried(&message.body)) {
            (QueueName::Event, Envelope::Event(page), Some(Carried::Page(event))) => {
                state.events.sends_page(event, &page);
            }
            (QueueName::Delivery, Envelope::Deliver(sent), of) => {
                if let Some(Carried::Delivery(DeliveryName::OfEvent { event, endpoint })) = of {
                    state.events.sends_delivery(process, event, endpoint, sent.delivery.accepted_at);
                }
            }
            (QueueName::Retry | QueueName::Wait | QueueName::Slow, envelope, of) => {
                if !(1..=900).contains(&message.delay_s) {
                    state.fault = Some(format!("a message is queued again after {} s", message.delay_s));
                }
                state.catches_up(process, &envelope, of);
                state.sends_again(envelope);
            }
            (QueueName::DeadLetter, _, _) => {}
            (QueueName::Event, Envelope::Event(page), None) if is_reserved_event_type(&page.event.event_type) => {
                *state.tally.entry("told").or_default() += 1;
            }
            (QueueName::Event, Envelope::Job(page), None) => {
                *state.tally.entry(page.job.kind()).or_default() += 1;
            }
            (QueueName::Event | QueueName::Delivery, envelope, _) => {
                state.fault = Some(format!("{} has a message of another queue: {envelope:?}", queue_name.as_str()));
            }
        }
    }

    /// A process wants to tell Redis something, whether or not that comes to it.
    pub(crate) fn tells(&self, calls: &[Call]) {
        let mut state = self.state.lock().unwrap();
        let State { events, deliveries, .. } = &mut *state;
        let is_sent = |event, endpoint, since| {
            let promise = &deliveries[&DeliveryName::OfEvent { event, endpoint }].promise;
            promise.accepted && promise.posted_at >= since
        };
        calls.iter().for_each(|call| events.tells(call, is_sent));
    }

    /// A process gets no answer of Redis.
    pub(crate) fn unheard(&self, calls: &[Call]) {
        let mut state = self.state.lock().unwrap();
        calls.iter().for_each(|call| state.events.unheard(call));
    }

    /// Counts what the scripts answered, and notes the probes that they admit.
    pub(crate) fn answered(&self, process: usize, call: &Call, reply: &Value) {
        let Call::Script { script, key, args } = call else { return };
        let words = if let Value::Array(words) = reply { words.as_slice() } else { std::slice::from_ref(reply) };
        let Some(Value::BulkString(word)) = words.first() else { return };
        if self.state.lock().unwrap().events.answered(call, word) {
            return;
        }
        let answer = match (script.name(), word.as_slice()) {
            ("claim", b"granted") => "granted",
            ("claim", b"busy") => "busy",
            ("claim", b"done") => "done",
            ("claim", b"crashed") => "claim crashed",
            ("claim" | "settle", b"stale") => "stale",
            ("claim" | "settle", b"foreign") => "foreign",
            ("settle", b"recorded") => "recorded",
            ("admit", b"refused") => "refused",
            ("admit", b"probe") => "probe",
            ("report" | "report_probe", b"open") => "opened",
            ("report" | "report_probe", b"closed") => "closed",
            _ => return,
        };
        self.count(answer);
        if answer == "probe" {
            let args: Vec<&str> = args.iter().collect();
            let (id, token) = (args[0], args[1]);
            self.probes(process, key, id, token);
        }
    }

    /// A process may probe the receiver of a breaker.
    fn probes(&self, process: usize, breaker: &str, id: &str, token: &str) {
        let mut state = self.state.lock().unwrap();
        // A probe that fails spends no attempt.
        for delivery in state.deliveries.values_mut().filter(|delivery| delivery.promise.id == id) {
            delivery.excuses += 1;
        }
        let probing = state.probing.entry(breaker.to_owned()).or_default();
        probing.insert((process, token.to_owned()));
        if probing.len() > 1 && self.redis_is_sound {
            state.fault = Some(format!("{breaker} has more than one live probe"));
        }
    }

    /// A process has ended, and its probes with it.
    pub(crate) fn ended(&self, process: usize) {
        let mut state = self.state.lock().unwrap();
        state.holding.remove(&process);
        state.caught_up.remove(&process);
        state.events.ended(process);
        for probing in state.probing.values_mut() {
            probing.retain(|(other, _)| *other != process);
        }
    }

    /// A process sends a command. A probe ends when its report is sent, since the next one
    /// may begin as soon as the script has run. A record may be gone as soon, too.
    pub(crate) fn asks(&self, process: usize, call: &Call) {
        let Call::Script { script, key, args } = call else { return };
        let mut state = self.state.lock().unwrap();
        state.events.asks(process, call);
        if script.name() == "report_probe" {
            let token = args.iter().next().unwrap_or_default().to_owned();
            state.probing.entry(key.clone()).or_default().remove(&(process, token));
        }
        if script.name() == "remove" {
            let of_key = |delivery: &&mut KnownDelivery| records::key(&delivery.promise.id) == *key;
            state.deliveries.values_mut().filter(of_key).for_each(|delivery| delivery.is_removed = true);
        }
    }

    /// A receiver is called.
    pub(crate) fn call(&self, process: usize, call: &ReceiverCall<'_>, now: Millis) -> (Answer, Option<Duration>) {
        let mut state = self.state.lock().unwrap();
        let Some(name) = called(call).filter(|name| state.deliveries.contains_key(name)) else {
            state.fault = Some("a payload is not the one that was sent".to_owned());
            return (Answer::Fault, None);
        };
        let chance = state.rng.bool();
        let redis_is_sound = self.redis_is_sound;
        let known = state.of(name).unwrap();
        known.calls += 1;
        known.live.push(process);
        // A page that comes back so late finds the records of its deliveries ended.
        let is_forgotten = known.got_at.is_some_and(|at| now >= at.after(DELIVERED));
        if is_forgotten && matches!(name, DeliveryName::OfEvent { .. }) {
            known.got_at = None;
            known.budgets += 1;
        }
        let (live, is_removed) = (known.live.len(), known.is_removed);
        let (answer, retry_after) = match (known.temper, chance) {
            (Temper::Healthy, _) | (Temper::Flaky | Temper::Busy, true) => (Answer::Status(200), None),
            (Temper::Flaky, false) | (Temper::Dead, true) => (Answer::Status(500), None),
            (Temper::Dead, false) => (Answer::Timeout, None),
            (Temper::Refusing, _) => (Answer::Status(404), None),
            (Temper::Gone, _) => (Answer::Status(410), None),
            (Temper::Busy, false) => (Answer::Status(429), Some(Duration::from_secs(2000))),
        };
        if answer == Answer::Status(200) {
            known.got += 1;
            known.got_at = Some(now);
        }
        if live > 1 && redis_is_sound && !is_removed {
            state.fault = Some(format!("{name:?} has {live} live attempts"));
        }
        *state.tally.entry("call").or_default() += 1;
        (answer, retry_after)
    }

    pub(crate) fn call_ended(&self, process: usize, call: &ReceiverCall<'_>) {
        let mut state = self.state.lock().unwrap();
        if let Some(delivery) = called(call).and_then(|delivery| state.of(delivery))
            && let Some(at) = delivery.live.iter().position(|other| *other == process)
        {
            delivery.live.swap_remove(at);
        }
    }

    /// Checks that nothing is lost: every delivery that is promised and that its receiver does
    /// not have is queued or archived, and so is every event that is not fanned out. `queued`
    /// are messages in queues: how many carry each delivery or event.
    pub(crate) fn check(&self, queued: &BTreeMap<Carried, usize>, archive: &Archive) {
        let state = self.state.lock().unwrap();
        for (name, delivery) in &state.deliveries {
            let carried = Carried::Delivery(*name);
            let is_open = delivery.promise.holds() && !delivery.is_got();
            let is_kept = queued.contains_key(&carried)
                || archive.has(carried, delivery.promise.posted_at)
                || state.given_up.contains(&delivery.promise.id);
            assert!(!is_open || is_kept, "{name:?} is lost: {delivery:?}");
        }
        let mut held: BTreeMap<usize, usize> = BTreeMap::new();
        for carried in state.holding.values().flatten() {
            if let Carried::Page(event) = carried {
                *held.entry(*event).or_default() += 1;
            }
        }
        state.events.check(queued, &held, archive);
    }

    /// What clients were promised: what each record is named by.
    pub(crate) fn promises(&self) -> Promises {
        let state = self.state.lock().unwrap();
        let deliveries = state.deliveries.iter().filter(|(_, delivery)| delivery.promise.accepted);
        let events = (0..state.events.known.len()).filter(|event| state.events.known[*event].promise.accepted);
        Promises {
            deliveries: deliveries.map(|(name, delivery)| (*name, delivery.promise.id.clone())).collect(),
            events: events.map(|event| (event, state.events.record_id(event))).collect(),
        }
    }

    /// At the end, the status says what happened. Where Redis lost data, it may be missing
    /// or old; such statuses are counted.
    pub(crate) fn check_status(&self, name: DeliveryName, status: Option<&str>, archive: &Archive) {
        let state = self.state.lock().unwrap();
        let delivery = &state.deliveries[&name];
        let given_up = state.given_up.contains(&delivery.promise.id);
        let archived = archive.has(Carried::Delivery(name), delivery.promise.posted_at) || given_up;
        // A duplicate of an earlier life may come after an operator has removed the record.
        let failed_once = archive.has(Carried::Delivery(name), BEGINNING) || given_up;
        let truth = match status {
            _ if !state.is_alone(&delivery.promise.id) => true,
            Some("delivered") => delivery.got > 0,
            Some("failed") => failed_once,
            // The record of a delivered one lives half an hour, and an operator may remove
            // what is finished.
            None => delivery.got > 0 || failed_once,
            Some(_) => false,
        };
        assert!(delivery.is_got() || archived, "{name:?} is neither delivered nor archived: {delivery:?}");
        if !truth {
            let unrecorded = delivery.unrecorded;
            assert!(!self.redis_keeps || unrecorded, "the status of {name:?} is {status:?}: {delivery:?}");
            drop(state);
            self.count(if unrecorded { "status unrecorded" } else { "status forgotten" });
        }
    }

    /// At the end, history has every delivery that ended, with calls that its receiver got. What
    /// neither history nor the queue took is missing, and is counted.
    pub(crate) fn check_kept(&self, name: DeliveryName, ends: &[EndedDelivery], archive: &Archive) {
        let state = self.state.lock().unwrap();
        let delivery = &state.deliveries[&name];
        if !state.is_alone(&delivery.promise.id) {
            return;
        }
        let has_ended = delivery.got > 0 || archive.has(Carried::Delivery(name), BEGINNING);
        if has_ended && ends.is_empty() {
            // Whoever came after a crash found no record to tell history from.
            assert!(delivery.unkept || delivery.is_removed, "history has no end of {name:?}: {delivery:?}");
            drop(state);
            self.count("row unrecorded");
            return;
        }
        // Whoever made the call may not have lived to tell of it.
        let told = !self.is_deadly && !delivery.unkept && delivery.excuses == 0;
        let is_delivered = ends.iter().any(EndedDelivery::is_delivered);
        assert!(!told || delivery.got == 0 || is_delivered, "history does not know that {name:?} arrived: {ends:?}");
        for end in ends {
            let codes = || end.history.attempts.iter().map(|attempt| attempt.code);
            assert!(end.history.count <= delivery.calls, "{name:?} was called {} times: {end:?}", delivery.calls);
            assert!(codes().all(|code| may_answer(delivery.temper, code)), "{:?}: {end:?}", delivery.temper);
            let arrived = codes().next_back().flatten() == Some(200);
            assert_eq!(arrived, end.is_delivered(), "{name:?}: {end:?}");
        }
        drop(state);
        self.count("end kept");
    }

    /// At the end, history has every event of which a delivery was made.
    pub(crate) fn check_event_kept(&self, event: usize, is_kept: bool) {
        let state = self.state.lock().unwrap();
        let mut deliveries = state.deliveries.range(of_event(event));
        let was_sent = deliveries.any(|(_, delivery)| delivery.promise.accepted);
        let excused = state.events.unkept.contains(&state.events.record_id(event));
        assert!(!was_sent || is_kept || excused, "history has nothing of event {event}");
    }

    /// At the end, every event is fanned out or archived, and its record says so.
    pub(crate) fn check_event(&self, event: usize, status: Option<&str>, matched: Option<usize>, archive: &Archive) {
        self.state.lock().unwrap().events.check_end(event, status, matched, archive);
    }

    /// Nobody is called more often than the budget and the faults explain.
    pub(crate) fn check_calls(&self) {
        let state = self.state.lock().unwrap();
        for (name, delivery) in &state.deliveries {
            let forgotten = if delivery.is_removed { 3 } else { 1 };
            let budgets = delivery.budgets + delivery.caught_up;
            let most = (if self.redis_is_sound { 4 } else { 40 } + delivery.excuses) * budgets * forgotten;
            assert!(delivery.calls <= most, "{name:?} was called {} times: {delivery:?}", delivery.calls);
            // A receiver that has it is called again only when a fault explains it.
            let known = self.redis_is_sound && !delivery.is_removed;
            let repeated = known && delivery.got > delivery.budgets + delivery.excuses;
            assert!(!repeated, "{name:?} was delivered {} times: {delivery:?}", delivery.got);
            let is_refused = match *name {
                DeliveryName::Webhook(_) => delivery.promise.is_refused(),
                DeliveryName::OfEvent { event, .. } => state.events.known[event].promise.is_refused(),
            };
            assert!(!(is_refused && delivery.got > 0), "{name:?} was refused and delivered: {delivery:?}");
        }
    }
}

/// The names of an event's deliveries.
fn of_event(event: usize) -> RangeInclusive<DeliveryName> {
    DeliveryName::OfEvent { event, endpoint: 0 }..=DeliveryName::OfEvent { event, endpoint: ENDPOINTS }
}

impl State {
    /// What a process that fans out queues among retries is what an endpoint was owed, or, as its first
    /// message, what was to be owed and history did not take.
    fn catches_up(&mut self, process: usize, envelope: &Envelope, of: Option<Carried>) {
        let (Some(sent), Envelope::Deliver(message)) = (self.caught_up.get_mut(&process), envelope) else { return };
        let delivery = &message.delivery;
        if let (0, Some(Carried::Delivery(DeliveryName::OfEvent { event, endpoint }))) = (message.hop, of) {
            self.events.sends_delivery(process, event, endpoint, delivery.accepted_at);
            *self.tally.entry("queued instead of owed").or_default() += 1;
            return;
        }
        sent.insert(delivery.id.clone());
        let begun = self.deliveries.values_mut().filter(|known| known.promise.id == delivery.id);
        begun.for_each(|known| known.caught_up += 1);
        *self.tally.entry("caught up").or_default() += 1;
    }

    /// Checks what is queued again.
    fn sends_again(&mut self, envelope: Envelope) {
        match &envelope {
            Envelope::LateOutcomes(_) => *self.tally.entry("late outcome").or_default() += 1,
            Envelope::Deliver(message) => {
                *self.tally.entry("successor").or_default() += 1;
                let (spent, called) = (u32::from(message.attempts), message.calls());
                // Each attempt was a call. The first failed probe is a call that spends none.
                if spent > called || called > spent + 1 {
                    self.fault = Some(format!("{spent} attempts are spent by {called} calls: {message:?}"));
                }
                if spent > 3 {
                    self.fault = Some(format!("a successor has spent too much: {message:?}"));
                }
            }
            Envelope::Event(_) | Envelope::Job(_) => {
                self.fault = Some(format!("no delivery is queued among deliveries: {envelope:?}"));
            }
        }
    }
}
