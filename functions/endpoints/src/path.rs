//! What a path names.

use adapters::http::answer::Problem;
use adapters::http::path::PathNames;
use adapters::registry::EndpointKey;
use domain::event_type_request::name_fault;
use domain::fault::Fault;
use domain::names::is_event_type;
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
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path<'a> {
    /// What it names.
    pub(crate) kind: Kind,
    /// A tenant, the name of an event type, a token, or the hash of a link's code.
    first: &'a str,
    endpoint: &'a str,
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
        Some(Self { kind, first, endpoint })
    }

    /// The tenant.
    pub(crate) fn tenant(&self) -> Result<String, Problem> {
        let mut names = PathNames::default();
        let tenant = names.tenant(self.first);
        names.finish().map(|()| tenant)
    }

    /// The tenant that a change of this would change, if its name is one.
    pub(crate) fn changed_tenant(&self) -> Option<String> {
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

    /// The endpoint, with its tenant.
    pub(crate) fn endpoint(&self) -> Result<EndpointKey, Problem> {
        let mut names = PathNames::default();
        let key = EndpointKey { tenant: names.tenant(self.first), endpoint: names.endpoint(self.endpoint) };
        names.finish().map(|()| key)
    }

    /// The id of a token.
    pub(crate) fn token(&self) -> Result<String, Problem> {
        let fault = || Fault::at("/token", "must be `tok_` and 22 letters and digits");
        let id = self.decoded();
        if is_token_id(&id) { Ok(id) } else { Err(Problem::invalid(fault())) }
    }

    /// The hash of a link's code.
    pub(crate) fn code_hash(&self) -> Result<String, Problem> {
        let hash = self.decoded();
        let is_hash = hash.len() == 64 && hash.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
        let fault = || Fault::at("/hash", "must be the SHA-256 of a code, in 64 lower-case hex digits");
        if is_hash { Ok(hash) } else { Err(Problem::invalid(fault())) }
    }

    /// The name of an event type that is looked for.
    pub(crate) fn event_type(&self) -> Result<String, Problem> {
        let name = self.decoded();
        let fault = name_fault(&name).filter(|_| !is_event_type(&name));
        fault.map_or(Ok(name), |fault| Err(Problem::invalid(fault)))
    }

    /// The name of an event type that is changed.
    pub(crate) fn own_event_type(&self) -> Result<String, Problem> {
        let name = self.decoded();
        name_fault(&name).map_or(Ok(name), |fault| Err(Problem::invalid(fault)))
    }

    fn decoded(&self) -> String {
        percent_decode_str(self.first).decode_utf8().unwrap_or_default().into_owned()
    }
}
