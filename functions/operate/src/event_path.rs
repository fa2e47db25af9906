//! The paths of events, of their deliveries and of those of an endpoint.

use adapters::http::answer::Problem;
use adapters::http::path::PathNames;

/// What such a path names, as it stands there.
#[derive(Clone, Copy)]
pub(crate) enum EventPath<'a> {
    /// The events of a tenant.
    Events { tenant: &'a str },
    /// An event.
    Event { tenant: &'a str, event: &'a str },
    /// Its deliveries.
    Deliveries { tenant: &'a str, event: &'a str },
    /// Its delivery to one endpoint.
    Delivery { tenant: &'a str, event: &'a str, endpoint: &'a str },
    /// Its payload.
    Payload { tenant: &'a str, event: &'a str },
    /// The tenant itself.
    Tenant { tenant: &'a str },
    /// That delivery, sent again.
    Resend { tenant: &'a str, event: &'a str, endpoint: &'a str },
    /// The deliveries of an endpoint.
    OfEndpoint { tenant: &'a str, endpoint: &'a str },
}

impl<'a> EventPath<'a> {
    /// Reads a path, if it has one of these forms.
    pub(crate) fn of(path: &'a str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix("/tenants/")?.split('/').collect();
        match parts[..] {
            [tenant] if !tenant.is_empty() => Some(Self::Tenant { tenant }),
            [tenant, "events", event, "payload"] => Some(Self::Payload { tenant, event }),
            [tenant, "events"] => Some(Self::Events { tenant }),
            [tenant, "events", event] => Some(Self::Event { tenant, event }),
            [tenant, "events", event, "deliveries"] => Some(Self::Deliveries { tenant, event }),
            [tenant, "events", event, "deliveries", endpoint] => Some(Self::Delivery { tenant, event, endpoint }),
            [tenant, "events", event, "deliveries", endpoint, "resend"] => {
                Some(Self::Resend { tenant, event, endpoint })
            }
            [tenant, "endpoints", endpoint, "deliveries"] => Some(Self::OfEndpoint { tenant, endpoint }),
            _ => None,
        }
    }

    /// Its methods, whoever answers them.
    pub(crate) fn methods(self) -> &'static str {
        match self {
            // An event may be called `batch`.
            Self::Events { .. } | Self::Event { event: "batch", .. } => "GET, POST",
            Self::Event { .. } | Self::Deliveries { .. } | Self::Delivery { .. } | Self::OfEndpoint { .. } => "GET",
            Self::Resend { .. } => "POST",
            Self::Payload { .. } => "DELETE",
            Self::Tenant { .. } => "DELETE, GET",
        }
    }
}

/// The name of a tenant, held to its grammar.
pub(crate) fn tenant_name(tenant: &str) -> Result<String, Problem> {
    let mut names = PathNames::default();
    let read = names.tenant(tenant);
    names.finish().map(|()| read)
}

/// The names of an event, each held to its grammar.
pub(crate) fn event_names(tenant: &str, event: &str) -> Result<(String, String), Problem> {
    let mut names = PathNames::default();
    let read = (names.tenant(tenant), names.event(event));
    names.finish().map(|()| read)
}

/// The names of an endpoint, each held to its grammar.
pub(crate) fn endpoint_names(tenant: &str, endpoint: &str) -> Result<(String, String), Problem> {
    let mut names = PathNames::default();
    let read = (names.tenant(tenant), names.endpoint(endpoint));
    names.finish().map(|()| read)
}

/// The names of a delivery, each held to its grammar.
pub(crate) fn delivery_names(tenant: &str, event: &str, endpoint: &str) -> Result<[String; 3], Problem> {
    let mut names = PathNames::default();
    let read = [names.tenant(tenant), names.event(event), names.endpoint(endpoint)];
    names.finish().map(|()| read)
}
