//! How processes of a run begin: clients, consumers and operators.

use std::sync::Arc;
use std::time::Duration;

use adapters::aws::sqs::QueueName;
use adapters::aws::sqs_event::Received;
use adapters::redis::records;
use adapters::redis::transport::RedisPort;
use fn_archive::Archivist;
use fn_cleanup::Cleanup;
use fn_deliver::Deliver;
use fn_enqueue::Enqueue;
use fn_fanout::{Fanout, Subscriptions};
use fn_operate::Operate;
use lambda_http::{Body, Request};
use strum::IntoEnumIterator as _;

use super::books::{Client, ENDPOINTS};
use super::gate::{OfTheProcess, Port};
use super::marks::{Archive, Carried, given_up};
use super::{Ended, Kind, Simulation};
use crate::endpoints::TENANT;
use crate::sqs_model::Taken;
use crate::world::{cards, dead_letter, event, received};

/// A fan-out that lives for long: it serves one invocation after the other, and knows the
/// endpoints.
pub(super) struct WarmFanout {
    fanout: Arc<Fanout>,
    /// The process that it served last.
    user: usize,
}

impl WarmFanout {
    /// Whether it serves this process, or did last.
    pub(super) fn serves(&self, process: usize) -> bool {
        self.user == process
    }
}

impl Simulation {
    pub(super) async fn start_client(&mut self) {
        let Some(client) = self.wanting.pop() else { return };
        let port = Arc::new(self.port());
        let config = self.environment.read(fn_enqueue::config::read).unwrap();
        let (queue, redis) = (Arc::clone(&port) as _, Arc::clone(&port) as _);
        let enqueue = Enqueue::new(&config, queue, redis, Arc::new(self.registry.clone()), self.clock.clone());
        let body = self.books.request(client);
        let request = match client {
            Client::Webhook(_) => post("/webhooks", body),
            Client::Event(_) => post(&format!("/tenants/{TENANT}/events"), body),
        };
        let task = async move {
            let response = enqueue.handle(request).await;
            Ended::Client(response.status().as_u16(), response.body().contains("\"duplicate\":true"))
        };
        self.spawn(port.number, Kind::Client(client), task).await;
    }

    /// Somebody uses an id again, sends a dead letter again, or removes what is finished.
    pub(super) async fn operate(&mut self) {
        match self.rng.u8(0..8) {
            0..=3 => self.post_again(),
            4 if self.cleans => self.start_cleanup().await,
            5 | 6 => self.start_redrive().await,
            _ => {}
        }
    }

    /// A client posts again what is finished, after its record is gone: that is a delivery
    /// or an event of its own.
    fn post_again(&mut self) {
        let finished = self.books.finished(&Archive::of(&self.store));
        if finished.is_empty() || self.posts_again == 0 || self.away_until.is_some() {
            return;
        }
        let client = finished[self.rng.usize(0..finished.len())];
        if !self.has_record(&self.books.record_id(client)) {
            self.posts_again -= 1;
            // Lives of an id are told apart by the time.
            self.pass_by(Duration::from_millis(1));
            self.books.lives_again(client, self.clock.now());
            self.wanting.push(client);
        }
    }

    /// Long afterwards, every client posts again what it may.
    pub(super) fn post_all_again(&mut self) {
        for client in self.books.finished(&Archive::of(&self.store)) {
            assert!(!self.has_record(&self.books.record_id(client)), "the record of {client:?} lives too long");
            self.books.lives_again(client, self.clock.now());
            self.wanting.push(client);
        }
    }

    fn has_record(&self, id: &str) -> bool {
        redis::cmd("EXISTS").arg(records::key(id)).query(&mut **self.look.lock().unwrap()).unwrap()
    }

    async fn start_cleanup(&mut self) {
        let port = Arc::new(self.port());
        let config = self.environment.read(fn_cleanup::config::read).unwrap();
        let cleanup = Cleanup::new(&config, Arc::clone(&port) as _, Arc::new(OfTheProcess), self.clock.clone());
        let request = post("/webhook-cleanup?older_than_days=0", String::new());
        let task = async move { Ended::Operator(cleanup.handle(request).await.status().as_u16()) };
        self.spawn(port.number, Kind::Cleanup, task).await;
    }

    async fn start_redrive(&mut self) {
        let mut filed: Vec<(String, String, Carried)> = Vec::new();
        self.store.each(|letter, _| {
            let ids = (letter.webhook_id.clone(), letter.delivery_id().to_owned());
            filed.extend(given_up(letter).map(|what| (ids.0, ids.1, what)));
        });
        if filed.is_empty() {
            return;
        }
        // There are few events among them, so half of the time one is preferred.
        let is_event = |(_, _, what): &(String, String, Carried)| matches!(what, Carried::Page(_));
        if self.rng.bool() && filed.iter().any(is_event) {
            filed.retain(is_event);
        }
        let (id, record, what) = filed.swap_remove(self.rng.usize(0..filed.len()));
        let port = Arc::new(self.port());
        let config = self.environment.read(fn_operate::config::read).unwrap();
        let (redis, store, queue) = (Arc::clone(&port) as _, Arc::clone(&port) as _, Arc::clone(&port) as _);
        let (history, registry) = (Arc::new(self.history.clone()), Arc::new(self.registry.clone()));
        let clients = fn_operate::Clients { redis, store, queue, history, registry };
        let operate = Operate::new(&config, clients, self.clock.clone());
        let request = post(&format!("/dead-letters/{id}/redrive"), String::new());
        // It may send although its answer is lost.
        self.books.may_redrive(what, !self.has_record(&record));
        let task = async move { Ended::Operator(operate.handle(request).await.status().as_u16()) };
        self.spawn(port.number, Kind::Redrive(what), task).await;
    }

    pub(super) async fn start_consumer(&mut self) {
        let queues: Vec<QueueName> = QueueName::iter().collect();
        let queue_name = queues[self.rng.usize(0..queues.len())];
        self.consume(queue_name).await;
    }

    pub(super) async fn start_consumer_anywhere(&mut self) -> bool {
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
                self.books.doubled(&taken.message.body);
                self.queues.duplicate(queue_name, taken);
            }
        }
        let port = self.port();
        self.books.took(port.number, taken.iter().map(|taken| taken.message.body.as_str()));
        match queue_name {
            QueueName::Event => self.start_fanout(port, taken).await,
            QueueName::DeadLetter => self.start_archive(port, taken).await,
            QueueName::Delivery | QueueName::Retry | QueueName::Wait | QueueName::Slow => {
                self.start_deliver(port, queue_name, taken).await;
            }
        }
        true
    }

    async fn start_archive(&mut self, port: Port, taken: Vec<Taken>) {
        let (number, port) = (port.number, Arc::new(port));
        let config = self.environment.read(fn_archive::config::read).unwrap();
        let (redis, history) = (Arc::clone(&port) as _, Arc::clone(&port) as _);
        let archivist = Archivist::new(&config, redis, port as _, history, self.clock.clone());
        let records: Vec<fn_archive::Received> = taken.iter().map(dead_letter).collect();
        let task = async move { Ended::Consumer(archivist.handle(&records).await) };
        self.spawn(number, Kind::Consumer(QueueName::DeadLetter, taken), task).await;
    }

    async fn start_deliver(&mut self, port: Port, queue_name: QueueName, taken: Vec<Taken>) {
        let (number, port) = (port.number, Arc::new(port));
        let config = self.environment.read(fn_deliver::config::read).unwrap();
        let redis: Arc<dyn RedisPort> = Arc::clone(&port) as _;
        // Some consumers have just started. The others share the cards that one of two
        // processes knows.
        let cards = match self.rng.usize(0..4) {
            0 | 1 => cards(Arc::clone(&port) as _),
            n => Arc::clone(&self.warm_cards[n - 2]),
        };
        let (queue, history) = (Arc::clone(&port) as _, Arc::clone(&port) as _);
        let deliver = Deliver::new(&config, queue, redis, port as _, cards, history, self.clock.clone());
        let records: Vec<Received> = taken.iter().map(|taken| received(queue_name, taken)).collect();
        let ends_at = self.clock.now().after(Duration::from_secs(60));
        let task = async move { Ended::Consumer(deliver.handle(&records, ends_at).await) };
        self.spawn(number, Kind::Consumer(queue_name, taken), task).await;
    }

    async fn start_fanout(&mut self, port: Port, taken: Vec<Taken>) {
        let port = Arc::new(Port { part: self.rng.usize(1..=ENDPOINTS), ..port });
        // Half of the consumers have just started. A warm one serves one invocation at a time.
        let fanout = match self.rng.usize(0..4) {
            0 | 1 => self.fanout(),
            n => self.warm_fanout(n - 2, port.number),
        };
        let records: Vec<Received> = taken.iter().map(event).collect();
        let ends_at = self.clock.now().after(Duration::from_secs(60));
        let number = port.number;
        self.books.fans_out(number);
        let task = port.lend(async move { Ended::Consumer(fanout.handle(&records, ends_at).await) });
        self.spawn(number, Kind::Consumer(QueueName::Event, taken), task).await;
    }

    fn warm_fanout(&mut self, place: usize, number: usize) -> Arc<Fanout> {
        let is_free = |warm: &WarmFanout| self.processes.iter().all(|process| process.number != warm.user);
        match &mut self.warm_fanouts[place] {
            Some(warm) if is_free(warm) => {
                warm.user = number;
                self.books.count("warm fan-out");
                Arc::clone(&warm.fanout)
            }
            Some(_) => self.fanout(),
            None => {
                let fanout = self.fanout();
                self.warm_fanouts[place] = Some(WarmFanout { fanout: Arc::clone(&fanout), user: number });
                fanout
            }
        }
    }

    /// A fan-out that knows nothing. Its pages are small.
    fn fanout(&mut self) -> Arc<Fanout> {
        let mut config = self.environment.read(fn_fanout::config::read).unwrap();
        config.pages.cards = self.rng.usize(1..=3);
        let clients = fn_fanout::Clients {
            queue: Arc::new(OfTheProcess),
            redis: Arc::new(OfTheProcess),
            subscriptions: Subscriptions::new(Arc::new(OfTheProcess)),
            registry: Arc::new(self.registry.clone()),
            store: Arc::new(self.store.clone()),
            history: Arc::new(OfTheProcess),
            bus: None,
        };
        Arc::new(Fanout::new(&config, clients, self.clock.clone()))
    }
}

fn post(path: &str, body: String) -> Request {
    let mut request = Request::new(Body::from(body));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = format!("http://api{path}").parse().unwrap();
    request
}
