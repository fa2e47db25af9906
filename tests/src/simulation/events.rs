//! The books of events: which endpoints must get one and which must not, how often each page
//! was worked on, and whether an event was lost on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use adapters::redis::records;
use adapters::redis::transport::Call;
use domain::event::EventPage;
use domain::identity::{body_hash, event_record_id};
use domain::record_rules::MAX_CRASHES;
use domain::time::Millis;
use fastrand::Rng;

use super::Weather;
use super::books::{ENDPOINTS, Promise, Tally};
use super::marks::{Archive, Carried, event_payload};
use crate::endpoints::{TENANT, endpoint_id};
use crate::world::BEGINNING;

/// What endpoints may want: event types, a filter, and which events that comes to, by number
/// and by whether they are orders. The simulation asks no matcher.
pub(crate) struct Wish {
    pub(crate) event_types: &'static [&'static str],
    pub(crate) filter: Option<&'static str>,
    wants: fn(usize, bool) -> bool,
}

/// The wishes that endpoints are drawn from.
pub(crate) const WISHES: [Wish; 8] = [
    Wish { event_types: &[], filter: None, wants: |_, _| true },
    Wish { event_types: &["order.paid"], filter: None, wants: |_, is_order| is_order },
    Wish { event_types: &["user.*", "order.made"], filter: None, wants: |_, is_order| !is_order },
    Wish { event_types: &["order.*"], filter: None, wants: |_, is_order| is_order },
    Wish { event_types: &["order", "users.*"], filter: None, wants: |_, _| false },
    Wish { event_types: &["user.made", "order.*"], filter: None, wants: |_, _| true },
    Wish { event_types: &[], filter: Some(r#"{"payload":{"e":[0]}}"#), wants: |event, _| event == 0 },
    Wish {
        event_types: &["order.*"],
        filter: Some(r#"{"payload":{"e":[{"numeric":[">",0]}]}}"#),
        wants: |event, is_order| is_order && event > 0,
    },
];

/// Whether the registry has an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    NotYet,
    There,
    /// Its card is gone without a tombstone. Who read it before may know it still.
    Lost,
    Deleted,
}

/// What an endpoint wanted of one event, since that may have been in its queue.
#[derive(Clone, Copy, Debug)]
struct Watched {
    /// Whether it wanted it all the time.
    always: bool,
    /// Whether it ever wanted it.
    ever: bool,
}

/// Work on one message of an event.
#[derive(Debug, Default)]
struct Page {
    /// The claims that were granted.
    workers: BTreeSet<String>,
    /// How often its delivery was sent to each endpoint.
    copies: [usize; ENDPOINTS],
    /// Processes that died and may have held a claim.
    crashes: usize,
    /// Other faults that may each let it be worked on once more.
    excuses: usize,
    /// How many hops before it waited at the same endpoint.
    waited: u32,
}

impl Page {
    /// How often it may be worked on.
    fn most(&self) -> usize {
        1 + self.crashes + self.excuses
    }

    /// How often its delivery to an endpoint may still be sent.
    fn room(&self, endpoint: usize) -> usize {
        self.most().saturating_sub(self.copies[endpoint])
    }
}

/// What is known of one event.
#[derive(Debug)]
pub(super) struct KnownEvent {
    pub(super) promise: Promise,
    is_order: bool,
    body_hash: String,
    watched: Option<[Watched; ENDPOINTS]>,
    /// Whether its queue took its first message, in its present life.
    begun: bool,
    /// Whether a fan-out came to its end.
    fanned_out: bool,
    /// Whether it did so before its present life.
    fanned_out_before: bool,
    /// Whether that reached neither Redis nor the queue.
    unrecorded: bool,
    /// Faults that may each leave one more message of it.
    faults: usize,
    /// By when it was accepted, and by hop.
    pages: BTreeMap<(Millis, u32), Page>,
}
impl KnownEvent {
    fn event_type(&self) -> &'static str {
        if self.is_order { "order.paid" } else { "user.made" }
    }

    fn count(&self, of: fn(&Watched) -> bool) -> usize {
        self.watched.iter().flatten().filter(|watched| of(watched)).count()
    }
}

/// A claim or a settlement of an event's record.
struct EventCall<'a> {
    event: usize,
    is_claim: bool,
    args: Vec<&'a str>,
    hop: u32,
    accepted_at: Millis,
}

/// What is known of all events, and of the endpoints that want them.
pub(super) struct Events {
    pub(super) known: Vec<KnownEvent>,
    endpoints: [(Presence, usize); ENDPOINTS],
    /// Pages that processes claim, with the time of their acceptance and their hop.
    claiming: BTreeMap<usize, BTreeSet<(usize, Millis, u32)>>,
    /// Pages that processes took.
    taken: BTreeMap<usize, Vec<(usize, Box<EventPage>)>>,
    redis_is_sound: bool,
    redis_keeps: bool,
    /// Records of events of which a row reached neither history nor the queue.
    pub(super) unkept: BTreeSet<String>,
    pub(super) tally: Tally,
    pub(super) fault: Option<String>,
}

impl Events {
    pub(super) fn new(rng: &mut Rng, count: usize, weather: &Weather) -> Self {
        let known = (0..count).map(|event| {
            // Another body may be posted under the id of the event before.
            let is_reused = event % 2 == 1 && rng.u8(0..6) == 0;
            let is_order = rng.bool();
            let expires_at = (rng.u8(0..6) == 0).then(|| BEGINNING.after(Duration::from_secs(rng.u64(20..2000))));
            let mut known = KnownEvent {
                promise: Promise::new(format!("e-{}", if is_reused { event - 1 } else { event }), expires_at),
                is_order,
                body_hash: String::new(),
                watched: None,
                begun: false,
                fanned_out: false,
                fanned_out_before: false,
                unrecorded: false,
                faults: 0,
                pages: BTreeMap::new(),
            };
            let (payload, event_type) = (event_payload(event), known.event_type());
            known.body_hash = body_hash("", &payload, &BTreeMap::new(), Some(event_type), expires_at);
            known
        });
        Self {
            known: known.collect(),
            endpoints: [(Presence::NotYet, 0); ENDPOINTS],
            claiming: BTreeMap::new(),
            taken: BTreeMap::new(),
            redis_is_sound: weather.redis_is_sound(),
            redis_keeps: weather.redis_keeps(),
            unkept: BTreeSet::new(),
            tally: Tally::new(),
            fault: None,
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    /// The JSON that the client sends.
    pub(super) fn request(&mut self, event: usize) -> String {
        let known = &mut self.known[event];
        known.promise.asked += 1;
        known.faults += usize::from(known.promise.asked > 1);
        let (event_type, Promise { id, expires_at, .. }) = (known.event_type(), &known.promise);
        let expires_at = expires_at.map(|at| format!(",\"expires_at\":\"{at}\"")).unwrap_or_default();
        let payload = event_payload(event);
        format!("{{\"event_id\":\"{id}\",\"event_type\":\"{event_type}\",\"payload\":{payload}{expires_at}}}")
    }

    pub(super) fn record_id(&self, event: usize) -> String {
        event_record_id(TENANT, &self.known[event].promise.id)
    }

    /// A client posts a finished event again: a life of its own begins.
    pub(super) fn lives_again(&mut self, event: usize, now: Millis) {
        let known = &mut self.known[event];
        known.promise.begin_again(now);
        (known.watched, known.begun) = (None, false);
        known.fanned_out_before |= known.fanned_out;
        // Where Redis forgets, what it learns late may be taken for an answer to this request.
        known.fanned_out &= !self.redis_is_sound;
    }

    /// A client was told that its event is a duplicate of an earlier life, or that it is
    /// refused: nothing new was promised.
    pub(super) fn lives_on(&mut self, event: usize) {
        let known = &mut self.known[event];
        known.fanned_out |= known.fanned_out_before;
        // What endpoints wanted in the meantime is not known.
        known.watched.get_or_insert([Watched { always: false, ever: true }; ENDPOINTS]);
    }

    /// A fault may leave one more message of it.
    pub(super) fn may_double(&mut self, event: usize) {
        self.known[event].faults += 1;
    }

    /// Its record has ended: whatever was done may be done again.
    pub(super) fn is_forgotten(&mut self, event: usize) {
        self.known[event].pages.clear();
    }

    /// The registry has this of an endpoint now.
    pub(super) fn registry_has(&mut self, endpoint: usize, presence: Presence, wish: usize) {
        self.endpoints[endpoint] = (presence, wish);
        for event in 0..self.known.len() {
            let Watched { always, ever } = self.wants(event, endpoint);
            let known = &mut self.known[event];
            let goes_on = known.pages.keys().any(|(_, hop)| *hop > 0) && !known.fanned_out;
            let Some(watched) = known.watched.as_mut().map(|watched| &mut watched[endpoint]) else { continue };
            let is_changed = watched.always && !always || !watched.ever && ever;
            watched.ever |= ever;
            watched.always &= always;
            if goes_on && is_changed {
                self.count("cards changed between pages");
            }
        }
    }

    /// Whether an endpoint wants an event now.
    fn wants(&self, event: usize, endpoint: usize) -> Watched {
        let (presence, wish) = self.endpoints[endpoint];
        let wants = (WISHES[wish].wants)(event, self.known[event].is_order);
        match presence {
            Presence::NotYet | Presence::Deleted => Watched { always: false, ever: false },
            Presence::There => Watched { always: wants, ever: wants },
            Presence::Lost => Watched { always: false, ever: wants },
        }
    }

    /// A page goes to the queue of events.
    pub(super) fn sends_page(&mut self, event: usize, page: &EventPage) {
        if page.event.accepted_at < self.known[event].promise.posted_at {
            return self.count("page of an earlier life");
        }
        self.known[event].pages.entry((page.event.accepted_at, page.hop)).or_default().waited = page.waited;
        match page.hop {
            0 if self.known[event].watched.is_none() => {
                self.known[event].watched = Some(std::array::from_fn(|endpoint| self.wants(event, endpoint)));
            }
            0 => {}
            _ if page.waited > 0 => self.count("page waits"),
            _ => self.count("continuation"),
        }
    }

    /// The queue of events took a page.
    pub(super) fn sent(&mut self, event: usize, page: &EventPage) {
        let known = &mut self.known[event];
        known.begun |= page.hop == 0 && page.event.accepted_at >= known.promise.posted_at;
    }

    pub(super) fn has_begun(&self, event: usize) -> bool {
        self.known[event].begun
    }

    /// A process took a page.
    pub(super) fn took(&mut self, process: usize, event: usize, page: Box<EventPage>) {
        self.taken.entry(process).or_default().push((event, page));
    }

    /// A fan-out sends a delivery.
    pub(super) fn sends_delivery(&mut self, process: usize, event: usize, endpoint: usize, accepted_at: Millis) {
        let id = endpoint_id(endpoint);
        let known = &mut self.known[event];
        // Pages overlap when one is repeated and ends elsewhere: faults explain the copy if they
        // do so for one that it may be of.
        let taken = self.taken.get(&process).into_iter().flatten();
        let is_candidate = |of: usize, page: &EventPage| {
            of == event && page.event.accepted_at == accepted_at && page.after.as_ref().is_none_or(|after| *after < id)
        };
        let hops = taken.filter(|(of, page)| is_candidate(*of, page)).map(|(_, page)| page.hop);
        let room = |hop: &u32| known.pages.get(&(accepted_at, *hop)).map_or(1, |page| page.room(endpoint));
        let Some(hop) = hops.max_by_key(room) else {
            self.fault = Some(format!("event {event} goes to endpoint {endpoint}, which is on no page"));
            return;
        };
        let page = known.pages.entry((accepted_at, hop)).or_default();
        if self.redis_keeps && page.room(endpoint) == 0 {
            self.fault = Some(format!("event {event} is sent too often at hop {hop}: {page:?}"));
        }
        page.copies[endpoint] += 1;
        if accepted_at < known.promise.posted_at {
            return;
        }
        match &known.watched {
            Some(watched) if watched[endpoint].ever => self.count("delivery of an event"),
            Some(_) => self.fault = Some(format!("event {event} goes to endpoint {endpoint}, which never wanted it")),
            None => self.fault = Some(format!("event {event} fans out, and nobody posted it")),
        }
    }

    /// A queue did not take a page, or seemed not to: the page that it came from is kept.
    pub(super) fn not_sent(&mut self, event: usize, page: &EventPage) {
        let known = &mut self.known[event];
        known.faults += 1;
        for hop in [page.hop, page.hop.saturating_sub(1)] {
            known.pages.entry((page.event.accepted_at, hop)).or_default().excuses += 1;
        }
    }

    /// What was to be recorded of it is not queued either.
    pub(super) fn not_recorded(&mut self, body: &str) {
        for known in &mut self.known {
            known.unrecorded |= body.contains(&format!("\"id\":\"{TENANT}~{}\"", known.promise.id));
        }
    }

    /// What a command is about, if that is an event.
    fn event_call<'a>(&self, call: &'a Call) -> Option<EventCall<'a>> {
        let Call::Script { script, key, args } = call else { return None };
        let is_claim = script.name() == "claim";
        if !key.starts_with("event:") || !(is_claim || script.name() == "settle") {
            return None;
        }
        let args: Vec<&str> = args.iter().collect();
        let of_key = |known: &&KnownEvent| records::key(&event_record_id(TENANT, &known.promise.id)) == *key;
        let event =
            self.known.iter().position(|known| known.body_hash == args[3] && Some(known).filter(of_key).is_some())?;
        let (hop, accepted_at) = (args[1].parse().ok()?, args.iter().rev().nth(1)?.parse().ok()?);
        Some(EventCall { event, is_claim, args, hop, accepted_at: Millis(accepted_at) })
    }

    /// A process wants to tell Redis something, whether or not that comes to it. `is_sent` says
    /// which endpoints have their deliveries queued, in the present life of their event.
    pub(super) fn tells(&mut self, call: &Call, is_sent: impl Fn(usize, usize, Millis) -> bool) {
        let Some(EventCall { event, is_claim: false, args, accepted_at, .. }) = self.event_call(call) else { return };
        if args[2] != "fanned_out" {
            return;
        }
        let known = &mut self.known[event];
        if accepted_at < known.promise.posted_at {
            // Where Redis forgets, a later request is taken for a repetition of this one.
            known.fanned_out |= !self.redis_is_sound;
            return;
        }
        let is_first = !std::mem::replace(&mut known.fanned_out, true);
        let matched: usize = field(&args, "matched").and_then(|matched| matched.parse().ok()).unwrap_or_default();
        let (always, ever) = (known.count(|watched| watched.always), known.count(|watched| watched.ever));
        if !(always..=ever).contains(&matched) {
            self.fault = Some(format!("event {event} matched {matched}, not {always} to {ever} endpoints"));
        }
        for (endpoint, watched) in known.watched.iter().flatten().enumerate() {
            if watched.always && !is_sent(event, endpoint, known.promise.posted_at) {
                self.fault = Some(format!("event {event} is fanned out, and endpoint {endpoint} has no delivery"));
            }
        }
        if is_first {
            self.count("event fanned out");
        }
    }

    /// A process sends a command to Redis.
    pub(super) fn asks(&mut self, process: usize, call: &Call) {
        if let Some(EventCall { event, is_claim: true, accepted_at, hop, .. }) = self.event_call(call) {
            self.claiming.entry(process).or_default().insert((event, accepted_at, hop));
        }
    }

    /// A process gets no answer of Redis: it goes on without a claim, or its outcome is told
    /// later.
    pub(super) fn unheard(&mut self, call: &Call) {
        if let Some(EventCall { event, accepted_at, hop, .. }) = self.event_call(call) {
            self.known[event].pages.entry((accepted_at, hop)).or_default().excuses += 1;
        }
    }

    /// Redis answers a claim: false if it is not one of an event.
    pub(super) fn answered(&mut self, call: &Call, word: &[u8]) -> bool {
        let Some(EventCall { event, is_claim: true, args, accepted_at, hop }) = self.event_call(call) else {
            return false;
        };
        let redis_keeps = self.redis_keeps;
        let page = self.known[event].pages.entry((accepted_at, hop)).or_default();
        let what = match word {
            b"granted" => {
                let is_new = page.workers.insert(args[0].to_owned());
                if redis_keeps && page.workers.len() > page.most() {
                    self.fault = Some(format!("event {event} is worked on too often at hop {hop}: {page:?}"));
                }
                if is_new && page.workers.len() > 1 { "page repeated" } else { "page" }
            }
            b"crashed" => {
                // To wait is no progress: those are the hops at the same endpoint.
                let hops = (accepted_at, hop.saturating_sub(page.waited))..=(accepted_at, hop);
                let pages = self.known[event].pages.range(hops).map(|(_, page)| page.crashes + page.excuses);
                let crashes: usize = pages.sum();
                if redis_keeps && crashes < MAX_CRASHES as usize {
                    self.fault = Some(format!("event {event} is given up at hop {hop} after {crashes} crashes"));
                }
                "page crashed"
            }
            b"busy" => "page busy",
            b"done" => "page done",
            b"stale" => "page stale",
            b"foreign" => "page foreign",
            _ => return true,
        };
        self.count(what);
        true
    }

    /// A process has ended.
    pub(super) fn ended(&mut self, process: usize) {
        self.claiming.remove(&process);
        self.taken.remove(&process);
    }

    /// A process died.
    pub(super) fn died(&mut self, process: usize) {
        for (event, accepted_at, hop) in self.claiming.remove(&process).unwrap_or_default() {
            self.known[event].pages.entry((accepted_at, hop)).or_default().crashes += 1;
        }
        for (event, _) in self.taken.remove(&process).unwrap_or_default() {
            self.may_double(event);
        }
    }

    /// Checks that no event is lost, and that none has more messages than faults explain.
    /// `queued` are the messages in queues, and `held` those of events that processes work on:
    /// each of these may have its successor already.
    pub(super) fn check(&self, queued: &BTreeMap<Carried, usize>, held: &BTreeMap<usize, usize>, archive: &Archive) {
        for (event, known) in self.known.iter().enumerate() {
            let messages = queued.get(&Carried::Page(event)).copied().unwrap_or_default();
            let most = 1 + known.faults + held.get(&event).copied().unwrap_or_default();
            assert!(messages <= most, "event {event} has {messages} messages, not {most} at most: {known:?}");
            let is_open = known.promise.holds() && !known.fanned_out;
            let is_kept = messages > 0 || archive.keeps(event, known.promise.posted_at);
            assert!(!is_open || is_kept, "event {event} is lost: {known:?}");
        }
    }

    /// Events that are finished, and whose id no other event has.
    pub(super) fn finished(&self, archive: &Archive) -> Vec<usize> {
        let is_done = |event: usize, known: &KnownEvent| {
            known.promise.holds()
                && (known.fanned_out || archive.keeps(event, known.promise.posted_at))
                && self.is_alone(event)
        };
        self.known.iter().enumerate().filter(|(event, known)| is_done(*event, known)).map(|(event, _)| event).collect()
    }

    /// Whether no other event has its id.
    fn is_alone(&self, event: usize) -> bool {
        let id = &self.known[event].promise.id;
        self.known.iter().filter(|other| other.promise.id == *id).count() == 1
    }

    /// At the end, every event is fanned out or archived, and its record says so.
    pub(super) fn check_end(&mut self, event: usize, status: Option<&str>, matched: Option<usize>, archive: &Archive) {
        let known = &self.known[event];
        let is_archived = archive.keeps(event, known.promise.posted_at);
        assert!(known.fanned_out || is_archived, "event {event} is neither fanned out nor archived: {known:?}");
        let fanned_out = known.fanned_out || known.fanned_out_before;
        let failed = archive.has(Carried::Page(event), BEGINNING);
        let truth = match status {
            _ if !self.is_alone(event) => true,
            Some("delivered") => fanned_out && matched.unwrap_or_default() >= known.count(|watched| watched.always),
            Some("failed") => failed,
            None => fanned_out || failed,
            Some(_) => false,
        };
        if !truth {
            let is_explained = !self.redis_keeps || known.unrecorded;
            assert!(is_explained, "the status of event {event} is {status:?} with {matched:?}: {known:?}");
            self.count("status of an event forgotten");
        }
    }
}

/// The value of a field among a script's arguments: the first of this name.
fn field<'a>(args: &[&'a str], name: &str) -> Option<&'a str> {
    args.iter().position(|arg| *arg == name).and_then(|at| args.get(at + 1)).copied()
}
