//! What fan-out must know of an endpoint: which events it wants, and how long their
//! deliveries may take.

use url::Url;

use crate::delivery::{Delivery, EndpointTarget};
use crate::destination::Destination;
use crate::endpoint::{Card, EndpointState};
use crate::event::Event;
use crate::filter::event::Event as FilterEvent;
use crate::filter::{Filter, Match};
use crate::identity::delivery_id;
use crate::message::Message;
use crate::names::is_among;
use crate::schedule::RetrySchedule;
use crate::time::Millis;

/// One endpoint's wish for events.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The endpoint's id.
    pub endpoint: String,
    /// Its origin, a hint for its deliveries.
    origin: String,
    schedule: RetrySchedule,
    state: EndpointState,
    wish: Wish,
}

#[derive(Clone, Debug)]
enum Wish {
    /// Events of these types, as names and `name.*`, that pass the filter. No type stands for
    /// all but Steadhook's own.
    Some { event_types: Vec<String>, filter: Option<Filter> },
    /// What it wants cannot be read.
    Unknown,
}

/// Whether an endpoint wants an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It does. So does an endpoint whose card or filter cannot be read: its delivery waits until
    /// it can be, and nothing is lost.
    Yes,
    /// It does not.
    No,
    /// Its filter needs too many steps to tell, so it does not get the event.
    TooCostly,
}

impl Subscription {
    /// The subscription that a card says. A filter that cannot be read was written by another
    /// version.
    pub fn of(card: &Card) -> Self {
        let filter = card.filter.as_ref().map(|pattern| pattern.filter()).transpose();
        let wish = match filter {
            Ok(filter) => Wish::Some { event_types: card.event_types.clone(), filter },
            Err(_) => Wish::Unknown,
        };
        let origin = Url::parse(&card.url).map(|url| Destination::of(&url).as_str().to_owned());
        Self {
            endpoint: card.id.clone(),
            origin: origin.unwrap_or_default(),
            schedule: card.retry_schedule.clone(),
            state: card.state,
            wish,
        }
    }

    /// The subscription of an endpoint whose card cannot be read.
    pub fn unreadable(endpoint: String) -> Self {
        let (origin, schedule, state) = (String::new(), RetrySchedule::default(), EndpointState::Enabled);
        Self { endpoint, origin, schedule, state, wish: Wish::Unknown }
    }

    /// Whether the endpoint's deliveries are kept as owed and not queued.
    pub fn is_owed(&self) -> bool {
        match self.state {
            EndpointState::Enabled => false,
            EndpointState::Paused | EndpointState::Disabled => true,
        }
    }

    /// Whether it cannot be read what the endpoint wants.
    pub fn is_unknown(&self) -> bool {
        matches!(self.wish, Wish::Unknown)
    }

    /// Whether the endpoint wants an event of this type. `event` gives what its filter is asked
    /// about, if it has one.
    pub fn wants<'e, 'p: 'e>(&self, event_type: &str, event: impl FnOnce() -> &'e FilterEvent<'p>) -> Wanted {
        let Wish::Some { event_types, filter } = &self.wish else { return Wanted::Yes };
        if !is_among(event_type, event_types) {
            return Wanted::No;
        }
        match filter.as_ref().map(|filter| filter.matches(event())) {
            None | Some(Match::Matched) => Wanted::Yes,
            Some(Match::NotMatched) => Wanted::No,
            Some(Match::TooMuchWork) => Wanted::TooCostly,
        }
    }

    /// Whether the endpoint wants events of this type, if they pass its filter.
    pub fn may_want(&self, event_type: &str) -> bool {
        match &self.wish {
            Wish::Some { event_types, .. } => is_among(event_type, event_types),
            Wish::Unknown => true,
        }
    }

    /// The event's delivery to this endpoint, which begins at `now`.
    pub fn delivery(&self, event: &Event, now: Millis) -> Message {
        self.message(event, None, event.expires_at.unwrap_or_else(|| self.schedule.deadline(now)))
    }

    /// A later life of that delivery, which begins at `now`. Somebody asked for it, so it does
    /// not end with the event.
    pub fn life(&self, event: &Event, life: &str, now: Millis) -> Message {
        self.message(event, Some(life.to_owned()), self.schedule.deadline(now))
    }

    fn message(&self, event: &Event, life: Option<String>, deadline: Millis) -> Message {
        let id = delivery_id(&event.id, &self.endpoint, life.as_deref());
        let target = EndpointTarget {
            tenant: event.tenant.clone(),
            endpoint: self.endpoint.clone(),
            event_id: event.id.clone(),
            life,
            origin: self.origin.clone(),
            is_test: false,
        };
        let delivery = Delivery {
            id,
            endpoint: Some(target),
            payload: event.payload.clone(),
            event_type: Some(event.event_type.clone()),
            correlation_id: event.correlation_id.clone(),
            trace: event.trace.clone(),
            body_hash: event.body_hash.clone(),
            accepted_at: event.accepted_at,
            deadline,
            ..Delivery::default()
        };
        Message { delivery, ..Message::default() }
    }

    /// About how many bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        let wish = match &self.wish {
            Wish::Some { event_types, filter } => {
                let types: usize = event_types.iter().map(|name| size_of::<String>() + name.len()).sum();
                types + filter.as_ref().map_or(0, Filter::bytes)
            }
            Wish::Unknown => 0,
        };
        size_of::<Self>() + self.endpoint.len() + self.origin.len() + self.schedule.waits_s().len() * 4 + wish
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(event_types: &[&str], filter: Option<&str>) -> Subscription {
        let filter = filter.map(|text| Filter::read("", serde_json::from_str(text).unwrap()).unwrap());
        let event_types = event_types.iter().map(|name| (*name).to_owned()).collect();
        Subscription { wish: Wish::Some { event_types, filter }, ..Subscription::unreadable("ep_1".into()) }
    }

    fn wants(subscription: &Subscription, event_type: &str) -> Wanted {
        let payload = serde_json::from_str(r#"{"amount":5}"#).unwrap();
        let event = FilterEvent::new(event_type, payload);
        subscription.wants(event_type, || &event)
    }

    #[test]
    fn types_are_wanted_by_name_and_by_what_they_begin_with() {
        let some = subscription(&["order.paid", "user.*"], None);
        for (event_type, wanted) in [
            ("order.paid", Wanted::Yes),
            ("order.paid.twice", Wanted::No),
            ("order", Wanted::No),
            ("user.made", Wanted::Yes),
            ("user.made.twice", Wanted::Yes),
            ("user", Wanted::No),
            ("users.made", Wanted::No),
        ] {
            assert_eq!(wants(&some, event_type), wanted, "{event_type}");
        }
    }

    #[test]
    fn steadhooks_own_types_are_wanted_by_name_alone() {
        assert_eq!(wants(&subscription(&[], None), "order.paid"), Wanted::Yes);
        assert_eq!(wants(&subscription(&[], None), "steadhook.endpoint.disabled"), Wanted::No);
        assert_eq!(wants(&subscription(&["steadhook.*"], None), "steadhook.endpoint.disabled"), Wanted::Yes);
    }

    #[test]
    fn a_filter_narrows_the_types() {
        let some = subscription(&["order.paid"], Some(r#"{"payload":{"amount":[5]}}"#));
        assert_eq!(wants(&some, "order.paid"), Wanted::Yes);
        assert_eq!(wants(&some, "order.made"), Wanted::No);
        let other = subscription(&[], Some(r#"{"payload":{"amount":[6]}}"#));
        assert_eq!(wants(&other, "order.paid"), Wanted::No);
    }

    #[test]
    fn deliveries_say_what_their_event_says() {
        let mut event = Event { tenant: "acme".into(), id: "order-1".into(), ..Event::default() };
        let some = subscription(&[], None);
        let message = some.delivery(&event, Millis(70));
        let id = message.delivery.id.as_str();
        assert_eq!((id, message.delivery.deadline), ("order-1.ep_1", RetrySchedule::default().deadline(Millis(70))));
        assert_eq!(message.delivery.webhook_id(), event.webhook_id());
        event.expires_at = Some(Millis(60));
        assert_eq!(some.delivery(&event, Millis(70)).delivery.deadline, Millis(60));
    }

    #[test]
    fn a_later_life_is_the_same_to_its_receiver_and_does_not_expire_with_its_event() {
        let mut event = Event { tenant: "acme".into(), id: "order-1".into(), ..Event::default() };
        (event.accepted_at, event.expires_at) = (Millis(5), Some(Millis(60)));
        let some = subscription(&[], None);
        let (first, later) =
            (some.delivery(&event, Millis(70)).delivery, some.life(&event, "rp_1", Millis(70)).delivery);
        assert_eq!((later.id.as_str(), later.accepted_at), ("order-1.ep_1.rp_1", Millis(5)));
        assert_eq!(later.deadline, RetrySchedule::default().deadline(Millis(70)));
        assert_eq!((later.webhook_id(), &later.payload), (first.webhook_id(), &first.payload));
    }

    #[test]
    fn what_an_endpoint_does_not_take_now_it_is_owed() {
        let of = |state| Subscription { state, ..subscription(&[], None) }.is_owed();
        assert_eq!(
            [EndpointState::Enabled, EndpointState::Paused, EndpointState::Disabled].map(of),
            [false, true, true]
        );
        assert!(!Subscription::unreadable("ep_1".into()).is_owed(), "its deliveries wait until it can be read");
    }

    #[test]
    fn what_cannot_be_read_is_not_lost() {
        let unreadable = Subscription::unreadable("ep_1".into());
        assert!(unreadable.is_unknown());
        assert_eq!(wants(&unreadable, "order.paid"), Wanted::Yes);
    }
}
