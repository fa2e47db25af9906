//! What a path names.

use std::borrow::Cow;

use adapters::http::answer::Problem;
use adapters::registry::EndpointKey;
use domain::fault::{Fault, Faults};
use domain::names::{is_endpoint_id, is_tenant_or_operator};
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
}

impl Kind {
    /// Its methods.
    pub(crate) fn methods(self) -> &'static str {
        match self {
            Self::Tenants | Self::Tenant | Self::Secret => "GET",
            Self::Endpoints | Self::Reseal => "GET, POST",
            Self::Endpoint => "DELETE, GET, PATCH",
            Self::RotateSecret | Self::Test => "POST",
        }
    }
}

/// A path of this function, its names as they stand there.
#[derive(Clone, Debug)]
pub(crate) struct Path<'a> {
    /// What it names.
    pub(crate) kind: Kind,
    tenant: Cow<'a, str>,
    endpoint: Cow<'a, str>,
}

impl<'a> Path<'a> {
    /// Reads a path, if it is one of this function's.
    pub(crate) fn of(path: &'a str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let (kind, tenant, endpoint) = match parts[..] {
            ["reseal"] => (Kind::Reseal, "", ""),
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
        Some(Self { kind, tenant: decoded(tenant), endpoint: decoded(endpoint) })
    }

    /// The tenant.
    pub(crate) fn tenant(&self) -> Result<&str, Problem> {
        let faults = self.tenant_fault().map(Faults::from).unwrap_or_default();
        if faults.is_empty() { Ok(&self.tenant) } else { Err(Problem::invalid(faults)) }
    }

    fn tenant_fault(&self) -> Option<Fault> {
        let wants = "must be 1 to 64 of A-Z, a-z, 0-9, underscore and hyphen, and begin with a letter or a digit";
        (!is_tenant_or_operator(&self.tenant)).then(|| Fault::at("/tenant", wants))
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
            Ok(EndpointKey { tenant: self.tenant.to_string(), endpoint: self.endpoint.to_string() })
        } else {
            Err(Problem::invalid(faults))
        }
    }
}
