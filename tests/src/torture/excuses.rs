//! What faults explain.

use std::time::{Duration, Instant};

use crate::torture::receivers::Got;
use crate::torture::saboteur::Fault;
use crate::torture::{Blow, Books};

/// How long a call may take, with its bookkeeping.
const ATTEMPT: Duration = Duration::from_secs(3);

/// How long after its end a fault may have an effect.
const AFTERMATH: Duration = Duration::from_secs(10);

impl Books {
    /// Whether such a fault ended after something was accepted, or shortly before. A repeated
    /// request may have been queued at its first try.
    pub(crate) fn suffered_since(&self, at: Instant, kind: impl Fn(Fault) -> bool) -> bool {
        self.faults.iter().any(|blow| kind(blow.fault) && blow.ended + AFTERMATH >= at)
    }

    /// Whether such a fault met the last of these calls, or what was to be noted after it.
    pub(crate) fn suffered_at_end(&self, got: &[Got], accepted_at: Instant, kind: impl Fn(Fault) -> bool) -> bool {
        let last = got.iter().map(|call| call.at).max().unwrap_or(accepted_at);
        let meets = |blow: &Blow| blow.began <= last + AFTERMATH && blow.ended + ATTEMPT >= last;
        self.faults.iter().any(|blow| kind(blow.fault) && meets(blow))
    }

    /// Whether Redis lost data after this time, or ever.
    pub(crate) fn forgot_since(&self, last: Option<Instant>) -> bool {
        let after = |blow: &Blow| last.is_none_or(|last| blow.ended + AFTERMATH >= last);
        self.faults.iter().any(|blow| blow.fault.forgets() && after(blow))
    }

    /// Whether Redis was away during a later call. Then a second message of what was delivered
    /// is sent once more, because nobody can know that.
    pub(crate) fn was_blind(&self, got: &[Got]) -> bool {
        let blows = || self.faults.iter().filter(|blow| blow.fault.blinds());
        let meets = |call: &Got| blows().any(|blow| blow.began <= call.at && call.at <= blow.ended + ATTEMPT);
        got.iter().filter(|call| call.accepted()).skip(1).any(meets)
    }

    /// When calls came and how they were answered, and the faults of that time.
    pub(crate) fn story(&self, got: &[Got]) -> String {
        let Some((first, last)) = got.first().zip(got.last()) else { return "no calls".to_owned() };
        let since = |at: Instant| at.saturating_duration_since(first.at).as_secs_f64();
        let calls = got.iter().map(|call| format!("{:?} after {:.1} s", call.status, since(call.at)));
        let meets = |blow: &&Blow| blow.ended + AFTERMATH >= first.at && blow.began <= last.at + AFTERMATH;
        let blows = self.faults.iter().filter(meets);
        let blows = blows.map(|Blow { fault, began, ended }| {
            let before = first.at.saturating_duration_since(*began).as_secs_f64();
            format!("{fault:?} from {:.1} to {:.1} s", since(*began) - before, since(*ended))
        });
        format!("{}; {}", calls.collect::<Vec<_>>().join(", "), blows.collect::<Vec<_>>().join(", "))
    }

    /// Whether a fault explains that a receiver got something twice: it came during the
    /// first call, or Redis lost data between the first and the last.
    pub(crate) fn excuses(&self, got: &[Got]) -> bool {
        let mut accepted = got.iter().filter(|call| call.accepted()).map(|call| call.at);
        let Some(first) = accepted.next() else { return true };
        let (first, last) = accepted.fold((first, first), |(first, last), at| (first.min(at), last.max(at)));
        self.faults.iter().any(|Blow { fault, began, ended }| {
            let hurt = fault.doubles() && *began <= first + ATTEMPT && *ended + ATTEMPT >= first;
            hurt || (fault.forgets() && *ended >= first && *began <= last)
        })
    }
}
