//! One page of a replay under way: candidates are sifted, and what is wanted is queued, until
//! the page has what it may have.

use adapters::aws::sqs::{QueueName, SendError, batches};
use adapters::redis::query::Trip;
use adapters::redis::records;
use adapters::telemetry::chain;
use domain::history::candidate::{Candidate, Verdict};
use domain::history::names;
use domain::history::replay::{OLDEST, ReplayJob};
use domain::job::JobPage;
use domain::message::Message;
use domain::retry::REQUEUE_FLOOR;
use domain::subscription::Subscription;
use domain::time::{Millis, whole_ms};
use futures_util::future::join_all;

use super::sift::Sieve;
use super::walk::{HISTORY_AWAY, Walk};
use crate::context::Context;
use crate::retried;

/// Candidates whose records are asked about at a time.
const ASKED: usize = 100;
/// Candidates whose payloads are read at a time. They are held in memory until they are queued.
const HELD: usize = 25;
/// Most chunks of history that a page looks at.
const MOST_CHUNKS: usize = 200;

/// Why a page stops whose deliveries the queue does not take.
const REFUSED: &str = "the queue did not take its deliveries";

/// A page under way.
pub(super) struct Run<'a> {
    context: &'a Context,
    page: &'a JobPage,
    subscription: &'a Subscription,
    earlier: &'a [String],
    began: Millis,
    stop_at: Millis,
    /// How far it is.
    pub(super) job: ReplayJob,
    /// Deliveries that it may still send, and their bytes.
    quota: u64,
    bytes: usize,
    /// Deliveries that it has sent; a dry run would have.
    pub(super) sent: u64,
    pub(super) is_complete: bool,
    pub(super) failure: Option<&'static str>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        context: &'a Context,
        page: &'a JobPage,
        job: &ReplayJob,
        (subscription, earlier): (&'a Subscription, &'a [String]),
        stop_at: Millis,
    ) -> Self {
        let most = u64::try_from(context.pages.cards).unwrap_or(u64::MAX);
        let (quota, bytes) = (job.request.page_size(&job.counts, most), context.pages.bytes);
        let (job, began) = (job.clone(), context.clock.now());
        Self {
            context,
            page,
            subscription,
            earlier,
            began,
            stop_at,
            job,
            quota,
            bytes,
            sent: 0,
            is_complete: false,
            failure: None,
        }
    }

    /// Goes on until the page has what it may have.
    pub(super) async fn run(&mut self) {
        if self.quota == 0 {
            tracing::warn!(replay_id = %self.page.id, "a replay ends: it has as many deliveries as one may have");
            self.is_complete = true;
            return;
        }
        let request = self.job.request.clone();
        let walk = Walk {
            history: self.context.history.as_ref(),
            tenant: &self.page.tenant,
            replay: &self.page.id,
            request: &request,
            subscription: self.subscription,
            now: self.began,
        };
        let oldest = Millis(self.page.accepted_at.0.saturating_sub(whole_ms(OLDEST)));
        let mut position = self.job.after.clone().unwrap_or_else(|| names::sortable(request.since.max(oldest)));
        for _ in 0..MOST_CHUNKS {
            let chunk = match walk.after(&position).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => {
                    self.is_complete = true;
                    return;
                }
                Err(error) => {
                    tracing::error!(replay_id = %self.page.id, code = error.code(), error = %chain(&error), "a replay waits");
                    self.failure = Some(HISTORY_AWAY);
                    return;
                }
            };
            let mut candidates = chunk.candidates;
            for part in candidates.chunks_mut(ASKED) {
                if !self.part(part).await {
                    return;
                }
            }
            position.clone_from(&chunk.then);
            self.job.after = Some(chunk.then);
        }
    }

    /// Works on candidates whose records are asked about together. Says whether there is room
    /// for more.
    async fn part(&mut self, part: &mut [Candidate]) -> bool {
        let (request, replay) = (self.job.request.clone(), self.page.id.clone());
        let sieve = Sieve {
            context: self.context,
            tenant: &self.page.tenant,
            replay: &replay,
            earlier: self.earlier,
            request: &request,
            subscription: self.subscription,
            now: self.began,
        };
        if let Err(why) = sieve.ask(part).await {
            self.failure = Some(why);
            return false;
        }
        for held in part.chunks_mut(HELD) {
            if self.context.clock.now() >= self.stop_at {
                return false;
            }
            let messages = match sieve.messages(held).await {
                Ok(messages) => messages,
                Err(why) => {
                    self.failure = Some(why);
                    return false;
                }
            };
            let room = self.room(held, &messages);
            let done = if request.dry_run { room } else { self.send(&messages[..room]).await };
            let sent = messages[..done].iter().flatten().map(|message| message.delivery.payload.len());
            self.bytes = self.bytes.saturating_sub(sent.sum());
            self.count(&held[..done]);
            if done < held.len() {
                self.failure = (done < room).then_some(REFUSED);
                return false;
            }
        }
        true
    }

    /// How many of these candidates there is room for.
    fn room(&self, held: &[Candidate], messages: &[Option<Message>]) -> usize {
        let (mut quota, mut bytes) = (self.quota, self.bytes);
        for (place, (candidate, message)) in held.iter().zip(messages).enumerate() {
            if candidate.verdict != Verdict::Wanted {
                continue;
            }
            let size = message.as_ref().map_or(0, |message| message.delivery.payload.len());
            // A page without any delivery would come again for ever.
            let is_first = self.sent == 0 && quota == self.quota;
            if quota == 0 || (size > bytes && !is_first) {
                return place;
            }
            quota -= 1;
            bytes = bytes.saturating_sub(size);
        }
        held.len()
    }

    /// Queues deliveries, each when it is due. Gives how many candidates are done with: those
    /// before the first one that the queue did not take.
    async fn send(&self, messages: &[Option<Message>]) -> usize {
        let now = self.context.clock.now();
        let wanted = messages.iter().enumerate().filter_map(|(place, message)| Some((place, message.as_ref()?)));
        let outgoing = wanted.zip(self.sent..).filter_map(|((place, message), before)| {
            let due = self.began.after(REQUEUE_FLOOR).after(self.job.request.spread(before));
            Some((place, retried::outgoing(&Message { not_before: due, ..message.clone() }, now)?))
        });
        let sending = batches(outgoing).into_iter().map(|(places, messages)| async move {
            places.into_iter().zip(self.context.send(QueueName::Retry, messages).await).collect::<Vec<_>>()
        });
        let results = join_all(sending).await;
        let results: Vec<(usize, Result<(), SendError>)> = results.into_iter().flatten().collect();
        let queued = results.iter().filter(|(_, result)| result.is_ok());
        self.note_queued(queued.filter_map(|(place, _)| messages[*place].as_ref())).await;
        let refused = results.into_iter().find_map(|(place, result)| Some((place, result.err()?)));
        refused.map_or(messages.len(), |(place, error)| {
            tracing::error!(replay_id = %self.page.id, code = error.code(), error = %chain(&error), "a delivery of a replay is not queued");
            place
        })
    }

    /// Lets Redis know of the deliveries that are queued, so that another replay does not send
    /// them as well. Their claims will say it in any case.
    async fn note_queued(&self, messages: impl Iterator<Item = &Message>) {
        let lifetimes = self.context.lifetimes;
        let mut trip = Trip::default();
        for message in messages {
            drop(trip.add(records::confirm(&message.delivery.id, &message.new_record(), lifetimes)));
        }
        drop(self.context.round_trip(trip).await);
    }

    /// Counts candidates that are done with, and moves beyond them.
    fn count(&mut self, done: &[Candidate]) {
        for candidate in done {
            candidate.count(&mut self.job.counts, self.job.request.dry_run);
            let is_sent = candidate.verdict == Verdict::Wanted;
            self.sent += u64::from(is_sent);
            self.quota = self.quota.saturating_sub(u64::from(is_sent));
        }
        if let Some(last) = done.last() {
            self.job.after = Some(last.place.clone());
        }
    }
}
