//! What a page of a job came to.

use domain::job::Job;
use domain::time::Millis;

/// What a page of a job came to.
#[derive(Debug)]
pub(crate) enum JobProgress {
    /// Nothing is left.
    Done,
    /// There is nothing to do yet, and whoever changes that says so.
    Idle,
    /// The next page goes on from there, not earlier than `due`.
    Continues { job: Job, due: Millis },
    /// Something is away: the same page comes again later.
    Waits(&'static str),
}
