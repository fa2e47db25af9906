//! What a token is for: the whole stack, or one tenant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::is_tenant;

/// How the scope of a tenant is written, before the tenant.
const TENANT: &str = "tenant:";
/// How the scope of the operator is written.
const OPERATOR: &str = "operator";

/// What a token may act on. In JSON: `operator`, or `tenant:` and the tenant's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Scope {
    /// Everything.
    Operator,
    /// One tenant. The stack's own tenant is none: it belongs to the operator.
    Tenant(String),
}

impl Scope {
    /// The tenant, if it is the scope of one.
    pub fn tenant(&self) -> Option<&str> {
        match self {
            Self::Operator => None,
            Self::Tenant(tenant) => Some(tenant),
        }
    }

    /// Whether `other` is this scope or a narrower one.
    pub fn covers(&self, other: &Self) -> bool {
        match self {
            Self::Operator => true,
            Self::Tenant(_) => self == other,
        }
    }
}

/// It is no scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be operator, or tenant: and the name of a tenant")]
pub struct NoScope;

impl FromStr for Scope {
    type Err = NoScope;

    fn from_str(text: &str) -> Result<Self, NoScope> {
        match text.strip_prefix(TENANT) {
            Some(tenant) if is_tenant(tenant) => Ok(Self::Tenant(tenant.to_owned())),
            None if text == OPERATOR => Ok(Self::Operator),
            _ => Err(NoScope),
        }
    }
}

impl TryFrom<String> for Scope {
    type Error = NoScope;

    fn try_from(text: String) -> Result<Self, NoScope> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.to_string()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => f.write_str(OPERATOR),
            Self::Tenant(tenant) => write!(f, "{TENANT}{tenant}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_read_as_it_is_written() {
        for text in ["operator", "tenant:acme", "tenant:operator"] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
        for bad in ["", "Operator", "tenant:", "tenant:_operator", "tenant:a/b", "tenant:a#b", "acme", "operator "] {
            assert_eq!(bad.parse::<Scope>(), Err(NoScope), "{bad}");
        }
    }

    #[test]
    fn only_the_operator_covers_another_scope() {
        let (acme, other) = (Scope::Tenant("acme".into()), Scope::Tenant("other".into()));
        assert!(Scope::Operator.covers(&acme) && Scope::Operator.covers(&Scope::Operator) && acme.covers(&acme));
        assert!(!acme.covers(&other) && !acme.covers(&Scope::Operator));
    }
}
