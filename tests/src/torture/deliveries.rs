//! Compares the books of deliveries to endpoints when everything is finished.

use std::collections::{BTreeMap, HashMap, HashSet};

use adapters::clock::Clock;
use domain::dead_letter::DeadLetter;
use domain::endpoint::EndpointState;
use domain::history::delivery::EndedDelivery;
use domain::identity::{delivery_id, event_webhook_id};
use domain::reason::Reason;

use crate::torture::receivers::{Got, Temper};
use crate::torture::saboteur::Fault;
use crate::torture::stores::{Item, cards, dead_letters, number, scanned, text};
use crate::torture::tenants::{CROWD, Endpoint, ToldEvent, canary};
use crate::torture::{Books, Field, Weather, keys};

type Record = HashMap<String, String>;

/// What is owed to endpoints: each event that is not erased, and each endpoint that wants it.
fn expected<'b>(field: &'b Field, books: &'b Books) -> impl Iterator<Item = (&'b String, &'b ToldEvent, &'b Endpoint)> {
    let events = books.events.iter().filter(|(_, event)| !event.is_erased);
    events.flat_map(|(id, event)| {
        let wanted = field.endpoints.iter().filter(|endpoint| endpoint.wants(event));
        wanted.map(move |endpoint| (id, event, endpoint))
    })
}

fn calls<'b>(books: &'b Books, endpoint: &Endpoint, event_id: &str) -> &'b [Got] {
    let key = (endpoint.name.clone(), event_webhook_id(endpoint.tenant, event_id));
    books.arrived.get(&key).map_or(&[], Vec::as_slice)
}

/// Whether every delivery that is expected has arrived or is a dead letter.
pub(crate) async fn all_ended(field: &Field) -> bool {
    let open: Vec<(String, String)> = {
        let books = field.books.open();
        let open =
            expected(field, &books).filter(|(id, _, endpoint)| !calls(&books, endpoint, id).iter().any(Got::accepted));
        open.map(|(id, _, endpoint)| (id.clone(), endpoint.id.clone())).collect()
    };
    if open.is_empty() {
        return true;
    }
    let (_, letters) = dead_letters(field).await;
    open.iter().all(|(event, endpoint)| letters.iter().any(|letter| is_of(letter, event, endpoint)))
}

fn is_of(letter: &DeadLetter, event_id: &str, endpoint: &str) -> bool {
    letter.endpoint.as_ref().is_some_and(|target| target.endpoint == endpoint && target.event_id == event_id)
}

/// The books of deliveries to endpoints.
pub(crate) struct Deliveries<'a> {
    pub(crate) field: &'a Field,
    pub(crate) books: &'a Books,
    pub(crate) letters: &'a [DeadLetter],
    pub(crate) ends: &'a [EndedDelivery],
    pub(crate) history: &'a [Item],
}

impl Deliveries<'_> {
    /// Gives lines of the report, and what does not fit.
    pub(crate) fn audit(&self) -> (Vec<(&'static str, String)>, Vec<String>) {
        let mut wrong = self.nothing_else();
        let (mut count, mut delivered, mut archived, mut doubles, mut missing) = (0, 0, 0, 0, 0);
        let records = self.records();
        let mut ends: HashMap<(&str, &str), Vec<&EndedDelivery>> = HashMap::new();
        for end in self.ends {
            if let Some(target) = &end.target {
                ends.entry((&target.event_id, &target.endpoint)).or_default().push(end);
            }
        }
        for (id, event, endpoint) in expected(self.field, self.books) {
            let got = calls(self.books, endpoint, id);
            let accepted = got.iter().filter(|call| call.accepted()).count();
            let is_archived = self.letters.iter().any(|letter| is_of(letter, id, &endpoint.id));
            count += 1;
            delivered += usize::from(accepted > 0);
            archived += usize::from(accepted == 0 && is_archived);
            doubles += usize::from(accepted > 1);
            let of_it = ends.get(&(id.as_str(), endpoint.id.as_str())).map_or(&[][..], Vec::as_slice);
            wrong.extend(self.one(id, event, endpoint, is_archived));
            wrong.extend(self.status(
                id,
                endpoint,
                records.get(&delivery_id(id, &endpoint.id, None)),
                of_it,
                is_archived,
            ));
            match self.ends(id, event, endpoint, of_it) {
                Ok(is_known) => missing += usize::from(!is_known),
                Err(what) => wrong.push(what),
            }
        }
        wrong.extend(self.letters());
        wrong.extend(self.events(&records));
        wrong.extend(self.erased());
        let erased = self.books.events.values().filter(|event| event.is_erased).count();
        let calls = self.books.arrived.values().map(Vec::len).sum::<usize>();
        let lines = vec![
            ("events accepted", format!("{}, of which erased {erased}", self.books.events.len())),
            ("deliveries to endpoints", count.to_string()),
            ("  delivered", delivered.to_string()),
            ("  archived only", archived.to_string()),
            ("  calls", calls.to_string()),
            ("  received more than once", doubles.to_string()),
            ("  missing in history after a fault", missing.to_string()),
            ("acts", format!("{:?}", self.books.acts)),
            ("a card's counter", format!("raised {} times, perhaps {} more", self.books.raised.0, self.books.raised.1)),
        ];
        (lines, wrong)
    }

    /// Only events of the endpoint's own tenant arrive, signed with its own secrets.
    fn nothing_else(&self) -> Vec<String> {
        let ids: HashMap<String, &String> =
            self.books.events.iter().map(|(id, event)| (event_webhook_id(event.tenant, id), id)).collect();
        let mut wrong = Vec::new();
        for ((name, webhook_id), got) in &self.books.arrived {
            let event = ids.get(webhook_id).and_then(|id| self.books.events.get(*id));
            let Some(event) = event.filter(|event| name.starts_with(event.tenant)) else {
                wrong.push(format!("{webhook_id} arrived at {name} and is no event of its tenant"));
                continue;
            };
            let endpoint = self.field.endpoints.iter().find(|endpoint| endpoint.name == *name);
            if endpoint.is_some_and(|endpoint| !endpoint.wants(event)) {
                wrong.push(format!("{webhook_id} arrived at {name}, which does not want it"));
            }
            for call in got {
                if let Some(what) = &call.wrong {
                    wrong.push(format!("{webhook_id} arrived at {name} with {what}"));
                }
                if call.body != event.payload {
                    wrong.push(format!("{webhook_id} arrived at {name} changed"));
                }
            }
        }
        wrong
    }

    /// A delivery has arrived or is a dead letter, and arrived once unless a fault explains it.
    fn one(&self, id: &str, event: &ToldEvent, endpoint: &Endpoint, is_archived: bool) -> Vec<String> {
        let got = calls(self.books, endpoint, id);
        let accepted = got.iter().filter(|call| call.accepted()).count();
        let mut wrong = Vec::new();
        let is_given_up = |letter: &DeadLetter| {
            letter.event.as_ref().is_some_and(|event| event.event_id == id) && self.field.plan.weather == Weather::Fire
        };
        if accepted == 0 && !is_archived && !self.letters.iter().any(is_given_up) {
            wrong.push(format!("LOST: {id} for the {:?} receiver of {}", endpoint.temper, endpoint.name));
        }
        // All receivers are well again when it is sent again, but one.
        let is_exact = self.field.plan.weather != Weather::Fire && endpoint.temper != Temper::Missing;
        if accepted == 0 && is_archived && is_exact {
            wrong.push(format!("{id} was sent again to {} and did not arrive", endpoint.name));
        }
        if accepted > 1 && !self.books.excuses(got) {
            wrong.push(format!("{} received {id} twice for no reason: {}", endpoint.name, self.books.story(got)));
        }
        if got.iter().any(|call| call.receiver != endpoint.receiver) {
            wrong.push(format!("{id} arrived elsewhere than at {}", endpoint.name));
        }
        if self.field.plan.weather == Weather::Calm && event.tenant != CROWD && accepted > 1 {
            wrong.push(format!("{} received {id} {accepted} times", endpoint.name));
        }
        wrong
    }

    /// The status of the first life says what happened. It is missing only when Redis lost data.
    fn status(
        &self,
        id: &str,
        endpoint: &Endpoint,
        record: Option<&Record>,
        ends: &[&EndedDelivery],
        is_archived: bool,
    ) -> Option<String> {
        let got = calls(self.books, endpoint, id);
        let arrived = got.iter().any(Got::accepted);
        let status = record.and_then(|record| record.get("status")).map(String::as_str);
        let has_failed = is_archived || ends.iter().any(|end| !end.is_delivered());
        // What was sent again has a record of its own, and the calls do not tell which life they are of.
        let was_sent_again = ends.iter().any(|end| end.target.as_ref().is_some_and(|target| target.life.is_some()));
        let last = got.iter().map(|call| call.at).max().filter(|_| !was_sent_again);
        let last = last.or(self.books.events.get(id).map(|event| event.at));
        let is_true = match status {
            Some("delivered") => arrived,
            Some("failed") => has_failed,
            None | Some("pending" | "retrying") => self.books.forgot_since(last),
            Some(_) => false,
        };
        (!is_true)
            .then(|| format!("{id} of {} has the status {status:?}; arrived: {arrived}: {record:?}", endpoint.name))
    }

    /// Says whether history knows how a delivery ended, if a fault explains that it does not.
    fn ends(&self, id: &str, event: &ToldEvent, endpoint: &Endpoint, ends: &[&EndedDelivery]) -> Result<bool, String> {
        let got = calls(self.books, endpoint, id);
        let accepted = got.iter().filter(|call| call.accepted()).count();
        let delivered = ends.iter().filter(|end| end.is_delivered()).count();
        let is_known = if accepted > 0 { delivered > 0 } else { !ends.is_empty() };
        if !is_known && !self.books.suffered_at_end(got, event.at, Fault::doubles) {
            return Err(format!("history does not know how {id} of {} ended: {ends:?}", endpoint.name));
        }
        let kinds: HashSet<_> =
            ends.iter().map(|end| (end.target.as_ref().map(|target| &target.life), end.result)).collect();
        if kinds.len() < ends.len() && !self.books.suffered_since(event.at, Fault::doubles) {
            return Err(format!("history tells twice for no reason how {id} of {} ended: {ends:?}", endpoint.name));
        }
        let told: usize = ends.iter().map(|end| end.history.count as usize).sum();
        let is_exact = self.field.plan.weather == Weather::Calm;
        if is_exact && (told, delivered) != (got.len(), accepted) {
            return Err(format!(
                "history tells of {told} calls of {id} to {}, which got {}: {ends:?}",
                endpoint.name,
                got.len()
            ));
        }
        let seen = |code: u16| got.iter().any(|call| call.status == Some(code));
        let is_true = |end: &&EndedDelivery| end.history.attempts.iter().all(|attempt| attempt.code.is_none_or(seen));
        if !ends.iter().all(is_true) {
            return Err(format!("history tells of calls of {id} that {} did not get: {ends:?}", endpoint.name));
        }
        Ok(is_known)
    }

    /// The calls at an endpoint explain why a delivery to it was given up.
    fn letters(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for letter in self.letters {
            let Some(target) = &letter.endpoint else { continue };
            let endpoint = self.field.endpoints.iter().find(|endpoint| endpoint.id == target.endpoint);
            let Some((endpoint, event)) = endpoint.zip(self.books.events.get(&target.event_id)) else { continue };
            let got = calls(self.books, endpoint, &target.event_id);
            let failed = got.iter().filter(|call| !call.accepted()).count();
            let is_true = match letter.reason {
                Some(Reason::ClientError) => {
                    endpoint.temper == Temper::Missing && got.iter().any(|call| call.status == Some(404))
                }
                // Its schedule has three waits.
                Some(Reason::RetriesExhausted) => failed >= 4 || endpoint.temper.hides_calls(),
                Some(Reason::Crashed) => self.books.suffered_since(event.at, Fault::kills_deliver),
                _ => false,
            };
            if !is_true {
                let (reason, name) = (letter.reason.map(Reason::as_str), &endpoint.name);
                wrong.push(format!(
                    "{} of {name} is archived as {reason:?} after {} calls",
                    target.event_id,
                    got.len()
                ));
            }
        }
        wrong
    }

    /// Every event is fanned out to the endpoints that want it, and stands in history.
    fn events(&self, records: &HashMap<String, Record>) -> Vec<String> {
        let mut wrong = Vec::new();
        let kept: HashMap<&str, &Item> = self
            .history
            .iter()
            .filter(|item| text(item, "pk").starts_with("I#"))
            .map(|item| (text(item, "pk"), item))
            .collect();
        for (id, event) in &self.books.events {
            let record = records.get(&format!("{}:{id}", event.tenant));
            let status = record.and_then(|record| record.get("status")).map(String::as_str);
            let wanted = self.field.endpoints.iter().filter(|endpoint| endpoint.wants(event)).count();
            let matched = record.and_then(|record| record.get("matched")?.parse::<usize>().ok());
            let is_exact = event.tenant != CROWD && !event.is_erased;
            match status {
                Some("delivered") if !is_exact || matched == Some(wanted) => {}
                _ if event.is_erased || self.books.forgot_since(Some(event.at)) => {}
                _ => wrong.push(format!("{id} is {status:?} and matched {matched:?} of {wanted}")),
            }
            // Of one that was erased before it was fanned out, nothing is kept.
            if !event.is_erased && !kept.contains_key(format!("I#{}#{id}", event.tenant).as_str()) {
                wrong.push(format!("{id} is not in history"));
            }
        }
        wrong
    }

    /// Nothing is left of the payload of an erased event, unless Redis lost the mark.
    fn erased(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let letters: Vec<String> =
            self.letters.iter().map(|letter| serde_json::to_string(letter).unwrap_or_default()).collect();
        for (id, event) in self.books.events.iter().filter(|(_, event)| event.is_erased) {
            let canary = canary(id);
            let of_event =
                |item: &&Item| item.values().any(|value| value.as_s().is_ok_and(|text| text.contains(&canary)));
            let rows: Vec<&str> = self.history.iter().filter(of_event).map(|item| text(item, "pk")).collect();
            let kept = letters.iter().filter(|letter| letter.contains(&canary)).count();
            if (!rows.is_empty() || kept > 0) && !self.books.forgot_since(Some(event.at)) {
                wrong.push(format!("{id} is erased, and in {rows:?} and {kept} dead letters"));
            }
        }
        wrong
    }

    /// The records of events, as `<tenant>:<event>`, and of first lives, by delivery id.
    fn records(&self) -> HashMap<String, Record> {
        let events = self.books.events.iter().map(|(id, event)| {
            let name = format!("{}:{id}", event.tenant);
            (format!("event:{name}"), name)
        });
        let deliveries = expected(self.field, self.books).map(|(id, _, endpoint)| {
            let id = delivery_id(id, &endpoint.id, None);
            (format!("delivery:{id}"), id)
        });
        let (keys, names): (Vec<String>, Vec<String>) = events.chain(deliveries).unzip();
        let mut pipe = redis::pipe();
        for key in &keys {
            pipe.hgetall(key);
        }
        let mut redis = self.field.redis.lock().unwrap().connect();
        let found: Vec<Record> = pipe.query(&mut redis).unwrap();
        names.into_iter().zip(found).filter(|(_, record)| !record.is_empty()).collect()
    }
}

/// How many calls with an event each of these endpoints has accepted, in their order.
pub(crate) fn accepted(field: &Field, event_id: &str, endpoints: &[&Endpoint]) -> Vec<usize> {
    let books = field.books.open();
    let count = |endpoint: &&Endpoint| calls(&books, endpoint, event_id).iter().filter(|call| call.accepted()).count();
    endpoints.iter().map(count).collect()
}

/// The registry has every endpoint as it was changed last, and nothing that does not open.
pub(crate) async fn registry(field: &Field) -> Vec<String> {
    let items = scanned(field, "REGISTRY_TABLE").await;
    let mut counted: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for item in items.iter().filter(|item| text(item, "sk") == "R") {
        counted.insert(text(item, "pk").to_owned(), (number(item, "endpoints"), number(item, "paused")));
    }
    let cards = cards(items);
    let (master, now) = (keys::present(field), Clock::system().now());
    let mut wrong = Vec::new();
    for (pk, (endpoints, paused)) in counted {
        let found = cards.iter().filter(|(item, _)| text(item, "pk") == pk).count() as u64;
        if (endpoints, paused) != (found, 0) {
            wrong.push(format!("{pk} counts {endpoints} endpoints, {paused} paused, and has {found}"));
        }
    }
    let books = field.books.open();
    let is_exact = field.plan.weather != Weather::Fire;
    for (_, card) in &cards {
        if let Err(error) = card.open(&master, now) {
            wrong.push(format!("the card of {} does not open: {error}", card.url));
        }
    }
    for endpoint in &field.endpoints {
        let Some((_, card)) = cards.iter().find(|(_, card)| card.id == endpoint.id) else {
            wrong.push(format!("{} has no card", endpoint.name));
            continue;
        };
        let open = |secret: &domain::endpoint::CardSecret| {
            master.open(card.secret_place(&secret.id, secret.expires_at), &secret.sealed).unwrap_or_default()
        };
        let mut secrets: Vec<String> = card.secrets.iter().map(open).collect();
        secrets.reverse();
        let told = books.secrets.get(&endpoint.name).map(Vec::as_slice).unwrap_or_default();
        // A restored card has the secrets of its time.
        let is_true = if is_exact { secrets == told } else { secrets.iter().all(|secret| told.contains(secret)) };
        if !is_true || card.state != EndpointState::Enabled {
            wrong.push(format!(
                "{} is {:?} with {} secrets of {}",
                endpoint.name,
                card.state,
                secrets.len(),
                told.len()
            ));
        }
        if endpoint.tenant == CROWD {
            let count = card.metadata.get("count").and_then(|count| count.parse::<u64>().ok()).unwrap_or_default();
            let (sure, perhaps) = books.raised;
            if !(sure..=sure + perhaps).contains(&count) {
                wrong.push(format!("the counter is {count}; it was raised {sure} times, and perhaps {perhaps} more"));
            }
        }
    }
    wrong
}

/// The endpoints that did not get an event yet with a signature of each of their secrets.
pub(crate) fn unsigned(field: &Field, event_id: &str, is_exact: bool) -> Vec<String> {
    let books = field.books.open();
    let Some(event) = books.events.get(event_id) else { return vec![format!("{event_id} was not accepted")] };
    let wanting = field.endpoints.iter().filter(|endpoint| endpoint.wants(event) && endpoint.temper != Temper::Missing);
    let signatures = |endpoint: &Endpoint| books.secrets.get(&endpoint.name).map_or(0, Vec::len);
    let is_signed = |endpoint: &Endpoint, call: &Got| !is_exact || call.signatures == signatures(endpoint);
    let unsigned = wanting.filter(|endpoint| {
        let got = calls(&books, endpoint, event_id);
        !got.iter().any(|call| call.accepted() && call.wrong.is_none() && is_signed(endpoint, call))
    });
    unsigned.map(|endpoint| format!("{} did not get {event_id} with the last master key", endpoint.name)).collect()
}
