//! The paths of replays.

/// What a path of replays names, as it stands there.
pub(crate) enum ReplayPath<'a> {
    /// The replays of an endpoint.
    Replays { tenant: &'a str, endpoint: &'a str },
    /// A replay.
    Replay { tenant: &'a str, replay: &'a str },
}

impl<'a> ReplayPath<'a> {
    /// Reads a path, if it has one of these forms.
    pub(crate) fn of(path: &'a str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix("/tenants/")?.split('/').collect();
        match parts[..] {
            [tenant, "endpoints", endpoint, "replays"] => Some(Self::Replays { tenant, endpoint }),
            [tenant, "replays", replay] => Some(Self::Replay { tenant, replay }),
            _ => None,
        }
    }

    /// The methods of such a path.
    pub(crate) fn methods(&self) -> &'static str {
        match self {
            Self::Replays { .. } => "POST",
            Self::Replay { .. } => "DELETE, GET",
        }
    }
}
