//! Where every step to the outside stops until the simulation lets it pass.

use std::sync::Arc;
use std::sync::Mutex;

use adapters::clock::Clock;
use adapters::dynamodb::{Archive, ArchiveError, Filed};
use adapters::redis::{Call, Reply, Unavailable, Wire};
use adapters::sender::Courier;
use adapters::sqs::{Lane, Outgoing, Queue, SendError};
use async_trait::async_trait;
use domain::dead_letter::DeadLetter;
use domain::message::Message;
use domain::outcome::{Answer, Attempted};
use tokio::sync::oneshot;

use super::books::Books;
use crate::archive_model::ArchiveModel;
use crate::sqs_model::SqsModel;

/// Where a process stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    BeforeWave,
    AfterWave,
    BeforeSend,
    AfterSend,
    BeforePost,
    AfterPost,
    BeforeFile,
    AfterFile,
}

/// How a process goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Permit {
    #[default]
    Go,
    /// It fails, or seems to.
    Fail,
    /// What was done is done once more.
    Again,
}

struct Waiting {
    process: usize,
    point: Point,
    permit: oneshot::Sender<Permit>,
}

/// All processes' gates.
pub(crate) struct Gate {
    waiting: Mutex<Vec<Waiting>>,
    /// Counts every arrival and departure.
    moved: Mutex<u64>,
    /// Commands that Redis is working on.
    busy: Mutex<usize>,
    away: Mutex<bool>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { waiting: Mutex::default(), moved: Mutex::default(), busy: Mutex::default(), away: Mutex::default() }
    }

    /// Who waits where: place, process, point.
    pub(crate) fn waiting(&self) -> Vec<(usize, usize, Point)> {
        let waiting = self.waiting.lock().unwrap();
        waiting.iter().enumerate().map(|(i, one)| (i, one.process, one.point)).collect()
    }

    pub(crate) fn grant(&self, index: usize, permit: Permit) {
        let one = self.waiting.lock().unwrap().remove(index);
        *self.moved.lock().unwrap() += 1;
        // Its process may have died meanwhile.
        one.permit.send(permit).ok();
    }

    /// Drops a process that has died.
    pub(crate) fn forget(&self, process: usize) {
        self.waiting.lock().unwrap().retain(|one| one.process != process);
    }

    pub(crate) fn movement(&self) -> u64 {
        *self.moved.lock().unwrap()
    }

    pub(crate) fn is_idle(&self) -> bool {
        *self.busy.lock().unwrap() == 0
    }

    pub(crate) fn set_redis_away(&self, away: bool) {
        *self.away.lock().unwrap() = away;
    }

    async fn pass(&self, process: usize, point: Point) -> Permit {
        let (permit, granted) = oneshot::channel();
        self.waiting.lock().unwrap().push(Waiting { process, point, permit });
        *self.moved.lock().unwrap() += 1;
        match granted.await {
            Ok(permit) => permit,
            // The process has died; its task ends with this.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Redis is at work as long as this lives, also when its process dies.
struct AtWork<'a>(&'a Gate);

impl<'a> AtWork<'a> {
    fn begin(gate: &'a Gate) -> Self {
        *gate.busy.lock().unwrap() += 1;
        Self(gate)
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        *self.0.busy.lock().unwrap() -= 1;
        *self.0.moved.lock().unwrap() += 1;
    }
}

/// One process's way to the outside.
pub(crate) struct Port {
    number: usize,
    gate: Arc<Gate>,
    books: Arc<Books>,
    redis: Arc<dyn Wire>,
    queues: SqsModel,
    archive: ArchiveModel,
    clock: Clock,
}

impl Port {
    pub(crate) fn new(
        number: usize,
        gate: Arc<Gate>,
        books: Arc<Books>,
        redis: Arc<dyn Wire>,
        queues: SqsModel,
        archive: ArchiveModel,
        clock: Clock,
    ) -> Self {
        Self { number, gate, books, redis, queues, archive, clock }
    }

    pub(crate) fn number(&self) -> usize {
        self.number
    }

    async fn exchange(&self, calls: &[Call]) -> Result<Vec<Reply>, Unavailable> {
        let _at_work = AtWork::begin(&self.gate);
        self.redis.wave(calls).await
    }
}

#[async_trait]
impl Wire for Port {
    async fn wave(&self, calls: &[Call]) -> Result<Vec<Reply>, Unavailable> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        self.gate.pass(self.number, Point::BeforeWave).await;
        if *self.gate.away.lock().unwrap() {
            self.books.count("wave without redis");
            return Err(Unavailable::away());
        }
        for call in calls {
            self.books.asks(self.number, call);
        }
        let mut replies = self.exchange(calls).await;
        if self.gate.pass(self.number, Point::AfterWave).await == Permit::Again {
            replies = self.exchange(calls).await;
        }
        if *self.gate.away.lock().unwrap() {
            // It was done, and nobody will know.
            self.books.count("reply lost");
            return Err(Unavailable::away());
        }
        for (call, reply) in calls.iter().zip(replies.iter().flatten()) {
            if let Ok(reply) = reply {
                self.books.answered(self.number, call, reply);
            }
        }
        replies
    }
}

#[async_trait]
impl Queue for Port {
    async fn send(&self, lane: Lane, messages: Vec<Outgoing>) -> Vec<Result<(), SendError>> {
        let failure = || Err(SendError::Unavailable("simulated".to_owned()));
        let count = messages.len();
        for message in &messages {
            self.books.sends(lane, message);
        }
        if self.gate.pass(self.number, Point::BeforeSend).await == Permit::Fail {
            self.books.not_sent(&messages);
            return vec![failure(); count];
        }
        let results = self.queues.send(lane, messages.clone()).await;
        if self.gate.pass(self.number, Point::AfterSend).await == Permit::Fail {
            self.books.not_sent(&messages);
            return vec![failure(); count];
        }
        results
    }
}

#[async_trait]
impl Courier for Port {
    async fn post(&self, message: &Message) -> Attempted {
        self.gate.pass(self.number, Point::BeforePost).await;
        let at = self.clock.now();
        let (answer, retry_after) = self.books.call(self.number, message);
        let lost = self.gate.pass(self.number, Point::AfterPost).await == Permit::Fail;
        self.books.call_ended(self.number, message);
        let answer = if lost {
            self.books.excuse(&message.payload);
            Answer::Network
        } else {
            answer
        };
        let error = (!matches!(answer, Answer::Status(200))).then(|| format!("{answer:?}"));
        Attempted { answer, at, ms: 1, retry_after, error }
    }
}

#[async_trait]
impl Archive for Port {
    async fn file(&self, letter: &DeadLetter) -> Result<Filed, ArchiveError> {
        self.gate.pass(self.number, Point::BeforeFile).await;
        let filed = self.archive.file(letter).await;
        self.gate.pass(self.number, Point::AfterFile).await;
        filed
    }
}
