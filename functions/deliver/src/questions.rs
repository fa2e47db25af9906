//! What one round trip asks beside the claims of a batch, each thing once: the breakers of its
//! deliveries, what is known of their receivers, and which tenants are erased.

use std::collections::BTreeMap;

use adapters::redis::query::{Replies, Ticket, Trip, usable};
use adapters::redis::{breakers, live_states, rates, tenants};
use domain::live_state::LiveState;
use domain::message::Message;
use domain::rate::RateSeen;
use domain::time::Millis;

use crate::claimed::{BreakerSeen, Claimed, receiver_name};

/// What is asked.
#[derive(Default)]
pub(crate) struct Questions {
    epochs: BTreeMap<String, Ticket<Option<u64>>>,
    live: BTreeMap<String, Ticket<LiveState>>,
    rates: BTreeMap<String, Ticket<RateSeen>>,
    erased_tenants: BTreeMap<String, Ticket<Option<Millis>>>,
}

/// What it was told.
#[derive(Default)]
pub(crate) struct Answers {
    epochs: BTreeMap<String, BreakerSeen>,
    live: BTreeMap<String, LiveState>,
    rates: BTreeMap<String, RateSeen>,
    /// Until when tenants are erased.
    pub(crate) erased_before: BTreeMap<String, Millis>,
}

impl Questions {
    /// Asks what must be known of a delivery's receiver.
    pub(crate) fn ask(&mut self, trip: &mut Trip, claimed: &Claimed) {
        for breaker in &claimed.breakers {
            let name = &breaker.name;
            self.epochs.entry(name.clone()).or_insert_with(|| trip.add(breakers::closed_epoch(name)));
        }
        let delivery = &claimed.message.delivery;
        if delivery.is_test() {
            return;
        }
        let name = receiver_name(delivery, claimed.destination());
        self.live.entry(name.clone()).or_insert_with(|| trip.add(live_states::read(&name)));
        if delivery.endpoint.is_some() {
            self.rates.entry(name.clone()).or_insert_with(|| trip.add(rates::read(&name)));
        }
    }

    /// Asks whether a tenant is erased.
    pub(crate) fn ask_of_tenant(&mut self, trip: &mut Trip, message: &Message) {
        let Some(tenant) = message.tenant() else { return };
        self.erased_tenants.entry(tenant.to_owned()).or_insert_with(|| trip.add(tenants::erased_before(tenant)));
    }

    /// Takes what was told.
    pub(crate) fn take(self, replies: &mut Replies) -> Answers {
        let mut answers = Answers::default();
        for (name, ticket) in self.epochs {
            let epoch = usable(ticket.take(replies), &name);
            answers.epochs.insert(name, BreakerSeen::of(epoch));
        }
        for (name, ticket) in self.live {
            let live = usable(ticket.take(replies), &name).unwrap_or_default();
            answers.live.insert(name, live);
        }
        for (name, ticket) in self.rates {
            if let Some(seen) = usable(ticket.take(replies), &name) {
                answers.rates.insert(name, seen);
            }
        }
        for (tenant, ticket) in self.erased_tenants {
            let before = usable(ticket.take(replies), &tenant).flatten();
            answers.erased_before.extend(before.map(|before| (tenant, before)));
        }
        answers
    }
}

impl Answers {
    /// Tells a delivery what is known of its receiver.
    pub(crate) fn tell(&self, claimed: &mut Claimed) {
        for breaker in &mut claimed.breakers {
            breaker.seen = self.epochs.get(&breaker.name).copied().unwrap_or(BreakerSeen::Unreadable);
        }
        let name = receiver_name(&claimed.message.delivery, claimed.destination());
        claimed.live = self.live.get(&name).cloned().unwrap_or_default();
        claimed.rate = self.rates.get(&name).cloned();
    }
}
