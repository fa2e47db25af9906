//! What a path names.

use std::borrow::Cow;

use adapters::http::answer::Problem;
use adapters::registry::EndpointKey;
use domain::event_type_request::name_fault;
use domain::fault::{Fault, Faults};
use domain::names::{is_endpoint_id, is_event_type, is_tenant_or_operator};
use domain::token::is_token_id;
use percent_encoding::percent_decode_str;

/// A kind of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tenants,
    Tenant,
    Endpoints,
    Endpoint,
    Secret,
    RotateSecret,
    Test,
    Reseal,
    EventTypes,
    EventType,
    Tokens,
    Token,
    Links,
    Epochs,
    Link,
    Sessions,
}

impl Kind {
    /// Its methods.
    pub(crate) fn methods(self) -> &'static str {
        match self {
            Self::Tenants | Self::Tenant | Self::Secret | Self::EventTypes | Self::Link => "GET",
            Self::Endpoints | Self::Reseal | Self::Tokens => "GET, POST",
            Self::Endpoint => "DELETE, GET, PATCH",
            Self::RotateSecret | Self::Test | Self::Links | Self::Epochs | Self::Sessions => "POST",
            Self::Token => "DELETE",
            Self::EventType => "DELETE, GET, PUT",
        }
    }
}

/// A path of this function, its names as they stand there.
#[derive(Clone, Debug)]
pub(crate) struct Path<'a> {
    /// What it names.
    pub(crate) kind: Kind,
    /// A tenant, the name of an event type, a token, or the hash of a link's code.
    first: Cow<'a, str>,
    endpoint: Cow<'a, str>,
}

impl<'a> Path<'a> {
    /// Reads a path, if it is one of this function's.
    pub(crate) fn of(path: &'a str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let (kind, first, endpoint) = match parts[..] {
            ["reseal"] => (Kind::Reseal, "", ""),
            ["event-types"] => (Kind::EventTypes, "", ""),
            ["tokens"] => (Kind::Tokens, "", ""),
            ["tokens", "links"] => (Kind::Links, "", ""),
            ["tokens", "epochs"] => (Kind::Epochs, "", ""),
            ["tokens", token] => (Kind::Token, token, ""),
            ["console", "links", hash] => (Kind::Link, hash, ""),
            ["console", "sessions"] => (Kind::Sessions, "", ""),
            ["event-types", name] => (Kind::EventType, name, ""),
            ["tenants"] => (Kind::Tenants, "", ""),
            ["tenants", tenant] => (Kind::Tenant, tenant, ""),
            ["tenants", tenant, "endpoints"] => (Kind::Endpoints, tenant, ""),
            ["tenants", tenant, "endpoints", endpoint] => (Kind::Endpoint, tenant, endpoint),
            ["tenants", tenant, "endpoints", endpoint, "secret"] => (Kind::Secret, tenant, endpoint),
            ["tenants", tenant, "endpoints", endpoint, "rotate-secret"] => (Kind::RotateSecret, tenant, endpoint),
            ["tenants", tenant, "endpoints", endpoint, "test"] => (Kind::Test, tenant, endpoint),
            _ => return None,
        };
        let decoded = |text: &'a str| percent_decode_str(text).decode_utf8().unwrap_or_default();
        Some(Self { kind, first: decoded(first), endpoint: decoded(endpoint) })
    }

    /// The tenant.
    pub(crate) fn tenant(&self) -> Result<&str, Problem> {
        let faults = self.tenant_fault().map(Faults::from).unwrap_or_default();
        if faults.is_empty() { Ok(&self.first) } else { Err(Problem::invalid(faults)) }
    }

    /// The tenant that a change of this would change, if its name is one.
    pub(crate) fn changed_tenant(&self) -> Option<&str> {
        match self.kind {
            Kind::Tenants
            | Kind::Tenant
            | Kind::Reseal
            | Kind::EventTypes
            | Kind::EventType
            | Kind::Tokens
            | Kind::Token
            | Kind::Links
            | Kind::Epochs
            | Kind::Link
            | Kind::Sessions => None,
            Kind::Endpoints | Kind::Endpoint | Kind::Secret | Kind::RotateSecret | Kind::Test => self.tenant().ok(),
        }
    }

    fn tenant_fault(&self) -> Option<Fault> {
        let wants = "must be 1 to 64 of A-Z, a-z, 0-9, underscore and hyphen, and begin with a letter or a digit";
        (!is_tenant_or_operator(&self.first)).then(|| Fault::at("/tenant", wants))
    }

    /// The endpoint, with its tenant.
    pub(crate) fn endpoint(&self) -> Result<EndpointKey, Problem> {
        let mut faults = Faults::default();
        if let Some(fault) = self.tenant_fault() {
            faults.append(fault.into());
        }
        if !is_endpoint_id(&self.endpoint) {
            faults.add(|| Fault::at("/endpoint", "must be `ep_` and 22 letters and digits"));
        }
        if faults.is_empty() {
            Ok(EndpointKey { tenant: self.first.to_string(), endpoint: self.endpoint.to_string() })
        } else {
            Err(Problem::invalid(faults))
        }
    }

    /// The id of a token.
    pub(crate) fn token(&self) -> Result<&str, Problem> {
        let fault = || Fault::at("/token", "must be `tok_` and 22 letters and digits");
        if is_token_id(&self.first) { Ok(&self.first) } else { Err(Problem::invalid(fault())) }
    }

    /// The hash of a link's code.
    pub(crate) fn code_hash(&self) -> Result<&str, Problem> {
        let is_hash = self.first.len() == 64 && self.first.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
        let fault = || Fault::at("/hash", "must be the SHA-256 of a code, in 64 lower-case hex digits");
        if is_hash { Ok(&self.first) } else { Err(Problem::invalid(fault())) }
    }

    /// The name of an event type that is looked for.
    pub(crate) fn event_type(&self) -> Result<&str, Problem> {
        let fault = name_fault(&self.first).filter(|_| !is_event_type(&self.first));
        fault.map_or(Ok(&self.first), |fault| Err(Problem::invalid(fault)))
    }

    /// The name of an event type that is changed.
    pub(crate) fn own_event_type(&self) -> Result<&str, Problem> {
        name_fault(&self.first).map_or(Ok(&self.first), |fault| Err(Problem::invalid(fault)))
    }
}
