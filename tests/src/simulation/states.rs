//! Endpoints that are paused and enabled in a run, as the registry's function does it. Whoever
//! does it may die between any two steps.

use std::time::Duration;

use adapters::aws::sqs::{Outgoing, Queue as _, QueueName, delay_s};
use adapters::redis::live_states;
use domain::endpoint::{Card, EndpointState, StateReason};
use domain::job::JobPage;
use domain::time::Millis;

use super::Simulation;
use super::books::ENDPOINTS;
use super::events::Presence;
use crate::endpoints::TENANT;

/// How far ahead the wake-up of a catch-up is queued, before its endpoint is enabled.
const AHEAD: Duration = Duration::from_secs(60);
/// Wake-ups of one minute are the same work.
const MINUTE_MS: u64 = 60_000;
/// How long Redis keeps a state.
const LIFE: Duration = Duration::from_secs(10 * 86_400);

impl Simulation {
    /// Somebody pauses an endpoint, or enables one that is paused or disabled. In calm weather
    /// all are enabled sooner or later.
    pub(super) async fn tend_endpoints(&mut self) {
        if self.registry_away_until.is_some() {
            return;
        }
        let is_calm = self.weather.is_calm();
        if !self.chance(if is_calm { 0.05 } else { self.weather.registry }) {
            return;
        }
        let n = self.rng.usize(0..ENDPOINTS);
        if self.endpoints[n].presence() != Presence::There {
            return;
        }
        let before = self.present_card(n).await;
        match before.state {
            EndpointState::Enabled if is_calm => {}
            EndpointState::Enabled => {
                self.books.count("paused");
                let reason = Some(StateReason::Asked);
                self.change_state(&before, EndpointState::Paused, reason).await;
            }
            EndpointState::Paused | EndpointState::Disabled => self.enable(&before).await,
        }
    }

    /// Somebody enables every endpoint that is there.
    pub(super) async fn enable_all(&mut self) {
        for n in 0..ENDPOINTS {
            if self.endpoints[n].presence() == Presence::There {
                let before = self.present_card(n).await;
                if before.state != EndpointState::Enabled {
                    self.enable(&before).await;
                }
            }
        }
    }

    async fn enable(&mut self, before: &Card) {
        self.books.count(if before.state == EndpointState::Paused { "resumed" } else { "enabled again" });
        // First of all, so that nothing is forgotten that is owed.
        self.wake_up(&before.id).await;
        if self.chance(self.weather.crash) {
            return self.books.count("died before enabling");
        }
        self.change_state(before, EndpointState::Enabled, None).await;
    }

    /// Queues the wake-up of an endpoint's catch-up.
    pub(super) async fn wake_up(&self, endpoint: &str) {
        let due = Millis(self.clock.now().after(AHEAD).0.div_ceil(MINUTE_MS) * MINUTE_MS);
        let page = JobPage::wake_up(TENANT, endpoint, due);
        let message = Outgoing::new(page.encode().unwrap(), TENANT.to_owned(), delay_s(self.clock.now(), due));
        assert!(self.queues.send(QueueName::Event, vec![message]).await.iter().all(Result::is_ok));
    }

    async fn change_state(&mut self, before: &Card, state: EndpointState, state_reason: Option<StateReason>) {
        let (version, state_since) = (before.version + 1, self.clock.now());
        let card = Card { version, state, state_reason, state_since, disabled_by: None, ..before.clone() };
        self.replace(before, card).await;
        if self.away_until.is_some() || self.chance(self.weather.crash) {
            return self.books.count("state not told to Redis");
        }
        let fresh_start = state == EndpointState::Enabled;
        let telling = live_states::set_state(&before.id, version, state, fresh_start, LIFE);
        telling.run(self.redis.as_ref()).await.unwrap();
    }

    /// Once a day everything that is owed is looked at: a restored registry may have enabled an
    /// endpoint that nobody woke up.
    pub(super) async fn look_at_what_is_owed(&mut self) {
        let now = self.clock.now();
        let page = JobPage::expiry(Millis(0), now);
        let message = Outgoing::new(page.encode().unwrap(), TENANT.to_owned(), 0);
        assert!(self.queues.send(QueueName::Event, vec![message]).await.iter().all(Result::is_ok));
        self.books.count("looked at what is owed");
    }
}
