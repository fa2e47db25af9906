//! What a client wants an endpoint to be, before it is written into a card.

use std::collections::BTreeMap;
use std::fmt;

use crate::filter::Pattern;
use crate::rate::Rate;
use crate::schedule::RetrySchedule;
use crate::seal::Sealed;

/// A text that no log, error or `Debug` output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Confidential(String);

impl fmt::Debug for Confidential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Confidential")
    }
}

impl Confidential {
    /// Keeps `text` from being shown.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for whoever seals it or shows it on purpose.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// A header of an endpoint.
#[derive(Clone, PartialEq, Eq)]
pub enum HeaderSetting {
    /// Anybody who reads the card sees it.
    Plain(String),
    /// Its value is in the card already, sealed, and stays.
    Kept(Sealed),
    /// Its value is to be sealed.
    Sensitive(Confidential),
}

impl fmt::Debug for HeaderSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Kept(_) => "Kept",
            Self::Sensitive(_) => "Sensitive",
        })
    }
}

impl HeaderSetting {
    /// A header of this value.
    pub(super) fn new(value: Confidential, sensitive: bool) -> Self {
        if sensitive { Self::Sensitive(value) } else { Self::Plain(value.0) }
    }
}

/// What a client can set of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where to.
    pub url: String,
    /// The client's own id.
    pub uid: Option<String>,
    /// For people.
    pub description: String,
    /// The event types that it wants; empty for all.
    pub event_types: Vec<String>,
    /// Which of these events it wants; `None` for all.
    pub filter: Option<Pattern>,
    /// Headers that its webhooks carry, names in lower case.
    pub headers: BTreeMap<String, HeaderSetting>,
    /// When failed deliveries are tried again.
    pub retry_schedule: RetrySchedule,
    /// How many calls a second it takes; `None` for as many as there are.
    pub rate: Option<Rate>,
    /// The client's own notes.
    pub metadata: BTreeMap<String, String>,
}
