//! The condition of one dependency.

use serde::Serialize;

/// How a component is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Condition {
    /// As it should be.
    Up,
    /// In trouble, but work goes on.
    Degraded,
    /// Not there.
    Down,
}
