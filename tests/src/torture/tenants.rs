//! Tenants: each has endpoints at the receivers, tells events, and changes its endpoints,
//! replays, erases and works with tokens meanwhile.

use std::time::{Duration, Instant};

use adapters::clock::Clock;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::time::Millis;
use serde_json::{Value, json};

use crate::torture::caller::{Answer, Caller};
use crate::torture::receivers::Temper;
use crate::torture::{Field, Weather, deliveries};

/// The tenants, and the receivers of their endpoints.
const TENANTS: [(&str, &[Temper]); 3] = [
    ("north", &[Temper::Healthy, Temper::Faulty, Temper::Slow, Temper::Flapping]),
    ("south", &[Temper::Dead, Temper::Throttling, Temper::Closing, Temper::Missing]),
    ("west", &[Temper::Late, Temper::Hanging, Temper::Secure, Temper::Healthy]),
];
/// The tenant whose endpoints many hands change at once.
pub(crate) const CROWD: &str = "crowd";
/// Types of events. The last endpoint of a tenant wants the first one only.
const TYPES: [&str; 2] = ["order.paid", "order.sent"];
/// How many webhooks there are for each event.
const WEBHOOKS_PER_EVENT: usize = 4;
/// Rotations of an endpoint. Five secrets sign at most.
const MOST_ROTATIONS: usize = 3;
/// Tries of an event before a tenant gives up. That is a breach.
const TRIES: u64 = 120;
/// A catch-up begins up to three minutes after its endpoint is enabled again. So endpoints are
/// paused early: until then, or a few times as long in a long run.
const EARLY: Duration = Duration::from_secs(10);

/// An endpoint that exists from the beginning to the end.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) tenant: &'static str,
    /// Its `uid`, and the path of its URL.
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) receiver: usize,
    pub(crate) temper: Temper,
    /// The only event type that it wants, if it does not want all.
    event_type: Option<&'static str>,
}

impl Endpoint {
    pub(crate) fn path(&self) -> String {
        format!("/tenants/{}/endpoints/{}", self.tenant, self.id)
    }

    /// Whether it must get this event.
    pub(crate) fn wants(&self, event: &ToldEvent) -> bool {
        self.tenant == event.tenant && self.event_type.is_none_or(|of| of == event.event_type)
    }
}

/// An event that was accepted: its tenant got a 202.
#[derive(Clone, Debug)]
pub(crate) struct ToldEvent {
    pub(crate) tenant: &'static str,
    event_type: &'static str,
    pub(crate) payload: String,
    pub(crate) at: Instant,
    /// Whether its erasure was asked for.
    pub(crate) is_erased: bool,
}

/// What marks the payload of an event wherever it is kept.
pub(crate) fn canary(event_id: &str) -> String {
    format!("({event_id})")
}

/// An event that is to be told.
#[derive(Clone)]
struct NewEvent {
    id: String,
    event_type: &'static str,
    payload: String,
}

impl NewEvent {
    fn json(&self) -> String {
        let Self { id, event_type, payload } = self;
        format!("{{\"event_type\":\"{event_type}\",\"event_id\":\"{id}\",\"payload\":{payload}}}")
    }
}

/// Makes the endpoints that stay. Nothing fails yet.
pub(crate) async fn register(field: &Field) -> Vec<Endpoint> {
    let (caller, mut rng) = (Caller::of(field), fastrand::Rng::with_seed(field.plan.seed));
    let of_crowd = [Temper::Healthy];
    let mut endpoints = Vec::new();
    for (tenant, tempers) in TENANTS.into_iter().chain([(CROWD, &of_crowd[..])]) {
        for (number, temper) in tempers.iter().enumerate() {
            let name = format!("{tenant}-{number}");
            let event_type = (number == 3).then_some(TYPES[0]);
            let receiver = Temper::ALL.iter().position(|other| other == temper).unwrap_or_default();
            let answer = create(field, &caller, &mut rng, tenant, &name, receiver, event_type).await;
            let id = answer.body["id"].as_str().unwrap_or_default().to_owned();
            endpoints.push(Endpoint { tenant, name, id, receiver, temper: *temper, event_type });
        }
    }
    endpoints
}

/// Makes an endpoint whose path is its name. Its secret stands in the books before it signs.
pub(crate) async fn create(
    field: &Field,
    caller: &Caller,
    rng: &mut fastrand::Rng,
    tenant: &str,
    name: &str,
    receiver: usize,
    event_type: Option<&str>,
) -> Answer {
    let secret = secret(rng);
    field.books.open().secrets.entry(name.to_owned()).or_default().push(secret.clone());
    let url = field.receivers[receiver].endpoint_url(name);
    let body = json!({
        "url": url, "uid": name, "secret": secret, "retry_schedule_s": [1, 1, 2],
        "event_types": event_type.into_iter().collect::<Vec<_>>(), "metadata": { "count": "0" },
    });
    // 409: an answer was lost, and it has the uid already.
    caller.ask("POST", &format!("/tenants/{tenant}/endpoints"), body.to_string(), &[201, 409]).await
}

fn secret(rng: &mut fastrand::Rng) -> String {
    let bytes: [u8; 32] = std::array::from_fn(|_| rng.u8(..));
    format!("whsec_{}", STANDARD.encode(bytes))
}

/// Lets every tenant tell its events.
pub(crate) async fn work(field: &Field) {
    let count = (field.plan.webhooks / WEBHOOKS_PER_EVENT).div_ceil(TENANTS.len());
    let began = Clock::system().now();
    let tenants = TENANTS.into_iter().map(|(name, _)| Tenant::new(field, name, began).work(count));
    futures_util::future::join_all(tenants).await;
}

/// What a tenant does beside telling events.
#[derive(Clone, Copy)]
enum Act {
    Pause,
    Rate,
    Rotate,
    Replay,
    Erase,
    Token,
    TellAgain,
    Look,
}

const ACTS: [Act; 8] =
    [Act::Rate, Act::Rotate, Act::Replay, Act::Erase, Act::Token, Act::TellAgain, Act::Look, Act::Pause];

/// One that tells events of a tenant.
pub(crate) struct Tenant<'f> {
    field: &'f Field,
    name: &'static str,
    rng: fastrand::Rng,
    caller: Caller,
    /// Its token and the token's id.
    token: Option<(String, String)>,
    made: usize,
    /// When the run began.
    began: Millis,
    /// Endpoints that were replayed. A second replay could overtake the first.
    replayed: Vec<String>,
}

impl<'f> Tenant<'f> {
    pub(crate) fn new(field: &'f Field, name: &'static str, began: Millis) -> Self {
        let seed = field.plan.seed.wrapping_mul(31) ^ name.bytes().fold(0, |sum, byte| sum * 31 + u64::from(byte));
        let (rng, caller) = (fastrand::Rng::with_seed(seed), Caller::of(field));
        Self { field, name, rng, caller, token: None, made: 0, began, replayed: Vec::new() }
    }

    async fn work(mut self, count: usize) {
        self.token().await;
        let mut acts = Vec::new();
        while self.made < count {
            if acts.is_empty() {
                acts = ACTS.to_vec();
                self.rng.shuffle(&mut acts);
            }
            let size = self.rng.usize(1..=(count / 20).clamp(2, 20)).min(count - self.made);
            self.tell_some(size).await;
            // The first one is a pause, because that takes time to be made good.
            let act = if self.made == size { Some(Act::Pause) } else { acts.pop() };
            self.act(act).await;
            let share = self.rng.f64() * 2.0 * size as f64 / count as f64;
            tokio::time::sleep(self.field.plan.spread().mul_f64(share)).await;
        }
    }

    async fn act(&mut self, act: Option<Act>) {
        // Half of the requests carry a token.
        self.caller.token = self.token.as_ref().filter(|_| self.rng.bool()).map(|(text, _)| text.clone());
        match act {
            Some(Act::Pause) => self.pause().await,
            Some(Act::Rate) => self.change_rate().await,
            Some(Act::Rotate) => self.rotate().await,
            Some(Act::Replay) => self.replay().await,
            Some(Act::Erase) => self.erase().await,
            Some(Act::Token) => self.token().await,
            Some(Act::TellAgain) => self.tell_again().await,
            Some(Act::Look) => self.look().await,
            None => {}
        }
    }

    fn endpoint(&mut self) -> Endpoint {
        let own: Vec<&Endpoint> = self.field.endpoints.iter().filter(|endpoint| endpoint.tenant == self.name).collect();
        own[self.rng.usize(..own.len())].clone()
    }

    /// One of its events that is not erased.
    fn event(&mut self) -> Option<(String, ToldEvent)> {
        let books = self.field.books.open();
        let own = books.events.iter().filter(|(_, event)| event.tenant == self.name && !event.is_erased);
        let mut own: Vec<(&String, &ToldEvent)> = own.collect();
        // The order of a map does not follow the seed.
        own.sort_by_key(|(id, _)| id.as_str());
        let (id, event) = *self.rng.choice(&own)?;
        Some((id.clone(), event.clone()))
    }

    /// Tells so many new events, one by one or together.
    pub(crate) async fn tell_some(&mut self, size: usize) {
        let events = (0..size).map(|_| {
            self.made += 1;
            let id = format!("{}-e{}", self.name, self.made);
            let filler = "x".repeat(self.rng.usize(..300));
            let payload = format!(
                "{{ \"exact\":12345678901234567890123 ,\"canary\":\"{}\",\"filler\":\"{filler}\"}}",
                canary(&id)
            );
            NewEvent { id, event_type: TYPES[self.rng.usize(..TYPES.len())], payload }
        });
        let events: Vec<NewEvent> = events.collect();
        if self.rng.bool() {
            self.tell(events).await;
        } else {
            for event in events {
                self.tell(vec![event]).await;
            }
        }
    }

    /// Tells one event when everything is over. Gives its id.
    pub(crate) async fn tell_last(mut self) -> String {
        let id = format!("{}-last", self.name);
        let payload = format!("\"{}\"", canary(&id));
        self.tell(vec![NewEvent { id: id.clone(), event_type: TYPES[0], payload }]).await;
        id
    }

    /// Repeats the events that got no answer until all have one.
    async fn tell(&mut self, mut open: Vec<NewEvent>) {
        self.caller.token = self.token.as_ref().filter(|_| self.rng.bool()).map(|(text, _)| text.clone());
        for attempt in 0..TRIES {
            let codes = self.codes(&open).await;
            let mut left = Vec::new();
            for (event, code) in open.into_iter().zip(codes) {
                match code {
                    Some(202) => self.told(event),
                    Some(code @ (400..=499)) if code != 429 => {
                        self.field.books.breach(format!("{} is refused with {code}", event.id));
                    }
                    _ => left.push(event),
                }
            }
            if left.is_empty() {
                return;
            }
            open = left;
            self.field.books.open().repeated += 1;
            self.caller.pause(attempt).await;
        }
        for event in open {
            self.field.books.breach(format!("{} was never accepted", event.id));
        }
    }

    /// The code for each event; none when there is no usable answer.
    async fn codes(&self, open: &[NewEvent]) -> Vec<Option<u64>> {
        let path = format!("/tenants/{}/events", self.name);
        if let [event] = open {
            let answer = self.caller.once("POST", &path, event.json(), "").await;
            return vec![answer.map(|answer| u64::from(answer.code))];
        }
        let items: Vec<String> = open.iter().map(NewEvent::json).collect();
        let body = format!("{{\"events\":[{}]}}", items.join(","));
        let Some(answer) = self.caller.once("POST", &format!("{path}/batch"), body, "").await else {
            return vec![None; open.len()];
        };
        if answer.code != 200 {
            return vec![Some(u64::from(answer.code)); open.len()];
        }
        let of = |result: &Value| result["error"]["status"].as_u64().or(result["event_id"].as_str().map(|_| 202));
        (0..open.len()).map(|i| of(answer.body["results"].get(i)?)).collect()
    }

    fn told(&self, event: NewEvent) {
        let NewEvent { id, event_type, payload } = event;
        let told = ToldEvent { tenant: self.name, event_type, payload, at: Instant::now(), is_erased: false };
        self.field.books.open().events.insert(id, told);
    }

    /// An event that is told twice is one event.
    async fn tell_again(&mut self) {
        // While Redis is away, nobody can know that.
        let Some((id, told)) = self.event().filter(|_| self.field.plan.weather == Weather::Calm) else { return };
        let event = NewEvent { id, event_type: told.event_type, payload: told.payload };
        let answer = self.caller.ask("POST", &format!("/tenants/{}/events", self.name), event.json(), &[202]).await;
        if answer.body["duplicate"] != true {
            self.field.books.breach(format!("{} was told again and is no duplicate: {}", event.id, answer.body));
        }
        self.field.books.act("told again");
    }

    async fn patch(&self, endpoint: &Endpoint, body: Value) {
        let _changing = self.field.changes.read().await;
        self.caller.ask("PATCH", &endpoint.path(), body.to_string(), &[200]).await;
    }

    /// Pauses an endpoint, so that it is owed what is told meanwhile.
    async fn pause(&mut self) {
        let plan = &self.field.plan;
        let early = if plan.is_long { EARLY * 4 } else { EARLY };
        if self.field.began.elapsed() > early || (plan.weather == Weather::Calm && !plan.is_long) {
            return;
        }
        let endpoint = self.endpoint();
        self.patch(&endpoint, json!({ "state": "paused" })).await;
        self.tell_some(2).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.patch(&endpoint, json!({ "state": "enabled" })).await;
        self.field.books.act("paused");
    }

    async fn change_rate(&mut self) {
        let endpoint = self.endpoint();
        let rate = [json!(5), json!(20), json!(100), Value::Null][self.rng.usize(..4)].clone();
        self.patch(&endpoint, json!({ "rate_per_s": rate })).await;
        self.field.books.act("rate changed");
    }

    async fn rotate(&mut self) {
        let (endpoint, secret) = (self.endpoint(), secret(&mut self.rng));
        {
            let mut books = self.field.books.open();
            let secrets = books.secrets.entry(endpoint.name.clone()).or_default();
            if secrets.len() > MOST_ROTATIONS {
                return;
            }
            secrets.push(secret.clone());
        }
        let body = json!({ "secret": secret, "overlap_s": 3600 }).to_string();
        let _changing = self.field.changes.read().await;
        // 422: an answer was lost, and it is a secret of the endpoint already.
        let fine: &[u16] = if self.field.plan.weather == Weather::Calm { &[200] } else { &[200, 422] };
        self.caller.ask("POST", &format!("{}/rotate-secret", endpoint.path()), body, fine).await;
        self.field.books.act("secret rotated");
    }

    /// Sends again what an endpoint did not get. That is asked once: two replays of the same
    /// deliveries may both send them.
    async fn replay(&mut self) {
        let endpoint = self.endpoint();
        if self.replayed.contains(&endpoint.id) {
            return;
        }
        self.replayed.push(endpoint.id.clone());
        let body = json!({ "what": "failed", "since": self.began.to_string(), "per_second": 500 }).to_string();
        match self.caller.once("POST", &format!("{}/replays", endpoint.path()), body, "").await {
            Some(Answer { code: 202, .. }) => self.field.books.act("replayed"),
            Some(answer) => {
                self.field.books.breach(format!("a replay is answered with {}: {}", answer.code, answer.body))
            }
            None => self.field.books.act("replay without an answer"),
        }
    }

    async fn erase(&mut self) {
        let Some((id, _)) = self.event() else { return };
        if let Some(event) = self.field.books.open().events.get_mut(&id) {
            event.is_erased = true;
        }
        self.caller.ask("DELETE", &format!("/tenants/{}/events/{id}/payload", self.name), String::new(), &[202]).await;
        self.field.books.act("erased");
    }

    /// Makes a token, and revokes the one before.
    async fn token(&mut self) {
        self.caller.token = None;
        let body = json!({ "scope": format!("tenant:{}", self.name), "ttl_s": 3600 }).to_string();
        let made = self.caller.ask("POST", "/tokens", body, &[201]).await.body;
        let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
        let fresh = (text("token"), text("id"));
        if let Some((text, id)) = self.token.replace(fresh) {
            // 404: an answer was lost.
            self.caller.ask("DELETE", &format!("/tokens/{id}"), String::new(), &[204, 404]).await;
            self.field.books.open().revoked.push((text, Instant::now()));
            self.field.books.act("token revoked");
        }
    }

    /// Looks where an event and an endpoint stand.
    async fn look(&mut self) {
        let (endpoint, Some((event, _))) = (self.endpoint(), self.event()) else { return };
        let event = format!("/tenants/{}/events/{event}", self.name);
        // What Redis forgot or a table does not have yet is unknown.
        let fine: &[u16] = if self.field.plan.weather == Weather::Calm { &[200] } else { &[200, 404] };
        self.caller.ask("GET", &event, String::new(), fine).await;
        self.caller.ask("GET", &format!("{event}/deliveries"), String::new(), fine).await;
        self.caller.ask("GET", &endpoint.path(), String::new(), &[200]).await;
        let waiting = format!("{}/deliveries?result=waiting", endpoint.path());
        self.caller.ask("GET", &waiting, String::new(), &[200]).await;
        self.field.books.act("looked");
    }
}

/// Sends again what endpoints did not get while their receivers failed, and waits until that
/// is queued.
pub(crate) async fn send_again(field: &Field) {
    let caller = Caller::of(field);
    let since = Clock::system().now().0.saturating_sub(u64::try_from(field.began.elapsed().as_millis()).unwrap_or(0));
    let able = field.endpoints.iter().filter(|endpoint| endpoint.temper != Temper::Missing);
    let replays = able.map(|endpoint| replay_failed(field, &caller, endpoint, Millis(since)));
    futures_util::future::join_all(replays).await;
}

async fn replay_failed(field: &Field, caller: &Caller, endpoint: &Endpoint, since: Millis) {
    let body = json!({ "what": "failed", "since": since.to_string(), "per_second": 500 }).to_string();
    let made = caller.ask("POST", &format!("{}/replays", endpoint.path()), body, &[202]).await.body;
    let path = format!("/tenants/{}/replays/{}", endpoint.tenant, made["replay_id"].as_str().unwrap_or_default());
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let replay = caller.ask("GET", &path, String::new(), &[200]).await.body;
        match replay["state"].as_str() {
            Some("done") => return,
            Some("running") if Instant::now() < until => tokio::time::sleep(Duration::from_millis(100)).await,
            _ => return field.books.breach(format!("a replay does not end: {replay}")),
        }
    }
}

/// Sends the last events once more to every endpoint that wanted them. Nothing is the matter any
/// more, so each arrives exactly once more. Gives what does not.
pub(crate) async fn resend(field: &Field, last: &[String]) -> Vec<String> {
    let (caller, mut wrong) = (Caller::of(field), Vec::new());
    for event_id in last {
        let Some(event) = field.books.open().events.get(event_id).cloned() else { continue };
        let wanting = field.endpoints.iter().filter(|endpoint| endpoint.wants(&event));
        let endpoints: Vec<&Endpoint> = wanting.filter(|endpoint| endpoint.temper != Temper::Missing).collect();
        let once_more: Vec<usize> =
            deliveries::accepted(field, event_id, &endpoints).into_iter().map(|count| count + 1).collect();
        for endpoint in &endpoints {
            let path = format!("/tenants/{}/events/{event_id}/deliveries/{}/resend", endpoint.tenant, endpoint.id);
            caller.ask("POST", &path, String::new(), &[202]).await;
        }
        field.settle().await;
        let got = deliveries::accepted(field, event_id, &endpoints);
        if got != once_more {
            let names: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
            wrong.push(format!("{event_id} was sent once more to {names:?}: {got:?} calls, not {once_more:?}"));
        }
    }
    wrong.append(&mut field.books.open().breaches);
    wrong
}
