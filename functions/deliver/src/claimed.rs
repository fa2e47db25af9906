//! A delivery that was claimed: where it goes, and what is known of its receiver.

use std::sync::Arc;

use adapters::redis::token;
use domain::breaker::host_breaker;
use domain::delivery::Delivery;
use domain::live_state::LiveState;
use domain::message::Message;
use domain::outcome::Watched;
use domain::rate::RateSeen;

use crate::cards::OpenCard;
use crate::context::Context;
use crate::decision::HeldClaim;
use crate::read::Arrived;
use crate::route::{Route, key_of};
use crate::urls::ReceiverUrl;

/// A delivery that may be attempted, as far as its record is concerned.
#[derive(Debug)]
pub(crate) struct Claimed {
    /// Which record of the batch.
    pub(crate) record: usize,
    pub(crate) message: Box<Message>,
    pub(crate) route: Route,
    /// The receiver's URL; `None` when it cannot be read, which the receiver client reports.
    pub(crate) url: Option<Arc<ReceiverUrl>>,
    pub(crate) claim: HeldClaim,
    /// The breakers that watch over it, in the order in which they are asked.
    pub(crate) breakers: Vec<WatchingBreaker>,
    /// What is known of its receiver.
    pub(crate) live: LiveState,
    /// What is known of its endpoint's rate; `None` if that cannot be read.
    pub(crate) rate: Option<RateSeen>,
    /// Whether it comes from the queue of slow receivers.
    pub(crate) is_among_slow: bool,
}

/// A breaker that watches over a delivery.
#[derive(Clone, Debug)]
pub(crate) struct WatchingBreaker {
    /// What it watches over.
    pub(crate) watched: Watched,
    /// Its name.
    pub(crate) name: String,
    pub(crate) seen: BreakerSeen,
}

/// What was seen of a breaker.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BreakerSeen {
    /// It is closed, in this epoch.
    Closed(u64),
    /// It is not closed: the caller has to ask for admission.
    NotClosed,
    /// It cannot be read, and counts as closed.
    Unreadable,
}

impl Claimed {
    /// A delivery that arrived, to be claimed.
    pub(crate) fn of(context: &Context, arrived: Arrived) -> Self {
        let Arrived { record, message, is_among_slow } = arrived;
        let claim = HeldClaim {
            id: message.delivery.id.clone(),
            token: token(),
            hop: message.hop,
            new_record: message.new_record(),
            is_known: false,
            log: None,
        };
        let mut claimed = Self {
            record,
            message,
            route: Route::Direct,
            url: None,
            claim,
            breakers: Vec::new(),
            live: LiveState::default(),
            rate: None,
            is_among_slow,
        };
        claimed.head_for(likely_url(context, &claimed.message.delivery));
        claimed
    }

    /// Notes where it goes, and which breakers watch over that. One that was not looked at has
    /// to be asked.
    fn head_for(&mut self, url: Option<Arc<ReceiverUrl>>) {
        self.url = url;
        let names = match &self.message.delivery.endpoint {
            // It makes its call whatever breakers say, and reports nothing.
            Some(target) if target.is_test => Vec::new(),
            Some(target) => {
                vec![(Watched::Endpoint, target.endpoint.clone()), (Watched::Host, host_breaker(self.destination()))]
            }
            None => vec![(Watched::Origin, self.url.as_ref().map(|url| url.breaker.clone()).unwrap_or_default())],
        };
        let before = std::mem::take(&mut self.breakers);
        let seen = |name: &str| before.iter().find(|breaker| breaker.name == name).map(|breaker| breaker.seen);
        self.breakers = names
            .into_iter()
            .map(|(watched, name)| WatchingBreaker {
                watched,
                seen: seen(&name).unwrap_or(BreakerSeen::NotClosed),
                name,
            })
            .collect();
    }

    /// Goes where the card of its endpoint says.
    pub(crate) fn take_card(&mut self, context: &Context, card: Arc<OpenCard>) {
        let url = context.urls.read(&card.url, &context.breakers);
        self.route = Route::Endpoint(card);
        self.head_for(url);
    }

    /// The origin of the receiver's URL; empty when that cannot be read.
    pub(crate) fn destination(&self) -> &str {
        destination_of(self.url.as_ref())
    }
}

impl BreakerSeen {
    /// What is seen of a breaker: the epoch of one that is closed, if it can be read.
    pub(crate) fn of(epoch: Option<Option<u64>>) -> Self {
        match epoch {
            Some(Some(epoch)) => Self::Closed(epoch),
            Some(None) => Self::NotClosed,
            None => Self::Unreadable,
        }
    }
}

/// The origin of a receiver's URL; empty when that cannot be read.
pub(crate) fn destination_of(url: Option<&Arc<ReceiverUrl>>) -> &str {
    url.map_or("", |url| url.destination.as_str())
}

/// What the live state of a delivery's receiver is named by.
pub(crate) fn receiver_name(delivery: &Delivery, destination: &str) -> String {
    delivery.endpoint.as_ref().map_or_else(|| destination.to_owned(), |target| target.endpoint.clone())
}

/// Where a delivery probably goes. The cards of endpoints are read at the same time as their
/// breakers, so a message says which origin its endpoint had.
fn likely_url(context: &Context, delivery: &Delivery) -> Option<Arc<ReceiverUrl>> {
    let known = delivery.endpoint.as_ref().map(|target| {
        let known = context.cards.known_url(&key_of(target));
        known.unwrap_or_else(|| target.origin.clone())
    });
    context.urls.read(known.as_ref().unwrap_or(&delivery.url), &context.breakers)
}
