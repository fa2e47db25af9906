//! What is true, as an outside observer knows it: what clients were promised, what
//! receivers got, and which rules were broken on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adapters::redis::Call;
use adapters::sqs::{Lane, Outgoing};
use bytes::Bytes;
use domain::message::{Envelope, Message};
use domain::outcome::Answer;
use domain::time::Millis;
use fastrand::Rng;
use redis::Value;

use super::{Weather, tempers};
use crate::world::BEGINNING;

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

#[derive(Debug)]
struct Delivery {
    id: String,
    temper: Temper,
    expires_at: Option<Millis>,
    accepted: bool,
    refused: bool,
    /// Requests that its client made.
    asked: u32,
    /// How often its receiver said 200.
    got: u32,
    calls: u32,
    /// Faults that may each cost one more call.
    excuses: u32,
    /// An outcome that neither Redis nor the queue took.
    unrecorded: bool,
    /// Processes that are calling its receiver now, once for each call.
    live: Vec<usize>,
}

struct State {
    rng: Rng,
    deliveries: Vec<Delivery>,
    tally: Tally,
    holding: BTreeMap<usize, BTreeSet<usize>>,
    /// Processes whose probe is out, by breaker.
    probing: BTreeMap<String, BTreeSet<(usize, String)>>,
    fault: Option<String>,
}

/// The observer's books.
pub(crate) struct Books {
    state: Mutex<State>,
    redis_is_sound: bool,
    redis_keeps: bool,
}

impl Books {
    pub(crate) fn new(rng: &mut Rng, count: usize, weather: &Weather) -> Arc<Self> {
        let deliveries = (0..count)
            .map(|n| Delivery {
                // Where Redis may be away, two bodies may meet under one id.
                id: if !weather.redis_is_sound() && n > 0 && rng.u8(0..12) == 0 {
                    format!("d-{}", n - 1)
                } else {
                    format!("d-{n}")
                },
                temper: tempers()[rng.usize(0..tempers().len())],
                expires_at: (rng.u8(0..6) == 0).then(|| BEGINNING.after(Duration::from_secs(rng.u64(20..2000)))),
                accepted: false,
                refused: false,
                asked: 0,
                got: 0,
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
        };
        Arc::new(Self {
            state: Mutex::new(state),
            redis_is_sound: weather.redis_is_sound(),
            redis_keeps: weather.redis_keeps(),
        })
    }

    /// What tells one payload from all others.
    pub(crate) fn mark(delivery: usize) -> String {
        format!("{{\"n\":{delivery}}}")
    }

    fn marked(text: &str) -> Option<usize> {
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
        let Delivery { id, expires_at, .. } = &state.deliveries[delivery];
        let expires_at = expires_at.map(|at| format!(",\"expires_at\":\"{at}\"")).unwrap_or_default();
        format!(
            "{{\"webhook_url\":\"http://127.0.0.1:{}/{delivery}\",\"payload\":{},\"reference_id\":\"{id}\"{expires_at}}}",
            1 + delivery % DESTINATIONS,
            Self::mark(delivery)
        )
    }

    pub(crate) fn accepted(&self, delivery: usize) {
        self.state.lock().unwrap().deliveries[delivery].accepted = true;
        self.count("accepted");
    }

    pub(crate) fn refused(&self, delivery: usize) {
        self.state.lock().unwrap().deliveries[delivery].refused = true;
        self.count("id conflict");
    }

    /// A client whose deadline has passed gives up.
    pub(crate) fn too_late(&self, delivery: usize) {
        self.state.lock().unwrap().deliveries[delivery].refused = true;
        self.count("client too late");
    }

    /// Accepted, and its receiver does not have it yet.
    pub(crate) fn unfinished(&self) -> Vec<usize> {
        let state = self.state.lock().unwrap();
        let all = state.deliveries.iter().enumerate();
        all.filter(|(_, delivery)| delivery.accepted && delivery.got == 0).map(|(n, _)| n).collect()
    }

    pub(crate) fn all_accepted(&self) -> Vec<usize> {
        let state = self.state.lock().unwrap();
        state.deliveries.iter().enumerate().filter(|(_, delivery)| delivery.accepted).map(|(n, _)| n).collect()
    }

    pub(crate) fn id(&self, delivery: usize) -> String {
        self.state.lock().unwrap().deliveries[delivery].id.clone()
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

    /// A send that failed, or seemed to.
    pub(crate) fn not_sent(&self, messages: &[Outgoing]) {
        let mut state = self.state.lock().unwrap();
        for message in messages {
            match Self::marked(&message.body) {
                Some(delivery) => state.deliveries[delivery].excuses += 1,
                // An outcome has no payload; it is told by its id.
                None => {
                    for delivery in &mut state.deliveries {
                        delivery.unrecorded |= message.body.contains(&format!("\"id\":\"{}\"", delivery.id));
                    }
                    *state.tally.entry("outcome not queued").or_default() += 1;
                }
            }
        }
    }

    /// Looks at what is queued: no path queues again at once, none spends more
    /// than the budget.
    pub(crate) fn sends(&self, lane: Lane, message: &Outgoing) {
        let mut state = self.state.lock().unwrap();
        if lane == Lane::Retry && !(1..=900).contains(&message.delay_s) {
            state.fault = Some(format!("a message is queued again after {} s", message.delay_s));
        }
        // What was spent was called: an open breaker or a failed probe spends nothing.
        if lane == Lane::Retry
            && let Ok(Envelope::Deliver(message)) = Envelope::decode(&Bytes::from(message.body.clone()))
        {
            let (spent, called) = (u32::from(message.attempt), message.history.count);
            if spent > called || called > spent + message.parked {
                state.fault = Some(format!("{spent} attempts are spent by {called} calls: {message:?}"));
            }
        }
        if lane == Lane::Retry {
            let outcome = message.body.contains("\"kind\":\"outcome\"");
            *state.tally.entry(if outcome { "outcome message" } else { "successor" }).or_default() += 1;
            if !outcome && !(0..=3).any(|n| message.body.contains(&format!("\"attempt\":{n},"))) {
                state.fault = Some(format!("a successor has spent too much: {}", message.body));
            }
        }
    }

    /// Counts what the scripts said, and watches the probes.
    pub(crate) fn answered(&self, process: usize, call: &Call, reply: &Value) {
        let Call::Script { key, args, .. } = call else { return };
        let args: Vec<&str> = args.iter().collect();
        let words = if let Value::Array(words) = reply { words.as_slice() } else { std::slice::from_ref(reply) };
        let Some(Value::BulkString(word)) = words.first() else { return };
        let said = match word.as_slice() {
            b"granted" => "granted",
            b"busy" => "busy",
            b"done" => "done",
            b"stale" => "stale",
            b"foreign" => "foreign",
            b"crashed" => "claim crashed",
            b"recorded" => "recorded",
            b"refused" => "refused",
            b"probe" => "probe",
            b"open" => "opened",
            b"closed" => "closed",
            _ => return,
        };
        self.count(said);
        let mut state = self.state.lock().unwrap();
        if said == "probe" {
            // A probe that fails spends no attempt.
            for delivery in state.deliveries.iter_mut().filter(|delivery| delivery.id == args[0]) {
                delivery.excuses += 1;
            }
            let probing = state.probing.entry(key.clone()).or_default();
            probing.insert((process, args[1].to_owned()));
            if probing.len() > 1 && self.redis_is_sound {
                state.fault = Some(format!("{key} has more than one live probe"));
            }
        }
    }

    /// A process has ended, and its probes with it.
    pub(crate) fn ended(&self, process: usize) {
        for probing in self.state.lock().unwrap().probing.values_mut() {
            probing.retain(|(other, _)| *other != process);
        }
    }

    /// A process reports its probe: before the script runs, so that the next one
    /// cannot be there too early.
    pub(crate) fn asks(&self, process: usize, call: &Call) {
        let Call::Script { key, args, .. } = call else { return };
        let args: Vec<&str> = args.iter().collect();
        // The report of a probe: six arguments, the third of which is one verdict.
        if key.starts_with("circuit_breaker:") && args.len() == 6 && args[2].len() == 1 {
            self.state.lock().unwrap().probing.entry(key.clone()).or_default().remove(&(process, args[0].to_owned()));
        }
    }

    /// A receiver is called.
    pub(crate) fn call(&self, process: usize, message: &Message) -> (Answer, Option<Duration>) {
        let mut state = self.state.lock().unwrap();
        let text = std::str::from_utf8(&message.payload).unwrap_or_default();
        let Some(n) = Self::marked(text) else {
            state.fault = Some("a payload was changed".to_owned());
            return (Answer::Fault, None);
        };
        let chance = state.rng.bool();
        let redis_is_sound = self.redis_is_sound;
        let delivery = &mut state.deliveries[n];
        delivery.calls += 1;
        delivery.live.push(process);
        let live = delivery.live.len();
        let (answer, retry_after) = match (delivery.temper, chance) {
            (Temper::Healthy, _) | (Temper::Flaky | Temper::Busy, true) => (Answer::Status(200), None),
            (Temper::Flaky, false) | (Temper::Dead, true) => (Answer::Status(500), None),
            (Temper::Dead, false) => (Answer::Timeout, None),
            (Temper::Refusing, _) => (Answer::Status(404), None),
            (Temper::Gone, _) => (Answer::Status(410), None),
            (Temper::Busy, false) => (Answer::Status(429), Some(Duration::from_secs(2000))),
        };
        if answer == Answer::Status(200) {
            delivery.got += 1;
        }
        if live > 1 && redis_is_sound {
            state.fault = Some(format!("delivery {n} has {live} live attempts"));
        }
        *state.tally.entry("call").or_default() += 1;
        (answer, retry_after)
    }

    pub(crate) fn call_ended(&self, process: usize, message: &Message) {
        let text = std::str::from_utf8(&message.payload).unwrap_or_default();
        if let Some(n) = Self::marked(text) {
            let live = &mut self.state.lock().unwrap().deliveries[n].live;
            if let Some(at) = live.iter().position(|other| *other == process) {
                live.swap_remove(at);
            }
        }
    }

    /// At the end the status says what happened. Where Redis forgot, it may be
    /// missing or old: those are counted.
    pub(crate) fn check_status(&self, seed: u64, n: usize, status: Option<&str>, archived: bool) {
        let state = self.state.lock().unwrap();
        let delivery = &state.deliveries[n];
        let shared = state.deliveries.iter().filter(|other| other.id == delivery.id).count() > 1;
        let truth = match status {
            _ if shared => true,
            Some("delivered") => delivery.got > 0,
            Some("failed") => archived,
            // A delivered record lives half an hour.
            None => delivery.got > 0,
            Some(_) => false,
        };
        let finished = delivery.got > 0 || archived;
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
            let most = if self.redis_is_sound { 4 } else { 40 } + delivery.excuses;
            assert!(
                delivery.calls <= most,
                "seed {seed}: delivery {n} was called {} times: {delivery:?}",
                delivery.calls
            );
            // A receiver that has it is only called again where a fault explains it.
            let repeated = self.redis_is_sound && delivery.got > 1 + delivery.excuses;
            assert!(!repeated, "seed {seed}: {n} was delivered {} times: {delivery:?}", delivery.got);
            // Unless an earlier request of the same client got no answer.
            let told = delivery.refused && delivery.asked == 1;
            assert!(!(told && delivery.got > 0), "seed {seed}: {n} was refused and delivered: {delivery:?}");
        }
    }
}
