//! Where the delivery of a dead letter stands, and whether sending it again would do
//! anything.

use domain::record::{Claim, Grant, Record};
use domain::record_rules;
use domain::status::Status;
use domain::time::Millis;
use domain::work::Work;

/// What Redis says of a delivery.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    /// Redis says nothing.
    Unreadable,
    /// It has no record.
    Forgotten,
    /// Its record.
    Known(Box<Record>),
}

/// Why the message of a redrive would be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Futile {
    /// The id belongs to another body now.
    AnotherBody,
    /// The receiver has it.
    Delivered,
    /// It failed at a later hop.
    FailedSince,
    /// Another message of it is under way.
    CarriedOn,
    /// It was redriven, and its record is gone.
    Forgotten,
}

impl Futile {
    /// Why, for a person.
    pub(crate) fn detail(self) -> &'static str {
        match self {
            Self::AnotherBody => {
                "Its id belongs to a webhook with another body now. Try again when the record of that one has \
                 expired or is cleaned up."
            }
            Self::Delivered => "Its delivery has succeeded since, so there is nothing to send again.",
            Self::FailedSince => "It was sent again and has failed since. Its newer dead letter is not filed yet.",
            Self::CarriedOn => "A later message of this delivery is under way.",
            Self::Forgotten => {
                "It was redriven before, and the record of that is gone. To send its payload once more, post it as a \
                 new webhook."
            }
        }
    }
}

/// Whether this message would be dropped. The rules of a claim decide that, and so they are
/// asked here, with a copy of the record.
pub(crate) fn futile(work: &Work, standing: &Standing, now: Millis) -> Option<Futile> {
    let Standing::Known(record) = standing else { return None };
    let claim = Claim { token: String::new(), hop: work.hop(), lease_ms: 0, new_record: work.new_record() };
    match record_rules::claim(&mut Some(Record::clone(record)), now, &claim) {
        Grant::Granted | Grant::Crashed | Grant::Busy(_) => None,
        Grant::Foreign => Some(Futile::AnotherBody),
        Grant::Done if record.status == Status::Delivered => Some(Futile::Delivered),
        Grant::Done => Some(Futile::FailedSince),
        Grant::Stale => Some(Futile::CarriedOn),
    }
}

/// What is to be said and done about a dead letter that was redriven before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RedrivenBefore {
    /// That redrive counts as this one. It stands there.
    Stands(Status),
    /// Its message is lost: send the same hop once more.
    Lost,
    /// Nothing will be sent.
    Futile(Futile),
}

/// Judges a dead letter that was sent again as `work`.
pub(crate) fn redriven_before(work: &Work, standing: &Standing, now: Millis) -> RedrivenBefore {
    let record = match standing {
        Standing::Unreadable => return RedrivenBefore::Stands(Status::Pending),
        Standing::Forgotten => return RedrivenBefore::Futile(Futile::Forgotten),
        Standing::Known(record) => record,
    };
    match futile(work, standing, now) {
        None if record.unknown => RedrivenBefore::Lost,
        // Its message is not claimed yet, and Redis was away when it was sent.
        None if record.status == Status::Failed => RedrivenBefore::Stands(Status::Pending),
        None | Some(Futile::Delivered | Futile::CarriedOn) => RedrivenBefore::Stands(record.status),
        Some(why @ (Futile::AnotherBody | Futile::FailedSince | Futile::Forgotten)) => RedrivenBefore::Futile(why),
    }
}
