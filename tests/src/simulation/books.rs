//! The books of an observer outside the system: what clients were promised, what receivers
//! got, and which rules were broken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adapters::aws::sqs::{Outgoing, QueueName};
use adapters::receiver_client::ReceiverCall;
use adapters::redis::transport::Call;
use bytes::Bytes;
use domain::dead_letter::DeadLetter;
use domain::endpoint::Card;
use domain::identity::delivery_id;
use domain::message::{Envelope, Message};
use domain::outcome::Answer;
use domain::time::Millis;
use fastrand::Rng;
use redis::Value;

use super::{Weather, tempers};
use crate::endpoints::{endpoint_id, message};
use crate::world::BEGINNING;

/// How many endpoints there are.
pub(crate) const ENDPOINTS: usize = 4;
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

/// What is known of one delivery.
#[derive(Debug)]
struct KnownDelivery {
    id: String,
    /// The number of the endpoint that it goes to, unless it is a direct webhook.
    endpoint: Option<usize>,
    temper: Temper,
    expires_at: Option<Millis>,
    accepted: bool,
    refused: bool,
    /// Requests that its client made.
    asked: u32,
    /// When its client posted it for the first time in its present life.
    posted_at: Millis,
    /// Whether that is a life after the first, which is not accepted yet.
    again: bool,
    /// How often its receiver said 200.
    got: u32,
    /// How often it had before its present life.
    got_before: u32,
    /// Budgets that it may spend: one for each life and each redrive.
    budgets: u32,
    calls: u32,
    /// Faults that may each cost one more call.
    excuses: u32,
    /// Whether an outcome of it reached neither Redis nor the queue.
    unrecorded: bool,
    /// Processes that are calling its receiver now, once for each call.
    live: Vec<usize>,
}

struct State {
    rng: Rng,
    deliveries: Vec<KnownDelivery>,
    tally: Tally,
    holding: BTreeMap<usize, BTreeSet<usize>>,
    /// Processes whose probe is out, by breaker.
    probing: BTreeMap<String, BTreeSet<(usize, String)>>,
    fault: Option<String>,
    /// Whether an operator removed what was finished.
    cleaned: bool,
}

/// The observer's books.
pub(crate) struct Books {
    state: Mutex<State>,
    redis_is_sound: bool,
    redis_keeps: bool,
}

impl Books {
    pub(crate) fn new(rng: &mut Rng, count: usize, weather: &Weather) -> Arc<Self> {
        // Every third delivery goes to an endpoint.
        let endpoint = |n: usize| (n % 3 == 2).then_some(n % ENDPOINTS);
        let deliveries = (0..count)
            .map(|n| KnownDelivery {
                endpoint: endpoint(n),
                id: match endpoint(n) {
                    Some(endpoint) => delivery_id(&format!("d-{n}"), &endpoint_id(endpoint), None),
                    // While Redis is away, two bodies may be accepted under one id.
                    None if !weather.redis_is_sound() && n % 3 == 1 && rng.u8(0..8) == 0 => format!("d-{}", n - 1),
                    None => format!("d-{n}"),
                },
                temper: tempers()[rng.usize(0..tempers().len())],
                expires_at: (rng.u8(0..6) == 0).then(|| BEGINNING.after(Duration::from_secs(rng.u64(20..2000)))),
                accepted: false,
                refused: false,
                asked: 0,
                posted_at: BEGINNING,
                again: false,
                got: 0,
                got_before: 0,
                budgets: 0,
                calls: 0,
                excuses: 0,
                unrecorded: false,
                live: Vec::new(),
            })
            .collect();
        let state = State {
            rng: Rng::with_seed(rng.u64(..)),
            deliveries,
            tally: Tally::new(),
            holding: BTreeMap::new(),
            probing: BTreeMap::new(),
            fault: None,
            cleaned: false,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            redis_is_sound: weather.redis_is_sound(),
            redis_keeps: weather.redis_keeps(),
        })
    }

    /// The payload of a delivery. No other delivery has it.
    pub(crate) fn mark(delivery: usize) -> String {
        format!("{{\"n\":{delivery}}}")
    }

    pub(crate) fn marked(text: &str) -> Option<usize> {
        let (_, rest) = text.split_once("{\"n\":")?;
        rest.split_once('}')?.0.parse().ok()
    }

    pub(crate) fn count(&self, what: &'static str) {
        *self.state.lock().unwrap().tally.entry(what).or_default() += 1;
    }

    pub(crate) fn tally(&self) -> Tally {
        self.state.lock().unwrap().tally.clone()
    }

    pub(crate) fn fault(&self) -> Option<String> {
        self.state.lock().unwrap().fault.clone()
    }

    /// The JSON that the client sends.
    pub(crate) fn request(&self, delivery: usize) -> String {
        let mut state = self.state.lock().unwrap();
        state.deliveries[delivery].asked += 1;
        let cleaned = state.cleaned;
        let found = &mut state.deliveries[delivery];
        // A request that is repeated after a cleanup is a delivery of its own.
        found.budgets += u32::from(found.asked == 1 || found.again || cleaned);
        let KnownDelivery { id, expires_at, .. } = found;
        let expires_at = expires_at.map(|at| format!(",\"expires_at\":\"{at}\"")).unwrap_or_default();
        format!(
            "{{\"webhook_url\":\"http://127.0.0.1:{}/{delivery}\",\"payload\":{},\"reference_id\":\"{id}\"{expires_at}}}",
            1 + delivery % DESTINATIONS,
            Self::mark(delivery)
        )
    }

    /// The endpoint that a delivery goes to, if it does.
    pub(crate) fn endpoint(&self, delivery: usize) -> Option<usize> {
        self.state.lock().unwrap().deliveries[delivery].endpoint
    }

    /// The message that a fan-out sends to an endpoint.
    pub(crate) fn message(&self, delivery: usize, card: &Card, now: Millis) -> Message {
        drop(self.request(delivery));
        let mut state = self.state.lock().unwrap();
        let found = &mut state.deliveries[delivery];
        // All messages of one event say the same.
        if found.asked == 1 {
            found.posted_at = now;
        }
        let mut message = message(card, &format!("d-{delivery}"), &Self::mark(delivery), found.posted_at);
        message.delivery.deadline = now.after(Duration::from_secs(3600));
        message
    }

    /// A client got a 202; `known` if the answer calls it a duplicate. Then nothing new was
    /// promised.
    pub(crate) fn accepted(&self, delivery: usize, known: bool) {
        let mut state = self.state.lock().unwrap();
        let found = &mut state.deliveries[delivery];
        found.accepted = true;
        if found.again && known {
            found.posted_at = BEGINNING;
            found.got_before = 0;
        }
        let what = if found.again && !known { "accepted again" } else { "accepted" };
        found.again = false;
        drop(state);
        self.count(what);
    }

    pub(crate) fn refused(&self, delivery: usize) {
        self.not_accepted(delivery);
        self.count("id conflict");
    }

    /// A client gives up, because the deadline that it asks for has passed.
    pub(crate) fn too_late(&self, delivery: usize) {
        self.not_accepted(delivery);
        self.count("client too late");
    }

    fn not_accepted(&self, delivery: usize) {
        let mut state = self.state.lock().unwrap();
        let found = &mut state.deliveries[delivery];
        if found.again {
            (found.again, found.posted_at, found.got_before) = (false, BEGINNING, 0);
        } else {
            found.refused = true;
        }
    }

    /// A client posts a finished delivery again: a life of its own begins.
    pub(crate) fn lives_again(&self, delivery: usize, now: Millis) {
        let mut state = self.state.lock().unwrap();
        let found = &mut state.deliveries[delivery];
        found.again = true;
        found.posted_at = now;
        // A late 2xx of an earlier life may still be recorded, and is a fact.
        found.got_before = if self.redis_is_sound { found.got } else { 0 };
    }

    /// An operator wants a dead letter of it sent again.
    pub(crate) fn may_redrive(&self, delivery: usize) {
        self.state.lock().unwrap().deliveries[delivery].budgets += 1;
    }

    /// A dead letter of it was sent again.
    pub(crate) fn redriven(&self, _delivery: usize) {
        self.count("redriven");
    }

    /// Whether a dead letter of its present life is filed.
    pub(crate) fn is_archived(&self, delivery: usize, filed: &BTreeMap<String, DeadLetter>) -> bool {
        let posted_at = self.state.lock().unwrap().deliveries[delivery].posted_at;
        Self::is_archived_since(posted_at, delivery, filed)
    }

    fn is_archived_since(posted_at: Millis, delivery: usize, filed: &BTreeMap<String, DeadLetter>) -> bool {
        filed.values().any(|letter| {
            let payload = letter.payload.as_ref().map(|payload| payload.get());
            payload.and_then(Self::marked) == Some(delivery) && letter.accepted_at >= posted_at
        })
    }

    /// Deliveries that are finished, and whose id no other delivery has.
    pub(crate) fn finished(&self, filed: &BTreeMap<String, DeadLetter>) -> Vec<usize> {
        let state = self.state.lock().unwrap();
        let alone = |id: &str| state.deliveries.iter().filter(|other| other.id == id).count() == 1;
        let done: Vec<(usize, bool)> = state
            .deliveries
            .iter()
            .enumerate()
            .filter(|(_, delivery)| delivery.accepted && !delivery.again && alone(&delivery.id))
            .map(|(n, delivery)| (n, delivery.got > delivery.got_before))
            .collect();
        drop(state);
        done.into_iter().filter(|(n, got)| *got || self.is_archived(*n, filed)).map(|(n, _)| n).collect()
    }

    /// Deliveries that are accepted and that their receivers do not have yet.
    pub(crate) fn unfinished(&self) -> Vec<usize> {
        let state = self.state.lock().unwrap();
        let all = state.deliveries.iter().enumerate();
        all.filter(|(_, delivery)| delivery.accepted && !delivery.again && delivery.got <= delivery.got_before)
            .map(|(n, _)| n)
            .collect()
    }

    pub(crate) fn all_accepted(&self) -> Vec<usize> {
        let state = self.state.lock().unwrap();
        state.deliveries.iter().enumerate().filter(|(_, delivery)| delivery.accepted).map(|(n, _)| n).collect()
    }

    pub(crate) fn id(&self, delivery: usize) -> String {
        self.state.lock().unwrap().deliveries[delivery].id.clone()
    }

    /// An operator removes what is finished.
    pub(crate) fn cleans(&self) {
        self.state.lock().unwrap().cleaned = true;
    }

    /// A process took these messages.
    pub(crate) fn took<'t>(&self, process: usize, bodies: impl Iterator<Item = &'t str>) {
        let holding = bodies.filter_map(Self::marked).collect();
        self.state.lock().unwrap().holding.insert(process, holding);
    }

    /// A process died: each of its deliveries may be attempted once more.
    pub(crate) fn died(&self, process: usize) {
        self.ended(process);
        let mut state = self.state.lock().unwrap();
        for delivery in state.holding.remove(&process).unwrap_or_default() {
            state.deliveries[delivery].excuses += 1;
        }
        for delivery in &mut state.deliveries {
            delivery.live.retain(|other| *other != process);
        }
    }

    /// An answer was lost on the way.
    pub(crate) fn excuse(&self, payload: &[u8]) {
        if let Some(delivery) = std::str::from_utf8(payload).ok().and_then(Self::marked) {
            self.state.lock().unwrap().deliveries[delivery].excuses += 1;
        }
    }

    /// A send failed, or seemed to fail.
    pub(crate) fn not_sent(&self, messages: &[Outgoing]) {
        let mut state = self.state.lock().unwrap();
        for message in messages {
            match Self::marked(&message.body) {
                Some(delivery) => state.deliveries[delivery].excuses += 1,
                // A late outcome has no payload. It is found by its id.
                None => {
                    for delivery in &mut state.deliveries {
                        delivery.unrecorded |= message.body.contains(&format!("\"id\":\"{}\"", delivery.id));
                    }
                    *state.tally.entry("late outcome not queued").or_default() += 1;
                }
            }
        }
    }

    /// Checks what is queued again: every path waits, and none spends more than the budget.
    pub(crate) fn sends(&self, queue_name: QueueName, message: &Outgoing) {
        if !matches!(queue_name, QueueName::Retry | QueueName::Wait) {
            return;
        }
        let mut state = self.state.lock().unwrap();
        if !(1..=900).contains(&message.delay_s) {
            state.fault = Some(format!("a message is queued again after {} s", message.delay_s));
        }
        match Envelope::decode(&Bytes::from(message.body.clone())) {
            Ok(Envelope::LateOutcomes(_)) => *state.tally.entry("late outcome").or_default() += 1,
            Ok(Envelope::Deliver(message)) => {
                *state.tally.entry("successor").or_default() += 1;
                let (spent, called) = (u32::from(message.attempts), message.history.count);
                // Each attempt was a call. The first failed probe is a call that spends none.
                if spent > called || called > spent + 1 {
                    state.fault = Some(format!("{spent} attempts are spent by {called} calls: {message:?}"));
                }
                if spent > 3 {
                    state.fault = Some(format!("a successor has spent too much: {message:?}"));
                }
            }
            Err(error) => state.fault = Some(format!("a message that nobody can read is queued: {error}")),
        }
    }

    /// Counts what the scripts answered, and notes the probes that they admit.
    pub(crate) fn answered(&self, process: usize, call: &Call, reply: &Value) {
        let Call::Script { script, key, args } = call else { return };
        let words = if let Value::Array(words) = reply { words.as_slice() } else { std::slice::from_ref(reply) };
        let Some(Value::BulkString(word)) = words.first() else { return };
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
        for delivery in state.deliveries.iter_mut().filter(|delivery| delivery.id == id) {
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
        for probing in self.state.lock().unwrap().probing.values_mut() {
            probing.retain(|(other, _)| *other != process);
        }
    }

    /// A process sends a command. A probe ends when its report is sent, since the next one
    /// may begin as soon as the script has run.
    pub(crate) fn asks(&self, process: usize, call: &Call) {
        let Call::Script { script, key, args } = call else { return };
        if script.name() == "report_probe" {
            let token = args.iter().next().unwrap_or_default().to_owned();
            self.state.lock().unwrap().probing.entry(key.clone()).or_default().remove(&(process, token));
        }
    }

    /// A receiver is called.
    pub(crate) fn call(&self, process: usize, call: &ReceiverCall<'_>) -> (Answer, Option<Duration>) {
        let mut state = self.state.lock().unwrap();
        let text = std::str::from_utf8(call.payload).unwrap_or_default();
        let Some(n) = Self::marked(text) else {
            state.fault = Some("a payload is not the one that was sent".to_owned());
            return (Answer::Fault, None);
        };
        let chance = state.rng.bool();
        let redis_is_sound = self.redis_is_sound;
        let known = &mut state.deliveries[n];
        known.calls += 1;
        known.live.push(process);
        let live = known.live.len();
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
        }
        if live > 1 && redis_is_sound {
            state.fault = Some(format!("delivery {n} has {live} live attempts"));
        }
        *state.tally.entry("call").or_default() += 1;
        (answer, retry_after)
    }

    pub(crate) fn call_ended(&self, process: usize, call: &ReceiverCall<'_>) {
        let text = std::str::from_utf8(call.payload).unwrap_or_default();
        if let Some(n) = Self::marked(text) {
            let live = &mut self.state.lock().unwrap().deliveries[n].live;
            if let Some(at) = live.iter().position(|other| *other == process) {
                live.swap_remove(at);
            }
        }
    }

    /// At the end, the status says what happened. Where Redis lost data, it may be missing
    /// or old; such statuses are counted.
    pub(crate) fn check_status(&self, seed: u64, n: usize, status: Option<&str>, filed: &BTreeMap<String, DeadLetter>) {
        let archived = self.is_archived(n, filed);
        // A duplicate of an earlier life may come after an operator has removed the record.
        let failed_once = Self::is_archived_since(BEGINNING, n, filed);
        let state = self.state.lock().unwrap();
        let delivery = &state.deliveries[n];
        let shared = state.deliveries.iter().filter(|other| other.id == delivery.id).count() > 1;
        let truth = match status {
            _ if shared => true,
            Some("delivered") => delivery.got > 0,
            Some("failed") => failed_once,
            // The record of a delivered one lives half an hour, and an operator may remove
            // what is finished.
            None => delivery.got > 0 || failed_once,
            Some(_) => false,
        };
        let finished = delivery.got > delivery.got_before || archived;
        let (unrecorded, text) = (delivery.unrecorded, format!("{delivery:?}"));
        drop(state);
        assert!(finished, "seed {seed}: delivery {n} is neither delivered nor archived: {text}");
        if !truth {
            assert!(!self.redis_keeps || unrecorded, "seed {seed}: the status of {n} is {status:?}: {text}");
            self.count(if unrecorded { "status unrecorded" } else { "status forgotten" });
        }
    }

    /// Nobody is called more often than the budget and the faults explain.
    pub(crate) fn check_calls(&self, seed: u64) {
        let state = self.state.lock().unwrap();
        for (n, delivery) in state.deliveries.iter().enumerate() {
            let forgotten = if state.cleaned { 3 } else { 1 };
            let most = (if self.redis_is_sound { 4 } else { 40 } + delivery.excuses) * delivery.budgets * forgotten;
            assert!(
                delivery.calls <= most,
                "seed {seed}: delivery {n} was called {} times: {delivery:?}",
                delivery.calls
            );
            // A receiver that has it is called again only when a fault explains it.
            // Where an operator removed records at once, duplicates are not known any more.
            let repeated = self.redis_is_sound && !state.cleaned && delivery.got > delivery.budgets + delivery.excuses;
            assert!(!repeated, "seed {seed}: {n} was delivered {} times: {delivery:?}", delivery.got);
            // An earlier request of the same client may have got no answer.
            let told = delivery.refused && delivery.asked == 1;
            assert!(!(told && delivery.got > 0), "seed {seed}: {n} was refused and delivered: {delivery:?}");
        }
    }
}
