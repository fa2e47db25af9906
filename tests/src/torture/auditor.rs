//! Compares the books when everything is finished.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use adapters::aws::sqs::{Depths as _, QueueName};
use domain::dead_letter::DeadLetter;
use domain::history::delivery::EndedDelivery;
use serde_json::Value;

use crate::torture::caller::Caller;
use crate::torture::listings::is_notice;
use crate::torture::receivers::{Got, Temper};
use crate::torture::saboteur::Fault;
use crate::torture::stores::{Item, dead_letters, ends, scanned, text};
use crate::torture::{Books, Field, Plan, Weather, deliveries, listings};

/// The most memory that an instance may hold. These are binaries of the dev profile.
const MOST_RSS: u64 = 64 * 1024 * 1024;

/// How long after its revocation a token may open something.
const REVOCATION: Duration = Duration::from_secs(30);

/// The result of a run.
pub struct Report {
    pub(crate) lines: Vec<(&'static str, String)>,
    /// What happened and must not happen.
    pub breaches: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, figure) in &self.lines {
            writeln!(f, "{what:<34} {figure}")?;
        }
        for breach in self.breaches.iter().take(20) {
            writeln!(f, "BREACH: {breach}")?;
        }
        write!(f, "{} breaches", self.breaches.len())
    }
}

/// What Redis and DynamoDB hold.
struct Stores {
    history: HashMap<String, Vec<EndedDelivery>>,
    statuses: HashMap<String, HashMap<String, String>>,
    letters: Vec<Value>,
    /// Dead letters of events and of deliveries to endpoints.
    letters_of_tenants: Vec<DeadLetter>,
    /// Ends of deliveries to endpoints.
    ends: Vec<EndedDelivery>,
    /// All of history.
    rows: Vec<Item>,
    sums: BTreeMap<String, u64>,
}

pub(crate) async fn audit(field: &Field) -> Report {
    let mut listed = listed(field).await;
    let stores = Stores::read(field).await;
    if field.plan.weather == Weather::Fire {
        // A Redis that was full, or restored from a snapshot, may have records in no list.
        // Whoever asks for one enters it.
        ask_for_unlisted(field, &listed, &stores).await;
        listed = self::listed(field).await;
    }
    let mut wrong = idle(field).await;
    wrong.extend(listings::audit(field, &stores.letters, &stores.letters_of_tenants, &stores.ends).await);
    wrong.extend(listings::events(field).await);
    wrong.extend(deliveries::registry(field).await);
    wrong.extend(revoked_tokens(field).await);
    let books = field.books.open().clone();
    // From here on, what is found is new.
    field.books.open().breaches.clear();
    let mut audit = Audit { field, stores, breaches: books.breaches.clone(), books };
    let (delivered, archived) = audit.every_webhook();
    audit.nothing_else();
    let (doubles, unexplained) = audit.duplicates();
    let (contradictions, forgotten) = audit.statuses();
    audit.letters();
    let (ends, unkept) = audit.history();
    let sums = audit.sums();
    audit.memory();
    audit.breaches.extend(wrong);
    audit.listing(&listed);
    let mut lines = audit.deliveries();
    let direct = [
        ("webhooks accepted", audit.books.told.len().to_string()),
        ("  delivered", delivered.to_string()),
        ("  archived", archived.to_string()),
        ("  refused as invalid", audit.books.refused.len().to_string()),
        ("requests repeated by clients", audit.books.repeated.to_string()),
        ("calls at receivers", audit.books.got.values().map(Vec::len).sum::<usize>().to_string()),
        ("  received more than once", format!("{doubles}, of which unexplained {unexplained}")),
        ("statuses that contradict the books", contradictions.to_string()),
        ("  missing or old: Redis forgot", forgotten.to_string()),
        ("ends in history", ends.to_string()),
        ("  missing after a fault", unkept.to_string()),
        ("dead letters redriven", audit.books.redriven.len().to_string()),
        ("messages by hand", format!("{} duplicates, {} unreadable", audit.books.duplicated, audit.books.malformed)),
        ("sums", sums),
    ];
    lines.splice(..0, direct);
    audit.report(lines)
}

impl Stores {
    async fn read(field: &Field) -> Self {
        let rows = scanned(field, "HISTORY_TABLE").await;
        let mut history: HashMap<String, Vec<EndedDelivery>> = HashMap::new();
        for end in ends(&rows, "D#") {
            history.entry(end.delivery_id()).or_default().push(end);
        }
        let (letters, letters_of_tenants) = dead_letters(field).await;
        let ends = ends(&rows, "L#");
        Self { history, statuses: statuses(field), letters, letters_of_tenants, ends, rows, sums: sums(field) }
    }
}

struct Audit<'f> {
    field: &'f Field,
    books: Books,
    stores: Stores,
    breaches: Vec<String>,
}

impl Audit<'_> {
    fn got(&self, id: &str) -> &[Got] {
        self.books.got.get(id).map_or(&[], Vec::as_slice)
    }

    fn letter(&self, id: &str) -> Option<&Value> {
        self.stores.letters.iter().find(|letter| letter["webhook_id"] == id)
    }

    fn temper(&self, receiver: usize) -> Temper {
        self.field.receivers[receiver].temper
    }

    fn suffered(&self, id: &str, kind: impl Fn(Fault) -> bool) -> bool {
        self.books.told.get(id).is_some_and(|told| self.books.suffered_since(told.at, kind))
    }

    /// Whether Redis lost data after the last call of a webhook.
    fn forgotten(&self, id: &str) -> bool {
        let last = self.got(id).iter().map(|call| call.at).max();
        self.books.forgot_since(last.or_else(|| self.books.told.get(id).map(|told| told.at)))
    }

    /// What became of the deliveries to endpoints, for the report.
    fn deliveries(&mut self) -> Vec<(&'static str, String)> {
        let deliveries = deliveries::Deliveries {
            field: self.field,
            books: &self.books,
            letters: &self.stores.letters_of_tenants,
            ends: &self.stores.ends,
            history: &self.stores.rows,
        };
        let (lines, wrong) = deliveries.audit();
        self.breaches.extend(wrong);
        lines
    }

    /// Every webhook that was accepted is delivered or archived.
    fn every_webhook(&mut self) -> (usize, usize) {
        let (mut delivered, mut archived) = (0, 0);
        let mut lost = Vec::new();
        for (id, told) in &self.books.told {
            let arrived = self.got(id).iter().any(Got::accepted);
            let letter = self.letter(id).is_some();
            delivered += usize::from(arrived);
            archived += usize::from(letter);
            if !arrived && !letter {
                lost.push(format!("LOST: {id} for the {:?} receiver", self.temper(told.receiver)));
            }
        }
        self.breaches.extend(lost);
        (delivered, archived)
    }

    /// Only accepted webhooks arrive, unchanged and signed, at their own receivers.
    fn nothing_else(&mut self) {
        for id in self.books.refused.iter().filter(|id| self.stores.statuses.contains_key(*id)) {
            self.breaches.push(format!("{id} was refused and has a status"));
        }
        for (id, got) in &self.books.got {
            let Some(told) = self.books.told.get(id) else {
                self.breaches.push(format!("{id:?} arrived and was never accepted"));
                continue;
            };
            let failed = got.iter().filter(|call| !call.accepted()).count();
            let budget = match self.field.receivers[told.receiver].temper {
                Temper::Missing => 1,
                Temper::Throttling => 4,
                // Their breakers open, and a probe that fails spends no attempt.
                Temper::Healthy | Temper::Faulty | Temper::Slow => 4,
                Temper::Flapping | Temper::Dead | Temper::Closing | Temper::Late | Temper::Hanging | Temper::Secure => {
                    usize::MAX
                }
            };
            if self.field.plan.weather == Weather::Calm && failed > budget {
                self.breaches.push(format!("{id} failed {failed} times"));
            }
            for call in got {
                if let Some(wrong) = &call.wrong {
                    self.breaches.push(format!("{id} arrived with {wrong}"));
                }
                if call.receiver != told.receiver || call.body != told.payload {
                    self.breaches.push(format!("{id} arrived elsewhere or changed"));
                }
            }
        }
    }

    /// How many webhooks got a 2xx twice, and for how many no fault explains it.
    fn duplicates(&mut self) -> (usize, usize) {
        let doubles: Vec<String> = self
            .books
            .got
            .iter()
            .filter(|(_, got)| got.iter().filter(|call| call.accepted()).count() > 1)
            .map(|(id, _)| id.clone())
            .collect();
        let is_explained = |id: &String| {
            let got = self.got(id);
            self.books.excuses(got) || (self.books.copied.contains(id) && self.books.was_blind(got))
        };
        let unexplained: Vec<&String> = doubles.iter().filter(|id| !is_explained(id)).collect();
        let count = unexplained.len();
        let told = |id: &String| format!("{id} was received twice for no reason: {}", self.books.story(self.got(id)));
        let new: Vec<String> = unexplained.into_iter().map(told).collect();
        self.breaches.extend(new);
        (doubles.len(), count)
    }

    /// A status says what happened. It is missing only when Redis lost data.
    fn statuses(&mut self) -> (usize, usize) {
        let (mut wrong, mut forgotten) = (Vec::new(), 0);
        for id in self.books.told.keys() {
            let arrived = self.got(id).iter().any(Got::accepted);
            let excused = self.forgotten(id);
            let status = self.stores.statuses.get(id).and_then(|record| record.get("status")).map(String::as_str);
            let archived = self.letter(id).is_some();
            let is_true = match status {
                Some("delivered") => arrived,
                // The answer of a first call was lost, and a second call failed for good.
                Some("failed") => archived && (!arrived || self.suffered(id, Fault::doubles)),
                Some(_) | None => false,
            };
            // Redis lost data after the delivery was finished.
            if !is_true && excused && (arrived || archived) && matches!(status, None | Some("pending" | "retrying")) {
                forgotten += 1;
            } else if !is_true {
                wrong.push(format!(
                    "{id} has the status {status:?}; arrived: {arrived}, record: {:?}",
                    self.stores.statuses.get(id)
                ));
            }
        }
        let count = wrong.len();
        self.breaches.extend(wrong);
        (count, forgotten)
    }

    /// History has every webhook that ended, with calls that its receiver got. Gives how many ends
    /// it has, and how many a fault explains that it does not have.
    fn history(&mut self) -> (usize, usize) {
        let (mut wrong, mut missing, mut count) = (Vec::new(), 0, 0);
        for id in self.books.told.keys() {
            let got = self.got(id);
            let arrived = got.iter().any(Got::accepted);
            let ends = self.stores.history.get(id).map_or(&[][..], Vec::as_slice);
            count += ends.len();
            let knows = if arrived { ends.iter().any(EndedDelivery::is_delivered) } else { !ends.is_empty() };
            let accepted_at = self.books.told.get(id).map_or(self.field.began, |told| told.at);
            match (knows, self.books.suffered_at_end(got, accepted_at, Fault::hides_ends)) {
                (true, _) => {}
                // Whoever made the call did not live to tell of it.
                (false, true) => missing += 1,
                (false, false) => wrong.push(format!("history does not know how {id} ended: {ends:?}")),
            }
            for end in ends {
                let seen = |code: u16| got.iter().any(|call| call.status == Some(code));
                let is_true = end.history.attempts.iter().all(|attempt| attempt.code.is_none_or(seen));
                let hides = self.books.told.get(id).is_some_and(|told| self.temper(told.receiver).hides_calls());
                if !is_true || (!hides && end.history.count as usize > got.len()) {
                    wrong.push(format!("history tells of calls of {id} that its receiver did not get: {end:?}"));
                }
            }
        }
        self.breaches.extend(wrong);
        (count, missing)
    }

    /// The calls at the receiver explain the reason of each dead letter.
    fn letters(&mut self) {
        let mut wrong = Vec::new();
        let mut malformed = 0;
        for letter in &self.stores.letters {
            let id = letter["webhook_id"].as_str().unwrap_or_default();
            let got = self.got(id);
            let arrived = got.iter().any(Got::accepted);
            let temper = self.books.told.get(id).map(|told| self.temper(told.receiver));
            let failed = got.iter().filter(|call| !call.accepted()).count();
            let is_true = match (letter["reason"].as_str().unwrap_or_default(), temper) {
                ("malformed", None) => {
                    malformed += 1;
                    true
                }
                ("client_error", Some(Temper::Missing)) => got.iter().any(|call| call.status == Some(404)),
                ("retries_exhausted", Some(Temper::Missing | Temper::Healthy | Temper::Slow)) => false,
                ("retries_exhausted", Some(_)) => {
                    let hides = temper.is_some_and(Temper::hides_calls);
                    let may_arrive = self.books.redriven.contains(id) || self.suffered(id, Fault::doubles);
                    letter["attempts"] == 4 && (failed >= 4 || hides) && (!arrived || may_arrive)
                }
                ("crashed", Some(_)) => self.suffered(id, Fault::kills_deliver),
                _ => false,
            };
            if !is_true {
                wrong.push(format!("{id} is archived as {} after {} calls", letter["reason"], got.len()));
            }
        }
        // All receivers are well again when it is redriven.
        let is_exact = self.field.plan.weather != Weather::Fire;
        let absent = self.books.redriven.iter().filter(|id| is_exact && !self.got(id).iter().any(Got::accepted));
        wrong.extend(absent.map(|id| format!("{id} was redriven and did not arrive")));
        // A consumer that is killed after a send sends the same message again.
        let killed = self.books.faults.iter().any(|blow| blow.fault.doubles());
        if malformed < self.books.malformed || (malformed > self.books.malformed && !killed) {
            wrong.push(format!("{} unreadable messages were queued and {malformed} archived", self.books.malformed));
        }
        self.breaches.extend(wrong);
    }

    /// Sums equal the books. They are lower when a process or Redis lost some.
    fn sums(&mut self) -> String {
        // A name with a label is the beginning of a series.
        let sum = |name: &str| -> u64 {
            let begins = if name.contains('{') { name.to_owned() } else { format!("{name}{{") };
            let named = |(series, _): &(&String, &u64)| series.as_str() == name || series.starts_with(&begins);
            self.stores.sums.iter().filter(named).map(|(_, sum)| sum).sum()
        };
        let calls: Vec<&Got> = self.books.got.values().chain(self.books.arrived.values()).flatten().collect();
        let accepted = calls.iter().filter(|call| call.accepted()).count();
        let exact = self.field.plan.weather == Weather::Calm;
        let listed = self.stores.rows.iter().filter(|row| text(row, "pk").starts_with("V#"));
        // Tenants are told under names of endpoints, and the operator is told everything.
        let is_told = |row: &&Item| {
            let of_operator = text(row, "pk").starts_with("V#_operator#");
            of_operator || text(row, "sk").split_once('#').is_some_and(|(_, id)| is_notice(id))
        };
        let notices = listed.filter(is_told).count();
        let events = self.books.events.len() + notices;
        // What is erased may not have been fanned out.
        let erased = self.books.events.values().filter(|event| event.is_erased).count();
        let letters = self.stores.letters.len() + self.stores.letters_of_tenants.len() + self.erased_letters();
        let (mut shown, mut wrong) = (Vec::new(), Vec::new());
        for (name, book, may_lack) in [
            ("webhook_enqueued_total", self.books.told.len(), 0),
            ("event_accepted_total", events, 0),
            ("event_fanned_out_total", events, erased),
            ("webhook_attempts_total", calls.len(), 0),
            ("webhook_attempts_total{error_class=\"none\"", accepted, 0),
            ("webhook_deliveries_total{outcome=\"delivered\"", accepted, 0),
            ("webhook_dead_letters_total", letters, 0),
        ] {
            let found = sum(name);
            shown.push(format!("{found}/{book}"));
            let most = match name {
                // A repeated request may be queued twice, and is counted twice then.
                "webhook_enqueued_total" | "event_accepted_total" | "event_fanned_out_total" => {
                    book + self.books.repeated * 40
                }
                // A receiver does not see a call that fails before, and history may not know what
                // was erased.
                "webhook_attempts_total" | "webhook_dead_letters_total" if !exact => usize::MAX,
                _ => book,
            };
            if found > most as u64
                || (exact && !(book - may_lack..=book).contains(&usize::try_from(found).unwrap_or(0)))
            {
                wrong.push(format!("{name} is {found}, and the books say {}..={book}", book - may_lack));
            }
        }
        self.breaches.extend(wrong);
        shown.join(" ")
    }

    /// How many dead letters were erased with their events, as history tells.
    fn erased_letters(&self) -> usize {
        let is_erased = |end: &&EndedDelivery| {
            let event = end.target.as_ref().and_then(|target| self.books.events.get(&target.event_id));
            !end.is_delivered() && event.is_some_and(|event| event.is_erased)
        };
        let has_letter = |end: &&EndedDelivery| {
            self.stores.letters_of_tenants.iter().any(|letter| letter.delivery_id() == end.delivery_id())
        };
        self.stores.ends.iter().filter(is_erased).filter(|end| !has_letter(end)).count()
    }

    /// The list of statuses shows each record once, with its status.
    fn listing(&mut self, listed: &[(String, String)]) {
        let shown: HashMap<&String, &String> = listed.iter().map(|(id, status)| (id, status)).collect();
        if shown.len() != listed.len() || shown.len() < self.stores.statuses.len() {
            let records = self.stores.statuses.len();
            self.breaches.push(format!(
                "{records} records, and {} entries listed, {} of them apart",
                listed.len(),
                shown.len()
            ));
        }
        for (id, record) in &self.stores.statuses {
            if shown.get(id).copied() != record.get("status") {
                self.breaches.push(format!("{id} is listed as {:?} and is {:?}", shown.get(id), record.get("status")));
            }
        }
    }

    fn memory(&mut self) {
        for name in ["Enqueue", "Fanout", "Deliver", "Archive", "Operate", "Endpoints", "Authorize"] {
            if !self.books.peaks.contains_key(name) {
                self.breaches.push(format!("no instance of {name} was ever weighed"));
            }
        }
        for (name, peak) in &self.books.peaks {
            if *peak > MOST_RSS {
                self.breaches.push(format!("{name} held {} MiB", peak / 1_048_576));
            }
        }
    }

    fn report(&self, lines: Vec<(&'static str, String)>) -> Report {
        let Plan { seed, other, .. } = &self.field.plan;
        let beside = other.as_deref().unwrap_or("no other version").to_owned();
        let mut all = vec![("seed", seed.to_string()), ("beside", beside)];
        let mut faults: BTreeMap<Fault, usize> = BTreeMap::new();
        for blow in &self.books.faults {
            *faults.entry(blow.fault).or_default() += 1;
        }
        all.extend(lines);
        let reasons = self.stores.letters.iter().fold(BTreeMap::<&str, usize>::new(), |mut reasons, letter| {
            *reasons.entry(letter["reason"].as_str().unwrap_or_default()).or_default() += 1;
            reasons
        });
        all.push(("dead letters", format!("{reasons:?}")));
        all.push(("faults", format!("{faults:?}")));
        let peaks: Vec<String> =
            self.books.peaks.iter().map(|(name, peak)| format!("{name} {}", peak / 1_048_576)).collect();
        all.push(("most memory of an instance, MiB", peaks.join(", ")));
        Report { lines: all, breaches: self.breaches.clone() }
    }
}

fn statuses(field: &Field) -> HashMap<String, HashMap<String, String>> {
    let mut redis = field.redis.lock().unwrap().connect();
    let ids: Vec<String> = {
        let books = field.books.open();
        books.told.keys().chain(&books.refused).cloned().collect()
    };
    let mut pipe = redis::pipe();
    for id in &ids {
        pipe.hgetall(format!("webhook_status:{id}"));
    }
    let found: Vec<HashMap<String, String>> = pipe.query(&mut redis).unwrap();
    ids.into_iter().zip(found).filter(|(_, record)| !record.is_empty()).collect()
}

fn sums(field: &Field) -> BTreeMap<String, u64> {
    let mut redis = field.redis.lock().unwrap().connect();
    let mut sums = BTreeMap::new();
    for function in ["enqueue", "fanout", "deliver", "archive"] {
        let found: HashMap<String, String> =
            redis::cmd("HGETALL").arg(format!("metrics:{function}")).query(&mut redis).unwrap();
        for (series, sum) in found {
            *sums.entry(series).or_default() += sum.parse::<u64>().unwrap_or_default();
        }
    }
    sums
}

/// Every status, as the API lists them.
async fn listed(field: &Field) -> Vec<(String, String)> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut listed = Vec::new();
    let mut cursor = String::new();
    loop {
        let url = format!("{}/webhook-statuses?limit=200{cursor}", field.stack().get("API_URL"));
        let mut response = client.get(url).send().await.unwrap();
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await.unwrap() {
            text.extend_from_slice(&chunk);
        }
        let page: Value = serde_json::from_slice(&text).unwrap();
        for record in page["webhooks"].as_array().into_iter().flatten() {
            let word = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
            listed.push((word("webhook_id"), word("status")));
        }
        field.weigh();
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return listed,
        }
    }
}

async fn ask_for_unlisted(field: &Field, listed: &[(String, String)], stores: &Stores) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for id in stores.statuses.keys().filter(|id| !listed.iter().any(|(other, _)| other == *id)) {
        let url = format!("{}/webhook-statuses/{id}", field.stack().get("API_URL"));
        client.get(url).send().await.unwrap();
    }
}

/// A token that was revoked half a minute ago opens nothing.
async fn revoked_tokens(field: &Field) -> Vec<String> {
    let revoked = field.books.open().revoked.clone();
    let mut wrong = Vec::new();
    for (token, at) in revoked {
        tokio::time::sleep_until((at + REVOCATION).into()).await;
        let mut caller = Caller::of(field);
        caller.token = Some(token);
        if let Some(answer) = caller.once("GET", "/tenants/north/endpoints", String::new(), "").await
            && answer.code != 403
        {
            wrong.push(format!("a token that was revoked gets {}: {}", answer.code, answer.body));
        }
    }
    wrong
}

/// While nothing happens, keys, connections, memory and descriptors do not grow.
async fn idle(field: &Field) -> Vec<String> {
    // A wake-up that comes meanwhile leaves a record.
    let late =
        field.queues().depth(QueueName::Event).await.map_or(0, |depth| usize::try_from(depth.delayed).unwrap_or(0));
    let look = || {
        let mut redis = field.redis.lock().unwrap().connect();
        let info: String = redis::cmd("INFO").arg("clients").query(&mut redis).unwrap();
        let clients = info.lines().find_map(|line| line.strip_prefix("connected_clients:")?.trim().parse().ok());
        let keys: usize = redis::cmd("DBSIZE").query(&mut redis).unwrap();
        let mut instances = HashMap::new();
        for name in ["Enqueue", "Deliver", "Archive", "Health"] {
            for pid in field.own.instances(name) {
                instances.insert(pid, crate::process::Usage::of(u32::try_from(pid).unwrap_or_default()));
            }
        }
        (keys, clients.unwrap_or(0usize), instances)
    };
    let health = format!("{}/health", field.stack().get("API_URL"));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let visit = async || {
        for _ in 0..5 {
            drop(client.get(&health).send().await);
        }
    };
    visit().await;
    let (keys, clients, before) = look();
    visit().await;
    tokio::time::sleep(Duration::from_secs(if field.plan.is_long { 20 } else { 3 })).await;
    visit().await;
    let (keys_after, clients_after, after) = look();
    let mut grown = Vec::new();
    if keys_after > keys + late + 2 || clients_after > clients + 2 {
        grown.push(format!(
            "idle, keys went from {keys} to {keys_after}, connections from {clients} to {clients_after}"
        ));
    }
    for (pid, usage) in after {
        let Some(earlier) = before.get(&pid) else { continue };
        if usage.rss > earlier.rss + 4 * 1024 * 1024 || usage.descriptors > earlier.descriptors + 4 {
            grown.push(format!("idle, process {pid} grew from {earlier:?} to {usage:?}"));
        }
    }
    grown
}
