//! The paths of events and of their deliveries.

use adapters::http::answer::Problem;
use adapters::http::path::PathNames;

/// What such a path names, as it stands there.
pub(crate) enum EventPath<'a> {
    /// An event.
    Event { tenant: &'a str, event: &'a str },
    /// Its delivery to one endpoint.
    Delivery { tenant: &'a str, event: &'a str, endpoint: &'a str },
}

impl<'a> EventPath<'a> {
    /// Reads a path, if it has one of these forms.
    pub(crate) fn of(path: &'a str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix("/tenants/")?.split('/').collect();
        match parts[..] {
            [tenant, "events", event] => Some(Self::Event { tenant, event }),
            [tenant, "events", event, "deliveries", endpoint] => Some(Self::Delivery { tenant, event, endpoint }),
            _ => None,
        }
    }
}

/// The names of an event, each held to its grammar.
pub(crate) fn event_names(tenant: &str, event: &str) -> Result<(String, String), Problem> {
    let mut names = PathNames::default();
    let read = (names.tenant(tenant), names.event(event));
    names.finish().map(|()| read)
}

/// The names of a delivery, each held to its grammar.
pub(crate) fn delivery_names(tenant: &str, event: &str, endpoint: &str) -> Result<[String; 3], Problem> {
    let mut names = PathNames::default();
    let read = [names.tenant(tenant), names.event(event), names.endpoint(endpoint)];
    names.finish().map(|()| read)
}
