//! The registry of endpoints in a run: what endpoints there are, and what happens to them.

use adapters::registry::{CardFound, Cards as _, EndpointKey, Registry as _, Written};
use domain::endpoint::Card;
use domain::filter::{Filter, Pattern};
use domain::schedule::RetrySchedule;

use super::Simulation;
use super::books::ENDPOINTS;
use super::events::{Presence, WISHES};
use crate::endpoints::{TENANT, card};

/// An endpoint of the run.
pub(super) struct Endpoint {
    /// Its card as it was made, but with what it wants now.
    card: Card,
    wish: usize,
    presence: Presence,
}

impl Endpoint {
    /// Whether the registry has it.
    pub(super) fn presence(&self) -> Presence {
        self.presence
    }
}

impl Simulation {
    /// Makes all endpoints but the last, which somebody may make later.
    pub(super) async fn furnish(&mut self) {
        for n in 0..ENDPOINTS {
            let schedule = RetrySchedule::new(vec![5, 30, 60]).unwrap();
            let wish = self.rng.usize(0..WISHES.len());
            let card = Card { retry_schedule: schedule, ..card(n, &url(n, 0), self.clock.now()) };
            let card = wishing(card, wish);
            self.endpoints.push(Endpoint { card, wish, presence: Presence::NotYet });
            if n < ENDPOINTS - 1 {
                self.make_endpoint(n).await;
            }
        }
    }

    async fn make_endpoint(&mut self, n: usize) {
        assert_eq!(self.registry.create(&self.endpoints[n].card, 10).await.unwrap(), Written::Done);
        self.becomes(n, Presence::There);
    }

    /// An endpoint is there, or not.
    fn becomes(&mut self, n: usize, presence: Presence) {
        self.endpoints[n].presence = presence;
        self.books.registry_has(n, presence, self.endpoints[n].wish);
    }

    /// What happens to the registry of endpoints.
    pub(super) async fn trouble_registry(&mut self) {
        if self.registry_away_until.is_some_and(|until| self.step >= until) {
            self.mend_registry();
        }
        if self.registry_away_until.is_some() || !self.chance(self.weather.registry) {
            return;
        }
        let n = self.rng.usize(0..ENDPOINTS);
        let until = self.step + self.rng.usize(5..80);
        match (self.rng.u8(0..12), self.endpoints[n].presence) {
            (0 | 1, _) => {
                self.books.count("registry away");
                self.registry.be_away(true);
                self.registry_away_until = Some(until);
            }
            // A tombstone comes back with the table, too, so it is not lost for good here.
            (2 | 3, Presence::There) => {
                self.books.count("endpoint lost");
                self.registry.lose(TENANT, &self.endpoints[n].card.id);
                self.registry_away_until = Some(until);
                self.becomes(n, Presence::Lost);
                self.restore();
            }
            (4, Presence::There) => {
                self.books.count("card restored");
                self.registry.overwrite(&self.endpoints[n].card);
            }
            (5, Presence::There) if self.rng.bool() => {
                self.books.count("endpoint deleted");
                let card = self.present_card(n).await;
                self.wake_up(&card.id).await;
                assert_eq!(self.registry.delete(&card, self.clock.now()).await.unwrap(), Written::Done);
                self.becomes(n, Presence::Deleted);
            }
            (6..=8, Presence::There) => {
                self.books.count("card changed");
                let before = self.present_card(n).await;
                let version = before.version + 1;
                self.replace(&before, Card { url: url(n, version), version, ..before.clone() }).await;
            }
            (9..=11, Presence::There) => {
                self.books.count("wish changed");
                let before = self.present_card(n).await;
                let wish = self.rng.usize(0..WISHES.len());
                self.replace(&before, wishing(Card { version: before.version + 1, ..before.clone() }, wish)).await;
                let endpoint = &mut self.endpoints[n];
                (endpoint.card, endpoint.wish) = (wishing(endpoint.card.clone(), wish), wish);
                self.becomes(n, Presence::There);
            }
            (_, Presence::NotYet) => {
                self.books.count("endpoint made");
                self.make_endpoint(n).await;
            }
            (_, Presence::There | Presence::Lost | Presence::Deleted) => {}
        }
    }

    pub(super) async fn present_card(&self, n: usize) -> Card {
        let card = &self.endpoints[n].card;
        let key = EndpointKey { tenant: card.tenant.clone(), endpoint: card.id.clone() };
        let found = self.registry.cards(&[key], true).await.unwrap();
        let [CardFound::Card(card)] = &found[..] else { panic!("endpoint {n} is {found:?}") };
        Card::clone(card)
    }

    pub(super) async fn replace(&self, before: &Card, card: Card) {
        assert_eq!(self.registry.replace(before, &card).await.unwrap(), Written::Done);
    }

    /// The registry answers, and has every endpoint that nobody deleted.
    pub(super) fn mend_registry(&mut self) {
        self.registry_away_until = None;
        self.registry.be_away(false);
        let mut is_restored = false;
        for n in 0..self.endpoints.len() {
            let presence = self.endpoints[n].presence;
            if matches!(presence, Presence::There | Presence::Lost) {
                self.registry.overwrite(&self.endpoints[n].card);
            }
            if presence == Presence::Lost {
                is_restored = true;
                self.becomes(n, Presence::There);
            }
        }
        if is_restored {
            self.restore();
        }
    }

    /// A table is restored as another table. Fan-outs that knew the one before are gone.
    fn restore(&mut self) {
        self.warm_fanouts = std::array::from_fn(|_| None);
    }
}

/// Where an endpoint is after so many changes of its card.
fn url(n: usize, changes: u64) -> String {
    format!("http://127.0.0.1:{}/endpoint-{n}", 10 + (n as u64 + changes) % 5)
}

/// A card of an endpoint that wants this.
fn wishing(card: Card, wish: usize) -> Card {
    let wish = &WISHES[wish];
    let pattern =
        |text: &str| -> Pattern { Filter::read("", serde_json::from_str(text).unwrap()).unwrap().pattern().clone() };
    Card {
        event_types: wish.event_types.iter().map(|&name| name.to_owned()).collect(),
        filter: wish.filter.map(pattern),
        ..card
    }
}
